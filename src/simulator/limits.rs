//! Meta's rate limits as pure machines: time goes in, a verdict comes out.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

/// How fast and in what bursts something may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate {
    pub(super) interval: Duration,
    pub(super) burst: u32,
}

impl Rate {
    /// So many per second, any of them at once.
    pub(super) fn per_second(count: u32) -> Self {
        Self { interval: Duration::from_secs(1) / count.max(1), burst: count }
    }
}

/// The state of one limited thing: the moment at which everything borrowed so far is paid back.
#[derive(Debug, Clone, Copy)]
struct Debt(SystemTime);

impl Debt {
    /// Takes one turn if the burst allows it.
    fn take(&mut self, rate: Rate, now: SystemTime) -> bool {
        let paid = self.0.max(now);
        let borrowed = paid.duration_since(now).unwrap_or_default();
        let may_borrow = rate.interval.saturating_mul(rate.burst.saturating_sub(1));
        let allowed = rate.burst > 0 && borrowed <= may_borrow;
        if allowed {
            self.0 = paid + rate.interval;
        }
        allowed
    }

    /// Counts something that cannot be refused, such as a received message.
    fn charge(&mut self, rate: Rate, now: SystemTime) {
        let full = rate.interval.saturating_mul(rate.burst);
        self.0 = (self.0.max(now) + rate.interval).min(now + full);
    }
}

/// One machine per key, and forgetful: what owes nothing is dropped when the table grows.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    debts: HashMap<String, Debt>,
}

/// Beyond so many keys the ones that owe nothing are forgotten.
const KEYS_MAX: usize = 100_000;

impl Limiter {
    /// Whether `key` may go now; a refusal costs nothing.
    pub(super) fn take(&mut self, key: &str, rate: Rate, now: SystemTime) -> bool {
        self.debt(key, now).take(rate, now)
    }

    /// Counts something of `key` that cannot be refused.
    pub(super) fn charge(&mut self, key: &str, rate: Rate, now: SystemTime) {
        self.debt(key, now).charge(rate, now);
    }

    fn debt(&mut self, key: &str, now: SystemTime) -> &mut Debt {
        if self.debts.len() >= KEYS_MAX && !self.debts.contains_key(key) {
            self.debts.retain(|_, debt| debt.0 > now);
        }
        self.debts.entry(key.to_owned()).or_insert(Debt(now))
    }
}

/// Calls in a fixed hour, which is what the usage headers report in percent.
#[derive(Debug, Default)]
pub(super) struct HourlyCalls {
    counts: HashMap<String, (u64, u32)>,
}

impl HourlyCalls {
    /// Counts one call; false if the hour's calls are used up.
    pub(super) fn take(&mut self, key: &str, per_hour: u32, now: SystemTime) -> bool {
        let hour = super::unix_seconds(now) / 3600;
        let count = self.counts.entry(key.to_owned()).or_insert((hour, 0));
        if count.0 != hour {
            *count = (hour, 0);
        }
        if count.1 >= per_hour {
            return false;
        }
        count.1 += 1;
        true
    }

    /// What part of the hour's calls is used, in percent.
    pub(super) fn percent(&self, key: &str, per_hour: u32, now: SystemTime) -> u64 {
        let hour = super::unix_seconds(now) / 3600;
        match self.counts.get(key) {
            Some((counted, count)) if *counted == hour => {
                u64::from(*count) * 100 / u64::from(per_hour.max(1))
            }
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_750_000_000) + Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_pair_may_borrow_45_messages_and_then_waits() {
        let pair = Rate { interval: Duration::from_secs(6), burst: 45 };
        let mut limiter = Limiter::default();
        let sent = (0..60).filter(|_| limiter.take("pair", pair, at(0))).count();
        assert_eq!(sent, 45);
        assert!(!limiter.take("pair", pair, at(5_999)));
        assert!(limiter.take("pair", pair, at(6_000)));
        assert!(!limiter.take("pair", pair, at(6_001)));
        assert!(limiter.take("other pair", pair, at(6_001)));
        let later = (0..60).filter(|_| limiter.take("pair", pair, at(600_000))).count();
        assert_eq!(later, 45, "everything is paid back after five minutes");
    }

    #[test]
    fn throughput_counts_received_messages_too() {
        let rate = Rate::per_second(80);
        let mut limiter = Limiter::default();
        for _ in 0..30 {
            limiter.charge("number", rate, at(0));
        }
        assert_eq!((0..200).filter(|_| limiter.take("number", rate, at(0))).count(), 50);
        assert_eq!((0..200).filter(|_| limiter.take("number", rate, at(500))).count(), 40);
    }

    #[test]
    fn receiving_never_borrows_beyond_the_burst() {
        let rate = Rate::per_second(10);
        let mut limiter = Limiter::default();
        for _ in 0..1_000 {
            limiter.charge("number", rate, at(0));
        }
        assert!(!limiter.take("number", rate, at(99)));
        assert!(limiter.take("number", rate, at(100)));
    }

    #[test]
    fn hourly_calls_start_again() {
        let mut calls = HourlyCalls::default();
        let first = SystemTime::UNIX_EPOCH + Duration::from_hours(10);
        assert!((0..4).all(|_| calls.take("waba", 4, first)));
        assert!(!calls.take("waba", 4, first));
        assert_eq!(calls.percent("waba", 4, first), 100);
        assert!(calls.take("waba", 4, first + Duration::from_hours(1)));
        assert_eq!(calls.percent("waba", 4, first + Duration::from_hours(1)), 25);
    }
}
