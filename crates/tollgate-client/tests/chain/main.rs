//! Permit nonces from a chain, and a payment's status held against it.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use alloy_primitives::{Address, B256, U256, address, hex};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tollgate_bsc::{Call, RawTransaction, SettleItem, Submission, settle};
use tollgate_client::{
    AuthorizationKind, Chain, ChainConfig, ChainFacts, ChainRpc, Finding, Paid, Pay, PayError,
    Payer, Policy, Receipt, SignedReceipt, Verdict, audit, verify_on_chain, verify_signer,
};
use tollgate_devchain::{BlockTime, DEV_ACCOUNTS, DEV_SETTLER, DevChain, Development, Genesis};
use tollgate_eip712::{
    LocalWallet, PaymentKind, TokenCounts, UsageReceipt, Version1, Wallet, sign_statement,
};
use tollgate_x402::{
    Amount, Authorization, ChainId, Interval, Limits, Network, PaymentAmounts, PaymentId,
    PaymentPayload, PaymentRequired, PaymentRequirements, PaymentState, PaymentStatus, PrimaryType,
    ResourceInfo, Scheme, Timestamp,
};
use tower::{Service, ServiceExt};

const OPERATOR: usize = 7;
const CENT: u128 = 10_000_000_000_000_000;

fn entry() -> PaymentRequirements {
    let token = address!("8d0D000Ee44948FC98c9B98A4FA4921476f08B0d");
    let mut entry = PaymentRequirements::new(
        Scheme::Upto,
        Network::Eip155(ChainId::DEV),
        Amount::from(99 * CENT),
        token,
        DEV_SETTLER,
        86_400,
    );
    entry.extra.primary_type = Some(PrimaryType::Permit);
    entry.extra.min_amount_required = Some(Amount::from(CENT));
    entry
}

/// Takes every payment, and keeps it.
#[derive(Clone, Default)]
struct Seller(Arc<Mutex<Vec<Authorization>>>);

impl Service<Request<Bytes>> for Seller {
    type Response = Response<Full<Bytes>>;
    type Error = std::io::Error;
    type Future =
        Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, std::io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let mut response = Response::new(Full::default());
        if let Some(header) = request.headers().get("payment-signature") {
            let payment = PaymentPayload::parse_header(header.as_bytes(), &Limits::DEFAULT);
            let signed = payment.unwrap().authorization_for(&entry()).unwrap();
            self.0.lock().unwrap().push(signed);
        } else {
            let offer = PaymentRequired::new(ResourceInfo::new("http://x/"), vec![entry()]);
            *response.status_mut() = StatusCode::PAYMENT_REQUIRED;
            let header = offer.to_header_v2().parse().unwrap();
            response.headers_mut().insert("payment-required", header);
        }
        Box::pin(async { Ok(response) })
    }
}

fn wallet(index: usize) -> LocalWallet {
    LocalWallet::from_hex(&hex::encode(DEV_ACCOUNTS[index].private_key)).unwrap()
}

async fn chain() -> (DevChain, ChainConfig) {
    let dev = DevChain::builder()
        .block_time(BlockTime::Manual)
        .genesis(Genesis::development(&Development::default()))
        .start()
        .unwrap();
    dev.serve(([127, 0, 0, 1], 0)).await.unwrap();
    let config = ChainConfig::new(ChainId::DEV, [dev.rpc_url().unwrap()]);
    (dev, config)
}

async fn send(chain: &Chain, call: Call) -> RawTransaction {
    let operator = wallet(OPERATOR);
    let nonce = chain
        .transaction_count(operator.address(), tollgate_bsc::BlockTag::Pending)
        .await
        .unwrap();
    let request = call.into_transaction(ChainId::DEV, nonce, 50_000_000);
    let signature = operator.sign_hash(&request.signing_hash()).await.unwrap();
    let transaction = request.into_raw(&signature);
    assert_eq!(chain.submit(&transaction.raw).await, Submission::Accepted);
    transaction
}

fn status(paid: &Paid, charge: u128, from: u128, transaction: B256) -> PaymentStatus {
    let amounts = PaymentAmounts {
        authorized: paid.authorized.amount,
        reserved: Amount::from(CENT),
        calculated: None,
    };
    let mut status = PaymentStatus::accepted(
        PaymentId::from_random([1; 16]),
        AuthorizationKind::Allowance,
        Network::Eip155(ChainId::DEV),
        paid.token,
        paid.payer,
        paid.pay_to,
        amounts,
        Timestamp(1),
    );
    status.state = PaymentState::Included;
    status.charge = Some(Amount::from(charge));
    status.interval = Some(Interval {
        from: Amount::from(from),
        to: Amount::from(from + charge),
    });
    status.transaction = Some(transaction);
    status
}

