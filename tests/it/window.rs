//! The customer service window: what is known of it, what is refused because of it, and what goes out instead.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::Code;
use whatsapp_gateway::clock::{Clock, SystemClock};
use whatsapp_gateway::contract::v1::send_message_request::Content;
use whatsapp_gateway::contract::v1::{self, WindowPolicy, WindowState};

use crate::eventually;
use crate::support::gateway::Builder;
use crate::support::rpc::{Refusal, phone, text, text_to, user};
use crate::support::webhook::{self, PHONE_NUMBER_ID};
use crate::support::{Gateway, Subscriber};

const USER: &str = "16505551234";
const HOUR: u64 = 3600;

/// A gateway to whose numbers nobody had written before it was there.
fn knowing() -> Builder {
    Gateway::builder().env("WHATSAPP_GATEWAY__SENDING__WINDOW_KNOWN_AFTER", "0 s")
}

/// Unix seconds of a time that has passed.
fn ago(seconds: u64) -> u64 {
    SystemClock.now().duration_since(UNIX_EPOCH).unwrap().as_secs() - seconds
}

/// A user writes, some time ago.
async fn wrote(gateway: &Gateway, from: &str, seconds_ago: u64) {
    let message = json!({"type": "text", "text": {"body": "Hi"}, "timestamp": ago(seconds_ago).to_string()});
    let before = gateway.events().await.len();
    gateway.simulate("messages", &json!({"from": from, "message": message})).await;
    eventually!(gateway.events().await.len() == before + 1);
}

fn template(name: &str) -> v1::Template {
    let language = Some(v1::TemplateLanguage { code: "en_US".to_owned(), policy: String::new() });
    v1::Template { name: name.to_owned(), language, components: Vec::new() }
}

async fn conversation(gateway: &Gateway, with: v1::Recipient) -> v1::GetConversationResponse {
    ask(gateway, v1::get_conversation_request::Conversation::Recipient(with)).await.unwrap()
}

async fn ask(
    gateway: &Gateway,
    which: v1::get_conversation_request::Conversation,
) -> Result<v1::GetConversationResponse, tonic::Status> {
    let request = v1::GetConversationRequest { phone_number_id: String::new(), conversation: Some(which) };
    Ok(gateway.client().await.get_conversation(request).await?.into_inner())
}

async fn state(gateway: &Gateway, number: &str) -> WindowState {
    conversation(gateway, phone(number)).await.customer_service_window.unwrap().state()
}

/// The user wrote two days ago, and the gateway knows that nothing came since.
async fn closed() -> Gateway {
    let gateway = knowing().start().await;
    gateway.without_limits().await;
    wrote(&gateway, USER, 48 * HOUR).await;
    eventually!(state(&gateway, USER).await == WindowState::Closed);
    gateway
}

#[tokio::test]
async fn a_log_younger_than_a_day_leaves_it_to_meta() {
    let gateway = Gateway::dev().await;
    wrote(&gateway, USER, 48 * HOUR).await;
    let known = conversation(&gateway, phone(USER)).await;
    let window = known.customer_service_window.unwrap();
    assert_eq!((window.state(), known.may_send_free_form), (WindowState::Unknown, None));
    assert!(window.closes_at.is_some());
    let sent = gateway.send(text_to(USER, "Still there?")).await;
    assert!(!sent.used_fallback);
    eventually!(gateway.statuses().await.iter().any(|status| status.status == "failed"));
}

