//! Who may call, and which node and edge a path names.

use http::{HeaderMap, Method};

use super::{Call, Reply};
use crate::simulator::graph_error::GraphError;
use crate::simulator::world::World;
use crate::simulator::{media_api, messages, nodes, template_api, uploads};

/// Meta takes the token as `Bearer`, and as `OAuth` for the second step of a resumable upload.
pub(in crate::simulator) fn authorize(world: &World, headers: &HeaderMap) -> Result<(), GraphError> {
    match token(headers) {
        Some(token) if world.account.has_token(token) => Ok(()),
        Some(_) => Err(GraphError::bad_token("Invalid OAuth access token - Cannot parse access token")),
        None => Err(GraphError::bad_token("An access token is required to request this resource.")),
    }
}

/// Whether the app itself calls, by its id and secret.
pub(super) fn is_app(world: &World, headers: &HeaderMap) -> bool {
    let account = &world.account;
    token(headers) == Some(format!("{}|{}", account.app_id, account.app_secret).as_str())
}

fn token(headers: &HeaderMap) -> Option<&str> {
    let header = headers.get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    header.and_then(|header| header.split_once(' ')).and_then(|(scheme, token)| {
        let is_known = scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("oauth");
        is_known.then(|| token.trim())
    })
}

/// Finds the node and the edge that a path names.
pub(super) fn route(world: &World, call: &Call) -> Result<Reply, GraphError> {
    let (id, edge) = call.path.split_once('/').unwrap_or((&call.path, ""));
    if call.version == 0 {
        return without_version(world, call, id, edge);
    }
    if uploads::is_session(id) {
        return uploads::session(world, call, id);
    }
    count_call(world, id, edge)?;
    match (&call.method, edge) {
        (&Method::POST, "messages" | "marketing_messages") => messages::post(world, call, id),
        (&Method::POST, "media") => media_api::upload(world, call, id),
        (&Method::POST, "uploads") => uploads::open(world, call, id),
        (_, "message_templates") => template_api::of_waba(world, call, id),
        (&Method::POST, "upsert_message_templates") => template_api::upsert(world, call, id),
        (&Method::POST, "migrate_message_templates") => template_api::migrate(world, call, id),
        (&Method::GET, "message_template_previews") => template_api::previews(world, call, id),
        (_, "compare" | "unpause") => template_api::node(world, call, id, edge)
            .unwrap_or_else(|| Err(GraphError::no_such_object(&call.method, id))),
        (&Method::GET, "") if id == "message_template_library" => template_api::library(call),
        (&Method::GET, "phone_numbers") => nodes::phone_numbers(world, call, id),
        (_, "subscribed_apps") => nodes::subscribed_apps(world, call, id),
        (_, "") => nodes::node(world, call, id),
        (_, "messages" | "marketing_messages" | "media" | "phone_numbers") => {
            Err(GraphError::no_such_object(&call.method, id))
        }
        _ => Err(GraphError::unknown_path(&format!("/{edge}"))),
    }
}

/// The archive of templates stands on a host of its own, which has no versions; here both are one.
fn without_version(world: &World, call: &Call, id: &str, edge: &str) -> Result<Reply, GraphError> {
    let archived = match (&call.method, edge) {
        (&Method::POST, "message_templates/archive") => true,
        (&Method::POST, "message_templates/unarchive") => false,
        _ => return Err(GraphError::unknown_path(&format!("/{}", call.path))),
    };
    count_call(world, id, edge)?;
    template_api::set_archived(world, call, id, archived)
}

/// Management calls are limited per WABA and hour; sends and media are not among them.
fn count_call(world: &World, id: &str, edge: &str) -> Result<(), GraphError> {
    if matches!(edge, "messages" | "marketing_messages" | "media") {
        return Ok(());
    }
    let Some(waba_id) = waba_of(world, id) else { return Ok(()) };
    let mut state = world.state();
    let per_hour = state.limits.calls_per_hour;
    if state.calls.take(waba_id, per_hour, world.now()) { Ok(()) } else { Err(GraphError::of(80_007)) }
}

pub(super) fn waba_of<'a>(world: &'a World, id: &'a str) -> Option<&'a str> {
    match world.number(id) {
        Some(number) => Some(&number.waba_id),
        None => world.account.has_waba(id).then_some(id),
    }
}
