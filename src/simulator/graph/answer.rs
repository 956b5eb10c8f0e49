//! What goes out: JSON, Meta's errors, the bytes of a medium, and what a fault makes of each.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::route::waba_of;
use super::{Call, Silence};
use crate::simulator::content::Content;
use crate::simulator::faults::{ErrorFault, Fault};
use crate::simulator::graph_error::GraphError;
use crate::simulator::uploads;
use crate::simulator::world::World;

pub(super) fn faulty_response(world: &World, call: &Call, fault: &Fault) -> Option<Response> {
    let retry_after = fault.retry_after.map(Duration::from_secs);
    if let Some(error) = &fault.error {
        return Some(refuse(world, call, &GraphError { retry_after, ..planned_error(error) }));
    }
    let http = fault.http.as_ref()?;
    let mut response = Response::new(Body::from(http.body.clone()));
    *response.status_mut() = StatusCode::from_u16(http.status).unwrap_or(StatusCode::BAD_GATEWAY);
    insert(response.headers_mut(), CONTENT_TYPE, &http.content_type);
    if let Some(location) = &http.location {
        insert(response.headers_mut(), LOCATION, location);
    }
    if let Some(retry_after) = retry_after {
        insert(response.headers_mut(), RETRY_AFTER, &retry_after.as_secs().to_string());
    }
    Some(response)
}

fn planned_error(planned: &ErrorFault) -> GraphError {
    let mut error = GraphError::of(planned.code);
    if let Some(status) = planned.http_status.and_then(|status| StatusCode::from_u16(status).ok()) {
        error.http = status;
    }
    error.subcode = planned.subcode;
    error.is_transient = planned.transient;
    if let Some(message) = &planned.message {
        error.message.clone_from(message);
    }
    if planned.user_title.is_some() || planned.user_msg.is_some() {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        error.user_text = Some(Box::new((text(&planned.user_title), text(&planned.user_msg))));
    }
    if planned.details.is_some() {
        error.details.clone_from(&planned.details);
    }
    error
}

/// A medium, or the range of it that was asked for, with the flaw that a fault gives it.
pub(super) fn file(call: &Call, content_type: &str, content: &Arc<Content>) -> Response {
    let range = call.range.as_deref().map(|range| uploads::range(range, content.len));
    let (start, end) = match range {
        Some(Some(range)) => range,
        Some(None) => return StatusCode::RANGE_NOT_SATISFIABLE.into_response(),
        None => (0, content.len),
    };
    let mut pieces = content.range(start, end);
    if call.flaw.is_corrupt
        && let Some(first) = pieces.first_mut()
    {
        let mut wrong = bytes::BytesMut::from(&**first);
        wrong.iter_mut().take(1).for_each(|byte| *byte ^= 1);
        *first = wrong.freeze();
    }
    let whole = futures_util::stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>));
    let body = match call.flaw.after_bytes {
        None => Body::from_stream(whole),
        Some((after, silence)) => {
            let mut left = usize::try_from(after).unwrap_or(usize::MAX);
            let before = whole.map_ok(move |mut piece| {
                piece.truncate(left);
                left -= piece.len();
                piece
            });
            // An error closes the connection under the client.
            let end = async move {
                match silence {
                    Silence::Stall => std::future::pending().await,
                    Silence::Cut => Err(std::io::Error::other("cut")),
                }
            };
            let before = before.try_take_while(|piece| std::future::ready(Ok(!piece.is_empty())));
            Body::from_stream(before.chain(futures_util::stream::once(end)))
        }
    };
    let mut response = Response::new(body);
    insert(response.headers_mut(), CONTENT_TYPE, content_type);
    insert(response.headers_mut(), CONTENT_LENGTH, &(end - start).to_string());
    if range.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let shown = format!("bytes {start}-{}/{}", end.saturating_sub(1), content.len);
        insert(response.headers_mut(), CONTENT_RANGE, &shown);
    }
    response
}

pub(super) fn refuse(world: &World, call: &Call, error: &GraphError) -> Response {
    let trace = world.ids.trace();
    let mut response = respond_traced(world, call, error.http, &error.body(&trace), &trace);
    if let Some(authenticate) = error.authenticate() {
        insert(response.headers_mut(), WWW_AUTHENTICATE, &authenticate);
    }
    if let Some(retry_after) = error.retry_after {
        insert(response.headers_mut(), RETRY_AFTER, &retry_after.as_secs().to_string());
    }
    response
}

pub(super) fn respond(world: &World, call: &Call, status: StatusCode, body: &Value) -> Response {
    respond_traced(world, call, status, body, &world.ids.trace())
}

fn respond_traced(world: &World, call: &Call, status: StatusCode, body: &Value, trace: &str) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    insert(headers, CONTENT_TYPE, "application/json; charset=UTF-8");
    insert(headers, HeaderName::from_static("x-fb-trace-id"), trace);
    insert(headers, HeaderName::from_static("x-fb-request-id"), trace);
    if call.version > 0 {
        insert(headers, HeaderName::from_static("facebook-api-version"), &format!("v{}.0", call.version));
    }
    let id = call.path.split('/').next().unwrap_or_default();
    if let Some(waba_id) = waba_of(world, id) {
        let state = world.state();
        let percent = state.calls.percent(waba_id, state.limits.calls_per_hour, world.now());
        drop(state);
        let usage = json!({ "call_count": percent, "total_time": 0, "total_cputime": 0 });
        insert(headers, HeaderName::from_static("x-app-usage"), &usage.to_string());
        let minutes = if percent >= 100 { 60 } else { 0 };
        let usage = json!({ waba_id: [{
            "type": "whatsapp_business_management",
            "call_count": percent,
            "total_cputime": 0,
            "total_time": 0,
            "estimated_time_to_regain_access": minutes,
        }]});
        insert(headers, HeaderName::from_static("x-business-use-case-usage"), &usage.to_string());
    }
    response
}

/// Sets a header; a value that no header can hold is left out.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
