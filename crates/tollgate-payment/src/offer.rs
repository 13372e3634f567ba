//! Offers: what a seller asks for, and what of the answers is good.
//!
//! An offer is made of the seller's terms and one request's price alone, so it is not stored: at the paid
//! request it is made again and matched. The client's echo selects an entry and never supplies a value.

use std::sync::{Arc, OnceLock};

use tollgate_x402::{
    Address, Amount, AssetTransferMethod, Authorization, B256, ChainId, ErrorCode, Exact,
    Extensions, Network, OfferForm, PaymentRequired, PaymentRequirements, PrimaryType,
    ResourceInfo, Scheme, Timestamp, WrittenOffer,
};

/// Seconds beyond its `maxTimeoutSeconds` for which a once or exact payment may be signed, at most: an hour, for clients
/// whose clock is fast. The known ones sign for `maxTimeoutSeconds` from now.
const LONGEST: u64 = 3_600;

/// What a seller takes for one token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Terms {
    /// The chain.
    pub chain: ChainId,
    /// The token.
    pub token: Address,
    /// The token's EIP-712 domain name, for permits and EIP-3009.
    pub name: Option<String>,
    /// The token's EIP-712 domain version.
    pub version: Option<String>,
    /// Who is paid: a `Settler`, or a plain account. It is also the spender of allowances.
    pub pay_to: Address,
    /// The maximum that `upto` offers name, in atomic units. It is the same for every request, so that an
    /// allowance is signed once and used again; below 10^18, where older clients stop.
    pub amount: Amount,
    /// How long from signing a payment stays good, in seconds.
    pub max_timeout: u64,
    /// Whether the token has ERC-2612 permits: allowances are offered.
    pub permit: bool,
    /// Whether the token has EIP-3009: exact payments by it are offered.
    pub eip3009: bool,
    /// Permit2 and its x402 proxies, where the chain has their code.
    pub permit2: Option<Permit2Terms>,
}

/// Where Permit2 payments go through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Permit2Terms {
    /// The Permit2 contract.
    pub permit2: Address,
    /// The x402 upto proxy, if the chain has it.
    pub upto_proxy: Option<Address>,
    /// The x402 exact proxy, if the chain has it.
    pub exact_proxy: Option<Address>,
    /// The `witness.facilitator` of once payments: who calls the upto proxy.
    pub facilitator: Address,
}

/// What one request asks of its payer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ask {
    /// What is paid for.
    pub resource: ResourceInfo,
    /// Its price.
    pub pricing: Pricing,
}

/// The price of one request, in atomic units.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pricing {
    /// Charged by use.
    Metered {
        /// The most that it can cost.
        worst: Amount,
        /// The least with which it makes sense to begin.
        least: Amount,
    },
    /// One price.
    Fixed(Amount),
}

/// What was bound to an admitted payment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestBinding {
    /// The digest of the request: method, path and body.
    pub digest: B256,
    /// What the gateway wants to remember for the receipt: at most 2 KiB.
    pub memo: String,
}

/// The ways in which one request can be paid.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The price.
    pub pricing: Pricing,
    /// What is paid for.
    pub resource: ResourceInfo,
    /// The extensions that the seller honours (x402 v2 §8).
    pub extensions: Arc<Extensions>,
    terms: Arc<[Terms]>,
    /// Made when they are looked at: an unpaid request needs none where the offer is written ahead.
    entries: OnceLock<Vec<(PaymentRequirements, Terms)>>,
    form: Option<Arc<OfferForm>>,
}

