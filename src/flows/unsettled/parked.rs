//! How many sends in doubt have no slot, because there are too many of them. Their rows in the store are enough: a
//! status looks there as long as there can be any.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const HOUR: Duration = Duration::from_hours(1);

/// A count for each hour in which such sends were claimed.
#[derive(Debug, Default)]
pub(super) struct Parked {
    by_hour: BTreeMap<u64, u64>,
}

impl Parked {
    pub(super) fn add(&mut self, created: SystemTime) {
        *self.by_hour.entry(hour_of(created)).or_default() += 1;
    }

    pub(super) fn remove(&mut self, created: SystemTime) {
        if let Some(count) = self.by_hour.get_mut(&hour_of(created)) {
            *count -= 1;
            if *count == 0 {
                self.by_hour.remove(&hour_of(created));
            }
        }
    }

    /// Gives up the hours of which everything is forgotten.
    pub(super) fn forget(&mut self, is_forgotten: impl Fn(SystemTime) -> bool) {
        let end_of = |hour: u64| UNIX_EPOCH + Duration::from_secs((hour + 1) * HOUR.as_secs());
        self.by_hour.retain(|hour, _| !is_forgotten(end_of(*hour)));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_hour.is_empty()
    }

    pub(super) fn count(&self) -> u64 {
        self.by_hour.values().sum()
    }
}

fn hour_of(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / HOUR.as_secs()
}
