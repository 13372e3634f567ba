//! That nothing came of a request: no answer of the upstream, no call of the node, no write of the ledger.

use super::{books::Writes, world::World};

/// What stood there before.
pub(crate) struct Untouched<'a> {
    world: &'a World,
    writes: Writes,
    before: (usize, u64, i64),
}

impl<'a> Untouched<'a> {
    pub(crate) fn begin(world: &'a World) -> Self {
        let writes = world.writes();
        let before = (world.upstream.asked(), world.rpc_calls(), writes.version());
        Self {
            world,
            writes,
            before,
        }
    }

    /// Asserts that it stands there still.
    pub(crate) fn check(&self, what: &str) {
        let now = (
            self.world.upstream.asked(),
            self.world.rpc_calls(),
            self.writes.version(),
        );
        assert_eq!(
            now, self.before,
            "{what}: answers, calls of the node, writes"
        );
    }
}
