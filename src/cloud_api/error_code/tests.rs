//! The table against the reference, and the rules that stand above it.

use super::table::{ROWS, find};
use super::*;

fn error(code: i64, http_status: u16) -> MetaError {
    MetaError { code: Some(code), http_status, ..MetaError::default() }
}

/// One row of the reference: its codes, and the words of its columns "Retry" and "gRPC".
struct Documented {
    codes: Vec<i64>,
    retry: String,
    grpc: String,
}

/// The rows of section 5, or `None` when the reference is not beside the package.
fn documented() -> Option<Vec<Documented>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/cloud-api/REFERENCE.md");
    let Ok(text) = std::fs::read_to_string(path) else {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "CI needs {path}");
        eprintln!("skipped: no {path}");
        return None;
    };
    let section = text.split("\n## 5. Error codes").nth(1).unwrap().split("\n### 5.11").next().unwrap();
    let mut rows = Vec::new();
    let mut columns: Vec<String> = Vec::new();
    for line in section.lines().map(str::trim) {
        let Some(line) = line.strip_prefix('|') else {
            columns.clear();
            continue;
        };
        let cells: Vec<String> =
            line.trim_end_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        if cells[0] == "Code" {
            columns = cells;
        } else if !columns.is_empty() && !cells[0].starts_with("--") {
            let cell = |name: &str| cells[columns.iter().position(|column| column == name).unwrap()].clone();
            rows.push(Documented { codes: codes(&cells[0]), retry: cell("Retry"), grpc: cell("gRPC") });
        }
    }
    Some(rows)
}

/// `131055`, `80007, 80008`, `2388047 / 2388072`, `200-299`.
fn codes(cell: &str) -> Vec<i64> {
    if let Some((first, last)) = cell.split_once('-') {
        return (first.parse().unwrap()..=last.parse().unwrap()).collect();
    }
    cell.split([',', '/']).map(|code| code.trim().parse().unwrap()).collect()
}

#[test]
fn the_metrics_know_every_reason() {
    let unlisted =
        [400, 404, 429, 500].map(|status| verdict(&error(999_999, status), false, Operation::Send).reason);
    let others = [ambiguous(Operation::Send), ambiguous(Operation::Read), async_verdict(999_999)];
    let others = others.map(|verdict| verdict.reason).into_iter().chain(unlisted);
    for reason in ROWS.iter().map(|row| row.reason).chain(others) {
        let word = reason.as_str();
        assert!(crate::telemetry::names::META_CLASSES.contains(&word), "{word} is missing in META_CLASSES");
    }
}

#[test]
fn every_code_of_the_reference_has_a_row_that_agrees() {
    let Some(rows) = documented() else { return };
    let count: usize = rows.iter().map(|row| row.codes.len()).sum();
    assert!(count > 240, "the tables of the reference were not understood: {count} codes");
    for row in rows {
        for code in &row.codes {
            let ours = find(*code).unwrap_or_else(|| panic!("no row for {code}"));
            let word = match ours.policy {
                Policy::Fix => "FIX",
                Policy::Never => "NEVER",
                Policy::Backoff(_) => "BACKOFF",
                Policy::Wait(_) | Policy::WaitForEvent => "WAIT",
                Policy::Pair => "PAIR",
                Policy::Ambiguous => "AMBIG",
                Policy::Inbound => "-",
            };
            assert!(row.retry.starts_with(word), "{code}: {word} against {}", row.retry);
            assert!(
                classes(&row.grpc).contains(&ours.class),
                "{code}: {:?} against {}",
                ours.class,
                row.grpc
            );
        }
    }
}

/// What may stand in our table where the reference recommends this gRPC code.
fn classes(grpc: &str) -> &'static [Class] {
    let word: String =
        grpc.chars().take_while(|c| c.is_ascii_uppercase() || matches!(c, '_' | '-')).collect();
    match word.as_str() {
        // Rule 2: the caller's own credentials and permissions are fine.
        "UNAUTHENTICATED" | "PERMISSION_DENIED" | "FAILED_PRECONDITION" => &[Class::FailedPrecondition],
        "INVALID_ARGUMENT" => &[Class::InvalidArgument],
        "NOT_FOUND" => &[Class::NotFound],
        "ALREADY_EXISTS" => &[Class::AlreadyExists],
        "RESOURCE_EXHAUSTED" => &[Class::ResourceExhausted],
        "ABORTED" | "OK" => &[Class::Aborted],
        "OUT_OF_RANGE" => &[Class::OutOfRange],
        "UNIMPLEMENTED" | "-" => &[Class::Unimplemented],
        // Rules 1 and 3; what must be fixed first is not "safe to try again".
        "UNAVAILABLE" | "UNKNOWN" | "INTERNAL" | "DEADLINE_EXCEEDED" => {
            &[Class::Unavailable, Class::Unknown, Class::FailedPrecondition]
        }
        _ => panic!("{grpc}"),
    }
}

#[test]
fn no_code_has_two_rows() {
    for (index, row) in ROWS.iter().enumerate() {
        assert!(row.first <= row.last);
        for other in &ROWS[index + 1..] {
            assert!(row.last < other.first || other.last < row.first, "{} and {}", row.first, other.first);
        }
    }
}

