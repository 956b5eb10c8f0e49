//! Does a message give what its template takes? Tested beside the reader of descriptions, `cloud_api::templates`.

mod given;

use super::{Button, Cards, Header, Parts, Slots, TemplateShape, Variables};
use crate::domain::failure::FieldViolation;
use crate::domain::value::Value;
use given::{Given, all, first, index, is_no_text, is_text, is_understood, list, parameters, type_of};

/// Kinds of buttons that a message can name.
const SUB_TYPES: [&str; 9] = [
    "quick_reply",
    "url",
    "copy_code",
    "flow",
    "catalog",
    "mpm",
    "order_details",
    "voice_call",
    "phone_number",
];
/// Characters of a template's name in a sentence, so that the remedy behind it is not cut off.
const NAME_CHARS_MAX: usize = 64;

impl TemplateShape {
    /// What is wrong with the content of a message that uses this template; empty if nothing is known to be. `root` is the
    /// path of the template in the request. In `is_raw` content fields are named as in Meta's JSON.
    pub fn misfits(&self, root: &str, is_raw: bool, template: &Value) -> Vec<FieldViolation> {
        let given = list(template.get("components"));
        let (Some(parts), true) = (&self.parts, given.iter().all(is_understood)) else { return Vec::new() };
        let mut check = Check { name: self.label(), is_raw, found: Vec::new() };
        let path = format!("{root}.components");
        check.slots(&path, "", &parts.slots, given);
        check.offer(&path, parts, given);
        check.carousel(&path, &parts.cards, given);
        check.found
    }

    /// How sentences name it.
    pub fn label(&self) -> String {
        let end = self.name.char_indices().nth(NAME_CHARS_MAX);
        let (name, more) = match end.and_then(|(end, _)| self.name.get(..end)) {
            Some(start) => (start, "…"),
            None => (self.name.as_str(), ""),
        };
        format!("{name}{more} ({})", self.language)
    }
}

struct Check {
    name: String,
    is_raw: bool,
    found: Vec<FieldViolation>,
}

impl Check {
    fn add(&mut self, field: String, description: String) {
        self.found.push(FieldViolation { field, description });
    }

    /// The path of what our contract has in an arm and Meta beside its `type`.
    fn arm(&self, path: &str, arm: &str) -> String {
        if self.is_raw { path.to_owned() } else { format!("{path}.{arm}") }
    }

    fn component(&self, path: &str, given: Given<'_>, kind: &str) -> String {
        self.arm(&format!("{path}[{}]", given.position), kind)
    }

    /// The path of a parameter of a wrong type.
    fn kind_of_parameter(&self, component: &str, position: usize, kind: &str) -> String {
        let field = if self.is_raw { "type" } else { kind };
        format!("{component}.parameters[{position}].{field}")
    }

    /// `of` says in which card it is: empty, or such as "card 0 of ".
    fn slots(&mut self, path: &str, of: &str, slots: &Slots, given: &[Value]) {
        let name = format!("{of}{}", self.name);
        self.header(path, &name, &slots.header, first(given, "header"));
        self.text(path, "body", &name, &slots.body, first(given, "body"));
        self.buttons(path, &name, &slots.buttons, given);
    }

    fn header(&mut self, path: &str, name: &str, header: &Header, given: Option<Given<'_>>) {
        let parameters = given.map_or(&[][..], parameters);
        match (header, given) {
            (Header::Unknown, _) | (Header::Absent, None) => {}
            (Header::Text(variables), given) => self.text(path, "header", name, variables, given),
            (Header::Absent, Some(given)) => {
                if !parameters.is_empty() {
                    let field = self.component(path, given, "header");
                    self.add(field, format!("must be absent: {name} has no header that takes parameters"));
                }
            }
            (Header::One(kind), None) => {
                let description = format!(
                    "the header of {name} takes 1 parameter of the type {kind}, none was given: add the component header with it"
                );
                self.add(path.to_owned(), description);
            }
            (Header::One(wanted), Some(given)) => {
                let field = self.component(path, given, "header");
                let takes = format!("the header of {name} takes 1 parameter of the type {wanted}");
                match parameters {
                    [only] => self.of_type(&field, only, wanted, &takes),
                    other => {
                        self.add(
                            format!("{field}.parameters"),
                            format!("{takes}, {}", were_given(other.len())),
                        );
                    }
                }
            }
        }
    }

