//! `tollgate ledger stuck`.

use std::{collections::BTreeMap, process::ExitCode};

use serde_json::json;
use tollgate_ledger::{LogFilter, Queue, RowKind, Status, Store};
use tollgate_payment::{BatchRow, BatchState, Limit, Row, Submission};
use tollgate_x402::{Clock, Timestamp};

use crate::{
    clock::SystemClock,
    ops::{Setup, Where, ago},
};

/// Seconds before a deadline at which it is told.
const NEAR: u64 = 3_600;
/// Seconds after which an undecided batch is told: finality takes about two.
const UNDECIDED: u64 = 60;
/// Seconds after which a payment that is still being served is told: serving takes 600 at most.
const SERVED: u64 = 900;

/// Say what is not progressing, why, and what to do.
///
/// Told are: an account that was halted; charges that are due longer than the configuration lets them be; deadlines within
/// the hour; batches that are not decided after a minute; counters that wait for a failed batch; payments that seem to be
/// served for ever; what payers made unpayable; payers that are blocked.
///
/// Exit code 1 if money waits. Debts and blocks are told, and are no failure.
#[derive(clap::Args)]
pub(crate) struct Stuck {
    #[command(flatten)]
    at: Where,
}

/// Something that does not progress.
struct Finding {
    kind: &'static str,
    what: String,
    why: String,
    advice: String,
    /// Money waits: it is not only to be known.
    waits: bool,
}

