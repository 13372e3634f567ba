//! Workers that have the same key and the same ledger: one signs, the others wait, and one that was paused past its
//! lease changes nothing when it wakes up.

#[expect(dead_code, reason = "this file uses a part")]
mod common;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use common::*;
use tokio::sync::Semaphore;
use tollgate_eip712::LocalWallet;
use tollgate_engine::{OwnRail, Worker};
use tollgate_ledger::{MemoryStore, Store};
use tollgate_payment::{
    BatchRow, Instruction, Pricing, Row, SignerKey, Submission,
    command::Lead,
    port::{Rail, RailError, Rehearsal, Room, Trace},
};
use tollgate_x402::{B256, Bytes, Clock, PaymentId, PaymentState, U256};

/// A rail whose worker is paused at one of its steps, until it is let go on.
#[derive(Clone)]
struct PausingRail {
    inner: OwnRail<LocalWallet>,
    pause: Arc<Pause>,
}

struct Pause {
    steps_left: Mutex<usize>,
    paused: Semaphore,
    go_on: Semaphore,
    /// Everything that was sent.
    sent: Arc<Mutex<Vec<B256>>>,
}

impl PausingRail {
    async fn step(&self) {
        let now = {
            let mut left = self.pause.steps_left.lock().unwrap();
            let now = *left == 0;
            *left = left.checked_sub(1).unwrap_or(usize::MAX);
            now
        };
        if now {
            self.pause.paused.add_permits(1);
            self.pause.go_on.acquire().await.unwrap().forget();
        }
    }
}

impl Rail for PausingRail {
    async fn prepare(
        &self,
        batch: &BatchRow,
        nonce: u64,
        above: Option<u128>,
    ) -> Result<Instruction, RailError> {
        self.step().await;
        let prepared = self.inner.prepare(batch, nonce, above).await;
        self.step().await;
        prepared
    }

    async fn submit(&self, stored: &Instruction) -> Submission {
        self.step().await;
        self.pause.sent.lock().unwrap().push(stored.hash);
        let answer = self.inner.submit(stored).await;
        self.step().await;
        answer
    }

    async fn trace(&self, batch: &BatchRow) -> Result<Trace, RailError> {
        self.step().await;
        let trace = self.inner.trace(batch).await;
        self.step().await;
        trace
    }

    async fn nonce(&self) -> Result<u64, RailError> {
        let nonce = self.inner.nonce().await;
        self.step().await;
        nonce
    }

    async fn rehearse(&self, batch: &BatchRow) -> Result<Rehearsal, RailError> {
        let rehearsal = self.inner.rehearse(batch).await;
        self.step().await;
        rehearsal
    }
}

type Paused = Worker<MemoryStore, PausingRail, Arc<ChainClock>>;

impl World {
    /// Another worker of the same key on the same ledger, which is paused at this step of its rail.
    fn another(&self, step: usize, sent: &Arc<Mutex<Vec<B256>>>) -> (Paused, Arc<Pause>) {
        let market = self.markets.iter().next().unwrap();
        let pause = Arc::new(Pause {
            steps_left: Mutex::new(step),
            paused: Semaphore::new(0),
            go_on: Semaphore::new(0),
            sent: Arc::clone(sent),
        });
        let rail = PausingRail {
            inner: rail(&self.reader, &self.clock, market, OPERATOR),
            pause: Arc::clone(&pause),
        };
        let mut config = worker_config(&self.setup, market, OPERATOR);
        config.sole = false;
        let (store, clock) = (self.store.clone(), self.clock.clone());
        let worker = Worker::new(store, rail, clock, config, self.work.clone());
        (worker, pause)
    }

