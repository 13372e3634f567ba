//! What a seller can rely on when its payments are settled by the desk.

use std::{sync::Arc, time::Duration};

use tollgate_devchain::DEV_ACCOUNTS;
use tollgate_facilitator::{Facilitator, FacilitatorError, Stage};
use tollgate_ledger::{MemoryStore, SqliteStore, Store};
use tollgate_x402::{
    Address, Amount, Authorization, B256, ErrorCode, Network, Scheme, U256, X402Version,
};

use crate::world::*;

async fn world() -> World<MemoryStore> {
    let chain = chain();
    let clock = Arc::new(ChainClock(Arc::clone(&chain)));
    World::open(&chain, MemoryStore::new(B256::ZERO, clock)).await
}

#[tokio::test]
async fn each_kind_is_verified_and_settled_and_the_seller_has_the_money() {
    let world = world().await;
    let mut earned = Amount::ZERO;
    for (signed, amount) in [
        (once(&world.chain, cents(99), 1).await, cents(3)),
        (permit2_exact(&world.chain, cents(5), 2).await, cents(5)),
        (transfer(&world.chain, cents(7), 3).await, cents(7)),
    ] {
        let most = settlement(&signed, signed.cap());
        let verified = world.desk.verify(&most).await.unwrap();
        assert!(verified.is_valid, "{verified:?}");
        assert_eq!(verified.payer, Some(signed.owner()));

        let call = settlement(&signed, amount);
        assert!(world.desk.gas(&call) > 50_000);
        let settled = world.mining(world.desk.settle(&call)).await.unwrap();
        assert_eq!(settled.stage, Stage::Done, "{settled:?}");
        assert!(settled.fresh && settled.response.success);
        assert_eq!(settled.response.amount, Some(amount));
        let transaction = settled.response.transaction.unwrap();
        let receipt = world.reader.receipt(transaction).await.unwrap().unwrap();
        assert!(receipt.success);
        earned = earned.checked_add(amount).unwrap();
        assert_eq!(world.earned(), earned);

        let again = world.desk.settle(&call).await.unwrap();
        assert_eq!(again.response, settled.response);
        assert!(!again.fresh);
        let used = world.desk.verify(&most).await.unwrap();
        assert!(!used.is_valid, "what was settled is no good any more");
    }
    assert_eq!(world.sent(), 3);
}

#[tokio::test]
async fn sixty_four_settlements_of_one_payment_at_once_are_one_transaction() {
    let world = world().await;
    let signed = once(&world.chain, cents(99), 1).await;
    let call = settlement(&signed, cents(10));
    let mut tasks = Vec::new();
    for _ in 0..64 {
        let (desk, call) = (world.desk.clone(), call.clone());
        tasks.push(tokio::spawn(
            async move { desk.settle(&call).await.unwrap() },
        ));
    }
    let settled = world
        .mining(async {
            let mut settled = Vec::new();
            for task in tasks {
                settled.push(task.await.unwrap());
            }
            settled
        })
        .await;
    assert_eq!(settled.iter().filter(|settled| settled.fresh).count(), 1);
    for one in &settled {
        assert_eq!(one.stage, Stage::Done);
        assert_eq!(one.response, settled[0].response);
    }
    assert_eq!(world.earned(), cents(10));
    assert_eq!(world.sent(), 1);
}

#[tokio::test]
async fn the_same_payment_for_another_amount_is_a_conflict() {
    let world = world().await;
    let signed = once(&world.chain, cents(99), 1).await;
    let first = settlement(&signed, cents(10));
    world.mining(world.desk.settle(&first)).await.unwrap();
    for other in [cents(11), cents(9), Amount::ZERO] {
        let settled = world
            .desk
            .settle(&settlement(&signed, other))
            .await
            .unwrap();
        assert_eq!(settled.stage, Stage::Conflict);
        assert_eq!(
            settled.response.error_reason.as_deref(),
            Some(ErrorCode::DuplicateSettlement.as_str())
        );
        assert!(!settled.fresh);
    }
    assert_eq!(world.earned(), cents(10));
}

