//! Random histories against a naive twin: whatever payers, operators and the token's admin do, in whatever order, money
//! goes only where it was signed to go, and every unit is accounted for by an event.

use std::collections::BTreeMap;

use alloy_primitives::{Address, U256};
use proptest::prelude::*;
use tollgate_contracts::abi::Settler::{Charged, Failed, Pulled, Skipped};
use tollgate_contracts::abi::{IErc20, ISignatureTransfer, Settler, TestUsd1};
use tollgate_contracts::addresses::PERMIT2;
use tollgate_contracts::settler::Kind;

use crate::common::sign::{eip3009, once, permit2_exact, permitted_interval};
use crate::common::*;

const PAYERS: u64 = 3;

/// One item of a batch, in small numbers.
#[derive(Clone, Debug)]
enum Item {
    /// `from` is the counter as the ledger believes it, off by `slip`.
    Interval {
        payer: u64,
        slip: i8,
        length: u64,
    },
    Permitted {
        payer: u64,
        length: u64,
        value: u64,
        nonce: u64,
    },
    Once {
        payer: u64,
        permitted: u64,
        amount: u64,
        nonce: u64,
    },
    Eip3009 {
        payer: u64,
        amount: u64,
        nonce: u64,
    },
    Permit2Exact {
        payer: u64,
        amount: u64,
        nonce: u64,
    },
}

#[derive(Clone, Debug)]
enum Step {
    Settle(Vec<Item>),
    Approve {
        payer: u64,
        permit2: bool,
        value: u64,
    },
    /// The payer moves all but so much away.
    Drain {
        payer: u64,
        keep: u64,
    },
    Void {
        payer: u64,
        mask: u64,
    },
    Freeze {
        payer: u64,
        frozen: bool,
    },
    Pause(bool),
    Sweep,
}

