//! What is answered without being served: nothing is called, held or charged.

use std::time::Duration;

use crate::shop::{
    Fed, Shop, Upstream, ask, header, paid, paid_by, refusal, request, shop, shop_within, text,
    unpaid,
};
use crate::till::MemoryTill;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt, Full, StreamBody};
use tollgate_payment::port::AdmitError;
use tollgate_x402::{ErrorCode, X402Version};
use tower::ServiceExt;

async fn refused(shop: &Shop, request: Request<Full<Bytes>>) -> (u16, ErrorCode) {
    let (status, code) = refusal(ask(shop, request).await).await;
    (status.as_u16(), code)
}

/// A shop of which nothing may be sold.
fn closed() -> (MemoryTill, Shop) {
    let till = MemoryTill::new();
    (till.clone(), shop(&till, Upstream::new()))
}

#[tokio::test]
async fn an_unpaid_request_gets_one_402_that_both_versions_read() {
    let (till, shop) = closed();
    let answer = ask(&shop, unpaid()).await;
    assert_eq!(header(&answer, "vary"), "PAYMENT-SIGNATURE, X-PAYMENT");
    assert_eq!(
        refusal(answer).await,
        (StatusCode::PAYMENT_REQUIRED, ErrorCode::PaymentRequired)
    );
    assert_eq!(till.books().payments, []);
}

#[tokio::test]
async fn get_and_head_of_a_paid_route_get_the_same_402() {
    let (till, shop) = closed();
    let get = ask(&shop, request(Method::GET, "/paid", "")).await;
    let head = ask(&shop, request(Method::HEAD, "/paid", "")).await;
    assert_eq!(head.status(), 402);
    assert_eq!(
        head.headers()["payment-required"],
        get.headers()["payment-required"]
    );
    assert_eq!(
        head.headers()["content-length"],
        get.body().size_hint().exact().unwrap().to_string()
    );
    assert_eq!(text(head).await, "");

    // HEAD is never sold anything.
    let mut head = paid(&till);
    *head.method_mut() = Method::HEAD;
    assert_eq!(ask(&shop, head).await.status(), 402);
    assert_eq!(till.books().payments, []);
}

#[tokio::test]
async fn a_free_request_passes_untouched() {
    let till = MemoryTill::new();
    let upstream = Upstream::new().answers(402, "text/plain", Fed::whole(&till, ["as ", "it is"]));
    let shop = shop(&till, upstream.clone());
    let answer = ask(&shop, request(Method::POST, "/free", "for nothing")).await;
    assert_eq!(
        (answer.status().as_u16(), header(&answer, "cache-control")),
        (402, "")
    );
    assert_eq!(text(answer).await, "as it is");
    assert_eq!(upstream.asked.lock().unwrap()[0].body(), "for nothing");
    assert_eq!(till.books().payments, []);
}

#[tokio::test]
async fn what_the_tariff_refuses_is_refused_paid_or_not() {
    let (till, shop) = closed();
    assert_eq!(
        refused(&shop, request(Method::POST, "/paid", "bad model")).await,
        (400, ErrorCode::UnknownModel)
    );
    let mut request = paid(&till);
    *request.body_mut() = Full::new(Bytes::from_static(b"bad model"));
    assert_eq!(
        refused(&shop, request).await,
        (400, ErrorCode::UnknownModel)
    );
}

#[tokio::test]
async fn more_than_one_payment_is_refused() {
    let (till, shop) = closed();
    let mut both = paid(&till);
    both.headers_mut().insert(
        "x-payment",
        till.pay(X402Version::V1, 2, 1000).parse().unwrap(),
    );
    assert_eq!(
        refused(&shop, both).await,
        (400, ErrorCode::MultiplePayments)
    );
    let mut twice = paid(&till);
    twice.headers_mut().append(
        "payment-signature",
        till.pay(X402Version::V2, 1, 1000).parse().unwrap(),
    );
    assert_eq!(
        refused(&shop, twice).await,
        (400, ErrorCode::MultiplePayments)
    );
}

#[tokio::test]
async fn a_payment_header_over_16_kib_is_refused() {
    let (_, shop) = closed();
    let mut long = unpaid();
    long.headers_mut().insert(
        "x-payment",
        HeaderValue::from_str(&"A".repeat(16 * 1024 + 1)).unwrap(),
    );
    assert_eq!(
        refused(&shop, long).await,
        (431, ErrorCode::PaymentHeaderTooLarge)
    );
    let mut longest = unpaid();
    longest.headers_mut().insert(
        "x-payment",
        HeaderValue::from_str(&"A".repeat(16 * 1024)).unwrap(),
    );
    assert_eq!(
        refused(&shop, longest).await,
        (402, ErrorCode::InvalidPayload)
    );
}