    /// The one parameter of something has the type that it takes. A type that is not known may be the same in other words.
    fn of_type(&mut self, component: &str, parameter: &Value, wanted: &str, takes: &str) {
        let given = type_of(parameter);
        if given != wanted && (is_text(parameter) || is_no_text(parameter)) {
            self.add(self.kind_of_parameter(component, 0, &given), format!("{takes}, {given} was given"));
        }
    }

    /// Text with variables. `what` is the component.
    fn text(&mut self, path: &str, what: &str, name: &str, variables: &Variables, given: Option<Given<'_>>) {
        let parameters = given.map_or(&[][..], parameters);
        let component = given.map(|given| self.component(path, given, what));
        if parameters.iter().any(|p| !is_text(p) && !is_no_text(p)) {
            return;
        }
        let whole = match &component {
            Some(component) => format!("{component}.parameters"),
            None => path.to_owned(),
        };
        let add =
            if component.is_none() { format!("add the component {what} with") } else { "add".to_owned() };
        match variables {
            Variables::Unknown => return,
            Variables::Numbered(count) if *count != parameters.len() => {
                let remedy = match parameters.len() {
                    more if more > *count => format!("leave {} out", more - count),
                    0 => format!("{add} {}", if *count == 1 { "it" } else { "them" }),
                    fewer => format!("add {} more", count - fewer),
                };
                let takes = counted(*count, "parameter");
                let were = were_given(parameters.len());
                self.add(whole, format!("the {what} of {name} takes {takes}, {were}: {remedy}"));
                return;
            }
            Variables::Numbered(_) => {}
            Variables::Named(names) => {
                self.names(&whole, (what, &add), name, names, parameters);
            }
        }
        for (position, parameter) in parameters.iter().enumerate().filter(|(_, p)| is_no_text(p)) {
            let kind = type_of(parameter);
            let component = component.as_deref().unwrap_or(path);
            let field = self.kind_of_parameter(component, position, &kind);
            self.add(field, format!("must be text: the {what} of {name} has no place for {kind}"));
        }
    }

    /// Every variable is named once, and nothing else is.
    fn names(
        &mut self,
        path: &str,
        (what, add): (&str, &str),
        name: &str,
        names: &[String],
        given: &[Value],
    ) {
        let takes = match names {
            [] => format!("the {what} of {name} takes no parameters"),
            [..] => format!("the {what} of {name} takes by name: {}", names.join(", ")),
        };
        let mut known: Vec<&str> = Vec::new();
        for (position, parameter) in given.iter().enumerate() {
            let given_name = parameter.get("parameter_name").and_then(Value::as_str).unwrap_or_default();
            let wrong = match given_name {
                "" if names.is_empty() => "is one too many",
                "" => "is required",
                twice if known.contains(&twice) => "is there already",
                other if !names.iter().any(|name| name == other) => "is no variable of it",
                fine => {
                    known.push(fine);
                    continue;
                }
            };
            self.add(format!("{path}[{position}].parameter_name"), format!("{wrong}: {takes}"));
        }
        let missing: Vec<&str> =
            names.iter().map(String::as_str).filter(|name| !known.contains(name)).collect();
        if !missing.is_empty() {
            self.add(path.to_owned(), format!("{takes}; {add} {}", missing.join(", ")));
        }
    }

