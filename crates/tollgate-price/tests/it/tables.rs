//! Worked examples.

use tollgate_price::*;
use tollgate_x402::{Amount, TokenUsage};

fn opus() -> Rates {
    let dollars = DollarRates {
        input: "5",
        output: "25",
        cached_input: Some("0.5"),
        per_request: Some("0.0001"),
    };
    Rates::from_dollars(dollars, 18).unwrap()
}

#[test]
fn dollars_become_atomic_units_exactly() {
    let cases = [
        ("25", 18, 25_000_000_000_000_000_000_u128),
        ("0.15", 18, 150_000_000_000_000_000),
        ("0.15", 6, 150_000),
        ("0", 18, 0),
        ("0.0", 0, 0),
        ("3.50", 1, 35),
        ("0.000000000000000001", 18, 1),
        ("1.000000000000000000000000", 18, 1_000_000_000_000_000_000),
    ];
    for (text, decimals, units) in cases {
        assert_eq!(
            PricePerMillion::from_dollars(text, decimals),
            Ok(PricePerMillion::from_units(units)),
            "{text}"
        );
        assert_eq!(
            amount_from_dollars(text, decimals),
            Ok(Amount::from(units)),
            "{text}"
        );
    }
}

#[test]
fn what_is_not_exact_is_refused_and_never_rounded() {
    for text in [
        "", ".", "1.", ".5", "-1", "+1", "1e3", "01", "00.1", "1,5", "1.2.3", " 1", "$1", "0x1",
        "１", "1_0",
    ] {
        assert_eq!(
            amount_from_dollars(text, 18),
            Err(ParseDollarsError::Malformed),
            "{text}"
        );
    }
    assert_eq!(
        amount_from_dollars("0.0000001", 6),
        Err(ParseDollarsError::TooPrecise { decimals: 6 })
    );
    assert_eq!(
        amount_from_dollars("0.5", 0),
        Err(ParseDollarsError::TooPrecise { decimals: 0 })
    );
    assert_eq!(
        amount_from_dollars("400000000000000000000", 18),
        Err(ParseDollarsError::TooLarge)
    );
    assert_eq!(
        amount_from_dollars("1", 255),
        Err(ParseDollarsError::TooLarge)
    );
    let bad = DollarRates {
        input: "1",
        output: "1.0000001",
        cached_input: None,
        per_request: None,
    };
    assert_eq!(
        Rates::from_dollars(bad, 6),
        Err(("output", ParseDollarsError::TooPrecise { decimals: 6 }))
    );
}

#[test]
fn a_request_costs_what_its_tokens_cost() {
    // 1000 in, of which 400 cached, and 200 out: 0.003 + 0.0002 + 0.005 + 0.0001 dollars.
    let usage = BillableUsage::new(1000, 200)
        .with_cached_input(400)
        .with_reasoning(50);
    assert_eq!(amount_to_dollars(opus().cost(usage), 18), "0.0083");
    assert_eq!(
        amount_to_dollars(opus().worst_case(1000, 200), 18),
        "0.0101"
    );
}

#[test]
fn the_cost_is_rounded_up_once_and_only_at_the_end() {
    // One unit per million tokens, thrice: three roundings would make three units of one.
    let one = PricePerMillion::from_units(1);
    let rates = Rates {
        cached_input: Some(one),
        ..Rates::new(one, one)
    };
    assert_eq!(
        rates.cost(BillableUsage::new(2, 1).with_cached_input(1)),
        Amount::from(1_u64)
    );
    assert_eq!(rates.cost(BillableUsage::new(0, 0)), Amount::ZERO);
    assert_eq!(
        rates.cost(BillableUsage::new(500_000, 500_000)),
        Amount::from(1_u64)
    );
    assert_eq!(
        rates.cost(BillableUsage::new(500_000, 500_001)),
        Amount::from(2_u64)
    );
}

#[test]
fn the_charge_is_never_above_the_reservation() {
    let quote = opus().quote(100, 10);
    let lying = BillableUsage::new(u64::MAX, u64::MAX);
    assert_eq!(quote.charge(lying), quote.amount());
    assert_eq!(quote.charge(BillableUsage::new(100, 10)), quote.amount());
    assert!(quote.charge(BillableUsage::new(100, 9)) < quote.amount());
}

