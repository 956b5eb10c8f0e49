//! Who the users are: their numbers, their business-scoped user ids, their names, and until when each may
//! be answered freely. Pure state.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use super::ids;
use super::judge::Recipient;

/// How long a user's message keeps the customer service window open.
pub(super) const WINDOW: Duration = Duration::from_hours(24);
/// Users and windows remembered at once; beyond it all are forgotten, as after a reset.
const REMEMBERED_MAX: usize = 1_000_000;

/// A user as far as they show themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    /// Absent if the user hides the number.
    pub(super) wa_id: Option<String>,
    #[expect(clippy::struct_field_names, reason = "Meta's word, beside which `id` would be unclear")]
    pub(super) user_id: String,
    pub(super) name: Option<String>,
}

/// The users who wrote, and their windows.
#[derive(Debug, Default)]
pub(super) struct Users {
    by_user_id: HashMap<String, User>,
    user_ids: HashMap<String, String>,
    /// By phone number id and user id: when the user last wrote.
    last_inbound: HashMap<(String, String), SystemTime>,
}

impl Users {
    /// The user with this number.
    pub(super) fn with_wa_id(&self, wa_id: &str) -> User {
        let user_id = self.user_ids.get(wa_id).cloned().unwrap_or_else(|| ids::user_id_of(wa_id));
        let name = self.by_user_id.get(&user_id).and_then(|user| user.name.clone());
        User { wa_id: Some(wa_id.to_owned()), user_id, name }
    }

    /// The user with this id.
    pub(super) fn with_user_id(&self, user_id: &str) -> User {
        let unknown = || User { wa_id: None, user_id: user_id.to_owned(), name: None };
        self.by_user_id.get(user_id).cloned().unwrap_or_else(unknown)
    }

    /// The user a message goes to; `None` for a group.
    pub(super) fn of(&self, recipient: &Recipient) -> Option<User> {
        match recipient {
            Recipient::Phone(wa_id) => Some(self.with_wa_id(wa_id)),
            Recipient::User(user_id) => Some(self.with_user_id(user_id)),
            Recipient::Group(_) => None,
        }
    }

    /// Remembers what a message showed of its sender.
    pub(super) fn learn(&mut self, user: &User) {
        if self.by_user_id.len() >= REMEMBERED_MAX {
            self.by_user_id.clear();
            self.user_ids.clear();
        }
        if let Some(wa_id) = &user.wa_id {
            self.user_ids.insert(wa_id.clone(), user.user_id.clone());
        }
        self.by_user_id.insert(user.user_id.clone(), user.clone());
    }

    /// Opens the window of this user with this number, or keeps it open longer.
    pub(super) fn open_window(&mut self, phone_number_id: &str, user_id: &str, time: SystemTime) {
        if self.last_inbound.len() >= REMEMBERED_MAX {
            self.last_inbound.clear();
        }
        let key = (phone_number_id.to_owned(), user_id.to_owned());
        let last = self.last_inbound.entry(key).or_insert(time);
        *last = time.max(*last);
    }

    /// Whether this number may send free-form messages to this user.
    pub(super) fn is_window_open(&self, phone_number_id: &str, user_id: &str, now: SystemTime) -> bool {
        let key = (phone_number_id.to_owned(), user_id.to_owned());
        self.last_inbound.get(&key).is_some_and(|last| now < *last + WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_open_for_a_day_per_number_and_user() {
        let mut users = Users::default();
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_750_000_000);
        users.open_window("1", "US.1", start);
        users.open_window("1", "US.1", start - Duration::from_mins(1));
        for (number, user, after, expected) in [
            ("1", "US.1", 0, true),
            ("1", "US.1", 24 * 3600 - 1, true),
            ("1", "US.1", 24 * 3600, false),
            ("2", "US.1", 0, false),
            ("1", "US.2", 0, false),
        ] {
            let now = start + Duration::from_secs(after);
            assert_eq!(users.is_window_open(number, user, now), expected, "{number} {user} {after}");
        }
    }

    #[test]
    fn a_hidden_number_stays_hidden_and_a_known_one_is_found_both_ways() {
        let mut users = Users::default();
        users.learn(&User { wa_id: None, user_id: "US.1".to_owned(), name: Some("Sheena".to_owned()) });
        assert_eq!(users.with_user_id("US.1").wa_id, None);
        let known = User { wa_id: Some("16505551234".to_owned()), user_id: "US.2".to_owned(), name: None };
        users.learn(&known);
        assert_eq!(users.with_wa_id("16505551234"), known);
        assert_eq!(users.with_user_id("US.2"), known);
        assert!(users.with_wa_id("16505550000").user_id.starts_with("US."));
    }
}
