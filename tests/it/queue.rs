//! Queued sends: answered at once, sent in their time, reported once, whatever happens in between.

use std::time::{Duration, SystemTime};

use serde_json::json;
use tokio::time::Instant;
use tonic::Code;
use whatsapp_gateway::clock::{Clock, SystemClock};
use whatsapp_gateway::contract::v1::{self, MessageState, SendState};

use crate::eventually;
use crate::support::rpc::{OPEN, queued, text_to};
use crate::support::serve::SECOND_NUMBER;
use crate::support::{Gateway, Serve, gateway};

/// A recipient whose answers are cut off after acceptance.
const CUT: &str = "+15550000010";

fn ahead(duration: Duration) -> prost_types::Timestamp {
    (SystemClock.now() + duration).into()
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// The texts that the simulator was asked to send, in order.
async fn sent_texts(gateway: &Gateway) -> Vec<String> {
    let bodies = gateway.sent_bodies().await;
    bodies.iter().map(|body| body["text"]["body"].as_str().unwrap_or("template").to_owned()).collect()
}

/// What `GetMessage` says.
async fn by_request(gateway: &Gateway, request_id: &str) -> v1::Message {
    let key = Some(v1::get_message_request::Key::RequestId(request_id.to_owned()));
    let request = v1::GetMessageRequest { phone_number_id: String::new(), key };
    gateway.client().await.get_message(request).await.unwrap().into_inner().message.unwrap()
}

async fn reported(gateway: &Gateway, count: usize) -> Vec<(v1::Event, v1::SendReport)> {
    eventually!(gateway.send_reports().await.len() >= count);
    let reports = gateway.send_reports().await;
    assert_eq!(reports.len(), count, "more reports than sends: {reports:?}");
    reports
}

fn rate(per_second: u32) -> gateway::Builder {
    Gateway::builder().env("WHATSAPP_GATEWAY__SENDING__MESSAGES_PER_SECOND", &per_second.to_string())
}

#[tokio::test]
async fn it_is_answered_at_once_and_reported_when_it_was_sent() {
    let gateway = Gateway::dev().await;
    let request = v1::SendMessageRequest {
        callback_data: "order=4521".to_owned(),
        show_request: true,
        ..queued("order-4521", OPEN, "Hello")
    };
    let answer = gateway.send(request.clone()).await;
    assert_eq!((answer.state(), answer.replayed), (SendState::Queued, false));
    assert_eq!((answer.message_id.as_str(), answer.accept_time), ("", None));
    assert!(answer.request_json.contains("Hello"));
    assert_eq!(answer.send_tag.len(), 22);

    let (event, report) = reported(&gateway, 1).await.remove(0);
    assert_eq!(report.state(), MessageState::Accepted);
    assert_eq!((&report.send_tag, report.request_id.as_str()), (&answer.send_tag, "order-4521"));
    assert_eq!((report.caller.as_str(), report.callback_data.as_str()), ("local", "order=4521"));
    assert_eq!((report.failure, report.used_fallback), (None, false));
    assert!(report.queue_time.is_some());
    assert_eq!((event.r#type.as_str(), &event.subject), ("whatsapp.gateway.send", &report.message_id));
    assert_eq!((event.origin, event.raw_json.as_str()), (None, ""));
    assert_eq!(event.waba_id, "102290129340398");

    // Its statuses are of the same conversation and carry the tag.
    eventually!(gateway.statuses().await.len() == 3);
    assert!(gateway.statuses().await.iter().all(|status| status.send_tag == answer.send_tag));
    let keys: Vec<_> = gateway.events().await.into_iter().map(|event| event.conversation_key).collect();
    assert!(keys.iter().all(|key| *key == event.conversation_key && !key.is_empty()), "{keys:?}");

    let again = gateway.send(request.clone()).await;
    assert_eq!((again.state(), again.replayed), (SendState::Accepted, true));
    assert_eq!((&again.message_id, &again.send_tag), (&report.message_id, &answer.send_tag));
    let other = gateway.refused(queued("order-4521", OPEN, "Bye")).await;
    assert_eq!(other.is(), (Code::InvalidArgument, "REQUEST_ID_REUSED"));
    assert_eq!(sent_texts(&gateway).await, ["Hello"]);
    reported(&gateway, 1).await;
    let (_, metrics) = gateway.admin("/metrics").await;
    assert!(metrics.contains("whatsapp_gateway_queued_sends_total{outcome=\"accepted\"} 1"), "{metrics}");
}

#[tokio::test]
async fn what_cannot_be_queued_says_why() {
    let gateway = Gateway::dev().await;
    let day = Duration::from_hours(24);
    let fine = queued("a", OPEN, "Hello");
    let cases = [
        (v1::SendMessageRequest { request_id: String::new(), ..fine.clone() }, "request_id"),
        (v1::SendMessageRequest { not_before: Some(ahead(8 * day)), ..fine.clone() }, "not_before"),
        (v1::SendMessageRequest { not_after: Some(ahead(8 * day)), ..fine.clone() }, "not_after"),
        (
            v1::SendMessageRequest { not_after: Some((SystemClock.now() - day).into()), ..fine.clone() },
            "not_after",
        ),
        (
            v1::SendMessageRequest {
                not_before: Some(ahead(day)),
                not_after: Some(ahead(ms(1))),
                ..fine.clone()
            },
            "not_after",
        ),
        (v1::SendMessageRequest { not_before: Some(ahead(day)), ..text_to(OPEN, "Hello") }, "not_before"),
        (v1::SendMessageRequest { not_after: Some(ahead(day)), ..text_to(OPEN, "Hello") }, "not_after"),
    ];
    for (request, field) in cases {
        let refusal = gateway.refused(request).await;
        assert_eq!(
            (refusal.is(), refusal.fields()),
            ((Code::InvalidArgument, "VALIDATION_FAILED"), vec![field])
        );
    }
    let checked = gateway.send(v1::SendMessageRequest { validate_only: true, ..fine }).await;
    assert_eq!(checked.state(), SendState::Validated);
    assert!(gateway.send_reports().await.is_empty() && gateway.sent_bodies().await.is_empty());
}

#[tokio::test]
async fn it_waits_for_its_time_and_not_longer() {
    let gateway = rate(1).start().await;
    let later =
        v1::SendMessageRequest { not_before: Some(ahead(ms(1500))), ..queued("later", OPEN, "later") };
    let started = Instant::now();
    assert_eq!(gateway.send(later.clone()).await.state(), SendState::Queued);
    let still = gateway.send(later).await;
    assert_eq!((still.state(), still.replayed), (SendState::Queued, true));
    let known = by_request(&gateway, "later").await;
    assert_eq!((known.state(), known.message_id.as_str()), (MessageState::Queued, ""));
    reported(&gateway, 1).await;
    assert!(started.elapsed() >= ms(1400), "{:?}", started.elapsed());
    eventually!(by_request(&gateway, "later").await.state() == MessageState::Read);
    let history = by_request(&gateway, "later").await.history;
    let states: Vec<_> = history.iter().map(v1::ReachedState::state).collect();
    let expected = [
        MessageState::Queued,
        MessageState::Accepted,
        MessageState::Sent,
        MessageState::Delivered,
        MessageState::Read,
    ];
    assert_eq!(states, expected);

    // One a second: of four that have two seconds some are too late.
    let not_after = ahead(ms(2000));
    let requests: Vec<_> = (0..4)
        .map(|n| v1::SendMessageRequest {
            not_after: Some(not_after),
            ..queued(&n.to_string(), &format!("+1650555000{n}"), &n.to_string())
        })
        .collect();
    for request in &requests {
        assert_eq!(gateway.send(request.clone()).await.state(), SendState::Queued);
    }
    let reports = reported(&gateway, 5).await;
    assert!(SystemClock.now() + ms(100) >= SystemTime::try_from(not_after).unwrap(), "not before its time");
    let texts = sent_texts(&gateway).await;
    let (sent, late): (Vec<_>, Vec<_>) =
        reports.into_iter().skip(1).partition(|(_, report)| report.state() == MessageState::Accepted);
    assert!(!late.is_empty() && sent.len() + 1 == texts.len(), "{texts:?} {late:?}");
    for (event, report) in late {
        assert_eq!((report.state(), event.subject.as_str()), (MessageState::Expired, ""));
        let verdict = report.failure.unwrap().verdict.unwrap();
        assert_eq!((verdict.reason.as_str(), verdict.actor.as_str()), ("SEND_EXPIRED", "caller"));
        // Also a repetition after its time is told, and sends nothing.
        let request = requests.iter().find(|request| request.request_id == report.request_id).unwrap();
        let refusal = gateway.refused(request.clone()).await;
        assert_eq!(refusal.is(), (Code::FailedPrecondition, "SEND_EXPIRED"));
        let known = by_request(&gateway, &report.request_id).await;
        assert_eq!(known.state(), MessageState::Expired);
        assert_eq!(known.failure.unwrap().verdict.unwrap().reason, "SEND_EXPIRED");
    }
    assert_eq!(sent_texts(&gateway).await, texts);
    reported(&gateway, 5).await;
}

#[tokio::test]
async fn a_full_queue_refuses_and_still_knows_what_it_has() {
    let serve = Serve::builder().env("WHATSAPP_GATEWAY__SENDING__QUEUE_MAX", "2").start().await;
    let gateway = &serve.gateway;
    let hour = ahead(Duration::from_hours(1));
    let later = |id: &str| v1::SendMessageRequest { not_before: Some(hour), ..queued(id, OPEN, "Hello") };
    gateway.send(later("a")).await;
    gateway.send(later("b")).await;
    let refusal = gateway.refused(later("c")).await;
    assert_eq!(refusal.is(), (Code::ResourceExhausted, "QUEUE_FULL"));
    assert_eq!(refusal.retry, Some(Duration::from_secs(1)));
    assert!(gateway.send(later("a")).await.replayed);
    let other = v1::SendMessageRequest { phone_number_id: SECOND_NUMBER.to_owned(), ..later("d") };
    assert!(!gateway.send(other).await.replayed, "each number has its own");
    let depth = format!("whatsapp_gateway_queue_depth{{phone_number_id=\"{SECOND_NUMBER}\"}} 1");
    eventually!(gateway.admin("/metrics").await.1.contains(&depth));
}

#[tokio::test]
async fn a_window_that_is_closed_when_the_turn_comes_counts() {
    let serve = Serve::builder().env("WHATSAPP_GATEWAY__SENDING__WINDOW_KNOWN_AFTER", "0 s").start().await;
    let gateway = &serve.gateway;
    // Two days ago; since then nothing is missed.
    let two_days_ago = SystemClock.now() - Duration::from_hours(48);
    let seconds = two_days_ago.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().to_string();
    let message = json!({"type": "text", "text": {"body": "Hi"}, "timestamp": seconds});
    gateway.simulate("messages", &json!({"from": "16505551234", "message": message})).await;
    eventually!(gateway.events().await.len() == 1);
    let user = "+16505551234";
    let language = Some(v1::TemplateLanguage { code: "en_US".to_owned(), policy: String::new() });
    let template = v1::Template { name: "hello_world".to_owned(), language, components: Vec::new() };
    eventually!(
        gateway
            .client()
            .await
            .send_message(v1::SendMessageRequest { validate_only: true, ..queued("x", user, "x") })
            .await
            .is_err()
    );
    let refusal = gateway.refused(queued("now", user, "now")).await;
    assert_eq!(refusal.is(), (Code::FailedPrecondition, "WINDOW_CLOSED"));

    let soon = ahead(ms(300));
    gateway.send(v1::SendMessageRequest { not_before: Some(soon), ..queued("plain", user, "plain") }).await;
    let with_fallback = v1::SendMessageRequest {
        fallback_template: Some(template),
        ..queued("with fallback", user, "with fallback")
    };
    let with_fallback = v1::SendMessageRequest { request_id: "fallback".to_owned(), ..with_fallback };
    gateway.send(with_fallback.clone()).await;
    let mut reports = reported(gateway, 2).await;
    reports.sort_by(|(_, a), (_, b)| a.request_id.cmp(&b.request_id));
    let (fallback, plain) = (&reports[0].1, &reports[1].1);
    assert_eq!((fallback.state(), fallback.used_fallback), (MessageState::Accepted, true));
    assert_eq!(plain.state(), MessageState::Refused);
    assert_eq!(plain.failure.clone().unwrap().verdict.unwrap().reason, "WINDOW_CLOSED");
    let again = gateway.send(with_fallback).await;
    assert_eq!((again.state(), again.used_fallback, again.replayed), (SendState::Accepted, true, true));
    assert_eq!(sent_texts(gateway).await, ["template"]);
}

#[tokio::test]
async fn a_refusal_is_reported_and_final() {
    let gateway = Gateway::dev().await;
    let request = queued("refused", "+15550131030", "Hello");
    gateway.send(request.clone()).await;
    let (_, report) = reported(&gateway, 1).await.remove(0);
    assert_eq!(report.state(), MessageState::Refused);
    let failure = report.failure.unwrap();
    let verdict = failure.verdict.unwrap();
    assert_eq!((verdict.reason.as_str(), verdict.actor.as_str()), ("RECIPIENT_NOT_ALLOWED", "operator"));
    assert_eq!(failure.code, 131_030);
    let refusal = gateway.refused(request).await;
    assert_eq!(refusal.is(), (Code::FailedPrecondition, "RECIPIENT_NOT_ALLOWED"));
    assert_eq!(refusal.metadata["meta_code"], "131030");
    assert_eq!(gateway.sent_bodies().await.len(), 1, "a repetition asks and does not send");
}

#[tokio::test]
async fn it_is_tried_again_as_long_as_there_is_time() {
    let gateway = Gateway::dev().await;
    for _ in 0..5 {
        gateway.fault("/messages", json!({"error": {"code": 130_429}, "retry_after": 1})).await;
    }
    gateway.send(queued("throttled", OPEN, "Hello")).await;
    reported(&gateway, 1).await;
    let (_, report) = reported(&gateway, 1).await.remove(0);
    assert_eq!(report.state(), MessageState::Accepted);
    assert_eq!(gateway.sent_bodies().await.len(), 6, "more often than a caller would wait for");

    gateway.fault("/messages", json!({"error": {"code": 130_429}, "retry_after": 60})).await;
    let hurried =
        v1::SendMessageRequest { not_after: Some(ahead(ms(5000))), ..queued("hurried", OPEN, "Hello") };
    gateway.send(hurried).await;
    let (_, report) = reported(&gateway, 2).await.remove(1);
    assert_eq!(report.state(), MessageState::Refused, "Meta wants more time than there is");
}

#[tokio::test]
async fn an_unknown_outcome_is_reported_once_and_proven_by_a_status() {
    let gateway = Gateway::dev().await;
    gateway.simulate("delays", &json!({"sent_ms": 1500, "delivered_ms": 1600, "read_ms": 1700})).await;
    let request = queued("cut", CUT, "Hello");
    let answer = gateway.send(request.clone()).await;
    let (_, report) = reported(&gateway, 1).await.remove(0);
    assert_eq!((report.state(), report.message_id.as_str()), (MessageState::Unknown, ""));
    assert_eq!(report.failure.unwrap().verdict.unwrap().reason, "SEND_OUTCOME_UNKNOWN");
    let refusal = gateway.refused(request.clone()).await;
    assert_eq!(refusal.is(), (Code::Unknown, "SEND_OUTCOME_UNKNOWN"));
    eventually!(!gateway.statuses().await.is_empty());
    eventually!(gateway.client().await.send_message(request.clone()).await.is_ok());
    let proven = gateway.send(request).await;
    assert_eq!((proven.state(), proven.replayed), (SendState::Accepted, true));
    let status = gateway.statuses().await.remove(0);
    assert_eq!((&status.id, &status.send_tag), (&proven.message_id, &answer.send_tag));
    reported(&gateway, 1).await;
    assert_eq!(gateway.sent_bodies().await.len(), 1);
}

/// What one recipient gets in order, with a restart in the middle.
async fn in_order(serve: &mut Serve, is_killed: bool) {
    let count = 12;
    for n in 0..count {
        serve.gateway.send(queued(&format!("{is_killed}{n:02}"), OPEN, &format!("{n:02}"))).await;
    }
    eventually!(sent_texts(&serve.gateway).await.len() >= 3);
    if is_killed {
        serve.restart().await;
    } else {
        assert_eq!(serve.restart_in_order().await, Some(0));
        assert!(sent_texts(&serve.gateway).await.len() < count, "it did not wait for the queue");
    }
    let reports = reported(&serve.gateway, count).await;
    let unknown = reports.iter().filter(|(_, report)| report.state() == MessageState::Unknown).count();
    assert!(unknown <= usize::from(is_killed), "to one recipient one is on its way at a time");
    let texts = sent_texts(&serve.gateway).await;
    assert!(texts.is_sorted(), "{texts:?}");
    let mut once = texts.clone();
    once.dedup();
    assert_eq!(once, texts);
    assert!(texts.len() + unknown >= count);
}

#[tokio::test]
async fn the_order_to_a_recipient_outlives_a_kill() {
    let mut serve = Serve::builder().env("WHATSAPP_GATEWAY__SENDING__MESSAGES_PER_SECOND", "5").start().await;
    in_order(&mut serve, true).await;
}

#[tokio::test]
async fn a_drain_leaves_the_queue_to_the_next_process() {
    let mut serve = Serve::builder().env("WHATSAPP_GATEWAY__SENDING__MESSAGES_PER_SECOND", "5").start().await;
    in_order(&mut serve, false).await;
}
