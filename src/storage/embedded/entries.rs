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
    let revision = batch.next_revision();
    let is_written = match precondition {
        // One statement each for what is to be expected; the entry is read only to say what stands in the way.
        Precondition::Absent => insert(batch, put, revision)?,
        Precondition::Revision(expected) => replace(batch, put, revision, expected)?,
        // Most puts move an entry that is there and leave its expiry: then the index stays as it is.
        Precondition::None => update(batch, put, revision)? || upsert(batch, put, revision)?,
    };
    if is_written {
        return Ok(Ok(revision));
    }
    get(&batch.transaction, put.bucket, &put.key, batch.now_ms).map(Err)
}

/// False if an entry stands there that has not expired.
fn insert(batch: &Batch<'_>, put: &Put, revision: u64) -> rusqlite::Result<bool> {
    let mut insert = batch.transaction.prepare_cached(
        "INSERT INTO state (bucket, key, value, revision, expire_ms) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (bucket, key) DO UPDATE SET \
         value = excluded.value, revision = excluded.revision, expire_ms = excluded.expire_ms \
         WHERE expire_ms <= ?6",
    )?;
    let (bucket, key, value, revision, expire_ms) = row(put, revision);
    Ok(insert.execute(params![bucket, key, value, revision, expire_ms, sql(batch.now_ms)])? == 1)
}

/// False unless the entry has the revision expected, and has not expired.
fn replace(batch: &Batch<'_>, put: &Put, revision: u64, expected: u64) -> rusqlite::Result<bool> {
    let (bucket, key, value, revision, expire_ms) = row(put, revision);
    let (expected, now_ms) = (sql(expected), sql(batch.now_ms));
    let mut same_expiry = batch.transaction.prepare_cached(
        "UPDATE state SET value = ?3, revision = ?4 WHERE bucket = ?1 AND key = ?2 AND expire_ms IS ?5 \
         AND revision = ?6 AND (expire_ms IS NULL OR expire_ms > ?7)",
    )?;
    if same_expiry.execute(params![bucket, key, value, revision, expire_ms, expected, now_ms])? == 1 {
        return Ok(true);
    }
    let mut other_expiry = batch.transaction.prepare_cached(
        "UPDATE state SET value = ?3, revision = ?4, expire_ms = ?5 WHERE bucket = ?1 AND key = ?2 \
         AND revision = ?6 AND (expire_ms IS NULL OR expire_ms > ?7)",
    )?;
    Ok(other_expiry.execute(params![bucket, key, value, revision, expire_ms, expected, now_ms])? == 1)
}

/// False unless there is an entry with the same expiry.
fn update(batch: &Batch<'_>, put: &Put, revision: u64) -> rusqlite::Result<bool> {
    let mut update = batch.transaction.prepare_cached(
        "UPDATE state SET value = ?3, revision = ?4 WHERE bucket = ?1 AND key = ?2 AND expire_ms IS ?5",
    )?;
    Ok(update.execute(row(put, revision))? == 1)
}

fn upsert(batch: &Batch<'_>, put: &Put, revision: u64) -> rusqlite::Result<bool> {
    let mut upsert = batch.transaction.prepare_cached(
        "INSERT INTO state (bucket, key, value, revision, expire_ms) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (bucket, key) DO UPDATE SET \
         value = excluded.value, revision = excluded.revision, expire_ms = excluded.expire_ms",
    )?;
    Ok(upsert.execute(row(put, revision))? == 1)
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
    if precondition != Precondition::None {
        let current = get(&batch.transaction, bucket, key, batch.now_ms)?;
        if !holds(precondition, current.as_ref()) {
            return Ok(Err(current));
        }
    }
    // An expired entry counts as none, and goes with the next sweep.
    let mut delete = batch.transaction.prepare_cached(
        "DELETE FROM state WHERE bucket = ?1 AND key = ?2 AND (expire_ms IS NULL OR expire_ms > ?3)",
    )?;
    Ok(Ok(delete.execute(params![bucket.name(), key, sql(batch.now_ms)])? > 0))
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
