//! May this message go out now, or what goes out instead?

use std::time::SystemTime;

use tracing::warn;

use crate::domain::message::{OutboundMessage, Recipient};
use crate::domain::window::{IfClosed, Known, WindowPolicy};

use super::conversations::Conversations;

/// Holds messages against the customer service window.
#[derive(Debug, Clone)]
pub struct Windows {
    conversations: Conversations,
}

/// What may go out.
#[derive(Debug, Clone, PartialEq)]
pub struct Admitted {
    /// The message, or the template in its place.
    pub message: OutboundMessage,
    /// Whether it is the template.
    pub used_fallback: bool,
    /// The template that must go out if Meta finds the window closed.
    pub fallback: Option<OutboundMessage>,
}

/// The window is known to be closed, and nothing else may be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the customer service window is closed: {}; send a template, or give a fallback_template; window_policy \
     WINDOW_POLICY_IGNORE leaves it to Meta", if since.is_some() { "the user's last message is more than 24 hours old" } else {
     "the user has not written lately" }
)]
pub struct Closed {
    /// Since when; `None` when no message of the user is remembered.
    pub since: Option<SystemTime>,
}

impl Windows {
    /// Over these conversations.
    pub fn new(conversations: Conversations) -> Self {
        Self { conversations }
    }

    /// Decides what goes out. Only content that needs the window is looked at, and only what the answer depends on is read.
    pub async fn admit(&self, message: OutboundMessage, if_closed: IfClosed) -> Result<Admitted, Closed> {
        let IfClosed { policy, fallback } = if_closed;
        let is_for_user = !matches!(message.recipient, Recipient::Group(_));
        let is_concerned = message.content.is_free_form() && is_for_user;
        if !is_concerned || (policy == WindowPolicy::Ignore && fallback.is_none()) {
            return Ok(Admitted { message, used_fallback: false, fallback: None });
        }
        if fallback.is_none() && !self.conversations.may_know_closed(&message.phone_number_id) {
            return Ok(Admitted { message, used_fallback: false, fallback: None });
        }
        let window = self.conversations.window(&message.phone_number_id, &message.recipient).await;
        let window = window.unwrap_or_else(|error| {
            warn!(%error, "the window cannot be read; Meta decides");
            Some(Known::Unknown)
        });
        match (window, policy, fallback) {
            (Some(Known::Open { .. }) | None, _, _) => {
                Ok(Admitted { message, used_fallback: false, fallback: None })
            }
            (Some(Known::Closed { .. }), WindowPolicy::Enforce, Some(template)) => {
                Ok(Admitted { message: template, used_fallback: true, fallback: None })
            }
            (Some(Known::Closed { since }), WindowPolicy::Enforce, None) => Err(Closed { since }),
            (Some(Known::Closed { .. }), WindowPolicy::Ignore, fallback)
            | (Some(Known::Unknown), _, fallback) => Ok(Admitted { message, used_fallback: false, fallback }),
        }
    }
}
