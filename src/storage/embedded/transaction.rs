//! One group commit: the open transaction and the counters that become true with it.
//!
//! A job never leaves a partial write behind: what may be refused (a precondition) is checked before anything is
//! written, and a database error spoils the whole transaction. So one bad request cannot fail the others, and no
//! savepoints are needed.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::{natural, sql};
use crate::storage::event_log::{Bounds, StoredEvent};

/// The writer's counters as of the last commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// Newest position given out.
    pub(super) tail: u64,
    /// Everything up to here was trimmed.
    pub(super) trimmed_through: u64,
    /// When the newest event was appended.
    pub(super) append_ms: u64,
    /// Newest revision given out to an entry of the state.
    pub(super) revision: u64,
}

impl Position {
    /// As stored. Positions go on behind the trimmed ones even when no event is left.
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let newest = connection
            .query_row("SELECT seq, append_ms FROM events ORDER BY seq DESC LIMIT 1", [], |row| {
                Ok((natural(row.get(0)?), natural(row.get(1)?)))
            })
            .optional()?;
        let (seq, append_ms) = newest.unwrap_or_default();
        let trimmed_through = load_trimmed_through(connection)?;
        let revision = natural(meta(connection, "revision")?);
        Ok(Self { tail: seq.max(trimmed_through), trimmed_through, append_ms, revision })
    }

    /// The kept part of the log.
    pub(super) fn bounds(&self) -> Bounds {
        Bounds { earliest: self.trimmed_through.saturating_add(1), tail: self.tail }
    }
}

/// The identity of the log.
pub(super) fn load_epoch(connection: &Connection) -> rusqlite::Result<[u8; 8]> {
    meta(connection, "epoch")
}

/// Up to where events were trimmed.
pub(super) fn load_trimmed_through(connection: &Connection) -> rusqlite::Result<u64> {
    Ok(natural(meta(connection, "trimmed_through")?))
}

fn meta<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> rusqlite::Result<T> {
    connection.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0))
}

/// An open transaction and what will be true once it is committed.
#[derive(Debug)]
pub(super) struct Batch<'t> {
    pub(super) transaction: Transaction<'t>,
    /// The time of day, for expiry.
    pub(super) now_ms: u64,
    /// The time of this commit, never before that of an earlier one.
    pub(super) append_ms: u64,
    /// New events, in order.
    pub(super) events: Vec<Arc<StoredEvent>>,
    /// Items that were known already.
    pub(super) duplicates: u64,
    position: Position,
    before: Position,
}

/// What a commit made true.
#[derive(Debug)]
pub(super) struct Committed {
    pub(super) position: Position,
    pub(super) events: Vec<Arc<StoredEvent>>,
    pub(super) duplicates: u64,
}

impl<'t> Batch<'t> {
    /// Starts on an open transaction.
    pub(super) fn new(transaction: Transaction<'t>, position: Position, now_ms: u64) -> Self {
        let append_ms = now_ms.max(position.append_ms);
        Self { transaction, now_ms, append_ms, events: Vec::new(), duplicates: 0, position, before: position }
    }

    /// The position that the next new event gets.
    pub(super) fn next_seq(&self) -> u64 {
        self.position.tail + 1
    }

    /// Counts an event that was written at [`Self::next_seq`].
    pub(super) fn push(&mut self, event: StoredEvent) {
        self.position.tail = event.seq;
        self.position.append_ms = event.append_ms;
        self.events.push(Arc::new(event));
    }

    /// A revision that was never given out.
    pub(super) fn next_revision(&mut self) -> u64 {
        self.position.revision += 1;
        self.position.revision
    }

    /// Counts events that were deleted.
    pub(super) fn trim_through(&mut self, seq: u64) {
        self.position.trimmed_through = self.position.trimmed_through.max(seq);
    }

    /// Makes it durable.
    pub(super) fn commit(self) -> rusqlite::Result<Committed> {
        self.save("trimmed_through", self.before.trimmed_through, self.position.trimmed_through)?;
        self.save("revision", self.before.revision, self.position.revision)?;
        self.transaction.commit()?;
        Ok(Committed { position: self.position, events: self.events, duplicates: self.duplicates })
    }

    fn save(&self, name: &str, before: u64, now: u64) -> rusqlite::Result<()> {
        if before == now {
            return Ok(());
        }
        let mut update = self.transaction.prepare_cached("UPDATE meta SET value = ?2 WHERE name = ?1")?;
        update.execute(params![name, sql(now)])?;
        Ok(())
    }
}
