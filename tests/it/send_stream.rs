//! Many sends on one stream: one answer for each, as much in work as there is room for, and no more.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::stream;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;
use whatsapp_gateway::contract::v1::gateway_service_client::GatewayServiceClient;
use whatsapp_gateway::contract::v1::send_messages_response::Result as Answer;
use whatsapp_gateway::contract::v1::{self, SendState};

use crate::eventually;
use crate::support::gateway::{Client, PATIENCE};
use crate::support::rpc::{OPEN, Refusal, queued, text_to};
use crate::support::webhook::PHONE_NUMBER_ID;
use crate::support::{Gateway, Serve, rounds};

/// Where no webhook arrives.
const NOWHERE: &str = "http://127.0.0.1:9/webhook";
/// Requests of one stream that are in work at once.
const IN_WORK_MAX: usize = 256;

/// An open stream.
pub struct Sends {
    requests: mpsc::Sender<v1::SendMessagesRequest>,
    answers: Streaming<v1::SendMessagesResponse>,
}

impl Sends {
    pub async fn open(client: &mut Client) -> Result<Self, Status> {
        let (requests, read) = mpsc::channel(1);
        let read = stream::unfold(read, async |mut read| Some((read.recv().await?, read)));
        let answers = timeout(PATIENCE, client.send_messages(read)).await.expect("no stream in time")?;
        Ok(Self { requests, answers: answers.into_inner() })
    }

    pub async fn write(&self, key: &str, message: v1::SendMessageRequest) {
        let request =
            v1::SendMessagesRequest { key: key.to_owned(), message: Some(message), ..Default::default() };
        timeout(PATIENCE, self.requests.send(request)).await.expect("the gateway does not read").unwrap();
    }

    async fn answer(&mut self) -> Result<Option<(String, Answer)>, Status> {
        let answer = timeout(PATIENCE, self.answers.message()).await.expect("no answer in time")?;
        Ok(answer.map(|answer| (answer.key, answer.result.unwrap())))
    }

    /// Closes the side of the caller and reads to the end: every answer by its key, and the status.
    pub async fn rest(self) -> (HashMap<String, Answer>, Result<(), Status>) {
        let Self { requests, answers } = self;
        drop(requests);
        let mut this = Self { requests: mpsc::channel(1).0, answers };
        let mut all = HashMap::new();
        loop {
            match this.answer().await {
                Ok(Some((key, answer))) => assert!(all.insert(key, answer).is_none(), "answered twice"),
                Ok(None) => return (all, Ok(())),
                Err(status) => return (all, Err(status)),
            }
        }
    }
}

pub fn response(answer: &Answer) -> &v1::SendMessageResponse {
    match answer {
        Answer::Response(response) => response,
        Answer::Error(error) => panic!("{error:?}"),
    }
}

/// The refusal of one request, as a unary call would have it.
fn refusal(answer: &Answer) -> Refusal {
    let Answer::Error(error) = answer else { panic!("{answer:?}") };
    let details = prost::Message::encode_to_vec(error);
    let code = Code::from_i32(error.code);
    Refusal::of(&Status::with_details(code, error.message.clone(), details.into()))
}

fn to(number: usize, body: &str) -> v1::SendMessageRequest {
    let phone_number_id = PHONE_NUMBER_ID.to_owned();
    v1::SendMessageRequest { phone_number_id, ..text_to(&format!("+1650{number:07}"), body) }
}

async fn fast() -> Serve {
    let builder = Serve::builder()
        .env("WHATSAPP_GATEWAY__SENDING__MESSAGES_PER_SECOND", "1000000")
        .env("WHATSAPP_GATEWAY__TELEMETRY__LOG_LEVEL", "error");
    let serve = builder.start().await;
    serve.gateway.without_limits().await;
    serve.gateway.simulate("webhook_url", &json!({"url": NOWHERE})).await;
    serve
}

/// The number's rate fixed to this.
async fn slow(per_second: &str) -> Serve {
    Serve::builder().env("WHATSAPP_GATEWAY__SENDING__MESSAGES_PER_SECOND", per_second).start().await
}

