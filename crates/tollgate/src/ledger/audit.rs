//! `tollgate ledger audit`.

use std::process::ExitCode;

use serde_json::{Value, json};
use tollgate_engine::{AuditReport as Report, Invariant, audit, audit_chain};

use crate::ops::{Copied, Setup, Where};

/// Recompute everything that must hold.
///
/// From the ledger alone: the double-entry book; what is held, due and lost of each payer and spender; the bound on
/// everything unsettled; the counters' intervals; batches and the payments that they claim; accounts' nonces; one payment
/// for each authorization. With --chain: every final payment has its transfer in a finalized block; what was earned for
/// good is what was moved, to the unit; counters and nonces are the chain's; the Settler moved nothing else.
///
/// Exit code 1 if anything is violated.
#[derive(clap::Args)]
pub(crate) struct Audit {
    #[command(flatten)]
    at: Where,
    /// Hold the books against the chain too
    #[arg(long)]
    chain: bool,
    /// With --chain: the block from which the Settler's events are searched. Default: that of the first final payment
    #[arg(long, requires = "chain", value_name = "BLOCK")]
    from_block: Option<u64>,
}

impl Audit {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let setup = Setup::read(&self.at.config)?;
        let copied = setup.read_ledger().await?;
        let mut report = self.look(&setup, &copied).await?;
        if !report.holds() && self.chain {
            // The chain went on after the copy was made: what a second look does not see was only late.
            let again = setup.read_ledger().await?;
            report = self.look(&setup, &again).await?.also_in(&report);
        }
        if self.at.json {
            say!("{:#}", as_json(&report));
        } else {
            print(&report);
        }
        Ok(if report.holds() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    async fn look(&self, setup: &Setup, copied: &Copied) -> anyhow::Result<Report> {
        let mut report = audit(&copied.store).await?;
        if self.chain {
            let chain = setup.connect().await?;
            let receivers = setup.receivers(&chain, &copied.store).await?;
            let markets = setup.markets(&receivers)?;
            let found = audit_chain(&copied.store, &chain, &markets, self.from_block).await?;
            report.invariants.extend(found.invariants);
        }
        Ok(report)
    }
}

fn print(report: &Report) {
    let shown = report.to_string();
    say!("{}", shown.trim_end());
    let violated = report
        .invariants
        .iter()
        .filter(|invariant| !invariant.holds())
        .count();
    if violated == 0 {
        say!("\nAll {} invariants hold.", report.invariants.len());
    } else {
        say!(
            "\n{violated} of {} invariants are VIOLATED. Stop selling until it is known why; docs/operating.md says where to look.",
            report.invariants.len()
        );
    }
}

/// The report for programs.
pub(super) fn as_json(report: &Report) -> Value {
    let invariant = |invariant: &Invariant| {
        json!({
            "name": invariant.name,
            "promise": invariant.promise,
            "holds": invariant.holds(),
            "checked": invariant.checked,
            "violations": invariant.violations,
            "more": invariant.more,
            "skipped": invariant.skipped,
        })
    };
    json!({
        "holds": report.holds(),
        "invariants": report.invariants.iter().map(invariant).collect::<Vec<_>>(),
    })
}
