//! Webhooks as Meta sends them, each with a message of its own, and their signatures.

use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::Result;

/// The account of the configuration that [`crate::rows`] writes.
pub(crate) const APP_SECRET: &str = "bench-app-secret";
pub(crate) const PHONE_NUMBER_ID: &str = "106540352242922";
pub(crate) const WABA_ID: &str = "102290129340398";

/// Users that write in turn.
const USERS: u64 = 10_000;

/// Makes and checks signatures. The key is set up once.
#[derive(Clone)]
pub(crate) struct Signer(Hmac<Sha256>);

impl Signer {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(Hmac::new_from_slice(APP_SECRET.as_bytes())?))
    }

    /// The value of `X-Hub-Signature-256`.
    pub(crate) fn sign(&self, body: &[u8]) -> String {
        let mut mac = self.0.clone();
        mac.update(body);
        format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
    }

    /// The signature as bytes, if it fits the body.
    pub(crate) fn verify(&self, header: &[u8], body: &[u8]) -> Option<[u8; 32]> {
        let mut stated = [0; 32];
        hex::decode_to_slice(header.strip_prefix(b"sha256=")?, &mut stated).ok()?;
        let mut mac = self.0.clone();
        mac.update(body);
        mac.verify_slice(&stated).ok().map(|()| stated)
    }
}

/// A body with one text message, whose id holds `number`.
pub(crate) fn message(number: u64) -> String {
    let user = 16_505_550_000 + number % USERS;
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    format!(
        r#"{{"object":"whatsapp_business_account","entry":[{{"id":"{WABA_ID}","changes":[{{"value":{{"messaging_product":"whatsapp","metadata":{{"display_phone_number":"15550783881","phone_number_id":"{PHONE_NUMBER_ID}"}},"contacts":[{{"profile":{{"name":"Sheena Nelson"}},"wa_id":"{user}"}}],"messages":[{{"from":"{user}","id":"wamid.HBgLMTY1MDU1NTEyMzQVAgASGBQzQTRBNjU5{number:016X}","timestamp":"{seconds}","type":"text","text":{{"body":"Does it come in another color? The blue one would go well with the coat."}}}}]}},"field":"messages"}}]}}]}}"#
    )
}

/// The number in the id of a message.
pub(crate) fn number_of(message_id: &str) -> Option<u64> {
    u64::from_str_radix(message_id.get(message_id.len().checked_sub(16)?..)?, 16).ok()
}
