//! The interfaces, one contract or standard a module, as `alloy-sol-types` describes them.
//!
//! Each is written out by hand, with documentation, and a test compares it with what the compiler says of our
//! sources, so that neither can drift.

pub mod eip3009;
pub mod erc20;
pub mod erc2612;
pub mod lens;
pub mod permit2;
pub mod proxies;
pub mod settler;
pub mod stablecoin;

pub use eip3009::IEip3009;
pub use erc20::IErc20;
pub use erc2612::IErc2612;
pub use lens::PayerLens;
pub use permit2::{IErc1271, ISignatureTransfer};
pub use proxies::{ExactProxy, UptoProxy};
pub use settler::Settler;
pub use stablecoin::{TestUsd1, TestUsdt};
