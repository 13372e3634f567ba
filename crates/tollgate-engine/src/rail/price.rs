//! What a transaction may cost.

use std::collections::BTreeMap;

use tollgate_eip712::Wallet;
use tollgate_payment::{BatchRow, port::RailError};
use tollgate_x402::{Address, Amount, U256};

use super::{OwnRail, unavailable};

/// The most gas of one transaction (EIP-7825).
const TRANSACTION_GAS: u64 = 1 << 24;

/// The most gas of a plain account's call.
const CALL_GAS: u64 = 400_000;

/// What a token is worth in the coin that pays for gas: `wei` for `units` atomic units.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Worth {
    /// So many wei.
    pub wei: U256,
    /// For so many atomic units of the token; not 0.
    pub units: U256,
}

impl<W: Wallet> OwnRail<W> {
    /// The first price of a transaction, or one above another's of the same nonce, in wei a unit of gas.
    pub(super) async fn price(&self, above: Option<u128>, most: u128) -> Result<u128, RailError> {
        let price = match above {
            // Nodes take a replacement at +10 %; 12.5 % leaves room for rounding.
            Some(last) => last.saturating_add(last.div_ceil(8)),
            None => {
                let asked = self.chain.gas_price().await.map_err(unavailable);
                // A node's oracle may be far above what is needed: the floor is enough while blocks have room.
                asked
                    .unwrap_or(self.config.gas_floor)
                    .max(self.config.gas_floor)
                    .min(self.config.gas_floor.saturating_mul(2))
                    .min(most)
            }
        };
        if price > most {
            return Err(RailError::Operator(format!(
                "a settlement needs {price} wei a unit of gas, above the most that it may cost, {most}"
            )));
        }
        Ok(price)
    }

    /// The most that a batch may cost, in wei a unit of gas: the cap, and what is at stake with it and `behind` it, but
    /// never less than the floor.
    pub(super) fn most_price(
        &self,
        batch: &BatchRow,
        behind: &BTreeMap<Address, Amount>,
        gas_limit: u64,
    ) -> u128 {
        let items = batch
            .items
            .iter()
            .map(|item| (item.owner().token, item.amount()));
        let behind = behind.iter().map(|(token, amount)| (*token, *amount));
        let stake = items
            .chain(behind)
            .try_fold(U256::ZERO, |sum, (token, amount)| {
                let worth = self.worth.get(&token)?;
                let wei = amount.get().checked_mul(worth.wei)?;
                sum.checked_add(wei.checked_div(worth.units)?)
            });
        let least = self.config.gas_floor.min(self.config.gas_cap);
        match stake.and_then(|stake| stake.checked_div(U256::from(gas_limit))) {
            Some(price) => price
                .saturating_to::<u128>()
                .clamp(least, self.config.gas_cap),
            // Not known, or beyond any number: the cap alone.
            None => self.config.gas_cap,
        }
    }

    /// What a node wants to see in the account before it takes a batch, in gas.
    pub(super) const fn batch_gas(&self) -> u64 {
        batch_gas(self.config.settler.is_some())
    }
}

/// The gas of a full batch, by which an account's money is counted: what one transaction may take at most, through a
/// `Settler` or as a plain account's call. A node wants to see that much paid for before it takes one.
pub const fn batch_gas(settler: bool) -> u64 {
    if settler { TRANSACTION_GAS } else { CALL_GAS }
}
