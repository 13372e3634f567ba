//! A gateway that dies at any step goes on from its ledger: every charge ends, the treasury has exactly the committed
//! sum, and nothing is paid twice.

#[expect(dead_code, reason = "this file uses a part")]
mod common;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use common::*;
use tollgate_bsc::{BlockTag, Call};
use tollgate_devchain::DEV_ACCOUNTS;
use tollgate_eip712::LocalWallet;
use tollgate_engine::{Cashier, CashierConfig, ChainVerifier, OwnRail, Worker, WorkerError};
use tollgate_ledger::{MemoryStore, Outage, SqliteStore, Status, Store};
use tollgate_payment::{
    BatchRow, Instruction, Pricing, RequestBinding, SignerKey, Submission,
    command::{Included, Resume},
    port::{Hold, HoldError, Rail, RailError, Till, Trace},
};
use tollgate_x402::{Amount, B256, Bytes, ChainId, PaymentId, PaymentPayload, PaymentState, U256};

/// A rail whose process dies at one of its steps. What the ledger held at that moment is kept.
struct DyingRail {
    inner: OwnRail<LocalWallet>,
    store: MemoryStore,
    life: Arc<Mutex<Life>>,
}

#[derive(Default)]
struct Life {
    steps_left: usize,
    left_behind: Option<MemoryStore>,
}

impl DyingRail {
    /// Whether the process is dead, after one more step.
    fn step(&self) -> bool {
        let mut life = self.life.lock().unwrap();
        if life.left_behind.is_none() && life.steps_left == 0 {
            life.left_behind = Some(self.store.fork());
        }
        life.steps_left = life.steps_left.saturating_sub(1);
        life.left_behind.is_some()
    }

    fn dead() -> RailError {
        RailError::Unavailable("dead".to_owned())
    }
}

impl Rail for DyingRail {
    async fn prepare(
        &self,
        batch: &BatchRow,
        nonce: u64,
        above: Option<u128>,
    ) -> Result<Instruction, RailError> {
        if self.step() {
            return Err(Self::dead());
        }
        self.inner.prepare(batch, nonce, above).await
    }

    /// Two steps: dead before anything is sent, and dead before the answer is written.
    async fn submit(&self, stored: &Instruction) -> Submission {
        if self.step() {
            return Submission::Unknown;
        }
        let answer = self.inner.submit(stored).await;
        if self.step() {
            return Submission::Unknown;
        }
        answer
    }

    async fn trace(&self, batch: &BatchRow) -> Result<Trace, RailError> {
        if self.step() {
            return Err(Self::dead());
        }
        self.inner.trace(batch).await
    }

    async fn nonce(&self) -> Result<u64, RailError> {
        self.inner.nonce().await
    }
}

impl World {
    /// Lets the worker work until it dies at this step. Whether it did, before everything was settled.
    async fn work_until(&mut self, step: usize) -> bool {
        let market = self.markets.iter().next().unwrap();
        let life = Arc::new(Mutex::new(Life {
            steps_left: step,
            left_behind: None,
        }));
        let rail = DyingRail {
            inner: rail(&self.reader, &self.clock, market, OPERATOR),
            store: self.store.clone(),
            life: Arc::clone(&life),
        };
        let config = worker_config(&self.setup, market, OPERATOR);
        let mut worker = Worker::new(
            self.store.clone(),
            rail,
            self.clock.clone(),
            config,
            self.work.clone(),
        );
        for _ in 0..40 {
            let progress = worker.tick().await;
            if let Some(left) = life.lock().unwrap().left_behind.take() {
                self.store = left;
                return true;
            }
            let progress = progress.unwrap();
            if progress.undecided == 0 && progress.sent == 0 {
                return false;
            }
            self.pass(1).await;
        }
        panic!("nothing settles");
    }

    /// A person has looked at why the account stands still, and lets it go on.
    async fn resume(&self) {
        let operator = DEV_ACCOUNTS[OPERATOR].address;
        let count = self
            .reader
            .transaction_count(operator, BlockTag::Latest)
            .await
            .unwrap();
        let resume = Resume {
            signer: SignerKey {
                chain: ChainId::DEV,
                operator,
            },
            chain_nonce: count,
        };
        self.store.transact(resume).await.unwrap();
    }

    async fn all_final(&self, ids: &[PaymentId]) {
        for id in ids {
            assert_eq!(self.state(*id).await, PaymentState::Final);
        }
        let totals = self.store.totals().await.unwrap();
        assert_eq!(totals.discrepancies(), Vec::<String>::new());
    }

