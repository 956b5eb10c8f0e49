//! Webhooks on their way: queues with one order each, what waits, what is in flight, and the record of what
//! became of them. A structure without I/O; [`super::delivery`] carries it out.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Mutex;
use std::time::SystemTime;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{Notify, oneshot};

use super::ring::Ring;
use super::{lock, rfc3339};

/// Webhooks waiting at once; beyond it new ones are dropped and counted.
const WAITING_MAX: usize = 1_000_000;
/// So many webhooks must wait for one more to be in flight.
const WAITING_PER_FLIGHT: usize = 32;

/// One webhook to deliver.
#[derive(Debug)]
pub(super) struct Post {
    /// Its place in the order of all webhooks, and its number in the record.
    pub(super) number: u64,
    queue: String,
    pub(super) body: Bytes,
    pub(super) signature: Option<String>,
    pub(super) may_retry: bool,
    pub(super) attempts: u32,
    first_attempt: Option<oneshot::Sender<Attempt>>,
}

/// What one attempt came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Attempt {
    pub(super) time: String,
    /// The receiver's HTTP status, if it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

impl Attempt {
    /// Only 200 will do.
    pub(super) fn is_success(&self) -> bool {
        self.status == Some(200)
    }
}

/// A webhook to enqueue.
#[derive(Debug)]
pub(super) struct NewPost {
    /// Webhooks of one queue go in order: the next waits until the last is through or given up.
    pub(super) queue: String,
    pub(super) body: Bytes,
    pub(super) signature: Option<String>,
    pub(super) may_retry: bool,
}

/// All webhooks.
#[derive(Debug)]
pub(super) struct Outbox {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug)]
struct Inner {
    queues: HashMap<String, Queue>,
    /// The first webhook of every queue that is not busy.
    ready: BTreeMap<u64, String>,
    waiting: usize,
    in_flight: usize,
    dropped: u64,
    records: Ring<Record>,
    /// Numbers below this one were cleared away.
    cleared: u64,
}

#[derive(Debug, Default)]
struct Queue {
    is_busy: bool,
    posts: VecDeque<Post>,
}

#[derive(Debug)]
struct Record {
    state: &'static str,
    attempts: u32,
    last: Option<Attempt>,
    created: SystemTime,
    body: Bytes,
}

impl Outbox {
    pub(super) fn new() -> Self {
        let inner = Inner {
            queues: HashMap::new(),
            ready: BTreeMap::new(),
            waiting: 0,
            in_flight: 0,
            dropped: 0,
            records: Ring::new(50_000, 128 * 1024 * 1024),
            cleared: 0,
        };
        Self { inner: Mutex::new(inner), changed: Notify::new() }
    }

    /// Enqueues a webhook. Returns its number and what will hold its first attempt.
    pub(super) fn push(&self, new: NewPost, now: SystemTime) -> (u64, oneshot::Receiver<Attempt>) {
        let (sender, receiver) = oneshot::channel();
        let mut inner = lock(&self.inner);
        let is_full = inner.waiting >= WAITING_MAX;
        let state = if is_full { "dropped" } else { "waiting" };
        let record = Record { state, attempts: 0, last: None, created: now, body: new.body.clone() };
        let number = inner.records.push(record, new.body.len() + 256);
        if is_full {
            inner.dropped += 1;
            return (number, receiver);
        }
        inner.waiting += 1;
        let NewPost { queue: name, body, signature, may_retry } = new;
        let post = Post {
            number,
            queue: name.clone(),
            body,
            signature,
            may_retry,
            attempts: 0,
            first_attempt: Some(sender),
        };
        let queue = inner.queues.entry(name.clone()).or_default();
        let is_first = !queue.is_busy && queue.posts.is_empty();
        queue.posts.push_back(post);
        if is_first {
            inner.ready.insert(number, name);
        }
        drop(inner);
        self.changed.notify_one();
        (number, receiver)
    }

    /// The next webhook to deliver, if another may be in flight.
    pub(super) fn take(&self, concurrency_max: usize) -> Option<Post> {
        let mut inner = lock(&self.inner);
        let allowed = (1 + inner.waiting / WAITING_PER_FLIGHT).min(concurrency_max.max(1));
        if inner.in_flight >= allowed {
            return None;
        }
        let (_, name) = inner.ready.pop_first()?;
        let queue = inner.queues.get_mut(&name)?;
        queue.is_busy = true;
        let post = queue.posts.pop_front()?;
        inner.waiting -= 1;
        inner.in_flight += 1;
        Some(post)
    }

    /// Notes an attempt. With `gives_up` nothing follows it.
    pub(super) fn attempted(&self, post: &mut Post, attempt: Attempt, gives_up: bool) {
        post.attempts += 1;
        let mut inner = lock(&self.inner);
        inner.in_flight -= 1;
        if let Some(record) = inner.records.get_mut(post.number) {
            record.attempts = post.attempts;
            record.state = match (attempt.is_success(), gives_up) {
                (true, _) => "delivered",
                (false, true) => "given_up",
                (false, false) => "waiting",
            };
            record.last = Some(attempt.clone());
        }
        drop(inner);
        if let Some(sender) = post.first_attempt.take() {
            // Nobody has to wait for it.
            drop(sender.send(attempt));
        }
        self.changed.notify_one();
    }

