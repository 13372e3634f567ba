//! The configuration of `tollgate serve`: a TOML file, every key documented where it is defined.
//!
//! Reading has two steps: TOML into the file's own shape (unknown keys refused, each mistake with its line), and
//! that shape into values that cannot be wrong. Secrets are written as `$NAME` and come from the environment.

use std::{collections::BTreeMap, fmt, num::NonZeroUsize, ops::Range, path::PathBuf};

use serde::Deserialize;
use toml::Spanned;

/// A mistake in a configuration file, with the place where it stands.
#[derive(Debug, thiserror::Error)]
#[error("{file}:{line}: {key}{message}")]
pub(crate) struct ConfigError {
    file: String,
    line: usize,
    key: String,
    message: String,
}

/// What a configuration file holds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Where the gateway listens, such as "0.0.0.0:8402".
    #[serde(default = "default_listen")]
    pub(crate) listen: Spanned<String>,
    /// The URL under which clients reach it: it stands in every offer. No default: it cannot be guessed from a request.
    pub(crate) public_url: Spanned<String>,
    /// What is sold, in a few words: it stands in every offer.
    #[serde(default = "default_description")]
    pub(crate) description: String,
    /// The chain.
    pub(crate) chain: ChainSection,
    /// Who is paid.
    pub(crate) seller: Spanned<SellerSection>,
    /// The tokens that are taken, in the order in which they are offered.
    #[serde(rename = "token")]
    pub(crate) tokens: Vec<TokenSection>,
    /// What is lent before it is paid.
    #[serde(default)]
    pub(crate) credit: CreditSection,
    /// When what is due is settled.
    #[serde(default)]
    pub(crate) settlement: SettlementSection,
    /// Where payments are kept.
    #[serde(default)]
    pub(crate) ledger: LedgerSection,
    /// The model servers.
    #[serde(rename = "upstream", default)]
    pub(crate) upstreams: Vec<UpstreamSection>,
    /// The models that are sold.
    #[serde(rename = "model")]
    pub(crate) models: Vec<ModelSection>,
    /// Bounds on requests.
    #[serde(default)]
    pub(crate) limits: LimitsSection,
}

/// `[chain]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChainSection {
    /// The chain id: 56 for BSC, 97 for its testnet. The nodes are held to it at the start.
    pub(crate) id: Spanned<u64>,
    /// JSON-RPC endpoints, best first.
    pub(crate) rpc: Vec<Spanned<String>>,
    /// How many endpoints must agree on what is read for money. 1 to the number of endpoints.
    #[serde(default = "one")]
    pub(crate) agreement: Spanned<usize>,
    /// The time between blocks, in milliseconds: how often settlements are looked at.
    #[serde(default = "block_time")]
    pub(crate) block_time_ms: Spanned<u64>,
    /// The least that is paid a unit of gas, in gwei, as a decimal string.
    #[serde(default = "gas_floor")]
    pub(crate) gas_price_floor_gwei: Spanned<String>,
    /// The most that is paid a unit of gas, in gwei, as a decimal string.
    #[serde(default = "gas_cap")]
    pub(crate) gas_price_cap_gwei: Spanned<String>,
}

/// `[seller]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SellerSection {
    /// The account that sends settlements: its private key, as "$NAME" of an environment variable. Needed unless a
    /// facilitator settles.
    pub(crate) operator_key: Option<Spanned<String>>,
    /// The address of your Settler contract: it is paid, and pays on to its treasury alone. Without it the operator's
    /// account is paid.
    pub(crate) settler: Option<Spanned<String>>,
    /// Without a Settler: where the operator sends what it draws. Default: the operator's account.
    pub(crate) treasury: Option<Spanned<String>>,
    /// Instead of an account of ours: a facilitator somewhere else settles.
    pub(crate) facilitator: Option<RemoteSection>,
}

/// `[seller.facilitator]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RemoteSection {
    /// Its base URL, without `/verify` and `/settle`.
    pub(crate) url: Spanned<String>,
    /// The key that it knows us by, as "$NAME" of an environment variable.
    pub(crate) key: Option<Spanned<String>>,
    /// The account that is paid: any of yours, and no key of it is needed here.
    pub(crate) pay_to: Spanned<String>,
    /// The account with which it settles. Default: what it says at the start. Named here, it is held to it, and need not
    /// answer at the start.
    pub(crate) account: Option<Spanned<String>>,
}

