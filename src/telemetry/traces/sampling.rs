//! Which traces are exported.
//!
//! Most calls are in a trace that is not exported, and the parts of a span cost as much then as else. So a call is decided
//! on before its span is made ([`in_trace`]), and the export layer is shown no span of one that is not exported.

use std::sync::OnceLock;

use opentelemetry::trace::{Link, SpanKind, TraceContextExt, TraceId, TraceState};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, SamplingResult, ShouldSample};

use tokio::task::futures::TaskLocalFuture;

use crate::telemetry::TraceContext;

/// How the process samples; empty if it exports nothing.
static SAMPLING: OnceLock<Sampling> = OnceLock::new();

tokio::task_local! {
    /// Whether the call that is being worked for is in a trace that is exported; `None` if none is.
    static IS_EXPORTED: Option<bool>;
}

/// Makes and runs a call for `caller`, and decides whether its trace is exported.
pub fn in_trace<F: Future>(
    caller: Option<&TraceContext>,
    call: impl FnOnce() -> F,
) -> TaskLocalFuture<Option<bool>, F> {
    let decided = SAMPLING.get().map(|sampling| sampling.decide(caller));
    IS_EXPORTED.scope(decided, IS_EXPORTED.sync_scope(decided, call))
}

/// What goes on with the work of a call in a task of its own: what was decided for the call counts there too.
pub fn as_decided<F: Future>(work: F) -> TaskLocalFuture<Option<bool>, F> {
    IS_EXPORTED.scope(decided(), work)
}

/// Whether what runs here is in a call whose trace is not exported.
pub(crate) fn is_passed_over() -> bool {
    decided() == Some(false)
}

fn decided() -> Option<bool> {
    IS_EXPORTED.try_with(|decided| *decided).ok().flatten()
}

/// A trace is exported whole or not at all: as its beginning was, as the caller says, or by a share of all trace ids. One that
/// goes back to an exported send is exported too, or its link would hardly ever be seen.
#[derive(Debug, Clone)]
pub(super) struct Sampling {
    share: Sampler,
    follows_caller: bool,
}

impl Sampling {
    pub(super) fn new(ratio: f64, follows_caller: bool) -> Self {
        Self { share: Sampler::TraceIdRatioBased(ratio), follows_caller }
    }

    /// Decides on the calls of the process from now on.
    pub(super) fn decide_on_calls(&self) {
        // Telemetry starts once; of several the first counts.
        SAMPLING.get_or_init(|| self.clone());
    }

    /// As [`ShouldSample::should_sample`] does, for a call that has no span yet.
    fn decide(&self, caller: Option<&TraceContext>) -> bool {
        match caller {
            Some(caller) if self.follows_caller => caller.is_sampled(),
            Some(caller) => self.is_in_share(caller.trace()),
            None => self.is_in_share(RandomIdGenerator::default().new_trace_id()),
        }
    }

    fn is_in_share(&self, trace_id: TraceId) -> bool {
        let share = self.share.should_sample(None, trace_id, "", &SpanKind::Server, &[], &[]);
        share.decision == SamplingDecision::RecordAndSample
    }
}

