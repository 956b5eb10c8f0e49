//! `SendMessage` when Meta refuses, is out of order, or leaves the outcome open.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};
use tonic::Code;
use whatsapp_gateway::contract::v1;

use crate::eventually;
use crate::support::rpc::{OPEN, Refusal, send, text, text_to};
use crate::support::{Gateway, Serve};

/// Meta's code and HTTP status; our code, the reason, who must act, and after how many seconds to try again.
type Row = (u32, Option<u16>, Code, &'static str, &'static str, Option<u64>);

/// Of a caller who leaves time for one or two retries.
const PATIENCE: Duration = Duration::from_millis(4500);

/// Refusals of every class.
#[rustfmt::skip]
const REFUSALS: &[Row] = &[
    (131_030, None, Code::FailedPrecondition, "RECIPIENT_NOT_ALLOWED", "operator", None),
    (130_497, None, Code::FailedPrecondition, "RECIPIENT_NOT_ALLOWED", "operator", None),
    (131_026, None, Code::FailedPrecondition, "RECIPIENT_UNREACHABLE", "recipient", None),
    (131_050, None, Code::FailedPrecondition, "RECIPIENT_OPTED_OUT", "recipient", None),
    (131_047, None, Code::FailedPrecondition, "WINDOW_CLOSED", "caller", None),
    (132_000, None, Code::InvalidArgument, "TEMPLATE_PARAMETERS", "caller", None),
    (132_001, None, Code::NotFound, "TEMPLATE_NOT_FOUND", "caller", None),
    (132_015, None, Code::FailedPrecondition, "TEMPLATE_NOT_SENDABLE", "operator", None),
    (132_016, None, Code::FailedPrecondition, "TEMPLATE_NOT_SENDABLE", "caller", None),
    (132_021, Some(400), Code::AlreadyExists, "UPSTREAM_CONFLICT", "caller", None),
    (131_053, None, Code::InvalidArgument, "MEDIA_REJECTED", "caller", None),
    (130_429, None, Code::ResourceExhausted, "UPSTREAM_THROUGHPUT", "caller", Some(60)),
    (131_056, None, Code::ResourceExhausted, "UPSTREAM_PAIR_RATE", "caller", Some(60)),
    (80_007, None, Code::ResourceExhausted, "UPSTREAM_ACCOUNT_RATE", "caller", Some(60)),
    (4, None, Code::ResourceExhausted, "UPSTREAM_ACCOUNT_RATE", "caller", Some(60)),
    (131_048, None, Code::ResourceExhausted, "UPSTREAM_QUALITY_LIMIT", "operator", None),
    (131_049, None, Code::ResourceExhausted, "UPSTREAM_QUALITY_LIMIT", "meta", Some(86_400)),
    (190, None, Code::FailedPrecondition, "UPSTREAM_CREDENTIALS", "operator", None),
    (10, None, Code::FailedPrecondition, "UPSTREAM_CREDENTIALS", "operator", None),
    (200, None, Code::FailedPrecondition, "UPSTREAM_CREDENTIALS", "operator", None),
    (299, Some(403), Code::FailedPrecondition, "UPSTREAM_CREDENTIALS", "operator", None),
    (3, None, Code::FailedPrecondition, "UPSTREAM_CREDENTIALS", "operator", None),
    (0, None, Code::FailedPrecondition, "UPSTREAM_CREDENTIALS", "operator", None),
    (131_005, None, Code::FailedPrecondition, "UPSTREAM_CREDENTIALS", "operator", None),
    (368, None, Code::FailedPrecondition, "UPSTREAM_ACCOUNT", "operator", None),
    (131_031, None, Code::FailedPrecondition, "UPSTREAM_ACCOUNT", "operator", None),
    (131_042, None, Code::FailedPrecondition, "UPSTREAM_ACCOUNT", "operator", None),
    (131_045, None, Code::FailedPrecondition, "UPSTREAM_ACCOUNT", "operator", None),
    (131_057, Some(400), Code::Unavailable, "UPSTREAM_UNAVAILABLE", "meta", Some(60)),
    (131_055, None, Code::FailedPrecondition, "UPSTREAM_FEATURE", "operator", None),
    (100, None, Code::InvalidArgument, "UPSTREAM_INVALID_PARAMETER", "caller", None),
    (131_008, None, Code::InvalidArgument, "UPSTREAM_INVALID_PARAMETER", "caller", None),
    (131_021, None, Code::InvalidArgument, "UPSTREAM_INVALID_PARAMETER", "caller", None),
    (33, None, Code::NotFound, "UPSTREAM_NOT_FOUND", "caller", None),
    (803, None, Code::NotFound, "UPSTREAM_NOT_FOUND", "caller", None),
    (130_501, Some(400), Code::Unimplemented, "UPSTREAM_REFUSED", "meta", None),
    (999_999, Some(400), Code::InvalidArgument, "UPSTREAM_REFUSED", "caller", None),
    (999_999, Some(404), Code::NotFound, "UPSTREAM_NOT_FOUND", "caller", None),
    (999_999, Some(409), Code::Aborted, "UPSTREAM_CONFLICT", "caller", Some(60)),
    (999_999, Some(429), Code::ResourceExhausted, "UPSTREAM_ACCOUNT_RATE", "caller", Some(60)),
    (999_999, Some(401), Code::FailedPrecondition, "UPSTREAM_CREDENTIALS", "operator", None),
];

