//! Meta's errors: the envelope of an answer, the shape inside a webhook, and one table of the codes that a
//! send can meet.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

/// Where Meta reports a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reported {
    /// In the answer, or there as well as later.
    InAnswer,
    /// Only later, as a `failed` status.
    InStatus,
}

/// One code: its HTTP status, where it is reported, its title and its usual details.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) code: u32,
    pub(super) http: u16,
    pub(super) reported: Reported,
    title: &'static str,
    details: &'static str,
}

const fn answer(code: u32, http: u16, title: &'static str, details: &'static str) -> Entry {
    Entry { code, http, reported: Reported::InAnswer, title, details }
}

const fn status(code: u32, title: &'static str, details: &'static str) -> Entry {
    Entry { code, http: 400, reported: Reported::InStatus, title, details }
}

/// Codes to which Meta documents no HTTP status stand with 400.
#[rustfmt::skip]
pub(super) const TABLE: &[Entry] = &[
    answer(0, 401, "AuthException", "We were unable to authenticate the app user."),
    answer(1, 400, "API Unknown", "Invalid request or possible server error."),
    answer(2, 503, "API Service", "Temporary due to downtime or due to being overloaded."),
    answer(3, 500, "API Method", "Capability or permissions issue."),
    answer(4, 400, "API Too Many Calls", "The app has reached its API call rate limit."),
    answer(10, 403, "Permission Denied", "Permission is either not granted or has been removed."),
    answer(17, 400, "User request limit reached", "The user has reached the API call rate limit."),
    answer(33, 400, "Parameter value is not valid", "The business phone number has been deleted."),
    answer(100, 400, "Invalid parameter", "The request included one or more unsupported or misspelled parameters."),
    answer(104, 401, "An access token is required to request this resource.", "No access token was sent."),
    answer(190, 401, "Access token has expired", "Your access token has expired."),
    answer(200, 403, "API Permission", "Permission is either not granted or has been removed."),
    answer(368, 403, "Temporarily blocked for policies violations", "The WhatsApp Business Account has been restricted or disabled for violating a platform policy."),
    answer(613, 400, "Calls to this api have exceeded the rate limit.", "Custom rate limit reached."),
    answer(803, 404, "Some of the aliases you requested do not exist", "The id in the path is unknown."),
    answer(80007, 400, "Rate limit issues", "The WhatsApp Business Account has reached its rate limit."),
    answer(80008, 400, "There have been too many calls to this WhatsApp Business account.", "Wait a bit and try again."),
    status(130_403, "User blocked by the business", "The block list of the business contains the user."),
    answer(130_429, 400, "Rate limit hit", "Message failed to send because there were too many messages sent from this phone number in a short period of time"),
    status(130_472, "User's number is part of an experiment", "Failed to send message because this user's phone number is part of an experiment"),
    answer(130_497, 403, "Business account is restricted from messaging users in this country.", "The WhatsApp Business Account is restricted from messaging to users in certain countries."),
    answer(131_000, 500, "Something went wrong", "Message failed to send due to an unknown error."),
    answer(131_005, 403, "Access denied", "Permission is either not granted or has been removed."),
    answer(131_008, 400, "Required parameter is missing", "The request is missing a required parameter."),
    answer(131_009, 400, "Parameter value is not valid", "One or more parameter values are invalid."),
    answer(131_016, 500, "Service unavailable", "A service is temporarily unavailable."),
    answer(131_021, 400, "Recipient cannot be sender", "Sender and recipient phone number is the same."),
    status(131_026, "Message undeliverable", "Message Undeliverable."),
    answer(131_030, 400, "Recipient phone number not in allowed list", "Recipient phone number not in allowed list: Add recipient phone number to recipient list and try again."),
    answer(131_031, 403, "Account has been locked", "The WhatsApp Business Account associated with the app has been restricted or disabled."),
    answer(131_037, 400, "Display name approval required", "The phone number has no approved display name."),
    answer(131_042, 400, "Business eligibility payment issue", "There was an error related to your payment method."),
    answer(131_044, 400, "Business eligibility payment issue", "There was an error related to your payment method."),
    answer(131_045, 500, "Incorrect certificate", "Message failed to send due to a phone number registration error."),
    status(131_047, "Re-engagement message", "Message failed to send because more than 24 hours have passed since the customer last replied to this number."),
    answer(131_048, 400, "Spam rate limit hit", "Message failed to send because there are restrictions on how many messages can be sent from this phone number."),
    status(131_049, "This message was not delivered to maintain healthy ecosystem engagement.", "In order to maintain a healthy ecosystem engagement, the message failed to be delivered."),
    status(131_050, "User has stopped marketing messages", "Unable to deliver the message. This recipient has chosen to stop receiving marketing messages on WhatsApp from your business"),
    answer(131_051, 400, "Unsupported message type", "Message type is currently not supported."),
    status(131_052, "Media download error", "Unable to download the media sent by the user."),
    status(131_053, "Media upload error", "Unable to upload the media used in the message."),
    answer(131_055, 400, "Method not allowed", "The method is not allowed for this account."),
    answer(131_056, 400, "(Business Account, Consumer Account) pair rate limit hit", "Message failed to send because there were too many messages sent from this phone number to the same phone number in a short period of time."),
    answer(131_057, 500, "Account in maintenance mode", "Business Account is in maintenance mode."),
    answer(131_062, 400, "Business-scoped user id recipients are not supported for this message", "Send this message to a phone number."),
    answer(131_063, 400, "Marketing templates are disabled for Cloud API", "Use the Marketing Messages API."),
    answer(131_064, 400, "Messaging limit due to template classification violations", "The messaging limit of the account has been reached."),
    answer(132_000, 400, "Number of parameters does not match the expected number of params", "The number of variable parameter values did not match the number of variable parameters in the template."),
    answer(132_001, 404, "Template name does not exist in the translation", "The template does not exist in the specified language or the template has not been approved."),
    answer(132_005, 400, "Translated text too long", "The translated text is too long."),
    answer(132_007, 400, "Template format character policy violated", "The template content violates a WhatsApp policy."),
    answer(132_008, 400, "Template parameter format invalid", "The format of a template parameter is invalid."),
    answer(132_012, 400, "Parameter format does not match format in the created template", "Variable parameter values formatted incorrectly."),
    answer(132_015, 400, "Template is paused", "Template is paused due to low quality so it cannot be sent in a template message."),
    answer(132_016, 400, "Template is disabled", "Template has been paused too many times due to low quality and is now permanently disabled."),
    answer(132_018, 400, "There is an issue with the parameters in your template.", "The parameters do not satisfy the template."),
    answer(132_068, 400, "Flow is blocked", "Flow is in blocked state."),
    answer(132_069, 400, "Flow is throttled", "Flow is in throttled state and 10 messages using this flow were already sent in the last hour."),
    answer(133_010, 400, "Phone number not registered", "The phone number is not registered on the Whatsapp Business Platform."),
    answer(133_016, 400, "Account register deregister rate limit exceeded", "Registration or deregistration failed because there were too many attempts."),
    answer(134_011, 400, "WhatsApp Payments terms of service have not been accepted", "Accept the terms of service first."),
    answer(134_100, 400, "Only marketing messages are supported", "Only templates of the category MARKETING can be sent by the Marketing Messages API."),
    answer(134_101, 400, "Template is syncing", "The template is not ready for the Marketing Messages API yet."),
    answer(134_102, 500, "Template unavailable for use", "The template cannot be sent by the Marketing Messages API."),
    answer(135_000, 400, "Generic user error", "Message failed to send because of an unknown error with your request parameters."),
    answer(137_000, 400, "Recipient identity key mismatch", "The identity key hash of the recipient differs."),
    answer(139_200, 400, "Direct Send blocked", "The business may not use Direct Send."),
];

