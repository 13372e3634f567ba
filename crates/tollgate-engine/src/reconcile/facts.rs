//! What the finalized chain shows of a seller's settlements, in its order.

use std::collections::{BTreeMap, BTreeSet};

use alloy_sol_types::{SolCall, SolEvent};
use tollgate_bsc::{
    Chain, ChainTransaction, Claim, LogFilter, SettlerEvent, TokenTransfer, TxReceipt, evidence,
};
use tollgate_contracts::{
    abi::{ExactProxy, IEip3009, IErc20, UptoProxy},
    addresses::{EXACT_PROXY, PERMIT2, UPTO_PROXY},
    settler::Kind,
};
use tollgate_payment::{AuthorizationKey, OwnerKey, SpenderKey};
use tollgate_x402::{Address, Amount, Authorization, B256, U256};

use super::{ReconcileError, calldata};
use crate::{
    market::{Market, Markets},
    payees::signed_payee,
};

/// Transactions that are asked for at once.
const AT_ONCE: usize = 32;

/// Something that was moved, for good.
#[derive(Clone, Debug)]
pub(super) struct Fact {
    pub(super) what: What,
    /// Whose money.
    pub(super) owner: OwnerKey,
    /// How much, in atomic units.
    pub(super) amount: Amount,
    pub(super) transaction: B256,
    pub(super) block: u64,
    /// The place of the log in its block.
    pub(super) index: u64,
    /// What was signed, where each payment pays whom its own authorization names.
    pub(super) signed: Option<Authorization>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    /// A draw on an allowance.
    Draw {
        spender: SpenderKey,
        /// The `Settler`'s counter before and after; a plain account has none.
        interval: Option<(Amount, Amount)>,
    },
    /// A once or exact payment.
    Claim { authorization: AuthorizationKey },
}

/// Everything that was moved in these blocks, and the transactions that moved it.
pub(super) struct Facts {
    pub(super) moved: Vec<Fact>,
    /// By hash, with their blocks.
    pub(super) transactions: BTreeMap<B256, (ChainTransaction, u64)>,
}

/// Searches the blocks, and believes only what the receipts prove.
pub(super) async fn gather(
    chain: &Chain,
    markets: &Markets,
    operator: Address,
    blocks: core::ops::RangeInclusive<u64>,
) -> Result<Facts, ReconcileError> {
    let mut hashes: Vec<(u64, B256)> = Vec::new();
    if markets.pay_anyone() {
        hashes = facilitated(chain, markets, operator, blocks.clone()).await?;
    }
    for market in markets
        .iter()
        .filter(|market| market.terms.chain == chain.id() && !markets.pay_anyone())
    {
        match market.settler() {
            Some(settler) => {
                let events = chain.settler_events(settler, blocks.clone()).await?;
                hashes.extend(events.iter().map(|found| (found.block, found.transaction)));
            }
            None => {
                for to in [market.treasury, market.terms.pay_to] {
                    let found = chain
                        .transfers_to(market.terms.token, to, blocks.clone())
                        .await?;
                    hashes.extend(found.iter().map(|found| (found.block, found.transaction)));
                }
            }
        }
    }
    hashes.sort_unstable();
    hashes.dedup();
    let mut facts = Facts {
        moved: Vec::new(),
        transactions: BTreeMap::new(),
    };
    for part in hashes.chunks(AT_ONCE) {
        let part: Vec<B256> = part.iter().map(|(_, hash)| *hash).collect();
        let sight = chain.sight(&part).await?;
        for (hash, receipt) in part.iter().zip(&sight.receipts) {
            let unproven = || ReconcileError::Unproven { transaction: *hash };
            let receipt = receipt.as_ref().ok_or_else(unproven)?;
            if !sight.heads.finality(receipt.block).is_final() {
                return Err(unproven());
            }
            let sent = chain.transaction(*hash).await?.ok_or_else(unproven)?;
            let before = facts.moved.len();
            read(&mut facts.moved, receipt, &sent, markets, operator)?;
            // Every event has its transfer, or one of the contracts is not what it should be.
            let claims: Vec<Claim> = facts
                .moved
                .iter()
                .skip(before)
                .map(|fact| fact.claim(markets))
                .collect::<Option<_>>()
                .ok_or_else(unproven)?;
            if !evidence(&claims, Some(receipt), &sight.heads).all_final() {
                return Err(unproven());
            }
            facts
                .transactions
                .insert(*hash, (sent, receipt.block.number));
        }
    }
    facts.moved.sort_by_key(|fact| (fact.block, fact.index));
    Ok(facts)
}

