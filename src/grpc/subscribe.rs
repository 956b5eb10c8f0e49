//! `SubscribeEvents`.

use std::time::SystemTime;

use tonic::Status;

use crate::contract::v1;
use crate::domain::cursor::Cursor;
use crate::flows::deliver_events::{OnExpired, Start, Subscription, View};
use crate::listener::ConnectionInfo;

use super::callers::Identity;
use super::convert::{self, Violations};
use super::service::Service;
use super::status;
use super::stream::ResponseStream;

impl Service {
    pub(super) async fn subscribe(
        &self,
        who: &Identity,
        request: v1::SubscribeEventsRequest,
        connection: Option<ConnectionInfo>,
    ) -> Result<ResponseStream, Status> {
        let on_stuck = Box::new(move || {
            if let Some(connection) = connection {
                connection.kill.kill();
            }
        });
        let in_group = !request.subscription.is_empty();
        let mut subscription = subscription(&request)?;
        if in_group {
            return self.work(who, &request, subscription, on_stuck).await;
        }
        subscription.filter = who.rights.narrow(subscription.filter)?;
        let place = self.quotas.stream(who)?;
        let events = self.everywhere.deliver_events.open(&who.caller, subscription, on_stuck).await?;
        Ok(ResponseStream::new(events, place))
    }
}

fn subscription(request: &v1::SubscribeEventsRequest) -> Result<Subscription, Status> {
    let mut found = Violations::of_message("SubscribeEventsRequest", request);
    convert::check_group(request, &mut found);
    let start = start(request.start.as_ref(), &mut found)?;
    let filter = convert::filter(request.filter.clone(), &mut found);
    if !found.is_empty() {
        return Err(status::invalid(found.into_inner()));
    }
    Ok(Subscription {
        start,
        filter,
        view: match request.payload_view() {
            v1::PayloadView::Unspecified | v1::PayloadView::Full => View::Full,
            v1::PayloadView::Typed => View::Typed,
            v1::PayloadView::Raw => View::Raw,
        },
        heartbeat_interval: convert::heartbeat_interval(request.heartbeat_interval),
        on_expired: match request.on_expired_cursor() {
            v1::OnExpiredCursor::Unspecified | v1::OnExpiredCursor::Fail => OnExpired::Fail,
            v1::OnExpiredCursor::Earliest => OnExpired::Earliest,
            v1::OnExpiredCursor::Latest => OnExpired::Latest,
        },
        batch_events_max: convert::batch_events_max(request.max_batch_events),
        stop_when_caught_up: request.stop_when_caught_up,
        client_id: request.client_id.clone(),
    })
}

pub(super) fn start(
    start: Option<&v1::subscribe_events_request::Start>,
    found: &mut Violations,
) -> Result<Start, Status> {
    use v1::subscribe_events_request::Start as Pb;
    Ok(match start {
        None => Start::Latest,
        Some(Pb::Position(position)) => match v1::Position::try_from(*position) {
            Ok(v1::Position::Earliest) => Start::Earliest,
            // A number that is no position is among the violations already.
            Ok(v1::Position::Unspecified | v1::Position::Latest) | Err(_) => Start::Latest,
        },
        Some(Pb::StartTime(time)) => {
            let time = convert::time("start_time", *time, found);
            time.map_or(Start::Latest, |time: SystemTime| Start::Time(time))
        }
        Some(Pb::AfterCursor(text)) => {
            let cursor =
                Cursor::decode(text).map_err(|error| status::malformed_cursor(&error.to_string()))?;
            Start::After(cursor)
        }
    })
}
