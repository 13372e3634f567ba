//! Facts become rows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tollgate_ledger::{Due, RowKind, Store, StoreError};
use tollgate_payment::{
    AuthorizationKey, BatchId, BatchRow, BatchState, Instruction, Limit, PaymentKeys, PaymentRow,
    PaymentState, ReleaseReason, Row, RowKey, SignerKey, SpenderKey, Submission,
    command::{
        Conclude, Fate, Found, ItemFate, Release, Settled, UNKNOWN, Unknown, id_of_transfer,
    },
};
use tollgate_x402::{Amount, B256, Bytes};

use super::{
    ByCounter, Movement, ReconcileError,
    facts::{Fact, Facts, What},
    serving, unknown_keys,
};
use crate::{audit::Scan, market::Markets};

/// A ledger while it is reconciled.
pub(super) struct Ledger<'a, S> {
    store: &'a S,
    markets: &'a Markets,
    finalized: u64,
    /// What is due of each counter, in the order of the commits.
    due: BTreeMap<SpenderKey, VecDeque<PaymentRow>>,
    serving: ByCounter,
    /// Transactions of payments that were final before.
    finals: BTreeSet<B256>,
    pub(super) settled: Vec<Movement>,
    pub(super) unknown: Vec<Movement>,
    pub(super) released: Vec<tollgate_x402::PaymentId>,
    pub(super) doubts: Vec<String>,
}

impl<'a, S: Store> Ledger<'a, S> {
    pub(super) async fn open(
        store: &'a S,
        markets: &'a Markets,
        finalized: u64,
    ) -> Result<Self, StoreError> {
        let (serving, finals) = serving(store).await?;
        Ok(Self {
            store,
            markets,
            finalized,
            due: BTreeMap::new(),
            serving,
            finals: finals.into_iter().collect(),
            settled: Vec::new(),
            unknown: Vec::new(),
            released: Vec::new(),
            doubts: Vec::new(),
        })
    }

    /// Ends a batch whose nonce the chain has decided, or that was never signed: its payments are due again, to be judged
    /// one by one.
    pub(super) async fn dissolve(
        &self,
        batch: &BatchRow,
        facts: &Facts,
    ) -> Result<(), ReconcileError> {
        let ours = batch
            .sent
            .iter()
            .find_map(|sent| facts.transactions.get_key_value(&sent.hash));
        let fate = Fate {
            transaction: ours.map(|(hash, _)| *hash),
            block: ours.map_or(self.finalized, |(_, (_, block))| *block),
            items: batch.items.iter().map(|_| ItemFate::Untried).collect(),
        };
        let conclude = Conclude {
            batch: batch.clone(),
            fate,
            attempts: u32::MAX,
        };
        self.store.transact(conclude).await?;
        Ok(())
    }

    /// Reads what is due, once no batch holds it.
    pub(super) async fn load_due(&mut self) -> Result<(), StoreError> {
        for payment in self.store.due(Due::default(), usize::MAX).await? {
            if let (AuthorizationKey::Permit { .. }, Some(spender)) =
                (payment.keys.authorization, payment.keys.spender_key())
            {
                self.due.entry(spender).or_default().push_back(payment);
            }
        }
        Ok(())
    }

    /// Books a fact, if the ledger does not know it.
    pub(super) async fn book(&mut self, fact: &Fact) -> Result<(), ReconcileError> {
        if self
            .markets
            .of(fact.owner.chain, fact.owner.token)
            .is_none()
        {
            return Ok(());
        }
        match fact.what {
            What::Draw { spender, interval } => self.draw(fact, spender, interval).await,
            What::Claim { authorization } => self.claim(fact, authorization).await,
        }
    }

