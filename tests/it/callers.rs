//! Who may call: tokens on an open address, none on loopback.

use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use whatsapp_gateway::contract::v1;

use crate::eventually;
use crate::support::rpc::{send, text};
use crate::support::serve::{ALL_RIGHTS, caller, token_hash};
use crate::support::{Gateway, Refusal, Serve, webhook};

/// Asks for nothing but an answer, with this header or none; `None` means that it was served.
async fn call(gateway: &Gateway, authorization: Option<&str>) -> Option<Refusal> {
    let phone_number_id = webhook::PHONE_NUMBER_ID.to_owned();
    let message = v1::SendMessageRequest { validate_only: true, phone_number_id, ..send(text("Hello")) };
    let mut request = Request::new(message);
    if let Some(authorization) = authorization {
        request.metadata_mut().insert("authorization", authorization.parse().unwrap());
    }
    gateway.client().await.send_message(request).await.err().map(|status| Refusal::of(&status))
}

async fn is_served(gateway: &Gateway, authorization: &str) -> bool {
    call(gateway, Some(authorization)).await.is_none()
}

fn assert_refused(refusal: Option<Refusal>, words: &str) {
    let refusal = refusal.expect("it was served");
    assert_eq!(refusal.is(), (Code::Unauthenticated, "CALLER_UNAUTHENTICATED"));
    assert_eq!(refusal.actor(), "caller");
    assert!(refusal.message.contains(words), "{}", refusal.message);
}

#[tokio::test]
async fn an_open_address_needs_a_token_in_every_method() {
    let callers = caller("orders", "right-token", ALL_RIGHTS);
    let Serve { gateway, .. } = &Serve::builder().open_address().more(&callers).start().await;
    assert_refused(call(gateway, None).await, "missing");
    assert_refused(call(gateway, Some("Bearer wrong-token")).await, "not known");
    for malformed in ["right-token", "Basic right-token", "Bearer", "Bearer ", "Bearer  "] {
        assert_refused(call(gateway, Some(malformed)).await, "not of the form");
    }
    for right in ["Bearer right-token", "bearer right-token"] {
        assert!(is_served(gateway, right).await, "{right}");
    }
    // Not even what is wrong with a request is told to strangers.
    let mut client = gateway.client().await;
    let unauthenticated = [
        client.send_message(v1::SendMessageRequest::default()).await.unwrap_err(),
        client.mark_message_read(v1::MarkMessageReadRequest::default()).await.unwrap_err(),
        client.manage_template(v1::ManageTemplateRequest::default()).await.unwrap_err(),
        client.subscribe_events(v1::SubscribeEventsRequest::default()).await.map(drop).unwrap_err(),
    ];
    for status in unauthenticated {
        assert_refused(Some(Refusal::of(&status)), "missing");
    }
    // Probes have no token.
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", gateway.address("grpc")));
    let mut health = HealthClient::new(endpoint.unwrap().connect().await.unwrap());
    let answer = health.check(HealthCheckRequest { service: String::new() }).await.unwrap();
    assert_eq!(answer.into_inner().status, 1);
    let log = gateway.log();
    assert!(!log.contains("right-token") && !log.contains("wrong-token"), "{log}");
}

#[tokio::test]
async fn a_changed_token_file_is_picked_up() {
    let callers =
        format!("[[callers]]\nname = \"orders\"\ntoken_sha256_file = \"{{folder}}/tokens\"\n{ALL_RIGHTS}");
    // The file is written before the start, by the helper's folder: start with an empty list elsewhere.
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("tokens");
    std::fs::write(&file, format!("{}\n", token_hash("old-token"))).unwrap();
    let callers = callers.replace("{folder}", folder.path().to_str().unwrap());
    let Serve { gateway, .. } = &Serve::builder().open_address().more(&callers).start().await;
    assert!(is_served(gateway, "Bearer old-token").await);
    assert!(!is_served(gateway, "Bearer new-token").await);
    std::fs::write(&file, format!("{}\n", token_hash("new-token"))).unwrap();
    eventually!(is_served(gateway, "Bearer new-token").await);
    assert_refused(call(gateway, Some("Bearer old-token")).await, "not known");
}

