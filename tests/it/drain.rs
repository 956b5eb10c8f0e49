//! The end: new work is turned away, open work finishes, streams say from where to go on.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::{Code, Status, Streaming};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_types::StatusExt as _;
use whatsapp_gateway::contract::v1::{self, ClosingReason};

use crate::eventually;
use crate::support::subscriber::{after, from_earliest, position};
use crate::support::webhook::{signature, text};
use crate::support::{Gateway, Subscriber};

/// Passes free-form messages without an inbound one.
const RECIPIENT: &str = "+15550000013";

fn text_to(recipient: &str, body: &str) -> v1::SendMessageRequest {
    let address = v1::recipient::Address::PhoneNumber(recipient.to_owned());
    let text = v1::Text { body: body.to_owned(), preview_url: false };
    v1::SendMessageRequest {
        recipient: Some(v1::Recipient { address: Some(address) }),
        content: Some(v1::send_message_request::Content::Text(text)),
        ..Default::default()
    }
}

/// The next send is answered so much later; what it asks happens at once.
async fn slow_down(gateway: &Gateway, delay_ms: u64) {
    let fault = json!({"match": {"path_suffix": "/messages"}, "fault": {"delay_ms": delay_ms}});
    gateway.simulate("faults", &fault).await;
}

/// The sends that the Cloud API was asked for.
async fn sends(gateway: &Gateway) -> Vec<Value> {
    gateway.simulator("requests?path=/messages&method=POST").await.as_array().unwrap().clone()
}

/// A call that goes on by itself.
type Call = JoinSet<Result<v1::SendState, Status>>;

/// Sends, and returns when the Cloud API has it.
async fn slow_send(gateway: &Gateway, delay_ms: u64) -> Call {
    slow_down(gateway, delay_ms).await;
    let mut client = gateway.client().await;
    let mut call = JoinSet::new();
    call.spawn(async move {
        let sent = client.send_message(text_to(RECIPIENT, "slow")).await;
        sent.map(|sent| sent.into_inner().state())
    });
    eventually!(!sends(gateway).await.is_empty());
    call
}

