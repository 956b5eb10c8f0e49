//! What protects the gateway and what shows it: the price of each in `SendMessage`, against a gateway that has none.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use serde::Deserialize;

use super::gateway::{get, is_ok};
use super::{
    Bench, Gateway, Run, SLICE_SECONDS, SLICES, anew, interleaved, load, processor_note, rate, ratio,
};
use crate::Result;
use crate::process::Process;
use crate::report::{Row, Target};

/// How often metrics are scraped in a long run, and at the start of each: some forty times as often as usual.
const SCRAPE_INTERVAL: Duration = Duration::from_secs(1);

/// A certificate of its own authority, for loopback.
const OPENSSL_CONFIG: &str = "
[req]
distinguished_name = name
x509_extensions = leaf
[name]
[leaf]
basicConstraints = critical,CA:FALSE
subjectAltName = IP:127.0.0.1,DNS:localhost
";

/// What a gateway may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Tls,
    Token,
    Metrics,
    Traces,
}

/// The gateways; the first is what the others are compared with.
const GATEWAYS: [(&str, &[Part], Target); 6] = [
    ("nothing of it", &[], Target::None),
    ("TLS", &[Part::Tls], Target::None),
    ("a bearer token", &[Part::Token], Target::None),
    ("metrics", &[Part::Metrics], Target::None),
    ("traces of 1 %", &[Part::Traces], Target::None),
    ("all four", &[Part::Tls, Part::Token, Part::Metrics, Part::Traces], Target::AtLeast(0.90)),
];

/// What the upstream took since it was last asked.
#[derive(Debug, Deserialize)]
struct Taken {
    exports: u64,
}

pub(super) fn measure(bench: &Bench, rows: &mut Vec<Row>) -> Result<()> {
    let upstream = bench.upstream.address("http")?;
    let credentials = Credentials::make(bench)?;
    let taken = || -> Result<Taken> { Process::own(&["load", "arrivals", upstream])?.finish() };
    taken()?;
    let runs = anew::<6>(bench.rounds, |round| {
        let mut gateways = Vec::new();
        for (index, (name, parts, _)) in GATEWAYS.iter().enumerate() {
            let sections = credentials.sections(parts, upstream);
            let gateway = Gateway::configured(bench, &format!("protect-{round}-{index}"), &sections)?;
            if is_ok(&get(gateway.admin()?, "/metrics")?) != parts.contains(&Part::Metrics) {
                return Err(format!("the gateway with {name} has the wrong /metrics").into());
            }
            gateways.push(gateway);
        }
        let runs = interleaved::<6>(SLICES, |which, _| {
            let (gateway, parts) = (&gateways[which], GATEWAYS[which].1);
            let mut arguments = vec!["send", gateway.grpc()?, "--at-once", "64", "--seconds", SLICE_SECONDS];
            arguments.extend(credentials.arguments(parts));
            if parts.contains(&Part::Metrics) {
                load_scraped(gateway, &arguments)
            } else {
                load(&gateway.process, &arguments)
            }
        })?;
        // What a gateway has not exported yet it exports at its end.
        for gateway in gateways {
            gateway.process.terminate()?;
        }
        Ok(runs)
    })?;
    if taken()?.exports == 0 {
        return Err("no trace was exported".into());
    }
    for ((name, _, target), with) in GATEWAYS.iter().zip(&runs).skip(1) {
        let bare = &runs[0];
        rows.push(Row {
            name: format!("SendMessage with {name}, 64 in flight"),
            ours: rate(with),
            floor: rate(bare),
            figure: ratio(with, bare, Run::per_second),
            unit: "",
            target: *target,
            note: processor_note(with, bare),
        });
    }
    Ok(())
}

/// As [`load`], while somebody scrapes the metrics.
fn load_scraped(gateway: &Gateway, arguments: &[&str]) -> Result<Run> {
    let admin = gateway.admin()?;
    thread::scope(|scope| {
        let (loading, end) = mpsc::channel();
        let scraper = scope.spawn(move || scrape(admin, &end));
        let run = load(&gateway.process, arguments);
        drop(loading);
        scraper.join().map_err(|_| "the scraper panicked")??;
        run
    })
}

/// Scrapes until the other end of `end` is gone.
fn scrape(admin: SocketAddr, end: &Receiver<()>) -> Result<()> {
    loop {
        if !is_ok(&get(admin, "/metrics")?) {
            return Err("the metrics were not to be had".into());
        }
        if end.recv_timeout(SCRAPE_INTERVAL) != Err(RecvTimeoutError::Timeout) {
            return Ok(());
        }
    }
}

/// What the gateways and the load know each other by.
struct Credentials {
    certificate: String,
    key: String,
    token: String,
    /// The setting that has the token's hash.
    token_sha256: String,
}

impl Credentials {
    fn make(bench: &Bench) -> Result<Self> {
        let file = |name: &str| bench.folder.join(name).display().to_string();
        let (certificate, key, config) = (file("tls.crt"), file("tls.key"), file("openssl.cnf"));
        fs::write(&config, OPENSSL_CONFIG)?;
        let request = ["req", "-x509", "-days", "2", "-subj", "/CN=bench", "-config", &config];
        let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let files = ["-keyout", &key, "-out", &certificate];
        output(Path::new("openssl"), &[&request[..], &new_key[..], &files[..]].concat())?;
        let made = output(&bench.binary, &["create-token", "--caller", "bench"])?;
        let (token, token_sha256) = made.trim().split_once('\n').ok_or("create-token prints two lines")?;
        Ok(Self { certificate, key, token: token.to_owned(), token_sha256: token_sha256.to_owned() })
    }

    /// The sections of the configuration that give a gateway these parts.
    fn sections(&self, parts: &[Part], upstream: &str) -> String {
        let Self { certificate, key, token_sha256, .. } = self;
        let traces =
            format!("otlp_endpoint = \"http://{upstream}\"\notlp_protocol = \"http\"\nsampling_ratio = 0.01");
        let caller = "[[callers]]\nname = \"bench\"\nmethods = [\"SendMessage\"]\nphone_numbers = [\"*\"]";
        let all = [
            (true, format!("[telemetry]\nmetrics = {}", parts.contains(&Part::Metrics))),
            (parts.contains(&Part::Traces), traces),
            (
                parts.contains(&Part::Tls),
                format!("[grpc.tls]\ncert_file = \"{certificate}\"\nkey_file = \"{key}\""),
            ),
            (parts.contains(&Part::Token), format!("{caller}\n{token_sha256}")),
        ];
        let wanted: Vec<_> = all.into_iter().filter(|section| section.0).map(|section| section.1).collect();
        wanted.join("\n")
    }

    /// How the load calls a gateway with these parts.
    fn arguments(&self, parts: &[Part]) -> Vec<&str> {
        let mut arguments = Vec::new();
        if parts.contains(&Part::Tls) {
            arguments.extend(["--certificate", &self.certificate]);
        }
        if parts.contains(&Part::Token) {
            arguments.extend(["--token", &self.token]);
        }
        arguments
    }
}

/// What a program prints that ends by itself, and soon.
fn output(program: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{} cannot be started: {error}", program.display()))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`{}` ended with {}: {text}", program.display(), output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
