//! The recorded webhooks of other projects, which lie beside the package.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::*;

fn corpus() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/webhook-corpus");
    if !root.is_dir() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "CI needs the webhook corpus");
        eprintln!("skipped: no webhook corpus beside the package");
        return Vec::new();
    }
    let folders =
        std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let files = folders.flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let mut paths: Vec<PathBuf> = files.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    assert!(paths.len() > 200, "the corpus is incomplete: {} files", paths.len());
    paths
}

fn kind(payload: &Payload) -> &'static str {
    match payload {
        Payload::Message { .. } => "message",
        Payload::Status { .. } => "status",
        Payload::Error => "error",
        Payload::Field { .. } => "field",
        Payload::Fallback(_) | Payload::Number(_) | Payload::Send(_) => "of the gateway",
        Payload::Unknown { .. } => "unknown",
    }
}

#[test]
fn recorded_webhooks_come_back_equal() {
    let mut table: BTreeMap<(String, &str), usize> = BTreeMap::new();
    for path in corpus() {
        let body = std::fs::read(&path).unwrap();
        let events = normalize(&body, now());
        assert!(!events.is_empty());
        let expected: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(rebuild(&events).unwrap(), expected, "{}", path.display());
        for event in &events {
            let text = std::str::from_utf8(&body).unwrap();
            assert!(text.contains(&event.raw_json), "not the exact text: {}", path.display());
            let attributes = &event.attributes;
            let has_conversation = !attributes.conversation_key.is_empty() || !event.user.is_empty();
            let is_whole = event.origin.entry_index.is_none();
            assert!(has_conversation || is_whole || attributes.waba_id.is_empty(), "{}", path.display());
            *table.entry((attributes.event_type.clone(), kind(&event.payload))).or_default() += 1;
        }
    }
    for ((event_type, kind), count) in table {
        println!("{count:5}  {kind:8}  {event_type}");
    }
}

#[test]
fn all_recorded_webhooks_in_one_post_come_back_equal() {
    let mut entries = Vec::new();
    for path in corpus() {
        let body: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        entries.extend(body["entry"].as_array().cloned().unwrap_or_default());
    }
    if entries.is_empty() {
        return;
    }
    // The recordings share message ids; one number per entry keeps them apart, as twins would not come back.
    for (index, entry) in entries.iter_mut().enumerate() {
        entry["id"] = json!(index.to_string());
        for change in entry["changes"].as_array_mut().into_iter().flatten() {
            change["value"]["metadata"]["phone_number_id"] = json!(index.to_string());
        }
    }
    let events = rebuilt(&json!({"object": "whatsapp_business_account", "entry": entries}));
    assert!(events.len() > 200);
}
