//! The calls that settle: calldata and gas limits, from what payers signed.
//!
//! What cannot be settled as given is refused here, before a transaction is made: an item for another contract or
//! payer than it says moves nothing and costs gas.

use alloy_sol_types::SolCall;
use tollgate_contracts::{
    abi::{ExactProxy, IEip3009, IErc20, IErc2612, Settler, UptoProxy},
    addresses,
    settler::{
        GAS_ALLOWANCE, GAS_EIP3009, GAS_ONCE, GAS_PERMIT, GAS_PERMIT2_EXACT, Items, Kind, MAX_ITEMS,
    },
};
use tollgate_x402::{
    Address, Allowance, Amount, Bytes, Eip3009, Exact, Once, Permit2Exact, Timestamp, U256,
};

use crate::{Call, CallRequest, Claim};

/// One part of a settlement by a `Settler`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettleItem {
    /// Draws the interval `from..to` of the counter of token and owner.
    Allowance {
        /// The token.
        token: Address,
        /// Whose money.
        owner: Address,
        /// The counter before, in atomic units.
        from: Amount,
        /// The counter after, in atomic units; above `from`.
        to: Amount,
        /// The permit to submit first, if the chain does not have it.
        permit: Option<Allowance>,
    },
    /// Settles a once authorization.
    Once {
        /// What was signed.
        signed: Once,
        /// How much of it, in atomic units.
        amount: Amount,
    },
    /// Settles an exact authorization.
    Exact(Exact),
}

/// Why an item cannot be settled as it is. A fault of ours: it should not have been admitted, or not like this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// There is nothing to settle.
    #[error("a settlement of no item")]
    Empty,
    /// More items than the Settler takes at once.
    #[error("{count} items, and the Settler takes at most 50; split the batch")]
    TooManyItems {
        /// How many.
        count: usize,
    },
    /// An interval of nothing, or backwards.
    #[error("item {item}: the interval is empty")]
    EmptyInterval {
        /// Which item.
        item: usize,
    },
    /// Nothing, or more than was signed.
    #[error("item {item}: the amount is 0 or above what was signed")]
    Amount {
        /// Which item.
        item: usize,
    },
    /// The permit is for another token, payer or spender.
    #[error("item {item}: the permit is of another token, payer or spender")]
    Permit {
        /// Which item.
        item: usize,
    },
    /// The money would go elsewhere, or only somebody else may settle it.
    #[error("item {item}: signed for another recipient, facilitator or proxy than this Settler's")]
    NotForSettler {
        /// Which item.
        item: usize,
    },
}

impl SettleItem {
    /// The token.
    #[must_use]
    pub const fn token(&self) -> Address {
        match self {
            Self::Allowance { token, .. } => *token,
            Self::Once { signed, .. } => signed.token,
            Self::Exact(Exact::Eip3009(signed)) => signed.token,
            Self::Exact(Exact::Permit2(signed)) => signed.token,
        }
    }

    /// How the Settler numbers the kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Allowance { .. } => Kind::Allowance,
            Self::Once { .. } => Kind::Once,
            Self::Exact(Exact::Eip3009(_)) => Kind::Eip3009,
            Self::Exact(Exact::Permit2(_)) => Kind::Permit2Exact,
        }
    }

    /// What the chain must show for the item to be settled by this Settler.
    #[must_use]
    pub fn claim(&self, settler: Address, treasury: Address) -> Claim {
        let pulled = |token, owner, nonce, value| Claim::Pulled {
            settler,
            kind: self.kind(),
            token,
            owner,
            nonce,
            value,
        };
        match self {
            Self::Allowance {
                token,
                owner,
                from,
                to,
                ..
            } => Claim::Interval {
                settler,
                treasury,
                token: *token,
                owner: *owner,
                from: *from,
                to: *to,
            },
            Self::Once { signed, amount } => {
                pulled(signed.token, signed.owner, signed.nonce, *amount)
            }
            Self::Exact(Exact::Eip3009(signed)) => pulled(
                signed.token,
                signed.owner,
                U256::from_be_bytes(signed.nonce.0),
                signed.value,
            ),
            Self::Exact(Exact::Permit2(signed)) => {
                pulled(signed.token, signed.owner, signed.nonce, signed.amount)
            }
        }
    }

    fn check(&self, settler: Address, item: usize) -> Result<(), CallError> {
        match self {
            Self::Allowance {
                token,
                owner,
                from,
                to,
                permit,
            } => {
                if to <= from {
                    return Err(CallError::EmptyInterval { item });
                }
                let fits = permit.as_ref().is_none_or(|permit| {
                    permit.token == *token && permit.owner == *owner && permit.spender == settler
                });
                fits.then_some(()).ok_or(CallError::Permit { item })
            }
            Self::Once { signed, amount } => {
                if amount.is_zero() || *amount > signed.amount {
                    return Err(CallError::Amount { item });
                }
                let fits = signed.to == settler
                    && signed.facilitator == settler
                    && signed.spender == addresses::UPTO_PROXY;
                fits.then_some(()).ok_or(CallError::NotForSettler { item })
            }
            Self::Exact(exact) => {
                let (amount, fits) = match exact {
                    Exact::Eip3009(signed) => (signed.value, signed.to == settler),
                    Exact::Permit2(signed) => (
                        signed.amount,
                        signed.to == settler && signed.spender == addresses::EXACT_PROXY,
                    ),
                };
                if amount.is_zero() {
                    return Err(CallError::Amount { item });
                }
                fits.then_some(()).ok_or(CallError::NotForSettler { item })
            }
        }
    }
}

