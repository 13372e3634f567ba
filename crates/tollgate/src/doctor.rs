//! `tollgate doctor`: everything that money depends on, looked at once.

use std::process::ExitCode;

use serde_json::json;
use tollgate_bsc::{
    Chain, ChainConfig, Check, Outcome, SettlerTerms, check_agreement, check_chain,
    check_gas_money, check_gas_price, check_logs, check_permit2, check_proxies, check_settler,
    check_sync_send, check_token,
};
use tollgate_contracts::addresses::UPTO_PROXY;
use tollgate_engine::batch_gas;
use tollgate_facilitator::{Facilitator, FacilitatorError};
use tollgate_ledger::{PostgresError, Store};
use tollgate_x402::Clock;

use crate::{
    clock::SystemClock,
    ops::{Receivers, Setup, Table, Where, Whose},
    plan::{RemotePlan, Secret},
    remote,
};

/// Look at everything that money depends on, and say what to do where it is not as it should be.
///
/// The endpoints and whether they agree; the clock, finality and the price of gas; each token's code, decimals, EIP-712
/// domain, pause and freezes; the Settler's code, ledger, treasury and operator; Permit2 and x402's proxies; the operator's
/// BNB; and the ledger. Nothing is sent or changed.
///
/// Exit codes: 0 all is well, warnings among it; 1 something fails; 2 the arguments are wrong.
#[derive(clap::Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    at: Where,
}

impl Doctor {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let setup = Setup::read(&self.at.config)?;
        let mut checks = Vec::new();
        look(&setup, &mut checks).await?;
        let worst = checks.iter().map(|check| check.outcome).max();
        if self.at.json {
            let all: Vec<_> = checks
                .iter()
                .map(|check| {
                    json!({"name": check.name, "outcome": name(check.outcome), "detail": check.detail})
                })
                .collect();
            say!(
                "{:#}",
                json!({"ok": worst != Some(Outcome::Fail), "checks": all})
            );
        } else {
            let mut table = Table::new(&["", "check", "what was seen, and what to do"]);
            for check in &checks {
                table.row(vec![
                    name(check.outcome).to_owned(),
                    check.name.to_owned(),
                    check.detail.clone(),
                ]);
            }
            say!("{}", table.to_string().trim_end());
            let count = |outcome| {
                checks
                    .iter()
                    .filter(|check| check.outcome == outcome)
                    .count()
            };
            say!(
                "\n{} ok, {} warnings, {} failures.",
                count(Outcome::Ok),
                count(Outcome::Warn),
                count(Outcome::Fail)
            );
        }
        Ok(if worst == Some(Outcome::Fail) {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }
}

const fn name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "ok",
        Outcome::Warn => "warn",
        Outcome::Fail => "FAIL",
    }
}

fn check(name: &'static str, outcome: Outcome, detail: impl Into<String>) -> Check {
    Check {
        name,
        outcome,
        detail: detail.into(),
    }
}

async fn look(setup: &Setup, checks: &mut Vec<Check>) -> anyhow::Result<()> {
    // Each alone, under its number: an endpoint's URL may hold a key.
    let mut alone = Vec::new();
    for (number, url) in setup.chain.rpc.iter().enumerate() {
        let label = format!("endpoint {}", number.saturating_add(1));
        let mut config = ChainConfig::new(setup.chain.id, [url.clone()]);
        config.first_place = number;
        match Chain::connect(config).await {
            Ok(chain) => alone.push((label, chain)),
            Err(error) => checks.push(check("endpoint", Outcome::Fail, error.to_string())),
        }
    }
    checks.extend(check_agreement(&alone).await);
    let chain = match setup.connect().await {
        Ok(chain) => chain,
        Err(error) => {
            checks.push(check(
                "chain",
                Outcome::Fail,
                format!("{}; correct chain.rpc", crate::explain(&error)),
            ));
            return Ok(());
        }
    };
    checks.extend(check_chain(&chain, Some(SystemClock.now())).await);
    checks.push(check_gas_price(&chain, setup.chain.gas_floor, setup.chain.gas_cap).await);
    checks.push(check_sync_send(&chain).await);

    let ledger_id = ledger(setup, checks).await;
    let receivers = accounts(setup, &chain, checks).await;
    let mut paid: Vec<_> = receivers
        .iter()
        // A facilitator is paid nothing.
        .filter(|_| setup.whose == Whose::Gateway)
        .flat_map(|receivers| [receivers.pay_to, receivers.treasury])
        .collect();
    paid.dedup();
    for token in &setup.tokens {
        checks.extend(check_token(&chain, token.info, &paid).await);
    }
    if let (Some(settler), Some(receivers)) = (setup.settler, &receivers) {
        let expected = ledger_id.or(setup.ledger.id);
        if let Some(ledger_id) = expected {
            let terms = SettlerTerms {
                ledger_id,
                treasury: receivers.treasury,
                operators: vec![receivers.operator],
            };
            checks.extend(check_settler(&chain, settler, &terms).await);
        }
        checks.push(check_logs(&chain, settler).await);
    }
    if setup.whose == Whose::Facilitator {
        checks.push(check_logs(&chain, UPTO_PROXY).await);
    }
    checks.extend(check_permit2(&chain).await);
    checks.extend(check_proxies(&chain).await);
    if let Some((remote, key)) = &setup.remote {
        checks.push(facilitator(remote, key.as_ref(), setup).await);
    } else if let Some(receivers) = &receivers {
        let floor = setup.chain.gas_floor;
        // As readiness counts, so that this warns before a gateway is not ready.
        let gas = batch_gas(setup.settler.is_some());
        checks.push(check_gas_money(&chain, receivers.operator, floor, gas).await);
    }
    Ok(())
}

