//! Reads, section 2.4.2 of the reference: lists with their filters, one template, and how components look.

use serde_json::{Value, json};

use crate::simulator::graph::{Call, Reply};
use crate::simulator::graph_error::GraphError;
use crate::simulator::templates::{Template, authentication, type_of};
use crate::simulator::world::World;
use crate::simulator::{paging, unix_seconds};

/// What a read shows when nothing is asked for.
const DEFAULT_FIELDS: &[&str] = &[
    "name",
    "parameter_format",
    "components",
    "language",
    "status",
    "category",
    "sub_category",
    "library_template_name",
    "message_send_ttl_seconds",
    "previous_category",
];
/// Fields that Meta knows but that not every template has.
const RARE_FIELDS: [&str; 9] = [
    "sub_category",
    "library_template_name",
    "message_send_ttl_seconds",
    "previous_category",
    "correct_category",
    "cta_url_link_tracking_opted_out",
    "degrees_of_freedom_spec",
    "specific_rejection_reason",
    "source",
];
const NODE_TYPE: &str = "WhatsAppMessageTemplate";
const SUMMARY: [&str; 4] =
    ["total_count", "message_template_count", "message_template_limit", "are_translations_complete"];

/// Filters with the words that they take.
const ENUMERATIONS: [(&str, &[&str]); 5] = [
    ("category", &["AUTHENTICATION", "MARKETING", "UTILITY"]),
    ("correct_category", &["AUTHENTICATION", "MARKETING", "UTILITY"]),
    ("quality_score", &["GREEN", "YELLOW", "RED", "UNKNOWN"]),
    ("source", &["AUTO_GENERATED"]),
    (
        "status",
        &[
            "APPROVED",
            "PENDING",
            "REJECTED",
            "PAUSED",
            "DISABLED",
            "IN_APPEAL",
            "PENDING_DELETION",
            "DELETED",
            "LIMIT_EXCEEDED",
            "ARCHIVED",
        ],
    ),
];

/// A page of the WABA's templates.
pub(super) fn list(world: &World, call: &Call, waba_id: &str) -> Result<Reply, GraphError> {
    let filters = filters(call)?;
    let state = world.state();
    let items = state
        .templates
        .of(waba_id)
        .filter(|template| filters.iter().all(|(name, wanted)| matches(template, name, wanted)))
        .map(|template| Ok((template.id.to_string(), selected(call, template)?)))
        .collect::<Result<Vec<_>, GraphError>>()?;
    let mut page = paging::page(call, &items)?;
    if let (Some(wanted), Some(fields)) = (call.query("summary"), page.as_object_mut()) {
        let all = json!({
            "total_count": items.len(),
            "message_template_count": state.templates.of(waba_id).count(),
            "message_template_limit": state.limits.templates_per_waba,
            "are_translations_complete": true,
        });
        let mut summary = serde_json::Map::new();
        for name in wanted.split(',').map(str::trim) {
            let Some(value) = all.get(name) else {
                let message = format!("Param summary must hold some of {{{}}}.", SUMMARY.join(", "));
                return Err(GraphError::parameter(message));
            };
            summary.insert(name.to_owned(), value.clone());
        }
        fields.insert("summary".to_owned(), Value::Object(summary));
    }
    Ok(Reply::Json(page))
}

/// One template.
pub(super) fn one(world: &World, call: &Call, id: u64) -> Result<Reply, GraphError> {
    let state = world.state();
    let unknown = || GraphError::no_such_object(&call.method, &id.to_string());
    let template = state.templates.by_id(id).ok_or_else(unknown)?;
    selected(call, template).map(Reply::Json)
}

/// The filters that a list names. Words compare in any case; several may be given as a list.
fn filters(call: &Call) -> Result<Vec<(&str, Vec<String>)>, GraphError> {
    let mut filters = Vec::new();
    for (name, text) in &call.query {
        if ["name", "content", "name_or_content", "language"].contains(&name.as_str()) {
            filters.push((name.as_str(), vec![text.clone()]));
        }
        let Some((_, known)) = ENUMERATIONS.iter().find(|(filter, _)| filter == name) else { continue };
        let words: Vec<String> = text
            .trim_matches(['[', ']'])
            .split(',')
            .map(|word| word.trim().trim_matches('"').to_ascii_uppercase())
            .collect();
        if let Some(word) = words.iter().find(|word| !known.contains(&word.as_str())) {
            let message = format!("Param {name} must be one of {{{}}}, not {word}.", known.join(", "));
            return Err(GraphError::parameter(message));
        }
        filters.push((name.as_str(), words));
    }
    Ok(filters)
}

