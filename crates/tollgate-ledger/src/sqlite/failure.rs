//! What SQLite's errors mean here.

use rusqlite::{Error, ErrorCode};

use crate::error::{Outage, StoreError};

/// The class of an error: what the operator can mend, or what nobody expected.
pub(super) fn failed(error: Error) -> StoreError {
    match &error {
        Error::SqliteFailure(failure, _) => match failure.code {
            ErrorCode::DiskFull => Outage::Full(error.to_string()).into(),
            ErrorCode::DatabaseCorrupt
            | ErrorCode::NotADatabase
            | ErrorCode::ConstraintViolation
            | ErrorCode::TypeMismatch => StoreError::Corrupt(error.to_string()),
            _ => Outage::Io(error.to_string()).into(),
        },
        // A column of another type than was written, a missing column or table.
        _ => StoreError::Corrupt(error.to_string()),
    }
}
