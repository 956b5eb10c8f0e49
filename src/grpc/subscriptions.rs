//! `SubscriptionService`, and what workers of subscriptions call.

use std::time::{Duration, UNIX_EPOCH};

use tonic::{Request, Response, Status};

use crate::contract::frames;
use crate::contract::server::subscription_service_server::SubscriptionService;
use crate::contract::v1;
use crate::domain::filter::EventFilter;
use crate::domain::subscription::{Cause, Mode};
use crate::flows::deliver_events::{OnStuck, Start, Subscription};
use crate::flows::subscriptions::{self, AckRefusal, Chosen, Draft, Shown, Work};

use super::callers::Identity;
use super::convert::{self, Violations};
use super::measure::{
    CREATE_SUBSCRIPTION, DELETE_SUBSCRIPTION, DROP_PARKED_EVENTS, GET_SUBSCRIPTION, LIST_PARKED_EVENTS,
    LIST_SUBSCRIPTIONS, REPLAY_PARKED_EVENTS, SEEK_SUBSCRIPTION, UPDATE_SUBSCRIPTION, measured,
};
use super::rights::who;
use super::service::Service;
use super::status;
use super::stream::{ResponseStream, duration};
use super::subscribe::start;

/// Subscriptions on a page.
const PAGE_MAX: u32 = 100;
/// Parked events on a page.
const PARKED_PAGE_MAX: u32 = 256;
const PARKED_PAGE_DEFAULT: u32 = 32;

impl Service {
    /// The stream of a worker.
    pub(super) async fn work(
        &self,
        who: &Identity,
        request: &v1::SubscribeEventsRequest,
        asked: Subscription,
        on_stuck: OnStuck,
    ) -> Result<ResponseStream, Status> {
        let Subscription {
            view, heartbeat_interval, on_expired, batch_events_max, stop_when_caught_up, ..
        } = asked;
        let work = Work {
            name: request.subscription.clone(),
            view,
            heartbeat_interval,
            on_expired,
            batch_events_max,
            stop_when_caught_up,
            wish: convert::wish(request),
        };
        let place = self.quotas.stream(who)?;
        let events = self.flows()?.subscriptions.open(&who.caller, &who.rights, work, on_stuck).await?;
        Ok(ResponseStream::new(events, place))
    }

    pub(super) async fn acknowledge(
        &self,
        who: &Identity,
        request: v1::AcknowledgeEventsRequest,
    ) -> Result<v1::AcknowledgeEventsResponse, Status> {
        let mut found = Violations::of_message("AcknowledgeEventsRequest", &request);
        let name = request.subscription.clone();
        let outcomes = convert::outcomes(request, &mut found);
        refuse(found)?;
        let failures = self.flows()?.subscriptions.acknowledge(&who.caller, &name, outcomes).await?;
        let failure = |(ack_id, refusal): (String, AckRefusal)| {
            let reason = match refusal {
                AckRefusal::Expired => v1::AckFailureReason::Expired,
                AckRefusal::Unknown => v1::AckFailureReason::Unknown,
                AckRefusal::NotOwner => v1::AckFailureReason::NotOwner,
                AckRefusal::ParkedFull => v1::AckFailureReason::ParkedFull,
            };
            v1::AckFailure { ack_id, reason: reason.into() }
        };
        Ok(v1::AcknowledgeEventsResponse { failures: failures.into_iter().map(failure).collect() })
    }

