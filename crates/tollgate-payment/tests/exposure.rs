//! What all payers together can owe and never pay, however many addresses they have.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tollgate_payment::{
    AuthorizationKey, BatchId, Command, Credit, CreditBound, ExposureKey, LossReason, OwnerKey,
    PaymentKeys, Refusal, Rows, SignerKey,
    command::{Claim, Commit, Conclude, Fate, Funds, ItemFate, Reserve, SpenderFunds},
};
use tollgate_x402::{
    Address, Amount, Authorization, B256, ChainId, Eip3009, Exact, PaymentId, Signature65,
    Timestamp, U256,
};

const TOKEN: Address = Address::repeat_byte(0x55);
const SELLER: Address = Address::repeat_byte(0x5e);
const START: Timestamp = Timestamp(1_000_000);
/// A dollar has so many units here.
const DOLLAR: u64 = 1_000;

fn amount(units: u64) -> Amount {
    Amount::from(units)
}

fn units(amount: Amount) -> u64 {
    u64::try_from(amount.get()).unwrap()
}

/// One identity's account with the seller.
#[derive(Default, Clone, Debug)]
struct Identity {
    open: Vec<(PaymentKeys, u64)>,
    paid: u64,
    lost: u64,
}

impl Identity {
    fn open(&self) -> u64 {
        self.open.iter().map(|(_, charge)| charge).sum()
    }

    /// What it was served and has not paid.
    fn owes(&self) -> u64 {
        self.open() + self.lost
    }
}

struct World {
    rows: Rows,
    credit: Credit,
    ids: u128,
    who: BTreeMap<u8, Identity>,
    now: Timestamp,
}

impl World {
    fn new() -> Self {
        Self {
            rows: Rows::default(),
            credit: Credit::for_dollar(amount(DOLLAR)),
            ids: 0,
            who: BTreeMap::new(),
            now: START,
        }
    }

    fn apply<C: Command>(&mut self, command: &C) -> Result<C::Outcome, Refusal> {
        let decision = command.decide(&self.rows, self.now)?;
        for row in decision.writes {
            self.rows.put(row);
        }
        Ok(decision.outcome)
    }

    /// A request of this worth, served if it is admitted.
    fn ask(&mut self, who: u8, worth: u64) -> bool {
        self.reserve(who, worth).is_ok()
    }

    fn reserve(&mut self, who: u8, worth: u64) -> Result<(), Refusal> {
        self.ids += 1;
        let owner = Address::with_last_byte(who);
        let nonce = B256::from(U256::from(self.ids));
        let keys = PaymentKeys {
            id: PaymentId::from_random(self.ids.to_be_bytes()),
            owner: OwnerKey {
                chain: ChainId::DEV,
                token: TOKEN,
                owner,
            },
            spender: None,
            authorization: AuthorizationKey::Claim {
                chain: ChainId::DEV,
                verifying: TOKEN,
                owner,
                nonce: U256::from_be_bytes(nonce.0),
            },
            exposure: ExposureKey {
                chain: ChainId::DEV,
                token: TOKEN,
                slice: 0,
            },
        };
        let one = B256::with_last_byte(1);
        let signed = Eip3009 {
            chain: ChainId::DEV,
            token: TOKEN,
            owner,
            to: SELLER,
            value: amount(worth),
            valid_after: Timestamp(0),
            valid_before: self.now.plus(3_600),
            nonce,
            signature: Signature65::new(one, one, false).unwrap(),
        };
        let reserve = Reserve {
            keys,
            authorization: Authorization::Exact(Exact::Eip3009(signed)),
            digest: nonce,
            request: nonce,
            worst: amount(worth),
            least: amount(worth),
            identifier: None,
            memo: String::new(),
            epoch: 1,
            credit: self.credit.clone(),
            funds: Some(Funds {
                block: u64::try_from(self.ids).unwrap(),
                at: self.now,
                balance: amount(1_000_000),
                spender: SpenderFunds::None,
            }),
        };
        self.apply(&reserve)?;
        let commit = Commit {
            keys,
            used: Some(amount(worth)),
            memo: None,
            answer: None,
        };
        let charge = units(self.apply(&commit).unwrap().amount);
        self.who.entry(who).or_default().open.push((keys, charge));
        Ok(())
    }

