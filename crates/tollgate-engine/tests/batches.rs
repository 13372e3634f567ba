//! What stands in the way of a batch: one item must not hold up the others, a nonce must not hold up the next, and gas
//! is not spent on what is known to fail.

#[expect(dead_code, reason = "this file uses a part")]
mod common;

use std::sync::Arc;

use common::*;
use tollgate_bsc::{Call, Chain, ChainConfig};
use tollgate_devchain::{BlockTime, DevChain, Development, Genesis};
use tollgate_eip712::{LocalWallet, Wallet};
use tollgate_engine::{OwnRail, Worker, Worth};
use tollgate_ledger::{MemoryStore, Store};
use tollgate_payment::{
    BatchRow, BatchState, Instruction, Pricing, Row, Submission,
    port::{Rail, RailError, Rehearsal, Trace},
};
use tollgate_x402::{
    Address, Amount, Authorization, Bytes, ChainId, ErrorCode, Exact, PaymentId, PaymentState, U256,
};

type Over<R> = Worker<MemoryStore, R, Arc<ChainClock>>;

impl World {
    fn own_rail(&self) -> OwnRail<LocalWallet> {
        let market = self.markets.iter().next().unwrap();
        rail(&self.reader, &self.clock, market, OPERATOR)
    }

    fn worker_over<R: Rail>(&self, rail: R) -> Over<R> {
        let market = self.markets.iter().next().unwrap();
        let config = worker_config(&self.setup, market, OPERATOR);
        let (store, clock) = (self.store.clone(), self.clock.clone());
        Worker::new(store, rail, clock, config, self.work.clone())
    }

    fn batches(&self) -> Vec<BatchRow> {
        let rows = self.store.rows();
        rows.iter()
            .filter_map(|row| match row {
                Row::Batch(batch) => Some(batch.clone()),
                _ => None,
            })
            .collect()
    }

    async fn states(&self, ids: &[PaymentId]) -> Vec<PaymentState> {
        let mut states = Vec::new();
        for id in ids {
            states.push(self.state(*id).await);
        }
        states
    }
}

#[tokio::test]
async fn what_a_simulation_shows_to_fail_is_left_out_before_gas_is_spent() {
    let mut world = World::new(Backend::devchain().await, Setup::default()).await;
    let offer = world.metered(dollars(10));
    let mut ids = Vec::new();
    for payer in 0..4 {
        let signed = world.allowance(payer, dollars(99), 0).await;
        ids.push(world.pay(&offer, &signed, dollars(5)).await);
    }
    world.leave(2, Amount::ZERO).await;
    for _ in 0..8 {
        world.tick().await;
        world.pass(1).await;
    }
    use PaymentState::{Accepted, Final, Lost};
    assert_eq!(world.states(&ids).await, [Final, Final, Accepted, Final]);
    assert_eq!(
        world.sent().await,
        1,
        "one transaction, of those that are good"
    );
    // The chain alone makes a charge lost: at its last time it is tried.
    for _ in 0..40 {
        world.tick().await;
        world.pass(10).await;
    }
    assert_eq!(world.states(&ids).await, [Final, Final, Lost, Final]);
    assert_eq!(world.sent().await, 2);
    assert_eq!(world.received().await, dollars(15));
    world.balanced().await;
}

#[tokio::test]
async fn an_operator_that_was_dismissed_spends_no_gas() {
    let mut world = World::new(Backend::devchain().await, Setup::default()).await;
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let offer = world.metered(dollars(10));
    let id = world.pay(&offer, &signed, dollars(5)).await;
    world.set_operator(OPERATOR, false).await;
    for _ in 0..20 {
        world.tick().await;
        world.pass(5).await;
    }
    assert_eq!(
        (world.sent().await, world.state(id).await),
        (0, PaymentState::Accepted)
    );
    world.set_operator(OPERATOR, true).await;
    for _ in 0..80 {
        world.tick().await;
        world.pass(10).await;
    }
    assert_eq!(world.state(id).await, PaymentState::Final);
    assert_eq!(world.received().await, dollars(5));
}

