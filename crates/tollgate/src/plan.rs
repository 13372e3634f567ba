//! What a gateway is to be: the configuration with every value checked, or the development setup.

use std::{collections::BTreeMap, net::SocketAddr, num::NonZeroUsize, time::Duration};

use tollgate_contracts::TokenInfo;
use tollgate_engine::Policy;
use tollgate_payment::{Credit, Retention};
use tollgate_price::{DollarRates, Rates, amount_from_dollars};
use tollgate_x402::{Address, Amount, ChainId};
use toml::Spanned;

use crate::config::{ChainSection, Config, ConfigError, Source};

mod answers;
mod prices;
mod selling;
mod settling;
mod shared;

pub(crate) use self::{
    prices::prices,
    settling::{OwnPlan, RemotePlan, Settling, remote},
    shared::{LedgerPlan, SharedPlan, UrlSource, ledger},
};

/// The name of the built-in engine among upstreams.
pub(crate) const ECHO: &str = "echo";

/// Everything that is decided before anything is opened.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) listen: SocketAddr,
    pub(crate) public_url: String,
    pub(crate) description: String,
    pub(crate) chain: ChainPlan,
    pub(crate) settling: Settling,
    pub(crate) tokens: Vec<TokenPlan>,
    pub(crate) credit: CreditPlan,
    pub(crate) allowances: PolicyPlan,
    pub(crate) sending: SendingPlan,
    pub(crate) ledger: LedgerPlan,
    pub(crate) upstreams: Vec<UpstreamPlan>,
    pub(crate) models: Vec<ModelPlan>,
    pub(crate) body_bytes: usize,
    pub(crate) drain: Duration,
    pub(crate) connections: usize,
    pub(crate) connections_per_address: Option<NonZeroUsize>,
    pub(crate) retention: Retention,
    /// How long a caller may wait for a block.
    pub(crate) wait: Duration,
}

/// Which chain, and how to reach it.
#[derive(Debug)]
pub(crate) struct ChainPlan {
    pub(crate) id: ChainId,
    pub(crate) rpc: Vec<String>,
    pub(crate) agreement: usize,
    pub(crate) block_time: Duration,
    /// Wei a unit of gas.
    pub(crate) gas_floor: u128,
    /// Wei a unit of gas.
    pub(crate) gas_cap: u128,
}

/// A token that is taken.
#[derive(Debug)]
pub(crate) struct TokenPlan {
    pub(crate) info: &'static TokenInfo,
    pub(crate) amount: Amount,
    pub(crate) max_timeout: u64,
}

/// Credit in dollars, to be made atomic for each token.
#[derive(Debug, Clone)]
pub(crate) struct CreditPlan {
    pub(crate) floor: String,
    pub(crate) factor: u64,
    pub(crate) ceiling: String,
    pub(crate) in_flight: u32,
    pub(crate) in_flight_proven: u32,
    pub(crate) exposure: String,
}

impl Default for CreditPlan {
    fn default() -> Self {
        Self {
            floor: "0.10".to_owned(),
            factor: 1,
            ceiling: "10".to_owned(),
            in_flight: 4,
            in_flight_proven: 64,
            exposure: "5".to_owned(),
        }
    }
}

impl CreditPlan {
    /// The credit for a token of so many decimals.
    pub(crate) fn of(&self, decimals: u8) -> anyhow::Result<Credit> {
        let mut credit = Credit::for_dollar(amount_from_dollars("1", decimals)?);
        credit.floor = amount_from_dollars(&self.floor, decimals)?;
        credit.ceiling = amount_from_dollars(&self.ceiling, decimals)?;
        credit.exposure = amount_from_dollars(&self.exposure, decimals)?;
        credit.factor = self.factor;
        credit.in_flight = self.in_flight;
        credit.in_flight_proven = self.in_flight_proven;
        Ok(credit)
    }
}

/// How settlements are sent.
#[derive(Clone)]
pub(crate) struct SendingPlan {
    /// The endpoints that see them first.
    pub(crate) private_rpc: Vec<String>,
    /// For so many seconds.
    pub(crate) private_seconds: u64,
    /// The price of a BNB, in dollars.
    pub(crate) bnb_usd: String,
}

