//! The arithmetic against exact rationals.

use alloy_primitives::{U256, U512};
use proptest::prelude::*;
use tollgate_price::*;
use tollgate_x402::Amount;

fn price() -> impl Strategy<Value = PricePerMillion> {
    prop_oneof![
        1 => Just(0_u128),
        4 => 0_u128..10_000_000,
        4 => 0_u128..100_000_000_000_000_000_000,
        1 => any::<u128>(),
        1 => Just(u128::MAX),
    ]
    .prop_map(PricePerMillion::from_units)
}

fn tokens() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0_u64..200_000, 1 => any::<u64>(), 1 => Just(u64::MAX)]
}

fn amount() -> impl Strategy<Value = Amount> {
    prop_oneof![
        4 => (0_u64..2_000_000).prop_map(Amount::from),
        4 => (0_u128..1_000_000_000_000_000_000_000).prop_map(Amount::from),
        1 => any::<u128>().prop_map(Amount::from),
        1 => any::<[u8; 32]>().prop_map(Amount::from_be_bytes),
    ]
}

fn rates() -> impl Strategy<Value = Rates> {
    (
        price(),
        price(),
        prop::option::of(price()),
        prop_oneof![Just(Amount::ZERO), amount()],
    )
        .prop_map(|(input, output, cached_input, per_request)| Rates {
            input,
            output,
            cached_input,
            per_request,
        })
}

/// The exact cost, as a fraction over a million, in 512 bits.
fn exact(rates: &Rates, usage: BillableUsage) -> U512 {
    let part = |price: PricePerMillion, tokens: u64| U512::from(price.units()) * U512::from(tokens);
    part(rates.input, usage.uncached_input())
        + part(
            rates.cached_input.unwrap_or(rates.input),
            usage.cached_input(),
        )
        + part(rates.output, usage.output())
        + U512::from(rates.per_request.get()) * U512::from(1_000_000)
}

fn wide(amount: Amount) -> U512 {
    U512::from(amount.get()) * U512::from(1_000_000)
}

proptest! {
    #[test]
    fn a_cost_is_the_exact_one_or_less_than_a_unit_above(
        rates in rates(), input in tokens(), cached in tokens(), output in tokens(),
    ) {
        let usage = BillableUsage::new(input, output).with_cached_input(cached);
        let (cost, exact) = (rates.cost(usage), exact(&rates, usage));
        if exact > wide(Amount::MAX) {
            prop_assert_eq!(cost, Amount::MAX);
        } else {
            prop_assert!(wide(cost) >= exact);
            prop_assert!(wide(cost) - exact < U512::from(1_000_000));
        }
    }

    #[test]
    fn no_usage_within_the_quote_costs_more_than_the_quote(
        rates in rates(), input in tokens(), output in tokens(),
        used in (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u64>()),
    ) {
        let quote = rates.quote(input, output);
        let within = |index: prop::sample::Index, bound: u64| {
            if bound == 0 { 0 } else { index.index(usize::try_from(bound).unwrap()) as u64 }
        };
        let usage = BillableUsage::new(within(used.0, input), within(used.1, output)).with_cached_input(used.2);
        prop_assert!(rates.cost(usage) <= quote.amount());
        prop_assert_eq!(quote.charge(usage), rates.cost(usage));
        prop_assert!(rates.cost(BillableUsage::new(input, output).with_cached_input(used.2)) <= quote.amount());
    }

    #[test]
    fn a_charge_is_the_smaller_of_cost_and_reservation(rates in rates(), input in tokens(), output in tokens(), cap in amount()) {
        let usage = BillableUsage::new(input, output);
        prop_assert_eq!(rates.charge(usage, cap), rates.cost(usage).min(cap));
    }

    #[test]
    fn the_budget_pays_for_the_clamped_output_and_not_for_one_token_more(
        rates in rates(), input in tokens(), budget in amount(), slack in 0_u64..3,
    ) {
        // Near the edge too: a budget that just covers some input.
        for budget in [budget, rates.worst_case(input, slack)] {
            match rates.max_output_for(budget, input) {
                None => prop_assert!(rates.worst_case(input, 0) > budget),
                Some(most) => {
                    prop_assert!(rates.worst_case(input, most) <= budget);
                    if let Some(more) = most.checked_add(1) {
                        prop_assert!(rates.worst_case(input, more) > budget);
                    }
                }
            }
        }
    }

    #[test]
    fn the_cost_grows_with_the_usage(rates in rates(), input in tokens(), output in tokens(), more in tokens()) {
        let cost = rates.worst_case(input, output);
        prop_assert!(rates.worst_case(input.saturating_add(more), output) >= cost);
        prop_assert!(rates.worst_case(input, output.saturating_add(more)) >= cost);
    }

    #[test]
    fn dollars_round_trip(units in any::<u128>(), decimals in 0_u8..=36) {
        let amount = Amount::from(units);
        let text = amount_to_dollars(amount, decimals);
        prop_assert_eq!(amount_from_dollars(&text, decimals), Ok(amount));
        let price = PricePerMillion::from_units(units);
        prop_assert_eq!(PricePerMillion::from_dollars(&price.to_dollars(decimals), decimals), Ok(price));
        // The text, read as a fraction: its digits without the point, over 10^places, equal units over 10^decimals.
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let digits: U256 = format!("{whole}{fraction}").parse().unwrap();
        let power = |n: usize| U512::from(10).pow(U512::from(n));
        prop_assert_eq!(
            U512::from(digits) * power(usize::from(decimals)),
            U512::from(units) * power(fraction.len())
        );
    }

    #[test]
    fn no_text_panics(text in ".{0,30}", decimals in any::<u8>(), amount in amount()) {
        let _ = amount_from_dollars(&text, decimals);
        let _ = amount_to_dollars(amount, decimals);
    }
}
