//! `tollgate ledger export`.

use std::{
    collections::BTreeMap,
    io::{self, BufWriter, Write},
    process::ExitCode,
};

use clap::ValueEnum;
use serde_json::json;
use tollgate_contracts::TokenInfo;
use tollgate_ledger::{BookedEntry, Store};
use tollgate_payment::{PaymentState, RowKey, Rows};
use tollgate_price::amount_to_dollars;
use tollgate_x402::{Address, Amount, B256, Timestamp};

use crate::ops::{Setup, Where, moment, parse_moment};

/// Lines that are read at once.
const PAGE: usize = 2_048;

/// Print the double-entry book as CSV or JSON.
///
/// One line for each entry: the account that takes (debit), the account that gives (credit), and the amount, as an integer
/// of atomic units and as a decimal number of the token. Final payments have their transaction. It is written as it is
/// read, whatever its length. At its end the sums of all accounts stand: in JSON under "sums", for CSV on standard error.
#[derive(clap::Args)]
pub(crate) struct Export {
    #[command(flatten)]
    at: Where,
    /// How it is written
    #[arg(long, value_enum, default_value = "csv")]
    format: Format,
    /// Only what was booked at this moment or after: 2026-11-22, or seconds since 1970
    #[arg(long, value_parser = parse_moment, value_name = "DATE")]
    from: Option<Timestamp>,
    /// Only what was booked before this moment
    #[arg(long, value_parser = parse_moment, value_name = "DATE")]
    to: Option<Timestamp>,
    /// Only this token of the configuration, such as USD1
    #[arg(long, value_name = "SYMBOL")]
    token: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A line for each entry, with a head; opens in a spreadsheet
    Csv,
    /// One object: "entries" and "sums"
    Json,
}

const HEAD: &str =
    "seq,at,payment,payer,chain,token,symbol,debit,credit,amount_atomic,amount,transaction,block";

type Sums = BTreeMap<(Address, &'static str), (Amount, Amount)>;

impl Export {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let setup = Setup::read(&self.at.config)?;
        let only: Option<Address> = match &self.token {
            Some(symbol) => setup
                .tokens_named(Some(symbol))?
                .first()
                .map(|info| info.address),
            None => None,
        };
        let copied = setup.read_ledger().await?;
        let format = if self.at.json {
            Format::Json
        } else {
            self.format
        };
        // Another process may read slowly, or go away: then nobody is left to write for.
        let mut out = BufWriter::new(io::stdout());
        match self
            .write(&setup, &copied.store, only, format, &mut out)
            .await
        {
            Err(error) if is_gone(&error) => Ok(ExitCode::SUCCESS),
            Err(error) => Err(error),
            Ok(sums) => {
                match out.flush() {
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                    done => done?,
                }
                if format == Format::Csv {
                    for ((token, account), (debit, credit)) in sums {
                        warn_person!(
                            "{account:<16} debit {}, credit {}",
                            setup.show(token, debit),
                            setup.show(token, credit)
                        );
                    }
                }
                Ok(ExitCode::SUCCESS)
            }
        }
    }

    async fn write<S: Store>(
        &self,
        setup: &Setup,
        store: &S,
        only: Option<Address>,
        format: Format,
        out: &mut impl Write,
    ) -> anyhow::Result<Sums> {
        match format {
            Format::Csv => write!(out, "{HEAD}\r\n")?,
            Format::Json => write!(out, "{{\"ledger\":\"{}\",\"entries\":[", store.ledger_id())?,
        }
        let mut sums = Sums::new();
        let (mut last, mut first) = (0, true);
        loop {
            let page = store.entries(last, PAGE).await?;
            let Some(end) = page.last() else { break };
            last = end.seq;
            let lines: Vec<&BookedEntry> = page
                .iter()
                .filter(|line| {
                    self.wanted(line) && only.is_none_or(|only| line.entry.owner.token == only)
                })
                .collect();
            let names = lines
                .iter()
                .map(|line| RowKey::Payment(line.entry.payment))
                .collect();
            let payments = store.read(names).await?;
            for line in lines {
                let token = setup.token(line.entry.owner.token);
                let paid = paid(line, &payments);
                match format {
                    Format::Csv => csv(out, line, token, paid)?,
                    Format::Json => {
                        if !first {
                            out.write_all(b",")?;
                        }
                        write!(out, "\n{}", as_json(line, token, paid))?;
                    }
                }
                first = false;
                let entry = &line.entry;
                let taker = sums
                    .entry((entry.owner.token, entry.debit.name()))
                    .or_default();
                taker.0 = taker.0.saturating_add(entry.amount);
                let giver = sums
                    .entry((entry.owner.token, entry.credit.name()))
                    .or_default();
                giver.1 = giver.1.saturating_add(entry.amount);
            }
        }
        if format == Format::Json {
            let all: Vec<_> = sums
                .iter()
                .map(|((token, account), (debit, credit))| {
                    json!({"token": token, "account": account, "debit": debit, "credit": credit})
                })
                .collect();
            writeln!(out, "\n],\"sums\":{}}}", json!(all))?;
        }
        Ok(sums)
    }

    fn wanted(&self, line: &BookedEntry) -> bool {
        self.from.is_none_or(|from| line.at >= from) && self.to.is_none_or(|to| line.at < to)
    }
}

/// Whether nobody reads any more.
fn is_gone(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn paid(line: &BookedEntry, payments: &Rows) -> Option<(B256, u64)> {
    match payments.payment(&line.entry.payment)?.state {
        PaymentState::Final { transaction, block } => Some((transaction, block)),
        _ => None,
    }
}

/// No field holds a comma, a quote or a line's end, so none is quoted.
fn csv(
    out: &mut impl Write,
    line: &BookedEntry,
    token: Option<&TokenInfo>,
    paid: Option<(B256, u64)>,
) -> io::Result<()> {
    let entry = &line.entry;
    let (transaction, block) = paid.map_or_else(Default::default, |(hash, block)| {
        (hash.to_string(), block.to_string())
    });
    write!(
        out,
        "{},{},{},{},{},{},{},{},{},{},{},{transaction},{block}\r\n",
        line.seq,
        moment(line.at),
        entry.payment,
        entry.owner.owner,
        entry.owner.chain,
        entry.owner.token,
        token.map_or("", |token| token.symbol),
        entry.debit.name(),
        entry.credit.name(),
        entry.amount,
        decimal(entry.amount, token),
    )
}

fn as_json(
    line: &BookedEntry,
    token: Option<&TokenInfo>,
    paid: Option<(B256, u64)>,
) -> serde_json::Value {
    let entry = &line.entry;
    json!({
        "seq": line.seq,
        "at": moment(line.at),
        "payment": entry.payment,
        "payer": entry.owner.owner,
        "chain": entry.owner.chain.0,
        "token": entry.owner.token,
        "symbol": token.map(|token| token.symbol),
        "debit": entry.debit.name(),
        "credit": entry.credit.name(),
        "amountAtomic": entry.amount,
        "amount": decimal(entry.amount, token),
        "transaction": paid.map(|(transaction, _)| transaction),
        "block": paid.map(|(_, block)| block),
    })
}

fn decimal(amount: Amount, token: Option<&TokenInfo>) -> String {
    token.map_or_else(String::new, |token| {
        amount_to_dollars(amount, token.decimals)
    })
}
