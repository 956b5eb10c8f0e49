//! The connection to the NATS servers, and the few requests that the engine makes of JetStream.
//!
//! Requests are JSON as the server documents it. Nothing is repeated here: who asks knows whether that is safe.

use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, HeaderMap, Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

/// How long one request may take; an election of a leader is shorter.
const REQUEST_MAX: Duration = Duration::from_secs(2);

/// The largest part of a message beside its payload: headers and subject.
pub(super) const OVERHEAD_BYTES: usize = 1024;

const EXPECTED_LAST: &str = "Nats-Expected-Last-Sequence";
const EXPECTED_LAST_OF_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence";

/// The server says that a message is not there.
const NO_MESSAGE: u64 = 10_037;

/// The cluster has not chosen its leader.
const NO_LEADER: u64 = 10_008;
/// Not enough servers are there for the copies.
const NO_PEERS: u64 = 10_005;
/// The server could not make the files of a stream; it does so too while it makes the folder of a new account.
pub(super) const NO_FILES: u64 = 10_049;

/// Between two questions of one that is patient.
const PAUSE: Duration = Duration::from_millis(250);

/// Why a request has no answer that can be used.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Fault {
    /// No answer: no connection, no leader, or too late. A write may have happened.
    #[error("NATS does not answer: {0}")]
    Away(String),
    /// The server said no. A write has not happened.
    #[error("{description} (NATS error {err_code})")]
    Api {
        /// As of HTTP.
        code: u16,
        /// JetStream's own number.
        err_code: u64,
        /// JetStream's text.
        description: String,
    },
    /// The answer is none that this build knows.
    #[error("the answer of NATS cannot be read: {0}")]
    Garbled(String),
}

impl Fault {
    /// Whether servers that just started say so.
    fn is_passing(&self) -> bool {
        match self {
            Self::Away(_) => true,
            Self::Api { err_code, .. } => matches!(*err_code, NO_LEADER | NO_PEERS | NO_FILES),
            Self::Garbled(_) => false,
        }
    }
}

/// A connection. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Wire {
    client: Client,
    /// Until when questions are repeated that servers which just started do not answer.
    patient_until: Option<Instant>,
}

/// A message to be stored.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    pub(super) subject: String,
    pub(super) payload: Bytes,
    /// What the newest message of its subject must be: 0 for none.
    pub(super) expected_of_subject: Option<u64>,
    /// After how many seconds the server forgets it.
    pub(super) kept_seconds: Option<u64>,
}

/// A message as the stream holds it.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) seq: u64,
    pub(super) payload: Bytes,
}

#[derive(Deserialize)]
struct ApiError {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
struct Ack {
    seq: u64,
}

#[derive(Deserialize)]
struct Got {
    message: GotMessage,
}

#[derive(Deserialize)]
struct GotMessage {
    seq: u64,
    #[serde(default)]
    data: String,
}

impl Wire {
    pub(super) fn new(client: Client) -> Self {
        Self { client, patient_until: None }
    }

