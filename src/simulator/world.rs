//! Everything the pretend Cloud API knows, behind one lock that is never held across an await, and what it
//! does on its own when a task is due.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::SystemTime;

use bytes::Bytes;

use super::account::{Account, Delays, Limits, Number};
use super::content::Room;
use super::faults::{Faults, WebhookShape};
use super::ids::Ids;
use super::limits::{HourlyCalls, Limiter};
use super::media::MediaStore;
use super::numbers::Standing;
use super::outbox::{NewPost, Outbox};
use super::requests::Requests;
use super::schedule::{Schedule, Task};
use super::templates::{Template, Templates};
use super::uploads::Uploads;
use super::users::Users;
use super::webhooks::{Batches, Update, envelope};
use super::{Clock, lock, template_api, wire};

/// Message ids of received messages that can still be marked as read.
const INBOUND_IDS_MAX: usize = 200_000;

/// The whole simulated world.
pub(super) struct World {
    pub(super) account: Account,
    pub(super) address: SocketAddr,
    pub(super) ids: Ids,
    pub(super) outbox: Outbox,
    pub(super) schedule: Schedule,
    /// For the contents of uploads.
    pub(super) room: Room,
    clock: Clock,
    webhook_url: Mutex<Option<String>>,
    state: Mutex<State>,
    initial: (Limits, Delays),
}

/// What a reset brings back to its initial state.
#[derive(Debug)]
pub(super) struct State {
    pub(super) limits: Limits,
    pub(super) delays: Delays,
    pub(super) throughput: Limiter,
    pub(super) pairs: Limiter,
    pub(super) calls: HourlyCalls,
    pub(super) template_creations: HourlyCalls,
    pub(super) users: Users,
    pub(super) inbound_ids: InboundIds,
    pub(super) media: MediaStore,
    pub(super) uploads: Uploads,
    pub(super) templates: Templates,
    pub(super) faults: Faults,
    pub(super) batches: Batches,
    pub(super) requests: Requests,
    /// By WABA: the override of the callback URL, if one was set.
    pub(super) subscriptions: BTreeMap<String, Option<String>>,
    pub(super) standing: Standing,
}

/// Ids of received messages, the oldest forgotten first.
#[derive(Debug, Default)]
pub(super) struct InboundIds {
    known: HashSet<String>,
    order: VecDeque<String>,
}

impl InboundIds {
    pub(super) fn insert(&mut self, id: &str) {
        if self.known.insert(id.to_owned()) {
            self.order.push_back(id.to_owned());
        }
        if self.order.len() > INBOUND_IDS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.known.contains(id)
    }
}

impl State {
    fn new(account: &Account, limits: Limits, delays: Delays, now: SystemTime) -> Self {
        let mut wabas: Vec<&str> = account.numbers.iter().map(|number| number.waba_id.as_str()).collect();
        wabas.dedup();
        let mut templates = Templates::default();
        let mut subscriptions = BTreeMap::new();
        for (waba_id, id) in wabas.into_iter().zip(20_000_000_000_001_u64..) {
            if subscriptions.insert(waba_id.to_owned(), None).is_none() {
                templates.all.push(Template::hello_world(id, waba_id, now));
            }
        }
        let phone_number_ids = account.numbers.iter().map(|number| number.phone_number_id.as_str());
        Self {
            limits,
            delays,
            throughput: Limiter::default(),
            pairs: Limiter::default(),
            calls: HourlyCalls::default(),
            template_creations: HourlyCalls::default(),
            users: Users::default(),
            inbound_ids: InboundIds::default(),
            uploads: Uploads::default(),
            media: MediaStore::with_ready_media(phone_number_ids),
            templates,
            faults: Faults::default(),
            batches: Batches::default(),
            requests: Requests::default(),
            subscriptions,
            standing: Standing::default(),
        }
    }
}

