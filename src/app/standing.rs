//! Whether calls are served and webhooks stored, as far as the store decides it.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::storage::event_log::{Acceptance, Refusal};

/// How long the servers of the store may be away until calls count as not served: an election among them takes less.
const AWAY_MAX: Duration = Duration::from_secs(2);

/// What the store allows.
#[derive(Debug)]
pub(super) struct Standing {
    acceptance: watch::Receiver<Acceptance>,
    is_long_away: bool,
}

impl Standing {
    pub(super) fn new(acceptance: watch::Receiver<Acceptance>) -> Self {
        Self { acceptance, is_long_away: false }
    }

    /// Whether calls are served.
    pub(super) fn is_serving(&self) -> bool {
        !self.is_long_away
    }

    /// Whether webhooks are stored.
    pub(super) fn is_accepting(&self) -> bool {
        *self.acceptance.borrow() == Acceptance::Accepting
    }

    /// Waits until something else may be so. An error is the end of the store.
    pub(super) async fn changed(&mut self) -> Result<(), watch::error::RecvError> {
        let is_newly_away = self.is_away() && !self.is_long_away;
        tokio::select! {
            biased;
            changed = self.acceptance.changed() => {
                changed?;
                self.is_long_away &= self.is_away();
            }
            () = sleep(AWAY_MAX), if is_newly_away => self.is_long_away = true,
        }
        Ok(())
    }

    fn is_away(&self) -> bool {
        *self.acceptance.borrow() == Acceptance::Refusing(Refusal::Away)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn calls_are_served_until_the_store_is_away_for_long() {
        let store = watch::Sender::new(Acceptance::Accepting);
        let mut standing = Standing::new(store.subscribe());
        // An election.
        store.send_replace(Acceptance::Refusing(Refusal::Away));
        standing.changed().await.unwrap();
        assert!(standing.is_serving() && !standing.is_accepting());
        timeout(AWAY_MAX / 2, standing.changed()).await.unwrap_err();
        store.send_replace(Acceptance::Accepting);
        standing.changed().await.unwrap();
        assert!(standing.is_serving() && standing.is_accepting());
        // Longer than one.
        store.send_replace(Acceptance::Refusing(Refusal::Away));
        standing.changed().await.unwrap();
        let since = Instant::now();
        standing.changed().await.unwrap();
        assert_eq!((standing.is_serving(), since.elapsed()), (false, AWAY_MAX));
        timeout(AWAY_MAX * 10, standing.changed()).await.unwrap_err();
        store.send_replace(Acceptance::Accepting);
        standing.changed().await.unwrap();
        assert!(standing.is_serving() && standing.is_accepting());
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_store_serves_calls() {
        let store = watch::Sender::new(Acceptance::Accepting);
        let mut standing = Standing::new(store.subscribe());
        for refusal in [Refusal::SizeLimit, Refusal::DiskLow] {
            store.send_replace(Acceptance::Refusing(refusal));
            standing.changed().await.unwrap();
            timeout(AWAY_MAX * 10, standing.changed()).await.unwrap_err();
            assert!(standing.is_serving() && !standing.is_accepting());
        }
    }
}
