//! Queued sends: claimed long before they go out, and kept until what became of them was reported.
//!
//! While one waits it has no slot; it gets one for its flight. The store says that it is being sent before it is, so that a
//! process that is killed leaves only those in doubt that were on their way.

use std::time::SystemTime;

use super::claim::CLAIMS_MAX;
use super::slot::{Held, Slot, Standing};
use super::{Error, Flight, Known, Request, Taken, Unsettled, in_doubt_outcome};
use crate::domain::message::SendTag;
use crate::flows::lanes::Wish;
use crate::storage::keyed_state::{Precondition, StateError};
use crate::storage::sends::{Claimed, Outcome, PendingSend, QueuedSend, RequestRecord, Stored};

/// A queued send that an earlier process has left.
#[derive(Debug)]
pub struct Left {
    pub(in crate::flows) tag: SendTag,
    /// What it waits for.
    pub(in crate::flows) wish: Wish,
    /// When it was queued.
    pub(in crate::flows) created: SystemTime,
    pub(in crate::flows) not_before: Option<SystemTime>,
    pub(in crate::flows) not_after: SystemTime,
    /// Whether nothing is left to do but to report what became of it.
    pub(in crate::flows) is_over: bool,
}

impl Left {
    /// `None` for what was not queued, or is reported.
    pub(super) fn of(pending: &PendingSend, record: &RequestRecord) -> Option<Self> {
        let queued = pending.queued.as_ref()?;
        Some(Self {
            tag: record.tag.clone(),
            wish: wish_of(queued),
            created: record.created,
            not_before: queued.not_before,
            not_after: queued.not_after,
            is_over: record.outcome != Outcome::Queued,
        })
    }
}

/// What a queued message waits for: as long as it takes, because it has its own end.
pub(in crate::flows) fn wish_of(queued: &QueuedSend) -> Wish {
    Wish::of(&queued.message, queued.caller.clone(), queued.class, None)
}

impl Unsettled {
    /// Takes a request into the queue under this tag, durably; or says what stands under its id. `is_lost` says of a tag that
    /// the store calls queued whether the queue does not have it. Must run to its end.
    pub(in crate::flows) async fn enqueue(
        &self,
        request: &Request,
        tag: SendTag,
        created: SystemTime,
        queued: QueuedSend,
        is_lost: impl Fn(&SendTag) -> bool,
    ) -> Result<Option<Taken>, Error> {
        let not_after = Some(queued.not_after);
        let record = RequestRecord {
            fingerprint: request.fingerprint,
            tag,
            created,
            phone_number_id: request.phone_number_id.clone(),
            used_fallback: false,
            not_after,
            outcome: Outcome::Queued,
            since: created,
        };
        let queued = Some(Box::new(queued));
        let pending = PendingSend { request: request.key, created, not_after, resend: None, queued };
        let mut precondition = Precondition::Absent;
        for _ in 0..CLAIMS_MAX {
            let claimed = self.inner.store.claim(&request.key, &record, Some(&pending), precondition).await;
            precondition = match claimed.map_err(Error::Store)? {
                Claimed::Won(_) => {
                    self.inner.news.tell(&[request.key]);
                    return Ok(None);
                }
                Claimed::Lost(None) => Precondition::Absent,
                Claimed::Lost(Some(stored)) if stored.record.fingerprint != request.fingerprint => {
                    return Err(Error::Reused);
                }
                Claimed::Lost(Some(stored)) => match self.standing_of(&stored) {
                    Some(Taken::Known(Known { outcome: Outcome::Queued, tag, .. })) if is_lost(&tag) => {
                        Precondition::Revision(stored.revision)
                    }
                    Some(taken) => return Ok(Some(taken)),
                    None => Precondition::Revision(stored.revision),
                },
            };
        }
        Err(Error::InProgress)
    }

    /// What the store has of a send.
    pub(in crate::flows) async fn pending(
        &self,
        tag: &SendTag,
    ) -> Result<Option<(PendingSend, Stored)>, StateError> {
        let Some(pending) = self.inner.store.pending(tag).await? else { return Ok(None) };
        let stored = self.inner.store.request(&pending.request).await?;
        Ok(stored.filter(|stored| stored.record.tag == *tag).map(|stored| (pending, stored)))
    }

    /// Says, durably, that a queued send is on its way, before it is. `None` if the store has it otherwise by now. One that
    /// may go out again waits while too many of those are in doubt.
    pub(in crate::flows) async fn depart(
        &self,
        queued: &QueuedSend,
        request: &PendingSend,
        stored: Stored,
        used_fallback: bool,
    ) -> Result<Option<Flight>, Error> {
        if queued.may_resend && self.has_too_many_resends() {
            return Err(Error::TooManyInDoubt);
        }
        let RequestRecord { fingerprint, created, not_after, tag, phone_number_id, .. } = stored.record;
        let key = request.request;
        let held = Held { key, fingerprint, created, used_fallback, is_pending: true, not_after };
        let standing = Standing::flying(self.inner.clock.now());
        let slot = Slot::new(tag, phone_number_id, Some(held), standing);
        let slot = slot.with_resends(queued.may_resend.then_some(0)).owing_report();
        *slot.written.lock().await = Some((stored.revision, Outcome::Queued));
        // Before that can be seen, so that whoever sees it finds the slot.
        let flight = self.take_off(slot, in_doubt_outcome);
        let slot = flight.slot();
        let recorded = self.inner.record(&slot).await;
        if recorded.is_err() || !slot.is_recorded().await {
            flight.cancel();
            return recorded.map(|()| None).map_err(Error::Store);
        }
        flight.tell();
        Ok(Some(flight))
    }

    /// Ends a send that is still in the queue.
    pub(in crate::flows) async fn end(
        &self,
        pending: &PendingSend,
        stored: &Stored,
        outcome: Outcome,
    ) -> Result<(), StateError> {
        let record = RequestRecord { outcome, since: self.inner.clock.now(), ..stored.record.clone() };
        let settled = self.inner.store.settle(&pending.request, &record, stored.revision).await;
        self.inner.news.tell(&[pending.request]);
        match settled {
            // It stands there already, by a write whose answer was lost.
            Ok(_) | Err(StateError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What is known of a queued send that is over, and whether its fallback went out.
    pub(in crate::flows) fn known_of(&self, stored: &Stored) -> Known {
        let RequestRecord { tag, used_fallback, outcome, .. } = stored.record.clone();
        let outcome = self.inner.slot(&tag).map_or(outcome, |slot| slot.durable().0);
        Known { tag, used_fallback, outcome }
    }

    /// It was reported what became of a queued send: from now on only its proof is waited for, if it is unknown.
    pub(in crate::flows) async fn is_reported(
        &self,
        tag: &SendTag,
        pending: &PendingSend,
    ) -> Result<(), StateError> {
        let Some(slot) = self.inner.slot(tag) else { return self.inner.store.forget(tag).await };
        if !slot.durable().0.is_settled() {
            let PendingSend { request, created, not_after, ref queued, .. } = *pending;
            let resend = queued.as_ref().and_then(|queued| queued.resend(slot.used_fallback()));
            let rest = PendingSend { request, created, not_after, resend, queued: None };
            self.inner.store.note(tag, &rest).await?;
        }
        slot.is_reported();
        // Settled by now, perhaps by a status, it is forgotten.
        self.inner.record(&slot).await
    }
}
