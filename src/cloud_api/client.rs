//! Calls to the Cloud API: one request, one answer, and what is known when there is none.
//!
//! HTTP/1.1 over pooled connections, no redirects and no retries: a send must not be repeated by a library. The
//! access token comes with every call, because the configuration may change it. The trace context
//! stays here unless the configuration says otherwise; Meta has no use for it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, header};
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use tracing::Instrument;

use super::body::{Departure, Watch, WatchedBody};
use super::config::{Config, MediaHosts, base_url};
use super::envelope::{ErrorAnswer, with_stated_delay};
use super::error::{Error, causes};
use super::error_code::{Operation, ambiguous, verdict};
use crate::clock::SharedClock;
use crate::telemetry::semconv::HttpClientEnd;
use crate::telemetry::{current_traceparent, exemplified, names, semconv};

/// Bytes of an answer at most. A page of 100 templates with all their components stays far below.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How long an idle connection is kept. Meta closes them without notice, so not for long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// Why a client cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The URL of the Graph API is none.
    #[error("cloud_api.graph_url: must be an http or https URL without query, fragment and user")]
    GraphUrl,
    /// The URL of the host without versions is none.
    #[error("cloud_api.api_url: must be an http or https URL without query, fragment and user")]
    ApiUrl,
    /// TLS cannot be set up.
    #[error("the HTTP client cannot be built: {0}")]
    Http(String),
}

/// The client. Cheap to clone: clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    graph: Url,
    /// Knows no versions (reference 1.1).
    api: Url,
    pub(super) media: MediaHosts,
    pub(super) request_timeout: Duration,
    pub(super) transfer_timeout: Duration,
    sends_traceparent: bool,
    pub(super) clock: SharedClock,
}

impl Client {
    /// Builds a client. Connects to nothing yet.
    pub fn new(config: &Config, clock: SharedClock) -> Result<Self, BuildError> {
        let mut graph = base_url(&config.graph_url).ok_or(BuildError::GraphUrl)?;
        if let Ok(mut path) = graph.path_segments_mut() {
            path.pop_if_empty().push(&config.version);
        }
        let mut api = base_url(&config.api_url).ok_or(BuildError::ApiUrl)?;
        if let Ok(mut path) = api.path_segments_mut() {
            path.pop_if_empty();
        }
        let mut builder = reqwest::Client::builder();
        if is_loopback(&graph) {
            // A simulator beside us is never behind the proxy of the environment.
            builder = builder.no_proxy();
        }
        let http = builder
            .user_agent(concat!("whatsapp-gateway/", env!("CARGO_PKG_VERSION")))
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(config.connect_timeout)
            .timeout(config.request_timeout)
            .pool_max_idle_per_host(config.idle_connections_max)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .tcp_nodelay(true)
            .build()
            .map_err(|error| BuildError::Http(causes(error)))?;
        let media = MediaHosts::new(&config.media_hosts, &graph);
        let Config { request_timeout, transfer_timeout, sends_traceparent, .. } = *config;
        Ok(Self { http, graph, api, media, request_timeout, transfer_timeout, sends_traceparent, clock })
    }

    /// Makes one call and returns the body of its 2xx answer. Every other answer is an error.
    pub(super) async fn call(&self, access_token: &SecretString, call: Call<'_>) -> Result<Bytes, Error> {
        self.call_at(&self.graph, access_token, call, None).await
    }

    /// As [`Client::call`]; its body leaves when `departure` is there.
    pub(super) async fn call_departing(
        &self,
        access_token: &SecretString,
        call: Call<'_>,
        departure: Departure,
    ) -> Result<Bytes, Error> {
        self.call_at(&self.graph, access_token, call, Some(departure)).await
    }

    /// As [`Client::call`], at the host that knows no versions.
    pub(super) async fn call_unversioned(
        &self,
        access_token: &SecretString,
        call: Call<'_>,
    ) -> Result<Bytes, Error> {
        self.call_at(&self.api, access_token, call, None).await
    }

    async fn call_at(
        &self,
        base: &Url,
        access_token: &SecretString,
        call: Call<'_>,
        departure: Option<Departure>,
    ) -> Result<Bytes, Error> {
        let (template, method) = (call.template, call.method.clone());
        // On the heap, or each wrapper would hold it twice.
        let exchange = Box::pin(self.exchange(base, access_token, call, departure));
        observed_at(base, template, &method, exchange).await
    }

    /// Runs one exchange with the Graph API in its span, and measures it.
    pub(super) async fn observed<T>(
        &self,
        template: &'static str,
        method: &Method,
        exchange: impl Future<Output = Exchange<T>>,
    ) -> Result<T, Error> {
        observed_at(&self.graph, template, method, exchange).await
    }

    async fn exchange(
        &self,
        base: &Url,
        access_token: &SecretString,
        call: Call<'_>,
        departure: Option<Departure>,
    ) -> Exchange<Bytes> {
        let operation = call.operation;
        let (body, watch) = WatchedBody::new(call.body.unwrap_or_default(), departure);
        let mut request = self.http.request(call.method, appended(base, call.path, call.query));
        request = match authorization("Bearer", access_token) {
            Ok(value) => request.header(header::AUTHORIZATION, value),
            Err(error) => return Exchange::none(error),
        };
        if let Some(traceparent) = self.sends_traceparent.then(|| current_traceparent(None)).flatten() {
            request = request.header("traceparent", traceparent);
        }
        if !watch.may_have_left() {
            request =
                request.header(header::CONTENT_TYPE, "application/json").body(reqwest::Body::wrap(body));
        }
        Self::finish(operation, request, &watch).await
    }

