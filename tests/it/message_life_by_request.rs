//! What became of a send, for those who have nothing but its `request_id`.

use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tonic::{Code, Request};
use whatsapp_gateway::contract::v1::{self, MessageState};

use crate::eventually;
use crate::message_life::{Watch, history, next, rest, states};
use crate::support::rpc::{OPEN, text_to};
use crate::support::serve::{ALL_RIGHTS, SECOND_NUMBER, caller};
use crate::support::{Gateway, Refusal, Serve, webhook};

const SLOW: &str = "+15550000004";
const HELD: &str = "+15550000007";
const CUT_AFTER_ACCEPTANCE: &str = "+15550000010";
const CUT_BEFORE_ACCEPTANCE: &str = "+15550000011";

fn message(id: &str, number: &str) -> v1::SendMessageRequest {
    let phone_number_id = webhook::PHONE_NUMBER_ID.to_owned();
    v1::SendMessageRequest { request_id: id.to_owned(), phone_number_id, ..text_to(number, "Hello") }
}

fn asked(id: &str, number: &str) -> v1::GetMessageRequest {
    let key = Some(v1::get_message_request::Key::RequestId(id.to_owned()));
    v1::GetMessageRequest { phone_number_id: number.to_owned(), key }
}

fn watched(id: &str, number: &str, until: MessageState) -> v1::WatchMessageRequest {
    let key = Some(v1::watch_message_request::Key::RequestId(id.to_owned()));
    v1::WatchMessageRequest { phone_number_id: number.to_owned(), key, until: until.into() }
}

async fn get(gateway: &Gateway, request: v1::GetMessageRequest) -> Result<v1::Message, Refusal> {
    let answer = gateway.client().await.get_message(request).await;
    answer.map(|answer| answer.into_inner().message.unwrap()).map_err(|status| Refusal::of(&status))
}

async fn known(gateway: &Gateway, id: &str) -> v1::Message {
    get(gateway, asked(id, "")).await.unwrap()
}

async fn watch(gateway: &Gateway, id: &str, until: MessageState) -> Watch {
    gateway.client().await.watch_message(watched(id, "", until)).await.unwrap().into_inner()
}

fn reached(message: &v1::Message) -> Vec<MessageState> {
    history(message).into_iter().map(|(state, _)| state).collect()
}

/// No status comes for a while.
async fn without_statuses(gateway: &Gateway) {
    let delays = json!({"sent_ms": 600_000, "delivered_ms": 600_000, "read_ms": 600_000});
    gateway.simulate("delays", &delays).await;
}

#[tokio::test]
async fn a_watch_follows_from_before_the_call_to_delivery() {
    let gateway = Gateway::dev().await;
    gateway
        .simulate(
            "delays",
            &json!({"slow_answer_ms": 300, "sent_ms": 900, "delivered_ms": 950, "read_ms": 600_000}),
        )
        .await;
    let mut watch = watch(&gateway, "a", MessageState::Unspecified).await;
    let nothing = next(&mut watch).await.unwrap();
    assert_eq!(nothing, v1::Message::default(), "not even the number is known");
    let mut client = gateway.client().await;
    let (sent, seen) = tokio::join!(client.send_message(message("a", SLOW)), rest(&mut watch));
    let sent = sent.unwrap().into_inner();
    assert!(states(&seen).is_sorted(), "{seen:?}");
    assert_eq!(seen[0].state(), MessageState::Sending);
    assert_eq!((seen[0].message_id.as_str(), &seen[0].send_tag), ("", &sent.send_tag));
    assert_eq!(seen[0].phone_number_id, sent.phone_number_id);
    let last = seen.last().unwrap();
    let all = [MessageState::Sending, MessageState::Accepted, MessageState::Sent, MessageState::Delivered];
    assert_eq!(reached(last), all);
    assert_eq!((last.state(), &last.message_id), (MessageState::Delivered, &sent.message_id));
    assert_eq!(last.history[1].time, sent.accept_time);
    assert_eq!(last.state_time, last.history[3].time);
    assert!(!last.conversation_key.is_empty() && last.failure.is_none());
    assert_eq!(&known(&gateway, "a").await, last);
}

