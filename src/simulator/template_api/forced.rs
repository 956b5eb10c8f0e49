//! What a test forces: any template in any state, and what Meta would do to it later.

use std::time::SystemTime;

use serde::Deserialize;
use serde_json::{Value, json};

use super::report;
use crate::simulator::faults::WebhookShape;
use crate::simulator::templates::Template;
use crate::simulator::templates::creation::Creation;
use crate::simulator::unix_seconds;
use crate::simulator::world::World;

const STATUSES: [&str; 12] = [
    "APPROVED",
    "PENDING",
    "REJECTED",
    "PAUSED",
    "DISABLED",
    "IN_APPEAL",
    "PENDING_DELETION",
    "LIMIT_EXCEEDED",
    "ARCHIVED",
    "FLAGGED",
    "REINSTATED",
    "LOCKED",
];
const REASONS: [&str; 8] = [
    "ABUSIVE_CONTENT",
    "INCORRECT_CATEGORY",
    "INVALID_FORMAT",
    "NONE",
    "PROMOTIONAL",
    "SCAM",
    "TAG_CONTENT_MISMATCH",
    "CATEGORY_NOT_AVAILABLE",
];
const CATEGORIES: [&str; 3] = ["AUTHENTICATION", "MARKETING", "UTILITY"];
const QUALITIES: [&str; 4] = ["GREEN", "YELLOW", "RED", "UNKNOWN"];

/// Sets a template whose components nobody judges; reports it if its status changed. The error says what is
/// wrong.
pub(in crate::simulator) fn put(
    world: &World,
    waba_id: &str,
    status: &str,
    body: &Value,
) -> Result<Value, String> {
    let creation = Creation::unjudged(body).map_err(|error| error.message)?;
    let status = word("status", status, &STATUSES)?;
    let now = world.now();
    let mut template = Template::new(world.ids.number(), waba_id, &creation, now);
    let mut state = world.state();
    let existing = state.templates.find(waba_id, &template.name, &template.language).cloned();
    if let Some(existing) = &existing {
        template.id = existing.id;
        template.history = existing.history.clone();
        state.templates.all.retain(|template| template.id != existing.id);
    }
    set_status(&mut template, status, now);
    state.templates.all.push(template.clone());
    drop(state);
    if existing.is_some_and(|existing| existing.status != template.status) {
        report::status(world, &template, status, WebhookShape::default());
    }
    Ok(described(&template))
}

/// What `POST /_simulator/templates/{id}` takes: what Meta does to a template, each with its webhook.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::simulator) struct Change {
    status: Option<String>,
    /// Why it is rejected; `INVALID_FORMAT` if absent.
    rejected_reason: Option<String>,
    /// A new quality. `RED` pauses an approved template, twice; the third time it is disabled.
    quality: Option<String>,
    /// The category changes now.
    category: Option<String>,
    /// The category will change to this one in 24 hours; only announced.
    correct_category: Option<String>,
    /// Adds so many sends of today.
    sends: Option<u64>,
    /// Blocks after so many of a thousand sends.
    block_rate: Option<u64>,
    top_block_reason: Option<String>,
}

/// Does it, and says how the template stands.
pub(in crate::simulator) fn change(world: &World, id: u64, change: &Change) -> Result<Value, String> {
    let now = world.now();
    let status = change.status.as_deref().map(|text| word("status", text, &STATUSES)).transpose()?;
    let reason = change.rejected_reason.as_deref().map(|text| word("rejected_reason", text, &REASONS));
    let reason = reason.transpose()?;
    let quality = change.quality.as_deref().map(|text| word("quality", text, &QUALITIES)).transpose()?;
    let category = change.category.as_deref().map(|text| word("category", text, &CATEGORIES)).transpose()?;
    let correct = change.correct_category.as_deref();
    let correct = correct.map(|text| word("correct_category", text, &CATEGORIES)).transpose()?;
    let mut state = world.state();
    let template = state.templates.by_id_mut(id).ok_or_else(|| format!("there is no template {id}"))?;
    let before = template.clone();
    if let Some(sends) = change.sends {
        template.history.add_sends(sends, now);
    }
    if let Some(rate) = change.block_rate {
        template.history.block_rate = rate;
    }
    if let Some(why) = &change.top_block_reason {
        template.history.top_block_reason.clone_from(why);
    }
    if let Some(correct) = correct {
        template.extra.insert("correct_category".to_owned(), json!(correct));
    }
    if let Some(category) = category {
        template.extra.insert("previous_category".to_owned(), json!(template.category));
        template.extra.remove("correct_category");
        category.clone_into(&mut template.category);
    }
    if let Some(quality) = quality {
        template.history.quality = quality;
        template.history.quality_date = Some(unix_seconds(now));
    }
    let status = status.or_else(|| consequence(template, quality));
    if let Some(status) = status {
        reason.unwrap_or("INVALID_FORMAT").clone_into(&mut template.rejected_reason);
        set_status(template, status, now);
    }
    let after = template.clone();
    drop(state);
    let shape = WebhookShape::default();
    if let Some(correct) = correct {
        report::category_announced(world, &before, correct, shape);
    }
    if category.is_some() {
        report::category_changed(world, &after, &before.category, shape);
    }
    if quality.is_some() {
        report::quality(world, &after, before.history.quality, shape);
    }
    if let Some(status) = status {
        report::status(world, &after, status, shape);
    }
    Ok(described(&after))
}

/// What a quality does to an approved template.
fn consequence(template: &mut Template, quality: Option<&str>) -> Option<&'static str> {
    if quality != Some("RED") || template.status != "APPROVED" {
        return None;
    }
    template.history.pauses += 1;
    Some(if template.history.pauses > 2 { "DISABLED" } else { "PAUSED" })
}

/// Takes a status with what belongs to it.
fn set_status(template: &mut Template, status: &str, now: SystemTime) {
    if status == "REJECTED" && template.rejected_reason == "NONE" {
        "INVALID_FORMAT".clone_into(&mut template.rejected_reason);
    }
    if status != "REJECTED" {
        "NONE".clone_into(&mut template.rejected_reason);
    }
    if status == "ARCHIVED" {
        template.archive(now);
    } else {
        status.clone_into(&mut template.status);
        template.history.archived = None;
    }
}

fn word(field: &str, text: &str, words: &[&'static str]) -> Result<&'static str, String> {
    let known = words.iter().find(|word| word.eq_ignore_ascii_case(text)).copied();
    known.ok_or_else(|| format!("{field} must be one of {}, not {text}", words.join(", ")))
}

fn described(template: &Template) -> Value {
    json!({
        "id": template.id.to_string(),
        "status": template.status,
        "category": template.category,
        "quality": template.history.quality,
        "time": unix_seconds(template.updated),
    })
}
