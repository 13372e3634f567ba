//! Whatever is signed verifies, is what the standards' typed data says, and verifies for nothing else.

#[path = "support/twin.rs"]
mod twin;

use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::{Eip712Domain, SolStruct, eip712_domain};
use futures_util::FutureExt;
use proptest::prelude::*;
use serde_json::json;
use tollgate_eip712::{
    AllowanceTerms, Eip3009Terms, LocalWallet, OnceTerms, PERMIT2, Permit2ExactTerms, SignError,
    TokenDomain, TypedData, VerifyError, digest, sign_allowance, sign_eip3009, sign_once,
    sign_permit2_exact, typed, verify,
};
use tollgate_x402::{Amount, Authorization, ChainId, Exact, Signature65, Timestamp};
use twin::twin_digest;

const NAME: &str = "World Liberty Financial USD";

prop_compose! {
    fn address()(bytes: [u8; 20]) -> Address { bytes.into() }
}
prop_compose! {
    fn word()(bytes: [u8; 32]) -> B256 { bytes.into() }
}
prop_compose! {
    fn number()(bytes: [u8; 32], shift in 0_usize..256) -> U256 { U256::from_be_bytes(bytes) >> shift }
}
prop_compose! {
    fn wallet()(seed in 1_u64..) -> LocalWallet {
        LocalWallet::from_bytes(&U256::from(seed).to_be_bytes()).unwrap()
    }
}
prop_compose! {
    fn domain()(chain in 1_u64.., token in address()) -> TokenDomain {
        TokenDomain::new(NAME, "1", ChainId(chain), token)
    }
}

fn own(domain: &TokenDomain) -> Eip712Domain {
    eip712_domain! {
        name: NAME,
        version: "1",
        chain_id: domain.chain().0,
        verifying_contract: domain.token(),
    }
}

fn permit2(domain: &TokenDomain) -> Eip712Domain {
    eip712_domain! {
        name: "Permit2",
        chain_id: domain.chain().0,
        verifying_contract: PERMIT2,
    }
}

fn own_json(domain: &TokenDomain) -> serde_json::Value {
    json!({"name": NAME, "version": "1", "chainId": domain.chain().0, "verifyingContract": domain.token()})
}

fn permit2_json(domain: &TokenDomain) -> serde_json::Value {
    json!({"name": "Permit2", "chainId": domain.chain().0, "verifyingContract": PERMIT2})
}

fn now<T>(future: impl Future<Output = Result<T, SignError>>) -> T {
    future.now_or_never().unwrap().unwrap()
}