/// `[[token]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenSection {
    /// A symbol of the allow-list for the chain: "USD1", "U", "FDUSD", "USDT", "USDC".
    pub(crate) symbol: Spanned<String>,
    /// The maximum that offers name, in dollars. The same for every request, so that an allowance is signed once and
    /// used again. Below 1: older clients stop at 18 digits.
    #[serde(default = "offer_amount")]
    pub(crate) amount_usd: Spanned<String>,
    /// How long a signed payment stays good, in seconds.
    #[serde(default = "max_timeout")]
    pub(crate) max_timeout_seconds: Spanned<u64>,
}

/// `[credit]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CreditSection {
    /// Credit of a payer who has paid nothing yet, in dollars.
    pub(crate) floor_usd: Spanned<String>,
    /// Dollars of credit for each dollar finally paid in 30 days.
    pub(crate) factor: u64,
    /// The most credit of any payer, in dollars.
    pub(crate) ceiling_usd: Spanned<String>,
    /// Requests in flight of a payer who has paid less than a dollar.
    pub(crate) in_flight: Spanned<u32>,
    /// Requests in flight of any other.
    pub(crate) in_flight_proven: Spanned<u32>,
    /// The most that is unsettled above payers' own paid history, of all payers together, in dollars.
    pub(crate) exposure_usd: Spanned<String>,
}

/// `[settlement]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SettlementSection {
    /// When allowances are settled: "aggregate" or "at-once". Once and exact payments are settled at once.
    pub(crate) allowances: Spanned<String>,
    /// For "aggregate": the sum of a payer that is settled, in dollars.
    pub(crate) max_unsettled_usd: Spanned<String>,
    /// For "aggregate": the age at which anything is settled, in seconds.
    pub(crate) max_age_seconds: u64,
    /// Endpoints to which a settlement goes first, such as a builder's private one; the public ones see it only
    /// `private_seconds` later.
    pub(crate) private_rpc: Vec<Spanned<String>>,
    /// How long a settlement is shown to `private_rpc` alone, in seconds: 1 to 30.
    pub(crate) private_seconds: Spanned<u64>,
    /// The price of a BNB in dollars: no more is paid for a settlement's gas than it brings. A low one is careless, a high
    /// one stingy.
    pub(crate) bnb_usd: Spanned<String>,
}

/// `[ledger]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LedgerSection {
    /// The SQLite file. It is made if it does not exist.
    pub(crate) path: PathBuf,
    /// The id that a new file gets, as 0x and 64 hexadecimal digits: that of your Settler. Default: random. A file that
    /// exists keeps its own.
    pub(crate) id: Option<Spanned<String>>,
    /// Instead of a file: the database that several gateways share.
    pub(crate) postgres: Option<PostgresSection>,
}

/// `[ledger.postgres]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PostgresSection {
    /// The database's URL, as "$NAME" of an environment variable: it may hold a password.
    pub(crate) url: Option<Spanned<String>>,
    /// Instead: a file that holds the URL.
    pub(crate) url_file: Option<Spanned<PathBuf>>,
    /// The schema that holds the ledger. It is made if it does not exist.
    #[serde(default = "default_schema")]
    pub(crate) schema: Spanned<String>,
    /// How many gateways may run at once: each has one part in so many of `credit.exposure_usd`. The same for all of them.
    pub(crate) gateways: Spanned<u32>,
}

/// `[[upstream]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpstreamSection {
    /// The name that models use. "echo" is taken: the built-in engine.
    pub(crate) name: Spanned<String>,
    /// The base URL of an OpenAI-compatible API, such as "http://127.0.0.1:8000/v1".
    pub(crate) url: Spanned<String>,
    /// Its key, as "$NAME" of an environment variable.
    pub(crate) api_key: Option<Spanned<String>>,
    /// Whether it takes top_k, which OpenAI's own API does not.
    #[serde(default = "yes")]
    pub(crate) top_k: bool,
    /// Seconds to wait for the first token.
    #[serde(default = "first_token")]
    pub(crate) first_token_timeout_seconds: Spanned<u64>,
    /// Seconds to wait for each further one.
    #[serde(default = "idle")]
    pub(crate) idle_timeout_seconds: Spanned<u64>,
}

