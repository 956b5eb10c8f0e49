//! What a queued message does when its turn comes, and how it ends.

use std::time::{Duration, SystemTime};

use metrics::counter;
use secrecy::SecretString;
use tokio::time::sleep;
use tracing::field::Empty;
use tracing::{Instrument, info_span, warn};

use crate::domain::conversation::group_key;
use crate::domain::event::{Event, EventAttributes, Payload, SEND, SendOutcome, SendReport};
use crate::domain::failure::{Actor, Class, Failure, Reason, Retry, Verdict};
use crate::domain::message::{PreparedMessage, Recipient, SendTag};
use crate::domain::schedule::Feedback;
use crate::flows::conversations::named;
use crate::flows::gateway_event::{About, append, gateway_event};
use crate::flows::lanes::{Turn, Waiter};
use crate::flows::send_message::{attempt, feedback, kind_label, pause, report};
use crate::flows::unsettled::{self, Flight, Known};
use crate::flows::window::{Choice, count_fallback, count_refusal};
use crate::storage::sends::{Outcome, PendingSend, QueuedSend, Stored};
use crate::telemetry::{begin_trace, current_traceparent, names};

use super::{Parts, Queue, RETRY_DELAY, Start};

/// Until a turn is asked for again when too many messages are on their way.
const TOO_MANY_DELAY: Duration = Duration::from_millis(100);

/// What goes out now.
struct Departure {
    access_token: SecretString,
    message: PreparedMessage,
    used_fallback: bool,
    /// What goes out if Meta finds the window closed.
    fallback: Option<PreparedMessage>,
}

impl Queue {
    /// Hears of a turn, in the lane.
    pub(super) fn waiter(&self, tag: &SendTag) -> Waiter {
        let (queue, tag) = (self.clone(), tag.clone());
        Box::new(move |turn| match turn {
            Ok(turn) => queue.take_off(tag, turn),
            // Without a deadline nobody is refused; should it be, it gets in line again.
            Err(_) => queue.later(&tag, None, queue.now() + RETRY_DELAY),
        })
    }

    /// Sends it, in a task of its own. After the drain nothing goes out; the next process has it.
    pub(super) fn take_off(&self, tag: SendTag, turn: Turn) {
        if self.parts().shutdown.drain().is_cancelled() {
            return;
        }
        let start = self.places().take_off(&tag);
        match start {
            Start::Go { retries } => {
                self.parts().shutdown.spawn_alone(self.clone().take_turn(tag, turn, retries));
            }
            Start::TooMany => self.again(&tag, turn, Feedback::NotSent, TOO_MANY_DELAY),
            Start::Gone => turn.done(Feedback::NotSent),
        }
    }

    async fn take_turn(self, tag: SendTag, turn: Turn, retries: u32) {
        if !self.parts().number_watch.may_send() {
            return self.again(&tag, turn, Feedback::NotSent, RETRY_DELAY);
        }
        let read = match self.read(&tag).await {
            Ok(Some(read)) => read,
            Ok(None) => return turn.done(Feedback::NotSent),
            Err(()) => return self.again(&tag, turn, Feedback::NotSent, RETRY_DELAY),
        };
        // Whoever lets it have its turn is in a trace of another send.
        let span = info_span!(parent: None, "send_queued_message", send.tag = tag.as_str(), trace_id = Empty);
        begin_trace(&span, read.2.trace.as_ref());
        self.send(tag, turn, retries, read).instrument(span).await;
    }

