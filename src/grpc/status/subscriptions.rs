//! The statuses of subscriptions.

use tonic::{Code, Status};

use super::{Draft, RETRY_DELAY, invalid, store_unavailable};
use crate::domain::failure::{Actor, FieldViolation, Reason};
use crate::flows::subscriptions::Error;

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let (message, refusal) = (error.to_string(), error.refusal());
        match error {
            Error::NotFound(_) => Draft::new(Code::NotFound, Reason::SubscriptionNotFound, message),
            Error::Exists(_) => Draft::new(Code::AlreadyExists, Reason::SubscriptionExists, message),
            Error::Immutable { field } => {
                let reason = Reason::SubscriptionImmutable;
                let mut draft = Draft::new(Code::FailedPrecondition, reason, message.clone());
                draft.details.add_precondition_failure_violation(reason.as_str(), field, message);
                draft
            }
            Error::Changed { etag } => {
                Draft::new(Code::Aborted, Reason::SubscriptionChanged, message).with("etag", etag)
            }
            Error::TooMany { .. } => {
                let mut draft =
                    Draft::new(Code::ResourceExhausted, Reason::SubscriptionQuota, message.clone());
                draft.details.add_quota_failure_violation("subscriptions", message);
                draft
            }
            Error::PageToken => {
                return invalid(vec![FieldViolation {
                    field: "page_token".to_owned(),
                    description: message,
                }]);
            }
            Error::Forbidden(forbidden) => return forbidden.into(),
            Error::Start(error) => return error.into(),
            Error::State(_) => {
                let draft = refusal.map_or_else(|| store_unavailable(None), |refusal| not_stored(&refusal));
                return draft.build();
            }
        }
        .actor(Actor::Caller)
        .build()
    }
}

/// Saying it again does no harm.
fn not_stored(refusal: &str) -> Draft {
    let message = format!("{refusal}; try again later, which does no harm");
    Draft::new(Code::Unavailable, Reason::EventStoreUnavailable, message)
        .retry_after(Some(RETRY_DELAY))
        .actor(Actor::Operator)
}

pub(super) fn taken_over() -> Draft {
    let message = "another stream with this client_id was opened on the subscription and has taken over; give each \
                   worker a client_id of its own";
    Draft::new(Code::Aborted, Reason::StreamTakenOver, message).actor(Actor::Caller)
}

pub(super) fn deleted() -> Draft {
    let message = "the subscription was deleted";
    Draft::new(Code::NotFound, Reason::SubscriptionNotFound, message).actor(Actor::Caller)
}
