//! Lines about what strangers can do as often as they like.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// At most one line per this time, or a flood would fill the logs too.
const INTERVAL: Duration = Duration::from_secs(10);

/// Says when to write a line about something, and how often it has happened since the last one. Clones count
/// together.
#[derive(Debug, Clone, Default)]
pub struct Seldom(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    logged_at: Option<Instant>,
    unlogged: u64,
}

impl Seldom {
    /// Counts one; returns the count for a line if it is time for one.
    pub fn count(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.unlogged += 1;
        if state.logged_at.is_some_and(|at| at.elapsed() < INTERVAL) {
            return None;
        }
        let count = state.unlogged;
        *state = State { logged_at: Some(Instant::now()), unlogged: 0 };
        Some(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_one_line_and_a_count() {
        let seldom = Seldom::default();
        assert_eq!(seldom.count(), Some(1));
        for _ in 0..1000 {
            assert_eq!(seldom.clone().count(), None);
        }
        tokio::time::advance(INTERVAL).await;
        assert_eq!(seldom.count(), Some(1001));
        assert_eq!(seldom.count(), None);
    }
}
