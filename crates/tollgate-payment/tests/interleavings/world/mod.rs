//! One seller's books in a world that goes wrong: what happens, step by step, and what must hold after each.

mod payers;
mod worker;

use std::collections::{BTreeMap, BTreeSet};

use tollgate_payment::{
    AuthorizationKey, BatchId, BatchItem, BatchRow, BatchState, Command, Credit, Entry,
    ExposureKey, Instruction, Limit, LossReason, OwnerKey, PaymentKeys, PaymentRow, PaymentState,
    Refusal, ReleaseReason, Row, RowKey, Rows, SignerKey, SpenderKey,
    command::{
        Adopt, Checkpoint, Claim, Commit, Conclude, Concluded, Fate, Funds, Included, ItemFate,
        Lead, Notice, Permitted, Release, Reserve, Resume, Seal, SpenderFunds, Standing, Stop,
    },
};
use tollgate_x402::{
    Address, Allowance, Amount, Authorization, B256, Bytes, ChainId, Eip3009, Exact, Once,
    PaymentId, Permit2Exact, Signature65, Timestamp, U256,
};

use crate::{
    chain::{Chain, units},
    invariants,
};

pub(crate) type Step = (u8, [u8; 4]);

const CHAIN: ChainId = ChainId::DEV;
const TOKEN: Address = Address::repeat_byte(0x70);
const SELLER: Address = Address::repeat_byte(0x5e);
const PERMIT2: Address = Address::repeat_byte(0x22);
const PAYERS: [Address; 3] = [
    Address::repeat_byte(1),
    Address::repeat_byte(2),
    Address::repeat_byte(3),
];
/// Failed settlements after which a charge is lost.
const ATTEMPTS: u32 = 4;

pub(crate) struct World {
    settler: bool,
    hostile: bool,
    /// Whether strangers submit any permit that they see, also while charges that were signed before it are
    /// not drawn.
    pub(crate) early: bool,
    pub(crate) credit: Credit,
    pub(crate) rows: Rows,
    pub(crate) entries: Vec<Entry>,
    pub(crate) chain: Chain,
    /// Where the counters stood before this ledger.
    pub(crate) starts: BTreeMap<Address, u64>,
    /// Every permit that a payer signed, by nonce: the largest value.
    pub(crate) signed: BTreeMap<Address, BTreeMap<u64, u64>>,
    /// What the finalized transactions of concluded batches moved.
    pub(crate) concluded_moves: u64,
    permits: BTreeMap<Address, (Allowance, B256)>,
    /// Due payments in the order of their commits.
    committed: Vec<PaymentId>,
    /// Transfers that others submitted: what they moved.
    submitted: BTreeMap<(Address, U256), u64>,
    /// The term in which each of two workers believes that it leads an account.
    terms: BTreeMap<(SignerKey, u8), u64>,
    now: Timestamp,
    epoch: u64,
    ids: u128,
}

impl World {
    pub(crate) fn new(settler: bool, hostile: bool) -> Self {
        let mut world = Self {
            settler,
            hostile,
            early: hostile,
            credit: Credit {
                floor: Amount::from(400u64),
                factor: 1,
                ceiling: Amount::from(1500u64),
                in_flight: 4,
                in_flight_proven: 8,
                proven: Amount::from(300u64),
                exposure: Amount::from(900u64),
                view_age: 3,
            },
            rows: Rows::default(),
            entries: Vec::new(),
            chain: Chain::default(),
            starts: BTreeMap::new(),
            signed: BTreeMap::new(),
            concluded_moves: 0,
            permits: BTreeMap::new(),
            committed: Vec::new(),
            submitted: BTreeMap::new(),
            terms: BTreeMap::new(),
            now: Timestamp(1_900_000_000),
            epoch: 1,
            ids: 0,
        };
        for (payer, start) in PAYERS.into_iter().zip([0, 70, 0]) {
            world
                .chain
                .latest
                .balance
                .insert(payer, if hostile { 1500 } else { 1_000_000 });
            if settler {
                // Another ledger has drawn some of it before.
                world.chain.latest.charged.insert(payer, start);
                world.starts.insert(payer, start);
            }
        }
        world.chain.finalize();
        for signer in world.signers() {
            world
                .apply(&Adopt {
                    signer,
                    chain_nonce: 0,
                })
                .unwrap();
        }
        world
    }

