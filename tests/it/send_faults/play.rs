//! Plays rows against a gateway and notes everything: calls, what Meta saw, what is stored before and after the statuses.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use whatsapp_gateway::contract::v1;

use super::row::{Row, Said};
use crate::support::gateway::Client;
use crate::support::rpc::text_to;
use crate::support::{Gateway, Refusal, serve};

/// Calls at once.
const CALLS: usize = 64;
/// For anything to come about.
const PATIENCE: Duration = Duration::from_mins(1);

/// What one call said.
pub type Answer = Result<v1::SendMessageResponse, Refusal>;

/// Whether webhooks come through while the calls are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Webhooks {
    /// They wait until all calls are through.
    Dammed,
    Flowing,
}

/// What Meta saw of one row.
#[derive(Debug, Clone, Default)]
pub struct Meta {
    pub posts: usize,
    /// The ids of the messages that it accepted, as their statuses show.
    pub accepted: BTreeSet<String>,
    pub webhooks: usize,
}

/// A row with everything that happened.
#[derive(Debug)]
pub struct Played<'a> {
    pub row: &'a Row,
    index: usize,
    pub first: Answer,
    pub meta_first: Meta,
    /// The same request, before any status if webhooks are dammed.
    pub again: Answer,
    pub meta_again: Meta,
    /// The same request, after all statuses.
    pub end: Answer,
    pub meta_end: Meta,
    /// The same request, after kill -9.
    pub from_the_disk: Option<Answer>,
    /// The stored statuses of the messages that Meta accepted.
    pub statuses: Vec<v1::MessageStatus>,
    pub message: Option<v1::Message>,
}

fn id(index: usize) -> String {
    format!("row-{index:04}")
}

fn recipient(row: &Row, index: usize) -> String {
    row.to.clone().unwrap_or_else(|| format!("+1650{index:07}"))
}

fn request(row: &Row, index: usize) -> v1::SendMessageRequest {
    v1::SendMessageRequest {
        request_id: id(index),
        phone_number_id: serve::number(index),
        callback_data: id(index),
        ..text_to(&recipient(row, index), "Hello")
    }
}

async fn ask(mut client: Client, request: v1::SendMessageRequest) -> Answer {
    let answer = client.send_message(request).await;
    answer.map(tonic::Response::into_inner).map_err(|status| Refusal::of(&status))
}

/// Asks for every row at once.
async fn ask_all(gateway: &Gateway, rows: &[(usize, &Row)]) -> Vec<Answer> {
    let client = gateway.client().await;
    let calls = rows.iter().map(|(index, row)| ask(client.clone(), request(row, *index)));
    futures_util::stream::iter(calls.collect::<Vec<_>>()).buffered(CALLS).collect().await
}

/// A message as `GetMessage` knows it.
pub async fn message(gateway: &Gateway, phone_number_id: &str, message_id: &str) -> Option<v1::Message> {
    let key = v1::get_message_request::Key::MessageId(message_id.to_owned());
    let request = v1::GetMessageRequest { phone_number_id: phone_number_id.to_owned(), key: Some(key) };
    gateway.client().await.get_message(request).await.ok()?.into_inner().message
}

/// What Meta saw, by row.
async fn meta(gateway: &Gateway) -> HashMap<String, Meta> {
    let mut all: HashMap<String, Meta> = HashMap::new();
    let id = |item: &Value| {
        let data = item["biz_opaque_callback_data"].as_str()?;
        data.rsplit_once('.').map(|(_, id)| id.to_owned())
    };
    for body in gateway.sent_bodies().await {
        all.entry(id(&body).unwrap()).or_default().posts += 1;
    }
    for delivery in gateway.simulator("deliveries").await["deliveries"].as_array().unwrap() {
        let value = &delivery["body"]["entry"][0]["changes"][0]["value"];
        let Some(statuses) = value["statuses"].as_array() else { continue };
        for status in statuses {
            let accepted = &mut all.entry(id(status).unwrap()).or_default().accepted;
            accepted.insert(status["id"].as_str().unwrap().to_owned());
        }
        all.entry(id(&statuses[0]).unwrap()).or_default().webhooks += 1;
    }
    all
}

