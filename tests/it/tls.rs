//! TLS on the gRPC port, and callers by certificate, with certificates made by openssl.

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::Uri;
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::service_fn;
use whatsapp_gateway::contract::v1;
use whatsapp_gateway::contract::v1::gateway_service_client::GatewayServiceClient;

use crate::eventually;
use crate::support::certificates::{Authority, Issued};
use crate::support::gateway::PATIENCE;
use crate::support::rpc::{send, text};
use crate::support::serve::{ALL_RIGHTS, caller};
use crate::support::{Gateway, Refusal, Serve, webhook};

const ORDERS: &str = "spiffe://example.org/ns/shop/sa/orders";
const BILLING: &str = "billing.example.com";

/// A client that trusts one authority and may have a certificate.
#[derive(Debug, Clone)]
pub(crate) struct Client(Arc<ClientConfig>);

fn certificates(path: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(path).unwrap().collect::<Result<_, _>>().unwrap()
}

impl Client {
    pub(crate) fn new(authority: &Authority, identity: Option<&Issued>) -> Self {
        Self::speaking("h2", authority, identity)
    }

    fn speaking(protocol: &str, authority: &Authority, identity: Option<&Issued>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates(&authority.cert()));
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(Issued { cert, key }) => {
                let key = PrivateKeyDer::from_pem_file(key).unwrap();
                builder.with_client_auth_cert(certificates(cert), key).unwrap()
            }
        };
        config.alpn_protocols = vec![protocol.into()];
        Self(Arc::new(config))
    }

    async fn handshake(&self, address: &str) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
        TlsConnector::from(Arc::clone(&self.0)).connect(name, stream).await
    }

    pub(crate) async fn connect(&self, gateway: &Gateway) -> Result<Channel, Status> {
        let (client, address) = (self.clone(), gateway.address("grpc").to_owned());
        let connector = service_fn(move |_: Uri| {
            let (client, address) = (client.clone(), address.clone());
            async move { client.handshake(&address).await.map(TokioIo::new) }
        });
        let connected = timeout(PATIENCE, gateway.endpoint().connect_with_connector(connector)).await;
        connected.expect("no connection in time").map_err(|error| Status::unavailable(error.to_string()))
    }

    /// Connects and sends a message, with this token or none.
    async fn call(&self, gateway: &Gateway, token: Option<&str>) -> Result<(), Status> {
        ask(&self.connect(gateway).await?, token).await
    }

    async fn is_healthy(&self, gateway: &Gateway) -> bool {
        let Ok(channel) = self.connect(gateway).await else { return false };
        HealthClient::new(channel).check(HealthCheckRequest::default()).await.is_ok()
    }

    /// The certificate of the gateway.
    async fn presented(&self, gateway: &Gateway) -> CertificateDer<'static> {
        let stream = self.handshake(gateway.address("grpc")).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    }
}

/// Sends a message.
async fn ask(channel: &Channel, token: Option<&str>) -> Result<(), Status> {
    let phone_number_id = webhook::PHONE_NUMBER_ID.to_owned();
    let message = v1::SendMessageRequest { phone_number_id, validate_only: true, ..send(text("Hello")) };
    let mut request = Request::new(message);
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    let mut client = GatewayServiceClient::new(channel.clone());
    timeout(PATIENCE, client.send_message(request)).await.expect("no answer in time").map(drop)
}

/// Fails unless the gateway itself said that it does not know who calls.
fn assert_unauthenticated(outcome: Result<(), Status>, words: &str) {
    let refusal = Refusal::of(&outcome.expect_err("it was served"));
    assert_eq!(refusal.is(), (Code::Unauthenticated, "CALLER_UNAUTHENTICATED"));
    assert!(refusal.message.contains(words), "{}", refusal.message);
}

/// Fails unless there was no connection.
fn assert_unconnected(outcome: Result<(), Status>) {
    let status = outcome.expect_err("it was served");
    assert!(status.details().is_empty(), "a handler has answered: {status:?}");
}

/// The callers `orders` and `billing`, by token and by certificate.
fn callers(by_certificate: bool) -> String {
    let of = |name: &str, identity: &str| {
        let identities =
            if by_certificate { format!("identities = [\"{identity}\"]\n") } else { String::new() };
        caller(name, &format!("{name}-token"), &format!("{identities}{ALL_RIGHTS}"))
    };
    format!("{}{}", of("orders", ORDERS), of("billing", &format!("dns:{BILLING}")))
}

