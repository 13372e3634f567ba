//! What goes into one batch.

use tollgate_payment::{
    AuthorizationKey, BatchId, BatchItem, BatchRow, BatchState, Command, Credit, ExposureKey,
    Limit, LossReason, OwnerKey, PaymentKeys, PaymentState, Refusal, Row, Rows, SignerKey,
    command::{
        Charge, Claim, Commit, Conclude, Fate, Funds, ItemFate, Permitted, Reserve, SpenderFunds,
    },
};
use tollgate_x402::{
    Address, Allowance, Amount, Authorization, B256, ChainId, PaymentId, Signature65, Timestamp,
    U256,
};

const NOW: Timestamp = Timestamp(1_000);
const TOKEN: Address = Address::repeat_byte(0x55);
const SELLER: Address = Address::repeat_byte(0x5e);

fn amount(units: u64) -> Amount {
    Amount::from(units)
}

/// The books, and the commands that were carried out on them.
#[derive(Default)]
struct Ledger {
    rows: Rows,
    ids: u128,
    /// The block that nodes tell of.
    block: u64,
}

impl Ledger {
    fn apply<C: Command>(&mut self, command: &C) -> C::Outcome {
        let decision = command.decide(&self.rows, NOW).unwrap();
        for row in decision.writes {
            self.rows.put(row);
        }
        decision.outcome
    }

    /// A charge of one unit, of this payer's permit of this nonce, which the chain does not have.
    fn charge(&mut self, payer: u8, nonce: u64) -> PaymentKeys {
        self.charge_of(payer, nonce, 1)
    }

    fn charge_of(&mut self, payer: u8, nonce: u64, units: u64) -> PaymentKeys {
        self.charge_signed(payer, nonce, units, 100)
    }

    /// The same, of a permit of so much.
    fn charge_signed(&mut self, payer: u8, nonce: u64, units: u64, value: u64) -> PaymentKeys {
        let reserve = self.ask(payer, nonce, units, value);
        self.apply(&reserve);
        self.commit(reserve.keys, units);
        reserve.keys
    }

    fn commit(&mut self, keys: PaymentKeys, units: u64) -> Charge {
        self.apply(&Commit {
            keys,
            used: Some(amount(units)),
            memo: None,
            answer: None,
        })
    }

    /// A request with a permit of so much, by a payer whose nonce this is at the chain.
    fn ask(&mut self, payer: u8, nonce: u64, units: u64, value: u64) -> Reserve {
        self.ids += 1;
        let owner = OwnerKey {
            chain: ChainId::DEV,
            token: TOKEN,
            owner: Address::repeat_byte(payer),
        };
        let digest = B256::from(U256::from((value * 1_000 + u64::from(payer)) * 100 + nonce));
        let one = B256::with_last_byte(1);
        let keys = PaymentKeys {
            id: PaymentId::from_random(self.ids.to_be_bytes()),
            owner,
            spender: Some(SELLER),
            authorization: AuthorizationKey::Permit {
                chain: ChainId::DEV,
                digest,
            },
            exposure: ExposureKey {
                chain: ChainId::DEV,
                token: TOKEN,
                slice: 0,
            },
        };
        let funds = Funds {
            block: self.block,
            at: NOW,
            balance: amount(1_000_000),
            spender: SpenderFunds::Counter {
                nonce: U256::from(nonce),
                allowance: amount(50),
                counter: Some(Amount::ZERO),
            },
        };
        Reserve {
            keys,
            authorization: Authorization::Allowance(Allowance {
                chain: ChainId::DEV,
                token: TOKEN,
                owner: owner.owner,
                spender: SELLER,
                value: amount(value),
                nonce: U256::from(nonce),
                deadline: NOW.plus(3_600),
                signature: Signature65::new(one, one, false).unwrap(),
            }),
            digest,
            request: B256::ZERO,
            worst: amount(units),
            least: amount(units),
            identifier: None,
            memo: String::new(),
            epoch: 1,
            credit: Credit::for_dollar(amount(1_000_000)),
            funds: Some(funds),
        }
    }

