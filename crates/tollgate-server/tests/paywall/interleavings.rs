//! Whatever happens in whatever order, each payment ends once, and the caller pays what it got.

use std::{future::Future, pin::pin, task::Poll, time::Duration};

use crate::{
    shop::{Fed, Upstream, ask, layer, paid},
    till::{End, Event, MemoryTill, units},
};
use http_body_util::BodyExt;
use proptest::prelude::*;
use tollgate_server::Bounds;
use tollgate_x402::{Amount, PaymentState};
use tower::Layer;

#[derive(Clone, Debug)]
struct World {
    streamed: bool,
    status: u16,
    frames: Vec<usize>,
    finish: Finish,
    /// How often each step of the till, and the feeding of a frame, lets others run.
    yields: u8,
    feed_yields: u8,
    /// After so many polls of the answer's head the caller hangs up.
    head_polls: u16,
    /// After so many frames the caller hangs up.
    read: usize,
    /// After so many frames the caller takes no more, and does not hang up.
    stalls: bool,
    room: usize,
    step: u64,
    durable_fails: bool,
    checkpoint_fails: bool,
    commit_fails: bool,
    voided: bool,
    /// The caller waits for a block, and there is one after so many rounds.
    block: Option<u16>,
    /// After so many rounds all is cut.
    cut: Option<u16>,
}

#[derive(Clone, Copy, Debug)]
enum Finish {
    End,
    Fail,
    Panic,
    Hang,
}

fn world() -> impl Strategy<Value = World> {
    let finish = prop_oneof![
        4 => Just(Finish::End), 1 => Just(Finish::Fail), 1 => Just(Finish::Panic), 1 => Just(Finish::Hang)
    ];
    let rarely = || prop::bool::weighted(0.1);
    (
        (
            prop::bool::weighted(0.8),
            prop_oneof![9 => Just(200_u16), 1 => Just(500)],
            prop::collection::vec(0..4000_usize, 0..8),
            finish,
            0..4_u8,
            0..6_u8,
            prop_oneof![1 => 0..30_u16, 2 => Just(u16::MAX)],
        ),
        (
            0..10_usize,
            rarely(),
            1..4_usize,
            prop_oneof![Just(1_u64), Just(1000), Just(1 << 40)],
        ),
        (
            rarely(),
            rarely(),
            rarely(),
            prop::option::weighted(0.2, 0..60_u16),
            rarely(),
            prop::option::of(0..200_u16),
        ),
    )
        .prop_map(|(a, b, c)| World {
            streamed: a.0,
            status: a.1,
            frames: a.2,
            finish: a.3,
            yields: a.4,
            feed_yields: a.5,
            head_polls: a.6,
            read: b.0,
            stalls: b.1,
            room: b.2,
            step: b.3,
            durable_fails: c.0,
            checkpoint_fails: c.1,
            commit_fails: c.2,
            cut: c.3,
            voided: c.4,
            block: c.5,
        })
}

/// What the caller saw.
#[derive(Debug, Default)]
struct Seen {
    status: Option<u16>,
    /// Bytes of the service's, without the closing ones.
    bytes: u64,
    closed: bool,
}

