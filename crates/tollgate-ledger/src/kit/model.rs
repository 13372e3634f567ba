//! Any store against the one in memory, on the same random history.

use std::sync::Arc;

use proptest::{
    collection::vec,
    test_runner::{Config, RngSeed, TestRunner},
};
use tollgate_payment::{Row, RowKey, RowSet, Rows};
use tollgate_x402::{B256, ChainId, Clock};

use super::{
    Harness, ManualClock, block_on,
    history::{History, Step},
    payers::{PERMIT2, SELLER, TOKEN, payer},
};
use crate::{
    error::StoreError,
    log::{LogFilter, Status},
    memory::MemoryStore,
    query::Due,
    scan::RowKind,
    store::Store,
};

/// Executes random histories on the store and on the memory, one step after the other: outcomes, refusals,
/// rows, books and every query are the same, also after the store was closed and opened again.
///
/// `TOLLGATE_KIT_CASES` sets how many histories (24).
pub fn agrees_with_memory<H: Harness>(harness: &H) {
    let cases = std::env::var("TOLLGATE_KIT_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(24);
    let config = Config {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Random,
        max_shrink_iters: 400,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&vec(Step::any(), 1..90), |steps| {
            block_on(follow(harness, &steps));
            Ok(())
        })
        .expect("the store and the memory agree");
}

async fn follow<H: Harness>(harness: &H, steps: &[Step]) {
    let clock = ManualClock::new();
    let shared: Arc<dyn Clock> = clock.clone();
    let id = B256::repeat_byte(7);
    let memory = MemoryStore::new(id, Arc::clone(&shared));
    let mut store = harness.create(id, Arc::clone(&shared));
    let mut history = History::default();
    let mut accepted = 0usize;

    for (number, step) in steps.iter().enumerate() {
        let ask = history.ask(*step, &memory.rows(), clock.now());
        let expected = ask.run(&memory).await;
        let found = ask.run(&store).await;
        assert_eq!(found, expected, "step {number}: {ask:?}");
        assert!(
            !matches!(expected, Err(StoreError::Corrupt(_))),
            "step {number} breaks the machine's own discipline: {expected:?}"
        );
        let names = ask.rows();
        assert_eq!(
            store.read(names.clone()).await,
            memory.read(names).await,
            "rows after step {number}: {ask:?}"
        );
        accepted += usize::from(expected.is_ok());
        clock.advance(number as u64 % 3);
        if number % 30 == 29 {
            compare(&store, &memory).await;
        }
    }
    compare(&store, &memory).await;
    let totals = memory.totals().await.unwrap();
    assert_eq!(
        totals.discrepancies(),
        Vec::<String>::new(),
        "after {accepted} steps"
    );
    store = harness.reopen(store, B256::repeat_byte(8), shared);
    compare(&store, &memory).await;
}

/// Compares everything that two stores can be asked.
pub async fn compare<S: Store>(store: &S, memory: &MemoryStore) {
    assert_eq!(store.ledger_id(), memory.ledger_id());
    let names: RowSet = memory.rows().iter().map(Row::key).collect();
    assert_eq!(store.read(names).await, Ok(memory.rows()));
    for row in memory.rows().iter() {
        match row {
            Row::Payment(row) => {
                assert_eq!(store.payment(row.keys.id).await, Ok(Some(row.clone())));
            }
            Row::Batch(row) => assert_eq!(store.batch(row.id).await, Ok(Some(row.clone()))),
            Row::Owner(_)
            | Row::Spender(_)
            | Row::Authorization(_)
            | Row::Signer(_)
            | Row::Exposure(_)
            | Row::Identifier(_)
            | Row::Outcome(_) => {}
        }
    }
    assert_eq!(
        store.entries(0, 100_000).await,
        memory.entries(0, 100_000).await
    );
    assert_eq!(store.entries(3, 2).await, memory.entries(3, 2).await);

    let due = [
        (Due::default(), 100_000),
        (Due::default(), 2),
        (Due::of(ChainId::DEV), 100),
        (Due::of(ChainId::BSC), 100),
        (
            Due {
                token: Some(TOKEN),
                owner: Some(payer(1)),
                ..Due::default()
            },
            100,
        ),
        (
            Due {
                spender: Some(SELLER),
                ..Due::default()
            },
            100,
        ),
        (
            Due {
                spender: Some(PERMIT2),
                ..Due::default()
            },
            3,
        ),
    ];
    for (filter, limit) in due {
        assert_eq!(
            store.due(filter, limit).await,
            memory.due(filter, limit).await,
            "{filter:?}, {limit}"
        );
    }
    assert_eq!(store.queues().await, memory.queues().await);
    for epoch in 0..4 {
        assert_eq!(store.abandoned(epoch).await, memory.abandoned(epoch).await);
    }
    assert_eq!(store.undecided().await, memory.undecided().await);

    let mut filters: Vec<_> = Status::ALL
        .into_iter()
        .map(|status| LogFilter {
            status: Some(status),
            ..LogFilter::default()
        })
        .collect();
    filters.push(LogFilter::default());
    filters.push(LogFilter {
        payer: Some(payer(2)),
        before: Some(5),
        ..LogFilter::default()
    });
    filters.push(LogFilter {
        chain: Some(ChainId::DEV),
        token: Some(payer(0)),
        ..LogFilter::default()
    });
    for filter in filters {
        assert_eq!(store.logs(filter, 50).await, memory.logs(filter, 50).await);
    }
    assert_eq!(store.totals().await, memory.totals().await);

    let mut rows = Vec::new();
    for kind in RowKind::ALL {
        let found = scanned(store, kind, 7).await;
        assert!(found.iter().all(|row| RowKind::of(&row.key()) == kind));
        assert_eq!(found, scanned(store, kind, 100_000).await, "{kind:?}");
        rows.extend(found);
    }
    assert_eq!(rows.len(), memory.rows().iter().count(), "each comes once");
    assert_eq!(rows.into_iter().collect::<Rows>(), memory.rows());
}

/// Every row of a kind, read in pages of this size.
async fn scanned<S: Store>(store: &S, kind: RowKind, page: usize) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    loop {
        let after: Option<RowKey> = rows.last().map(Row::key);
        let found = store.scan(kind, after, page).await.unwrap();
        let last = found.len() < page;
        rows.extend(found);
        if last {
            return rows;
        }
    }
}