    /// A transaction of the operator's key that the ledger knows nothing of.
    async fn stranger(&self) {
        let nothing = Call {
            to: DEV_ACCOUNTS[1].address,
            input: Bytes::new(),
            gas_limit: 21_000,
        };
        self.send(OPERATOR, nothing).await;
        self.chain.mine().await;
    }

    async fn transactions(&self) -> u64 {
        let operator = DEV_ACCOUNTS[OPERATOR].address;
        self.reader
            .transaction_count(operator, BlockTag::Latest)
            .await
            .unwrap()
    }
}

/// Payments of every kind, committed.
async fn every_kind(world: &World) -> Vec<PaymentId> {
    world.approve_permit2(PAYER, U256::MAX).await;
    let allowance = world.allowance(PAYER, dollars(99), 0).await;
    let once = world.once(PAYER, dollars(99), 5).await;
    let exact = world.transfer(PAYER, dollars(20), 9).await;
    let metered = world.metered(dollars(10));
    let fixed = world.offer(Pricing::Fixed(dollars(20)));
    vec![
        world.pay(&metered, &allowance, dollars(3)).await,
        world.pay(&metered, &allowance, dollars(2)).await,
        world.pay(&metered, &once, dollars(4)).await,
        world.pay(&fixed, &exact, dollars(20)).await,
    ]
}

async fn at_every_step(settler: bool) {
    for step in 0.. {
        let setup = Setup {
            settler,
            ..Setup::default()
        };
        let mut world = World::new(Backend::devchain().await, setup).await;
        let ids = every_kind(&world).await;
        let died = world.work_until(step).await;
        world.crash().await;
        world.settle().await;
        world.all_final(&ids).await;
        assert_eq!(world.received().await, dollars(29), "died at step {step}");
        if !died {
            assert!(step > 5, "every step was died at");
            return;
        }
    }
}

#[tokio::test]
async fn a_worker_that_dies_at_any_step_pays_every_charge_once_through_the_settler() {
    at_every_step(true).await;
}

#[tokio::test]
async fn a_worker_that_dies_at_any_step_pays_every_charge_once_from_a_plain_account() {
    at_every_step(false).await;
}

#[tokio::test]
async fn a_gateway_that_dies_while_serving_charges_the_last_checkpoint() {
    let mut world = World::new(Backend::devchain().await, Setup::default()).await;
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let offer = world.metered(dollars(10));
    let reserved = world.admit(&offer, &signed).await.unwrap();
    let mut served = world.admit(&offer, &signed).await.unwrap();
    served.checkpoint(dollars(4)).await.unwrap();
    let committed = world.pay(&offer, &signed, dollars(6)).await;
    let (reserved_id, served_id) = (reserved.id(), served.id());
    world.crash().await;
    // What the dead process still holds reaches nobody's books.
    drop((reserved, served));
    world.settle().await;
    assert_eq!(world.state(reserved_id).await, PaymentState::Released);
    world.all_final(&[served_id, committed]).await;
    assert_eq!(world.received().await, dollars(10));
    let whole = world.admit(&offer, &signed).await.unwrap();
    assert_eq!(whole.cap(), dollars(10), "nothing is held any more");
}

#[tokio::test]
async fn a_crash_after_inclusion_and_a_reorg_pay_once() {
    let mut world = World::new(Backend::devchain().await, Setup::default()).await;
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let id = world
        .pay(&world.metered(dollars(10)), &signed, dollars(5))
        .await;
    world.tick().await;
    world.pass(1).await;
    world.tick().await;
    assert_eq!(world.state(id).await, PaymentState::Included);
    world.crash().await;
    world.chain.reorg(1).await;
    world.crash().await;
    world.settle().await;
    world.all_final(&[id]).await;
    assert_eq!(world.received().await, dollars(5));
}