impl Stuck {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let setup = Setup::read(&self.at.config)?;
        let copied = setup.read_ledger().await?;
        let found = find(&setup, &copied.store, SystemClock.now()).await?;
        let waits = found.iter().any(|finding| finding.waits);
        if self.at.json {
            let all: Vec<_> = found
                .iter()
                .map(|finding| {
                    json!({
                        "kind": finding.kind,
                        "what": finding.what,
                        "why": finding.why,
                        "do": finding.advice,
                        "waits": finding.waits,
                    })
                })
                .collect();
            say!("{:#}", json!({"stuck": waits, "found": all}));
        } else if found.is_empty() {
            say!("Nothing is stuck.");
        } else {
            for finding in &found {
                say!("{}: {}", finding.kind, finding.what);
                say!("  why: {}", finding.why);
                say!("  do:  {}", finding.advice);
            }
        }
        Ok(if waits {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }
}

async fn find<S: Store>(setup: &Setup, store: &S, now: Timestamp) -> anyhow::Result<Vec<Finding>> {
    let mut found = Vec::new();
    let mut halted = false;
    for row in store.scan(RowKind::Signer, None, usize::MAX).await? {
        let Row::Signer(row) = row else { continue };
        if let Some(halt) = row.halt {
            halted = true;
            found.push(Finding {
                kind: "halted",
                what: format!("nothing new is sent with {}", row.key.operator),
                why: format!("{} ({} ago)", halt.reason, ago(now.since(halt.at))),
                advice: "find out who else uses the key, or whether this ledger is an old copy; then stop the gateway and run `tollgate ledger reconcile`".into(),
                waits: true,
            });
        }
    }
    for queue in store.queues().await? {
        found.extend(waiting(setup, &queue, now, halted));
    }
    for batch in store.undecided().await? {
        let since = now.since(batch.created);
        if since >= UNDECIDED {
            found.push(undecided(&batch, since));
        }
    }
    let served = LogFilter {
        status: Some(Status::Serving),
        ..LogFilter::default()
    };
    for payment in store.logs(served, 1_000).await? {
        let since = now.since(payment.created);
        if since >= SERVED {
            found.push(Finding {
                kind: "served",
                what: format!(
                    "payment {} of {} is being served for {}",
                    payment.payment,
                    payment.payer,
                    ago(since)
                ),
                why: "the gateway that served it died".into(),
                advice: "start a gateway: it charges what was delivered, by the last checkpoint"
                    .into(),
                waits: true,
            });
        }
    }
    payers(setup, store, &mut found).await?;
    Ok(found)
}

/// What is due too long, or nearly too late.
fn waiting(setup: &Setup, queue: &Queue, now: Timestamp, halted: bool) -> Option<Finding> {
    let (age, left) = (now.since(queue.oldest), queue.deadline.since(now));
    let patience = if queue.allowance { setup.max_age } else { 0 };
    let late = age > patience.saturating_add(300);
    let near = left < NEAR;
    if !late && !near {
        return None;
    }
    let why = if left == 0 {
        "its deadline has passed: it is lost unless the chain has the permit already".to_owned()
    } else if near {
        format!("it cannot be settled any more in {}", ago(left))
    } else if halted {
        "the account that settles is halted".to_owned()
    } else {
        format!("the oldest charge is due for {}", ago(age))
    };
    Some(Finding {
        kind: if near { "deadline" } else { "due" },
        what: format!(
            "{} of {} in {} payments",
            setup.show(queue.owner.token, queue.sum),
            queue.owner.owner,
            queue.payments
        ),
        why,
        advice: "run a gateway on this ledger; if one runs, look at its log for \"settlement waits\", at `tollgate doctor` for gas money, and at the payer's balance and allowance".into(),
        waits: true,
    })
}

fn undecided(batch: &BatchRow, since: u64) -> Finding {
    let last = batch.sent.last();
    let (why, advice) = match (&batch.state, last.and_then(|sent| sent.sent)) {
        (BatchState::Claimed, _) => (
            "it was gathered and never signed".to_owned(),
            "run a gateway: it goes on from here".to_owned(),
        ),
        (BatchState::Included { block, .. }, _) => (
            format!("it is in block {block}, which is not final"),
            "finality stands still, or the node lags: look at `tollgate doctor`; nothing is lost".to_owned(),
        ),
        (_, Some((_, Submission::Accepted))) => (
            "a node has it, and no block".to_owned(),
            "the gateway raises its price up to chain.gas_price_cap_gwei; raise the cap if gas is dearer".to_owned(),
        ),
        (_, Some((_, Submission::NotSent))) => (
            "nodes refuse it".to_owned(),
            "look at the log for why: mostly the account has no BNB (`tollgate doctor`)".to_owned(),
        ),
        (_, Some((_, Submission::Underpriced))) => (
            "its price is too low".to_owned(),
            "raise chain.gas_price_cap_gwei".to_owned(),
        ),
        _ => (
            "it is signed, and whether a node has it is not known".to_owned(),
            "run a gateway: it sends the same bytes again".to_owned(),
        ),
    };
    Finding {
        kind: "undecided",
        what: format!(
            "batch {:032x} of {} items, nonce {}, for {}",
            batch.id.0,
            batch.items.len(),
            batch
                .nonce()
                .map_or("none".into(), |nonce| nonce.to_string()),
            ago(since)
        ),
        why,
        advice,
        waits: true,
    }
}

/// Counters that wait, debts and blocks.
async fn payers<S: Store>(
    setup: &Setup,
    store: &S,
    found: &mut Vec<Finding>,
) -> anyhow::Result<()> {
    let mut after = None;
    loop {
        let page = store.scan(RowKind::Spender, after, 1_000).await?;
        after = page.last().map(Row::key);
        if after.is_none() {
            break;
        }
        for row in page {
            let Row::Spender(row) = row else { continue };
            if let Limit::Counter(counter) = &row.limit
                && counter.halted
            {
                found.push(Finding {
                    kind: "counter",
                    what: format!(
                        "{} is owed by {}",
                        setup.show(row.key.owner.token, row.due),
                        row.key.owner.owner
                    ),
                    why: format!(
                        "a draw failed; {} batches behind it are to be decided first",
                        counter.undecided
                    ),
                    advice: "wait until they are: their nonces are above the failed one's".into(),
                    waits: counter.undecided > 0,
                });
            }
        }
    }
    let mut debts: BTreeMap<tollgate_x402::Address, Vec<String>> = BTreeMap::new();
    let mut after = None;
    loop {
        let page = store.scan(RowKind::Owner, after, 1_000).await?;
        after = page.last().map(Row::key);
        if after.is_none() {
            break;
        }
        for row in page {
            let Row::Owner(row) = row else { continue };
            if !row.lost.is_zero() {
                debts
                    .entry(row.key.owner)
                    .or_default()
                    .push(setup.show(row.key.token, row.lost));
            }
            if let Some(reason) = row.blocked {
                found.push(Finding {
                    kind: "blocked",
                    what: format!("{} is not served", row.key.owner),
                    why: reason,
                    advice: format!("`tollgate payer unblock {}` serves it again", row.key.owner),
                    waits: false,
                });
            }
        }
    }
    for (payer, amounts) in debts {
        found.push(Finding {
            kind: "debt",
            what: format!("{payer} owes {}", amounts.join(" and ")),
            why: "it made charges unpayable after it was served, and is served no more".into(),
            advice: format!("`tollgate payer show {payer}` has the payments; `payer forgive` takes it off, also with --paid-by"),
            waits: false,
        });
    }
    Ok(())
}
