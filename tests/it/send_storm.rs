//! Sends under everything at once: faults of Meta, callers who hang up, kill -9. What Meta accepted is told to whoever asks,
//! once; what nothing proves is called unknown; under RESEND every message goes out exactly once.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;
use whatsapp_gateway::contract::v1;

use crate::support::gateway::Client;
use crate::support::rpc::{Refusal, text_to};
use crate::support::{Gateway, Rng, Serve, rounds, webhook};

/// Callers at once.
const CALLERS: usize = 32;
/// Between two kills.
const ALIVE: std::ops::RangeInclusive<u64> = 1000..=2500;
/// Answers of unknown after which a caller gives up for now.
const UNKNOWN_MAX: u32 = 3;
/// In which one more request must settle at the end. Twenty are sent again per second, so all of them may take longer.
const SETTLING: Duration = Duration::from_mins(1);

/// What happens to the first send of a request.
const FAULTS: [(&str, u64); 12] = [
    ("none", 40),
    ("cut after acceptance", 8),
    ("cut before acceptance", 8),
    ("error though accepted", 5),
    ("no answer though accepted", 3),
    ("stalled", 4),
    ("throttled", 6),
    ("refused", 6),
    ("error", 6),
    ("bad gateway", 6),
    ("slow answer", 4),
    ("statuses twice", 4),
];

/// One message that somebody wants to be sent.
#[derive(Debug, Clone)]
struct Plan {
    id: String,
    number: String,
    fault: &'static str,
    /// After how many milliseconds its caller hangs up, call by call; then it waits.
    hang_ups: Vec<u64>,
}

/// What a caller heard last.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Heard {
    Accepted { message_id: String },
    Unknown,
}

fn drawn(rng: &mut Rng, number: u64) -> Plan {
    let mut point = rng.between(1, FAULTS.iter().map(|(_, share)| share).sum());
    let fault = FAULTS.iter().find(|(_, share)| {
        let is_here = point <= *share;
        point = point.saturating_sub(*share);
        is_here
    });
    let (fault, _) = *fault.unwrap();
    let number = format!("+1650{number:07}");
    let hang_ups = (0..rng.between(0, 5).saturating_sub(2)).map(|_| rng.between(0, 60)).collect();
    Plan { id: format!("{:016x}", rng.next()), number, fault, hang_ups }
}

/// The fault as the simulator wants it.
fn planned(plan: &Plan) -> Option<Value> {
    let fault = match plan.fault {
        "cut after acceptance" => json!({"cut": "after_acceptance"}),
        "cut before acceptance" => json!({"cut": "before_acceptance"}),
        "error though accepted" => json!({"error": {"code": 131_000}, "carried_out": true}),
        "no answer though accepted" => json!({"stall": true, "carried_out": true}),
        "stalled" => json!({"stall": true}),
        "throttled" => json!({"error": {"code": 130_429}}),
        "refused" => json!({"error": {"code": 131_053}}),
        "error" => json!({"error": {"code": 131_000}}),
        "bad gateway" => json!({"http": {"status": 502, "body": "<html>"}}),
        "slow answer" => json!({"delay_ms": 200}),
        "statuses twice" => json!({"duplicate_webhooks": 1}),
        _ => return None,
    };
    Some(json!({"match": {"path_suffix": "/messages", "to": plan.number}, "fault": fault}))
}

fn request(plan: &Plan, on_unknown: v1::OnUnknown) -> v1::SendMessageRequest {
    v1::SendMessageRequest {
        request_id: plan.id.clone(),
        phone_number_id: webhook::PHONE_NUMBER_ID.to_owned(),
        callback_data: plan.id.clone(),
        on_unknown: on_unknown.into(),
        ..text_to(&plan.number, "Hello")
    }
}

/// One call; nothing if the caller should ask again.
async fn ask(mut client: Client, plan: &Plan, on_unknown: v1::OnUnknown) -> Option<Heard> {
    let status = match client.send_message(request(plan, on_unknown)).await {
        Ok(response) => return Some(Heard::Accepted { message_id: response.into_inner().message_id }),
        Err(status) => status,
    };
    // The connection broke, or nobody is there.
    let is_ours = !status.details().is_empty();
    if !is_ours {
        return None;
    }
    let refusal = Refusal::of(&status);
    match (refusal.code, refusal.reason.as_str()) {
        (Code::Unknown, "SEND_OUTCOME_UNKNOWN") => Some(Heard::Unknown),
        (Code::Aborted, "REQUEST_IN_PROGRESS")
        | (Code::ResourceExhausted, "UPSTREAM_THROUGHPUT")
        | (Code::InvalidArgument, "MEDIA_REJECTED")
        | (Code::Unavailable, _) => None,
        other => panic!("{other:?}: {}", refusal.message),
    }
}

