//! Reading a business number: `GET /{phone number id}` (reference 2.5).

use http::Method;
use secrecy::SecretString;
use serde_json::Value;

use super::client::{Call, Client};
use super::error::Error;
use super::error_code::Operation;
use crate::domain::ids::PhoneNumberId;
use crate::domain::number_health::NumberStatus;

const FIELDS: &str = "id,display_phone_number,status,throughput,is_on_biz_app,health_status,quality_rating,\
                      whatsapp_business_manager_messaging_limit";

impl Client {
    /// How Meta describes the number: how fast it may send, and whether it can.
    pub async fn read_number(
        &self,
        access_token: &SecretString,
        number: &PhoneNumberId,
    ) -> Result<NumberStatus, Error> {
        let (path, query) = ([number.as_str()], [("fields", FIELDS)]);
        let call = Call {
            operation: Operation::Read,
            method: Method::GET,
            template: "/{phone_number_id}",
            path: &path,
            query: &query,
            body: None,
        };
        let answer = self.call(access_token, call).await?;
        status(&answer).ok_or_else(|| Error::lost(Operation::Read, "the answer is no number".to_owned()))
    }
}

/// Lenient: whatever is missing or of another type is not known.
fn status(answer: &[u8]) -> Option<NumberStatus> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    // Without its id it is something else, such as the page of a proxy.
    answer.get("id")?;
    let text = |path: &str| answer.pointer(path).and_then(Value::as_str).map(str::to_owned);
    let is_on_app = answer.get("is_on_biz_app");
    Some(NumberStatus {
        digits: text("/display_phone_number")
            .unwrap_or_default()
            .chars()
            .filter(char::is_ascii_digit)
            .collect(),
        throughput: text("/throughput/level"),
        is_on_app: is_on_app.is_some_and(|word| word == &Value::Bool(true) || word == "true"),
        status: text("/status"),
        can_send: text("/health_status/can_send_message"),
        quality: text("/quality_rating"),
        messaging_limit: text("/whatsapp_business_manager_messaging_limit"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_not_known() {
        let whole = br#"{"id": "1065", "display_phone_number": "+1 631-555-5555", "status": "CONNECTED",
            "throughput": {"level": "HIGH"}, "is_on_biz_app": true, "quality_rating": "YELLOW",
            "whatsapp_business_manager_messaging_limit": "TIER_2K",
            "health_status": {"can_send_message": "BLOCKED", "entities": []}}"#;
        let expected = NumberStatus {
            digits: "16315555555".to_owned(),
            throughput: Some("HIGH".to_owned()),
            is_on_app: true,
            status: Some("CONNECTED".to_owned()),
            can_send: Some("BLOCKED".to_owned()),
            quality: Some("YELLOW".to_owned()),
            messaging_limit: Some("TIER_2K".to_owned()),
        };
        assert_eq!(status(whole), Some(expected));
        assert_eq!(status(br#"{"id": "1065", "throughput": 5}"#), Some(NumberStatus::default()));
        for nothing in [b"{}".as_slice(), b"[]", b"<html>", b""] {
            assert_eq!(status(nothing), None);
        }
    }
}
