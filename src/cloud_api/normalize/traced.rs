//! Statuses of sends whose traces are exported.

use crate::cloud_api::json::Object;
use crate::domain::event::{Event, MESSAGE_STATUS};
use crate::domain::message::SendTag;

/// A status whose send may have a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracedStatus {
    /// Names the send.
    pub tag: SendTag,
    /// The state, in Meta's word, at most 16 characters of it.
    pub status: String,
}

const WORD_CHARS_MAX: usize = 16;

/// The tag and the state of a status event, if its tag says that the send is traced. A status of another send costs a look at
/// its text and is not parsed.
pub fn traced_status(event: &Event) -> Option<TracedStatus> {
    if event.attributes.event_type != MESSAGE_STATUS {
        return None;
    }
    let (_, rest) = event.raw_json.split_once(concat!('"', "g1."))?;
    if !SendTag::parse(rest.get(..SendTag::LENGTH)?).ok()?.is_traced() {
        return None;
    }
    let fields = Object::read(&event.raw_json)?;
    let tag = SendTag::unwrap_from(&fields.text("biz_opaque_callback_data")?).0?;
    let status = fields.text("status")?.chars().take(WORD_CHARS_MAX).collect();
    tag.is_traced().then_some(TracedStatus { tag, status })
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::cloud_api::normalize::normalize;

    fn found(data: &str, event: &str) -> Option<TracedStatus> {
        let body = serde_json::json!({"entry": [{"id": "1", "changes": [{"field": "messages", "value": {
            "metadata": {"phone_number_id": "106540352242922"},
            event: [{"id": "wamid.1", "status": "delivered", "timestamp": "1749416383",
                "recipient_id": "16505551234", "biz_opaque_callback_data": data}],
        }}]}]});
        traced_status(&normalize(body.to_string().as_bytes(), UNIX_EPOCH)[0])
    }

    #[test]
    fn only_statuses_of_traced_sends_are_found() {
        let traced = "AZ3kq0p2cXKkzqv1b5c-_w";
        let tag = SendTag::parse(traced).unwrap();
        let expected = TracedStatus { tag, status: "delivered".to_owned() };
        assert_eq!(found(&format!("g1.{traced}.order=\"g1.x"), "statuses"), Some(expected));
        assert_eq!(found("g1.AZ3kq0p2cXKkzqv1b5c-_g.", "statuses"), None, "its trace is not exported");
        for foreign in ["order=1", "g1.", "g1.AZ3kq0p2cXKkzqv1b5c-_w", "x g1.AZ3kq0p2cXKkzqv1b5c-_w."] {
            assert_eq!(found(foreign, "statuses"), None, "{foreign}");
        }
        assert_eq!(found(&format!("g1.{traced}."), "messages"), None, "a message is no status");
    }
}
