//! Authentication templates: what may be chosen of them, and the texts that Meta fixes.

use serde_json::{Value, json};

use super::text::{limited, text};
use crate::simulator::graph_error::GraphError;
use crate::simulator::node::Node;

const OTP_TYPES: [&str; 3] = ["COPY_CODE", "ONE_TAP", "ZERO_TAP"];

/// Judges the components of an authentication template.
pub(super) fn check(components: &[(&'static str, Node<'_>)]) -> Result<(), GraphError> {
    for (kind, node) in components {
        match *kind {
            "BODY" => {
                node.known(&["type", "add_security_recommendation"])?;
                node.flag("add_security_recommendation")?;
            }
            "FOOTER" => {
                node.known(&["type", "code_expiration_minutes"])?;
                node.required("code_expiration_minutes")?.number(1, 90)?;
            }
            "BUTTONS" => {
                node.known(&["type", "buttons"])?;
                node.required("buttons")?.list(1, 1)?.iter().try_for_each(check_button)?;
            }
            _ => return Err(node.invalid("must be a BODY, FOOTER or BUTTONS in an authentication template")),
        }
    }
    for needed in ["BODY", "BUTTONS"] {
        if !components.iter().any(|(kind, _)| *kind == needed) {
            let message = format!("An authentication template needs the component {needed}.");
            return Err(GraphError::parameter(message));
        }
    }
    Ok(())
}

fn check_button(button: &Node<'_>) -> Result<(), GraphError> {
    button.required("type")?.word_in_any_case(&["OTP"])?;
    let kind = button.required("otp_type")?.word_in_any_case(&OTP_TYPES)?;
    let fields: &[&str] = match kind {
        "COPY_CODE" => &["type", "otp_type", "text"],
        "ONE_TAP" => &["type", "otp_type", "text", "autofill_text", "supported_apps"],
        _ => &["type", "otp_type", "text", "autofill_text", "supported_apps", "zero_tap_terms_accepted"],
    };
    button.known(fields)?;
    for label in ["text", "autofill_text"].iter().filter_map(|field| button.get(field)) {
        limited(&label, 25)?;
    }
    if kind == "COPY_CODE" {
        return Ok(());
    }
    button.required("supported_apps")?.list(1, 5)?.iter().try_for_each(check_app)?;
    match button.flag("zero_tap_terms_accepted")? {
        Some(true) => Ok(()),
        _ if kind == "ONE_TAP" => Ok(()),
        _ => Err(button.invalid("needs zero_tap_terms_accepted to be true")),
    }
}

fn check_app(app: &Node<'_>) -> Result<(), GraphError> {
    app.known(&["package_name", "signature_hash"])?;
    let package = text(app, "package_name", 224)?;
    let is_segment = |segment: &str| {
        segment.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic())
            && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if package.split('.').count() < 2 || !package.split('.').all(is_segment) {
        return Err(app.invalid("needs a package_name of two or more segments, such as com.example"));
    }
    let hash = text(app, "signature_hash", 11)?;
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
    if hash.len() == 11 && hash.bytes().all(is_base64) {
        return Ok(());
    }
    Err(app.invalid("needs a signature_hash of 11 characters"))
}

/// The labels of an upsert are Meta's own in every language.
pub(in crate::simulator) fn check_without_labels(components: &[Value]) -> Result<(), GraphError> {
    let buttons = components.iter().filter_map(|component| component.get("buttons")?.as_array()).flatten();
    for button in buttons {
        if let Some(label) = ["text", "autofill_text"].iter().find(|label| button.get(label).is_some()) {
            let message = format!("Unexpected key \"{label}\": the labels of an upsert are fixed.");
            return Err(GraphError::parameter(message));
        }
    }
    Ok(())
}

/// Meta's words in one language.
#[derive(Debug)]
pub(in crate::simulator) struct Texts {
    code: &'static str,
    security: &'static str,
    /// Around the minutes.
    expires: (&'static str, &'static str),
    pub(in crate::simulator) copy: &'static str,
    pub(in crate::simulator) autofill: &'static str,
}

const ENGLISH: Texts = Texts {
    code: "*{{1}}* is your verification code.",
    security: "For your security, do not share this code.",
    expires: ("This code expires in ", " minutes."),
    copy: "Copy code",
    autofill: "Autofill",
};