#[tokio::test]
async fn every_class_of_refusal_is_told_apart() {
    // Each at a gateway of its own: some of them stop a number for a while.
    let refusals = REFUSALS.iter().map(|row| refused_so(*row));
    futures_util::stream::iter(refusals).buffer_unordered(4).collect::<Vec<()>>().await;
}

async fn refused_so((code, http_status, expected, reason, actor, retry): Row) {
    let gateway = Gateway::dev().await;
    let error = match http_status {
        Some(status) => json!({"code": code, "http_status": status, "details": "why so"}),
        None => json!({"code": code, "details": "why so"}),
    };
    // Where waiting helps, Meta wants more of it than there is time, so that each is tried exactly once.
    let may_wait = matches!(code, 130_429 | 131_056);
    let fault = if may_wait { json!({"error": error, "retry_after": 60}) } else { json!({"error": error}) };
    gateway.fault("/messages", fault).await;
    let refusal = gateway.refused(send(text("Hello"))).await;
    assert_eq!(refusal.is(), (expected, reason), "{code} {http_status:?}");
    assert_eq!(refusal.actor(), actor, "{code}");
    assert_eq!(refusal.metadata["meta_code"], code.to_string());
    assert!(!refusal.metadata["fbtrace_id"].is_empty(), "{code}");
    assert_eq!(refusal.retry, retry.map(Duration::from_secs), "{code}");
    assert!(refusal.message.contains("why so"), "{}", refusal.message);
    assert!(!refusal.metadata.contains_key("send_tag"), "{code}: a refusal is certain");
    assert_eq!(refusal.has_help, code == 131_047);
    assert_eq!(gateway.sent_bodies().await.len(), 1, "{code} was tried exactly once");
    assert!(gateway.statuses().await.is_empty());
}

#[tokio::test]
async fn subcodes_and_stated_delays_count() {
    let gateway = Gateway::dev().await;
    gateway.without_limits().await;
    gateway.fault("/messages", json!({"error": {"code": 100, "subcode": 33}})).await;
    let refusal = gateway.refused(send(text("Hello"))).await;
    assert_eq!(refusal.is(), (Code::NotFound, "UPSTREAM_NOT_FOUND"));
    assert_eq!(refusal.metadata["meta_subcode"], "33");
    let transient = json!({"code": 999_999, "http_status": 400, "transient": true});
    gateway.fault("/messages", json!({"error": transient})).await;
    assert_unknown(&gateway.refused(send(text("Hello"))).await);
    gateway.fault("/messages", json!({"error": {"code": 130_429}, "retry_after": 70})).await;
    let refusal = gateway.refused(send(text("Hello"))).await;
    assert_eq!(refusal.retry, Some(Duration::from_secs(70)));
    // Meta wants to be left alone, and is.
    let refusal = gateway.refused(send(text("Hello"))).await;
    assert_eq!(refusal.is(), (Code::ResourceExhausted, "LOCAL_RATE_LIMIT"));
    assert!(refusal.retry.is_some_and(|retry| retry > Duration::from_secs(30)), "{:?}", refusal.retry);
    assert_eq!(gateway.sent_bodies().await.len(), 3);
}

