//! Rows for every code of the reference, with what the reference says of it: nothing here knows our own table.

use serde_json::{Value, json};
use tonic::Code;

use super::row::{Delay, Failure, Refused, Row, Said, accepted, magic, refused, unknown};
use crate::support::shared::corpus;

/// How long `retry_after` makes a caller wait who would otherwise see a retry: longer than any deadline, and than this test.
const STATED_DELAY: u64 = 3600;

/// A row of section 5.
#[derive(Debug)]
pub struct Documented {
    pub codes: Vec<i64>,
    /// Every HTTP status that the reference has seen with it; empty where it knows none.
    pub http: Vec<u16>,
    /// `5.2` to `5.10`.
    section: String,
    /// `S`, `A`, `SA`; empty where the section does not say.
    at: String,
    retry: String,
    grpc: String,
    /// A word or two; empty where the section does not say.
    reason: String,
}

/// The rows of section 5, or nothing when the reference is not beside the package.
pub fn documented() -> Option<Vec<Documented>> {
    let text = std::fs::read_to_string(corpus("cloud-api")?.join("REFERENCE.md")).unwrap();
    let chapter = text.split("\n## 5. Error codes").nth(1).unwrap().split("\n### 5.11").next().unwrap();
    let mut rows = Vec::new();
    for section in chapter.split("\n### ").skip(2) {
        let number = section.split_whitespace().next().unwrap();
        let mut lines = section.lines().filter_map(|line| line.trim().strip_prefix('|')).map(cells);
        let headings = lines.next().unwrap();
        for cells in lines.filter(|cells| !cells[0].starts_with("--")) {
            let cell = |name: &str| {
                let column = headings.iter().position(|heading| heading == name);
                column.map(|column| cells[column].clone()).unwrap_or_default()
            };
            rows.push(Documented {
                codes: codes(&cells[0]),
                http: cell("HTTP").split(['/', ' ']).filter_map(|status| status.parse().ok()).collect(),
                section: number.to_owned(),
                at: cell("Where"),
                retry: cell("Retry"),
                grpc: cell("gRPC"),
                reason: cell("Reason"),
            });
        }
    }
    let count: usize = rows.iter().map(|row| row.codes.len()).sum();
    assert!(count > 140, "the tables of the reference were not understood: {count} codes");
    Some(rows)
}

fn cells(line: &str) -> Vec<String> {
    line.trim_end_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
}

/// `131055`, `80007, 80008`, `2388047 / 2388072`; of the range `200-299` both ends and one between.
fn codes(cell: &str) -> Vec<i64> {
    let number = |text: &str| -> i64 { text.trim().parse().unwrap() };
    match cell.split_once('-') {
        Some((first, last)) => vec![number(first), i64::midpoint(number(first), number(last)), number(last)],
        None => cell.split([',', '/']).map(number).collect(),
    }
}

impl Documented {
    fn retries(&self, word: &str) -> bool {
        self.retry.starts_with(word)
    }

    /// What the caller of a send must see when this code comes with this HTTP status; nothing if it proves nothing.
    fn refusal(&self, http_status: u16) -> Option<Refused> {
        let code = match self.grpc.split([' ', '\\']).next().unwrap() {
            // Ours are the credentials and the permissions; the caller's are fine (5.1).
            "UNAUTHENTICATED" | "PERMISSION_DENIED" | "FAILED_PRECONDITION" => Code::FailedPrecondition,
            "INVALID_ARGUMENT" => Code::InvalidArgument,
            "NOT_FOUND" => Code::NotFound,
            "ALREADY_EXISTS" => Code::AlreadyExists,
            "RESOURCE_EXHAUSTED" => Code::ResourceExhausted,
            "ABORTED" | "OK" => Code::Aborted,
            "OUT_OF_RANGE" => Code::OutOfRange,
            "UNIMPLEMENTED" | "-" => Code::Unimplemented,
            // An outage; but UNAVAILABLE invites to try again, which is wrong where something must be changed first.
            "UNAVAILABLE" | "UNKNOWN" | "INTERNAL" | "DEADLINE_EXCEEDED"
                if self.retries("FIX") || self.retries("-") =>
            {
                Code::FailedPrecondition
            }
            "UNAVAILABLE" | "UNKNOWN" | "INTERNAL" | "DEADLINE_EXCEEDED" => Code::Unavailable,
            other => panic!("{other}"),
        };
        let proves_nothing = self.retries("AMBIG")
            // Meta names an outage and answers 5xx: nobody knows what it did before.
            || (code == Code::Unavailable && http_status >= 500)
            // Success, but no message.
            || http_status < 300;
        let (reason, actors) =
            self.reason().map_or((None, &[][..]), |(reason, actors)| (Some(reason), actors));
        (!proves_nothing).then_some(Refused { code, reason, actors, delay: self.delay() })
    }

