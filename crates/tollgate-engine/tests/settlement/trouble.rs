//! What goes wrong between a charge and its end, by the chain, the payer, the token or the account.

use crate::{aggregate, common::*};
use tollgate_devchain::DEV_ACCOUNTS;
use tollgate_ledger::Store;
use tollgate_payment::Pricing;
use tollgate_x402::{Amount, ErrorCode, PaymentState, U256};

on_both_chains! {
    a_reorganized_settlement_is_sent_again_and_pays_once,
    a_dropped_settlement_is_replaced_at_a_higher_price_under_its_nonce,
    a_charge_that_the_payer_voids_is_lost_and_the_payer_blocked,
    a_transfer_that_a_stranger_submitted_first_counts_as_paid,
    a_paused_token_loses_no_charge_and_blocks_no_payer,
    a_settler_that_refuses_its_operator_loses_no_charge,
    a_charge_that_cannot_be_paid_takes_no_other_with_it,
    many_charges_of_an_emptied_payer_cost_few_transactions,
    charges_of_an_old_address_wait_for_its_worker_and_stop_nobody,
    an_account_without_gas_money_waits_and_does_not_raise_its_price,
    a_counter_that_another_ledger_drew_stops_settlement_and_loses_nothing,
}

mod devchain_alone {
    #[tokio::test]
    async fn a_lost_answer_is_unknown_and_pays_once() {
        super::a_lost_answer_is_unknown_and_pays_once(super::Backend::devchain().await).await;
    }
}

async fn a_reorganized_settlement_is_sent_again_and_pays_once(chain: Backend) {
    let mut world = World::new(chain, Setup::default()).await;
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let id = world
        .pay(&world.metered(dollars(10)), &signed, dollars(5))
        .await;
    world.tick().await;
    world.chain.mine().await;
    world.tick().await;
    assert_eq!(world.state(id).await, PaymentState::Included);
    world.chain.reorg(1).await;
    world.tick().await;
    assert_eq!(world.state(id).await, PaymentState::Accepted);
    world.settle().await;
    assert_eq!(world.state(id).await, PaymentState::Final);
    assert_eq!(world.received().await, dollars(5));
}

async fn a_dropped_settlement_is_replaced_at_a_higher_price_under_its_nonce(chain: Backend) {
    let mut world = World::new(chain, Setup::default()).await;
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let id = world
        .pay(&world.metered(dollars(10)), &signed, dollars(5))
        .await;
    world.tick().await;
    let lost = world.store.undecided().await.unwrap()[0].sent[0].hash;
    world.chain.drop_transaction(lost).await;
    world.pass(20).await;
    world.tick().await;
    let undecided = world.store.undecided().await.unwrap();
    let sent = &undecided[0].sent;
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0].nonce, sent[1].nonce);
    assert!(sent[1].gas_price * 8 >= sent[0].gas_price * 9);
    world.settle().await;
    assert_eq!(world.state(id).await, PaymentState::Final);
    assert_eq!(world.received().await, dollars(5));
}

async fn a_charge_that_the_payer_voids_is_lost_and_the_payer_blocked(chain: Backend) {
    let mut world = World::new(chain, Setup::default()).await;
    let offer = world.metered(dollars(10));
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let id = world.pay(&offer, &signed, dollars(5)).await;
    world.leave(PAYER, Amount::ZERO).await;
    for _ in 0..40 {
        world.tick().await;
        world.pass(10).await;
    }
    assert_eq!(world.state(id).await, PaymentState::Lost);
    assert_eq!(world.received().await, Amount::ZERO);
    let refused = world.admit(&offer, &signed).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InsufficientFunds);
}

async fn a_transfer_that_a_stranger_submitted_first_counts_as_paid(chain: Backend) {
    let mut world = World::new(chain, Setup::default()).await;
    let signed = world.transfer(PAYER, dollars(20), 9).await;
    let id = world
        .pay(
            &world.offer(Pricing::Fixed(dollars(20))),
            &signed,
            dollars(20),
        )
        .await;
    let tollgate_x402::Authorization::Exact(tollgate_x402::Exact::Eip3009(transfer)) = &signed
    else {
        unreachable!()
    };
    world
        .send(3, tollgate_bsc::transfer_with_authorization(transfer))
        .await;
    world.chain.mine().await;
    world.settle().await;
    assert_eq!(world.state(id).await, PaymentState::Final);
    assert_eq!(world.received().await, dollars(20));
}

