//! What can be said of a payment without the chain: held against the requirements that the caller gives.

use tollgate_bsc::{exact_settle, transfer_with_authorization, upto_settle};
use tollgate_facilitator::Call;
use tollgate_payment::{AuthorizationKey, Permit2Terms, Pricing, Terms};
use tollgate_x402::{
    Address, Amount, Authorization, B256, ErrorCode, Exact, Network, PaymentRequirements, Timestamp,
};

use super::DeskConfig;

/// What is wrong with a payment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Bad {
    pub(super) code: ErrorCode,
    pub(super) message: String,
}

impl Bad {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl From<ErrorCode> for Bad {
    fn from(code: ErrorCode) -> Self {
        Self::new(code, code.advice())
    }
}

/// A payment whose signature is the payer's, over what the requirements ask for.
#[derive(Clone, Debug)]
pub(super) struct Judged<'a> {
    pub(super) authorization: Authorization,
    pub(super) digest: B256,
    pub(super) key: AuthorizationKey,
    /// The Permit2 contract.
    pub(super) permit2: Address,
    pub(super) network: Network,
    /// The requirements as the caller gives them.
    pub(super) offered: &'a PaymentRequirements,
    terms: Terms,
}

impl<'a> Judged<'a> {
    /// Everything that does not change with time: who signed, what, for whom.
    pub(super) fn of(call: &'a Call, config: &DeskConfig) -> Result<Self, Bad> {
        let offered = &call.request.requirements;
        let chain = offered
            .network
            .chain_id()
            .ok_or_else(|| Bad::from(ErrorCode::InvalidNetwork))?;
        if !config.markets.terms().any(|terms| terms.chain == chain) {
            let message = format!(
                "{} is not settled here: see GET /supported",
                offered.network
            );
            return Err(Bad::new(ErrorCode::InvalidNetwork, message));
        }
        let market = config.markets.of(chain, offered.asset).ok_or_else(|| {
            let message = format!("the token {} is not settled here", offered.asset);
            Bad::new(ErrorCode::InvalidPaymentRequirements, message)
        })?;
        if offered.pay_to.is_zero() || offered.pay_to == offered.asset {
            let message = "payTo is no account that can be paid";
            return Err(Bad::new(ErrorCode::InvalidPaymentRequirements, message));
        }
        let authorization = Self::signed(call)?;
        if let Authorization::Allowance(_) = authorization {
            let message = "an allowance (an ERC-2612 permit for payTo) can only be drawn by payTo itself, through a Settler of the seller's; a facilitator settles once and exact payments";
            return Err(Bad::new(ErrorCode::UnsupportedPayloadType, message));
        }
        if let Authorization::Once(signed) = &authorization
            && signed.facilitator != config.operator
        {
            let message = format!(
                "witness.facilitator is {} and only {} settles here",
                signed.facilitator, config.operator
            );
            return Err(Bad::new(ErrorCode::UptoFacilitator, message));
        }
        tollgate_eip712::verify(&authorization, &market.domain).map_err(|error| {
            Bad::new(
                crate::refusal::signature_code(&authorization),
                error.to_string(),
            )
        })?;
        let permit2 = market.terms.permit2.map(|permit2| Permit2Terms {
            facilitator: config.operator,
            ..permit2
        });
        let digest = tollgate_eip712::digest(&authorization, &market.domain);
        let at = permit2.map_or(Address::ZERO, |permit2| permit2.permit2);
        Ok(Self {
            key: AuthorizationKey::of(&authorization, digest, at),
            permit2: at,
            digest,
            network: offered.network.clone(),
            offered,
            terms: Terms {
                pay_to: offered.pay_to,
                // Told above, with the reason.
                permit: false,
                permit2,
                ..market.terms.clone()
            },
            authorization,
        })
    }

    fn signed(call: &Call) -> Result<Authorization, Bad> {
        let payload = &call.request.payload;
        payload
            .authorization_for(&call.request.requirements)
            .map_err(|error| Bad::new(error.code(), error.to_string()))
    }

    /// Whether it is good for these requirements for so many seconds yet.
    pub(super) fn timely(
        &self,
        offered: &PaymentRequirements,
        now: Timestamp,
        margin: u64,
    ) -> Result<(), Bad> {
        let pricing = match self.authorization {
            Authorization::Allowance(_) | Authorization::Once(_) => Pricing::Metered {
                worst: offered.amount,
                least: offered.minimum(),
            },
            Authorization::Exact(_) => Pricing::Fixed(offered.amount),
        };
        Ok(self
            .terms
            .accept(&self.authorization, pricing, now, margin)?)
    }

    /// Whether it can be settled for so much, in time.
    pub(super) fn settleable(
        &self,
        amount: Amount,
        now: Timestamp,
        margin: u64,
    ) -> Result<(), Bad> {
        if amount > self.authorization.cap() {
            let message = format!(
                "{amount} is to be settled and {} was signed",
                self.authorization.cap()
            );
            return Err(Bad::new(ErrorCode::SettlementExceedsAmount, message));
        }
        let pricing = match self.authorization {
            Authorization::Allowance(_) | Authorization::Once(_) => Pricing::Metered {
                worst: amount,
                least: amount,
            },
            Authorization::Exact(_) => Pricing::Fixed(amount),
        };
        Ok(self
            .terms
            .accept(&self.authorization, pricing, now, margin)?)
    }

    /// The most gas that settling a payment can cost: the gas limit of the call that does it.
    pub(super) fn gas(call: &Call) -> u64 {
        if call.request.requirements.amount.is_zero() {
            return 0;
        }
        match Self::signed(call) {
            Ok(Authorization::Once(signed)) => {
                upto_settle(&signed, call.request.requirements.amount).gas_limit
            }
            Ok(Authorization::Exact(Exact::Eip3009(signed))) => {
                transfer_with_authorization(&signed).gas_limit
            }
            Ok(Authorization::Exact(Exact::Permit2(signed))) => exact_settle(&signed).gas_limit,
            // It is refused before it costs any.
            Ok(Authorization::Allowance(_)) | Err(_) => 0,
        }
    }
}
