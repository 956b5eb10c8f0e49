//! `create-token`: a new bearer token, shown once, and the line that lets the gateway know it.

use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::config;
use crate::tenants::bearer;

use super::{EXIT_CONFIG, failed};

/// Arguments of `create-token`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Whose token it is: the name of its entry in `[[callers]]`
    #[arg(long, value_name = "NAME")]
    caller: String,
    /// How long it is valid, such as "90 days"; without it, for ever
    #[arg(long, value_name = "DURATION")]
    expires_in: Option<String>,
}

/// Prints the token on the first line of stdout and the line of the configuration on the second; what to do with them goes
/// to stderr.
pub(super) fn run(arguments: &Arguments) -> Result<u8, u8> {
    let expires = match &arguments.expires_in {
        Some(text) => Some(expiry(text)?),
        None => None,
    };
    let token = bearer::make().map_err(|error| failed(&format!("no random numbers: {error}")))?;
    let line = bearer::line(&token, expires);
    println!("{token}\ntoken_sha256 = [\"{line}\"]");
    let caller = &arguments.caller;
    eprintln!(
        "The first line is the token of {caller}: it is shown once and stored nowhere. The second belongs to the \
         entry of [[callers]] named {caller:?}; the text in its quotes may be a line of token_sha256_file instead."
    );
    Ok(0)
}

fn expiry(text: &str) -> Result<std::time::SystemTime, u8> {
    let duration = config::parse_duration(text).filter(|duration| *duration >= Duration::from_secs(1));
    let expires = duration.and_then(|duration| SystemClock.now().checked_add(duration));
    expires.ok_or_else(|| {
        eprintln!(
            "--expires-in {text:?}: must be a duration of at least a second, such as \"90 days\" or \"12 h\""
        );
        EXIT_CONFIG
    })
}
