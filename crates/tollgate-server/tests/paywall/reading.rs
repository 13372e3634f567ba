//! Bodies that are being read, and the memory that they share.

use bytes::Bytes;
use http::StatusCode;
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    task::JoinHandle,
};
use tollgate_x402::ErrorCode;
use tower::ServiceExt as _;

use crate::{
    shop::{Answer, Shop, Upstream, header, refusal, settle, shop_within, unpaid},
    till::MemoryTill,
};

/// A shop that reads bodies of so many bytes, in memory for so many.
fn shop(request: usize, reading: usize) -> Shop {
    shop_within(&MemoryTill::new(), Upstream::new(), |bounds| {
        bounds.request_bytes = request;
        bounds.reading_bytes = reading;
    })
}

/// A request whose body is on its way.
struct Coming {
    pieces: UnboundedSender<Result<Frame<Bytes>, &'static str>>,
    answer: JoinHandle<Answer>,
}

impl Coming {
    fn new(shop: &Shop) -> Self {
        let (pieces, coming) = unbounded_channel();
        let coming = futures_util::stream::unfold(coming, |mut coming| async {
            coming.recv().await.map(|piece| (piece, coming))
        });
        let body = StreamBody::new(futures_util::StreamExt::boxed(coming));
        let asked = shop.clone().oneshot(unpaid().map(|_| body));
        let answer = tokio::spawn(async { asked.await.unwrap() });
        Self { pieces, answer }
    }

    /// The server takes so many bytes more.
    async fn comes(&self, bytes: usize) {
        let piece = Bytes::from(vec![b'x'; bytes]);
        let _ = self.pieces.send(Ok(Frame::data(piece)));
        settle().await;
    }

    /// The answer, of which there is nothing before the body's end.
    async fn ends(self) -> Answer {
        assert!(!self.answer.is_finished(), "it was answered too early");
        drop(self.pieces);
        self.answer.await.unwrap()
    }
}

async fn is_told_to_come_again(answer: Answer) {
    assert_eq!(header(&answer, "retry-after"), "2");
    assert_eq!(
        refusal(answer).await,
        (StatusCode::TOO_MANY_REQUESTS, ErrorCode::RateLimited)
    );
}

/// That nothing is taken of this shop's memory of ten bytes.
async fn nothing_is_taken(shop: &Shop) {
    let whole = Coming::new(shop);
    whole.comes(10).await;
    assert_eq!(whole.ends().await.status(), 402);
}

#[tokio::test]
async fn bodies_that_are_being_read_take_no_more_memory_together_than_is_allowed() {
    let shop = shop(10, 10);
    let first = Coming::new(&shop);
    first.comes(6).await;
    let second = Coming::new(&shop);
    second.comes(6).await;
    is_told_to_come_again(second.ends().await).await;
    // What one gives back the next may take.
    assert_eq!(first.ends().await.status(), 402);
    nothing_is_taken(&shop).await;
}

#[tokio::test]
async fn bodies_that_never_end_keep_no_smaller_one_from_being_read() {
    let shop = shop(10, 30);
    let mut large = Vec::new();
    for _ in 0..3 {
        let one = Coming::new(&shop);
        one.comes(10).await;
        large.push(one);
    }
    for _ in 0..10 {
        let small = Coming::new(&shop);
        small.comes(4).await;
        assert_eq!(small.ends().await.status(), 402);
    }
    // The eldest of the largest has made room for all of them.
    let mut large = large.into_iter();
    is_told_to_come_again(large.next().unwrap().ends().await).await;
    for one in large {
        assert_eq!(one.ends().await.status(), 402);
    }
}

#[tokio::test]
async fn who_is_told_to_come_again_is_told_when_all_was_written() {
    let shop = shop(8, 8);
    let first = Coming::new(&shop);
    first.comes(8).await;
    let second = Coming::new(&shop);
    for _ in 0..3 {
        second.comes(8).await;
    }
    // What is thrown away keeps nobody waiting.
    assert_eq!(first.ends().await.status(), 402);
    is_told_to_come_again(second.ends().await).await;
    // But nobody writes for ever.
    let first = Coming::new(&shop);
    first.comes(8).await;
    let endless = Coming::new(&shop);
    while !endless.answer.is_finished() {
        endless.comes(8).await;
    }
    is_told_to_come_again(endless.answer.await.unwrap()).await;
}

#[tokio::test(start_paused = true)]
async fn however_reading_ends_nothing_stays_taken() {
    let shop = shop(10, 10);

    let cancelled = Coming::new(&shop);
    cancelled.comes(10).await;
    cancelled.answer.abort();
    settle().await;
    nothing_is_taken(&shop).await;

    let broken = Coming::new(&shop);
    broken.comes(10).await;
    broken.pieces.send(Err("reset")).unwrap();
    assert_eq!(
        refusal(broken.answer.await.unwrap()).await.1,
        ErrorCode::InvalidRequest
    );
    nothing_is_taken(&shop).await;

    let over = Coming::new(&shop);
    over.comes(10).await;
    over.comes(1).await;
    // It is read on, and takes nothing.
    nothing_is_taken(&shop).await;
    assert_eq!(
        refusal(over.ends().await).await.1,
        ErrorCode::RequestTooLarge
    );
    nothing_is_taken(&shop).await;

    // The time passes by itself.
    let late = Coming::new(&shop);
    late.comes(10).await;
    assert_eq!(
        refusal(late.answer.await.unwrap()).await.1,
        ErrorCode::InvalidRequest
    );
    nothing_is_taken(&shop).await;
}
