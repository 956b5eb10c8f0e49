//! A long queue, and kill -9 again and again: every message is sent at most once and reported exactly once.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;
use whatsapp_gateway::clock::{Clock, SystemClock};
use whatsapp_gateway::contract::v1::{self, MessageState};

use super::send_storm::accepted;
use crate::support::gateway::Client;
use crate::support::rpc::queued;
use crate::support::{Gateway, Refusal, Rng, Serve, rounds};

/// Callers at once.
const CALLERS: usize = 64;
const KILLS: usize = 10;
/// For the rest of the queue, after the last kill.
const SETTLING: Duration = Duration::from_mins(10);

/// What happens to a message. The shares are in percent.
const FATES: [(&str, u64); 7] = [
    ("none", 64),
    ("sent at once", 16),
    ("soon over", 10),
    ("refused", 3),
    ("throttled", 3),
    ("cut after acceptance", 2),
    ("cut before acceptance", 2),
];

/// When things happen, in proportion to the length of the queue.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// The milliseconds between a start and the next kill.
    alive: (u64, u64),
    /// When most messages may go out; until then the queue gets long.
    not_before: SystemTime,
    /// When the time of some is over.
    not_after: SystemTime,
}

impl Times {
    fn of(count: u64) -> Self {
        let not_before = SystemClock.now() + Duration::from_millis(count * 8 / 5);
        let not_after = not_before + Duration::from_millis(count / 4);
        Self { alive: (200, count * 3 / 10), not_before, not_after }
    }
}

#[derive(Debug, Clone)]
struct Plan {
    id: String,
    number: String,
    fate: &'static str,
}

fn drawn(rng: &mut Rng, number: u64) -> Plan {
    let mut point = rng.between(1, 100);
    let fate = FATES.iter().find(|(_, share)| {
        let is_here = point <= *share;
        point = point.saturating_sub(*share);
        is_here
    });
    Plan { id: format!("{:016x}", rng.next()), number: format!("+1650{number:07}"), fate: fate.unwrap().0 }
}

fn planned(plan: &Plan) -> Option<Value> {
    let fault = match plan.fate {
        "refused" => json!({"error": {"code": 131_053}}),
        "throttled" => json!({"error": {"code": 131_056}}),
        "cut after acceptance" => json!({"cut": "after_acceptance"}),
        "cut before acceptance" => json!({"cut": "before_acceptance"}),
        _ => return None,
    };
    Some(json!({"match": {"path_suffix": "/messages", "to": plan.number}, "fault": fault}))
}

fn request(plan: &Plan, times: Times) -> v1::SendMessageRequest {
    v1::SendMessageRequest {
        callback_data: plan.id.clone(),
        not_before: (plan.fate != "sent at once").then(|| times.not_before.into()),
        not_after: (plan.fate == "soon over").then(|| times.not_after.into()),
        ..queued(&plan.id, &plan.number, "Hello")
    }
}

