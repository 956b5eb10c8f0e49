//! Workers that come, go and die, and a gateway that is killed: every event is done, in the order of its conversation, and
//! what was acknowledged never comes again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use whatsapp_gateway::contract::v1::{self, ReceivedEvent};

use crate::eventually;
use crate::support::worker::{done, seconds, settings, subject, work};
use crate::support::{Gateway, Rng, Worker, rounds, webhook};

const CONVERSATIONS: u64 = 50;
/// How long a worker of the first test is at what it has received; its leases end 2 seconds later.
const HELD: Duration = Duration::from_secs(1);

/// What workers have seen.
#[derive(Debug, Default)]
struct Seen {
    /// The first completion of each event, by conversation, in order.
    first: BTreeMap<u64, Vec<u64>>,
    done: BTreeSet<(u64, u64)>,
    deliveries: u64,
    /// The conversations that somebody works on, until when.
    held: BTreeMap<u64, Instant>,
}

/// The conversation of an event, and its number in it.
fn place(received: &ReceivedEvent) -> (u64, u64) {
    let (conversation, number) = subject(received).split_once('-').unwrap();
    (conversation.parse().unwrap(), number.parse().unwrap())
}

async fn store(gateway: &Gateway, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let message = |conversation: u64| {
            json!({"from": format!("16505550{conversation:03}"), "id": format!("{conversation}-{number}"),
                "timestamp": "1749416383", "type": "text", "text": {"body": "Hi"}})
        };
        let messages: Vec<Value> = (0..CONVERSATIONS).map(message).collect();
        assert_eq!(gateway.post_webhook(webhook::messages(&messages).to_string()).await, 200);
    }
}

/// Works on `orders`, and stops in the middle after so many deliveries.
async fn worker(gateway: Arc<Gateway>, seen: Arc<Mutex<Seen>>, life: u64) {
    let request = v1::SubscribeEventsRequest { max_outstanding_events: 4, ..work("orders") };
    let Ok(mut worker) = Worker::with(&gateway, request).await else { return };
    let mut handled = 0;
    while let Ok(Ok(deliveries)) = timeout(Duration::from_secs(5), worker.stream.deliveries()).await {
        let until = Instant::now() + HELD;
        for received in deliveries {
            // What has waited for so long may be somebody else's when it is done.
            if until <= Instant::now() {
                break;
            }
            let (conversation, number) = place(&received);
            handled += 1;
            {
                let mut seen = seen.lock().unwrap();
                seen.deliveries += 1;
                assert!(!seen.done.contains(&(conversation, number)), "{conversation}-{number} was done");
                let other = seen.held.insert(conversation, until);
                assert!(other.is_none_or(|until| until <= Instant::now()), "two work on {conversation}");
            }
            if handled > life {
                // Dies with it in hand.
                return;
            }
            {
                let mut seen = seen.lock().unwrap();
                // From here on the work is done, whatever becomes of the answer.
                seen.held.remove(&conversation);
                let first = seen.first.entry(conversation).or_default();
                if !first.contains(&number) {
                    first.push(number);
                }
            }
            if worker.say(&received, done()).await.is_none() {
                seen.lock().unwrap().done.insert((conversation, number));
            }
        }
    }
}

/// 21 of the failure model, with workers of unequal lives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_die_and_the_order_holds() {
    let mut rng = Rng::seeded(2_026_112_121);
    let each = rounds(20, 1_000);
    let gateway = Arc::new(Gateway::dev().await);
    let three_seconds = v1::Subscription { ack_deadline: Some(seconds(3)), ..settings("orders") };
    gateway.subscription(three_seconds).await;
    store(&gateway, 0..each).await;
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let mut workers = JoinSet::new();
    let (total, mut died) = (CONVERSATIONS * each, 0);
    while (seen.lock().unwrap().done.len() as u64) < total {
        while workers.len() < 8 {
            let life = rng.between(50, 200);
            workers.spawn(worker(Arc::clone(&gateway), Arc::clone(&seen), life));
            died += 1;
        }
        workers.join_next().await.unwrap().unwrap();
        assert!(died < 2_000, "no progress");
    }
    workers.shutdown().await;
    eventually!(gateway.subscribed("orders").await.backlog_estimate == 0);
    let seen = seen.lock().unwrap();
    for (conversation, first) in &seen.first {
        assert!(first.iter().copied().eq(0..each), "{conversation}: {first:?}");
    }
    let redelivered = seen.deliveries.saturating_sub(total);
    println!("{total} events, {} deliveries, {died} workers", seen.deliveries);
    assert!(redelivered * 10 < total, "{redelivered} redeliveries");
}

/// 24 of the failure model, with kill -9 while workers acknowledge.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9_and_the_rest_comes_again() {
    let mut rng = Rng::seeded(2_026_112_124);
    let folder = TempDir::new().unwrap();
    let mut gateway = Gateway::builder().data_dir(folder.path()).start().await;
    gateway.subscription(settings("orders")).await;
    let each = 40;
    store(&gateway, 0..each).await;
    let mut done_all: BTreeSet<(u64, u64)> = BTreeSet::new();
    let mut kills = 0;
    while (done_all.len() as u64) < CONVERSATIONS * each {
        let many = v1::SubscribeEventsRequest { max_outstanding_events: 10_000, ..work("orders") };
        let mut worker = Worker::with(&gateway, many).await.unwrap();
        let stop_at = done_all.len() as u64 + rng.between(100, 400);
        while (done_all.len() as u64) < stop_at.min(CONVERSATIONS * each) {
            let deliveries = worker.stream.deliveries().await.unwrap();
            for received in &deliveries {
                assert!(!done_all.contains(&place(received)), "{:?} was acknowledged", place(received));
                let (conversation, number) = place(received);
                assert!(number == 0 || done_all.contains(&(conversation, number - 1)), "out of order");
            }
            // The last of them stays in hand.
            let (_, acknowledged) = deliveries.split_last().unwrap();
            let acknowledged = if acknowledged.is_empty() { &deliveries } else { acknowledged };
            worker.done(acknowledged).await;
            done_all.extend(acknowledged.iter().map(place));
        }
        gateway.kill().await;
        kills += 1;
        gateway = Gateway::builder().data_dir(folder.path()).start().await;
        let told = gateway.subscribed("orders").await;
        assert_eq!(told.backlog_estimate, CONVERSATIONS * each - done_all.len() as u64);
    }
    println!("{} events, {kills} kills", done_all.len());
}
