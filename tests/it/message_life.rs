//! `GetMessage` and `WatchMessage`: what became of a message, in every order that statuses can arrive in.

use std::sync::LazyLock;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};
use whatsapp_gateway::clock::{Clock as _, SystemClock};
use whatsapp_gateway::contract::v1::{self, MessageState};

use crate::eventually;
use crate::support::rpc::{OPEN, text_to};
use crate::support::{Gateway, Refusal, webhook};

const PATIENCE: Duration = Duration::from_secs(20);
const STATUSES: [&str; 5] = ["sent", "delivered", "read", "played", "failed"];
/// The time of the first of [`STATUSES`]; each has its own second. Not long ago, since old messages are forgotten.
static FIRST: LazyLock<i64> = LazyLock::new(|| i64::try_from(SystemClock.now_ms() / 1000).unwrap() - 3600);

fn asked(message_id: &str) -> v1::GetMessageRequest {
    let key = v1::get_message_request::Key::MessageId(message_id.to_owned());
    v1::GetMessageRequest { key: Some(key), ..Default::default() }
}

fn watched(message_id: &str, until: MessageState) -> v1::WatchMessageRequest {
    let key = v1::watch_message_request::Key::MessageId(message_id.to_owned());
    v1::WatchMessageRequest { key: Some(key), until: until.into(), ..Default::default() }
}

async fn get(gateway: &Gateway, message_id: &str) -> Result<v1::Message, Status> {
    let answer = gateway.client().await.get_message(asked(message_id)).await;
    answer.map(|answer| answer.into_inner().message.unwrap())
}

pub type Watch = Streaming<v1::WatchMessageResponse>;

pub async fn watch(gateway: &Gateway, message_id: &str, until: MessageState) -> Watch {
    gateway.client().await.watch_message(watched(message_id, until)).await.unwrap().into_inner()
}

pub async fn next(watch: &mut Watch) -> Option<v1::Message> {
    let next = timeout(PATIENCE, watch.message()).await.expect("nothing in time").unwrap();
    next.map(|response| response.message.unwrap())
}

/// Everything up to the end, which must be OK.
pub async fn rest(watch: &mut Watch) -> Vec<v1::Message> {
    let mut all = Vec::new();
    while let Some(message) = next(watch).await {
        all.push(message);
    }
    all
}

pub fn states(messages: &[v1::Message]) -> Vec<MessageState> {
    messages.iter().map(v1::Message::state).collect()
}

pub fn history(message: &v1::Message) -> Vec<(MessageState, i64)> {
    message.history.iter().map(|reached| (reached.state(), reached.time.unwrap().seconds)).collect()
}

/// A status as Meta sends it.
fn status(message_id: &str, word: &str) -> Value {
    let place = STATUSES.iter().position(|known| *known == word).unwrap();
    let mut status = json!({
        "id": message_id, "status": word, "recipient_id": "16505551234",
        "timestamp": (*FIRST + i64::try_from(place).unwrap()).to_string(),
        "biz_opaque_callback_data": "g1.AZ3kq0p2cXKkzqv1b5c-_w.order=1",
    });
    if word == "failed" {
        status["errors"] = json!([{"code": 131_026, "title": "Message undeliverable"}]);
    }
    status
}

async fn post(gateway: &Gateway, statuses: &[Value]) {
    let mut body = webhook::messages(&[]);
    let value = body["entry"][0]["changes"][0]["value"].as_object_mut().unwrap();
    value.remove("messages");
    value.insert("statuses".to_owned(), statuses.into());
    assert_eq!(gateway.post_webhook(body.to_string()).await, 200);
}

