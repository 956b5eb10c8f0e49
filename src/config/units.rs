//! Durations and sizes as people write them.

use std::time::Duration;

use jiff::SpanRelativeTo;
use jiff::fmt::friendly::SpanParser;

/// What to write for a duration, for messages.
pub(super) const DURATION_FORM: &str =
    "write a number and a unit, such as \"250 ms\", \"30 s\", \"45 min\" or \"8 days\"";
/// What to write for a size, for messages.
pub(super) const SIZE_FORM: &str =
    "write a number of bytes, or a number and a unit, such as \"512 KiB\" or \"8 GiB\"";

const MILLIS: [(&str, u128); 5] =
    [("days", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000), ("ms", 1)];

const BINARY: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

const DECIMAL: [(&str, u64); 4] =
    [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000)];

/// Reads "30 s" or "1 h 30 min"; a day has 24 hours. `None` for anything else, months and years among it.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let span = SpanParser::new().parse_span(text.trim()).ok()?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    Duration::try_from(duration).ok()
}

/// Writes a duration so that [`parse_duration`] reads it back; exact to the millisecond.
pub(super) fn format_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0 => return "0 s".to_owned(),
        86_400_000 => return "1 day".to_owned(),
        _ => {}
    }
    // The last unit divides everything, so one is always found.
    let unit = MILLIS.iter().find(|(_, unit)| millis.is_multiple_of(*unit));
    unit.map_or_else(String::new, |(name, unit)| match (millis / unit, *name) {
        (1, "days") => "1 day".to_owned(),
        (count, name) => format!("{count} {name}"),
    })
}

/// Reads "8 GiB", "1.5 MB" or plain bytes. `None` for anything else.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    let number = number.replace('_', "");
    let unit = unit.trim();
    if unit.is_empty() {
        return number.parse().ok();
    }
    let mut units = BINARY.iter().chain(&DECIMAL);
    let (_, factor) = units.find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    multiply(&number, *factor)
}

/// `number` times `factor`, where the number may have decimals, in exact arithmetic.
fn multiply(number: &str, factor: u64) -> Option<u64> {
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let scale = 10_u128.checked_pow(u32::try_from(decimals.len()).ok()?)?;
    let digits = whole.parse::<u128>().ok()?.checked_mul(scale)?.checked_add(decimals.parse().ok()?)?;
    let scaled = digits.checked_mul(u128::from(factor))?;
    if !scaled.is_multiple_of(scale) {
        return None;
    }
    u64::try_from(scaled / scale).ok()
}

/// Writes a size so that [`parse_size`] reads it back.
pub(super) fn format_size(bytes: u64) -> String {
    if bytes == 0 {
        return "0 B".to_owned();
    }
    let unit = BINARY.iter().find(|(_, unit)| bytes.is_multiple_of(*unit));
    unit.map_or_else(String::new, |(name, unit)| format!("{} {name}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let cases = [
            ("30 s", Some(30_000)),
            ("30s", Some(30_000)),
            ("250 ms", Some(250)),
            ("8 days", Some(691_200_000)),
            ("1 h 30 min", Some(5_400_000)),
            ("1.5 h", Some(5_400_000)),
            ("0 s", Some(0)),
            ("-1 s", None),
            ("30", None),
            ("1 month", None),
            ("soon", None),
            ("", None),
        ];
        for (text, millis) in cases {
            assert_eq!(parse_duration(text), millis.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn sizes() {
        let cases = [
            ("8 GiB", Some(8 << 30)),
            ("8GiB", Some(8 << 30)),
            ("3.5 MiB", Some(3_670_016)),
            ("100 MB", Some(100_000_000)),
            ("3670016", Some(3_670_016)),
            ("3_670_016", Some(3_670_016)),
            ("1.5", None),
            ("0.3 B", None),
            ("8 G", None),
            ("-1", None),
            ("99999999 TiB", None),
            ("", None),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for millis in [0, 1, 250, 1000, 90_000, 2_700_000, 86_400_000, 691_200_000, 691_200_001] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse_duration(&format_duration(duration)), Some(duration), "{millis}");
        }
        for bytes in [0, 1, 1023, 1024, 3_670_016, 8 << 30, u64::MAX] {
            assert_eq!(parse_size(&format_size(bytes)), Some(bytes), "{bytes}");
        }
    }
}