    async fn create(
        &self,
        who: &Identity,
        request: v1::CreateSubscriptionRequest,
    ) -> Result<v1::CreateSubscriptionResponse, Status> {
        use v1::create_subscription_request::Start as Asked;
        use v1::subscribe_events_request::Start as Pb;
        let mut found = Violations::of_message("CreateSubscriptionRequest", &request);
        let settings = request.subscription.unwrap_or_default();
        let asked = request.start.map(|start| match start {
            Asked::AfterCursor(cursor) => Pb::AfterCursor(cursor),
            Asked::Position(position) => Pb::Position(position),
            Asked::StartTime(time) => Pb::StartTime(time),
        });
        let terms = convert::subscription_terms(&settings, &mut found);
        let filter = convert::subscription_change(&settings, &mut found).filter.unwrap_or_default();
        let start = start(asked.as_ref(), &mut found)?;
        refuse(found)?;
        let draft = Draft { name: settings.name, filter, terms, start };
        let status = self.flows()?.subscriptions.create(&who.caller, &who.rights, draft).await?;
        Ok(v1::CreateSubscriptionResponse { subscription: Some(to_pb(status)) })
    }

    async fn list(
        &self,
        who: &Identity,
        request: &v1::ListSubscriptionsRequest,
    ) -> Result<v1::ListSubscriptionsResponse, Status> {
        refuse(Violations::of_message("ListSubscriptionsRequest", request))?;
        let size = page_size(request.page_size, PAGE_MAX, PAGE_MAX);
        // A token is the last name of the page before.
        let page = self.flows()?.subscriptions.list(&who.caller, &request.page_token, size).await?;
        let (told, has_more) = page;
        let last = told.last().filter(|_| has_more).map(|status| status.settings.name.clone());
        Ok(v1::ListSubscriptionsResponse {
            subscriptions: told.into_iter().map(to_pb).collect(),
            next_page_token: last.unwrap_or_default(),
        })
    }

    async fn update(
        &self,
        who: &Identity,
        request: v1::UpdateSubscriptionRequest,
    ) -> Result<v1::UpdateSubscriptionResponse, Status> {
        let mut found = Violations::of_message("UpdateSubscriptionRequest", &request);
        let change = convert::subscription_change(&request.subscription.unwrap_or_default(), &mut found);
        refuse(found)?;
        let status = self.flows()?.subscriptions.update(&who.caller, &who.rights, change).await?;
        Ok(v1::UpdateSubscriptionResponse { subscription: Some(to_pb(status)) })
    }

    async fn seek(
        &self,
        who: &Identity,
        request: v1::SeekSubscriptionRequest,
    ) -> Result<v1::SeekSubscriptionResponse, Status> {
        use v1::seek_subscription_request::To;
        use v1::subscribe_events_request::Start as Pb;
        let mut found = Violations::of_message("SeekSubscriptionRequest", &request);
        let to = match request.to {
            Some(To::AfterCursor(cursor)) => start(Some(&Pb::AfterCursor(cursor)), &mut found)?,
            Some(To::Position(position)) => {
                if position == i32::from(v1::Position::Unspecified) {
                    let remedy = "must be POSITION_EARLIEST, or POSITION_LATEST, which leaves out all that is not done";
                    found.add("position", remedy);
                }
                start(Some(&Pb::Position(position)), &mut found)?
            }
            Some(To::Time(time)) => {
                convert::time("time", time, &mut found).map_or(Start::Latest, Start::Time)
            }
            // Required, so that its absence is a violation already.
            None => Start::Latest,
        };
        refuse(found)?;
        let status = self.flows()?.subscriptions.seek(&who.caller, &request.name, &to).await?;
        Ok(v1::SeekSubscriptionResponse { subscription: Some(to_pb(status)) })
    }

    async fn parked(
        &self,
        who: &Identity,
        request: &v1::ListParkedEventsRequest,
    ) -> Result<frames::ListParkedEventsResponse, Status> {
        refuse(Violations::of_message("ListParkedEventsRequest", request))?;
        let after = match request.page_token.as_str() {
            "" => 0,
            // A token is the position of the last event of the page before.
            token => token.parse().map_err(|_| subscriptions::Error::PageToken)?,
        };
        let size = page_size(request.page_size, PARKED_PAGE_DEFAULT, PARKED_PAGE_MAX);
        let flow = &self.flows()?.subscriptions;
        let page = flow.parked(&who.caller, &who.rights, &request.name, (after, size)).await?;
        Ok(frames::ListParkedEventsResponse {
            events: page.events.into_iter().map(parked_to_pb).collect(),
            next_page_token: page.next.map(|seq| seq.to_string()).unwrap_or_default(),
        })
    }
}

