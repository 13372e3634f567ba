//! The till: offers, admission and the holds of admitted requests.

use std::{fmt, future::Future, sync::Arc};

use tokio::sync::Notify;
use tollgate_eip712::digest;
use tollgate_ledger::{Outage, Store, StoreError};
use tollgate_payment::{
    Ask, AuthorizationKey, ExposureKey, FundsBound, Offer, OwnerKey, PaymentKeys, PaymentState,
    Pricing, Refusal, RequestBinding,
    command::Reserve,
    port::{AdmitError, Admitted, Till, Verifier, VerifyError},
};
use tollgate_x402::{
    Address, Authorization, Clock, ErrorCode, Exact, MatchError, PaymentId, PaymentPayload,
};

use crate::{
    hold::EngineHold,
    market::{Market, Markets},
};

/// The seller's till over a store and a reader of the chain. A handle: clones are the same till.
pub struct Cashier<S, V> {
    inner: Arc<Inner<S, V>>,
}

impl<S, V> Clone for Cashier<S, V> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

/// What a till needs beside its store and its reader of the chain.
#[derive(Clone, Debug)]
pub struct CashierConfig {
    /// What is sold for.
    pub markets: Markets,
    /// The run of this gateway: [`Store::begin_epoch`].
    pub epoch: u64,
    /// The slice of the global bound that this gateway leases.
    pub slice: u32,
    /// Seconds that serving and settling may take: a payment whose deadline is nearer is refused.
    pub margin: u64,
}

struct Inner<S, V> {
    store: S,
    verifier: V,
    clock: Arc<dyn Clock>,
    config: CashierConfig,
    work: Arc<Notify>,
}

impl<S, V> fmt::Debug for Cashier<S, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cashier")
            .field("config", &self.inner.config)
            .finish_non_exhaustive()
    }
}

