//! What Meta answers, read leniently: ids as texts or numbers, fields that may be missing.

use std::time::SystemTime;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::cloud_api::json::Object;
use crate::domain::template::{
    Comparison, CreatedTemplate, Partial, Template, TemplatePage, UpsertedTemplate,
};

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    data: Vec<&'a RawValue>,
    #[serde(default)]
    paging: Value,
}

/// The end is the absence of `paging.next` (reference 1.8). That URL may hold the access token, so only its
/// presence counts and the cursor goes out.
pub(super) fn page(answer: &[u8], read: impl Fn(&str) -> Option<Template>) -> Option<TemplatePage> {
    let page: Page<'_> = serde_json::from_slice(answer).ok()?;
    let templates = page.data.iter().map(|raw| read(raw.get())).collect::<Option<Vec<_>>>()?;
    let has_next = page.paging.get("next").is_some_and(|next| !next.is_null());
    let after = page.paging.pointer("/cursors/after").and_then(Value::as_str);
    let next_page_token = after.filter(|_| has_next).unwrap_or_default().to_owned();
    Some(TemplatePage { templates, next_page_token })
}

/// A template without an id could not be named in any other call.
pub(super) fn template(text: &str) -> Option<Template> {
    let id = Object::read(text)?.text("id")?.into_owned();
    Some(Template { id, json: text.to_owned() })
}

/// A template of the library is named by its name.
pub(super) fn library_template(text: &str) -> Option<Template> {
    let id = Object::read(text)?.text("id").unwrap_or_default().into_owned();
    Some(Template { id, json: text.to_owned() })
}

/// The exact texts of a list.
pub(super) fn texts(answer: &[u8]) -> Option<Vec<String>> {
    let page: Page<'_> = serde_json::from_slice(answer).ok()?;
    Some(page.data.iter().map(|raw| raw.get().to_owned()).collect())
}

/// What decides about a template.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its name.
    pub name: String,
    /// Language code.
    pub language: String,
    /// Such as `APPROVED`.
    pub status: String,
    /// Such as `UTILITY`.
    pub category: String,
}

/// Reads them out of a description; what is missing there is empty.
pub fn facts(template: &Template) -> Facts {
    let object = Object::read(&template.json).unwrap_or_default();
    let text = |name: &str| object.text(name).unwrap_or_default().into_owned();
    Facts {
        name: text("name"),
        language: text("language"),
        status: text("status"),
        category: text("category"),
    }
}

pub(super) fn created(answer: &[u8]) -> Option<CreatedTemplate> {
    let answer = json(answer)?;
    let part = |name: &str| answer.get(name).and_then(text).unwrap_or_default();
    Some(CreatedTemplate {
        id: answer.get("id").and_then(text)?,
        status: part("status"),
        category: part("category"),
    })
}

pub(super) fn upserted(answer: &[u8]) -> Option<Vec<UpsertedTemplate>> {
    let answer = json(answer)?;
    let templates = answer.get("data")?.as_array()?.iter().map(|item| {
        let part = |name: &str| item.get(name).and_then(text).unwrap_or_default();
        UpsertedTemplate { id: part("id"), language: part("language"), status: part("status") }
    });
    Some(templates.collect())
}

/// Whether it was done. Newer versions may answer with the template's id alone (reference 2.4.2).
pub(super) fn is_done(answer: &[u8]) -> bool {
    let answer = json(answer).unwrap_or_default();
    success(&answer).unwrap_or_else(|| answer.get("id").and_then(text).is_some())
}

pub(super) fn success_and_reason(answer: &[u8]) -> Option<(bool, String)> {
    let answer = json(answer)?;
    Some((success(&answer)?, answer.get("reason").and_then(text).unwrap_or_default()))
}

/// Lists of ids that are done (`archived_templates`, `migrated_templates` …), and `failed_templates` with reasons. A
/// bare success means all that were asked for.
pub(super) fn partial(answer: &[u8], asked: &[String]) -> Option<Partial> {
    let answer = json(answer)?;
    let (mut partial, mut says_something) = (Partial::default(), false);
    for (name, value) in answer.as_object()? {
        match (name.starts_with("failed"), value) {
            (true, Value::Object(reasons)) => {
                partial.failed.extend(reasons.iter().map(|(id, why)| (id.clone(), reason(why))));
            }
            (true, Value::Array(items)) => partial.failed.extend(items.iter().filter_map(|item| {
                let id = item.get("id").or_else(|| item.get("template_id")).unwrap_or(item);
                Some((text(id)?, reason(item)))
            })),
            (false, Value::Array(items)) => partial.done.extend(items.iter().filter_map(text)),
            (_, _) => continue,
        }
        says_something = true;
    }
    if !says_something && success(&answer) == Some(true) && !asked.is_empty() {
        partial.done = asked.to_vec();
        says_something = true;
    }
    says_something.then_some(partial)
}

/// The metrics in any order; the window is the caller's to fill in.
pub(super) fn figures(answer: &[u8]) -> Option<Comparison> {
    let answer = json(answer)?;
    let mut figures = Comparison {
        start: SystemTime::UNIX_EPOCH,
        end: SystemTime::UNIX_EPOCH,
        by_block_rate: Vec::new(),
        message_sends: Vec::new(),
        top_block_reason: Vec::new(),
    };
    for metric in answer.get("data")?.as_array()? {
        let list = |name: &str| metric.get(name).and_then(Value::as_array).into_iter().flatten();
        let pairs = |name| list(name).filter_map(|pair| Some((text(pair.get("key")?)?, pair.get("value")?)));
        match metric.get("metric").and_then(Value::as_str) {
            Some("BLOCK_RATE") => {
                figures.by_block_rate = list("order_by_relative_metric").filter_map(text).collect();
            }
            Some("MESSAGE_SENDS") => {
                let counts = pairs("number_values").filter_map(|(id, n)| Some((id, integer(n)?)));
                figures.message_sends = counts.collect();
            }
            Some("TOP_BLOCK_REASON") => {
                let reasons = pairs("string_values").filter_map(|(id, why)| Some((id, text(why)?)));
                figures.top_block_reason = reasons.collect();
            }
            Some(_) | None => {}
        }
    }
    Some(figures)
}

fn json(answer: &[u8]) -> Option<Value> {
    serde_json::from_slice(answer).ok()
}

/// A text or a number (reference 1.3).
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => (!text.is_empty()).then(|| text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

fn success(answer: &Value) -> Option<bool> {
    let success = answer.get("success")?;
    success.as_bool().or_else(|| success.as_str()?.parse().ok())
}

/// The words in which Meta says why, whatever they stand in.
fn reason(value: &Value) -> String {
    let named = ["reason", "error", "message", "error_message"].iter().find_map(|name| value.get(name));
    match named {
        Some(inner) => reason(inner),
        None => text(value).unwrap_or_default(),
    }
}
