//! What one replica tells another about a call, and how the other one believes it.
//!
//! Whoever shows the key of the prefix is a replica: it has found out who calls, and the leader takes its word. Who does not
//! show it gets no answer and loses the connection.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use serde::{Deserialize, Serialize};
use tonic::Status;

use crate::domain::caller::Caller;
use crate::domain::rights::Rights;
use crate::flows::who_leads::{PeerKey, WhoLeads};
use crate::listener::{ConnectionInfo, KillSwitch};
use crate::tenants::Tenants;

use super::callers::{Credential, Identity};
use super::status;

/// The key, in hexadecimal digits.
const KEY: HeaderName = HeaderName::from_static("x-whatsapp-gateway-peer");
/// Who calls, as [`Passed`] in JSON.
const CALLER: HeaderName = HeaderName::from_static("x-whatsapp-gateway-caller");
/// In an answer: this replica does not lead, and has not looked at the call.
const NOT_LEADING: HeaderName = HeaderName::from_static("x-whatsapp-gateway-not-leading");

/// Who calls, by the word of another replica.
#[derive(Debug, Serialize, Deserialize)]
struct Passed {
    caller: String,
    credential: Kind,
    /// Whether it is in the configuration; else it may do everything.
    is_configured: bool,
    token_id: Option<String>,
    /// When the token ends, in seconds since 1970.
    expires: Option<u64>,
    /// From where the caller calls.
    client: Option<IpAddr>,
    /// The replica.
    via: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Loopback,
    None,
    Certificate,
    Token,
    Jwt,
}

/// The key as a header.
pub(super) fn key_header(key: &PeerKey) -> HeaderValue {
    // Hexadecimal digits are a header value.
    let mut value =
        HeaderValue::from_str(&hex::encode(key.expose())).unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// Writes who calls into the headers of a call that goes to the leader; `None` if that cannot be written.
pub(super) fn pass(headers: &mut HeaderMap, key: HeaderValue, who: &Identity, via: &str) -> Option<()> {
    let (credential, token_id, expires) = match &who.credential {
        Credential::Loopback => (Kind::Loopback, None, None),
        Credential::None => (Kind::None, None, None),
        Credential::Certificate => (Kind::Certificate, None, None),
        Credential::Token { id, expires } => (Kind::Token, Some(id.clone()), *expires),
        Credential::Jwt { id, expires } => (Kind::Jwt, Some(id.clone()), Some(*expires)),
    };
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let passed = Passed {
        caller: who.caller.name().to_owned(),
        credential,
        is_configured: !Arc::ptr_eq(&who.rights, &Rights::everything()),
        token_id,
        expires: expires.map(seconds),
        client: who.peer,
        via: via.to_owned(),
    };
    let passed = serde_json::to_vec(&passed).ok()?;
    headers.insert(CALLER, HeaderValue::from_bytes(&passed).ok()?);
    headers.insert(KEY, key);
    Some(())
}

/// Marks an answer as that of a replica that does not lead and has done nothing.
pub(super) fn not_leading<B>(mut answer: Response<B>) -> Response<B> {
    answer.headers_mut().insert(NOT_LEADING, HeaderValue::from_static("1"));
    answer
}

/// Whether an answer is so marked.
pub(super) fn is_not_leading(headers: &HeaderMap) -> bool {
    headers.contains_key(NOT_LEADING)
}

/// The door of the peer port.
#[derive(Debug, Clone)]
pub(super) struct Peers {
    pub(super) who_leads: WhoLeads,
    pub(super) tenants: Tenants,
}

/// The caller of a relayed call; and the refusal, if it is not known here.
type Known = (Identity, Option<Status>);

impl Peers {
    /// The caller that a replica names. `None` if no replica asks; its connection is then cut.
    pub(super) fn identify<B>(&self, request: &mut Request<B>) -> Option<Known> {
        let passed = self.passed(request.headers_mut());
        let connection = request.extensions_mut().get_mut::<ConnectionInfo>();
        let Some(passed) = passed else {
            if let Some(connection) = connection {
                connection.kill.kill();
            }
            return None;
        };
        if let Some(connection) = connection {
            // Many callers share it: who does not read one stream must not cut the others.
            connection.kill = KillSwitch::default();
        }
        Some(self.known(passed))
    }

    /// Takes what a replica has written out of the headers, if it shows the key.
    fn passed(&self, headers: &mut HeaderMap) -> Option<Passed> {
        let (key, passed) = (headers.remove(KEY)?, headers.remove(CALLER)?);
        let shown = hex::decode(key.as_bytes()).ok()?;
        self.who_leads.peer_key().is_shown_by(&shown).then_some(())?;
        serde_json::from_slice(passed.as_bytes()).ok()
    }

    fn known(&self, passed: Passed) -> Known {
        let Passed { caller, credential, is_configured, token_id, expires, client, via } = passed;
        let expires = expires.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
        let id = token_id.unwrap_or_default();
        let credential = match credential {
            Kind::Loopback => Credential::Loopback,
            Kind::None => Credential::None,
            Kind::Certificate => Credential::Certificate,
            Kind::Token => Credential::Token { id, expires },
            Kind::Jwt => Credential::Jwt { id, expires: expires.unwrap_or(UNIX_EPOCH) },
        };
        let snapshot = self.tenants.load();
        let configured = snapshot.caller(&caller).map(|configured| Arc::clone(&configured.rights));
        let refusal = (is_configured && configured.is_none()).then(|| status::relay::caller_differs(&caller));
        let rights = configured.unwrap_or_else(|| {
            if is_configured { Arc::new(Rights::default()) } else { Rights::everything() }
        });
        let who = Identity::new(Caller::named(&caller), credential, rights).at(client).by(via);
        (who, refusal)
    }
}
