//! Every way in which a call can end, against raw sockets.

pub(in crate::cloud_api) mod peer;

use std::io::Write;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use peer::{Peer, answer, client, config, read_head, read_request, token};

use super::*;
use crate::clock::ManualClock;
use crate::domain::failure::{Class, Reason, Retry};

fn send() -> Call<'static> {
    Call {
        operation: Operation::Send,
        method: Method::POST,
        template: "/{phone_number_id}/messages",
        path: &["106540352242922", "messages"],
        query: &[],
        body: Some(Bytes::from_static(b"{\"to\":\"+16505551234\"}")),
    }
}

fn read() -> Call<'static> {
    Call {
        operation: Operation::Read,
        method: Method::GET,
        template: "/{template_id}",
        path: &["42"],
        query: &[("fields", "id,name"), ("after", "a&b=c")],
        body: None,
    }
}

async fn outcome(peer: &Peer, call: Call<'_>) -> Result<Bytes, Error> {
    client(&peer.url()).call(&token(), call).await
}

fn assert_unknown(result: &Result<Bytes, Error>, case: &str) {
    let Err(error @ Error::OutcomeUnknown { .. }) = result else { panic!("{case}: {result:?}") };
    let verdict = error.verdict();
    assert_eq!((verdict.class, verdict.reason), (Class::Unknown, Reason::SendOutcomeUnknown), "{case}");
}

#[tokio::test]
async fn a_request_carries_what_it_must_and_nothing_else() {
    let peer = Peer::start(|mut stream| {
        let request = read_request(&mut stream);
        stream.write_all(answer("200 OK", "{}").as_bytes()).unwrap();
        request
    });
    assert_eq!(outcome(&peer, send()).await.unwrap(), "{}");
    let request = peer.finish();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<String> = head.lines().map(str::to_lowercase).collect();
    assert_eq!(lines.remove(0), "post /v25.0/106540352242922/messages http/1.1");
    lines.sort();
    let names: Vec<_> = lines.iter().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(names, ["accept", "authorization", "content-length", "content-type", "host", "user-agent"]);
    assert_eq!(lines[1], "authorization: bearer secret-token");
    assert_eq!(lines[2], "content-length: 21");
    assert_eq!(lines[3], "content-type: application/json");
    assert!(lines[5].starts_with("user-agent: whatsapp-gateway/"));
    assert_eq!(body, "{\"to\":\"+16505551234\"}");
}

#[tokio::test]
async fn a_read_encodes_its_query_and_has_no_body() {
    let peer = Peer::start(|mut stream| {
        let head = read_head(&mut stream);
        stream.write_all(answer("200 OK", "{}").as_bytes()).unwrap();
        head
    });
    outcome(&peer, read()).await.unwrap();
    let head = peer.finish();
    assert!(head.starts_with("GET /v25.0/42?fields=id%2Cname&after=a%26b%3Dc HTTP/1.1\r\n"), "{head}");
    assert!(!head.to_lowercase().contains("content-"), "{head}");
}

#[tokio::test]
async fn nothing_is_sent_to_a_port_that_refuses() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    for call in [send(), read()] {
        let error = client(&url).call(&token(), call).await.unwrap_err();
        assert!(matches!(error, Error::NotSent { .. }), "{error:?}");
        let verdict = error.verdict();
        assert_eq!((verdict.class, verdict.reason), (Class::Unavailable, Reason::UpstreamUnreachable));
    }
}

#[tokio::test]
async fn nothing_is_sent_before_the_handshake_is_done() {
    // Accepts and says nothing, so that TLS cannot begin.
    let peer = Peer::start(|mut stream| peer::read_all(&mut stream));
    let url = peer.url().replace("http:", "https:");
    let config = Config { connect_timeout: Duration::from_millis(100), ..config(&url) };
    let client = Client::new(&config, ManualClock::new(SystemTime::UNIX_EPOCH)).unwrap();
    let error = client.call(&token(), send()).await.unwrap_err();
    assert!(matches!(error, Error::NotSent { .. }), "{error:?}");
    let request_timeout = Duration::from_millis(100);
    let config = Config { request_timeout, connect_timeout: Duration::from_mins(1), ..config };
    let peer = Peer::start(|mut stream| peer::read_all(&mut stream));
    let config = Config { graph_url: peer.url().replace("http:", "https:"), ..config };
    let client = Client::new(&config, ManualClock::new(SystemTime::UNIX_EPOCH)).unwrap();
    let error = client.call(&token(), send()).await.unwrap_err();
    assert!(matches!(error, Error::NotSent { .. }), "{error:?}");
}

