//! The start: a connection, streams that will do, and what they hold.

use std::error::Error as _;
use std::time::Duration;

use async_nats::{ConnectError, ConnectErrorKind, ConnectOptions};
use secrecy::ExposeSecret as _;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::index::Index;
use super::journal;
use super::records::{EntryWrite, Mark, Meta, decode_entries, decode_event, encode_entries, entry_token};
use super::streams::{self, Kind, Names, StreamState};
use super::wire::{Fault, Outgoing, Wire};
use super::{Config, Credentials, OpenError};
use crate::storage::event_log::Bounds;
use crate::storage::leadership::PeerKey;
use crate::telemetry::Seldom;

/// How long connecting may take.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Between two tries to reach servers that are not there.
const PAUSE_UNREACHED: Duration = Duration::from_millis(500);
/// Until a lost connection is tried again, at most.
const RECONNECT_MAX: Duration = Duration::from_millis(250);
/// After three times this a connection on which nothing comes counts as lost.
const PING: Duration = Duration::from_secs(3);
/// Until a first write is tried again.
const PAUSE: Duration = Duration::from_millis(100);
/// How long servers that start at the same time are waited for.
const START_MAX: Duration = Duration::from_secs(20);

/// What was found on the servers.
pub(super) struct Opened {
    pub(super) wire: Wire,
    pub(super) names: Names,
    pub(super) epoch: [u8; 8],
    pub(super) bounds: Bounds,
    /// Where the streams end and what they still hold.
    pub(super) events: StreamState,
    pub(super) index: Index,
    /// The newest message that is in the index.
    pub(super) state_last: u64,
    pub(super) meta: Meta,
    pub(super) peer_key: PeerKey,
    pub(super) append_ms: u64,
}

/// Connects, creates or checks the streams, and reads what has to be in memory. Others may be writing meanwhile. Servers that are
/// not there are waited for, `unreached_max` at most.
pub(super) async fn open_streams(config: &Config, unreached_max: Duration) -> Result<Opened, OpenError> {
    let wire = Wire::new(reached(config, unreached_max).await?);
    // For what is asked only now.
    let opening = wire.patient(START_MAX);
    streams::check_server(&opening).await?;
    let names = Names::of(&config.prefix);
    let fresh = Uuid::now_v7().as_u64_pair().1.to_be_bytes();
    let (events, state) = streams::ensure(&opening, &names, config, fresh).await?;
    let epoch = events.epoch().unwrap_or(fresh);
    let (events, index) = (events.state, Index::default());
    let (state_last, meta) = load_state(&opening, &names, state.state, &index).await?;
    let peer_key = match meta.peer_key {
        Some(bytes) => bytes.into(),
        None => first_peer_key(&opening, &names).await?,
    };
    let append_ms = newest_append_ms(&opening, &names, events).await?;
    let StreamState { first_seq, last_seq: tail, .. } = events;
    let bounds = Bounds { earliest: first_seq.max(meta.trimmed_through + 1).min(tail + 1), tail };
    Ok(Opened { wire, names, epoch, bounds, events, index, state_last, meta, peer_key, append_ms })
}

/// Tries until a server is there.
async fn reached(config: &Config, unreached_max: Duration) -> Result<async_nats::Client, OpenError> {
    let (started, seldom) = (Instant::now(), Seldom::default());
    loop {
        let error = match connected(config).await {
            Err(error @ OpenError::Absent { .. }) => error,
            outcome => return outcome,
        };
        if started.elapsed() >= unreached_max {
            return Err(error);
        }
        if let Some(tries) = seldom.count() {
            let waited_s = started.elapsed().as_secs();
            tracing::warn!(%error, tries, waited_s, at_most_s = unreached_max.as_secs(), "waiting for NATS");
        }
        sleep(PAUSE_UNREACHED).await;
    }
}

/// Whether no server is there at all, as while they start: one that refuses the gateway will do so again.
fn is_absence(error: &ConnectError) -> bool {
    use std::io::ErrorKind as Io;
    let mut source = error.source();
    let mut sources = std::iter::from_fn(|| {
        let this = source?;
        source = this.source();
        Some(this)
    });
    let io = sources.find_map(|error| error.downcast_ref::<std::io::Error>());
    match error.kind() {
        ConnectErrorKind::Dns | ConnectErrorKind::TimedOut => true,
        ConnectErrorKind::Io => io.is_some_and(|io| {
            matches!(
                io.kind(),
                Io::ConnectionRefused
                    | Io::HostUnreachable
                    | Io::NetworkUnreachable
                    | Io::NetworkDown
                    | Io::TimedOut
            )
        }),
        ConnectErrorKind::ServerParse
        | ConnectErrorKind::Authentication
        | ConnectErrorKind::AuthorizationViolation
        | ConnectErrorKind::Tls
        | ConnectErrorKind::MaxReconnects => false,
    }
}

