//! Receipts held against what was signed, quoted and priced.

use core::fmt;

use tollgate_price::PriceTable;
use tollgate_x402::{Address, Amount, Network, PaymentState, PaymentStatus};

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
    /// A receipt header that cannot be read, and why.
    Unreadable(Box<str>),
    /// A charge for a payment that is said to be released.
    ReleasedWithCharge {
        /// The charge.
        charge: Priced,
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
