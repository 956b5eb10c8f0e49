//! `SendMessages`: many sends on one stream, each answered by itself.
//!
//! A request is read when there is room for it, and room is made by answers that the caller takes: so a stream holds as
//! much as is in work and no more, however long it is. Each send is a task of its own, since nobody polls a stream whose
//! caller does not read.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{Stream, StreamExt as _};
use metrics::gauge;
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::{Code, Request, Status, Streaming};
use tracing::{Instrument, Span};

use crate::contract::v1;
use crate::contract::v1::send_messages_response::Result as Answer;
use crate::domain::schedule::Class;
use crate::lifecycle::Shutdown;
use crate::telemetry::{TraceContext, in_trace, names, semconv};

use super::audit::Line;
use super::callers::Identity;
use super::convert::{Asked, Violations};
use super::deadline::deadline;
use super::measure::{SEND_MESSAGES, answered, word};
use super::quotas::Place;
use super::rights::who;
use super::service::Service;
use super::status;

/// Requests of one stream that are in work.
const IN_WORK_MAX: usize = 256;
/// Bytes of them after which no more is read.
const IN_WORK_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a send waits for its turn.
const TIME_MAX: Duration = Duration::from_secs(30);

/// The open streams.
#[derive(Debug, Clone)]
pub struct SendStreams {
    places: Arc<Semaphore>,
    streams_max: usize,
    request_bytes_max: usize,
    shutdown: Shutdown,
}

impl SendStreams {
    /// At most so many, of requests of at most so many bytes.
    pub fn new(streams_max: usize, request_bytes_max: usize, shutdown: Shutdown) -> Self {
        Self { places: Arc::new(Semaphore::new(streams_max)), streams_max, request_bytes_max, shutdown }
    }
}

/// The response of `SendMessages`.
pub struct AnswerStream {
    service: Service,
    who: Arc<Identity>,
    requests: Streaming<v1::SendMessagesRequest>,
    /// Until when the caller waits for the whole stream.
    deadline: Option<Instant>,
    /// That of requests that name none.
    trace: Option<TraceContext>,
    in_work: FuturesUnordered<Work>,
    in_work_bytes: usize,
    /// Whether more is read; if not, how the stream ends.
    end: Option<Result<(), Status>>,
    drained: Pin<Box<WaitForCancellationFutureOwned>>,
    _place: OwnedSemaphorePermit,
    /// Among the streams of its caller.
    _own_place: Option<Place>,
}

/// An answer to come, and the bytes of its request.
type Work = Pin<Box<dyn Future<Output = (v1::SendMessagesResponse, usize)> + Send>>;

impl fmt::Debug for AnswerStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerStream").field("in_work", &self.in_work.len()).finish_non_exhaustive()
    }
}

impl Service {
    /// Opens the stream of answers, which reads the requests.
    pub(super) fn send_all(
        &self,
        call: &Request<()>,
        requests: Streaming<v1::SendMessagesRequest>,
    ) -> Result<AnswerStream, Status> {
        let (who, deadline) = (who(call)?, deadline(call));
        let streams = &self.everywhere.send_streams;
        if streams.shutdown.drain().is_cancelled() {
            return Err(status::queue::sends_draining());
        }
        let own_place = self.quotas.stream(who)?;
        let place = Arc::clone(&streams.places).try_acquire_owned();
        let place = place.map_err(|_| status::queue::too_many_send_streams(streams.streams_max))?;
        gauge!(names::SEND_STREAMS).increment(1.0);
        Ok(AnswerStream {
            service: self.clone(),
            who: Arc::clone(who),
            requests,
            deadline,
            trace: trace(call),
            in_work: FuturesUnordered::new(),
            in_work_bytes: 0,
            end: None,
            drained: Box::pin(streams.shutdown.drain().clone().cancelled_owned()),
            _place: place,
            _own_place: own_place,
        })
    }

    /// One message of the stream, with its line in the audit log.
    async fn answer(
        self,
        who: Arc<Identity>,
        request: v1::SendMessagesRequest,
        deadline: Instant,
    ) -> Result<v1::SendMessageResponse, Status> {
        let mut line = Line::new(Arc::clone(&who), SEND_MESSAGES);
        let answer = Box::pin(self.answer_one(&who, request, deadline)).await;
        answered(&answer);
        line.answered(answer.as_ref().err());
        let code = answer.as_ref().err().map_or(Code::Ok, Status::code);
        semconv::rpc_ended(&Span::current(), word(code));
        answer
    }

