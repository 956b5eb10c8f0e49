//! The Cloud API's calls about templates, and their review.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::graph::{Call, Reply};
use super::graph_error::GraphError;
use super::paging;
use super::schedule::Task;
use super::templates::{Template, check_creation, type_of};
use super::unix_seconds;
use super::world::World;

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
const NODE_TYPE: &str = "WhatsAppMessageTemplate";
/// How long the name of a deleted template is blocked.
const NAME_BLOCKED: Duration = Duration::from_hours(30 * 24);

/// `/{WABA}/message_templates`.
pub(super) fn of_waba(world: &World, call: &Call, waba_id: &str) -> Result<Reply, GraphError> {
    if !world.account.has_waba(waba_id) {
        return Err(GraphError::no_such_object(&call.method, waba_id));
    }
    match call.method {
        Method::GET => list(world, call, waba_id),
        Method::POST => create(world, call, waba_id),
        Method::DELETE => delete(world, call, waba_id),
        _ => Err(GraphError::no_such_object(&call.method, waba_id)),
    }
}

fn list(world: &World, call: &Call, waba_id: &str) -> Result<Reply, GraphError> {
    let state = world.state();
    let items = state
        .templates
        .of(waba_id)
        .filter(|template| matches(call, template))
        .map(|template| Ok((template.id.to_string(), read(call, template)?)))
        .collect::<Result<Vec<_>, GraphError>>()?;
    let mut page = paging::page(call, &items)?;
    if let (Some(_), Some(fields)) = (call.query("summary"), page.as_object_mut()) {
        let summary = json!({
            "total_count": items.len(),
            "message_template_count": state.templates.of(waba_id).count(),
            "message_template_limit": state.limits.templates_per_waba,
            "are_translations_complete": true,
        });
        fields.insert("summary".to_owned(), summary);
    }
    Ok(Reply::Json(page))
}

fn read(call: &Call, template: &Template) -> Result<Value, GraphError> {
    let mut node = template.to_json();
    if let Some(fields) = node.as_object_mut() {
        // Fields that Meta knows but that this template does not have.
        for name in [
            "sub_category",
            "library_template_name",
            "message_send_ttl_seconds",
            "previous_category",
            "correct_category",
            "cta_url_link_tracking_opted_out",
            "degrees_of_freedom_spec",
            "health_status",
            "specific_rejection_reason",
            "source",
        ] {
            fields.entry(name).or_insert(Value::Null);
        }
    }
    paging::select(call, &node, DEFAULT_FIELDS, NODE_TYPE).map(|mut selected| {
        if let Some(fields) = selected.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        selected
    })
}

/// The filters of a list. Enumerations compare in any case.
fn matches(call: &Call, template: &Template) -> bool {
    let text = || {
        let body = template.component("BODY").and_then(|body| body.get("text"));
        body.and_then(Value::as_str).unwrap_or_default()
    };
    call.query.iter().all(|(key, wanted)| match key.as_str() {
        "name" => template.name.contains(wanted.as_str()),
        "content" => text().contains(wanted.as_str()),
        "name_or_content" => template.name.contains(wanted.as_str()) || text().contains(wanted.as_str()),
        "language" => template.language == *wanted,
        "status" => template.status.eq_ignore_ascii_case(wanted),
        "category" => template.category.eq_ignore_ascii_case(wanted),
        _ => true,
    })
}

fn create(world: &World, call: &Call, waba_id: &str) -> Result<Reply, GraphError> {
    let body =
        call.json.as_ref().ok_or_else(|| GraphError::because(100, "The request body is not valid JSON."))?;
    check_creation(body)?;
    let now = world.now();
    let mut state = world.state();
    let per_hour = state.limits.template_creations_per_hour;
    if !state.template_creations.take(waba_id, per_hour, now) {
        return Err(GraphError::of(80_008));
    }
    let template = new_template(body, waba_id, world.ids.number(), now);
    let language = &template.language;
    if state.templates.find(waba_id, &template.name, language).is_some() {
        let text = format!(
            "There is already {language} content for this template. You can create a new template and try again."
        );
        return Err(GraphError::template(2_388_024, "Content in This Language Already Exists", &text));
    }
    let is_blocked =
        state.templates.deleted.iter().any(|(waba, name, when)| {
            waba == waba_id && *name == template.name && now < *when + NAME_BLOCKED
        });
    if is_blocked {
        let text = "The name of a deleted template cannot be used for 30 days.";
        return Err(GraphError::template(2_388_023, "Message Template Language Is Being Deleted", text));
    }
    let count = u32::try_from(state.templates.of(waba_id).count()).unwrap_or(u32::MAX);
    if count >= state.limits.templates_per_waba {
        let text = "The WhatsApp Business Account has reached its template limit.";
        return Err(GraphError::template(2_388_019, "Message Template Limit Exceeded", text));
    }
    let answer = json!({
        "id": template.id.to_string(),
        "status": template.status,
        "category": template.category,
    });
    let (id, delay) = (template.id, state.delays.review);
    state.templates.all.push(template);
    drop(state);
    world.schedule.add(delay, Task::Review(id));
    Ok(Reply::Json(answer))
}

