//! A collector of traces, by OTLP over gRPC or HTTP.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tonic::{Request, Response, Status};

use super::certificates::Issued;
use super::gateway;

/// What the collector speaks, as `telemetry.otlp_protocol` has it.
pub const PROTOCOLS: [&str; 2] = ["grpc", "http"];

/// What was exported.
#[derive(Debug, Clone, Default)]
struct Seen {
    spans: Arc<Mutex<Vec<Span>>>,
    schemas: Arc<Mutex<Vec<String>>>,
    /// The `authorization` of each export.
    tokens: Arc<Mutex<Vec<String>>>,
}

/// A collector. It ends with its test.
#[derive(Debug)]
pub struct Collector {
    seen: Seen,
    url: String,
    protocol: &'static str,
    _serving: JoinSet<()>,
}

#[tonic::async_trait]
impl TraceService for Seen {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let token = request.metadata().get("authorization").map(|token| token.to_str().unwrap().to_owned());
        self.take(request.into_inner(), token);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Seen {
    fn take(&self, request: ExportTraceServiceRequest, token: Option<String>) {
        self.tokens.lock().unwrap().push(token.unwrap_or_default());
        for scope in request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans) {
            self.schemas.lock().unwrap().push(scope.schema_url);
            self.spans.lock().unwrap().extend(scope.spans);
        }
    }

    async fn serve<S>(self, stream: S, is_grpc: bool)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let stream = TokioIo::new(stream);
        if is_grpc {
            let routes = tonic::service::Routes::new(TraceServiceServer::new(self)).prepare();
            let service = hyper_util::service::TowerToHyperService::new(routes.into_axum_router());
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            drop(server.serve_connection(stream, service).await);
        } else {
            let answer = tower::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let seen = self.clone();
                async move {
                    let (parts, body) = request.into_parts();
                    assert_eq!(parts.uri.path(), "/v1/traces");
                    assert_eq!(parts.headers["content-type"], "application/x-protobuf");
                    let body = body.collect().await.unwrap().to_bytes();
                    let token = parts.headers.get("authorization");
                    let token = token.map(|token| token.to_str().unwrap().to_owned());
                    seen.take(ExportTraceServiceRequest::decode(body).unwrap(), token);
                    Ok::<_, Infallible>(http::Response::new(http_body_util::Empty::<Bytes>::new()))
                }
            });
            let service = hyper_util::service::TowerToHyperService::new(answer);
            let server = hyper::server::conn::http1::Builder::new();
            drop(server.serve_connection(stream, service).await);
        }
    }
}

impl Collector {
    pub async fn start(protocol: &'static str) -> Self {
        Self::behind(protocol, None).await
    }

    /// One that speaks TLS by this certificate.
    pub async fn secure(protocol: &'static str, certificate: &Issued) -> Self {
        Self::behind(protocol, Some(certificate)).await
    }

    async fn behind(protocol: &'static str, certificate: Option<&Issued>) -> Self {
        let (seen, is_grpc) = (Seen::default(), protocol == "grpc");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let tls = certificate.map(|certificate| acceptor(certificate, is_grpc));
        let url = match &tls {
            Some(_) => format!("https://{address}"),
            None => format!("http://{address}"),
        };
        let (mut serving, taking) = (JoinSet::new(), seen.clone());
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (seen, tls) = (taking.clone(), tls.clone());
                connections.spawn(async move {
                    match tls {
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                seen.serve(stream, is_grpc).await;
                            }
                        }
                        None => seen.serve(stream, is_grpc).await,
                    }
                });
            }
        });
        Self { seen, url, protocol, _serving: serving }
    }

    /// The environment of a gateway that exports here, and of itself begins no trace.
    pub fn environment(&self) -> [(&'static str, String); 3] {
        [
            ("WHATSAPP_GATEWAY__TELEMETRY__OTLP_ENDPOINT", self.url.clone()),
            ("WHATSAPP_GATEWAY__TELEMETRY__OTLP_PROTOCOL", self.protocol.to_owned()),
            ("WHATSAPP_GATEWAY__TELEMETRY__SAMPLING_RATIO", "0".to_owned()),
        ]
    }

    /// A gateway of `dev` that exports here.
    pub fn gateway(&self) -> gateway::Builder {
        let builder = gateway::Gateway::builder();
        self.environment().iter().fold(builder, |builder, (name, value)| builder.env(name, value))
    }

    pub fn spans(&self) -> Vec<Span> {
        self.seen.spans.lock().unwrap().clone()
    }

    /// The spans of this name.
    pub fn named(&self, name: &str) -> Vec<Span> {
        self.spans().into_iter().filter(|span| span.name == name).collect()
    }

    /// The versions of the conventions that spans claim to follow.
    pub fn schemas(&self) -> Vec<String> {
        self.seen.schemas.lock().unwrap().clone()
    }

    pub fn tokens(&self) -> Vec<String> {
        self.seen.tokens.lock().unwrap().clone()
    }
}

fn acceptor(certificate: &Issued, is_grpc: bool) -> TlsAcceptor {
    let certificates = CertificateDer::pem_file_iter(&certificate.cert).unwrap();
    let certificates = certificates.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(&certificate.key).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut config = builder.with_single_cert(certificates, key).unwrap();
    config.alpn_protocols = vec![if is_grpc { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    TlsAcceptor::from(Arc::new(config))
}

/// What an attribute of a span says.
pub fn attribute(span: &Span, key: &str) -> Option<String> {
    let value = span.attributes.iter().find(|pair| pair.key == key)?.value.clone()?.value?;
    if let Value::IntValue(number) = value {
        return Some(number.to_string());
    }
    let Value::StringValue(text) = value else { panic!("{key}: {value:?}") };
    Some(text)
}
