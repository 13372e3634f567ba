//! Opening a ledger's file: created, recognized, locked, and found to be durable; or a sentence that helps.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use tollgate_x402::B256;

use crate::text;

/// So long is waited for whoever else has the file.
pub(super) const BUSY: Duration = Duration::from_secs(5);

/// The version of the tables that this version reads and writes.
const SCHEMA: i64 = 2;
/// The oldest program that can use them: what was added since, it need not know of.
const COMPATIBLE: i64 = 1;
/// "toll": what the file's header says that it is.
const APPLICATION: i32 = 0x746f_6c6c;

/// Why a ledger was not opened. The file is as it was.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// It is open already, in this process or another.
    #[error(
        "the ledger {} is open already{}: stop that one first, two would spend the same money (the lock is on {})",
        file.display(), holder.as_ref().map(|id| format!(" in process {id}")).unwrap_or_default(), lock.display()
    )]
    Locked {
        /// The ledger.
        file: PathBuf,
        /// The file that is locked.
        lock: PathBuf,
        /// The process that has it, if it says so.
        holder: Option<u32>,
    },
    /// A newer version of this program wrote it.
    #[error(
        "the ledger {} has tables of version {found} and this program knows up to {known}: use the newer program, \
         or restore the copy that was made before it was upgraded", file.display()
    )]
    Newer {
        /// The ledger.
        file: PathBuf,
        /// Its version.
        found: i64,
        /// The version that this program knows.
        known: i64,
    },
    /// The file holds something else.
    #[error("{} is not a ledger: name another file, this one is left as it is", file.display())]
    NotALedger {
        /// The file.
        file: PathBuf,
    },
    /// The file or its file system does not keep what was acknowledged.
    #[error("the ledger {} would lose payments when the power fails ({what}): put it on a local disk", file.display())]
    NotDurable {
        /// The ledger.
        file: PathBuf,
        /// What is missing.
        what: String,
    },
    /// It cannot be read or written.
    #[error("the ledger {} cannot be opened: {what}", file.display())]
    Io {
        /// The ledger.
        file: PathBuf,
        /// What the system says.
        what: String,
    },
    /// Its content is damaged.
    #[error("the ledger {} is damaged: {what}; restore a copy and reconcile it with the chain", file.display())]
    Corrupt {
        /// The ledger.
        file: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// An open file.
pub(super) struct Opened {
    pub(super) file: PathBuf,
    pub(super) books: Connection,
    pub(super) ledger_id: B256,
    /// The lock lasts as long as this.
    pub(super) lock: File,
}

/// Opens a ledger, or creates it with this name.
pub(super) fn open(path: &Path, new_ledger_id: B256) -> Result<Opened, OpenError> {
    let file = resolve(path).map_err(|error| io(path, error))?;
    let lock = lock(&file)?;
    create(&file).map_err(|error| io(&file, error))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut books = Connection::open_with_flags(&file, flags).map_err(|error| sql(&file, error))?;
    // A person's tool may read or check the file meanwhile.
    books
        .busy_timeout(BUSY)
        .map_err(|error| sql(&file, error))?;
    let new = recognize(&file, &books)?;
    make_durable(&file, &books)?;
    if new {
        write_schema(&mut books, new_ledger_id).map_err(|error| sql(&file, error))?;
    }
    let (version, ledger_id) = read_meta(&file, &books)?;
    if version < SCHEMA {
        upgrade(&mut books).map_err(|error| sql(&file, error))?;
    }
    Ok(Opened {
        file,
        books,
        ledger_id,
        lock,
    })
}

/// The same file has one name, so that it has one lock, whatever links lead to it.
fn resolve(path: &Path) -> std::io::Result<PathBuf> {
    match path.canonicalize() {
        Ok(path) => Ok(path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let name = path.file_name().ok_or(error)?;
            let folder = match path.parent() {
                Some(folder) if !folder.as_os_str().is_empty() => folder,
                _ => Path::new("."),
            };
            Ok(folder.canonicalize()?.join(name))
        }
        Err(error) => Err(error),
    }
}

fn lock(file: &Path) -> Result<File, OpenError> {
    let mut name = file.as_os_str().to_owned();
    name.push(".lock");
    let path = PathBuf::from(name);
    let mut lock = private()
        .read(true)
        .open(&path)
        .map_err(|error| io(file, error))?;
    match lock.try_lock() {
        Ok(()) => {
            // Who has it is a courtesy: without it the lock holds as well.
            let _ = lock
                .set_len(0)
                .and_then(|()| write!(lock, "{}", std::process::id()));
            Ok(lock)
        }
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = lock
                .seek(SeekFrom::Start(0))
                .and_then(|_| (&lock).take(20).read_to_string(&mut holder));
            Err(OpenError::Locked {
                file: file.into(),
                lock: path,
                holder: holder.trim().parse().ok(),
            })
        }
        Err(TryLockError::Error(error)) => Err(OpenError::NotDurable {
            file: file.into(),
            what: format!("the file system has no locks: {error}"),
        }),
    }
}