/// Asks until somebody answers; false if the time of the message was over before.
async fn enqueue(request: &v1::SendMessageRequest, clients: &mut watch::Receiver<Client>) -> bool {
    loop {
        let mut client = clients.borrow_and_update().clone();
        match timeout(Duration::from_secs(10), client.send_message(request.clone())).await {
            Ok(Ok(_)) => return true,
            Ok(Err(status)) if !status.details().is_empty() => {
                let refusal = Refusal::of(&status);
                match (refusal.code, refusal.reason.as_str()) {
                    (_, "VALIDATION_FAILED") => {
                        assert_eq!(refusal.fields(), ["not_after"]);
                        return false;
                    }
                    (Code::Unavailable, _) => {}
                    // What an earlier call queued is over already, in whatever way.
                    (_, _) => return true,
                }
            }
            // The connection broke, or nobody is there.
            Ok(Err(_)) | Err(_) => {}
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// What was reported of each request; never twice.
async fn reports(gateway: &Gateway) -> HashMap<String, v1::SendReport> {
    let mut reports = HashMap::new();
    for (event, report) in gateway.send_reports().await {
        assert_eq!(event.r#type, "whatsapp.gateway.send");
        let twice = reports.insert(report.request_id.clone(), report);
        assert!(twice.is_none(), "reported twice: {twice:?}");
    }
    reports
}

async fn start() -> Serve {
    let builder = Serve::builder()
        .env("WHATSAPP_GATEWAY__SENDING__MESSAGES_PER_SECOND", "1000")
        .env("WHATSAPP_GATEWAY__TELEMETRY__LOG_LEVEL", "error");
    let serve = builder.start().await;
    serve.gateway.simulate("limits", &json!({"messages_per_second": 1000})).await;
    let delays = json!({
        "sent_ms": 20, "failed_ms": 20, "delivered_ms": 30, "read_ms": 40,
        "retry_first_ms": 20, "retry_longest_ms": 200, "attempts_max": 100_000,
    });
    serve.gateway.simulate("delays", &delays).await;
    serve
}

/// Queues everything, and kills the process now and then. Returns the requests that were too late to be queued.
async fn storm(serve: &mut Serve, rng: &mut Rng, plans: &[Plan], times: Times) -> Vec<String> {
    let (sender, clients) = watch::channel(serve.gateway.client().await);
    let left = Arc::new(Mutex::new(plans.to_vec()));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (left, mut clients) = (Arc::clone(&left), clients.clone());
        callers.spawn(async move {
            let mut too_late = Vec::new();
            loop {
                let next = left.lock().unwrap().pop();
                let Some(plan) = next else { return too_late };
                if !enqueue(&request(&plan, times), &mut clients).await {
                    too_late.push(plan.id);
                }
            }
        });
    }
    for _ in 0..KILLS {
        sleep(Duration::from_millis(rng.between(times.alive.0, times.alive.1))).await;
        serve.restart().await;
        sender.send_replace(serve.gateway.client().await);
    }
    callers.join_all().await.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_queue_survives_ten_kills() {
    let mut rng = Rng::seeded(20_261_124);
    let started = Instant::now();
    let count = rounds(5000, 50_000);
    let plans: Vec<_> = (0..count).map(|number| drawn(&mut rng, number)).collect();
    let mut serve = start().await;
    for some in plans.chunks(1000) {
        let faults: Vec<_> = some.iter().filter_map(planned).collect();
        serve.gateway.simulate("faults", &json!(faults)).await;
    }
    let too_late = storm(&mut serve, &mut rng, &plans, Times::of(count)).await;
    let queued: Vec<_> = plans.iter().filter(|plan| !too_late.contains(&plan.id)).collect();
    let queued_after = started.elapsed();
    let deadline = Instant::now() + SETTLING;
    while reports(&serve.gateway).await.len() < queued.len() {
        let missing = queued.len() - reports(&serve.gateway).await.len();
        assert!(Instant::now() < deadline, "{missing} were forgotten");
        sleep(Duration::from_millis(500)).await;
    }
    let settled_after = started.elapsed();
    // From the disk alone nothing is said again, and nothing is left.
    serve.restart().await;
    let reports = reports(&serve.gateway).await;
    assert_eq!(reports.len(), queued.len(), "of what was too late nothing is reported");
    let accepted = accepted(&serve.gateway).await;
    let mut rows: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for plan in queued {
        let (report, messages) = (&reports[&plan.id], accepted.get(&plan.id));
        let state = report.state();
        match state {
            MessageState::Accepted => {
                assert!(messages.is_some_and(|messages| messages.contains(&report.message_id)), "{plan:?}");
            }
            MessageState::Refused => assert!(messages.is_none() && plan.fate == "refused", "{report:?}"),
            MessageState::Expired => assert!(messages.is_none() && plan.fate == "soon over", "{report:?}"),
            MessageState::Unknown => {}
            MessageState::Unspecified
            | MessageState::Queued
            | MessageState::Sending
            | MessageState::Held
            | MessageState::Sent
            | MessageState::Failed
            | MessageState::Delivered
            | MessageState::Read
            | MessageState::Played => panic!("{report:?}"),
        }
        *rows.entry(plan.fate).or_default().entry(state.as_str_name()).or_default() += 1;
        if state == MessageState::Unknown {
            let word = if messages.is_some() { "… of which Meta has" } else { "… of which Meta has not" };
            *rows.entry(plan.fate).or_default().entry(word).or_default() += 1;
        }
    }
    for (fate, states) in rows {
        println!("{fate:>22} | {states:?}");
    }
    let too_late = too_late.len();
    println!(
        "{count} messages, {KILLS} kills, {too_late} too late to be queued, queued after {queued_after:?}, settled after \
         {settled_after:?}"
    );
}