#[tokio::test]
async fn what_a_plain_account_is_owed_is_in_a_block_three_blocks_after_a_start_permits_included() {
    let setup = Setup {
        settler: false,
        ..Setup::default()
    };
    let mut world = World::new(Backend::devchain().await, setup).await;
    world.approve_permit2(PAYER, U256::MAX).await;
    let offer = world.metered(dollars(1));
    let mut ids = Vec::new();
    for payer in [PAYER, PAYER + 1] {
        let signed = world.allowance(payer, dollars(99), 0).await;
        ids.push(world.pay(&offer, &signed, dollars(1)).await);
    }
    // More than a node takes ahead of the chain from one account.
    for nonce in 0..18 {
        let signed = world.once(PAYER, dollars(1), nonce).await;
        ids.push(world.pay(&offer, &signed, dollars(1)).await);
    }
    world.crash().await;
    for _ in 0..3 {
        world.tick().await;
        world.chain.mine().await;
    }
    world.tick().await;
    for id in &ids {
        let state = world.state(*id).await;
        let in_a_block = matches!(state, PaymentState::Included | PaymentState::Final);
        assert!(in_a_block, "{state:?}");
    }
    world.settle().await;
    world.all_final(&ids).await;
    assert_eq!(world.received().await, dollars(20));
}

#[tokio::test]
async fn a_permit_and_its_draw_that_a_reorganization_takes_out_go_in_again_and_pay_once() {
    for depth in [1, 2] {
        let setup = Setup {
            settler: false,
            ..Setup::default()
        };
        let mut world = World::new(Backend::devchain().await, setup).await;
        let signed = world.allowance(PAYER, dollars(99), 0).await;
        let offer = world.metered(dollars(10));
        let id = world.pay(&offer, &signed, dollars(5)).await;
        assert_eq!(world.tick().await.sent, 1, "the permit");
        world.chain.mine().await;
        let permit = world.store.undecided().await.unwrap().remove(0);
        let at = Some((permit.sent[0].hash, 1));
        let included = Included {
            batch: permit.id,
            at,
        };
        world.store.transact(included).await.unwrap();
        assert_eq!(
            world.state(id).await,
            PaymentState::Accepted,
            "a permit moves nothing"
        );
        assert_eq!(world.tick().await.sent, 1, "the draw");
        world.chain.mine().await;
        world.tick().await;
        assert_eq!(world.state(id).await, PaymentState::Included);
        world.chain.reorg(depth).await;
        world.crash().await;
        world.settle().await;
        world.all_final(&[id]).await;
        assert_eq!(world.received().await, dollars(5));
    }
}

#[tokio::test]
async fn a_key_that_was_used_elsewhere_sends_nothing() {
    let mut world = World::new(Backend::devchain().await, Setup::default()).await;
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let offer = world.metered(dollars(10));
    world.pay(&offer, &signed, dollars(5)).await;
    world.settle().await;
    world.stranger().await;
    let id = world.pay(&offer, &signed, dollars(5)).await;
    let sent = world.transactions().await;
    for restart in [false, true] {
        if restart {
            world.crash().await;
        }
        for _ in 0..3 {
            let refused = world.worker.tick().await.unwrap_err();
            let WorkerError::Halted(halt) = &refused else {
                panic!("{refused}");
            };
            assert!(halt.reason.contains("counted 2"), "{refused}");
            assert!(refused.to_string().contains("reconcile"), "{refused}");
            world.pass(5).await;
        }
    }
    assert_eq!(world.transactions().await, sent);
    assert_eq!(world.state(id).await, PaymentState::Accepted);
    assert_eq!(world.received().await, dollars(5));
}

#[tokio::test]
async fn a_nonce_that_a_stranger_took_stops_the_account_and_loses_nothing() {
    let mut world = World::new(Backend::devchain().await, Setup::default()).await;
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let id = world
        .pay(&world.metered(dollars(10)), &signed, dollars(5))
        .await;
    world.tick().await;
    let ours = world.store.undecided().await.unwrap()[0].sent[0].hash;
    world.chain.drop_transaction(ours).await;
    world.stranger().await;
    let mut stopped = false;
    for _ in 0..30 {
        world.pass(1).await;
        stopped = matches!(
            world.worker.tick().await,
            Err(WorkerError::Halted(halt)) if halt.reason.contains("nonce 0")
        );
    }
    assert!(stopped);
    assert_eq!(world.state(id).await, PaymentState::Accepted);
    assert_eq!(world.received().await, Amount::ZERO);
    // It outlives a restart, until a person has looked.
    world.crash().await;
    let stopped = world.worker.tick().await.unwrap_err();
    assert!(matches!(stopped, WorkerError::Halted(_)), "{stopped}");
    world.resume().await;
    world.crash().await;
    world.settle().await;
    world.all_final(&[id]).await;
    assert_eq!(world.received().await, dollars(5));
}

