//! Random histories: small numbers that become commands which make sense, or nearly.

use proptest::prelude::{Strategy, any};
use tollgate_payment::{
    BatchId, BatchRow, Instruction, LossReason, PaymentKeys, PaymentState, ReleaseReason, Row,
    Rows, SignerKey, Submission,
    command::{
        Adopt, Checkpoint, Claim, Commit, Conclude, Fate, Funds, Included, ItemFate, Release, Seal,
        SpenderFunds, Submitted,
    },
};
use tollgate_x402::{Amount, B256, Bytes, ChainId, Timestamp, U256};

use super::{
    ask::Ask,
    payers::{Kind, OPERATOR, SELLER, payer, payment_id, reserve},
};

/// Random bytes, from which one command is made.
#[derive(Clone, Copy, Debug)]
pub struct Step(u8, [u8; 6]);

impl Step {
    /// Any step.
    pub fn any() -> impl Strategy<Value = Self> {
        (0u8..100, any::<[u8; 6]>()).prop_map(|(kind, bytes)| Self(kind, bytes))
    }
}

/// Makes steps into commands, given the rows as they are.
#[derive(Clone, Debug, Default)]
pub struct History {
    ids: u64,
    hashes: u64,
}

impl History {
    /// The command of a step. `rows` is everything that exists. Most commands fit the rows; some do not.
    pub fn ask(&mut self, step: Step, rows: &Rows, now: Timestamp) -> Ask {
        let Step(kind, bytes) = step;
        match kind {
            0..34 => self.reserve(bytes, now),
            34..42 => Ask::from(Checkpoint {
                keys: pick_payment(rows, bytes, serving),
                used: Amount::from(u64::from(bytes[2]) * 4),
            }),
            42..60 => Ask::from(Commit {
                keys: pick_payment(rows, bytes, serving),
                used: (bytes[2] > 20).then(|| Amount::from(u64::from(bytes[2]) * 4)),
                memo: (bytes[3] > 200).then(|| "another memo".into()),
                answer: None,
            }),
            60..65 => Ask::from(Release {
                keys: pick_payment(rows, bytes, serving),
                reason: ReleaseReason::UpstreamFailed,
            }),
            65..74 => self.claim(bytes, rows),
            74..77 => Ask::from(Adopt {
                signer: signer(bytes[0]),
                chain_nonce: u64::from(bytes[1] % 4),
            }),
            77..86 => self.seal(bytes, rows, now),
            86..88 => {
                let batch = pick_batch(rows, bytes, sealed);
                Ask::from(Submitted {
                    batch: batch.id,
                    hash: batch.sent.last().map_or(B256::ZERO, |sent| sent.hash),
                    submission: match bytes[2] % 3 {
                        0 => Submission::Accepted,
                        1 => Submission::NotSent,
                        _ => Submission::Unknown,
                    },
                })
            }
            88..91 => {
                let batch = pick_batch(rows, bytes, sealed);
                let sent = batch.sent.last().filter(|_| bytes[2] > 60);
                Ask::from(Included {
                    batch: batch.id,
                    at: sent.map(|sent| (sent.hash, u64::from(bytes[3]))),
                })
            }
            _ => conclude(bytes, rows),
        }
    }

    fn reserve(&mut self, bytes: [u8; 6], now: Timestamp) -> Ask {
        let kind = match bytes[0] % 8 {
            0..4 => Kind::Allowance,
            4 | 5 => Kind::Once,
            6 => Kind::Permit2,
            _ => Kind::Eip3009,
        };
        if bytes[1] < 250 {
            self.ids += 1;
        }
        let worst = u64::from(bytes[2]) * 4;
        let who = (payer(bytes[3] % 3), kind, u64::from(bytes[4] % 5));
        let balance = if bytes[4] > 220 { 700 } else { 100_000 };
        let mut command = reserve(self.ids, who, 600 + worst, worst, balance, now);
        command.least = Amount::from(worst / 2);
        command.request = B256::repeat_byte(bytes[5] % 2);
        command.epoch = u64::from(bytes[5] % 3);
        match bytes[5] {
            0..40 => command.funds = None,
            // Somebody submitted the permit already.
            40..60 => {
                if let Some(Funds {
                    block,
                    spender:
                        SpenderFunds::Counter {
                            nonce, allowance, ..
                        },
                    ..
                }) = &mut command.funds
                {
                    *nonce += U256::from(1);
                    *allowance = Amount::from(500u64);
                    *block += 1;
                }
            }
            _ => {}
        }
        if bytes[5] > 230 {
            command.credit.floor = Amount::from(300u64);
            command.credit.ceiling = Amount::from(900u64);
            command.credit.in_flight = 2;
        }
        Ask::from(command)
    }

