//! The request corpus: bodies of other projects become typed requests, and arrive at the Cloud API as they were written.
//!
//! Equal means: but for the `+` before a number, `recipient_type`, our tag, what says nothing, numbers as texts, the case
//! of Meta's words, and a `type` that the file leaves to be guessed.

use std::collections::BTreeMap;

use prost::Message;
use serde_json::{Map, Value, json};
use whatsapp_gateway::contract::v1::manage_template_request::Action;
use whatsapp_gateway::contract::v1::send_message_request::Content;
use whatsapp_gateway::contract::{request_of, v1};

use crate::support::shared::{corpus, json_files};
use crate::support::{Gateway, Refusal, gateway::Client};

/// Files that cannot be typed, and why.
const UNTYPED: [(&str, &str); 1] = [(
    "facebook+openapi/template-create-authentication-footer-otp_one_tap.json",
    "an old spelling: the app stands in the button itself, where supported_apps is now",
)];

/// Files that become typed requests which the gateway refuses before Meta is asked: the first field, and the rule.
const REFUSED: [(&str, &str, &str); 11] = [
    ("facebook+openapi/message-interactive-button.json", "interactive.button", "two buttons share an id"),
    (
        "facebook+openapi/message-interactive-list-header_text-reply.json",
        "interactive.list",
        "rows share an id",
    ),
    ("facebook+openapi/message-interactive-list-header_text.json", "interactive.list", "rows share an id"),
    (
        "froggy1014+meta-cloud-api/template-create-marketing-2.json",
        "create.components[0].body.example",
        "no samples",
    ),
    (
        "froggy1014+meta-cloud-api/template-create-marketing-header_image-footer-url.json",
        "create.components[0].header.example",
        "no samples",
    ),
    (
        "froggy1014+meta-cloud-api/template-create-marketing-header_image.json",
        "create.components[0].header.example",
        "a URL is no handle",
    ),
    (
        "froggy1014+meta-cloud-api/template-create-marketing.json",
        "create.components[0].body.example",
        "no samples",
    ),
    (
        "froggy1014+meta-cloud-api/template-create-utility-header_text-footer.json",
        "create.components[1].body.example",
        "no samples",
    ),
    (
        "froggy1014+meta-cloud-api/template-create-utility-quick_reply-url.json",
        "create.components[0].body.example",
        "no samples",
    ),
    (
        "netflie+whatsapp-cloud-api/message-interactive-list-header_text-bsuid.json",
        "interactive.list",
        "rows share an id",
    ),
    (
        "netflie+whatsapp-cloud-api/message-interactive-list-header_text-reply.json",
        "interactive.list",
        "rows share an id",
    ),
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

/// A gateway that leaves templates to Meta: most of those that are sent here exist nowhere.
async fn without_preflight() -> Gateway {
    Gateway::builder().unpaced().env("WHATSAPP_GATEWAY__SENDING__TEMPLATE_PREFLIGHT", "false").start().await
}

/// Files, bodies that came back, and bodies that the gateway refused.
type Row = [usize; 3];

#[tokio::test]
async fn every_body_arrives_as_it_was_written() {
    let Some(folder) = corpus("request-corpus") else { return };
    let files = json_files(&folder);
    assert!(files.len() > 150, "the corpus is incomplete: {} files", files.len());
    let gateway = without_preflight().await;
    let mut wire = Wire::of(&gateway).await;
    let mut table: BTreeMap<String, Row> = BTreeMap::new();
    let (mut untyped, mut refused, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    for (name, bytes) in files {
        let text = String::from_utf8(bytes).unwrap();
        let text =
            PLACEHOLDERS.iter().fold(text, |text, (placeholder, value)| text.replace(placeholder, value));
        let body: Value = serde_json::from_str(&text).unwrap();
        let row = table.entry(kind(&name, &body)).or_default();
        row[0] += 1;
        match wire.pass(&name, &body).await {
            Passed::Equal => row[1] += 1,
            Passed::Different(back) => wrong.push(format!("{name}: {back} from {body}")),
            Passed::Untyped(why) => untyped.push((name, why)),
            Passed::Refused(refusal) => {
                row[2] += 1;
                refused.push((name, refusal));
            }
        }
    }
    eprintln!("{:60} {:>5} {:>5} {:>7}", "kind", "files", "back", "refused");
    for (kind, [files, back, refused]) in &table {
        eprintln!("{kind:60} {files:>5} {back:>5} {refused:>7}");
    }
    for (name, why) in &untyped {
        eprintln!("untyped: {name}: {why}");
    }
    for (name, refusal) in &refused {
        eprintln!("refused: {name}: {}", refusal.message);
    }
    assert_eq!(wrong, [""; 0], "bodies that come back different");
    let names: Vec<_> = untyped.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, UNTYPED.map(|(name, _)| name));
    let names: Vec<_> = refused.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, REFUSED.map(|(name, ..)| name));
    for ((name, refusal), (_, field, _)) in refused.iter().zip(REFUSED) {
        assert!(refusal.fields()[0].starts_with(field), "{name}: {:?}", refusal.fields());
    }
}

