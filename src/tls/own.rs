//! The certificate that a process makes for itself, and clients that trust one certificate and nothing else.
//!
//! It lives in memory alone and says nothing of its own: who reads it in a place that only peers can write knows whom it
//! speaks to.

use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{
    WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime,
};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme, version::TLS13,
};

use super::{ALPN, Tls, server_config};

/// The name in it, which nobody looks at.
const NAME: &str = "whatsapp-gateway";

/// The TLS of a port under a new certificate, and the certificate as DER.
pub fn self_signed() -> Result<(Tls, Vec<u8>), String> {
    let key = rcgen::KeyPair::generate().map_err(|error| error.to_string())?;
    let certificate = rcgen::CertificateParams::new(vec![NAME.to_owned()])
        .and_then(|params| params.self_signed(&key))
        .map_err(|error| error.to_string())?;
    let der = certificate.der().clone();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let served = server_config(vec![der.clone()], key, None).map_err(|error| format!("{error:?}"))?;
    Ok((Tls::new(served), der.to_vec()))
}

/// The name that a client of [`pinned`] asks for.
pub fn name() -> ServerName<'static> {
    // A constant that is a name.
    ServerName::try_from(NAME).unwrap_or_else(|_| ServerName::from(std::net::Ipv4Addr::LOCALHOST))
}

/// A client that speaks to whoever has exactly this certificate, and its key.
pub fn pinned(certificate: &[u8]) -> Result<TlsConnector, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let certificate = CertificateDer::from(certificate.to_vec());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { certificate, algorithms }))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Believes one certificate, whatever it says; the handshake proves that the other side has its key.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if *end_entity == self.certificate {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    /// What the client says of a server with this TLS; the server hears one byte if it says nothing against it.
    async fn shake(server: &Tls, client: TlsConnector) -> Result<(), std::io::Error> {
        let (near, far) = duplex(64 * 1024);
        let acceptor = server.acceptor();
        let serving = async move {
            let mut stream = acceptor.accept(far).await?;
            stream.read_u8().await
        };
        let shaking = async move {
            let mut stream = client.connect(name(), near).await?;
            stream.write_all(b"x").await?;
            stream.flush().await
        };
        let (heard, shaken) = tokio::join!(serving, shaking);
        assert_eq!(heard.is_ok(), shaken.is_ok(), "{shaken:?}");
        shaken
    }

    #[tokio::test]
    async fn one_certificate_is_believed_and_no_other() {
        let (server, certificate) = self_signed().unwrap();
        let (other_server, other) = self_signed().unwrap();
        assert_ne!(certificate, other);
        assert!(shake(&server, pinned(&certificate).unwrap()).await.is_ok());
        for (server, trusted) in [(&server, &other), (&other_server, &certificate)] {
            let refusal = shake(server, pinned(trusted).unwrap()).await.unwrap_err();
            assert!(refusal.to_string().contains("ApplicationVerificationFailure"), "{refusal}");
        }
    }

    #[tokio::test]
    async fn the_certificate_without_its_key_is_not_enough() {
        let (_, certificate) = self_signed().unwrap();
        let (other_server, other) = self_signed().unwrap();
        assert!(shake(&other_server, pinned(&other).unwrap()).await.is_ok());
        // Somebody shows our certificate and signs with a key of its own.
        let key = rcgen::KeyPair::generate().unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let refused = server_config(vec![CertificateDer::from(certificate)], key, None);
        assert!(matches!(refused, Err(super::super::Error::Key(_))), "{refused:?}");
    }
}
