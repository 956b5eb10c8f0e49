//! The templates of every WABA, their variables, and the rules for creating them. Pure state; the Cloud
//! API's calls about templates are in [`super::template_api`].

use std::time::SystemTime;

use serde_json::{Value, json};

use super::graph_error::GraphError;

/// One template in one language.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Template {
    pub(super) id: u64,
    pub(super) waba_id: String,
    pub(super) name: String,
    pub(super) language: String,
    pub(super) category: String,
    pub(super) status: String,
    pub(super) parameter_format: String,
    pub(super) components: Vec<Value>,
    pub(super) rejected_reason: String,
    pub(super) created: SystemTime,
    /// What else the creator gave, such as `message_send_ttl_seconds`.
    pub(super) extra: serde_json::Map<String, Value>,
}

impl Template {
    /// The template that every new WABA has.
    pub(super) fn hello_world(id: u64, waba_id: &str, created: SystemTime) -> Self {
        Self {
            id,
            waba_id: waba_id.to_owned(),
            name: "hello_world".to_owned(),
            language: "en_US".to_owned(),
            category: "UTILITY".to_owned(),
            status: "APPROVED".to_owned(),
            parameter_format: "POSITIONAL".to_owned(),
            components: vec![json!({
                "type": "BODY",
                "text": "Welcome and congratulations! This message shows that your business can send templates.",
            })],
            rejected_reason: "NONE".to_owned(),
            created,
            extra: serde_json::Map::new(),
        }
    }

    /// The component of this type, in any case.
    pub(super) fn component(&self, kind: &str) -> Option<&Value> {
        self.components.iter().find(|component| type_of(component).eq_ignore_ascii_case(kind))
    }

    /// The template's buttons, in order.
    pub(super) fn buttons(&self) -> &[Value] {
        self.component("BUTTONS")
            .and_then(|component| component.get("buttons"))
            .and_then(Value::as_array)
            .map_or(&[], Vec::as_slice)
    }

    /// Every field that can be read.
    pub(super) fn to_json(&self) -> Value {
        let mut fields = self.extra.clone();
        fields.insert("id".to_owned(), json!(self.id.to_string()));
        fields.insert("name".to_owned(), json!(self.name));
        fields.insert("language".to_owned(), json!(self.language));
        fields.insert("category".to_owned(), json!(self.category));
        fields.insert("status".to_owned(), json!(self.status));
        fields.insert("parameter_format".to_owned(), json!(self.parameter_format));
        fields.insert("components".to_owned(), json!(self.components));
        fields.insert("rejected_reason".to_owned(), json!(self.rejected_reason));
        fields.insert("quality_score".to_owned(), json!({ "score": "UNKNOWN" }));
        fields.insert("last_updated_time".to_owned(), json!(super::unix_seconds(self.created)));
        Value::Object(fields)
    }
}

/// All templates in the order of their creation.
#[derive(Debug, Default)]
pub(super) struct Templates {
    pub(super) all: Vec<Template>,
    /// Name and WABA of approved templates that were deleted, and when: the name is blocked for 30 days.
    pub(super) deleted: Vec<(String, String, SystemTime)>,
}

impl Templates {
    pub(super) fn find(&self, waba_id: &str, name: &str, language: &str) -> Option<&Template> {
        self.all.iter().find(|template| {
            template.waba_id == waba_id && template.name == name && template.language == language
        })
    }

    pub(super) fn by_id(&self, id: u64) -> Option<&Template> {
        self.all.iter().find(|template| template.id == id)
    }

    pub(super) fn by_id_mut(&mut self, id: u64) -> Option<&mut Template> {
        self.all.iter_mut().find(|template| template.id == id)
    }

    pub(super) fn of<'a>(&'a self, waba_id: &'a str) -> impl Iterator<Item = &'a Template> {
        self.all.iter().filter(move |template| template.waba_id == waba_id)
    }
}

