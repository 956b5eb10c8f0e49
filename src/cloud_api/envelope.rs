//! Meta's error envelope and the headers that come with it, read leniently (reference 1.6, 1.7).

use std::time::Duration;

use http::HeaderMap;
use serde_json::Value;

use crate::domain::failure::{Class, MetaError, Reason, Retry, Verdict};

/// Time that a header may ask us to wait at most; whoever says more is mistaken.
const HEADER_WAIT_MAX: Duration = Duration::from_hours(24);

/// An error answer.
#[derive(Debug)]
pub(super) struct ErrorAnswer {
    pub(super) error: MetaError,
    /// Meta's word that a later try may succeed.
    pub(super) is_transient: bool,
}

impl ErrorAnswer {
    /// Reads an answer of any shape; one that is no JSON, or has no envelope, has no code.
    pub(super) fn read(http_status: u16, headers: &HeaderMap, body: &[u8]) -> Self {
        let json: Value = serde_json::from_slice(body).unwrap_or_default();
        // Some endpoints for groups and payments answer with a list (reference 1.6).
        let envelope = json.get("error").or_else(|| json.get("errors")?.get(0)).unwrap_or(&Value::Null);
        let text = |name: &str| envelope.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let data = envelope.get("error_data");
        let details = data.and_then(|data| data.get("details").unwrap_or(data).as_str());
        let details = details.filter(|text| !text.is_empty());
        let user_text = || match (text("error_user_title"), text("error_user_msg")) {
            (Some(title), Some(message)) => Some(format!("{title}: {message}")),
            (title, message) => message.or(title).or(text("message")).map(str::to_owned),
        };
        let error = MetaError {
            code: envelope.get("code").and_then(integer),
            subcode: envelope.get("error_subcode").and_then(integer),
            details: details.map(str::to_owned).or_else(user_text).unwrap_or_default(),
            fbtrace_id: text("fbtrace_id").or_else(|| trace_id(headers)).unwrap_or_default().to_owned(),
            http_status,
        };
        let transient = envelope.get("is_transient");
        let is_transient = transient.is_some_and(|word| word == &Value::Bool(true) || word == "true");
        Self { error, is_transient }
    }
}

/// Numbers may come as strings (reference 1.3).
fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())
}

fn trace_id(headers: &HeaderMap) -> Option<&str> {
    headers.get("x-fb-trace-id")?.to_str().ok()
}

/// The verdict with the waiting time that the answer's headers state, where waiting is the remedy.
pub(super) fn with_stated_delay(verdict: Verdict, headers: &HeaderMap) -> Verdict {
    let may_wait = matches!(verdict.class, Class::ResourceExhausted | Class::Unavailable | Class::Aborted);
    if !may_wait || verdict.retry.delay().is_none() {
        return verdict;
    }
    let is_account_rate = verdict.reason == Reason::UpstreamAccountRate;
    let usage = || is_account_rate.then(|| time_to_regain_access(headers)).flatten();
    match retry_after(headers).max(usage()).filter(|delay| !delay.is_zero()) {
        Some(delay) => Verdict { retry: Retry::Wait(delay.min(HEADER_WAIT_MAX)), ..verdict },
        None => verdict,
    }
}

