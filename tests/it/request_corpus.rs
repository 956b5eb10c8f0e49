//! Requests of other projects, sent through the gateway: what arrives at the Cloud API is what the file says.
//!
//! Each file becomes a `SendMessage` as somebody would write it who migrates. A file whose type has an arm goes through
//! it, all others through `raw`. Equal means: but for the `+` before a number, `recipient_type`, our tag, defaults that
//! are false or empty, numbers as texts, the case of Meta's words, and a `type` that the file leaves to be guessed.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use whatsapp_gateway::contract::v1::{
    self, send_message_request::Content, template_component::Component, template_parameter::Parameter,
};

use crate::support::{Gateway, gateway::Client, shared};

/// Meta's types that have an arm.
const TYPED: [&str; 7] = ["text", "image", "video", "audio", "document", "sticker", "template"];

/// How a file went through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// Through its own arm.
    Typed,
    /// Through `raw`, and equal.
    Raw,
    /// The gateway has no request for it, or refuses it.
    Refused,
    /// It arrives, but not equal.
    Different,
    /// As `MarkMessageRead`.
    MarkRead,
    /// It sends nothing.
    Template,
}

/// Words that stand in the files for a message id, and are none: something takes their place on both sides.
const PLACEHOLDER_IDS: [&str; 2] = ["msgid of prev msg", "msgid of msg you are replying to"];
const FILLED_ID: &str = "wamid.HBgLMTY1MDU1NTEyMzQVAgARGBI1RjQyNUE3NEYxMzAzMzQ5MkEA";

const DATE_TIME: &str = "Meta shows the fallback_value alone (reference 3), so date_time has nothing else";
const MARKETING: &str = "a field of the Marketing Messages API, which has no field here yet";

/// Files whose type has an arm and that do not go through it, or that do not arrive at all, and why. One that is not
/// needed any more fails the test.
const EXCEPTIONS: &[(&str, Way, &str)] = &[
    (
        "david-lev+pywa/message-text-reply-biz_opaque_callback_data.json",
        Way::Refused,
        "the recipient 123 is no phone number; recipient_identity_key_hash has no field here yet",
    ),
    (
        "facebook+openapi/message-image-link.json",
        Way::Raw,
        "the link http(s)://image-url is a placeholder and no URL, which the arm checks and raw does not",
    ),
    (
        "facebook+openapi/message-audio-link-reply.json",
        Way::Raw,
        "the link http(s)://audio-url is a placeholder and no URL",
    ),
    (
        "facebook+openapi/message-image-link-reply.json",
        Way::Raw,
        "the link http(s)://image-url is a placeholder and no URL",
    ),
    ("facebook+openapi/message-template-body.json", Way::Raw, DATE_TIME),
    ("facebook+openapi/message-template-body-2.json", Way::Raw, DATE_TIME),
    ("facebook+openapi/message-template-header_image-body.json", Way::Raw, DATE_TIME),
    ("facebook+openapi/message-template-header_image-body-button_quick_reply.json", Way::Raw, DATE_TIME),
    (
        "facebook+openapi/message-template-body-button_catalog.json",
        Way::Raw,
        "the parameter action of catalog buttons has no arm yet",
    ),
    (
        "facebook+openapi/message-template-body-button_quick_reply.json",
        Way::Raw,
        "the text of a parameter is a truth value, which raw keeps as it is",
    ),
    (
        "facebook+openapi/message-template-body-message_activity_sharing-product_policy.json",
        Way::Raw,
        MARKETING,
    ),
    ("facebook+openapi/message-template-message_activity_sharing-product_policy.json", Way::Raw, MARKETING),
    (
        "froggy1014+meta-cloud-api/message-template-message_activity_sharing-product_policy.json",
        Way::Raw,
        MARKETING,
    ),
    (
        "netflie+whatsapp-cloud-api/message-text-bsuid-2.json",
        Way::Refused,
        "it names its recipient by number and by user id; a request names one",
    ),
];

