//! A row: a fault, what its caller must see, and what Meta does of its own accord.

use serde_json::Value;
use tonic::Code;

/// Over the columns that a row prints.
pub const HEADINGS: &str = "fault | the caller sees | Meta saw: requests, accepted | the same request_id again | \
                            Meta saw in all | webhooks, events | in the end";

/// One fault.
#[derive(Debug)]
pub struct Row {
    pub name: String,
    /// A magic recipient; nothing for an ordinary one of the row's own.
    pub to: Option<String>,
    pub fault: Option<Value>,
    pub said: Said,
    /// Something that must stand in the message of a refusal.
    pub words: &'static str,
    /// Requests of the first call that reach Meta.
    pub posts: usize,
    /// Whether Meta accepts the first call.
    pub is_accepted: bool,
    /// Whether the refusal is the recipient's nature, so that it comes each time.
    pub is_lasting: bool,
    /// The statuses of the accepted message, in the order in which they arrive.
    pub life: &'static [&'static str],
    /// Why it fails, if its life is that.
    pub failure: Option<Failure>,
    /// In how many POSTs they come.
    pub webhooks: usize,
}

/// What the caller of the first call must see.
#[derive(Debug, Clone)]
pub enum Said {
    Accepted,
    Held,
    Unknown,
    Refused(Refused),
}

/// A refusal, as far as it is laid down.
#[derive(Debug, Clone)]
pub struct Refused {
    pub code: Code,
    /// Nothing where any reason will do.
    pub reason: Option<&'static str>,
    /// Empty where anybody may have to act.
    pub actors: &'static [&'static str],
    pub delay: Delay,
}

/// What `RetryInfo` must say, in seconds.
#[derive(Debug, Clone, Copy)]
pub enum Delay {
    None,
    Exactly(u64),
    AtLeast(u64),
}

/// What an event must say of a failed message.
#[derive(Debug, Clone)]
pub struct Failure {
    pub code: u32,
    pub reason: &'static str,
    pub actors: &'static [&'static str],
}

pub const USUAL_LIFE: &[&str] = &["sent", "delivered", "read"];
pub const FAILED: &[&str] = &["failed"];

fn row(name: &str, fault: Option<Value>, said: Said, is_accepted: bool) -> Row {
    // What is refused is sent anew later.
    let is_sent = is_accepted || matches!(said, Said::Refused(_));
    let life = if is_sent { USUAL_LIFE } else { &[] };
    Row {
        name: name.to_owned(),
        to: None,
        fault,
        said,
        words: "",
        posts: 1,
        is_accepted,
        is_lasting: false,
        life,
        failure: None,
        webhooks: life.len(),
    }
}

/// The caller sees a success.
pub fn accepted(name: &str, fault: Value) -> Row {
    row(name, Some(fault), Said::Accepted, true)
}

/// The caller sees that nobody knows, and Meta has accepted it.
pub fn unknown_though_accepted(name: &str, fault: Value) -> Row {
    row(name, Some(fault), Said::Unknown, true)
}

/// The caller sees that nobody knows, and Meta has not accepted it.
pub fn unknown(name: &str, fault: Value) -> Row {
    row(name, Some(fault), Said::Unknown, false)
}

/// The caller sees a refusal.
pub fn refused(name: &str, fault: Value, refused: Refused) -> Row {
    row(name, Some(fault), Said::Refused(refused), false)
}

/// Meta does this to whatever is sent to this recipient.
pub fn magic(name: &str, number: &str, said: Said, life: &'static [&'static str]) -> Row {
    let row = row(name, None, said, !life.is_empty());
    let is_lasting = matches!(row.said, Said::Refused(_));
    Row { is_lasting, ..row }.to(number).life(life)
}

impl Row {
    pub fn to(self, number: &str) -> Self {
        Self { to: Some(number.to_owned()), ..self }
    }

    pub fn posts(self, posts: usize) -> Self {
        Self { posts, ..self }
    }

    pub fn words(self, words: &'static str) -> Self {
        Self { words, ..self }
    }

    pub fn life(self, life: &'static [&'static str]) -> Self {
        Self { life, webhooks: life.len(), ..self }
    }

    pub fn fails(self, failure: Failure) -> Self {
        Self { failure: Some(failure), ..self.life(FAILED) }
    }

    pub fn webhooks(self, webhooks: usize) -> Self {
        Self { webhooks, ..self }
    }
}
