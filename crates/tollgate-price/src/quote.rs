//! What a request will cost at most.

use tollgate_x402::Amount;

use crate::{BillableUsage, Rates};

/// What a request will cost at most: its rates, its input, the bound of its output, and their worst case.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Quote {
    rates: Rates,
    input_tokens: u64,
    max_output: u64,
    amount: Amount,
}

impl Quote {
    pub(crate) fn new(rates: Rates, input_tokens: u64, max_output: u64) -> Self {
        Self {
            rates,
            input_tokens,
            max_output,
            amount: rates.worst_case(input_tokens, max_output),
        }
    }

    /// The rates.
    pub const fn rates(&self) -> &Rates {
        &self.rates
    }

    /// The input tokens, or a bound of them.
    pub const fn input_tokens(&self) -> u64 {
        self.input_tokens
    }

    /// The most output tokens.
    pub const fn max_output(&self) -> u64 {
        self.max_output
    }

    /// The worst case, in atomic units: what is reserved.
    pub const fn amount(&self) -> Amount {
        self.amount
    }

    /// The least that the request can be served for: its input and `min_output` tokens, in atomic units. Never above
    /// [`amount`](Self::amount).
    pub fn minimum(&self, min_output: u64) -> Amount {
        self.rates
            .worst_case(self.input_tokens, min_output.min(self.max_output))
    }

    /// The quote whose output is clamped to what a budget pays for; itself if the budget covers it, and nothing if the
    /// budget does not even cover the input.
    pub fn clamped_to(&self, budget: Amount) -> Option<Self> {
        let affordable = self.rates.max_output_for(budget, self.input_tokens)?;
        Some(Self::new(
            self.rates,
            self.input_tokens,
            self.max_output.min(affordable),
        ))
    }

    /// What is charged for a usage: its cost, never above the quoted amount.
    pub fn charge(&self, usage: BillableUsage) -> Amount {
        self.rates.charge(usage, self.amount)
    }
}
