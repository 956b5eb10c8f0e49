//! A named subscription: whose turn an event is, who works on it, until when, and what becomes of it.
//!
//! [`Machine`] is pure. It never asks the time: every call brings the milliseconds since the Unix epoch, and
//! [`Machine::next_wake_ms`] says when time alone changes something. It holds no event, only places in the log.
//!
//! ```text
//! offer ─▶ blocked ─▶ ready ─▶ leased ─▶ done
//!                       ▲        ├─▶ waiting (retry with delay) ─▶ ready
//!                       │        ├─▶ parked ─▶ replay ─▶ ready
//!                       └────────┘ deadline, takeover
//! ```
//!
//! What it promises:
//!
//! - **At least once**: an event that was offered is handed out until it is done or parked.
//! - **Once done, never again**: not after a restart either, if the [`Progress`] was stored.
//! - **Order**: in [`Mode::Ordered`] no two events of one conversation are leased at once, and the later one waits until the
//!   earlier one is done or parked. In [`Mode::Exclusive`] one worker has all, in the order of the log; when an event comes
//!   back, those handed out after it come back too.
//! - **A lease ends once**: what its worker says afterwards changes nothing.
//! - **Bounds**: [`WINDOW_EVENTS`] events between the first that is not done and the last that was looked at and is not
//!   done, [`PARKED_MAX`] parked ones. At the first bound nothing newer is handed out until one of them is done or parked; at
//!   the second nothing is parked any more, but tried again; nor while there is no room for copies.

mod ack_id;
mod lines;
mod machine;
mod progress;
mod workers;

use std::time::Duration;

pub use ack_id::AckId;
pub use machine::{Lease, Machine, Most, Outcome, PARKED_MAX, Refused, WINDOW_EVENTS};
pub use progress::{Hole, Parking, Progress, Unsaved};
pub use workers::{Wish, WorkerId};

/// How the events of a subscription are shared among its workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Each event to one worker, one event of a conversation at a time.
    Ordered,
    /// Each event to one worker, in no order.
    Shared,
    /// All events to one worker, in the order of the log; the other workers stand by.
    Exclusive,
}

/// What a subscription demands of its workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Who gets what.
    pub mode: Mode,
    /// How long a worker has for an event.
    pub ack_deadline: Duration,
    /// The delay of the first retry that names none; each further one is twice as long.
    pub retry_delay_min: Duration,
    /// And never longer than this.
    pub retry_delay_max: Duration,
    /// After so many deliveries an event is parked instead of delivered.
    pub attempts_max: u32,
}

impl Terms {
    /// How long to wait after this many deliveries.
    fn retry_delay(&self, attempts: u32) -> Duration {
        let doubled = self.retry_delay_min.saturating_mul(1 << attempts.saturating_sub(1).min(20));
        doubled.min(self.retry_delay_max)
    }
}

/// Where an event comes from: its place in the log, and whether it is delivered again after it was parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Position in the log.
    pub seq: u64,
    /// Its copy among the parked events is what is delivered.
    pub is_parked: bool,
}

/// An event that the subscription wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Position in the log.
    pub seq: u64,
    /// Stands for the conversation. Two conversations with one key only wait for each other.
    pub key: u64,
    /// Its size, for the limits of workers.
    pub bytes: u64,
    /// When it was stored.
    pub append_ms: u64,
}

/// Why an event was parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It was delivered as often as the subscription allows.
    AttemptsExhausted,
    /// A worker said so.
    Worker,
}

#[cfg(test)]
mod tests;
