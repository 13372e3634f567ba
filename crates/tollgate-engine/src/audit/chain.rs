//! The ledger against the finalized chain.

use std::collections::{BTreeMap, BTreeSet};

use alloy_sol_types::SolCall;
use tollgate_bsc::{
    BlockTag, CallRequest, Chain, ChainError, Heads, Movement, SettlementReceipt, SettlerEvent,
    TokenTransfer, TxReceipt, Verdict,
};
use tollgate_contracts::{abi::Settler, addresses::PERMIT2};
use tollgate_ledger::{RowKind, Store, StoreError};
use tollgate_payment::{
    Account, AuthorizationKey, Limit, PaymentRow, PaymentState, Row, RowKey, Rows, SignerKey,
    SpenderRow,
};
use tollgate_x402::{Address, Amount, B256, PaymentId};

use super::{
    Scan,
    report::{Invariant, Report},
};
use crate::{
    market::{Market, Markets},
    payees::signed_payee,
};

/// Transactions that are asked for at once.
const AT_ONCE: usize = 32;

/// Why a ledger was not held against the chain: nothing is known then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChainAuditError {
    /// The ledger.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The chain.
    #[error("the chain cannot be read: {0}")]
    Chain(#[from] ChainError),
}

/// A final payment, as far as the chain can tell of it.
struct Paid {
    id: PaymentId,
    owner: Address,
    token: Address,
    amount: Amount,
    block: u64,
    /// How it may have been moved: the first that the chain shows counts.
    movements: Vec<Movement>,
    /// The payer's own transfer, not a settlement.
    direct: bool,
}

/// Holds a ledger against the finalized chain, for the tokens of these markets.
///
/// Every final payment has its transfer; what the settlements moved is what was earned, to the unit; the `Settler`'s
/// counters and the accounts' nonces are the ledger's; and, where a node lets events be searched from `from_block` on
/// (default: the ledger's first final payment), the `Settler` never moved anything that the ledger does not know.
///
/// # Errors
/// [`ChainAuditError`]. A violated invariant is no error.
pub async fn audit_chain<S: Store>(
    store: &S,
    chain: &Chain,
    markets: &Markets,
    from_block: Option<u64>,
) -> Result<Report, ChainAuditError> {
    let finalized = chain.heads().await?.finalized.number;
    let mut found = Finals::default();
    let mut rows = Scan::new(store, RowKind::Payment);
    while let Some(page) = rows.next().await? {
        let signed = signed(store, &page, markets).await?;
        for row in &page {
            if let Row::Payment(payment) = row {
                found.take(payment, &signed, chain, markets);
            }
        }
    }
    let mut rows = Scan::new(store, RowKind::Batch);
    while let Some(page) = rows.next().await? {
        for row in &page {
            if let Row::Batch(batch) = row {
                found.hashes.extend(batch.sent.iter().map(|sent| sent.hash));
                if let (Some(nonce), false) = (batch.nonce(), batch.concluded()) {
                    found.open.entry(batch.signer).or_default().insert(nonce);
                }
            }
        }
    }
    let mut report = Report::default();
    found.transfers(store, chain, markets, &mut report).await?;
    counters(store, chain, markets, finalized, &mut report).await?;
    nonces(store, chain, markets, &found, &mut report).await?;
    let first = from_block.or(found.first).unwrap_or(finalized);
    found
        .strangers(chain, markets, first..=finalized, &mut report)
        .await;
    Ok(report)
}

/// What the ledger says is final.
#[derive(Default)]
struct Finals {
    transactions: BTreeMap<B256, Vec<Paid>>,
    first: Option<u64>,
    /// Every hash that the ledger knows.
    hashes: BTreeSet<B256>,
    /// Nonces of undecided batches.
    open: BTreeMap<SignerKey, BTreeSet<u64>>,
}

