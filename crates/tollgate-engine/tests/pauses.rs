//! A token that is paused, where the settlement was and not any more: that is no payer's doing.

#[expect(dead_code, reason = "this file uses a part")]
mod common;

use alloy_sol_types::SolCall;
use common::*;
use tollgate_bsc::Call;
use tollgate_contracts::{abi::TestUsd1, tokens::USD1};
use tollgate_engine::WorkerError;
use tollgate_payment::port::RailError;
use tollgate_x402::PaymentState;

impl World {
    /// A settlement that fails in its block, for a pause of the token that its simulation did not see, and that has passed
    /// when the block is the newest.
    async fn settle_in_a_pause(&mut self) {
        let pause = Call {
            to: USD1,
            input: TestUsd1::pauseCall {}.abi_encode().into(),
            gas_limit: 200_000,
        };
        self.send(ADMIN, pause).await;
        let sent = self.sent().await;
        self.tick().await;
        self.chain.mine().await;
        assert_eq!(self.sent().await, sent + 1);
        self.token_send(ADMIN, "unpause()", &[]).await;
    }
}

#[tokio::test]
async fn a_pause_that_has_passed_when_it_is_looked_for_loses_no_charge() {
    let mut world = World::new(Backend::devchain().await, Setup::default()).await;
    let offer = world.metered(dollars(10));
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let id = world.pay(&offer, &signed, dollars(5)).await;
    for round in 0..6 {
        world.settle_in_a_pause().await;
        world.pass(3).await;
        let mut undecided = world.tick().await.undecided;
        for _ in 0..40 {
            if undecided == 0 {
                break;
            }
            world.pass(3).await;
            undecided = world.tick().await.undecided;
        }
        assert_eq!(undecided, 0, "round {round}");
        assert_eq!(world.state(id).await, PaymentState::Accepted);
        world.pass(300).await;
    }
    world.settle().await;
    assert_eq!(world.state(id).await, PaymentState::Final);
    assert_eq!(world.received().await, dollars(5));
    world.balanced().await;
}

#[tokio::test]
async fn what_no_node_keeps_the_state_of_any_more_holds_up_nobodys_charges() {
    let chain = Backend::devchain_that_keeps(8).await;
    let mut world = World::new(chain, Setup::default()).await;
    let offer = world.metered(dollars(10));
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let id = world.pay(&offer, &signed, dollars(5)).await;
    world.settle_in_a_pause().await;
    // Nobody looks for a while.
    world.chain.mine_blocks(20).await;
    let early = world.worker.tick().await;
    assert!(
        matches!(early, Err(WorkerError::Rail(RailError::Unavailable(_)))),
        "another node may still tell, and is waited for: {early:?}"
    );
    assert_eq!(world.state(id).await, PaymentState::Accepted);
    world.chain.mine_blocks(120).await;
    let other = world.allowance(PAYER + 1, dollars(99), 0).await;
    let next = world.pay(&offer, &other, dollars(7)).await;
    world.settle().await;
    for id in [id, next] {
        assert_eq!(world.state(id).await, PaymentState::Final);
    }
    assert_eq!(world.received().await, dollars(12));
    world.balanced().await;
}
