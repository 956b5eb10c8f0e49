//! The three streams: what they must be like, and what is said when a server or a stream is not.
//!
//! A setting that could lose what was acknowledged is refused, never corrected: somebody set it, and shall know.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::wire::{Fault, NO_FILES, Wire};
use super::{Config, OpenError};

/// The first server with atomic batches.
const SERVER_MIN: (u64, u64) = (2, 12);

/// What one message must be able to carry: the largest webhook, as text and typed.
const PAYLOAD_MIN: usize = 8 * 1024 * 1024;

/// Which state of the two streams belongs together.
const EPOCH: &str = "whatsapp-gateway-epoch";

const STREAM_NOT_FOUND: u64 = 10_059;
const STREAM_NAME_IN_USE: u64 = 10_058;

/// The names of a prefix.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub(super) events: String,
    pub(super) state: String,
    pub(super) lease: String,
    prefix: String,
}

impl Names {
    pub(super) fn of(prefix: &str) -> Self {
        let name = |kind: &str| format!("{prefix}_{kind}");
        Self { events: name("events"), state: name("state"), lease: name("lease"), prefix: prefix.to_owned() }
    }

    /// The subject of something in a stream.
    pub(super) fn subject(&self, kind: Kind, of: &str) -> String {
        format!("{}.{}.{of}", self.prefix, kind.word())
    }

    /// The subject of something that replicas call out and no stream keeps.
    pub(super) fn news(&self, of: &str) -> String {
        format!("{}.news.{of}", self.prefix)
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    fn stream(&self, kind: Kind) -> &str {
        match kind {
            Kind::Events => &self.events,
            Kind::State => &self.state,
            Kind::Lease => &self.lease,
        }
    }
}

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One message for each event; the subject is its id, which is how duplicates are known.
    Events,
    /// The newest value of each key.
    State,
    /// Who leads on the prefix.
    Lease,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::State => "state",
            Self::Lease => "lease",
        }
    }
}

/// A stream as the server describes it.
#[derive(Debug, Deserialize)]
pub(super) struct Info {
    config: Map<String, Value>,
    pub(super) state: StreamState,
}

/// What a stream holds.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct StreamState {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
}

impl Info {
    /// The identity of the log that the stream belongs to.
    pub(super) fn epoch(&self) -> Option<[u8; 8]> {
        let text = self.config.get("metadata")?.get(EPOCH)?.as_str()?;
        let mut epoch = [0; 8];
        hex::decode_to_slice(text, &mut epoch).ok()?;
        Some(epoch)
    }
}

/// What is known of the servers through the one that answers. The others, and how often they sync, no client can ask.
pub(super) async fn check_server(wire: &Wire) -> Result<(), OpenError> {
    let server = wire.client().server_info();
    fit(&server.server_name, &server.version, server.max_payload)?;
    match wire.ask::<Value>("INFO", &Value::Null).await {
        Ok(_) => Ok(()),
        Err(fault @ (Fault::Away(_) | Fault::Api { .. })) => Err(OpenError::Unfit(format!(
            "NATS has no JetStream for this user: {fault}; set jetstream {{ store_dir: …, sync_interval: always }} in the \
             configuration of every server, and jetstream: enabled for the account"
        ))),
        Err(fault) => Err(fault.into()),
    }
}

/// Whether a server of that version, which takes messages of that size, will do.
pub(super) fn fit(name: &str, version: &str, max_payload: usize) -> Result<(), OpenError> {
    let mut parts = version.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if (major, minor) < SERVER_MIN {
        return Err(OpenError::Unfit(format!(
            "NATS server {name} is version {version}, which cannot store several events at one moment; install {}.{} or newer on \
             every server",
            SERVER_MIN.0, SERVER_MIN.1
        )));
    }
    if max_payload < PAYLOAD_MIN {
        return Err(OpenError::Unfit(format!(
            "NATS server {name} takes messages up to {max_payload} bytes, and a webhook may need {PAYLOAD_MIN}; set max_payload: 8MB \
             in the configuration of every server"
        )));
    }
    Ok(())
}

