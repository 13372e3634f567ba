//! A facilitator somewhere else as a rail: it is asked to settle, and believed in nothing.
//!
//! What it is asked is stored before it is sent, and asked again as it is: to the worker the request is what a signed
//! transaction is to our own rail. What it answers is a hint where to look. A payment is settled when the finalized
//! chain shows the transfer that was signed, in a transaction that can have settled no other payment; and it is lost
//! when its deadline has passed on the finalized chain without one. Nothing else that the facilitator says, or does not
//! say, changes the books.

use core::ops::RangeInclusive;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tollgate_bsc::{Chain, ChainError, PayerQuery};
use tollgate_eip712::TokenDomain;
use tollgate_facilitator::{Call, Facilitator, Stage};
use tollgate_payment::{
    BatchItem, BatchRow, BatchState, Instruction, LossReason, Submission,
    command::{Fate, ItemFate},
    port::{Rail, RailError, Room, Trace},
};
use tollgate_x402::{
    Address, AssetTransferMethod, Authorization, B256, Bytes, ChainId, Clock, Exact,
    FacilitatorRequest, Limits, Network, PaymentPayload, PaymentRequired, PaymentRequirements,
    ResourceInfo, Scheme, SupportedResponse, Timestamp, X402Version,
};

use crate::{
    elapsed::{self, passed},
    proof::{Proof, Searched, Seen},
};

/// How a facilitator somewhere else is used.
#[derive(Clone, Debug)]
pub struct RemoteConfig {
    /// The domains of the tokens that are sold for.
    pub domains: BTreeMap<Address, TokenDomain>,
    /// The URL that is sold, for the request's `resource`.
    pub resource: String,
    /// `maxTimeoutSeconds` of what was offered.
    pub max_timeout: u64,
    /// How long the worker waits for an answer, before it goes on to other payments. The call goes on as well.
    pub patience: Duration,
}

/// Blocks that are searched in one payment's life, at most: a day of BSC's.
const MOST_BLOCKS: u64 = 200_000;
/// Blocks that are searched beyond the payment's age, since clocks differ.
const SLACK: u64 = 256;
/// Transactions of one payer to one payee that are looked at in one search, at most: the next one goes on with those that
/// it left.
const MOST_LOOKED_AT: usize = 64;
/// Transactions that a facilitator may name for one request: what it names beyond is not looked at.
const MOST_HINTS: usize = 4;

/// The rail of a facilitator somewhere else. It settles once and exact payments, each in a batch of its own.
///
/// The worker that uses it has [`Payees::Account`](crate::Payees::Account), the facilitator's account as its signer, and
/// a `replace_after` that never comes.
pub struct RemoteRail<F> {
    inner: Arc<Inner<F>>,
}

struct Inner<F> {
    facilitator: F,
    chain: Chain,
    clock: Arc<dyn Clock>,
    config: RemoteConfig,
    asked: Mutex<BTreeMap<B256, Asked>>,
}

/// What this process knows of a request. It is not needed: another process asks again.
#[derive(Default, Debug)]
struct Asked {
    in_flight: bool,
    hints: Vec<B256>,
    /// When the chain was last searched for it; nothing has been said of it since.
    searched: Option<Timestamp>,
    /// Transactions of the payer that settled something else.
    others: BTreeSet<B256>,
}

/// What may be open at once. Requests need no nonces of ours, and one that is never settled is in no other payer's way: it
/// takes room for half a minute, and each payer has an eighth of it for all of its own, however long they are open.
const ROOM: Room = Room {
    batches: 256,
    of_a_payer: 32,
    seconds: 30,
};

/// Seconds after which a request that has been open for long is made again, and the chain searched for it, at most.
const LONGEST_REST: u64 = 120;

/// The blocks in which what was due so many seconds before this one may have been settled.
fn blocks_since(chain: &Chain, head: u64, seconds: u64) -> RangeInclusive<u64> {
    let millis = u64::try_from(chain.block_time().as_millis())
        .unwrap_or(u64::MAX)
        .max(1);
    let age = seconds
        .saturating_mul(1_000)
        .checked_div(millis)
        .unwrap_or_default();
    let blocks = age.saturating_add(SLACK).min(MOST_BLOCKS);
    head.saturating_sub(blocks)..=head
}

/// Seconds for which a request of this age is left alone: it is looked after less often the longer it takes.
fn rest(age: u64) -> u64 {
    age.wrapping_shr(3).min(LONGEST_REST)
}

impl<F> Clone for RemoteRail<F> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<F> fmt::Debug for RemoteRail<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteRail")
            .field("config", &self.inner.config)
            .finish_non_exhaustive()
    }
}

/// The account that a facilitator says settles `upto` payments of this chain: the `facilitator` of offers. Whoever it
/// is, it can pay nobody but whom payers signed for.
pub fn facilitator_address(supported: &SupportedResponse, chain: ChainId) -> Option<Address> {
    let network = Network::from(chain);
    supported
        .kinds
        .iter()
        .filter(|kind| kind.scheme == Scheme::Upto && kind.network == network)
        .find_map(|kind| {
            let told = kind.extra.value("facilitatorAddress")?.to_string();
            told.trim_matches('"').parse().ok()
        })
}

