//! What only the leader answers, on its way to it.
//!
//! Stands between the gate, which knows who calls and whether they may, and the methods. Where this process leads, a call
//! passes by. Else it goes to the leader as it came, with the name of its caller, and the answer comes back as it is. While
//! nobody leads a call waits, for 8 s at most and not beyond its deadline; then it was certainly not done.

mod leader;
mod request;
mod response;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::Either;
use http::request::Parts;
use http::{Request, Response};
use metrics::{gauge, histogram};
use prost::Message;
use tokio::time::{Instant, timeout_at};
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use crate::contract::v1;
use crate::flows::who_leads::{Place, WhoLeads};
use crate::lifecycle::Shutdown;
use crate::telemetry::names;

use super::gate::OURS;
use super::measure::{self, SEND_MESSAGE, SUBSCRIBE_EVENTS};
use super::{deadline, peers, status};

use leader::{Leader, Missed};
use request::Source;

/// How long a call waits for somebody who leads.
const WAIT_MAX: Duration = Duration::from_secs(8);

/// Methods, and the way to the leader before them.
#[derive(Debug, Clone)]
pub struct Relay<S> {
    inner: S,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    who_leads: WhoLeads,
    /// `None` where calls come from other replicas: they go no further.
    leader: Option<Leader>,
    request_bytes_max: usize,
}

/// A call on its way.
#[derive(Debug)]
struct Call {
    head: Parts,
    source: Source,
    method: &'static str,
    began: Instant,
    /// By its caller's deadline.
    timeout: Option<Duration>,
}

impl Call {
    fn new(request: Request<Body>) -> Self {
        let (head, body) = request.into_parts();
        let method = measure::method(head.uri.path());
        let timeout = deadline::timeout(&head.headers);
        Self { head, source: Source::new(body), method, began: Instant::now(), timeout }
    }

    /// What is left of its time; `None` if it has no deadline.
    fn left(&self) -> Option<Duration> {
        Some(self.timeout?.saturating_sub(self.began.elapsed()))
    }

    /// Until when it may wait for a leader.
    fn until(&self) -> Instant {
        self.began + self.timeout.map_or(WAIT_MAX, |timeout| WAIT_MAX.min(deadline::in_time(timeout)))
    }

    /// Ends it with this status.
    fn refuse(&self, status: &Status) -> Response<Body> {
        measure::record_duration(self.method, status.code(), self.began);
        if self.method == SEND_MESSAGE {
            measure::answered(&Err::<(), _>(status.clone()));
        }
        status.clone().into_http()
    }

    /// The way to the leader is over.
    fn count(&self, outcome: &'static str) {
        histogram!(names::RELAY_DURATION, names::OUTCOME => outcome).record(self.began.elapsed());
    }
}

impl<S> Relay<S> {
    /// At the port of callers. `name` is this process's, for the audit log of the leader.
    pub(super) fn to_leader(
        inner: S,
        who_leads: WhoLeads,
        name: String,
        request_bytes_max: usize,
        shutdown: Shutdown,
    ) -> Self {
        let leader = Some(Leader::new(who_leads.peer_key(), name, shutdown));
        Self { inner, shared: Arc::new(Shared { who_leads, leader, request_bytes_max }) }
    }

    /// At the port of other replicas.
    pub(super) fn of_peers(inner: S, who_leads: WhoLeads, request_bytes_max: usize) -> Self {
        Self { inner, shared: Arc::new(Shared { who_leads, leader: None, request_bytes_max }) }
    }
}

impl<S> Service<Request<Body>> for Relay<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = request.uri().path();
        // Health, reflection and WhoAmI need no leader.
        if self.shared.who_leads.is_here() || !path.starts_with(OURS) || path.ends_with("/WhoAmI") {
            return Either::Left(self.inner.call(request));
        }
        let relay = self.clone();
        Either::Right(Box::pin(async move { relay.pass_on(Call::new(request)).await }))
    }
}

