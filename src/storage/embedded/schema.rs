//! The tables, their version, and how a connection is set up.
//!
//! Text columns instead of one encoded blob, so that an operator can look at the file with a shell.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, TransactionBehavior};

use super::{OpenError, WAL_BYTES_MAX};

/// Marks the file as ours (`WAGW`), so that another program's database is not taken for one.
const APPLICATION_ID: i64 = 0x5741_4757;

/// Version of the tables below. A newer one in the file is refused: this build would not know what it means.
const SCHEMA_VERSION: i64 = 1;

/// The oldest SQLite without the WAL-reset corruption.
const SQLITE_VERSION_MIN: i32 = 3_051_003;

/// How long a connection waits for another one. Ours never block each other for long; an operator's shell may.
const BUSY_WAIT_MAX: Duration = Duration::from_secs(1);

/// Statements that a connection keeps prepared.
const STATEMENTS_CACHED: usize = 32;

/// `dedupe` stands apart from `events` because it outlives them: Meta repeats a webhook for 7 days, whatever the
/// retention. `crc` covers the whole row, since SQLite itself does not notice a flipped bit.
const TABLES: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;
    INSERT INTO meta VALUES ('epoch', randomblob(8)), ('trimmed_through', 0), ('revision', 0);
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY, append_ms INTEGER NOT NULL, id BLOB NOT NULL, crc INTEGER NOT NULL,
        event_type TEXT NOT NULL, phone_number_id TEXT NOT NULL, waba_id TEXT NOT NULL,
        conversation_key TEXT NOT NULL, envelope BLOB NOT NULL, typed BLOB NOT NULL, raw BLOB NOT NULL
    ) STRICT;
    CREATE TABLE dedupe (id BLOB PRIMARY KEY, seq INTEGER NOT NULL, append_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE INDEX dedupe_by_age ON dedupe (append_ms);
    CREATE TABLE state (
        bucket TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, revision INTEGER NOT NULL, expire_ms INTEGER,
        PRIMARY KEY (bucket, key)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX state_by_expiry ON state (expire_ms) WHERE expire_ms IS NOT NULL;
";

/// The one connection that writes. The database is created when the file is missing or empty.
pub(super) fn open_writer(path: &Path) -> Result<Connection, OpenError> {
    if rusqlite::version_number() < SQLITE_VERSION_MIN {
        return Err(OpenError::SqliteTooOld { found: rusqlite::version() });
    }
    let failed = |source| OpenError::Database { path: path.to_owned(), source };
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    set_up(&connection).map_err(failed)?;
    check_owner(&connection, path)?;
    let mode: String =
        connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(failed)?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(OpenError::NoWriteAheadLog { path: path.to_owned(), mode });
    }
    // FULL syncs the log at every commit; NORMAL would not. Checkpoints are the writer's, which sees their errors.
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    // macOS has an fsync that does not reach the disk, and this other one; elsewhere it means nothing.
    connection.pragma_update(None, "fullfsync", true).map_err(failed)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true).map_err(failed)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0).map_err(failed)?;
    connection.pragma_update(None, "journal_size_limit", super::sql(WAL_BYTES_MAX)).map_err(failed)?;
    // The container has no folder for temporary files.
    connection.pragma_update(None, "temp_store", "MEMORY").map_err(failed)?;
    connection.pragma_update(None, "cache_size", -32_768).map_err(failed)?;
    create_tables(&mut connection).map_err(failed)?;
    Ok(connection)
}

/// A connection that reads. The writer's must be open already.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    set_up(&connection)?;
    Ok(connection)
}

fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    connection.busy_timeout(BUSY_WAIT_MAX)?;
    // A memory map would turn a failing disk into a signal that kills the process.
    connection.pragma_update(None, "mmap_size", 0)
}

/// Refuses files of other programs and of newer builds before anything is changed.
fn check_owner(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::Database { path: path.to_owned(), source };
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    if tables == 0 {
        return Ok(());
    }
    let owner: i64 = connection.query_row("PRAGMA application_id", [], |row| row.get(0)).map_err(failed)?;
    if owner != APPLICATION_ID {
        return Err(OpenError::Foreign { path: path.to_owned() });
    }
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
    if found != SCHEMA_VERSION {
        return Err(OpenError::UnknownSchema { path: path.to_owned(), found, known: SCHEMA_VERSION });
    }
    Ok(())
}

/// Creates the tables once, and puts them into the main file: damage to the write-ahead log then never costs the epoch.
fn create_tables(connection: &mut Connection) -> rusqlite::Result<()> {
    let exists =
        connection.query_row("SELECT 1 FROM sqlite_schema WHERE name = 'meta'", [], |_| Ok(())).optional()?;
    if exists.is_some() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(TABLES)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.commit()?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}
