//! What a seller tells of a payment, with the receipt that it signed.

use tollgate_client::{PaymentTold, audit_receipt};
use tollgate_x402::{
    Address, Allowance, Amount, Authorization, B256, ChainId, Limits, PaymentStatus, Signature65,
    Timestamp, U256,
};

const ONE: B256 = B256::with_last_byte(1);

/// A state is read whatever stands beside it, and whatever is signed is held against what was paid with.
pub fn check(data: &[u8]) {
    let limits = &Limits::DEFAULT;
    let Ok(told) = PaymentTold::parse_body(data, limits) else {
        return;
    };
    let written = told.status.to_json();
    let again = PaymentStatus::parse_body(written.as_bytes(), limits);
    assert_eq!(again.map(|again| again.to_json()), Ok(written));
    let Ok(signature) = Signature65::new(ONE, ONE, false) else {
        return;
    };
    let findings = audit_receipt(&authorization(signature), B256::ZERO, &told);
    assert!(
        told.receipt.is_some() || findings.is_empty(),
        "nothing is wrong with no receipt"
    );
    // No receipt is of an authorization whose digest is zero, but for one that says so.
    assert!(told.receipt.is_none() || !findings.is_empty() || names_zero(&told));
    for finding in findings {
        assert!(!finding.to_string().is_empty());
    }
}

fn names_zero(told: &PaymentTold) -> bool {
    told.signed()
        .is_some_and(|signed| signed.payload.authorization.is_zero())
}

fn authorization(signature: Signature65) -> Authorization {
    Authorization::Allowance(Allowance {
        chain: ChainId(31337),
        token: Address::repeat_byte(1),
        owner: Address::repeat_byte(2),
        spender: Address::repeat_byte(3),
        value: Amount::from(1u64),
        nonce: U256::ZERO,
        deadline: Timestamp(1),
        signature,
    })
}
