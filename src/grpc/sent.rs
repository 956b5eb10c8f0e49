//! What became of a send, as its response says it.

use crate::contract::v1;
use crate::domain::ids::PhoneNumberId;
use crate::domain::message::{MessageAcceptance, SendTag};
use crate::flows::send_message::Sent;

use super::convert;

/// It waits in the queue.
pub(super) fn queued_to_pb(
    tag: &SendTag,
    phone_number_id: &PhoneNumberId,
    is_replayed: bool,
    request_json: String,
) -> v1::SendMessageResponse {
    v1::SendMessageResponse {
        state: v1::SendState::Queued.into(),
        send_tag: tag.as_str().to_owned(),
        phone_number_id: phone_number_id.to_string(),
        request_json,
        replayed: is_replayed,
        ..Default::default()
    }
}

/// Meta has it.
pub(super) fn sent_to_pb(sent: Sent) -> v1::SendMessageResponse {
    let Sent { receipt, tag, phone_number_id, used_fallback, is_replayed } = sent;
    let state = match receipt.acceptance {
        MessageAcceptance::Accepted => v1::SendState::Accepted,
        MessageAcceptance::HeldForQualityAssessment => v1::SendState::Held,
        MessageAcceptance::Paused => v1::SendState::Paused,
    };
    v1::SendMessageResponse {
        message_id: receipt.message_id.as_str().to_owned(),
        state: state.into(),
        recipient: receipt.recipient.as_ref().map(convert::recipient_to_pb),
        accept_time: Some(receipt.accept_time.into()),
        send_tag: tag.as_str().to_owned(),
        phone_number_id: phone_number_id.to_string(),
        request_json: String::new(),
        used_fallback,
        replayed: is_replayed,
    }
}