/// Creates what is missing, checks what is there, and returns events and state.
pub(super) async fn ensure(
    wire: &Wire,
    names: &Names,
    config: &Config,
    fresh_epoch: [u8; 8],
) -> Result<(Info, Info), OpenError> {
    let found = (info(wire, &names.events).await?, info(wire, &names.state).await?);
    let (events, state) = (&names.events, &names.state);
    match &found {
        (None, Some(_)) => return Err(torn(events, state)),
        (Some(log), None) if log.state.last_seq > 0 => return Err(torn(state, events)),
        _ => {}
    }
    let epoch = found.0.as_ref().and_then(Info::epoch).unwrap_or(fresh_epoch);
    let log = ensure_one(wire, names, Kind::Events, config, epoch).await?;
    // Another process may have been faster by a moment: its word counts.
    let epoch = log.epoch().unwrap_or(epoch);
    let state = ensure_one(wire, names, Kind::State, config, epoch).await?;
    ensure_one(wire, names, Kind::Lease, config, epoch).await?;
    if log.epoch().is_none() || log.epoch() != state.epoch() {
        return Err(OpenError::Unfit(format!(
            "the streams {} and {} do not belong together: one was deleted and made anew, or restored without the other; \
             restore both from the same backup, or set another storage.nats.prefix",
            names.events, names.state
        )));
    }
    Ok((log, state))
}

fn torn(missing: &str, there: &str) -> OpenError {
    OpenError::Unfit(format!(
        "the stream {missing} is missing although {there} is there, and both belong together; restore {missing} from a \
         backup, or set another storage.nats.prefix to begin anew"
    ))
}

async fn ensure_one(
    wire: &Wire,
    names: &Names,
    kind: Kind,
    config: &Config,
    epoch: [u8; 8],
) -> Result<Info, OpenError> {
    let name = names.stream(kind);
    let found = info(wire, name).await?;
    let info = match found {
        Some(info) => info,
        None => create(wire, names, kind, config, epoch).await?,
    };
    let checked = check(name, &info, &wanted(names, kind, config));
    checked.map_err(|reason| {
        OpenError::Unfit(if kind == Kind::Lease { renewable(name, &reason) } else { reason })
    })?;
    Ok(info)
}

/// What is said of a lease that is not as it should be: nothing in it is worth keeping.
fn renewable(name: &str, reason: &str) -> String {
    let what = reason.split_once(':').map_or(reason, |(what, _)| what);
    format!(
        "{what}: another version made it, or somebody has altered it; remove it with `nats stream rm {name} --force`, which \
         loses nothing: the gateway makes it anew"
    )
}

async fn create(
    wire: &Wire,
    names: &Names,
    kind: Kind,
    config: &Config,
    epoch: [u8; 8],
) -> Result<Info, OpenError> {
    let name = names.stream(kind);
    let mut settings: Map<_, _> = wanted(names, kind, config).into_iter().collect();
    settings.insert("name".to_owned(), json!(name));
    settings.insert("metadata".to_owned(), json!({EPOCH: hex::encode(epoch)}));
    let query = Value::Object(settings);
    match wire.ask::<Info>(&format!("STREAM.CREATE.{name}"), &query).await {
        Ok(info) => Ok(info),
        Err(Fault::Api { err_code: STREAM_NAME_IN_USE, .. }) => {
            Ok(info(wire, name).await?.ok_or_else(|| {
                Fault::Away(format!(
                    "the stream {name} exists and cannot be read; allow $JS.API.STREAM.INFO.{name}"
                ))
            })?)
        }
        Err(fault @ Fault::Api { err_code: NO_FILES, .. }) => Err(OpenError::Unfit(format!(
            "the stream {name} cannot be created: {fault}; the log of nats-server says why, which is mostly its store_dir"
        ))),
        Err(fault @ Fault::Api { .. }) => Err(OpenError::Unfit(format!(
            "the stream {name} cannot be created with {} replicas and {} bytes: {fault}; give NATS that many servers and that \
             room, or change storage.nats.replicas or storage.size_max",
            config.replicas, config.size_max
        ))),
        Err(fault) => Err(fault.into()),
    }
}

