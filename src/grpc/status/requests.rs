//! The statuses of sends and of requests under an id.

use tonic::{Code, Status};

use super::{Draft, RETRY_DELAY, failed};
use crate::domain::failure::{Actor, Reason};
use crate::flows::{send_message, unsettled};

impl From<send_message::Error> for Status {
    fn from(error: send_message::Error) -> Self {
        match error {
            send_message::Error::Number(error) => error.into(),
            send_message::Error::Closed(closed) => closed.into(),
            send_message::Error::Request(error) => of_request(&error, "request_id"),
            send_message::Error::Failed { failure, tag, request_id } => {
                let draft = failed(*failure);
                if draft.reason == Reason::SendOutcomeUnknown {
                    unproven(draft, tag.as_str(), request_id).build()
                } else {
                    draft.build()
                }
            }
            send_message::Error::Interrupted { tag } => {
                let message = "the send was cut off by the end of the process; it may have gone out";
                let draft = Draft::new(Code::Unknown, Reason::SendOutcomeUnknown, message);
                unproven(draft.actor(Actor::Caller), tag.as_str(), None).build()
            }
        }
    }
}

fn unproven(draft: Draft, tag: &str, request_id: Option<String>) -> Draft {
    let draft = draft.with("send_tag", tag);
    match request_id {
        Some(request_id) => draft.with("request_id", request_id),
        None => draft,
    }
}

/// Why a request cannot be taken up under its id, which stands in this field.
pub(in crate::grpc) fn of_request(error: &unsettled::Error, field: &str) -> Status {
    let message = error.to_string();
    let draft = match error {
        unsettled::Error::Reused => {
            let mut draft =
                Draft::new(Code::InvalidArgument, Reason::RequestIdReused, format!("{field} {message}"));
            draft.details.add_bad_request_violation(field, message);
            draft.actor(Actor::Caller)
        }
        unsettled::Error::InProgress => Draft::new(Code::Aborted, Reason::RequestInProgress, message)
            .actor(Actor::Caller)
            .retry_after(Some(RETRY_DELAY)),
        unsettled::Error::Store(_) => Draft::new(Code::Unavailable, Reason::EventStoreUnavailable, message)
            .actor(Actor::Operator)
            .retry_after(Some(RETRY_DELAY)),
    };
    draft.build()
}
