//! Sends that may have gone out: never sent again by themselves, and settled by the status that proves them.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tonic::Code;
use whatsapp_gateway::contract::v1;

use crate::eventually;
use crate::support::rpc::{Refusal, text_to};
use crate::support::{Gateway, Serve, webhook};

/// Ordinary; the simulator has never heard of them, so that the messages fail later, which proves them all the same.
const USER: &str = "+16505551234";
const OTHER: &str = "+16505551235";
/// Accepted, then cut; accepted, and no answer ever comes.
const CUT_AFTER_ACCEPTANCE: &str = "+15550000010";
const NEVER_ANSWERED: &str = "+15550000012";

fn request(id: &str, number: &str) -> v1::SendMessageRequest {
    let phone_number_id = webhook::PHONE_NUMBER_ID.to_owned();
    v1::SendMessageRequest { request_id: id.to_owned(), phone_number_id, ..text_to(number, "Hello") }
}

fn resend(id: &str, number: &str) -> v1::SendMessageRequest {
    v1::SendMessageRequest { on_unknown: v1::OnUnknown::Resend.into(), ..request(id, number) }
}

async fn serve() -> Serve {
    let builder = Serve::builder()
        .env("WHATSAPP_GATEWAY__CLOUD_API__REQUEST_TIMEOUT", "1 s")
        .env("WHATSAPP_GATEWAY__SENDING__RESEND_AFTER", "1 s");
    builder.start().await
}

/// Statuses come so late.
async fn statuses_after(gateway: &Gateway, time: Duration) {
    let ms = u64::try_from(time.as_millis()).unwrap();
    let delays = json!({"sent_ms": ms, "failed_ms": ms, "delivered_ms": ms + 50, "read_ms": ms + 100});
    gateway.simulate("delays", &delays).await;
}

/// The next send to this number meets a fault.
async fn fault(gateway: &Gateway, number: &str, count: u32, fault: Value) {
    let planned =
        json!({"match": {"path_suffix": "/messages", "to": number}, "count": count, "fault": fault});
    gateway.simulate("faults", &planned).await;
}

fn assert_unknown(refusal: &Refusal, id: &str) {
    assert_eq!(refusal.is(), (Code::Unknown, "SEND_OUTCOME_UNKNOWN"), "{refusal:?}");
    assert_eq!((refusal.metadata["request_id"].as_str(), refusal.retry), (id, None));
    assert_eq!(refusal.metadata["send_tag"].len(), 22);
}

async fn sends_to(gateway: &Gateway, number: &str) -> Vec<Value> {
    gateway.sent_bodies().await.into_iter().filter(|body| body["to"] == number).collect()
}

/// Asks again and again until the result is known.
async fn settled(gateway: &Gateway, request: &v1::SendMessageRequest) -> v1::SendMessageResponse {
    let mut client = gateway.client().await;
    let mut known = None;
    eventually!({
        match client.send_message(request.clone()).await {
            Ok(response) => known = Some(response.into_inner()),
            Err(status) => assert_unknown(&Refusal::of(&status), &request.request_id),
        }
        known.is_some()
    });
    known.unwrap()
}

/// Calls, and returns when Meta has the message; it does not answer. The call ends with the process.
async fn call_without_answer(gateway: &Gateway, request: v1::SendMessageRequest) -> JoinSet<()> {
    fault(gateway, USER, 1, json!({"stall": true})).await;
    let (mut client, mut call) = (gateway.client().await, JoinSet::new());
    call.spawn(async move { assert!(client.send_message(request).await.is_err()) });
    eventually!(gateway.sent_bodies().await.len() == 1);
    call
}

#[tokio::test]
async fn a_status_settles_it_afterwards() {
    let Serve { gateway, .. } = &serve().await;
    statuses_after(gateway, Duration::from_secs(1)).await;
    let request = request("a", CUT_AFTER_ACCEPTANCE);
    let refusal = gateway.refused(request.clone()).await;
    assert_unknown(&refusal, "a");
    assert_unknown(&gateway.refused(request.clone()).await, "a");
    let proven = settled(gateway, &request).await;
    let status = gateway.statuses().await.remove(0);
    assert_eq!((&proven.message_id, proven.replayed), (&status.id, true));
    assert_eq!((&proven.send_tag, &status.send_tag), (&refusal.metadata["send_tag"], &proven.send_tag));
    assert_eq!(gateway.send(request).await, proven);
    assert_eq!(gateway.sent_bodies().await.len(), 1);
    eventually!(gateway.admin("/metrics").await.1.contains("whatsapp_gateway_sends_unknown 0\n"));
}

