//! A body that creates or edits a template (reference 2.4.1, 2.4.2).

use serde_json::{Map, Value as Json};

use super::{Converted, NoRequest, converted, differences, to_json, without_empty};
use crate::contract::from_json::from_json;
use crate::contract::to_value::meta_form;

/// An action of `ManageTemplateRequest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Action {
    /// The arm.
    name: &'static str,
    message: &'static str,
}

/// The action that a body means; `None` for a body that describes no template.
pub(super) fn action_of(body: &Map<String, Json>) -> Option<Action> {
    let has = |name: &str| body.contains_key(name);
    if !has("components") && !has("library_template_name") {
        return None;
    }
    Some(match (has("name"), has("languages")) {
        (false, _) => Action { name: "edit", message: "EditTemplateAction" },
        (true, false) => Action { name: "create", message: "CreateTemplateAction" },
        (true, true) => Action { name: "upsert", message: "UpsertTemplateAction" },
    })
}

/// The request of `ManageTemplate`. It has no `raw`: a template that were created without a part of it would be another.
pub(super) fn request_of(action: Action, body: &Map<String, Json>) -> Result<Converted, NoRequest> {
    let mut body = body.clone();
    let mut notes = vec!["this is a request of ManageTemplate".to_owned()];
    if action.name == "edit" {
        notes.push("edit.template_id is in the URL at Meta and not in its body: fill it in".to_owned());
    }
    // The only category that an upsert can have.
    let is_authentication = |category: &Json| {
        category.as_str().is_some_and(|category| category.eq_ignore_ascii_case("authentication"))
    };
    if action.name == "upsert" && body.get("category").is_some_and(is_authentication) {
        body.remove("category");
    }
    // Meta's pages write this list as a text (reference 2.4.7).
    if let Some(list) = body.get_mut("library_template_button_inputs")
        && let Some(read @ Json::Array(_)) = list.as_str().and_then(|text| serde_json::from_str(text).ok())
    {
        *list = read;
    }
    let body = Json::Object(body);
    let written = from_json(action.message, &without_empty(&body))
        .map_err(|mismatch| NoRequest::UntypedTemplate(vec![mismatch.to_string()]))
        .map(|encoded| meta_form(action.message, &encoded).map_or(Json::Null, |value| to_json(&value)))?;
    let mut lost = Vec::new();
    differences("", &body, Some(&written), &mut lost);
    if !lost.is_empty() {
        return Err(NoRequest::UntypedTemplate(lost));
    }
    let request = Map::from_iter([(action.name.to_owned(), without_empty(&body))]);
    converted("ManageTemplateRequest", request, Vec::new(), notes)
}

#[cfg(test)]
mod tests;