impl<F: Facilitator> RemoteRail<F> {
    /// A rail.
    pub fn new(facilitator: F, chain: Chain, clock: Arc<dyn Clock>, config: RemoteConfig) -> Self {
        let inner = Inner {
            facilitator,
            chain,
            clock,
            config,
            asked: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The one payment of a batch.
    fn payment(&self, batch: &BatchRow) -> Result<Authorization, RailError> {
        let signed = match batch.items.as_slice() {
            [BatchItem::Once { signed, .. }] => Authorization::Once(signed.clone()),
            [BatchItem::Exact { signed, .. }] => Authorization::Exact(signed.clone()),
            _ => {
                let message = "a facilitator settles once and exact payments, one at a time";
                return Err(RailError::Operator(message.to_owned()));
            }
        };
        if signed.chain() != self.inner.chain.id() || batch.settler.is_some() {
            let message = "the batch was made for another way of settling";
            return Err(RailError::Operator(message.to_owned()));
        }
        Ok(signed)
    }

    /// What the facilitator is asked.
    fn request(
        &self,
        batch: &BatchRow,
        signed: &Authorization,
    ) -> Result<FacilitatorRequest, RailError> {
        let config = &self.inner.config;
        let domain = config.domains.get(&signed.token()).ok_or_else(|| {
            RailError::Operator(format!("the token {} is not sold for", signed.token()))
        })?;
        // Before anything is said to anybody: what cannot be settled is not asked for.
        tollgate_eip712::verify(signed, domain).map_err(|error| {
            RailError::Operator(format!("a payment in the ledger is not signed: {error}"))
        })?;
        let amount = batch
            .items
            .first()
            .map(BatchItem::amount)
            .unwrap_or_default();
        let (scheme, pay_to, permit2, facilitator) = match signed {
            Authorization::Once(signed) => {
                (Scheme::Upto, signed.to, true, Some(signed.facilitator))
            }
            Authorization::Exact(Exact::Permit2(signed)) => (Scheme::Exact, signed.to, true, None),
            Authorization::Exact(Exact::Eip3009(signed)) => (Scheme::Exact, signed.to, false, None),
            Authorization::Allowance(signed) => (Scheme::Upto, signed.spender, false, None),
        };
        let mut offered = PaymentRequirements::new(
            scheme,
            Network::from(signed.chain()),
            signed.cap(),
            signed.token(),
            pay_to,
            config.max_timeout,
        );
        offered.extra.name = domain.name().map(str::to_owned);
        offered.extra.version = domain.version().map(str::to_owned);
        offered.extra.asset_transfer_method = permit2.then_some(AssetTransferMethod::Permit2);
        offered.extra.facilitator_address = facilitator;
        let resource = ResourceInfo::new(config.resource.as_str());
        let mut required = PaymentRequired::new(resource, vec![offered.clone()]);
        required.version = X402Version::V2;
        let payload = PaymentPayload::answering(&required, &offered, signed);
        // What is settled, of the most that was signed.
        offered.amount = amount;
        Ok(FacilitatorRequest {
            version: X402Version::V2,
            payload,
            requirements: offered,
        })
    }
}

impl<F: Facilitator> Inner<F> {
    /// Asks, and notes where to look. What it answers otherwise is logged.
    async fn ask(&self, hash: B256, request: FacilitatorRequest) -> Submission {
        let answer = self.facilitator.settle(&Call::new(request)).await;
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let known = asked.entry(hash).or_default();
        known.in_flight = false;
        match answer {
            Ok(settled) => {
                if let Some(hint) = settled.response.transaction
                    && known.hints.len() < MOST_HINTS
                    && !known.hints.contains(&hint)
                {
                    known.hints.push(hint);
                    known.searched = None;
                }
                match settled.stage {
                    Stage::Done | Stage::Pending => Submission::Accepted,
                    Stage::Refused | Stage::Conflict => {
                        let reason = settled.response.error_reason.as_deref();
                        tracing::warn!(%hash, reason, "a facilitator refuses a settlement");
                        Submission::Unknown
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%hash, %error, "a facilitator gave no answer that says anything");
                Submission::Unknown
            }
        }
    }

    fn hints(&self, hash: B256) -> Vec<B256> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked
            .get(&hash)
            .map(|known| known.hints.clone())
            .unwrap_or_default()
    }

    /// Whether the chain was searched for this request a short while ago, for its age. Otherwise it is searched now.
    fn rests(&self, hash: B256, age: u64) -> bool {
        let now = self.clock.now();
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let known = asked.entry(hash).or_default();
        let rests = known.searched.is_some_and(|at| !passed(rest(age), at, now));
        if !rests {
            known.searched = Some(now);
        }
        rests
    }

    fn others(&self, hash: B256) -> BTreeSet<B256> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let known = asked.entry(hash).or_default();
        std::mem::take(&mut known.others)
    }

    fn not_by(&self, hash: B256, others: BTreeSet<B256>) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.entry(hash).or_default().others = others;
    }

