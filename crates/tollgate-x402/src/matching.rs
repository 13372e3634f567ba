//! What was signed, read against the seller's own offer.

use crate::{
    Address, Allowance, AssetTransferMethod, Authorization, ChainId, Eip3009, ErrorCode, Exact,
    Once, PayloadKind, PaymentPayload, PaymentRequirements, Permit2Exact, PrimaryType, Scheme,
    SchemePayload, Selector, SignedAuthorization, SignedPermit2, U256,
    canonical::{EXACT_PERMIT2_PROXY, UPTO_PERMIT2_PROXY},
};

/// Why a payment does not answer an offer. The payer is to blame, except for [`MatchError::OfferNetwork`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MatchError {
    /// The client names another scheme.
    #[error("the payment names another scheme than the offer")]
    Scheme,
    /// The client names another network.
    #[error("the payment names another network than the offer")]
    Network,
    /// The client echoes another token or payee.
    #[error("the payment echoes another asset or payTo than the offer's")]
    Echo,
    /// The offer is not for an EVM chain: the seller's mistake.
    #[error("the offer is not for an EVM chain")]
    OfferNetwork,
    /// The offer is not paid by this kind of signature.
    #[error("the offer is not paid by this kind of signature")]
    Kind(PayloadKind),
    /// A permit's spender or a transfer's recipient is not the offer's `payTo`.
    #[error("the signed recipient or spender is not the offer's payTo")]
    Recipient,
    /// `witness.to` is not the offer's `payTo`.
    #[error("witness.to is not the offer's payTo")]
    WitnessRecipient,
    /// The Permit2 spender is not the scheme's proxy.
    #[error("the permit's spender is not the x402 proxy of the scheme")]
    Spender,
    /// `permitted.token` is not the offer's asset.
    #[error("the permitted token is not the offer's asset")]
    Token,
    /// `witness.facilitator` is missing or is not the offer's.
    #[error("witness.facilitator is not the offer's facilitatorAddress")]
    Facilitator,
    /// An exact transfer of another value than the offer's amount.
    #[error("an exact payment's value is not the offered amount")]
    Value,
    /// An exact Permit2 payment of another amount than the offer's.
    #[error("the permitted amount is not the offered amount")]
    PermittedAmount,
    /// A maximum of nothing.
    #[error("the signed amount is zero")]
    Zero,
}

impl MatchError {
    /// The code to answer with (402 all, but for the seller's own mistake).
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::Scheme => ErrorCode::InvalidScheme,
            Self::Network => ErrorCode::InvalidNetwork,
            Self::Echo => ErrorCode::InvalidPaymentRequirements,
            Self::OfferNetwork => ErrorCode::UnexpectedVerifyError,
            Self::Kind(_) => ErrorCode::UnsupportedPayloadType,
            Self::Recipient => ErrorCode::RecipientMismatch,
            Self::WitnessRecipient => ErrorCode::Permit2Recipient,
            Self::Spender => ErrorCode::Permit2Spender,
            Self::Token => ErrorCode::Permit2Token,
            Self::Facilitator => ErrorCode::UptoFacilitator,
            Self::Value => ErrorCode::ValueMismatch,
            Self::PermittedAmount => ErrorCode::Permit2Amount,
            Self::Zero => ErrorCode::AmountTooLow,
        }
    }
}

impl Selector {
    /// Whether the client claims to answer this entry. Amounts, times and `extra` do not count: a permit that is
    /// used again echoes the offer for which it was signed.
    ///
    /// # Errors
    /// [`MatchError::Scheme`], [`MatchError::Network`], [`MatchError::Echo`].
    pub fn answers(&self, offer: &PaymentRequirements) -> Result<(), MatchError> {
        if self.scheme != offer.scheme {
            return Err(MatchError::Scheme);
        }
        if self.network != offer.network {
            return Err(MatchError::Network);
        }
        let same = |echo: Option<Address>, ours| echo.is_none_or(|echo| echo == ours);
        if !same(self.asset, offer.asset) || !same(self.pay_to, offer.pay_to) {
            return Err(MatchError::Echo);
        }
        Ok(())
    }
}

impl PaymentPayload {
    /// The authorization that was signed, if it is one for this offer of the seller's own.
    ///
    /// Chain, token, payee, spender and facilitator come from the offer; payer, amount, nonce, times and signature
    /// from what was signed. The client's echo supplies nothing. For `exact` the amount must be the offer's; for
    /// `upto` it is any maximum above zero, and whether it covers the request is for the ledger to say. The signature
    /// is not recovered here, and no time is compared.
    ///
    /// # Errors
    /// [`MatchError`], whose [`code`](MatchError::code) is the one to answer with.
    pub fn authorization_for(
        &self,
        offer: &PaymentRequirements,
    ) -> Result<Authorization, MatchError> {
        self.selector().answers(offer)?;
        let chain = offer.network.chain_id().ok_or(MatchError::OfferNetwork)?;
        match (self.scheme_payload(), &offer.scheme) {
            (SchemePayload::Permit2(signed), Scheme::Upto) => once(signed, offer, chain),
            (SchemePayload::Permit2(signed), Scheme::Exact) => permit2_exact(signed, offer, chain),
            (SchemePayload::Authorization(signed), Scheme::Upto) => allowance(signed, offer, chain),
            (SchemePayload::Authorization(signed), Scheme::Exact) => eip3009(signed, offer, chain),
            (payload, Scheme::Other(_)) => Err(MatchError::Kind(payload.kind())),
        }
    }
}

