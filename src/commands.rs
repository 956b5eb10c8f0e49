//! The commands of the binary: what each needs, starts, and prints.
//!
//! `dev`, `serve` and `simulator` print one line of JSON to stdout when ready, `convert` and `create-token` print their results; everything
//! else goes to stderr.

mod convert;
mod create_token;
#[cfg(feature = "simulator")]
mod dev;
mod healthcheck;
mod selftest;
mod serve;
#[cfg(feature = "simulator")]
mod simulator;

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use clap::Subcommand;

use crate::config::{Config, Sources};

/// The configuration or the input is bad (`EX_USAGE`).
const EXIT_CONFIG: u8 = 64;
/// The start failed.
const EXIT_FAILED: u8 = 1;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the gateway and a simulated Cloud API in one process, with a ready account
    #[cfg(feature = "simulator")]
    Dev(dev::Arguments),
    /// Run the gateway
    Serve(ConfigFile),
    /// Run the simulated Cloud API alone
    #[cfg(feature = "simulator")]
    Simulator(simulator::Arguments),
    /// Report every problem of the configuration
    CheckConfig(ConfigFile),
    /// Print the effective configuration, without its secrets
    PrintConfig(ConfigFile),
    /// Turn the body of a Cloud API request (stdin) into the request that sends the same through the gateway
    Convert,
    /// Make a bearer token for a caller, and the line of the configuration that has its hash
    CreateToken(create_token::Arguments),
    /// Ask a running gateway whether it is ready; for containers
    Healthcheck(healthcheck::Arguments),
    /// Try a running gateway as a client would: health, reflection, a call with credentials, and one without
    Selftest(selftest::Arguments),
}

/// Where the configuration is.
#[derive(Debug, clap::Args)]
pub struct ConfigFile {
    /// The TOML file; without it, defaults and environment
    #[arg(long, env = "WHATSAPP_GATEWAY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    /// Reads the configuration; prints every problem if it is bad.
    fn load(self) -> Result<Config, u8> {
        Config::load(&Sources::of_process(self.config)).map_err(|problems| {
            eprintln!("{problems}");
            EXIT_CONFIG
        })
    }
}

impl Command {
    /// Does it; returns the exit code.
    pub fn run(self) -> u8 {
        let outcome = match self {
            #[cfg(feature = "simulator")]
            Self::Dev(arguments) => dev::run(arguments),
            Self::Serve(file) => file.load().and_then(serve::run),
            #[cfg(feature = "simulator")]
            Self::Simulator(arguments) => simulator::run(&arguments),
            Self::CheckConfig(file) => file.load().map(|_| {
                println!("the configuration is valid");
                0
            }),
            Self::PrintConfig(file) => file.load().map(|config| {
                print!("{}", config.print());
                0
            }),
            Self::Convert => convert::run(),
            Self::CreateToken(arguments) => create_token::run(&arguments),
            Self::Healthcheck(arguments) => healthcheck::run(&arguments),
            Self::Selftest(arguments) => selftest::run(arguments),
        };
        outcome.unwrap_or_else(|exit_code| exit_code)
    }
}

/// Prints why a command failed; returns the exit code.
fn failed(error: &impl Display) -> u8 {
    eprintln!("whatsapp-gateway: {error}");
    EXIT_FAILED
}

/// Where a port that listens everywhere is reached from here.
fn reachable(mut listen: SocketAddr) -> SocketAddr {
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => listen.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => listen.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    listen
}