    /// The same, for the start: servers may be starting too.
    pub(super) fn patient(&self, for_: Duration) -> Self {
        Self { client: self.client.clone(), patient_until: Some(Instant::now() + for_) }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Sends a message that nobody keeps, if that can be done now.
    pub(super) async fn tell(&self, subject: String, payload: Bytes) {
        if self.is_connected() {
            // It may be lost on the way as well.
            drop(timeout(REQUEST_MAX, self.client.publish(subject, payload)).await);
        }
    }

    /// Waits until what was told is on its way.
    pub(super) async fn flush(&self) {
        drop(timeout(REQUEST_MAX, self.client.flush()).await);
    }

    /// Payload bytes that one message may have.
    pub(super) fn payload_max(&self) -> usize {
        self.client.max_payload().saturating_sub(OVERHEAD_BYTES)
    }

    /// Asks JetStream's API.
    pub(super) async fn ask<A: DeserializeOwned>(&self, subject: &str, query: &Value) -> Result<A, Fault> {
        let payload = if query.is_null() { Bytes::new() } else { json_bytes(query) };
        loop {
            let request = Request::new().payload(payload.clone()).timeout(Some(REQUEST_MAX));
            match self.answer(format!("$JS.API.{subject}"), request).await {
                Err(fault)
                    if fault.is_passing() && self.patient_until.is_some_and(|at| Instant::now() < at) =>
                {
                    sleep(PAUSE).await;
                }
                answer => return answer,
            }
        }
    }

    /// Stores messages, at least one, all or none; if `expected_last` is said, only behind that number. Returns the
    /// number of the last.
    pub(super) async fn store(
        &self,
        batch: &str,
        expected_last: Option<u64>,
        messages: &[Outgoing],
    ) -> Result<u64, Fault> {
        let nothing = || Fault::Garbled("there is nothing to store".to_owned());
        let (last, others) = messages.split_last().ok_or_else(nothing)?;
        let bytes_max = self.payload_max();
        if messages.iter().any(|message| message.payload.len() > bytes_max) {
            let description = format!(
                "this server takes messages up to {bytes_max} bytes; set max_payload: 8MB on every server"
            );
            return Err(Fault::Api { code: 400, err_code: 0, description });
        }
        // Without a connection messages would wait in the client, and fill it.
        if !self.is_connected() {
            return Err(Fault::Away("there is no connection".to_owned()));
        }
        let headers = |index: usize, message: &Outgoing| {
            let mut headers = headers_of(message);
            if let (0, Some(expected)) = (index, expected_last) {
                headers.insert(EXPECTED_LAST, expected.to_string());
            }
            if !others.is_empty() {
                headers.insert("Nats-Batch-Id", batch);
                headers.insert("Nats-Batch-Sequence", (index + 1).to_string());
            }
            headers
        };
        for (index, message) in others.iter().enumerate() {
            let (subject, payload) = (message.subject.clone(), message.payload.clone());
            let published = self.client.publish_with_headers(subject, headers(index, message), payload);
            let published = timeout(REQUEST_MAX, published).await;
            let published = published.map_err(|error| Fault::Away(error.to_string()))?;
            published.map_err(|error| Fault::Away(error.to_string()))?;
        }
        let mut headers = headers(others.len(), last);
        if !others.is_empty() {
            headers.insert("Nats-Batch-Commit", "1");
        }
        self.publish(last, headers).await
    }

    /// Stores one message under the precondition that it names. Returns its number.
    pub(super) async fn store_one(&self, message: &Outgoing) -> Result<u64, Fault> {
        self.publish(message, headers_of(message)).await
    }

    async fn publish(&self, message: &Outgoing, headers: HeaderMap) -> Result<u64, Fault> {
        let request = Request::new().payload(message.payload.clone()).headers(headers);
        let request = request.timeout(Some(REQUEST_MAX));
        let ack: Ack = self.answer(message.subject.clone(), request).await?;
        Ok(ack.seq)
    }

    async fn answer<A: DeserializeOwned>(&self, subject: String, request: Request) -> Result<A, Fault> {
        let answer = self.client.send_request(subject, request).await;
        let answer = answer.map_err(|error| Fault::Away(error.to_string()))?.payload;
        let value: Value =
            serde_json::from_slice(&answer).map_err(|error| Fault::Garbled(error.to_string()))?;
        if let Some(error) = value.get("error") {
            let error = ApiError::deserialize(error).map_err(|error| Fault::Garbled(error.to_string()))?;
            let ApiError { code, err_code, description } = error;
            return Err(Fault::Api { code, err_code, description });
        }
        serde_json::from_value(value).map_err(|error| Fault::Garbled(error.to_string()))
    }

    /// The message with that number, from whichever server is nearest. One that is not there may be there in a moment.
    pub(super) async fn nearest(&self, stream: &str, seq: u64) -> Result<Option<Stored>, Fault> {
        let request = Request::new().payload(json_bytes(&json!({"seq": seq}))).timeout(Some(REQUEST_MAX));
        let answer = self.client.send_request(format!("$JS.API.DIRECT.GET.{stream}"), request).await;
        let answer = answer.map_err(|error| Fault::Away(error.to_string()))?;
        Ok(answer.status.is_none().then_some(Stored { seq, payload: answer.payload }))
    }

    /// The messages from that number on, as far as the nearest server has them.
    pub(super) async fn page(
        &self,
        stream: &str,
        from: u64,
        events: usize,
        bytes: usize,
    ) -> Result<Vec<Stored>, Fault> {
        let away = |error: &dyn ToString| Fault::Away(error.to_string());
        let inbox = self.client.new_inbox();
        let mut answers = self.client.subscribe(inbox.clone()).await.map_err(|error| away(&error))?;
        let query = json_bytes(&json!({"seq": from, "batch": events, "max_bytes": bytes.max(1)}));
        let subject = format!("$JS.API.DIRECT.GET.{stream}");
        let asked = self.client.publish_with_reply(subject, inbox, query).await;
        asked.map_err(|error| away(&error))?;
        let mut page = Vec::new();
        loop {
            let answer = timeout(REQUEST_MAX, answers.next()).await.map_err(|error| away(&error))?;
            let answer = answer.ok_or_else(|| away(&"the connection was closed"))?;
            if answer.status == Some(StatusCode::NO_RESPONDERS) {
                return Err(away(&"no server has the stream"));
            }
            // The end of the page, or no message from that number on.
            if answer.status.is_some() {
                return Ok(page);
            }
            let seq = answer.headers.as_ref().and_then(|headers| headers.get("Nats-Sequence"));
            let seq = seq.and_then(|seq| seq.as_str().parse().ok());
            let seq = seq.ok_or_else(|| Fault::Garbled("a message without a number".to_owned()))?;
            page.push(Stored { seq, payload: answer.payload });
        }
    }

    /// The message with that number, from the leader: what is not there is nowhere.
    pub(super) async fn exact(&self, stream: &str, seq: u64) -> Result<Option<Stored>, Fault> {
        self.get(stream, &json!({"seq": seq})).await
    }

    /// The first message from that number on, from the leader.
    pub(super) async fn next(&self, stream: &str, from: u64) -> Result<Option<Stored>, Fault> {
        self.get(stream, &json!({"seq": from, "next_by_subj": ">"})).await
    }

    /// The newest message of a subject, from the leader.
    pub(super) async fn newest(&self, stream: &str, subject: &str) -> Result<Option<Stored>, Fault> {
        self.get(stream, &json!({"last_by_subj": subject})).await
    }

    async fn get(&self, stream: &str, query: &Value) -> Result<Option<Stored>, Fault> {
        match self.ask::<Got>(&format!("STREAM.MSG.GET.{stream}"), query).await {
            Ok(Got { message: GotMessage { seq, data } }) => {
                let payload = STANDARD.decode(data).map_err(|error| Fault::Garbled(error.to_string()))?;
                Ok(Some(Stored { seq, payload: payload.into() }))
            }
            Err(Fault::Api { err_code: NO_MESSAGE, .. }) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Removes the messages before `keep_from`.
    pub(super) async fn purge(&self, stream: &str, keep_from: u64) -> Result<(), Fault> {
        let (subject, query) = (format!("STREAM.PURGE.{stream}"), json!({"seq": keep_from}));
        self.ask::<Value>(&subject, &query).await.map(drop)
    }
}

fn headers_of(message: &Outgoing) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(expected) = message.expected_of_subject {
        headers.insert(EXPECTED_LAST_OF_SUBJECT, expected.to_string());
    }
    if let Some(seconds) = message.kept_seconds {
        headers.insert("Nats-TTL", format!("{seconds}s"));
    }
    headers
}

fn json_bytes(value: &impl Serialize) -> Bytes {
    // Values of our own making, which have no keys but texts.
    serde_json::to_vec(value).unwrap_or_default().into()
}
