//! A description → what the template takes from a message.

use serde_json::Value;

use crate::cloud_api::error_code::{Operation, verdict};
use crate::domain::failure::{MetaError, Verdict};
use crate::domain::template::Template;
use crate::domain::template_shape::{Button, Cards, Header, Parts, Slots, TemplateShape, Variables};

/// The type of a template's own texts (reference 3.13).
const AUTHENTICATION: &str = "AUTHENTICATION";

/// Meta's codes for a send that its template does not allow (reference 5.6).
const PARAMETER_COUNT: i64 = 132_000;
const NO_SUCH_TEMPLATE: i64 = 132_001;
const PAUSED: i64 = 132_015;
const DISABLED: i64 = 132_016;

/// Statuses in which a template cannot be sent, and what Meta answers (reference 2.4.6, 3.11). Of other words that are not
/// `APPROVED` nothing is known.
const UNSENDABLE: [(&str, i64); 9] = [
    ("PAUSED", PAUSED),
    ("DISABLED", DISABLED),
    ("PENDING", NO_SUCH_TEMPLATE),
    ("REJECTED", NO_SUCH_TEMPLATE),
    ("IN_APPEAL", NO_SUCH_TEMPLATE),
    ("PENDING_DELETION", NO_SUCH_TEMPLATE),
    ("DELETED", NO_SUCH_TEMPLATE),
    ("LIMIT_EXCEEDED", NO_SUCH_TEMPLATE),
    ("ARCHIVED", NO_SUCH_TEMPLATE),
];

/// Buttons (reference 2.4.4): type, `sub_type` in a send, type of their one parameter, whether they cannot be sent without
/// (reference 3.12).
const BUTTONS: [(&str, &str, Option<&str>, bool); 9] = [
    ("QUICK_REPLY", "quick_reply", None, false),
    ("OTP", "url", Some("text"), true),
    ("COPY_CODE", "copy_code", Some("coupon_code"), true),
    ("FLOW", "flow", Some("action"), false),
    ("CATALOG", "catalog", Some("action"), false),
    ("MPM", "mpm", Some("action"), true),
    ("ORDER_DETAILS", "order_details", Some("action"), true),
    ("VOICE_CALL", "voice_call", None, false),
    ("PHONE_NUMBER", "phone_number", None, false),
];

/// What Meta would answer to a send of a template with this status; `None` if it may be sent, as far as is known.
pub fn unsendable(status: &str) -> Option<Verdict> {
    let (_, code) = UNSENDABLE.iter().find(|(word, _)| *word == status)?;
    Some(of_code(*code))
}

/// What Meta answers if there is no such template.
pub fn no_such_template() -> Verdict {
    of_code(NO_SUCH_TEMPLATE)
}

/// What Meta answers to parameters that do not fit.
pub fn parameters_misfit() -> Verdict {
    of_code(PARAMETER_COUNT)
}

fn of_code(code: i64) -> Verdict {
    verdict(&MetaError { code: Some(code), ..MetaError::default() }, false, Operation::Send)
}

/// Reads it out of a description; `None` if that lacks name or language.
pub fn shape(template: &Template) -> Option<TemplateShape> {
    let described: Value = serde_json::from_str(&template.json).ok()?;
    let (name, language) = (text(&described, "name"), text(&described, "language"));
    (!name.is_empty() && !language.is_empty()).then(|| TemplateShape {
        id: template.id.clone(),
        name: name.to_owned(),
        language: language.to_owned(),
        status: text(&described, "status").to_ascii_uppercase(),
        parts: parts(&described),
    })
}

fn parts(template: &Value) -> Option<Parts> {
    let reader = Reader {
        is_named: match text(template, "parameter_format").to_ascii_uppercase().as_str() {
            "NAMED" => true,
            "POSITIONAL" | "" => false,
            _ => return None,
        },
        is_authentication: text(template, "category").eq_ignore_ascii_case(AUTHENTICATION),
    };
    let components = template.get("components")?.as_array()?;
    let mut has_offer = false;
    let mut cards = Cards::Absent;
    for component in components {
        match kind(component).as_str() {
            "HEADER" | "BODY" | "FOOTER" | "BUTTONS" | "CALL_PERMISSION_REQUEST" => {}
            "LIMITED_TIME_OFFER" => has_offer = true,
            "CAROUSEL" => cards = reader.cards(component).unwrap_or(Cards::Unknown),
            _ => return None,
        }
    }
    Some(Parts { slots: reader.slots(components)?, has_offer, cards })
}

