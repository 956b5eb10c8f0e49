//! Bodies that nobody sends on purpose, or only with bad intent: nothing panics, nothing gets lost.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Any JSON, with the names that the gateway looks for.
fn json() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        prop::sample::select(vec![
            "entry",
            "changes",
            "field",
            "value",
            "messages",
            "statuses",
            "errors",
            "id",
            "time",
            "metadata",
            "contacts",
            "phone_number_id",
            "from",
            "wa_id",
            "user_id",
            "status",
            "timestamp",
            "group_id",
        ])
        .prop_map(str::to_owned),
        ".{0,3}",
    ];
    let text = prop_oneof![Just("messages".to_owned()), "[0-9]{1,12}", ".{0,8}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e9..1e9).prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 5, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((name.clone(), inner), 0..6).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// A body that has an envelope, with any JSON in its places and extras on every level.
fn body() -> impl Strategy<Value = Value> {
    let item = || {
        ("[a-z0-9]{0,3}", json(), prop::sample::select(vec!["1", "2", "16505551234"])).prop_map(
            |(id, extra, from)| json!({"id": id, "from": from, "recipient_id": from, "x": extra, "status": "sent"}),
        )
    };
    let items = move || prop_oneof![8 => vec(item(), 0..4).prop_map(Value::from), 1 => json()];
    let value = (items(), items(), items(), json(), prop::sample::select(vec!["1", "2"])).prop_map(
        |(messages, statuses, errors, extra, number)| {
            json!({"metadata": {"phone_number_id": number}, "messages": messages, "statuses": statuses,
                   "errors": errors, "extra": extra})
        },
    );
    let field =
        prop_oneof![4 => Just("messages".to_owned()), 1 => Just("account_update".to_owned()), 1 => ".{0,4}"];
    let change = prop_oneof![
        8 => (field, value, json()).prop_map(|(field, value, x)| json!({"field": field, "value": value, "x": x})),
        1 => json(),
    ];
    let entry = prop_oneof![
        8 => ("[0-9]{0,2}", vec(change, 0..4), json())
            .prop_map(|(id, changes, x)| json!({"id": id, "changes": changes, "x": x})),
        1 => json(),
    ];
    (vec(entry, 0..4), json()).prop_map(|(entries, x)| json!({"object": "o", "entry": entries, "x": x}))
}

/// The events give the body back, unless some of its pieces are the same and became one event.
fn is_rebuilt(body: &Value, events: &[Event]) -> Result<(), TestCaseError> {
    let rebuilt = rebuild(events).unwrap();
    if pieces(body) == events.len() {
        // Read once more, because serde_json's reading of a fraction may be off by its last bit.
        let body: Value = serde_json::from_str(&body.to_string()).unwrap();
        prop_assert_eq!(&rebuilt, &body);
    }
    Ok(())
}

/// Items, changes without items and entries without changes.
fn pieces(body: &Value) -> usize {
    match webhook::read(body.to_string().as_bytes()) {
        Body::Split(envelope) => {
            let changes =
                |entry: &Entry<'_>| entry.changes.iter().map(|change| change.items.len().max(1)).sum();
            envelope
                .entries
                .iter()
                .map(|entry| if entry.changes.is_empty() { 1 } else { changes(entry) })
                .sum()
        }
        Body::Whole(..) | Body::Bytes(_) => 1,
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn any_bytes_become_an_event(bytes in vec(any::<u8>(), 0..200)) {
        prop_assert!(!normalize(&bytes, now()).is_empty());
    }

    #[test]
    fn any_json_comes_back(value in json()) {
        let events = events(&value.to_string());
        prop_assert!(!events.is_empty());
        is_rebuilt(&value, &events)?;
    }

    #[test]
    fn any_envelope_comes_back(value in body()) {
        let text = value.to_string();
        let events = events(&text);
        is_rebuilt(&value, &events)?;
        let ids: std::collections::HashSet<_> = events.iter().map(|event| event.id).collect();
        prop_assert_eq!(ids.len(), events.len(), "ids are unique in a POST");
        for (event, again) in events.iter().zip(normalize(text.as_bytes(), now())) {
            prop_assert_eq!(event, &again, "a redelivery gives the same events");
            prop_assert!(text.contains(&event.raw_json));
        }
    }

    #[test]
    fn a_cut_or_changed_body_becomes_an_event(value in body(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = value.to_string().into_bytes();
        let at = at.index(bytes.len());
        prop_assert!(!normalize(&bytes[..at], now()).is_empty());
        bytes[at] = byte;
        prop_assert!(!normalize(&bytes, now()).is_empty());
    }
}

#[test]
fn what_is_not_json_keeps_its_bytes() {
    let cases: [&[u8]; 8] = [
        b"",
        b" ",
        b"{",
        b"{\"a\":1}}",
        b"NaN",
        b"{\"a\":NaN}",
        b"\xff\xfe{}",
        b"\xef\xbb\xbf{\"entry\":[]}",
    ];
    for body in cases {
        let events = normalize(body, now());
        let [event] = events.as_slice() else { panic!("{} events", events.len()) };
        let Payload::Unknown { body: kept, .. } = &event.payload else { panic!("{:?}", event.payload) };
        assert_eq!((kept.as_slice(), event.raw_json.as_str()), (body, ""));
        assert!(rebuild(&events).is_err());
    }
}

#[test]
fn deep_nesting_needs_no_stack() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let cases = [
        nested(100_000),
        format!(r#"{{"entry":{}}}"#, nested(100_000)),
        messages(&json!({"messages": [{"id": "wamid.A", "x": "HERE"}]}))
            .to_string()
            .replace("\"HERE\"", &nested(100_000)),
    ];
    for body in cases {
        let events = events(&body);
        assert_eq!(types(&events), ["whatsapp.unknown"]);
        assert_eq!(events[0].raw_json, body, "JSON stays text, however deep");
    }
    let unclosed = "[".repeat(100_000);
    let Payload::Unknown { body, .. } = events(&unclosed)[0].payload.clone() else { panic!() };
    assert_eq!(body, unclosed.into_bytes());
    let closed = "{\"a\":".repeat(100_000);
    assert_eq!(events(&closed).len(), 1);
}

#[test]
fn strings_that_are_no_text_are_kept() {
    let item = r#"{"id":"wamid.\ud800","from":"\udfff","text":{"body":"\ud83d"}}"#;
    let wrap = |item: &str| {
        format!(
            r#"{{"entry":[{{"id":"1","changes":[{{"field":"messages","value":{{"messages":[{item}]}}}}]}}]}}"#
        )
    };
    let events_of_item = events(&wrap(item));
    assert_eq!(types(&events_of_item), ["whatsapp.message.received"]);
    assert_eq!(events_of_item[0].raw_json, item);
    assert_eq!(events_of_item[0].subject, "", "an id that is no text is none");

    let odd_key = r#"{"\ud800":1,"id":"wamid.A"}"#;
    let events_of_key = events(&wrap(odd_key));
    assert_eq!(types(&events_of_key), ["whatsapp.message.received"]);
    assert_eq!(events_of_key[0].raw_json, odd_key);

    let body = r#"{"\ud800":1,"entry":[]}"#;
    assert_eq!(events(body)[0].raw_json, body);
    assert_eq!(types(&events(body)), ["whatsapp.unknown"]);
}

#[test]
fn repeated_names_and_odd_numbers_are_kept() {
    let body = concat!(
        r#"{"x":1,"x":2,"entry":[{"id":"1","id":"2","changes":[{"field":"messages","value":"#,
        r#"{"n":1e999,"n":123456789012345678901234567890,"messages":[{"id":"a","id":"b","v":-0.0E+1}]}}]}]}"#
    );
    let list = events(body);
    assert_eq!(list[0].raw_json, r#"{"id":"a","id":"b","v":-0.0E+1}"#);
    assert_eq!(list[0].subject, "b");
    assert!(list[0].change_json.contains(r#""x":1,"x":2"#));
    assert!(list[0].change_json.contains(r#""n":1e999,"n":123456789012345678901234567890"#));

    let whole = [
        r#"{"entry":[],"entry":[{"changes":[{}]}]}"#,
        r#"{"entry":[{"changes":[{}],"changes":[{}]}]}"#,
        r#"{"entry":[{"changes":[{"value":1,"value":2}]}]}"#,
    ];
    for body in whole {
        let events = events(body);
        assert_eq!((events.len(), events[0].raw_json.as_str()), (1, body));
    }
    let twice = r#"{"messages":[{"id":"a"}],"messages":[{"id":"b"}]}"#;
    let body = format!(r#"{{"entry":[{{"changes":[{{"field":"messages","value":{twice}}}]}}]}}"#);
    assert_eq!(events(&body)[0].raw_json, twice);
}

#[test]
fn the_biggest_body_passes() {
    let items: Vec<Value> = (0..1000)
        .map(|n| json!({"id": format!("wamid.{n}"), "from": "16505551234", "text": {"body": "x".repeat(3500)}}))
        .collect();
    let body = messages(&json!({"messages": items}));
    assert!(body.to_string().len() > 3_500_000);
    assert_eq!(rebuilt(&body).len(), 1000);
}

#[test]
fn a_body_cannot_grow_on_its_way() {
    let empty_changes = vec![json!({}); 200_000];
    let empty_items = vec![json!({}); 200_000];
    let wide_top: Vec<Value> =
        (0..5000).map(|n| json!({"field": "flows", "value": {"flow_id": n}})).collect();
    let cases = [
        json!({"entry": [{"changes": empty_changes}]}),
        messages(&json!({"messages": empty_items})),
        json!({"x": "x".repeat(1_000_000), "entry": [{"changes": wide_top}]}),
    ];
    for body in cases {
        let events = rebuilt(&body);
        assert_eq!(types(&events), ["whatsapp.unknown"]);
    }
    let long = "9".repeat(100_000);
    let mut body = messages(&json!({"messages": [{"id": "a"}, {"id": "b"}]}));
    body["entry"][0]["id"] = json!(long);
    body["entry"][0]["changes"][0]["value"]["metadata"]["phone_number_id"] = json!(long);
    let events = rebuilt(&body);
    assert!(events.iter().all(|event| event.attributes.waba_id.len() == 32));
    assert!(events.iter().all(|event| event.attributes.phone_number_id.len() == 32));
}
