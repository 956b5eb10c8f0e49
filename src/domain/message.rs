//! What a caller wants to send, and what came of it.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::ids::{BusinessScopedUserId, GroupId, InvalidId, MessageId, PhoneNumberId, WaId};
use super::value::Value;

/// Characters of `callback_data` at most; Meta's field holds 512 (reference 2.1) and our tag takes 26.
pub const CALLBACK_DATA_CHARS_MAX: usize = 480;

/// Whom a message goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipient {
    /// A phone number; goes to Meta as `+digits` (reference 1.4, rule 1).
    PhoneNumber(PhoneNumber),
    /// A business-scoped user id.
    User(BusinessScopedUserId),
    /// A group.
    Group(GroupId),
}

/// A user's phone number in international form. Personal data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhoneNumber(WaId);

impl PhoneNumber {
    /// Reads a number as people write it: spaces, `-`, `(`, `)` and `.` are stripped, a leading `00` becomes
    /// `+`, and digits alone count as international. A single leading 0 is a national form and refused,
    /// because Meta would guess its country (reference 1.4, rule 1).
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let bare: String = text.chars().filter(|c| !matches!(c, ' ' | '-' | '(' | ')' | '.')).collect();
        let digits = bare.strip_prefix('+').or_else(|| bare.strip_prefix("00")).unwrap_or(&bare);
        if digits.starts_with('0') {
            return Err(InvalidId(
                "the number starts with 0, which is a national form; write it with its country code, as in \
                 +16505551234"
                    .to_owned(),
            ));
        }
        if !(7..=15).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(InvalidId(
                "a phone number is 7 to 15 digits with its country code, as in +16505551234".to_owned(),
            ));
        }
        Ok(Self(WaId::parse(digits)?))
    }

    /// The digits without `+`.
    pub fn digits(&self) -> &str {
        self.0.expose()
    }

    /// `+` and the digits.
    pub fn international(&self) -> String {
        format!("+{}", self.0.expose())
    }
}

/// The content of a message.
#[derive(Clone, PartialEq)]
pub struct Content {
    /// Meta's `type`, such as `text`; names the sibling field that `body` fills.
    pub kind: String,
    /// What stands in the sibling field.
    pub body: Value,
    /// Further top-level fields beside the sibling, such as those of Direct Send.
    pub extra: Vec<(String, Value)>,
    /// Whether the caller wrote it as Meta's JSON, so that its fields have Meta's paths.
    pub is_raw: bool,
}

shown!(Content { kind, is_raw });

impl Content {
    /// Whether this may go out only while the customer service window is open (reference 7, rule 3).
    /// Templates go out at any time; so does Direct Send, which carries a `category` other than `service`.
    pub fn is_free_form(&self) -> bool {
        let category = self.extra.iter().find(|(name, _)| name == "category");
        self.kind != "template" && category.is_none_or(|(_, word)| word.as_str() == Some("service"))
    }
}

/// Which of Meta's endpoints takes a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Endpoint {
    /// The Cloud API's.
    #[default]
    Messages,
    /// The Marketing Messages API's, for marketing templates alone.
    MarketingMessages,
}

/// A message to be sent.
#[derive(Clone, PartialEq)]
pub struct OutboundMessage {
    /// The business number that sends.
    pub phone_number_id: PhoneNumberId,
    /// Whom it goes to.
    pub recipient: Recipient,
    /// The message it quotes.
    pub reply_to: Option<MessageId>,
    /// The caller's text that comes back on every status; at most [`CALLBACK_DATA_CHARS_MAX`] characters.
    pub callback_data: String,
    /// What it says.
    pub content: Content,
    /// Where it is sent.
    pub endpoint: Endpoint,
}

shown!(OutboundMessage { phone_number_id, recipient, reply_to, content, endpoint });

/// A message in the very text that goes to Meta, so that every attempt of a send is the same.
#[derive(Clone, PartialEq, Eq)]
pub struct PreparedMessage {
    /// The business number that sends.
    pub phone_number_id: PhoneNumberId,
    /// Whom it goes to.
    pub recipient: Recipient,
    /// Where it is sent.
    pub endpoint: Endpoint,
    /// Meta's JSON, the tag included.
    pub json: String,
}

shown!(PreparedMessage { phone_number_id, recipient, endpoint });

