//! What all prices are, in one text: whoever compares two of them sees whether a price has changed.

use super::ModelPlan;

/// Digits that no price in dollars has more of.
const DECIMALS: u8 = 18;

/// The prices of these models. Neither their order nor how a price is written makes a difference, and a model that
/// cannot be priced is none.
pub(crate) fn prices(models: &[ModelPlan]) -> String {
    let mut lines: Vec<_> = models
        .iter()
        .filter_map(|model| {
            Some(format!(
                "{} {:?}",
                model.name,
                model.rates.of(DECIMALS).ok()?
            ))
        })
        .collect();
    lines.sort();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::DollarPrices;

    fn model(name: &str, output: &str) -> ModelPlan {
        ModelPlan {
            name: name.to_owned(),
            aliases: Vec::new(),
            upstream: "echo".to_owned(),
            upstream_model: None,
            rates: DollarPrices {
                input: "1".to_owned(),
                output: output.to_owned(),
                cached_input: None,
                per_request: None,
            },
            max_output_tokens: 1,
        }
    }

    #[test]
    fn the_order_of_models_and_the_zeros_of_a_price_are_no_change_of_prices() {
        let before = prices(&[model("a", "2"), model("b", "3")]);
        assert_eq!(prices(&[model("b", "3.0"), model("a", "2.00")]), before);
        assert_ne!(prices(&[model("b", "3.01"), model("a", "2")]), before);
        assert_ne!(prices(&[model("a", "2")]), before);
    }
}