#[tokio::test]
async fn every_request_arrives_as_it_is_written() {
    let Some(folder) = shared::corpus("request-corpus") else { return };
    let files = shared::json_files(&folder);
    assert!(files.len() > 150, "the corpus is incomplete: {} files", files.len());
    let gateway = Gateway::dev().await;
    let limits = json!({"messages_per_second": 1_000_000, "pair_interval_ms": 1, "pair_burst": 1_000_000});
    gateway.simulate("limits", &limits).await;

    let mut wire = Wire { client: gateway.client().await, gateway: &gateway, seen: None };
    let mut counts: BTreeMap<Way, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut unused: Vec<&str> = EXCEPTIONS.iter().map(|(file, ..)| *file).collect();
    for (file, text) in files {
        let text = String::from_utf8(text).unwrap();
        let filled = PLACEHOLDER_IDS.iter().fold(text.clone(), |text, id| text.replace(id, FILLED_ID));
        if filled != text {
            println!("filled     {file}");
        }
        let body: Value = serde_json::from_str(&filled).unwrap();
        let (way, why) = wire.send(&file, body).await;
        let listed = EXCEPTIONS.iter().find(|(listed, ..)| *listed == file);
        let reason = listed.map_or(String::new(), |(.., reason)| format!(": {reason}"));
        println!("{:9}  {file}{reason}", format!("{way:?}"));
        *counts.entry(way).or_default() += 1;
        let (listed, needed) = (listed.map(|(_, way, _)| *way), (!why.is_empty()).then_some(way));
        if listed != needed {
            wrong.push(format!("{file} is listed as {listed:?} and needs {needed:?}: {why}"));
        }
        unused.retain(|listed| *listed != file);
    }
    wrong.extend(unused.into_iter().map(|file| format!("{file} is listed and is no file")));
    println!("{counts:?}");
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// Kinds of parameters and buttons that the corpus does not have in a form that the arm takes.
#[tokio::test]
async fn every_kind_of_parameter_arrives_as_it_is_written() {
    let header = |parameter: Value| json!([{"type": "header", "parameters": [parameter]}]);
    let body = |parameter: Value| json!([{"type": "body", "parameters": [parameter]}]);
    let button = |sub_type: &str, index: Value, parameter: Value| json!([{"type": "button", "sub_type": sub_type, "index": index, "parameters": [parameter]}]);
    let link = "https://example.com/file";
    let components = [
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
    ];
    let gateway = Gateway::dev().await;
    let mut wire = Wire { client: gateway.client().await, gateway: &gateway, seen: None };
    for components in components {
        let template = json!({"name": "t", "language": {"code": "en_US"}, "components": components});
        let body = json!({"messaging_product": "whatsapp", "to": "16505551234", "type": "template",
            "template": template});
        assert_eq!(wire.send("message-template", body).await, (Way::Typed, String::new()));
    }
}

/// The way from a request to what arrives at the simulator.
struct Wire<'a> {
    client: Client,
    gateway: &'a Gateway,
    /// The last request that was looked at.
    seen: Option<u64>,
}

