//! The kit itself: histories that reach little would check little.

use std::{collections::BTreeMap, sync::Arc};

use proptest::{
    collection::vec,
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngSeed, TestRunner},
};
use tollgate_x402::{B256, Clock};

use super::{History, ManualClock, Step, block_on};
use crate::{
    log::{LogFilter, Status},
    memory::MemoryStore,
    store::Store,
};

#[test]
fn random_histories_reach_every_state_by_every_command() {
    block_on(reach());
}

async fn reach() {
    let mut runner = TestRunner::new(Config {
        rng_seed: RngSeed::Fixed(402),
        ..Config::default()
    });
    let mut asked: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    let mut refused: BTreeMap<String, u32> = BTreeMap::new();
    let mut reached: BTreeMap<Status, usize> = BTreeMap::new();
    for _ in 0..120 {
        let steps = vec(Step::any(), 60..90).new_tree(&mut runner).unwrap();
        let clock = ManualClock::new();
        let shared: Arc<dyn Clock> = clock.clone();
        let memory = MemoryStore::new(B256::ZERO, shared);
        let mut history = History::default();
        for step in steps.current() {
            let ask = history.ask(step, &memory.rows(), clock.now());
            let name = format!("{ask:?}");
            let count = asked
                .entry(name.split('(').next().unwrap().into())
                .or_default();
            count.0 += 1;
            match ask.run(&memory).await {
                Ok(_) => count.1 += 1,
                Err(refusal) => *refused.entry(refusal.to_string()).or_default() += 1,
            }
            clock.advance(1);
        }
        for status in Status::ALL {
            let filter = LogFilter {
                status: Some(status),
                ..LogFilter::default()
            };
            *reached.entry(status).or_default() += memory.logs(filter, 1000).await.unwrap().len();
        }
    }
    let poor: Vec<_> = asked.iter().filter(|(_, (_, done))| *done < 20).collect();
    assert!(poor.is_empty(), "{poor:?} of {asked:?}");
    assert_eq!(asked.len(), 10);
    for (status, count) in &reached {
        assert!(*count >= 20, "{status:?} was reached {count} times");
    }
    let contradictions: Vec<_> = refused
        .keys()
        .filter(|refusal| refusal.contains("contradict"))
        // The generator's own nonsense.
        .filter(|refusal| !refusal.contains("as many items"))
        .filter(|refusal| !refusal.contains("without a transaction"))
        .collect();
    assert!(contradictions.is_empty(), "{contradictions:?}");
}
