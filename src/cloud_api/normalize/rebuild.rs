//! The way back from events to the JSON of their POST: the proof that nothing was dropped.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::domain::event::Event;

/// The JSON of the POST that `events` come from; they must be all events of one `webhook_id`, in any order.
///
/// Two things do not come back, both by decision: the order of fields and the spelling of texts (they are in
/// `raw_json`), and the second of two items that are the same word for word. A body that is not JSON is an
/// error; its bytes are in the payload.
pub fn rebuild(events: &[Event]) -> Result<Value, serde_json::Error> {
    let mut events: Vec<&Event> = events.iter().collect();
    events.sort_by_key(|event| event.origin.item_index);
    if let [event] = events.as_slice()
        && event.origin.entry_index.is_none()
    {
        return serde_json::from_str(&event.raw_json);
    }
    let mut by_entry: BTreeMap<Option<u32>, Vec<&Event>> = BTreeMap::new();
    for event in &events {
        by_entry.entry(event.origin.entry_index).or_default().push(event);
    }
    let mut body = Map::new();
    let mut entries = Vec::new();
    for events in by_entry.values() {
        let (top, entry) = rebuild_entry(events)?;
        entries.push(entry);
        body = top;
    }
    body.insert("entry".to_owned(), Value::Array(entries));
    Ok(Value::Object(body))
}

/// The top level's fields and the entry.
fn rebuild_entry(events: &[&Event]) -> Result<(Map<String, Value>, Value), serde_json::Error> {
    let mut by_change: BTreeMap<Option<u32>, Vec<&Event>> = BTreeMap::new();
    for event in events {
        by_change.entry(event.origin.change_index).or_default().push(event);
    }
    let (mut top, mut entry, mut changes) = (Map::new(), Value::Null, Vec::new());
    for (index, events) in &by_change {
        let frame = events.iter().find(|event| !event.change_json.is_empty());
        top = frame.map(|event| serde_json::from_str(&event.change_json)).transpose()?.unwrap_or_default();
        if index.is_none() {
            let text = events.first().map_or("null", |event| event.raw_json.as_str());
            return Ok((top, serde_json::from_str(text)?));
        }
        entry = top.get_mut("entry").and_then(|list| list.get_mut(0)).map_or(Value::Null, Value::take);
        let change =
            entry.get_mut("changes").and_then(|list| list.get_mut(0)).map_or(Value::Null, Value::take);
        changes.push(rebuild_change(change, events)?);
    }
    if let Value::Object(fields) = &mut entry {
        fields.insert("changes".to_owned(), Value::Array(changes));
    }
    Ok((top, entry))
}

fn rebuild_change(mut change: Value, events: &[&Event]) -> Result<Value, serde_json::Error> {
    let Value::Object(fields) = &mut change else { return Ok(change) };
    for event in events {
        if event.origin.array.is_empty() {
            if !event.raw_json.is_empty() {
                fields.insert("value".to_owned(), serde_json::from_str(&event.raw_json)?);
            }
            continue;
        }
        let item = serde_json::from_str(&event.raw_json)?;
        let Some(Value::Object(value)) = fields.get_mut("value") else { continue };
        let array = value.entry(event.origin.array).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(items) = array {
            items.push(item);
        }
    }
    Ok(change)
}
