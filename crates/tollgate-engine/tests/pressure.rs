//! Payers near their credit are settled before they are refused.

#[expect(dead_code, reason = "this file uses a part")]
mod common;

use common::*;
use tollgate_engine::Policy;
use tollgate_x402::PaymentState;

#[tokio::test]
async fn who_owes_half_of_its_credit_is_settled_whatever_the_policy_says() {
    let mut setup = Setup {
        allowances: Policy::Aggregate {
            max_unsettled: dollars(50),
            max_age: 600,
        },
        ..Setup::default()
    };
    setup.credit.floor = dollars(10);
    setup.credit.ceiling = dollars(10);
    let mut world = World::new(Backend::devchain().await, setup).await;
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let offer = world.metered(dollars(4));
    world.pay(&offer, &signed, dollars(4)).await;
    assert_eq!(
        world.tick().await.sent,
        0,
        "less than half of the credit waits for the policy"
    );
    let second = world.pay(&offer, &signed, dollars(1)).await;
    assert_eq!(world.tick().await.sent, 1);
    world.settle().await;
    assert_eq!(world.state(second).await, PaymentState::Final);
    assert_eq!(world.received().await, dollars(5));
}