async fn watch_health(gateway: &Gateway) -> Streaming<HealthCheckResponse> {
    let mut client = HealthClient::new(gateway.endpoint().connect().await.unwrap());
    let request = HealthCheckRequest { service: String::new() };
    let mut statuses = client.watch(request).await.unwrap().into_inner();
    assert_eq!(statuses.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    statuses
}

/// A webhook whose head was taken and whose body is still to come.
struct OpenWebhook {
    connection: TcpStream,
    body: Vec<u8>,
}

impl OpenWebhook {
    async fn begin(gateway: &Gateway, id: &str) -> Self {
        let body = text(id, "16505551234", "Hi").to_string().into_bytes();
        let head = format!(
            "POST /webhook HTTP/1.1\r\nhost: localhost\r\nx-hub-signature-256: {}\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
            signature(&body),
            body.len()
        );
        let mut connection = TcpStream::connect(gateway.address("webhook")).await.unwrap();
        connection.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 25];
        connection.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
        Self { connection, body }
    }

    async fn finish(mut self) -> String {
        self.connection.write_all(&self.body).await.unwrap();
        let mut answer = String::new();
        self.connection.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_work_finishes_and_streams_say_where_to_go_on() {
    let folder = TempDir::new().unwrap();
    let mut gateway = Gateway::builder().data_dir(folder.path()).start().await;
    for number in 0..3 {
        let body = text(&format!("wamid.{number}"), "16505551234", "Hi").to_string();
        assert_eq!(gateway.post_webhook(body).await, 200);
    }
    let mut streams = Vec::new();
    for _ in 0..10 {
        let mut stream = Subscriber::open(&mut gateway.client().await, from_earliest()).await.unwrap();
        stream.take(3).await.unwrap();
        streams.push(stream);
    }
    let webhook = OpenWebhook::begin(&gateway, "wamid.open").await;
    let mut send = slow_send(&gateway, 1_500).await;
    let mut health = watch_health(&gateway).await;
    let mut other = gateway.client().await;
    other.send_message(text_to(RECIPIENT, "quick")).await.unwrap();

    let started = Instant::now();
    gateway.signal(Signal::TERM);
    assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    eventually!(gateway.admin("/readyz").await == (503, "draining\ningress: accepting\n".to_owned()));
    assert_eq!(gateway.admin("/livez").await.0, 200);
    let mut resume = Vec::new();
    for stream in streams {
        let rest = stream.rest().await;
        let closing = rest.closing.expect("a closing frame");
        assert_eq!(closing.reason(), ClosingReason::Draining);
        assert!(closing.reconnect_after.is_some_and(|wait| wait.seconds <= 2));
        let status = rest.status.expect("a status that is no success");
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert_eq!(status.get_details_error_info().unwrap().reason, "SERVER_DRAINING");
        assert!(position(&closing.resume_cursor) >= 3);
        resume.push((rest.events.len(), closing.resume_cursor));
    }
    // Nothing new, on old connections or new ones.
    let status = other.send_message(text_to(RECIPIENT, "late")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(TcpStream::connect(gateway.address("grpc")).await.is_err());
    assert!(TcpStream::connect(gateway.address("webhook")).await.is_err());

    let answer = webhook.finish().await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(send.join_next().await.unwrap().unwrap().unwrap(), v1::SendState::Accepted);
    assert_eq!(gateway.wait().await, Some(0), "{}", gateway.log());
    let took = started.elapsed();
    assert!(took < Duration::from_secs(10), "the drain took {took:?}");
    eprintln!("drained in {took:?} around a send of 1.5 s");

    // Going on from the cursor misses nothing.
    let gateway = Gateway::builder().data_dir(folder.path()).start().await;
    let everything = gateway.events().await;
    assert!(everything.iter().any(|event| event.subject == "wamid.open"));
    for (seen, cursor) in resume {
        let request = v1::SubscribeEventsRequest { stop_when_caught_up: true, ..after(&cursor) };
        let rest = Subscriber::open(&mut gateway.client().await, request).await.unwrap().rest().await;
        assert_eq!(3 + seen + rest.events.len(), everything.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_drain_everything_is_served_while_not_ready() {
    let folder = TempDir::new().unwrap();
    let builder = Gateway::builder().arguments(&["serve"]);
    let port = |section: &str| format!("WHATSAPP_GATEWAY__{section}__LISTEN");
    let builder = ["GRPC", "WEBHOOK", "ADMIN"]
        .into_iter()
        .fold(builder, |builder, section| builder.env(&port(section), "127.0.0.1:0"));
    let account = [
        ("WHATSAPP_ACCESS_TOKEN", "token"),
        ("WHATSAPP_PHONE_NUMBER_ID", "106540352242922"),
        ("WHATSAPP_BUSINESS_ACCOUNT_ID", "102290129340398"),
        ("WHATSAPP_APP_ID", "1234567890"),
        ("WHATSAPP_APP_SECRET", "dev-app-secret"),
        ("WHATSAPP_VERIFY_TOKEN", "verify"),
        ("WHATSAPP_GATEWAY__STORAGE__DATA_DIR", folder.path().to_str().unwrap()),
        ("WHATSAPP_GATEWAY__SHUTDOWN__DELAY", "2 s"),
    ];
    let builder = account.into_iter().fold(builder, |builder, (name, value)| builder.env(name, value));
    let mut gateway = builder.start().await;
    let mut stream = Subscriber::open(&mut gateway.client().await, from_earliest()).await.unwrap();
    let mut health = watch_health(&gateway).await;
    let started = Instant::now();
    gateway.signal(Signal::TERM);
    assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert_eq!(gateway.admin("/readyz").await.0, 503);
    assert_eq!(gateway.post_webhook(text("wamid.late", "16505551234", "Hi").to_string()).await, 200);
    assert_eq!(stream.take(1).await.unwrap()[0].subject, "wamid.late");
    assert_eq!(gateway.events().await.len(), 1, "a new stream");
    assert!(started.elapsed() < Duration::from_secs(2), "too slow to tell");
    let rest = stream.rest().await;
    assert_eq!(rest.closing.unwrap().reason(), ClosingReason::Draining);
    assert!(started.elapsed() >= Duration::from_secs(2), "drained before the delay was over");
    assert_eq!(gateway.wait().await, Some(0), "{}", gateway.log());
    assert!(started.elapsed() < Duration::from_secs(7), "it took {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_cuts() {
    let mut gateway = Gateway::dev().await;
    let mut send = slow_send(&gateway, 15_000).await;
    gateway.signal(Signal::TERM);
    eventually!(gateway.admin("/readyz").await.0 == 503);
    assert!(send.try_join_next().is_none());
    let started = Instant::now();
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait().await, Some(0), "{}", gateway.log());
    let took = started.elapsed();
    assert!(took < Duration::from_secs(5), "cutting took {took:?}");
    assert!(gateway.log().contains("asked again; cutting"));
    assert!(send.join_next().await.unwrap().unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_send_whose_caller_hangs_up_goes_out_once() {
    let gateway = Gateway::dev().await;
    let mut send = slow_send(&gateway, 1_000).await;
    send.shutdown().await;
    // Its statuses come all the same, and the gateway has taken the answer before it ends.
    eventually!(gateway.events().await.len() == 3);
    let mut gateway = gateway;
    let recorded = sends(&gateway).await;
    assert_eq!(recorded.len(), 1, "{recorded:?}");
    assert_eq!(recorded[0]["body"]["text"]["body"], "slow");
    assert_eq!(gateway.terminate().await, Some(0));
    assert!(!gateway.log().contains("cutting"), "{}", gateway.log());
}

/// Clients that balance by health watch it for ever, and graphical ones keep a reflection call open.
#[tokio::test]
async fn streams_of_health_and_reflection_do_not_hold_the_end_up() {
    let mut gateway = Gateway::dev().await;
    let mut health = watch_health(&gateway).await;
    let mut reflection = ServerReflectionClient::new(gateway.endpoint().connect().await.unwrap());
    let question = MessageRequest::ListServices(String::new());
    let request = ServerReflectionRequest { message_request: Some(question), ..Default::default() };
    let requests = stream::iter([request]).chain(stream::pending());
    let mut answers = reflection.server_reflection_info(requests).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some());

    let started = Instant::now();
    assert_eq!(gateway.terminate().await, Some(0), "{}", gateway.log());
    assert!(started.elapsed() < Duration::from_secs(5), "it took {:?}", started.elapsed());
    assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    // Reflection may notice by itself that nothing more is asked.
    for end in
        [health.message().await.map(drop).unwrap_err()].into_iter().chain(answers.message().await.err())
    {
        assert_eq!(end.code(), Code::Unavailable, "{end:?}");
        assert_eq!(end.get_details_error_info().unwrap().reason, "SERVER_DRAINING");
    }
}

/// 33 of the failure model.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_cancelled_anywhere_go_out_at_most_once() {
    let gateway = Gateway::dev().await;
    gateway.simulate("limits", &json!({"messages_per_second": 1_000_000, "pair_burst": 1_000_000})).await;
    let mut client = gateway.client().await;
    let mut answered = Vec::new();
    for number in 0..40_u64 {
        let body = format!("call {number}");
        let call = client.send_message(text_to(RECIPIENT, &body));
        if tokio::time::timeout(Duration::from_micros(250 * number), call)
            .await
            .is_ok_and(|sent| sent.is_ok())
        {
            answered.push(body);
        }
    }
    let mut last = gateway.client().await;
    last.send_message(text_to(RECIPIENT, "last")).await.unwrap();
    // Statuses are the simulator's own account of what it took: three for each.
    let taken = || async { sends(&gateway).await.len() };
    eventually!(gateway.events().await.len() == 3 * taken().await);
    let mut bodies: Vec<String> = sends(&gateway)
        .await
        .iter()
        .map(|send| send["body"]["text"]["body"].as_str().unwrap().to_owned())
        .collect();
    bodies.sort();
    let count = bodies.len();
    bodies.dedup();
    assert_eq!(bodies.len(), count, "a message went out twice");
    assert!(answered.iter().all(|body| bodies.contains(body)), "answered but not sent");
    eprintln!("{} of 40 calls were answered, {} went out", answered.len(), count - 1);
}
