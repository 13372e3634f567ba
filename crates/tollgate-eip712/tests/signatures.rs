//! Forms of signatures, wrong signers, wallets that fail, keys that must not show.

use alloy_primitives::{Address, B256, U256, address, uint};
use futures_util::FutureExt;
use tollgate_eip712::{
    AllowanceTerms, Eip3009Terms, LocalWallet, OnceTerms, ParseKeyError, RecoverError, SignError,
    TokenDomain, VerifyError, Wallet, WalletError, digest, recover, sign_allowance, sign_eip3009,
    sign_once, verify,
};
use tollgate_x402::{Allowance, Amount, ChainId, ParseSignatureError, Signature65, Timestamp};

const KEY: &str = "0x4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318";
const OTHER: &str = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";
const TOKEN: Address = address!("8d0D000Ee44948FC98c9B98A4FA4921476f08B0d");
const ORDER: U256 = uint!(0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141_U256);

fn domain() -> TokenDomain {
    TokenDomain::new("World Liberty Financial USD", "1", ChainId::BSC, TOKEN)
}

fn wallet() -> LocalWallet {
    KEY.parse().unwrap()
}

fn terms() -> AllowanceTerms {
    AllowanceTerms {
        spender: address!("209693Bc6afc0C5328bA36FaF03C514EF312287C"),
        value: Amount::from(990_000_000_000_000_000_u64),
        nonce: U256::ZERO,
        deadline: Timestamp(1_800_000_000),
    }
}

fn allowance() -> Allowance {
    sign_allowance(&wallet(), &domain(), &terms())
        .now_or_never()
        .unwrap()
        .unwrap()
}

#[test]
fn another_signer_than_the_owner_is_refused() {
    let mut stolen = allowance();
    stolen.owner = LocalWallet::from_hex(OTHER).unwrap().address();
    let refusal = verify(&stolen, &domain()).unwrap_err();
    assert!(matches!(refusal, VerifyError::WrongSigner { owner, .. } if owner == stolen.owner));
    assert!(refusal.to_string().contains("nonce"));
}

#[test]
fn every_changed_value_is_refused() {
    let changes: [fn(&mut Allowance); 5] = [
        |a| a.owner = a.spender,
        |a| a.spender = a.owner,
        |a| a.value = Amount::from(990_000_000_000_000_001_u64),
        |a| a.nonce = U256::ONE,
        |a| a.deadline = Timestamp(1_800_000_001),
    ];
    for change in changes {
        let mut changed = allowance();
        change(&mut changed);
        assert!(matches!(
            verify(&changed, &domain()),
            Err(VerifyError::WrongSigner { .. })
        ));
    }
}

#[test]
fn v_may_be_0_1_27_or_28_and_nothing_else() {
    let signed = allowance();
    let bytes = signed.signature.to_bytes();
    for v in 0..=u8::MAX {
        let mut form = bytes;
        form[64] = v;
        match (v, Signature65::from_bytes(&form)) {
            (0 | 1 | 27 | 28, Ok(signature)) => {
                let right = (v % 27 == 1) == signed.signature.odd_y();
                let form = Allowance {
                    signature,
                    ..signed.clone()
                };
                assert_eq!(verify(&form, &domain()).is_ok(), right, "v {v}");
            }
            (_, refused) => assert_eq!(refused, Err(ParseSignatureError::V), "v {v}"),
        }
    }
}

#[test]
fn the_other_half_of_a_signature_is_refused_though_it_recovers_on_the_chain() {
    let signature = allowance().signature;
    let high = B256::from(ORDER - U256::from_be_bytes(signature.s().0));
    assert_eq!(
        Signature65::new(signature.r(), high, !signature.odd_y()),
        Err(ParseSignatureError::HighS)
    );
}

#[test]
fn the_64_bytes_of_eip_2098_verify_as_the_65_do() {
    let signed = allowance();
    let mut compact = signed.signature.to_bytes()[..64].to_vec();
    if signed.signature.odd_y() {
        compact[32] |= 0x80;
    }
    let signature = Signature65::from_bytes_or_compact(&compact).unwrap();
    assert_eq!(signature, signed.signature);
    assert_eq!(
        Signature65::from_bytes(&compact),
        Err(ParseSignatureError::Length)
    );
    assert_eq!(
        verify(
            &Allowance {
                signature,
                ..signed
            },
            &domain()
        ),
        Ok(())
    );
}

#[test]
fn an_r_that_is_no_point_recovers_nobody() {
    // 5^3 + 7 has no square root modulo the field's prime: no point has the x coordinate 5.
    let signature =
        Signature65::new(B256::with_last_byte(5), B256::with_last_byte(1), false).unwrap();
    assert_eq!(
        recover(B256::with_last_byte(1), &signature),
        Err(RecoverError)
    );
    let forged = Allowance {
        signature,
        ..allowance()
    };
    assert_eq!(
        verify(&forged, &domain()),
        Err(VerifyError::Unrecoverable(RecoverError))
    );
}

