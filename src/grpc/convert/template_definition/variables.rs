//! Variables in texts, and their samples (reference 2.4.3).

use std::collections::HashSet;
use std::sync::LazyLock;

use regex::Regex;

use super::words::ParameterFormat;
use crate::contract::v1;
use crate::domain::quoted::Quoted;
use crate::grpc::convert::Violations;

/// The variables of a text.
#[derive(Debug)]
pub(super) struct Variables<'t> {
    text: &'t str,
    /// What stands between the braces, in order.
    names: Vec<&'t str>,
}

/// The samples of a text: those of numbered variables and those of named ones, each with the name of its field.
#[derive(Debug, Clone, Copy)]
pub(super) struct Samples<'s> {
    pub(super) numbered: (&'static str, &'s [String]),
    pub(super) named: (&'static str, &'s [v1::TemplateNamedExample]),
}

impl<'t> Variables<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        let names = pattern().captures_iter(text).filter_map(|found| found.get(1)).map(|name| name.as_str());
        Self { text, names: names.collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// Checks where they stand; Meta refuses texts that begin or end with one (2388299).
    pub(super) fn check_places(&self, path: &str, found: &mut Violations) {
        let text = self.text.trim();
        let (Some(first), Some(last)) = (pattern().find(text), pattern().find_iter(text).last()) else {
            return;
        };
        if first.start() == 0 {
            found.add(
                path,
                format!("must not begin with the variable {}: put a word before it", shown(name_of(first))),
            );
        }
        if last.end() == text.len() {
            found.add(
                path,
                format!(
                    "must not end with the variable {}: put a word or a full stop after it",
                    shown(name_of(last))
                ),
            );
        }
        if text.contains("}}{{") {
            found.add(path, "has two variables side by side: put text between them, or make one of them");
        }
    }

    /// Checks their names, and that the format of the template is theirs; returns that format.
    pub(super) fn check_names(
        &self,
        path: &str,
        format: Option<ParameterFormat>,
        found: &mut Violations,
    ) -> Option<ParameterFormat> {
        let own = if self.names.iter().all(|name| is_number(name)) {
            ParameterFormat::Positional
        } else if self.names.iter().any(|name| is_number(name)) {
            found.add(path, "mixes {{1}} with {{name}}: use the one with parameter_format POSITIONAL, the other with NAMED");
            return None;
        } else {
            ParameterFormat::Named
        };
        if let Some(bad) = self.names.iter().find(|name| !is_number(name) && !is_name(name)) {
            let rule = "a variable is a number, or lower-case letters, digits and underscores";
            found.add(
                path,
                format!("{} is no variable: {rule}, such as {{{{1}}}} or {{{{first_name}}}}", shown(bad)),
            );
            return None;
        }
        match (own, format) {
            (ParameterFormat::Named, Some(ParameterFormat::Positional)) => {
                found.add(
                    path,
                    "has named variables, so parameter_format must be NAMED; or number them from {{1}}",
                );
            }
            (ParameterFormat::Positional, Some(ParameterFormat::Named)) if !self.is_empty() => {
                found.add(
                    path,
                    "has numbered variables, so parameter_format must be POSITIONAL; or name them",
                );
            }
            (ParameterFormat::Positional, _) => self.check_sequence(path, found),
            (ParameterFormat::Named, _) => self.check_unique(path, found),
        }
        Some(own)
    }

    fn check_sequence(&self, path: &str, found: &mut Violations) {
        let known = self.distinct();
        let missing = (1..=known.len()).map(|n| n.to_string()).find(|n| !known.contains(n.as_str()));
        if let Some(missing) = missing {
            found.add(
                path,
                format!("must number its variables from 1 without gaps; {{{{{missing}}}}} is missing"),
            );
        }
    }

    fn check_unique(&self, path: &str, found: &mut Violations) {
        let mut known = HashSet::new();
        if let Some(twice) = self.names.iter().find(|name| !known.insert(**name)) {
            found.add(path, format!("has {} twice; give each variable a name of its own", shown(twice)));
        }
    }

    fn distinct(&self) -> HashSet<&'t str> {
        self.names.iter().copied().collect()
    }

    /// Checks that there is a sample for each. `path` is that of the example.
    pub(super) fn check_samples(
        &self,
        path: &str,
        own: ParameterFormat,
        samples: Samples<'_>,
        found: &mut Violations,
    ) {
        let (numbers_field, numbers) = samples.numbered;
        let (names_field, names) = samples.named;
        let count = self.distinct().len();
        let rule = match own {
            ParameterFormat::Named if !numbers.is_empty() => {
                Some(format!("must be absent: the variables have names; use {names_field}"))
            }
            ParameterFormat::Positional if count == 0 && !numbers.is_empty() => {
                Some("must be absent: the text has no variables".to_owned())
            }
            ParameterFormat::Positional if count != numbers.len() => {
                Some(format!("must have a sample for each variable: {count}, has {}", numbers.len()))
            }
            ParameterFormat::Named | ParameterFormat::Positional => None,
        };
        if let Some(rule) = rule {
            found.add(&format!("{path}.{numbers_field}"), rule);
        }
        for (position, _) in numbers.iter().enumerate().filter(|(_, sample)| sample.is_empty()) {
            found.add(&format!("{path}.{numbers_field}[{position}]"), "must not be empty");
        }
        let mut known = HashSet::new();
        for (position, sample) in names.iter().enumerate() {
            let path = format!("{path}.{names_field}[{position}].param_name");
            let name = sample.param_name.as_str();
            if !self.names.contains(&name) || own == ParameterFormat::Positional {
                found.add(&path, format!("the text has no variable {}", shown(name)));
            } else if !known.insert(name) {
                found.add(&path, format!("there is a sample for {} already", shown(name)));
            }
        }
        let missing = self.names.iter().find(|name| !known.contains(**name));
        if let Some(missing) = missing.filter(|_| own == ParameterFormat::Named) {
            found.add(&format!("{path}.{names_field}"), format!("must have a sample for {}", shown(missing)));
        }
    }
}

