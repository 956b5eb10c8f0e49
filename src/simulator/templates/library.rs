//! A small template library, section 2.4.7 of the reference: ready texts that a creation only completes.
//! The texts are our own; names, topics and types of parameters are Meta's.

use serde_json::{Map, Value, json};

use super::buttons::{check_address, check_number};
use super::creation::Creation;
use super::text::{limited, text};
use crate::simulator::graph_error::GraphError;
use crate::simulator::node::Node;

/// One ready template in one language.
#[derive(Debug)]
pub(in crate::simulator) struct Ready {
    id: u64,
    pub(in crate::simulator) name: &'static str,
    pub(in crate::simulator) language: &'static str,
    category: &'static str,
    topic: &'static str,
    usecase: &'static str,
    industry: &'static [&'static str],
    header: &'static str,
    body: &'static str,
    /// The samples of the body's variables with the types that are checked at send.
    parameters: &'static [(&'static str, &'static str)],
    /// Types and labels.
    buttons: &'static [(&'static str, &'static str)],
}

const SHOPS: &[&str] = &["E_COMMERCE"];
const BANKS: &[&str] = &["FINANCIAL_SERVICES"];

/// The library.
pub(in crate::simulator) const LIBRARY: [Ready; 6] = [
    Ready {
        id: 30_000_000_000_001,
        name: "delivery_update_1",
        language: "en_US",
        category: "UTILITY",
        topic: "ORDER_MANAGEMENT",
        usecase: "DELIVERY_UPDATE",
        industry: SHOPS,
        header: "Your order is on its way",
        body: "Hi {{1}}, your order {{2}} has left our warehouse and should arrive on {{3}}.",
        parameters: &[("Jane", "TEXT"), ("12345", "TEXT"), ("January 1, 2026", "DATE")],
        buttons: &[("URL", "Track delivery"), ("PHONE_NUMBER", "Call us")],
    },
    Ready {
        id: 30_000_000_000_002,
        name: "delivery_update_1",
        language: "es",
        category: "UTILITY",
        topic: "ORDER_MANAGEMENT",
        usecase: "DELIVERY_UPDATE",
        industry: SHOPS,
        header: "Tu pedido está en camino",
        body: "Hola, {{1}}: tu pedido {{2}} ha salido de nuestro almacén y debería llegar el {{3}}.",
        parameters: &[("Juana", "TEXT"), ("12345", "TEXT"), ("1 de enero de 2026", "DATE")],
        buttons: &[("URL", "Seguir envío"), ("PHONE_NUMBER", "Llamar")],
    },
    Ready {
        id: 30_000_000_000_003,
        name: "order_confirmation_1",
        language: "en_US",
        category: "UTILITY",
        topic: "ORDER_MANAGEMENT",
        usecase: "ORDER_CONFIRMATION",
        industry: SHOPS,
        header: "",
        body: "Thank you for your purchase, {{1}}. Your order {{2}} will be sent to {{3}} soon.",
        parameters: &[("Jane", "TEXT"), ("12345", "NUMBER"), ("1 Hacker Way, Menlo Park", "ADDRESS")],
        buttons: &[("URL", "View order")],
    },
    Ready {
        id: 30_000_000_000_004,
        name: "payment_due_reminder_1",
        language: "en_US",
        category: "UTILITY",
        topic: "PAYMENTS",
        usecase: "PAYMENT_DUE_REMINDER",
        industry: BANKS,
        header: "Payment reminder",
        body: "Hi {{1}}, a payment of {{2}} is due on {{3}}. Please make sure that your account covers it.",
        parameters: &[("Jane", "TEXT"), ("$25.00", "AMOUNT"), ("January 1, 2026", "DATE")],
        buttons: &[("URL", "Pay now")],
    },
    Ready {
        id: 30_000_000_000_005,
        name: "statement_available_1",
        language: "en_US",
        category: "UTILITY",
        topic: "ACCOUNT_UPDATE",
        usecase: "STATEMENT_AVAILABLE",
        industry: BANKS,
        header: "Your statement is ready",
        body: "The statement of your account was sent to {{1}}. For questions call {{2}} at any time.",
        parameters: &[("jane@example.com", "EMAIL"), ("+1 650 555 1234", "PHONE_NUMBER")],
        buttons: &[],
    },
    Ready {
        id: 30_000_000_000_006,
        name: "feedback_survey_1",
        language: "en_US",
        category: "UTILITY",
        topic: "CUSTOMER_FEEDBACK",
        usecase: "FEEDBACK_SURVEY",
        industry: &["E_COMMERCE", "FINANCIAL_SERVICES"],
        header: "How did we do?",
        body: "Hi {{1}}, thank you for your visit. Please take a minute and tell us what we can do better.",
        parameters: &[("Jane", "TEXT")],
        buttons: &[("URL", "Take the survey")],
    },
];

/// The ready template of this name in this language.
pub(in crate::simulator) fn find(name: &str, language: &str) -> Option<&'static Ready> {
    LIBRARY.iter().find(|ready| ready.name == name && ready.language == language)
}