#[tokio::test]
async fn a_payment_that_cannot_be_read_gets_a_fresh_offer() {
    let (_, shop) = closed();
    for (value, code) in [
        (&b"not base64!"[..], ErrorCode::InvalidPayload),
        (b"\xff\xfe", ErrorCode::InvalidPayload),
        (b"", ErrorCode::InvalidPayload),
        (b"bm90IGpzb24=", ErrorCode::InvalidPayload),
        (b"eyJ4NDAyVmVyc2lvbiI6M30=", ErrorCode::InvalidX402Version),
    ] {
        let mut request = unpaid();
        request
            .headers_mut()
            .insert("x-payment", HeaderValue::from_bytes(value).unwrap());
        assert_eq!(refused(&shop, request).await, (402, code), "{value:?}");
    }
}

#[tokio::test]
async fn a_payment_that_is_not_good_gets_a_fresh_offer_with_the_reason() {
    let (till, shop) = closed();
    let mut poor = unpaid();
    poor.headers_mut().insert(
        "payment-signature",
        till.pay(X402Version::V2, 1, 9).parse().unwrap(),
    );
    assert_eq!(refused(&shop, poor).await, (402, ErrorCode::Permit2Amount));
    assert_eq!(till.books().payments, []);
}

#[tokio::test]
async fn the_tills_refusals_have_their_statuses_and_say_when_to_come_back() {
    let (till, shop) = closed();
    for (code, status, said, waits) in [
        (ErrorCode::InsufficientFunds, 402, None, ""),
        (ErrorCode::DuplicateSettlement, 409, None, ""),
        (ErrorCode::PaymentInFlight, 425, None, "2"),
        (ErrorCode::CreditExhausted, 429, Some(17), "17"),
        (ErrorCode::LedgerUnavailable, 503, None, "2"),
        (ErrorCode::ChainUnavailable, 503, Some(3), "3"),
    ] {
        let message = "a \"reason\" in ünicode".into();
        till.books().refuse = Some(AdmitError {
            code,
            message,
            retry_after: said,
            payer: None,
        });
        let answer = ask(&shop, paid(&till)).await;
        assert_eq!(header(&answer, "retry-after"), waits, "{code}");
        assert_eq!(
            refusal(answer).await,
            (StatusCode::from_u16(status).unwrap(), code)
        );
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_whether_it_says_so_or_not() {
    let till = MemoryTill::new();
    let shop = shop_within(&till, Upstream::new(), |bounds| bounds.request_bytes = 8);
    let mut request = paid(&till);
    *request.body_mut() = Full::new(Bytes::from_static(b"123456789"));
    assert_eq!(
        refused(&shop, request).await,
        (413, ErrorCode::RequestTooLarge)
    );

    let chunks = |chunks: &'static [&'static str]| {
        let frames = chunks.iter().map(|chunk| {
            Ok::<_, String>(http_body::Frame::data(Bytes::from_static(chunk.as_bytes())))
        });
        StreamBody::new(futures_util::stream::iter(frames))
    };
    let unsaid = unpaid().map(|_| chunks(&["1234", "", "56789"]));
    let (status, code) = refusal(shop.clone().oneshot(unsaid).await.unwrap()).await;
    assert_eq!((status.as_u16(), code), (413, ErrorCode::RequestTooLarge));
    let fits = unpaid().map(|_| chunks(&["1234", "", "5678"]));
    assert_eq!(shop.oneshot(fits).await.unwrap().status(), 402);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_refused() {
    let (till, shop) = closed();
    let frames = [
        Ok(http_body::Frame::data(Bytes::from_static(b"hal"))),
        Err("reset"),
    ];
    let broken = paid(&till).map(|_| StreamBody::new(futures_util::stream::iter(frames)));
    assert_eq!(
        refusal(shop.oneshot(broken).await.unwrap()).await.1,
        ErrorCode::InvalidRequest
    );
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_arrive_is_refused() {
    let (till, shop) = closed();
    let frames = futures_util::stream::pending::<Result<http_body::Frame<Bytes>, String>>();
    let never = paid(&till).map(|_| StreamBody::new(frames).boxed());
    let begun = tokio::time::Instant::now();
    assert_eq!(
        refusal(shop.oneshot(never).await.unwrap()).await.1,
        ErrorCode::InvalidRequest
    );
    assert_eq!(begun.elapsed().as_secs(), Duration::from_secs(30).as_secs());
}

#[tokio::test]
async fn one_payment_serves_one_request() {
    let till = MemoryTill::new();
    let upstream = Upstream::new().answers(200, "text/plain", Fed::whole(&till, ["once"]));
    let shop = shop(&till, upstream);
    assert_eq!(ask(&shop, paid(&till)).await.status(), 200);
    assert_eq!(
        refused(&shop, paid(&till)).await,
        (409, ErrorCode::DuplicateSettlement)
    );
    assert_eq!(
        refused(&shop, paid_by(&till, X402Version::V1, 1)).await,
        (409, ErrorCode::DuplicateSettlement)
    );
    assert_eq!(till.charged(), 4);
}