/// Kinds of parameters and buttons that the corpus does not have.
#[tokio::test]
async fn every_kind_of_parameter_arrives_as_it_was_written() {
    let header = |parameter: Value| json!([{"type": "header", "parameters": [parameter]}]);
    let body = |parameter: Value| json!([{"type": "body", "parameters": [parameter]}]);
    let button = |sub_type: &str, index: Value, parameter: Value| json!([{"type": "button", "sub_type": sub_type, "index": index, "parameters": [parameter]}]);
    let link = "https://example.com/file";
    let gateway = without_preflight().await;
    let mut wire = Wire::of(&gateway).await;
    for components in [
        header(json!({"type": "text", "text": "\u{1f600}", "parameter_name": "name"})),
        header(json!({"type": "image", "image": {"id": "1"}})),
        header(json!({"type": "image", "image": {"link": link}})),
        header(json!({"type": "video", "video": {"id": "1"}})),
        header(json!({"type": "video", "video": {"link": link}})),
        header(json!({"type": "document", "document": {"id": "1", "filename": "a.pdf"}})),
        header(json!({"type": "document", "document": {"link": link, "filename": "f.pdf"}})),
        header(json!({"type": "location",
            "location": {"latitude": "37.48", "longitude": "-122.1", "name": "n", "address": "a"}})),
        body(json!({"type": "currency",
            "currency": {"fallback_value": "$1", "code": "USD", "amount_1000": 9_007_199_254_740_993_i64}})),
        body(
            json!({"type": "currency", "currency": {"fallback_value": "-$1", "code": "USD", "amount_1000": -1000}}),
        ),
        body(json!({"type": "date_time", "date_time": {"fallback_value": "February 25, 1977"}})),
        button("quick_reply", json!("0"), json!({"type": "payload", "payload": "p"})),
        button("url", json!(9), json!({"type": "text", "text": "/?a=1"})),
        button("copy_code", json!(1), json!({"type": "coupon_code", "coupon_code": "25OFF"})),
        json!([{"type": "button", "sub_type": "voice_call", "parameters": []}]),
    ] {
        let template = json!({"name": "t", "language": {"code": "en_US"}, "components": components});
        let body = json!({"messaging_product": "whatsapp", "to": "16505551234", "type": "template",
            "template": template});
        let converted = request_of(&body).unwrap();
        let passed = wire.send(&body, Message::decode(converted.encoded.as_slice()).unwrap()).await;
        assert!(matches!(passed, Passed::Equal), "{body}: {passed:?}");
    }
}

/// What became of a body.
#[derive(Debug)]
enum Passed {
    Equal,
    Different(Value),
    Untyped(String),
    Refused(Refusal),
}

/// The way of a body through the gateway to the simulator.
struct Wire<'a> {
    client: Client,
    gateway: &'a Gateway,
    /// The last request that was looked at.
    seen: Option<u64>,
}

impl<'a> Wire<'a> {
    async fn of(gateway: &'a Gateway) -> Self {
        let limits =
            json!({"messages_per_second": 1_000_000, "pair_interval_ms": 1, "pair_burst": 1_000_000});
        gateway.simulate("limits", &limits).await;
        Self { client: gateway.client().await, gateway, seen: None }
    }

