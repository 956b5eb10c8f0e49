//! Callers by JWT: which tokens count, and how the keys of their issuers change.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::{Code, Request, Status};
use whatsapp_gateway::clock::{Clock, SystemClock};
use whatsapp_gateway::contract::v1;
use whatsapp_gateway::jwt::{Error, Issuer, Issuers, KeySet, Keys, looks_like_one};
use whatsapp_gateway::tenants::TokenHash;

use crate::eventually;
use crate::support::jwt::{AUDIENCE, CLUSTER, KeyServer, Signer, jwks, service_account, with};
use crate::support::serve::{ALL_RIGHTS, caller};
use crate::support::{Gateway, Refusal, Serve};

const NOW: u64 = 1_900_000_000;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn present() -> u64 {
    SystemClock.now_ms() / 1000
}

fn key_set(signers: &[&Signer]) -> KeySet {
    KeySet::parse(jwks(signers).as_bytes()).unwrap()
}

fn cluster(keys: Keys) -> Issuers {
    let audiences = vec![AUDIENCE.to_owned(), "other-name".to_owned()];
    Issuers::new(vec![Issuer { name: CLUSTER.into(), audiences, leeway: Duration::from_secs(30), keys }])
}

fn verified(issuers: &Issuers, token: &str, now: u64) -> Result<String, &'static str> {
    let verified = issuers.verify(token, TokenHash::of(token), at(now));
    verified.map(|verified| verified.subject.name).map_err(|error| error.cause())
}

#[test]
fn each_algorithm_is_believed_and_only_with_its_own_key() {
    let [rsa, ec, ed] = [
        Signer::new("rsa", Algorithm::RS256),
        Signer::new("ec", Algorithm::ES256),
        Signer::new("ed", Algorithm::EdDSA),
    ];
    let issuers = cluster(Keys::of_file(key_set(&[&rsa, &ec, &ed])));
    let claims = service_account("shop", "orders", NOW);
    for signer in [&rsa, &ec, &ed] {
        let token = signer.sign(&claims);
        assert!(looks_like_one(&token));
        for _ in 0..2 {
            assert_eq!(verified(&issuers, &token, NOW), Ok("system:serviceaccount:shop:orders".to_owned()));
        }
        // By another key, under the `kid` of each.
        let algorithm = jsonwebtoken::decode_header(&token).unwrap().alg;
        let stranger = Signer::new("x", algorithm);
        for known in [&rsa, &ec, &ed] {
            let header = Header { kid: Some(known.kid.to_owned()), ..Header::new(algorithm) };
            let cause = verified(&issuers, &stranger.sign_under(&header, &claims), NOW).unwrap_err();
            let expected = if known.kid == signer.kid { "signature_wrong" } else { "key_unknown" };
            assert_eq!(cause, expected, "{algorithm:?} as {}", known.kid);
        }
        // A token without `kid` is tried with every key of its kind.
        let anonymous = signer.sign_under(&Header::new(algorithm), &claims);
        assert!(verified(&issuers, &anonymous, NOW).is_ok());
    }
}

#[test]
fn every_claim_counts() {
    let signer = Signer::new("ec", Algorithm::ES256);
    let issuers = cluster(Keys::of_file(key_set(&[&signer])));
    let right = service_account("shop", "orders", NOW);
    let cases: [(&str, Value, Result<(), &str>); 18] = [
        ("as it is", json!({}), Ok(())),
        ("one audience", json!({"aud": AUDIENCE}), Ok(())),
        ("another name of ours", json!({"aud": ["x", "other-name"]}), Ok(())),
        ("another audience", json!({"aud": ["https://kubernetes.default.svc"]}), Err("audience_wrong")),
        ("a part of the audience", json!({"aud": "whatsapp"}), Err("audience_wrong")),
        ("no audience", json!({"aud": null}), Err("malformed")),
        ("another issuer", json!({"iss": "https://elsewhere.example"}), Err("issuer_unknown")),
        ("an issuer with a slash", json!({"iss": format!("{CLUSTER}/")}), Err("issuer_unknown")),
        ("no issuer", json!({"iss": null}), Err("malformed")),
        ("no subject", json!({"sub": null}), Err("malformed")),
        ("no end", json!({"exp": null}), Err("malformed")),
        ("an end that is no time", json!({"exp": "tomorrow"}), Err("malformed")),
        ("an end before 1970", json!({"exp": -1}), Err("malformed")),
        ("over, within the leeway", json!({"exp": NOW - 29}), Ok(())),
        ("over", json!({"exp": NOW - 30}), Err("expired")),
        ("to come, within the leeway", json!({"nbf": NOW + 30}), Ok(())),
        ("to come", json!({"nbf": NOW + 31}), Err("not_yet_valid")),
        ("fractions", json!({"exp": f64::from(u32::try_from(NOW).unwrap()) + 0.5, "nbf": null}), Ok(())),
    ];
    for (case, changes, expected) in cases {
        let token = signer.sign(&with(right.clone(), &changes));
        assert_eq!(verified(&issuers, &token, NOW).map(drop), expected, "{case}");
    }
}

