//! Opening, closing and opening again.

use std::os::unix::fs::PermissionsExt as _;

use rusqlite::Connection;

use super::*;
use crate::clock::Clock;
use crate::storage::contract::event_log::read_all;
use crate::storage::event_log::{AppendError, Bounds, ReadError, Refusal};
use crate::storage::keyed_state::{Bucket, KeyedState as _, Precondition, Put, StateError};

const BUCKET: Bucket = Bucket::named("test");

fn put(key: &'static str, value: &'static str) -> Put {
    Put { bucket: BUCKET, key: key.into(), value: value.into(), expire_at_ms: None }
}

#[tokio::test]
async fn everything_is_there_after_reopening() {
    let mut world = World::new();
    let first = world.open();
    append(&first, 0..10).await;
    first.put(put("a", "1"), Precondition::None).await.unwrap();
    let revision = first.put(put("b", "2"), Precondition::None).await.unwrap();
    first.delete(BUCKET, b"b", Precondition::None).await.unwrap();
    let before = read_all(&*first, 0).await;
    first.close().await.unwrap();

    let second = world.open();
    assert_eq!(second.epoch(), first.epoch());
    assert_eq!(*second.watch_tail().borrow(), 10);
    assert!(read_all(&*second, 0).await == before);
    assert_eq!(append(&second, [3, 10]).await, [Appended::Duplicate(4), Appended::New(11)]);
    assert_eq!(second.get(BUCKET, b"a").await.unwrap().unwrap().value, "1");
    assert!(second.put(put("b", "3"), Precondition::Absent).await.unwrap() > revision);
    assert!(world.fatal.lock().unwrap().is_empty());
}

#[tokio::test]
async fn positions_go_on_after_trimming_and_reopening() {
    let mut world = World::new();
    let first = world.open();
    append(&first, 0..3).await;
    assert_eq!(first.trim(u64::MAX).await.unwrap(), 3);
    first.close().await.unwrap();
    let second = world.open();
    assert_eq!(second.bounds().await.unwrap(), Bounds { earliest: 4, tail: 3 });
    assert_eq!(append(&second, [0, 3]).await, [Appended::Duplicate(1), Appended::New(4)]);
    second.close().await.unwrap();
    let third = world.open();
    assert_eq!(third.bounds().await.unwrap(), Bounds { earliest: 4, tail: 4 });
}

#[tokio::test]
async fn another_folder_is_another_epoch() {
    assert_ne!(World::new().open().epoch(), World::new().open().epoch());
}

#[tokio::test]
async fn the_second_opener_learns_who_is_in_its_way() {
    let mut world = World::new();
    let engine = world.open();
    let error = world.open_error().to_string();
    assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
    assert!(error.contains("gateway.lock") && error.contains("since 2027"), "{error}");
    append(&engine, [1]).await;
    engine.close().await.unwrap();
    assert_eq!(append(&world.open(), [2]).await, [Appended::New(2)]);
}

#[tokio::test]
async fn the_folder_is_private_and_closing_leaves_one_database_file() {
    let mut world = World::new();
    let engine = world.open();
    let mode = fs::metadata(&world.config.data_dir).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    append(&engine, [1]).await;
    engine.close().await.unwrap();
    assert!(!world.file("gateway.db-wal").exists());
}

#[tokio::test]
async fn a_closed_engine_says_so() {
    let mut world = World::new();
    let engine = world.open();
    append(&engine, [1]).await;
    engine.close().await.unwrap();
    engine.close().await.unwrap();
    let refused = AppendError::Refused(Refusal::Closed);
    assert_eq!(engine.append(vec![item(2)]).await, Err(refused));
    assert_eq!(engine.trim(0).await, Err(refused));
    assert_eq!(engine.seek_time(0).await, Err(ReadError::Closed));
    assert_eq!(
        engine.put(put("a", "1"), Precondition::None).await,
        Err(StateError::Refused(Refusal::Closed))
    );
}

#[tokio::test]
async fn what_was_queued_before_closing_is_written() {
    let mut world = World::new();
    let engine = world.open();
    let appends = futures_util::future::join_all((0..100).map(|number| append(&engine, [number])));
    let (appended, closed) = tokio::join!(appends, engine.close());
    closed.unwrap();
    assert_eq!(appended.len(), 100);
    assert_eq!(read_all(&*world.open(), 0).await.len(), 100);
}

#[test]
fn files_that_are_not_ours_are_refused_untouched() {
    let world = World::new();
    fs::create_dir(&world.config.data_dir).unwrap();
    let check = |content: &[u8], expected: &str| {
        fs::write(world.file("gateway.db"), content).unwrap();
        let error = world.open_error().to_string();
        assert!(error.contains(expected) && error.contains("gateway.db"), "{error}");
        assert_eq!(fs::read(world.file("gateway.db")).unwrap(), content);
    };
    let database = |sql: &str| {
        let path = world.dir.path().join("made.db");
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let content = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        content
    };
    check(&b"not a database ".repeat(1000), "not a database");
    check(&database("CREATE TABLE theirs (x)"), "belongs to another program");
    let newer = "CREATE TABLE meta (x); PRAGMA application_id = 0x57414757; PRAGMA user_version = 2";
    check(&database(newer), "schema version 2, this build knows 1");
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let mut world = World::new();
    let file = world.dir.path().join("file");
    fs::write(&file, "").unwrap();
    world.config.data_dir = file.clone();
    let error = world.open_error().to_string();
    assert!(error.contains("/file is a file; data_dir must name a folder"), "{error}");
    world.config.data_dir = file.join("data");
    let error = world.open_error().to_string();
    assert!(error.contains("file/data cannot be written") && error.contains("another data_dir"), "{error}");
}

/// A clock that a time server has set back.
#[derive(Debug)]
struct Falling(Mutex<u64>);

impl Clock for Falling {
    fn now(&self) -> std::time::SystemTime {
        let mut ms = self.0.lock().unwrap();
        *ms -= 10;
        UNIX_EPOCH + Duration::from_millis(*ms)
    }
}

#[tokio::test]
async fn append_times_never_fall() {
    let mut world = World::new();
    world.dependencies.clock = Arc::new(Falling(Mutex::new(5_000)));
    let first = world.open();
    append(&first, [1]).await;
    append(&first, [2]).await;
    first.close().await.unwrap();
    let second = world.open();
    append(&second, [3]).await;
    let times: Vec<u64> = read_all(&*second, 0).await.iter().map(|event| event.append_ms).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(second.seek_time(times[0]).await.unwrap(), 0);
}
