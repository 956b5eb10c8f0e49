//! `convert`: a body of a message or a template on stdin → the request of ours that produces it on stdout.
//!
//! Needs no gateway. The request is proto JSON, which grpcurl takes with `-d @`; what there is to say goes to stderr.

use std::io::{Read, Write};

use crate::contract::{request_of, rules};

use super::{EXIT_CONFIG, failed};

/// Bytes of a body at most; Meta's largest is far below.
const BODY_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Does it; returns the exit code, which is 64 for a body that is none.
pub(super) fn run() -> Result<u8, u8> {
    let mut body = Vec::new();
    std::io::stdin().take(BODY_BYTES_MAX + 1).read_to_end(&mut body).map_err(|error| failed(&error))?;
    if body.len() as u64 > BODY_BYTES_MAX {
        return Err(bad("the body is longer than 4 MiB"));
    }
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(bad(
            "stdin is empty: give it the JSON of a Cloud API request, as in `convert < body.json`",
        ));
    }
    let json = serde_json::from_slice(&body).map_err(|error| bad(format!("the body is no JSON: {error}")))?;
    let converted = request_of(&json).map_err(bad)?;
    for note in &converted.notes {
        eprintln!("note: {note}");
    }
    for reason in &converted.untyped {
        eprintln!("raw: {reason}");
    }
    for violation in rules::violations(converted.message, &converted.encoded) {
        eprintln!("the gateway will refuse this: {} {}", violation.field, violation.description);
    }
    writeln!(std::io::stdout(), "{:#}", converted.json).map_err(|error| failed(&error))?;
    Ok(0)
}

fn bad(reason: impl std::fmt::Display) -> u8 {
    eprintln!("whatsapp-gateway: cannot convert: {reason}");
    EXIT_CONFIG
}
