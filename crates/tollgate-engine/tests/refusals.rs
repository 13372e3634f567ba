//! Bad payments at the till: each gets its code and a sentence that helps, asks the chain nothing, and leaves nothing in
//! the ledger.

#[expect(dead_code, reason = "this file uses a part")]
mod common;

use common::*;
use tollgate_contracts::{
    addresses::{EXACT_PROXY, UPTO_PROXY},
    tokens::{USD1, USDT},
};
use tollgate_devchain::DEV_ACCOUNTS;
use tollgate_eip712::{
    AllowanceTerms, Eip3009Terms, OnceTerms, Permit2ExactTerms, TokenDomain, sign_allowance,
    sign_eip3009, sign_once, sign_permit2_exact,
};
use tollgate_ledger::Store;
use tollgate_payment::{Offer, Pricing};
use tollgate_x402::{
    Address, Amount, Authorization, B256, ChainId, ErrorCode, Exact, Network, PaymentPayload,
    PaymentRequirements, Signature65, Timestamp, U256,
};

/// What a payer signs, before a case spoils it.
struct Terms {
    /// Whose key signs.
    key: usize,
    /// Whose money it is said to be.
    owner: Option<usize>,
    chain: ChainId,
    token: Address,
    value: Amount,
    /// The spender of a permit, or who is paid.
    to: Address,
    proxy: Option<Address>,
    facilitator: Address,
    valid_after: Timestamp,
    deadline: Timestamp,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    Allowance,
    Once,
    Transfer,
    Permit2Exact,
}

const ELSEWHERE: Address = Address::repeat_byte(0xee);

impl Terms {
    fn good(world: &World, kind: Kind) -> Self {
        let exact = matches!(kind, Kind::Transfer | Kind::Permit2Exact);
        Self {
            key: PAYER,
            owner: None,
            chain: ChainId::DEV,
            token: USD1,
            value: dollars(if exact { 20 } else { 99 }),
            to: world.pay_to,
            proxy: None,
            facilitator: world.pay_to,
            valid_after: Timestamp(0),
            deadline: world.now().plus(3_600),
        }
    }

    async fn sign(&self, kind: Kind) -> Authorization {
        let key = wallet(self.key);
        let name = "World Liberty Financial USD";
        let domain = TokenDomain::new(name, "1", self.chain, self.token);
        let mut signed = match kind {
            Kind::Allowance => {
                let terms = AllowanceTerms {
                    spender: self.to,
                    value: self.value,
                    nonce: U256::ZERO,
                    deadline: self.deadline,
                };
                Authorization::Allowance(sign_allowance(&key, &domain, &terms).await.unwrap())
            }
            Kind::Once => {
                let terms = OnceTerms {
                    amount: self.value,
                    spender: self.proxy.unwrap_or(UPTO_PROXY),
                    nonce: U256::from(7),
                    deadline: self.deadline,
                    to: self.to,
                    facilitator: self.facilitator,
                    valid_after: self.valid_after,
                };
                Authorization::Once(sign_once(&key, &domain, &terms).await.unwrap())
            }
            Kind::Transfer => {
                let terms = Eip3009Terms {
                    to: self.to,
                    value: self.value,
                    valid_after: self.valid_after,
                    valid_before: self.deadline,
                    nonce: B256::repeat_byte(7),
                };
                let signed = sign_eip3009(&key, &domain, &terms).await.unwrap();
                Authorization::Exact(Exact::Eip3009(signed))
            }
            Kind::Permit2Exact => {
                let terms = Permit2ExactTerms {
                    amount: self.value,
                    spender: self.proxy.unwrap_or(EXACT_PROXY),
                    nonce: U256::from(7),
                    deadline: self.deadline,
                    to: self.to,
                    valid_after: self.valid_after,
                };
                let signed = sign_permit2_exact(&key, &domain, &terms).await.unwrap();
                Authorization::Exact(Exact::Permit2(signed))
            }
        };
        if let Some(owner) = self.owner {
            let owner = DEV_ACCOUNTS[owner].address;
            match &mut signed {
                Authorization::Allowance(signed) => signed.owner = owner,
                Authorization::Once(signed) => signed.owner = owner,
                Authorization::Exact(Exact::Eip3009(signed)) => signed.owner = owner,
                Authorization::Exact(Exact::Permit2(signed)) => signed.owner = owner,
            }
        }
        signed
    }
}