#[test]
fn a_token_without_permit_is_paid_through_permit2_alone() {
    let domain = TokenDomain::permit2_only(ChainId::BSC, TOKEN);
    assert_eq!(
        (domain.name(), domain.version(), domain.has_own_domain()),
        (None, None, false)
    );
    let refused = Err(SignError::NoTokenDomain { token: TOKEN });
    assert_eq!(
        sign_allowance(&wallet(), &domain, &terms())
            .now_or_never()
            .unwrap(),
        refused
    );

    let transfer = Eip3009Terms {
        to: TOKEN,
        value: Amount::from(1_u64),
        valid_after: Timestamp(0),
        valid_before: Timestamp(1),
        nonce: B256::ZERO,
    };
    assert!(
        sign_eip3009(&wallet(), &domain, &transfer)
            .now_or_never()
            .unwrap()
            .is_err()
    );

    // Signed without this crate's refusal, it does not verify either.
    let mut forced = allowance();
    forced.signature = wallet().sign_hash_sync(&digest(&forced, &domain)).unwrap();
    assert_eq!(
        verify(&forced, &domain),
        Err(VerifyError::NoTokenDomain { token: TOKEN })
    );

    let once = OnceTerms {
        amount: Amount::from(1_u64),
        spender: TOKEN,
        nonce: U256::ONE,
        deadline: Timestamp(1),
        to: TOKEN,
        facilitator: TOKEN,
        valid_after: Timestamp(0),
    };
    let once = sign_once(&wallet(), &domain, &once)
        .now_or_never()
        .unwrap()
        .unwrap();
    assert_eq!(verify(&once, &domain), Ok(()));
}

/// A wallet that claims one address and signs with another's key, or not at all.
struct Broken(Option<LocalWallet>);

impl Wallet for Broken {
    fn address(&self) -> Address {
        wallet().address()
    }

    async fn sign_hash(&self, digest: &B256) -> Result<Signature65, WalletError> {
        match &self.0 {
            Some(key) => key.sign_hash(digest).await,
            None => Err(WalletError::Refused("policy".into())),
        }
    }
}

#[test]
fn a_wallet_with_the_wrong_key_is_found_before_anything_is_sent() {
    let wallet = Broken(Some(LocalWallet::from_hex(OTHER).unwrap()));
    let refused = sign_allowance(&wallet, &domain(), &terms())
        .now_or_never()
        .unwrap();
    assert!(matches!(
        refused,
        Err(SignError::Unverified(VerifyError::WrongSigner { .. }))
    ));
}

#[test]
fn a_wallets_refusal_is_passed_on() {
    let refused = sign_allowance(&Broken(None), &domain(), &terms())
        .now_or_never()
        .unwrap();
    assert_eq!(
        refused,
        Err(SignError::Wallet(WalletError::Refused("policy".into())))
    );
}

#[test]
fn a_key_is_read_with_or_without_prefix_and_space() {
    let bare = KEY.strip_prefix("0x").unwrap();
    let upper = format!("0X{}", bare.to_uppercase());
    for form in [KEY, bare, &upper, &format!(" {KEY}\r\n")] {
        assert_eq!(
            LocalWallet::from_hex(form).unwrap().address(),
            wallet().address()
        );
    }
}

#[test]
fn a_bad_key_says_what_is_wrong_and_never_itself() {
    let bare = KEY.strip_prefix("0x").unwrap();
    let order = format!("{ORDER:064x}");
    let cases = [
        (String::new(), ParseKeyError::Length),
        (bare[..63].to_owned(), ParseKeyError::Length),
        (format!("{bare}00"), ParseKeyError::Length),
        (format!("0x0x{}", &bare[..62]), ParseKeyError::NotHex),
        (format!("{}g", &bare[..63]), ParseKeyError::NotHex),
        (format!("{}é", &bare[..62]), ParseKeyError::NotHex),
        ("0".repeat(64), ParseKeyError::OutOfRange),
        (order, ParseKeyError::OutOfRange),
        ("f".repeat(64), ParseKeyError::OutOfRange),
    ];
    for (text, expected) in cases {
        let refused = LocalWallet::from_hex(&text).unwrap_err();
        assert_eq!(refused, expected, "{} characters", text.len());
        for shown in [refused.to_string(), format!("{refused:?}")] {
            assert!(text.len() < 8 || !shown.contains(&text[..8]));
        }
    }
}

#[test]
fn debug_shows_neither_key_nor_signature() {
    let bare = KEY.strip_prefix("0x").unwrap();
    let shown = format!("{:?} {:#?}", wallet(), wallet());
    assert!(!shown.to_lowercase().contains(&bare[..8]));
    assert!(
        shown
            .to_lowercase()
            .contains("0x2c7536e3605d9c16a7a3d7b1898e529396a65c23")
    );

    let signed = allowance();
    let r = signed.signature.r().to_string();
    assert!(!format!("{signed:?}").contains(&r[2..10]));
}

#[test]
fn a_future_of_a_shared_wallet_can_move_between_threads() {
    fn send<T: Send>(value: T) -> T {
        value
    }
    let wallet = std::sync::Arc::new(wallet());
    let (domain, terms) = (domain(), terms());
    let signed = send(sign_allowance(&wallet, &domain, &terms))
        .now_or_never()
        .unwrap()
        .unwrap();
    assert_eq!(signed, allowance());
}