    async fn send(
        self,
        tag: SendTag,
        turn: Turn,
        retries: u32,
        (pending, stored, queued): (PendingSend, Stored, QueuedSend),
    ) {
        if queued.not_after <= self.now() {
            turn.done(Feedback::NotSent);
            return self.end(&tag, pending, stored, Outcome::Expired(expired())).await;
        }
        let departure = match self.departure(&queued).await {
            Ok(departure) => departure,
            Err(failure) => {
                if failure.verdict.reason == Reason::WindowClosed {
                    count_refusal();
                }
                turn.done(Feedback::NotSent);
                return self.end(&tag, pending, stored, Outcome::Refused(failure)).await;
            }
        };
        if departure.used_fallback && retries == 0 {
            count_fallback();
        }
        let mut flight = match self.depart(&tag, &queued, &pending, stored, &departure).await {
            Ok(Some(flight)) => flight,
            Ok(None) => {
                turn.done(Feedback::NotSent);
                return self.places().remove(&tag);
            }
            Err(()) => return self.again(&tag, turn, Feedback::NotSent, RETRY_DELAY),
        };
        let Parts { client, number_watch, traces, .. } = self.parts();
        traces.keep(&tag);
        let outcome =
            attempt((client, &departure.access_token), number_watch, &departure.message, &turn).await;
        let feedback = feedback(&outcome);
        let is_parked = || number_watch.refusal(&queued.message.phone_number_id).is_some();
        if let Some(pause) = wait(&outcome, is_parked, (self.now(), queued.not_after), retries)
            && self.requeue(&mut flight).await
        {
            return self.again(&tag, turn, feedback, pause);
        }
        turn.done(feedback);
        if matches!(outcome, Outcome::Refused(_)) {
            self.parts().fallbacks.forget(&tag);
        }
        self.parts().windows.hear(&departure.message, &outcome);
        report(kind_label(&queued.kind), &tag, &outcome);
        let slot = flight.slot();
        flight.land(outcome).await;
        while !slot.is_recorded().await {
            // The round of what is unsettled writes it, as soon as that is possible.
            if !self.pause_for(RETRY_DELAY).await {
                return;
            }
        }
        let known = Known { tag, used_fallback: slot.used_fallback(), outcome: slot.durable().0 };
        self.conclude(known, &pending, &queued).await;
    }

    /// Gets in line again, in its old place.
    fn again(&self, tag: &SendTag, turn: Turn, feedback: Feedback, delay: Duration) {
        self.places().between(tag);
        let offered = turn.line_up_again(feedback, delay, self.waiter(tag));
        self.offered(tag, offered);
    }

    /// What the store has of a message that waits. `None` if it does not any more, and then it has no place either.
    async fn read(&self, tag: &SendTag) -> Result<Option<(PendingSend, Stored, QueuedSend)>, ()> {
        let found = self.parts().unsettled.pending(tag).await;
        let found =
            found.map_err(|error| warn!(%error, send.tag = tag.as_str(), "a queued send cannot be read"))?;
        let waits = found.filter(|(_, stored)| stored.record.outcome == Outcome::Queued);
        let read = waits.and_then(|(pending, stored)| {
            let queued = *pending.queued.clone()?;
            Some((pending, stored, queued))
        });
        if read.is_none() {
            self.places().remove(tag);
        }
        Ok(read)
    }

    /// Gets in line after it was read again.
    pub(super) async fn read_again(self, tag: SendTag) {
        match self.read(&tag).await {
            Ok(Some((_, _, queued))) => self.line_up(&tag, unsettled::wish_of(&queued)),
            Ok(None) => {}
            Err(()) => self.later(&tag, None, self.now() + RETRY_DELAY),
        }
    }

    /// What goes out now, or why nothing does.
    async fn departure(&self, queued: &QueuedSend) -> Result<Departure, Failure> {
        let QueuedSend { message, fallback, window_policy, .. } = queued;
        let number = &message.phone_number_id;
        let access_token = self.parts().numbers.access_token(number);
        let access_token = access_token
            .map_err(|error| refusal(Class::NotFound, Reason::PhoneNumberNotConfigured, error.to_string()))?;
        let choice = match window_policy {
            Some(policy) => {
                let windows = &self.parts().windows;
                windows.choose(number, &message.recipient, *policy, fallback.is_some()).await
            }
            None => Choice::Message { may_need_fallback: false },
        };
        let (message, used_fallback, fallback) = match (choice, fallback) {
            (Choice::Message { may_need_fallback }, fallback) => {
                (message.clone(), false, fallback.clone().filter(|_| may_need_fallback))
            }
            (Choice::Fallback, Some(fallback)) => (fallback.clone(), true, None),
            (Choice::Fallback, None) => (message.clone(), false, None),
            (Choice::Nothing(closed), _) => {
                return Err(refusal(Class::FailedPrecondition, Reason::WindowClosed, closed.to_string()));
            }
        };
        Ok(Departure { access_token, message, used_fallback, fallback })
    }

