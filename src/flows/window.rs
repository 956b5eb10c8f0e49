//! May this message go out now, or what goes out instead?

use std::time::SystemTime;

use metrics::counter;
use tokio::time::Instant;
use tracing::warn;

use crate::domain::ids::PhoneNumberId;
use crate::domain::message::{OutboundMessage, PreparedMessage, Recipient};
use crate::domain::window::{IfClosed, Known, WindowPolicy};
use crate::storage::sends::Outcome;
use crate::telemetry::names;

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
    pub fallback: Option<Box<OutboundMessage>>,
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

/// What may go out, of a message and its fallback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    /// The message.
    Message {
        /// Whether the fallback must go out if Meta finds the window closed.
        may_need_fallback: bool,
    },
    /// The fallback.
    Fallback,
    /// Neither.
    Nothing(Closed),
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
        if self.is_free(&message, &if_closed) {
            return Ok(Admitted::as_it_is(message));
        }
        // What most messages do not need is kept out of the state of each send.
        Box::pin(self.look(message, if_closed, deadline)).await
    }

    /// Whether a message has nothing that could be held against it: no template, and no window that is known to be closed.
    fn is_free(&self, message: &OutboundMessage, if_closed: &IfClosed) -> bool {
        let (number, has_fallback) = (&message.phone_number_id, if_closed.fallback.is_some());
        message.content.kind != "template"
            && policy_of(message, if_closed.policy)
                .is_none_or(|policy| self.is_irrelevant(number, policy, has_fallback))
    }

    async fn look(
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
        let (number, recipient) = (&message.phone_number_id, &message.recipient);
        let choice = match policy_of(&message, policy) {
            Some(policy) => self.choose(number, recipient, policy, fallback.is_some()).await,
            None => Choice::Message { may_need_fallback: false },
        };
        Ok(match (choice, fallback) {
            (Choice::Message { may_need_fallback: true }, fallback) => {
                Admitted { fallback, ..Admitted::as_it_is(message) }
            }
            (Choice::Fallback, Some(template)) => {
                Admitted { used_fallback: true, ..Admitted::as_it_is(*template) }
            }
            (Choice::Message { .. } | Choice::Fallback, _) => Admitted::as_it_is(message),
            (Choice::Nothing(closed), _) => return Err(closed),
        })
    }

    /// Whether a message that goes out later could go out for all that is known now; by the window only if it may be now.
    pub(super) async fn foresee(
        &self,
        message: &OutboundMessage,
        if_closed: &IfClosed,
        may_be_now: bool,
        deadline: Option<Instant>,
    ) -> Result<(), Refusal> {
        let fallback = if_closed.fallback.as_ref();
        let (number, recipient) = (&message.phone_number_id, &message.recipient);
        if let Some(policy) = policy_of(message, if_closed.policy).filter(|_| may_be_now)
            && let Choice::Nothing(closed) = self.choose(number, recipient, policy, fallback.is_some()).await
        {
            return Err(closed.into());
        }
        if let Some(fallback) = fallback {
            self.templates.check(fallback, true, deadline).await?;
        }
        self.templates.check(message, false, deadline).await?;
        Ok(())
    }

    /// What became of a message that waited, or goes out again, for the copy of its template.
    pub(super) fn hear(&self, message: &PreparedMessage, outcome: &Outcome) {
        self.templates.hear(message, outcome);
    }

    /// Whether it makes no difference what is known of the window.
    fn is_irrelevant(&self, number: &PhoneNumberId, policy: WindowPolicy, has_fallback: bool) -> bool {
        !has_fallback && (policy == WindowPolicy::Ignore || !self.conversations.may_know_closed(number))
    }

    /// The same for a message that needs the window, of which no more is known than this.
    pub(super) async fn choose(
        &self,
        number: &PhoneNumberId,
        recipient: &Recipient,
        policy: WindowPolicy,
        has_fallback: bool,
    ) -> Choice {
        let open = Choice::Message { may_need_fallback: false };
        if self.is_irrelevant(number, policy, has_fallback) {
            return open;
        }
        let window = self.conversations.window(number, recipient).await;
        let window = window.unwrap_or_else(|error| {
            warn!(%error, "the window cannot be read; Meta decides");
            Some(Known::Unknown)
        });
        match (window, policy) {
            (Some(Known::Open { .. }) | None, _) => open,
            (Some(Known::Closed { .. }), WindowPolicy::Enforce) if has_fallback => Choice::Fallback,
            (Some(Known::Closed { since }), WindowPolicy::Enforce) => Choice::Nothing(Closed { since }),
            (Some(Known::Closed { .. }), WindowPolicy::Ignore) | (Some(Known::Unknown), _) => {
                Choice::Message { may_need_fallback: has_fallback }
            }
        }
    }
}

/// A message is refused because of its window. What is only looked at does not count.
pub(super) fn count_refusal() {
    counter!(names::WINDOW_REFUSALS).increment(1);
}

/// A template goes out in place of its message.
pub(super) fn count_fallback() {
    counter!(names::FALLBACKS, names::OUTCOME => "instead").increment(1);
}

impl Refusal {
    /// The same, counted.
    pub(super) fn counted(self) -> Self {
        if let Self::Closed(_) = self {
            count_refusal();
        }
        self
    }
}

impl Admitted {
    /// The same, counted.
    pub(super) fn counted(self) -> Self {
        if self.used_fallback {
            count_fallback();
        }
        self
    }

    fn as_it_is(message: OutboundMessage) -> Self {
        Self { message, used_fallback: false, fallback: None, template: None }
    }
}

/// The policy, if the message needs an open window.
pub(super) fn policy_of(message: &OutboundMessage, policy: WindowPolicy) -> Option<WindowPolicy> {
    let is_for_user = !matches!(message.recipient, Recipient::Group(_));
    (message.content.is_free_form() && is_for_user).then_some(policy)
}