fn offer(world: &World, kind: Kind) -> Offer {
    match kind {
        Kind::Allowance | Kind::Once => world.metered(dollars(10)),
        Kind::Transfer | Kind::Permit2Exact => world.offer(Pricing::Fixed(dollars(20))),
    }
}

/// Sends what was signed for the entry of its kind, and expects this code, at no cost.
async fn refused(
    world: &World,
    kind: Kind,
    signed: &Authorization,
    echo: impl FnOnce(&mut PaymentRequirements),
    code: ErrorCode,
    what: &str,
) {
    let offer = offer(world, kind);
    let required = offer.required("payment_required");
    let place = usize::from(kind == Kind::Permit2Exact);
    let mut entry = required.accepts[place].clone();
    echo(&mut entry);
    let payload = PaymentPayload::answering(&required, &entry, signed);
    let calls = world.calls();
    let error = world
        .admit_payload(&offer, payload, B256::ZERO)
        .await
        .unwrap_err();
    assert_eq!(error.code, code, "{kind:?}: {what}: {error}");
    assert_eq!(error.code.status(), 402, "{kind:?}: {what}");
    assert!(error.message.contains(' '), "{kind:?}: {what}: {error}");
    assert_eq!(error.retry_after, None, "waiting does not help");
    assert_eq!(world.calls(), calls, "{kind:?}: {what}");
    assert_eq!(world.store.rows().iter().count(), 0, "{kind:?}: {what}");
    assert!(world.store.entries(0, 1).await.unwrap().is_empty());
}

