//! A webhook of many entries: nothing is lost, and nothing is filed under another number, account or conversation.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use whatsapp_gateway::contract::v1;

use crate::support::webhook::{PHONE_NUMBER_ID as A, WABA_ID as WABA_A};
use crate::support::{Gateway, webhook};
use crate::webhook_corpus::rebuild;

/// A number and a WABA that the gateway is not configured for.
const B: &str = "200000000000002";
const WABA_B: &str = "200000000000001";

const MESSAGE: &str = "whatsapp.message.received";
const STATUS: &str = "whatsapp.message.status";
const ERROR: &str = "whatsapp.error";

/// What an event is filed under: type, subject, number, WABA, conversation.
type Filed<'a> = [&'a str; 5];

fn filed(event: &v1::Event) -> Filed<'_> {
    [&event.r#type, &event.subject, &event.phone_number_id, &event.waba_id, &event.conversation_key]
}

fn message(id: &str, from: &str) -> Value {
    json!({"id": id, "from": from, "timestamp": "1750000000", "type": "text", "text": {"body": id}})
}

fn status(id: &str, recipient: &str) -> Value {
    json!({"id": id, "status": "sent", "timestamp": "1750000001", "recipient_id": recipient})
}

fn contact(wa_id: &str, user_id: &str) -> Value {
    json!({"profile": {"name": wa_id}, "wa_id": wa_id, "user_id": user_id})
}

/// A change of the field `messages` at a number, with these fields in its value.
fn change(number: &str, mut value: Value) -> Value {
    value["messaging_product"] = json!("whatsapp");
    value["metadata"] = json!({"display_phone_number": number, "phone_number_id": number});
    json!({"field": "messages", "value": value})
}

/// Everything mixed: two accounts that take turns, two numbers in one entry, one user at both numbers, a group.
fn batch() -> Value {
    let in_group = json!({"id": "a3", "from": "16505550001", "group_id": "G1", "timestamp": "1", "type": "text",
        "text": {"body": "x"}});
    let to_group = json!({"id": "b9", "status": "read", "timestamp": "1", "recipient_id": "G1",
        "recipient_type": "group", "recipient_participant_id": "16505550001"});
    let alert = json!({"entity_type": "PHONE_NUMBER", "alert_type": "X"});
    json!({"object": "whatsapp_business_account", "entry": [
        {"id": WABA_A, "time": 1, "changes": [
            change(A, json!({
                "contacts": [contact("16505550002", "US.2"), contact("16505550001", "US.1")],
                "messages": [message("a1", "16505550001"), message("a2", "16505550002"), in_group],
                "statuses": [status("a4", "16505550003")],
                "errors": [{"code": 130_429, "title": "Rate limit hit"}],
            })),
            {"field": "account_alerts", "value": alert},
        ]},
        {"id": WABA_B, "time": 2, "changes": [
            change(B, json!({"statuses": [status("b1", "16505550001"), status("b2", "16505550002"), to_group]})),
            change(B, json!({"messages": [message("b3", "16505550001")], "contacts": [contact("16505550001", "US.7")]})),
        ]},
        {"id": WABA_B, "changes": []},
        {"id": WABA_A, "time": 3, "changes": [
            change(B, json!({"messages": [message("a1", "16505550001")]})),
            change(A, json!({"messages": [message("a5", "16505550003"), message("a6", "16505550001")]})),
        ]},
        {"id": WABA_B, "time": 4, "changes": [
            {"field": "account_alerts", "value": alert},
            change(B, json!({"errors": [{"code": 130_429, "title": "Rate limit hit"}]})),
        ]},
    ]})
}