impl<S: Store, V: Verifier> Cashier<S, V> {
    /// A till. `work` is notified when there is something to settle.
    pub fn new(
        store: S,
        verifier: V,
        clock: Arc<dyn Clock>,
        config: CashierConfig,
        work: Arc<Notify>,
    ) -> Self {
        let inner = Inner {
            store,
            verifier,
            clock,
            config,
            work,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The markets.
    pub fn markets(&self) -> &Markets {
        &self.inner.config.markets
    }

    /// The authorization that a payment carries, good for one of our entries in all but its funds.
    fn verify(
        &self,
        offer: &Offer,
        payment: &PaymentPayload,
    ) -> Result<(Authorization, &Market), AdmitError> {
        let mut best: Option<MatchError> = None;
        for (entry, terms) in offer.entries() {
            let authorization = match payment.authorization_for(entry) {
                Ok(authorization) => authorization,
                Err(error) => {
                    // The entry that the client meant says more than one that it did not.
                    if best.is_none_or(|best| meant(best) < meant(error)) {
                        best = Some(error);
                    }
                    continue;
                }
            };
            let Some(market) = self.inner.config.markets.of(terms.chain, terms.token) else {
                continue;
            };
            let now = self.inner.clock.now();
            terms
                .accept(&authorization, offer.pricing, now, self.inner.config.margin)
                .map_err(|code| refused(code, code.advice()))?;
            tollgate_eip712::verify(&authorization, &market.domain)
                .map_err(|error| refused(signature_code(&authorization), error.to_string()))?;
            return Ok((authorization, market));
        }
        let code = best.map_or(ErrorCode::InvalidPaymentRequirements, MatchError::code);
        Err(refused(
            code,
            best.map_or_else(|| code.advice().to_owned(), |error| error.to_string()),
        ))
    }

    fn reserve(
        &self,
        offer: &Offer,
        authorization: Authorization,
        market: &Market,
        request: RequestBinding,
    ) -> Reserve {
        let signed = digest(&authorization, &market.domain);
        let permit2 = market
            .terms
            .permit2
            .map_or(Address::ZERO, |permit2| permit2.permit2);
        let (chain, token) = (market.terms.chain, market.terms.token);
        let spender = match &authorization {
            Authorization::Allowance(allowance) => Some(allowance.spender),
            Authorization::Once(_) | Authorization::Exact(Exact::Permit2(_)) => Some(permit2),
            Authorization::Exact(Exact::Eip3009(_)) => None,
        };
        let (worst, least) = match offer.pricing {
            Pricing::Metered { worst, least } => (worst, least.min(worst)),
            Pricing::Fixed(price) => (price, price),
        };
        Reserve {
            keys: PaymentKeys {
                id: PaymentId::from_random(rand::random()),
                owner: OwnerKey {
                    chain,
                    token,
                    owner: authorization.owner(),
                },
                spender,
                authorization: AuthorizationKey::of(&authorization, signed, permit2),
                exposure: ExposureKey {
                    chain,
                    token,
                    slice: self.inner.config.slice,
                },
            },
            digest: signed,
            authorization,
            request: request.digest,
            worst,
            least,
            memo: request.memo,
            epoch: self.inner.config.epoch,
            credit: market.credit.clone(),
            funds: None,
        }
    }

    /// Reserves, in a task of its own: a caller that goes away while the ledger works would leave a reservation that
    /// nobody holds. There the hold is dropped, and ends itself.
    async fn hold(&self, reserve: Reserve, version: u8) -> Result<EngineHold<S>, StoreError> {
        let this = self.clone();
        let task = tokio::spawn(async move {
            let (keys, store) = (reserve.keys, this.inner.store.clone());
            let executed = store.execute(reserve).await?;
            let admitted = Admitted {
                id: keys.id,
                payer: keys.owner.owner,
                chain: keys.owner.chain,
                token: keys.owner.token,
                cap: executed.outcome.reserved,
                left: executed.outcome.left,
                version,
            };
            let work = Arc::clone(&this.inner.work);
            Ok(EngineHold::new(store, keys, admitted, executed, work))
        });
        task.await.unwrap_or_else(|_| {
            let stopped = "the ledger's task was stopped".to_owned();
            Err(StoreError::Unavailable(Outage::Io(stopped)))
        })
    }

    async fn explain(&self, error: StoreError, authorization: &Authorization) -> AdmitError {
        let payer = Some(authorization.owner());
        let with = |code: ErrorCode, message: String, retry_after| AdmitError {
            code,
            message,
            retry_after,
            payer,
        };
        let refusal = match error {
            StoreError::Refused(refusal) => refusal,
            error => return with(ErrorCode::LedgerUnavailable, error.to_string(), Some(2)),
        };
        let message = refusal.to_string();
        match refusal {
            Refusal::Insufficient { bound, .. } => {
                if bound == FundsBound::Allowance {
                    // What is due may be what stands between the payer and a fresh permit.
                    self.inner.work.notify_one();
                }
                with(short_code(authorization, bound), message, None)
            }
            Refusal::Limited { retry_after, .. } => {
                with(ErrorCode::CreditExhausted, message, Some(retry_after))
            }
            Refusal::Blocked { .. } => with(ErrorCode::InsufficientFunds, message, None),
            Refusal::PermitNonce { .. } => with(ErrorCode::InvalidPermitNonce, message, None),
            Refusal::Used | Refusal::Ended(_) => {
                with(ErrorCode::DuplicateSettlement, message, None)
            }
            Refusal::InFlight(id) => match self.inner.store.payment(id).await {
                Ok(Some(row)) if !matches!(row.state, PaymentState::Serving { .. }) => with(
                    ErrorCode::DuplicateSettlement,
                    Refusal::Ended(id).to_string(),
                    None,
                ),
                Ok(_) => with(ErrorCode::PaymentInFlight, message, Some(1)),
                Err(error) => with(ErrorCode::LedgerUnavailable, error.to_string(), Some(2)),
            },
            Refusal::FundsNeeded => with(
                ErrorCode::ChainUnavailable,
                "the node's answer is older than what is known already".to_owned(),
                Some(1),
            ),
            Refusal::CounterAhead { .. } | Refusal::Books(_) | Refusal::Missing(_) => {
                tracing::error!(%message, "the ledger needs a person");
                with(ErrorCode::LedgerUnavailable, message, Some(30))
            }
            _ => with(ErrorCode::LedgerUnavailable, message, Some(1)),
        }
    }
}

impl<S: Store, V: Verifier> Till for Cashier<S, V> {
    type Hold = EngineHold<S>;

    fn offer(&self, ask: Ask) -> Offer {
        Offer::new(ask, self.inner.config.markets.terms())
    }

    fn admit(
        &self,
        offer: &Offer,
        payment: PaymentPayload,
        request: RequestBinding,
    ) -> impl Future<Output = Result<Self::Hold, AdmitError>> + Send {
        let verified = self.verify(offer, &payment).map(|(authorization, market)| {
            (
                self.reserve(offer, authorization, market, request),
                payment.version().number(),
            )
        });
        let this = self.clone();
        async move {
            let (mut reserve, version) = verified?;
            let mut held = this.hold(reserve.clone(), version).await;
            if let Err(StoreError::Refused(Refusal::FundsNeeded)) = held {
                let funds = this.inner.verifier.funds(&reserve.authorization).await;
                reserve.funds =
                    Some(funds.map_err(|error| unverified(error, &reserve.authorization))?);
                held = this.hold(reserve.clone(), version).await;
            }
            match held {
                Ok(hold) => Ok(hold),
                Err(error) => Err(this.explain(error, &reserve.authorization).await),
            }
        }
    }
}

/// How surely a mismatch is of the entry that the client meant.
const fn meant(error: MatchError) -> u8 {
    match error {
        MatchError::Scheme | MatchError::Network | MatchError::Echo => 0,
        MatchError::Kind(_) => 1,
        _ => 2,
    }
}

fn refused(code: ErrorCode, message: impl Into<String>) -> AdmitError {
    AdmitError {
        code,
        message: message.into(),
        retry_after: None,
        payer: None,
    }
}

fn unverified(error: VerifyError, authorization: &Authorization) -> AdmitError {
    let payer = Some(authorization.owner());
    match error {
        VerifyError::Refused { code, message } => AdmitError {
            code,
            message,
            retry_after: None,
            payer,
        },
        VerifyError::Unavailable(message) => AdmitError {
            code: ErrorCode::ChainUnavailable,
            message,
            retry_after: Some(2),
            payer,
        },
    }
}

const fn signature_code(authorization: &Authorization) -> ErrorCode {
    match authorization {
        Authorization::Allowance(_) => ErrorCode::InvalidPermitSignature,
        Authorization::Once(_) | Authorization::Exact(Exact::Permit2(_)) => {
            ErrorCode::Permit2Signature
        }
        Authorization::Exact(Exact::Eip3009(_)) => ErrorCode::InvalidEip3009Signature,
    }
}

const fn short_code(authorization: &Authorization, bound: FundsBound) -> ErrorCode {
    match (authorization, bound) {
        (Authorization::Allowance(_), FundsBound::Allowance) => ErrorCode::AllowanceExhausted,
        (Authorization::Allowance(_), _) => ErrorCode::InsufficientFunds,
        (
            Authorization::Once(_) | Authorization::Exact(Exact::Permit2(_)),
            FundsBound::Allowance,
        ) => ErrorCode::Permit2Allowance,
        (Authorization::Once(_) | Authorization::Exact(Exact::Permit2(_)), FundsBound::Balance) => {
            ErrorCode::Permit2Balance
        }
        (
            Authorization::Once(_) | Authorization::Exact(Exact::Permit2(_)),
            FundsBound::Authorization,
        ) => ErrorCode::Permit2Amount,
        (Authorization::Exact(Exact::Eip3009(_)), _) => ErrorCode::Eip3009Balance,
    }
}
