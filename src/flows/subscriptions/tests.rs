//! What a subscription hands out while it is not sure who leads, and what it stores in trouble.

use tokio::time::{Instant, timeout};

use super::*;
use crate::clock::{Clock as _, ManualClock};
use crate::domain::event::{EventAttributes, Payload};
use crate::flows::deliver_events::{End, Frame, Limits};
use crate::flows::gateway_event::{About, gateway_event};
use crate::storage::contract::sends::Mortal;
use crate::storage::event_log::Refusal;
use crate::storage::events;
use crate::storage::leadership::{Appointment, PeerKey};
use crate::storage::memory::Memory;
use crate::tenants::Snapshot;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(30);
const MANY: u64 = 1_000_000;

struct World {
    log: Arc<Memory>,
    state: Arc<Mortal>,
    clock: Arc<ManualClock>,
    appointment: Appointment,
    subscriptions: Subscriptions,
}

impl World {
    async fn new() -> Self {
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_hours(500_000));
        let shared = Arc::clone(&clock) as SharedClock;
        let log = Memory::new(Arc::clone(&shared));
        let (shutdown, (leadership, appointment)) = (Shutdown::new(), Leadership::pair(PeerKey::fresh()));
        appointment.lead(1, Instant::now() + Duration::from_hours(1));
        let limits = Limits { streams_max: 10, send_timeout: LONG, rotation: Duration::from_hours(1) };
        let streams =
            DeliverEvents::new(Arc::clone(&log) as _, limits, Arc::clone(&shared), shutdown.clone());
        let state = Mortal::new(Arc::clone(&log) as _, usize::MAX);
        let stores = (Arc::clone(&log) as _, Arc::clone(&state) as _);
        let tenants = Tenants::new(Snapshot::new(Vec::new(), Vec::new(), Vec::new()));
        let subscriptions =
            Subscriptions::new(stores, leadership, streams, tenants, shared, shutdown.clone());
        drop(shutdown.spawn_background("subscriptions", subscriptions.clone().run()));
        let terms = Terms {
            mode: Mode::Shared,
            ack_deadline: Duration::from_hours(1),
            retry_delay_min: Duration::from_secs(1),
            retry_delay_max: Duration::from_secs(1),
            attempts_max: 5,
        };
        let (name, filter) = ("work".to_owned(), EventFilter::default());
        let draft = Draft { name, filter, terms, start: Start::Earliest };
        subscriptions.create(&Caller::local(), &Rights::everything(), draft).await.unwrap();
        Self { log, state, clock, appointment, subscriptions }
    }

    async fn append(&self, key: &str) {
        let attributes = EventAttributes { event_type: "test".to_owned(), ..EventAttributes::default() };
        let about = About { attributes, subject: String::new(), payload: Payload::Message { contact: None } };
        let event = gateway_event(key, self.clock.now(), about);
        self.log.append(vec![events::item(&event, "")]).await.unwrap();
    }

    async fn open(&self) -> EventStream {
        let work = Work {
            name: "work".to_owned(),
            view: View::Typed,
            heartbeat_interval: Duration::from_hours(1),
            on_expired: OnExpired::Fail,
            batch_events_max: 10,
            stop_when_caught_up: false,
            wish: Wish { client_id: String::new(), events_max: MANY, bytes_max: MANY },
        };
        let (caller, rights) = (Caller::local(), Rights::everything());
        self.subscriptions.open(&caller, &rights, work, Box::new(|| {})).await.unwrap()
    }

    async fn status(&self) -> Status {
        self.subscriptions.get(&Caller::local(), "work").await.unwrap()
    }

    async fn outstanding(&self) -> u64 {
        self.status().await.outstanding
    }

    /// Says this of leases, which are numbered as they are given out.
    async fn say(
        &self,
        leases: impl IntoIterator<Item = u64>,
        outcome: Outcome,
    ) -> Result<Vec<AckRefusal>, Error> {
        let active = self.subscriptions.find(&Caller::local(), "work").unwrap();
        let (subscription, incarnation) = (active.id, active.incarnation);
        let id = |lease| AckId { subscription, incarnation, lease }.encode();
        let outcomes = leases.into_iter().map(|lease| (id(lease), outcome.clone())).collect();
        let refused = self.subscriptions.acknowledge(&Caller::local(), "work", outcomes).await?;
        Ok(refused.into_iter().map(|(_, refusal)| refusal).collect())
    }
}

