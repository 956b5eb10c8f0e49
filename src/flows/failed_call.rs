//! What a failed call to Meta means for the caller of a flow.

use crate::cloud_api;
use crate::domain::failure::{Actor, Class, Failure, Reason, Retry, Verdict};

use super::numbers;

/// Why a call that may be repeated without harm failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The number or WABA is not usable.
    #[error(transparent)]
    Number(#[from] numbers::Error),
    /// Meta refused it, could not be reached, or did not answer.
    #[error("{}", .0.message)]
    Failed(Box<Failure>),
}

impl From<cloud_api::Error> for Error {
    fn from(cause: cloud_api::Error) -> Self {
        Self::Failed(Box::new(repeatable(&cause)))
    }
}

/// How a caller may wait before repeating what does no harm.
const REPEAT_DELAY: std::time::Duration = std::time::Duration::from_secs(1);

/// The failure of an operation that must not happen twice. Where nobody knows whether it happened, `proof` says what
/// would show it.
pub(super) fn failure(cause: &cloud_api::Error, proof: &str) -> Failure {
    let meta = cause.meta().cloned();
    let details = meta.as_ref().map_or("", |meta| meta.details.as_str());
    let message = match cause {
        cloud_api::Error::Refused { .. } if !details.is_empty() => format!("Meta refused: {details}"),
        cloud_api::Error::Refused { .. }
        | cloud_api::Error::NotSent { .. }
        | cloud_api::Error::NoAnswer { .. }
        | cloud_api::Error::HostNotAllowed { .. }
        | cloud_api::Error::Invalid { .. } => cause.to_string(),
        cloud_api::Error::OutcomeUnknown { .. } => format!("{cause}; {proof}"),
    };
    Failure { verdict: cause.verdict(), message, meta, field: None }
}

/// The failure of an operation that may be repeated without harm: what is not known is simply unavailable.
pub(super) fn repeatable(cause: &cloud_api::Error) -> Failure {
    let is_unknown = matches!(cause, cloud_api::Error::OutcomeUnknown { .. });
    let message = cause.to_string();
    let known = failure(cause, "");
    if !is_unknown {
        return known;
    }
    let verdict = Verdict {
        class: Class::Unavailable,
        reason: Reason::UpstreamUnavailable,
        actor: Actor::Meta,
        retry: Retry::Backoff(REPEAT_DELAY),
    };
    Failure { verdict, message, ..known }
}
