//! Until when a caller waits, by the `grpc-timeout` of its request.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Request;

/// The deadline, a little early, so that an answer still arrives; `None` if the caller gives none.
pub(super) fn deadline<T>(request: &Request<T>) -> Option<Instant> {
    let timeout = parse(request.metadata().get("grpc-timeout")?.to_str().ok()?)?;
    let margin = (timeout / 10).min(MARGIN_MAX);
    Instant::now().checked_add(timeout.saturating_sub(margin))
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