async fn call(world: &World, till: &MemoryTill, shop: crate::shop::Shop) -> Seen {
    let mut seen = Seen::default();
    let mut request = paid(till);
    if world.block.is_some() {
        let wait = "wait=10".parse().unwrap();
        request.headers_mut().insert("prefer", wait);
    }
    let mut head = Box::pin(ask(&shop, request));
    let mut polls = 0;
    let answer = std::future::poll_fn(|cx| {
        if polls == world.head_polls {
            return Poll::Ready(None);
        }
        polls += 1;
        let poll = head.as_mut().poll(cx).map(Some);
        // Polled again and again, so that the polls count rounds.
        cx.waker().wake_by_ref();
        poll
    })
    .await;
    drop(head);
    let Some(mut answer) = answer else {
        return seen;
    };
    seen.status = Some(answer.status().as_u16());
    if answer.status() != 200 {
        return seen;
    }
    for _ in 0..world.read {
        match answer.body_mut().frame().await {
            Some(Ok(frame)) => {
                let data = frame.into_data().unwrap();
                if data.starts_with(b"<") {
                    seen.closed = true;
                } else {
                    seen.bytes += u64::try_from(data.len()).unwrap();
                }
            }
            Some(Err(_)) | None => return seen,
        }
    }
    if world.stalls {
        // Longer than anything waits.
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
    seen
}

async fn run(world: World) {
    let till = MemoryTill::new();
    {
        let mut books = till.books();
        books.yields = world.yields;
        books.durable_fails = world.durable_fails;
        books.checkpoint_fails = world.checkpoint_fails;
        books.commit_fails = world.commit_fails;
        books.voided = world.voided;
    }
    let mut bounds = Bounds::new();
    bounds.frames = world.room;
    bounds.checkpoint_step = Amount::from(world.step);
    let (feed, body) = Fed::new(&till);
    let kind = if world.streamed {
        "text/event-stream"
    } else {
        "text/plain"
    };
    let upstream = Upstream::new().answers(world.status, kind, body);
    let layer = layer(&till).with_bounds(bounds);
    let shop = layer.layer(upstream.clone());
    let drain = layer.drain();

    let fed = tokio::spawn({
        let world = world.clone();
        async move {
            for size in &world.frames {
                for _ in 0..world.feed_yields {
                    tokio::task::yield_now().await;
                }
                feed.bytes(*size);
            }
            match world.finish {
                Finish::End => {}
                Finish::Fail => feed.fail(),
                Finish::Panic => feed.frame("upstream panics"),
                Finish::Hang => feed.cancelled().await,
            }
        }
    });
    let mined = tokio::spawn({
        let blocks = world.block.map(|rounds| (rounds, till.chain()));
        async move {
            let Some((rounds, chain)) = blocks else {
                return;
            };
            for _ in 0..rounds {
                tokio::task::yield_now().await;
            }
            chain.send_replace(Some(PaymentState::Included));
        }
    });
    let seen = {
        let mut called = pin!(call(&world, &till, shop));
        let cut = async {
            match world.cut {
                Some(rounds) => {
                    for _ in 0..rounds {
                        tokio::task::yield_now().await;
                    }
                    drain.cut();
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            seen = called.as_mut() => seen,
            () = cut => called.await,
        }
    };
    // Time passes by itself while all wait: every wait of the paywall is bounded.
    drain.wait().await;
    drop(upstream);
    fed.await.unwrap();
    mined.await.unwrap();

    let books = till.books();
    let log = &books.log;
    assert!(!log.contains(&Event::Torn), "{log:?}");
    let Some(payment) = books.payments.first() else {
        assert!(seen.status.is_none_or(|status| status == 503), "{seen:?}");
        return;
    };
    let end = payment.end.expect("the payment has ended");
    assert_ne!(end, End::Leaked);
    let cap = units(payment.cap);
    let largest = world.frames.iter().copied().max().unwrap_or(0);
    match end {
        End::Released => assert_eq!(seen.bytes, 0, "{seen:?}"),
        End::Charged { amount, .. } => {
            let amount = units(amount);
            assert!(amount <= cap);
            assert!(amount >= seen.bytes.min(cap), "{amount} charged, {seen:?}");
            if world.streamed {
                let on_the_way = u64::try_from((world.room + 1) * largest).unwrap();
                assert!(
                    amount <= seen.bytes + on_the_way,
                    "{amount} charged, {seen:?}"
                );
                if seen.closed {
                    assert!(
                        amount == seen.bytes.min(cap) || world.checkpoint_fails,
                        "{amount} charged, {seen:?}"
                    );
                }
            }
            assert!(payment.durable);
        }
        End::Failed => {
            assert!(world.commit_fails && !seen.closed);
            // A crash or a failing store loses at most a step, and what was on its way.
            let lost = seen.bytes.saturating_sub(units(payment.saved));
            assert!(lost <= world.step || world.checkpoint_fails, "{lost} lost");
        }
        End::Leaked => unreachable!(),
    }
    if seen.status == Some(200) {
        assert!(payment.durable);
    }
    assert_ne!(
        seen.status,
        Some(402),
        "after work has begun there is no 402"
    );
    let ends = log
        .iter()
        .filter(|event| matches!(event, Event::Charged(_) | Event::Released))
        .count();
    assert_eq!(ends, usize::from(end != End::Failed), "{log:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_hold_is_lost_and_no_payment_ends_twice(world in world()) {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(run(world));
    }
}
