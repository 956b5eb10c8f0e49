//! The data folder: one process at a time, writable, with room; and what happens when the room runs out.

use std::path::Path;

use serde_json::json;
use tempfile::TempDir;
use tokio::time::Instant;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use whatsapp_gateway::contract::v1;

use crate::eventually;
use crate::support::webhook::{PHONE_NUMBER_ID, text};
use crate::support::{Gateway, Subscriber, subscriber};

const USER: &str = "16505551234";
const MIB: usize = 1024 * 1024;

async fn post(gateway: &Gateway, id: &str, body: &str) -> u16 {
    gateway.post_webhook(text(id, USER, body).to_string()).await
}

async fn health(gateway: &Gateway, service: &str) -> ServingStatus {
    let mut client = HealthClient::new(gateway.endpoint().connect().await.unwrap());
    let request = HealthCheckRequest { service: service.to_owned() };
    client.check(request).await.unwrap().into_inner().status()
}

/// The webhook is refused, and nothing else is.
async fn check_refusing(gateway: &Gateway) {
    eventually!(gateway.admin("/readyz/ingress").await.0 == 503);
    assert_eq!(gateway.admin("/readyz").await, (200, "ready\ningress: refusing\n".to_owned()));
    eventually!(health(gateway, "whatsapp.gateway.ingress").await == ServingStatus::NotServing);
    for service in ["", "whatsapp.gateway.v1.GatewayService"] {
        assert_eq!(health(gateway, service).await, ServingStatus::Serving, "{service}");
    }
    assert!(gateway.log().contains("the event store refuses writes"));
    // Sends go on; their statuses wait at the sender of webhooks.
    let recipient =
        v1::Recipient { address: Some(v1::recipient::Address::PhoneNumber("+15550000013".to_owned())) };
    let text = v1::Text { body: "Hi".to_owned(), preview_url: false };
    let request = v1::SendMessageRequest {
        recipient: Some(recipient),
        content: Some(v1::send_message_request::Content::Text(text)),
        ..Default::default()
    };
    let sent = gateway.client().await.send_message(request).await.unwrap().into_inner();
    assert_eq!(sent.state(), v1::SendState::Accepted);
}

#[tokio::test]
async fn a_folder_in_use_is_refused_and_says_who_holds_it() {
    let folder = TempDir::new().unwrap();
    let data_dir = folder.path().join("data");
    let mut first = Gateway::builder().data_dir(&data_dir).start().await;
    assert_eq!(post(&first, "wamid.1", "Hi").await, 200);

    let started = Instant::now();
    let (code, log) = Gateway::builder().data_dir(&data_dir).run_to_end().await;
    assert_eq!(code, Some(1), "{log}");
    assert!(started.elapsed().as_secs() < 5, "it took {:?}", started.elapsed());
    let holder = format!("is held by pid {} on ", first.child.id().unwrap());
    assert!(log.contains(&holder) && log.contains(first.data_dir.to_str().unwrap()), "{log}");
    assert_eq!(post(&first, "wamid.2", "Hi").await, 200, "the first must not notice");

    // The lock ends with its process, however that ends.
    first.kill().await;
    let second = Gateway::builder().data_dir(&data_dir).start().await;
    assert_eq!(second.events().await.len(), 2);
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let data_dir = folder.path().join("file/data");
    let (code, log) = Gateway::builder().data_dir(&data_dir).run_to_end().await;
    assert_eq!(code, Some(1), "{log}");
    let path = data_dir.to_str().unwrap();
    assert!(log.contains(&format!("{path} cannot be written")) && log.contains("data_dir"), "{log}");
    assert!(!log.contains("panicked"), "{log}");
}

