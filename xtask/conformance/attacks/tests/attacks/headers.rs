//! What stands twice, in two ways, or in a form of its own: headers, JSON keys, numbers.

use serde_json::{Value, json};
use tollgate_gateway::ServeConfig;
use tollgate_ledger::Status;
use tollgate_x402::{U256, X402Version};

use crate::kit::{CHAT, Header, Payer, Raw, Step, Untouched, World, cents, chat};

async fn world() -> (World, Payer) {
    let world = World::new().await;
    world.upstream.play([Step::Say(20)]);
    let payer = Payer::rich(0);
    world.approve_permit2(&payer, U256::MAX).await;
    (world, payer)
}

/// PROTOCOL 30; RELIABILITY 11, P1 III. Two payment headers, of one name or both, in any case, joined, folded: refused,
/// whichever of them a proxy before us believed. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_one_payment_header_is_refused_however_it_is_written() {
    let (world, payer) = world().await;
    let server = world.serve(ServeConfig::default()).await;
    let body = chat(20);
    let one = world.once(&payer, cents(99), 1).await;
    let two = world.once(&payer, cents(99), 2).await;
    let a = world
        .payment(CHAT, &body, X402Version::V2, &one)
        .await
        .value;
    let b = world
        .payment(CHAT, &body, X402Version::V2, &two)
        .await
        .value;
    let (head, tail) = a.split_at(40);
    let ask = || Raw::post(&body);
    let cases = [
        (
            "one twice",
            ask()
                .header(format!("X-PAYMENT: {a}"))
                .header(format!("X-PAYMENT: {a}")),
        ),
        (
            "two of one name",
            ask()
                .header(format!("PAYMENT-SIGNATURE: {a}"))
                .header(format!("PAYMENT-SIGNATURE: {b}")),
        ),
        (
            "both names, one payment",
            ask()
                .header(format!("X-PAYMENT: {a}"))
                .header(format!("PAYMENT-SIGNATURE: {a}")),
        ),
        (
            "both names, two payments",
            ask()
                .header(format!("PAYMENT-SIGNATURE: {b}"))
                .header(format!("X-PAYMENT: {a}")),
        ),
        (
            "mixed case",
            ask()
                .header(format!("x-PaYmEnT: {a}"))
                .header(format!("X-payment: {b}")),
        ),
        (
            "an empty one beside",
            ask().header("X-PAYMENT:").header(format!("X-PAYMENT: {a}")),
        ),
        (
            "joined by a comma",
            ask().header(format!("X-PAYMENT: {a}, {b}")),
        ),
        (
            "joined by a comma alone",
            ask().header(format!("X-PAYMENT: {a},{a}")),
        ),
        (
            "folded",
            ask().header(format!("X-PAYMENT: {head}\r\n {tail}")),
        ),
        (
            "folded by a tab",
            ask().header(format!("X-PAYMENT: {head}\r\n\t{tail}")),
        ),
        (
            "a space within",
            ask().header(format!("X-PAYMENT: {head} {tail}")),
        ),
        (
            "a space before the colon",
            ask().header(format!("X-PAYMENT : {a}")),
        ),
        (
            "a zero byte",
            ask().header(format!("X-PAYMENT: {head}\0{tail}")),
        ),
        (
            "two lengths",
            ask()
                .header("Content-Length: 5")
                .header(format!("X-PAYMENT: {a}")),
        ),
        (
            "a length and chunks",
            ask()
                .header("Transfer-Encoding: chunked")
                .header(format!("X-PAYMENT: {a}")),
        ),
        (
            "over the limit",
            ask().header(format!("X-PAYMENT: {}", "A".repeat(17_000))),
        ),
    ];
    for (what, request) in cases {
        let untouched = Untouched::begin(&world);
        let (status, answer) = server.exchange(&request).await;
        assert!(matches!(status, 400 | 402 | 431), "{what}: {answer}");
        assert!(!answer.contains(&a[..60]), "{what}: the payment is echoed");
        untouched.check(what);
    }
    server.stop().await;
}

