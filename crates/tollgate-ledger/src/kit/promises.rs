//! What every store promises, one function a promise.

use std::{collections::BTreeSet, sync::Arc};

use tokio::task::JoinSet;
use tollgate_payment::{
    BatchId, Command, Decision, Refusal, ReleaseReason, Row, RowKey, RowSet, Rows, SignerKey,
    SignerRow,
    command::{Adopt, Claim, Commit, Conclude, Fate, ItemFate, Release, Reserve},
};
use tollgate_x402::{Address, Amount, B256, ChainId, Clock, Timestamp};

use super::{
    Harness, ManualClock,
    payers::{Kind, OPERATOR, payer, payment_id, reserve},
};
use crate::{error::StoreError, log::Status, query::Due, store::Store};

pub(super) const ID: B256 = B256::repeat_byte(7);
const SIGNER: SignerKey = SignerKey {
    chain: ChainId::DEV,
    operator: OPERATOR,
};

pub(super) fn create<H: Harness>(harness: &H) -> (H::Store, Arc<ManualClock>) {
    let clock = ManualClock::new();
    (harness.create(ID, clock.clone()), clock)
}

/// Executes all at once, each on its own task.
async fn at_once<S: Store>(
    store: &S,
    commands: impl IntoIterator<Item = Reserve>,
) -> Vec<Result<Amount, StoreError>> {
    let mut tasks = JoinSet::new();
    for command in commands {
        let store = store.clone();
        tasks.spawn(async move { Ok(store.transact(command).await?.reserved) });
    }
    tasks.join_all().await
}

async fn balanced<S: Store>(store: &S) {
    let totals = store.totals().await.unwrap();
    assert_eq!(totals.discrepancies(), Vec::<String>::new());
}

/// 64 requests on one allowance that is good for 10 of them.
pub async fn an_allowance_is_never_overdrawn_by_64_requests_at_once<H: Harness>(harness: &H) {
    let (store, clock) = create(harness);
    let who = (payer(1), Kind::Allowance, 0);
    let all = (0..64).map(|id| reserve(id, who, 1000, 100, 1_000_000, clock.now()));
    let answers = at_once(&store, all).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 10);
    for answer in answers {
        assert!(
            matches!(
                answer,
                Ok(_) | Err(StoreError::Refused(Refusal::Insufficient { .. }))
            ),
            "{answer:?}"
        );
    }
    balanced(&store).await;
}

