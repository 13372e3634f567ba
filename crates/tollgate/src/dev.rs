//! The development world: a chain inside the program, well-known accounts with money, and a seller of the echo
//! engine.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context;
use tempfile::TempDir;
use tollgate_contracts::tokens::USD1;
use tollgate_devchain::{
    BlockTime, DEV_ACCOUNTS, DEV_SETTLER, DevChain, Development, Genesis, is_development_chain_id,
};
use tollgate_eip712::LocalWallet;
use tollgate_x402::{Address, B256, ChainId};

use crate::plan::{
    ChainPlan, CreditPlan, DollarPrices, ECHO, LedgerPlan, ModelPlan, OwnPlan, Plan, PolicyPlan,
    Settling, TokenPlan,
};

/// Who of the accounts does what, by number.
pub(crate) const OPERATOR: usize = 7;
const ADMIN: usize = 8;
const TREASURY: usize = 9;

/// A chain inside the program, with everything that is needed to sell and to pay on it.
pub(crate) struct DevWorld {
    /// It runs while this handle lives.
    _chain: DevChain,
    pub(crate) rpc: SocketAddr,
    pub(crate) chain_id: ChainId,
    pub(crate) settler: Address,
    /// Ten accounts with money; the first seven are free to pay.
    pub(crate) keys: Vec<B256>,
    ledger_id: B256,
    /// Where the ledger lives: it dies with the chain whose payments it keeps.
    directory: TempDir,
}

/// How a development world is to be.
#[derive(Debug, Clone)]
pub(crate) struct DevOptions {
    /// The chain id. With another than 31337, which may be a real network's, keys and payee are made for this run.
    pub(crate) chain_id: u64,
    pub(crate) rpc_listen: SocketAddr,
    pub(crate) block_time: Duration,
}

impl DevWorld {
    /// Starts the chain.
    pub(crate) async fn start(options: &DevOptions) -> anyhow::Result<Self> {
        let real = !is_development_chain_id(options.chain_id);
        // What is signed on a chain of a real id is good there too. So its accounts have keys that nobody knows, and
        // the payee is an address that nobody can own.
        let keys: Vec<B256> = if real {
            (0..10)
                .map(|_| B256::from(rand::random::<[u8; 32]>()))
                .collect()
        } else {
            DEV_ACCOUNTS
                .iter()
                .map(|account| account.private_key)
                .collect()
        };
        let mut accounts = Vec::new();
        for key in &keys {
            accounts.push(LocalWallet::from_bytes(&key.0)?.address());
        }
        let settler = if real {
            Address::from(rand::random::<[u8; 20]>())
        } else {
            DEV_SETTLER
        };
        let ledger_id = B256::from(rand::random::<[u8; 32]>());
        let [operator, admin, treasury] =
            [OPERATOR, ADMIN, TREASURY].map(|number| accounts.get(number).copied());
        let missing = "the development world has ten accounts";
        let who = Development {
            settler,
            ledger_id,
            treasury: treasury.context(missing)?,
            admin: admin.context(missing)?,
            operators: vec![operator.context(missing)?],
            token_admin: admin.context(missing)?,
            accounts,
            ..Development::default()
        };
        let mut builder = DevChain::builder()
            .chain_id(options.chain_id)
            .block_time(BlockTime::Interval(options.block_time))
            .genesis(Genesis::development(&who));
        if real {
            builder = builder.allow_real_chain_id();
        }
        let chain = builder
            .start()
            .context("the development chain cannot be started")?;
        let rpc = chain.serve(options.rpc_listen).await.with_context(|| {
            format!("{} cannot be listened on for JSON-RPC", options.rpc_listen)
        })?;
        let directory = tempfile::tempdir().context("no directory for the ledger of this run")?;
        Ok(Self {
            _chain: chain,
            rpc,
            chain_id: ChainId(options.chain_id),
            settler,
            keys,
            ledger_id,
            directory,
        })
    }

