//! Charges become transfers on a real chain, exactly: the same promises on the embedded chain and on anvil, which has
//! the real Permit2.
//!
//! `cargo test` runs them on the embedded chain and lists those of anvil as ignored; `cargo xtask ci --only settlement`
//! prepares an anvil and runs them on it.

#[expect(dead_code, reason = "this file uses a part")]
mod common;

use common::*;
use tollgate_devchain::DEV_ACCOUNTS;
use tollgate_engine::Policy;
use tollgate_ledger::Store;
use tollgate_payment::{Pricing, port::Hold};
use tollgate_x402::{Amount, B256, ErrorCode, PaymentState, U256};

/// Each promise on each chain.
macro_rules! on_both_chains {
    ($($promise:ident,)*) => {
        mod devchain {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise(super::Backend::devchain().await).await;
            })*
        }

        mod anvil {
            $(#[tokio::test]
            #[ignore = "needs an anvil: cargo xtask ci --only settlement"]
            async fn $promise() {
                super::$promise(super::Backend::anvil().await).await;
            })*
        }
    };
}

on_both_chains! {
    an_allowance_settles_exactly_what_was_used_to_the_treasury,
    one_transfer_pays_many_charges_of_an_allowance,
    once_and_exact_payments_settle_through_the_settler,
    a_plain_account_settles_every_kind_one_call_a_transaction,
    a_cold_payer_costs_one_rpc_call_and_a_warm_one_none,
    what_can_be_refused_without_the_chain_costs_no_rpc_call,
    one_once_payment_sent_64_times_at_once_is_served_once,
    calls_at_once_on_one_allowance_never_overdraw_it,
    one_balance_behind_three_kinds_of_payment_serves_itself_once,
    a_reorganized_settlement_is_sent_again_and_pays_once,
    a_dropped_settlement_is_replaced_at_a_higher_price_under_its_nonce,
    a_second_permit_sets_the_allowance_and_both_are_paid_in_full,
    a_charge_that_the_payer_voids_is_lost_and_the_payer_blocked,
    a_transfer_that_a_stranger_submitted_first_counts_as_paid,
    a_permit_signed_anew_before_its_deadline_pays_what_the_first_one_promised,
    a_second_permit_of_a_nonce_is_never_counted_beside_the_first,
    a_paused_token_loses_no_charge_and_blocks_no_payer,
    a_settler_that_refuses_its_operator_loses_no_charge,
    a_charge_that_cannot_be_paid_takes_no_other_with_it,
    many_charges_of_an_emptied_payer_cost_few_transactions,
    charges_of_an_old_address_wait_for_its_worker_and_stop_nobody,
    a_transfer_is_settled_at_once_beside_an_allowance_that_waits,
    a_look_between_block_and_finality_takes_nothing_off_a_plain_accounts_allowance,
    a_permit_that_a_reorganization_took_out_goes_in_again,
    a_permit_that_is_too_late_is_lost_for_its_deadline,
    an_account_without_gas_money_waits_and_does_not_raise_its_price,
    a_counter_that_another_ledger_drew_stops_settlement_and_loses_nothing,
}

/// What needs faults that only the embedded chain has.
mod devchain_alone {
    #[tokio::test]
    async fn a_lost_answer_is_unknown_and_pays_once() {
        super::a_lost_answer_is_unknown_and_pays_once(super::Backend::devchain().await).await;
    }
}

async fn an_allowance_settles_exactly_what_was_used_to_the_treasury(chain: Backend) {
    let mut world = World::new(chain, Setup::default()).await;
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let offer = world.metered(dollars(10));
    let before = world.balance(DEV_ACCOUNTS[PAYER].address).await;
    let id = world.pay(&offer, &signed, dollars(7)).await;
    assert_eq!(world.state(id).await, PaymentState::Accepted);
    world.settle().await;
    let status = world.status(id).await;
    assert_eq!(status.state, PaymentState::Final);
    assert_eq!(status.charge, Some(dollars(7)));
    assert_eq!(
        status.interval.map(|interval| (interval.from, interval.to)),
        Some((Amount::ZERO, dollars(7)))
    );
    assert_eq!(world.received().await, dollars(7));
    let after = world.balance(DEV_ACCOUNTS[PAYER].address).await;
    assert_eq!(before.checked_sub(after), Some(dollars(7)));
}

async fn one_transfer_pays_many_charges_of_an_allowance(chain: Backend) {
    let mut world = World::new(
        chain,
        Setup {
            allowances: Policy::Aggregate {
                max_unsettled: dollars(50),
                max_age: 600,
            },
            ..Setup::default()
        },
    )
    .await;
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let offer = world.metered(dollars(10));
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(world.pay(&offer, &signed, dollars(3)).await);
    }
    assert_eq!(world.tick().await.sent, 0, "nothing is ripe");
    world.pass(601).await;
    world.settle().await;
    let mut transactions = Vec::new();
    for id in ids {
        let status = world.status(id).await;
        assert_eq!(status.state, PaymentState::Final);
        transactions.push(status.transaction);
    }
    transactions.dedup();
    assert_eq!(transactions.len(), 1);
    assert_eq!(world.received().await, dollars(15));
}

