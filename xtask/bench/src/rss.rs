//! The memory of the gateway after many paid requests.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::{sync::Semaphore, task::JoinSet};
use tollgate_x402::U256;

use crate::{
    Options,
    mock::Pace,
    report::{Row, Wanted},
    world::{Setup, World},
};

const BENCH: &str = "rss";
const PAYERS: u64 = 64;
const AT_ONCE: usize = 32;
const BEGINNING: Duration = Duration::from_secs(2);

pub(crate) async fn run(options: &Options) -> anyhow::Result<Vec<Row>> {
    let setup = Setup {
        pace: Pace {
            first: Duration::ZERO,
            between: Duration::ZERO,
        },
        payers: PAYERS,
        settlement: "allowances = \"aggregate\"\nmax_unsettled_usd = \"0.05\"\nmax_age_seconds = 5",
    };
    let world = Arc::new(World::start(&setup, &options.tollgate, &options.directory).await?);
    // Its tokenizer is loaded in the background.
    tokio::time::sleep(BEGINNING).await;
    let (before, _) = world.gateway.memory()?;
    let cpu = world.gateway.cpu()?;
    let begin = Instant::now();
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    let mut sales = JoinSet::new();
    let mut charged = U256::ZERO;
    for number in 0..options.requests {
        let slot = Arc::clone(&slots).acquire_owned().await?;
        let world = Arc::clone(&world);
        sales.spawn(async move {
            let payer = world
                .payers
                .get(number % world.payers.len())
                .context("no payers")?;
            let paid = payer.chat(&world.client).await?;
            drop(slot);
            anyhow::Ok(paid.charge)
        });
        while let Some(sale) = sales.try_join_next() {
            charged += sale??;
        }
    }
    while let Some(sale) = sales.join_next().await {
        charged += sale??;
    }
    let (time, cpu) = (begin.elapsed().as_secs_f64(), world.gateway.cpu()? - cpu);
    let (after, _) = world.gateway.memory()?;
    world.settled(charged).await?;
    let (_, peak) = world.gateway.memory()?;

    let count = options.requests as f64;
    let rows = vec![
        Row::new(
            BENCH,
            format!("gateway RSS after {count} paid requests"),
            after,
            "MB",
        )
        .beside("before the first", before)
        .wanted(Wanted::Below(80.0)),
        Row::new(BENCH, "its peak, all settled", peak, "MB"),
        Row::new(
            BENCH,
            format!("paid requests, {AT_ONCE} at once; charged = settled, exactly"),
            count / time,
            "a second",
        ),
        Row::new(
            BENCH,
            "gateway CPU a request, settlement included",
            cpu * 1e3 / count,
            "ms",
        ),
    ];
    if let Some(world) = Arc::into_inner(world) {
        world.stop().await?;
    }
    Ok(rows)
}
