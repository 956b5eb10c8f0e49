//! The request corpus: real bodies of other projects become typed requests and come back as equivalent bodies.

use std::collections::BTreeMap;

use prost::Message;
use serde_json::{Value, json};
use whatsapp_gateway::contract::{request_of, v1};

use crate::support::Gateway;
use crate::support::shared::{corpus, json_files};

/// Files that cannot be typed, and why. None so far.
const UNTYPED: [(&str, &str); 0] = [];

/// Files that become typed requests which the gateway refuses before Meta is asked, since Meta's rules do.
const REFUSED: [(&str, &str); 5] = [
    ("facebook+openapi/message-interactive-button.json", "two buttons share an id"),
    ("facebook+openapi/message-interactive-list-header_text-reply.json", "rows share an id"),
    ("facebook+openapi/message-interactive-list-header_text.json", "rows share an id"),
    ("netflie+whatsapp-cloud-api/message-interactive-list-header_text-bsuid.json", "rows share an id"),
    ("netflie+whatsapp-cloud-api/message-interactive-list-header_text-reply.json", "rows share an id"),
];

/// Placeholders of samples, which no rule lets pass, and what stands for them here.
const PLACEHOLDERS: [(&str, &str); 6] = [
    ("msgid of msg you are replying to", "wamid.A"),
    ("msgid of prev msg", "wamid.A"),
    ("http(s)://", "https://www.example.com/"),
    ("\"template-name\"", "\"template_name\""),
    ("language-and-locale-code", "en_US"),
    ("\"to\": \"123\"", "\"to\": \"16505551234\""),
];

/// The kind of a body: its content, and of interactive messages the kind of action.
fn kind(body: &Value) -> String {
    match body["interactive"]["type"].as_str() {
        Some(kind) => format!("interactive {kind}"),
        None => body["type"].as_str().unwrap_or("text").to_owned(),
    }
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap()
}

/// A body without what says nothing, in one spelling: the table of the equivalences.
fn plain(path: &str, value: &Value) -> Option<Value> {
    Some(match value {
        // Absent means the same; an empty emoji removes a reaction, and sharing has a default of its own.
        Value::Null => return None,
        Value::Bool(false) if !path.ends_with("message_activity_sharing") && last(path) != "text" => {
            return None;
        }
        Value::String(text) if text.is_empty() && !path.ends_with("emoji") => return None,
        // Meta takes numbers as texts and the other way round, and discriminators in either case.
        Value::Bool(_) | Value::Number(_) => json!(value.to_string()),
        Value::String(text) if last(path) == "type" => json!(text.to_lowercase()),
        Value::String(text) => json!(text.parse::<f64>().map_or(text.clone(), |n| n.to_string())),
        Value::Array(values) => {
            let values: Vec<_> = values.iter().filter_map(|value| plain(path, value)).collect();
            (!values.is_empty()).then(|| json!(values))?
        }
        Value::Object(fields) => {
            let fields: serde_json::Map<_, _> = fields
                .iter()
                .filter_map(|(name, value)| Some((name.clone(), plain(&format!("{path}.{name}"), value)?)))
                .collect();
            (!fields.is_empty()).then_some(Value::Object(fields))?
        }
    })
}

/// The envelope as the gateway writes it: `to` with `+`, one address, always a type and a recipient type.
fn enveloped(body: &Value, kind: &str) -> Value {
    let mut body = body.clone();
    let fields = body.as_object_mut().unwrap();
    match fields.remove("to") {
        Some(to) => {
            let to = to.as_str().map_or_else(|| to.to_string(), str::to_owned);
            fields.insert("to".to_owned(), json!(format!("+{}", to.trim_start_matches('+'))));
            fields.remove("recipient");
        }
        None => assert!(fields.contains_key("recipient")),
    }
    fields.entry("recipient_type").or_insert(json!("individual"));
    fields.insert("type".to_owned(), json!(kind));
    plain("", &body).unwrap()
}

#[tokio::test]
async fn every_body_comes_back() {
    let Some(folder) = corpus("request-corpus") else { return };
    let gateway = Gateway::dev().await;
    let mut client = gateway.client().await;
    let mut table: BTreeMap<String, [usize; 3]> = BTreeMap::new();
    let (mut untyped, mut refused, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    for (name, bytes) in json_files(&folder) {
        if !name.rsplit('/').next().unwrap().starts_with("message-") {
            continue;
        }
        let text =
            PLACEHOLDERS.iter().fold(String::from_utf8(bytes).unwrap(), |text, (placeholder, value)| {
                text.replace(placeholder, value)
            });
        let body: Value = serde_json::from_str(&text).unwrap();
        let converted = request_of(&body).unwrap_or_else(|error| panic!("{name}: {error}"));
        let row = table.entry(kind(&body)).or_default();
        if converted.untyped.is_empty() {
            row[0] += 1;
        } else {
            untyped.push(format!("{name}: {:?}", converted.untyped));
        }
        let request = v1::SendMessageRequest {
            validate_only: true,
            show_request: true,
            ..Message::decode(converted.encoded.as_slice()).unwrap()
        };
        match client.send_message(request).await {
            Ok(answer) => {
                let back: Value = serde_json::from_str(&answer.into_inner().request_json).unwrap();
                let content = back["type"].as_str().unwrap().to_owned();
                if enveloped(&body, &content) == enveloped(&back, &content) {
                    row[1] += 1;
                } else {
                    wrong.push(format!("{name}: {back} from {body}"));
                }
            }
            Err(status) => {
                row[2] += 1;
                refused.push((name, status.message().to_owned()));
            }
        }
    }
    eprintln!("{:40} {:>5} {:>5} {:>7}", "kind", "typed", "back", "refused");
    for (kind, [typed, back, refused]) in &table {
        eprintln!("{kind:40} {typed:>5} {back:>5} {refused:>7}");
    }
    for (name, message) in &refused {
        eprintln!("refused: {name}: {message}");
    }
    assert_eq!(wrong, [""; 0], "bodies that come back different");
    assert_eq!(untyped, UNTYPED.map(|(name, why)| format!("{name}: {why}")));
    let names: Vec<_> = refused.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, REFUSED.map(|(name, _)| name));
}
