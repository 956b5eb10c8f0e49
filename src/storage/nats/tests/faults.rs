//! Servers that are killed, a gateway that is not alone, a stream that is full.

use std::collections::BTreeSet;

use tokio::task::JoinSet;

use super::*;
use crate::clock::Clock as _;
use crate::storage::contract::event_log::read_all;
use crate::storage::event_log::{AppendError, Bounds, ReadError, ReadLimit};
use crate::storage::keyed_state::{Bucket, KeyedState as _, Precondition, Put, StateError};
use crate::storage::nats::records::{Mark, encode_event, event_token};
use crate::storage::nats::streams::Kind;
use crate::storage::nats::wire::Outgoing;

const BUCKET: Bucket = Bucket::named("faults");

async fn accepting(engine: &Nats) {
    let mut acceptance = engine.watch_acceptance();
    in_time(acceptance.wait_for(|acceptance| *acceptance == Acceptance::Accepting)).await.unwrap();
}

fn entry(key: &str, value: &str) -> Put {
    Put { bucket: BUCKET, key: key.to_owned().into(), value: value.to_owned().into(), expire_at_ms: None }
}

/// Appends pairs of items until told to stop, repeating what was not acknowledged; returns what was.
async fn append_on(engine: Arc<Nats>, from: u64, stop: CancellationToken, count: Arc<AtomicU64>) -> Vec<u64> {
    let mut acknowledged = Vec::new();
    for number in (from..).step_by(2) {
        while engine.append(vec![item(number), item(number + 1)]).await.is_err() {
            accepting(&engine).await;
        }
        acknowledged.extend([number, number + 1]);
        count.fetch_add(1, Ordering::SeqCst);
        if stop.is_cancelled() {
            break;
        }
    }
    acknowledged
}

