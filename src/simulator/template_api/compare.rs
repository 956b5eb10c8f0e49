//! `GET /{TEMPLATE_ID}/compare`: how two templates of a WABA did in the same time.

use serde_json::{Value, json};

use super::ids;
use crate::simulator::graph::{Call, Reply};
use crate::simulator::graph_error::GraphError;
use crate::simulator::templates::Template;
use crate::simulator::unix_seconds;
use crate::simulator::world::World;

const DAY: u64 = 86_400;
const WINDOWS: [u64; 4] = [7, 30, 60, 90];
/// Each template was sent at least so often.
const SENDS_MIN: u64 = 1_000;

/// Block rate, sends and the reason of most blocks.
pub(super) fn compare(world: &World, call: &Call, id: u64) -> Result<Reply, GraphError> {
    let start = window(call, unix_seconds(world.now()))?;
    let required = || GraphError::parameter("The parameter template_ids is required.");
    let others = ids(call, "template_ids", 10)?.ok_or_else(required)?;
    let state = world.state();
    let waba_id = state.templates.by_id(id).map(|template| template.waba_id.clone());
    let mut compared: Vec<&Template> = Vec::new();
    for id in std::iter::once(id).chain(others) {
        let template = state.templates.by_id(id);
        let template = template.filter(|template| Some(&template.waba_id) == waba_id.as_ref());
        let template = template.ok_or_else(|| {
            GraphError::parameter(format!("Param template_ids: {id} is no template of the same account."))
        })?;
        if compared.iter().any(|compared| compared.id == id) {
            return Err(GraphError::parameter("Param template_ids must hold other templates, each once."));
        }
        if template.history.sends_since(start) < SENDS_MIN {
            let message = format!("Template {id} was sent fewer than {SENDS_MIN} times in this time.");
            return Err(GraphError::parameter(message));
        }
        compared.push(template);
    }
    let pairs = |value: fn(&Template, u64) -> Value| -> Vec<Value> {
        let pair =
            |template: &&Template| json!({ "key": template.id.to_string(), "value": value(template, start) });
        compared.iter().map(pair).collect()
    };
    let sends = pairs(|template, start| json!(template.history.sends_since(start)));
    let reasons = pairs(|template, _| json!(template.history.top_block_reason));
    let mut by_rate: Vec<&&Template> = compared.iter().collect();
    by_rate.sort_by_key(|template| template.history.block_rate);
    let order: Vec<String> = by_rate.iter().map(|template| template.id.to_string()).collect();
    Ok(Reply::Json(json!({ "data": [
        { "metric": "BLOCK_RATE", "type": "RELATIVE", "order_by_relative_metric": order },
        { "metric": "MESSAGE_SENDS", "type": "NUMBER_VALUES", "number_values": sends },
        { "metric": "TOP_BLOCK_REASON", "type": "STRING_VALUES", "string_values": reasons },
    ]})))
}

/// The start of the window, which has one of four lengths and ends now; a clock may be a day off.
fn window(call: &Call, now: u64) -> Result<u64, GraphError> {
    let moment = |name: &str| {
        let required = || GraphError::parameter(format!("Param {name} must be a Unix time in seconds."));
        call.query(name).and_then(|text| text.parse::<u64>().ok()).ok_or_else(required)
    };
    let (start, end) = (moment("start")?, moment("end")?);
    if !WINDOWS.iter().any(|days| start.checked_add(days * DAY) == Some(end)) {
        return Err(GraphError::parameter("Params start and end must be 7, 30, 60 or 90 days apart."));
    }
    if end.abs_diff(now) > DAY {
        return Err(GraphError::parameter("Param end must be the current time."));
    }
    Ok(start)
}
