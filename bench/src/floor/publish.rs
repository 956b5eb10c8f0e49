//! What the gateway makes durable in NATS, published bare: everything that waits as one atomic batch, one batch at a time, into
//! a stream with the gateway's settings. Nothing is read, kept or known of what was published before.

use std::path::Path;

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
    /// Makes a stream of that name on the servers of `url`, comma separated, with the newest `newest` messages of each subject (-1: all), and publishes into it.
    pub(super) async fn open(url: &str, name: &str, replicas: u8, newest: i64) -> Result<Self> {
        let client = async_nats::connect(url.split(',').collect::<Vec<_>>()).await?;
        let config = json!({
            "name": name, "subjects": [format!("{name}.>")], "retention": "limits", "storage": "file",
            "num_replicas": replicas, "discard": "new", "max_msgs_per_subject": newest, "max_bytes": -1,
            "allow_atomic": true, "allow_direct": true, "allow_msg_ttl": newest == 1, "deny_delete": true,
        });
        let request = Request::new().payload(config.to_string().into());
        let answer = client.send_request(format!("$JS.API.STREAM.CREATE.{name}"), request).await?;
        acknowledged(&answer.payload)?;
        let (jobs, queue) = mpsc::unbounded_channel();
        let name = name.to_owned();
        tokio::spawn(async move {
            if let Err(error) = run(&client, &name, queue).await {
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
async fn run(client: &Client, name: &str, mut queue: mpsc::UnboundedReceiver<Job>) -> Result<()> {
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
        store(client, name, &batch_number.to_string(), &group).await?;
        for job in group {
            // Whoever wanted it may have left.
            let _left = job.done.send(());
        }
    }
    Ok(())
}

async fn store(client: &Client, name: &str, batch: &str, group: &[Job]) -> Result<()> {
    let messages: Vec<&Message> = group.iter().flat_map(|job| &job.messages).collect();
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
    event: Bytes,
}

/// Webhooks into NATS: axum, the signature, a batch, 200. Nothing is read from the body.
pub(super) async fn serve(url: &str, like: &Path, replicas: u8) -> Result<()> {
    let publisher = Publisher::open(url, "bare_events", replicas, -1).await?;
    let event = append::model(like)?.1.encoded().into();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    super::say_ready(&json!({"webhook": listener.local_addr()?.to_string()}));
    let port = Port { signer: Signer::new()?, publisher, event };
    let router = Router::new().route("/webhook", post(receive)).with_state(port);
    Ok(axum::serve(listener, router).await?)
}

async fn receive(State(port): State<Port>, headers: axum::http::HeaderMap, body: Bytes) -> StatusCode {
    let Some(id) = verified(&port.signer, &headers, &body) else { return StatusCode::UNAUTHORIZED };
    let message = Message { token: hex::encode(id), payload: port.event.clone(), is_first: true };
    if port.publisher.publish(vec![message]).await { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
