//! What an operator decides while a gateway runs: it is done by the process that has the ledger open.
//!
//! The gateway listens on a Unix socket beside the ledger's file, readable and writable by its owner alone: who may write
//! the ledger may write there. One request is one line of JSON, and so is its answer.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tollgate_engine::PAID_OFF;
use tollgate_ledger::Store;
use tollgate_payment::{
    AuthorizationKey, ExposureKey, OwnerKey, PaymentKeys,
    command::{Block, Forgive, PayOff, Unblock, Unknown, id_of_transfer},
};
use tollgate_x402::{Amount, B256, PaymentId, U256};

use crate::ops::Setup;

/// What is decided.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Action {
    /// Serves a payer no more.
    Block {
        owners: Vec<OwnerKey>,
        reason: String,
    },
    /// Serves it again.
    Unblock { owners: Vec<OwnerKey> },
    /// Asks no more for what it made unpayable.
    Forgive {
        owners: Vec<OwnerKey>,
        amount: Option<Amount>,
        reference: PaymentId,
    },
    /// Books a transfer with which it paid that.
    PayOff {
        owner: OwnerKey,
        amount: Amount,
        transaction: B256,
        block: u64,
        log: u64,
    },
}

impl Action {
    /// Does it, and tells what it did.
    pub(crate) async fn perform<S: Store>(self, store: &S) -> anyhow::Result<Value> {
        let mut done = Vec::new();
        match self {
            Self::Block { owners, reason } => {
                for owner in owners {
                    let reason = reason.clone();
                    let before = store.transact(Block { owner, reason }).await?;
                    done.push(json!({"token": owner.token, "before": before}));
                }
            }
            Self::Unblock { owners } => {
                for owner in owners {
                    let before = store.transact(Unblock { owner }).await?;
                    done.push(json!({"token": owner.token, "before": before}));
                }
            }
            Self::Forgive {
                owners,
                amount,
                reference,
            } => {
                for owner in owners {
                    let names = [tollgate_payment::RowKey::Owner(owner)];
                    let rows = store.read(names.into_iter().collect()).await?;
                    if rows.owner(&owner).is_none_or(|row| row.lost.is_zero()) {
                        continue;
                    }
                    let forgive = Forgive {
                        owner,
                        amount,
                        reference,
                    };
                    let forgiven = store.transact(forgive).await?;
                    done.push(json!({
                        "token": owner.token,
                        "amount": forgiven.amount,
                        "left": forgiven.left,
                    }));
                }
            }
            Self::PayOff {
                owner,
                amount,
                transaction,
                block,
                log,
            } => {
                let keys = PaymentKeys {
                    id: id_of_transfer(transaction, log),
                    owner,
                    spender: None,
                    // No authorization: the payer sent it itself. The name is the transfer's own.
                    authorization: AuthorizationKey::Claim {
                        chain: owner.chain,
                        verifying: owner.token,
                        owner: owner.owner,
                        nonce: U256::from_be_bytes(transaction.0),
                    },
                    exposure: ExposureKey {
                        chain: owner.chain,
                        token: owner.token,
                        slice: 0,
                    },
                };
                let transfer = Unknown {
                    keys,
                    amount,
                    interval: None,
                    transaction,
                    block,
                    memo: PAID_OFF.to_owned(),
                    signed: None,
                };
                let Some(forgiven) = store.transact(PayOff { transfer }).await? else {
                    bail!("transaction {transaction} is booked already");
                };
                done.push(json!({
                    "token": owner.token,
                    "received": amount,
                    "amount": forgiven.amount,
                    "left": forgiven.left,
                }));
            }
        }
        Ok(json!(done))
    }

    /// Does it in the ledger, or has the gateway do it that has the ledger open. With `dry_run` in a copy.
    pub(crate) async fn run(self, setup: &Setup, dry_run: bool) -> anyhow::Result<Value> {
        if dry_run {
            return self.perform(&setup.copy()?.store).await;
        }
        match setup.open().await? {
            Ok(store) => self.perform(&store).await,
            Err(holder) => ask(&setup.ledger.path, &self).await.with_context(|| {
                format!(
                    "the ledger is open in {}, which cannot be asked",
                    holder.map_or("another process".to_owned(), |id| format!("process {id}"))
                )
            }),
        }
    }
}

/// Where a gateway listens.
#[cfg(unix)]
fn socket(ledger: &Path) -> anyhow::Result<PathBuf> {
    // The same ledger has one socket, whatever links lead to it.
    let ledger = ledger
        .canonicalize()
        .with_context(|| format!("{} cannot be found", ledger.display()))?;
    let mut name = ledger.into_os_string();
    name.push(".sock");
    Ok(name.into())
}

