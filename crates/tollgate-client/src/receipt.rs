//! What a seller says it charged.

use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, HeaderName};
use tollgate_x402::{
    Address, Amount, B256, Limits, Network, PaymentId, ReadError, SettleResponse, header,
};

use crate::Finding;

/// Carries the payment's id on every paid answer of a tollgate gateway.
const PAYMENT_ID: HeaderName = HeaderName::from_static("x-payment-id");

/// What a seller says it charged for one answer. Nothing of it is proven: [`audit`](crate::audit) holds it against
/// what was signed and quoted, and the chain tells the rest.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Receipt {
    /// What is charged, in atomic units.
    pub charge: Option<Amount>,
    /// What the usage comes to, before the reservation caps it, in atomic units.
    pub calculated: Option<Amount>,
    /// What is left of the allowance, in atomic units.
    pub allowance_left: Option<Amount>,
    /// Tokens in and out.
    pub total_tokens: Option<u64>,
    /// The payment's id, to ask `GET /x402/v1/payments/{id}` with.
    pub payment_id: Option<PaymentId>,
    /// The transaction that moved the money, if it was waited for.
    pub transaction: Option<B256>,
    /// Whether the settlement succeeded, if the seller says.
    pub success: Option<bool>,
    /// Why it did not.
    pub failure: Option<String>,
    /// Who paid.
    pub payer: Option<Address>,
    /// Where.
    pub network: Option<Network>,
}

/// A receipt header that cannot be read. The seller is to blame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the receipt header {header} cannot be read: {source}")]
pub struct ReceiptError {
    /// The header's name.
    pub header: &'static str,
    /// What is wrong with it.
    pub source: ReadError,
}

impl Receipt {
    /// The receipt of an answer's headers: `PAYMENT-RESPONSE`, else `X-PAYMENT-RESPONSE`, with `X-PAYMENT-ID`.
    ///
    /// # Errors
    /// [`ReceiptError`] if the header is there and cannot be read.
    pub fn from_headers(
        headers: &HeaderMap,
        limits: &Limits,
    ) -> Result<Option<Self>, ReceiptError> {
        let id = headers
            .get(PAYMENT_ID)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let found = [header::PAYMENT_RESPONSE, header::X_PAYMENT_RESPONSE]
            .into_iter()
            .find_map(|name| Some((name, headers.get(name)?)));
        let Some((name, value)) = found else {
            return Ok(id.map(|id| Self {
                payment_id: Some(id),
                ..Self::default()
            }));
        };
        let response =
            SettleResponse::parse_header(value.as_bytes(), limits).map_err(|source| {
                ReceiptError {
                    header: name,
                    source,
                }
            })?;
        let told = response
            .extra
            .value("paymentId")
            .and_then(|id| id.as_str()?.parse().ok());
        Ok(Some(Self {
            charge: response.amount,
            payment_id: told.or(id),
            transaction: response.transaction,
            success: Some(response.success),
            failure: response.error_reason,
            payer: response.payer,
            network: Some(response.network),
            ..Self::default()
        }))
    }

    /// What this one says, and where it says nothing what the other does.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            charge: self.charge.or(other.charge),
            calculated: self.calculated.or(other.calculated),
            allowance_left: self.allowance_left.or(other.allowance_left),
            total_tokens: self.total_tokens.or(other.total_tokens),
            payment_id: self.payment_id.or(other.payment_id),
            transaction: self.transaction.or(other.transaction),
            success: self.success.or(other.success),
            failure: self.failure.or(other.failure),
            payer: self.payer.or(other.payer),
            network: self.network.or(other.network),
        }
    }

    /// Whether it says nothing at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Where the receipt of an answer will be: an extension of the response, filled when the body has ended.
#[derive(Clone, Debug, Default)]
pub struct ReceiptHandle(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    receipt: Option<Receipt>,
    findings: Vec<Finding>,
    ended: bool,
    cut: bool,
}

impl ReceiptHandle {
    /// The receipt. What the headers say is there at once; what the end of the stream says, when the body has ended.
    pub fn receipt(&self) -> Option<Receipt> {
        self.told().receipt.clone()
    }

    /// What is wrong with the receipt, by what this client knows without asking anybody.
    pub fn findings(&self) -> Vec<Finding> {
        self.told().findings.clone()
    }

    /// Whether the answer has ended.
    pub fn has_ended(&self) -> bool {
        self.told().ended
    }

    /// Whether the answer ended before its end: with an error, or as if it were over though its format (a UI message
    /// stream, a stream of completion chunks, a JSON text) says that more was to come. The payment stays known then: where
    /// it is bound to its request, the same request sends it again.
    pub fn broke_off(&self) -> bool {
        self.told().cut
    }

    pub(crate) fn break_off(&self) {
        self.told().cut = true;
    }

    pub(crate) fn tell(&self, receipt: Option<Receipt>, findings: Vec<Finding>, ended: bool) {
        *self.told() = Told {
            receipt,
            findings,
            ended,
            cut: false,
        };
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
