//! The contracts of the x402 schemes, at the same address on every EVM chain.

use alloy_primitives::{Address, address};

/// Uniswap's Permit2.
pub const PERMIT2: Address = address!("000000000022D473030F116dDEE9F6B43aC78BA3");
/// x402's `x402ExactPermit2Proxy`: the spender of an `exact` payment by Permit2. Not negotiable.
pub const EXACT_PERMIT2_PROXY: Address = address!("402085c248EeA27D92E8b30b2C58ed07f9E20001");
/// x402's `x402UptoPermit2Proxy`: the spender of an `upto` payment by Permit2. Not negotiable.
pub const UPTO_PERMIT2_PROXY: Address = address!("4020A4f3b7b90ccA423B9fabCc0CE57C6C240002");
