//! Which trace a send belongs to, for whatever is heard of it later, by another process too.
//!
//! Only sends whose traces are exported are kept, and their tags say so ([`SendTag::is_traced`]): so neither another send nor
//! its statuses cost anything. Meta gets no trace id, as the tag stands for it. Contexts are written some moments later, those
//! of many sends in one commit, and nobody waits for that; if the process is killed before, links are missing, and nothing
//! else.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moka::sync::Cache;
use tokio::time::sleep;
use tracing::{Span, warn};

use crate::clock::SharedClock;
use crate::domain::message::SendTag;
use crate::lifecycle::Shutdown;
use crate::storage::send_traces;
use crate::telemetry::{Seldom, TraceContext, link};

/// Contexts in memory, about 200 bytes each: statuses come within seconds, and may come before the write is done.
const RECENT_MAX: u64 = 10_000;
/// How long contexts are gathered before they are written: less than Meta takes for the first status.
const GATHERED: Duration = Duration::from_millis(200);

/// The contexts of sends. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SendTraces {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: send_traces::SendTraces,
    recent: Cache<SendTag, TraceContext>,
    /// What is not written yet. Whoever adds the first sees to it.
    unwritten: Mutex<Vec<(SendTag, TraceContext)>>,
    clock: SharedClock,
    shutdown: Shutdown,
    lines: Seldom,
}

impl SendTraces {
    /// Over this store.
    pub fn new(store: send_traces::SendTraces, clock: SharedClock, shutdown: Shutdown) -> Self {
        let (recent, unwritten, lines) = (Cache::new(RECENT_MAX), Mutex::default(), Seldom::default());
        Self { inner: Arc::new(Inner { store, recent, unwritten, clock, shutdown, lines }) }
    }

    /// Keeps the current context as that of this send, if it is exported. Call it before Meta can know the tag.
    pub(super) fn keep(&self, tag: &SendTag) {
        if !tag.is_traced() {
            return;
        }
        let Some(trace) = TraceContext::current().filter(TraceContext::is_sampled) else { return };
        self.inner.recent.insert(tag.clone(), trace.clone());
        if self.inner.add(tag.clone(), trace) {
            let inner = Arc::clone(&self.inner);
            self.inner.shutdown.spawn_alone(async move {
                sleep(GATHERED).await;
                inner.write().await;
            });
        }
    }

    /// The contexts of these sends, in their order.
    pub(super) async fn of(&self, tags: &[SendTag]) -> Vec<Option<TraceContext>> {
        let mut found: Vec<_> = tags.iter().map(|tag| self.inner.recent.get(tag)).collect();
        if found.iter().all(Option::is_some) {
            return found;
        }
        match self.inner.store.get(tags).await {
            Ok(stored) => found.iter_mut().zip(stored).for_each(|(found, stored)| {
                *found = found.take().or(stored);
            }),
            Err(error) => {
                if let Some(reads) = self.inner.lines.count() {
                    warn!(%error, reads, "traces of sends cannot be read; their statuses do not link to them");
                }
            }
        }
        found
    }

    /// Links a span, which was not entered yet, to the send that it goes back to.
    pub(super) async fn link(&self, span: &Span, tag: &SendTag) {
        if !tag.is_traced() {
            return;
        }
        if let Some(Some(trace)) = self.of(std::slice::from_ref(tag)).await.first() {
            link(span, trace);
        }
    }
}

impl Inner {
    /// Adds what is to be written; tells whether it is the first.
    fn add(&self, tag: SendTag, trace: TraceContext) -> bool {
        let mut unwritten = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
        unwritten.push((tag, trace));
        unwritten.len() == 1
    }

    async fn write(&self) {
        let traces = std::mem::take(&mut *self.unwritten.lock().unwrap_or_else(PoisonError::into_inner));
        if let Err(error) = self.store.put(&traces, self.clock.now()).await
            && let Some(failures) = self.lines.count()
        {
            let sends = traces.len();
            warn!(%error, sends, failures, "traces of sends cannot be stored; after a restart statuses do not link to them");
        }
    }
}
