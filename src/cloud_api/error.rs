//! How a call to Meta can fail, split by what is known of its effect.

use std::fmt;

use super::error_code::{Operation, ambiguous};
use crate::domain::failure::{Actor, Class, MetaError, Reason, Retry, Verdict};

/// A failed call. Prints neither secrets nor what the call was about: it may go to a log. The texts of
/// [`MetaError`] are for the caller.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Meta answered and did not do it.
    #[error("Meta refused the call: HTTP {}, code {}", error.http_status, Code(error))]
    Refused {
        /// What Meta said.
        error: MetaError,
        /// What it means.
        verdict: Verdict,
    },
    /// Nothing reached Meta: connecting failed, or the body of the request was never asked for.
    #[error("Meta was not reached: {cause}")]
    NotSent {
        /// The causes, in one line.
        cause: String,
    },
    /// The request left, and nothing proves what became of it. Never for a read.
    #[error("the outcome is unknown: {cause}")]
    OutcomeUnknown {
        /// What Meta said, if it answered with an error that proves nothing.
        error: Option<MetaError>,
        /// The causes, in one line.
        cause: String,
    },
    /// A read got no answer that can be understood. It may simply be repeated.
    #[error("Meta gave no usable answer: {cause}")]
    NoAnswer {
        /// The causes, in one line.
        cause: String,
    },
    /// Meta named a host for a download that may not get our access token.
    #[error(
        "Meta named {host:?} for the download, and cloud_api.media_hosts does not list it (hosts behind https only)"
    )]
    HostNotAllowed {
        /// The host, with its port where that is unusual.
        host: String,
    },
    /// The call cannot be made as it was asked for.
    #[error("{field}: {rule}")]
    Invalid {
        /// The field of the request.
        field: &'static str,
        /// The rule and the remedy.
        rule: &'static str,
    },
}

impl Error {
    /// What the failure means for the caller.
    pub fn verdict(&self) -> Verdict {
        let retry = |seconds| Retry::Backoff(std::time::Duration::from_secs(seconds));
        let (class, reason, actor, retry) = match self {
            Self::Refused { verdict, .. } => return *verdict,
            Self::OutcomeUnknown { .. } => return ambiguous(Operation::Send),
            Self::NoAnswer { .. } => return ambiguous(Operation::Read),
            Self::NotSent { .. } => {
                (Class::Unavailable, Reason::UpstreamUnreachable, Actor::Operator, retry(1))
            }
            Self::HostNotAllowed { .. } => {
                (Class::FailedPrecondition, Reason::MediaHostNotAllowed, Actor::Operator, Retry::AfterChange)
            }
            Self::Invalid { .. } => {
                (Class::InvalidArgument, Reason::ValidationFailed, Actor::Caller, Retry::AfterChange)
            }
        };
        Verdict { class, reason, actor, retry }
    }

    /// Which of these it is, for traces.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "refused",
            Self::NotSent { .. } => "not_sent",
            Self::OutcomeUnknown { .. } => "outcome_unknown",
            Self::NoAnswer { .. } => "no_answer",
            Self::HostNotAllowed { .. } => "host_not_allowed",
            Self::Invalid { .. } => "invalid",
        }
    }

    /// What Meta said, if it did.
    pub fn meta(&self) -> Option<&MetaError> {
        match self {
            Self::Refused { error, .. } => Some(error),
            Self::OutcomeUnknown { error, .. } => error.as_ref(),
            Self::NotSent { .. }
            | Self::NoAnswer { .. }
            | Self::HostNotAllowed { .. }
            | Self::Invalid { .. } => None,
        }
    }

    /// The request may have left and its answer is lost or useless.
    pub(super) fn lost(operation: Operation, cause: String) -> Self {
        match operation {
            Operation::Read => Self::NoAnswer { cause },
            Operation::Send | Operation::Write => Self::OutcomeUnknown { error: None, cause },
        }
    }
}

/// A failure and its causes in one line, without the URL: its path and query name people and templates.
pub(super) fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let first: &dyn std::error::Error = &error;
    let chain = std::iter::successors(Some(first), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Meta's code, or that there is none.
struct Code<'a>(&'a MetaError);

impl fmt::Display for Code<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.code {
            Some(code) => write!(f, "{code}"),
            None => f.write_str("none"),
        }
    }
}
