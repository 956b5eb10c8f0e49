//! Which traces are exported.

use opentelemetry::trace::{Link, SpanKind, TraceContextExt, TraceId, TraceState};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, SamplingResult, ShouldSample};

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
}

impl ShouldSample for Sampling {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let parent = parent.filter(|parent| parent.has_active_span());
        let above = parent.map(|parent| parent.span().span_context().clone());
        let decisive = above.as_ref().filter(|above| self.follows_caller || !above.is_remote());
        let is_sampled = match decisive {
            Some(above) => above.is_sampled(),
            None if links.iter().any(|link| link.span_context.is_sampled()) => true,
            None => {
                let share = self.share.should_sample(None, trace_id, name, kind, attributes, links);
                share.decision == SamplingDecision::RecordAndSample
            }
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
    fn what_goes_back_to_an_exported_send_is_exported() {
        let links = |is_sampled| vec![Link::new(span(is_sampled, true), Vec::new(), 0)];
        let never = Sampling::new(0.0, true);
        assert!(is_sampled(&never, None, &links(true)));
        assert!(!is_sampled(&never, None, &links(false)));
        assert!(!is_sampled(&never, Some(span(false, false)), &links(true)), "its trace is not there");
    }
}
