//! May this message go out now, or what goes out instead?

use std::time::SystemTime;

use tokio::time::Instant;
use tracing::warn;

use crate::domain::message::{OutboundMessage, Recipient};
use crate::domain::window::{IfClosed, Known, WindowPolicy};

use super::conversations::Conversations;
use super::template_catalog::{Misfit, SentTemplate, TemplateCatalog};

/// Holds messages against the customer service window, and then against their templates.
#[derive(Debug, Clone)]
pub struct Windows {
    conversations: Conversations,
    templates: TemplateCatalog,
}

/// What may go out.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// The message, or the template in its place.
    pub message: OutboundMessage,
    /// Whether it is the template.
    pub used_fallback: bool,
    /// The template that must go out if Meta finds the window closed.
    pub fallback: Option<OutboundMessage>,
    /// The template of the message, if it has one that was checked.
    pub template: Option<SentTemplate>,
}

/// Why a message may not go out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The window is closed.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// The template does not allow it.
    #[error(transparent)]
    Misfit(#[from] Box<Misfit>),
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
    /// Over these conversations and templates.
    pub fn new(conversations: Conversations, templates: TemplateCatalog) -> Self {
        Self { conversations, templates }
    }

    /// Decides what goes out, inside the deadline. The template in place of the message must fit as well, if it may be
    /// needed: later nobody would be there to be told.
    pub async fn admit(
        &self,
        message: OutboundMessage,
        if_closed: IfClosed,
        deadline: Option<Instant>,
    ) -> Result<Admitted, Refusal> {
        let mut admitted = self.by_window(message, if_closed).await?;
        let Admitted { message, used_fallback, fallback, .. } = &admitted;
        if let Some(fallback) = fallback {
            self.templates.check(fallback, true, deadline).await?;
        }
        admitted.template = self.templates.check(message, *used_fallback, deadline).await?;
        Ok(admitted)
    }

    /// Only content that needs the window is looked at, and only what the answer depends on is read.
    async fn by_window(&self, message: OutboundMessage, if_closed: IfClosed) -> Result<Admitted, Closed> {
        let IfClosed { policy, fallback } = if_closed;
        let is_for_user = !matches!(message.recipient, Recipient::Group(_));
        let is_concerned = message.content.is_free_form() && is_for_user;
        if !is_concerned || (policy == WindowPolicy::Ignore && fallback.is_none()) {
            return Ok(Admitted::as_it_is(message));
        }
        if fallback.is_none() && !self.conversations.may_know_closed(&message.phone_number_id) {
            return Ok(Admitted::as_it_is(message));
        }
        let window = self.conversations.window(&message.phone_number_id, &message.recipient).await;
        let window = window.unwrap_or_else(|error| {
            warn!(%error, "the window cannot be read; Meta decides");
            Some(Known::Unknown)
        });
        match (window, policy, fallback) {
            (Some(Known::Open { .. }) | None, _, _) => Ok(Admitted::as_it_is(message)),
            (Some(Known::Closed { .. }), WindowPolicy::Enforce, Some(template)) => {
                Ok(Admitted { used_fallback: true, ..Admitted::as_it_is(template) })
            }
            (Some(Known::Closed { since }), WindowPolicy::Enforce, None) => Err(Closed { since }),
            (Some(Known::Closed { .. }), WindowPolicy::Ignore, fallback)
            | (Some(Known::Unknown), _, fallback) => Ok(Admitted { fallback, ..Admitted::as_it_is(message) }),
        }
    }
}

impl Admitted {
    fn as_it_is(message: OutboundMessage) -> Self {
        Self { message, used_fallback: false, fallback: None, template: None }
    }
}
