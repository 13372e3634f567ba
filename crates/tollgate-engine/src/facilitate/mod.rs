//! A facilitator over the till's own parts: payments that others sell for are verified and settled, once each.
//!
//! It holds nobody's money and lends nothing. What was signed goes from the payer to the payee that the payer signed
//! for; what the facilitator spends is gas. `/verify` decides everything that `/settle` would, and writes nothing;
//! `/settle` reserves and commits in one step, and from there the payment is like any other: the ledger's, the
//! worker's, and paid when the finalized chain shows it.

mod judge;
mod step;

pub(crate) use self::step::terms;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::sync::Notify;
use tollgate_facilitator::{Call, Facilitator, FacilitatorError, Settled, Stage};
use tollgate_ledger::{CurrentRun, Store, StoreError};
use tollgate_payment::{
    BatchState, Command, PaymentRow, PaymentState, Refusal, RowKey, RowSet,
    port::{Verifier, VerifyError},
};
use tollgate_x402::{
    Address, Amount, Authorization, B256, Clock, ErrorCode, Json, JsonObject, Network, PaymentId,
    Scheme, SettleResponse, SupportedKind, SupportedResponse, VerifyResponse, X402Version,
};

use self::{
    judge::{Bad, Judged},
    step::Facilitated,
};
use crate::{health::Health, ids::Ids, market::Markets};

/// How a facilitator works.
#[derive(Clone, Debug)]
pub struct DeskConfig {
    /// The tokens that are settled. The payees of their terms say nothing: each payment has its own.
    pub markets: Markets,
    /// The account that sends the settlements: `witness.facilitator` of once payments.
    pub operator: Address,
    /// The run of this process. While there is none, nothing is settled.
    pub run: CurrentRun,
    /// Seconds that a payment must be good for yet when it is verified: serving comes in between.
    pub verify_margin: u64,
    /// Seconds that a payment must be good for yet when it is settled.
    pub settle_margin: u64,
    /// How long a settlement is waited for, at most; its own `maxTimeoutSeconds` may be less.
    pub wait: Duration,
    /// How often a settlement that is waited for is looked at: half a block.
    pub poll: Duration,
}

impl DeskConfig {
    /// The defaults: margins of 10 and 4 s, 20 s of waiting, and a look every 200 ms.
    pub const fn new(markets: Markets, operator: Address, run: CurrentRun) -> Self {
        Self {
            markets,
            operator,
            run,
            verify_margin: 10,
            settle_margin: 4,
            wait: Duration::from_secs(20),
            poll: Duration::from_millis(200),
        }
    }
}

type Probe = dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync;

/// The facilitator's desk. A handle: clones are the same desk.
pub struct Desk<S, V> {
    inner: Arc<Inner<S, V>>,
}

struct Inner<S, V> {
    store: S,
    verifier: V,
    clock: Arc<dyn Clock>,
    config: DeskConfig,
    work: Arc<Notify>,
    ids: Ids,
    probe: Box<Probe>,
    health: OnceLock<Health>,
}

impl<S, V> Clone for Desk<S, V> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<S, V> fmt::Debug for Desk<S, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk")
            .field("config", &self.inner.config)
            .finish_non_exhaustive()
    }
}

