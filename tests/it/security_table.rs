//! `docs/security.md` has the decision about every method for every kind of caller and credential. The tables are what a
//! gateway really decides; `UPDATE_DOCS=1 cargo test --test it security_table` writes it.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorSet};
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::transport::Channel;
use tonic::{Code, Status};
use whatsapp_gateway::clock::{Clock, SystemClock};
use whatsapp_gateway::contract::DESCRIPTORS;
use whatsapp_gateway::domain::rights::METHODS;

use crate::gate::call_on;
use crate::support::certificates::{Authority, Issued};
use crate::support::jwt::{AUDIENCE, CLUSTER, Signer, jwks, service_account, with};
use crate::support::serve::{ALL_RIGHTS, SECOND_NUMBER, SECOND_WABA, caller, token_hash};
use crate::support::{Refusal, Serve, webhook};
use crate::tls::{Client, section};
use crate::types_table::with_section;

/// A number and a WABA that no gateway has.
const NOWHERE: (&str, &str) = ("999999999999", "888888888888");
const OWN: (&str, &str) = (webhook::PHONE_NUMBER_ID, webhook::WABA_ID);
const OTHER: (&str, &str) = (SECOND_NUMBER, SECOND_WABA);
/// A caller with the right to one number and WABA.
const ONE: &str = "one-number";

/// What is presented: a connection, perhaps with a certificate, and a token. There is no connection where the handshake was
/// refused.
#[derive(Clone)]
struct Presented {
    channel: Option<Channel>,
    token: Option<String>,
}

pub(crate) fn messages() -> Vec<DescriptorProto> {
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
    files
        .into_iter()
        .filter(|file| file.package() == "whatsapp.gateway.v1")
        .flat_map(|f| f.message_type)
        .collect()
}