    async fn pass(&mut self, name: &str, body: &Value) -> Passed {
        if body.get("status").is_some() {
            return self.mark_read(body).await;
        }
        let converted = match request_of(body) {
            Ok(converted) if converted.untyped.is_empty() => converted,
            Ok(converted) => return Passed::Untyped(converted.untyped.join("; ")),
            Err(error) => return Passed::Untyped(error.to_string()),
        };
        let encoded = converted.encoded.as_slice();
        match converted.message {
            "SendMessageRequest" => self.send_twice(body, Message::decode(encoded).unwrap()).await,
            "ManageTemplateRequest" => self.manage(body, Message::decode(encoded).unwrap()).await,
            other => panic!("{name}: {other}"),
        }
    }

    /// Sends a message by its type, and then through `raw`.
    async fn send_twice(&mut self, body: &Value, request: v1::SendMessageRequest) -> Passed {
        let passed = self.send(body, request.clone()).await;
        if !matches!(passed, Passed::Equal) {
            return passed;
        }
        let kind = body["type"].as_str().unwrap_or("text");
        let raw = Map::from_iter([("type".to_owned(), json!(kind)), (kind.to_owned(), body[kind].clone())]);
        self.send(body, v1::SendMessageRequest { content: Some(Content::Raw(to_struct(&raw))), ..request })
            .await
    }

    async fn send(&mut self, body: &Value, request: v1::SendMessageRequest) -> Passed {
        let answer = self.client.send_message(request).await;
        // The simulator may refuse it, since it knows neither the file's media nor its templates.
        match self.arrived().await {
            Some(arrived) if enveloped(body, &arrived) == enveloped(&arrived, &arrived) => Passed::Equal,
            Some(arrived) => Passed::Different(arrived),
            None => Passed::Refused(Refusal::of(&answer.unwrap_err())),
        }
    }

    async fn mark_read(&mut self, body: &Value) -> Passed {
        let request = v1::MarkMessageReadRequest {
            message_id: body["message_id"].as_str().unwrap().to_owned(),
            typing_indicator: body.get("typing_indicator").is_some(),
            ..Default::default()
        };
        let mut body = body.clone();
        body.as_object_mut().unwrap().remove("recipient_type");
        let answer = self.client.mark_message_read(request).await;
        match self.arrived().await {
            Some(arrived) if plain("", &arrived) == plain("", &body) => Passed::Equal,
            Some(arrived) => Passed::Different(arrived),
            None => Passed::Refused(Refusal::of(&answer.unwrap_err())),
        }
    }

    /// Asks for the JSON that would go to Meta.
    async fn manage(&mut self, body: &Value, mut request: v1::ManageTemplateRequest) -> Passed {
        (request.validate_only, request.show_request) = (true, true);
        if let Some(Action::Edit(edit)) = &mut request.action {
            "5".clone_into(&mut edit.template_id);
        }
        match self.client.manage_template(request).await {
            Ok(answer) => {
                let back: Value = serde_json::from_str(&answer.into_inner().request_json).unwrap();
                if plain("", &back) == plain("", body) { Passed::Equal } else { Passed::Different(back) }
            }
            Err(status) => Passed::Refused(Refusal::of(&status)),
        }
    }

    /// The body that came to the simulator since the last look.
    async fn arrived(&mut self) -> Option<Value> {
        let after = self.seen.map(|seen| format!("&after={seen}")).unwrap_or_default();
        // Marketing messages have a path of their own, with the same end.
        let requests = self.gateway.simulator(&format!("requests?path=messages{after}")).await;
        let requests = requests.as_array().unwrap();
        assert!(requests.len() <= 1, "sent more than once: {requests:?}");
        let request = requests.first()?;
        self.seen = request["number"].as_u64();
        Some(request["body"].clone())
    }
}

/// What a file is about: its folder's name for it without a number, and of a message its content.
fn kind(name: &str, body: &Value) -> String {
    let file = name.rsplit('/').next().unwrap().trim_end_matches(".json");
    if !file.starts_with("message-") {
        return file.trim_end_matches(|c: char| c == '-' || c.is_ascii_digit()).to_owned();
    }
    match body["interactive"]["type"].as_str() {
        Some(kind) => format!("message interactive {kind}"),
        None => format!("message {}", body["type"].as_str().unwrap_or("text")),
    }
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap()
}

