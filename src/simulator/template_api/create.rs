//! Creations: one template, or an authentication template in many languages.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::body;
use crate::simulator::faults::WebhookShape;
use crate::simulator::graph::{Call, Reply};
use crate::simulator::graph_error::GraphError;
use crate::simulator::node::Node;
use crate::simulator::schedule::Task;
use crate::simulator::templates::Template;
use crate::simulator::templates::authentication::check_without_labels;
use crate::simulator::templates::creation::Creation;
use crate::simulator::world::{State, World};

/// Takes a template in and sends it to the review.
pub(super) fn create(world: &World, call: &Call, waba_id: &str) -> Result<Reply, GraphError> {
    let now = world.now();
    let mut state = world.state();
    let creation = Creation::judged(body(call)?, &state.uploads.handles, now)?;
    take_turn(&mut state, waba_id, now)?;
    let template = admitted(&state, Template::new(world.ids.number(), waba_id, &creation, now), now)?;
    let answer = json!({
        "id": template.id.to_string(),
        "status": template.status,
        "category": template.category,
    });
    let (id, status, delay) = (template.id, template.status.clone(), state.delays.review);
    state.templates.all.push(template);
    drop(state);
    if status == "PENDING" {
        world.schedule.add(delay, Task::Review(id, call.shape));
    }
    Ok(Reply::Json(answer))
}

/// One of the creations of this hour.
fn take_turn(state: &mut State, waba_id: &str, now: SystemTime) -> Result<(), GraphError> {
    let per_hour = state.limits.template_creations_per_hour;
    let may = state.template_creations.take(waba_id, per_hour, now);
    if may { Ok(()) } else { Err(GraphError::of(80_008)) }
}

/// The template as it begins, if its name is free and the WABA has room.
fn admitted(state: &State, mut template: Template, now: SystemTime) -> Result<Template, GraphError> {
    let Template { waba_id, name, language, .. } = &template;
    let existing = state.templates.find(waba_id, name, language);
    if existing.is_some_and(|existing| existing.status != "PENDING_DELETION") {
        let text = format!(
            "There is already {language} content for this template. You can create a new template and try again."
        );
        return Err(GraphError::template(2_388_024, "Content in This Language Already Exists", &text));
    }
    if existing.is_some() || state.templates.is_blocked(waba_id, name, language, now) {
        let text = format!(
            "New {language} content can't be added while the existing {language} content is being deleted. Try \
             again in 4 weeks or create a new message template."
        );
        return Err(GraphError::template(2_388_023, "Message Template Language Is Being Deleted", &text));
    }
    let count = u32::try_from(state.templates.of(waba_id).count()).unwrap_or(u32::MAX);
    if count >= state.limits.templates_per_waba {
        let text = "The WhatsApp Business Account has reached its template limit.";
        return Err(GraphError::template(2_388_019, "Message Template Limit Exceeded", text));
    }
    let has_fixed_text =
        template.category == "AUTHENTICATION" || template.extra("library_template_name").is_some();
    // A word in the name still decides, as it does in the review.
    let is_decided = ["reject", "pending", "pause"].iter().any(|word| template.name.contains(word));
    if has_fixed_text && !is_decided {
        "APPROVED".clone_into(&mut template.status);
    }
    if template.name.contains("recategorize") && template.category == "UTILITY" {
        template.extra.insert("previous_category".to_owned(), json!(template.category));
        "MARKETING".clone_into(&mut template.category);
    }
    Ok(template)
}

/// Creates or replaces one authentication template per language; all are approved at once.
pub(super) fn upsert(world: &World, call: &Call, waba_id: &str) -> Result<Reply, GraphError> {
    let now = world.now();
    let body = body(call)?;
    let mut state = world.state();
    let creations = judged_upsert(body, &state, now).map_err(GraphError::into_parameter)?;
    take_turn(&mut state, waba_id, now)?;
    let mut made: Vec<Template> = Vec::new();
    for creation in creations {
        let existing = state.templates.find(waba_id, &creation.name, &creation.language);
        let template = match existing.filter(|existing| existing.status != "PENDING_DELETION") {
            Some(existing) if existing.category != "AUTHENTICATION" => {
                let message = format!("The template {} is no authentication template.", existing.id);
                return Err(GraphError::parameter(message));
            }
            Some(existing) => Template {
                components: creation.components,
                extra: creation.extra,
                updated: now,
                status: "APPROVED".to_owned(),
                ..existing.clone()
            },
            None => admitted(&state, Template::new(world.ids.number(), waba_id, &creation, now), now)?,
        };
        made.push(template);
    }
    let answer: Vec<Value> = made
        .iter()
        .map(|template| {
            json!({
                "id": template.id.to_string(),
                "status": template.status,
                "language": template.language,
            })
        })
        .collect();
    let pending: Vec<u64> =
        made.iter().filter(|template| template.status == "PENDING").map(|template| template.id).collect();
    for template in made {
        match state.templates.by_id_mut(template.id) {
            Some(existing) => *existing = template,
            None => state.templates.all.push(template),
        }
    }
    let delay = state.delays.review;
    drop(state);
    review_later(world, &pending, delay, call.shape);
    Ok(Reply::Json(json!({ "data": answer })))
}

fn review_later(world: &World, ids: &[u64], delay: std::time::Duration, shape: WebhookShape) {
    for id in ids {
        world.schedule.add(delay, Task::Review(*id, shape));
    }
}

/// One creation per language.
fn judged_upsert(body: &Value, state: &State, now: SystemTime) -> Result<Vec<Creation>, GraphError> {
    let node = Node::new("request", body);
    node.known(&["name", "languages", "category", "components", "message_send_ttl_seconds"])?;
    node.required("category")?.word_in_any_case(&["AUTHENTICATION"])?;
    let languages = node.required("languages")?.list(1, usize::MAX)?;
    let is_repeated = |(at, language): (usize, &Node<'_>)| {
        languages.iter().skip(at + 1).any(|other| other.value == language.value)
    };
    if languages.iter().enumerate().any(is_repeated) {
        return Err(GraphError::parameter("Param languages must hold each language once."));
    }
    languages
        .iter()
        .map(|language| {
            let mut single = body.clone();
            if let Some(fields) = single.as_object_mut() {
                fields.remove("languages");
                fields.insert("language".to_owned(), language.value.clone());
            }
            let creation = Creation::judged(&single, &state.uploads.handles, now)?;
            check_without_labels(&creation.components)?;
            Ok(creation)
        })
        .collect()
}