/// How a rail signs a batch that has a certain payment in it.
#[derive(Clone, Copy)]
enum Poison {
    /// So that it uses up its nonce and moves nothing, as one that reverts as a whole.
    Reverts,
    /// With more gas than the chain allows: no node takes it.
    NoNodeTakesIt,
}

struct PoisonedRail {
    inner: OwnRail<LocalWallet>,
    payment: PaymentId,
    poison: Poison,
}

impl Rail for PoisonedRail {
    async fn prepare(
        &self,
        batch: &BatchRow,
        nonce: u64,
        above: Option<u128>,
    ) -> Result<Instruction, RailError> {
        if !batch.payments().any(|keys| keys.id == self.payment) {
            return self.inner.prepare(batch, nonce, above).await;
        }
        match self.poison {
            Poison::Reverts => {
                self.inner
                    .void(batch, nonce, above.unwrap_or(50_000_000))
                    .await
            }
            Poison::NoNodeTakesIt => {
                let good = self.inner.prepare(batch, nonce, above).await?;
                let call = Call {
                    to: Address::repeat_byte(1),
                    input: Bytes::new(),
                    gas_limit: 20_000_000,
                };
                let transaction = call.into_transaction(ChainId::DEV, nonce, good.gas_price);
                let signature = wallet(OPERATOR)
                    .sign_hash(&transaction.signing_hash())
                    .await
                    .unwrap();
                let raw = transaction.into_raw(&signature);
                Ok(Instruction {
                    hash: raw.hash,
                    raw: raw.raw,
                    ..good
                })
            }
        }
    }

    async fn submit(&self, stored: &Instruction) -> Submission {
        self.inner.submit(stored).await
    }

    async fn trace(&self, batch: &BatchRow) -> Result<Trace, RailError> {
        self.inner.trace(batch).await
    }

    async fn nonce(&self) -> Result<u64, RailError> {
        self.inner.nonce().await
    }

    async fn void(
        &self,
        batch: &BatchRow,
        nonce: u64,
        above: u128,
    ) -> Result<Instruction, RailError> {
        self.inner.void(batch, nonce, above).await
    }

    async fn rehearse(&self, _batch: &BatchRow) -> Result<Rehearsal, RailError> {
        // It cannot be foreseen.
        Ok(Rehearsal::Good)
    }
}

/// Forty-nine payments of seven payers, and one that poisons every batch that it is in.
async fn fifty(world: &World) -> (Vec<PaymentId>, PaymentId) {
    let mut ids = Vec::new();
    for payer in 0..7 {
        world.approve_permit2(payer, U256::MAX).await;
    }
    let offer = world.metered(dollars(10));
    for number in 0..50 {
        let payer = usize::try_from(number % 7).unwrap();
        let signed = world.once(payer, dollars(99), 1_000 + number).await;
        ids.push(world.pay(&offer, &signed, dollars(1)).await);
    }
    let poisoned = ids.remove(23);
    (ids, poisoned)
}

async fn one_poisonous_item(poison: Poison) -> World {
    let world = World::new(Backend::devchain().await, Setup::default()).await;
    let (ids, poisoned) = fifty(&world).await;
    let mut worker = world.worker_over(PoisonedRail {
        inner: world.own_rail(),
        payment: poisoned,
        poison,
    });
    let mut blocks = 0;
    loop {
        worker.tick().await.unwrap();
        let states = world.states(&ids).await;
        if states.iter().all(|state| *state == PaymentState::Final) {
            break;
        }
        world.pass(5).await;
        blocks += 1;
        assert!(blocks < 80, "one item holds up others: {states:?}");
    }
    // Halved each time: 50, 25, 13, 7, 4, 2, 1.
    let failed = world
        .batches()
        .iter()
        .filter(|batch| batch.payments().any(|keys| keys.id == poisoned))
        .count();
    assert!(failed <= 8, "{failed} batches had it");
    assert_eq!(world.received().await, dollars(49));
    for _ in 0..60 {
        worker.tick().await.unwrap();
        world.pass(10).await;
    }
    assert_eq!(world.state(poisoned).await, PaymentState::Lost);
    world.balanced().await;
    world
}

