//! Sending signed transactions. There is no error: an unknown outcome is a value.

mod classify;

use core::{fmt, time::Duration};

use alloy_json_rpc::RpcError;
use alloy_primitives::keccak256;
use tollgate_x402::{B256, Bytes};

use self::classify::Verdict;
use crate::{
    Chain, TxReceipt,
    endpoint::{Endpoint, RpcFailure, SyncSupport, transport_reason},
    error::shorten,
    wire,
};

/// What became of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submission {
    /// A node has it, or had it already.
    Accepted,
    /// Every node that was asked refused it and did not keep it.
    NotSent(NotSent),
    /// No answer, or one that decides nothing: it may be in a pool, or in a block. Resolve it by hash and nonce, and
    /// send nothing but the same bytes until then.
    Unknown(Unknown),
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotSent {
    /// What to do about it.
    pub reason: NotSentReason,
    /// The node's words.
    pub message: String,
}

/// Why a node refused a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotSentReason {
    /// Another transaction of this nonce is in the pool, and this one's price is not enough above it.
    ReplacementUnderpriced,
    /// The price is below the node's floor.
    Underpriced,
    /// The account has too little BNB.
    InsufficientFunds,
    /// The nonce leaves a gap: an earlier transaction is missing.
    NonceGap,
    /// The gas limit does not even pay for the calldata, or is above what the chain allows.
    GasLimit,
    /// The node has no room: send the same bytes later.
    PoolFull,
    /// The node does not offer the method.
    Unsupported,
    /// The transaction is not valid on this chain, whatever the price: a fault of ours.
    Invalid,
}

/// An answer that decides nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// What sort of answer.
    pub doubt: Doubt,
    /// What was said.
    pub message: String,
}

/// Why an outcome is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Doubt {
    /// The nonce is used on the chain: by this transaction, or by another.
    NonceUsed,
    /// No answer in time, a broken connection, or a gateway's error: it may have been passed on.
    NoAnswer,
    /// Too many requests. Most likely it was not passed on, which nothing proves.
    RateLimited,
    /// An answer that cannot be read, or one of another transaction.
    BrokenAnswer,
    /// An error that the table does not have.
    Unrecognized,
}

/// What became of a submission that waits for the block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncSubmission {
    /// What became of it.
    pub submission: Submission,
    /// Its receipt, if the node gave it: of a block that may yet be reorganised away.
    pub receipt: Option<TxReceipt>,
}

/// A node waits up to 10 s (geth's maximum; 5 s by default) before it says that it is still waiting.
const SYNC_WAIT: Duration = Duration::from_secs(12);

impl Chain {
    /// Sends a signed transaction. Sending it twice is harmless.
    ///
    /// The endpoints are asked in turn until one accepts. If none does, one that may have it makes it unknown.
    pub async fn submit(&self, raw: &[u8]) -> Submission {
        let mut worst = None;
        for endpoint in self.in_order() {
            let outcome = send(endpoint, raw).await;
            if outcome == Submission::Accepted {
                return outcome;
            }
            worst = Some(graver(worst, outcome));
        }
        worst.unwrap_or_else(no_endpoint)
    }

    /// Sends a signed transaction and takes the receipt with it (`eth_sendRawTransactionSync`, EIP-7966), from the
    /// first endpoint that has the method; where none has it, as [`Chain::submit`]. Which have it is asked once.
    pub async fn submit_sync(&self, raw: &[u8]) -> SyncSubmission {
        for endpoint in self.in_order() {
            if endpoint.sync() == SyncSupport::Lacks {
                continue;
            }
            match send_sync(endpoint, raw).await {
                Some(outcome) if !matches!(outcome.submission, Submission::Accepted) => {
                    // Elsewhere it may be taken; the same bytes cannot do harm twice.
                    let elsewhere = self.submit(raw).await;
                    return SyncSubmission {
                        submission: match elsewhere {
                            Submission::Accepted => elsewhere,
                            other => graver(Some(outcome.submission), other),
                        },
                        receipt: None,
                    };
                }
                Some(outcome) => return outcome,
                None => endpoint.set_sync(false),
            }
        }
        SyncSubmission {
            submission: self.submit(raw).await,
            receipt: None,
        }
    }

    /// How many endpoints have the method of [`submit_sync`](Self::submit_sync). Who was not asked yet is asked with an
    /// empty transaction, which none can take; who does not answer does not count.
    pub(crate) async fn with_sync(&self) -> usize {
        for endpoint in self.in_order() {
            if endpoint.sync() == SyncSupport::Untried && send_sync(endpoint, &[]).await.is_none() {
                endpoint.set_sync(false);
            }
        }
        let has = |endpoint: &&Endpoint| endpoint.sync() == SyncSupport::Has;
        self.in_order().filter(has).count()
    }
}

