//! log → the workers of named subscriptions: who gets which event, what became of it, and how far each subscription has come.
//!
//! The machine of `domain::subscription` decides; this flow feeds it from the log, stores what must survive, and carries
//! events to the streams. A subscription is one entry of progress, written by compare-and-set, and whoever needs it durable
//! waits for the write that contains its change: all that came while one was under way go with the next.

mod active;
mod error;
mod feed;
mod parked;
mod settings;
mod storing;
#[cfg(test)]
mod tests;
mod upkeep;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use metrics::counter;
use tracing::{Instrument, info, info_span};
use uuid::Uuid;

use crate::clock::SharedClock;
use crate::domain::caller::Caller;
use crate::domain::filter::EventFilter;
use crate::domain::rights::Rights;
use crate::domain::subscription::{AckId, Mode, Outcome, Terms, Wish};
use crate::lifecycle::Shutdown;
use crate::storage::event_log::EventLog;
use crate::storage::keyed_state::{KeyedState, StateError};
use crate::storage::leadership::Leadership;
use crate::storage::subscriptions::{Settings, SubscriptionId, SubscriptionStore};
use crate::telemetry::names;
use crate::tenants::Tenants;

use super::deliver_events::{DeliverEvents, EventStream, OnExpired, OnStuck, Start, View, resolve};
use active::Active;

pub use active::AckRefusal;
pub use error::Error;
pub use parked::{Chosen, ParkedPage, Shown};

/// Subscriptions in all, and of one caller.
const SUBSCRIPTIONS_MAX: usize = 1_000;
const SUBSCRIPTIONS_PER_CALLER_MAX: usize = 100;

/// A subscription and how far it has come.
#[derive(Debug, Clone)]
pub struct Status {
    /// Its settings.
    pub settings: Settings,
    /// Changes with them.
    pub etag: String,
    /// Everything up to here is done or parked.
    pub floor_cursor: String,
    /// Events that are not done.
    pub backlog: u64,
    /// When the oldest of them was stored, as far as one is known.
    pub oldest_unacked: Option<SystemTime>,
    /// Events in the hands of workers.
    pub outstanding: u64,
    /// Parked events.
    pub parked: u64,
    /// Events that retention removed before they were done.
    pub missed: u64,
    /// Open streams.
    pub workers: usize,
}

/// A subscription to make.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Its name.
    pub name: String,
    /// Which events.
    pub filter: EventFilter,
    /// How they are delivered.
    pub terms: Terms,
    /// From where on.
    pub start: Start,
}

/// What is to change of a subscription; `None` stays.
#[derive(Debug, Clone)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// Must be the filter that it has.
    pub filter: Option<EventFilter>,
    /// Must be the mode that it has.
    pub mode: Option<Mode>,
    /// How long a worker has for an event.
    pub ack_deadline: Option<Duration>,
    /// The first delay.
    pub retry_delay_min: Option<Duration>,
    /// The longest delay.
    pub retry_delay_max: Option<Duration>,
    /// Deliveries before it is parked.
    pub attempts_max: Option<u32>,
    /// The settings that the caller has seen; empty means any.
    pub etag: String,
}

/// What a worker asks for.
#[derive(Debug, Clone)]
pub struct Work {
    /// The subscription.
    pub name: String,
    /// What events carry.
    pub view: View,
    /// Silence after which a heartbeat is sent.
    pub heartbeat_interval: Duration,
    /// What to do when retention has passed what is not done.
    pub on_expired: OnExpired,
    /// Events in a frame.
    pub batch_events_max: usize,
    /// Whether to end when there is nothing to do.
    pub stop_when_caught_up: bool,
    /// Its name, and how much it takes.
    pub wish: Wish,
}

/// All subscriptions. Clones are the same ones.
#[derive(Debug, Clone)]
pub struct Subscriptions {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    log: Arc<dyn EventLog>,
    store: SubscriptionStore,
    leadership: Leadership,
    streams: DeliverEvents,
    tenants: Tenants,
    clock: SharedClock,
    shutdown: Shutdown,
    /// By owner and name.
    active: Mutex<BTreeMap<(String, String), Arc<Active>>>,
    /// One creation or deletion at a time.
    changing: tokio::sync::Mutex<()>,
}

