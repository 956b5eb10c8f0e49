//! Configuration of the NATS engine.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

/// Which servers, as whom, and what to keep there.
#[derive(Debug, Clone)]
pub struct Config {
    /// One or more of `nats://host:4222` or `tls://host:4222`, of one cluster.
    pub urls: Vec<String>,
    /// Who the gateway is for NATS.
    pub credentials: Credentials,
    /// The files of TLS.
    pub tls: Tls,
    /// What the names of streams and subjects begin with: 1 to 32 of `A-Z`, `a-z`, `0-9`, `_` and `-`.
    pub prefix: String,
    /// Servers that hold each stream: 1 or 3.
    pub replicas: u8,
    /// Age at which events may be deleted. The engine deletes only when `trim` is called, and keeps ids 8 days at least.
    pub retention: Duration,
    /// Bytes of events from which on the server refuses appends.
    pub size_max: u64,
}

/// Who the gateway is for NATS.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// Nobody; for servers that ask nobody.
    None,
    /// A file as `nsc` writes it: a JWT and its seed.
    File(PathBuf),
    /// A user, the file of the password, and the password.
    User {
        /// The user.
        user: String,
        /// Where the password was read.
        password_file: PathBuf,
        /// The password.
        password: SecretString,
    },
}

/// The files of TLS, all of them PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Authorities of the servers, beside those of the operating system.
    pub ca_file: Option<PathBuf>,
    /// The gateway's certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl Config {
    /// A server without credentials at `url`: one replica, 8 days, 8 GiB.
    pub fn at(url: String, prefix: &str) -> Self {
        Self {
            urls: vec![url],
            credentials: Credentials::None,
            tls: Tls::default(),
            prefix: prefix.to_owned(),
            replicas: 1,
            retention: Duration::from_hours(8 * 24),
            size_max: 8 << 30,
        }
    }
}
