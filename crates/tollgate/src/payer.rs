//! `tollgate payer`: one payer, as its operator sees and treats it.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Subcommand;
use serde_json::{Value, json};
use tollgate_bsc::{Chain, TokenTransfer};
use tollgate_contracts::{TokenInfo, addresses::PERMIT2};
use tollgate_ledger::{LogFilter, PaymentLog, Store};
use tollgate_payment::{Limit, OwnerRow, RowKey, Rows, SpenderKey, SpenderRow};
use tollgate_price::amount_from_dollars;
use tollgate_x402::{Address, Amount, B256, Clock, PaymentId, Timestamp};

use crate::{
    admin::Action,
    clock::SystemClock,
    ops::{Setup, Table, Where, moment},
};

/// Look at a payer; block it, serve it again, or forgive what it owes.
///
/// It works while the gateway runs: what changes something is then done by the gateway, which listens on a socket beside
/// the ledger's file for who may write it. --dry-run does it in a copy. Exit codes: 0 done; 1 it failed, or there was
/// nothing to do; 2 the arguments are wrong.
#[derive(clap::Args)]
pub(crate) struct Payer {
    #[command(subcommand)]
    command: Command,
}

// What each is for stands with its own type.
#[derive(Subcommand)]
enum Command {
    Show(Show),
    Block(Block),
    Unblock(Unblock),
    Forgive(Forgive),
}

impl Payer {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Show(command) => command.run().await,
            Command::Block(command) => command.run().await,
            Command::Unblock(command) => command.run().await,
            Command::Forgive(command) => command.run().await,
        }
    }
}

/// Which payer.
#[derive(clap::Args)]
struct Who {
    /// The payer's address
    #[arg(value_parser = crate::ops::parse_address)]
    payer: Address,
    #[command(flatten)]
    at: Where,
    /// Only this token of the configuration, such as USD1. Default: all of them
    #[arg(long, value_name = "SYMBOL")]
    token: Option<String>,
}

impl Who {
    fn read(&self) -> anyhow::Result<(Setup, Vec<&'static TokenInfo>)> {
        let setup = Setup::read(&self.at.config)?;
        let tokens = setup.tokens_named(self.token.as_deref())?;
        Ok((setup, tokens))
    }
}

/// Show what is known of a payer.
#[derive(clap::Args)]
struct Show {
    #[command(flatten)]
    who: Who,
    /// How many of its last payments
    #[arg(long, default_value_t = 10, value_name = "NUMBER")]
    payments: usize,
}

impl Show {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let (setup, tokens) = self.who.read()?;
        let copied = setup.read_ledger().await?;
        let store = &copied.store;
        let now = SystemClock.now();
        let payer = self.who.payer;
        let mut spenders = vec![PERMIT2];
        spenders.extend(setup.settler);
        if setup.settler.is_none() {
            spenders.extend(setup.signer(store).await.ok());
        }
        let names = tokens
            .iter()
            .flat_map(|token| {
                let owner = setup.owner(token, payer);
                let spenders = spenders.iter().map(move |spender| {
                    RowKey::Spender(SpenderKey {
                        owner,
                        spender: *spender,
                    })
                });
                spenders.chain([RowKey::Owner(owner)])
            })
            .collect();
        let rows = store.read(names).await?;
        let mut known = false;
        let mut all = Vec::new();
        for token in tokens {
            let owner = setup.owner(token, payer);
            let Some(row) = rows.owner(&owner) else {
                continue;
            };
            known = true;
            let last = LogFilter {
                chain: Some(owner.chain),
                token: Some(owner.token),
                payer: Some(payer),
                ..LogFilter::default()
            };
            let last = store.logs(last, self.payments).await?;
            if self.who.at.json {
                all.push(self.as_json(&setup, token, row, &rows, &spenders, &last, now)?);
            } else {
                print(&setup, token, row, &rows, &spenders, &last, now)?;
            }
        }
        if self.who.at.json {
            say!("{:#}", json!({"payer": payer, "tokens": all}));
        } else if !known {
            say!("{payer} has never paid here.");
        }
        Ok(if known {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "what one table shows comes from as many places"
    )]
    fn as_json(
        &self,
        setup: &Setup,
        token: &TokenInfo,
        row: &OwnerRow,
        rows: &Rows,
        spenders: &[Address],
        last: &[PaymentLog],
        now: Timestamp,
    ) -> anyhow::Result<Value> {
        let credit = setup.credit.of(token.decimals)?;
        let spenders: Vec<Value> = drawn(row, rows, spenders)
            .map(|row| {
                json!({
                    "spender": row.key.spender,
                    "held": row.held,
                    "due": row.due,
                    "limit": limit(&row.limit),
                })
            })
            .collect();
        Ok(json!({
            "token": token.address,
            "symbol": token.symbol,
            "credit": credit.of(row, now),
            "paid30Days": row.history.paid(now),
            "held": row.held,
            "due": row.due,
            "lost": row.lost,
            "inFlight": row.in_flight,
            "blocked": row.blocked,
            "balanceSeen": row.view.as_ref().map(|view| view.amount),
            "spenders": spenders,
            "payments": last.iter().map(payment).collect::<Vec<_>>(),
        }))
    }
}