/// The endpoints may hold API keys.
impl std::fmt::Debug for SendingPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SendingPlan")
            .field("private_seconds", &self.private_seconds)
            .field("bnb_usd", &self.bnb_usd)
            .finish_non_exhaustive()
    }
}

impl Default for SendingPlan {
    fn default() -> Self {
        Self {
            private_rpc: Vec::new(),
            private_seconds: 6,
            bnb_usd: "600".to_owned(),
        }
    }
}

/// When allowances are settled.
#[derive(Debug, Clone)]
pub(crate) enum PolicyPlan {
    AtOnce,
    Aggregate { max_unsettled: String, max_age: u64 },
}

impl PolicyPlan {
    /// The policy for a token of so many decimals.
    pub(crate) fn of(&self, decimals: u8) -> anyhow::Result<Policy> {
        Ok(match self {
            Self::AtOnce => Policy::AtOnce,
            Self::Aggregate {
                max_unsettled,
                max_age,
            } => Policy::Aggregate {
                max_unsettled: amount_from_dollars(max_unsettled, decimals)?,
                max_age: *max_age,
            },
        })
    }
}

/// A model server.
#[derive(Debug)]
pub(crate) struct UpstreamPlan {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) key: Option<Secret>,
    pub(crate) top_k: bool,
    pub(crate) first_token: Duration,
    pub(crate) idle: Duration,
}

/// A value that is never shown.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A model that is sold.
#[derive(Debug)]
pub(crate) struct ModelPlan {
    pub(crate) name: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) upstream: String,
    pub(crate) upstream_model: Option<String>,
    pub(crate) rates: DollarPrices,
    pub(crate) max_output_tokens: u32,
}

/// Prices in dollars, to be made atomic for each token's decimals.
#[derive(Debug, Clone)]
pub(crate) struct DollarPrices {
    pub(crate) input: String,
    pub(crate) output: String,
    pub(crate) cached_input: Option<String>,
    pub(crate) per_request: Option<String>,
}

impl DollarPrices {
    /// The rates for a token of so many decimals.
    pub(crate) fn of(
        &self,
        decimals: u8,
    ) -> Result<Rates, (&'static str, tollgate_price::ParseDollarsError)> {
        Rates::from_dollars(
            DollarRates {
                input: &self.input,
                output: &self.output,
                cached_input: self.cached_input.as_deref(),
                per_request: self.per_request.as_deref(),
            },
            decimals,
        )
    }
}

impl Plan {
    /// The plan of a configuration.
    ///
    /// # Errors
    /// The first value that cannot be, with its line and key.
    pub(crate) fn of(
        config: Config,
        source: &Source,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let chain = chain(&config.chain, source)?;
        let settling = Settling::of(&config.seller, source, environment)?;
        let tokens = tokens(&config, source, chain.id)?;
        let (upstreams, models) = (
            selling::upstreams(&config, source, environment)?,
            selling::models(&config, source, &tokens)?,
        );
        let public_url = config.public_url.get_ref();
        if !selling::is_base_url(public_url) || public_url.ends_with('/') {
            let message = "write the URL as clients use it, such as https://api.example.com, without a slash at the end";
            return Err(source.at("public_url", &config.public_url, message));
        }
        let limits = &config.limits;
        if *limits.body_bytes.get_ref() == 0 {
            let message = "above 0: every request has a body";
            return Err(source.at("limits.body_bytes", &limits.body_bytes, message));
        }
        if *limits.connections.get_ref() == 0 {
            let message = "above 0: nobody could connect";
            return Err(source.at("limits.connections", &limits.connections, message));
        }
        Ok(Self {
            listen: config.listen.get_ref().parse().map_err(|_| {
                source.at(
                    "listen",
                    &config.listen,
                    "write an address and a port, such as 0.0.0.0:8402",
                )
            })?,
            public_url: public_url.clone(),
            description: config.description.clone(),
            chain,
            settling,
            tokens,
            credit: credit(&config, source)?,
            allowances: policy(&config, source)?,
            sending: sending(&config, source)?,
            ledger: ledger(&config.ledger, source)?,
            upstreams,
            models,
            body_bytes: *limits.body_bytes.get_ref(),
            drain: Duration::from_secs(config.limits.drain_seconds),
            connections: *limits.connections.get_ref(),
            connections_per_address: config.limits.connections_per_address,
            retention: answers::retention(&config.limits, source)?,
            wait: answers::wait(&config.limits, source)?,
        })
    }
}