impl Offer {
    /// The offer of these terms, in the seller's order of preference.
    pub fn new<'a>(ask: Ask, terms: impl IntoIterator<Item = &'a Terms>) -> Self {
        let terms = terms.into_iter().cloned().collect();
        Self::of(ask, terms, Arc::default(), None)
    }

    /// The offer of these terms and extensions, and its form, if it was written ahead.
    pub(crate) fn of(
        ask: Ask,
        terms: Arc<[Terms]>,
        extensions: Arc<Extensions>,
        form: Option<Arc<OfferForm>>,
    ) -> Self {
        Self {
            pricing: ask.pricing,
            resource: ask.resource,
            extensions,
            terms,
            entries: OnceLock::new(),
            form,
        }
    }

    /// The same with these extensions.
    #[must_use]
    pub fn with_extensions(self, extensions: Extensions) -> Self {
        Self {
            extensions: Arc::new(extensions),
            form: None,
            ..self
        }
    }

    /// The answer to an unpaid request.
    pub fn required(&self, error: &str) -> PaymentRequired {
        let entries = self.entries().map(|(entry, _)| entry.clone()).collect();
        let mut required = PaymentRequired::new(self.resource.clone(), entries);
        required.error = Some(error.to_owned());
        required.extensions = Extensions::clone(&self.extensions);
        required
    }

    /// The answer to an unpaid request, as it goes out.
    pub fn written(&self, error: &str) -> WrittenOffer {
        match &self.form {
            Some(form) => form.write(error, &self.amounts()),
            None => WrittenOffer::of(&self.required(error)),
        }
    }

    /// What differs from request to request, entry by entry.
    pub(crate) fn amounts(&self) -> Vec<Amount> {
        let amounts = self.terms.iter().map(|terms| match self.pricing {
            Pricing::Metered { worst, .. } => (worst.min(terms.amount), terms.meters().into()),
            Pricing::Fixed(price) => (price, terms.fixes()),
        });
        amounts
            .flat_map(|(amount, entries)| core::iter::repeat_n(amount, entries))
            .collect()
    }

    /// The entries, each with the terms that it was made of, in the seller's order.
    pub fn entries(&self) -> impl Iterator<Item = (&PaymentRequirements, &Terms)> {
        let entries = self.entries.get_or_init(|| self.make());
        entries.iter().map(|(entry, terms)| (entry, terms))
    }

    fn make(&self) -> Vec<(PaymentRequirements, Terms)> {
        let mut entries = Vec::new();
        for terms in self.terms.iter() {
            let made = match self.pricing {
                Pricing::Metered { worst, .. } => {
                    terms.metered(&self.resource, worst).into_iter().collect()
                }
                Pricing::Fixed(price) => terms.fixed(&self.resource, price),
            };
            entries.extend(made.into_iter().map(|entry| (entry, terms.clone())));
        }
        entries
    }
}

impl Terms {
    fn entry(
        &self,
        scheme: Scheme,
        amount: Amount,
        resource: &ResourceInfo,
    ) -> PaymentRequirements {
        let network = Network::from(self.chain);
        let mut entry = PaymentRequirements::new(
            scheme,
            network,
            amount,
            self.token,
            self.pay_to,
            self.max_timeout,
        );
        entry.resource = Some(resource.url.clone());
        entry.description = Some(resource.description.clone().unwrap_or_default());
        entry.mime_type = Some(resource.mime_type.clone().unwrap_or_default());
        entry.extra.name.clone_from(&self.name);
        entry.extra.version.clone_from(&self.version);
        entry
    }

    /// Whether they are good for what is charged by use.
    fn meters(&self) -> bool {
        self.permit || self.permit2.is_some_and(|it| it.upto_proxy.is_some())
    }

    /// So many entries they have for what has one price.
    fn fixes(&self) -> usize {
        let exact = self.permit2.is_some_and(|it| it.exact_proxy.is_some());
        usize::from(self.eip3009).saturating_add(exact.into())
    }

    /// One entry with the fields of both `upto` dialects, so that every client finds its own.
    fn metered(&self, resource: &ResourceInfo, worst: Amount) -> Option<PaymentRequirements> {
        let once = self.permit2.filter(|permit2| permit2.upto_proxy.is_some());
        if !self.meters() {
            return None;
        }
        let mut entry = self.entry(Scheme::Upto, self.amount, resource);
        entry.extra.primary_type = self.permit.then_some(PrimaryType::Permit);
        entry.extra.min_amount_required = Some(worst.min(self.amount));
        if let Some(once) = once {
            entry.extra.asset_transfer_method = Some(AssetTransferMethod::Permit2);
            entry.extra.facilitator_address = Some(once.facilitator);
        }
        Some(entry)
    }

    fn fixed(&self, resource: &ResourceInfo, price: Amount) -> Vec<PaymentRequirements> {
        let mut entries = Vec::new();
        if self.eip3009 {
            entries.push(self.entry(Scheme::Exact, price, resource));
        }
        if self
            .permit2
            .is_some_and(|permit2| permit2.exact_proxy.is_some())
        {
            let mut entry = self.entry(Scheme::Exact, price, resource);
            entry.extra.asset_transfer_method = Some(AssetTransferMethod::Permit2);
            entries.push(entry);
        }
        entries
    }