/// What bounds a spender, for programs. Signatures stay in the ledger.
fn limit(limit: &Limit) -> Value {
    match limit {
        Limit::Seen(view) => json!({"allowanceSeen": view.as_ref().map(|view| view.amount)}),
        Limit::Counter(counter) => json!({
            "settled": counter.settled,
            "claimed": counter.claimed,
            "ceiling": counter.ceiling,
            "undecided": counter.undecided,
            "halted": counter.halted,
            "permit": counter.permit.as_ref().map(|permit| json!({
                "nonce": permit.signed.nonce,
                "value": permit.signed.value,
                "deadline": permit.signed.deadline.0,
                "applied": permit.applied,
            })),
        }),
    }
}

/// A payment, for programs.
fn payment(payment: &PaymentLog) -> Value {
    json!({
        "payment": payment.payment,
        "created": payment.created.0,
        "ended": payment.ended.map(|ended| ended.0),
        "state": payment.status.name(),
        "reason": payment.reason,
        "reserved": payment.reserved,
        "charge": payment.charge,
        "interval": payment.interval.map(|(from, to)| [from, to]),
        "batch": payment.batch.map(|batch| format!("{:032x}", batch.0)),
        "transaction": payment.transaction,
        "block": payment.block,
        "memo": payment.memo,
    })
}

/// The payer's spenders that the ledger knows.
fn drawn<'a>(
    row: &'a OwnerRow,
    rows: &'a Rows,
    spenders: &'a [Address],
) -> impl Iterator<Item = &'a SpenderRow> {
    spenders.iter().filter_map(|spender| {
        rows.spender(&SpenderKey {
            owner: row.key,
            spender: *spender,
        })
    })
}

fn print(
    setup: &Setup,
    token: &TokenInfo,
    row: &OwnerRow,
    rows: &Rows,
    spenders: &[Address],
    last: &[PaymentLog],
    now: Timestamp,
) -> anyhow::Result<()> {
    let show = |amount| setup.show(token.address, amount);
    let credit = setup.credit.of(token.decimals)?;
    say!("{} pays in {}", row.key.owner, token.symbol);
    match (&row.blocked, row.lost.is_zero()) {
        (Some(reason), _) => say!("  BLOCKED              {reason}"),
        (None, false) => say!(
            "  not served           it owes {} that it made unpayable",
            show(row.lost)
        ),
        (None, true) => {}
    }
    say!("  credit               {}", show(credit.of(row, now)));
    say!("  paid in 30 days      {}", show(row.history.paid(now)));
    say!(
        "  held                 {} in {} requests",
        show(row.held),
        row.in_flight
    );
    say!("  due                  {}", show(row.due));
    say!("  lost                 {}", show(row.lost));
    if let Some(view) = &row.view {
        say!(
            "  balance              {} at block {}, {}",
            show(view.amount),
            view.block,
            moment(view.at)
        );
    }
    for spender in drawn(row, rows, spenders) {
        match &spender.limit {
            Limit::Counter(counter) => {
                say!("  allowance of {}", spender.key.spender);
                say!(
                    "    drawn and final    {}; claimed to {}; budgets end at {}",
                    show(counter.settled),
                    show(counter.claimed),
                    show(counter.ceiling)
                );
                if counter.undecided > 0 || counter.halted {
                    let waits = if counter.halted {
                        ", which it waits for"
                    } else {
                        ""
                    };
                    say!(
                        "    undecided          {} batches{waits}",
                        counter.undecided
                    );
                }
                if let Some(permit) = &counter.permit {
                    say!(
                        "    permit             nonce {}, {} until {}, {}",
                        permit.signed.nonce,
                        show(permit.signed.value),
                        moment(permit.signed.deadline),
                        if permit.applied {
                            "on the chain"
                        } else {
                            "not on the chain yet"
                        }
                    );
                }
            }
            Limit::Seen(view) => say!(
                "  allowance of Permit2 {}",
                view.as_ref()
                    .map_or("not seen".to_owned(), |view| show(view.amount))
            ),
        }
    }
    if !last.is_empty() {
        let mut table = Table::new(&[
            "payment",
            "at",
            "state",
            "reserved",
            "charge",
            "transaction",
        ]);
        for payment in last {
            let state = match &payment.reason {
                Some(reason) => format!("{} ({reason})", payment.status.name()),
                None => payment.status.name().to_owned(),
            };
            table.row(vec![
                payment.payment.to_string(),
                moment(payment.created),
                state,
                show(payment.reserved),
                show(payment.charge),
                payment
                    .transaction
                    .map_or_else(String::new, |hash| hash.to_string()),
            ]);
        }
        say!("\n{}", table.to_string().trim_end());
    }
    Ok(())
}