    /// The webhook is through or given up: its queue goes on.
    pub(super) fn finish(&self, post: &Post) {
        let mut inner = lock(&self.inner);
        if post.number < inner.cleared {
            return;
        }
        let Some(queue) = inner.queues.get_mut(&post.queue) else { return };
        queue.is_busy = false;
        if let Some(next) = queue.posts.front() {
            let number = next.number;
            inner.ready.insert(number, post.queue.clone());
        } else {
            inner.queues.remove(&post.queue);
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// Puts a webhook back in its place for another attempt.
    pub(super) fn put_back(&self, post: Post) {
        let mut inner = lock(&self.inner);
        if post.number < inner.cleared {
            return;
        }
        let (number, name) = (post.number, post.queue.clone());
        let Some(queue) = inner.queues.get_mut(&name) else { return };
        queue.is_busy = false;
        queue.posts.push_front(post);
        inner.waiting += 1;
        inner.ready.insert(number, name);
        drop(inner);
        self.changed.notify_one();
    }

    /// Resolves when there may be something to take.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(super) fn wake(&self) {
        self.changed.notify_one();
    }

    /// Forgets everything that waits and the record.
    pub(super) fn clear(&self) {
        let mut inner = lock(&self.inner);
        inner.queues.clear();
        inner.ready.clear();
        inner.waiting = 0;
        inner.dropped = 0;
        inner.records.clear();
        inner.cleared = inner.records.end();
    }

    /// The record, oldest first.
    pub(super) fn to_json(&self) -> Value {
        let inner = lock(&self.inner);
        let deliveries: Vec<Value> = inner
            .records
            .iter()
            .map(|(number, record)| {
                let body = serde_json::from_slice(&record.body).unwrap_or(Value::Null);
                json!({
                    "id": number,
                    "state": record.state,
                    "attempts": record.attempts,
                    "status": record.last.as_ref().and_then(|attempt| attempt.status),
                    "error": record.last.as_ref().and_then(|attempt| attempt.error.as_deref()),
                    "created": rfc3339(record.created),
                    "body_bytes": record.body.len(),
                    "body": body,
                })
            })
            .collect();
        json!({ "waiting": inner.waiting, "in_flight": inner.in_flight, "dropped": inner.dropped, "deliveries": deliveries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(outbox: &Outbox, queue: &str) -> u64 {
        let body = Bytes::from_static(b"{}");
        let new = NewPost { queue: queue.to_owned(), body, signature: None, may_retry: true };
        outbox.push(new, SystemTime::UNIX_EPOCH).0
    }

    fn attempt(status: u16) -> Attempt {
        Attempt { time: String::new(), status: Some(status), error: None }
    }

    #[test]
    fn few_webhooks_go_one_at_a_time_in_order() {
        let outbox = Outbox::new();
        let pushed = [push(&outbox, "a"), push(&outbox, "b"), push(&outbox, "a")];
        let taken: Vec<u64> = (0..3)
            .map(|_| {
                let mut post = outbox.take(32).unwrap();
                assert!(outbox.take(32).is_none());
                outbox.attempted(&mut post, attempt(200), false);
                outbox.finish(&post);
                post.number
            })
            .collect();
        assert_eq!(taken, pushed);
    }

    #[test]
    fn a_failing_webhook_holds_up_its_own_queue_only() {
        let outbox = Outbox::new();
        let (first, second, other) = (push(&outbox, "a"), push(&outbox, "a"), push(&outbox, "b"));
        let mut failing = outbox.take(32).unwrap();
        assert_eq!(failing.number, first);
        outbox.attempted(&mut failing, attempt(503), false);
        let mut next = outbox.take(32).unwrap();
        assert_eq!(next.number, other);
        outbox.attempted(&mut next, attempt(200), false);
        outbox.finish(&next);
        assert!(outbox.take(32).is_none());
        outbox.put_back(failing);
        let mut again = outbox.take(32).unwrap();
        assert_eq!((again.number, again.attempts), (first, 1));
        outbox.attempted(&mut again, attempt(200), false);
        outbox.finish(&again);
        assert_eq!(outbox.take(32).unwrap().number, second);
    }

    #[test]
    fn many_webhooks_go_at_once() {
        let outbox = Outbox::new();
        for queue in 0..320 {
            push(&outbox, &queue.to_string());
        }
        let mut in_flight = 0;
        while outbox.take(8).is_some() {
            in_flight += 1;
        }
        assert_eq!(in_flight, 8);
    }

    #[test]
    fn what_was_cleared_never_comes_back() {
        let outbox = Outbox::new();
        push(&outbox, "a");
        let mut post = outbox.take(32).unwrap();
        outbox.clear();
        outbox.attempted(&mut post, attempt(503), false);
        outbox.put_back(post);
        assert!(outbox.take(32).is_none());
        let next = push(&outbox, "a");
        assert_eq!(outbox.take(32).unwrap().number, next);
    }
}
