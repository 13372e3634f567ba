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
    Ask, AuthorizationKey, Command as _, ExposureKey, FundsBound, IdentifierKey, Menu, Offer,
    OwnerKey, PaymentKeys, Pricing, Refusal, RequestBinding, Retention,
    command::{Naming, Reserve},
    port::{Admission, AdmitError, Admitted, Kept, Replay, Till, Verifier},
};
use tollgate_x402::{
    Address, Authorization, Clock, ErrorCode, Exact, Extensions, Identifier, PaymentId,
    PaymentPayload, PaymentStatus,
};

use crate::{
    health::Health,
    hold::{EngineHold, abandon},
    ids::Ids,
    included::{Inclusions, Pace},
    market::{Market, Markets},
    prices::Prices,
    refusal::{explain, in_flight, refused, repriced, unrecorded, unverified, used_up},
    replay::{self, Earlier},
    watch::{self, Watch},
};

mod verify;

use self::verify::Verified;

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
    /// What is offered, written ahead.
    menu: Menu,
    /// Of settlement, where the worker runs beside this till.
    health: OnceLock<Health>,
    /// Seconds between looks at the payer of a long stream.
    recheck: OnceLock<u64>,
    prices: OnceLock<Prices>,
    /// Of callers that wait for a block, where they may.
    inclusions: OnceLock<Arc<Inclusions>>,
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
        let extensions = Extensions::new().offering_payment_identifier(false);
        let menu = Menu::new(config.markets.terms().cloned(), extensions);
        let inner = Inner {
            store,
            verifier,
            clock,
            config,
            work,
            ids,
            menu,
            health: OnceLock::new(),
            recheck: OnceLock::new(),
            prices: OnceLock::new(),
            inclusions: OnceLock::new(),
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

    /// The same, which reads the chain again of a payer that is being served, at most once in so many seconds a stream:
    /// a payment that is voided meanwhile ends with the next checkpoint. Without it only what other requests and
    /// settlement learn of the payer ends it. A stream that is shorter costs nothing.
    #[must_use]
    pub fn with_recheck(self, seconds: u64) -> Self {
        // The first is the one that counts.
        let _ = self.inner.recheck.set(seconds);
        self
    }

    /// The same, which sells at these prices: any text that is another where one of them is. Who used an allowance at others
    /// is answered once with the offer of now ([`ErrorCode::PriceChanged`]), and served when it comes again; the ledger
    /// remembers who was told.
    #[must_use]
    pub fn with_prices(self, prices: &str) -> Self {
        // The first is the one that counts.
        let _ = self.inner.prices.set(Prices::new(prices));
        self
    }

    /// The same, whose callers may wait until what they paid is in a block ([`Hold::inclusion`]), where that is settled at
    /// once and settlement is well. Without it nobody waits.
    ///
    /// [`Hold::inclusion`]: tollgate_payment::port::Hold::inclusion
    #[must_use]
    pub fn with_pace(self, pace: Pace) -> Self {
        let inclusions = Inclusions::new(pace, self.markets().clone());
        // The first is the one that counts.
        let _ = self.inner.inclusions.set(Arc::new(inclusions));
        self
    }

    /// The markets.
    pub fn markets(&self) -> &Markets {
        &self.inner.config.markets
    }

    fn reserve(
        &self,
        pricing: Pricing,
        authorization: Authorization,
        market: &Market,
        request: RequestBinding,
        identifier: Option<&Identifier>,
    ) -> Result<Reserve, AdmitError> {
        let run = self.inner.config.run.get();
        let run = run.ok_or_else(|| unrecorded(&Outage::RunEnded.into(), &authorization))?;
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

    /// What a payment asks of the ledger, and why it pays for nothing now.
    fn prepare(
        &self,
        offer: &Offer,
        payment: &PaymentPayload,
        request: RequestBinding,
    ) -> Result<(Reserve, Option<AdmitError>), AdmitError> {
        let Verified {
            authorization,
            market,
            identifier,
            unfit,
        } = self.verify(offer, payment)?;
        let name = identifier.as_ref();
        let reserve = self.reserve(offer.pricing, authorization, market, request, name)?;
        Ok((reserve, unfit))
    }

    /// Reserves, in a task of its own: a caller that goes away while the ledger works would leave a reservation that
    /// nobody holds. There the hold is dropped, and ends itself.
    async fn hold(&self, reserve: Reserve, version: u8) -> Result<EngineHold<S>, StoreError> {
        let this = self.clone();
        let task = tokio::spawn(async move {
            let (keys, store) = (reserve.keys, this.inner.store.clone());
            // Who has neither a name for it nor a nonce of its own cannot ask for it again.
            let named = reserve.identifier.is_some();
            let watch = this.watch(keys, &reserve.authorization);
            let once = matches!(keys.authorization, AuthorizationKey::Claim { .. });
            let retention = (named || once).then_some(this.inner.config.retention);
            // The chain may have been asked meanwhile, or this process paused.
            if this.inner.config.run.get().map(|run| run.epoch) != Some(reserve.epoch) {
                return Err(Outage::RunEnded.into());
            }
            let executed = match store.execute(reserve).await {
                Err(StoreError::Unavailable(Outage::Unknown)) => {
                    // If it is there, nobody holds it.
                    abandon(&store, keys, &this.inner.work);
                    return Err(Outage::Unknown.into());
                }
                executed => executed?,
            };
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
            let hold = EngineHold::new(store, keys, admitted, executed, retention, work);
            let inclusions = this.inner.inclusions.get().cloned();
            Ok(hold.watched(watch).awaited(inclusions))
        });
        task.await.unwrap_or_else(|_| {
            let stopped = "the ledger's task was stopped".to_owned();
            Err(StoreError::Unavailable(Outage::Io(stopped)))
        })
    }

    fn watch(&self, keys: PaymentKeys, authorization: &Authorization) -> Option<Watch> {
        let every = *self.inner.recheck.get()?;
        let (this, authorization) = (self.clone(), authorization.clone());
        let clock = Arc::clone(&self.inner.clock);
        Some(Watch::new(every, clock, move || {
            let (this, authorization) = (this.clone(), authorization.clone());
            async move {
                let Inner {
                    store, verifier, ..
                } = this.inner.as_ref();
                watch::look_again(store, verifier, keys, &authorization).await
            }
        }))
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
        let unfit = self.unfit(&market.terms, &authorization, pricing);
        let reserve = self.reserve(pricing, authorization, market, request, identifier)?;
        self.decide(reserve, unfit, version).await
    }

    /// Why nothing is lent to anybody now.
    fn closed(&self, reserve: &Reserve) -> Option<AdmitError> {
        let message = self.inner.health.get()?.admits().err()?;
        Some(AdmitError {
            code: ErrorCode::ChainUnavailable,
            message,
            retry_after: Some(30),
            payer: Some(reserve.authorization.owner()),
        })
    }

    /// Lends, if nothing is in the way. What was paid for before is answered whatever is in the way.
    async fn decide(
        &self,
        reserve: Reserve,
        unfit: Option<AdmitError>,
        version: u8,
    ) -> Result<Admission<EngineHold<S>>, AdmitError> {
        let (store, prices) = (&self.inner.store, self.inner.prices.get());
        let used = reserve.keys.authorization;
        let failed = |error| unrecorded(&error, &reserve.authorization);
        let refused = unfit.or_else(|| self.closed(&reserve));
        let changed = match (&refused, prices) {
            (None, Some(prices)) => prices.changed(store, used).await.map_err(failed)?,
            _ => false,
        };
        if (refused.is_some() || changed)
            && let Some(replay) = self.known(&reserve, version).await?
        {
            return Ok(Admission::Replay(replay));
        }
        if let Some(error) = refused {
            return Err(error);
        }
        if let Some(prices) = prices.filter(|_| changed)
            && prices.tell(store, used).await.map_err(failed)?
        {
            return Err(repriced(&reserve.authorization));
        }
        let admitted = self.lend(reserve, version).await;
        if let (Ok(Admission::New(_)), Some(prices)) = (&admitted, prices)
            && let Err(error) = prices.tell(store, used).await
        {
            tracing::debug!(%error, "the prices of an allowance were not noted");
        }
        admitted
    }

    /// What the same request was answered, if it was admitted before and something was charged or answered. Nothing is
    /// written.
    async fn known(
        &self,
        reserve: &Reserve,
        version: u8,
    ) -> Result<Option<Box<Replay>>, AdmitError> {
        let authorization = &reserve.authorization;
        if reserve.identifier.is_none()
            && !matches!(reserve.keys.authorization, AuthorizationKey::Claim { .. })
        {
            return Ok(None);
        }
        let rows = self.inner.store.read(reserve.rows()).await;
        let rows = rows.map_err(|error| unrecorded(&error, authorization))?;
        let Some(id) = reserve.admitted(&rows, self.inner.clock.now()) else {
            return Ok(None);
        };
        match self.earlier(id, authorization).await? {
            Earlier::Serving => Err(in_flight(authorization)),
            Earlier::Ended(status, answer) => Ok(Some(again(*status, version, answer))),
            Earlier::Nothing => Ok(None),
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
                            return Ok(Admission::Replay(again(*status, version, answer)));
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
                    if let Some(funds) = reserve.funds.take() {
                        // Of no use for this request; the payer may have others, which are being served.
                        watch::notice(&self.inner.store, reserve.keys, funds).await;
                    }
                    return Err(explain(&refusal, &reserve.authorization));
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
        self.inner.menu.offer(ask)
    }

    fn admit(
        &self,
        offer: &Offer,
        payment: PaymentPayload,
        request: RequestBinding,
    ) -> impl Future<Output = Result<Admission<Self::Hold>, AdmitError>> + Send {
        let prepared = self.prepare(offer, &payment, request);
        let version = payment.version().number();
        let this = self.clone();
        async move {
            let (reserve, unfit) = prepared?;
            this.decide(reserve, unfit, version).await
        }
    }

    fn recall(
        &self,
        offer: &Offer,
        payment: PaymentPayload,
        request: RequestBinding,
    ) -> impl Future<Output = Option<Box<Replay>>> + Send {
        let prepared = self.prepare(offer, &payment, request);
        let version = payment.version().number();
        let this = self.clone();
        async move {
            let (reserve, _) = prepared.ok()?;
            this.known(&reserve, version).await.ok()?
        }
    }
}

fn again(status: PaymentStatus, version: u8, answer: Kept) -> Box<Replay> {
    Box::new(Replay {
        status,
        version,
        answer,
    })
}

/// How often a request is looked at again, of which something changed between two looks.
const TRIES: usize = 6;
