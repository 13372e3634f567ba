//! The till: offers, admission and the holds of admitted requests.

use std::{
    fmt,
    future::Future,
    sync::{Arc, OnceLock},
};

use tokio::sync::Notify;
use tollgate_eip712::digest;
use tollgate_ledger::{CurrentRun, Outage, Store, StoreError};
use tollgate_payment::{
    Ask, AuthorizationKey, Command as _, ExposureKey, FundsBound, IdentifierKey, Offer, OwnerKey,
    PaymentKeys, Pricing, Refusal, RequestBinding, Retention, Terms,
    command::{Naming, Reserve},
    port::{Admission, AdmitError, Admitted, Kept, Replay, Till, Verifier},
};
use tollgate_x402::{
    Address, Authorization, Clock, ErrorCode, Exact, Extensions, Identifier, MatchError, PaymentId,
    PaymentPayload, PaymentStatus,
};

use crate::{
    health::Health,
    hold::EngineHold,
    ids::Ids,
    market::{Market, Markets},
    refusal::{explain, in_flight, refused, signature_code, unrecorded, unverified, used_up},
    replay::{self, Earlier},
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
    /// The run of this gateway ([`Store::begin_run`]), and with it the slice of the global bound. While there is none,
    /// nothing is admitted.
    pub run: CurrentRun,
    /// Seconds that serving and settling may take: a payment whose deadline is nearer is refused.
    pub margin: u64,
    /// How much of answers is kept for callers that lose them, and for how long.
    pub retention: Retention,
}

