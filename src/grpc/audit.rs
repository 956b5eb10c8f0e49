//! The audit log: one line for each call, of the target `audit`, written when it is answered; a stream, when it is opened, and
//! each message on a stream of sends.
//!
//! It says who called, by what, from where, which method and action, for which number or WABA, what was decided and how it
//! ended. Never content. A recipient and a message id, which has the recipient's number in it, appear as hashes under a
//! key that each process draws anew: equal ones can be found in the log of one process, and none can be guessed from it.

use std::net::IpAddr;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use metrics::counter;
use sha2::Sha256;
use tonic::{Code, Status};
use tracing::info;

use crate::domain::ids::{BusinessScopedUserId, MessageId};
use crate::domain::message::Recipient;
use crate::telemetry::{SpanIds, names};
use crate::tenants::bearer;

use super::callers::{self, Credential, Identity};
use super::{measure, status};

/// What a handler finds out about its call.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// The method with its action, where the path does not say it.
    pub(super) method: Option<&'static str>,
    pub(super) phone_number_id: Option<String>,
    pub(super) waba_id: Option<String>,
    /// Hashes of [`Key`].
    pub(super) recipient: Option<String>,
    pub(super) message: Option<String>,
    /// Whether the leader has the call, in another replica: it writes the line.
    pub(super) is_with_leader: bool,
    /// Of a call that is exported.
    pub(super) trace: Option<SpanIds>,
}

/// The key of the hashes. Where the kernel has no random numbers there is none, and no hashes.
#[derive(Clone)]
pub(super) struct Key(Option<Hmac<Sha256>>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    pub(super) fn draw() -> Self {
        let key: Option<[u8; 32]> = bearer::random().ok();
        Self(key.and_then(|key| Hmac::new_from_slice(&key).ok()))
    }

    pub(super) fn recipient(&self, recipient: &Recipient) -> Option<String> {
        match recipient {
            Recipient::PhoneNumber(number) => self.hash("phone", number.digits()),
            Recipient::User(user) => self.hash("user", BusinessScopedUserId::expose(user)),
            Recipient::Group(group) => self.hash("group", group.as_str()),
        }
    }

    pub(super) fn message(&self, id: &MessageId) -> Option<String> {
        self.hash("message", id.as_str())
    }

    fn hash(&self, kind: &str, text: &str) -> Option<String> {
        // What the key does to the hash is done already.
        let mut mac = self.0.clone()?;
        mac.update(kind.as_bytes());
        mac.update(&[0]);
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().get(..8).map(hex::encode)
    }
}

/// The line of a call that was let in. A caller who hangs up is logged too.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) who: Arc<Identity>,
    pub(super) method: &'static str,
    code: Code,
    /// The list of rights that refused it.
    right: Option<String>,
}

impl Line {
    /// The line of what has not been answered yet.
    pub(super) fn new(who: Arc<Identity>, method: &'static str) -> Self {
        Self { who, method, code: Code::Cancelled, right: None }
    }

    /// Notes how it was answered: with this status, or as it should be.
    pub(super) fn answered(&mut self, refusal: Option<&Status>) {
        self.code = refusal.map_or(Code::Ok, Status::code);
        self.right = refusal.filter(|_| self.is_denied()).and_then(status::right);
    }

    fn is_denied(&self) -> bool {
        self.code == Code::PermissionDenied
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let Facts { method, phone_number_id, waba_id, recipient, message, is_with_leader, trace } =
            self.who.facts();
        if is_with_leader {
            return;
        }
        let decision = if self.is_denied() { "denied" } else { "allowed" };
        counter!(names::AUTH_DECISIONS, names::OUTCOME => decision).increment(1);
        let (credential, token_id) = match &self.who.credential {
            Credential::Loopback => ("loopback", None),
            Credential::None => ("none", None),
            Credential::Certificate => ("certificate", None),
            Credential::Token { id, .. } => ("token", Some(id.as_str())),
            Credential::Jwt { id, .. } => ("jwt", Some(id.as_str())),
        };
        info!(
            target: "audit",
            caller = self.who.caller.name(),
            credential,
            token_id,
            peer = self.who.peer.map(tracing::field::display),
            via = self.who.via,
            method = measure::short(method.unwrap_or(self.method)),
            phone_number_id,
            waba_id,
            recipient,
            message,
            decision,
            right = self.right,
            code = measure::word(self.code),
            trace_id = trace.map(|ids| tracing::field::display(ids.trace_id)),
            "call"
        );
    }
}

/// The line of a call by nobody who is known.
pub(super) fn stranger(method: &'static str, peer: Option<IpAddr>, error: &callers::Error) {
    let (cause, (caller, token_id)) = (error.cause(), error.whose());
    counter!(names::AUTH_DECISIONS, names::OUTCOME => cause).increment(1);
    info!(
        target: "audit",
        caller,
        token_id,
        peer = peer.map(tracing::field::display),
        method = measure::short(method),
        decision = "unauthenticated",
        cause,
        text = %error,
        code = measure::word(Code::Unauthenticated),
        "call"
    );
}
