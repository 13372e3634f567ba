//! What the gateway adds to the time of the first token, and how soon a charge is on the chain.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};
use tollgate_x402::{Limits, PaymentId, PaymentState, PaymentStatus, U256};

use crate::{
    Options,
    client::{Answer, Ask, Client},
    mock::Pace,
    payer::{Paid, upstream_chat},
    report::{Row, Wanted},
    stats::{histogram, micros, quantile},
    world::{BLOCK, Setup, World},
};

const BENCH: &str = "ttfb";
/// Paid requests a second; as many go to the model server directly, in between.
const RATE: u64 = 50;
/// One of so many payments is watched until the gateway says that it is final.
const WATCHED: usize = 25;

/// A paid request.
struct Sale {
    paid: Paid,
    /// The newest block when its last byte came.
    head: u64,
    /// The newest block when the gateway said that it is final, if it was watched.
    told: Option<u64>,
}

pub(crate) async fn run(options: &Options) -> anyhow::Result<Vec<Row>> {
    let setup = Setup {
        pace: Pace {
            first: Duration::from_millis(30),
            between: Duration::from_millis(5),
        },
        payers: options.payers,
        settlement: "allowances = \"at-once\"",
    };
    let world = Arc::new(World::start(&setup, &options.tollgate, &options.directory).await?);

    // Warm: each payer has paid before, the permits are on the chain, and the connections are open.
    let mut charged = U256::ZERO;
    for _ in 0..3 {
        for payer in &world.payers {
            charged += payer.chat(&world.client).await?.charge;
            direct(&world.client, &world.upstream).await?;
        }
    }
    world.settled(charged).await?;

    world.chain.reset_rpc_counts();
    let cpu = world.gateway.cpu()?;
    let load = load(&world, options.seconds).await?;
    let cpu = world.gateway.cpu()? - cpu;
    for sale in &load.sales {
        charged += sale.paid.charge;
    }
    world.settled(charged).await?;
    let calls = world.chain.rpc_counts();

    let count = load.sales.len() as f64;
    let mut rows = times(&load)?;
    rows.extend(blocks(&world, &load.sales).await?);
    rows.push(Row::new(
        BENCH,
        "paid requests; charged = settled on the chain, exactly",
        count,
        "requests",
    ));
    let reads = calls.get("eth_call").copied().unwrap_or_default();
    let what = "of them eth_call: payers read, settlements rehearsed";
    let total: u64 = calls.values().sum();
    rows.push(Row::new(
        BENCH,
        "RPC calls a request, settlement included",
        total as f64 / count,
        "calls",
    ));
    rows.push(Row::new(BENCH, what, reads as f64 / count, "calls"));
    rows.push(Row::new(
        BENCH,
        "gateway CPU a request, settlement included",
        cpu * 1e3 / count,
        "ms",
    ));
    if let Some(world) = Arc::into_inner(world) {
        world.stop().await?;
    }
    Ok(rows)
}

struct Load {
    sales: Vec<Sale>,
    direct: Vec<Answer>,
    /// How late the generator itself was, in microseconds.
    late: Histogram<u64>,
}

/// The open loop: a paid request every 20 ms, and a direct one in the middle between two, whether answers come or not.
async fn load(world: &Arc<World>, seconds: u64) -> anyhow::Result<Load> {
    let (mut sales, mut answers) = (JoinSet::new(), JoinSet::new());
    let mut late = histogram()?;
    let mut ticks = interval(Duration::from_millis(500 / RATE));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in 0..usize::try_from(2 * RATE * seconds)? {
        late.saturating_record(micros(ticks.tick().await.elapsed()));
        let world = Arc::clone(world);
        if number.is_multiple_of(2) {
            sales.spawn(sale(world, number / 2));
        } else {
            answers.spawn(async move { direct(&world.client, &world.upstream).await });
        }
    }
    Ok(Load {
        sales: sales
            .join_all()
            .await
            .into_iter()
            .collect::<Result<_, _>>()?,
        direct: answers
            .join_all()
            .await
            .into_iter()
            .collect::<Result<_, _>>()?,
        late,
    })
}

async fn sale(world: Arc<World>, number: usize) -> anyhow::Result<Sale> {
    let payer = world
        .payers
        .get(number % world.payers.len())
        .context("no payers")?;
    let paid = payer.chat(&world.client).await?;
    let head = world.chain.head();
    let told = if number.is_multiple_of(WATCHED) {
        Some(watch(&world, paid.id).await?)
    } else {
        None
    };
    Ok(Sale { paid, head, told })
}

