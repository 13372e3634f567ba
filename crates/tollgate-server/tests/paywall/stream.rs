//! Streams: metered while they flow, charged when they end, however they end.

use std::{future::Future, pin::Pin, task::Poll, time::Duration};

use crate::{
    shop::{
        Answer, CAP, Fed, Feed, Shop, Upstream, ask, header, paid, paid_by, read, settle, shop,
        shop_within, text,
    },
    till::{End, Event, MemoryTill, units},
};
use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::Body as _;
use http_body_util::BodyExt;
use tollgate_server::{Bounds, Delivery};
use tollgate_x402::{Amount, X402Version};

/// A shop that sells one stream.
fn selling(till: &MemoryTill, set: impl FnOnce(&mut Bounds)) -> (Feed, Shop) {
    let (feed, body) = Fed::new(till);
    (feed, shop_within(till, Upstream::new().streams(body), set))
}

async fn frame(answer: &mut Answer) -> Option<Bytes> {
    let frame = answer.body_mut().frame().await?;
    Some(frame.expect("the stream broke off").into_data().unwrap())
}

#[tokio::test]
async fn frames_go_out_as_they_come_and_the_closing_bytes_after_the_charge() {
    let till = MemoryTill::new();
    let (feed, body) = Fed::new(&till);
    let mut response = Response::new(body);
    response.headers_mut().insert(
        "content-type",
        "Text/Event-Stream; charset=utf-8".parse().unwrap(),
    );
    response
        .headers_mut()
        .insert("content-length", "11".parse().unwrap());
    response
        .headers_mut()
        .insert("cache-control", "no-cache".parse().unwrap());
    let shop = shop(&till, Upstream::new().responds(Ok(response)));
    let mut answer = ask(&shop, paid(&till)).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(
        header(&answer, "cache-control"),
        "private, no-store, no-cache"
    );
    assert_eq!(header(&answer, "content-length"), "");
    assert_eq!(
        header(&answer, "x-payment-id"),
        till.payment().id.to_string()
    );
    for text in ["hello ", "world"] {
        feed.frame(text);
        assert_eq!(frame(&mut answer).await.unwrap(), text);
        assert_eq!(till.end(), None);
    }
    drop(feed);
    assert_eq!(frame(&mut answer).await.unwrap(), "<Complete 11>");
    assert_eq!(till.charged(), 11);
    assert_eq!(till.payment().memo, "11 bytes");
    assert_eq!(frame(&mut answer).await, None);
    assert_eq!(
        till.log(),
        [
            Event::Durable,
            Event::Note("upstream dropped"),
            Event::Charged(11)
        ]
    );
}

#[tokio::test]
async fn no_byte_of_a_stream_goes_out_before_the_hold_is_durable() {
    let till = MemoryTill::new();
    let gate = till.gate();
    let (feed, shop) = selling(&till, |_| {});
    feed.frame("first");
    drop(feed);
    let request = paid(&till);
    let answer = tokio::spawn(async move { ask(&shop, request).await });
    settle().await;
    assert!(!answer.is_finished());
    gate.send_replace(true);
    assert_eq!(text(answer.await.unwrap()).await, "first<Complete 5>");
}

#[tokio::test]
async fn a_service_may_stream_what_is_not_an_event_stream() {
    let till = MemoryTill::new();
    let (feed, body) = Fed::new(&till);
    let mut response = Response::new(body);
    response.extensions_mut().insert(Delivery::Streamed);
    let mut answer = ask(
        &shop(&till, Upstream::new().responds(Ok(response))),
        paid(&till),
    )
    .await;
    feed.frame("line");
    assert_eq!(frame(&mut answer).await.unwrap(), "line");
    assert_eq!(till.end(), None);
}

#[tokio::test]
async fn a_caller_that_hangs_up_at_any_frame_pays_what_was_delivered_and_cancels_the_service() {
    for read in 0..12_u64 {
        let till = MemoryTill::new();
        let (feed, shop) = selling(&till, |_| {});
        let mut answer = ask(&shop, paid(&till)).await;
        for _ in 0..read {
            feed.bytes(100);
            assert_eq!(frame(&mut answer).await.unwrap().len(), 100);
        }
        drop(answer);
        feed.cancelled().await;
        // Too late for the caller, so not for its money.
        feed.bytes(100);
        settle().await;
        match read {
            0 => assert_eq!(till.end(), Some(End::Released)),
            _ => assert_eq!(till.charged(), read * 100),
        }
        let log = till.log();
        assert_eq!(
            log[log.len() - 2],
            Event::Note("upstream dropped"),
            "cancelled before the charge"
        );
    }
}

