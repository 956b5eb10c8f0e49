//! Shows the configuration in effect as TOML that could be read back, without its secrets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::Config;
use super::accounts::SecretSource;
use super::jwt::{IssuerEntry, Place};
use super::layers::toml_text;
use super::units::{format_duration, format_size};
use crate::domain::rights::Rights;
use crate::storage;
use crate::telemetry::{LogFormat, Protocol};
use crate::tls::ClientAuth;

/// Of a section's hash, which tells two apart and hides nothing.
const SETTINGS_HASH_BYTES: usize = 6;

/// One section under construction.
struct Section(String);

impl Section {
    fn new(heading: &str) -> Self {
        Self(format!("{heading}\n"))
    }

    /// A line whose value is written as TOML already.
    fn raw(&mut self, key: &str, value: impl std::fmt::Display) -> &mut Self {
        self.0.push_str(key);
        self.0.push_str(" = ");
        self.0.push_str(&value.to_string());
        self.0.push('\n');
        self
    }

    fn text(&mut self, key: &str, text: &str) -> &mut Self {
        self.raw(key, toml_text(text))
    }

    fn duration(&mut self, key: &str, duration: std::time::Duration) -> &mut Self {
        self.text(key, &format_duration(duration))
    }

    fn size(&mut self, key: &str, bytes: u64) -> &mut Self {
        self.text(key, &format_size(bytes))
    }

    fn texts<'a>(&mut self, key: &str, texts: impl Iterator<Item = &'a str>) -> &mut Self {
        let texts: Vec<_> = texts.map(toml_text).collect();
        self.raw(key, format!("[{}]", texts.join(", ")))
    }

    /// A secret: the path of its file, or nothing but its origin, and its length.
    fn secret(&mut self, key: &str, source: &SecretSource, secret: &SecretString) -> &mut Self {
        let redacted = redacted(source, secret);
        match source {
            SecretSource::File(path) => self.raw(key, format!("{} # {redacted}", path_text(path))),
            SecretSource::Given { .. } => self.raw(&format!("# {}", key.trim_end_matches("_file")), redacted),
        }
    }
}

pub(super) fn print(config: &Config) -> String {
    let mut sections =
        vec![grpc(config), grpc_tls(config), webhook(config), admin(config), cloud_api(config)];
    sections.extend([sending(config), media(config), storage(config)]);
    sections.extend(nats(config));
    sections.extend(peers(config));
    sections.extend([events(config), shutdown(config), telemetry(config)]);
    sections.extend(accounts(config));
    sections.into_iter().map(|section| section.0).collect::<Vec<_>>().join("\n")
}

/// What all replicas must have alike: by what the leader sends, and for whom.
pub(super) fn settings(config: &Config) -> String {
    let mut sections = vec![cloud_api(config), sending(config), media(config), storage(config)];
    sections.extend(accounts(config));
    let mut hashes: BTreeMap<String, Sha256> = BTreeMap::new();
    for Section(text) in sections {
        let (heading, lines) = text.split_once('\n').unwrap_or_default();
        hashes.entry(heading.trim_matches(['[', ']']).to_owned()).or_default().update(lines);
    }
    let hash = |(section, hash): (String, Sha256)| {
        format!("{section}={}", hex::encode(hash.finalize().get(..SETTINGS_HASH_BYTES).unwrap_or_default()))
    };
    hashes.into_iter().map(hash).collect::<Vec<_>>().join(" ")
}

/// Apps, accounts, callers and issuers.
fn accounts(config: &Config) -> Vec<Section> {
    let mut sections = Vec::new();
    let snapshot = config.tenants().load();
    let accounts = &config.accounts;
    sections.extend(accounts.apps.iter().zip(snapshot.apps()).map(|(entry, app)| {
        let mut section = Section::new("[[apps]]");
        section.text("id", &app.id);
        app_secrets(&mut section, &entry.secrets, &app.secrets);
        section.secret("verify_token_file", &entry.verify_token, &app.verify_token);
        section
    }));
    sections.extend(accounts.wabas.iter().zip(snapshot.wabas()).map(|(entry, waba)| {
        let mut section = Section::new("[[wabas]]");
        section.text("id", &waba.id).text("app_id", &waba.app_id);
        section.secret("access_token_file", &entry.access_token, &waba.access_token);
        section.texts("phone_number_ids", waba.phone_number_ids.iter().map(|number| &**number));
        section
    }));
    sections.extend(accounts.callers.iter().zip(&snapshot.callers).map(|(entry, caller)| {
        let mut section = Section::new("[[callers]]");
        section.text("name", &caller.name);
        let tokens = caller.tokens.len();
        match &entry.tokens_file {
            Some(path) => {
                section.raw("token_sha256_file", format!("{} # <redacted, {tokens} hashes>", path_text(path)))
            }
            None => section.raw("# token_sha256", format!("<redacted, {tokens} hashes>")),
        };
        if !entry.identities.is_empty() {
            let names: Vec<_> = entry.identities.iter().map(ToString::to_string).collect();
            section.texts("identities", names.iter().map(String::as_str));
        }
        if let Some(first) = entry.subjects.first() {
            section.texts("jwt_subjects", entry.subjects.iter().map(|subject| subject.name.as_str()));
            section.text("jwt_issuer", &first.issuer);
        }
        rights(&mut section, &caller.rights);
        section
    }));
    sections.extend(config.jwt_issuers.iter().map(jwt_issuer));
    sections
}

