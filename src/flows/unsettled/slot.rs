//! One call: how it stands, and who waits for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::{Error, in_doubt_outcome};
use crate::domain::ids::PhoneNumberId;
use crate::domain::message::{Receipt, SendTag};
use crate::storage::sends::{Outcome, RequestKey, RequestRecord, Stored};

/// How often a send goes out again at most.
const RESENDS_MAX: u32 = 3;

/// One call.
#[derive(Debug)]
pub(in crate::flows) struct Slot {
    /// Names its attempt.
    pub(in crate::flows) tag: SendTag,
    /// The number that sends; `None` for a call that is no send.
    pub(super) phone_number_id: Option<PhoneNumberId>,
    /// The request that it belongs to, if it has an id.
    pub(super) held: Option<Held>,
    standing: watch::Sender<Standing>,
    /// Revision and outcome as the store has them; nothing before the claim.
    pub(super) written: tokio::sync::Mutex<Option<(u64, Outcome)>>,
    /// How often it was sent again, if it may be. The message is in the store.
    pub(super) resends: Mutex<Option<u32>>,
    /// Whether it is counted among those without a slot.
    pub(super) is_parked: AtomicBool,
    /// Whether what becomes of it must be reported before it may be forgotten.
    owes_report: AtomicBool,
}

/// A claimed request.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) key: RequestKey,
    pub(super) fingerprint: [u8; 32],
    pub(super) created: SystemTime,
    pub(super) used_fallback: bool,
    /// Whether a row of `pending` says that it is in doubt after a crash.
    pub(super) is_pending: bool,
    /// Until when it may be sent, if it was queued.
    pub(super) not_after: Option<SystemTime>,
}

impl Held {
    /// Under which time it is counted when it has no slot: from then on it is kept as long as any.
    pub(super) fn counted_at(&self) -> SystemTime {
        self.not_after.map_or(self.created, |not_after| not_after.max(self.created))
    }
}

/// How a call stands.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    is_flying: bool,
    outcome: Outcome,
    /// What a status said while the call was flying.
    proof: Option<Receipt>,
    /// When the last attempt began or ended.
    since: SystemTime,
    /// When the outcome was found.
    found: SystemTime,
}

impl Standing {
    pub(super) fn flying(since: SystemTime) -> Self {
        Self { is_flying: true, outcome: Outcome::Sending, proof: None, since, found: since }
    }

    pub(super) fn landed(outcome: Outcome, found: SystemTime, since: SystemTime) -> Self {
        Self { is_flying: false, outcome, proof: None, since, found }
    }

    fn is_unknown(&self) -> bool {
        matches!(self.outcome, Outcome::Unknown(_)) && !self.is_flying
    }

    /// What is known after an attempt ended so.
    fn after(&self, landed: Outcome) -> Outcome {
        match (landed, &self.proof, &self.outcome) {
            (landed @ (Outcome::Accepted(_) | Outcome::Answered(_)), _, _) => landed,
            (_, Some(proof), _) => Outcome::Accepted(proof.clone()),
            // The end of a later attempt says nothing of an earlier one.
            (_, None, earlier @ Outcome::Unknown(_)) => earlier.clone(),
            (landed, None, _) => landed,
        }
    }
}

impl Slot {
    pub(super) fn new(
        tag: SendTag,
        phone_number_id: Option<PhoneNumberId>,
        held: Option<Held>,
        standing: Standing,
    ) -> Self {
        let (standing, written) = (watch::Sender::new(standing), tokio::sync::Mutex::new(None));
        let (resends, is_parked) = (Mutex::new(None), AtomicBool::new(false));
        let owes_report = AtomicBool::new(false);
        Self { tag, phone_number_id, held, standing, written, resends, is_parked, owes_report }
    }

    /// As one of a queued send: it is forgotten after it was reported.
    pub(super) fn owing_report(self) -> Self {
        Self { owes_report: AtomicBool::new(true), ..self }
    }

    pub(super) fn owes_report(&self) -> bool {
        self.owes_report.load(Ordering::Acquire)
    }

    pub(super) fn is_reported(&self) {
        self.owes_report.store(false, Ordering::Release);
    }

    /// Whether the store says what the slot says.
    pub(in crate::flows) async fn is_recorded(&self) -> bool {
        let written = self.written.lock().await;
        written.as_ref().is_some_and(|(_, stored)| *stored == self.durable().0)
    }

    /// It certainly did not go out and waits again; false if a status proves otherwise.
    pub(super) fn withdraw(&self, now: SystemTime) -> bool {
        let mut is_withdrawn = true;
        self.standing.send_modify(|standing| {
            is_withdrawn = standing.proof.is_none();
            if is_withdrawn {
                (standing.outcome, standing.found) = (Outcome::Queued, now);
            }
        });
        is_withdrawn
    }

