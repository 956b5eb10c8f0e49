//! Whether a template is what a request asked for, as far as Meta's description shows it.
//!
//! Meta describes a template in other words than it takes them (reference 2.4.2): types in upper case, samples of media
//! as URLs, the buttons of authentication templates as URL buttons, some fields not at all.

use serde_json::Value as Described;

use crate::domain::template::Template;
use crate::domain::value::Value;

/// How a description compares with a request, from proof to disproof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Likeness {
    /// Everything that was asked for is there.
    Same,
    /// Nothing speaks against it, but something cannot be seen.
    Unclear,
    /// Something else is there.
    Different,
}

use Likeness::{Different, Same, Unclear};

/// Words that Meta writes in upper case, however they came.
const KEYWORDS: [&str; 4] = ["type", "format", "parameter_format", "category"];

/// Compares the body of a creation or of an edit with a description.
pub fn likeness(body: &Value, template: &Template) -> Likeness {
    let Ok(described) = serde_json::from_str::<Described>(&template.json) else { return Unclear };
    compare("", body, Some(&described))
}

fn compare(name: &str, asked: &Value, described: Option<&Described>) -> Likeness {
    match (asked, described) {
        (Value::Map(fields), Some(Described::Object(_))) => fields
            .iter()
            .map(|(name, value)| compare(name, value, described.and_then(|object| object.get(name))))
            .max()
            .unwrap_or(Same),
        (Value::List(_), Some(Described::Array(_))) if name == "header_handle" => Unclear,
        (Value::List(asked), Some(Described::Array(described))) => list(name, asked, described),
        (Value::String(asked), Some(Described::String(described))) => {
            word(name, asked == described, asked.eq_ignore_ascii_case(described))
        }
        (Value::Bool(asked), Some(Described::Bool(described))) => exact(asked == described),
        (Value::Integer(asked), Some(Described::Number(described))) => {
            exact(described.as_i64() == Some(*asked))
        }
        _ => Unclear,
    }
}

fn exact(is_equal: bool) -> Likeness {
    if is_equal { Same } else { Different }
}

fn word(name: &str, is_equal: bool, is_equal_in_any_case: bool) -> Likeness {
    match name {
        // Meta gives another one at will (reference 2.4.1).
        "category" if !is_equal_in_any_case => Unclear,
        _ if KEYWORDS.contains(&name) => exact(is_equal_in_any_case),
        _ => exact(is_equal),
    }
}

fn list(name: &str, asked: &[Value], described: &[Described]) -> Likeness {
    if asked.len() != described.len() {
        return Different;
    }
    let pairs = asked.iter().enumerate().map(|(position, asked)| match name {
        "components" => component(asked, described),
        "buttons" if kind(asked).eq_ignore_ascii_case("OTP") => Unclear,
        _ => compare("", asked, described.get(position)),
    });
    pairs.max().unwrap_or(Same)
}

/// Components may come back in another order; there is one of each type.
fn component(asked: &Value, described: &[Described]) -> Likeness {
    let wanted = kind(asked);
    let is_meant = |candidate: &&Described| {
        let kind = candidate.get("type").and_then(Described::as_str);
        kind.is_some_and(|kind| kind.eq_ignore_ascii_case(wanted))
    };
    described.iter().find(is_meant).map_or(Different, |found| compare("", asked, Some(found)))
}

fn kind(value: &Value) -> &str {
    value.get("type").and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(in crate::cloud_api::templates) fn value(json: &Described) -> Value {
        match json {
            Described::Null => Value::Null,
            Described::Bool(truth) => Value::Bool(*truth),
            Described::Number(number) => Value::Integer(number.as_i64().unwrap()),
            Described::String(text) => Value::String(text.clone()),
            Described::Array(list) => Value::List(list.iter().map(value).collect()),
            Described::Object(map) => Value::Map(map.iter().map(|(k, v)| (k.clone(), value(v))).collect()),
        }
    }

    fn of(asked: &Described, described: &Described) -> Likeness {
        likeness(&value(asked), &Template { id: "1".to_owned(), json: described.to_string() })
    }

    #[test]
    fn what_can_be_seen_decides() {
        let described = json!({
            "id": "1", "name": "offer", "language": "en_US", "category": "MARKETING", "status": "PENDING",
            "parameter_format": "POSITIONAL", "message_send_ttl_seconds": 60,
            "components": [
                {"type": "BODY", "text": "Hi {{1}}!", "example": {"body_text": [["Pablo"]]}},
                {"type": "HEADER", "format": "TEXT", "text": "Sale"},
                {"type": "BUTTONS", "buttons": [{"type": "QUICK_REPLY", "text": "Stop"}]},
            ],
        });
        let body = json!({
            "name": "offer", "parameter_format": "positional", "message_send_ttl_seconds": 60,
            "components": [
                {"type": "header", "format": "text", "text": "Sale"},
                {"type": "body", "text": "Hi {{1}}!", "example": {"body_text": [["Pablo"]]}},
                {"type": "buttons", "buttons": [{"type": "quick_reply", "text": "Stop"}]},
            ],
        });
        assert_eq!(of(&body, &described), Same);
        let changed = |path: &str, to: Described| {
            let mut body = body.clone();
            *body.pointer_mut(path).unwrap() = to;
            of(&body, &described)
        };
        assert_eq!(changed("/components/1/text", json!("hi {{1}}!")), Different);
        assert_eq!(changed("/components/1/example/body_text/0/0", json!("Ana")), Different);
        assert_eq!(changed("/components/2/buttons", json!([])), Different);
        assert_eq!(changed("/components/2/type", json!("footer")), Different);
        assert_eq!(changed("/message_send_ttl_seconds", json!(61)), Different);
        let mut body = body.clone();
        body["category"] = json!("UTILITY");
        assert_eq!(of(&body, &described), Unclear, "Meta chooses the category");
        body["components"].as_array_mut().unwrap().pop();
        assert_eq!(of(&body, &described), Different, "a component was to go");
    }

    #[test]
    fn what_meta_rewrites_is_unclear() {
        let described = json!({"components": [
            {"type": "HEADER", "format": "IMAGE", "example": {"header_handle": ["https://scontent.example/a"]}},
            {"type": "BUTTONS", "buttons": [{"type": "URL", "text": "Copy code", "url": "https://x"}]},
        ]});
        let header = json!({"type": "header", "format": "image", "example": {"header_handle": ["4::a"]}});
        let otp = json!({"type": "buttons", "buttons": [{"type": "otp", "otp_type": "copy_code"}]});
        assert_eq!(of(&json!({"components": [header, otp]}), &described), Unclear);
        assert_eq!(of(&json!({"degrees_of_freedom_spec": {}}), &described), Unclear);
        let broken = Template { id: "1".to_owned(), json: "<html>".to_owned() };
        assert_eq!(likeness(&Value::Map(Vec::new()), &broken), Unclear);
    }
}
