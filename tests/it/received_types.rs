//! The webhook corpus becomes typed events, and the typed form says everything that Meta's JSON says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use prost::Message;
use serde_json::{Value, json};
use whatsapp_gateway::cloud_api::normalize::normalize;
use whatsapp_gateway::contract::encode::encode;
use whatsapp_gateway::contract::v1::event::Payload;
use whatsapp_gateway::contract::v1::received_message::Content;
use whatsapp_gateway::contract::v1::{self, received_interactive::Reply};
use whatsapp_gateway::domain::event::Event;

use crate::support::shared::{corpus, json_files};

/// Kinds of events that stay untyped, each for a reason: (beginning of the kind, beginning of the file, why).
const UNTYPED: [(&str, &str, &str); 7] = [
    ("whatsapp.unknown_field_xyz", "", "the field is made up"),
    (
        "whatsapp.unknown",
        "shridarpatil",
        "the changes have no field, which decides the shape (reference 4.2)",
    ),
    ("whatsapp.unknown", "piusalfred+whatsapp/envelope-empty", "the body has no entry"),
    ("whatsapp.automatic_events", "piusalfred", "the value is made up and has no field that Meta's has"),
    ("message interactive", "david-lev", "the object named by the type is missing (reference 4.4)"),
    ("whatsapp.message.received", "netflie", "a placeholder stands where a number must"),
    ("whatsapp.message.received", "piusalfred", "a placeholder stands where a time must"),
];

/// Fields of Meta's that the typed form leaves out: (name, why).
const LEFT_OUT: [(&str, &str); 1] = [("messaging_product", "always \"whatsapp\"")];

fn events() -> Vec<(String, Event)> {
    let Some(folder) = corpus("webhook-corpus") else { return Vec::new() };
    let files = json_files(&folder);
    assert!(files.len() > 200, "the corpus is incomplete: {} files", files.len());
    let events = |(name, body): (String, Vec<u8>)| {
        let events = normalize(&body, SystemTime::UNIX_EPOCH);
        events.into_iter().map(move |event| (name.clone(), event)).collect::<Vec<_>>()
    };
    files.into_iter().flat_map(events).collect()
}

fn payload(event: &Event) -> Payload {
    v1::Event::decode(encode(event, "").typed).unwrap().payload.unwrap()
}

