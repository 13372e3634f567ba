//! What the commands for operators share: the configuration without its keys, a gateway's or a facilitator's; ledgers
//! to read and to change; tables.

mod whose;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail};
use tempfile::TempDir;
use tollgate_bsc::Chain;
use tollgate_contracts::TokenInfo;
use tollgate_eip712::{LocalWallet, TokenDomain};
use tollgate_engine::{Market, Markets};
use tollgate_ledger::{OpenError, PostgresError, RowKind, SqliteStore, Store};
use tollgate_payment::{OwnerKey, Row, SignerKey, Terms};
use tollgate_price::amount_to_dollars;
use tollgate_x402::{Address, Amount, B256, Timestamp};
use toml::Spanned;

pub(crate) use self::whose::Whose;
use crate::{
    clock::SystemClock,
    config::{ConfigError, Source},
    facilitator::FacilitatorConfig,
    plan::{
        self, ChainPlan, CreditPlan, LedgerPlan, PolicyPlan, RemotePlan, Secret, SharedPlan,
        TokenPlan,
    },
    store::AnyStore,
};

/// The part of a configuration that operating needs. No key is needed: what has to be signed is printed for whoever
/// holds it.
pub(crate) struct Setup {
    pub(crate) chain: ChainPlan,
    pub(crate) settler: Option<Address>,
    treasury: Option<Address>,
    /// The facilitator that settles, if it is not an account of ours.
    pub(crate) remote: Option<(RemotePlan, Option<Secret>)>,
    /// Whose file it is.
    pub(crate) whose: Whose,
    /// The account of the operator's key, where that variable is set.
    pub(crate) operator: Option<Address>,
    pub(crate) tokens: Vec<TokenPlan>,
    pub(crate) credit: CreditPlan,
    pub(crate) ledger: LedgerPlan,
    /// The age at which allowances are settled at the latest, in seconds; 0: at once.
    pub(crate) max_age: u64,
}

