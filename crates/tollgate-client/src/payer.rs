//! Who pays: the one place where something is signed.

use core::fmt;
use std::sync::Arc;

use alloy_primitives::U256;
use http::{HeaderName, HeaderValue};
use tollgate_eip712::{
    AllowanceTerms, Eip3009Terms, OnceTerms, Permit2ExactTerms, Wallet, digest, sign_allowance,
    sign_eip3009, sign_once, sign_permit2_exact,
};
use tollgate_x402::{
    Address, Allowance, Amount, Authorization, Clock, Exact, Identifier, PaymentIdentifier,
    PaymentPayload, PaymentRequired, PaymentRequirements, Timestamp,
    canonical::{EXACT_PERMIT2_PROXY, UPTO_PERMIT2_PROXY},
};

use crate::{
    ChainFacts, Dollars, NoFacts, Nonces, Origin, OsNonces, Paid, PayError, Policy, Priced,
    Refusal, SystemClock,
    attempts::{Attempt, InFlight},
    choose::{Chooser, How, Plan},
    paid::Signed,
    permits::PermitKey,
    quotes::Quote,
    state::State,
    target::Target,
};

/// A wallet with its limits, its permits and its memory of sellers. Clones share all of it; so do all services that
/// are made of one. It is the only thing here that signs.
pub struct Payer<W, N = NoFacts> {
    wallet: Arc<W>,
    facts: Arc<N>,
    pub(crate) state: Arc<State>,
}

/// Makes a [`Payer`].
pub struct PayerBuilder<W, N> {
    wallet: W,
    facts: N,
    policy: Policy,
    clock: Arc<dyn Clock>,
    nonces: Arc<dyn Nonces>,
}

/// A payment that can be sent.
pub(crate) struct Ready {
    pub(crate) header: (HeaderName, HeaderValue),
    pub(crate) paid: Paid,
    pub(crate) allowance: Option<Arc<Allowance>>,
    pub(crate) in_flight: Option<InFlight>,
}

/// A payment that needs no question first.
pub(crate) enum AtOnce {
    /// The authorization of an earlier try of this request that had no answer.
    Resumed(Ready),
    /// A permit of an earlier request.
    Reused(Ready),
}

impl<W: Wallet> Payer<W> {
    /// A payer with this wallet and the usual policy.
    pub fn builder(wallet: W) -> PayerBuilder<W, NoFacts> {
        PayerBuilder {
            wallet,
            facts: NoFacts,
            policy: Policy::default(),
            clock: Arc::new(SystemClock),
            nonces: Arc::new(OsNonces),
        }
    }
}

impl<W: Wallet, N> PayerBuilder<W, N> {
    /// What may be paid.
    #[must_use]
    pub fn policy(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }

    /// Where permit nonces are read. Without it there are no allowances.
    #[must_use]
    pub fn facts<M: ChainFacts>(self, facts: M) -> PayerBuilder<W, M> {
        PayerBuilder {
            wallet: self.wallet,
            facts,
            policy: self.policy,
            clock: self.clock,
            nonces: self.nonces,
        }
    }

    /// Another clock than this machine's.
    #[must_use]
    pub fn clock(self, clock: impl Clock + 'static) -> Self {
        Self {
            clock: Arc::new(clock),
            ..self
        }
    }

    /// Other random nonces than the operating system's.
    #[must_use]
    pub fn nonces(self, nonces: impl Nonces + 'static) -> Self {
        Self {
            nonces: Arc::new(nonces),
            ..self
        }
    }

    /// The payer.
    pub fn build(self) -> Payer<W, N> {
        Payer {
            wallet: Arc::new(self.wallet),
            facts: Arc::new(self.facts),
            state: Arc::new(State {
                policy: self.policy,
                clock: self.clock,
                nonces: self.nonces,
                permits: Default::default(),
                quotes: Default::default(),
                attempts: Default::default(),
                hosts: Default::default(),
            }),
        }
    }
}

