//! Promise 2: nothing signed is dropped. Real webhooks of other projects, and generated ones, go through the running
//! gateway; the events that come out of gRPC rebuild each body.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use whatsapp_gateway::contract::v1::{self, event::Payload};
use whatsapp_gateway::domain::cursor::Cursor;

use crate::support::{Gateway, shared, webhook};

/// Arrays of a `value` whose elements have ids by which they are told apart, each for itself.
const ARRAYS_WITH_IDS: [&str; 4] = ["messages", "statuses", "calls", "message_echoes"];

#[tokio::test]
async fn every_recorded_webhook_comes_back() {
    let Some(folder) = shared::corpus("webhook-corpus") else { return };
    let files = shared::json_files(&folder);
    assert!(files.len() > 200, "the corpus is incomplete: {} files", files.len());
    let mut changes = HashSet::new();
    let bodies: Vec<_> = files
        .into_iter()
        .map(|(name, body)| {
            let body = with_unique_ids(&body);
            let body = if repeats_a_change(&body, &mut changes) {
                println!("{name} repeats a change of another file: its entries get ids of their own");
                with_suffix(&body, entry_ids)
            } else {
                body
            };
            (name, body)
        })
        .collect();

    let gateway = Gateway::dev().await;
    let events = post_all(&gateway, &bodies).await;
    print_table(&events);
    assert_resumes(&gateway, &events).await;
}

