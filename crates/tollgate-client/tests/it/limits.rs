//! What is not paid, and that nothing is signed for it.

use alloy_primitives::{Address, address};
use tollgate_client::{
    Asset, Dollars, PayError, Payer, Policy, Refusal, TokenSignatures, is_development_account,
};
use tollgate_eip712::TokenDomain;
use tollgate_x402::{AuthorizationKind, ChainId, Network, PaymentRequirements};

use crate::seller::*;

/// The first reason for which these entries are not paid; nothing was signed and nothing sent.
async fn refusal(entries: Vec<PaymentRequirements>, policy: Policy, url: &str) -> Refusal {
    refused_with(entries, policy, url, Counting::ordinary()).await
}

async fn refused_with(
    entries: Vec<PaymentRequirements>,
    policy: Policy,
    url: &str,
    wallet: Counting,
) -> Refusal {
    let seller = Seller::taking(entries);
    let buyer = Buyer::with(&seller, policy, wallet);
    let error = buyer.ask_at(url, "{}").await.unwrap_err();
    assert_eq!(buyer.wallet.count(), 0, "nothing is signed");
    assert!(seller.payments().is_empty(), "nothing is sent");
    error.refusals().expect("a refusal").first().clone()
}

fn changed(change: impl FnOnce(&mut PaymentRequirements)) -> Vec<PaymentRequirements> {
    let mut entry = upto();
    change(&mut entry);
    vec![entry]
}

#[tokio::test]
async fn both_limits_are_on_by_default() {
    let dear = changed(|e| e.extra.min_amount_required = Some(cents(11)));
    let refused = refusal(dear, Policy::default(), URL).await;
    assert!(matches!(refused, Refusal::ChargeCap { .. }), "{refused}");
    assert_eq!(
        refused.to_string(),
        "the request can cost $0.11 (110000000000000000 atomic units of USD1), above the limit of $0.1 a request; \
         ask for less output, or raise max_charge"
    );
    let large = changed(|e| e.amount = cents(101));
    // As a once payment it would be within the limits.
    let policy = Policy::default().kinds([AuthorizationKind::Allowance]);
    let refused = refusal(large, policy, URL).await;
    assert!(
        matches!(refused, Refusal::AuthorizationCap { .. }),
        "{refused}"
    );
    // Without a minimum the request can cost all that is offered.
    let open = changed(|e| e.extra.min_amount_required = None);
    let refused = refusal(open, Policy::default(), URL).await;
    assert!(matches!(refused, Refusal::ChargeCap { .. }), "{refused}");
    // A minimum above the amount is no minimum.
    let odd = changed(|e| e.extra.min_amount_required = Some(cents(100)));
    let refused = refusal(odd, Policy::default(), URL).await;
    assert!(matches!(refused, Refusal::ChargeCap { .. }), "{refused}");
}

#[tokio::test]
async fn exactly_the_limit_is_paid() {
    let entries = changed(|e| {
        e.amount = cents(100);
        e.extra.min_amount_required = Some(cents(10));
    });
    let seller = Seller::taking(entries);
    let buyer = Buyer::at(&seller, Policy::default());
    assert_eq!(buyer.read("{}").await, "paid");
    let policy = Policy::default()
        .max_charge("0.05".parse().unwrap())
        .kinds([AuthorizationKind::Exact]);
    let seller = Seller::taking(vec![exact(None)]);
    assert_eq!(Buyer::at(&seller, policy).read("{}").await, "paid");
}

#[tokio::test]
async fn limits_go_by_the_tokens_decimals_and_not_by_18() {
    let token = address!("1111111111111111111111111111111111111111");
    let signatures = TokenSignatures {
        permit: true,
        eip3009: true,
    };
    let domain = TokenDomain::new("Six", "1", ChainId::BSC, token);
    let policy = Policy::default().with_asset(Asset::new("SIX", 6, domain, signatures));
    let mut entry = exact(None);
    entry.asset = token;
    entry.amount = 100_001_u64.into();
    let refused = refusal(vec![entry], policy, URL).await;
    let Refusal::ChargeCap { asked, limit } = refused else {
        panic!("{refused}")
    };
    assert_eq!(asked.to_string(), "$0.100001 (100001 atomic units of SIX)");
    assert_eq!(limit, Dollars::from_cents(10));
}

