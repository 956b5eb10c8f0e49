//! What became of a message, as RPCs: one answer, or one at every change.

use std::pin::Pin;
use std::time::SystemTime;

use futures_util::Stream;
use futures_util::stream::unfold;
use tonic::Status;

use crate::contract::v1;
use crate::domain::ids::{MessageId, PhoneNumberId};
use crate::domain::message_state::MessageState;
use crate::flows::follow_message::{KnownMessage, Watch};

use super::convert::Violations;
use super::service::{Service, chosen};
use super::status;

/// The response of `WatchMessage`.
pub(super) type MessageStream = Pin<Box<dyn Stream<Item = Result<v1::WatchMessageResponse, Status>> + Send>>;

impl Service {
    pub(super) async fn tell(
        &self,
        request: &v1::GetMessageRequest,
    ) -> Result<v1::GetMessageResponse, Status> {
        let found = Violations::of_message("GetMessageRequest", request);
        let v1::GetMessageRequest { phone_number_id, key } = request;
        let message_id = key.as_ref().map(|v1::get_message_request::Key::MessageId(id)| id.as_str());
        let (number, message) = self.message_meant(phone_number_id, message_id, found)?;
        let known = self.flows.follow_message.get(&number, &message).await?;
        Ok(v1::GetMessageResponse { message: Some(to_pb(&known)) })
    }

    pub(super) fn watch(&self, request: &v1::WatchMessageRequest) -> Result<MessageStream, Status> {
        let mut found = Violations::of_message("WatchMessageRequest", request);
        let v1::WatchMessageRequest { phone_number_id, key, .. } = request;
        let until = waited_for(request.until());
        if until.is_none() {
            let words =
                "MESSAGE_STATE_SENT, MESSAGE_STATE_DELIVERED, MESSAGE_STATE_READ or MESSAGE_STATE_PLAYED";
            found.add("until", format!("must be {words}; a message that fails ends the watch anyway"));
        }
        let message_id = key.as_ref().map(|v1::watch_message_request::Key::MessageId(id)| id.as_str());
        let (number, message) = self.message_meant(phone_number_id, message_id, found)?;
        let watch =
            self.flows.follow_message.watch(number, message, until.unwrap_or(MessageState::Delivered))?;
        let next = async |mut watch: Watch| {
            let known = watch.next().await?;
            let response = known.map(|known| v1::WatchMessageResponse { message: Some(to_pb(&known)) });
            Some((response.map_err(Status::from), watch))
        };
        Ok(Box::pin(unfold(watch, next)))
    }

    /// The number and the message that a request means.
    fn message_meant(
        &self,
        phone_number_id: &str,
        message_id: Option<&str>,
        mut found: Violations,
    ) -> Result<(PhoneNumberId, MessageId), Status> {
        let number = chosen(self.flows.numbers.resolve(phone_number_id), &mut found)?;
        let message = message_id.and_then(|id| MessageId::parse(id).ok());
        match (number, message) {
            (Some(number), Some(message)) if found.is_empty() => Ok((number, message)),
            _ => Err(status::invalid(found.into_inner())),
        }
    }
}

/// The state that a caller may wait for; delivery if none is named.
fn waited_for(until: v1::MessageState) -> Option<MessageState> {
    match until {
        v1::MessageState::Sent => Some(MessageState::Sent),
        v1::MessageState::Unspecified | v1::MessageState::Delivered => Some(MessageState::Delivered),
        v1::MessageState::Read => Some(MessageState::Read),
        v1::MessageState::Played => Some(MessageState::Played),
        v1::MessageState::Failed => None,
    }
}

fn to_pb(known: &KnownMessage) -> v1::Message {
    let (state, state_time) = known.life.state().unzip();
    let failure = known.failure().map(|(error, verdict)| v1::MessageFailure {
        verdict: Some(v1::ErrorVerdict {
            reason: verdict.reason.as_str().to_owned(),
            actor: verdict.actor.as_str().to_owned(),
        }),
        code: error.code,
        title: error.title.clone(),
        details: error.details.clone(),
    });
    let reached = |(state, time): (MessageState, SystemTime)| v1::ReachedState {
        state: state_to_pb(state).into(),
        time: Some(time.into()),
    };
    v1::Message {
        message_id: known.message_id.as_str().to_owned(),
        phone_number_id: known.phone_number_id.to_string(),
        send_tag: known.send_tag.as_ref().map(|tag| tag.as_str().to_owned()).unwrap_or_default(),
        conversation_key: known.conversation_key.clone(),
        state: state.map_or(v1::MessageState::Unspecified, state_to_pb).into(),
        state_time: state_time.map(Into::into),
        history: known.life.reached().map(reached).collect(),
        failure,
    }
}

fn state_to_pb(state: MessageState) -> v1::MessageState {
    use MessageState as S;
    match state {
        S::Sent => v1::MessageState::Sent,
        S::Failed => v1::MessageState::Failed,
        S::Delivered => v1::MessageState::Delivered,
        S::Read => v1::MessageState::Read,
        S::Played => v1::MessageState::Played,
        // Statuses never report these.
        S::Queued | S::Sending | S::Refused | S::Expired | S::Unknown | S::Accepted | S::Held => {
            v1::MessageState::Unspecified
        }
    }
}