/// One authorization, 64 gateways.
pub async fn one_once_authorization_sent_64_times_at_once_is_admitted_once<H: Harness>(
    harness: &H,
) {
    let (store, clock) = create(harness);
    for (kind, nonce) in [(Kind::Once, 0), (Kind::Permit2, 1), (Kind::Eip3009, 2)] {
        let first = nonce * 100;
        let who = (payer(1), kind, nonce);
        let all = (first..first + 64).map(|id| {
            let mut command = reserve(id, who, 100, 100, 1_000_000, clock.now());
            // Half of them with another request.
            command.request = B256::repeat_byte((id % 2) as u8);
            command
        });
        let answers = at_once(&store, all).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
        let mut named = BTreeSet::new();
        let mut used = 0;
        for answer in answers {
            match answer {
                Ok(_) => {}
                Err(StoreError::Refused(Refusal::Admitted(id))) => {
                    named.insert(id);
                }
                Err(StoreError::Refused(Refusal::Used)) => used += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(used, 32, "another request's payment is not told");
        assert_eq!(named.len(), 1, "all others learn of the one payment");
    }
    assert_eq!(store.abandoned(u64::MAX).await.unwrap().len(), 3);
    balanced(&store).await;
}

/// A balance of 1000 behind an allowance, a once and two exact authorizations of 1000 each serves 1000.
pub async fn one_balance_behind_three_kinds_of_authorization_is_spent_once<H: Harness>(
    harness: &H,
) {
    let (store, clock) = create(harness);
    let kinds = [Kind::Allowance, Kind::Once, Kind::Permit2, Kind::Eip3009];
    let all = kinds
        .into_iter()
        .zip(0..)
        .map(|(kind, id)| reserve(id, (payer(1), kind, id), 1000, 1000, 1000, clock.now()));
    let answers = at_once(&store, all).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    balanced(&store).await;
}

/// The second step of an open group is refused for what the first reserved.
pub async fn a_later_step_sees_the_earlier_one_before_it_is_durable<H: Harness>(harness: &H) {
    let (store, clock) = create(harness);
    let who = (payer(1), Kind::Allowance, 0);
    let command = |id| reserve(id, who, 1000, 1000, 1_000_000, clock.now());
    let first = store.execute(command(1)).await.unwrap();
    let second = store.execute(command(2)).await;
    assert!(
        matches!(
            second,
            Err(StoreError::Refused(Refusal::Insufficient { .. }))
        ),
        "{second:?}"
    );
    first.settled().await.unwrap();
    assert!(store.payment(payment_id(1)).await.unwrap().is_some());
    assert_eq!(store.payment(payment_id(2)).await, Ok(None));
}

/// A call whose future is dropped after it was polled once is not half done.
pub async fn an_abandoned_call_is_executed_nevertheless<H: Harness>(harness: &H) {
    let (store, clock) = create(harness);
    for id in 1..=20 {
        let who = (payer(1), Kind::Once, id);
        let command = reserve(id, who, 10, 10, 1_000_000, clock.now());
        let mut call = Box::pin(store.transact(command));
        let once = core::future::poll_fn(|context| {
            let _ = call.as_mut().poll(context);
            core::task::Poll::Ready(())
        });
        once.await;
    }
    // A step that follows finds all of them, and is durable after them.
    let last = reserve(
        21,
        (payer(1), Kind::Once, 21),
        10,
        10,
        1_000_000,
        clock.now(),
    );
    store.transact(last).await.unwrap();
    assert_eq!(store.abandoned(u64::MAX).await.unwrap().len(), 21);
    balanced(&store).await;
}

/// Nothing is lost by a clean end, and the name given at creation stays.
pub async fn a_ledger_keeps_its_name_and_its_rows_when_it_is_opened_again<H: Harness>(harness: &H) {
    let (store, clock) = create(harness);
    for id in 1..=5 {
        let who = (payer(1), Kind::Allowance, 0);
        let command = reserve(id, who, 1000, 100, 1_000_000, clock.now());
        let keys = command.keys;
        store.transact(command).await.unwrap();
        if id % 2 == 0 {
            let used = Some(Amount::from(60u64));
            store
                .transact(Commit {
                    keys,
                    used,
                    memo: None,
                    answer: None,
                })
                .await
                .unwrap();
        }
    }
    let before = everything(&store).await;
    let store = harness.reopen(store, B256::repeat_byte(9), clock);
    assert_eq!(store.ledger_id(), ID);
    assert_eq!(everything(&store).await, before);
    balanced(&store).await;
}

async fn everything<S: Store>(store: &S) -> String {
    format!(
        "{:?} {:?} {:?} {:?} {:?}",
        store.logs(Default::default(), 1000).await,
        store.entries(0, 1000).await,
        store.due(Due::default(), 1000).await,
        store.abandoned(u64::MAX).await,
        store.totals().await
    )
}

/// Also over a restart.
pub async fn runs_are_numbered_without_repeats<H: Harness>(harness: &H) {
    let (store, clock) = create(harness);
    let mut last = 0;
    for _ in 0..3 {
        let run = store.begin_run(1).await.unwrap();
        assert!(run.epoch > last);
        assert_eq!(run.slot, 0);
        last = run.epoch;
        store.end_run(last).await.unwrap();
    }
    let store = harness.reopen(store, ID, clock);
    assert!(store.begin_run(1).await.unwrap().epoch > last);
}

/// Payments that a dead run left are concluded by the next.
pub async fn payments_of_dead_runs_are_found<H: Harness>(harness: &H) {
    let (store, clock) = create(harness);
    for id in 1..=4 {
        let who = (payer(1), Kind::Once, id);
        let mut command = reserve(id, who, 10, 10, 1_000_000, clock.now());
        command.epoch = 100 + id;
        let keys = command.keys;
        store.transact(command).await.unwrap();
        if id == 2 {
            let reason = ReleaseReason::GatewayDied;
            store.transact(Release { keys, reason }).await.unwrap();
        }
    }
    assert_eq!(abandoned(&store, 104).await, [1, 3].map(payment_id));
    assert_eq!(abandoned(&store, 101).await, [3, 4].map(payment_id));
    assert_eq!(abandoned(&store, 1).await, [1, 3, 4].map(payment_id));
}

pub(super) async fn abandoned<S: Store>(store: &S, epoch: u64) -> Vec<tollgate_x402::PaymentId> {
    let rows = store.abandoned(epoch).await.unwrap();
    rows.into_iter().map(|row| row.keys.id).collect()
}

/// A command that writes a row beside the one that it names.
struct Undisciplined;

impl Command for Undisciplined {
    type Outcome = ();

    fn rows(&self) -> RowSet {
        [RowKey::Signer(SIGNER)].into_iter().collect()
    }

    fn decide(&self, _: &Rows, _: Timestamp) -> Result<Decision<()>, Refusal> {
        let other = SignerKey {
            operator: Address::ZERO,
            ..SIGNER
        };
        let row = |key| {
            Row::Signer(SignerRow {
                key,
                next_nonce: 1,
                lease: None,
                halt: None,
            })
        };
        Ok(Decision {
            writes: vec![row(SIGNER), row(other)],
            entries: Vec::new(),
            outcome: (),
        })
    }
}

/// A row that was not named was not locked.
pub async fn a_step_that_writes_what_it_did_not_name_writes_nothing<H: Harness>(harness: &H) {
    let (store, _clock) = create(harness);
    let answer = store.transact(Undisciplined).await;
    assert!(matches!(answer, Err(StoreError::Corrupt(_))), "{answer:?}");
    let names: RowSet = [RowKey::Signer(SIGNER)].into_iter().collect();
    assert_eq!(store.read(names).await, Ok(Rows::default()));
    let next = Adopt {
        signer: SIGNER,
        chain_nonce: 4,
    };
    assert_eq!(store.transact(next).await, Ok(4), "the store goes on");
}

/// No row and no line of the book.
pub async fn a_refused_step_writes_nothing<H: Harness>(harness: &H) {
    let (store, clock) = create(harness);
    let command = reserve(1, (payer(1), Kind::Once, 1), 100, 100, 99, clock.now());
    let names = command.rows();
    let answer = store.transact(command).await;
    let insufficient = matches!(
        answer,
        Err(StoreError::Refused(Refusal::Insufficient { .. }))
    );
    assert!(insufficient, "{answer:?}");
    assert_eq!(store.read(names).await, Ok(Rows::default()));
    assert_eq!(store.entries(0, 10).await, Ok(Vec::new()));
    assert_eq!(store.logs(Default::default(), 10).await, Ok(Vec::new()));
}

/// Whatever their deadlines, and after a settlement that failed; the queue with the earliest deadline first.
pub async fn due_payments_of_one_spender_come_in_the_order_of_their_commits<H: Harness>(
    harness: &H,
) {
    let (store, clock) = create(harness);
    let mut keys = Vec::new();
    // Payer 1 by once authorizations whose deadlines fall, payer 2 with one whose deadline is between.
    for (id, who, seconds) in [(1, 1, 900), (2, 1, 500), (3, 1, 100), (4, 2, 200)] {
        let now = clock.now();
        let mut command = reserve(id, (payer(who), Kind::Once, id), 10, 10, 1_000_000, now);
        if let tollgate_x402::Authorization::Once(once) = &mut command.authorization {
            once.deadline = now.plus(seconds);
        }
        keys.push(command.keys);
        store.transact(command).await.unwrap();
    }
    for number in [1, 0, 3, 2] {
        let keys = keys[number];
        let used = Some(Amount::from(5u64));
        store
            .transact(Commit {
                keys,
                used,
                memo: None,
                answer: None,
            })
            .await
            .unwrap();
    }
    let order = async || {
        let due = store.due(Due::of(ChainId::DEV), 10).await.unwrap();
        due.into_iter().map(|row| row.keys.id).collect::<Vec<_>>()
    };
    let expected = [2, 1, 3, 4].map(payment_id);
    assert_eq!(order().await, expected);

    // Payment 2 fails, and is due again: still the first of its spender.
    let signer = Adopt {
        signer: SIGNER,
        chain_nonce: 0,
    };
    store.transact(signer).await.unwrap();
    let claim = Claim {
        batch: BatchId(1),
        signer: SIGNER,
        settler: None,
        payments: vec![keys[1]],
        undecided: 1,
    };
    let batch = store.transact(claim).await.unwrap().unwrap();
    assert_eq!(order().await, [1, 3, 4].map(payment_id));
    let fate = Fate {
        transaction: None,
        block: 5,
        items: vec![ItemFate::Again(tollgate_payment::LossReason::Balance)],
    };
    let conclude = Conclude {
        batch,
        fate,
        attempts: 3,
    };
    store.transact(conclude).await.unwrap();
    assert_eq!(order().await, expected);
    let queues = store.queues().await.unwrap();
    let seen: Vec<_> = queues
        .iter()
        .map(|queue| (queue.owner.owner, queue.payments, queue.sum))
        .collect();
    assert_eq!(
        seen,
        [
            (payer(1), 3, Amount::from(15u64)),
            (payer(2), 1, Amount::from(5u64))
        ]
    );
}

/// Reservations, commits and releases of several payers at once.
pub async fn the_books_balance_after_many_callers_at_once<H: Harness>(harness: &H) {
    let (store, clock) = create(harness);
    let mut tasks = JoinSet::new();
    for caller in 0..32u64 {
        let (store, clock) = (store.clone(), clock.clone());
        tasks.spawn(async move {
            for round in 0..6u64 {
                let id = caller * 100 + round;
                let kind = if caller % 2 == 0 {
                    Kind::Allowance
                } else {
                    Kind::Once
                };
                let nonce = if caller % 2 == 0 { 0 } else { id };
                let who = (payer((caller % 4) as u8), kind, nonce);
                let command = reserve(id, who, 100_000, 50, 1_000_000, clock.now());
                let keys = command.keys;
                store.transact(command).await.unwrap();
                if round % 3 == 0 {
                    let reason = ReleaseReason::NothingDelivered;
                    store.transact(Release { keys, reason }).await.unwrap();
                } else if round % 3 == 1 {
                    let used = Some(Amount::from(id % 50));
                    store
                        .transact(Commit {
                            keys,
                            used,
                            memo: None,
                            answer: None,
                        })
                        .await
                        .unwrap();
                }
            }
        });
    }
    tasks.join_all().await;
    balanced(&store).await;
    let totals = store.totals().await.unwrap();
    let serving: u64 = totals
        .0
        .values()
        .map(|token| token.of(Status::Serving).payments)
        .sum();
    assert_eq!(serving, 64);
}
