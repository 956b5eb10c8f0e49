//! The SQL of the event log: append, page, seek, trim.

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::transaction::{self, Batch};
use super::{natural, sql};
use crate::storage::event_log::{Appended, Attributes, Item, ReadError, ReadLimit, StoredEvent};

/// Rows that one transaction deletes, so that appends get their turn in between.
pub(super) const CHUNK_ROWS: usize = 1_000;

/// Bytes of events that one transaction deletes.
const CHUNK_BYTES: u64 = 16 * 1024 * 1024;

/// Appends the items in order; ids that are known add nothing.
pub(super) fn append(batch: &mut Batch<'_>, items: Vec<Item>) -> rusqlite::Result<Vec<Appended>> {
    items.into_iter().map(|item| append_one(batch, item)).collect()
}

fn append_one(batch: &mut Batch<'_>, item: Item) -> rusqlite::Result<Appended> {
    let event = StoredEvent::new(batch.next_seq(), batch.append_ms, item);
    let (seq, append_ms) = (sql(event.seq), sql(event.append_ms));
    let is_new = batch
        .transaction
        .prepare_cached("INSERT INTO dedupe (id, seq, append_ms) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?
        .execute(params![event.id, seq, append_ms])?
        == 1;
    if !is_new {
        batch.duplicates += 1;
        let first = batch
            .transaction
            .prepare_cached("SELECT seq FROM dedupe WHERE id = ?1")?
            .query_row([event.id], |row| row.get(0))?;
        return Ok(Appended::Duplicate(natural(first)));
    }
    let attributes = &event.attributes;
    batch
        .transaction
        .prepare_cached(
            "INSERT INTO events (seq, append_ms, id, crc, event_type, phone_number_id, waba_id, conversation_key, \
             envelope, typed, raw) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            seq,
            append_ms,
            event.id,
            checksum(&event),
            attributes.event_type,
            attributes.phone_number_id,
            attributes.waba_id,
            attributes.conversation_key,
            &event.envelope[..],
            &event.typed[..],
            &event.raw[..],
        ])?;
    let appended = Appended::New(event.seq);
    batch.push(event);
    Ok(appended)
}

/// The events after `after`, of which there is one or was one. One short statement: a long one would stop
/// checkpoints.
pub(super) fn page(
    connection: &Connection,
    after: u64,
    limit: ReadLimit,
) -> Result<Vec<Arc<StoredEvent>>, ReadError> {
    let mut select = connection.prepare_cached(
        "SELECT seq, append_ms, id, crc, event_type, phone_number_id, waba_id, conversation_key, \
         envelope, typed, raw FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2",
    )?;
    let mut rows = select.query(params![sql(after), sql(limit.events as u64)])?;
    let mut page = Vec::new();
    let (mut expected, mut bytes) = (after + 1, 0);
    while let Some(row) = rows.next()? {
        let event = stored_event(row)?;
        bytes += event.size_bytes();
        if bytes > limit.bytes && !page.is_empty() {
            break;
        }
        if event.seq != expected {
            return Err(missing(connection, expected));
        }
        expected += 1;
        page.push(Arc::new(event));
    }
    if page.is_empty() { Err(missing(connection, expected)) } else { Ok(page) }
}

/// Why there is no event at `seq`: a trim was faster than the reader, or the database is damaged. Asked after the
/// event was not found, so the mark of that trim is committed already.
fn missing(connection: &Connection, seq: u64) -> ReadError {
    match transaction::load_trimmed_through(connection) {
        Ok(trimmed_through) if trimmed_through >= seq => ReadError::Trimmed { earliest: trimmed_through + 1 },
        Ok(_) => damaged(seq),
        Err(error) => error.into(),
    }
}

/// The row is not what was written. Never served, never skipped.
fn damaged(seq: u64) -> ReadError {
    ReadError::Failed(format!("the event at {seq} is damaged on disk"))
}

fn stored_event(row: &Row<'_>) -> Result<StoredEvent, ReadError> {
    let event = StoredEvent {
        seq: natural(row.get(0)?),
        append_ms: natural(row.get(1)?),
        id: row.get(2)?,
        attributes: Attributes {
            event_type: row.get(4)?,
            phone_number_id: row.get(5)?,
            waba_id: row.get(6)?,
            conversation_key: row.get(7)?,
        },
        envelope: blob(row, 8)?,
        typed: blob(row, 9)?,
        raw: blob(row, 10)?,
    };
    if row.get::<_, u32>(3)? != checksum(&event) {
        return Err(damaged(event.seq));
    }
    Ok(event)
}

