//! How far the projections have followed the log, for those who ask them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::timeout;

/// How long a question waits for the projections to reach the end of the log. Who answers an event at once must not be
/// told that the message which they answer never came.
const CATCH_UP_MAX: Duration = Duration::from_secs(2);

/// How far the log goes, and how far the projections have followed it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Progress {
    /// The newest event.
    pub(super) tail: watch::Receiver<u64>,
    /// The last event that is applied.
    pub(super) applied: watch::Receiver<u64>,
    /// Somebody waits.
    pub(super) hurry: Arc<Notify>,
}

impl Progress {
    /// Whether everything is applied.
    pub(in crate::flows) fn is_current(&self) -> bool {
        *self.applied.borrow() >= *self.tail.borrow()
    }

    /// Waits until everything up to now is applied; false if that takes too long.
    pub(in crate::flows) async fn catch_up(&self) -> bool {
        let tail = *self.tail.borrow();
        let mut applied = self.applied.clone();
        if *applied.borrow() < tail {
            self.hurry.notify_one();
        }
        let caught_up = timeout(CATCH_UP_MAX, applied.wait_for(|applied| *applied >= tail)).await;
        matches!(caught_up, Ok(Ok(_)))
    }
}
