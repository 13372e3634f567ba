//! `GET /v1/models`: what is sold, and for how much.

use serde::Serialize;

use crate::{
    catalogue::{Catalogue, Model},
    upstream::Upstream,
};

/// The list as OpenAI's and Anthropic's clients read it, with prices.
#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Entry<'a>>,
    has_more: bool,
    first_id: Option<&'a str>,
    last_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Entry<'a> {
    id: &'a str,
    object: &'static str,
    r#type: &'static str,
    created: u64,
    created_at: &'static str,
    owned_by: &'static str,
    display_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    aliases: &'a [String],
    max_output_tokens: u32,
    pricing: Pricing,
    default: bool,
}

/// In atomic units of the payment token, as decimal strings.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Pricing {
    input_per_million: String,
    output_per_million: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cached_input_per_million: Option<String>,
    per_request: String,
}

pub(crate) fn list<U: Upstream>(catalogue: &Catalogue<U>) -> String {
    let data: Vec<_> = catalogue
        .models
        .iter()
        .map(|model| describe(model, catalogue))
        .collect();
    let list = List {
        object: "list",
        has_more: false,
        first_id: data.first().map(|entry| entry.id),
        last_id: data.last().map(|entry| entry.id),
        data,
    };
    // Strings, numbers and flags: nothing that JSON cannot say.
    serde_json::to_string(&list).unwrap_or_default()
}

fn describe<'a, U: Upstream>(model: &'a Model<U>, catalogue: &Catalogue<U>) -> Entry<'a> {
    let rates = &model.rates;
    Entry {
        id: &model.name,
        object: "model",
        r#type: "model",
        // When a model was made is not known here.
        created: 0,
        created_at: "1970-01-01T00:00:00Z",
        owned_by: "tollgate",
        display_name: &model.name,
        description: model
            .description
            .as_deref()
            .or_else(|| model.upstream.remark()),
        aliases: &model.aliases,
        max_output_tokens: model.max_output,
        pricing: Pricing {
            input_per_million: rates.input.to_string(),
            output_per_million: rates.output.to_string(),
            cached_input_per_million: rates.cached_input.map(|price| price.to_string()),
            per_request: rates.per_request.to_string(),
        },
        default: model.name == catalogue.default.name,
    }
}
