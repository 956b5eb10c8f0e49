//! How templates end: deleted, put into the archive and back, forgotten there.

use serde_json::{Map, Value, json};

use super::{body, ids, report, require_waba};
use crate::simulator::faults::WebhookShape;
use crate::simulator::graph::{Call, Reply};
use crate::simulator::graph_error::GraphError;
use crate::simulator::schedule::Task;
use crate::simulator::templates::{ARCHIVE_KEPT, INACTIVE_MAX, Template};
use crate::simulator::world::World;

/// At most so many ids in one call.
const IDS_MAX: usize = 100;

/// `DELETE /{WABA}/message_templates`: by name, by name and id, or by ids.
pub(super) fn delete(world: &World, call: &Call, waba_id: &str) -> Result<Reply, GraphError> {
    let (name, several, one) = (call.query("name"), ids(call, "hsm_ids", IDS_MAX)?, ids(call, "hsm_id", 1)?);
    if several.is_some() && (name.is_some() || one.is_some()) {
        return Err(GraphError::parameter("Param hsm_ids cannot be combined with name and hsm_id."));
    }
    if several.is_none() && name.is_none_or(str::is_empty) {
        return Err(GraphError::parameter("The parameter name is required."));
    }
    let wanted = several.or(one);
    let mut state = world.state();
    let is_meant = |template: &Template| {
        template.waba_id == waba_id
            && template.status != "PENDING_DELETION"
            && name.is_none_or(|name| template.name == name)
            && wanted.as_ref().is_none_or(|ids| ids.contains(&template.id))
    };
    let meant: Vec<Template> =
        state.templates.all.iter().filter(|template| is_meant(template)).cloned().collect();
    // All or nothing.
    let is_complete = match &wanted {
        Some(ids) => ids.iter().all(|id| meant.iter().any(|template| template.id == *id)),
        None => !meant.is_empty(),
    };
    if !is_complete {
        return Err(GraphError::because(100, "The message template was not found."));
    }
    if meant.iter().any(|template| template.status == "DISABLED") {
        return Err(GraphError::because(100, "A disabled message template cannot be deleted."));
    }
    if meant.iter().any(Template::is_auto_generated) {
        let text = "An auto-generated template cannot be deleted.";
        return Err(GraphError::template(2_388_330, "Auto-generated template cannot be deleted", text));
    }
    let (now, delay) = (world.now(), state.delays.deletion);
    for template in meant.iter().filter(|template| template.status == "APPROVED") {
        state.templates.block(template, wanted.is_none(), now);
    }
    // Only what was approved can still be on its way to someone.
    let (pending, gone): (Vec<Template>, Vec<Template>) =
        meant.into_iter().partition(|template| template.status == "APPROVED" && !delay.is_zero());
    state.templates.all.retain(|template| !gone.iter().any(|gone| gone.id == template.id));
    for template in &mut state.templates.all {
        if pending.iter().any(|pending| pending.id == template.id) {
            "PENDING_DELETION".clone_into(&mut template.status);
        }
    }
    drop(state);
    for template in &gone {
        report::status(world, template, "DELETED", call.shape);
    }
    for template in &pending {
        report::status(world, template, "PENDING_DELETION", call.shape);
        world.schedule.add(delay, Task::Deleted(template.id, call.shape));
    }
    Ok(Reply::Json(json!({ "success": true })))
}

/// The last delivery of a deleted template is done.
pub(in crate::simulator) fn deleted(world: &World, id: u64, shape: WebhookShape) {
    let mut state = world.state();
    let all = &mut state.templates.all;
    let position = all.iter().position(|template| template.id == id && template.status == "PENDING_DELETION");
    let Some(template) = position.map(|position| all.remove(position)) else { return };
    drop(state);
    report::status(world, &template, "DELETED", shape);
}

/// `POST /{WABA}/message_templates/archive` and `…/unarchive`, on the host without versions. Each id succeeds
/// or fails by itself.
pub(in crate::simulator) fn set_archived(
    world: &World,
    call: &Call,
    waba_id: &str,
    archived: bool,
) -> Result<Reply, GraphError> {
    require_waba(world, call, waba_id)?;
    sweep(world);
    body(call)?;
    let required = || GraphError::parameter("The parameter hsm_ids is required.");
    let ids = ids(call, "hsm_ids", IDS_MAX)?.ok_or_else(required)?;
    let now = world.now();
    let (mut done, mut failed) = (Vec::new(), Map::new());
    let mut state = world.state();
    for id in ids {
        let template = state.templates.by_id_mut(id).filter(|template| template.waba_id == waba_id);
        let outcome = match template {
            None => Err("Template not found"),
            Some(template) if archived && ["APPROVED", "REJECTED"].contains(&template.status.as_str()) => {
                template.archive(now);
                Ok(template.clone())
            }
            Some(_) if archived => Err("Only approved or rejected templates can be archived"),
            Some(template) => {
                let is_back = template.unarchive(now);
                if is_back { Ok(template.clone()) } else { Err("Template is not archived") }
            }
        };
        match outcome {
            Ok(template) => done.push(template),
            Err(why) => drop(failed.insert(id.to_string(), json!(why))),
        }
    }
    drop(state);
    let (list, event) =
        if archived { ("archived_templates", "ARCHIVED") } else { ("unarchived_templates", "UNARCHIVED") };
    for template in &done {
        report::status(world, template, event, call.shape);
    }
    let done: Vec<String> = done.iter().map(|template| template.id.to_string()).collect();
    Ok(Reply::Json(json!({ list: done, "failed_templates": Value::Object(failed) })))
}

/// What time does: a template without activity for 12 months is archived, and one that is archived for 28
/// days is deleted. It happens here when the templates are next asked for.
pub(super) fn sweep(world: &World) {
    let now = world.now();
    let mut state = world.state();
    let is_over = |template: &Template| {
        template.history.archived.as_ref().is_some_and(|(_, when)| now >= *when + ARCHIVE_KEPT)
    };
    let gone: Vec<Template> =
        state.templates.all.iter().filter(|template| is_over(template)).cloned().collect();
    state.templates.all.retain(|template| !is_over(template));
    let mut archived = Vec::new();
    for template in &mut state.templates.all {
        let is_still = now >= template.history.active + INACTIVE_MAX;
        if is_still && !["ARCHIVED", "PENDING_DELETION"].contains(&template.status.as_str()) {
            template.archive(now);
            archived.push(template.clone());
        }
    }
    drop(state);
    for (templates, event) in [(gone, "DELETED"), (archived, "ARCHIVED")] {
        for template in templates {
            report::status(world, &template, event, WebhookShape::default());
        }
    }
}
