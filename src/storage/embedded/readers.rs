//! Reading: a few read-only connections on tokio's blocking threads.
//!
//! Every read is one short statement or snapshot. The semaphore keeps a storm of reconnecting subscribers from
//! taking every blocking thread.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::schema;
use crate::storage::event_log::ReadError;

/// Reads at the same time.
const READS_MAX: usize = 32;

/// Connections kept open between reads.
const IDLE_MAX: usize = 8;

/// The pool. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Readers {
    path: Arc<PathBuf>,
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    /// A pool for the database at `path`, which the writer has opened.
    pub(super) fn new(path: PathBuf) -> Self {
        let permits = Arc::new(Semaphore::new(READS_MAX));
        Self { path: Arc::new(path), permits, idle: Arc::default() }
    }

    /// Runs `work` with a connection. A connection that met an error is not used again.
    pub(super) async fn run<T, E, F>(&self, work: F) -> Result<T, ReadError>
    where
        T: Send + 'static,
        E: Into<ReadError>,
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| ReadError::Closed)?;
        let readers = self.clone();
        let read = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let connection = readers.take()?;
            let value = work(&connection).map_err(Into::into)?;
            readers.give_back(connection);
            Ok(value)
        });
        read.await.unwrap_or_else(|ended| Err(ReadError::Failed(ended.to_string())))
    }

    /// Lets no further read start and closes what is idle.
    pub(super) fn close(&self) {
        self.permits.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn take(&self) -> rusqlite::Result<Connection> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| schema::open_reader(&self.path), Ok)
    }

    fn give_back(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX && !self.permits.is_closed() {
            idle.push(connection);
        }
    }
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error.to_string())
    }
}
