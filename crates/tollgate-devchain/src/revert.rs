//! The words for an execution that failed, as geth says them.

use alloy_primitives::Bytes;
use alloy_sol_types::{Panic, PanicKind, Revert, SolError as _};
use revm::context::result::HaltReason;

/// "execution reverted", with the reason where the data is `Error(string)` or
/// `Panic(uint256)`.
pub(crate) fn message(data: &Bytes) -> String {
    match reason(data) {
        Some(reason) => format!("execution reverted: {reason}"),
        None => "execution reverted".to_owned(),
    }
}

fn reason(data: &Bytes) -> Option<String> {
    if let Ok(revert) = Revert::abi_decode(data) {
        return Some(revert.reason);
    }
    let panic = Panic::abi_decode(data).ok()?;
    let known = match panic.kind() {
        Some(PanicKind::Generic) => "generic panic",
        Some(PanicKind::Assert) => "assert(false)",
        Some(PanicKind::UnderOverflow) => "arithmetic underflow or overflow",
        Some(PanicKind::DivisionByZero) => "division or modulo by zero",
        Some(PanicKind::EnumConversionError) => "enum overflow",
        Some(PanicKind::StorageEncodingError) => "invalid encoded storage byte array accessed",
        Some(PanicKind::EmptyArrayPop) => "out-of-bounds array access; popping on an empty array",
        Some(PanicKind::ArrayOutOfBounds) => "out-of-bounds access of an array or bytesN",
        Some(PanicKind::ResourceError) => "out of memory",
        Some(PanicKind::InvalidInternalFunction) => "uninitialized function",
        _ => return Some(format!("unknown panic code: {:#x}", panic.code)),
    };
    Some(known.to_owned())
}

/// The text for an execution that ended without `REVERT`.
pub(crate) fn halt(reason: &HaltReason) -> String {
    match reason {
        HaltReason::OutOfGas(_) => "out of gas".to_owned(),
        HaltReason::InvalidJump => "invalid jump destination".to_owned(),
        HaltReason::OpcodeNotFound | HaltReason::InvalidFEOpcode | HaltReason::NotActivated => {
            "invalid opcode".to_owned()
        }
        HaltReason::StackUnderflow => "stack underflow".to_owned(),
        HaltReason::StackOverflow => "stack limit reached 1024".to_owned(),
        HaltReason::OutOfOffset => "return data out of bounds".to_owned(),
        HaltReason::CreateCollision => "contract address collision".to_owned(),
        HaltReason::CreateContractSizeLimit => "max code size exceeded".to_owned(),
        HaltReason::CreateContractStartingWithEF => {
            "invalid code: must not begin with 0xef".to_owned()
        }
        HaltReason::CreateInitCodeSizeLimit => "max initcode size exceeded".to_owned(),
        HaltReason::StateChangeDuringStaticCall | HaltReason::CallNotAllowedInsideStatic => {
            "write protection".to_owned()
        }
        HaltReason::OutOfFunds => "insufficient balance for transfer".to_owned(),
        HaltReason::CallTooDeep => "max call depth exceeded".to_owned(),
        other => format!("{other:?}"),
    }
}
