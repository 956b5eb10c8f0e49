//! Judges a template message: whether the template may be sent, and whether the parameters fill it.

use serde_json::Value;

use super::graph_error::GraphError;
use super::judge::{Content, Facts, Recipient};
use super::node::Node;
use super::templates::{Template, library, type_of, variables};
use super::{judge_content, judge_interactive, judge_order, unix_seconds};

/// Judges the `template` object of a send.
pub(super) fn judge(
    content: &Value,
    recipient: &Recipient,
    facts: &Facts<'_>,
) -> Result<Content, GraphError> {
    let name = required_text(content, "/name", "template['name']")?;
    let language = required_text(content, "/language/code", "template['language']['code']")?;
    let template = facts.templates.find(&facts.number.waba_id, name, language);
    let template = match template {
        Some(template) if template.status == "APPROVED" => template,
        Some(template) if template.status == "PAUSED" => return Err(GraphError::of(132_015)),
        Some(template) if template.status == "DISABLED" => return Err(GraphError::of(132_016)),
        _ => {
            let details = format!("template name ({name}) does not exist in {language}");
            return Err(GraphError::because(132_001, details));
        }
    };
    if template.is_auto_generated() {
        return Err(GraphError::because(132_018, "An auto-generated template cannot be sent by name"));
    }
    if template.category == "AUTHENTICATION" && matches!(recipient, Recipient::User(_)) {
        return Err(GraphError::of(131_062));
    }
    if template.category == "AUTHENTICATION" && matches!(recipient, Recipient::Group(_)) {
        return Err(GraphError::parameter("Authentication templates are not supported in groups."));
    }
    let components = match content.get("components") {
        None => &[],
        Some(Value::Array(components)) => components.as_slice(),
        Some(_) => return Err(GraphError::parameter("Param template['components'] must be an array.")),
    };
    let mut judged = Content {
        template_category: Some(template.category.clone()),
        template_id: Some(template.id),
        late_failure: None,
    };
    check_body(template, parameters(components, "body"), facts)?;
    if let Some(late_failure) = check_header(template, parameters(components, "header"), facts)? {
        judged.late_failure = Some(late_failure);
    }
    check_buttons(template, components)?;
    check_specials(template, components, facts)?;
    Ok(judged)
}

/// The components that few templates have.
fn check_specials(template: &Template, components: &[Value], facts: &Facts<'_>) -> Result<(), GraphError> {
    for (at, component) in components.iter().enumerate() {
        let node = Node::new(&format!("template['components'][{at}]"), component);
        let kind = type_of(component).to_ascii_lowercase();
        match kind.as_str() {
            "header" | "body" | "button" => {}
            "carousel" => check_carousel(template, &node, facts)?,
            "limited_time_offer" => {
                if template.component("LIMITED_TIME_OFFER").is_none() {
                    let details = "limited_time_offer: the template has no such component";
                    return Err(GraphError::because(132_018, details));
                }
                let ends = first_parameter(&node, &kind)?.required("expiration_time_ms")?;
                let now = i64::try_from(unix_seconds(facts.now)).unwrap_or(i64::MAX).saturating_mul(1000);
                ends.number(now, i64::MAX)?;
            }
            "order_status" => judge_order::status(&first_parameter(&node, &kind)?)?,
            "tap_target_configuration" => {
                for target in first_parameter(&node, &kind)?.list(1, 10)? {
                    target.required_text("url", 2000)?;
                }
            }
            _ => return Err(GraphError::parameter(format!("Unexpected component type \"{kind}\"."))),
        }
    }
    Ok(())
}

/// The value of the first parameter, which has the component's own type.
fn first_parameter<'a>(component: &Node<'a>, kind: &str) -> Result<Node<'a>, GraphError> {
    let parameters = component.required("parameters")?.list(1, 1)?;
    parameters.first().map_or_else(|| component.required(kind), |parameter| parameter.required(kind))
}

/// Every card of the template is filled, and each as a template of its own.
fn check_carousel(template: &Template, component: &Node<'_>, facts: &Facts<'_>) -> Result<(), GraphError> {
    let cards = template.component("CAROUSEL").and_then(|carousel| carousel.get("cards")?.as_array());
    let Some(cards) = cards else {
        return Err(GraphError::because(132_018, "carousel: the template has no cards"));
    };
    let given = component.required("cards")?.list(2, 10)?;
    // Two product cards are written down, and up to ten of their kind are sent.
    let product = cards
        .first()
        .filter(|card| card.pointer("/components/0/format").is_some_and(|format| format == "PRODUCT"));
    if product.is_none() {
        count("carousel", given.len(), cards.len())?;
    }
    for card in given {
        let index = card.required("card_index")?.number(0, 9)?;
        let known = product.or_else(|| usize::try_from(index).ok().and_then(|index| cards.get(index)));
        let known = known.ok_or_else(|| card.invalid("has the index of no card of the template"))?;
        let list = |value: &Value| value.get("components").and_then(Value::as_array).cloned();
        let of_card = Template { components: list(known).unwrap_or_default(), ..template.clone() };
        let components = list(card.value).unwrap_or_default();
        check_body(&of_card, parameters(&components, "body"), facts)?;
        check_header(&of_card, parameters(&components, "header"), facts)?;
        check_buttons(&of_card, &components)?;
    }
    Ok(())
}

