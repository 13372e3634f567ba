//! A seller with all that it needs: a chain and a model server in threads of their own, and the real gateway as a
//! program of its own.

use std::{fs, net::TcpListener, path::Path, path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use tempfile::TempDir;
use tokio::process::Command;
use tollgate_contracts::tokens::USD1;
use tollgate_devchain::{BlockTime, DEV_ACCOUNTS, DEV_SETTLER, DevChain, Development, Genesis};
use tollgate_eip712::LocalWallet;
use tollgate_x402::{Address, U256};

use crate::{
    client::Client,
    mock::{self, Pace},
    payer::Payer,
    process::Program,
};

/// The time between blocks, BSC's.
pub(crate) const BLOCK: Duration = Duration::from_millis(450);

const OPERATOR: usize = 7;
const TREASURY: usize = 9;

/// How a seller is set up.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) pace: Pace,
    pub(crate) payers: u64,
    /// The section `[settlement]` of the configuration.
    pub(crate) settlement: &'static str,
}

/// The seller.
pub(crate) struct World {
    pub(crate) chain: DevChain,
    pub(crate) gateway: Program,
    pub(crate) client: Client,
    pub(crate) payers: Vec<Payer>,
    /// Where chats are sold.
    pub(crate) sale: String,
    /// Where the same chats are answered for nothing.
    pub(crate) upstream: String,
    treasury_before: U256,
    log: PathBuf,
    _directory: TempDir,
}

impl World {
    pub(crate) async fn start(
        setup: &Setup,
        program: &Path,
        directory: &Path,
    ) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir_in(directory)?;
        let wallets = (0..setup.payers)
            .map(wallet)
            .collect::<Result<Vec<_>, _>>()?;
        let mut who = Development::default();
        who.accounts
            .extend(wallets.iter().map(LocalWallet::address));
        let chain = in_a_thread("chain", async move || {
            let chain = DevChain::builder()
                .block_time(BlockTime::Interval(BLOCK))
                .genesis(Genesis::development(&who))
                .start()?;
            chain.serve(([127, 0, 0, 1], 0)).await?;
            Ok(chain)
        })?;
        let pace = setup.pace;
        let upstream = in_a_thread("model", async move || mock::serve(pace).await)?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let base = format!("http://127.0.0.1:{port}");
        let file = directory.path().join("tollgate.toml");
        let rpc = chain.rpc_url().context("the chain is not served")?;
        let ledger = directory.path().join("ledger.db");
        let settlement = setup.settlement;
        fs::write(
            &file,
            configuration(
                &base,
                &rpc,
                &format!("http://{upstream}/v1"),
                &ledger,
                settlement,
            ),
        )?;
        let log = directory.path().join("gateway.log");
        let mut command = Command::new(program);
        command
            .args(["serve", "--json", "--config"])
            .arg(&file)
            .env(
                "TOLLGATE_OPERATOR_KEY",
                DEV_ACCOUNTS[OPERATOR].private_key.to_string(),
            );
        let (gateway, _) = Program::start(command, &log).await?;

        let client = Client::new();
        let sale = format!("{base}/x402/v1");
        let mut payers = Vec::new();
        for wallet in wallets {
            payers.push(Payer::sign(&client, &sale, wallet).await?);
        }
        Ok(Self {
            treasury_before: chain.token_balance(USD1, treasury()).map_err(odd)?,
            chain,
            gateway,
            client,
            payers,
            sale,
            upstream: format!("http://{upstream}/v1/chat/completions"),
            log,
            _directory: directory,
        })
    }

    /// What the seller has received so far, in atomic units, by the head block.
    pub(crate) fn received(&self) -> anyhow::Result<U256> {
        let now = self.chain.token_balance(USD1, treasury()).map_err(odd)?;
        now.checked_sub(self.treasury_before)
            .context("the treasury lost money")
    }

    /// Waits until exactly this much has been received and is final, and checks that it stays so.
    pub(crate) async fn settled(&self, charged: U256) -> anyhow::Result<()> {
        let mut left = 600_u32;
        while self.received()? < charged && left > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            left -= 1;
        }
        // Past the finality of the last settlement: whatever else was sent has had its effect.
        let head = self.chain.head();
        while self.chain.finalized() < head + 2 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let received = self.received()?;
        ensure!(
            received == charged,
            "charged {charged} and settled {received} atomic units: they must be equal.\n{}",
            self.log()
        );
        Ok(())
    }

    /// The end of the gateway's log.
    pub(crate) fn log(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.len().saturating_sub(20);
        lines.get(last..).unwrap_or_default().join("\n")
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.gateway.stop().await?;
        self.chain.shutdown();
        Ok(())
    }
}

fn odd(error: impl std::fmt::Debug) -> anyhow::Error {
    anyhow::anyhow!("the chain cannot be read: {error:?}")
}

fn treasury() -> Address {
    DEV_ACCOUNTS[TREASURY].address
}

/// The wallet of a number. Everybody can make this key.
fn wallet(number: u64) -> anyhow::Result<LocalWallet> {
    let mut key = [0x42; 32];
    key[24..].copy_from_slice(&number.to_be_bytes());
    Ok(LocalWallet::from_bytes(&key)?)
}

/// Runs something with a runtime of its own, so that its work is on nobody else's threads. It lives as long as the
/// program.
fn in_a_thread<T, F>(name: &str, start: F) -> anyhow::Result<T>
where
    T: Clone + Send + 'static,
    F: AsyncFnOnce() -> anyhow::Result<T> + Send + 'static,
{
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let run = runtime.map(|runtime| {
                runtime.block_on(async {
                    let started = start().await;
                    let keep = started.as_ref().ok().cloned();
                    if send.send(started).is_ok() && keep.is_some() {
                        std::future::pending::<()>().await;
                    }
                });
            });
            drop(run);
        })?;
    receive.recv().context("a thread ended at its start")?
}

/// The payer's credit that is assumed: 100 dollars at once, 256 requests in flight, 10,000 dollars in all.
fn configuration(base: &str, rpc: &str, upstream: &str, ledger: &Path, settlement: &str) -> String {
    let listen = base.trim_start_matches("http://");
    format!(
        r#"listen = "{listen}"
public_url = "{base}"

[chain]
id = 31337
rpc = ["{rpc}"]

[seller]
operator_key = "$TOLLGATE_OPERATOR_KEY"
settler = "{DEV_SETTLER}"

[[token]]
symbol = "USD1"

[credit]
floor_usd = "100"
ceiling_usd = "100"
in_flight = 256
in_flight_proven = 256
exposure_usd = "10000"

[settlement]
{settlement}

[ledger]
id = "0x0000000000000000000000000000000000000000000000000000000000000000"
path = "{ledger}"

[[upstream]]
name = "mock"
url = "{upstream}"

[[model]]
name = "mock"
upstream = "mock"
input_usd_per_million = "5"
output_usd_per_million = "25"
max_output_tokens = 32
"#,
        ledger = ledger.display(),
    )
}
