//! What proves that a transaction settled this payment, and no other, whoever sent it.
//!
//! A transfer of the right amount is not enough: a payer may make two payments of one amount, and whoever settles the
//! one could show it for the other. A transfer by EIP-3009 names its nonce in an event of the token. Permit2 does not:
//! there the transaction itself must be the x402 proxy's `settle` of just this permit. Called by way of another
//! contract it is not recognised: what such a transaction holds proves nothing.

use core::ops::RangeInclusive;
use std::collections::BTreeSet;

use alloy_sol_types::{SolCall, SolEvent};
use tollgate_bsc::{
    Chain, ChainError, ChainTransaction, Claim, ItemEvidence, LogFilter, TokenTransfer, evidence,
};
use tollgate_contracts::abi::{ExactProxy, IEip3009, IErc20, UptoProxy};
use tollgate_x402::{Address, Amount, Authorization, B256, Exact};

/// A settlement that was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Seen {
    /// In a finalized block.
    Final { transaction: B256, block: u64 },
    /// In a block that is not final.
    Included { transaction: B256, block: u64 },
}

/// What a search came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Searched {
    /// The settlement.
    Found(Seen),
    /// None of the transactions is it, for good.
    Nothing,
    /// None is it among those that were looked at and can be seen; there are others.
    InPart,
}

/// What one transaction is to the payment.
enum Shown {
    /// Its settlement.
    Settled(Seen),
    /// Something else, for good.
    Other,
    /// It may be its settlement: no node shows it yet, or it is not final.
    Unseen,
}

/// A payment whose settlement is searched for.
pub(crate) struct Proof<'a> {
    chain: &'a Chain,
    signed: &'a Authorization,
    amount: Amount,
}

impl<'a> Proof<'a> {
    /// Of a once or exact payment, for the amount that is charged.
    pub(crate) const fn new(chain: &'a Chain, signed: &'a Authorization, amount: Amount) -> Self {
        Self {
            chain,
            signed,
            amount,
        }
    }

    /// The transactions of these blocks that may be its settlement by what the chain's events say, the newest first.
    ///
    /// # Errors
    /// Those of [`Chain::logs`]: not every node offers the search.
    pub(crate) async fn candidates(
        &self,
        blocks: RangeInclusive<u64>,
    ) -> Result<Vec<B256>, ChainError> {
        let payer = self.signed.owner().into_word();
        let topics = match self.signed {
            Authorization::Exact(Exact::Eip3009(signed)) => [
                IEip3009::AuthorizationUsed::SIGNATURE_HASH,
                payer,
                signed.nonce,
            ],
            _ => [
                IErc20::Transfer::SIGNATURE_HASH,
                payer,
                self.signed.payee().into_word(),
            ],
        };
        let filter = LogFilter {
            addresses: vec![self.signed.token()],
            topics: topics.map(Some).to_vec(),
            blocks,
        };
        let transfers = self.proxy().is_some();
        let mut found: Vec<_> = self
            .chain
            .logs(&filter)
            .await?
            .iter()
            .rev()
            .filter(|log| {
                !transfers || TokenTransfer::of(log).is_some_and(|it| it.amount == self.amount)
            })
            .map(|log| log.transaction)
            .collect();
        found.dedup();
        Ok(found)
    }

    /// The first of these transactions that settled the payment. At most so many are looked at; `others` are known to
    /// be something else, and those that turn out to be are added.
    ///
    /// # Errors
    /// Those of [`Chain::sight`] and [`Chain::transaction`]. They say nothing about the payment.
    pub(crate) async fn among(
        &self,
        transactions: &[B256],
        most: usize,
        others: &mut BTreeSet<B256>,
    ) -> Result<Searched, ChainError> {
        let (mut left, mut unseen) = (most, false);
        for hash in transactions {
            if others.contains(hash) {
                continue;
            }
            let Some(less) = left.checked_sub(1) else {
                return Ok(Searched::InPart);
            };
            left = less;
            match self.look(*hash).await? {
                Shown::Settled(seen) => return Ok(Searched::Found(seen)),
                Shown::Unseen => unseen = true,
                Shown::Other => {
                    others.insert(*hash);
                }
            }
        }
        Ok(if unseen {
            Searched::InPart
        } else {
            Searched::Nothing
        })
    }

