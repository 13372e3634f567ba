//! What every store promises of runs, and of what it may forget.

use tollgate_payment::{
    Command, Decision, IdentifierKey, IdentifierRow, OutcomeRow, Refusal, Row, RowSet, Rows,
    StoredBody, command::Reserve,
};
use tollgate_x402::{B256, ChainId, Clock, Timestamp};

use super::{
    Harness,
    payers::{Kind, payer, payment_id, reserve},
    promises::{abandoned, create},
};
use crate::{
    error::{Outage, StoreError},
    run::{RUN_LEASE, Run},
    store::Store,
};

fn served_by(run: Run, id: u64, clock: &impl Clock) -> Reserve {
    let who = (payer(1), Kind::Once, id);
    let mut command = reserve(id, who, 10, 10, 1_000_000, clock.now());
    command.epoch = run.epoch;
    command
}

/// What it served is abandoned, and its slot free.
pub async fn a_run_that_ended_is_dead_and_the_next_takes_over<H: Harness>(harness: &H) {
    let (store, clock) = create(harness);
    let first = store.begin_run(1).await.unwrap();
    store.transact(served_by(first, 1, &*clock)).await.unwrap();
    assert_eq!(store.renew(first.epoch).await, Ok(true));
    assert_eq!(abandoned(&store, first.epoch).await, []);
    store.end_run(first.epoch).await.unwrap();
    assert_eq!(store.renew(first.epoch).await, Ok(false));
    let second = store.begin_run(1).await.unwrap();
    assert!(second.epoch > first.epoch);
    assert_eq!(second.slot, first.slot);
    assert_eq!(store.renew(first.epoch).await, Ok(false));
    assert_eq!(store.renew(second.epoch).await, Ok(true));
    assert_eq!(abandoned(&store, second.epoch).await, [payment_id(1)]);
    store.transact(served_by(second, 2, &*clock)).await.unwrap();
    assert_eq!(abandoned(&store, second.epoch).await, [payment_id(1)]);
}

/// As many as share the bound, and no more; all of them divide it alike.
pub async fn each_living_run_has_a_slot_of_its_own<H: Harness>(harness: &H) {
    let (store, clock) = create(harness);
    let first = store.begin_run(3).await.unwrap();
    let replica = || harness.replica(&store, clock.clone());
    let (Some(second), Some(third), Some(fourth)) = (replica(), replica(), replica()) else {
        return;
    };
    let middle = second.begin_run(3).await.unwrap();
    let last = third.begin_run(3).await.unwrap();
    assert_eq!([first.slot, middle.slot, last.slot], [0, 1, 2]);
    let none = fourth.begin_run(3).await;
    assert_eq!(none, Err(Outage::NoSlot(3).into()));
    let other = fourth.begin_run(4).await;
    let (living, asked) = (3, 4);
    assert_eq!(other, Err(Outage::Slots { living, asked }.into()));
    second.end_run(middle.epoch).await.unwrap();
    assert_eq!(fourth.begin_run(3).await.unwrap().slot, 1);
}

/// A gateway that was paused for longer than its lease.
pub async fn a_run_declared_dead_learns_it_and_writes_nothing<H: Harness>(harness: &H) {
    let (store, clock) = create(harness);
    let Some(paused) = harness.replica(&store, clock.clone()) else {
        return;
    };
    let (run, dead) = (
        store.begin_run(2).await.unwrap(),
        paused.begin_run(2).await.unwrap(),
    );
    store.transact(served_by(run, 1, &*clock)).await.unwrap();
    paused.transact(served_by(dead, 2, &*clock)).await.unwrap();
    clock.advance(RUN_LEASE);
    assert_eq!(store.renew(run.epoch).await, Ok(true));
    assert_eq!(
        abandoned(&store, run.epoch).await,
        [],
        "not a second before"
    );
    clock.advance(1);
    assert_eq!(abandoned(&store, run.epoch).await, [payment_id(2)]);

    assert_eq!(paused.renew(dead.epoch).await, Ok(false));
    let refused = paused.transact(served_by(dead, 3, &*clock)).await;
    assert_eq!(refused, Err(StoreError::Unavailable(Outage::RunEnded)));
    assert_eq!(store.payment(payment_id(3)).await, Ok(None));
    let anew = paused.begin_run(2).await.unwrap();
    assert_eq!(anew.slot, dead.slot);
    paused.transact(served_by(anew, 3, &*clock)).await.unwrap();
    assert_eq!(abandoned(&store, run.epoch).await, [payment_id(2)]);
}

/// Writes rows as they are.
struct Put(Vec<Row>);

impl Command for Put {
    type Outcome = ();

    fn rows(&self) -> RowSet {
        self.0.iter().map(Row::key).collect()
    }

    fn decide(&self, _: &Rows, _: Timestamp) -> Result<Decision<()>, Refusal> {
        Ok(Decision {
            writes: self.0.clone(),
            entries: Vec::new(),
            outcome: (),
        })
    }
}

/// Identifiers and outcomes, the oldest first.
pub async fn what_has_expired_is_forgotten_and_nothing_else<H: Harness>(harness: &H) {
    let (store, clock) = create(harness);
    let begin = clock.now();
    let mut rows = Vec::new();
    for number in 1..=4u8 {
        let expires = begin.plus(u64::from(number) * 10);
        rows.push(Row::Identifier(IdentifierRow {
            key: IdentifierKey {
                chain: ChainId::DEV,
                owner: payer(1),
                digest: B256::repeat_byte(number),
            },
            request: B256::ZERO,
            payment: payment_id(number.into()),
            created: begin,
            expires,
        }));
        rows.push(Row::Outcome(OutcomeRow {
            payment: payment_id(number.into()),
            status: 200,
            content_type: "text/plain".into(),
            body: StoredBody::TooLong,
            expires,
        }));
    }
    let put = Put(rows);
    let names = put.rows();
    store.transact(put).await.unwrap();
    store
        .transact(reserve(9, (payer(1), Kind::Once, 9), 1, 1, 10, begin))
        .await
        .unwrap();
    assert_eq!(store.prune(10).await, Ok(0));
    clock.advance(30);
    assert_eq!(store.prune(2).await, Ok(2));
    assert_eq!(store.prune(10).await, Ok(4));
    assert_eq!(store.prune(10).await, Ok(0));
    let left = store.read(names).await.unwrap();
    assert_eq!(left.iter().count(), 2);
    assert!(left.outcome(&payment_id(4)).is_some());
    assert!(store.payment(payment_id(9)).await.unwrap().is_some());
}