/// Whether the facilitator that settles says that it does, and with which account.
async fn facilitator(remote: &RemotePlan, key: Option<&Secret>, setup: &Setup) -> Check {
    let asked = async {
        let supported = remote::client(remote, key)?.supported().await?;
        remote::settles_with(remote, &supported, setup.chain.id, remote.account)
    };
    match asked.await {
        Ok(account) => check(
            "facilitator",
            Outcome::Ok,
            format!("{} settles with {account}", remote.url),
        ),
        Err(error) => {
            let unknown = key.is_none()
                && matches!(
                    error.downcast_ref(),
                    Some(FacilitatorError::Refused { status: 401, .. })
                );
            let (outcome, hint) = if unknown {
                let hint = "; it is not known: set the variable that seller.facilitator.key names";
                (Outcome::Warn, hint)
            } else {
                (Outcome::Fail, "")
            };
            let error = crate::explain(&error);
            check(
                "facilitator",
                outcome,
                format!("{}: {error}{hint}", remote.url),
            )
        }
    }
}

/// Whether the ledger can be read, and which it is.
async fn ledger(setup: &Setup, checks: &mut Vec<Check>) -> Option<tollgate_x402::B256> {
    if setup.ledger.shared.is_none() && !setup.ledger.path.exists() {
        checks.push(check(
            "ledger",
            Outcome::Warn,
            format!(
                "there is none at {} yet: `{}` makes it",
                setup.ledger.path.display(),
                setup.whose.command()
            ),
        ));
        return None;
    }
    // A shared database is held to its durability settings when it is opened.
    match setup.read_ledger().await {
        Err(error) => {
            let absent = matches!(error.downcast_ref(), Some(PostgresError::Absent { .. }));
            let outcome = if absent { Outcome::Warn } else { Outcome::Fail };
            checks.push(check("ledger", outcome, crate::explain(&error)));
            None
        }
        Ok(copied) => {
            let id = copied.store.ledger_id();
            let named = setup.ledger.id;
            checks.push(if named.is_some_and(|named| named != id) {
                check(
                    "ledger",
                    Outcome::Fail,
                    format!("it is {id}, and ledger.id names another"),
                )
            } else {
                check("ledger", Outcome::Ok, format!("{id}"))
            });
            Some(id)
        }
    }
}

/// Who is paid and who settles, as far as it is known.
async fn accounts(setup: &Setup, chain: &Chain, checks: &mut Vec<Check>) -> Option<Receivers> {
    let known = match (setup.operator, &setup.remote) {
        (Some(operator), _) => Ok(operator),
        (None, Some((remote, _))) => Ok(remote.pay_to),
        (None, None) => match setup.read_ledger().await {
            Ok(copied) => setup.signer(&copied.store).await,
            Err(error) => Err(error),
        },
    };
    let operator = match known {
        Ok(operator) => operator,
        Err(error) => {
            checks.push(check(
                "operator",
                Outcome::Warn,
                format!(
                    "it is not known ({}): set the variable that {} names",
                    crate::explain(&error),
                    setup.whose.operator_key()
                ),
            ));
            return None;
        }
    };
    match setup.receivers_of(chain, operator).await {
        Ok(receivers) => Some(receivers),
        Err(error) => {
            checks.push(check("settler-code", Outcome::Fail, crate::explain(&error)));
            None
        }
    }
}