#[tokio::test]
async fn magic_recipients_and_real_limits_refuse() {
    let gateway = Gateway::dev().await;
    for (number, expected, reason) in [
        ("+15550131030", Code::FailedPrecondition, "RECIPIENT_NOT_ALLOWED"),
        ("+15550130429", Code::ResourceExhausted, "UPSTREAM_THROUGHPUT"),
        ("+15550131056", Code::ResourceExhausted, "UPSTREAM_PAIR_RATE"),
        ("+15550132001", Code::NotFound, "TEMPLATE_NOT_FOUND"),
    ] {
        let refusal = gateway.refused_within(text_to(number, "Hello"), PATIENCE).await;
        assert_eq!(refusal.is(), (expected, reason), "{number}");
    }
    // Nothing but the sender's own number, and a template that does not exist.
    let refusal = gateway.refused(text_to("+15550783881", "Hello")).await;
    assert_eq!(refusal.metadata["meta_code"], "131021");
    gateway.simulate("limits", &json!({"pair_burst": 1})).await;
    gateway.send(text_to(OPEN, "Hello")).await;
    let refusal = gateway.refused_within(text_to(OPEN, "Hello"), PATIENCE).await;
    assert_eq!(refusal.is(), (Code::ResourceExhausted, "UPSTREAM_PAIR_RATE"));
}

fn assert_unknown(refusal: &Refusal) {
    assert_eq!(refusal.is(), (Code::Unknown, "SEND_OUTCOME_UNKNOWN"), "{refusal:?}");
    assert_eq!(refusal.metadata["send_tag"].len(), 22);
    assert_eq!(refusal.actor(), "caller");
    assert_eq!(refusal.retry, None, "clients must not resend by themselves");
}

#[tokio::test]
async fn what_may_have_gone_out_is_unknown_and_never_unavailable() {
    let request_timeout = "WHATSAPP_GATEWAY__CLOUD_API__REQUEST_TIMEOUT";
    let gateway = Gateway::builder().env(request_timeout, "1 s").start().await;
    gateway.without_limits().await;
    let html = "<html><body>Bad Gateway</body></html>";
    let faults: Vec<Value> = vec![
        json!({"error": {"code": 131_000}}),
        json!({"error": {"code": 1}}),
        json!({"error": {"code": 2}}),
        json!({"error": {"code": 131_016}}),
        json!({"error": {"code": 999_999, "http_status": 500}}),
        json!({"http": {"status": 502, "body": html}}),
        json!({"http": {"status": 503, "body": ""}}),
        json!({"http": {"status": 500, "body": "{\"error\":", "content_type": "application/json"}}),
        json!({"http": {"status": 302, "body": ""}}),
        json!({"http": {"status": 200, "body": "", "content_type": "application/json"}}),
        json!({"http": {"status": 200, "body": html}}),
        json!({"http": {"status": 200, "body": "{\"messages\":[]}", "content_type": "application/json"}}),
        json!({"http": {"status": 408, "body": ""}}),
        json!({"cut": "before_acceptance"}),
        json!({"stall": true}),
    ];
    let count = faults.len();
    for fault in faults {
        gateway.fault("/messages", fault.clone()).await;
        let refusal = gateway.refused(send(text("Hello"))).await;
        assert_unknown(&refusal);
        assert!(!refusal.message.contains("<html>"), "{}", refusal.message);
        let code = fault.pointer("/error/code").map(ToString::to_string);
        assert_eq!(refusal.metadata.get("meta_code"), code.as_ref(), "{fault}");
    }
    assert_eq!(gateway.sent_bodies().await.len(), count, "nothing is sent again blindly");
}