impl Finals {
    fn take(&mut self, payment: &PaymentRow, signed: &Rows, chain: &Chain, markets: &Markets) {
        let owner = payment.keys.owner;
        let PaymentState::Final { transaction, block } = payment.state else {
            return;
        };
        if owner.chain != chain.id() {
            return;
        }
        let Some(market) = markets.of(owner.chain, owner.token) else {
            return;
        };
        self.first = Some(self.first.map_or(block, |first| first.min(block)));
        self.hashes.insert(transaction);
        let direct = super::is_paid_off(payment);
        let payee = signed
            .authorization(&payment.keys.authorization)
            .and_then(|row| signed_payee(&row.signed))
            .unwrap_or(market.terms.pay_to);
        let paid = Paid {
            id: payment.keys.id,
            owner: owner.owner,
            token: owner.token,
            amount: payment.charge,
            block,
            movements: movements(payment, market, payee, direct),
            direct,
        };
        self.transactions.entry(transaction).or_default().push(paid);
    }

    /// Every final payment has its transfer, and nothing else was moved by those transactions.
    async fn transfers<S: Store>(
        &self,
        store: &S,
        chain: &Chain,
        markets: &Markets,
        report: &mut Report,
    ) -> Result<(), ChainAuditError> {
        let mut proven = Invariant::new(
            "transfers",
            "every final payment has its transfer, of exactly its charge, in a finalized block",
        );
        let mut moved: BTreeMap<Address, Amount> = BTreeMap::new();
        let hashes: Vec<B256> = self.transactions.keys().copied().collect();
        for part in hashes.chunks(AT_ONCE) {
            let sight = chain.sight(part).await?;
            for (hash, receipt) in part.iter().zip(&sight.receipts) {
                let paid = self.transactions.get(hash).map_or(&[][..], Vec::as_slice);
                one(
                    chain,
                    *hash,
                    paid,
                    receipt.as_ref(),
                    &sight.heads,
                    &mut proven,
                );
                if let Some(receipt) = receipt {
                    add_moved(&mut moved, receipt, markets, paid);
                }
            }
        }
        report.add(proven);

        let mut revenue = Invariant::new(
            "revenue",
            "what is earned for good is what the settlements moved, to the unit",
        );
        let totals = store.totals().await?;
        for market in markets.iter() {
            let token = market.terms.token;
            let sides = totals
                .0
                .get(&(market.terms.chain, token))
                .map(|totals| totals.account(Account::RevenueFinal))
                .unwrap_or_default();
            let earned = sides.credit.saturating_sub(sides.debit);
            let moved = moved.get(&token).copied().unwrap_or_default();
            revenue.check(earned == moved, || {
                format!("of {token} {earned} are earned for good, and {moved} were moved")
            });
        }
        report.add(revenue);
        Ok(())
    }

    /// Whether the `Settler` moved anything that the ledger does not know.
    async fn strangers(
        &self,
        chain: &Chain,
        markets: &Markets,
        blocks: core::ops::RangeInclusive<u64>,
        report: &mut Report,
    ) {
        let mut invariant = Invariant::new(
            "events",
            "the Settler moved nothing that the ledger does not know",
        );
        let settlers: BTreeSet<Address> = markets.iter().filter_map(Market::settler).collect();
        for settler in settlers {
            match chain.settler_events(settler, blocks.clone()).await {
                Ok(events) => {
                    for found in events {
                        let known = self.hashes.contains(&found.transaction)
                            || found.event.moved().is_none();
                        invariant.check(known, || {
                            format!(
                                "transaction {} in block {} moved {:?}, and is not in the ledger: `tollgate ledger reconcile --from-block {}` books it",
                                found.transaction, found.block, found.event.moved(), found.block
                            )
                        });
                    }
                }
                Err(error) => {
                    invariant.skipped = Some(format!(
                        "events cannot be searched ({error}); name a node that offers eth_getLogs"
                    ));
                }
            }
        }
        report.add(invariant);
    }
}

/// What the payments of a page were signed by, where that says who is paid.
async fn signed<S: Store>(store: &S, page: &[Row], markets: &Markets) -> Result<Rows, StoreError> {
    if !markets.pay_anyone() {
        return Ok(Rows::default());
    }
    let names = page.iter().filter_map(|row| match row {
        Row::Payment(payment) => Some(RowKey::Authorization(payment.keys.authorization)),
        _ => None,
    });
    store.read(names.collect()).await
}

