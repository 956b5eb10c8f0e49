//! Spans that leave the process: a collector of the test's own receives them over OTLP.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use whatsapp_gateway::contract::v1;

use crate::eventually;
use crate::support::Gateway;

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[derive(Debug, Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>, TaskTracker);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans.into_iter();
        let spans = resources.flat_map(|r| r.scope_spans).flat_map(|s| s.spans);
        self.0.lock().unwrap().extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn start() -> (Self, SocketAddr) {
        let collector = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Routes::new(TraceServiceServer::new(collector.clone()));
        let serving = axum::serve(listener, routes.prepare().into_axum_router()).into_future();
        collector.1.spawn(serving);
        (collector, address)
    }

    fn spans(&self) -> Vec<Span> {
        self.0.lock().unwrap().clone()
    }

    fn of_trace(&self, name: &str) -> Option<Span> {
        let spans = self.spans().into_iter();
        spans.filter(|span| hex::encode(&span.trace_id) == TRACE_ID).find(|span| span.name == name)
    }
}

fn send(body: &str) -> Request<v1::SendMessageRequest> {
    let address = v1::recipient::Address::PhoneNumber("+16505551234".to_owned());
    let text = v1::Text { body: body.to_owned(), preview_url: false };
    let mut request = Request::new(v1::SendMessageRequest {
        recipient: Some(v1::Recipient { address: Some(address) }),
        content: Some(v1::send_message_request::Content::Text(text)),
        ..Default::default()
    });
    let traceparent = format!("00-{TRACE_ID}-00f067aa0ba902b7-01");
    request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
    request
}

#[tokio::test]
async fn a_callers_trace_reaches_the_call_to_meta() {
    let (collector, address) = Collector::start().await;
    let mut gateway = Gateway::builder()
        .env("WHATSAPP_GATEWAY__TELEMETRY__OTLP_ENDPOINT", &format!("http://{address}"))
        .start()
        .await;
    gateway.client().await.send_message(send("canary-text")).await.unwrap();
    assert_eq!(gateway.terminate().await, Some(0));

    // Ending the process flushed what was not exported yet.
    eventually!(collector.of_trace("whatsapp.gateway.v1.GatewayService/SendMessage").is_some());
    let server = collector.of_trace("whatsapp.gateway.v1.GatewayService/SendMessage").unwrap();
    assert_eq!(hex::encode(&server.parent_span_id), "00f067aa0ba902b7");
    let names: Vec<String> = collector.spans().into_iter().map(|span| span.name).collect();
    let send = collector.of_trace("send_message").unwrap_or_else(|| panic!("no send: {names:?}"));
    assert_eq!(send.parent_span_id, server.span_id);
    let call = collector.spans().into_iter().find(|span| span.parent_span_id == send.span_id);
    assert!(call.is_some(), "no call to Meta: {names:?}");
    let printed = format!("{:?}", collector.spans());
    for secret in ["canary-text", "16505551234", "dev-access-token", "dev-app-secret"] {
        assert!(!printed.contains(secret), "{secret} is in a trace");
    }
}

#[tokio::test]
async fn nothing_waits_for_a_collector_that_is_away() {
    let mut gateway = Gateway::builder()
        .env("WHATSAPP_GATEWAY__TELEMETRY__OTLP_ENDPOINT", "http://127.0.0.1:9")
        .start()
        .await;
    gateway.client().await.send_message(send("Hi")).await.unwrap();
    assert_eq!(gateway.terminate().await, Some(0));
}
