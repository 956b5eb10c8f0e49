//! The gateway under measurement.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Bench;
use crate::Result;
use crate::process::Process;
use crate::webhook::{APP_SECRET, PHONE_NUMBER_ID, WABA_ID};

/// How long the start may take.
const START_MAX: Duration = Duration::from_secs(30);

/// Messages per second of a number that is not paced: more than any machine sends.
const UNPACED: u32 = 1_000_000;

/// A gateway with its default settings, but for the pace of its number, as a process.
pub(super) struct Gateway {
    pub(super) process: Process,
    data: PathBuf,
}

impl Gateway {
    /// Starts it over a data folder of that name, which may exist.
    pub(super) fn start(bench: &Bench, name: &str) -> Result<Self> {
        Self::paced(bench, name, UNPACED)
    }

    /// As [`Gateway::start`], with further sections of the configuration.
    pub(super) fn configured(bench: &Bench, name: &str, sections: &str) -> Result<Self> {
        Self::serve(bench, name, UNPACED, ("", sections))
    }

    /// As [`Gateway::configured`], with further keys of `[storage]`.
    pub(super) fn stored(bench: &Bench, name: &str, storage: &str, sections: &str) -> Result<Self> {
        Self::serve(bench, name, UNPACED, (storage, sections))
    }

    /// As [`Gateway::start`], with a number of so many messages per second.
    pub(super) fn paced(bench: &Bench, name: &str, rate: u32) -> Result<Self> {
        Self::serve(bench, name, rate, ("", ""))
    }

    fn serve(bench: &Bench, name: &str, rate: u32, more: (&str, &str)) -> Result<Self> {
        let (config, data) = configure(bench, name, "127.0.0.1:0", rate, more)?;
        let log = bench.folder.join(format!("{name}.log"));
        let process = Process::other(&bench.binary, &["serve", "--config", &config], &log)?.wait_ready()?;
        Ok(Self { process, data })
    }

    pub(super) fn grpc(&self) -> Result<&str> {
        self.process.address("grpc")
    }

    pub(super) fn webhook(&self) -> Result<&str> {
        self.process.address("webhook")
    }

    pub(super) fn admin(&self) -> Result<SocketAddr> {
        Ok(self.process.address("admin")?.parse()?)
    }
}

/// Writes a configuration with further keys of `[storage]` and further sections; returns its path and the data folder.
fn configure(
    bench: &Bench,
    name: &str,
    admin: &str,
    rate: u32,
    (storage, sections): (&str, &str),
) -> Result<(String, PathBuf)> {
    let folder = &bench.folder;
    let secret = |file: &str, text: &str| -> Result<String> {
        let path = folder.join(file);
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    };
    let (app_secret, verify_token) = (secret("app-secret", APP_SECRET)?, secret("verify-token", "bench")?);
    let access_token = secret("access-token", "bench-access-token")?;
    let graph = bench.upstream.address("http")?;
    let data = folder.join(name);
    let toml = format!(
        r#"
[grpc]
listen = "127.0.0.1:0"
[webhook]
listen = "127.0.0.1:0"
[admin]
listen = "{admin}"
[cloud_api]
graph_url = "http://{graph}"
media_hosts = ["{graph}"]
[sending]
messages_per_second = {rate}
[storage]
data_dir = "{data}"
{storage}
[shutdown]
delay = "0 s"
[[apps]]
id = "1234567890"
secret_files = ["{app_secret}"]
verify_token_file = "{verify_token}"
[[wabas]]
id = "{WABA_ID}"
app_id = "1234567890"
access_token_file = "{access_token}"
phone_number_ids = ["{PHONE_NUMBER_ID}"]
{sections}"#,
        data = data.display()
    );
    let path = folder.join(format!("{name}.toml"));
    fs::write(&path, toml)?;
    Ok((path.display().to_string(), data))
}

/// A database with one event, of a gateway that has ended.
pub(super) fn model(bench: &Bench) -> Result<PathBuf> {
    let gateway = Gateway::start(bench, "model")?;
    let post = ["load", "post", gateway.webhook()?, "--at-once", "1", "--seconds", "0.1", "--first", "0"];
    let _: crate::load::Report = Process::own(&post)?.finish()?;
    let Gateway { process, data } = gateway;
    process.terminate()?;
    Ok(data.join("gateway.db"))
}

/// From the exec to the first 200 of `/readyz`. Ends it again.
pub(super) fn time_start(bench: &Bench, name: &str) -> Result<Duration> {
    // Free a moment ago, and nothing else here asks for ports.
    let admin = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let (config, _) = configure(bench, name, &admin.to_string(), UNPACED, ("", ""))?;
    let log = bench.folder.join(format!("{name}.log"));
    let began = Instant::now();
    let process = Process::other(&bench.binary, &["serve", "--config", &config], &log)?;
    while !get(admin, "/readyz").is_ok_and(|answer| is_ok(&answer)) {
        if began.elapsed() > START_MAX {
            return Err("the gateway did not become ready".into());
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    let took = began.elapsed();
    process.terminate()?;
    Ok(took)
}

/// The whole answer of the admin port.
pub(super) fn get(admin: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(admin)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

pub(super) fn is_ok(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 200")
}

/// Bytes of the binary.
pub(super) fn binary_bytes(binary: &Path) -> Result<f64> {
    Ok(fs::metadata(binary)?.len() as f64)
}