#[tokio::test]
async fn callers_and_their_rights_come_and_go_with_their_file() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("callers.toml");
    let one = caller("one", "one-token", ALL_RIGHTS);
    std::fs::write(&file, &one).unwrap();
    let lines = format!("insecure = true\ncallers_file = {:?}", file.display().to_string());
    let Serve { gateway, .. } = &Serve::builder().grpc_listen("0.0.0.0:0").grpc(&lines).start().await;
    assert!(is_served(gateway, "Bearer one-token").await && !is_served(gateway, "Bearer two-token").await);
    assert_refused(call(gateway, None).await, "missing");
    let two = caller("two", "two-token", ALL_RIGHTS);
    std::fs::write(&file, format!("{one}{two}")).unwrap();
    eventually!(is_served(gateway, "Bearer two-token").await);
    // Half written.
    std::fs::write(&file, &two[..two.len() / 2]).unwrap();
    eventually!(
        gateway.log().contains("changed secrets or callers cannot be used; the old ones stay in use")
    );
    assert!(is_served(gateway, "Bearer one-token").await && is_served(gateway, "Bearer two-token").await);
    let (_, metrics) = gateway.admin("/metrics").await;
    assert!(!metrics.contains(r#"config_reload_total{part="secrets",outcome="rejected"} 0"#), "{metrics}");
    std::fs::write(&file, caller("two", "two-token", "methods = [\"WhoAmI\"]\n")).unwrap();
    eventually!(
        call(gateway, Some("Bearer two-token"))
            .await
            .is_some_and(|refusal| refusal.code == Code::PermissionDenied)
    );
    assert_refused(call(gateway, Some("Bearer one-token")).await, "not known");
}

#[tokio::test]
async fn loopback_serves_without_a_token_but_not_with_a_wrong_one() {
    let callers = caller("orders", "right-token", ALL_RIGHTS);
    let serve = Serve::builder().more(&callers).env("WHATSAPP_GATEWAY__TELEMETRY__LOG_LEVEL", "debug");
    let Serve { gateway, .. } = &serve.start().await;
    assert!(call(gateway, None).await.is_none());
    assert!(is_served(gateway, "Bearer right-token").await);
    assert_refused(call(gateway, Some("Bearer wrong-token")).await, "not known");
    let phone_number_id = webhook::PHONE_NUMBER_ID.to_owned();
    gateway.send(v1::SendMessageRequest { phone_number_id, ..send(text("Hello")) }).await;
    eventually!(gateway.log().contains(r#""caller":"local""#));
}

#[tokio::test]
async fn plain_text_off_loopback_must_be_accepted_in_writing() {
    let callers = caller("orders", "right-token", ALL_RIGHTS);
    let (code, log) = Serve::builder().grpc_listen("0.0.0.0:0").more(&callers).run_to_end().await;
    assert_eq!(code, Some(64));
    for remedy in ["grpc.listen", "plain text", "grpc.tls.cert_file", "grpc.insecure = true", "loopback"] {
        assert!(log.contains(remedy), "{log}");
    }
    assert!(!log.contains("[[callers]]"), "there are some: {log}");
    // Accepted, and nobody does without a token for that.
    let Serve { gateway, .. } = &Serve::builder().open_address().more(&callers).start().await;
    assert_refused(call(gateway, None).await, "missing");
    assert!(is_served(gateway, "Bearer right-token").await);
    // Unless that is written down too.
    let anonymous = format!("{callers}[[callers]]\nname = \"anonymous\"\nmethods = [\"WhoAmI\"]\n");
    let Serve { gateway, .. } = &Serve::builder().open_address().more(&anonymous).start().await;
    let known = gateway.client().await.who_am_i(v1::WhoAmIRequest {}).await.unwrap().into_inner();
    assert_eq!((known.name.as_str(), known.credential()), ("anonymous", v1::CallerCredential::None));
    let refusal = call(gateway, None).await.unwrap();
    assert_eq!(refusal.is(), (Code::PermissionDenied, "CALLER_NOT_ALLOWED"));
}

#[tokio::test]
async fn reflection_is_open_or_closed_and_health_is_open() {
    let callers = caller("orders", "right-token", ALL_RIGHTS);
    for (reflection, is_open) in [("true", true), ("false", false)] {
        let lines = format!("insecure = true\nreflection = {reflection}");
        let serve = Serve::builder().grpc_listen("0.0.0.0:0").grpc(&lines).more(&callers);
        let Serve { gateway, .. } = &serve.start().await;
        let channel = gateway.endpoint().connect().await.unwrap();
        let mut health = HealthClient::new(channel.clone());
        let answer = health.check(HealthCheckRequest { service: String::new() }).await.unwrap();
        assert_eq!(answer.into_inner().status, 1);
        let mut reflection = ServerReflectionClient::new(channel);
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let answer = reflection.server_reflection_info(futures_util::stream::iter([request])).await;
        match answer {
            Ok(answer) => {
                assert!(is_open);
                let listed = format!("{:?}", answer.into_inner().message().await.unwrap());
                assert!(listed.contains("whatsapp.gateway.v1.GatewayService"), "{listed}");
            }
            Err(status) => assert!(!is_open && status.code() == Code::Unimplemented, "{status:?}"),
        }
    }
}

#[tokio::test]
async fn an_open_address_without_callers_is_refused_unless_it_is_wanted() {
    let (code, log) = Serve::builder().grpc_listen("0.0.0.0:0").run_to_end().await;
    assert_eq!(code, Some(64));
    for remedy in ["grpc.listen", "[[callers]]", "grpc.insecure = true", "loopback"] {
        assert!(log.contains(remedy), "{log}");
    }
    let wanted = Serve::builder().open_address().start().await;
    assert!(call(&wanted.gateway, None).await.is_none());
    assert_refused(call(&wanted.gateway, Some("Bearer wrong-token")).await, "not known");
}