/// The next frame; `None` at the end.
async fn next(stream: &mut EventStream) -> Option<Frame> {
    timeout(LONG, stream.frames.recv()).await.unwrap()
}

/// Reads until the stream has sent these many events and has no more.
async fn read(stream: &mut EventStream, events: u64) {
    let mut read = 0;
    loop {
        match next(stream).await.unwrap() {
            Frame::Events(batch) => read += batch.events,
            Frame::CaughtUp { .. } if read == events => return,
            Frame::Opened { .. } | Frame::CaughtUp { .. } => {}
            other @ (Frame::Heartbeat { .. } | Frame::FellBehind { .. } | Frame::Gap { .. }) => {
                panic!("{other:?}")
            }
        }
    }
}

#[tokio::test]
async fn nothing_is_handed_out_while_somebody_else_may_lead() {
    let world = World::new().await;
    let mut stream = world.open().await;
    world.append("first").await;
    read(&mut stream, 1).await;
    world.appointment.resign();
    let resigned = Instant::now();
    world.append("second").await;
    assert_eq!(next(&mut stream).await, None, "no frame, and the end");
    assert_eq!(timeout(LONG, stream.end).await.unwrap(), Ok(End::NotLeading));
    assert!(resigned.elapsed() >= Duration::from_secs(1), "a renewal may come yet");
    assert_eq!(world.outstanding().await, 1, "the second was leased to nobody");
}

#[tokio::test]
async fn a_stream_that_waits_hears_that_its_gateway_does_not_lead() {
    let world = World::new().await;
    let mut stream = world.open().await;
    read(&mut stream, 0).await;
    world.appointment.resign();
    assert_eq!(next(&mut stream).await, None);
    assert_eq!(timeout(LONG, stream.end).await.unwrap(), Ok(End::NotLeading));
}

#[tokio::test]
async fn a_late_renewal_ends_no_stream() {
    let world = World::new().await;
    let mut stream = world.open().await;
    read(&mut stream, 0).await;
    world.appointment.resign();
    world.append("first").await;
    tokio::task::yield_now().await;
    world.appointment.renew(Instant::now() + Duration::from_hours(1));
    read(&mut stream, 1).await;
}

fn parked() -> Outcome {
    Outcome::Park("no stock".to_owned())
}

#[tokio::test]
async fn many_are_parked_in_one_write_and_count_once_however_often_that_is_tried() {
    let world = World::new().await;
    let mut stream = world.open().await;
    for number in 0..40 {
        world.append(&number.to_string()).await;
    }
    read(&mut stream, 40).await;
    // The events are stored, and then the progress is not.
    world.state.allow(1);
    let failed = world.say(1..=40, parked()).await;
    assert!(matches!(failed, Err(Error::State(StateError::Busy))), "{failed:?}");
    world.state.allow(usize::MAX);
    assert_eq!(world.say(1..=40, parked()).await.unwrap(), []);
    let status = world.status().await;
    assert_eq!((status.parked, status.backlog, status.missed), (40, 0, 0));
}

#[tokio::test]
async fn outcomes_count_while_the_log_is_full() {
    let world = World::new().await;
    let mut stream = world.open().await;
    for number in 0..4 {
        world.append(&number.to_string()).await;
    }
    read(&mut stream, 4).await;
    world.log.refuse(Refusal::SizeLimit);
    assert_eq!(world.say([1], Outcome::Done).await.unwrap(), []);
    assert_eq!(world.say([2], parked()).await.unwrap(), []);
    assert_eq!(world.status().await.parked, 1);
    // What is parked is copied: not into the last of the disk.
    world.log.refuse(Refusal::DiskLow);
    assert_eq!(world.say([3], Outcome::Done).await.unwrap(), []);
    assert_eq!(world.say([4], parked()).await.unwrap(), [AckRefusal::ParkedFull]);
    assert_eq!(world.outstanding().await, 1);
    assert_eq!(world.say([4], Outcome::Retry(Some(Duration::ZERO))).await.unwrap(), []);
    let progress = world.subscriptions.inner.store.progress(world.status().await.settings.id).await.unwrap();
    assert_eq!(progress.unwrap().0.holes.len(), 1);
}