    /// The reason and who must act, by the reference's word for it.
    fn reason(&self) -> Option<(&'static str, &'static [&'static str])> {
        let of_templates = self.section == "5.6";
        Some(match self.reason.as_str() {
            "" => return None,
            "token unusable"
            | "scope missing"
            | "scope/asset missing"
            | "no token"
            | "permission missing"
            | "permission" => ("UPSTREAM_CREDENTIALS", &["operator"]),
            "account blocked" | "billing" | "re-register" | "name review" | "terms" | "state" | "verify"
            | "not registered" | "account state" | "once only" | "too late" => {
                ("UPSTREAM_ACCOUNT", &["operator"])
            }
            "policy by country" | "test mode" => ("RECIPIENT_NOT_ALLOWED", &["operator"]),
            "unblock first" => ("RECIPIENT_NOT_ALLOWED", &["caller"]),
            "client too old" | "recipient unreachable" => ("RECIPIENT_UNREACHABLE", &["recipient"]),
            "opted out" => ("RECIPIENT_OPTED_OUT", &["recipient"]),
            "window closed" => ("WINDOW_CLOSED", &["caller"]),
            "quota" | "throttled" => ("UPSTREAM_ACCOUNT_RATE", &["caller", "operator"]),
            "throughput" => ("UPSTREAM_THROUGHPUT", &["caller"]),
            "pair limit" => ("UPSTREAM_PAIR_RATE", &["caller"]),
            "quality limit" | "limit reached" | "flow limit" => ("UPSTREAM_QUALITY_LIMIT", &["operator"]),
            "user cap" => ("UPSTREAM_QUALITY_LIMIT", &["meta"]),
            "short outage" | "clean-up running" | "outage" | "unknown" | "cause unclear" => {
                ("UPSTREAM_UNAVAILABLE", &["meta"])
            }
            "object missing or hidden" | "bad id" => ("UPSTREAM_NOT_FOUND", &["caller"]),
            "bad request" | "too long" | "content" if of_templates => ("TEMPLATE_PARAMETERS", &["caller"]),
            "bad request" | "wrong address kind" | "type unknown" | "wrong PIN" => {
                ("UPSTREAM_INVALID_PARAMETER", &["caller"])
            }
            "template missing" => ("TEMPLATE_NOT_FOUND", &["caller"]),
            "template state" => ("TEMPLATE_NOT_SENDABLE", &["caller", "operator"]),
            "name used" | "exists" => ("UPSTREAM_CONFLICT", &["caller"]),
            "feature state" | "feature blocked" => ("UPSTREAM_FEATURE", &["operator"]),
            "bad media" => ("MEDIA_REJECTED", &["caller"]),
            "media lost" => ("MEDIA_REJECTED", &["recipient"]),
            "experiment" | "inbound" => ("UPSTREAM_REFUSED", &["meta"]),
            "identity changed" => ("UPSTREAM_REFUSED", &["caller"]),
            "flow state" | "declined" => ("UPSTREAM_REFUSED", &["operator"]),
            other => panic!("a new word of the reference: {other}"),
        })
    }

    /// What `RetryInfo` must say: it belongs to BACKOFF, PAIR and WAIT (5.1).
    fn delay(&self) -> Delay {
        if self.is_short() {
            return Delay::Exactly(STATED_DELAY);
        }
        if self.retries("BACKOFF") {
            return Delay::AtLeast(60);
        }
        // `WAIT(24 h+, growing)`, `WAIT(1 min)`, `WAIT(minutes)`; or an event, which has no time.
        let Some(time) = self.retry.strip_prefix("WAIT(") else { return Delay::None };
        let mut words = time.split([' ', ')', '+', ',', '/']).filter(|word| !word.is_empty());
        let Some(count) = words.next() else { return Delay::None };
        match (count.parse::<u64>(), words.next()) {
            (Ok(count), Some("min")) => Delay::Exactly(count * 60),
            (Ok(count), Some("h")) => Delay::Exactly(count * 3600),
            (Ok(count), Some("d" | "days")) => Delay::Exactly(count * 86_400),
            (Err(_), _) if ["minutes", "details"].contains(&count) => Delay::AtLeast(60),
            (Err(_), _) if ["unpause", "end"].contains(&count) => Delay::None,
            other => panic!("a new time of the reference: {other:?} in {}", self.retry),
        }
    }

    /// Whether the gateway itself would try again, inside the deadline of the call.
    fn is_short(&self) -> bool {
        self.retries("PAIR") || (self.retries("BACKOFF") && !self.retry.contains("minutes"))
    }
}

/// Every code as an answer, with every HTTP status that the reference states for it.
pub fn answers() -> Vec<Row> {
    let mut rows = Vec::new();
    for documented in documented().unwrap_or_default() {
        // Where Meta documents no status, errors come with 400.
        let http: &[u16] = if documented.http.is_empty() { &[400] } else { &documented.http };
        for (code, http_status) in
            documented.codes.iter().flat_map(|code| http.iter().map(move |h| (code, h)))
        {
            let name = format!("{code}, HTTP {http_status}");
            let mut fault = json!({"error": {"code": code, "http_status": http_status}});
            if documented.is_short() {
                fault["retry_after"] = STATED_DELAY.into();
            }
            rows.push(match documented.refusal(*http_status) {
                Some(refusal) => refused(&name, fault, refusal),
                None => unknown(&name, fault),
            });
        }
    }
    rows
}

/// Every code that the reference has seen in a status and that the simulator can play there; each status comes twice.
pub fn statuses(page: &Value) -> Vec<Row> {
    let playable = |code: i64| page["error_codes"].as_array().unwrap().iter().any(|e| e["code"] == code);
    let mut rows = Vec::new();
    for documented in documented().unwrap_or_default().iter().filter(|row| row.at.contains('A')) {
        let (reason, actors) = documented.reason().unwrap();
        for code in documented.codes.iter().copied().filter(|code| playable(*code)) {
            let failure = Failure { code: code.try_into().unwrap(), reason, actors };
            let row =
                magic(&format!("{code} in a status"), &format!("+15551{code}"), Said::Accepted, &["failed"]);
            let twice = accepted("", json!({"duplicate_webhooks": 1})).fault;
            rows.push(Row { fault: twice, ..row.fails(failure).webhooks(2) });
        }
    }
    rows
}