#[test]
fn ambiguous_codes_are_unknown_on_a_send_and_unavailable_on_a_read() {
    for row in ROWS.iter().filter(|row| row.policy == Policy::Ambiguous) {
        for http_status in [400, 500] {
            let error = error(row.first, http_status);
            for operation in [Operation::Send, Operation::Write] {
                let verdict = verdict(&error, false, operation);
                assert_eq!((verdict.class, verdict.reason), (Class::Unknown, Reason::SendOutcomeUnknown));
                assert_eq!(verdict.retry, Retry::Ambiguous);
            }
            assert_eq!(verdict(&error, false, Operation::Read), OUTAGE);
        }
        assert_eq!(async_verdict(row.first), OUTAGE);
    }
}

#[test]
fn a_listed_refusal_wins_over_http_500() {
    let cases = [
        (3, Class::FailedPrecondition, Reason::UpstreamCredentials),
        (131_045, Class::FailedPrecondition, Reason::UpstreamAccount),
        // An outage that Meta names proves nothing about this message.
        (131_057, Class::Unknown, Reason::SendOutcomeUnknown),
        (134_102, Class::FailedPrecondition, Reason::TemplateNotSendable),
    ];
    for (code, class, reason) in cases {
        let verdict = verdict(&error(code, 500), true, Operation::Send);
        assert_eq!((verdict.class, verdict.reason), (class, reason), "{code}");
    }
}

#[test]
fn our_own_credentials_and_account_are_the_operators_business() {
    for code in [0, 3, 10, 102, 104, 190, 200, 250, 299, 368, 131_005, 131_031, 131_042] {
        let verdict = verdict(&error(code, 401), false, Operation::Send);
        assert_eq!((verdict.class, verdict.actor), (Class::FailedPrecondition, Actor::Operator), "{code}");
        assert!(matches!(verdict.reason, Reason::UpstreamCredentials | Reason::UpstreamAccount), "{code}");
    }
    assert!(ROWS.iter().all(|row| row.class != Class::PermissionDenied && row.class != Class::Internal));
}

#[test]
fn unavailable_may_always_be_waited_for() {
    for row in ROWS.iter().filter(|row| row.class == Class::Unavailable) {
        assert!(matches!(row.policy, Policy::Backoff(_) | Policy::Wait(_)), "{}", row.first);
    }
}

#[test]
fn a_known_subcode_says_more_than_a_generic_code() {
    let with = |code: Option<i64>, subcode| {
        let error = MetaError { code, subcode: Some(subcode), http_status: 400, ..MetaError::default() };
        verdict(&error, false, Operation::Write)
    };
    for code in [1, 3, 10, 100] {
        assert_eq!(with(Some(code), 2_388_024).class, Class::AlreadyExists);
    }
    assert_eq!(with(Some(100), 33).reason, Reason::UpstreamNotFound);
    assert_eq!(with(None, 2_494_164).class, Class::NotFound);
    assert_eq!(with(Some(999_999), 2_388_040).reason, Reason::TemplateRejected);
    // A code that says enough, subcodes without meaning, and small ones of other namespaces.
    assert_eq!(with(Some(190), 463).reason, Reason::UpstreamCredentials);
    assert_eq!(with(Some(131_030), 2_388_024).reason, Reason::RecipientNotAllowed);
    assert_eq!(with(Some(100), 2_018_001).reason, Reason::UpstreamInvalidParameter);
    assert_eq!(with(Some(100), 4).reason, Reason::UpstreamInvalidParameter);
}

#[test]
fn an_unlisted_code_goes_by_the_http_status() {
    let cases = [
        (400, Class::InvalidArgument, Class::InvalidArgument),
        (401, Class::FailedPrecondition, Class::FailedPrecondition),
        (403, Class::FailedPrecondition, Class::FailedPrecondition),
        (404, Class::NotFound, Class::NotFound),
        (408, Class::Unknown, Class::Unavailable),
        (409, Class::Aborted, Class::Aborted),
        (413, Class::InvalidArgument, Class::InvalidArgument),
        (429, Class::ResourceExhausted, Class::ResourceExhausted),
        (500, Class::Unknown, Class::Unavailable),
        (502, Class::Unknown, Class::Unavailable),
        (302, Class::Unknown, Class::Unavailable),
    ];
    for (http_status, send, read) in cases {
        for code in [Some(424_242), None] {
            let error = MetaError { code, http_status, ..MetaError::default() };
            assert_eq!(verdict(&error, false, Operation::Send).class, send, "{http_status}");
            assert_eq!(verdict(&error, false, Operation::Read).class, read, "{http_status}");
        }
    }
    assert_eq!(verdict(&error(424_242, 400), true, Operation::Read).class, Class::Unavailable);
    assert_eq!(verdict(&error(424_242, 400), true, Operation::Send).class, Class::Unknown);
    assert_eq!(async_verdict(424_242).class, Class::FailedPrecondition);
}

#[test]
fn delays_come_with_the_codes_that_can_be_waited_for() {
    let delay = |code| verdict(&error(code, 400), false, Operation::Send).retry.delay().map(|d| d.as_secs());
    assert_eq!(delay(130_429), Some(1));
    assert_eq!(delay(131_056), Some(1));
    assert_eq!(delay(80_007), Some(60));
    assert_eq!(delay(131_049), Some(24 * 3600));
    assert_eq!(delay(131_047), None);
    assert_eq!(delay(132_015), None);
    assert_eq!(describe(131_047), Some("the customer service window is closed"));
    assert_eq!(describe(5), None);
}
