//! Rules between fields of a template message. What the template itself asks for only Meta knows.

use std::collections::HashSet;

use super::media::Medium;
use super::{Violations, order};
use crate::contract::v1;
use crate::contract::v1::template_component::Component;
use crate::contract::v1::template_parameter::Parameter;

/// Checks the template message of a field.
pub(super) fn check(field: &str, template: &v1::Template, found: &mut Violations) {
    check_components(&format!("{field}.components"), &template.components, false, found);
}

fn check_components(path: &str, components: &[v1::TemplateComponent], is_card: bool, found: &mut Violations) {
    let mut kinds = HashSet::new();
    let mut indexes = HashSet::new();
    for (position, component) in components.iter().enumerate() {
        let path = format!("{path}[{position}]");
        let Some(component) = &component.component else { continue };
        let kind = kind_of(component);
        if !matches!(component, Component::Button(_)) && !kinds.insert(kind) {
            found.add(&path, format!("there is a {kind} already; put all parameters into one"));
        }
        if is_card && !matches!(component, Component::Header(_) | Component::Body(_) | Component::Button(_)) {
            found.add(&path, format!("a card has header, body and buttons, no {kind}"));
        }
        match component {
            Component::Button(button) => {
                if !indexes.insert(button.index.unwrap_or(0)) {
                    let path = format!("{path}.button.index");
                    found.add(&path, "must be unique: it is the position among all buttons, from 0");
                }
                check_parameters(&format!("{path}.button"), &button.parameters, found);
            }
            Component::Carousel(carousel) => check_cards(&format!("{path}.carousel"), carousel, found),
            Component::Header(parameters)
            | Component::Body(parameters)
            | Component::LimitedTimeOffer(parameters)
            | Component::OrderStatus(parameters)
            | Component::TapTargetConfiguration(parameters) => {
                check_parameters(&format!("{path}.{kind}"), &parameters.parameters, found);
            }
        }
    }
}

fn kind_of(component: &Component) -> &'static str {
    match component {
        Component::Header(_) => "header",
        Component::Body(_) => "body",
        Component::Button(_) => "button",
        Component::Carousel(_) => "carousel",
        Component::LimitedTimeOffer(_) => "limited_time_offer",
        Component::OrderStatus(_) => "order_status",
        Component::TapTargetConfiguration(_) => "tap_target_configuration",
    }
}

/// All cards have the same kinds of header and buttons, since the template has.
fn check_cards(path: &str, carousel: &v1::TemplateCarousel, found: &mut Violations) {
    let kinds = |card: &v1::TemplateCard| -> Vec<String> {
        let mut kinds: Vec<_> = card.components.iter().filter_map(card_kind).collect();
        kinds.sort();
        kinds
    };
    let mut indexes = HashSet::new();
    for (position, card) in carousel.cards.iter().enumerate() {
        let path = format!("{path}.cards[{position}]");
        check_components(&format!("{path}.components"), &card.components, true, found);
        if card.card_index.is_some_and(|index| !indexes.insert(index)) {
            found.add(&format!("{path}.card_index"), "must be unique");
        }
        if carousel.cards.first().is_some_and(|first| kinds(first) != kinds(card)) {
            found.add(&path, "must have the same kinds of header and buttons as the first card");
        }
    }
}

/// What must be equal in all cards; a body has no kind.
fn card_kind(component: &v1::TemplateComponent) -> Option<String> {
    match component.component.as_ref()? {
        Component::Header(header) => {
            let parameter = header.parameters.first().and_then(|p| p.parameter.as_ref());
            Some(format!("header {}", parameter.map_or("", parameter_kind)))
        }
        Component::Button(button) => Some(format!("button {}", button.sub_type.to_ascii_lowercase())),
        Component::Body(_)
        | Component::Carousel(_)
        | Component::LimitedTimeOffer(_)
        | Component::OrderStatus(_)
        | Component::TapTargetConfiguration(_) => None,
    }
}

fn parameter_kind(parameter: &Parameter) -> &'static str {
    match parameter {
        Parameter::Image(_) => "image",
        Parameter::Video(_) => "video",
        Parameter::Document(_) => "document",
        Parameter::Location(_) => "location",
        Parameter::Product(_) => "product",
        Parameter::Text(_)
        | Parameter::Currency(_)
        | Parameter::DateTime(_)
        | Parameter::Payload(_)
        | Parameter::CouponCode(_)
        | Parameter::Action(_)
        | Parameter::TtlMinutes(_)
        | Parameter::GroupId(_)
        | Parameter::OrderStatus(_)
        | Parameter::LimitedTimeOffer(_)
        | Parameter::TapTargetConfiguration(_) => "text",
    }
}

fn check_parameters(path: &str, parameters: &[v1::TemplateParameter], found: &mut Violations) {
    for (position, parameter) in parameters.iter().enumerate() {
        let path = format!("{path}.parameters[{position}]");
        match &parameter.parameter {
            Some(Parameter::Image(image)) => Medium::Image(image).check_in_header(&path, found),
            Some(Parameter::Video(video)) => Medium::Video(video).check_in_header(&path, found),
            Some(Parameter::Document(document)) => Medium::Document(document).check_in_header(&path, found),
            Some(Parameter::Action(action)) => {
                order::check_sections(&format!("{path}.action.sections"), &action.sections, found);
                if let Some(details) = &action.order_details {
                    order::check_details(&format!("{path}.action.order_details"), details, found);
                }
            }
            Some(
                Parameter::Text(_)
                | Parameter::Currency(_)
                | Parameter::DateTime(_)
                | Parameter::Location(_)
                | Parameter::Payload(_)
                | Parameter::CouponCode(_)
                | Parameter::Product(_)
                | Parameter::TtlMinutes(_)
                | Parameter::GroupId(_)
                | Parameter::OrderStatus(_)
                | Parameter::LimitedTimeOffer(_)
                | Parameter::TapTargetConfiguration(_),
            )
            | None => {}
        }
    }
}
