//! `POST /{WABA}/migrate_message_templates`: copies templates from another WABA of the portfolio.

use serde_json::{Map, Value, json};

use super::{ends, ids, parameter, require_waba};
use crate::simulator::graph::{Call, Reply};
use crate::simulator::graph_error::GraphError;
use crate::simulator::templates::Template;
use crate::simulator::world::World;

/// Templates of one page, and of one call.
const PAGE_MAX: usize = 500;

/// Copies a page of the source's templates, or those that the call names. Both lists of the answer hold ids
/// of the source.
pub(in crate::simulator) fn migrate(world: &World, call: &Call, waba_id: &str) -> Result<Reply, GraphError> {
    require_waba(world, call, waba_id)?;
    ends::sweep(world);
    let source = parameter(call, "source_waba_id");
    let source = source
        .as_ref()
        .and_then(|id| id.as_str().map(str::to_owned).or_else(|| Some(id.as_u64()?.to_string())));
    let source = source.ok_or_else(|| GraphError::parameter("The parameter source_waba_id is required."))?;
    if source == waba_id || !world.account.has_waba(&source) {
        return Err(GraphError::parameter("Param source_waba_id must be another account of the portfolio."));
    }
    let page = number(call, "page_number", 0, usize::MAX)?.unwrap_or(0);
    let count = number(call, "count", 1, PAGE_MAX)?.unwrap_or(PAGE_MAX);
    let wanted = ids(call, "template_ids", PAGE_MAX)?;
    let now = world.now();
    let mut state = world.state();
    let candidates: Vec<Template> = match &wanted {
        Some(ids) => {
            state.templates.of(&source).filter(|template| ids.contains(&template.id)).cloned().collect()
        }
        None => state.templates.of(&source).skip(page.saturating_mul(count)).take(count).cloned().collect(),
    };
    let (mut migrated, mut failed) = (Vec::new(), Map::new());
    for id in wanted.into_iter().flatten() {
        if !candidates.iter().any(|template| template.id == id) {
            failed.insert(id.to_string(), json!("Template not found"));
        }
    }
    for template in candidates {
        let id = template.id.to_string();
        let is_good = ["GREEN", "UNKNOWN"].contains(&template.history.quality);
        let exists = state.templates.find(waba_id, &template.name, &template.language).is_some();
        let why = match template.status.as_str() {
            "APPROVED" if is_good && !exists => "",
            "APPROVED" if is_good => "A template of this name and language exists",
            "APPROVED" => "The quality of the template is too low",
            _ => "Only approved templates can be migrated",
        };
        if why.is_empty() {
            let mut copy =
                Template { id: world.ids.number(), waba_id: waba_id.to_owned(), updated: now, ..template };
            copy.history.active = now;
            state.templates.all.push(copy);
            migrated.push(id);
        } else {
            failed.insert(id, json!(why));
        }
    }
    Ok(Reply::Json(json!({ "migrated_templates": migrated, "failed_templates": Value::Object(failed) })))
}

fn number(call: &Call, name: &str, min: usize, max: usize) -> Result<Option<usize>, GraphError> {
    let Some(value) = parameter(call, name) else { return Ok(None) };
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    let number = number.and_then(|number| usize::try_from(number).ok());
    let wrong = || GraphError::parameter(format!("Param {name} must be a number from {min} to {max}."));
    number.filter(|number| (min..=max).contains(number)).map(Some).ok_or_else(wrong)
}
