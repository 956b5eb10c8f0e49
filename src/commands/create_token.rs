//! `create-token`: a new bearer token, shown once, and the line that lets the gateway know it.

use std::time::{Duration, SystemTime};

use crate::clock::{Clock, SystemClock};
use crate::config;
use crate::tenants::bearer;

use super::{EXIT_CONFIG, failed};

/// How long a token may live; longer ones should have no end.
const LIFE_MAX: Duration = Duration::from_hours(36_500 * 24);

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
    let caller = arguments.caller.as_str();
    let wrong = |text: String| {
        eprintln!("{text}");
        EXIT_CONFIG
    };
    config::check_caller_name(caller).map_err(|text| wrong(format!("--caller {caller:?}: {text}")))?;
    let now = SystemClock.now();
    let expires = arguments.expires_in.as_deref().map(|text| expiry(text, now)).transpose().map_err(wrong)?;
    let token = bearer::make().map_err(|error| failed(&format!("no random numbers: {error}")))?;
    let line = bearer::line(&token, expires);
    println!("{token}\ntoken_sha256 = [\"{line}\"]");
    eprintln!(
        "The first line is the token of {caller}: it is shown once and stored nowhere. The second belongs to the \
         entry of [[callers]] named {caller:?}; the text in its quotes may be a line of token_sha256_file instead."
    );
    Ok(0)
}

fn expiry(text: &str, now: SystemTime) -> Result<SystemTime, String> {
    let is_life = |duration: &Duration| (Duration::from_secs(1)..=LIFE_MAX).contains(duration);
    let expires = config::parse_duration(text).filter(is_life).and_then(|life| now.checked_add(life));
    expires.ok_or_else(|| {
        format!(
            "--expires-in {text:?}: must be a duration from 1 s to 36500 days, such as \"90 days\" or \"12 h\"; leave it \
             out for a token without an end"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_an_end_that_its_line_can_say() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
        for (text, life) in [("1 s", Duration::from_secs(1)), ("36500 days", LIFE_MAX)] {
            let expires = expiry(text, now).unwrap();
            assert_eq!(expires, now + life);
            assert!(bearer::line("token", Some(expires)).contains(" expires="), "{text}");
        }
        for bad in ["", "0 s", "36501 days", "5000000 days", "999999999 days", "soon"] {
            let text = expiry(bad, now).unwrap_err();
            assert!(text.contains(bad) && text.contains("from 1 s to 36500 days"), "{text}");
        }
    }
}