/// What is wrong, how it is done to what would be good, and the code for each kind that can be so.
type Case = (&'static str, fn(&World, &mut Terms), Vec<(Kind, ErrorCode)>);

#[tokio::test]
async fn a_payment_that_was_signed_wrongly_is_refused_by_its_code_without_a_call_or_a_row() {
    use ErrorCode as Code;
    use Kind::{Allowance, Once, Permit2Exact, Transfer};
    let world = World::new(Backend::devchain().await, Setup::default()).await;
    let cases: Vec<Case> = vec![
        (
            "signed for another chain",
            |_, terms| terms.chain = ChainId(56),
            vec![
                (Allowance, Code::InvalidPermitSignature),
                (Once, Code::Permit2Signature),
                (Transfer, Code::InvalidEip3009Signature),
                (Permit2Exact, Code::Permit2Signature),
            ],
        ),
        (
            "signed for another token",
            |_, terms| terms.token = USDT,
            vec![
                (Allowance, Code::InvalidPermitSignature),
                (Once, Code::Permit2Token),
                (Transfer, Code::InvalidEip3009Signature),
                (Permit2Exact, Code::Permit2Token),
            ],
        ),
        (
            "to somebody else",
            |_, terms| terms.to = ELSEWHERE,
            vec![
                (Allowance, Code::RecipientMismatch),
                (Once, Code::Permit2Recipient),
                (Transfer, Code::RecipientMismatch),
                (Permit2Exact, Code::Permit2Recipient),
            ],
        ),
        (
            "through another proxy",
            |_, terms| terms.proxy = Some(ELSEWHERE),
            vec![
                (Once, Code::Permit2Spender),
                (Permit2Exact, Code::Permit2Spender),
            ],
        ),
        (
            "for another facilitator",
            |_, terms| terms.facilitator = ELSEWHERE,
            vec![(Once, Code::UptoFacilitator)],
        ),
        (
            "expired",
            |world, terms| terms.deadline = Timestamp(world.now().0 - 1),
            vec![
                (Allowance, Code::PaymentExpired),
                (Once, Code::Permit2Deadline),
                (Transfer, Code::ValidBefore),
                (Permit2Exact, Code::Permit2Deadline),
            ],
        ),
        (
            "expires before it can be served and settled",
            |world, terms| terms.deadline = world.now().plus(59),
            vec![
                (Allowance, Code::PaymentExpired),
                (Once, Code::Permit2Deadline),
                (Transfer, Code::ValidBefore),
                (Permit2Exact, Code::Permit2Deadline),
            ],
        ),
        (
            "signed for more than an hour beyond what was asked",
            |world, terms| terms.deadline = world.now().plus(86_400 + 3_601),
            vec![
                (Once, Code::Permit2Deadline),
                (Permit2Exact, Code::Permit2Deadline),
            ],
        ),
        (
            "the same, where the last second does not count",
            |world, terms| terms.deadline = world.now().plus(86_400 + 3_602),
            vec![(Transfer, Code::ValidBefore)],
        ),
        (
            "not yet valid",
            |world, terms| terms.valid_after = world.now().plus(1),
            vec![
                (Once, Code::Permit2NotYetValid),
                (Transfer, Code::ValidAfter),
                (Permit2Exact, Code::Permit2NotYetValid),
            ],
        ),
        (
            "valid from the next second on",
            |world, terms| terms.valid_after = world.now(),
            vec![(Transfer, Code::ValidAfter)],
        ),
        (
            "signed by another key than the owner's",
            |_, terms| terms.owner = Some(1),
            vec![
                (Allowance, Code::InvalidPermitSignature),
                (Once, Code::Permit2Signature),
                (Transfer, Code::InvalidEip3009Signature),
                (Permit2Exact, Code::Permit2Signature),
            ],
        ),
        (
            "nothing",
            |_, terms| terms.value = Amount::ZERO,
            vec![
                (Allowance, Code::AmountTooLow),
                (Once, Code::AmountTooLow),
                (Transfer, Code::ValueMismatch),
                (Permit2Exact, Code::AmountTooLow),
            ],
        ),
        (
            "less than the least",
            |_, terms| terms.value = Amount::from(DOLLAR / 100 - 1),
            vec![
                (Allowance, Code::AmountTooLow),
                (Once, Code::Permit2Amount),
                (Transfer, Code::ValueMismatch),
                (Permit2Exact, Code::Permit2Amount),
            ],
        ),
        (
            "more than an exact price",
            |_, terms| terms.value = Amount::new(U256::MAX),
            vec![
                (Transfer, Code::ValueMismatch),
                (Permit2Exact, Code::Permit2Amount),
            ],
        ),
    ];
    for (what, spoil, kinds) in cases {
        for (kind, code) in kinds {
            let mut terms = Terms::good(&world, kind);
            spoil(&world, &mut terms);
            let signed = terms.sign(kind).await;
            refused(&world, kind, &signed, |_| {}, code, what).await;
        }
    }
}

#[tokio::test]
async fn a_payment_that_is_signed_for_an_hour_beyond_what_was_asked_is_taken_and_an_allowance_for_longer()
 {
    for (kind, seconds) in [
        (Kind::Once, 86_400 + 3_600),
        // EIP-3009's `validBefore` is the first second that is too late.
        (Kind::Transfer, 86_400 + 3_601),
        (Kind::Permit2Exact, 86_400 + 3_600),
        (Kind::Allowance, 86_400 * 365),
    ] {
        let world = World::new(Backend::devchain().await, Setup::default()).await;
        world.approve_permit2(PAYER, U256::MAX).await;
        let mut terms = Terms::good(&world, kind);
        terms.deadline = world.now().plus(seconds);
        let signed = terms.sign(kind).await;
        let taken = world.admit(&offer(&world, kind), &signed).await;
        assert!(taken.is_ok(), "{kind:?}: {:?}", taken.err());
    }
}

#[tokio::test]
async fn a_client_that_echoes_another_offer_is_refused_and_its_echo_supplies_nothing() {
    use ErrorCode as Code;
    let world = World::new(Backend::devchain().await, Setup::default()).await;
    for kind in [
        Kind::Allowance,
        Kind::Once,
        Kind::Transfer,
        Kind::Permit2Exact,
    ] {
        let signed = Terms::good(&world, kind).sign(kind).await;
        let network = |entry: &mut PaymentRequirements| entry.network = Network::from(ChainId(56));
        refused(
            &world,
            kind,
            &signed,
            network,
            Code::InvalidNetwork,
            "network",
        )
        .await;
        let asset = |entry: &mut PaymentRequirements| entry.asset = USDT;
        let wrong = Code::InvalidPaymentRequirements;
        refused(&world, kind, &signed, asset, wrong, "asset").await;
        let payee = |entry: &mut PaymentRequirements| entry.pay_to = ELSEWHERE;
        refused(&world, kind, &signed, payee, wrong, "payTo").await;
    }
}

#[tokio::test]
async fn what_was_signed_for_another_scheme_buys_nothing() {
    let world = World::new(Backend::devchain().await, Setup::default()).await;
    // The payment names the scheme of the entry that it echoes, so what was signed gives it away.
    let cases = [
        (
            Kind::Allowance,
            Kind::Transfer,
            ErrorCode::InvalidPermitSignature,
        ),
        (Kind::Transfer, Kind::Allowance, ErrorCode::ValueMismatch),
        (Kind::Once, Kind::Permit2Exact, ErrorCode::UptoFacilitator),
        (
            Kind::Permit2Exact,
            Kind::Once,
            ErrorCode::UnsupportedPayloadType,
        ),
    ];
    for (offered, kind, code) in cases {
        let signed = Terms::good(&world, kind).sign(kind).await;
        refused(&world, offered, &signed, |_| {}, code, "another scheme").await;
    }
}

#[tokio::test]
async fn an_allowance_or_a_maximum_above_everything_reserves_the_worst_case_and_no_more() {
    let world = World::new(Backend::devchain().await, Setup::default()).await;
    world.approve_permit2(PAYER, U256::MAX).await;
    for kind in [Kind::Allowance, Kind::Once] {
        let mut terms = Terms::good(&world, kind);
        terms.value = Amount::new(U256::MAX);
        let signed = terms.sign(kind).await;
        let hold = world.admit(&offer(&world, kind), &signed).await.unwrap();
        assert_eq!(tollgate_payment::port::Hold::cap(&hold), dollars(10));
    }
}

#[tokio::test]
async fn the_other_form_of_a_signature_is_no_signature() {
    let world = World::new(Backend::devchain().await, Setup::default()).await;
    let signed = Terms::good(&world, Kind::Allowance)
        .sign(Kind::Allowance)
        .await;
    let mut bytes = signed.signature().to_bytes();
    // s and n - s are good for the same key: only the low one is taken (EIP-2).
    let order = U256::from_be_slice(&alloy_primitives::hex!(
        "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
    ));
    let high = order - U256::from_be_slice(&bytes[32..64]);
    bytes[32..64].copy_from_slice(&high.to_be_bytes::<32>());
    bytes[64] ^= 7;
    assert!(matches!(bytes[64], 27 | 28));
    assert!(Signature65::from_bytes(&bytes).is_err());
}

#[tokio::test]
async fn who_has_just_enough_after_a_settlement_waits_for_eight_blocks_and_is_served() {
    let mut world = World::new(Backend::devchain().await, Setup::default()).await;
    world.leave(PAYER, dollars(15)).await;
    let first = world.transfer(PAYER, dollars(5), 1).await;
    let fixed = world.offer(Pricing::Fixed(dollars(5)));
    world.pay(&fixed, &first, dollars(5)).await;
    world.settle().await;
    assert_eq!(
        world.balance(DEV_ACCOUNTS[PAYER].address).await,
        dollars(10)
    );
    let signed = world.transfer(PAYER, dollars(10), 2).await;
    let fixed = world.offer(Pricing::Fixed(dollars(10)));
    let refused = world.admit(&fixed, &signed).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::CreditExhausted);
    assert!(refused.retry_after.is_some(), "{refused:?}");
    world.chain.mine_blocks(8).await;
    world.admit(&fixed, &signed).await.unwrap();
}
