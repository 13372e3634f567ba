//! The committed artifacts, as JSON; and the hostile counterparts, which the library does not carry.

use alloy_primitives::{Bytes, hex};
use serde_json::Value;

pub(crate) fn artifact(name: &str) -> Value {
    let path = format!("{}/artifacts/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

pub(crate) fn creation(name: &str) -> Vec<u8> {
    hex::decode(artifact(name)["creation"].as_str().unwrap()).unwrap()
}

pub(crate) fn runtime(name: &str) -> Bytes {
    hex::decode(artifact(name)["runtime"].as_str().unwrap())
        .unwrap()
        .into()
}

/// The real Permit2's init code, where the environment names a file with it: then all tests run over the real one.
/// `cargo xtask contracts --permit2` does so.
pub(crate) fn real_permit2() -> Option<Vec<u8>> {
    std::env::var_os("TOLLGATE_PERMIT2_INIT_CODE").map(|path| std::fs::read(path).unwrap())
}

alloy_sol_types::sol! {
    interface HostileToken {
        enum Mode { Honest, BurnGas, ReturnBomb, RevertBomb, Reenter, Fee, ReturnFalse, LieTrue, ReturnNothing, ReturnTwo, BalanceBomb }
        function set(Mode mode, address target, bytes calldata payload) external;
        function setBurnOnPermit(bool burn) external;
        function mint(address to, uint256 value) external;
        function reentrySucceeded() external view returns (bool);
        function reentryAnswer() external view returns (bytes4);
    }
    interface HostileOwner {
        enum Mode { Yes, No, BurnGas, RevertBomb }
        function set(Mode mode) external;
        function execute(address target, bytes calldata data) external;
    }
    interface Caller {
        function pass(address target, bytes calldata data) external returns (bool ok, bytes memory answer);
        function passTwice(address target, bytes calldata one, bytes calldata two) external;
    }
}