impl Subscriptions {
    /// Over this log and state, beside these streams.
    pub fn new(
        (log, state): (Arc<dyn EventLog>, Arc<dyn KeyedState>),
        leadership: Leadership,
        streams: DeliverEvents,
        tenants: Tenants,
        clock: SharedClock,
        shutdown: Shutdown,
    ) -> Self {
        let (store, active) = (SubscriptionStore::new(state), Mutex::default());
        let changing = tokio::sync::Mutex::default();
        let inner = Inner { log, store, leadership, streams, tenants, clock, shutdown, active, changing };
        Self { inner: Arc::new(inner) }
    }

    /// Takes up what an earlier process has left. Call it before anything else.
    pub async fn resume(&self) -> Result<(), StateError> {
        for (settings, revision) in self.inner.store.all().await? {
            let key = (settings.owner.clone(), settings.name.clone());
            let active = Active::load(&self.inner, settings, revision).await?;
            active.set_rights(self.rights(&key.0).as_deref());
            self.active().insert(key, Arc::new(active));
        }
        let count = self.active().len();
        if count > 0 {
            info!(subscriptions = count, "subscriptions go on");
        }
        Ok(())
    }

    /// Makes a subscription.
    pub async fn create(&self, caller: &Caller, rights: &Rights, draft: Draft) -> Result<Status, Error> {
        let filter = rights.narrow(draft.filter.clone())?;
        let start = resolve(self.inner.log.as_ref(), &draft.start, OnExpired::Fail).await?;
        let settings = Settings {
            owner: caller.name().to_owned(),
            name: draft.name,
            id: random(),
            filter: draft.filter,
            terms: draft.terms,
            create_ms: self.inner.clock.now_ms(),
        };
        let (this, through) = (self.clone(), start.position.seq);
        let active = self.kept(async move { this.insert(settings, through).await }).await?;
        active.set_filter(Some(filter));
        info!(subscription = active.name, "subscription created");
        Ok(active.status().await?)
    }

    async fn insert(&self, settings: Settings, through: u64) -> Result<Arc<Active>, Error> {
        let _one = self.inner.changing.lock().await;
        let key = (settings.owner.clone(), settings.name.clone());
        {
            let active = self.active();
            let own = active.keys().filter(|(owner, _)| *owner == settings.owner).count();
            if active.contains_key(&key) {
                return Err(Error::Exists(settings.name));
            }
            if own >= SUBSCRIPTIONS_PER_CALLER_MAX {
                return Err(Error::TooMany { count: own, of: "of this caller" });
            }
            if active.len() >= SUBSCRIPTIONS_MAX {
                return Err(Error::TooMany { count: active.len(), of: "of all callers" });
            }
        }
        let active = Arc::new(Active::create(&self.inner, settings, through).await?);
        self.active().insert(key, Arc::clone(&active));
        Ok(active)
    }

    /// Tells of one.
    pub async fn get(&self, caller: &Caller, name: &str) -> Result<Status, Error> {
        Ok(self.find(caller, name)?.status().await?)
    }

    /// Tells of those whose names come after this one, and whether there are more.
    pub async fn list(
        &self,
        caller: &Caller,
        after: &str,
        limit: usize,
    ) -> Result<(Vec<Status>, bool), Error> {
        let mut some: Vec<Arc<Active>> = {
            let active = self.active();
            let own = active.iter().filter(|((owner, name), _)| owner == caller.name() && **name > *after);
            own.map(|(_, active)| Arc::clone(active)).take(limit + 1).collect()
        };
        let has_more = some.len() > limit;
        some.truncate(limit);
        let mut told = Vec::with_capacity(some.len());
        for active in some {
            told.push(active.status().await?);
        }
        Ok((told, has_more))
    }

    /// Changes what may change.
    pub async fn update(&self, caller: &Caller, rights: &Rights, change: Change) -> Result<Status, Error> {
        if let Some(filter) = &change.filter {
            rights.narrow(filter.clone())?;
        }
        let active = self.find(caller, &change.name)?;
        let changed = Arc::clone(&active);
        self.kept(async move { changed.change(&change).await }).await?;
        Ok(active.status().await?)
    }

