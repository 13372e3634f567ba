//! The signed receipt of a payment, held against what was signed for it.

use serde::Deserialize;
use tollgate_eip712::{PaymentKind, Signed, UsageReceipt};
use tollgate_x402::{Authorization, B256, Limits, PaymentStatus, ReadError};

use crate::Finding;

/// A receipt with the signature of the account that settles.
pub type SignedReceipt = Signed<UsageReceipt>;

/// What a seller tells of a payment.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct PaymentTold {
    /// Its state.
    pub status: PaymentStatus,
    /// What the seller signed of it, or why that cannot be read. Nothing while nothing is charged, where nothing is any
    /// more, and from a seller who signs no receipts: one that has its payments settled by somebody else does not.
    pub receipt: Option<Result<SignedReceipt, Box<str>>>,
}

impl PaymentTold {
    /// What a body of `GET /x402/v1/payments/{id}` tells. A receipt that cannot be read takes nothing from the state.
    ///
    /// # Errors
    /// [`ReadError`] if it is no state of a payment.
    pub fn parse_body(body: &[u8], limits: &Limits) -> Result<Self, ReadError> {
        #[derive(Deserialize)]
        struct Beside {
            #[serde(default)]
            receipt: Option<serde_json::Value>,
        }
        let status = PaymentStatus::parse_body(body, limits)?;
        let receipt = match serde_json::from_slice(body) {
            Ok(Beside { receipt: None }) => None,
            Ok(Beside {
                receipt: Some(receipt),
            }) => Some(serde_json::from_value(receipt)),
            Err(error) => Some(Err(error)),
        };
        let unread = |error| format!("the payment's signed receipt cannot be read: {error}").into();
        Ok(Self {
            status,
            receipt: receipt.map(|receipt| receipt.map_err(unread)),
        })
    }

    /// The receipt, if there is one that can be read.
    pub fn signed(&self) -> Option<&SignedReceipt> {
        self.receipt.as_ref()?.as_ref().ok()
    }
}

/// What is wrong with the signed receipt that a seller tells of a payment beside its state, held against the
/// authorization that paid and its EIP-712 digest ([`Paid::digest`](crate::Paid::digest)), and against that state. Nothing is
/// found where there is no receipt.
///
/// Who signed is the chain's to tell (`verify_signer`, by the feature `chain`), and so is what moved (`verify_on_chain`).
/// [`audit`](crate::audit()) holds the state itself against what was signed.
pub fn audit_receipt(
    authorization: &Authorization,
    digest: B256,
    told: &PaymentTold,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let signed = match &told.receipt {
        None => return findings,
        Some(Err(why)) => return vec![Finding::Unreadable(why.clone())],
        Some(Ok(signed)) => signed,
    };
    let said = &signed.payload;
    if said.chain != authorization.chain() {
        findings.push(Finding::Network {
            named: said.chain.into(),
            signed: authorization.chain().into(),
        });
    }
    if said.pay_to != authorization.payee() {
        findings.push(Finding::Payee {
            named: said.pay_to,
            signed: authorization.payee(),
        });
    }
    if said.payer != authorization.owner() {
        findings.push(Finding::Payer {
            named: said.payer,
            signed: authorization.owner(),
        });
    }
    if said.token != authorization.token() {
        findings.push(Finding::Token {
            named: said.token,
            signed: authorization.token(),
        });
    }
    if said.authorization != digest {
        findings.push(Finding::Authorization {
            named: said.authorization,
            signed: digest,
        });
    }
    if said.kind != PaymentKind::from(authorization) {
        findings.push(Finding::Kind {
            named: said.kind,
            signed: authorization.into(),
        });
    }
    against_status(signed, &told.status, &mut findings);
    findings
}

/// What two statements of one seller must agree on.
fn against_status(signed: &SignedReceipt, status: &PaymentStatus, findings: &mut Vec<Finding>) {
    let said = &signed.payload;
    if said.payment != UsageReceipt::payment_digest(status.id) {
        findings.push(Finding::Payment { asked: status.id });
    }
    if status.charge != Some(said.amount) {
        findings.push(Finding::Attested {
            receipt: said.amount,
            status: status.charge,
        });
    }
    let model = status.model.as_deref().unwrap_or_default();
    if said.model != model {
        findings.push(Finding::Model {
            receipt: said.model.as_str().into(),
            status: model.into(),
        });
    }
    let usage = status.usage.unwrap_or_default();
    if (said.tokens.input, said.tokens.output) != (usage.input_tokens, usage.output_tokens) {
        findings.push(Finding::Tokens {
            receipt: said.tokens,
            status: usage,
        });
    }
    if !said.counter_holds_amount() {
        findings.push(Finding::Interval);
    }
    let signer = signed.signer();
    let interval = status.interval.map(|interval| (interval.from, interval.to));
    let counted = match said.counter {
        Some(counter) => interval == Some((counter.from, counter.to)),
        // A plain account has no counter on the chain, and signs for itself.
        None => interval.is_none() || signer == Ok(said.pay_to),
    };
    if !counted {
        findings.push(Finding::Counter);
    }
    if said.issued_at < status.accepted_at {
        findings.push(Finding::IssuedAt {
            issued: said.issued_at,
            accepted: status.accepted_at,
        });
    }
    if let Err(error) = signer {
        findings.push(Finding::Signature(error));
    }
}
