//! Which of a seller's offers is taken.

use tollgate_x402::{
    Address, Amount, AssetTransferMethod, AuthorizationKind, ChainId, PaymentRequired,
    PaymentRequirements, PrimaryType, Scheme,
};

use crate::{Asset, Dollars, Origin, Policy, Priced, Refusal, Refusals, development, hosts::Hosts};

/// What is to be signed.
pub(crate) struct Plan<'a> {
    pub(crate) entry: &'a PaymentRequirements,
    pub(crate) asset: &'a Asset,
    pub(crate) how: How,
    /// What is signed over, in atomic units.
    pub(crate) amount: Amount,
    /// The most that the request can cost, as the seller says.
    pub(crate) need: Amount,
    /// Seconds from now to the deadline.
    pub(crate) validity: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum How {
    Allowance,
    Once { facilitator: Address },
    Eip3009,
    Permit2Exact,
}

impl How {
    pub(crate) const fn kind(self) -> AuthorizationKind {
        match self {
            Self::Allowance => AuthorizationKind::Allowance,
            Self::Once { .. } => AuthorizationKind::Once,
            Self::Eip3009 | Self::Permit2Exact => AuthorizationKind::Exact,
        }
    }
}

/// Who asks, and what is known.
pub(crate) struct Chooser<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) hosts: &'a Hosts,
    pub(crate) origin: &'a Origin,
    pub(crate) payer: Address,
    /// The chains for which permits can be signed, among the policy's.
    pub(crate) known: Vec<ChainId>,
}

impl<'a> Chooser<'a> {
    /// The way to pay: the first kind of the policy's order that an entry offers and the policy allows, and of that
    /// kind the seller's first.
    pub(crate) fn choose(&self, offer: &'a PaymentRequired) -> Result<Plan<'a>, Refusals> {
        self.policy.origin(self.origin)?;
        if self.hosts.is_blocked(self.origin) {
            return Err(Refusal::Blocked {
                origin: self.origin.clone(),
            }
            .into());
        }
        let mut reasons = Vec::new();
        let mut good = Vec::new();
        for entry in &offer.accepts {
            match self.asset(entry) {
                Ok(asset) => good.push((entry, asset)),
                Err(reason) => reasons.push(reason),
            }
        }
        for kind in &self.policy.kinds {
            for &(entry, asset) in &good {
                match self
                    .way(*kind, entry, asset)
                    .map(|how| self.plan(how, entry, asset))
                {
                    Some(Ok(plan)) => return Ok(plan),
                    Some(Err(reason)) => reasons.push(reason),
                    None => {}
                }
            }
        }
        let offered = offer.accepts.len().saturating_add(offer.unreadable.len());
        Err(Refusals::from_reasons(reasons, offered))
    }

    /// The token of an entry, if money of it may go to this payee at all.
    fn asset(&self, entry: &PaymentRequirements) -> Result<&'a Asset, Refusal> {
        let wrong = || Refusal::WrongNetwork {
            network: entry.network.clone(),
        };
        let chain = entry.network.chain_id().ok_or_else(wrong)?;
        if !self.policy.networks.contains(&chain) {
            return Err(wrong());
        }
        if !development::may_sign(self.payer, chain) {
            return Err(Refusal::DevelopmentKey {
                account: self.payer,
                chain,
            });
        }
        let asset = self
            .policy
            .asset(chain, entry.asset)
            .ok_or(Refusal::UnknownAsset {
                chain,
                token: entry.asset,
            })?;
        self.payee(chain, entry)?;
        Ok(asset)
    }

    fn payee(&self, chain: ChainId, entry: &PaymentRequirements) -> Result<(), Refusal> {
        let payee = entry.pay_to;
        let changed = |known| Refusal::PayeeChanged {
            origin: self.origin.clone(),
            payee,
            known,
        };
        if let Some(payees) = self.policy.payees.get(self.origin.host()) {
            return if payees.contains(&payee) {
                Ok(())
            } else {
                Err(changed(payees.first().copied().unwrap_or_default()))
            };
        }
        match self.hosts.payee(self.origin, chain, entry.asset) {
            Some(known) if known != payee && !self.policy.payee_may_change => Err(changed(known)),
            _ => Ok(()),
        }
    }

    /// How an entry is paid by this kind, if it offers that.
    fn way(
        &self,
        kind: AuthorizationKind,
        entry: &PaymentRequirements,
        asset: &Asset,
    ) -> Option<How> {
        let extra = &entry.extra;
        let method = extra.asset_transfer_method.as_ref();
        let permit2 = method == Some(&AssetTransferMethod::Permit2);
        match (kind, &entry.scheme) {
            (AuthorizationKind::Allowance, Scheme::Upto) => (asset.signatures().permit
                && extra.primary_type == Some(PrimaryType::Permit))
            .then_some(How::Allowance),
            (AuthorizationKind::Once, Scheme::Upto) => extra
                .facilitator_address
                .filter(|_| permit2 || method.is_none())
                .map(|facilitator| How::Once { facilitator }),
            (AuthorizationKind::Exact, Scheme::Exact) if permit2 => Some(How::Permit2Exact),
            (AuthorizationKind::Exact, Scheme::Exact) => {
                let ours = matches!(method, None | Some(AssetTransferMethod::Eip3009))
                    && matches!(
                        extra.primary_type,
                        None | Some(PrimaryType::TransferWithAuthorization)
                    );
                (ours && asset.signatures().eip3009).then_some(How::Eip3009)
            }
            _ => None,
        }
    }

    fn plan(
        &self,
        how: How,
        entry: &'a PaymentRequirements,
        asset: &'a Asset,
    ) -> Result<Plan<'a>, Refusal> {
        let (amount, need) = match how {
            How::Allowance => (entry.amount, entry.minimum()),
            How::Once { .. } if self.policy.right_size => (entry.minimum(), entry.minimum()),
            How::Once { .. } => (entry.amount, entry.minimum()),
            How::Eip3009 | How::Permit2Exact => (entry.amount, entry.amount),
        };
        if amount.is_zero() {
            return Err(Refusal::ZeroAmount);
        }
        let dollars = |amount| Dollars::of(amount, asset.decimals());
        if let Some(limit) = self.policy.max_charge
            && dollars(need) > limit
        {
            return Err(Refusal::ChargeCap {
                asked: Priced::new(need, asset),
                limit,
            });
        }
        if let Some(limit) = self.policy.max_authorization
            && dollars(amount) > limit
        {
            return Err(Refusal::AuthorizationCap {
                asked: Priced::new(amount, asset),
                limit,
            });
        }
        let asked = entry.max_timeout_seconds;
        let validity = if how == How::Allowance {
            asked
        } else {
            asked.min(self.policy.single_use_validity)
        };
        if validity > self.policy.max_validity {
            return Err(Refusal::Validity {
                seconds: validity,
                limit: self.policy.max_validity,
            });
        }
        if how == How::Allowance && !self.known.contains(&asset.chain()) {
            return Err(Refusal::NoChain {
                chain: asset.chain(),
            });
        }
        Ok(Plan {
            entry,
            asset,
            how,
            amount,
            need,
            validity,
        })
    }
}