/// One header is one payment, in whatever case its name is and with white space around the value. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_payment_header_is_served_in_any_case() {
    let (mut world, payer) = world().await;
    let server = world.serve(ServeConfig::default()).await;
    let body = chat(20);
    for (nonce, name) in (1..).zip([
        "X-PAYMENT",
        "x-payment",
        "PAYMENT-SIGNATURE",
        "Payment-Signature",
    ]) {
        let signed = world.once(&payer, cents(99), nonce).await;
        let payment = world.payment(CHAT, &body, X402Version::V2, &signed).await;
        let request = Raw::post(&body).header(format!("{name}: \t {}  ", payment.value));
        let (status, answer) = server.exchange(&request).await;
        assert_eq!(status, 200, "{name}: {answer}");
    }
    server.stop().await;
    world.settle().await;
    assert_eq!(world.sum(Status::Final).await.payments, 4);
    world.books_equal_the_chain().await;
}

/// PROTOCOL 32, 33; RELIABILITY 78. HEAD, other methods, other writings of the path, a payment in the query: nothing is
/// served, and nothing is charged. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_methods_paths_and_places_serve_nothing() {
    let (world, payer) = world().await;
    let server = world.serve(ServeConfig::default()).await;
    let body = chat(20);
    let signed = world.once(&payer, cents(99), 1).await;
    let a = world
        .payment(CHAT, &body, X402Version::V2, &signed)
        .await
        .value;
    let paid = || Raw::post(&body).header(format!("PAYMENT-SIGNATURE: {a}"));
    let lines = [
        "HEAD /x402/v1",
        "OPTIONS /x402/v1",
        "PUT /x402/v1",
        "DELETE /x402/v1",
        "TRACE /x402/v1",
        "POST /x402/v1/",
        "POST //x402/v1",
        "POST /x402/v1%2f",
        "POST /x402%2fv1",
        "POST /X402/V1",
        "POST /x402/./v1",
        "POST /x402/v1/../v1",
        "POST /x402/v1;x=1",
        "POST /x402/v1\\",
    ];
    for line in lines {
        let untouched = Untouched::begin(&world);
        let (status, answer) = server.exchange(&paid().line(line)).await;
        assert!(
            line.starts_with("OPTIONS") || matches!(status, 400..=499),
            "{line}: {answer}"
        );
        untouched.check(line);
    }
    let untouched = Untouched::begin(&world);
    let line = format!("POST /x402/v1?X-PAYMENT={a}&PAYMENT-SIGNATURE={a}");
    let (status, answer) = server.exchange(&Raw::post(&body).line(&line)).await;
    assert_eq!(status, 402);
    assert!(
        !answer.contains(&a[..60]),
        "a payment in the query is not echoed"
    );
    untouched.check("a payment in the query");
    server.stop().await;
}

/// Writes a JSON text in which the key at this place stands twice, the other value first or last.
fn twice(value: &Value, at: &str, place: &str, other: &Value, first: bool) -> String {
    let Value::Object(map) = value else {
        return value.to_string();
    };
    let mut entries = Vec::new();
    for (key, inner) in map {
        let here = format!("{at}/{key}");
        let text = twice(inner, &here, place, other, first);
        let entry = format!("{}:{text}", json!(key));
        if here == place {
            let double = format!("{}:{other}", json!(key));
            if first {
                entries.extend([double, entry]);
            } else {
                entries.extend([entry, double]);
            }
        } else {
            entries.push(entry);
        }
    }
    format!("{{{}}}", entries.join(","))
}

fn keys(value: &Value, at: &str, found: &mut Vec<(String, Value)>) {
    if let Value::Object(map) = value {
        for (key, inner) in map {
            let here = format!("{at}/{key}");
            found.push((here.clone(), inner.clone()));
            keys(inner, &here, found);
        }
    }
}

/// RELIABILITY 10. Every key of a payment stands twice, with the same value or another: refused, whichever a proxy or a
/// facilitator would read. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_stands_twice_is_refused_wherever_it_stands() {
    let (world, payer) = world().await;
    let body = chat(20);
    for (nonce, kind) in ["once", "allowance"].into_iter().enumerate() {
        let signed = match kind {
            "once" => {
                world
                    .once(&payer, cents(99), u64::try_from(nonce).unwrap())
                    .await
            }
            _ => world.allowance(&payer, cents(99), 0).await,
        };
        let honest = world
            .payment(CHAT, &body, X402Version::V2, &signed)
            .await
            .json();
        let mut all = Vec::new();
        keys(&honest, "", &mut all);
        assert!(all.len() > 15);
        for (place, value) in all {
            for (other, first) in [(&value, true), (&json!("1"), true), (&json!({}), false)] {
                let text = twice(&honest, "", &place, other, first);
                let header = Header::of_text("payment-signature", &text);
                let untouched = Untouched::begin(&world);
                let answer = world.request(CHAT, &body, Some(&header)).await;
                assert!(
                    matches!(answer.status.as_u16(), 400 | 402),
                    "{place}: {}",
                    answer.text()
                );
                untouched.check(&place);
            }
        }
    }
}

