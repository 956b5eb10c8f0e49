//! The port for the other replicas, and what they are told of this one.

use bytes::Bytes;

use crate::config::Config;
use crate::listener::Listener;
use crate::storage::leadership::Replica;
use crate::tls::{self, Tls};

use super::Error;

/// A bound port for other replicas, under a certificate of its own.
#[derive(Debug)]
pub(super) struct PeerPort {
    pub(super) listener: Listener,
    pub(super) tls: Tls,
}

/// Binds the port where there can be others, and says who this is.
pub(super) fn bind(config: &Config) -> Result<(Option<PeerPort>, Replica), Error> {
    let settings = config.settings();
    let Some(peers) = &config.peers else {
        return Ok((None, Replica::of_this_process(String::new(), Bytes::new(), settings)));
    };
    let listener = super::bind("peers", peers.listen)?;
    let (tls, certificate) = tls::self_signed().map_err(Error::Certificate)?;
    let address = peers.advertise.clone().unwrap_or_else(|| listener.local_addr().to_string());
    let replica = Replica::of_this_process(address, certificate.into(), settings);
    Ok((Some(PeerPort { listener, tls }), replica))
}
