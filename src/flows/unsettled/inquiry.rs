//! What is known of sends, for those who ask.

use std::time::SystemTime;

use super::Unsettled;
use crate::domain::ids::PhoneNumberId;
use crate::domain::message::{Receipt, SendTag};
use crate::flows::news::Subscription;
use crate::storage::keyed_state::StateError;
use crate::storage::projections::MessageName;
use crate::storage::sends::{Outcome, RequestKey, RequestRecord};

/// What became of a request.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::flows) struct Became {
    pub(in crate::flows) tag: SendTag,
    /// The number that sends.
    pub(in crate::flows) phone_number_id: Option<PhoneNumberId>,
    /// When it was claimed.
    pub(in crate::flows) created: SystemTime,
    /// Whether it was queued then.
    pub(in crate::flows) is_queued: bool,
    pub(in crate::flows) outcome: Outcome,
    /// When the outcome was found.
    pub(in crate::flows) since: SystemTime,
}

impl Unsettled {
    /// From now on, tells what is new of a request.
    pub(in crate::flows) fn listen(&self, key: RequestKey) -> Subscription<RequestKey> {
        self.inner.news.subscribe(key)
    }

    /// What became of a request; nothing if none stands under its id, or if it was cut off before anything was sent.
    pub(in crate::flows) async fn what_became_of(
        &self,
        key: &RequestKey,
    ) -> Result<Option<Became>, StateError> {
        let mut seen = None;
        loop {
            let Some(stored) = self.inner.store.request(key).await? else { return Ok(None) };
            let RequestRecord { tag, phone_number_id, created, not_after, outcome, since, .. } =
                stored.record;
            let is_queued = not_after.is_some();
            let (outcome, since) = match self.inner.slot(&tag) {
                Some(slot) => slot.said(),
                // Its slot went after the store was read, or it never had one.
                None if outcome == Outcome::Sending && seen != Some(stored.revision) => {
                    seen = Some(stored.revision);
                    continue;
                }
                None if outcome == Outcome::Sending => return Ok(None),
                None => (outcome, since),
            };
            return Ok(Some(Became { tag, phone_number_id, created, is_queued, outcome, since }));
        }
    }

    /// The send of a message that Meta has taken lately.
    pub(in crate::flows) fn lately_accepted(&self, name: &MessageName) -> Option<(SendTag, Receipt)> {
        self.inner.recent().get(name)
    }
}
