//! What a connection runs on: TCP, or TLS over TCP, and the handshake that leads there.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{CertificateError, Error};
use tokio_rustls::server::TlsStream;

use crate::tls::PeerCertificate;

use super::Tokens;

/// One type for both, or everything above would be compiled twice.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Why there is no TLS connection: a word for the metric.
pub(super) type Failure = &'static str;

/// Does the handshake, unless it takes too long or the process ends; returns what the client has certified.
pub(super) async fn handshake(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    limit: Duration,
    tokens: &Tokens,
) -> Result<(Transport, Option<PeerCertificate>), Failure> {
    let done = tokio::select! {
        biased;
        done = timeout(limit, acceptor.accept(stream)) => done,
        // Nothing was asked for yet.
        () = tokens.drain.cancelled() => return Err("drain"),
        () = tokens.stop.cancelled() => return Err("drain"),
    };
    let stream = done.map_err(|_| "timeout")?.map_err(|error| word(&error))?;
    let certificates = stream.get_ref().1.peer_certificates();
    let certificate = certificates.and_then(<[_]>::first).map(PeerCertificate::read);
    Ok((Transport::Tls(Box::new(stream)), certificate))
}

/// Few words, since they are a label.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "rustls adds errors; those without a word of their own are `other`"
)]
fn word(error: &io::Error) -> Failure {
    let Some(error) = error.get_ref().and_then(|error| error.downcast_ref::<Error>()) else {
        return "closed";
    };
    match error {
        Error::InvalidMessage(_) => "not_tls",
        Error::NoCertificatesPresented => "no_certificate",
        Error::InvalidCertificate(error) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "certificate_expired",
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "certificate_not_yet_valid"
            }
            CertificateError::UnknownIssuer => "unknown_issuer",
            _ => "bad_certificate",
        },
        Error::AlertReceived(_) => "refused_by_client",
        Error::NoApplicationProtocol => "no_http2",
        Error::PeerIncompatible(_) => "incompatible",
        _ => "other",
    }
}

impl Transport {
    /// The connection below.
    pub(super) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