/// The transactions of a facilitator's account that used an authorization, whoever was paid: x402's proxies tell of each
/// settlement, and tokens of each transfer that was signed.
async fn facilitated(
    chain: &Chain,
    markets: &Markets,
    operator: Address,
    blocks: core::ops::RangeInclusive<u64>,
) -> Result<Vec<(u64, B256)>, ReconcileError> {
    let mut filters = vec![LogFilter {
        addresses: vec![UPTO_PROXY, EXACT_PROXY],
        topics: Vec::new(),
        blocks: blocks.clone(),
    }];
    let tokens: Vec<Address> = markets
        .iter()
        .filter(|market| market.terms.chain == chain.id() && market.terms.eip3009)
        .map(|market| market.terms.token)
        .collect();
    if !tokens.is_empty() {
        filters.push(LogFilter {
            addresses: tokens,
            topics: vec![Some(IEip3009::AuthorizationUsed::SIGNATURE_HASH)],
            blocks,
        });
    }
    let mut found: BTreeSet<(u64, B256)> = BTreeSet::new();
    for filter in filters {
        let logs = chain.logs(&filter).await?;
        found.extend(logs.iter().map(|log| (log.block.number, log.transaction)));
    }
    let found: Vec<_> = found.into_iter().collect();
    let mut ours = Vec::new();
    for part in found.chunks(AT_ONCE) {
        let hashes: Vec<B256> = part.iter().map(|(_, hash)| *hash).collect();
        for ((block, hash), receipt) in part.iter().zip(chain.receipts(&hashes).await?) {
            // It may be ours.
            let receipt = receipt.ok_or(ReconcileError::Unproven { transaction: *hash })?;
            // Others settle by the same contracts.
            if receipt.from == operator {
                ours.push((*block, *hash));
            }
        }
    }
    Ok(ours)
}

