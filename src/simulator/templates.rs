//! The templates of every WABA: what each is, and where it stands in its life. Pure state; the rules of
//! creation are in the modules below, the Cloud API's calls about templates in [`super::template_api`].

pub(super) mod authentication;
mod buttons;
mod components;
pub(super) mod creation;
pub(super) mod languages;
pub(super) mod library;
mod text;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

pub(super) use self::text::variables;
use super::unix_seconds;

/// How long the name of a deleted template is blocked.
const NAME_BLOCKED: Duration = Duration::from_hours(30 * 24);
/// After so long an archived template is deleted.
pub(super) const ARCHIVE_KEPT: Duration = Duration::from_hours(28 * 24);
/// After so long without activity a template is archived: 12 months.
pub(super) const INACTIVE_MAX: Duration = Duration::from_hours(365 * 24);
/// An approved template may be edited once in this time,
const EDIT_PAUSE: Duration = Duration::from_hours(24);
/// and so often in the longer one.
const EDITS_MAX: usize = 10;
const EDITS_WINDOW: Duration = Duration::from_hours(30 * 24);
/// Days whose sends are remembered, for comparisons.
const SEND_DAYS: u64 = 91;

/// One template in one language.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Template {
    pub(super) id: u64,
    pub(super) waba_id: String,
    pub(super) name: String,
    pub(super) language: String,
    pub(super) category: String,
    pub(super) status: String,
    pub(super) parameter_format: String,
    pub(super) components: Vec<Value>,
    pub(super) rejected_reason: String,
    pub(super) updated: SystemTime,
    /// What else can be read, as it was given: `message_send_ttl_seconds`, `previous_category`, `source` …
    pub(super) extra: Map<String, Value>,
    pub(super) history: History,
}

/// What happened to a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct History {
    /// Created, edited, sent or unarchived for the last time.
    pub(super) active: SystemTime,
    pub(super) quality: &'static str,
    pub(super) quality_date: Option<u64>,
    /// How often bad quality paused it.
    pub(super) pauses: u32,
    /// Edits while it was approved.
    edits: Vec<SystemTime>,
    /// Accepted sends by day since the epoch.
    sends: BTreeMap<u64, u64>,
    /// How many recipients blocked the business after it, in thousandths of the sends.
    pub(super) block_rate: u64,
    pub(super) top_block_reason: String,
    /// Its status before it was archived, and when that was.
    pub(super) archived: Option<(String, SystemTime)>,
}

impl History {
    fn new(now: SystemTime) -> Self {
        Self {
            active: now,
            quality: "UNKNOWN",
            quality_date: None,
            pauses: 0,
            edits: Vec::new(),
            sends: BTreeMap::new(),
            block_rate: 0,
            top_block_reason: "NO_REASON_GIVEN".to_owned(),
            archived: None,
        }
    }

    /// Counts accepted sends.
    pub(super) fn add_sends(&mut self, count: u64, now: SystemTime) {
        let today = unix_seconds(now) / 86_400;
        self.active = now;
        *self.sends.entry(today).or_default() += count;
        self.sends.retain(|day, _| day + SEND_DAYS > today);
    }

    /// Accepted sends since the day of this moment.
    pub(super) fn sends_since(&self, start: u64) -> u64 {
        self.sends.range(start / 86_400..).map(|(_, count)| count).sum()
    }

    /// Counts an edit of an approved template; says why if there were too many.
    pub(super) fn edit(&mut self, now: SystemTime) -> Result<(), &'static str> {
        self.edits.retain(|edit| now < *edit + EDITS_WINDOW);
        if self.edits.iter().any(|edit| now < *edit + EDIT_PAUSE) {
            return Err("An approved template can be edited once in 24 hours.");
        }
        if self.edits.len() >= EDITS_MAX {
            return Err("An approved template can be edited 10 times in 30 days.");
        }
        self.edits.push(now);
        Ok(())
    }
}

