//! What replicas call out to each other, so that nobody has to ask all the time: a stream went on, the lease is free, somebody
//! wants to write.
//!
//! Plain messages of NATS, which may be lost: whoever waits for one looks by himself every now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use uuid::Uuid;

use super::queue::Queue;
use super::state_writer::{Done, Op};
use super::streams::Names;
use super::wire::Wire;
use super::{Context, tail};

/// Until subscribing is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Between two looks that nobody asked for.
pub(super) const LOOK: Duration = Duration::from_millis(500);

/// What it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    /// The events went on, up to the number that is said.
    Events,
    /// The state went on, up to the number that is said.
    State,
    /// The lease was given free.
    Lease,
    /// Somebody is overtaken again and again, and asks the others to wait a moment.
    Turn,
}

impl Topic {
    const ALL: [Self; 4] = [Self::Events, Self::State, Self::Lease, Self::Turn];

    fn word(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::State => "state",
            Self::Lease => "lease",
            Self::Turn => "turn",
        }
    }
}

/// What this replica calls out, and has heard.
#[derive(Debug)]
pub(super) struct News {
    wire: Wire,
    names: Names,
    /// By which this replica knows what it called itself.
    own: Uuid,
    /// How far the state is said to be.
    state: watch::Sender<u64>,
    turn_asked: AtomicBool,
    lease_freed: Notify,
}

impl News {
    pub(super) fn new(wire: Wire, names: Names) -> Self {
        let (own, state) = (Uuid::new_v4(), watch::Sender::new(0));
        let (turn_asked, lease_freed) = (AtomicBool::new(false), Notify::new());
        Self { wire, names, own, state, turn_asked, lease_freed }
    }

    /// Calls it out. `seq` is how far a stream went.
    pub(super) async fn tell(&self, topic: Topic, seq: u64) {
        let mut payload = self.own.into_bytes().to_vec();
        payload.extend(seq.to_be_bytes());
        self.wire.tell(self.names.news(topic.word()), payload.into()).await;
    }

    /// How far the state is said to be.
    pub(super) fn state(&self) -> watch::Receiver<u64> {
        self.state.subscribe()
    }

    /// Whether somebody has asked for a turn since this was asked last.
    pub(super) fn take_turn_asked(&self) -> bool {
        self.turn_asked.swap(false, Ordering::AcqRel)
    }

    /// Waits until the lease is said to be free.
    pub(super) async fn lease_freed(&self) {
        self.lease_freed.notified().await;
    }

    fn hear(&self, subject: &str, payload: &Bytes, tail: &tail::Tail, state: &Queue<Op, Done>) {
        let topic = Topic::ALL.into_iter().find(|topic| self.names.news(topic.word()) == subject);
        let said = payload.split_at_checked(16);
        let Some((topic, (from, seq))) = topic.zip(said) else { return };
        let Ok(seq) = seq.try_into().map(u64::from_be_bytes) else { return };
        if from == self.own.as_bytes() {
            return;
        }
        match topic {
            Topic::Events => tail.want(seq),
            Topic::State => {
                self.state.send_if_modified(|known| {
                    let is_news = *known < seq;
                    *known = seq.max(*known);
                    is_news
                });
                state.look();
            }
            Topic::Lease => self.lease_freed.notify_one(),
            Topic::Turn => self.turn_asked.store(true, Ordering::Release),
        }
    }
}

/// Hears what others call out, and has the state looked at now and then all the same, until told to stop.
pub(super) async fn listen(context: Arc<Context>, state: Arc<Queue<Op, Done>>) -> Result<(), String> {
    let Context { news, tail, .. } = &*context;
    let listening = async {
        loop {
            // Without the right to subscribe everybody finds out by looking.
            if let Ok(mut heard) = news.wire.client().subscribe(news.names.news("*")).await {
                while let Some(message) = heard.next().await {
                    news.hear(&message.subject, &message.payload, tail, &state);
                }
            }
            sleep(PAUSE).await;
        }
    };
    let looking = async {
        loop {
            sleep(LOOK).await;
            state.look();
        }
    };
    tokio::select! {
        () = context.stop.cancelled() => {}
        () = async { tokio::join!(listening, looking).0 } => {}
    }
    Ok(())
}