#[test]
fn what_is_no_signature_is_none() {
    let signer = Signer::new("ec", Algorithm::ES256);
    let issuers = cluster(Keys::of_file(key_set(&[&signer])));
    let claims = service_account("shop", "orders", NOW);
    let token = signer.sign(&claims);
    let (head, signature) = token.rsplit_once('.').unwrap();
    let payload = head.split('.').nth(1).unwrap();
    let header = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
    // The public key as a secret, as old libraries would take it.
    let public = URL_SAFE_NO_PAD.decode(signer.jwk()["x"].as_str().unwrap()).unwrap();
    let symmetric = Header { kid: Some("ec".to_owned()), ..Header::new(Algorithm::HS256) };
    let symmetric = jsonwebtoken::encode(&symmetric, &claims, &EncodingKey::from_secret(&public)).unwrap();
    let other = signer.sign(&service_account("shop", "billing", NOW));
    let cases = [
        (format!("{}.{payload}.", header(json!({"alg": "none"}))), "algorithm_refused"),
        (format!("{}.{payload}.{signature}", header(json!({"alg": "None"}))), "algorithm_refused"),
        (symmetric, "algorithm_refused"),
        (
            format!("{}.{payload}.{signature}", header(json!({"alg": "ES384", "kid": "ec"}))),
            "algorithm_refused",
        ),
        (format!("{}.{payload}.{signature}", header(json!({"alg": "ES256", "crit": ["x"]}))), "malformed"),
        (format!("{head}."), "signature_wrong"),
        (format!("{head}.{}", &signature[..40]), "signature_wrong"),
        (format!("{}.{signature}", other.rsplit_once('.').unwrap().0), "signature_wrong"),
        (format!("eyJ.{payload}.{signature}"), "malformed"),
        (format!("{}.e30.{signature}", head.split('.').next().unwrap()), "malformed"),
        (format!("{head}.{signature}{}", "A".repeat(8192)), "malformed"),
    ];
    for (token, cause) in cases {
        assert_eq!(verified(&issuers, &token, NOW), Err(cause), "{token:.100}");
    }
    assert_eq!(verified(&cluster(Keys::of_url()), &token, NOW), Err("keys_missing"));
}

#[test]
fn what_was_verified_is_remembered_only_while_it_is_right() {
    let signer = Signer::new("ec", Algorithm::ES256);
    let keys = Keys::of_file(key_set(&[&signer]));
    let issuers = cluster(keys);
    let token = signer.sign(&service_account("shop", "orders", NOW));
    assert!(verified(&issuers, &token, NOW).is_ok());
    assert!(verified(&issuers, &token, NOW + 3629).is_ok());
    assert_eq!(verified(&issuers, &token, NOW + 3630), Err("expired"));
    assert_eq!(verified(&issuers, &token, NOW - 31), Err("not_yet_valid"));
    let error = issuers.verify(&token, TokenHash::of(&token), at(NOW + 9999)).unwrap_err();
    assert!(
        matches!(error, Error::Expired { .. }) && error.to_string().contains("2030-03-17T18:46:40Z"),
        "{error}"
    );
}

fn by<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

async fn who_am_i(gateway: &Gateway, token: &str) -> Result<v1::WhoAmIResponse, Status> {
    gateway.client().await.who_am_i(by(token, v1::WhoAmIRequest {})).await.map(tonic::Response::into_inner)
}

fn issuer(keys: &str) -> String {
    format!("[[jwt_issuers]]\nissuer = {CLUSTER:?}\naudiences = [{AUDIENCE:?}]\n{keys}\n")
}

fn by_subject(name: &str, subject: &str) -> String {
    format!("[[callers]]\nname = {name:?}\njwt_subjects = [{subject:?}]\n{ALL_RIGHTS}")
}

fn callers() -> String {
    let (orders, billing) = ("system:serviceaccount:shop:orders", "system:serviceaccount:shop:billing");
    [by_subject("orders", orders), by_subject("billing", billing), caller("old", "old-token", ALL_RIGHTS)]
        .concat()
}

