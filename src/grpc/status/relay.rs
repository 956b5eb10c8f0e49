//! The statuses of calls on their way to the leader.

use std::time::Duration;

use http::HeaderMap;
use tonic::{Code, Status};

use super::{Draft, draining};
use crate::domain::failure::{Actor, Reason};

use super::super::measure::{
    DOWNLOAD_MEDIA, MANAGE_TEMPLATE, SEND_MESSAGE, SEND_MESSAGES, SUBSCRIBE_EVENTS, UPLOAD_MEDIA,
    WATCH_MESSAGE,
};

/// A new leader is there within seconds.
const NEXT_LEADER: Duration = Duration::from_secs(1);

/// Nobody led, for as long as the call could wait.
pub(in crate::grpc) fn no_leader() -> Status {
    let message = "no gateway of this group leads at this moment; nothing was done, try again";
    no_leader_with(message).build()
}

fn no_leader_with(message: &str) -> Draft {
    Draft::new(Code::Unavailable, Reason::NoLeader, message)
        .actor(Actor::Operator)
        .retry_after(Some(NEXT_LEADER))
}

/// The stream of a worker ends because its leader may not be one any more.
pub(super) fn not_leading() -> Draft {
    no_leader_with(
        "this gateway may not lead any more; open the stream again, the subscription goes on where it was",
    )
}

/// The leader was gone before it had answered. `reads_templates` is asked of `ManageTemplate`, which reads and writes.
pub(in crate::grpc) fn lost(method: &'static str, reads_templates: impl FnOnce() -> bool) -> Status {
    match method {
        MANAGE_TEMPLATE if reads_templates() => lost_harmless(),
        SEND_MESSAGE | MANAGE_TEMPLATE | UPLOAD_MEDIA => {
            let message = "the gateway that leads was gone before it answered, so this may have been done; if the \
                           request had a request_id, asking again with the same one does it once; without a \
                           request_id it may be done twice, look first whether it was";
            Draft::new(Code::Unknown, Reason::SendOutcomeUnknown, message).actor(Actor::Caller).build()
        }
        SUBSCRIBE_EVENTS | WATCH_MESSAGE | SEND_MESSAGES | DOWNLOAD_MEDIA => draining(None).build(),
        _ => lost_harmless(),
    }
}

fn lost_harmless() -> Status {
    no_leader_with("the gateway that leads was gone before it answered; try again, which does no harm")
        .build()
}

/// Whether an answer says that its gateway is about to end, and so has done nothing.
pub(in crate::grpc) fn is_draining(headers: &HeaderMap) -> bool {
    let status = Status::from_header_map(headers);
    status.is_some_and(|status| {
        status.code() == Code::Unavailable && super::reason(&status) == Reason::ServerDraining
    })
}

/// A caller that another replica knows and this one does not.
pub(in crate::grpc) fn caller_differs(caller: &str) -> Status {
    let message = format!(
        "the gateway that leads knows no caller {caller}: the configurations of the gateways differ; give all of them the \
         same [[callers]]"
    );
    Draft::new(Code::PermissionDenied, Reason::CallerNotAllowed, message)
        .with("right", "methods")
        .actor(Actor::Operator)
        .build()
}