    /// Writes down that it goes out. `None` if the store has it otherwise by now.
    async fn depart(
        &self,
        tag: &SendTag,
        queued: &QueuedSend,
        pending: &PendingSend,
        stored: Stored,
        departure: &Departure,
    ) -> Result<Option<Flight>, ()> {
        if let Some(fallback) = &departure.fallback {
            let noted = self.parts().fallbacks.note_prepared(tag, fallback.clone()).await;
            noted.map_err(|error| warn!(%error, "a fallback cannot be stored; its message waits"))?;
        }
        let departed = self.parts().unsettled.depart(queued, pending, stored, departure.used_fallback).await;
        departed.map_err(|error| warn!(%error, "a queued send cannot go out yet; it waits"))
    }

    /// Writes down that it certainly did not go out and waits again; false if it must land after all.
    async fn requeue(&self, flight: &mut Flight) -> bool {
        loop {
            match flight.requeue().await {
                Ok(is_requeued) => return is_requeued,
                Err(error) => {
                    warn!(%error, "a send that waits again cannot be stored as such");
                    // If the process ends now, the next one cannot know that it did not go out.
                    if !self.pause_for(RETRY_DELAY).await {
                        return false;
                    }
                }
            }
        }
    }

    /// Its time is over.
    pub(super) async fn expire(self, tag: SendTag) {
        match self.read(&tag).await {
            Ok(Some((pending, stored, _))) => {
                self.end(&tag, pending, stored, Outcome::Expired(expired())).await;
            }
            Ok(None) => {}
            Err(()) => self.later(&tag, None, self.now() + RETRY_DELAY),
        }
    }

    /// Ends a message that did not go out.
    async fn end(&self, tag: &SendTag, pending: PendingSend, stored: Stored, outcome: Outcome) {
        let Some(queued) = pending.queued.clone() else { return };
        while let Err(error) = self.parts().unsettled.end(&pending, &stored, outcome.clone()).await {
            warn!(%error, "the end of a queued send cannot be stored yet");
            if !self.pause_for(RETRY_DELAY).await {
                return;
            }
        }
        self.parts().fallbacks.forget(tag);
        report(kind_label(&queued.kind), tag, &outcome);
        let known = Known { tag: tag.clone(), used_fallback: false, outcome };
        self.conclude(known, &pending, &queued).await;
    }

    /// Reports what became of a message of an earlier process.
    pub(super) async fn report_left(self, tag: SendTag) {
        loop {
            match self.parts().unsettled.pending(&tag).await {
                Ok(Some((pending, stored))) => {
                    let Some(queued) = pending.queued.clone() else { return self.places().remove(&tag) };
                    let known = self.parts().unsettled.known_of(&stored);
                    return self.conclude(known, &pending, &queued).await;
                }
                Ok(None) => return self.places().remove(&tag),
                Err(error) => warn!(%error, "a queued send that is over cannot be read"),
            }
            if !self.pause_for(RETRY_DELAY).await {
                return;
            }
        }
    }

    /// Reports what became of a message, then lets it go.
    async fn conclude(&self, known: Known, pending: &PendingSend, queued: &QueuedSend) {
        let tag = known.tag.clone();
        let Some((event, word)) = self.event(known, pending, queued).await else { return };
        let traceparent = current_traceparent(queued.trace.as_ref()).unwrap_or_default();
        if !append(&*self.parts().log, &event, &traceparent, &self.parts().shutdown).await {
            return;
        }
        counter!(names::QUEUE_ENDED, names::OUTCOME => word).increment(1);
        // Should this fail, the next process reports again, which adds nothing.
        if let Err(error) = self.parts().unsettled.is_reported(&tag, pending).await {
            warn!(%error, "a queued send could not be forgotten");
        }
        self.places().remove(&tag);
    }

