//! A payer's names for requests, against a naive twin: one name, one request, one charge.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tollgate_payment::{
    AuthorizationKey, Command, Credit, ExposureKey, IdentifierKey, OwnerKey, PaymentKeys,
    PaymentState, Refusal, ReleaseReason, Retention, Row, RowKey, Rows, StoredBody,
    command::{Answer, Commit, Funds, Naming, Release, Reserve, SpenderFunds, Told},
};
use tollgate_x402::{
    Address, Allowance, Amount, Authorization, B256, ChainId, Once, PaymentId, Signature65,
    Timestamp, U256,
};

const TOKEN: Address = Address::repeat_byte(0x70);
const SELLER: Address = Address::repeat_byte(0x5e);
const PERMIT2: Address = Address::repeat_byte(0x22);
const NOW: Timestamp = Timestamp(1_900_000_000);
const RETENTION: Retention = Retention {
    bytes: 8,
    least: 1_000,
    most: 2_000,
};

/// What a payer does.
#[derive(Clone, Debug)]
enum Do {
    /// Sends a request, by the allowance or by a once authorization of this nonce, perhaps under a name.
    Ask {
        payer: u8,
        once: Option<u8>,
        name: Option<u8>,
        request: u8,
    },
    /// Ends an open payment: with this charge and perhaps an answer, or without either.
    End {
        pick: usize,
        used: Option<u8>,
        answered: bool,
    },
    /// Time passes.
    Pass(u16),
}

fn does() -> impl Strategy<Value = Do> {
    let ask = (
        0..2u8,
        prop::option::of(0..4u8),
        prop::option::weighted(0.8, 0..3u8),
        0..2u8,
    );
    prop_oneof![
        6 => ask.prop_map(|(payer, once, name, request)| Do::Ask { payer, once, name, request }),
        4 => (any::<usize>(), prop::option::weighted(0.7, 0..3u8), any::<bool>())
            .prop_map(|(pick, used, answered)| Do::End { pick, used, answered }),
        1 => (0..1_500u16).prop_map(Do::Pass),
    ]
}

#[derive(Default)]
struct Twin {
    /// Payer and name: the request, the payment, and when the name is forgotten.
    names: BTreeMap<(u8, u8), (u8, PaymentId, Timestamp)>,
    /// Payer and nonce: the request and the payment.
    claims: BTreeMap<(u8, u8), (u8, PaymentId)>,
    /// Payments that ended with nothing charged and nothing told.
    nothing: BTreeSet<PaymentId>,
}

struct World {
    rows: Rows,
    twin: Twin,
    open: Vec<PaymentKeys>,
    now: Timestamp,
    ids: u128,
}

impl World {
    fn apply<C: Command>(&mut self, command: &C) -> Result<C::Outcome, Refusal> {
        let names: BTreeSet<RowKey> = command.rows().iter().copied().collect();
        let rows: Rows = self
            .rows
            .iter()
            .filter(|row| names.contains(&row.key()))
            .cloned()
            .collect();
        let decision = command.decide(&rows, self.now)?;
        for row in decision.writes {
            assert!(names.contains(&row.key()), "{:?} was not named", row.key());
            self.rows.put(row);
        }
        Ok(decision.outcome)
    }

    fn reserve(&mut self, payer: u8, once: Option<u8>, name: Option<u8>, request: u8) -> Reserve {
        self.ids += 1;
        let owner = Address::repeat_byte(payer + 1);
        let one = B256::with_last_byte(1);
        let signature = Signature65::new(one, one, false).unwrap();
        let (chain, deadline) = (ChainId::DEV, NOW.plus(1_000_000));
        let (authorization, digest, spender) = match once {
            None => (
                Authorization::Allowance(Allowance {
                    chain,
                    token: TOKEN,
                    owner,
                    spender: SELLER,
                    value: Amount::from(1_000_000u64),
                    nonce: U256::ZERO,
                    deadline,
                    signature,
                }),
                B256::repeat_byte(payer),
                SELLER,
            ),
            Some(nonce) => (
                Authorization::Once(Once {
                    chain,
                    token: TOKEN,
                    owner,
                    amount: Amount::from(100u64),
                    spender: PERMIT2,
                    nonce: U256::from(nonce),
                    deadline,
                    to: SELLER,
                    facilitator: SELLER,
                    valid_after: Timestamp(0),
                    signature,
                }),
                B256::repeat_byte(0x80 | nonce),
                PERMIT2,
            ),
        };
        Reserve {
            keys: PaymentKeys {
                id: PaymentId::from_random(self.ids.to_be_bytes()),
                owner: OwnerKey {
                    chain,
                    token: TOKEN,
                    owner,
                },
                spender: Some(spender),
                authorization: AuthorizationKey::of(&authorization, digest, PERMIT2),
                exposure: ExposureKey {
                    chain,
                    token: TOKEN,
                    slice: 0,
                },
            },
            funds: Some(Funds {
                block: 1,
                at: self.now,
                balance: Amount::from(1_000_000u64),
                spender: match once {
                    None => SpenderFunds::Counter {
                        nonce: U256::ZERO,
                        allowance: Amount::ZERO,
                        counter: Some(Amount::ZERO),
                    },
                    Some(_) => SpenderFunds::Seen {
                        allowance: Amount::MAX,
                    },
                },
            }),
            authorization,
            digest,
            request: B256::repeat_byte(request),
            worst: Amount::from(10u64),
            least: Amount::from(1u64),
            identifier: name.map(|name| Naming {
                key: IdentifierKey {
                    chain,
                    owner,
                    digest: B256::repeat_byte(name),
                },
                replaces: None,
                retention: RETENTION,
            }),
            memo: String::new(),
            epoch: 1,
            credit: Credit {
                in_flight: 1_000,
                in_flight_proven: 1_000,
                ..Credit::for_dollar(Amount::from(1_000_000u64))
            },
        }
    }