    fn claim(&mut self, payments: Vec<PaymentKeys>) -> Vec<BatchItem> {
        self.claim_by(Some(SELLER), payments)
    }

    fn claim_by(&mut self, settler: Option<Address>, payments: Vec<PaymentKeys>) -> Vec<BatchItem> {
        self.ids += 1;
        let claim = Claim {
            batch: BatchId(self.ids),
            signer: SignerKey {
                chain: ChainId::DEV,
                operator: SELLER,
            },
            settler,
            payments,
            undecided: if settler.is_some() { 8 } else { 1 },
        };
        self.apply(&claim).map_or(Vec::new(), |batch| batch.items)
    }

    /// Concludes the last batch, every item like this.
    fn conclude(&mut self, fate: ItemFate) {
        self.conclude_batch(BatchId(self.ids), fate);
    }

    fn conclude_batch(&mut self, batch: BatchId, fate: ItemFate) {
        let batch = self.rows.batch(&batch).unwrap().clone();
        let fate = Fate {
            transaction: Some(B256::ZERO),
            block: 2,
            items: vec![fate; batch.items.len()],
        };
        self.apply(&Conclude {
            batch,
            fate,
            attempts: 4,
        });
    }

    fn due(&self, keys: &PaymentKeys) -> bool {
        let row = self.rows.payment(&keys.id).unwrap();
        matches!(row.state, PaymentState::Due { .. })
    }
}

#[test]
fn a_batch_has_as_many_items_as_the_settler_takes_and_the_rest_stays_due() {
    let mut ledger = Ledger::default();
    let payments: Vec<_> = (1..=60).map(|payer| ledger.charge(payer, 0)).collect();
    assert_eq!(ledger.claim(payments.clone()).len(), 50);
    let rest: Vec<_> = payments
        .iter()
        .filter(|keys| ledger.due(keys))
        .copied()
        .collect();
    assert_eq!(rest.len(), 10);
    assert_eq!(ledger.claim(rest).len(), 10, "their counters are not taken");
}

#[test]
fn a_permit_is_shown_after_the_charges_before_it_are_final() {
    let mut ledger = Ledger::default();
    let first = ledger.charge(1, 0);
    // The payer submits the first permit by itself, and signs the next.
    let second = ledger.charge(1, 1);
    let items = ledger.claim(vec![first, second]);
    let [
        BatchItem::Allowance {
            permit: None,
            payments,
            ..
        },
    ] = items.as_slice()
    else {
        panic!("{items:?}")
    };
    assert_eq!(*payments, [first]);
    assert!(ledger.due(&second));
    assert!(
        ledger.claim(vec![second]).is_empty(),
        "not beside it either"
    );
    ledger.ids -= 1;
    ledger.conclude(ItemFate::Paid);
    let items = ledger.claim(vec![second]);
    assert!(matches!(
        items.as_slice(),
        [BatchItem::Allowance {
            permit: Some(_),
            ..
        }]
    ));
}

#[test]
fn a_charge_that_failed_takes_along_the_permit_that_it_was_made_on() {
    let mut ledger = Ledger::default();
    let first = ledger.charge(1, 0);
    // The chain has the first permit, the payer signs the next; then a reorganization takes the first one out.
    let _second = ledger.charge(1, 1);
    let permits = |items: &[BatchItem]| -> Vec<Option<U256>> {
        items
            .iter()
            .map(|item| match item {
                BatchItem::Allowance { permit, .. } => permit.as_ref().map(|permit| permit.nonce),
                other => panic!("{other:?}"),
            })
            .collect()
    };
    let items = ledger.claim(vec![first]);
    assert_eq!(permits(&items), [None]);
    ledger.conclude(ItemFate::Again(tollgate_payment::LossReason::Allowance));
    let items = ledger.claim(vec![first]);
    assert_eq!(permits(&items), [Some(U256::ZERO)]);
}