/// Bodies that nobody should send: each is one event that keeps every byte.
#[tokio::test]
async fn what_is_no_webhook_comes_back_as_well() {
    let nested = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let deep_item = format!(r#"{{"id":"1","changes":[{{"field":"messages","value":{nested}}}]}}"#);
    let texts = [
        String::new(),
        " ".to_owned(),
        "{".to_owned(),
        r#"{"entry":[{"id":"1""#.to_owned(),
        "null".to_owned(),
        "17".to_owned(),
        r#""entry""#.to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        r#"{"entry":[]}"#.to_owned(),
        r#"{"entry":{"id":"1"}}"#.to_owned(),
        r#"{"entry":[{"id":"1","changes":[]}]}"#.to_owned(),
        r#"{"entry":[{"id":"1","changes":[{"field":"messages"}]}]}"#.to_owned(),
        r#"{"entry":[{"id":"1","changes":[{"field":"messages","value":{"messages":[]}}]}]}"#.to_owned(),
        r#"{"entry":[7,{"id":"1","changes":[{"field":"","value":null},3]}]}"#.to_owned(),
        r#"{"entry":[],"\ud800":1}"#.to_owned(),
        "a=1&b=2".to_owned(),
        "\u{feff}{}".to_owned(),
        format!(r#"{{"entry":[{deep_item}]}}"#),
        nested,
    ];
    let mut bodies: Vec<_> = texts.into_iter().map(String::into_bytes).collect();
    bodies.push(b"\xff\xfe{}".to_vec());
    bodies.push((0..=255).collect());
    let bodies: Vec<_> = bodies.into_iter().enumerate().map(|(n, body)| (format!("#{n}"), body)).collect();

    let gateway = Gateway::dev().await;
    let events = post_all(&gateway, &bodies).await;
    assert_eq!(events.len(), bodies.len(), "one event each");
    print_table(&events);
}

/// As above, with bodies that a generator makes up. `WEBHOOK_SEED` repeats a run.
#[tokio::test]
async fn every_generated_webhook_comes_back() {
    let seed = std::env::var("WEBHOOK_SEED").map_or(20_260_401, |seed| seed.parse().unwrap());
    println!("WEBHOOK_SEED={seed}");
    let mut generator = Generator { state: seed, count: 0 };
    let bodies: Vec<_> = (0..300)
        .map(|n| (format!("#{n} of seed {seed}"), generator.body().to_string().into_bytes()))
        .collect();

    let gateway = Gateway::dev().await;
    let events = post_all(&gateway, &bodies).await;
    print_table(&events);
    for array in ["messages", "statuses", "errors", ""] {
        let count = events.iter().filter(|event| origin(event).array == array).count();
        assert!(count > 50, "the generator makes too few of {array:?}: {count}");
    }
    assert_resumes(&gateway, &events).await;
}

/// Posts every body, reads all events back, and proves that each body comes back and that the same bytes again add
/// nothing.
async fn post_all(gateway: &Gateway, bodies: &[(String, Vec<u8>)]) -> Vec<v1::Event> {
    for (name, body) in bodies {
        assert_eq!(gateway.post_webhook(body.clone()).await, 200, "{name}");
    }
    let events = gateway.events().await;
    assert_order(&events);
    let mut posts = events.chunk_by(|a, b| origin(a).webhook_id == origin(b).webhook_id);
    for (name, body) in bodies {
        let post = posts.next().unwrap_or_else(|| panic!("{name} has no event"));
        let count = origin(&post[0]).item_count as usize;
        assert_eq!(post.len(), count, "{name}: every event of the webhook, next to each other");
        match std::str::from_utf8(body).ok().filter(|text| is_json(text)) {
            Some(text) => assert_rebuilds(name, text, post),
            None => assert_keeps_bytes(name, body, post),
        }
    }
    assert!(posts.next().is_none(), "events of no body");

    for (name, body) in bodies {
        assert_eq!(gateway.post_webhook(body.clone()).await, 200, "{name} again");
    }
    assert!(gateway.events().await == events, "the same bytes again must add and change nothing");
    events
}

/// Ids are unique, and cursors strictly increase.
fn assert_order(events: &[v1::Event]) {
    let mut ids = HashSet::new();
    let mut last = 0;
    for event in events {
        assert!(!event.id.is_empty() && ids.insert(&event.id), "the id {} is not unique", event.id);
        let cursor = Cursor::decode(&event.cursor).unwrap();
        assert!(cursor.seq > last, "{} after {last}", cursor.seq);
        last = cursor.seq;
    }
}

/// The cursor of any event goes on with the next one.
async fn assert_resumes(gateway: &Gateway, events: &[v1::Event]) {
    for at in [0, events.len() / 2, events.len() - 2] {
        let request = v1::SubscribeEventsRequest {
            start: Some(v1::subscribe_events_request::Start::AfterCursor(events[at].cursor.clone())),
            stop_when_caught_up: true,
            ..Default::default()
        };
        let mut frames = gateway.client().await.subscribe_events(request).await.unwrap().into_inner();
        let mut rest = Vec::new();
        while let Some(frame) = frames.message().await.unwrap() {
            if let Some(v1::subscribe_events_response::Frame::Events(batch)) = frame.frame {
                rest.extend(batch.events.into_iter().map(|received| received.event.unwrap()));
            }
        }
        assert!(rest == events[at + 1..], "after event {at}");
    }
}

fn assert_rebuilds(name: &str, text: &str, post: &[v1::Event]) {
    for (position, event) in post.iter().enumerate() {
        assert_eq!(origin(event).item_index as usize, position, "{name}");
        assert!(text.contains(&event.raw_json), "{name}: not the exact text: {}", event.raw_json);
        assert!(event.payload.is_some() || event.payload_omitted, "{name}: no payload");
    }
    // What is nested too deeply for the parser of the test comes back as its text.
    match serde_json::from_str::<Value>(text) {
        Ok(expected) => assert_eq!(rebuild(post), expected, "{name}"),
        Err(_) => assert_eq!((post.len(), post[0].raw_json.as_str()), (1, text), "{name}"),
    }
}

fn assert_keeps_bytes(name: &str, body: &[u8], post: &[v1::Event]) {
    let [event] = post else { panic!("{name}: {} events", post.len()) };
    let Some(Payload::Unknown(unknown)) = &event.payload else { panic!("{name}: {:?}", event.payload) };
    assert_eq!((unknown.body.as_slice(), event.raw_json.as_str()), (body, ""), "{name}");
    assert!(!unknown.reason.is_empty(), "{name}");
}

/// JSON by its grammar, however deep.
fn is_json(text: &str) -> bool {
    serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok()
}

fn origin(event: &v1::Event) -> &v1::EventOrigin {
    event.origin.as_ref().expect("every event has an origin")
}

/// The JSON of a webhook out of its events, as a subscriber can do it: `raw_json`, `change_json` and `origin` alone.
pub fn rebuild(post: &[v1::Event]) -> Value {
    let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let mut body: Option<Map<String, Value>> = None;
    let mut entries: BTreeMap<u32, Value> = BTreeMap::new();
    for event in post {
        let origin = origin(event);
        let Some(entry_index) = origin.entry_index else {
            assert_eq!(post.len(), 1, "a body that is one event has no other");
            return parse(&event.raw_json);
        };
        if !event.change_json.is_empty() {
            let Value::Object(mut frame) = parse(&event.change_json) else { panic!("no object") };
            let mut framed = frame.remove("entry").unwrap();
            let top = body.get_or_insert_with(|| frame.clone());
            assert_eq!(*top, frame, "every frame repeats the same top level");
            // The first change of an entry brings the entry along, each later one only itself.
            if let Some(framed) = framed.get_mut(0) {
                let change = framed["changes"][0].take();
                let entry = entries.entry(entry_index).or_insert_with(|| {
                    framed["changes"] = json!([]);
                    framed.take()
                });
                let changes = entry["changes"].as_array_mut().unwrap();
                if changes.len() == origin.change_index.unwrap() as usize {
                    changes.push(change);
                }
            }
        }
        let Some(change_index) = origin.change_index else {
            assert!(entries.insert(entry_index, parse(&event.raw_json)).is_none(), "one event per entry");
            continue;
        };
        let change = &mut entries.get_mut(&entry_index).expect("the first event of a change has its frame")["changes"]
            [change_index as usize];
        put_back(change, origin, &event.raw_json);
    }
    let last = entries.keys().last().map_or(0, |last| *last as usize + 1);
    assert_eq!(entries.len(), last, "no entry is missing");
    let mut body = body.expect("at least one event has a frame");
    body.insert("entry".to_owned(), entries.into_values().collect());
    Value::Object(body)
}

fn put_back(change: &mut Value, origin: &v1::EventOrigin, raw_json: &str) {
    if origin.array.is_empty() {
        // A change without a value has an empty text.
        if !raw_json.is_empty() {
            change["value"] = serde_json::from_str(raw_json).unwrap();
        }
        return;
    }
    let value = change["value"].as_object_mut().unwrap();
    let array = value.entry(&origin.array).or_insert_with(|| json!([])).as_array_mut().unwrap();
    assert_eq!(array.len(), origin.array_index as usize, "in the order of the array");
    array.push(serde_json::from_str(raw_json).unwrap());
}

/// The files repeat ids of messages, statuses, calls and echoes, by which these are told apart.
fn with_unique_ids(body: &[u8]) -> Vec<u8> {
    with_suffix(body, item_ids)
}

/// Adds a suffix out of the file's hash to some ids; the rest of the text stays as it is.
fn with_suffix(body: &[u8], ids: fn(&Value) -> HashSet<String>) -> Vec<u8> {
    let Ok(parsed) = serde_json::from_slice::<Value>(body) else { return body.to_vec() };
    let suffix = hex::encode(&Sha256::digest(body)[..6]);
    let mut text = String::from_utf8(body.to_vec()).unwrap();
    for id in ids(&parsed) {
        text = text.replace(&format!("\"{id}\""), &format!("\"{id}{suffix}\""));
    }
    let unique: Value = serde_json::from_str(&text).unwrap();
    assert!(ids(&unique).iter().all(|id| id.ends_with(&suffix)), "{text}");
    text.into_bytes()
}

fn item_ids(body: &Value) -> HashSet<String> {
    let changes = list(&body["entry"]).into_iter().flat_map(|entry| list(&entry["changes"]));
    let items =
        changes.flat_map(|change| ARRAYS_WITH_IDS.map(|array| list(&change["value"][array])).concat());
    items.filter_map(|item| item["id"].as_str().map(str::to_owned)).collect()
}

fn entry_ids(body: &Value) -> HashSet<String> {
    list(&body["entry"]).iter().filter_map(|entry| entry["id"].as_str().map(str::to_owned)).collect()
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

/// Whether a change without ids says what another file said, which makes it the same event.
fn repeats_a_change(body: &[u8], seen: &mut HashSet<String>) -> bool {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let mut repeats = false;
    for entry in list(&body["entry"]) {
        for change in list(&entry["changes"]) {
            let key = json!([entry["id"], entry["time"], change["field"], change["value"]]);
            repeats |= !seen.insert(key.to_string());
        }
    }
    repeats
}

/// Field, type, how it came out, and how often.
fn print_table(events: &[v1::Event]) {
    let mut table: BTreeMap<[String; 3], usize> = BTreeMap::new();
    for event in events {
        let item: Value = serde_json::from_str(&event.raw_json).unwrap_or_default();
        let text = |name: &str| item[name].as_str().unwrap_or("-").chars().take(32).collect::<String>();
        let kind = match origin(event).array.as_str() {
            "messages" => format!("message {}", text("type")),
            "statuses" => format!("status {}", text("status")),
            "errors" if item["code"].is_i64() => "error with a code".to_owned(),
            "errors" => "error without a code".to_owned(),
            _ => "-".to_owned(),
        };
        let change: Value = serde_json::from_str(&event.change_json).unwrap_or_default();
        let field = change["entry"][0]["changes"][0]["field"].as_str().unwrap_or("-");
        // A field of the generator's may be anything.
        let field = if field.is_ascii() { field.escape_debug().to_string() } else { "other".to_owned() };
        *table.entry([field, kind, outcome(event)]).or_default() += 1;
    }
    let mut shown = String::new();
    for ([field, kind, outcome], count) in &table {
        writeln!(shown, "{count:5}  {field:36} {kind:32} {outcome}").unwrap();
    }
    println!("{shown}{:5}  events", events.len());
}

fn outcome(event: &v1::Event) -> String {
    let content =
        if let Some(Payload::Message(message)) = &event.payload { Some(&message.content) } else { None };
    if let Some(None | Some(v1::received_message::Content::Unknown(_))) = content {
        "unknown content".to_owned()
    } else if let Some(Payload::Unknown(unknown)) = &event.payload {
        format!("unknown: {}", unknown.reason)
    } else if event.payload.is_some() {
        "typed".to_owned()
    } else {
        "omitted".to_owned()
    }
}

/// Makes webhooks up: several entries and changes, two numbers, mixed arrays, extra fields, odd types.
struct Generator {
    state: u64,
    /// Counts what it made, so that nothing is the same word for word and becomes one event.
    count: u64,
}

impl Generator {
    /// splitmix64
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// True in one of `cases`.
    fn rarely(&mut self, cases: u64) -> bool {
        self.below(cases) == 0
    }

    fn one_of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[usize::try_from(self.below(list.len() as u64)).unwrap()]
    }

    fn counted(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    fn list(&mut self, most: u64, make: impl Fn(&mut Self) -> Value) -> Value {
        (0..self.below(most + 1)).map(|_| make(self)).collect()
    }

    fn body(&mut self) -> Value {
        let entries = self.list(4, Self::entry);
        let mut body = json!({"object": "whatsapp_business_account", "entry": entries, "n": self.counted()});
        self.extras(&mut body);
        if self.rarely(12) {
            body["entry"] = self.any(3);
        }
        body
    }

    fn entry(&mut self) -> Value {
        let changes = self.list(4, Self::change);
        // The time tells entries and changes without content apart.
        let time = 1_700_000_000 + self.counted();
        let time = if self.rarely(3) { json!(time.to_string()) } else { json!(time) };
        let mut entry = json!({"id": self.one_of(&[webhook::WABA_ID, "900000000000002"]), "time": time});
        self.extras(&mut entry);
        entry["changes"] = if self.rarely(15) { self.any(2) } else { changes };
        entry
    }

    fn change(&mut self) -> Value {
        let field = ["messages", "messages", "messages", "account_update", "calls", "a field of tomorrow"];
        let value = if self.rarely(15) { json!([self.counted(), self.any(3)]) } else { self.value() };
        let mut change = json!({"field": self.one_of(&field), "value": value});
        self.extras(&mut change);
        if self.rarely(20) {
            change["field"] = self.any(2);
        }
        change
    }

    fn value(&mut self) -> Value {
        let number = self.one_of(&[webhook::PHONE_NUMBER_ID, "900000000000001"]);
        let mut value = json!({"n": self.counted(), "metadata": {"phone_number_id": number}});
        self.extras(&mut value);
        for array in ["contacts", "messages", "statuses", "errors"] {
            if self.rarely(2) {
                value[array] = match array {
                    "contacts" => self.list(2, Self::contact),
                    "errors" => self.list(2, |it| json!({"code": it.any(1), "n": it.counted()})),
                    _ => self.list(4, Self::item),
                };
            }
            if self.rarely(20) {
                value[array] = self.any(2);
            }
        }
        value
    }

    fn contact(&mut self) -> Value {
        let mut contact = json!({"wa_id": self.user(), "profile": {"name": self.text()}});
        if self.rarely(2) {
            contact["user_id"] = json!(self.one_of(&["US.1", "US.2", "DE.3", "no user id"]));
        }
        contact
    }

    fn user(&mut self) -> &'static str {
        self.one_of(&["16505551234", "5511987654321", "551187654321", "4915112345678", "nobody"])
    }

    /// A message or a status, as may be.
    fn item(&mut self) -> Value {
        let id = format!("wamid.{}", self.counted());
        let kind = self.one_of(&["text", "image", "interactive", "hologram"]);
        let status = self.one_of(&["sent", "delivered", "read", "failed", "played", "evaporated"]);
        let mut item = json!({
            "id": id, "from": self.user(), "recipient_id": self.user(), "type": kind, kind: {"body": self.text()},
            "status": status, "timestamp": (1_700_000_000 + self.below(100)).to_string(),
        });
        self.extras(&mut item);
        for name in ["id", "from", "timestamp", "type", "recipient_id", "errors", "group_id", kind] {
            if self.rarely(25) {
                item[name] = self.any(2);
                // What has lost its id is told apart by what it says.
                item["n"] = json!(self.counted());
            }
        }
        item
    }

    fn extras(&mut self, object: &mut Value) {
        for name in ["extra", "\u{1f980} \"quoted\"", ""] {
            if self.rarely(6) {
                object[name] = self.any(3);
            }
        }
    }

    fn text(&mut self) -> String {
        let pieces = [
            "",
            "a",
            "\u{e9}",
            "\u{4f60}\u{597d}",
            "\u{1f469}\u{200d}\u{1f680}",
            "\\",
            "\"",
            "\n\t\u{1}",
            "]}",
        ];
        (0..self.below(4)).map(|_| self.one_of(&pieces)).collect()
    }

    /// Any JSON, `depth` levels deep at most.
    fn any(&mut self, depth: u64) -> Value {
        match self.below(if depth == 0 { 6 } else { 8 }) {
            0 => Value::Null,
            1 => json!(self.rarely(2)),
            2 => json!(self.next()),
            3 => json!(self.next().cast_signed()),
            4 => json!(f64::from(u32::try_from(self.below(1 << 20)).unwrap()) / 64.0),
            5 => json!(self.text()),
            6 => self.list(3, |it| it.any(depth - 1)),
            _ => {
                let names = ["id", "type", "entry", "changes", "messages", "timestamp", "x"];
                (0..self.below(4)).map(|_| (self.one_of(&names).to_owned(), self.any(depth - 1))).collect()
            }
        }
    }
}
