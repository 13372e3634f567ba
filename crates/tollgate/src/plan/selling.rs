//! What is sold, and whose answers it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use http::Uri;
use tollgate_gateway::shortest_request;
use toml::Spanned;

use super::{DollarPrices, ECHO, ModelPlan, Secret, TokenPlan, UpstreamPlan, dollars};
use crate::config::{Config, ConfigError, Source};

/// The model servers of a configuration.
pub(super) fn upstreams(
    config: &Config,
    source: &Source,
    environment: &BTreeMap<String, String>,
) -> Result<Vec<UpstreamPlan>, ConfigError> {
    let mut upstreams: Vec<UpstreamPlan> = Vec::new();
    for section in &config.upstreams {
        let name = section.name.get_ref();
        if name == ECHO || upstreams.iter().any(|upstream| upstream.name == *name) {
            return Err(source.at(
                "upstream.name",
                &section.name,
                "this name is taken; choose another",
            ));
        }
        if !is_base_url(section.url.get_ref()) {
            return Err(source.at(
                "upstream.url",
                &section.url,
                "write an http:// or https:// URL without a query, such as http://127.0.0.1:8000/v1",
            ));
        }
        for (key, timeout) in [
            (
                "upstream.first_token_timeout_seconds",
                &section.first_token_timeout_seconds,
            ),
            (
                "upstream.idle_timeout_seconds",
                &section.idle_timeout_seconds,
            ),
        ] {
            if *timeout.get_ref() == 0 {
                return Err(source.at(key, timeout, "above 0: no server answers at once"));
            }
        }
        let key = match &section.api_key {
            Some(key) => Some(api_key(source, key, environment)?),
            None => None,
        };
        upstreams.push(UpstreamPlan {
            name: name.clone(),
            url: section.url.get_ref().trim_end_matches('/').to_owned(),
            key,
            top_k: section.top_k,
            first_token: Duration::from_secs(*section.first_token_timeout_seconds.get_ref()),
            idle: Duration::from_secs(*section.idle_timeout_seconds.get_ref()),
        });
    }
    Ok(upstreams)
}

/// The models of a configuration.
pub(super) fn models(
    config: &Config,
    source: &Source,
    tokens: &[TokenPlan],
) -> Result<Vec<ModelPlan>, ConfigError> {
    let mut models: Vec<ModelPlan> = Vec::new();
    let mut names = BTreeSet::new();
    for section in &config.models {
        let known = |name: &str| {
            name == ECHO
                || config
                    .upstreams
                    .iter()
                    .any(|upstream| upstream.name.get_ref() == name)
        };
        if !known(section.upstream.get_ref()) {
            let message = "no [[upstream]] has this name (\"echo\" is the built-in engine)";
            return Err(source.at("model.upstream", &section.upstream, message));
        }
        for (key, name) in std::iter::once(("model.name", &section.name))
            .chain(section.aliases.iter().map(|alias| ("model.aliases", alias)))
        {
            if name.get_ref().is_empty() {
                return Err(source.at(key, name, "a name has letters"));
            }
            if !names.insert(name.get_ref().clone()) {
                let message = format!("{:?} is a name or an alias already", name.get_ref());
                return Err(source.at(key, name, message));
            }
        }
        if *section.max_output_tokens.get_ref() == 0 {
            return Err(source.at(
                "model.max_output_tokens",
                &section.max_output_tokens,
                "above 0",
            ));
        }
        let price = |key, value: &Spanned<String>| dollars(source, key, value);
        let optional = |key, value: &Option<Spanned<String>>| {
            value.as_ref().map(|value| price(key, value)).transpose()
        };
        let rates = DollarPrices {
            input: price(
                "model.input_usd_per_million",
                &section.input_usd_per_million,
            )?,
            output: price(
                "model.output_usd_per_million",
                &section.output_usd_per_million,
            )?,
            cached_input: optional(
                "model.cached_input_usd_per_million",
                &section.cached_input_usd_per_million,
            )?,
            per_request: optional("model.per_request_usd", &section.per_request_usd)?,
        };
        for token in tokens {
            let Ok(rates) = rates.of(token.info.decimals) else {
                continue;
            };
            if rates.worst_case(1, 1).is_zero() {
                return Err(source.at(
                    "model.output_usd_per_million",
                    &section.output_usd_per_million,
                    "a model costs something, if only by per_request_usd",
                ));
            }
            let shortest = rates.worst_case(shortest_request(), 1);
            if shortest > token.amount {
                let message = format!(
                    "token.amount_usd, {} atomic units, does not pay for the shortest request to this model, {shortest}: raise it, or \
                     lower the price",
                    token.amount
                );
                return Err(source.at("model.name", &section.name, message));
            }
        }
        models.push(ModelPlan {
            name: section.name.get_ref().clone(),
            aliases: section
                .aliases
                .iter()
                .map(|alias| alias.get_ref().clone())
                .collect(),
            upstream: section.upstream.get_ref().clone(),
            upstream_model: section.upstream_model.clone(),
            rates,
            max_output_tokens: *section.max_output_tokens.get_ref(),
        });
    }
    if models.is_empty() {
        return Err(source.error("model", &(0..0), "name at least one [[model]]"));
    }
    Ok(models)
}

/// A key that an HTTP header can carry.
fn api_key(
    source: &Source,
    key: &Spanned<String>,
    environment: &BTreeMap<String, String>,
) -> Result<Secret, ConfigError> {
    let secret = source.secret("upstream.api_key", key, environment)?;
    if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message =
            "this variable's value has a space, a line's end or another character that no key has";
        return Err(source.at("upstream.api_key", key, message));
    }
    Ok(Secret(secret))
}

/// Whether paths can be put behind this URL.
pub(crate) fn is_base_url(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else {
        return false;
    };
    matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.host().is_some_and(|host| !host.is_empty())
        && uri.query().is_none()
        && !url.contains('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_absolute_and_has_a_host_and_no_query() {
        for good in [
            "http://127.0.0.1:8000/v1",
            "https://api.example.com",
            "http://[::1]:80",
        ] {
            assert!(is_base_url(good), "{good}");
        }
        for bad in [
            "",
            "http://",
            "https:///x",
            "api.example.com",
            "ftp://a",
            "http://a b",
            "http://a?b",
            "http://a#b",
            "http://:80",
        ] {
            assert!(!is_base_url(bad), "{bad}");
        }
    }
}