impl Template {
    /// A template of this content that nobody has reviewed.
    pub(super) fn new(id: u64, waba_id: &str, creation: &creation::Creation, now: SystemTime) -> Self {
        Self {
            id,
            waba_id: waba_id.to_owned(),
            name: creation.name.clone(),
            language: creation.language.clone(),
            category: creation.category.clone(),
            status: "PENDING".to_owned(),
            parameter_format: creation.parameter_format.clone(),
            components: creation.components.clone(),
            rejected_reason: "NONE".to_owned(),
            updated: now,
            extra: creation.extra.clone(),
            history: History::new(now),
        }
    }

    /// The template that every new WABA has.
    pub(super) fn hello_world(id: u64, waba_id: &str, created: SystemTime) -> Self {
        let text = "Welcome and congratulations! This message shows that your business can send templates.";
        let creation = creation::Creation {
            name: "hello_world".to_owned(),
            language: "en_US".to_owned(),
            category: "UTILITY".to_owned(),
            parameter_format: "POSITIONAL".to_owned(),
            components: vec![json!({ "type": "BODY", "text": text })],
            extra: Map::new(),
        };
        Self { status: "APPROVED".to_owned(), ..Self::new(id, waba_id, &creation, created) }
    }

    /// The component of this type, in any case.
    pub(super) fn component(&self, kind: &str) -> Option<&Value> {
        self.components.iter().find(|component| type_of(component).eq_ignore_ascii_case(kind))
    }

    /// The template's buttons, in order.
    pub(super) fn buttons(&self) -> &[Value] {
        self.component("BUTTONS")
            .and_then(|component| component.get("buttons"))
            .and_then(Value::as_array)
            .map_or(&[], Vec::as_slice)
    }

    /// A further field, if it is a text.
    pub(super) fn extra(&self, name: &str) -> Option<&str> {
        self.extra.get(name).and_then(Value::as_str)
    }

    /// Whether Meta made it of a Direct Send.
    pub(super) fn is_auto_generated(&self) -> bool {
        self.extra("source") == Some("AUTO_GENERATED")
    }

    /// Puts it away and remembers where it stood.
    pub(super) fn archive(&mut self, now: SystemTime) {
        let before = std::mem::replace(&mut self.status, "ARCHIVED".to_owned());
        self.history.archived = Some((before, now));
    }

    /// Brings it back; false if it is not archived.
    pub(super) fn unarchive(&mut self, now: SystemTime) -> bool {
        if self.status != "ARCHIVED" {
            return false;
        }
        let before = self.history.archived.take();
        self.status = before.map_or_else(|| "APPROVED".to_owned(), |(status, _)| status);
        self.history.active = now;
        true
    }
}

/// A name that cannot be used until it is free again.
#[derive(Debug)]
struct BlockedName {
    waba_id: String,
    name: String,
    /// Absent if the name was deleted in all languages.
    language: Option<String>,
    until: SystemTime,
}

/// All templates in the order of their creation.
#[derive(Debug, Default)]
pub(super) struct Templates {
    pub(super) all: Vec<Template>,
    blocked: Vec<BlockedName>,
}

impl Templates {
    pub(super) fn find(&self, waba_id: &str, name: &str, language: &str) -> Option<&Template> {
        self.all.iter().find(|template| {
            template.waba_id == waba_id && template.name == name && template.language == language
        })
    }

    pub(super) fn by_id(&self, id: u64) -> Option<&Template> {
        self.all.iter().find(|template| template.id == id)
    }

    pub(super) fn by_id_mut(&mut self, id: u64) -> Option<&mut Template> {
        self.all.iter_mut().find(|template| template.id == id)
    }

    pub(super) fn of<'a>(&'a self, waba_id: &'a str) -> impl Iterator<Item = &'a Template> {
        self.all.iter().filter(move |template| template.waba_id == waba_id)
    }

    /// Counts an accepted send.
    pub(super) fn sent(&mut self, id: u64, now: SystemTime) {
        if let Some(template) = self.by_id_mut(id) {
            template.history.add_sends(1, now);
        }
    }