fn required_text<'a>(content: &'a Value, pointer: &str, name: &str) -> Result<&'a str, GraphError> {
    content
        .pointer(pointer)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
        .ok_or_else(|| GraphError::because(131_008, format!("The parameter {name} is required.")))
}

/// The parameters of the first component of this type.
fn parameters<'a>(components: &'a [Value], kind: &str) -> &'a [Value] {
    components
        .iter()
        .find(|component| type_of(component).eq_ignore_ascii_case(kind))
        .and_then(|component| component.get("parameters"))
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn check_body(template: &Template, parameters: &[Value], facts: &Facts<'_>) -> Result<(), GraphError> {
    let component = template.component("BODY");
    let text = component.and_then(|body| body.get("text")).and_then(Value::as_str);
    // The text of an authentication template is Meta's own; its one variable is the code.
    let text = text.unwrap_or(if template.category == "AUTHENTICATION" {
        "*{{1}}* is your verification code."
    } else {
        ""
    });
    check_text("body", text, template, parameters, facts)?;
    check_types(template, parameters, facts)?;
    let hydrated = variables(text).iter().enumerate().fold(text.to_owned(), |text, (position, variable)| {
        let named = |parameter: &&Value| parameter.get("parameter_name").is_some_and(|name| name == variable);
        let parameter = parameters.iter().find(named).or_else(|| parameters.get(position));
        text.replace(&format!("{{{{{variable}}}}}"), parameter.map_or("", shown_text))
    });
    if hydrated.chars().count() > 1024 {
        return Err(GraphError::of(132_005));
    }
    Ok(())
}

/// The body of a library template takes each parameter only in its type.
fn check_types(template: &Template, parameters: &[Value], facts: &Facts<'_>) -> Result<(), GraphError> {
    let name = template.extra("library_template_name");
    let Some(ready) = name.and_then(|name| library::find(name, &template.language)) else { return Ok(()) };
    for (position, parameter) in parameters.iter().enumerate() {
        if let Some(kind) = ready.misfit(position, shown_text(parameter)) {
            let details = format!("body: Parameter {} does not match the type {kind}", position + 1);
            return Err(GraphError::because(mismatch(facts), details));
        }
    }
    Ok(())
}

/// Since v23 Meta reports parameters that do not satisfy the template with a code of their own.
fn mismatch(facts: &Facts<'_>) -> u32 {
    if facts.version >= 23 { 132_018 } else { 132_012 }
}

fn check_header(
    template: &Template,
    parameters: &[Value],
    facts: &Facts<'_>,
) -> Result<Option<(u32, String)>, GraphError> {
    let Some(header) = template.component("HEADER") else {
        return count("header", parameters.len(), 0).map(|()| None);
    };
    let format = header.get("format").and_then(Value::as_str).unwrap_or("TEXT").to_ascii_lowercase();
    if format == "text" {
        let text = header.get("text").and_then(Value::as_str).unwrap_or_default();
        return check_text("header", text, template, parameters, facts).map(|()| None);
    }
    let received = parameters.first().map_or("unknown", type_of);
    if !received.eq_ignore_ascii_case(&format) || parameters.len() > 1 {
        let (format, received) = (format.to_ascii_uppercase(), received.to_ascii_uppercase());
        let details = format!("header: Format mismatch, expected {format}, received {received}");
        return Err(GraphError::because(132_012, details));
    }
    let object = parameters.first().and_then(|parameter| parameter.get(&format)).and_then(Value::as_object);
    match (format.as_str(), object) {
        ("image" | "video" | "document", Some(object)) => {
            judge_content::medium(&format, object, &["filename"], facts).map(|judged| judged.late_failure)
        }
        (_, Some(_)) => Ok(None),
        (_, None) => Err(GraphError::because(131_008, format!("header: the parameter {format} is required"))),
    }
}

