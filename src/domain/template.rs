//! What the gateway says of message templates.

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
