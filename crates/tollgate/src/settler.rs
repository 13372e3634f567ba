//! `tollgate settler`: the contract that is paid.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use clap::Subcommand;
use serde_json::json;
use tollgate_bsc::{
    BlockTag, Call, CallRequest, Chain, Outcome, RawTransaction, SettlerTerms, Submission,
    check_settler, check_token,
};
use tollgate_contracts::{addresses::CREATE2_DEPLOYER, settler};
use tollgate_eip712::{LocalWallet, Wallet};
use tollgate_ledger::Store;
use tollgate_price::amount_to_dollars;
use tollgate_x402::{Address, Amount, B256, Bytes, U256};

use crate::ops::{Setup, Where};

/// The contract that is paid.
#[derive(clap::Args)]
pub(crate) struct Settler {
    #[command(subcommand)]
    command: Command,
}

// What each is for stands with its own type.
#[derive(Subcommand)]
enum Command {
    Deploy(Deploy),
}

impl Settler {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Deploy(command) => command.run().await,
        }
    }
}

/// Deploy a Settler, for the chain, the ledger and the operator of a configuration.
///
/// Without --send nothing is sent: chain, arguments, code hash, gas and address are printed, and the deployment is simulated.
/// The address follows from the arguments alone (CREATE2), so it is the same at every run, and whoever sends it: a second run
/// with the same arguments finds the first one's contract. With --send it is sent, waited for until it is final, and what
/// stands there is held against what was meant; then the lines for the configuration are printed.
///
/// The deployer has no rights in the contract: any account with some BNB will do. The contract is unaudited.
///
/// Exit codes: 0 it would be deployed, or it is; 1 something is in the way; 2 the arguments are wrong.
#[derive(clap::Args)]
struct Deploy {
    #[command(flatten)]
    at: Where,
    /// Where all money goes, for ever: an account that you control and that no token freezes
    #[arg(long, value_name = "ADDRESS", value_parser = crate::ops::parse_address)]
    treasury: Address,
    /// Who may name operators: the address of a cold key
    #[arg(long, value_name = "ADDRESS", value_parser = crate::ops::parse_address)]
    admin: Address,
    /// Who may settle; may be given several times. Default: the account of seller.operator_key
    #[arg(long = "operator", value_name = "ADDRESS", value_parser = crate::ops::parse_address)]
    operators: Vec<Address>,
    /// The ledger that it counts for. Default: ledger.id, or that of the ledger if there is one, or a random one
    #[arg(long, value_name = "ID")]
    ledger_id: Option<B256>,
    /// The environment variable that holds the deployer's private key
    #[arg(long, default_value = "TOLLGATE_DEPLOYER_KEY", value_name = "NAME")]
    key_env: String,
    /// Send it
    #[arg(long)]
    send: bool,
}

/// How long it may take until it is final.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is to be deployed.
struct Made {
    ledger_id: B256,
    /// Whether the id was drawn by this run.
    drawn: bool,
    operators: Vec<Address>,
    /// What calls the CREATE2 deployer.
    data: Bytes,
    address: Address,
    code_hash: B256,
}

/// What sending costs.
struct Cost {
    gas: u64,
    price: u128,
}

impl Cost {
    fn wei(&self) -> U256 {
        U256::from(self.gas).saturating_mul(U256::from(self.price))
    }
}

