//! Checks of what the chain must have before money depends on it: at start-up, and for `tollgate doctor`.

use core::fmt;

use alloy_primitives::keccak256;
use alloy_sol_types::{Eip712Domain, SolCall};
use tollgate_contracts::{
    TokenInfo,
    abi::{
        ExactProxy, IEip3009, IErc20, IErc2612, ISignatureTransfer, Settler, TestUsd1, UptoProxy,
    },
    addresses, settler,
};
use tollgate_x402::{Address, B256, Timestamp, U256};

use crate::{BlockTag, CallRequest, Chain, ChainError};

mod nodes;

pub use nodes::{check_agreement, check_gas_money, check_gas_price, check_logs, check_sync_send};

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What: a stable name, like `token-separator`.
    pub name: &'static str,
    /// How it is.
    pub outcome: Outcome,
    /// What was seen, and what to do.
    pub detail: String,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// It works, with less: look at it.
    Warn,
    /// No money may depend on it.
    Fail,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match self.outcome {
            Outcome::Ok => "ok",
            Outcome::Warn => "warn",
            Outcome::Fail => "FAIL",
        };
        write!(f, "{outcome:<4} {}: {}", self.name, self.detail)
    }
}

impl Check {
    const fn new(name: &'static str, outcome: Outcome, detail: String) -> Self {
        Self {
            name,
            outcome,
            detail,
        }
    }

    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(name, Outcome::Ok, detail.into())
    }

    fn warn(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(name, Outcome::Warn, detail.into())
    }

    fn fail(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(name, Outcome::Fail, detail.into())
    }

    /// The check of a read: what is right with the value, or what is wrong with the chain.
    fn of<T>(
        name: &'static str,
        read: Result<T, ChainError>,
        judge: impl FnOnce(T) -> Self,
    ) -> Self {
        match read {
            Ok(value) => judge(value),
            Err(error) => Self::fail(name, error.to_string()),
        }
    }
}

impl Check {
    /// As [`Check::of`], for what a token may keep to itself: that is a warning.
    fn seen<T>(
        name: &'static str,
        read: Result<T, ChainError>,
        judge: impl FnOnce(T) -> Self,
    ) -> Self {
        match read {
            Err(ChainError::Reverted { .. } | ChainError::Malformed { .. }) => Self::warn(
                name,
                "the token does not tell: settlements may fail without warning",
            ),
            read => Self::of(name, read, judge),
        }
    }
}

/// What a Settler must be to be ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettlerTerms {
    /// The ledger whose intervals it counts.
    pub ledger_id: B256,
    /// Where the money goes.
    pub treasury: Address,
    /// Our operator keys.
    pub operators: Vec<Address>,
}

/// Everything to look at.
#[derive(Clone, Debug, Default)]
pub struct Doctor {
    /// The tokens that are accepted.
    pub tokens: Vec<TokenInfo>,
    /// Who receives tokens: the treasury, the Settler, or a plain account.
    pub receivers: Vec<Address>,
    /// The Settler, if there is one.
    pub settler: Option<(Address, SettlerTerms)>,
    /// Whether Permit2 payments are wanted.
    pub permit2: bool,
    /// The accounts that send transactions.
    pub senders: Vec<Address>,
    /// The BNB that each of them should have at least, in wei.
    pub least_balance: U256,
    /// The local time, to hold against the chain's.
    pub now: Option<Timestamp>,
}

/// All checks that apply.
pub async fn doctor(chain: &Chain, all: &Doctor) -> Vec<Check> {
    let mut checks = check_chain(chain, all.now).await;
    for token in &all.tokens {
        checks.extend(check_token(chain, token, &all.receivers).await);
    }
    if let Some((address, terms)) = &all.settler {
        checks.extend(check_settler(chain, *address, terms).await);
    }
    if all.permit2 {
        checks.extend(check_permit2(chain).await);
        checks.extend(check_proxies(chain).await);
    }
    for account in &all.senders {
        checks.push(check_account(chain, *account, all.least_balance).await);
    }
    checks
}

/// Seconds by which the head or the local clock may be behind the other.
const CLOCK_SKEW: u64 = 30;
/// Blocks by which the finalized head normally is behind: 2, or 1 (BEP-126, BEP-648). Beyond this, finality stalls.
const FINALITY_LAG: u64 = 20;

