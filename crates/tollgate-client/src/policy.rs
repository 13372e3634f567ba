//! What the client may pay: limits that are on unless they are taken off by name.

use std::collections::BTreeMap;

use tollgate_x402::{Address, AuthorizationKind, ChainId, Limits};

use crate::{Asset, Dollars, Origin, Refusal, origin::host_name};

/// What the client may pay, to whom, and how much.
///
/// The defaults: BNB Smart Chain, and the development chain with development keys; the dollars of [`Asset::known`];
/// any host over https, and loopback; at most $0.10 charged and $1.00 authorized per request; validity of at most a
/// day.
///
/// **Two limits.** What a request is *charged* is settled by the seller, within what was *authorized*. An allowance
/// serves many requests, so more is authorized than one request costs: the first limit is held against the most that
/// the seller says this request can cost (`extra.minAmountRequired`, else the offered amount), before anything is
/// signed, and against the receipt afterwards. The second is what a seller who lies about the first can take.
#[derive(Clone, Debug)]
pub struct Policy {
    pub(crate) networks: Vec<ChainId>,
    pub(crate) assets: Vec<Asset>,
    pub(crate) hosts: Option<Vec<String>>,
    pub(crate) plain_hosts: Vec<String>,
    pub(crate) payees: BTreeMap<String, Vec<Address>>,
    pub(crate) payee_may_change: bool,
    pub(crate) max_charge: Option<Dollars>,
    pub(crate) max_authorization: Option<Dollars>,
    pub(crate) max_validity: u64,
    pub(crate) single_use_validity: u64,
    pub(crate) reuse_margin: u64,
    pub(crate) kinds: Vec<AuthorizationKind>,
    pub(crate) right_size: bool,
    pub(crate) retries: u32,
    pub(crate) patience: u64,
    pub(crate) limits: Limits,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            networks: vec![ChainId::BSC, ChainId::DEV],
            assets: Asset::known(),
            hosts: None,
            plain_hosts: Vec::new(),
            payees: BTreeMap::new(),
            payee_may_change: false,
            max_charge: Some(Dollars::from_cents(10)),
            max_authorization: Some(Dollars::from_cents(100)),
            max_validity: 86_400,
            single_use_validity: 3_600,
            reuse_margin: 900,
            kinds: vec![
                AuthorizationKind::Allowance,
                AuthorizationKind::Once,
                AuthorizationKind::Exact,
            ],
            right_size: true,
            retries: 2,
            patience: 60,
            // A v2 offer of many entries does not fit the 16 KiB of a payment; more than a head holds never comes.
            limits: Limits {
                header_bytes: 64 * 1024,
                decoded_bytes: 48 * 1024,
                ..Limits::DEFAULT
            },
        }
    }
}

impl Policy {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only these chains.
    #[must_use]
    pub fn networks(self, networks: impl IntoIterator<Item = ChainId>) -> Self {
        Self {
            networks: networks.into_iter().collect(),
            ..self
        }
    }

    /// Only these tokens.
    #[must_use]
    pub fn assets(self, assets: impl IntoIterator<Item = Asset>) -> Self {
        Self {
            assets: assets.into_iter().collect(),
            ..self
        }
    }

    /// One more token, in place of one of the same address.
    #[must_use]
    pub fn with_asset(mut self, asset: Asset) -> Self {
        self.assets
            .retain(|known| (known.chain(), known.token()) != (asset.chain(), asset.token()));
        self.assets.push(asset);
        self
    }

    /// Only these hosts (`api.example.com`, without scheme and port). Without this, any host is paid that is reached
    /// by https.
    #[must_use]
    pub fn hosts<H: AsRef<str>>(self, hosts: impl IntoIterator<Item = H>) -> Self {
        let hosts = hosts.into_iter().map(|host| host_name(host.as_ref()));
        Self {
            hosts: Some(hosts.collect()),
            ..self
        }
    }

    /// Pays this host over plain http too, where anybody on the way can read and change everything. Loopback needs
    /// no permission.
    #[must_use]
    pub fn plain_http(mut self, host: &str) -> Self {
        self.plain_hosts.push(host_name(host));
        self
    }

