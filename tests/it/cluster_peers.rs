//! The port between gateways: who does not show the key of the prefix gets nothing.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use crate::support::nats_server::NatsServer;
use crate::support::{Gateway, Serve};

/// Somebody who believes any certificate.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// What the peer port says to a call with these headers; `None` if it cuts the connection.
async fn asked(gateway: &Gateway, path: &str, headers: &[(&str, &str)]) -> Option<u16> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(gateway.address("peers")).await.unwrap();
    let name = ServerName::try_from("gateway").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let mut connections = tokio::task::JoinSet::new();
    connections.spawn(connection);
    let mut request =
        Request::post(format!("https://gateway{path}")).header("content-type", "application/grpc");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = sender.send_request(request.body(Full::new(Bytes::from_static(&[0; 5]))).unwrap()).await;
    answer.ok().map(|answer| answer.status().as_u16())
}

#[tokio::test]
async fn who_does_not_show_the_key_gets_nothing() {
    let Some(server) = NatsServer::start() else { return };
    let serve = Serve::builder().on_nats(&server.url(), "1").start().await;
    let gateway = &serve.gateway;
    let caller = r#"{"caller":"local","credential":"loopback","is_configured":false,"token_id":null,"expires":null,"client":null,"via":"me"}"#;
    let wrong = "00".repeat(32);
    for path in ["/whatsapp.gateway.v1.GatewayService/SendMessage", "/grpc.health.v1.Health/Check", "/"] {
        for key in ["", "00", "no digits", wrong.as_str()] {
            let headers = [("x-whatsapp-gateway-peer", key), ("x-whatsapp-gateway-caller", caller)];
            assert_eq!(asked(gateway, path, &headers).await, None, "{path} {key}");
        }
        assert_eq!(asked(gateway, path, &[]).await, None, "{path}");
    }
    assert!(gateway.sent_bodies().await.is_empty());
    // At the port of callers the words of replicas are nothing.
    let headers = [("x-whatsapp-gateway-peer", wrong.as_str()), ("x-whatsapp-gateway-caller", caller)];
    let mut request = tonic::Request::new(whatsapp_gateway::contract::v1::WhoAmIRequest {});
    for (name, value) in headers {
        request.metadata_mut().insert(name, value.parse().unwrap());
    }
    let told = gateway.client().await.who_am_i(request).await.unwrap().into_inner();
    assert_eq!(told.name, "local");
}

/// Plain text, and a client that expects another certificate: `tls` tests the latter by itself.
#[tokio::test]
async fn the_port_speaks_tls_alone() {
    let Some(server) = NatsServer::start() else { return };
    let serve = Serve::builder().on_nats(&server.url(), "1").start().await;
    let gateway = &serve.gateway;
    let plain =
        tonic::transport::Endpoint::from_shared(format!("http://{}", gateway.address("peers"))).unwrap();
    let answer = match plain.connect().await {
        Ok(channel) => {
            let mut client =
                whatsapp_gateway::contract::v1::gateway_service_client::GatewayServiceClient::new(channel);
            client.who_am_i(whatsapp_gateway::contract::v1::WhoAmIRequest {}).await.is_ok()
        }
        Err(_) => false,
    };
    assert!(!answer);
}
