//! Everything about one payer at one block.

use tollgate_contracts::lens;
use tollgate_x402::{Address, Amount, Authorization, B256, ChainId, Exact, Timestamp, U256};

use crate::ChainError;

/// What to read about a payer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayerQuery {
    /// The token.
    pub token: Address,
    /// The payer.
    pub owner: Address,
    /// Whose ERC-20 allowance: an allowance's spender, or Permit2.
    pub spender: Address,
    /// The Settler whose counter of token and owner to read, if one.
    pub settler: Option<Address>,
    /// Who receives: the treasury, or `payTo`. Asked whether the token has frozen it.
    pub payee: Address,
    /// Permit2's unordered nonce, whose bit to read.
    pub permit2_nonce: Option<U256>,
    /// The EIP-3009 nonce, whose state to read.
    pub eip3009_nonce: Option<B256>,
}

impl PayerQuery {
    /// What an authorization needs to be judged. The payee is who the authorization names; with a Settler the treasury
    /// is to be told by [`PayerQuery::with_payee`].
    #[must_use]
    pub fn of(authorization: &Authorization, settler: Option<Address>) -> Self {
        let base = Self {
            token: authorization.token(),
            owner: authorization.owner(),
            spender: tollgate_contracts::addresses::PERMIT2,
            settler,
            payee: Address::ZERO,
            permit2_nonce: None,
            eip3009_nonce: None,
        };
        match authorization {
            Authorization::Allowance(signed) => Self {
                spender: signed.spender,
                payee: signed.spender,
                ..base
            },
            Authorization::Once(signed) => Self {
                payee: signed.to,
                permit2_nonce: Some(signed.nonce),
                ..base
            },
            Authorization::Exact(Exact::Permit2(signed)) => Self {
                payee: signed.to,
                permit2_nonce: Some(signed.nonce),
                ..base
            },
            Authorization::Exact(Exact::Eip3009(signed)) => Self {
                payee: signed.to,
                eip3009_nonce: Some(signed.nonce),
                ..base
            },
        }
    }

    /// The same, with this receiver.
    #[must_use]
    pub const fn with_payee(mut self, payee: Address) -> Self {
        self.payee = payee;
        self
    }

    pub(crate) fn lens(&self) -> lens::Query {
        lens::Query {
            token: self.token,
            owner: self.owner,
            spender: self.spender,
            settler: self.settler.unwrap_or_default(),
            payee: self.payee,
            permit2Word: self.permit2_nonce.unwrap_or_default().wrapping_shr(8),
            eip3009Nonce: self.eip3009_nonce.unwrap_or_default(),
        }
    }
}

/// What the chain says of a payer, at one block. An `Option` is `None` where the token or contract has no such thing,
/// or where it was not asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayerState {
    /// The block.
    pub block: u64,
    /// The block's timestamp, in seconds: a node that lags shows here.
    pub timestamp: Timestamp,
    /// The token balance, in atomic units.
    pub balance: Amount,
    /// The ERC-20 allowance of the query's spender, in atomic units.
    pub allowance: Amount,
    /// The ERC-20 allowance of Permit2, in atomic units.
    pub permit2_allowance: Amount,
    /// ERC-2612 `nonces(owner)`: the nonce of the next permit.
    pub permit_nonce: Option<U256>,
    /// Whether the bit of Permit2's nonce is set: used or voided. It is no evidence of a payment.
    pub permit2_nonce_used: Option<bool>,
    /// EIP-3009 `authorizationState`: used or cancelled. It is no evidence of a payment.
    pub authorization_used: Option<bool>,
    /// The Settler's counter of token and owner, in atomic units.
    pub counter: Option<Amount>,
    /// Whether the token is paused.
    pub paused: Option<bool>,
    /// Whether the token has frozen the payer.
    pub owner_frozen: Option<bool>,
    /// Whether the token has frozen the receiver.
    pub payee_frozen: Option<bool>,
    /// The code at the payer's address.
    pub owner_code: OwnerCode,
    /// The payer's BNB, in wei.
    pub native_balance: U256,
}