impl Setup {
    /// Reads a configuration file, a gateway's or a facilitator's.
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| {
            format!(
                "{} cannot be read (docs/configuration.md has an example)",
                file.display()
            )
        })?;
        let source = Source::new(file.display().to_string(), text);
        let environment: BTreeMap<String, String> = std::env::vars().collect();
        Ok(match Whose::of(&source)? {
            Whose::Gateway => Self::of_gateway(&source, &environment)?,
            Whose::Facilitator => Self::of_facilitator(&source, &environment)?,
        })
    }

    fn of_facilitator(
        source: &Source,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let config: FacilitatorConfig = source.parse_as()?;
        let kept = config.kept(source, environment)?;
        let tokens = kept.tokens.into_iter().map(|info| TokenPlan {
            info,
            // Each payment has its own.
            amount: Amount::MAX,
            max_timeout: u64::MAX,
        });
        Ok(Self {
            settler: None,
            treasury: None,
            remote: None,
            whose: Whose::Facilitator,
            operator: kept.operator,
            tokens: tokens.collect(),
            // It lends nothing.
            credit: CreditPlan::default(),
            ledger: kept.ledger,
            max_age: 0,
            chain: kept.chain,
        })
    }

    fn of_gateway(
        source: &Source,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let config = source.parse()?;
        let chain = plan::chain(&config.chain, source)?;
        let tokens = plan::tokens(&config, source, chain.id)?;
        let seller = config.seller.get_ref();
        let secret = |key: Option<&Spanned<String>>| {
            let key = key?;
            source.secret("", key, environment).ok()
        };
        let operator = secret(seller.operator_key.as_ref())
            .and_then(|key| LocalWallet::from_hex(&key).ok())
            .map(|wallet| wallet.address());
        let remote = plan::remote(seller, source)?.map(|plan| {
            let section = seller.facilitator.as_ref();
            let key = secret(section.and_then(|section| section.key.as_ref()));
            (plan, key.map(Secret))
        });
        Ok(Self {
            settler: plan::address(source, "seller.settler", &seller.settler)?,
            treasury: plan::address(source, "seller.treasury", &seller.treasury)?,
            remote,
            whose: Whose::Gateway,
            operator,
            credit: plan::credit(&config, source)?,
            ledger: plan::ledger(&config.ledger, source)?,
            max_age: match plan::policy(&config, source)? {
                PolicyPlan::AtOnce => 0,
                PolicyPlan::Aggregate { max_age, .. } => max_age,
            },
            chain,
            tokens,
        })
    }

    /// The chain.
    pub(crate) async fn connect(&self) -> anyhow::Result<Chain> {
        crate::opening::connect(&self.chain).await
    }

    /// A ledger to read: of a file a copy as it is now, so that a gateway that has it open goes on; a database itself.
    pub(crate) async fn read_ledger(&self) -> anyhow::Result<Copied> {
        if let Some(shared) = &self.ledger.shared {
            return Ok(Copied {
                store: self.existing(shared).await?,
                _directory: None,
            });
        }
        self.copy()
    }

    /// A database that has a ledger: who operates one makes none.
    async fn existing(&self, shared: &SharedPlan) -> anyhow::Result<AnyStore> {
        let opened = AnyStore::existing(shared, self.ledger.id).await;
        opened.map_err(|error| match error.downcast_ref() {
            Some(PostgresError::Absent { .. }) => error.context(format!(
                "correct ledger.postgres, or start `{}`, which makes one",
                self.whose.command()
            )),
            _ => error,
        })
    }

    /// A ledger to try something with, which changes nothing.
    pub(crate) fn copy(&self) -> anyhow::Result<Copied> {
        if self.ledger.shared.is_some() {
            bail!(
                "a dry run needs a copy, which is made of a SQLite file alone: restore a dump of the database into another one, and name that in the configuration"
            );
        }
        let path = &self.ledger.path;
        if !path.exists() {
            bail!(
                "there is no ledger at {}: correct ledger.path, or start in the directory in which `{}` is started",
                path.display(),
                self.whose.command()
            );
        }
        // Beside the ledger: there it fits, and nobody else looks.
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let directory = tempfile::Builder::new()
            .prefix(".tollgate-copy-")
            .tempdir_in(folder)
            .or_else(|_| tempfile::tempdir())
            .context("no directory for a copy of the ledger")?;
        let copy = directory.path().join("ledger.db");
        SqliteStore::copy(path, &copy)?;
        let store = SqliteStore::open(&copy, B256::ZERO, Arc::new(SystemClock))?;
        Ok(Copied {
            store: AnyStore::File(store),
            _directory: Some(directory),
        })
    }

    /// The ledger to change, if no other process has it open; the process that has it otherwise.
    pub(crate) async fn open(&self) -> anyhow::Result<Result<AnyStore, Option<u32>>> {
        if let Some(shared) = &self.ledger.shared {
            return Ok(Ok(self.existing(shared).await?));
        }
        let path = &self.ledger.path;
        if !path.exists() {
            bail!(
                "there is no ledger at {}: correct ledger.path, or start in the directory in which `{}` is started",
                path.display(),
                self.whose.command()
            );
        }
        match SqliteStore::open(path, B256::ZERO, Arc::new(SystemClock)) {
            Ok(store) => Ok(Ok(AnyStore::File(store))),
            Err(OpenError::Locked { holder, .. }) => Ok(Err(holder)),
            Err(error) => Err(error.into()),
        }
    }

    /// Whom payers pay, and where the money ends.
    pub(crate) async fn receivers<S: Store>(
        &self,
        chain: &Chain,
        store: &S,
    ) -> anyhow::Result<Receivers> {
        let operator = match (self.signer(store).await, self.settler) {
            (Ok(operator), _) => operator,
            // Behind a Settler it is nobody's matter which of several accounts settles.
            (Err(error), Some(_)) => {
                let known = signers(store).await?;
                known.first().ok_or(error)?.operator
            }
            (Err(error), None) => return Err(error),
        };
        self.receivers_of(chain, operator).await
    }

    /// The same, where the account that settles is known.
    pub(crate) async fn receivers_of(
        &self,
        chain: &Chain,
        operator: Address,
    ) -> anyhow::Result<Receivers> {
        if let Some((remote, _)) = &self.remote {
            return Ok(Receivers {
                pay_to: remote.pay_to,
                treasury: remote.pay_to,
                operator: remote.pay_to,
            });
        }
        Ok(match self.settler {
            Some(settler) => Receivers {
                pay_to: settler,
                treasury: crate::seller::treasury_of(chain, settler).await?,
                operator,
            },
            None => Receivers {
                pay_to: operator,
                treasury: self.treasury.unwrap_or(operator),
                operator,
            },
        })
    }

    /// The account that settles: that of the key, or the only one that the ledger knows.
    pub(crate) async fn signer<S: Store>(&self, store: &S) -> anyhow::Result<Address> {
        if let Some((remote, _)) = &self.remote {
            // In the ledger the requests to a facilitator are those of the account that is paid.
            return Ok(remote.pay_to);
        }
        if let Some(operator) = self.operator {
            return Ok(operator);
        }
        let known = signers(store).await?;
        let mut ours = known
            .iter()
            .filter(|signer| signer.chain == self.chain.id)
            .map(|signer| signer.operator);
        match (ours.next(), ours.next()) {
            (Some(operator), None) => Ok(operator),
            (None, _) => bail!(
                "the ledger knows no account that settles yet: set the variable that {} names",
                self.whose.operator_key()
            ),
            (Some(_), Some(_)) => bail!(
                "the ledger knows several accounts that settle: set the variable that {} names",
                self.whose.operator_key()
            ),
        }
    }

    /// The tokens as the engine knows them.
    pub(crate) fn markets(&self, receivers: &Receivers) -> anyhow::Result<Markets> {
        let markets = self.tokens.iter().map(|token| {
            let info = token.info;
            Ok(Market {
                terms: Terms {
                    chain: self.chain.id,
                    token: info.address,
                    name: None,
                    version: None,
                    pay_to: receivers.pay_to,
                    amount: token.amount,
                    max_timeout: token.max_timeout,
                    permit: info.permit && self.remote.is_none(),
                    eip3009: info.eip3009,
                    permit2: None,
                },
                domain: TokenDomain::permit2_only(self.chain.id, info.address),
                credit: self.credit.of(info.decimals)?,
                settler: self.settler.is_some(),
                treasury: receivers.treasury,
            })
        });
        let markets = Markets::new(markets.collect::<anyhow::Result<_>>()?);
        Ok(match (self.whose, &self.remote) {
            (Whose::Facilitator, _) => markets.paying_anyone(),
            (Whose::Gateway, Some(_)) => markets.settled_elsewhere(),
            (Whose::Gateway, None) => markets,
        })
    }

    /// A token of the configuration.
    pub(crate) fn token(&self, address: Address) -> Option<&'static TokenInfo> {
        self.tokens
            .iter()
            .map(|token| token.info)
            .find(|info| info.address == address)
    }

    /// A token of the configuration by its symbol, or all of them.
    pub(crate) fn tokens_named(
        &self,
        symbol: Option<&str>,
    ) -> anyhow::Result<Vec<&'static TokenInfo>> {
        let all: Vec<_> = self.tokens.iter().map(|token| token.info).collect();
        let Some(symbol) = symbol else { return Ok(all) };
        let found: Vec<_> = all
            .iter()
            .copied()
            .filter(|info| info.symbol.eq_ignore_ascii_case(symbol))
            .collect();
        if found.is_empty() {
            let known: Vec<_> = all.iter().map(|info| info.symbol).collect();
            bail!(
                "{symbol} is no token of the configuration, which has {}",
                known.join(", ")
            );
        }
        Ok(found)
    }

    /// An amount with its symbol, for people.
    pub(crate) fn show(&self, token: Address, amount: Amount) -> String {
        match self.token(token) {
            Some(info) => format!(
                "{} {}",
                amount_to_dollars(amount, info.decimals),
                info.symbol
            ),
            None => format!("{amount} atomic units of {token}"),
        }
    }

    /// A payer of a token.
    pub(crate) const fn owner(&self, token: &TokenInfo, owner: Address) -> OwnerKey {
        OwnerKey {
            chain: self.chain.id,
            token: token.address,
            owner,
        }
    }
}

