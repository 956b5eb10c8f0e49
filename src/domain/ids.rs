//! Identifiers, each its own type so that one cannot stand for another.
//!
//! Ids that Meta hands out are opaque here: they are kept as they came and only checked for what would break
//! a URL or a log. Personal data ([`WaId`], [`BusinessScopedUserId`], [`MessageId`]) masks itself when printed for people.

use std::fmt;

/// Why a text is not the identifier it should be. The text itself is not repeated: it may be personal data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidId(pub String);

macro_rules! decimal_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// Accepts 1 to 32 decimal digits (reference 1.5).
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                let is_decimal = (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
                if is_decimal {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(InvalidId(concat!($what, " is a string of 1 to 32 decimal digits").to_owned()))
                }
            }

            /// The id as Meta writes it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

decimal_id! {
    /// Meta's id of a business phone number. Not the number itself.
    PhoneNumberId, "a phone number id"
}
decimal_id! {
    /// A WhatsApp Business Account (WABA).
    WabaId, "a WABA id"
}
decimal_id! {
    /// A Meta app; it owns the app secret that signs webhooks.
    AppId, "an app id"
}
decimal_id! {
    /// A file that Meta keeps for a business number.
    MediaId, "a media id"
}

/// The id of one WhatsApp message (`wamid.…`); opaque, at most 512 bytes of printable ASCII. Personal data: the number of
/// the user can be read out of it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct MessageId(String);

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MessageId(masked)")
    }
}

impl MessageId {
    /// Accepts 1 to 512 bytes of printable ASCII without spaces. Old ids lack the `wamid.` prefix
    /// (reference 1.5), so it is not required.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        if (1..=512).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidId("a message id is 1 to 512 printable ASCII characters without spaces".to_owned()))
        }
    }

    /// The id as Meta writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A user's WhatsApp id: E.164 digits without `+`. Personal data.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct WaId(String);

impl WaId {
    /// Accepts 5 to 20 decimal digits.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        if (5..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidId("a wa_id is 5 to 20 decimal digits".to_owned()))
        }
    }

    /// The digits. Searchable on purpose: every use shows personal data to somebody.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for WaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WaId(masked)")
    }
}

/// A business-scoped user id (BSUID), such as `US.13491208655302741918`; a parent BSUID has `ENT` in the
/// middle (reference 1.4). Names a user whose number is hidden. Personal data.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BusinessScopedUserId(String);

impl BusinessScopedUserId {
    /// Accepts `CC.id` and `CC.ENT.id`: two capitals, then 1 to 128 letters or digits (reference 1.4).
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let rule =
            "a user id is two capital letters, a dot, optionally `ENT.`, then 1 to 128 letters or digits";
        let is_valid = text.split_once('.').is_some_and(|(country, rest)| {
            let id = rest.strip_prefix("ENT.").unwrap_or(rest);
            country.len() == 2
                && country.bytes().all(|b| b.is_ascii_uppercase())
                && (1..=128).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_alphanumeric())
        });
        if is_valid { Ok(Self(text.to_owned())) } else { Err(InvalidId(rule.to_owned())) }
    }

    /// The id. Searchable on purpose: every use shows personal data to somebody.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for BusinessScopedUserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BusinessScopedUserId(masked)")
    }
}

/// A WhatsApp group; opaque.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct GroupId(String);

impl fmt::Debug for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GroupId(masked)")
    }
}

impl GroupId {
    /// Accepts 1 to 256 printable ASCII characters without spaces (reference 1.4, rule 7).
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        if (1..=256).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidId("a group id is 1 to 256 printable ASCII characters without spaces".to_owned()))
        }
    }

    /// The id as Meta writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_ids_are_digits() {
        assert!(PhoneNumberId::parse("106540352242922").is_ok());
        for bad in ["", "12a", "+12", " 12", &"1".repeat(33)] {
            assert!(PhoneNumberId::parse(bad).is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn user_ids_have_a_country_and_an_id() {
        for good in ["US.13491208655302741918", "US.ENT.11815799212886844830", "BR.abcDEF123"] {
            assert!(BusinessScopedUserId::parse(good).is_ok(), "{good} must be accepted");
        }
        for bad in ["", "US", "US.", "us.1", "USA.1", "US.1-2", "US.ENT.", "16505551234"] {
            assert!(BusinessScopedUserId::parse(bad).is_err(), "{bad} must be refused");
        }
    }

    #[test]
    fn personal_data_masks_itself() {
        let shown = format!("{:?}", WaId::parse("16505551234").unwrap());
        assert!(!shown.contains("650"));
        let shown = format!("{:?}", MessageId::parse("wamid.HBgL1650").unwrap());
        assert!(!shown.contains("1650"));
        let shown = format!("{:?}", BusinessScopedUserId::parse("US.1349").unwrap());
        assert!(!shown.contains("1349"));
    }
}
