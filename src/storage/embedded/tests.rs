//! The contract suite on SQLite, and what only this engine can be asked.

mod damage;
mod failure;
mod files;
mod pressure;

use std::fs;
use std::sync::Mutex;
use std::time::UNIX_EPOCH;

use tempfile::TempDir;

use super::*;
use crate::clock::ManualClock;
use crate::storage::contract::{self, Subject, item};
use crate::storage::event_log::{Appended, EventLog as _};

/// Enough to be no reason to refuse.
const PLENTY: u64 = 1 << 40;

/// Everything around an engine, so that it can be opened again.
struct World {
    dir: TempDir,
    config: Config,
    clock: Arc<ManualClock>,
    fatal: Arc<Mutex<Vec<String>>>,
    dependencies: Dependencies,
}

impl World {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let config = Config::in_dir(dir.path().join("data"));
        let clock = ManualClock::new(UNIX_EPOCH + contract::START);
        let fatal: Arc<Mutex<Vec<String>>> = Arc::default();
        let reasons = Arc::clone(&fatal);
        let dependencies = Dependencies {
            clock: clock.clone(),
            on_fatal: Arc::new(move |reason| reasons.lock().unwrap().push(reason)),
            disk_free: Arc::new(|_| Ok(PLENTY)),
            look_interval: Duration::from_millis(5),
            ring: Arc::default(),
        };
        Self { dir, config, clock, fatal, dependencies }
    }

    /// With nothing in memory, so that every read goes to the disk.
    fn without_ring() -> Self {
        let mut world = Self::new();
        world.dependencies.ring = Arc::new(Ring::new(0, 0));
        world
    }

    /// Each opening starts with an empty ring, as a new process does.
    fn open(&mut self) -> Arc<Embedded> {
        let engine = Embedded::open_with(&self.config, self.dependencies.clone()).unwrap();
        self.dependencies.ring = Arc::new(Ring::new(0, 0));
        Arc::new(engine)
    }

    fn open_error(&self) -> OpenError {
        Embedded::open_with(&self.config, self.dependencies.clone()).unwrap_err()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.config.data_dir.join(name)
    }

    fn subject(mut self) -> Subject {
        let engine = self.open();
        Subject { log: engine.clone(), state: engine, clock: self.clock, keep: Box::new(self.dir) }
    }
}

async fn append(engine: &Embedded, numbers: impl IntoIterator<Item = u64>) -> Vec<Appended> {
    engine.append(numbers.into_iter().map(item).collect()).await.unwrap()
}

mod from_memory {
    use super::{World, contract};

    contract::event_log_contract!(World::new().subject());
}

mod from_disk {
    use super::{World, contract};

    contract::event_log_contract!(World::without_ring().subject());
    contract::keyed_state_contract!(World::without_ring().subject());
    contract::sends_contract!(World::without_ring().subject());
    contract::subscriptions_contract!(World::without_ring().subject());
}
