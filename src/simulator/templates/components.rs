//! The components of a creation, section 2.4.3 of the reference: their limits, what fits together.

use std::time::SystemTime;

use serde_json::Value;

use super::text::{Part, check_variables, has_markdown, limited, text};
use super::{authentication, buttons, type_of, variables};
use crate::simulator::graph_error::GraphError;
use crate::simulator::node::Node;
use crate::simulator::uploads::Handles;

const KINDS: [&str; 7] =
    ["HEADER", "LIMITED_TIME_OFFER", "BODY", "FOOTER", "BUTTONS", "CAROUSEL", "CALL_PERMISSION_REQUEST"];
const FORMATS: [&str; 7] = ["TEXT", "IMAGE", "VIDEO", "DOCUMENT", "GIF", "LOCATION", "PRODUCT"];

/// What the judge of components may look up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a> {
    /// In upper case.
    pub(super) category: &'a str,
    pub(super) is_named: bool,
    /// Absent where the samples were accepted before.
    pub(super) handles: Option<&'a Handles>,
    pub(super) now: SystemTime,
}

/// Where components stand, which decides how long a body may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Template,
    Card,
}

/// Judges all components of a template.
pub(super) fn check(components: &Node<'_>, rules: &Rules<'_>) -> Result<(), GraphError> {
    let list = each_once(components)?;
    if rules.category == "AUTHENTICATION" {
        return authentication::check(&list);
    }
    let of = |kind: &str| list.iter().find(|(given, _)| *given == kind).map(|(_, node)| node);
    if of("BODY").is_none() {
        return Err(Part::Body.wrong("A template needs a BODY component."));
    }
    if let Some(offer) = of("LIMITED_TIME_OFFER") {
        check_offer(offer, rules, of("HEADER"), of("FOOTER"))?;
    }
    check_products(of("HEADER"), of("BUTTONS"))?;
    let is_offer = of("LIMITED_TIME_OFFER").is_some();
    let is_product = of("HEADER").is_some_and(|header| format_of(header) == "PRODUCT");
    let body_max = match (is_offer, is_product) {
        (true, _) => 600,
        (_, true) => 160,
        _ => 1024,
    };
    list.iter().try_for_each(|(kind, node)| check_component(kind, node, rules, Place::Template, body_max))
}

/// The components with their types in upper case, each type once.
fn each_once<'a>(components: &Node<'a>) -> Result<Vec<(&'static str, Node<'a>)>, GraphError> {
    let mut list: Vec<(&'static str, Node<'a>)> = Vec::new();
    for node in components.list(1, usize::MAX)? {
        let kind = node.required("type")?.word_in_any_case(&KINDS)?;
        if list.iter().any(|(given, _)| *given == kind) {
            let message = format!("Param {} repeats the component {kind}.", node.path());
            return Err(GraphError::parameter(message));
        }
        list.push((kind, node));
    }
    Ok(list)
}

fn format_of(header: &Node<'_>) -> String {
    header.value.get("format").and_then(Value::as_str).unwrap_or_default().to_ascii_uppercase()
}

fn check_component(
    kind: &str,
    node: &Node<'_>,
    rules: &Rules<'_>,
    place: Place,
    body_max: usize,
) -> Result<(), GraphError> {
    match kind {
        "HEADER" => check_header(node, rules, place),
        "BODY" => {
            node.known(&["type", "text", "example"])?;
            let body = text(node, "text", body_max)?;
            check_variables(node, body, Part::Body, rules.is_named)
        }
        "FOOTER" if place == Place::Template => {
            node.known(&["type", "text"])?;
            let footer = text(node, "text", 60)?;
            let has_variables = !variables(footer).is_empty();
            if has_variables { Err(Part::Footer.wrong("A footer has no variables.")) } else { Ok(()) }
        }
        "BUTTONS" => {
            node.known(&["type", "buttons"])?;
            let max = if place == Place::Card { 2 } else { 10 };
            buttons::check(&node.required("buttons")?, rules.category, max)
        }
        "CAROUSEL" if place == Place::Template => check_carousel(node, rules),
        // It was judged with its neighbours.
        "LIMITED_TIME_OFFER" if place == Place::Template => Ok(()),
        "CALL_PERMISSION_REQUEST" if place == Place::Template => node.known(&["type"]),
        _ => Err(node.invalid(&format!("must not be a {kind} in a card"))),
    }
}

fn check_header(node: &Node<'_>, rules: &Rules<'_>, place: Place) -> Result<(), GraphError> {
    let missing = || Part::Header.wrong("A header needs a format.");
    let format = node.get("format").ok_or_else(missing)?.word_in_any_case(&FORMATS)?;
    if place == Place::Card && !["IMAGE", "VIDEO", "PRODUCT"].contains(&format) {
        return Err(Part::Header.wrong("The header of a card is an image, a video or a product."));
    }
    match format {
        "TEXT" => {
            node.known(&["type", "format", "text", "example"])?;
            let header = text(node, "text", 60)?;
            if has_markdown(header) {
                return Err(Part::Header.wrong("A header has no formatting and one line."));
            }
            check_variables(node, header, Part::Header, rules.is_named)
        }
        "LOCATION" | "PRODUCT" => node.known(&["type", "format"]),
        _ => {
            node.known(&["type", "format", "example"])?;
            if format == "GIF" && rules.category != "MARKETING" {
                return Err(Part::Header.wrong("GIF headers are for marketing templates."));
            }
            check_handle(node, format, rules)
        }
    }
}

