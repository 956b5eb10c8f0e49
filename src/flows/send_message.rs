//! window and template → claim → attempts → answer → record.
//!
//! From the claim on, the work runs to its end even if the caller hangs up: a message may go out at any moment after,
//! and somebody must be there to hear what became of it. Whoever waits hears it as soon as it is known; the store gets
//! it right after.

mod attempt;
mod no_turn;
mod report;
mod resend;
mod tags;

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use secrecy::SecretString;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument, Span, debug_span, warn};

use crate::cloud_api::Client;
use crate::cloud_api::messages::{prepare, request_json};
use crate::domain::caller::Caller;
use crate::domain::failure::{Actor, Class, Failure, Reason, Retry, Verdict};
use crate::domain::ids::PhoneNumberId;
use crate::domain::message::{OnUnknown, OutboundMessage, PreparedMessage, Receipt, SendTag};
use crate::domain::schedule::Class as Priority;
use crate::domain::window::IfClosed;
use crate::lifecycle::Shutdown;
use crate::storage::keyed_state::StateError;
use crate::storage::sends::{Outcome, RequestKey, Resend};
use crate::telemetry::{as_decided, is_unseen};

pub(super) use attempt::{attempt, feedback, pause};
#[cfg(test)]
pub(super) use no_turn::not_leading;
pub(super) use report::{kind_label, report};
pub(super) use tags::new_tag;

use super::fallbacks::Fallbacks;
use super::lanes::{Lanes, Wish};
use super::number_watch::NumberWatch;
use super::numbers::{self, Numbers};
use super::send_traces::SendTraces;
use super::template_catalog::SentTemplate;
use super::unsettled::{self, Claim, Flight, Known, Request, Taken, Unsettled};
use super::window::{self, Admitted, Windows};

/// The RPC whose request ids these are.
pub(super) const RPC: &str = "SendMessage";
/// How long a send may take that came without a deadline, until nothing is tried again and nobody waits any more.
const TIME_MAX: Duration = Duration::from_secs(30);

/// A turn so short before the deadline is of no use any more, and a refusal then would come too late.
const LAST_TURN: Duration = Duration::from_millis(20);

/// How long a caller waits before it asks again when the store takes no writes.
pub(super) const STORE_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Sends messages.
#[derive(Debug)]
pub struct SendMessage {
    /// The way to Meta.
    pub client: Client,
    /// Whose tokens it uses.
    pub numbers: Numbers,
    /// Where messages wait for their turn.
    pub lanes: Lanes,
    /// What is known of the numbers, and hears what comes of each message.
    pub number_watch: NumberWatch,
    /// Whether content needs another way.
    pub windows: Windows,
    /// What runs or is in doubt.
    pub unsettled: Unsettled,
    /// What goes out if the window was closed after all.
    pub fallbacks: Fallbacks,
    /// What statuses link to.
    pub traces: SendTraces,
    /// The silence after which a send that may be sent again is.
    pub resend_after: Duration,
    /// What the work outlives its caller on.
    pub shutdown: Shutdown,
}

/// What a caller asks for besides the message.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Makes it safe to ask again: the id that the caller chose, and what tells this request from others.
    pub request_id: Option<(String, [u8; 32])>,
    /// What to do when nothing proves the outcome. For anything but a report it needs a request id.
    pub on_unknown: OnUnknown,
    /// How pressing it is.
    pub priority: Priority,
    /// Until when the caller waits.
    pub deadline: Option<Instant>,
    /// When it may go out, if it is to be queued.
    pub queue: Option<QueueTimes>,
}

/// When a queued message may go out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueTimes {
    /// From when on; at once without it.
    pub not_before: Option<SystemTime>,
    /// Until when.
    pub not_after: Option<SystemTime>,
}

/// A message that Meta accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// What Meta said.
    pub receipt: Receipt,
    /// What names the send in statuses.
    pub tag: SendTag,
    /// The number that sent it.
    pub phone_number_id: PhoneNumberId,
    /// Whether it was the template in place of the message.
    pub used_fallback: bool,
    /// Whether an earlier call with the same request id sent it.
    pub is_replayed: bool,
}