    /// That of a request as the store has it, which is in doubt.
    pub(super) fn of_stored(key: RequestKey, stored: Stored, now: SystemTime) -> Self {
        let Stored { record, revision } = stored;
        let RequestRecord {
            fingerprint,
            tag,
            created,
            phone_number_id,
            used_fallback,
            not_after,
            outcome,
            since,
        } = record;
        let held = Held { key, fingerprint, created, used_fallback, is_pending: true, not_after };
        let standing = match &outcome {
            Outcome::Unknown(failure) => Standing::landed(Outcome::Unknown(failure.clone()), since, now),
            Outcome::Queued
            | Outcome::Sending
            | Outcome::Accepted(_)
            | Outcome::Refused(_)
            | Outcome::Expired(_)
            | Outcome::Answered(_) => Standing::landed(in_doubt_outcome(), now, now),
        };
        let written = tokio::sync::Mutex::new(Some((revision, outcome)));
        Self { written, ..Self::new(tag, phone_number_id, Some(held), standing) }
    }

    /// As [`Slot::of_stored`], for one that is counted among those without a slot.
    pub(super) fn parked(key: RequestKey, stored: Stored) -> Self {
        let since = stored.record.since;
        Self { is_parked: AtomicBool::new(true), ..Self::of_stored(key, stored, since) }
    }

    /// It may be sent again, and was so often.
    pub(super) fn with_resends(self, count: Option<u32>) -> Self {
        Self { resends: Mutex::new(count), ..self }
    }

    /// What the store is to say of it.
    pub(super) fn record(&self, held: &Held, outcome: Outcome) -> RequestRecord {
        RequestRecord {
            fingerprint: held.fingerprint,
            tag: self.tag.clone(),
            created: held.created,
            phone_number_id: self.phone_number_id.clone(),
            used_fallback: held.used_fallback,
            not_after: held.not_after,
            outcome,
            since: self.standing.borrow().found,
        }
    }

    /// Whether it sends the fallback template of its request.
    pub(in crate::flows) fn used_fallback(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.used_fallback)
    }

    /// The outcome as far as it is known; nothing while the call is running.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        let standing = self.standing.borrow();
        (!standing.is_flying).then(|| standing.outcome.clone())
    }

    /// What the store should say, and whether the call is running.
    pub(in crate::flows) fn durable(&self) -> (Outcome, bool) {
        let standing = self.standing.borrow();
        let proven = standing.proof.as_ref().filter(|_| !standing.outcome.is_settled());
        let outcome = proven.map_or_else(|| standing.outcome.clone(), |p| Outcome::Accepted(p.clone()));
        (outcome, standing.is_flying)
    }

    /// What is known of it now, and since when.
    pub(super) fn said(&self) -> (Outcome, SystemTime) {
        (self.durable().0, self.standing.borrow().found)
    }

    pub(super) fn is_unknown(&self) -> bool {
        self.standing.borrow().is_unknown()
    }

    pub(super) fn may_resend(&self) -> bool {
        self.resends.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|count| count < RESENDS_MAX)
    }

    /// Waits until the call has ended.
    pub(in crate::flows) async fn landed(&self, deadline: Option<Instant>) -> Result<Outcome, Error> {
        let mut standing = self.standing.subscribe();
        let landed = standing.wait_for(|standing| !standing.is_flying);
        let Some(deadline) = deadline else {
            return landed.await.map(|standing| standing.outcome.clone()).map_err(|_| Error::InProgress);
        };
        match timeout_at(deadline, landed).await {
            // The sender is this slot itself.
            Ok(landed) => landed.map(|standing| standing.outcome.clone()).map_err(|_| Error::InProgress),
            // A status may have said it before the answer.
            Err(_) => self.durable().0.accepted().ok_or(Error::InProgress),
        }
    }

    /// A status proves that Meta accepted the message.
    pub(super) fn prove(&self, receipt: Receipt) {
        self.standing.send_if_modified(|standing| {
            if standing.proof.is_some() || matches!(standing.outcome, Outcome::Accepted(_)) {
                return false;
            }
            if !standing.is_flying {
                standing.outcome = Outcome::Accepted(receipt.clone());
            }
            standing.proof = Some(receipt);
            true
        });
    }

    /// Starts another attempt if nothing was heard for that long.
    pub(super) fn take_off_again(&self, now: SystemTime, silence: Duration) -> bool {
        self.standing.send_if_modified(|standing| {
            let is_due = standing.is_unknown() && now >= standing.since + silence;
            standing.is_flying |= is_due;
            is_due
        })
    }

    pub(super) fn land(&self, outcome: Outcome, now: SystemTime) {
        self.standing.send_modify(|standing| {
            let outcome = standing.after(outcome);
            if standing.outcome != outcome {
                (standing.outcome, standing.found) = (outcome, now);
            }
            standing.is_flying = false;
            standing.since = now;
        });
    }

    pub(super) fn is_proven(&self) -> bool {
        self.standing.borrow().proof.is_some()
    }
}
