//! What a gateway sells, as typed values.

use std::sync::Arc;

use tollgate_chat::RequestLimits;
use tollgate_price::Rates;
use tollgate_server::Bounds;
use tollgate_x402::Amount;

use crate::upstream::AnyUpstream;

/// What a gateway sells, and within which bounds.
#[derive(Clone, Debug)]
pub struct GatewayConfig<U = AnyUpstream> {
    /// The URL under which clients reach the gateway, without a path's last `/`, such as `https://api.example.com`.
    /// It stands in every offer, and is never taken from a request.
    pub public_url: String,
    /// What is sold, in a few words: it stands in every offer.
    pub description: String,
    /// The models.
    pub models: Vec<ModelConfig<U>>,
    /// The name or alias of the model of requests that name none.
    pub default_model: String,
    /// The most that one request may be charged, in atomic units: the `amount` of the till's terms. A request whose
    /// worst case is above it is served with less output.
    pub max_charge: Amount,
    /// The bounds.
    pub limits: Limits,
}

/// A model on sale.
#[derive(Clone, Debug)]
pub struct ModelConfig<U = AnyUpstream> {
    /// The name under which it is sold: 1 to 256 bytes.
    pub name: String,
    /// Other names for it.
    pub aliases: Vec<String>,
    /// What it is, for the list of models.
    pub description: Option<String>,
    /// Who answers.
    pub upstream: Arc<U>,
    /// Its name there; `None`: the name under which it is sold.
    pub upstream_model: Option<String>,
    /// What it costs, in atomic units. Not nothing.
    pub rates: Rates,
    /// The most output tokens of one answer, and the number for requests that name none. At least 1.
    pub max_output_tokens: u32,
}

/// Bounds on requests and answers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// The bounds of a request's JSON. Its `max_body` is [`Bounds::request_bytes`].
    pub request: RequestLimits,
    /// The bounds of the paywall.
    pub paywall: Bounds,
    /// The fewest output tokens with which it makes sense to begin, where a request does not ask for fewer. Default 16.
    pub least_output_tokens: u32,
    /// The longest text whose tokens are counted before it is paid for, in bytes; a longer one is bounded by its bytes.
    /// Default 2048.
    pub counted_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request: RequestLimits::default(),
            paywall: Bounds::default(),
            least_output_tokens: 16,
            counted_bytes: 2048,
        }
    }
}

/// Why a gateway cannot be as it was configured. The operator is to blame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The public URL is none.
    #[error(
        "public_url must be an absolute http or https URL without query or fragment, such as https://api.example.com"
    )]
    PublicUrl,
    /// There is no model.
    #[error("add at least one model")]
    NoModels,
    /// Names of models clash or cannot be.
    #[error(transparent)]
    Names(#[from] tollgate_price::TableError),
    /// The default model is not sold.
    #[error("the default model {0:?} is neither a model nor an alias")]
    DefaultModel(String),
    /// A model without a price.
    #[error("the model {0:?} costs nothing: give it a price, if only of one atomic unit a request")]
    FreeModel(String),
    /// A model that says nothing.
    #[error("the model {0:?} must have at least 1 output token")]
    NoOutput(String),
    /// The most that is charged does not pay for the shortest request.
    #[error(
        "{max_charge} atomic units do not pay for the shortest request to {model:?}: raise the offered amount or lower the price"
    )]
    MaxCharge {
        /// The model.
        model: String,
        /// The configured maximum.
        max_charge: Amount,
    },
}