#[tokio::test]
async fn no_more_is_taken_from_the_service_than_the_caller_takes() {
    let till = MemoryTill::new();
    let (feed, shop) = selling(&till, |bounds| bounds.frames = 2);
    for _ in 0..50 {
        feed.bytes(10);
    }
    let mut answer = ask(&shop, paid(&till)).await;
    settle().await;
    assert_eq!(frame(&mut answer).await.unwrap().len(), 10);
    settle().await;
    drop(answer);
    settle().await;
    assert_eq!(till.charged(), 30, "one frame read and two on their way");
}

#[tokio::test]
async fn a_service_that_fails_mid_stream_is_charged_so_far_and_the_caller_is_told() {
    let till = MemoryTill::new();
    let (feed, shop) = selling(&till, |_| {});
    feed.frame("half");
    feed.fail();
    assert_eq!(
        text(ask(&shop, paid(&till)).await).await,
        "half<UpstreamError 4>"
    );
    assert_eq!(till.charged(), 4);

    let till = MemoryTill::new();
    let (feed, shop) = selling(&till, |_| {});
    feed.fail();
    assert_eq!(
        text(ask(&shop, paid(&till)).await).await,
        "<UpstreamError 0>"
    );
    assert_eq!(till.end(), Some(End::Released));
}

#[tokio::test]
async fn a_panic_mid_stream_charges_what_was_delivered_and_breaks_the_stream_off() {
    for panics in ["panic in the meter", "upstream panics"] {
        let till = MemoryTill::new();
        let (feed, shop) = selling(&till, |_| {});
        feed.frame("half");
        feed.frame(panics);
        assert_eq!(
            read(ask(&shop, paid(&till)).await).await,
            ("half".to_owned(), false)
        );
        settle().await;
        assert_eq!(till.charged(), 4);
    }
}

