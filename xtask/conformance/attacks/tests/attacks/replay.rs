//! A payment that was good once, presented again: later, elsewhere, for something else.

use tollgate_bsc::{Outcome, SettlerTerms, check_settler};
use tollgate_contracts::tokens::USD1;
use tollgate_devchain::DEV_ACCOUNTS;
use tollgate_eip712::{AllowanceTerms, TokenDomain, sign_allowance, sign_once};
use tollgate_ledger::{Status, Store};
use tollgate_x402::{Amount, Authorization, B256, ChainId, U256, X402Version};

use crate::kit::{
    Backend, CHAT, FIXED, FIXED_PATH, Header, OPERATOR, Payer, Setup, Step, Untouched, World,
    cents, chat, tokens,
};

/// One payment of each kind that admits one request, with its route and its header.
async fn claims(world: &World, payer: &Payer, body: &str) -> Vec<(&'static str, Header)> {
    let signed = [
        (CHAT, world.once(payer, cents(99), 1).await),
        (
            FIXED_PATH,
            world.eip3009(payer, Amount::from(FIXED), 2).await,
        ),
        (
            FIXED_PATH,
            world.permit2_exact(payer, Amount::from(FIXED), 3).await,
        ),
    ];
    let mut all = Vec::new();
    for (path, signed) in signed {
        all.push((
            path,
            world.payment(path, body, X402Version::V2, &signed).await,
        ));
    }
    all
}

/// Each is presented again: what comes is the first one's outcome or a refusal, and no work.
async fn again(world: &World, all: &[(&'static str, Header)], body: &str, what: &str) {
    let asked = world.upstream.asked();
    for (path, header) in all {
        let calls = world.rpc_calls();
        let answer = world.request(path, body, Some(header)).await;
        assert_eq!(world.rpc_calls(), calls, "{what}: no look at the chain");
        let status = answer.status.as_u16();
        assert!(
            matches!(status, 200 | 402 | 409 | 410),
            "{what}: {}",
            answer.text()
        );
        if status == 200 {
            let id = answer.payment().unwrap();
            assert!(
                world.status(id).await.charge.is_some(),
                "{what}: the first one's outcome"
            );
        }
    }
    assert_eq!(
        world.upstream.asked(),
        asked,
        "{what}: nothing is served again"
    );
}

/// PROTOCOL 2, 39; RELIABILITY 14, P1 II. Replayed at once, after its settlement, after a restart, after eight days and
/// pruning: three payments stay three. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_replayed_later_after_a_restart_or_after_pruning_is_not_served_again() {
    let mut world = World::new().await;
    world.upstream.play([Step::Say(20)]);
    let payer = Payer::rich(0);
    world.approve_permit2(&payer, U256::MAX).await;
    let body = chat(20);
    let all = claims(&world, &payer, &body).await;
    for (path, header) in &all {
        assert_eq!(world.request(path, &body, Some(header)).await.status, 200);
    }
    again(&world, &all, &body, "at once").await;
    world.settle().await;
    again(&world, &all, &body, "after the settlement").await;
    world = world.restart().await;
    again(&world, &all, &body, "after a restart").await;
    world.chain.pass(8 * 86_400).await;
    world.store.prune(10_000).await.unwrap();
    again(&world, &all, &body, "after pruning").await;
    world = world.restart().await;
    again(&world, &all, &body, "after pruning and a restart").await;
    world.settle().await;
    let paid = world.sum(Status::Final).await;
    let charge = tokens(20).checked_add(Amount::from(2 * FIXED)).unwrap();
    assert_eq!((paid.payments, paid.charge), (3, charge));
    world.books_equal_the_chain().await;
}

/// PROTOCOL 24; RELIABILITY 3, 4, P2. A payment for one request is good for no other: another prompt, a dearer model,
/// another route, with or without a price of its own. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_for_one_request_pays_for_no_other() {
    let mut world = World::new().await;
    world.upstream.play([Step::Say(20)]);
    let payer = Payer::rich(0);
    world.approve_permit2(&payer, U256::MAX).await;
    let body = chat(20);
    let all = claims(&world, &payer, &body).await;
    for (path, header) in &all {
        assert_eq!(world.request(path, &body, Some(header)).await.status, 200);
    }
    let dear = body.replace("{\"max_tokens\"", "{\"model\":\"dear\",\"max_tokens\"");
    let prompt = body.replace("Hello", "The thief's own question");
    assert!(dear != body && prompt != body);
    let asked = world.upstream.asked();
    for (path, header) in &all {
        for (path, body) in [
            (*path, prompt.as_str()),
            (*path, dear.as_str()),
            (CHAT, body.as_str()),
            ("/x402/v1/responses", body.as_str()),
            ("/fixed/dear", body.as_str()),
            ("/fixed/other", body.as_str()),
        ] {
            // The one that it was for answers as before.
            let own = all
                .iter()
                .any(|(p, h)| *p == path && h.value == header.value);
            if own && body == chat(20) {
                continue;
            }
            let answer = world.request(path, body, Some(header)).await;
            assert!(
                matches!(answer.status.as_u16(), 402 | 409),
                "{path}: {} {}",
                answer.status,
                answer.text()
            );
        }
    }
    assert_eq!(world.upstream.asked(), asked);
    world.settle().await;
    assert_eq!(world.sum(Status::Final).await.payments, 3);
    world.books_equal_the_chain().await;
}

