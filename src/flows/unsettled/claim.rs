//! Taking up a request under its id: once, whoever asks how often.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use super::flight::Flight;
use super::slot::{Held, Slot, Standing};
use super::{
    Claim, Error, IfLost, Known, RESENDS_WAITING_MAX, Request, Taken, Unsettled, in_doubt_outcome,
    undone_outcome,
};
use crate::domain::message::SendTag;
use crate::storage::keyed_state::Precondition;
use crate::storage::sends::{Claimed, Outcome, PendingSend, RequestRecord, Resend, Stored};

/// How often a claim is tried: it is only lost again when somebody else moved on in between.
pub(super) const CLAIMS_MAX: usize = 8;

/// What a call has to say of its work before it can claim it.
struct Errand {
    tag: SendTag,
    used_fallback: bool,
    resend: Option<Resend>,
    if_lost: IfLost,
}

impl Unsettled {
    /// Claims a request for an attempt with this tag, or says what stands under its id. `resend` is what to send again, if
    /// it may be. Must run to its end: what it has claimed is in doubt otherwise.
    pub(in crate::flows) async fn claim(
        &self,
        request: &Request,
        tag: SendTag,
        used_fallback: bool,
        resend: Option<Resend>,
    ) -> Result<Claim, Error> {
        if resend.is_some() && self.has_too_many_resends() {
            return self.find(request).await?.map(Claim::Taken).ok_or(Error::TooManyInDoubt);
        }
        let errand = Errand { tag, used_fallback, resend, if_lost: IfLost::InDoubt };
        self.take_up(request, errand, |_, _| false).await
    }

    /// Whether no more sends may be in doubt that are to go out again.
    pub(super) fn has_too_many_resends(&self) -> bool {
        self.inner.resends.load(Ordering::Relaxed) >= RESENDS_WAITING_MAX
    }

    /// As [`Unsettled::claim`], for a call that is no send. An answer that is of no use any more, by its bytes and the time
    /// of its claim, counts as none.
    pub(in crate::flows) async fn claim_call(
        &self,
        request: &Request,
        tag: SendTag,
        if_lost: IfLost,
        is_stale: impl Fn(&[u8], SystemTime) -> bool,
    ) -> Result<Claim, Error> {
        let errand = Errand { tag, used_fallback: false, resend: None, if_lost };
        self.take_up(request, errand, is_stale).await
    }

    async fn take_up(
        &self,
        request: &Request,
        errand: Errand,
        is_stale: impl Fn(&[u8], SystemTime) -> bool,
    ) -> Result<Claim, Error> {
        // Before the claim can be seen, so that whoever sees it finds the slot.
        let (mut flight, record, pending) = self.take_off_as(request, errand);
        let mut precondition = Precondition::Absent;
        for _ in 0..CLAIMS_MAX {
            let claimed = self.inner.store.claim(&request.key, &record, pending.as_ref(), precondition).await;
            precondition = match claimed.map_err(Error::Store)? {
                Claimed::Won(revision) => {
                    flight.claimed(revision, pending.is_some().then_some(in_doubt_outcome)).await;
                    flight.tell();
                    return Ok(Claim::Mine(flight));
                }
                Claimed::Lost(None) => Precondition::Absent,
                Claimed::Lost(Some(stored)) if stored.record.fingerprint != request.fingerprint => {
                    return Err(Error::Reused);
                }
                Claimed::Lost(Some(stored)) => match self.standing_of(&stored) {
                    Some(Taken::Known(Known { outcome: Outcome::Answered(answer), .. }))
                        if is_stale(&answer, stored.record.created) =>
                    {
                        Precondition::Revision(stored.revision)
                    }
                    Some(taken) => return Ok(Claim::Taken(taken)),
                    None => Precondition::Revision(stored.revision),
                },
            };
        }
        Err(Error::InProgress)
    }