#[tonic::async_trait]
impl SubscriptionService for Service {
    async fn create_subscription(
        &self,
        request: Request<v1::CreateSubscriptionRequest>,
    ) -> Result<Response<v1::CreateSubscriptionResponse>, Status> {
        measured(CREATE_SUBSCRIPTION, &request, async {
            self.create(who(&request)?, request.get_ref().clone()).await.map(Response::new)
        })
        .await
    }

    async fn get_subscription(
        &self,
        request: Request<v1::GetSubscriptionRequest>,
    ) -> Result<Response<v1::GetSubscriptionResponse>, Status> {
        measured(GET_SUBSCRIPTION, &request, async {
            let (who, asked) = (who(&request)?, request.get_ref());
            refuse(Violations::of_message("GetSubscriptionRequest", asked))?;
            let status = self.flows()?.subscriptions.get(&who.caller, &asked.name).await?;
            Ok(Response::new(v1::GetSubscriptionResponse { subscription: Some(to_pb(status)) }))
        })
        .await
    }

    async fn list_subscriptions(
        &self,
        request: Request<v1::ListSubscriptionsRequest>,
    ) -> Result<Response<v1::ListSubscriptionsResponse>, Status> {
        measured(LIST_SUBSCRIPTIONS, &request, async {
            self.list(who(&request)?, request.get_ref()).await.map(Response::new)
        })
        .await
    }

    async fn update_subscription(
        &self,
        request: Request<v1::UpdateSubscriptionRequest>,
    ) -> Result<Response<v1::UpdateSubscriptionResponse>, Status> {
        measured(UPDATE_SUBSCRIPTION, &request, async {
            self.update(who(&request)?, request.get_ref().clone()).await.map(Response::new)
        })
        .await
    }

    async fn delete_subscription(
        &self,
        request: Request<v1::DeleteSubscriptionRequest>,
    ) -> Result<Response<v1::DeleteSubscriptionResponse>, Status> {
        measured(DELETE_SUBSCRIPTION, &request, async {
            let (who, asked) = (who(&request)?, request.get_ref());
            refuse(Violations::of_message("DeleteSubscriptionRequest", asked))?;
            self.flows()?.subscriptions.delete(&who.caller, &asked.name).await?;
            Ok(Response::new(v1::DeleteSubscriptionResponse {}))
        })
        .await
    }

    async fn seek_subscription(
        &self,
        request: Request<v1::SeekSubscriptionRequest>,
    ) -> Result<Response<v1::SeekSubscriptionResponse>, Status> {
        measured(SEEK_SUBSCRIPTION, &request, async {
            self.seek(who(&request)?, request.get_ref().clone()).await.map(Response::new)
        })
        .await
    }

    async fn list_parked_events(
        &self,
        request: Request<v1::ListParkedEventsRequest>,
    ) -> Result<Response<frames::ListParkedEventsResponse>, Status> {
        measured(LIST_PARKED_EVENTS, &request, async {
            self.parked(who(&request)?, request.get_ref()).await.map(Response::new)
        })
        .await
    }

    async fn replay_parked_events(
        &self,
        request: Request<v1::ReplayParkedEventsRequest>,
    ) -> Result<Response<v1::ReplayParkedEventsResponse>, Status> {
        measured(REPLAY_PARKED_EVENTS, &request, async {
            let (who, asked) = (who(&request)?, request.get_ref());
            let found = Violations::of_message("ReplayParkedEventsRequest", asked);
            let chosen = chosen(&asked.event_ids, asked.all, found)?;
            let replayed_count = self.flows()?.subscriptions.replay(&who.caller, &asked.name, chosen).await?;
            Ok(Response::new(v1::ReplayParkedEventsResponse { replayed_count }))
        })
        .await
    }