/// The table's entry for a code.
pub(super) fn entry(code: u32) -> Option<&'static Entry> {
    TABLE.iter().find(|entry| entry.code == code)
}

/// An error as the Graph API answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GraphError {
    pub(super) http: StatusCode,
    pub(super) code: u32,
    pub(super) subcode: Option<u32>,
    pub(super) kind: &'static str,
    pub(super) message: String,
    pub(super) details: Option<String>,
    /// Boxed, for few errors have it and every result carries the error's size.
    pub(super) user_text: Option<Box<(String, String)>>,
    pub(super) is_transient: Option<bool>,
    pub(super) retry_after: Option<Duration>,
}

impl GraphError {
    /// The error of this code with Meta's own title and details.
    pub(super) fn of(code: u32) -> Self {
        let (http, title, details) = match entry(code) {
            Some(entry) => (entry.http, entry.title, Some(entry.details.to_owned())),
            None => (400, "An unknown error has occurred.", None),
        };
        Self {
            http: StatusCode::from_u16(http).unwrap_or(StatusCode::BAD_REQUEST),
            code,
            subcode: None,
            kind: "OAuthException",
            message: format!("(#{code}) {title}"),
            details,
            user_text: None,
            is_transient: None,
            retry_after: None,
        }
    }

    /// The error of this code, with details of this one case.
    pub(super) fn because(code: u32, details: impl Into<String>) -> Self {
        Self { details: Some(details.into()), ..Self::of(code) }
    }

    /// Code 100 with a message of its own, as Meta words most of them.
    pub(super) fn parameter(message: impl AsRef<str>) -> Self {
        Self { message: format!("(#100) {}", message.as_ref()), details: None, ..Self::of(100) }
    }