    fn buttons(&mut self, path: &str, name: &str, buttons: &[Button], given: &[Value]) {
        let mut filled = Vec::new();
        let mut are_all_placed = true;
        for given in all(given, "button") {
            let Some(index) = index(given.component.get("index")) else {
                are_all_placed = false;
                continue;
            };
            let component = self.component(path, given, "button");
            let Some(button) = buttons.get(index) else {
                let has = match buttons.len() {
                    0 => "has no buttons: leave this component out".to_owned(),
                    1 => "has 1 button, so index must be 0".to_owned(),
                    count => format!("has {count} buttons, so index must be 0 to {}", count - 1),
                };
                self.add(format!("{component}.index"), format!("{name} {has}"));
                continue;
            };
            filled.push(index);
            self.button(&component, &format!("button {index} of {name}"), button, given);
        }
        for (index, button) in buttons.iter().enumerate().filter(|(index, _)| !filled.contains(index)) {
            let Button::Known { sub_type, takes, is_required: true } = button else { continue };
            if are_all_placed {
                let takes = takes.unwrap_or("text");
                let of = format!("button {index} of {name} takes 1 parameter of the type {takes}");
                let remedy = format!("add a component button with sub_type {sub_type} and index {index}");
                self.add(path.to_owned(), format!("{of}, none was given: {remedy}"));
            }
        }
    }

    fn button(&mut self, component: &str, name: &str, button: &Button, given: Given<'_>) {
        let Button::Known { sub_type, takes, is_required } = button else { return };
        let asked = given.component.get("sub_type").and_then(Value::as_str).unwrap_or_default();
        let asked = asked.to_ascii_lowercase();
        if !SUB_TYPES.contains(&asked.as_str()) {
            return;
        }
        if asked != *sub_type {
            self.add(format!("{component}.sub_type"), format!("must be {sub_type}: {name} is of that type"));
            return;
        }
        let Some(wanted) = takes else { return };
        let sentence = format!("{name} takes 1 parameter of the type {wanted}");
        match parameters(given) {
            [] if !is_required => {}
            [only] => self.of_type(component, only, wanted, &sentence),
            other => {
                let were = were_given(other.len());
                self.add(format!("{component}.parameters"), format!("{sentence}, {were}"));
            }
        }
    }

    fn offer(&mut self, path: &str, parts: &Parts, given: &[Value]) {
        let kind = "limited_time_offer";
        if let (Some(given), false) = (first(given, kind), parts.has_offer) {
            let name = &self.name;
            let description = format!("must be absent: {name} has no limited-time offer");
            self.add(self.component(path, given, kind), description);
        }
    }

    fn carousel(&mut self, path: &str, cards: &Cards, given: &[Value]) {
        let name = self.name.clone();
        let given = first(given, "carousel");
        let (carousel, given_cards) = match given {
            Some(given) => {
                let path = format!("{}.cards", self.component(path, given, "carousel"));
                (path, list(given.component.get("cards")))
            }
            None => (path.to_owned(), &[][..]),
        };
        match (cards, given) {
            (Cards::Unknown, _) | (Cards::Absent | Cards::Any(_), None) => return,
            (Cards::Absent, Some(given)) => {
                let field = self.component(path, given, "carousel");
                return self.add(field, format!("must be absent: {name} has no carousel"));
            }
            (Cards::Each(known), given) if known.len() != given_cards.len() => {
                let has = format!("{name} has a carousel of {}", counted(known.len(), "card"));
                let remedy = match given {
                    None => "add the component carousel with all of them".to_owned(),
                    Some(_) => format!("{}: give each of them once", were_given(given_cards.len())),
                };
                self.add(carousel.clone(), format!("{has}, {remedy}"));
            }
            (Cards::Each(_) | Cards::Any(_), _) => {}
        }
        for (position, card) in given_cards.iter().enumerate() {
            let components = list(card.get("components"));
            let Some(index) = index(card.get("card_index")).filter(|_| components.iter().all(is_understood))
            else {
                continue;
            };
            let card = format!("{carousel}[{position}]");
            let slots = match cards {
                Cards::Each(known) => known.get(index),
                Cards::Any(slots) => Some(slots),
                Cards::Absent | Cards::Unknown => None,
            };
            match slots {
                Some(slots) => {
                    self.slots(
                        &format!("{card}.components"),
                        &format!("card {index} of "),
                        slots,
                        components,
                    );
                }
                None => self.add(format!("{card}.card_index"), format!("{name} has no card {index}")),
            }
        }
    }
}

fn counted(count: usize, noun: &str) -> String {
    match count {
        0 => format!("no {noun}s"),
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}

fn were_given(count: usize) -> String {
    match count {
        0 => "none was given".to_owned(),
        1 => "1 was given".to_owned(),
        _ => format!("{count} were given"),
    }
}