pub(super) async fn connected(config: &Config) -> Result<async_nats::Client, OpenError> {
    let urls = config.urls.join(",");
    let unreachable = |cause: String| OpenError::Unreachable { urls: urls.clone(), cause };
    let mut options = ConnectOptions::new().name("whatsapp-gateway").max_reconnects(None);
    options = options
        .ping_interval(PING)
        .reconnect_delay_callback(|attempts| RECONNECT_MAX.min(Duration::from_millis(1 << attempts.min(10))));
    options = match &config.credentials {
        Credentials::None => options,
        Credentials::File(path) => {
            options.credentials_file(path).await.map_err(|error| unreachable(error.to_string()))?
        }
        Credentials::User { user, password, .. } => {
            options.user_and_password(user.clone(), password.expose_secret().to_owned())
        }
    };
    if let Some(path) = &config.tls.ca_file {
        options = options.add_root_certificates(path.clone()).require_tls(true);
    }
    if let Some((cert, key)) = &config.tls.client {
        options = options.add_client_certificate(cert.clone(), key.clone()).require_tls(true);
    }
    let connecting = timeout(CONNECT_MAX, options.connect(config.urls.clone())).await;
    let absent = |cause: String| OpenError::Absent { urls: urls.clone(), cause };
    let connected = connecting.map_err(|_| absent("no answer in 10 s".to_owned()))?;
    connected.map_err(|error| {
        if is_absence(&error) { absent(error.to_string()) } else { unreachable(error.to_string()) }
    })
}

/// Reads the state stream into the index; returns the number of the newest message in it, and what the engine keeps there.
async fn load_state(
    wire: &Wire,
    names: &Names,
    state: StreamState,
    index: &Index,
) -> Result<(u64, Meta), OpenError> {
    let mut last = 0;
    let mut meta = Meta::default();
    while last < state.last_seq {
        let page = journal::page(wire, &names.state, last + 1, state.last_seq).await?;
        // The newest ones are gone.
        let Some(newest) = page.messages.last().map(|message| message.seq) else { break };
        for message in page.messages {
            let (_, writes) = decode_entries(message.payload).ok_or_else(|| {
                OpenError::Unfit(format!(
                    "the stream {} holds something at {} that no gateway of this version wrote; run a newer version, or remove it \
                     with `nats stream rmm`",
                    names.state, message.seq
                ))
            })?;
            for write in &writes {
                meta.note(write);
            }
            index.apply(writes.iter().map(|write| (message.seq, write)));
        }
        last = newest;
    }
    Ok((last.max(state.last_seq), meta))
}

/// Makes what replicas show each other, if nobody was faster.
async fn first_peer_key(wire: &Wire, names: &Names) -> Result<PeerKey, OpenError> {
    let fresh = PeerKey::fresh();
    let put = Meta::put_peer_key(&fresh);
    let subject = names.subject(Kind::State, &entry_token(put.bucket.name(), &put.key));
    let entry = EntryWrite {
        bucket: put.bucket.name().to_owned(),
        key: put.key,
        value: Some(put.value),
        expire_at_ms: None,
        is_shared: false,
    };
    let message = Outgoing {
        subject,
        payload: encode_entries(Mark { write: Uuid::now_v7().into_bytes(), part: 0 }, &[entry]),
        expected_of_subject: Some(0),
        kept_seconds: None,
    };
    let started = Instant::now();
    loop {
        match wire.store_one(&message).await {
            Ok(_) => return Ok(fresh),
            Err(fault) if journal::is_behind(&fault) => {}
            // Perhaps it was stored all the same: then it is found below.
            Err(Fault::Away(_)) if started.elapsed() < START_MAX => {}
            Err(fault) => return Err(fault.into()),
        }
        if let Some(stored) = wire.newest(&names.state, &message.subject).await? {
            let mut meta = Meta::default();
            decode_entries(stored.payload)
                .inspect(|(_, writes)| writes.iter().for_each(|write| meta.note(write)));
            let unread = || OpenError::Fault("the key that replicas show each other is damaged".to_owned());
            return meta.peer_key.map(PeerKey::from).ok_or_else(unread);
        }
        sleep(PAUSE).await;
    }
}

/// When the newest event was appended; 0 if there is none.
async fn newest_append_ms(wire: &Wire, names: &Names, events: StreamState) -> Result<u64, OpenError> {
    if events.messages == 0 {
        return Ok(0);
    }
    let seq = events.last_seq;
    let newest = wire.exact(&names.events, seq).await?.and_then(|stored| decode_event(seq, stored.payload));
    let (_, event) = newest.ok_or_else(|| {
        OpenError::Unfit(format!(
            "the stream {} holds something at {seq} that no gateway of this version wrote; run a newer version, or restore the \
             stream from a backup",
            names.events
        ))
    })?;
    Ok(event.append_ms)
}