    /// Code 100 with the specific number in the subcode and the text for people, as template management has.
    pub(super) fn template(subcode: u32, title: &str, text: &str) -> Self {
        Self {
            message: "Invalid parameter".to_owned(),
            subcode: Some(subcode),
            is_transient: Some(false),
            user_text: Some(Box::new((title.to_owned(), text.to_owned()))),
            details: None,
            ..Self::of(100)
        }
    }

    /// The same refusal under code 100, for endpoints that know no 131008 and 131009.
    pub(super) fn into_parameter(self) -> Self {
        match self.details {
            Some(details) if matches!(self.code, 131_008 | 131_009) => Self::parameter(details),
            details => Self { details, ..self },
        }
    }

    /// An id that names nothing, or nothing that this token may see.
    pub(super) fn no_such_object(method: &http::Method, id: &str) -> Self {
        let verb = method.as_str().to_ascii_lowercase();
        Self {
            message: format!(
                "Unsupported {verb} request. Object with ID '{id}' does not exist, cannot be loaded due to \
                 missing permissions, or does not support this operation. Please read the Graph API \
                 documentation at https://developers.facebook.com/docs/graph-api"
            ),
            kind: "GraphMethodException",
            subcode: Some(33),
            details: None,
            ..Self::of(100)
        }
    }

    /// A path that no node has.
    pub(super) fn unknown_path(path: &str) -> Self {
        Self {
            code: 2500,
            message: format!("Unknown path components: {path}"),
            details: None,
            ..Self::of(100)
        }
    }

    /// A missing or wrong token.
    pub(super) fn bad_token(message: &str) -> Self {
        Self { message: message.to_owned(), details: None, ..Self::of(190) }
    }

    /// The value of `www-authenticate`, which only token errors carry.
    pub(super) fn authenticate(&self) -> Option<String> {
        let is_token_error = matches!(self.code, 0 | 102 | 104 | 190);
        is_token_error.then(|| format!("OAuth \"Facebook Platform\" \"invalid_token\" \"{}\"", self.message))
    }

    /// The body of the answer.
    pub(super) fn body(&self, trace: &str) -> Value {
        let mut error = json!({
            "message": self.message,
            "type": self.kind,
            "code": self.code,
            "fbtrace_id": trace,
        });
        if let Some(fields) = error.as_object_mut() {
            if let Some(details) = &self.details {
                fields.insert(
                    "error_data".to_owned(),
                    json!({ "messaging_product": "whatsapp", "details": details }),
                );
            }
            if let Some(subcode) = self.subcode {
                fields.insert("error_subcode".to_owned(), json!(subcode));
            }
            if let Some(is_transient) = self.is_transient {
                fields.insert("is_transient".to_owned(), json!(is_transient));
            }
            if let Some((title, text)) = self.user_text.as_deref() {
                fields.insert("error_user_title".to_owned(), json!(title));
                fields.insert("error_user_msg".to_owned(), json!(text));
            }
        }
        json!({ "error": error })
    }
}

/// An error as a `failed` status carries it.
pub(super) fn in_webhook(code: u32, details: Option<&str>) -> Value {
    let (title, usual) =
        entry(code).map_or(("Unknown error", "Unknown error."), |entry| (entry.title, entry.details));
    json!({
        "code": code,
        "title": title,
        "message": title,
        "error_data": { "details": details.unwrap_or(usual) },
        "href": "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_every_status_is_an_error() {
        assert!(TABLE.is_sorted_by(|left, right| left.code < right.code));
        assert!(TABLE.iter().all(|entry| (400..600).contains(&entry.http)));
    }

    #[test]
    fn the_envelope() {
        let body = GraphError::of(131_030).body("trace");
        assert_eq!(
            body,
            json!({ "error": {
                "message": "(#131030) Recipient phone number not in allowed list",
                "type": "OAuthException",
                "code": 131_030,
                "error_data": {
                    "messaging_product": "whatsapp",
                    "details": "Recipient phone number not in allowed list: Add recipient phone number to \
                                recipient list and try again.",
                },
                "fbtrace_id": "trace",
            }})
        );
    }

    #[test]
    fn an_unknown_object_is_named() {
        let error = GraphError::no_such_object(&http::Method::POST, "42");
        assert!(error.message.starts_with("Unsupported post request. Object with ID '42' does not exist"));
        assert_eq!((error.code, error.subcode), (100, Some(33)));
    }

    #[test]
    fn only_token_errors_ask_for_authentication() {
        assert!(GraphError::bad_token("Invalid OAuth access token.").authenticate().is_some());
        assert!(GraphError::of(131_026).authenticate().is_none());
    }
}