    async fn four_kinds(&self) -> Vec<PaymentId> {
        self.approve_permit2(PAYER, U256::MAX).await;
        let allowance = self.allowance(PAYER, dollars(99), 0).await;
        let once = self.once(PAYER, dollars(99), 5).await;
        let exact = self.transfer(PAYER, dollars(20), 9).await;
        let metered = self.metered(dollars(10));
        let fixed = self.offer(Pricing::Fixed(dollars(20)));
        vec![
            self.pay(&metered, &allowance, dollars(3)).await,
            self.pay(&metered, &allowance, dollars(2)).await,
            self.pay(&metered, &once, dollars(4)).await,
            self.pay(&fixed, &exact, dollars(20)).await,
        ]
    }

    /// Everything is paid, once, and nothing was ever sent that was not stored under its nonce.
    async fn paid_once(&self, ids: &[PaymentId], sent: &Mutex<Vec<B256>>, step: usize) {
        for id in ids {
            let row = self.store.payment(*id).await.unwrap().unwrap();
            assert_eq!(
                self.state(*id).await,
                PaymentState::Final,
                "step {step}: {row:?}"
            );
        }
        assert_eq!(self.received().await, dollars(29), "step {step}");
        let rows = self.store.rows();
        let stored: Vec<_> = rows
            .iter()
            .filter_map(|row| match row {
                Row::Batch(batch) => Some(batch),
                _ => None,
            })
            .collect();
        let mut nonces: Vec<_> = stored.iter().filter_map(|batch| batch.nonce()).collect();
        nonces.sort_unstable();
        nonces.dedup();
        let sealed = stored
            .iter()
            .filter(|batch| batch.nonce().is_some())
            .count();
        assert_eq!(nonces.len(), sealed, "a nonce is one batch's");
        for hash in sent.lock().unwrap().iter() {
            let known = stored.iter().flat_map(|batch| &batch.sent);
            assert!(
                known.into_iter().any(|stored| stored.hash == *hash),
                "step {step}: {hash} was sent and not stored"
            );
        }
    }
}

/// One worker is paused at each of its steps, past its lease; the other takes over and settles; the first wakes up in
/// the middle of it.
async fn paused_at_every_step(settler: bool) {
    for step in 0..20 {
        let setup = Setup {
            settler,
            ..Setup::default()
        };
        let world = World::new(Backend::devchain().await, setup).await;
        let ids = world.four_kinds().await;
        let sent = Arc::default();
        let (mut first, pause) = world.another(step, &sent);
        let (mut second, _) = world.another(usize::MAX, &sent);
        let mut task = tokio::spawn(async move {
            for _ in 0..30 {
                // It may find that another leads now.
                drop(first.tick().await);
                tokio::task::yield_now().await;
            }
        });
        let paused = tokio::select! {
            paused = pause.paused.acquire() => {
                paused.unwrap().forget();
                true
            }
            ended = &mut task => {
                ended.unwrap();
                false
            }
        };
        // Its lease stands: the other one waits.
        let waits = second.tick().await.unwrap();
        // At its first step it does not lead yet.
        assert!(waits.standby || step == 0, "step {step}");
        world.pass(7).await;
        let mut woken = false;
        for round in 0..40 {
            drop(second.tick().await);
            // Wakes up at another moment each time.
            if paused && !woken && round == step % 5 {
                pause.go_on.add_permits(1);
                (&mut task).await.unwrap();
                woken = true;
            }
            world.pass(2).await;
        }
        world.paid_once(&ids, &sent, step).await;
        assert!(paused, "the worker has so many steps");
    }
}

#[tokio::test]
async fn a_settlers_worker_paused_past_its_lease_pays_nothing_twice_when_it_wakes_up() {
    paused_at_every_step(true).await;
}

#[tokio::test]
async fn a_plain_accounts_worker_paused_past_its_lease_pays_nothing_twice_when_it_wakes_up() {
    paused_at_every_step(false).await;
}

