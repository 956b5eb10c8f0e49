//! The texts of a template: variables, their samples, lengths. Section 2.4.3 of the reference.

use serde_json::Value;

use crate::simulator::graph_error::GraphError;
use crate::simulator::node::Node;

/// The variables of a text in order of appearance, each once: `1`, `2` or names.
pub(in crate::simulator) fn variables(text: &str) -> Vec<String> {
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

/// A part of a template that has text, and how Meta refuses what is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Header,
    Body,
    Footer,
}

impl Part {
    /// The refusal of a wrong form, with this text for people.
    pub(super) fn wrong(self, text: &str) -> GraphError {
        let (subcode, title) = match self {
            Self::Header => (2_388_047, "Message Header format is incorrect"),
            Self::Body => (2_388_072, "Message Body format is incorrect"),
            Self::Footer => (2_388_073, "Message Footer format is incorrect"),
        };
        GraphError::template(subcode, title, text)
    }
}

/// The field `key` is a text of 1 to `max` characters.
pub(super) fn text<'a>(node: &Node<'a>, key: &str, max: usize) -> Result<&'a str, GraphError> {
    limited(&node.required(key)?, max)
}

/// The value is a text of 1 to `max` characters.
pub(super) fn limited<'a>(node: &Node<'a>, max: usize) -> Result<&'a str, GraphError> {
    let text = node.text(usize::MAX)?;
    let count = text.chars().count();
    if count > max {
        let text = format!("{} may have {max} characters; it has {count}.", node.path());
        return Err(GraphError::template(2_388_040, "Character Limit Exceeded", &text));
    }
    Ok(text)
}

/// The text of a header or body: its variables are well formed and each has a sample.
pub(super) fn check_variables(
    component: &Node<'_>,
    text: &str,
    part: Part,
    is_named: bool,
) -> Result<(), GraphError> {
    let found = places(text).ok_or_else(|| part.wrong("A variable lacks its closing braces."))?;
    let names = variables(text);
    let is_word = |name: &String| {
        let is_plain =
            |byte: u8| byte.is_ascii_lowercase() || byte == b'_' || (byte.is_ascii_digit() && is_named);
        name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_')
            && name.bytes().all(is_plain)
    };
    let is_sequential = || (1..=names.len()).all(|number| names.contains(&number.to_string()));
    if is_named && !names.iter().all(is_word) {
        let text =
            "Variables of a template with named parameters are lower-case letters, digits and underscores.";
        return Err(part.wrong(text));
    }
    if !is_named && !is_sequential() {
        return Err(part.wrong("Variables must be sequential: {{1}}, {{2}} and so on."));
    }
    if part == Part::Header && names.len() > 1 {
        return Err(part.wrong("A header may have one variable."));
    }
    if part == Part::Body {
        check_places(text, &found)?;
    }
    check_samples(component, part, &names, is_named)
}

/// Where the variables stand; `None` if one does not end.
fn places(text: &str) -> Option<Vec<(usize, usize)>> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(start) = text.get(from..)?.find("{{").map(|at| from + at) {
        let end = text.get(start..)?.find("}}").map(|at| start + at + 2)?;
        found.push((start, end));
        from = end;
    }
    Some(found)
}

/// Variables of a body stand inside the text, apart from each other, and do not outnumber the words. Meta
/// does not say what ratio of words it wants; here it is one word for each variable.
fn check_places(text: &str, places: &[(usize, usize)]) -> Result<(), GraphError> {
    if text.trim().starts_with("{{") || text.trim().ends_with("}}") {
        let text = "Variables can't be at the start or end of the template.";
        return Err(GraphError::template(2_388_299, "Leading or trailing params not allowed", text));
    }
    let between = |(left, right): (&(usize, usize), &(usize, usize))| text.get(left.1..right.0);
    if places.iter().zip(places.iter().skip(1)).filter_map(between).any(|text| text.trim().is_empty()) {
        return Err(Part::Body.wrong("Your template has parameters placed next to each other"));
    }
    let starts = std::iter::once(0).chain(places.iter().map(|(_, end)| *end));
    let ends = places.iter().map(|(start, _)| *start).chain(std::iter::once(text.len()));
    let words: usize = starts
        .zip(ends)
        .filter_map(|(start, end)| text.get(start..end))
        .map(|plain| plain.split_whitespace().filter(|word| word.contains(char::is_alphanumeric)).count())
        .sum();
    if words < places.len() {
        let text = "This template has too many variables for its length. Reduce the number of variables or \
                    increase the message length.";
        let title = "Message template parameters words ratio exceeds limit";
        return Err(GraphError::template(2_388_293, title, text));
    }
    Ok(())
}