fn blob(row: &Row<'_>, column: usize) -> rusqlite::Result<Bytes> {
    Ok(Bytes::copy_from_slice(row.get_ref(column)?.as_blob()?))
}

/// A checksum over the whole row. Lengths go in too, so that bytes cannot wander between fields.
fn checksum(event: &StoredEvent) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&event.seq.to_le_bytes());
    hasher.update(&event.append_ms.to_le_bytes());
    hasher.update(&event.id);
    let Attributes { event_type, phone_number_id, waba_id, conversation_key } = &event.attributes;
    for text in [event_type, phone_number_id, waba_id, conversation_key] {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    for segment in [&event.envelope, &event.typed, &event.raw] {
        hasher.update(&(segment.len() as u64).to_le_bytes());
        hasher.update(segment);
    }
    hasher.finalize()
}

/// The position after which every event was appended at or after `unix_ms`; `None` when no event is kept.
///
/// Append times never fall and kept positions have no holes, so a binary search needs no index.
pub(super) fn seek_time(connection: &Connection, unix_ms: u64) -> rusqlite::Result<Option<u64>> {
    // One snapshot, so that a trim in between cannot take the searched rows away.
    let snapshot = connection.unchecked_transaction()?;
    let kept: (Option<i64>, Option<i64>) = snapshot
        .prepare_cached("SELECT (SELECT min(seq) FROM events), (SELECT max(seq) FROM events)")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (Some(first), Some(last)) = kept else { return Ok(None) };
    let mut append_ms = snapshot.prepare_cached("SELECT append_ms FROM events WHERE seq = ?1")?;
    let (mut low, mut high) = (first, last + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let appended: i64 = append_ms.query_row([middle], |row| row.get(0))?;
        if natural(appended) < unix_ms {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(Some(natural(low - 1)))
}

/// What one transaction of a trim did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trimmed {
    /// Events deleted.
    pub(super) events: u64,
    /// Whether there may be more to do.
    pub(super) goes_on: bool,
}

/// Deletes the oldest events appended before `events_before_ms`, and ids seen before `ids_before_ms`; one chunk of both.
pub(super) fn trim(
    batch: &mut Batch<'_>,
    events_before_ms: u64,
    ids_before_ms: u64,
) -> rusqlite::Result<Trimmed> {
    let (events, is_full) = trim_events(batch, events_before_ms)?;
    let ids = batch
        .transaction
        .prepare_cached(
            "DELETE FROM dedupe WHERE id IN \
             (SELECT id FROM dedupe WHERE append_ms < ?1 ORDER BY append_ms LIMIT ?2)",
        )?
        .execute(params![sql(ids_before_ms), sql(CHUNK_ROWS as u64)])?;
    Ok(Trimmed { events, goes_on: is_full || ids == CHUNK_ROWS })
}

/// How many events were deleted, and whether the chunk was full.
fn trim_events(batch: &mut Batch<'_>, before_ms: u64) -> rusqlite::Result<(u64, bool)> {
    let mut through = None;
    let (mut count, mut bytes) = (0, 0);
    {
        // `length` of a blob is in the row's header: the content is not read.
        let mut select = batch.transaction.prepare_cached(
            "SELECT seq, append_ms, length(envelope) + length(typed) + length(raw) FROM events ORDER BY seq LIMIT ?1",
        )?;
        let mut rows = select.query([sql(CHUNK_ROWS as u64)])?;
        while let Some(row) = rows.next()? {
            if natural(row.get(1)?) >= before_ms || bytes >= CHUNK_BYTES {
                break;
            }
            through = Some(row.get::<_, i64>(0)?);
            count += 1;
            bytes += natural(row.get(2)?);
        }
    }
    if let Some(through) = through {
        batch.transaction.prepare_cached("DELETE FROM events WHERE seq <= ?1")?.execute([through])?;
        batch.trim_through(natural(through));
    }
    Ok((count, bytes >= CHUNK_BYTES || count == CHUNK_ROWS as u64))
}

/// Where the oldest kept event is, if there is one. Differs from the trimmed mark only in a damaged database.
pub(super) fn first_seq(connection: &Connection) -> rusqlite::Result<Option<u64>> {
    let first = connection
        .query_row("SELECT seq FROM events ORDER BY seq LIMIT 1", [], |row| row.get(0))
        .optional()?;
    Ok(first.map(natural))
}