    /// The flight of a claim, and what the claim writes.
    fn take_off_as(&self, request: &Request, errand: Errand) -> (Flight, RequestRecord, Option<PendingSend>) {
        let (key, fingerprint, created) = (request.key, request.fingerprint, self.inner.clock.now());
        let Errand { tag, used_fallback, resend, if_lost } = errand;
        let is_pending = if_lost == IfLost::InDoubt;
        let held = Held { key, fingerprint, created, used_fallback, is_pending, not_after: None };
        let standing = Standing::flying(created);
        let slot = Slot::new(tag, request.phone_number_id.clone(), Some(held.clone()), standing);
        let record = slot.record(&held, Outcome::Sending);
        let slot = slot.with_resends(resend.as_ref().map(|resend| resend.count));
        let pending = PendingSend { request: key, created, not_after: None, resend, queued: None };
        (self.take_off(slot, undone_outcome), record, is_pending.then_some(pending))
    }

    /// The right to look again what became of a request that is in doubt, or what stands under its id if somebody else looks
    /// or it is not in doubt any more; nothing if it was never claimed.
    pub(in crate::flows) async fn reopen(&self, request: &Request) -> Result<Option<Claim>, Error> {
        let Some(stored) = self.inner.store.request(&request.key).await.map_err(Error::Store)? else {
            return Ok(None);
        };
        let slot = {
            let mut slots = self.inner.slots();
            match slots.get(&stored.record.tag) {
                Some(slot) => Some(Arc::clone(slot)),
                None if matches!(stored.record.outcome, Outcome::Unknown(_)) => {
                    let slot = Arc::new(Slot::parked(request.key, stored.clone()));
                    slots.insert(slot.tag.clone(), Arc::clone(&slot));
                    Some(slot)
                }
                None => None,
            }
        };
        let Some(slot) = slot else { return Ok(self.standing_of(&stored).map(Claim::Taken)) };
        if slot.take_off_again(self.inner.clock.now(), Duration::ZERO) {
            return Ok(Some(Claim::Mine(Flight::new(self.clone(), slot, in_doubt_outcome))));
        }
        // What was read of the store may be older than the slot.
        Ok(Some(Claim::Taken(match slot.outcome() {
            None => Taken::Running(slot),
            Some(outcome) => {
                let (tag, used_fallback) = (slot.tag.clone(), slot.used_fallback());
                Taken::Known(Known { tag, used_fallback, outcome })
            }
        })))
    }

    /// What stands under the id of a request, without claiming it.
    pub(in crate::flows) async fn find(&self, request: &Request) -> Result<Option<Taken>, Error> {
        match self.inner.store.request(&request.key).await.map_err(Error::Store)? {
            Some(stored) if stored.record.fingerprint != request.fingerprint => Err(Error::Reused),
            stored => Ok(stored.and_then(|stored| self.standing_of(&stored))),
        }
    }

    /// What is known of a request that somebody else claimed; nothing if it may be claimed again.
    pub(super) fn standing_of(&self, stored: &Stored) -> Option<Taken> {
        let tag = stored.record.tag.clone();
        let outcome = match self.inner.slot(&tag) {
            Some(slot) => match slot.outcome() {
                None => return Some(Taken::Running(slot)),
                Some(outcome) => outcome,
            },
            None => stored.record.outcome.clone(),
        };
        // A queued send was answered already, and has one end.
        let is_queued = stored.record.not_after.is_some();
        match outcome {
            Outcome::Sending => None,
            Outcome::Refused(_) if !is_queued => None,
            known @ (Outcome::Queued
            | Outcome::Accepted(_)
            | Outcome::Refused(_)
            | Outcome::Expired(_)
            | Outcome::Unknown(_)
            | Outcome::Answered(_)) => {
                let used_fallback = stored.record.used_fallback;
                Some(Taken::Known(Known { tag, used_fallback, outcome: known }))
            }
        }
    }
}