impl Ready {
    /// As the library lists it.
    pub(in crate::simulator) fn to_json(&self) -> Value {
        let side = |side: fn(&(&'static str, &'static str)) -> &'static str| -> Vec<&str> {
            self.parameters.iter().map(side).collect()
        };
        let buttons: Vec<Value> = self
            .buttons
            .iter()
            .map(|(kind, label)| match *kind {
                "URL" => json!({ "type": kind, "text": label, "url": "https://www.example.com/" }),
                _ => json!({ "type": kind, "text": label, "phone_number": "+18005551234" }),
            })
            .collect();
        json!({
            "id": self.id.to_string(),
            "name": self.name,
            "language": self.language,
            "category": self.category,
            "topic": self.topic,
            "usecase": self.usecase,
            "industry": self.industry,
            "header": self.header,
            "body": self.body,
            "body_params": side(|parameter| parameter.0),
            "body_param_types": side(|parameter| parameter.1),
            "buttons": buttons,
        })
    }

    /// The type of the n-th parameter that this text does not fit, if there is one. `ADDRESS` and `TEXT` take
    /// any text.
    pub(in crate::simulator) fn misfit(&self, position: usize, text: &str) -> Option<&'static str> {
        let (_, kind) = self.parameters.get(position)?;
        let has_digit = text.bytes().any(|byte| byte.is_ascii_digit());
        let fits = match *kind {
            "NUMBER" => has_digit && text.chars().all(|c| c.is_ascii_digit() || ".,-".contains(c)),
            "PHONE_NUMBER" => has_digit && text.chars().all(|c| c.is_ascii_digit() || "+-() ".contains(c)),
            "EMAIL" => {
                text.split_once('@').is_some_and(|(user, host)| !user.is_empty() && host.contains('.'))
            }
            "AMOUNT" | "DATE" => has_digit,
            _ => true,
        };
        (!fits).then_some(*kind)
    }
}

/// The components of a creation that names a template of the library.
pub(super) fn components(request: &Node<'_>, creation: &Creation) -> Result<Vec<Value>, GraphError> {
    let name = text(request, "library_template_name", 512)?;
    if request.get("components").is_some() {
        return Err(GraphError::parameter("Param components cannot be combined with library_template_name."));
    }
    let ready = find(name, &creation.language).filter(|ready| ready.category == creation.category);
    let ready = ready.ok_or_else(|| {
        let Creation { language, category, .. } = creation;
        GraphError::parameter(format!(
            "Param library_template_name names no template of the library in {language} and {category}: {name}."
        ))
    })?;
    check_body_inputs(&parsed(request, "library_template_body_inputs")?.unwrap_or(json!({})))?;
    let inputs = parsed(request, "library_template_button_inputs")?.unwrap_or(json!([]));
    let buttons = buttons(ready, &Node::new("library_template_button_inputs", &inputs))?;
    let mut components = Vec::new();
    if !ready.header.is_empty() {
        components.push(json!({ "type": "HEADER", "format": "TEXT", "text": ready.header }));
    }
    let samples: Vec<&str> = ready.parameters.iter().map(|(sample, _)| *sample).collect();
    components.push(json!({ "type": "BODY", "text": ready.body, "example": { "body_text": [samples] } }));
    if !buttons.is_empty() {
        components.push(json!({ "type": "BUTTONS", "buttons": buttons }));
    }
    Ok(components)
}

/// A parameter that Meta takes as JSON and as the text of JSON.
fn parsed(request: &Node<'_>, key: &str) -> Result<Option<Value>, GraphError> {
    let Some(node) = request.get(key) else { return Ok(None) };
    match node.value.as_str() {
        Some(text) => serde_json::from_str(text).map(Some).map_err(|_| node.invalid("must hold valid JSON")),
        None => Ok(Some(node.value.clone())),
    }
}

/// What would be added to the text; the texts of this library stay as they are.
fn check_body_inputs(inputs: &Value) -> Result<(), GraphError> {
    let flags = [
        "add_contact_number",
        "add_learn_more_link",
        "add_security_recommendation",
        "add_track_package_link",
    ];
    let node = Node::new("library_template_body_inputs", inputs);
    let mut known = flags.to_vec();
    known.push("code_expiration_minutes");
    node.known(&known)?;
    for flag in flags {
        node.flag(flag)?;
    }
    node.get("code_expiration_minutes").map_or(Ok(()), |minutes| minutes.number(1, 90).map(|_| ()))
}

/// The buttons of the ready template with the addresses and numbers that the creation gives, in its order.
fn buttons(ready: &Ready, inputs: &Node<'_>) -> Result<Vec<Value>, GraphError> {
    let count = ready.buttons.len();
    let given = inputs.list(count, count)?;
    given
        .iter()
        .zip(ready.buttons)
        .map(|(input, (kind, label))| {
            input.required("type")?.word_in_any_case(&[kind])?;
            let mut button = Map::new();
            button.insert("type".to_owned(), json!(kind));
            button.insert("text".to_owned(), json!(label));
            if *kind == "URL" {
                input.known(&["type", "url"])?;
                let url = input.required("url")?;
                url.known(&["base_url", "url_suffix_example"])?;
                let base = text(&url, "base_url", 2000)?;
                check_address(&url, base)?;
                button.insert("url".to_owned(), json!(base));
                if base.contains("{{") {
                    let sample = limited(&url.required("url_suffix_example")?, 2000)?;
                    button.insert("example".to_owned(), json!([sample]));
                }
            } else {
                input.known(&["type", "phone_number"])?;
                let number = text(input, "phone_number", 20)?;
                check_number(input, number)?;
                button.insert("phone_number".to_owned(), json!(number));
            }
            Ok(Value::Object(button))
        })
        .collect()
}