fn pattern() -> &'static Regex {
    #[expect(clippy::expect_used, reason = "a constant; every test of this module would fail")]
    static PATTERN: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\{\{([^{}]*)\}\}").expect("a pattern"));
    &PATTERN
}

/// The name between the braces.
fn name_of(variable: regex::Match<'_>) -> &str {
    variable.as_str().trim_matches(['{', '}'])
}

/// A variable as texts have it, if its name is a word: anything may stand between braces.
fn shown(name: &str) -> String {
    let quoted = Quoted(name);
    if quoted.is_word() { format!("{{{{{name}}}}}") } else { quoted.to_string() }
}

fn is_number(name: &str) -> bool {
    !name.starts_with('0') && !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit())
}

fn is_name(name: &str) -> bool {
    let is_letter = |b: u8| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit();
    !name.is_empty() && name.bytes().all(is_letter) && !name.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_repeated_only_if_its_name_is_a_word() {
        assert_eq!([shown("day"), shown("")], ["{{day}}", "{{}}"]);
        let mut found = Violations::default();
        let variables = Variables::of("{{call 15558675309}} or {{order_15558675309}}");
        variables.check_places("text", &mut found);
        variables.check_names("names", None, &mut found);
        let samples = Samples { numbered: ("texts", &[]), named: ("named", &[]) };
        variables.check_samples("example", ParameterFormat::Named, samples, &mut found);
        let found = found.into_inner();
        assert_eq!(found.len(), 3, "{found:?}");
        for violation in found {
            assert!(violation.description.contains("<a text of 16 bytes>"), "{violation:?}");
            assert!(!violation.description.contains("1555"), "{violation:?}");
        }
    }
}