struct Inner<S, V> {
    store: S,
    verifier: V,
    clock: Arc<dyn Clock>,
    config: CashierConfig,
    work: Arc<Notify>,
    ids: Ids,
    /// What every offer carries, made once.
    extensions: Extensions,
    /// Of settlement, where the worker runs beside this till.
    health: OnceLock<Health>,
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
        Self::with_ids(store, verifier, clock, config, work, Ids::default())
    }

    /// The same, with names of payments from elsewhere.
    pub fn with_ids(
        store: S,
        verifier: V,
        clock: Arc<dyn Clock>,
        config: CashierConfig,
        work: Arc<Notify>,
        ids: Ids,
    ) -> Self {
        let inner = Inner {
            store,
            verifier,
            clock,
            config,
            work,
            ids,
            extensions: Extensions::new().offering_payment_identifier(false),
            health: OnceLock::new(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The same, which lends nothing that the settling account could not pay the settlement of.
    #[must_use]
    pub fn with_health(self, health: Health) -> Self {
        // The first is the one that counts.
        let _ = self.inner.health.set(health);
        self
    }

    /// The markets.
    pub fn markets(&self) -> &Markets {
        &self.inner.config.markets
    }

    /// The authorization that a payment carries, good for one of our entries in all but its funds, and perhaps its
    /// deadline.
    fn verify(&self, offer: &Offer, payment: &PaymentPayload) -> Result<Verified<'_>, AdmitError> {
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
            let identifier = payment.extensions().payment_identifier();
            let identifier = identifier.and_then(|identifier| identifier.id.clone());
            let late = self.accept(terms, &authorization, offer.pricing, identifier.as_ref())?;
            tollgate_eip712::verify(&authorization, &market.domain)
                .map_err(|error| refused(signature_code(&authorization), error.to_string()))?;
            return Ok(Verified {
                authorization,
                market,
                identifier,
                late,
            });
        }
        let code = best.map_or(ErrorCode::InvalidPaymentRequirements, MatchError::code);
        Err(refused(
            code,
            best.map_or_else(|| code.advice().to_owned(), |error| error.to_string()),
        ))
    }

    fn reserve(
        &self,
        pricing: Pricing,
        authorization: Authorization,
        market: &Market,
        request: RequestBinding,
        identifier: Option<&Identifier>,
    ) -> Result<Reserve, AdmitError> {
        if let Some(Err(message)) = self.inner.health.get().map(Health::admits) {
            return Err(AdmitError {
                code: ErrorCode::ChainUnavailable,
                message,
                retry_after: Some(30),
                payer: Some(authorization.owner()),
            });
        }
        let run = self.inner.config.run.get().ok_or_else(|| AdmitError {
            code: ErrorCode::LedgerUnavailable,
            message: Outage::RunEnded.to_string(),
            retry_after: Some(2),
            payer: Some(authorization.owner()),
        })?;
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
        let owner = authorization.owner();
        let (worst, least) = match pricing {
            Pricing::Metered { worst, least } => (worst, least.min(worst)),
            Pricing::Fixed(price) => (price, price),
        };
        Ok(Reserve {
            keys: PaymentKeys {
                id: PaymentId::from_random(self.inner.ids.draw().to_be_bytes()),
                owner: OwnerKey {
                    chain,
                    token,
                    owner,
                },
                spender,
                authorization: AuthorizationKey::of(&authorization, signed, permit2),
                exposure: ExposureKey {
                    chain,
                    token,
                    slice: run.slot,
                },
            },
            digest: signed,
            authorization,
            request: request.digest,
            worst,
            least,
            identifier: identifier.map(|identifier| Naming {
                key: IdentifierKey {
                    chain,
                    owner,
                    digest: identifier.digest(),
                },
                replaces: None,
                retention: self.inner.config.retention,
            }),
            memo: request.memo,
            epoch: run.epoch,
            credit: market.credit.clone(),
            funds: None,
        })
    }

    /// Reserves, in a task of its own: a caller that goes away while the ledger works would leave a reservation that
    /// nobody holds. There the hold is dropped, and ends itself.
    async fn hold(&self, reserve: Reserve, version: u8) -> Result<EngineHold<S>, StoreError> {
        let this = self.clone();
        let task = tokio::spawn(async move {
            let (keys, store) = (reserve.keys, this.inner.store.clone());
            // Who has neither a name for it nor a nonce of its own cannot ask for it again.
            let named = reserve.identifier.is_some();
            let once = matches!(keys.authorization, AuthorizationKey::Claim { .. });
            let retention = (named || once).then_some(this.inner.config.retention);
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
            Ok(EngineHold::new(
                store, keys, admitted, executed, retention, work,
            ))
        });
        task.await.unwrap_or_else(|_| {
            let stopped = "the ledger's task was stopped".to_owned();
            Err(StoreError::Unavailable(Outage::Io(stopped)))
        })
    }

    /// Admits an authorization whose signature is known to be good: what [`Till::admit`] does after it has matched the
    /// payload and recovered who signed. For simulations, and for callers that verify elsewhere.
    ///
    /// # Errors
    /// [`AdmitError`].
    pub async fn admit_signed(
        &self,
        authorization: Authorization,
        pricing: Pricing,
        request: RequestBinding,
        identifier: Option<&Identifier>,
        version: u8,
    ) -> Result<Admission<EngineHold<S>>, AdmitError> {
        let code = ErrorCode::InvalidPaymentRequirements;
        let (chain, token) = (authorization.chain(), authorization.token());
        let market = self.inner.config.markets.of(chain, token);
        let market = market.ok_or_else(|| refused(code, code.advice()))?;
        let late = self.accept(&market.terms, &authorization, pricing, identifier)?;
        let reserve = self.reserve(pricing, authorization, market, request, identifier)?;
        match late {
            None => self.lend(reserve, version).await,
            Some(code) => self.recall(reserve, version, code).await,
        }
    }

    /// Whether an authorization is good, all but its signature and its funds. One whose deadline alone is over or near
    /// pays for nothing, but may ask for what it paid for before: then its code is given.
    fn accept(
        &self,
        terms: &Terms,
        authorization: &Authorization,
        pricing: Pricing,
        identifier: Option<&Identifier>,
    ) -> Result<Option<ErrorCode>, AdmitError> {
        let now = self.inner.clock.now();
        let repeatable =
            identifier.is_some() || !matches!(authorization, Authorization::Allowance(_));
        match terms.accept(authorization, pricing, now, self.inner.config.margin) {
            Ok(()) => Ok(None),
            Err(
                code @ (ErrorCode::PaymentExpired
                | ErrorCode::Permit2Deadline
                | ErrorCode::ValidBefore),
            ) if repeatable => Ok(Some(code)),
            Err(code) => Err(refused(code, code.advice())),
        }
    }

    /// Looks for what a payment paid for that is too late to pay for anything.
    async fn recall(
        &self,
        reserve: Reserve,
        version: u8,
        code: ErrorCode,
    ) -> Result<Admission<EngineHold<S>>, AdmitError> {
        let rows = self.inner.store.read(reserve.rows()).await;
        let rows = rows.map_err(|error| unrecorded(&error, &reserve.authorization))?;
        match reserve.admitted(&rows, self.inner.clock.now()) {
            None => Err(refused(code, code.advice())),
            Some(id) => match self.earlier(id, &reserve.authorization).await? {
                Earlier::Serving => Err(in_flight(&reserve.authorization)),
                Earlier::Ended(status, answer) => Ok(again(*status, version, answer)),
                Earlier::Nothing => Err(refused(code, code.advice())),
            },
        }
    }

    /// Reserves; reads the chain once, if the ledger needs to know of the payer's funds. A request that was admitted
    /// before costs no look at the chain.
    async fn lend(
        &self,
        mut reserve: Reserve,
        version: u8,
    ) -> Result<Admission<EngineHold<S>>, AdmitError> {
        for _ in 0..TRIES {
            let error = match self.hold(reserve.clone(), version).await {
                Ok(hold) => return Ok(Admission::New(hold)),
                Err(error) => error,
            };
            let authorization = &reserve.authorization;
            let refusal = match error {
                StoreError::Refused(refusal) => refusal,
                error => return Err(unrecorded(&error, authorization)),
            };
            match refusal {
                Refusal::FundsNeeded if reserve.funds.is_none() => {
                    let funds = self.inner.verifier.funds(authorization).await;
                    reserve.funds = Some(funds.map_err(|error| unverified(error, authorization))?);
                }
                Refusal::Admitted(id) | Refusal::Named(id) => {
                    match self.earlier(id, authorization).await? {
                        Earlier::Serving => return Err(in_flight(authorization)),
                        Earlier::Ended(status, answer) => {
                            return Ok(again(*status, version, answer));
                        }
                        Earlier::Nothing => match &mut reserve.identifier {
                            Some(naming) if refusal == Refusal::Named(id) => {
                                naming.replaces = Some(id);
                            }
                            _ => return Err(used_up(authorization)),
                        },
                    }
                }
                refusal => {
                    if let Refusal::Insufficient {
                        bound: FundsBound::Allowance,
                        ..
                    } = refusal
                    {
                        // What is due may be what stands between the payer and a fresh permit.
                        self.inner.work.notify_one();
                    }
                    return Err(explain(&refusal, authorization));
                }
            }
        }
        // The same request comes again and again, and each time ends between two looks.
        Err(in_flight(&reserve.authorization))
    }

    /// What became of a payment that admitted the same request before.
    async fn earlier(
        &self,
        id: PaymentId,
        authorization: &Authorization,
    ) -> Result<Earlier, AdmitError> {
        let Inner {
            store,
            config,
            clock,
            ..
        } = self.inner.as_ref();
        let (markets, retention) = (&config.markets, config.retention);
        replay::earlier(store, markets, retention, clock.now(), id)
            .await
            .map_err(|error| unrecorded(&error, authorization))
    }
}

