//! Dollars as people write them, to atomic units and back, exactly.

use alloy_primitives::U256;
use tollgate_x402::Amount;

/// Why a text is not an exact amount of dollars.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseDollarsError {
    /// Not digits with at most one point between digits, or with a needless leading zero.
    #[error(
        "write dollars in decimal, such as 25 or 0.15: no sign, exponent, separator or leading zero"
    )]
    Malformed,
    /// More places after the point than the token has.
    #[error(
        "the price has more places after the point than the token's {decimals} decimals can show"
    )]
    TooPrecise {
        /// The token's decimals.
        decimals: u8,
    },
    /// Above 2^128 − 1 atomic units.
    #[error("the price is above 2^128 - 1 atomic units")]
    TooLarge,
}

/// The atomic units of so many dollars, for a token of which one is one dollar.
///
/// Exact, or an error: `0.15` at 18 decimals is 150 000 000 000 000 000 units. At most 2^128 − 1 units.
///
/// # Errors
/// Every variant of [`ParseDollarsError`].
pub fn amount_from_dollars(text: &str, decimals: u8) -> Result<Amount, ParseDollarsError> {
    units(text, decimals).map(Amount::from)
}

pub(crate) fn units(text: &str, decimals: u8) -> Result<u128, ParseDollarsError> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let canonical = whole == "0" || !whole.starts_with('0');
    if !digits(whole) || !digits(fraction) || !canonical {
        return Err(ParseDollarsError::Malformed);
    }
    let fraction = fraction.trim_end_matches('0');
    let places = usize::from(decimals);
    let missing = places
        .checked_sub(fraction.len())
        .ok_or(ParseDollarsError::TooPrecise { decimals })?;
    let all = format!("{whole}{fraction}{}", "0".repeat(missing));
    // What is left to fail is only its size.
    all.parse().map_err(|_| ParseDollarsError::TooLarge)
}

/// An amount as dollars, exactly and without needless zeros: the inverse of [`amount_from_dollars`].
pub fn amount_to_dollars(amount: Amount, decimals: u8) -> String {
    let places = usize::from(decimals);
    let digits = format!(
        "{:0>width$}",
        U256::to_string(&amount.get()),
        width = places.saturating_add(1)
    );
    let (whole, fraction) = digits.split_at(digits.len().saturating_sub(places));
    match fraction.trim_end_matches('0') {
        "" => whole.to_owned(),
        fraction => format!("{whole}.{fraction}"),
    }
}