impl<S: Store, V: Verifier> Desk<S, V> {
    /// A desk. `work` is notified when there is something to settle; `probe` says why the chain cannot be worked on.
    pub fn new<P, C>(
        store: S,
        verifier: V,
        clock: Arc<dyn Clock>,
        config: DeskConfig,
        work: Arc<Notify>,
        probe: P,
    ) -> Self
    where
        P: Fn() -> C + Send + Sync + 'static,
        C: Future<Output = Result<(), String>> + Send + 'static,
    {
        let inner = Inner {
            store,
            verifier,
            clock,
            config,
            work,
            ids: Ids::default(),
            probe: Box::new(move || Box::pin(probe())),
            health: OnceLock::new(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The same, told by its worker how settlement is: while nothing would be settled, nothing new is claimed. What was
    /// begun before is told all the same.
    #[must_use]
    pub fn with_health(self, health: Health) -> Self {
        // The first one stays.
        let _ = self.inner.health.set(health);
        self
    }

    /// Whether what is claimed now would be settled.
    fn settles(&self) -> Result<(), FacilitatorError> {
        let Some(health) = self.inner.health.get() else {
            return Ok(());
        };
        health
            .settles()
            .map_err(|message| FacilitatorError::Paused {
                message,
                retry_after: 10,
            })
    }

    /// The step that settles a payment, with what the chain says of its payer now.
    async fn step(
        &self,
        judged: &Judged<'_>,
        amount: Amount,
        memo: String,
    ) -> Result<Facilitated, Refused> {
        let inner = &*self.inner;
        // A claim uses the authorization up, for this ledger: none is made that would only wait for its deadline.
        self.settles().map_err(Refused::Not)?;
        let run = inner.config.run.get().ok_or_else(|| {
            Refused::Not(unavailable(
                ErrorCode::LedgerUnavailable,
                "this process has no run in the ledger",
                2,
            ))
        })?;
        let funds = match inner.verifier.funds(&judged.authorization).await {
            Ok(funds) => funds,
            Err(VerifyError::Refused { code, message }) => {
                return Err(Refused::Bad(Bad { code, message }));
            }
            Err(VerifyError::Unavailable(message)) => {
                return Err(Refused::Not(unavailable(
                    ErrorCode::ChainUnavailable,
                    message,
                    2,
                )));
            }
        };
        let id = PaymentId::from_random(inner.ids.draw().to_be_bytes());
        Ok(Facilitated::new(judged, id, amount, funds, run, memo))
    }

    /// What is known of an authorization: the payment that it was settled by, and for which terms.
    async fn known(
        &self,
        judged: &Judged<'_>,
    ) -> Result<Option<(PaymentId, Option<B256>)>, FacilitatorError> {
        let names: RowSet = [RowKey::Authorization(judged.key)].into_iter().collect();
        let rows = self.inner.store.read(names).await.map_err(unrecorded)?;
        Ok(rows
            .authorization(&judged.key)
            .and_then(|row| Some((row.payment?, row.request))))
    }

    /// Waits for a settlement's end, for as long as is right, and tells it.
    async fn follow(
        &self,
        id: PaymentId,
        judged: &Judged<'_>,
        patience: Duration,
        fresh: bool,
    ) -> Result<Settled, FacilitatorError> {
        let config = &self.inner.config;
        let waited = async {
            loop {
                let row = self.inner.store.payment(id).await.map_err(unrecorded)?;
                let row = row.ok_or_else(|| {
                    let message = "a payment is named that is not there";
                    unavailable(ErrorCode::LedgerUnavailable, message, 30)
                })?;
                if let Some(settled) = ended(&row, judged, fresh) {
                    return Ok(settled);
                }
                tokio::time::sleep(config.poll).await;
            }
        };
        match tokio::time::timeout(patience.min(config.wait), waited).await {
            Ok(settled) => settled,
            // Not known is not failed: it goes on without whoever waited.
            Err(_) => Ok(Settled {
                response: with_payer(
                    SettleResponse::failed(
                        judged.network.clone(),
                        ErrorCode::SettlementPending,
                        self.sent(id).await?,
                    ),
                    judged,
                ),
                stage: Stage::Pending,
                fresh,
            }),
        }
    }

    /// The transaction that was sent for a payment, if one was.
    async fn sent(&self, id: PaymentId) -> Result<Option<B256>, FacilitatorError> {
        let store = &self.inner.store;
        let row = store.payment(id).await.map_err(unrecorded)?;
        let batch = match row.map(|row| row.state) {
            Some(PaymentState::Final { transaction, .. }) => return Ok(Some(transaction)),
            Some(PaymentState::Claimed { batch, .. }) => {
                store.batch(batch).await.map_err(unrecorded)?
            }
            _ => None,
        };
        Ok(batch.and_then(|batch| match batch.state {
            BatchState::Included { transaction, .. } => Some(transaction),
            _ => batch.sent.last().map(|instruction| instruction.hash),
        }))
    }
}

impl<S: Store, V: Verifier> Facilitator for Desk<S, V> {
    async fn verify(&self, call: &Call) -> Result<VerifyResponse, FacilitatorError> {
        let config = &self.inner.config;
        let invalid = |bad: Bad, payer| {
            let mut response = VerifyResponse::invalid(bad.code, payer);
            response.invalid_message = Some(bad.message);
            response
        };
        let judged = match Judged::of(call, config) {
            Ok(judged) => judged,
            Err(bad) => return Ok(invalid(bad, None)),
        };
        // From here the signature says who pays.
        let payer = judged.authorization.owner();
        let now = self.inner.clock.now();
        if let Err(bad) = judged.timely(judged.offered, now, config.verify_margin) {
            return Ok(invalid(bad, Some(payer)));
        }
        let most = match judged.authorization {
            Authorization::Once(ref signed) => judged.offered.amount.min(signed.amount),
            _ => judged.offered.amount,
        };
        let step = match self.step(&judged, most, String::new()).await {
            Ok(step) => step,
            Err(Refused::Bad(bad)) => return Ok(invalid(bad, Some(payer))),
            Err(Refused::Not(error)) => return Err(error),
        };
        // Decided as a settlement would be, on the rows as they are, and not written.
        let rows = self
            .inner
            .store
            .read(step.rows())
            .await
            .map_err(unrecorded)?;
        match step.decide(&rows, now) {
            Ok(_) => Ok(VerifyResponse::valid(payer)),
            Err(refusal) => match refused(&refusal, &judged) {
                Refused::Bad(bad) => Ok(invalid(bad, Some(payer))),
                Refused::Not(error) => Err(error),
            },
        }
    }

    async fn settle(&self, call: &Call) -> Result<Settled, FacilitatorError> {
        let config = &self.inner.config;
        let network = &call.request.requirements.network;
        let judged = match Judged::of(call, config) {
            Ok(judged) => judged,
            Err(bad) => return Ok(declined(network, bad, None)),
        };
        let payer = Some(judged.authorization.owner());
        let amount = judged.offered.amount;
        let patience = Duration::from_secs(judged.offered.max_timeout_seconds);
        let terms = step::terms(amount);
        // What was begun is told, whatever the time is now.
        if let Some((id, request)) = self.known(&judged).await? {
            return if request == Some(terms) {
                self.follow(id, &judged, patience, false).await
            } else {
                Ok(conflict(&judged))
            };
        }
        if !call.may_begin {
            return Err(FacilitatorError::NotBegun);
        }
        if let Err(bad) = judged.settleable(amount, self.inner.clock.now(), config.settle_margin) {
            return Ok(declined(network, bad, payer));
        }
        let memo = memo(call, self.gas(call));
        let step = match self.step(&judged, amount, memo).await {
            Ok(step) => step,
            Err(Refused::Bad(bad)) => return Ok(declined(network, bad, payer)),
            Err(Refused::Not(error)) => return Err(error),
        };
        let id = step.id();
        match self.inner.store.transact(step).await {
            Ok(()) => {
                self.inner.work.notify_one();
                self.follow(id, &judged, patience, true).await
            }
            // Another call was faster.
            Err(StoreError::Refused(Refusal::Admitted(id))) => {
                self.follow(id, &judged, patience, false).await
            }
            Err(StoreError::Refused(Refusal::Used)) => Ok(conflict(&judged)),
            Err(StoreError::Refused(refusal)) => match refused(&refusal, &judged) {
                Refused::Bad(bad) => Ok(declined(network, bad, payer)),
                Refused::Not(error) => Err(error),
            },
            Err(error) => Err(unrecorded(error)),
        }
    }

    async fn supported(&self) -> Result<SupportedResponse, FacilitatorError> {
        let config = &self.inner.config;
        let mut response = SupportedResponse::default();
        for terms in config.markets.terms() {
            let upto = terms.permit2.is_some_and(|at| at.upto_proxy.is_some());
            let exact = terms.eip3009 || terms.permit2.is_some_and(|at| at.exact_proxy.is_some());
            let mut facilitator = JsonObject::new();
            let address = config.operator.to_checksum(None);
            facilitator.insert("facilitatorAddress", Json::from(address.as_str()));
            for version in [X402Version::V2, X402Version::V1] {
                let kind = |scheme, extra| SupportedKind {
                    version,
                    scheme,
                    network: Network::from(terms.chain),
                    extra,
                };
                let kinds = [
                    exact.then(|| kind(Scheme::Exact, JsonObject::new())),
                    upto.then(|| kind(Scheme::Upto, facilitator.clone())),
                ];
                for kind in kinds.into_iter().flatten() {
                    if !response.kinds.contains(&kind) {
                        response.kinds.push(kind);
                    }
                }
            }
        }
        response
            .signers
            .insert("eip155:*".to_owned(), vec![config.operator]);
        Ok(response)
    }

    async fn health(&self) -> Result<(), FacilitatorError> {
        let inner = &*self.inner;
        if inner.config.run.get().is_none() {
            let message = "this process has no run in the ledger";
            return Err(unavailable(ErrorCode::LedgerUnavailable, message, 5));
        }
        inner.store.queues().await.map_err(unrecorded)?;
        self.settles()?;
        (inner.probe)()
            .await
            .map_err(|message| unavailable(ErrorCode::ChainUnavailable, message, 5))
    }

    fn gas(&self, call: &Call) -> u64 {
        Judged::gas(call)
    }
}

/// A payment's end, if it has come.
fn ended(row: &PaymentRow, judged: &Judged<'_>, fresh: bool) -> Option<Settled> {
    let network = judged.network.clone();
    let payer = row.keys.owner.owner;
    let done = |amount, transaction| Settled {
        response: SettleResponse::settled(network.clone(), payer, amount, transaction),
        stage: Stage::Done,
        fresh,
    };
    match &row.state {
        PaymentState::Final { transaction, .. } => Some(done(row.charge, Some(*transaction))),
        // Nothing was due: no transaction is needed for it.
        PaymentState::Released { .. } => Some(done(Amount::ZERO, None)),
        PaymentState::Lost { reason } => {
            let code = ErrorCode::InvalidTransactionState;
            let mut response = SettleResponse::failed(network.clone(), code, None);
            response.error_message = Some(format!(
                "the settlement failed for good ({reason:?}); nothing moved, and the same payment will not be settled"
            ));
            Some(Settled {
                response: with_payer(response, judged),
                stage: Stage::Refused,
                fresh,
            })
        }
        PaymentState::Serving { .. } | PaymentState::Due { .. } | PaymentState::Claimed { .. } => {
            None
        }
    }
}

fn with_payer(mut response: SettleResponse, judged: &Judged<'_>) -> SettleResponse {
    response.payer = Some(judged.authorization.owner());
    response
}

fn declined(network: &Network, bad: Bad, payer: Option<Address>) -> Settled {
    let mut response = SettleResponse::failed(network.clone(), bad.code, None);
    response.error_message = Some(bad.message);
    response.payer = payer;
    Settled::refused(response)
}

fn conflict(judged: &Judged<'_>) -> Settled {
    let code = ErrorCode::DuplicateSettlement;
    let mut response = SettleResponse::failed(judged.network.clone(), code, None);
    response.error_message =
        Some("this payment was settled, or is being settled, for another amount".to_owned());
    Settled {
        response: with_payer(response, judged),
        stage: Stage::Conflict,
        fresh: false,
    }
}

/// What the operator's books remember of who asked, and what it may have cost.
fn memo(call: &Call, gas: u64) -> String {
    match &call.caller {
        Some(caller) => format!(r#"{{"caller":"{caller}","gas":{gas}}}"#),
        None => format!(r#"{{"gas":{gas}}}"#),
    }
}

/// Why a step is not taken.
enum Refused {
    /// The payment is bad.
    Bad(Bad),
    /// We cannot say.
    Not(FacilitatorError),
}

fn unavailable(code: ErrorCode, message: impl Into<String>, retry_after: u64) -> FacilitatorError {
    FacilitatorError::Unavailable {
        code,
        message: message.into(),
        retry_after,
    }
}

fn unrecorded(error: StoreError) -> FacilitatorError {
    unavailable(ErrorCode::LedgerUnavailable, error.to_string(), 2)
}

/// What the books say against a payment.
fn refused(refusal: &Refusal, judged: &Judged<'_>) -> Refused {
    let message = refusal.to_string();
    let bad = |code| {
        Refused::Bad(Bad {
            code,
            message: message.clone(),
        })
    };
    match refusal {
        Refusal::Insufficient { bound, .. } => {
            bad(crate::refusal::short_code(&judged.authorization, *bound))
        }
        Refusal::Used | Refusal::Admitted(_) => bad(ErrorCode::DuplicateSettlement),
        Refusal::Blocked { .. } | Refusal::Barred => bad(ErrorCode::PayerRefused),
        Refusal::FundsNeeded | Refusal::Overtaken => {
            Refused::Not(unavailable(ErrorCode::ChainUnavailable, message, 1))
        }
        _ => Refused::Not(unavailable(ErrorCode::LedgerUnavailable, message, 5)),
    }
}
