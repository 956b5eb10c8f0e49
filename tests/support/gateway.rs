//! A gateway process.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use whatsapp_gateway::contract::v1;
use whatsapp_gateway::contract::v1::gateway_service_client::GatewayServiceClient;
use whatsapp_gateway::contract::v1::subscription_service_client::SubscriptionServiceClient;

use super::webhook;

pub type Client = GatewayServiceClient<Channel>;
pub type Subscriptions = SubscriptionServiceClient<Channel>;

/// How long a process may take to start or to end.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The environment of a gateway that does not pace.
pub const UNPACED: [(&str, &str); 2] = [
    ("WHATSAPP_GATEWAY__SENDING__MESSAGES_PER_SECOND", "1000000"),
    ("WHATSAPP_GATEWAY__SENDING__PACE_RECIPIENTS", "false"),
];

/// What to start. The default is `dev` with everything on free ports.
#[derive(Debug, Default)]
pub struct Builder {
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    data_dir: Option<PathBuf>,
    wrapper: Vec<String>,
}

/// A running gateway. It is killed when it goes out of scope; its log stays in its folder until then.
#[derive(Debug)]
pub struct Gateway {
    pub child: Child,
    /// The line it printed when it was ready.
    pub ready: Value,
    pub data_dir: PathBuf,
    pub log_file: PathBuf,
    pub http: reqwest::Client,
    _folder: TempDir,
}

impl Builder {
    /// Sets an environment variable, such as `WHATSAPP_GATEWAY__EVENTS__SEND_TIMEOUT`.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends without pacing, for what is to be refused, or measured, by the other side.
    pub fn unpaced(self) -> Self {
        let [rate, recipients] = UNPACED;
        self.env(rate.0, rate.1).env(recipients.0, recipients.1)
    }

    /// Adds an argument of `dev`, or replaces the command: `serve --config …`.
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|a| (*a).to_owned()));
        self
    }

    /// Uses a folder that outlives the process.
    pub fn data_dir(mut self, path: &Path) -> Self {
        self.data_dir = Some(path.to_owned());
        self
    }

    /// Runs it by another program, which must become it: `unshare …`, `sh -c 'exec "$@"'`.
    pub fn under(mut self, program: &[&str]) -> Self {
        self.wrapper = program.iter().map(|a| (*a).to_owned()).collect();
        self
    }

    /// Starts it and waits until it is ready.
    pub async fn start(self) -> Gateway {
        let log = |gateway: &Path| std::fs::read_to_string(gateway).unwrap_or_default();
        let (mut child, folder, data_dir, log_file) = self.spawn();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = timeout(PATIENCE, lines.next_line()).await.expect("not ready in time").unwrap();
        let line = line.unwrap_or_else(|| panic!("it ended before it was ready:\n{}", log(&log_file)));
        let ready: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(ready["ready"], true);
        let http = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build().unwrap();
        Gateway { child, ready, data_dir, log_file, http, _folder: folder }
    }

    /// Starts it and waits until it ends by itself; returns its exit code and what it wrote to stderr.
    pub async fn run_to_end(self) -> (Option<i32>, String) {
        let (mut child, folder, _, log_file) = self.spawn();
        let status = timeout(PATIENCE, child.wait()).await.expect("it did not end").unwrap();
        let log = std::fs::read_to_string(log_file).unwrap();
        drop(folder);
        (status.code(), log)
    }

    fn spawn(self) -> (Child, TempDir, PathBuf, PathBuf) {
        let folder = TempDir::new().unwrap();
        let data_dir = self.data_dir.unwrap_or_else(|| folder.path().join("data"));
        let log_file = folder.path().join("stderr.log");
        // Another build for measurements, such as the release, or what runs an image with these arguments and environment
        // (scripts/image_check.py). It passes SIGTERM on.
        let built = std::env::var("GATEWAY_BINARY");
        let binary = built.unwrap_or_else(|_| env!("CARGO_BIN_EXE_whatsapp-gateway").to_owned());
        let mut words = self.wrapper.into_iter().chain([binary]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        if self.arguments.first().is_none_or(|first| first.starts_with("--")) {
            command.arg("dev").arg("--data-dir").arg(&data_dir);
            for port in ["--grpc-listen", "--webhook-listen", "--admin-listen", "--simulator-listen"] {
                command.args([port, "127.0.0.1:0"]);
            }
        }
        command
            .args(&self.arguments)
            .envs(self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log_file).unwrap())
            .kill_on_drop(true);
        (command.spawn().unwrap(), folder, data_dir, log_file)
    }
}

impl Gateway {
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// `dev` with everything on free ports.
    pub async fn dev() -> Self {
        Self::builder().start().await
    }