#[tokio::test]
async fn a_status_with_the_tag_settles_an_unknown_outcome() {
    let request_timeout = "WHATSAPP_GATEWAY__CLOUD_API__REQUEST_TIMEOUT";
    let gateway = Gateway::builder().env(request_timeout, "1 s").start().await;
    // Later than the answers, or they would be known by then.
    let delays = json!({"sent_ms": 2000, "delivered_ms": 2100, "read_ms": 2200});
    gateway.simulate("delays", &delays).await;
    let mut tags = Vec::new();
    // Error though accepted, cut after acceptance, no answer after acceptance.
    for number in ["+15550000006", "+15550000010", "+15550000012"] {
        let request =
            v1::SendMessageRequest { callback_data: "order=7".to_owned(), ..text_to(number, "Hello") };
        let refusal = gateway.refused(request).await;
        assert_unknown(&refusal);
        tags.push(refusal.metadata["send_tag"].clone());
    }
    // Error and cut, not accepted: these say the same, and no status ever comes.
    for number in ["+15550000005", "+15550000011"] {
        assert_unknown(&gateway.refused(text_to(number, "Hello")).await);
    }
    eventually!(gateway.statuses().await.len() == 9);
    let statuses = gateway.statuses().await;
    for tag in &tags {
        let mine: Vec<_> = statuses.iter().filter(|status| &status.send_tag == tag).collect();
        assert_eq!(mine.len(), 3, "{tag}");
        assert!(mine.iter().all(|status| status.callback_data == "order=7"));
    }
}

#[tokio::test]
async fn what_never_left_is_unavailable() {
    // Bound and not listening: connections are refused, and nobody else takes the port.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    let Serve { gateway, .. } = &Serve::builder().graph_url(url).start().await;
    let phone_number_id = crate::support::webhook::PHONE_NUMBER_ID.to_owned();
    let request = v1::SendMessageRequest { phone_number_id, ..send(text("Hello")) };
    let refusal = gateway.refused_within(request, PATIENCE).await;
    assert_eq!(refusal.is(), (Code::Unavailable, "UPSTREAM_UNREACHABLE"));
    assert!(refusal.retry.is_some());
    assert!(!refusal.metadata.contains_key("send_tag"));
}

#[tokio::test]
async fn a_closed_window_shows_in_a_status_with_its_verdict() {
    let gateway = Gateway::dev().await;
    let sent = gateway.send(text_to("+16505551234", "Hello")).await;
    assert_eq!(sent.state(), v1::SendState::Accepted);
    eventually!(gateway.statuses().await.len() == 1);
    let status = gateway.statuses().await.remove(0);
    assert_eq!((status.status.as_str(), &status.send_tag), ("failed", &sent.send_tag));
    let error = &status.errors[0];
    assert_eq!(error.code, 131_047);
    let verdict = error.verdict.as_ref().unwrap();
    assert_eq!((verdict.reason.as_str(), verdict.actor.as_str()), ("WINDOW_CLOSED", "caller"));
}

#[tokio::test]
async fn held_and_late_answers_are_told_apart() {
    let gateway = Gateway::dev().await;
    assert_eq!(gateway.send(text_to("+15550000007", "Hello")).await.state(), v1::SendState::Held);
    gateway.simulate("delays", &json!({"slow_answer_ms": 1500})).await;
    let late = gateway.refused_within(text_to("+15550000004", "Hello"), Duration::from_secs(1)).await;
    assert_unknown(&late);
    assert!(late.message.contains("before the deadline"), "{}", late.message);
    // The caller is gone; the send goes on.
    eventually!(gateway.statuses().await.len() == 6);
}
