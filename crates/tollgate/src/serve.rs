//! `tollgate serve`: the gateway.

use std::{
    collections::BTreeMap, net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration,
};

use anyhow::Context;
use tokio::net::TcpListener;
use tollgate_gateway::ServeConfig;
use tollgate_price::amount_to_dollars;
use tollgate_x402::ChainId;

use crate::{
    config::Source,
    dev::{DevOptions, DevWorld},
    plan::{Plan, Settling},
    seller::Seller,
};

/// Run a gateway.
///
/// With --config it sells what the file says. With --dev it sells the built-in echo engine over a chain inside this
/// program, for trying clients out: nothing there is worth anything. SIGTERM and Ctrl-C end it gracefully: streams
/// finish, charges are committed, settlements stay recorded.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(crate) struct Serve {
    /// The configuration file (docs/configuration.md names every key)
    #[arg(long, group = "what", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sell the echo engine over a chain inside this program
    #[arg(long, group = "what")]
    dev: bool,
    /// With --dev: where the gateway listens
    #[arg(
        long,
        requires = "dev",
        default_value = "127.0.0.1:8402",
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
    /// With --dev: the chain id, 31337 or 56. With 56, which is BSC's, all keys are made for this run: what they sign is
    /// good there too
    #[arg(
        long,
        requires = "dev",
        default_value = "31337",
        value_parser = chain_to_sell_on,
        value_name = "ID"
    )]
    chain_id: u64,
    /// Print one line of JSON when ready, instead of an explanation
    #[arg(long)]
    json: bool,
}

impl Serve {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match &self.config {
            Some(file) => {
                let plan = read(file)?;
                let listener = bind(plan.listen).await?;
                self.sell(plan, listener, None).await
            }
            None => {
                let options = DevOptions {
                    chain_id: self.chain_id,
                    rpc_listen: self.rpc_listen,
                    block_time: Duration::from_millis(450),
                };
                let world = DevWorld::start(&options).await?;
                let listener = bind(self.listen).await?;
                let listen = listener.local_addr()?;
                let plan = world.plan(listen, format!("http://{listen}"))?;
                self.sell(plan, listener, Some(world)).await
            }
        }
    }

    async fn sell(
        &self,
        plan: Plan,
        listener: TcpListener,
        world: Option<DevWorld>,
    ) -> anyhow::Result<ExitCode> {
        let listen = listener.local_addr()?;
        let seller = Seller::open(&plan).await?;
        let stop = shutdown();
        if self.json {
            say!("{}", ready_line(&plan, listen, &seller, world.as_ref()));
        } else {
            introduce(&plan, &seller, world.as_ref())?;
        }
        let mut config = ServeConfig::default();
        config.connections = plan.connections;
        config.connections_per_address = plan
            .connections_per_address
            .map(std::num::NonZeroUsize::get);
        config.drain = plan.drain;
        #[cfg(unix)]
        let admin = hear(&plan, &seller);
        let drained = tollgate_gateway::serve(listener, seller.gateway.clone(), config, stop).await;
        #[cfg(unix)]
        drop(admin);
        seller.close().await;
        if !self.json {
            say!(
                "Stopped. {} requests were open and have ended; what is due stays in the ledger.",
                drained.open
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Listens for the operator, beside the ledger's file. A gateway sells without it too; a database needs no such way.
#[cfg(unix)]
fn hear(plan: &Plan, seller: &Seller) -> Option<crate::admin::Admin> {
    if plan.ledger.shared.is_some() {
        return None;
    }
    crate::admin::Admin::start(&plan.ledger.path, seller.store.clone())
        .inspect_err(|error| tracing::warn!(%error, "`tollgate payer` cannot change anything while this gateway runs"))
        .ok()
}

/// A chain id with a token that a gateway can ask for.
fn chain_to_sell_on(id: &str) -> Result<u64, &'static str> {
    match id {
        "31337" => Ok(31337),
        "56" => Ok(56),
        _ => Err(
            "a gateway knows the tokens of 31337 and 56 only; tollgate devchain takes other ids",
        ),
    }
}

/// Reads a configuration file.
fn read(file: &PathBuf) -> anyhow::Result<Plan> {
    let text = std::fs::read_to_string(file).with_context(|| {
        format!(
            "{} cannot be read (docs/configuration.md has an example)",
            file.display()
        )
    })?;
    let source = Source::new(file.display().to_string(), text);
    let environment: BTreeMap<String, String> = std::env::vars().collect();
    Ok(Plan::of(source.parse()?, &source, &environment)?)
}

pub(crate) async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("{address} cannot be listened on; is something else running there?")
    })
}

