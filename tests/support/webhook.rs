//! Bodies as Meta sends them, and their signatures.

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

pub const APP_SECRET: &str = "dev-app-secret";
pub const PHONE_NUMBER_ID: &str = "106540352242922";
pub const WABA_ID: &str = "102290129340398";

/// The signature header of a body, by the app secret of the `dev` account.
pub fn signature(body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(APP_SECRET.as_bytes()).unwrap();
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

/// A body with one text message.
pub fn text(message_id: &str, from: &str, body: &str) -> Value {
    messages(&[json!({
        "from": from, "id": message_id, "timestamp": "1749416383", "type": "text", "text": {"body": body},
    })])
}

/// A body with these messages of one change.
pub fn messages(messages: &[Value]) -> Value {
    json!({
        "object": "whatsapp_business_account",
        "entry": [{"id": WABA_ID, "changes": [{"field": "messages", "value": {
            "messaging_product": "whatsapp",
            "metadata": {"display_phone_number": "15550783881", "phone_number_id": PHONE_NUMBER_ID},
            "messages": messages,
        }}]}],
    })
}

/// Posts signed bodies on connections that stay open; cheap to clone.
#[derive(Debug, Clone)]
pub struct Sender {
    pub http: reqwest::Client,
    pub url: String,
}

impl Sender {
    /// Posts a body; returns the HTTP status, or nothing when the gateway is gone.
    pub async fn post(&self, body: &Value) -> Option<u16> {
        let body = body.to_string();
        let signature = signature(body.as_bytes());
        let request = self.http.post(&self.url).header("x-hub-signature-256", signature).body(body);
        request.send().await.ok().map(|response| response.status().as_u16())
    }
}
