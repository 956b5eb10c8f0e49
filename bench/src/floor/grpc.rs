//! The gRPC methods that are measured, with nothing between tonic and reqwest, or tonic and bytes that are encoded
//! already.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::State;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{Stream, stream};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc, NamedService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};
use whatsapp_gateway::contract::v1;

use super::claims::{Claims, Write};
use super::publish::Publisher;
use super::{REPLICAS, append, media};
use crate::Result;
use crate::webhook::PHONE_NUMBER_ID;

/// Bytes of one frame, as in the gateway.
const FRAME_BYTES_MAX: usize = 64 * 1024;

#[derive(Clone)]
pub(super) struct Floor {
    pub(super) http: reqwest::Client,
    pub(super) graph: String,
    events: Arc<Events>,
    claims: Claims,
}

/// Everything that was posted, encoded, and how much that is.
struct Events {
    /// An event of the gateway, framed as one of a batch.
    model: Bytes,
    encoded: RwLock<Vec<Bytes>>,
    tail: watch::Sender<usize>,
}

/// Claims become durable in `folder`, or in NATS if its address is given.
pub(super) async fn serve(graph: SocketAddr, like: &Path, folder: &Path, nats: Option<&str>) -> Result<()> {
    let http = reqwest::Client::builder().http1_only().tcp_nodelay(true).build()?;
    // `EventBatch.events` around `ReceivedEvent.event`.
    let model = field(1, &field(1, &append::model(like)?.1.encoded()));
    let events = Arc::new(Events { model, encoded: RwLock::default(), tail: watch::Sender::new(0) });
    let claims = match nats {
        Some(url) => Claims::Published(Publisher::open(url, "bare_state", REPLICAS, 1, false).await?),
        None => Claims::open(folder, like)?,
    };
    let floor = Floor { http, graph: format!("http://{graph}/v25.0"), events: Arc::clone(&events), claims };
    let (grpc, source) = (TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?);
    super::say_ready(
        &json!({"grpc": grpc.local_addr()?.to_string(), "webhook": source.local_addr()?.to_string()}),
    );
    let router = Router::new().route("/webhook", axum::routing::post(post)).with_state(events);
    tokio::spawn(async move { axum::serve(source, router).await });
    let incoming = tonic::transport::server::TcpIncoming::from(grpc).with_nodelay(Some(true));
    Ok(tonic::transport::Server::builder().add_service(floor).serve_with_incoming(incoming).await?)
}

/// Another event for all streams.
async fn post(State(events): State<Arc<Events>>) {
    let mut all = events.encoded.write().unwrap_or_else(PoisonError::into_inner);
    all.push(Bytes::copy_from_slice(&events.model));
    events.tail.send_replace(all.len());
}

/// A field of bytes.
fn field(number: u32, bytes: &[u8]) -> Bytes {
    let mut encoded = BytesMut::with_capacity(bytes.len() + 10);
    prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut encoded);
    prost::encoding::encode_varint(bytes.len() as u64, &mut encoded);
    encoded.put_slice(bytes);
    encoded.freeze()
}

impl Floor {
    /// With a request id, what must be durable before the call is, and what came of it right after the answer.
    async fn send(
        &self,
        request: v1::SendMessageRequest,
    ) -> std::result::Result<Response<v1::SendMessageResponse>, Status> {
        if request.request_id.is_empty() {
            return self.post(request).await;
        }
        let id = Bytes::from(request.request_id.clone());
        self.claims.write(Write::Claim(id.clone())).await?;
        let answer = self.post(request).await;
        let claims = self.claims.clone();
        tokio::spawn(async move { claims.write(Write::Settle(id)).await });
        answer
    }

