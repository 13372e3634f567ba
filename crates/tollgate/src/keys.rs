//! `tollgate keys`: changing the account that settles.

use std::process::ExitCode;

use alloy_sol_types::SolCall;
use anyhow::bail;
use clap::Subcommand;
use serde_json::{Value, json};
use tollgate_bsc::{BlockTag, CallRequest, Chain};
use tollgate_contracts::abi::Settler;
use tollgate_ledger::Store;
use tollgate_payment::{RowKey, SignerKey};
use tollgate_x402::{Address, Bytes};

use crate::ops::{Setup, Where, Whose};

/// Change the account that settles.
#[derive(clap::Args)]
pub(crate) struct Keys {
    #[command(subcommand)]
    command: Command,
}

// What each is for stands with its own type.
#[derive(Subcommand)]
enum Command {
    Rotate(Rotate),
}

impl Keys {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Rotate(command) => command.run().await,
        }
    }
}

/// Walk through the change of the operator's key.
///
/// Every run looks at the chain and the ledger, and says which steps are done and what is next. What the Settler's admin has
/// to send is printed as address and calldata: no key is asked for, and nothing is signed, sent or changed. Run it again
/// after each step.
///
/// Exit codes: 0 every step is done; 1 some are left, or it failed; 2 the arguments are wrong.
#[derive(clap::Args)]
struct Rotate {
    #[command(flatten)]
    at: Where,
    /// The new account: only its address. Its key is yours to make and keep
    #[arg(long, value_name = "ADDRESS", value_parser = crate::ops::parse_address)]
    new: Address,
    /// The account that it replaces. Default: the one that the ledger or the configuration names
    #[arg(long, value_name = "ADDRESS", value_parser = crate::ops::parse_address)]
    old: Option<Address>,
}

/// A step of the change.
struct Step {
    what: String,
    done: bool,
    seen: String,
    /// What is to be done, if it is not done.
    next: String,
    /// The transaction that the admin has to send for it.
    calldata: Option<Bytes>,
}