    /// Blocks the name of a deleted template, in one language or in all.
    pub(super) fn block(&mut self, template: &Template, in_all_languages: bool, now: SystemTime) {
        self.blocked.retain(|blocked| now < blocked.until);
        self.blocked.push(BlockedName {
            waba_id: template.waba_id.clone(),
            name: template.name.clone(),
            language: (!in_all_languages).then(|| template.language.clone()),
            until: now + NAME_BLOCKED,
        });
    }

    pub(super) fn is_blocked(&self, waba_id: &str, name: &str, language: &str, now: SystemTime) -> bool {
        self.blocked.iter().any(|blocked| {
            blocked.waba_id == waba_id
                && blocked.name == name
                && blocked.language.as_deref().is_none_or(|blocked| blocked == language)
                && now < blocked.until
        })
    }
}

/// The `type` of a component, a button or a parameter; empty if it has none.
pub(super) fn type_of(value: &Value) -> &str {
    value.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// The ids in a list, in Meta's forms of it: an array of texts or numbers, `[1,2]`, `["1","2"]` or `1,2`.
pub(super) fn ids_of(value: &Value) -> Option<Vec<u64>> {
    let of = |text: &str| text.trim().trim_matches('"').parse().ok();
    match value {
        Value::Array(list) => {
            list.iter().map(|id| id.as_u64().or_else(|| id.as_str().and_then(of))).collect()
        }
        Value::String(text) => text.trim().trim_matches(['[', ']']).split(',').map(of).collect(),
        Value::Number(number) => Some(vec![number.as_u64()?]),
        Value::Null | Value::Bool(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    #[test]
    fn lists_of_ids() {
        for (list, expected) in [
            (json!("1,2"), Some(vec![1, 2])),
            (json!("[1, 2]"), Some(vec![1, 2])),
            (json!("[\"1\",\"2\"]"), Some(vec![1, 2])),
            (json!(["1", 2]), Some(vec![1, 2])),
            (json!(7), Some(vec![7])),
            (json!("x"), None),
            (json!(""), None),
            (json!([null]), None),
            (json!({}), None),
        ] {
            assert_eq!(ids_of(&list), expected, "{list}");
        }
    }

    #[test]
    fn approved_templates_are_edited_seldom() {
        let start = SystemTime::UNIX_EPOCH;
        let mut history = History::new(start);
        for day in 0..10 {
            assert_eq!(history.edit(start + day * DAY), Ok(()));
            assert!(history.edit(start + day * DAY + DAY / 2).is_err());
        }
        assert!(history.edit(start + 29 * DAY).unwrap_err().contains("30 days"));
        assert_eq!(history.edit(start + 30 * DAY), Ok(()));
    }

    #[test]
    fn sends_are_counted_by_day() {
        let start = SystemTime::UNIX_EPOCH + 1_000 * DAY;
        let mut history = History::new(start);
        for day in 0..100 {
            history.add_sends(2, start + day * DAY);
        }
        assert_eq!(history.sends_since(unix_seconds(start + 93 * DAY)), 14);
        assert_eq!(history.sends_since(0), SEND_DAYS * 2, "older days are forgotten");
    }

    #[test]
    fn names_are_blocked_in_one_language_or_in_all() {
        let now = SystemTime::UNIX_EPOCH;
        let template = Template::hello_world(1, "7", now);
        for (in_all_languages, blocks_german) in [(false, false), (true, true)] {
            let mut templates = Templates::default();
            templates.block(&template, in_all_languages, now);
            assert!(templates.is_blocked("7", "hello_world", "en_US", now + 29 * DAY));
            assert_eq!(templates.is_blocked("7", "hello_world", "de", now), blocks_german);
            assert!(!templates.is_blocked("8", "hello_world", "en_US", now));
            assert!(!templates.is_blocked("7", "hello_world", "en_US", now + 30 * DAY));
        }
    }
}
