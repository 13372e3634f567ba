//! What a reading of the chain is worth beside settlements that become final.

use tollgate_payment::{
    AuthorizationKey, BatchId, Command, Credit, CreditBound, ExposureKey, FundsBound, OwnerKey,
    PaymentKeys, Refusal, Rows, SignerKey,
    command::{
        Claim, Commit, Conclude, Fate, Funds, ItemFate, Reservation, Reserve, SpenderFunds, Unknown,
    },
};
use tollgate_x402::{
    Address, Amount, Authorization, B256, ChainId, Eip3009, Exact, PaymentId, Signature65,
    Timestamp, U256,
};

const TOKEN: Address = Address::repeat_byte(0x55);
const SELLER: Address = Address::repeat_byte(0x5e);
const OWNER: Address = Address::repeat_byte(0x01);

/// Whether waiting is all that is needed.
fn is_in_doubt(refused: &Refusal) -> bool {
    let bound = CreditBound::Settling;
    matches!(refused, Refusal::Limited { bound: of, .. } if *of == bound)
}

/// One payer and its seller.
struct World {
    rows: Rows,
    ids: u128,
    now: Timestamp,
    /// Through whom the payer pays.
    spender: Option<Address>,
}

impl World {
    fn new() -> Self {
        Self {
            spender: None,
            rows: Rows::default(),
            ids: 0,
            now: Timestamp(1_000_000),
        }
    }

    fn apply<C: Command>(&mut self, command: &C) -> Result<C::Outcome, Refusal> {
        let decision = command.decide(&self.rows, self.now)?;
        for row in decision.writes {
            self.rows.put(row);
        }
        Ok(decision.outcome)
    }

    /// What the chain says now, at this block.
    fn read(&self, block: u64, balance: u64) -> Option<Funds> {
        Some(Funds {
            block,
            at: self.now,
            balance: Amount::from(balance),
            spender: SpenderFunds::None,
        })
    }

    /// A payment of 60.
    fn ask(&mut self, funds: Option<Funds>) -> Result<(PaymentKeys, Reservation), Refusal> {
        self.ids += 1;
        let nonce = B256::from(U256::from(self.ids));
        let keys = PaymentKeys {
            id: PaymentId::from_random(self.ids.to_be_bytes()),
            owner: OwnerKey {
                chain: ChainId::DEV,
                token: TOKEN,
                owner: OWNER,
            },
            spender: self.spender,
            authorization: AuthorizationKey::Claim {
                chain: ChainId::DEV,
                verifying: TOKEN,
                owner: OWNER,
                nonce: U256::from_be_bytes(nonce.0),
            },
            exposure: ExposureKey {
                chain: ChainId::DEV,
                token: TOKEN,
                slice: 0,
            },
        };
        let one = B256::with_last_byte(1);
        let price = Amount::from(60u64);
        let reserve = Reserve {
            keys,
            authorization: Authorization::Exact(Exact::Eip3009(Eip3009 {
                chain: ChainId::DEV,
                token: TOKEN,
                owner: OWNER,
                to: SELLER,
                value: price,
                valid_after: Timestamp(0),
                valid_before: self.now.plus(3_600),
                nonce,
                signature: Signature65::new(one, one, false).unwrap(),
            })),
            digest: nonce,
            request: nonce,
            worst: price,
            least: price,
            identifier: None,
            memo: String::new(),
            epoch: 1,
            credit: Credit::for_dollar(Amount::from(1_000_000u64)),
            funds,
        };
        self.apply(&reserve).map(|reservation| (keys, reservation))
    }

    /// The payment is settled, finally, in this block.
    fn settle(&mut self, keys: PaymentKeys, block: u64) {
        let commit = Commit {
            keys,
            used: Some(Amount::from(60u64)),
            memo: None,
            answer: None,
        };
        self.apply(&commit).unwrap();
        self.ids += 1;
        let claim = Claim {
            batch: BatchId(self.ids),
            signer: SignerKey {
                chain: ChainId::DEV,
                operator: SELLER,
            },
            settler: Some(SELLER),
            payments: vec![keys],
            undecided: 8,
        };
        let batch = self.apply(&claim).unwrap().unwrap();
        let fate = Fate {
            transaction: Some(B256::ZERO),
            block,
            items: vec![ItemFate::Paid],
        };
        let conclude = Conclude {
            batch,
            fate,
            attempts: 4,
        };
        self.apply(&conclude).unwrap();
    }
}

#[test]
fn what_becomes_final_at_or_below_a_readings_block_is_held_against_it_until_no_fork_is_so_long() {
    let mut world = World::new();
    let (first, _) = world.ask(world.read(10, 100)).unwrap();
    // The block of the reading may be of a fork that was given up, in which the settlement was not.
    world.settle(first, 9);
    assert_eq!(world.ask(None).unwrap_err(), Refusal::FundsNeeded);
    // A node that stands still on a fork tells later readings too.
    world.now = world.now.plus(60);
    for block in [10, 12, 16] {
        let refused = world.ask(world.read(block, 100)).unwrap_err();
        assert!(is_in_doubt(&refused), "{block}: {refused:?}");
    }
    for (block, balance, sure) in [(10, 50, 0u64), (16, 59, 0), (17, 40, 40), (17, 59, 59)] {
        let refused = world.ask(world.read(block, balance)).unwrap_err();
        assert!(
            matches!(refused, Refusal::Insufficient { available, bound: FundsBound::Balance, .. } if available == Amount::from(sure)),
            "{block}: {refused:?}"
        );
    }
    let (_, reservation) = world.ask(world.read(17, 100)).unwrap();
    assert_eq!(reservation.reserved, Amount::from(60u64));
}

