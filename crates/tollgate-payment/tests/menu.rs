//! Offers that are written ahead.

use proptest::prelude::*;
use tollgate_payment::{Ask, Menu, Offer, Permit2Terms, Pricing, Terms};
use tollgate_x402::{
    Address, Amount, ChainId, Extensions, PaymentRequired, ResourceInfo, U256, WrittenOffer,
};

fn terms() -> impl Strategy<Value = Terms> {
    let text = || {
        prop::option::of(prop_oneof![
            Just("USD\u{20ac} \"1\"".to_owned()),
            "[ -~]{0,12}"
        ])
    };
    let proxy = || prop::option::of(Just(Address::repeat_byte(4)));
    let permit2 = (any::<bool>(), proxy(), proxy());
    let flags = (any::<bool>(), any::<bool>());
    (text(), text(), 1..u64::MAX, flags, permit2).prop_map(
        |(name, version, amount, (permit, eip3009), (has, upto_proxy, exact_proxy))| Terms {
            chain: ChainId::DEV,
            token: Address::repeat_byte(0x70),
            name,
            version,
            pay_to: Address::repeat_byte(0x5e),
            amount: Amount::from(amount),
            max_timeout: 3600,
            permit,
            eip3009,
            permit2: has.then_some(Permit2Terms {
                permit2: Address::repeat_byte(2),
                upto_proxy,
                exact_proxy,
                facilitator: Address::repeat_byte(0x5e),
            }),
        },
    )
}

fn resource() -> impl Strategy<Value = ResourceInfo> {
    let marks = [U256::MAX, U256::MAX - U256::from(1_000_000)].map(|mark| mark.to_string());
    // What stands for a gap must not be taken for one.
    let description = prop_oneof![
        "\\PC{0,20}",
        Just("\"error\":\"\"".to_owned()),
        prop::sample::select(marks.to_vec()),
    ];
    ("https://[a-z]{1,9}/", prop::option::of(description)).prop_map(|(url, description)| {
        let mut resource = ResourceInfo::new(url);
        resource.description = description;
        resource
    })
}

proptest! {
    #[test]
    fn an_offer_that_was_written_ahead_is_byte_for_byte_the_one_that_is_written_now(
        terms in prop::collection::vec(terms(), 0..4),
        resource in resource(),
        prices in prop::collection::vec((any::<u64>(), any::<bool>()), 1..6),
        error in "\\PC{0,20}",
        extended in any::<bool>(),
    ) {
        let extensions = match extended {
            true => Extensions::new().offering_payment_identifier(false),
            false => Extensions::new(),
        };
        let menu = Menu::new(terms.clone(), extensions.clone());
        for (price, fixed) in prices {
            let price = Amount::from(price);
            let pricing = if fixed {
                Pricing::Fixed(price)
            } else {
                Pricing::Metered { worst: price, least: Amount::ZERO }
            };
            let ask = Ask { resource: resource.clone(), pricing };
            let offer = menu.offer(ask.clone());
            let plain = Offer::new(ask, &terms).with_extensions(extensions.clone());
            let expected: PaymentRequired = plain.required(&error);
            prop_assert_eq!(offer.written(&error), WrittenOffer::of(&expected));
            prop_assert_eq!(offer.required(&error), expected);
        }
    }
}

#[test]
fn resources_without_number_are_offered_and_not_remembered() {
    let menu = Menu::new([], Extensions::new());
    for n in 0..200 {
        let url = format!("https://seller.example/{n}");
        let ask = Ask {
            resource: ResourceInfo::new(url.clone()),
            pricing: Pricing::Fixed(Amount::from(1_u64)),
        };
        let written = menu.offer(ask.clone()).written("");
        assert_eq!(written, WrittenOffer::of(&Offer::new(ask, []).required("")));
    }
    assert!(format!("{menu:?}").len() < 100_000);
}