impl<S: Store, V: Verifier> Till for Cashier<S, V> {
    type Hold = EngineHold<S>;

    fn offer(&self, ask: Ask) -> Offer {
        Offer::new(ask, self.inner.config.markets.terms())
            .with_extensions(self.inner.extensions.clone())
    }

    fn admit(
        &self,
        offer: &Offer,
        payment: PaymentPayload,
        request: RequestBinding,
    ) -> impl Future<Output = Result<Admission<Self::Hold>, AdmitError>> + Send {
        let verified = self.verify(offer, &payment).and_then(|verified| {
            let Verified {
                authorization,
                market,
                identifier,
                late,
            } = verified;
            let identifier = identifier.as_ref();
            let reserve =
                self.reserve(offer.pricing, authorization, market, request, identifier)?;
            Ok((reserve, late))
        });
        let version = payment.version().number();
        let this = self.clone();
        async move {
            match verified? {
                (reserve, None) => this.lend(reserve, version).await,
                (reserve, Some(code)) => this.recall(reserve, version, code).await,
            }
        }
    }
}

/// A payment whose signature is good.
struct Verified<'a> {
    authorization: Authorization,
    market: &'a Market,
    identifier: Option<Identifier>,
    /// The code of a deadline that is over or near.
    late: Option<ErrorCode>,
}

fn again<H>(status: PaymentStatus, version: u8, answer: Kept) -> Admission<H> {
    Admission::Replay(Box::new(Replay {
        status,
        version,
        answer,
    }))
}

/// How surely a mismatch is of the entry that the client meant.
const fn meant(error: MatchError) -> u8 {
    match error {
        MatchError::Scheme | MatchError::Network | MatchError::Echo => 0,
        MatchError::Kind(_) => 1,
        _ => 2,
    }
}

/// How often a request is looked at again, of which something changed between two looks.
const TRIES: usize = 6;
