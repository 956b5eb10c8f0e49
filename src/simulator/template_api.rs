//! The Cloud API's calls about templates, section 2.4 of the reference: which call does what. What the calls do
//! stands in the modules below, the templates themselves in [`super::templates`].

mod compare;
mod create;
mod edit;
mod ends;
pub(super) mod forced;
mod migrate;
mod read;
mod ready;
mod report;
pub(super) mod review;

use http::Method;
use serde_json::Value;

pub(super) use self::ends::{deleted, set_archived};
pub(super) use self::migrate::migrate;
pub(super) use self::ready::{library, previews};
use super::graph::{Call, Reply};
use super::graph_error::GraphError;
use super::templates::ids_of;
use super::world::World;

/// `/{WABA}/message_templates`.
pub(super) fn of_waba(world: &World, call: &Call, waba_id: &str) -> Result<Reply, GraphError> {
    require_waba(world, call, waba_id)?;
    ends::sweep(world);
    match call.method {
        Method::GET => read::list(world, call, waba_id),
        Method::POST => create::create(world, call, waba_id),
        Method::DELETE => ends::delete(world, call, waba_id),
        _ => Err(GraphError::no_such_object(&call.method, waba_id)),
    }
}

/// `POST /{WABA}/upsert_message_templates`.
pub(super) fn upsert(world: &World, call: &Call, waba_id: &str) -> Result<Reply, GraphError> {
    require_waba(world, call, waba_id)?;
    ends::sweep(world);
    create::upsert(world, call, waba_id)
}

/// `/{TEMPLATE_ID}` and its edges: read, edit, unpause, compare; `None` if there is no such template.
pub(super) fn node(world: &World, call: &Call, id: &str, edge: &str) -> Option<Result<Reply, GraphError>> {
    let id: u64 = id.parse().ok()?;
    ends::sweep(world);
    world.state().templates.by_id(id)?;
    match (&call.method, edge) {
        (&Method::GET, "") => Some(read::one(world, call, id)),
        (&Method::POST, "") => Some(edit::edit(world, call, id)),
        (&Method::POST, "unpause") => Some(edit::unpause(world, call, id)),
        (&Method::GET, "compare") => Some(compare::compare(world, call, id)),
        _ => None,
    }
}

fn require_waba(world: &World, call: &Call, waba_id: &str) -> Result<(), GraphError> {
    let is_known = world.account.has_waba(waba_id);
    if is_known { Ok(()) } else { Err(GraphError::no_such_object(&call.method, waba_id)) }
}

fn body(call: &Call) -> Result<&Value, GraphError> {
    let invalid = || GraphError::because(100, "The request body is not valid JSON.");
    call.json.as_ref().filter(|body| body.is_object()).ok_or_else(invalid)
}

/// A parameter of the body, or of the query, where Meta takes it as well.
fn parameter(call: &Call, name: &str) -> Option<Value> {
    let of_body = call.json.as_ref().and_then(|body| body.get(name)).cloned();
    of_body.or_else(|| call.query(name).map(|text| Value::String(text.to_owned())))
}

/// A list of template ids, at most so many; `None` if it is not given.
fn ids(call: &Call, name: &str, max: usize) -> Result<Option<Vec<u64>>, GraphError> {
    let Some(list) = parameter(call, name) else { return Ok(None) };
    let ids = ids_of(&list).filter(|ids| (1..=max).contains(&ids.len()));
    let wrong = || GraphError::parameter(format!("Param {name} must be a list of 1 to {max} template ids."));
    ids.map(Some).ok_or_else(wrong)
}
