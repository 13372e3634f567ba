//! A payment that its payer voids while it is served.

use tollgate_payment::{
    AuthorizationKey, Command, Credit, ExposureKey, FundsBound, OwnerKey, PaymentKeys,
    PaymentState, Refusal, Rows,
    command::{Block, Checkpoint, Commit, Funds, Notice, Reserve, SpenderFunds, Standing, Voided},
};
use tollgate_x402::{
    Address, Allowance, Amount, Authorization, B256, ChainId, Once, PaymentId, Signature65,
    Timestamp, U256,
};

use proptest::prelude::*;

const NOW: Timestamp = Timestamp(1_000);
const TOKEN: Address = Address::repeat_byte(0x55);
const SELLER: Address = Address::repeat_byte(0x5e);
const PERMIT2: Address = Address::repeat_byte(0x22);
const OWNER: OwnerKey = OwnerKey {
    chain: ChainId::DEV,
    token: TOKEN,
    owner: Address::repeat_byte(1),
};

fn amount(units: u64) -> Amount {
    Amount::from(units)
}

#[derive(Default)]
struct Ledger {
    rows: Rows,
    ids: u128,
}

impl Ledger {
    fn apply<C: Command>(&mut self, command: &C) -> Result<C::Outcome, Refusal> {
        let decision = command.decide(&self.rows, NOW)?;
        for row in decision.writes {
            self.rows.put(row);
        }
        Ok(decision.outcome)
    }

    /// Reserves for a payer who has this much.
    fn serve(&mut self, once: bool, worst: u64, funds: Funds) -> Result<PaymentKeys, Refusal> {
        self.ids += 1;
        let signature =
            Signature65::new(B256::with_last_byte(1), B256::with_last_byte(1), false).unwrap();
        let digest = B256::with_last_byte(7);
        let authorization = if once {
            Authorization::Once(Once {
                chain: ChainId::DEV,
                token: TOKEN,
                owner: OWNER.owner,
                amount: amount(worst),
                spender: SELLER,
                nonce: U256::from(self.ids),
                deadline: NOW.plus(3_600),
                to: SELLER,
                facilitator: SELLER,
                valid_after: Timestamp(0),
                signature,
            })
        } else {
            Authorization::Allowance(Allowance {
                chain: ChainId::DEV,
                token: TOKEN,
                owner: OWNER.owner,
                spender: SELLER,
                value: amount(1_000),
                nonce: U256::ZERO,
                deadline: NOW.plus(3_600),
                signature,
            })
        };
        let keys = PaymentKeys {
            id: PaymentId::from_random(self.ids.to_be_bytes()),
            owner: OWNER,
            spender: Some(if once { PERMIT2 } else { SELLER }),
            authorization: AuthorizationKey::of(&authorization, digest, PERMIT2),
            exposure: ExposureKey {
                chain: ChainId::DEV,
                token: TOKEN,
                slice: 0,
            },
        };
        self.apply(&Reserve {
            keys,
            authorization,
            digest,
            request: B256::ZERO,
            worst: amount(worst),
            least: amount(worst),
            identifier: None,
            memo: String::new(),
            epoch: 1,
            credit: Credit::for_dollar(amount(1_000_000)),
            funds: Some(funds),
        })?;
        Ok(keys)
    }

    fn step(&mut self, keys: PaymentKeys, used: u64) -> Standing {
        let used = amount(used);
        self.apply(&Checkpoint { keys, used }).unwrap()
    }

    fn notice(&mut self, keys: PaymentKeys, funds: Funds) {
        self.apply(&Notice {
            owner: keys.owner,
            spender: keys.spender_key(),
            funds,
        })
        .unwrap();
    }

    fn commit(&mut self, keys: PaymentKeys, used: Option<u64>) -> u64 {
        let commit = Commit {
            keys,
            used: used.map(amount),
            memo: None,
            answer: None,
        };
        let charge = self.apply(&commit).unwrap();
        charge.amount.get().try_into().unwrap()
    }
}

fn seen(block: u64, balance: u64, allowance: u64) -> Funds {
    Funds {
        block,
        at: NOW,
        balance: amount(balance),
        spender: SpenderFunds::Seen {
            allowance: amount(allowance),
        },
    }
}

fn counter(block: u64, nonce: u64, allowance: u64) -> Funds {
    Funds {
        block,
        at: NOW,
        balance: amount(1_000),
        spender: SpenderFunds::Counter {
            nonce: U256::from(nonce),
            allowance: amount(allowance),
            counter: Some(Amount::ZERO),
        },
    }
}

const SHORT: fn(FundsBound) -> Standing = |bound| Standing::Void(Voided::Short(bound));

#[test]
fn a_stream_whose_payer_moves_its_balance_away_is_stopped_and_charged_for_what_was_delivered() {
    let mut ledger = Ledger::default();
    let keys = ledger.serve(true, 100, seen(1, 1_000, 1_000)).unwrap();
    assert_eq!(ledger.step(keys, 10), Standing::Good);
    // Another request of the same payer is refused for want of money: what was read is not forgotten.
    let poor = seen(2, 0, 1_000);
    let refused = ledger.serve(true, 50, poor.clone());
    assert!(matches!(refused, Err(Refusal::Insufficient { .. })));
    ledger.notice(keys, poor);
    assert_eq!(ledger.step(keys, 20), SHORT(FundsBound::Balance));
    // What was delivered before the word came is durable with it, and is what a crash would charge.
    assert_eq!(ledger.commit(keys, None), 20);
}