/// An address, if there is one.
pub(crate) fn address(
    source: &Source,
    key: &str,
    value: &Option<Spanned<String>>,
) -> Result<Option<Address>, ConfigError> {
    let Some(value) = value else { return Ok(None) };
    match crate::ops::parse_address(value.get_ref()) {
        Ok(address) => Ok(Some(address)),
        Err(message) => Err(source.at(key, value, message)),
    }
}

/// A dollar amount that has to be good; it is parsed again for each token.
fn dollars(source: &Source, key: &str, value: &Spanned<String>) -> Result<String, ConfigError> {
    match amount_from_dollars(value.get_ref(), 18) {
        Ok(_) => Ok(value.get_ref().clone()),
        Err(error) => Err(source.at(key, value, error)),
    }
}

/// The chain of a configuration.
pub(crate) fn chain(section: &ChainSection, source: &Source) -> Result<ChainPlan, ConfigError> {
    let gwei = |key: &str, value: &Spanned<String>| {
        let wei = amount_from_dollars(value.get_ref(), 9)
            .map_err(|error| source.at(key, value, error))?;
        u128::try_from(wei.get()).map_err(|_| source.at(key, value, "this price is out of range"))
    };
    if section.rpc.is_empty() {
        return Err(source.at(
            "chain.rpc",
            &section.id,
            "name at least one JSON-RPC endpoint",
        ));
    }
    for url in &section.rpc {
        if !url.get_ref().starts_with("http://") && !url.get_ref().starts_with("https://") {
            return Err(source.at(
                "chain.rpc",
                url,
                "an endpoint is an http:// or https:// URL",
            ));
        }
    }
    let agreement = *section.agreement.get_ref();
    if agreement == 0 || agreement > section.rpc.len() {
        let message = format!(
            "between 1 and {}, the number of endpoints",
            section.rpc.len()
        );
        return Err(source.at("chain.agreement", &section.agreement, message));
    }
    if *section.block_time_ms.get_ref() == 0 {
        return Err(source.at(
            "chain.block_time_ms",
            &section.block_time_ms,
            "above 0; BSC has 450",
        ));
    }
    let plan = ChainPlan {
        id: ChainId(*section.id.get_ref()),
        rpc: section
            .rpc
            .iter()
            .map(|url| url.get_ref().clone())
            .collect(),
        agreement,
        block_time: Duration::from_millis(*section.block_time_ms.get_ref()),
        gas_floor: gwei("chain.gas_price_floor_gwei", &section.gas_price_floor_gwei)?,
        gas_cap: gwei("chain.gas_price_cap_gwei", &section.gas_price_cap_gwei)?,
    };
    if plan.gas_cap < plan.gas_floor {
        let message = "the cap is below gas_price_floor_gwei";
        return Err(source.at(
            "chain.gas_price_cap_gwei",
            &section.gas_price_cap_gwei,
            message,
        ));
    }
    Ok(plan)
}

pub(crate) fn tokens(
    config: &Config,
    source: &Source,
    chain: ChainId,
) -> Result<Vec<TokenPlan>, ConfigError> {
    let mut tokens = Vec::new();
    for section in &config.tokens {
        if tollgate_contracts::tokens::on_chain(chain.0)
            .next()
            .is_none()
        {
            let message = "no token of this chain is on the allow-list; it has 56 (BSC), 97 (its testnet) and 31337 (development)";
            return Err(source.at("chain.id", &config.chain.id, message));
        }
        let info =
            tollgate_contracts::by_symbol(chain.0, section.symbol.get_ref()).ok_or_else(|| {
                let known: Vec<_> = tollgate_contracts::tokens::on_chain(chain.0)
                    .map(|token| token.symbol)
                    .collect();
                let message = format!(
                    "no such token on chain {chain}; the allow-list has {}",
                    known.join(", ")
                );
                source.at("token.symbol", &section.symbol, message)
            })?;
        let amount = amount_from_dollars(section.amount_usd.get_ref(), info.decimals)
            .map_err(|error| source.at("token.amount_usd", &section.amount_usd, error))?;
        if amount.is_zero() || amount.to_string().len() > 18 {
            let message = "above 0 and of at most 18 digits in atomic units (0.99 for 18 decimals): older clients stop there";
            return Err(source.at("token.amount_usd", &section.amount_usd, message));
        }
        let max_timeout = *section.max_timeout_seconds.get_ref();
        if max_timeout < 900 {
            let message = "at least 900: serving takes up to 600 of them, and settling its part";
            return Err(source.at(
                "token.max_timeout_seconds",
                &section.max_timeout_seconds,
                message,
            ));
        }
        tokens.push(TokenPlan {
            info,
            amount,
            max_timeout,
        });
    }
    if tokens
        .iter()
        .any(|token| token.info.decimals != tokens.first().map_or(18, |first| first.info.decimals))
    {
        let message = "tokens of different decimals cannot be sold for together yet";
        return Err(source.error("token", &(0..0), message));
    }
    if tokens.is_empty() {
        return Err(source.error("token", &(0..0), "name at least one [[token]]"));
    }
    Ok(tokens)
}

