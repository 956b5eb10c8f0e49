//! A client of the gateway that tries what an installation must do: health, reflection, a call with credentials, and one
//! without, which must fail.

use std::time::Duration;

use futures_util::stream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::contract::v1;
use crate::contract::v1::gateway_service_client::GatewayServiceClient;

/// How long one call may take, its connection included.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What reflection must list.
const SERVICE: &str = "whatsapp.gateway.v1.GatewayService";

/// What to try, and with what.
#[derive(Debug)]
pub struct Plan {
    /// Where the gRPC port is, `host:port`; the certificate of the port must have the host.
    pub address: String,
    /// A bearer token.
    pub token: Option<String>,
    /// The authorities that the certificate of the port is verified by, PEM. Without them TLS is not spoken.
    pub authorities: Option<String>,
    /// A client certificate and its key, PEM.
    pub certificate: Option<(String, String)>,
    /// Whether callers without credentials may be let in.
    pub allows_anonymous: bool,
    /// Whether reflection is on.
    pub has_reflection: bool,
}

/// Why an installation does not do what it must.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be reached.
    #[error(
        "{address} cannot be reached: {cause}; is it the gRPC port (--grpc-address), and of this authority (--ca-file)?"
    )]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        cause: String,
    },
    /// The token is none that a header can have.
    #[error("the token has characters that no header may have: its file must hold the token alone")]
    Token,
    /// A call ended otherwise than it should.
    #[error("{what}: {found}")]
    Failed {
        /// Which.
        what: &'static str,
        /// How it ended.
        found: String,
    },
}

/// Tries everything, and says each that was right.
pub async fn run(plan: &Plan, mut say: impl FnMut(&str)) -> Result<(), Error> {
    let channel = connect(plan, plan.certificate.as_ref()).await?;
    say(&health(plan, channel.clone()).await?);
    if plan.has_reflection {
        say(&reflection(channel.clone()).await?);
    }
    let token = plan.token.as_deref().map(|token| format!("Bearer {token}").parse()).transpose();
    let caller = who_am_i(channel, token.map_err(|_| Error::Token)?).await;
    let caller = caller.map_err(|status| failed("a call with credentials", describe(&status)))?;
    say(&format!("WhoAmI: {caller}"));
    say(&strange(plan).await?);
    Ok(())
}

async fn connect(plan: &Plan, certificate: Option<&(String, String)>) -> Result<Channel, Error> {
    let unreachable = |error: tonic::transport::Error| Error::Unreachable {
        address: plan.address.clone(),
        cause: causes(&error),
    };
    let scheme = if plan.authorities.is_some() { "https" } else { "http" };
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", plan.address)).map_err(unreachable)?;
    endpoint = endpoint.connect_timeout(TIMEOUT).timeout(TIMEOUT);
    if let Some(authorities) = &plan.authorities {
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authorities));
        if let Some((certificate, key)) = certificate {
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        endpoint = endpoint.tls_config(tls).map_err(unreachable)?;
    }
    endpoint.connect().await.map_err(unreachable)
}

async fn health(plan: &Plan, channel: Channel) -> Result<String, Error> {
    let request = HealthCheckRequest { service: SERVICE.to_owned() };
    let answer = HealthClient::new(channel).check(request).await;
    // A port with TLS takes the connection and ends it with the first call.
    let remedy = |status: &Status| match (is_cut(status), &plan.authorities) {
        (true, None) => "; if the port has TLS, name its authority by --ca-file",
        (true, Some(_)) | (false, _) => "",
    };
    let refused = |status: Status| failed("health", format!("{}{}", describe(&status), remedy(&status)));
    let status = answer.map_err(refused)?.into_inner().status();
    if status != ServingStatus::Serving {
        return Err(failed("health", format!("{} says {}", SERVICE, status.as_str_name())));
    }
    Ok(format!("health: {}", status.as_str_name()))
}

async fn reflection(channel: Channel) -> Result<String, Error> {
    let failed = |found: String| failed("reflection", found);
    let message_request = Some(MessageRequest::ListServices(String::new()));
    let request = ServerReflectionRequest { host: String::new(), message_request };
    let answers = ServerReflectionClient::new(channel).server_reflection_info(stream::iter([request])).await;
    let mut answers = answers.map_err(|status| failed(describe(&status)))?.into_inner();
    let answer = answers.message().await.map_err(|status| failed(describe(&status)))?;
    let Some(MessageResponse::ListServicesResponse(list)) = answer.and_then(|answer| answer.message_response)
    else {
        return Err(failed("no list of services came".to_owned()));
    };
    if !list.service.iter().any(|service| service.name == SERVICE) {
        return Err(failed(format!("{SERVICE} is not listed")));
    }
    Ok(format!("reflection: {} services", list.service.len()))
}

/// The name of the caller.
async fn who_am_i(channel: Channel, token: Option<MetadataValue<Ascii>>) -> Result<String, Status> {
    let mut request = Request::new(v1::WhoAmIRequest::default());
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", token);
    }
    Ok(GatewayServiceClient::new(channel).who_am_i(request).await?.into_inner().name)
}

/// A call without any credentials. Where certificates are asked for, its connection is refused already.
async fn strange(plan: &Plan) -> Result<String, Error> {
    let what = "a call without credentials";
    let answer = match connect(plan, None).await {
        Ok(channel) => who_am_i(channel, None).await,
        Err(Error::Unreachable { .. }) if plan.certificate.is_some() => {
            return Ok("without credentials: no connection".to_owned());
        }
        Err(error) => return Err(error),
    };
    match (answer, plan.allows_anonymous) {
        (Ok(caller), true) => Ok(format!("without credentials: {caller}, as is wanted")),
        (Ok(caller), false) => {
            let remedy = "say --allow-anonymous where this is wanted, as on loopback";
            Err(failed(what, format!("was let in as {caller}: {remedy}")))
        }
        (Err(status), _) if status.code() == Code::Unauthenticated => {
            Ok("without credentials: UNAUTHENTICATED".to_owned())
        }
        // The end of a handshake in which a certificate is missing reaches a client only with its first call, and as an
        // error of the connection: no status came.
        (Err(status), false) if plan.certificate.is_some() && is_cut(&status) => {
            Ok("without credentials: no connection".to_owned())
        }
        (Err(status), _) => Err(failed(what, describe(&status))),
    }
}

fn failed(what: &'static str, found: String) -> Error {
    Error::Failed { what, found }
}

/// Whether no status came, and the connection broke.
fn is_cut(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

fn describe(status: &Status) -> String {
    let cause = std::error::Error::source(status).map(|cause| format!(" ({})", causes(cause)));
    format!("{}: {}{}", status.code(), status.message(), cause.unwrap_or_default())
}

/// An error with what caused it.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