impl Rotate {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let setup = Setup::read(&self.at.config)?;
        if let Some((remote, _)) = &setup.remote {
            bail!(
                "no key of yours settles: the facilitator {} does",
                remote.url
            );
        }
        if setup.whose == Whose::Facilitator {
            bail!(
                "upto payments name the facilitator's account, and no other can settle them: let what is due be settled (`tollgate ledger stuck`), stop it, and start it with the new key over the same ledger; sellers find the new account in GET /supported"
            );
        }
        let Some(settler) = setup.settler else {
            bail!(
                "without a Settler the operator's account is itself paid, and what was signed to it cannot go to another: let what is due be settled, then start with a new key and a new ledger"
            );
        };
        let copied = setup.read_ledger().await?;
        let old = self.old(&setup, &copied.store).await?;
        let chain = setup.connect().await?;
        let steps = self
            .steps(&setup, &copied.store, &chain, settler, old)
            .await?;
        let left = steps.iter().filter(|step| !step.done).count();
        let admin = read(&chain, settler, &Settler::adminCall {}).await?;
        if self.at.json {
            let all: Vec<Value> = steps
                .iter()
                .map(|step| {
                    json!({
                        "step": step.what,
                        "done": step.done,
                        "seen": step.seen,
                        "next": (!step.done).then_some(&step.next),
                        "transaction": step.calldata.as_ref().filter(|_| !step.done).map(|data| {
                            json!({"from": admin, "to": settler, "value": "0", "chainId": setup.chain.id.0, "data": data})
                        }),
                    })
                })
                .collect();
            say!(
                "{:#}",
                json!({"old": old, "new": self.new, "settler": settler, "done": left == 0, "steps": all})
            );
        } else {
            say!("From {old} to {}, at the Settler {settler}:\n", self.new);
            let mut first = true;
            for (number, step) in steps.iter().enumerate() {
                let mark = if step.done { "done" } else { "    " };
                say!(
                    "{mark}  {}. {} ({})",
                    number.saturating_add(1),
                    step.what,
                    step.seen
                );
                // What comes later waits for what comes first.
                if !step.done && first {
                    first = false;
                    say!("      next: {}", step.next);
                    if let Some(data) = &step.calldata {
                        say!("        from   {admin}  (the admin)");
                        say!("        to     {settler}");
                        say!("        value  0");
                        say!("        data   {data}");
                    }
                }
            }
            if left == 0 {
                say!("\nThe change is complete.");
            } else {
                say!("\nRun this again after the step. Nothing was signed or sent.");
            }
        }
        Ok(if left == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    /// The account that is replaced.
    async fn old<S: Store>(&self, setup: &Setup, store: &S) -> anyhow::Result<Address> {
        let old = match self.old {
            Some(old) => old,
            None => {
                let known = crate::ops::signers(store).await?;
                let mut others = known
                    .iter()
                    .map(|signer| signer.operator)
                    .filter(|operator| *operator != self.new);
                match (others.next(), others.next(), setup.operator) {
                    (Some(old), None, _) => old,
                    (_, _, Some(operator)) if operator != self.new => operator,
                    _ => bail!("which account is replaced is not certain: name it by --old"),
                }
            }
        };
        if old == self.new {
            bail!(
                "{old} is the account that settles now: --new names the one that is to replace it"
            );
        }
        Ok(old)
    }

    async fn steps<S: Store>(
        &self,
        setup: &Setup,
        store: &S,
        chain: &Chain,
        settler: Address,
        old: Address,
    ) -> anyhow::Result<Vec<Step>> {
        let set = |operator, allowed| {
            let call = Settler::setOperatorCall { operator, allowed };
            Some(Bytes::from(call.abi_encode()))
        };
        let may_new = read(chain, settler, &Settler::isOperatorCall { who: self.new }).await?;
        let may_old = read(chain, settler, &Settler::isOperatorCall { who: old }).await?;
        let bnb = chain.balance(self.new).await?;
        let signer = |operator| SignerKey {
            chain: setup.chain.id,
            operator,
        };
        let names = [
            RowKey::Signer(signer(self.new)),
            RowKey::Signer(signer(old)),
        ];
        let rows = store.read(names.into_iter().collect()).await?;
        let settles = rows.signer(&signer(self.new)).is_some();
        let undecided = store
            .undecided()
            .await?
            .iter()
            .filter(|batch| batch.signer == signer(old))
            .count();
        let latest = chain.transaction_count(old, BlockTag::Latest).await?;
        let next = rows
            .signer(&signer(old))
            .map_or(latest, |row| row.next_nonce);
        let unsent = next.saturating_sub(latest);
        Ok(vec![
            Step {
                what: "the new account has BNB for gas".into(),
                done: !bnb.is_zero(),
                seen: format!("{bnb} wei"),
                next: format!("send some BNB to {}", self.new),
                calldata: None,
            },
            Step {
                what: "the Settler takes the new account for an operator".into(),
                // The last step of an earlier change of the same accounts is no reason to begin anew.
                done: may_new,
                seen: yes(may_new).into(),
                next: "have the admin send this transaction".into(),
                calldata: set(self.new, true),
            },
            Step {
                what: "the gateway settles with the new account".into(),
                done: settles,
                seen: if settles {
                    "the ledger knows it".into()
                } else {
                    "the ledger does not know it".into()
                },
                next: "put the new key into the variable that seller.operator_key names, and restart the gateway".into(),
                calldata: None,
            },
            Step {
                what: "what the old account signed is decided".into(),
                done: settles && undecided == 0 && unsent == 0,
                seen: format!("{undecided} batches undecided, {unsent} nonces not used"),
                next: "wait: the gateway follows them; those that nobody sent any more for a minute it takes over".into(),
                calldata: None,
            },
            Step {
                what: "the Settler takes the old account for an operator no more".into(),
                done: !may_old,
                seen: if may_old { "it still does" } else { "it does not" }.into(),
                next: "have the admin send this transaction; then the old key is worth nothing".into(),
                calldata: set(old, false),
            },
        ])
    }
}

const fn yes(is: bool) -> &'static str {
    if is { "it does" } else { "it does not" }
}

async fn read<C: SolCall>(chain: &Chain, to: Address, call: &C) -> anyhow::Result<C::Return> {
    let request = CallRequest {
        to: Some(to),
        input: call.abi_encode().into(),
        ..CallRequest::default()
    };
    let answer = chain.call_agreed(&request, BlockTag::Latest).await?;
    match C::abi_decode_returns_validate(&answer) {
        Ok(value) => Ok(value),
        Err(_) => bail!("{to} is no Settler: correct seller.settler"),
    }
}