/// A copy of a ledger, which is gone with this value.
pub(crate) struct Copied {
    pub(crate) store: AnyStore,
    _directory: Option<TempDir>,
}

/// Whom payers pay, and where the money ends.
pub(crate) struct Receivers {
    pub(crate) pay_to: Address,
    pub(crate) treasury: Address,
    pub(crate) operator: Address,
}

/// The accounts that a ledger knows.
pub(crate) async fn signers<S: Store>(store: &S) -> anyhow::Result<Vec<SignerKey>> {
    let rows = store.scan(RowKind::Signer, None, usize::MAX).await?;
    Ok(rows
        .iter()
        .filter_map(|row| match row {
            Row::Signer(row) => Some(row.key),
            _ => None,
        })
        .collect())
}

/// Which ledger and chain.
#[derive(clap::Args)]
pub(crate) struct Where {
    /// The configuration file of the gateway, or of the facilitator. Its keys are not needed
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Print JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// A table for people: columns as wide as they must be.
pub(crate) struct Table(Vec<Vec<String>>);

impl Table {
    pub(crate) fn new(head: &[&str]) -> Self {
        Self(vec![head.iter().map(|cell| (*cell).to_owned()).collect()])
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.0.push(cells);
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.0.iter().map(Vec::len).max().unwrap_or_default();
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let cells = self.0.iter().filter_map(|row| row.get(column));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        for row in &self.0 {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:<width$}  "));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A moment as people and spreadsheets read it: UTC, to the second.
pub(crate) fn moment(at: Timestamp) -> String {
    let (days, seconds) = (at.0 / 86_400, at.0 % 86_400);
    let (year, month, day) = civil(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        seconds / 3_600,
        seconds % 3_600 / 60,
        seconds % 60
    )
}

/// The moment of a date (`2026-11-22`, its beginning in UTC) or of a number of seconds since 1970.
pub(crate) fn parse_moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Timestamp(seconds));
    }
    let wrong = || format!("{text:?} is no date: write 2026-11-22, or seconds since 1970");
    let parts: Vec<u64> = text
        .split('-')
        .map(|part| part.parse().map_err(|_| wrong()))
        .collect::<Result<_, _>>()?;
    let [year, month, day] = parts.as_slice() else {
        return Err(wrong());
    };
    if !(1970..=9999).contains(year) {
        return Err(wrong());
    }
    // The first days of all years up to that one, then the days of the year.
    let begin = (year - 1970) * 365;
    (begin..begin + 3_000)
        .find(|days| civil(*days) == (*year, *month, *day))
        .map(|days| Timestamp(days * 86_400))
        .ok_or_else(wrong)
}