    /// Sends the request and reads its answer.
    pub(super) async fn finish(
        operation: Operation,
        request: reqwest::RequestBuilder,
        watch: &Watch,
    ) -> Exchange<Bytes> {
        let sent = request.send().await.map_err(|error| {
            let is_sent = watch.may_have_left() && !error.is_connect() && !error.is_builder();
            let cause = causes(error);
            if is_sent { Error::lost(operation, cause) } else { Error::NotSent { cause } }
        });
        match sent {
            Ok(response) => Exchange::read(operation, response).await,
            Err(error) => Exchange::none(error),
        }
    }

    /// A request to any URL. Whether the token may go there is for the caller to know.
    pub(super) fn request(&self, method: Method, url: Url) -> reqwest::RequestBuilder {
        self.http.request(method, url)
    }

    pub(super) fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Url {
        appended(&self.graph, path, query)
    }
}

async fn observed_at<T>(
    base: &Url,
    template: &'static str,
    method: &Method,
    exchange: impl Future<Output = Exchange<T>>,
) -> Result<T, Error> {
    let span = semconv::http_client(method.as_str(), template);
    let began = tokio::time::Instant::now();
    let Exchange { status, result } = exchange.instrument(span.clone()).await;
    let error = result.as_ref().err().map(Error::kind);
    let end = HttpClientEnd { method: method.as_str(), base, template, status, error };
    semconv::http_client_ended(&span, end);
    let status_class = status.map_or("none", class_of);
    exemplified(&span, || observe(base, template, method, status_class, began.elapsed()));
    if let Err(cause) = &result
        && let Some(error) = cause.meta()
    {
        metrics::counter!(names::META_ERRORS, names::ERROR_CLASS => cause.verdict().reason.as_str())
            .increment(1);
        span.record("meta.code", error.code);
        span.record("meta.fbtrace_id", error.fbtrace_id.as_str());
    }
    result
}

fn appended(base: &Url, path: &[&str], query: &[(&str, &str)]) -> Url {
    let mut url = base.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.extend(path);
    }
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    url
}

fn observe(base: &Url, template: &'static str, method: &Method, status_class: &'static str, time: Duration) {
    metrics::histogram!(
        names::HTTP_CLIENT_REQUEST_DURATION,
        names::SERVER_ADDRESS => base.host_str().unwrap_or_default().to_owned(),
        names::URL_TEMPLATE => template,
        names::HTTP_METHOD => method.as_str().to_owned(),
        names::HTTP_STATUS_CLASS => status_class,
    )
    .record(time.as_secs_f64());
}

/// One call. Path segments must not come from outside unchecked: `.` and `..` would change the path.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) operation: Operation,
    pub(super) method: Method,
    /// The path with names in place of ids, for telemetry.
    pub(super) template: &'static str,
    pub(super) path: &'a [&'a str],
    pub(super) query: &'a [(&'a str, &'a str)],
    /// JSON text; without it the call has no body.
    pub(super) body: Option<Bytes>,
}

/// What became of a request: the status of its answer, if there was one, and what was made of it.
#[derive(Debug)]
pub(super) struct Exchange<T> {
    pub(super) status: Option<u16>,
    pub(super) result: Result<T, Error>,
}

impl<T> Exchange<T> {
    /// No answer came.
    pub(super) fn none(error: Error) -> Self {
        Self { status: None, result: Err(error) }
    }
}

impl Exchange<Bytes> {
    /// Reads the answer to its end.
    pub(super) async fn read(operation: Operation, mut response: reqwest::Response) -> Self {
        let status = response.status();
        let result = match read_all(&mut response).await {
            Ok(body) if status.is_success() => Ok(body),
            Ok(body) => Err(failure(operation, status.as_u16(), response.headers(), &body)),
            // Half an error is no proof of a refusal: the other half may hold a code that is ambiguous.
            Err(cause) => Err(Error::lost(operation, cause)),
        };
        Self { status: Some(status.as_u16()), result }
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// A value that the library marks as sensitive, so that it never prints it.
pub(super) fn authorization(scheme: &str, access_token: &SecretString) -> Result<HeaderValue, Error> {
    let value = HeaderValue::from_str(&format!("{scheme} {}", access_token.expose_secret()));
    let mut value = value.map_err(|_| Error::NotSent {
        cause: "the access token holds characters that no header may hold".to_owned(),
    })?;
    value.set_sensitive(true);
    Ok(value)
}

async fn read_all(response: &mut reqwest::Response) -> Result<Bytes, String> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(causes)? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(format!("the answer is longer than {ANSWER_BYTES_MAX} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// What an answer other than 2xx proves.
fn failure(operation: Operation, status: u16, headers: &HeaderMap, body: &[u8]) -> Error {
    let ErrorAnswer { error, is_transient } = ErrorAnswer::read(status, headers, body);
    let verdict = verdict(&error, is_transient, operation);
    if operation != Operation::Read && verdict == ambiguous(operation) {
        let cause = format!("Meta answered with HTTP {status}, which does not say whether it was done");
        return Error::OutcomeUnknown { error: Some(error), cause };
    }
    Error::Refused { error, verdict: with_stated_delay(verdict, headers) }
}

fn class_of(status: u16) -> &'static str {
    match status / 100 {
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        5 => "5xx",
        _ => "other",
    }
}

#[cfg(test)]
pub(super) mod tests;
