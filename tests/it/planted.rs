//! Secrets, phone numbers and texts of messages are planted wherever something comes in, and looked for wherever the process
//! tells about itself: logs of its own targets at `trace` in both formats, exported traces, metrics, error texts and
//! details, `print-config`, `Debug`.
//!
//! Answers and events have to carry numbers and texts, so they are not looked at.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream;
use jsonwebtoken::Algorithm;
use prost::encoding::encode_varint;
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FieldDescriptorProto};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use whatsapp_gateway::clock::{Clock, SystemClock};
use whatsapp_gateway::contract::v1;
use whatsapp_gateway::contract::v1::gateway_service_client::GatewayServiceClient;
use whatsapp_gateway::domain::ids::{GroupId, MessageId, PhoneNumberId};
use whatsapp_gateway::domain::message::{Content, Endpoint, OutboundMessage, PhoneNumber, Recipient};

use crate::eventually;
use crate::gate::call_on;
use crate::security_table::{messages, methods, path};
use crate::support::certificates::Authority;
use crate::support::collector::Collector;
use crate::support::jwt::{AUDIENCE, CLUSTER, KeyServer, Signer, jwks, service_account, with};
use crate::support::rpc::{phone, text};
use crate::support::serve::{ALL_RIGHTS, SECOND_SECRET, caller};
use crate::support::{Gateway, Serve, webhook};
use crate::tls::{Client, section};

/// A person's number, in an area that nothing else here uses.
const NUMBER: &str = "15558675309";
const TEXT: &str = "planted-words-of-a-message";
const TOKEN: &str = "planted-caller-token";
const WRONG_TOKEN: &str = "planted-wrong-token";
const KEY_SERVER_TOKEN: &str = "planted-key-server-token";
const RUBBISH: &str = "planted-rubbish-in-a-file";
const COLLECTOR_TOKEN: &str = "planted-collector-token";
const HEADER: &str = "planted-header";

/// What must not be found, with the secrets of the files.
fn marks(tls_key: &str, jwt: &str) -> Vec<String> {
    let fixed = [
        NUMBER,
        TEXT,
        TOKEN,
        WRONG_TOKEN,
        KEY_SERVER_TOKEN,
        COLLECTOR_TOKEN,
        RUBBISH,
        HEADER,
        webhook::APP_SECRET,
        SECOND_SECRET,
        "dev-access-token",
        "dev-verify-token",
    ];
    let mut marks: Vec<_> = fixed.iter().map(|mark| (*mark).to_owned()).collect();
    // A number as Meta's message ids carry it.
    marks.push(STANDARD.encode(NUMBER).trim_end_matches('=').to_owned());
    marks.push(tls_key.lines().nth(1).unwrap()[..32].to_owned());
    marks.extend(jwt.split('.').skip(1).map(str::to_owned));
    marks
}

/// The lines that show something, a few of each kind.
fn leaks(place: &str, shown: &str, marks: &[String]) -> Vec<String> {
    let found = marks.iter().flat_map(|mark| {
        let lines = shown.lines().filter(move |line| line.contains(mark.as_str())).take(3);
        lines.map(move |line| format!("{mark} is in {place}: {line:.600}"))
    });
    found.collect()
}

fn message_id() -> String {
    format!("wamid.{}", STANDARD.encode(format!("\u{18}\u{b}{NUMBER}\u{15}\u{2}planted")))
}

/// A message with something planted in each of its fields, and in those of its parts.
fn planted(all: &[DescriptorProto], message: &str, depth: u32) -> Vec<u8> {
    let Some(descriptor) = all.iter().find(|m| m.name() == message) else { return Vec::new() };
    descriptor.field.iter().flat_map(|field| planted_field(all, field, depth)).collect()
}

fn planted_field(all: &[DescriptorProto], field: &FieldDescriptorProto, depth: u32) -> Vec<u8> {
    let kind = field.r#type();
    let value = if [Type::String, Type::Bytes].contains(&kind) {
        planted_text(field.name()).into_bytes()
    } else if kind == Type::Message && depth > 0 {
        planted(all, field.type_name().rsplit('.').next().unwrap(), depth - 1)
    } else {
        return Vec::new();
    };
    let mut bytes = Vec::new();
    encode_varint(u64::try_from(field.number() << 3 | 2).unwrap(), &mut bytes);
    encode_varint(value.len() as u64, &mut bytes);
    bytes.extend(value);
    bytes
}

