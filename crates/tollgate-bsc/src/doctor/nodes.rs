//! What is asked of nodes and accounts, beside contracts.

use tollgate_x402::{Address, U256};

use super::{Check, FINALITY_LAG};
use crate::Chain;

/// What gas costs now, in wei a unit, against what a settlement pays at least and at most.
pub async fn check_gas_price(chain: &Chain, floor: u128, cap: u128) -> Check {
    Check::of("gas-price", chain.gas_price().await, |price| {
        let detail =
            format!("the node asks {price} wei a unit of gas; from {floor} to {cap} are paid");
        if price > cap {
            Check::warn(
                "gas-price",
                format!("{detail}: settlements wait, unless chain.gas_price_cap_gwei is raised"),
            )
        } else {
            Check::ok("gas-price", detail)
        }
    })
}

/// Whether a node takes a transaction and answers with its receipt (`eth_sendRawTransactionSync`, EIP-7966). Asked with an
/// empty transaction, which none can take. It is good to know, and nothing that settles needs it.
pub async fn check_sync_send(chain: &Chain) -> Check {
    let (has, all) = (chain.with_sync().await, chain.in_order().count());
    let detail = format!("{has} of {all} endpoints answer a transaction with its receipt");
    Check::ok("sync-send", detail)
}

/// Whether an account's BNB lasts: for so many batches of 50 items at the floor price, in gas.
pub async fn check_gas_money(
    chain: &Chain,
    account: Address,
    floor: u128,
    batch_gas: u64,
) -> Check {
    let one = U256::from(floor).saturating_mul(U256::from(batch_gas));
    Check::of("gas-money", chain.balance(account).await, |balance| {
        let batches = balance.checked_div(one).unwrap_or_default();
        let detail = format!(
            "{account} has {balance} wei, which pays for {batches} full batches at the floor price"
        );
        if batches.is_zero() {
            Check::fail("gas-money", format!("{detail}: send it some BNB"))
        } else if batches < U256::from(50_u64) {
            Check::warn("gas-money", format!("{detail}: send it some BNB"))
        } else {
            Check::ok("gas-money", detail)
        }
    })
}

/// Whether events can be searched (`eth_getLogs`), which audits and reconciling need, and settling does not.
pub async fn check_logs(chain: &Chain, contract: Address) -> Check {
    let heads = match chain.heads().await {
        Ok(heads) => heads,
        Err(error) => return Check::fail("logs", error.to_string()),
    };
    let filter = crate::LogFilter {
        addresses: vec![contract],
        topics: Vec::new(),
        blocks: heads.finalized.number.saturating_sub(100)..=heads.finalized.number,
    };
    match chain.logs(&filter).await {
        Ok(_) => Check::ok("logs", "events can be searched (eth_getLogs)"),
        Err(error) => Check::warn(
            "logs",
            format!(
                "events cannot be searched ({error}): `ledger reconcile` needs a node that offers eth_getLogs"
            ),
        ),
    }
}

/// Whether several nodes tell the same chain: each is asked alone for its heads, and the finalized block of the one
/// that is furthest behind is compared.
pub async fn check_agreement(alone: &[(String, Chain)]) -> Vec<Check> {
    let mut seen = Vec::new();
    let mut checks = Vec::new();
    for (name, chain) in alone {
        match chain.heads().await {
            Ok(heads) => seen.push((name, chain, heads)),
            Err(error) => checks.push(Check::fail(
                "endpoint",
                format!("{name} does not answer: {error}"),
            )),
        }
    }
    let Some(oldest) = seen
        .iter()
        .map(|(_, _, heads)| heads.finalized.number)
        .min()
    else {
        return checks;
    };
    let newest = seen.iter().map(|(_, _, heads)| heads.latest.number).max();
    let mut hashes = Vec::new();
    for (name, chain, heads) in &seen {
        let behind = newest
            .unwrap_or_default()
            .saturating_sub(heads.latest.number);
        let hash = chain
            .heads_with(&[oldest])
            .await
            .ok()
            .and_then(|heads| heads.hash_at(oldest));
        hashes.push(hash);
        checks.push(if behind > FINALITY_LAG {
            Check::warn(
                "endpoint",
                format!("{name} is {behind} blocks behind the others"),
            )
        } else {
            Check::ok(
                "endpoint",
                format!(
                    "{name} is at block {}, final {}",
                    heads.latest.number, heads.finalized.number
                ),
            )
        });
    }
    let mut known = hashes.iter().flatten();
    let first = known.next();
    if first.is_some() && known.any(|hash| Some(hash) != first) {
        checks.push(Check::fail(
            "agreement",
            format!("the endpoints have different blocks at {oldest}, which all call final: one is of another chain, or lies"),
        ));
    } else if seen.len() > 1 {
        checks.push(Check::ok(
            "agreement",
            format!("{} endpoints have the same block {oldest}", seen.len()),
        ));
    }
    checks
}
