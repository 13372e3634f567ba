//! The models on sale, ready to be looked up.

use std::{collections::HashMap, sync::Arc};

use tollgate_chat::{InputBound, RequestLimits, dialect::RequestConfig};
use tollgate_price::{PriceTable, Rates};
use tollgate_x402::{Amount, ResourceInfo};

use crate::config::{ConfigError, GatewayConfig};

/// What a checked [`GatewayConfig`] becomes.
#[derive(Debug)]
pub(crate) struct Catalogue<U> {
    pub(crate) models: Vec<Arc<Model<U>>>,
    by_name: HashMap<String, Arc<Model<U>>>,
    pub(crate) default: Arc<Model<U>>,
    pub(crate) resource: ResourceInfo,
    pub(crate) reading: RequestConfig,
    pub(crate) max_charge: Amount,
    pub(crate) least_output: u64,
    pub(crate) counted_bytes: usize,
    pub(crate) input: InputBound,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Model<U> {
    pub(crate) name: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) description: Option<String>,
    pub(crate) upstream: Arc<U>,
    pub(crate) upstream_model: String,
    pub(crate) rates: Rates,
    pub(crate) max_output: u32,
}

impl<U> Catalogue<U> {
    pub(crate) fn new(config: GatewayConfig<U>) -> Result<Self, ConfigError> {
        let url = config.public_url.trim_end_matches('/');
        if !is_base_url(url) {
            return Err(ConfigError::PublicUrl);
        }
        let mut resource = ResourceInfo::new(format!("{url}/x402/v1"));
        resource.description = Some(config.description);
        resource.mime_type = Some("application/json".to_owned());

        let input = InputBound::default();
        let mut names = PriceTable::new();
        let (mut models, mut by_name) = (Vec::new(), HashMap::new());
        for model in config.models {
            names.insert(&model.name, model.rates)?;
            for alias in &model.aliases {
                names.alias(alias, &model.name)?;
            }
            if model.rates.worst_case(1, 1).is_zero() {
                return Err(ConfigError::FreeModel(model.name));
            }
            if model.max_output_tokens == 0 {
                return Err(ConfigError::NoOutput(model.name));
            }
            if model.rates.worst_case(shortest_request(), 1) > config.max_charge {
                return Err(ConfigError::MaxCharge {
                    model: model.name,
                    max_charge: config.max_charge,
                });
            }
            let model = Arc::new(Model {
                upstream_model: model.upstream_model.unwrap_or_else(|| model.name.clone()),
                name: model.name,
                aliases: model.aliases,
                description: model.description,
                upstream: model.upstream,
                rates: model.rates,
                max_output: model.max_output_tokens,
            });
            for name in model.aliases.iter().chain([&model.name]) {
                by_name.insert(name.clone(), Arc::clone(&model));
            }
            models.push(model);
        }
        if models.is_empty() {
            return Err(ConfigError::NoModels);
        }
        let default = by_name.get(&config.default_model).map(Arc::clone);
        let limits = config.limits;
        Ok(Self {
            default: default
                .ok_or_else(|| ConfigError::DefaultModel(config.default_model.clone()))?,
            models,
            by_name,
            resource,
            reading: RequestConfig {
                default_model: config.default_model,
                limits: request_limits(limits.request, limits.paywall.request_bytes),
            },
            max_charge: config.max_charge,
            least_output: limits.least_output_tokens.max(1).into(),
            counted_bytes: limits.counted_bytes,
            input,
        })
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Arc<Model<U>>> {
        self.by_name.get(name)
    }
}

/// How many tokens the input of the shortest request may have: what it is offered for has to pay for these and for one of output.
#[must_use]
pub fn shortest_request() -> u64 {
    let input = InputBound::default();
    u64::from(input.base)
        .saturating_add(u64::from(input.per_message))
        .saturating_add(1)
}

fn request_limits(mut limits: RequestLimits, body: usize) -> RequestLimits {
    limits.max_body = body;
    limits
}

fn is_base_url(url: &str) -> bool {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    rest.is_some_and(|rest| {
        !rest.is_empty()
            && !rest.starts_with('/')
            && rest
                .bytes()
                .all(|b| b.is_ascii_graphic() && !b"?#\"<>\\".contains(&b))
    })
}

#[cfg(test)]
mod tests {
    use tollgate_price::{PricePerMillion, TableError};

    use super::*;
    use crate::{EchoUpstream, Limits, ModelConfig};

    fn model(name: &str, aliases: &[&str]) -> ModelConfig<EchoUpstream> {
        let dollar = PricePerMillion::from_units(1_000_000_000_000_000_000);
        ModelConfig {
            name: name.to_owned(),
            aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
            description: None,
            upstream: Arc::new(EchoUpstream::new()),
            upstream_model: None,
            rates: Rates::new(dollar, dollar),
            max_output_tokens: 100,
        }
    }

    fn config(models: Vec<ModelConfig<EchoUpstream>>) -> GatewayConfig<EchoUpstream> {
        GatewayConfig {
            public_url: "https://api.example.com/".to_owned(),
            description: "LLM inference".to_owned(),
            models,
            default_model: "a".to_owned(),
            max_charge: Amount::from(990_000_000_000_000_000_u64),
            limits: Limits::default(),
        }
    }

    #[test]
    fn models_are_found_by_name_and_alias_and_the_resource_is_the_public_url() {
        let catalogue = Catalogue::new(config(vec![model("a", &["x"]), model("b", &[])])).unwrap();
        assert_eq!(catalogue.find("x").unwrap().name, "a");
        assert_eq!(catalogue.find("b").unwrap().upstream_model, "b");
        assert!(catalogue.find("c").is_none());
        assert_eq!(catalogue.resource.url, "https://api.example.com/x402/v1");
    }

    #[test]
    fn each_mistake_of_the_operator_is_named() {
        let refused = |config| Catalogue::new(config).unwrap_err();
        let one = || config(vec![model("a", &[])]);
        for url in [
            "",
            "api.example.com",
            "ftp://a",
            "https://",
            "https:///x",
            "https://a?b",
            "https://a#b",
            "https://a b",
        ] {
            assert_eq!(
                refused(GatewayConfig {
                    public_url: url.to_owned(),
                    ..one()
                }),
                ConfigError::PublicUrl,
                "{url}"
            );
        }
        assert_eq!(refused(config(vec![])), ConfigError::NoModels);
        let twice = ConfigError::Names(TableError::Duplicate("a".to_owned()));
        assert_eq!(
            refused(config(vec![model("a", &[]), model("b", &["a"])])),
            twice
        );
        let default = GatewayConfig {
            default_model: "z".to_owned(),
            ..one()
        };
        assert_eq!(refused(default), ConfigError::DefaultModel("z".to_owned()));
        let free = ModelConfig {
            rates: Rates::default(),
            ..model("a", &[])
        };
        assert_eq!(
            refused(config(vec![free])),
            ConfigError::FreeModel("a".to_owned())
        );
        let silent = ModelConfig {
            max_output_tokens: 0,
            ..model("a", &[])
        };
        assert_eq!(
            refused(config(vec![silent])),
            ConfigError::NoOutput("a".to_owned())
        );
        let low = GatewayConfig {
            max_charge: Amount::from(1000u64),
            ..one()
        };
        assert!(matches!(refused(low), ConfigError::MaxCharge { .. }));
    }
}
