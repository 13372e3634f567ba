//! The configuration of `tollgate facilitator`, and what it comes to.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use anyhow::Context;
use serde::Deserialize;
use tollgate_contracts::TokenInfo;
use tollgate_eip712::LocalWallet;
use tollgate_facilitator::{Caller, CallerName, GasBudget, KeyHash};
use tollgate_x402::Address;
use toml::Spanned;

use crate::{
    config::{ChainSection, ConfigError, LedgerSection, Source},
    dev::DevWorld,
    plan::{self, ChainPlan, LedgerPlan},
};

/// The gas of a facilitator's settlement, each of which is a transaction of its own.
const SETTLEMENT_GAS: u64 = 320_000;

/// What a facilitator's configuration file holds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FacilitatorConfig {
    /// Where it listens, such as "0.0.0.0:8403".
    #[serde(default = "default_listen")]
    listen: Spanned<String>,
    /// The account that sends settlements: its private key, as "$NAME" of an environment variable.
    operator_key: Spanned<String>,
    /// How long a settlement is waited for, in seconds. Then it is pending, and goes on.
    #[serde(default = "default_wait")]
    wait_seconds: Spanned<u64>,
    /// Connections at once.
    #[serde(default = "default_connections")]
    connections: usize,
    /// The chain.
    chain: ChainSection,
    /// The tokens that are settled.
    #[serde(rename = "token")]
    tokens: Vec<TokenSection>,
    /// Who may ask.
    #[serde(rename = "caller")]
    callers: Vec<CallerSection>,
    /// Where settlements are kept.
    #[serde(default)]
    ledger: LedgerSection,
}

/// `[[token]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenSection {
    /// A symbol of the allow-list for the chain.
    symbol: Spanned<String>,
}

/// `[[caller]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CallerSection {
    /// The name, for the ledger: 1 to 64 of A-Z a-z 0-9 _ -
    name: Spanned<String>,
    /// The key, as "$NAME" of an environment variable. At least 16 characters.
    key: Spanned<String>,
    /// The payees that the caller may have settled for: addresses, or ["any"].
    pay_to: Vec<Spanned<String>>,
    /// The gas that the caller's settlements may cost a day, in units of gas. One is counted with its gas limit, about
    /// 300,000.
    #[serde(default = "default_gas")]
    gas_per_day: Spanned<u64>,
}

fn spanned<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}
fn default_listen() -> Spanned<String> {
    spanned("127.0.0.1:8403".to_owned())
}
fn default_wait() -> Spanned<u64> {
    spanned(20)
}
const fn default_connections() -> usize {
    1_024
}
/// About a thousand settlements.
fn default_gas() -> Spanned<u64> {
    spanned(300_000_000)
}

/// The period of the callers' budgets.
const DAY: u64 = 86_400;
/// A shorter key can be guessed.
const SHORTEST_KEY: usize = 16;

/// What operating its ledger needs of a facilitator's configuration: no key.
pub(crate) struct Kept {
    pub(crate) chain: ChainPlan,
    pub(crate) tokens: Vec<&'static TokenInfo>,
    pub(crate) ledger: LedgerPlan,
    /// The account of `operator_key`, where that variable is set.
    pub(crate) operator: Option<Address>,
}

impl FacilitatorConfig {
    /// The part that says what is settled, and where it is kept.
    ///
    /// # Errors
    /// The first value that cannot be, with its line and key.
    pub(crate) fn kept(
        &self,
        source: &Source,
        environment: &BTreeMap<String, String>,
    ) -> Result<Kept, ConfigError> {
        let chain = plan::chain(&self.chain, source)?;
        let mut tokens = Vec::new();
        for section in &self.tokens {
            let symbol = section.symbol.get_ref();
            let known = tollgate_contracts::by_symbol(chain.id.0, symbol).ok_or_else(|| {
                let message = format!("no such token is on the allow-list of chain {}", chain.id);
                source.at("token.symbol", &section.symbol, message)
            })?;
            tokens.push(known);
        }
        if tokens.is_empty() {
            return Err(source.error("token", &(0..0), "name at least one [[token]]"));
        }
        let operator = source
            .secret("operator_key", &self.operator_key, environment)
            .ok()
            .and_then(|key| LocalWallet::from_hex(&key).ok());
        Ok(Kept {
            tokens,
            ledger: plan::ledger(&self.ledger, source)?,
            operator: operator.map(|wallet| wallet.address()),
            chain,
        })
    }
}

