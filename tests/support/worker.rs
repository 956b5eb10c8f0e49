//! A worker of a named subscription.

use std::time::Duration;

use tonic::Status;
use whatsapp_gateway::contract::v1::ack_outcome::Outcome;
use whatsapp_gateway::contract::v1::subscribe_events_response::Frame;
use whatsapp_gateway::contract::v1::{self, AckFailureReason, ReceivedEvent};

use super::gateway::Client;
use super::{Gateway, Subscriber};

/// A worker with an open stream, and a connection of its own.
#[derive(Debug)]
pub struct Worker {
    pub stream: Subscriber,
    pub client: Client,
    subscription: String,
}

pub fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

pub fn done() -> Outcome {
    Outcome::Done(v1::AckDone {})
}

/// After so many seconds; `None` after the subscription's own delay.
pub fn retry(delay: Option<i64>) -> Outcome {
    Outcome::Retry(v1::AckRetry { delay: delay.map(seconds) })
}

pub fn park(reason: &str) -> Outcome {
    Outcome::Park(v1::AckPark { reason: reason.to_owned() })
}

pub fn extend(by: i64) -> Outcome {
    Outcome::Extend(v1::AckExtend { by: Some(seconds(by)) })
}

/// The subject of a delivered event, which is the message's id.
pub fn subject(received: &ReceivedEvent) -> &str {
    &received.event.as_ref().unwrap().subject
}

/// A request for a stream of this subscription.
pub fn work(subscription: &str) -> v1::SubscribeEventsRequest {
    v1::SubscribeEventsRequest { subscription: subscription.to_owned(), ..Default::default() }
}

impl Worker {
    pub async fn open(gateway: &Gateway, subscription: &str) -> Self {
        Self::with(gateway, work(subscription)).await.unwrap()
    }

    pub async fn named(gateway: &Gateway, subscription: &str, client_id: &str) -> Self {
        let request = v1::SubscribeEventsRequest { client_id: client_id.to_owned(), ..work(subscription) };
        Self::with(gateway, request).await.unwrap()
    }

    pub async fn with(gateway: &Gateway, request: v1::SubscribeEventsRequest) -> Result<Self, Status> {
        Self::on(gateway.client().await, request).await
    }

    /// By this connection.
    pub async fn on(mut client: Client, request: v1::SubscribeEventsRequest) -> Result<Self, Status> {
        let subscription = request.subscription.clone();
        let stream = Subscriber::open(&mut client, request).await?;
        Ok(Self { stream, client, subscription })
    }

    /// The next `count` deliveries.
    pub async fn take(&mut self, count: usize) -> Vec<ReceivedEvent> {
        let mut taken = Vec::new();
        while taken.len() < count {
            let deliveries = self.stream.deliveries().await.unwrap();
            assert!(!deliveries.is_empty(), "the stream ended after {} of {count} events", taken.len());
            taken.extend(deliveries);
        }
        assert_eq!(taken.len(), count, "more than expected");
        taken
    }

    /// The next delivery.
    pub async fn one(&mut self) -> ReceivedEvent {
        self.take(1).await.remove(0)
    }

    /// All that can be delivered now, until the stream says that there is no more.
    pub async fn all(&mut self) -> Vec<ReceivedEvent> {
        let mut taken = Vec::new();
        loop {
            match self.stream.frame().await.unwrap() {
                Some(Frame::Events(batch)) => taken.extend(batch.events),
                Some(Frame::CaughtUp(_)) | None => return taken,
                Some(_) => {}
            }
        }
    }

    /// Says what became of a delivery; the reason why it counts for nothing, if it does.
    pub async fn say(&mut self, received: &ReceivedEvent, outcome: Outcome) -> Option<AckFailureReason> {
        self.say_of(&received.ack_id, outcome).await
    }

    pub async fn say_of(&mut self, ack_id: &str, outcome: Outcome) -> Option<AckFailureReason> {
        let outcome = v1::AckOutcome { ack_id: ack_id.to_owned(), outcome: Some(outcome) };
        let failures = self.acknowledge(vec![outcome]).await.unwrap();
        assert!(failures.iter().all(|failure| failure.ack_id == ack_id) && failures.len() < 2);
        failures.first().map(v1::AckFailure::reason)
    }

    /// All of these are done.
    pub async fn done(&mut self, all: &[ReceivedEvent]) {
        let outcome = |r: &ReceivedEvent| v1::AckOutcome { ack_id: r.ack_id.clone(), outcome: Some(done()) };
        assert_eq!(self.acknowledge(all.iter().map(outcome).collect()).await.unwrap(), []);
    }

    pub async fn acknowledge(
        &mut self,
        outcomes: Vec<v1::AckOutcome>,
    ) -> Result<Vec<v1::AckFailure>, Status> {
        let subscription = self.subscription.clone();
        let request = v1::AcknowledgeEventsRequest { subscription, outcomes };
        let mut request = tonic::Request::new(request);
        request.set_timeout(Duration::from_secs(10));
        Ok(self.client.acknowledge_events(request).await?.into_inner().failures)
    }
}

impl Gateway {
    /// Makes a subscription to all that is stored and to come.
    pub async fn subscription(&self, settings: v1::Subscription) -> v1::Subscription {
        let start = v1::create_subscription_request::Start::Position(v1::Position::Earliest.into());
        let request = v1::CreateSubscriptionRequest { subscription: Some(settings), start: Some(start) };
        let created = self.subscriptions().await.create_subscription(request).await.unwrap();
        created.into_inner().subscription.unwrap()
    }

    /// A subscription as it is now.
    pub async fn subscribed(&self, name: &str) -> v1::Subscription {
        let request = v1::GetSubscriptionRequest { name: name.to_owned() };
        let told = self.subscriptions().await.get_subscription(request).await.unwrap();
        told.into_inner().subscription.unwrap()
    }
}

/// Settings with this name and an ack deadline of a second, the shortest.
pub fn hasty(name: &str) -> v1::Subscription {
    v1::Subscription { ack_deadline: Some(seconds(1)), ..settings(name) }
}

pub fn settings(name: &str) -> v1::Subscription {
    v1::Subscription { name: name.to_owned(), ..Default::default() }
}
