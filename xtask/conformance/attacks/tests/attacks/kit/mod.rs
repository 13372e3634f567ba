//! The seller, the payers and the chain that the attacks share.

mod books;
mod buy;
mod chain;
mod code;
mod payer;
mod socket;
mod untouched;
mod upstream;
mod world;

pub(crate) use buy::{Answer, CHAT, FIXED_PATH, Header, chat, statuses};
pub(crate) use chain::Backend;
pub(crate) use code::Code;
pub(crate) use payer::{Payer, word};
pub(crate) use socket::{PATIENCE, Raw};
pub(crate) use untouched::Untouched;
pub(crate) use upstream::Step;
pub(crate) use world::{DOLLAR, FIXED, OPERATOR, Setup, World, cents, tokens};