#[tokio::test]
async fn a_peer_that_closes_at_once_proves_nothing_or_not_sent() {
    for _ in 0..20 {
        let peer = Peer::start(|stream| {
            drop(stream);
            String::new()
        });
        let result = outcome(&peer, send()).await;
        assert!(matches!(result, Err(Error::NotSent { .. } | Error::OutcomeUnknown { .. })), "{result:?}");
    }
}

#[tokio::test]
async fn a_lost_answer_leaves_the_outcome_unknown() {
    let peer = Peer::start(|mut stream| read_head(&mut stream));
    assert_unknown(&outcome(&peer, send()).await, "closed after the head");
    let peer = Peer::start(|mut stream| read_request(&mut stream));
    assert_unknown(&outcome(&peer, send()).await, "closed after the body");
    let peer = Peer::start(|mut stream| peer::read_all(&mut stream));
    let config = Config { request_timeout: Duration::from_millis(200), ..config(&peer.url()) };
    let client = Client::new(&config, ManualClock::new(SystemTime::UNIX_EPOCH)).unwrap();
    let result = client.call(&token(), send()).await;
    assert_unknown(&result, "stalled");
    assert!(result.unwrap_err().to_string().contains("timed out"));
    drop(client);
    for status in ["200 OK", "400 Bad Request", "500 Internal Server Error"] {
        let peer = Peer::start(move |mut stream| {
            let request = read_request(&mut stream);
            let half = format!("HTTP/1.1 {status}\r\nContent-Length: 100\r\n\r\n{{\"error\"");
            stream.write_all(half.as_bytes()).unwrap();
            request
        });
        assert_unknown(&outcome(&peer, send()).await, "half an answer");
    }
    let peer = Peer::start(|mut stream| {
        let request = read_request(&mut stream);
        stream.write_all(b"SSH-2.0-OpenSSH\r\n").unwrap();
        request
    });
    assert_unknown(&outcome(&peer, send()).await, "not HTTP");
}