impl Deploy {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let setup = Setup::read(&self.at.config)?;
        if let Some((remote, _)) = &setup.remote {
            bail!(
                "the facilitator {} settles, by payments that no Settler takes part in: a Settler is for an operator of your own",
                remote.url
            );
        }
        let made = self.made(&setup).await?;
        let deployer = self.deployer()?;
        if self.send && made.drawn {
            bail!(
                "nothing names the ledger that it is to count for: write ledger.id = \"{}\" into the configuration (it is random), and run this again",
                made.ledger_id
            );
        }
        let chain = setup.connect().await?;
        self.receivers(&setup, &chain).await?;
        if !chain.code(made.address).await?.is_empty() {
            self.hold(&chain, &made).await?;
            self.tell(&setup, &made, deployer.as_ref(), None, "deployed", None);
            return Ok(ExitCode::SUCCESS);
        }
        let cost = simulated(&setup, &chain, &made, deployer.as_ref()).await?;
        if !self.send {
            self.tell(
                &setup,
                &made,
                deployer.as_ref(),
                Some(&cost),
                "dry run",
                None,
            );
            return Ok(ExitCode::SUCCESS);
        }
        let Some(deployer) = deployer else {
            bail!(
                "put the deployer's private key into the environment variable {}, or name another with --key-env",
                self.key_env
            );
        };
        let hash = send(&chain, &made, &deployer, &cost).await?;
        self.hold(&chain, &made).await?;
        let state = "deployed";
        self.tell(
            &setup,
            &made,
            Some(&deployer),
            Some(&cost),
            state,
            Some(hash),
        );
        Ok(ExitCode::SUCCESS)
    }

    /// What is to be deployed, by the arguments and the configuration.
    async fn made(&self, setup: &Setup) -> anyhow::Result<Made> {
        let mut operators = self.operators.clone();
        if operators.is_empty() {
            operators.extend(setup.operator);
        }
        if operators.is_empty() {
            bail!(
                "name who may settle: set the variable that seller.operator_key names, or give --operator"
            );
        }
        for who in operators.iter().chain([&self.treasury, &self.admin]) {
            if who.is_zero() {
                bail!("the address 0 is nobody's");
            }
        }
        if operators.contains(&self.admin) {
            bail!(
                "{} is to be admin and operator: whoever steals the operator's key could then name others; give the admin a key of its own, kept elsewhere",
                self.admin
            );
        }
        let exists = setup.ledger.shared.is_some() || setup.ledger.path.exists();
        let (ledger_id, drawn) = match self.ledger_id.or(setup.ledger.id) {
            Some(id) => (id, false),
            None if exists => (setup.read_ledger().await?.store.ledger_id(), false),
            None => (B256::from(rand::random::<[u8; 32]>()), true),
        };
        let code = settler::init_code(ledger_id, self.treasury, self.admin, &operators);
        // The ledger's id is in the code already; as the salt it needs no telling.
        let data = [ledger_id.as_slice(), &code].concat().into();
        Ok(Made {
            address: settler::create2_address(ledger_id, &code),
            code_hash: settler::runtime_hash(ledger_id, self.treasury),
            ledger_id,
            drawn,
            operators,
            data,
        })
    }

    fn deployer(&self) -> anyhow::Result<Option<LocalWallet>> {
        match std::env::var(&self.key_env) {
            Ok(key) if !key.is_empty() => LocalWallet::from_hex(&key)
                .with_context(|| format!("{} holds no private key", self.key_env))
                .map(Some),
            _ => Ok(None),
        }
    }

    /// Whether every token pays the treasury: it cannot be changed afterwards.
    async fn receivers(&self, setup: &Setup, chain: &Chain) -> anyhow::Result<()> {
        for token in &setup.tokens {
            for check in check_token(chain, token.info, &[self.treasury]).await {
                if check.outcome == Outcome::Fail {
                    bail!("nothing is deployed, because a check failed: {check}");
                }
            }
        }
        Ok(())
    }

    /// Holds what stands there against what was meant.
    async fn hold(&self, chain: &Chain, made: &Made) -> anyhow::Result<()> {
        let meant = settler::runtime(made.ledger_id, self.treasury);
        if chain.code(made.address).await? != meant {
            bail!(
                "at {} stands other code than the Settler's ({}): do not use it",
                made.address,
                made.code_hash
            );
        }
        let terms = SettlerTerms {
            ledger_id: made.ledger_id,
            treasury: self.treasury,
            operators: made.operators.clone(),
        };
        for check in check_settler(chain, made.address, &terms).await {
            if check.outcome == Outcome::Fail {
                bail!("it is deployed at {}, and {check}", made.address);
            }
        }
        Ok(())
    }

    fn tell(
        &self,
        setup: &Setup,
        made: &Made,
        deployer: Option<&LocalWallet>,
        cost: Option<&Cost>,
        state: &str,
        transaction: Option<B256>,
    ) {
        let deployer = deployer.map(Wallet::address);
        if self.at.json {
            say!(
                "{:#}",
                json!({
                    "state": state,
                    "chainId": setup.chain.id.0,
                    "deployer": deployer,
                    "ledgerId": made.ledger_id,
                    "treasury": self.treasury,
                    "admin": self.admin,
                    "operators": made.operators,
                    "codeHash": made.code_hash,
                    "address": made.address,
                    "gas": cost.map(|cost| cost.gas),
                    "gasPrice": cost.map(|cost| cost.price.to_string()),
                    "to": CREATE2_DEPLOYER,
                    "data": made.data,
                    "transaction": transaction,
                })
            );
            return;
        }
        say!("chain      {}", setup.chain.id);
        match deployer {
            Some(deployer) => say!("deployer   {deployer} (has no rights afterwards)"),
            None => say!("deployer   not known: set {}", self.key_env),
        }
        let drawn = if made.drawn { " (random)" } else { "" };
        say!("ledger id  {}{drawn}", made.ledger_id);
        say!("treasury   {} (for ever)", self.treasury);
        say!("admin      {}", self.admin);
        for operator in &made.operators {
            say!("operator   {operator}");
        }
        say!(
            "code       {} (hash of what will stand there)",
            made.code_hash
        );
        say!("address    {}", made.address);
        if let Some(cost) = cost {
            say!(
                "gas        {} at most, at {} gwei: {} BNB",
                cost.gas,
                amount_to_dollars(Amount::from(cost.price), 9),
                amount_to_dollars(Amount::new(cost.wei()), 18)
            );
        }
        if let Some(hash) = transaction {
            say!("final in   {hash}");
        }
        if state == "dry run" {
            say!(
                "\nThis was a dry run, and nothing was sent. {}",
                if made.drawn {
                    "The ledger's id was drawn: write it into the configuration to keep the address."
                } else {
                    "Send it with --send."
                }
            );
            if deployer.is_none() {
                say!(
                    "By another wallet: {} bytes of data to {CREATE2_DEPLOYER}; --json prints them.",
                    made.data.len()
                );
            }
        } else {
            say!("\nIt is deployed, and is what was meant. For the configuration:");
        }
        say!("\n[seller]\nsettler = \"{}\"", made.address);
        say!("\n[ledger]\nid = \"{}\"", made.ledger_id);
    }
}