#[tokio::test]
async fn unknown_tokens_chains_and_amounts_are_refused() {
    let other = address!("2222222222222222222222222222222222222222");
    let refused = refusal(changed(|e| e.asset = other), Policy::default(), URL).await;
    assert_eq!(
        refused,
        Refusal::UnknownAsset {
            chain: ChainId::BSC,
            token: other
        }
    );
    for network in [
        "eip155:97",
        "eip155:1",
        "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp",
        "base",
    ] {
        let network: Network = network.parse().unwrap();
        let entries = changed(|e| e.network = network.clone());
        let refused = refusal(entries, Policy::default(), URL).await;
        assert_eq!(refused, Refusal::WrongNetwork { network });
    }
    let free = changed(|e| e.amount = cents(0));
    assert_eq!(
        refusal(free, Policy::default(), URL).await,
        Refusal::ZeroAmount
    );
    let long = changed(|e| e.max_timeout_seconds = 86_401);
    let policy = Policy::default().kinds([AuthorizationKind::Allowance]);
    let refused = refusal(long, policy, URL).await;
    assert_eq!(
        refused,
        Refusal::Validity {
            seconds: 86_401,
            limit: 86_400
        }
    );
    // USDT takes no permits, and without Permit2's fields there is no way.
    let plain = changed(|e| {
        e.asset = USDT;
        e.extra.facilitator_address = None;
    });
    assert_eq!(
        refusal(plain, Policy::default(), URL).await,
        Refusal::NoWay { offered: 1 }
    );
}

#[tokio::test]
async fn plain_http_is_for_loopback_and_for_hosts_that_are_named() {
    let url = "http://api.example.com/x402/v1";
    let refused = refusal(vec![upto()], Policy::default(), url).await;
    assert!(matches!(refused, Refusal::PlainHttp { .. }), "{refused}");
    for (url, policy) in [
        (url, Policy::default().plain_http("API.example.com")),
        ("http://127.0.0.1:8402/x402/v1", Policy::default()),
        ("http://localhost:8402/x402/v1", Policy::default()),
    ] {
        let seller = Seller::taking(vec![upto()]);
        Buyer::at(&seller, policy).ask_at(url, "{}").await.unwrap();
    }
}

#[tokio::test]
async fn only_listed_hosts_are_paid_where_there_is_a_list() {
    let policy = Policy::default().hosts(["other.example.com"]);
    let refused = refusal(vec![upto()], policy.clone(), URL).await;
    assert!(matches!(refused, Refusal::Host { .. }), "{refused}");
    let seller = Seller::taking(vec![upto()]);
    let buyer = Buyer::at(&seller, policy);
    let url = "https://OTHER.example.com./x402/v1";
    buyer.ask_at(url, "{}").await.unwrap();
    // What is free is not the policy's matter.
    let free = Seller::scripted([ok("free")]);
    let buyer = Buyer::at(&free, Policy::default().hosts(["other.example.com"]));
    assert_eq!(buyer.read("{}").await, "free");
}

#[tokio::test]
async fn a_known_host_that_names_another_payee_is_refused() {
    let thief = address!("3333333333333333333333333333333333333333");
    let mut calls = 0;
    let seller = Seller::new(move |seen| {
        if seen.payment.is_some() {
            return ok("paid");
        }
        calls += 1;
        let mut entry = once();
        if calls > 1 {
            entry.pay_to = thief;
        }
        demand(vec![entry], "Payment required")
    });
    let buyer = Buyer::at(&seller, Policy::default());
    buyer.read("1").await;
    let error = buyer.ask("2").await.unwrap_err();
    let refused = error.refusals().unwrap().first();
    assert!(
        matches!(refused, Refusal::PayeeChanged { payee, known, .. } if (*payee, *known) == (thief, PAYEE)),
        "{refused}"
    );
    assert_eq!(buyer.wallet.count(), 1);
    // A payee that is configured is held to from the first call on.
    let policy = Policy::default().payees("api.example.com", [thief]);
    let refused = refusal(vec![upto()], policy, URL).await;
    assert!(matches!(refused, Refusal::PayeeChanged { .. }), "{refused}");
}