/// Asks the model server itself.
async fn direct(client: &Client, url: &str) -> anyhow::Result<Answer> {
    let ask = Ask {
        url: url.to_owned(),
        body: upstream_chat(),
        header: None,
    };
    let answer = client.post(ask, b"\"content\"").await?;
    ensure!(
        answer.status.is_success() && answer.marked.is_some(),
        "the model server failed"
    );
    Ok(answer)
}

async fn status(world: &World, id: PaymentId) -> anyhow::Result<PaymentStatus> {
    let body = world
        .client
        .get(&format!("{}/payments/{id}", world.sale))
        .await?;
    Ok(PaymentStatus::parse_body(&body, &Limits::default())?)
}

/// The newest block when the gateway says that a payment is final.
async fn watch(world: &World, id: PaymentId) -> anyhow::Result<u64> {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(60) {
        if status(world, id).await?.state == PaymentState::Final {
            return Ok(world.chain.head());
        }
        sleep(BLOCK / 3).await;
    }
    anyhow::bail!("payment {id} is not final in a minute\n{}", world.log())
}

fn times(load: &Load) -> anyhow::Result<Vec<Row>> {
    type Time = fn(&Answer) -> Duration;
    let first: Time = |answer| answer.marked.unwrap_or(answer.whole);
    let kinds: [(&str, Time); 3] = [
        ("first byte", |answer| answer.first_byte),
        ("first token", first),
        ("last byte", |answer| answer.whole),
    ];
    let mut rows = Vec::new();
    for (kind, time) in kinds {
        let paid = all(load.sales.iter().map(|sale| time(&sale.paid.answer)))?;
        let direct = all(load.direct.iter().map(time))?;
        for (name, part) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
            let [through, ungated] = [&paid, &direct].map(|times| quantile(times, part) / 1e3);
            rows.push(
                Row::new(BENCH, format!("{kind}, {name}"), through, "ms")
                    .beside("ungated", ungated),
            );
            let added = Row::new(BENCH, format!("  added {name}"), through - ungated, "ms");
            rows.push(match (kind, name) {
                ("first byte" | "first token", "p50") => added.wanted(Wanted::Below(1.0)),
                ("first byte" | "first token", "p99") => added.wanted(Wanted::Below(5.0)),
                _ => added,
            });
        }
    }
    let late = quantile(&load.late, 0.99) / 1e3;
    rows.push(Row::new(BENCH, "load generator late, p99", late, "ms"));
    Ok(rows)
}

/// Blocks from the last byte to the settlement, and to the gateway's word that it is final.
async fn blocks(world: &World, sales: &[Sale]) -> anyhow::Result<Vec<Row>> {
    let (mut included, mut told) = (histogram()?, histogram()?);
    let lag = world.chain.head() - world.chain.finalized();
    let mut wait = 100;
    for sale in sales {
        let mut found = status(world, sale.paid.id).await?;
        // The chain is final already; the worker looks once a block.
        while found.state != PaymentState::Final && wait > 0 {
            wait -= 1;
            sleep(BLOCK / 3).await;
            found = status(world, sale.paid.id).await?;
        }
        ensure!(
            found.state == PaymentState::Final
                && found.charge.map(|charge| charge.get()) == Some(sale.paid.charge),
            "payment {} is {:?} of {:?}, and {} was charged",
            sale.paid.id,
            found.state,
            found.charge,
            sale.paid.charge
        );
        let block = found.block.context("a final payment without a block")?;
        included.saturating_record(block.saturating_sub(sale.head));
        if let Some(head) = sale.told {
            told.saturating_record(head.saturating_sub(sale.head));
        }
    }
    let row = |what: &str, times: &Histogram<u64>, part, more: u64| {
        Row::new(BENCH, what, quantile(times, part) + more as f64, "blocks")
    };
    Ok(vec![
        row("included after the last byte, p50", &included, 0.5, 0).wanted(Wanted::AtMost(2.0)),
        row("included after the last byte, p99", &included, 0.99, 0),
        row("final on the chain, p50", &included, 0.5, lag).wanted(Wanted::AtMost(5.0)),
        row("final on the chain, p99", &included, 0.99, lag),
        row("final by the gateway's word, p50", &told, 0.5, 0).wanted(Wanted::AtMost(5.0)),
        row("final by the gateway's word, p99", &told, 0.99, 0),
    ])
}

fn all(times: impl Iterator<Item = Duration>) -> anyhow::Result<Histogram<u64>> {
    let mut all = histogram()?;
    for time in times {
        all.saturating_record(micros(time));
    }
    Ok(all)
}