    fn claim(&mut self, bytes: [u8; 6], rows: &Rows) -> Ask {
        let mut due: Vec<_> = payments(rows, |state| matches!(state, PaymentState::Due { .. }));
        if bytes[0] > 240 {
            due = payments(rows, |_| true);
        }
        due.truncate(usize::from(bytes[1] % 6) + 1);
        if bytes[4] > 10 {
            self.ids += 1;
        }
        let contract = bytes[3] > 90;
        Ask::from(Claim {
            batch: BatchId(u128::from(self.ids)),
            signer: signer(bytes[2]),
            settler: contract.then_some(SELLER),
            payments: due,
            undecided: if contract { 3 } else { 1 },
        })
    }

    fn seal(&mut self, bytes: [u8; 6], rows: &Rows, now: Timestamp) -> Ask {
        let batch = pick_batch(rows, bytes, |batch| bytes[0] > 160 || !sealed(batch));
        let next = rows
            .signer(&batch.signer)
            .map_or(0, |signer| signer.next_nonce);
        self.hashes += 1;
        let price = batch.sent.last().map_or(100, |sent| sent.gas_price) + 13;
        Ask::from(Seal {
            batch: batch.id,
            signer: batch.signer,
            term: 0,
            instruction: Instruction {
                nonce: batch.nonce().unwrap_or(next) + u64::from(bytes[2] > 240),
                hash: B256::from(U256::from(self.hashes)),
                raw: Bytes::from(bytes.to_vec()),
                gas_price: if bytes[3] > 240 { 1 } else { price },
                stored: now,
                sent: None,
                void: false,
            },
        })
    }
}

fn conclude(bytes: [u8; 6], rows: &Rows) -> Ask {
    let batch = pick_batch(rows, bytes, |batch| bytes[0] > 220 || sealed(batch));
    let block = u64::from(bytes[2]);
    let count = batch.items.len() + usize::from(bytes[3] > 250);
    let items = (0..count).map(|item| match bytes[4].wrapping_add(item as u8 * 37) {
        0..150 => ItemFate::Paid,
        150..160 => ItemFate::PaidBy {
            transaction: B256::repeat_byte(0x77),
            block,
        },
        160..220 => ItemFate::Again(LossReason::Balance),
        _ => ItemFate::Lost(LossReason::Allowance),
    });
    Ask::from(Conclude {
        fate: Fate {
            transaction: batch
                .sent
                .last()
                .map(|sent| sent.hash)
                .filter(|_| bytes[5] > 5),
            block,
            items: items.collect(),
        },
        batch,
        attempts: 2,
    })
}

fn signer(number: u8) -> SignerKey {
    let mut operator = OPERATOR;
    operator.0[0] = number % 2;
    SignerKey {
        chain: ChainId::DEV,
        operator,
    }
}

fn sealed(batch: &BatchRow) -> bool {
    !batch.sent.is_empty()
}

fn serving(state: &PaymentState) -> bool {
    matches!(state, PaymentState::Serving { .. })
}

fn payments(rows: &Rows, fits: impl Fn(&PaymentState) -> bool) -> Vec<PaymentKeys> {
    rows.iter()
        .filter_map(|row| match row {
            Row::Payment(payment) if fits(&payment.state) => Some(payment.keys),
            _ => None,
        })
        .collect()
}

/// One of those that fit, or sometimes any, or one that does not exist.
fn pick_payment(rows: &Rows, bytes: [u8; 6], fits: impl Fn(&PaymentState) -> bool) -> PaymentKeys {
    let fitting = payments(rows, |state| bytes[1] > 230 || fits(state));
    match fitting.len() {
        0 => {
            let who = (payer(0), Kind::Once, 0);
            let mut keys = reserve(0, who, 0, 0, 0, Timestamp(0)).keys;
            keys.id = payment_id(u64::MAX);
            keys
        }
        count => fitting[usize::from(bytes[0]) % count],
    }
}

/// One that fits and is not concluded, or sometimes any, or one that does not exist.
fn pick_batch(rows: &Rows, bytes: [u8; 6], fits: impl Fn(&BatchRow) -> bool) -> BatchRow {
    let batches: Vec<&BatchRow> = rows
        .iter()
        .filter_map(|row| match row {
            Row::Batch(batch) if bytes[1] > 230 || !batch.concluded() && fits(batch) => Some(batch),
            _ => None,
        })
        .collect();
    match batches.len() {
        0 => BatchRow {
            id: BatchId(u128::MAX),
            signer: signer(0),
            settler: None,
            items: Vec::new(),
            state: tollgate_payment::BatchState::Claimed,
            sent: Vec::new(),
            created: Timestamp(0),
            updated: Timestamp(0),
        },
        count => batches[usize::from(bytes[0]) % count].clone(),
    }
}