    /// Of this host, only these payees. Without this, the first that was paid is kept to.
    #[must_use]
    pub fn payees(mut self, host: &str, payees: impl IntoIterator<Item = Address>) -> Self {
        self.payees
            .insert(host_name(host), payees.into_iter().collect());
        self
    }

    /// Pays a host that names another payee than before.
    #[must_use]
    pub fn payee_may_change(self, may: bool) -> Self {
        Self {
            payee_may_change: may,
            ..self
        }
    }

    /// The most that one request may be charged.
    #[must_use]
    pub fn max_charge(self, limit: Dollars) -> Self {
        Self {
            max_charge: Some(limit),
            ..self
        }
    }

    /// The most that may be signed for one request.
    #[must_use]
    pub fn max_authorization(self, limit: Dollars) -> Self {
        Self {
            max_authorization: Some(limit),
            ..self
        }
    }

    /// Takes the limit on the charge off. The one on the authorization stays.
    #[must_use]
    pub fn without_max_charge(self) -> Self {
        Self {
            max_charge: None,
            ..self
        }
    }

    /// Takes the limit on the authorization off: whatever a seller asks is signed, if the charge is within its limit.
    #[must_use]
    pub fn without_max_authorization(self) -> Self {
        Self {
            max_authorization: None,
            ..self
        }
    }

    /// The longest that an authorization may stay good, in seconds. A day by default.
    #[must_use]
    pub fn max_validity(self, seconds: u64) -> Self {
        Self {
            max_validity: seconds,
            ..self
        }
    }

    /// How long once and exact authorizations stay good, in seconds, where the seller asks for longer. An hour by
    /// default: a payment whose answer was lost stands until then.
    #[must_use]
    pub fn single_use_validity(self, seconds: u64) -> Self {
        Self {
            single_use_validity: seconds,
            ..self
        }
    }

    /// The ways to pay, the preferred one first. Allowance, once, exact by default.
    #[must_use]
    pub fn kinds(self, kinds: impl IntoIterator<Item = AuthorizationKind>) -> Self {
        Self {
            kinds: kinds.into_iter().collect(),
            ..self
        }
    }

    /// Whether a once payment is signed for just what the request can cost.
    ///
    /// The rule: an `upto` entry with both `extra.facilitatorAddress` and `extra.minAmountRequired` says what a
    /// maximum must at least be, so that minimum is signed; an entry without the minimum gets the offered amount.
    /// x402's reference servers, which take nothing but the offered amount, do not send the minimum. Take this off
    /// for a seller who sends it and yet answers `permit2_amount_mismatch`. On by default.
    #[must_use]
    pub fn right_size(self, on: bool) -> Self {
        Self {
            right_size: on,
            ..self
        }
    }

    /// How often a request whose answer did not come is sent again, at once and with the same payment: two times by
    /// default. It is only done where a second sending cannot be a second charge: by a once or exact authorization, or
    /// under a `payment-identifier` that the seller offers to honour.
    #[must_use]
    pub fn retries(self, times: u32) -> Self {
        Self {
            retries: times,
            ..self
        }
    }

    /// How long to wait in all for a request of the same payment that is still being served (425), in seconds. A minute
    /// by default; with 0 the 425 is the answer.
    #[must_use]
    pub fn patience(self, seconds: u64) -> Self {
        Self {
            patience: seconds,
            ..self
        }
    }

    /// How much of a 402 is read.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// The token at this address of this chain, if it may be paid with.
    pub fn asset(&self, chain: ChainId, token: Address) -> Option<&Asset> {
        self.assets
            .iter()
            .find(|asset| asset.chain() == chain && asset.token() == token)
    }

    /// Whether this origin may be paid at all.
    pub(crate) fn origin(&self, origin: &Origin) -> Result<(), Refusal> {
        let listed = |hosts: &[String]| hosts.iter().any(|host| host == origin.host());
        if !origin.is_https() && !origin.is_loopback() && !listed(&self.plain_hosts) {
            return Err(Refusal::PlainHttp {
                origin: origin.clone(),
            });
        }
        match &self.hosts {
            Some(hosts) if !listed(hosts) => Err(Refusal::Host {
                origin: origin.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Whether so much is within the limit on the charge.
    pub(crate) fn allows_charge(&self, charge: Dollars) -> bool {
        self.max_charge.is_none_or(|limit| charge <= limit)
    }
}