pub(crate) fn credit(config: &Config, source: &Source) -> Result<CreditPlan, ConfigError> {
    let section = &config.credit;
    for (key, in_flight) in [
        ("credit.in_flight", &section.in_flight),
        ("credit.in_flight_proven", &section.in_flight_proven),
    ] {
        if *in_flight.get_ref() == 0 {
            return Err(source.at(key, in_flight, "above 0: nobody would be served"));
        }
    }
    let ceiling = dollars(source, "credit.ceiling_usd", &section.ceiling_usd)?;
    let floor = dollars(source, "credit.floor_usd", &section.floor_usd)?;
    let amount = |dollars: &str| amount_from_dollars(dollars, 18).ok();
    if amount(&floor) > amount(&ceiling) {
        // Which of the two stands in the file.
        let (key, value) = if section.floor_usd.span().is_empty() {
            ("credit.ceiling_usd", &section.ceiling_usd)
        } else {
            ("credit.floor_usd", &section.floor_usd)
        };
        let message = format!(
            "floor_usd is {floor} and ceiling_usd {ceiling}: nobody can be lent more than the ceiling"
        );
        return Err(source.at(key, value, message));
    }
    Ok(CreditPlan {
        floor,
        factor: section.factor,
        ceiling,
        in_flight: *section.in_flight.get_ref(),
        in_flight_proven: *section.in_flight_proven.get_ref(),
        exposure: dollars(source, "credit.exposure_usd", &section.exposure_usd)?,
    })
}

pub(crate) fn policy(config: &Config, source: &Source) -> Result<PolicyPlan, ConfigError> {
    let section = &config.settlement;
    match section.allowances.get_ref().as_str() {
        "at-once" => Ok(PolicyPlan::AtOnce),
        "aggregate" => Ok(PolicyPlan::Aggregate {
            max_unsettled: dollars(
                source,
                "settlement.max_unsettled_usd",
                &section.max_unsettled_usd,
            )?,
            max_age: section.max_age_seconds,
        }),
        _ => Err(source.at(
            "settlement.allowances",
            &section.allowances,
            "\"aggregate\" or \"at-once\"",
        )),
    }
}

fn sending(config: &Config, source: &Source) -> Result<SendingPlan, ConfigError> {
    let section = &config.settlement;
    for url in &section.private_rpc {
        if !url.get_ref().starts_with("https://") && !url.get_ref().starts_with("http://") {
            return Err(source.at(
                "settlement.private_rpc",
                url,
                "write URLs that begin with https:// or http://",
            ));
        }
    }
    let seconds = *section.private_seconds.get_ref();
    if !(1..=30).contains(&seconds) {
        return Err(source.at(
            "settlement.private_seconds",
            &section.private_seconds,
            "write 1 to 30: a deadline must not pass meanwhile",
        ));
    }
    let bnb_usd = dollars(source, "settlement.bnb_usd", &section.bnb_usd)?;
    if bnb_usd.trim_matches(['0', '.']).is_empty() {
        return Err(source.at(
            "settlement.bnb_usd",
            &section.bnb_usd,
            "a BNB is worth something",
        ));
    }
    Ok(SendingPlan {
        private_rpc: section
            .private_rpc
            .iter()
            .map(|url| url.get_ref().clone())
            .collect(),
        private_seconds: seconds,
        bnb_usd,
    })
}
