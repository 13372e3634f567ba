//! Receipts held against what was signed, quoted and priced.

use core::fmt;

use tollgate_eip712::{PaymentKind, RecoverError, TokenCounts};
use tollgate_price::PriceTable;
use tollgate_x402::{
    Address, Amount, B256, Network, PaymentId, PaymentState, PaymentStatus, Timestamp, TokenUsage,
};

use crate::{Dollars, Paid, Priced, Receipt};

/// Something that a seller says of a payment and that cannot be right.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Finding {
    /// Charged above the signed maximum. No contract moves that much by this signature alone.
    OverSigned {
        /// The charge.
        charge: Priced,
        /// What was signed.
        signed: Priced,
    },
    /// Charged above this client's limit.
    OverLimit {
        /// The charge.
        charge: Priced,
        /// The limit.
        limit: Dollars,
    },
    /// Charged above the worst case that the seller's own offer for this request named.
    OverQuoted {
        /// The charge.
        charge: Priced,
        /// What was quoted.
        quoted: Priced,
    },
    /// Charged above what the seller says it held for the request.
    OverReserved {
        /// The charge.
        charge: Priced,
        /// What was reserved.
        reserved: Priced,
    },
    /// Charged above what the known prices make of the usage that the seller reports.
    OverPriced {
        /// The charge.
        charge: Priced,
        /// What the prices come to.
        computed: Priced,
    },
    /// The receipt at the end of the answer and the payment's status name different charges.
    Inconsistent {
        /// By the receipt.
        receipt: Priced,
        /// By the status.
        status: Priced,
    },
    /// Another payer than who signed.
    Payer {
        /// Who is named.
        named: Address,
        /// Who signed.
        signed: Address,
    },
    /// Another payee than who was signed for.
    Payee {
        /// Who is named.
        named: Address,
        /// Who was signed for.
        signed: Address,
    },
    /// Another token.
    Token {
        /// Which is named.
        named: Address,
        /// Which was signed for.
        signed: Address,
    },
    /// Another chain.
    Network {
        /// Which is named.
        named: Network,
        /// Which was signed for.
        signed: Network,
    },
    /// An interval of the payer's counter that is not as wide as the charge.
    Interval,
    /// A receipt header or a signed receipt that cannot be read, and why.
    Unreadable(Box<str>),
    /// A charge for a payment that is said to be released.
    ReleasedWithCharge {
        /// The charge.
        charge: Priced,
    },
    /// The signed receipt bears a signature that no key can have made.
    Signature(RecoverError),
    /// The signed receipt is signed by somebody who does not settle for the payee, or it was changed since.
    Signer {
        /// Who signed, if it was not changed.
        signer: Address,
        /// Who is paid.
        pay_to: Address,
    },
    /// The signed receipt is of another authorization.
    Authorization {
        /// The digest that it names.
        named: B256,
        /// The digest of what was signed.
        signed: B256,
    },
    /// The signed receipt names another kind of payment.
    Kind {
        /// Which it names.
        named: PaymentKind,
        /// Which was signed.
        signed: PaymentKind,
    },
    /// The signed receipt is of another payment.
    Payment {
        /// The payment that was asked for.
        asked: PaymentId,
    },
    /// The signed receipt and the payment's status name different charges.
    Attested {
        /// By the receipt, in atomic units.
        receipt: Amount,
        /// By the status, in atomic units; nothing if it tells of none.
        status: Option<Amount>,
    },
    /// The signed receipt and the payment's status name different models.
    Model {
        /// By the receipt.
        receipt: Box<str>,
        /// By the status; empty if it names none.
        status: Box<str>,
    },
    /// The signed receipt and the payment's status count different tokens.
    Tokens {
        /// By the receipt.
        receipt: TokenCounts,
        /// By the status; none if it tells of none.
        status: TokenUsage,
    },
    /// The signed receipt and the payment's status name different parts of the payer's counter.
    Counter,
    /// The signed receipt was made before the payment.
    IssuedAt {
        /// When it was made, as it says.
        issued: Timestamp,
        /// When the payment was accepted.
        accepted: Timestamp,
    },
}

