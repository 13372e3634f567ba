#![doc = include_str!("../README.md")]

mod books;
mod chain;
mod history;
mod mutants;
mod names;
mod payers;
mod replica;
mod request;
mod rng;
mod setting;
mod store;
mod tasks;
mod world;

pub use history::{Ended, live};
pub use mutants::{Bug, Mutant};
pub use setting::Kind;
pub use world::Violation;
