//! Bodies and the events that come of them: hand-made, recorded, generated and hostile.

mod corpus;
mod hostile;

use serde_json::{Value, json};

use super::*;
use crate::domain::failure::Reason;
use crate::domain::ids::WaId;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_001)
}

fn events(body: &str) -> Vec<Event> {
    normalize(body.as_bytes(), now())
}

/// The events of a body, after a check that they rebuild it.
fn rebuilt(body: &Value) -> Vec<Event> {
    let events = events(&body.to_string());
    assert_eq!(&rebuild(&events).unwrap(), body);
    events
}

fn change(field: &str, value: &Value) -> Value {
    json!({"object": "whatsapp_business_account", "entry": [
        {"id": "102290129340398", "time": 1_739_321_024, "changes": [{"field": field, "value": value}]}]})
}

fn messages(parts: &Value) -> Value {
    let mut value = json!({"messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550783881", "phone_number_id": "106540352242922"}});
    for (name, part) in parts.as_object().unwrap() {
        value[name] = part.clone();
    }
    change("messages", &value)
}

fn types(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.attributes.event_type.as_str()).collect()
}

#[test]
fn a_text_message() {
    let item = r#"{"from":"16505551234", "id":"wamid.A","timestamp":"1749416383","type":"text","text":{"body":"hi \ud83d\udc4d\/"}}"#;
    let body = format!(
        r#"{{"object":"whatsapp_business_account","entry":[{{"id":"1022","changes":[{{"value":{{"messaging_product":"whatsapp","metadata":{{"display_phone_number":"15550783881","phone_number_id":"1065"}},"contacts":[{{"profile":{{"name":"Sheena"}},"wa_id":"16505551234","user_id":"US.1349"}}],"messages":[{item}]}},"field":"messages"}}]}}]}}"#
    );
    let events = events(&body);
    assert_eq!(events.len(), 1);
    let event = &events[0];
    assert_eq!(event.raw_json, item);
    assert_eq!(&*event.change_json, body.replace(&format!(r#","messages":[{item}]"#), ""));
    assert_eq!(
        event.attributes,
        EventAttributes {
            event_type: "whatsapp.message.received".to_owned(),
            phone_number_id: "1065".to_owned(),
            waba_id: "1022".to_owned(),
            conversation_key: String::new(),
        }
    );
    assert_eq!(event.subject, "wamid.A");
    assert_eq!(event.event_time, Some(UNIX_EPOCH + Duration::from_secs(1_749_416_383)));
    assert_eq!(event.receive_time, now());
    assert_eq!(event.user.wa_id.as_ref().unwrap().expose(), "16505551234");
    assert_eq!(event.user.user_id.as_ref().unwrap().expose(), "US.1349");
    let Payload::Message { contact: Some(contact) } = &event.payload else { panic!("{:?}", event.payload) };
    assert_eq!(contact, r#"{"profile":{"name":"Sheena"},"wa_id":"16505551234","user_id":"US.1349"}"#);
    let origin = Origin {
        webhook_id: hex::encode(&Sha256::digest(body.as_bytes())[..16]),
        item_index: 0,
        item_count: 1,
        entry_index: Some(0),
        change_index: Some(0),
        array: "messages",
        array_index: 0,
    };
    assert_eq!(event.origin, origin);
    let key = Key::of("messages").with("messages").with("1065").with("wamid.A");
    assert_eq!(event.id, key.id());
}

#[test]
fn a_mixed_batch_keeps_order_and_contacts() {
    let body = messages(&json!({
        "contacts": [{"wa_id": "5511987654321", "user_id": "BR.1"}, {"user_id": "US.2"}, {"wa_id": "4917012345678"}],
        "messages": [{"id": "wamid.1", "from": "551187654321", "timestamp": "1"},
                     {"id": "wamid.2", "from_user_id": "US.2", "timestamp": 2},
                     {"id": "wamid.3", "from": "33612345678"}],
        "statuses": [{"id": "wamid.4", "status": "failed", "recipient_id": "4917012345678", "timestamp": "4",
                      "errors": [{"code": 131_047}, {"code": "131049"}, {}]}],
        "errors": [{"code": 130_429, "title": "Rate limit hit"}],
        "extra": {"kept": [1]},
    }));
    let events = rebuilt(&body);
    // serde_json sorts the fields of the body here: errors, messages, statuses.
    assert_eq!(
        types(&events),
        [
            "whatsapp.error",
            "whatsapp.message.received",
            "whatsapp.message.received",
            "whatsapp.message.received",
            "whatsapp.message.status"
        ]
    );
    let contact = |event: &Event| {
        let (Payload::Message { contact } | Payload::Status { contact }) = &event.payload else {
            return None;
        };
        contact.clone()
    };
    let contacts: Vec<_> = events.iter().map(contact).collect();
    assert_eq!(contacts[1].as_deref(), Some(r#"{"user_id":"BR.1","wa_id":"5511987654321"}"#));
    assert_eq!(contacts[2].as_deref(), Some(r#"{"user_id":"US.2"}"#));
    assert_eq!(contacts[3], None);
    assert_eq!(contacts[4].as_deref(), Some(r#"{"wa_id":"4917012345678"}"#));
    // The item's own spelling of the number stays; the contact adds the stable name.
    assert_eq!(events[1].user.wa_id.as_ref().unwrap().expose(), "551187654321");
    assert_eq!(events[1].user.user_id.as_ref().unwrap().expose(), "BR.1");
    let keys: Vec<_> = events.iter().map(|event| event.attributes.conversation_key.as_str()).collect();
    assert_eq!(keys, ["102290129340398", "", "", "", ""]);
    let reasons = |event: &Event| event.verdicts.iter().map(|verdict| verdict.reason).collect::<Vec<_>>();
    assert_eq!(reasons(&events[0]), [Reason::UpstreamThroughput]);
    assert_eq!(
        reasons(&events[4]),
        [Reason::WindowClosed, Reason::UpstreamQualityLimit, Reason::UpstreamRefused]
    );
    let indices: Vec<_> = events.iter().map(|event| event.origin.item_index).collect();
    assert_eq!(indices, [0, 1, 2, 3, 4]);
    assert!(events.iter().all(|event| event.origin.item_count == 5));
    assert!(events.iter().all(|event| Arc::ptr_eq(&event.change_json, &events[0].change_json)));
    assert_eq!(
        events[3].event_time,
        Some(UNIX_EPOCH + Duration::from_secs(1_739_321_024)),
        "the entry's time"
    );
}

#[test]
fn a_single_contact_belongs_to_a_single_item_only() {
    let contacts = json!([{"wa_id": "16505551234", "user_id": "US.1"}]);
    let hidden = json!({"id": "wamid.1", "status": "sent", "recipient_id": "16505550000"});
    let events = rebuilt(&messages(&json!({"contacts": contacts, "statuses": [hidden]})));
    assert_eq!(events[0].user.user_id.as_ref().unwrap().expose(), "US.1");
    let other = json!({"id": "wamid.2", "status": "sent", "recipient_id": "16505551234"});
    let events = rebuilt(&messages(&json!({"contacts": contacts, "statuses": [hidden, other]})));
    assert_eq!(events[0].user.user_id, None);
    assert_eq!(events[1].user.user_id.as_ref().unwrap().expose(), "US.1");
}

#[test]
fn groups_have_their_own_conversation() {
    let events = rebuilt(&messages(&json!({
        "messages": [{"id": "wamid.1", "from": "16505551234", "group_id": "Y2Fw"}],
        "statuses": [
            {"id": "wamid.2", "status": "read", "timestamp": "1", "recipient_type": "group",
             "recipient_id": "Y2Fw", "recipient_participant_id": "16505551235"},
            {"id": "wamid.2", "status": "read", "timestamp": "1", "recipient_type": "group",
             "recipient_id": "Y2Fw", "participant_recipient_id": "16505551236"},
            {"id": "wamid.2", "status": "read", "timestamp": "1", "recipient_type": "group",
             "recipient_id": "Y2Fw", "recipient_participant_user_id": "US.1"}],
    })));
    assert_eq!(events.len(), 4);
    assert!(events.iter().all(|event| event.attributes.conversation_key == "106540352242922:Y2Fw"));
    assert!(events.iter().all(|event| event.user.is_empty()), "a participant is not the conversation");
    let value = json!({"metadata": {"phone_number_id": "1065"}, "groups": [{"group_id": "G1"}]});
    let events = rebuilt(&change("group_lifecycle_update", &value));
    assert_eq!(events[0].attributes.conversation_key, "1065:G1");
}

#[test]
fn other_fields_stay_whole() {
    let template = json!({"event": "APPROVED", "message_template_id": 12_345_678_901_234_567_u64});
    let events = rebuilt(&change("message_template_status_update", &template));
    assert_eq!(types(&events), ["whatsapp.message_template_status_update"]);
    assert_eq!(events[0].subject, "12345678901234567");
    assert_eq!(events[0].raw_json, template.to_string());
    assert_eq!(
        &*events[0].change_json,
        r#"{"entry":[{"changes":[{"field":"message_template_status_update"}],"id":"102290129340398","time":1739321024}],"object":"whatsapp_business_account"}"#
    );
    assert_eq!(events[0].attributes.conversation_key, "102290129340398");
    assert_eq!(events[0].event_time, Some(UNIX_EPOCH + Duration::from_secs(1_739_321_024)));

    let call = json!({"metadata": {"phone_number_id": "1065"}, "contacts": [{"wa_id": "16505551234"}],
                      "calls": [{"id": "wacid.1"}]});
    let events = rebuilt(&change("calls", &call));
    assert_eq!(events[0].attributes.conversation_key, "", "a user's, found later");
    assert!(events[0].user.wa_id.is_some());

    for odd in ["", "a b", "a.b", "é", &"x".repeat(65)] {
        assert_eq!(types(&rebuilt(&change(odd, &json!({})))), ["whatsapp.unknown"], "{odd}");
    }
}

#[test]
fn a_value_that_names_one_user_is_theirs() {
    let metadata = json!({"phone_number_id": "1065"});
    let user = "16505551234";
    let of_user = [
        (
            "calls",
            json!({"calls": [{"from": user, "to": "1", "direction": "USER_INITIATED", "timestamp": "5"}]}),
        ),
        (
            "calls",
            json!({"calls": [{"from": "1", "to": user, "direction": "BUSINESS_INITIATED", "timestamp": 5}]}),
        ),
        ("calls", json!({"statuses": [{"recipient_id": user, "timestamp": "5"}]})),
        ("user_preferences", json!({"user_preferences": [{"wa_id": user, "timestamp": 5}]})),
        ("user_id_update", json!({"user_id_update": [{"wa_id": user, "timestamp": "5000000000000"}]})),
        ("smb_message_echoes", json!({"message_echoes": [{"from": "1", "to": user, "timestamp": "5"}]})),
        ("standby", json!({"standby": {"messages": [{"from": user, "timestamp": "5"}]}})),
        (
            "standby",
            json!({"standby": {"messages": [{"from": user, "timestamp": "5"}],
                                       "contacts": [{"wa_id": user}]}}),
        ),
        ("messaging_handovers", json!({"sender": {"phone_number": user}, "timestamp": "5"})),
    ];
    for (field, mut value) in of_user {
        value["metadata"] = metadata.clone();
        let event = rebuilt(&change(field, &value)).remove(0);
        assert_eq!(event.user.wa_id.as_ref().map(WaId::expose), Some(user), "{value}");
        assert_eq!(event.attributes.conversation_key, "", "found later");
        let seconds = if field == "user_id_update" { 5_000_000_000 } else { 5 };
        assert_eq!(event.event_time, Some(UNIX_EPOCH + Duration::from_secs(seconds)), "{value}");
    }
    let of_none = [
        ("calls", json!({"calls": [{"from": user}, {"from": "16505551235"}]})),
        ("standby", json!({"standby": {"contacts": [{"wa_id": user}, {"wa_id": "16505551235"}]}})),
        ("history", json!({"history": [{"threads": [{"id": user}]}]})),
        ("flows", json!({"flow_id": "1"})),
    ];
    for (field, mut value) in of_none {
        value["metadata"] = metadata.clone();
        let event = rebuilt(&change(field, &value)).remove(0);
        assert_eq!(event.attributes.conversation_key, "102290129340398", "{value}");
    }
    let id = |digits: Option<&str>| {
        let update = json!({"wa_id": digits, "user_id": {"previous": "US.1", "current": "US.2"}});
        let value = json!({"metadata": metadata, "user_id_update": [update]});
        rebuilt(&change("user_id_update", &value)).remove(0).user.user_id.unwrap().expose().to_owned()
    };
    assert_eq!(id(Some(user)), "US.2", "learned under the digits");
    assert_eq!(id(None), "US.1", "found by the old id");
    let handover = json!({"sender": {"phone_number": user}, "recipient": {"phone_number_id": "1066"}});
    let event = rebuilt(&change("messaging_handovers", &handover)).remove(0);
    assert_eq!(event.attributes.phone_number_id, "1066");
}

#[test]
fn a_value_says_its_form_and_the_verdicts_on_its_errors() {
    let call =
        json!({"calls": [{"id": "wacid.1", "errors": [{"code": 138_021}]}], "errors": [{"code": 130_429}]});
    let Payload::Field { name, verdicts } = rebuilt(&change("calls", &call)).remove(0).payload else {
        panic!()
    };
    assert_eq!(name, "calls");
    assert_eq!(verdicts.iter().map(|(code, _)| *code).collect::<Vec<_>>(), [130_429, 138_021]);
    // A sample of Meta's prints a change of quality under the field of the status.
    let quality = json!({"new_quality_score": "YELLOW", "message_template_id": 1});
    let event = rebuilt(&change("message_template_status_update", &quality)).remove(0);
    let Payload::Field { name, .. } = event.payload else { panic!() };
    assert_eq!(name, "message_template_quality_update");
    assert_eq!(event.attributes.event_type, "whatsapp.message_template_status_update", "as Meta calls it");
}

#[test]
fn odd_values_of_messages_are_not_split() {
    let cases = [
        json!({}),
        json!(null),
        json!([1]),
        json!("text"),
        json!({"messages": []}),
        json!({"messages": {"id": "wamid.A"}}),
        json!({"messages": [{"id": "wamid.A"}, 1]}),
        json!({"messages": [{"id": "wamid.A"}], "statuses": "none"}),
    ];
    for value in cases {
        let events = rebuilt(&change("messages", &value));
        assert_eq!(types(&events), ["whatsapp.messages"], "{value}");
        assert_eq!(events[0].raw_json, value.to_string());
        assert!(matches!(events[0].payload, Payload::Unknown { .. }));
    }
    let events = rebuilt(&messages(&json!({"messages": [{"id": 5}, {"id": null, "from": []}, {}],
                                           "errors": null, "statuses": []})));
    assert_eq!(types(&events), ["whatsapp.message.received"; 3]);
    assert_eq!(events[0].subject, "5");
}

#[test]
fn levels_without_changes_stay_whole() {
    for body in
        [json!({}), json!([]), json!(1), json!({"entry": []}), json!({"entry": {}}), json!({"entry": [1]})]
    {
        let events = rebuilt(&body);
        assert_eq!(types(&events), ["whatsapp.unknown"], "{body}");
        assert_eq!(events[0].raw_json, body.to_string());
        assert_eq!(&*events[0].change_json, "");
    }
    let body = json!({"object": "x", "top": 1, "entry": [
        {"id": "1", "changes": []}, 7, {"id": "2", "changes": [{"field": "flows", "value": {"flow_id": "9"}}, {}]},
        {"id": "3", "time": 5, "changes": [1]}, {"id": "4", "extra": true}]});
    let events = rebuilt(&body);
    assert_eq!(
        types(&events),
        [
            "whatsapp.unknown",
            "whatsapp.unknown",
            "whatsapp.flows",
            "whatsapp.unknown",
            "whatsapp.unknown",
            "whatsapp.unknown"
        ]
    );
    assert_eq!(events[0].raw_json, r#"{"changes":[],"id":"1"}"#);
    assert_eq!(&*events[0].change_json, r#"{"entry":[],"object":"x","top":1}"#);
    assert_eq!(events[3].raw_json, "", "a change without a value");
}

#[test]
fn the_key_decides_what_is_the_same() {
    let status = |fields: Value| {
        let mut status =
            json!({"id": "wamid.A", "status": "sent", "timestamp": "1", "recipient_id": "16505551234"});
        status.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        events(&messages(&json!({"statuses": [status]})).to_string())[0].id
    };
    let first = status(json!({}));
    assert_eq!(first, status(json!({"pricing": {"billable": true}})), "a redelivery may say more");
    for other in [
        json!({"status": "read"}),
        json!({"timestamp": "2"}),
        json!({"type": "payment"}),
        json!({"id": "wamid.B"}),
        json!({"recipient_participant_id": "1"}),
    ] {
        assert_ne!(first, status(other.clone()), "{other}");
    }
    let error = |time: u64, title: &str| {
        let mut body = messages(&json!({"errors": [{"code": 1, "title": title}]}));
        body["entry"][0]["time"] = json!(time);
        events(&body.to_string())[0].id
    };
    assert_eq!(error(1, "a"), error(1, "a"));
    assert_ne!(error(1, "a"), error(2, "a"));
    assert_ne!(error(1, "a"), error(1, "b"));

    let beside = |id: &str| {
        let item = json!({"id": id, "from": "16505551234"});
        let list = events(&messages(&json!({"messages": [item], "errors": [{"code": 1}]})).to_string());
        list.iter().find(|event| event.payload == Payload::Error).unwrap().id
    };
    assert_eq!(beside("wamid.A"), beside("wamid.A"));
    assert_ne!(beside("wamid.A"), beside("wamid.B"), "the same error beside another message is another one");
    // White space and the order of fields do not make another event of an account's change.
    let a = r#"{"entry":[{"id":"1","time":5,"changes":[{"field":"security","value":{"a":1,"b":2}}]}]}"#;
    let b = r#"{"entry":[{"time":5,"id":"1","changes":[{"value":{"b":2, "a":1},"field":"security"}]}]}"#;
    assert_eq!(events(a)[0].id, events(b)[0].id);
    assert_ne!(events(a)[0].origin.webhook_id, events(b)[0].origin.webhook_id);
}

#[test]
fn twins_of_one_post() {
    let same = json!({"id": "wamid.A", "from": "16505551234", "timestamp": "1"});
    let other = json!({"id": "wamid.A", "from": "16505551234", "timestamp": "2"});
    let events = events(&messages(&json!({"messages": [same, other, same, other]})).to_string());
    assert_eq!(events.len(), 2, "word for word the same is one event, something else is another");
    assert_ne!(events[0].id, events[1].id);
    assert_eq!(events[0].origin.item_count, 2);
    assert_eq!(rebuild(&events).unwrap(), messages(&json!({"messages": [same, other]})));
}

#[test]
fn a_big_batch_does_not_multiply() {
    let people: Vec<String> = (0..1000).map(|n| format!("1650555{n:04}")).collect();
    let contacts: Vec<Value> =
        people.iter().map(|id| json!({"wa_id": id, "profile": {"name": "x".repeat(100)}})).collect();
    let items: Vec<Value> =
        people.iter().map(|id| json!({"id": format!("wamid.{id}"), "from": id})).collect();
    let events = rebuilt(&messages(&json!({"contacts": contacts, "messages": items})));
    assert_eq!(events.len(), 1000);
    assert!(events[0].change_json.len() > 100_000);
    assert!(events[1..].iter().all(|event| event.change_json.is_empty()));
    let contact = |event: &Event| matches!(&event.payload, Payload::Message { contact: Some(_) });
    assert!(events.iter().all(contact), "contacts that are copied once each stay");

    let huge = json!([{"wa_id": "16505551234", "profile": {"name": "x".repeat(600_000)}}]);
    let items: Vec<Value> = (0..50).map(|n| json!({"id": format!("{n}"), "from": "16505551234"})).collect();
    let events = rebuilt(&messages(&json!({"contacts": huge, "messages": items})));
    assert_eq!(events.iter().filter(|event| contact(event)).count(), 1);
    assert!(events.iter().all(|event| event.user.wa_id.is_some()));
}