    async fn post(
        &self,
        request: v1::SendMessageRequest,
    ) -> std::result::Result<Response<v1::SendMessageResponse>, Status> {
        let Some(v1::recipient::Address::PhoneNumber(number)) = request.recipient.and_then(|r| r.address)
        else {
            return Err(Status::invalid_argument("recipient"));
        };
        let Some(v1::send_message_request::Content::Text(text)) = request.content else {
            return Err(Status::invalid_argument("content"));
        };
        let body = json!({
            "messaging_product": "whatsapp",
            "recipient_type": "individual",
            "to": number,
            "biz_opaque_callback_data": "g1.AZ1234567890abcdefghij.",
            "type": "text",
            "text": {"body": text.body},
        });
        let url = format!("{}/{PHONE_NUMBER_ID}/messages", self.graph);
        let request =
            self.http.post(url).bearer_auth("bench-access-token").header("content-type", "application/json");
        let answer = async { request.body(body.to_string()).send().await?.error_for_status()?.bytes().await };
        let answer = answer.await.map_err(|error| Status::unavailable(error.to_string()))?;
        let answer: Value =
            serde_json::from_slice(&answer).map_err(|error| Status::unknown(error.to_string()))?;
        let id = answer.pointer("/messages/0/id").and_then(Value::as_str);
        let message_id = id.ok_or_else(|| Status::unknown("no id"))?.to_owned();
        Ok(Response::new(v1::SendMessageResponse { message_id, ..Default::default() }))
    }

    /// Says that it is live, and then sends what was posted since the last time, in one frame.
    fn subscribe(&self) -> impl Stream<Item = std::result::Result<Bytes, Status>> + use<> {
        let events = Arc::clone(&self.events);
        let tail = events.tail.subscribe();
        let at = *tail.borrow();
        stream::unfold((events, tail, at, false), |(events, mut tail, at, is_open)| async move {
            if !is_open {
                return Some((Ok(field(4, &[])), (events, tail, at, true)));
            }
            tail.wait_for(|tail| *tail > at).await.ok()?;
            let (frame, next) = events.frame(at);
            Some((Ok(frame), (events, tail, next, true)))
        })
    }
}

impl Events {
    /// What follows a position, up to the limit of a frame, and the position after it.
    fn frame(&self, after: usize) -> (Bytes, usize) {
        let all = self.encoded.read().unwrap_or_else(PoisonError::into_inner);
        let (mut batch, mut next) = (BytesMut::new(), after);
        for event in all.iter().skip(after) {
            if !batch.is_empty() && batch.len() + event.len() > FRAME_BYTES_MAX {
                break;
            }
            batch.put_slice(event);
            next += 1;
        }
        (field(2, &batch), next)
    }
}

impl NamedService for Floor {
    const NAME: &'static str = "whatsapp.gateway.v1.GatewayService";
}

impl Service<http::Request<Body>> for Floor {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = std::result::Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let floor = self.clone();
        Box::pin(async move {
            let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
            let response = match method.as_str() {
                "SendMessage" => {
                    let send = service_fn(async |request: Request<_>| floor.send(request.into_inner()).await);
                    Grpc::new(ProstCodec::default()).unary(send, request).await
                }
                "SubscribeEvents" => {
                    let subscribe = service_fn(async |_| Ok(Response::new(floor.subscribe())));
                    Grpc::new(EncodedCodec).server_streaming(subscribe, request).await
                }
                "UploadMedia" => {
                    let upload = service_fn(async |request: Request<_>| {
                        media::upload(&floor, request.into_inner()).await
                    });
                    Grpc::new(ProstCodec::default()).client_streaming(upload, request).await
                }
                "DownloadMedia" => {
                    let download = service_fn(async |request: Request<v1::DownloadMediaRequest>| {
                        media::download(&floor, request.into_inner().media_id).await
                    });
                    Grpc::new(ProstCodec::default()).server_streaming(download, request).await
                }
                _ => Status::unimplemented("not measured").into_http(),
            };
            Ok(response)
        })
    }
}

/// Sends bytes as they are; what comes is passed over.
#[derive(Debug, Clone, Copy)]
struct EncodedCodec;

impl Codec for EncodedCodec {
    type Encode = Bytes;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for EncodedCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> std::result::Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for EncodedCodec {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> std::result::Result<Option<()>, Status> {
        bytes::Buf::advance(buffer, bytes::Buf::remaining(buffer));
        Ok(Some(()))
    }
}
