//! What is known of each business number: how fast it may send, and whether it can.
//!
//! Three sources speak: answers to sends, webhooks, and reads of the number now and then. The rules are pure
//! ([`domain::number_health`](crate::domain::number_health)); this carries them out on the lanes and tells people.

mod heard;
mod reads;
mod tokens;
mod told;

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::clock::SharedClock;
use crate::cloud_api::Client;
use crate::domain::event::Event;
use crate::domain::failure::Failure;
use crate::domain::ids::PhoneNumberId;
use crate::domain::number_health::{Cause, Change, Complaint, NumberHealth, Source};
use crate::domain::schedule::Moment;
use crate::lifecycle::Shutdown;
use crate::storage::event_log::EventLog;
use crate::storage::leadership::Leadership;
use crate::tenants::TokenHash;

use super::lanes::Lanes;
use super::numbers::Numbers;

/// Watches the configured numbers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct NumberWatch {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Client,
    numbers: Numbers,
    lanes: Lanes,
    leadership: Leadership,
    log: Arc<dyn EventLog>,
    first_pause: Duration,
    clock: SharedClock,
    shutdown: Shutdown,
    began: Instant,
    /// Held while the lanes are told, so that they hear everything in its order. They never ask back.
    state: Mutex<State>,
    /// There is something to do before the next look.
    sooner: Notify,
}

#[derive(Debug, Default)]
struct State {
    numbers: HashMap<PhoneNumberId, Watched>,
    /// Events that are not stored yet.
    untold: Vec<Event>,
    /// How many reads are on their way.
    reads: usize,
    /// By WABA: the token that was asked about, and when it is asked about again.
    tokens: HashMap<Arc<str>, (TokenHash, Moment)>,
}

#[derive(Debug)]
struct Watched {
    health: NumberHealth,
    /// The token with which it was parked for one of its causes.
    token: Option<TokenHash>,
    /// The number as people write it; empty while nothing was read.
    digits: String,
    read_at: Moment,
    is_being_read: bool,
    /// Under which reason the metrics show it as parked.
    shown: Option<&'static str>,
}

impl NumberWatch {
    /// Watches these numbers and steers these lanes. A number that is parked is looked at after the first pause.
    pub fn new(
        client: Client,
        numbers: Numbers,
        (lanes, leadership): (Lanes, Leadership),
        log: Arc<dyn EventLog>,
        first_pause: Duration,
        clock: SharedClock,
        shutdown: Shutdown,
    ) -> Self {
        let (began, state, sooner) = (Instant::now(), Mutex::default(), Notify::new());
        let inner = Inner {
            client,
            numbers,
            lanes,
            leadership,
            log,
            first_pause,
            clock,
            shutdown,
            began,
            state,
            sooner,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The lanes that it steers.
    pub(super) fn lanes(&self) -> Lanes {
        self.inner.lanes.clone()
    }

    /// Whether this process may let a message go out: nobody else leads yet.
    pub(super) fn may_send(&self) -> bool {
        self.inner.leadership.holds()
    }

    /// Why the number cannot send, since when, and what ends it; nothing if it can.
    pub(super) fn refusal(&self, number: &PhoneNumberId) -> Option<Failure> {
        let (state, now) = (self.inner.state(), self.inner.now());
        let parked = state.numbers.get(number)?.health.parked()?;
        Some(told::refusal(parked, now))
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Moment {
        self.began.elapsed()
    }

    /// Something is wrong with the number. What is wrong with its token is wrong with all that use it.
    fn complain(&self, number: &PhoneNumberId, source: Source, complaint: &Complaint) {
        let Some(token) = self.numbers.token_hash(number) else { return };
        let mut state = self.state();
        let changed = self.refuse(&mut state, number, token, source, complaint.clone());
        if changed && complaint.cause == Cause::Token {
            for other in self.others_with(number) {
                self.refuse(&mut state, &other, token, Source::Word, complaint.clone());
                // The one that noticed looks for all.
                let now = self.now();
                state.watched(&other, self.first_pause).health.look(now);
            }
        }
    }

    fn refuse(
        &self,
        state: &mut State,
        number: &PhoneNumberId,
        token: TokenHash,
        source: Source,
        complaint: Complaint,
    ) -> bool {
        let watched = state.watched(number, self.first_pause);
        let is_of_token = complaint.cause.is_of_token();
        let change = watched.health.refused(self.now(), source, complaint);
        if change.is_some() && is_of_token {
            watched.token = Some(token);
        }
        self.apply(state, number, change)
    }

    /// Something speaks for the number.
    fn clear(&self, number: &PhoneNumberId, judge: impl FnOnce(&mut NumberHealth) -> Option<Change>) {
        let mut state = self.state();
        // Nothing is known against a number that is not watched yet.
        let Some(watched) = state.numbers.get_mut(number) else { return };
        let change = judge(&mut watched.health);
        self.apply(&mut state, number, change);
    }

    /// Carries out what changed, and tells people. Whether anything did.
    fn apply(&self, state: &mut State, number: &PhoneNumberId, change: Option<Change>) -> bool {
        let Some(change) = change else { return false };
        let watched = state.watched(number, self.first_pause);
        let parked = watched.health.parked().cloned();
        let reason = parked.as_ref().map(|parked| parked.complaint.verdict.reason.as_str());
        told::show(number, std::mem::replace(&mut watched.shown, reason), reason);
        if let Some(parked) = parked {
            self.lanes.park(number, parked.complaint.verdict);
            told::parked(number, &parked.complaint);
            state.untold.push(self.event(number, true, &parked.complaint));
        } else {
            self.lanes.resume(number);
        }
        if let Change::Resumed(parked) = change {
            told::resumed(number, &parked.complaint);
            state.untold.push(self.event(number, false, &parked.complaint));
        }
        self.sooner.notify_one();
        true
    }

    /// The other numbers that use the token of this one.
    fn others_with(&self, number: &PhoneNumberId) -> Vec<PhoneNumberId> {
        let Some(token) = self.numbers.token_hash(number) else { return Vec::new() };
        let others = self.numbers.of_wabas(|_| true).into_iter().filter(|other| other != number);
        others.filter(|other| self.numbers.token_hash(other) == Some(token)).collect()
    }
}

impl State {
    fn watched(&mut self, number: &PhoneNumberId, first_pause: Duration) -> &mut Watched {
        self.numbers.entry(number.clone()).or_insert_with(|| Watched {
            health: NumberHealth::new(spread(number, first_pause)),
            token: None,
            digits: String::new(),
            read_at: Moment::ZERO,
            is_being_read: false,
            shown: None,
        })
    }
}

/// The time, or up to a quarter more: always as much for one number, so that many numbers do not act together.
fn spread(number: &PhoneNumberId, time: Duration) -> Duration {
    let mut hasher = DefaultHasher::new();
    number.as_str().hash(&mut hasher);
    let [first, ..] = hasher.finish().to_le_bytes();
    time + time.mul_f64(f64::from(first) / 1024.0)
}