/// Text with variables: as many parameters as variables, by order or by name, each fit to be shown.
fn check_text(
    place: &str,
    text: &str,
    template: &Template,
    parameters: &[Value],
    facts: &Facts<'_>,
) -> Result<(), GraphError> {
    let variables = variables(text);
    count(place, parameters.len(), variables.len())?;
    let mismatch = mismatch(facts);
    let is_named = template.parameter_format.eq_ignore_ascii_case("NAMED");
    for parameter in parameters {
        let name = parameter.get("parameter_name").and_then(Value::as_str);
        if is_named && !name.is_some_and(|name| variables.iter().any(|variable| variable == name)) {
            let details = format!("{place}: Parameter name is missing or unknown");
            return Err(GraphError::because(mismatch, details));
        }
        if !["text", "currency", "date_time", "group_id"].contains(&type_of(parameter)) {
            let received = type_of(parameter).to_ascii_uppercase();
            let details = format!("{place}: Format mismatch, expected TEXT, received {received}");
            return Err(GraphError::because(132_012, details));
        }
        let shown = shown_text(parameter);
        if shown.is_empty() {
            return Err(GraphError::because(
                131_008,
                format!("{place}: Parameter of type text is missing text value"),
            ));
        }
        if shown.contains(['\n', '\t']) || shown.contains("     ") {
            let details = "Param text cannot have new-line/tab characters or more than 4 consecutive spaces";
            return Err(GraphError::because(mismatch, details));
        }
    }
    Ok(())
}

fn count(place: &str, given: usize, expected: usize) -> Result<(), GraphError> {
    if given == expected {
        return Ok(());
    }
    let details = format!(
        "{place}: number of localizable_params ({given}) does not match the expected number of params \
         ({expected})"
    );
    Err(GraphError::because(132_000, details))
}

/// What the user sees in the variable's place.
fn shown_text(parameter: &Value) -> &str {
    ["/text", "/currency/fallback_value", "/date_time/fallback_value", "/group_id"]
        .iter()
        .find_map(|pointer| parameter.pointer(pointer).and_then(Value::as_str))
        .unwrap_or_default()
}

/// Every button component names a button of its kind, and every button with a variable has its parameter.
fn check_buttons(template: &Template, components: &[Value]) -> Result<(), GraphError> {
    let buttons = template.buttons();
    let given: Vec<(usize, &Value)> = components
        .iter()
        .filter(|component| type_of(component).eq_ignore_ascii_case("button"))
        .map(|component| (button_index(component), component))
        .collect();
    for (index, component) in &given {
        let Some(button) = buttons.get(*index) else {
            let details = format!("buttons: there is no button at index {index}");
            return Err(GraphError::because(132_018, details));
        };
        let sub_type = component.get("sub_type").and_then(Value::as_str).unwrap_or_default();
        if !sub_type.eq_ignore_ascii_case(sent_as(button)) {
            let details = format!(
                "buttons: Button at index {index} is of type {}, received {sub_type}",
                sent_as(button)
            );
            return Err(GraphError::because(132_012, details));
        }
        check_action(component)?;
    }
    for (index, button) in buttons.iter().enumerate() {
        let url = button.get("url").and_then(Value::as_str).unwrap_or_default();
        let needs_parameter = match type_of(button).to_ascii_uppercase().as_str() {
            "URL" => !variables(url).is_empty(),
            "OTP" | "COPY_CODE" | "MPM" | "ORDER_DETAILS" => true,
            _ => false,
        };
        let has_parameter = given.iter().any(|(given, component)| {
            let parameters = component.get("parameters").and_then(Value::as_array);
            *given == index && parameters.is_some_and(|parameters| !parameters.is_empty())
        });
        if needs_parameter && !has_parameter {
            let details =
                format!("buttons: Button at index {index} of type {} requires a parameter", sent_as(button));
            return Err(GraphError::because(131_008, details));
        }
    }
    Ok(())
}

/// The products and orders of a button.
fn check_action(component: &Value) -> Result<(), GraphError> {
    let Some(action) = component.pointer("/parameters/0/action") else { return Ok(()) };
    let action = Node::new("action", action);
    if let Some(sections) = action.get("sections") {
        judge_interactive::check_products(&sections)?;
    }
    action.get("order_details").map_or(Ok(()), |details| judge_order::details(&details))
}

/// The `sub_type` under which a send refers to a button. One-time passwords are buttons of type `url` there.
fn sent_as(button: &Value) -> &str {
    match type_of(button) {
        "OTP" => "URL",
        kind => kind,
    }
}

/// The index is a number or a string of digits; a button alone may lack it.
fn button_index(component: &Value) -> usize {
    let index = component.get("index");
    let number = index.and_then(Value::as_u64).or_else(|| index?.as_str()?.parse().ok());
    number.and_then(|number| usize::try_from(number).ok()).unwrap_or(0)
}
