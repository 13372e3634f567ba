//! What is written by hand in Rust says the same as the compiler.

use std::collections::BTreeSet;

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_sol_types::{SolEventInterface, SolInterface};
use serde_json::Value;
use tollgate_contracts::abi::{
    ExactProxy, IEip3009, IErc20, IErc2612, ISignatureTransfer, Settler, TestUsd1, TestUsdt,
    UptoProxy,
};
use tollgate_contracts::{bytecode, settler, slots};

use crate::common::artifact::artifact;
use crate::common::*;

/// `name(type,…)` of an entry of the ABI, tuples spelled out.
fn signature(entry: &Value) -> String {
    fn spell(parameter: &Value) -> String {
        let name = parameter["type"].as_str().unwrap();
        match name.strip_prefix("tuple") {
            None => name.to_owned(),
            Some(array) => {
                let parts: Vec<String> = parameter["components"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(spell)
                    .collect();
                format!("({}){array}", parts.join(","))
            }
        }
    }
    let inputs: Vec<String> = entry["inputs"]
        .as_array()
        .unwrap()
        .iter()
        .map(spell)
        .collect();
    format!("{}({})", entry["name"].as_str().unwrap(), inputs.join(","))
}

fn compiled(name: &str, kind: &str) -> BTreeSet<B256> {
    artifact(name)["abi"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["type"] == kind)
        .map(|entry| keccak256(signature(entry)))
        .collect()
}

fn selectors(hashes: &BTreeSet<B256>) -> BTreeSet<[u8; 4]> {
    hashes
        .iter()
        .map(|hash| hash[..4].try_into().unwrap())
        .collect()
}

fn calls<I: SolInterface>() -> BTreeSet<[u8; 4]> {
    (0..I::COUNT)
        .map(|index| I::selector_at(index).unwrap())
        .collect()
}

#[track_caller]
fn agree<C: SolInterface, R: SolInterface, E: SolEventInterface>(name: &str, events: &[B256]) {
    assert_eq!(
        calls::<C>(),
        selectors(&compiled(name, "function")),
        "functions of {name}"
    );
    assert_eq!(
        calls::<R>(),
        selectors(&compiled(name, "error")),
        "errors of {name}"
    );
    assert_eq!(
        events.iter().copied().collect::<BTreeSet<_>>(),
        compiled(name, "event"),
        "events of {name}"
    );
    assert_eq!(events.len(), E::COUNT);
}

macro_rules! events {
    ($contract:ident: $($event:ident)*) => {
        [$(<$contract::$event as alloy_sol_types::SolEvent>::SIGNATURE_HASH),*]
    };
}

#[test]
fn every_interface_in_rust_has_the_selectors_and_topics_of_the_compiled_contract() {
    agree::<Settler::SettlerCalls, Settler::SettlerErrors, Settler::SettlerEvents>(
        "Settler",
        &events!(Settler: Charged Skipped Pulled Failed Swept OperatorSet AdminOffered AdminChanged),
    );
    agree::<TestUsd1::TestUsd1Calls, TestUsd1::TestUsd1Errors, TestUsd1::TestUsd1Events>(
        "TestUsd1",
        &events!(TestUsd1: Transfer Approval AuthorizationUsed AuthorizationCanceled Paused Unpaused Frozen Unfrozen),
    );
    agree::<ExactProxy::ExactProxyCalls, ExactProxy::ExactProxyErrors, ExactProxy::ExactProxyEvents>(
        "ExactProxy",
        &events!(ExactProxy: Settled SettledWithPermit EIP2612PermitFailedWithReason EIP2612PermitFailedWithPanic EIP2612PermitFailedWithData),
    );
    agree::<UptoProxy::UptoProxyCalls, UptoProxy::UptoProxyErrors, UptoProxy::UptoProxyEvents>(
        "UptoProxy",
        &events!(UptoProxy: Settled SettledWithPermit EIP2612PermitFailedWithReason EIP2612PermitFailedWithPanic EIP2612PermitFailedWithData),
    );
    agree::<
        ISignatureTransfer::ISignatureTransferCalls,
        ISignatureTransfer::ISignatureTransferErrors,
        ISignatureTransfer::ISignatureTransferEvents,
    >(
        "SignatureTransfer",
        &events!(ISignatureTransfer: UnorderedNonceInvalidation),
    );
    assert_eq!(
        calls::<TestUsdt::TestUsdtCalls>(),
        selectors(&compiled("TestUsdt", "function"))
    );
}

#[test]
fn which_fields_of_an_event_are_topics_is_the_same_on_both_sides() {
    use alloy_sol_types::{SolEvent, TopicList};
    fn topics<E: SolEvent>(contract: &str) {
        let abi = artifact(contract);
        let entry = abi["abi"]
            .as_array()
            .unwrap()
            .iter()
            .find(|entry| {
                entry["type"] == "event" && keccak256(signature(entry)) == E::SIGNATURE_HASH
            })
            .unwrap();
        let indexed = entry["inputs"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|input| input["indexed"] == true)
            .count();
        assert_eq!(
            <E::TopicList as TopicList>::COUNT,
            1 + indexed,
            "{}",
            E::SIGNATURE
        );
    }
    topics::<Settler::Charged>("Settler");
    topics::<Settler::Skipped>("Settler");
    topics::<Settler::Pulled>("Settler");
    topics::<Settler::Failed>("Settler");
    topics::<Settler::Swept>("Settler");
    topics::<IErc20::Transfer>("TestUsd1");
    topics::<IErc20::Approval>("TestUsdt");
    topics::<IEip3009::AuthorizationUsed>("TestUsd1");
    topics::<IEip3009::AuthorizationCanceled>("TestUsd1");
    topics::<ISignatureTransfer::UnorderedNonceInvalidation>("SignatureTransfer");
    topics::<UptoProxy::EIP2612PermitFailedWithData>("UptoProxy");
    topics::<ExactProxy::EIP2612PermitFailedWithReason>("ExactProxy");
}

#[test]
fn the_test_tokens_have_all_of_the_standards_that_they_stand_for() {
    let usd1 = selectors(&compiled("TestUsd1", "function"));
    for standard in [
        calls::<IErc20::IErc20Calls>(),
        calls::<IErc2612::IErc2612Calls>(),
        calls::<IEip3009::IEip3009Calls>(),
    ] {
        assert!(standard.is_subset(&usd1));
    }
    let usdt = selectors(&compiled("TestUsdt", "function"));
    assert!(calls::<IErc20::IErc20Calls>().is_subset(&usdt));
    assert!(calls::<IErc2612::IErc2612Calls>().is_disjoint(&usdt));
}

#[test]
fn the_selectors_and_topics_of_the_proxies_are_the_published_ones() {
    use alloy_primitives::hex;
    use alloy_sol_types::{SolCall, SolError, SolEvent};
    assert_eq!(ExactProxy::settleCall::SELECTOR, hex!("13cd3b53"));
    assert_eq!(ExactProxy::settleWithPermitCall::SELECTOR, hex!("fa340378"));
    assert_eq!(UptoProxy::settleCall::SELECTOR, hex!("ff11e7b4"));
    assert_eq!(UptoProxy::settleWithPermitCall::SELECTOR, hex!("016c1748"));
    assert_eq!(UptoProxy::PERMIT2Call::SELECTOR, hex!("6afdd850"));
    assert_eq!(UptoProxy::WITNESS_TYPEHASHCall::SELECTOR, hex!("2c03ae6a"));
    assert_eq!(
        UptoProxy::WITNESS_TYPE_STRINGCall::SELECTOR,
        hex!("156e2152")
    );
    assert_eq!(UptoProxy::InvalidPermit2Address::SELECTOR, hex!("59106c89"));
    assert_eq!(UptoProxy::InvalidDestination::SELECTOR, hex!("ac6b05f5"));
    assert_eq!(UptoProxy::PaymentTooEarly::SELECTOR, hex!("a65539fa"));
    assert_eq!(UptoProxy::InvalidOwner::SELECTOR, hex!("49e27cff"));
    assert_eq!(UptoProxy::InvalidAmount::SELECTOR, hex!("2c5211c6"));
    assert_eq!(
        UptoProxy::Permit2612AmountMismatch::SELECTOR,
        hex!("050cda49")
    );
    assert_eq!(
        UptoProxy::ReentrancyGuardReentrantCall::SELECTOR,
        hex!("3ee5aeb5")
    );
    assert_eq!(
        UptoProxy::AmountExceedsPermitted::SELECTOR,
        hex!("fe64b4c7")
    );
    assert_eq!(
        UptoProxy::UnauthorizedFacilitator::SELECTOR,
        hex!("0f6fae87")
    );
    assert_eq!(
        UptoProxy::Settled::SIGNATURE_HASH,
        hex!("97088ec3606cfe8cc112180570d03fcde05f9b8e1bfef8e27784eaf5dd5691b6")
    );
    assert_eq!(
        ExactProxy::SettledWithPermit::SIGNATURE_HASH,
        hex!("de5b89d10fc800c459329c382fabfcad0be0ed7e5328e01fae04e507b09ef5d8")
    );
}

#[test]
fn the_slots_are_where_the_compiler_puts_the_state() {
    let at = |name: &str, label: &str| artifact(name)["storage"][label].as_u64().unwrap();
    assert_eq!(slots::usd1::BALANCES, at("TestUsd1", "balanceOf"));
    assert_eq!(slots::usd1::ALLOWANCES, at("TestUsd1", "allowance"));
    assert_eq!(slots::usd1::NONCES, at("TestUsd1", "nonces"));
    assert_eq!(
        slots::usd1::AUTHORIZATIONS,
        at("TestUsd1", "authorizationState")
    );
    assert_eq!(slots::usd1::FROZEN, at("TestUsd1", "frozen"));
    assert_eq!(slots::usd1::TOTAL_SUPPLY, at("TestUsd1", "totalSupply"));
    assert_eq!(slots::usd1::ADMIN_AND_PAUSED, at("TestUsd1", "admin"));
    assert_eq!(slots::usd1::ADMIN_AND_PAUSED, at("TestUsd1", "paused"));
    assert_eq!(slots::usdt::BALANCES, at("TestUsdt", "balanceOf"));
    assert_eq!(slots::usdt::ALLOWANCES, at("TestUsdt", "allowance"));
    assert_eq!(slots::usdt::TOTAL_SUPPLY, at("TestUsdt", "totalSupply"));
    assert_eq!(slots::usdt::OWNER, at("TestUsdt", "getOwner"));
    assert_eq!(
        slots::signature_transfer::NONCE_BITMAP,
        at("SignatureTransfer", "nonceBitmap")
    );
    assert_eq!(slots::settler::ADMIN, at("Settler", "admin"));
    assert_eq!(slots::settler::OFFERED_ADMIN, at("Settler", "offeredAdmin"));
    assert_eq!(slots::settler::IS_OPERATOR, at("Settler", "isOperator"));
    assert_eq!(slots::settler::CHARGED, at("Settler", "charged"));
}

#[test]
fn the_predicted_code_of_a_settler_is_the_code_that_its_constructor_leaves() {
    let world = World::new();
    let deployed = world.code(world.settler);
    assert_eq!(settler::runtime(LEDGER, TREASURY), deployed);
    assert_eq!(
        settler::runtime_hash(LEDGER, TREASURY),
        keccak256(&deployed)
    );
    assert_ne!(
        settler::runtime_hash(LEDGER, OPERATOR),
        keccak256(&deployed)
    );
    assert_ne!(bytecode::SETTLER.runtime_hash(), keccak256(&deployed));
}

#[test]
fn a_settler_placed_by_code_and_slots_works_like_a_deployed_one() {
    let mut world = World::new();
    let at = Address::repeat_byte(0x5e);
    world.place_code(at, settler::runtime(LEDGER, TREASURY));
    world.store(
        at,
        U256::from(slots::settler::ADMIN),
        ADMIN.into_word().into(),
    );
    world.store(
        at,
        slots::mapped(slots::settler::IS_OPERATOR, OPERATOR),
        U256::ONE,
    );
    let owner = payer(0).address();
    world.store(
        at,
        slots::mapped_twice(slots::settler::CHARGED, USD1, owner),
        u(7),
    );
    assert_eq!(world.view(at, &Settler::ledgerIdCall {}), LEDGER);
    assert_eq!(world.view(at, &Settler::treasuryCall {}), TREASURY);
    assert_eq!(world.view(at, &Settler::adminCall {}), ADMIN);
    assert!(world.view(at, &Settler::isOperatorCall { who: OPERATOR }));
    assert_eq!(
        world.view(at, &Settler::chargedCall { token: USD1, owner }),
        u(7)
    );
    world.approve(USD1, owner, at, u(10));
    world
        .send(
            OPERATOR,
            at,
            &Batch::allowances([interval(USD1, owner, u(7), u(10))]).call(),
        )
        .expect_ok();
    assert_eq!(world.balance(USD1, TREASURY), u(3));
}

#[test]
fn the_constants_in_rust_are_those_of_the_contract() {
    let mut world = World::new();
    let at = world.settler;
    assert_eq!(
        world.view(at, &Settler::MAX_ITEMSCall {}),
        u(settler::MAX_ITEMS)
    );
    assert_eq!(
        world.view(at, &Settler::GAS_ALLOWANCECall {}),
        u(settler::GAS_ALLOWANCE)
    );
    assert_eq!(
        world.view(at, &Settler::GAS_PERMITCall {}),
        u(settler::GAS_PERMIT)
    );
    assert_eq!(
        world.view(at, &Settler::GAS_ONCECall {}),
        u(settler::GAS_ONCE)
    );
    assert_eq!(
        world.view(at, &Settler::GAS_EIP3009Call {}),
        u(settler::GAS_EIP3009)
    );
    assert_eq!(
        world.view(at, &Settler::GAS_PERMIT2_EXACTCall {}),
        u(settler::GAS_PERMIT2_EXACT)
    );
    assert_eq!(
        world.view(at, &Settler::GAS_OVERHEADCall {}),
        u(settler::GAS_OVERHEAD)
    );
}
