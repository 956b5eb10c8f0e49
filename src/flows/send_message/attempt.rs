//! Attempts: each one call to Meta in its turn, and another one only where nothing can have gone out.

use std::time::Duration;

use futures_util::FutureExt;
use metrics::histogram;
use secrecy::SecretString;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};
use uuid::Uuid;

use crate::cloud_api::{self, Client, Departure};
use crate::domain::failure::{Reason, Retry, Verdict};
use crate::domain::message::PreparedMessage;
use crate::domain::schedule::Feedback;
use crate::flows::failed_call::failure;
use crate::flows::lanes::{Lanes, Turn, Wish};
use crate::flows::number_watch::NumberWatch;
use crate::flows::unsettled::PROOF;
use crate::storage::sends::Outcome;
use crate::telemetry::names;

use super::no_turn::{draining, not_leading, refused};

/// Retries of one send for which a caller waits. Whoever wants more asks again: it is told when.
const RETRIES_MAX: u32 = 3;
/// Pauses do not grow after so many retries: 4^5 s for a pair of numbers, as its lane does, and 2^6 otherwise.
const PAIR_GROWTH_MAX: u32 = 5;
const GROWTH_MAX: u32 = 6;

/// Sends a message when it has its turn, and again as long as it certainly did not go out, waiting may help, and there is
/// time until the deadline. A drain ends the waiting. What it spent in the gateway itself since it began is measured.
pub(in crate::flows) async fn deliver(
    to: (&Client, &SecretString),
    number_watch: &NumberWatch,
    message: &PreparedMessage,
    (lanes, wish): (&Lanes, Wish),
    drain: &CancellationToken,
    began: Instant,
) -> Outcome {
    let deadline = wish.deadline;
    let mut elsewhere = Duration::ZERO;
    let turn = async {
        tokio::select! {
            biased;
            turn = lanes.turn(wish) => {
                turn.map_err(|refusal| refused(&refusal, || number_watch.refusal(&message.phone_number_id)))
            }
            () = drain.cancelled() => Err(draining()),
        }
    };
    let turn = match timed(&mut elsewhere, turn).await {
        Ok(turn) => turn,
        Err(failure) => return Outcome::Refused(failure),
    };
    debug!(late_ms = u64::try_from(turn.age().as_millis()).unwrap_or(u64::MAX), "it has its turn");
    let outcome = attempts(to, number_watch, message, turn, deadline, drain, &mut elsewhere).await;
    histogram!(names::SEND_OVERHEAD).record(began.elapsed().saturating_sub(elsewhere));
    outcome
}

/// The attempts of a message that has its turn.
async fn attempts(
    (client, access_token): (&Client, &SecretString),
    number_watch: &NumberWatch,
    message: &PreparedMessage,
    mut turn: Turn,
    deadline: Option<Instant>,
    drain: &CancellationToken,
    elsewhere: &mut Duration,
) -> Outcome {
    let mut retries = 0;
    loop {
        let outcome = timed(elsewhere, attempt((client, access_token), number_watch, message, &turn)).await;
        let again = match &outcome {
            // Who leads now answers at once; this process may never lead again.
            Outcome::Refused(failure) if failure.verdict.reason == Reason::NoLeader => None,
            Outcome::Refused(failure) if retries < RETRIES_MAX => pause(&failure.verdict, retries),
            Outcome::Queued
            | Outcome::Sending
            | Outcome::Accepted(_)
            | Outcome::Refused(_)
            | Outcome::Expired(_)
            | Outcome::Unknown(_)
            | Outcome::Answered(_) => None,
        };
        let in_time = |pause: &Pause| deadline.is_none_or(|deadline| Instant::now() + pause.most <= deadline);
        let Some(pause) = again.filter(in_time) else {
            turn.done(feedback(&outcome));
            return outcome;
        };
        let pause = pause.drawn();
        info!(?pause, "nothing went out; trying again");
        let next = turn.again(feedback(&outcome), pause);
        turn = match timed(elsewhere, drain.run_until_cancelled(next)).await {
            Some(Ok(turn)) => turn,
            // What Meta said tells more than that there is no time left.
            Some(Err(_)) | None => return outcome,
        };
        retries += 1;
    }
}