    async fn draw(
        &mut self,
        fact: &Fact,
        spender: SpenderKey,
        interval: Option<(Amount, Amount)>,
    ) -> Result<(), ReconcileError> {
        let row = self
            .store
            .read([RowKey::Spender(spender)].into_iter().collect())
            .await?
            .spender(&spender)
            .cloned();
        let stands = row.as_ref().and_then(|row| match &row.limit {
            Limit::Counter(counter) => Some((counter.settled, counter.undecided)),
            Limit::Seen(_) => None,
        });
        let (from, to) = match interval {
            Some(interval) => interval,
            // Without a counter on the chain, what a known transaction drew is in the ledger's.
            None if self.finals.contains(&fact.transaction) => return Ok(()),
            None => {
                let from = stands.map_or(Amount::ZERO, |(settled, _)| settled);
                (from, from.saturating_add(fact.amount))
            }
        };
        let from = match stands {
            Some((settled, _)) if to <= settled => return Ok(()),
            Some((settled, _)) if from > settled => {
                return Err(ReconcileError::Earlier {
                    owner: fact.owner.owner,
                    chain: from,
                    ledger: settled,
                    from_block: fact.block,
                });
            }
            Some((settled, _)) => settled,
            None => from,
        };
        if stands.is_some_and(|(_, undecided)| undecided > 0) {
            return Err(self.overtaken(spender).await?);
        }
        self.pay(fact, spender, (from, to)).await
    }

    /// Gives an interval to what is due of the counter, in the order of the commits; what is left is unknown.
    async fn pay(
        &mut self,
        fact: &Fact,
        spender: SpenderKey,
        (mut at, to): (Amount, Amount),
    ) -> Result<(), ReconcileError> {
        while at < to {
            let left = to.saturating_sub(at);
            let Some(next) = self.due.get_mut(&spender).and_then(VecDeque::pop_front) else {
                break;
            };
            let amount = next.charge.min(left);
            if amount < next.charge {
                // It counts for the payer: nobody is charged twice. What is missing is told.
                self.doubts.push(format!(
                    "payment {} of {} charges {}, and transaction {} leaves {amount} for it: the rest is booked as lost (`tollgate payer forgive {}` takes it off)",
                    next.keys.id, fact.owner.owner, next.charge, fact.transaction, fact.owner.owner
                ));
            }
            let end = at.saturating_add(amount);
            self.settle(&next.keys, amount, Some((at, end)), fact)
                .await?;
            at = end;
        }
        if at == to {
            return Ok(());
        }
        // What was being served when the copy was made has been charged since, and is in what is unknown.
        for keys in self.serving.remove(&spender).unwrap_or_default() {
            let release = Release {
                keys,
                reason: ReleaseReason::GatewayDied,
            };
            self.store.transact(release).await?;
            self.released.push(keys.id);
        }
        let permit = AuthorizationKey::Permit {
            chain: fact.owner.chain,
            digest: B256::ZERO,
        };
        let id = id_of_transfer(fact.transaction, fact.index);
        let keys = unknown_keys(id, fact.owner, Some(spender.spender), permit);
        let amount = to.saturating_sub(at);
        self.add(keys, amount, Some((at, to)), fact).await
    }

    async fn claim(
        &mut self,
        fact: &Fact,
        authorization: AuthorizationKey,
    ) -> Result<(), ReconcileError> {
        let signed = self
            .store
            .read([RowKey::Authorization(authorization)].into_iter().collect())
            .await?;
        let known = match signed
            .authorization(&authorization)
            .and_then(|row| row.payment)
        {
            Some(payment) => self.store.payment(payment).await?,
            None => None,
        };
        match known {
            Some(payment) => match payment.state {
                PaymentState::Final { .. } => Ok(()),
                PaymentState::Claimed { batch, .. } => {
                    Err(ReconcileError::Overtaken { batch: batch.0 })
                }
                _ => self.settle(&payment.keys, fact.amount, None, fact).await,
            },
            None => {
                let id = id_of_transfer(fact.transaction, fact.index);
                let keys = unknown_keys(id, fact.owner, None, authorization);
                self.add(keys, fact.amount, None, fact).await
            }
        }
    }

    async fn settle(
        &mut self,
        keys: &PaymentKeys,
        amount: Amount,
        interval: Option<(Amount, Amount)>,
        fact: &Fact,
    ) -> Result<(), ReconcileError> {
        let settled = Settled {
            keys: *keys,
            amount,
            interval,
            transaction: fact.transaction,
            block: fact.block,
        };
        if self.store.transact(settled).await? {
            self.settled.push(movement(keys, amount, fact));
        }
        Ok(())
    }