/// The section of the configuration.
pub(crate) fn section(server: &Issued, client_ca: Option<&Path>, more: &str) -> String {
    let (cert, key) = (server.cert.display(), server.key.display());
    let client_ca =
        client_ca.map_or_else(String::new, |path| format!("client_ca_file = \"{}\"", path.display()));
    format!("[grpc.tls]\ncert_file = \"{cert}\"\nkey_file = \"{key}\"\n{client_ca}\n{more}\n")
}

async fn serve(section: &str, callers: &str) -> Serve {
    Serve::builder().grpc_listen("0.0.0.0:0").grpc(section).more(callers).start().await
}

async fn failures(gateway: &Gateway, reason: &str) -> usize {
    let (_, metrics) = gateway.admin("/metrics").await;
    let series =
        format!(r#"whatsapp_gateway_tls_handshake_failures_total{{listener="grpc",reason="{reason}"}} "#);
    let value = metrics.lines().find_map(|line| line.strip_prefix(&series));
    value.map_or(0, |value| value.parse().unwrap())
}

#[tokio::test]
async fn tls_alone_hides_what_is_said_and_names_nobody() {
    let authority = Authority::new();
    let section = section(&authority.issue_server("server"), None, "");
    let Serve { gateway, .. } = &serve(&section, &callers(false)).await;
    let client = Client::new(&authority, None);
    // Whoever says nothing keeps nobody waiting.
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(gateway.address("grpc")).await.unwrap());
    }
    assert_unauthenticated(client.call(gateway, None).await, "missing");
    client.call(gateway, Some("orders-token")).await.unwrap();
    assert!(client.is_healthy(gateway).await);
    let stream = client.handshake(gateway.address("grpc")).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));

    let plain = GatewayServiceClient::connect(format!("http://{}", gateway.address("grpc"))).await;
    if let Ok(mut plain) = plain {
        assert_unconnected(plain.send_message(send(text("Hello"))).await.map(drop));
    }
    let mut plain = TcpStream::connect(gateway.address("grpc")).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let end = timeout(PATIENCE, plain.read_to_end(&mut answer)).await.expect("it was not closed");
    assert!(end.is_err() || answer.len() < 16, "an alert at most: {answer:?}");
    eventually!(failures(gateway, "not_tls").await >= 2);
    let other = Client::speaking("http/1.1", &authority, None);
    assert!(other.handshake(gateway.address("grpc")).await.is_err());
    eventually!(failures(gateway, "no_http2").await == 1);
    assert_unconnected(Client::new(&Authority::new(), None).call(gateway, Some("orders-token")).await);
    eventually!(failures(gateway, "refused_by_client").await == 1);
}

