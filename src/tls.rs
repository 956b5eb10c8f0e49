//! TLS of a port: its certificate, and what the certificates of its clients say.
//!
//! A leaf: `config` reads the files and replaces what they hold when they change, `listener` accepts connections with
//! it, `tenants` and `grpc` find callers by [`Identity`]. It knows neither the files nor who calls.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, DnsName, PrivateKeyDer};
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};

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
) -> Result<Arc<ServerConfig>, Error> {
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
    Ok(Arc::new(config))
}

/// The TLS of a port at this moment; clones are the same one.
#[derive(Clone)]
pub struct Tls(Arc<ArcSwap<ServerConfig>>);

impl Tls {
    /// Starts with this.
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Self(Arc::new(ArcSwap::new(config)))
    }

    /// Replaces it for the connections to come; open ones go on.
    pub(crate) fn store(&self, config: Arc<ServerConfig>) {
        self.0.store(config);
    }

    /// What to accept a connection with.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.load_full())
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