#[tokio::test]
async fn meta_having_taken_it_is_known_at_once() {
    let mut serve = Serve::start().await;
    without_statuses(&serve.gateway).await;
    let gateway = &serve.gateway;
    for (id, number, state) in [("a", OPEN, MessageState::Accepted), ("b", HELD, MessageState::Held)] {
        let sent = gateway.send(message(id, number)).await;
        let by_request = known(gateway, id).await;
        assert_eq!(by_request.message_id, sent.message_id);
        assert_eq!(reached(&by_request), [MessageState::Sending, state]);
        let key = Some(v1::get_message_request::Key::MessageId(sent.message_id.clone()));
        let phone_number_id = sent.phone_number_id.clone();
        let by_message = get(gateway, v1::GetMessageRequest { phone_number_id, key }).await.unwrap();
        assert_eq!((by_message.state(), &by_message.send_tag), (state, &sent.send_tag));
        assert_eq!((reached(&by_message), by_message.state_time), (vec![state], sent.accept_time));
        let seen = rest(&mut watch(gateway, id, MessageState::Accepted).await).await;
        assert_eq!(seen, std::slice::from_ref(&by_request));
    }
    // Without an id it is known by its message id.
    let sent = gateway.send(message("", OPEN)).await;
    let key = Some(v1::get_message_request::Key::MessageId(sent.message_id));
    let by_message = v1::GetMessageRequest { phone_number_id: sent.phone_number_id, key };
    assert_eq!(get(gateway, by_message).await.unwrap().state(), MessageState::Accepted);
    let before = [known(gateway, "a").await, known(gateway, "b").await];
    serve.restart().await;
    assert_eq!([known(&serve.gateway, "a").await, known(&serve.gateway, "b").await], before);
}

#[tokio::test]
async fn a_refusal_says_why_and_the_next_attempt_begins_anew() {
    let mut serve = Serve::start().await;
    let gateway = &serve.gateway;
    gateway.fault("/messages", json!({"error": {"code": 131_008}})).await;
    let mut following = watch(gateway, "a", MessageState::Read).await;
    let refusal = gateway.refused(message("a", OPEN)).await;
    let seen = rest(&mut following).await;
    let last = seen.last().unwrap();
    assert_eq!((last.state(), last.message_id.as_str()), (MessageState::Refused, ""));
    assert_eq!(reached(last), [MessageState::Sending, MessageState::Refused]);
    let failure = last.failure.as_ref().unwrap();
    let verdict = failure.verdict.as_ref().unwrap();
    assert_eq!((failure.code, verdict.reason.as_str()), (131_008, refusal.reason.as_str()));
    assert_eq!((verdict.actor.as_str(), &failure.title), (refusal.actor(), &refusal.message));
    let seen = known(gateway, "a").await;
    assert_eq!((seen.state(), &seen.failure), (MessageState::Refused, &last.failure));
    serve.restart().await;
    let gateway = &serve.gateway;
    let seen = known(gateway, "a").await;
    assert_eq!((seen.state(), &seen.failure), (MessageState::Refused, &last.failure));
    let sent = gateway.send(message("a", OPEN)).await;
    let seen = rest(&mut watch(gateway, "a", MessageState::Delivered).await).await;
    let last = seen.last().unwrap();
    assert_eq!((&last.message_id, &last.failure), (&sent.message_id, &None));
}

#[tokio::test]
async fn what_fails_later_is_told_as_well() {
    let gateway = Gateway::dev().await;
    let sent = gateway.send(message("a", "+15551131026")).await;
    let last = rest(&mut watch(&gateway, "a", MessageState::Delivered).await).await.pop().unwrap();
    assert_eq!((last.state(), &last.message_id), (MessageState::Failed, &sent.message_id));
    assert_eq!(last.failure.unwrap().code, 131_026);
}

#[tokio::test]
async fn an_unknown_outcome_is_followed_until_a_status_proves_it() {
    let mut serve = Serve::start().await;
    let delays = json!({"sent_ms": 1500, "delivered_ms": 1600, "read_ms": 1700});
    serve.gateway.simulate("delays", &delays).await;
    let refusal = serve.gateway.refused(message("a", CUT_AFTER_ACCEPTANCE)).await;
    let tag = &refusal.metadata["send_tag"];
    let unknown = known(&serve.gateway, "a").await;
    assert_eq!(reached(&unknown), [MessageState::Sending, MessageState::Unknown]);
    assert_eq!((unknown.message_id.as_str(), &unknown.send_tag, &unknown.failure), ("", tag, &None));
    let seen = rest(&mut watch(&serve.gateway, "a", MessageState::Read).await).await;
    assert!(states(&seen).is_sorted() && seen.len() > 1, "{seen:?}");
    assert_eq!(seen[0], unknown);
    let last = seen.last().unwrap();
    assert_eq!((last.state(), &last.send_tag), (MessageState::Read, tag));
    assert_eq!(last.message_id, serve.gateway.statuses().await[0].id);
    let states = reached(last);
    assert_eq!(
        (states.first(), states.contains(&MessageState::Unknown)),
        (Some(&MessageState::Sending), false)
    );
    // One that nothing proves stays so, also after a restart.
    serve.gateway.refused(message("b", CUT_BEFORE_ACCEPTANCE)).await;
    for _ in 0..2 {
        assert_eq!(known(&serve.gateway, "b").await.state(), MessageState::Unknown);
        serve.restart().await;
    }
    assert_eq!(&known(&serve.gateway, "a").await, last);
}

