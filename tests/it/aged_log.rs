//! Ends of streams that take time or bad luck, through a real channel: a log that a disk has damaged, and a stream that has
//! lived its time.

use std::path::Path;

use rusqlite::Connection;
use tempfile::TempDir;
use tonic::Code;
use whatsapp_gateway::contract::v1;
use whatsapp_gateway::contract::v1::subscribe_events_response::Frame;

use crate::support::Gateway;
use crate::support::rpc::Refusal;
use crate::support::subscriber::{self, Subscriber};
use crate::support::webhook::text;

/// Stores three events, stops, and runs this SQL on the database.
async fn stored(data_dir: &Path, sql: &str) -> Vec<v1::Event> {
    let mut gateway = Gateway::builder().data_dir(data_dir).start().await;
    for number in 1..=3 {
        let body = text(&format!("wamid.{number}"), "16505551234", "Hi").to_string();
        assert_eq!(gateway.post_webhook(body).await, 200);
    }
    let events = gateway.events().await;
    assert_eq!(gateway.terminate().await, Some(0));
    Connection::open(data_dir.join("gateway.db")).unwrap().execute_batch(sql).unwrap();
    events
}

#[tokio::test]
async fn a_damaged_log_is_unavailable_and_never_skipped() {
    let folder = TempDir::new().unwrap();
    let damage = "UPDATE events SET raw = zeroblob(length(raw)) WHERE seq = 2";
    let events = stored(folder.path(), damage).await;
    let gateway = Gateway::builder().data_dir(folder.path()).start().await;
    let mut client = gateway.client().await;
    let mut stream = Subscriber::open(&mut client, subscriber::after(&events[0].cursor)).await.unwrap();
    let mut closing = None;
    let status = loop {
        match stream.frame().await {
            Ok(Some(Frame::Closing(frame))) => closing = Some(frame),
            Ok(Some(Frame::Events(batch))) => panic!("served beyond the damage: {batch:?}"),
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended with OK"),
            Err(status) => break status,
        }
    };
    assert_eq!(Refusal::of(&status).is(), (Code::Unavailable, "EVENT_STORE_UNAVAILABLE"));
    let closing = closing.expect("a closing frame");
    assert_eq!(closing.reason(), v1::ClosingReason::EventStoreUnavailable);
    assert_eq!(closing.resume_cursor, events[0].cursor);
}

#[tokio::test]
async fn a_stream_that_has_lived_its_time_says_where_to_go_on() {
    let gateway = Gateway::builder().env("WHATSAPP_GATEWAY__EVENTS__ROTATION", "1 s").start().await;
    assert_eq!(gateway.post_webhook(text("wamid.1", "16505551234", "Hi").to_string()).await, 200);
    let mut client = gateway.client().await;
    let rest = Subscriber::open(&mut client, subscriber::from_earliest()).await.unwrap().rest().await;
    let status = rest.status.expect("it ends loudly");
    assert_eq!(Refusal::of(&status).is(), (Code::Unavailable, "STREAM_ROTATED"));
    let closing = rest.closing.expect("a closing frame");
    assert_eq!(closing.reason(), v1::ClosingReason::Rotation);
    assert_eq!(closing.resume_cursor, rest.events[0].cursor);
    assert_eq!(status_metadata(&status, "resume_cursor"), closing.resume_cursor);
}

fn status_metadata(status: &tonic::Status, key: &str) -> String {
    use tonic_types::StatusExt as _;
    status.get_details_error_info().unwrap().metadata[key].clone()
}