fn jwt_issuer(entry: &IssuerEntry) -> Section {
    let mut section = Section::new("[[jwt_issuers]]");
    section.text("issuer", &entry.issuer);
    section.texts("audiences", entry.audiences.iter().map(String::as_str));
    section.duration("leeway", entry.leeway);
    match &entry.place {
        Place::File(path) => {
            section.raw("jwks_file", path_text(path));
        }
        Place::Url { url, ca_file, token_file, .. } => {
            section.text("jwks_url", url.as_str());
            for (key, file) in [("jwks_ca_file", ca_file), ("jwks_token_file", token_file)] {
                if let Some(path) = file {
                    section.raw(key, path_text(path));
                }
            }
        }
    }
    section
}

fn rights(section: &mut Section, rights: &Rights) {
    let lists = [
        ("methods", &rights.methods),
        ("phone_numbers", &rights.phone_numbers),
        ("wabas", &rights.wabas),
        ("event_types", &rights.event_types),
    ];
    for (key, list) in lists {
        section.texts(key, list.iter().map(String::as_str));
    }
    let quotas = [("sends_per_second", rights.sends_per_second), ("streams_max", rights.streams_max)];
    for (key, quota) in quotas {
        if let Some(quota) = quota {
            section.raw(key, quota);
        }
    }
}

fn grpc(Config { grpc, .. }: &Config) -> Section {
    let mut section = Section::new("[grpc]");
    section
        .text("listen", &grpc.listen.to_string())
        .raw("insecure", grpc.insecure)
        .raw("connections_max", grpc.connections_max)
        .raw("connections_per_peer_max", grpc.connections_per_peer_max.unwrap_or(0))
        .duration("idle_timeout", grpc.idle_timeout)
        .raw("streams_per_connection_max", grpc.streams_per_connection_max)
        .size("message_bytes_max", bytes(grpc.message_bytes_max))
        .raw("reflection", grpc.reflection)
        .raw(
            "callers_file",
            grpc.callers_file.as_ref().map_or_else(|| toml_text(""), |path| path_text(path)),
        );
    section
}

fn grpc_tls(Config { grpc, .. }: &Config) -> Section {
    let mut section = Section::new("[grpc.tls]");
    let files = grpc.tls.as_ref();
    let path = |path: Option<&PathBuf>| path.map_or_else(|| toml_text(""), |path| path_text(path));
    let client_auth = match files.map(|files| files.client_auth) {
        Some(ClientAuth::Required) => "required",
        Some(ClientAuth::Optional) | None => "optional",
    };
    section
        .raw("cert_file", path(files.map(|files| &files.cert_file)))
        .raw("key_file", path(files.map(|files| &files.key_file)))
        .raw("client_ca_file", path(files.and_then(|files| files.client_ca_file.as_ref())))
        .text("client_auth", client_auth);
    section
}

fn webhook(Config { webhook, .. }: &Config) -> Section {
    let mut section = Section::new("[webhook]");
    section
        .text("listen", &webhook.listen.to_string())
        .text("path", &webhook.path)
        .size("body_bytes_max", bytes(webhook.body_bytes_max))
        .size("bodies_bytes_max", bytes(webhook.bodies_bytes_max))
        .duration("body_timeout", webhook.body_timeout)
        .duration("header_timeout", webhook.header_timeout)
        .duration("idle_timeout", webhook.idle_timeout)
        .raw("connections_max", webhook.connections_max)
        .raw("connections_per_peer_max", webhook.connections_per_peer_max.unwrap_or(0));
    section
}

fn admin(config: &Config) -> Section {
    let mut section = Section::new("[admin]");
    section.text("listen", &config.admin.listen.to_string());
    section
}

fn cloud_api(Config { cloud_api, .. }: &Config) -> Section {
    let mut section = Section::new("[cloud_api]");
    section
        .text("graph_url", &cloud_api.graph_url)
        .text("api_url", &cloud_api.api_url)
        .text("version", &cloud_api.version)
        .texts("media_hosts", cloud_api.media_hosts.iter().map(String::as_str))
        .duration("connect_timeout", cloud_api.connect_timeout)
        .duration("request_timeout", cloud_api.request_timeout)
        .raw("connections_idle_max", cloud_api.idle_connections_max)
        .raw("send_traceparent", cloud_api.sends_traceparent);
    section
}