#[tokio::test]
async fn workers_that_take_turns_sign_one_transaction_a_nonce() {
    for seed in 0..12_u64 {
        let world = World::new(Backend::devchain().await, Setup::default()).await;
        let ids = world.four_kinds().await;
        // What the payers did is final: a reorganization takes out settlements alone.
        world.chain.mine_blocks(3).await;
        let sent = Arc::default();
        let mut workers = [
            world.another(usize::MAX, &sent).0,
            world.another(usize::MAX, &sent).0,
            world.another(usize::MAX, &sent).0,
        ];
        let mut dice = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        for _ in 0..120 {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            let turn = usize::try_from(dice % 3).unwrap();
            drop(workers[turn].tick().await);
            match dice % 11 {
                0..4 => world.pass(1).await,
                // Longer than a lease.
                4 => world.pass(7).await,
                5 if dice.is_multiple_of(3) => world.chain.reorg(1).await,
                _ => {}
            }
        }
        for _ in 0..20 {
            drop(workers[0].tick().await);
            world.pass(7).await;
        }
        world
            .paid_once(&ids, &sent, usize::try_from(seed).unwrap())
            .await;
    }
}

/// A rail of which every call takes a second, and whose transactions are in no block. Meanwhile another worker is after
/// the account.
struct SlowRail {
    store: MemoryStore,
    clock: Arc<ChainClock>,
    signer: SignerKey,
    sent: Arc<Mutex<BTreeSet<B256>>>,
}

impl Rail for SlowRail {
    async fn prepare(
        &self,
        batch: &BatchRow,
        nonce: u64,
        _above: Option<u128>,
    ) -> Result<Instruction, RailError> {
        Ok(Instruction {
            nonce,
            hash: alloy_primitives::keccak256(batch.id.0.to_be_bytes()),
            raw: Bytes::new(),
            gas_price: 0,
            stored: self.clock.now(),
            sent: None,
            void: false,
        })
    }

    async fn submit(&self, stored: &Instruction) -> Submission {
        self.clock.set(self.clock.now().plus(1));
        self.sent.lock().unwrap().insert(stored.hash);
        let other = Lead {
            signer: self.signer,
            holder: 1,
            seconds: 6,
            sole: false,
            chain_nonce: None,
        };
        let found = self.store.transact(other).await.unwrap();
        assert_eq!(found.term_of(1), None, "the lead is kept");
        Submission::Unknown
    }

    async fn trace(&self, _: &BatchRow) -> Result<Trace, RailError> {
        Ok(Trace::Pending)
    }

    fn room(&self) -> Room {
        Room {
            batches: 256,
            of_a_payer: usize::MAX,
            seconds: 30,
        }
    }

    async fn nonce(&self) -> Result<u64, RailError> {
        Ok(0)
    }
}

#[tokio::test]
async fn a_look_at_many_that_take_long_keeps_the_lead_and_ends() {
    let world = World::new(Backend::devchain().await, Setup::default()).await;
    world.approve_permit2(PAYER, U256::MAX).await;
    let market = world.markets.iter().next().unwrap();
    let mut config = worker_config(&world.setup, market, OPERATOR);
    (config.queues, config.sole, config.replace_after) = (1, false, u64::MAX);
    let sent = Arc::<Mutex<BTreeSet<B256>>>::default();
    let rail = SlowRail {
        store: world.store.clone(),
        clock: world.clock.clone(),
        signer: config.signer,
        sent: Arc::clone(&sent),
    };
    let offer = world.metered(dollars(1));
    for number in 0..40 {
        let signed = world.once(PAYER, dollars(1), 5_000 + number).await;
        world.pay(&offer, &signed, dollars(1)).await;
    }
    let (store, clock) = (world.store.clone(), world.clock.clone());
    let mut worker = Worker::new(store, rail, clock, config, world.work.clone());
    for _ in 0..40 {
        let before = world.now();
        worker.tick().await.unwrap();
        let took = world.now().since(before);
        assert!(took <= 7, "{took} s: what is open, open for long, and new");
    }
    assert_eq!(sent.lock().unwrap().len(), 40, "all had their turn");
}