/// The `type` of a component, a button or a parameter; empty if it has none.
pub(super) fn type_of(value: &Value) -> &str {
    value.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// The variables of a text in order of appearance, each once: `1`, `2` or names.
pub(super) fn variables(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for part in text.split("{{").skip(1) {
        if let Some((name, _)) = part.split_once("}}") {
            let name = name.trim().to_owned();
            if !found.contains(&name) {
                found.push(name);
            }
        }
    }
    found
}

/// Checks a creation as Meta does before its review; the rest is the reviewer's.
pub(super) fn check_creation(body: &Value) -> Result<(), GraphError> {
    let text = |field: &str| body.get(field).and_then(Value::as_str).unwrap_or_default();
    let name = text("name");
    if name.is_empty() {
        return Err(GraphError::parameter("The parameter name is required."));
    }
    let name_is_plain =
        name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if !name_is_plain || name.len() > 512 {
        return Err(GraphError::parameter(
            "Param name must consist of lower-case letters, digits and underscores, at most 512 of them.",
        ));
    }
    if !is_language(text("language")) {
        return Err(GraphError::parameter("Param language must be a supported language code."));
    }
    let category = text("category").to_ascii_uppercase();
    if !["AUTHENTICATION", "MARKETING", "UTILITY"].contains(&category.as_str()) {
        return Err(GraphError::parameter(
            "Param category must be one of {AUTHENTICATION, MARKETING, UTILITY}.",
        ));
    }
    if body.get("library_template_name").is_some() {
        return Ok(());
    }
    let components = body
        .get("components")
        .and_then(Value::as_array)
        .filter(|components| !components.is_empty())
        .ok_or_else(|| GraphError::parameter("The parameter components is required."))?;
    if !components.iter().any(|component| type_of(component).eq_ignore_ascii_case("BODY")) {
        return Err(GraphError::template(2_388_072, "Body is missing", "A template needs a BODY component."));
    }
    components.iter().try_for_each(|component| check_component(component, &category))
}

fn check_component(component: &Value, category: &str) -> Result<(), GraphError> {
    let text = component.get("text").and_then(Value::as_str);
    let count = text.map_or(0, |text| text.chars().count());
    let kind = type_of(component).to_ascii_uppercase();
    let too_long = |max: usize| {
        let text = format!("The {kind} component may have {max} characters; it has {count}.");
        GraphError::template(2_388_040, "Character limit exceeded", &text)
    };
    match kind.as_str() {
        "HEADER" => {
            let variables = text.map_or(0, |text| variables(text).len());
            if component.get("format").is_none() || variables > 1 {
                let text = "A header needs a format and may have one variable.";
                return Err(GraphError::template(2_388_047, "Header format is incorrect", text));
            }
            if count > 60 {
                return Err(too_long(60));
            }
        }
        "BODY" => {
            let Some(text) = text else {
                if category == "AUTHENTICATION" {
                    return Ok(());
                }
                let text = "The BODY component needs a text.";
                return Err(GraphError::template(2_388_072, "Body format is incorrect", text));
            };
            if count > 1024 {
                return Err(too_long(1024));
            }
            if text.trim().starts_with("{{") || text.trim().ends_with("}}") {
                let text = "Variables can't be at the start or end of the template.";
                return Err(GraphError::template(2_388_299, "Variables at start or end", text));
            }
        }
        "FOOTER" if count > 60 => return Err(too_long(60)),
        "FOOTER" if text.is_some_and(|text| !variables(text).is_empty()) => {
            let text = "A footer has no variables.";
            return Err(GraphError::template(2_388_073, "Footer format is incorrect", text));
        }
        "BUTTONS" => {
            let buttons = component.get("buttons").and_then(Value::as_array).map_or(0, Vec::len);
            if !(1..=10).contains(&buttons) {
                return Err(GraphError::parameter("Param buttons must hold 1 to 10 buttons."));
            }
        }
        "FOOTER" | "CAROUSEL" | "LIMITED_TIME_OFFER" | "CALL_PERMISSION_REQUEST" => {}
        _ => return Err(GraphError::parameter(format!("Unexpected component type {kind}."))),
    }
    Ok(())
}

/// `en`, `en_US`, `zh_HK`, `fil`.
fn is_language(code: &str) -> bool {
    let (language, country) = code.split_once('_').unwrap_or((code, "XX"));
    (2..=3).contains(&language.len())
        && language.bytes().all(|byte| byte.is_ascii_lowercase())
        && (2..=3).contains(&country.len())
        && country.bytes().all(|byte| byte.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn creation(change: impl FnOnce(&mut Value)) -> Value {
        let mut body = json!({
            "name": "order_update", "language": "en_US", "category": "UTILITY",
            "components": [{ "type": "BODY", "text": "Order {{1}} is on its way." }],
        });
        change(&mut body);
        body
    }

    #[test]
    fn creations() {
        assert_eq!(check_creation(&creation(|_| {})), Ok(()));
        let subcode_of = |change: &dyn Fn(&mut Value)| {
            let error = check_creation(&creation(|body| change(body))).unwrap_err();
            assert_eq!(error.code, 100);
            error.subcode
        };
        assert_eq!(subcode_of(&|body| body["name"] = json!("Order-Update")), None);
        assert_eq!(subcode_of(&|body| body["language"] = json!("english")), None);
        assert_eq!(subcode_of(&|body| body["category"] = json!("SERVICE")), None);
        assert_eq!(subcode_of(&|body| body["components"] = json!([])), None);
        assert_eq!(
            subcode_of(&|body| body["components"] = json!([{ "type": "FOOTER", "text": "x" }])),
            Some(2_388_072)
        );
        assert_eq!(subcode_of(&|body| body["components"][0]["text"] = json!("Hello {{1}}")), Some(2_388_299));
        assert_eq!(
            subcode_of(&|body| body["components"][0]["text"] = json!("x".repeat(1025))),
            Some(2_388_040)
        );
    }

    #[test]
    fn variables_in_order() {
        assert_eq!(variables("Hi {{1}}, {{2}} and {{1}} {{ }"), ["1", "2"]);
        assert_eq!(variables("Table for {{guests}} on {{day}}."), ["guests", "day"]);
    }
}
