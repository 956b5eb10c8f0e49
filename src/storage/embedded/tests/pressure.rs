//! Too little room, too much work.

use std::sync::MutexGuard;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::task::JoinSet;

use super::*;
use crate::clock::Clock as _;
use crate::storage::contract::event_log::read_all;
use crate::storage::contract::sized_item;
use crate::storage::event_log::{Acceptance, AppendError, Item, Refusal};
use crate::storage::keyed_state::{Beside, Bucket, KeyedState as _, Precondition, Put, StateError};

const BUCKET: Bucket = Bucket::named("test");

fn put(key: &'static str) -> Put {
    Put { bucket: BUCKET, key: key.into(), value: Bytes::new(), expire_at_ms: None }
}

async fn until(engine: &Embedded, acceptance: Acceptance) {
    engine.watch_acceptance().wait_for(|now| *now == acceptance).await.unwrap();
}

#[tokio::test]
async fn the_size_limit_refuses_and_trimming_ends_that() {
    let mut world = World::new();
    world.config.size_max = 4 * 1024 * 1024;
    let engine = world.open();
    engine.put(put("kept"), Precondition::None).await.unwrap();
    let mut stored = 0;
    let refused = loop {
        match engine.append(vec![sized_item(stored, 64 * 1024)]).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 1000, "the limit is far behind");
    };
    assert_eq!(refused, AppendError::Refused(Refusal::SizeLimit));
    assert!(stored > 8, "refused after {stored} events of 64 KiB");
    // Reading and deleting go on, growing does not.
    assert_eq!(read_all(&*engine, 0).await.len() as u64, stored);
    assert_eq!(
        engine.put(put("more"), Precondition::None).await,
        Err(StateError::Refused(Refusal::SizeLimit))
    );
    assert!(engine.delete(BUCKET, b"kept", Precondition::None).await.unwrap());
    // What is there comes to its end all the same.
    let vital = || Put { bucket: BUCKET.vital(), ..put("vital") };
    let full = Err(StateError::Refused(Refusal::SizeLimit));
    assert_eq!(engine.put(vital(), Precondition::Absent).await, full, "it would be more");
    let beside = Beside::Put(put("beside"));
    assert_eq!(engine.put_beside(vital(), Precondition::None, beside).await, full);
    assert_eq!(engine.put_all(vec![vital(), put("other")]).await, full.map(drop));
    let revision = engine.put(vital(), Precondition::None).await.unwrap();
    engine.put(vital(), Precondition::Revision(revision)).await.unwrap();
    engine.put_all(vec![vital(), vital()]).await.unwrap();

    world.clock.advance(Duration::from_secs(1));
    assert_eq!(engine.trim(world.clock.now_ms()).await.unwrap(), stored);
    until(&engine, Acceptance::Accepting).await;
    assert_eq!(append(&engine, [5000]).await, [Appended::New(stored + 1)]);
}

#[tokio::test]
async fn the_low_water_mark_refuses_and_recovers_by_itself() {
    let mut world = World::new();
    let free = Arc::new(AtomicU64::new(PLENTY));
    let shown = Arc::clone(&free);
    world.dependencies.disk_free = Arc::new(move |_| Ok(shown.load(Ordering::Relaxed)));
    let engine = world.open();
    append(&engine, [1]).await;
    free.store(200 * 1024 * 1024, Ordering::Relaxed);
    until(&engine, Acceptance::Refusing(Refusal::DiskLow)).await;
    assert_eq!(engine.append(vec![item(2)]).await, Err(AppendError::Refused(Refusal::DiskLow)));
    assert_eq!(read_all(&*engine, 0).await.len(), 1);
    free.store(PLENTY, Ordering::Relaxed);
    until(&engine, Acceptance::Accepting).await;
    append(&engine, [2]).await;
}

#[tokio::test]
async fn the_log_of_writes_stays_small() {
    let mut world = World::new();
    let engine = world.open();
    for number in 0..48 {
        engine.append(vec![sized_item(number, 1024 * 1024)]).await.unwrap();
    }
    let (log, database) = (world.file("gateway.db-wal"), world.file("gateway.db"));
    let (log, database) = (fs::metadata(log).unwrap().len(), fs::metadata(database).unwrap().len());
    assert!(log < 20 * 1024 * 1024, "{log}");
    assert!(database > 24 * 1024 * 1024, "{database}");
}

