//! Offers that are written ahead: unpaid requests come in any number, and nobody has paid for them.

use std::sync::{Arc, PoisonError, RwLock};

use tollgate_x402::{Amount, Extensions, OfferForm, ResourceInfo};

use crate::offer::{Ask, Offer, Pricing, Terms};

/// Resources whose offers are written ahead, at most. Those of others are written one by one.
const MOST: usize = 64;

/// What a seller offers whatever the request, so that an offer costs little more than its amounts.
#[derive(Debug)]
pub struct Menu {
    terms: Arc<[Terms]>,
    extensions: Arc<Extensions>,
    forms: RwLock<Vec<(Key, Option<Arc<OfferForm>>)>>,
}

/// What a form depends on.
#[derive(PartialEq, Debug)]
struct Key {
    resource: ResourceInfo,
    metered: bool,
}

impl Menu {
    /// A menu of these terms, in the seller's order, and of what every offer carries.
    pub fn new(terms: impl IntoIterator<Item = Terms>, extensions: Extensions) -> Self {
        Self {
            terms: terms.into_iter().collect(),
            extensions: Arc::new(extensions),
            forms: RwLock::default(),
        }
    }

    /// The offer for a request. What it is does not depend on whether it was written ahead.
    pub fn offer(&self, ask: Ask) -> Offer {
        let form = self.form(&ask);
        Offer::of(
            ask,
            Arc::clone(&self.terms),
            Arc::clone(&self.extensions),
            form,
        )
    }

    fn form(&self, ask: &Ask) -> Option<Arc<OfferForm>> {
        let metered = matches!(ask.pricing, Pricing::Metered { .. });
        {
            let forms = self.forms.read().unwrap_or_else(PoisonError::into_inner);
            let mut known = forms.iter();
            if let Some((_, form)) =
                known.find(|(key, _)| key.metered == metered && key.resource == ask.resource)
            {
                return form.clone();
            }
            if forms.len() >= MOST {
                return None;
            }
        }
        let form = self.write(ask).map(Arc::new);
        let mut forms = self.forms.write().unwrap_or_else(PoisonError::into_inner);
        // Two requests may come here at once: the second finds its own as well.
        if forms.len() < MOST {
            let key = Key {
                resource: ask.resource.clone(),
                metered,
            };
            forms.push((key, form.clone()));
        }
        form
    }

    fn write(&self, ask: &Ask) -> Option<OfferForm> {
        let (terms, extensions) = (Arc::clone(&self.terms), Arc::clone(&self.extensions));
        let plain = Offer::of(ask.clone(), terms, extensions, None);
        let metered = matches!(ask.pricing, Pricing::Metered { .. });
        OfferForm::new(plain.amounts().len(), |amounts: &[Amount]| {
            let mut required = plain.required("");
            for (entry, amount) in required.accepts.iter_mut().zip(amounts) {
                if metered {
                    entry.extra.min_amount_required = Some(*amount);
                } else {
                    entry.amount = *amount;
                }
            }
            required
        })
    }
}