    /// The address of a port: `grpc`, `webhook`, `admin` or `simulator`.
    pub fn address(&self, port: &str) -> &str {
        self.ready[port].as_str().unwrap_or_else(|| panic!("no port {port}"))
    }

    /// Where Meta posts webhooks.
    pub fn webhook_url(&self) -> String {
        let path = self.ready.get("webhook_path").and_then(Value::as_str).unwrap_or("/webhook");
        format!("http://{}{path}", self.address("webhook"))
    }

    /// A client on a connection of its own.
    pub async fn client(&self) -> Client {
        GatewayServiceClient::new(self.endpoint().connect().await.unwrap())
            .max_decoding_message_size(8 * 1024 * 1024)
    }

    /// A client of subscriptions on a connection of its own.
    pub async fn subscriptions(&self) -> Subscriptions {
        SubscriptionServiceClient::new(self.endpoint().connect().await.unwrap())
    }

    /// The gRPC port, for a connection with settings of its own.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::from_shared(format!("http://{}", self.address("grpc"))).unwrap()
    }

    /// Posts a body with a valid signature of the `dev` account; returns the HTTP status.
    pub async fn post_webhook(&self, body: impl Into<Vec<u8>>) -> u16 {
        let body = body.into();
        let signature = webhook::signature(&body);
        self.post_webhook_signed(body, Some(&signature)).await
    }

    /// Posts a body with this signature header, or none.
    pub async fn post_webhook_signed(&self, body: Vec<u8>, signature: Option<&str>) -> u16 {
        let mut request = self.http.post(self.webhook_url()).body(body);
        if let Some(signature) = signature {
            request = request.header("x-hub-signature-256", signature);
        }
        request.send().await.unwrap().status().as_u16()
    }

    /// Posts JSON to a control path of the simulator, such as `messages`; returns the answer.
    pub async fn simulate(&self, path: &str, json: &Value) -> Value {
        let url = format!("http://{}/_simulator/{path}", self.address("simulator"));
        let response = self.http.post(url).body(json.to_string()).send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// Gets a control path of the simulator, such as `requests?path=/messages`.
    pub async fn simulator(&self, path: &str) -> Value {
        let url = format!("http://{}/_simulator/{path}", self.address("simulator"));
        serde_json::from_str(&self.http.get(url).send().await.unwrap().text().await.unwrap()).unwrap()
    }

    /// Gets a path of the admin port; returns the status and the text.
    pub async fn admin(&self, path: &str) -> (u16, String) {
        let response = self.http.get(format!("http://{}{path}", self.address("admin"))).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// Every event that is stored, from the earliest on.
    pub async fn events(&self) -> Vec<v1::Event> {
        let request = v1::SubscribeEventsRequest {
            start: Some(v1::subscribe_events_request::Start::Position(v1::Position::Earliest.into())),
            stop_when_caught_up: true,
            max_batch_events: 256,
            ..Default::default()
        };
        let mut frames = self.client().await.subscribe_events(request).await.unwrap().into_inner();
        let mut events = Vec::new();
        while let Some(frame) = timeout(PATIENCE, frames.message()).await.expect("no frame in time").unwrap()
        {
            if let Some(v1::subscribe_events_response::Frame::Events(batch)) = frame.frame {
                events.extend(batch.events.into_iter().map(|received| received.event.unwrap()));
            }
        }
        events
    }

    /// Sends SIGTERM.
    pub fn signal_term(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGTERM and waits for the end; returns the exit code.
    pub async fn terminate(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.wait().await
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// The process, which is not gone before it was waited for.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap()).unwrap()
    }

    /// Posts signed bodies, from any task.
    pub fn sender(&self) -> webhook::Sender {
        let url = self.webhook_url();
        webhook::Sender { http: self.http.clone(), url }
    }

    /// Waits for the end; returns the exit code.
    pub async fn wait(&mut self) -> Option<i32> {
        timeout(PATIENCE, self.child.wait()).await.expect("it did not end").unwrap().code()
    }

    /// kill -9, and waits until it is gone.
    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Bytes of memory that the process occupies.
    pub fn resident_bytes(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<usize>().unwrap() * 1024
    }

    /// As [`Gateway::metric`]; `None` if it does not answer.
    pub async fn try_metric(&self, series: &str) -> Option<u64> {
        let answer = self.http.get(format!("http://{}/metrics", self.address("admin"))).send().await.ok()?;
        Some(value_of(&answer.text().await.ok()?, series))
    }

    /// The value of a series in `/metrics`, such as `whatsapp_gateway_connections{listener="grpc"}`; 0 if it is not there.
    pub async fn metric(&self, series: &str) -> u64 {
        value_of(&self.admin("/metrics").await.1, series)
    }

    /// What it wrote to stderr so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log_file).unwrap()
    }
}

fn value_of(metrics: &str, series: &str) -> u64 {
    let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().unwrap())
}