impl Wire<'_> {
    /// Sends what a file says, in the best way that there is; tells the way, and why no better one, if there is one.
    async fn send(&mut self, file: &str, body: Value) -> (Way, String) {
        let name = file.rsplit('/').next().unwrap();
        if name.starts_with("template-") {
            return (Way::Template, String::new());
        }
        if name.starts_with("mark-read") {
            return match self.mark_read(&body).await {
                Ok(()) => (Way::MarkRead, String::new()),
                Err((way, why)) => (way, why),
            };
        }
        let kind = kind(&body);
        let mut reasons = Vec::new();
        let mut way = Way::Refused;
        let ways: &[Way] = if TYPED.contains(&kind) { &[Way::Typed, Way::Raw] } else { &[Way::Raw] };
        for tried in ways {
            match self.try_send(&body, kind, *tried).await {
                Ok(()) => return (*tried, reasons.join("; ")),
                Err((failed, why)) => {
                    way = failed;
                    reasons.push(why);
                }
            }
        }
        (way, reasons.join("; "))
    }

    async fn try_send(&mut self, body: &Value, kind: &str, way: Way) -> Result<(), (Way, String)> {
        let content = if way == Way::Typed { typed(body, kind) } else { Ok(raw(body, kind)) };
        let request =
            content.and_then(|content| request(body, content)).map_err(|why| (Way::Refused, why))?;
        let answer = self.client.send_message(request).await;
        // The simulator may refuse it, since it knows neither the file's media nor its templates.
        match self.arrived().await {
            Some(arrived) => compare(body, &arrived),
            None => Err((Way::Refused, answer.unwrap_err().message().to_owned())),
        }
    }

    async fn mark_read(&mut self, body: &Value) -> Result<(), (Way, String)> {
        let request = v1::MarkMessageReadRequest {
            message_id: body["message_id"].as_str().unwrap().to_owned(),
            typing_indicator: body.get("typing_indicator").is_some(),
            ..Default::default()
        };
        let answer = self.client.mark_message_read(request).await;
        match self.arrived().await {
            Some(arrived) => compare(body, &arrived),
            None => Err((Way::Refused, answer.unwrap_err().message().to_owned())),
        }
    }

    /// The body that came to the simulator since the last look.
    async fn arrived(&mut self) -> Option<Value> {
        let after = self.seen.map(|seen| format!("&after={seen}")).unwrap_or_default();
        let requests = self.gateway.simulator(&format!("requests?path=/messages{after}")).await;
        let requests = requests.as_array().unwrap();
        assert!(requests.len() <= 1, "sent more than once: {requests:?}");
        let request = requests.first()?;
        self.seen = request["number"].as_u64();
        Some(request["body"].clone())
    }
}

/// Whether what arrived says what the file says.
fn compare(file: &Value, arrived: &Value) -> Result<(), (Way, String)> {
    let (expected, mut arrived) = (comparable(file), comparable(arrived));
    if expected.get("type").is_none() {
        arrived.as_object_mut().unwrap().remove("type");
    }
    if expected == arrived {
        return Ok(());
    }
    Err((Way::Different, first_difference("", &expected, &arrived)))
}

/// Meta's word for the content; where the file leaves it out, the only known one that stands there.
fn kind(body: &Value) -> &str {
    let known = ["text", "interactive"];
    let guessed = || known.into_iter().find(|kind| body.get(kind).is_some());
    body.get("type").and_then(Value::as_str).or_else(guessed).expect("a file has a content")
}

fn request(body: &Value, content: Content) -> Result<v1::SendMessageRequest, String> {
    use v1::recipient::Address;
    let fields = &mut Fields::of(body)?;
    let address = match (fields.text("to")?, fields.text("recipient")?, fields.text("recipient_type")?) {
        (Some(_), Some(_), _) => return Err("it names its recipient twice; a request names one".to_owned()),
        (Some(to), None, Some(group)) if group == "group" => Address::GroupId(to),
        (Some(to), None, _) => Address::PhoneNumber(to),
        (None, Some(user_id), _) => Address::UserId(user_id),
        (None, None, _) => return Err("it names no recipient".to_owned()),
    };
    let quoted = fields.0.remove("context");
    let quoted = quoted.map(|quoted| Fields::of(&quoted)?.only("message_id")).transpose()?;
    Ok(v1::SendMessageRequest {
        recipient: Some(v1::Recipient { address: Some(address) }),
        reply_to_message_id: quoted.unwrap_or_default(),
        callback_data: fields.text("biz_opaque_callback_data")?.unwrap_or_default(),
        content: Some(content),
        ..Default::default()
    })
}