async fn a_paused_token_loses_no_charge_and_blocks_no_payer(chain: Backend) {
    let mut world = World::new(chain, Setup::default()).await;
    let offer = world.metered(dollars(10));
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let id = world.pay(&offer, &signed, dollars(5)).await;
    world.token_send(ADMIN, "pause()", &[]).await;
    for _ in 0..60 {
        world.tick().await;
        world.pass(10).await;
    }
    assert_eq!(world.state(id).await, PaymentState::Accepted);
    let spent = world.reader.transaction_count(
        DEV_ACCOUNTS[OPERATOR].address,
        tollgate_bsc::BlockTag::Latest,
    );
    assert!(spent.await.unwrap() < 10, "a paused token is left alone");
    world.token_send(ADMIN, "unpause()", &[]).await;
    world.pass(1_000).await;
    world.settle().await;
    assert_eq!(world.state(id).await, PaymentState::Final);
    assert_eq!(world.received().await, dollars(5));
}

async fn a_settler_that_refuses_its_operator_loses_no_charge(chain: Backend) {
    let mut world = World::new(chain, Setup::default()).await;
    let offer = world.metered(dollars(10));
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let id = world.pay(&offer, &signed, dollars(5)).await;
    world.set_operator(OPERATOR, false).await;
    for _ in 0..40 {
        world.tick().await;
        world.pass(10).await;
    }
    assert_eq!(world.state(id).await, PaymentState::Accepted);
    world.set_operator(OPERATOR, true).await;
    world.pass(1_000).await;
    world.settle().await;
    assert_eq!(world.state(id).await, PaymentState::Final);
    assert_eq!(world.received().await, dollars(5));
}

async fn a_charge_that_cannot_be_paid_takes_no_other_with_it(chain: Backend) {
    let mut world = World::new(chain, aggregate()).await;
    let offer = world.metered(dollars(10));
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let ids = [
        world.pay(&offer, &signed, dollars(5)).await,
        world.pay(&offer, &signed, dollars(5)).await,
        world.pay(&offer, &signed, dollars(5)).await,
    ];
    world.leave(PAYER, dollars(12)).await;
    world.pass(601).await;
    for _ in 0..60 {
        world.tick().await;
        world.pass(10).await;
    }
    let mut states = Vec::new();
    for id in ids {
        states.push(world.state(id).await);
    }
    // Of the last one the payer had two dollars.
    assert_eq!(states, [PaymentState::Final; 3]);
    assert_eq!(world.received().await, dollars(12));
    let last = world.store.payment(ids[2]).await.unwrap().unwrap();
    assert_eq!((last.charge, last.short), (dollars(2), dollars(3)));
    let totals = world.store.totals().await.unwrap();
    assert_eq!(totals.discrepancies(), Vec::<String>::new());
    let refused = world.admit(&offer, &signed).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InsufficientFunds);
}

async fn many_charges_of_an_emptied_payer_cost_few_transactions(chain: Backend) {
    let mut world = World::new(chain, aggregate()).await;
    let offer = world.metered(dollars(10));
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let mut ids = Vec::new();
    for _ in 0..30 {
        ids.push(world.pay(&offer, &signed, dollars(1)).await);
    }
    world.leave(PAYER, Amount::ZERO).await;
    world.pass(601).await;
    for _ in 0..60 {
        world.tick().await;
        world.pass(10).await;
    }
    for id in ids {
        let payment = world.store.payment(id).await.unwrap().unwrap();
        let lost = tollgate_payment::PaymentState::Lost {
            reason: tollgate_payment::LossReason::Balance,
        };
        assert_eq!(payment.state, lost);
    }
    let rows = world.store.rows();
    let sent = rows
        .iter()
        .filter(|row| matches!(row, tollgate_payment::Row::Batch(batch) if !batch.sent.is_empty()));
    assert!((1..=3).contains(&sent.count()));
}

