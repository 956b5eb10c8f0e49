//! The template that goes out when Meta finds the window closed after it has accepted the message (131047).
//!
//! A durable note is written before the message is sent, and moves: waiting → due (the status came) → sending → gone. A
//! process that ends while a template is due sends it later; one that ends while it is being sent does not send it
//! again, since it may have gone out. So it goes out at most once, and exactly once unless the process is killed in that
//! very moment. What became of it is an event.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use metrics::counter;
use tokio::time::sleep;
use tracing::{Instrument, info, info_span, warn};

use crate::clock::SharedClock;
use crate::cloud_api::Client;
use crate::cloud_api::messages::prepare;
use crate::domain::caller::Caller;
use crate::domain::event::{
    Event, EventAttributes, FALLBACK, FallbackOutcome, FallbackReport, Payload, StatusReport,
};
use crate::domain::failure::{Failure, Reason};
use crate::domain::message::{OutboundMessage, PreparedMessage, SendTag};
use crate::domain::schedule::Class;
use crate::lifecycle::Shutdown;
use crate::storage::event_log::EventLog;
use crate::storage::fallbacks::{
    FALLBACK_KEPT, FailedMessage, FallbackNote, FallbackNotes, FallbackProgress,
};
use crate::storage::keyed_state::StateError;
use crate::storage::sends::Outcome;
use crate::telemetry::{current_traceparent, names};

use super::gateway_event::{About, append, gateway_event};
use super::lanes::{self, Lanes, Wish};
use super::number_watch::NumberWatch;
use super::numbers::Numbers;
use super::send_message::{attempt, feedback, report};
use super::send_traces::SendTraces;

/// Between two tries of what was certainly not sent; doubles up to the second.
const RETRY_DELAY_MIN: Duration = Duration::from_secs(1);
const RETRY_DELAY_MAX: Duration = Duration::from_mins(1);

/// Keeps templates until their message has a status.
#[derive(Debug, Clone)]
pub struct Fallbacks {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    notes: FallbackNotes,
    log: Arc<dyn EventLog>,
    client: Client,
    traces: SendTraces,
    numbers: Numbers,
    lanes: Lanes,
    number_watch: NumberWatch,
    clock: SharedClock,
    shutdown: Shutdown,
    waiting: Mutex<Waiting>,
}

/// The tags of the notes that wait, and when each is over, so that other statuses cost no read.
#[derive(Debug, Default)]
struct Waiting {
    until: HashMap<SendTag, SystemTime>,
    /// As soon as there are so many, those that are over are dropped.
    sweep_at: usize,
}

/// A template whose turn has come.
struct Turn {
    tag: SendTag,
    note: FallbackNote,
    revision: u64,
    failed: FailedMessage,
}

impl Fallbacks {
    /// Keeps notes in this store, and reports to this log.
    pub fn new(
        notes: FallbackNotes,
        log: Arc<dyn EventLog>,
        (client, traces): (Client, SendTraces),
        numbers: Numbers,
        number_watch: NumberWatch,
        clock: SharedClock,
        shutdown: Shutdown,
    ) -> Self {
        let (waiting, lanes) = (Mutex::default(), number_watch.lanes());
        let inner =
            Inner { notes, log, client, traces, numbers, lanes, number_watch, clock, shutdown, waiting };
        Self { inner: Arc::new(inner) }
    }

    /// Takes up what an earlier process has left. Call it before statuses are read.
    pub async fn resume(&self) -> Result<(), StateError> {
        for (tag, note, revision) in self.inner.notes.all().await? {
            match note.progress.clone() {
                FallbackProgress::Waiting => self.inner.waiting().insert(tag, note.created),
                FallbackProgress::Due(failed) => self.spawn(Turn { tag, note, revision, failed }),
                FallbackProgress::Sending(failed) => {
                    let description = "the gateway ended while it sent the template".to_owned();
                    let inner = Arc::clone(&self.inner);
                    let turn = Turn { tag, note, revision, failed };
                    self.inner.shutdown.spawn_request(async move {
                        inner.report(turn, FallbackOutcome::Unknown(description)).await;
                    });
                }
            }
        }
        Ok(())
    }

    /// Notes durably what must go out under this tag if the message fails. Call it before the message is sent.
    pub async fn note(&self, tag: &SendTag, fallback: &OutboundMessage) -> Result<(), StateError> {
        self.note_prepared(tag, prepare(fallback, tag)).await
    }