#[tokio::test]
async fn a_send_that_runs_is_sending_and_one_that_died_is_unknown() {
    let mut serve = Serve::start().await;
    let never = 600_000;
    let delays = json!({"slow_answer_ms": 60_000, "sent_ms": never, "delivered_ms": never, "read_ms": never});
    serve.gateway.simulate("delays", &delays).await;
    let mut client = serve.gateway.client().await;
    let mut call = JoinSet::new();
    call.spawn(async move { client.send_message(message("a", SLOW)).await.is_err() });
    eventually!(serve.gateway.sent_bodies().await.len() == 1);
    assert_eq!(reached(&known(&serve.gateway, "a").await), [MessageState::Sending]);
    serve.restart().await;
    assert_eq!(call.join_all().await, [true]);
    assert_eq!(known(&serve.gateway, "a").await.state(), MessageState::Unknown);
}

#[tokio::test]
async fn what_was_not_sent_is_not_found_and_waited_for() {
    let Serve { gateway, .. } = &Serve::start().await;
    let refusal = get(gateway, asked("a", "")).await.unwrap_err();
    assert_eq!(refusal.is(), (Code::NotFound, "MESSAGE_NOT_FOUND"));
    assert!(refusal.message.contains("request_id \"a\""), "{refusal:?}");
    // The number may be named, and must be the one then.
    let mut other = gateway
        .client()
        .await
        .watch_message(watched("a", SECOND_NUMBER, MessageState::Sent))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(next(&mut other).await.unwrap(), v1::Message::default());
    gateway.send(message("a", OPEN)).await;
    let status = tokio::time::timeout(Duration::from_secs(20), other.message()).await.unwrap().unwrap_err();
    let refusal = Refusal::of(&status);
    assert_eq!(refusal.is(), (Code::NotFound, "MESSAGE_NOT_FOUND"));
    assert!(refusal.message.contains(SECOND_NUMBER), "{refusal:?}");
    let refusal = get(gateway, asked("a", SECOND_NUMBER)).await.unwrap_err();
    assert_eq!(refusal.is(), (Code::NotFound, "MESSAGE_NOT_FOUND"));
    assert!(get(gateway, asked("a", webhook::PHONE_NUMBER_ID)).await.is_ok());
    let refusal = get(gateway, asked("a", "1")).await.unwrap_err();
    assert_eq!(refusal.is(), (Code::NotFound, "PHONE_NUMBER_NOT_CONFIGURED"));
    assert_eq!(get(gateway, asked("a b", "")).await.unwrap_err().fields(), ["request_id"]);
    for until in [MessageState::Queued, MessageState::Sending, MessageState::Unknown, MessageState::Held] {
        let status =
            gateway.client().await.watch_message(watched("a", "", until)).await.map(drop).unwrap_err();
        assert_eq!(Refusal::of(&status).fields(), ["until"], "{until:?}");
    }
}

#[tokio::test]
async fn ids_are_those_of_the_caller() {
    let callers: String = ["orders", "billing"].map(|name| caller(name, name, ALL_RIGHTS)).concat();
    let Serve { gateway, .. } = &Serve::builder().open_address().more(&callers).start().await;
    let mut sending = as_caller("orders", message("a", OPEN));
    sending.set_timeout(Duration::from_secs(20));
    let sent = gateway.client().await.send_message(sending).await.unwrap().into_inner();
    let mut client = gateway.client().await;
    let own = client.get_message(as_caller("orders", asked("a", ""))).await.unwrap().into_inner();
    assert_eq!(own.message.unwrap().message_id, sent.message_id);
    let foreign = client.get_message(as_caller("billing", asked("a", ""))).await.unwrap_err();
    assert_eq!(Refusal::of(&foreign).is(), (Code::NotFound, "MESSAGE_NOT_FOUND"));
}

fn as_caller<T>(name: &str, request: T) -> Request<T> {
    let mut request = Request::new(request);
    request.metadata_mut().insert("authorization", format!("Bearer {name}").parse().unwrap());
    request
}