/// `Settler.settle` with these items, in their order within each kind.
///
/// The gas limit gives every item its full share, even if all others burn theirs: 140,000 for an allowance (110,000
/// more with a permit), 280,000 for once, 200,000 for EIP-3009, 280,000 for Permit2 exact, and 12,000 and a 63rd more
/// each, beside 21,000 and the calldata.
///
/// # Errors
/// Every variant of [`CallError`].
pub fn settle(settler: Address, items: &[SettleItem]) -> Result<Call, CallError> {
    if items.is_empty() {
        return Err(CallError::Empty);
    }
    if items.len() > MAX_ITEMS {
        return Err(CallError::TooManyItems { count: items.len() });
    }
    let mut call = Settler::settleCall {
        allowances: Vec::new(),
        onces: Vec::new(),
        exacts: Vec::new(),
        permit2Exacts: Vec::new(),
    };
    let mut count = Items::default();
    for (place, item) in items.iter().enumerate() {
        item.check(settler, place)?;
        let counted = match item {
            SettleItem::Allowance { permit, .. } => match permit {
                Some(_) => &mut count.allowances_with_permit,
                None => &mut count.allowances,
            },
            SettleItem::Once { .. } => &mut count.onces,
            SettleItem::Exact(Exact::Eip3009(_)) => &mut count.eip3009,
            SettleItem::Exact(Exact::Permit2(_)) => &mut count.permit2_exacts,
        };
        *counted = counted.saturating_add(1);
        match item.encoded() {
            Encoded::Allowance(item) => call.allowances.push(item),
            Encoded::Once(item) => call.onces.push(item),
            Encoded::Eip3009(item) => call.exacts.push(item),
            Encoded::Permit2Exact(item) => call.permit2Exacts.push(item),
        }
    }
    let input: Bytes = call.abi_encode().into();
    Ok(Call {
        to: settler,
        gas_limit: count.transaction_gas(&input),
        input,
    })
}

/// The call of one item that the Settler makes of itself: to simulate why an item would fail, since `settle` itself
/// does not revert.
#[must_use]
pub fn simulate(settler: Address, item: &SettleItem) -> CallRequest {
    let input = match item.encoded() {
        Encoded::Allowance(item) => Settler::runAllowanceCall { item }.abi_encode(),
        Encoded::Once(item) => Settler::runOnceCall { item }.abi_encode(),
        Encoded::Eip3009(item) => Settler::runEip3009Call { item }.abi_encode(),
        Encoded::Permit2Exact(item) => Settler::runPermit2ExactCall { item }.abi_encode(),
    };
    let input: Bytes = input.into();
    let gas = match item {
        SettleItem::Allowance { permit: None, .. } => GAS_ALLOWANCE,
        SettleItem::Allowance { .. } => GAS_ALLOWANCE.saturating_add(GAS_PERMIT),
        SettleItem::Once { .. } => GAS_ONCE,
        SettleItem::Exact(Exact::Eip3009(_)) => GAS_EIP3009,
        SettleItem::Exact(Exact::Permit2(_)) => GAS_PERMIT2_EXACT,
    };
    CallRequest {
        from: Some(settler),
        to: Some(settler),
        // As much as the item gets in a batch, and what a transaction costs before it runs.
        gas: Some(Items::default().transaction_gas(&input).saturating_add(gas)),
        gas_price: None,
        input,
    }
}

enum Encoded {
    Allowance(Settler::AllowanceItem),
    Once(Settler::OnceItem),
    Eip3009(Settler::Eip3009Item),
    Permit2Exact(Settler::Permit2ExactItem),
}

