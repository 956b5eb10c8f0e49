//! A long log: written by the gateway's own storage, and read without it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rusqlite::{Connection, OpenFlags};
use whatsapp_gateway::clock::{Clock, SystemClock};
use whatsapp_gateway::cloud_api::normalize;
use whatsapp_gateway::storage::leadership::Replica;
use whatsapp_gateway::storage::{Config, EmbeddedConfig, Storage, events};

use super::Report;
use crate::Result;
use crate::webhook;

/// Events of one append.
const CHUNK: u64 = 2_048;

pub(super) async fn fill(folder: PathBuf, count: u64) -> Result<Report> {
    let began = Instant::now();
    let on_fatal = Arc::new(|reason| eprintln!("gateway-bench: the log failed: {reason}"));
    let config = Config::Embedded(EmbeddedConfig::in_dir(folder));
    let replica = Replica::of_this_process(String::new(), bytes::Bytes::new(), String::new());
    let storage = Storage::open(&config, replica, Arc::new(SystemClock), on_fatal)?;
    for first in (0..count).step_by(usize::try_from(CHUNK)?) {
        let bodies = (first..count.min(first + CHUNK)).map(webhook::message);
        let stored = bodies.flat_map(|body| normalize::normalize(body.as_bytes(), SystemClock.now()));
        let items = stored.map(|event| events::item(&event, "")).collect();
        storage.log.append(items).await?;
    }
    storage.close().await?;
    Ok(Report::of_all(count, began.elapsed()))
}

/// One statement over everything, each column taken as the gateway takes it.
pub(super) fn read(database: &Path) -> Result<Report> {
    let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let began = Instant::now();
    let mut select = connection.prepare(
        "SELECT seq, append_ms, id, crc, event_type, phone_number_id, waba_id, conversation_key, \
         envelope, typed, raw FROM events ORDER BY seq",
    )?;
    let mut rows = select.query([])?;
    let (mut count, mut bytes) = (0, 0);
    while let Some(row) = rows.next()? {
        let numbers: (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(3)?);
        let texts: [String; 4] = [row.get(4)?, row.get(5)?, row.get(6)?, row.get(7)?];
        let blobs: [Vec<u8>; 4] = [row.get(2)?, row.get(8)?, row.get(9)?, row.get(10)?];
        bytes += texts.iter().map(String::len).chain(blobs.iter().map(Vec::len)).sum::<usize>();
        count += u64::from(numbers.0 > 0);
    }
    if bytes == 0 {
        return Err("the database has no events".into());
    }
    Ok(Report::of_all(count, began.elapsed()))
}
