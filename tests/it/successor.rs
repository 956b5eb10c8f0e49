//! A rolling update under load: SIGTERM, then the next process over the same volume. What was acknowledged is kept, what was
//! not goes through at the second try, and every stream is told where to go on.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};
use whatsapp_gateway::contract::v1::{self, ClosingReason};

use crate::send_storm::accepted;
use crate::support::gateway::{Client, PATIENCE};
use crate::support::rpc::text_to;
use crate::support::subscriber::{after, from_earliest};
use crate::support::webhook::{self, Sender};
use crate::support::{Serve, Subscriber};

const SUBSCRIBERS: usize = 100;
const SENDERS: usize = 4;
const POSTERS: usize = 4;
/// Between two calls of a sender, and of a poster.
const PAUSE: Duration = Duration::from_millis(20);
/// Answers of each kind before the end of the first process, and after the start of the second.
const ANSWERS: u64 = 150;

/// Where the gateway is at present.
#[derive(Debug, Clone)]
struct Place {
    client: Client,
    sender: Sender,
}

/// What all who load the gateway share.
#[derive(Debug, Default)]
struct Load {
    sent: AtomicU64,
    posted: AtomicU64,
    is_over: AtomicBool,
}

/// What one of them did.
#[derive(Debug, Default)]
struct Done {
    /// What was acknowledged, with the answer.
    acknowledged: Vec<(String, String)>,
    /// Calls that had to be repeated.
    repeated: usize,
    /// The longest time between two acknowledgements.
    longest: Duration,
}

impl Done {
    fn acknowledge(&mut self, id: String, answer: String, last: &mut Instant) {
        self.longest = self.longest.max(last.elapsed());
        *last = Instant::now();
        self.acknowledged.push((id, answer));
    }

    fn join(all: Vec<Self>) -> Self {
        all.into_iter().fold(Self::default(), |mut sum, done| {
            sum.acknowledged.extend(done.acknowledged);
            sum.repeated += done.repeated;
            sum.longest = sum.longest.max(done.longest);
            sum
        })
    }
}

/// Sends one message after the other, each until it is accepted.
async fn send(name: usize, load: Arc<Load>, places: watch::Receiver<Place>) -> Done {
    let (mut done, mut last) = (Done::default(), Instant::now());
    for number in 0.. {
        let id = format!("send-{name}-{number}");
        let request = v1::SendMessageRequest {
            request_id: id.clone(),
            phone_number_id: webhook::PHONE_NUMBER_ID.to_owned(),
            callback_data: id.clone(),
            ..text_to(&format!("+1650{name:03}{number:04}"), "Hello")
        };
        let message_id = loop {
            let mut client = places.borrow().client.clone();
            match client.send_message(request.clone()).await {
                Ok(response) => break response.into_inner().message_id,
                Err(status) => assert!(is_told_to_repeat(&status), "{id}: {status:?}"),
            }
            assert!(last.elapsed() < PATIENCE, "{id} is not sent");
            done.repeated += 1;
            sleep(PAUSE).await;
        };
        done.acknowledge(id, message_id, &mut last);
        load.sent.fetch_add(1, Ordering::SeqCst);
        if load.is_over.load(Ordering::SeqCst) {
            break;
        }
        sleep(PAUSE).await;
    }
    done
}

/// Whether the gateway says so, or the connection went away: tonic's client calls a stream internal that a connection at its
/// end did not take.
fn is_told_to_repeat(status: &Status) -> bool {
    let is_of_transport = status.source().is_some_and(<dyn Error>::is::<tonic::transport::Error>);
    status.code() == Code::Unavailable || is_of_transport
}

/// Posts one message after the other, each until it is taken, as Meta does.
async fn post(name: usize, load: Arc<Load>, places: watch::Receiver<Place>) -> Done {
    let (mut done, mut last) = (Done::default(), Instant::now());
    for number in 0.. {
        let id = format!("wamid.{name}.{number}");
        let body = webhook::text(&id, &format!("1650555{name:04}"), "Hi");
        loop {
            let sender = places.borrow().sender.clone();
            match sender.post(&body).await {
                Some(200) => break,
                None | Some(503) => {}
                Some(status) => panic!("{id}: {status}"),
            }
            assert!(last.elapsed() < PATIENCE, "{id} is not taken");
            done.repeated += 1;
            sleep(PAUSE).await;
        }
        done.acknowledge(id, String::new(), &mut last);
        load.posted.fetch_add(1, Ordering::SeqCst);
        if load.is_over.load(Ordering::SeqCst) {
            break;
        }
        sleep(PAUSE).await;
    }
    done
}

