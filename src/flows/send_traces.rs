//! Which trace a send belongs to, for whatever is heard of it later, by another process too.
//!
//! Only sends whose traces are exported are kept, and their tags say so ([`SendTag::is_traced`]): so neither another send nor
//! its statuses cost anything. Meta gets no trace id, as the tag stands for it. A context is written while the message is
//! on its way and nobody waits for that; if the process is killed in these milliseconds a link is missing, and nothing else.

use std::sync::Arc;

use moka::sync::Cache;
use tracing::{Span, warn};

use crate::clock::SharedClock;
use crate::domain::message::SendTag;
use crate::lifecycle::Shutdown;
use crate::storage::send_traces;
use crate::telemetry::{Seldom, TraceContext, link};

/// Contexts in memory, about 200 bytes each: statuses come within seconds, and may come before the write is done.
const RECENT_MAX: u64 = 10_000;

/// The contexts of sends. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SendTraces {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: send_traces::SendTraces,
    recent: Cache<SendTag, TraceContext>,
    clock: SharedClock,
    shutdown: Shutdown,
    lines: Seldom,
}

impl SendTraces {
    /// Over this store.
    pub fn new(store: send_traces::SendTraces, clock: SharedClock, shutdown: Shutdown) -> Self {
        let (recent, lines) = (Cache::new(RECENT_MAX), Seldom::default());
        Self { inner: Arc::new(Inner { store, recent, clock, shutdown, lines }) }
    }

    /// Keeps the current context as that of this send, if it is exported. Call it before Meta can know the tag.
    pub(super) fn keep(&self, tag: &SendTag) {
        if !tag.is_traced() {
            return;
        }
        let Some(trace) = TraceContext::current().filter(TraceContext::is_sampled) else { return };
        self.inner.recent.insert(tag.clone(), trace.clone());
        let (inner, tag) = (Arc::clone(&self.inner), tag.clone());
        self.inner.shutdown.spawn_alone(async move {
            if let Err(error) = inner.store.put(&tag, &trace, inner.clock.now()).await
                && let Some(sends) = inner.lines.count()
            {
                warn!(%error, sends, "traces of sends cannot be stored; after a restart statuses do not link to them");
            }
        });
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