fn allowance(
    signed: &SignedAuthorization,
    offer: &PaymentRequirements,
    chain: ChainId,
) -> Result<Authorization, MatchError> {
    // An EIP-3009 transfer moves its whole value and cannot be metered.
    if offer.extra.primary_type != Some(PrimaryType::Permit) {
        return Err(MatchError::Kind(PayloadKind::Authorization));
    }
    if signed.to != offer.pay_to {
        return Err(MatchError::Recipient);
    }
    if signed.value.is_zero() {
        return Err(MatchError::Zero);
    }
    Ok(Authorization::Allowance(Allowance {
        chain,
        token: offer.asset,
        owner: signed.from,
        spender: offer.pay_to,
        value: signed.value,
        nonce: U256::from_be_bytes(signed.nonce.0),
        deadline: signed.valid_before,
        signature: signed.signature,
    }))
}

fn eip3009(
    signed: &SignedAuthorization,
    offer: &PaymentRequirements,
    chain: ChainId,
) -> Result<Authorization, MatchError> {
    let method = matches!(
        offer.extra.asset_transfer_method,
        None | Some(AssetTransferMethod::Eip3009)
    );
    let primary = matches!(
        offer.extra.primary_type,
        None | Some(PrimaryType::TransferWithAuthorization)
    );
    if !method || !primary {
        return Err(MatchError::Kind(PayloadKind::Authorization));
    }
    if signed.to != offer.pay_to {
        return Err(MatchError::Recipient);
    }
    if signed.value != offer.amount {
        return Err(MatchError::Value);
    }
    if signed.value.is_zero() {
        return Err(MatchError::Zero);
    }
    Ok(Authorization::Exact(Exact::Eip3009(Eip3009 {
        chain,
        token: offer.asset,
        owner: signed.from,
        to: offer.pay_to,
        value: signed.value,
        valid_after: signed.valid_after,
        valid_before: signed.valid_before,
        nonce: signed.nonce,
        signature: signed.signature,
    })))
}

fn once(
    signed: &SignedPermit2,
    offer: &PaymentRequirements,
    chain: ChainId,
) -> Result<Authorization, MatchError> {
    let Some(facilitator) = offer.extra.facilitator_address else {
        return Err(MatchError::Kind(PayloadKind::Permit2Upto));
    };
    if signed.facilitator != Some(facilitator) {
        return Err(MatchError::Facilitator);
    }
    permit2(signed, offer, UPTO_PERMIT2_PROXY)?;
    Ok(Authorization::Once(Once {
        chain,
        token: offer.asset,
        owner: signed.from,
        amount: signed.amount,
        spender: UPTO_PERMIT2_PROXY,
        nonce: signed.nonce,
        deadline: signed.deadline,
        to: offer.pay_to,
        facilitator,
        valid_after: signed.valid_after,
        signature: signed.signature,
    }))
}

fn permit2_exact(
    signed: &SignedPermit2,
    offer: &PaymentRequirements,
    chain: ChainId,
) -> Result<Authorization, MatchError> {
    if offer.extra.asset_transfer_method != Some(AssetTransferMethod::Permit2)
        || signed.facilitator.is_some()
    {
        return Err(MatchError::Kind(if signed.facilitator.is_some() {
            PayloadKind::Permit2Upto
        } else {
            PayloadKind::Permit2Exact
        }));
    }
    permit2(signed, offer, EXACT_PERMIT2_PROXY)?;
    if signed.amount != offer.amount {
        return Err(MatchError::PermittedAmount);
    }
    Ok(Authorization::Exact(Exact::Permit2(Permit2Exact {
        chain,
        token: offer.asset,
        owner: signed.from,
        amount: signed.amount,
        spender: EXACT_PERMIT2_PROXY,
        nonce: signed.nonce,
        deadline: signed.deadline,
        to: offer.pay_to,
        valid_after: signed.valid_after,
        signature: signed.signature,
    })))
}

/// What both Permit2 schemes check, in the order of the reference implementation.
fn permit2(
    signed: &SignedPermit2,
    offer: &PaymentRequirements,
    proxy: Address,
) -> Result<(), MatchError> {
    if signed.spender != proxy {
        return Err(MatchError::Spender);
    }
    if signed.to != offer.pay_to {
        return Err(MatchError::WitnessRecipient);
    }
    if signed.token != offer.asset {
        return Err(MatchError::Token);
    }
    if signed.amount.is_zero() {
        return Err(MatchError::Zero);
    }
    Ok(())
}
