//! kill -9 in the middle of a burst, again and again: what was acknowledged is there, once and in order.

use std::collections::{BTreeMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::Instant;
use whatsapp_gateway::contract::v1::Event;

use crate::support::subscriber::position;
use crate::support::webhook::{self, Sender};
use crate::support::{Gateway, Rng, rounds};

const POSTERS: usize = 64;
/// Acknowledgements after which the process is killed.
const ACKNOWLEDGED: RangeInclusive<u64> = 1..=300;

/// One user who writes message after message, and repeats what was not acknowledged, as Meta does.
#[derive(Debug, Clone, Copy, Default)]
struct Poster {
    name: usize,
    acknowledged: u64,
    attempted: u64,
}

/// Kills the process at the drawn acknowledgement.
#[derive(Debug)]
struct Killer {
    acknowledged: AtomicU64,
    at: u64,
    pid: Pid,
}

impl Killer {
    fn count(&self) {
        if self.acknowledged.fetch_add(1, Ordering::SeqCst) + 1 == self.at {
            kill_process(self.pid, Signal::KILL).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost() {
    let mut rng = Rng::seeded(20_261_121);
    let folder = TempDir::new().unwrap();
    let data_dir = folder.path().join("data");
    let mut posters: Vec<_> = (0..POSTERS).map(|name| Poster { name, ..Default::default() }).collect();
    let started = Instant::now();
    let rounds = rounds(20, 400);
    for _ in 0..rounds {
        let mut gateway = Gateway::builder().data_dir(&data_dir).start().await;
        let at = rng.between(*ACKNOWLEDGED.start(), *ACKNOWLEDGED.end());
        let killer = Arc::new(Killer { acknowledged: AtomicU64::new(0), at, pid: gateway.pid() });
        let mut burst = JoinSet::new();
        for poster in posters {
            burst.spawn(post_until_killed(poster, gateway.sender(), Arc::clone(&killer)));
        }
        posters = burst.join_all().await;
        assert_eq!(gateway.wait().await, None, "it ended by itself:\n{}", gateway.log());
    }
    let acknowledged: u64 = posters.iter().map(|poster| poster.acknowledged).sum();
    eprintln!("{rounds} kills in {:?}, {acknowledged} posts acknowledged", started.elapsed());

    let gateway = Gateway::builder().data_dir(&data_dir).start().await;
    let events = gateway.events().await;
    assert!(events.windows(2).all(|pair| position(&pair[0].cursor) < position(&pair[1].cursor)));
    let ids: HashSet<_> = events.iter().map(|event| &event.id).collect();
    assert_eq!(ids.len(), events.len(), "an event is there twice");
    check(&posters, &events);
}

async fn post_until_killed(mut poster: Poster, sender: Sender, killer: Arc<Killer>) -> Poster {
    loop {
        let number = poster.acknowledged;
        poster.attempted = number + 1;
        match sender.post(&body(poster.name, number)).await {
            Some(200) => {
                poster.acknowledged += 1;
                killer.count();
            }
            // Killed.
            None => return poster,
            Some(status) => panic!("poster {}: post {number} got {status}", poster.name),
        }
    }
}

/// One to three messages in one body, so that half of one would show.
fn body(poster: usize, number: u64) -> Value {
    let messages: Vec<_> = messages(poster, number)
        .into_iter()
        .map(|id| {
            let from = format!("1650555{poster:04}");
            json!({"from": from, "id": id, "timestamp": "1749416383", "type": "text", "text": {"body": id}})
        })
        .collect();
    webhook::messages(&messages)
}

fn messages(poster: usize, number: u64) -> Vec<String> {
    (0..=number % 3).map(|item| format!("wamid.{poster}.{number}.{item}")).collect()
}

/// Each poster's messages are exactly those of its acknowledged posts, in order, and perhaps those of the one that was
/// under way at the last kill.
fn check(posters: &[Poster], events: &[Event]) {
    let mut read: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for event in events {
        read.entry(&event.conversation_key).or_default().push(&event.subject);
    }
    assert_eq!(read.len(), posters.len());
    for poster in posters {
        let up_to = |number| (0..number).flat_map(|n| messages(poster.name, n)).collect::<Vec<_>>();
        let (acknowledged, attempted) = (up_to(poster.acknowledged), up_to(poster.attempted));
        let prefix = format!("wamid.{}.", poster.name);
        let found = read.values().find(|ids| ids.iter().any(|id| id.starts_with(&prefix)));
        let found = found.unwrap_or_else(|| panic!("nothing of poster {}", poster.name));
        assert!(*found == acknowledged || *found == attempted, "poster {}: {found:?}", poster.name);
    }
}
