//! The contract suite on real NATS servers, and what only this engine can be asked.

/// One server and what opens an engine there; leaves the test where there is no server.
macro_rules! open_world {
    () => {{
        let Some(server) = NatsServer::start() else { return };
        let world = World::at(server.url());
        (server, world)
    }};
}

mod claims;
mod faults;
mod replicas;
mod settings;
mod sharing;

use std::sync::Mutex as StdMutex;
use std::sync::atomic::AtomicU32;
use std::time::UNIX_EPOCH;

use bytes::Bytes;

use super::*;
use crate::clock::ManualClock;
use crate::storage::contract::{self, Subject, item};
use crate::storage::event_log::EventLog as _;
use crate::storage::nats_server::NatsServer;

/// Everything around an engine, so that it can be opened again.
struct World {
    config: Config,
    clock: Arc<ManualClock>,
    fatal: Arc<StdMutex<Vec<String>>>,
    ring: Arc<Ring>,
    pace: Pace,
    unreached_max: Duration,
}

impl World {
    fn at(url: String) -> Self {
        static PREFIXES: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("test{}", PREFIXES.fetch_add(1, Ordering::Relaxed));
        let mut config = Config::at(url, &prefix);
        config.size_max = 64 << 20;
        let clock = ManualClock::new(UNIX_EPOCH + contract::START);
        Self {
            config,
            clock,
            fatal: Arc::default(),
            ring: Arc::default(),
            pace: Pace::default(),
            unreached_max: Duration::ZERO,
        }
    }

    /// Another process on the same prefix.
    fn beside(&self) -> Self {
        let (config, clock) = (self.config.clone(), Arc::clone(&self.clock));
        Self {
            config,
            clock,
            fatal: Arc::default(),
            ring: Arc::default(),
            pace: self.pace,
            unreached_max: self.unreached_max,
        }
    }

    fn of_cluster(servers: &[NatsServer]) -> Self {
        let mut world = Self::at(servers[0].url());
        world.config.urls = servers.iter().map(NatsServer::url).collect();
        world.config.replicas = 3;
        world
    }

    /// With nothing in memory, so that every read goes to the server.
    fn without_ring(mut self) -> Self {
        self.ring = Arc::new(Ring::new(0, 0));
        self
    }

    fn try_open(&self) -> Result<Arc<Nats>, OpenError> {
        let fatal = Arc::clone(&self.fatal);
        let on_fatal: OnFatal = Arc::new(move |reason| fatal.lock().unwrap().push(reason));
        let (clock, ring) = (self.clock.clone(), Arc::clone(&self.ring));
        let replica = Replica::of_this_process(String::new(), Bytes::new(), String::new());
        let (replica, pace, unreached_max) = (Arc::new(replica), self.pace, self.unreached_max);
        let dependencies = Dependencies { clock, on_fatal, ring, replica, pace, unreached_max };
        Nats::open_with(&self.config, dependencies).map(Arc::new)
    }

    fn open(&self) -> Arc<Nats> {
        self.try_open().unwrap()
    }

    fn subject(self, server: Option<NatsServer>) -> Subject {
        let engine = self.open();
        Subject { log: engine.clone(), state: engine, clock: self.clock, keep: Box::new(server) }
    }
}

const PATIENCE: Duration = Duration::from_mins(1);

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.unwrap()
}

/// Waits until the engine leads; returns the term.
async fn leading(engine: &Nats) -> u64 {
    let mut roles = engine.leadership().watch();
    let role = in_time(roles.wait_for(|role| matches!(role, Role::Leader { .. }))).await.unwrap().clone();
    let Role::Leader { term } = role else { unreachable!("{role:?}") };
    term
}

async fn append(engine: &Nats, numbers: impl IntoIterator<Item = u64>) -> Vec<Appended> {
    engine.append(numbers.into_iter().map(item).collect()).await.unwrap()
}

mod one_server_from_memory {
    use super::{NatsServer, World, contract};

    contract::event_log_contract!({
        let (server, world) = open_world!();
        world.subject(Some(server))
    });
}

mod one_server {
    use super::{NatsServer, World, contract};

    contract::event_log_contract!({
        let (server, world) = open_world!();
        world.without_ring().subject(Some(server))
    });
    contract::keyed_state_contract!({
        let (server, world) = open_world!();
        world.subject(Some(server))
    });
    contract::sends_contract!({
        let (server, world) = open_world!();
        world.subject(Some(server))
    });
    contract::subscriptions_contract!({
        let (server, world) = open_world!();
        world.subject(Some(server))
    });
}

mod three_servers {
    use std::sync::Arc;
    use std::sync::{Mutex, PoisonError, Weak};

    use super::{NatsServer, World, contract};

    /// The cluster that all of these tests share while one of them runs.
    fn cluster() -> Option<Arc<Vec<NatsServer>>> {
        static CLUSTER: Mutex<Weak<Vec<NatsServer>>> = Mutex::new(Weak::new());
        let mut held = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = held.upgrade() {
            return Some(running);
        }
        let started = Arc::new(NatsServer::cluster()?);
        *held = Arc::downgrade(&started);
        Some(started)
    }

    fn subject(cluster: &Arc<Vec<NatsServer>>) -> contract::Subject {
        let mut subject = World::of_cluster(cluster).without_ring().subject(None);
        subject.keep = Box::new(Arc::clone(cluster));
        subject
    }

    contract::event_log_contract!(in_turn {
        let Some(cluster) = cluster() else { return };
        subject(&cluster)
    });
    contract::keyed_state_contract!(in_turn {
        let Some(cluster) = cluster() else { return };
        subject(&cluster)
    });
}