/// What decides how all texts and buttons of a template are read.
struct Reader {
    is_named: bool,
    is_authentication: bool,
}

impl Reader {
    /// `None` if a component is there twice.
    fn slots(&self, components: &[Value]) -> Option<Slots> {
        let only = |wanted: &str| {
            let mut found = components.iter().filter(|component| kind(component) == wanted);
            let first = found.next();
            found.next().is_none().then_some(first)
        };
        Some(Slots {
            header: only("HEADER")?.map_or(Header::Absent, |header| self.header(header)),
            body: only("BODY")?.map_or(Variables::Numbered(0), |body| self.body(body)),
            buttons: match only("BUTTONS")? {
                Some(buttons) => buttons.get("buttons")?.as_array()?.iter().map(|b| self.button(b)).collect(),
                None => Vec::new(),
            },
        })
    }

    fn header(&self, header: &Value) -> Header {
        match text(header, "format").to_ascii_uppercase().as_str() {
            "TEXT" => Header::Text(self.variables(header)),
            "IMAGE" => Header::One("image"),
            "VIDEO" => Header::One("video"),
            "DOCUMENT" => Header::One("document"),
            "LOCATION" => Header::One("location"),
            "PRODUCT" => Header::One("product"),
            _ => Header::Unknown,
        }
    }

    /// The body of an authentication template is Meta's own text with the code in it (reference 3.13).
    fn body(&self, body: &Value) -> Variables {
        let is_metas_own = self.is_authentication && body.get("text").is_none();
        if is_metas_own { Variables::Numbered(1) } else { self.variables(body) }
    }

    /// The variables of the component's text. One that stands there twice may count once or twice, so such a text is not
    /// known.
    fn variables(&self, component: &Value) -> Variables {
        let Some(text) = component.get("text").and_then(Value::as_str) else { return Variables::Unknown };
        let mut names: Vec<&str> = Vec::new();
        for part in text.split("{{").skip(1) {
            let Some((name, _)) = part.split_once("}}") else { return Variables::Unknown };
            let is_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
            if name.is_empty() || !name.bytes().all(is_name) || names.contains(&name) {
                return Variables::Unknown;
            }
            names.push(name);
        }
        if self.is_named {
            return Variables::Named(names.into_iter().map(ToOwned::to_owned).collect());
        }
        let is_counted = (1..=names.len()).all(|n| names.contains(&n.to_string().as_str()));
        if is_counted { Variables::Numbered(names.len()) } else { Variables::Unknown }
    }

    fn button(&self, button: &Value) -> Button {
        let kind = kind(button);
        if kind == "URL" {
            let has_variable = text(button, "url").contains("{{");
            // Meta describes the button of a one-time password so, and does not say whether its address shows the code.
            return match (has_variable, self.is_authentication) {
                (true, _) => Button::Known { sub_type: "url", takes: Some("text"), is_required: true },
                (false, true) => Button::Unknown,
                (false, false) => Button::Known { sub_type: "url", takes: None, is_required: false },
            };
        }
        let known = BUTTONS.into_iter().find(|(word, ..)| *word == kind);
        known.map_or(Button::Unknown, |(_, sub_type, takes, is_required)| Button::Known {
            sub_type,
            takes,
            is_required,
        })
    }

    fn cards(&self, carousel: &Value) -> Option<Cards> {
        let cards = carousel.get("cards")?.as_array()?.iter();
        let slots = cards.map(|card| {
            let components = card.get("components")?.as_array()?;
            let is_known = |c: &Value| ["HEADER", "BODY", "BUTTONS"].contains(&kind(c).as_str());
            components.iter().all(is_known).then(|| self.slots(components))?
        });
        let slots: Vec<Slots> = slots.collect::<Option<_>>()?;
        let first = slots.first()?;
        let are_products = first.header == Header::One("product");
        Some(if are_products { Cards::Any(first.clone()) } else { Cards::Each(slots) })
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn kind(value: &Value) -> String {
    text(value, "type").to_ascii_uppercase()
}

#[cfg(test)]
mod tests;
