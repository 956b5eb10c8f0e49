//! What became of a message, as RPCs: one answer, or one at every change.

use std::pin::Pin;
use std::time::SystemTime;

use futures_util::Stream;
use futures_util::stream::unfold;
use tonic::Status;

use crate::contract::v1;
use crate::domain::failure::Verdict;
use crate::domain::ids::MessageId;
use crate::domain::message_state::MessageState;
use crate::flows::follow_message::{KnownMessage, Meant, MeantRequest, Watch, WhyNot};

use super::callers::Identity;
use super::convert::Violations;
use super::quotas::Place;
use super::service::Service;
use super::status;

/// The response of `WatchMessage`.
pub(super) type MessageStream = Pin<Box<dyn Stream<Item = Result<v1::WatchMessageResponse, Status>> + Send>>;

impl Service {
    pub(super) async fn tell(
        &self,
        who: &Identity,
        request: &v1::GetMessageRequest,
    ) -> Result<v1::GetMessageResponse, Status> {
        use v1::get_message_request::Key as Pb;
        let found = Violations::of_message("GetMessageRequest", request);
        let key = request.key.as_ref().map(|key| match key {
            Pb::MessageId(id) => Key::Message(id),
            Pb::RequestId(id) => Key::Request(id),
        });
        let meant = self.message_meant(who, &request.phone_number_id, key, found)?;
        let known = self.flows()?.follow_message.get(&meant).await?;
        Ok(v1::GetMessageResponse { message: Some(to_pb(&known)) })
    }

    pub(super) fn watch(
        &self,
        who: &Identity,
        request: &v1::WatchMessageRequest,
    ) -> Result<MessageStream, Status> {
        use v1::watch_message_request::Key as Pb;
        let mut found = Violations::of_message("WatchMessageRequest", request);
        let until = waited_for(request.until());
        if until.is_none() {
            let words = "MESSAGE_STATE_ACCEPTED, MESSAGE_STATE_SENT, MESSAGE_STATE_DELIVERED, MESSAGE_STATE_READ \
                         or MESSAGE_STATE_PLAYED";
            found.add("until", format!("must be {words}; a message that fails ends the watch anyway"));
        }
        let key = request.key.as_ref().map(|key| match key {
            Pb::MessageId(id) => Key::Message(id),
            Pb::RequestId(id) => Key::Request(id),
        });
        let meant = self.message_meant(who, &request.phone_number_id, key, found)?;
        let until = until.unwrap_or(MessageState::Delivered);
        let place = self.quotas.stream(who)?;
        let watch = self.flows()?.follow_message.watch(meant, until)?;
        let next = async |(mut watch, place): (Watch, Option<Place>)| {
            let known = watch.next().await?;
            let response = known.map(|known| v1::WatchMessageResponse { message: Some(to_pb(&known)) });
            Some((response.map_err(Status::from), (watch, place)))
        };
        Ok(Box::pin(unfold((watch, place), next)))
    }

    /// The message that a request means. A request id names its number itself.
    fn message_meant(
        &self,
        who: &Identity,
        phone_number_id: &str,
        key: Option<Key<'_>>,
        mut found: Violations,
    ) -> Result<Meant, Status> {
        let number = match key {
            Some(Key::Request(_)) if phone_number_id.is_empty() => None,
            _ => self.number(who, ("phone_number_id", phone_number_id), &mut found)?,
        };
        let meant = match (key, number) {
            (Some(Key::Message(id)), Some(number)) => {
                let message = MessageId::parse(id).ok();
                who.note(|facts| facts.message = message.as_ref().and_then(|id| self.audit_key.message(id)));
                message.map(|message| Meant::Message(number, message))
            }
            (Some(Key::Request(id)), number) => {
                Some(Meant::Request(MeantRequest::new(&who.caller, id.to_owned(), number)))
            }
            (Some(Key::Message(_)) | None, _) => None,
        };
        meant.filter(|_| found.is_empty()).ok_or_else(|| status::invalid(found.into_inner()))
    }
}

/// What names a message.
#[derive(Clone, Copy)]
enum Key<'a> {
    Message(&'a str),
    Request(&'a str),
}

/// The state that a caller may wait for; delivery if none is named.
fn waited_for(until: v1::MessageState) -> Option<MessageState> {
    match until {
        v1::MessageState::Accepted => Some(MessageState::Accepted),
        v1::MessageState::Sent => Some(MessageState::Sent),
        v1::MessageState::Unspecified | v1::MessageState::Delivered => Some(MessageState::Delivered),
        v1::MessageState::Read => Some(MessageState::Read),
        v1::MessageState::Played => Some(MessageState::Played),
        v1::MessageState::Queued
        | v1::MessageState::Sending
        | v1::MessageState::Refused
        | v1::MessageState::Expired
        | v1::MessageState::Unknown
        | v1::MessageState::Held
        | v1::MessageState::Failed => None,
    }
}

fn to_pb(known: &KnownMessage) -> v1::Message {
    let (state, state_time) = known.life.state().unzip();
    let failure = known.why_not().map(failure_to_pb);
    let reached = |(state, time): (MessageState, SystemTime)| v1::ReachedState {
        state: state_to_pb(state).into(),
        time: Some(time.into()),
    };
    v1::Message {
        message_id: known.message_id.as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default(),
        phone_number_id: known.phone_number_id.as_ref().map(ToString::to_string).unwrap_or_default(),
        send_tag: known.send_tag.as_ref().map(|tag| tag.as_str().to_owned()).unwrap_or_default(),
        conversation_key: known.conversation_key.clone(),
        state: state.map_or(v1::MessageState::Unspecified, state_to_pb).into(),
        state_time: state_time.map(Into::into),
        history: known.life.reached().map(reached).collect(),
        failure,
    }
}

fn failure_to_pb(why_not: WhyNot<'_>) -> v1::MessageFailure {
    let verdict = |verdict: &Verdict| {
        let (reason, actor) = (verdict.reason.as_str().to_owned(), verdict.actor.as_str().to_owned());
        Some(v1::ErrorVerdict { reason, actor })
    };
    match why_not {
        WhyNot::Refused(failure) => v1::MessageFailure {
            verdict: verdict(&failure.verdict),
            code: failure.meta.as_ref().and_then(|meta| meta.code).unwrap_or_default(),
            title: failure.message.clone(),
            details: String::new(),
        },
        WhyNot::Failed(error, of_code) => v1::MessageFailure {
            verdict: verdict(&of_code),
            code: error.code,
            title: error.title.clone(),
            details: error.details.clone(),
        },
    }
}

fn state_to_pb(state: MessageState) -> v1::MessageState {
    use MessageState as S;
    match state {
        S::Queued => v1::MessageState::Queued,
        S::Sending => v1::MessageState::Sending,
        S::Refused => v1::MessageState::Refused,
        S::Expired => v1::MessageState::Expired,
        S::Unknown => v1::MessageState::Unknown,
        S::Accepted => v1::MessageState::Accepted,
        S::Held => v1::MessageState::Held,
        S::Sent => v1::MessageState::Sent,
        S::Failed => v1::MessageState::Failed,
        S::Delivered => v1::MessageState::Delivered,
        S::Read => v1::MessageState::Read,
        S::Played => v1::MessageState::Played,
    }
}
