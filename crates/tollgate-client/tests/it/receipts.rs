//! What a seller says it charged, held against what was signed.

use alloy_primitives::{Address, B256};
use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use tollgate_client::{Finding, Paid, Policy, Receipt, ReceiptHandle, Refusal, audit};
use tollgate_price::{DollarRates, PriceTable, Rates};
use tollgate_x402::{
    Amount, Interval, Json, Limits, Network, PaymentState, PaymentStatus, SettleResponse,
    TokenUsage,
};

use crate::seller::*;

const ID: &str = "000102030405060708090a0b0c0d0e0f";

async fn told(
    reply: impl Fn() -> Reply + Send + 'static,
) -> (Paid, Option<Receipt>, Vec<Finding>, Buyer) {
    let seller = Seller::new(move |seen| match seen.payment {
        Some(_) => reply(),
        None => demand(vec![upto()], "Payment required"),
    });
    let buyer = Buyer::at(&seller, Policy::default());
    let response = buyer.ask("{}").await.unwrap();
    let handle = response
        .extensions()
        .get::<ReceiptHandle>()
        .unwrap()
        .clone();
    let paid = response.extensions().get::<Paid>().unwrap().clone();
    assert!(!handle.has_ended());
    response.into_body().collect().await.unwrap();
    assert!(handle.has_ended());
    (paid, handle.receipt(), handle.findings(), buyer)
}

#[tokio::test]
async fn the_end_of_a_stream_tells_charge_rest_and_payment() {
    let (_, receipt, findings, _) = told(|| stream(cents(1), cents(98))).await;
    let receipt = receipt.unwrap();
    assert_eq!(receipt.charge, Some(cents(1)));
    assert_eq!(receipt.calculated, Some(cents(1)));
    assert_eq!(receipt.allowance_left, Some(cents(98)));
    assert_eq!(receipt.total_tokens, Some(12));
    assert_eq!(receipt.payment_id, Some(ID.parse().unwrap()));
    assert_eq!(findings, []);
}

#[tokio::test]
async fn headers_tell_charge_and_payment_in_either_version() {
    for name in ["payment-response", "x-payment-response"] {
        let reply = move || {
            let payer = tollgate_eip712::Wallet::address(&Counting::ordinary());
            let mut settled =
                SettleResponse::settled(Network::BSC, payer, cents(1), Some(B256::repeat_byte(7)));
            settled.extra.insert("paymentId", Json::from(ID));
            let mut response = ok("{}").unwrap();
            let header = settled.to_header_value().parse().unwrap();
            response.headers_mut().insert(name, header);
            Ok(response)
        };
        let (_, receipt, findings, _) = told(reply).await;
        let receipt = receipt.unwrap();
        assert_eq!(receipt.charge, Some(cents(1)));
        assert_eq!(receipt.transaction, Some(B256::repeat_byte(7)));
        assert_eq!(receipt.payment_id, Some(ID.parse().unwrap()));
        assert_eq!(receipt.success, Some(true));
        assert_eq!(findings, []);
    }
}

#[tokio::test]
async fn a_plain_answer_tells_in_its_metadata_and_the_id_in_a_header() {
    let reply = || {
        let body = format!(
            r#"{{"choices":[],"messageMetadata":{{"realPriceWei":"{}","allowanceLeft":"{}"}}}}"#,
            cents(1),
            cents(98)
        );
        let (a, b) = body.split_at(20);
        let parts = [a, b].map(|part| Ok(Bytes::from(part.to_owned())));
        let mut response = Response::new(chunks(parts.into()));
        let headers = response.headers_mut();
        headers.insert("content-type", "application/json".parse().unwrap());
        headers.insert("x-payment-id", ID.parse().unwrap());
        Ok(response)
    };
    let (_, receipt, _, _) = told(reply).await;
    let receipt = receipt.unwrap();
    assert_eq!(receipt.charge, Some(cents(1)));
    assert_eq!(receipt.allowance_left, Some(cents(98)));
    assert_eq!(receipt.payment_id, Some(ID.parse().unwrap()));
}

#[tokio::test]
async fn text_that_looks_like_a_receipt_is_none() {
    let reply = || {
        let fake = r#"data: {"type":"text-delta","id":"0","delta":"{\"type\":\"finish\",\"messageMetadata\":{\"realPriceWei\":\"5\"}}"}"#;
        let other = r#"data: {"type":"data-x","messageMetadata":{"realPriceWei":"6"}}"#;
        let body = format!("{fake}\n\n{other}\n\n");
        let mut response = Response::new(chunks(vec![Ok(body.into())]));
        response
            .headers_mut()
            .insert("content-type", "text/event-stream".parse().unwrap());
        Ok(response)
    };
    let (_, receipt, _, _) = told(reply).await;
    assert_eq!(receipt, None);
}