/// The kind of an event and, if it is not typed, why not.
fn kind(event: &Event) -> (String, Option<String>) {
    let payload = payload(event);
    let event_type = || event.attributes.event_type.clone();
    if let Payload::Message(message) = payload {
        let (reply, is_typed) = match &message.content {
            Some(Content::Interactive(interactive)) => {
                (interactive.r#type.as_str(), !matches!(interactive.reply, None | Some(Reply::Unknown(_))))
            }
            content => ("", !matches!(content, None | Some(Content::Unknown(_)))),
        };
        let kind = format!("message {} {reply}", message.r#type);
        (kind.trim_end().to_owned(), (!is_typed).then(|| "no arm for the content".to_owned()))
    } else if let Payload::Status(status) = payload {
        (format!("status {} {}", status.r#type, status.status), None)
    } else if let Payload::Unknown(unknown) = payload {
        (event_type(), Some(unknown.reason))
    } else {
        (event_type(), None)
    }
}

#[test]
fn every_kind_that_the_reference_names_is_typed() {
    let mut table: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let (mut problems, mut excuses) = (Vec::new(), BTreeSet::new());
    let events = events();
    for (file, event) in &events {
        let (kind, untyped) = kind(event);
        let row = table.entry(kind.clone()).or_default();
        let Some(reason) = untyped else {
            row.0 += 1;
            continue;
        };
        row.1 += 1;
        let excuse = UNTYPED.iter().position(|(k, f, _)| kind.starts_with(k) && file.starts_with(f));
        match excuse {
            Some(excuse) => drop(excuses.insert(excuse)),
            None => problems.push(format!("{file}: {kind}: {reason}")),
        }
    }
    println!("typed unknown  kind");
    for (kind, (typed, unknown)) in &table {
        println!("{typed:5} {unknown:7}  {kind}");
    }
    let sum = |pick: fn(&(usize, usize)) -> usize| table.values().map(pick).sum::<usize>();
    println!("{:5} {:7}  all", sum(|row| row.0), sum(|row| row.1));
    assert!(problems.is_empty(), "{problems:#?}");
    let unused = UNTYPED.iter().enumerate().filter(|(index, _)| !excuses.contains(index)).collect::<Vec<_>>();
    assert!(events.is_empty() || unused.is_empty(), "nothing is excused by {unused:?}");
}

#[test]
fn the_typed_form_of_the_corpus_says_everything() {
    let typed = events().into_iter().filter(|(_, event)| kind(event).1.is_none());
    let problems: BTreeSet<String> = typed.flat_map(|(file, event)| untold(&file, event)).collect();
    assert!(problems.is_empty(), "{problems:#?}");
}

/// The samples of the reference, each block of JSON in its sections 4.4 to 4.14.
#[test]
fn the_typed_form_of_the_reference_says_everything() {
    let Some(folder) = corpus("cloud-api") else { return };
    let reference = std::fs::read_to_string(folder.join("REFERENCE.md")).unwrap();
    let mut problems = BTreeSet::new();
    let mut count = 0;
    for section in reference.split("\n### ") {
        let title = section.lines().next().unwrap_or_default();
        let number = title.strip_prefix("4.").and_then(|rest| rest.split(' ').next()?.parse::<u32>().ok());
        if !number.is_some_and(|number| (4..=14).contains(&number)) {
            continue;
        }
        for block in section.split("```json\n").skip(1) {
            let text = block.split("```").next().unwrap_or_default();
            let sample: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{title}: {e}"));
            for event in normalize(wrapped(&sample).to_string().as_bytes(), SystemTime::UNIX_EPOCH) {
                count += 1;
                match kind(&event) {
                    (kind, Some(reason)) => drop(problems.insert(format!("{title}: {kind}: {reason}"))),
                    (_, None) => problems.extend(untold(title, event)),
                }
            }
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
    assert!(count > 40, "the reference has more samples than {count}");
}

/// What the reference says in words and tables.
#[test]
fn what_the_reference_only_describes_is_typed() {
    for (field, value) in accounts().into_iter().chain(groups()).chain(messages()) {
        let body = json!({"entry": [{"id": "1", "changes": [{"field": field, "value": value}]}]});
        for event in normalize(body.to_string().as_bytes(), SystemTime::UNIX_EPOCH) {
            assert_eq!(kind(&event).1, None, "{field}: {value}");
            assert_eq!(untold(field, event), Vec::<String>::new(), "{field}: {value}");
        }
    }
}

fn accounts() -> Vec<(&'static str, Value)> {
    vec![
        (
            "message_template_status_update",
            json!({"event": "DELETED", "reason": null, "message_template_id": 1}),
        ),
        ("message_template_status_update", json!({"new_quality_score": "RED", "message_template_id": 1})),
        ("account_update", json!({"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_date": ["a", "b"]}})),
        ("account_update", json!({"event": "VERIFIED_ACCOUNT", "phone_number": "15550783881"})),
        ("account_update", json!({"restriction_info": [{"remediation": "a", "phone_number": "1"}]})),
        (
            "account_alerts",
            json!({"alert_severity": "a", "alert_status": "b", "alert_type": "c",
            "alert_description": "d"}),
        ),
        ("account_review_update", json!({"decision": "APPROVED"})),
        ("business_capability_update", json!({"max_daily_conversations_per_business": "TIER_2K"})),
        ("security", json!({"display_phone_number": "1", "event": "PIN_CHANGED", "requester": "2"})),
        ("business_username_update", json!({"username": "a", "status": "deleted"})),
        (
            "flows",
            json!({"event": "ENDPOINT_LATENCY", "p50_latency": 1, "p90_latency": 2, "requests_count": 3}),
        ),
        ("flows", json!({"event": "ENDPOINT_AVAILABILITY", "availability": 75, "threshold": 90})),
        ("flows", json!({"event": "FLOW_VERSION_EXPIRY_WARNING", "warning": "a"})),
        (
            "calls",
            json!({"calls": [{"event": "terminate", "status": ["Failed"], "errors": [{"code": 138_021}]}]}),
        ),
    ]
}

fn groups() -> Vec<(&'static str, Value)> {
    let user = json!({"input": "+1", "wa_id": "1", "user_id": "US.1", "parent_user_id": "US.ENT.1",
        "username": "a", "errors": [{"code": 131_000}]});
    let changed = json!({"text": "a", "update_successful": true, "errors": [{"code": 100}]});
    vec![
        (
            "group_lifecycle_update",
            json!({"groups": [{"timestamp": 1, "group_id": "a", "type": "group_delete",
            "request_id": "b", "subject": "c", "description": "d", "invite_link": "e",
            "join_approval_mode": "f", "errors": [{"code": 131_000}]}]}),
        ),
        (
            "group_participants_update",
            json!({"groups": [{"type": "a", "reason": "b", "added_participants": [user],
            "removed_participants": [user], "failed_participants": [user], "join_request_id": "c", "wa_id": "1",
            "request_id": "d", "initiated_by": "business", "user_id": "US.1", "errors": [{"code": 1}]}]}),
        ),
        (
            "group_settings_update",
            json!({"groups": [{"request_id": "a", "group_subject": changed,
            "group_description": changed, "profile_picture": {"mime_type": "b", "sha256": "c",
            "update_successful": false, "errors": [{"code": 1}]}, "errors": [{"code": 2}]}]}),
        ),
        ("group_status_update", json!({"groups": [{"type": "group_suspend_cleared", "group_id": "a"}]})),
    ]
}

fn messages() -> Vec<(&'static str, Value)> {
    vec![
        ("message_echoes", json!({"message_echoes": [{"type": "text", "text": {"body": "a"}, "to": "1"}]})),
        ("history", json!({"message_echoes": [{"type": "image", "image": {"id": "1"}, "to": "1"}]})),
        ("history", json!({"history": [{"errors": [{"code": 2_593_109}]}]})),
        ("messaging_handovers", json!({"type": "control_taken", "control_taken": {"new_owner_app_id": "1"}})),
        ("automatic_events", json!({"automatic_events": [{"id": "a", "event_name": "LeadSubmitted"}]})),
        ("partner_solutions", json!({"event": "a", "solution_id": "b", "solution_status": "c"})),
        (
            "messages",
            json!({"messages": [{"type": "system", "system": {"type": "user_changed_number",
            "new_wa_id": "1"}}]}),
        ),
        (
            "messages",
            json!({"messages": [{"type": "button", "from_logical_id": "1", "button": {"text": "a"}}]}),
        ),
        (
            "messages",
            json!({"statuses": [{"parent_recipient_user_id": "US.ENT.1", "recipient_type": "group",
            "participant_recipient_id": "1"}]}),
        ),
        ("messages", json!({"errors": [{"code": 1, "error_data": "a"}]})),
    ]
}

/// Keys that tell which field a sample of a value belongs to.
const FIELDS: [(&str, &str); 26] = [
    ("message_template_element", "message_template_components_update"),
    ("new_quality_score", "message_template_quality_update"),
    ("new_category", "template_category_update"),
    ("message_template_id", "message_template_status_update"),
    ("current_limit", "phone_number_quality_update"),
    ("requested_verified_name", "phone_number_name_update"),
    ("restriction_info", "account_update"),
    ("ban_info", "account_update"),
    ("waba_info", "account_update"),
    ("volume_tier_info", "account_update"),
    ("alert_info", "account_alerts"),
    ("max_phone_numbers_per_waba", "business_capability_update"),
    ("phone_number_settings", "account_settings_update"),
    ("user_preferences", "user_preferences"),
    ("user_id_update", "user_id_update"),
    ("username", "business_username_update"),
    ("flow_id", "flows"),
    ("calls", "calls"),
    ("statuses", "calls"),
    ("message_echoes", "smb_message_echoes"),
    ("state_sync", "smb_app_state_sync"),
    ("history", "history"),
    ("control_passed", "messaging_handovers"),
    ("provider_mid", "payment_configuration_update"),
    ("errors", "messages"),
    ("messages", "messages"),
];

/// A body around a sample: a message, a status or a value.
fn wrapped(sample: &Value) -> Value {
    let field = FIELDS.iter().find(|(key, _)| sample.get(key).is_some()).map(|row| row.1);
    let (field, value) = if sample.get("recipient_id").is_some() {
        ("messages", json!({"statuses": [sample]}))
    } else if sample.get("from").is_some() {
        ("messages", json!({"messages": [sample]}))
    } else {
        (field.unwrap_or_default(), sample.clone())
    };
    json!({"entry": [{"id": "1", "changes": [{"field": field, "value": value}]}]})
}

/// Changes each value of Meta's JSON in turn; where the typed form stays the same, the protos lack it.
fn untold(origin: &str, mut event: Event) -> Vec<String> {
    let value: Value = serde_json::from_str(&event.raw_json).unwrap();
    event.raw_json = value.to_string();
    let (kind, typed) = (kind(&event).0, encode(&event, "").typed);
    let mut untold = Vec::new();
    for path in leaves(&value, String::new()) {
        let name = path.rsplit('/').next().unwrap_or_default();
        if LEFT_OUT.iter().any(|(left_out, _)| *left_out == name) {
            continue;
        }
        let mut changed = value.clone();
        change(changed.pointer_mut(&path).unwrap());
        event.raw_json = changed.to_string();
        if encode(&event, "").typed == typed {
            untold.push(format!("{kind}: {path} ({origin})"));
        }
    }
    untold
}

/// The paths of everything that is neither a list nor an object nor `null`.
fn leaves(value: &Value, path: String) -> Vec<String> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(values) => {
            let each = values.iter().enumerate();
            each.flat_map(|(index, value)| leaves(value, format!("{path}/{index}"))).collect()
        }
        Value::Object(fields) => {
            let escaped = |name: &String| name.replace('~', "~0").replace('/', "~1");
            fields.iter().flat_map(|(name, v)| leaves(v, format!("{path}/{}", escaped(name)))).collect()
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => vec![path],
    }
}

fn change(value: &mut Value) {
    *value = match &*value {
        Value::Bool(truth) => (!truth).into(),
        Value::Number(number) if number.is_f64() => (number.as_f64().unwrap() + 1.0).into(),
        Value::Number(number) => (number.as_i64().unwrap() + 1).into(),
        Value::String(text) => format!("{text}1").into(),
        other @ (Value::Null | Value::Array(_) | Value::Object(_)) => other.clone(),
    };
}