/// Ids that are configured stay right, so that a request gets further than that.
fn planted_text(field: &str) -> String {
    match field {
        "phone_number_id" => webhook::PHONE_NUMBER_ID.to_owned(),
        "waba_id" => webhook::WABA_ID.to_owned(),
        name if name.contains("phone") || name.contains("wa_id") || name == "to" => format!("+{NUMBER}"),
        name if name.contains("message_id") => message_id(),
        _ => format!("{TEXT} {NUMBER}"),
    }
}

/// The status of a call with this body.
async fn called(channel: &Channel, method: &str, body: &[u8], token: &str) -> Option<Status> {
    let path = path(method);
    let mut framed = vec![0];
    framed.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
    framed.extend(body);
    let response = call_on(channel.clone(), &path, Some(token), stream::iter([Bytes::from(framed)])).await;
    Status::from_header_map(response.unwrap().headers())
}

/// What a status shows: its text, and its details as they come.
fn shown(status: &Status) -> String {
    format!("{}\n{}", status.message(), String::from_utf8_lossy(status.details()).replace('\n', " "))
}

/// Everything that a caller can send, by every method; returns the statuses.
async fn call_everything(channel: &Channel, jwt: &str) -> Vec<Status> {
    let (all, methods) = (&messages(), methods());
    let calls = methods.iter().flat_map(|(method, input)| {
        let descriptor = all.iter().find(|m| m.name() == input).unwrap();
        let is_id = |field: &&FieldDescriptorProto| ["phone_number_id", "waba_id"].contains(&field.name());
        let ids = descriptor.field.iter().filter(is_id);
        let ids: Vec<u8> = ids.flat_map(|field| planted_field(all, field, 0)).collect();
        // Of a oneof the last field counts, so each of them has a request to itself.
        let is_meant = |field: &&FieldDescriptorProto| {
            method.split_once('/').is_none_or(|(_, action)| action == field.name())
        };
        let each = descriptor.field.iter().filter(is_meant);
        let mut calls: Vec<_> = each
            .map(|field| ([ids.clone(), planted_field(all, field, 5)].concat(), TOKEN.to_owned()))
            .collect();
        let body = planted(all, input, 5);
        // A token that is cut off, a JWT with another signature, and bytes that are no message.
        let tokens =
            [jwt.to_owned(), WRONG_TOKEN.to_owned(), format!("wag_{TOKEN}_{TEXT}"), format!("{jwt}AAAA")];
        calls.extend(tokens.map(|token| (body.clone(), token)));
        calls.push((TEXT.into(), TOKEN.to_owned()));
        calls
            .into_iter()
            .map(move |(body, token)| async move { called(channel, method, &body, &token).await })
    });
    join_all(calls).await.into_iter().flatten().collect()
}

fn by<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("authorization", format!("Bearer {TOKEN}").parse().unwrap());
    metadata.insert("x-planted", format!("{HEADER} {NUMBER}").parse().unwrap());
    metadata
        .insert("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap());
    metadata.insert("baggage", format!("planted={HEADER}").parse().unwrap());
    request
}

