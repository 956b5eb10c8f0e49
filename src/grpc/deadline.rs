//! Until when a caller waits, by the `grpc-timeout` of its request.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;
use tonic::Request;

/// The deadline, a little early, so that an answer still arrives; `None` if the caller gives none.
pub(super) fn deadline<T>(request: &Request<T>) -> Option<Instant> {
    let timeout = timeout(request.metadata().as_ref())?;
    Instant::now().checked_add(in_time(timeout))
}

/// When to answer, so that the answer still arrives.
pub(super) fn in_time(timeout: Duration) -> Duration {
    timeout.saturating_sub((timeout / 10).min(MARGIN_MAX))
}

/// Where the caller says it.
pub(super) const HEADER: &str = "grpc-timeout";

/// How long the caller waits from now on; `None` if it does not say.
pub(super) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    parse(headers.get(HEADER)?.to_str().ok()?)
}

/// A time as callers write it; longer than three years is as good as three years.
pub(super) fn shown(timeout: Duration) -> HeaderValue {
    let digits = |count: u128| u64::try_from(count).ok().filter(|count| *count < 100_000_000);
    let text =
        match (digits(timeout.as_micros()), digits(timeout.as_millis()), digits(timeout.as_secs().into())) {
            (Some(count), _, _) => format!("{count}u"),
            (None, Some(count), _) => format!("{count}m"),
            (None, None, Some(count)) => format!("{count}S"),
            (None, None, None) => "99999999S".to_owned(),
        };
    // Digits and a letter are a header value.
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("0u"))
}

/// For the way back.
const MARGIN_MAX: Duration = Duration::from_millis(100);

/// Up to eight digits and a unit, as the gRPC protocol has it.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_every_unit() {
        for (text, expected) in [
            ("2H", Some(Duration::from_hours(2))),
            ("3M", Some(Duration::from_mins(3))),
            ("15S", Some(Duration::from_secs(15))),
            ("250m", Some(Duration::from_millis(250))),
            ("99999999u", Some(Duration::from_micros(99_999_999))),
            ("7n", Some(Duration::from_nanos(7))),
            ("", None),
            ("S", None),
            ("5", None),
            ("123456789S", None),
            ("-1S", None),
            ("1é", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn a_time_that_is_passed_on_is_the_same_time() {
        for (timeout, text) in [
            (Duration::ZERO, "0u"),
            (Duration::from_millis(4_900), "4900000u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_hours(100), "360000S"),
            (Duration::from_secs(u64::MAX), "99999999S"),
        ] {
            assert_eq!(shown(timeout).to_str().unwrap(), text);
            assert_eq!(parse(text).unwrap(), timeout.min(Duration::from_secs(99_999_999)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_answer_gets_time_to_travel() {
        let mut request = Request::new(());
        assert_eq!(deadline(&request), None);
        request.set_timeout(Duration::from_secs(5));
        assert_eq!(deadline(&request), Some(Instant::now() + Duration::from_millis(4900)));
        request.set_timeout(Duration::from_millis(100));
        assert_eq!(deadline(&request), Some(Instant::now() + Duration::from_millis(90)));
    }
}
