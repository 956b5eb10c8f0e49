//! Sends take turns: as fast as Meta lets the number, fairly, and never so that Meta has to refuse.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;
use tonic::Code;
use whatsapp_gateway::contract::v1;

use crate::eventually;
use crate::support::rpc::{OPEN, send, text_to};
use crate::support::serve::{ALL_RIGHTS, Serve, caller};
use crate::support::{Gateway, Refusal, webhook};

/// 105 % of the throughput of a number (reference 6.1).
pub const FULLEST_SECOND_MAX: usize = 84;

/// When each message had its turn, in milliseconds, and whose it was, in order, by the gateway's log: how late a busy
/// machine goes on from there is not what is tested.
pub fn turns(gateway: &Gateway) -> Vec<(u64, String)> {
    let log = gateway.log();
    let turns = log.lines().filter(|line| line.contains("it has its turn"));
    let mut turns: Vec<_> = turns
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let time = millis(line["timestamp"].as_str().unwrap()) - line["late_ms"].as_u64().unwrap();
            (
                time,
                line["spans"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .find_map(|span| span["caller"].as_str())
                    .unwrap()
                    .to_owned(),
            )
        })
        .collect();
    turns.sort_unstable();
    turns
}

fn millis(time: &str) -> u64 {
    let time: prost_types::Timestamp = time.parse().unwrap();
    u64::try_from(time.seconds).unwrap() * 1000 + u64::try_from(time.nanos).unwrap() / 1_000_000
}

/// When Meta got each message, in milliseconds, in order.
pub async fn arrivals(gateway: &Gateway) -> Vec<u64> {
    let requests = gateway.simulator("requests?path=/messages").await;
    let mut times: Vec<u64> = requests
        .as_array()
        .unwrap()
        .iter()
        .map(|request| millis(request["time"].as_str().unwrap()))
        .collect();
    times.sort_unstable();
    times
}

/// The most that came in any sliding second.
pub fn fullest_second(times: &[u64]) -> usize {
    fullest(times, 1000)
}

/// The most that came in any time of so many milliseconds.
pub fn fullest(times: &[u64], millis: u64) -> usize {
    (0..times.len())
        .map(|end| times[..=end].iter().rev().take_while(|t| **t + millis > times[end]).count())
        .max()
        .unwrap()
}

/// 34 of the failure model: as many calls at once as there are, of callers with unequal demand.
#[tokio::test]
async fn a_skewed_load_is_sent_at_the_rate_of_the_number_and_never_above() {
    const LOAD: [(&str, u32); 4] = [("a", 300), ("b", 60), ("c", 30), ("d", 10)];
    let total: u32 = LOAD.iter().map(|(_, count)| count).sum();
    let callers = LOAD.map(|(name, _)| caller(name, &format!("token-{name}"), ALL_RIGHTS));
    let log_level = "WHATSAPP_GATEWAY__TELEMETRY__LOG_LEVEL";
    let serve = Serve::builder().more(&callers.concat()).env(log_level, "debug").start().await;
    let gateway = &serve.gateway;
    let mut calls = FuturesUnordered::new();
    let mut to = 16_505_550_000_u64;
    for (name, count) in LOAD {
        let client = gateway.client().await;
        for _ in 0..count {
            to += 1;
            let mut client = client.clone();
            let mut request = tonic::Request::new(template_to(&format!("+{to}")));
            let token = format!("Bearer token-{name}").parse().unwrap();
            request.metadata_mut().insert("authorization", token);
            request.set_timeout(Duration::from_secs(20));
            calls.push(async move {
                client.send_message(request).await.unwrap();
            });
        }
    }
    while calls.next().await.is_some() {}
    let (turns, arrived) = (turns(gateway), arrivals(gateway).await);
    let times: Vec<u64> = turns.iter().map(|(time, _)| *time).collect();
    let count = usize::try_from(total).unwrap();
    assert_eq!((times.len(), arrived.len()), (count, count));
    let took = Duration::from_millis(times[count - 1] - times[0]);
    let per_second = f64::from(total - 1) / took.as_secs_f64();
    println!(
        "{total} sends in {took:?}: {per_second:.1} per second, at most {} in a second",
        fullest_second(&times)
    );
    println!("of those that arrived at Meta at most {} in a second", fullest_second(&arrived));
    assert!(fullest_second(&times) <= FULLEST_SECOND_MAX);
    // Where the machine had time for it: a scheduler that wakes too late has lost turns for good.
    assert!(fullest(&times, 2000) >= 2 * 76, "{per_second}");
    // Who wants less than an equal part has it without waiting for the backlog of others, once all have come.
    for (name, count) in &LOAD[1..] {
        let last = turns.iter().rposition(|(_, caller)| caller == name).unwrap();
        println!("the last of {name} had turn {last}");
        assert!(last <= usize::try_from(4 * count + 100).unwrap(), "{name}: {last}");
    }
    assert!(refused_by_meta(gateway).await.is_empty(), "the simulator keeps Meta's limits");
}

/// Meta's codes in the metrics of the gateway.
async fn refused_by_meta(gateway: &Gateway) -> Vec<String> {
    let (_, metrics) = gateway.admin("/metrics").await;
    metrics
        .lines()
        .filter(|line| line.starts_with("whatsapp_gateway_meta_errors_total{") && !line.ends_with(" 0"))
        .map(str::to_owned)
        .collect()
}