    /// As [`Fallbacks::note`]; over the note of an attempt with which nothing went out.
    pub(super) async fn note_prepared(
        &self,
        tag: &SendTag,
        message: PreparedMessage,
    ) -> Result<(), StateError> {
        let created = self.inner.clock.now();
        let note = FallbackNote { message, created, progress: FallbackProgress::Waiting };
        // In this order: the status may come before this task goes on.
        self.inner.waiting().insert(tag.clone(), created);
        let noted = match self.inner.notes.put(tag, &note, None).await {
            Err(StateError::Conflict { current: Some(earlier) }) => {
                self.inner.notes.put(tag, &note, Some(earlier.revision)).await
            }
            noted => noted,
        };
        if noted.is_err() {
            self.inner.waiting().remove(tag);
        }
        noted.map(|_| ())
    }

    /// Forgets the note: its message was certainly not sent, or has arrived, or failed for another reason. A note that
    /// outlives this one way or another only takes space until it is over.
    pub fn forget(&self, tag: &SendTag) {
        if self.inner.waiting().remove(tag) {
            let (inner, tag) = (Arc::clone(&self.inner), tag.clone());
            self.inner.shutdown.spawn_request(async move {
                if let Err(error) = inner.notes.delete(&tag).await {
                    warn!(%error, "a fallback could not be forgotten");
                }
            });
        }
    }