#[tokio::test]
async fn a_batch_that_reverts_as_a_whole_is_parted_until_what_made_it_revert_is_alone() {
    let world = one_poisonous_item(Poison::Reverts).await;
    let void = world
        .batches()
        .iter()
        .filter(|batch| batch.sent.iter().any(|sent| sent.void))
        .count();
    assert!(void <= 12, "{void}");
}

#[tokio::test]
async fn a_nonce_that_no_node_takes_is_used_up_and_no_later_one_waits_for_it() {
    let world = one_poisonous_item(Poison::NoNodeTakesIt).await;
    for batch in world.batches() {
        assert!(matches!(batch.state, BatchState::Concluded { .. }));
        let waited = batch.sent.iter().all(|sent| !sent.void);
        if waited {
            // It waited for an earlier nonce, which no price helps.
            assert!(batch.sent.len() <= 1, "{} were signed", batch.sent.len());
        } else if let [first, rest @ ..] = batch.sent.as_slice() {
            assert!(!first.void && rest.iter().all(|sent| sent.void));
            assert!(rest.iter().all(|sent| sent.nonce == first.nonce));
        }
    }
}

#[tokio::test]
async fn a_once_payment_is_settled_for_what_the_payer_has_and_the_rest_is_owed() {
    let mut world = World::new(Backend::devchain().await, Setup::default()).await;
    world.approve_permit2(PAYER, U256::MAX).await;
    let signed = world.once(PAYER, dollars(99), 5).await;
    let offer = world.metered(dollars(10));
    let id = world.pay(&offer, &signed, dollars(8)).await;
    world.leave(PAYER, dollars(3)).await;
    for _ in 0..60 {
        world.tick().await;
        world.pass(10).await;
    }
    assert_eq!(world.state(id).await, PaymentState::Final);
    assert_eq!(world.received().await, dollars(3));
    let row = world.store.payment(id).await.unwrap().unwrap();
    assert_eq!((row.charge, row.short), (dollars(3), dollars(5)));
    world.balanced().await;
    // What is owed keeps the payer out.
    let again = world.once(PAYER, dollars(1), 6).await;
    let refused = world.admit(&world.metered(dollars(1)), &again).await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::InsufficientFunds);
}

#[tokio::test]
async fn an_exact_payment_that_a_stranger_brought_to_the_proxy_counts_as_paid() {
    let mut world = World::new(Backend::devchain().await, Setup::default()).await;
    world.approve_permit2(PAYER, U256::MAX).await;
    let fixed = world.offer(Pricing::Fixed(dollars(20)));
    let signed = world.permit2_exact(PAYER, dollars(20), 7).await;
    let id = world.pay(&fixed, &signed, dollars(20)).await;
    let Authorization::Exact(Exact::Permit2(permit)) = &signed else {
        unreachable!()
    };
    world.send(3, tollgate_bsc::exact_settle(permit)).await;
    world.chain.mine().await;
    for _ in 0..20 {
        world.tick().await;
        world.pass(5).await;
    }
    assert_eq!(world.state(id).await, PaymentState::Final);
    assert_eq!(world.received().await, dollars(20));
    assert_eq!(world.sent().await, 0, "no gas of ours");
    world.balanced().await;
}

#[tokio::test]
async fn a_transfer_beside_a_voided_nonce_is_no_evidence_of_an_exact_payment() {
    let mut world = World::new(Backend::devchain().await, Setup::default()).await;
    world.approve_permit2(PAYER, U256::MAX).await;
    let fixed = world.offer(Pricing::Fixed(dollars(20)));
    let signed = world.permit2_exact(PAYER, dollars(20), 7).await;
    let voided = world.pay(&fixed, &signed, dollars(20)).await;
    let other = world.permit2_exact(PAYER, dollars(20), 8).await;
    let paid = world.pay(&fixed, &other, dollars(20)).await;
    // The payer burns one nonce, and a stranger settles the other: one transfer of the very amount.
    let Authorization::Exact(Exact::Permit2(permit)) = &other else {
        unreachable!()
    };
    let burn = {
        let mut input =
            alloy_primitives::keccak256("invalidateUnorderedNonces(uint256,uint256)")[..4].to_vec();
        for word in [U256::ZERO, U256::from(1 << 7)] {
            input.extend_from_slice(&word.to_be_bytes::<32>());
        }
        Call {
            to: tollgate_contracts::addresses::PERMIT2,
            input: input.into(),
            gas_limit: 200_000,
        }
    };
    world.send(PAYER, burn).await;
    world.send(3, tollgate_bsc::exact_settle(permit)).await;
    world.chain.mine().await;
    for _ in 0..60 {
        world.tick().await;
        world.pass(10).await;
    }
    use PaymentState::{Final, Lost};
    assert_eq!(world.states(&[voided, paid]).await, [Lost, Final]);
    assert_eq!(world.received().await, dollars(20));
    world.balanced().await;
}

