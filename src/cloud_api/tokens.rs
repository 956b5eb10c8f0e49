//! What Meta knows of an access token: `GET /debug_token` (reference 2.17).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Method;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::client::{Call, Client};
use super::error::Error;
use super::error_code::Operation;

/// How long a token counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenStatus {
    /// Until then.
    ExpiresAt(SystemTime),
    /// For ever.
    NeverExpires,
    /// Not any more.
    Invalid,
}

impl Client {
    /// How long an access token of this app counts. Meta is asked in the name of the app, by its id and secret.
    pub async fn read_token(
        &self,
        (app_id, app_secret): (&str, &SecretString),
        access_token: &SecretString,
    ) -> Result<TokenStatus, Error> {
        let app_token = SecretString::from(format!("{app_id}|{}", app_secret.expose_secret()));
        let query = [("input_token", access_token.expose_secret())];
        let call = Call {
            operation: Operation::Read,
            method: Method::GET,
            template: "/debug_token",
            path: &["debug_token"],
            query: &query,
            body: None,
        };
        let answer = self.call(&app_token, call).await?;
        status(&answer).ok_or_else(|| Error::lost(Operation::Read, "the answer is about no token".to_owned()))
    }
}

fn status(answer: &[u8]) -> Option<TokenStatus> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let data = answer.get("data")?;
    if !data.get("is_valid")?.as_bool()? {
        return Some(TokenStatus::Invalid);
    }
    match data.get("expires_at")?.as_u64()? {
        0 => Some(TokenStatus::NeverExpires),
        seconds => UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).map(TokenStatus::ExpiresAt),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_expires_or_not_or_is_dead() {
        let of = |data: &str| status(format!("{{\"data\": {data}}}").as_bytes());
        let at = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        assert_eq!(of(r#"{"is_valid": true, "expires_at": 1700000000}"#), Some(TokenStatus::ExpiresAt(at)));
        assert_eq!(of(r#"{"is_valid": true, "expires_at": 0}"#), Some(TokenStatus::NeverExpires));
        assert_eq!(of(r#"{"is_valid": false, "error": {"code": 190}}"#), Some(TokenStatus::Invalid));
        for nothing in ["{}", r#"{"is_valid": true}"#, "7", r#"{"is_valid": true, "expires_at": "soon"}"#] {
            assert_eq!(of(nothing), None, "{nothing}");
        }
        assert_eq!(status(b"<html>"), None);
    }
}