impl<W: Wallet, N: ChainFacts> Payer<W, N> {
    /// Whose money is spent.
    pub fn address(&self) -> Address {
        self.wallet.address()
    }

    /// What may be paid.
    pub fn policy(&self) -> &Policy {
        &self.state.policy
    }

    /// Pays a seller again that took too much. Whether it was blocked.
    pub fn unblock(&self, origin: &Origin) -> bool {
        self.state.hosts.unblock(origin)
    }

    /// What can be sent without asking the seller first, if anything. Signs nothing.
    pub(crate) fn at_once(&self, target: &Target) -> Option<AtOnce> {
        let state = &self.state;
        state.policy.origin(&target.origin).ok()?;
        if state.hosts.is_blocked(&target.origin) {
            return None;
        }
        let now = state.now();
        if let Some((attempt, in_flight)) = state.attempts.resume(target, now) {
            return Some(AtOnce::Resumed(Ready::resumed(attempt, in_flight)));
        }
        let quote = state.quotes.of(target)?;
        let entry = &*quote.entry;
        let chain = entry.network.chain_id()?;
        let asset = state.policy.asset(chain, entry.asset)?;
        if state.hosts.payee(&target.origin, chain, entry.asset) != Some(entry.pay_to) {
            return None;
        }
        let expected = quote.estimate(target);
        // If it could cost too much, the seller is asked what it costs.
        if !state
            .policy
            .allows_charge(Dollars::of(expected, asset.decimals()))
        {
            return None;
        }
        let key = PermitKey {
            chain,
            token: entry.asset,
            owner: self.address(),
            spender: entry.pay_to,
        };
        let allowance = state.permits.usable(&key, expected, now)?;
        let authorization = Arc::new(Authorization::Allowance((*allowance).clone()));
        let paid = Paid {
            origin: target.origin.clone(),
            kind: authorization.kind(),
            chain,
            token: entry.asset,
            payer: self.address(),
            pay_to: entry.pay_to,
            authorized: Priced::new(allowance.value, asset),
            quoted: None,
            expected,
            max_charge: state.policy.max_charge,
            reused: true,
            deadline: allowance.deadline,
            digest: digest(&*authorization, asset.domain()),
            signed: Signed(authorization),
        };
        let ready = self.ready(target, &quote.offer, entry, paid).ok()?;
        Some(AtOnce::Reused(ready))
    }

    /// A payment for an offer: an authorization that stands, or a new one.
    pub(crate) async fn authorize(
        &self,
        target: &Target,
        offer: Arc<PaymentRequired>,
    ) -> Result<Ready, PayError> {
        let state = &self.state;
        let plan = self.choose(target, &offer)?;
        let now = state.now();
        if plan.how == How::Allowance {
            let (allowance, reused) = self.permit(&plan).await?;
            let quote = Quote::new(offer.clone(), Arc::new(plan.entry.clone()), target);
            state.quotes.remember(target, quote);
            let authorization = Authorization::Allowance((*allowance).clone());
            let paid = self.paid(target, &plan, authorization, reused);
            return self.ready(target, &offer, plan.entry, paid);
        }
        let again = |old: &Authorization| answers(old, &plan);
        if let Some((attempt, in_flight)) = state.attempts.again(target, now, again) {
            return Ok(Ready::resumed(attempt, in_flight));
        }
        if let Some((standing, until)) = state.attempts.standing(target, now)
            && let Some(limit) = state.policy.max_authorization
        {
            let more = Dollars::of(plan.amount, plan.asset.decimals());
            if standing.saturating_add(more) > limit {
                return Err(PayError::Refused(
                    Refusal::Standing { standing, until }.into(),
                ));
            }
        }
        if !state.attempts.has_room(target, now) {
            return Err(PayError::TooManyOpen {
                origin: target.origin.clone(),
            });
        }
        let authorization = self.sign_once_for(&plan, now).await?;
        let paid = self.paid(target, &plan, authorization, false);
        self.ready(target, &offer, plan.entry, paid)
    }

