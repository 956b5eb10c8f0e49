//! Events of what the gateway did by itself.

use std::sync::Arc;
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use crate::domain::conversation::UserIdentity;
use crate::domain::event::{Event, EventAttributes, EventId, Origin, Payload};

/// What an event of the gateway's own is about.
#[derive(Debug)]
pub(super) struct About {
    pub(super) attributes: EventAttributes,
    pub(super) subject: String,
    pub(super) payload: Payload,
}

/// An event of the gateway's own. Its id comes from its type and this key, so that a repetition adds nothing.
pub(super) fn gateway_event(key: &str, now: SystemTime, about: About) -> Event {
    let About { attributes, subject, payload } = about;
    let mut id = [0; 16];
    let hash = Sha256::digest(format!("{}\0{key}", attributes.event_type));
    id.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    Event {
        id: EventId(id),
        attributes,
        subject,
        event_time: Some(now),
        receive_time: now,
        origin: Origin::default(),
        payload,
        user: UserIdentity::default(),
        verdicts: Vec::new(),
        raw_json: String::new(),
        change_json: Arc::from(""),
    }
}