    /// Sends a request as a till does, and holds the answer against the twin's.
    fn ask(&mut self, payer: u8, once: Option<u8>, name: Option<u8>, request: u8) {
        let mut reserve = self.reserve(payer, once, name, request);
        let known = name
            .and_then(|name| self.twin.names.get(&(payer, name)).copied())
            .filter(|(_, _, expires)| *expires > self.now);
        let claim = once.and_then(|nonce| self.twin.claims.get(&(payer, nonce)).copied());
        let expected = match (known, claim) {
            (Some((other, ..)), _) if other != request => Err(Refusal::IdentifierUsed),
            (Some((_, id, _)), _) if !self.twin.nothing.contains(&id) => Err(Refusal::Named(id)),
            (_, Some((other, _))) if other != request => Err(Refusal::Used),
            (_, Some((_, id))) => Err(Refusal::Admitted(id)),
            (_, None) => Ok(()),
        };
        let before = self.rows.clone();
        let told = reserve.admitted(&before, self.now);
        let mut got = self.apply(&reserve);
        if let Err(Refusal::Named(id)) = got {
            prop_assert_named(told, id);
            // Without a look at what became of it nobody takes its name.
            reserve.identifier.as_mut().unwrap().replaces = Some(id);
            got = self.apply(&reserve);
        }
        assert_eq!(got.clone().map(|_| ()), expected);
        match got {
            Err(_) => assert_eq!(self.rows, before, "a refusal writes nothing"),
            Ok(_) => {
                let id = reserve.keys.id;
                let expires = RETENTION.until(reserve.authorization.deadline(), self.now);
                if let Some(name) = name {
                    self.twin
                        .names
                        .insert((payer, name), (request, id, expires));
                }
                if let Some(nonce) = once {
                    self.twin.claims.insert((payer, nonce), (request, id));
                }
                self.open.push(reserve.keys);
            }
        }
    }

    fn end(&mut self, pick: usize, used: Option<u8>, answered: bool) {
        if self.open.is_empty() {
            return;
        }
        let keys = self.open.swap_remove(pick % self.open.len());
        let Some(used) = used else {
            let reason = ReleaseReason::UpstreamFailed;
            self.apply(&Release { keys, reason }).unwrap();
            self.twin.nothing.insert(keys.id);
            return;
        };
        let answer = answered.then(|| {
            Answer::new(RETENTION, |charge| {
                Some(Told {
                    status: 200,
                    content_type: String::new(),
                    body: StoredBody::Whole(vec![b'x'; charge.calculated.get().to()].into()),
                })
            })
        });
        let commit = Commit {
            keys,
            used: Some(Amount::from(u64::from(used) * 6)),
            memo: None,
            answer,
        };
        self.apply(&commit).unwrap();
        if used == 0 && !answered {
            self.twin.nothing.insert(keys.id);
        }
        let outcome = self.rows.outcome(&keys.id);
        assert_eq!(outcome.is_some(), answered);
        if let Some(outcome) = outcome {
            // Six bytes fit eight, and twelve do not.
            let whole = matches!(outcome.body, StoredBody::Whole(_));
            assert_eq!(whole, used < 2);
            assert_eq!(outcome.expires, self.now.plus(RETENTION.most));
        }
    }

    /// No request under a name that is remembered is charged twice.
    fn check(&self) {
        for ((payer, name), (request, id, expires)) in &self.twin.names {
            let key = IdentifierKey {
                chain: ChainId::DEV,
                owner: Address::repeat_byte(payer + 1),
                digest: B256::repeat_byte(*name),
            };
            let row = self.rows.identifier(&key).unwrap();
            assert_eq!((row.payment, row.expires), (*id, *expires));
            assert_eq!(row.request, B256::repeat_byte(*request));
        }
        for ((payer, _), (_, id)) in &self.twin.claims {
            let payment = self.rows.payment(id).unwrap();
            assert_eq!(payment.keys.owner.owner, Address::repeat_byte(payer + 1));
        }
        let claimed = self.rows.iter().filter_map(|row| match row {
            Row::Payment(payment) => Some(payment),
            _ => None,
        });
        let mut once = BTreeSet::new();
        for payment in claimed {
            if let AuthorizationKey::Claim { .. } = payment.keys.authorization
                && !matches!(payment.state, PaymentState::Serving { .. })
            {
                let first = once.insert(payment.keys.authorization);
                assert!(first, "one authorization pays once");
            }
        }
    }
}

fn prop_assert_named(told: Option<PaymentId>, id: PaymentId) {
    assert_eq!(told, Some(id), "what a look tells is what the step refuses");
}

proptest! {
    #[test]
    fn every_request_is_admitted_once_under_each_of_its_names(
        steps in prop::collection::vec(does(), 0..60),
    ) {
        let mut world = World {
            rows: Rows::default(),
            twin: Twin::default(),
            open: Vec::new(),
            now: NOW,
            ids: 0,
        };
        for step in steps {
            match step {
                Do::Ask { payer, once, name, request } => world.ask(payer, once, name, request),
                Do::End { pick, used, answered } => world.end(pick, used, answered),
                Do::Pass(seconds) => world.now = world.now.plus(u64::from(seconds)),
            }
            world.check();
        }
    }
}

#[test]
fn what_is_kept_is_kept_until_the_deadline_within_a_least_and_a_most() {
    for (deadline, kept) in [(0, 1_000), (999, 1_000), (1_500, 1_500), (9_999, 2_000)] {
        assert_eq!(RETENTION.until(NOW.plus(deadline), NOW), NOW.plus(kept));
    }
}
