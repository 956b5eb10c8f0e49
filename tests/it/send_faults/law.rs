//! What must hold of every row.

use std::time::Duration;

use tonic::Code;
use whatsapp_gateway::contract::v1::{MessageState, ReachedState, SendState};

use super::play::{Answer, Meta, Played};
use super::row::{Delay, Refused, Said};

/// What is broken, each with the name of the row.
pub fn broken(played: &Played<'_>) -> Vec<String> {
    let mut complaints = Complaints { name: &played.row.name, found: Vec::new() };
    first(played, &mut complaints);
    again(played, &mut complaints);
    end(played, &mut complaints);
    events(played, &mut complaints);
    complaints.found
}

struct Complaints<'a> {
    name: &'a str,
    found: Vec<String>,
}

impl Complaints<'_> {
    fn unless(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.found.push(format!("{}: {}", self.name, what()));
        }
    }
}

/// The caller sees what it must, and Meta saw nothing more than it must.
fn first(played: &Played<'_>, complaints: &mut Complaints<'_>) {
    let Played { row, first, meta_first: Meta { posts, accepted, .. }, .. } = played;
    let is_said = match (&row.said, first) {
        (Said::Accepted, Ok(response)) => response.state() == SendState::Accepted && !response.replayed,
        (Said::Held, Ok(response)) => response.state() == SendState::Held && !response.replayed,
        (Said::Unknown, Err(refusal)) => {
            refusal.is() == (Code::Unknown, "SEND_OUTCOME_UNKNOWN")
                && refusal.actor() == "caller"
                && refusal.retry.is_none()
                && refusal.metadata.contains_key("send_tag")
        }
        (Said::Refused(Refused { code, reason, actors, delay }), Err(refusal)) => {
            let wanted_delay = match (delay, refusal.retry) {
                (Delay::None, stated) => stated.is_none(),
                (Delay::Exactly(seconds), stated) => stated == Some(Duration::from_secs(*seconds)),
                (Delay::AtLeast(seconds), stated) => stated.is_some_and(|s| s.as_secs() >= *seconds),
            };
            refusal.code == *code
                && reason.is_none_or(|reason| refusal.reason == reason)
                && refusal.reason != "SEND_OUTCOME_UNKNOWN"
                && (actors.is_empty() || actors.contains(&refusal.actor()))
                && wanted_delay
                && !refusal.metadata.contains_key("send_tag")
        }
        _ => false,
    };
    complaints.unless(is_said, || format!("{:?} was to be said, not {first:?}", row.said));
    if let Err(refusal) = first {
        complaints.unless(refusal.message.contains(row.words), || format!("{:?} is not said", row.words));
        complaints.unless(!refusal.message.contains("<html>"), || format!("HTML in {}", refusal.message));
        let code = row.fault.as_ref().and_then(|fault| fault.pointer("/error/code"));
        // A late answer was never read, and a success is no error.
        let status = row.fault.as_ref().and_then(|fault| fault.pointer("/error/http_status")?.as_u64());
        let is_read = !refusal.message.contains("timed out") && status.is_none_or(|status| status >= 300);
        let said = refusal.metadata.get("meta_code");
        let is_named = !is_read || code.is_none_or(|code| said == Some(&code.to_string()));
        complaints.unless(is_named, || format!("{said:?} instead of Meta's code"));
    }
    let is_seen = *posts == row.posts && accepted.len() == usize::from(row.is_accepted);
    complaints.unless(is_seen, || format!("Meta saw {posts} requests and accepted {accepted:?}"));
}

/// A number that cannot send is kept silent: refused here, at once, for the reason that Meta gave or for the pace.
fn is_held_back(first: &Answer, later: &Answer) -> bool {
    let (Err(first), Err(later)) = (first, later) else { return false };
    later.retry.is_some() && (later.is() == first.is() || later.reason == "LOCAL_RATE_LIMIT")
}

/// Before any status: an answer is replayed, a refusal tried anew, and what is unknown stays so.
fn again(played: &Played<'_>, complaints: &mut Complaints<'_>) {
    let Played { row, first, again, meta_first, meta_again, .. } = played;
    let (posts, is_accepted) = match &row.said {
        Said::Refused(_) if played.is_held() => (meta_first.posts, false),
        Said::Accepted | Said::Held | Said::Unknown => (meta_first.posts, row.is_accepted),
        Said::Refused(_) => (meta_first.posts + 1, !played.is_refused_for_good()),
    };
    let is_told = match (&row.said, first, again) {
        (Said::Accepted | Said::Held, Ok(first), Ok(again)) => {
            again.replayed && again.message_id == first.message_id && again.state == first.state
        }
        (Said::Unknown, Err(first), Err(again)) => is_still_unknown(first, again),
        (Said::Refused(_), Err(_), _) if played.is_held() => is_held_back(&played.first, again),
        (Said::Refused(_), Err(_), Ok(again)) => !again.replayed && !played.is_refused_for_good(),
        (Said::Refused(_), Err(first), Err(again)) => {
            played.is_refused_for_good() && first.is() == again.is()
        }
        _ => false,
    };
    complaints.unless(is_told, || format!("asked again it says {again:?}"));
    let Meta { posts: seen, accepted, .. } = meta_again;
    let is_seen = *seen == posts && accepted.len() == usize::from(is_accepted);
    complaints.unless(is_seen, || format!("asked again Meta saw {seen} requests and accepted {accepted:?}"));
}