#[test]
fn a_payer_with_enough_for_both_is_not_looked_up_again() {
    let mut world = World::new();
    let (first, _) = world.ask(world.read(10, 120)).unwrap();
    world.settle(first, 9);
    world.ask(None).unwrap();
}

#[test]
fn a_reading_from_before_the_newest_final_settlement_counts_for_nothing() {
    let mut world = World::new();
    let (first, _) = world.ask(world.read(10, 1_000)).unwrap();
    world.settle(first, 20);
    world.now = world.now.plus(10);
    let late = world.read(15, 1_000);
    assert_eq!(world.ask(late).unwrap_err(), Refusal::FundsNeeded);
    world.ask(world.read(20, 940)).unwrap();
}

#[test]
fn what_a_spender_may_take_is_not_believed_from_before_the_newest_final_settlement() {
    let mut world = World::new();
    let permit2 = Some(SELLER);
    let approved = |funds: Option<Funds>, allowance: u64| {
        funds.map(|funds| Funds {
            spender: SpenderFunds::Seen {
                allowance: Amount::from(allowance),
            },
            ..funds
        })
    };
    world.spender = permit2;
    let funds = approved(world.read(10, 1_000), 100);
    let (first, _) = world.ask(funds).unwrap();
    world.settle(first, 20);
    world.now = world.now.plus(10);
    // Another of its payments, which Permit2 has no part in, shows the balance of now.
    world.spender = None;
    world.ask(world.read(20, 940)).unwrap();
    // A node that lags shows the approval as it was before the settlement.
    world.spender = permit2;
    let late = approved(world.read(15, 1_000), 100);
    assert_eq!(world.ask(late).unwrap_err(), Refusal::FundsNeeded);
    let funds = approved(world.read(28, 940), 40);
    let refused = world.ask(funds).unwrap_err();
    assert!(
        matches!(refused, Refusal::Insufficient { available, .. } if available == Amount::from(40u64)),
        "{refused:?}"
    );
}

#[test]
fn a_reading_from_before_a_settlement_became_final_may_not_have_it() {
    let mut world = World::new();
    let (first, _) = world.ask(world.read(10, 100)).unwrap();
    // Read before it became final, and brought in after.
    let raced = world.read(25, 100);
    world.settle(first, 20);
    let refused = world.ask(raced).unwrap_err();
    assert!(is_in_doubt(&refused), "{refused:?}");
}

#[test]
fn who_has_enough_if_the_last_blocks_stand_is_told_to_wait_and_not_to_pay_or_to_approve_more() {
    let mut world = World::new();
    world.spender = Some(SELLER);
    let told = |world: &World, block, balance, allowance: u64| {
        world.read(block, balance).map(|funds| Funds {
            spender: SpenderFunds::Seen {
                allowance: Amount::from(allowance),
            },
            ..funds
        })
    };
    let (first, _) = world.ask(told(&world, 10, 1_000, 1_000)).unwrap();
    world.settle(first, 20);
    for (balance, allowance) in [(60, 1_000), (1_000, 60), (119, 119)] {
        let refused = world.ask(told(&world, 27, balance, allowance));
        assert!(is_in_doubt(&refused.unwrap_err()), "{balance} {allowance}");
        let mut later = World {
            rows: world.rows.clone(),
            ..world
        };
        later.ask(told(&later, 28, balance, allowance)).unwrap();
    }
    for (balance, allowance) in [(59, 1_000), (1_000, 59)] {
        let refused = world.ask(told(&world, 27, balance, allowance)).unwrap_err();
        assert!(
            matches!(refused, Refusal::Insufficient { .. }),
            "{refused:?}"
        );
    }
}

#[test]
fn all_that_was_settled_in_the_last_blocks_is_held_against_a_reading_and_no_more() {
    let mut world = World::new();
    let mut payments = Vec::new();
    for _ in 0..4 {
        payments.push(world.ask(world.read(10, 1_000)).unwrap().0);
    }
    for (keys, block) in payments.into_iter().zip([11, 18, 18, 20]) {
        world.settle(keys, block);
    }
    // The three since block 12 are 180.
    assert!(world.ask(world.read(20, 239)).is_err());
    world.ask(world.read(20, 240)).unwrap();
}

#[test]
fn a_reading_by_a_clock_that_is_fast_is_good_for_no_longer_than_any_other() {
    let mut world = World::new();
    let view_age = Credit::for_dollar(Amount::from(1_000_000u64)).view_age;
    let fast = world.read(10, 1_000).map(|funds| Funds {
        at: world.now.plus(120),
        ..funds
    });
    world.ask(fast).unwrap();
    world.now = world.now.plus(view_age);
    world.ask(None).unwrap();
    world.now = world.now.plus(1);
    assert_eq!(world.ask(None).unwrap_err(), Refusal::FundsNeeded);
}

#[test]
fn what_was_reconciled_is_held_against_readings_from_before_it() {
    let mut world = World::new();
    let (known, _) = world.ask(world.read(10, 1_000)).unwrap();
    let unknown = Unknown {
        keys: PaymentKeys {
            id: PaymentId::from_random([9; 16]),
            ..known
        },
        amount: Amount::from(60u64),
        interval: None,
        transaction: B256::ZERO,
        block: 20,
        memo: String::new(),
        signed: None,
    };
    assert_eq!(world.apply(&unknown), Ok(true));
    // 60 are held by the first, and 60 were moved in block 20.
    let late = world.read(19, 1_000);
    assert_eq!(world.ask(late).unwrap_err(), Refusal::FundsNeeded);
    let doubted = world.ask(world.read(27, 179)).unwrap_err();
    assert!(is_in_doubt(&doubted), "{doubted:?}");
    world.ask(world.read(28, 179)).unwrap();
}
