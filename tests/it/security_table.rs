//! `docs/security.md` has the decision about every method for every kind of caller. The table is what a gateway really
//! decides; `UPDATE_DOCS=1 cargo test --test it security_table` writes it.

use std::path::Path;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream;
use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorSet};
use tonic::{Code, Status};
use whatsapp_gateway::contract::DESCRIPTORS;
use whatsapp_gateway::domain::rights::METHODS;

use crate::gate::call_raw;
use crate::support::serve::{ALL_RIGHTS, SECOND_NUMBER, SECOND_WABA, caller, token_hash};
use crate::support::{Gateway, Refusal, Serve, webhook};
use crate::types_table::with_section;

/// A number and a WABA that no gateway has.
const NOWHERE: (&str, &str) = ("999999999999", "888888888888");
const OWN: (&str, &str) = (webhook::PHONE_NUMBER_ID, webhook::WABA_ID);
const OTHER: (&str, &str) = (SECOND_NUMBER, SECOND_WABA);

/// What is presented, and the number and WABA that the request names.
#[derive(Clone, Copy)]
struct Kind {
    title: &'static str,
    token: Option<&'static str>,
    asks_for: (&'static str, &'static str),
}

const KINDS: [Kind; 8] = [
    Kind { title: "none", token: None, asks_for: OWN },
    Kind { title: "unknown", token: Some("wrong-token"), asks_for: OWN },
    // Its last digit is wrong.
    Kind {
        title: "damaged",
        token: Some("wag_00000000_00000000000000000000000000000000_00000000"),
        asks_for: OWN,
    },
    Kind { title: "expired", token: Some("expired-token"), asks_for: OWN },
    Kind { title: "not yet valid", token: Some("early-token"), asks_for: OWN },
    Kind { title: "without this method", token: Some("all-but"), asks_for: OWN },
    Kind { title: "for a number or WABA that is not its own", token: Some("one-number"), asks_for: OTHER },
    Kind { title: "with the right", token: Some("one-number"), asks_for: OWN },
];

fn messages() -> Vec<DescriptorProto> {
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
    files
        .into_iter()
        .filter(|file| file.package() == "whatsapp.gateway.v1")
        .flat_map(|f| f.message_type)
        .collect()
}

/// Every method of the service, an action with its name behind it, and the name of its request.
fn methods() -> Vec<(String, String)> {
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
    let ours = files.into_iter().filter(|file| file.package() == "whatsapp.gateway.v1");
    let methods = ours.flat_map(|file| file.service).flat_map(|service| service.method);
    let named = |method: prost_types::MethodDescriptorProto| {
        let input = method.input_type().rsplit('.').next().unwrap().to_owned();
        if method.name() != "ManageTemplate" {
            return vec![(method.name().to_owned(), input)];
        }
        let request = messages().into_iter().find(|message| message.name() == input).unwrap();
        let actions = request.field.into_iter().filter(|field| field.oneof_index.is_some());
        actions.map(|field| (format!("ManageTemplate/{}", field.name()), input.clone())).collect()
    };
    methods.flat_map(named).collect()
}

/// A request that names this number or WABA wherever it can, and says nothing else: who may not call learns nothing of it,
/// and who may is told what is missing, or served.
fn request(messages: &[DescriptorProto], message: &str, method: &str, asks_for: (&str, &str)) -> Vec<u8> {
    let descriptor = messages.iter().find(|m| m.name() == message).unwrap();
    let mut bytes = Vec::new();
    for field in &descriptor.field {
        let value = match field.name() {
            "phone_number_id" | "phone_number_ids" => asks_for.0.as_bytes().to_vec(),
            "waba_id" => asks_for.1.as_bytes().to_vec(),
            "header" | "filter" => {
                request(messages, field.type_name().rsplit('.').next().unwrap(), method, asks_for)
            }
            name if method.ends_with(&format!("/{name}")) => Vec::new(),
            _ => continue,
        };
        prost::encoding::encode_varint(u64::try_from(field.number() << 3 | 2).unwrap(), &mut bytes);
        prost::encoding::encode_varint(value.len() as u64, &mut bytes);
        bytes.extend(value);
    }
    bytes
}

async fn decision(gateway: &Gateway, method: &str, token: Option<&str>, body: Vec<u8>) -> Option<Status> {
    let path = format!("/whatsapp.gateway.v1.GatewayService/{}", method.split('/').next().unwrap());
    let mut framed = vec![0];
    framed.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
    framed.extend(body);
    let response = call_raw(gateway, &path, token, stream::iter([Bytes::from(framed)])).await;
    Status::from_header_map(response.headers()).filter(|status| status.code() != Code::Ok)
}

