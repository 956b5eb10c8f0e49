//! Since when every message of the users of a number is known.
//!
//! Nobody says that nothing was missed, so it follows from what is known of webhooks. The first webhook of a number
//! proves that they come; from then on Meta repeats each one until it was taken, for 7 days (reference 4.1). While the
//! gateway was away, webhooks waited at Meta. They are repeated "with decreasing frequency"; taken as pauses that at most
//! double, all have come when the gateway is back for as long as it was away. After a day it no longer matters: what was
//! written before keeps no window open.
//!
//! What stays assumed: that the app is subscribed to the field `messages`, and to `calls` where users may call, and that
//! nothing in front of the gateway swallows webhooks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use crate::clock::SharedClock;
use crate::domain::window::WINDOW_DURATION;
use crate::storage::keyed_state::StateError;
use crate::storage::projections::{Projections, Watch};

/// Between two notes that the gateway is there.
const NOTE_INTERVAL: Duration = Duration::from_secs(30);
/// Longer than this without a note, it could not have stored webhooks either.
const SILENCE_MAX: Duration = Duration::from_secs(90);
/// Added to the time that the gateway was away: Meta's first repetitions are no exact science.
const CATCH_UP_MIN: Duration = Duration::from_mins(1);

/// Notes that the gateway is there, and knows when it was not.
#[derive(Debug, Clone)]
pub struct WebhookWatch {
    projections: Projections,
    clock: SharedClock,
    /// `None` until the start has been noted.
    watch: Arc<Mutex<Option<Watch>>>,
}

impl WebhookWatch {
    /// Keeps its notes in these projections.
    pub fn new(projections: Projections, clock: SharedClock) -> Self {
        Self { projections, clock, watch: Arc::default() }
    }

    /// From when on what was missed before has been heard; `None` while that is not known.
    pub(super) fn caught_up(&self) -> Option<SystemTime> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner).map(|watch| watch.caught_up)
    }

    /// Notes until the process stops.
    pub async fn run(self) {
        let mut ticks = interval(NOTE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.note().await {
                warn!(%error, "it could not be noted that webhooks are taken in");
            }
        }
    }

    /// Notes that the gateway is there. The first note of a process counts the time since the last one of its predecessor.
    pub async fn note(&self) -> Result<(), StateError> {
        let known = *self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let silence_max = known.map_or(Duration::ZERO, |_| SILENCE_MAX);
        let last = match known {
            Some(watch) => Some(watch),
            None => self.projections.watch().await?,
        };
        let watch = after(last, self.clock.now(), silence_max);
        self.projections.put_watch(watch).await?;
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner) = Some(watch);
        Ok(())
    }
}

fn after(last: Option<Watch>, now: SystemTime, silence_max: Duration) -> Watch {
    let Some(Watch { seen, caught_up }) = last else { return Watch { seen: now, caught_up: now } };
    let silence = now.duration_since(seen).unwrap_or_default();
    if silence <= silence_max {
        return Watch { seen: now, caught_up };
    }
    let heard = now + (silence + CATCH_UP_MIN).min(WINDOW_DURATION);
    Watch { seen: now, caught_up: caught_up.max(heard) }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::clock::ManualClock;
    use crate::storage::memory::Memory;

    fn at(minutes: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_mins(1_000_000 + minutes)
    }

    #[test]
    fn what_was_missed_is_heard_after_as_long_again() {
        let last = Some(Watch { seen: at(0), caught_up: at(0) });
        let day = 24 * 60;
        for (now, silence_max, caught_up) in [
            (1, SILENCE_MAX, 0),
            (2, SILENCE_MAX, 5),
            (1, Duration::ZERO, 3),
            (60, Duration::ZERO, 121),
            (2 * day, Duration::ZERO, 3 * day),
        ] {
            let watch = after(last, at(now), silence_max);
            assert_eq!(watch, Watch { seen: at(now), caught_up: at(caught_up) }, "{now}");
        }
        let later = Some(Watch { seen: at(5), caught_up: at(90) });
        assert_eq!(after(later, at(6), Duration::ZERO).caught_up, at(90));
        assert_eq!(after(later, at(4), Duration::ZERO).seen, at(4), "a clock that was set back");
        assert_eq!(after(None, at(4), Duration::ZERO), Watch { seen: at(4), caught_up: at(4) });
    }

    #[tokio::test]
    async fn a_new_process_counts_the_time_between() {
        let clock = ManualClock::new(at(0));
        let projections = Projections::new(Memory::new(Arc::clone(&clock) as _));
        let watch = || WebhookWatch::new(projections.clone(), Arc::clone(&clock) as _);
        let first = watch();
        assert_eq!(first.caught_up(), None);
        first.note().await.unwrap();
        clock.advance(Duration::from_mins(1));
        first.note().await.unwrap();
        assert_eq!(first.caught_up(), Some(at(0)));
        clock.advance(Duration::from_mins(10));
        let second = watch();
        second.note().await.unwrap();
        assert_eq!(second.caught_up(), Some(at(11 + 11)));
    }
}