    fn forget(&self, hash: B256) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.remove(&hash);
    }

    /// Whether a call of this request may begin: one at a time.
    fn begin(&self, hash: B256) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let known = asked.entry(hash).or_default();
        !std::mem::replace(&mut known.in_flight, true)
    }
}

impl<F: Facilitator> Rail for RemoteRail<F> {
    async fn prepare(
        &self,
        batch: &BatchRow,
        nonce: u64,
        above: Option<u128>,
    ) -> Result<Instruction, RailError> {
        if above.is_some() {
            let message = "what a facilitator is asked has no price to raise";
            return Err(RailError::Operator(message.to_owned()));
        }
        let signed = self.payment(batch)?;
        let raw = Bytes::from(self.request(batch, &signed)?.to_json().into_bytes());
        Ok(Instruction {
            nonce,
            hash: alloy_primitives::keccak256(&raw),
            raw,
            gas_price: 0,
            stored: self.inner.clock.now(),
            sent: None,
            void: false,
        })
    }

    async fn submit(&self, stored: &Instruction) -> Submission {
        let Ok(request) = FacilitatorRequest::parse_body(&stored.raw, &Limits::DEFAULT) else {
            tracing::error!(hash = %stored.hash, "what is stored is no request to a facilitator");
            return Submission::Unknown;
        };
        if !self.inner.begin(stored.hash) {
            return Submission::Unknown;
        }
        let (inner, hash) = (Arc::clone(&self.inner), stored.hash);
        // In a task of its own: one that never answers holds up no other payment.
        let asked = tokio::spawn(async move { inner.ask(hash, request).await });
        match tokio::time::timeout(self.inner.config.patience, asked).await {
            Ok(Ok(submission)) => submission,
            Ok(Err(_)) | Err(_) => Submission::Unknown,
        }
    }

    async fn trace(&self, batch: &BatchRow) -> Result<Trace, RailError> {
        let signed = self.payment(batch)?;
        let Some(stored) = batch.sent.last() else {
            return Ok(Trace::Pending);
        };
        let (Some(item), chain) = (batch.items.first(), &self.inner.chain) else {
            return Ok(Trace::Pending);
        };
        let age = elapsed::age(batch.created, self.inner.clock.now());
        if self.inner.rests(stored.hash, age) {
            // As it was seen last.
            return Ok(match batch.state {
                BatchState::Included { transaction, block } => Trace::Included {
                    transaction,
                    block,
                    good: true,
                },
                _ => Trace::Pending,
            });
        }
        let decided = |seen: Seen| match seen {
            Seen::Final { transaction, block } => {
                self.inner.forget(stored.hash);
                Trace::Final(Fate {
                    transaction: Some(transaction),
                    block,
                    items: vec![ItemFate::Paid],
                })
            }
            Seen::Included { transaction, block } => Trace::Included {
                transaction,
                block,
                good: true,
            },
        };
        let proof = Proof::new(chain, &signed, item.amount());
        let hints = self.inner.hints(stored.hash);
        let shown = proof.among(&hints, MOST_HINTS, &mut BTreeSet::new()).await;
        if let Searched::Found(seen) = shown.map_err(unavailable)? {
            return Ok(decided(seen));
        }
        // Before the payer's state: what was over by then is decided in it.
        let heads = chain.heads().await.map_err(unavailable)?;
        let query = PayerQuery::of(&signed, None);
        let state = chain.payer(&query).await.map_err(unavailable)?;
        let used = state.nonce_used();
        if used {
            // By whomever, and whatever the facilitator said of it.
            let age = elapsed::age(batch.created, state.timestamp);
            let blocks = blocks_since(chain, state.block, age);
            let candidates = proof.candidates(blocks).await.map_err(unavailable)?;
            let mut others = self.inner.others(stored.hash);
            let searched = proof.among(&candidates, MOST_LOOKED_AT, &mut others).await;
            self.inner.not_by(stored.hash, others);
            match searched.map_err(unavailable)? {
                Searched::Found(seen) => return Ok(decided(seen)),
                // Nothing is lost before everything was looked at.
                Searched::InPart => return Ok(Trace::Pending),
                Searched::Nothing => {}
            }
        }
        let over = heads.finalized.timestamp > signed.deadline();
        if !over || state.block < heads.finalized.number {
            return Ok(Trace::Pending);
        }
        // Too late for every transaction that was not found.
        self.inner.forget(stored.hash);
        let reason = if used {
            LossReason::Nonce
        } else {
            LossReason::Deadline
        };
        Ok(Trace::Final(Fate {
            // Not of the chain: the request, which is what was stored and is over.
            transaction: Some(stored.hash),
            block: heads.finalized.number,
            items: vec![ItemFate::Lost(reason)],
        }))
    }

    fn room(&self) -> Room {
        ROOM
    }

    fn rest(&self, age: u64) -> u64 {
        rest(age)
    }

    /// Requests are numbered by the ledger alone: no chain counts them.
    async fn nonce(&self) -> Result<u64, RailError> {
        Ok(0)
    }
}

fn unavailable(error: ChainError) -> RailError {
    RailError::Unavailable(error.to_string())
}