#[tokio::test]
async fn a_closed_window_refuses_what_needs_it_and_says_what_to_do() {
    let gateway = closed().await;
    let refusal = gateway.refused(text_to(USER, "Hi")).await;
    assert_eq!(refusal.is(), (Code::FailedPrecondition, "WINDOW_CLOSED"));
    assert_eq!((refusal.actor(), refusal.has_help), ("caller", true));
    assert!(refusal.message.contains("fallback_template"), "{}", refusal.message);
    let closed_at = &refusal.metadata["closed_at"];
    assert!(closed_at.starts_with("20") && closed_at.ends_with('Z'), "{closed_at}");
    assert!(!refusal.metadata.contains_key("meta_code"), "Meta was not asked");

    let reaction =
        Content::Reaction(v1::Reaction { message_id: "wamid.A".to_owned(), emoji: Some("😀".to_owned()) });
    let unwritten = "+16505550000";
    let to = |content| v1::SendMessageRequest { content: Some(content), ..text_to(unwritten, "") };
    for request in [
        text_to(unwritten, "Hi"),
        to(reaction),
        v1::SendMessageRequest { validate_only: true, ..text_to(USER, "Hi") },
        v1::SendMessageRequest { recipient: Some(user("US.1")), ..text_to(USER, "Hi") },
        v1::SendMessageRequest { category: "service".to_owned(), ..text_to(USER, "Hi") },
    ] {
        let refusal = gateway.refused(request.clone()).await;
        assert_eq!(refusal.reason, "WINDOW_CLOSED", "{request:?}");
    }
    assert!(gateway.sent_bodies().await.is_empty());

    let group = v1::recipient::Address::GroupId("Y2FwaV9ncm91cDoxNzA1NTU1MDEz".to_owned());
    let group = v1::Recipient { address: Some(group) };
    for request in [
        v1::SendMessageRequest { window_policy: WindowPolicy::Ignore.into(), ..text_to(unwritten, "Hi") },
        v1::SendMessageRequest { category: "utility".to_owned(), ..text_to(unwritten, "It was sent.") },
        v1::SendMessageRequest { recipient: Some(group), ..text_to(unwritten, "Hi all") },
        to(Content::Template(template("hello_world"))),
    ] {
        let sent = gateway.client().await.send_message(request.clone()).await;
        let sent = sent.unwrap_or_else(|status| panic!("{status:?} {request:?}")).into_inner();
        assert_eq!(sent.state(), v1::SendState::Accepted, "{request:?}");
    }
}

#[tokio::test]
async fn a_closed_window_sends_the_template_instead() {
    let gateway = closed().await;
    let request = v1::SendMessageRequest {
        fallback_template: Some(template("hello_world")),
        callback_data: "order=4521".to_owned(),
        reply_to_message_id: "wamid.A".to_owned(),
        show_request: true,
        ..text_to(USER, "Hi")
    };
    let shown = gateway.send(v1::SendMessageRequest { validate_only: true, ..request.clone() }).await;
    assert!(shown.used_fallback && shown.request_json.contains("hello_world"), "{shown:?}");
    let sent = gateway.send(request.clone()).await;
    assert!(sent.used_fallback);
    let template = json!({"name": "hello_world", "language": {"code": "en_US"}});
    let expected = json!({
        "messaging_product": "whatsapp", "recipient_type": "individual", "to": format!("+{USER}"),
        "biz_opaque_callback_data": format!("g1.{}.order=4521", sent.send_tag),
        "type": "template", "template": template,
    });
    assert_eq!(gateway.sent_bodies().await, [expected]);

    // It is not used while the window is open.
    wrote(&gateway, USER, 0).await;
    assert!(!gateway.send(request).await.used_fallback);
    assert_eq!(gateway.sent_bodies().await[1]["type"], "text");
}