/// What [`batch`] is filed under, in its order. `serde_json` writes fields sorted: errors, messages, statuses.
fn expected() -> Vec<[String; 5]> {
    let alerts = "whatsapp.account_alerts";
    let at = |number: &str, user: &str| format!("{number}:{user}");
    let row = |event_type: &str, subject: &str, number: &str, waba: &str, key: String| {
        [event_type.to_owned(), subject.to_owned(), number.to_owned(), waba.to_owned(), key]
    };
    vec![
        row(ERROR, "", A, WABA_A, WABA_A.to_owned()),
        row(MESSAGE, "a1", A, WABA_A, at(A, "US.1")),
        row(MESSAGE, "a2", A, WABA_A, at(A, "US.2")),
        row(MESSAGE, "a3", A, WABA_A, at(A, "G1")),
        row(STATUS, "a4", A, WABA_A, at(A, "16505550003")),
        row(alerts, "", "", WABA_A, WABA_A.to_owned()),
        // The same people, but at another number: other conversations.
        row(STATUS, "b1", B, WABA_B, at(B, "16505550001")),
        row(STATUS, "b2", B, WABA_B, at(B, "16505550002")),
        row(STATUS, "b9", B, WABA_B, at(B, "G1")),
        // Known by number first, so the user id that comes along changes nothing.
        row(MESSAGE, "b3", B, WABA_B, at(B, "16505550001")),
        row("whatsapp.unknown", "", "", WABA_B, WABA_B.to_owned()),
        // A message id is unique at its number only; and a number may move to another WABA.
        row(MESSAGE, "a1", B, WABA_A, at(B, "16505550001")),
        row(MESSAGE, "a5", A, WABA_A, at(A, "16505550003")),
        row(MESSAGE, "a6", A, WABA_A, at(A, "US.1")),
        row(alerts, "", "", WABA_B, WABA_B.to_owned()),
        row(ERROR, "", B, WABA_B, WABA_B.to_owned()),
    ]
}

async fn post(gateway: &Gateway, body: &Value) {
    assert_eq!(gateway.post_webhook(body.to_string()).await, 200);
}

/// Every stored event that a filter lets through.
async fn read(gateway: &Gateway, filter: v1::EventFilter) -> Vec<v1::Event> {
    let request = v1::SubscribeEventsRequest {
        start: Some(v1::subscribe_events_request::Start::Position(v1::Position::Earliest.into())),
        filter: Some(filter),
        stop_when_caught_up: true,
        max_batch_events: 3,
        ..Default::default()
    };
    let mut frames = gateway.client().await.subscribe_events(request).await.unwrap().into_inner();
    let mut events = Vec::new();
    while let Some(frame) = frames.message().await.unwrap() {
        if let Some(v1::subscribe_events_response::Frame::Events(batch)) = frame.frame {
            assert!(batch.events.len() <= 3, "a batch of {}", batch.events.len());
            events.extend(batch.events.into_iter().map(|received| received.event.unwrap()));
        }
    }
    events
}

#[tokio::test]
async fn a_batch_loses_and_misfiles_nothing() {
    let gateway = Gateway::dev().await;
    post(&gateway, &batch()).await;
    let events = gateway.events().await;
    for event in &events {
        println!("{}", filed(event).join("  "));
    }
    assert_eq!(events.iter().map(filed).collect::<Vec<_>>(), expected());
    assert_eq!(rebuild(&events), batch());

    post(&gateway, &batch()).await;
    // The same entries in another webhook, one by one and backwards, are the same events.
    for entry in batch()["entry"].as_array().unwrap().iter().rev() {
        post(&gateway, &json!({"object": "whatsapp_business_account", "entry": [entry]})).await;
    }
    let again = gateway.events().await;
    let alone = again.get(events.len()..).unwrap_or_default();
    // An entry without changes is one event in a batch; alone it makes its body one that holds no change.
    assert!(again.starts_with(&events));
    assert_eq!(alone.iter().map(filed).collect::<Vec<_>>(), [["whatsapp.unknown", "", "", "", ""]]);
}