/// Meta's body without what a request says in fields of its own.
fn raw(body: &Value, kind: &str) -> Content {
    let mut fields = body.as_object().unwrap().clone();
    for name in ["to", "recipient", "recipient_type", "context", "biz_opaque_callback_data"] {
        fields.remove(name);
    }
    fields.insert("type".to_owned(), json!(kind));
    Content::Raw(to_struct(&fields))
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

/// The content in the arm of its type, or why it does not fit.
fn typed(body: &Value, kind: &str) -> Result<Content, String> {
    let mut fields = Fields::of(body)?;
    for name in ["messaging_product", "to", "recipient", "recipient_type", "context", "type"] {
        fields.0.remove(name);
    }
    fields.0.remove("biz_opaque_callback_data");
    let content = fields.0.remove(kind).ok_or_else(|| format!("no {kind}"))?;
    fields.end()?;
    let mut fields = Fields::of(&content)?;
    let content = match kind {
        "text" => Content::Text(v1::Text {
            body: fields.text("body")?.unwrap_or_default(),
            preview_url: fields.truth("preview_url")?,
        }),
        "image" => Content::Image(image(&mut fields)?),
        "video" => Content::Video(video(&mut fields)?),
        "audio" => {
            use v1::audio::Source;
            let source = fields.source(Source::Id, Source::Link)?;
            Content::Audio(v1::Audio { source, voice: fields.truth("voice")? })
        }
        "document" => Content::Document(document(&mut fields)?),
        "sticker" => {
            use v1::sticker::Source;
            Content::Sticker(v1::Sticker { source: fields.source(Source::Id, Source::Link)? })
        }
        "template" => Content::Template(template(&mut fields)?),
        other => return Err(format!("{other} has no arm")),
    };
    fields.end()?;
    Ok(content)
}

fn image(fields: &mut Fields) -> Result<v1::Image, String> {
    use v1::image::Source;
    let source = fields.source(Source::Id, Source::Link)?;
    Ok(v1::Image { source, caption: fields.text("caption")?.unwrap_or_default() })
}

fn video(fields: &mut Fields) -> Result<v1::Video, String> {
    use v1::video::Source;
    let source = fields.source(Source::Id, Source::Link)?;
    Ok(v1::Video { source, caption: fields.text("caption")?.unwrap_or_default() })
}

fn document(fields: &mut Fields) -> Result<v1::Document, String> {
    use v1::document::Source;
    Ok(v1::Document {
        source: fields.source(Source::Id, Source::Link)?,
        caption: fields.text("caption")?.unwrap_or_default(),
        filename: fields.text("filename")?.unwrap_or_default(),
    })
}

fn template(fields: &mut Fields) -> Result<v1::Template, String> {
    let mut language = fields.object("language")?;
    let template = v1::Template {
        name: fields.text("name")?.unwrap_or_default(),
        language: Some(v1::TemplateLanguage {
            code: language.text("code")?.unwrap_or_default(),
            policy: language.text("policy")?.unwrap_or_default(),
        }),
        components: fields.list("components", component)?,
    };
    language.end()?;
    Ok(template)
}

fn component(fields: &mut Fields) -> Result<v1::TemplateComponent, String> {
    let kind = fields.text("type")?.unwrap_or_default().to_lowercase();
    let parameters = fields.list("parameters", parameter)?;
    let component = match kind.as_str() {
        "header" => Component::Header(v1::TemplateParameters { parameters }),
        "body" => Component::Body(v1::TemplateParameters { parameters }),
        "button" => Component::Button(v1::TemplateButton {
            sub_type: fields.text("sub_type")?.unwrap_or_default(),
            index: fields.text("index")?.map(|index| index.parse().map_err(|_| "index")).transpose()?,
            parameters,
        }),
        other => return Err(format!("the component {other} has no arm")),
    };
    Ok(v1::TemplateComponent { component: Some(component) })
}

fn parameter(fields: &mut Fields) -> Result<v1::TemplateParameter, String> {
    let kind = fields.text("type")?.unwrap_or_default().to_lowercase();
    let parameter_name = fields.text("parameter_name")?.unwrap_or_default();
    let plain = |fields: &mut Fields| fields.text(&kind).map(Option::unwrap_or_default);
    let parameter = match kind.as_str() {
        "text" => Parameter::Text(plain(fields)?),
        "payload" => Parameter::Payload(plain(fields)?),
        "coupon_code" => Parameter::CouponCode(plain(fields)?),
        "currency" | "date_time" | "image" | "video" | "document" | "location" => {
            let mut inner = fields.object(&kind)?;
            let parameter = object_parameter(&kind, &mut inner)?;
            inner.end().map_err(|why| format!("{kind}: {why}"))?;
            parameter
        }
        other => return Err(format!("the parameter {other} has no arm")),
    };
    Ok(v1::TemplateParameter { parameter_name, parameter: Some(parameter) })
}

fn object_parameter(kind: &str, inner: &mut Fields) -> Result<Parameter, String> {
    let mut text = |name: &str| inner.text(name).map(Option::unwrap_or_default);
    Ok(match kind {
        "currency" => Parameter::Currency(v1::TemplateCurrency {
            fallback_value: text("fallback_value")?,
            code: text("code")?,
            amount_1000: text("amount_1000")?.parse().map_err(|_| "amount_1000 is no whole number")?,
        }),
        "date_time" => Parameter::DateTime(v1::TemplateDateTime {
            fallback_value: text("fallback_value")?,
            ..Default::default()
        }),
        "location" => Parameter::Location(v1::TemplateLocation {
            latitude: text("latitude")?,
            longitude: text("longitude")?,
            name: text("name")?,
            address: text("address")?,
        }),
        "image" => Parameter::Image(image(inner)?),
        "video" => Parameter::Video(video(inner)?),
        _ => Parameter::Document(document(inner)?),
    })
}

/// Fields of an object, each of which must be taken.
struct Fields(Map<String, Value>);

impl Fields {
    fn of(value: &Value) -> Result<Self, String> {
        value.as_object().cloned().map(Self).ok_or_else(|| format!("{value} is no object"))
    }

    /// A text, or a number as a text, which Meta takes as well.
    fn text(&mut self, name: &str) -> Result<Option<String>, String> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(other) => Err(format!("{name} is {other} and no text")),
        }
    }

    fn truth(&mut self, name: &str) -> Result<bool, String> {
        let value = self.0.remove(name).unwrap_or(Value::Bool(false));
        value.as_bool().ok_or_else(|| format!("{name} is {value} and no truth value"))
    }

    fn object(&mut self, name: &str) -> Result<Self, String> {
        Self::of(&self.0.remove(name).unwrap_or_else(|| json!({})))
    }

    fn list<T>(&mut self, name: &str, read: fn(&mut Self) -> Result<T, String>) -> Result<Vec<T>, String> {
        let list = self.0.remove(name).unwrap_or_else(|| json!([]));
        let list = list.as_array().ok_or_else(|| format!("{name} is no list"))?;
        list.iter()
            .map(|element| {
                let mut fields = Self::of(element)?;
                let value = read(&mut fields)?;
                fields.end()?;
                Ok(value)
            })
            .collect()
    }

    /// The `id` or the `link` of media.
    fn source<S>(&mut self, id: fn(String) -> S, link: fn(String) -> S) -> Result<Option<S>, String> {
        match (self.text("id")?, self.text("link")?) {
            (Some(_), Some(_)) => Err("both an id and a link".to_owned()),
            (by_id, by_link) => Ok(by_id.map(id).or(by_link.map(link))),
        }
    }

    /// The one field that there is.
    fn only(mut self, name: &str) -> Result<String, String> {
        let text = self.text(name)?.ok_or_else(|| format!("no {name}"))?;
        self.end()?;
        Ok(text)
    }

    /// Nothing may be left, or it would be lost.
    fn end(&self) -> Result<(), String> {
        let left: Vec<_> = self.0.keys().map(String::as_str).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("no field for {}", left.join(", "))) }
    }
}