fn no_endpoint() -> Submission {
    Submission::NotSent(NotSent {
        reason: NotSentReason::Unsupported,
        message: "there is no endpoint".into(),
    })
}

/// Of two outcomes that are not acceptance: an unknown one outweighs, then the first.
fn graver(known: Option<Submission>, new: Submission) -> Submission {
    match (known, new) {
        (Some(Submission::Unknown(unknown)), _) => Submission::Unknown(unknown),
        (_, Submission::Unknown(unknown)) => Submission::Unknown(unknown),
        (Some(known), _) => known,
        (None, new) => new,
    }
}

async fn send(endpoint: &Endpoint, raw: &[u8]) -> Submission {
    match offer(endpoint, raw).await {
        Ok(hash) if hash == keccak256(raw) => Submission::Accepted,
        Ok(_) => unknown(Doubt::BrokenAnswer, "the hash of another transaction"),
        Err(failure) => {
            if let RpcFailure::Timeout | RpcFailure::Rpc(RpcError::Transport(_)) = &failure {
                endpoint.answered(false);
            }
            classify_failure(failure)
        }
    }
}

async fn offer(endpoint: &Endpoint, raw: &[u8]) -> Result<B256, RpcFailure> {
    #[cfg(feature = "node")]
    if let Some(node) = endpoint.node() {
        return Ok(node.send(raw).await?);
    }
    let raw = Bytes::copy_from_slice(raw);
    endpoint.raw("eth_sendRawTransaction", (raw,), None).await
}

/// `None` where the node does not have the method.
async fn send_sync(endpoint: &Endpoint, raw: &[u8]) -> Option<SyncSubmission> {
    // One parameter: anvil takes no second, and without it geth waits its default.
    let answer = endpoint
        .raw::<_, Option<wire::Receipt>>(
            "eth_sendRawTransactionSync",
            (Bytes::copy_from_slice(raw),),
            Some(SYNC_WAIT),
        )
        .await;
    let (submission, receipt) = match answer {
        Ok(receipt) => match receipt.and_then(wire::Receipt::included) {
            Some(receipt) if receipt.hash == keccak256(raw) => {
                (Submission::Accepted, Some(receipt))
            }
            _ => (
                unknown(Doubt::BrokenAnswer, "not this transaction's receipt"),
                None,
            ),
        },
        Err(failure) => (classify_failure(failure), None),
    };
    if let Submission::NotSent(refused) = &submission
        && refused.reason == NotSentReason::Unsupported
    {
        return None;
    }
    let heard = !matches!(
        &submission,
        Submission::Unknown(unknown) if matches!(
            unknown.doubt,
            Doubt::NoAnswer | Doubt::RateLimited | Doubt::BrokenAnswer
        )
    );
    if heard {
        endpoint.set_sync(true);
    }
    Some(SyncSubmission {
        submission,
        receipt,
    })
}

fn classify_failure(failure: RpcFailure) -> Submission {
    match failure {
        RpcFailure::Timeout => unknown(Doubt::NoAnswer, "no answer in time"),
        RpcFailure::Rpc(RpcError::ErrorResp(payload)) => {
            classify_error(payload.code, &payload.message)
        }
        RpcFailure::Rpc(RpcError::Transport(kind)) => {
            let doubt = match kind.as_http_error() {
                Some(http) if http.status == 429 => Doubt::RateLimited,
                _ => Doubt::NoAnswer,
            };
            unknown(doubt, &transport_reason(&kind))
        }
        RpcFailure::Rpc(other) => unknown(Doubt::BrokenAnswer, &other.to_string()),
    }
}

/// What a JSON-RPC error says of a transaction that was sent.
fn classify_error(code: i64, message: &str) -> Submission {
    match classify::classify(code, message) {
        Verdict::Accepted => Submission::Accepted,
        Verdict::NotSent(reason) => Submission::NotSent(NotSent {
            reason,
            message: shorten(message),
        }),
        Verdict::Unknown(doubt) => unknown(doubt, message),
    }
}

fn unknown(doubt: Doubt, message: &str) -> Submission {
    Submission::Unknown(Unknown {
        doubt,
        message: shorten(message),
    })
}

impl fmt::Display for Submission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => f.write_str("accepted"),
            Self::NotSent(refused) => {
                write!(f, "not sent ({:?}): {}", refused.reason, refused.message)
            }
            Self::Unknown(unknown) => {
                write!(f, "unknown ({:?}): {}", unknown.doubt, unknown.message)
            }
        }
    }
}