#[tokio::test]
async fn a_change_of_payee_is_paid_where_that_is_allowed() {
    let other = address!("3333333333333333333333333333333333333333");
    let mut payees = vec![other, PAYEE];
    let seller = Seller::new(move |seen| {
        if seen.payment.is_some() {
            return ok("paid");
        }
        let mut entry = once();
        entry.pay_to = payees.pop().unwrap();
        demand(vec![entry], "Payment required")
    });
    let buyer = Buyer::at(&seller, Policy::default().payee_may_change(true));
    buyer.read("1").await;
    buyer.read("2").await;
}

#[tokio::test]
async fn development_keys_and_real_ones_are_kept_apart() {
    let dev = || changed(|e| e.network = ChainId::DEV.into());
    let refused = refusal(dev(), Policy::default(), URL).await;
    assert!(
        matches!(
            refused,
            Refusal::DevelopmentKey {
                chain: ChainId::DEV,
                ..
            }
        ),
        "{refused}"
    );
    let wallet = Counting::development();
    let refused = refused_with(vec![upto()], Policy::default(), URL, wallet).await;
    assert!(
        matches!(
            refused,
            Refusal::DevelopmentKey {
                chain: ChainId::BSC,
                ..
            }
        ),
        "{refused}"
    );
    let seller = Seller::taking(dev());
    let buyer = Buyer::with(&seller, Policy::default(), Counting::development());
    buyer
        .ask_at("http://127.0.0.1:8402/x402/v1", "{}")
        .await
        .unwrap();
    assert!(!is_development_account(Address::ZERO));
    let account = Payer::builder(Counting::development()).build().address();
    assert!(is_development_account(account));
}

#[tokio::test]
async fn a_good_way_is_taken_though_others_are_not() {
    let mut dear = upto();
    dear.amount = cents(1_000_000);
    dear.extra.facilitator_address = None;
    let mut strange = exact(None);
    strange.asset = Address::repeat_byte(9);
    let seller = Seller::taking(vec![strange, dear, exact(None)]);
    let buyer = Buyer::at(&seller, Policy::default());
    assert_eq!(buyer.read("{}").await, "paid");
    let signed = seller.payments()[0].authorization(&exact(None));
    assert_eq!(signed.cap(), cents(5));
}

#[tokio::test]
async fn all_reasons_are_told() {
    let mut strange = exact(None);
    strange.asset = Address::repeat_byte(9);
    let mut dear = exact(None);
    dear.amount = cents(11);
    let seller = Seller::taking(vec![strange, dear]);
    let error = Buyer::at(&seller, Policy::default())
        .ask("{}")
        .await
        .unwrap_err();
    let reasons: Vec<_> = error.refusals().unwrap().iter().cloned().collect();
    assert!(matches!(
        &reasons[..],
        [Refusal::UnknownAsset { .. }, Refusal::ChargeCap { .. }]
    ));
    assert!(matches!(error, PayError::Refused(_)));
}

#[tokio::test]
async fn a_payment_does_not_follow_to_another_origin() {
    for (location, follows) in [
        ("https://evil.example/x402/v1", false),
        ("http://api.example.com/x402/v1", false),
        ("https://api.example.com:444/x402/v1", false),
        ("//evil.example/x402/v1", false),
        ("/\\evil.example/x402/v1", false),
        ("https://api.example.com/other", true),
        ("/other", true),
    ] {
        let seller = Seller::new(move |seen| {
            if seen.payment.is_none() {
                return demand(vec![upto()], "Payment required");
            }
            let mut response = status(307).unwrap();
            response
                .headers_mut()
                .insert("location", location.parse().unwrap());
            Ok(response)
        });
        let answer = Buyer::at(&seller, Policy::default()).ask("{}").await;
        match answer {
            Ok(response) if follows => assert_eq!(response.status(), 307),
            Err(PayError::Redirected { .. }) if !follows => {}
            other => panic!("{location}: {other:?}"),
        }
        assert_eq!(seller.seen().len(), 2, "nothing is sent anywhere else");
    }
}