#[tokio::test]
async fn every_request_has_one_answer_and_a_bad_one_ends_nothing() {
    let gateway = Gateway::dev().await;
    let mut sends = Sends::open(&mut gateway.client().await).await.unwrap();
    for number in 0..20 {
        sends.write(&number.to_string(), text_to(OPEN, "Hello")).await;
    }
    sends.write("bad", v1::SendMessageRequest { content: None, ..text_to("0170", "") }).await;
    sends.write("refused", text_to("+15550131030", "Hello")).await;
    sends.write(&"k".repeat(129), text_to(OPEN, "Hello")).await;
    let nothing = v1::SendMessagesRequest { key: "nothing".to_owned(), ..Default::default() };
    sends.requests.send(nothing).await.unwrap();
    let later = v1::SendMessageRequest { phone_number_id: String::new(), ..queued("q", OPEN, "Hello") };
    sends.write("queued", later).await;
    // The first answers come while the stream is open.
    let (key, first) = sends.answer().await.unwrap().unwrap();
    let (mut answers, end) = sends.rest().await;
    assert!(answers.insert(key, first).is_none());
    end.unwrap();
    assert_eq!(answers.len(), 25);
    for number in 0..20 {
        let response = response(&answers[&number.to_string()]);
        assert_eq!(response.state(), SendState::Accepted);
        assert!(!response.message_id.is_empty());
    }
    let bad = refusal(&answers["bad"]);
    assert_eq!(bad.is(), (Code::InvalidArgument, "VALIDATION_FAILED"));
    assert_eq!(bad.fields(), ["content", "recipient.phone_number"]);
    let refused = refusal(&answers["refused"]);
    assert_eq!(refused.is(), (Code::FailedPrecondition, "RECIPIENT_NOT_ALLOWED"));
    assert_eq!(refused.metadata["meta_code"], "131030");
    assert_eq!(refusal(&answers[&"k".repeat(129)]).fields(), ["key"]);
    assert_eq!(refusal(&answers["nothing"]).fields(), ["message"]);
    assert_eq!(response(&answers["queued"]).state(), SendState::Queued);
    eventually!(gateway.sent_bodies().await.len() == 22);
    let (_, metrics) = gateway.admin("/metrics").await;
    assert!(metrics.contains("rpc_method=\"whatsapp.gateway.v1.GatewayService/SendMessages\""));
    eventually!(gateway.admin("/metrics").await.1.contains("whatsapp_gateway_send_streams 0"));
}

