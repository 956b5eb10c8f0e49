//! 200 means durable: not before the sync, not after a failed one, and a disk that fails ends the process.
#![cfg(target_os = "linux")]

use std::collections::BTreeSet;

use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::eventually;
use crate::support::disk::FaultyDisk;
use crate::support::webhook::{Sender, text};
use crate::support::{Gateway, Subscriber, subscriber};

/// `EX_IOERR`.
const EXIT_STORAGE: i32 = 74;
const POSTERS: usize = 16;

/// Posts until it is refused; returns the ids that were acknowledged, and how it was refused.
async fn post_until_refused(sender: Sender, name: String, limit: usize) -> (Vec<String>, Option<u16>) {
    let mut acknowledged = Vec::new();
    for number in 0..limit {
        let id = format!("wamid.{name}.{number}");
        match sender.post(&text(&id, "16505551234", "Hi")).await {
            Some(200) => acknowledged.push(id),
            refused => return (acknowledged, refused),
        }
    }
    panic!("{name} was never refused")
}

async fn stored(data_dir: &std::path::Path) -> BTreeSet<String> {
    let gateway = Gateway::builder().data_dir(data_dir).start().await;
    gateway.events().await.into_iter().map(|event| event.subject).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_200_follows_a_failed_sync() {
    let disk = FaultyDisk::of("gateway.db-wal");
    let folder = TempDir::new().unwrap();
    let data_dir = folder.path().join("data");
    let mut gateway = disk.gateway().data_dir(&data_dir).start().await;
    assert_eq!(gateway.post_webhook(text("wamid.before", "16505551234", "Hi").to_string()).await, 200);
    let mut acknowledged = BTreeSet::from(["wamid.before".to_owned()]);

    // Some are on their way when the disk begins to fail, the others come after it.
    let (mut across, mut later) = (JoinSet::new(), JoinSet::new());
    for poster in 0..POSTERS {
        across.spawn(post_until_refused(gateway.sender(), format!("across.{poster}"), 100_000));
    }
    eventually!(gateway.events().await.len() > POSTERS);
    disk.start("sync");
    for poster in 0..POSTERS {
        later.spawn(post_until_refused(gateway.sender(), format!("later.{poster}"), 100));
    }
    let failed = Instant::now();
    assert_eq!(gateway.wait().await, Some(EXIT_STORAGE), "{}", gateway.log());
    eprintln!("the process ended {:?} after the disk began to fail", failed.elapsed());

    let across = across.join_all().await;
    assert!(across.iter().any(|(_, refused)| *refused == Some(503)), "{across:?}");
    for (ids, refused) in across {
        assert!(matches!(refused, Some(503) | None), "{refused:?}");
        acknowledged.extend(ids);
    }
    for (ids, refused) in later.join_all().await {
        assert!(matches!(refused, Some(503) | None), "{refused:?}");
        assert!(ids.is_empty(), "200 after the disk began to fail: {ids:?}");
    }
    let stored = stored(&data_dir).await;
    assert!(acknowledged.is_subset(&stored), "lost: {:?}", acknowledged.difference(&stored));
    eprintln!("{} acknowledged, all of them stored", acknowledged.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_checkpoint_ends_the_process_and_loses_nothing() {
    let disk = FaultyDisk::of("gateway.db");
    let folder = TempDir::new().unwrap();
    let data_dir = folder.path().join("data");
    let mut gateway = disk.gateway().data_dir(&data_dir).start().await;
    disk.start("sync");
    let sender = gateway.sender();
    let large = "x".repeat(1024 * 1024);
    let mut acknowledged = BTreeSet::new();
    // A checkpoint is due after 16 MiB.
    let mut refused = None;
    for number in 0..64 {
        let id = format!("wamid.{number}");
        match sender.post(&text(&id, "16505551234", &large)).await {
            Some(200) => acknowledged.insert(id),
            other => {
                refused = Some(other);
                break;
            }
        };
    }
    assert!(matches!(refused, Some(Some(503) | None)), "{refused:?}");
    assert_eq!(gateway.wait().await, Some(EXIT_STORAGE), "{}", gateway.log());
    assert!(!acknowledged.is_empty());
    let stored = stored(&data_dir).await;
    assert!(acknowledged.is_subset(&stored), "lost: {:?}", acknowledged.difference(&stored));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_200_before_the_sync() {
    let disk = FaultyDisk::of("gateway.db-wal");
    let gateway = disk.gateway().start().await;
    let mut client = gateway.client().await;
    let mut subscriber = Subscriber::open(&mut client, subscriber::from_earliest()).await.unwrap();
    disk.start("hold");
    let sender = gateway.sender();
    let mut post = JoinSet::new();
    post.spawn(async move { sender.post(&text("wamid.held", "16505551234", "Hi")).await });
    eventually!(disk.is_held());
    // Plenty of time for an answer, or for an event, to come too early.
    for _ in 0..100 {
        assert_eq!(gateway.admin("/livez").await.0, 200);
    }
    assert!(post.try_join_next().is_none(), "answered before the sync");
    assert!(gateway.events().await.is_empty(), "delivered before the sync");
    disk.stop("hold");
    assert_eq!(post.join_next().await.unwrap().unwrap(), Some(200));
    assert_eq!(subscriber.take(1).await.unwrap()[0].subject, "wamid.held");
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers_by_itself() {
    let disk = FaultyDisk::of("gateway.db-wal");
    let gateway = disk.gateway().start().await;
    let post = async |id: &str| gateway.post_webhook(text(id, "16505551234", "Hi").to_string()).await;
    assert_eq!(post("wamid.1").await, 200);
    disk.start("full");
    assert_eq!(post("wamid.2").await, 503);
    assert_eq!(post("wamid.2").await, 503);
    assert!(gateway.log().contains("the event store refuses writes"), "{}", gateway.log());
    assert_eq!(gateway.events().await.len(), 1);
    disk.stop("full");
    eventually!(post("wamid.2").await == 200);
    let subjects: Vec<_> = gateway.events().await.into_iter().map(|event| event.subject).collect();
    assert_eq!(subjects, ["wamid.1", "wamid.2"]);
}
