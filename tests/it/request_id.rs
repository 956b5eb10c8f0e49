//! `request_id`: the same request is sent once, whoever asks how often, and whatever happens in between.

use std::time::Duration;

use serde_json::json;
use tonic::Code;
use whatsapp_gateway::contract::v1;

use crate::eventually;
use crate::support::rpc::{OPEN, send, text, text_to};
use crate::support::{Gateway, Serve};

/// A recipient whose answers take `slow_answer_ms`.
const SLOW: &str = "+15550000004";

fn request(id: &str, number: &str, body: &str) -> v1::SendMessageRequest {
    v1::SendMessageRequest { request_id: id.to_owned(), ..text_to(number, body) }
}

#[tokio::test]
async fn a_repeated_request_gets_the_stored_answer() {
    let gateway = Gateway::dev().await;
    let first = gateway.send(request("order-4521", OPEN, "Hello")).await;
    assert!(!first.replayed);
    let again = gateway.send(request("order-4521", OPEN, "Hello")).await;
    assert_eq!(again, v1::SendMessageResponse { replayed: true, ..first.clone() });
    // How it is answered is no part of the request.
    let shown = v1::SendMessageRequest { show_request: true, ..request("order-4521", OPEN, "Hello") };
    let shown = gateway.send(shown).await;
    assert!(shown.request_json.contains("Hello"));
    assert_eq!((shown.message_id, shown.replayed), (first.message_id.clone(), true));
    assert_eq!(gateway.sent_bodies().await.len(), 1);
    // Another id, and no id, are other messages.
    assert_ne!(gateway.send(request("order-4522", OPEN, "Hello")).await.message_id, first.message_id);
    assert!(!gateway.send(send(text("Hello"))).await.replayed);
    assert_eq!(gateway.sent_bodies().await.len(), 3);
}

#[tokio::test]
async fn another_request_under_the_id_is_refused() {
    let gateway = Gateway::dev().await;
    gateway.send(request("a", OPEN, "Hello")).await;
    for other in [
        request("a", OPEN, "Hallo"),
        request("a", "+15550000002", "Hello"),
        v1::SendMessageRequest { callback_data: "x".to_owned(), ..request("a", OPEN, "Hello") },
    ] {
        let refusal = gateway.refused(other).await;
        assert_eq!(refusal.is(), (Code::InvalidArgument, "REQUEST_ID_REUSED"));
        assert_eq!(refusal.fields(), ["request_id"]);
        assert_eq!(refusal.actor(), "caller");
    }
    assert_eq!(gateway.sent_bodies().await.len(), 1);
}

#[tokio::test]
async fn ids_and_what_needs_them_are_checked() {
    let gateway = Gateway::dev().await;
    for id in ["a b".to_owned(), "ä".to_owned(), "x".repeat(129), "a\n".to_owned()] {
        assert_eq!(gateway.refused(request(&id, OPEN, "Hello")).await.fields(), ["request_id"], "{id:?}");
    }
    let resend = v1::SendMessageRequest { on_unknown: v1::OnUnknown::Resend.into(), ..send(text("Hello")) };
    assert_eq!(gateway.refused(resend).await.fields(), ["on_unknown"]);
    // Checking claims nothing.
    let check = v1::SendMessageRequest { validate_only: true, ..request("a", OPEN, "Hello") };
    assert_eq!(gateway.send(check).await.state(), v1::SendState::Validated);
    assert!(gateway.sent_bodies().await.is_empty());
    assert!(!gateway.send(request(&"~".repeat(128), OPEN, "Hello")).await.replayed);
    assert!(!gateway.send(request("a", OPEN, "Hello")).await.replayed);
}

#[tokio::test]
async fn calls_at_once_are_one_send() {
    let gateway = Gateway::dev().await;
    gateway.simulate("delays", &json!({"slow_answer_ms": 500})).await;
    let calls = (0..20).map(|_| gateway.send(request("a", SLOW, "Hello")));
    let answers = futures_util::future::join_all(calls).await;
    assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
    assert!(answers.iter().all(|answer| answer.message_id == answers[0].message_id));
    assert_eq!(gateway.sent_bodies().await.len(), 1);
}

#[tokio::test]
async fn who_cannot_wait_asks_again() {
    let gateway = Gateway::dev().await;
    let later = 5000;
    let delays = json!({"slow_answer_ms": 1500, "sent_ms": later, "delivered_ms": later, "read_ms": later});
    gateway.simulate("delays", &delays).await;
    let refusal = gateway.refused_within(request("a", SLOW, "Hello"), Duration::from_millis(700)).await;
    assert_eq!(refusal.is(), (Code::Aborted, "REQUEST_IN_PROGRESS"));
    assert!(refusal.retry.is_some());
    let sent = gateway.send(request("a", SLOW, "Hello")).await;
    assert!(sent.replayed && !sent.message_id.is_empty());
    assert_eq!(gateway.sent_bodies().await.len(), 1);
}

