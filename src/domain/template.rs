//! What the gateway says of message templates.

use std::time::SystemTime;

use super::value::Value;

/// What to do with the templates of a WABA. Bodies are Meta's JSON (reference 2.4.1, 2.4.2).
#[derive(Debug, Clone, PartialEq)]
pub enum TemplateAction {
    /// Read one, by Meta's id.
    Get(String),
    /// Read a page.
    List(TemplateQuery),
    /// Create one.
    Create {
        /// Its name, to find it again after a lost answer.
        name: String,
        /// Its language.
        language: String,
        /// Meta's body.
        body: Value,
    },
    /// Edit one.
    Edit {
        /// Meta's id.
        template_id: String,
        /// Meta's body.
        body: Value,
    },
    /// Delete some.
    Delete(Deletion),
    /// Create or change an authentication template in several languages.
    Upsert {
        /// Meta's body.
        body: Value,
    },
    /// Read a page of the library.
    Library(LibraryQuery),
    /// Archive these, by Meta's ids.
    Archive(Vec<String>),
    /// Take these out of the archive.
    Unarchive(Vec<String>),
    /// Compare two.
    Compare {
        /// One id.
        template_id: String,
        /// The other.
        other_template_id: String,
        /// Days before now: 7, 30, 60 or 90.
        window_days: u32,
    },
    /// Copy from another WABA.
    Migrate {
        /// Meta's body.
        body: Value,
    },
    /// Unpause one, by Meta's id.
    Unpause(String),
    /// Read Meta's texts of authentication templates.
    Preview(PreviewQuery),
}

impl TemplateAction {
    /// The name of the action in the contract.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Get(_) => "get",
            Self::List(_) => "list",
            Self::Create { .. } => "create",
            Self::Edit { .. } => "edit",
            Self::Delete(_) => "delete",
            Self::Upsert { .. } => "upsert",
            Self::Library(_) => "library",
            Self::Archive(_) => "archive",
            Self::Unarchive(_) => "unarchive",
            Self::Compare { .. } => "compare",
            Self::Migrate { .. } => "migrate",
            Self::Unpause(_) => "unpause",
            Self::Preview(_) => "preview",
        }
    }

    /// Whether it only reads, so that repeating it does no harm.
    pub fn is_read(&self) -> bool {
        match self {
            Self::Get(_) | Self::List(_) | Self::Library(_) | Self::Compare { .. } | Self::Preview(_) => true,
            Self::Create { .. }
            | Self::Edit { .. }
            | Self::Delete(_)
            | Self::Upsert { .. }
            | Self::Archive(_)
            | Self::Unarchive(_)
            | Self::Migrate { .. }
            | Self::Unpause(_) => false,
        }
    }
}

/// What to delete (reference 2.4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deletion {
    /// All languages of a name.
    Name(String),
    /// One language of a name.
    One {
        /// The name.
        name: String,
        /// Meta's id.
        template_id: String,
    },
    /// Up to 100 ids, all or none.
    Ids(Vec<String>),
}

/// Which templates of the library to list; an empty text filters nothing (reference 2.4.7).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LibraryQuery {
    /// Part of name or text.
    pub search: String,
    /// Such as `ORDER_MANAGEMENT`.
    pub topic: String,
    /// Such as `DELIVERY_UPDATE`.
    pub usecase: String,
    /// Such as `E_COMMERCE`.
    pub industry: String,
    /// Language code.
    pub language: String,
    /// Exact name.
    pub name: String,
    /// Templates a page; 0 leaves it to Meta.
    pub page_size: u32,
    /// Where the page starts; empty for the first.
    pub page_token: String,
}

/// Which texts of authentication templates to preview (reference 2.4.2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PreviewQuery {
    /// Language codes; empty for all.
    pub languages: Vec<String>,
    /// Whether to say that the code is to be kept secret.
    pub add_security_recommendation: Option<bool>,
    /// How long a code is good, 1 to 90.
    pub code_expiration_minutes: Option<u32>,
}

/// What became of a [`TemplateAction`] of the same name.
#[derive(Debug, Clone, PartialEq)]
pub enum TemplateOutcome {
    /// The template.
    Get(Template),
    /// A page.
    List(TemplatePage),
    /// What Meta made of a new one.
    Create(CreatedTemplate),
    /// Accepted.
    Edit,
    /// Done.
    Delete,
    /// What Meta made of each language.
    Upsert(Vec<UpsertedTemplate>),
    /// A page of the library.
    Library(TemplatePage),
    /// What became of each.
    Archive(Partial),
    /// What became of each.
    Unarchive(Partial),
    /// The figures.
    Compare(Comparison),
    /// What became of each.
    Migrate(Partial),
    /// Whether Meta did it, and what it said.
    Unpause {
        /// Whether it is done.
        is_unpaused: bool,
        /// Meta's words; may be empty.
        reason: String,
    },
    /// Meta's answer, a list of texts, as JSON; the typed view is read out of it by name.
    Preview(Vec<String>),
}

/// What Meta made of a new template.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreatedTemplate {
    /// Meta's id.
    pub id: String,
    /// Such as `PENDING`.
    pub status: String,
    /// The category that Meta has given it.
    pub category: String,
}

/// What Meta made of one language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpsertedTemplate {
    /// Meta's id.
    pub id: String,
    /// Language code.
    pub language: String,
    /// Such as `APPROVED`.
    pub status: String,
}

/// Done for some, failed for others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Partial {
    /// Ids for which it is done.
    pub done: Vec<String>,
    /// Ids for which it is not, each with Meta's reason.
    pub failed: Vec<(String, String)>,
}

/// The figures of two templates (reference 2.4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// Start of the window.
    pub start: SystemTime,
    /// End of the window.
    pub end: SystemTime,
    /// Ids, the one that fewer users block first.
    pub by_block_rate: Vec<String>,
    /// How often each was sent.
    pub message_sends: Vec<(String, i64)>,
    /// Why most users block each.
    pub top_block_reason: Vec<(String, String)>,
}

/// One template as Meta describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// Meta's id.
    pub id: String,
    /// Meta's description, exact JSON text; the typed view is read out of it by name.
    pub json: String,
}

/// Which templates to list; an empty text filters nothing (reference 2.4.2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TemplateQuery {
    /// Exact name.
    pub name: String,
    /// Language code.
    pub language: String,
    /// Review status, such as `APPROVED`.
    pub status: String,
    /// Category, such as `UTILITY`.
    pub category: String,
    /// Part of the text.
    pub content: String,
    /// Quality, such as `GREEN`.
    pub quality_score: String,
    /// Templates a page, 1 to 100; 0 leaves it to Meta (25).
    pub page_size: u32,
    /// Where the page starts; empty for the first.
    pub page_token: String,
}

/// One page of templates.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TemplatePage {
    /// The templates.
    pub templates: Vec<Template>,
    /// Where the next page starts; empty at the end.
    pub next_page_token: String,
}
