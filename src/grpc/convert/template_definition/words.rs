//! Meta's words: read in either case, written in Meta's.

use crate::contract::v1;
use crate::contract::v1::template_definition_button::Button;
use crate::contract::v1::template_definition_component::Component;
use crate::domain::quoted::Quoted;
use crate::grpc::convert::Violations;

/// What a template is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Category {
    Authentication,
    Marketing,
    Utility,
}

/// How its variables are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ParameterFormat {
    Positional,
    Named,
}

/// Reads a category.
pub(super) fn category(path: &str, word: &str, found: &mut Violations) -> Option<Category> {
    match word {
        "AUTHENTICATION" => Some(Category::Authentication),
        "MARKETING" => Some(Category::Marketing),
        "UTILITY" => Some(Category::Utility),
        _ => {
            found.add(path, format!("must be AUTHENTICATION, MARKETING or UTILITY, is {}", Quoted(word)));
            None
        }
    }
}

/// Reads a parameter format; `None` for an absent one.
pub(super) fn parameter_format(path: &str, word: &str, found: &mut Violations) -> Option<ParameterFormat> {
    match word {
        "" => None,
        "POSITIONAL" => Some(ParameterFormat::Positional),
        "NAMED" => Some(ParameterFormat::Named),
        _ => {
            found.add(
                path,
                format!("must be POSITIONAL for {{{{1}}}} or NAMED for {{{{name}}}}, is {}", Quoted(word)),
            );
            None
        }
    }
}

/// Adds a violation unless the word is one of those.
pub(super) fn check(path: &str, word: &str, words: &[&str], found: &mut Violations) {
    if !words.contains(&word) {
        let words: Vec<_> = words.iter().filter(|word| !word.is_empty()).copied().collect();
        found.add(path, format!("must be one of {}, is {}", words.join(", "), Quoted(word)));
    }
}

/// Puts words into upper case.
pub(super) fn upper(words: &mut [&mut String]) {
    for word in words {
        word.make_ascii_uppercase();
    }
}

/// Puts the words of components into Meta's case.
pub(super) fn of_components(components: &mut [v1::TemplateDefinitionComponent]) {
    for component in components.iter_mut().filter_map(|c| c.component.as_mut()) {
        match component {
            Component::Header(header) => upper(&mut [&mut header.format]),
            Component::Buttons(buttons) => {
                buttons.buttons.iter_mut().filter_map(|b| b.button.as_mut()).for_each(of_button);
            }
            Component::Carousel(carousel) => {
                carousel.cards.iter_mut().for_each(|card| of_components(&mut card.components));
            }
            Component::Body(_)
            | Component::Footer(_)
            | Component::LimitedTimeOffer(_)
            | Component::CallPermissionRequest(_) => {}
        }
    }
}

fn of_button(button: &mut Button) {
    if let Button::Otp(otp) = button {
        upper(&mut [&mut otp.otp_type]);
    } else if let Button::Flow(flow) = button {
        upper(&mut [&mut flow.icon]);
        flow.flow_action.make_ascii_lowercase();
    }
}