    async fn look(&self, hash: B256) -> Result<Shown, ChainError> {
        let called = self.proxy();
        if let Some(proxy) = called {
            match self.chain.transaction(hash).await? {
                Some(transaction) if self.settled_by(&transaction, proxy) => {}
                Some(_) => return Ok(Shown::Other),
                // Of a node that is behind, or keeps no old ones.
                None => return Ok(Shown::Unseen),
            }
        }
        let sight = self.chain.sight(&[hash]).await?;
        let receipt = sight.receipts.first().and_then(Option::as_ref);
        // The receipt is what several nodes agreed on: the call is of it.
        let of_it = receipt.is_some_and(|receipt| {
            receipt.hash == hash && called.is_none_or(|proxy| receipt.to == Some(proxy))
        });
        let shown = evidence(&[self.claim()], receipt, &sight.heads);
        Ok(match shown.finality.block() {
            Some(block) if of_it && shown.items == [ItemEvidence::Moved] => {
                let (transaction, block) = (hash, block.number);
                Shown::Settled(if shown.finality.is_final() {
                    Seen::Final { transaction, block }
                } else {
                    Seen::Included { transaction, block }
                })
            }
            _ if shown.finality.is_final() => Shown::Other,
            _ => Shown::Unseen,
        })
    }

    /// The contract that a settling transaction must call itself.
    const fn proxy(&self) -> Option<Address> {
        match self.signed {
            Authorization::Once(signed) => Some(signed.spender),
            Authorization::Exact(Exact::Permit2(signed)) => Some(signed.spender),
            Authorization::Exact(Exact::Eip3009(_)) | Authorization::Allowance(_) => None,
        }
    }

    fn claim(&self) -> Claim {
        Claim::Transfer {
            token: self.signed.token(),
            from: self.signed.owner(),
            to: self.signed.payee(),
            value: self.amount,
            authorization: match self.signed {
                Authorization::Exact(Exact::Eip3009(signed)) => Some(signed.nonce),
                _ => None,
            },
        }
    }

    /// Whether a transaction is the proxy's settlement of this very permit, for this amount.
    fn settled_by(&self, transaction: &ChainTransaction, proxy: Address) -> bool {
        if transaction.to != Some(proxy) {
            return false;
        }
        let input = &transaction.input;
        let (nonce, settled) = match self.signed {
            Authorization::Once(signed) => {
                let settled = UptoProxy::settleCall::abi_decode(input)
                    .map(|call| (call.permit, call.amount, call.owner, call.witness.to))
                    .or_else(|_| {
                        UptoProxy::settleWithPermitCall::abi_decode(input)
                            .map(|call| (call.permit, call.amount, call.owner, call.witness.to))
                    })
                    .map(|(permit, moved, owner, to)| {
                        (permit.permitted.token, permit.nonce, moved, owner, to)
                    });
                (signed.nonce, settled)
            }
            Authorization::Exact(Exact::Permit2(signed)) => {
                let settled = ExactProxy::settleCall::abi_decode(input)
                    .map(|call| (call.permit, call.owner, call.witness.to))
                    .or_else(|_| {
                        ExactProxy::settleWithPermitCall::abi_decode(input)
                            .map(|call| (call.permit, call.owner, call.witness.to))
                    })
                    .map(|(permit, owner, to)| {
                        let moved = permit.permitted.amount;
                        (permit.permitted.token, permit.nonce, moved, owner, to)
                    });
                (signed.nonce, settled)
            }
            Authorization::Exact(Exact::Eip3009(_)) | Authorization::Allowance(_) => return false,
        };
        let signed = self.signed;
        let expected = (
            signed.token(),
            nonce,
            self.amount.get(),
            signed.owner(),
            signed.payee(),
        );
        settled.is_ok_and(|settled| settled == expected)
    }
}
