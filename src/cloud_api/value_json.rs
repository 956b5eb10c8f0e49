//! The neutral tree of the domain → JSON.

use serde::ser::{Serialize, Serializer};

use crate::domain::value::Value;

/// A value of the domain as JSON, its fields in order.
#[derive(Debug)]
pub(super) struct Json<'a>(pub(super) &'a Value);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(truth) => serializer.serialize_bool(*truth),
            Value::Integer(number) => serializer.serialize_i64(*number),
            Value::Number(number) => match whole(*number) {
                Some(integer) => serializer.serialize_i64(integer),
                None => serializer.serialize_f64(*number),
            },
            Value::String(text) => serializer.serialize_str(text),
            Value::List(list) => serializer.collect_seq(list.iter().map(Json)),
            Value::Map(fields) => {
                serializer.collect_map(fields.iter().map(|(name, value)| (name, Json(value))))
            }
        }
    }
}

/// The integer that a number is, if it is one of those that a fraction's type holds exactly.
fn whole(number: f64) -> Option<i64> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0; // 2^53
    let is_whole = number.is_finite() && number.fract() == 0.0 && number.abs() <= EXACT_MAX;
    #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
    is_whole.then_some(number as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_out_as_they_are_meant() {
        let cases = [
            (Value::Number(5.0), "5"),
            (Value::Number(-0.5), "-0.5"),
            (Value::Number(9_007_199_254_740_992.0), "9007199254740992"),
            (Value::Number(1e20), "1e+20"),
            (Value::Number(f64::NAN), "null"),
            (Value::Integer(i64::MAX), "9223372036854775807"),
            (Value::Null, "null"),
            (Value::List(vec![Value::Bool(false), "\"é\n".into()]), r#"[false,"\"é\n"]"#),
            (
                Value::Map(vec![("b".to_owned(), Value::Integer(1)), ("a".to_owned(), Value::Map(vec![]))]),
                r#"{"b":1,"a":{}}"#,
            ),
        ];
        for (value, expected) in cases {
            assert_eq!(serde_json::to_string(&Json(&value)).unwrap(), expected);
        }
    }
}
