//! TLS of a port: its certificate, and what the certificates of its clients say.
//!
//! A leaf: `config` reads the files and replaces what they hold when they change, `listener` accepts connections with
//! it, `tenants` and `grpc` find callers by [`Identity`]. It knows neither the files nor who calls.

mod own;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, DnsName, PrivateKeyDer};
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};

pub use own::{name as pinned_name, pinned, self_signed};

/// The one protocol that is negotiated: HTTP/2.
const ALPN: &[u8] = b"h2";
/// A trust domain may hold these besides digits and lower-case letters (SPIFFE ID, section 2.1).
const TRUST_DOMAIN_MARKS: &[u8] = b".-_";

/// Whether a client must present a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// It may: a connection without one is served, and its calls need other credentials.
    Optional,
    /// It must: there is no connection without one.
    Required,
}

/// What a port is served with.
#[derive(Clone)]
pub struct Served {
    config: Arc<ServerConfig>,
    /// When the first certificate of its chain expires; `None` if that cannot be read.
    expires: Option<SystemTime>,
}

/// Which of the parts cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The port's own certificate.
    Certificate(String),
    /// Its private key.
    Key(String),
    /// The authorities of the clients.
    ClientCa(String),
}

/// The certificates of a PEM text, in order. The error is about the text and shows nothing of it.
pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match all {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) | Err(_) => Err("must hold certificates as PEM: -----BEGIN CERTIFICATE-----".to_owned()),
    }
}

/// The private key of a PEM text. The error is about the text and shows nothing of it.
pub fn private_key(pem: &str) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| {
        "must hold a private key as PEM, without a passphrase: -----BEGIN PRIVATE KEY-----".to_owned()
    })
}

/// Puts the parts together: the port's certificate and those between it and its authority, its key, and the authorities
/// whose clients are believed.
pub fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    clients: Option<(Vec<CertificateDer<'static>>, ClientAuth)>,
) -> Result<Served, Error> {
    let expires = chain.iter().filter_map(|certificate| expiry(certificate)).min();
    let provider = Arc::new(aws_lc_rs::default_provider());
    if let Err(error) = provider.key_provider.load_private_key(key.clone_key()) {
        return Err(Error::Key(format!("holds a key that cannot be used: {error}")));
    }
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Key(error.to_string()))?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some((authorities, auth)) => {
            let mut roots = RootCertStore::empty();
            for (index, authority) in authorities.into_iter().enumerate() {
                roots.add(authority).map_err(|error| {
                    Error::ClientCa(format!("certificate {} cannot be an authority: {error}", index + 1))
                })?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = match auth {
                ClientAuth::Optional => verifier.allow_unauthenticated(),
                ClientAuth::Required => verifier,
            };
            builder.with_client_cert_verifier(
                verifier.build().map_err(|error| Error::ClientCa(error.to_string()))?,
            )
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| {
        if matches!(error, rustls::Error::InconsistentKeys(_)) {
            Error::Key("holds the key of another certificate; both must be of the same issue".to_owned())
        } else {
            Error::Certificate(format!("the first certificate cannot be used: {error}"))
        }
    })?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed connection would believe a certificate that has expired, or whose authority has gone, since then.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Served { config: Arc::new(config), expires })
}

/// The end of a certificate's validity (RFC 5280, 4.1): the sixth element of its first part, behind a version that may be
/// missing. The library that verifies certificates reads it too and does not say it.
fn expiry(certificate: &[u8]) -> Option<SystemTime> {
    const VERSION: u8 = 0xa0;
    const UTC_TIME: u8 = 0x17;
    let (_, certificate, _) = element(certificate)?;
    let (_, mut rest, _) = element(certificate)?;
    if rest.first() == Some(&VERSION) {
        (_, _, rest) = element(rest)?;
    }
    // Serial number, algorithm, issuer.
    for _ in 0..3 {
        (_, _, rest) = element(rest)?;
    }
    let (_, validity, _) = element(rest)?;
    let (_, _, not_after) = element(validity)?;
    let (kind, text, _) = element(not_after)?;
    let text = std::str::from_utf8(text).ok()?;
    // Two digits of a year begin with 1950.
    let century = if kind != UTC_TIME {
        ""
    } else if text < "5" {
        "20"
    } else {
        "19"
    };
    let time = jiff::civil::DateTime::strptime("%Y%m%d%H%M%SZ", format!("{century}{text}")).ok()?;
    Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().into())
}

/// The first element of DER: its kind, what is in it, and what comes behind.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[kind, length], rest) = der.split_first_chunk()?;
    let (length, rest) = if length < 0x80 {
        (usize::from(length), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
        let number =
            (digits.len() <= 4).then(|| digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)));
        (number?, rest)
    };
    let (content, behind) = rest.split_at_checked(length)?;
    Some((kind, content, behind))
}

/// The TLS of a port at this moment; clones are the same one.
#[derive(Clone)]
pub struct Tls(Arc<ArcSwap<Served>>);

impl Tls {
    /// Starts with this.
    pub fn new(served: Served) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(served)))
    }

    /// Replaces it for the connections to come; open ones go on.
    pub(crate) fn store(&self, served: Served) {
        self.0.store(Arc::new(served));
    }

    /// When the first certificate of the port's chain expires; `None` if that cannot be read.
    pub(crate) fn expires(&self) -> Option<SystemTime> {
        self.0.load().expires
    }

    /// What to accept a connection with.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.0.load().config))
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Served(REDACTED)")
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(REDACTED)")
    }
}

