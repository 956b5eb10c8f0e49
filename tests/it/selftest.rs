//! `selftest` against gateways that are as they should be, and others.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::Serve;
use crate::support::certificates::Authority;
use crate::support::serve::{ALL_RIGHTS, caller};

/// Runs it against this gateway; the exit code, stdout and stderr.
async fn selftest(serve: &Serve, arguments: &[&str]) -> (i32, String, String) {
    let port = serve.gateway.address("grpc").rsplit(':').next().unwrap().to_owned();
    let mut command = Command::new(env!("CARGO_BIN_EXE_whatsapp-gateway"));
    command.args(["selftest", "--grpc-address", &format!("127.0.0.1:{port}")]).args(arguments);
    let output = timeout(Duration::from_mins(1), command.env_clear().kill_on_drop(true).output()).await;
    let Output { status, stdout, stderr } = output.expect("it did not end").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn a_right_installation_passes_and_a_wrong_token_does_not() {
    let more = caller("probe", "right-token", "methods = [\"WhoAmI\"]\n");
    let serve = Serve::builder().open_address().more(&more).start().await;
    let folder = TempDir::new().unwrap();
    let (right, wrong) = (folder.path().join("right"), folder.path().join("wrong"));
    std::fs::write(&right, "right-token\n").unwrap();
    std::fs::write(&wrong, "wrong-token").unwrap();

    let (code, stdout, stderr) = selftest(&serve, &["--token-file", shown(&right)]).await;
    assert_eq!(code, 0, "{stderr}");
    let lines = ["health: SERVING", "reflection: ", "WhoAmI: probe", "without credentials: UNAUTHENTICATED"];
    for (line, expected) in stdout.lines().zip(lines) {
        assert!(line.starts_with(expected), "{stdout}");
    }
    assert_eq!(stdout.lines().count(), lines.len(), "{stdout}");

    let (code, _, stderr) = selftest(&serve, &["--token-file", shown(&wrong)]).await;
    assert_eq!(code, 1);
    assert!(stderr.contains("a call with credentials") && stderr.contains("not known"), "{stderr}");
    assert!(!stderr.contains("wrong-token"), "{stderr}");

    let (code, _, stderr) = selftest(&serve, &["--token-file", shown(&folder.path().join("none"))]).await;
    assert_eq!(code, 64, "{stderr}");
    assert!(stderr.starts_with("--token-file ") && stderr.contains("/none: "), "{stderr}");
}

#[tokio::test]
async fn an_installation_that_lets_everybody_in_fails_unless_it_is_wanted() {
    let serve = Serve::start().await;
    let (code, _, stderr) = selftest(&serve, &[]).await;
    assert_eq!(code, 1);
    assert!(stderr.contains("was let in as local"), "{stderr}");
    let (code, stdout, stderr) = selftest(&serve, &["--allow-anonymous"]).await;
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("without credentials: local, as is wanted"), "{stdout}");
}

#[tokio::test]
async fn reflection_that_is_off_is_missed_unless_it_is_said() {
    let serve = Serve::builder().grpc("reflection = false\n").start().await;
    let (code, _, stderr) = selftest(&serve, &["--allow-anonymous"]).await;
    assert_eq!(code, 1);
    assert!(stderr.contains("reflection: "), "{stderr}");
    let (code, _, stderr) = selftest(&serve, &["--allow-anonymous", "--no-reflection"]).await;
    assert_eq!(code, 0, "{stderr}");
}

#[tokio::test]
async fn certificates_are_verified_and_shown() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (server, client) = (authority.issue_server("server"), authority.issue("client", "DNS:probe.example"));
    let [cert, key, ca] = [&server.cert, &server.key, &authority.cert()].map(|path| shown(path).to_owned());
    let more = format!(
        "[grpc.tls]\ncert_file = {cert:?}\nkey_file = {key:?}\nclient_ca_file = {ca:?}\nclient_auth = \"required\"\n\
         [[callers]]\nname = \"probe\"\nidentities = [\"dns:probe.example\"]\n{ALL_RIGHTS}"
    );
    let serve = Serve::builder().more(&more).start().await;
    let pair = ["--cert-file", shown(&client.cert), "--key-file", shown(&client.key)];
    let (code, stdout, stderr) = selftest(&serve, &[&["--ca-file", &ca], &pair[..]].concat()).await;
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("WhoAmI: probe\nwithout credentials: no connection"), "{stdout}");

    let other = stranger.cert();
    let (code, _, stderr) = selftest(&serve, &[&["--ca-file", shown(&other)], &pair[..]].concat()).await;
    assert_eq!(code, 1);
    assert!(stderr.contains("cannot be reached") && stderr.contains("UnknownIssuer"), "{stderr}");
    let (code, _, stderr) = selftest(&serve, &[]).await;
    assert_eq!(code, 1);
    assert!(stderr.contains("if the port has TLS, name its authority by --ca-file"), "{stderr}");
    let (code, _, stderr) = selftest(&serve, &pair).await;
    assert_eq!(code, 2, "a client certificate without TLS: {stderr}");
}
