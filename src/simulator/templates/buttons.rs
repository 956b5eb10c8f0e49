//! The buttons of a creation, section 2.4.4 of the reference: each kind, and which go together.

use serde_json::Value;

use super::components::optional_label;
use super::text::{limited, text};
use super::variables;
use crate::simulator::graph_error::GraphError;
use crate::simulator::node::Node;

/// Every kind and how many of it a template may have.
const KINDS: [(&str, usize); 13] = [
    ("QUICK_REPLY", 10),
    ("URL", 2),
    ("PHONE_NUMBER", 1),
    ("COPY_CODE", 1),
    ("FLOW", 1),
    ("OTP", 1),
    ("MPM", 1),
    ("SPM", 1),
    ("CATALOG", 1),
    ("VOICE_CALL", 1),
    ("REQUEST_CONTACT_INFO", 1),
    ("ORDER_DETAILS", 1),
    ("APP", 1),
];

/// Judges the buttons of a template or a card that is no authentication template.
pub(super) fn check(buttons: &Node<'_>, category: &str, max: usize) -> Result<(), GraphError> {
    let names = KINDS.map(|(kind, _)| kind);
    let mut kinds: Vec<&str> = Vec::new();
    let mut labels: Vec<&str> = Vec::new();
    for button in buttons.list(1, max)? {
        let kind = button.required("type")?.word_in_any_case(&names)?;
        if kind == "OTP" {
            let why = "is for authentication templates; this one is of the category ";
            return Err(button.invalid(&format!("{why}{category}")));
        }
        check_button(kind, &button)?;
        if let Some(label) = button.value.get("text").and_then(Value::as_str) {
            if labels.contains(&label) {
                return Err(button.invalid("repeats the text of another button"));
            }
            labels.push(label);
        }
        kinds.push(kind);
    }
    check_together(buttons, &kinds)
}

/// How many of each kind there are, and that quick replies stand together.
fn check_together(buttons: &Node<'_>, kinds: &[&str]) -> Result<(), GraphError> {
    for (kind, max) in KINDS {
        let count = kinds.iter().filter(|given| **given == kind).count();
        if count > max {
            return Err(buttons.invalid(&format!("has {count} buttons of type {kind}; the maximum is {max}")));
        }
    }
    let mut is_reply: Vec<bool> = kinds.iter().map(|kind| *kind == "QUICK_REPLY").collect();
    is_reply.dedup();
    if is_reply.iter().filter(|is_reply| **is_reply).count() > 1 {
        return Err(buttons.invalid("mixes quick replies with other buttons; put the quick replies together"));
    }
    Ok(())
}

fn check_button(kind: &str, button: &Node<'_>) -> Result<(), GraphError> {
    match kind {
        "QUICK_REPLY" => {
            button.known(&["type", "text"])?;
            text(button, "text", 25).map(|_| ())
        }
        "URL" => check_url(button),
        "PHONE_NUMBER" => {
            button.known(&["type", "text", "phone_number"])?;
            text(button, "text", 25)?;
            let number = text(button, "phone_number", 20)?;
            check_number(button, number)
        }
        "COPY_CODE" => {
            button.known(&["type", "text", "example"])?;
            optional_label(button)?;
            let example = button.required("example")?;
            // Meta takes the code alone and in a list.
            let code = if example.value.is_array() { example.list(1, 1)?.pop() } else { Some(example) };
            code.map_or(Ok(()), |code| limited(&code, 15).map(|_| ()))
        }
        "FLOW" => check_flow(button),
        "VOICE_CALL" => {
            button.known(&["type", "text", "ttl_minutes"])?;
            text(button, "text", 25)?;
            button.get("ttl_minutes").map_or(Ok(()), |ttl| ttl.number(1, 43_200).map(|_| ()))
        }
        "ORDER_DETAILS" => {
            button.known(&["type", "text"])?;
            text(button, "text", 25).map(|_| ())
        }
        "APP" => {
            button.known(&["type", "text", "app_deep_link"])?;
            text(button, "text", 25)?;
            let is_object = button.required("app_deep_link")?.value.is_object();
            if is_object { Ok(()) } else { Err(button.invalid("needs an object in app_deep_link")) }
        }
        // The label is Meta's own.
        _ => {
            button.known(&["type", "text"])?;
            optional_label(button)
        }
    }
}

/// An address with at most one variable, which ends it and has a sample.
fn check_url(button: &Node<'_>) -> Result<(), GraphError> {
    button.known(&["type", "text", "url", "example"])?;
    text(button, "text", 25)?;
    let url = text(button, "url", 2000)?;
    let node = button.required("url")?;
    check_address(&node, url)?;
    match (variables(url).is_empty(), button.get("example")) {
        (true, None) => Ok(()),
        (true, Some(example)) => Err(example.invalid("is a sample of a variable that the URL does not have")),
        (false, None) => Err(button.required("example").err().unwrap_or_else(|| GraphError::of(100))),
        (false, Some(example)) => {
            let samples = example.list(1, 1)?;
            samples.iter().try_for_each(|sample| limited(sample, 2000).map(|_| ()))
        }
    }
}

/// An address, the variable of which stands at its end.
pub(super) fn check_address(node: &Node<'_>, url: &str) -> Result<(), GraphError> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    if rest.is_none_or(|rest| rest.is_empty() || rest.starts_with(['/', '{']) || rest.contains(' ')) {
        return Err(node.invalid("must be an address with http:// or https://"));
    }
    let count = url.matches("{{").count();
    if count > 1 || (count == 1 && !url.ends_with("{{1}}")) {
        return Err(node.invalid("may have one variable, {{1}}, at its end"));
    }
    Ok(())
}

pub(super) fn check_number(button: &Node<'_>, number: &str) -> Result<(), GraphError> {
    let digits = number.strip_prefix('+').unwrap_or(number);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { Ok(()) } else { Err(button.invalid("needs digits in phone_number")) }
}

fn check_flow(button: &Node<'_>) -> Result<(), GraphError> {
    let sources = ["flow_id", "flow_name", "flow_json"];
    button.known(&[
        "type",
        "text",
        "flow_id",
        "flow_name",
        "flow_json",
        "flow_action",
        "navigate_screen",
        "icon",
    ])?;
    text(button, "text", 25)?;
    let given: Vec<Node<'_>> = sources.iter().filter_map(|source| button.get(source)).collect();
    if given.len() != 1 {
        return Err(button.invalid(&format!("needs exactly one of {}", sources.join(", "))));
    }
    // A number is an id too.
    for source in given.iter().filter(|source| !source.value.is_u64()) {
        source.text(usize::MAX)?;
    }
    if let Some(action) = button.get("flow_action") {
        action.word_in_any_case(&["navigate", "data_exchange"])?;
    }
    button.optional_text("navigate_screen", usize::MAX)?;
    if let Some(icon) = button.get("icon") {
        icon.word_in_any_case(&["DEFAULT", "DOCUMENT", "PROMOTION", "REVIEW"])?;
    }
    Ok(())
}