    async fn add(
        &mut self,
        keys: PaymentKeys,
        amount: Amount,
        interval: Option<(Amount, Amount)>,
        fact: &Fact,
    ) -> Result<(), ReconcileError> {
        let unknown = Unknown {
            keys,
            amount,
            interval,
            transaction: fact.transaction,
            block: fact.block,
            memo: UNKNOWN.to_owned(),
            signed: fact
                .signed
                .clone()
                .map(|signed| (signed, crate::facilitate::terms(amount))),
        };
        if self.store.transact(unknown).await? {
            self.unknown.push(movement(&keys, amount, fact));
        }
        Ok(())
    }

    /// The batch that holds a counter.
    async fn overtaken(&self, spender: SpenderKey) -> Result<ReconcileError, StoreError> {
        let batches = self.store.undecided().await?;
        let holds = |batch: &&BatchRow| {
            batch
                .payments()
                .any(|keys| keys.spender_key() == Some(spender))
        };
        let batch = batches.iter().find(holds).map_or(0, |batch| batch.id.0);
        Ok(ReconcileError::Overtaken { batch })
    }

    /// Gives every nonce that the chain has used a batch. Says which transactions were new.
    pub(super) async fn transactions(
        &self,
        facts: &Facts,
        signer: SignerKey,
        next: Option<u64>,
        count: u64,
    ) -> Result<Vec<B256>, ReconcileError> {
        let mut known: BTreeSet<(SignerKey, u64)> = BTreeSet::new();
        let mut rows = Scan::new(self.store, RowKind::Batch);
        while let Some(page) = rows.next().await? {
            known.extend(page.iter().filter_map(|row| match row {
                Row::Batch(batch) => Some((batch.signer, batch.nonce()?)),
                _ => None,
            }));
        }
        let mut new = Vec::new();
        for (hash, (sent, block)) in &facts.transactions {
            let from = SignerKey {
                chain: signer.chain,
                operator: sent.from,
            };
            // A stranger may execute what was signed to us; its nonces are its own.
            let ours = from == signer || self.is_settler(sent.to);
            if ours && known.insert((from, sent.nonce)) {
                let batch = found(from, sent.nonce, *hash, *block, sent.gas_price, self);
                self.store.transact(Found { batch }).await?;
                new.push(*hash);
            }
        }
        // What moved nothing tells no event: its nonce is used nevertheless.
        let first = known
            .range((signer, 0)..=(signer, u64::MAX))
            .next()
            .map(|(_, nonce)| *nonce)
            .or(next)
            .unwrap_or(count);
        for nonce in first..count {
            if known.insert((signer, nonce)) {
                let batch = found(signer, nonce, B256::ZERO, self.finalized, 0, self);
                self.store.transact(Found { batch }).await?;
            }
        }
        Ok(new)
    }

    fn is_settler(&self, address: Option<tollgate_x402::Address>) -> bool {
        let mut settlers = self.markets.iter().filter_map(crate::Market::settler);
        settlers.any(|settler| Some(settler) == address)
    }
}

fn movement(keys: &PaymentKeys, amount: Amount, fact: &Fact) -> Movement {
    Movement {
        payment: keys.id,
        owner: keys.owner,
        amount,
        transaction: fact.transaction,
        block: fact.block,
    }
}

/// A batch for a nonce that the ledger has never given.
fn found<S>(
    signer: SignerKey,
    nonce: u64,
    hash: B256,
    block: u64,
    gas_price: u128,
    ledger: &Ledger<'_, S>,
) -> BatchRow {
    let known = (!hash.is_zero()).then_some(hash);
    // The same nonce always has the same name, so that it is booked once.
    let mut name = [0_u8; 16];
    for (to, from) in name.iter_mut().zip(signer.operator.iter()) {
        *to = *from;
    }
    let name = u128::from_be_bytes(name) ^ u128::from(nonce);
    let now = tollgate_x402::Timestamp(0);
    BatchRow {
        id: BatchId(name),
        signer,
        settler: ledger.markets.iter().find_map(crate::Market::settler),
        items: Vec::new(),
        state: BatchState::Concluded {
            transaction: known,
            block,
        },
        sent: vec![Instruction {
            nonce,
            hash,
            raw: Bytes::new(),
            gas_price,
            stored: now,
            sent: Some((now, Submission::Unknown)),
            void: false,
        }],
        created: now,
        updated: now,
    }
}