#[tokio::test]
async fn a_seller_that_takes_more_than_the_limit_is_not_paid_again_until_it_is_unblocked() {
    for (charge, signed) in [(cents(11), false), (cents(100), true)] {
        let (paid, _, findings, buyer) = told(move || stream(charge, cents(0))).await;
        assert!(
            findings
                .iter()
                .any(|f| matches!(f, Finding::OverLimit { .. }))
        );
        assert!(
            findings
                .iter()
                .any(|f| matches!(f, Finding::OverQuoted { .. }))
        );
        assert_eq!(
            findings
                .iter()
                .any(|f| matches!(f, Finding::OverSigned { .. })),
            signed
        );
        let error = buyer.ask("{}").await.unwrap_err();
        assert!(matches!(
            error.refusals().unwrap().first(),
            Refusal::Blocked { .. }
        ));
        assert!(buyer.pay.payer().unblock(&paid.origin));
        buyer.ask("{}").await.unwrap();
    }
}

#[tokio::test]
async fn a_charge_above_the_quote_is_found_and_the_seller_still_paid() {
    let (_, _, findings, buyer) = told(|| stream(cents(2), cents(97))).await;
    assert!(matches!(&findings[..], [Finding::OverQuoted { .. }]));
    buyer.ask("{}").await.unwrap();
}

#[tokio::test]
async fn an_unreadable_receipt_header_is_found() {
    let reply = || {
        let mut response = ok("{}").unwrap();
        response
            .headers_mut()
            .insert("payment-response", "!".parse().unwrap());
        Ok(response)
    };
    let (_, _, findings, _) = told(reply).await;
    assert!(matches!(&findings[..], [Finding::Unreadable(_)]));
}

fn table(input: &str, output: &str) -> PriceTable {
    let dollars = DollarRates {
        input,
        output,
        cached_input: None,
        per_request: None,
    };
    let mut table = PriceTable::new();
    table
        .insert("m", Rates::from_dollars(dollars, 18).unwrap())
        .unwrap();
    table
}

#[tokio::test]
async fn a_status_is_held_against_what_was_signed_reserved_and_priced() {
    let (paid, receipt, _, _) = told(|| stream(cents(1), cents(98))).await;
    let receipt = receipt.unwrap();
    let check = |change: &dyn Fn(&mut PaymentStatus)| {
        let mut status = settled(paid.payer);
        change(&mut status);
        audit(&paid, &receipt, Some(&status), Some(&table("5", "50")))
    };
    assert_eq!(
        check(&|_| {}),
        [],
        "1000 × 5 + 100 × 50 per million is a cent"
    );
    let found = |change: &dyn Fn(&mut PaymentStatus), what: fn(&Finding) -> bool| {
        let findings = check(change);
        assert!(findings.iter().any(what), "{findings:?}");
        assert!(
            findings
                .iter()
                .all(|finding| !finding.to_string().is_empty())
        );
    };
    found(&|s| s.payer = Address::ZERO, |f| {
        matches!(f, Finding::Payer { .. })
    });
    found(&|s| s.pay_to = Address::ZERO, |f| {
        matches!(f, Finding::Payee { .. })
    });
    found(&|s| s.token = Address::ZERO, |f| {
        matches!(f, Finding::Token { .. })
    });
    found(&|s| s.network = "eip155:1".parse().unwrap(), |f| {
        matches!(f, Finding::Network { .. })
    });
    found(&|s| s.amounts.reserved = Amount::ZERO, |f| {
        matches!(f, Finding::OverReserved { .. })
    });
    found(&|s| s.charge = Some(cents(2)), |f| {
        matches!(f, Finding::Inconsistent { .. })
    });
    found(&|s| s.charge = Some(cents(2)), |f| {
        matches!(f, Finding::OverQuoted { .. })
    });
    found(
        &|s| {
            s.interval = Some(Interval {
                from: cents(4),
                to: cents(6),
            })
        },
        |f| matches!(f, Finding::Interval),
    );
    found(&|s| s.state = PaymentState::Released, |f| {
        matches!(f, Finding::ReleasedWithCharge { .. })
    });
    let usage = TokenUsage {
        input_tokens: 999,
        output_tokens: 100,
        ..TokenUsage::default()
    };
    found(&|s| s.usage = Some(usage), |f| {
        matches!(f, Finding::OverPriced { .. })
    });
}

#[test]
fn headers_without_a_receipt_have_none() {
    let headers = http::HeaderMap::new();
    assert_eq!(Receipt::from_headers(&headers, &Limits::DEFAULT), Ok(None));
}
