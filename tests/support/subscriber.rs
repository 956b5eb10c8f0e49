//! A reader of one event stream.

use tokio::time::timeout;
use tonic::{Status, Streaming};
use whatsapp_gateway::contract::v1::{
    Event, Position, ReceivedEvent, StreamClosing, StreamOpened, SubscribeEventsRequest,
    SubscribeEventsResponse, subscribe_events_request::Start, subscribe_events_response::Frame,
};
use whatsapp_gateway::domain::cursor::Cursor;

use super::gateway::{Client, PATIENCE};

/// An open stream.
#[derive(Debug)]
pub struct Subscriber {
    pub opened: StreamOpened,
    frames: Streaming<SubscribeEventsResponse>,
}

/// What a stream carried until it ended.
#[derive(Debug, Default)]
pub struct Rest {
    pub events: Vec<Event>,
    pub closing: Option<StreamClosing>,
    /// `None` if it ended well.
    pub status: Option<Status>,
}

/// A request that starts with everything that is kept.
pub fn from_earliest() -> SubscribeEventsRequest {
    start(Start::Position(Position::Earliest.into()))
}

/// A request that goes on after a cursor.
pub fn after(cursor: &str) -> SubscribeEventsRequest {
    start(Start::AfterCursor(cursor.to_owned()))
}

/// A request that starts here.
pub fn start(start: Start) -> SubscribeEventsRequest {
    SubscribeEventsRequest { start: Some(start), ..Default::default() }
}

/// Where a cursor is in its log.
pub fn position(cursor: &str) -> u64 {
    Cursor::decode(cursor).unwrap().seq
}

impl Subscriber {
    /// Opens a stream and takes its first frame.
    pub async fn open(client: &mut Client, request: SubscribeEventsRequest) -> Result<Self, Status> {
        timeout(PATIENCE, Self::try_open(client, request)).await.expect("no frame in time")
    }

    /// As [`Subscriber::open`], for as long as it takes.
    pub async fn try_open(client: &mut Client, request: SubscribeEventsRequest) -> Result<Self, Status> {
        let mut frames = client.subscribe_events(request).await?.into_inner();
        let first = frames.message().await?;
        let Some(Frame::Opened(opened)) = first.and_then(|first| first.frame) else {
            panic!("the first frame is not `opened`")
        };
        Ok(Self { opened, frames })
    }

    /// The next frame; `None` at a good end.
    pub async fn frame(&mut self) -> Result<Option<Frame>, Status> {
        timeout(PATIENCE, self.next_frame()).await.expect("no frame in time")
    }

    /// As [`Subscriber::frame`], for as long as it takes.
    pub async fn next_frame(&mut self) -> Result<Option<Frame>, Status> {
        Ok(self.frames.message().await?.map(|next| next.frame.expect("a frame of a known kind")))
    }

    /// The next events, whatever frames come between.
    pub async fn events(&mut self) -> Result<Vec<Event>, Status> {
        Ok(self.deliveries().await?.into_iter().map(|received| received.event.unwrap()).collect())
    }

    /// As [`Subscriber::events`], with what a worker has to know.
    pub async fn deliveries(&mut self) -> Result<Vec<ReceivedEvent>, Status> {
        loop {
            match self.frame().await? {
                Some(Frame::Events(batch)) => return Ok(batch.events),
                Some(_) => {}
                None => return Ok(Vec::new()),
            }
        }
    }

    /// The next `count` events.
    pub async fn take(&mut self, count: usize) -> Result<Vec<Event>, Status> {
        let mut taken = Vec::new();
        while taken.len() < count {
            let events = self.events().await?;
            assert!(!events.is_empty(), "the stream ended after {} of {count} events", taken.len());
            taken.extend(events);
        }
        Ok(taken)
    }

    /// Reads to the end.
    pub async fn rest(mut self) -> Rest {
        let mut rest = Rest::default();
        loop {
            match self.frame().await {
                Ok(Some(Frame::Events(batch))) => {
                    rest.events.extend(batch.events.into_iter().map(|received| received.event.unwrap()));
                }
                Ok(Some(Frame::Closing(closing))) => rest.closing = Some(closing),
                Ok(Some(_)) => {}
                Ok(None) => return rest,
                Err(status) => return Rest { status: Some(status), ..rest },
            }
        }
    }
}
