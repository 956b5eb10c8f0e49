//! Age deletes: events past the retention, and state entries past their time.

use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use crate::clock::{SharedClock, unix_ms};
use crate::lifecycle::Shutdown;
use crate::storage::event_log::EventLog;
use crate::storage::keyed_state::KeyedState;

/// Between two rounds.
const INTERVAL: Duration = Duration::from_mins(1);

/// Removes what is past its time.
#[derive(Debug)]
pub struct RetainLog {
    /// The log.
    pub log: Arc<dyn EventLog>,
    /// The state.
    pub state: Arc<dyn KeyedState>,
    /// How long events are kept.
    pub retention: Duration,
    /// The time of day.
    pub clock: SharedClock,
}

impl RetainLog {
    /// Removes round after round until the process stops.
    pub async fn run(self, shutdown: Shutdown) {
        while shutdown.stop().run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
            self.round().await;
        }
    }

    /// One round. A failure is logged and the next round tries again.
    pub async fn round(&self) {
        let before = self.clock.now().checked_sub(self.retention).map_or(0, unix_ms);
        match self.log.trim(before).await {
            Ok(0) => {}
            Ok(events) => info!(events, "retention removed events"),
            Err(error) => warn!(%error, "retention could not remove events"),
        }
        if let Err(error) = self.state.sweep().await {
            warn!(%error, "expired state could not be removed");
        }
    }
}