#[tokio::test]
async fn nothing_due_needs_no_transaction_and_uses_the_payment_up() {
    let world = world().await;
    let signed = once(&world.chain, cents(99), 1).await;
    let none = settlement(&signed, Amount::ZERO);
    assert_eq!(world.desk.gas(&none), 0);
    for fresh in [true, false] {
        let settled = world.desk.settle(&none).await.unwrap();
        assert_eq!(settled.stage, Stage::Done);
        assert!(settled.response.success);
        assert_eq!(settled.response.transaction, None);
        assert_eq!(settled.response.amount, Some(Amount::ZERO));
        assert_eq!(settled.fresh, fresh);
    }
    let later = settlement(&signed, cents(1));
    assert_eq!(
        world.desk.settle(&later).await.unwrap().stage,
        Stage::Conflict
    );
    assert_eq!(world.sent(), 0);
    assert!(world.store.entries(0, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_not_known_in_time_is_pending_with_its_transaction_and_never_failed() {
    let world = world().await;
    let signed = once(&world.chain, cents(99), 1).await;
    let mut call = settlement(&signed, cents(10));
    call.request.requirements.max_timeout_seconds = 2;
    // No block is made.
    let pending = world.desk.settle(&call).await.unwrap();
    assert_eq!(pending.stage, Stage::Pending);
    assert!(!pending.response.success);
    assert_eq!(
        pending.response.error_reason.as_deref(),
        Some(ErrorCode::SettlementPending.as_str())
    );
    let hash = pending.response.transaction.expect("it was sent");
    assert_eq!(pending.response.payer, Some(signed.owner()));

    call.request.requirements.max_timeout_seconds = 60;
    let settled = world.mining(world.desk.settle(&call)).await.unwrap();
    assert_eq!(settled.stage, Stage::Done);
    assert_eq!(settled.response.transaction, Some(hash));
    assert!(!settled.fresh);
    assert_eq!((world.sent(), world.earned()), (1, cents(10)));
}

#[tokio::test]
async fn a_restart_in_the_middle_changes_nothing() {
    let chain = chain();
    let directory = tempfile::tempdir().unwrap();
    let open = || {
        let clock = Arc::new(ChainClock(Arc::clone(&chain)));
        SqliteStore::open(directory.path().join("ledger.db"), B256::ZERO, clock).unwrap()
    };
    let world = World::open(&chain, open()).await;
    let signed = once(&chain, cents(99), 1).await;
    let mut call = settlement(&signed, cents(10));
    call.request.requirements.max_timeout_seconds = 2;
    let pending = world.desk.settle(&call).await.unwrap();
    let hash = pending.response.transaction.expect("it was sent");
    drop(world.close().await);

    let world = World::open(&chain, open()).await;
    call.request.requirements.max_timeout_seconds = 60;
    let settled = world.mining(world.desk.settle(&call)).await.unwrap();
    assert_eq!(settled.stage, Stage::Done);
    assert_eq!(settled.response.transaction, Some(hash));
    drop(world.close().await);

    let world = World::open(&chain, open()).await;
    let again = world.desk.settle(&call).await.unwrap();
    assert_eq!(again.response, settled.response);
    // Whatever the time is: what was settled is told.
    chain.increase_time(10_000);
    chain.mine();
    let later = world.desk.settle(&call).await.unwrap();
    assert_eq!(later.response, settled.response);
    let other = world.desk.settle(&settlement(&signed, cents(1))).await;
    assert_eq!(other.unwrap().stage, Stage::Conflict);
    // To a caller that may begin nothing more as well; and only what was begun.
    call.may_begin = false;
    assert_eq!(
        world.desk.settle(&call).await.unwrap().response,
        settled.response
    );
    let mut fresh = settlement(&once(&chain, cents(99), 2).await, cents(1));
    fresh.may_begin = false;
    let refused = world.desk.settle(&fresh).await;
    assert_eq!(
        refused,
        Err(tollgate_facilitator::FacilitatorError::NotBegun)
    );
    assert_eq!((world.sent(), world.earned()), (1, cents(10)));
}

#[tokio::test]
async fn verifying_writes_nothing() {
    let world = world().await;
    let signed = once(&world.chain, cents(99), 1).await;
    for _ in 0..3 {
        let verified = world.desk.verify(&settlement(&signed, cents(99))).await;
        assert!(verified.unwrap().is_valid);
    }
    assert!(world.store.entries(0, 1).await.unwrap().is_empty());
    let logs = world.store.logs(Default::default(), 1).await.unwrap();
    assert!(logs.is_empty());
}

#[tokio::test]
async fn what_the_caller_asks_for_is_held_against_what_was_signed() {
    let world = world().await;
    let signed = once(&world.chain, cents(99), 1).await;
    let entry = offered(Scheme::Upto, cents(99), true);
    let mut cases = Vec::new();
    let mut case = |name: &'static str,
                    change: &dyn Fn(&mut tollgate_x402::PaymentRequirements)| {
        let mut asked = entry.clone();
        change(&mut asked);
        cases.push((name, asked));
    };
    case("payTo", &|asked| asked.pay_to = Address::repeat_byte(9));
    case("network", &|asked| asked.network = Network::BSC);
    case("asset", &|asked| asked.asset = Address::repeat_byte(9));
    case("scheme", &|asked| asked.scheme = Scheme::Exact);
    case("more than was signed", &|asked| asked.amount = cents(100));
    case("facilitator", &|asked| {
        asked.extra.facilitator_address = Some(Address::repeat_byte(9));
    });
    for (name, asked) in cases {
        // The client's echo may be of anything: it is the requirements that count.
        for echoed in [&entry, &asked] {
            let call = call(X402Version::V2, &signed, echoed, &asked);
            let verified = world.desk.verify(&call).await.unwrap();
            assert!(!verified.is_valid, "{name}");
            let settled = world.desk.settle(&call).await.unwrap();
            assert_eq!(settled.stage, Stage::Refused, "{name}");
            assert!(!settled.response.success && !settled.fresh, "{name}");
        }
    }
    let Authorization::Once(mut forged) = signed else {
        unreachable!()
    };
    forged.owner = Address::repeat_byte(7);
    let forged = Authorization::Once(forged);
    let verified = world.desk.verify(&settlement(&forged, cents(99))).await;
    let code = verified.unwrap().invalid_reason;
    assert_eq!(code.as_deref(), Some(ErrorCode::Permit2Signature.as_str()));
    assert_eq!(world.sent(), 0);
}

#[tokio::test]
async fn an_allowance_is_refused_with_the_reason() {
    let world = world().await;
    let signed = permit(&world.chain, cents(99)).await;
    let verified = world.desk.verify(&settlement(&signed, cents(99))).await;
    let verified = verified.unwrap();
    assert!(!verified.is_valid);
    assert!(verified.invalid_message.unwrap().contains("Settler"));
    let settled = world.desk.settle(&settlement(&signed, cents(1))).await;
    assert_eq!(settled.unwrap().stage, Stage::Refused);
}

#[tokio::test]
async fn open_settlements_count_against_the_balance() {
    let world = world().await;
    let all = world.balance(tollgate_devchain::DEV_ACCOUNTS[PAYER].address);
    let first = once(&world.chain, all, 1).await;
    let mut call = settlement(&first, all);
    call.request.requirements.max_timeout_seconds = 1;
    let pending = world.desk.settle(&call).await.unwrap();
    assert_eq!(pending.stage, Stage::Pending);
    let second = once(&world.chain, cents(1), 2).await;
    let verified = world.desk.verify(&settlement(&second, cents(1))).await;
    let code = verified.unwrap().invalid_reason;
    assert_eq!(code.as_deref(), Some(ErrorCode::Permit2Balance.as_str()));
}

#[tokio::test]
async fn what_it_supports_names_its_account() {
    let world = world().await;
    let supported = world.desk.supported().await.unwrap();
    let body = supported.to_json();
    assert!(body.contains("facilitatorAddress") && body.contains("eip155:31337"));
    assert_eq!(supported.kinds.len(), 4, "{body}");
    assert_eq!(world.desk.health().await, Ok(()));
}

#[tokio::test]
async fn while_nothing_would_be_settled_nothing_is_claimed_and_what_was_begun_is_told() {
    let world = world().await;
    let operator = DEV_ACCOUNTS[OPERATOR].address;
    let begun = settlement(&once(&world.chain, cents(99), 1).await, cents(10));
    let settled = world.mining(world.desk.settle(&begun)).await.unwrap();
    let signed = once(&world.chain, cents(99), 2).await;
    let fresh = settlement(&signed, cents(3));

    let plenty = world.chain.balance(operator);
    for why in ["send it BNB", "finalized nothing"] {
        let money = why == "send it BNB";
        if money {
            world.chain.set_balance(operator, U256::ZERO);
        } else {
            world.chain.freeze_finality(true);
        }
        world.chain.increase_time(200);
        world
            .mining(until(|| world.health.settles().is_err()))
            .await;
        let paused = |error| {
            let FacilitatorError::Paused { message, .. } = error else {
                panic!("{error:?}");
            };
            assert!(message.contains(why), "{message}");
        };
        paused(world.desk.settle(&fresh).await.unwrap_err());
        paused(world.desk.verify(&fresh).await.unwrap_err());
        paused(world.desk.health().await.unwrap_err());
        let again = world.desk.settle(&begun).await.unwrap();
        assert_eq!(again.response, settled.response, "what was begun is told");
        world.chain.set_balance(operator, plenty);
        world.chain.freeze_finality(false);
        world.chain.increase_time(20);
        world.mining(until(|| world.health.settles().is_ok())).await;
    }
    assert_eq!(world.desk.health().await, Ok(()));
    // Nothing was claimed: it is settled for whatever is asked now.
    let other = settlement(&signed, cents(4));
    let settled = world.mining(world.desk.settle(&other)).await.unwrap();
    assert_eq!(settled.stage, Stage::Done, "{settled:?}");
    assert_eq!((world.sent(), world.earned()), (2, cents(14)));
}

async fn until(good: impl Fn() -> bool) {
    let mut looks = tokio::time::interval(Duration::from_millis(10));
    while !good() {
        looks.tick().await;
    }
}
