//! One normalized fact out of a webhook.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use super::caller::Caller;
use super::conversation::UserIdentity;
use super::failure::{Actor, Failure, Reason, Verdict};
use super::ids::PhoneNumberId;
use super::message::{Receipt, SendTag};
use super::number_health::Notice;
use super::window::Moment;

/// The identity of an event: a hash of its dedupe key, so that it is the same on every engine and every
/// redelivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventId(pub [u8; 16]);

impl fmt::Display for EventId {
    /// 32 lower-case hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What subscribers may filter by.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct EventAttributes {
    /// `whatsapp.message.received`, `whatsapp.message.status`, `whatsapp.error`, `whatsapp.<field>` or
    /// `whatsapp.unknown`.
    pub event_type: String,
    /// The business number; empty for events of an account.
    pub phone_number_id: String,
    /// The WABA; empty when the body names none.
    pub waba_id: String,
    /// The conversation; the WABA id for events of an account.
    pub conversation_key: String,
}

shown!(EventAttributes { event_type, phone_number_id, waba_id });

/// Where in its POST an event stood. The events of one POST together rebuild its JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// Names the POST: 32 hexadecimal digits of the SHA-256 of its body.
    pub webhook_id: String,
    /// Position among the events of the POST, from 0.
    pub item_index: u32,
    /// How many events the POST has.
    pub item_count: u32,
    /// Position of the entry; absent when the whole body is one event.
    pub entry_index: Option<u32>,
    /// Position of the change in its entry; absent when the entry has no change.
    pub change_index: Option<u32>,
    /// The array of the value from which the item was split: `messages`, `statuses`, `errors`; empty when the
    /// value was not split.
    pub array: &'static str,
    /// Position in that array.
    pub array_index: u32,
}

/// What an event says. The typed form is read out of the exact JSON by name, when the event is encoded.
#[derive(Clone, PartialEq, Eq)]
pub enum Payload {
    /// A user's message. `contact` is the JSON of the sender's element of `contacts`.
    Message {
        /// JSON text.
        contact: Option<String>,
    },
    /// A status of a message that the business sent. `contact` as above, of the recipient.
    Status {
        /// JSON text.
        contact: Option<String>,
    },
    /// An error that belongs to no message.
    Error,
    /// The whole value of another webhook field.
    Field {
        /// Meta's name of the field whose form the value has.
        name: String,
        /// The verdicts on the errors anywhere in the value, by Meta's code.
        verdicts: Vec<(i64, Verdict)>,
    },
    /// What became of a fallback template.
    Fallback(FallbackReport),
    /// A business number cannot send, or can again.
    Number(NumberReport),
    /// What became of a queued message.
    Send(Box<SendReport>),
    /// What the gateway does not know, and why it thinks so.
    Unknown {
        /// One sentence, without content.
        reason: String,
        /// The bytes of a body that is not JSON in UTF-8; empty for everything else.
        body: Vec<u8>,
    },
}

impl fmt::Debug for Payload {
    /// Which one, and of webhooks nothing else.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message { .. } => f.write_str("Message"),
            Self::Status { .. } => f.write_str("Status"),
            Self::Error => f.write_str("Error"),
            Self::Field { name, .. } => write!(f, "Field({name:?})"),
            Self::Fallback(report) => report.fmt(f),
            Self::Number(report) => report.fmt(f),
            Self::Send(report) => report.fmt(f),
            Self::Unknown { reason, .. } => write!(f, "Unknown({reason:?})"),
        }
    }
}

/// One event, ready to be encoded and appended.
#[derive(Clone, PartialEq)]
pub struct Event {
    /// Its identity.
    pub id: EventId,
    /// What subscribers filter by.
    pub attributes: EventAttributes,
    /// What it is about: a message id, or empty.
    pub subject: String,
    /// When it happened, by Meta's clock.
    pub event_time: Option<SystemTime>,
    /// When the gateway took it in.
    pub receive_time: SystemTime,
    /// Where it stood in its POST.
    pub origin: Origin,
    /// What it says.
    pub payload: Payload,
    /// Whom it concerns, for the conversation key; nobody in groups.
    pub user: UserIdentity,
    /// The verdicts on the errors of the item, in their order.
    pub verdicts: Vec<Verdict>,
    /// The exact text of the item; of the whole `value` where nothing was split.
    pub raw_json: String,
    /// The body around the item: one entry, one change, and the `value` without the split arrays.
    pub change_json: Arc<str>,
}

shown!(Event { id, attributes, event_time, receive_time, origin, payload, user, verdicts });

impl Event {
    /// The business number, when the event names a valid one.
    pub fn phone_number_id(&self) -> Option<PhoneNumberId> {
        PhoneNumberId::parse(&self.attributes.phone_number_id).ok()
    }
}

/// The type of a user's message.
pub const MESSAGE_RECEIVED: &str = "whatsapp.message.received";
/// The type of a status of a message that the business sent.
pub const MESSAGE_STATUS: &str = "whatsapp.message.status";
/// The type of calls.
pub const CALLS: &str = "whatsapp.calls";
/// The beginning of the types of what happens to templates.
pub const TEMPLATES: [&str; 2] = ["whatsapp.message_template_", "whatsapp.template_"];
/// The type of what happens in a conversation that another application owns.
pub const STANDBY: &str = "whatsapp.standby";
/// The type of what became of a fallback template; the gateway's own.
pub const FALLBACK: &str = "whatsapp.gateway.fallback";
/// The type of what became of a business number; the gateway's own.
pub const NUMBER: &str = "whatsapp.gateway.number";