#[tokio::test]
async fn a_database_of_another_program_is_left_alone() {
    let folder = TempDir::new().unwrap();
    let database = folder.path().join("gateway.db");
    let connection = rusqlite::Connection::open(&database).unwrap();
    connection.execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1);").unwrap();
    drop(connection);
    let before = std::fs::read(&database).unwrap();
    let (code, log) = Gateway::builder().data_dir(folder.path()).run_to_end().await;
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("belongs to another program"), "{log}");
    assert_eq!(std::fs::read(&database).unwrap(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_size_limit_webhooks_are_refused_and_nothing_is_deleted() {
    let folder = TempDir::new().unwrap();
    let builder = || Gateway::builder().data_dir(folder.path());
    let mut gateway = builder().env("WHATSAPP_GATEWAY__STORAGE__SIZE_MAX", "64 MiB").start().await;
    let mut client = gateway.client().await;
    let mut live = Subscriber::open(&mut client, subscriber::from_earliest()).await.unwrap();
    let large = "x".repeat(17 * MIB / 10);
    let mut accepted = 0;
    loop {
        match post(&gateway, &format!("wamid.{accepted}"), &large).await {
            200 => accepted += 1,
            503 => break,
            status => panic!("{status}"),
        }
        assert!(accepted < 64, "it takes more than it may keep");
        assert_eq!(live.take(1).await.unwrap()[0].subject, format!("wamid.{}", accepted - 1));
    }
    eprintln!("refused after {accepted} bodies of 1.7 MiB");
    check_refusing(&gateway).await;
    assert_eq!(post(&gateway, "wamid.small", "Hi").await, 503, "small ones too");
    assert_eq!(gateway.events().await.len(), accepted, "what is stored can be read");

    // A larger limit ends it; the log is as it was.
    assert_eq!(gateway.terminate().await, Some(0));
    let gateway = builder().start().await;
    assert_eq!(post(&gateway, "wamid.small", "Hi").await, 200);
    assert_eq!(gateway.events().await.len(), accepted + 1);
}

/// A disk of its own, as only Linux gives without privileges; where it does not, the test says so and is skipped.
async fn on_small_disk(mount: &Path, megabytes: u32) -> Option<Gateway> {
    let script = format!("mount -t tmpfs -o size={megabytes}m tmpfs {} && exec \"$@\"", mount.display());
    let wrapper = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"];
    let trial = std::process::Command::new(wrapper[0]).args(&wrapper[1..]).arg("true").status();
    if !trial.is_ok_and(|status| status.success()) {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "CI needs unshare and tmpfs");
        eprintln!("skipped: no disk of its own without privileges here");
        return None;
    }
    Some(
        Gateway::builder()
            .under(&wrapper)
            .data_dir(&mount.join("data"))
            .env("WHATSAPP_GATEWAY__STORAGE__FREE_MIN", "64 MiB")
            .start()
            .await,
    )
}

#[tokio::test]
async fn a_disk_that_fills_up_refuses_webhooks_until_there_is_room() {
    let mount = TempDir::new().unwrap();
    let Some(gateway) = on_small_disk(mount.path(), 160).await else { return };
    let mut client = gateway.client().await;
    let mut live = Subscriber::open(&mut client, subscriber::from_earliest()).await.unwrap();
    assert_eq!(post(&gateway, "wamid.1", "Hi").await, 200);
    assert_eq!(live.take(1).await.unwrap()[0].subject, "wamid.1");

    // Another program fills the disk, seen through the process because the disk is its own.
    let pid = gateway.child.id().unwrap();
    let filler = format!("/proc/{pid}/root{}/filler", mount.path().display());
    std::fs::write(&filler, vec![1; 110 * MIB]).unwrap();
    check_refusing(&gateway).await;
    assert_eq!(post(&gateway, "wamid.2", "Hi").await, 503);
    assert_eq!(gateway.events().await.len(), 1);

    std::fs::remove_file(&filler).unwrap();
    eventually!(gateway.admin("/readyz/ingress").await.0 == 200);
    eventually!(health(&gateway, "whatsapp.gateway.ingress").await == ServingStatus::Serving);
    assert_eq!(post(&gateway, "wamid.2", "Hi").await, 200);
    assert_eq!(live.take(1).await.unwrap()[0].subject, "wamid.2");
    assert!(gateway.log().contains("the event store accepts writes again"));
}

#[tokio::test]
async fn a_disk_below_the_mark_is_refused_from_the_start() {
    let gateway = Gateway::builder().env("WHATSAPP_GATEWAY__STORAGE__FREE_MIN", "1048576 GiB").start().await;
    assert_eq!(post(&gateway, "wamid.1", "Hi").await, 503);
    check_refusing(&gateway).await;
    // What Meta cannot deliver it keeps: a user's message stays with the sender of webhooks.
    gateway
        .simulate("messages", &json!({"from": USER, "text": "Hi", "phone_number_id": PHONE_NUMBER_ID}))
        .await;
    assert!(gateway.events().await.is_empty());
}