#[tokio::test]
async fn a_panic_does_not_tear_a_checkpoint() {
    let till = MemoryTill::new();
    till.books().yields = 5;
    let (feed, shop) = selling(&till, |bounds| bounds.checkpoint_step = Amount::from(5_u64));
    feed.frame("half");
    feed.frame("upstream panics");
    assert_eq!(
        read(ask(&shop, paid(&till)).await).await,
        ("half".to_owned(), false)
    );
    settle().await;
    assert_eq!(
        till.log(),
        [
            Event::Durable,
            Event::Saved(4),
            Event::Note("upstream dropped"),
            Event::Charged(4)
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stalls_is_dropped_and_charged() {
    let till = MemoryTill::new();
    let (feed, shop) = selling(&till, |bounds| {
        bounds.frames = 3;
        bounds.write_timeout = Duration::from_secs(5);
    });
    for _ in 0..10 {
        feed.bytes(10);
    }
    let answer = ask(&shop, paid(&till)).await;
    let begun = tokio::time::Instant::now();
    feed.cancelled().await;
    assert_eq!(begun.elapsed().as_secs(), 5);
    settle().await;
    assert_eq!(till.charged(), 30);
    // One that comes back does not take it for whole.
    let (text, whole) = read(answer).await;
    assert_eq!((text.len(), whole), (30, false));
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_that_takes_something_is_served() {
    let till = MemoryTill::new();
    let (feed, shop) = selling(&till, |bounds| bounds.frames = 1);
    for _ in 0..10 {
        feed.bytes(10);
    }
    drop(feed);
    let mut answer = ask(&shop, paid(&till)).await;
    for _ in 0..10 {
        tokio::time::advance(Duration::from_secs(29)).await;
        assert_eq!(frame(&mut answer).await.unwrap().len(), 10);
    }
    assert_eq!(text(answer).await, "<Complete 100>");
}

#[tokio::test]
async fn what_is_delivered_and_not_durable_stays_within_the_step() {
    let till = MemoryTill::new();
    let (feed, shop) = selling(&till, |bounds| {
        bounds.checkpoint_step = Amount::from(100_u64)
    });
    let mut answer = ask(&shop, paid(&till)).await;
    let mut delivered = 0_u64;
    for size in [30, 30, 30, 30, 99, 2, 250, 1, 1, 60] {
        feed.bytes(size);
        delivered += u64::try_from(frame(&mut answer).await.unwrap().len()).unwrap();
        let saved = units(till.payment().saved);
        assert!(
            delivered - saved <= 100,
            "{delivered} delivered, {saved} durable"
        );
    }
    drop(feed);
    assert_eq!(text(answer).await, "<Complete 533>");
    let saved = till
        .log()
        .into_iter()
        .filter(|event| matches!(event, Event::Saved(_)))
        .count();
    assert!((4..=9).contains(&saved), "{saved} checkpoints");
}

#[tokio::test(start_paused = true)]
async fn what_is_delivered_is_durable_after_the_interval() {
    let till = MemoryTill::new();
    let (feed, shop) = selling(&till, |_| {});
    let mut answer = ask(&shop, paid(&till)).await;
    feed.frame("token");
    frame(&mut answer).await.unwrap();
    settle().await;
    assert_eq!(till.payment().saved, Amount::ZERO);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(till.payment().saved, Amount::from(5_u64));
    // An idle stream is not written again and again.
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(till.log(), [Event::Durable, Event::Saved(5)]);
    drop(feed);
    assert_eq!(text(answer).await, "<Complete 5>");
}

#[tokio::test]
async fn a_checkpoint_that_fails_stops_the_delivery() {
    let till = MemoryTill::new();
    till.books().checkpoint_fails = true;
    let (feed, shop) = selling(&till, |bounds| {
        bounds.checkpoint_step = Amount::from(100_u64)
    });
    let mut answer = ask(&shop, paid(&till)).await;
    feed.bytes(40);
    frame(&mut answer).await.unwrap();
    feed.bytes(200);
    assert_eq!(frame(&mut answer).await.unwrap(), "<Cut 240>");
    assert!(feed.is_cancelled());

    // Beside the wait for a frame that does not come.
    let till = MemoryTill::new();
    till.books().checkpoint_fails = true;
    let (feed, shop) = selling(&till, |bounds| {
        bounds.checkpoint_step = Amount::from(100_u64)
    });
    let mut answer = ask(&shop, paid(&till)).await;
    feed.bytes(60);
    frame(&mut answer).await.unwrap();
    assert_eq!(text(answer).await, "<Cut 60>");
    assert!(feed.is_cancelled());
}

#[tokio::test]
async fn a_stream_is_stopped_when_its_payment_is_voided_and_charged_for_what_was_delivered() {
    let till = MemoryTill::new();
    let (feed, shop) = selling(&till, |bounds| {
        bounds.checkpoint_step = Amount::from(100_u64)
    });
    let mut answer = ask(&shop, paid(&till)).await;
    feed.bytes(40);
    assert_eq!(frame(&mut answer).await.unwrap().len(), 40);
    till.books().voided = true;
    feed.bytes(200);
    // The frame that was counted is delivered, and is the last.
    assert_eq!(frame(&mut answer).await.unwrap().len(), 200);
    assert_eq!(text(answer).await, "<Cut 240>");
    assert_eq!(till.charged(), 240);
    assert!(feed.is_cancelled(), "the upstream works on for nothing");

    // Beside the wait for a frame that does not come.
    let till = MemoryTill::new();
    till.books().voided = true;
    let (feed, shop) = selling(&till, |bounds| {
        bounds.checkpoint_step = Amount::from(100_u64)
    });
    let mut answer = ask(&shop, paid(&till)).await;
    feed.bytes(60);
    frame(&mut answer).await.unwrap();
    assert_eq!(text(answer).await, "<Cut 60>");
    assert_eq!(till.charged(), 60);
    assert!(feed.is_cancelled());
}

#[tokio::test]
async fn a_stream_whose_charge_is_not_written_has_no_good_end() {
    let till = MemoryTill::new();
    till.books().commit_fails = true;
    let (feed, shop) = selling(&till, |_| {});
    feed.frame("text");
    drop(feed);
    assert_eq!(
        read(ask(&shop, paid(&till)).await).await,
        ("text".to_owned(), false)
    );
    assert_eq!(till.end(), Some(End::Failed));
}

#[tokio::test]
async fn a_stream_ends_at_the_cap_and_costs_no_more() {
    let till = MemoryTill::new();
    let (feed, shop) = selling(&till, |_| {});
    let mut answer = ask(&shop, paid(&till)).await;
    feed.bytes(9_990);
    feed.bytes(10);
    feed.bytes(5);
    feed.frame("never");
    for size in [9_990, 10, 5] {
        assert_eq!(frame(&mut answer).await.unwrap().len(), size);
    }
    assert_eq!(text(answer).await, format!("<Cut {CAP}>"));
    assert_eq!(till.charged(), CAP);
    assert!(feed.is_cancelled());

    // Exactly the cap is a good end.
    let till = MemoryTill::new();
    let (feed, shop) = selling(&till, |_| {});
    feed.bytes(10_000);
    drop(feed);
    assert!(
        text(ask(&shop, paid(&till)).await)
            .await
            .ends_with("<Complete 10000>")
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_takes_too_long_is_cut_and_charged() {
    // One that gives nothing, and one that always has something.
    for endless in [false, true] {
        let till = MemoryTill::new();
        let (feed, shop) = selling(&till, |bounds| {
            bounds.serving = Duration::from_secs(60);
            bounds.frames = 1000;
        });
        let mut answer = ask(&shop, paid(&till)).await;
        feed.frame("text");
        frame(&mut answer).await.unwrap();
        if endless {
            for _ in 0..100 {
                feed.bytes(1);
            }
            tokio::time::advance(Duration::from_secs(61)).await;
        }
        let text = text(answer).await;
        assert!(text.contains("<Cut "), "{text}");
        assert!((4..=5).contains(&till.charged()), "{text}");
        assert!(feed.is_cancelled());
    }
}

#[tokio::test]
async fn trailers_go_out_last() {
    let till = MemoryTill::new();
    let (feed, shop) = selling(&till, |_| {});
    let mut trailers = HeaderMap::new();
    trailers.insert("x-end", "1".parse().unwrap());
    feed.frame("text");
    feed.trailers(trailers.clone());
    drop(feed);
    let answer = ask(&shop, paid(&till))
        .await
        .into_body()
        .collect()
        .await
        .unwrap();
    assert_eq!(answer.trailers(), Some(&trailers));
    assert_eq!(answer.to_bytes(), "text<Complete 4>");
}

#[tokio::test]
async fn a_head_that_nobody_waits_for_ends_the_payment() {
    // The head is on its way in the moment in which the caller hangs up.
    for polls in 0..20 {
        let till = MemoryTill::new();
        let (feed, shop) = selling(&till, |_| {});
        feed.frame("text");
        {
            let mut answer: Pin<Box<dyn Future<Output = Answer>>> =
                Box::pin(ask(&shop, paid(&till)));
            for _ in 0..polls {
                if std::future::poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx)))
                    .await
                    .is_ready()
                {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        settle().await;
        let books = till.books();
        for payment in &books.payments {
            assert!(
                matches!(payment.end, Some(End::Released | End::Charged { .. })),
                "{payment:?}"
            );
        }
    }
}

#[tokio::test]
async fn sixty_four_streams_at_once_are_each_charged_their_own() {
    let till = MemoryTill::new();
    till.books().yields = 2;
    let mut upstream = Upstream::new();
    let mut feeds = Vec::new();
    for _ in 0..64 {
        let (feed, body) = Fed::new(&till);
        upstream = upstream.streams(body);
        feeds.push(feed);
    }
    let shop = shop(&till, upstream);
    let callers: Vec<_> = (0..64)
        .map(|nonce| {
            let (shop, request) = (shop.clone(), paid_by(&till, X402Version::V2, nonce));
            tokio::spawn(async move { read(ask(&shop, request).await).await })
        })
        .collect();
    for round in 0..5 {
        for (index, feed) in feeds.iter().enumerate() {
            feed.bytes(index + round);
        }
        tokio::task::yield_now().await;
    }
    drop(feeds);
    let mut told = Vec::new();
    for caller in callers {
        let (text, whole) = caller.await.unwrap();
        assert!(whole);
        let (bytes, closing) = text.split_once("<Complete ").unwrap();
        let charged: usize = closing.trim_end_matches('>').parse().unwrap();
        assert_eq!(bytes.len(), charged);
        told.push(charged);
    }
    told.sort_unstable();
    let expected: Vec<_> = (0..64).map(|index| index * 5 + 10).collect();
    assert_eq!(told, expected);
    let books = till.books();
    let mut charged: Vec<_> = books
        .payments
        .iter()
        .map(|payment| match payment.end {
            Some(End::Charged { amount, .. }) => usize::try_from(units(amount)).unwrap(),
            other => panic!("{other:?}"),
        })
        .collect();
    charged.sort_unstable();
    assert_eq!(charged, expected);
}

#[tokio::test]
async fn the_same_payment_sixty_four_times_at_once_is_served_once() {
    let till = MemoryTill::new();
    till.books().yields = 3;
    let upstream = Upstream::new().streams(Fed::whole(&till, ["text"]));
    let shop = shop(&till, upstream.clone());
    let callers: Vec<_> = (0..64)
        .map(|_| {
            let (shop, request) = (shop.clone(), paid(&till));
            tokio::spawn(async move { ask(&shop, request).await.status().as_u16() })
        })
        .collect();
    let mut statuses = Vec::new();
    for caller in callers {
        statuses.push(caller.await.unwrap());
    }
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1);
    assert!(
        statuses
            .iter()
            .all(|status| [200, 409, 425].contains(status)),
        "{statuses:?}"
    );
    assert_eq!(upstream.times_asked(), 1);
}

#[tokio::test]
async fn the_body_tells_no_length_before_its_end() {
    let till = MemoryTill::new();
    let (feed, shop) = selling(&till, |_| {});
    let answer = ask(&shop, paid(&till)).await;
    assert!(!answer.body().is_end_stream());
    assert_eq!(answer.body().size_hint().exact(), None);
    drop(feed);
}