    fn choose<'a>(
        &'a self,
        target: &'a Target,
        offer: &'a PaymentRequired,
    ) -> Result<Plan<'a>, PayError> {
        let state = &*self.state;
        let networks = state.policy.networks.iter().copied();
        let known = networks.filter(|chain| self.facts.knows(*chain)).collect();
        let plan = Chooser {
            policy: &state.policy,
            hosts: &state.hosts,
            origin: &target.origin,
            payer: self.address(),
            known,
        }
        .choose(offer)?;
        let (payee, origin) = (plan.entry.pay_to, &target.origin);
        let may_change =
            state.policy.payee_may_change || state.policy.payees.contains_key(origin.host());
        state
            .hosts
            .pin(
                origin,
                plan.asset.chain(),
                plan.asset.token(),
                payee,
                may_change,
            )
            .map_err(|known| Refusal::PayeeChanged {
                origin: origin.clone(),
                payee,
                known,
            })
            .map_err(|refusal| PayError::Refused(refusal.into()))?;
        Ok(plan)
    }

    /// A permit that is good for a plan, and whether it was there already. Calls for the same permit wait for one
    /// another, so that they do not sign two over the same nonce.
    async fn permit(&self, plan: &Plan<'_>) -> Result<(Arc<Allowance>, bool), PayError> {
        let permits = &self.state.permits;
        let key = PermitKey {
            chain: plan.asset.chain(),
            token: plan.asset.token(),
            owner: self.address(),
            spender: plan.entry.pay_to,
        };
        let signing = permits.signing(key);
        let _signing = signing.lock().await;
        if let Some(allowance) = permits.usable(&key, plan.need, self.state.now()) {
            return Ok((allowance, true));
        }
        let nonce = self
            .facts
            .permit_nonce(key.chain, key.token, key.owner)
            .await?;
        let deadline = self.state.now().plus(plan.validity);
        let terms = AllowanceTerms {
            spender: key.spender,
            value: plan.amount,
            nonce,
            deadline,
        };
        let allowance = Arc::new(sign_allowance(&*self.wallet, plan.asset.domain(), &terms).await?);
        // Short permits are used for half their life.
        let margin = self.state.policy.reuse_margin.min(plan.validity >> 1);
        permits.insert(allowance.clone(), deadline.minus(margin));
        Ok((allowance, false))
    }

    async fn sign_once_for(
        &self,
        plan: &Plan<'_>,
        now: Timestamp,
    ) -> Result<Authorization, PayError> {
        let (wallet, domain) = (&*self.wallet, plan.asset.domain());
        let nonce = self.state.nonces.fresh();
        let (to, amount) = (plan.entry.pay_to, plan.amount);
        let deadline = now.plus(plan.validity);
        let valid_after = Timestamp(0);
        Ok(match plan.how {
            How::Once { facilitator } => {
                let terms = OnceTerms {
                    amount,
                    spender: UPTO_PERMIT2_PROXY,
                    nonce: U256::from_be_bytes(nonce.0),
                    deadline,
                    to,
                    facilitator,
                    valid_after,
                };
                Authorization::Once(sign_once(wallet, domain, &terms).await?)
            }
            How::Permit2Exact => {
                let terms = Permit2ExactTerms {
                    amount,
                    spender: EXACT_PERMIT2_PROXY,
                    nonce: U256::from_be_bytes(nonce.0),
                    deadline,
                    to,
                    valid_after,
                };
                Authorization::Exact(Exact::Permit2(
                    sign_permit2_exact(wallet, domain, &terms).await?,
                ))
            }
            How::Eip3009 | How::Allowance => {
                let terms = Eip3009Terms {
                    to,
                    value: amount,
                    valid_after,
                    valid_before: deadline,
                    nonce,
                };
                Authorization::Exact(Exact::Eip3009(sign_eip3009(wallet, domain, &terms).await?))
            }
        })
    }

    fn paid(
        &self,
        target: &Target,
        plan: &Plan<'_>,
        authorization: Authorization,
        reused: bool,
    ) -> Paid {
        Paid {
            origin: target.origin.clone(),
            kind: plan.how.kind(),
            chain: plan.asset.chain(),
            token: plan.asset.token(),
            payer: self.address(),
            pay_to: plan.entry.pay_to,
            authorized: Priced::new(authorization.cap(), plan.asset),
            quoted: Some(plan.need),
            expected: plan.need,
            max_charge: self.state.policy.max_charge,
            reused,
            deadline: authorization.deadline(),
            digest: digest(&authorization, plan.asset.domain()),
            signed: Signed(Arc::new(authorization)),
        }
    }

    /// The header of an authorization, and where it can be used up by one request, the book's entry of it.
    fn ready(
        &self,
        target: &Target,
        offer: &PaymentRequired,
        entry: &PaymentRequirements,
        paid: Paid,
    ) -> Result<Ready, PayError> {
        let mut payload = PaymentPayload::answering(offer, entry, paid.authorization());
        let identified = payload.extensions().payment_identifier().cloned();
        if let Some(asked) = &identified {
            let id = identifier(self.state.nonces.fresh());
            let extensions =
                payload
                    .extensions()
                    .clone()
                    .with_payment_identifier(PaymentIdentifier {
                        id,
                        ..asked.clone()
                    });
            payload = payload.with_extensions(extensions);
        }
        let name = HeaderName::from_static(payload.header().name());
        let mut value =
            HeaderValue::try_from(payload.to_header_value()).map_err(|_| PayError::Header)?;
        value.set_sensitive(true);
        let header = (name, value);
        let allowance = paid.allowance();
        // An allowance without an identifier has nothing that a second sending would repeat.
        let in_flight = if allowance.is_none() || identified.is_some() {
            let attempt = Attempt {
                header: header.clone(),
                paid: paid.clone(),
            };
            let begun = self.state.attempts.begin(target, attempt, self.state.now());
            Some(begun.map_err(|_| PayError::TooManyOpen {
                origin: target.origin.clone(),
            })?)
        } else {
            None
        };
        Ok(Ready {
            header,
            paid,
            allowance,
            in_flight,
        })
    }
}

