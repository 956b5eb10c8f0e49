//! What Meta has ready: the template library, and the fixed texts of authentication templates.

use serde_json::{Value, json};

use super::require_waba;
use crate::simulator::graph::{Call, Reply};
use crate::simulator::graph_error::GraphError;
use crate::simulator::node::Node;
use crate::simulator::paging;
use crate::simulator::templates::authentication::Texts;
use crate::simulator::templates::languages::LANGUAGES;
use crate::simulator::templates::library::LIBRARY;
use crate::simulator::world::World;

/// `GET /message_template_library`, filtered.
pub(in crate::simulator) fn library(call: &Call) -> Result<Reply, GraphError> {
    let matches = |ready: &Value| {
        let text = |field: &str| ready.get(field).and_then(Value::as_str).unwrap_or_default();
        call.query.iter().all(|(name, wanted)| match name.as_str() {
            "name" | "language" => text(name) == wanted,
            "topic" | "usecase" => text(name).eq_ignore_ascii_case(wanted),
            "industry" => {
                let industries = ready.get("industry").and_then(Value::as_array);
                let is =
                    |industry: &Value| industry.as_str().is_some_and(|one| one.eq_ignore_ascii_case(wanted));
                industries.is_some_and(|industries| industries.iter().any(is))
            }
            "search" => {
                let wanted = wanted.to_lowercase();
                ["name", "header", "body"].iter().any(|field| text(field).to_lowercase().contains(&wanted))
            }
            _ => true,
        })
    };
    let items: Vec<(String, Value)> = LIBRARY
        .iter()
        .map(|ready| (format!("{} {}", ready.name, ready.language), ready.to_json()))
        .filter(|(_, ready)| matches(ready))
        .collect();
    paging::page(call, &items).map(Reply::Json)
}

/// `GET /{WABA}/message_template_previews`: the fixed texts, in the languages asked for or in all.
pub(in crate::simulator) fn previews(world: &World, call: &Call, waba_id: &str) -> Result<Reply, GraphError> {
    require_waba(world, call, waba_id)?;
    previewed(call).map_err(GraphError::into_parameter).map(|data| Reply::Json(json!({ "data": data })))
}

fn previewed(call: &Call) -> Result<Vec<Value>, GraphError> {
    let query: serde_json::Map<String, Value> =
        call.query.iter().map(|(name, text)| (name.clone(), json!(text))).collect();
    let query = Value::Object(query);
    let node = Node::new("query", &query);
    node.required("category")?.word_in_any_case(&["AUTHENTICATION"])?;
    if let Some(types) = node.get("button_types") {
        types.word_in_any_case(&["OTP"])?;
    }
    let is_secure = node.get("add_security_recommendation");
    let is_secure = is_secure.map(|flag| flag.word(&["true", "false"])).transpose()? == Some("true");
    let minutes = node.get("code_expiration_minutes").map(|minutes| minutes.number(1, 90)).transpose()?;
    // Meta's page shows both spellings; its working example has the first.
    let wanted = call.query("languages").or_else(|| call.query("language"));
    let languages: Vec<&str> = match wanted {
        Some(list) => {
            list.trim_matches(['[', ']']).split(',').map(|one| one.trim().trim_matches('"')).collect()
        }
        None => LANGUAGES.to_vec(),
    };
    if let Some(unknown) = languages.iter().find(|language| !LANGUAGES.contains(language)) {
        let message = format!("Param languages must hold supported language codes; {unknown} is none.");
        return Err(GraphError::parameter(message));
    }
    let preview = |language: &&str| {
        let texts = Texts::of(language);
        let mut preview = json!({
            "body": texts.body(is_secure),
            "buttons": [{ "autofill_text": texts.autofill, "text": texts.copy }],
            "language": language,
        });
        if let (Some(minutes), Some(fields)) = (minutes, preview.as_object_mut()) {
            fields.insert("footer".to_owned(), json!(texts.footer(minutes)));
        }
        preview
    };
    Ok(languages.iter().map(preview).collect())
}