impl<S> Relay<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Send + Sync,
{
    async fn pass_on(self, call: Call) -> Result<Response<Body>, Infallible> {
        if call.method == SUBSCRIBE_EVENTS && !call.is_of_worker(self.shared.request_bytes_max).await {
            return self.answer(call).await;
        }
        let mut who_leads = self.shared.who_leads.clone();
        let mut waiting = None;
        loop {
            let missed = match (who_leads.place(), &self.shared.leader) {
                (Place::Here, _) => return self.answer(call).await,
                // The replica that asks waits itself, and may know better who leads.
                (Place::There(_) | Place::Nowhere, None) => {
                    return Ok(peers::not_leading(call.refuse(&status::no_leader())));
                }
                (Place::There(replica), Some(leader)) => match leader.ask(&replica, &call).await {
                    Ok(answer) => {
                        call.count("answered");
                        return Ok(answer);
                    }
                    Err(missed) => missed,
                },
                (Place::Nowhere, Some(_)) => Missed::NotTaken,
            };
            let status = match missed {
                Missed::NotTaken => {
                    waiting.get_or_insert_with(Waiting::new);
                    if timeout_at(call.until(), who_leads.look_again()).await.is_ok() {
                        continue;
                    }
                    call.count("no_leader");
                    status::no_leader()
                }
                Missed::NotKept => {
                    call.count("no_leader");
                    status::no_leader()
                }
                Missed::Lost => {
                    call.count("lost");
                    call.lost()
                }
                Missed::Incomplete(failure) => {
                    call.count("incomplete");
                    // Of a library, as it would be without a relay; the gate says it in our words.
                    return Ok(failure.into_http());
                }
            };
            return Ok(call.refuse(&status));
        }
    }

    /// Answers here.
    async fn answer(mut self, call: Call) -> Result<Response<Body>, Infallible> {
        let Some(reader) = call.source.reader(None) else {
            return Ok(call.refuse(&status::no_leader()));
        };
        let mut head = call.head;
        if let Some(timeout) = call.timeout {
            let left = timeout.saturating_sub(call.began.elapsed());
            head.headers.insert(deadline::HEADER, deadline::shown(left));
        }
        self.inner.call(Request::from_parts(head, Body::new(reader))).await
    }
}

impl Call {
    /// Whether a stream of events is that of a worker, whose subscription the leader has. What cannot be read is not: it is
    /// refused, which everybody can.
    async fn is_of_worker(&self, bytes_max: usize) -> bool {
        let message = self.source.first_message(bytes_max).await;
        let request = message.and_then(|message| v1::SubscribeEventsRequest::decode(message).ok());
        request.is_some_and(|request| !request.subscription.is_empty())
    }

    /// What is said if the leader is gone before it has answered.
    fn lost(&self) -> Status {
        status::relay::lost(self.method, || self.reads_templates())
    }

    /// Whether a call of `ManageTemplate` changes nothing. What is not kept is no read: those are short.
    fn reads_templates(&self) -> bool {
        use v1::manage_template_request::Action as A;
        let message = self.source.kept_message();
        let request = message.and_then(|message| v1::ManageTemplateRequest::decode(message).ok());
        let action = request.and_then(|request| request.action);
        matches!(action, Some(A::Get(_) | A::List(_) | A::Library(_) | A::Compare(_) | A::Preview(_)))
    }
}

/// A call that waits for a leader, in the metrics.
struct Waiting;

impl Waiting {
    fn new() -> Self {
        gauge!(names::RELAY_WAITING).increment(1.0);
        Self
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        gauge!(names::RELAY_WAITING).decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tonic::Code;

    use super::*;
    use crate::flows::who_leads::{Leadership, PeerKey};

    #[tokio::test(start_paused = true)]
    async fn a_gateway_that_does_not_lead_says_so_to_others_at_once() {
        let (leadership, appointment) = Leadership::pair(PeerKey::fresh());
        // Nothing gets there: it would be an answer without that mark.
        let methods = tower::service_fn(|_: Request<Body>| async { Ok(Response::new(Body::empty())) });
        let mut relay = Relay::of_peers(methods, WhoLeads::new(leadership), 1024);
        let began = Instant::now();
        for leads_unready in [false, true] {
            if leads_unready {
                // It has been elected, and has not taken the lead up yet.
                appointment.lead(1, Instant::now());
            }
            let request = Request::post(format!("{OURS}GatewayService/SendMessage"));
            let answer = relay.call(request.body(Body::empty()).unwrap()).await.unwrap();
            assert!(peers::is_not_leading(answer.headers()));
            let status = Status::from_header_map(answer.headers()).unwrap();
            assert_eq!(status.code(), Code::Unavailable);
            assert!(answer.into_body().collect().await.unwrap().to_bytes().is_empty());
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
