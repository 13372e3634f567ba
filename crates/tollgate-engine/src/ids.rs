//! Where names that nobody can guess come from.

use std::{fmt, sync::Arc};

/// Draws the 128 random bits of payments' and batches' names. A handle: clones draw from the same place.
///
/// The operating system's by default; a simulation gives its own, so that a seed replays exactly.
#[derive(Clone)]
pub struct Ids(Arc<dyn Fn() -> u128 + Send + Sync>);

impl Ids {
    /// Draws by this function. It must never give a number twice.
    pub fn from_fn(draw: impl Fn() -> u128 + Send + Sync + 'static) -> Self {
        Self(Arc::new(draw))
    }

    pub(crate) fn draw(&self) -> u128 {
        (self.0)()
    }
}

/// The operating system's.
impl Default for Ids {
    fn default() -> Self {
        Self::from_fn(rand::random)
    }
}

impl fmt::Debug for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ids")
    }
}