async fn once_and_exact_payments_settle_through_the_settler(chain: Backend) {
    let mut world = World::new(chain, Setup::default()).await;
    world.approve_permit2(PAYER, U256::MAX).await;
    let once = world.once(PAYER, dollars(99), 5).await;
    let exact = world.transfer(PAYER, dollars(20), 9).await;
    let permit2 = world.permit2_exact(PAYER, dollars(20), 77).await;
    let metered = world.metered(dollars(10));
    let fixed = world.offer(Pricing::Fixed(dollars(20)));
    let ids = [
        world.pay(&metered, &once, dollars(4)).await,
        world.pay(&fixed, &exact, dollars(20)).await,
        world.pay(&fixed, &permit2, dollars(20)).await,
    ];
    world.settle().await;
    for id in ids {
        assert_eq!(world.state(id).await, PaymentState::Final);
    }
    assert_eq!(world.received().await, dollars(44));
}

async fn a_plain_account_settles_every_kind_one_call_a_transaction(chain: Backend) {
    let mut world = World::new(
        chain,
        Setup {
            settler: false,
            ..Setup::default()
        },
    )
    .await;
    world.approve_permit2(PAYER, U256::MAX).await;
    let allowance = world.allowance(PAYER, dollars(99), 0).await;
    let once = world.once(PAYER, dollars(99), 5).await;
    let exact = world.transfer(PAYER, dollars(20), 9).await;
    let permit2 = world.permit2_exact(PAYER, dollars(20), 77).await;
    let metered = world.metered(dollars(10));
    let fixed = world.offer(Pricing::Fixed(dollars(20)));
    let ids = [
        world.pay(&metered, &allowance, dollars(3)).await,
        world.pay(&metered, &allowance, dollars(2)).await,
        world.pay(&metered, &once, dollars(4)).await,
        world.pay(&fixed, &exact, dollars(20)).await,
        world.pay(&fixed, &permit2, dollars(20)).await,
    ];
    world.settle().await;
    for id in ids {
        assert_eq!(world.state(id).await, PaymentState::Final);
    }
    assert_eq!(world.received().await, dollars(49));
}

async fn a_cold_payer_costs_one_rpc_call_and_a_warm_one_none(chain: Backend) {
    let world = World::new(chain, Setup::default()).await;
    for payer in [0, 1, 2, 3] {
        world.approve_permit2(payer, U256::MAX).await;
    }
    let (metered, fixed) = (
        world.metered(dollars(10)),
        world.offer(Pricing::Fixed(dollars(10))),
    );
    let allowance = world.allowance(0, dollars(99), 0).await;
    for (offer, signed) in [
        (&metered, [allowance.clone(), allowance]),
        (
            &metered,
            [
                world.once(1, dollars(99), 1).await,
                world.once(1, dollars(99), 2).await,
            ],
        ),
        (
            &fixed,
            [
                world.transfer(2, dollars(10), 1).await,
                world.transfer(2, dollars(10), 2).await,
            ],
        ),
        (
            &fixed,
            [
                world.permit2_exact(3, dollars(10), 1).await,
                world.permit2_exact(3, dollars(10), 2).await,
            ],
        ),
    ] {
        let before = world.calls();
        let first = world.admit(offer, &signed[0]).await.unwrap();
        assert_eq!(world.calls(), before + 1, "{:?}", signed[0].kind());
        let second = world.admit(offer, &signed[1]).await.unwrap();
        assert_eq!(world.calls(), before + 1, "{:?}", signed[1].kind());
        first.release().await.unwrap();
        second.release().await.unwrap();
    }
}

async fn what_can_be_refused_without_the_chain_costs_no_rpc_call(chain: Backend) {
    let world = World::new(chain, Setup::default()).await;
    let offer = world.metered(dollars(10));
    let before = world.calls();
    let good = world.allowance(PAYER, dollars(99), 0).await;
    let stranger = world.allowance(1, dollars(99), 0).await;
    let mut forged = good.clone();
    let tollgate_x402::Authorization::Allowance(permit) = &mut forged else {
        unreachable!()
    };
    permit.signature = *stranger.signature();
    let refused = world.admit(&offer, &forged).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidPermitSignature);
    let fixed = world.offer(Pricing::Fixed(dollars(20)));
    let underpaid = world.transfer(PAYER, dollars(19), 1).await;
    assert_eq!(
        world.admit(&fixed, &underpaid).await.unwrap_err().code,
        ErrorCode::ValueMismatch
    );
    assert_eq!(world.calls(), before);
}

