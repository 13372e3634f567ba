//! Permits: a second one, one signed anew, one that is too late, one that is taken out.

use crate::{aggregate, common::*};
use tollgate_engine::Policy;
use tollgate_ledger::Store;
use tollgate_payment::port::Hold;
use tollgate_x402::PaymentState;

on_both_chains! {
    a_second_permit_sets_the_allowance_and_both_are_paid_in_full,
    a_permit_signed_anew_before_its_deadline_pays_what_the_first_one_promised,
    a_second_permit_of_a_nonce_is_never_counted_beside_the_first,
    a_look_between_block_and_finality_takes_nothing_off_a_plain_accounts_allowance,
    a_permit_that_a_reorganization_took_out_goes_in_again,
    a_permit_that_is_too_late_is_lost_for_its_deadline,
}

async fn a_second_permit_sets_the_allowance_and_both_are_paid_in_full(chain: Backend) {
    let mut world = World::new(
        chain,
        Setup {
            allowances: Policy::Aggregate {
                max_unsettled: dollars(500),
                max_age: 600,
            },
            ..Setup::default()
        },
    )
    .await;
    let offer = world.metered(dollars(50));
    let first = world.allowance(PAYER, dollars(60), 0).await;
    world.pay(&offer, &first, dollars(50)).await;
    let short = world.admit(&offer, &first).await.unwrap();
    assert_eq!(short.cap(), dollars(10), "clamped to what is left");
    short.release().await.unwrap();
    // The permit has to be on the chain before another can be signed.
    world.pass(601).await;
    world.settle().await;
    let second = world.allowance(PAYER, dollars(60), 1).await;
    world.pay(&offer, &second, dollars(50)).await;
    world.pass(601).await;
    world.settle().await;
    assert_eq!(world.received().await, dollars(100));
    let row = world.admit(&offer, &second).await.unwrap();
    assert_eq!(row.cap(), dollars(10));
    row.release().await.unwrap();
}

async fn a_permit_signed_anew_before_its_deadline_pays_what_the_first_one_promised(chain: Backend) {
    let mut world = World::new(chain, aggregate()).await;
    let offer = world.metered(dollars(10));
    let soon = world.now().plus(100);
    let first = world.allowance_until(PAYER, dollars(99), 0, soon).await;
    let second = world.allowance(PAYER, dollars(99), 0).await;
    let ids = [
        world.pay(&offer, &first, dollars(5)).await,
        world.pay(&offer, &second, dollars(3)).await,
    ];
    world.pass(601).await;
    world.settle().await;
    for id in ids {
        assert_eq!(world.state(id).await, PaymentState::Final);
    }
    assert_eq!(world.received().await, dollars(8));
}

async fn a_second_permit_of_a_nonce_is_never_counted_beside_the_first(chain: Backend) {
    let mut world = World::new(chain, aggregate()).await;
    let offer = world.metered(dollars(60));
    let first = world.allowance(PAYER, dollars(60), 0).await;
    world.pay(&offer, &first, dollars(50)).await;
    // Worth more, and void sooner: what is due counts on the first.
    let soon = world.now().plus(100);
    let second = world.allowance_until(PAYER, dollars(90), 0, soon).await;
    let hold = world.admit(&offer, &second).await.unwrap();
    assert_eq!(hold.cap(), dollars(10));
    hold.release().await.unwrap();
    let third = world
        .allowance_until(PAYER, dollars(90), 0, world.now().plus(7_200))
        .await;
    let hold = world.admit(&offer, &third).await.unwrap();
    assert_eq!(hold.cap(), dollars(40));
    hold.commit(dollars(40), None).await.unwrap();
    world.pass(601).await;
    world.settle().await;
    assert_eq!(world.received().await, dollars(90));
}

async fn a_look_between_block_and_finality_takes_nothing_off_a_plain_accounts_allowance(
    chain: Backend,
) {
    let mut world = World::new(
        chain,
        Setup {
            settler: false,
            ..Setup::default()
        },
    )
    .await;
    let offer = world.metered(dollars(50));
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    world.pay(&offer, &signed, dollars(50)).await;
    // The permit, then the transfer; the payer's state is read anew in each block.
    for _ in 0..10 {
        world.tick().await;
        world.pass(5).await;
        let hold = world.admit(&offer, &signed).await.unwrap();
        assert_eq!(hold.cap(), dollars(49));
        hold.release().await.unwrap();
    }
    assert_eq!(world.received().await, dollars(50));
}

async fn a_permit_that_a_reorganization_took_out_goes_in_again(chain: Backend) {
    let mut world = World::new(chain, Setup::default()).await;
    let offer = world.metered(dollars(10));
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let tollgate_x402::Authorization::Allowance(permit) = &signed else {
        unreachable!()
    };
    world.send(3, tollgate_bsc::permit(permit)).await;
    world.chain.mine().await;
    let id = world.pay(&offer, &signed, dollars(5)).await;
    world.chain.reorg(1).await;
    world.settle().await;
    assert_eq!(world.state(id).await, PaymentState::Final);
    assert_eq!(world.received().await, dollars(5));
}

async fn a_permit_that_is_too_late_is_lost_for_its_deadline(chain: Backend) {
    let mut world = World::new(chain, aggregate()).await;
    let offer = world.metered(dollars(10));
    let soon = world.now().plus(100);
    let signed = world.allowance_until(PAYER, dollars(99), 0, soon).await;
    let id = world.pay(&offer, &signed, dollars(5)).await;
    // The gateway was away.
    world.pass(200).await;
    for _ in 0..6 {
        world.tick().await;
        world.pass(1).await;
    }
    let row = world.store.payment(id).await.unwrap().unwrap();
    assert_eq!(
        row.state,
        tollgate_payment::PaymentState::Lost {
            reason: tollgate_payment::LossReason::Deadline
        }
    );
}