impl Finding {
    /// Whether the seller took, or says it took, more than it was allowed to: it is not paid any more.
    pub const fn blocks(&self) -> bool {
        matches!(self, Self::OverSigned { .. } | Self::OverLimit { .. })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OverSigned { charge, signed } => {
                write!(f, "charged {charge}, above the {signed} that was signed")
            }
            Self::OverLimit { charge, limit } => {
                write!(f, "charged {charge}, above the limit of {limit} a request")
            }
            Self::OverQuoted { charge, quoted } => write!(
                f,
                "charged {charge}, above the {quoted} that the offer named for this request"
            ),
            Self::OverReserved { charge, reserved } => {
                write!(
                    f,
                    "charged {charge}, above the {reserved} that was held for it"
                )
            }
            Self::OverPriced { charge, computed } => write!(
                f,
                "charged {charge}, above the {computed} that the prices make of the reported usage"
            ),
            Self::Inconsistent { receipt, status } => write!(
                f,
                "the answer's end says {receipt} was charged, the payment's status says {status}"
            ),
            Self::Payer { named, signed } => {
                write!(f, "the receipt names the payer {named}, not {signed}")
            }
            Self::Payee { named, signed } => {
                write!(f, "the receipt names the payee {named}, not {signed}")
            }
            Self::Token { named, signed } => {
                write!(f, "the receipt names the token {named}, not {signed}")
            }
            Self::Network { named, signed } => {
                write!(f, "the receipt names the network {named}, not {signed}")
            }
            Self::Unreadable(why) => f.write_str(why),
            Self::Interval => f.write_str(
                "the interval of the counter that the payment owns is not as wide as the charge",
            ),
            Self::ReleasedWithCharge { charge } => {
                write!(
                    f,
                    "the payment is said to be released, and charged {charge}"
                )
            }
            Self::Signature(error) => write!(f, "the signed receipt is not signed: {error}"),
            Self::Signer { signer, pay_to } => write!(
                f,
                "the signed receipt is signed by {signer}, who does not settle for {pay_to}, or it was changed"
            ),
            Self::Authorization { named, signed } => write!(
                f,
                "the signed receipt is of the authorization {named}, not of {signed}"
            ),
            Self::Kind { named, signed } => {
                let (named, signed) = (named.as_str(), signed.as_str());
                write!(
                    f,
                    "the signed receipt is of a payment of the kind {named}, not {signed}"
                )
            }
            Self::Payment { asked } => {
                write!(f, "the signed receipt is of another payment than {asked}")
            }
            Self::Attested { receipt, status } => {
                let told = status.map_or_else(|| "none".to_owned(), |told| told.to_string());
                write!(
                    f,
                    "the signed receipt says {receipt} atomic units were charged, the payment's status says {told}"
                )
            }
            Self::Model { receipt, status } => write!(
                f,
                "the signed receipt names the model {receipt:?}, the payment's status {status:?}"
            ),
            Self::Tokens { receipt, status } => write!(
                f,
                "the signed receipt counts {} and {} tokens in and out, the payment's status {} and {}",
                receipt.input, receipt.output, status.input_tokens, status.output_tokens
            ),
            Self::Counter => f.write_str(
                "the signed receipt and the payment's status name different parts of the counter",
            ),
            Self::IssuedAt { issued, accepted } => write!(
                f,
                "the signed receipt was made at {}, before the payment was accepted at {}",
                issued.0, accepted.0
            ),
        }
    }
}

/// What is wrong with a receipt, held against what was signed and quoted, against the payment's status where that was
/// fetched, and against known prices where there are some. Nothing found is not a proof that the money moved so: that
/// is the chain's to tell.
pub fn audit(
    paid: &Paid,
    receipt: &Receipt,
    status: Option<&PaymentStatus>,
    prices: Option<&PriceTable>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let told = status.and_then(|status| status.charge);
    // The higher of two charges is held against the bounds: saying less elsewhere does not help.
    if let Some(charge) = receipt.charge.max(told) {
        amounts(paid, charge, &mut findings);
    }
    if let (Some(receipt), Some(status)) = (receipt.charge, told)
        && receipt != status
    {
        findings.push(Finding::Inconsistent {
            receipt: paid.priced(receipt),
            status: paid.priced(status),
        });
    }
    if let Some(named) = receipt.payer {
        payer(paid, named, &mut findings);
    }
    if let Some(network) = &receipt.network {
        on_network(paid, network, &mut findings);
    }
    if let Some(status) = status {
        whole(paid, status, &mut findings);
        if let Some(prices) = prices {
            priced(paid, status, prices, &mut findings);
        }
    }
    findings
}

fn amounts(paid: &Paid, charge: Amount, findings: &mut Vec<Finding>) {
    if charge > paid.authorized.amount {
        findings.push(Finding::OverSigned {
            charge: paid.priced(charge),
            signed: paid.authorized.clone(),
        });
    }
    if let Some(limit) = paid.max_charge
        && paid.dollars(charge) > limit
    {
        findings.push(Finding::OverLimit {
            charge: paid.priced(charge),
            limit,
        });
    }
    if let Some(quoted) = paid.quoted.filter(|quoted| charge > *quoted) {
        findings.push(Finding::OverQuoted {
            charge: paid.priced(charge),
            quoted: paid.priced(quoted),
        });
    }
}

fn payer(paid: &Paid, named: Address, findings: &mut Vec<Finding>) {
    if named != paid.payer {
        findings.push(Finding::Payer {
            named,
            signed: paid.payer,
        });
    }
}

fn on_network(paid: &Paid, named: &Network, findings: &mut Vec<Finding>) {
    let signed = Network::from(paid.chain);
    if *named != signed {
        findings.push(Finding::Network {
            named: named.clone(),
            signed,
        });
    }
}

fn whole(paid: &Paid, status: &PaymentStatus, findings: &mut Vec<Finding>) {
    payer(paid, status.payer, findings);
    on_network(paid, &status.network, findings);
    if status.token != paid.token {
        findings.push(Finding::Token {
            named: status.token,
            signed: paid.token,
        });
    }
    if status.pay_to != paid.pay_to {
        findings.push(Finding::Payee {
            named: status.pay_to,
            signed: paid.pay_to,
        });
    }
    let Some(charge) = status.charge else { return };
    if charge > status.amounts.reserved {
        findings.push(Finding::OverReserved {
            charge: paid.priced(charge),
            reserved: paid.priced(status.amounts.reserved),
        });
    }
    if let Some(interval) = status.interval
        && interval.to.checked_sub(interval.from) != Some(charge)
    {
        findings.push(Finding::Interval);
    }
    if status.state == PaymentState::Released && !charge.is_zero() {
        findings.push(Finding::ReleasedWithCharge {
            charge: paid.priced(charge),
        });
    }
}

fn priced(paid: &Paid, status: &PaymentStatus, prices: &PriceTable, findings: &mut Vec<Finding>) {
    let (Some(charge), Some(model), Some(usage)) = (status.charge, &status.model, status.usage)
    else {
        return;
    };
    let Some(listing) = prices.lookup(model) else {
        return;
    };
    let computed = listing.rates.cost(usage.into());
    if charge > computed {
        findings.push(Finding::OverPriced {
            charge: paid.priced(charge),
            computed: paid.priced(computed),
        });
    }
}
