//! Who may ask: keys, payees and gas budgets.

use core::{fmt, hint::black_box};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use http::{HeaderMap, header};
use tollgate_x402::{Address, B256, Timestamp};

use crate::problem::{Problem, ProblemCode};

/// The name of a caller: 1 to 64 of `A-Z a-z 0-9 _ -`. It stands in the ledger beside what was settled.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallerName(Arc<str>);

/// A name that is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a caller's name is 1 to 64 of A-Z a-z 0-9 _ and -")]
pub struct NameError;

impl CallerName {
    /// The name of a text.
    ///
    /// # Errors
    /// [`NameError`].
    pub fn new(name: &str) -> Result<Self, NameError> {
        let good = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if name.is_empty() || name.len() > 64 || !name.bytes().all(good) {
            return Err(NameError);
        }
        Ok(Self(name.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CallerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Keccak-256 of a caller's key: the key itself is not kept.
#[derive(Clone, Copy)]
pub struct KeyHash(B256);

impl KeyHash {
    /// The hash of a key.
    pub fn of(key: &str) -> Self {
        Self(alloy_primitives::keccak256(key.as_bytes()))
    }

    /// Whether both are hashes of one key. It takes as long whatever they are.
    fn is(&self, other: &Self) -> bool {
        let differences = self
            .0
            .iter()
            .zip(other.0.iter())
            .fold(0_u8, |seen, (a, b)| black_box(seen | (a ^ b)));
        differences == 0
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(…)")
    }
}

/// How much gas a caller's settlements may cost in a period.
///
/// What counts is the most that each can cost ([`Facilitator::gas`](crate::Facilitator::gas)), not what it did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GasBudget {
    /// Units of gas a period.
    pub gas: u64,
    /// The period, in seconds.
    pub period: u64,
}

/// Somebody who may ask.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The name.
    pub name: CallerName,
    /// The hash of the key; `None`: no key is asked for, and everybody is this caller.
    pub key: Option<KeyHash>,
    /// For whom the caller settles; `None`: for anyone.
    pub pay_to: Option<BTreeSet<Address>>,
    /// The caller's gas; `None`: without a bound.
    pub budget: Option<GasBudget>,
}

/// All who may ask.
#[derive(Debug, Default)]
pub struct Callers(Vec<Account>);

#[derive(Debug)]
struct Account {
    caller: Caller,
    spent: Mutex<Spent>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    began: Timestamp,
    gas: u64,
}

impl Callers {
    /// These. Where two have one key, the first counts.
    pub fn new(callers: impl IntoIterator<Item = Caller>) -> Self {
        let account = |caller| Account {
            caller,
            spent: Mutex::default(),
        };
        Self(callers.into_iter().map(account).collect())
    }

    /// Counts gas that a caller spent before a restart, in the period that holds `at`.
    pub fn recall(&self, name: &str, gas: u64, at: Timestamp) {
        let known = |account: &&Account| account.caller.name.as_str() == name;
        if let Some(account) = self.0.iter().find(known) {
            let mut spent = account.spent(at);
            spent.gas = spent.gas.saturating_add(gas);
        }
    }

    /// The caller whose key a request carries.
    pub(crate) fn of(&self, headers: &HeaderMap) -> Result<Who<'_>, Problem> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let shown = match (values.next(), values.next()) {
            (None, _) => None,
            (Some(_), Some(_)) => {
                let message = "there is more than one Authorization header";
                return Err(Problem::new(ProblemCode::Unauthorized, message));
            }
            (Some(value), None) => value.to_str().ok().and_then(bearer).map(KeyHash::of),
        };
        let mut found = None;
        // All are looked at, so that the time tells nothing of the place.
        for account in &self.0 {
            let same = match (&account.caller.key, &shown) {
                (Some(key), Some(shown)) => key.is(shown),
                (None, _) => true,
                (Some(_), None) => false,
            };
            if same && found.is_none() {
                found = Some(Who(account));
            }
        }
        found.ok_or_else(|| {
            let message = if shown.is_some() {
                "this key is not known"
            } else {
                "there is no key"
            };
            Problem::new(ProblemCode::Unauthorized, message)
        })
    }
}

/// The key of `Bearer KEY`.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, key) = value.split_once(' ')?;
    let key = key.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !key.is_empty()).then_some(key)
}

impl Account {
    fn spent(&self, now: Timestamp) -> std::sync::MutexGuard<'_, Spent> {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let period = self.caller.budget.map_or(0, |budget| budget.period);
        if now.since(spent.began) >= period {
            // Periods begin at multiples of their length, so that a restart begins none.
            let into = now.0.checked_rem(period).unwrap_or_default();
            *spent = Spent {
                began: now.minus(into),
                gas: 0,
            };
        }
        spent
    }
}

