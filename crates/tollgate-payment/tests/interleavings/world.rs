//! The gateway, the worker, the payers, and what happens to them.

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

    /// A request comes in, with an authorization of any kind; sometimes one that was used before.
    fn arrive(&mut self, bytes: [u8; 4]) {
        let payer = PAYERS[usize::from(bytes[0]) % PAYERS.len()];
        let worst = u64::from(bytes[1]);
        let reuse = bytes[3].is_multiple_of(8);
        self.ids += 1;
        let nonce = U256::from(if reuse {
            u128::from(bytes[3] / 8)
        } else {
            1000 + self.ids
        });
        let (authorization, digest) = match bytes[2] % 8 {
            0..5 => self.allowance(payer, worst, bytes[3]),
            5 => (once(payer, nonce, worst + 10), B256::from(nonce)),
            6 => (permit2(payer, nonce, worst), B256::from(nonce)),
            _ => (eip3009(payer, nonce, worst), B256::from(nonce)),
        };
        let exact = matches!(authorization, Authorization::Exact(_));
        let spender = match &authorization {
            Authorization::Allowance(_) => Some(SELLER),
            Authorization::Once(_) | Authorization::Exact(Exact::Permit2(_)) => Some(PERMIT2),
            Authorization::Exact(Exact::Eip3009(_)) => None,
        };
        let keys = PaymentKeys {
            id: PaymentId::from_random(self.ids.to_be_bytes()),
            owner: OwnerKey {
                chain: CHAIN,
                token: TOKEN,
                owner: payer,
            },
            spender,
            authorization: AuthorizationKey::of(&authorization, digest, PERMIT2),
            exposure: ExposureKey {
                chain: CHAIN,
                token: TOKEN,
                slice: 0,
            },
        };
        let mut reserve = Reserve {
            keys,
            funds: None,
            digest,
            request: B256::repeat_byte(bytes[3] % 3),
            worst: Amount::from(worst),
            least: Amount::from(if exact { worst } else { worst / 3 }),
            identifier: None,
            memo: String::new(),
            epoch: self.epoch,
            credit: self.credit.clone(),
            authorization,
        };
        let mut answer = self.apply(&reserve);
        if answer == Err(Refusal::FundsNeeded) {
            reserve.funds = Some(self.funds(payer, &reserve.authorization));
            answer = self.apply(&reserve);
            assert_ne!(
                answer,
                Err(Refusal::FundsNeeded),
                "the chain was asked just now"
            );
            if answer.is_err() {
                self.notice(keys, &reserve.authorization);
            }
        }
        if let Ok(reservation) = answer {
            self.check_reservation(&reserve, reservation.reserved);
        }
    }

    /// What a refused request read of the chain, or a second look in a long stream.
    fn notice(&mut self, keys: PaymentKeys, authorization: &Authorization) {
        let funds = self.funds(keys.owner.owner, authorization);
        let (owner, spender) = (keys.owner, keys.spender_key());
        self.apply(&Notice {
            owner,
            spender,
            funds,
        })
        .unwrap();
    }

    /// A step of a stream. Who keeps what it signed for is never stopped; of who is, all that was delivered is charged.
    fn checkpoint(&mut self, keys: PaymentKeys, used: u64, look: u8) {
        if look < 64 {
            let row = self.rows.authorization(&keys.authorization).unwrap();
            let signed = row.signed.clone();
            self.notice(keys, &signed);
        }
        let used = Amount::from(used);
        let standing = self.apply(&Checkpoint { keys, used }).unwrap();
        let payment = self.rows.payment(&keys.id).unwrap();
        let reserved = payment.reserved;
        let PaymentState::Serving { used: durable } = payment.state else {
            panic!("it is being served");
        };
        assert!(durable >= used.min(reserved), "delivered and not durable");
        if let Standing::Void(why) = standing {
            assert!(self.hostile, "an honest payer is stopped: {why}");
            let commit = Commit {
                keys,
                used: Some(durable),
                memo: None,
                answer: None,
            };
            let charge = self.apply(&commit).unwrap();
            assert!(charge.amount >= durable, "delivered and not charged");
        }
    }

    /// 3: everything open fits the balance as it was last seen, and what was signed.
    fn check_reservation(&self, reserve: &Reserve, reserved: Amount) {
        assert!(reserve.least <= reserved && reserved <= reserve.worst);
        let owner = self.rows.owner(&reserve.keys.owner).unwrap();
        let open = units(owner.held) + units(owner.due);
        // What is worth nothing may be reserved by anyone.
        if !reserved.is_zero() {
            assert!(open <= units(owner.view.unwrap().amount), "an overdraft");
            assert!(
                open <= units(self.credit.of(owner, self.now)),
                "above the payer's credit"
            );
        }
        assert!(owner.in_flight <= self.credit.in_flight_of(owner, self.now));
        if let Some(key) = reserve.keys.spender_key()
            && let Limit::Counter(counter) = &self.rows.spender(&key).unwrap().limit
        {
            let row = self.rows.spender(&key).unwrap();
            let drawn = units(counter.settled) + units(row.due) + units(row.held);
            assert!(
                reserved.is_zero() || drawn <= units(counter.ceiling),
                "above the signed budget"
            );
        }
    }

    /// The payer's permit: re-used while it lasts, signed anew where it does not.
    fn allowance(&mut self, payer: Address, worst: u64, byte: u8) -> (Authorization, B256) {
        let nonce = self
            .chain
            .latest
            .nonce
            .get(&payer)
            .copied()
            .unwrap_or_default();
        let key = SpenderKey {
            owner: OwnerKey {
                chain: CHAIN,
                token: TOKEN,
                owner: payer,
            },
            spender: SELLER,
        };
        let left = self.rows.spender(&key).map_or(0, |row| match &row.limit {
            Limit::Counter(counter) => units(counter.left(row.held, row.due)),
            Limit::Seen(_) => unreachable!("the seller's own allowance"),
        });
        let stale = self
            .permits
            .get(&payer)
            .is_none_or(|(permit, _)| permit.nonce < U256::from(nonce));
        let hasty = self.hostile && byte > 240;
        if self.permits.is_empty()
            || hasty
            || left < worst && stale
            || !self.permits.contains_key(&payer)
        {
            let value = 300 + u64::from(byte);
            self.ids += 1;
            let permit = Allowance {
                chain: CHAIN,
                token: TOKEN,
                owner: payer,
                spender: SELLER,
                value: Amount::from(value),
                nonce: U256::from(nonce),
                deadline: Timestamp(u64::MAX),
                signature: signature(),
            };
            let most = self
                .signed
                .entry(payer)
                .or_default()
                .entry(nonce)
                .or_default();
            *most = value.max(*most);
            self.permits
                .insert(payer, (permit, B256::from(U256::from(self.ids))));
        }
        let (permit, digest) = self.permits[&payer].clone();
        (Authorization::Allowance(permit), digest)
    }

    fn funds(&self, payer: Address, authorization: &Authorization) -> Funds {
        let state = &self.chain.latest;
        let of = |map: &BTreeMap<Address, u64>| map.get(&payer).copied().unwrap_or_default();
        Funds {
            block: self.chain.block,
            at: self.now,
            balance: Amount::from(of(&state.balance)),
            spender: match authorization {
                Authorization::Allowance(_) => SpenderFunds::Counter {
                    nonce: U256::from(of(&state.nonce)),
                    allowance: Amount::from(of(&state.allowance)),
                    counter: self.settler.then(|| Amount::from(of(&state.charged))),
                },
                Authorization::Once(_) | Authorization::Exact(Exact::Permit2(_)) => {
                    SpenderFunds::Seen {
                        allowance: Amount::MAX,
                    }
                }
                Authorization::Exact(Exact::Eip3009(_)) => SpenderFunds::None,
            },
        }
    }

    fn claim(&mut self, bytes: [u8; 4]) {
        let due = |id: &&PaymentId| {
            matches!(
                self.rows.payment(id).unwrap().state,
                PaymentState::Due { .. }
            )
        };
        let payments: Vec<_> = self
            .committed
            .iter()
            .filter(due)
            .take(usize::from(bytes[0] % 8) + 1)
            .map(|id| self.rows.payment(id).unwrap().keys)
            .collect();
        self.ids += 1;
        let signers = self.signers();
        let claim = Claim {
            batch: BatchId(self.ids),
            signer: signers[usize::from(bytes[1]) % signers.len()],
            settler: self.settler.then_some(SELLER),
            payments,
            undecided: if self.settler { 3 } else { 1 },
        };
        self.apply(&claim).unwrap();
    }

    /// Signs the oldest batch of an account that is not signed, or replaces one that is.
    fn seal(&mut self, bytes: [u8; 4]) {
        let signers = self.signers();
        let signer = signers[usize::from(bytes[0]) % signers.len()];
        let mut open: Vec<_> = self
            .batches()
            .filter(|batch| batch.signer == signer && !batch.concluded())
            .cloned()
            .collect();
        open.sort_by_key(|batch| batch.id);
        let unsigned = open.iter().find(|batch| batch.sent.is_empty());
        let replaced = open.get(usize::from(bytes[2]) % open.len().max(1));
        let Some(batch) = (if bytes[1] > 60 { unsigned } else { replaced }) else {
            return;
        };
        if batch.sent.is_empty() && unsigned.is_some_and(|oldest| oldest.id != batch.id) {
            return;
        }
        let worker = bytes[3] % 2;
        let term = self.terms.get(&(signer, worker)).copied().unwrap_or(0);
        let row = self.rows.signer(&signer).unwrap().clone();
        self.ids += 1;
        let seal = Seal {
            batch: batch.id,
            signer,
            term,
            instruction: Instruction {
                nonce: batch.nonce().unwrap_or(row.next_nonce),
                hash: B256::from(U256::from(self.ids)),
                raw: Bytes::new(),
                gas_price: batch.sent.last().map_or(100, |sent| sent.gas_price + 13),
                stored: self.now,
                sent: None,
                // What no node takes is replaced by what moves nothing.
                void: !batch.sent.is_empty() && bytes[1].is_multiple_of(8),
            },
        };
        let sealed = self.apply(&seal);
        if row.lease.map_or(0, |lease| lease.term) != term {
            assert_eq!(
                sealed,
                Err(Refusal::Deposed),
                "a worker signs in an old term"
            );
        } else if row.halt.is_some() && batch.sent.is_empty() {
            assert_eq!(sealed, Err(Refusal::Halted));
        } else {
            sealed.unwrap();
        }
    }

    /// One of two workers acquires an account, renews it, gives it up, or begins anew.
    fn lead(&mut self, bytes: [u8; 4]) {
        let signers = self.signers();
        let signer = signers[usize::from(bytes[0]) % signers.len()];
        let worker = bytes[1] % 2;
        let before = self.rows.signer(&signer).unwrap().lease.clone();
        let lead = Lead {
            signer,
            holder: u128::from(worker) + 1,
            seconds: u64::from(bytes[2] % 16),
            sole: bytes[3] > 240,
            chain_nonce: None,
        };
        let found = self.apply(&lead).unwrap();
        if let Some(term) = found.term_of(lead.holder) {
            self.terms.insert((signer, worker), term);
        }
        let term = |lease: Option<tollgate_payment::Lease>| lease.map_or(0, |lease| lease.term);
        assert!(term(before) <= term(found.lease), "terms rise");
    }

    /// Somebody stops an account, or a person lets it go on.
    fn halt(&mut self, bytes: [u8; 4]) {
        let signers = self.signers();
        let signer = signers[usize::from(bytes[0]) % signers.len()];
        if bytes[1].is_multiple_of(4) {
            let reason = "a stranger".to_owned();
            self.apply(&Stop { signer, reason }).unwrap();
        } else {
            self.resume(signer);
        }
    }

    fn resume(&mut self, signer: SignerKey) {
        let final_count = self.chain.finalized.sent.get(&signer).copied();
        let next = self.apply(&Resume {
            signer,
            chain_nonce: final_count.unwrap_or_default(),
        });
        assert_eq!(next, Ok(self.rows.signer(&signer).unwrap().next_nonce));
    }

    fn mine(&mut self, bytes: [u8; 4]) {
        let sealed: Vec<_> = self
            .batches()
            .filter(|batch| !batch.sent.is_empty())
            .cloned()
            .collect();
        // Also one that was mined before: its nonce is used up, and the chain does not take it.
        for batch in sealed
            .iter()
            .cycle()
            .skip(usize::from(bytes[0]))
            .take(sealed.len())
        {
            let reverts = self.settler && bytes[2] > 240;
            if self
                .chain
                .mine(batch, usize::from(bytes[1]) % batch.sent.len(), reverts)
            {
                break;
            }
        }
    }

    /// The worker looks for its transactions in blocks.
    fn note(&mut self, bytes: [u8; 4]) {
        let open: Vec<_> = self
            .batches()
            .filter(|batch| !batch.concluded() && !batch.sent.is_empty())
            .map(|batch| batch.id)
            .collect();
        let Some(id) = open.get(usize::from(bytes[0]) % open.len().max(1)) else {
            return;
        };
        let mut mined = self.chain.unfinal.iter().chain(&self.chain.decided);
        let at = mined.find_map(|mined| {
            let (_, hash) = mined.ours.filter(|(batch, _)| batch == id)?;
            Some((hash, mined.items == [ItemFate::Paid]))
        });
        let included = Included {
            batch: *id,
            at: at.map(|(hash, _)| (hash, self.chain.block)),
        };
        self.apply(&included).unwrap();
        let batch = self.rows.batch(id).unwrap().clone();
        if let (Some((hash, true)), true) = (at, Permitted::concerns(&batch)) {
            let permitted = Permitted {
                batch,
                at: (hash, self.chain.block),
                attempts: ATTEMPTS,
            };
            self.apply(&permitted).unwrap();
        }
    }

    /// A simulation says of a batch that is not signed that some of it would fail.
    fn rehearse(&mut self, bytes: [u8; 4]) {
        let claimed: Vec<_> = self
            .batches()
            .filter(|batch| batch.state == BatchState::Claimed)
            .cloned()
            .collect();
        let Some(batch) = claimed.get(usize::from(bytes[0]) % claimed.len().max(1)) else {
            return;
        };
        let items = (0..batch.items.len()).map(|item| {
            if (usize::from(bytes[1]) >> (item % 8)) % 2 == 0 {
                ItemFate::Untried
            } else {
                ItemFate::Deferred(LossReason::Refused)
            }
        });
        let conclude = Conclude {
            fate: Fate {
                transaction: None,
                block: 0,
                items: items.collect(),
            },
            batch: batch.clone(),
            attempts: ATTEMPTS,
        };
        let Concluded { paid, lost, .. } = self.apply(&conclude).unwrap();
        assert!(
            paid.is_empty() && lost.is_empty(),
            "a simulation decides nothing"
        );
    }

    /// Concludes any batch that the finalized chain has decided.
    fn conclude(&mut self, bytes: [u8; 4]) -> bool {
        if bytes[3] < 20 {
            self.rehearse(bytes);
        }
        let decided: Vec<_> = self
            .batches()
            .filter(|batch| !batch.concluded())
            .filter_map(|batch| {
                let nonce = batch.nonce()?;
                let mined = self
                    .chain
                    .decided
                    .iter()
                    .find(|mined| (mined.signer, mined.nonce) == (batch.signer, nonce))?;
                Some((batch.clone(), mined.clone()))
            })
            .collect();
        let Some((batch, mined)) = decided
            .get(usize::from(bytes[0]) % decided.len().max(1))
            .cloned()
        else {
            return false;
        };
        let fate = match mined.ours {
            Some((id, hash)) => {
                assert_eq!(id, batch.id, "an account's nonce is one batch's");
                Fate {
                    transaction: Some(hash),
                    block: self.chain.final_block,
                    items: mined.items,
                }
            }
            None => Fate {
                transaction: None,
                block: self.chain.final_block,
                items: batch
                    .items
                    .iter()
                    .map(|item| self.paid_by_another(item))
                    .collect(),
            },
        };
        let by_others: u64 = batch
            .items
            .iter()
            .zip(&fate.items)
            .filter(|(_, fate)| matches!(fate, ItemFate::PaidBy { .. }))
            .map(|(item, _)| units(item.amount()))
            .sum();
        let conclude = Conclude {
            batch: batch.clone(),
            fate,
            attempts: ATTEMPTS,
        };
        if batch.sent.len() > 1 {
            // What another worker asked the chain before the last one was signed.
            let mut stale = conclude.clone();
            stale.batch.sent.pop();
            assert_eq!(self.apply(&stale), Err(Refusal::Overtaken));
        }
        match self.apply(&conclude) {
            Ok(_) => {
                self.concluded_moves += mined.moved + by_others;
                let again = self.apply(&conclude);
                assert_eq!(again, Err(Refusal::Overtaken), "a batch is concluded once");
                true
            }
            // The batch before it on the same counter comes first.
            Err(Refusal::Overtaken) => false,
            Err(other) => panic!("{other:?}"),
        }
    }

    /// The fate of an item whose transaction can never be: perhaps a stranger submitted what it would have.
    fn paid_by_another(&self, item: &BatchItem) -> ItemFate {
        if let BatchItem::Exact {
            signed: Exact::Eip3009(signed),
            ..
        } = item
        {
            let key = (signed.owner, U256::from_be_bytes(signed.nonce.0));
            if let Some(Some(transaction)) = self.chain.finalized.burned.get(&key) {
                return ItemFate::PaidBy {
                    transaction: *transaction,
                    block: 0,
                };
            }
        }
        ItemFate::Again(LossReason::Refused)
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

    /// What payers and strangers do. The honest only let others submit what they signed.
    fn mischief(&mut self, bytes: [u8; 4]) {
        let payer = PAYERS[usize::from(bytes[0]) % PAYERS.len()];
        self.chain.block += 1;
        match bytes[1] % 6 {
            // A stranger sees the permit in a transaction of ours, and submits it first.
            0 => self.front_run(bytes),
            // A stranger submits a transfer that was signed to the seller.
            1 => self.submit(bytes),
            _ if !self.hostile => {}
            // The payer spends its money elsewhere.
            2 => drop(self.chain.latest.balance.insert(payer, u64::from(bytes[2]))),
            // It revokes the allowance.
            3 => drop(
                self.chain
                    .latest
                    .allowance
                    .insert(payer, u64::from(bytes[2] % 2) * 40),
            ),
            // It burns a nonce that it signed.
            4 => {
                let nonce = U256::from(u128::from(bytes[2] / 8));
                self.chain
                    .latest
                    .burned
                    .entry((payer, nonce))
                    .or_insert(None);
            }
            // Somebody has an operator's key.
            _ => {
                let signers = self.signers();
                self.chain
                    .foreign(signers[usize::from(bytes[2]) % signers.len()]);
            }
        }
    }

    fn front_run(&mut self, bytes: [u8; 4]) {
        let seen: Vec<_> = self
            .batches()
            .filter(|batch| !batch.sent.is_empty())
            .flat_map(|batch| &batch.items)
            .filter_map(|item| match item {
                BatchItem::Allowance { permit, .. } => permit.clone(),
                BatchItem::Permit { permit, .. } => Some(permit.clone()),
                BatchItem::Once { .. } | BatchItem::Exact { .. } => None,
            })
            .collect();
        if let Some(permit) = seen.get(usize::from(bytes[2]) % seen.len().max(1)) {
            let before = self.payments().any(|payment| {
                let generation = |key| match &self.rows.spender(&key).unwrap().limit {
                    Limit::Counter(counter) => counter.generation,
                    Limit::Seen(_) => 0,
                };
                matches!(
                    payment.state,
                    PaymentState::Due { .. } | PaymentState::Claimed { .. }
                ) && payment.keys.owner.owner == permit.owner
                    && payment
                        .keys
                        .spender_key()
                        .is_some_and(|key| payment.generation < generation(key))
            });
            if before && !self.early {
                return;
            }
            let nonce = u64::try_from(permit.nonce).unwrap();
            self.chain
                .latest
                .permit(permit.owner, nonce, units(permit.value));
        }
    }

    fn submit(&mut self, bytes: [u8; 4]) {
        let claimed: Vec<_> = self
            .batches()
            .filter(|batch| batch.state == BatchState::Sealed)
            .flat_map(|batch| &batch.items)
            .filter_map(|item| match item {
                BatchItem::Exact {
                    signed: Exact::Eip3009(signed),
                    ..
                } => Some(signed.clone()),
                _ => None,
            })
            .collect();
        let Some(signed) = claimed.get(usize::from(bytes[2]) % claimed.len().max(1)) else {
            return;
        };
        let key = (signed.owner, U256::from_be_bytes(signed.nonce.0));
        let state = &mut self.chain.latest;
        let balance = state
            .balance
            .get(&signed.owner)
            .copied()
            .unwrap_or_default();
        if let (Some(left), false) = (
            balance.checked_sub(units(signed.value)),
            state.burned.contains_key(&key),
        ) {
            state.balance.insert(signed.owner, left);
            state.treasury += units(signed.value);
            state.burned.insert(key, Some(B256::repeat_byte(0x77)));
            self.submitted.insert(key, units(signed.value));
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

fn signature() -> Signature65 {
    Signature65::new(B256::repeat_byte(1), B256::repeat_byte(2), false).unwrap()
}

fn once(payer: Address, nonce: U256, amount: u64) -> Authorization {
    Authorization::Once(Once {
        chain: CHAIN,
        token: TOKEN,
        owner: payer,
        amount: Amount::from(amount),
        spender: PERMIT2,
        nonce,
        deadline: Timestamp(u64::MAX),
        to: SELLER,
        facilitator: SELLER,
        valid_after: Timestamp(0),
        signature: signature(),
    })
}

fn permit2(payer: Address, nonce: U256, amount: u64) -> Authorization {
    Authorization::Exact(Exact::Permit2(Permit2Exact {
        chain: CHAIN,
        token: TOKEN,
        owner: payer,
        amount: Amount::from(amount),
        spender: PERMIT2,
        // Permit2's nonces are not the token's: kept apart in one map.
        nonce,
        deadline: Timestamp(u64::MAX),
        to: SELLER,
        valid_after: Timestamp(0),
        signature: signature(),
    }))
}

fn eip3009(payer: Address, nonce: U256, amount: u64) -> Authorization {
    Authorization::Exact(Exact::Eip3009(Eip3009 {
        chain: CHAIN,
        token: TOKEN,
        owner: payer,
        to: SELLER,
        value: Amount::from(amount),
        valid_after: Timestamp(0),
        valid_before: Timestamp(u64::MAX),
        // Far from Permit2's, so that one map can hold both.
        nonce: B256::from(nonce + (U256::from(1) << 200)),
        signature: signature(),
    }))
}
