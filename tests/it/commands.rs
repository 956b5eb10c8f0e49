//! The commands that start nothing, the lines that say when something started, and exit codes.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

use crate::eventually;
use crate::support::serve::token_hash;
use crate::support::{Gateway, Serve};

const SINGLE_NUMBER: [(&str, &str); 6] = [
    ("WHATSAPP_ACCESS_TOKEN", "canary-access-token"),
    ("WHATSAPP_PHONE_NUMBER_ID", "106540352242922"),
    ("WHATSAPP_BUSINESS_ACCOUNT_ID", "102290129340398"),
    ("WHATSAPP_APP_ID", "1234567890"),
    ("WHATSAPP_APP_SECRET", "canary-app-secret"),
    ("WHATSAPP_VERIFY_TOKEN", "canary-verify-token"),
];

/// Runs the binary to its end, with this environment and no other.
async fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_whatsapp-gateway"));
    command.args(arguments).env_clear().envs(environment.iter().copied()).kill_on_drop(true);
    timeout(Duration::from_secs(30), command.output()).await.expect("it did not end").unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// Ten mistakes, with a secret wherever somebody might have written one.
const TEN_MISTAKES: &str = r#"
[grpc]
listen = "0.0.0.0"
conections_max = 7
[webhook]
body_bytes_max = "1 TiB"
path = "webhook"
[cloud_api]
graph_url = "https://user:canary-password@graph.facebook.com"
version = "latest"
[storage]
retention = "soon"
[telemetry]
log_format = "xml"
[[apps]]
id = "1234567890"
secret = "canary-app-secret"
secret_files = ["{folder}/two-words"]
verify_token_file = "{folder}/absent"
[[wabas]]
id = "102290129340398"
app_id = "1234567890"
access_token = "canary-access-token"
access_token_file = "{folder}/empty"
phone_number_ids = ["106540352242922"]
[[callers]]
name = "orders"
token_sha256 = ["canary-bearer-token"]
"#;

#[tokio::test]
async fn every_mistake_is_reported_at_once_and_no_secret() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("two-words"), "canary-first canary-second").unwrap();
    std::fs::write(folder.path().join("empty"), " \n").unwrap();
    let file = folder.path().join("config.toml");
    std::fs::write(&file, TEN_MISTAKES.replace("{folder}", folder.path().to_str().unwrap())).unwrap();
    for command in ["check-config", "print-config", "serve"] {
        let output = run(&[command, "--config", file.to_str().unwrap()], &[]).await;
        assert_eq!((code(&output), stdout(&output)), (64, ""), "{command}");
        let report = stderr(&output);
        for key in [
            "grpc.listen",
            "grpc.conections_max",
            "webhook.body_bytes_max",
            "webhook.path",
            "cloud_api.graph_url",
            "cloud_api.version",
            "storage.retention",
            "telemetry.log_format",
            "secret_files[0]",
            "verify_token_file",
            "access_token_file",
            "token_sha256[0]",
            "apps[0].secret",
            "wabas[0].access_token",
        ] {
            assert!(report.contains(key), "{key} is missing in\n{report}");
        }
        assert!(report.contains("connections_max"), "it says what was meant:\n{report}");
        assert!(!report.contains("canary"), "{report}");
    }
}

#[tokio::test]
async fn a_file_that_is_no_toml_is_reported_without_its_lines() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("config.toml");
    std::fs::write(&file, "[apps]\nsecret = canary-secret\n").unwrap();
    let output = run(&["check-config", "--config", file.to_str().unwrap()], &[]).await;
    assert_eq!(code(&output), 64);
    assert!(stderr(&output).contains("is not TOML") && !stderr(&output).contains("canary"), "{output:?}");
    let output = run(&["check-config", "--config", "/nowhere/config.toml"], &SINGLE_NUMBER).await;
    assert_eq!(code(&output), 64);
    assert!(stderr(&output).contains("/nowhere/config.toml"), "{output:?}");
}

