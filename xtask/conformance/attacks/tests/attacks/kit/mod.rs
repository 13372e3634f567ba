//! The seller, the payers and the chain that the attacks share.

mod books;
mod buy;
mod chain;
mod code;
mod payer;
mod upstream;
mod world;

pub(crate) use books::Writes;
pub(crate) use buy::{Answer, CHAT, FIXED_PATH, Header, chat, statuses};
pub(crate) use chain::{Backend, on_anvil};
pub(crate) use code::Code;
pub(crate) use payer::{Payer, word};
pub(crate) use upstream::{Script, Step};
pub(crate) use world::{ADMIN, DOLLAR, FIXED, OPERATOR, Setup, World, cents, generous, tokens};