    /// The report; `None` if the process ends before it can be made.
    async fn event(
        &self,
        known: Known,
        pending: &PendingSend,
        queued: &QueuedSend,
    ) -> Option<(Event, &'static str)> {
        let Known { tag, used_fallback, outcome } = known;
        let (outcome, subject, word) = match outcome {
            Outcome::Accepted(receipt) => {
                let id = receipt.message_id.as_str().to_owned();
                (SendOutcome::Accepted(receipt), id, "accepted")
            }
            Outcome::Refused(failure) => (SendOutcome::Refused(failure), String::new(), "refused"),
            Outcome::Expired(failure) => (SendOutcome::Expired(failure), String::new(), "expired"),
            Outcome::Unknown(failure) => (SendOutcome::Unknown(failure), String::new(), "unknown"),
            // No send that is over is any of these.
            Outcome::Queued | Outcome::Sending | Outcome::Answered(_) => return None,
        };
        let report = SendReport {
            send_tag: tag.clone(),
            request_id: queued.request_id.clone(),
            caller: queued.caller.clone(),
            outcome,
            used_fallback,
            callback_data: queued.callback_data.clone(),
            queue_time: pending.created,
        };
        let (number, recipient) = (&queued.message.phone_number_id, &queued.message.recipient);
        let payload = Payload::Send(Box::new(report));
        let attributes = EventAttributes {
            event_type: SEND.to_owned(),
            phone_number_id: number.to_string(),
            waba_id: self.parts().numbers.waba_of(number),
            conversation_key: String::new(),
        };
        let about = About { attributes, subject, payload };
        let mut event = Event { user: named(recipient), ..gateway_event(tag.as_str(), self.now(), about) };
        if let Recipient::Group(group) = recipient {
            event.attributes.conversation_key = group_key(number, group.as_str());
        }
        while let Err(error) = self.parts().identities.assign(std::slice::from_mut(&mut event)).await {
            warn!(%error, "the conversation of a queued send cannot be read");
            if !self.pause_for(RETRY_DELAY).await {
                return None;
            }
        }
        Some((event, word))
    }

    /// Waits; false if the drain comes before.
    async fn pause_for(&self, delay: Duration) -> bool {
        self.parts().shutdown.drain().run_until_cancelled(sleep(delay)).await.is_some()
    }
}

/// The failure of a message whose time ran out.
fn expired() -> Failure {
    let message = "it did not have its turn until not_after; it was not sent and will not be".to_owned();
    refusal(Class::FailedPrecondition, Reason::SendExpired, message)
}

fn refusal(class: Class, reason: Reason, message: String) -> Failure {
    let verdict = Verdict { class, reason, actor: Actor::Caller, retry: Retry::AfterChange };
    Failure { verdict, message, meta: None, field: None }
}

/// How long a message waits before another attempt, of which this is its last moment; `None` if there is none.
fn wait(
    outcome: &Outcome,
    is_parked: impl FnOnce() -> bool,
    (now, not_after): (SystemTime, SystemTime),
    retries: u32,
) -> Option<Duration> {
    let Outcome::Refused(failure) = outcome else { return None };
    // Its time ends in the queue, as that of any other, and by the word of who leads then.
    if failure.verdict.reason == Reason::NoLeader {
        return Some(RETRY_DELAY);
    }
    // A number that cannot send waits for whoever must act; so do its messages.
    if failure.verdict.actor == Actor::Operator && is_parked() {
        return Some(Duration::ZERO);
    }
    let pause = pause(&failure.verdict, retries)?;
    (now + pause.most < not_after).then(|| pause.drawn())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::send_message::not_leading;

    #[test]
    fn what_could_not_go_out_for_want_of_a_leader_waits_on() {
        let (then, now) = (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + Duration::from_secs(9));
        let outcome = Outcome::Refused(not_leading());
        // However often, and also when its time is over: the next leader ends it.
        assert_eq!(wait(&outcome, || false, (now, then), 100), Some(RETRY_DELAY));
        let other = Failure {
            verdict: Verdict { reason: Reason::ServerDraining, ..not_leading().verdict },
            ..not_leading()
        };
        assert_eq!(wait(&Outcome::Refused(other), || false, (now, then), 0), None);
    }
}
