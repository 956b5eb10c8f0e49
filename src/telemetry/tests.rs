use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::BodyExt;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::time::Instant;
use tracing::{debug, info, info_span};
use tracing_subscriber::fmt::MakeWriter;

use super::log_level::log_filter;
use super::*;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

fn logged(format: LogFormat, level: &str, log: impl FnOnce()) -> String {
    let lines = Lines::default();
    let layer = log_layer(format, lines.clone()).with_filter(log_filter(level).unwrap());
    tracing::subscriber::with_default(Registry::default().with(layer), log);
    lines.text()
}

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test]
fn a_json_line_carries_the_trace() {
    let caller = TraceContext::parse(PARENT).unwrap();
    let text = logged(LogFormat::Json, "info", || {
        let span = info_span!("rpc", trace_id = tracing::field::Empty);
        begin_trace(&span, Some(&caller));
        span.in_scope(|| info_span!("inner").in_scope(|| info!(number = 7, "done")));
    });
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((line["message"].as_str(), line["number"].as_u64()), (Some("done"), Some(7)));
    assert_eq!(line["spans"][0]["trace_id"], caller.trace_id());
}

#[test]
fn the_message_of_a_panic_is_shown_only_if_it_is_fixed() {
    let payload = |panic: fn()| std::panic::catch_unwind(panic).unwrap_err();
    assert_eq!(fixed_message(&*payload(|| panic!("a defect"))), Some("a defect"));
    let text = std::hint::black_box("canary");
    for unfixed in [payload(|| panic!("{}", std::hint::black_box("canary"))), Box::new(text.to_owned())] {
        assert_eq!(fixed_message(&*unfixed), None);
    }
}

#[test]
fn a_json_line_is_json_whatever_its_fields_hold() {
    let text = logged(LogFormat::Json, "info", || {
        let span =
            info_span!("outer \"name\"", kind = "a\\b\"c\"", late = tracing::field::Empty, none = f64::NAN);
        span.record("late", "tab\tend\u{1}");
        let _inner = info_span!(parent: &span, "inner").entered();
        info!(half = 0.5, truth = true, small = -3, debug = ?Some("x\ny"), "it is {}", "done \\");
        info!(parent: None, other = 1);
    });
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let fields = |line: &serde_json::Value, name: &str| line[name].clone();
    let [first, second] = &lines[..] else { panic!("{text}") };
    assert!(
        fields(first, "timestamp").as_str().is_some_and(|t| t.starts_with("20") && t.ends_with('Z')),
        "{text}"
    );
    assert_eq!((fields(first, "level"), fields(first, "message")), ("INFO".into(), "it is done \\".into()));
    assert_eq!(
        (fields(first, "half"), fields(first, "truth"), fields(first, "small")),
        (0.5.into(), true.into(), (-3).into())
    );
    assert_eq!(fields(first, "debug"), "Some(\"x\\ny\")");
    let outer = serde_json::json!({
        "name": "outer \"name\"", "kind": "a\\b\"c\"", "late": "tab\tend\u{1}", "none": null,
    });
    assert_eq!(first["spans"], serde_json::json!([outer, {"name": "inner"}]));
    assert!(first["target"].as_str().is_some_and(|target| target.ends_with("telemetry::tests")));
    assert_eq!((fields(second, "other"), second.get("spans")), (1.into(), None));
}

#[test]
fn the_log_level_holds_and_libraries_stay_quiet() {
    let log = || {
        debug!("ours");
        debug!(target: "h2::codec", "theirs");
    };
    assert_eq!(logged(LogFormat::Text, "info", log), "");
    let text = logged(LogFormat::Text, "debug", log);
    assert!(text.contains("ours") && !text.contains("theirs"), "{text}");
    let text = logged(LogFormat::Text, "info,h2=debug", log);
    assert!(!text.contains("ours") && text.contains("theirs"), "{text}");
    assert!(check_log_level("info,whatsapp_gateway::web=debug").is_ok());
    for wrong in ["loud", "a=loud", "", "info,,", "info, whatsapp_gateway::web"] {
        let error = check_log_level(wrong).unwrap_err();
        assert!(error.contains("give a level (off, error"), "{wrong}: {error}");
    }
}

