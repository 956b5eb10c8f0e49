//! Attempts: each one call to Meta, and another one only where nothing can have gone out.

use std::time::Duration;

use metrics::counter;
use secrecy::SecretString;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::info;
use uuid::Uuid;

use crate::cloud_api::{self, Client};
use crate::domain::failure::{Reason, Retry, Verdict};
use crate::domain::message::PreparedMessage;
use crate::flows::failed_call::failure;
use crate::flows::unsettled::PROOF;
use crate::storage::sends::Outcome;
use crate::telemetry::names;

/// Retries of one send. Whoever wants more asks again: it is told when.
const RETRIES_MAX: u32 = 3;

/// Sends a message, and again as long as it certainly did not go out, waiting may help, and there is time until the
/// deadline. A drain ends the waiting.
pub(super) async fn deliver(
    client: &Client,
    access_token: &SecretString,
    message: &PreparedMessage,
    deadline: Instant,
    drain: &CancellationToken,
) -> Outcome {
    let mut retries = 0;
    loop {
        let outcome = attempt(client, access_token, message).await;
        let Outcome::Refused(failure) = &outcome else { return outcome };
        let Some(pause) = pause(&failure.verdict, retries) else { return outcome };
        if Instant::now() + pause.most > deadline {
            return outcome;
        }
        let pause = pause.drawn();
        info!(reason = failure.verdict.reason.as_str(), ?pause, "nothing went out; trying again");
        if drain.run_until_cancelled(sleep(pause)).await.is_none() {
            return outcome;
        }
        retries += 1;
    }
}

/// Sends a message once.
pub(in crate::flows) async fn attempt(
    client: &Client,
    access_token: &SecretString,
    message: &PreparedMessage,
) -> Outcome {
    let cause = match client.send_message(access_token, message).await {
        Ok(receipt) => return Outcome::Accepted(receipt),
        Err(cause) => cause,
    };
    let failure = failure(&cause, PROOF);
    if cause.meta().is_some() {
        counter!(names::META_ERRORS, names::ERROR_CLASS => failure.verdict.reason.as_str()).increment(1);
    }
    match cause {
        cloud_api::Error::OutcomeUnknown { .. } | cloud_api::Error::NoAnswer { .. } => {
            Outcome::Unknown(failure)
        }
        cloud_api::Error::Refused { .. }
        | cloud_api::Error::NotSent { .. }
        | cloud_api::Error::HostNotAllowed { .. }
        | cloud_api::Error::Invalid { .. } => Outcome::Refused(failure),
    }
}

/// A pause between attempts, to be drawn at random so that senders do not return together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pause {
    least: Duration,
    most: Duration,
}

impl Pause {
    fn drawn(self) -> Duration {
        let [.., high, low] = Uuid::now_v7().into_bytes();
        let share = f64::from(u16::from_be_bytes([high, low])) / f64::from(u16::MAX);
        self.least + self.most.saturating_sub(self.least).mul_f64(share)
    }
}

/// How long to wait after so many retries; nothing where another try makes no sense.
fn pause(verdict: &Verdict, retries: u32) -> Option<Pause> {
    if retries >= RETRIES_MAX {
        return None;
    }
    match verdict.retry {
        // 4^X seconds for a pair of numbers (reference 5.1), not less.
        Retry::Backoff(first) if verdict.reason == Reason::UpstreamPairRate => {
            Some(at_least(first * 4_u32.pow(retries)))
        }
        // Full jitter.
        Retry::Backoff(first) => Some(Pause { least: Duration::ZERO, most: first * 2_u32.pow(retries) }),
        // Somebody has said how long.
        Retry::Wait(least) => Some(at_least(least)),
        Retry::AfterChange | Retry::Never | Retry::Ambiguous => None,
    }
}

fn at_least(least: Duration) -> Pause {
    Pause { least, most: least + least / 4 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::failure::{Actor, Class};

    fn verdict(reason: Reason, retry: Retry) -> Verdict {
        Verdict { class: Class::ResourceExhausted, reason, actor: Actor::Caller, retry }
    }

    #[test]
    fn pauses_grow_and_end() {
        let ms = Duration::from_millis;
        let pauses = |verdict| (0..5).map(move |n| pause(&verdict, n).map(|p| (p.least, p.most)));
        let throughput = verdict(Reason::UpstreamThroughput, Retry::Backoff(ms(1000)));
        let most = [1000, 2000, 4000].map(|most| Some((ms(0), ms(most))));
        assert!(pauses(throughput).eq(most.into_iter().chain([None, None])));
        let pair = verdict(Reason::UpstreamPairRate, Retry::Backoff(ms(1000)));
        let four_to_the_n = [1000, 4000, 16_000].map(|least| Some((ms(least), ms(least + least / 4))));
        assert!(pauses(pair).eq(four_to_the_n.into_iter().chain([None, None])));
        let stated = verdict(Reason::UpstreamAccountRate, Retry::Wait(ms(8000)));
        assert_eq!(pause(&stated, 2), Some(Pause { least: ms(8000), most: ms(10_000) }));
        for retry in [Retry::AfterChange, Retry::Never, Retry::Ambiguous] {
            assert_eq!(pause(&verdict(Reason::UpstreamThroughput, retry), 0), None);
        }
    }

    #[test]
    fn pauses_are_drawn_from_all_of_their_range() {
        let pause = Pause { least: Duration::from_secs(1), most: Duration::from_secs(2) };
        let drawn: Vec<_> = (0..200).map(|_| pause.drawn()).collect();
        assert!(drawn.iter().all(|drawn| (pause.least..=pause.most).contains(drawn)));
        let tenth = Duration::from_millis(100);
        assert!(drawn.iter().any(|d| *d < pause.least + tenth));
        assert!(drawn.iter().any(|d| *d + tenth > pause.most));
    }
}