/// `[[model]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelSection {
    /// The name under which it is sold. The first model is the default of requests that name none.
    pub(crate) name: Spanned<String>,
    /// Other names for it.
    #[serde(default)]
    pub(crate) aliases: Vec<Spanned<String>>,
    /// The upstream that answers: the name of an `[[upstream]]`, or "echo".
    pub(crate) upstream: Spanned<String>,
    /// Its name at the upstream. Default: the name under which it is sold.
    pub(crate) upstream_model: Option<String>,
    /// Dollars a million input tokens, as a decimal string.
    pub(crate) input_usd_per_million: Spanned<String>,
    /// Dollars a million output tokens, as a decimal string.
    pub(crate) output_usd_per_million: Spanned<String>,
    /// Dollars a million input tokens that came from a cache. Default: as input.
    pub(crate) cached_input_usd_per_million: Option<Spanned<String>>,
    /// Dollars a request, besides.
    pub(crate) per_request_usd: Option<Spanned<String>>,
    /// The most output tokens of one answer, and the default of requests that name none.
    #[serde(default = "max_output")]
    pub(crate) max_output_tokens: Spanned<u32>,
}

/// `[limits]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LimitsSection {
    /// Bytes of a request's body.
    pub(crate) body_bytes: Spanned<usize>,
    /// Seconds that streams may go on after SIGTERM.
    pub(crate) drain_seconds: u64,
    /// Connections at once.
    pub(crate) connections: Spanned<usize>,
    /// Connections at once of one address (of IPv6: of one /64); those above are closed. Default: no such bound, which is
    /// right behind a proxy, whose address all have.
    pub(crate) connections_per_address: Option<NonZeroUsize>,
    /// Bytes of the longest answer that is kept for callers that lose it: 0 to 16777216. Of a longer one only that there
    /// was one; 0 keeps none.
    pub(crate) answer_bytes: Spanned<usize>,
    /// Seconds for which answers, and payers' names for their requests, are kept at least: 60 to `answer_most_seconds`.
    /// They are kept until the payment's deadline if that is later.
    pub(crate) answer_seconds: Spanned<u64>,
    /// Seconds for which they are kept at most: to 2592000, which are 30 days.
    pub(crate) answer_most_seconds: Spanned<u64>,
    /// Seconds for which a caller may ask, by `Prefer: wait`, that its whole answer is held back until its payment is in a
    /// block: 0 to 300. 0: nobody waits.
    pub(crate) wait_seconds: Spanned<u64>,
}

fn spanned<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}
fn default_listen() -> Spanned<String> {
    spanned("127.0.0.1:8402".to_owned())
}
fn default_description() -> String {
    "LLM inference".to_owned()
}
fn default_schema() -> Spanned<String> {
    spanned("tollgate".to_owned())
}
fn one() -> Spanned<usize> {
    spanned(1)
}
fn block_time() -> Spanned<u64> {
    spanned(450)
}
fn gas_floor() -> Spanned<String> {
    spanned("0.05".to_owned())
}
fn gas_cap() -> Spanned<String> {
    spanned("5".to_owned())
}
fn offer_amount() -> Spanned<String> {
    spanned("0.99".to_owned())
}
fn max_timeout() -> Spanned<u64> {
    spanned(86_400)
}
fn yes() -> bool {
    true
}
fn first_token() -> Spanned<u64> {
    spanned(60)
}
fn idle() -> Spanned<u64> {
    spanned(60)
}
fn max_output() -> Spanned<u32> {
    spanned(2_048)
}

impl Default for CreditSection {
    fn default() -> Self {
        Self {
            floor_usd: spanned("0.10".to_owned()),
            factor: 1,
            ceiling_usd: spanned("10".to_owned()),
            in_flight: spanned(4),
            in_flight_proven: spanned(64),
            exposure_usd: spanned("5".to_owned()),
        }
    }
}

impl Default for SettlementSection {
    fn default() -> Self {
        Self {
            allowances: spanned("aggregate".to_owned()),
            max_unsettled_usd: spanned("0.50".to_owned()),
            max_age_seconds: 600,
            private_rpc: Vec::new(),
            private_seconds: spanned(6),
            bnb_usd: spanned("600".to_owned()),
        }
    }
}

impl Default for LedgerSection {
    fn default() -> Self {
        Self {
            path: PathBuf::from("tollgate.db"),
            id: None,
            postgres: None,
        }
    }
}

