//! `[[jwt_issuers]]`: whose JWTs are believed, and where their keys are.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use url::{Host, Url};

use super::problem::Collector;
use super::reader::Table;
use super::secrets::{Fingerprint, Reader};
use crate::jwt::{Issuer, Issuers, KeySet, Keys, Source};
use crate::tls;

/// How far the clock of an issuer may be from ours, unless it is said.
const LEEWAY: Duration = Duration::from_secs(30);
const LEEWAY_MAX: Duration = Duration::from_mins(5);

/// One issuer as configured, with its keys.
#[derive(Debug, Clone)]
pub(super) struct IssuerEntry {
    /// What the keys of messages begin with.
    pub(super) prefix: String,
    pub(super) issuer: Arc<str>,
    pub(super) audiences: Vec<String>,
    pub(super) leeway: Duration,
    pub(super) place: Place,
    pub(super) keys: Keys,
    /// Of the file at the start.
    pub(super) fingerprint: Fingerprint,
}

/// Where the keys are.
#[derive(Debug, Clone)]
pub(super) enum Place {
    File(PathBuf),
    Url { url: Url, ca_file: Option<PathBuf>, ca_pem: String, token_file: Option<PathBuf> },
}

/// Reads `[[jwt_issuers]]` and the files that it names.
pub(super) fn read(root: &mut Table<'_>) -> Vec<IssuerEntry> {
    let problems = root.problems();
    let entries: Vec<_> = root.tables("jwt_issuers").into_iter().map(IssuerEntry::read).collect();
    let mut seen = HashSet::new();
    let is_named = |entry: &&IssuerEntry| !entry.issuer.is_empty();
    for entry in entries.iter().filter(is_named).filter(|entry| !seen.insert(Arc::clone(&entry.issuer))) {
        let text = "stands there twice; keep one, with all its audiences";
        problems.report_value(format!("{}issuer", entry.prefix), &*entry.issuer, text);
    }
    entries
}

/// What verifies tokens.
pub(super) fn issuers(entries: &[IssuerEntry]) -> Issuers {
    let issuer = |entry: &IssuerEntry| Issuer {
        name: Arc::clone(&entry.issuer),
        audiences: entry.audiences.clone(),
        leeway: entry.leeway,
        keys: entry.keys.clone(),
    };
    Issuers::new(entries.iter().map(issuer).collect())
}

/// The keys that stand behind URLs.
pub(super) fn sources(entries: &[IssuerEntry]) -> Vec<Source> {
    let source = |entry: &IssuerEntry| match &entry.place {
        Place::File(_) => None,
        Place::Url { url, ca_pem, token_file, .. } => Some(Source {
            issuer: Arc::clone(&entry.issuer),
            url: url.clone(),
            ca_pem: ca_pem.clone(),
            token_file: token_file.clone(),
            keys: entry.keys.clone(),
        }),
    };
    entries.iter().filter_map(source).collect()
}

/// The set in a file; `None`, and a report, if there is none.
pub(super) fn resolve(prefix: &str, path: &Path, problems: &Collector) -> (Option<KeySet>, Fingerprint) {
    let key = format!("{prefix}jwks_file");
    let mut reader = Reader::new(problems);
    let text = reader.file(&key, path);
    let set = text.and_then(|text| {
        let report = |text| problems.report_value(key, path.display().to_string(), text);
        KeySet::parse(text.expose_secret().as_bytes()).map_err(report).ok()
    });
    (set, reader.fingerprint())
}

impl IssuerEntry {
    fn read(mut table: Table<'_>) -> Self {
        let issuer = table.text("issuer");
        let audiences = table.texts("audiences");
        if audiences.is_empty() || audiences.iter().any(|audience| audience.trim().is_empty()) {
            let text = "must list what aud names this gateway by, so that tokens for others are of no use here: [\"whatsapp-gateway\"]";
            table.problems().report(table.path("audiences"), text);
        }
        let leeway = table.optional_duration("leeway", Duration::ZERO..=LEEWAY_MAX).unwrap_or(LEEWAY);
        let place = Place::read(&mut table);
        let prefix = table.path("");
        // What was reported is replaced by a stand-in.
        let (keys, fingerprint) = match &place {
            Some(Place::File(path)) => {
                let (set, fingerprint) = resolve(&prefix, path, table.problems());
                (set.map_or_else(Keys::of_url, Keys::of_file), fingerprint)
            }
            Some(Place::Url { .. }) | None => (Keys::of_url(), Fingerprint::default()),
        };
        table.finish();
        let place = place.unwrap_or_else(|| Place::File(PathBuf::new()));
        Self { prefix, issuer: issuer.into(), audiences, leeway, place, keys, fingerprint }
    }
}

impl Place {
    fn read(table: &mut Table<'_>) -> Option<Self> {
        let mut file = |key| table.optional_text(key).filter(|text| !text.trim().is_empty());
        let (jwks_file, jwks_url) = (file("jwks_file"), file("jwks_url"));
        let (ca_file, token_file) = (file("jwks_ca_file"), file("jwks_token_file"));
        let (problems, key) = (table.problems(), |key: &str| table.path(key));
        match (jwks_file, jwks_url) {
            (Some(path), None) => {
                for (name, _) in [("jwks_ca_file", &ca_file), ("jwks_token_file", &token_file)]
                    .into_iter()
                    .filter(|(_, file)| file.is_some())
                {
                    problems.report(key(name), "is for jwks_url; leave it out beside jwks_file");
                }
                Some(Self::File(path.into()))
            }
            (None, Some(text)) => {
                let url = Url::parse(text.trim()).ok().filter(is_trustworthy);
                if url.is_none() {
                    // It may have a password in it.
                    let text = "must be an https:// URL without user and password; http:// only to this machine, since \
                                whoever can change the keys on their way can make tokens";
                    problems.report(key("jwks_url"), text);
                }
                let ca_file = ca_file.map(PathBuf::from);
                let ca_pem = ca_file.as_ref().map(|path| ca_pem(&key("jwks_ca_file"), path, problems));
                let (ca_pem, token_file) = (ca_pem.unwrap_or_default(), token_file.map(PathBuf::from));
                url.map(|url| Self::Url { url, ca_file, ca_pem, token_file })
            }
            (Some(_), Some(_)) => {
                problems.report(key("jwks_url"), "stands beside jwks_file; name one of the two");
                None
            }
            (None, None) => {
                let text =
                    "is missing; name the file with the issuer's keys (JWK set), or its URL in jwks_url";
                problems.report(key("jwks_file"), text);
                None
            }
        }
    }
}

fn is_trustworthy(url: &Url) -> bool {
    let is_here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    let is_plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    is_plain && (url.scheme() == "https" || url.scheme() == "http" && is_here)
}

fn ca_pem(key: &str, path: &Path, problems: &Collector) -> String {
    let Some(text) = Reader::new(problems).file(key, path) else { return String::new() };
    if let Err(text) = tls::certificates(text.expose_secret()) {
        problems.report_value(key, path.display().to_string(), text);
    }
    text.expose_secret().to_owned()
}
