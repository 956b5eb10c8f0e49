//! A creation as Meta judges it before its review, section 2.4.1 of the reference.

use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::components::{self, Rules};
use super::{languages, library};
use crate::simulator::graph_error::GraphError;
use crate::simulator::node::Node;
use crate::simulator::uploads::Handles;

const CATEGORIES: [&str; 3] = ["AUTHENTICATION", "MARKETING", "UTILITY"];
const FORMATS: [&str; 2] = ["POSITIONAL", "NAMED"];
const NAME_MAX: usize = 512;
/// Fields that a template keeps and shows as they were given.
const KEPT: [&str; 7] = [
    "message_send_ttl_seconds",
    "cta_url_link_tracking_opted_out",
    "degrees_of_freedom_spec",
    "library_template_name",
    "display_format",
    "sub_category",
    "source",
];
/// What may be optimised, section 2.4.8.
const FEATURES: [&str; 10] = [
    "image_brightness_and_contrast",
    "image_touchups",
    "add_text_overlay",
    "image_animation",
    "image_background_gen",
    "auto_promotion_tag",
    "text_extraction_for_headline",
    "text_extraction_for_tap_target",
    "product_extensions",
    "text_formatting_optimization",
];

/// What a template is made of, in Meta's spelling: categories, types and formats in upper case.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::simulator) struct Creation {
    pub(in crate::simulator) name: String,
    pub(in crate::simulator) language: String,
    pub(in crate::simulator) category: String,
    pub(in crate::simulator) parameter_format: String,
    pub(in crate::simulator) components: Vec<Value>,
    pub(in crate::simulator) extra: Map<String, Value>,
}

impl Creation {
    /// Reads a body without judging its components, as a test may set any template.
    pub(in crate::simulator) fn unjudged(body: &Value) -> Result<Self, GraphError> {
        read(body).map_err(GraphError::into_parameter)
    }

    /// Reads and judges the body of a creation.
    pub(in crate::simulator) fn judged(
        body: &Value,
        handles: &Handles,
        now: SystemTime,
    ) -> Result<Self, GraphError> {
        let judged = || {
            let node = Node::new("request", body);
            node.known(&[
                "name",
                "language",
                "category",
                "parameter_format",
                "components",
                "message_send_ttl_seconds",
                "allow_category_change",
                "cta_url_link_tracking_opted_out",
                "degrees_of_freedom_spec",
                "library_template_name",
                "library_template_button_inputs",
                "library_template_body_inputs",
                "display_format",
                "sub_category",
            ])?;
            let mut creation = read(body)?;
            creation.check_settings()?;
            node.flag("allow_category_change")?;
            match body.get("library_template_name") {
                Some(_) => creation.components = library::components(&node, &creation)?,
                None => creation.check_components(Some(handles), now)?,
            }
            Ok(creation)
        };
        judged().map_err(GraphError::into_parameter)
    }

    /// Judges the components. Without handles the samples were accepted before.
    pub(in crate::simulator) fn check_components(
        &self,
        handles: Option<&Handles>,
        now: SystemTime,
    ) -> Result<(), GraphError> {
        let is_named = self.parameter_format == "NAMED";
        let rules = Rules { category: &self.category, is_named, handles, now };
        let list = json!(self.components);
        components::check(&Node::new("components", &list), &rules).map_err(GraphError::into_parameter)
    }

    /// Judges what stands beside the components.
    pub(in crate::simulator) fn check_settings(&self) -> Result<(), GraphError> {
        let settings = Value::Object(self.extra.clone());
        self.check_extra(&settings).map_err(GraphError::into_parameter)
    }