impl Ready {
    fn resumed(attempt: Attempt, in_flight: InFlight) -> Self {
        let allowance = attempt.paid.allowance();
        Self {
            header: attempt.header,
            paid: Paid {
                reused: true,
                ..attempt.paid
            },
            allowance,
            in_flight: Some(in_flight),
        }
    }
}

/// Whether an earlier authorization is what a plan would have signed, but for its nonce and times.
fn answers(old: &Authorization, plan: &Plan<'_>) -> bool {
    let same = |to: Address, amount: Amount| to == plan.entry.pay_to && amount == plan.amount;
    old.chain() == plan.asset.chain()
        && old.token() == plan.asset.token()
        && match (old, plan.how) {
            (Authorization::Once(old), How::Once { facilitator }) => {
                old.facilitator == facilitator && same(old.to, old.amount)
            }
            (Authorization::Exact(Exact::Eip3009(old)), How::Eip3009) => same(old.to, old.value),
            (Authorization::Exact(Exact::Permit2(old)), How::Permit2Exact) => {
                same(old.to, old.amount)
            }
            _ => false,
        }
}

/// A name for a request: 128 random bits.
fn identifier(random: alloy_primitives::B256) -> Option<Identifier> {
    let (half, _) = random.split_at(16);
    format!("pay_{}", alloy_primitives::hex::encode(half))
        .parse()
        .ok()
}

impl<W, N> Clone for Payer<W, N> {
    fn clone(&self) -> Self {
        Self {
            wallet: self.wallet.clone(),
            facts: self.facts.clone(),
            state: self.state.clone(),
        }
    }
}

impl<W: Wallet, N> fmt::Debug for Payer<W, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payer")
            .field("address", &self.wallet.address())
            .field("policy", &self.state.policy)
            .finish_non_exhaustive()
    }
}

impl<W: Wallet, N> fmt::Debug for PayerBuilder<W, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PayerBuilder")
            .field("address", &self.wallet.address())
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
