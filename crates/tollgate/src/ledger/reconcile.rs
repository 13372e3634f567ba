//! `tollgate ledger reconcile`.

use std::process::ExitCode;

use anyhow::bail;
use serde_json::{Value, json};
use tollgate_engine::{Movement, ReconcileConfig, Reconciled, audit, audit_chain, reconcile};
use tollgate_ledger::Store;
use tollgate_payment::SignerKey;

use crate::ops::{Setup, Table, Where};

/// Learn from the chain what the ledger missed: after an old backup was restored, or the disk lost what was acknowledged.
///
/// The settlements since a block are searched on the finalized chain. What the ledger has open and the chain shows paid
/// becomes final; what the ledger has never seen is booked as unknown to it; the account's next nonce becomes the chain's,
/// and a halt is lifted. Then the audit runs, against the chain too. Nothing is sent, and nobody is charged anew.
///
/// Stop the gateway first. The node must offer eth_getLogs for these blocks. An earlier block is slower and never wrong.
#[derive(clap::Args)]
pub(crate) struct Reconcile {
    #[command(flatten)]
    at: Where,
    /// The first block to search: at or before the moment of the backup
    #[arg(long, value_name = "BLOCK")]
    from_block: u64,
    /// Work on a copy, and say what would be booked
    #[arg(long)]
    dry_run: bool,
}

impl Reconcile {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let setup = Setup::read(&self.at.config)?;
        if let Some((remote, _)) = &setup.remote {
            bail!(
                "a facilitator settles ({}), and its requests are not numbered by the chain: there is nothing to reconcile. Start the gateway: what is open is asked for again, and what the chain shows paid is found there",
                remote.url
            );
        }
        if self.dry_run {
            let copied = setup.copy()?;
            return self.go(&setup, &copied.store).await;
        }
        match setup.open().await? {
            Ok(store) => self.go(&setup, &store).await,
            Err(holder) => bail!(
                "a {} has the ledger open{}: stop it first; --dry-run works meanwhile",
                setup.whose.name(),
                holder.map_or_else(String::new, |id| format!(" (process {id})"))
            ),
        }
    }

    async fn go<S: Store>(&self, setup: &Setup, store: &S) -> anyhow::Result<ExitCode> {
        let chain = setup.connect().await?;
        let receivers = setup.receivers(&chain, store).await?;
        let markets = setup.markets(&receivers)?;
        let config = ReconcileConfig {
            signer: SignerKey {
                chain: setup.chain.id,
                operator: setup.signer(store).await?,
            },
            from_block: self.from_block,
            holder: rand::random(),
            // A file has one owner; of a database, gateways that live keep the account.
            sole: setup.ledger.shared.is_none(),
        };
        let found = reconcile(store, &chain, &markets, &config).await?;
        let mut report = audit(store).await?;
        let on_chain = audit_chain(store, &chain, &markets, Some(self.from_block)).await?;
        report.invariants.extend(on_chain.invariants);
        if self.at.json {
            let mut facts = as_json(&found);
            if let Some(facts) = facts.as_object_mut() {
                facts.insert("dryRun".into(), self.dry_run.into());
                facts.insert("audit".into(), super::audit::as_json(&report));
            }
            say!("{facts:#}");
        } else {
            print(setup, &found);
            if report.holds() {
                say!("The audit holds, against the chain too.");
            } else {
                say!("\n{report}");
            }
            if self.dry_run {
                say!("This was a dry run on a copy: the ledger is as it was.");
            }
        }
        Ok(if report.holds() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

fn print(setup: &Setup, found: &Reconciled) {
    say!(
        "Searched the finalized blocks {} to {}.",
        found.blocks.start(),
        found.blocks.end()
    );
    if found.nothing() {
        say!("The ledger knew everything.");
    }
    for (title, movements) in [
        ("Paid, and open in the ledger:", &found.settled),
        ("Paid, and unknown to this ledger:", &found.unknown),
    ] {
        if movements.is_empty() {
            continue;
        }
        say!("\n{title}");
        let mut table = Table::new(&["payer", "amount", "block", "transaction", "payment"]);
        for movement in movements {
            table.row(vec![
                movement.owner.owner.to_string(),
                setup.show(movement.owner.token, movement.amount),
                movement.block.to_string(),
                movement.transaction.to_string(),
                movement.payment.to_string(),
            ]);
        }
        say!("{}", table.to_string().trim_end());
    }
    if !found.dissolved.is_empty() {
        say!(
            "{} batches that the chain has decided were dissolved.",
            found.dissolved.len()
        );
    }
    if !found.released.is_empty() {
        say!(
            "{} payments were being served when the backup was made: what they were charged since is among what is unknown.",
            found.released.len()
        );
    }
    if !found.transactions.is_empty() {
        say!(
            "{} transactions of the account were unknown to this ledger.",
            found.transactions.len()
        );
    }
    let before = found
        .nonce
        .0
        .map_or("unknown".to_owned(), |nonce| nonce.to_string());
    say!(
        "The account's next nonce is {} (was {before}).",
        found.nonce.1
    );
    if let Some(reason) = &found.halt {
        say!("Its halt is lifted ({reason}).");
    }
    for doubt in &found.doubts {
        say!("Look at this: {doubt}");
    }
}

fn as_json(found: &Reconciled) -> Value {
    let movement = |movement: &Movement| {
        json!({
            "payment": movement.payment,
            "payer": movement.owner.owner,
            "token": movement.owner.token,
            "amount": movement.amount,
            "transaction": movement.transaction,
            "block": movement.block,
        })
    };
    json!({
        "fromBlock": found.blocks.start(),
        "toBlock": found.blocks.end(),
        "settled": found.settled.iter().map(movement).collect::<Vec<_>>(),
        "unknown": found.unknown.iter().map(movement).collect::<Vec<_>>(),
        "dissolved": found.dissolved.iter().map(|batch| format!("{:032x}", batch.0)).collect::<Vec<_>>(),
        "released": found.released,
        "transactions": found.transactions,
        "nonceBefore": found.nonce.0,
        "nonce": found.nonce.1,
        "halt": found.halt,
        "doubts": found.doubts,
    })
}