#[tokio::test]
async fn filters_choose_by_number_account_type_and_conversation() {
    let gateway = Gateway::dev().await;
    post(&gateway, &batch()).await;
    let all = gateway.events().await;
    let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let user_one = format!("{A}:US.1");
    let cases: [[&[&str]; 4]; 16] = [
        [&[], &[], &[], &[]],
        [&[A], &[], &[], &[]],
        [&[B], &[], &[], &[]],
        [&[A, B], &[], &[], &[]],
        [&["1"], &[], &[], &[]],
        [&[], &[WABA_B], &[], &[]],
        [&[B], &[WABA_A], &[], &[]],
        [&[], &[], &["whatsapp.message.*"], &[]],
        [&[], &[], &["whatsapp.message.status"], &[]],
        [&[], &[], &["whatsapp.message"], &[]],
        [&[], &[], &["whatsapp.*"], &[]],
        [&[], &[], &["whatsapp.error", "whatsapp.account_alerts"], &[]],
        [&[], &[], &[], &[&user_one]],
        [&[], &[], &[], &[&user_one, WABA_B]],
        [&[A], &[], &["whatsapp.message.received"], &[&user_one]],
        [&[B], &[], &["whatsapp.message.received"], &[&user_one]],
    ];
    let mut sizes = Vec::new();
    for [numbers, wabas, types, keys] in cases {
        let filter = v1::EventFilter {
            phone_number_ids: words(numbers),
            waba_ids: words(wabas),
            types: words(types),
            conversation_keys: words(keys),
        };
        // The rule, written once more: alternatives in a list, and every list that has values must match.
        let allows = |list: &[&str], value: &str| list.is_empty() || list.contains(&value);
        let is_type = |pattern: &&str, word: &str| match pattern.strip_suffix(".*") {
            Some(prefix) => word.starts_with(&format!("{prefix}.")),
            None => *pattern == word,
        };
        let wanted = |event: &&v1::Event| {
            allows(numbers, &event.phone_number_id)
                && allows(wabas, &event.waba_id)
                && allows(keys, &event.conversation_key)
                && (types.is_empty() || types.iter().any(|pattern| is_type(pattern, &event.r#type)))
        };
        let expected: Vec<_> = all.iter().filter(wanted).cloned().collect();
        let found = read(&gateway, filter.clone()).await;
        assert!(found == expected, "{filter:?}: {:?}", found.iter().map(filed).collect::<Vec<_>>());
        sizes.push(found.len());
    }
    assert_eq!(sizes, [16, 7, 6, 13, 0, 7, 1, 11, 4, 0, 16, 4, 2, 5, 2, 0]);
}

/// A gateway over a folder that outlives it.
async fn open(data_dir: &Path) -> Gateway {
    Gateway::builder().data_dir(data_dir).start().await
}

/// A message whose sender is named by number, by user id, or by both.
fn named(id: &str, wa_id: Option<&str>, user_id: Option<&str>) -> Value {
    let mut message = json!({"id": id, "timestamp": "1750000000", "type": "text", "text": {"body": id}});
    if let Some(wa_id) = wa_id {
        message["from"] = json!(wa_id);
    }
    if let Some(user_id) = user_id {
        message["from_user_id"] = json!(user_id);
    }
    webhook::messages(&[message])
}

/// The conversation keys by subject.
async fn keys(gateway: &Gateway) -> Vec<(String, String)> {
    let events = gateway.events().await.into_iter();
    events.map(|event| (event.subject, event.conversation_key)).collect()
}

#[tokio::test]
async fn a_conversation_keeps_its_key_whatever_the_user_is_called() {
    let folder = TempDir::new().unwrap();
    let mut gateway = open(folder.path()).await;
    let (ann, bob, number) = (Some("US.Ann1"), Some("US.Bob1"), Some("16505550001"));
    let (brazil, brazil_short) = (Some("5511987654321"), Some("551187654321"));
    // Ann is known by her number first, then by both names, then by her user id alone.
    post(&gateway, &named("ann.1", number, None)).await;
    post(&gateway, &named("ann.2", number, ann)).await;
    post(&gateway, &named("ann.3", None, ann)).await;
    // Bob comes with both names.
    post(&gateway, &named("bob.1", Some("16505550002"), bob)).await;
    post(&gateway, &named("bob.2", Some("16505550002"), None)).await;
    post(&gateway, &named("bob.3", None, bob)).await;
    // One mobile number in Meta's two spellings.
    post(&gateway, &named("brazil.1", brazil, None)).await;
    post(&gateway, &named("brazil.2", brazil_short, None)).await;
    // Somebody who hides the number, and whose number a contact tells later.
    post(&gateway, &named("eve.1", None, Some("US.Eve1"))).await;
    let mut with_contact = named("eve.2", None, Some("US.Eve1"));
    with_contact["entry"][0]["changes"][0]["value"]["contacts"] = json!([contact("16505550003", "US.Eve1")]);
    post(&gateway, &with_contact).await;
    post(&gateway, &named("eve.3", Some("16505550003"), None)).await;

    assert_eq!(gateway.terminate().await, Some(0));
    let gateway = open(folder.path()).await;
    post(&gateway, &named("ann.4", None, ann)).await;
    post(&gateway, &named("ann.5", number, None)).await;
    post(&gateway, &named("ann.6", number, ann)).await;
    post(&gateway, &named("bob.4", None, bob)).await;
    post(&gateway, &named("bob.5", Some("16505550002"), None)).await;
    post(&gateway, &named("brazil.3", brazil, Some("BR.1"))).await;
    post(&gateway, &named("brazil.4", None, Some("BR.1"))).await;
    post(&gateway, &named("eve.4", Some("16505550003"), None)).await;

    let found = keys(&gateway).await;
    assert_eq!(found.len(), 19);
    for (subject, key) in &found {
        println!("{subject}  {key}");
        let expected = match subject.split('.').next().unwrap() {
            "ann" => format!("{A}:16505550001"),
            "bob" => format!("{A}:US.Bob1"),
            "brazil" => format!("{A}:551187654321"),
            _ => format!("{A}:US.Eve1"),
        };
        assert_eq!(*key, expected, "{subject}");
    }
}

/// A status brings names together as a message does, also when they stand in its contact alone.
#[tokio::test]
async fn names_that_a_status_tells_are_remembered() {
    let folder = TempDir::new().unwrap();
    let mut gateway = open(folder.path()).await;
    let value = |fields: Value| json!({"object": "whatsapp_business_account", "entry": [{"id": WABA_A, "changes": [change(A, fields)]}]});
    let mut by_both = status("fay.2", "16505551001");
    by_both["recipient_user_id"] = json!("US.Fay1");
    post(&gateway, &named("fay.1", Some("16505551001"), None)).await;
    post(&gateway, &value(json!({"statuses": [by_both]}))).await;
    let by_contact = json!({
        "statuses": [status("gus.2", "16505551002"), status("other.1", "16505551003")],
        "contacts": [contact("16505551003", "US.Other1"), contact("16505551002", "US.Gus1")],
    });
    post(&gateway, &named("gus.1", Some("16505551002"), None)).await;
    post(&gateway, &value(by_contact)).await;
    assert_eq!(gateway.terminate().await, Some(0));

    let gateway = open(folder.path()).await;
    post(&gateway, &named("fay.3", None, Some("US.Fay1"))).await;
    post(&gateway, &named("gus.3", None, Some("US.Gus1"))).await;
    let found = keys(&gateway).await;
    assert_eq!(found.len(), 7);
    for (subject, key) in &found {
        println!("{subject}  {key}");
        let expected = match subject.split('.').next().unwrap() {
            "fay" => format!("{A}:16505551001"),
            "gus" => format!("{A}:16505551002"),
            _ => format!("{A}:US.Other1"),
        };
        assert_eq!(*key, expected, "{subject}");
    }
}
