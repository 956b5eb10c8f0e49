//! A peer on a raw socket, which serves one connection by a script.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use secrecy::SecretString;

use crate::clock::ManualClock;
use crate::cloud_api::{Client, Config};

/// The peer; its script returns what it wants to show.
pub(in crate::cloud_api) struct Peer {
    address: SocketAddr,
    thread: JoinHandle<String>,
}

impl Peer {
    /// Listens on a free port and runs `script` with the first connection.
    pub(in crate::cloud_api) fn start(script: impl FnOnce(TcpStream) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        Self { address, thread: std::thread::spawn(move || script(listener.accept().unwrap().0)) }
    }

    /// A peer that answers one request and shows it.
    pub(in crate::cloud_api) fn answering(status: &'static str, body: &str) -> Self {
        let body = body.to_owned();
        Self::start(move |mut stream| {
            let request = read_request(&mut stream);
            std::io::Write::write_all(&mut stream, answer(status, &body).as_bytes()).unwrap();
            request
        })
    }

    pub(in crate::cloud_api) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What the script returned.
    pub(in crate::cloud_api) fn finish(self) -> String {
        self.thread.join().unwrap()
    }
}

/// A configuration with short timeouts.
pub(in crate::cloud_api) fn config(url: &str) -> Config {
    Config { graph_url: url.to_owned(), request_timeout: Duration::from_secs(10), ..Config::default() }
}

/// A client of `url` whose clock stands still.
pub(in crate::cloud_api) fn client(url: &str) -> Client {
    Client::new(&config(url), ManualClock::new(SystemTime::UNIX_EPOCH)).unwrap()
}

pub(in crate::cloud_api) fn token() -> SecretString {
    SecretString::from("secret-token")
}

/// An answer after which the connection is closed.
pub(in crate::cloud_api) fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// The request up to the empty line, and nothing of its body.
pub(in crate::cloud_api) fn read_head(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// The whole request.
pub(in crate::cloud_api) fn read_request(stream: &mut TcpStream) -> String {
    let head = read_head(stream);
    let lower = head.to_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).unwrap();
    head + &String::from_utf8(body).unwrap()
}

/// Everything until the other side closes.
pub(in crate::cloud_api) fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _closed_or_reset = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}