/// What must hold of everything that is signed.
fn check(authorization: &Authorization, domain: &TokenDomain) -> Result<(), TestCaseError> {
    prop_assert_eq!(verify(authorization, domain), Ok(()));
    // Nothing else verifies: another chain, another token, another name.
    let elsewhere = TokenDomain::new(NAME, "1", ChainId(domain.chain().0 ^ 1), domain.token());
    let refused = matches!(
        verify(authorization, &elsewhere),
        Err(VerifyError::Chain { .. })
    );
    prop_assert!(refused);
    prop_assert_ne!(
        digest(authorization, domain),
        digest(authorization, &elsewhere)
    );
    let other = TokenDomain::new(
        NAME,
        "1",
        domain.chain(),
        Address::from_word(domain.separator()),
    );
    let refused = matches!(
        verify(authorization, &other),
        Err(VerifyError::Token { .. })
    );
    prop_assert!(refused);
    let renamed = TokenDomain::new(NAME, "2", domain.chain(), domain.token());
    match authorization {
        Authorization::Allowance(_) | Authorization::Exact(Exact::Eip3009(_)) => {
            prop_assert!(verify(authorization, &renamed).is_err());
        }
        _ => prop_assert_eq!(verify(authorization, &renamed), Ok(())),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn an_allowance_signs_what_erc_2612_says(
        wallet in wallet(), domain in domain(), spender in address(), value in number(), nonce in number(), deadline: u64,
    ) {
        let terms = AllowanceTerms { spender, value: Amount::new(value), nonce, deadline: Timestamp(deadline) };
        let signed = now(sign_allowance(&wallet, &domain, &terms));
        let message = typed::Permit { owner: wallet.address(), spender, value, nonce, deadline: U256::from(deadline) };
        prop_assert_eq!(signed.struct_hash(), message.eip712_hash_struct());
        prop_assert_eq!(digest(&signed, &domain), message.eip712_signing_hash(&own(&domain)));
        let data = json!({
            "domain": own_json(&domain),
            "primaryType": "Permit",
            "types": {"Permit": [
                {"name": "owner", "type": "address"}, {"name": "spender", "type": "address"},
                {"name": "value", "type": "uint256"}, {"name": "nonce", "type": "uint256"},
                {"name": "deadline", "type": "uint256"},
            ]},
            "message": {
                "owner": wallet.address(), "spender": spender, "value": value.to_string(),
                "nonce": nonce.to_string(), "deadline": deadline.to_string(),
            },
        });
        prop_assert_eq!(digest(&signed, &domain), twin_digest(&data));
        check(&Authorization::Allowance(signed.clone()), &domain)?;

        let mut raised = signed;
        raised.value = Amount::new(value ^ U256::ONE);
        let wrong = matches!(
            verify(&raised, &domain),
            Err(VerifyError::WrongSigner { .. } | VerifyError::Unrecoverable(_))
        );
        prop_assert!(wrong);
    }

    #[test]
    fn a_transfer_signs_what_eip_3009_says(
        wallet in wallet(), domain in domain(), to in address(), value in number(), after: u64, before: u64, nonce in word(),
    ) {
        let terms = Eip3009Terms {
            to, value: Amount::new(value), valid_after: Timestamp(after), valid_before: Timestamp(before), nonce,
        };
        let signed = now(sign_eip3009(&wallet, &domain, &terms));
        let message = typed::TransferWithAuthorization {
            from: wallet.address(), to, value, validAfter: U256::from(after), validBefore: U256::from(before), nonce,
        };
        prop_assert_eq!(signed.struct_hash(), message.eip712_hash_struct());
        prop_assert_eq!(digest(&signed, &domain), message.eip712_signing_hash(&own(&domain)));
        check(&Authorization::Exact(Exact::Eip3009(signed)), &domain)?;
    }

    #[test]
    fn a_once_payment_signs_what_permit2_and_the_upto_proxy_say(
        wallet in wallet(), domain in domain(), spender in address(), to in address(), facilitator in address(),
        amount in number(), nonce in number(), deadline: u64, after: u64,
    ) {
        let terms = OnceTerms {
            amount: Amount::new(amount), spender, nonce, deadline: Timestamp(deadline), to, facilitator,
            valid_after: Timestamp(after),
        };
        let signed = now(sign_once(&wallet, &domain, &terms));
        let message = typed::upto::PermitWitnessTransferFrom {
            permitted: typed::upto::TokenPermissions { token: domain.token(), amount },
            spender, nonce, deadline: U256::from(deadline),
            witness: typed::upto::Witness { to, facilitator, validAfter: U256::from(after) },
        };
        prop_assert_eq!(signed.struct_hash(), message.eip712_hash_struct());
        prop_assert_eq!(digest(&signed, &domain), message.eip712_signing_hash(&permit2(&domain)));
        let data = json!({
            "domain": permit2_json(&domain),
            "primaryType": "PermitWitnessTransferFrom",
            "types": {
                "PermitWitnessTransferFrom": [
                    {"name": "permitted", "type": "TokenPermissions"}, {"name": "spender", "type": "address"},
                    {"name": "nonce", "type": "uint256"}, {"name": "deadline", "type": "uint256"},
                    {"name": "witness", "type": "Witness"},
                ],
                "TokenPermissions": [{"name": "token", "type": "address"}, {"name": "amount", "type": "uint256"}],
                "Witness": [
                    {"name": "to", "type": "address"}, {"name": "facilitator", "type": "address"},
                    {"name": "validAfter", "type": "uint256"},
                ],
            },
            "message": {
                "permitted": {"token": domain.token(), "amount": amount.to_string()},
                "spender": spender, "nonce": nonce.to_string(), "deadline": deadline.to_string(),
                "witness": {"to": to, "facilitator": facilitator, "validAfter": after.to_string()},
            },
        });
        prop_assert_eq!(digest(&signed, &domain), twin_digest(&data));
        check(&Authorization::Once(signed), &domain)?;
    }

    #[test]
    fn an_exact_payment_signs_what_permit2_and_the_exact_proxy_say(
        wallet in wallet(), domain in domain(), spender in address(), to in address(),
        amount in number(), nonce in number(), deadline: u64, after: u64,
    ) {
        let terms = Permit2ExactTerms {
            amount: Amount::new(amount), spender, nonce, deadline: Timestamp(deadline), to, valid_after: Timestamp(after),
        };
        let signed = now(sign_permit2_exact(&wallet, &domain, &terms));
        let message = typed::exact::PermitWitnessTransferFrom {
            permitted: typed::exact::TokenPermissions { token: domain.token(), amount },
            spender, nonce, deadline: U256::from(deadline),
            witness: typed::exact::Witness { to, validAfter: U256::from(after) },
        };
        prop_assert_eq!(signed.struct_hash(), message.eip712_hash_struct());
        prop_assert_eq!(digest(&signed, &domain), message.eip712_signing_hash(&permit2(&domain)));
        check(&Authorization::Exact(Exact::Permit2(signed)), &domain)?;
    }

    #[test]
    fn whatever_the_bytes_of_a_signature_recovery_answers(digest in word(), bytes: [u8; 64], odd: bool) {
        let mut whole = bytes.to_vec();
        whole.push(27 + u8::from(odd));
        if let Ok(signature) = Signature65::from_bytes(&whole) {
            let _ = tollgate_eip712::recover(digest, &signature);
        }
    }
}