/// What was signed for one seller is nothing to another with a ledger of its own on the same chain: refused from the
/// bytes. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_signed_for_one_gateway_is_refused_by_another() {
    let world = World::new().await;
    let other = Setup {
        settler: false,
        ledger_id: B256::repeat_byte(2),
        ..Setup::default()
    };
    let other = World::on(world.chain.share(), other).await;
    let payer = Payer::rich(0);
    world.approve_permit2(&payer, U256::MAX).await;
    let body = chat(20);
    let mut all = claims(&world, &payer, &body).await;
    let allowance = world.allowance(&payer, cents(99), 0).await;
    all.push((
        CHAT,
        world
            .payment(CHAT, &body, X402Version::V2, &allowance)
            .await,
    ));
    for (path, header) in &all {
        let untouched = Untouched::begin(&other);
        let answer = other.request(path, &body, Some(header)).await;
        assert_eq!(answer.status, 402);
        untouched.check(path);
    }
}

/// RELIABILITY 58, DESIGN §5. Two ledgers on one Settler would each serve a once payment before either is settled: the
/// contract knows its ledger, and a gateway with another one does not start. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_ledger_on_the_same_settler_does_not_start() {
    let world = World::new().await;
    let terms = |ledger_id| SettlerTerms {
        ledger_id,
        treasury: world.treasury,
        operators: vec![DEV_ACCOUNTS[OPERATOR].address],
    };
    let failed = async |ledger_id| {
        let checks = check_settler(&world.reader, world.pay_to, &terms(ledger_id)).await;
        checks.iter().any(|check| check.outcome == Outcome::Fail)
    };
    assert!(!failed(B256::ZERO).await);
    assert!(failed(B256::repeat_byte(2)).await);
}

/// RELIABILITY 5; PROTOCOL 26. The token stands at one address on BSC and on development chains, so only the domain
/// parts them: what a development gateway's payers signed (31337), and what is signed for the testnet (97), is refused
/// by a seller on chain 56, even if it were paid at the very same address. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_development_gateways_signatures_are_refused_on_chain_56() {
    let bsc = World::on(Backend::embedded(56).await, Setup::default()).await;
    let payer = Payer::rich(0);
    let body = chat(20);
    for chain in [31337, 97] {
        let name = "World Liberty Financial USD";
        let domain = TokenDomain::new(name, "1", ChainId(chain), USD1);
        let terms = AllowanceTerms {
            spender: bsc.pay_to,
            value: cents(99),
            nonce: U256::ZERO,
            deadline: bsc.now().plus(3_600),
        };
        let permit = sign_allowance(&payer.0, &domain, &terms).await.unwrap();
        let once = sign_once(&payer.0, &domain, &bsc.once_terms(cents(99), 1)).await;
        for signed in [
            Authorization::Allowance(permit),
            Authorization::Once(once.unwrap()),
        ] {
            for version in [X402Version::V1, X402Version::V2] {
                let header = bsc.payment(CHAT, &body, version, &signed).await;
                for network in [None, Some(format!("eip155:{chain}"))] {
                    let mut payment = header.json();
                    if let Some(network) = &network {
                        payment["network"] = serde_json::json!(network);
                        if payment.get("accepted").is_some() {
                            payment["accepted"]["network"] = serde_json::json!(network);
                        }
                    }
                    let untouched = Untouched::begin(&bsc);
                    let header = Header::of(version, &payment);
                    let answer = bsc.request(CHAT, &body, Some(&header)).await;
                    assert_eq!(answer.status, 402, "{chain}: {}", answer.text());
                    untouched.check("a signature for another chain");
                }
            }
        }
    }
}