#[tokio::test]
async fn a_call_over_every_limit_is_refused_as_such() {
    let mut world = World::new();
    let engine = world.open();
    let megabyte = Bytes::from(vec![0; 1024 * 1024]);
    let items = (0..64).map(|number| Item { raw: megabyte.clone(), ..item(number) }).collect();
    let refused = engine.append(items).await;
    assert!(matches!(refused, Err(AppendError::TooLarge { .. })), "{refused:?}");
    // More events than the queue holds is no reason.
    assert_eq!(append(&engine, 0..10_000).await.len(), 10_000);
}

/// An engine whose writer stands still while the guard lives.
struct Stalled<'g> {
    engine: Arc<Embedded>,
    _gate: MutexGuard<'g, ()>,
}

fn stall<'g>(world: &mut World, gate: &'g Arc<Mutex<()>>) -> Stalled<'g> {
    let guard = gate.lock().unwrap();
    let (at_the_gate, arrived) = mpsc::channel();
    let writers_gate = Arc::clone(gate);
    world.dependencies.disk_free = Arc::new(move |_| {
        // Nobody listens any more once the test has the writer where it wants it.
        at_the_gate.send(()).unwrap_or_default();
        drop(writers_gate.lock().unwrap());
        Ok(PLENTY)
    });
    let engine = world.open();
    arrived.recv().unwrap();
    Stalled { engine, _gate: guard }
}

#[tokio::test(start_paused = true)]
async fn waiting_too_long_is_busy_and_nothing_is_written() {
    let (mut world, gate) = (World::new(), Arc::default());
    let stalled = stall(&mut world, &gate);
    let engine = Arc::clone(&stalled.engine);
    assert_eq!(engine.append(vec![item(1)]).await, Err(AppendError::Busy));
    assert_eq!(engine.put(put("a"), Precondition::Absent).await, Err(StateError::Busy));
    drop(stalled);
    tokio::time::resume();
    assert_eq!(append(&engine, [2]).await, [Appended::New(1)]);
    assert_eq!(engine.get(BUCKET, b"a").await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_is_busy_at_once() {
    let (mut world, gate) = (World::new(), Arc::default());
    let stalled = stall(&mut world, &gate);
    let engine = Arc::clone(&stalled.engine);
    let mut large = Box::pin(engine.append((0..8192).map(item).collect()));
    assert!(large.as_mut().now_or_never().is_none());
    assert_eq!(engine.append(vec![item(9000)]).now_or_never(), Some(Err(AppendError::Busy)));
    drop(stalled);
    tokio::time::resume();
    assert_eq!(large.await.unwrap().len(), 8192);
    append(&engine, [9000]).await;
}

#[tokio::test]
async fn a_caller_that_vanishes_withdraws_its_append() {
    let (mut world, gate) = (World::new(), Arc::default());
    let stalled = stall(&mut world, &gate);
    let engine = Arc::clone(&stalled.engine);
    assert!(engine.append(vec![item(1)]).now_or_never().is_none());
    drop(stalled);
    assert_eq!(append(&engine, [2]).await, [Appended::New(1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_behind_the_ring_and_trims_meet_without_a_gap() {
    let mut world = World::without_ring();
    let engine = world.open();
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let engine = Arc::clone(&engine);
        tasks.spawn(async move {
            let mut position = 0;
            while position < 2000 {
                match engine
                    .read(position, crate::storage::event_log::ReadLimit { events: 7, bytes: 1 << 20 })
                    .await
                {
                    Ok(page) => {
                        for event in page {
                            assert_eq!(event.seq, position + 1);
                            position = event.seq;
                        }
                    }
                    Err(crate::storage::event_log::ReadError::Trimmed { earliest }) => {
                        assert!(earliest > position + 1);
                        position = earliest - 1;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }
    for number in 0..200 {
        append(&engine, number * 10..number * 10 + 10).await;
        world.clock.advance(Duration::from_millis(1));
        if number % 20 == 0 {
            engine.trim(world.clock.now_ms() - 5).await.unwrap();
        }
    }
    tasks.join_all().await;
}