/// The chain's id, its clock against ours (seconds), and whether blocks become final.
pub async fn check_chain(chain: &Chain, now: Option<Timestamp>) -> Vec<Check> {
    let heads = match chain.heads().await {
        Ok(heads) => heads,
        Err(error) => return vec![Check::fail("chain", error.to_string())],
    };
    let mut checks = vec![Check::ok(
        "chain",
        format!("chain {}, block {}", chain.id(), heads.latest.number),
    )];
    let lag = heads.latest.number.saturating_sub(heads.finalized.number);
    checks.push(if lag <= FINALITY_LAG {
        Check::ok("finality", format!("{lag} blocks behind the head"))
    } else {
        Check::warn(
            "finality",
            format!("{lag} blocks behind the head: nothing becomes final, and credit runs out"),
        )
    });
    if let Some(now) = now {
        let behind = now.since(heads.latest.timestamp);
        let ahead = heads.latest.timestamp.since(now);
        checks.push(if behind.max(ahead) <= CLOCK_SKEW {
            Check::ok("clock", format!("{} s apart", behind.max(ahead)))
        } else if behind > ahead {
            Check::fail(
                "clock",
                format!(
                    "the newest block is {behind} s old: the node lags, or the local clock is fast"
                ),
            )
        } else {
            Check::fail(
                "clock",
                format!("the newest block is {ahead} s in the future: set the local clock"),
            )
        });
    }
    checks
}

/// A token against what the allow-list pins: its code, decimals, EIP-712 domain and capabilities; and whether it is
/// paused or has frozen one of the receivers.
pub async fn check_token(chain: &Chain, token: &TokenInfo, receivers: &[Address]) -> Vec<Check> {
    let (at, symbol) = (token.address, token.symbol);
    let mut checks = Vec::new();
    if token.chain != chain.id().0 {
        return vec![Check::fail(
            "token-chain",
            format!(
                "{symbol} is pinned for chain {}, not {}",
                token.chain,
                chain.id()
            ),
        )];
    }
    match chain.code(at).await {
        Err(error) => return vec![Check::fail("token-code", error.to_string())],
        Ok(code) if code.is_empty() => {
            return vec![Check::fail(
                "token-code",
                format!("no code at {symbol}'s address {at}"),
            )];
        }
        Ok(code) => checks.push(Check::ok(
            "token-code",
            format!("{symbol} at {at}, {} bytes", code.len()),
        )),
    }
    let decimals = read(chain, at, &IErc20::decimalsCall {}).await;
    checks.push(Check::of("token-decimals", decimals, |decimals| {
        if decimals == token.decimals {
            Check::ok("token-decimals", format!("{symbol} has {decimals}"))
        } else {
            Check::fail(
                "token-decimals",
                format!("{symbol} has {decimals}, not the pinned {}", token.decimals),
            )
        }
    }));
    if let Some(pinned) = token.domain_separator() {
        let separator = read(chain, at, &IErc2612::DOMAIN_SEPARATORCall {}).await;
        checks.push(Check::of("token-separator", separator, |separator| {
            if separator == pinned {
                Check::ok("token-separator", format!("{symbol}'s EIP-712 domain is the pinned one"))
            } else {
                Check::fail(
                    "token-separator",
                    format!("{symbol} answers {separator}, not the pinned {pinned}: no signature would hold"),
                )
            }
        }));
    }
    if token.permit {
        let nonces = read(
            chain,
            at,
            &IErc2612::noncesCall {
                owner: Address::ZERO,
            },
        )
        .await;
        checks.push(Check::of("token-permit", nonces, |_| {
            Check::ok(
                "token-permit",
                format!("{symbol} counts permits (ERC-2612)"),
            )
        }));
    }
    if token.eip3009 {
        let call = IEip3009::authorizationStateCall {
            authorizer: Address::ZERO,
            nonce: B256::ZERO,
        };
        let state = read(chain, at, &call).await;
        checks.push(Check::of("token-eip3009", state, |_| {
            Check::ok(
                "token-eip3009",
                format!("{symbol} takes authorizations (EIP-3009)"),
            )
        }));
    }
    if token.freeze_pause {
        let paused = read(chain, at, &TestUsd1::pausedCall {}).await;
        checks.push(Check::seen("token-paused", paused, |paused| {
            if paused {
                Check::fail(
                    "token-paused",
                    format!("{symbol} is paused: nothing can be settled"),
                )
            } else {
                Check::ok("token-paused", format!("{symbol} is not paused"))
            }
        }));
        for receiver in receivers {
            let frozen = read(chain, at, &TestUsd1::frozenCall { account: *receiver }).await;
            checks.push(Check::seen("receiver-frozen", frozen, |frozen| {
                if frozen {
                    Check::fail("receiver-frozen", format!("{symbol} has frozen {receiver}"))
                } else {
                    Check::ok("receiver-frozen", format!("{symbol} pays {receiver}"))
                }
            }));
        }
    }
    checks
}