/// Asks for one message to be sent until it hears what became of it.
async fn want(plan: &Plan, on_unknown: v1::OnUnknown, clients: &mut watch::Receiver<Client>) -> (Heard, u64) {
    let mut hang_ups = plan.hang_ups.iter();
    let (mut calls, mut unknown) = (0, 0);
    loop {
        let client = clients.borrow_and_update().clone();
        calls += 1;
        assert!(calls < 10_000, "nobody says what became of {plan:?}");
        let patience = hang_ups.next().map_or(Duration::from_secs(10), |ms| Duration::from_millis(*ms));
        match timeout(patience, ask(client, plan, on_unknown)).await.unwrap_or_default() {
            Some(Heard::Unknown) if unknown + 1 < UNKNOWN_MAX => unknown += 1,
            Some(heard) => return (heard, calls),
            None => {}
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// The messages that the simulator accepted, by request id, as their statuses show. Never two of one request.
pub(crate) async fn accepted(gateway: &Gateway) -> HashMap<String, HashSet<String>> {
    let record = gateway.simulator("deliveries").await;
    let mut accepted: HashMap<String, HashSet<String>> = HashMap::new();
    for delivery in record["deliveries"].as_array().unwrap() {
        for status in delivery["body"]["entry"][0]["changes"][0]["value"]["statuses"].as_array().unwrap() {
            let data = status["biz_opaque_callback_data"].as_str().unwrap();
            let (_, id) = data.rsplit_once('.').unwrap();
            let message_id = status["id"].as_str().unwrap().to_owned();
            accepted.entry(id.to_owned()).or_default().insert(message_id);
        }
    }
    for (id, messages) in &accepted {
        assert_eq!(messages.len(), 1, "{id} went out more than once: {messages:?}");
    }
    accepted
}

async fn start() -> Serve {
    let builder = Serve::builder()
        .env("WHATSAPP_GATEWAY__CLOUD_API__REQUEST_TIMEOUT", "1 s")
        .env("WHATSAPP_GATEWAY__SENDING__RESEND_AFTER", "6 s")
        .env("WHATSAPP_GATEWAY__SENDING__MESSAGES_PER_SECOND", "1000000")
        .env("WHATSAPP_GATEWAY__SENDING__PACE_RECIPIENTS", "false")
        .env("WHATSAPP_GATEWAY__TELEMETRY__LOG_LEVEL", "error");
    let serve = builder.start().await;
    serve.gateway.without_limits().await;
    let delays = json!({
        "sent_ms": 20, "failed_ms": 20, "delivered_ms": 30, "read_ms": 40,
        "retry_first_ms": 20, "retry_longest_ms": 200, "attempts_max": 100_000,
    });
    serve.gateway.simulate("delays", &delays).await;
    serve
}

/// All of them wanted by a few callers at a time, while the process is killed now and then.
async fn storm(
    serve: &mut Serve,
    rng: &mut Rng,
    plans: &[Plan],
    on_unknown: v1::OnUnknown,
) -> (HashMap<String, Heard>, u64, u64) {
    let (sender, clients) = watch::channel(serve.gateway.client().await);
    let left = Arc::new(Mutex::new(plans.iter().cloned().collect::<VecDeque<_>>()));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (left, mut clients) = (Arc::clone(&left), clients.clone());
        callers.spawn(async move {
            let (mut all_heard, mut all_calls) = (Vec::new(), 0);
            loop {
                let next = left.lock().unwrap().pop_front();
                let Some(plan) = next else { return (all_heard, all_calls) };
                let (heard, calls) = want(&plan, on_unknown, &mut clients).await;
                all_calls += calls;
                all_heard.push((plan.id, heard));
            }
        });
    }
    let (mut all_heard, mut all_calls, mut kills) = (HashMap::new(), 0, 0);
    let mut next_kill = Instant::now() + Duration::from_millis(rng.between(*ALIVE.start(), *ALIVE.end()));
    loop {
        tokio::select! {
            ended = callers.join_next() => match ended {
                Some(ended) => {
                    let (heard, calls) = ended.unwrap();
                    all_heard.extend(heard);
                    all_calls += calls;
                }
                None => return (all_heard, all_calls, kills),
            },
            () = tokio::time::sleep_until(next_kill) => {
                serve.restart().await;
                kills += 1;
                sender.send_replace(serve.gateway.client().await);
                let alive = rng.between(*ALIVE.start(), *ALIVE.end());
                next_kill = Instant::now() + Duration::from_millis(alive);
            }
        }
    }
}

/// What each request ends with, once every status is there. Under REPORT what Meta did not accept stays unknown.
async fn settle(
    gateway: &Gateway,
    plans: &[Plan],
    on_unknown: v1::OnUnknown,
) -> (HashMap<String, Heard>, HashMap<String, HashSet<String>>) {
    let client = gateway.client().await;
    let (mut last, mut deadline) = (usize::MAX, Instant::now() + SETTLING);
    let mut end = HashMap::new();
    loop {
        let is_open = |plan: &&Plan| !matches!(end.get(&plan.id), Some(Heard::Accepted { .. }));
        let open: Vec<_> = plans.iter().filter(is_open).collect();
        for some in open.chunks(CALLERS) {
            let calls = some.iter().map(|plan| ask(client.clone(), plan, on_unknown));
            let answers = futures_util::future::join_all(calls).await;
            end.extend(some.iter().zip(answers).filter_map(|(plan, heard)| Some((plan.id.clone(), heard?))));
        }
        let accepted = accepted(gateway).await;
        let is_settled = |plan: &Plan| match end.get(&plan.id) {
            None => false,
            Some(Heard::Accepted { message_id }) => {
                accepted.get(&plan.id).is_some_and(|messages| messages.contains(message_id))
            }
            Some(Heard::Unknown) => on_unknown == v1::OnUnknown::Report && !accepted.contains_key(&plan.id),
        };
        let open: Vec<_> = plans.iter().filter(|plan| !is_settled(plan)).collect();
        if open.is_empty() {
            return (end, accepted);
        }
        if open.len() < last {
            (last, deadline) = (open.len(), Instant::now() + SETTLING);
        }
        let shown = || open.iter().take(5).map(|plan| (plan, end.get(&plan.id), accepted.get(&plan.id)));
        assert!(Instant::now() < deadline, "{last} never settle: {:#?}", shown().collect::<Vec<_>>());
        sleep(Duration::from_millis(200)).await;
    }
}

/// Sends so many and checks every one of them against what the simulator did.
async fn every_send_is_accounted_for(name: &str, usual_seed: u64, count: u64, on_unknown: v1::OnUnknown) {
    let mut rng = Rng::seeded(usual_seed);
    let started = Instant::now();
    let plans: Vec<_> = (0..count).map(|number| drawn(&mut rng, number)).collect();
    let mut serve = start().await;
    for some in plans.chunks(1000) {
        let faults: Vec<_> = some.iter().filter_map(planned).collect();
        serve.gateway.simulate("faults", &json!(faults)).await;
    }
    let (heard, calls, kills) = storm(&mut serve, &mut rng, &plans, on_unknown).await;
    let (end, _) = settle(&serve.gateway, &plans, on_unknown).await;
    // Once more, from the disk alone.
    serve.restart().await;
    let (after_restart, accepted) = settle(&serve.gateway, &plans, on_unknown).await;
    assert_eq!(after_restart, end);
    for (id, first) in &heard {
        assert!(*first == Heard::Unknown || *first == end[id], "{id}: {first:?}, then {:?}", end[id]);
    }
    print(name, &plans, &heard, &end, &accepted);
    let seconds = started.elapsed().as_secs();
    println!("{count} requests, {calls} calls, {kills} kills, {seconds} s");
    if on_unknown == v1::OnUnknown::Resend {
        assert_eq!(accepted.len(), plans.len(), "under RESEND every message goes out");
    }
}

/// The table of what came of what.
fn print(
    name: &str,
    plans: &[Plan],
    heard: &HashMap<String, Heard>,
    end: &HashMap<String, Heard>,
    accepted: &HashMap<String, HashSet<String>>,
) {
    let mut rows: BTreeMap<&str, [usize; 5]> = BTreeMap::new();
    for plan in plans {
        let row = rows.entry(plan.fault).or_default();
        let is_unknown = |heard: &HashMap<String, Heard>| heard[&plan.id] == Heard::Unknown;
        let counted =
            [true, accepted.contains_key(&plan.id), is_unknown(heard), !is_unknown(end), is_unknown(end)];
        for (cell, counts) in row.iter_mut().zip(counted) {
            *cell += usize::from(counts);
        }
    }
    println!(
        "{name}: first fault | requests | accepted by Meta | at first unknown | known at the end | unknown"
    );
    for (fault, [requests, accepted, first, known, unknown]) in rows {
        println!("{fault:>26} | {requests:8} | {accepted:16} | {first:16} | {known:16} | {unknown:7}");
    }
}

/// 32 of the failure model.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reported_sends_go_out_at_most_once_and_end_as_they_were() {
    every_send_is_accounted_for("REPORT", 20_261_122, rounds(1500, 15_000), v1::OnUnknown::Report).await;
}

/// 32 of the failure model, where what is unknown goes out again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resent_sends_go_out_exactly_once() {
    every_send_is_accounted_for("RESEND", 20_261_123, rounds(500, 5000), v1::OnUnknown::Resend).await;
}