#[tokio::test]
async fn send_and_wait_until_delivered() {
    let gateway = Gateway::dev().await;
    gateway.simulate("delays", &json!({"read_ms": 600_000})).await;
    let sent = gateway.send(text_to(OPEN, "Hello")).await;
    let seen = rest(&mut watch(&gateway, &sent.message_id, MessageState::Unspecified).await).await;
    assert!(states(&seen).is_sorted(), "{seen:?}");
    let last = seen.last().unwrap();
    assert_eq!(last.state(), MessageState::Delivered);
    assert_eq!((&last.message_id, &last.send_tag), (&sent.message_id, &sent.send_tag));
    assert_eq!(last.phone_number_id, sent.phone_number_id);
    assert_eq!(last.conversation_key, gateway.events().await[0].conversation_key);
    let reached: Vec<_> = history(last).into_iter().map(|(state, _)| state).collect();
    assert_eq!(reached, [MessageState::Sent, MessageState::Delivered]);
    assert_eq!(last.state_time, last.history[1].time);
    assert_eq!(last.failure, None);
    assert_eq!(&get(&gateway, &sent.message_id).await.unwrap(), last);
}

#[tokio::test]
async fn statuses_that_come_reversed_doubled_or_not_at_all_never_turn_a_message_back() {
    let gateway = Gateway::dev().await;
    for (number, reached) in [
        ("+15550000003", &[MessageState::Sent, MessageState::Delivered, MessageState::Read][..]),
        ("+15550000008", &[MessageState::Sent, MessageState::Delivered, MessageState::Read]),
        ("+15550000009", &[MessageState::Sent, MessageState::Read]),
    ] {
        let sent = gateway.send(text_to(number, "Hello")).await;
        let seen = rest(&mut watch(&gateway, &sent.message_id, MessageState::Read).await).await;
        assert!(states(&seen).is_sorted(), "{number}: {seen:?}");
        assert_eq!(seen.last().unwrap().state(), MessageState::Read, "{number}");
        // The watch of a reversed message ends with its first status; the others are kept as they come.
        eventually!({
            let known = get(&gateway, &sent.message_id).await.unwrap();
            known.state() == MessageState::Read
                && known.history.iter().map(v1::ReachedState::state).eq(reached.iter().copied())
        });
    }
}

