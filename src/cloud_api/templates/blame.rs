//! Which field of a request a refusal is about.

use crate::domain::failure::MetaError;
use crate::domain::template::TemplateAction;
use crate::domain::value::Value;

/// The component that a code is about (reference 5.8).
const COMPONENTS: [(i64, &str); 5] =
    [(2388047, "header"), (2388072, "body"), (2388293, "body"), (2388299, "body"), (2388073, "footer")];

/// The path of the field that a refusal is about, such as `create.components[1].body`; `None` where its code names none.
pub fn blamed_field(action: &TemplateAction, error: &MetaError) -> Option<String> {
    use TemplateAction as A;
    let (A::Create { body, .. } | A::Edit { body, .. } | A::Upsert { body }) = action else { return None };
    let said = [error.code, error.subcode];
    let (_, wanted) = COMPONENTS.into_iter().find(|(code, _)| said.contains(&Some(*code)))?;
    let Value::List(components) = body.get("components")? else { return None };
    let own = place(components, wanted);
    let of_cards = components.iter().position(|component| has_in_cards(component, wanted));
    let list = format!("{}.components", action.name());
    let index = match (own, of_cards) {
        (Some(index), None) => index,
        // Which of the cards, only Meta's words say.
        (None, Some(index)) => return Some(format!("{list}[{index}].carousel.cards")),
        (Some(_), Some(_)) => return Some(list),
        (None, None) => return None,
    };
    let sample = components.get(index).and_then(|component| component.get("example")?.get("header_handle"));
    // A header with a sample has nothing else that could be wrong.
    let sample = if sample.is_some() { ".example.header_handle" } else { "" };
    Some(format!("{list}[{index}].{wanted}{sample}"))
}

fn place(components: &[Value], wanted: &str) -> Option<usize> {
    let is_wanted = |component: &Value| {
        let kind = component.get("type").and_then(Value::as_str);
        kind.is_some_and(|kind| kind.eq_ignore_ascii_case(wanted))
    };
    components.iter().position(is_wanted)
}

fn has_in_cards(component: &Value, wanted: &str) -> bool {
    let Some(Value::List(cards)) = component.get("cards") else { return false };
    cards.iter().any(|card| match card.get("components") {
        Some(Value::List(components)) => place(components, wanted).is_some(),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_is_found_by_its_type() {
        let map = |fields: Vec<(&str, Value)>| {
            Value::Map(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
        };
        let handles = map(vec![("header_handle", Value::List(vec!["4::a".into()]))]);
        let header = map(vec![("type", "header".into()), ("example", handles)]);
        let body = map(vec![("type", "BODY".into())]);
        let components = Value::List(vec![header, body]);
        let edit =
            TemplateAction::Edit { template_id: "1".to_owned(), body: map(vec![("components", components)]) };
        let blamed = |code, subcode| {
            let error = MetaError { code: Some(code), subcode: Some(subcode), ..MetaError::default() };
            blamed_field(&edit, &error)
        };
        let header = "edit.components[0].header.example.header_handle";
        assert_eq!(blamed(100, 2388047).as_deref(), Some(header));
        assert_eq!(blamed(2388299, 0).as_deref(), Some("edit.components[1].body"));
        assert_eq!(blamed(100, 2388073), None, "there is no footer");
        assert_eq!(blamed(100, 2388024), None);
    }

    #[test]
    fn cards_have_components_too() {
        let map = |name: &str, value: Value| Value::Map(vec![(name.to_owned(), value)]);
        let of_kind = |kind: &str| map("type", kind.into());
        let card = map("components", Value::List(vec![of_kind("HEADER"), of_kind("BODY")]));
        let components = Value::List(vec![of_kind("BODY"), map("cards", Value::List(vec![card]))]);
        let edit = TemplateAction::Edit { template_id: "1".to_owned(), body: map("components", components) };
        let blamed = |subcode| {
            let error = MetaError { code: Some(100), subcode: Some(subcode), ..MetaError::default() };
            blamed_field(&edit, &error)
        };
        assert_eq!(blamed(2388047).as_deref(), Some("edit.components[1].carousel.cards"));
        assert_eq!(blamed(2388072).as_deref(), Some("edit.components"), "there or in a card");
        assert_eq!(blamed(2388073), None, "there is no footer");
    }

    #[test]
    fn other_actions_have_no_components() {
        let error = MetaError { code: Some(2388072), ..MetaError::default() };
        assert_eq!(blamed_field(&TemplateAction::Unpause("1".to_owned()), &error), None);
    }
}
