//! The SQL of the keyed state: compare-and-set, expiry, scan.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::events::CHUNK_ROWS;
use super::transaction::Batch;
use super::{natural, sql};
use crate::storage::keyed_state::{Bucket, Entry, Precondition, Put};

/// Bytes of values that one page of a scan may have.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Entries that one page of a scan may have.
const PAGE_ENTRIES_MAX: usize = 4_096;

/// The outer error is the database's; the inner one is a conflict, with the entry that stands there.
pub(super) type Checked<T> = rusqlite::Result<Result<T, Option<Entry>>>;

/// The entry under a key, unless it has expired.
pub(super) fn get(
    connection: &Connection,
    bucket: Bucket,
    key: &[u8],
    now_ms: u64,
) -> rusqlite::Result<Option<Entry>> {
    connection
        .prepare_cached(
            "SELECT value, revision FROM state WHERE bucket = ?1 AND key = ?2 AND (expire_ms IS NULL OR expire_ms > ?3)",
        )?
        .query_row(params![bucket.name(), key, sql(now_ms)], |row| entry(row, 0))
        .optional()
}

/// The entries under several keys, from one snapshot.
pub(super) fn get_many(
    connection: &Connection,
    bucket: Bucket,
    keys: &[Bytes],
    now_ms: u64,
) -> rusqlite::Result<Vec<Option<Entry>>> {
    let snapshot = connection.unchecked_transaction()?;
    keys.iter().map(|key| get(&snapshot, bucket, key, now_ms)).collect()
}

/// A page of unexpired entries in key order.
pub(super) fn scan(
    connection: &Connection,
    bucket: Bucket,
    after_key: Option<&[u8]>,
    limit: usize,
    now_ms: u64,
) -> rusqlite::Result<Vec<(Bytes, Entry)>> {
    // Blobs are compared byte by byte, and the empty key is the smallest.
    let mut select = connection.prepare_cached(
        "SELECT value, revision, key FROM state WHERE bucket = ?1 AND key >= ?2 AND (?3 OR key > ?2) \
         AND (expire_ms IS NULL OR expire_ms > ?4) ORDER BY key LIMIT ?5",
    )?;
    let limit = limit.clamp(1, PAGE_ENTRIES_MAX);
    let (from, inclusive) = (after_key.unwrap_or_default(), after_key.is_none());
    let mut rows = select.query(params![bucket.name(), from, inclusive, sql(now_ms), sql(limit as u64)])?;
    let mut page: Vec<(Bytes, Entry)> = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let entry = entry(row, 0)?;
        bytes += entry.value.len();
        if bytes > PAGE_BYTES_MAX && !page.is_empty() {
            break;
        }
        page.push((Bytes::copy_from_slice(row.get_ref(2)?.as_blob()?), entry));
    }
    Ok(page)
}

/// Writes one entry if the precondition holds and returns its revision.
pub(super) fn put(batch: &mut Batch<'_>, put: &Put, precondition: Precondition) -> Checked<u64> {
    if let Err(current) = check(batch, put.bucket, &put.key, precondition)? {
        return Ok(Err(current));
    }
    let revision = batch.next_revision();
    // Most puts move an entry that is there and leave its expiry: then the index stays as it is.
    let moved = batch
        .transaction
        .prepare_cached(
            "UPDATE state SET value = ?3, revision = ?4 WHERE bucket = ?1 AND key = ?2 AND expire_ms IS ?5",
        )?
        .execute(row(put, revision))?;
    if moved == 1 {
        return Ok(Ok(revision));
    }
    batch
        .transaction
        .prepare_cached(
            "INSERT INTO state (bucket, key, value, revision, expire_ms) VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT (bucket, key) DO UPDATE SET \
             value = excluded.value, revision = excluded.revision, expire_ms = excluded.expire_ms",
        )?
        .execute(row(put, revision))?;
    Ok(Ok(revision))
}

fn row(put: &Put, revision: u64) -> (&'static str, &[u8], &[u8], i64, Option<i64>) {
    (put.bucket.name(), &put.key, &put.value, sql(revision), put.expire_at_ms.map(sql))
}

/// Deletes one entry if the precondition holds; false if there was none.
pub(super) fn delete(
    batch: &mut Batch<'_>,
    bucket: Bucket,
    key: &[u8],
    precondition: Precondition,
) -> Checked<bool> {
    let current = get(&batch.transaction, bucket, key, batch.now_ms)?;
    if !holds(precondition, current.as_ref()) {
        return Ok(Err(current));
    }
    batch
        .transaction
        .prepare_cached("DELETE FROM state WHERE bucket = ?1 AND key = ?2")?
        .execute(params![bucket.name(), key])?;
    Ok(Ok(current.is_some()))
}

/// Deletes one chunk of expired entries and returns how many those were.
pub(super) fn sweep(batch: &mut Batch<'_>) -> rusqlite::Result<usize> {
    batch
        .transaction
        .prepare_cached(
            "DELETE FROM state WHERE (bucket, key) IN \
             (SELECT bucket, key FROM state WHERE expire_ms <= ?1 ORDER BY expire_ms LIMIT ?2)",
        )?
        .execute(params![sql(batch.now_ms), sql(CHUNK_ROWS as u64)])
}

fn check(batch: &Batch<'_>, bucket: Bucket, key: &[u8], precondition: Precondition) -> Checked<()> {
    if precondition == Precondition::None {
        return Ok(Ok(()));
    }
    let current = get(&batch.transaction, bucket, key, batch.now_ms)?;
    Ok(if holds(precondition, current.as_ref()) { Ok(()) } else { Err(current) })
}

fn holds(precondition: Precondition, current: Option<&Entry>) -> bool {
    match precondition {
        Precondition::None => true,
        Precondition::Absent => current.is_none(),
        Precondition::Revision(expected) => current.is_some_and(|entry| entry.revision == expected),
    }
}

fn entry(row: &Row<'_>, first_column: usize) -> rusqlite::Result<Entry> {
    let value = Bytes::copy_from_slice(row.get_ref(first_column)?.as_blob()?);
    Ok(Entry { value, revision: natural(row.get(first_column + 1)?) })
}
