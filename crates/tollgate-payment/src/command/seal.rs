//! A batch becomes transactions: stored before they are sent, and watched.

use tollgate_x402::{B256, Timestamp};

use crate::{
    key::{BatchId, RowKey, SignerKey},
    refusal::Refusal,
    row::{BatchRow, BatchState, Instruction, Row, SignerRow, Submission},
    store::{Command, Decision, RowSet, Rows},
};

/// Takes over an account: its next nonce is the chain's, at the first start of a ledger.
#[derive(Clone, Debug)]
pub struct Adopt {
    /// The account.
    pub signer: SignerKey,
    /// The chain's transaction count of it, pending ones included.
    pub chain_nonce: u64,
}

impl Command for Adopt {
    /// The ledger's next nonce. If the chain's is above it, somebody else uses the key: send nothing.
    type Outcome = u64;

    fn rows(&self) -> RowSet {
        [RowKey::Signer(self.signer)].into_iter().collect()
    }

    fn decide(&self, rows: &Rows, _now: Timestamp) -> Result<Decision<u64>, Refusal> {
        if let Some(row) = rows.signer(&self.signer) {
            return Ok(Decision {
                writes: Vec::new(),
                entries: Vec::new(),
                outcome: row.next_nonce,
            });
        }
        let row = SignerRow {
            key: self.signer,
            next_nonce: self.chain_nonce,
            lease: None,
            halt: None,
        };
        Ok(Decision {
            writes: vec![Row::Signer(row)],
            entries: Vec::new(),
            outcome: self.chain_nonce,
        })
    }
}

/// Stores a signed transaction of a batch, before it is sent: the first, which takes the account's next
/// nonce, or a replacement at a higher price, which keeps it.
#[derive(Clone, Debug)]
pub struct Seal {
    /// The batch.
    pub batch: BatchId,
    /// The account.
    pub signer: SignerKey,
    /// The term of the account's lease in which it was signed ([`Lead`](super::Lead)); 0 for an account that was never
    /// leased.
    pub term: u64,
    /// What is to be sent.
    pub instruction: Instruction,
}

impl Command for Seal {
    type Outcome = BatchRow;

    fn rows(&self) -> RowSet {
        [RowKey::Batch(self.batch), RowKey::Signer(self.signer)]
            .into_iter()
            .collect()
    }

    fn decide(&self, rows: &Rows, now: Timestamp) -> Result<Decision<BatchRow>, Refusal> {
        let mut batch = rows
            .batch(&self.batch)
            .cloned()
            .ok_or(Refusal::Missing("batch"))?;
        let mut signer = rows
            .signer(&self.signer)
            .cloned()
            .ok_or(Refusal::Missing("signer"))?;
        if batch.signer != self.signer || batch.concluded() {
            return Err(Refusal::Overtaken);
        }
        if signer.lease.as_ref().map_or(0, |lease| lease.term) != self.term {
            return Err(Refusal::Deposed);
        }
        match batch.sent.last() {
            None => {
                // A replacement takes no nonce: what was signed before the halt is brought to its end.
                if signer.halt.is_some() {
                    return Err(Refusal::Halted);
                }
                if self.instruction.nonce != signer.next_nonce {
                    return Err(Refusal::Overtaken);
                }
                signer.next_nonce = signer
                    .next_nonce
                    .checked_add(1)
                    .ok_or(Refusal::Books("the account's nonces are used up"))?;
                batch.state = BatchState::Sealed;
            }
            Some(last) => {
                if self.instruction.nonce != last.nonce
                    || self.instruction.gas_price <= last.gas_price
                {
                    return Err(Refusal::Overtaken);
                }
            }
        }
        batch.sent.push(self.instruction.clone());
        batch.updated = now;
        let writes = vec![Row::Batch(batch.clone()), Row::Signer(signer)];
        Ok(Decision {
            writes,
            entries: Vec::new(),
            outcome: batch,
        })
    }
}

/// Notes how a node answered a submission.
#[derive(Clone, Debug)]
pub struct Submitted {
    /// The batch.
    pub batch: BatchId,
    /// Which transaction.
    pub hash: B256,
    /// The answer.
    pub submission: Submission,
}

impl Command for Submitted {
    type Outcome = ();

    fn rows(&self) -> RowSet {
        [RowKey::Batch(self.batch)].into_iter().collect()
    }

    fn decide(&self, rows: &Rows, now: Timestamp) -> Result<Decision<()>, Refusal> {
        let mut batch = rows
            .batch(&self.batch)
            .cloned()
            .ok_or(Refusal::Missing("batch"))?;
        for instruction in batch
            .sent
            .iter_mut()
            .filter(|instruction| instruction.hash == self.hash)
        {
            instruction.sent = Some((now, self.submission));
        }
        batch.updated = now;
        Ok(Decision {
            writes: vec![Row::Batch(batch)],
            entries: Vec::new(),
            outcome: (),
        })
    }
}

/// Notes that a batch was seen in a block, or (`at: None`) that it is not there any more.
#[derive(Clone, Debug)]
pub struct Included {
    /// The batch.
    pub batch: BatchId,
    /// The transaction and its block.
    pub at: Option<(B256, u64)>,
}

impl Command for Included {
    type Outcome = ();

    fn rows(&self) -> RowSet {
        [RowKey::Batch(self.batch)].into_iter().collect()
    }

    fn decide(&self, rows: &Rows, now: Timestamp) -> Result<Decision<()>, Refusal> {
        let mut batch = rows
            .batch(&self.batch)
            .cloned()
            .ok_or(Refusal::Missing("batch"))?;
        if batch.concluded() || batch.sent.is_empty() {
            return Err(Refusal::Overtaken);
        }
        batch.state = match self.at {
            Some((transaction, block)) => BatchState::Included { transaction, block },
            None => BatchState::Sealed,
        };
        batch.updated = now;
        Ok(Decision {
            writes: vec![Row::Batch(batch)],
            entries: Vec::new(),
            outcome: (),
        })
    }
}
