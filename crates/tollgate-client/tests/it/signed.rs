//! Signed receipts, held against what was signed for them and against the payment's status.

use alloy_primitives::{Address, B256};
use proptest::prelude::*;
use tollgate_client::{Finding, Paid, PaymentTold, Policy, SignedReceipt, audit_receipt};
use tollgate_eip712::{
    CounterInterval, LocalWallet, PaymentKind, TokenCounts, UsageReceipt, Version1, sign_statement,
};
use tollgate_x402::{Amount, ChainId, Limits, PaymentState, PaymentStatus, Timestamp};

use crate::seller::*;

/// The seller's key.
fn operator() -> LocalWallet {
    LocalWallet::from_bytes(&[9; 32]).unwrap()
}

async fn paid() -> Paid {
    let seller = Seller::new(|seen| match seen.payment {
        Some(_) => ok("{}"),
        None => demand(vec![upto()], "Payment required"),
    });
    let response = Buyer::at(&seller, Policy::default())
        .ask("{}")
        .await
        .unwrap();
    response.extensions().get::<Paid>().unwrap().clone()
}

fn status(paid: &Paid) -> PaymentStatus {
    let mut status = settled(paid.payer);
    status.updated_at = Timestamp(NOW + 5);
    status
}

/// What an honest seller says.
fn honest(paid: &Paid, status: &PaymentStatus) -> UsageReceipt {
    UsageReceipt {
        version: Version1,
        chain: ChainId::BSC,
        pay_to: PAYEE,
        payment: UsageReceipt::payment_digest(status.id),
        authorization: paid.digest(),
        request: B256::repeat_byte(1),
        kind: PaymentKind::Allowance,
        payer: paid.payer,
        token: USD1,
        amount: cents(1),
        model: "m".into(),
        tokens: TokenCounts {
            input: 1_000,
            output: 100,
        },
        counter: Some(CounterInterval {
            from: cents(4),
            to: cents(5),
        }),
        issued_at: status.updated_at,
    }
}

async fn sign(receipt: UsageReceipt) -> SignedReceipt {
    sign_statement(&operator(), receipt).await.unwrap()
}

/// The body in which a seller tells both.
fn body(status: &PaymentStatus, receipt: &SignedReceipt) -> Vec<u8> {
    let mut body: serde_json::Value = serde_json::from_str(&status.to_json()).unwrap();
    body["receipt"] = serde_json::to_value(receipt).unwrap();
    body.to_string().into_bytes()
}

fn told(body: &[u8]) -> PaymentTold {
    PaymentTold::parse_body(body, &Limits::DEFAULT).unwrap()
}

#[tokio::test]
async fn every_word_of_a_signed_receipt_is_held_against_what_is_known() {
    let paid = paid().await;
    let status = status(&paid);
    let right = sign(honest(&paid, &status)).await;
    let check = |body: &[u8]| audit_receipt(paid.authorization(), paid.digest(), &told(body));
    let right_body = body(&status, &right);
    assert_eq!(told(&right_body).signed(), Some(&right));
    assert_eq!(check(&right_body), []);
    assert_eq!(right.signer(), Ok(operator().address()));

    type Change = fn(&mut UsageReceipt);
    type Expected = fn(&Finding) -> bool;
    let changes: [(Change, Expected); 17] = [
        (
            |r| r.chain = ChainId::DEV,
            |f| matches!(f, Finding::Network { .. }),
        ),
        (
            |r| r.pay_to = Address::ZERO,
            |f| matches!(f, Finding::Payee { .. }),
        ),
        (
            |r| r.payment = B256::ZERO,
            |f| matches!(f, Finding::Payment { .. }),
        ),
        (
            |r| r.authorization = B256::ZERO,
            |f| matches!(f, Finding::Authorization { .. }),
        ),
        (
            |r| r.kind = PaymentKind::Once,
            |f| matches!(f, Finding::Kind { .. }),
        ),
        (
            |r| r.payer = Address::ZERO,
            |f| matches!(f, Finding::Payer { .. }),
        ),
        (|r| r.token = USDT, |f| matches!(f, Finding::Token { .. })),
        (
            |r| r.amount = cents(2),
            |f| matches!(f, Finding::Attested { .. }),
        ),
        (|r| r.amount = cents(2), |f| matches!(f, Finding::Interval)),
        (
            |r| r.model = "\u{1b}[2J".into(),
            |f| matches!(f, Finding::Model { .. }),
        ),
        (
            |r| r.tokens.input += 1,
            |f| matches!(f, Finding::Tokens { .. }),
        ),
        (
            |r| r.tokens.output += 1,
            |f| matches!(f, Finding::Tokens { .. }),
        ),
        (
            |r| r.counter.as_mut().unwrap().from = cents(3),
            |f| matches!(f, Finding::Interval),
        ),
        (
            |r| r.counter.as_mut().unwrap().to = cents(6),
            |f| matches!(f, Finding::Counter),
        ),
        (
            |r| {
                r.counter = Some(CounterInterval {
                    from: cents(5),
                    to: cents(6),
                });
            },
            |f| matches!(f, Finding::Counter),
        ),
        (|r| r.counter = None, |f| matches!(f, Finding::Counter)),
        (
            |r| r.issued_at = Timestamp(NOW - 1),
            |f| matches!(f, Finding::IssuedAt { .. }),
        ),
    ];
    for (number, (change, expected)) in changes.into_iter().enumerate() {
        // The seller says it itself.
        let mut wrong = honest(&paid, &status);
        change(&mut wrong);
        let findings = check(&body(&status, &sign(wrong.clone()).await));
        assert!(findings.iter().any(expected), "{number}: {findings:?}");
        for finding in findings {
            let text = finding.to_string();
            assert!(!text.is_empty() && !text.contains('\u{1b}'), "{text:?}");
            assert!(!finding.blocks());
        }
        // Somebody changes it on the way.
        let changed = SignedReceipt {
            payload: wrong,
            ..right.clone()
        };
        assert_ne!(changed.signer(), Ok(operator().address()), "{number}");
    }
    // The request's digest is the seller's to know: changed on the way it is found by who signed.
    let mut changed = right.clone();
    changed.payload.request = B256::ZERO;
    assert_ne!(changed.signer(), Ok(operator().address()));
}

