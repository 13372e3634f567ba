//! An answer that merely ends is not a whole one.

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use tollgate_client::{Policy, ReceiptHandle};

use crate::{
    lost::{answering, headers, impatient},
    seller::*,
};

const TEXT: &str = "data: {\"type\":\"text-delta\",\"id\":\"0\",\"delta\":\"hi\"}\n\n";
const FINISH: &str = "data: {\"type\":\"finish\",\"finishReason\":\"stop\"}";
const COMPLETION: &str =
    "data: {\"object\":\"chat.completion.chunk\",\"choices\":[]}\n\ndata: [DONE]\n\n";
const DONE: &str = "data: [DONE]\n\n";

fn answer(kind: &'static str, body: String) -> Reply {
    let mut response = Response::new(chunks(vec![Ok(Bytes::from(body))]));
    let headers = response.headers_mut();
    headers.insert("content-type", kind.parse().unwrap());
    Ok(response)
}

fn events(parts: &[&str]) -> Reply {
    answer("text/event-stream", parts.concat())
}

/// Reads an answer to its end: whether it is taken for a whole one.
async fn is_whole(buyer: &Buyer) -> bool {
    let response = buyer.ask("{}").await.unwrap();
    let handle = response.extensions().get::<ReceiptHandle>().cloned();
    response.into_body().collect().await.unwrap();
    !handle.unwrap().broke_off()
}

#[tokio::test]
async fn a_stream_without_its_end_is_fetched_by_the_same_request_and_not_paid_twice() {
    let head_only = || {
        let mut response = events(&[])?;
        let version = http::HeaderValue::from_static("v1");
        let headers = response.headers_mut();
        headers.insert("x-vercel-ai-ui-message-stream", version);
        Ok(response)
    };
    for cut in [
        || events(&[TEXT]),
        || events(&[TEXT, &FINISH[..40]]),
        || events(&[TEXT, "data: [DO"]),
        || events(&[&COMPLETION[..COMPLETION.len() - 4]]),
        || answer("application/json", r#"{"choices":[{"message":{"#.into()),
        head_only,
    ] {
        for offer in [|| demand(vec![once()], ""), || named(vec![upto()])] {
            let mut replies = [cut(), stream(cents(1), cents(98))].into_iter();
            let seller = Seller::new(move |seen| match seen.payment {
                Some(_) => replies.next().expect("no more payments"),
                None => offer(),
            });
            let buyer = Buyer::at(&seller, impatient());
            assert!(!is_whole(&buyer).await);
            assert!(is_whole(&buyer).await);
            let sent = headers(&seller);
            assert_eq!(sent[0], sent[1], "the same payment under the same name");
            assert_eq!(buyer.wallet.count(), 1);
        }
    }
}

#[tokio::test]
async fn an_answer_with_its_end_is_answered() {
    for whole in [
        || events(&[TEXT, FINISH, "\n\n", DONE]),
        || events(&[TEXT, FINISH, "\n\n"]),
        // Some senders forget the last blank line.
        || events(&[TEXT, FINISH]),
        || events(&[TEXT, DONE]),
        || events(&[COMPLETION]),
        // Of other streams and texts the end is not known.
        || events(&["data: {\"jsonrpc\":\"2.0\"}\n\n"]),
        || answer("application/json", r#"{"choices":[]}"#.into()),
        || answer("application/json", String::new()),
        || answer("text/plain", "{".into()),
    ] {
        let seller = answering(once(), [whole(), whole()]);
        let buyer = Buyer::at(&seller, Policy::default());
        assert!(is_whole(&buyer).await);
        assert!(is_whole(&buyer).await);
        assert_eq!(buyer.wallet.count(), 2, "the next request is a new one");
    }
}

#[tokio::test]
async fn a_reader_that_had_enough_of_a_stream_has_its_answer() {
    let seller = answering(once(), [events(&[TEXT]), ok("paid")]);
    let buyer = Buyer::at(&seller, Policy::default());
    let mut response = buyer.ask("{}").await.unwrap();
    response.frame().await.unwrap().unwrap();
    drop(response);
    buyer.read("{}").await;
    assert_eq!(buyer.wallet.count(), 2);
}
