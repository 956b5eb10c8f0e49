//! How late statuses are at present: while what an outage has held up comes in, a silence proves less.

use std::time::{Duration, SystemTime};

/// How long a late status counts.
const REMEMBERED: Duration = Duration::from_mins(1);

#[derive(Debug, Default)]
pub(super) struct Lateness {
    most: Duration,
    until: Option<SystemTime>,
}

impl Lateness {
    /// A status of something that happened then was received.
    pub(super) fn note(&mut self, happened: SystemTime, received: SystemTime, now: SystemTime) {
        let until = received + REMEMBERED;
        let late = received.duration_since(happened).unwrap_or_default();
        if until > now && late >= self.at(now) {
            (self.most, self.until) = (late, Some(until));
        }
    }

    /// How late they are now.
    pub(super) fn at(&self, now: SystemTime) -> Duration {
        self.until.filter(|until| now < *until).map_or(Duration::ZERO, |_| self.most)
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn the_latest_counts_for_a_minute() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let seconds = Duration::from_secs;
        let mut lateness = Lateness::default();
        assert_eq!(lateness.at(at(100)), seconds(0));
        lateness.note(at(70), at(100), at(101));
        lateness.note(at(99), at(110), at(110));
        assert_eq!(lateness.at(at(159)), seconds(30));
        assert_eq!(lateness.at(at(160)), seconds(0));
        lateness.note(at(150), at(161), at(161));
        assert_eq!(lateness.at(at(161)), seconds(11));
        // What is read again after a restart was late then.
        lateness.note(at(0), at(200), at(300));
        assert_eq!(lateness.at(at(300)), seconds(0));
    }
}