/// How a payment may have been moved. `payee` is whom a plain account's claim paid.
fn movements(payment: &PaymentRow, market: &Market, payee: Address, direct: bool) -> Vec<Movement> {
    let transfer = |to| vec![Movement::Transfer { to }];
    if direct {
        return transfer(market.treasury);
    }
    match (payment.keys.authorization, market.settler()) {
        (AuthorizationKey::Permit { .. }, Some(settler)) => {
            let (from, to) = payment.interval.unwrap_or_default();
            vec![Movement::Interval {
                settler,
                treasury: market.treasury,
                from,
                to,
            }]
        }
        (AuthorizationKey::Permit { .. }, None) => transfer(market.treasury),
        (AuthorizationKey::Claim { .. }, None) => transfer(payee),
        (
            AuthorizationKey::Claim {
                verifying, nonce, ..
            },
            Some(settler),
        ) if verifying == PERMIT2 => vec![
            Movement::Once { settler, nonce },
            Movement::Permit2Exact { settler, nonce },
            // Anybody may bring an exact payment to the proxy.
            Movement::Transfer { to: settler },
        ],
        (AuthorizationKey::Claim { nonce, .. }, Some(settler)) => vec![
            Movement::Eip3009 {
                settler,
                nonce: nonce.into(),
            },
            // Anybody may execute a transfer that was signed to the Settler.
            Movement::Transfer { to: settler },
        ],
    }
}

/// One transaction and the payments that it is said to have paid.
fn one(
    chain: &Chain,
    hash: B256,
    paid: &[Paid],
    receipt: Option<&TxReceipt>,
    heads: &Heads,
    proven: &mut Invariant,
) {
    let mut plain: BTreeMap<(Address, Address, Address), Amount> = BTreeMap::new();
    for payment in paid {
        // A plain account moves what many payments charge in one transfer.
        if let [Movement::Transfer { to }] = payment.movements.as_slice() {
            let sum = plain
                .entry((payment.token, payment.owner, *to))
                .or_default();
            *sum = sum.saturating_add(payment.amount);
            continue;
        }
        let told = |movement| SettlementReceipt {
            payment: payment.id,
            chain: chain.id(),
            token: payment.token,
            owner: payment.owner,
            amount: payment.amount,
            transaction: hash,
            movement,
        };
        let verdicts: Vec<Verdict> = payment
            .movements
            .iter()
            .map(|movement| told(*movement).judge(receipt, heads))
            .collect();
        let good = verdicts.iter().any(
            |verdict| matches!(verdict, Verdict::Final(block) if block.number == payment.block),
        );
        proven.check(good, || {
            format!(
                "payment {} is final with {} in transaction {hash} of block {}, and the chain says {:?}",
                payment.id,
                payment.amount,
                payment.block,
                verdicts.first()
            )
        });
    }
    for ((token, owner, to), sum) in plain {
        let seen = receipt
            .filter(|receipt| receipt.success && heads.finality(receipt.block).is_final())
            .map_or(Amount::ZERO, |receipt| {
                transferred(receipt, token, owner, to)
            });
        proven.check(seen == sum, || {
            format!(
                "transaction {hash} paid {sum} of {token} from {owner} to {to}, says the ledger, and the finalized chain says {seen}"
            )
        });
    }
}

fn transferred(receipt: &TxReceipt, token: Address, from: Address, to: Address) -> Amount {
    receipt
        .logs
        .iter()
        .filter_map(TokenTransfer::of)
        .filter(|transfer| (transfer.token, transfer.from, transfer.to) == (token, from, to))
        .fold(Amount::ZERO, |sum, transfer| {
            sum.saturating_add(transfer.amount)
        })
}

/// What a transaction of ours moved, by token.
fn add_moved(
    moved: &mut BTreeMap<Address, Amount>,
    receipt: &TxReceipt,
    markets: &Markets,
    paid: &[Paid],
) {
    let mut add = |token, amount| {
        let sum = moved.entry(token).or_insert(Amount::ZERO);
        *sum = sum.saturating_add(amount);
    };
    // What a stranger executed, or the payer itself sent, is no event of the Settler.
    let mut others: BTreeSet<(Address, Address, Address)> = BTreeSet::new();
    for log in receipt.logs.iter().filter(|_| receipt.success) {
        let ours = markets
            .iter()
            .any(|market| market.settler() == Some(log.address));
        if let Some((token, amount)) = ours.then(|| SettlerEvent::of(log).moved()).flatten() {
            add(token, amount);
        }
    }
    let by_settler = receipt.logs.iter().any(|log| {
        markets
            .iter()
            .any(|market| market.settler() == Some(log.address))
    });
    for payment in paid {
        for movement in &payment.movements {
            if let Movement::Transfer { to } = movement
                && (payment.direct || !by_settler)
            {
                others.insert((payment.token, payment.owner, *to));
            }
        }
    }
    for (token, owner, to) in others {
        add(token, transferred(receipt, token, owner, to));
    }
}

