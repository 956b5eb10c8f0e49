//! Whose pretend account this is: the app with its secrets, its numbers, and the times and limits that
//! tests may change. Knows nothing of HTTP.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One business phone number and the WABA that owns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Number {
    /// Meta's id of the number, the first segment of the path of a send.
    pub phone_number_id: String,
    /// The number itself, digits without `+`, as webhooks show it.
    pub display_phone_number: String,
    /// The WhatsApp Business Account that owns the number.
    pub waba_id: String,
}

/// The Meta app that calls the simulator, with all its numbers. The default is the account of `dev`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The app's id.
    pub app_id: String,
    /// The key that webhooks are signed with.
    pub app_secret: String,
    /// What the webhook handshake carries as `hub.verify_token`.
    pub verify_token: String,
    /// The bearer token that every call must carry.
    pub access_token: String,
    /// Tokens that do as well, of other system users.
    pub more_access_tokens: Vec<String>,
    /// At least one number. Several may share a WABA.
    pub numbers: Vec<Number>,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            app_id: "1234567890".to_owned(),
            app_secret: "dev-app-secret".to_owned(),
            verify_token: "dev-verify-token".to_owned(),
            access_token: "dev-access-token".to_owned(),
            more_access_tokens: Vec::new(),
            numbers: vec![Number {
                phone_number_id: "106540352242922".to_owned(),
                display_phone_number: "15550783881".to_owned(),
                waba_id: "102290129340398".to_owned(),
            }],
        }
    }
}

impl Account {
    /// The number with this phone number id.
    pub fn number(&self, phone_number_id: &str) -> Option<&Number> {
        self.numbers.iter().find(|number| number.phone_number_id == phone_number_id)
    }

    /// Whether this token is one of the account's.
    pub fn has_token(&self, token: &str) -> bool {
        token == self.access_token || self.more_access_tokens.iter().any(|known| known == token)
    }

    /// The numbers of one WABA, in the order they were configured.
    pub fn numbers_of<'a>(&'a self, waba_id: &'a str) -> impl Iterator<Item = &'a Number> {
        self.numbers.iter().filter(move |number| number.waba_id == waba_id)
    }

    /// Whether any number belongs to this WABA.
    pub fn has_waba(&self, waba_id: &str) -> bool {
        self.numbers_of(waba_id).next().is_some()
    }
}

/// When things happen that Meta does on its own. Tests shorten or lengthen them with
/// `POST /_simulator/delays`, where every field is in milliseconds and ends in `_ms`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delays {
    /// From the acceptance of a send to its `sent` status.
    #[serde(rename = "sent_ms", with = "milliseconds")]
    pub sent: Duration,
    /// From the acceptance of a send to its `delivered` status.
    #[serde(rename = "delivered_ms", with = "milliseconds")]
    pub delivered: Duration,
    /// From the acceptance of a send to its `read` status.
    #[serde(rename = "read_ms", with = "milliseconds")]
    pub read: Duration,
    /// From the acceptance of a send to its `failed` status.
    #[serde(rename = "failed_ms", with = "milliseconds")]
    pub failed: Duration,
    /// From the creation of a template to the verdict of its review.
    #[serde(rename = "review_ms", with = "milliseconds")]
    pub review: Duration,
    /// How long a deleted template that was approved stays `PENDING_DELETION`, which stands for messages on
    /// their way; 0 means that there are none.
    #[serde(rename = "deletion_ms", with = "milliseconds")]
    pub deletion: Duration,
    /// How long the slow magic recipient keeps the caller waiting.
    #[serde(rename = "slow_answer_ms", with = "milliseconds")]
    pub slow_answer: Duration,
    /// How long a batch that is not full yet waits for more updates.
    #[serde(rename = "batch_ms", with = "milliseconds")]
    pub batch: Duration,
    /// How long the receiver of a webhook may take to answer.
    #[serde(rename = "webhook_timeout_ms", with = "milliseconds")]
    pub webhook_timeout: Duration,
    /// Before the third attempt of a webhook. The second follows the first at once.
    #[serde(rename = "retry_first_ms", with = "milliseconds")]
    pub retry_first: Duration,
    /// The longest pause between two attempts. Each pause is twice the one before.
    #[serde(rename = "retry_longest_ms", with = "milliseconds")]
    pub retry_longest: Duration,
    /// After so many attempts a webhook is given up.
    pub attempts_max: u32,
}

impl Default for Delays {
    fn default() -> Self {
        Self {
            sent: Duration::from_millis(50),
            delivered: Duration::from_millis(100),
            read: Duration::from_millis(200),
            failed: Duration::from_millis(50),
            review: Duration::from_millis(300),
            deletion: Duration::ZERO,
            slow_answer: Duration::from_secs(3),
            batch: Duration::from_secs(1),
            webhook_timeout: Duration::from_secs(10),
            retry_first: Duration::from_millis(100),
            retry_longest: Duration::from_secs(5),
            attempts_max: 200,
        }
    }
}

/// The limits that Meta enforces, with Meta's numbers as default. Load tests raise them with
/// `POST /_simulator/limits`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Messages per second of one number, sent and received together; beyond it 130429.
    pub messages_per_second: u32,
    /// One message to the same user per so many milliseconds; beyond the burst 131056.
    pub pair_interval_ms: u32,
    /// How many messages may be borrowed from the pair's future.
    pub pair_burst: u32,
    /// Management calls per WABA and hour; beyond it 80007.
    pub calls_per_hour: u32,
    /// Templates that one WABA may create per hour; beyond it 80008.
    pub template_creations_per_hour: u32,
    /// Templates that one WABA may hold; beyond it 100 with subcode 2388019.
    pub templates_per_waba: u32,
    /// Webhooks in flight at once when many wait. One goes at a time while few wait, so that a quiet
    /// test sees one order; 1 keeps that order under load too.
    pub webhook_concurrency: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            messages_per_second: 80,
            pair_interval_ms: 6_000,
            pair_burst: 45,
            calls_per_hour: 5_000,
            template_creations_per_hour: 100,
            templates_per_waba: 250,
            webhook_concurrency: 32,
        }
    }
}

mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}
