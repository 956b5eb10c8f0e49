//! The rows about what is durable, with NATS below: three servers that hold each message and sync it before they say so,
//! against bare publishing to the same servers.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use super::webhooks::NUMBERS_PER_RUN;
use super::{
    Bench, Gateway, Run, anew, interleaved, load, median_of, processor_note, rate, ratio, settle, whole,
};
use crate::Result;
use crate::process::Process;
use crate::report::{Row, Target};

/// Where `scripts/tools.sh nats-server` puts it.
const SERVER: &str = ".tools/bin/nats-server";
/// How long three servers may take to find each other.
const START_MAX: Duration = Duration::from_secs(30);

/// The events of a round are some megabytes, and the servers reserve what a stream may have until they end.
const STORAGE: &str = "backend = \"nats\"\nsize_max = \"256 MiB\"";

/// Turns of each in a round.
const TURNS: usize = 2;

pub(super) fn measure(bench: &Bench, rows: &mut Vec<Row>) -> Result<()> {
    let servers = Servers::start(bench)?;
    webhooks(bench, &servers, rows)?;
    sends(bench, &servers, rows)
}

fn webhooks(bench: &Bench, servers: &Servers, rows: &mut Vec<Row>) -> Result<()> {
    let (url, model) = (servers.urls.join(","), bench.model.display().to_string());
    for posters in ["64", "256"] {
        let [ours, floor] =
            rounds(bench, servers, posters, &["published", &url, &model], |pair, which, turn| {
                let address = [pair.gateway.webhook()?, pair.floor.address("webhook")?][which];
                let first = ((turn as u64 + 1) * NUMBERS_PER_RUN).to_string();
                load(
                    pair.process(which),
                    &["post", address, "--at-once", posters, "--seconds", "1.5", "--first", &first],
                )
            })?;
        let shown = |runs: &[Run]| {
            let p99 = median_of(runs, |run| run.report.p99) / 1e3;
            format!("{}/s, p99 {p99:.1} ms", whole(median_of(runs, Run::per_second)))
        };
        rows.push(Row {
            name: format!("webhook → 200 on NATS, {posters} posters, against bare publishing"),
            ours: shown(&ours),
            floor: shown(&floor),
            figure: ratio(&ours, &floor, Run::per_second),
            unit: "",
            target: Target::AtLeast(0.8),
            note: processor_note(&ours, &floor),
        });
    }
    Ok(())
}

fn sends(bench: &Bench, servers: &Servers, rows: &mut Vec<Row>) -> Result<()> {
    let (url, model) = (servers.urls.join(","), bench.model.display().to_string());
    let claims = bench.folder.join("claims").display().to_string();
    let floor = ["grpc", bench.upstream.address("http")?, &model, &claims, "--nats", &url];
    let [ours, floor] = rounds(bench, servers, "sends", &floor, |pair, which, _| {
        let address = [pair.gateway.grpc()?, pair.floor.address("grpc")?][which];
        load(pair.process(which), &["send", address, "--at-once", "64", "--seconds", "1.5", "--request-ids"])
    })?;
    rows.push(Row {
        name: "SendMessage with a request_id on NATS, 64 in flight".to_owned(),
        ours: rate(&ours),
        floor: rate(&floor),
        figure: ratio(&ours, &floor, Run::per_second),
        unit: "",
        target: Target::AtLeast(0.8),
        note: processor_note(&ours, &floor),
    });
    Ok(())
}

/// What is compared.
struct Pair {
    gateway: Gateway,
    floor: Process,
}

impl Pair {
    fn process(&self, which: usize) -> &Process {
        [&self.gateway.process, &self.floor][which]
    }
}

/// Rounds that start both anew, with streams of their own: which of the servers leads a stream is chance, and counts as long as the
/// stream lives.
fn rounds(
    bench: &Bench,
    servers: &Servers,
    name: &str,
    floor: &[&str],
    run: impl Fn(&Pair, usize, usize) -> Result<Run>,
) -> Result<[Vec<Run>; 2]> {
    let urls: Vec<_> = servers.urls.iter().map(|url| format!("\"{url}\"")).collect();
    anew::<2>(bench.rounds, |round| {
        let prefix = format!("nats_{name}_{round}");
        let sections =
            format!("[storage.nats]\nurls = [{}]\nreplicas = 3\nprefix = \"{prefix}\"\n", urls.join(", "));
        let gateway = Gateway::stored(bench, &prefix, STORAGE, &sections)?;
        let pair = Pair { gateway, floor: Bench::floor(floor)? };
        interleaved::<2>(TURNS, |which, turn| {
            // What the gateway still writes of the run before shall not cost the floor anything.
            settle();
            run(&pair, which, turn)
        })
    })
}

/// Three servers that are one cluster.
struct Servers {
    urls: Vec<String>,
    /// Ended when dropped.
    _processes: Vec<Process>,
}

impl Servers {
    fn start(bench: &Bench) -> Result<Self> {
        if !Path::new(SERVER).exists() {
            return Err(format!("{SERVER} is missing; run scripts/tools.sh nats-server").into());
        }
        let program = fs::canonicalize(SERVER)?;
        // Free a moment ago, and nothing else here asks for ports.
        let listeners: Vec<_> =
            (0..6).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<std::io::Result<_>>()?;
        let ports: Vec<u16> =
            listeners.iter().map(|at| Ok(at.local_addr()?.port())).collect::<std::io::Result<_>>()?;
        drop(listeners);
        let (clients, routes) = ports.split_at(3);
        let all: Vec<_> = routes.iter().map(|port| format!("nats-route://127.0.0.1:{port}")).collect();
        let mut processes = Vec::new();
        for (index, (client, route)) in clients.iter().zip(routes).enumerate() {
            let store = bench.folder.join(format!("nats-{index}"));
            let config = format!(
                "listen: \"127.0.0.1:{client}\"\nserver_name: bench-{index}\nmax_payload: 8MB\n\
                 cluster {{ name: bench, listen: \"127.0.0.1:{route}\", routes: [{}] }}\n\
                 jetstream {{ store_dir: \"{}\", sync_interval: always }}\n",
                all.join(", "),
                store.display()
            );
            let path = bench.folder.join(format!("nats-{index}.conf"));
            fs::write(&path, config)?;
            let log = bench.folder.join(format!("nats-{index}.log"));
            processes.push(Process::other(&program, &["-c", &path.display().to_string()], &log)?);
        }
        let began = Instant::now();
        for port in clients {
            while TcpStream::connect(("127.0.0.1", *port)).is_err() {
                if began.elapsed() > START_MAX {
                    return Err("the NATS servers did not start; see target/bench/nats-0.log".into());
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let urls = clients.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        Ok(Self { urls, _processes: processes })
    }
}
