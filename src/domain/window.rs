//! The customer service window.

use std::time::{Duration, SystemTime};

/// How long the window stays open after a user's message (reference 7, rule 2).
pub const WINDOW_DURATION: Duration = Duration::from_hours(24);

/// The 24 hours after a user's last message, in which every kind of message may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CustomerServiceWindow {
    /// When the user last wrote, by Meta's clock.
    pub last_inbound: SystemTime,
}

impl CustomerServiceWindow {
    /// When it closes.
    pub fn closes_at(self) -> SystemTime {
        self.last_inbound + WINDOW_DURATION
    }

    /// Whether it is open at `now`.
    pub fn is_open(self, now: SystemTime) -> bool {
        now < self.closes_at()
    }

    /// The window after another inbound message; an older message that arrives late changes nothing.
    #[must_use]
    pub fn extend(self, inbound: SystemTime) -> Self {
        Self { last_inbound: self.last_inbound.max(inbound) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn it_closes_a_day_after_the_last_message() {
        let written = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let window = CustomerServiceWindow { last_inbound: written };
        assert!(window.is_open(written + WINDOW_DURATION - Duration::from_secs(1)));
        assert!(!window.is_open(written + WINDOW_DURATION));
        assert_eq!(window.extend(written - Duration::from_secs(5)), window);
        assert!(window.extend(written + Duration::from_secs(5)).is_open(written + WINDOW_DURATION));
    }
}
