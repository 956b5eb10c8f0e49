//! Single values as Meta writes them.

use std::borrow::Cow;

use prost_types::Timestamp;
use serde_json::Value;

use super::Mismatch;

/// From here on a time counts milliseconds: in seconds it would be the year 5138.
const MILLISECONDS_FROM: u64 = 100_000_000_000;

/// The last second that a `google.protobuf.Timestamp` can name.
const SECONDS_MAX: i64 = 253_402_300_799;

/// Whole numbers beyond it, read as a fraction, are not what was written.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

pub(super) fn read_bool(value: &Value) -> Result<bool, Mismatch> {
    let by_text = |text: &str| match text {
        "true" | "1" => Some(true),
        "false" | "0" | "" => Some(false),
        _ => None,
    };
    let truth = value.as_bool().or_else(|| value.as_str().and_then(by_text));
    truth.or_else(|| value.as_i64().map(|n| n != 0)).ok_or_else(|| Mismatch::of("a truth value"))
}

pub(super) fn read_integer(value: &Value) -> Result<i64, Mismatch> {
    #[expect(clippy::cast_possible_truncation, reason = "a fraction of Meta's integer says nothing")]
    let by_double = || value.as_f64().filter(|n| n.abs() < 9.0e15).map(|n| n as i64);
    let integer = value.as_i64().or_else(by_double);
    let by_text = || value.as_str().and_then(|text| text.trim().parse().ok());
    integer.or_else(by_text).ok_or_else(|| Mismatch::of("a whole number"))
}

pub(super) fn read_double(value: &Value) -> Result<f64, Mismatch> {
    let by_text = || value.as_str().and_then(|text| text.trim().parse().ok());
    value.as_f64().or_else(by_text).ok_or_else(|| Mismatch::of("a number"))
}

/// A text, or what stands for one. A number that would not come out as it was written is refused.
pub(super) fn read_text(value: &Value) -> Result<Cow<'_, str>, Mismatch> {
    match value {
        Value::String(text) => Ok(text.as_str().into()),
        Value::Number(number) if number.is_f64() && number.as_f64().is_none_or(|n| n.abs() >= EXACT_MAX) => {
            Err(Mismatch::of("a text, or a number that can be kept exactly"))
        }
        Value::Number(number) => Ok(number.to_string().into()),
        Value::Bool(truth) => Ok(truth.to_string().into()),
        Value::Null | Value::Array(_) | Value::Object(_) => Err(Mismatch::of("a text")),
    }
}

/// Seconds or milliseconds since the Unix epoch, or a date by ISO 8601 such as `2024-01-28T08:00:00+0000`.
pub(super) fn read_timestamp(value: &Value) -> Result<Timestamp, Mismatch> {
    let mismatch = || Mismatch::of("a time");
    if let Ok(number) = read_integer(value) {
        let milliseconds = if number.unsigned_abs() < MILLISECONDS_FROM { None } else { Some(number) };
        let seconds = milliseconds.map_or(number, |number| number.div_euclid(1000));
        let nanos = milliseconds.map_or(0, |number| number.rem_euclid(1000) * 1_000_000);
        let nanos = i32::try_from(nanos).map_err(|_| mismatch())?;
        let is_known = (-62_135_596_800..=SECONDS_MAX).contains(&seconds);
        return if is_known { Ok(Timestamp { seconds, nanos }) } else { Err(mismatch()) };
    }
    let time: jiff::Timestamp = value.as_str().and_then(|text| text.parse().ok()).ok_or_else(mismatch)?;
    Ok(Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond().max(0) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_come_in_four_forms() {
        let seconds = 1_706_428_800;
        for time in [
            json!(seconds),
            json!(seconds.to_string()),
            json!(seconds * 1000),
            json!("2024-01-28T08:00:00+0000"),
            json!("2024-01-28T09:00:00+01:00"),
            json!("2024-01-28T08:00:00Z"),
        ] {
            assert_eq!(read_timestamp(&time).unwrap(), Timestamp { seconds, nanos: 0 }, "{time}");
        }
        let milliseconds = read_timestamp(&json!("1706428800123")).unwrap();
        assert_eq!(milliseconds, Timestamp { seconds, nanos: 123_000_000 });
        for bad in [json!("soon"), json!("2024-01-28"), json!(i64::MAX), json!(u64::MAX), json!([1])] {
            assert_eq!(read_timestamp(&bad).unwrap_err().expected, "a time", "{bad}");
        }
    }

    #[test]
    fn numbers_as_text_are_exact() {
        assert_eq!(read_text(&json!(18_446_744_073_709_551_615_u64)).unwrap(), "18446744073709551615");
        assert_eq!(read_text(&json!(-1)).unwrap(), "-1");
        assert_eq!(read_text(&json!(14.28)).unwrap(), "14.28");
        let beyond: Value = serde_json::from_str("123456789012345678901").unwrap();
        assert!(read_text(&beyond).is_err());
    }
}