#[tokio::test]
async fn one_payers_many_payments_leave_the_others_their_share_of_a_batch() {
    let mut world = World::new(Backend::devchain().await, Setup::default()).await;
    for payer in [0, 1] {
        world.approve_permit2(payer, U256::MAX).await;
    }
    let offer = world.metered(dollars(1));
    for number in 0..120 {
        let signed = world.once(0, dollars(1), 5_000 + number).await;
        world.pay(&offer, &signed, dollars(1)).await;
    }
    let signed = world.once(1, dollars(1), 1).await;
    let late = world.pay(&offer, &signed, dollars(1)).await;
    world.tick().await;
    let batches = world.batches();
    let first = batches
        .iter()
        .find(|batch| batch.nonce() == Some(0))
        .unwrap();
    assert_eq!(first.items.len(), 50);
    assert!(first.payments().any(|keys| keys.id == late));
    world.settle().await;
    assert_eq!(world.received().await, dollars(121));
}

#[tokio::test]
async fn a_private_transaction_is_shown_to_everybody_before_long() {
    let world = World::new(Backend::devchain().await, Setup::default()).await;
    // Endpoints that swallow what they are given.
    let swallow = DevChain::builder()
        .block_time(BlockTime::Manual)
        .genesis(Genesis::development(&Development::default()))
        .start()
        .unwrap();
    swallow.serve(([127, 0, 0, 1], 0)).await.unwrap();
    let url = swallow.rpc_url().unwrap();
    let private = Chain::connect(ChainConfig::new(ChainId::DEV, [url]))
        .await
        .unwrap();
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let id = world
        .pay(&world.metered(dollars(10)), &signed, dollars(5))
        .await;
    let mut worker = world.worker_over(world.own_rail().with_private(private, 6));
    let mut seen_at = None;
    for second in 0..30 {
        worker.tick().await.unwrap();
        world.pass(1).await;
        if world.sent().await > 0 && seen_at.is_none() {
            seen_at = Some(second);
        }
    }
    assert_eq!(swallow.waiting(), 1, "it went there first");
    let seen_at = seen_at.unwrap();
    assert!(
        (6..14).contains(&seen_at),
        "everybody saw it after {seen_at} s"
    );
    assert_eq!(world.state(id).await, PaymentState::Final);
    assert_eq!(world.received().await, dollars(5));
}

#[tokio::test]
async fn no_more_is_paid_for_gas_than_what_is_settled_is_worth() {
    let world = World::new(Backend::devchain().await, Setup::default()).await;
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let id = world
        .pay(&world.metered(dollars(10)), &signed, dollars(10))
        .await;
    // 600 dollars a BNB: ten cents are worth 166,666 gwei.
    let worth = Worth {
        wei: U256::from(DOLLAR),
        units: U256::from(600 * DOLLAR),
    };
    let token = tollgate_contracts::tokens::USD1;
    let mut worker = world.worker_over(world.own_rail().with_worth(token, worth));
    // Nodes take it and forget it, for a quarter of an hour.
    world.chain.faults().drop_transactions(10_000);
    for _ in 0..60 {
        drop(worker.tick().await);
        world.pass(15).await;
    }
    let batch = world.batches().remove(0);
    let last = batch.sent.last().unwrap().gas_price;
    assert!(batch.sent.len() > 3, "it was replaced");
    assert!(
        batch
            .sent
            .is_sorted_by(|a, b| b.gas_price * 8 >= a.gas_price * 9)
    );
    // Far below the cap of 5 gwei, with a gas limit of about 290,000.
    let stake = U256::from(DOLLAR) / U256::from(6_000_u64);
    assert!(
        U256::from(last) * U256::from(250_000_u64) <= stake,
        "{last} wei"
    );
    world.chain.faults().clear();
    for _ in 0..6 {
        world.pass(1).await;
        drop(worker.tick().await);
    }
    assert_eq!(world.state(id).await, PaymentState::Final);
}

