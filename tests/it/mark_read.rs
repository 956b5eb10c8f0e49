//! `MarkMessageRead`: what Meta gets, and that every failure of Meta's may be repeated.

use serde_json::{Value, json};
use tonic::Code;
use whatsapp_gateway::contract::v1;

use crate::support::serve::SECOND_NUMBER;
use crate::support::{Gateway, Refusal, Serve, webhook};

fn read(message_id: &str) -> v1::MarkMessageReadRequest {
    v1::MarkMessageReadRequest { message_id: message_id.to_owned(), ..Default::default() }
}

async fn refused(gateway: &Gateway, request: v1::MarkMessageReadRequest) -> Refusal {
    Refusal::of(&gateway.client().await.mark_message_read(request).await.unwrap_err())
}

async fn received(gateway: &Gateway) -> String {
    let message = gateway.simulate("messages", &json!({"from": "16505551234", "text": "Hi"})).await;
    message["message_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_message_is_marked_with_and_without_typing() {
    let gateway = Gateway::dev().await;
    let id = received(&gateway).await;
    for is_typing in [false, true, true] {
        let request = v1::MarkMessageReadRequest { typing_indicator: is_typing, ..read(&id) };
        gateway.client().await.mark_message_read(request).await.unwrap();
        let mut expected = json!({"messaging_product": "whatsapp", "status": "read", "message_id": id});
        if is_typing {
            expected["typing_indicator"] = json!({"type": "text"});
        }
        assert_eq!(gateway.sent_bodies().await.pop().unwrap(), expected);
    }
}

#[tokio::test]
async fn failures_of_meta_may_be_repeated() {
    let gateway = Gateway::builder().env("WHATSAPP_GATEWAY__CLOUD_API__REQUEST_TIMEOUT", "1 s").start().await;
    let id = received(&gateway).await;
    let faults: [Value; 7] = [
        json!({"error": {"code": 131_000}}),
        json!({"error": {"code": 999_999, "http_status": 500}}),
        json!({"http": {"status": 502, "body": "<html>"}}),
        json!({"http": {"status": 200, "body": "{\"success\":false}", "content_type": "application/json"}}),
        json!({"cut": "before_acceptance"}),
        json!({"cut": "after_acceptance"}),
        json!({"stall": true}),
    ];
    for fault in faults {
        gateway.fault("/messages", fault.clone()).await;
        let refusal = refused(&gateway, read(&id)).await;
        assert_eq!(refusal.is(), (Code::Unavailable, "UPSTREAM_UNAVAILABLE"), "{fault}");
        assert!(refusal.retry.is_some(), "{fault}");
        assert_eq!(refusal.actor(), "meta");
    }
    gateway.fault("/messages", json!({"error": {"code": 190}})).await;
    assert_eq!(refused(&gateway, read(&id)).await.is(), (Code::FailedPrecondition, "UPSTREAM_CREDENTIALS"));
    gateway.client().await.mark_message_read(read(&id)).await.unwrap();
}

#[tokio::test]
async fn bad_requests_are_refused() {
    let Serve { gateway, .. } = &Serve::start().await;
    let refusal = refused(gateway, read("")).await;
    assert_eq!(refusal.is(), (Code::InvalidArgument, "VALIDATION_FAILED"));
    assert_eq!(refusal.fields(), ["message_id", "phone_number_id"]);
    assert!(refusal.message.contains(SECOND_NUMBER), "{}", refusal.message);
    for bad in ["a b", "ä", &"x".repeat(513)] {
        let request =
            v1::MarkMessageReadRequest { phone_number_id: webhook::PHONE_NUMBER_ID.to_owned(), ..read(bad) };
        assert_eq!(refused(gateway, request).await.fields(), ["message_id"]);
    }
    let unknown = v1::MarkMessageReadRequest { phone_number_id: "1".to_owned(), ..read("wamid.A") };
    let refusal = refused(gateway, unknown).await;
    assert_eq!(refusal.is(), (Code::NotFound, "PHONE_NUMBER_NOT_CONFIGURED"));
    let second = v1::MarkMessageReadRequest { phone_number_id: SECOND_NUMBER.to_owned(), ..read("wamid.A") };
    let refusal = refused(gateway, second).await;
    assert_eq!(refusal.is(), (Code::InvalidArgument, "UPSTREAM_INVALID_PARAMETER"));
    assert_eq!(refusal.metadata["meta_code"], "131009");
}
