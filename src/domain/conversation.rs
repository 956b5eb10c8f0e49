//! Which conversation an event belongs to.
//!
//! A conversation is one business number and one user (or group). Its key orders events and addresses windows.
//! A user may be known by phone digits, by a business-scoped user id, or by both, and the two become known at
//! different times; so a key once given to a conversation is remembered under every name of the user and never
//! changes.

use super::ids::{BusinessScopedUserId, PhoneNumberId, WaId};

/// The names under which one event mentions a user; either may be missing (reference 4.3).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserIdentity {
    /// The phone digits.
    pub wa_id: Option<WaId>,
    /// The business-scoped id.
    pub user_id: Option<BusinessScopedUserId>,
}

impl UserIdentity {
    /// Whether no name is known.
    pub fn is_empty(&self) -> bool {
        self.wa_id.is_none() && self.user_id.is_none()
    }
}

/// A name of a user at one business number, under which the key of their conversation is remembered. The text
/// is personal data.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Alias(String);

impl Alias {
    /// The names of `user` at `number`, the stable one first.
    pub fn of(number: &PhoneNumberId, user: &UserIdentity) -> Vec<Self> {
        let user_id = user.user_id.as_ref().map(|id| id.expose().to_owned());
        let digits = user.wa_id.as_ref().map(|id| fold_digits(id.expose()));
        user_id.into_iter().chain(digits).map(|name| Self(format!("{number}:{name}"))).collect()
    }

    /// The text, for storage.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Alias {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Alias(masked)")
    }
}

/// The key of a conversation that is met for the first time: its stable alias, else its digits. A conversation
/// that is already known keeps the key that it has; see [`Alias`].
pub fn first_key(aliases: &[Alias]) -> Option<String> {
    aliases.first().map(|alias| alias.expose().to_owned())
}

/// The key of a group conversation.
pub fn group_key(number: &PhoneNumberId, group_id: &str) -> String {
    format!("{number}:{group_id}")
}

/// Folds the two spellings of Brazilian, Mexican and Argentine mobile numbers into one: Meta adds or drops the
/// mobile prefix (reference 1.4, rule 5).
pub fn fold_digits(digits: &str) -> String {
    let without = |prefix_end: usize| {
        let (head, tail) = digits.split_at_checked(prefix_end).unwrap_or((digits, ""));
        format!("{head}{}", tail.get(1..).unwrap_or(""))
    };
    match digits.as_bytes() {
        [b'5', b'5', _, _, b'9', rest @ ..] if rest.len() == 8 => without(4),
        [b'5', b'2', b'1', rest @ ..] | [b'5', b'4', b'9', rest @ ..] if rest.len() == 10 => without(2),
        _ => digits.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mobile_prefixes_fold() {
        let cases = [
            ("5511987654321", "551187654321"),
            ("551187654321", "551187654321"),
            ("5215512345678", "525512345678"),
            ("525512345678", "525512345678"),
            ("5491123456789", "541123456789"),
            ("16505551234", "16505551234"),
            ("", ""),
        ];
        for (digits, folded) in cases {
            assert_eq!(fold_digits(digits), folded, "{digits}");
        }
    }

    #[test]
    fn the_stable_name_comes_first() {
        let number = PhoneNumberId::parse("1065").unwrap();
        let user = UserIdentity {
            wa_id: Some(WaId::parse("16505551234").unwrap()),
            user_id: Some(BusinessScopedUserId::parse("US.13").unwrap()),
        };
        let aliases = Alias::of(&number, &user);
        assert_eq!(aliases.iter().map(Alias::expose).collect::<Vec<_>>(), ["1065:US.13", "1065:16505551234"]);
        assert_eq!(first_key(&aliases).as_deref(), Some("1065:US.13"));
        assert_eq!(first_key(&[]), None);
    }
}