#[cfg(unix)]
pub(crate) use listening::{Admin, ask};

#[cfg(unix)]
mod listening {
    use std::{os::unix::fs::PermissionsExt, time::Duration};

    use tokio::{
        io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
        net::{UnixListener, UnixStream},
        task::JoinHandle,
    };

    use super::{Action, Context, Path, PathBuf, Store, Value, bail, json, socket};

    /// The longest request, in bytes.
    const LONGEST: u64 = 64 * 1024;
    /// How long a request may take to come, and an answer to be taken.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// A gateway's ear for its operator. Dropped, it hears no more.
    pub(crate) struct Admin {
        path: PathBuf,
        task: JoinHandle<()>,
    }

    impl Admin {
        /// Listens beside the ledger's file.
        pub(crate) fn start<S: Store>(ledger: &Path, store: S) -> anyhow::Result<Self> {
            let path = socket(ledger)?;
            // Made where nobody else can look, and moved when nobody else may open it. A socket that a gateway left behind
            // is replaced: the ledger's lock says that it is dead.
            let folder = path.parent().context("a ledger has a folder")?;
            let private = tempfile::Builder::new()
                .prefix(".tollgate-")
                .tempdir_in(folder)?;
            let made = private.path().join("s");
            let listener = UnixListener::bind(&made)?;
            std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o600))?;
            std::fs::rename(&made, &path)?;
            let task = tokio::spawn(async move {
                loop {
                    match listener.accept().await {
                        Ok((stream, _)) => {
                            let store = store.clone();
                            tokio::spawn(async move {
                                let answered =
                                    tokio::time::timeout(PATIENCE, answer(stream, &store));
                                if let Ok(Err(error)) = answered.await {
                                    tracing::debug!(%error, "an operator's request was not answered");
                                }
                            });
                        }
                        // Too many open files: a pause, not a loop.
                        Err(error) => {
                            tracing::warn!(%error, "an operator cannot be heard");
                            tokio::time::sleep(Duration::from_secs(1)).await;
                        }
                    }
                }
            });
            Ok(Self { path, task })
        }
    }

    impl Drop for Admin {
        fn drop(&mut self) {
            self.task.abort();
            // Without it the next start replaces it.
            let _ = std::fs::remove_file(&self.path);
        }
    }

    async fn answer<S: Store>(stream: UnixStream, store: &S) -> anyhow::Result<()> {
        let (read, mut write) = stream.into_split();
        let mut line = String::new();
        BufReader::new(read.take(LONGEST))
            .read_line(&mut line)
            .await?;
        let done = match serde_json::from_str::<Action>(&line) {
            Ok(action) => {
                tracing::info!(?action, "the operator decides");
                action.perform(store).await
            }
            Err(error) => Err(anyhow::anyhow!("this is no request: {error}")),
        };
        let told = match done {
            Ok(done) => json!({"done": done}),
            Err(error) => json!({"error": crate::explain(&error)}),
        };
        write.write_all(format!("{told}\n").as_bytes()).await?;
        Ok(())
    }

    /// Has the gateway do it that has a ledger open.
    pub(crate) async fn ask(ledger: &Path, action: &Action) -> anyhow::Result<Value> {
        let path = socket(ledger)?;
        let stream = UnixStream::connect(&path).await.with_context(|| {
            format!(
                "nobody listens at {}: stop the gateway, and run this again",
                path.display()
            )
        })?;
        let (read, mut write) = stream.into_split();
        let line = serde_json::to_string(action)?;
        write.write_all(format!("{line}\n").as_bytes()).await?;
        let mut told = String::new();
        let mut lines = BufReader::new(read);
        let heard = lines.read_line(&mut told);
        tokio::time::timeout(PATIENCE, heard)
            .await
            .context("the gateway does not answer")??;
        let mut told: Value =
            serde_json::from_str(&told).context("the gateway's answer cannot be read")?;
        match told.get_mut("done") {
            Some(done) => Ok(done.take()),
            None => bail!(
                "the gateway refuses: {}",
                told["error"].as_str().unwrap_or("it does not say why")
            ),
        }
    }
}

#[cfg(not(unix))]
pub(crate) async fn ask(_ledger: &Path, _action: &Action) -> anyhow::Result<Value> {
    bail!("stop the gateway, and run this again: here it has no socket for its operator")
}
