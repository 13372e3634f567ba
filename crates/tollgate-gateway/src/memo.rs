//! What the ledger remembers of a request, for the status of its payment.

use serde::{Deserialize, Serialize};
use tollgate_price::BillableUsage;
use tollgate_x402::{Amount, PaymentStatus, TokenUsage};

/// The memo: JSON of at most 2 KiB, since a model's name has at most 256 bytes.
#[derive(Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Memo {
    model: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    usage: Option<TokenUsage>,
    /// What the usage comes to before the reservation caps it, in atomic units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    calculated: Option<Amount>,
}

impl Memo {
    /// Before the answer.
    pub(crate) fn asked(model: &str) -> Self {
        Self {
            model: model.to_owned(),
            usage: None,
            calculated: None,
        }
    }

    /// After it.
    pub(crate) fn answered(model: &str, usage: BillableUsage, calculated: Amount) -> Self {
        Self {
            model: model.to_owned(),
            usage: Some(usage.into()),
            calculated: Some(calculated),
        }
    }

    pub(crate) fn to_json(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }

    /// Puts what is remembered into the status. A memo of something else than this gateway is passed over.
    pub(crate) fn tell(memo: &str, status: &mut PaymentStatus) {
        let Ok(memo) = serde_json::from_str::<Self>(memo) else {
            return;
        };
        status.model = Some(memo.model).filter(|model| !model.is_empty());
        status.usage = memo.usage;
        status.amounts.calculated = memo.calculated;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memo_of_the_longest_name_fits_and_reads_back() {
        let usage = BillableUsage::new(u64::MAX, u64::MAX)
            .with_cached_input(u64::MAX)
            .with_reasoning(u64::MAX);
        let memo = Memo::answered(&"\u{1}".repeat(256), usage, Amount::MAX);
        let json = memo.to_json().unwrap();
        assert!(json.len() <= 2048, "{}", json.len());
        assert_eq!(serde_json::from_str::<Memo>(&json).unwrap(), memo);
    }
}
