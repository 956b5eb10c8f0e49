//! Requests in a few words, and refusals taken apart.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;
use tonic::{Code, Status};
use tonic_types::{ErrorDetail, StatusExt};
use whatsapp_gateway::contract::v1;
use whatsapp_gateway::contract::v1::send_message_request::Content;

use super::Gateway;

/// A recipient of the simulator whose window is always open.
pub const OPEN: &str = "+15550000013";

/// What a failed call says.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub code: Code,
    pub reason: String,
    pub metadata: HashMap<String, String>,
    pub retry: Option<Duration>,
    /// Path and description of every bad field.
    pub violations: Vec<(String, String)>,
    pub message: String,
    pub has_help: bool,
}

impl Refusal {
    /// Reads a status and checks what holds for every one of them: exactly one `ErrorInfo`, a published reason, an actor.
    pub fn of(status: &Status) -> Self {
        let all = status.get_error_details_vec();
        let infos = all.iter().filter(|detail| matches!(detail, ErrorDetail::ErrorInfo(_))).count();
        assert_eq!(infos, 1, "not exactly one ErrorInfo: {status:?}");
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(info.domain, "whatsapp-gateway");
        let published = v1::ErrorReason::from_str_name(&format!("ERROR_REASON_{}", info.reason));
        assert!(published.is_some(), "{} is not published", info.reason);
        assert!(status.details().len() < 4096, "{} bytes of details", status.details().len());
        let violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
        Self {
            code: status.code(),
            reason: info.reason.clone(),
            metadata: info.metadata.clone(),
            retry: details.retry_info().and_then(|info| info.retry_delay),
            violations: violations.into_iter().map(|v| (v.field, v.description)).collect(),
            message: status.message().to_owned(),
            has_help: details.help().is_some(),
        }
    }

    /// The paths of the bad fields.
    pub fn fields(&self) -> Vec<&str> {
        self.violations.iter().map(|(field, _)| field.as_str()).collect()
    }

    /// Code and reason, as tests compare them.
    pub fn is(&self) -> (Code, &str) {
        (self.code, &self.reason)
    }

    pub fn actor(&self) -> &str {
        &self.metadata["actor"]
    }
}

pub fn phone(number: &str) -> v1::Recipient {
    v1::Recipient { address: Some(v1::recipient::Address::PhoneNumber(number.to_owned())) }
}

pub fn user(id: &str) -> v1::Recipient {
    v1::Recipient { address: Some(v1::recipient::Address::UserId(id.to_owned())) }
}

pub fn text(body: &str) -> Content {
    Content::Text(v1::Text { body: body.to_owned(), preview_url: false })
}

/// A message of this content to a number whose window is open.
pub fn send(content: Content) -> v1::SendMessageRequest {
    v1::SendMessageRequest { recipient: Some(phone(OPEN)), content: Some(content), ..Default::default() }
}

pub fn text_to(number: &str, body: &str) -> v1::SendMessageRequest {
    v1::SendMessageRequest { recipient: Some(phone(number)), content: Some(text(body)), ..Default::default() }
}

/// A text that is to be queued under this id.
pub fn queued(request_id: &str, number: &str, body: &str) -> v1::SendMessageRequest {
    v1::SendMessageRequest {
        request_id: request_id.to_owned(),
        phone_number_id: super::webhook::PHONE_NUMBER_ID.to_owned(),
        delivery_mode: v1::DeliveryMode::Queued.into(),
        ..text_to(number, body)
    }
}

/// A `Struct` of this JSON object.
pub fn structure(json: &Value) -> prost_types::Struct {
    let fields = json.as_object().unwrap().iter().map(|(name, value)| (name.clone(), value_of(value)));
    prost_types::Struct { fields: fields.collect() }
}

fn value_of(json: &Value) -> prost_types::Value {
    use prost_types::value::Kind;
    let kind = match json {
        Value::Null => Kind::NullValue(0),
        Value::Bool(truth) => Kind::BoolValue(*truth),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(list) => {
            Kind::ListValue(prost_types::ListValue { values: list.iter().map(value_of).collect() })
        }
        Value::Object(_) => Kind::StructValue(structure(json)),
    };
    prost_types::Value { kind: Some(kind) }
}

impl Gateway {
    /// Sends a message that is accepted.
    pub async fn send(&self, request: v1::SendMessageRequest) -> v1::SendMessageResponse {
        self.client().await.send_message(request).await.unwrap().into_inner()
    }

    /// Sends a message that is not.
    pub async fn refused(&self, request: v1::SendMessageRequest) -> Refusal {
        Refusal::of(&self.client().await.send_message(request).await.unwrap_err())
    }

    /// As [`Gateway::refused`], by a caller who waits so long.
    pub async fn refused_within(&self, request: v1::SendMessageRequest, timeout: Duration) -> Refusal {
        let mut request = tonic::Request::new(request);
        request.set_timeout(timeout);
        Refusal::of(&self.client().await.send_message(request).await.unwrap_err())
    }

    /// What became of queued messages, with the event around it.
    pub async fn send_reports(&self) -> Vec<(v1::Event, v1::SendReport)> {
        let report = |event: v1::Event| match event.payload.clone() {
            Some(v1::event::Payload::Send(report)) => Some((event, report)),
            _ => None,
        };
        self.events().await.into_iter().filter_map(report).collect()
    }

    /// The bodies that the simulated Cloud API was asked to send, in order.
    pub async fn sent_bodies(&self) -> Vec<Value> {
        let requests = self.simulator("requests?path=/messages&method=POST").await;
        requests.as_array().unwrap().iter().map(|request| request["body"].clone()).collect()
    }

    /// The stored statuses, in order.
    pub async fn statuses(&self) -> Vec<v1::MessageStatus> {
        let status = |event: v1::Event| match event.payload {
            Some(v1::event::Payload::Status(status)) => Some(status),
            _ => None,
        };
        self.events().await.into_iter().filter_map(status).collect()
    }

    /// Lets the simulator carry out this fault on the next request whose path ends so.
    pub async fn fault(&self, path_suffix: &str, fault: Value) {
        let planned = serde_json::json!({"match": {"path_suffix": path_suffix}, "fault": fault});
        self.simulate("faults", &planned).await;
    }

    /// Lifts the limits of the simulator, so that a test is refused only for what it asks for.
    pub async fn without_limits(&self) {
        let limits = serde_json::json!({"messages_per_second": 1_000_000, "pair_burst": 1_000_000});
        self.simulate("limits", &limits).await;
    }
}
