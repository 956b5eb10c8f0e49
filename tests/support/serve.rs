//! `serve` with a configuration file, beside a simulator of two accounts that runs in this process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::runtime::Builder as Runtime;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};
use whatsapp_gateway::clock::{Clock, SystemClock};
use whatsapp_gateway::simulator::{Account, Config, Number, Simulator};

use super::{Gateway, gateway, webhook};

/// The id of one of [`Builder::numbers`].
pub fn number(index: usize) -> String {
    format!("300000000{index:06}")
}

/// The WABA of one of [`Builder::numbers`].
fn waba(index: usize) -> String {
    format!("400000000{index:06}")
}

/// The access token of one of [`Builder::numbers`].
fn token(index: usize) -> String {
    format!("access-token-{index}")
}

pub const SECOND_NUMBER: &str = "106540352242923";
pub const SECOND_WABA: &str = "102290129340399";
/// A number whose app is signed with two secrets; it is configured and unknown to the simulator.
pub const SECOND_SECRET: &str = "the-next-app-secret";

/// The hash of a token, as the configuration wants it.
pub fn token_hash(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

/// All there is to allow.
pub const ALL_RIGHTS: &str =
    "methods = [\"*\"]\nphone_numbers = [\"*\"]\nwabas = [\"*\"]\nevent_types = [\"*\"]\n";

/// A caller by this token, with these lines about its rights.
pub fn caller(name: &str, token: &str, rights: &str) -> String {
    format!("[[callers]]\nname = {name:?}\ntoken_sha256 = [{:?}]\n{rights}", token_hash(token))
}

/// What to serve.
#[derive(Debug)]
pub struct Builder {
    grpc_listen: String,
    grpc_more: String,
    graph_url: Option<String>,
    more: String,
    numbers: usize,
    environment: Vec<(String, String)>,
}

/// A gateway by `serve`, and what it needs.
#[derive(Debug)]
pub struct Serve {
    pub gateway: Gateway,
    pub folder: TempDir,
    environment: Vec<(String, String)>,
    simulator: SocketAddr,
    _simulator: DropGuard,
}

impl Serve {
    /// Two WABAs with a number each, on loopback.
    pub fn builder() -> Builder {
        Builder {
            grpc_listen: "127.0.0.1:0".to_owned(),
            grpc_more: String::new(),
            graph_url: None,
            more: String::new(),
            numbers: 0,
            environment: Vec::new(),
        }
    }

    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// Another process with the same configuration, beside the same simulator.
    pub async fn join(&self) -> Gateway {
        served(&self.folder, &self.environment, self.simulator).await
    }

    /// kill -9, and the next process over the same data, beside the same simulator.
    pub async fn restart(&mut self) {
        self.gateway.kill().await;
        self.start_again().await;
    }

    /// SIGTERM, and the next process likewise; returns the exit code of the first.
    pub async fn restart_in_order(&mut self) -> Option<i32> {
        let code = self.gateway.terminate().await;
        self.start_again().await;
        code
    }

    /// The next process over the data of one that has ended.
    pub async fn start_again(&mut self) {
        self.gateway = served(&self.folder, &self.environment, self.simulator).await;
        let url = self.gateway.webhook_url();
        self.gateway.simulate("webhook_url", &json!({"url": url})).await;
    }
}

impl Builder {
    pub fn grpc_listen(mut self, address: &str) -> Self {
        address.clone_into(&mut self.grpc_listen);
        self
    }

    /// Events and state in these NATS servers, with so many copies.
    pub fn on_nats(self, urls: &str, replicas: &str) -> Self {
        [("BACKEND", "nats"), ("SIZE_MAX", "64 MiB"), ("NATS__URLS", urls), ("NATS__REPLICAS", replicas)]
            .into_iter()
            .fold(self, |builder, (key, value)| {
                builder.env(&format!("WHATSAPP_GATEWAY__STORAGE__{key}"), value)
            })
    }

    /// An address that others reach too, without TLS.
    pub fn open_address(self) -> Self {
        self.grpc_listen("0.0.0.0:0").grpc("insecure = true")
    }

    /// Lines for the section `[grpc]`.
    pub fn grpc(mut self, lines: &str) -> Self {
        lines.clone_into(&mut self.grpc_more);
        self
    }

    /// A Cloud API elsewhere than at the simulator.
    pub fn graph_url(mut self, url: String) -> Self {
        self.graph_url = Some(url);
        self
    }

    /// Sections at the end of the file.
    pub fn more(mut self, toml: &str) -> Self {
        toml.clone_into(&mut self.more);
        self
    }

    /// So many numbers more, each with a WABA, an app and a token of its own, so that what Meta does to one touches no
    /// other.
    pub fn numbers(mut self, count: usize) -> Self {
        self.numbers = count;
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it and waits until it is ready.
    pub async fn start(self) -> Serve {
        let (address, simulator) = simulator(self.numbers).await;
        let folder = self.prepare(address);
        let gateway = served(&folder, &self.environment, address).await;
        gateway.simulate("webhook_url", &json!({"url": gateway.webhook_url()})).await;
        Serve { gateway, folder, environment: self.environment, simulator: address, _simulator: simulator }
    }

    /// Starts it and waits until it ends by itself; returns its exit code and what it wrote to stderr.
    pub async fn run_to_end(self) -> (Option<i32>, String) {
        let folder = self.prepare("127.0.0.1:9".parse().unwrap());
        process(&folder, &self.environment).run_to_end().await
    }

    fn prepare(&self, simulator: SocketAddr) -> TempDir {
        let folder = TempDir::new().unwrap();
        self.write(&folder, simulator);
        folder
    }

    fn write(&self, folder: &TempDir, simulator: SocketAddr) {
        let secret = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let app_secret = secret("app-secret", webhook::APP_SECRET);
        let next_secret = secret("next-secret", SECOND_SECRET);
        let verify_token = secret("verify-token", "dev-verify-token");
        let access_token = secret("access-token", "dev-access-token");
        let data_dir = folder.path().join("data").display().to_string();
        let graph_url = self.graph_url.clone().unwrap_or_else(|| format!("http://{simulator}"));
        let Self { grpc_listen, grpc_more, more, .. } = self;
        let more = more.replace("{folder}", &folder.path().display().to_string());
        let numbers = (0..self.numbers).map(|index| {
            let (app, waba, number, token) = (waba(index), waba(index), number(index), token(index));
            let access_token = secret(&token, &token);
            format!(
                r#"
[[apps]]
id = "{app}"
secret_files = ["{app_secret}"]
verify_token_file = "{verify_token}"
[[wabas]]
id = "{waba}"
app_id = "{app}"
access_token_file = "{access_token}"
phone_number_ids = ["{number}"]
"#
            )
        });
        let numbers = numbers.collect::<Vec<_>>().concat();
        let (number, waba) = (webhook::PHONE_NUMBER_ID, webhook::WABA_ID);
        let toml = format!(
            r#"
[grpc]
listen = "{grpc_listen}"
{grpc_more}
[webhook]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[cloud_api]
graph_url = "{graph_url}"
api_url = "{graph_url}"
media_hosts = ["{simulator}"]
[storage]
data_dir = "{data_dir}"
[shutdown]
delay = "0 s"
[[apps]]
id = "1234567890"
secret_files = ["{app_secret}", "{next_secret}"]
verify_token_file = "{verify_token}"
[[wabas]]
id = "{waba}"
app_id = "1234567890"
access_token_file = "{access_token}"
phone_number_ids = ["{number}"]
[[wabas]]
id = "{SECOND_WABA}"
app_id = "1234567890"
access_token_file = "{access_token}"
phone_number_ids = ["{SECOND_NUMBER}"]
{numbers}
{more}
"#
        );
        std::fs::write(config_file(folder), toml).unwrap();
    }
}

fn config_file(folder: &TempDir) -> PathBuf {
    folder.path().join("config.toml")
}

/// Another one for each: the simulator outlives its gateway, whose port may then be that of another test's.
fn webhook_path(folder: &TempDir) -> String {
    let name = folder.path().file_name().unwrap().to_str().unwrap();
    format!("/webhook-{}", name.trim_start_matches('.'))
}

fn process(folder: &TempDir, environment: &[(String, String)]) -> gateway::Builder {
    let config = config_file(folder);
    let builder = Gateway::builder().arguments(&["serve", "--config", config.to_str().unwrap()]);
    let builder = builder.env("WHATSAPP_GATEWAY__WEBHOOK__PATH", &webhook_path(folder));
    environment.iter().fold(builder, |builder, (name, value)| builder.env(name, value))
}

/// A process whose ports can be reached, and that knows where the simulator is.
async fn served(folder: &TempDir, environment: &[(String, String)], simulator: SocketAddr) -> Gateway {
    let mut gateway = process(folder, environment).start().await;
    for port in ["grpc", "webhook", "admin"] {
        let reachable = gateway.address(port).replace("0.0.0.0", "127.0.0.1");
        gateway.ready[port] = json!(reachable);
    }
    gateway.ready["webhook_path"] = json!(webhook_path(folder));
    gateway.ready["simulator"] = json!(simulator.to_string());
    gateway
}

/// Has a thread of its own, so that it notes when something came, and not when the test had time for it.
async fn simulator(numbers: usize) -> (SocketAddr, DropGuard) {
    let config = Config::new("127.0.0.1:0".parse().unwrap(), Arc::new(|| SystemClock.now()));
    let second = Number {
        phone_number_id: SECOND_NUMBER.to_owned(),
        display_phone_number: "15550783882".to_owned(),
        waba_id: SECOND_WABA.to_owned(),
    };
    let mut account = Account::default();
    account.numbers.push(second);
    account.more_access_tokens = (0..numbers).map(token).collect();
    account.numbers.extend((0..numbers).map(|index| Number {
        phone_number_id: number(index),
        display_phone_number: format!("1555200{index:04}"),
        waba_id: waba(index),
    }));
    let stop = CancellationToken::new();
    let (stopped, (tell, told)) = (stop.clone(), oneshot::channel());
    thread::spawn(move || {
        let runtime = Runtime::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let simulator = Simulator::bind(Config { account, ..config }).await.unwrap();
            tell.send(simulator.local_addr()).unwrap();
            simulator.run(stopped).await;
        });
    });
    (told.await.unwrap(), stop.drop_guard())
}