    /// Whether an authorization is good for an offer of these terms, all but its signature and its funds.
    ///
    /// `margin` is the time that serving and settling may take, in seconds.
    ///
    /// # Errors
    /// The code of the first thing that is wrong.
    pub fn accept(
        &self,
        authorization: &Authorization,
        pricing: Pricing,
        now: Timestamp,
        margin: u64,
    ) -> Result<(), ErrorCode> {
        let good = |good: bool, code| if good { Ok(()) } else { Err(code) };
        good(
            authorization.chain() == self.chain,
            ErrorCode::InvalidNetwork,
        )?;
        let permit2 = matches!(
            authorization,
            Authorization::Once(_) | Authorization::Exact(Exact::Permit2(_))
        );
        let token = if permit2 {
            ErrorCode::Permit2Token
        } else {
            ErrorCode::InvalidPaymentRequirements
        };
        good(authorization.token() == self.token, token)?;
        // What is good for one request is signed for that: what stays open for long is known to be unpaid as late.
        let latest = match authorization {
            Authorization::Allowance(_) => Timestamp(u64::MAX),
            Authorization::Once(_) | Authorization::Exact(_) => {
                now.plus(self.max_timeout.saturating_add(LONGEST))
            }
        };
        let deadline = authorization.deadline();
        let in_time = deadline >= now.plus(margin) && deadline <= latest;
        match (authorization, pricing) {
            (Authorization::Allowance(a), Pricing::Metered { least, .. }) => {
                good(self.permit, ErrorCode::UnsupportedPayloadType)?;
                good(a.spender == self.pay_to, ErrorCode::RecipientMismatch)?;
                good(in_time, ErrorCode::PaymentExpired)?;
                good(
                    !a.value.is_zero() && a.value >= least,
                    ErrorCode::AmountTooLow,
                )
            }
            (Authorization::Once(a), Pricing::Metered { least, .. }) => {
                let terms = self.permit2.ok_or(ErrorCode::UnsupportedPayloadType)?;
                let proxy = terms.upto_proxy.ok_or(ErrorCode::Permit2ProxyMissing)?;
                good(a.spender == proxy, ErrorCode::Permit2Spender)?;
                good(a.to == self.pay_to, ErrorCode::Permit2Recipient)?;
                good(
                    a.facilitator == terms.facilitator,
                    ErrorCode::UptoFacilitator,
                )?;
                good(in_time, ErrorCode::Permit2Deadline)?;
                good(a.valid_after <= now, ErrorCode::Permit2NotYetValid)?;
                good(
                    !a.amount.is_zero() && a.amount >= least,
                    ErrorCode::Permit2Amount,
                )
            }
            (Authorization::Exact(Exact::Eip3009(a)), Pricing::Fixed(price)) => {
                good(self.eip3009, ErrorCode::Eip3009NotSupported)?;
                good(a.to == self.pay_to, ErrorCode::RecipientMismatch)?;
                good(in_time, ErrorCode::ValidBefore)?;
                // EIP-3009 demands validAfter < now.
                good(a.valid_after < now, ErrorCode::ValidAfter)?;
                good(
                    a.value == price && !price.is_zero(),
                    ErrorCode::ValueMismatch,
                )
            }
            (Authorization::Exact(Exact::Permit2(a)), Pricing::Fixed(price)) => {
                let terms = self.permit2.ok_or(ErrorCode::UnsupportedPayloadType)?;
                let proxy = terms.exact_proxy.ok_or(ErrorCode::Permit2ProxyMissing)?;
                good(a.spender == proxy, ErrorCode::Permit2Spender)?;
                good(a.to == self.pay_to, ErrorCode::Permit2Recipient)?;
                good(in_time, ErrorCode::Permit2Deadline)?;
                good(a.valid_after <= now, ErrorCode::Permit2NotYetValid)?;
                good(
                    a.amount == price && !price.is_zero(),
                    ErrorCode::Permit2Amount,
                )
            }
            (Authorization::Exact(_), Pricing::Metered { .. })
            | (Authorization::Allowance(_) | Authorization::Once(_), Pricing::Fixed(_)) => {
                Err(ErrorCode::InvalidScheme)
            }
        }
    }
}