/// A body in the form in which bodies are compared.
fn comparable(body: &Value) -> Value {
    let mut body = body.clone();
    let fields = body.as_object_mut().unwrap();
    fields.remove("recipient_type");
    if let Some(to) = fields.get_mut("to") {
        *to = json!(plain(to).as_str().unwrap().trim_start_matches('+'));
    }
    if let Some(Value::String(data)) = fields.get_mut("biz_opaque_callback_data") {
        // Our tag: "g1.", 22 characters, ".".
        if data.starts_with("g1.") && data.get(25..26) == Some(".") {
            *data = data.split_off(26);
        }
    }
    plain(&body)
}

/// Scalars as texts, Meta's words in lower case, and no defaults.
fn plain(value: &Value) -> Value {
    let is_default = |value: &Value| {
        value.is_null()
            || value == &json!(false)
            || value == &json!("")
            || value == &json!([])
            || value == &json!({})
    };
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, value)| !is_default(value))
            .map(|(name, value)| {
                let is_word = ["type", "sub_type", "policy", "product_policy"].contains(&name.as_str());
                let word = value.as_str().filter(|_| is_word).map(str::to_lowercase);
                (name.clone(), word.map_or_else(|| plain(value), Value::String))
            })
            .collect(),
        Value::Array(list) => list.iter().map(plain).collect(),
        Value::Number(number) => json!(number.as_i64().map_or_else(|| number.to_string(), |n| n.to_string())),
        Value::Bool(truth) => json!(truth.to_string()),
        Value::String(_) | Value::Null => value.clone(),
    }
}