#[tokio::test]
async fn a_certificate_names_its_caller() {
    let authority = Authority::new();
    let section = section(&authority.issue_server("server"), Some(&authority.cert()), "");
    let serve = Serve::builder().grpc_listen("0.0.0.0:0").grpc(&section).more(&callers(true));
    let serve = serve.env("WHATSAPP_GATEWAY__TELEMETRY__LOG_LEVEL", "debug").start().await;
    let gateway = &serve.gateway;
    let client = |file: &str, names: &str| Client::new(&authority, Some(&authority.issue(file, names)));

    let orders = client("orders", &format!("URI:{ORDERS}"));
    let billing = client("billing", &format!("DNS:{}", BILLING.to_uppercase()));
    for (client, name) in [(&orders, "orders"), (&billing, "billing")] {
        let phone_number_id = webhook::PHONE_NUMBER_ID.to_owned();
        let request = v1::SendMessageRequest { phone_number_id, ..send(text("Hello")) };
        let mut stub = GatewayServiceClient::new(client.connect(gateway).await.unwrap());
        stub.send_message(request).await.unwrap();
        eventually!(gateway.log().contains(&format!(r#""caller":"{name}","credential":"certificate""#)));
        let known = stub.who_am_i(v1::WhoAmIRequest {}).await.unwrap().into_inner();
        assert_eq!((known.name.as_str(), known.credential()), (name, v1::CallerCredential::Certificate));
        assert_eq!(known.rights.unwrap().methods, ["*"]);
    }
    // With a token.
    orders.call(gateway, Some("orders-token")).await.unwrap();
    assert_unauthenticated(orders.call(gateway, Some("billing-token")).await, "another caller");
    assert_unauthenticated(orders.call(gateway, Some("no-token")).await, "the token is not known");

    // Other names of the same authority, among them some that only look like ours.
    let unknown = [
        ("other", "URI:spiffe://example.org/ns/shop/sa/other", "spiffe://example.org/ns/shop/sa/other"),
        ("longer", "URI:spiffe://example.org/ns/shop/sa/orders/x", "sa/orders/x"),
        ("disguised", "URI:dns:billing.example.com", "dns:billing.example.com"),
        ("wildcard", "DNS:*.example.com", "dns:*.example.com"),
        ("mail", "email:orders@example.com", "neither a URI nor a DNS name"),
    ];
    for (file, names, shown) in unknown {
        let client = client(file, names);
        assert_unauthenticated(client.call(gateway, None).await, shown);
        assert!(client.is_healthy(gateway).await);
        client.call(gateway, Some("orders-token")).await.unwrap();
    }
    let both = client("both", &format!("URI:{ORDERS},DNS:{BILLING}"));
    assert_unauthenticated(both.call(gateway, None).await, "several callers");
    assert_unauthenticated(both.call(gateway, Some("orders-token")).await, "several callers");

    for (cause, count) in [("certificate_unknown", 5), ("certificate_ambiguous", 2), ("contradictory", 1)] {
        let (_, metrics) = gateway.admin("/metrics").await;
        let counted = format!("auth_decisions_total{{outcome=\"{cause}\"}} {count}\n");
        assert!(metrics.contains(&counted), "{counted}{metrics}");
    }

    // Nobody must have one.
    let without = Client::new(&authority, None);
    assert_unauthenticated(without.call(gateway, None).await, "missing");
    without.call(gateway, Some("billing-token")).await.unwrap();
    assert!(without.is_healthy(gateway).await);

    // Whoever has one must have a good one.
    let elsewhere = Authority::new();
    let foreign = elsewhere.issue("foreign", &format!("URI:{ORDERS}"));
    assert_unconnected(Client::new(&authority, Some(&foreign)).call(gateway, Some("orders-token")).await);
    eventually!(failures(gateway, "unknown_issuer").await > 0);
    let expired = authority.issue_expired("expired", &format!("URI:{ORDERS}"));
    assert_unconnected(Client::new(&authority, Some(&expired)).call(gateway, Some("orders-token")).await);
    eventually!(failures(gateway, "certificate_expired").await > 0);
}

#[tokio::test]
async fn a_required_certificate_is_needed_for_everything() {
    let authority = Authority::new();
    let required = "client_auth = \"required\"";
    let section = section(&authority.issue_server("server"), Some(&authority.cert()), required);
    let Serve { gateway, .. } = &serve(&section, &callers(true)).await;
    let orders = Client::new(&authority, Some(&authority.issue("orders", &format!("URI:{ORDERS}"))));
    orders.call(gateway, None).await.unwrap();
    assert!(orders.is_healthy(gateway).await);
    let without = Client::new(&authority, None);
    assert_unconnected(without.call(gateway, Some("orders-token")).await);
    assert!(!without.is_healthy(gateway).await);
    eventually!(failures(gateway, "no_certificate").await >= 2);
}

/// A directory as Kubernetes mounts a secret: files that are links into `..data`, which is a link that is swapped.
struct Mounted(TempDir);

impl Mounted {
    fn new(server: &Issued, client_ca: &str) -> Self {
        let mounted = Self(TempDir::new().unwrap());
        mounted.swap("first", server, client_ca);
        for file in ["tls.crt", "tls.key", "ca.crt"] {
            let target = Path::new("..data").join(file);
            std::os::unix::fs::symlink(target, mounted.path(file)).unwrap();
        }
        mounted
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn swap(&self, version: &str, server: &Issued, client_ca: &str) {
        let folder = self.path(version);
        std::fs::create_dir(&folder).unwrap();
        std::fs::copy(&server.cert, folder.join("tls.crt")).unwrap();
        std::fs::copy(&server.key, folder.join("tls.key")).unwrap();
        std::fs::write(folder.join("ca.crt"), client_ca).unwrap();
        std::os::unix::fs::symlink(version, self.path("..data_tmp")).unwrap();
        std::fs::rename(self.path("..data_tmp"), self.path("..data")).unwrap();
    }

    fn section(&self) -> String {
        let server = Issued { cert: self.path("tls.crt"), key: self.path("tls.key") };
        section(&server, Some(&self.path("ca.crt")), "")
    }
}

/// Calls on and on until dropped, on one connection or on a new one for each.
struct Load {
    calls: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    task: JoinSet<Result<(), Status>>,
}

impl Load {
    async fn start(gateway: &Arc<Serve>, client: &Client, is_anew: bool) -> Self {
        let (calls, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (serve, client, calls_of, stopped) =
            (Arc::clone(gateway), client.clone(), Arc::clone(&calls), Arc::clone(&stop));
        let mut channel = client.connect(&serve.gateway).await.unwrap();
        let mut task = JoinSet::new();
        task.spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                if is_anew {
                    channel = client.connect(&serve.gateway).await?;
                }
                ask(&channel, None).await?;
                calls_of.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        Self { calls, stop, task }
    }

    /// Waits for further calls.
    async fn goes_on(&mut self) {
        let before = self.calls.load(Ordering::Relaxed);
        eventually!({
            // It ends by itself only when a call fails.
            assert!(self.task.try_join_next().is_none(), "a call has failed");
            self.calls.load(Ordering::Relaxed) > before + 20
        });
    }

    async fn end(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.join_next().await.unwrap().unwrap().unwrap();
    }
}

#[tokio::test]
async fn certificates_are_rotated_under_load() {
    let (old, new) = (Authority::new(), Authority::new());
    let pem = |authority: &Authority| std::fs::read_to_string(authority.cert()).unwrap();
    let mounted = Mounted::new(&old.issue_server("server"), &pem(&old));
    let serve = Arc::new(serve(&mounted.section(), &callers(true)).await);
    let gateway = &serve.gateway;
    let names = format!("URI:{ORDERS}");
    let of_old = Client::new(&old, Some(&old.issue("orders", &names)));
    // Known to the gateway only after the rotation; it trusts the certificate of the port all along.
    let of_new = Client::new(&old, Some(&new.issue("orders", &names)));
    assert_unconnected(of_new.call(gateway, None).await);
    let (mut staying, mut coming) =
        (Load::start(&serve, &of_old, false).await, Load::start(&serve, &of_old, true).await);
    staying.goes_on().await;
    coming.goes_on().await;

    let second = old.issue_server("second");
    mounted.swap("second", &second, &format!("{}{}", pem(&old), pem(&new)));
    eventually!(of_old.presented(gateway).await == certificates(&second.cert)[0]);
    staying.goes_on().await;
    coming.goes_on().await;
    of_new.call(gateway, None).await.unwrap();
    coming.end().await;

    // The old authority goes: what is open goes on, new connections by it do not begin.
    mounted.swap("third", &second, &pem(&new));
    eventually!(of_old.call(gateway, None).await.is_err());
    staying.goes_on().await;
    staying.end().await;
    of_new.call(gateway, None).await.unwrap();
    let (_, metrics) = gateway.admin("/metrics").await;
    assert!(metrics.contains(r#"config_reload_total{part="tls",outcome="applied"} 2"#), "{metrics}");
}

#[tokio::test]
async fn new_files_that_cannot_be_used_change_nothing() {
    let authority = Authority::new();
    let (first, second) = (authority.issue_server("first"), authority.issue_server("second"));
    let mounted = Mounted::new(&first, &std::fs::read_to_string(authority.cert()).unwrap());
    let Serve { gateway, .. } = &serve(&mounted.section(), &callers(true)).await;
    let client = Client::new(&authority, None);
    let first = client.presented(gateway).await;
    // Half written: first no certificate at all, then one whose key has not come yet.
    std::fs::write(mounted.path("tls.crt"), "-----BEGIN CERTIFICATE-----\nMIIB").unwrap();
    eventually!(gateway.log().contains("grpc.tls.cert_file"));
    assert_eq!(client.presented(gateway).await, first);
    std::fs::copy(&second.cert, mounted.path("tls.crt")).unwrap();
    eventually!(gateway.log().contains("holds the key of another certificate"));
    assert_eq!(client.presented(gateway).await, first);
    client.call(gateway, Some("orders-token")).await.unwrap();
    let (_, metrics) = gateway.admin("/metrics").await;
    assert!(metrics.contains(r#"config_reload_total{part="tls",outcome="applied"} 0"#), "{metrics}");
    assert!(!metrics.contains(r#"config_reload_total{part="tls",outcome="rejected"} 0"#), "{metrics}");
    std::fs::copy(&second.key, mounted.path("tls.key")).unwrap();
    eventually!(client.presented(gateway).await == certificates(&second.cert)[0]);
}

#[tokio::test]
async fn files_that_cannot_be_used_keep_it_from_starting() {
    let authority = Authority::new();
    let (server, other) = (authority.issue_server("server"), authority.issue_server("other"));
    let mixed = Issued { cert: server.cert.clone(), key: other.key };
    let run = |section: String, callers: String| {
        Serve::builder().grpc_listen("0.0.0.0:0").grpc(&section).more(&callers).run_to_end()
    };
    let (code, log) = run(section(&mixed, None, ""), callers(false)).await;
    assert_eq!(code, Some(64), "{log}");
    assert!(log.contains("grpc.tls.key_file") && log.contains("the key of another certificate"), "{log}");
    // TLS does not say who calls.
    let (code, log) = run(section(&server, None, ""), String::new()).await;
    assert_eq!(code, Some(64), "{log}");
    assert!(log.contains("grpc.listen") && log.contains("TLS alone does not say who calls"), "{log}");
}