fn write(folder: &TempDir, text: &str) {
    std::fs::write(folder.path().join("jwks.json"), text).unwrap();
}

async fn serve_with_file(folder: &TempDir) -> Serve {
    let file = folder.path().join("jwks.json").display().to_string();
    let more = issuer(&format!("jwks_file = {file:?}")) + &callers();
    Serve::builder().open_address().more(&more).start().await
}

async fn decided(gateway: &Gateway, outcome: &str) -> u64 {
    let (_, metrics) = gateway.admin("/metrics").await;
    let series = format!("whatsapp_gateway_auth_decisions_total{{outcome=\"{outcome}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&series)).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_kubernetes_service_account_is_a_caller() {
    let (signer, stranger) = (Signer::new("one", Algorithm::RS256), Signer::new("one", Algorithm::RS256));
    let folder = TempDir::new().unwrap();
    write(&folder, &jwks(&[&signer]));
    let Serve { gateway, .. } = &serve_with_file(&folder).await;
    let now = present();
    let token = |name: &str| signer.sign(&service_account("shop", name, now));
    for name in ["orders", "billing"] {
        let known = who_am_i(gateway, &token(name)).await.unwrap();
        assert_eq!((known.name.as_str(), known.credential()), (name, v1::CallerCredential::Jwt));
        assert_eq!(known.token_expire_time.unwrap().seconds, i64::try_from(now + 3600).unwrap());
        assert!(known.token_id.starts_with("sha256:"), "{known:?}");
    }
    assert_eq!(who_am_i(gateway, "old-token").await.unwrap().name, "old");
    eventually!(gateway.log().contains(r#""caller":"orders","credential":"jwt","token_id":"sha256:"#));

    let right = service_account("shop", "orders", now);
    let changed = |changes: Value| signer.sign(&with(right.clone(), &changes));
    let refusals = [
        ("subject_unknown", token("canary-account")),
        ("expired", changed(json!({"exp": now - 60}))),
        ("not_yet_valid", changed(json!({"nbf": now + 600}))),
        ("issuer_unknown", changed(json!({"iss": "https://canary.example"}))),
        ("audience_wrong", changed(json!({"aud": ["canary-audience"]}))),
        ("signature_wrong", stranger.sign(&right)),
        ("key_unknown", Signer::new("two", Algorithm::RS256).sign(&right)),
        ("malformed", changed(json!({"sub": null}))),
    ];
    for (cause, token) in &refusals {
        let before = decided(gateway, cause).await;
        let status = who_am_i(gateway, token).await.unwrap_err();
        let refusal = Refusal::of(&status);
        assert_eq!(refusal.is(), (Code::Unauthenticated, "CALLER_UNAUTHENTICATED"), "{cause}");
        assert_eq!((&*refusal.metadata["cause"], refusal.actor()), (*cause, "caller"), "{refusal:?}");
        assert!(!status.message().contains("canary"), "{status:?}");
        assert_eq!(decided(gateway, cause).await, before + 1, "{cause}");
    }
    let log = gateway.log();
    for (_, token) in &refusals {
        let payload = token.split('.').nth(1).unwrap();
        assert!(!log.contains(payload) && !log.contains("canary"), "{log}");
    }
}

#[tokio::test]
async fn keys_in_a_file_are_rotated() {
    let (old, new) = (Signer::new("old", Algorithm::ES256), Signer::new("new", Algorithm::EdDSA));
    let folder = TempDir::new().unwrap();
    write(&folder, &jwks(&[&old]));
    let Serve { gateway, .. } = &serve_with_file(&folder).await;
    let claims = service_account("shop", "orders", present());
    let (old_token, new_token) = (old.sign(&claims), new.sign(&claims));
    assert!(who_am_i(gateway, &old_token).await.is_ok() && who_am_i(gateway, &new_token).await.is_err());
    // Half written.
    let both = jwks(&[&old, &new]);
    write(&folder, &both[..both.len() / 2]);
    eventually!(gateway.log().contains("jwt_issuers[0].jwks_file"));
    assert!(who_am_i(gateway, &old_token).await.is_ok());
    let (_, metrics) = gateway.admin("/metrics").await;
    assert!(!metrics.contains(r#"config_reload_total{part="jwks",outcome="rejected"} 0"#), "{metrics}");
    write(&folder, &both);
    eventually!(who_am_i(gateway, &new_token).await.is_ok());
    assert!(who_am_i(gateway, &old_token).await.is_ok());
    // A key that is gone ends the tokens that were verified with it.
    write(&folder, &jwks(&[&new]));
    eventually!(who_am_i(gateway, &old_token).await.is_err());
    assert!(who_am_i(gateway, &new_token).await.is_ok());
}

#[tokio::test]
async fn keys_behind_a_url_are_looked_for() {
    let (old, new) = (Signer::new("old", Algorithm::RS256), Signer::new("new", Algorithm::ES256));
    let server = KeyServer::start("reviewer-token", jwks(&[&old])).await;
    let folder = TempDir::new().unwrap();
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, "reviewer-token\n").unwrap();
    let keys =
        format!("jwks_url = {:?}\njwks_token_file = {:?}", server.url, token_file.display().to_string());
    let more = issuer(&keys) + &callers();
    let Serve { gateway, .. } = &Serve::builder().open_address().more(&more).start().await;
    let claims = service_account("shop", "orders", present());
    let (old_token, new_token) = (old.sign(&claims), new.sign(&claims));
    who_am_i(gateway, &old_token).await.unwrap();
    server.says(jwks(&[&old, &new]));
    eventually!(who_am_i(gateway, &new_token).await.is_ok());
    who_am_i(gateway, &old_token).await.unwrap();
    // What comes next cannot be used, and whoever is known stays so.
    server.says("{".to_owned());
    let unknown = Signer::new("unknown", Algorithm::EdDSA).sign(&claims);
    eventually!({
        assert!(who_am_i(gateway, &unknown).await.is_err());
        gateway.log().contains("the old ones stay in use")
    });
    who_am_i(gateway, &new_token).await.unwrap();
    who_am_i(gateway, &unseen(&old, &claims)).await.unwrap();
    let (_, metrics) = gateway.admin("/metrics").await;
    assert!(!metrics.contains(r#"jwks_fetches_total{outcome="rejected"} 0"#), "{metrics}");
}

/// A token that was never seen before, so that its signature is looked at.
fn unseen(signer: &Signer, claims: &Value) -> String {
    signer.sign(&with(claims.clone(), &json!({"jti": "another"})))
}

#[tokio::test]
async fn an_issuer_that_is_away_keeps_nobody_else_out() {
    let more = issuer("jwks_url = \"http://127.0.0.1:9/jwks\"") + &callers();
    let Serve { gateway, .. } = &Serve::builder().open_address().more(&more).start().await;
    who_am_i(gateway, "old-token").await.unwrap();
    let token = Signer::new("one", Algorithm::ES256).sign(&service_account("shop", "orders", present()));
    let refusal = Refusal::of(&who_am_i(gateway, &token).await.unwrap_err());
    assert_eq!((&*refusal.metadata["cause"], refusal.actor()), ("keys_missing", "operator"));
    assert!(gateway.log().contains("the keys of a JWT issuer cannot be read"));
}

#[tokio::test]
async fn what_cannot_be_believed_keeps_it_from_starting() {
    let folder = TempDir::new().unwrap();
    write(&folder, "{\"keys\": []}");
    let path = folder.path().join("jwks.json").display().to_string();
    let good = Signer::new("one", Algorithm::ES256);
    let file = format!("jwks_file = {path:?}");
    let subject = by_subject("orders", "a");
    let cases = [
        (issuer(&file) + &subject, "jwt_issuers[0].jwks_file"),
        (issuer("") + &subject, "jwt_issuers[0].jwks_file: is missing"),
        (issuer("jwks_url = \"http://idp.example/jwks\"") + &subject, "http:// only to this machine"),
        (issuer("jwks_url = \"https://me:canary@idp.example/jwks\"") + &subject, "without user and password"),
        (issuer("jwks_url = \"https://a.example/\"\njwks_file = \"x\"") + &subject, "name one of the two"),
        (subject.clone(), "must be the issuer of one of [[jwt_issuers]] (configured: none)"),
    ];
    for (more, words) in cases {
        let (code, log) = Serve::builder().more(&more).run_to_end().await;
        assert_eq!(code, Some(64), "{log}");
        assert!(log.contains(words) && !log.contains("canary"), "{words}: {log}");
    }
    write(&folder, &jwks(&[&good]));
    let twice = issuer(&file) + &subject + &by_subject("billing", "a");
    let (_, log) = Serve::builder().more(&twice).run_to_end().await;
    assert!(log.contains("the same subject stands at callers[0].jwt_subjects[0]"), "{log}");
    let second = issuer(&file).replace(CLUSTER, "https://second.example");
    let (_, log) = Serve::builder().more(&(issuer(&file) + &second + &subject)).run_to_end().await;
    assert!(log.contains("callers[0].jwt_issuer: must be the issuer of one"), "{log}");
}