/// A name that an authority has certified: a DNS name or a URI among a certificate's subject alternative names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Identity {
    /// In lower case. A wildcard is nothing but a name with a `*`.
    Dns(String),
    /// As it stands, such as a SPIFFE id.
    Uri(String),
}

impl Identity {
    pub(crate) const FORM: &str = "must be a name as the certificate has it: \"spiffe://example.org/ns/shop/sa/orders\", \
                                   another URI with \"://\", or \"dns:orders.example.com\"; no wildcards";

    /// Reads a URI, or a DNS name behind `dns:`.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(name) = text.strip_prefix("dns:") {
            return DnsName::try_from(name).is_ok().then(|| Self::dns(name));
        }
        let (scheme, rest) = text.split_once("://")?;
        let is_text =
            !scheme.is_empty() && !rest.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        let is_domain = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || TRUST_DOMAIN_MARKS.contains(&byte)
        };
        let domain = rest.split('/').next().unwrap_or_default();
        let is_right = scheme != "spiffe" || !domain.is_empty() && domain.bytes().all(is_domain);
        (is_text && is_right && !text.contains('*')).then(|| Self::Uri(text.to_owned()))
    }

    fn dns(name: &str) -> Self {
        Self::Dns(name.to_ascii_lowercase())
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => write!(f, "dns:{name}"),
            Self::Uri(uri) => f.write_str(uri),
        }
    }
}

/// What the verified certificate of a client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    identities: Vec<Identity>,
}

impl PeerCertificate {
    /// Reads a certificate that the handshake has verified.
    pub(crate) fn read(certificate: &CertificateDer<'_>) -> Self {
        // The handshake has read it before, in the same way.
        let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else {
            return Self { identities: Vec::new() };
        };
        let uris = certificate.valid_uri_names().map(|uri| Identity::Uri(uri.to_owned()));
        Self { identities: uris.chain(certificate.valid_dns_names().map(Identity::dns)).collect() }
    }

    /// Its names, URIs first; none where it has neither URI nor DNS name.
    pub fn identities(&self) -> &[Identity] {
        &self.identities
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;

    /// Writes a new certificate and its key to `<name>.pem` and `<name>.key`.
    pub(crate) fn self_signed(folder: &Path, name: &str) {
        let output = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .args(["-subj", "/CN=test", "-days", "2"])
            .arg("-keyout")
            .arg(folder.join(format!("{name}.key")))
            .arg("-out")
            .arg(folder.join(format!("{name}.pem")))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// The TLS of a port with a new certificate.
    pub(crate) fn some_tls() -> Tls {
        let folder = tempfile::TempDir::new().unwrap();
        self_signed(folder.path(), "port");
        let read = |name| std::fs::read_to_string(folder.path().join(name)).unwrap();
        let (chain, key) =
            (certificates(&read("port.pem")).unwrap(), private_key(&read("port.key")).unwrap());
        Tls::new(server_config(chain, key, None).unwrap())
    }

    #[test]
    fn the_end_of_a_certificate_is_read() {
        let folder = tempfile::TempDir::new().unwrap();
        self_signed(folder.path(), "port");
        let path = folder.path().join("port.pem");
        let chain = certificates(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let openssl = |arguments: &[&str]| {
            Command::new("openssl")
                .args(["x509", "-noout", "-in"])
                .arg(&path)
                .args(arguments)
                .output()
                .unwrap()
        };
        let stated = String::from_utf8(openssl(&["-enddate", "-dateopt", "iso_8601"]).stdout).unwrap();
        let stated = stated.trim().trim_start_matches("notAfter=").replace(' ', "T");
        let expires = jiff::Timestamp::try_from(expiry(&chain[0]).unwrap()).unwrap();
        assert_eq!(expires.to_string(), stated);
        assert_eq!(some_tls().expires().map(|time| time > SystemTime::UNIX_EPOCH), Some(true));
        for cut in 0..chain[0].len().min(200) {
            assert_eq!(expiry(&chain[0][..cut]), None, "cut after {cut}");
        }
    }

    #[test]
    fn identities_are_names_and_uris() {
        for uri in
            ["spiffe://example.org/ns/shop/sa/orders", "spiffe://example.org", "https://Example.org/a?b"]
        {
            assert_eq!(Identity::parse(uri), Some(Identity::Uri(uri.to_owned())), "{uri}");
        }
        let name = Identity::parse("dns:Orders.example.com").unwrap();
        assert_eq!(name, Identity::Dns("orders.example.com".to_owned()));
        assert_eq!(name.to_string(), "dns:orders.example.com");
        let wrong = [
            "",
            "orders",
            "orders.example.com",
            "dns:",
            "dns:*.example.com",
            "dns:two words",
            "://x",
            "spiffe://",
            "spiffe:///path",
            "spiffe://Example.org/path",
            "spiffe://example.org/*",
            "spiffe://example.org/two words",
        ];
        for text in wrong {
            assert_eq!(Identity::parse(text), None, "{text}");
        }
    }
}
