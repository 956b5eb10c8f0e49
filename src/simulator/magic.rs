//! Recipients to whom something particular happens, whatever is sent. The table stands in the documentation
//! of [`super`]; `GET /_simulator` lists it too.

use super::graph_error::{self, Reported};

/// What happens to messages of one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behavior {
    /// Refused in the answer with this code.
    Refused(u32),
    /// Accepted, then `failed` with this code.
    Fails(u32),
    /// `sent` and nothing more.
    NeverDelivered,
    /// `sent` and `delivered`, never `read`.
    NeverRead,
    /// The statuses arrive as read, delivered, sent.
    Reversed,
    /// Accepted, but the answer takes its time.
    SlowAnswer,
    /// Answered with a server error, not accepted.
    ServerErrorNotAccepted,
    /// Answered with a server error, accepted all the same.
    ServerErrorAccepted,
    /// `message_status` is `held_for_quality_assessment`; the statuses follow.
    Held,
    /// Every status arrives twice.
    Doubled,
    /// `read` follows `sent`; `delivered` is skipped.
    ReadAtOnce,
    /// Accepted, but the connection is closed instead of an answer.
    CutAfterAcceptance,
    /// Not accepted, and the connection is closed instead of an answer.
    CutBeforeAcceptance,
    /// Accepted, but no answer ever comes.
    NeverAnswers,
    /// The customer service window is always open; all else is ordinary.
    WindowAlwaysOpen,
}

/// The recipients with a number of their own, and what to tell people about them.
#[rustfmt::skip]
pub(super) const NUMBERS: &[(&str, Behavior, &str)] = &[
    ("15550000001", Behavior::NeverDelivered, "sent only, never delivered"),
    ("15550000002", Behavior::NeverRead, "sent and delivered, never read"),
    ("15550000003", Behavior::Reversed, "statuses arrive in the order read, delivered, sent"),
    ("15550000004", Behavior::SlowAnswer, "accepted, but the answer takes slow_answer_ms (3 s)"),
    ("15550000005", Behavior::ServerErrorNotAccepted, "HTTP 500 with code 131000, not accepted"),
    ("15550000006", Behavior::ServerErrorAccepted, "HTTP 500 with code 131000, but accepted: statuses follow"),
    ("15550000007", Behavior::Held, "message_status held_for_quality_assessment, then sent, delivered, read"),
    ("15550000008", Behavior::Doubled, "every status arrives twice"),
    ("15550000009", Behavior::ReadAtOnce, "sent, then read; delivered is skipped"),
    ("15550000010", Behavior::CutAfterAcceptance, "connection closed after acceptance: statuses follow"),
    ("15550000011", Behavior::CutBeforeAcceptance, "connection closed before acceptance"),
    ("15550000012", Behavior::NeverAnswers, "accepted, but no answer ever comes: statuses follow"),
    ("15550000013", Behavior::WindowAlwaysOpen, "free-form messages pass without an inbound message"),
];

/// Numbers that begin so and end in a code of six digits are refused with it, if Meta reports that code in
/// answers; else the message fails with it later.
pub(super) const AS_REPORTED: &str = "15550";
/// Numbers that begin so and end in a code of six digits always fail with it later, in a status.
pub(super) const IN_STATUS: &str = "15551";

/// What happens to messages of this `wa_id`, if it is magic.
pub(super) fn behavior(wa_id: &str) -> Option<Behavior> {
    if let Some((_, behavior, _)) = NUMBERS.iter().find(|(number, _, _)| *number == wa_id) {
        return Some(*behavior);
    }
    let (prefix, code) = wa_id.split_at_checked(AS_REPORTED.len())?;
    if code.len() != 6 || !code.starts_with("13") {
        return None;
    }
    let entry = graph_error::entry(code.parse().ok()?)?;
    match prefix {
        IN_STATUS => Some(Behavior::Fails(entry.code)),
        AS_REPORTED => Some(match entry.reported {
            Reported::InAnswer => Behavior::Refused(entry.code),
            Reported::InStatus => Behavior::Fails(entry.code),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_in_numbers() {
        for (wa_id, expected) in [
            ("15550131026", Some(Behavior::Fails(131_026))),
            ("15550131030", Some(Behavior::Refused(131_030))),
            ("15550130429", Some(Behavior::Refused(130_429))),
            ("15551130429", Some(Behavior::Fails(130_429))),
            ("15550132001", Some(Behavior::Refused(132_001))),
            ("15550139999", None),
            ("15552131026", None),
            ("15550783881", None),
            ("16505551234", None),
            ("1555013102", None),
            ("15550000002", Some(Behavior::NeverRead)),
        ] {
            assert_eq!(behavior(wa_id), expected, "{wa_id}");
        }
    }

    #[test]
    fn the_module_documentation_lists_every_number() {
        let documentation = include_str!("../simulator.rs");
        for (number, _, text) in NUMBERS {
            assert!(documentation.contains(number) && documentation.contains(text), "{number}");
        }
    }
}
