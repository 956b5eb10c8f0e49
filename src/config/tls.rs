//! The section `[grpc.tls]`: which files there are, and what they hold.

use std::path::PathBuf;

use secrecy::ExposeSecret;

use super::problem::Collector;
use super::reader::Table;
use super::secrets::{Fingerprint, Reader};
use crate::tls::{self, ClientAuth, Served};

/// The files of a port's TLS, all of them PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// What the keys of messages begin with.
    pub(super) prefix: String,
    /// The port's certificate, and those between it and its authority.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
    /// The authorities of client certificates; `None` if no certificates are asked for.
    pub client_ca_file: Option<PathBuf>,
    /// Whether clients must present one.
    pub client_auth: ClientAuth,
}

impl TlsFiles {
    /// Reads the section; `None` if it names no files.
    pub(super) fn read(mut table: Table<'_>) -> Option<Self> {
        let mut file =
            |key| table.optional_text(key).filter(|path| !path.trim().is_empty()).map(PathBuf::from);
        let (cert, key, client_ca_file) = (file("cert_file"), file("key_file"), file("client_ca_file"));
        let words = [("optional", ClientAuth::Optional), ("required", ClientAuth::Required)];
        let client_auth = table.word("client_auth", &words, ClientAuth::Optional);
        let is_required = client_auth == ClientAuth::Required;
        let missing = |key: &str, text: &str| table.problems().report(table.path(key), text);
        let is_any = key.is_some() || client_ca_file.is_some() || is_required;
        if cert.is_none() && is_any {
            missing(
                "cert_file",
                "is empty, and without it there is no TLS; name the port's certificate, or no other file",
            );
        }
        if cert.is_some() && key.is_none() {
            missing("key_file", "is empty; name the private key of cert_file");
        }
        if cert.is_some() && is_required && client_ca_file.is_none() {
            missing(
                "client_ca_file",
                "is empty; client_auth = \"required\" needs the authorities of the clients",
            );
        }
        let prefix = table.path("");
        table.finish();
        // Also what was just reported, so that nothing is said to be missing that was named.
        let is_wanted = cert.is_some() || is_any;
        let (cert_file, key_file) = (cert.unwrap_or_default(), key.unwrap_or_default());
        is_wanted.then_some(Self { prefix, cert_file, key_file, client_ca_file, client_auth })
    }

    /// Reads the files; `None`, and a report, if they cannot be used together.
    pub(super) fn resolve(&self, problems: &Collector) -> (Option<Served>, Fingerprint) {
        let mut reader = Reader::new(problems);
        let report = |key: &str, path: &PathBuf, text: String| {
            problems.report_value(format!("{}{key}", self.prefix), path.display().to_string(), text);
        };
        let mut part = |key: &str, path: &PathBuf| reader.file(&format!("{}{key}", self.prefix), path);
        let (cert, key) = (part("cert_file", &self.cert_file), part("key_file", &self.key_file));
        let client_ca = self.client_ca_file.as_ref().map(|path| (path, part("client_ca_file", path)));
        let fingerprint = reader.fingerprint();

        let certificates = |key, path, text: &secrecy::SecretString| {
            tls::certificates(text.expose_secret()).map_err(|text| report(key, path, text)).ok()
        };
        let chain = cert.and_then(|text| certificates("cert_file", &self.cert_file, &text));
        let key = key.and_then(|text| {
            tls::private_key(text.expose_secret())
                .map_err(|text| report("key_file", &self.key_file, text))
                .ok()
        });
        let clients = client_ca.map(|(path, text)| {
            text.and_then(|text| certificates("client_ca_file", path, &text))
                .map(|all| (all, self.client_auth))
        });
        // Something of it was reported.
        let (Some(chain), Some(key)) = (chain, key) else { return (None, fingerprint) };
        if clients.as_ref().is_some_and(Option::is_none) {
            return (None, fingerprint);
        }
        let config = tls::server_config(chain, key, clients.flatten()).map_err(|error| match error {
            tls::Error::Certificate(text) => report("cert_file", &self.cert_file, text),
            tls::Error::Key(text) => report("key_file", &self.key_file, text),
            tls::Error::ClientCa(text) => {
                report("client_ca_file", self.client_ca_file.as_ref().unwrap_or(&self.cert_file), text);
            }
        });
        (config.ok(), fingerprint)
    }
}
