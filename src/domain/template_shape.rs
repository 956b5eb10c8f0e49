//! What a template takes from a message that uses it, and whether a message gives that.
//!
//! Only what is known without doubt counts. What is unknown on either side takes anything: Meta judges it anyway.

mod fit;

/// One language of a template, as far as sends depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateShape {
    /// Meta's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Language code.
    pub language: String,
    /// Meta's word, such as `APPROVED`.
    pub status: String,
    /// What its parts take; `None` if the template has a part that is not known.
    pub parts: Option<Parts>,
}

/// What the parts of a template take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// Outside of cards.
    pub slots: Slots,
    /// Whether it has a limited-time offer.
    pub has_offer: bool,
    /// The carousel.
    pub cards: Cards,
}

/// What header, body and buttons take, those of a template or of a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slots {
    /// The header.
    pub header: Header,
    /// The body; no variables if there is none.
    pub body: Variables,
    /// The buttons in order.
    pub buttons: Vec<Button>,
}

/// What a header takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Header {
    /// There is none.
    Absent,
    /// A text.
    Text(Variables),
    /// Exactly one parameter of this type, such as `image`.
    One(&'static str),
    /// Not known.
    Unknown,
}

/// The variables of a text (reference 3.11).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Variables {
    /// So many, matched by order.
    Numbered(usize),
    /// Matched by name.
    Named(Vec<String>),
    /// Not known.
    Unknown,
}

/// A button.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Button {
    /// Of this kind.
    Known {
        /// How a message calls it, such as `quick_reply`.
        sub_type: &'static str,
        /// The type of its one parameter, where there is only one that it takes.
        takes: Option<&'static str>,
        /// Whether the template cannot be sent without.
        is_required: bool,
    },
    /// Of a kind that is not known.
    Unknown,
}

/// The cards of a carousel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cards {
    /// There is no carousel.
    Absent,
    /// Exactly these.
    Each(Vec<Slots>),
    /// Any number of this kind: Meta is given two product cards and may be sent up to ten (reference 2.4.5).
    Any(Slots),
    /// Not known.
    Unknown,
}