/// Every order of the items.
fn permutations(items: &[&'static str]) -> Vec<Vec<&'static str>> {
    let Some((&first, rest)) = items.split_first() else { return vec![Vec::new()] };
    let with_first = |order: Vec<&'static str>| {
        (0..=order.len()).map(move |place| {
            let mut order = order.clone();
            order.insert(place, first);
            order
        })
    };
    permutations(rest).into_iter().flat_map(with_first).collect()
}

#[tokio::test]
async fn every_order_of_five_statuses_comes_to_the_same_end() {
    let gateway = Gateway::dev().await;
    let orders = permutations(&STATUSES);
    assert_eq!(orders.len(), 120);
    let id = |index: usize| format!("wamid.order{index}");
    let mut watches = Vec::new();
    for index in 0..orders.len() {
        let mut watch = watch(&gateway, &id(index), MessageState::Played).await;
        assert_eq!(next(&mut watch).await.unwrap().state(), MessageState::Unspecified);
        watches.push(watch);
    }
    for place in 0..STATUSES.len() {
        let wave: Vec<Value> =
            orders.iter().enumerate().map(|(index, order)| status(&id(index), order[place])).collect();
        post(&gateway, &wave).await;
        post(&gateway, &wave).await;
    }
    let all: Vec<_> = (*FIRST..)
        .zip([
            MessageState::Sent,
            MessageState::Delivered,
            MessageState::Read,
            MessageState::Played,
            MessageState::Failed,
        ])
        .map(|(time, state)| (state, time))
        .collect();
    for (index, order) in orders.iter().enumerate() {
        eventually!(get(&gateway, &id(index)).await.is_ok_and(|known| known.history.len() == STATUSES.len()));
        let known = get(&gateway, &id(index)).await.unwrap();
        assert_eq!(known.state(), MessageState::Played, "{order:?}");
        assert_eq!(known.failure, None, "{order:?}: it was played, so it did not fail");
        assert!(history(&known).iter().all(|reached| all.contains(reached)), "{order:?}: {known:?}");
        assert_eq!(known.send_tag, "AZ3kq0p2cXKkzqv1b5c-_w");
        // A failure ends a watch, even if a proof of delivery still follows it.
        let seen = states(&rest(&mut watches[index]).await);
        assert!(seen.is_sorted(), "{order:?}: {seen:?}");
        assert!(
            matches!(seen.last(), Some(MessageState::Played | MessageState::Failed)),
            "{order:?}: {seen:?}"
        );
    }
}

#[tokio::test]
async fn a_failure_says_why_and_ends_every_watch() {
    let gateway = Gateway::dev().await;
    let sent = gateway.send(text_to("+15551131047", "Hello")).await;
    let seen = rest(&mut watch(&gateway, &sent.message_id, MessageState::Read).await).await;
    let last = seen.last().unwrap();
    assert_eq!(last.state(), MessageState::Failed);
    let failure = last.failure.as_ref().unwrap();
    assert_eq!(failure.code, 131_047);
    let verdict = failure.verdict.as_ref().unwrap();
    assert_eq!((verdict.reason.as_str(), verdict.actor.as_str()), ("WINDOW_CLOSED", "caller"));
    assert!(!failure.title.is_empty(), "{failure:?}");
    assert_eq!(&get(&gateway, &sent.message_id).await.unwrap(), last);
    // One that begins afterwards ends at once.
    let late = rest(&mut watch(&gateway, &sent.message_id, MessageState::Delivered).await).await;
    assert_eq!(&late[..], std::slice::from_ref(last));
}

#[tokio::test]
async fn members_of_a_group_and_payments_are_told_apart() {
    let gateway = Gateway::dev().await;
    let mut member = status("wamid.group", "read");
    member["recipient_type"] = "group".into();
    member["recipient_id"] = "Y2FwaV9ncm91cDo".into();
    member["recipient_participant_id"] = "16505551234".into();
    let mut unpaid = status("wamid.order", "failed");
    unpaid["type"] = "payment".into();
    post(&gateway, &[member, unpaid, status("wamid.order", "delivered")]).await;
    eventually!(get(&gateway, "wamid.order").await.is_ok());
    let group = get(&gateway, "wamid.group").await.unwrap();
    assert_eq!(group.state(), MessageState::Read);
    assert_eq!(group.conversation_key, "106540352242922:Y2FwaV9ncm91cDo");
    let order = get(&gateway, "wamid.order").await.unwrap();
    assert_eq!(history(&order), [(MessageState::Delivered, *FIRST + 1)]);
}

#[tokio::test]
async fn what_is_not_known_is_not_found_and_waited_for() {
    let gateway = Gateway::dev().await;
    let refusal = Refusal::of(&get(&gateway, "wamid.new").await.unwrap_err());
    assert_eq!(refusal.is(), (Code::NotFound, "MESSAGE_NOT_FOUND"));
    assert!(refusal.message.contains("WatchMessage"), "{refusal:?}");
    let mut watch = watch(&gateway, "wamid.new", MessageState::Sent).await;
    let nothing = next(&mut watch).await.unwrap();
    assert_eq!((nothing.state(), nothing.message_id.as_str()), (MessageState::Unspecified, "wamid.new"));
    assert_eq!((nothing.phone_number_id.as_str(), nothing.state_time), (webhook::PHONE_NUMBER_ID, None));
    // A message of the user's is none of ours.
    let received = webhook::text("wamid.received", "16505551234", "Hi").to_string();
    assert_eq!(gateway.post_webhook(received).await, 200);
    // A word that moves nothing is no news.
    let mut warning = status("wamid.new", "sent");
    warning["status"] = "warning".into();
    post(&gateway, &[warning]).await;
    post(&gateway, &[status("wamid.new", "sent")]).await;
    let seen = rest(&mut watch).await;
    assert_eq!(seen.iter().map(history).collect::<Vec<_>>(), [[(MessageState::Sent, *FIRST)]]);
    assert_eq!(get(&gateway, "wamid.received").await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn bad_requests_name_the_field() {
    let gateway = Gateway::dev().await;
    let mut client = gateway.client().await;
    for (request, fields) in [
        (v1::GetMessageRequest::default(), ["key"]),
        (asked(""), ["message_id"]),
        (asked("two words"), ["message_id"]),
        (asked(&"x".repeat(441)), ["message_id"]),
        (v1::GetMessageRequest { phone_number_id: "+1".to_owned(), ..asked("wamid.A") }, ["phone_number_id"]),
    ] {
        let refusal = Refusal::of(&client.get_message(request.clone()).await.unwrap_err());
        assert_eq!(refusal.is(), (Code::InvalidArgument, "VALIDATION_FAILED"), "{request:?}");
        assert_eq!(refusal.fields(), fields, "{request:?}");
    }
    let number = |number: &str| v1::WatchMessageRequest {
        phone_number_id: number.to_owned(),
        ..watched("wamid.A", MessageState::Sent)
    };
    let beyond = v1::WatchMessageRequest { until: 99, ..number("") };
    for (request, field) in [
        (v1::WatchMessageRequest::default(), "key"),
        (watched("wamid.A", MessageState::Failed), "until"),
        (beyond, "until"),
    ] {
        let refusal = Refusal::of(&client.watch_message(request.clone()).await.unwrap_err());
        assert_eq!(refusal.is(), (Code::InvalidArgument, "VALIDATION_FAILED"), "{request:?}");
        assert_eq!(refusal.fields(), [field], "{request:?}");
    }
    let refusal = Refusal::of(&client.watch_message(number("777")).await.unwrap_err());
    assert_eq!(refusal.is(), (Code::NotFound, "PHONE_NUMBER_NOT_CONFIGURED"));
}

#[tokio::test]
async fn a_restart_forgets_nothing_and_a_drain_ends_watches() {
    let folder = TempDir::new().unwrap();
    let mut gateway = Gateway::builder().data_dir(folder.path()).start().await;
    post(&gateway, &[status("wamid.A", "sent")]).await;
    let mut open = watch(&gateway, "wamid.A", MessageState::Read).await;
    assert_eq!(next(&mut open).await.unwrap().message_id, "wamid.A");
    // Meta's 200 does not wait for the projection; a watch does.
    if get(&gateway, "wamid.A").await.is_err() {
        assert_eq!(next(&mut open).await.unwrap().state(), MessageState::Sent);
    }
    gateway.kill().await;

    let mut gateway = Gateway::builder().data_dir(folder.path()).start().await;
    assert_eq!(history(&get(&gateway, "wamid.A").await.unwrap()), [(MessageState::Sent, *FIRST)]);
    let mut open = watch(&gateway, "wamid.A", MessageState::Read).await;
    assert_eq!(next(&mut open).await.unwrap().state(), MessageState::Sent);
    post(&gateway, &[status("wamid.A", "delivered")]).await;
    assert_eq!(next(&mut open).await.unwrap().state(), MessageState::Delivered);
    assert_eq!(gateway.terminate().await, Some(0), "{}", gateway.log());
    let refusal = Refusal::of(&timeout(PATIENCE, open.message()).await.unwrap().unwrap_err());
    assert_eq!(refusal.is(), (Code::Unavailable, "SERVER_DRAINING"));
    assert!(refusal.retry.is_some());

    let gateway = Gateway::builder().data_dir(folder.path()).start().await;
    let known = get(&gateway, "wamid.A").await.unwrap();
    assert_eq!(history(&known), [(MessageState::Sent, *FIRST), (MessageState::Delivered, *FIRST + 1)]);
}

#[tokio::test]
async fn many_watch_one_message_and_are_limited() {
    let gateway = Gateway::builder().env("WHATSAPP_GATEWAY__EVENTS__STREAMS_MAX", "90").start().await;
    let mut watches = Vec::new();
    let mut client = gateway.client().await;
    for _ in 0..90 {
        let request = watched("wamid.A", MessageState::Delivered);
        watches.push(client.watch_message(request).await.unwrap().into_inner());
    }
    let refused = gateway.client().await.watch_message(watched("wamid.B", MessageState::Sent)).await;
    assert_eq!(Refusal::of(&refused.unwrap_err()).is(), (Code::ResourceExhausted, "STREAM_QUOTA"));
    let open = async |count: u32| {
        let metrics = gateway.admin("/metrics").await.1;
        metrics.contains(&format!("whatsapp_gateway_message_watches {count}\n"))
    };
    assert!(open(90).await);
    // Some leave without a word, some do not read until all is over.
    watches.truncate(80);
    eventually!(open(80).await);
    post(&gateway, &[status("wamid.A", "sent")]).await;
    post(&gateway, &[status("wamid.B", "sent")]).await;
    post(&gateway, &[status("wamid.A", "delivered")]).await;
    for watch in &mut watches {
        let seen = rest(watch).await;
        assert!(seen.len() <= 3 && states(&seen).is_sorted(), "{seen:?}");
        let last = seen.last().unwrap();
        assert_eq!(history(last), [(MessageState::Sent, *FIRST), (MessageState::Delivered, *FIRST + 1)]);
    }
    eventually!(open(0).await);
    let late = rest(&mut watch(&gateway, "wamid.B", MessageState::Sent).await).await;
    assert_eq!(states(&late), [MessageState::Sent]);
}

/// What takes long, or a reader that cannot be made slow over a socket, is checked on the flow itself.
mod flow {
    use std::sync::Arc;

    use whatsapp_gateway::clock::{ManualClock, SharedClock};
    use whatsapp_gateway::domain::ids::{MessageId, PhoneNumberId};
    use whatsapp_gateway::domain::message_state::{MessageLife, MessageState};
    use whatsapp_gateway::flows::follow_message::{Error, FollowMessage, Limits, Meant, MessageNews};
    use whatsapp_gateway::flows::unsettled::Unsettled;
    use whatsapp_gateway::lifecycle::Shutdown;
    use whatsapp_gateway::storage::memory::Memory;
    use whatsapp_gateway::storage::projections::{Change, MessageName, MessageRecord, Projections};
    use whatsapp_gateway::storage::sends::Sends;

    use super::{Duration, webhook};

    #[tokio::test(start_paused = true)]
    async fn a_late_reader_is_told_once_of_everything_and_a_watch_has_its_time() {
        let clock = ManualClock::new(std::time::SystemTime::UNIX_EPOCH + Duration::from_hours(1000));
        let memory = Memory::new(Arc::clone(&clock) as SharedClock);
        let projections = Projections::new(Arc::clone(&memory) as _);
        let sends = Sends::new(memory, Duration::from_hours(24));
        let unsettled = Unsettled::new(sends, clock, Shutdown::new());
        let news = MessageNews::default();
        let limits = Limits { watches_max: 1, rotation: Duration::from_mins(45) };
        let flow = FollowMessage::new(projections.clone(), unsettled, news.clone(), limits, Shutdown::new());
        let number = PhoneNumberId::parse(webhook::PHONE_NUMBER_ID).unwrap();
        let meant = || Meant::Message(number.clone(), MessageId::parse("wamid.A").unwrap());
        let open = || flow.watch(meant(), MessageState::Played);
        let mut watch = open().unwrap();
        assert_eq!(watch.next().await.unwrap().unwrap().life.state(), None);
        assert!(matches!(open(), Err(Error::TooManyWatches { watches_max: 1 })));

        let name: MessageName = (number.to_string(), "wamid.A".to_owned());
        let at = |hours| std::time::SystemTime::UNIX_EPOCH + Duration::from_hours(hours);
        let mut life = MessageLife::default();
        for (hour, state) in (1..).zip([MessageState::Sent, MessageState::Delivered, MessageState::Read]) {
            life = life.merge(MessageLife::at(state, at(1000 + hour), None));
            let record =
                MessageRecord { life: life.clone(), conversation_key: "key".to_owned(), send_tag: None };
            let changes = vec![Change::Message(name.clone(), record)];
            projections.apply(&changes, None).await.unwrap();
            news.tell(std::slice::from_ref(&name));
        }
        assert_eq!(watch.next().await.unwrap().unwrap().life, life);
        // Told again of what it knows, it waits on; then its time is over.
        news.tell(&[name]);
        assert!(matches!(watch.next().await, Some(Err(Error::Rotated))));
        assert!(watch.next().await.is_none());
        drop(watch);
        assert!(open().is_ok(), "the place is free again");
    }
}
