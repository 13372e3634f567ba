//! The verifier over a chain: one read a cold payer.

use std::sync::Arc;

use tollgate_bsc::{Chain, OwnerCode, PayerQuery, PayerState};
use tollgate_payment::{
    command::{Funds, SpenderFunds},
    port::{Verifier, VerifyError},
};
use tollgate_x402::{Authorization, Clock, ErrorCode, Exact};

use crate::market::Markets;

/// Reads payers' funds from a chain.
#[derive(Clone)]
pub struct ChainVerifier {
    chain: Chain,
    markets: Markets,
    clock: Arc<dyn Clock>,
    max_head_age: u64,
}

impl std::fmt::Debug for ChainVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChainVerifier")
            .field("markets", &self.markets)
            .finish_non_exhaustive()
    }
}

impl ChainVerifier {
    /// A verifier. A node whose newest block is older than `max_head_age` seconds lags, and is not believed.
    pub const fn new(
        chain: Chain,
        markets: Markets,
        clock: Arc<dyn Clock>,
        max_head_age: u64,
    ) -> Self {
        Self {
            chain,
            markets,
            clock,
            max_head_age,
        }
    }
}

impl Verifier for ChainVerifier {
    async fn funds(&self, authorization: &Authorization) -> Result<Funds, VerifyError> {
        let market = self
            .markets
            .of(authorization.chain(), authorization.token())
            .ok_or_else(|| {
                refused(
                    ErrorCode::InvalidPaymentRequirements,
                    "this token is not sold for",
                )
            })?;
        let settler = match authorization {
            Authorization::Allowance(_) => market.settler(),
            Authorization::Once(_) | Authorization::Exact(_) => None,
        };
        let mut query = PayerQuery::of(authorization, settler);
        if market.settler || matches!(authorization, Authorization::Allowance(_)) {
            // The money goes on to it at once.
            query = query.with_payee(market.treasury);
        }
        let state = self
            .chain
            .payer(&query)
            .await
            .map_err(|error| VerifyError::Unavailable(error.to_string()))?;
        let now = self.clock.now();
        if now.since(state.timestamp) > self.max_head_age {
            return Err(VerifyError::Unavailable(format!(
                "the node's newest block is {} s old",
                now.since(state.timestamp)
            )));
        }
        let spender = judge(authorization, settler.is_some(), &state)?;
        Ok(Funds {
            block: state.block,
            at: now,
            balance: state.balance,
            spender,
        })
    }
}

fn refused(code: ErrorCode, message: &str) -> VerifyError {
    VerifyError::Refused {
        code,
        message: message.to_owned(),
    }
}

/// What can be said against a payment, and what its spender may draw.
fn judge(
    authorization: &Authorization,
    settler: bool,
    state: &PayerState,
) -> Result<SpenderFunds, VerifyError> {
    if state.paused == Some(true) {
        return Err(VerifyError::Unavailable("the token is paused".to_owned()));
    }
    if state.payee_frozen == Some(true) {
        return Err(VerifyError::Unavailable(
            "the token has frozen the seller's account".to_owned(),
        ));
    }
    if state.owner_frozen == Some(true) {
        return Err(refused(
            ErrorCode::PayerRefused,
            "the token has frozen this payer",
        ));
    }
    let permit2 = |nonce_used: Option<bool>| {
        if nonce_used != Some(false) {
            return Err(refused(
                ErrorCode::Permit2NonceUsed,
                ErrorCode::Permit2NonceUsed.advice(),
            ));
        }
        // Permit2 asks code at the payer's address instead of the key, and code can change its mind after the service.
        if state.owner_code != OwnerCode::None {
            return Err(refused(
                ErrorCode::PayerIsContract,
                ErrorCode::PayerIsContract.advice(),
            ));
        }
        Ok(SpenderFunds::Seen {
            allowance: state.permit2_allowance,
        })
    };
    match authorization {
        Authorization::Allowance(_) => {
            let unreadable =
                || VerifyError::Unavailable("the token's nonces(owner) cannot be read".to_owned());
            if settler && state.counter.is_none() {
                return Err(VerifyError::Unavailable(
                    "the Settler's counter cannot be read".to_owned(),
                ));
            }
            Ok(SpenderFunds::Counter {
                nonce: state.permit_nonce.ok_or_else(unreadable)?,
                allowance: state.allowance,
                counter: state.counter,
            })
        }
        Authorization::Once(_) | Authorization::Exact(Exact::Permit2(_)) => {
            permit2(state.permit2_nonce_used)
        }
        Authorization::Exact(Exact::Eip3009(_)) => match state.authorization_used {
            Some(false) => Ok(SpenderFunds::None),
            Some(true) => Err(refused(
                ErrorCode::Eip3009NonceUsed,
                ErrorCode::Eip3009NonceUsed.advice(),
            )),
            None => Err(refused(
                ErrorCode::Eip3009NotSupported,
                ErrorCode::Eip3009NotSupported.advice(),
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use tollgate_x402::{Address, Amount, B256, ChainId, Eip3009, Signature65, Timestamp, U256};

    use super::*;

    fn state() -> PayerState {
        PayerState {
            block: 7,
            timestamp: Timestamp(100),
            balance: Amount::from(10u64),
            allowance: Amount::ZERO,
            permit2_allowance: Amount::from(9u64),
            permit_nonce: Some(U256::ZERO),
            permit2_nonce_used: Some(false),
            authorization_used: Some(false),
            counter: Some(Amount::ZERO),
            paused: Some(false),
            owner_frozen: Some(false),
            payee_frozen: Some(false),
            owner_code: OwnerCode::None,
            native_balance: U256::ZERO,
        }
    }

    fn transfer() -> Authorization {
        let one = B256::with_last_byte(1);
        Authorization::Exact(Exact::Eip3009(Eip3009 {
            chain: ChainId::DEV,
            token: Address::ZERO,
            owner: Address::ZERO,
            to: Address::ZERO,
            value: Amount::from(1u64),
            valid_after: Timestamp(0),
            valid_before: Timestamp(1),
            nonce: one,
            signature: Signature65::new(one, one, false).unwrap(),
        }))
    }

    fn code(result: Result<SpenderFunds, VerifyError>) -> Option<ErrorCode> {
        match result {
            Err(VerifyError::Refused { code, .. }) => Some(code),
            _ => None,
        }
    }

    #[test]
    fn a_used_nonce_and_a_frozen_payer_are_the_payers_fault_and_a_frozen_seller_is_not() {
        assert_eq!(judge(&transfer(), true, &state()), Ok(SpenderFunds::None));
        let used = PayerState {
            authorization_used: Some(true),
            ..state()
        };
        assert_eq!(
            code(judge(&transfer(), true, &used)),
            Some(ErrorCode::Eip3009NonceUsed)
        );
        let frozen = PayerState {
            owner_frozen: Some(true),
            ..state()
        };
        assert_eq!(
            code(judge(&transfer(), true, &frozen)),
            Some(ErrorCode::PayerRefused)
        );
        for ours in [
            PayerState {
                payee_frozen: Some(true),
                ..state()
            },
            PayerState {
                paused: Some(true),
                ..state()
            },
        ] {
            assert!(matches!(
                judge(&transfer(), true, &ours),
                Err(VerifyError::Unavailable(_))
            ));
        }
    }
}