fn item() -> impl Strategy<Value = Item> {
    let payer = 0..PAYERS;
    prop_oneof![
        4 => (payer.clone(), prop_oneof![8 => Just(0_i8), 1 => Just(1), 1 => Just(-1)], 0..60_u64)
            .prop_map(|(payer, slip, length)| Item::Interval { payer, slip, length }),
        2 => (payer.clone(), 1..60_u64, 0..100_u64, 0..4_u64)
            .prop_map(|(payer, length, value, nonce)| Item::Permitted { payer, length, value, nonce }),
        2 => (payer.clone(), 1..60_u64, 0..70_u64, 0..5_u64)
            .prop_map(|(payer, permitted, amount, nonce)| Item::Once { payer, permitted, amount, nonce }),
        2 => (payer.clone(), 0..60_u64, 0..5_u64)
            .prop_map(|(payer, amount, nonce)| Item::Eip3009 { payer, amount, nonce }),
        2 => (payer, 0..60_u64, 0..5_u64)
            .prop_map(|(payer, amount, nonce)| Item::Permit2Exact { payer, amount, nonce }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let payer = 0..PAYERS;
    prop_oneof![
        8 => prop::collection::vec(item(), 0..6).prop_map(Step::Settle),
        2 => (payer.clone(), any::<bool>(), 0..200_u64)
            .prop_map(|(payer, permit2, value)| Step::Approve { payer, permit2, value }),
        1 => (payer.clone(), 0..200_u64).prop_map(|(payer, keep)| Step::Drain { payer, keep }),
        1 => (payer.clone(), 0..32_u64).prop_map(|(payer, mask)| Step::Void { payer, mask }),
        1 => (payer, any::<bool>()).prop_map(|(payer, frozen)| Step::Freeze { payer, frozen }),
        1 => any::<bool>().prop_map(Step::Pause),
        1 => Just(Step::Sweep),
    ]
}

/// What the twin knows of one payer.
#[derive(Clone, Debug, Default)]
struct Account {
    balance: U256,
    /// Of the Settler.
    allowance: U256,
    permit2: U256,
    permits: u64,
    charged: U256,
    frozen: bool,
    used_permit2: u64,
    used_eip3009: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Moved,
    Skipped,
    Failed,
}

#[derive(Clone, Debug, Default)]
struct Twin {
    accounts: BTreeMap<u64, Account>,
    paused: bool,
    treasury: U256,
    settler: U256,
}

impl Twin {
    fn account(&mut self, payer: u64) -> &mut Account {
        self.accounts.entry(payer).or_insert_with(|| Account {
            balance: u(FORTUNE),
            ..Account::default()
        })
    }

    /// Whether the token would move it at all, the allowance aside.
    fn movable(&mut self, payer: u64, amount: U256) -> bool {
        let paused = self.paused;
        let account = self.account(payer);
        !paused && !account.frozen && account.balance >= amount
    }

    fn charge(&mut self, payer: u64, from: U256, to: U256, permit: Option<(u64, u64)>) -> Fate {
        if to <= from {
            return Fate::Failed;
        }
        if self.account(payer).charged != from {
            return Fate::Skipped;
        }
        let amount = to - from;
        let before = self.account(payer).clone();
        if let Some((value, nonce)) = permit
            && nonce == before.permits
        {
            let account = self.account(payer);
            (account.allowance, account.permits) = (u(value), account.permits + 1);
        }
        if !self.movable(payer, amount) || self.account(payer).allowance < amount {
            // the permit goes with the rest
            *self.account(payer) = before;
            return Fate::Failed;
        }
        let account = self.account(payer);
        account.balance -= amount;
        account.allowance -= amount;
        account.charged = to;
        self.treasury += amount;
        Fate::Moved
    }

    fn pull(&mut self, payer: u64, kind: Kind, permitted: U256, amount: U256, nonce: u64) -> Fate {
        let movable = self.movable(payer, amount);
        let account = self.account(payer);
        let permit2 = kind != Kind::Eip3009;
        let used = if permit2 {
            account.used_permit2
        } else {
            account.used_eip3009
        };
        let refused = amount > permitted
            || used >> nonce & 1 == 1
            || permit2 && (amount.is_zero() || account.permit2 < amount);
        if !movable || refused {
            return Fate::Failed;
        }
        account.balance -= amount;
        if permit2 {
            account.permit2 -= amount;
            account.used_permit2 |= 1 << nonce;
        } else {
            account.used_eip3009 |= 1 << nonce;
        }
        self.settler += amount;
        Fate::Moved
    }
}

/// Settles a batch on both sides; each item's event must be what the twin says.
fn settle(world: &mut World, twin: &mut Twin, items: &[Item]) {
    // What the ledger believes: that all the intervals of the batch before this one succeed.
    let mut believed: BTreeMap<u64, U256> = BTreeMap::new();
    for n in 0..PAYERS {
        believed.insert(n, twin.account(n).charged);
    }
    let mut batch = Batch::default();
    let mut intervals = Vec::new();
    for item in items {
        match item.clone() {
            Item::Interval {
                payer: n,
                slip,
                length,
            } => {
                let counter = believed[&n];
                let from = match slip {
                    0 => counter,
                    1 => counter + u(1_u64),
                    _ => counter.saturating_sub(u(1_u64)),
                };
                believed.insert(n, from + u(length));
                batch
                    .allowances
                    .push(interval(USD1, payer(n).address(), from, from + u(length)));
                intervals.push((n, from, from + u(length), None));
            }
            Item::Permitted {
                payer: n,
                length,
                value,
                nonce,
            } => {
                let (from, to) = (believed[&n], believed[&n] + u(length));
                believed.insert(n, to);
                let item = permitted_interval(world, &payer(n), USD1, from, to, (u(value), nonce));
                batch.allowances.push(item);
                intervals.push((n, from, to, Some((value, nonce))));
            }
            Item::Once {
                payer: n,
                permitted,
                amount,
                nonce,
            } => {
                batch
                    .onces
                    .push(once(world, &payer(n), USD1, u(permitted), u(amount), nonce));
            }
            Item::Eip3009 {
                payer: n,
                amount,
                nonce,
            } => {
                batch
                    .exacts
                    .push(eip3009(world, &payer(n), USD1, u(amount), nonce));
            }
            Item::Permit2Exact {
                payer: n,
                amount,
                nonce,
            } => {
                batch
                    .permit2_exacts
                    .push(permit2_exact(world, &payer(n), USD1, u(amount), nonce));
            }
        }
    }
    // The contract takes them list by list.
    let mut fates: Vec<(Kind, Fate)> = Vec::new();
    for (n, from, to, permit) in intervals {
        fates.push((Kind::Allowance, twin.charge(n, from, to, permit)));
    }
    for item in items {
        if let Item::Once {
            payer,
            permitted,
            amount,
            nonce,
        } = *item
        {
            fates.push((
                Kind::Once,
                twin.pull(payer, Kind::Once, u(permitted), u(amount), nonce),
            ));
        }
    }
    for item in items {
        if let Item::Eip3009 {
            payer,
            amount,
            nonce,
        } = *item
        {
            fates.push((
                Kind::Eip3009,
                twin.pull(payer, Kind::Eip3009, u(amount), u(amount), nonce),
            ));
        }
    }
    for item in items {
        if let Item::Permit2Exact {
            payer,
            amount,
            nonce,
        } = *item
        {
            let fate = twin.pull(payer, Kind::Permit2Exact, u(amount), u(amount), nonce);
            fates.push((Kind::Permit2Exact, fate));
        }
    }

    let done = world.settle(batch).expect_ok();
    let told: Vec<(Kind, Fate)> = done
        .logs
        .iter()
        .filter(|log| log.address == world.settler)
        .map(|log| {
            use alloy_sol_types::SolEvent as _;
            if Charged::decode_log_data(&log.data).is_ok() {
                (Kind::Allowance, Fate::Moved)
            } else if Skipped::decode_log_data(&log.data).is_ok() {
                (Kind::Allowance, Fate::Skipped)
            } else if let Ok(pulled) = Pulled::decode_log_data(&log.data) {
                (Kind::from_number(pulled.kind).unwrap(), Fate::Moved)
            } else {
                let failed = Failed::decode_log_data(&log.data).unwrap();
                (Kind::from_number(failed.kind).unwrap(), Fate::Failed)
            }
        })
        .collect();
    assert_eq!(told, fates, "one event an item, in order");

    // Every unit that the token moved is in an event of the Settler, and went to the treasury or the Settler.
    let moved: U256 = done
        .events::<IErc20::Transfer>(USD1)
        .iter()
        .map(|transfer| transfer.value)
        .sum();
    let charged: U256 = done
        .events::<Charged>(world.settler)
        .iter()
        .map(|event| event.to - event.from)
        .sum();
    let pulled: U256 = done
        .events::<Pulled>(world.settler)
        .iter()
        .map(|event| event.amount)
        .sum();
    assert_eq!(moved, charged + pulled);
    for transfer in done.events::<IErc20::Transfer>(USD1) {
        assert!(transfer.to == TREASURY || transfer.to == world.settler);
    }
}

fn take(world: &mut World, twin: &mut Twin, step: &Step) {
    match *step {
        Step::Settle(ref items) => settle(world, twin, items),
        Step::Approve {
            payer: n,
            permit2,
            value,
        } => {
            let spender = if permit2 { PERMIT2 } else { world.settler };
            world.approve(USD1, payer(n).address(), spender, u(value));
            let account = twin.account(n);
            *(if permit2 {
                &mut account.permit2
            } else {
                &mut account.allowance
            }) = u(value);
        }
        Step::Drain { payer: n, keep } => {
            let value = twin.account(n).balance.saturating_sub(u(keep));
            let movable = twin.movable(n, value);
            let call = IErc20::transferCall {
                to: STRANGER,
                value,
            };
            assert_eq!(world.send(payer(n).address(), USD1, &call).ok, movable);
            if movable {
                twin.account(n).balance -= value;
            }
        }
        Step::Void { payer: n, mask } => {
            let call = ISignatureTransfer::invalidateUnorderedNoncesCall {
                wordPos: U256::ZERO,
                mask: u(mask),
            };
            world.send(payer(n).address(), PERMIT2, &call).expect_ok();
            twin.account(n).used_permit2 |= mask;
        }
        Step::Freeze { payer: n, frozen } => {
            let account = payer(n).address();
            if frozen {
                world
                    .send(TOKEN_ADMIN, USD1, &TestUsd1::freezeCall { account })
                    .expect_ok();
            } else {
                world
                    .send(TOKEN_ADMIN, USD1, &TestUsd1::unfreezeCall { account })
                    .expect_ok();
            }
            twin.account(n).frozen = frozen;
        }
        Step::Pause(paused) => {
            if paused {
                world
                    .send(TOKEN_ADMIN, USD1, &TestUsd1::pauseCall {})
                    .expect_ok();
            } else {
                world
                    .send(TOKEN_ADMIN, USD1, &TestUsd1::unpauseCall {})
                    .expect_ok();
            }
            twin.paused = paused;
        }
        Step::Sweep => {
            let swept = world.send(STRANGER, world.settler, &Settler::sweepCall { token: USD1 });
            assert_eq!(swept.ok, !twin.paused || twin.settler.is_zero());
            if swept.ok {
                twin.treasury += std::mem::take(&mut twin.settler);
            }
        }
    }
}

fn check(world: &mut World, twin: &mut Twin) {
    assert_eq!(world.balance(USD1, TREASURY), twin.treasury);
    let settler = world.settler;
    assert_eq!(world.balance(USD1, settler), twin.settler);
    for n in 0..PAYERS {
        let owner: Address = payer(n).address();
        let account = twin.account(n).clone();
        assert_eq!(world.balance(USD1, owner), account.balance);
        assert_eq!(world.charged(USD1, owner), account.charged);
        assert_eq!(
            world.view(
                USD1,
                &IErc20::allowanceCall {
                    owner,
                    spender: settler
                }
            ),
            account.allowance
        );
        assert_eq!(
            world.view(
                USD1,
                &IErc20::allowanceCall {
                    owner,
                    spender: PERMIT2
                }
            ),
            account.permit2
        );
        assert_eq!(
            world.view(USD1, &TestUsd1::noncesCall { owner }),
            u(account.permits)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn any_history_leaves_every_unit_where_the_naive_twin_has_it(steps in prop::collection::vec(step(), 1..14)) {
        let (mut world, mut twin) = (World::new(), Twin::default());
        for step in &steps {
            take(&mut world, &mut twin, step);
            check(&mut world, &mut twin);
        }
    }
}
