//! The record of what was asked of the Cloud API, in order, for tests to look at. It never shows a token.

use std::time::SystemTime;

use bytes::Bytes;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::multipart::Part;
use super::rfc3339;
use super::ring::Ring;

/// Requests kept; beyond it the oldest are forgotten.
const COUNT_MAX: usize = 200_000;
/// And so many bytes of them.
const BYTES_MAX: usize = 256 * 1024 * 1024;

/// One recorded request.
#[derive(Debug)]
pub(super) struct Recorded {
    time: SystemTime,
    method: String,
    path: String,
    query: String,
    headers: Map<String, Value>,
    body: Body,
    /// The HTTP status, or what happened instead of an answer.
    outcome: Value,
}

/// A body as the record shows it.
#[derive(Debug)]
pub(super) enum Body {
    None,
    Json(Value),
    /// What is not JSON: size and checksum only.
    Bytes {
        bytes: usize,
        sha256: String,
    },
    /// A form: text parts as they are, files by size and checksum.
    Form(Value),
    /// Not all of it came, for this reason.
    Incomplete(&'static str),
}

/// The record.
#[derive(Debug)]
pub(super) struct Requests(Ring<Recorded>);

impl Default for Requests {
    fn default() -> Self {
        Self(Ring::new(COUNT_MAX, BYTES_MAX))
    }
}

/// Which requests to show.
#[derive(Debug, Default)]
pub(super) struct Filter {
    pub(super) path: Option<String>,
    pub(super) method: Option<String>,
    /// Only those with a larger number.
    pub(super) after: Option<u64>,
}

impl Requests {
    /// Records a request; returns its number.
    pub(super) fn push(&mut self, recorded: Recorded, body_bytes: usize) -> u64 {
        self.0.push(recorded, body_bytes + 512)
    }

    /// Notes how a recorded request ended.
    pub(super) fn ended(&mut self, number: u64, outcome: Value) {
        if let Some(recorded) = self.0.get_mut(number) {
            recorded.outcome = outcome;
        }
    }

    /// The same record, empty; the numbers go on.
    pub(super) fn cleared(mut self) -> Self {
        self.0.clear();
        self
    }

    pub(super) fn to_json(&self, filter: &Filter) -> Value {
        self.0
            .iter()
            .filter(|(number, recorded)| filter.matches(*number, recorded))
            .map(|(number, recorded)| recorded.to_json(number))
            .collect()
    }
}

impl Filter {
    fn matches(&self, number: u64, recorded: &Recorded) -> bool {
        self.after.is_none_or(|after| number > after)
            && self.path.as_ref().is_none_or(|path| recorded.path.ends_with(path.as_str()))
            && self.method.as_ref().is_none_or(|method| recorded.method.eq_ignore_ascii_case(method))
    }
}

impl Recorded {
    pub(super) fn new(time: SystemTime, parts: &http::request::Parts, body: Body) -> Self {
        let query = parts.uri.query().unwrap_or_default();
        Self {
            time,
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: query.split('&').map(redacted).collect::<Vec<_>>().join("&"),
            headers: headers(&parts.headers),
            body,
            outcome: Value::Null,
        }
    }

    fn to_json(&self, number: u64) -> Value {
        let mut shown = json!({
            "number": number,
            "time": rfc3339(self.time),
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "headers": self.headers,
            "outcome": self.outcome,
        });
        let (key, body) = match &self.body {
            Body::None => return shown,
            Body::Json(body) => ("body", body.clone()),
            Body::Bytes { bytes, sha256 } => ("raw", json!({ "bytes": bytes, "sha256": sha256 })),
            Body::Form(parts) => ("parts", parts.clone()),
            Body::Incomplete(reason) => ("incomplete", json!(reason)),
        };
        if let Some(fields) = shown.as_object_mut() {
            fields.insert(key.to_owned(), body);
        }
        shown
    }
}

impl Body {
    /// A form.
    pub(super) fn form(parts: &[Part]) -> Self {
        Self::Form(parts.iter().map(part).collect())
    }

    /// A body that arrived whole.
    pub(super) fn whole(bytes: &Bytes, json: Option<&Value>) -> Self {
        match json {
            _ if bytes.is_empty() => Self::None,
            Some(json) => Self::Json(json.clone()),
            None => Self::Bytes { bytes: bytes.len(), sha256: hex::encode(Sha256::digest(bytes)) },
        }
    }
}

fn part(part: &Part) -> Value {
    match part.text() {
        Some(text) => json!({ "name": part.name, "value": text }),
        None => json!({
            "name": part.name,
            "filename": part.filename,
            "content_type": part.content_type,
            "bytes": part.content.len,
            "sha256": hex::encode(part.content.digest),
        }),
    }
}

/// All headers but the token.
fn headers(headers: &HeaderMap) -> Map<String, Value> {
    headers
        .iter()
        .filter(|(name, _)| *name != AUTHORIZATION)
        .map(|(name, value)| (name.to_string(), json!(String::from_utf8_lossy(value.as_bytes()))))
        .collect()
}

/// A token in the query must not show either.
fn redacted(pair: &str) -> &str {
    ["access_token=...", "input_token=..."]
        .into_iter()
        .find(|token| pair.starts_with(token.trim_end_matches('.')))
        .unwrap_or(pair)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_never_shows() {
        let request = http::Request::post("/v25.0/1/messages?access_token=secret&a=b&input_token=secret")
            .header("authorization", "Bearer secret")
            .header("x-test", "yes")
            .body(())
            .unwrap();
        let (parts, ()) = request.into_parts();
        let mut requests = Requests::default();
        let body = Body::whole(&Bytes::from_static(b"{}"), Some(&json!({})));
        let number = requests.push(Recorded::new(SystemTime::UNIX_EPOCH, &parts, body), 2);
        requests.ended(number, json!(200));
        let shown = requests.to_json(&Filter::default());
        assert!(!shown.to_string().contains("secret"));
        assert_eq!(shown[0]["query"], "access_token=...&a=b&input_token=...");
        assert_eq!(shown[0]["headers"]["x-test"], "yes");
        assert_eq!((&shown[0]["body"], &shown[0]["outcome"]), (&json!({}), &json!(200)));
    }

    #[test]
    fn filters() {
        let mut requests = Requests::default();
        for (method, path) in [("POST", "/v25.0/1/messages"), ("GET", "/v25.0/1")] {
            let request = http::Request::builder().method(method).uri(path).body(()).unwrap();
            let (parts, ()) = request.into_parts();
            requests.push(Recorded::new(SystemTime::UNIX_EPOCH, &parts, Body::None), 0);
        }
        let count = |filter: Filter| requests.to_json(&filter).as_array().unwrap().len();
        assert_eq!(count(Filter::default()), 2);
        assert_eq!(count(Filter { path: Some("/messages".to_owned()), ..Filter::default() }), 1);
        assert_eq!(count(Filter { method: Some("get".to_owned()), ..Filter::default() }), 1);
        assert_eq!(count(Filter { after: Some(0), ..Filter::default() }), 1);
    }
}