#[tokio::test]
async fn dust_that_holds_other_charges_up_may_cost_what_they_are_worth() {
    let world = World::new(Backend::devchain().await, Setup::default()).await;
    let worth = Worth {
        wei: U256::from(DOLLAR),
        units: U256::from(600 * DOLLAR),
    };
    let token = tollgate_contracts::tokens::USD1;
    let mut worker = world.worker_over(world.own_rail().with_worth(token, worth));
    let offer = world.metered(dollars(10));
    let dust = world.allowance(PAYER, dollars(99), 0).await;
    let dust = world.pay(&offer, &dust, Amount::from(1_000_u64)).await;
    // A node takes it and forgets it, and prices rise above the floor.
    world.chain.faults().drop_transactions(1);
    worker.tick().await.unwrap();
    world.chain.faults().min_gas_price(80_000_000);
    let other = world.allowance(PAYER + 1, dollars(99), 0).await;
    let other = world.pay(&offer, &other, dollars(10)).await;
    for _ in 0..20 {
        drop(worker.tick().await);
        world.pass(5).await;
    }
    for id in [dust, other] {
        assert_eq!(world.state(id).await, PaymentState::Final);
    }
}

#[tokio::test]
async fn a_deadline_that_is_near_comes_before_everything() {
    let world = World::new(Backend::devchain().await, Setup::default()).await;
    let offer = world.metered(dollars(10));
    let mut early = Vec::new();
    for payer in 0..4 {
        let signed = world.allowance(payer, dollars(99), 0).await;
        early.push(world.pay(&offer, &signed, dollars(5)).await);
        world.pass(1).await;
    }
    let near = world.now().plus(120);
    let signed = world.allowance_until(4, dollars(99), 0, near).await;
    let urgent = world.pay(&offer, &signed, dollars(5)).await;
    let market = world.markets.iter().next().unwrap();
    let mut config = worker_config(&world.setup, market, OPERATOR);
    config.queues = 2;
    let (store, clock) = (world.store.clone(), world.clock.clone());
    let mut worker = Worker::new(store, world.own_rail(), clock, config, world.work.clone());
    worker.tick().await.unwrap();
    let batches = world.batches();
    let of = |id: PaymentId| {
        let batch = batches
            .iter()
            .find(|batch| batch.payments().any(|keys| keys.id == id));
        batch.unwrap().nonce().unwrap()
    };
    assert_eq!(of(urgent), 0, "it goes with the first");
    assert_eq!(
        early.into_iter().map(of).collect::<Vec<_>>(),
        [0, 1, 1, 2],
        "then who waits longest"
    );
}

#[tokio::test]
async fn a_node_that_lags_makes_no_nonce_twice() {
    let mut world = World::new(Backend::devchain().await, Setup::default()).await;
    let offer = world.metered(dollars(10));
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let mut ids = vec![world.pay(&offer, &signed, dollars(5)).await];
    world.settle().await;
    // What the node says is old, but not from before the settlement: such a reading is none.
    world.pass(5).await;
    world.chain.faults().lag_reads(3);
    for _ in 0..3 {
        ids.push(world.pay(&offer, &signed, dollars(5)).await);
        drop(world.worker.tick().await);
        world.pass(1).await;
    }
    world.crash().await;
    for _ in 0..10 {
        drop(world.worker.tick().await);
        world.pass(5).await;
    }
    world.chain.faults().lag_reads(0);
    world.settle().await;
    assert_eq!(world.states(&ids).await, [PaymentState::Final; 4]);
    assert_eq!(world.received().await, dollars(20));
    let mut nonces: Vec<_> = world.batches().iter().filter_map(BatchRow::nonce).collect();
    nonces.sort_unstable();
    assert_eq!(nonces, (0..world.sent().await).collect::<Vec<_>>());
}