/// Why a message was not sent, or may not have been.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The number cannot send.
    #[error(transparent)]
    Number(#[from] numbers::Error),
    /// The window is closed, or the template does not allow it.
    #[error(transparent)]
    NotAdmitted(#[from] window::Refusal),
    /// The request cannot be taken up under its id.
    #[error(transparent)]
    Request(#[from] unsettled::Error),
    /// Meta refused it, could not be reached, or did not answer.
    #[error("{}", failure.message)]
    Failed {
        /// What happened.
        failure: Box<Failure>,
        /// What names the send, if it did go out.
        tag: SendTag,
        /// The id under which to ask again.
        request_id: Option<String>,
    },
    /// The deadline came before Meta's answer; the message may have gone out.
    #[error("Meta did not answer before the deadline")]
    Late {
        /// What names the send, if it did go out.
        tag: SendTag,
    },
    /// The work ended without a result; the message may have gone out.
    #[error("the send was cut off")]
    Interrupted {
        /// What names the send, if it did go out.
        tag: SendTag,
    },
}

impl SendMessage {
    /// The JSON of a message as it goes to Meta, without the tag that a send gets.
    pub fn preview(message: &OutboundMessage) -> String {
        request_json(message, None)
    }

    /// Sends one message, or the template in its place, and waits for Meta's answer; or says what became of it, if it was
    /// asked for before.
    pub async fn send(
        self: &Arc<Self>,
        caller: &Caller,
        message: OutboundMessage,
        if_closed: IfClosed,
        terms: Terms,
    ) -> Result<Sent, Error> {
        let began = Instant::now();
        let Terms { request_id, on_unknown, priority, deadline, queue: _ } = terms;
        let deadline = deadline.unwrap_or(began + TIME_MAX);
        let phone_number_id = message.phone_number_id.clone();
        let access_token = self.numbers.access_token(&phone_number_id)?;
        let request = request_id.map(|(id, fingerprint)| {
            let key = RequestKey::of(caller, RPC, &id);
            Request { key, id, fingerprint, phone_number_id: Some(phone_number_id.clone()) }
        });
        let admitted = match self.windows.admit(message, if_closed, Some(deadline)).await {
            Ok(admitted) => admitted.counted(),
            Err(refusal) => {
                return Box::pin(self.not_admitted(refusal, request, phone_number_id, deadline)).await;
            }
        };
        let tag = new_tag();
        let asked = (began, deadline, priority);
        let (departure, span) = Departure::of(admitted, &tag, caller, access_token, asked);
        let Some(request) = request else {
            let flight = self.unsettled.begin(tag, phone_number_id.clone());
            let slot = flight.slot();
            let used_fallback = departure.used_fallback;
            let work = Arc::clone(self).fly(flight, departure).instrument(span);
            let work = self.shutdown.keep(as_decided(work));
            // Who leaves hears of it by the tag alone.
            let flown =
                timeout_at(deadline, work).await.map_err(|_late| Error::Late { tag: slot.tag.clone() })?;
            flown.ok_or_else(|| Error::Interrupted { tag: slot.tag.clone() })?;
            let outcome = slot.landed(None).await?;
            let known = Known { tag: slot.tag.clone(), used_fallback, outcome };
            return result(known, phone_number_id, None, false);
        };
        let (told, hears) = oneshot::channel();
        let work = Arc::clone(self).claim(request.clone(), tag.clone(), departure, on_unknown, told);
        let work = self.shutdown.keep(as_decided(work.instrument(span)));
        let answer = pin!(async {
            let (taken, is_ours) = hears.await.map_err(|_cut_off| Error::Interrupted { tag })??;
            hear(taken, !is_ours, phone_number_id, request.id, deadline).await
        });
        work.until(answer).await
    }

    /// What was sent before the window closed, or before the template changed, stays sent.
    async fn not_admitted(
        &self,
        refusal: window::Refusal,
        request: Option<Request>,
        phone_number_id: PhoneNumberId,
        deadline: Instant,
    ) -> Result<Sent, Error> {
        let Some(request) = request else { return Err(refusal.counted().into()) };
        let taken = self.unsettled.find(&request).await?.ok_or_else(|| refusal.counted())?;
        hear(taken, true, phone_number_id, request.id, deadline).await
    }

    /// Claims the request and lets the message go. Tells at once what stands under the id, and whether that is this work.
    async fn claim(
        self: Arc<Self>,
        request: Request,
        tag: SendTag,
        departure: Box<Departure>,
        on_unknown: OnUnknown,
        told: oneshot::Sender<Result<(Taken, bool), unsettled::Error>>,
    ) {
        let resend = (on_unknown == OnUnknown::Resend)
            .then(|| Resend { message: departure.message.clone(), count: 0 });
        let claimed = self.unsettled.claim(&request, tag, departure.used_fallback, resend).await;
        if let Some(flight) = tell(claimed, told) {
            self.fly(flight, departure).await;
        }
    }

    /// The work behind a send, from the claim to the record.
    async fn fly(self: Arc<Self>, flight: Flight, departure: Box<Departure>) {
        let slot = flight.slot();
        self.traces.keep(&slot.tag);
        let noted = match &departure.fallback {
            Some(fallback) => Box::pin(self.fallbacks.note(&slot.tag, fallback)).await,
            None => Ok(()),
        };
        let outcome = match noted {
            Ok(()) => {
                let drain = self.shutdown.drain();
                let (to, turn) = ((&self.client, &departure.access_token), (&self.lanes, departure.wish));
                attempt::deliver(to, &self.number_watch, &departure.message, turn, drain, departure.began)
                    .await
            }
            Err(error) => Outcome::Refused(not_stored(&error)),
        };
        if departure.fallback.is_some() && matches!(outcome, Outcome::Refused(_)) {
            self.fallbacks.forget(&slot.tag);
        }
        if let Some(template) = &departure.template {
            template.hear(&outcome);
        }
        report(departure.kind, &slot.tag, &outcome);
        flight.land(outcome).await;
    }
}

/// Says what stands under the id of a request. The work goes on if it is its own; a caller who has hung up in the meantime does
/// not hear of it.
fn tell(
    claimed: Result<Claim, unsettled::Error>,
    told: oneshot::Sender<Result<(Taken, bool), unsettled::Error>>,
) -> Option<Flight> {
    let (standing, flight) = match claimed {
        Ok(Claim::Mine(flight)) => (Ok((Taken::Running(flight.slot()), true)), Some(flight)),
        Ok(Claim::Taken(taken)) => (Ok((taken, false)), None),
        Err(error) => (Err(error), None),
    };
    drop(told.send(standing));
    flight
}

/// A message with all that its attempts need. Boxed, it is not copied from future to future.
struct Departure {
    /// When it was asked for.
    began: Instant,
    access_token: SecretString,
    message: PreparedMessage,
    kind: &'static str,
    /// Whose turn it needs.
    wish: Wish,
    /// Whether the message is the fallback template of its request.
    used_fallback: bool,
    /// What goes out if Meta finds the window closed.
    fallback: Option<Box<OutboundMessage>>,
    /// The template of the message.
    template: Option<SentTemplate>,
}

impl Departure {
    /// Of a message that may go out, and the span of its attempts.
    fn of(
        admitted: Admitted,
        tag: &SendTag,
        caller: &Caller,
        access_token: SecretString,
        (began, deadline, priority): (Instant, Instant, Priority),
    ) -> (Box<Self>, Span) {
        let Admitted { message, used_fallback, fallback, template } = admitted;
        let kind = kind_label(&message.content.kind);
        // For traces, and for logs that ask for details: elsewhere the span would cost more than the lines that show it.
        let span = || {
            debug_span!(
                "send_message",
                caller = caller.name(),
                phone_number.id = %message.phone_number_id,
                message.kind = kind,
                send.tag = tag.as_str(),
            )
        };
        let span = if is_unseen() { Span::none() } else { span() };
        let message = prepare(&message, tag);
        let wish = Wish::of(&message, caller.clone(), priority, deadline.checked_sub(LAST_TURN));
        let departure = Self { began, access_token, message, kind, wish, used_fallback, fallback, template };
        (Box::new(departure), span)
    }
}

/// The failure of a send whose fallback cannot be noted.
fn not_stored(error: &StateError) -> Failure {
    warn!(%error, "a fallback cannot be stored; its message is not sent");
    let verdict = Verdict {
        class: Class::Unavailable,
        reason: Reason::EventStoreUnavailable,
        actor: Actor::Operator,
        retry: Retry::Backoff(STORE_RETRY_DELAY),
    };
    let message = "the gateway's store takes no writes at this moment; nothing was sent".to_owned();
    Failure { verdict, message, meta: None, field: None }
}

/// Waits for what somebody else has begun, or this call itself.
async fn hear(
    taken: Taken,
    is_replayed: bool,
    phone_number_id: PhoneNumberId,
    request_id: String,
    deadline: Instant,
) -> Result<Sent, Error> {
    let known = match taken {
        Taken::Known(known) => known,
        Taken::Running(slot) => {
            let outcome = slot.landed(Some(deadline)).await?;
            Known { tag: slot.tag.clone(), used_fallback: slot.used_fallback(), outcome }
        }
    };
    result(known, phone_number_id, Some(request_id), is_replayed)
}

/// What a caller hears.
pub(super) fn result(
    known: Known,
    phone_number_id: PhoneNumberId,
    request_id: Option<String>,
    is_replayed: bool,
) -> Result<Sent, Error> {
    let Known { tag, used_fallback, outcome } = known;
    match outcome {
        Outcome::Accepted(receipt) => Ok(Sent { receipt, tag, phone_number_id, used_fallback, is_replayed }),
        Outcome::Refused(failure) | Outcome::Expired(failure) | Outcome::Unknown(failure) => {
            Err(Error::Failed { failure: Box::new(failure), tag, request_id })
        }
        // No send that has landed is any of these.
        Outcome::Queued | Outcome::Sending | Outcome::Answered(_) => Err(Error::Interrupted { tag }),
    }
}
