//! A permit is in a block: what waited for it can be drawn.

use tollgate_x402::{B256, Timestamp};

use crate::{
    key::{PaymentKeys, RowKey},
    refusal::Refusal,
    row::{BatchItem, BatchRow, BatchState, Limit, PaymentState, Row},
    store::{Command, Decision, RowSet, Rows},
};

/// Lets go of the payments that waited for a permit of their own transaction, since it is in a block and did what it says.
///
/// They are due again and can be drawn at once: a draw has the account's next nonce, so that no chain has it before the
/// permit, in whatever blocks. The batch of the permit is followed to its end without them; a permit that fails there
/// after all, or a draw that does, lets it go in again.
///
/// Where one more failure would lose a payment, all of them wait until the permit is final.
#[derive(Clone, Debug)]
pub struct Permitted {
    /// The permit's batch, as it was read.
    pub batch: BatchRow,
    /// The transaction that did it, and its block: where it was noted to be last ([`Included`](super::Included)).
    pub at: (B256, u64),
    /// Failed settlements after which a charge is lost.
    pub attempts: u32,
}

impl Permitted {
    /// Whether anything waits for this batch's permit.
    pub fn concerns(batch: &BatchRow) -> bool {
        matches!(batch.items.as_slice(), [BatchItem::Permit { payments, .. }] if !payments.is_empty())
    }
}

impl Command for Permitted {
    type Outcome = ();

    fn rows(&self) -> RowSet {
        self.batch
            .payments()
            .flat_map(|keys| {
                let spender = keys.spender_key().map(RowKey::Spender);
                spender.into_iter().chain([RowKey::Payment(keys.id)])
            })
            .chain([RowKey::Batch(self.batch.id)])
            .collect()
    }

    fn decide(&self, rows: &Rows, now: Timestamp) -> Result<Decision<()>, Refusal> {
        let mut batch = rows
            .batch(&self.batch.id)
            .cloned()
            .ok_or(Refusal::Missing("batch"))?;
        let (transaction, block) = self.at;
        let seen = batch.state == BatchState::Included { transaction, block };
        let [
            BatchItem::Permit {
                spender,
                permit,
                payments,
            },
        ] = batch.items.as_mut_slice()
        else {
            return Err(Refusal::Overtaken);
        };
        let named = self.batch.payments().collect::<Vec<_>>();
        if !seen || payments.is_empty() || !payments.iter().eq(named) {
            return Err(Refusal::Overtaken);
        }
        let mut writes = Vec::with_capacity(payments.len().saturating_add(2));
        for PaymentKeys { id, .. } in core::mem::take(payments) {
            let mut payment = rows
                .payment(&id)
                .cloned()
                .ok_or(Refusal::Missing("payment"))?;
            let PaymentState::Claimed { attempts, .. } = payment.state else {
                return Err(Refusal::Books("a payment of a batch is not claimed by it"));
            };
            if attempts.saturating_add(1) >= self.attempts {
                return Ok(Decision {
                    writes: Vec::new(),
                    entries: Vec::new(),
                    outcome: (),
                });
            }
            payment.state = PaymentState::Due { attempts };
            payment.updated = now;
            writes.push(Row::Payment(payment));
        }
        let mut row = rows
            .spender(spender)
            .cloned()
            .ok_or(Refusal::Missing("spender"))?;
        let Limit::Counter(counter) = &mut row.limit else {
            return Err(Refusal::Books("an allowance without a counter"));
        };
        counter.apply(permit, block);
        counter.leave(true)?;
        counter.shown = counter
            .shown
            .checked_add(1)
            .ok_or(Refusal::Books("too many permits of one counter"))?;
        batch.updated = now;
        writes.extend([Row::Spender(row), Row::Batch(batch)]);
        Ok(Decision {
            writes,
            entries: Vec::new(),
            outcome: (),
        })
    }
}