/// Whether a Settler is the one that this ledger may use: its code, ledger, treasury and operators.
pub async fn check_settler(chain: &Chain, at: Address, terms: &SettlerTerms) -> Vec<Check> {
    let mut checks = Vec::new();
    match chain.code(at).await {
        Err(error) => return vec![Check::fail("settler-code", error.to_string())],
        Ok(code) if code.is_empty() => {
            return vec![Check::fail(
                "settler-code",
                format!("no code at {at}: deploy the Settler, or correct the address"),
            )];
        }
        Ok(code) => {
            let ours = settler::runtime_hash(terms.ledger_id, terms.treasury);
            checks.push(if keccak256(&code) == ours {
                Check::ok(
                    "settler-code",
                    format!("the Settler of this release at {at}"),
                )
            } else {
                Check::warn(
                    "settler-code",
                    format!("the code at {at} is not of this release, ledger and treasury"),
                )
            });
        }
    }
    let ledger = read(chain, at, &Settler::ledgerIdCall {}).await;
    checks.push(Check::of("settler-ledger", ledger, |ledger| {
        if ledger == terms.ledger_id {
            Check::ok("settler-ledger", format!("{ledger}"))
        } else {
            Check::fail(
                "settler-ledger",
                format!(
                    "it counts for ledger {ledger}, this is {}: two ledgers cannot share a counter",
                    terms.ledger_id
                ),
            )
        }
    }));
    let treasury = read(chain, at, &Settler::treasuryCall {}).await;
    checks.push(Check::of("settler-treasury", treasury, |treasury| {
        if treasury == terms.treasury {
            Check::ok("settler-treasury", format!("{treasury}"))
        } else {
            Check::fail(
                "settler-treasury",
                format!(
                    "it pays {treasury}, the configuration says {}",
                    terms.treasury
                ),
            )
        }
    }));
    for operator in &terms.operators {
        let allowed = read(chain, at, &Settler::isOperatorCall { who: *operator }).await;
        checks.push(Check::of("settler-operator", allowed, |allowed| {
            if allowed {
                Check::ok("settler-operator", format!("{operator} may settle"))
            } else {
                Check::fail(
                    "settler-operator",
                    format!("{operator} may not settle: the admin must call setOperator({operator}, true)"),
                )
            }
        }));
    }
    checks
}

/// Permit2: its code and its EIP-712 domain on this chain.
pub async fn check_permit2(chain: &Chain) -> Vec<Check> {
    let at = addresses::PERMIT2;
    let code = match chain.code(at).await {
        Ok(code) if !code.is_empty() => code,
        none => {
            return vec![Check::of("permit2-code", none, |_| {
                Check::warn(
                    "permit2-code",
                    format!("no code at {at}: no Permit2 payment can be offered"),
                )
            })];
        }
    };
    let pinned = permit2_separator(chain.id().0);
    let separator = read(chain, at, &ISignatureTransfer::DOMAIN_SEPARATORCall {}).await;
    vec![
        Check::ok("permit2-code", standing(at, &code)),
        Check::of("permit2-separator", separator, |separator| {
            if separator == pinned {
                Check::ok(
                    "permit2-separator",
                    "Permit2's EIP-712 domain is of this chain",
                )
            } else {
                Check::fail(
                    "permit2-separator",
                    format!("Permit2 answers {separator}, not {pinned}: no signature would hold"),
                )
            }
        }),
    ]
}

/// A contract and the hash of its code, for who holds it against an explorer: what it must do is checked by asking it.
fn standing(at: Address, code: &[u8]) -> String {
    format!("at {at}, code hash {}", keccak256(code))
}

