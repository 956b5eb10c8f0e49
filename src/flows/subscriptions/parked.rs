//! Parked events: looking at them, delivering them again, dropping them.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::domain::caller::Caller;
use crate::domain::rights::Rights;
use crate::storage::event_log::StoredEvent;
use crate::storage::events;
use crate::storage::subscriptions::ParkedHead;

use super::active::Active;
use super::{Error, Subscriptions};

/// Bytes of events on one page; one larger event comes alone.
const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// Which parked events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chosen {
    /// All of them.
    All,
    /// Those with these ids; others are passed over.
    Events(Vec<[u8; 16]>),
}

/// A parked event, as it is shown.
#[derive(Debug, Clone)]
pub struct Shown {
    /// What is known of its parking.
    pub head: ParkedHead,
    /// The event, encoded, with its cursor.
    pub event: Bytes,
}

/// Some of the parked events.
#[derive(Debug)]
pub struct ParkedPage {
    /// In the order of the log.
    pub events: Vec<Shown>,
    /// The position after which the next page begins; `None` at the end.
    pub next: Option<u64>,
}

impl Subscriptions {
    /// A page of parked events that the caller may see, of those after a position.
    pub async fn parked(
        &self,
        caller: &Caller,
        rights: &Rights,
        name: &str,
        (after, limit): (u64, usize),
    ) -> Result<ParkedPage, Error> {
        let active = self.find(caller, name)?;
        let filter = rights.narrow(active.settings().filter)?;
        active.advance();
        let pending = Arc::clone(&active);
        self.kept(async move { Ok(pending.persist().await?) }).await?;
        let heads: Vec<_> = active
            .heads()
            .range((Bound::Excluded(after), Bound::Unbounded))
            .map(|(_, head)| head.clone())
            .collect();
        let (mut page, mut bytes) = (ParkedPage { events: Vec::new(), next: None }, 0);
        let mut last = after;
        for head in heads {
            let size = usize::try_from(head.candidate.bytes).unwrap_or(usize::MAX);
            let is_full = page.events.len() >= limit || bytes + size > PAGE_BYTES_MAX;
            if is_full && !page.events.is_empty() {
                page.next = Some(last);
                break;
            }
            last = head.candidate.seq;
            let body = active.store.body(active.id, last).await?;
            if let Some(event) = body.filter(|event| filter.matches(&events::attributes(event))) {
                bytes += size;
                page.events.push(active.shown(head, &event));
            }
        }
        Ok(page)
    }

    /// Lets parked events be delivered again; how many.
    pub async fn replay(&self, caller: &Caller, name: &str, chosen: Chosen) -> Result<u32, Error> {
        let active = self.find(caller, name)?;
        self.kept(async move { active.replay(&chosen).await }).await
    }

    /// Drops parked events; how many.
    pub async fn drop_parked(&self, caller: &Caller, name: &str, chosen: Chosen) -> Result<u32, Error> {
        let active = self.find(caller, name)?;
        self.kept(async move { active.drop_parked(&chosen).await }).await
    }
}

impl Active {
    fn shown(&self, head: ParkedHead, event: &StoredEvent) -> Shown {
        let event = events::encoded(event, &self.cursor_of(event).encode());
        Shown { head, event }
    }

    async fn replay(&self, chosen: &Chosen) -> Result<u32, Error> {
        let mut written = self.writing.lock().await;
        self.persist_by(&mut written).await?;
        if self.deleted.is_cancelled() {
            return Err(Error::NotFound(self.name.clone()));
        }
        let mut again = self.chosen(chosen);
        again.retain(|head| !head.is_replaying);
        for head in &mut again {
            head.is_replaying = true;
        }
        self.store.put_heads(self.id, &again).await?;
        {
            let (mut machine, mut heads) = (self.machine(), self.heads());
            for head in &again {
                // One that was dropped meanwhile stays dropped.
                if let Some(known) = heads.get_mut(&head.candidate.seq) {
                    known.is_replaying = true;
                    machine.replay(head.candidate);
                }
            }
        }
        self.tell();
        Ok(u32::try_from(again.len()).unwrap_or(u32::MAX))
    }

    async fn drop_parked(&self, chosen: &Chosen) -> Result<u32, Error> {
        let mut written = self.writing.lock().await;
        self.persist_by(&mut written).await?;
        if self.deleted.is_cancelled() {
            return Err(Error::NotFound(self.name.clone()));
        }
        let seqs: Vec<u64> = self.chosen(chosen).iter().map(|head| head.candidate.seq).collect();
        self.store.unpark(self.id, &seqs).await?;
        let mut dropped = 0;
        {
            let (mut machine, mut heads) = (self.machine(), self.heads());
            for seq in seqs {
                if heads.remove(&seq).is_some() {
                    dropped += 1;
                    machine.drop_parked(seq);
                }
            }
        }
        self.tell();
        Ok(dropped)
    }

    fn chosen(&self, chosen: &Chosen) -> Vec<ParkedHead> {
        let heads = self.heads();
        let is_chosen = |head: &&ParkedHead| match chosen {
            Chosen::All => true,
            Chosen::Events(ids) => ids.contains(&head.event_id),
        };
        heads.values().filter(is_chosen).cloned().collect()
    }
}
