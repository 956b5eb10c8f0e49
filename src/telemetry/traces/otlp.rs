//! OTLP over gRPC and over HTTP, in protobuf.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig};
use tokio::runtime::Handle;
use tracing::warn;

use super::{Protocol, Traces};
use crate::telemetry::{Error, Seldom};

/// How long one export may take, its repetitions included, before its spans are lost.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes that are read of a collector's answer, which is a few words.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Connects to nothing yet. Must be called inside the runtime, which then works for the thread that exports.
pub(super) fn exporter(endpoint: &str, traces: &Traces) -> Result<SpanExporter, Error> {
    let headers = Headers::read(traces.headers_file.clone())?;
    let authorities = match &traces.ca_file {
        Some(file) => Some(authorities(file)?),
        None => None,
    };
    let is_secure = endpoint.starts_with("https:");
    let exporter = match traces.protocol {
        Protocol::Grpc => {
            let add_headers = move |mut request: tonic::Request<()>| {
                request.metadata_mut().as_mut().extend(headers.now());
                Ok(request)
            };
            let exporter = SpanExporter::builder().with_tonic().with_interceptor(add_headers);
            let exporter = exporter.with_endpoint(endpoint).with_timeout(EXPORT_TIMEOUT);
            if !is_secure {
                return Ok(exporter.build()?);
            }
            let tls = ClientTlsConfig::new();
            exporter.with_tls_config(match authorities {
                Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
                None => tls.with_native_roots(),
            })
        }
        .build()?,
        Protocol::Http => {
            let mut client = reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .timeout(EXPORT_TIMEOUT);
            if !is_secure {
                // A collector that is spoken to so is near; no proxy of the environment stands before it.
                client = client.no_proxy();
            }
            if let Some(pem) = authorities {
                let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(Error::Client)?;
                client = client.tls_certs_only(certificates);
            }
            let client = client.build().map_err(Error::Client)?;
            SpanExporter::builder()
                .with_http()
                .with_http_client(Http { client, headers, runtime: Handle::current() })
                .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
                .with_endpoint(format!("{endpoint}/v1/traces"))
                .with_timeout(EXPORT_TIMEOUT)
                .build()?
        }
    };
    Ok(exporter)
}

fn authorities(file: &Path) -> Result<Vec<u8>, Error> {
    let of_file = |cause: String| Error::File { key: "otlp_ca_file", file: file.to_owned(), cause };
    let pem = std::fs::read(file).map_err(|error| of_file(error.to_string()))?;
    match reqwest::Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(pem),
        Ok(_) | Err(_) => Err(of_file("holds no certificate in PEM".to_owned())),
    }
}

/// What goes with each export, such as the token of a collector.
#[derive(Clone)]
struct Headers(Arc<Inner>);

struct Inner {
    file: Option<PathBuf>,
    last: Mutex<HeaderMap>,
    lines: Seldom,
}

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Headers").field(&self.0.file).finish()
    }
}

impl Headers {
    fn read(file: Option<PathBuf>) -> Result<Self, Error> {
        let first = match &file {
            Some(file) => read(file).map_err(|cause| Error::File {
                key: "otlp_headers_file",
                file: file.clone(),
                cause,
            })?,
            None => HeaderMap::new(),
        };
        let (last, lines) = (Mutex::new(first), Seldom::default());
        Ok(Self(Arc::new(Inner { file, last, lines })))
    }

    /// As the file says now; as it said before, if it cannot be read. Only the thread that exports waits for it.
    fn now(&self) -> HeaderMap {
        let Inner { file, last, lines } = &*self.0;
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        match file.as_deref().map(read) {
            Some(Ok(headers)) => *last = headers,
            Some(Err(cause)) if lines.count().is_some() => {
                warn!(cause, "telemetry.otlp_headers_file cannot be used; the headers stay as they were");
            }
            Some(Err(_)) | None => {}
        }
        last.clone()
    }
}

fn read(file: &Path) -> Result<HeaderMap, String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    parse(&text)
}

/// Never shows a value: it is a secret.
fn parse(text: &str) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let parsed = line.split_once(':').and_then(|(name, value)| {
            let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
            let mut value = HeaderValue::from_str(value.trim()).ok().filter(|value| !value.is_empty())?;
            value.set_sensitive(true);
            Some((name, value))
        });
        let (name, value) = parsed.ok_or_else(|| {
            format!("line {} must be a header and its value, as in authorization: Bearer <token>", index + 1)
        })?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// The client that the process has anyway. It needs the runtime, and the thread that exports is outside of it.
#[derive(Debug)]
struct Http {
    client: reqwest::Client,
    headers: Headers,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for Http {
    async fn send_bytes(
        &self,
        mut request: http::Request<Bytes>,
    ) -> Result<http::Response<Bytes>, HttpError> {
        request.headers_mut().extend(self.headers.now());
        let request = reqwest::Request::try_from(request)?;
        let client = self.client.clone();
        self.runtime.spawn(async move { answer(client, request).await }).await?
    }
}

async fn answer(
    client: reqwest::Client,
    request: reqwest::Request,
) -> Result<http::Response<Bytes>, HttpError> {
    let mut response = client.execute(request).await.map_err(reqwest::Error::without_url)?;
    let mut answer = http::Response::builder().status(response.status());
    if let Some(headers) = answer.headers_mut() {
        headers.clone_from(response.headers());
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err("the answer of the collector is too long".into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(answer.body(body.freeze())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_lines_and_stay_when_the_file_breaks() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("headers");
        std::fs::write(&file, "authorization: Bearer one\n\nX-Scope-OrgID: 7\n").unwrap();
        let headers = Headers::read(Some(file.clone())).unwrap();
        assert_eq!(headers.now().get("x-scope-orgid").unwrap(), "7");
        std::fs::write(&file, "authorization: Bearer two").unwrap();
        assert_eq!(headers.now().get("authorization").unwrap(), "Bearer two");
        assert!(headers.now().get("x-scope-orgid").is_none());
        std::fs::write(&file, "authorization Bearer three").unwrap();
        assert_eq!(headers.now().get("authorization").unwrap(), "Bearer two");
        std::fs::remove_file(&file).unwrap();
        assert_eq!(headers.now().get("authorization").unwrap(), "Bearer two");
        assert!(!format!("{headers:?} {:?}", headers.now()).contains("Bearer"));
    }

    #[test]
    fn a_file_that_holds_no_headers_is_named_without_its_text() {
        for text in ["a: b\nsecret-token", "secret-token: ", "sécret-token: x\u{1}", ": secret-token"] {
            let cause = parse(text).unwrap_err();
            assert!(cause.starts_with("line ") && !cause.contains("cret-token"), "{cause}");
        }
        let missing = Headers::read(Some("/nowhere/headers".into())).unwrap_err().to_string();
        assert!(missing.contains("telemetry.otlp_headers_file") && missing.contains("/nowhere"), "{missing}");
    }
}
