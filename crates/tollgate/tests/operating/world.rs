//! A chain, a configuration, and the program.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;
use tollgate_bsc::{BlockTag, Call, Chain, ChainConfig, Submission, TxReceipt};
use tollgate_contracts::tokens::USD1;
use tollgate_devchain::{BlockTime, DEV_ACCOUNTS, DEV_SETTLER, DevChain, Development, Genesis};
use tollgate_eip712::{LocalWallet, Wallet};
use tollgate_x402::{Address, B256, Bytes, ChainId, U256};

pub(crate) const OPERATOR: usize = 7;
pub(crate) const ADMIN: usize = 8;
pub(crate) const TREASURY: usize = 9;

/// How long anything may take here.
const PATIENCE: Duration = Duration::from_secs(90);

/// A chain of this test's own, a ledger, and how to run the program on them.
pub(crate) struct World {
    pub(crate) chain: DevChain,
    pub(crate) directory: TempDir,
    _runtime: tokio::runtime::Runtime,
}

/// A gateway that is killed when it is dropped.
pub(crate) struct Gateway {
    child: Child,
    url: String,
    rpc: String,
}

impl World {
    /// `settlement` is the table of that name.
    pub(crate) fn new(settlement: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let entered = runtime.enter();
        let chain = DevChain::builder()
            .block_time(BlockTime::Interval(Duration::from_millis(100)))
            .genesis(Genesis::development(&Development {
                ledger_id: B256::repeat_byte(0x1d),
                ..Development::default()
            }))
            .start()
            .unwrap();
        runtime.block_on(chain.serve(([127, 0, 0, 1], 0))).unwrap();
        drop(entered);
        let directory = tempfile::tempdir().unwrap();
        let world = Self {
            chain,
            directory,
            _runtime: runtime,
        };
        let config = format!(
            r#"
listen = "127.0.0.1:0"
public_url = "http://127.0.0.1:1"

[chain]
id = 31337
rpc = ["{rpc}"]
block_time_ms = 100

[seller]
operator_key = "$OPERATOR_KEY"
settler = "{DEV_SETTLER}"

[[token]]
symbol = "USD1"

[settlement]
{settlement}

[ledger]
path = "{ledger}"
id = "{id}"

[[model]]
name = "tollgate/echo"
upstream = "echo"
input_usd_per_million = "50"
output_usd_per_million = "250"
max_output_tokens = 64
"#,
            rpc = world.chain.rpc_url().unwrap(),
            ledger = world.ledger().display(),
            id = B256::repeat_byte(0x1d),
        );
        std::fs::write(world.config(), config).unwrap();
        world
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.directory.path().join("tollgate.toml")
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.directory.path().join("ledger.db")
    }