/// A sample is the handle of a resumable upload: neither the id of a medium nor a link.
fn check_handle(header: &Node<'_>, format: &str, rules: &Rules<'_>) -> Result<(), GraphError> {
    let missing =
        || Part::Header.wrong("A media header needs a sample in example.header_handle: one handle.");
    let example = header.get("example").ok_or_else(missing)?;
    example.known(&["header_handle"])?;
    let handles = example.get("header_handle").ok_or_else(missing)?.list(1, 1)?;
    let handle = handles.first().ok_or_else(missing)?;
    let text = handle.text(usize::MAX)?;
    let Some(known) = rules.handles else { return Ok(()) };
    known.check(text, format, rules.now).map_err(|why| {
        let message = format!("Param {} {why}.", handle.path());
        let text = "The sample of the header cannot be used. Upload it again and use the new handle.";
        GraphError { message: format!("(#100) {message}"), ..Part::Header.wrong(text) }
    })
}

fn check_offer(
    offer: &Node<'_>,
    rules: &Rules<'_>,
    header: Option<&Node<'_>>,
    footer: Option<&Node<'_>>,
) -> Result<(), GraphError> {
    offer.known(&["type", "limited_time_offer"])?;
    let inner = offer.required("limited_time_offer")?;
    inner.known(&["text", "has_expiration"])?;
    text(&inner, "text", 16)?;
    inner.flag("has_expiration")?;
    if rules.category != "MARKETING" {
        return Err(offer.invalid("is for marketing templates"));
    }
    if header.is_some_and(|header| !["IMAGE", "VIDEO"].contains(&format_of(header).as_str())) {
        return Err(Part::Header.wrong("The header of a limited-time offer is an image or a video."));
    }
    match footer {
        Some(_) => Err(Part::Footer.wrong("A limited-time offer has no footer.")),
        None => Ok(()),
    }
}

/// A product header and the button that shows the product need each other.
fn check_products(header: Option<&Node<'_>>, buttons: Option<&Node<'_>>) -> Result<(), GraphError> {
    let is_product = header.is_some_and(|header| format_of(header) == "PRODUCT");
    let shows_product = buttons.is_some_and(|buttons| {
        let list = buttons.value.get("buttons").and_then(Value::as_array);
        list.is_some_and(|list| list.iter().any(|button| type_of(button).eq_ignore_ascii_case("SPM")))
    });
    if is_product && !shows_product {
        return Err(Part::Header.wrong("A product header needs a button of type SPM."));
    }
    if shows_product && !is_product {
        return Err(Part::Header.wrong("A button of type SPM needs a product header."));
    }
    Ok(())
}

/// Cards of the same kinds: each with a header and buttons, of the same formats and types in the same order.
fn check_carousel(carousel: &Node<'_>, rules: &Rules<'_>) -> Result<(), GraphError> {
    carousel.known(&["type", "cards"])?;
    let mut first = None;
    for card in carousel.required("cards")?.list(2, 10)? {
        card.known(&["components"])?;
        let components = each_once(&card.required("components")?)?;
        let of = |kind: &str| components.iter().find(|(given, _)| *given == kind).map(|(_, node)| node);
        if of("HEADER").is_none() || of("BUTTONS").is_none() {
            return Err(card.invalid("needs a header and one or two buttons"));
        }
        check_products(of("HEADER"), of("BUTTONS"))?;
        for (kind, node) in &components {
            check_component(kind, node, rules, Place::Card, 160)?;
        }
        let kinds = kinds_of(&components);
        if *first.get_or_insert_with(|| kinds.clone()) != kinds {
            return Err(card.invalid("must have the same components and buttons as the other cards"));
        }
    }
    Ok(())
}

/// What a card is made of: types, formats and the types of its buttons.
fn kinds_of(components: &[(&'static str, Node<'_>)]) -> Vec<String> {
    components
        .iter()
        .flat_map(|(kind, node)| {
            let buttons = node.value.get("buttons").and_then(Value::as_array);
            let buttons = buttons.into_iter().flatten().map(|button| type_of(button).to_ascii_uppercase());
            std::iter::once((*kind).to_owned()).chain([format_of(node)]).chain(buttons).collect::<Vec<_>>()
        })
        .collect()
}

/// A text that Meta fixes may still be given.
pub(super) fn optional_label(node: &Node<'_>) -> Result<(), GraphError> {
    node.get("text").map_or(Ok(()), |label| limited(&label, 25).map(|_| ()))
}
