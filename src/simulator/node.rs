//! One value of a body with its path as Meta writes it, and the refusals that every field shares.

use serde_json::Value;

use super::graph_error::GraphError;

/// A value somewhere in a body.
#[derive(Debug, Clone)]
pub(super) struct Node<'a> {
    path: String,
    pub(super) value: &'a Value,
}

impl<'a> Node<'a> {
    /// A value that stands at this path.
    pub(super) fn new(path: &str, value: &'a Value) -> Self {
        Self { path: path.to_owned(), value }
    }

    /// Where the value stands.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The field `key`, if it is there.
    pub(super) fn get(&self, key: &str) -> Option<Node<'a>> {
        self.value.get(key).map(|value| Node { path: format!("{}['{key}']", self.path), value })
    }

    /// The field `key`, which must be there.
    pub(super) fn required(&self, key: &str) -> Result<Node<'a>, GraphError> {
        self.get(key).ok_or_else(|| {
            GraphError::because(131_008, format!("The parameter {}['{key}'] is required.", self.path))
        })
    }

    /// The value is an object with no fields but these.
    pub(super) fn known(&self, keys: &[&str]) -> Result<(), GraphError> {
        let Some(object) = self.value.as_object() else {
            return Err(GraphError::parameter(format!("Param {} must be a JSON object.", self.path)));
        };
        match object.keys().find(|key| !keys.contains(&key.as_str())) {
            Some(key) => {
                Err(GraphError::parameter(format!("Unexpected key \"{key}\" on param \"{}\".", self.path)))
            }
            None => Ok(()),
        }
    }

    /// The value is a text of 1 to `max` characters.
    pub(super) fn text(&self, max: usize) -> Result<&'a str, GraphError> {
        let text = self.value.as_str().ok_or_else(|| self.invalid("must be a string"))?;
        if text.is_empty() || text.chars().count() > max {
            return Err(self.invalid(&format!("length invalid. Min length: 1, Max length: {max}")));
        }
        Ok(text)
    }

    /// The field `key` is a text of 1 to `max` characters, if it is there.
    pub(super) fn optional_text(&self, key: &str, max: usize) -> Result<Option<&'a str>, GraphError> {
        self.get(key).map(|node| node.text(max)).transpose()
    }

    /// The field `key` is a text of 1 to `max` characters.
    pub(super) fn required_text(&self, key: &str, max: usize) -> Result<&'a str, GraphError> {
        self.required(key)?.text(max)
    }

    /// The value is one of these words.
    pub(super) fn word(&self, words: &[&str]) -> Result<&'a str, GraphError> {
        let word = self.value.as_str().filter(|word| words.contains(word));
        word.ok_or_else(|| self.invalid(&format!("must be one of {{{}}}", words.join(", "))))
    }

    /// The value is a list with so many entries.
    pub(super) fn list(&self, min: usize, max: usize) -> Result<Vec<Node<'a>>, GraphError> {
        let values = self.value.as_array().ok_or_else(|| self.invalid("must be an array"))?;
        if values.len() < min || values.len() > max {
            return Err(self.invalid(&format!("count is invalid. Min: {min}, Max: {max}")));
        }
        let node = |(at, value)| Node { path: format!("{}[{at}]", self.path), value };
        Ok(values.iter().enumerate().map(node).collect())
    }

    /// The value is a whole number in this range, which Meta also takes as a text.
    pub(super) fn number(&self, min: i64, max: i64) -> Result<i64, GraphError> {
        let by_text = || self.value.as_str().and_then(|text| text.parse().ok());
        let number = self.value.as_i64().or_else(by_text).filter(|number| (min..=max).contains(number));
        number.ok_or_else(|| self.invalid(&format!("must be a number from {min} to {max}")))
    }

    /// The field `key` is true or false, if it is there.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, GraphError> {
        let Some(node) = self.get(key) else { return Ok(None) };
        node.value.as_bool().map(Some).ok_or_else(|| node.invalid("must be true or false"))
    }

    /// The value is one of these words in any case; the answer is as listed.
    pub(super) fn word_in_any_case<'w>(&self, words: &[&'w str]) -> Result<&'w str, GraphError> {
        let given = self.value.as_str().unwrap_or_default();
        let word = words.iter().find(|word| word.eq_ignore_ascii_case(given));
        word.copied().ok_or_else(|| self.invalid(&format!("must be one of {{{}}}", words.join(", "))))
    }

    /// The refusal of this value.
    pub(super) fn invalid(&self, why: &str) -> GraphError {
        GraphError::because(131_009, format!("Param {} {why}.", self.path))
    }
}