    fn check_extra(&self, settings: &Value) -> Result<(), GraphError> {
        if let Some(ttl) = settings.get("message_send_ttl_seconds") {
            let ttl = Node::new("message_send_ttl_seconds", ttl);
            let (min, max) = match self.category.as_str() {
                "AUTHENTICATION" => (30, 900),
                "UTILITY" => (30, 43_200),
                _ => (43_200, 2_592_000),
            };
            // -1 stands for 30 days.
            if self.category == "MARKETING" || ttl.value.as_i64() != Some(-1) {
                ttl.number(min, max)?;
            }
        }
        if let Some(flag) = settings.get("cta_url_link_tracking_opted_out")
            && !flag.is_boolean()
        {
            return Err(GraphError::parameter(
                "Param cta_url_link_tracking_opted_out must be true or false.",
            ));
        }
        for name in ["display_format", "sub_category"] {
            if let Some(value) = settings.get(name) {
                Node::new(name, value).text(64)?;
            }
        }
        let Some(spec) = settings.get("degrees_of_freedom_spec") else { return Ok(()) };
        let spec = Node::new("degrees_of_freedom_spec", spec);
        spec.known(&["creative_features_spec"])?;
        let features = spec.required("creative_features_spec")?;
        features.known(&FEATURES)?;
        for feature in FEATURES.iter().filter_map(|feature| features.get(feature)) {
            feature.known(&["enroll_status"])?;
            feature.required("enroll_status")?.word(&["OPT_IN", "OPT_OUT"])?;
        }
        Ok(())
    }

    /// Takes another category, format, components or settings, as an edit or a creation names them.
    pub(in crate::simulator) fn take(&mut self, field: &str, value: &Value) -> Result<(), GraphError> {
        let node = Node::new(field, value);
        let mut taken = || match field {
            "category" => node.word_in_any_case(&CATEGORIES).map(|word| word.clone_into(&mut self.category)),
            "parameter_format" => {
                node.word_in_any_case(&FORMATS).map(|word| word.clone_into(&mut self.parameter_format))
            }
            "components" => node.list(1, usize::MAX).map(|list| {
                self.components = list.iter().map(|component| in_upper_case(component.value)).collect();
            }),
            _ => {
                self.extra.insert(field.to_owned(), value.clone());
                Ok(())
            }
        };
        taken().map_err(GraphError::into_parameter)
    }
}

fn read(body: &Value) -> Result<Creation, GraphError> {
    let node = Node::new("request", body);
    let required = |key: &str| {
        let missing = || GraphError::parameter(format!("The parameter {key} is required."));
        body.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).ok_or_else(missing)
    };
    let name = required("name")?;
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if !name.bytes().all(is_plain) {
        return Err(GraphError::parameter(
            "Param name can only hold lower-case letters, digits and underscores.",
        ));
    }
    if name.len() > NAME_MAX {
        let text = format!("The name may have {NAME_MAX} characters; it has {}.", name.len());
        return Err(GraphError::template(2_388_040, "Character Limit Exceeded", &text));
    }
    let language = required("language")?;
    if !languages::is_known(language) {
        return Err(GraphError::parameter(format!(
            "Param language must be a supported language code; {language} is none."
        )));
    }
    required("category")?;
    let mut creation = Creation {
        name: name.to_owned(),
        language: language.to_owned(),
        category: String::new(),
        parameter_format: "POSITIONAL".to_owned(),
        components: Vec::new(),
        extra: Map::new(),
    };
    let fields = ["category", "parameter_format", "components"].into_iter().chain(KEPT);
    for (field, value) in fields.filter_map(|field| Some((field, body.get(field)?))) {
        creation.take(field, value)?;
    }
    if body.get("library_template_name").is_none() {
        node.required("components")?;
    }
    Ok(creation)
}

/// Types and formats in upper case, however they were written, down to buttons and cards.
fn in_upper_case(component: &Value) -> Value {
    let mut component = component.clone();
    let Some(fields) = component.as_object_mut() else { return component };
    for key in ["type", "format", "otp_type"] {
        if let Some(Value::String(word)) = fields.get_mut(key) {
            *word = word.to_ascii_uppercase();
        }
    }
    for key in ["buttons", "cards", "components"] {
        if let Some(Value::Array(list)) = fields.get_mut(key) {
            for element in list {
                *element = in_upper_case(element);
            }
        }
    }
    component
}

#[cfg(test)]
mod tests;
