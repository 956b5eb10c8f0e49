//! The task that reads numbers, looks whether parked ones can send again, and keeps the metrics.

use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use secrecy::ExposeSecret;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::told::words_of;
use super::{Inner, NumberWatch, spread};
use crate::cloud_api::Error;
use crate::domain::failure::Class;
use crate::domain::ids::PhoneNumberId;
use crate::domain::number_health::{Cause, Complaint, NumberStatus, Proof, Source};
use crate::storage::event_log::AppendError;
use crate::storage::events;
use crate::telemetry::names;
use crate::tenants::TokenHash;

/// Between two looks at what is due.
const TICK: Duration = Duration::from_secs(1);
/// Between two reads of a number: 25 numbers, as many as an account may have, use an eighth of the 200 calls per hour that
/// the smallest account has (reference 6.1).
pub(super) const READ_INTERVAL: Duration = Duration::from_hours(1);
/// After a read that failed.
const READ_RETRY: Duration = Duration::from_mins(5);
/// Reads at the same time.
const READS_MAX: usize = 4;

impl NumberWatch {
    /// Watches until the process stops.
    pub async fn run(self) {
        loop {
            self.inner.round();
            self.inner.read_tokens();
            self.inner.tell().await;
            tokio::select! {
                () = sleep(TICK) => {}
                () = self.inner.sooner.notified() => {}
            }
        }
    }
}

/// Shows what Meta says of a number and nothing here depends on.
fn show(number: &PhoneNumberId, status: &NumberStatus) {
    let label = number.to_string();
    if let Some(quality) = &status.quality {
        let is_it = |known: &&str| known.eq_ignore_ascii_case(quality);
        let word = names::QUALITIES.iter().copied().find(is_it).unwrap_or("unknown");
        for known in names::QUALITIES.iter().copied() {
            gauge!(names::NUMBER_QUALITY, names::PHONE_NUMBER => label.clone(), names::QUALITY => known)
                .set(f64::from(u8::from(known == word)));
        }
    }
    if let Some(users) = status.users_per_day() {
        gauge!(names::MESSAGING_LIMIT, names::PHONE_NUMBER => label).set(users);
    }
}

impl Inner {
    /// Does what is due.
    fn round(self: &Arc<Self>) {
        let now = self.now();
        for number in self.numbers.of_wabas(|_| true) {
            let token = self.numbers.token_hash(&number);
            let mut state = self.state();
            let watched = state.watched(&number, self.first_pause);
            let has_new_token = watched.token.is_some() && watched.token != token;
            let change = watched.health.end_if(|parked| {
                let complaint = &parked.complaint;
                complaint.until.is_some_and(|until| until <= now)
                    || has_new_token && complaint.cause.is_of_token()
            });
            self.apply(&mut state, &number, change);
            let can_read = state.reads < READS_MAX;
            let watched = state.watched(&number, self.first_pause);
            let cause = watched.health.parked().map(|parked| parked.complaint.cause);
            if cause.is_some_and(|cause| cause.proof() == Proof::Message)
                && watched.health.look(now).is_some()
            {
                watched.health.try_one();
                self.lanes.let_one_pass(&number);
            } else if can_read && !watched.is_being_read {
                let looks = watched.health.look(now).is_some();
                if looks || watched.read_at <= now {
                    watched.is_being_read = true;
                    state.reads += 1;
                    self.shutdown
                        .spawn_background("read number", Arc::clone(self).read(number.clone(), looks));
                }
            }
            drop(state);
            self.measure(&number);
        }
    }

    fn measure(&self, number: &PhoneNumberId) {
        let (rate, is_suspended) = self.lanes.pace(number);
        let label = number.to_string();
        gauge!(names::NUMBER_RATE, names::PHONE_NUMBER => label.clone()).set(f64::from(rate));
        gauge!(names::NUMBER_SUSPENDED, names::PHONE_NUMBER => label).set(f64::from(u8::from(is_suspended)));
    }

    /// Reads the number, to know its pace, or whether what made it unable is over.
    async fn read(self: Arc<Self>, number: PhoneNumberId, looks: bool) {
        if let Ok(access_token) = self.numbers.access_token(&number) {
            let answer = self.client.read_number(&access_token, &number).await;
            let is_same_token =
                self.numbers.token_hash(&number) == Some(TokenHash::of(access_token.expose_secret()));
            match answer {
                Ok(status) => self.learn(&number, &status),
                Err(error) => self.not_learnt(&number, &error, is_same_token),
            }
        }
        let mut state = self.state();
        state.reads -= 1;
        let watched = state.watched(&number, self.first_pause);
        watched.is_being_read = false;
        let still = watched.health.parked().map(|parked| parked.complaint.cause);
        let needs_message = |cause: Cause| cause.proof() != Proof::Reading;
        if looks && still.is_some_and(needs_message) {
            watched.health.try_one();
            self.lanes.let_one_pass(&number);
        }
        self.sooner.notify_one();
    }

    fn learn(&self, number: &PhoneNumberId, status: &NumberStatus) {
        let mut state = self.state();
        let watched = state.watched(number, self.first_pause);
        watched.digits.clone_from(&status.digits);
        watched.read_at = self.now().saturating_add(spread(number, READ_INTERVAL));
        drop(state);
        if let Some(rate) = status.rate() {
            self.lanes.set_rate(number, rate);
        }
        show(number, status);
        self.take_back(number, |cause| cause.is_over(status));
    }

    fn not_learnt(&self, number: &PhoneNumberId, error: &Error, is_same_token: bool) {
        debug!(phone_number.id = %number, %error, "a number could not be read");
        let read_at = self.now().saturating_add(spread(number, READ_RETRY));
        self.state().watched(number, self.first_pause).read_at = read_at;
        let Some(code) = error.meta().and_then(|meta| meta.code).filter(|_| is_same_token) else { return };
        let verdict = error.verdict();
        if Cause::of_code(code) == Some(Cause::Token) {
            let cause = Cause::Token;
            let complaint =
                Complaint { cause, code: Some(code), words: words_of(code), verdict, until: None };
            self.complain(number, Source::Word, &complaint);
        } else if verdict.class != Class::Unavailable {
            // Meta knows the token, or it would have said so first.
            self.take_back(number, |cause| cause == Cause::Token);
        }
    }

    /// The number can send again if this was the matter; with the token, all that use it.
    fn take_back(&self, number: &PhoneNumberId, is_over: impl Fn(Cause) -> bool) {
        self.clear(number, |health| health.resume_if(&is_over));
        if is_over(Cause::Token) {
            for other in self.others_with(number) {
                self.clear(&other, |health| health.resume_if(|cause| cause == Cause::Token));
            }
        }
    }

    /// Stores the events that are not stored yet.
    async fn tell(&self) {
        let untold = std::mem::take(&mut self.state().untold);
        let mut untold = untold.into_iter();
        while let Some(event) = untold.next() {
            match self.log.append(vec![events::item(&event, "")]).await {
                Ok(_) => {}
                Err(error @ (AppendError::Refused(_) | AppendError::Busy)) => {
                    warn!(%error, "what became of a business number is not stored yet");
                    let later = std::iter::once(event).chain(untold);
                    let mut state = self.state();
                    let newer = std::mem::take(&mut state.untold);
                    state.untold = later.chain(newer).collect();
                    return;
                }
                Err(error @ (AppendError::Failed | AppendError::TooLarge { .. })) => {
                    return warn!(%error, "what became of a business number is not stored");
                }
            }
        }
    }
}
