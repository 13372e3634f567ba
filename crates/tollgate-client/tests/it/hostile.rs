//! Whatever sellers ask, what is signed stays within the limits and on the lists.

use alloy_primitives::{Address, U256};
use proptest::prelude::*;
use tollgate_client::{Asset, Dollars, Policy};
use tollgate_x402::{
    Amount, AssetTransferMethod, ChainId, Network, PaymentRequirements, PrimaryType, Scheme,
};

use crate::seller::*;

fn amount() -> impl Strategy<Value = Amount> {
    prop_oneof![
        (0_u64..300).prop_map(cents),
        any::<u64>().prop_map(Amount::from),
        any::<u128>().prop_map(Amount::from),
        Just(Amount::MAX),
        Just(Amount::ZERO),
        any::<[u64; 4]>().prop_map(|limbs| Amount::new(U256::from_limbs(limbs))),
    ]
}

fn address(known: &'static [Address]) -> impl Strategy<Value = Address> {
    prop_oneof![
        4 => prop::sample::select(known),
        1 => any::<[u8; 20]>().prop_map(Address::from),
    ]
}

prop_compose! {
    fn entry()(
        scheme in prop_oneof![
            Just(Scheme::Upto), Just(Scheme::Exact), Just(Scheme::Other("deferred".into()))
        ],
        chain in prop_oneof![4 => Just(56_u64), 1 => Just(31337), 1 => Just(1), 1 => any::<u64>()],
        asset in address(&[USD1, USDT]),
        pay_to in address(&[PAYEE]),
        amount in amount(),
        minimum in prop::option::of(amount()),
        timeout in prop_oneof![1_u64..100_000, any::<u64>().prop_map(|n| n.max(1))],
        method in prop_oneof![
            Just(None), Just(Some(AssetTransferMethod::Permit2)), Just(Some(AssetTransferMethod::Eip3009))
        ],
        permit in any::<bool>(),
        facilitator in any::<bool>(),
        name in prop::option::of("[A-Za-z0-9 ]{0,20}"),
    ) -> PaymentRequirements {
        let network = Network::from(ChainId(chain));
        let mut entry = PaymentRequirements::new(scheme, network, amount, asset, pay_to, timeout);
        entry.extra.min_amount_required = minimum;
        entry.extra.asset_transfer_method = method;
        entry.extra.primary_type = permit.then_some(PrimaryType::Permit);
        entry.extra.facilitator_address = facilitator.then_some(FACILITATOR);
        entry.extra.name = name.clone();
        entry.extra.version = name;
        entry
    }
}

#[derive(Clone, Debug)]
enum Answer {
    /// 402 with these offers, paid or not.
    Demand(Vec<PaymentRequirements>, &'static str),
    /// Paid or not, served, with a charge and a rest out of the air.
    Serve(Amount, Amount),
    Drop,
    Fail,
}

fn answer() -> impl Strategy<Value = Answer> {
    let error = prop_oneof![
        Just("Payment required"),
        Just("price_changed"),
        Just("allowance_exhausted"),
        Just("insufficient_funds"),
    ];
    prop_oneof![
        6 => (prop::collection::vec(entry(), 1..4), error).prop_map(|(e, t)| Answer::Demand(e, t)),
        3 => (amount(), amount()).prop_map(|(charge, left)| Answer::Serve(charge, left)),
        1 => Just(Answer::Drop),
        1 => Just(Answer::Fail),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn no_sequence_of_402s_makes_the_client_sign_above_its_limits_or_off_its_lists(
        answers in prop::collection::vec(answer(), 1..24),
        bodies in prop::collection::vec(0_usize..3, 1..10),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut answers = answers.into_iter();
        let seller = Seller::new(move |_| match answers.next() {
            Some(Answer::Demand(entries, error)) => demand(entries, error),
            Some(Answer::Serve(charge, left)) => stream(charge, left),
            Some(Answer::Drop) => Err("reset".into()),
            Some(Answer::Fail) => status(503),
            None => ok("done"),
        });
        let buyer = Buyer::at(&seller, Policy::default());
        let mut signed = 0;
        for body in bodies {
            runtime.block_on(async {
                if let Ok(response) = buyer.ask(["{}", "1", r#"{"maxTokens":5}"#][body]).await {
                    let _ = http_body_util::BodyExt::collect(response.into_body()).await;
                }
            });
            let more = buyer.wallet.count() - signed;
            prop_assert!(more <= 1, "at most one signature a call, not {more}");
            signed += more;
        }
        let known = Asset::known();
        let mut payees: Vec<(Address, Address)> = Vec::new();
        for seen in seller.payments() {
            let payment = seen.payment.unwrap();
            let chain = payment.network().chain_id().unwrap();
            prop_assert_eq!(chain, ChainId::BSC, "only BSC with an ordinary key");
            let selector = payment.selector();
            let (token, payee) = (selector.asset.unwrap(), selector.pay_to.unwrap());
            // The entry that the client echoes, to read what was signed against it.
            let json: serde_json::Value = serde_json::from_str(&payment.to_json()).unwrap();
            let entry = PaymentRequirements::parse(
                json["accepted"].to_string().as_bytes(),
                &tollgate_x402::Limits::DEFAULT,
            ).unwrap();
            let asset = known.iter().find(|a| a.chain() == chain && a.token() == token);
            prop_assert!(asset.is_some(), "only tokens of the list");
            // Exact payments are for the offered amount, and `authorization_for` insists; a once payment may be less.
            let authorization = payment.authorization_for(&entry).unwrap();
            tollgate_eip712::verify(&authorization, asset.unwrap().domain()).unwrap();
            prop_assert!(
                Dollars::of(authorization.cap(), 18) <= Dollars::from_cents(100),
                "signed over {}", authorization.cap()
            );
            prop_assert!(entry.minimum() <= cents(10) || !matches!(entry.scheme, Scheme::Upto));
            if entry.scheme == Scheme::Exact {
                prop_assert!(entry.amount <= cents(10));
            }
            prop_assert!(authorization.deadline().0 <= NOW + 86_400);
            payees.push((token, payee));
        }
        // One payee for each token of this host, the first.
        for (token, payee) in &payees {
            let first = payees.iter().find(|(t, _)| t == token).unwrap();
            prop_assert_eq!(first.1, *payee);
        }
    }
}