async fn charges_of_an_old_address_wait_for_its_worker_and_stop_nobody(chain: Backend) {
    let mut world = World::new(chain, Setup::default()).await;
    world.approve_permit2(PAYER, U256::MAX).await;
    let once = world.once(PAYER, dollars(99), 5).await;
    let allowance = world.allowance(PAYER, dollars(99), 0).await;
    let offer = world.metered(dollars(10));
    let old = [
        world.pay(&offer, &once, dollars(4)).await,
        world.pay(&offer, &allowance, dollars(3)).await,
    ];
    world.pay_to(false).await;
    let once = world.once(PAYER, dollars(99), 6).await;
    let new = world
        .pay(&world.metered(dollars(10)), &once, dollars(2))
        .await;
    for _ in 0..20 {
        world.tick().await;
        world.pass(10).await;
    }
    assert_eq!(world.state(new).await, PaymentState::Final);
    for id in old {
        assert_eq!(world.state(id).await, PaymentState::Accepted);
    }
    world.pay_to(true).await;
    world.settle().await;
    for id in old {
        assert_eq!(world.state(id).await, PaymentState::Final);
    }
}

async fn an_account_without_gas_money_waits_and_does_not_raise_its_price(chain: Backend) {
    let mut world = World::new(chain, Setup::default()).await;
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let id = world
        .pay(&world.metered(dollars(10)), &signed, dollars(5))
        .await;
    let operator = DEV_ACCOUNTS[OPERATOR].address;
    world.chain.set_bnb(operator, U256::ZERO).await;
    for _ in 0..20 {
        world.tick().await;
        world.pass(10).await;
    }
    assert_eq!(world.store.undecided().await.unwrap()[0].sent.len(), 1);
    let bnb = U256::from(DOLLAR);
    world.chain.set_bnb(operator, bnb).await;
    world.settle().await;
    assert_eq!(world.state(id).await, PaymentState::Final);
    assert_eq!(world.received().await, dollars(5));
}

async fn a_counter_that_another_ledger_drew_stops_settlement_and_loses_nothing(chain: Backend) {
    let mut world = World::new(chain, Setup::default()).await;
    world.set_operator(SUCCESSOR, true).await;
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let offer = world.metered(dollars(10));
    let id = world.pay(&offer, &signed, dollars(5)).await;
    let tollgate_x402::Authorization::Allowance(permit) = &signed else {
        unreachable!()
    };
    let draw = tollgate_bsc::SettleItem::Allowance {
        token: permit.token,
        owner: permit.owner,
        from: Amount::ZERO,
        to: dollars(7),
        permit: Some(permit.clone()),
    };
    let call = tollgate_bsc::settle(world.pay_to, &[draw]).unwrap();
    world.send(SUCCESSOR, call).await;
    world.chain.mine().await;
    let mut stopped = None;
    for _ in 0..20 {
        stopped = world.worker.tick().await.err();
        world.pass(10).await;
    }
    let stopped = stopped.unwrap().to_string();
    assert!(stopped.contains("reconcile"), "{stopped}");
    world.crash().await;
    let still = world.worker.tick().await.unwrap_err();
    assert!(still.to_string().contains("reconcile"), "{still}");
    assert_ne!(world.state(id).await, PaymentState::Lost);
    let refused = world.admit(&offer, &signed).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::LedgerUnavailable);
    assert_eq!(world.received().await, dollars(7));
}

async fn a_lost_answer_is_unknown_and_pays_once(chain: Backend) {
    let mut world = World::new(chain, Setup::default()).await;
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let id = world
        .pay(&world.metered(dollars(10)), &signed, dollars(5))
        .await;
    world
        .chain
        .faults()
        .lose_answers("eth_sendRawTransaction", 3);
    world.settle().await;
    assert_eq!(world.state(id).await, PaymentState::Final);
    assert_eq!(world.received().await, dollars(5));
}