#[tokio::test]
async fn who_cannot_wait_for_the_answer_hears_of_the_status() {
    let gateway = Gateway::dev().await;
    gateway.simulate("delays", &json!({"slow_answer_ms": 20_000, "sent_ms": 100})).await;
    let mut hurried = tonic::Request::new(request("a", SLOW, "Hello"));
    hurried.set_timeout(Duration::from_secs(3));
    let sent = gateway.client().await.send_message(hurried).await.unwrap().into_inner();
    assert_eq!(sent.message_id, gateway.statuses().await[0].id);
}

#[tokio::test]
async fn a_caller_who_hangs_up_finds_the_result() {
    let gateway = Gateway::dev().await;
    gateway.simulate("delays", &json!({"slow_answer_ms": 300})).await;
    let mut client = gateway.client().await;
    let mut call = Box::pin(client.send_message(request("a", SLOW, "Hello")));
    let sent = async { eventually!(gateway.sent_bodies().await.len() == 1) };
    tokio::select! {
        () = sent => {}
        answer = &mut call => panic!("{answer:?}"),
    }
    drop(call);
    assert!(gateway.send(request("a", SLOW, "Hello")).await.replayed);
    assert_eq!(gateway.sent_bodies().await.len(), 1);
}

#[tokio::test]
async fn what_was_refused_may_be_tried_again() {
    let gateway = Gateway::dev().await;
    gateway.fault("/messages", json!({"error": {"code": 131_008}})).await;
    let refusal = gateway.refused(request("a", OPEN, "Hello")).await;
    assert_eq!(refusal.is(), (Code::InvalidArgument, "UPSTREAM_INVALID_PARAMETER"));
    let refusal = gateway.refused(request("a", OPEN, "Hallo")).await;
    assert_eq!(refusal.is(), (Code::InvalidArgument, "REQUEST_ID_REUSED"), "also after a refusal");
    let sent = gateway.send(request("a", OPEN, "Hello")).await;
    assert!(!sent.replayed);
    assert!(gateway.send(request("a", OPEN, "Hello")).await.replayed);
    assert_eq!(gateway.sent_bodies().await.len(), 2);
}

#[tokio::test]
async fn without_a_store_nothing_is_sent_under_an_id() {
    let free_min = "WHATSAPP_GATEWAY__STORAGE__FREE_MIN";
    let gateway = Gateway::builder().env(free_min, "1000 TiB").start().await;
    let refusal = gateway.refused(request("a", OPEN, "Hello")).await;
    assert_eq!(refusal.is(), (Code::Unavailable, "EVENT_STORE_UNAVAILABLE"));
    assert!(refusal.retry.is_some());
    assert!(gateway.sent_bodies().await.is_empty());
    gateway.send(send(text("Hello"))).await;
}

#[tokio::test]
async fn answers_outlive_the_process() {
    let mut serve = Serve::start().await;
    let phone_number_id = crate::support::webhook::PHONE_NUMBER_ID.to_owned();
    let request = v1::SendMessageRequest { phone_number_id, ..request("a", OPEN, "Hello") };
    let sent = serve.gateway.send(request.clone()).await;
    eventually!(serve.gateway.statuses().await.len() == 3);
    serve.restart().await;
    let again = serve.gateway.send(request).await;
    assert_eq!((again.message_id, again.replayed), (sent.message_id, true));
    assert_eq!(serve.gateway.sent_bodies().await.len(), 1);
}

/// What certainly did not go out is tried again, by the gateway itself, as long as the caller waits.
#[tokio::test]
async fn throttled_sends_are_tried_again_inside_the_deadline() {
    let gateway = Gateway::dev().await;
    gateway.fault("/messages", json!({"error": {"code": 130_429}})).await;
    gateway.fault("/messages", json!({"error": {"code": 130_429}, "retry_after": 1})).await;
    gateway.send(send(text("Hello"))).await;
    assert_eq!(gateway.sent_bodies().await.len(), 3);
    // No time for another.
    gateway.fault("/messages", json!({"error": {"code": 130_429}, "retry_after": 3})).await;
    let refusal = gateway.refused_within(send(text("Hello")), Duration::from_secs(2)).await;
    assert_eq!(refusal.is(), (Code::ResourceExhausted, "UPSTREAM_THROUGHPUT"));
    assert_eq!(refusal.retry, Some(Duration::from_secs(3)));
    assert_eq!(gateway.sent_bodies().await.len(), 4);
}