/// Every variable has a sample, in the field of its part and format, and nothing else has.
fn check_samples(
    component: &Node<'_>,
    part: Part,
    names: &[String],
    is_named: bool,
) -> Result<(), GraphError> {
    let place = if part == Part::Header { "header_text" } else { "body_text" };
    let field = if is_named { format!("{place}_named_params") } else { place.to_owned() };
    let sample = component.get("example");
    if let Some(example) = &sample {
        example.known(&[field.as_str()])?;
    }
    let given = sample.and_then(|example| example.get(&field));
    let samples = match &given {
        None => Vec::new(),
        Some(node) if is_named => named_samples(node)?,
        // The samples of a body are one list in a list.
        Some(node) if part == Part::Body => {
            let list = node.list(1, 1)?.into_iter().next();
            list.map(|list| list.list(0, usize::MAX)).transpose()?.unwrap_or_default()
        }
        Some(node) => node.list(0, usize::MAX)?,
    };
    for sample in &samples {
        let text = if is_named { sample.required("example")? } else { sample.clone() };
        text.text(usize::MAX)?;
    }
    let param_names: Vec<&str> =
        samples.iter().filter_map(|sample| sample.value.get("param_name").and_then(Value::as_str)).collect();
    let is_complete = if is_named {
        param_names.len() == names.len() && names.iter().all(|name| param_names.contains(&name.as_str()))
    } else {
        samples.len() == names.len()
    };
    if is_complete {
        return Ok(());
    }
    let text = format!(
        "{}['example']['{field}'] must hold one sample for each variable: {} of {}.",
        component.path(),
        samples.len(),
        names.len()
    );
    Err(part.wrong(&text))
}

fn named_samples<'a>(node: &Node<'a>) -> Result<Vec<Node<'a>>, GraphError> {
    let samples = node.list(0, usize::MAX)?;
    for sample in &samples {
        sample.known(&["param_name", "example"])?;
        sample.required("param_name")?.text(usize::MAX)?;
    }
    Ok(samples)
}

/// Whether a text holds formatting, which headers must not. Variables may hold underscores.
pub(super) fn has_markdown(text: &str) -> bool {
    let plain: String =
        text.split("{{").map(|part| part.split_once("}}").map_or(part, |(_, rest)| rest)).collect();
    ['*', '_', '~'].into_iter().any(|mark| plain.matches(mark).count() > 1)
        || plain.contains("```")
        || plain.contains('\n')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn variables_in_order() {
        assert_eq!(variables("Hi {{1}}, {{2}} and {{1}} {{ }"), ["1", "2"]);
        assert_eq!(variables("Table for {{guests}} on {{day}}."), ["guests", "day"]);
    }

    #[test]
    fn markdown() {
        for (text, expected) in
            [("Our *big* sale", true), ("{{a_b_c}} for 2 * 3", false), ("a\nb", true), ("~x~", true)]
        {
            assert_eq!(has_markdown(text), expected, "{text}");
        }
    }

    /// The subcode of a body with this text and these samples; 0 if it is good, 100 if it has none.
    fn judged(text: &str, example: &Value, is_named: bool) -> u32 {
        let component = json!({ "type": "BODY", "text": text, "example": example });
        let node = Node::new("components[0]", &component);
        match check_variables(&node, text, Part::Body, is_named) {
            Ok(()) => 0,
            Err(error) => error.subcode.unwrap_or(100),
        }
    }

    #[test]
    fn positional_variables() {
        for (text, samples, expected) in [
            ("Hi {{1}}, order {{2}} is here.", vec!["a", "b"], 0),
            ("Order {{2}} of {{1}} is here.", vec!["a", "b"], 0),
            ("Hi {{1}}, once more {{1}}!", vec!["a"], 0),
            ("Hi {{1}}, order {{2}} is here.", vec!["a"], 2_388_072),
            ("Hi {{1}}, order {{3}} is here.", vec!["a", "b"], 2_388_072),
            ("Hi {{0}} there", vec!["a"], 2_388_072),
            ("Hi {{name}} there", vec!["a"], 2_388_072),
            ("Hi {{1} there", vec!["a"], 2_388_072),
            ("Hi {{1}} {{2}} and more words", vec!["a", "b"], 2_388_072),
            ("{{1}}, hello", vec!["a"], 2_388_299),
            ("Hello {{1}} ", vec!["a"], 2_388_299),
            ("Hello {{1}}.", vec!["a"], 0),
            ("Hi {{1}}, {{2}}, {{3}}, {{4}}!", vec!["a", "b", "c", "d"], 2_388_293),
            ("Hi {{1}}!", vec![""], 100),
        ] {
            assert_eq!(
                judged(text, &json!({ "body_text": [samples] }), false),
                expected,
                "{text} {samples:?}"
            );
        }
        assert_eq!(judged("Hi {{1}}!", &json!({ "body_text": ["a"] }), false), 100, "a list too few");
        assert_eq!(judged("Hi {{1}}!", &json!({ "header_text": ["a"] }), false), 100);
        assert_eq!(judged("Hi!", &json!({ "body_text": [["a"]] }), false), 2_388_072);
    }

    #[test]
    fn named_variables() {
        let sample = |name: &str| json!({ "param_name": name, "example": "4" });
        for (text, samples, expected) in [
            ("Table for {{guests}} on {{day_2}}.", vec!["day_2", "guests"], 0),
            ("Table for {{guests}} on {{day}}.", vec!["guests"], 2_388_072),
            ("Table for {{guests}} here", vec!["guests", "guests"], 2_388_072),
            ("Table for {{Guests}} here", vec!["Guests"], 2_388_072),
            ("Table for {{1}} here", vec!["1"], 2_388_072),
        ] {
            let samples: Vec<Value> = samples.into_iter().map(sample).collect();
            let example = json!({ "body_text_named_params": samples });
            assert_eq!(judged(text, &example, true), expected, "{text}");
        }
    }
}