    async fn answer_one(
        self,
        who: &Identity,
        request: v1::SendMessagesRequest,
        deadline: Instant,
    ) -> Result<v1::SendMessageResponse, Status> {
        let outer = v1::SendMessagesRequest { key: request.key, ..Default::default() };
        let mut found = Violations::of_message("SendMessagesRequest", &outer);
        let Some(message) = request.message else {
            return Err(status::invalid(found.into_inner()));
        };
        found.forget("message");
        if !found.is_empty() {
            return Err(status::invalid(found.into_inner()));
        }
        self.send(who, message, Asked { deadline: Some(deadline), usual: Class::Bulk }).await
    }
}

/// The trace of a stream whose caller has begun one. Without, each request begins one of its own, since a stream may last for
/// hours.
fn trace(call: &Request<()>) -> Option<TraceContext> {
    let caller = TraceContext::extract(call.metadata().as_ref())?;
    Some(TraceContext::current().unwrap_or(caller))
}

impl AnswerStream {
    /// Starts the work on a request. It goes on when the stream breaks.
    fn begin(&mut self, request: v1::SendMessagesRequest) {
        let latest = Instant::now() + TIME_MAX;
        let deadline = self.deadline.map_or(latest, |deadline| deadline.min(latest));
        let (key, bytes) = (request.key.clone(), request.encoded_len());
        let trace = TraceContext::parse(&request.traceparent);
        let trace = trace.as_ref().or(self.trace.as_ref());
        let answer = self.service.clone().answer(Arc::new(self.who.again()), request, deadline);
        let answer = in_trace(trace, || answer.instrument(semconv::rpc_stream_request(SEND_MESSAGES, trace)));
        let working = self.service.everywhere.send_streams.shutdown.spawn_request(answer);
        self.in_work_bytes += bytes;
        self.in_work.push(Box::pin(async move {
            // Only a defect, or the end of the process, cuts the work off.
            let answer = working.await.unwrap_or_else(|_| Err(status::internal()));
            let result = match answer {
                Ok(response) => Answer::Response(response),
                Err(status) => Answer::Error(status::queue::in_stream(&status)),
            };
            (v1::SendMessagesResponse { key, result: Some(result) }, bytes)
        }));
    }

    /// Reads what there is room for; whether something was begun.
    fn poll_requests(&mut self, cx: &mut Context<'_>) -> bool {
        let has_room = self.in_work.len() < IN_WORK_MAX && self.in_work_bytes < IN_WORK_BYTES_MAX;
        if self.end.is_some() {
            return false;
        }
        if self.drained.as_mut().poll(cx).is_ready() {
            self.end = Some(Err(status::queue::sends_draining()));
            return false;
        }
        match has_room.then(|| self.requests.poll_next_unpin(cx)) {
            Some(Poll::Ready(Some(Ok(request)))) => {
                self.begin(request);
                true
            }
            Some(Poll::Ready(Some(Err(foreign)))) => {
                let request_bytes_max = self.service.everywhere.send_streams.request_bytes_max;
                self.end = Some(Err(status::adopted(&foreign, request_bytes_max)));
                false
            }
            Some(Poll::Ready(None)) => {
                self.end = Some(Ok(()));
                false
            }
            Some(Poll::Pending) | None => false,
        }
    }
}

impl Stream for AnswerStream {
    type Item = Result<v1::SendMessagesResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Poll::Ready(Some((answer, bytes))) = self.in_work.poll_next_unpin(cx) {
                self.in_work_bytes = self.in_work_bytes.saturating_sub(bytes);
                return Poll::Ready(Some(Ok(answer)));
            }
            // What was begun must be polled before it wakes anybody.
            if self.poll_requests(cx) {
                continue;
            }
            if self.end.is_none() || !self.in_work.is_empty() {
                return Poll::Pending;
            }
            // Said once; then the stream is over.
            let end = self.end.replace(Ok(()));
            return Poll::Ready(end.and_then(Result::err).map(Err));
        }
    }
}

impl Drop for AnswerStream {
    fn drop(&mut self) {
        gauge!(names::SEND_STREAMS).decrement(1.0);
    }
}