fn new_template(body: &Value, waba_id: &str, id: u64, now: std::time::SystemTime) -> Template {
    let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut extra = body.as_object().cloned().unwrap_or_default();
    for known in ["name", "language", "category", "parameter_format", "components", "allow_category_change"] {
        extra.remove(known);
    }
    let format = body.get("parameter_format").and_then(Value::as_str).unwrap_or("POSITIONAL");
    Template {
        id,
        waba_id: waba_id.to_owned(),
        name: text("name"),
        language: text("language"),
        category: text("category").to_ascii_uppercase(),
        status: "PENDING".to_owned(),
        parameter_format: format.to_ascii_uppercase(),
        components: body
            .get("components")
            .and_then(Value::as_array)
            .map(|all| components(all))
            .unwrap_or_default(),
        rejected_reason: "NONE".to_owned(),
        created: now,
        extra,
    }
}

/// Types read in upper case, however they were written.
fn components(written: &[Value]) -> Vec<Value> {
    let mut components = written.to_vec();
    for component in &mut components {
        let kind = type_of(component).to_ascii_uppercase();
        if let Some(fields) = component.as_object_mut() {
            fields.insert("type".to_owned(), json!(kind));
        }
    }
    components
}

/// The verdict of the review. The name decides: `reject` in it means rejected, `pending` means that the
/// review never ends, `pause` means approved and paused soon after; all else is approved.
pub(super) fn review(world: &World, id: u64) {
    let mut state = world.state();
    let delay = state.delays.review;
    let Some(template) = state.templates.by_id_mut(id).filter(|template| template.status == "PENDING") else {
        return;
    };
    if template.name.contains("pending") {
        return;
    }
    let is_rejected = template.name.contains("reject");
    let status = if is_rejected { "REJECTED" } else { "APPROVED" };
    let reason = if is_rejected { "INVALID_FORMAT" } else { "NONE" };
    status.clone_into(&mut template.status);
    reason.clone_into(&mut template.rejected_reason);
    let template = template.clone();
    drop(state);
    let mut more = json!({ "reason": reason });
    if is_rejected && let Some(fields) = more.as_object_mut() {
        let info = json!({
            "reason": "The name of the template asked for a rejection",
            "recommendation": "Choose a name without \"reject\" in it",
        });
        fields.insert("rejection_info".to_owned(), info);
    }
    world.report_template(&template, status, &more);
    if template.name.contains("pause") {
        world.schedule.add(delay, Task::Pause(id));
    }
}

/// Pauses an approved template.
pub(super) fn pause(world: &World, id: u64) {
    let mut state = world.state();
    let approved = state.templates.by_id_mut(id).filter(|template| template.status == "APPROVED");
    let Some(template) = approved else { return };
    "PAUSED".clone_into(&mut template.status);
    let template = template.clone();
    drop(state);
    let text = "Your template has been paused due to low quality.";
    let more = json!({ "other_info": { "title": "FIRST_PAUSE", "description": text } });
    world.report_template(&template, "PAUSED", &more);
}