    /// Removes one with all that belongs to it.
    pub async fn delete(&self, caller: &Caller, name: &str) -> Result<(), Error> {
        let (this, active) = (self.clone(), self.find(caller, name)?);
        self.kept(async move {
            let _one = this.inner.changing.lock().await;
            active.delete().await?;
            this.active().remove(&(active.owner.clone(), active.name.clone()));
            Ok(())
        })
        .await?;
        info!(subscription = name, "subscription deleted");
        Ok(())
    }

    /// Lets one go on somewhere else.
    pub async fn seek(&self, caller: &Caller, name: &str, to: &Start) -> Result<Status, Error> {
        let active = self.find(caller, name)?;
        let to = resolve(self.inner.log.as_ref(), to, OnExpired::Fail).await?;
        let sought = Arc::clone(&active);
        self.kept(async move { Ok(sought.seek(to.position.seq).await?) }).await?;
        Ok(active.status().await?)
    }

    /// Hears what became of events; when it returns, that is durable. Returns what counts for nothing.
    pub async fn acknowledge(
        &self,
        caller: &Caller,
        name: &str,
        outcomes: Vec<(String, Outcome)>,
    ) -> Result<Vec<(String, AckRefusal)>, Error> {
        let active = self.find(caller, name)?;
        let failures = active.settle(outcomes);
        self.kept(async move { Ok(active.persist().await?) }).await?;
        Ok(failures)
    }

    /// Opens the stream of a worker. `on_stuck` is as in [`DeliverEvents::open`].
    pub async fn open(
        &self,
        caller: &Caller,
        rights: &Rights,
        work: Work,
        on_stuck: OnStuck,
    ) -> Result<EventStream, Error> {
        let active = self.find(caller, &work.name)?;
        let filter = rights.narrow(active.settings().filter)?;
        let place = self.inner.streams.place()?;
        active.check_start(work.on_expired).await?;
        active.set_filter(Some(filter));
        let stream_id = Uuid::now_v7().simple().to_string();
        let span = info_span!(
            "subscription_stream",
            stream.id = stream_id,
            caller = caller.name(),
            subscription = work.name,
            client.id = work.wish.client_id
        );
        let (stream, outlet) = self.inner.streams.outlet(place, on_stuck);
        let feed = feed::Feed::new(&self.inner, active, work, outlet);
        drop(self.inner.shutdown.spawn_request(feed.run(stream_id).instrument(span)));
        Ok(stream)
    }

    /// Work that goes on when the caller leaves.
    async fn kept<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        // Without an answer it has panicked, which is logged.
        self.inner.shutdown.keep(work).await.unwrap_or(Err(Error::State(StateError::Busy)))
    }

    fn find(&self, caller: &Caller, name: &str) -> Result<Arc<Active>, Error> {
        let key = (caller.name().to_owned(), name.to_owned());
        self.active().get(&key).cloned().ok_or(Error::NotFound(key.1))
    }

    /// Never held over an await.
    fn active(&self) -> MutexGuard<'_, BTreeMap<(String, String), Arc<Active>>> {
        self.inner.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that no other call gets.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // The end of such an id is random.
    bytes.iter_mut().zip(Uuid::now_v7().into_bytes().into_iter().rev()).for_each(|(to, from)| *to = from);
    bytes
}

/// Counts what workers said.
fn count_outcome(outcome: &'static str) {
    counter!(names::SUBSCRIPTION_OUTCOMES, names::OUTCOME => outcome).increment(1);
}

/// Whether a text is an id of this subscription, and of this process.
fn lease_of(text: &str, subscription: SubscriptionId, incarnation: [u8; 4]) -> Result<u64, AckRefusal> {
    let id = AckId::decode(text).ok_or(AckRefusal::Unknown)?;
    if id.subscription != subscription {
        return Err(AckRefusal::NotOwner);
    }
    if id.incarnation == incarnation { Ok(id.lease) } else { Err(AckRefusal::Expired) }
}
