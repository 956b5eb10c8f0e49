//! What a page of the log says of windows, of users' names, and of how completely messages are known.

use std::collections::HashMap;
use std::time::{Duration, UNIX_EPOCH};

use crate::domain::conversation::UserIdentity;
use crate::domain::event::{Fact, MESSAGE_RECEIVED, MESSAGE_STATUS, Moved};
use crate::domain::window::{ConversationWindows, Moment, Reception};
use crate::storage::event_log::StoredEvent;
use crate::storage::keyed_state::StateError;
use crate::storage::projections::{Change, Projections};

use super::remembered::Remembered;

/// Gathers the events of a page.
#[derive(Debug, Default)]
pub(super) struct PageWindows {
    moments: HashMap<String, Vec<Moment>>,
    names: HashMap<String, UserIdentity>,
    receptions: HashMap<String, Reception>,
}

impl PageWindows {
    /// Takes one event in.
    pub(super) fn take(&mut self, event: &StoredEvent, fact: &Fact) {
        let Fact::Concerns { phone_number_id, conversation_key, user, moved } = fact else { return };
        let moment = match moved {
            Moved::Window(moment) => Some(*moment),
            Moved::Message(report) => report.moment(),
            Moved::Nothing => None,
        };
        if user.is_empty() {
            return;
        }
        if let Some(moment) = moment {
            self.moments.entry(conversation_key.clone()).or_default().push(moment);
        }
        let names = self.names.entry(conversation_key.clone()).or_default();
        *names = newer(names, user);
        // Both come by the webhook field `messages`.
        if [MESSAGE_RECEIVED, MESSAGE_STATUS].contains(&event.attributes.event_type.as_str()) {
            let hidden = match moment {
                Some(Moment::Inbound { time, .. }) if user.wa_id.is_none() => Some(time),
                Some(_) | None => None,
            };
            let since = UNIX_EPOCH + Duration::from_millis(event.append_ms);
            let reception = Reception { since, last_hidden: hidden };
            let known = self.receptions.entry(phone_number_id.to_string()).or_insert(reception);
            *known = known.merge(reception);
        }
    }

    /// What differs from what is stored. Names are looked at only in conversations that got a new one.
    pub(super) async fn changes(
        self,
        projections: &Projections,
        remembered: &Remembered,
        renamed: Vec<String>,
    ) -> Result<Vec<Change>, StateError> {
        let mut changes = Vec::new();
        let (keys, moments): (Vec<String>, Vec<Vec<Moment>>) = self.moments.into_iter().unzip();
        let unread: Vec<String> =
            keys.iter().filter(|key| remembered.windows(key).is_none()).cloned().collect();
        let mut stored = projections.windows(&unread).await?.into_iter();
        for (key, moments) in keys.into_iter().zip(moments) {
            let known = remembered.windows(&key).or_else(|| stored.next().flatten()).unwrap_or_default();
            let moved = moments.into_iter().fold(known, ConversationWindows::after);
            if moved != known {
                changes.push(Change::Windows(key, moved));
            }
        }
        let stored = projections.names(&renamed).await?;
        for (key, stored) in renamed.into_iter().zip(stored) {
            let names = self.names.get(&key).map(|names| newer(&stored, names));
            changes.extend(names.map(|names| Change::Names(key, names)));
        }
        let receptions: Vec<(String, Reception)> = self.receptions.into_iter().collect();
        let unread = receptions.iter().filter(|(number, _)| remembered.reception(number).is_none());
        let unread: Vec<String> = unread.map(|(number, _)| number.clone()).collect();
        let mut stored = projections.receptions(&unread).await?.into_iter();
        for (number, reception) in receptions {
            let stored = remembered.reception(&number).or_else(|| stored.next().flatten());
            let merged = stored.map_or(reception, |stored| stored.merge(reception));
            if stored != Some(merged) {
                changes.push(Change::Reception(number, merged));
            }
        }
        Ok(changes)
    }
}

/// The names as the later mention has them; one that it leaves out stays.
fn newer(known: &UserIdentity, mentioned: &UserIdentity) -> UserIdentity {
    UserIdentity {
        wa_id: mentioned.wa_id.clone().or_else(|| known.wa_id.clone()),
        user_id: mentioned.user_id.clone().or_else(|| known.user_id.clone()),
    }
}
