//! The house: which crates there are, and what each may know. `docs/architecture.md` says why.

use cargo_metadata::{Package, TargetKind};

/// What a crate may know.
pub(super) struct Room {
    pub(super) name: &'static str,
    /// The crates of ours that it may depend on, without `tollgate-`.
    pub(super) may_use: &'static [&'static str],
    /// Bytes, values and a given `now` in, values out: no runtime, no clock, no socket, no file, no chance.
    pub(super) pure: bool,
    /// It computes with amounts: no floats, and nothing that panics or overflows.
    pub(super) money: bool,
}

/// From the ground up.
pub(super) const HOUSE: &[Room] = &[
    // vocabulary
    Room {
        name: "tollgate-x402",
        may_use: &[],
        pure: true,
        money: true,
    },
    Room {
        name: "tollgate-sse",
        may_use: &[],
        pure: true,
        money: false,
    },
    Room {
        name: "tollgate-contracts",
        may_use: &[],
        pure: true,
        money: true,
    },
    // pure logic
    Room {
        name: "tollgate-eip712",
        may_use: &["x402"],
        pure: true,
        money: true,
    },
    Room {
        name: "tollgate-chat",
        may_use: &["sse"],
        pure: true,
        money: false,
    },
    Room {
        name: "tollgate-price",
        may_use: &["x402"],
        pure: true,
        money: true,
    },
    Room {
        name: "tollgate-payment",
        may_use: &["x402"],
        pure: true,
        money: true,
    },
    Room {
        name: "tollgate-budget",
        may_use: &["price", "x402"],
        pure: true,
        money: true,
    },
    // ports to the world
    Room {
        name: "tollgate-ledger",
        may_use: &["payment", "x402"],
        pure: false,
        money: true,
    },
    Room {
        name: "tollgate-bsc",
        may_use: &["contracts", "x402"],
        pure: false,
        money: true,
    },
    Room {
        name: "tollgate-facilitator",
        may_use: &["x402"],
        pure: false,
        money: true,
    },
    // assemblies
    Room {
        name: "tollgate-engine",
        may_use: &[
            "payment",
            "ledger",
            "bsc",
            "contracts",
            "eip712",
            "facilitator",
            "x402",
        ],
        pure: false,
        money: true,
    },
    Room {
        name: "tollgate-server",
        may_use: &["payment", "x402"],
        pure: false,
        money: true,
    },
    Room {
        name: "tollgate-gateway",
        may_use: &["server", "chat", "sse", "price", "payment", "x402"],
        pure: false,
        money: true,
    },
    Room {
        name: "tollgate-client",
        may_use: &["budget", "eip712", "price", "sse", "x402", "bsc"],
        pure: false,
        money: true,
    },
    // tools
    Room {
        name: "tollgate-devchain",
        may_use: &["contracts"],
        pure: false,
        money: false,
    },
];

/// The one place that knows all: it may use every crate of the house.
pub(super) const BINARY: &str = "tollgate";

/// The row of a crate.
pub(super) fn room(name: &str) -> Option<&'static Room> {
    HOUSE.iter().find(|room| room.name == name)
}

/// It has a library that others may depend on.
pub(super) fn is_library(package: &Package) -> bool {
    package
        .targets
        .iter()
        .any(|target| target.kind.contains(&TargetKind::Lib))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_uses_only_crates_of_lower_rows() {
        for (index, room) in HOUSE.iter().enumerate() {
            for used in room.may_use {
                let below = HOUSE[..index]
                    .iter()
                    .any(|lower| lower.name == format!("tollgate-{used}"));
                assert!(below, "{} uses {used}, which is not below it", room.name);
            }
        }
    }

    #[test]
    fn pure_crates_use_only_pure_crates() {
        for used in HOUSE
            .iter()
            .filter(|room| room.pure)
            .flat_map(|room| room.may_use)
        {
            assert!(room(&format!("tollgate-{used}")).unwrap().pure, "{used}");
        }
    }
}