impl World {
    pub(super) fn new(config: super::Config, address: SocketAddr) -> Self {
        let super::Config { seed, account, webhook_url, clock, delays, limits, listen: _ } = config;
        let now = clock();
        let state = State::new(&account, limits.clone(), delays.clone(), now);
        Self {
            account,
            address,
            ids: Ids::new(seed, now),
            outbox: Outbox::new(),
            schedule: Schedule::default(),
            room: Room::default(),
            clock,
            webhook_url: Mutex::new(webhook_url),
            state: Mutex::new(state),
            initial: (limits, delays),
        }
    }

    pub(super) fn now(&self) -> SystemTime {
        (self.clock)()
    }

    /// The state, for a moment.
    pub(super) fn state(&self) -> std::sync::MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(super) fn delays(&self) -> Delays {
        self.state().delays.clone()
    }

    pub(super) fn webhook_concurrency(&self) -> usize {
        usize::try_from(self.state().limits.webhook_concurrency).unwrap_or(usize::MAX)
    }

    pub(super) fn webhook_url(&self) -> Option<String> {
        lock(&self.webhook_url).clone()
    }

    pub(super) fn set_webhook_url(&self, url: String) {
        *lock(&self.webhook_url) = Some(url);
        self.outbox.wake();
    }

    /// Where this simulator is reached when no request says how.
    pub(super) fn base_url(&self) -> String {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        format!("http://{address}")
    }

    /// Back to the beginning: all state, all tasks, all webhooks. Ids go on, so that none repeats.
    pub(super) fn reset(&self) {
        let (limits, delays) = self.initial.clone();
        let fresh = State::new(&self.account, limits, delays, self.now());
        let mut state = self.state();
        let requests = std::mem::take(&mut state.requests);
        *state = fresh;
        state.requests = requests.cleared();
        drop(state);
        self.schedule.clear();
        self.outbox.clear();
    }

    /// Sends an update as a webhook, in the shape that a fault asked for. A WABA that nobody subscribed to
    /// has no webhooks.
    pub(super) fn report(&self, update: Update, shape: WebhookShape) {
        let mut state = self.state();
        if !state.subscriptions.contains_key(&update.waba_id) {
            return;
        }
        let Some((fault, size)) = shape.batch else {
            drop(state);
            self.post(vec![update], shape.duplicates);
            return;
        };
        let (full, is_first) = state.batches.add(fault, size, update);
        let patience = state.delays.batch;
        drop(state);
        match full {
            Some(updates) => self.post(updates, shape.duplicates),
            None if is_first => self.schedule.add(patience, Task::Flush(fault)),
            None => {}
        }
    }

    /// Signs a body and enqueues it.
    fn post(&self, updates: Vec<Update>, duplicates: u32) {
        let Some(queue) = updates.first().map(|update| update.queue.clone()) else { return };
        let body = Bytes::from(wire::escape(&envelope(updates).to_string()));
        let signature = wire::sign(&self.account.app_secret, &body);
        for _ in 0..=duplicates {
            let (queue, body, signature) = (queue.clone(), body.clone(), Some(signature.clone()));
            self.outbox.push(NewPost { queue, body, signature, may_retry: true }, self.now());
        }
    }

    /// Carries out a task that is due.
    pub(super) fn perform(&self, task: Task) {
        match task {
            Task::Status(status) => {
                let now = self.now();
                let number = &status.accepted.number;
                let update = Update {
                    waba_id: number.waba_id.clone(),
                    field: "messages",
                    value: status.value(now),
                    time: None,
                    queue: status.queue(),
                };
                self.report(update, status.shape);
            }
            Task::Review(id, shape) => template_api::review::review(self, id, shape),
            Task::Pause(id, shape) => template_api::review::pause(self, id, shape),
            Task::Deleted(id, shape) => template_api::deleted(self, id, shape),
            Task::Flush(fault) => {
                let updates = self.state().batches.take(fault);
                if let Some(updates) = updates {
                    self.post(updates, 0);
                }
            }
        }
    }

    /// The number with this id, if the token may see it.
    pub(super) fn number(&self, phone_number_id: &str) -> Option<&Number> {
        self.account.number(phone_number_id)
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("World").field("address", &self.address).finish_non_exhaustive()
    }
}
