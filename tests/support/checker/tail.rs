//! Followers of the log, who store a cursor now and then and go on from there after every end.

use std::collections::BTreeMap;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tonic::Status;
use tonic_types::StatusExt as _;
use whatsapp_gateway::contract::v1::subscribe_events_response::Frame;
use whatsapp_gateway::contract::v1::{Event, StreamClosing, SubscribeEventsRequest};

use super::verdicts::{Read, Segment};
use super::{PAUSE, Places, SILENCE};
use crate::support::subscriber::{after, from_earliest, position};
use crate::support::{Gateway, Rng, Subscriber};

/// How often the stored cursor is written: after so many events at most, at random.
#[derive(Debug, Clone, Copy)]
pub struct Storing(pub u64);

/// What a follower has seen.
#[derive(Debug, Default)]
pub struct Followed {
    /// Connection by connection.
    pub segments: Vec<Segment>,
    /// How streams ended, by code and reason.
    pub ends: BTreeMap<String, u64>,
    /// What was said before.
    pub closings: Vec<StreamClosing>,
}

impl Read {
    pub fn of(event: Event) -> Self {
        let position = position(&event.cursor);
        Self { position, event: event.id, message: event.subject, conversation: event.conversation_key }
    }
}

/// Code and reason, or that the connection went away.
pub fn name_of(status: &Status) -> String {
    let reason = status.get_details_error_info().map(|info| info.reason);
    format!("{:?} {}", status.code(), reason.unwrap_or_else(|| "without a reason".to_owned()))
}

/// Follows the log from its beginning to the position that `goal` comes to say.
pub async fn follow(
    places: Places,
    seed: u64,
    Storing(every): Storing,
    mut goal: watch::Receiver<Option<u64>>,
) -> Followed {
    let mut rng = Rng::new(seed);
    let (mut followed, mut stored) = (Followed::default(), None::<String>);
    loop {
        let mut client = places.client(&mut rng).await;
        let request = SubscribeEventsRequest {
            max_batch_events: u32::try_from(rng.between(1, 256)).unwrap(),
            ..stored.as_deref().map_or_else(from_earliest, after)
        };
        let opening = timeout(SILENCE, Subscriber::try_open(&mut client, request)).await;
        let end = match opening {
            Err(_) => "no answer".to_owned(),
            Ok(Err(status)) => name_of(&status),
            Ok(Ok(mut stream)) => {
                let from = position(&stream.opened.start_cursor);
                followed.segments.push(Segment { after: from, read: Vec::new() });
                match read_on(&mut stream, &mut followed, &mut stored, (&mut rng, every), &mut goal).await {
                    None => return followed,
                    Some(end) => end,
                }
            }
        };
        *followed.ends.entry(end).or_default() += 1;
        sleep(PAUSE).await;
    }
}

/// Reads until the stream ends, and says how; `None` at the goal.
async fn read_on(
    stream: &mut Subscriber,
    followed: &mut Followed,
    stored: &mut Option<String>,
    (rng, every): (&mut Rng, u64),
    goal: &mut watch::Receiver<Option<u64>>,
) -> Option<String> {
    let mut reached = position(&stream.opened.start_cursor);
    let mut store_in = rng.between(1, every);
    loop {
        if goal.borrow_and_update().is_some_and(|goal| reached >= goal) {
            return None;
        }
        let frame = tokio::select! {
            frame = stream.next_frame() => frame,
            Ok(()) = goal.changed() => continue,
            () = sleep(SILENCE) => return Some("silence".to_owned()),
        };
        match frame {
            Ok(Some(Frame::Events(batch))) => {
                for received in batch.events {
                    let event = received.event.unwrap();
                    store_in -= 1;
                    if store_in == 0 {
                        *stored = Some(event.cursor.clone());
                        store_in = rng.between(1, every);
                    }
                    let read = Read::of(event);
                    reached = read.position;
                    followed.segments.last_mut().unwrap().read.push(read);
                }
            }
            Ok(Some(Frame::Closing(closing))) => followed.closings.push(closing),
            Ok(Some(_)) => {}
            Ok(None) => return Some("OK".to_owned()),
            Err(status) => return Some(name_of(&status)),
        }
    }
}

impl Gateway {
    /// The whole log, as this gateway serves it; messages that users sent only.
    pub async fn log_of_messages(&self) -> Vec<Read> {
        let events = self.events().await.into_iter();
        events.filter(|event| event.r#type == "whatsapp.message.received").map(Read::of).collect()
    }
}