fn delete(world: &World, call: &Call, waba_id: &str) -> Result<Reply, GraphError> {
    let ids: Option<Vec<u64>> = match (call.query("hsm_ids"), call.query("hsm_id")) {
        (Some(list), _) => Some(
            list.trim_matches(['[', ']'])
                .split(',')
                .map(|id| {
                    id.trim()
                        .trim_matches('"')
                        .parse()
                        .map_err(|_| GraphError::parameter("Param hsm_ids must be a list of ids."))
                })
                .collect::<Result<_, _>>()?,
        ),
        (None, Some(id)) => {
            Some(vec![id.parse().map_err(|_| GraphError::parameter("Param hsm_id must be an id."))?])
        }
        (None, None) => None,
    };
    let name = call.query("name");
    if name.is_none() && ids.is_none() {
        return Err(GraphError::parameter("The parameter name is required."));
    }
    let mut state = world.state();
    let is_meant = |template: &Template| {
        template.waba_id == waba_id
            && name.is_none_or(|name| template.name == name)
            && ids.as_ref().is_none_or(|ids| ids.contains(&template.id))
    };
    let meant: Vec<Template> =
        state.templates.all.iter().filter(|template| is_meant(template)).cloned().collect();
    let expected = ids.as_ref().map_or(1, Vec::len);
    // All or nothing.
    if meant.len() < expected {
        return Err(GraphError::because(100, "The message template was not found."));
    }
    if meant.iter().any(|template| template.status == "DISABLED") {
        return Err(GraphError::because(100, "A disabled message template cannot be deleted."));
    }
    state.templates.all.retain(|template| !is_meant(template));
    let now = world.now();
    for template in meant.iter().filter(|template| template.status == "APPROVED") {
        state.templates.deleted.push((waba_id.to_owned(), template.name.clone(), now));
    }
    drop(state);
    for template in &meant {
        world.report_template(template, "DELETED", &json!({ "reason": null }));
    }
    Ok(Reply::Json(json!({ "success": true })))
}

/// `/{TEMPLATE_ID}`: read or edit; `None` if there is no such template.
pub(super) fn node(world: &World, call: &Call, id: &str) -> Option<Result<Reply, GraphError>> {
    let id: u64 = id.parse().ok()?;
    let state = world.state();
    let template = state.templates.by_id(id)?;
    match call.method {
        Method::GET => Some(read(call, template).map(Reply::Json)),
        Method::POST => {
            drop(state);
            Some(edit(world, call, id))
        }
        _ => None,
    }
}

fn edit(world: &World, call: &Call, id: u64) -> Result<Reply, GraphError> {
    let body =
        call.json.as_ref().ok_or_else(|| GraphError::because(100, "The request body is not valid JSON."))?;
    let mut state = world.state();
    let delay = state.delays.review;
    let template = state
        .templates
        .by_id_mut(id)
        .ok_or_else(|| GraphError::no_such_object(&call.method, &id.to_string()))?;
    if !["APPROVED", "REJECTED", "PAUSED"].contains(&template.status.as_str()) {
        let text = "Only approved, rejected and paused templates can be edited.";
        return Err(GraphError::template(2_388_039, "Message template cannot be edited", text));
    }
    let mut edited = template.clone();
    for (key, value) in body.as_object().into_iter().flatten() {
        match (key.as_str(), value) {
            ("category", Value::String(category)) => {
                if template.status == "APPROVED" && !category.eq_ignore_ascii_case(&template.category) {
                    let text = "The category of an approved template cannot change.";
                    return Err(GraphError::template(2_388_039, "Message template cannot be edited", text));
                }
                edited.category = category.to_ascii_uppercase();
            }
            ("components", Value::Array(written)) => edited.components = components(written),
            ("parameter_format", Value::String(format)) => {
                edited.parameter_format = format.to_ascii_uppercase();
            }
            ("message_send_ttl_seconds" | "degrees_of_freedom_spec", value) => {
                edited.extra.insert(key.clone(), value.clone());
            }
            _ => return Err(GraphError::parameter(format!("Param {key} cannot be edited."))),
        }
    }
    check_creation(&edited.to_json())?;
    "PENDING".clone_into(&mut edited.status);
    *template = edited;
    drop(state);
    world.schedule.add(delay, Task::Review(id));
    Ok(Reply::Json(json!({ "success": true })))
}

/// Sets a template as a test wants it; reports it if its status changed. The error says what is wrong.
pub(super) fn put(world: &World, waba_id: &str, status: &str, body: &Value) -> Result<Value, String> {
    check_creation(body).map_err(|error| error.message)?;
    let mut template = new_template(body, waba_id, world.ids.number(), world.now());
    status.clone_into(&mut template.status);
    let mut state = world.state();
    let existing = state.templates.find(waba_id, &template.name, &template.language).cloned();
    if let Some(existing) = &existing {
        template.id = existing.id;
        template.created = existing.created;
        state.templates.all.retain(|template| template.id != existing.id);
    }
    state.templates.all.push(template.clone());
    drop(state);
    if existing.is_some_and(|existing| existing.status != template.status) {
        world.report_template(&template, status, &json!({}));
    }
    Ok(json!({
        "id": template.id.to_string(),
        "status": template.status,
        "time": unix_seconds(template.created),
    }))
}