#[tokio::test]
async fn a_fallback_that_is_wrong_or_never_needed_is_refused() {
    let gateway = Gateway::dev().await;
    let group = v1::recipient::Address::GroupId("Y2Fw".to_owned());
    let with =
        |request| v1::SendMessageRequest { fallback_template: Some(template("hello_world")), ..request };
    let hi = || with(text_to(USER, "Hi"));
    let button = v1::TemplateButton { sub_type: "url".to_owned(), index: Some(0), parameters: Vec::new() };
    let button = v1::template_component::Component::Button(button);
    let button = v1::TemplateComponent { component: Some(button) };
    let twice = v1::Template { components: vec![button.clone(), button], ..template("hello_world") };
    let parameter = v1::template_parameter::Parameter::Text("x".repeat(70_000));
    let parameter = v1::TemplateParameter { parameter: Some(parameter), parameter_name: String::new() };
    let body = v1::TemplateParameters { parameters: vec![parameter] };
    let body = v1::template_component::Component::Body(body);
    let huge = v1::Template {
        components: vec![v1::TemplateComponent { component: Some(body) }],
        ..template("hello_world")
    };
    for (request, field) in [
        (
            v1::SendMessageRequest { content: Some(Content::Template(template("a"))), ..hi() },
            "fallback_template",
        ),
        (v1::SendMessageRequest { category: "utility".to_owned(), ..hi() }, "fallback_template"),
        (
            v1::SendMessageRequest { recipient: Some(v1::Recipient { address: Some(group) }), ..hi() },
            "fallback_template",
        ),
        (v1::SendMessageRequest { fallback_template: Some(template("")), ..hi() }, "fallback_template.name"),
        (
            v1::SendMessageRequest { fallback_template: Some(twice), ..hi() },
            "fallback_template.components[1].button.index",
        ),
        (v1::SendMessageRequest { fallback_template: Some(huge), ..hi() }, "fallback_template"),
        (v1::SendMessageRequest { window_policy: 9, ..hi() }, "window_policy"),
    ] {
        let refusal = gateway.refused(request).await;
        assert_eq!(refusal.fields(), [field], "{refusal:?}");
    }
}

#[tokio::test]
async fn who_answers_at_once_is_not_refused() {
    let gateway = closed().await;
    let mut client = gateway.client().await;
    let mut stream = Subscriber::open(&mut client, v1::SubscribeEventsRequest::default()).await.unwrap();
    let sender = gateway.sender();
    for round in 0..50 {
        let from = format!("1650556{round:04}");
        let message = json!({"from": from, "id": format!("wamid.{round}"), "type": "text",
            "timestamp": ago(0).to_string(), "text": {"body": "Hi"}});
        assert_eq!(sender.post(&webhook::messages(&[message])).await, Some(200));
        assert_eq!(stream.take(1).await.unwrap().len(), 1);
        let answer = v1::SendMessageRequest { validate_only: true, ..text_to(&from, "Hello") };
        client.send_message(answer).await.unwrap_or_else(|status| panic!("{round}: {status:?}"));
    }
}

#[tokio::test]
async fn a_window_outlives_the_process_and_a_call_opens_one() {
    let folder = TempDir::new().unwrap();
    let mut gateway = knowing().data_dir(folder.path()).start().await;
    wrote(&gateway, USER, HOUR).await;
    let caller = "16505557777";
    let call = json!({"object": "whatsapp_business_account", "entry": [{"id": webhook::WABA_ID, "changes": [{
        "field": "calls", "value": {"messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550783881", "phone_number_id": PHONE_NUMBER_ID},
        "calls": [{"id": "wacid.A", "from": caller, "to": "15550783881", "event": "connect",
            "timestamp": ago(60).to_string(), "direction": "USER_INITIATED"}]}}]}]});
    assert_eq!(gateway.post_webhook(call.to_string()).await, 200);
    gateway.kill().await;
    let gateway = knowing().data_dir(folder.path()).start().await;
    for (number, opened) in [(USER, HOUR), (caller, 60)] {
        let known = conversation(&gateway, phone(number)).await;
        let window = known.customer_service_window.unwrap();
        assert_eq!((window.state(), known.may_send_free_form), (WindowState::Open, Some(true)), "{number}");
        let closes_at = u64::try_from(window.closes_at.unwrap().seconds).unwrap();
        assert!(closes_at.abs_diff(ago(0) + 24 * HOUR - opened) < 60, "{number}: {closes_at}");
    }
    // What came while it was away may not have been repeated yet.
    assert_eq!(state(&gateway, "16505550000").await, WindowState::Unknown);
}