/// Adds the time that this takes.
fn timed<T>(total: &mut Duration, work: impl Future<Output = T>) -> impl Future<Output = T> {
    let began = Instant::now();
    // No `async fn`, which would hold the work twice.
    work.inspect(move |_| *total += began.elapsed())
}

/// What the lane learns from the end of an attempt.
pub(in crate::flows) fn feedback(outcome: &Outcome) -> Feedback {
    match outcome {
        Outcome::Accepted(_) => Feedback::Accepted,
        Outcome::Refused(failure) => match (failure.verdict.reason, failure.verdict.retry) {
            (Reason::UpstreamThroughput, Retry::Wait(pause)) => {
                Feedback::Throttled { retry_after: Some(pause) }
            }
            (Reason::UpstreamThroughput, _) => Feedback::Throttled { retry_after: None },
            (Reason::UpstreamPairRate, Retry::Wait(pause)) => {
                Feedback::PairLimited { retry_after: Some(pause) }
            }
            (Reason::UpstreamPairRate, _) => Feedback::PairLimited { retry_after: None },
            (Reason::UpstreamUnreachable | Reason::NoLeader, _) => Feedback::NotSent,
            _ => Feedback::Other,
        },
        Outcome::Queued
        | Outcome::Sending
        | Outcome::Expired(_)
        | Outcome::Unknown(_)
        | Outcome::Answered(_) => Feedback::Other,
    }
}

/// Sends a message once in its turn, and lets those who watch its number hear what came of it. All that goes out goes through
/// here: no faster than the number may, whatever was waited for since the turn was given, and a process that may not lead any
/// more sends nothing, whatever it had begun.
pub(in crate::flows) async fn attempt(
    (client, access_token): (&Client, &SecretString),
    number_watch: &NumberWatch,
    message: &PreparedMessage,
    turn: &Turn,
) -> Outcome {
    if !number_watch.may_send() {
        return Outcome::Refused(not_leading());
    }
    let outcome = outcome_of(client, access_token, message, turn.departure()).await;
    number_watch.heard(&message.phone_number_id, access_token, &outcome);
    outcome
}

