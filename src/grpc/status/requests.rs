//! The statuses of sends and of requests under an id.

use tonic::{Code, Status};

use super::{Draft, RETRY_DELAY, code, failed, violated};
use crate::domain::failure::{Actor, Reason};
use crate::flows::template_catalog::Misfit;
use crate::flows::{manage_template, send_message, unsettled, window};

impl From<send_message::Error> for Status {
    fn from(error: send_message::Error) -> Self {
        match error {
            send_message::Error::Number(error) => error.into(),
            send_message::Error::NotAdmitted(refusal) => refusal.into(),
            send_message::Error::Request(error) => of_request(&error, "request_id"),
            send_message::Error::Failed { failure, tag, request_id } => {
                let draft = failed(*failure);
                if draft.reason == Reason::SendOutcomeUnknown {
                    unproven(draft, tag.as_str(), request_id).build()
                } else {
                    draft.build()
                }
            }
            send_message::Error::Late { tag } => {
                let message = "Meta did not answer before the deadline; the message may have gone out: a status event \
                     with the send tag proves it";
                let draft = Draft::new(Code::Unknown, Reason::SendOutcomeUnknown, message);
                unproven(draft.actor(Actor::Caller), tag.as_str(), None).build()
            }
            send_message::Error::Interrupted { tag } => {
                let message = "the send was cut off by the end of the process; it may have gone out";
                let draft = Draft::new(Code::Unknown, Reason::SendOutcomeUnknown, message);
                unproven(draft.actor(Actor::Caller), tag.as_str(), None).build()
            }
        }
    }
}

impl From<window::Refusal> for Status {
    fn from(refusal: window::Refusal) -> Self {
        match refusal {
            window::Refusal::Closed(closed) => closed.into(),
            window::Refusal::Misfit(misfit) => unfit(*misfit).build(),
        }
    }
}

impl From<manage_template::Error> for Status {
    fn from(error: manage_template::Error) -> Self {
        match error {
            manage_template::Error::Request(error) => of_request(&error, "request_id"),
            manage_template::Error::Call(error) => error.into(),
            manage_template::Error::Failed { failure, request_id } => {
                let draft = failed(*failure);
                if draft.reason == Reason::SendOutcomeUnknown {
                    draft.with("request_id", request_id).build()
                } else {
                    draft.build()
                }
            }
        }
    }
}

/// As if Meta had refused it, with the fields that are wrong whatever the code.
fn unfit(misfit: Misfit) -> Draft {
    let Misfit { verdict, violations, template_status } = misfit;
    let mut draft = violated(verdict.reason, violations).actor(verdict.actor);
    draft.code = code(verdict.class);
    if draft.code == Code::FailedPrecondition {
        let reason = verdict.reason.as_str();
        draft.details.add_precondition_failure_violation(reason, "template", draft.message.clone());
    }
    match template_status {
        Some(status) => draft.with("template_status", status),
        None => draft,
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
        unsettled::Error::TooManyInDoubt => {
            Draft::new(Code::Unavailable, Reason::UpstreamUnavailable, message)
                .actor(Actor::Meta)
                .retry_after(Some(RETRY_DELAY))
        }
        unsettled::Error::Store(_) => Draft::new(Code::Unavailable, Reason::EventStoreUnavailable, message)
            .actor(Actor::Operator)
            .retry_after(Some(RETRY_DELAY)),
    };
    draft.build()
}
