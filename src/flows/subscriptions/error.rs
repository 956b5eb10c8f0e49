//! Why something could not be done with a subscription.

use crate::domain::quoted::Quoted;
use crate::domain::rights::Forbidden;
use crate::storage::event_log::ReadError;
use crate::storage::keyed_state::StateError;

use super::super::deliver_events::StartError;

/// Why something could not be done with a subscription.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller has none of this name.
    #[error("this caller has no subscription {}; CreateSubscription makes one", Quoted(.0))]
    NotFound(String),
    /// The caller has one of this name.
    #[error("this caller has a subscription {} already; GetSubscription tells its settings", Quoted(.0))]
    Exists(String),
    /// What never changes was to change.
    #[error(
        "{field} of a subscription never changes; create another one, which may start at the floor_cursor of this one"
    )]
    Immutable {
        /// The field.
        field: &'static str,
    },
    /// The settings are not those that the caller has seen.
    #[error("the settings have changed since etag was read; read them again")]
    Changed {
        /// The current etag.
        etag: String,
    },
    /// No further subscription.
    #[error("there are {count} subscriptions {of}, more are not possible; delete one")]
    TooMany {
        /// How many.
        count: usize,
        /// Whose.
        of: &'static str,
    },
    /// A page token of something else.
    #[error("page_token is not one of a response of this method")]
    PageToken,
    /// The caller may not see what the subscription is about.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// It cannot start there.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The store does not answer, or takes nothing.
    #[error(transparent)]
    State(#[from] StateError),
}

impl Error {
    /// Why the store does not take what must be written; `None` if this is about something else.
    pub fn refusal(&self) -> Option<String> {
        let Self::State(error) = self else { return None };
        matches!(error, StateError::Refused(_) | StateError::Busy).then(|| error.to_string())
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        Self::Start(StartError::Unreadable(error))
    }
}
