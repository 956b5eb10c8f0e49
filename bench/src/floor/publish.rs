//! What the gateway must make durable in NATS before it answers, published bare: everything that waits as one atomic batch, one
//! batch at a time, into a stream with the gateway's settings. Nothing is read of what was published before.
//!
//! An event is one message, the first of its subject. Before the first event of a user comes a claim of his name, since two
//! gateways that meet him at the same moment must give him one conversation; claims that wait share a message. What the gateway
//! writes afterwards, without anybody waiting for it (windows, names and states of messages), is not published.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_nats::{Client, HeaderMap, Request};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use super::append::{self, verified};
use crate::Result;
use crate::webhook::Signer;

/// Messages of one batch at most, as in the gateway.
const BATCH_MAX: usize = 512;

/// Bytes of a claim, about as in the gateway.
const CLAIM: [u8; 105] = [4; 105];

/// What one caller wants to be durable at once.
struct Job {
    messages: Vec<Message>,
    done: oneshot::Sender<()>,
}

/// A message: what its subject ends with, and what it holds.
pub(super) struct Message {
    pub(super) token: String,
    pub(super) payload: Bytes,
    /// Whether it must be the first of its subject, as events must.
    pub(super) is_first: bool,
}

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Publisher(mpsc::UnboundedSender<Job>);

impl Publisher {
    /// Makes a stream of that name and of this process on the servers of `url`, comma separated, with the newest `newest` messages of each subject
    /// (-1: all), and publishes into it; what waits `joined`, if that is said, into one message.
    pub(super) async fn open(url: &str, name: &str, replicas: u8, newest: i64, joined: bool) -> Result<Self> {
        let client = async_nats::connect(url.split(',').collect::<Vec<_>>()).await?;
        let name = format!("{name}_{}", std::process::id());
        let config = json!({
            "name": name, "subjects": [format!("{name}.>")], "retention": "limits", "storage": "file",
            "num_replicas": replicas, "discard": "new", "max_msgs_per_subject": newest, "max_bytes": -1,
            "allow_atomic": true, "allow_direct": true, "allow_msg_ttl": newest == 1, "deny_delete": true,
        });
        let request = Request::new().payload(config.to_string().into());
        let answer = client.send_request(format!("$JS.API.STREAM.CREATE.{name}"), request).await?;
        acknowledged(&answer.payload)?;
        let (jobs, queue) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            if let Err(error) = run(&client, &name, joined, queue).await {
                eprintln!("gateway-bench: nothing was published: {error}");
            }
        });
        Ok(Self(jobs))
    }

    /// Durable when it returns true.
    pub(super) async fn publish(&self, messages: Vec<Message>) -> bool {
        let (done, is_done) = oneshot::channel();
        self.0.send(Job { messages, done }).is_ok() && is_done.await.is_ok()
    }
}

/// Ends, and with it the process's answers, at the first failure.
async fn run(
    client: &Client,
    name: &str,
    joined: bool,
    mut queue: mpsc::UnboundedReceiver<Job>,
) -> Result<()> {
    let mut batch_number = 0_u64;
    while let Some(first) = queue.recv().await {
        let mut group = vec![first];
        let mut count = group.iter().map(|job| job.messages.len()).sum::<usize>();
        while count < BATCH_MAX
            && let Ok(job) = queue.try_recv()
        {
            count += job.messages.len();
            group.push(job);
        }
        batch_number += 1;
        let messages: Vec<&Message> = group.iter().flat_map(|job| &job.messages).collect();
        let batch = batch_number.to_string();
        if joined {
            let payload: Vec<u8> = messages.iter().flat_map(|message| &message.payload).copied().collect();
            let message = Message { token: batch.clone(), payload: payload.into(), is_first: false };
            store(client, name, &batch, &[&message]).await?;
        } else {
            store(client, name, &batch, &messages).await?;
        }
        for job in group {
            // Whoever wanted it may have left.
            let _left = job.done.send(());
        }
    }
    Ok(())
}

async fn store(client: &Client, name: &str, batch: &str, messages: &[&Message]) -> Result<()> {
    for (index, message) in messages.iter().enumerate() {
        let is_last = index + 1 == messages.len();
        let mut headers = HeaderMap::new();
        if message.is_first {
            headers.insert("Nats-Expected-Last-Subject-Sequence", "0");
        }
        if messages.len() > 1 {
            headers.insert("Nats-Batch-Id", batch);
            headers.insert("Nats-Batch-Sequence", (index + 1).to_string());
            if is_last {
                headers.insert("Nats-Batch-Commit", "1");
            }
        }
        let (subject, payload) = (format!("{name}.{}", message.token), message.payload.clone());
        if is_last {
            let request = Request::new().payload(payload).headers(headers);
            acknowledged(&client.send_request(subject, request).await?.payload)?;
        } else {
            client.publish_with_headers(subject, headers, payload).await?;
        }
    }
    Ok(())
}

fn acknowledged(answer: &[u8]) -> Result<()> {
    let answer: Value = serde_json::from_slice(answer)?;
    answer.get("error").map_or(Ok(()), |error| Err(error.to_string().into()))
}

#[derive(Clone)]
struct Port {
    signer: Signer,
    publisher: Publisher,
    claims: Publisher,
    /// Users that have been met.
    users: Arc<Mutex<HashSet<Box<str>>>>,
    event: Bytes,
}

/// Webhooks into NATS: axum, the signature, a claim if the user is new, a batch, 200. Nothing but the user is read from the body.
pub(super) async fn serve(url: &str, like: &Path, replicas: u8) -> Result<()> {
    let publisher = Publisher::open(url, "bare_events", replicas, -1, false).await?;
    let claims = Publisher::open(url, "bare_claims", replicas, 1, true).await?;
    let event = append::model(like)?.1.encoded().into();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    super::say_ready(&json!({"webhook": listener.local_addr()?.to_string()}));
    let port = Port { signer: Signer::new()?, publisher, claims, users: Arc::default(), event };
    let router = Router::new().route("/webhook", post(receive)).with_state(port);
    Ok(axum::serve(listener, router).await?)
}

async fn receive(State(port): State<Port>, headers: axum::http::HeaderMap, body: Bytes) -> StatusCode {
    let Some(id) = verified(&port.signer, &headers, &body) else { return StatusCode::UNAUTHORIZED };
    let user = user_of(&body).unwrap_or_default();
    let is_new = port.users.lock().unwrap_or_else(PoisonError::into_inner).insert(user.into());
    if is_new {
        let payload = Bytes::from_static(&CLAIM);
        let claim = Message { token: String::new(), payload, is_first: false };
        if !port.claims.publish(vec![claim]).await {
            return StatusCode::SERVICE_UNAVAILABLE;
        }
    }
    let message = Message { token: hex::encode(id), payload: port.event.clone(), is_first: true };
    if port.publisher.publish(vec![message]).await { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// Who wrote the message.
fn user_of(body: &[u8]) -> Option<&str> {
    let (_, rest) = std::str::from_utf8(body).ok()?.split_once(r#""wa_id":""#)?;
    rest.split('"').next()
}
