//! A row for each kind of fault and for each magic recipient.

use serde_json::{Value, json};
use tonic::Code;

use super::row::{
    Delay, Failure, Refused, Row, Said, USUAL_LIFE, accepted, magic, refused, unknown,
    unknown_though_accepted,
};

const HTML: &str = "<html><body>Sorry, something went wrong.</body></html>";
const REVERSED: &[&str] = &["read", "delivered", "sent"];
/// Longer than the gateway waits in these tests.
const TOO_LATE_MS: u64 = 5000;

fn html(status: u16) -> Value {
    json!({"http": {"status": status, "body": HTML}})
}

/// The same of what Meta has accepted.
fn done(mut fault: Value) -> Value {
    fault["carried_out"] = true.into();
    fault
}

/// An answer that says it is JSON.
fn raw(status: u16, body: &str) -> Value {
    json!({"http": {"status": status, "body": body, "content_type": "application/json"}})
}

fn why(code: Code, reason: &'static str, actors: &'static [&'static str], delay: Delay) -> Refused {
    Refused { code, reason: Some(reason), actors, delay }
}

fn not_allowed() -> Refused {
    why(Code::FailedPrecondition, "RECIPIENT_NOT_ALLOWED", &["operator"], Delay::None)
}

/// All that is played while no webhook comes through.
pub fn rows() -> Vec<Row> {
    [silences(), answers(), errors(), throttles(), webhooks(), recipients()].into_iter().flatten().collect()
}

/// Late answers, cuts and stalls.
fn silences() -> Vec<Row> {
    let error = json!({"code": 131_030});
    vec![
        accepted("late answer", json!({"delay_ms": 300})),
        unknown_though_accepted("answer too late", json!({"delay_ms": TOO_LATE_MS})),
        refused("late refusal", json!({"delay_ms": 300, "error": error}), not_allowed()),
        unknown("refusal too late", json!({"delay_ms": TOO_LATE_MS, "error": error})),
        unknown("stall", json!({"stall": true})),
        unknown("cut before acceptance", json!({"cut": "before_acceptance"})),
        unknown_though_accepted("cut after acceptance", json!({"cut": "after_acceptance"})),
        unknown_though_accepted(
            "late cut after acceptance",
            json!({"delay_ms": 300, "cut": "after_acceptance"}),
        ),
        unknown_though_accepted("stall though accepted", json!({"stall": true, "carried_out": true})),
    ]
}

/// Answers that are none of Meta's. Without a code the HTTP status counts (reference 5.1); a 5xx, a redirect, a timeout
/// at the edge and a success that names no message prove nothing.
fn answers() -> Vec<Row> {
    let redirect = |status: u16| {
        let location = "/v25.0/106540352242922/messages";
        json!({"http": {"status": status, "location": location}})
    };
    let with = |mut fault: Value, retry_after: u64| {
        fault["retry_after"] = retry_after.into();
        fault
    };
    let credentials = || why(Code::FailedPrecondition, "UPSTREAM_CREDENTIALS", &["operator"], Delay::None);
    let refusal = || why(Code::InvalidArgument, "UPSTREAM_REFUSED", &["caller"], Delay::None);
    let conflict = |delay| why(Code::Aborted, "UPSTREAM_CONFLICT", &["caller"], Delay::Exactly(delay));
    let limit =
        |delay| why(Code::ResourceExhausted, "UPSTREAM_ACCOUNT_RATE", &["caller"], Delay::Exactly(delay));
    let not_found = why(Code::NotFound, "UPSTREAM_NOT_FOUND", &["caller"], Delay::None);
    let mut rows = vec![
        unknown("HTTP 200 without a message", raw(200, "{\"messages\":[]}")),
        unknown("HTTP 200 with a message without id", raw(200, "{\"messages\":[{\"id\":\"\"}]}")),
        unknown("HTTP 200 with a list", raw(200, "[]")),
        unknown("HTTP 200 and nothing", raw(200, "")),
        unknown("HTTP 204", raw(204, "")),
        unknown_though_accepted("HTML with HTTP 200 though accepted", done(html(200))),
        unknown_though_accepted("HTML with HTTP 502 though accepted", done(html(502))),
        unknown("HTTP 500 and half of JSON", raw(500, "{\"error\":")),
        unknown("HTTP 503 and nothing", raw(503, "")),
        unknown("HTML with HTTP 503 and Retry-After", with(html(503), 5)),
        refused("HTML with HTTP 401", html(401), credentials()),
        refused("HTML with HTTP 403", html(403), credentials()),
        refused("HTML with HTTP 404", html(404), not_found),
        refused("HTML with HTTP 409", html(409), conflict(60)),
        refused("HTML with HTTP 409 and Retry-After", with(html(409), 70), conflict(70)),
        refused("HTML with HTTP 429", html(429), limit(60)),
        refused("HTML with HTTP 429 and Retry-After", with(html(429), 70), limit(70)),
    ];
    rows.extend([400, 405, 413, 431].map(|s| refused(&format!("HTML with HTTP {s}"), html(s), refusal())));
    rows.extend(
        [200, 408, 500, 502, 504, 599, 999].map(|s| unknown(&format!("HTML with HTTP {s}"), html(s))),
    );
    rows.extend([301, 302, 303, 307, 308].map(|s| unknown(&format!("redirect with HTTP {s}"), redirect(s))));
    rows
}

/// What errors of Meta may carry besides a listed code.
fn errors() -> Vec<Row> {
    let error = |error: Value| json!({"error": error});
    let unlisted = 424_242;
    let refusal = || why(Code::InvalidArgument, "UPSTREAM_REFUSED", &["caller"], Delay::None);
    let not_found = || why(Code::NotFound, "UPSTREAM_NOT_FOUND", &["caller"], Delay::None);
    let exists = why(Code::AlreadyExists, "UPSTREAM_CONFLICT", &["caller"], Delay::None);
    let credentials = why(Code::FailedPrecondition, "UPSTREAM_CREDENTIALS", &["operator"], Delay::None);
    vec![
        refused("details", error(json!({"code": 131_030, "details": "say why"})), not_allowed())
            .words("say why"),
        refused("message", error(json!({"code": unlisted, "message": "say so"})), refusal()).words("say so"),
        refused(
            "texts for people",
            error(json!({"code": unlisted, "user_title": "In short", "user_msg": "at length"})),
            refusal(),
        )
        .words("In short: at length"),
        refused("subcode 33 under 100", error(json!({"code": 100, "subcode": 33})), not_found()),
        refused("subcode 2388024 under 100", error(json!({"code": 100, "subcode": 2_388_024})), exists),
        refused("subcode 463 under 190", error(json!({"code": 190, "subcode": 463})), credentials),
        refused("unlisted, HTTP 400", error(json!({"code": unlisted, "http_status": 400})), refusal()),
        refused("unlisted, HTTP 404", error(json!({"code": unlisted, "http_status": 404})), not_found()),
        unknown("unlisted, HTTP 500", error(json!({"code": unlisted, "http_status": 500}))),
        unknown("unlisted and transient", error(json!({"code": unlisted, "transient": true}))),
        refused(
            "listed and called transient",
            error(json!({"code": 131_030, "transient": true})),
            not_allowed(),
        ),
        unknown_though_accepted("131000 though accepted", done(error(json!({"code": 131_000})))),
        unknown_though_accepted("131016 though accepted", done(error(json!({"code": 131_016})))),
        unknown("an error with HTTP 200", error(json!({"code": 131_030, "http_status": 200}))),
    ]
}

/// Throttles that pass inside the caller's deadline: tried again by the gateway itself.
fn throttles() -> Vec<Row> {
    vec![
        accepted("throttled once", json!({"error": {"code": 130_429}})).posts(2),
        accepted("throttled, Retry-After 1", json!({"error": {"code": 130_429}, "retry_after": 1})).posts(2),
        accepted("pair limit once", json!({"error": {"code": 131_056}})).posts(2),
    ]
}

/// Statuses that come doubled, in another order, and together.
fn webhooks() -> Vec<Row> {
    let all = json!({"duplicate_webhooks": 1, "reorder_webhooks": true, "batch_webhooks": 3});
    let mut cut = all.clone();
    cut["cut"] = "after_acceptance".into();
    vec![
        accepted("statuses three times", json!({"duplicate_webhooks": 2})).webhooks(9),
        accepted("statuses reversed", json!({"reorder_webhooks": true})).life(REVERSED),
        accepted("statuses in one POST", json!({"batch_webhooks": 3})).webhooks(1),
        accepted("statuses in two POSTs", json!({"batch_webhooks": 2})).webhooks(2),
        accepted("all of that", all).life(REVERSED).webhooks(2),
        unknown_though_accepted("cut, then all of that", cut).life(REVERSED).webhooks(2),
    ]
}

/// Those to whom something particular happens.
fn recipients() -> Vec<Row> {
    let magic = |name: &str, number: u32, said, life| {
        magic(&format!("recipient {number}: {name}"), &format!("+155500000{number:02}"), said, life)
    };
    let unreachable = Failure { code: 131_026, reason: "RECIPIENT_UNREACHABLE", actors: &["recipient"] };
    vec![
        magic("never delivered", 1, Said::Accepted, &["sent"]),
        magic("never read", 2, Said::Accepted, &["sent", "delivered"]),
        magic("reversed", 3, Said::Accepted, REVERSED),
        magic("slow answer", 4, Said::Accepted, USUAL_LIFE),
        magic("error, not accepted", 5, Said::Unknown, &[]),
        magic("error though accepted", 6, Said::Unknown, USUAL_LIFE),
        magic("held", 7, Said::Held, USUAL_LIFE),
        magic("doubled", 8, Said::Accepted, USUAL_LIFE).webhooks(6),
        magic("read at once", 9, Said::Accepted, &["sent", "read"]),
        magic("cut after acceptance", 10, Said::Unknown, USUAL_LIFE),
        magic("cut before acceptance", 11, Said::Unknown, &[]),
        magic("no answer though accepted", 12, Said::Unknown, USUAL_LIFE),
        magic("window always open", 13, Said::Accepted, USUAL_LIFE),
        super::row::magic("by code, in the answer", "+15550131030", Said::Refused(not_allowed()), &[]),
        super::row::magic("by code, in a status", "+15550131026", Said::Accepted, USUAL_LIFE)
            .fails(unreachable),
    ]
}

/// Statuses that come before the answer, or instead of it: the caller sees a success at once.
pub fn status_first() -> Vec<Row> {
    let late = || json!({"delay_ms": TOO_LATE_MS});
    let throughput = Failure { code: 130_429, reason: "UPSTREAM_THROUGHPUT", actors: &["caller"] };
    vec![
        accepted("status, then the answer", json!({"delay_ms": 1500})),
        accepted("status, and the answer too late", late()),
        accepted("status, then a cut", json!({"delay_ms": 1500, "cut": "after_acceptance"})),
        accepted("status, then an error", json!({"delay_ms": 1500})).to("+15550000006"),
        accepted(
            "status, then HTML",
            json!({"delay_ms": 1500, "http": {"status": 502}, "carried_out": true}),
        ),
        accepted("status, and no answer", json!({"duplicate_webhooks": 1})).to("+15550000012").webhooks(6),
        accepted(
            "statuses reversed, then a cut",
            json!({"delay_ms": 1500, "cut": "after_acceptance", "reorder_webhooks": true}),
        )
        .life(REVERSED),
        accepted("failed, then the answer", json!({"delay_ms": 1500})).to("+15551130429").fails(throughput),
    ]
}
