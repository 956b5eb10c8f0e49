//! The start: a connection, streams that will do, the lease, and what the streams hold.

use std::time::Duration;

use async_nats::ConnectOptions;
use secrecy::ExposeSecret as _;
use tokio::time::timeout;
use uuid::Uuid;

use super::index::Index;
use super::lease::Lease;
use super::queue::BATCH_BYTES;
use super::records::{decode_entry, decode_event};
use super::streams::{self, Names, StreamState};
use super::wire::Wire;
use super::{Config, Credentials, META, OpenError, TRIMMED_THROUGH, log_writer};
use crate::clock::SharedClock;
use crate::storage::event_log::Bounds;

/// How long connecting may take.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How long servers that start at the same time are waited for.
const START_MAX: Duration = Duration::from_secs(20);

/// What was found on the servers.
pub(super) struct Opened {
    pub(super) wire: Wire,
    pub(super) names: Names,
    pub(super) lease: Lease,
    pub(super) epoch: [u8; 8],
    pub(super) bounds: Bounds,
    /// Where the streams end and what they still hold.
    pub(super) events: StreamState,
    pub(super) state_last: u64,
    pub(super) index: Index,
    pub(super) append_ms: u64,
}

/// Connects, creates or checks the streams, takes the lease, and reads what has to be in memory.
pub(super) async fn open_streams(config: &Config, clock: &SharedClock) -> Result<Opened, OpenError> {
    let wire = Wire::new(connected(config).await?);
    // For what is asked only now.
    let opening = wire.patient(START_MAX);
    streams::check_server(&opening).await?;
    let names = Names::of(&config.prefix);
    let fresh = Uuid::now_v7().as_u64_pair().1.to_be_bytes();
    let (events, _) = streams::ensure(&opening, &names, config, fresh).await?;
    let epoch = events.epoch().unwrap_or(fresh);
    let mut lease = Lease::take(&opening, &names, clock).await?;
    // Only now nobody else writes.
    let vanished = |name: &str| OpenError::Fault(format!("the stream {name} vanished"));
    let info = async |name: &str| streams::info(&opening, name).await?.ok_or_else(|| vanished(name));
    let (events, state) = (info(&names.events).await?.state, info(&names.state).await?.state);
    let index = Index::default();
    let trimmed_through = load_state(&opening, &names, (state, &index), &mut lease).await?;
    let append_ms = newest_append_ms(&opening, &names, events).await?;
    let bounds = log_writer::bounds(events.first_seq, events.last_seq, trimmed_through);
    Ok(Opened { wire, names, lease, epoch, bounds, events, state_last: state.last_seq, index, append_ms })
}

pub(super) async fn connected(config: &Config) -> Result<async_nats::Client, OpenError> {
    let urls = config.urls.join(",");
    let unreachable = |cause: String| OpenError::Unreachable { urls: urls.clone(), cause };
    let mut options = ConnectOptions::new().name("whatsapp-gateway").max_reconnects(None);
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
    let connected = connecting.map_err(|_| unreachable("no answer in 10 s".to_owned()))?;
    connected.map_err(|error| unreachable(error.to_string()))
}

/// Reads the state stream into the index; returns up to where the log is trimmed.
async fn load_state(
    wire: &Wire,
    names: &Names,
    (state, index): (StreamState, &Index),
    lease: &mut Lease,
) -> Result<u64, OpenError> {
    let mut next = 1;
    let mut trimmed_through = 0;
    while next <= state.last_seq {
        lease.renew_if_due().await?;
        let mut page = wire.page(&names.state, next, 1_000, BATCH_BYTES).await?;
        if page.is_empty() {
            // The nearest server may be behind; the leader is not.
            page = Vec::from_iter(wire.next(&names.state, next).await?);
        }
        let Some(last) = page.last() else { break };
        next = last.seq + 1;
        for message in page {
            let (_, write) = decode_entry(message.payload).ok_or_else(|| {
                OpenError::Unfit(format!(
                    "the stream {} holds something at {} that no gateway of this version wrote; run a newer version, or remove it \
                     with `nats stream rmm`",
                    names.state, message.seq
                ))
            })?;
            if write.bucket == META.name() && write.key == TRIMMED_THROUGH {
                let bytes = write.value.as_deref().and_then(|value| value.try_into().ok());
                trimmed_through = bytes.map_or(0, u64::from_be_bytes);
            }
            index.apply(&[write], message.seq);
        }
    }
    Ok(trimmed_through)
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