/// Everything that is decided before anything is opened.
#[derive(Debug)]
pub(super) struct FacilitatorPlan {
    pub(super) listen: SocketAddr,
    pub(super) operator: LocalWallet,
    pub(super) wait: Duration,
    pub(super) connections: usize,
    /// How long open calls may go on at a shutdown.
    pub(super) drain: Duration,
    pub(super) chain: ChainPlan,
    pub(super) tokens: Vec<&'static TokenInfo>,
    pub(super) callers: Vec<Caller>,
    pub(super) ledger: LedgerPlan,
}

impl FacilitatorPlan {
    /// The plan of a configuration.
    ///
    /// # Errors
    /// The first value that cannot be, with its line and key.
    pub(super) fn of(
        config: &FacilitatorConfig,
        source: &Source,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let operator = source.secret("operator_key", &config.operator_key, environment)?;
        let operator = LocalWallet::from_hex(&operator)
            .map_err(|error| source.at("operator_key", &config.operator_key, error))?;
        let wait = *config.wait_seconds.get_ref();
        if !(1..=120).contains(&wait) {
            let message = "between 1 and 120: callers give up after about 30";
            return Err(source.at("wait_seconds", &config.wait_seconds, message));
        }
        let kept = config.kept(source, environment)?;
        let mut callers: Vec<Caller> = Vec::new();
        let mut keys = BTreeSet::new();
        // Each of several facilitators counts by itself: together they spend no more than the configuration says.
        let processes = kept.ledger.gateways();
        for section in &config.callers {
            let (caller, key) = caller(section, processes, source, environment)?;
            let twice = callers.iter().any(|known| known.name == caller.name);
            if twice || !keys.insert(key) {
                let message = "another caller has this name or this key";
                return Err(source.at("caller.name", &section.name, message));
            }
            callers.push(caller);
        }
        if callers.is_empty() {
            let message =
                "name at least one [[caller]]: an open facilitator is free gas for anyone";
            return Err(source.error("caller", &(0..0), message));
        }
        Ok(Self {
            listen: config.listen.get_ref().parse().map_err(|_| {
                let message = "write an address and a port, such as 0.0.0.0:8403";
                source.at("listen", &config.listen, message)
            })?,
            operator,
            wait: Duration::from_secs(wait),
            connections: config.connections.max(1),
            drain: Duration::from_secs(wait.saturating_add(5)),
            chain: kept.chain,
            tokens: kept.tokens,
            callers,
            ledger: kept.ledger,
        })
    }

    /// Anybody's, over the development chain.
    pub(super) fn development(world: &DevWorld, listen: SocketAddr) -> anyhow::Result<Self> {
        let tokens: Vec<_> = tollgate_contracts::tokens::on_chain(world.chain_id.0).collect();
        Ok(Self {
            listen,
            operator: world.wallet(crate::dev::OPERATOR)?,
            wait: Duration::from_secs(20),
            connections: default_connections(),
            drain: Duration::from_secs(5),
            chain: world.chain_plan(),
            tokens,
            callers: vec![Caller {
                name: CallerName::new("anybody").context("a name")?,
                key: None,
                pay_to: None,
                budget: None,
            }],
            ledger: world.ledger_plan(),
        })
    }
}

