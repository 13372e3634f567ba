//! `tollgate facilitator`: x402's facilitator.

mod config;
mod listen;
mod open;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use tokio::net::TcpListener;

pub(crate) use self::config::FacilitatorConfig;
use self::{config::FacilitatorPlan, open::Open};
use crate::{
    config::Source,
    dev::{DevOptions, DevWorld},
    serve::{bind, shutdown},
};

/// Run a facilitator: verify other sellers' x402 payments and settle them.
///
/// With --config it serves the callers that the file names. With --dev it serves anybody over a chain inside this
/// program, for trying sellers out: nothing there is worth anything. It holds nobody's money: what was signed goes from
/// the payer to the payee. It spends gas.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(crate) struct Facilitator {
    /// The configuration file (docs/facilitator.md names every key)
    #[arg(long, group = "what", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Serve anybody over a chain inside this program
    #[arg(long, group = "what")]
    dev: bool,
    /// With --dev: where the facilitator listens
    #[arg(
        long,
        requires = "dev",
        default_value = "127.0.0.1:8403",
        value_name = "ADDRESS:PORT"
    )]
    listen: SocketAddr,
    /// With --dev: where the chain's JSON-RPC is served
    #[arg(
        long,
        requires = "dev",
        default_value = "127.0.0.1:8545",
        value_name = "ADDRESS:PORT"
    )]
    rpc_listen: SocketAddr,
    /// Print one line of JSON when ready, instead of an explanation
    #[arg(long)]
    json: bool,
}

impl Facilitator {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match &self.config {
            Some(file) => {
                let text = std::fs::read_to_string(file).with_context(|| {
                    format!(
                        "{} cannot be read (docs/facilitator.md has an example)",
                        file.display()
                    )
                })?;
                let source = Source::new(file.display().to_string(), text);
                let config: FacilitatorConfig = source.parse_as()?;
                let environment = std::env::vars().collect();
                let plan = FacilitatorPlan::of(&config, &source, &environment)?;
                let listener = bind(plan.listen).await?;
                self.serve(plan, listener, None).await
            }
            None => {
                let options = DevOptions {
                    chain_id: 31337,
                    rpc_listen: self.rpc_listen,
                    block_time: Duration::from_millis(450),
                };
                let world = DevWorld::start(&options).await?;
                let listener = bind(self.listen).await?;
                let plan = FacilitatorPlan::development(&world, listener.local_addr()?)?;
                self.serve(plan, listener, Some(world)).await
            }
        }
    }

    async fn serve(
        &self,
        plan: FacilitatorPlan,
        listener: TcpListener,
        world: Option<DevWorld>,
    ) -> anyhow::Result<ExitCode> {
        let open = Open::new(&plan).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let stop = shutdown();
        if self.json {
            let line = serde_json::json!({
                "facilitator": url,
                // A configured node's URL may hold a key.
                "rpc": world.as_ref().map(DevWorld::rpc_url),
                "chainId": plan.chain.id.0,
                "operator": plan.operator.address(),
            });
            say!("{line}");
        } else {
            introduce(&plan, &url, world.as_ref())?;
        }
        listen::serve(
            listener,
            open.service.clone(),
            plan.connections,
            plan.drain,
            stop,
        )
        .await;
        open.close().await;
        if !self.json {
            say!("Stopped. What is not settled yet stays in the ledger.");
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn introduce(plan: &FacilitatorPlan, url: &str, world: Option<&DevWorld>) -> anyhow::Result<()> {
    say!(
        "tollgate facilitates at {url} on chain {}: POST /verify, POST /settle, GET /supported, GET /health",
        plan.chain.id
    );
    say!(
        "  settles from {} (the facilitatorAddress of upto payments)",
        plan.operator.address()
    );
    for token in &plan.tokens {
        say!("  settles      {} at {}", token.symbol, token.address);
    }
    for caller in &plan.callers {
        let payees = caller.pay_to.as_ref().map_or_else(
            || "anyone".to_owned(),
            |payees| format!("{} payees", payees.len()),
        );
        say!("  serves       {}, for {payees}", caller.name);
    }
    if let Some(world) = world {
        say!("\n{}", world.introduction()?);
        say!("No key is asked for. Try it: curl {url}/supported\n");
    }
    say!("Stop it with Ctrl-C.");
    Ok(())
}
