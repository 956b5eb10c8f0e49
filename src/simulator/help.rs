//! The page that `GET /_simulator` shows: what can be asked, whose account it is, who is magic.

use serde_json::{Value, json};

use super::graph_error::{self, Reported};
use super::magic;
use super::world::World;

/// Every control endpoint with an example of its body.
const ENDPOINTS: &[(&str, &str, &str)] = &[
    ("POST /_simulator/messages", "a user writes", r#"{"from":"16505551234","text":"Hi"}"#),
    (
        "POST /_simulator/messages",
        "any inbound type; media without an id show a ready medium",
        r#"{"from":"16505551234","user_id":"US.1","name":"Sheena","hide_phone_number":false,"phone_number_id":"106540352242922","message":{"type":"image","image":{"caption":"Look"}}}"#,
    ),
    (
        "POST /_simulator/webhooks",
        "any body, signed and delivered; signature: valid, wrong or missing",
        r#"{"body":{"object":"whatsapp_business_account","entry":[]},"wait":true,"retry":false,"signature":"valid"}"#,
    ),
    ("POST /_simulator/webhooks", "any bytes", r#"{"raw_base64":"eyJ9","wait":true}"#),
    (
        "POST /_simulator/media",
        "a medium that can be sent or read by id",
        r#"{"mime_type":"image/png","bytes":1024,"expires_in_seconds":60}"#,
    ),
    (
        "POST /_simulator/templates",
        "a template in any status; only its name, language and category are judged",
        r#"{"status":"PAUSED","template":{"name":"sale","language":"en_US","category":"MARKETING","components":[{"type":"BODY","text":"Sale!"}]}}"#,
    ),
    (
        "POST /_simulator/templates/{id}",
        "what Meta does to a template, each with its webhook: status (with rejected_reason), quality (RED pauses, at last disables), category, correct_category; silently: sends, block_rate (of a thousand) and top_block_reason for comparisons",
        r#"{"quality":"RED","sends":1000,"block_rate":3,"top_block_reason":"SPAM"}"#,
    ),
    (
        "POST /_simulator/numbers/{id}",
        "what Meta does to a number: throughput STANDARD or HIGH and quality GREEN, YELLOW or RED (with its webhook, unless silently), is_on_biz_app",
        r#"{"throughput":"HIGH","is_on_biz_app":false,"quality":"RED","silently":false}"#,
    ),
    (
        "POST /_simulator/tokens",
        "when the access tokens expire as debug_token says, in seconds since 1970; 0 for never",
        r#"{"expire_at":1800000000}"#,
    ),
    (
        "POST /_simulator/wabas/{id}",
        "bans an account, with its webhook unless silently: DISABLE (sends fail with 131031), SCHEDULE_FOR_DISABLE, REINSTATE",
        r#"{"ban":"DISABLE","silently":false}"#,
    ),
    (
        "GET /_simulator/requests",
        "what was asked of the Cloud API, in order; ?path=/messages&method=POST&after=7",
        "",
    ),
    ("GET /_simulator/deliveries", "what became of every webhook", ""),
    (
        "POST /_simulator/faults",
        "of any call: error (code, subcode, details, user_title, user_msg …), http (status, body, content_type, location), stall (true) or cut (before_acceptance, after_acceptance; of a file after_bytes); carried_out with the first three; corrupt, delay_ms, retry_after, duplicate_webhooks, reorder_webhooks, batch_webhooks",
        r#"{"match":{"method":"POST","path_suffix":"/messages","to":"+16505551234","message_type":"text"},"count":1,"fault":{"error":{"code":131000,"http_status":500}}}"#,
    ),
    ("GET /_simulator/faults", "the faults that still wait", ""),
    (
        "POST /_simulator/limits",
        "raise or lower limits; GET shows them",
        r#"{"messages_per_second":1000000,"pair_burst":1000000}"#,
    ),
    (
        "POST /_simulator/delays",
        "when statuses, reviews, ends of deletions and retries come; GET shows them",
        r#"{"sent_ms":0,"delivered_ms":0,"read_ms":0,"deletion_ms":50}"#,
    ),
    ("POST /_simulator/webhook_url", "where webhooks go", r#"{"url":"http://127.0.0.1:8080/webhook"}"#),
    ("POST /_simulator/reset", "back to the beginning", ""),
];

/// The whole page. Tests read from it what can be played.
pub(super) fn page(world: &World) -> Value {
    let endpoints: Vec<Value> = ENDPOINTS
        .iter()
        .map(|(endpoint, does, body)| {
            let mut entry = json!({ "endpoint": endpoint, "does": does });
            if let (Ok(body), Some(fields)) = (serde_json::from_str::<Value>(body), entry.as_object_mut()) {
                fields.insert("body".to_owned(), body);
            }
            entry
        })
        .collect();
    let numbers: Vec<Value> = world
        .account
        .numbers
        .iter()
        .map(|number| {
            let state = world.state();
            let media: Vec<Value> = state
                .media
                .all_ready(&number.phone_number_id)
                .into_iter()
                .map(|medium| json!({ "id": medium.id, "mime_type": medium.mime_type }))
                .collect();
            json!({
                "phone_number_id": number.phone_number_id,
                "display_phone_number": number.display_phone_number,
                "waba_id": number.waba_id,
                "ready_media": media,
            })
        })
        .collect();
    let error_codes: Vec<Value> = graph_error::TABLE
        .iter()
        .map(|entry| {
            json!({
                "code": entry.code,
                "http_status": entry.http,
                "reported": match entry.reported {
                    Reported::InAnswer => "in the answer",
                    Reported::InStatus => "in a status",
                },
            })
        })
        .collect();
    let mut recipients: Vec<Value> =
        magic::NUMBERS.iter().map(|(number, _, text)| json!({ "number": number, "does": text })).collect();
    let by_code = [
        (magic::AS_REPORTED, "fails with the code, in the answer if Meta reports it there, else in a status"),
        (magic::IN_STATUS, "accepted, then fails with the code in a status"),
    ];
    recipients.extend(
        by_code
            .into_iter()
            .map(|(prefix, text)| json!({ "number": format!("{prefix}13xxxx"), "does": text })),
    );
    json!({
        "simulator": "a pretend WhatsApp Cloud API",
        "account": { "app_id": world.account.app_id, "numbers": numbers },
        "webhook_url": world.webhook_url(),
        "endpoints": endpoints,
        "magic_recipients": recipients,
        "error_codes": error_codes,
        "template_names": {
            "reject": "a name that holds this is rejected",
            "pending": "a name that holds this is never reviewed",
            "pause": "a name that holds this is approved and paused soon after",
            "recategorize": "a utility template with a name that holds this becomes marketing",
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_is_json() {
        for (endpoint, _, body) in ENDPOINTS {
            assert!(body.is_empty() || serde_json::from_str::<Value>(body).is_ok(), "{endpoint}");
        }
    }
}