#[tokio::test]
async fn an_answer_that_proves_nothing_leaves_the_outcome_unknown() {
    let ambiguous = r#"{"error":{"message":"m","code":131000,"fbtrace_id":"AI5"}}"#;
    let cases = [
        ("502 Bad Gateway", "<html>Bad Gateway</html>", None),
        ("503 Service Unavailable", "", None),
        ("500 Internal Server Error", ambiguous, Some(131_000)),
        ("400 Bad Request", r#"{"error":{"code":1}}"#, Some(1)),
        ("302 Found\r\nLocation: /elsewhere", "", None),
    ];
    for (status, body, code) in cases {
        let peer = Peer::start(move |mut stream| {
            let request = read_request(&mut stream);
            stream.write_all(answer(status, body).as_bytes()).unwrap();
            request + &peer::read_all(&mut stream)
        });
        let result = outcome(&peer, send()).await;
        assert_unknown(&result, status);
        let meta = result.unwrap_err().meta().cloned().unwrap();
        assert_eq!((meta.code, meta.http_status.to_string().as_str()), (code, &status[..3]));
        assert_eq!(peer.finish().matches("HTTP/1.1").count(), 1, "one request and no other");
    }
}

#[tokio::test]
async fn a_refusal_says_why_and_when() {
    let refused = |status: &'static str, body: &'static str| {
        Peer::start(move |mut stream| {
            let request = read_request(&mut stream);
            stream.write_all(answer(status, body).as_bytes()).unwrap();
            request
        })
    };
    let body =
        r#"{"error":{"code":131030,"error_data":{"details":"not in allowed list"},"fbtrace_id":"AI5"}}"#;
    let peer = refused("400 Bad Request", body);
    let error = outcome(&peer, send()).await.unwrap_err();
    let Error::Refused { error: meta, verdict } = &error else { panic!("{error:?}") };
    assert_eq!(
        (meta.code, meta.details.as_str(), meta.fbtrace_id.as_str()),
        (Some(131_030), "not in allowed list", "AI5")
    );
    assert_eq!(verdict.reason, Reason::RecipientNotAllowed);
    assert_eq!(error.to_string(), "Meta refused the call: HTTP 400, code 131030");
    let peer = refused("400 Bad Request\r\nRetry-After: 7", r#"{"error":{"code":130429}}"#);
    let verdict = outcome(&peer, send()).await.unwrap_err().verdict();
    assert_eq!(
        (verdict.class, verdict.retry),
        (Class::ResourceExhausted, Retry::Wait(Duration::from_secs(7)))
    );
    let peer = refused("500 Internal Server Error", r#"{"error":{"code":131045}}"#);
    assert_eq!(outcome(&peer, send()).await.unwrap_err().verdict().reason, Reason::UpstreamAccount);
}

#[tokio::test]
async fn a_read_is_unavailable_where_a_send_is_unknown() {
    let peer = Peer::start(|mut stream| read_head(&mut stream));
    let error = outcome(&peer, read()).await.unwrap_err();
    assert!(matches!(error, Error::NoAnswer { .. }), "{error:?}");
    assert_eq!(error.verdict().class, Class::Unavailable);
    let peer = Peer::start(|mut stream| {
        let head = read_head(&mut stream);
        stream.write_all(answer("502 Bad Gateway", "<html>").as_bytes()).unwrap();
        head
    });
    let error = outcome(&peer, read()).await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error:?}");
    assert_eq!(error.verdict().class, Class::Unavailable);
}

#[tokio::test]
async fn an_endless_answer_is_cut() {
    let peer = Peer::start(|mut stream| {
        let head = read_head(&mut stream);
        let chunk = vec![b'x'; 64 * 1024];
        let mut result = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while result.is_ok() {
            result = stream.write_all(&chunk);
        }
        head
    });
    let error = outcome(&peer, read()).await.unwrap_err();
    assert!(error.to_string().contains("longer than"), "{error}");
}

#[test]
fn the_token_is_marked_so_that_nobody_prints_it() {
    let value = authorization("Bearer", &token()).unwrap();
    assert!(value.is_sensitive());
    assert!(!format!("{value:?}").contains("secret-token"));
}

#[tokio::test]
async fn a_token_that_no_header_can_hold_is_not_sent() {
    let error = client("http://127.0.0.1:9").call(&SecretString::from("a\nb"), send()).await.unwrap_err();
    assert!(matches!(&error, Error::NotSent { .. }));
    assert!(!error.to_string().contains("a\nb"));
}

#[test]
fn a_wrong_configuration_builds_no_client() {
    let config = Config { graph_url: "graph.facebook.com".to_owned(), ..Config::default() };
    let error = Client::new(&config, ManualClock::new(SystemTime::UNIX_EPOCH)).unwrap_err();
    assert!(error.to_string().starts_with("cloud_api.graph_url: "), "{error}");
}

/// Collects what a subscriber prints.
#[derive(Clone, Default)]
struct Printed(Arc<Mutex<Vec<u8>>>);

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_span_names_the_call_and_nobody() {
    let printed = Printed::default();
    let writer = printed.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::CLOSE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    // While a process has one dispatcher, tracing asks the thread that meets a span first whether anybody
    // listens, and remembers its "no" for all; the other tests have no listener. With two it asks both.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let peer = Peer::start(|mut stream| {
        let request = read_request(&mut stream);
        let body = r#"{"error":{"code":131030,"message":"to +16505551234","fbtrace_id":"AI5"}}"#;
        stream.write_all(answer("400 Bad Request", body).as_bytes()).unwrap();
        request
    });
    let error = outcome(&peer, send()).await.unwrap_err();
    let text = String::from_utf8(printed.0.lock().unwrap().clone()).unwrap();
    for part in ["cloud_api.request", "/{phone_number_id}/messages", "=400", "=131030", "AI5"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    for private in ["106540352242922", "16505551234", "secret-token"] {
        assert!(!text.contains(private), "{private} is in {text}");
        assert!(!error.to_string().contains(private));
    }
}
