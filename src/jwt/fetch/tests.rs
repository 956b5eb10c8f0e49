use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;

/// Two public keys (RFC 8037, appendix A.2, and RFC 7517, appendix A.1).
const ED: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"ed","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
const EC: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"1","use":"sig",
 "x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;

/// An issuer that answers with a status and a body, and how often it was asked.
struct Server {
    answer: Arc<Mutex<(u16, String)>>,
    asked: watch::Receiver<u32>,
    url: Url,
    _serving: JoinSet<()>,
}

impl Server {
    async fn start(answer: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap()).parse().unwrap();
        let answer = Arc::new(Mutex::new((200, answer.to_owned())));
        let (count, asked) = watch::channel(0);
        let (answers, count) = (Arc::clone(&answer), Arc::new(count));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = service_fn(|_: Request<Incoming>| {
                    let (status, body) = answers.lock().unwrap().clone();
                    count.send_modify(|count| *count += 1);
                    let answer = Response::builder().status(status).body(Full::new(Bytes::from(body)));
                    async move { Ok::<_, Infallible>(answer.unwrap()) }
                });
                let connection = hyper::server::conn::http1::Builder::new();
                drop(connection.serve_connection(TokioIo::new(stream), service).await);
            }
        });
        Self { answer, asked, url, _serving: serving }
    }

    fn says(&self, status: u16, body: &str) {
        *self.answer.lock().unwrap() = (status, body.to_owned());
    }

    fn fetcher(&self, pace: Pace) -> (Fetcher, Keys) {
        let keys = Keys::of_url();
        let (issuer, url) = ("test".into(), self.url.clone());
        let source = Source { issuer, url, ca_pem: String::new(), token_file: None, keys: keys.clone() };
        (Fetcher { pace, ..Fetcher::new(source).unwrap() }, keys)
    }
}

fn hash(text: &str) -> [u8; 32] {
    KeySet::parse(text.as_bytes()).unwrap().fingerprint()
}

fn current(keys: &Keys) -> Option<[u8; 32]> {
    keys.load().map(|set| set.fingerprint())
}

const LONG: Duration = Duration::from_mins(10);

#[tokio::test]
async fn keys_stay_until_better_ones_are_there() {
    let server = Server::start(ED).await;
    let (mut fetcher, keys) = server.fetcher(PACE);
    assert_eq!(current(&keys), None);
    server.says(503, ED);
    fetcher.read().await;
    assert_eq!((current(&keys), fetcher.failures), (None, 1));
    server.says(200, ED);
    fetcher.read().await;
    assert_eq!((current(&keys), fetcher.failures), (Some(hash(ED)), 0));
    let half = &EC[..EC.len() / 2];
    let large = format!("{EC}{}", " ".repeat(ANSWER_BYTES_MAX));
    let symmetric = r#"{"keys":[{"kty":"oct","k":"c2VjcmV0","alg":"HS256"}]}"#;
    for bad in ["", half, "{}", r#"{"keys":[]}"#, symmetric, &large] {
        server.says(200, bad);
        fetcher.read().await;
        assert_eq!(current(&keys), Some(hash(ED)), "{bad:.40}");
        assert!(fetcher.failures > 0 && fetcher.logged.is_some());
    }
    server.says(302, EC);
    fetcher.read().await;
    assert_eq!(current(&keys), Some(hash(ED)));
    server.says(200, EC);
    fetcher.read().await;
    assert_eq!((current(&keys), fetcher.failures), (Some(hash(EC)), 0));
}

#[tokio::test]
async fn failures_are_retried_ever_later() {
    let server = Server::start(ED).await;
    let (mut fetcher, _) = server.fetcher(PACE);
    assert_eq!(fetcher.next_in(), PACE.refresh);
    let pauses: Vec<_> = (1..40)
        .map(|failures| {
            fetcher.failures = failures;
            fetcher.next_in()
        })
        .collect();
    assert!(pauses.is_sorted() && pauses[0] == PACE.pause && pauses[38] == PACE.pause_max, "{pauses:?}");
}

#[tokio::test]
async fn who_names_unknown_keys_makes_us_ask_at_most_once_in_a_while() {
    let server = Server::start(ED).await;
    let (fetcher, keys) = server.fetcher(Pace { refresh: LONG, pause: LONG, pause_max: LONG });
    let _running = JoinSet::from_iter([fetcher.begin().await.run()]);
    server.says(200, EC);
    for _ in 0..100 {
        assert!(keys.look_again().is_none(), "they were read just now");
    }
    assert_eq!((*server.asked.borrow(), current(&keys)), (1, Some(hash(ED))));
}

#[tokio::test]
async fn an_unknown_key_is_looked_for() {
    let mut server = Server::start(ED).await;
    let pause = Duration::ZERO;
    let (fetcher, keys) = server.fetcher(Pace { refresh: LONG, pause, pause_max: LONG });
    let _running = JoinSet::from_iter([fetcher.begin().await.run()]);
    server.says(200, EC);
    keys.look_again().unwrap().await;
    assert_eq!(current(&keys), Some(hash(EC)));
    server.asked.wait_for(|count| *count == 2).await.unwrap();
}

#[tokio::test]
async fn keys_are_refreshed_by_themselves() {
    let mut server = Server::start(ED).await;
    let refresh = Duration::from_millis(20);
    let (fetcher, keys) = server.fetcher(Pace { refresh, pause: refresh, pause_max: refresh });
    let _running = JoinSet::from_iter([fetcher.begin().await.run()]);
    server.says(200, EC);
    server.asked.wait_for(|count| *count >= 3).await.unwrap();
    assert_eq!(current(&keys), Some(hash(EC)));
}