#[tokio::test]
async fn what_a_retired_key_left_behind_is_brought_to_its_end_by_the_next() {
    for step in 0..6 {
        let mut world = World::new(Backend::devchain().await, Setup::default()).await;
        world.set_operator(SUCCESSOR, true).await;
        let mut ids = every_kind(&world).await;
        assert!(world.work_until(step).await);
        world.restart_as(SUCCESSOR).await;
        let allowance = world.allowance(1, dollars(99), 0).await;
        let offer = world.metered(dollars(10));
        ids.push(world.pay(&offer, &allowance, dollars(1)).await);
        for _ in 0..40 {
            world.tick().await;
            world.pass(10).await;
        }
        world.all_final(&ids).await;
        assert_eq!(world.received().await, dollars(30));
    }
}

#[tokio::test]
async fn a_charge_that_the_ledger_could_not_take_is_taken_when_it_can() {
    let mut world = World::new(Backend::devchain().await, Setup::default()).await;
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let offer = world.metered(dollars(10));
    let hold = world.admit(&offer, &signed).await.unwrap();
    let id = hold.id();
    world
        .store
        .interrupt(Some(Outage::Full("a test".to_owned())));
    let refused = hold.commit(dollars(5), None).await.unwrap_err();
    assert!(matches!(refused, HoldError::Unavailable(_)));
    world.store.interrupt(None);
    let told = tokio::time::timeout(Duration::from_secs(30), world.work.notified());
    told.await.unwrap();
    world.settle().await;
    world.all_final(&[id]).await;
    assert_eq!(world.received().await, dollars(5));
}

#[tokio::test]
async fn an_answer_that_was_withheld_is_charged_later_only_to_who_can_ask_for_it_again() {
    let world = World::new(Backend::devchain().await, Setup::default()).await;
    world.approve_permit2(PAYER, U256::MAX).await;
    let offer = world.metered(dollars(10));
    let allowance = world.allowance(PAYER, dollars(99), 0).await;
    let once = world.once(PAYER, dollars(10), 1).await;
    let full = || Some(Outage::Full("a test".to_owned()));
    for (signed, charged) in [(&allowance, false), (&once, true)] {
        let hold = world.admit(&offer, signed).await.unwrap();
        let id = hold.id();
        world.store.interrupt(full());
        let refused = hold.commit_undelivered(dollars(5), None).await.unwrap_err();
        assert_eq!(matches!(refused, HoldError::Undecided(_)), charged);
        assert_eq!(matches!(refused, HoldError::Unavailable(_)), !charged);
        world.store.interrupt(None);
        let told = tokio::time::timeout(Duration::from_secs(30), world.work.notified());
        told.await.unwrap();
        let payment = world.store.payment(id).await.unwrap().unwrap();
        let due = matches!(payment.state, tollgate_payment::PaymentState::Due { .. });
        assert_eq!((due, payment.charge == dollars(5)), (charged, charged));
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_while_the_ledger_works_leaves_nothing_held() {
    let world = World::new(Backend::devchain().await, Setup::default()).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ledger");
    let store = SqliteStore::open(file, B256::ZERO, world.clock.clone()).unwrap();
    let verifier = ChainVerifier::new(
        world.reader.clone(),
        world.markets.clone(),
        world.clock.clone(),
        30,
    );
    let config = CashierConfig {
        markets: world.markets.clone(),
        run: store.begin_run(1).await.unwrap().into(),
        margin: 60,
        retention: tollgate_payment::Retention::default(),
    };
    let till = Cashier::new(
        store.clone(),
        verifier,
        world.clock.clone(),
        config,
        world.work.clone(),
    );
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let offer = world.metered(dollars(1));
    let admit = || {
        let required = offer.required("payment_required");
        let payload = PaymentPayload::answering(&required, &required.accepts[0], &signed);
        let binding = RequestBinding {
            digest: B256::ZERO,
            memo: String::new(),
        };
        till.admit(&offer, payload, binding)
    };
    // Known from now on: no call of the chain stands between the first look and the ledger.
    let known = admit().await.unwrap().hold().unwrap();
    known.release().await.unwrap();
    for _ in 0..8 {
        let mut caller = Box::pin(admit());
        assert!(futures_util::poll!(&mut caller).is_pending());
    }
    let ended = async {
        loop {
            let totals = store.totals().await.unwrap();
            let token = totals.0.values().next().unwrap();
            if token.of(Status::Released).payments == 9 {
                return (token.held, token.in_flight);
            }
        }
    };
    let left = tokio::time::timeout(Duration::from_secs(30), ended).await;
    assert_eq!(left.unwrap(), (Amount::ZERO, 0));
}