fn is_still_unknown(first: &crate::support::Refusal, later: &crate::support::Refusal) -> bool {
    first.is() == later.is() && first.metadata.get("send_tag") == later.metadata.get("send_tag")
}

/// After the statuses, and from the disk: what Meta accepted is known, what it did not stays unknown, and nothing more
/// was sent.
fn end(played: &Played<'_>, complaints: &mut Complaints<'_>) {
    let Played { first, again, end, meta_again, meta_end, .. } = played;
    if played.is_refused_for_good() {
        return;
    }
    if played.is_held() {
        // Nothing of the pause is stored: another process sends it.
        let from_the_disk = &played.from_the_disk;
        let is_sent = matches!(from_the_disk, Some(Ok(_)));
        complaints.unless(is_sent, || format!("another process says {from_the_disk:?}"));
        return;
    }
    let is_right = |answer: &Answer| match (answer, meta_end.accepted.first()) {
        (Ok(response), Some(message_id)) => {
            let tag = match (first, again) {
                (Err(refusal), Err(_)) => refusal.metadata.get("send_tag"),
                (_, Ok(again)) => Some(&again.send_tag),
                (Ok(first), Err(_)) => Some(&first.send_tag),
            };
            response.replayed && response.message_id == *message_id && Some(&response.send_tag) == tag
        }
        (Err(later), None) => first.as_ref().is_err_and(|first| is_still_unknown(first, later)),
        _ => false,
    };
    complaints.unless(is_right(end), || format!("in the end it says {end:?}"));
    let from_the_disk = played.from_the_disk.as_ref();
    complaints.unless(from_the_disk.is_some_and(is_right), || format!("the disk says {from_the_disk:?}"));
    let is_seen = meta_end.posts == meta_again.posts && meta_end.accepted == meta_again.accepted;
    complaints.unless(is_seen, || format!("in the end Meta saw {meta_end:?}, before {meta_again:?}"));
}

/// Each status is one event, however often and in whatever order it came, and the message ends as they say.
fn events(played: &Played<'_>, complaints: &mut Complaints<'_>) {
    let Played { row, end, meta_end, statuses, message, .. } = played;
    let (wanted, wanted_life) = if played.is_held() { (0, &[][..]) } else { (row.webhooks, row.life) };
    let webhooks = meta_end.webhooks;
    complaints.unless(webhooks == wanted, || format!("{webhooks} webhooks, not {wanted}"));
    let life: Vec<&str> = statuses.iter().map(|status| status.status.as_str()).collect();
    complaints.unless(life == wanted_life, || format!("its events are {life:?}"));
    let Ok(response) = end else {
        complaints.unless(message.is_none(), || format!("a message of which nobody knows: {message:?}"));
        return;
    };
    for status in statuses {
        let is_mine = status.id == response.message_id && status.send_tag == response.send_tag;
        complaints.unless(is_mine, || format!("the event {status:?} is of another send than {response:?}"));
    }
    let state = |word: &&str| match *word {
        "sent" => MessageState::Sent,
        "delivered" => MessageState::Delivered,
        "read" => MessageState::Read,
        _ => MessageState::Failed,
    };
    let mut states: Vec<_> = row.life.iter().map(state).collect();
    states.sort();
    let known = message.as_ref().map(|message| {
        (message.state(), message.history.iter().map(ReachedState::state).collect::<Vec<_>>())
    });
    let wanted = states.last().map(|last| (*last, states.clone()));
    complaints.unless(known == wanted, || format!("GetMessage knows {known:?}, not {wanted:?}"));
    let Some(failure) = &row.failure else { return };
    let stored = message.as_ref().and_then(|message| message.failure.as_ref());
    let stored = stored.map(|stored| (stored.code, stored.verdict.clone()));
    let told = statuses.first().and_then(|status| status.errors.first());
    let told = told.map(|told| (told.code, told.verdict.clone()));
    complaints.unless(told == stored, || format!("the event says {told:?}, GetMessage {stored:?}"));
    let is_right = told.as_ref().is_some_and(|(code, verdict)| {
        let verdict = verdict.clone().unwrap_or_default();
        *code == i64::from(failure.code)
            && verdict.reason == failure.reason
            && failure.actors.contains(&verdict.actor.as_str())
    });
    complaints.unless(is_right, || format!("{failure:?} was to be said, not {told:?}"));
}