/// The code at a payer's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerCode {
    /// None: a plain account.
    None,
    /// An account that delegates by EIP-7702; its key can still sign.
    Delegated(Address),
    /// A contract.
    Contract {
        /// The code's hash (EIP-1052).
        hash: B256,
    },
}

impl PayerState {
    /// Whether the nonce that was asked for, Permit2's or EIP-3009's, is used. It is no evidence of a payment.
    #[must_use]
    pub fn nonce_used(&self) -> bool {
        self.permit2_nonce_used == Some(true) || self.authorization_used == Some(true)
    }

    /// Reads what the lens returned.
    pub(crate) fn decode(
        query: &PayerQuery,
        chain: ChainId,
        returned: &[u8],
    ) -> Result<Self, Unread> {
        let state = lens::decode(returned)
            .map_err(|error| Unread::Malformed(format!("not a payer's state: {error}")))?;
        if state.chainId != U256::from(chain.0) {
            return Err(Unread::Chain(state.chainId.saturating_to()));
        }
        let no_token = Unread::Token;
        if state.tokenCodeSize.is_zero() {
            return Err(no_token);
        }
        let (Some(balance), Some(allowance), Some(permit2_allowance)) = (
            state.balance.get(),
            state.allowance.get(),
            state.permit2Allowance.get(),
        ) else {
            return Err(no_token);
        };
        let number = |value: U256| {
            u64::try_from(value)
                .map_err(|_| Unread::Malformed("a block number out of range".into()))
        };
        // Tokens answer selectors that they do not have: what the allow-list knows of one counts more.
        let known = tollgate_contracts::token(chain.0, query.token);
        let has_permit = known.is_none_or(|token| token.permit);
        let has_eip3009 = known.is_none_or(|token| token.eip3009);
        let has_freeze = known.is_none_or(|token| token.freeze_pause);
        Ok(Self {
            block: number(state.blockNumber)?,
            timestamp: Timestamp(number(state.timestamp)?),
            balance: Amount::new(balance),
            allowance: Amount::new(allowance),
            permit2_allowance: Amount::new(permit2_allowance),
            permit_nonce: state.nonce.get().filter(|_| has_permit),
            permit2_nonce_used: query.permit2_nonce.and_then(|nonce| {
                let bit = usize::from(nonce.byte(0));
                state.permit2Bitmap.get().map(|word| word.bit(bit))
            }),
            authorization_used: query
                .eip3009_nonce
                .filter(|_| has_eip3009)
                .and_then(|_| state.authorizationUsed.get()),
            counter: query
                .settler
                .and_then(|_| state.charged.get())
                .map(Amount::new),
            paused: state.paused.get().filter(|_| has_freeze),
            owner_frozen: state.ownerFrozen.get().filter(|_| has_freeze),
            payee_frozen: state.payeeFrozen.get().filter(|_| has_freeze),
            owner_code: if state.ownerCodeSize.is_zero() {
                OwnerCode::None
            } else if state.ownerDelegate.is_zero() {
                OwnerCode::Contract {
                    hash: state.ownerCodeHash,
                }
            } else {
                OwnerCode::Delegated(state.ownerDelegate)
            },
            native_balance: state.ownerNativeBalance,
        })
    }

    /// Whether two nodes say the same, whatever block they said it at.
    pub(crate) fn same_but_block(&self, other: &Self) -> bool {
        let other = Self {
            block: self.block,
            timestamp: self.timestamp,
            ..other.clone()
        };
        *self == other
    }
}

/// Why the lens's answer is not a state.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    Malformed(String),
    Chain(u64),
    Token,
}

impl Unread {
    pub(crate) fn into_error(
        self,
        endpoint: &str,
        expected: ChainId,
        token: Address,
    ) -> ChainError {
        let endpoint = endpoint.to_owned();
        match self {
            Self::Malformed(reason) => ChainError::Malformed { endpoint, reason },
            Self::Chain(actual) => ChainError::WrongChain {
                endpoint,
                expected,
                actual,
            },
            Self::Token => ChainError::NotAToken(token),
        }
    }
}