/// The `Settler`'s counter of each payer is the ledger's.
async fn counters<S: Store>(
    store: &S,
    chain: &Chain,
    markets: &Markets,
    finalized: u64,
    report: &mut Report,
) -> Result<(), ChainAuditError> {
    let mut invariant = Invariant::new(
        "counters",
        "the Settler's counter of each payer stands where the ledger's does",
    );
    let mut rows = Scan::new(store, RowKind::Spender);
    while let Some(page) = rows.next().await? {
        for row in &page {
            let Row::Spender(SpenderRow {
                key,
                limit: Limit::Counter(counter),
                ..
            }) = row
            else {
                continue;
            };
            let settler = markets
                .of(key.owner.chain, key.owner.token)
                .and_then(Market::settler)
                .filter(|settler| *settler == key.spender && key.owner.chain == chain.id());
            let Some(settler) = settler else { continue };
            let charged =
                charged(chain, settler, key.owner.token, key.owner.owner, finalized).await?;
            // What is claimed may be final, and not concluded yet.
            let most = counter.claimed.max(counter.settled);
            invariant.check(charged >= counter.settled && charged <= most, || {
                format!(
                    "{}'s counter of {} stands at {charged} on the chain and at {} in the ledger",
                    key.owner.owner, key.owner.token, counter.settled
                )
            });
        }
    }
    report.add(invariant);
    Ok(())
}

/// The `Settler`'s counter of token and payer, in atomic units, as of a block.
pub(crate) async fn charged(
    chain: &Chain,
    settler: Address,
    token: Address,
    owner: Address,
    block: u64,
) -> Result<Amount, ChainError> {
    let request = CallRequest {
        to: Some(settler),
        input: Settler::chargedCall { token, owner }.abi_encode().into(),
        ..CallRequest::default()
    };
    let answer = chain.call_agreed(&request, BlockTag::Number(block)).await?;
    Settler::chargedCall::abi_decode_returns_validate(&answer)
        .map(Amount::new)
        .map_err(|error| ChainError::Malformed {
            endpoint: format!("the contract at {settler}"),
            reason: format!("it has no counter: {error}"),
        })
}

/// Every account's next nonce is the chain's and what is signed and undecided.
async fn nonces<S: Store>(
    store: &S,
    chain: &Chain,
    markets: &Markets,
    found: &Finals,
    report: &mut Report,
) -> Result<(), ChainAuditError> {
    let mut invariant = Invariant::new(
        "accounts",
        "an account's next nonce is the chain's and those of the undecided batches",
    );
    let mut rows = Scan::new(store, RowKind::Signer);
    while let Some(page) = rows.next().await? {
        for row in &page {
            let Row::Signer(row) = row else { continue };
            let account = row.key.operator;
            if row.key.chain != chain.id() || markets.are_requests(account) {
                continue;
            }
            let on_chain = chain.transaction_count(account, BlockTag::Latest).await?;
            invariant.check(on_chain <= row.next_nonce, || {
                format!(
                    "{account} has sent {on_chain} transactions, and the ledger knows of {}: the key is used elsewhere, or the ledger is an old copy",
                    row.next_nonce
                )
            });
            let none = BTreeSet::new();
            let open = found.open.get(&row.key).unwrap_or(&none);
            let missing = (on_chain..row.next_nonce).find(|nonce| !open.contains(nonce));
            invariant.check(missing.is_none(), || {
                format!(
                    "{account} is stuck: nonce {} was given away, and no undecided batch has it",
                    missing.unwrap_or_default()
                )
            });
        }
    }
    report.add(invariant);
    Ok(())
}