/// Reads to the end of the first process, and returns what came and from where to go on.
async fn read_to_the_end(mut client: Client) -> (Vec<String>, String) {
    let stream = Subscriber::open(&mut client, from_earliest()).await.unwrap();
    let rest = stream.rest().await;
    let closing = rest.closing.expect("told to go on elsewhere");
    assert_eq!(closing.reason(), ClosingReason::Draining);
    assert!(closing.reconnect_after.is_some_and(|wait| wait.seconds <= 2));
    assert_eq!(rest.status.expect("a status that is no success").code(), Code::Unavailable);
    (rest.events.into_iter().map(|event| event.id).collect(), closing.resume_cursor)
}

/// Goes on there until nothing is left.
async fn read_on(mut client: Client, (mut seen, cursor): (Vec<String>, String)) -> Vec<String> {
    let request = v1::SubscribeEventsRequest { stop_when_caught_up: true, ..after(&cursor) };
    let rest = Subscriber::open(&mut client, request).await.unwrap().rest().await;
    seen.extend(rest.events.into_iter().map(|event| event.id));
    seen
}

async fn place(serve: &Serve) -> Place {
    Place { client: serve.gateway.client().await, sender: serve.gateway.sender() }
}

/// Waits until so many answers of each kind have been given.
async fn until_answered(load: &Load, sent: u64, posted: u64) {
    let started = Instant::now();
    while load.sent.load(Ordering::SeqCst) < sent || load.posted.load(Ordering::SeqCst) < posted {
        assert!(started.elapsed() < PATIENCE, "too slow: {load:?}");
        sleep(PAUSE).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_takes_the_volume_over_under_load() {
    let builder = Serve::builder().env("WHATSAPP_GATEWAY__SENDING__MESSAGES_PER_SECOND", "1000000");
    let mut serve = builder.env("WHATSAPP_GATEWAY__SENDING__PACE_RECIPIENTS", "false").start().await;
    serve.gateway.without_limits().await;
    let load = Arc::new(Load::default());
    let (places, at) = watch::channel(place(&serve).await);
    let mut readers = JoinSet::new();
    for _ in 0..SUBSCRIBERS {
        readers.spawn(read_to_the_end(serve.gateway.client().await));
    }
    let (mut senders, mut posters) = (JoinSet::new(), JoinSet::new());
    (0..SENDERS).for_each(|name| drop(senders.spawn(send(name, Arc::clone(&load), at.clone()))));
    (0..POSTERS).for_each(|name| drop(posters.spawn(post(name, Arc::clone(&load), at.clone()))));
    until_answered(&load, ANSWERS, ANSWERS).await;

    let started = Instant::now();
    assert_eq!(serve.gateway.terminate().await, Some(0), "{}", serve.gateway.log());
    let drained = started.elapsed();
    serve.start_again().await;
    places.send_replace(place(&serve).await);
    let away = started.elapsed();
    let [sent, posted] = [&load.sent, &load.posted].map(|count| count.load(Ordering::SeqCst) + ANSWERS);
    until_answered(&load, sent, posted).await;
    load.is_over.store(true, Ordering::SeqCst);

    let (sends, posts) = (Done::join(senders.join_all().await), Done::join(posters.join_all().await));
    eprintln!(
        "drained in {drained:?}, the successor is there after {away:?}; longest time without an answer: \
         sends {:?}, webhooks {:?}; {} sends of {} and {} webhooks of {} were repeated",
        sends.longest,
        posts.longest,
        sends.repeated,
        sends.acknowledged.len(),
        posts.repeated,
        posts.acknowledged.len(),
    );
    check_sends(&serve, &sends).await;
    let everything: Vec<_> = serve.gateway.events().await.into_iter().collect();
    for (id, _) in &posts.acknowledged {
        assert_eq!(everything.iter().filter(|event| event.subject == *id).count(), 1, "{id}");
    }
    let mut rest = JoinSet::new();
    for reader in readers.join_all().await {
        rest.spawn(read_on(serve.gateway.client().await, reader));
    }
    let everything: Vec<_> = everything.into_iter().map(|event| event.id).collect();
    for seen in rest.join_all().await {
        // Statuses may have come since.
        assert_eq!(
            seen.get(..everything.len()),
            Some(&everything[..]),
            "a stream missed or repeated something"
        );
    }
}

/// Every send was accepted by Meta once, as its caller was told.
async fn check_sends(serve: &Serve, sends: &Done) {
    let told: HashMap<_, _> = sends.acknowledged.iter().map(|(id, message)| (id, message)).collect();
    assert_eq!(told.len(), sends.acknowledged.len());
    // The simulator records a message when its first status is delivered.
    let started = Instant::now();
    let mut accepted_there = accepted(&serve.gateway).await;
    while accepted_there.len() < told.len() {
        assert!(started.elapsed() < PATIENCE, "{} of {}", accepted_there.len(), told.len());
        sleep(PAUSE).await;
        accepted_there = accepted(&serve.gateway).await;
    }
    assert_eq!(accepted_there.len(), told.len());
    for (id, messages) in &accepted_there {
        assert!(messages.contains(told[id]), "{id}: the caller was told of {}", told[id]);
    }
}
