//! The codes that we emit, with their HTTP statuses and what to do about each.

use core::str::FromStr;

use serde::{Serialize, Serializer};

/// Makes an enum of stable codes from a table: `Variant = "code", status, "advice";` in each line.
///
/// The enum is `Copy` and `#[non_exhaustive]`, and has `ALL`, `as_str`, `status`, `advice` and `Display`; in tests also
/// `documented`, the table as it stands in the documentation.
///
/// ```
/// tollgate_x402::codes! {
///     /// Why a parcel was not taken.
///     pub enum ParcelCode {
///         TooHeavy = "too_heavy", 413, "Send two parcels.";
///     }
/// }
/// assert_eq!(ParcelCode::TooHeavy.to_string(), "too_heavy");
/// assert_eq!(ParcelCode::ALL[0].status(), 413);
/// ```
#[macro_export]
macro_rules! codes {
    (
        $(#[$meta:meta])* $vis:vis enum $name:ident {
            $($variant:ident = $code:literal, $status:literal, $advice:literal;)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        $vis enum $name {
            $(#[doc = concat!("`", $code, "`: ", $advice)] $variant,)*
        }

        impl $name {
            /// Every code, in the table's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The code as it goes over the wire. It does not change between versions.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The HTTP status of an answer that carries the code.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// What the caller (or for 5xx the operator) can do, in one sentence.
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice,)* }
            }

            #[cfg(test)]
            fn documented() -> String {
                let mut table = String::from("\n| code | status | what to do |\n|---|---|---|\n");
                for code in Self::ALL {
                    let (status, advice) = (code.status(), code.advice());
                    table.push_str(&format!("| `{code}` | {status} | {advice} |\n"));
                }
                table
            }
        }

        impl ::core::fmt::Display for $name {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

codes! {
    /// A stable code for what went wrong: the `error` of a 402, the `errorReason` of a settlement,
    /// the `invalidReason` of a verification. After work has begun the status is never 402.
    ///
    /// Where x402's reference implementations have a code, it is theirs; the Permit dialect, which has none
    /// of its own, uses the codes of x402 v1. The codes of others are kept as strings, since every SDK adds some:
    /// [`SettleResponse`](crate::SettleResponse).
    #[doc = include_str!("../ERRORS.md")]
    pub enum ErrorCode {
        PaymentRequired = "payment_required", 402, "Sign one of the accepted payments and send the request again with it.";
        InvalidPayload = "invalid_payload", 402, "The payment cannot be read: send base64 of one x402 payment as JSON, each key once, numbers as decimal strings.";
        InvalidX402Version = "invalid_x402_version", 402, "Send x402Version 1 or 2.";
        InvalidScheme = "invalid_scheme", 402, "The payment's scheme is not the offered one: sign an entry of accepts as it stands.";
        UnsupportedScheme = "unsupported_scheme", 402, "This scheme is not offered here: choose an entry of accepts.";
        InvalidNetwork = "invalid_network", 402, "The payment is for another network: sign for the network of an entry of accepts.";
        InvalidPaymentRequirements = "invalid_payment_requirements", 402, "The payment matches none of the offers: sign an entry of accepts of this answer.";
        UnsupportedPayloadType = "unsupported_payload_type", 402, "The entry is not paid by this kind of signature: look at its extra.primaryType and extra.assetTransferMethod.";
        PaymentExpired = "payment_expired", 402, "The signed deadline has passed or is too near: sign anew.";
        PriceChanged = "price_changed", 402, "The prices have changed since this payment was last used: look at the new offer, and send the request again if it is good.";
        AllowanceExhausted = "allowance_exhausted", 402, "What is left of the signed allowance does not cover this request: sign a new one.";
        InsufficientFunds = "insufficient_funds", 402, "The payer's balance does not cover this request with what is already open: add funds, or pay from another account.";
        AmountTooLow = "invalid_payment_amount", 402, "The signed amount is zero or below extra.minAmountRequired: sign the offered amount.";
        InvalidPermitNonce = "invalid_permit_nonce", 402, "The permit's nonce is not the token's nonces(owner): read it again and sign anew.";
        PayerIsContract = "payer_is_contract", 402, "The payer has code and cannot sign this kind of payment: pay from a plain account.";
        PayerRefused = "payer_refused", 402, "The token does not let this payer move money now (frozen, or the transfer fails in simulation): pay from another account.";
        ExtensionEchoMismatch = "extension_echo_mismatch", 402, "Send back the offer's extensions with their info unchanged.";
        InvalidPermitSignature = "invalid_exact_evm_payload_signature", 402, "The signature is not the owner's over this permit: check the EIP-712 domain (extra.name, extra.version, chain, asset) and the nonce.";
        InvalidEip3009Signature = "invalid_exact_evm_signature", 402, "The signature is not the payer's over this transfer: check the EIP-712 domain (extra.name, extra.version, chain, asset).";
        RecipientMismatch = "invalid_exact_evm_recipient_mismatch", 402, "The signed recipient or spender is not the offer's payTo: sign for payTo.";
        ValueMismatch = "invalid_exact_evm_payload_authorization_value_mismatch", 402, "An exact payment's value must be the offered amount.";
        ValidAfter = "invalid_exact_evm_payload_authorization_valid_after", 402, "The payment is not valid yet: set validAfter to 0 or wait.";
        ValidBefore = "invalid_exact_evm_payload_authorization_valid_before", 402, "The payment has expired, is about to, or is signed for more than an hour beyond maxTimeoutSeconds: sign anew with maxTimeoutSeconds from now.";
        Eip3009NonceUsed = "invalid_exact_evm_nonce_already_used", 402, "The nonce of this transfer is used up: sign anew with fresh random bytes.";
        Eip3009Balance = "invalid_exact_evm_insufficient_balance", 402, "The payer's balance does not cover the transfer: add funds.";
        Eip3009NotSupported = "invalid_exact_evm_eip3009_not_supported", 402, "This token does not take EIP-3009 transfers: pay by an entry that it supports.";
        Eip3009Simulation = "invalid_exact_evm_transaction_simulation_failed", 402, "The transfer fails when simulated on the chain: check balance, nonce and times.";
        Permit2Spender = "invalid_permit2_spender", 402, "The permit's spender must be the x402 proxy of the scheme.";
        Permit2Recipient = "invalid_permit2_recipient_mismatch", 402, "witness.to must be the offer's payTo.";
        UptoFacilitator = "upto_facilitator_mismatch", 402, "witness.facilitator must be the offer's extra.facilitatorAddress.";
        Permit2Deadline = "permit2_deadline_expired", 402, "The permit's deadline has passed, is too near, or is more than an hour beyond maxTimeoutSeconds: sign anew with maxTimeoutSeconds from now.";
        Permit2NotYetValid = "permit2_not_yet_valid", 402, "witness.validAfter lies in the future: set it to 0 or wait.";
        Permit2Amount = "permit2_amount_mismatch", 402, "The permitted amount is not the offered one.";
        Permit2Token = "permit2_token_mismatch", 402, "The permitted token is not the offer's asset.";
        Permit2Signature = "invalid_permit2_signature", 402, "The signature is not the payer's over this Permit2 permit and its witness.";
        Permit2Allowance = "permit2_allowance_required", 402, "Approve the Permit2 contract for the token once, then pay again.";
        Permit2Balance = "permit2_insufficient_balance", 402, "The payer's balance does not cover the payment: add funds.";
        Permit2NonceUsed = "permit2_invalid_nonce", 402, "The Permit2 nonce is used up or was voided: sign anew with a fresh random nonce.";
        Permit2Simulation = "permit2_simulation_failed", 402, "The settlement fails when simulated on the chain: check balance, approval and nonce.";
        Permit2ProxyMissing = "permit2_proxy_not_deployed", 402, "The x402 proxy is not on this chain: pay by another entry.";
        Eip2612ExtensionFormat = "invalid_eip2612_extension_format", 402, "extensions.eip2612GasSponsoring.info cannot be read: send all its fields as strings.";
        Eip2612From = "eip2612_from_mismatch", 402, "The sponsored permit's from must be the payer.";
        Eip2612Asset = "eip2612_asset_mismatch", 402, "The sponsored permit's asset must be the offer's asset.";
        Eip2612Spender = "eip2612_spender_not_permit2", 402, "The sponsored permit's spender must be the Permit2 contract.";
        Eip2612Deadline = "eip2612_deadline_expired", 402, "The sponsored permit has expired or is about to: sign anew.";
        SettlementExceedsAmount = "invalid_upto_evm_payload_settlement_exceeds_amount", 402, "A settlement may not be above the permitted amount: settle less.";
        InvalidTransactionState = "invalid_transaction_state", 402, "The settlement's transaction failed on the chain: sign anew.";
        SettlementPending = "settlement_pending", 402, "The settlement is sent and its outcome is not known yet: ask again with the same payment, never with a new one.";
        InvalidRequest = "invalid_request", 400, "The request's body cannot be read: send one JSON object as the documentation shows it.";
        UnknownModel = "unknown_model", 400, "This model is not sold here: see GET /v1/models for those that are.";
        MultiplePayments = "multiple_payments", 400, "Send one payment header, once: X-PAYMENT or PAYMENT-SIGNATURE.";
        PaymentIdentifierRequired = "payment_identifier_required", 400, "Send extensions[\"payment-identifier\"].info.id, 16 to 128 characters of A-Z a-z 0-9 _ and -.";
        PayerBarred = "payer_barred", 403, "The seller does not serve this payer: ask the seller, or pay from another account.";
        PaymentNotFound = "payment_not_found", 404, "No payment has this id: check all 32 digits.";
        DuplicateSettlement = "duplicate_settlement", 409, "This payment was used up, by another request or by one that ended without a charge: sign a new one for each request.";
        PaymentIdentifierConflict = "payment_identifier_conflict", 409, "This payment identifier was used for another request: choose a new one for each request.";
        AnswerGone = "answer_gone", 410, "The payment has ended and its answer is not kept, so sending it again gives nothing: GET /x402/v1/payments/{id} has its receipt; pay anew for a new answer.";
        RequestTooLarge = "request_too_large", 413, "The request's body is over the limit: send less.";
        PaymentInFlight = "payment_in_flight", 425, "The same payment is being served at this moment: ask again after Retry-After.";
        CreditExhausted = "credit_exhausted", 429, "What is lent to you, or to all, is used up: keep the payment and ask again after Retry-After. Where this request alone is above it, send a shorter one.";
        RateLimited = "rate_limited", 429, "Too many requests: keep the payment and ask again after Retry-After.";
        PaymentHeaderTooLarge = "payment_header_too_large", 431, "The payment header is over 16 KiB: send only the payment in it.";
        InternalError = "internal_error", 500, "The server failed; nothing was charged that was not delivered.";
        UnexpectedVerifyError = "unexpected_verify_error", 500, "The payment could not be verified for a reason of the server's; nothing was charged.";
        UnexpectedSettleError = "unexpected_settle_error", 500, "The settlement failed for a reason of the server's; ask for the payment's state before paying again.";
        UpstreamFailed = "upstream_failed", 502, "The model server failed before its first token; nothing was charged: send the request again, with a new signature where one is good for one request only.";
        LedgerUnavailable = "ledger_unavailable", 503, "The ledger cannot be written; nothing was served or charged: ask again after Retry-After.";
        ChargeUndecided = "charge_undecided", 503, "The answer is made and held back until its charge is written: send the very same request with the same payment again after Retry-After for the answer; GET /x402/v1/payments/{id} has the payment's state.";
        ChainUnavailable = "chain_unavailable", 503, "The chain cannot be read; nothing was served or charged: ask again after Retry-After.";
        Draining = "draining", 503, "The server is shutting down; nothing was served or charged: ask again after Retry-After.";
        UpstreamTimeout = "upstream_timeout", 504, "The model server gave no first token in time; nothing was charged: send the request again, with a new signature where one is good for one request only.";
    }
}

/// A string that is none of our codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is none of the codes that tollgate emits")]
pub struct UnknownErrorCode;

impl FromStr for ErrorCode {
    type Err = UnknownErrorCode;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.as_str() == s)
            .ok_or(UnknownErrorCode)
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::ErrorCode;

    #[test]
    fn the_documented_table_is_the_code() {
        assert_eq!(
            include_str!("../ERRORS.md"),
            ErrorCode::documented(),
            "ERRORS.md must be:\n{}",
            ErrorCode::documented()
        );
    }

    #[test]
    fn codes_are_unique_and_read_back() {
        for code in ErrorCode::ALL {
            assert_eq!(code.as_str().parse(), Ok(*code));
            assert!((400..=599).contains(&code.status()));
            assert!(code.advice().ends_with('.') && code.advice().is_ascii());
        }
    }
}
