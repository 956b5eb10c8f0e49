//! The section `[storage.nats]`: which servers, as whom, and what to keep there.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::reader::Table;
use super::secrets::Reader;
use crate::storage;

/// Bytes that the names of streams and subjects may begin with.
const PREFIX_MAX: usize = 32;

/// Reads the section. What is missing is reported only if the backend is used.
pub(super) fn read(
    mut table: Table<'_>,
    is_used: bool,
    (retention, size_max): (Duration, u64),
) -> storage::NatsConfig {
    let urls = urls(&mut table, is_used);
    let credentials = credentials(&mut table, is_used);
    let mut file = |key| table.optional_text(key).filter(|path| !path.trim().is_empty()).map(PathBuf::from);
    let (ca_file, cert, key) = (file("ca_file"), file("cert_file"), file("key_file"));
    if cert.is_some() != key.is_some() {
        let (there, missing) =
            if cert.is_some() { ("cert_file", "key_file") } else { ("key_file", "cert_file") };
        let text = format!("is empty although {there} is set; a client certificate is both or none");
        table.problems().report(table.path(missing), text);
    }
    let tls = storage::NatsTlsConfig { ca_file, client: cert.zip(key) };
    for (key, path) in [
        ("ca_file", tls.ca_file.as_ref()),
        ("cert_file", tls.client.as_ref().map(|(cert, _)| cert)),
        ("key_file", tls.client.as_ref().map(|(_, key)| key)),
    ] {
        if let Some(path) = path.filter(|_| is_used) {
            // Read here only so that it is said in time when it cannot be.
            drop(Reader::new(table.problems()).file(&table.path(key), path));
        }
    }
    let replicas = table.integer("replicas", 1..=3);
    if replicas == 2 {
        let text = "must be 1 or 3: two servers stop when one of them does, as one server does";
        table.problems().report_value(table.path("replicas"), "2", text);
    }
    let prefix = table.text("prefix");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if prefix.len() > PREFIX_MAX || !prefix.chars().all(is_plain) {
        let text = "must be 1 to 32 letters, digits, '_' and '-': streams and subjects begin with it";
        table.problems().report_value(table.path("prefix"), prefix.clone(), text);
    }
    table.finish();
    let replicas = u8::try_from(replicas).unwrap_or(1);
    storage::NatsConfig { urls, credentials, tls, prefix, replicas, retention, size_max }
}

fn urls(table: &mut Table<'_>, is_used: bool) -> Vec<String> {
    let urls = table.texts("urls");
    if is_used && urls.is_empty() {
        table.problems().report(table.path("urls"), "is empty; name the servers: [\"nats://nats-0:4222\"]");
    }
    for (index, url) in urls.iter().enumerate() {
        let parsed = url::Url::parse(url).ok();
        let path = table.path(&format!("urls[{index}]"));
        match parsed {
            Some(url) if !url.username().is_empty() || url.password().is_some() => {
                let text = "holds a user or a password; write them into user and password_file, so that they stay out of logs";
                table.problems().report(path, text);
            }
            Some(url) if matches!(url.scheme(), "nats" | "tls") && url.has_host() => {}
            _ => {
                let text = "must be nats:// or tls:// and a host, such as \"nats://nats-0:4222\"";
                table.problems().report_value(path, url.clone(), text);
            }
        }
    }
    urls
}

fn credentials(table: &mut Table<'_>, is_used: bool) -> storage::NatsCredentialsConfig {
    let mut text = |key| table.optional_text(key).filter(|text| !text.trim().is_empty());
    let (file, user, password_file) = (text("credentials_file"), text("user"), text("password_file"));
    let report = |key: &str, text: &str| table.problems().report(table.path(key), text);
    let mut reader = Reader::new(table.problems());
    let mut secret = |key: &str, path: &PathBuf| {
        if is_used { reader.file(&table.path(key), path) } else { None }
    };
    match (file, user, password_file) {
        (None, None, None) => storage::NatsCredentialsConfig::None,
        (Some(file), None, None) => {
            let file = PathBuf::from(file);
            drop(secret("credentials_file", &file));
            storage::NatsCredentialsConfig::File(file)
        }
        (None, Some(user), Some(password_file)) => {
            let password_file = PathBuf::from(password_file);
            // Editors and `kubectl create secret --from-file` leave a line end.
            let password = secret("password_file", &password_file).unwrap_or_default();
            let password = SecretString::from(password.expose_secret().trim());
            storage::NatsCredentialsConfig::User { user, password_file, password }
        }
        (Some(_), _, _) => {
            report(
                "credentials_file",
                "is set beside user or password_file; the gateway is one user: keep one of them",
            );
            storage::NatsCredentialsConfig::None
        }
        (None, Some(_), None) => {
            report("password_file", "is empty; name the file with the password of user");
            storage::NatsCredentialsConfig::None
        }
        (None, None, Some(_)) => {
            report("user", "is empty; name the user whose password is in password_file");
            storage::NatsCredentialsConfig::None
        }
    }
}