fn permit2_separator(chain: u64) -> B256 {
    Eip712Domain::new(
        Some("Permit2".into()),
        None,
        Some(U256::from(chain)),
        Some(addresses::PERMIT2),
        None,
    )
    .separator()
}

/// x402's two proxies: their code, whose Permit2 they call, and what witness they take. One that is missing is a
/// warning: its payments are then not to be offered. The checks are named `exact-proxy` and `upto-proxy`.
pub async fn check_proxies(chain: &Chain) -> Vec<Check> {
    let exact = check_proxy(
        chain,
        "exact-proxy",
        addresses::EXACT_PROXY,
        read(chain, addresses::EXACT_PROXY, &ExactProxy::PERMIT2Call {}).await,
        read(
            chain,
            addresses::EXACT_PROXY,
            &ExactProxy::WITNESS_TYPEHASHCall {},
        )
        .await,
        EXACT_WITNESS,
    )
    .await;
    let upto = check_proxy(
        chain,
        "upto-proxy",
        addresses::UPTO_PROXY,
        read(chain, addresses::UPTO_PROXY, &UptoProxy::PERMIT2Call {}).await,
        read(
            chain,
            addresses::UPTO_PROXY,
            &UptoProxy::WITNESS_TYPEHASHCall {},
        )
        .await,
        UPTO_WITNESS,
    )
    .await;
    vec![exact, upto]
}

const EXACT_WITNESS: &str = "Witness(address to,uint256 validAfter)";
const UPTO_WITNESS: &str = "Witness(address to,address facilitator,uint256 validAfter)";

async fn check_proxy(
    chain: &Chain,
    name: &'static str,
    at: Address,
    permit2: Result<Address, ChainError>,
    witness: Result<B256, ChainError>,
    witness_type: &str,
) -> Check {
    let code = match chain.code(at).await {
        Err(error) => return Check::fail(name, error.to_string()),
        Ok(code) if code.is_empty() => {
            return Check::warn(
                name,
                format!("no code at {at}: payments that need it cannot be offered"),
            );
        }
        Ok(code) => code,
    };
    match (permit2, witness) {
        (Ok(permit2), Ok(witness))
            if permit2 == addresses::PERMIT2 && witness == keccak256(witness_type) =>
        {
            Check::ok(name, standing(at, &code))
        }
        (Ok(_), Ok(_)) => Check::fail(
            name,
            format!("what stands at {at} is no proxy of x402: do not offer its payments"),
        ),
        (Err(error), _) | (_, Err(error)) => Check::fail(name, error.to_string()),
    }
}

/// Whether an account has BNB for its transactions, in wei.
pub async fn check_account(chain: &Chain, account: Address, least: U256) -> Check {
    Check::of("gas-money", chain.balance(account).await, |balance| {
        if balance >= least && !balance.is_zero() {
            Check::ok("gas-money", format!("{account} has {balance} wei"))
        } else if balance.is_zero() {
            Check::fail("gas-money", format!("{account} has no BNB: send it some"))
        } else {
            Check::warn(
                "gas-money",
                format!("{account} has {balance} wei, less than {least}: send it some"),
            )
        }
    })
}

/// One view of a contract.
async fn read<C: SolCall>(chain: &Chain, to: Address, call: &C) -> Result<C::Return, ChainError> {
    let request = CallRequest {
        to: Some(to),
        input: call.abi_encode().into(),
        ..CallRequest::default()
    };
    let returned = chain.call_agreed(&request, BlockTag::Latest).await?;
    C::abi_decode_returns_validate(&returned).map_err(|error| ChainError::Malformed {
        endpoint: format!("the contract at {to}"),
        reason: format!("{} gave no such value: {error}", C::SIGNATURE),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permit2s_domain_is_the_one_that_bsc_has() {
        assert_eq!(permit2_separator(56), addresses::PERMIT2_SEPARATOR_56);
        assert_eq!(permit2_separator(97), addresses::PERMIT2_SEPARATOR_97);
    }

    #[test]
    fn a_check_prints_on_one_line() {
        let check = Check::warn("clock", "4 s apart");
        assert_eq!(check.to_string(), "warn clock: 4 s apart");
    }
}