#[test]
fn the_log_level_changes_while_it_is_used() {
    let lines = Lines::default();
    let (level, filter) = LogLevel::new("info").unwrap();
    let layer = log_layer(LogFormat::Text, lines.clone()).with_filter(filter);
    tracing::subscriber::with_default(Registry::default().with(layer), || {
        debug!("first");
        level.set("debug").unwrap();
        debug!("second");
        assert!(level.set("loud").is_err());
        assert_eq!(level.text(), "debug");
        level.set("off").unwrap();
        info!("third");
    });
    let text = lines.text();
    assert!(!text.contains("first") && text.contains("second") && !text.contains("third"), "{text}");
    assert!(text.contains("from=\"info\" to=\"debug\"") && text.contains("to=\"off\""), "{text}");
}

#[test]
fn spans_join_the_trace_of_the_caller() {
    let provider = SdkTracerProvider::builder().build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    tracing::subscriber::with_default(Registry::default().with(layer), || {
        let caller = TraceContext::parse(PARENT).unwrap();
        let span = info_span!("rpc", trace_id = tracing::field::Empty);
        begin_trace(&span, Some(&caller));
        let ours = span.in_scope(|| current_traceparent(Some(&caller))).unwrap();
        assert!(ours.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"), "{ours}");
        assert_ne!(ours, PARENT, "our span, not the caller's");
        let alone = info_span!("rpc", trace_id = tracing::field::Empty);
        begin_trace(&alone, None);
        assert!(alone.in_scope(|| current_traceparent(None)).is_some());
    });
}

fn provider_to(endpoint: String) -> SdkTracerProvider {
    let traces = Traces {
        endpoint: Some(endpoint),
        protocol: Protocol::Grpc,
        headers_file: None,
        ca_file: None,
        sampling_ratio: 1.0,
        follows_caller: true,
    };
    traces::provider(&traces).unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_reach_the_collector() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (sender, mut exported) = tokio::sync::mpsc::channel(1);
    let collector = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let sender = sender.clone();
        async move {
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            sender.send((path, body)).await.unwrap();
            let answer = http::Response::builder()
                .header("content-type", "application/grpc")
                .header("grpc-status", "0")
                .body(http_body_util::Empty::<bytes::Bytes>::new());
            Ok::<_, std::convert::Infallible>(answer.unwrap())
        }
    });
    let serving = async move {
        let (stream, _) = listener.accept().await.unwrap();
        let server = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
        server.serve_connection(hyper_util::rt::TokioIo::new(stream), collector).await
    };
    let mut serving = tokio::task::JoinSet::from_iter([serving]);

    let provider = provider_to(endpoint);
    let subscriber = Registry::default().with(export_layer(&provider));
    tracing::subscriber::with_default(subscriber, || {
        drop(info_span!("shown").entered());
        drop(tracing::trace_span!("hidden").entered());
    });
    Guard::new(Some(provider)).flush().await;
    let (path, body) = exported.recv().await.unwrap();
    let contains = |text: &str| body.windows(text.len()).any(|window| window == text.as_bytes());
    assert_eq!(path, "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
    assert!(contains("shown") && contains("whatsapp-gateway") && contains("service.version"));
    assert!(!contains("hidden"));
    serving.abort_all();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_dead_collector_holds_nothing_up() {
    // A port that accepts and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let provider = provider_to(endpoint);
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let start = Instant::now();
    ::metrics::with_local_recorder(&recorder, || {
        tracing::subscriber::with_default(Registry::default().with(export_layer(&provider)), || {
            for _ in 0..10_000 {
                drop(info_span!("work").entered());
            }
        });
    });
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    // All but those in the queue, and a batch that is on its way.
    let metrics = recorder.handle().render();
    let line = "whatsapp_gateway_spans_dropped_total{reason=\"queue_full\"} ";
    let dropped: u64 = metrics.lines().find_map(|metric| metric.strip_prefix(line)).unwrap().parse().unwrap();
    assert!((10_000 - 4096 - 2 * 512..=10_000 - 4096).contains(&dropped), "{dropped}");
    let start = Instant::now();
    Guard::new(Some(provider)).flush().await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