/// Where two values differ first, for people.
fn first_difference(path: &str, expected: &Value, arrived: &Value) -> String {
    match (expected, arrived) {
        (Value::Object(a), Value::Object(b)) => {
            let mut names: Vec<_> = a.keys().chain(b.keys()).collect();
            names.sort();
            let at = |fields: &Map<String, Value>, name: &str| fields.get(name).cloned().unwrap_or_default();
            let name = names.into_iter().find(|name| at(a, name) != at(b, name)).unwrap();
            first_difference(&format!("{path}.{name}"), &at(a, name), &at(b, name))
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let at = a.iter().zip(b).position(|(a, b)| a != b).unwrap();
            first_difference(&format!("{path}[{at}]"), &a[at], &b[at])
        }
        _ => format!("{path} is {expected} in the file and arrives as {arrived}"),
    }
}

/// The comparison overlooks what it must, and nothing else.
#[test]
fn bodies_are_compared_by_what_they_say() {
    let file = json!({"to": 16505551234_u64, "type": "text", "text": {"body": "Hi", "preview_url": false}});
    let tagged = "g1.AZ3kq0p2cXKkzqv1b5c-_w.";
    let mut arrived = json!({"to": "+16505551234", "type": "text", "text": {"body": "Hi"},
        "recipient_type": "individual", "biz_opaque_callback_data": tagged});
    assert_eq!(comparable(&file), comparable(&arrived));
    for (pointer, other) in
        [("/to", "+16505551235"), ("/text/body", "hi"), ("/biz_opaque_callback_data", "x")]
    {
        let before = arrived.pointer(pointer).cloned().unwrap();
        *arrived.pointer_mut(pointer).unwrap() = json!(other);
        assert_ne!(comparable(&file), comparable(&arrived), "{pointer}");
        *arrived.pointer_mut(pointer).unwrap() = before;
    }
    assert_eq!(
        plain(&json!({"index": "0", "sub_type": "URL"})),
        plain(&json!({"index": 0, "sub_type": "url"}))
    );
    assert_ne!(plain(&json!({"text": "A"})), plain(&json!({"text": "a"})));
    assert_ne!(plain(&json!([1, 2])), plain(&json!([2, 1])));
}