fn caller(
    section: &CallerSection,
    processes: u32,
    source: &Source,
    environment: &BTreeMap<String, String>,
) -> Result<(Caller, String), ConfigError> {
    let key = source.secret("caller.key", &section.key, environment)?;
    if key.len() < SHORTEST_KEY || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = format!("a key is at least {SHORTEST_KEY} visible ASCII characters");
        return Err(source.at("caller.key", &section.key, message));
    }
    let anyone = matches!(section.pay_to.as_slice(), [only] if only.get_ref() == "any");
    let mut payees = BTreeSet::new();
    for payee in section.pay_to.iter().filter(|_| !anyone) {
        let address: Address = payee.get_ref().parse().map_err(|_| {
            let message = "write an address as 0x and 40 hexadecimal digits, or [\"any\"] alone";
            source.at("caller.pay_to", payee, message)
        })?;
        payees.insert(address);
    }
    if !anyone && payees.is_empty() {
        let message = "name the payees in pay_to, or write [\"any\"]";
        return Err(source.at("caller.name", &section.name, message));
    }
    let gas = section
        .gas_per_day
        .get_ref()
        .checked_div(u64::from(processes))
        .unwrap_or_default();
    if gas < SETTLEMENT_GAS {
        let message = format!(
            "{gas} for each of {processes} facilitators, and one settlement may cost {SETTLEMENT_GAS}: nothing would be settled"
        );
        return Err(source.at("caller.gas_per_day", &section.gas_per_day, message));
    }
    let caller = Caller {
        name: CallerName::new(section.name.get_ref())
            .map_err(|error| source.at("caller.name", &section.name, error))?,
        key: Some(KeyHash::of(&key)),
        pay_to: (!anyone).then_some(payees),
        budget: Some(GasBudget { gas, period: DAY }),
    };
    Ok((caller, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
operator_key = "$OPERATOR"

[chain]
id = 56
rpc = ["https://bsc.example"]

[[token]]
symbol = "USD1"

[[caller]]
name = "shop"
key = "$SHOP"
pay_to = ["0x209693Bc6afc0C5328bA36FaF03C514EF312287C"]
gas_per_day = 2_000_000
"#;

    fn plan(text: &str) -> Result<FacilitatorPlan, String> {
        let environment = [
            (
                "OPERATOR".to_owned(),
                "0x4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356".to_owned(),
            ),
            ("SHOP".to_owned(), "a key that is long".replace(' ', "-")),
            ("SHORT".to_owned(), "short".to_owned()),
        ]
        .into();
        let source = Source::new("facilitator.toml", text);
        let config = source.parse_as().map_err(|error| error.to_string())?;
        FacilitatorPlan::of(&config, &source, &environment).map_err(|error| error.to_string())
    }

    #[test]
    fn the_example_is_good() {
        let plan = plan(GOOD).unwrap();
        assert_eq!(plan.callers.len(), 1);
        assert_eq!(plan.callers[0].budget.unwrap().gas, 2_000_000);
        assert!(!format!("{plan:?}").contains("a-key-that-is-long"));
    }

    #[test]
    fn several_on_one_database_share_a_callers_gas() {
        let shared = "[ledger.postgres]\nurl = \"$DATABASE\"\ngateways = 4\n";
        let plan = plan(&format!("{GOOD}\n{shared}")).unwrap();
        assert_eq!(plan.callers[0].budget.unwrap().gas, 500_000);
        let many = shared.replace("4", "7");
        let told = self::plan(&format!("{GOOD}\n{many}"))
            .unwrap_err()
            .to_string();
        assert!(
            told.contains("caller.gas_per_day") && told.contains("320000"),
            "{told}"
        );
    }

    #[test]
    fn the_example_of_the_page_is_good() {
        let page = include_str!("../../../../docs/facilitator.md");
        let example = page.split("```toml\n").nth(1).unwrap();
        let example = example.split("```").next().unwrap();
        let example = example
            .replace("$TOLLGATE_OPERATOR_KEY", "$OPERATOR")
            .replace("$SHOP_KEY", "$SHOP");
        let plan = plan(&example).unwrap();
        assert_eq!(plan.wait, Duration::from_secs(20));
        assert_eq!(
            plan.callers[0].budget.unwrap().gas,
            *default_gas().get_ref()
        );
    }

    #[test]
    fn mistakes_are_told_where_they_stand() {
        let payee = "[\"0x209693Bc6afc0C5328bA36FaF03C514EF312287C\"]";
        for (from, to, said) in [
            ("$SHOP", "$SHORT", "caller.key"),
            ("$SHOP", "$NOBODY", "not set"),
            (payee, "[]", "pay_to"),
            (payee, "[\"any\", \"any\"]", "caller.pay_to"),
            ("\"shop\"", "\"a shop\"", "caller.name"),
            ("USD1", "USD9", "token.symbol"),
            ("[[caller]]", "[[callers]]", "callers"),
        ] {
            let said_of = plan(&GOOD.replace(from, to)).unwrap_err();
            assert!(said_of.contains(said), "{from} -> {to}: {said_of}");
        }
        let none = GOOD.split("[[caller]]").next().unwrap();
        assert!(plan(none).unwrap_err().contains("caller"));
        let any = GOOD.replace(payee, "[\"any\"]");
        assert_eq!(plan(&any).unwrap().callers[0].pay_to, None);
    }
}