/// The date of a day since 1970, in the Gregorian calendar.
const fn civil(days: u64) -> (u64, u64, u64) {
    // Eras of 400 years begin on the first of March.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + (month <= 2) as u64;
    (year, month, day)
}

/// An address, with its checksum where it has one (EIP-55): a slip of the keyboard is no other address.
pub(crate) fn parse_address(text: &str) -> Result<Address, &'static str> {
    let address = text
        .parse::<Address>()
        .map_err(|_| "write an address as 0x and 40 hexadecimal digits")?;
    let digits = text.trim_start_matches("0x");
    let mixed = digits.chars().any(|c| c.is_ascii_lowercase())
        && digits.chars().any(|c| c.is_ascii_uppercase());
    if mixed && address.to_checksum(None).trim_start_matches("0x") != digits {
        return Err("its checksum is wrong (EIP-55): a digit is not the one that was meant");
    }
    Ok(address)
}

/// How long, for people.
pub(crate) fn ago(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_and_read_as_dates() {
        assert_eq!(moment(Timestamp(0)), "1970-01-01T00:00:00Z");
        assert_eq!(moment(Timestamp(951_827_696)), "2000-02-29T12:34:56Z");
        assert_eq!(moment(Timestamp(4_102_444_799)), "2099-12-31T23:59:59Z");
        assert_eq!(parse_moment("2000-02-29"), Ok(Timestamp(951_782_400)));
        assert_eq!(parse_moment("2026-11-22"), Ok(Timestamp(1_795_305_600)));
        assert_eq!(parse_moment("1795305600"), Ok(Timestamp(1_795_305_600)));
        for wrong in ["2026-02-30", "2026-13-01", "yesterday", "2026-11", ""] {
            assert!(parse_moment(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn allowances_that_are_settled_at_once_wait_for_no_age() {
        for (settlement, age) in [
            ("", 600),
            ("allowances = \"at-once\"", 0),
            ("max_age_seconds = 60", 60),
            ("allowances = \"at-once\"\nmax_age_seconds = 60", 0),
        ] {
            let text = format!(
                "public_url = \"https://a.example\"\n[chain]\nid = 56\nrpc = [\"http://127.0.0.1:1\"]\n\
                 [seller]\noperator_key = \"$KEY\"\n[[token]]\nsymbol = \"USD1\"\n[[model]]\nname = \"m\"\n\
                 upstream = \"echo\"\ninput_usd_per_million = \"1\"\noutput_usd_per_million = \"2\"\n\
                 [settlement]\n{settlement}\n"
            );
            let source = Source::new("tollgate.toml", text);
            let setup = Setup::of_gateway(&source, &BTreeMap::new()).unwrap();
            assert_eq!(setup.max_age, age, "{settlement}");
        }
    }

    #[test]
    fn an_address_with_a_wrong_checksum_is_refused() {
        let good = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C";
        assert!(parse_address(good).is_ok());
        assert!(parse_address(&good.to_lowercase()).is_ok());
        let slip = good.replace("C5328b", "C5328B");
        assert!(parse_address(&slip).unwrap_err().contains("checksum"));
        assert!(parse_address("0x12").unwrap_err().contains("40"));
    }

    #[test]
    fn a_table_is_as_wide_as_its_widest_cells() {
        let mut table = Table::new(&["a", "b"]);
        table.row(vec!["long".into(), "x".into()]);
        assert_eq!(table.to_string(), "a     b\nlong  x\n");
    }
}