/// Signatures and payers' secrets are in it: nobody else may read it. SQLite gives its other files the
/// same permissions.
fn create(file: &Path) -> std::io::Result<()> {
    private().open(file).map(drop)
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Whether the file is new (empty). Anything else must be a ledger.
pub(super) fn recognize(file: &Path, books: &Connection) -> Result<bool, OpenError> {
    let read = |name| {
        books
            .query_row(name, [], |row| row.get::<_, i64>(0))
            .map_err(|error| match error.sqlite_error_code() {
                Some(rusqlite::ErrorCode::NotADatabase) => {
                    OpenError::NotALedger { file: file.into() }
                }
                _ => sql(file, error),
            })
    };
    if read("PRAGMA application_id")? == i64::from(APPLICATION) {
        return Ok(false);
    }
    if read("SELECT count(*) FROM sqlite_schema")? == 0 {
        return Ok(true);
    }
    Err(OpenError::NotALedger { file: file.into() })
}

/// Sets what makes an acknowledged commit last, and does not take the setting's word for it.
fn make_durable(file: &Path, books: &Connection) -> Result<(), OpenError> {
    let not = |what: String| OpenError::NotDurable {
        file: file.into(),
        what,
    };
    let journal: String = books
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .map_err(|error| sql(file, error))?;
    if journal != "wal" {
        return Err(not(format!("its journal is {journal} and must be wal")));
    }
    // A cache of 2 MiB: the system holds the file's pages too, and the memory of a gateway is small.
    books
        .execute_batch(
            "PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON;
             PRAGMA trusted_schema = OFF; PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -2048;",
        )
        .map_err(|error| sql(file, error))?;
    verify_durable(file, books)
}

/// `NORMAL` loses acknowledged commits when the power fails: FULL is 2, EXTRA is 3.
pub(super) fn verify_durable(file: &Path, books: &Connection) -> Result<(), OpenError> {
    let synchronous: i64 = books
        .query_row("PRAGMA synchronous", [], |row| row.get(0))
        .map_err(|error| sql(file, error))?;
    if synchronous < 2 {
        return Err(OpenError::NotDurable {
            file: file.into(),
            what: format!("synchronous is {synchronous} and must be 2, FULL"),
        });
    }
    Ok(())
}

fn write_schema(books: &mut Connection, ledger_id: B256) -> rusqlite::Result<()> {
    let create = books.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    create.execute_batch(include_str!("schema.sql"))?;
    create.execute_batch(include_str!("schema_2.sql"))?;
    let mut insert = create.prepare("INSERT INTO meta (key, value) VALUES (?1, ?2)")?;
    insert.execute(params!["schema", SCHEMA.to_string()])?;
    insert.execute(params!["compatible", COMPATIBLE.to_string()])?;
    insert.execute(params!["ledger_id", text::hex(ledger_id)])?;
    insert.execute(params!["epoch", "0"])?;
    drop(insert);
    create.pragma_update(None, "application_id", APPLICATION)?;
    create.commit()
}

/// Adds what version 2 has and version 1 had not.
fn upgrade(books: &mut Connection) -> rusqlite::Result<()> {
    let change = books.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    change.execute_batch(include_str!("schema_2.sql"))?;
    change.execute(
        "UPDATE meta SET value = ?1 WHERE key = 'schema'",
        [SCHEMA.to_string()],
    )?;
    change.execute(
        "INSERT INTO meta (key, value) VALUES ('compatible', ?1) ON CONFLICT DO UPDATE SET value = excluded.value",
        [COMPATIBLE.to_string()],
    )?;
    change.commit()
}

/// The version of the tables, which this program knows, and the ledger's name.
fn read_meta(file: &Path, books: &Connection) -> Result<(i64, B256), OpenError> {
    let read = |key| {
        books
            .query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| {
                row.get::<_, String>(0)
            })
            .optional()
            .map_err(|error| sql(file, error))
    };
    let corrupt = |what: &str| OpenError::Corrupt {
        file: file.into(),
        what: what.into(),
    };
    let found: i64 = read("schema")?
        .and_then(|version| version.parse().ok())
        .ok_or_else(|| corrupt("it has no version"))?;
    // Where nothing is said, only a program that knows these tables can use them.
    let needed = read("compatible")?.and_then(|version| version.parse().ok());
    if needed.unwrap_or(found) > SCHEMA {
        return Err(OpenError::Newer {
            file: file.into(),
            found,
            known: SCHEMA,
        });
    }
    let id = read("ledger_id")?.ok_or_else(|| corrupt("it has no name"))?;
    let id = text::parse_hash(&id).map_err(|_| corrupt("its name is not 32 bytes"))?;
    Ok((found, id))
}

fn io(file: &Path, error: std::io::Error) -> OpenError {
    OpenError::Io {
        file: file.into(),
        what: error.to_string(),
    }
}

fn sql(file: &Path, error: rusqlite::Error) -> OpenError {
    let what = error.to_string();
    let file = file.into();
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseCorrupt) | None => OpenError::Corrupt { file, what },
        Some(_) => OpenError::Io { file, what },
    }
}
