//! What a payment is, before the ledger is asked: which entry it answers, who signed it, and why it pays for nothing now.

use tollgate_ledger::Store;
use tollgate_payment::{
    Offer, Pricing, Terms,
    port::{AdmitError, Verifier},
};
use tollgate_x402::{Authorization, ErrorCode, Identifier, MatchError, PaymentPayload};

use super::Cashier;
use crate::{
    market::Market,
    refusal::{meant, refused, signature_code},
};

/// A payment whose signature is good.
pub(super) struct Verified<'a> {
    pub(super) authorization: Authorization,
    pub(super) market: &'a Market,
    pub(super) identifier: Option<Identifier>,
    /// Why it pays for nothing now.
    pub(super) unfit: Option<AdmitError>,
}

impl<S: Store, V: Verifier> Cashier<S, V> {
    /// The authorization that a payment carries, which answers one of our entries and whose signature is good.
    pub(super) fn verify(
        &self,
        offer: &Offer,
        payment: &PaymentPayload,
    ) -> Result<Verified<'_>, AdmitError> {
        let mut best: Option<MatchError> = None;
        for (entry, terms) in offer.entries() {
            match payment.authorization_for(entry) {
                Ok(authorization) => {
                    if let Some(market) = self.inner.config.markets.of(terms.chain, terms.token) {
                        return self.signed(offer, payment, authorization, market);
                    }
                }
                // The entry that the client meant says more than one that it did not.
                Err(error) if best.is_none_or(|best| meant(best) < meant(error)) => {
                    best = Some(error);
                }
                Err(_) => {}
            }
        }
        if let Some(MatchError::Value | MatchError::PermittedAmount) = best {
            // It may have paid before the price changed.
            for (entry, terms) in offer.entries() {
                let mut then = entry.clone();
                then.amount = payment.scheme_payload().amount();
                let market = self.inner.config.markets.of(terms.chain, terms.token);
                if let (Ok(authorization), Some(market)) =
                    (payment.authorization_for(&then), market)
                {
                    return self.signed(offer, payment, authorization, market);
                }
            }
        }
        let code = best.map_or(ErrorCode::InvalidPaymentRequirements, MatchError::code);
        Err(refused(
            code,
            best.map_or_else(|| code.advice().to_owned(), |error| error.to_string()),
        ))
    }

    /// The same, of which only the signature is to be checked.
    fn signed<'a>(
        &self,
        offer: &Offer,
        payment: &PaymentPayload,
        authorization: Authorization,
        market: &'a Market,
    ) -> Result<Verified<'a>, AdmitError> {
        let unfit = self.unfit(&market.terms, &authorization, offer.pricing);
        match tollgate_eip712::verify(&authorization, &market.domain) {
            Ok(_) => {}
            Err(error) => {
                let code = signature_code(&authorization);
                return Err(unfit.unwrap_or_else(|| refused(code, error.to_string())));
            }
        }
        let identifier = payment.extensions().payment_identifier();
        Ok(Verified {
            authorization,
            market,
            identifier: identifier.and_then(|identifier| identifier.id.clone()),
            unfit,
        })
    }

    /// Why an authorization pays for nothing, whoever signed it and whatever funds there are. It may still ask for what
    /// it paid for before.
    pub(super) fn unfit(
        &self,
        terms: &Terms,
        authorization: &Authorization,
        pricing: Pricing,
    ) -> Option<AdmitError> {
        let now = self.inner.clock.now();
        let accepted = terms.accept(authorization, pricing, now, self.inner.config.margin);
        accepted.err().map(|code| refused(code, code.advice()))
    }
}