async fn outcome_of(
    client: &Client,
    access_token: &SecretString,
    message: &PreparedMessage,
    departure: Departure,
) -> Outcome {
    let cause = match client.send_message(access_token, message, departure).await {
        Ok(receipt) => return Outcome::Accepted(receipt),
        Err(cause) => cause,
    };
    let failure = failure(&cause, PROOF);
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
pub(in crate::flows) struct Pause {
    least: Duration,
    pub(in crate::flows) most: Duration,
}

impl Pause {
    pub(in crate::flows) fn drawn(self) -> Duration {
        let [.., high, low] = Uuid::now_v7().into_bytes();
        let share = f64::from(u16::from_be_bytes([high, low])) / f64::from(u16::MAX);
        self.least + self.most.saturating_sub(self.least).mul_f64(share)
    }
}

/// How long to wait after so many retries; nothing where another try makes no sense.
pub(in crate::flows) fn pause(verdict: &Verdict, retries: u32) -> Option<Pause> {
    match verdict.retry {
        // 4^X seconds for a pair of numbers (reference 5.1), not less.
        Retry::Backoff(first) if verdict.reason == Reason::UpstreamPairRate => {
            Some(at_least(first * 4_u32.pow(retries.min(PAIR_GROWTH_MAX))))
        }
        // Full jitter.
        Retry::Backoff(first) => {
            Some(Pause { least: Duration::ZERO, most: first * 2_u32.pow(retries.min(GROWTH_MAX)) })
        }
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
    use std::sync::Arc;
    use std::time::SystemTime;

    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;
    use crate::clock::{ManualClock, SharedClock};
    use crate::domain::failure::{Actor, Class};
    use crate::domain::ids::PhoneNumberId;
    use crate::domain::message::{Endpoint, PhoneNumber, Recipient};
    use crate::flows::lanes::Pace;
    use crate::flows::numbers::Numbers;
    use crate::lifecycle::Shutdown;
    use crate::storage::leadership::{Leadership, PeerKey};
    use crate::storage::memory::Memory;
    use crate::tenants::{Snapshot, Tenants};

    fn verdict(reason: Reason, retry: Retry) -> Verdict {
        Verdict { class: Class::ResourceExhausted, reason, actor: Actor::Caller, retry }
    }

    #[test]
    fn pauses_grow_up_to_an_end() {
        let ms = Duration::from_millis;
        let pauses = |verdict| (0..8).map(move |n| pause(&verdict, n).map(|p| (p.least, p.most)));
        let throughput = verdict(Reason::UpstreamThroughput, Retry::Backoff(ms(1000)));
        let most = [1, 2, 4, 8, 16, 32, 64, 64].map(|most| Some((ms(0), ms(1000 * most))));
        assert!(pauses(throughput).eq(most));
        let pair = verdict(Reason::UpstreamPairRate, Retry::Backoff(ms(1000)));
        let four_to_the_n = [1, 4, 16, 64, 256, 1024, 1024, 1024].map(|s| ms(1000 * s));
        assert!(pauses(pair).eq(four_to_the_n.map(|least| Some((least, least + least / 4)))));
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

    #[tokio::test]
    async fn nothing_goes_out_while_somebody_else_may_lead() {
        let meta = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let graph_url = format!("http://{}", meta.local_addr().unwrap());
        let config = cloud_api::Config { graph_url, ..cloud_api::Config::default() };
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH) as SharedClock;
        let client = Client::new(&config, Arc::clone(&clock)).unwrap();
        let (leadership, appointment) = Leadership::pair(PeerKey::fresh());
        let (shutdown, log) = (Shutdown::new(), Memory::new(Arc::clone(&clock)));
        let numbers = Numbers::new(Tenants::new(Snapshot::new(Vec::new(), Vec::new(), Vec::new())));
        let lanes = Lanes::new(Pace { fixed_rate: None, by_recipient: true }, shutdown.clone());
        let steered = (lanes.clone(), leadership);
        let number_watch =
            NumberWatch::new(client.clone(), numbers, steered, log, Duration::from_hours(1), clock, shutdown);
        let message = PreparedMessage {
            phone_number_id: PhoneNumberId::parse("1").unwrap(),
            recipient: Recipient::PhoneNumber(PhoneNumber::parse("+16505551234").unwrap()),
            endpoint: Endpoint::Messages,
            json: "{}".to_owned(),
        };
        let (token, drain) = (SecretString::from("token"), CancellationToken::new());
        let send = || {
            let wish = Wish::of(
                &message,
                crate::domain::caller::Caller::gateway(),
                crate::domain::schedule::Class::Normal,
                Some(Instant::now() + Duration::from_mins(1)),
            );
            deliver((&client, &token), &number_watch, &message, (&lanes, wish), &drain, Instant::now())
        };
        appointment.lead(1, Instant::now() + Duration::from_hours(1));
        appointment.resign();
        // It has its turn, and is answered at once: waiting here would help nobody.
        let Outcome::Refused(failure) = timeout(Duration::from_secs(30), send()).await.unwrap() else {
            panic!("certainly nothing was done");
        };
        assert_eq!((failure.verdict.class, failure.verdict.reason), (Class::Unavailable, Reason::NoLeader));
        assert!(failure.verdict.retry.delay().is_some());
        assert_eq!(feedback(&Outcome::Refused(failure)), Feedback::NotSent);
        appointment.renew(Instant::now() + Duration::from_hours(1));
        tokio::select! {
            // The first connection of all: the send before made none.
            accepted = meta.accept() => drop(accepted.unwrap()),
            outcome = send() => panic!("nobody has answered: {outcome:?}"),
            () = tokio::time::sleep(Duration::from_secs(30)) => panic!("nothing goes out"),
        }
    }
}
