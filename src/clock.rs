//! The time of day, injected.
//!
//! Everything that compares, stores or reports wall-clock time takes a [`Clock`]; nothing else asks the
//! operating system. Waiting is not its business: timers are tokio's, which tests can pause.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Tells the time of day.
pub trait Clock: Debug + Send + Sync + 'static {
    /// The current time.
    fn now(&self) -> SystemTime;

    /// The current time in milliseconds since the Unix epoch; 0 before it.
    fn now_ms(&self) -> u64 {
        unix_ms(self.now())
    }
}

/// A shared clock, as the rooms pass it on.
pub type SharedClock = Arc<dyn Clock>;

/// Milliseconds since the Unix epoch; 0 for a time before it.
pub fn unix_ms(time: SystemTime) -> u64 {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

/// The operating system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that may ask the operating system")]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// A clock that stands still until a test moves it.
#[cfg(any(test, feature = "test-util"))]
#[derive(Debug)]
pub struct ManualClock(std::sync::Mutex<SystemTime>);

#[cfg(any(test, feature = "test-util"))]
impl ManualClock {
    /// A clock that shows `time`.
    pub fn new(time: SystemTime) -> Arc<Self> {
        Arc::new(Self(std::sync::Mutex::new(time)))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let mut time = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *time += by;
    }
}

#[cfg(any(test, feature = "test-util"))]
impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
