//! The CPU of translating one event of a model server's stream into one of the caller's.

use std::hint::black_box;

use anyhow::{Context, ensure};
use bytes::Bytes;
use tollgate_chat::{Dialect, upstream::openai::OpenAiStream};
use tollgate_gateway::Tokenizer;

use crate::{
    mock::token,
    report::{Row, Wanted},
    stats::{Cost, cost},
};

const BENCH: &str = "sse";
const RUNS: usize = 500;
const EVENTS: usize = 500;

pub(crate) fn run() -> anyhow::Result<Vec<Row>> {
    let chunks: Vec<Bytes> = (0..EVENTS)
        .map(|number| Bytes::from(token(&format!(" word{number}"))))
        .collect();
    let translated = cost(RUNS, || {
        let mut from = OpenAiStream::default();
        let mut to = Dialect::DGrid.stream();
        let mut frames = 0;
        for chunk in &chunks {
            from.push(black_box(chunk.clone()));
            while let Some(event) = from.next_event() {
                frames += usize::from(black_box(to.encode(&event)).is_some());
            }
        }
        ensure!(frames > EVENTS, "a stream of {frames} frames");
        Ok(())
    })?;
    let parsed = cost(RUNS, || {
        for chunk in &chunks {
            let json = chunk.strip_prefix(b"data: ").context("no data")?;
            black_box(serde_json::from_slice::<serde_json::Value>(black_box(
                json,
            ))?);
        }
        Ok(())
    })?;
    let tokenizer = Tokenizer::load_blocking();
    let texts: Vec<String> = (0..EVENTS).map(|number| format!(" word{number}")).collect();
    let counted = cost(RUNS, || {
        for text in &texts {
            black_box(tokenizer.count(black_box(text)));
        }
        Ok(())
    })?;
    let each = |time: Cost| time.p50 / 1e3 / EVENTS as f64;
    Ok(vec![
        Row::new(
            BENCH,
            "one event, OpenAI's to UI message stream",
            each(translated),
            "µs",
        )
        .beside("its JSON parsed into a tree", each(parsed))
        .wanted(Wanted::Below(5.0)),
        Row::new(
            BENCH,
            "counting the tokens of its text, besides",
            each(counted),
            "µs",
        ),
    ])
}
