//! A copy of a ledger as it is at one moment, also of one that is open elsewhere.

use std::{fs::OpenOptions, path::Path};

use rusqlite::{Connection, OpenFlags};

use super::{OpenError, SqliteStore};

impl SqliteStore {
    /// Copies a ledger, as it is at this moment, into a new file. The ledger may be open in this process or another, which
    /// goes on meanwhile: nothing of it is locked or changed. It blocks until the copy is written.
    ///
    /// The copy is a ledger of the same id. Do not sell with both: each would spend the same money.
    ///
    /// # Errors
    /// [`OpenError::Io`] where there is no ledger, or the copy cannot be written; [`OpenError::NotALedger`].
    pub fn copy(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<(), OpenError> {
        let (from, to) = (from.as_ref(), to.as_ref());
        let io = |file: &Path, what: String| OpenError::Io {
            file: file.into(),
            what,
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let books = Connection::open_with_flags(from, flags)
            .map_err(|error| io(from, error.to_string()))?;
        books
            .busy_timeout(std::time::Duration::from_secs(5))
            .map_err(|error| io(from, error.to_string()))?;
        if super::open::recognize(from, &books)? {
            return Err(OpenError::NotALedger { file: from.into() });
        }
        // Signatures and payers' secrets are in it: nobody else may read it.
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options
            .open(to)
            .map_err(|error| io(to, format!("the copy cannot be made: {error}")))?;
        let name = to
            .to_str()
            .ok_or_else(|| io(to, "its name is not text".into()))?;
        books
            .execute("VACUUM INTO ?1", [name])
            .map(drop)
            .map_err(|error| io(to, error.to_string()))
    }
}
