//! What a gateway and a facilitator open alike: the chain, the ledger, what it holds of tokens and proxies.

use std::sync::Arc;

use anyhow::{Context, bail};
use tollgate_bsc::{Chain, ChainConfig, Check, Outcome};
use tollgate_contracts::{
    TokenInfo,
    addresses::{EXACT_PROXY, PERMIT2, UPTO_PROXY},
};
use tollgate_eip712::TokenDomain;
use tollgate_payment::Permit2Terms;
use tollgate_x402::{Address, ChainId, Clock};

use crate::{
    plan::{ChainPlan, LedgerPlan},
    seller::open_ledger,
    store::AnyStore,
};

/// The chain of a configuration.
///
/// # Errors
/// Too few of its nodes answer, or they are of another chain.
pub(crate) async fn connect(plan: &ChainPlan) -> anyhow::Result<Chain> {
    let mut config = ChainConfig::new(plan.id, plan.rpc.clone());
    config.block_time = plan.block_time;
    config.agreement = plan.agreement;
    Chain::connect(config)
        .await
        .with_context(|| format!("chain {} cannot be reached", plan.id))
}

/// The ledger of a configuration, a file or a database.
///
/// # Errors
/// Why it is not open.
pub(crate) async fn ledger(plan: &LedgerPlan, clock: &Arc<dyn Clock>) -> anyhow::Result<AnyStore> {
    match &plan.shared {
        Some(shared) => AnyStore::shared(shared, plan.id).await,
        None => open_ledger(plan, Arc::clone(clock)).map(AnyStore::File),
    }
}

/// Logs what was looked at.
///
/// # Errors
/// What failed, after `nothing`: that nothing is sold, or settled.
pub(crate) fn hold(checks: &[Check], nothing: &str) -> anyhow::Result<()> {
    for check in checks {
        match check.outcome {
            Outcome::Ok => tracing::debug!(%check, "checked"),
            Outcome::Warn => tracing::warn!(%check, "checked"),
            Outcome::Fail => tracing::error!(%check, "checked"),
        }
    }
    let failed: Vec<String> = checks
        .iter()
        .filter(|check| check.outcome == Outcome::Fail)
        .map(ToString::to_string)
        .collect();
    if !failed.is_empty() {
        bail!(
            "{nothing}, because a check failed:\n  {}",
            failed.join("\n  ")
        );
    }
    Ok(())
}

/// The Permit2 payments that the chain has the code for: without it none is offered.
///
/// # Errors
/// The chain cannot be read.
pub(crate) async fn permit2(
    chain: &Chain,
    facilitator: Address,
) -> anyhow::Result<Option<Permit2Terms>> {
    let mut has = [false; 3];
    for (has, address) in has.iter_mut().zip([PERMIT2, UPTO_PROXY, EXACT_PROXY]) {
        *has = !chain.code(address).await?.is_empty();
    }
    let [permit2, upto, exact] = has;
    Ok(permit2.then_some(Permit2Terms {
        permit2: PERMIT2,
        upto_proxy: upto.then_some(UPTO_PROXY),
        exact_proxy: exact.then_some(EXACT_PROXY),
        facilitator,
    }))
}

/// Under which domain a token's payers sign.
pub(crate) fn domain(info: &TokenInfo, chain: ChainId) -> TokenDomain {
    match info.domain {
        Some(domain) => TokenDomain::new(domain.name, domain.version, chain, info.address),
        None => TokenDomain::permit2_only(chain, info.address),
    }
}
