//! A facilitator somewhere else that settles for this seller. It is believed in nothing: [`RemoteRail`] looks at the
//! chain.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail};
use tollgate_client::Transport;
use tollgate_engine::{
    Markets, Payees, Policy, RemoteConfig, RemoteRail, Worker, WorkerConfig, facilitator_address,
};
use tollgate_facilitator::{Client, ClientConfig, Facilitator, FacilitatorError};
use tollgate_ledger::Store;
use tollgate_payment::{BatchItem, SignerKey};
use tollgate_x402::{Address, ChainId, Clock, SupportedResponse};

use crate::{
    plan::{Plan, RemotePlan, Secret},
    seller::Parts,
    store::AnyStore,
};

type FacilitatorClient = Client<Transport>;
type RemoteWorker = Worker<AnyStore, RemoteRail<FacilitatorClient>, Arc<dyn Clock>>;

/// How long a connection to it may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an answer may take: settling is waited for by the facilitator.
const ANSWER: Duration = Duration::from_secs(60);
/// How long the worker waits for an answer before it goes on to other payments.
const PATIENCE: Duration = Duration::from_millis(250);

/// A facilitator that was asked what it settles.
pub(crate) struct Remote {
    client: FacilitatorClient,
    pay_to: Address,
    /// The account with which it settles once payments: a part of what payers sign.
    pub(crate) account: Address,
}

impl Remote {
    /// Asks it with which account it settles.
    ///
    /// # Errors
    /// It gives no answer and the configuration names no account; it settles no `upto` payments of this chain; or it
    /// settles with another account than the configuration names.
    pub(crate) async fn ask(
        plan: &RemotePlan,
        key: Option<&Secret>,
        chain: ChainId,
    ) -> anyhow::Result<Self> {
        let client = client(plan, key)?;
        let account = match (client.supported().await, plan.account) {
            (Ok(supported), named) => settles_with(plan, &supported, chain, named)?,
            (Err(error @ FacilitatorError::Refused { .. }), _) => {
                return Err(error).with_context(|| {
                    format!(
                        "{} does not say what it settles: correct seller.facilitator",
                        plan.url
                    )
                });
            }
            (Err(error), Some(named)) => {
                tracing::warn!(url = plan.url, %error, "the facilitator does not answer; what is due waits");
                named
            }
            (Err(error), None) => {
                return Err(error).with_context(|| {
                    format!(
                        "{} does not say with which account it settles: try later, or name the account by seller.facilitator.account",
                        plan.url
                    )
                });
            }
        };
        Ok(Self {
            client,
            pay_to: plan.pay_to,
            account,
        })
    }

    /// The worker that has it settle. In the ledger its requests are those of the account that is paid: that stays the
    /// same where the facilitator changes its own.
    ///
    /// # Errors
    /// The ledger holds settlements that an account of ours has begun.
    pub(crate) async fn worker(
        &self,
        plan: &Plan,
        parts: &Parts<'_>,
        markets: &Markets,
    ) -> anyhow::Result<RemoteWorker> {
        let signer = SignerKey {
            chain: plan.chain.id,
            operator: self.pay_to,
        };
        // An account of ours that was paid itself, and left settlements of its own behind.
        let ours =
            |item: &BatchItem| !matches!(item, BatchItem::Once { .. } | BatchItem::Exact { .. });
        for batch in parts.store.undecided().await? {
            let sent = |sent: &tollgate_payment::Instruction| sent.gas_price != 0;
            if batch.signer == signer
                && (batch.items.iter().any(ours) || batch.sent.iter().any(sent))
            {
                bail!(
                    "the ledger has settlements under way that {} sends itself: run with its key until `tollgate ledger stuck` tells of nothing, then with the facilitator",
                    self.pay_to
                );
            }
        }
        let tokens = markets.iter();
        let config = RemoteConfig {
            domains: tokens
                .map(|market| (market.terms.token, market.domain.clone()))
                .collect(),
            resource: format!("{}/x402/v1", plan.public_url),
            max_timeout: plan
                .tokens
                .iter()
                .map(|token| token.max_timeout)
                .max()
                .unwrap_or(900),
            patience: PATIENCE,
        };
        let rail = RemoteRail::new(
            self.client.clone(),
            parts.chain.clone(),
            Arc::clone(parts.clock),
            config,
        );
        let mut config = WorkerConfig::new(signer, None, Policy::AtOnce, plan.chain.block_time);
        config.payees = Payees::Account {
            pay_to: self.pay_to,
            facilitator: self.account,
        };
        // What it is asked has no price to raise.
        config.replace_after = u64::MAX;
        config.sole = matches!(parts.store, AnyStore::File(_));
        Ok(Worker::new(
            parts.store.clone(),
            rail,
            Arc::clone(parts.clock),
            config,
            Arc::clone(&parts.work),
        ))
    }
}

/// A client of it.
///
/// # Errors
/// TLS cannot be set up.
pub(crate) fn client(plan: &RemotePlan, key: Option<&Secret>) -> anyhow::Result<FacilitatorClient> {
    let mut config = ClientConfig::new(&plan.url)?;
    if let Some(key) = key {
        config = config.with_key(&key.0)?;
    }
    config.timeout = ANSWER;
    Ok(Client::new(Transport::new(CONNECT, ANSWER)?, config))
}

/// The account with which it settles.
///
/// # Errors
/// There is none for this chain, or another one than is named.
pub(crate) fn settles_with(
    plan: &RemotePlan,
    supported: &SupportedResponse,
    chain: ChainId,
    named: Option<Address>,
) -> anyhow::Result<Address> {
    let Some(told) = facilitator_address(supported, chain) else {
        bail!(
            "{} settles no upto payments of chain {chain}, which is what chats are paid by",
            plan.url
        );
    };
    if let Some(named) = named.filter(|named| *named != told) {
        bail!(
            "{} settles with {told}, and seller.facilitator.account names {named}: what was signed for {named} cannot be settled by {told}; let it be settled first, then correct the key",
            plan.url
        );
    }
    Ok(told)
}