    /// A command for operators. They need no key.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        tollgate()
            .args(arguments)
            .arg("--config")
            .arg(self.config())
            .output()
            .unwrap()
    }

    /// The same, as JSON, and whether it succeeded.
    pub(crate) fn json(&self, arguments: &[&str]) -> (bool, Value) {
        let mut all = arguments.to_vec();
        all.push("--json");
        let output = self.run(&all);
        let value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!(
                "{arguments:?}: {error}: {}\n{}",
                text(&output.stdout),
                text(&output.stderr)
            )
        });
        (output.status.success(), value)
    }

    /// Starts a gateway with the key of this account.
    pub(crate) fn serve(&self, operator: usize) -> Gateway {
        self.serve_with(&[("OPERATOR_KEY", &key(operator))])
    }

    /// Starts a gateway with these secrets.
    pub(crate) fn serve_with(&self, secrets: &[(&str, &str)]) -> Gateway {
        // Port 0 is free at the start, and its number is in no configuration: it is taken from the system first.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let url = format!("http://127.0.0.1:{port}");
        let config = std::fs::read_to_string(self.config()).unwrap();
        let lines: Vec<String> = config
            .lines()
            .map(|line| match line.split(" = ").next() {
                Some("listen") => format!("listen = \"127.0.0.1:{port}\""),
                Some("public_url") => format!("public_url = \"{url}\""),
                _ => line.to_owned(),
            })
            .collect();
        std::fs::write(self.config(), lines.join("\n")).unwrap();
        let mut child = tollgate()
            .args(["serve", "--json", "--config"])
            .arg(self.config())
            .envs(secrets.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        ready(&mut child);
        Gateway {
            child,
            url,
            rpc: self.chain.rpc_url().unwrap(),
        }
    }

    /// What the treasury has received.
    pub(crate) fn received(&self) -> U256 {
        let treasury = DEV_ACCOUNTS[TREASURY].address;
        self.balance(treasury) - Development::default().tokens
    }

    pub(crate) fn balance(&self, who: Address) -> U256 {
        self.chain.token_balance(USD1, who).unwrap()
    }

    /// What the chain has of a transaction.
    pub(crate) fn receipt(&self, hash: B256) -> Option<TxReceipt> {
        self.on_chain(async |chain| chain.receipt(hash).await.unwrap())
    }

    /// Asks the chain as any client would.
    fn on_chain<T>(&self, ask: impl AsyncFnOnce(Chain) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let config = ChainConfig::new(ChainId::DEV, [self.chain.rpc_url().unwrap()]);
        runtime.block_on(async { ask(Chain::connect(config).await.unwrap()).await })
    }

    /// What the book has received, from the export.
    pub(crate) fn booked(&self) -> U256 {
        let (good, book) = self.json(&["ledger", "export"]);
        assert!(good);
        let sums = book["sums"].as_array().unwrap();
        let number =
            |sum: &Value, side: &str| -> U256 { sum[side].as_str().unwrap().parse().unwrap() };
        sums.iter()
            .filter(|sum| sum["account"] == "treasury")
            .map(|sum| number(sum, "debit") - number(sum, "credit"))
            .sum()
    }

    /// Waits until a payer's row says so.
    pub(crate) fn wait_for_payer(&self, payer: usize, what: &str, good: impl Fn(&Value) -> bool) {
        let payer = DEV_ACCOUNTS[payer].address.to_string();
        let mut last = Value::Null;
        self.wait(what, || {
            last = self.json(&["payer", "show", &payer]).1["tokens"][0].take();
            !last.is_null() && good(&last)
        });
    }

    /// Waits until everything that a payer was charged is final.
    pub(crate) fn wait_until_paid(&self, payer: usize) {
        self.wait_for_payer(payer, "everything is final", |row| {
            row["due"] == "0" && row["held"] == "0"
        });
    }

    pub(crate) fn wait(&self, what: &str, mut good: impl FnMut() -> bool) {
        let began = Instant::now();
        while !good() {
            assert!(began.elapsed() < PATIENCE, "not in {PATIENCE:?}: {what}");
            std::thread::park_timeout(Duration::from_millis(200));
        }
    }

    /// Sends a transaction of an account, and waits until it is final.
    pub(crate) fn send(&self, account: usize, to: Address, input: Bytes) -> B256 {
        self.on_chain(async |chain| {
            let wallet = LocalWallet::from_bytes(&DEV_ACCOUNTS[account].private_key.0).unwrap();
            let nonce = chain
                .transaction_count(wallet.address(), BlockTag::Pending)
                .await
                .unwrap();
            let call = Call {
                to,
                gas_limit: 200_000,
                input,
            };
            let transaction = call.into_transaction(ChainId::DEV, nonce, 1_000_000_000);
            let signature = wallet.sign_hash(&transaction.signing_hash()).await.unwrap();
            let raw = transaction.into_raw(&signature);
            assert_eq!(chain.submit(&raw.raw).await, Submission::Accepted);
            let within = Duration::from_secs(30);
            assert!(chain.finalized(raw.hash, within).await.unwrap().is_some());
            raw.hash
        })
    }
}

impl Gateway {
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn chat(&self, payer: usize, prompt: &str) -> Output {
        self.chat_with(payer, prompt, &[])
    }

    pub(crate) fn chat_with(&self, payer: usize, prompt: &str, arguments: &[&str]) -> Output {
        tollgate()
            .args(["chat", prompt, "--json", "--chain-id", "31337"])
            .args(["--gateway", &self.url, "--rpc", &self.rpc])
            .args(arguments)
            .env("TOLLGATE_KEY", key(payer))
            .output()
            .unwrap()
    }

    /// Asks, and is answered.
    pub(crate) fn sell(&self, payer: usize, prompt: &str) {
        let output = self.chat(payer, prompt);
        assert!(
            output.status.success(),
            "{}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
    }

    /// Ends it as an operator does.
    pub(crate) fn stop(mut self) {
        let id = self.child.id().to_string();
        let killed = Command::new("kill").args(["-TERM", &id]).status();
        assert!(killed.unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a program says when it is ready.
pub(crate) fn ready(child: &mut Child) -> Value {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    let ready: Value = serde_json::from_str(&line).expect("it is ready");
    assert_eq!(ready["chainId"], 31337);
    ready
}

pub(crate) fn tollgate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command
        .env_remove("TOLLGATE_KEY")
        .env_remove("TOLLGATE_LOG")
        .env_remove("OPERATOR_KEY")
        .stdin(Stdio::null());
    command
}

pub(crate) fn key(account: usize) -> String {
    DEV_ACCOUNTS[account].private_key.to_string()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
