//! The embedded engine: event log and keyed state in one SQLite file, for one process on a local disk.
//!
//! One writer thread commits in groups; readers are short statements on other connections; the newest events are
//! served from memory. Nothing outside this folder knows that there is SQL.

mod config;

mod log;
mod state;

mod queue;
mod writer;

mod checkpoint;
mod readers;
mod space;
mod transaction;
mod watchman;

mod entries;
mod events;
mod folder;
mod lock;
mod schema;

use std::fmt::{self, Debug, Formatter};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

pub use config::Config;

use crate::clock::SharedClock;
use crate::storage::ring::Ring;
use crate::storage::shared::Shared;
use crate::storage::{OnFatal, metrics};

use checkpoint::Checkpointer;
use lock::Lock;
use queue::Queue;
use readers::Readers;

use space::Demand;
use transaction::Position;
use watchman::Watchman;
use writer::Writer;

/// Name of the database in the data folder.
const FILE_NAME: &str = "gateway.db";

/// Bytes that the write-ahead log keeps on disk.
const WAL_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How long an id is remembered at least, whatever the retention: Meta repeats a webhook for 7 days.
const DEDUPE_AGE_MIN: Duration = Duration::from_hours(8 * 24);

/// How often the room that is left is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Tells the free bytes of the disk that a path is on.
type FreeSpace = Arc<dyn Fn(&Path) -> io::Result<u64> + Send + Sync>;

/// Why the store could not be opened. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder or a file in it cannot be created or written.
    #[error("{path} cannot be written: {source}; make the folder writable for the user of the gateway, or set another data_dir", path = .path.display())]
    Unwritable {
        /// The folder or file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Something else than a folder has its name.
    #[error("{path} is a file; data_dir must name a folder, which is made if it is missing", path = .path.display())]
    NoFolder {
        /// What is named.
        path: PathBuf,
    },
    /// Another process uses the folder.
    #[error("{path} is held by {holder}; stop that process, or set another data_dir (two gateways cannot share one)", path = .path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Process, host and start time, as the holder wrote them.
        holder: String,
    },
    /// The folder is on a network file system.
    #[error("{path} is on a network file system ({kind}), where the database would be corrupted; put data_dir on a local disk or a block volume", path = .path.display())]
    NetworkDisk {
        /// The folder.
        path: PathBuf,
        /// The file system.
        kind: &'static str,
    },
    /// The linked SQLite has the WAL-reset corruption.
    #[error("SQLite {found} can corrupt the database; build with 3.51.3 or newer")]
    SqliteTooOld {
        /// The linked version.
        found: &'static str,
    },
    /// The file system does not support the write-ahead log.
    #[error("{path} got journal mode {mode} instead of wal; put data_dir on a local disk, not on a network file system", path = .path.display())]
    NoWriteAheadLog {
        /// The database.
        path: PathBuf,
        /// The mode SQLite fell back to.
        mode: String,
    },
    /// The file is a database, but not ours.
    #[error("{path} belongs to another program; set another data_dir", path = .path.display())]
    Foreign {
        /// The database.
        path: PathBuf,
    },
    /// The file was written by a build with other tables.
    #[error("{path} has schema version {found}, this build knows {known}; run the build that wrote it or a newer one", path = .path.display())]
    UnknownSchema {
        /// The database.
        path: PathBuf,
        /// Version in the file.
        found: i64,
        /// Version of this build.
        known: i64,
    },
    /// The rows contradict each other.
    #[error("{path} is damaged: {what}; restore data_dir from a backup", path = .path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// SQLite reported an error.
    #[error("{path} cannot be opened: {source}; check the disk, and restore data_dir from a backup if the file is damaged", path = .path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The writer thread could not be started.
    #[error("the writer thread cannot be started: {0}; raise the limit on threads")]
    NoThread(io::Error),
}

/// What the engine takes from outside.
#[derive(Clone)]
struct Dependencies {
    clock: SharedClock,
    on_fatal: OnFatal,
    disk_free: FreeSpace,
    look_interval: Duration,
    /// Takes the newest events.
    ring: Arc<Ring>,
}

impl Debug for Dependencies {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dependencies").field("clock", &self.clock).finish_non_exhaustive()
    }
}

/// The open engine. Dropping it closes the database in the background; [`Embedded::close`] waits for that.
#[derive(Debug)]
pub(super) struct Embedded {
    queue: Queue,
    readers: Readers,
    shared: Arc<Shared>,
    clock: SharedClock,
}

impl Embedded {
    /// Opens the database, creating folder and file when they are missing. Blocks on the disk.
    ///
    /// `on_fatal` is called once, from the writer thread, when a write could not be made durable: it must end the
    /// process without closing the engine.
    pub(super) fn open(config: &Config, clock: SharedClock, on_fatal: OnFatal) -> Result<Self, OpenError> {
        let disk_free: FreeSpace = Arc::new(space::disk_free);
        let ring = Arc::default();
        Self::open_with(
            config,
            Dependencies { clock, on_fatal, disk_free, look_interval: LOOK_INTERVAL, ring },
        )
    }

    fn open_with(config: &Config, dependencies: Dependencies) -> Result<Self, OpenError> {
        let data_dir = &config.data_dir;
        folder::prepare(data_dir)?;
        let lock = Lock::take(data_dir, dependencies.clock.now_ms())?;
        let path = data_dir.join(FILE_NAME);
        let connection = schema::open_writer(&path)?;
        folder::sync(data_dir)?;
        let failed = |source| OpenError::Database { path: path.clone(), source };
        let position = Position::load(&connection).map_err(failed)?;
        let epoch = transaction::load_epoch(&connection).map_err(failed)?;
        if let Some(first) = events::first_seq(&connection).map_err(failed)?
            && first != position.bounds().earliest
        {
            let what = format!("the first event is {first} instead of {}", position.bounds().earliest);
            return Err(OpenError::Damaged { path, what });
        }
        metrics::opened(position.bounds());
        let shared = Arc::new(Shared::new(epoch, position.bounds(), Arc::clone(&dependencies.ring)));
        let (queue, messages, backlog) = Queue::new(Arc::clone(&shared));
        let clock = Arc::clone(&dependencies.clock);
        let demand =
            Demand { size_max: Some(config.size_max), free_min: config.free_min, wal_max: WAL_BYTES_MAX };
        let watchman =
            Watchman::new(demand, data_dir.clone(), data_dir.join(format!("{FILE_NAME}-wal")), &dependencies);
        let writer = Writer {
            connection,
            position,
            checkpointer: Checkpointer::default(),
            watchman,
            backlog,
            shared: Arc::clone(&shared),
            dependencies,
            lock,
        };
        thread::Builder::new()
            .name("storage-writer".to_owned())
            .spawn(move || writer::run(writer, &messages))
            .map_err(OpenError::NoThread)?;
        Ok(Self { queue, readers: Readers::new(path), shared, clock })
    }

    /// Finishes what is queued, moves the write-ahead log into the database, closes it and gives the folder free.
    /// Everything fails with `Closed` afterwards. An error is one of the disk; nothing that was answered is lost.
    pub(super) async fn close(&self) -> Result<(), String> {
        self.readers.close();
        self.queue.close().await
    }
}

/// As SQLite stores it. Its integers end at 2^63, which nothing here reaches.
fn sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// As SQLite gave it. Nothing here is negative.
fn natural(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests;