/// Kills what `kill` says, again and again while eight tasks append.
async fn lose_nothing(world: World, rounds: usize, mut kill: impl FnMut(usize)) {
    let engine = world.open();
    let (stop, count) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
    let mut appenders = JoinSet::new();
    for appender in 0..8 {
        let (engine, stop, count) = (Arc::clone(&engine), stop.clone(), Arc::clone(&count));
        appenders.spawn(append_on(engine, appender * 1_000_000, stop, count));
    }
    for round in 0..rounds {
        let before = count.load(Ordering::SeqCst);
        in_time(async {
            while count.load(Ordering::SeqCst) < before + 100 {
                assert_eq!(*world.fatal.lock().unwrap(), [""; 0]);
                engine.watch_tail().changed().await.unwrap();
            }
        })
        .await;
        tokio::task::block_in_place(|| kill(round));
    }
    stop.cancel();
    let acknowledged: Vec<u64> = in_time(appenders.join_all()).await.into_iter().flatten().collect();
    engine.close().await.unwrap();
    // From the servers, as the next process does.
    let engine = world.without_ring().open();
    let events = read_all(&*engine, 0).await;
    assert!(events.iter().map(|event| event.seq).eq(1..=events.len() as u64));
    let ids: BTreeSet<_> = events.iter().map(|event| event.id).collect();
    assert_eq!(ids.len(), events.len(), "an event is there twice");
    let lost = acknowledged.iter().filter(|number| !ids.contains(&item(**number).id)).count();
    assert_eq!(lost, 0, "of {} acknowledged", acknowledged.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_server_is_killed() {
    let Some(mut server) = NatsServer::with("max_payload: 8MB", "sync_interval: always") else { return };
    let world = World::at(server.url());
    lose_nothing(world, 5, |_| {
        server.kill();
        server.restart();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_servers_of_a_cluster_are_killed() {
    let Some(mut servers) = NatsServer::cluster() else { return };
    let world = World::of_cluster(&servers);
    lose_nothing(world, 6, |round| {
        servers[round % 3].kill();
        servers[round % 3].restart();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_is_said_and_waited_for() {
    let (mut server, world) = open_world!();
    let world = world.without_ring();
    let engine = world.open();
    append(&engine, 0..3).await;
    let first = engine.put(entry("a", "1"), Precondition::Absent).await.unwrap();
    server.kill();
    let refused = in_time(engine.append(vec![item(3)])).await;
    assert!(matches!(refused, Err(AppendError::Busy | AppendError::Refused(Refusal::Away))), "{refused:?}");
    let refused = engine.append(vec![item(4)]).await;
    assert_eq!(refused, Err(AppendError::Refused(Refusal::Away)));
    let refused = engine.put(entry("b", "1"), Precondition::None).await;
    assert_eq!(refused, Err(StateError::Refused(Refusal::Away)));
    let read = in_time(engine.read(0, ReadLimit::default())).await;
    assert!(matches!(read, Err(ReadError::Failed(_))), "{read:?}");
    assert!(matches!(engine.get(BUCKET, b"a").await, Err(StateError::Unreadable(_))));
    tokio::task::block_in_place(|| server.restart());
    accepting(&engine).await;
    let again = in_time(async {
        loop {
            match engine.append(vec![item(3), item(4)]).await {
                Ok(appended) => break appended,
                Err(_) => accepting(&engine).await,
            }
        }
    });
    assert_eq!(again.await.iter().map(|appended| appended.seq()).collect::<Vec<_>>(), [4, 5]);
    engine.put(entry("a", "2"), Precondition::Revision(first)).await.unwrap();
    assert_eq!(read_all(&*engine, 0).await.len(), 5);
    assert_eq!(*world.fatal.lock().unwrap(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_process_finds_everything() {
    let (_server, world) = open_world!();
    let engine = world.open();
    append(&engine, 0..5).await;
    world.clock.advance(Duration::from_secs(1));
    append(&engine, 5..7).await;
    assert_eq!(engine.trim(world.clock.now_ms()).await.unwrap(), 5);
    let revision = engine.put(entry("a", "1"), Precondition::Absent).await.unwrap();
    engine.put(entry("b", "1"), Precondition::Absent).await.unwrap();
    engine.delete(BUCKET, b"b", Precondition::None).await.unwrap();
    engine.close().await.unwrap();
    let refused = engine.append(vec![item(9)]).await;
    assert_eq!(refused, Err(AppendError::Refused(Refusal::Closed)));
    assert_eq!(engine.read(0, ReadLimit::default()).await, Err(ReadError::Closed));

    let next = world.without_ring().open();
    assert_eq!(next.epoch(), engine.epoch());
    assert_eq!(next.bounds().await.unwrap(), Bounds { earliest: 6, tail: 7 });
    assert_eq!(append(&next, [1, 7]).await, [Appended::Duplicate(2), Appended::New(8)]);
    assert_eq!(next.get(BUCKET, b"a").await.unwrap().unwrap().revision, revision);
    assert_eq!(next.get(BUCKET, b"b").await.unwrap(), None);
    next.put(entry("a", "2"), Precondition::Revision(revision)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_loses_the_lease_ends() {
    let (_server, world) = open_world!();
    let engine = world.open();
    leading(&engine).await;
    let Context { wire, names, .. } = &*engine.context;
    let thief = Outgoing {
        subject: names.subject(Kind::Lease, "holder"),
        payload: concat!(
            r#"{"id": "thief", "name": "process 1 elsewhere", "address": "elsewhere:1", "certificate": "", "#,
            r#""settings": ""}"#
        )
        .into(),
        expected_of_subject: None,
        kept_seconds: None,
    };
    wire.store_one(&thief).await.unwrap();
    let mut acceptance = engine.watch_acceptance();
    let failed = Acceptance::Refusing(Refusal::Failed);
    in_time(acceptance.wait_for(|acceptance| *acceptance == failed)).await.unwrap();
    assert_eq!(engine.append(vec![item(1)]).await, Err(AppendError::Failed));
    let fatal = in_time(async {
        loop {
            if let Some(reason) = world.fatal.lock().unwrap().first().cloned() {
                break reason;
            }
            tokio::task::yield_now().await;
        }
    });
    assert!(fatal.await.contains("was taken over by process 1 elsewhere"));
    assert!(!engine.leadership().holds());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_write_is_taken_in_and_never_written_over() {
    let (_server, world) = open_world!();
    let engine = world.open();
    append(&engine, [1]).await;
    let Context { wire, names, .. } = &*engine.context;
    let foreign = |number: u64| Outgoing {
        subject: names.subject(Kind::Events, &event_token(&item(number).id)),
        payload: encode_event(Mark { write: [7; 16], part: 0 }, 5, &item(number)),
        expected_of_subject: Some(0),
        kept_seconds: None,
    };
    wire.store_one(&foreign(2)).await.unwrap();
    assert_eq!(append(&engine, [2, 3]).await, [Appended::Duplicate(2), Appended::New(3)]);
    wire.store_one(&foreign(4)).await.unwrap();
    let mut tail = engine.watch_tail();
    in_time(tail.wait_for(|tail| *tail == 4)).await.unwrap();
    let ids: Vec<_> = read_all(&*engine, 0).await.iter().map(|event| event.id).collect();
    assert_eq!(ids, [1, 2, 3, 4].map(|number| item(number).id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_stream_refuses_and_deletes_nothing() {
    let (_server, mut world) = open_world!();
    world.config.size_max = 1 << 20;
    let engine = world.open();
    let mut appended = 0;
    let refused = loop {
        match engine.append(vec![contract::sized_item(appended, 100_000)]).await {
            Ok(_) => appended += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, AppendError::Refused(Refusal::SizeLimit));
    assert!(appended >= 9, "{appended}");
    assert_eq!(read_all(&*engine, 0).await.len() as u64, appended);
    // The state has to go on, so that something can be deleted.
    engine.put(entry("a", "1"), Precondition::None).await.unwrap();
    world.clock.advance(Duration::from_hours(9 * 24));
    assert_eq!(engine.trim(world.clock.now_ms()).await.unwrap(), appended);
    accepting(&engine).await;
    append(&engine, [1000]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_behind_learns_where_the_log_ends() {
    const EVENTS: u64 = 4;
    let (mut server, world) = open_world!();
    let reader_world = world.beside();
    let (writer, reader) = (world.open(), reader_world.open());
    for seq in 1..=EVENTS {
        // Stored without a word to others.
        let (item, names) = (item(seq), &writer.context.names);
        let message = Outgoing {
            subject: names.subject(Kind::Events, &event_token(&item.id)),
            payload: encode_event(Mark { write: [7; 16], part: 0 }, world.clock.now_ms(), &item),
            expected_of_subject: Some(0),
            kept_seconds: None,
        };
        writer.context.wire.store_one(&message).await.unwrap();
        reader.catch_up().await.unwrap();
        assert_eq!(reader.bounds().await.unwrap(), Bounds { earliest: 1, tail: seq });
        let page = reader.read(seq - 1, ReadLimit::default()).await.unwrap();
        assert_eq!(page.iter().map(|event| event.id).collect::<Vec<_>>(), [item.id]);
    }
    server.kill();
    let unknown = timeout(Duration::from_secs(5), reader.catch_up()).await.unwrap();
    assert!(matches!(unknown, Err(ReadError::Failed(_))), "{unknown:?}");
}
