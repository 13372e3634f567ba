//! A step of a stream: what was delivered becomes durable, and whether more may be is told.

use core::fmt;

use tollgate_x402::{Amount, Timestamp};

use super::difference;
use crate::{
    key::{PaymentKeys, RowKey},
    refusal::{FundsBound, Refusal},
    row::{Limit, OwnerRow, PaymentRow, PaymentState, Row, SpenderRow},
    store::{Command, Decision, RowSet, Rows},
};

/// Makes what was delivered durable, before much more is.
///
/// It also looks at what the books have learned of the payer since: from its other requests, from settlement, from the
/// operator. Where that voids the payment, the answer says so; what was delivered until then is durable all the same.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The payment.
    pub keys: PaymentKeys,
    /// What the delivered part is worth, in atomic units.
    pub used: Amount,
}

/// Whether more may be delivered on a payment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// As far as is known, it can be paid.
    Good,
    /// Deliver nothing more, and commit what was delivered.
    Void(Voided),
}

/// What voids a payment that is being served.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Voided {
    /// The operator serves this payer no more.
    Barred,
    /// Another charge of the payer's was lost meanwhile.
    Owes(Amount),
    /// What the payer has covers no more than was delivered.
    Short(FundsBound),
    /// The chain refuses the authorization.
    Refused(String),
}

impl fmt::Display for Voided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Barred => f.write_str("the seller serves this payer no more"),
            Self::Owes(owed) => write!(
                f,
                "this payer owes {owed} atomic units from payments that could not be settled"
            ),
            Self::Short(bound) => write!(f, "{bound} does not cover more than was delivered"),
            Self::Refused(why) => write!(f, "the chain refuses the payment: {why}"),
        }
    }
}

impl Command for Checkpoint {
    type Outcome = Standing;

    fn rows(&self) -> RowSet {
        [
            RowKey::Payment(self.keys.id),
            RowKey::Owner(self.keys.owner),
        ]
        .into_iter()
        .chain(self.keys.spender_key().map(RowKey::Spender))
        .collect()
    }

    fn decide(&self, rows: &Rows, now: Timestamp) -> Result<Decision<Standing>, Refusal> {
        let mut payment = rows
            .payment(&self.keys.id)
            .cloned()
            .ok_or(Refusal::Missing("payment"))?;
        let PaymentState::Serving { used } = &mut payment.state else {
            return Err(Refusal::Overtaken);
        };
        *used = (*used).max(self.used.min(payment.reserved));
        let used = *used;
        payment.updated = now;
        let owner = rows
            .owner(&self.keys.owner)
            .ok_or(Refusal::Missing("payer"))?;
        let spender = self.keys.spender_key();
        let spender = spender.as_ref().and_then(|key| rows.spender(key));
        let outcome = standing(&payment, used, owner, spender)?;
        Ok(Decision {
            writes: vec![Row::Payment(payment)],
            entries: Vec::new(),
            outcome,
        })
    }
}

/// How a payment stands by what is known of its payer.
///
/// What is due is not held against a balance: some of it may have been paid out of it already, in blocks that are not
/// final. So who keeps what it signed for is never stopped, whatever the order in which its money is seen to move.
fn standing(
    payment: &PaymentRow,
    used: Amount,
    owner: &OwnerRow,
    spender: Option<&SpenderRow>,
) -> Result<Standing, Refusal> {
    if owner.blocked.is_some() {
        return Ok(Standing::Void(Voided::Barred));
    }
    // Who owes is admitted nowhere, so it was lost since.
    if !owner.lost.is_zero() {
        return Ok(Standing::Void(Voided::Owes(owner.lost)));
    }
    let reserved = payment.reserved;
    let short = |money: Amount| money < reserved && money <= used;
    if let Some(view) = owner.view {
        let others = difference(owner.held, reserved, "a payer holds less than a payment")?;
        if short(view.amount.saturating_sub(others)) {
            return Ok(Standing::Void(Voided::Short(FundsBound::Balance)));
        }
    }
    if let Some(spender) = spender {
        let others = difference(
            spender.held,
            reserved,
            "a spender holds less than a payment",
        )?;
        let left = match &spender.limit {
            Limit::Seen(None) => return Ok(Standing::Good),
            Limit::Seen(Some(view)) => view.amount.saturating_sub(others),
            Limit::Counter(counter) => counter.left(others, spender.due),
        };
        if short(left) {
            return Ok(Standing::Void(Voided::Short(FundsBound::Allowance)));
        }
    }
    Ok(Standing::Good)
}