impl Default for LimitsSection {
    fn default() -> Self {
        Self {
            body_bytes: spanned(4 * 1024 * 1024),
            drain_seconds: 60,
            connections: spanned(4_096),
            connections_per_address: None,
            answer_bytes: spanned(262_144),
            answer_seconds: spanned(86_400),
            answer_most_seconds: spanned(604_800),
            wait_seconds: spanned(30),
        }
    }
}

/// A configuration file's text, for messages that name a line of it.
pub(crate) struct Source {
    file: String,
    text: String,
}

impl Source {
    /// The file's text.
    pub(crate) fn new(file: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            text: text.into(),
        }
    }

    /// The configuration.
    ///
    /// # Errors
    /// The first mistake: not TOML, an unknown or missing key, or a value of another type.
    pub(crate) fn parse(&self) -> Result<Config, ConfigError> {
        self.parse_as()
    }

    /// What the file holds, in the shape of another command's configuration.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub(crate) fn parse_as<T: serde::de::DeserializeOwned>(&self) -> Result<T, ConfigError> {
        toml::from_str(&self.text).map_err(|error| {
            let span = error.span().unwrap_or(0..0);
            let message = without_value(error.message().trim()).replace('\n', "; ");
            self.error(&self.key_at(span.start), &span, message)
        })
    }

    /// The key that is set in the line of this place, with its table's name; the table alone where the line sets none.
    fn key_at(&self, place: usize) -> String {
        let end = self.text.get(place..).and_then(|rest| rest.find('\n'));
        let end = end.map_or(self.text.len(), |end| place.saturating_add(end));
        let mut lines = self.text.get(..end).unwrap_or_default().lines().rev();
        let last = lines.next().unwrap_or_default();
        let header = |line: &str| {
            let name = line.trim().strip_prefix('[')?.trim_start_matches('[');
            let (name, _) = name.split_once(']')?;
            is_key(name).then(|| name.to_owned())
        };
        let key = last.split_once('=').map(|(key, _)| key.trim());
        match (header(last), key.filter(|key| is_key(key))) {
            (Some(table), _) => table,
            (None, key) => {
                let table = lines.find_map(header);
                let parts = table.as_deref().into_iter().chain(key);
                parts.collect::<Vec<_>>().join(".")
            }
        }
    }

    /// A mistake at a key.
    pub(crate) fn error(
        &self,
        key: &str,
        span: &Range<usize>,
        message: impl fmt::Display,
    ) -> ConfigError {
        let before = self.text.get(..span.start).unwrap_or_default();
        ConfigError {
            file: self.file.clone(),
            line: before.matches('\n').count() + 1,
            key: if key.is_empty() {
                String::new()
            } else {
                format!("{key}: ")
            },
            message: message.to_string(),
        }
    }

    /// A mistake at a key's value.
    pub(crate) fn at<T>(
        &self,
        key: &str,
        value: &Spanned<T>,
        message: impl fmt::Display,
    ) -> ConfigError {
        self.error(key, &value.span(), message)
    }

    /// A secret: `$NAME` of the environment, never the secret itself.
    ///
    /// # Errors
    /// It is written in the file, or the variable is not set.
    pub(crate) fn secret(
        &self,
        key: &str,
        value: &Spanned<String>,
        environment: &BTreeMap<String, String>,
    ) -> Result<String, ConfigError> {
        let Some(name) = value.get_ref().strip_prefix('$') else {
            return Err(self.at(
                key,
                value,
                "write a secret as \"$NAME\" and put it into that environment variable",
            ));
        };
        match environment.get(name) {
            Some(secret) if !secret.is_empty() => Ok(secret.clone()),
            _ => Err(self.at(
                key,
                value,
                format_args!("the environment variable {name} is not set"),
            )),
        }
    }
}

/// Whether this is a key, and no value that stands where one should.
fn is_key(text: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    !text.is_empty() && text.len() <= 64 && text.chars().all(part)
}

/// What is wrong with a value, without the value: where a string stands in the wrong place, it may be a secret.
fn without_value(message: &str) -> String {
    match message.split_once(": string \"") {
        Some((what, rest)) => match rest.rsplit_once("\", expected ") {
            Some((_, expected)) => format!("{what}: a string, expected {expected}"),
            None => what.to_owned(),
        },
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests;