/// Every method of the service, an action with its name behind it, and the name of its request.
pub(crate) fn methods() -> Vec<(String, String)> {
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

/// The path of a method, or of one of its actions.
pub(crate) fn path(method: &str) -> String {
    let method = method.split('/').next().unwrap();
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
    let services = files.into_iter().filter(|file| file.package() == "whatsapp.gateway.v1");
    let service =
        services.flat_map(|file| file.service).find(|s| s.method.iter().any(|m| m.name() == method));
    format!("/whatsapp.gateway.v1.{}/{method}", service.unwrap().name())
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
            // One that nobody has: whether it is there must not decide.
            "name" if message.ends_with("Request") => b"none".to_vec(),
            "name" => b"table".to_vec(),
            "header" | "filter" | "subscription" if !field.type_name().is_empty() => {
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

/// The status that a method answers with; `None` if it lets the call in, `Err` if there is no connection.
async fn decision(presented: &Presented, method: &str, body: Vec<u8>) -> Result<Option<Status>, ()> {
    let path = path(method);
    let mut framed = vec![0];
    framed.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
    framed.extend(body);
    let channel = presented.channel.clone().ok_or(())?;
    let body = stream::iter([Bytes::from(framed)]);
    let response = call_on(channel, &path, presented.token.as_deref(), body).await.map_err(drop)?;
    Ok(Status::from_header_map(response.headers()).filter(|status| status.code() != Code::Ok))
}

/// A word for the table. Whatever a request is refused for once it was let in is not about the caller.
fn cell(decided: &Result<Option<Status>, ()>) -> String {
    let status = match decided {
        Err(()) => return "no connection".to_owned(),
        Ok(None) => return "yes".to_owned(),
        Ok(Some(status)) => status,
    };
    let refusal = Refusal::of(status);
    let why = |key: &str| refusal.metadata.get(key).cloned().unwrap_or_default();
    match refusal.is() {
        (Code::Unauthenticated, "CALLER_UNAUTHENTICATED") => format!("UNAUTHENTICATED, {}", why("cause")),
        (Code::PermissionDenied, "CALLER_NOT_ALLOWED") => format!("PERMISSION_DENIED, {}", why("right")),
        (Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented, _) => panic!("{status:?}"),
        _ => "yes".to_owned(),
    }
}

/// A caller that is known by a token, a certificate and a JWT.
fn known(name: &str, rights: &str) -> String {
    let otherwise = format!("identities = [{:?}]\njwt_subjects = [{name:?}]\n", identity(name));
    caller(name, name, &(otherwise + rights))
}

fn identity(name: &str) -> String {
    format!("spiffe://example.org/{name}")
}

/// The caller who may do all but this method.
fn all_but(method: &str) -> String {
    format!("all-but-{}", method.replace('/', "."))
}

fn configured() -> String {
    let bounded = |name: &str, bound: &str| {
        let hash = token_hash(name);
        format!("[[callers]]\nname = {name:?}\ntoken_sha256 = [\"{hash} {bound}\"]\n{ALL_RIGHTS}")
    };
    let own = format!(
        "methods = [\"*\"]\nphone_numbers = [{:?}]\nwabas = [{:?}]\nevent_types = [\"whatsapp.*\"]\n",
        OWN.0, OWN.1
    );
    let without = |method: &str| {
        let others = METHODS.iter().map(|(name, _)| *name).filter(|name| *name != method);
        ALL_RIGHTS.replacen("[\"*\"]", &format!("{:?}", others.collect::<Vec<_>>()), 1)
    };
    let mut callers = vec![
        bounded("late", "expires=2020-01-31T12:00:00Z"),
        bounded("early", "not_before=2120-01-31T12:00:00Z"),
        known(ONE, &own),
        known("other", ALL_RIGHTS),
    ];
    callers.extend(METHODS.iter().map(|(name, _)| known(&all_but(name), &without(name))));
    callers.concat()
}

/// A gateway with everything by which callers can be known, and all there is to present.
struct World {
    serve: Serve,
    _folder: TempDir,
    authority: Authority,
    signer: Signer,
    plain: Channel,
}

impl World {
    async fn start() -> Self {
        let (authority, signer) = (Authority::new(), Signer::new("one", Algorithm::ES256));
        let folder = TempDir::new().unwrap();
        let keys = folder.path().join("jwks.json");
        std::fs::write(&keys, jwks(&[&signer])).unwrap();
        let issuer = format!(
            "[[jwt_issuers]]\nissuer = {CLUSTER:?}\naudiences = [{AUDIENCE:?}]\njwks_file = {:?}\n",
            keys.display().to_string()
        );
        let section = section(&authority.issue_server("server"), Some(&authority.cert()), "");
        let serve = Serve::builder().grpc_listen("0.0.0.0:0").grpc(&section);
        let serve = serve.more(&(issuer + &configured())).start().await;
        let plain = Client::new(&authority, None).connect(&serve.gateway).await.unwrap();
        Self { serve, _folder: folder, authority, signer, plain }
    }

    fn claims(subject: &str) -> Value {
        let now = SystemClock.now_ms() / 1000;
        with(service_account("shop", "orders", now), &json!({"sub": subject}))
    }

    fn by_token(&self, token: &str) -> Presented {
        Presented { channel: Some(self.plain.clone()), token: Some(token.to_owned()) }
    }

    fn by_jwt(&self, changes: &Value) -> Presented {
        self.by_token(&self.signer.sign(&with(Self::claims(ONE), changes)))
    }

    async fn by_certificate(&self, certificate: &Issued) -> Presented {
        let client = Client::new(&self.authority, Some(certificate));
        Presented { channel: client.connect(&self.serve.gateway).await.ok(), token: None }
    }

    fn issued(&self, names: &[&str]) -> Issued {
        let all: Vec<_> = names.iter().map(|name| format!("URI:{}", identity(name))).collect();
        self.authority.issue(&names.concat(), &all.join(","))
    }

    /// A caller by everything by which it is known.
    async fn known(&self, name: &str) -> [Presented; 3] {
        let by_certificate = self.by_certificate(&self.issued(&[name])).await;
        [self.by_token(name), self.by_jwt(&json!({"sub": name})), by_certificate]
    }

    /// Everything that is nobody's credential.
    async fn strangers(&self) -> Vec<(&'static str, Presented)> {
        let now = SystemClock.now_ms() / 1000;
        let nothing = Presented { token: None, ..self.by_token("") };
        let stranger = Signer::new(self.signer.kid, Algorithm::ES256);
        let unknown = Signer::new("two", Algorithm::ES256);
        let (header, payload) = (r#"{"alg":"none","typ":"JWT"}"#, Self::claims(ONE).to_string());
        let unsigned = [header, &payload].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".") + ".";
        let secret = EncodingKey::from_secret(self.signer.jwk()["x"].as_str().unwrap().as_bytes());
        let secret =
            jsonwebtoken::encode(&Header::new(Algorithm::HS256), &Self::claims(ONE), &secret).unwrap();
        let names = format!("URI:{}", identity(ONE));
        let of = |certificate: Issued| async move { self.by_certificate(&certificate).await };
        let own = || self.issued(&[ONE]);
        let others_token = Presented { token: Some("other".to_owned()), ..of(own()).await };
        let others_jwt = Presented { token: self.by_jwt(&json!({"sub": "other"})).token, ..of(own()).await };
        let damaged = "wag_00000000_00000000000000000000000000000000_00000000";
        vec![
            ("nothing", nothing),
            ("a token that nobody has", self.by_token("wrong-token")),
            ("a damaged token", self.by_token(damaged)),
            ("an expired token", self.by_token("late")),
            ("a token that is not yet valid", self.by_token("early")),
            ("a JWT of a subject that is no caller", self.by_jwt(&json!({"sub": "nobody"}))),
            ("an expired JWT", self.by_jwt(&json!({"exp": now - 3600}))),
            ("a JWT that is not yet valid", self.by_jwt(&json!({"nbf": now + 3600}))),
            ("a JWT of another issuer", self.by_jwt(&json!({"iss": "https://elsewhere.example"}))),
            ("a JWT for another audience", self.by_jwt(&json!({"aud": ["elsewhere"]}))),
            ("a JWT without an end", self.by_jwt(&json!({"exp": null}))),
            ("a wrongly signed JWT", self.by_token(&stranger.sign(&Self::claims(ONE)))),
            ("a JWT by an unknown key", self.by_token(&unknown.sign(&Self::claims(ONE)))),
            ("a JWT without a signature", self.by_token(&unsigned)),
            ("a JWT signed with a secret", self.by_token(&secret)),
            ("a certificate that nobody has", of(self.issued(&["nobody"])).await),
            ("a certificate of two callers", of(self.issued(&[ONE, "other"])).await),
            ("an expired certificate", of(self.authority.issue_expired("expired", &names)).await),
            ("a certificate that is not yet valid", of(self.authority.issue_early("soon", &names)).await),
            ("a certificate of another authority", of(Authority::new().issue("foreign", &names)).await),
            ("a certificate, and a token of another caller", others_token),
            ("a certificate, and a JWT of another caller", others_jwt),
        ]
    }
}

/// What each method decides; the same one.
async fn of_all(presented: &Presented) -> String {
    let (messages, methods) = (&messages(), methods());
    let cells = join_all(methods.iter().map(|(method, input)| async move {
        cell(&decision(presented, method, request(messages, input, method, OWN)).await)
    }));
    let cells = cells.await;
    assert!(cells.len() > 20 && cells.iter().all(|cell| *cell == cells[0]), "{cells:?}");
    cells[0].clone()
}

/// What a method decides about a caller, the same by whatever it is known.
async fn of_known(presented: &[Presented], (method, input): (&str, &str), asks_for: (&str, &str)) -> String {
    let body = request(&messages(), input, method, asks_for);
    let decided = join_all(presented.iter().map(|presented| decision(presented, method, body.clone()))).await;
    if asks_for == OTHER {
        for (presented, other) in presented.iter().zip(&decided) {
            assert_same_as_nowhere(presented, (method, input), other.as_ref().unwrap().as_ref()).await;
        }
    }
    let cells: Vec<_> = decided.iter().map(cell).collect();
    assert!(cells.iter().all(|cell| *cell == cells[0]), "{method}: {cells:?}");
    cells[0].clone()
}

fn table<const N: usize>(titles: [&str; N], rows: &[String]) -> String {
    format!("\n| {} |\n{}|\n{}\n", titles.join(" | "), "|---".repeat(N), rows.concat())
}

#[tokio::test]
async fn the_tables_are_what_the_gateway_decides() {
    let world = &World::start().await;
    let strangers = world.strangers().await;
    // A few at a time, so that each call has its answer in time.
    let refused = stream::iter(&strangers).map(|(title, presented)| async move {
        let cell = of_all(presented).await;
        assert_ne!(cell, "yes", "{title}");
        format!("| {title} | {cell} |\n")
    });
    let refused: Vec<_> = refused.buffered(4).collect().await;
    let credentials = table(["presented", "every method"], &refused);

    let (loopback, open) = (Serve::start().await, Serve::builder().open_address().start().await);
    let nobody = async |serve: &Serve| {
        [Presented { channel: Some(serve.gateway.endpoint().connect().await.unwrap()), token: None }]
    };
    let (local, anonymous) = (&nobody(&loopback).await, &nobody(&open).await);
    let one = &world.known(ONE).await;
    // Making certificates takes the thread for long; no call waits meanwhile.
    let mut others = Vec::new();
    for (method, _) in methods() {
        others.push(world.known(&all_but(&method)).await);
    }
    let rows = join_all(methods().into_iter().zip(&others).map(|((method, input), all_but)| async move {
        let row = (method.as_str(), input.as_str());
        let cells = tokio::join!(
            of_known(all_but, row, OWN),
            of_known(one, row, OTHER),
            of_known(one, row, OWN),
            of_known(local, row, OWN),
            of_known(anonymous, row, OWN),
        );
        format!("| `{method}` | {} | {} | {} | {} | {} |\n", cells.0, cells.1, cells.2, cells.3, cells.4)
    }));
    let titles = [
        "method",
        "without this method",
        "for a number or WABA that is not its own",
        "with the right",
        "nothing, on loopback",
        "nothing, `grpc.insecure` without callers",
    ];
    let decisions = table(titles, &rows.await);

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/security.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let expected = with_section(&text, "credentials", &credentials);
    let expected = with_section(&expected, "decisions", &decisions);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, expected).unwrap();
        return;
    }
    assert!(
        text == expected,
        "docs/security.md is old, or a decision is wrong; the gateway decides:\n{credentials}{decisions}"
    );
}

/// A number that exists and one that does not are refused in the same words.
async fn assert_same_as_nowhere(
    presented: &Presented,
    (method, input): (&str, &str),
    other: Option<&Status>,
) {
    let body = request(&messages(), input, method, NOWHERE);
    let nowhere = decision(presented, method, body).await.unwrap();
    let words = |status: Option<&Status>, ids: (&str, &str)| {
        status.map(|s| (s.code(), s.message().replace(ids.0, "ID").replace(ids.1, "ID")))
    };
    assert_eq!(words(other, OTHER), words(nowhere.as_ref(), NOWHERE), "{method}");
}