/// An item, as the nonce of the permit in it and what it settles; alone or beside a draw.
fn told(items: &[BatchItem]) -> Vec<(&'static str, Option<U256>, Vec<PaymentKeys>)> {
    items
        .iter()
        .map(|item| match item {
            BatchItem::Allowance {
                permit, payments, ..
            } => (
                "draw",
                permit.as_ref().map(|permit| permit.nonce),
                payments.clone(),
            ),
            BatchItem::Permit {
                permit, payments, ..
            } => ("permit", Some(permit.nonce), payments.clone()),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_permit_that_a_reorganization_took_out_goes_in_again_from_a_plain_account_and_once_a_failure() {
    let mut ledger = Ledger::default();
    let first = ledger.charge(1, 0);
    // The chain has the first permit, the payer signs the next; then a reorganization takes the first one out.
    let second = ledger.charge(1, 1);
    let both = vec![first, second];
    let again = ItemFate::Again(tollgate_payment::LossReason::Allowance);
    let (zero, one) = (U256::ZERO, U256::from(1));
    for (item, nonce, payment, fate) in [
        ("draw", None, first, again),
        ("permit", Some(zero), first, ItemFate::Paid),
        ("draw", None, first, again),
        ("permit", Some(zero), first, ItemFate::Paid),
        ("draw", None, first, ItemFate::Paid),
        ("permit", Some(one), second, ItemFate::Paid),
        ("draw", None, second, ItemFate::Paid),
    ] {
        let items = ledger.claim_by(None, both.clone());
        assert_eq!(told(&items), [(item, nonce, vec![payment])]);
        ledger.conclude(fate);
    }
    assert!(ledger.claim_by(None, both).is_empty());
}

#[test]
fn what_waits_for_a_permit_of_its_own_transaction_is_drawn_once_that_is_in_a_block() {
    for (end, then) in [
        (ItemFate::Paid, "draw"),
        // It was in a block, and in the end in none: the next charge takes it along again.
        (ItemFate::Again(LossReason::Refused), "permit"),
    ] {
        let mut ledger = Ledger::default();
        let first = ledger.charge(1, 0);
        let items = ledger.claim_by(None, vec![first]);
        assert_eq!(told(&items), [("permit", Some(U256::ZERO), vec![first])]);
        let permit = BatchId(ledger.ids);
        let mut batch = ledger.rows.batch(&permit).unwrap().clone();
        let at = (B256::ZERO, 2);
        let permitted = |batch: &BatchRow, block| Permitted {
            batch: batch.clone(),
            at: (B256::ZERO, block),
            attempts: 4,
        };
        let early = permitted(&batch, 2);
        assert_eq!(
            early.decide(&ledger.rows, NOW).unwrap_err(),
            Refusal::Overtaken,
            "it is in no block"
        );

        batch.state = BatchState::Included {
            transaction: at.0,
            block: at.1,
        };
        ledger.rows.put(Row::Batch(batch.clone()));
        assert!(Permitted::concerns(&batch));
        assert_eq!(
            permitted(&batch, 1).decide(&ledger.rows, NOW).unwrap_err(),
            Refusal::Overtaken,
            "it is in another block"
        );
        let last = Permitted {
            attempts: 1,
            ..permitted(&batch, 2)
        };
        ledger.apply(&last);
        assert!(!ledger.due(&first), "its next failure would be its last");
        ledger.apply(&permitted(&batch, 2));
        assert!(ledger.due(&first));
        assert!(!Permitted::concerns(ledger.rows.batch(&permit).unwrap()));
        assert_eq!(
            permitted(&batch, 2).decide(&ledger.rows, NOW).unwrap_err(),
            Refusal::Overtaken,
            "and nothing is let go of twice"
        );

        // Both are under way: the draw has the nonce after the permit's, and the counter is the draw's alone.
        let second = ledger.charge(1, 0);
        let items = ledger.claim_by(None, vec![first]);
        assert_eq!(told(&items), [("draw", None, vec![first])]);
        let draw = BatchId(ledger.ids);
        assert!(ledger.claim_by(None, vec![second]).is_empty());
        ledger.conclude_batch(permit, end);
        assert!(ledger.claim_by(None, vec![second]).is_empty());
        ledger.conclude_batch(draw, ItemFate::Paid);
        let items = ledger.claim_by(None, vec![second]);
        assert!(matches!(told(&items).as_slice(), [(item, ..)] if *item == then));
    }
}

#[test]
fn a_permit_that_a_batch_has_shown_is_not_replaced_by_another_of_its_nonce_before_that_is_concluded()
 {
    let mut ledger = Ledger::default();
    let first = ledger.charge(1, 0);
    ledger.claim_by(None, vec![first]);
    let permit = BatchId(ledger.ids);
    let mut batch = ledger.rows.batch(&permit).unwrap().clone();
    let (transaction, block) = (B256::ZERO, 2);
    batch.state = BatchState::Included { transaction, block };
    ledger.rows.put(Row::Batch(batch.clone()));
    ledger.apply(&Permitted {
        batch,
        at: (transaction, block),
        attempts: 4,
    });
    // A reorganization takes it out: the draw fails, and the payer signs for more under the nonce that the chain shows.
    ledger.claim_by(None, vec![first]);
    ledger.conclude(ItemFate::Deferred(LossReason::Allowance));
    let ceiling = |ledger: &Ledger| {
        let key = first.spender_key().unwrap();
        match &ledger.rows.spender(&key).unwrap().limit {
            Limit::Counter(counter) => counter.ceiling,
            Limit::Seen(_) => panic!("an allowance has a counter"),
        }
    };
    assert_eq!(ceiling(&ledger), amount(100));
    ledger.charge_signed(1, 0, 1, 150);
    assert_eq!(
        ceiling(&ledger),
        amount(100),
        "the old one is still on its way"
    );
    assert!(
        ledger.claim_by(None, vec![first]).is_empty(),
        "and is not sent twice"
    );
    ledger.conclude_batch(permit, ItemFate::Again(LossReason::Refused));
    // Nor is a node that stands still believed, which may be of the fork without it.
    for (block, known) in [(9, 100), (10, 150)] {
        ledger.block = block;
        ledger.charge_signed(1, 0, 1, 150);
        assert_eq!(ceiling(&ledger), amount(known), "{block}");
    }
}

#[test]
fn what_a_node_that_is_behind_says_of_a_nonce_is_not_believed() {
    let mut ledger = Ledger {
        block: 20,
        ..Ledger::default()
    };
    ledger.charge(1, 0);
    let greater = ledger.ask(1, 0, 1, 150);
    for (block, believed) in [(19, false), (20, true)] {
        let mut ask = greater.clone();
        ask.funds.as_mut().unwrap().block = block;
        let decided = ask.decide(&ledger.rows, NOW).map(drop);
        let expected = believed.then_some(()).ok_or(Refusal::FundsNeeded);
        assert_eq!(decided, expected, "{block}");
    }
}

#[test]
fn what_is_left_is_told_of_the_permit_that_was_shown() {
    let mut ledger = Ledger::default();
    for (value, units, left) in [(100, 20, 80), (30, 5, 5), (100, 0, 75), (30, 5, 0)] {
        let ask = ledger.ask(1, 0, units, value);
        ledger.apply(&ask);
        let charge = ledger.commit(ask.keys, units);
        assert_eq!(charge.left, amount(left), "{value} less {units}");
    }
}

#[test]
fn permits_that_a_reorganization_took_out_go_in_again_in_their_order() {
    let again = ItemFate::Again(tollgate_payment::LossReason::Allowance);
    for settler in [None, Some(SELLER)] {
        let mut ledger = Ledger::default();
        // Each is signed when the chain has the one before it, which stays in no block.
        let charges: Vec<_> = (0..3).map(|nonce| ledger.charge(1, nonce)).collect();
        assert_eq!(ledger.claim_by(settler, charges.clone()).len(), 1);
        ledger.conclude(again);
        for (nonce, charge) in charges.iter().enumerate() {
            let nonce = Some(U256::from(nonce));
            let items = ledger.claim_by(settler, charges.clone());
            if settler.is_none() {
                assert_eq!(told(&items), [("permit", nonce, vec![*charge])]);
                ledger.conclude(ItemFate::Paid);
                let items = ledger.claim_by(settler, charges.clone());
                assert_eq!(told(&items), [("draw", None, vec![*charge])]);
            } else {
                assert_eq!(told(&items), [("draw", nonce, vec![*charge])]);
            }
            ledger.conclude(ItemFate::Paid);
        }
    }
}

#[test]
fn a_lost_charge_keeps_no_later_permit_waiting() {
    let mut ledger = Ledger::default();
    let charges: Vec<_> = (0..3).map(|nonce| ledger.charge(1, nonce)).collect();
    let allowance = tollgate_payment::LossReason::Allowance;
    assert_eq!(ledger.claim(charges.clone()).len(), 1);
    // Whether the chain has any of their permits is in doubt from here on.
    ledger.conclude(ItemFate::Again(allowance));
    for (nonce, charge) in charges.iter().enumerate() {
        let items = ledger.claim(charges.clone());
        let nonce = Some(U256::from(nonce));
        assert_eq!(told(&items), [("draw", nonce, vec![*charge])]);
        ledger.conclude(ItemFate::Lost(allowance));
    }
}

#[test]
fn charges_that_fail_together_twice_are_items_of_their_own() {
    let mut ledger = Ledger::default();
    let payments = vec![ledger.charge(1, 0), ledger.charge(1, 0)];
    for items in [1, 1, 2] {
        assert_eq!(ledger.claim(payments.clone()).len(), items);
        ledger.conclude(ItemFate::Again(tollgate_payment::LossReason::Balance));
    }
}

#[test]
fn what_was_not_tried_or_cannot_be_now_is_never_lost_by_it() {
    let mut ledger = Ledger::default();
    let payments = vec![ledger.charge(1, 0)];
    for fate in [
        ItemFate::Untried,
        ItemFate::Wait(tollgate_payment::LossReason::Frozen),
        ItemFate::Deferred(tollgate_payment::LossReason::Balance),
        ItemFate::Parted(tollgate_payment::LossReason::Refused),
    ] {
        for _ in 0..20 {
            assert_eq!(ledger.claim(payments.clone()).len(), 1);
            ledger.conclude(fate);
        }
    }
    assert!(ledger.due(&payments[0]));
}

#[test]
fn a_batch_that_reverted_as_a_whole_goes_in_halves() {
    let mut ledger = Ledger::default();
    let payments: Vec<_> = (1..=50).map(|payer| ledger.charge(payer, 0)).collect();
    for items in [50, 25, 13, 7, 4, 2, 1, 1] {
        assert_eq!(ledger.claim(payments.clone()).len(), items);
        ledger.conclude(ItemFate::Parted(tollgate_payment::LossReason::Refused));
    }
}

#[test]
fn what_the_payer_has_is_settled_at_the_last_time_and_the_rest_is_lost() {
    for refilled in [false, true] {
        let mut ledger = Ledger::default();
        let keys = ledger.charge_of(1, 0, 5);
        let short = |available| ItemFate::Short {
            available: amount(available),
            reason: tollgate_payment::LossReason::Balance,
        };
        for _ in 0..4 {
            assert_eq!(ledger.claim(vec![keys])[0].amount(), amount(5));
            ledger.conclude(short(3));
            assert!(ledger.due(&keys));
        }
        let row = ledger.rows.payment(&keys.id).unwrap();
        assert_eq!((row.charge, row.short), (amount(3), amount(2)));
        let owner = ledger.rows.owner(&keys.owner).unwrap();
        assert_eq!((owner.due, owner.lost), (amount(3), amount(2)));
        assert_eq!(ledger.claim(vec![keys])[0].amount(), amount(3));
        // Parted once: a payer cannot make it go on for ever, unit by unit.
        ledger.conclude(if refilled { ItemFate::Paid } else { short(2) });
        let owner = ledger.rows.owner(&keys.owner).unwrap();
        let lost = if refilled { 2 } else { 5 };
        assert_eq!((owner.due, owner.lost), (Amount::ZERO, amount(lost)));
        let state = &ledger.rows.payment(&keys.id).unwrap().state;
        assert_eq!(matches!(state, PaymentState::Final { .. }), refilled);
    }
}
