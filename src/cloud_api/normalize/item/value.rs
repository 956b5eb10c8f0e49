//! What a value that stays whole tells about its conversation: the one user, group and time that it names.
//!
//! A value that names more users than one belongs to the account.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Names;
use crate::cloud_api::error_code::async_verdict;
use crate::cloud_api::json::{self, Object};
use crate::domain::conversation::UserIdentity;
use crate::domain::failure::Verdict;

/// Lists whose elements are about one user or group each (reference 4.9 to 4.14).
const LISTS: [&str; 9] = [
    "calls",
    "statuses",
    "groups",
    "user_preferences",
    "user_id_update",
    "automatic_events",
    "messages",
    ECHOES,
    CONTACTS,
];
/// Describes users whom another list names.
const CONTACTS: &str = "contacts";
const ECHOES: &str = "message_echoes";

/// Names of a user, by phone digits and by user id, that leave no doubt who is meant.
const NAMES: [(&str, &str); 3] =
    [("wa_id", "user_id"), ("recipient_id", "recipient_user_id"), ("phone_number", "user_id")];

/// The only element of a value.
pub(super) struct Element<'a> {
    pub(super) fields: Object<'a>,
    is_of_business: bool,
}

impl<'a> Element<'a> {
    /// The element, if the value has one alone.
    pub(super) fn only(value: &Object<'a>) -> Option<Self> {
        // The user of a handover stands in `sender`; what a standby value says stands in `standby` (reference 4.14).
        if let Some(fields) = value.object("sender") {
            return Some(Self { fields, is_of_business: false });
        }
        let standby = value.object("standby");
        let value = standby.as_ref().unwrap_or(value);
        let mut found = None;
        for name in LISTS {
            for raw in value.get(name).and_then(json::elements).unwrap_or_default() {
                match &found {
                    Some((other, _)) if name == CONTACTS && *other != CONTACTS => {}
                    Some(_) => return None,
                    None => found = Some((name, Object::read(raw.get())?)),
                }
            }
        }
        let (name, fields) = found?;
        let is_of_business =
            name == ECHOES || fields.text("direction").as_deref() == Some("BUSINESS_INITIATED");
        Some(Self { fields, is_of_business })
    }

    /// The user whom it names.
    pub(super) fn user(&self) -> UserIdentity {
        // A changed id is learned under the digits; without them the conversation is found by the old one.
        if let Some(change) = self.fields.object("user_id") {
            let digits = Names::read(&self.fields, &["wa_id"], "user_id").0;
            let id = if digits.is_empty() { "previous" } else { "current" };
            return Names(digits).or(Names::read(&change, &[], id).0).0;
        }
        let other_side = if self.is_of_business { ("to", "to_user_id") } else { ("from", "from_user_id") };
        let names = NAMES.into_iter().chain([other_side]);
        let mut users = names.map(|(digits, user_id)| Names::read(&self.fields, &[digits], user_id).0);
        users.find(|user| !user.is_empty()).unwrap_or_default()
    }
}

/// The verdicts on the errors in a value, by Meta's code.
pub(super) fn verdicts(text: &str) -> Vec<(i64, Verdict)> {
    let mut codes = BTreeSet::new();
    if text.contains(r#""errors""#)
        && let Ok(value) = serde_json::from_str(text)
    {
        collect_codes("", &value, &mut codes);
    }
    codes.into_iter().map(|code| (code, async_verdict(code))).collect()
}

fn collect_codes(name: &str, value: &Value, codes: &mut BTreeSet<i64>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| collect_codes(name, value, codes)),
        Value::Array(values) if name == "errors" => {
            codes.extend(values.iter().filter_map(|error| error.get("code")?.as_i64()));
        }
        Value::Array(values) => values.iter().for_each(|value| collect_codes("", value, codes)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
