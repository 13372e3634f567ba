//! What a model costs.

use alloy_primitives::U256;
use tollgate_x402::Amount;

use crate::{BillableUsage, ParseDollarsError, PricePerMillion, Quote, amount_from_dollars};

/// Prices are per million tokens.
const MILLION: U256 = U256::from_limbs([1_000_000, 0, 0, 0]);

/// What a model costs, in atomic units of one token on one chain.
///
/// All arithmetic is in integers, and is rounded once, at its end, up to one unit. A sum that 256 bits could not
/// hold (only a `per_request` near 2^256 can make one) counts as [`Amount::MAX`], which no reservation covers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Rates {
    /// The price of input tokens.
    pub input: PricePerMillion,
    /// The price of output tokens, reasoning among them.
    pub output: PricePerMillion,
    /// The price of input tokens that come from a cache; `None`: that of input tokens.
    pub cached_input: Option<PricePerMillion>,
    /// What each request costs besides, in atomic units.
    pub per_request: Amount,
}

/// Prices in dollars, as configuration has them: decimal strings, per million tokens and per request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DollarRates<'a> {
    /// Per million input tokens.
    pub input: &'a str,
    /// Per million output tokens.
    pub output: &'a str,
    /// Per million cached input tokens, if they have a price of their own.
    pub cached_input: Option<&'a str>,
    /// Per request.
    pub per_request: Option<&'a str>,
}

impl Rates {
    /// Rates of these prices for input and output alone.
    pub const fn new(input: PricePerMillion, output: PricePerMillion) -> Self {
        Self {
            input,
            output,
            cached_input: None,
            per_request: Amount::ZERO,
        }
    }

    /// Rates of these dollars, for a token of so many decimals of which one is one dollar.
    ///
    /// # Errors
    /// The name of the price that is not exact, with [`ParseDollarsError`].
    pub fn from_dollars(
        dollars: DollarRates<'_>,
        decimals: u8,
    ) -> Result<Self, (&'static str, ParseDollarsError)> {
        let price = |name, text| {
            PricePerMillion::from_dollars(text, decimals).map_err(|error| (name, error))
        };
        Ok(Self {
            input: price("input", dollars.input)?,
            output: price("output", dollars.output)?,
            cached_input: dollars
                .cached_input
                .map(|text| price("cached_input", text))
                .transpose()?,
            per_request: amount_from_dollars(dollars.per_request.unwrap_or("0"), decimals)
                .map_err(|error| ("per_request", error))?,
        })
    }

    /// What a usage costs, in atomic units: exact, rounded up to one unit once.
    pub fn cost(&self, usage: BillableUsage) -> Amount {
        let input = self.input.millionths(usage.uncached_input());
        let cached = self
            .cached_input
            .unwrap_or(self.input)
            .millionths(usage.cached_input());
        let output = self.output.millionths(usage.output());
        self.total(input.saturating_add(cached).saturating_add(output))
    }

    /// What is charged for a usage under a reservation: its cost, and never more than the reservation.
    pub fn charge(&self, usage: BillableUsage, reserved: Amount) -> Amount {
        self.cost(usage).min(reserved)
    }

    /// The most that a request of so many input tokens and at most so many output tokens can cost, however many of
    /// the input tokens come from a cache.
    pub fn worst_case(&self, input_tokens: u64, max_output: u64) -> Amount {
        let output = self.output.millionths(max_output);
        self.total(self.dearest_input(input_tokens).saturating_add(output))
    }

    /// The most output tokens that a budget pays for after so many input tokens: the largest `n` for which
    /// [`worst_case`](Self::worst_case)`(input_tokens, n)` is within the budget. Nothing if not even the input is.
    pub fn max_output_for(&self, budget: Amount, input_tokens: u64) -> Option<u64> {
        let budget = budget.checked_sub(self.per_request)?;
        // A product above 256 bits is above every cost of a u64 of tokens, and so is its bound.
        let left = budget
            .get()
            .saturating_mul(MILLION)
            .checked_sub(self.dearest_input(input_tokens))?;
        let tokens = left
            .checked_div(U256::from(self.output.units()))
            .unwrap_or(U256::MAX);
        Some(tokens.try_into().unwrap_or(u64::MAX))
    }

    /// A quote for a request.
    pub fn quote(&self, input_tokens: u64, max_output: u64) -> Quote {
        Quote::new(*self, input_tokens, max_output)
    }

    fn dearest_input(&self, tokens: u64) -> U256 {
        self.cached_input
            .map_or(self.input, |cached| cached.max(self.input))
            .millionths(tokens)
    }

    fn total(&self, millionths: U256) -> Amount {
        Amount::new(millionths.div_ceil(MILLION)).saturating_add(self.per_request)
    }
}