/// Resident bytes of the gateway.
fn resident(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.child.id().unwrap())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_campaign_runs_in_constant_memory() {
    let serve = fast().await;
    let count = usize::try_from(rounds(5000, 100_000)).unwrap();
    let Sends { requests, mut answers } = Sends::open(&mut serve.gateway.client().await).await.unwrap();
    let body = "x".repeat(1000);
    let started = Instant::now();
    let mut writer = JoinSet::new();
    writer.spawn(async move {
        for number in 0..count {
            let (key, message) = (number.to_string(), Some(to(number, &body)));
            requests.send(v1::SendMessagesRequest { key, message, ..Default::default() }).await.unwrap();
        }
    });
    let (mut accepted, mut at_first, mut most) = (vec![false; count], 0, 0);
    for answered in 1..=count {
        let answer = timeout(PATIENCE, answers.message()).await.expect("no answer in time").unwrap().unwrap();
        response(answer.result.as_ref().unwrap());
        let number: usize = answer.key.parse().unwrap();
        assert!(!std::mem::replace(&mut accepted[number], true), "{number} was answered twice");
        // Until then caches fill.
        if answered == count / 5 {
            at_first = resident(&serve.gateway);
        }
        if answered % 500 == 0 {
            most = most.max(resident(&serve.gateway));
        }
    }
    assert!(answers.message().await.unwrap().is_none());
    writer.join_all().await;
    let mib = |bytes: u64| bytes / (1 << 20);
    println!(
        "{count} sends of 1 kB in {:?}: {} MiB after a fifth, {} MiB at most",
        started.elapsed(),
        mib(at_first),
        mib(most)
    );
    assert!(most < at_first + (32 << 20), "{} MiB, then {} MiB", mib(at_first), mib(most));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_the_answers_is_not_read_either() {
    let serve = fast().await;
    let count = 3000;
    // Small windows, so that little fits between the two.
    let endpoint = serve.gateway.endpoint().initial_stream_window_size(65_535);
    let mut client = GatewayServiceClient::new(endpoint.connect().await.unwrap());
    let Sends { requests, answers } = Sends::open(&mut client).await.unwrap();
    let mut writer = JoinSet::new();
    writer.spawn(async move {
        for number in 0..count {
            let request = v1::SendMessagesRequest {
                key: number.to_string(),
                message: Some(to(number, &"x".repeat(1000))),
                ..Default::default()
            };
            requests.send(request).await.unwrap();
        }
    });
    // It comes to a halt: as many as are in work, and the answers that fit into the caller's window.
    let mut sent = 0;
    eventually!({
        let before = std::mem::replace(&mut sent, serve.gateway.sent_bodies().await.len());
        sent >= IN_WORK_MAX && {
            tokio::time::sleep(Duration::from_millis(500)).await;
            before == sent && serve.gateway.sent_bodies().await.len() == sent
        }
    });
    assert!(
        writer.try_join_next().is_none() && sent < count / 2,
        "{sent} were sent to somebody who does not read"
    );
    let (all, end) = Sends { requests: mpsc::channel(1).0, answers }.rest().await;
    end.unwrap();
    writer.join_all().await;
    assert_eq!(all.len(), count);
    assert!(all.values().all(|answer| response(answer).state() == SendState::Accepted));
}

#[tokio::test]
async fn what_was_read_is_sent_though_the_stream_breaks() {
    let serve = slow("40").await;
    let mut sends = Sends::open(&mut serve.gateway.client().await).await.unwrap();
    let request = |number: usize| v1::SendMessageRequest {
        request_id: format!("campaign-{number}"),
        ..to(number, "Hello")
    };
    for number in 0..80 {
        sends.write(&number.to_string(), request(number)).await;
    }
    for _ in 0..5 {
        response(&sends.answer().await.unwrap().unwrap().1);
    }
    drop(sends);
    eventually!(serve.gateway.sent_bodies().await.len() == 80);
    let again = Sends::open(&mut serve.gateway.client().await).await.unwrap();
    for number in 0..80 {
        again.write(&number.to_string(), request(number)).await;
    }
    let (answers, end) = again.rest().await;
    end.unwrap();
    assert!(answers.values().all(|answer| response(answer).replayed), "{answers:?}");
    // The same request by the other RPC.
    let alone = serve.gateway.send(request(7)).await;
    assert!(alone.replayed);
    assert_eq!(serve.gateway.sent_bodies().await.len(), 80);
}

#[tokio::test]
async fn a_drain_answers_what_was_read_and_ends_the_stream() {
    let mut serve = slow("20").await;
    let sends = Sends::open(&mut serve.gateway.client().await).await.unwrap();
    for number in 0..100 {
        sends.write(&number.to_string(), to(number, "Hello")).await;
    }
    eventually!(serve.gateway.sent_bodies().await.len() >= 5);
    serve.gateway.signal_term();
    let Sends { requests, mut answers } = sends;
    let (mut accepted, mut draining) = (0, 0);
    let end = loop {
        let answer = match timeout(PATIENCE, answers.message()).await.expect("no answer in time") {
            Ok(answer) => answer.expect("not OK: the caller has more").result.unwrap(),
            Err(status) => break status,
        };
        match &answer {
            Answer::Response(_) => accepted += 1,
            Answer::Error(_) => {
                assert_eq!(refusal(&answer).is(), (Code::Unavailable, "SERVER_DRAINING"));
                draining += 1;
            }
        }
    };
    assert_eq!(Refusal::of(&end).is(), (Code::Unavailable, "SERVER_DRAINING"));
    assert!(end.get_error_details().retry_info().is_some());
    assert_eq!(accepted + draining, 100, "what was read is answered");
    assert!(draining > 0);
    drop(requests);
    assert_eq!(serve.gateway.wait().await, Some(0));
    assert_eq!(serve.gateway.sent_bodies().await.len(), accepted);
}

#[tokio::test]
async fn there_are_so_many_streams_and_no_more() {
    let gateway = Gateway::builder().env("WHATSAPP_GATEWAY__SENDING__STREAMS_MAX", "1").start().await;
    let mut client = gateway.client().await;
    let first = Sends::open(&mut client).await.unwrap();
    let status = Sends::open(&mut client).await.err().expect("a second stream");
    assert_eq!(Refusal::of(&status).is(), (Code::ResourceExhausted, "STREAM_QUOTA"));
    drop(first);
    eventually!(Sends::open(&mut client).await.is_ok());
}

#[tokio::test]
async fn a_request_that_is_too_large_ends_the_stream_with_the_reason() {
    let gateway = Gateway::builder().env("WHATSAPP_GATEWAY__GRPC__MESSAGE_BYTES_MAX", "64 KiB").start().await;
    let sends = Sends::open(&mut gateway.client().await).await.unwrap();
    sends.write("fine", text_to(OPEN, "Hello")).await;
    sends.write("large", text_to(OPEN, &"x".repeat(100_000))).await;
    let (answers, end) = sends.rest().await;
    assert_eq!(answers.len(), 1, "what was read is answered");
    let refusal = Refusal::of(&end.unwrap_err());
    assert_eq!(refusal.is(), (Code::InvalidArgument, "VALIDATION_FAILED"));
    assert!(refusal.message.contains("65536 bytes"), "{}", refusal.message);
}