/// `Retry-After` in seconds. Not documented for the Cloud API, honored if present (reference 1.7).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The longest `estimated_time_to_regain_access`, which is in minutes (reference 1.7).
fn time_to_regain_access(headers: &HeaderMap) -> Option<Duration> {
    let usage: Value = serde_json::from_slice(headers.get("x-business-use-case-usage")?.as_bytes()).ok()?;
    let limits = usage.as_object()?.values().filter_map(Value::as_array).flatten();
    let minutes = limits.filter_map(|limit| integer(limit.get("estimated_time_to_regain_access")?)).max()?;
    Some(Duration::from_secs(u64::try_from(minutes).ok()?.saturating_mul(60)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cloud_api::error_code::{Operation, verdict};

    fn read(body: &Value) -> ErrorAnswer {
        ErrorAnswer::read(400, &HeaderMap::new(), body.to_string().as_bytes())
    }

    #[test]
    fn every_form_of_the_envelope_is_read() {
        let full = read(&json!({"error": {"message": "m", "type": "OAuthException", "code": 131_030,
            "error_data": {"messaging_product": "whatsapp", "details": "d"}, "error_subcode": 2_655_007,
            "is_transient": true, "error_user_title": "t", "error_user_msg": "u", "fbtrace_id": "AI5"}}));
        let expected = MetaError {
            code: Some(131_030),
            subcode: Some(2_655_007),
            details: "d".to_owned(),
            fbtrace_id: "AI5".to_owned(),
            http_status: 400,
        };
        assert_eq!((full.error, full.is_transient), (expected, true));
        let cases = [
            (json!({"error": {"code": "100", "error_data": "plain"}}), Some(100), "plain"),
            (json!({"error": {"code": 100, "error_user_msg": "u", "message": "m"}}), Some(100), "u"),
            (
                json!({"error": {"code": 100, "error_user_title": "t", "error_user_msg": "u", "message": "m"}}),
                Some(100),
                "t: u",
            ),
            (json!({"error": {"code": 100, "error_user_title": "t", "message": "m"}}), Some(100), "t"),
            (json!({"error": {"code": 100, "error_data": {}, "message": "m"}}), Some(100), "m"),
            (json!({"error": {"code": 0, "message": "m"}}), Some(0), "m"),
            (
                json!({"errors": [{"code": 131_041, "title": "t", "message": "m",
                                "error_data": {"details": "d"}}]}),
                Some(131_041),
                "d",
            ),
            (json!({"error": "text"}), None, ""),
            (json!({"error": {"code": [], "message": 5}}), None, ""),
            (json!([]), None, ""),
        ];
        for (body, code, details) in cases {
            let answer = read(&body);
            assert_eq!((answer.error.code, answer.error.details.as_str()), (code, details), "{body}");
        }
    }

    #[test]
    fn what_is_no_json_has_no_code() {
        let mut headers = HeaderMap::new();
        headers.insert("x-fb-trace-id", "Bx1".parse().unwrap());
        let answer = ErrorAnswer::read(502, &headers, b"<html>Bad Gateway</html>");
        let expected = MetaError { http_status: 502, fbtrace_id: "Bx1".to_owned(), ..MetaError::default() };
        assert_eq!(answer.error, expected);
    }

    #[test]
    fn stated_delays_replace_guesses() {
        let usage = |minutes: u64| {
            json!({"1022": [{"type": "whatsapp", "estimated_time_to_regain_access": 0},
                            {"type": "whatsapp", "estimated_time_to_regain_access": minutes}]})
            .to_string()
        };
        let delay = |code: i64, name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            let error = MetaError { code: Some(code), http_status: 400, ..MetaError::default() };
            let verdict = with_stated_delay(verdict(&error, false, Operation::Send), &headers);
            verdict.retry
        };
        let wait = |seconds| Retry::Wait(Duration::from_secs(seconds));
        assert_eq!(delay(80_007, "x-business-use-case-usage", &usage(7)), wait(420));
        assert_eq!(
            delay(80_007, "x-business-use-case-usage", &usage(0)),
            Retry::Backoff(Duration::from_mins(1))
        );
        assert_eq!(
            delay(130_429, "x-business-use-case-usage", &usage(7)),
            Retry::Backoff(Duration::from_secs(1))
        );
        assert_eq!(
            delay(80_007, "x-business-use-case-usage", "nonsense"),
            Retry::Backoff(Duration::from_mins(1))
        );
        assert_eq!(delay(130_429, "retry-after", "5"), wait(5));
        assert_eq!(delay(139_102, "retry-after", "5"), wait(5));
        assert_eq!(delay(130_429, "retry-after", "99999999"), wait(86_400));
        assert_eq!(delay(130_429, "retry-after", "soon"), Retry::Backoff(Duration::from_secs(1)));
        assert_eq!(delay(131_047, "retry-after", "5"), Retry::AfterChange);
        assert_eq!(delay(131_000, "retry-after", "5"), Retry::Ambiguous);
    }
}
