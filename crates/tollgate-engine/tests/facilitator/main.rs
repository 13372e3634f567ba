//! The facilitator's desk and the rail to a facilitator somewhere else, over a real chain.

mod desk;
mod remote;
mod world;
