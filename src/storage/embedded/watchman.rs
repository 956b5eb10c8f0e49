//! Looks at the room that is left: at most once a second, and after so many bytes, also when nothing is appended.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::Connection;
use tokio::time::Instant;

use super::checkpoint::Checkpointer;
use super::natural;
use super::space::{Demand, Room};
use super::{Dependencies, FreeSpace};
use crate::storage::event_log::Acceptance;
use crate::storage::metrics;

/// Bytes written that make a look due at once.
const LOOK_BYTES: usize = 16 * 1024 * 1024;

/// Used share that is warned about, in percent.
const WARN_PERCENT: u64 = 70;

/// Used share below which the next crossing is warned about again, in percent.
const CALM_PERCENT: u64 = 65;

/// Measures and judges the room.
pub(super) struct Watchman {
    demand: Demand,
    data_dir: PathBuf,
    wal_path: PathBuf,
    disk_free: FreeSpace,
    interval: Duration,
    looked: Option<Instant>,
    bytes: usize,
    has_warned: bool,
}

impl std::fmt::Debug for Watchman {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watchman").field("demand", &self.demand).finish_non_exhaustive()
    }
}

impl Watchman {
    /// Has not looked yet.
    pub(super) fn new(
        demand: Demand,
        data_dir: PathBuf,
        wal_path: PathBuf,
        dependencies: &Dependencies,
    ) -> Self {
        let disk_free = std::sync::Arc::clone(&dependencies.disk_free);
        let interval = dependencies.look_interval;
        Self { demand, data_dir, wal_path, disk_free, interval, looked: None, bytes: 0, has_warned: false }
    }

    /// How long the writer may wait for work before it looks again.
    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    /// Counts what was written.
    pub(super) fn count(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// What the room that is left means, or `None` when it is too early to look. An error means that the disk failed.
    pub(super) fn look(
        &mut self,
        connection: &Connection,
        checkpointer: &mut Checkpointer,
        now: Acceptance,
    ) -> rusqlite::Result<Option<Acceptance>> {
        if self.looked.is_some_and(|at| at.elapsed() < self.interval) && self.bytes < LOOK_BYTES {
            return Ok(None);
        }
        self.bytes = 0;
        let mut room = self.measure(connection)?;
        let mut judged = self.demand.judge(room, now);
        if judged != Acceptance::Accepting {
            // The log may hold room that only a checkpoint gives back.
            checkpointer.truncate(connection)?;
            room = self.measure(connection)?;
            judged = self.demand.judge(room, now);
        }
        self.looked = Some(Instant::now());
        self.report(room);
        Ok(Some(judged))
    }

    fn measure(&self, connection: &Connection) -> rusqlite::Result<Room> {
        let pragma = |pragma: &str| -> rusqlite::Result<u64> {
            Ok(natural(connection.prepare_cached(pragma)?.query_row([], |row| row.get(0))?))
        };
        let page_bytes = pragma("PRAGMA page_size")?;
        let free_pages = pragma("PRAGMA freelist_count")?;
        let used_pages = pragma("PRAGMA page_count")?.saturating_sub(free_pages);
        let wal_bytes = fs::metadata(&self.wal_path).map_or(0, |metadata| metadata.len());
        let disk_free = (self.disk_free)(&self.data_dir).unwrap_or_else(|error| {
            tracing::warn!(%error, "the free space of the disk is not known; its low-water mark is not checked");
            u64::MAX
        });
        Ok(Room { used: used_pages * page_bytes + wal_bytes, reusable: free_pages * page_bytes, disk_free })
    }

    fn report(&mut self, room: Room) {
        let used_percent = self.demand.used_percent(room);
        metrics::room(room.used, room.disk_free, used_percent);
        if used_percent >= WARN_PERCENT && !self.has_warned {
            let (used_bytes, disk_free_bytes) = (room.used, room.disk_free);
            tracing::warn!(used_percent, used_bytes, disk_free_bytes, "the event store is filling up");
            self.has_warned = true;
        } else if used_percent < CALM_PERCENT {
            self.has_warned = false;
        }
    }
}
