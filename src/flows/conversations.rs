//! Who is known under which names, and until when they may be answered freely.

mod recent;
mod reception;

use std::time::{Duration, SystemTime};

use crate::clock::SharedClock;
use crate::domain::conversation::{Alias, UserIdentity, group_key};
use crate::domain::ids::{BusinessScopedUserId, PhoneNumberId, WaId};
use crate::domain::message::Recipient;
use crate::domain::window::{ConversationWindows, Known, Reception, WINDOW_DURATION};
use crate::storage::keyed_state::StateError;
use crate::storage::projections::Projections;

use super::project_log::Progress;
use recent::Recent;
pub use reception::WebhookWatch;

/// Reads conversations.
#[derive(Debug, Clone)]
pub struct Conversations {
    projections: Projections,
    watch: WebhookWatch,
    progress: Progress,
    clock: SharedClock,
    known_after: Duration,
    recent: Recent,
}

/// Which conversation is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// That with this recipient.
    Recipient(Recipient),
    /// That with this key.
    Key(String),
}

/// A conversation as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// Its key; `None` while there was no event of it.
    pub key: Option<String>,
    /// The names of its user; none for groups.
    pub names: UserIdentity,
    /// Its customer service window; `None` for groups.
    pub window: Option<Known>,
    /// When the window closes or closed; `None` when no message of the user is remembered.
    pub closes_at: Option<SystemTime>,
    /// When the open free entry point ends.
    pub free_entry_until: Option<SystemTime>,
}

/// Why a conversation cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing is known of it.
    #[error("no event of this number has this conversation key; keys stand in events, or ask by recipient")]
    NotFound,
    /// It cannot be read at this moment.
    #[error(transparent)]
    State(#[from] StateError),
}

impl Conversations {
    /// Reads these projections. A window counts as closed only when webhooks of the number have come for `known_after`.
    pub fn new(
        projections: Projections,
        watch: WebhookWatch,
        progress: Progress,
        clock: SharedClock,
        known_after: Duration,
    ) -> Self {
        let recent = Recent::default();
        Self { projections, watch, progress, clock, known_after, recent }
    }

    /// What is known of a conversation with this number.
    pub async fn get(&self, number: &PhoneNumberId, which: Which) -> Result<Conversation, Error> {
        let names = match &which {
            Which::Recipient(Recipient::Group(group)) => {
                return Ok(Conversation::of_group(group_key(number, group.as_str())));
            }
            Which::Recipient(recipient) => named(recipient),
            Which::Key(key) => {
                let name = key.strip_prefix(&format!("{number}:")).ok_or(Error::NotFound)?;
                let names = UserIdentity {
                    wa_id: WaId::parse(name).ok(),
                    user_id: BusinessScopedUserId::parse(name).ok(),
                };
                if names.is_empty() {
                    return Ok(Conversation::of_group(key.clone()));
                }
                names
            }
        };
        let is_current = self.progress.catch_up().await;
        let found = self.find(number, &names).await?;
        if let Which::Key(key) = which
            && found.key.as_ref() != Some(&key)
        {
            return Err(Error::NotFound);
        }
        let known = self.names(&found).await?;
        let window = self.known(&found);
        let may_be_wrong = !is_current && matches!(window, Known::Closed { .. });
        Ok(Conversation {
            names: UserIdentity {
                wa_id: known.wa_id.or(names.wa_id).filter(|_| found.key.is_some()),
                user_id: known.user_id.or(names.user_id).filter(|_| found.key.is_some()),
            },
            window: Some(if may_be_wrong { Known::Unknown } else { window }),
            closes_at: found.windows.closes_at(),
            free_entry_until: found.windows.free_entry_at(self.clock.now()),
            key: found.key,
        })
    }

    /// Whether a window of this number may be known to be closed, as far as that can be told without reading.
    pub(super) fn may_know_closed(&self, number: &PhoneNumberId) -> bool {
        !self.recent.is_incomplete(number, self.clock.now())
    }

