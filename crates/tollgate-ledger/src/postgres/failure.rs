//! What PostgreSQL's errors mean here.

use tokio_postgres::{Error, error::SqlState};

use crate::error::{Outage, StoreError};

/// What to do about an error.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Trouble {
    /// Another transaction was in the way: nothing is written, and it can be tried again at once.
    Contended(String),
    /// Another transaction holds a row for longer than this one waits.
    Held,
    /// The connection is gone: what was sent last may or may not have happened.
    Gone(String),
    /// It will not do.
    Failed(StoreError),
}

impl Trouble {
    /// As a reader is told it.
    pub(super) fn told(self) -> StoreError {
        match self {
            Self::Contended(what) | Self::Gone(what) => Outage::Io(what).into(),
            Self::Held => Outage::Io("a row is held by another transaction".into()).into(),
            Self::Failed(error) => error,
        }
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        let Some(code) = error.code().cloned() else {
            return Self::Gone(said(&error));
        };
        let what = said(&error);
        if code == SqlState::T_R_SERIALIZATION_FAILURE
            || code == SqlState::T_R_DEADLOCK_DETECTED
            || code == SqlState::UNIQUE_VIOLATION
        {
            return Self::Contended(what);
        }
        if code == SqlState::LOCK_NOT_AVAILABLE {
            return Self::Held;
        }
        match code.code().get(..2) {
            // The server ends the connection, or the transaction with it.
            Some("57") | Some("08") => Self::Gone(what),
            Some("25") if code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT => Self::Gone(what),
            Some("53") => Self::Failed(Outage::Full(what).into()),
            Some("22") | Some("23") | Some("42") => Self::Failed(StoreError::Corrupt(what)),
            _ => Self::Failed(Outage::Io(what).into()),
        }
    }
}

/// The server's word without the rows that it quotes: those are payers' secrets.
pub(super) fn said(error: &Error) -> String {
    match error.as_db_error() {
        Some(error) => format!(
            "PostgreSQL says: {} ({})",
            error.message(),
            error.code().code()
        ),
        None => {
            let mut said = format!("the connection to PostgreSQL: {error}");
            let mut cause = std::error::Error::source(error);
            while let Some(next) = cause {
                let text = next.to_string();
                if !said.contains(&text) {
                    said.push_str(": ");
                    said.push_str(&text);
                }
                cause = next.source();
            }
            said
        }
    }
}
