//! What a subscription hands out while it is not sure who leads.

use tokio::time::{Instant, timeout};

use super::*;
use crate::clock::{Clock as _, ManualClock};
use crate::domain::event::{EventAttributes, Payload};
use crate::flows::deliver_events::{End, Frame, Limits};
use crate::flows::gateway_event::{About, gateway_event};
use crate::storage::events;
use crate::storage::leadership::{Appointment, PeerKey};
use crate::storage::memory::Memory;
use crate::tenants::Snapshot;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(30);
const MANY: u64 = 1_000_000;

struct World {
    log: Arc<Memory>,
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
        let stores = (Arc::clone(&log) as _, Arc::clone(&log) as _);
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
        Self { log, clock, appointment, subscriptions }
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

    async fn outstanding(&self) -> u64 {
        self.subscriptions.get(&Caller::local(), "work").await.unwrap().outstanding
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
