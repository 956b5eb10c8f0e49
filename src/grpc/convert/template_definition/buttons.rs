//! Buttons: which set there may be, and what each may have (reference 2.4.4).

use std::collections::HashMap;

use super::variables::Variables;
use super::words::Category;
use super::{Context, authentication, words};
use crate::contract::v1;
use crate::contract::v1::template_definition_button::Button;
use crate::contract::v1::template_flow_button::Flow;
use crate::grpc::convert::Violations;

const FLOW_ACTIONS: [&str; 3] = ["", "navigate", "data_exchange"];
const FLOW_ICONS: [&str; 5] = ["", "DEFAULT", "DOCUMENT", "PROMOTION", "REVIEW"];
/// How many of a kind a template has at most.
const COUNTS: [(&str, usize); 3] = [("url", 2), ("phone_number", 1), ("copy_code", 1)];

/// Checks the buttons. `path` is that of the list.
pub(super) fn check(
    path: &str,
    context: Context,
    is_card: bool,
    list: &v1::TemplateDefinitionButtons,
    found: &mut Violations,
) {
    let buttons: Vec<(usize, &Button)> =
        list.buttons.iter().enumerate().filter_map(|(at, b)| Some((at, b.button.as_ref()?))).collect();
    if is_card && buttons.len() > 2 {
        found.add(path, format!("a card must have 1 or 2 buttons, has {}", buttons.len()));
    }
    check_set(path, &buttons, found);
    check_labels(path, &buttons, found);
    for (position, button) in buttons {
        let path = format!("{path}[{position}]");
        let kind = kind_of(button);
        let is_otp = matches!(button, Button::Otp(_));
        match context.category {
            Some(Category::Authentication) if !is_otp => {
                let remedy =
                    if kind == "url" { "; Meta describes them as url, but takes them as otp" } else { "" };
                let rule = format!("an authentication template has otp buttons, no {kind}{remedy}");
                found.add(&path, rule);
            }
            Some(Category::Marketing | Category::Utility) if is_otp => {
                found.add(&path, "otp buttons are for authentication templates");
            }
            _ => {}
        }
        check_button(&format!("{path}.{kind}"), context, button, found);
    }
}

fn check_set(path: &str, buttons: &[(usize, &Button)], found: &mut Violations) {
    for (kind, max) in COUNTS {
        let extra = buttons.iter().filter(|(_, button)| kind_of(button) == kind).nth(max);
        if let Some((position, _)) = extra {
            found.add(&format!("{path}[{position}]"), format!("a template has at most {max} {kind} buttons"));
        }
    }
    let is_reply = |button: &Button| matches!(button, Button::QuickReply(_));
    let mut starts = buttons.iter().enumerate().filter(|(at, (_, button))| {
        let before = at.checked_sub(1).and_then(|before| buttons.get(before));
        is_reply(button) && !before.is_some_and(|(_, before)| is_reply(before))
    });
    if let Some((_, (position, _))) = starts.nth(1) {
        let remedy = "put all of them before or behind the other buttons";
        found.add(&format!("{path}[{position}]"), format!("quick replies must stand together; {remedy}"));
    }
}

/// Users could not tell apart two buttons of one label.
fn check_labels(path: &str, buttons: &[(usize, &Button)], found: &mut Violations) {
    let mut known: HashMap<&str, usize> = HashMap::new();
    for (position, button) in buttons {
        let Some(label) = label_of(button).filter(|label| !label.is_empty()) else { continue };
        if let Some(first) = known.get(label) {
            let path = format!("{path}[{position}].{}.text", kind_of(button));
            found.add(
                &path,
                format!("is the label of buttons[{first}], too; give each button one of its own"),
            );
        } else {
            known.insert(label, *position);
        }
    }
}

fn check_button(path: &str, context: Context, button: &Button, found: &mut Violations) {
    match button {
        Button::Url(url) => {
            check_url(&format!("{path}.url"), &url.url, found);
            let example = url.example.first().map(String::as_str);
            check_url_example(&format!("{path}.example"), &url.url, example, found);
        }
        Button::Flow(flow) => check_flow(path, flow, found),
        Button::Otp(otp) => authentication::check_otp(path, context, otp, found),
        Button::QuickReply(_)
        | Button::PhoneNumber(_)
        | Button::CopyCode(_)
        | Button::Mpm(_)
        | Button::Spm(_)
        | Button::Catalog(_)
        | Button::VoiceCall(_)
        | Button::RequestContactInfo(_)
        | Button::OrderDetails(_)
        | Button::App(_) => {}
    }
}

/// Checks that a URL has at most one variable, at its end.
pub(super) fn check_url(path: &str, url: &str, found: &mut Violations) {
    let variables = Variables::of(url);
    if variables.len() > 1 {
        found.add(path, format!("must have at most one variable, has {}", variables.len()));
    } else if !variables.is_empty() && !url.ends_with("}}") {
        found.add(path, "must have its variable at the end");
    }
}

/// Checks that a URL has a sample if it has a variable.
pub(super) fn check_url_example(path: &str, url: &str, example: Option<&str>, found: &mut Violations) {
    match (Variables::of(url).is_empty(), example) {
        (false, None | Some("")) => {
            found.add(path, "is required: the whole URL with a sample for its variable");
        }
        (true, Some(_)) => found.add(path, "must be absent: the URL has no variable"),
        _ => {}
    }
}

fn check_flow(path: &str, flow: &v1::TemplateFlowButton, found: &mut Violations) {
    words::check(&format!("{path}.flow_action"), &flow.flow_action, &FLOW_ACTIONS, found);
    words::check(&format!("{path}.icon"), &flow.icon, &FLOW_ICONS, found);
    if let Some(Flow::FlowJson(json)) = &flow.flow {
        let parsed = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(json);
        if let Err(error) = parsed {
            // The place alone: the words of the error may quote the text.
            let (line, column) = (error.line(), error.column());
            let rule = format!("must be a Flow as JSON text, an object; see line {line}, column {column}");
            found.add(&format!("{path}.flow_json"), rule);
        }
    }
}

/// The name of its arm.
pub(super) fn kind_of(button: &Button) -> &'static str {
    match button {
        Button::QuickReply(_) => "quick_reply",
        Button::Url(_) => "url",
        Button::PhoneNumber(_) => "phone_number",
        Button::CopyCode(_) => "copy_code",
        Button::Flow(_) => "flow",
        Button::Otp(_) => "otp",
        Button::Mpm(_) => "mpm",
        Button::Spm(_) => "spm",
        Button::Catalog(_) => "catalog",
        Button::VoiceCall(_) => "voice_call",
        Button::RequestContactInfo(_) => "request_contact_info",
        Button::OrderDetails(_) => "order_details",
        Button::App(_) => "app",
    }
}

fn label_of(button: &Button) -> Option<&str> {
    Some(match button {
        Button::QuickReply(button) => &button.text,
        Button::Url(button) => &button.text,
        Button::PhoneNumber(button) => &button.text,
        Button::Flow(button) => &button.text,
        Button::Otp(button) => &button.text,
        Button::Mpm(button)
        | Button::Spm(button)
        | Button::Catalog(button)
        | Button::RequestContactInfo(button)
        | Button::OrderDetails(button) => &button.text,
        Button::VoiceCall(button) => &button.text,
        Button::App(button) => &button.text,
        // The label is Meta's.
        Button::CopyCode(_) => return None,
    })
}