/// Serve a payer no more. What it owes is settled as ever; it is told that it is not served, and not why.
#[derive(clap::Args)]
struct Block {
    #[command(flatten)]
    who: Who,
    /// Why, for you and your colleagues
    #[arg(long)]
    reason: String,
    /// Do it in a copy, and say what would be done
    #[arg(long)]
    dry_run: bool,
}

impl Block {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let (setup, tokens) = self.who.read()?;
        let owners = tokens
            .iter()
            .map(|token| setup.owner(token, self.who.payer))
            .collect();
        let reason = self.reason.trim().to_owned();
        if reason.is_empty() {
            bail!("--reason: say why, for whoever looks at this payer next");
        }
        let done = Action::Block { owners, reason }
            .run(&setup, self.dry_run)
            .await?;
        let before = done
            .as_array()
            .and_then(|all| all.iter().find_map(|one| one["before"].as_str()));
        tell(&self.who.at, self.dry_run, &done, || {
            let before =
                before.map_or_else(String::new, |before| format!(" It was already: {before}"));
            format!("{} is blocked.{before}", self.who.payer)
        });
        Ok(ExitCode::SUCCESS)
    }
}

/// Serve a blocked payer again. If it owes what it made unpayable, it is served when that is forgiven or paid.
#[derive(clap::Args)]
struct Unblock {
    #[command(flatten)]
    who: Who,
    /// Do it in a copy, and say what would be done
    #[arg(long)]
    dry_run: bool,
}