/// What to do with a send that nothing proves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnUnknown {
    /// Say so, and wait for a status.
    #[default]
    Report,
    /// Send it again after a silence without any status; it may reach a person twice.
    Resend,
}

/// What a successful send returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The id that Meta gave the message.
    pub message_id: MessageId,
    /// Whether Meta sends it now or holds it.
    pub acceptance: MessageAcceptance,
    /// The recipient as Meta resolved it; `None` when its answer names none.
    pub recipient: Option<Recipient>,
    /// When the answer came.
    pub accept_time: SystemTime,
}

/// What Meta says of an accepted message (`message_status`, reference 2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageAcceptance {
    /// On its way.
    Accepted,
    /// Held while Meta assesses the template's quality.
    HeldForQualityAssessment,
    /// Paused with its template.
    Paused,
}

/// Our tag in `biz_opaque_callback_data`: names the send, so that a status settles it even when Meta's answer
/// was lost. On the wire it stands before the caller's data: `g1.<22 characters>.<callback_data>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SendTag(String);

const TAG_PREFIX: &str = "g1.";

impl SendTag {
    /// Characters of a tag.
    pub const LENGTH: usize = 22;

    /// Wraps 22 characters of the URL-safe base64 alphabet.
    pub fn parse(id: &str) -> Result<Self, InvalidId> {
        let is_url_safe = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if id.len() == Self::LENGTH && id.bytes().all(is_url_safe) {
            Ok(Self(id.to_owned()))
        } else {
            Err(InvalidId("a send tag is 22 characters of URL-safe base64".to_owned()))
        }
    }

    /// The 22 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag of a new send: 16 bytes that no other has, whose last bit says whether the trace of the send is exported.
    pub fn of_bytes(mut bytes: [u8; 16], is_traced: bool) -> Self {
        bytes[15] = bytes[15] & !1 | u8::from(is_traced);
        Self(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Whether the trace of the send was exported, so that its context may be kept. Of tags that are not ours it says
    /// nothing.
    pub fn is_traced(&self) -> bool {
        // The last character holds the last two bits of the last byte.
        self.0.ends_with(['Q', 'w'])
    }

    /// The value for Meta's field.
    pub fn wrap(&self, callback_data: &str) -> String {
        format!("{TAG_PREFIX}{}.{callback_data}", self.0)
    }

    /// Splits what Meta returned into our tag and the caller's data. A value that another application wrote
    /// has no tag and passes untouched.
    pub fn unwrap_from(opaque: &str) -> (Option<SendTag>, &str) {
        let parts = opaque.strip_prefix(TAG_PREFIX).and_then(|rest| rest.split_once('.'));
        match parts.map(|(id, data)| (Self::parse(id), data)) {
            Some((Ok(tag), data)) => (Some(tag), data),
            Some((Err(_), _)) | None => (None, opaque),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phone_numbers_are_normalized() {
        let cases = [
            ("+16505551234", "16505551234"),
            ("+1 (650) 555-1234", "16505551234"),
            ("0049.170.1234567", "491701234567"),
            ("16505551234", "16505551234"),
        ];
        for (text, digits) in cases {
            assert_eq!(PhoneNumber::parse(text).unwrap().digits(), digits, "{text}");
        }
        for bad in
            ["", "+", "0170 1234567", "+0170123456", "123456", "1234567890123456", "+1650555x", "++1650"]
        {
            assert!(PhoneNumber::parse(bad).is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn a_tag_says_whether_its_send_is_traced() {
        for last in 0..=255 {
            let mut bytes = [0x9d; 16];
            bytes[15] = last;
            for is_traced in [false, true] {
                let tag = SendTag::of_bytes(bytes, is_traced);
                assert_eq!(tag.is_traced(), is_traced, "{tag:?}");
                assert_eq!(SendTag::parse(tag.as_str()), Ok(tag));
            }
        }
    }

    #[test]
    fn tags_wrap_and_unwrap() {
        let tag = SendTag::parse("AZ3kq0p2cXKkzqv1b5c-_w").unwrap();
        let opaque = tag.wrap("order=4521.x");
        assert_eq!(SendTag::unwrap_from(&opaque), (Some(tag), "order=4521.x"));
        for foreign in ["order=4521", "g1.short.x", "", "g1.AZ3kq0p2cXKkzqv1b5c-_w"] {
            assert_eq!(SendTag::unwrap_from(foreign), (None, foreign));
        }
    }
}