/// Messages that go out, one of which Meta refuses, and what is asked about them.
async fn send(channel: &Channel) -> Vec<Status> {
    use v1::get_message_request::Key;
    let mut client = GatewayServiceClient::new(channel.clone());
    let message = |number: &str| v1::SendMessageRequest {
        phone_number_id: webhook::PHONE_NUMBER_ID.to_owned(),
        recipient: Some(phone(number)),
        content: Some(text(TEXT)),
        callback_data: format!("{TEXT} {NUMBER}"),
        ..Default::default()
    };
    let number = format!("+{NUMBER}");
    let mut statuses = Vec::new();
    let queued = v1::SendMessageRequest {
        request_id: "planted-1".to_owned(),
        delivery_mode: v1::DeliveryMode::Queued.into(),
        ..message(&number)
    };
    let raw = v1::SendMessageRequest {
        content: Some(v1::send_message_request::Content::Raw(crate::support::rpc::structure(
            &json!({"type": "text", "text": {"body": TEXT, "surprise": NUMBER}}),
        ))),
        ..message(&number)
    };
    // +15550000001 and its neighbours are refused by the simulator, each in its own way.
    let refused = (1..=12).map(|index| message(&format!("+155500000{index:02}")));
    let requests = [message(&number), message(&format!("{NUMBER} {TEXT}")), queued, raw];
    for request in requests.into_iter().chain(refused) {
        statuses.extend(client.send_message(by(request)).await.err());
    }
    // Wrong ids, and right ones that nobody knows.
    for id in [format!("{TEXT} {NUMBER}"), format!("+{NUMBER}"), format!("id-{NUMBER}")] {
        let message = v1::SendMessageRequest { phone_number_id: id.clone(), ..message(&number) };
        statuses.extend(client.send_message(by(message)).await.err());
        let action = v1::manage_template_request::Action::List(v1::ListTemplatesAction::default());
        let list =
            v1::ManageTemplateRequest { waba_id: id.clone(), action: Some(action), ..Default::default() };
        statuses.extend(client.manage_template(by(list)).await.err());
        let filter =
            v1::EventFilter { phone_number_ids: vec![id.clone()], waba_ids: vec![id], ..Default::default() };
        let events = v1::SubscribeEventsRequest { filter: Some(filter), ..Default::default() };
        statuses.extend(client.subscribe_events(by(events)).await.err());
    }
    for key in [Key::MessageId(message_id()), Key::RequestId(format!("{TEXT} {NUMBER}"))] {
        let phone_number_id = webhook::PHONE_NUMBER_ID.to_owned();
        let asked = v1::GetMessageRequest { phone_number_id, key: Some(key) };
        statuses.push(client.get_message(by(asked)).await.unwrap_err());
    }
    let request = v1::GetConversationRequest {
        phone_number_id: webhook::PHONE_NUMBER_ID.to_owned(),
        ..Default::default()
    };
    statuses.extend(client.get_conversation(by(request)).await.err());
    let read = v1::MarkMessageReadRequest {
        phone_number_id: webhook::PHONE_NUMBER_ID.to_owned(),
        message_id: message_id(),
        ..Default::default()
    };
    statuses.extend(client.mark_message_read(by(read)).await.err());
    statuses
}

/// Everything that can come to the webhook port.
async fn post_everything(gateway: &Gateway) {
    let right = webhook::text(&message_id(), NUMBER, TEXT).to_string();
    let status = json!({"object": "whatsapp_business_account", "entry": [{"id": webhook::WABA_ID, "changes": [
        {"field": "messages", "value": {"messaging_product": "whatsapp",
            "metadata": {"display_phone_number": "15550783881", "phone_number_id": webhook::PHONE_NUMBER_ID},
            "contacts": [{"profile": {"name": TEXT}, "wa_id": NUMBER}],
            "statuses": [{"id": message_id(), "status": "failed", "timestamp": "1749416383", "recipient_id": NUMBER,
                "errors": [{"code": 131_047, "title": TEXT, "message": NUMBER, "error_data": {"details": TEXT}}]}]}},
        {"field": "planted_field", "value": {"text": TEXT, "number": NUMBER}},
        {"field": "messages", "value": {"messages": TEXT}}]}]});
    for body in [right.clone(), status.to_string(), format!("{{\"{TEXT}\": {NUMBER}"), format!("[{NUMBER}]")]
    {
        let signature = webhook::signature(body.as_bytes());
        gateway.post_webhook_signed(body.clone().into_bytes(), Some(&signature)).await;
        for wrong in [format!("sha256={}", "0".repeat(64)), format!("sha256={TEXT}"), TEXT.to_owned()] {
            assert_ne!(gateway.post_webhook_signed(body.clone().into_bytes(), Some(&wrong)).await, 200);
        }
        assert_ne!(gateway.post_webhook_signed(body.into_bytes(), None).await, 200);
    }
    let base = gateway.webhook_url();
    let elsewhere = base.rsplit_once('/').unwrap().0;
    let challenge =
        |token: &str| format!("{base}?hub.mode=subscribe&hub.verify_token={token}&hub.challenge=1");
    for url in [
        challenge("dev-verify-token"),
        challenge(WRONG_TOKEN),
        format!("{base}?{TEXT}={NUMBER}"),
        format!("{elsewhere}/{TEXT}?token={TOKEN}"),
    ] {
        gateway.http.get(url).header("x-planted", HEADER).send().await.unwrap();
    }
}