pub fn template_to(number: &str) -> v1::SendMessageRequest {
    let language = Some(v1::TemplateLanguage { code: "en_US".to_owned(), policy: String::new() });
    let template = v1::Template { name: "hello_world".to_owned(), language, components: Vec::new() };
    let content = v1::send_message_request::Content::Template(template);
    let phone_number_id = webhook::PHONE_NUMBER_ID.to_owned();
    v1::SendMessageRequest { phone_number_id, recipient: text_to(number, "").recipient, ..send(content) }
}

#[tokio::test]
async fn one_recipient_is_paced_before_meta_refuses() {
    let gateway = Gateway::dev().await;
    let mut refused = None;
    for n in 0..60 {
        match gateway.client().await.send_message(hurried(text_to(OPEN, &n.to_string()))).await {
            Ok(_) => assert!(refused.is_none()),
            Err(status) => {
                refused = Some((n, status));
                break;
            }
        }
    }
    let (sent, status) = refused.expect("all of them went out");
    let refusal = Refusal::of(&status);
    assert!((43..=45).contains(&sent), "{sent}");
    assert_eq!(refusal.is(), (Code::ResourceExhausted, "LOCAL_RATE_LIMIT"));
    assert!(refusal.message.contains("same recipient"), "{}", refusal.message);
    assert!(refusal.retry.is_some_and(|retry| retry <= Duration::from_secs(7)), "{:?}", refusal.retry);
    assert!(refused_by_meta(&gateway).await.is_empty());
    // Others are not concerned.
    gateway.send(template_to("+16505559999")).await;
    assert_eq!(gateway.sent_bodies().await.len(), sent + 1);
}

/// With so little patience that nothing waits for seconds.
fn hurried(request: v1::SendMessageRequest) -> tonic::Request<v1::SendMessageRequest> {
    let mut request = tonic::Request::new(request);
    request.set_timeout(Duration::from_secs(2));
    request
}

#[tokio::test]
async fn a_message_without_its_turn_in_time_is_refused_at_once() {
    let gateway = Gateway::builder().env("WHATSAPP_GATEWAY__SENDING__MESSAGES_PER_SECOND", "2").start().await;
    let client = gateway.client().await;
    let mut waiting = FuturesUnordered::new();
    for n in 0..6 {
        let mut client = client.clone();
        waiting.push(async move {
            let began = Instant::now();
            let answer = client.send_message(hurried(template_to(&format!("+1650555100{n}")))).await;
            (answer.map_err(|status| Refusal::of(&status)), began.elapsed())
        });
    }
    let (mut sent, mut refused) = (0, 0);
    while let Some((answer, took)) = waiting.next().await {
        match answer {
            Ok(_) => sent += 1,
            Err(refusal) => {
                refused += 1;
                assert_eq!(refusal.is(), (Code::ResourceExhausted, "LOCAL_RATE_LIMIT"));
                assert!(refusal.retry.is_some());
                assert!(took < Duration::from_secs(1), "it was kept waiting for {took:?}");
            }
        }
    }
    assert!((3..=5).contains(&sent) && sent + refused == 6, "{sent} sent, {refused} refused");
    assert_eq!(gateway.sent_bodies().await.len(), sent);
}

#[tokio::test]
async fn an_urgent_message_goes_before_a_campaign() {
    let gateway =
        Gateway::builder().env("WHATSAPP_GATEWAY__SENDING__MESSAGES_PER_SECOND", "20").start().await;
    let client = gateway.client().await;
    let call = |priority: v1::Priority, n: u32| {
        let mut client = client.clone();
        let request =
            v1::SendMessageRequest { priority: priority.into(), ..template_to(&format!("+165055520{n:02}")) };
        async move { client.send_message(request).await.map(|_| n) }
    };
    let mut bulk: FuturesUnordered<_> = (0..40).map(|n| call(v1::Priority::Bulk, n)).collect();
    bulk.next().await.unwrap().unwrap();
    let before = gateway.sent_bodies().await.len();
    call(v1::Priority::Urgent, 99).await.unwrap();
    let arrived = gateway.sent_bodies().await;
    let place = arrived.iter().position(|body| body["to"] == "+16505552099").unwrap();
    // Some have their turn while it is on its way to its own, which takes long on a busy machine.
    assert!(
        place <= before + 4,
        "it came after {place} messages of the campaign, of which {before} were sent before it"
    );
    while let Some(answer) = bulk.next().await {
        answer.unwrap();
    }
}

#[tokio::test]
async fn messages_to_one_recipient_keep_their_order() {
    let gateway = Gateway::dev().await;
    let client = gateway.client().await;
    gateway.fault("/messages", serde_json::json!({"delay_ms": 2000})).await;
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..5 {
        let mut client = client.clone();
        calls.spawn(async move { client.send_message(text_to(OPEN, &n.to_string())).await.unwrap() });
        // Each stands in line, or is under way, before the next comes.
        eventually!(if n == 0 {
            gateway.sent_bodies().await.len() == 1
        } else {
            waiting(&gateway).await == n
        });
    }
    calls.join_all().await;
    let bodies = gateway.sent_bodies().await;
    let texts: Vec<_> = bodies.iter().map(|body| body["text"]["body"].as_str().unwrap()).collect();
    assert_eq!(texts, ["0", "1", "2", "3", "4"]);
}

/// How many messages wait for their turn.
async fn waiting(gateway: &Gateway) -> usize {
    let (_, metrics) = gateway.admin("/metrics").await;
    let line = metrics.lines().find(|line| line.starts_with("whatsapp_gateway_lane_waiting{")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}