fn ready_line(
    plan: &Plan,
    listen: SocketAddr,
    seller: &Seller,
    world: Option<&DevWorld>,
) -> String {
    serde_json::json!({
        "gateway": plan.public_url,
        // Where it listens, with the port that was taken.
        "listen": listen.to_string(),
        // A configured node's URL may hold a key.
        "rpc": world.map(DevWorld::rpc_url),
        "chainId": plan.chain.id.0,
        "payTo": seller.pay_to,
        "treasury": seller.treasury,
        "operator": match &plan.settling {
            Settling::Own(own) => Some(own.operator.address()),
            Settling::Remote(..) => None,
        },
        "models": plan.models.iter().map(|model| model.name.as_str()).collect::<Vec<_>>(),
    })
    .to_string()
}

fn introduce(plan: &Plan, seller: &Seller, world: Option<&DevWorld>) -> anyhow::Result<()> {
    say!(
        "tollgate sells at {}/x402/v1 on chain {}",
        plan.public_url,
        plan.chain.id
    );
    let (pay_to, treasury) = (seller.pay_to, seller.treasury);
    match &plan.settling {
        Settling::Own(own) if own.settler.is_some() => {
            say!("  paid to   {pay_to} (a Settler, which pays on to its treasury {treasury})");
        }
        Settling::Own(_) if pay_to != treasury => {
            say!("  paid to   {pay_to} (a plain account, which pays on to {treasury})");
        }
        Settling::Own(_) => say!("  paid to   {pay_to} (a plain account)"),
        Settling::Remote(remote, _) => {
            say!(
                "  paid to   {pay_to}, settled by the facilitator {}",
                remote.url
            );
        }
    }
    for token in &plan.tokens {
        let amount = amount_to_dollars(token.amount, token.info.decimals);
        say!(
            "  takes     {} at {}, signed up to {amount} a time",
            token.info.symbol,
            token.info.address
        );
    }
    for model in &plan.models {
        say!(
            "  sells     {}: {} in, {} out, in USD a million tokens",
            model.name,
            model.rates.input,
            model.rates.output
        );
    }
    if seller.recovered > 0 {
        say!(
            "  recovered {} payments of a run that died",
            seller.recovered
        );
    }
    if let Some(world) = world {
        say!("\n{}", world.introduction()?);
        let key = world
            .keys
            .first()
            .context("the development world has ten accounts")?;
        say!("Pay it from another terminal:\n");
        let program = std::env::args()
            .next()
            .unwrap_or_else(|| "tollgate".to_owned());
        let mut command = format!("{program} chat \"Hello\" --gateway {}", plan.public_url);
        if world.rpc.port() != 8545 || world.chain_id != ChainId::DEV {
            command.push_str(&format!(
                " --chain-id {} --rpc {}",
                world.chain_id,
                world.rpc_url()
            ));
        }
        say!("  TOLLGATE_KEY={key} \\");
        say!("    {command}\n");
    }
    say!("Stop it with Ctrl-C: streams finish first.");
    Ok(())
}

/// Resolves at SIGTERM or Ctrl-C. They are heard from the call on, not from the first poll: a program that has said that it
/// is ready can be ended in good order.
pub(crate) fn shutdown() -> impl Future<Output = ()> + Send + 'static {
    #[cfg(unix)]
    let terminate = {
        use tokio::signal::unix::{SignalKind, signal};
        (
            signal(SignalKind::terminate()),
            signal(SignalKind::interrupt()),
        )
    };
    async move {
        #[cfg(unix)]
        if let (Ok(mut terminate), Ok(mut interrupt)) = terminate {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
        // Without a handler the program is ended by the signal itself.
        let _ = tokio::signal::ctrl_c().await;
    }
}
