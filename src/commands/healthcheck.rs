//! `healthcheck`: asks the admin port of a running gateway, for containers without a shell.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::{failed, reachable};

const TIMEOUT: Duration = Duration::from_secs(3);

/// Arguments of `healthcheck`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The admin port of the gateway; on an unspecified address (0.0.0.0) it is asked by loopback
    #[arg(
        long,
        env = "WHATSAPP_GATEWAY__ADMIN__LISTEN",
        default_value = "127.0.0.1:9090",
        value_name = "HOST:PORT"
    )]
    admin: SocketAddr,
    /// What to ask
    #[arg(long, default_value = "/readyz", value_name = "PATH")]
    path: String,
}

/// Asks once; 0 if the answer is 200.
pub(super) fn run(arguments: &Arguments) -> Result<u8, u8> {
    let address = reachable(arguments.admin);
    let answer = ask(address, &arguments.path)
        .map_err(|error| failed(&format!("no answer from {address}: {error}")))?;
    let is_ready = answer.starts_with("HTTP/1.1 200");
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    eprint!("{body}");
    Ok(u8::from(!is_ready))
}

/// One request by hand: a client with its runtime would be the larger part of the command.
fn ask(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