#[tokio::test]
async fn a_status_before_the_lost_answer_is_a_success() {
    let Serve { gateway, .. } = &serve().await;
    // With an id and without.
    for id in ["a", ""] {
        let sent = gateway.send(request(id, NEVER_ANSWERED)).await;
        let statuses = gateway.statuses().await;
        let status = statuses.iter().find(|status| status.send_tag == sent.send_tag).unwrap();
        assert_eq!((&status.id, sent.replayed), (&sent.message_id, false));
    }
}

#[tokio::test]
async fn a_status_settles_it_after_a_restart() {
    let mut serve = serve().await;
    statuses_after(&serve.gateway, Duration::from_secs(2)).await;
    let request = request("a", CUT_AFTER_ACCEPTANCE);
    assert_unknown(&serve.gateway.refused(request.clone()).await, "a");
    serve.restart().await;
    assert!(settled(&serve.gateway, &request).await.replayed);
    serve.restart().await;
    assert!(serve.gateway.send(request).await.replayed, "settled for good");
    assert_eq!(serve.gateway.sent_bodies().await.len(), 1);
}

#[tokio::test]
async fn what_was_running_when_the_process_died_is_never_sent_again() {
    let mut serve = serve().await;
    let call = call_without_answer(&serve.gateway, request("a", USER)).await;
    serve.restart().await;
    call.join_all().await;
    for _ in 0..2 {
        assert_unknown(&serve.gateway.refused(request("a", USER)).await, "a");
        serve.restart().await;
    }
    let refusal = serve.gateway.refused(request("a", OTHER)).await;
    assert_eq!(refusal.reason, "REQUEST_ID_REUSED", "the fingerprint outlives the process too");
    assert_eq!(serve.gateway.sent_bodies().await.len(), 1);
}

#[tokio::test]
async fn resend_sends_the_same_again_after_a_silence() {
    let Serve { gateway, .. } = &serve().await;
    fault(gateway, USER, 2, json!({"cut": "before_acceptance"})).await;
    assert_unknown(&gateway.refused(resend("a", USER)).await, "a");
    let sent = settled(gateway, &resend("a", USER)).await;
    assert!(sent.replayed);
    let bodies = gateway.sent_bodies().await;
    assert_eq!(bodies.len(), 3);
    assert!(bodies.iter().all(|body| *body == bodies[0]), "word for word, under the same tag");
    eventually!(gateway.statuses().await.first().is_some_and(|status| status.send_tag == sent.send_tag));
}

#[tokio::test]
async fn resend_goes_on_after_a_restart() {
    let mut serve = serve().await;
    let call = call_without_answer(&serve.gateway, resend("a", USER)).await;
    serve.restart().await;
    call.join_all().await;
    assert!(settled(&serve.gateway, &resend("a", USER)).await.replayed);
    let bodies = serve.gateway.sent_bodies().await;
    assert_eq!((bodies.len(), &bodies[0]), (2, &bodies[1]));
}

#[tokio::test]
async fn resend_ends_with_a_proof_or_after_three_times() {
    let Serve { gateway, .. } = &serve().await;
    statuses_after(gateway, Duration::from_millis(200)).await;
    // Proven, hopeless, refused for good, refused for now; and last a control that is due after all of them.
    assert_unknown(&gateway.refused(resend("proven", CUT_AFTER_ACCEPTANCE)).await, "proven");
    fault(gateway, USER, 100, json!({"cut": "before_acceptance"})).await;
    assert_unknown(&gateway.refused(resend("hopeless", USER)).await, "hopeless");
    fault(gateway, OTHER, 1, json!({"cut": "before_acceptance"})).await;
    fault(gateway, OTHER, 100, json!({"error": {"code": 131_008}})).await;
    assert_unknown(&gateway.refused(resend("refused", OTHER)).await, "refused");
    for number in [USER, OTHER] {
        eventually!(sends_to(gateway, number).await.len() == 4);
    }
    let control = "+16505551236";
    fault(gateway, control, 1, json!({"cut": "before_acceptance"})).await;
    assert_unknown(&gateway.refused(resend("control", control)).await, "control");
    settled(gateway, &resend("control", control)).await;
    for number in [USER, OTHER] {
        assert_eq!(sends_to(gateway, number).await.len(), 4, "{number}");
    }
    assert_eq!(sends_to(gateway, CUT_AFTER_ACCEPTANCE).await.len(), 1);
    assert!(gateway.send(resend("proven", CUT_AFTER_ACCEPTANCE)).await.replayed);
    // A refusal of a later attempt says nothing of the first.
    assert_unknown(&gateway.refused(resend("refused", OTHER)).await, "refused");
    assert_unknown(&gateway.refused(resend("hopeless", USER)).await, "hopeless");
}