    /// A seller of the echo engine on this chain. `public_url` is set when its address is known.
    pub(crate) fn plan(&self, listen: SocketAddr, public_url: String) -> anyhow::Result<Plan> {
        let operator = self
            .keys
            .get(OPERATOR)
            .context("the development world has ten accounts")?;
        let info = tollgate_contracts::token(self.chain_id.0, USD1)
            .with_context(|| format!("no token is known for chain {}", self.chain_id))?;
        Ok(Plan {
            listen,
            public_url,
            description: "LLM inference".to_owned(),
            chain: self.chain_plan(),
            settling: Settling::Own(OwnPlan {
                operator: LocalWallet::from_bytes(&operator.0)?,
                settler: Some(self.settler),
                treasury: None,
            }),
            tokens: vec![TokenPlan {
                info,
                amount: tollgate_price::amount_from_dollars("0.99", info.decimals)?,
                max_timeout: 86_400,
            }],
            credit: CreditPlan::default(),
            allowances: PolicyPlan::AtOnce,
            sending: Default::default(),
            ledger: self.ledger_plan(),
            upstreams: Vec::new(),
            models: vec![ModelPlan {
                name: "tollgate/echo".to_owned(),
                aliases: vec!["anthropic/claude-opus-4.5".to_owned()],
                upstream: ECHO.to_owned(),
                upstream_model: None,
                rates: DollarPrices {
                    input: "5".to_owned(),
                    output: "25".to_owned(),
                    cached_input: None,
                    per_request: None,
                },
                max_output_tokens: 1_024,
            }],
            body_bytes: 4 * 1024 * 1024,
            drain: Duration::from_secs(20),
            connections: 4_096,
            connections_per_address: None,
            retention: Default::default(),
            wait: tollgate_server::Bounds::default().wait,
        })
    }

    /// How to reach the chain.
    pub(crate) fn chain_plan(&self) -> ChainPlan {
        ChainPlan {
            id: self.chain_id,
            rpc: vec![self.rpc_url()],
            agreement: 1,
            block_time: Duration::from_millis(450),
            gas_floor: 50_000_000,
            gas_cap: 5_000_000_000,
        }
    }

    /// A ledger that ends with this world.
    pub(crate) fn ledger_plan(&self) -> LedgerPlan {
        LedgerPlan {
            path: self.ledger_path(),
            id: Some(self.ledger_id),
            shared: None,
        }
    }

    pub(crate) fn rpc_url(&self) -> String {
        format!("http://{}", self.rpc)
    }

    fn ledger_path(&self) -> PathBuf {
        self.directory.path().join("ledger.db")
    }

    /// The account of a number.
    pub(crate) fn wallet(&self, number: usize) -> anyhow::Result<LocalWallet> {
        let key = self
            .keys
            .get(number)
            .context("the development world has ten accounts")?;
        Ok(LocalWallet::from_bytes(&key.0)?)
    }
}

impl DevWorld {
    /// What a person needs to know to use the chain.
    pub(crate) fn introduction(&self) -> anyhow::Result<String> {
        use std::fmt::Write;

        let mut text = String::new();
        writeln!(
            text,
            "A development chain runs inside: chain id {}, JSON-RPC at {}",
            self.chain_id,
            self.rpc_url()
        )?;
        writeln!(
            text,
            "  USD1     {USD1} (a test token of the same shape; 1,000,000 for each account)"
        )?;
        writeln!(text, "  Settler  {}", self.settler)?;
        writeln!(text, "  accounts that can pay:")?;
        for (number, key) in self.keys.iter().take(OPERATOR).enumerate() {
            writeln!(
                text,
                "    {number}  {}  key {key}",
                self.wallet(number)?.address()
            )?;
        }
        if is_development_chain_id(self.chain_id.0) {
            writeln!(
                text,
                "These keys are known to everybody: never send them anything of value."
            )?;
        } else {
            writeln!(
                text,
                "These keys were made for this run. What they sign is good on the real network of chain id {} too.",
                self.chain_id
            )?;
        }
        Ok(text)
    }
}