impl Unblock {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let (setup, tokens) = self.who.read()?;
        let owners = tokens
            .iter()
            .map(|token| setup.owner(token, self.who.payer))
            .collect();
        let done = Action::Unblock { owners }.run(&setup, self.dry_run).await?;
        let was = done
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one["before"].is_string()));
        tell(&self.who.at, self.dry_run, &done, || {
            if was {
                format!("{} is not blocked any more.", self.who.payer)
            } else {
                format!("{} was not blocked.", self.who.payer)
            }
        });
        Ok(if was {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// Ask no more for what a payer made unpayable; without other debts it is served again.
///
/// The book gets a line from bad_debt to forgiven. With --paid-by the payer's own transfer to the treasury is looked up on
/// the chain: it has to be final, and is booked as received, once.
#[derive(clap::Args)]
struct Forgive {
    #[command(flatten)]
    who: Who,
    /// How much, as a decimal number of the token; --token is then needed where several are sold for. Default: all of it
    #[arg(long, value_name = "AMOUNT", conflicts_with = "paid_by")]
    amount: Option<String>,
    /// The transaction in which the payer sent the money to the treasury
    #[arg(long, value_name = "HASH")]
    paid_by: Option<B256>,
    /// Do it in a copy, and say what would be done
    #[arg(long)]
    dry_run: bool,
}

impl Forgive {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let (setup, tokens) = self.who.read()?;
        let actions = match self.paid_by {
            Some(hash) => self.paid(&setup, &tokens, hash).await?,
            None => vec![self.forgiven(&setup, &tokens)?],
        };
        let mut all = Vec::new();
        for action in actions {
            if let Value::Array(done) = action.run(&setup, self.dry_run).await? {
                all.extend(done);
            }
        }
        let nothing = all.is_empty();
        let done = Value::Array(all);
        tell(&self.who.at, self.dry_run, &done, || {
            if nothing {
                return format!("{} owes nothing that it made unpayable.", self.who.payer);
            }
            let lines: Vec<String> = done
                .as_array()
                .map_or(&[][..], Vec::as_slice)
                .iter()
                .map(|one| told(&setup, one))
                .collect();
            lines.join("\n")
        });
        Ok(if nothing {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }

    fn forgiven(&self, setup: &Setup, tokens: &[&'static TokenInfo]) -> anyhow::Result<Action> {
        let amount = match (&self.amount, tokens) {
            (None, _) => None,
            (Some(amount), [token]) => Some(
                amount_from_dollars(amount, token.decimals)
                    .with_context(|| format!("--amount {amount}"))?,
            ),
            (Some(_), _) => bail!("--amount needs --token: several tokens are sold for"),
        };
        Ok(Action::Forgive {
            owners: tokens
                .iter()
                .map(|token| setup.owner(token, self.who.payer))
                .collect(),
            amount,
            reference: PaymentId::from_random(rand::random()),
        })
    }

    /// The payer's transfers to the treasury in a final transaction.
    async fn paid(
        &self,
        setup: &Setup,
        tokens: &[&'static TokenInfo],
        hash: B256,
    ) -> anyhow::Result<Vec<Action>> {
        let copied = setup.read_ledger().await?;
        let chain: Chain = setup.connect().await?;
        let receivers = setup.receivers(&chain, &copied.store).await?;
        let sight = chain.sight(&[hash]).await?;
        let Some(receipt) = sight.receipts.into_iter().next().flatten() else {
            bail!("no block has transaction {hash}: wait until one has, or correct the hash");
        };
        if !receipt.success {
            bail!("transaction {hash} failed: it moved nothing");
        }
        if !sight.heads.finality(receipt.block).is_final() {
            bail!("transaction {hash} is not final yet: run this again in some seconds");
        }
        let settled = receipt.from == receivers.operator
            || receipt
                .logs
                .iter()
                .any(|log| setup.settler == Some(log.address));
        if settled {
            bail!("transaction {hash} is a settlement of yours, and no payment of a debt");
        }
        let mut actions = Vec::new();
        for log in &receipt.logs {
            let Some(transfer) = TokenTransfer::of(log) else {
                continue;
            };
            let token = tokens.iter().find(|token| token.address == transfer.token);
            if let Some(token) = token
                && transfer.from == self.who.payer
                && transfer.to == receivers.treasury
                && transfer.amount > Amount::ZERO
            {
                actions.push(Action::PayOff {
                    owner: setup.owner(token, self.who.payer),
                    amount: transfer.amount,
                    transaction: hash,
                    block: receipt.block.number,
                    log: log.index,
                });
            }
        }
        if actions.is_empty() {
            bail!(
                "transaction {hash} moves nothing from {} to the treasury {}",
                self.who.payer,
                receivers.treasury
            );
        }
        Ok(actions)
    }
}

/// What was forgiven, for people.
fn told(setup: &Setup, one: &Value) -> String {
    let amount = |key: &str| {
        let amount: Option<Amount> = one[key].as_str().and_then(|text| text.parse().ok());
        amount.unwrap_or_default()
    };
    let token: Address = one["token"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or_default();
    let show = |key| setup.show(token, amount(key));
    let left = if amount("left").is_zero() {
        "nothing is left".to_owned()
    } else {
        format!("{} are left", show("left"))
    };
    if one["received"].is_null() {
        format!("{} are forgiven; {left}.", show("amount"))
    } else {
        format!(
            "{} were received, and {} of the debt are paid; {left}.",
            show("received"),
            show("amount")
        )
    }
}

fn tell(at: &Where, dry_run: bool, done: &Value, say_it: impl FnOnce() -> String) {
    if at.json {
        say!("{:#}", json!({"dryRun": dry_run, "done": done}));
    } else {
        say!("{}", say_it());
        if dry_run {
            say!("This was a dry run on a copy: the ledger is as it was.");
        }
    }
}