async fn one_once_payment_sent_64_times_at_once_is_served_once(chain: Backend) {
    let mut world = World::new(chain, Setup::default()).await;
    world.approve_permit2(PAYER, U256::MAX).await;
    let signed = world.once(PAYER, dollars(99), 5).await;
    let offer = world.metered(dollars(10));
    let attempts = (0..64).map(|_| world.admit(&offer, &signed));
    let mut holds = Vec::new();
    for outcome in futures_util::future::join_all(attempts).await {
        match outcome {
            Ok(hold) => holds.push(hold),
            Err(error) => assert_eq!(error.code, ErrorCode::PaymentInFlight),
        }
    }
    assert_eq!(holds.len(), 1);
    holds.pop().unwrap().commit(dollars(6), None).await.unwrap();
    let again = world.admission(&offer, &signed, B256::ZERO).await.unwrap();
    let again = again.replay().expect("it was served");
    assert_eq!(again.status.charge, Some(dollars(6)));
    let other = world
        .admit_for(&offer, &signed, B256::repeat_byte(1))
        .await
        .unwrap_err();
    assert_eq!(other.code, ErrorCode::DuplicateSettlement);
    world.settle().await;
    assert_eq!(world.received().await, dollars(6));
}

async fn calls_at_once_on_one_allowance_never_overdraw_it(chain: Backend) {
    let mut world = World::new(chain, Setup::default()).await;
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let offer = world.metered(dollars(10));
    let attempts = (0..64).map(|_| world.admit(&offer, &signed));
    let outcomes = futures_util::future::join_all(attempts).await;
    let mut sum = Amount::ZERO;
    for outcome in outcomes {
        match outcome {
            Ok(hold) => {
                sum = sum.checked_add(hold.cap()).unwrap();
                let cap = hold.cap();
                hold.commit(cap, None).await.unwrap();
            }
            Err(error) => assert_eq!(error.code, ErrorCode::AllowanceExhausted),
        }
    }
    assert_eq!(sum, dollars(99), "all of it is served, and not a unit more");
    world.settle().await;
    assert_eq!(world.received().await, dollars(99));
}

async fn one_balance_behind_three_kinds_of_payment_serves_itself_once(chain: Backend) {
    let mut world = World::new(chain, Setup::default()).await;
    world.approve_permit2(PAYER, U256::MAX).await;
    world.leave(PAYER, dollars(100)).await;
    let allowance = world.allowance(PAYER, dollars(100), 0).await;
    let once = world.once(PAYER, dollars(100), 5).await;
    let exact = world.transfer(PAYER, dollars(100), 9).await;
    let metered = world.metered(dollars(100));
    let fixed = world.offer(Pricing::Fixed(dollars(100)));
    let attempts = futures_util::join!(
        world.admit(&metered, &allowance),
        world.admit(&metered, &once),
        world.admit(&fixed, &exact),
    );
    let attempts = [
        (attempts.0, ErrorCode::InsufficientFunds),
        (attempts.1, ErrorCode::Permit2Balance),
        (attempts.2, ErrorCode::Eip3009Balance),
    ];
    let mut served = 0;
    for (attempt, short) in attempts {
        match attempt {
            Ok(hold) => {
                assert_eq!(hold.cap(), dollars(100));
                hold.commit(dollars(100), None).await.unwrap();
                served += 1;
            }
            Err(error) => assert_eq!(error.code, short),
        }
    }
    assert_eq!(served, 1);
    world.settle().await;
    assert_eq!(world.received().await, dollars(100));
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

async fn a_transfer_is_settled_at_once_beside_an_allowance_that_waits(chain: Backend) {
    let mut world = World::new(
        chain,
        Setup {
            settler: false,
            ..aggregate()
        },
    )
    .await;
    let allowance = world.allowance(PAYER, dollars(99), 0).await;
    world
        .pay(&world.metered(dollars(10)), &allowance, dollars(3))
        .await;
    world.pass(10).await;
    let exact = world.transfer(PAYER, dollars(20), 9).await;
    let fixed = world.offer(Pricing::Fixed(dollars(20)));
    let id = world.pay(&fixed, &exact, dollars(20)).await;
    assert_eq!(world.tick().await.sent, 1);
    for _ in 0..4 {
        world.pass(1).await;
        world.tick().await;
    }
    assert_eq!(world.state(id).await, PaymentState::Final);
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

fn aggregate() -> Setup {
    Setup {
        allowances: Policy::Aggregate {
            max_unsettled: dollars(500),
            max_age: 600,
        },
        ..Setup::default()
    }
}