/// The stream, if there is one.
pub(super) async fn info(wire: &Wire, name: &str) -> Result<Option<Info>, Fault> {
    match wire.ask::<Info>(&format!("STREAM.INFO.{name}"), &Value::Null).await {
        Ok(info) => Ok(Some(info)),
        Err(Fault::Api { err_code: STREAM_NOT_FOUND, .. }) => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// Checks again what was checked at the start.
pub(super) fn check_running(
    names: &Names,
    kind: Kind,
    config: &Config,
    found: Option<&Info>,
    epoch: [u8; 8],
) -> Result<(), String> {
    let name = names.stream(kind);
    let Some(info) = found else { return Err(format!("the stream {name} was deleted")) };
    if info.epoch() != Some(epoch) {
        return Err(format!("the stream {name} was deleted and made anew"));
    }
    check(name, info, &wanted(names, kind, config))
}

/// Every setting that decides whether something is lost.
fn wanted(names: &Names, kind: Kind, config: &Config) -> BTreeMap<String, Value> {
    let subject = match kind {
        Kind::Events => names.subject(kind, "*"),
        Kind::State => names.subject(kind, "*.*"),
        Kind::Lease => names.subject(kind, "holder"),
    };
    let is_lease = kind == Kind::Lease;
    let max_bytes = if kind == Kind::Events { json!(config.size_max) } else { json!(-1) };
    let settings = json!({
        "subjects": [subject],
        "retention": "limits",
        "storage": "file",
        "num_replicas": config.replicas,
        // With "old" the server makes room by deleting what nobody has read.
        "discard": "new",
        "max_bytes": max_bytes,
        "max_msgs": -1,
        "max_msg_size": -1,
        "max_consumers": -1,
        // Age is the gateway's business, which knows what it still needs. A lease gets old by everybody's own clock.
        "max_age": 0,
        "max_msgs_per_subject": if kind == Kind::Events { -1 } else { 1 },
        "allow_atomic": !is_lease,
        "allow_direct": !is_lease,
        "allow_msg_ttl": kind == Kind::State,
        "deny_delete": !is_lease,
        "deny_purge": false,
        "sealed": false,
        "no_ack": false,
    });
    let Value::Object(settings) = settings else { return BTreeMap::new() };
    settings.into_iter().collect()
}

fn check(name: &str, info: &Info, wanted: &BTreeMap<String, Value>) -> Result<(), String> {
    for (setting, wanted) in wanted {
        let found = info.config.get(setting).cloned().unwrap_or_else(|| absent(wanted));
        if found != *wanted {
            return Err(format!(
                "the stream {name} has {setting} = {found}, and the gateway needs {wanted}: with the former, acknowledged events \
                 could be lost, or the configuration says otherwise; put it back with `nats stream edit {name}`, or change \
                 storage.nats"
            ));
        }
    }
    // With these it is not the stream of this gateway alone, or answers before it has stored.
    for setting in ["mirror", "sources", "subject_transform", "subject_delete_marker_ttl"] {
        if let Some(found) = info.config.get(setting).filter(|found| !is_nothing(found)) {
            return Err(format!(
                "the stream {name} has {setting} = {found}, which the gateway does not set; remove it with `nats stream edit {name}`"
            ));
        }
    }
    match info.config.get("persist_mode").and_then(Value::as_str) {
        None | Some("" | "default") => Ok(()),
        Some(mode) => Err(format!(
            "the stream {name} has persist_mode = {mode:?}: the server then acknowledges before it has written; make the stream \
             anew without it"
        )),
    }
}

/// What a setting is that the server leaves out.
fn absent(like: &Value) -> Value {
    match like {
        Value::Bool(_) => json!(false),
        // Only `max_msg_size` is left out, and means no limit.
        Value::Number(_) => json!(-1),
        Value::Null | Value::String(_) | Value::Array(_) | Value::Object(_) => Value::Null,
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(values) => values.is_empty(),
        Value::Number(number) => number.as_u64() == Some(0),
        Value::Bool(_) | Value::String(_) | Value::Object(_) => false,
    }
}