/// A gateway with everything that holds a secret.
struct World {
    serve: Serve,
    folder: TempDir,
    collector: Collector,
    channel: Channel,
    jwt: String,
    marks: Vec<String>,
    _keys: KeyServer,
    _authority: Authority,
}

async fn start(format: &str) -> World {
    let (authority, signer) = (Authority::new(), Signer::new("one", Algorithm::ES256));
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        format!("{:?}", path.display().to_string())
    };
    let keys = KeyServer::start(KEY_SERVER_TOKEN, jwks(&[&signer])).await;
    let token_file = write("key-server-token", KEY_SERVER_TOKEN);
    let key_file = write("jwks.json", &jwks(&[&signer]));
    let by_jwt = format!(
        "[[callers]]\nname = \"workload\"\njwt_subjects = [\"planted-subject\"]\njwt_issuer = {CLUSTER:?}\n{ALL_RIGHTS}"
    );
    let callers_file = write("callers.toml", &(caller("orders", TOKEN, ALL_RIGHTS) + &by_jwt));
    let more = format!(
        "[[jwt_issuers]]\nissuer = {CLUSTER:?}\naudiences = [{AUDIENCE:?}]\njwks_url = {:?}\n\
         jwks_token_file = {token_file}\n[[jwt_issuers]]\nissuer = \"https://other.example\"\n\
         audiences = [{AUDIENCE:?}]\njwks_file = {key_file}\n",
        keys.url
    );
    let server = authority.issue_server("server");
    let copied = folder.path().join("server.key");
    std::fs::copy(&server.key, &copied).unwrap();
    let server = crate::support::certificates::Issued { key: copied, ..server };
    let tls_key = std::fs::read_to_string(&server.key).unwrap();
    let lines = format!("callers_file = {callers_file}\n{}", section(&server, Some(&authority.cert()), ""));
    let collector = Collector::start("grpc").await;
    let [(endpoint, url), ..] = collector.environment();
    let headers = folder.path().join("otlp-headers");
    std::fs::write(&headers, format!("authorization: Bearer {COLLECTOR_TOKEN}\n")).unwrap();
    let serve = Serve::builder()
        .grpc_listen("0.0.0.0:0")
        .grpc(&lines)
        .more(&more)
        .env(endpoint, &url)
        .env("WHATSAPP_GATEWAY__TELEMETRY__OTLP_HEADERS_FILE", headers.to_str().unwrap())
        .env("WHATSAPP_GATEWAY__TELEMETRY__SAMPLING_RATIO", "1")
        .env("WHATSAPP_GATEWAY__TELEMETRY__LOG_LEVEL", "trace")
        .env("WHATSAPP_GATEWAY__TELEMETRY__LOG_FORMAT", format)
        .start()
        .await;
    let channel = Client::new(&authority, None).connect(&serve.gateway).await.unwrap();
    let claims = with(
        service_account("shop", "orders", SystemClock.now_ms() / 1000),
        &json!({"sub": "planted-subject", "jti": TEXT}),
    );
    let jwt = signer.sign(&claims);
    let marks = marks(&tls_key, &jwt);
    World { serve, folder, collector, channel, jwt, marks, _keys: keys, _authority: authority }
}

/// Files that cannot be used, with what must not be shown of them.
async fn spoil_files(world: &World) {
    let rejected = |gateway: &Gateway, key: &str| {
        let log = gateway.log();
        log.contains("cannot be used; the old ones stay in use") && log.contains(key)
    };
    let gateway = &world.serve.gateway;
    for (file, key) in
        [("jwks.json", "jwks_file"), ("callers.toml", "callers_file"), ("server.key", "key_file")]
    {
        std::fs::write(world.folder.path().join(file), format!("{RUBBISH} = {NUMBER} {TEXT}\n")).unwrap();
        eventually!(rejected(gateway, key));
    }
    let (first, second) = (world.serve.folder.path().join("app-secret"), format!("{RUBBISH} two words"));
    std::fs::write(first, second).unwrap();
    eventually!(rejected(gateway, "secret_files[0]"));
}

