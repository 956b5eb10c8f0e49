//! A disk that fails.

use rusqlite::{Connection, ffi};

use super::*;
use crate::storage::contract::event_log::read_all;
use crate::storage::embedded::queue::{Failure, Patience, Weight};
use crate::storage::event_log::{Acceptance, AppendError, Refusal};
use crate::storage::keyed_state::{Bucket, KeyedState as _, Precondition, StateError};

const BUCKET: Bucket = Bucket::named("test");

/// Lets the transaction of one job meet a result code of SQLite.
async fn meet(engine: &Embedded, code: i32) -> Result<(), Failure> {
    let error = move |_: &mut transaction::Batch<'_>| {
        Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None))
    };
    engine.queue.submit(Weight::SHRINKING, Patience::Settle, error).await
}

#[tokio::test]
async fn a_failed_sync_is_the_end_for_everybody() {
    for code in [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_CORRUPT, ffi::SQLITE_NOTADB, ffi::SQLITE_MISUSE] {
        let mut world = World::new();
        let engine = world.open();
        append(&engine, [1, 2]).await;
        let batched = engine.append(vec![item(3)]);
        let (failed, batched) = tokio::join!(meet(&engine, code), batched);
        assert_eq!(failed, Err(Failure::Failed));
        // Together with the failing job, behind it, or before it: never a doubtful success.
        assert!(batched == Err(AppendError::Failed) || read_all(&*engine, 2).await.len() == 1);
        assert_eq!(*engine.watch_acceptance().borrow(), Acceptance::Refusing(Refusal::Failed));
        assert_eq!(engine.append(vec![item(4)]).await, Err(AppendError::Failed));
        assert_eq!(engine.trim(0).await, Err(AppendError::Failed));
        assert_eq!(engine.delete(BUCKET, b"a", Precondition::None).await, Err(StateError::Failed));
        assert!(engine.close().await.is_err());
        assert_eq!(world.fatal.lock().unwrap().len(), 1, "{code}");
        // Nobody gets the folder while the failed process lives.
        assert!(matches!(world.open_error(), OpenError::Held { .. }));
    }
}

#[tokio::test]
async fn a_panic_of_the_writer_is_the_end_too() {
    let mut world = World::new();
    let engine = world.open();
    let panics = |_: &mut transaction::Batch<'_>| -> rusqlite::Result<()> { panic!("on purpose") };
    let failed = engine.queue.submit(Weight::SHRINKING, Patience::Settle, panics).await;
    assert_eq!(failed, Err(Failure::Failed));
    assert!(engine.close().await.is_err());
    assert_eq!(world.fatal.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_full_disk_refuses_and_goes_on() {
    let mut world = World::new();
    let engine = world.open();
    append(&engine, [1]).await;
    for code in [ffi::SQLITE_FULL, ffi::SQLITE_IOERR_SHMSIZE] {
        let refused = meet(&engine, code).await;
        assert_eq!(refused, Err(Failure::Refused(Refusal::DiskLow)));
        engine.watch_acceptance().wait_for(|now| *now == Acceptance::Accepting).await.unwrap();
    }
    assert_eq!(append(&engine, [2]).await, [Appended::New(2)]);
    assert!(world.fatal.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_really_full_database_rolls_back_and_goes_on() {
    let mut world = World::new();
    let engine = world.open();
    append(&engine, [1]).await;
    let limit = |pages: u32| {
        let pragma = format!("PRAGMA max_page_count = {pages}");
        let set =
            move |batch: &mut transaction::Batch<'_>| batch.transaction.query_row(&pragma, [], |_| Ok(()));
        engine.queue.submit(Weight::SHRINKING, Patience::Settle, set)
    };
    limit(64).await.unwrap();
    let large = contract::sized_item(2, 1024 * 1024);
    let refused = engine.append(vec![item(3), large.clone()]).await;
    assert_eq!(refused, Err(AppendError::Refused(Refusal::DiskLow)));
    assert_eq!(read_all(&*engine, 0).await.len(), 1);
    limit(1 << 20).await.unwrap();
    engine.watch_acceptance().wait_for(|now| *now == Acceptance::Accepting).await.unwrap();
    assert_eq!(engine.append(vec![item(3), large]).await.unwrap(), [Appended::New(2), Appended::New(3)]);
}

#[tokio::test]
async fn another_programs_lock_is_busy_and_passes() {
    let mut world = World::new();
    let engine = world.open();
    let shell = Connection::open(world.file("gateway.db")).unwrap();
    shell.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(engine.append(vec![item(1)]).await, Err(AppendError::Busy));
    shell.execute_batch("ROLLBACK").unwrap();
    assert_eq!(append(&engine, [2]).await, [Appended::New(1)]);
}
