//! `POST /{TEMPLATE_ID}`: edits of a template, and the end of a pause.

use serde_json::{Value, json};

use super::report;
use crate::simulator::graph::{Call, Reply};
use crate::simulator::graph_error::GraphError;
use crate::simulator::schedule::Task;
use crate::simulator::templates::Template;
use crate::simulator::templates::creation::Creation;
use crate::simulator::world::World;

const EDITABLE: [&str; 5] =
    ["category", "components", "parameter_format", "message_send_ttl_seconds", "degrees_of_freedom_spec"];

fn refused(text: &str) -> GraphError {
    GraphError::template(2_388_039, "Message template cannot be edited", text)
}

/// Changes what the call names, and sends the template to the review again.
pub(super) fn edit(world: &World, call: &Call, id: u64) -> Result<Reply, GraphError> {
    let now = world.now();
    let changes = changes(call)?;
    let mut state = world.state();
    let delay = state.delays.review;
    let unknown = || GraphError::no_such_object(&call.method, &id.to_string());
    let template = state.templates.by_id(id).ok_or_else(unknown)?;
    let mut edited = template.clone();
    let creation = judged(template, &changes)?;
    let is_new_content = changes.iter().any(|(field, _)| field == "components");
    let handles = is_new_content.then_some(&state.uploads.handles);
    let is_other_kind =
        creation.category != template.category || creation.parameter_format != template.parameter_format;
    if is_new_content || is_other_kind {
        creation.check_components(handles, now)?;
    }
    if template.status == "APPROVED" {
        edited.history.edit(now).map_err(refused)?;
    }
    edited.category = creation.category;
    edited.parameter_format = creation.parameter_format;
    edited.components = creation.components;
    edited.extra = creation.extra;
    edited.updated = now;
    edited.history.active = now;
    "PENDING".clone_into(&mut edited.status);
    if let Some(template) = state.templates.by_id_mut(id) {
        *template = edited.clone();
    }
    drop(state);
    if is_new_content {
        report::components(world, &edited, call.shape);
    }
    world.schedule.add(delay, Task::Review(id, call.shape));
    Ok(Reply::Json(json!({ "success": true })))
}

/// The fields of the body, and of the query the two that Meta takes there.
fn changes(call: &Call) -> Result<Vec<(String, Value)>, GraphError> {
    let fields = call.json.as_ref().and_then(Value::as_object).into_iter().flatten();
    let mut changes: Vec<(String, Value)> =
        fields.map(|(field, value)| (field.clone(), value.clone())).collect();
    if let Some((field, _)) =
        changes.iter().find(|(field, _)| !EDITABLE.contains(&field.as_str()) && !is_of_query(field))
    {
        return Err(GraphError::parameter(format!("Param {field} cannot be edited.")));
    }
    for field in ["category", "cta_url_link_tracking_opted_out"] {
        if let Some(text) = call.query(field) {
            let value = text.parse::<bool>().map_or_else(|_| json!(text), Value::Bool);
            changes.push((field.to_owned(), value));
        }
    }
    if changes.is_empty() {
        return Err(GraphError::parameter("The parameter components is required."));
    }
    Ok(changes)
}

fn is_of_query(field: &str) -> bool {
    field == "cta_url_link_tracking_opted_out"
}

/// The template's content after the changes, if its state and the rules allow them.
fn judged(template: &Template, changes: &[(String, Value)]) -> Result<Creation, GraphError> {
    if template.is_auto_generated() {
        let text = "An auto-generated template cannot be edited.";
        return Err(GraphError::template(2_388_318, "Auto-generated template cannot be edited", text));
    }
    if !["APPROVED", "REJECTED", "PAUSED"].contains(&template.status.as_str()) {
        return Err(refused("Only approved, rejected and paused templates can be edited."));
    }
    let mut creation = Creation {
        name: template.name.clone(),
        language: template.language.clone(),
        category: template.category.clone(),
        parameter_format: template.parameter_format.clone(),
        components: template.components.clone(),
        extra: template.extra.clone(),
    };
    for (field, value) in changes {
        creation.take(field, value)?;
    }
    if template.status == "APPROVED" && creation.category != template.category {
        return Err(refused("The category of an approved template cannot change."));
    }
    creation.check_settings()?;
    Ok(creation)
}

/// Ends a pause. Templates that are not paused have none to end.
pub(super) fn unpause(world: &World, call: &Call, id: u64) -> Result<Reply, GraphError> {
    let mut state = world.state();
    let unknown = || GraphError::no_such_object(&call.method, &id.to_string());
    let template = state.templates.by_id_mut(id).ok_or_else(unknown)?;
    if template.status != "PAUSED" {
        let reason = format!("The template is {}, not paused.", template.status);
        return Ok(Reply::Json(json!({ "success": false, "reason": reason })));
    }
    "APPROVED".clone_into(&mut template.status);
    let template = template.clone();
    drop(state);
    report::status(world, &template, "UNPAUSED", call.shape);
    Ok(Reply::Json(json!({ "success": true, "reason": "The template has been unpaused." })))
}