    /// Two operators race where the chain keeps them apart; what honest payers owe is never at risk with one.
    fn signers(&self) -> Vec<SignerKey> {
        let count = if self.settler && self.hostile { 2 } else { 1 };
        (1..=count)
            .map(|number| SignerKey {
                chain: CHAIN,
                operator: Address::repeat_byte(0x90 | number),
            })
            .collect()
    }

    pub(crate) fn payments(&self) -> impl Iterator<Item = &PaymentRow> {
        self.rows.iter().filter_map(|row| match row {
            Row::Payment(row) => Some(row),
            _ => None,
        })
    }

    pub(crate) fn batches(&self) -> impl Iterator<Item = &BatchRow> {
        self.rows.iter().filter_map(|row| match row {
            Row::Batch(row) => Some(row),
            _ => None,
        })
    }

    /// Executes a command as a store does, and looks whether everything still holds.
    fn apply<C: Command>(&mut self, command: &C) -> Result<C::Outcome, Refusal> {
        let names: BTreeSet<RowKey> = command.rows().iter().copied().collect();
        let rows: Rows = self
            .rows
            .iter()
            .filter(|row| names.contains(&row.key()))
            .cloned()
            .collect();
        let decision = command.decide(&rows, self.now);
        if let Err(Refusal::Books(what)) = &decision {
            panic!("the machine contradicts itself: {what}");
        }
        let decision = decision?;
        let mut written = BTreeSet::new();
        for row in decision.writes {
            assert!(names.contains(&row.key()), "{:?} was not named", row.key());
            assert!(
                written.insert(row.key()),
                "{:?} is written twice",
                row.key()
            );
            if let Row::Payment(payment) = &row {
                let before = self
                    .rows
                    .payment(&payment.keys.id)
                    .map(|payment| &payment.state);
                invariants::transition(before, &payment.state);
                let first = matches!(before, Some(PaymentState::Serving { .. }));
                if first && matches!(payment.state, PaymentState::Due { .. }) {
                    self.committed.push(payment.keys.id);
                }
            }
            self.rows.put(row);
        }
        self.entries.extend(decision.entries);
        Ok(decision.outcome)
    }

    pub(crate) fn run(&mut self, steps: &[Step]) {
        for (kind, bytes) in steps {
            self.step(*kind, *bytes);
            invariants::check(self);
        }
    }

    fn step(&mut self, kind: u8, bytes: [u8; 4]) {
        match kind {
            0..28 => self.arrive(bytes),
            28..36 => {
                if let Some(keys) = self.serving(bytes[0]) {
                    self.checkpoint(keys, u64::from(bytes[1]), bytes[2]);
                }
            }
            36..54 => {
                if let Some(keys) = self.serving(bytes[0]) {
                    let used = Some(Amount::from(u64::from(bytes[1])));
                    self.apply(&Commit {
                        keys,
                        used,
                        memo: None,
                        answer: None,
                    })
                    .unwrap();
                    // A second end is refused, and changes nothing.
                    let again = self.apply(&Commit {
                        keys,
                        used,
                        memo: None,
                        answer: None,
                    });
                    assert_eq!(again, Err(Refusal::Overtaken));
                }
            }
            54..57 => {
                if let Some(keys) = self.serving(bytes[0]) {
                    self.apply(&Release {
                        keys,
                        reason: ReleaseReason::UpstreamFailed,
                    })
                    .unwrap();
                }
            }
            57..66 => self.claim(bytes),
            66..73 => self.seal(bytes),
            73..80 => self.mine(bytes),
            80..83 => self.note(bytes),
            83..87 => self.chain.finalize(),
            87..92 => {
                self.conclude(bytes);
            }
            92..94 => self.crash(),
            94 => self.chain.reorganize(),
            96 => self.lead(bytes),
            97 => self.halt(bytes),
            95 => self.now = self.now.plus(u64::from(bytes[0])),
            _ => self.mischief(bytes),
        }
    }

    fn serving(&self, pick: u8) -> Option<PaymentKeys> {
        let serving: Vec<_> = self
            .payments()
            .filter(|payment| matches!(payment.state, PaymentState::Serving { .. }))
            .map(|payment| payment.keys)
            .collect();
        serving
            .get(usize::from(pick) % serving.len().max(1))
            .copied()
    }