impl ShouldSample for Sampling {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        _: &str,
        _: &SpanKind,
        _: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let parent = parent.filter(|parent| parent.has_active_span());
        let above = parent.map(|parent| parent.span().span_context().clone());
        let decisive = above.as_ref().filter(|above| self.follows_caller || !above.is_remote());
        let is_sampled = match decisive {
            Some(above) => above.is_sampled(),
            None if links.iter().any(|link| link.span_context.is_sampled()) => true,
            None => decided().unwrap_or_else(|| self.is_in_share(trace_id)),
        };
        SamplingResult {
            decision: if is_sampled { SamplingDecision::RecordAndSample } else { SamplingDecision::Drop },
            attributes: Vec::new(),
            trace_state: above.map_or_else(TraceState::default, |above| above.trace_state().clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanContext, SpanId, TraceFlags};
    use tokio::task::JoinSet;

    use super::*;

    const TRACE: TraceId = TraceId::from_bytes([7; 16]);

    fn span(is_sampled: bool, is_remote: bool) -> SpanContext {
        let flags = TraceFlags::default().with_sampled(is_sampled);
        SpanContext::new(TRACE, SpanId::from_bytes([7; 8]), flags, is_remote, TraceState::default())
    }

    fn is_sampled(sampling: &Sampling, parent: Option<SpanContext>, links: &[Link]) -> bool {
        let parent = parent.map(|parent| Context::new().with_remote_span_context(parent));
        let result = sampling.should_sample(parent.as_ref(), TRACE, "n", &SpanKind::Server, &[], links);
        result.decision == SamplingDecision::RecordAndSample
    }

    #[test]
    fn a_caller_decides_unless_the_configuration_does() {
        for (ratio, follows_caller, parent, expected) in [
            (0.0, true, None, false),
            (1.0, true, None, true),
            (0.0, true, Some(span(true, true)), true),
            (1.0, true, Some(span(false, true)), false),
            (0.0, false, Some(span(true, true)), false),
            (1.0, false, Some(span(false, true)), true),
            // What has begun goes on.
            (0.0, false, Some(span(true, false)), true),
            (1.0, false, Some(span(false, false)), false),
        ] {
            let sampling = Sampling::new(ratio, follows_caller);
            assert_eq!(is_sampled(&sampling, parent.clone(), &[]), expected, "{sampling:?} {parent:?}");
        }
    }

    #[test]
    fn a_call_is_decided_on_as_its_span_would_be() {
        let caller = |trace_id: u8, flags: u8| {
            TraceContext::parse(&format!("00-{trace_id:032x}-00f067aa0ba902b7-{flags:02x}")).unwrap()
        };
        for follows_caller in [true, false] {
            for ratio in [0.0, 0.5, 1.0] {
                let sampling = Sampling::new(ratio, follows_caller);
                for (trace_id, flags) in [(1, 0), (1, 1), (255, 0), (255, 1)] {
                    let caller = caller(trace_id, flags);
                    let parent = Context::new().with_remote_span_context(caller.span_context());
                    let result = sampling.should_sample(
                        Some(&parent),
                        caller.trace(),
                        "n",
                        &SpanKind::Server,
                        &[],
                        &[],
                    );
                    let expected = result.decision == SamplingDecision::RecordAndSample;
                    assert_eq!(sampling.decide(Some(&caller)), expected, "{sampling:?} {caller:?}");
                }
            }
        }
        assert!(Sampling::new(1.0, true).decide(None));
        assert!(!Sampling::new(0.0, true).decide(None));
    }

    #[tokio::test]
    async fn what_was_decided_goes_with_the_work() {
        let never = Sampling::new(0.0, true);
        for (decided, expected) in
            [(Some(true), (true, false)), (Some(false), (false, true)), (None, (false, false))]
        {
            let call = IS_EXPORTED.scope(decided, async {
                let mut tasks = JoinSet::from_iter([as_decided(async { is_passed_over() })]);
                (is_sampled(&never, None, &[]), tasks.join_next().await.unwrap().unwrap())
            });
            assert_eq!(call.await, expected, "{decided:?}");
        }
        assert!(!is_passed_over(), "outside of calls everything is shown");
    }

    #[test]
    fn what_goes_back_to_an_exported_send_is_exported() {
        let links = |is_sampled| vec![Link::new(span(is_sampled, true), Vec::new(), 0)];
        let never = Sampling::new(0.0, true);
        assert!(is_sampled(&never, None, &links(true)));
        assert!(!is_sampled(&never, None, &links(false)));
        assert!(!is_sampled(&never, Some(span(false, false)), &links(true)), "its trace is not there");
    }
}