/// What Meta saw once all statuses of what it accepted are on their way, as far as they ever are.
async fn meta_when(
    gateway: &Gateway,
    rows: &[(usize, &Row)],
    webhooks: impl Fn(usize) -> usize,
) -> Vec<Meta> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let all = meta(gateway).await;
        let found: Vec<Meta> =
            rows.iter().map(|(index, _)| all.get(&id(*index)).cloned().unwrap_or_default()).collect();
        let is_all = found.iter().enumerate().all(|(place, meta)| meta.webhooks >= webhooks(place));
        if is_all || Instant::now() > deadline {
            return found;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until every webhook has come through.
async fn all_delivered(gateway: &Gateway) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let record = gateway.simulator("deliveries").await;
        let mut deliveries = record["deliveries"].as_array().unwrap().iter();
        let Some(waiting) = deliveries.find(|delivery| delivery["state"] != "delivered") else { return };
        assert!(Instant::now() < deadline, "never delivered: {waiting}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Opens the windows of everybody, and plans the faults.
async fn prepare(gateway: &Gateway, rows: &[(usize, &Row)]) {
    gateway.without_limits().await;
    let delays = json!({
        "sent_ms": 10, "failed_ms": 10, "delivered_ms": 30, "read_ms": 50, "slow_answer_ms": 300,
        "batch_ms": 300, "retry_first_ms": 20, "retry_longest_ms": 500, "attempts_max": 100_000,
    });
    gateway.simulate("delays", &delays).await;
    let mut faults = Vec::new();
    for (index, row) in rows {
        let (to, number) = (recipient(row, *index), serve::number(*index));
        if row.to.is_none() {
            let hello = json!({"from": to, "text": "Hello", "phone_number_id": number});
            gateway.simulate("messages", &hello).await;
        }
        if let Some(fault) = &row.fault {
            faults.push(json!({"match": {"path_suffix": "/messages", "to": to}, "fault": fault}));
        }
    }
    all_delivered(gateway).await;
    gateway.simulate("faults", &faults.into()).await;
}

/// Plays the rows, whose business numbers begin with `first`.
pub async fn play<'a>(
    gateway: &Gateway,
    rows: &'a [Row],
    first: usize,
    webhooks: Webhooks,
) -> Vec<Played<'a>> {
    let rows: Vec<(usize, &'a Row)> = (first..).zip(rows).collect();
    prepare(gateway, &rows).await;
    let webhook_url = super::page(gateway).await["webhook_url"].clone();
    // Bound and not listening: every attempt fails, and nobody else takes the port.
    let dam = tokio::net::TcpSocket::new_v4().unwrap();
    dam.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    if webhooks == Webhooks::Dammed {
        let url = format!("http://{}", dam.local_addr().unwrap());
        gateway.simulate("webhook_url", &json!({"url": url})).await;
    }
    let firsts = ask_all(gateway, &rows).await;
    let of = |place: usize, is_accepted: bool| if is_accepted { rows[place].1.webhooks } else { 0 };
    let meta_first = meta_when(gateway, &rows, |place| of(place, rows[place].1.is_accepted)).await;
    let agains = ask_all(gateway, &rows).await;
    let meta_again =
        meta_when(gateway, &rows, |place| of(place, !is_held(&firsts[place], &agains[place]))).await;
    gateway.simulate("webhook_url", &json!({"url": webhook_url})).await;
    all_delivered(gateway).await;
    // Who is held back asks another process.
    let asked: Vec<usize> =
        (0..rows.len()).filter(|place| !is_held(&firsts[*place], &agains[*place])).collect();
    let mut ends = agains.clone();
    for (place, end) in asked.iter().zip(settled(gateway, &rows, &asked, &meta_again).await) {
        ends[*place] = end;
    }
    let meta_end = meta_when(gateway, &rows, |_| 0).await;
    let mut statuses: HashMap<String, Vec<v1::MessageStatus>> = HashMap::new();
    for status in gateway.statuses().await {
        statuses.entry(status.callback_data.clone()).or_default().push(status);
    }
    let mut played = Vec::new();
    let told = firsts.into_iter().zip(agains).zip(ends);
    let seen = meta_first.into_iter().zip(meta_again).zip(meta_end);
    for ((&(index, row), ((first, again), end)), ((meta_first, meta_again), meta_end)) in
        rows.iter().zip(told).zip(seen)
    {
        let message = match meta_end.accepted.first() {
            Some(message_id) => message_in_the_end(gateway, row, index, message_id).await,
            None => None,
        };
        let statuses = statuses.remove(&id(index)).unwrap_or_default();
        let from_the_disk = None;
        played.push(Played {
            row,
            index,
            first,
            meta_first,
            again,
            meta_again,
            end,
            meta_end,
            from_the_disk,
            statuses,
            message,
        });
    }
    played
}

/// The message, once it has come as far as it will.
async fn message_in_the_end(
    gateway: &Gateway,
    row: &Row,
    index: usize,
    message_id: &str,
) -> Option<v1::Message> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let known = message(gateway, &serve::number(index), message_id).await;
        let states = known.as_ref().map_or(0, |known| known.history.len());
        if states >= row.life.len() || Instant::now() > deadline {
            return known;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Whether the gateway holds the number or the recipient back, since Meta has said that it goes too fast or cannot send at
/// all. How long is not this table's business.
fn is_held(first: &Answer, again: &Answer) -> bool {
    const OF_NUMBERS: [&str; 6] = [
        "UPSTREAM_THROUGHPUT",
        "UPSTREAM_PAIR_RATE",
        "UPSTREAM_ACCOUNT_RATE",
        "UPSTREAM_CREDENTIALS",
        "UPSTREAM_ACCOUNT",
        "UPSTREAM_QUALITY_LIMIT",
    ];
    again.is_err() && first.as_ref().is_err_and(|refusal| OF_NUMBERS.contains(&refusal.reason.as_str()))
}

/// Asks again until every message that Meta accepted is known, as far as it ever is.
async fn settled(gateway: &Gateway, rows: &[(usize, &Row)], asked: &[usize], meta: &[Meta]) -> Vec<Answer> {
    let rows: Vec<_> = asked.iter().map(|place| rows[*place]).collect();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let ends = ask_all(gateway, &rows).await;
        let is_settled =
            ends.iter().zip(asked).all(|(answer, place)| answer.is_ok() || meta[*place].accepted.is_empty());
        if is_settled || Instant::now() > deadline {
            return ends;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Asks once more, in another process.
pub async fn ask_from_the_disk(gateway: &Gateway, played: &mut [Played<'_>]) {
    let rows: Vec<_> = played.iter().map(|played| (played.index, played.row)).collect();
    for (played, answer) in played.iter_mut().zip(ask_all(gateway, &rows).await) {
        played.from_the_disk = Some(answer);
    }
}

/// An answer in a few words.
fn words(answer: &Answer) -> String {
    match answer {
        Ok(response) if response.replayed => "replayed".to_owned(),
        Ok(response) => response.state().as_str_name().trim_start_matches("SEND_STATE_").to_owned(),
        Err(refusal) => {
            let delay = refusal.retry.map(|delay| format!(", again in {delay:?}")).unwrap_or_default();
            let actor = refusal.metadata.get("actor").map_or("nobody", String::as_str);
            format!("{:?} {} ({actor}){delay}", refusal.code, refusal.reason)
        }
    }
}

impl fmt::Display for Played<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Meta { posts, accepted, .. } = &self.meta_first;
        let Meta { posts: all_posts, accepted: all_accepted, webhooks } = &self.meta_again;
        let life: Vec<&str> = self.statuses.iter().map(|status| status.status.as_str()).collect();
        let verdict = self.statuses.iter().flat_map(|status| &status.errors).find_map(|e| e.verdict.as_ref());
        let verdict = verdict.map(|v| format!(" {} ({})", v.reason, v.actor)).unwrap_or_default();
        write!(
            f,
            "{} | {} | {posts}, {} | {} | {all_posts}, {} | {webhooks}, {}{verdict} | {}",
            self.row.name,
            words(&self.first),
            accepted.len(),
            words(&self.again),
            all_accepted.len(),
            if life.is_empty() { "none".to_owned() } else { life.join(" ") },
            words(&self.end),
        )
    }
}

impl Played<'_> {
    /// Whether its number is held back when it is asked again.
    pub fn is_held(&self) -> bool {
        is_held(&self.first, &self.again)
    }

    /// Whether asking again makes Meta refuse it again.
    pub fn is_refused_for_good(&self) -> bool {
        self.row.is_lasting && matches!(self.row.said, Said::Refused(_))
    }
}