async fn nothing_is_shown(format: &str) {
    let mut world = start(format).await;
    let marks = world.marks.clone();
    let mut statuses = send(&world.channel).await;
    let sent = statuses.len();
    statuses.extend(call_everything(&world.channel, &world.jwt).await);
    let codes: std::collections::HashSet<_> = statuses.iter().map(Status::code).collect();
    for code in [Code::InvalidArgument, Code::Unauthenticated, Code::NotFound, Code::Unknown] {
        assert!(codes.contains(&code), "{codes:?}");
    }
    assert!(sent > 3 && statuses.len() > 150, "{sent} {}", statuses.len());
    post_everything(&world.serve.gateway).await;
    let config = world.serve.folder.path().join("config.toml");
    let printed = Command::new(env!("CARGO_BIN_EXE_whatsapp-gateway"))
        .args(["print-config", "--config", config.to_str().unwrap()])
        .output()
        .await
        .unwrap();
    let printed =
        format!("{}{}", String::from_utf8_lossy(&printed.stdout), String::from_utf8_lossy(&printed.stderr));
    assert!(printed.contains("jwks_token_file") && printed.contains("[[wabas]]"), "{printed}");
    let mut found = leaks("print-config", &printed, &marks);
    spoil_files(&world).await;
    let (_, metrics) = world.serve.gateway.admin("/metrics").await;
    assert!(metrics.contains("webhooks_total{outcome=\"accepted\"} ") && metrics.len() > 10_000);
    found.extend(leaks("metrics", &metrics, &marks));
    let spans = |world: &World| format!("{:#?}", world.collector.spans());
    assert_eq!(world.serve.gateway.terminate().await, Some(0));
    let traces = spans(&world);
    assert!(
        traces.contains("GatewayService/SendMessage") && traces.contains("POST /{phone_number_id}/messages"),
        "{}",
        traces.len()
    );
    found.extend(leaks("traces", &traces, &marks));
    let log = world.serve.gateway.log();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "the level is not in effect");
    found.extend(leaks("logs", &log, &marks));
    let texts: Vec<_> = statuses.iter().map(shown).collect();
    found.extend(texts.iter().flat_map(|text| leaks("an error text", text, &marks)));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[tokio::test]
async fn nothing_planted_is_shown_with_json_logs() {
    nothing_is_shown("json").await;
}

#[tokio::test]
async fn nothing_planted_is_shown_with_text_logs() {
    nothing_is_shown("text").await;
}

#[test]
fn debug_of_the_domain_shows_nothing() {
    use whatsapp_gateway::domain::value::Value as Tree;
    let words = || Tree::String(format!("{TEXT} {NUMBER}"));
    let message = OutboundMessage {
        phone_number_id: PhoneNumberId::parse(webhook::PHONE_NUMBER_ID).unwrap(),
        recipient: Recipient::PhoneNumber(PhoneNumber::parse(NUMBER).unwrap()),
        reply_to: Some(MessageId::parse(&message_id()).unwrap()),
        callback_data: TEXT.to_owned(),
        content: Content {
            kind: "text".to_owned(),
            body: Tree::Map(vec![
                ("body".to_owned(), words()),
                ("list".to_owned(), Tree::List(vec![words()])),
            ]),
            extra: vec![("more".to_owned(), words())],
            is_raw: false,
        },
        endpoint: Endpoint::Messages,
    };
    let group = Recipient::Group(GroupId::parse(&format!("group-{NUMBER}")).unwrap());
    let tree = Tree::Map(vec![("body".to_owned(), words())]);
    let shown = [format!("{message:?}"), format!("{message:#?}"), format!("{group:?}"), format!("{tree:?}")];
    let marks = marks("\nplanted-key-planted-key-planted-key", "planted-jwt");
    for shown in shown {
        assert_eq!(leaks("Debug", &shown, &marks), Vec::<String>::new());
    }
}