/// What became of a template that went out because Meta had failed the message (131047).
#[derive(Clone, PartialEq, Eq)]
pub struct FallbackReport {
    /// Names the send of both.
    pub send_tag: SendTag,
    /// The message that failed.
    pub failed_message_id: String,
    /// What became of the template.
    pub outcome: FallbackOutcome,
}

shown!(FallbackReport { send_tag, outcome });

/// What became of a fallback template.
#[derive(Clone, PartialEq, Eq)]
pub enum FallbackOutcome {
    /// Meta accepted it under this message id.
    Accepted(String),
    /// It was not sent and will not be: the reason, and a sentence.
    Failed(Reason, String),
    /// It may have been sent: the sentence says why nobody knows.
    Unknown(String),
}

impl fmt::Debug for FallbackOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted(_) => f.write_str("Accepted"),
            Self::Failed(reason, _) => write!(f, "Failed({reason:?})"),
            Self::Unknown(_) => f.write_str("Unknown"),
        }
    }
}

/// A business number cannot send, or can again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberReport {
    /// Whether it cannot send.
    pub is_parked: bool,
    /// Why it cannot, or could not.
    pub reason: Reason,
    /// Who must act, or had to.
    pub actor: Actor,
    /// The code with which Meta said so, if it was a code.
    pub code: Option<i64>,
    /// What happened and what ends it, in a sentence.
    pub description: String,
}

/// The type of what became of a queued message; the gateway's own.
pub const SEND: &str = "whatsapp.gateway.send";

/// What became of a message that was queued.
#[derive(Clone, PartialEq, Eq)]
pub struct SendReport {
    /// Names the send.
    pub send_tag: SendTag,
    /// The id under which it was queued.
    pub request_id: String,
    /// Whose id that is.
    pub caller: Caller,
    /// What became of it.
    pub outcome: SendOutcome,
    /// Whether the fallback template went out in its place.
    pub used_fallback: bool,
    /// The caller's text.
    pub callback_data: String,
    /// When it was queued.
    pub queue_time: SystemTime,
}

shown!(SendReport { send_tag, request_id, caller, outcome, used_fallback, queue_time });

/// The end of a queued send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendOutcome {
    /// Meta accepted it.
    Accepted(Receipt),
    /// Certainly nothing went out.
    Refused(Failure),
    /// It may have gone out.
    Unknown(Failure),
    /// Its time ran out; nothing went out.
    Expired(Failure),
}

/// What those who follow the log need to know of a stored event.
#[derive(Clone, PartialEq, Eq)]
pub enum Fact {
    /// It concerns a user, or a message in a group.
    Concerns {
        /// The business number.
        phone_number_id: PhoneNumberId,
        /// The conversation.
        conversation_key: String,
        /// The names of the user; none in groups.
        user: UserIdentity,
        /// What else it changes.
        moved: Moved,
    },
    /// Something happened to a template.
    Template {
        /// The WABA.
        waba_id: String,
        /// The name of the template; empty if the event does not say.
        name: String,
    },
    /// It concerns an account or a number as a whole.
    Account(Box<Notice>),
    /// Nothing that anybody follows.
    Other,
}

impl fmt::Debug for Fact {
    /// Without the conversation, whose key has the user's number in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Concerns { phone_number_id, moved, .. } => {
                write!(f, "Concerns({phone_number_id}, {moved:?})")
            }
            Self::Template { waba_id, name } => write!(f, "Template({waba_id}, {name:?})"),
            Self::Account(notice) => notice.fmt(f),
            Self::Other => f.write_str("Other"),
        }
    }
}

/// What an event changes besides the names of its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moved {
    /// The user wrote or called.
    Window(Moment),
    /// A message of ours got a status.
    Message(Box<StatusReport>),
    /// Nothing.
    Nothing,
}

/// A status of a message that the business sent.
#[derive(Clone, PartialEq, Eq)]
pub struct StatusReport {
    /// The message.
    pub message_id: String,
    /// Meta's word.
    pub status: String,
    /// When, by Meta's clock; not later than it was received.
    pub time: SystemTime,
    /// Names the send of this gateway; `None` for messages that another application sent.
    pub send_tag: Option<SendTag>,
    /// The first error that Meta names, as with `failed`.
    pub error: Option<MessageError>,
    /// The end of the free entry point, which comes with `sent` while one is open.
    pub free_entry_until: Option<SystemTime>,
}

shown!(StatusReport { status, time, send_tag, error, free_entry_until });

/// What Meta says of a message that failed after it was accepted (reference 4.5).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageError {
    /// Meta's code.
    pub code: i64,
    /// A short text.
    pub title: String,
    /// `error_data.details`, else `message`, unless it says the same as the title.
    pub details: String,
}

shown!(MessageError { code });

impl StatusReport {
    /// What the status says of the windows of its conversation.
    pub fn moment(&self) -> Option<Moment> {
        let answered = (self.status == "sent").then_some(Moment::Answered(self.time));
        self.free_entry_until.map(Moment::FreeEntryUntil).or(answered)
    }

    /// Whether Meta failed the message because the customer service window is closed.
    pub fn is_window_closed(&self) -> bool {
        self.error.as_ref().is_some_and(|error| error.code == WINDOW_CLOSED)
    }
}

/// The code of a message that needed an open window (reference 5.5).
const WINDOW_CLOSED: i64 = 131_047;
