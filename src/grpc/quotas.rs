//! How much a caller may do: sends in a second, streams open at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::counter;
use tokio::time::Instant;

use super::callers::Identity;
use crate::telemetry::names;

/// What callers have used. Clones share it. Names come from the configuration, so there are few.
#[derive(Debug, Clone, Default)]
pub(super) struct Quotas(Arc<Mutex<HashMap<String, Used>>>);

#[derive(Debug, Default)]
struct Used {
    /// Until when the sends so far have paid for their time; `None` before the first.
    paid_until: Option<Instant>,
    streams: u32,
}

/// Why something must wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Exceeded {
    /// Too many sends in a second.
    #[error("this caller may send {per_second} messages in a second (callers.sends_per_second)")]
    Sends {
        /// How many.
        per_second: u32,
        /// When the next one may come.
        retry_after: Duration,
    },
    /// Too many streams.
    #[error(
        "this caller may have {streams_max} streams open at once, watches and streams of sends too, (callers.streams_max)"
    )]
    Streams {
        /// How many.
        streams_max: u32,
    },
}

impl Quotas {
    /// Takes one send. A second's worth may come at once, the others at even pace.
    pub(super) fn send(&self, who: &Identity) -> Result<(), Exceeded> {
        self.send_at(who, Instant::now())
    }

    fn send_at(&self, who: &Identity, now: Instant) -> Result<(), Exceeded> {
        let Some(per_second) = who.rights.sends_per_second else { return Ok(()) };
        let each = Duration::from_secs(1) / per_second.max(1);
        self.used(who, |used| {
            let paid_until = used.paid_until.map_or(now, |until| until.max(now)) + each;
            let ahead = paid_until - now;
            if let Some(retry_after) =
                ahead.checked_sub(Duration::from_secs(1)).filter(|over| !over.is_zero())
            {
                counter!(names::QUOTA_REFUSALS, names::QUOTA => "sends_per_second").increment(1);
                return Err(Exceeded::Sends { per_second, retry_after });
            }
            used.paid_until = Some(paid_until);
            Ok(())
        })
    }

    /// Takes a place for a stream, until it is dropped; `None` if there is no limit.
    pub(super) fn stream(&self, who: &Identity) -> Result<Option<Place>, Exceeded> {
        let Some(streams_max) = who.rights.streams_max else { return Ok(None) };
        self.used(who, |used| {
            if used.streams >= streams_max {
                counter!(names::QUOTA_REFUSALS, names::QUOTA => "streams_max").increment(1);
                return Err(Exceeded::Streams { streams_max });
            }
            used.streams += 1;
            Ok(())
        })?;
        Ok(Some(Place { quotas: self.clone(), name: who.caller.name().to_owned() }))
    }

    fn used<T>(&self, who: &Identity, change: impl FnOnce(&mut Used) -> T) -> T {
        let mut callers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(callers.entry(who.caller.name().to_owned()).or_default())
    }
}

/// A place among the open streams of a caller.
#[derive(Debug)]
pub(super) struct Place {
    quotas: Quotas,
    name: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut callers = self.quotas.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(used) = callers.get_mut(&self.name) {
            used.streams = used.streams.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::caller::Caller;
    use crate::domain::rights::Rights;
    use crate::grpc::callers::Credential;

    use super::*;

    fn limited(name: &str) -> Identity {
        let rights = Rights { sends_per_second: Some(10), streams_max: Some(2), ..Rights::all() };
        Identity::new(Caller::named(name), Credential::None, Arc::new(rights))
    }

    #[test]
    fn a_second_of_sends_may_come_at_once_and_then_the_pace_holds() {
        let (quotas, orders, now) = (Quotas::default(), limited("orders"), Instant::now());
        assert!((0..10).all(|_| quotas.send_at(&orders, now).is_ok()));
        let refused = quotas.send_at(&orders, now).unwrap_err();
        let each = Duration::from_millis(100);
        assert_eq!(refused, Exceeded::Sends { per_second: 10, retry_after: each });
        assert!(quotas.send_at(&orders, now + each / 2).is_err(), "a refusal takes nothing");
        assert!(quotas.send_at(&orders, now + each).is_ok());
        assert!(quotas.send_at(&orders, now + each).is_err());
        assert!(quotas.send_at(&limited("billing"), now).is_ok(), "each caller has its own");
        let hour = Duration::from_hours(1);
        assert_eq!((0..20).filter(|_| quotas.send_at(&orders, now + hour).is_ok()).count(), 10);
    }

    #[test]
    fn a_stream_gives_its_place_back() {
        let (quotas, orders) = (Quotas::default(), limited("orders"));
        let first = quotas.stream(&orders).unwrap();
        let second = quotas.stream(&orders).unwrap();
        assert_eq!(quotas.stream(&orders).unwrap_err(), Exceeded::Streams { streams_max: 2 });
        assert!(quotas.stream(&limited("billing")).is_ok());
        drop(first);
        let third = quotas.stream(&orders).unwrap();
        assert!(second.is_some() && third.is_some() && quotas.stream(&orders).is_err());
    }
}
