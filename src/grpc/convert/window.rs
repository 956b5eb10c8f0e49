//! What a request says for the case that the customer service window is closed.

use prost::Message as _;

use super::{Violations, content, template};
use crate::contract;
use crate::contract::v1::send_message_request::Content as Pb;
use crate::contract::v1::{self, recipient::Address};
use crate::domain::message::{Content, Endpoint, OutboundMessage};
use crate::domain::window::WindowPolicy;

/// Fields that a template has beside itself where it stands in for other content.
const IDENTITY_CHECK: &str = "recipient_identity_key_hash";

/// Bytes of a template that may have to be kept until its message has a status.
const FALLBACK_BYTES_MAX: usize = 64 * 1024;

/// Reads a policy. A number that is none is among the violations already.
pub(in crate::grpc) fn window_policy(policy: i32) -> WindowPolicy {
    match v1::WindowPolicy::try_from(policy) {
        Ok(v1::WindowPolicy::Ignore) => WindowPolicy::Ignore,
        Ok(v1::WindowPolicy::Unspecified | v1::WindowPolicy::Enforce) | Err(_) => WindowPolicy::Enforce,
    }
}

/// Checks the template, and that it can ever be needed.
pub(super) fn check(request: &v1::SendMessageRequest, found: &mut Violations) {
    let Some(fallback) = &request.fallback_template else { return };
    template::check("fallback_template", fallback, found);
    if fallback.encoded_len() > FALLBACK_BYTES_MAX {
        found.add("fallback_template", "must not be larger than 64 KiB");
    }
    let is_group = request.recipient.as_ref().is_some_and(|r| matches!(r.address, Some(Address::GroupId(_))));
    if matches!(request.content, Some(Pb::Template(_))) || content::is_direct_send(request) || is_group {
        found.add(
            "fallback_template",
            "must be absent: templates, Direct Send and groups need no customer service window",
        );
    }
}

/// The template as content.
pub(super) fn fallback(request: &v1::SendMessageRequest) -> Option<Content> {
    let content = request.fallback_template.clone().map(Pb::Template);
    let alone = v1::SendMessageRequest { content: Some(content?), ..Default::default() };
    let (kind, body) = contract::content_of(&alone.encode_to_vec())?;
    let extra = super::beside(request).into_iter().filter(|(name, _)| name == IDENTITY_CHECK).collect();
    Some(Content { kind, body, extra, is_raw: false })
}

/// The template as a message to the same recipient, about the same matter. It quotes nothing: a template shows no quote
/// (reference 3.0).
pub(in crate::grpc) fn instead_of(message: &OutboundMessage, content: Content) -> OutboundMessage {
    OutboundMessage { content, reply_to: None, endpoint: Endpoint::Messages, ..message.clone() }
}