#[tokio::test]
async fn the_effective_configuration_is_printed_without_secrets_and_read_back() {
    let mut environment = SINGLE_NUMBER.to_vec();
    environment.push(("WHATSAPP_GATEWAY__GRPC__LISTEN", "127.0.0.1:50051"));
    let printed = run(&["print-config"], &environment).await;
    assert_eq!(code(&printed), 0, "{printed:?}");
    assert!(!stdout(&printed).contains("canary"), "{}", stdout(&printed));
    for word in ["[grpc]", "[storage]", "retention = \"8 days\"", "<redacted", "WHATSAPP_APP_SECRET"] {
        assert!(stdout(&printed).contains(word), "{word} is missing in\n{}", stdout(&printed));
    }
    // What is printed of a file is a file that means the same.
    let serve = Serve::start().await;
    let file = serve.folder.path().join("config.toml");
    let first = run(&["print-config", "--config", file.to_str().unwrap()], &[]).await;
    let again = serve.folder.path().join("again.toml");
    std::fs::write(&again, &first.stdout).unwrap();
    let second = run(&["print-config", "--config", again.to_str().unwrap()], &[]).await;
    assert_eq!(code(&second), 0, "{second:?}");
    assert_eq!(stdout(&first), stdout(&second));
    for secret in ["dev-app-secret", "dev-access-token", "dev-verify-token", "the-next-app-secret"] {
        assert!(!stdout(&first).contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn the_default_file_and_a_single_number_are_a_configuration() {
    let defaults = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/default.toml");
    let defaults = defaults.to_str().unwrap();
    let mut environment = SINGLE_NUMBER.to_vec();
    // The one thing that must be decided: who may call.
    let output = run(&["check-config", "--config", defaults], &environment).await;
    assert_eq!(code(&output), 64);
    assert!(stderr(&output).contains("grpc.insecure = true"), "{output:?}");
    environment.push(("WHATSAPP_GATEWAY__GRPC__INSECURE", "true"));
    for arguments in [&["check-config", "--config", defaults][..], &["check-config"]] {
        let output = run(arguments, &environment).await;
        assert_eq!((code(&output), stdout(&output)), (0, "the configuration is valid\n"), "{output:?}");
    }
    // By the environment too, and one variable of the six is not enough.
    environment.push(("WHATSAPP_GATEWAY_CONFIG", defaults));
    assert_eq!(code(&run(&["check-config"], &environment).await), 0);
    let output = run(&["check-config"], &SINGLE_NUMBER[..3]).await;
    assert_eq!(code(&output), 64);
    for missing in ["WHATSAPP_APP_ID", "WHATSAPP_APP_SECRET", "WHATSAPP_VERIFY_TOKEN"] {
        assert!(stderr(&output).contains(missing), "{output:?}");
    }
    // Neither may be mixed with accounts of a file.
    let hash = token_hash("x");
    let typo = run(&["check-config"], &[("WHATSAPP_GATEWAY__GRPC__LISTN", "x"), ("UNRELATED", &hash)]).await;
    assert!(stderr(&typo).contains("grpc.listen"), "{typo:?}");
}

#[tokio::test]
async fn healthcheck_tells_ready_from_draining_and_absent() {
    let delay = ("WHATSAPP_GATEWAY__SHUTDOWN__DELAY", "2 s");
    let mut serve = Serve::builder().env(delay.0, delay.1).start().await;
    let gateway = &mut serve.gateway;
    let admin = gateway.address("admin").to_owned();
    let ask = async |path: &str| code(&run(&["healthcheck", "--admin", &admin, "--path", path], &[]).await);
    assert_eq!(code(&run(&["healthcheck", "--admin", &admin], &[]).await), 0);
    assert_eq!((ask("/livez").await, ask("/readyz/ingress").await, ask("/nothing").await), (0, 0, 1));
    let (_, port) = admin.rsplit_once(':').unwrap();
    let everywhere = format!("0.0.0.0:{port}");
    let by_environment = run(&["healthcheck"], &[("WHATSAPP_GATEWAY__ADMIN__LISTEN", &everywhere)]).await;
    assert_eq!(code(&by_environment), 0, "{by_environment:?}");
    gateway.signal_term();
    eventually!(ask("/readyz").await == 1);
    assert_eq!(ask("/livez").await, 0, "it drains, and lives");
    assert_eq!(gateway.wait().await, Some(0));
    let absent = run(&["healthcheck", "--admin", &admin], &[]).await;
    assert_eq!(code(&absent), 1);
    assert!(stderr(&absent).contains("no answer from"), "{absent:?}");
}

#[tokio::test]
async fn wrong_arguments_are_refused() {
    for arguments in [&["serv"][..], &[], &["dev", "--grpc-listen", "nowhere"], &["serve", "--port", "1"]] {
        let output = run(arguments, &[]).await;
        assert_eq!((code(&output), stdout(&output)), (2, ""), "{arguments:?}");
        assert!(stderr(&output).contains("--help") || stderr(&output).contains("Usage"), "{output:?}");
    }
    let output = run(&["--version"], &[]).await;
    assert!(stdout(&output).starts_with("whatsapp-gateway "), "{output:?}");
    let output = run(&["--help"], &[]).await;
    for command in ["dev", "serve", "simulator", "check-config", "print-config", "healthcheck"] {
        assert!(stdout(&output).contains(command), "{command}");
    }
}

#[tokio::test]
async fn ready_lines_name_every_port() {
    let ports = |ready: &Value| {
        ready.as_object().unwrap().keys().filter(|key| *key != "ready").cloned().collect::<Vec<_>>()
    };
    let dev = Gateway::dev().await;
    assert_eq!(ports(&dev.ready), ["admin", "grpc", "simulator", "webhook"]);
    for port in ports(&dev.ready) {
        let address: std::net::SocketAddr = dev.address(&port).parse().unwrap();
        assert!(address.port() != 0 && address.ip().is_loopback(), "{address}");
    }
    assert!(dev.log().contains("grpcurl"), "people see what to try, on stderr");
    let mut simulator = Gateway::builder().arguments(&["simulator", "--listen", "127.0.0.1:0"]).start().await;
    assert_eq!(ports(&simulator.ready), ["simulator"]);
    assert_eq!(simulator.terminate().await, Some(0));
    // A port that is taken ends the start, and says which.
    let taken = dev.address("grpc");
    let (code, log) = Gateway::builder().arguments(&["--admin-listen", taken]).run_to_end().await;
    assert!(code == Some(2) || code == Some(1), "{code:?} {log}");
    assert!(log.contains("admin") || log.contains(taken), "{log}");
    let taken_too = [("WHATSAPP_GATEWAY__GRPC__LISTEN", taken)];
    let environment: Vec<_> = SINGLE_NUMBER.into_iter().chain(taken_too).collect();
    let refused = run(&["serve"], &environment).await;
    assert_eq!(self::code(&refused), 1);
    for words in ["grpc.listen (dev: --grpc-listen)", taken, "in use", "0 takes a free one"] {
        assert!(stderr(&refused).contains(words), "{refused:?}");
    }
    let refused = run(&["simulator", "--listen", taken], &[]).await;
    assert!(stderr(&refused).contains("in use"), "{refused:?}");
}