    /// What is known of the window of this recipient; `None` for groups, which have none.
    pub(super) async fn window(
        &self,
        number: &PhoneNumberId,
        recipient: &Recipient,
    ) -> Result<Option<Known>, StateError> {
        if matches!(recipient, Recipient::Group(_)) {
            return Ok(None);
        }
        let names = named(recipient);
        let name = Alias::of(number, &names).into_iter().next();
        let now = self.clock.now();
        if let Some(until) = name.as_ref().and_then(|name| self.recent.open_until(name, now)) {
            return Ok(Some(Known::Open { until }));
        }
        let is_current = self.progress.is_current();
        let known = self.known(&self.find(number, &names).await?);
        if let (Some(name), Known::Open { until }) = (name, known) {
            self.recent.keep_open(name, until);
        }
        if is_current || !matches!(known, Known::Closed { .. }) {
            return Ok(Some(known));
        }
        if !self.progress.catch_up().await {
            return Ok(Some(Known::Unknown));
        }
        Ok(Some(self.known(&self.find(number, &names).await?)))
    }

    async fn find(&self, number: &PhoneNumberId, names: &UserIdentity) -> Result<Found, StateError> {
        // Before the reading: what is received in the meantime is later.
        let now = self.clock.now();
        let aliases = Alias::of(number, names);
        let numbers = [number.to_string()];
        let (keys, reception) = tokio::try_join!(
            self.projections.conversations(&aliases),
            self.projections.receptions(&numbers)
        )?;
        let mut found = Found {
            key: keys.into_iter().flatten().next(),
            windows: ConversationWindows::default(),
            complete_since: None,
        };
        if let Some(key) = &found.key {
            let stored = self.projections.windows(std::slice::from_ref(key)).await?;
            found.windows = stored.into_iter().flatten().next().unwrap_or_default();
        }
        let reception = reception.into_iter().flatten().next();
        let complete_at = reception.map_or(now, |reception| reception.since) + self.known_after;
        if now < complete_at {
            self.recent.keep_incomplete(number, complete_at);
        }
        if let Some(reception) = reception {
            let hidden = match reception.last_hidden {
                Some(hidden) if names.user_id.is_none() => {
                    let known = self.names(&found).await?;
                    known.user_id.is_none().then_some(hidden)
                }
                Some(_) | None => None,
            };
            found.complete_since = self.complete_since(reception).and_then(|since| Some(since).max(hidden));
        }
        Ok(found)
    }

    /// The names that events gave the user, the key's own among them.
    async fn names(&self, found: &Found) -> Result<UserIdentity, StateError> {
        let Some(key) = &found.key else { return Ok(UserIdentity::default()) };
        let stored = self.projections.names(std::slice::from_ref(key)).await?.pop().unwrap_or_default();
        let own = key.split_once(':').map_or("", |(_, name)| name);
        Ok(UserIdentity {
            wa_id: stored.wa_id.or_else(|| WaId::parse(own).ok()),
            user_id: stored.user_id.or_else(|| BusinessScopedUserId::parse(own).ok()),
        })
    }

    /// Since when every message of the number's users is in the log.
    fn complete_since(&self, reception: Reception) -> Option<SystemTime> {
        let heard = (reception.since + self.known_after).max(self.watch.caught_up()?);
        heard.checked_sub(WINDOW_DURATION)
    }

    fn known(&self, found: &Found) -> Known {
        found.windows.known(found.complete_since, self.clock.now())
    }
}

/// What the projections say.
struct Found {
    key: Option<String>,
    windows: ConversationWindows,
    complete_since: Option<SystemTime>,
}

impl Conversation {
    /// Nothing is remembered of groups.
    fn of_group(key: String) -> Self {
        let names = UserIdentity::default();
        Self { key: Some(key), names, window: None, closes_at: None, free_entry_until: None }
    }
}

/// The name by which a recipient is addressed.
pub(super) fn named(recipient: &Recipient) -> UserIdentity {
    match recipient {
        Recipient::PhoneNumber(number) => {
            UserIdentity { wa_id: WaId::parse(number.digits()).ok(), user_id: None }
        }
        Recipient::User(user_id) => UserIdentity { wa_id: None, user_id: Some(user_id.clone()) },
        Recipient::Group(_) => UserIdentity::default(),
    }
}
