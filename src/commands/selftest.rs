//! `selftest`: tries a running gateway as a client would; what `helm test` runs.

use std::path::{Path, PathBuf};

use tokio::runtime::Builder;

use crate::selftest::{self, Plan};

use super::{EXIT_CONFIG, failed};

/// Arguments of `selftest`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The gRPC port
    #[arg(long, default_value = "127.0.0.1:50051", value_name = "HOST:PORT")]
    grpc_address: String,
    /// The token of a caller
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The authority of the port's certificate, PEM; without it TLS is not spoken
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// A client certificate, PEM
    #[arg(long, value_name = "FILE", requires_all = ["key_file", "ca_file"])]
    cert_file: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    key_file: Option<PathBuf>,
    /// A call without credentials may succeed, as on loopback
    #[arg(long)]
    allow_anonymous: bool,
    /// Reflection is off
    #[arg(long)]
    no_reflection: bool,
}

/// Prints each that is right; 0 if all is.
pub(super) fn run(arguments: Arguments) -> Result<u8, u8> {
    let plan = Plan {
        token: optional("--token-file", arguments.token_file.as_deref())?
            .map(|token| token.trim().to_owned()),
        authorities: optional("--ca-file", arguments.ca_file.as_deref())?,
        certificate: match (&arguments.cert_file, &arguments.key_file) {
            (Some(certificate), Some(key)) => {
                Some((read("--cert-file", certificate)?, read("--key-file", key)?))
            }
            (None, _) | (_, None) => None,
        },
        address: arguments.grpc_address,
        allows_anonymous: arguments.allow_anonymous,
        has_reflection: !arguments.no_reflection,
    };
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| failed(&error))?;
    let tried = runtime.block_on(selftest::run(&plan, |line| println!("{line}")));
    tried.map(|()| 0).map_err(|error| failed(&format!("selftest: {error}")))
}

fn optional(option: &str, path: Option<&Path>) -> Result<Option<String>, u8> {
    path.map(|path| read(option, path)).transpose()
}

fn read(option: &str, path: &Path) -> Result<String, u8> {
    std::fs::read_to_string(path).map_err(|error| {
        eprintln!("{option} {}: {error}", path.display());
        EXIT_CONFIG
    })
}