/// The texts by language; all others have the English ones here.
const TEXTS: [(&str, Texts); 4] = [
    (
        "de",
        Texts {
            code: "*{{1}}* ist dein Verifizierungscode.",
            security: "Teile diesen Code zu deiner Sicherheit nicht mit anderen.",
            expires: ("Dieser Code läuft in ", " Minuten ab."),
            copy: "Code kopieren",
            autofill: "Automatisch ausfüllen",
        },
    ),
    (
        "es",
        Texts {
            code: "Tu código de verificación es *{{1}}*.",
            security: "Por tu seguridad, no lo compartas.",
            expires: ("Este código caduca en ", " minutos."),
            copy: "Copiar código",
            autofill: "Autocompletar",
        },
    ),
    (
        "fr",
        Texts {
            code: "*{{1}}* est votre code de vérification.",
            security: "Pour votre sécurité, ne partagez pas ce code.",
            expires: ("Ce code expire dans ", " minutes."),
            copy: "Copier le code",
            autofill: "Remplir",
        },
    ),
    (
        "pt",
        Texts {
            code: "Seu código de verificação é *{{1}}*.",
            security: "Para sua segurança, não o compartilhe.",
            expires: ("Este código expira em ", " minutos."),
            copy: "Copiar código",
            autofill: "Preencher",
        },
    ),
];

impl Texts {
    /// The texts of `es_ES` are those of `es`.
    pub(in crate::simulator) fn of(language: &str) -> &'static Self {
        let bare = language.split('_').next().unwrap_or(language);
        TEXTS.iter().find(|(known, _)| *known == bare).map_or(&ENGLISH, |(_, texts)| texts)
    }

    pub(in crate::simulator) fn body(&self, is_secure: bool) -> String {
        if is_secure { format!("{} {}", self.code, self.security) } else { self.code.to_owned() }
    }

    pub(in crate::simulator) fn footer(&self, minutes: i64) -> String {
        format!("{}{minutes}{}", self.expires.0, self.expires.1)
    }
}

/// An authentication component as reads show it: with Meta's texts, and buttons of the type `URL`.
pub(in crate::simulator) fn shown(component: &Value, language: &str) -> Value {
    let texts = Texts::of(language);
    let mut shown = component.clone();
    let Some(fields) = shown.as_object_mut() else { return shown };
    let flag = component.get("add_security_recommendation").and_then(Value::as_bool);
    match super::type_of(component) {
        "BODY" => {
            fields.insert("text".to_owned(), json!(texts.body(flag == Some(true))));
            fields.insert("example".to_owned(), json!({ "body_text": [["123456"]] }));
        }
        "FOOTER" => {
            let minutes = component.get("code_expiration_minutes").and_then(Value::as_i64).unwrap_or(10);
            fields.insert("text".to_owned(), json!(texts.footer(minutes)));
        }
        "BUTTONS" => {
            let buttons = component.get("buttons").and_then(Value::as_array);
            let buttons: Vec<Value> =
                buttons.into_iter().flatten().map(|button| shown_button(button, texts)).collect();
            fields.insert("buttons".to_owned(), json!(buttons));
        }
        _ => {}
    }
    shown
}

fn shown_button(button: &Value, texts: &Texts) -> Value {
    let field = |name: &str| button.get(name).and_then(Value::as_str);
    let kind = field("otp_type").unwrap_or("COPY_CODE");
    let mut query = vec![("otp_type", kind.to_owned())];
    if kind != "COPY_CODE" {
        query.push(("cta_display_name", field("autofill_text").unwrap_or(texts.autofill).to_owned()));
    }
    if let Some(app) = button.pointer("/supported_apps/0") {
        for name in ["package_name", "signature_hash"] {
            let value = app.get(name).and_then(Value::as_str).unwrap_or_default();
            query.push((name, value.to_owned()));
        }
    }
    let query: Vec<String> =
        query.iter().map(|(name, value)| crate::simulator::paging::format_pair(name, value)).collect();
    let url = format!("https://www.whatsapp.com/otp/code/?{}", query.join("&"));
    json!({
        "type": "URL",
        "text": field("text").unwrap_or(texts.copy),
        "url": format!("{url}&code=otp{{{{1}}}}"),
        "example": [format!("{url}&code=otp123456")],
    })
}