/// What a transaction moved for this seller.
fn read(
    facts: &mut Vec<Fact>,
    receipt: &TxReceipt,
    sent: &ChainTransaction,
    markets: &Markets,
    operator: Address,
) -> Result<(), ReconcileError> {
    if !receipt.success {
        return Ok(());
    }
    for log in &receipt.logs {
        let fact = |what, owner, amount| Fact {
            what,
            owner,
            amount,
            transaction: receipt.hash,
            block: receipt.block.number,
            index: log.index,
            signed: None,
        };
        let owner_of = |market: &Market, owner| OwnerKey {
            chain: market.terms.chain,
            token: market.terms.token,
            owner,
        };
        if let Some(settler) = markets
            .iter()
            .filter_map(Market::settler)
            .find(|settler| *settler == log.address)
        {
            let event = SettlerEvent::of(log);
            let Some((token, amount)) = event.moved() else {
                continue;
            };
            let market = markets
                .iter()
                .find(|market| market.terms.token == token && market.settler() == Some(settler))
                .ok_or(ReconcileError::OtherToken { token })?;
            match event {
                SettlerEvent::Charged {
                    owner, from, to, ..
                } => {
                    let owner = owner_of(market, owner);
                    let spender = SpenderKey {
                        owner,
                        spender: settler,
                    };
                    let interval = Some((from, to));
                    facts.push(fact(What::Draw { spender, interval }, owner, amount));
                }
                SettlerEvent::Pulled {
                    kind, owner, nonce, ..
                } => {
                    let verifying = if kind == Kind::Eip3009 {
                        token
                    } else {
                        PERMIT2
                    };
                    let authorization = AuthorizationKey::Claim {
                        chain: market.terms.chain,
                        verifying,
                        owner,
                        nonce,
                    };
                    let owner = owner_of(market, owner);
                    facts.push(fact(What::Claim { authorization }, owner, amount));
                }
                SettlerEvent::Other => {}
            }
            continue;
        }
        // A plain account: its calldata says which payment the transfer is of.
        let Some(transfer) = TokenTransfer::of(log).filter(|_| sent.from == operator) else {
            continue;
        };
        if markets.pay_anyone() {
            let known = markets
                .iter()
                .find(|market| market.terms.token == transfer.token);
            if let Some(market) = known
                && let Some(signed) = calldata::signed(sent, market.terms.chain)
                && signed.token() == transfer.token
                && signed.owner() == transfer.from
                && signed_payee(&signed) == Some(transfer.to)
            {
                let authorization = AuthorizationKey::of(&signed, B256::ZERO, PERMIT2);
                let owner = owner_of(market, transfer.from);
                let mut fact = fact(What::Claim { authorization }, owner, transfer.amount);
                fact.signed = Some(signed);
                facts.push(fact);
                // One call settles one payment.
                break;
            }
            continue;
        }
        let market = markets.iter().find(|market| {
            market.settler().is_none()
                && market.terms.token == transfer.token
                && [market.treasury, market.terms.pay_to].contains(&transfer.to)
        });
        if let Some(market) = market
            && let Some(what) = plain(sent, &transfer, market)
        {
            let owner = owner_of(market, transfer.from);
            facts.push(fact(what, owner, transfer.amount));
        }
    }
    Ok(())
}

/// What a plain account's call settles.
fn plain(sent: &ChainTransaction, transfer: &TokenTransfer, market: &Market) -> Option<What> {
    let chain = market.terms.chain;
    let claim = |verifying, owner, nonce| What::Claim {
        authorization: AuthorizationKey::Claim {
            chain,
            verifying,
            owner,
            nonce,
        },
    };
    let to = sent.to?;
    if to == transfer.token {
        if let Ok(call) = IErc20::transferFromCall::abi_decode_validate(&sent.input) {
            let owner = OwnerKey {
                chain,
                token: transfer.token,
                owner: call.from,
            };
            let spender = SpenderKey {
                owner,
                spender: sent.from,
            };
            return Some(What::Draw {
                spender,
                interval: None,
            });
        }
        let call =
            IEip3009::transferWithAuthorizationCall::abi_decode_validate(&sent.input).ok()?;
        return Some(claim(to, call.from, U256::from_be_bytes(call.nonce.0)));
    }
    if to == UPTO_PROXY {
        let call = UptoProxy::settleCall::abi_decode_validate(&sent.input).ok()?;
        return Some(claim(PERMIT2, call.owner, call.permit.nonce));
    }
    if to == EXACT_PROXY {
        let call = ExactProxy::settleCall::abi_decode_validate(&sent.input).ok()?;
        return Some(claim(PERMIT2, call.owner, call.permit.nonce));
    }
    None
}

impl Fact {
    /// What the token must show of it.
    fn claim(&self, markets: &Markets) -> Option<Claim> {
        let market = markets.of(self.owner.chain, self.owner.token)?;
        let (token, from, value) = (self.owner.token, self.owner.owner, self.amount);
        let signed = self.signed.as_ref().and_then(signed_payee);
        let to = match (&self.what, market.settler()) {
            (What::Draw { .. }, _) => market.treasury,
            (What::Claim { .. }, Some(settler)) => settler,
            (What::Claim { .. }, None) => signed.unwrap_or(market.terms.pay_to),
        };
        Some(Claim::Transfer {
            token,
            from,
            to,
            value,
            authorization: None,
        })
    }
}