#[tokio::test]
async fn what_was_signed_is_settled_and_the_status_proven_to_the_last_unit() {
    let (dev, config) = chain().await;
    let facts = ChainRpc::of(config.clone());
    assert!(facts.knows(ChainId::DEV) && !facts.knows(ChainId::BSC));
    let seller = Seller::default();
    let payer = Payer::builder(wallet(0))
        .policy(Policy::default())
        .facts(facts)
        .build();
    let mut pay = Pay::new(seller.clone(), payer);
    let request = Request::post("http://127.0.0.1:8402/x402/v1");
    let request = request.body(Bytes::new()).unwrap();
    let response = pay.ready().await.unwrap().call(request).await.unwrap();
    let paid = response.extensions().get::<Paid>().unwrap().clone();
    let signed = seller.0.lock().unwrap().pop().unwrap();
    let Authorization::Allowance(permit) = signed else {
        panic!("an allowance")
    };
    assert_eq!(permit.nonce, U256::ZERO);

    // One settlement of two payments: ours is the second half of the interval.
    let chain = Chain::connect(config).await.unwrap();
    let (first, ours) = (CENT / 2, CENT);
    let item = SettleItem::Allowance {
        token: paid.token,
        owner: paid.payer,
        from: Amount::ZERO,
        to: Amount::from(first + ours),
        permit: Some(permit),
    };
    let transaction = send(&chain, settle(DEV_SETTLER, &[item]).unwrap()).await;
    let right = status(&paid, ours, first, transaction.hash);
    let verdict = |status: PaymentStatus| {
        let (chain, paid) = (&chain, &paid);
        async move { verify_on_chain(chain, paid, &status).await.unwrap() }
    };
    assert_eq!(verdict(right.clone()).await, Some(Verdict::NotIncluded));
    dev.mine();
    let included = verdict(right.clone()).await;
    assert!(
        matches!(included, Some(Verdict::Included(_))),
        "{included:?}"
    );
    dev.mine_blocks(2);
    let settled = verdict(right.clone()).await;
    assert!(
        settled.is_some_and(|verdict| verdict.is_final()),
        "{settled:?}"
    );
    assert_eq!(audit(&paid, &Receipt::default(), Some(&right), None), []);

    // Not a unit more, not another part of the counter, and nothing for what is not charged.
    for wrong in [
        status(&paid, ours + 1, first, transaction.hash),
        status(&paid, ours, first + 1, transaction.hash),
    ] {
        let verdict = verdict(wrong).await;
        assert!(
            matches!(verdict, Some(Verdict::NotMoved { .. })),
            "{verdict:?}"
        );
    }
    let mut free = right.clone();
    free.charge = Some(Amount::ZERO);
    assert_eq!(verdict(free).await, None);
    let mut more = right;
    more.charge = Some(Amount::from(ours + 1));
    let findings = audit(&paid, &Receipt::default(), Some(&more), None);
    assert!(findings.iter().any(|f| matches!(f, Finding::Interval)));

    // The permit is used: the next one takes the next nonce.
    let nonce = chain
        .permit_nonce(ChainId::DEV, paid.token, paid.payer)
        .await;
    assert_eq!(nonce, Ok(U256::from(1)));
}

/// A receipt for what was paid to this address, signed by this account.
async fn receipt(pay_to: Address, signer: usize) -> SignedReceipt {
    let receipt = UsageReceipt {
        version: Version1,
        chain: ChainId::DEV,
        pay_to,
        payment: B256::repeat_byte(1),
        authorization: B256::repeat_byte(2),
        request: B256::ZERO,
        kind: PaymentKind::Once,
        payer: wallet(0).address(),
        token: entry().asset,
        amount: Amount::from(CENT),
        model: "m".into(),
        tokens: TokenCounts::default(),
        counter: None,
        issued_at: Timestamp(1),
    };
    sign_statement(&wallet(signer), receipt).await.unwrap()
}

#[tokio::test]
async fn a_receipt_by_a_strangers_key_or_changed_on_the_way_is_found_by_the_chain() {
    const STRANGER: usize = 3;
    let (_dev, config) = chain().await;
    let chain = Chain::connect(config).await.unwrap();
    let stranger = |pay_to| Finding::Signer {
        signer: wallet(STRANGER).address(),
        pay_to,
    };

    // The Settler's own list of operators, in one call.
    let calls = chain.rpc_counts().total();
    let operators = receipt(DEV_SETTLER, OPERATOR).await;
    assert_eq!(
        verify_signer(&chain, DEV_SETTLER, &operators).await,
        Ok(None)
    );
    assert_eq!(chain.rpc_counts().total(), calls + 1);
    let strangers = receipt(DEV_SETTLER, STRANGER).await;
    let found = verify_signer(&chain, DEV_SETTLER, &strangers).await;
    assert_eq!(found, Ok(Some(stranger(DEV_SETTLER))));
    let mut changed = operators;
    changed.payload.amount = Amount::from(2 * CENT);
    let found = verify_signer(&chain, DEV_SETTLER, &changed).await;
    assert!(
        matches!(found, Ok(Some(Finding::Signer { .. }))),
        "{found:?}"
    );

    // A plain account signs for itself alone, and is not asked for.
    let account = wallet(5).address();
    let calls = chain.rpc_counts().total();
    let own = receipt(account, 5).await;
    assert_eq!(verify_signer(&chain, account, &own).await, Ok(None));
    assert_eq!(chain.rpc_counts().total(), calls);
    // A contract that keeps no operators, and reverts.
    for pay_to in [account, entry().asset] {
        let strangers = receipt(pay_to, STRANGER).await;
        let found = verify_signer(&chain, pay_to, &strangers).await;
        assert_eq!(found, Ok(Some(stranger(pay_to))));
    }
}

#[tokio::test]
async fn a_chain_that_does_not_answer_signs_nothing() {
    let silent = ChainRpc::new(ChainId::DEV, "http://127.0.0.1:1/");
    let payer = Payer::builder(wallet(0)).facts(silent).build();
    let mut pay = Pay::new(Seller::default(), payer);
    let request = Request::post("http://127.0.0.1:8402/x402/v1");
    let request = request.body(Bytes::new()).unwrap();
    let error = pay.ready().await.unwrap().call(request).await.unwrap_err();
    assert!(matches!(error, PayError::Chain(_)), "{error}");
}