#[test]
fn an_output_is_clamped_to_what_the_budget_pays() {
    let quote = opus().quote(1000, 1000);
    assert_eq!(quote.clamped_to(quote.amount()), Some(quote));
    assert_eq!(quote.clamped_to(Amount::MAX), Some(quote));
    let half = amount_from_dollars("0.0101", 18).unwrap();
    let clamped = quote.clamped_to(half).unwrap();
    assert_eq!((clamped.max_output(), clamped.amount()), (200, half));
    assert_eq!(quote.minimum(200), half);
    assert_eq!(quote.minimum(u64::MAX), quote.amount());
    let input_only = quote.minimum(0);
    assert_eq!(quote.clamped_to(input_only).unwrap().max_output(), 0);
    assert_eq!(
        quote.clamped_to(input_only.checked_sub(Amount::from(1_u64)).unwrap()),
        None
    );
    assert_eq!(quote.clamped_to(Amount::ZERO), None);
}

#[test]
fn a_free_output_is_not_clamped() {
    let rates = Rates::new(PricePerMillion::from_units(1), PricePerMillion::FREE);
    assert_eq!(
        rates.max_output_for(Amount::from(1_u64), 1_000_000),
        Some(u64::MAX)
    );
    assert_eq!(rates.max_output_for(Amount::from(1_u64), 1_000_001), None);
}

#[test]
fn reports_that_contradict_themselves_are_read_within_bounds() {
    let usage = TokenUsage {
        input_tokens: 5,
        cached_input_tokens: 9,
        output_tokens: 3,
        reasoning_tokens: 4,
    };
    let billable = BillableUsage::from(usage);
    assert_eq!(
        (
            billable.cached_input(),
            billable.uncached_input(),
            billable.reasoning()
        ),
        (5, 0, 3)
    );
    assert_eq!(billable.total(), 8);
    assert_eq!(TokenUsage::from(billable).cached_input_tokens, 5);
}

#[test]
fn a_model_is_found_by_its_name_and_its_aliases() {
    let mut table = PriceTable::new();
    table.insert("anthropic/claude-opus-4.5", opus()).unwrap();
    table.alias("opus", "anthropic/claude-opus-4.5").unwrap();
    let listing = table.lookup("opus").unwrap();
    assert_eq!(
        (listing.model, *listing.rates),
        ("anthropic/claude-opus-4.5", opus())
    );
    assert_eq!(
        table.lookup("anthropic/claude-opus-4.5"),
        table.lookup("opus")
    );
    assert_eq!(table.lookup("OPUS"), None);
    assert_eq!(
        table.insert("opus", opus()),
        Err(TableError::Duplicate("opus".into()))
    );
    assert_eq!(
        table.alias("anthropic/claude-opus-4.5", "opus"),
        Err(TableError::Duplicate("anthropic/claude-opus-4.5".into()))
    );
    let unknown = TableError::UnknownModel {
        alias: "o".into(),
        model: "opus".into(),
    };
    assert_eq!(table.alias("o", "opus"), Err(unknown));
    assert_eq!(table.insert("", opus()), Err(TableError::Name));
    assert_eq!(
        (table.len(), table.models().count(), table.aliases().count()),
        (1, 1, 1)
    );
}

#[test]
fn a_tables_version_is_stable_and_tells_every_change() {
    let build = |order: [&str; 2]| {
        let mut table = PriceTable::new();
        for model in order {
            table.insert(model, opus()).unwrap();
        }
        table
    };
    let table = build(["a", "b"]);
    assert_eq!(table.version(), build(["b", "a"]).version());
    // Pinned: receipts of earlier versions name it.
    assert_eq!(
        table.version().to_string(),
        "0x40c3f9a851bb026161a89cf93d766e00a19b820144d799fb86fe941cf1407b7a"
    );
    let mut versions = vec![
        table.version(),
        PriceTable::new().version(),
        build(["a", "c"]).version(),
    ];
    let mut aliased = table.clone();
    aliased.alias("c", "a").unwrap();
    versions.push(aliased.version());
    let changes: [fn(&mut Rates); 5] = [
        |r| r.input = PricePerMillion::from_units(1),
        |r| r.output = PricePerMillion::from_units(1),
        |r| r.cached_input = None,
        |r| r.cached_input = Some(PricePerMillion::FREE),
        |r| r.per_request = Amount::from(1_u64),
    ];
    for change in changes {
        let mut rates = opus();
        change(&mut rates);
        let mut changed = PriceTable::new();
        changed.insert("a", rates).unwrap();
        changed.insert("b", opus()).unwrap();
        versions.push(changed.version());
    }
    let count = versions.len();
    versions.sort();
    versions.dedup();
    assert_eq!(versions.len(), count);
}