#[tokio::test]
async fn a_receipt_of_nothing_or_one_that_cannot_be_read_is_found_and_none_is_not() {
    let paid = paid().await;
    let mut status = status(&paid);
    let right = sign(honest(&paid, &status)).await;
    let check = |body: &[u8]| audit_receipt(paid.authorization(), paid.digest(), &told(body));

    let mut unread: serde_json::Value = serde_json::from_slice(&body(&status, &right)).unwrap();
    for (place, value) in [
        ("/receipt/format", "jws"),
        ("/receipt/signature", "0x00"),
        ("/receipt/payload/version", "2"),
        ("/receipt", "signed"),
    ] {
        *unread.pointer_mut(place).unwrap() = value.into();
        let findings = check(unread.to_string().as_bytes());
        assert!(matches!(&findings[..], [Finding::Unreadable(_)]), "{place}");
        // What the state says is told all the same.
        assert_eq!(told(unread.to_string().as_bytes()).status, status);
    }
    assert_eq!(check(status.to_json().as_bytes()), []);
    status.charge = None;
    let findings = check(&body(&status, &right));
    assert!(findings.contains(&Finding::Attested {
        receipt: cents(1),
        status: None
    }));
    status.charge = Some(Amount::ZERO);
    status.state = PaymentState::Released;
    assert!(!check(&body(&status, &right)).is_empty());
}

#[tokio::test]
async fn where_a_plain_account_signs_for_itself_there_is_no_counter_to_tell_of() {
    let paid = paid().await;
    let status = status(&paid);
    let mut receipt = honest(&paid, &status);
    receipt.counter = None;
    receipt.pay_to = operator().address();
    let findings = audit_receipt(
        paid.authorization(),
        paid.digest(),
        &told(&body(&status, &sign(receipt).await)),
    );
    // Another payee than was signed for, and nothing else.
    assert!(
        matches!(&findings[..], [Finding::Payee { .. }]),
        "{findings:?}"
    );
}

proptest! {
    #[test]
    fn whatever_stands_where_the_receipt_is_takes_nothing_from_the_state(
        receipt in "[ -~]{0,80}|\\{\"format\":\"eip712\",[ -~]{0,80}\\}|null|\\[\\]|[0-9]{1,400}",
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        // No bytes are too strange.
        drop(PaymentTold::parse_body(&bytes, &Limits::DEFAULT));
        let state = settled(PAYEE).to_json();
        let Some((head, _)) = state.rsplit_once('}') else { unreachable!() };
        let body = format!("{head},\"receipt\":{receipt}}}");
        if let Ok(told) = PaymentTold::parse_body(body.as_bytes(), &Limits::DEFAULT) {
            prop_assert_eq!(told.status.to_json(), state);
            prop_assert!(told.signed().is_none());
            prop_assert_eq!(told.receipt.is_none(), receipt.trim() == "null");
        }
    }
}