#[tokio::test]
async fn an_advertisement_opens_the_free_entry_point_with_the_answer() {
    let gateway = knowing().start().await;
    let free_until = async |number: &str| {
        let known = conversation(&gateway, phone(number)).await;
        known.free_entry_point_expires_at.map(|time| u64::try_from(time.seconds).unwrap())
    };
    let written = ago(30 * HOUR);
    let referral = json!({"from": USER, "id": "wamid.R", "type": "text", "timestamp": written.to_string(),
        "text": {"body": "Hi"}, "referral": {"source_type": "ad", "source_id": "1", "ctwa_clid": "x"}});
    assert_eq!(gateway.post_webhook(webhook::messages(&[referral]).to_string()).await, 200);
    assert_eq!(free_until(USER).await, None);
    let status = |id: &str, status: Value| {
        let mut body = webhook::messages(&[]);
        let mut fields = json!({"id": id, "status": "sent", "recipient_id": USER});
        fields.as_object_mut().unwrap().extend(status.as_object().unwrap().clone());
        body["entry"][0]["changes"][0]["value"]["statuses"] = json!([fields]);
        body.to_string()
    };
    let answered = written + HOUR;
    let sent = status("wamid.1", json!({"timestamp": answered.to_string()}));
    assert_eq!(gateway.post_webhook(sent).await, 200);
    assert_eq!(free_until(USER).await, Some(answered + 72 * HOUR));
    // It makes messages free of charge, and keeps no window open.
    eventually!(state(&gateway, USER).await == WindowState::Closed);
    assert_eq!(conversation(&gateway, phone(USER)).await.may_send_free_form, Some(false));
    // Meta's own word is taken, here for a user of whose referral nothing is known.
    let (other, end) = ("16505558888", ago(0) + 5 * HOUR);
    let sent = status(
        "wamid.2",
        json!({"timestamp": ago(0).to_string(), "recipient_id": other,
        "conversation": {"id": "c", "expiration_timestamp": end.to_string(), "origin": {"type": "referral_conversion"}}}),
    );
    assert_eq!(gateway.post_webhook(sent).await, 200);
    assert_eq!(free_until(other).await, Some(end));
}

#[tokio::test]
async fn a_conversation_is_found_by_every_name_and_by_its_key() {
    use v1::get_conversation_request::Conversation::ConversationKey;
    let gateway = knowing().start().await;
    wrote(&gateway, USER, 0).await;
    let by_number = conversation(&gateway, phone(USER)).await;
    let names = by_number.user.clone().unwrap();
    assert_eq!(names.wa_id, USER);
    assert_eq!(by_number.conversation_key, gateway.events().await[0].conversation_key);
    assert_eq!(conversation(&gateway, user(&names.user_id)).await, by_number);
    let by_key = ask(&gateway, ConversationKey(by_number.conversation_key.clone())).await.unwrap();
    assert_eq!(by_key, by_number);

    let nobody = conversation(&gateway, phone("+16505550000")).await;
    assert_eq!((nobody.conversation_key.as_str(), nobody.user), ("", None));
    let number = webhook::PHONE_NUMBER_ID;
    for key in
        [format!("{number}:16505550000"), format!("{number}:US.999"), "US.1".to_owned(), "1:US.1".to_owned()]
    {
        let refusal = Refusal::of(&ask(&gateway, ConversationKey(key.clone())).await.unwrap_err());
        assert_eq!(refusal.is(), (Code::NotFound, "CONVERSATION_NOT_FOUND"), "{key}");
    }
    let group = ask(&gateway, ConversationKey(format!("{number}:Y2FwaV9ncm91cDox"))).await.unwrap();
    assert_eq!((group.customer_service_window, group.may_send_free_form), (None, None));
}

#[tokio::test]
async fn a_user_who_hides_the_number_may_be_anybody() {
    let gateway = closed().await;
    let hidden = json!({"user_id": "US.4711", "hide_phone_number": true, "text": "Guess who"});
    gateway.simulate("messages", &hidden).await;
    eventually!(conversation(&gateway, user("US.4711")).await.may_send_free_form == Some(true));
    // A number of which no user id is known may be theirs; one whose user id is known is not.
    assert_eq!(state(&gateway, "16505550000").await, WindowState::Unknown);
    assert_eq!(state(&gateway, USER).await, WindowState::Closed);
    let sent = gateway.send(v1::SendMessageRequest {
        recipient: Some(user("US.4711")),
        content: Some(text("Nice to hear from you")),
        ..Default::default()
    });
    assert_eq!(
        tokio::time::timeout(Duration::from_secs(10), sent).await.unwrap().state(),
        v1::SendState::Accepted
    );
}
