//! Webhook bodies: updates in Meta's envelope, alone or gathered into one POST.

use std::collections::HashMap;

use serde_json::{Value, json};

/// One thing to report: a change with what it is about.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Update {
    pub(super) waba_id: String,
    pub(super) field: &'static str,
    pub(super) value: Value,
    /// Seconds; only account and template fields carry a time.
    pub(super) time: Option<u64>,
    /// Updates of one queue keep their order.
    pub(super) queue: String,
}

/// Updates held back until they fill a POST, by the fault that holds them.
#[derive(Debug, Default)]
pub(super) struct Batches(HashMap<u64, Vec<Update>>);

impl Batches {
    /// Adds an update; the whole batch once it is full. The flag says whether it is the batch's first.
    pub(super) fn add(&mut self, fault: u64, size: u32, update: Update) -> (Option<Vec<Update>>, bool) {
        let batch = self.0.entry(fault).or_default();
        batch.push(update);
        let is_first = batch.len() == 1;
        if batch.len() >= usize::try_from(size).unwrap_or(usize::MAX) {
            return (self.0.remove(&fault), is_first);
        }
        (None, is_first)
    }

    /// What has gathered so far.
    pub(super) fn take(&mut self, fault: u64) -> Option<Vec<Update>> {
        self.0.remove(&fault)
    }
}

/// The body that reports these updates. One WABA has one entry; messages and statuses of one number share
/// a change, and all else has a change of its own.
pub(super) fn envelope(updates: Vec<Update>) -> Value {
    let mut entries: Vec<Value> = Vec::new();
    for update in updates {
        let entry = entries.iter_mut().find(|entry| {
            entry.get("id").is_some_and(|id| *id == update.waba_id)
                && entry.get("time").and_then(Value::as_u64) == update.time
        });
        match entry.and_then(|entry| entry.get_mut("changes")).and_then(Value::as_array_mut) {
            Some(changes) => add_change(changes, update),
            None => entries.push(new_entry(&update)),
        }
    }
    json!({ "object": "whatsapp_business_account", "entry": entries })
}

fn new_entry(update: &Update) -> Value {
    let changes = json!([{ "field": update.field, "value": update.value }]);
    match update.time {
        Some(time) => json!({ "id": update.waba_id, "time": time, "changes": changes }),
        None => json!({ "id": update.waba_id, "changes": changes }),
    }
}

fn add_change(changes: &mut Vec<Value>, update: Update) {
    let same_number = changes.iter_mut().find(|change| {
        update.field == "messages"
            && change.get("field").is_some_and(|field| field == "messages")
            && change.pointer("/value/metadata") == update.value.get("metadata")
    });
    let Some(Value::Object(value)) = same_number.and_then(|change| change.get_mut("value")) else {
        changes.push(json!({ "field": update.field, "value": update.value }));
        return;
    };
    let Value::Object(added) = update.value else { return };
    for (key, added) in added {
        let Value::Array(added) = added else { continue };
        let items = value.entry(key).or_insert_with(|| json!([]));
        if let Value::Array(items) = items {
            // Two statuses of one user need the contact only once.
            let new: Vec<Value> = added
                .into_iter()
                .filter(|item| item.get("user_id").is_none() || !items.contains(item))
                .collect();
            items.extend(new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(waba_id: &str, number: &str, key: &str, id: &str) -> Update {
        let value = json!({
            "messaging_product": "whatsapp",
            "metadata": { "phone_number_id": number },
            "contacts": [{ "user_id": "US.1" }],
            key: [{ "id": id }],
        });
        let queue = String::new();
        Update { waba_id: waba_id.to_owned(), field: "messages", value, time: None, queue }
    }

    #[test]
    fn updates_of_one_number_share_a_change() {
        let body = envelope(vec![
            update("1", "11", "statuses", "a"),
            update("1", "11", "statuses", "b"),
            update("1", "11", "messages", "c"),
            update("1", "12", "statuses", "d"),
            update("2", "21", "statuses", "e"),
        ]);
        assert_eq!(body["entry"].as_array().unwrap().len(), 2);
        let changes = body["entry"][0]["changes"].as_array().unwrap();
        assert_eq!(changes.len(), 2);
        assert_eq!(changes[0]["value"]["statuses"], json!([{ "id": "a" }, { "id": "b" }]));
        assert_eq!(changes[0]["value"]["messages"], json!([{ "id": "c" }]));
        assert_eq!(changes[0]["value"]["contacts"], json!([{ "user_id": "US.1" }]));
        assert_eq!(body["entry"][1]["id"], "2");
    }

    #[test]
    fn a_batch_fills() {
        let mut batches = Batches::default();
        assert_eq!(batches.add(1, 2, update("1", "11", "statuses", "a")), (None, true));
        let (full, is_first) = batches.add(1, 2, update("1", "11", "statuses", "b"));
        assert_eq!((full.unwrap().len(), is_first), (2, false));
        assert_eq!(batches.take(1), None);
    }
}