/// A word for the table. Whatever a request is refused for once it was let in is not about the caller.
fn cell(status: Option<&Status>) -> String {
    let Some(status) = status else { return "yes".to_owned() };
    let refusal = Refusal::of(status);
    let why = |key: &str| refusal.metadata.get(key).cloned().unwrap_or_default();
    match refusal.is() {
        (Code::Unauthenticated, "CALLER_UNAUTHENTICATED") => format!("UNAUTHENTICATED, {}", why("cause")),
        (Code::PermissionDenied, "CALLER_NOT_ALLOWED") => format!("PERMISSION_DENIED, {}", why("right")),
        (Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented, _) => panic!("{status:?}"),
        _ => "yes".to_owned(),
    }
}

/// A caller for each method, who may do all but that.
fn all_but(method: &str) -> String {
    let others = METHODS.iter().map(|(name, _)| *name).filter(|name| *name != method);
    let rights = ALL_RIGHTS.replacen("[\"*\"]", &format!("{:?}", others.collect::<Vec<_>>()), 1);
    let token = format!("all-but-{method}");
    caller(&token.replace('/', "."), &token, &rights)
}

fn configured() -> String {
    let bounded = |name: &str, token: &str, bound: &str| {
        let hash = token_hash(token);
        format!("[[callers]]\nname = {name:?}\ntoken_sha256 = [\"{hash} {bound}\"]\n{ALL_RIGHTS}")
    };
    let own = format!(
        "methods = [\"*\"]\nphone_numbers = [{:?}]\nwabas = [{:?}]\nevent_types = [\"whatsapp.*\"]\n",
        OWN.0, OWN.1
    );
    let mut callers = vec![
        bounded("late", "expired-token", "expires=2020-01-31T12:00:00Z"),
        bounded("early", "early-token", "not_before=2120-01-31T12:00:00Z"),
        caller("one-number", "one-number", &own),
    ];
    callers.extend(METHODS.iter().map(|(name, _)| all_but(name)));
    callers.concat()
}

#[tokio::test]
async fn the_table_is_what_the_gateway_decides() {
    let open = Serve::builder().open_address().more(&configured()).start().await;
    let loopback = Serve::start().await;
    let (messages, methods) = (&messages(), &methods());
    assert!(methods.len() > 20, "{methods:?}");
    let rows = join_all(methods.iter().map(|(method, input)| {
        let (open, loopback) = (&open.gateway, &loopback.gateway);
        async move {
            let cells = join_all(KINDS.iter().map(|kind| async move {
                let token = kind.token.map(|token| match token {
                    "all-but" => format!("all-but-{method}"),
                    token => token.to_owned(),
                });
                let body = request(messages, input, method, kind.asks_for);
                let status = decision(open, method, token.as_deref(), body).await;
                if kind.asks_for == OTHER {
                    assert_same_as_nowhere(open, method, input, status.as_ref()).await;
                }
                cell(status.as_ref())
            }));
            let local = decision(loopback, method, None, request(messages, input, method, OWN));
            let (mut cells, local) = tokio::join!(cells, local);
            cells.push(cell(local.as_ref()));
            format!("| `{method}` | {} |\n", cells.join(" | "))
        }
    }))
    .await;
    let titles: Vec<_> = KINDS.iter().map(|kind| kind.title).chain(["none, on loopback"]).collect();
    let rule = "|---".repeat(titles.len() + 1);
    let table = format!("\n| method | {} |\n{rule}|\n{}\n", titles.join(" | "), rows.concat());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/security.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let expected = with_section(&text, "decisions", &table);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, expected).unwrap();
        return;
    }
    assert!(
        text == expected,
        "docs/security.md is old, or a decision is wrong; the gateway decides:\n{table}"
    );
}

/// A number that exists and one that does not are refused in the same words.
async fn assert_same_as_nowhere(gateway: &Gateway, method: &str, input: &str, other: Option<&Status>) {
    let body = request(&messages(), input, method, NOWHERE);
    let nowhere = decision(gateway, method, Some("one-number"), body).await;
    let words = |status: Option<&Status>, ids: (&str, &str)| {
        status.map(|s| (s.code(), s.message().replace(ids.0, "ID").replace(ids.1, "ID")))
    };
    assert_eq!(words(other, OTHER), words(nowhere.as_ref(), NOWHERE), "{method}");
}