impl SettleItem {
    fn encoded(&self) -> Encoded {
        match self {
            Self::Allowance {
                token,
                owner,
                from,
                to,
                permit,
            } => Encoded::Allowance(Settler::AllowanceItem {
                token: *token,
                owner: *owner,
                from: from.get(),
                to: to.get(),
                permit: permit.as_ref().map_or(
                    // No permit, by v = 0.
                    Settler::Permit {
                        value: U256::ZERO,
                        deadline: U256::ZERO,
                        v: 0,
                        r: Default::default(),
                        s: Default::default(),
                    },
                    |permit| Settler::Permit {
                        value: permit.value.get(),
                        deadline: seconds(permit.deadline),
                        v: permit.signature.v(),
                        r: permit.signature.r(),
                        s: permit.signature.s(),
                    },
                ),
            }),
            Self::Once { signed, amount } => Encoded::Once(Settler::OnceItem {
                token: signed.token,
                owner: signed.owner,
                permitted: signed.amount.get(),
                amount: amount.get(),
                nonce: signed.nonce,
                deadline: seconds(signed.deadline),
                validAfter: seconds(signed.valid_after),
                signature: Bytes::copy_from_slice(&signed.signature.to_bytes()),
            }),
            Self::Exact(Exact::Eip3009(signed)) => Encoded::Eip3009(Settler::Eip3009Item {
                token: signed.token,
                owner: signed.owner,
                amount: signed.value.get(),
                validAfter: seconds(signed.valid_after),
                validBefore: seconds(signed.valid_before),
                nonce: signed.nonce,
                v: signed.signature.v(),
                r: signed.signature.r(),
                s: signed.signature.s(),
            }),
            Self::Exact(Exact::Permit2(signed)) => {
                Encoded::Permit2Exact(Settler::Permit2ExactItem {
                    token: signed.token,
                    owner: signed.owner,
                    amount: signed.amount.get(),
                    nonce: signed.nonce,
                    deadline: seconds(signed.deadline),
                    validAfter: seconds(signed.valid_after),
                    signature: Bytes::copy_from_slice(&signed.signature.to_bytes()),
                })
            }
        }
    }
}

/// `Settler.sweep`: moves what landed in the Settler to its treasury. Anybody may call it. Gas limit: the calldata and
/// 140,000.
#[must_use]
pub fn sweep(settler: Address, token: Address) -> Call {
    plain(settler, &Settler::sweepCall { token }, GAS_ALLOWANCE)
}

/// A plain account's `permit`. Gas limit: the calldata and 110,000.
#[must_use]
pub fn permit(signed: &Allowance) -> Call {
    let call = IErc2612::permitCall {
        owner: signed.owner,
        spender: signed.spender,
        value: signed.value.get(),
        deadline: seconds(signed.deadline),
        v: signed.signature.v(),
        r: signed.signature.r(),
        s: signed.signature.s(),
    };
    plain(signed.token, &call, GAS_PERMIT)
}

/// A plain account's `transferFrom`, of `value` atomic units. Gas limit: the calldata and 140,000.
#[must_use]
pub fn transfer_from(token: Address, owner: Address, to: Address, value: Amount) -> Call {
    let call = IErc20::transferFromCall {
        from: owner,
        to,
        value: value.get(),
    };
    plain(token, &call, GAS_ALLOWANCE)
}

/// A plain account's call of the upto proxy, for `amount` atomic units; the account must be the witness's
/// `facilitator`. Gas limit: the calldata and 280,000.
#[must_use]
pub fn upto_settle(signed: &Once, amount: Amount) -> Call {
    let call = UptoProxy::settleCall {
        permit: UptoProxy::PermitTransferFrom {
            permitted: UptoProxy::TokenPermissions {
                token: signed.token,
                amount: signed.amount.get(),
            },
            nonce: signed.nonce,
            deadline: seconds(signed.deadline),
        },
        amount: amount.get(),
        owner: signed.owner,
        witness: UptoProxy::Witness {
            to: signed.to,
            facilitator: signed.facilitator,
            validAfter: seconds(signed.valid_after),
        },
        signature: Bytes::copy_from_slice(&signed.signature.to_bytes()),
    };
    plain(signed.spender, &call, GAS_ONCE)
}

/// A plain account's call of the exact proxy. Gas limit: the calldata and 280,000.
#[must_use]
pub fn exact_settle(signed: &Permit2Exact) -> Call {
    let call = ExactProxy::settleCall {
        permit: ExactProxy::PermitTransferFrom {
            permitted: ExactProxy::TokenPermissions {
                token: signed.token,
                amount: signed.amount.get(),
            },
            nonce: signed.nonce,
            deadline: seconds(signed.deadline),
        },
        owner: signed.owner,
        witness: ExactProxy::Witness {
            to: signed.to,
            validAfter: seconds(signed.valid_after),
        },
        signature: Bytes::copy_from_slice(&signed.signature.to_bytes()),
    };
    plain(signed.spender, &call, GAS_PERMIT2_EXACT)
}

/// A plain account's `transferWithAuthorization`, in the `(v, r, s)` form that all BSC tokens with EIP-3009 have. Gas
/// limit: the calldata and 200,000.
#[must_use]
pub fn transfer_with_authorization(signed: &Eip3009) -> Call {
    let call = IEip3009::transferWithAuthorizationCall {
        from: signed.owner,
        to: signed.to,
        value: signed.value.get(),
        validAfter: seconds(signed.valid_after),
        validBefore: seconds(signed.valid_before),
        nonce: signed.nonce,
        v: signed.signature.v(),
        r: signed.signature.r(),
        s: signed.signature.s(),
    };
    plain(signed.token, &call, GAS_EIP3009)
}

fn plain(to: Address, call: &impl SolCall, gas: u64) -> Call {
    let input: Bytes = call.abi_encode().into();
    Call {
        to,
        gas_limit: Items::default().transaction_gas(&input).saturating_add(gas),
        input,
    }
}

fn seconds(time: Timestamp) -> U256 {
    U256::from(time.0)
}

#[cfg(test)]
mod tests;
