//! The webhooks about templates, section 4.7 of the reference.

use serde_json::{Map, Value, json};

use super::read::shown_components;
use crate::simulator::faults::WebhookShape;
use crate::simulator::templates::{Template, type_of};
use crate::simulator::unix_seconds;
use crate::simulator::webhooks::Update;
use crate::simulator::world::World;

/// What became of a template, with what this event says beside.
pub(super) fn status(world: &World, template: &Template, event: &str, shape: WebhookShape) {
    let mut value = named(template);
    value.insert("event".to_owned(), json!(event));
    value.insert("message_template_category".to_owned(), json!(template.category));
    let (title, description) = match (event, template.history.pauses) {
        ("PAUSED", 0 | 1) => ("FIRST_PAUSE", "Your template has been paused for 3 hours due to low quality."),
        ("PAUSED", _) => ("SECOND_PAUSE", "Your template has been paused for 6 hours due to low quality."),
        ("UNPAUSED", _) => ("UNPAUSE", "Your template can be sent again."),
        _ => ("", ""),
    };
    if !title.is_empty() {
        value.insert("other_info".to_owned(), json!({ "title": title, "description": description }));
    }
    let reason = match event {
        "DELETED" | "PENDING_DELETION" => Value::Null,
        "REJECTED" => json!(template.rejected_reason),
        _ => json!("NONE"),
    };
    if event == "DISABLED" {
        let date = unix_seconds(world.now()).to_string();
        value.insert("disable_info".to_owned(), json!({ "disable_date": date }));
    }
    if reason == "INVALID_FORMAT" {
        let why = template.extra("specific_rejection_reason").unwrap_or("The format is invalid");
        let info = json!({ "reason": why, "recommendation": "Change the template and submit it again" });
        value.insert("rejection_info".to_owned(), info);
    }
    value.insert("reason".to_owned(), reason);
    send(world, template, "message_template_status_update", value, shape);
}

/// How users take a template, compared with before.
pub(super) fn quality(world: &World, template: &Template, before: &str, shape: WebhookShape) {
    let mut value = named(template);
    value.insert("previous_quality_score".to_owned(), json!(before));
    value.insert("new_quality_score".to_owned(), json!(template.history.quality));
    send(world, template, "message_template_quality_update", value, shape);
}

/// The content after an edit. Only the body is always there.
pub(super) fn components(world: &World, template: &Template, shape: WebhookShape) {
    let mut value = named(template);
    for component in shown_components(template) {
        let name = match type_of(&component) {
            "HEADER" => "message_template_title",
            "BODY" => "message_template_element",
            "FOOTER" => "message_template_footer",
            "BUTTONS" => {
                let buttons = component.get("buttons").and_then(Value::as_array);
                let buttons: Vec<Value> = buttons.into_iter().flatten().map(button).collect();
                value.insert("message_template_buttons".to_owned(), json!(buttons));
                continue;
            }
            _ => continue,
        };
        if let Some(text) = component.get("text") {
            value.insert(name.to_owned(), text.clone());
        }
    }
    send(world, template, "message_template_components_update", value, shape);
}

fn button(button: &Value) -> Value {
    let mut shown = Map::new();
    for field in ["type", "text", "url", "phone_number"] {
        if let Some(value) = button.get(field) {
            shown.insert(format!("message_template_button_{field}"), value.clone());
        }
    }
    Value::Object(shown)
}

/// The category will change in 24 hours: `new_category` is the one that still holds.
pub(super) fn category_announced(world: &World, template: &Template, correct: &str, shape: WebhookShape) {
    let mut value = named(template);
    let then = unix_seconds(world.now()) + 24 * 3600;
    value.insert("new_category".to_owned(), json!(template.category));
    value.insert("correct_category".to_owned(), json!(correct));
    value.insert("category_update_timestamp".to_owned(), json!(then));
    send(world, template, "template_category_update", value, shape);
}

/// The category has changed.
pub(super) fn category_changed(world: &World, template: &Template, before: &str, shape: WebhookShape) {
    let mut value = named(template);
    value.insert("previous_category".to_owned(), json!(before));
    value.insert("new_category".to_owned(), json!(template.category));
    send(world, template, "template_category_update", value, shape);
}

/// What every one of these webhooks says. The id is a number, however large.
fn named(template: &Template) -> Map<String, Value> {
    let mut value = Map::new();
    value.insert("message_template_id".to_owned(), json!(template.id));
    value.insert("message_template_name".to_owned(), json!(template.name));
    value.insert("message_template_language".to_owned(), json!(template.language));
    value
}

fn send(
    world: &World,
    template: &Template,
    field: &'static str,
    value: Map<String, Value>,
    shape: WebhookShape,
) {
    let update = Update {
        waba_id: template.waba_id.clone(),
        field,
        value: Value::Object(value),
        time: Some(unix_seconds(world.now())),
        queue: format!("templates of {}", template.waba_id),
    };
    world.report(update, shape);
}