/// Simulates the deployment, and says what it costs.
async fn simulated(
    setup: &Setup,
    chain: &Chain,
    made: &Made,
    deployer: Option<&LocalWallet>,
) -> anyhow::Result<Cost> {
    if chain.code(CREATE2_DEPLOYER).await?.is_empty() {
        bail!(
            "chain {} does not have the CREATE2 deployer at {CREATE2_DEPLOYER}",
            setup.chain.id
        );
    }
    let request = CallRequest {
        from: deployer.map(Wallet::address),
        to: Some(CREATE2_DEPLOYER),
        input: made.data.clone(),
        ..CallRequest::default()
    };
    let answer = chain
        .call(&request, BlockTag::Latest)
        .await
        .context("the deployment would fail")?;
    if answer.as_ref() != made.address.as_slice() {
        bail!(
            "the deployment would make another address than {}",
            made.address
        );
    }
    let estimate = chain.estimate(&request).await?;
    let asked = chain.gas_price().await?;
    let cost = Cost {
        gas: estimate.saturating_add(estimate / 10),
        price: asked.clamp(setup.chain.gas_floor, setup.chain.gas_cap),
    };
    if let Some(deployer) = deployer {
        let has = chain.balance(deployer.address()).await?;
        if has < cost.wei() {
            bail!(
                "the deployer {} has {} BNB, and the deployment costs up to {}: send it BNB",
                deployer.address(),
                amount_to_dollars(Amount::new(has), 18),
                amount_to_dollars(Amount::new(cost.wei()), 18)
            );
        }
    }
    Ok(cost)
}

/// Sends it, and waits until it is final.
async fn send(
    chain: &Chain,
    made: &Made,
    deployer: &LocalWallet,
    cost: &Cost,
) -> anyhow::Result<B256> {
    let nonce = chain
        .transaction_count(deployer.address(), BlockTag::Pending)
        .await?;
    let call = Call {
        to: CREATE2_DEPLOYER,
        input: made.data.clone(),
        gas_limit: cost.gas,
    };
    let transaction = call.into_transaction(chain.id(), nonce, cost.price);
    let signature = deployer.sign_hash(&transaction.signing_hash()).await?;
    let RawTransaction { raw, hash } = transaction.into_raw(&signature);
    match chain.submit(&raw).await {
        Submission::Accepted => {}
        refused @ Submission::NotSent(_) => bail!("the deployment was {refused}"),
        // The chain decides.
        unknown => warn_person!("tollgate: sent as {hash}; {unknown}"),
    }
    warn_person!("sent {hash}; waiting until it is final");
    let Some(receipt) = chain.finalized(hash, PATIENCE).await? else {
        bail!(
            "{hash} is not final after {} s: run this again without --send, which finds the contract where it is deployed, and send nothing else with {} until then",
            PATIENCE.as_secs(),
            deployer.address()
        );
    };
    if !receipt.success {
        bail!("{hash} failed: nothing was deployed");
    }
    Ok(hash)
}