#[test]
fn a_stream_whose_payer_revokes_an_allowance_is_stopped() {
    // Permit2's, which other sellers draw as well.
    let mut ledger = Ledger::default();
    let keys = ledger.serve(true, 100, seen(1, 1_000, 1_000)).unwrap();
    ledger.notice(keys, seen(2, 1_000, 0));
    assert_eq!(ledger.step(keys, 10), SHORT(FundsBound::Allowance));
    // Ours: the chain has the permit, and nothing of it is left.
    let mut ledger = Ledger::default();
    let keys = ledger.serve(false, 100, counter(1, 0, 0)).unwrap();
    ledger.notice(keys, counter(2, 0, 0));
    assert_eq!(
        ledger.step(keys, 10),
        Standing::Good,
        "the permit is not in"
    );
    ledger.notice(keys, counter(3, 1, 0));
    assert_eq!(ledger.step(keys, 20), SHORT(FundsBound::Allowance));
    assert_eq!(ledger.commit(keys, Some(20)), 20);
}

#[test]
fn a_stream_is_served_as_far_as_what_is_left_of_the_money_reaches() {
    let mut ledger = Ledger::default();
    let keys = ledger.serve(true, 100, seen(1, 1_000, 1_000)).unwrap();
    ledger.notice(keys, seen(2, 40, 1_000));
    assert_eq!(ledger.step(keys, 39), Standing::Good);
    assert_eq!(ledger.step(keys, 40), SHORT(FundsBound::Balance));
}

#[test]
fn a_stream_of_a_payer_who_lost_a_charge_or_is_blocked_meanwhile_is_stopped() {
    let mut ledger = Ledger::default();
    let keys = ledger.serve(true, 100, seen(1, 1_000, 1_000)).unwrap();
    let mut owner = ledger.rows.owner(&OWNER).unwrap().clone();
    owner.lost = amount(7);
    ledger.rows.put(tollgate_payment::Row::Owner(owner));
    let owes = Standing::Void(Voided::Owes(amount(7)));
    assert_eq!(ledger.step(keys, 10), owes);

    let mut ledger = Ledger::default();
    let keys = ledger.serve(true, 100, seen(1, 1_000, 1_000)).unwrap();
    let reason = "abuse".to_owned();
    let block = Block {
        owner: OWNER,
        reason,
    };
    ledger.apply(&block).unwrap();
    assert_eq!(ledger.step(keys, 10), Standing::Void(Voided::Barred));
    assert_eq!(ledger.commit(keys, Some(10)), 10);
}

#[test]
fn an_old_look_at_the_chain_stops_nobody() {
    let mut ledger = Ledger::default();
    let keys = ledger.serve(true, 100, seen(5, 1_000, 1_000)).unwrap();
    ledger.notice(keys, seen(4, 0, 0));
    assert_eq!(ledger.step(keys, 10), Standing::Good);
}

#[test]
fn of_a_payer_with_nothing_in_flight_nothing_is_noticed() {
    let mut ledger = Ledger::default();
    let keys = ledger.serve(true, 100, seen(1, 1_000, 1_000)).unwrap();
    ledger.commit(keys, Some(100));
    let before = ledger.rows.clone();
    ledger.notice(keys, seen(2, 0, 0));
    assert_eq!(ledger.rows, before);
}

proptest! {
    /// Whatever is learned of the payer between the steps of a stream, and wherever it is cut: the charge is what was
    /// delivered, and after the word came nothing more is.
    #[test]
    fn nothing_delivered_goes_uncharged_when_a_payment_is_voided(
        worst in 1..500_u64,
        steps in prop::collection::vec((1..40_u64, prop::option::of((0..600_u64, 0..600_u64))), 1..30),
        crash in any::<bool>(),
    ) {
        let mut ledger = Ledger::default();
        let keys = ledger.serve(true, worst, seen(1, 1_000, 1_000)).unwrap();
        let (mut delivered, mut least) = (0, 1_000);
        for (block, (more, look)) in (2..).zip(steps) {
            if let Some((balance, allowance)) = look {
                ledger.notice(keys, seen(block, balance, allowance));
                least = balance.min(allowance);
            }
            delivered = (delivered + more).min(worst);
            let standing = ledger.step(keys, delivered);
            let reaches = least >= worst || least > delivered;
            prop_assert_eq!(standing == Standing::Good, reaches);
            if !reaches || delivered == worst {
                break;
            }
        }
        let state = &ledger.rows.payment(&keys.id).unwrap().state;
        let durable = PaymentState::Serving { used: amount(delivered) };
        prop_assert_eq!(state, &durable);
        prop_assert_eq!(ledger.commit(keys, (!crash).then_some(delivered)), delivered);
        prop_assert!(ledger.rows.owner(&OWNER).unwrap().held.is_zero());
    }
}
