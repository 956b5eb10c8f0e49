//! Looks at the streams again and again: whether they are there, unaltered, with room, and where they end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::streams::{self, Info, Kind, StreamState};
use super::wire::Fault;
use super::{Config, Context};
use crate::storage::event_log::{Acceptance, Bounds, Refusal};
use crate::storage::metrics;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(2);
/// Between two looks while appends are refused.
const INTERVAL_REFUSING: Duration = Duration::from_millis(250);
/// How long a stream must be wrong until that is believed: a server that just started may not know all of its streams.
const DOUBT: Duration = Duration::from_secs(10);
/// Room that must be free until a full stream takes appends again: this part of the limit.
const ROOM_PART: u64 = 64;

/// The look-out.
#[derive(Debug)]
pub(super) struct Watchdog {
    pub(super) context: Arc<Context>,
    pub(super) config: Config,
}

impl Watchdog {
    /// Looks until told to stop. An error is the end.
    pub(super) async fn run(self) -> Result<(), String> {
        let mut wrong_since: Option<Instant> = None;
        loop {
            let interval = match self.context.shared.acceptance() {
                Acceptance::Accepting => INTERVAL,
                Acceptance::Refusing(_) => INTERVAL_REFUSING,
            };
            tokio::select! {
                () = self.context.stop.cancelled() => return Ok(()),
                () = sleep(interval) => {}
            }
            // Before it is asked: what is appended meanwhile may be missing in the answer.
            let before = self.context.shared.bounds();
            match self.look().await {
                Ok((events, state)) => match self.judge(before, events.as_ref(), state.as_ref()) {
                    Ok(()) => wrong_since = None,
                    Err(reason) if wrong_since.is_some_and(|since| since.elapsed() > DOUBT) => {
                        return Err(reason);
                    }
                    Err(reason) => {
                        wrong_since.get_or_insert_with(Instant::now);
                        self.context.away(&reason);
                    }
                },
                Err(fault) => self.context.away(&fault.to_string()),
            }
        }
    }

    async fn look(&self) -> Result<(Option<Info>, Option<Info>), Fault> {
        let (wire, names) = (&self.context.wire, &self.context.names);
        Ok((streams::info(wire, &names.events).await?, streams::info(wire, &names.state).await?))
    }

    fn judge(&self, before: Bounds, events: Option<&Info>, state: Option<&Info>) -> Result<(), String> {
        let Context { names, shared, .. } = &*self.context;
        for (kind, info) in [(Kind::Events, events), (Kind::State, state)] {
            streams::check_running(names, kind, &self.config, info, shared.epoch())?;
        }
        let Some(StreamState { first_seq, last_seq, bytes, .. }) = events.map(|info| info.state) else {
            return Ok(());
        };
        if last_seq < before.tail {
            return Err(format!(
                "the stream {} ends at {last_seq} and had ended at {}: acknowledged events are gone; restore it from a backup",
                names.events, before.tail
            ));
        }
        if first_seq > shared.bounds().earliest {
            // Whoever leads has trimmed before it removed, and knows that first.
            if self.context.leads() {
                tracing::error!(first_seq, "somebody has removed events from the stream");
            }
            shared.trimmed_through(first_seq - 1);
        }
        self.context.held_from.fetch_max(first_seq, Ordering::AcqRel);
        self.context.tail.want(last_seq);
        let limit = self.config.size_max;
        metrics::room(bytes, limit.saturating_sub(bytes), bytes.saturating_mul(100) / limit.max(1));
        shared.measure();
        match shared.acceptance() {
            Acceptance::Refusing(Refusal::SizeLimit) if bytes > limit - limit / ROOM_PART => {}
            Acceptance::Refusing(Refusal::SizeLimit | Refusal::DiskLow | Refusal::Away) => {
                self.context.announce(Acceptance::Accepting);
            }
            Acceptance::Refusing(Refusal::Closed | Refusal::Failed) | Acceptance::Accepting => {}
        }
        Ok(())
    }
}
