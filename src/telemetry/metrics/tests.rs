use std::collections::BTreeSet;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::info_span;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;

use super::*;
use crate::clock::SystemClock;
use crate::telemetry::exemplified;
use crate::telemetry::names::LABELS;

fn recorder() -> (Exemplifying, PrometheusHandle) {
    let recorder = builder().unwrap().build_recorder();
    let handle = recorder.handle();
    (Exemplifying::new(recorder, Arc::new(SystemClock)), handle)
}

#[test]
fn histograms_have_their_buckets() {
    let (recorder, handle) = recorder();
    metrics::with_local_recorder(&recorder, || {
        describe();
        histogram!(names::LOG_COMMIT_DURATION).record(0.000_1);
        histogram!(names::RPC_SERVER_CALL_DURATION, names::RPC_METHOD => "x").record(0.3);
    });
    recorder.gathered().hand_over();
    let text = handle.render();
    assert!(text.contains("log_commit_seconds_bucket{le=\"0.00025\"} 1"), "{text}");
    assert!(
        text.contains("rpc_server_call_duration_seconds_bucket{rpc_method=\"x\",le=\"0.5\"} 1"),
        "{text}"
    );
    assert!(text.contains("# HELP rpc_server_call_duration_seconds Calls to"), "{text}");
}

#[test]
fn names_say_kind_and_unit() {
    let all: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(all.len(), METRICS.len(), "one is there twice");
    for metric in METRICS {
        assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
        assert!(metric.name.starts_with("whatsapp_gateway_") || metric.help.len() > 10, "{}", metric.name);
        for label in metric.labels {
            assert!(LABELS.iter().any(|(name, _)| *name == label.name), "{} has no meaning", label.name);
        }
    }
    let of_histograms = HISTOGRAMS.iter().all(|(name, _)| all.contains(name));
    assert!(of_histograms, "buckets for nothing");
}

#[test]
fn counters_are_there_before_anything_happens() {
    let (recorder, handle) = recorder();
    metrics::with_local_recorder(&recorder, begin);
    let text = handle.render();
    for line in [
        r#"whatsapp_gateway_config_reload_total{part="tls",outcome="rejected"} 0"#,
        r#"whatsapp_gateway_meta_errors_total{class="UPSTREAM_CREDENTIALS"} 0"#,
        r#"whatsapp_gateway_sends_total{type="text",outcome="unknown"} 0"#,
        "whatsapp_gateway_panics_total 0",
        "whatsapp_gateway_webhook_lag_seconds_count 0",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}

/// Records inside a span that is sampled, or not, and returns both formats.
fn scraped(sampler: Sampler) -> (String, String) {
    let (recorder, handle) = recorder();
    let exemplars = recorder.exemplars();
    let provider = SdkTracerProvider::builder().with_sampler(sampler).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    metrics::with_local_recorder(&recorder, || {
        describe();
        counter!(names::PANICS).increment(2);
        tracing::subscriber::with_default(Registry::default().with(layer), || {
            let span = info_span!("call");
            for value in [0.3, 1.0, 70.0] {
                exemplified(&span, || {
                    histogram!(names::RPC_SERVER_CALL_DURATION, names::RPC_METHOD => "a/B", names::RPC_STATUS => "OK")
                        .record(value);
                });
            }
            histogram!(names::EVENT_AGE).record(0.3);
        });
    });
    recorder.gathered().hand_over();
    let text = handle.render();
    let open = open_metrics(&text, &exemplars);
    (text, open)
}

#[test]
fn open_metrics_names_the_trace_behind_a_bucket() {
    let (text, open) = scraped(Sampler::AlwaysOn);
    assert!(!text.contains("trace_id"), "{text}");
    let bucket = |bound: &str| {
        let sample = format!(
            "rpc_server_call_duration_seconds_bucket{{rpc_method=\"a/B\",rpc_response_status_code=\"OK\",le=\"{bound}\"}} "
        );
        let line = open.lines().find_map(|line| line.strip_prefix(&sample));
        line.unwrap_or_else(|| panic!("{sample} is missing in\n{open}")).to_owned()
    };
    let mut traces = BTreeSet::new();
    for (bound, count, value) in [("0.5", "1", "0.3"), ("1.0", "2", "1"), ("+Inf", "3", "70")] {
        let line = bucket(bound);
        let (counted, exemplar) = line.split_once(" # {trace_id=\"").unwrap_or_else(|| panic!("{line}"));
        let (trace, at) = exemplar.split_once("\"} ").unwrap();
        let (of_exemplar, time) = at.split_once(' ').unwrap();
        assert_eq!((counted, of_exemplar, trace.len()), (count, value, 32), "{line}");
        assert!(time.parse::<f64>().unwrap() > 1.7e9, "{line}");
        traces.insert(trace.to_owned());
    }
    assert_eq!(traces.len(), 1, "one span has one trace");
    assert_eq!(bucket("0.1"), "0", "no exemplar where nothing was recorded");
    assert_eq!(open.matches("trace_id").count(), 3, "{open}");
    for line in ["# TYPE whatsapp_gateway_panics counter", "whatsapp_gateway_panics_total 2"] {
        assert!(open.lines().any(|other| other == line), "{line} is missing in\n{open}");
    }
    assert!(open.ends_with("\n# EOF\n") && !open.contains("\n\n"), "{open}");
}

#[test]
fn what_is_not_sampled_is_no_exemplar() {
    let (_, open) = scraped(Sampler::AlwaysOff);
    assert!(open.contains("le=\"0.5\"} 1\n") && !open.contains("trace_id"), "{open}");
}
