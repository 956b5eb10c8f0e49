//! Durable state: the event log and the keyed state store.
//!
//! The two ports speak bytes, because they have two implementations each (SQLite, NATS); what the bytes mean is decided in
//! `contract` and `flows`. This room knows neither gRPC nor HTTP nor what an event is. Backends are private to it.

pub mod event_log;
pub mod keyed_state;

pub mod events;
pub mod fallbacks;
pub mod leadership;
pub mod projections;
pub mod send_traces;
pub mod sends;
pub mod subscriptions;

mod embedded;

mod metrics;
mod nats;
mod ring;
mod shared;

#[cfg(any(test, feature = "test-util"))]
pub mod contract;
#[cfg(any(test, feature = "test-util"))]
pub mod memory;

#[cfg(test)]
#[path = "../tests/support/nats_server.rs"]
#[expect(unreachable_pub, reason = "the tests of the whole program use it too")]
pub(crate) mod nats_server;

use std::sync::Arc;
use std::time::Duration;

pub use embedded::{Config as EmbeddedConfig, OpenError as EmbeddedOpenError};
pub use event_log::EventLog;
pub use keyed_state::KeyedState;
pub use nats::{
    Config as NatsConfig, Credentials as NatsCredentialsConfig, OpenError as NatsOpenError,
    Tls as NatsTlsConfig,
};

use crate::clock::SharedClock;
use embedded::Embedded;
use leadership::{Leadership, Replica};
use nats::Nats;

/// Called once, from a thread of the engine, when a write could not be made durable; the text says why. It must end
/// the process, and must not close the storage: that would write.
pub type OnFatal = Arc<dyn Fn(String) + Send + Sync>;

/// Which backend, and what it needs.
#[derive(Debug, Clone)]
pub enum Config {
    /// SQLite in a local folder, for exactly one process.
    Embedded(EmbeddedConfig),
    /// JetStream, for several processes on one prefix, one of which leads.
    Nats(NatsConfig),
}

/// Why the backend could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The embedded one.
    #[error(transparent)]
    Embedded(#[from] EmbeddedOpenError),
    /// The NATS one.
    #[error(transparent)]
    Nats(#[from] NatsOpenError),
}

impl Config {
    /// Age at which the caller of [`EventLog::trim`] deletes events.
    pub fn retention(&self) -> Duration {
        match self {
            Self::Embedded(config) => config.retention,
            Self::Nats(config) => config.retention,
        }
    }
}

/// The open stores.
#[derive(Debug, Clone)]
pub struct Storage {
    /// The event log.
    pub log: Arc<dyn EventLog>,
    /// The keyed state.
    pub state: Arc<dyn KeyedState>,
    /// Whether this process leads. The embedded engine has no other.
    pub leadership: Leadership,
    engine: Engine,
}

#[derive(Debug, Clone)]
enum Engine {
    Embedded(Arc<Embedded>),
    Nats(Arc<Nats>),
}

/// The engine could not be closed cleanly. Nothing that was answered is lost.
#[derive(Debug, thiserror::Error)]
#[error("the event store was not closed cleanly: {0}")]
pub struct CloseError(String);

impl Storage {
    /// Opens the configured backend; other replicas will see this process as `replica`. Blocks on the disk or the network:
    /// call it before serving. Does not wait for the lead: the role is [`Storage::leadership`]'s.
    pub fn open(
        config: &Config,
        replica: Replica,
        clock: SharedClock,
        on_fatal: OnFatal,
    ) -> Result<Self, OpenError> {
        match config {
            Config::Embedded(config) => {
                let engine = Arc::new(Embedded::open(config, clock, on_fatal)?);
                let (log, state) = (Arc::clone(&engine) as Arc<dyn EventLog>, Arc::clone(&engine) as _);
                let leadership = Leadership::alone();
                Ok(Self { log, state, leadership, engine: Engine::Embedded(engine) })
            }
            Config::Nats(config) => {
                let engine = Arc::new(Nats::open(config, replica, clock, on_fatal)?);
                let (log, state) = (Arc::clone(&engine) as Arc<dyn EventLog>, Arc::clone(&engine) as _);
                let leadership = engine.leadership();
                Ok(Self { log, state, leadership, engine: Engine::Nats(engine) })
            }
        }
    }

    /// Finishes what is queued, closes the backend, and gives the lead free last; clones of the ports then fail with `Closed`.
    pub async fn close(&self) -> Result<(), CloseError> {
        match &self.engine {
            Engine::Embedded(engine) => engine.close().await.map_err(CloseError),
            Engine::Nats(engine) => engine.close().await.map_err(CloseError),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::clock::SystemClock;
    use event_log::{AppendError, Appended, Refusal};

    #[tokio::test]
    async fn opens_what_is_configured_and_closes_it_for_everybody() {
        let dir = tempfile::TempDir::new().unwrap();
        let config = Config::Embedded(EmbeddedConfig::in_dir(dir.path().to_owned()));
        let on_fatal: OnFatal = Arc::new(|reason| panic!("{reason}"));
        let replica = Replica::of_this_process(String::new(), Bytes::new(), String::new());
        let storage = Storage::open(&config, replica, Arc::new(SystemClock), on_fatal).unwrap();
        assert!(storage.leadership.holds());
        let log = Arc::clone(&storage.log);
        assert_eq!(log.append(vec![contract::item(1)]).await.unwrap(), [Appended::New(1)]);
        storage.close().await.unwrap();
        let refused = log.append(vec![contract::item(2)]).await;
        assert_eq!(refused, Err(AppendError::Refused(Refusal::Closed)));
    }
}
