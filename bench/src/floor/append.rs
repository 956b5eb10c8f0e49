//! Webhooks made durable: axum, the signature, a group commit, 200. Nothing is read from the body.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use rusqlite::{Connection, OpenFlags, TransactionBehavior, params};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::Result;
use crate::webhook::Signer;

/// Jobs of one commit at most, as in the gateway.
const GROUP_MAX: usize = 512;

/// A webhook that waits for its commit.
struct Job {
    id: [u8; 16],
    done: oneshot::Sender<()>,
}

#[derive(Clone)]
struct Port {
    signer: Signer,
    jobs: Sender<Job>,
}

/// One event as the gateway stored it.
pub(super) struct Row {
    texts: [String; 4],
    blobs: [Vec<u8>; 3],
    append_ms: i64,
    crc: i64,
}

impl Row {
    /// The event as subscribers get it, but for its cursor.
    pub(super) fn encoded(&self) -> Vec<u8> {
        self.blobs.concat()
    }
}

/// Writes the rows of the gateway into its tables, with its settings.
pub(super) async fn rows(folder: &Path, like: &Path) -> Result<()> {
    let (tables, row) = model(like)?;
    let connection = open(folder, "rows.db", &tables)?;
    let (jobs, queue) = channel();
    thread::spawn(move || write_rows(connection, &row, &queue));
    serve(jobs).await
}

/// A new database with these tables and the gateway's settings.
pub(super) fn open(folder: &Path, name: &str, tables: &str) -> Result<Connection> {
    std::fs::create_dir_all(folder)?;
    // Each floor that is started begins anew.
    for suffix in ["", "-wal", "-shm"] {
        drop(std::fs::remove_file(folder.join(format!("{name}{suffix}"))));
    }
    let connection = Connection::open(folder.join(name))?;
    for (name, value) in [("journal_mode", "WAL"), ("synchronous", "FULL")] {
        connection.pragma_update(None, name, value)?;
    }
    connection.pragma_update(None, "wal_autocheckpoint", 4_000)?;
    connection.pragma_update(None, "cache_size", -32_768)?;
    connection.execute_batch(tables)?;
    Ok(connection)
}

/// Writes the bytes of the same rows behind each other.
pub(super) async fn segment(folder: &Path, like: &Path) -> Result<()> {
    let (_, row) = model(like)?;
    std::fs::create_dir_all(folder)?;
    let mut record = Vec::new();
    for part in row.texts.iter().map(String::as_bytes).chain(row.blobs.iter().map(Vec::as_slice)) {
        record.extend_from_slice(&u32::try_from(part.len())?.to_le_bytes());
        record.extend_from_slice(part);
    }
    let file = File::create(folder.join("segment"))?;
    let (jobs, queue) = channel();
    thread::spawn(move || write_segment(file, &record, &queue));
    serve(jobs).await
}

/// The tables of the gateway's log, and its newest event.
pub(super) fn model(like: &Path) -> Result<(String, Row)> {
    let tables = [table(like, "events")?, table(like, "dedupe")?];
    let connection = Connection::open_with_flags(like, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let row = connection.query_row(
        "SELECT event_type, phone_number_id, waba_id, conversation_key, envelope, typed, raw, append_ms, crc \
         FROM events ORDER BY seq DESC LIMIT 1",
        [],
        |row| {
            Ok(Row {
                texts: [row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?],
                blobs: [row.get(4)?, row.get(5)?, row.get(6)?],
                append_ms: row.get(7)?,
                crc: row.get(8)?,
            })
        },
    )?;
    Ok((tables.join(";\n"), row))
}

/// A table of the gateway, with its indexes.
pub(super) fn table(like: &Path, name: &str) -> Result<String> {
    let connection = Connection::open_with_flags(like, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut select =
        connection.prepare("SELECT sql FROM sqlite_schema WHERE tbl_name = ?1 AND sql IS NOT NULL")?;
    let parts = select.query_map([name], |row| row.get::<_, String>(0))?;
    Ok(parts.collect::<rusqlite::Result<Vec<_>>>()?.join(";\n"))
}

async fn serve(jobs: Sender<Job>) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    super::say_ready(&json!({"webhook": listener.local_addr()?.to_string()}));
    let port = Port { signer: Signer::new()?, jobs };
    let router = Router::new().route("/webhook", post(receive)).with_state(port);
    Ok(axum::serve(listener, router).await?)
}

async fn receive(State(port): State<Port>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let Some(id) = verified(&port.signer, &headers, &body) else { return StatusCode::UNAUTHORIZED };
    let (done, is_done) = oneshot::channel();
    if port.jobs.send(Job { id, done }).is_err() || is_done.await.is_err() {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    StatusCode::OK
}

/// An id of what was posted, if its signature fits: as good a one as the hash of a key.
pub(super) fn verified(signer: &Signer, headers: &HeaderMap, body: &[u8]) -> Option<[u8; 16]> {
    let signature = headers.get("x-hub-signature-256").map(axum::http::HeaderValue::as_bytes);
    let signature = signer.verify(signature?, body)?;
    let mut id = [0; 16];
    id.iter_mut().zip(signature).for_each(|(to, from)| *to = from);
    Some(id)
}

/// What waits, up to the limit of a group; empty at the end.
pub(super) fn gather<T>(queue: &Receiver<T>) -> Vec<T> {
    queue.recv().into_iter().chain(queue.try_iter().take(GROUP_MAX - 1)).collect()
}

/// Ends, and with it the process's answers, at the first failure.
fn write_rows(mut connection: Connection, row: &Row, queue: &Receiver<Job>) {
    let mut seq = 0;
    loop {
        let group = gather(queue);
        if group.is_empty() {
            return;
        }
        if let Err(error) = commit(&mut connection, row, &group, &mut seq) {
            eprintln!("gateway-bench: the rows were not written: {error}");
            return;
        }
        for job in group {
            // Whoever posted it may have left.
            let _left = job.done.send(());
        }
    }
}

fn commit(connection: &mut Connection, row: &Row, group: &[Job], seq: &mut i64) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut dedupe = transaction.prepare_cached(
            "INSERT INTO dedupe (id, seq, append_ms) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
        )?;
        let mut events = transaction.prepare_cached(
            "INSERT INTO events (seq, append_ms, id, crc, event_type, phone_number_id, waba_id, conversation_key, \
             envelope, typed, raw) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?;
        let ([kind, number, waba, key], [envelope, typed, raw]) = (&row.texts, &row.blobs);
        for job in group {
            *seq += 1;
            let append_ms = row.append_ms + *seq / 16;
            if dedupe.execute(params![job.id, *seq, append_ms])? == 1 {
                events.execute(params![
                    *seq, append_ms, job.id, row.crc, kind, number, waba, key, envelope, typed, raw
                ])?;
            }
        }
    }
    transaction.commit()
}

fn write_segment(mut file: File, record: &[u8], queue: &Receiver<Job>) {
    loop {
        let group = gather(queue);
        if group.is_empty() {
            return;
        }
        let mut bytes = Vec::with_capacity(group.len() * (record.len() + 16));
        for job in &group {
            bytes.extend_from_slice(&job.id);
            bytes.extend_from_slice(record);
        }
        if let Err(error) = file.write_all(&bytes).and_then(|()| file.sync_data()) {
            eprintln!("gateway-bench: the segment was not written: {error}");
            return;
        }
        for job in group {
            // Whoever posted it may have left.
            let _left = job.done.send(());
        }
    }
}