    /// Hears a status; once this returns, the template goes out if it must, whatever happens to the process.
    pub(super) async fn settle(
        &self,
        report: &StatusReport,
        conversation_key: &str,
    ) -> Result<(), StateError> {
        let Some(tag) = report.send_tag.as_ref().filter(|tag| self.inner.waiting().has(tag)) else {
            return Ok(());
        };
        if !report.is_window_closed() {
            self.forget(tag);
            return Ok(());
        }
        if let Some((note, revision)) = self.inner.notes.get(tag).await?
            && note.progress == FallbackProgress::Waiting
        {
            let (id, conversation_key) = (report.message_id.clone(), conversation_key.to_owned());
            let failed = FailedMessage { id, conversation_key };
            let note = FallbackNote { progress: FallbackProgress::Due(failed.clone()), ..note };
            match self.inner.notes.put(tag, &note, Some(revision)).await {
                Ok(revision) => self.spawn(Turn { tag: tag.clone(), note, revision, failed }),
                // It was over in this very moment.
                Err(StateError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.inner.waiting().remove(tag);
        Ok(())
    }

    fn spawn(&self, turn: Turn) {
        let inner = Arc::clone(&self.inner);
        let span = info_span!(parent: None, "send_fallback", send.tag = turn.tag.as_str());
        self.inner.shutdown.spawn_alone(async move {
            inner.traces.link(&span, &turn.tag).await;
            inner.take_turn(turn).instrument(span).await;
        });
    }
}

impl Inner {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the template, again and again as long as it was certainly not sent and may be.
    async fn take_turn(&self, mut turn: Turn) {
        let mut delay = RETRY_DELAY_MIN;
        loop {
            let over_at = turn.note.created + FALLBACK_KEPT;
            let left = over_at.duration_since(self.clock.now()).unwrap_or_default();
            if left.is_zero() {
                let description = "its message failed a day ago".to_owned();
                return self.report(turn, FallbackOutcome::Failed(Reason::WindowClosed, description)).await;
            }
            let wish = Wish::of(&turn.note.message, Caller::gateway(), Class::Normal, None);
            let slot = tokio::select! {
                slot = self.lanes.turn(wish) => slot,
                // A number may be parked for longer than that.
                () = sleep(left) => continue,
                () = self.shutdown.drain().cancelled() => return,
            };
            let sending = FallbackProgress::Sending(turn.failed.clone());
            let wait = match slot {
                // The lane is full.
                Err(_) => delay,
                Ok(slot) => match self.advance(&mut turn, sending).await {
                    Ok(()) => match self.attempt(&turn, slot).await {
                        Ok(outcome) => return self.report(turn, outcome).await,
                        Err(wait) => {
                            // Should this fail, the next process takes it for sent: at most once comes first.
                            let due = FallbackProgress::Due(turn.failed.clone());
                            if let Err(error) = self.advance(&mut turn, due).await {
                                warn!(%error, "a fallback that waits could not be noted");
                            }
                            wait.max(delay)
                        }
                    },
                    // Somebody else has it, or it is over.
                    Err(StateError::Conflict { .. }) => return,
                    Err(error) => {
                        warn!(%error, "a fallback cannot be noted; it waits");
                        delay
                    }
                },
            };
            delay = (delay * 2).min(RETRY_DELAY_MAX);
            tokio::select! {
                () = sleep(wait) => {}
                () = self.shutdown.drain().cancelled() => return,
            }
        }
    }

    async fn advance(&self, turn: &mut Turn, progress: FallbackProgress) -> Result<(), StateError> {
        let note = FallbackNote { progress, ..turn.note.clone() };
        turn.revision = self.notes.put(&turn.tag, &note, Some(turn.revision)).await?;
        turn.note = note;
        Ok(())
    }

    /// What became of one try, or how long to wait before the next.
    async fn attempt(&self, turn: &Turn, slot: lanes::Turn) -> Result<FallbackOutcome, Duration> {
        let message = &turn.note.message;
        let access_token = match self.numbers.access_token(&message.phone_number_id) {
            Ok(access_token) => access_token,
            Err(error) => {
                return Ok(FallbackOutcome::Failed(Reason::PhoneNumberNotConfigured, error.to_string()));
            }
        };
        let outcome = attempt((&self.client, &access_token), &self.number_watch, message, &slot).await;
        slot.done(feedback(&outcome));
        report("template", &turn.tag, &outcome);
        let failure = match outcome {
            Outcome::Accepted(receipt) => {
                return Ok(FallbackOutcome::Accepted(receipt.message_id.as_str().to_owned()));
            }
            Outcome::Unknown(failure) => return Ok(FallbackOutcome::Unknown(failure.message)),
            Outcome::Refused(failure) => failure,
            // No attempt ends so.
            Outcome::Queued | Outcome::Sending | Outcome::Expired(_) | Outcome::Answered(_) => {
                return Ok(FallbackOutcome::Unknown(String::new()));
            }
        };
        let is_parked = self.number_watch.refusal(&message.phone_number_id).is_some();
        refused(failure, is_parked, (self.clock.now(), turn.note.created + FALLBACK_KEPT))
    }

    /// Says what became of it, and forgets it. The id of the event comes from the tag, so that a repetition adds nothing.
    async fn report(&self, turn: Turn, outcome: FallbackOutcome) {
        let Turn { tag, note, failed, .. } = turn;
        let word = match &outcome {
            FallbackOutcome::Accepted(_) => "accepted",
            FallbackOutcome::Failed(_, _) => "failed",
            FallbackOutcome::Unknown(_) => "unknown",
        };
        counter!(names::FALLBACKS, names::OUTCOME => word).increment(1);
        info!(send.tag = tag.as_str(), outcome = word, "a fallback template had its turn");
        let event = self.event(&tag, &note, failed, outcome);
        let traceparent = current_traceparent(None).unwrap_or_default();
        if !append(&*self.log, &event, &traceparent, &self.shutdown).await {
            return;
        }
        if let Err(error) = self.notes.delete(&tag).await {
            warn!(%error, "a fallback could not be forgotten");
        }
    }

    fn event(
        &self,
        tag: &SendTag,
        note: &FallbackNote,
        failed: FailedMessage,
        outcome: FallbackOutcome,
    ) -> Event {
        let number = &note.message.phone_number_id;
        let attributes = EventAttributes {
            event_type: FALLBACK.to_owned(),
            phone_number_id: number.to_string(),
            waba_id: self.numbers.waba_of(number),
            conversation_key: failed.conversation_key,
        };
        let report = FallbackReport { send_tag: tag.clone(), failed_message_id: failed.id.clone(), outcome };
        let about = About { attributes, subject: failed.id, payload: Payload::Fallback(report) };
        gateway_event(tag.as_str(), self.clock.now(), about)
    }
}

impl Waiting {
    fn insert(&mut self, tag: SendTag, created: SystemTime) {
        if self.until.len() >= self.sweep_at {
            self.until.retain(|_, until| created < *until);
            self.sweep_at = 2 * self.until.len() + 1024;
        }
        self.until.insert(tag, created + FALLBACK_KEPT);
    }

    fn has(&self, tag: &SendTag) -> bool {
        self.until.contains_key(tag)
    }

    fn remove(&mut self, tag: &SendTag) -> bool {
        self.until.remove(tag).is_some()
    }
}

/// What a refusal means for a template that is kept until then: its end, or how long it waits.
fn refused(
    failure: Failure,
    is_parked: bool,
    (now, until): (SystemTime, SystemTime),
) -> Result<FallbackOutcome, Duration> {
    // The lane is parked now, and the template waits in it as any other.
    let waits = || is_parked.then_some(RETRY_DELAY_MIN);
    match failure.verdict.retry.delay().or_else(waits) {
        Some(delay) if now + delay < until => Err(delay),
        Some(_) | None => Ok(FallbackOutcome::Failed(failure.verdict.reason, failure.message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::send_message::not_leading;

    #[test]
    fn a_template_waits_for_a_leader_as_long_as_it_is_kept() {
        let now = SystemTime::UNIX_EPOCH;
        let delay = refused(not_leading(), false, (now, now + FALLBACK_KEPT)).unwrap_err();
        assert!(delay > Duration::ZERO);
        let over = refused(not_leading(), false, (now, now + delay));
        assert!(matches!(over, Ok(FallbackOutcome::Failed(Reason::NoLeader, _))), "{over:?}");
    }
}
