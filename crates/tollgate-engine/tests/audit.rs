//! The audit sees what is wrong.

use std::sync::Arc;

use tollgate_engine::audit;
use tollgate_ledger::{MemoryStore, Store};
use tollgate_payment::{
    Command, Counter, Decision, ExposureKey, ExposureRow, Limit, OwnerKey, OwnerRow, Refusal, Row,
    RowSet, Rows, SpenderKey, SpenderRow, command::Block,
};
use tollgate_x402::{Address, Amount, B256, ChainId, Clock, Timestamp};

/// Time stands still.
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp(1_900_000_000)
    }
}

/// Writes a row past all rules, as a broken program would.
struct Tamper(Row);

impl Command for Tamper {
    type Outcome = ();

    fn rows(&self) -> RowSet {
        [self.0.key()].into_iter().collect()
    }

    fn decide(&self, _rows: &Rows, _now: Timestamp) -> Result<Decision<()>, Refusal> {
        Ok(Decision {
            writes: vec![self.0.clone()],
            entries: Vec::new(),
            outcome: (),
        })
    }
}

const OWNER: OwnerKey = OwnerKey {
    chain: ChainId::DEV,
    token: Address::repeat_byte(0x70),
    owner: Address::repeat_byte(0xa1),
};

fn store() -> MemoryStore {
    MemoryStore::new(B256::ZERO, Arc::new(Still))
}

async fn violated(row: Row) -> Vec<&'static str> {
    let store = store();
    store.transact(Tamper(row)).await.unwrap();
    let report = audit(&store).await.unwrap();
    let names = report.invariants.iter().filter(|one| !one.holds());
    names.map(|one| one.name).collect()
}

#[tokio::test]
async fn an_empty_ledger_and_a_blocked_stranger_hold() {
    let store = store();
    assert!(audit(&store).await.unwrap().holds());
    let block = Block {
        owner: OWNER,
        reason: "known elsewhere".into(),
    };
    store.transact(block).await.unwrap();
    assert!(audit(&store).await.unwrap().holds());
}

#[tokio::test]
async fn sums_that_no_payment_makes_are_seen() {
    let mut owner = OwnerRow::new(OWNER);
    owner.held = Amount::from(5u64);
    assert_eq!(
        violated(Row::Owner(owner)).await,
        ["payers", "double-entry", "sums"]
    );
    let mut exposure = ExposureRow::new(ExposureKey {
        chain: OWNER.chain,
        token: OWNER.token,
        slice: 0,
    });
    exposure.used = Amount::from(1u64);
    assert_eq!(
        violated(Row::Exposure(exposure)).await,
        ["exposure", "sums"]
    );
}

#[tokio::test]
async fn a_counter_that_claims_what_no_batch_has_is_seen() {
    let counter = Counter {
        settled: Amount::from(3u64),
        claimed: Amount::from(7u64),
        ..Counter::default()
    };
    let spender = SpenderRow {
        key: SpenderKey {
            owner: OWNER,
            spender: Address::repeat_byte(0x5e),
        },
        held: Amount::ZERO,
        due: Amount::ZERO,
        limit: Limit::Counter(Box::new(counter)),
    };
    assert_eq!(violated(Row::Spender(spender)).await, ["intervals"]);
}
