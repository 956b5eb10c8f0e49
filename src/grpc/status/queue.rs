//! The statuses of the queue and of streams of sends.

use prost::Message as _;
use tonic::{Code, Status};

use super::{Draft, RETRY_DELAY, draining, invalid};
use crate::domain::failure::{Actor, Reason};
use crate::flows::queue;

impl From<queue::Error> for Status {
    fn from(error: queue::Error) -> Self {
        let message = error.to_string();
        match error {
            queue::Error::Send(error) => error.into(),
            queue::Error::Invalid(violation) => invalid(vec![violation]),
            queue::Error::Full { .. } => exhausted(Reason::QueueFull, "queue", message),
        }
    }
}

/// Too many streams of sends are open.
pub(in crate::grpc) fn too_many_send_streams(streams_max: usize) -> Status {
    let message = format!("{streams_max} streams of SendMessages are open already (sending.streams_max)");
    exhausted(Reason::StreamQuota, "send streams", message)
}

fn exhausted(reason: Reason, subject: &str, message: String) -> Status {
    let mut draft = Draft::new(Code::ResourceExhausted, reason, message.clone());
    draft.details.add_quota_failure_violation(subject, message);
    draft.retry_after(Some(RETRY_DELAY)).actor(Actor::Caller).build()
}

/// The end of a stream of sends before its caller wants it.
pub(in crate::grpc) fn sends_draining() -> Status {
    draining(None).build()
}

/// A status as a message in a stream. Its details are the whole status already.
pub(in crate::grpc) fn in_stream(status: &Status) -> tonic_types::Status {
    let whole = tonic_types::Status::decode(status.details()).ok();
    whole.filter(|_| !status.details().is_empty()).unwrap_or_else(|| tonic_types::Status {
        code: status.code() as i32,
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}
