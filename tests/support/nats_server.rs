//! Real NATS servers on loopback: one, or three as a cluster. They end with the value that holds them.

use std::env;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Half a minute in all.
const TRIES: usize = 3_000;
const PAUSE: Duration = Duration::from_millis(10);

/// One server.
#[derive(Debug)]
pub struct NatsServer {
    folder: TempDir,
    port: u16,
    child: Option<Child>,
    is_stopped: bool,
}

/// What `make tools` has fetched. Where it is missing the tests of NATS are left out, but never in CI.
pub fn binary() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/bin/nats-server");
    if path.exists() {
        return Some(path);
    }
    assert!(env::var_os("CI").is_none(), "{} is missing: run scripts/tools.sh nats-server", path.display());
    eprintln!("LEFT OUT: {} is missing; run scripts/tools.sh nats-server", path.display());
    None
}

impl NatsServer {
    /// A server; `None` where there is none. It does not sync, because no test takes its power away, and the disks of
    /// test machines are slow.
    pub fn start() -> Option<Self> {
        Self::with("max_payload: 8MB", "")
    }

    /// A server with these lines in its configuration, and these in the part about JetStream.
    pub fn with(lines: &str, jetstream: &str) -> Option<Self> {
        binary()?;
        let mut server = Self::prepared(free_port(), lines, jetstream);
        server.restart();
        Some(server)
    }

    /// Three servers that hold each stream three times.
    pub fn cluster() -> Option<Vec<Self>> {
        binary()?;
        let ports = [(); 3].map(|()| free_port());
        Some(Self::routed(ports, |_| ports.to_vec(), ""))
    }

    /// As [`NatsServer::cluster`]: each listens for the others at its port of these, connects to them at the ports that are said
    /// for it, and has these lines about the cluster.
    pub fn routed(listen: [u16; 3], others: impl Fn(usize) -> Vec<u16>, lines: &str) -> Vec<Self> {
        let prepared = listen.iter().enumerate().map(|(index, listen)| {
            let routes: Vec<String> =
                others(index).iter().map(|port| format!("nats-route://127.0.0.1:{port}")).collect();
            let lines = format!(
                "max_payload: 8MB\ncluster {{ name: test, listen: \"127.0.0.1:{listen}\", routes: [{}]\n{lines} }}",
                routes.join(", ")
            );
            Self::prepared(free_port(), &lines, "")
        });
        let mut servers: Vec<Self> = prepared.collect();
        servers.iter_mut().for_each(Self::begin);
        servers.iter().for_each(Self::wait);
        servers
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Where it keeps its streams.
    #[allow(dead_code, reason = "only some who include this file need it")]
    pub fn store_dir(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// As it calls itself.
    #[allow(dead_code, reason = "only some who include this file need it")]
    pub fn name(&self) -> String {
        format!("n{}", self.port)
    }

    #[allow(dead_code, reason = "only some who include this file need it")]
    pub fn is_running(&self) -> bool {
        self.child.is_some() && !self.is_stopped
    }

    /// Lets it do nothing from now on, or go on; nobody is told.
    #[allow(dead_code, reason = "only some who include this file need it")]
    pub fn stop(&mut self, is_stopped: bool) {
        let child = self.child.as_ref().expect("it runs");
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(pid, if is_stopped { Signal::STOP } else { Signal::CONT }).unwrap();
        self.is_stopped = is_stopped;
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            drop(child.kill());
            child.wait().unwrap();
            self.is_stopped = false;
        }
    }

    /// Starts it over what it has on disk, on the same port.
    pub fn restart(&mut self) {
        self.begin();
        self.wait();
    }

    fn prepared(port: u16, lines: &str, jetstream: &str) -> Self {
        let server = Self { folder: TempDir::new().unwrap(), port, child: None, is_stopped: false };
        let config = format!(
            "listen: \"127.0.0.1:{port}\"\nserver_name: n{port}\n{lines}\njetstream {{ store_dir: \"{}\"; {jetstream} }}\n",
            server.store_dir().display()
        );
        fs::write(server.folder.path().join("nats.conf"), config).unwrap();
        server
    }

    /// As [`NatsServer::restart`], without waiting.
    pub fn begin(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.log_file()).unwrap();
        let config = self.folder.path().join("nats.conf");
        let child = Command::new(binary().unwrap())
            .args(["-c", config.to_str().unwrap()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.child = Some(child.unwrap());
    }

    fn wait(&self) {
        for _ in 0..TRIES {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return;
            }
            thread::sleep(PAUSE);
        }
        panic!("it does not listen:\n{}", fs::read_to_string(self.log_file()).unwrap());
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("nats.log")
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