/// A caller that is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Who<'a>(&'a Account);

impl Who<'_> {
    pub(crate) fn name(&self) -> CallerName {
        self.0.caller.name.clone()
    }

    /// Whether the caller settles for this payee.
    pub(crate) fn may_pay(&self, pay_to: Address) -> Result<(), Problem> {
        match &self.0.caller.pay_to {
            Some(allowed) if !allowed.contains(&pay_to) => Err(Problem::new(
                ProblemCode::PayToNotAllowed,
                format!("{pay_to} is none of the payees of {}", self.0.caller.name),
            )),
            _ => Ok(()),
        }
    }

    /// Takes gas out of the caller's budget.
    pub(crate) fn take(&self, gas: u64, now: Timestamp) -> Result<(), Problem> {
        let Some(budget) = self.0.caller.budget else {
            return Ok(());
        };
        let mut spent = self.0.spent(now);
        let after = spent.gas.saturating_add(gas);
        if after > budget.gas {
            let end = spent.began.plus(budget.period);
            let message = format!(
                "{} of {} units of gas are spent, and this settlement may cost {gas}",
                spent.gas, budget.gas
            );
            return Err(
                Problem::new(ProblemCode::GasBudgetSpent, message).after(end.since(now).max(1))
            );
        }
        spent.gas = after;
        Ok(())
    }

    /// Puts gas back that was not needed.
    pub(crate) fn give_back(&self, gas: u64, now: Timestamp) {
        let mut spent = self.0.spent(now);
        spent.gas = spent.gas.saturating_sub(gas);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn callers() -> Callers {
        Callers::new([Caller {
            name: CallerName::new("alice").unwrap(),
            key: Some(KeyHash::of("secret")),
            pay_to: Some([Address::repeat_byte(1)].into()),
            budget: Some(GasBudget {
                gas: 100,
                period: 60,
            }),
        }])
    }

    fn with(value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.append(header::AUTHORIZATION, HeaderValue::from_static(value));
        headers
    }

    #[test]
    fn a_key_is_known_by_its_hash_and_nothing_else_is() {
        let callers = callers();
        assert_eq!(
            callers.of(&with("Bearer secret")).unwrap().name().as_str(),
            "alice"
        );
        assert!(callers.of(&with("bearer  secret ")).is_ok());
        for bad in [
            "secret",
            "Basic secret",
            "Bearer ",
            "Bearer secret2",
            "Bearer Secret",
        ] {
            let problem = callers.of(&with(bad)).unwrap_err();
            assert_eq!(problem.code, ProblemCode::Unauthorized, "{bad}");
            assert!(!problem.message.contains("ecret"), "{bad}");
        }
        assert!(callers.of(&HeaderMap::new()).is_err());
        let mut two = with("Bearer secret");
        two.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer x"));
        assert!(callers.of(&two).is_err());
        assert!(!format!("{callers:?}").contains("secret"));
    }

    #[test]
    fn a_budget_ends_and_comes_back_with_the_next_period() {
        let callers = callers();
        let headers = with("Bearer secret");
        let alice = callers.of(&headers).unwrap();
        assert!(alice.take(60, Timestamp(130)).is_ok());
        let spent = alice.take(60, Timestamp(130)).unwrap_err();
        assert_eq!(
            (spent.code, spent.retry_after),
            (ProblemCode::GasBudgetSpent, Some(50))
        );
        alice.give_back(60, Timestamp(131));
        assert!(alice.take(100, Timestamp(131)).is_ok());
        assert!(alice.take(1, Timestamp(179)).is_err());
        assert!(alice.take(100, Timestamp(180)).is_ok());
    }

    #[test]
    fn what_was_spent_before_a_restart_counts() {
        let callers = callers();
        callers.recall("alice", 90, Timestamp(121));
        callers.recall("nobody", 90, Timestamp(121));
        let headers = with("Bearer secret");
        let alice = callers.of(&headers).unwrap();
        assert!(alice.take(20, Timestamp(122)).is_err());
        assert!(alice.take(10, Timestamp(122)).is_ok());
    }

    #[test]
    fn a_caller_settles_for_its_payees_alone() {
        let callers = callers();
        let headers = with("Bearer secret");
        let alice = callers.of(&headers).unwrap();
        assert!(alice.may_pay(Address::repeat_byte(1)).is_ok());
        let problem = alice.may_pay(Address::repeat_byte(2)).unwrap_err();
        assert_eq!(problem.code.status(), 403);
    }
}
