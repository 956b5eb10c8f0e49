//! What the objectives of sending are measured by (`docs/operations.md`).

use serde_json::json;
use whatsapp_gateway::contract::v1;

use crate::support::Gateway;
use crate::support::rpc::{OPEN, queued, text_to};

/// The value of a series, which must be there.
async fn value(gateway: &Gateway, series: &str) -> f64 {
    let (_, metrics) = gateway.admin("/metrics").await;
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{series} is missing in\n{metrics}")).parse().unwrap()
}

async fn answers(gateway: &Gateway, reason: &str) -> f64 {
    value(gateway, &format!("whatsapp_gateway_send_answers_total{{reason=\"{reason}\"}}")).await
}

#[tokio::test]
async fn answers_are_counted_by_their_reason() {
    let gateway = Gateway::dev().await;
    for reason in ["OK", "INTERNAL", "EVENT_STORE_UNAVAILABLE", "NO_LEADER", "LOCAL_RATE_LIMIT"] {
        assert_eq!(answers(&gateway, reason).await.to_string(), "0", "{reason}");
    }
    gateway.send(text_to(OPEN, "Hello")).await;
    gateway.send(queued("order", OPEN, "Hello")).await;
    gateway.refused(v1::SendMessageRequest::default()).await;
    let key = "on-a-stream".to_owned();
    let message = Some(v1::SendMessageRequest::default());
    let request = v1::SendMessagesRequest { key, message, ..Default::default() };
    let requests = futures_util::stream::iter([request.clone(), request]);
    let mut stream = gateway.client().await.send_messages(requests).await.unwrap().into_inner();
    while stream.message().await.unwrap().is_some() {}
    assert_eq!(answers(&gateway, "OK").await.to_string(), "2");
    assert_eq!(answers(&gateway, "VALIDATION_FAILED").await.to_string(), "3");
    assert_eq!(answers(&gateway, "INTERNAL").await.to_string(), "0");
}

#[tokio::test]
async fn neither_meta_nor_the_wait_for_a_turn_is_time_of_the_gateway() {
    let gateway = Gateway::builder().env("WHATSAPP_GATEWAY__SENDING__MESSAGES_PER_SECOND", "1").start().await;
    let slow = json!({"match": {"path_suffix": "/messages"}, "count": 10, "fault": {"delay_ms": 1000}});
    gateway.simulate("faults", &slow).await;
    let (first, second) = (text_to(OPEN, "Hello"), text_to(OPEN, "Hello again"));
    tokio::join!(gateway.send(first), gateway.send(second));
    assert_eq!(value(&gateway, "whatsapp_gateway_send_overhead_seconds_count").await.to_string(), "2");
    // Meta took two seconds for them, and the second waited another one for its turn.
    let spent = value(&gateway, "whatsapp_gateway_send_overhead_seconds_sum").await;
    assert!(spent < 1.0, "{spent} s");
    // What Meta is not asked about is not measured.
    gateway.refused(v1::SendMessageRequest::default()).await;
    assert_eq!(value(&gateway, "whatsapp_gateway_send_overhead_seconds_count").await.to_string(), "2");
}