/// PROTOCOL 29; RELIABILITY 9. A number has one form: decimal digits without sign, point, exponent, leading zeros, white
/// space or other scripts, below 2^256. Any other is refused, though what was signed is the same. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_in_another_form_is_refused_wherever_it_stands() {
    let (world, payer) = world().await;
    let body = chat(20);
    for (nonce, kind) in [(1_u64, "once"), (2, "allowance"), (3, "eip3009")] {
        let (path, signed) = match kind {
            "once" => (CHAT, world.once(&payer, cents(99), nonce).await),
            "allowance" => (CHAT, world.allowance(&payer, cents(99), 0).await),
            _ => ("/fixed", world.eip3009(&payer, cents(10), nonce).await),
        };
        let honest = world
            .payment(path, &body, X402Version::V2, &signed)
            .await
            .json();
        let mut all = Vec::new();
        keys(&honest["payload"], "/payload", &mut all);
        all.retain(|(_, value)| {
            value
                .as_str()
                .is_some_and(|text| text.parse::<u128>().is_ok())
        });
        assert!(all.len() >= 3, "{all:?}");
        for (place, value) in all {
            let digits = value.as_str().unwrap();
            let above =
                "115792089237316195423570985008687907853269984665640564039457584007913129639936";
            let forms = [
                format!("+{digits}"),
                format!("-{digits}"),
                format!("0{digits}"),
                format!(" {digits}"),
                format!("{digits} "),
                format!("{digits}.0"),
                format!("{digits}e0"),
                format!("{digits}_"),
                format!("0X{:X}", digits.parse::<u128>().unwrap()),
                "\u{ff15}".to_owned(),
                String::new(),
                above.to_owned(),
                "9".repeat(79),
                "NaN".to_owned(),
            ];
            for form in forms {
                let mut payment = honest.clone();
                *payment.pointer_mut(&place).unwrap() = json!(form);
                let untouched = Untouched::begin(&world);
                let header = Header::of(X402Version::V2, &payment);
                let answer = world.request(path, &body, Some(&header)).await;
                let what = format!("{kind} {place} {form:?}");
                assert!(
                    matches!(answer.status.as_u16(), 400 | 402),
                    "{what}: {}",
                    answer.text()
                );
                untouched.check(&what);
            }
        }
    }
}

/// RELIABILITY 70; PROTOCOL 30. What is no base64, no JSON, too deep or too long is refused within constant work, and
/// its content is not told. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bombs_and_noise_are_refused_and_not_repeated() {
    let (world, _) = world().await;
    let body = chat(20);
    let deep = format!("{}{}", "[".repeat(3_000), "]".repeat(3_000));
    let nested = format!(
        "{{\"payload\":{}1{}}}",
        "{\"a\":".repeat(900),
        "}".repeat(900)
    );
    let long = format!(
        "{{\"x402Version\":2,\"canary\":\"{}\"}}",
        "c".repeat(12_000)
    );
    let many = format!(
        "{{{}}}",
        (0..900)
            .map(|n| format!("\"k{n}\":1"))
            .collect::<Vec<_>>()
            .join(",")
    );
    let noise = [
        "!!!!",
        "canary",
        "Y2FuYXJ5",
        "e30",
        "e30=",
        "W10=",
        "bnVsbA==",
        "====",
        "\u{e9}\u{e9}",
    ];
    let texts = [
        deep,
        nested,
        long,
        many,
        "{\"x402Version\":2".to_owned(),
        "\u{0}".to_owned(),
    ];
    let mut all: Vec<Header> = texts
        .iter()
        .map(|text| Header::of_text("x-payment", text))
        .collect();
    all.extend(noise.map(|value| Header {
        name: "x-payment",
        value: value.to_owned(),
    }));
    for header in all {
        let untouched = Untouched::begin(&world);
        let answer = world.request(CHAT, &body, Some(&header)).await;
        assert!(
            matches!(answer.status.as_u16(), 400 | 402 | 431),
            "{}",
            answer.text()
        );
        assert!(!answer.text().contains("canary") && !answer.text().contains("cccc"));
        untouched.check(&header.value[..header.value.len().min(20)]);
    }
}