    /// The oldest of what is open is paid, or made unpayable.
    fn conclude(&mut self, who: u8, pays: bool) {
        let identity = self.who.entry(who).or_default();
        if identity.open.is_empty() {
            return;
        }
        let (keys, charge) = identity.open.remove(0);
        if pays {
            identity.paid += charge;
        } else {
            identity.lost += charge;
        }
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
        let fate = if pays {
            ItemFate::Paid
        } else {
            ItemFate::Lost(LossReason::Nonce)
        };
        let fate = Fate {
            transaction: Some(B256::ZERO),
            block: u64::try_from(self.ids).unwrap(),
            items: vec![fate],
        };
        let conclude = Conclude {
            batch,
            fate,
            attempts: 4,
        };
        self.apply(&conclude).unwrap();
    }

    fn check(&self) {
        let mut above = 0;
        for (who, identity) in &self.who {
            let credit = identity.paid.clamp(DOLLAR / 10, DOLLAR * 10);
            assert!(
                identity.owes() <= credit,
                "{who} owes {} on a credit of {credit}",
                identity.owes()
            );
            above += identity.owes().saturating_sub(identity.paid);
        }
        let bound = units(self.credit.exposure);
        assert!(
            above <= bound,
            "{above} above what was paid before, of {bound}"
        );
    }
}

#[derive(Clone, Copy, Debug)]
enum Move {
    Ask(u8, u64),
    Pay(u8),
    Void(u8),
    /// Asks, and makes it unpayable before anything else happens.
    Steal(u8, u64),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        4 => (0..200_u8, 1..150_u64).prop_map(|(who, worth)| Move::Ask(who, worth)),
        // A few that farm.
        4 => (0..6_u8, 1..400_u64).prop_map(|(who, worth)| Move::Ask(who, worth)),
        3 => (0..6_u8).prop_map(Move::Pay),
        1 => (0..200_u8).prop_map(Move::Void),
        6 => (0..200_u8, 50..150_u64).prop_map(|(who, worth)| Move::Steal(who, worth)),
    ];
    proptest::collection::vec(one, 100..500)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn however_many_addresses_farm_and_steal_they_take_no_more_than_the_bound_above_what_they_paid(
        moves in moves()
    ) {
        let mut world = World::new();
        for one in moves {
            match one {
                Move::Ask(who, worth) => {
                    world.ask(who, worth);
                }
                Move::Pay(who) => world.conclude(who, true),
                Move::Void(who) => world.conclude(who, false),
                Move::Steal(who, worth) => {
                    world.ask(who, worth);
                    world.conclude(who, false);
                }
            }
            world.check();
        }
    }
}

#[test]
fn what_one_address_did_not_pay_is_not_lent_to_the_next() {
    let mut world = World::new();
    let mut stolen = 0;
    for who in 0..200 {
        if world.ask(who, DOLLAR / 10) {
            stolen += DOLLAR / 10;
            world.conclude(who, false);
        }
    }
    assert_eq!(stolen, units(world.credit.exposure));
}

#[test]
fn what_was_lost_counts_for_thirty_days() {
    let mut world = World::new();
    for who in 0..50 {
        assert!(world.ask(who, DOLLAR / 10));
        world.conclude(who, false);
    }
    assert!(!world.ask(100, 1));
    world.now = START.plus(28 * 86_400);
    assert!(!world.ask(101, 1));
    world.now = START.plus(30 * 86_400);
    assert!(world.ask(102, DOLLAR / 10));
}

#[test]
fn a_payer_with_a_history_is_served_when_the_bound_is_used_up_by_others() {
    let mut world = World::new();
    for _ in 0..3 {
        assert!(world.ask(200, DOLLAR / 10));
        world.conclude(200, true);
    }
    for who in 0..50 {
        world.ask(who, DOLLAR / 10);
        world.conclude(who, false);
    }
    assert!(!world.ask(100, 1), "the bound is used up");
    assert!(
        world.ask(200, 3 * DOLLAR / 10),
        "and its own history is its own"
    );
}

#[test]
fn who_is_lent_no_more_is_told_whether_it_helps_to_wait() {
    let mut world = World::new();
    let bound = |world: &mut World, worth| match world.reserve(1, worth) {
        Err(Refusal::Limited { bound, .. }) => Some(bound),
        Ok(()) => None,
        Err(other) => panic!("{other}"),
    };
    let floor = DOLLAR / 10;
    // Nothing is open, so nothing that is waited for makes room.
    assert_eq!(bound(&mut world, floor + 1), Some(CreditBound::Request));
    assert_eq!(bound(&mut world, floor), None);
    assert_eq!(bound(&mut world, 1), Some(CreditBound::Payer));
    assert_eq!(bound(&mut world, floor + 1), Some(CreditBound::Request));
    world.conclude(1, true);
    assert_eq!(bound(&mut world, 1), None);
}
