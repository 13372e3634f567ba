//! What was signed, as it goes over the wire, before it is known against which offer.

use alloy_primitives::{Address, B256, U256, hex};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Value, json};

use crate::{
    Amount, Authorization, Exact, FieldError, Signature65, Timestamp,
    field::{self, FieldProblem, Fields},
};

/// The scheme's part of a payment (`payload`): what was signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SchemePayload {
    /// `payload.authorization`: an EIP-3009 transfer or, in thirdweb's dialect, an ERC-2612 permit in the same shape.
    /// Only the seller's own offer tells which.
    Authorization(SignedAuthorization),
    /// `payload.permit2Authorization`: Permit2 with a witness.
    Permit2(SignedPermit2),
}

/// Which kind of signature a payment carries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PayloadKind {
    /// `payload.authorization`.
    Authorization,
    /// `payload.permit2Authorization` whose witness names a facilitator: the upto proxy's.
    Permit2Upto,
    /// `payload.permit2Authorization` without one: the exact proxy's.
    Permit2Exact,
}

/// The shape of EIP-3009 (x402 exact on EVM), which thirdweb's clients also use for an ERC-2612 permit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedAuthorization {
    /// Whose money it is.
    pub from: Address,
    /// The recipient; of a permit, the spender.
    pub to: Address,
    /// The value, in atomic units.
    pub value: Amount,
    /// The second after which it is valid. A permit does not sign it.
    pub valid_after: Timestamp,
    /// The second before which it is valid; of a permit, its deadline.
    pub valid_before: Timestamp,
    /// 32 random bytes; of a permit, the token's nonce as 32 bytes.
    pub nonce: B256,
    /// The signature.
    pub signature: Signature65,
}

/// Permit2's `PermitWitnessTransferFrom` with x402's witness.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedPermit2 {
    /// Whose money it is.
    pub from: Address,
    /// `permitted.token`.
    pub token: Address,
    /// `permitted.amount`, in atomic units.
    pub amount: Amount,
    /// The proxy.
    pub spender: Address,
    /// Permit2's unordered nonce.
    pub nonce: U256,
    /// The last second in which it can be settled.
    pub deadline: Timestamp,
    /// `witness.to`.
    pub to: Address,
    /// `witness.facilitator`, which only the upto proxy's witness has.
    pub facilitator: Option<Address>,
    /// `witness.validAfter`.
    pub valid_after: Timestamp,
    /// The signature.
    pub signature: Signature65,
}

impl SchemePayload {
    /// Which kind it is.
    pub const fn kind(&self) -> PayloadKind {
        match self {
            Self::Authorization(_) => PayloadKind::Authorization,
            Self::Permit2(SignedPermit2 {
                facilitator: Some(_),
                ..
            }) => PayloadKind::Permit2Upto,
            Self::Permit2(SignedPermit2 {
                facilitator: None, ..
            }) => PayloadKind::Permit2Exact,
        }
    }

    /// Whose money it is, and who is said to have signed.
    pub const fn payer(&self) -> Address {
        match self {
            Self::Authorization(signed) => signed.from,
            Self::Permit2(signed) => signed.from,
        }
    }

    /// The signed amount, in atomic units.
    pub const fn amount(&self) -> Amount {
        match self {
            Self::Authorization(signed) => signed.value,
            Self::Permit2(signed) => signed.amount,
        }
    }

    /// The payload of its JSON; nothing if it is of a kind that this crate does not know.
    pub(crate) fn read(payload: Fields<'_>) -> Result<Option<Self>, FieldError> {
        let authorization = payload.object("authorization", "payload.authorization")?;
        let permit2 = payload.object("permit2Authorization", "payload.permit2Authorization")?;
        match (authorization, permit2) {
            (Some(_), Some(_)) => {
                Err(payload.error("permit2Authorization", FieldProblem::Conflict))
            }
            (Some(fields), None) => SignedAuthorization::read(payload, fields)
                .map(Self::Authorization)
                .map(Some),
            (None, Some(fields)) => SignedPermit2::read(payload, fields)
                .map(Self::Permit2)
                .map(Some),
            (None, None) => Ok(None),
        }
    }
}

