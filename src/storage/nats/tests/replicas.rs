//! Several engines on one prefix: they write at the same time, and one of them leads.

use std::collections::HashMap;

use futures_util::future::join_all;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, interval};

use super::*;
use crate::clock::Clock as _;
use crate::storage::contract::event_log::read_all;
use crate::storage::event_log::EventId;
use crate::storage::keyed_state::{Bucket, KeyedState as _, Precondition, Put, StateError};
use crate::storage::nats::records::{Mark, encode_event, event_token};
use crate::storage::nats::streams::Kind;
use crate::storage::nats::wire::Outgoing;

const BUCKET: Bucket = Bucket::named("replicas");

fn entry(key: &str, value: &str) -> Put {
    Put { bucket: BUCKET, key: key.to_owned().into(), value: value.to_owned().into(), expire_at_ms: None }
}

/// Waits until it is so.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "never: {what}");
        yield_now().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// So many engines on one prefix, the first of which leads.
async fn engines(world: &World, count: usize) -> Vec<(World, Arc<Nats>)> {
    let mut engines: Vec<(World, Arc<Nats>)> = Vec::new();
    for _ in 0..count {
        let world = world.beside();
        let engine = world.open();
        if engines.is_empty() {
            leading(&engine).await;
        }
        engines.push((world, engine));
    }
    engines
}

fn assert_sound(engines: &[(World, Arc<Nats>)]) {
    for (world, _) in engines {
        assert_eq!(*world.fatal.lock().unwrap(), [""; 0]);
    }
}

/// All numbers below `end`, in an order of its own, in batches of one to seven.
async fn append_all(engine: Arc<Nats>, end: u64, stride: u64) -> Vec<(EventId, Appended)> {
    let numbers: Vec<u64> = (0..end).map(|number| number * stride % end).collect();
    let mut rest = &numbers[..];
    let mut all = Vec::new();
    while !rest.is_empty() {
        let size = usize::try_from(rest[0] % 7 + 1).unwrap();
        let (batch, later) = rest.split_at(size.min(rest.len()));
        let appended = append(&engine, batch.iter().copied()).await;
        all.extend(batch.iter().map(|number| item(*number).id).zip(appended));
        rest = later;
    }
    all
}

