//! Who settles, and who is paid: an account of ours, or a facilitator somewhere else.

use std::collections::BTreeMap;

use tollgate_eip712::LocalWallet;
use tollgate_facilitator::ClientConfig;
use tollgate_x402::Address;
use toml::Spanned;

use super::{Secret, address};
use crate::config::{ConfigError, SellerSection, Source};

/// Who settles.
#[derive(Debug)]
pub(crate) enum Settling {
    /// An account of ours.
    Own(OwnPlan),
    /// A facilitator somewhere else, and the key that it knows us by.
    Remote(RemotePlan, Option<Secret>),
}

/// An account that settles.
#[derive(Debug)]
pub(crate) struct OwnPlan {
    pub(crate) operator: LocalWallet,
    /// The `Settler` that is paid, or nothing: the operator's account is.
    pub(crate) settler: Option<Address>,
    /// Without a `Settler`: where the operator sends what it draws.
    pub(crate) treasury: Option<Address>,
}

/// A facilitator that settles.
#[derive(Clone, Debug)]
pub(crate) struct RemotePlan {
    pub(crate) url: String,
    /// Who is paid.
    pub(crate) pay_to: Address,
    /// The account with which it settles, if it is held to one.
    pub(crate) account: Option<Address>,
}

impl Settling {
    /// That of a configuration.
    ///
    /// # Errors
    /// The first value that cannot be.
    pub(super) fn of(
        section: &Spanned<SellerSection>,
        source: &Source,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let seller = section.get_ref();
        if let Some(plan) = remote(seller, source)? {
            let key = seller.facilitator.as_ref().and_then(|it| it.key.as_ref());
            let key = match key {
                None => None,
                Some(value) => {
                    let key = source.secret("seller.facilitator.key", value, environment)?;
                    // Held against what a header carries, before anything is opened.
                    ClientConfig::new(&plan.url)
                        .and_then(|client| client.with_key(&key))
                        .map_err(|error| source.at("seller.facilitator.key", value, error))?;
                    Some(Secret(key))
                }
            };
            return Ok(Self::Remote(plan, key));
        }
        let Some(operator_key) = &seller.operator_key else {
            let message = "name the account that settles, as \"$NAME\" of an environment variable; or a facilitator by [seller.facilitator]";
            return Err(source.at("seller.operator_key", section, message));
        };
        let operator = source.secret("seller.operator_key", operator_key, environment)?;
        let operator = LocalWallet::from_hex(&operator)
            .map_err(|error| source.at("seller.operator_key", operator_key, error))?;
        let settler = address(source, "seller.settler", &seller.settler)?;
        let treasury = address(source, "seller.treasury", &seller.treasury)?;
        if let (Some(_), Some(treasury)) = (settler, &seller.treasury) {
            let message = "a Settler's treasury is fixed in the contract; leave this key out";
            return Err(source.at("seller.treasury", treasury, message));
        }
        Ok(Self::Own(OwnPlan {
            operator,
            settler,
            treasury,
        }))
    }
}

/// The facilitator of a configuration, if there is one. Its key is not needed to know of it.
pub(crate) fn remote(
    seller: &SellerSection,
    source: &Source,
) -> Result<Option<RemotePlan>, ConfigError> {
    let Some(section) = &seller.facilitator else {
        return Ok(None);
    };
    let others = [
        ("seller.operator_key", &seller.operator_key),
        ("seller.settler", &seller.settler),
        ("seller.treasury", &seller.treasury),
    ];
    for (key, value) in others {
        if let Some(value) = value {
            let message = "with [seller.facilitator] it settles, to seller.facilitator.pay_to; leave this key out";
            return Err(source.at(key, value, message));
        }
    }
    let url = section.url.get_ref();
    ClientConfig::new(url)
        .map_err(|error| source.at("seller.facilitator.url", &section.url, error))?;
    let pay_to = crate::ops::parse_address(section.pay_to.get_ref())
        .map_err(|message| source.at("seller.facilitator.pay_to", &section.pay_to, message))?;
    Ok(Some(RemotePlan {
        url: url.clone(),
        pay_to,
        account: address(source, "seller.facilitator.account", &section.account)?,
    }))
}
