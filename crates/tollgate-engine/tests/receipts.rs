//! Receipts: what the account that settles signs about a payment, and the chain bears out.

#[expect(dead_code, reason = "this file uses a part")]
mod common;

use alloy_sol_types::SolEvent;
use common::*;
use tollgate_contracts::abi::Settler;
use tollgate_devchain::DEV_ACCOUNTS;
use tollgate_eip712::{
    CounterInterval, LocalWallet, PaymentKind, Signed, TokenCounts, UsageReceipt, digest,
};
use tollgate_engine::{Notary, PaymentTold, status};
use tollgate_payment::{Pricing, port::Hold};
use tollgate_x402::{Amount, Authorization, B256, PaymentId, PaymentState, TokenUsage};

async fn told(world: &World, id: PaymentId) -> PaymentTold {
    let told = status(&world.store, &world.markets, id).await;
    let mut told = told.unwrap().unwrap();
    // What a gateway reads from its memo.
    told.status.model = Some("acme/storyteller".to_owned());
    told.status.usage = Some(TokenUsage {
        input_tokens: 20,
        output_tokens: 4,
        ..TokenUsage::default()
    });
    told
}

fn notary(account: usize) -> Notary<LocalWallet> {
    Notary::new(wallet(account))
}

async fn receipt(world: &World, id: PaymentId) -> Option<Signed<UsageReceipt>> {
    notary(OPERATOR).receipt(&told(world, id).await).await
}

#[tokio::test]
async fn the_receipt_of_a_final_allowance_payment_is_the_operators_and_its_interval_the_settlers() {
    let mut world = World::new(Backend::devchain().await, Setup::default()).await;
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let offer = world.metered(dollars(10));
    // Another payment first, so that the interval does not begin at nothing.
    world.pay(&offer, &signed, dollars(2)).await;
    world.settle().await;
    let request = B256::repeat_byte(7);
    let mut hold = world.admit_for(&offer, &signed, request).await.unwrap();
    hold.durable().await.unwrap();
    let id = hold.id();
    hold.commit(dollars(7), None).await.unwrap();
    world.settle().await;

    let status = world.status(id).await;
    assert_eq!(status.state, PaymentState::Final);
    let receipt = receipt(&world, id).await.unwrap();
    assert_eq!(receipt.signer(), Ok(DEV_ACCOUNTS[OPERATOR].address));
    let said = &receipt.payload;
    assert_eq!(said.pay_to, world.chain.settler());
    assert_eq!(said.payment, UsageReceipt::payment_digest(id));
    assert_eq!(said.authorization, digest(&signed, &world.domain));
    assert_eq!(said.request, request);
    assert_eq!(said.kind, PaymentKind::Allowance);
    assert_eq!(said.payer, DEV_ACCOUNTS[PAYER].address);
    assert_eq!(said.token, status.token);
    assert_eq!(said.amount, dollars(7));
    assert_eq!(said.model, "acme/storyteller");
    let tokens = TokenCounts {
        input: 20,
        output: 4,
    };
    assert_eq!(said.tokens, tokens);
    assert_eq!(said.issued_at, status.updated_at);
    assert!(said.counter_holds_amount());

    // The Settler's own event, in the transaction that the status names.
    let transaction = world.reader.receipt(status.transaction.unwrap()).await;
    let logs = transaction.unwrap().unwrap().logs;
    let mut events = logs
        .iter()
        .filter_map(|log| Settler::Charged::decode_raw_log(log.topics.iter(), &log.data).ok());
    let event = events.next().unwrap();
    let counted = CounterInterval {
        from: Amount::new(event.from),
        to: Amount::new(event.to),
    };
    assert_eq!(said.counter, Some(counted));
    assert_eq!(counted.from, dollars(2));

    // Nothing has happened since: the same receipt to everybody who asks.
    assert_eq!(self::receipt(&world, id).await.unwrap(), receipt);
}

#[tokio::test]
async fn a_plain_account_signs_for_itself_every_kind_without_a_counter() {
    let setup = Setup {
        settler: false,
        ..Setup::default()
    };
    let mut world = World::new(Backend::devchain().await, setup).await;
    world.approve_permit2(PAYER, tollgate_x402::U256::MAX).await;
    let (metered, fixed) = (
        world.metered(dollars(10)),
        world.offer(Pricing::Fixed(dollars(20))),
    );
    let mut paid = Vec::new();
    for (signed, offer, kind) in [
        (
            world.allowance(PAYER, dollars(99), 0).await,
            &metered,
            PaymentKind::Allowance,
        ),
        (
            world.once(PAYER, dollars(99), 5).await,
            &metered,
            PaymentKind::Once,
        ),
        (
            world.transfer(PAYER, dollars(20), 9).await,
            &fixed,
            PaymentKind::Exact,
        ),
        (
            world.permit2_exact(PAYER, dollars(20), 77).await,
            &fixed,
            PaymentKind::Exact,
        ),
    ] {
        let used = match &signed {
            Authorization::Exact(_) => dollars(20),
            _ => dollars(3),
        };
        paid.push((world.pay(offer, &signed, used).await, signed, kind, used));
    }
    // Charged and not settled, and settled.
    for _ in 0..2 {
        for (id, signed, kind, used) in &paid {
            let receipt = receipt(&world, *id).await.unwrap();
            let said = &receipt.payload;
            assert_eq!(receipt.signer(), Ok(said.pay_to));
            assert_eq!(said.pay_to, DEV_ACCOUNTS[OPERATOR].address);
            assert_eq!(said.authorization, digest(signed, &world.domain));
            assert_eq!((said.kind, said.amount), (*kind, *used));
            assert_eq!(said.counter, None);
        }
        world.settle().await;
    }
    // A key that is not the account's says nothing in its name.
    let told = told(&world, paid[0].0).await;
    assert_eq!(notary(SUCCESSOR).receipt(&told).await, None);
}

#[tokio::test]
async fn what_is_not_charged_or_not_any_more_has_no_receipt() {
    let mut world = World::new(Backend::devchain().await, Setup::default()).await;
    let offer = world.metered(dollars(10));
    let signed = world.allowance(PAYER, dollars(99), 0).await;

    let mut serving = world.admit(&offer, &signed).await.unwrap();
    serving.durable().await.unwrap();
    let id = serving.id();
    serving.checkpoint(dollars(1)).await.unwrap();
    assert_eq!(receipt(&world, id).await, None, "while it is served");
    serving.release().await.unwrap();
    assert_eq!(world.state(id).await, PaymentState::Released);
    assert_eq!(receipt(&world, id).await, None, "released");

    let free = world.pay(&offer, &signed, Amount::ZERO).await;
    assert_eq!(receipt(&world, free).await, None, "nothing was charged");

    let lost = world.pay(&offer, &signed, dollars(5)).await;
    assert!(receipt(&world, lost).await.is_some());
    world.leave(PAYER, Amount::ZERO).await;
    for _ in 0..40 {
        world.tick().await;
        world.pass(10).await;
    }
    assert_eq!(world.state(lost).await, PaymentState::Lost);
    assert_eq!(receipt(&world, lost).await, None, "lost");
}

#[tokio::test]
async fn a_charge_that_another_address_is_paid_than_todays_has_no_receipt_of_todays_key() {
    let mut world = World::new(Backend::devchain().await, Setup::default()).await;
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let offer = world.metered(dollars(10));
    let id = world.pay(&offer, &signed, dollars(5)).await;
    assert!(receipt(&world, id).await.is_some());
    world.pay_to(false).await;
    assert_eq!(receipt(&world, id).await, None);
}