/// A body without what says nothing, in one spelling: the table of the equivalences.
fn plain(path: &str, value: &Value) -> Option<Value> {
    let is_word = ["type", "parameter_format"].contains(&last(path));
    Some(match value {
        // Absent means the same; an empty emoji removes a reaction, and sharing has a default of its own.
        Value::Null => return None,
        Value::Bool(false) if !path.ends_with("message_activity_sharing") && last(path) != "text" => {
            return None;
        }
        Value::String(text) if text.is_empty() && !path.ends_with("emoji") => return None,
        // Meta takes numbers as texts and the other way round, and discriminators in either case.
        Value::Bool(_) | Value::Number(_) => json!(value.to_string()),
        Value::String(text) if is_word => json!(text.to_lowercase()),
        Value::String(text) => json!(text.parse::<f64>().map_or(text.clone(), |n| n.to_string())),
        Value::Array(values) => {
            let values: Vec<_> = values.iter().filter_map(|value| plain(path, value)).collect();
            (!values.is_empty()).then(|| json!(values))?
        }
        Value::Object(fields) => {
            let fields: Map<_, _> = fields
                .iter()
                .filter_map(|(name, value)| Some((name.clone(), plain(&format!("{path}.{name}"), value)?)))
                .collect();
            (!fields.is_empty()).then_some(Value::Object(fields))?
        }
    })
}

/// The envelope as the gateway writes it: `to` with `+`, one address, always a type and a recipient type, no tag of ours.
fn enveloped(body: &Value, arrived: &Value) -> Value {
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
    if let Some(Value::String(data)) = fields.get_mut("biz_opaque_callback_data") {
        // Our tag: "g1.", 22 characters, ".".
        if data.starts_with("g1.") && data.get(25..26) == Some(".") {
            *data = data.split_off(26);
        }
    }
    fields.entry("recipient_type").or_insert(json!("individual"));
    fields.insert("type".to_owned(), arrived["type"].clone());
    plain("", &body).unwrap()
}

fn to_struct(fields: &Map<String, Value>) -> prost_types::Struct {
    let fields = fields.iter().map(|(name, value)| (name.clone(), to_pb(value)));
    prost_types::Struct { fields: fields.collect() }
}

fn to_pb(value: &Value) -> prost_types::Value {
    use prost_types::value::Kind;
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(truth) => Kind::BoolValue(*truth),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(list) => {
            Kind::ListValue(prost_types::ListValue { values: list.iter().map(to_pb).collect() })
        }
        Value::Object(fields) => Kind::StructValue(to_struct(fields)),
    };
    prost_types::Value { kind: Some(kind) }
}

/// The comparison overlooks what it must, and nothing else.
#[test]
fn bodies_are_compared_by_what_they_say() {
    let file = json!({"to": 16505551234_u64, "type": "text", "text": {"body": "Hi", "preview_url": false}});
    let tagged = "g1.AZ3kq0p2cXKkzqv1b5c-_w.";
    let mut arrived = json!({"to": "+16505551234", "type": "text", "text": {"body": "Hi"},
        "recipient_type": "individual", "biz_opaque_callback_data": tagged});
    assert_eq!(enveloped(&file, &arrived), enveloped(&arrived, &arrived));
    for (pointer, other) in
        [("/to", "+16505551235"), ("/text/body", "hi"), ("/biz_opaque_callback_data", "x")]
    {
        let before = arrived.pointer(pointer).cloned().unwrap();
        *arrived.pointer_mut(pointer).unwrap() = json!(other);
        assert_ne!(enveloped(&file, &arrived), enveloped(&arrived, &arrived), "{pointer}");
        *arrived.pointer_mut(pointer).unwrap() = before;
    }
    assert_eq!(
        plain("", &json!({"index": "0", "type": "URL"})),
        plain("", &json!({"index": 0, "type": "url"}))
    );
    assert_ne!(plain("", &json!({"text": "A"})), plain("", &json!({"text": "a"})));
    assert_ne!(plain("", &json!([1, 2])), plain("", &json!([2, 1])));
}
