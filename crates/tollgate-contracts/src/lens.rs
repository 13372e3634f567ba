//! A payer's whole state at one block, in one `eth_call` that needs no contract on the chain.
//!
//! The call has no `to`; its data is [`call_data`]: the chain runs it as if to create a contract, and what would be
//! the contract's code is the state. Give `from` nothing, and `gas` enough or nothing (at most some 3 million).

use alloy_primitives::Bytes;
use alloy_sol_types::{SolConstructor as _, SolValue as _};

use crate::abi::lens::PayerLens::constructorCall;
pub use crate::abi::lens::PayerLens::{Flag, Query, State, Word};
use crate::bytecode::PAYER_LENS;

/// The data of the call.
#[must_use]
pub fn call_data(query: &Query) -> Bytes {
    PAYER_LENS.init_code(
        &constructorCall {
            query: query.clone(),
        }
        .abi_encode(),
    )
}

/// The state, from what the call returned.
///
/// # Errors
/// If these bytes are no such state: the node did not run the call as it should.
pub fn decode(returned: &[u8]) -> alloy_sol_types::Result<State> {
    State::abi_decode_validate(returned)
}

impl Word {
    /// The value, if there is one.
    #[must_use]
    pub fn get(&self) -> Option<alloy_primitives::U256> {
        self.found.then_some(self.value)
    }
}

impl Flag {
    /// The value, if there is one.
    #[must_use]
    pub fn get(&self) -> Option<bool> {
        self.found.then_some(self.value)
    }
}