    /// The gateway dies, and its next run ends what was open by the last checkpoints.
    fn crash(&mut self) {
        self.epoch += 1;
        let dead: Vec<_> = self
            .payments()
            .filter(|payment| {
                matches!(payment.state, PaymentState::Serving { .. }) && payment.epoch < self.epoch
            })
            .map(|payment| (payment.keys, payment.state.clone()))
            .collect();
        for (keys, state) in dead {
            let charge = self
                .apply(&Commit {
                    keys,
                    used: None,
                    memo: None,
                    answer: None,
                })
                .unwrap();
            let PaymentState::Serving { used } = state else {
                unreachable!("filtered")
            };
            let exact = matches!(
                self.rows.authorization(&keys.authorization).unwrap().signed,
                Authorization::Exact(_)
            );
            if !exact {
                assert_eq!(charge.amount, used, "never more than the durable evidence");
            }
        }
    }

    /// The faults end: the gateway and the worker go on until nothing is left to do.
    pub(crate) fn drain(&mut self) {
        self.crash();
        for round in 0..400 {
            let open = self.payments().any(|payment| {
                matches!(
                    payment.state,
                    PaymentState::Serving { .. }
                        | PaymentState::Due { .. }
                        | PaymentState::Claimed { .. }
                )
            });
            if !open && self.batches().all(BatchRow::concluded) {
                return self.audit();
            }
            self.claim([7, round as u8, 0, 0]);
            for signer in self.signers() {
                self.resume(signer);
            }
            for signer in 0..2 {
                self.lead([signer, 0, 15, 255]);
                self.seal([signer, 255, 0, 0]);
            }
            self.mine([0; 4]);
            self.chain.finalize();
            // A batch may have to wait for the one before it.
            for pick in 0..8 {
                self.conclude([pick, 0, 0, 255]);
            }
            invariants::check(self);
        }
        let left: Vec<_> = self.payments().map(|payment| &payment.state).collect();
        panic!("the machine stands still: {left:?}");
    }

    /// 5 and 6: what is final was moved once, what is not was not: to the last unit.
    fn audit(&self) {
        let fin: u64 = self
            .payments()
            .filter(|payment| matches!(payment.state, PaymentState::Final { .. }))
            .map(|payment| units(payment.charge))
            .sum();
        let ours: u64 = self.chain.decided.iter().map(|mined| mined.moved).sum();
        let submitted: Vec<_> = self
            .submitted
            .iter()
            .filter(|(key, _)| {
                self.chain.finalized.burned.get(key) == Some(&Some(B256::repeat_byte(0x77)))
            })
            .collect();
        let others: u64 = submitted.iter().map(|(_, moved)| *moved).sum();
        assert_eq!(self.chain.finalized.treasury, ours + others);
        // A stranger may submit a transfer after it was given up.
        let late: u64 = self
            .payments()
            .filter(|payment| matches!(payment.state, PaymentState::Lost { .. }))
            .filter(|payment| match payment.keys.authorization {
                AuthorizationKey::Claim { owner, nonce, .. } => {
                    submitted.iter().any(|(key, _)| **key == (owner, nonce))
                }
                AuthorizationKey::Permit { .. } => false,
            })
            .map(|payment| units(payment.charge))
            .sum();
        assert_eq!(
            fin + late,
            ours + others,
            "final payments are what the chain moved"
        );
        for row in self.rows.iter() {
            if let Row::Spender(row) = row
                && let Limit::Counter(counter) = &row.limit
                && self.settler
            {
                let charged = self
                    .chain
                    .finalized
                    .charged
                    .get(&row.key.owner.owner)
                    .copied()
                    .unwrap_or_default();
                assert_eq!(
                    units(counter.settled),
                    charged,
                    "the counter is the chain's"
                );
            }
        }
    }

    pub(crate) fn nothing_is_lost(&self) {
        for payment in self.payments() {
            assert!(
                matches!(
                    payment.state,
                    PaymentState::Final { .. } | PaymentState::Released { .. }
                ),
                "an honest payer's payment is {:?}",
                payment.state
            );
            assert!(payment.short.is_zero());
        }
    }
}
