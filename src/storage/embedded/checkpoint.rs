//! Checkpoints: moving the write-ahead log into the database, on the writer thread and after its answers.

use rusqlite::{Connection, ErrorCode};

use super::WAL_BYTES_MAX;

/// Pages of the log that a checkpoint is worth: 16 MiB.
const EVERY_PAGES: u64 = 4_000;

/// Bytes of a page, SQLite's default.
const PAGE_BYTES: u64 = 4_096;

/// Decides when to make a checkpoint.
#[derive(Debug)]
pub(super) struct Checkpointer {
    /// Pages in the log, not yet in the database, that make the next one due.
    due_pages: u64,
}

impl Default for Checkpointer {
    fn default() -> Self {
        Self { due_pages: EVERY_PAGES }
    }
}

impl Checkpointer {
    /// Makes a checkpoint if enough has gathered. An error means that the disk failed.
    pub(super) fn run_if_due(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let Log { pages, done } = checkpoint(connection, "PRAGMA wal_checkpoint(NOOP)")?;
        if pages.saturating_sub(done) < self.due_pages {
            return Ok(());
        }
        // Passive never waits, but readers in its way let the log grow; past the limit the writer waits for them.
        let passive = pages.saturating_mul(PAGE_BYTES) < WAL_BYTES_MAX;
        let pragma =
            if passive { "PRAGMA wal_checkpoint(PASSIVE)" } else { "PRAGMA wal_checkpoint(RESTART)" };
        let Log { pages, done } = checkpoint(connection, pragma)?;
        // What a reader held back is tried again after as much again, or every commit would wait for it.
        self.due_pages = pages.saturating_sub(done).saturating_add(EVERY_PAGES);
        Ok(())
    }

    /// Empties the log and gives its room back to the disk.
    pub(super) fn truncate(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.due_pages = EVERY_PAGES;
        checkpoint(connection, "PRAGMA wal_checkpoint(TRUNCATE)").map(drop)
    }
}

/// The write-ahead log, in pages.
#[derive(Debug, Clone, Copy, Default)]
struct Log {
    pages: u64,
    done: u64,
}

/// A full disk or another program in the way only puts it off: the log keeps what the database lacks.
fn checkpoint(connection: &Connection, pragma: &str) -> rusqlite::Result<Log> {
    let checkpoint = connection.prepare_cached(pragma).and_then(|mut pragma| {
        pragma.query_row([], |row| {
            Ok(Log { pages: super::natural(row.get(1)?), done: super::natural(row.get(2)?) })
        })
    });
    checkpoint.or_else(|error| match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            tracing::warn!(%error, "a checkpoint was put off");
            Ok(Log::default())
        }
        Some(_) | None => Err(error),
    })
}