fn sending(Config { sending, .. }: &Config) -> Section {
    let mut section = Section::new("[sending]");
    section
        .duration("request_id_kept", sending.request_id_kept)
        .duration("resend_after", sending.resend_after)
        .raw("messages_per_second", sending.messages_per_second.unwrap_or(0))
        .duration("probe_interval", sending.probe_interval)
        .raw("pace_recipients", sending.pace_recipients)
        .duration("window_known_after", sending.window_known_after)
        .raw("template_preflight", sending.template_preflight)
        .raw("queue_max", sending.queue_max)
        .raw("streams_max", sending.streams_max);
    section
}

fn media(Config { media, .. }: &Config) -> Section {
    let mut section = Section::new("[media]");
    section
        .duration("stall_timeout", media.stall_timeout)
        .duration("transfer_timeout", media.transfer_timeout)
        .raw("transfers_max", media.transfers_max);
    section
}

fn storage(config: &Config) -> Section {
    let mut section = Section::new("[storage]");
    match &config.storage {
        storage::Config::Embedded(storage::EmbeddedConfig { data_dir, retention, size_max, free_min }) => {
            section
                .text("backend", "embedded")
                .raw("data_dir", path_text(data_dir))
                .duration("retention", *retention)
                .size("size_max", *size_max)
                .size("free_min", *free_min);
        }
        storage::Config::Nats(nats) => {
            section
                .text("backend", "nats")
                .duration("retention", nats.retention)
                .size("size_max", nats.size_max);
        }
    }
    section
}

/// `[storage.nats]`, if that is used.
fn nats(config: &Config) -> Option<Section> {
    let storage::Config::Nats(nats) = &config.storage else { return None };
    let mut section = Section::new("[storage.nats]");
    section.texts("urls", nats.urls.iter().map(String::as_str));
    match &nats.credentials {
        storage::NatsCredentialsConfig::None => {}
        storage::NatsCredentialsConfig::File(path) => drop(section.raw("credentials_file", path_text(path))),
        storage::NatsCredentialsConfig::User { user, password_file, .. } => {
            section.text("user", user).raw("password_file", path_text(password_file));
        }
    }
    if let Some(path) = &nats.tls.ca_file {
        section.raw("ca_file", path_text(path));
    }
    if let Some((cert, key)) = &nats.tls.client {
        section.raw("cert_file", path_text(cert)).raw("key_file", path_text(key));
    }
    section.raw("replicas", nats.replicas).text("prefix", &nats.prefix);
    Some(section)
}

/// `[peers]`, if there can be others.
fn peers(config: &Config) -> Option<Section> {
    let peers = config.peers.as_ref()?;
    let mut section = Section::new("[peers]");
    section
        .text("listen", &peers.listen.to_string())
        .text("advertise", peers.advertise.as_deref().unwrap_or_default());
    Some(section)
}

fn events(Config { events, .. }: &Config) -> Section {
    let mut section = Section::new("[events]");
    section
        .duration("send_timeout", events.send_timeout)
        .raw("streams_max", events.streams_max)
        .duration("rotation", events.rotation);
    section
}

fn shutdown(config: &Config) -> Section {
    let mut section = Section::new("[shutdown]");
    section.duration("delay", config.shutdown.delay).duration("drain", config.shutdown.drain);
    section
}

fn telemetry(Config { telemetry, .. }: &Config) -> Section {
    let mut section = Section::new("[telemetry]");
    let format = match telemetry.log_format {
        LogFormat::Json => "json",
        LogFormat::Text => "text",
    };
    let traces = &telemetry.traces;
    let path = |file: &Option<PathBuf>| file.as_deref().map_or_else(|| toml_text(""), path_text);
    section
        .text("log_format", format)
        .text("log_level", &telemetry.log_level)
        .raw("metrics", telemetry.metrics)
        .text("otlp_endpoint", traces.endpoint.as_deref().unwrap_or_default())
        .text("otlp_protocol", if traces.protocol == Protocol::Grpc { "grpc" } else { "http" })
        .raw("otlp_headers_file", path(&traces.headers_file))
        .raw("otlp_ca_file", path(&traces.ca_file))
        .raw("sampling_ratio", format_args!("{:?}", traces.sampling_ratio))
        .raw("sampling_follows_caller", traces.follows_caller);
    section
}

fn app_secrets(section: &mut Section, sources: &[SecretSource], secrets: &[SecretString]) {
    let redacted: Vec<_> =
        sources.iter().zip(secrets).map(|(source, secret)| redacted(source, secret)).collect();
    let path = |source: &SecretSource| match source {
        SecretSource::File(path) => Some(path_text(path)),
        SecretSource::Given { .. } => None,
    };
    let paths: Vec<_> = sources.iter().filter_map(path).collect();
    if paths.is_empty() {
        section.raw("# secret", redacted.join(", "));
    } else {
        section.raw("secret_files", format!("[{}] # {}", paths.join(", "), redacted.join(", ")));
    }
}

fn redacted(source: &SecretSource, secret: &SecretString) -> String {
    format!("<redacted, {} bytes, from {source}>", secret.expose_secret().len())
}

fn path_text(path: &Path) -> String {
    toml_text(&path.to_string_lossy())
}

fn bytes(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