impl SignedAuthorization {
    fn read(payload: Fields<'_>, fields: Fields<'_>) -> Result<Self, FieldError> {
        Ok(Self {
            from: fields.required("from", field::address)?,
            to: fields.required("to", field::address)?,
            value: fields.required("value", field::amount)?,
            valid_after: fields
                .optional("validAfter", field::time)?
                .unwrap_or_default(),
            valid_before: fields.required("validBefore", field::time)?,
            nonce: fields.required("nonce", field::bytes32)?,
            signature: payload.required("signature", field::signature)?,
        })
    }
}

impl SignedPermit2 {
    fn read(payload: Fields<'_>, fields: Fields<'_>) -> Result<Self, FieldError> {
        let permitted =
            fields.required_object("permitted", "payload.permit2Authorization.permitted")?;
        let witness = fields.required_object("witness", "payload.permit2Authorization.witness")?;
        let facilitator = witness.optional("facilitator", field::address)?;
        // Only the upto scheme's specification shows a hexadecimal nonce.
        let nonce = if facilitator.is_some() {
            field::nonce_or_hex
        } else {
            field::nonce
        };
        Ok(Self {
            from: fields.required("from", field::address)?,
            token: permitted.required("token", field::address)?,
            amount: permitted.required("amount", field::amount)?,
            spender: fields.required("spender", field::address)?,
            nonce: fields.required("nonce", nonce)?,
            deadline: fields.required("deadline", field::time)?,
            to: witness.required("to", field::address)?,
            facilitator,
            valid_after: witness.required("validAfter", field::time)?,
            signature: payload.required("signature", field::signature_or_compact)?,
        })
    }
}

impl From<&Authorization> for SchemePayload {
    fn from(authorization: &Authorization) -> Self {
        match authorization {
            Authorization::Allowance(a) => Self::Authorization(SignedAuthorization {
                from: a.owner,
                to: a.spender,
                value: a.value,
                valid_after: Timestamp(0),
                valid_before: a.deadline,
                nonce: B256::from(a.nonce.to_be_bytes()),
                signature: a.signature,
            }),
            Authorization::Once(a) => Self::Permit2(SignedPermit2 {
                from: a.owner,
                token: a.token,
                amount: a.amount,
                spender: a.spender,
                nonce: a.nonce,
                deadline: a.deadline,
                to: a.to,
                facilitator: Some(a.facilitator),
                valid_after: a.valid_after,
                signature: a.signature,
            }),
            Authorization::Exact(Exact::Eip3009(a)) => Self::Authorization(SignedAuthorization {
                from: a.owner,
                to: a.to,
                value: a.value,
                valid_after: a.valid_after,
                valid_before: a.valid_before,
                nonce: a.nonce,
                signature: a.signature,
            }),
            Authorization::Exact(Exact::Permit2(a)) => Self::Permit2(SignedPermit2 {
                from: a.owner,
                token: a.token,
                amount: a.amount,
                spender: a.spender,
                nonce: a.nonce,
                deadline: a.deadline,
                to: a.to,
                facilitator: None,
                valid_after: a.valid_after,
                signature: a.signature,
            }),
        }
    }
}

impl Serialize for SchemePayload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        match self {
            Self::Authorization(it) => {
                map.serialize_entry("signature", &hex::encode_prefixed(it.signature.to_bytes()))?;
                map.serialize_entry(
                    "authorization",
                    &json!({
                        "from": it.from.to_string(),
                        "to": it.to.to_string(),
                        "value": it.value.to_string(),
                        "validAfter": it.valid_after.to_string(),
                        "validBefore": it.valid_before.to_string(),
                        "nonce": it.nonce.to_string(),
                    }),
                )?;
            }
            Self::Permit2(it) => {
                let mut witness =
                    json!({ "to": it.to.to_string(), "validAfter": it.valid_after.to_string() });
                if let (Some(facilitator), Some(witness)) =
                    (it.facilitator, witness.as_object_mut())
                {
                    witness.insert("facilitator".into(), Value::String(facilitator.to_string()));
                }
                map.serialize_entry("signature", &hex::encode_prefixed(it.signature.to_bytes()))?;
                map.serialize_entry("permit2Authorization", &json!({
                    "from": it.from.to_string(),
                    "permitted": { "token": it.token.to_string(), "amount": it.amount.to_string() },
                    "spender": it.spender.to_string(),
                    "nonce": it.nonce.to_string(),
                    "deadline": it.deadline.to_string(),
                    "witness": witness,
                }))?;
            }
        }
        map.end()
    }
}
