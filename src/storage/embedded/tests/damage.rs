//! What is left after a kill, a torn write or a flipped bit.

use rusqlite::Connection;

use super::*;
use crate::storage::contract::event_log::read_all;
use crate::storage::contract::sized_item;
use crate::storage::event_log::{Bounds, ReadError, ReadLimit, StoredEvent};

const FILES: [&str; 2] = ["gateway.db", "gateway.db-wal"];

/// The files of an engine that has half of its events in the database and half in the write-ahead log.
async fn killed() -> (World, [Vec<u8>; 2], Vec<Arc<StoredEvent>>) {
    let mut world = World::new();
    let first = world.open();
    for number in 0..20 {
        first.append(vec![sized_item(number, 2_000)]).await.unwrap();
    }
    first.close().await.unwrap();
    let engine = world.open();
    for number in 20..40 {
        engine.append(vec![sized_item(number, 2_000)]).await.unwrap();
    }
    let files = FILES.map(|name| fs::read(world.file(name)).unwrap());
    let events = read_all(&*engine, 0).await;
    (world, files, events)
}

/// Opens copies of the files; `None` if that is refused.
fn open_copy(files: &[Vec<u8>; 2]) -> Option<(World, Embedded)> {
    let world = World::new();
    fs::create_dir(&world.config.data_dir).unwrap();
    for (name, content) in FILES.iter().zip(files) {
        fs::write(world.file(name), content).unwrap();
    }
    let mut dependencies = world.dependencies.clone();
    dependencies.ring = Arc::new(Ring::new(0, 0));
    let engine = Embedded::open_with(&world.config, dependencies).ok()?;
    Some((world, engine))
}

/// Reads until the end or the first error, and returns what came. Nothing may differ from what was written.
async fn readable(engine: &Embedded, written: &[Arc<StoredEvent>]) -> u64 {
    let mut position = 0;
    loop {
        let Ok(page) = engine.read(position, ReadLimit { events: 1, bytes: 0 }).await else {
            return position;
        };
        let Some(event) = page.first() else { return position };
        assert!(written.get(usize::try_from(position).unwrap()) == Some(event), "{event:?}");
        position = event.seq;
    }
}

#[tokio::test]
async fn a_killed_process_loses_nothing() {
    let (_world, files, events) = killed().await;
    let (_copy, engine) = open_copy(&files).unwrap();
    assert_eq!(engine.bounds().await.unwrap(), Bounds { earliest: 1, tail: 40 });
    assert!(read_all(&engine, 0).await == events);
    assert_eq!(append(&engine, [20, 40]).await, [Appended::Duplicate(21), Appended::New(41)]);
}

#[tokio::test]
async fn a_torn_log_keeps_a_prefix() {
    let (_world, [database, log], events) = killed().await;
    for cut in (0..log.len()).step_by(log.len() / 60 + 1) {
        let files = [database.clone(), log[..cut].to_vec()];
        let (_copy, engine) = open_copy(&files).unwrap();
        let tail = engine.bounds().await.unwrap().tail;
        assert!(tail >= 20, "cut at {cut}: {tail}");
        assert_eq!(readable(&engine, &events).await, tail, "cut at {cut}");
        assert_eq!(append(&engine, [1000]).await, [Appended::New(tail + 1)]);
    }
}

#[tokio::test]
async fn a_flipped_bit_in_the_log_keeps_a_prefix() {
    let (_world, [database, log], events) = killed().await;
    for at in (0..log.len()).step_by(log.len() / 60 + 1) {
        let mut files = [database.clone(), log.clone()];
        files[1][at] ^= 0x10;
        let (_copy, engine) = open_copy(&files).unwrap();
        let tail = engine.bounds().await.unwrap().tail;
        assert!(tail >= 20, "flipped at {at}: {tail}");
        assert_eq!(readable(&engine, &events).await, tail, "flipped at {at}");
    }
}

#[tokio::test]
async fn a_flipped_bit_in_the_database_is_never_served() {
    let (_world, [database, _], events) = killed().await;
    let mut refused = 0;
    for at in (0..database.len()).step_by(database.len() / 150 + 1) {
        let mut files = [database.clone(), Vec::new()];
        files[0][at] ^= 0x10;
        let Some((_copy, engine)) = open_copy(&files) else {
            refused += 1;
            continue;
        };
        let tail = engine.bounds().await.unwrap().tail;
        refused += u64::from(readable(&engine, &events).await < tail);
    }
    assert!(refused > 0);
}

#[tokio::test]
async fn a_missing_event_is_refused_at_opening() {
    let mut world = World::new();
    let engine = world.open();
    append(&engine, 0..5).await;
    engine.close().await.unwrap();
    let shell = Connection::open(world.file("gateway.db")).unwrap();
    shell.execute_batch("DELETE FROM events WHERE seq = 1").unwrap();
    drop(shell);
    let error = world.open_error().to_string();
    assert!(error.contains("damaged") && error.contains("backup"), "{error}");
}

#[tokio::test]
async fn a_hole_is_an_error_and_never_skipped() {
    let mut world = World::new();
    let engine = world.open();
    append(&engine, 0..5).await;
    engine.close().await.unwrap();
    let shell = Connection::open(world.file("gateway.db")).unwrap();
    shell.execute_batch("DELETE FROM events WHERE seq = 3").unwrap();
    drop(shell);
    let engine = world.open();
    for after in [0, 2] {
        let damaged = ReadError::Failed("the event at 3 is damaged on disk".to_owned());
        assert_eq!(engine.read(after, ReadLimit::default()).await, Err(damaged));
    }
    assert_eq!(engine.read(3, ReadLimit::default()).await.unwrap().len(), 2);
}
