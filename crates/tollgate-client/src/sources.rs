//! Where time and randomness come from.

use std::time::{SystemTime, UNIX_EPOCH};

use alloy_primitives::B256;
use tollgate_x402::{Clock, Timestamp};

/// Where random nonces come from. A nonce that comes twice makes a payment that no seller takes; one that can be
/// guessed does no harm.
pub trait Nonces: Send + Sync {
    /// 32 random bytes.
    fn fresh(&self) -> B256;
}

impl<F: Fn() -> B256 + Send + Sync> Nonces for F {
    fn fresh(&self) -> B256 {
        self()
    }
}

/// Nonces of the operating system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsNonces;

impl Nonces for OsNonces {
    fn fresh(&self) -> B256 {
        B256::from(rand::random::<[u8; 32]>())
    }
}

/// The clock of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        // A clock before 1970 makes authorizations that have expired: harmless.
        Timestamp(since.map_or(0, |since| since.as_secs()))
    }
}
