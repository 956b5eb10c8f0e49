//! Webhooks as Meta sends them: each until it is acknowledged, the next one of a conversation after that.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{PAUSE, Places};
use crate::support::webhook::{self, Sender};
use crate::support::{Gateway, Rng};

/// Longer than a gateway takes to say that it cannot.
const ANSWER: Duration = Duration::from_secs(10);

/// One who writes to `width` users at a time, post after post.
#[derive(Debug, Clone, Copy)]
pub struct Poster {
    pub name: u64,
    pub width: u64,
    pub acknowledged: u64,
    pub attempted: u64,
}

impl Poster {
    pub fn new(name: u64, width: u64) -> Self {
        Self { name, width, acknowledged: 0, attempted: 0 }
    }

    /// The ids of the messages of these posts.
    pub fn ids(&self, posts: Range<u64>) -> impl Iterator<Item = String> {
        let (name, width) = (self.name, self.width);
        posts.flat_map(move |post| (0..width).map(move |user| format!("wamid.{name}.{user}.{post}")))
    }

    /// One message of each user.
    pub fn body(&self, post: u64) -> Value {
        let messages: Vec<_> = self
            .ids(post..post + 1)
            .zip(0..)
            .map(|(id, user)| {
                let from = format!("1650{:04}{user:03}", self.name);
                json!({"from": from, "id": id, "timestamp": "1749416383", "type": "text", "text": {"body": id}})
            })
            .collect();
        webhook::messages(&messages)
    }
}

/// The user and the number of a message by its id: `(poster, user)`, post.
pub fn parts(id: &str) -> Option<((u64, u64), u64)> {
    let mut parts = id.strip_prefix("wamid.")?.split('.').map(str::parse);
    let [poster, user, post] = std::array::from_fn(|_| parts.next()?.ok());
    Some(((poster?, user?), post?))
}

/// How it went.
#[derive(Debug, Default)]
pub struct Counts {
    pub acknowledged: AtomicU64,
    /// Answers that were not 200, and none.
    pub refused: AtomicU64,
    /// The longest time between two acknowledgements of all, in milliseconds.
    pub longest_ms: AtomicU64,
    last_ms: AtomicU64,
}

/// Posters at work.
#[derive(Debug)]
pub struct Load {
    pub counts: Arc<Counts>,
    stop: CancellationToken,
    posters: JoinSet<Poster>,
    started: Instant,
    width: u64,
    per_second: Option<u64>,
}

impl Load {
    /// So many posters, `per_second` posts in all at most; each post has `width` events.
    pub fn start(places: &Places, posters: u64, width: u64, per_second: Option<u64>) -> Self {
        let (counts, stop) = (Arc::new(Counts::default()), CancellationToken::new());
        let pause = per_second.map(|all| Duration::from_secs(posters) / u32::try_from(all).unwrap());
        let started = Instant::now();
        let mut tasks = JoinSet::new();
        for name in 0..posters {
            let (places, counts, stop) = (places.clone(), Arc::clone(&counts), stop.clone());
            tasks.spawn(post(Poster::new(name, width), places, counts, stop, started, pause));
        }
        Self { counts, stop, posters: tasks, started, width, per_second }
    }

    /// Waits until so many posts more are acknowledged; fails after a minute.
    pub async fn more(&self, count: u64) {
        let goal = self.counts.acknowledged.load(Ordering::SeqCst) + count;
        let reached = timeout(Duration::from_mins(1), async {
            while self.counts.acknowledged.load(Ordering::SeqCst) < goal {
                sleep(PAUSE).await;
            }
        });
        reached.await.unwrap_or_else(|_| panic!("posts are not acknowledged any more: {:?}", self.counts));
    }

    /// Lets each post that is under way be acknowledged, and says how it went.
    pub async fn end(self, what: &str) -> Vec<Poster> {
        let took = self.started.elapsed();
        self.stop.cancel();
        let posters = timeout(Duration::from_mins(1), self.posters.join_all()).await;
        let posters = posters.expect("a last post is never acknowledged");
        let posts: u64 = posters.iter().map(|poster| poster.acknowledged).sum();
        let events = posts * self.width;
        let offered = self.per_second.map(|posts| format!(" of {} offered", posts * self.width));
        eprintln!(
            "{what}: {events} events acknowledged in {took:.1?}, {} per second{}; {} posts were repeated; longest \
             time without an acknowledgement {} ms",
            u128::from(events) * 1_000 / took.as_millis().max(1),
            offered.unwrap_or_default(),
            self.counts.refused.load(Ordering::SeqCst),
            self.counts.longest_ms.load(Ordering::SeqCst),
        );
        posters
    }
}

async fn post(
    mut poster: Poster,
    places: Places,
    counts: Arc<Counts>,
    stop: CancellationToken,
    started: Instant,
    pause: Option<Duration>,
) -> Poster {
    let http = reqwest::Client::builder().timeout(ANSWER).no_proxy().build().unwrap();
    let mut rng = Rng::new(poster.name);
    let mut next = Instant::now();
    while !stop.is_cancelled() {
        let body = poster.body(poster.acknowledged);
        poster.attempted = poster.acknowledged + 1;
        loop {
            let url = places.any(&mut rng).webhook_url;
            match (Sender { http: http.clone(), url }).post(&body).await {
                Some(200) => break,
                None | Some(503) => {}
                Some(status) => panic!("{}: post {} got {status}", poster.name, poster.acknowledged),
            }
            counts.refused.fetch_add(1, Ordering::SeqCst);
            sleep(PAUSE).await;
        }
        poster.acknowledged += 1;
        counts.acknowledged.fetch_add(1, Ordering::SeqCst);
        let now = u64::try_from(started.elapsed().as_millis()).unwrap();
        let last = counts.last_ms.fetch_max(now, Ordering::SeqCst);
        counts.longest_ms.fetch_max(now.saturating_sub(last), Ordering::SeqCst);
        if let Some(pause) = pause {
            next += pause;
            tokio::time::sleep_until(next).await;
        }
    }
    poster
}

/// Posts so much at once that everything is there when it returns.
pub async fn fill(gateway: &Gateway, posters: u64, width: u64, posts: u64) -> Vec<Poster> {
    let mut tasks = JoinSet::new();
    for name in 0..posters {
        let sender = gateway.sender();
        tasks.spawn(async move {
            let mut poster = Poster::new(name, width);
            for number in 0..posts {
                assert_eq!(sender.post(&poster.body(number)).await, Some(200));
            }
            (poster.acknowledged, poster.attempted) = (posts, posts);
            poster
        });
    }
    tasks.join_all().await
}