async fn agree_on_events(world: &World) {
    const END: u64 = 509;
    let engines = engines(world, 3).await;
    let mut appending = JoinSet::new();
    for ((_, engine), stride) in engines.iter().zip([1, 7, 101]) {
        appending.spawn(append_all(Arc::clone(engine), END, stride));
    }
    // Whoever reads meanwhile meets no gap and nothing twice.
    let (_, reader) = &engines[1];
    let mut tail = reader.watch_tail();
    let mut read: Vec<(u64, EventId)> = Vec::new();
    while (read.len() as u64) < END {
        in_time(tail.wait_for(|tail| *tail > read.len() as u64)).await.unwrap();
        read.extend(read_all(&**reader, read.len() as u64).await.iter().map(|event| (event.seq, event.id)));
        assert!(read.iter().map(|(seq, _)| *seq).eq(1..=read.len() as u64));
    }
    let answers: Vec<_> = in_time(appending.join_all()).await.into_iter().flatten().collect();
    let at: HashMap<EventId, u64> = read.iter().map(|(seq, id)| (*id, *seq)).collect();
    assert_eq!(at.len() as u64, END);
    assert!(answers.iter().all(|(id, appended)| at[id] == appended.seq()));
    let new = answers.iter().filter(|(_, appended)| matches!(appended, Appended::New(_))).count();
    assert_eq!(new as u64, END);
    for (_, engine) in &engines {
        in_time(engine.watch_tail().wait_for(|tail| *tail == END)).await.unwrap();
        let events = read_all(&**engine, 0).await;
        assert!(events.iter().map(|event| (event.seq, event.id)).eq(read.iter().copied()));
    }
    assert_sound(&engines);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_several_are_each_stored_once_and_seen_in_one_order() {
    let (_server, world) = open_world!();
    agree_on_events(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_several_on_three_servers() {
    let Some(servers) = NatsServer::cluster() else { return };
    agree_on_events(&World::of_cluster(&servers)).await;
}

/// Adds one, so often.
async fn count_up(engine: Arc<Nats>, times: u64) {
    for _ in 0..times {
        loop {
            let current = engine.get(BUCKET, b"counter").await.unwrap();
            let (value, precondition) = match &current {
                None => (0, Precondition::Absent),
                Some(entry) => {
                    let text = std::str::from_utf8(&entry.value).unwrap();
                    (text.parse::<u64>().unwrap(), Precondition::Revision(entry.revision))
                }
            };
            match engine.put(entry("counter", &(value + 1).to_string()), precondition).await {
                Ok(_) => break,
                Err(StateError::Conflict { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_count_without_losing_an_increment() {
    let (_server, world) = open_world!();
    let engines = engines(&world, 3).await;
    let counting = engines.iter().map(|(_, engine)| count_up(Arc::clone(engine), 40));
    in_time(join_all(counting)).await;
    for (_, engine) in &engines {
        // Whoever wrote last knows at once, the others in a moment.
        in_time(async {
            while engine.get(BUCKET, b"counter").await.unwrap().unwrap().value != "120" {
                yield_now().await;
            }
        })
        .await;
    }
    assert_sound(&engines);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_starves_beside_one_that_writes_all_the_time() {
    let (_server, world) = open_world!();
    let engines = engines(&world, 2).await;
    let (stop, busy) = (CancellationToken::new(), Arc::clone(&engines[0].1));
    let mut writing = JoinSet::new();
    for writer in 0..8 {
        let (stop, busy) = (stop.clone(), Arc::clone(&busy));
        writing.spawn(async move {
            let (mut written, mut slowest) = (0, Duration::ZERO);
            while !stop.is_cancelled() {
                let started = Instant::now();
                busy.put(entry(&format!("busy {writer}"), ""), Precondition::None).await.unwrap();
                slowest = slowest.max(started.elapsed());
                written += 1;
            }
            (written, slowest)
        });
    }
    let mut slowest = Duration::ZERO;
    for number in 0..50 {
        let started = Instant::now();
        let key = format!("claim {number}");
        in_time(engines[1].1.put(entry(&key, ""), Precondition::Absent)).await.unwrap();
        slowest = slowest.max(started.elapsed());
    }
    stop.cancel();
    let busy: Vec<(u64, Duration)> = in_time(writing.join_all()).await;
    let written: u64 = busy.iter().map(|(written, _)| written).sum();
    let slowest_busy = busy.iter().map(|(_, slowest)| *slowest).max().unwrap();
    eprintln!("the slowest of 50 took {slowest:?}; of {written} beside them {slowest_busy:?}");
    assert!(slowest.max(slowest_busy) < Duration::from_secs(2), "{slowest:?}, {slowest_busy:?}");
    assert_sound(&engines);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_is_of_all_keys_or_none() {
    let (_server, world) = open_world!();
    let engines = engines(&world, 2).await;
    let claim = async |engine: usize, keys: &[&str]| {
        let entries = keys.iter().map(|key| (Bytes::copy_from_slice(key.as_bytes()), Bytes::from("1")));
        let claims = engines[engine].1.claims().unwrap();
        in_time(claims.claim(BUCKET, entries.collect(), Duration::from_hours(1))).await.unwrap()
    };
    assert!(claim(0, &["a", "b"]).await);
    assert!(!claim(1, &["c", "b"]).await);
    assert_eq!(engines[1].1.get(BUCKET, b"c").await.unwrap(), None);
    assert!(engines[1].1.get(BUCKET, b"a").await.unwrap().is_some());
    world.clock.advance(Duration::from_hours(1));
    assert!(claim(1, &["c", "b"]).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_leads_when_the_leader_is_killed() {
    let (_server, world) = open_world!();
    let mut engines = engines(&world, 2).await;
    let (_, next) = engines.pop().unwrap();
    let (_, killed) = engines.pop().unwrap();
    append(&killed, 0..5).await;
    let revision = killed.put(entry("a", "1"), Precondition::Absent).await.unwrap();
    let mut roles = next.leadership().watch();
    in_time(roles.wait_for(|role| matches!(role, Role::Follower { leader: Some(_) }))).await.unwrap();
    assert!(!next.leadership().holds());
    drop(killed);
    let started = Instant::now();
    assert_eq!(leading(&next).await, 2);
    let took = started.elapsed();
    eprintln!("it took {took:?}");
    assert!(next.leadership().holds());
    // The lease was seen changed a second before, at most.
    assert!(took > Duration::from_millis(1_500) && took < Duration::from_secs(10), "{took:?}");
    assert_eq!(next.bounds().await.unwrap().tail, 5);
    next.put(entry("a", "2"), Precondition::Revision(revision)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_leads_at_once_when_the_leader_ends_in_order() {
    let (_server, world) = open_world!();
    let engines = engines(&world, 3).await;
    let mut left: Vec<_> = engines.iter().map(|(_, engine)| Arc::clone(engine)).collect();
    for term in 1..=3 {
        let started = Instant::now();
        until("somebody leads", || left.iter().any(|engine| engine.leadership().holds())).await;
        let took = started.elapsed();
        assert!(took < Duration::from_millis(2_500), "{took:?}");
        let leader = left.iter().position(|engine| engine.leadership().holds()).unwrap();
        let leader = left.swap_remove(leader);
        assert_eq!(leading(&leader).await, term);
        append(&leader, [term]).await;
        leader.close().await.unwrap();
        assert!(!leader.leadership().holds());
    }
    assert_sound(&engines);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_overtaken_cannot_write() {
    let (_server, mut world) = open_world!();
    let (next_world, pace) = (world.beside(), Pace { renewal: Duration::from_hours(1), ..Pace::default() });
    world.pace = pace;
    let stale = world.open();
    assert_eq!(leading(&stale).await, 1);
    stale.put(entry("a", "1"), Precondition::Absent).await.unwrap();
    let next = next_world.open();
    assert_eq!(leading(&next).await, 2);
    assert!(!stale.leadership().holds());
    assert_eq!(stale.put(entry("b", "1"), Precondition::None).await, Err(StateError::Failed));
    assert!(next.get(BUCKET, b"a").await.unwrap().is_some());
    assert_eq!(next.get(BUCKET, b"b").await.unwrap(), None);
    until("it ends", || !world.fatal.lock().unwrap().is_empty()).await;
    let reason = world.fatal.lock().unwrap()[0].clone();
    assert!(reason.contains("was taken over by process"), "{reason}");
    assert_eq!(*next_world.fatal.lock().unwrap(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_leads_on_when_nats_was_away() {
    let (mut server, world) = open_world!();
    let engines = engines(&world, 2).await;
    let ([leader, follower], away) = ([&engines[0].1, &engines[1].1], Acceptance::Refusing(Refusal::Away));
    server.kill();
    until("both know", || {
        [leader, follower].iter().all(|engine| *engine.watch_acceptance().borrow() == away)
            && !leader.leadership().holds()
    })
    .await;
    tokio::task::block_in_place(|| server.restart());
    until("it holds again", || leader.leadership().holds()).await;
    assert_eq!(leading(leader).await, 1);
    let mut roles = follower.leadership().watch();
    in_time(roles.wait_for(|role| matches!(role, Role::Follower { leader: Some(_) }))).await.unwrap();
    in_time(leader.watch_acceptance().wait_for(|now| *now == Acceptance::Accepting)).await.unwrap();
    in_time(follower.watch_acceptance().wait_for(|now| *now == Acceptance::Accepting)).await.unwrap();
    append(follower, [1]).await;
    in_time(leader.watch_tail().wait_for(|tail| *tail == 1)).await.unwrap();
    leader.put(entry("a", "1"), Precondition::Absent).await.unwrap();
    assert_sound(&engines);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_forget_what_the_leader_trims() {
    let (_server, world) = open_world!();
    let engines = engines(&world, 2).await;
    let [leader, follower] = [&engines[0].1, &engines[1].1];
    append(follower, 0..5).await;
    in_time(leader.watch_tail().wait_for(|tail| *tail == 5)).await.unwrap();
    world.clock.advance(Duration::from_secs(1));
    append(leader, 5..7).await;
    assert_eq!(leader.trim(world.clock.now_ms()).await.unwrap(), 5);
    in_time(async {
        while follower.bounds().await.unwrap().earliest != 6 {
            yield_now().await;
        }
    })
    .await;
    // An id is still known that is not served any more.
    assert_eq!(append(follower, [3, 7]).await, [Appended::Duplicate(4), Appended::New(8)]);
    in_time(leader.watch_tail().wait_for(|tail| *tail == 8)).await.unwrap();
    // But not when another replica has really removed it.
    world.clock.advance(Duration::from_hours(9 * 24));
    assert_eq!(leader.trim(world.clock.now_ms()).await.unwrap(), 3);
    until("it is noticed", || follower.context.held_from.load(Ordering::Acquire) == 9).await;
    assert_eq!(append(follower, [3]).await, [Appended::New(9)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_is_found_although_clocks_differ() {
    let (_server, world) = open_world!();
    let engine = world.open();
    let Context { wire, names, .. } = &*engine.context;
    for (number, append_ms) in [10, 20, 15, 30, 25, 29, 40].into_iter().enumerate() {
        let item = item(number as u64);
        let message = Outgoing {
            subject: names.subject(Kind::Events, &event_token(&item.id)),
            payload: encode_event(Mark { write: [7; 16], part: 0 }, append_ms, &item),
            expected_of_subject: Some(0),
            kept_seconds: None,
        };
        wire.store_one(&message).await.unwrap();
    }
    in_time(engine.watch_tail().wait_for(|tail| *tail == 7)).await.unwrap();
    // Nothing that is as old or younger stands before the position.
    for (unix_ms, position) in
        [(10, 0), (11, 1), (16, 1), (20, 1), (21, 3), (26, 3), (30, 3), (31, 6), (41, 7)]
    {
        assert_eq!(engine.seek_time(unix_ms).await.unwrap(), position, "{unix_ms}");
    }
}

/// Measures how far the tail of one is behind what another appends, 2,000 events in a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tail_follows_closely() {
    const EVENTS: u64 = 4_000;
    let (_server, world) = open_world!();
    let engines = engines(&world, 2).await;
    let [writer, reader] = [&engines[0].1, &engines[1].1].map(Arc::clone);
    let stored: Arc<StdMutex<Vec<(u64, Instant)>>> = Arc::default();
    let mut appending = JoinSet::new();
    let mut pace = interval(Duration::from_millis(5));
    let mut tail = reader.watch_tail();
    let mut seeing = JoinSet::new();
    seeing.spawn(async move {
        let mut seen = Vec::new();
        while in_time(tail.changed()).await.is_ok() {
            let newest = *tail.borrow_and_update();
            seen.push((newest, Instant::now()));
            if newest == EVENTS {
                break;
            }
        }
        seen
    });
    for first in (0..EVENTS).step_by(10) {
        pace.tick().await;
        let (writer, stored) = (Arc::clone(&writer), Arc::clone(&stored));
        appending.spawn(async move {
            let appended = append(&writer, first..first + 10).await;
            stored.lock().unwrap().push((appended[9].seq(), Instant::now()));
        });
    }
    in_time(appending.join_all()).await;
    let seen = in_time(seeing.join_next()).await.unwrap().unwrap();
    let stored = stored.lock().unwrap();
    let mut lags: Vec<Duration> = stored
        .iter()
        .map(|(seq, at)| {
            let (_, seen) = seen.iter().find(|(tail, _)| tail >= seq).unwrap();
            seen.saturating_duration_since(*at)
        })
        .collect();
    lags.sort_unstable();
    let [median, high, worst] = [50, 99, 100].map(|part| lags[(lags.len() * part / 100).min(lags.len() - 1)]);
    eprintln!("behind by {median:?} in the middle, {high:?} at 99 %, {worst:?} at most");
    assert!(median < Duration::from_millis(250), "{median:?}");
}