    async fn drop_parked_events(
        &self,
        request: Request<v1::DropParkedEventsRequest>,
    ) -> Result<Response<v1::DropParkedEventsResponse>, Status> {
        measured(DROP_PARKED_EVENTS, &request, async {
            let (who, asked) = (who(&request)?, request.get_ref());
            let found = Violations::of_message("DropParkedEventsRequest", asked);
            let chosen = chosen(&asked.event_ids, asked.all, found)?;
            let dropped_count =
                self.flows()?.subscriptions.drop_parked(&who.caller, &asked.name, chosen).await?;
            Ok(Response::new(v1::DropParkedEventsResponse { dropped_count }))
        })
        .await
    }
}

fn refuse(found: Violations) -> Result<(), Status> {
    if found.is_empty() { Ok(()) } else { Err(status::invalid(found.into_inner())) }
}

/// Zero means the default, and more than there may be means as many as there may be.
fn page_size(asked: u32, default: u32, max: u32) -> usize {
    let size = if asked == 0 { default } else { asked.min(max) };
    usize::try_from(size).unwrap_or(1)
}

/// Reads which parked events are meant.
fn chosen(event_ids: &[String], all: bool, mut found: Violations) -> Result<Chosen, Status> {
    if all != event_ids.is_empty() {
        found.add("event_ids", "give ids, or all, and not both");
    }
    let mut ids = Vec::with_capacity(event_ids.len());
    for (index, text) in event_ids.iter().enumerate() {
        let mut id = [0; 16];
        match hex::decode_to_slice(text, &mut id) {
            Ok(()) => ids.push(id),
            Err(_) => found.add(&format!("event_ids[{index}]"), "must be the id of an event, unchanged"),
        }
    }
    refuse(found)?;
    Ok(if all { Chosen::All } else { Chosen::Events(ids) })
}

fn to_pb(status: subscriptions::Status) -> v1::Subscription {
    let subscriptions::Status { settings, etag, floor_cursor, .. } = status;
    let EventFilter { phone_number_ids, waba_ids, types, conversation_keys, scope: _ } = settings.filter;
    let mode = match settings.terms.mode {
        Mode::Ordered => v1::SubscriptionMode::Ordered,
        Mode::Shared => v1::SubscriptionMode::Shared,
        Mode::Exclusive => v1::SubscriptionMode::Exclusive,
    };
    v1::Subscription {
        name: settings.name,
        filter: Some(v1::EventFilter { phone_number_ids, waba_ids, types, conversation_keys }),
        mode: mode.into(),
        ack_deadline: duration(settings.terms.ack_deadline),
        retry_delay_min: duration(settings.terms.retry_delay_min),
        retry_delay_max: duration(settings.terms.retry_delay_max),
        max_attempts: settings.terms.attempts_max,
        floor_cursor,
        backlog_estimate: status.backlog,
        oldest_unacked_time: status.oldest_unacked.map(Into::into),
        outstanding: status.outstanding,
        parked_count: status.parked,
        missed_count: status.missed,
        worker_count: u32::try_from(status.workers).unwrap_or(u32::MAX),
        create_time: Some((UNIX_EPOCH + Duration::from_millis(settings.create_ms)).into()),
        etag,
    }
}

fn parked_to_pb(Shown { head, event }: Shown) -> frames::ParkedEvent {
    let cause = match head.cause {
        Cause::AttemptsExhausted => v1::ParkCause::AttemptsExhausted,
        Cause::Worker => v1::ParkCause::Worker,
    };
    frames::ParkedEvent {
        event,
        park_time: Some((UNIX_EPOCH + Duration::from_millis(head.park_ms)).into()),
        attempts: head.attempts,
        cause: cause.into(),
        reason: head.reason,
        is_replaying: head.is_replaying,
    }
}