fn matches(template: &Template, filter: &str, wanted: &[String]) -> bool {
    let content = || {
        let components = shown_components(template);
        let texts = components.iter().filter_map(|component| component.get("text")?.as_str());
        texts.collect::<Vec<_>>().join("\n")
    };
    let holds = |text: &str| wanted.iter().any(|wanted| text.contains(wanted.as_str()));
    let is = |text: &str| wanted.iter().any(|wanted| wanted == text);
    match filter {
        "name" => holds(&template.name),
        "content" => holds(&content()),
        "name_or_content" => holds(&template.name) || holds(&content()),
        "language" => is(&template.language),
        "status" => is(&template.status),
        "category" => is(&template.category),
        "quality_score" => is(template.history.quality),
        extra => template.extra(extra).is_some_and(is),
    }
}

fn selected(call: &Call, template: &Template) -> Result<Value, GraphError> {
    let mut selected = paging::select(call, &shown(template), DEFAULT_FIELDS, NODE_TYPE)?;
    if let Some(fields) = selected.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    Ok(selected)
}

/// Every field that can be read.
fn shown(template: &Template) -> Value {
    let mut fields = template.extra.clone();
    fields.remove("display_format");
    if let Some(spec) = fields.get_mut("degrees_of_freedom_spec") {
        *spec = shown_features(spec);
    }
    for name in RARE_FIELDS {
        fields.entry(name).or_insert(Value::Null);
    }
    let mut quality = json!({ "score": template.history.quality });
    if let (Some(date), Some(quality)) = (template.history.quality_date, quality.as_object_mut()) {
        quality.insert("date".to_owned(), json!(date));
    }
    let can_send = if template.status == "APPROVED" { "AVAILABLE" } else { "BLOCKED" };
    let id = template.id.to_string();
    let health = json!({
        "can_send_message": can_send,
        "entities": [{ "entity_type": "MESSAGE_TEMPLATE", "id": id, "can_send_message": can_send }],
    });
    for (name, value) in [
        ("id", json!(id)),
        ("name", json!(template.name)),
        ("language", json!(template.language)),
        ("category", json!(template.category)),
        ("status", json!(template.status)),
        ("parameter_format", json!(template.parameter_format)),
        ("components", json!(shown_components(template))),
        ("rejected_reason", json!(template.rejected_reason)),
        ("quality_score", quality),
        ("health_status", health),
        ("last_updated_time", json!(unix_seconds(template.updated))),
    ] {
        fields.insert(name.to_owned(), value);
    }
    Value::Object(fields)
}

/// Features are written as an object and read as a list, section 2.4.8.
fn shown_features(spec: &Value) -> Value {
    let features = spec.get("creative_features_spec").and_then(Value::as_object);
    let list: Vec<Value> = features
        .into_iter()
        .flatten()
        .map(|(feature, value)| json!({ "key": feature.to_ascii_uppercase(), "value": value }))
        .collect();
    json!({ "creative_features_spec": list })
}

/// The components as reads show them: samples of headers as addresses, authentication with Meta's texts.
pub(super) fn shown_components(template: &Template) -> Vec<Value> {
    if template.category == "AUTHENTICATION" {
        let shown = |component| authentication::shown(component, &template.language);
        return template.components.iter().map(shown).collect();
    }
    let mut count = 0;
    template.components.iter().map(|component| with_address(component, template.id, &mut count)).collect()
}

fn with_address(component: &Value, id: u64, count: &mut u32) -> Value {
    let mut shown = component.clone();
    if let Some(handles) = shown.pointer_mut("/example/header_handle") {
        *count += 1;
        let kind = match component.get("format").and_then(Value::as_str) {
            Some("IMAGE") => "jpg",
            Some("DOCUMENT") => "pdf",
            _ => "mp4",
        };
        let url = format!("https://scontent.whatsapp.net/v/t61.29466-34/{id}_{count}.{kind}?ccb=1-7&oh=01");
        *handles = json!([url]);
    }
    if type_of(component) == "CAROUSEL"
        && let Some(cards) = shown.get_mut("cards").and_then(Value::as_array_mut)
    {
        let components = cards.iter_mut().filter_map(|card| card.get_mut("components")?.as_array_mut());
        for component in components.flatten() {
            *component = with_address(component, id, count);
        }
    }
    shown
}
