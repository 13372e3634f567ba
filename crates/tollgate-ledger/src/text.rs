//! How values stand in columns.

use tollgate_payment::{Account, BatchId};
use tollgate_x402::{Amount, B256, ChainId, PaymentId, Timestamp, U256};

use crate::error::StoreError;

/// An amount as 78 digits: text order is numeric order.
pub(crate) fn amount(amount: Amount) -> String {
    format!("{:0>78}", amount.to_string())
}

/// The amount of 78 digits.
pub(crate) fn parse_amount(text: &str) -> Result<Amount, StoreError> {
    let digits = text.trim_start_matches('0');
    let digits = if digits.is_empty() && !text.is_empty() {
        "0"
    } else {
        digits
    };
    digits
        .parse()
        .map_err(|_| StoreError::Corrupt("a stored amount is not a number".into()))
}

/// Bytes as `0x` and lower-case hexadecimal digits.
pub(crate) fn hex(bytes: impl AsRef<[u8]>) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or_default();
    let digits = bytes
        .as_ref()
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    "0x".chars().chain(digits).collect()
}

/// A 256-bit number as 64 hexadecimal digits.
pub(crate) fn nonce(nonce: U256) -> String {
    hex(nonce.to_be_bytes::<32>())
}

/// A batch's name.
pub(crate) fn batch(id: BatchId) -> String {
    format!("{:032x}", id.0)
}

/// A payment's name, as its URL has it.
pub(crate) fn payment(id: PaymentId) -> String {
    id.to_string()
}

/// A chain id. Names must be exact.
pub(crate) fn chain(chain: ChainId) -> Result<i64, StoreError> {
    exact(chain.0, "a chain id")
}

/// A number that must be exact.
pub(crate) fn exact(number: u64, what: &str) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::Corrupt(format!("{what} is above 2^63 - 1")))
}

/// A number that only orders rows: the largest ones may be the same.
pub(crate) fn order(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A moment that only orders rows.
pub(crate) fn moment(at: Timestamp) -> i64 {
    order(at.0)
}

/// A number from a column.
pub(crate) fn unsigned(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| StoreError::Corrupt("a stored number is negative".into()))
}

/// The 32 bytes of a hexadecimal text.
pub(crate) fn parse_hash(text: &str) -> Result<B256, StoreError> {
    text.parse()
        .map_err(|_| StoreError::Corrupt("a stored hash is not 32 bytes".into()))
}

/// The account of this name.
pub(crate) fn parse_account(name: &str) -> Result<Account, StoreError> {
    ACCOUNTS
        .into_iter()
        .find(|account| account.name() == name)
        .ok_or_else(|| StoreError::Corrupt("the book has an account that does not exist".into()))
}

const ACCOUNTS: [Account; 8] = [
    Account::PayerHeld,
    Account::Reserved,
    Account::PayerDue,
    Account::RevenuePending,
    Account::Treasury,
    Account::RevenueFinal,
    Account::BadDebt,
    Account::Forgiven,
];

/// Fails to compile when an account is added, which then belongs in [`ACCOUNTS`] too.
const _: fn(Account) = |account| match account {
    Account::PayerHeld
    | Account::Reserved
    | Account::PayerDue
    | Account::RevenuePending
    | Account::Treasury
    | Account::RevenueFinal
    | Account::BadDebt
    | Account::Forgiven => {}
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_as_text_sort_as_numbers_and_come_back() {
        let amounts = [
            Amount::ZERO,
            Amount::from(9u64),
            Amount::from(10u64),
            Amount::from(u128::MAX),
            Amount::MAX,
        ];
        let texts = amounts.map(amount);
        assert!(texts.is_sorted());
        for (text, amount) in texts.iter().zip(amounts) {
            assert_eq!(text.len(), 78);
            assert_eq!(parse_amount(text), Ok(amount));
        }
        assert!(parse_amount("").is_err());
        assert!(parse_amount("0x1").is_err());
    }

    #[test]
    fn accounts_come_back_by_name() {
        for account in ACCOUNTS {
            assert_eq!(parse_account(account.name()), Ok(account));
        }
    }
}
