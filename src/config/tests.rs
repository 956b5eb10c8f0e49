use std::fs;
use std::path::Path;
use std::time::Duration;

use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::*;
use crate::domain::rights::Rights;
use crate::tenants::TokenHash;
use crate::tls::tests::self_signed;
use crate::tls::{ClientAuth, Identity};

/// A directory with a configuration file and secrets.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Writes `config` with each `DIR` replaced, and loads it.
    fn load(&self, config: &str) -> Result<Config, Problems> {
        self.load_with(config, &[])
    }

    fn load_with(&self, config: &str, variables: &[(&str, &str)]) -> Result<Config, Problems> {
        let path = self.write("gateway.toml", &config.replace("DIR", self.0.path().to_str().unwrap()));
        Config::load(&Sources { file: Some(path), environment: environment(variables) })
    }

    fn with_secrets() -> Self {
        let files = Self::new();
        files.write("secret", "app-secret-canary\n");
        files.write("verify", "verify-canary");
        files.write("token", " access-canary\n");
        files
    }
}

fn environment(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Two accounts of one app; secrets from [`Files::with_secrets`].
const COMPLETE: &str = r#"
[grpc]
insecure = true
[[apps]]
id = "1"
secret_files = ["DIR/secret"]
verify_token_file = "DIR/verify"
[[wabas]]
id = "10"
app_id = "1"
access_token_file = "DIR/token"
phone_number_ids = ["00105", "106"]
[[wabas]]
id = "11"
app_id = "1"
access_token_file = "DIR/token"
phone_number_ids = ["107"]
"#;

const RIGHTS: &str = "methods = [\"*\"]\nphone_numbers = [\"*\"]\nwabas = [\"*\"]\nevent_types = [\"*\"]\n";

const SINGLE: [(&str, &str); 7] = [
    ("WHATSAPP_GATEWAY__GRPC__LISTEN", "127.0.0.1:0"),
    ("WHATSAPP_ACCESS_TOKEN", "access-canary"),
    ("WHATSAPP_PHONE_NUMBER_ID", "00105"),
    ("WHATSAPP_BUSINESS_ACCOUNT_ID", "10"),
    ("WHATSAPP_APP_ID", "1"),
    ("WHATSAPP_APP_SECRET", "app-secret-canary"),
    ("WHATSAPP_VERIFY_TOKEN", "verify-canary"),
];

/// Looks once more where what was found may still be changing.
fn settled(watcher: &mut Watcher, look: fn(&mut Watcher) -> Reload) -> Reload {
    let seen = look(watcher);
    if seen == Reload::Settling { look(watcher) } else { seen }
}

fn lines(problems: &Problems) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

/// Loads the complete file with one part replaced, and returns its only problem.
fn problem_of(part: &str, replacement: &str) -> String {
    let config = COMPLETE.replace(part, replacement);
    assert_ne!(config, COMPLETE, "{part} is in the file");
    let problems = Files::with_secrets().load(&config).unwrap_err();
    let lines = lines(&problems);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    lines[0].clone()
}

#[test]
fn a_complete_file_loads_over_the_defaults() {
    let config = Files::with_secrets().load(COMPLETE).unwrap();
    assert_eq!(config.grpc.listen, "0.0.0.0:50051".parse().unwrap());
    assert_eq!(config.webhook.body_bytes_max, 3_670_016);
    assert_eq!(config.webhook.connections_per_peer_max, None);
    assert_eq!(config.shutdown.delay, Duration::from_secs(5));
    assert_eq!(config.storage.retention(), Duration::from_hours(8 * 24));
    let storage::Config::Embedded(storage::EmbeddedConfig { size_max, .. }) = config.storage else {
        panic!("{:?}", config.storage)
    };
    assert_eq!(size_max, 8 << 30);
}

#[test]
fn the_snapshot_answers_lookups() {
    let files = Files::with_secrets();
    let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let callers = format!("{COMPLETE}[[callers]]\nname = \"orders\"\ntoken_sha256 = [\"{hash}\"]\n{RIGHTS}");
    let snapshot = files.load(&callers).unwrap().tenants().load();
    assert_eq!(&*snapshot.number("00105").unwrap().id, "10");
    assert_eq!(&*snapshot.number("107").unwrap().id, "11");
    assert!(snapshot.number("105").is_none(), "leading zeros count");
    assert!(snapshot.only_number().is_none() && snapshot.only_waba().is_none());
    assert_eq!(snapshot.numbers().map(|id| &**id).collect::<Vec<_>>(), ["00105", "106", "107"]);
    assert_eq!(snapshot.waba("11").unwrap().access_token.expose_secret(), "access-canary");
    let secrets: Vec<_> = snapshot.app_secrets().map(ExposeSecret::expose_secret).collect();
    assert_eq!(secrets, ["app-secret-canary"]);
    assert!(snapshot.verify_token_matches("verify-canary"));
    assert!(!snapshot.verify_token_matches("verify") && !snapshot.verify_token_matches(""));
    let (orders, token) = snapshot.caller_by_token(&TokenHash::of("test")).unwrap();
    assert_eq!((&*orders.name, token.expires), ("orders", None));
    assert_eq!(*orders.rights, Rights::all());
    assert!(snapshot.caller_by_token(&TokenHash::of("Test")).is_none());
}

#[test]
fn variables_alone_configure_a_single_number() {
    let config = Config::load(&Sources { file: None, environment: environment(&SINGLE) }).unwrap();
    let snapshot = config.tenants().load();
    let (number, waba) = snapshot.only_number().unwrap();
    assert_eq!((&**number, &*waba.id), ("00105", "10"), "digits stay text");
    assert_eq!(config.cloud_api.version, "v25.0");
    let mut variables = environment(&SINGLE);
    variables.insert("WHATSAPP_API_VERSION".to_owned(), "v26.0".to_owned());
    let config = Config::load(&Sources { file: None, environment: variables }).unwrap();
    assert_eq!(config.cloud_api.version, "v26.0");
}

#[test]
fn a_single_number_needs_every_variable_and_no_file_accounts() {
    let mut variables = environment(&SINGLE);
    variables.insert("WHATSAPP_APP_SECRET".to_owned(), " ".to_owned());
    variables.remove("WHATSAPP_VERIFY_TOKEN");
    let problems = Config::load(&Sources { file: None, environment: variables }).unwrap_err();
    let text = problems.to_string();
    assert!(text.contains("WHATSAPP_APP_SECRET: is not set, but WHATSAPP_ACCESS_TOKEN"), "{text}");
    assert!(text.contains("WHATSAPP_VERIFY_TOKEN: is not set"), "{text}");

    let problems = Files::with_secrets().load_with(COMPLETE, &SINGLE[1..2]).unwrap_err();
    let text = problems.to_string();
    assert!(text.contains("WHATSAPP_ACCESS_TOKEN: cannot be mixed with [[apps]] and [[wabas]]"), "{text}");
    assert!(!text.contains("canary"), "{text}");
}

#[test]
fn the_environment_overrides_the_file() {
    let files = Files::with_secrets();
    let config = files
        .load_with(
            COMPLETE,
            &[
                ("WHATSAPP_GATEWAY__GRPC__CONNECTIONS_MAX", "7"),
                ("WHATSAPP_GATEWAY__GRPC__REFLECTION", "false"),
                ("WHATSAPP_GATEWAY__EVENTS__SEND_TIMEOUT", "20s"),
                ("WHATSAPP_GATEWAY__STORAGE__SIZE_MAX", "1073741824"),
                ("WHATSAPP_GATEWAY__TELEMETRY__SAMPLING_RATIO", "0.5"),
                ("WHATSAPP_GATEWAY__CLOUD_API__MEDIA_HOSTS", "a.example, 127.0.0.1:8081"),
                ("WHATSAPP_GATEWAY_SERVICE_HOST", "10.0.0.1"),
            ],
        )
        .unwrap();
    assert_eq!((config.grpc.connections_max, config.grpc.reflection), (7, false));
    assert_eq!(config.events.send_timeout, Duration::from_secs(20));
    assert_eq!(config.cloud_api.media_hosts, ["a.example", "127.0.0.1:8081"]);
}

#[test]
fn a_collector_by_http_may_have_a_path_and_authorities_need_https() {
    let files = Files::with_secrets();
    let given = |endpoint: &str| {
        let variables = [
            ("WHATSAPP_GATEWAY__TELEMETRY__OTLP_PROTOCOL", "http"),
            ("WHATSAPP_GATEWAY__TELEMETRY__OTLP_ENDPOINT", endpoint),
            ("WHATSAPP_GATEWAY__TELEMETRY__OTLP_CA_FILE", "/etc/ca.pem"),
        ];
        files.load_with(COMPLETE, &variables)
    };
    let traces = given("https://otlp.example/tenant/").unwrap().telemetry.traces;
    assert_eq!(traces.endpoint.as_deref(), Some("https://otlp.example/tenant"));
    let problems = lines(&given("http://otlp.example/tenant").unwrap_err()).join("\n");
    assert!(problems.contains("telemetry.otlp_ca_file: is for an https:// collector"), "{problems}");
}

#[test]
fn every_problem_is_reported_at_once() {
    let files = Files::with_secrets();
    files.write("empty", " \n");
    let config = r#"
[grpc]
listen = "0.0.0.0:8080"
lisen = "x"
reflection = "maybe"
[webhook]
path = "webhook"
body_timeout = "10"
body_bytes_max = "1 GiB"
[admin]
listen = "localhost:9090"
[cloud_api]
graph_url = "graph.facebook.com"
api_url = "https://user:canary@api.facebook.com"
version = "25"
[shutdown]
drain = "2 days"
[telemetry]
log_format = "xml"
log_level = "info,=x=y"
metrics = "some"
otlp_protocol = "udp"
otlp_endpoint = "http://collector:4317/path"
otlp_ca_file = "DIR/ca.pem"
sampling_follows_caller = "often"
[[apps]]
id = "1"
secret_files = ["DIR/empty", "DIR/missing"]
verify_token_file = "DIR/verify"
[[wabas]]
id = "10"
app_id = "2"
access_token = "canary"
access_token_file = "DIR/token"
phone_number_ids = ["106", "106"]
[[callers]]
name = "local"
token_sha256 = ["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "canary"]
methods = ["SendMessage", "FlyToTheMoon"]
phone_numbers = ["107"]
event_types = ["what*"]
streams_max = 0
[[callers]]
name = "billing"
token_sha256 = ["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a09"]
[[callers]]
name = "shop"
token_sha256 = ["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a10"]
methods = ["ManageTemplate/*"]
[storage]
backend = "redis"
"#;
    let problems = files.load(config).unwrap_err();
    let dir = files.0.path().to_str().unwrap();
    let lines = lines(&problems).join("\n").replace(dir, "DIR");
    for expected in [
        "grpc.lisen: is unknown; did you mean \"listen\"?",
        "grpc.reflection = \"maybe\": must be true or false",
        "webhook.path = \"webhook\": must start with '/'",
        "webhook.body_timeout = \"10\": must be a duration: write a number and a unit",
        "webhook.body_bytes_max = \"1 GiB\": must be from 64 KiB to 3584 KiB",
        "admin.listen = \"localhost:9090\": must be an IP address and a port",
        "cloud_api.graph_url = \"graph.facebook.com\": must be http:// or https://",
        "cloud_api.api_url: must be http:// or https://",
        "cloud_api.version = \"25\": must be a Graph API version",
        "shutdown.drain = \"2 days\": must be from 1 s to 1 h",
        "telemetry.log_format = \"xml\": must be \"json\" or \"text\"",
        "telemetry.log_level = \"info,=x=y\": must be a level",
        "telemetry.metrics = \"some\": must be true or false",
        "telemetry.otlp_protocol = \"udp\": must be \"grpc\" or \"http\"",
        "telemetry.otlp_endpoint = \"http://collector:4317/path\": must be http:// or https://",
        "telemetry.sampling_follows_caller = \"often\": must be true or false",
        "apps[0].secret_files[0]: the secret from file DIR/empty is empty",
        "apps[0].secret_files[1] = \"DIR/missing\": cannot be read",
        "wabas[0].app_id = \"2\": names no configured app; add it to [[apps]] (configured: 1)",
        "wabas[0].access_token: is unknown; did you mean \"access_token_file\"?",
        "wabas[0].phone_number_ids[1] = \"106\": the same phone number id stands at wabas[0].phone_number_ids[0]",
        "callers[0].name = \"local\": is reserved for calls without credentials",
        "callers[0].token_sha256[1]: must be the SHA-256 of a token",
        "callers[0].methods[1] = \"FlyToTheMoon\": is no method",
        "callers[0].phone_numbers[0] = \"107\": is not configured in [[wabas]]",
        "callers[0].event_types[0] = \"what*\": is no event type",
        "callers[0].streams_max = \"0\": must be a whole number from 1 to 100000",
        "callers[1].methods: must list what the caller may do, since nothing is allowed by default: methods = [\"*\"]",
        "callers[2].wabas: must not be empty, since methods allow ManageTemplate/get",
        "storage.backend = \"redis\": must be \"embedded\" or \"nats\"",
        "webhook.listen = \"0.0.0.0:8080\": takes the port of grpc.listen",
    ] {
        assert!(lines.contains(expected), "{expected}\nis not in\n{lines}");
    }
    assert!(!lines.contains("canary"), "{lines}");
}

#[test]
fn an_id_without_quotes_is_refused_with_the_remedy() {
    assert_eq!(problem_of("id = \"10\"", "id = 10"), "wabas[0].id: must be text: write it in quotes, \"10\"");
    assert_eq!(
        problem_of("[\"107\"]", "[107]"),
        "wabas[1].phone_number_ids[0]: must be text: write it in quotes, \"107\""
    );
    assert!(problem_of("id = \"10\"", "id = \"+10\"").starts_with("wabas[0].id = \"+10\": must be an id"));
}

#[test]
fn contradictions_between_entries_are_found() {
    assert!(
        problem_of("id = \"11\"", "id = \"10\"")
            .contains("the same WhatsApp Business Account stands at wabas[0].id")
    );
    assert!(problem_of("\"107\"", "\"106\"").contains("stands at wabas[0].phone_number_ids[1]"));
}

#[test]
fn a_public_address_without_callers_or_tls_must_be_accepted_in_writing() {
    let files = Files::with_secrets();
    let problems = files.load(&COMPLETE.replace("insecure = true", "insecure = false")).unwrap_err();
    let lines = lines(&problems);
    assert!(lines.len() == 2 && lines.iter().all(|line| line.starts_with("grpc.listen = \"0.0.0.0:50051\"")));
    assert!(
        lines[0].contains("grpc.tls.cert_file") && lines[0].contains("grpc.insecure = true"),
        "{lines:?}"
    );
    assert!(lines[1].contains("[[callers]]") && lines[1].contains("grpc.insecure = true"), "{lines:?}");
    let config = COMPLETE.replace("insecure = true", "listen = \"127.0.0.1:50051\"");
    assert!(files.load(&config).is_ok());
}

#[test]
fn nothing_configured_says_what_to_do() {
    let problems = Config::load(&Sources::default()).unwrap_err().to_string();
    assert!(problems.contains("WHATSAPP_ACCESS_TOKEN") && problems.contains("[[wabas]]"), "{problems}");
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let missing =
        Sources { file: Some("/nonexistent/gateway.toml".into()), environment: environment(&SINGLE) };
    let problems = Config::load(&missing).unwrap_err().to_string();
    assert!(problems.contains("/nonexistent/gateway.toml: cannot be read"), "{problems}");
    assert!(problems.starts_with("the configuration has a problem"), "no consequences: {problems}");
    let problems = Files::new().load("[grpc]\nlisten = canary\n").unwrap_err().to_string();
    assert!(problems.starts_with("the configuration has a problem"), "no consequences: {problems}");
    assert!(problems.contains("is not TOML") && problems.contains("line 2"), "{problems}");
    assert!(!problems.contains("canary"), "{problems}");
}

#[test]
fn variables_that_name_no_key_are_found() {
    let unknown = [
        ("WHATSAPP_GATEWAY__GRPC__LISEN", "x"),
        ("WHATSAPP_GATEWAY__", "x"),
        ("WHATSAPP_GATEWAY__WABAS__0__ID", "1"),
    ];
    let problems = Files::with_secrets().load_with(COMPLETE, &unknown).unwrap_err().to_string();
    assert!(problems.contains("grpc.lisen: is unknown"), "{problems}");
    assert!(problems.contains("WHATSAPP_GATEWAY__: names no key"), "{problems}");
    assert!(problems.contains("wabas: must be tables"), "{problems}");
}

#[test]
fn what_is_printed_is_read_back_and_holds_no_secret() {
    let files = Files::with_secrets();
    let config = files.load(COMPLETE).unwrap();
    let printed = config.print();
    assert!(!printed.contains("canary"), "{printed}");
    assert!(printed.contains("# <redacted, 13 bytes, from file "), "{printed}");
    let again = files.load(&printed).unwrap();
    assert_eq!(again.print(), printed);

    let single = Config::load(&Sources { file: None, environment: environment(&SINGLE) }).unwrap().print();
    assert!(
        single.contains("# access_token = <redacted, 13 bytes, from variable WHATSAPP_ACCESS_TOKEN>"),
        "{single}"
    );
    assert!(!single.contains("canary"), "{single}");
}

#[test]
fn debug_output_holds_no_secret() {
    let config = Files::with_secrets().load(COMPLETE).unwrap();
    let single = Config::load(&Sources { file: None, environment: environment(&SINGLE) }).unwrap();
    for debug in [format!("{config:?}"), format!("{single:?}"), format!("{:?}", single.watcher())] {
        assert!(debug.contains("REDACTED") && !debug.contains("canary"), "{debug}");
    }
}

#[test]
fn the_defaults_are_printed_as_they_are_documented() {
    let config = Files::with_secrets().load(COMPLETE).unwrap();
    let printed =
        config.print().replace("insecure = true", "insecure = false").replace("3584 KiB", "3.5 MiB");
    let is_default = |line: &&str| line.contains(" = ") && !line.starts_with('#');
    // What is not in use is not printed.
    let (before, nats) = DEFAULTS.split_once("\n[storage.nats]\n").unwrap();
    let (_, after) = nats.split_once("\n[events]\n").unwrap();
    for line in before.lines().chain(after.lines()).filter(is_default) {
        assert!(printed.lines().any(|printed| printed == line), "{line}\nis not in\n{printed}");
    }
}

#[test]
fn changed_secrets_are_swapped_and_bad_ones_are_not() {
    let files = Files::with_secrets();
    let config = files.load(COMPLETE).unwrap();
    let (tenants, mut watcher) = (config.tenants(), config.watcher());
    let token = || tenants.load().waba("10").unwrap().access_token.expose_secret().to_owned();
    assert_eq!(settled(&mut watcher, Watcher::reload_once), Reload::Unchanged);

    files.write("token", "second");
    assert_eq!(settled(&mut watcher, Watcher::reload_once), Reload::Applied);
    assert_eq!(token(), "second");
    assert_eq!(settled(&mut watcher, Watcher::reload_once), Reload::Unchanged);

    files.write("token", "");
    files.write("secret", "new-secret");
    assert!(matches!(settled(&mut watcher, Watcher::reload_once), Reload::Rejected(_)));
    assert_eq!(token(), "second");
    assert!(
        tenants.load().app_secrets().all(|secret| secret.expose_secret() == "app-secret-canary"),
        "all or none"
    );

    files.write("token", "third");
    assert_eq!(settled(&mut watcher, Watcher::reload_once), Reload::Applied);
    assert_eq!(token(), "third");
    assert!(tenants.load().app_secrets().all(|secret| secret.expose_secret() == "new-secret"));
}

#[test]
fn a_swapped_link_is_noticed() {
    let files = Files::with_secrets();
    let link = files.0.path().join("link");
    let point_to = |target: &Path| {
        let new = files.0.path().join("new-link");
        std::os::unix::fs::symlink(target, &new).unwrap();
        fs::rename(&new, &link).unwrap();
    };
    point_to(&files.write("first", "first"));
    let config = files.load(&COMPLETE.replace("DIR/token", "DIR/link")).unwrap();
    let mut watcher = config.watcher();
    point_to(&files.write("other", "other"));
    assert_eq!(settled(&mut watcher, Watcher::reload_once), Reload::Applied);
    assert_eq!(config.tenants().load().waba("10").unwrap().access_token.expose_secret(), "other");
}

#[test]
fn calls_without_credentials_may_be_limited() {
    let files = Files::with_secrets();
    let local = format!(
        "{COMPLETE}[[callers]]\nname = \"anonymous\"\nmethods = [\"SendMessage\"]\nphone_numbers = [\"106\"]\n"
    );
    let config = files.load(&local).unwrap();
    let snapshot = config.tenants().load();
    let rights = &snapshot.caller("anonymous").unwrap().rights;
    assert!(rights.may_call("SendMessage") && !rights.may_call("GetMedia") && !rights.may_use_number("107"));
    assert!(config.print().contains("phone_numbers = [\"106\"]"), "{}", config.print());
    // They do not make an open address safe.
    let open = files.load(&local.replace("insecure = true", "")).unwrap_err();
    assert!(open.to_string().contains("grpc.insecure = true"), "{open}");
}

#[test]
fn caller_hashes_come_from_a_file_too() {
    let files = Files::with_secrets();
    files.write("hashes", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\n\n");
    let callers =
        format!("{COMPLETE}[[callers]]\nname = \"orders\"\ntoken_sha256_file = \"DIR/hashes\"\n{RIGHTS}");
    let config = files.load(&callers).unwrap();
    let name_of = |token| {
        config
            .tenants()
            .load()
            .caller_by_token(&TokenHash::of(token))
            .map(|(caller, _)| caller.name.to_string())
    };
    assert_eq!(name_of("test").as_deref(), Some("orders"));
    let line =
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 expires=2027-01-31T12:00:00Z";
    files.write("hashes", line);
    assert_eq!(settled(&mut config.watcher(), Watcher::reload_once), Reload::Applied);
    assert!(config.tenants().load().caller_by_token(&TokenHash::of("test")).unwrap().1.expires.is_some());
    let three = ["1", "2", "3"].map(|digit| digit.repeat(64)).join("\n");
    files.write("hashes", &three);
    let Reload::Rejected(problems) = settled(&mut config.watcher(), Watcher::reload_once) else {
        panic!("rejected")
    };
    assert!(problems.to_string().contains("has 3 tokens; one, and another while it is being rotated"));
    files.write("hashes", "canary");
    let Reload::Rejected(problems) = settled(&mut config.watcher(), Watcher::reload_once) else {
        panic!("rejected")
    };
    assert!(problems.to_string().contains("callers[0].token_sha256_file: line 1 must be the SHA-256"));
    assert!(!problems.to_string().contains("canary"));
}

#[test]
fn what_is_still_being_written_does_not_count() {
    let files = Files::with_secrets();
    let config = files.load(COMPLETE).unwrap();
    let (tenants, mut watcher) = (config.tenants(), config.watcher());
    let token = || tenants.load().waba("10").unwrap().access_token.expose_secret().to_owned();
    for written in ["n", "new-tok", "new-token"] {
        files.write("token", written);
        assert_eq!(watcher.reload_once(), Reload::Settling, "{written}");
        assert_eq!(token(), "access-canary");
    }
    assert_eq!(watcher.reload_once(), Reload::Applied);
    assert_eq!(token(), "new-token");
    // What comes back is no change.
    files.write("token", "mistake");
    assert_eq!(watcher.reload_once(), Reload::Settling);
    files.write("token", "new-token");
    assert_eq!(watcher.reload_once(), Reload::Unchanged);
}

#[test]
fn callers_of_a_file_come_and_go() {
    let files = Files::with_secrets();
    let caller = |name: &str, digit: &str| {
        format!("[[callers]]\nname = {name:?}\ntoken_sha256 = [{:?}]\n{RIGHTS}", digit.repeat(64))
    };
    let whole = COMPLETE.replace("insecure = true", "insecure = true\ncallers_file = \"DIR/callers.toml\"")
        + &caller("fixed", "1");
    let (first, second) = (caller("first", "2"), caller("second", "3"));
    files.write("callers.toml", &first);
    let config = files.load(&whole).unwrap();
    let (tenants, mut watcher) = (config.tenants(), config.watcher());
    let names = || tenants.load().callers.iter().map(|c| c.name.to_string()).collect::<Vec<_>>().join(" ");
    assert_eq!(
        (names().as_str(), settled(&mut watcher, Watcher::reload_once)),
        ("fixed first", Reload::Unchanged)
    );
    files.write("callers.toml", &format!("{first}{second}"));
    assert_eq!(settled(&mut watcher, Watcher::reload_once), Reload::Applied);
    assert_eq!(names(), "fixed first second");
    let half = &second[..second.len() - 20];
    let cases = [
        ("", "grpc.callers_file: the file lists no [[callers]]"),
        ("[[callers]\nname = \"canary\"", "is not TOML"),
        (half, "event_types"),
        ("insecure = true\n", "grpc.callers_file.insecure: is unknown"),
        (&caller("fixed", "4"), "the same caller stands at callers[0].name"),
        (&caller("third", "1"), "has the same token as caller \"fixed\""),
        (&second.replacen("\"*\"", "\"Fly\"", 1), "grpc.callers_file.callers[0].methods[0]"),
        (
            &second.replacen("phone_numbers = [\"*\"]", "phone_numbers = [\"9\"]", 1),
            "is not configured in [[wabas]]",
        ),
        (&format!("{second}identities = [\"dns:a.example\"]\n"), "clients are not asked for certificates"),
        (&format!("{second}jwt_subjects = [\"a\"]\n"), "must be the issuer of one of [[jwt_issuers]]"),
    ];
    for (text, words) in cases {
        files.write("callers.toml", text);
        let Reload::Rejected(problems) = settled(&mut watcher, Watcher::reload_once) else {
            panic!("{text}")
        };
        let problems = problems.to_string();
        assert!(problems.contains(words) && !problems.contains("canary"), "{words}: {problems}");
        assert_eq!(names(), "fixed first second");
    }
    files.write("callers.toml", &second);
    assert_eq!(settled(&mut watcher, Watcher::reload_once), Reload::Applied);
    assert_eq!(names(), "fixed second");
    assert!(tenants.load().caller("first").is_none());
    let printed = config.print();
    assert!(printed.contains("callers.toml") && !printed.contains("name = \"second\""), "{printed}");
    // At the start the same problems keep it from starting.
    files.write("callers.toml", half);
    assert!(files.load(&whole).unwrap_err().to_string().contains("event_types"));
}

#[test]
fn the_development_configuration_is_complete() {
    let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let mut dev = Dev {
        data_dir: ".dev".into(),
        grpc_listen: local(0),
        webhook_listen: local(0),
        admin_listen: local(0),
        simulator: local(8081),
        environment: environment(&[
            ("WHATSAPP_GATEWAY__TELEMETRY__LOG_LEVEL", "debug"),
            ("WHATSAPP_APP_ID", "7"),
        ]),
    };
    let config = Config::dev(&dev).unwrap();
    let snapshot = config.tenants().load();
    assert_eq!(&**snapshot.only_number().unwrap().0, dev_account::PHONE_NUMBER_ID);
    assert!(snapshot.verify_token_matches(dev_account::VERIFY_TOKEN));
    assert_eq!(config.cloud_api.graph_url, "http://127.0.0.1:8081");
    assert_eq!(config.cloud_api.media_hosts, ["127.0.0.1:8081"]);
    assert_eq!(config.shutdown.delay, Duration::ZERO);
    assert_eq!(config.telemetry.log_level, "debug");
    dev.grpc_listen = SocketAddr::from(([0, 0, 0, 0], 0));
    assert!(Config::dev(&dev).is_err(), "not open to the network by accident");
}

const TLS: &str = r#"
[[callers]]
name = "orders"
identities = ["spiffe://example.org/orders", "dns:Orders.example.com"]
methods = ["*"]
phone_numbers = ["*"]
wabas = ["*"]
event_types = ["*"]
[grpc.tls]
cert_file = "DIR/port.pem"
key_file = "DIR/port.key"
client_ca_file = "DIR/port.pem"
"#;

fn with_certificate() -> Files {
    let files = Files::with_secrets();
    self_signed(files.0.path(), "port");
    files
}

#[test]
fn tls_files_and_identities_are_read_and_printed() {
    let files = with_certificate();
    let config = files.load(&format!("{COMPLETE}{TLS}client_auth = \"required\"\n")).unwrap();
    assert!(config.tls().is_some());
    assert_eq!(config.grpc.tls.as_ref().unwrap().client_auth, ClientAuth::Required);
    let snapshot = config.tenants().load();
    for (identity, name) in [
        ("spiffe://example.org/orders", Some("orders")),
        ("spiffe://example.org/orders/x", None),
        ("dns:orders.example.com", Some("orders")),
        ("dns:example.com", None),
    ] {
        let found = snapshot.caller_by_identity(&Identity::parse(identity).unwrap());
        assert_eq!(found.map(|caller| &*caller.name), name, "{identity}");
    }
    let printed = config.print();
    assert_eq!(files.load(&printed).unwrap().print(), printed);
    assert!(printed.contains("/port.key\"") && !printed.contains("PRIVATE"), "{printed}");
    assert!(!format!("{config:?}").contains("PRIVATE"));
}

#[test]
fn tls_files_that_do_not_fit_are_named_with_the_remedy() {
    let files = with_certificate();
    self_signed(files.0.path(), "other");
    files.write("empty", "");
    let whole = format!("{COMPLETE}{TLS}");
    let cases = [
        ("cert_file = \"DIR/port.pem\"", "", "grpc.tls.cert_file: is empty"),
        ("key_file = \"DIR/port.key\"", "", "grpc.tls.key_file: is empty; name the private key"),
        ("DIR/port.key", "DIR/none.key", "cannot be read: No such file"),
        ("DIR/port.key", "DIR/other.key", "the key of another certificate"),
        ("DIR/port.key", "DIR/port.pem", "must hold a private key as PEM"),
        ("cert_file = \"DIR/port.pem\"", "cert_file = \"DIR/empty\"", "must hold certificates as PEM"),
        (
            "client_ca_file = \"DIR/port.pem\"",
            "client_ca_file = \"DIR/port.key\"",
            "must hold certificates as PEM",
        ),
        (
            "client_ca_file = \"DIR/port.pem\"",
            "client_auth = \"required\"",
            "grpc.tls.client_ca_file: is empty",
        ),
        (
            "client_ca_file = \"DIR/port.pem\"",
            "",
            "callers[0].identities: clients are not asked for certificates",
        ),
        ("client_ca_file", "client_auth = \"never\"\nclient_ca_file", "must be \"optional\" or \"required\""),
        (
            "dns:Orders",
            "dns:*.Orders",
            "callers[0].identities[1] = \"dns:*.Orders.example.com\": must be a name",
        ),
        (
            "dns:Orders.example.com",
            "spiffe://example.org/orders",
            "the same identity stands at callers[0].identities[0]",
        ),
    ];
    for (part, replacement, words) in cases {
        assert!(whole.contains(part), "{part}");
        let problems = files.load(&whole.replacen(part, replacement, 1)).unwrap_err().to_string();
        assert!(problems.contains(words), "{part} → {replacement}: {problems}");
        assert!(problems.starts_with("the configuration has a problem"), "no consequences: {problems}");
    }
}

#[test]
fn certificates_and_secrets_are_swapped_apart() {
    let files = with_certificate();
    let config = files.load(&format!("{COMPLETE}{TLS}")).unwrap();
    let mut watcher = config.watcher();
    assert_eq!(settled(&mut watcher, Watcher::reload_tls_once), Reload::Unchanged);
    files.write("token", "");
    let key = fs::read_to_string(files.0.path().join("port.key")).unwrap();
    self_signed(files.0.path(), "port");
    assert_eq!(settled(&mut watcher, Watcher::reload_tls_once), Reload::Applied);
    assert!(matches!(settled(&mut watcher, Watcher::reload_once), Reload::Rejected(_)));
    files.write("port.key", &key);
    let Reload::Rejected(problems) = settled(&mut watcher, Watcher::reload_tls_once) else {
        panic!("rejected")
    };
    assert!(problems.to_string().contains("grpc.tls.key_file"), "{problems}");
}

#[test]
fn nats_is_printed_without_its_password_and_loads_again() {
    let files = Files::with_secrets();
    let password = files.write("nats-password", "canary\n");
    let more = format!(
        "[storage]\nbackend = \"nats\"\n[storage.nats]\nurls = [\"nats://a:4222\", \"tls://b\"]\nuser = \"gateway\"\n\
         password_file = {password:?}\n"
    );
    let config = files.load(&format!("{COMPLETE}{more}")).unwrap();
    let storage::Config::Nats(nats) = &config.storage else { panic!("{:?}", config.storage) };
    assert_eq!((nats.replicas, nats.prefix.as_str()), (3, "whatsapp_gateway"));
    let storage::NatsCredentialsConfig::User { password, .. } = &nats.credentials else {
        panic!("{:?}", nats.credentials)
    };
    assert_eq!(password.expose_secret(), "canary");
    let printed = config.print();
    assert!(!printed.contains("canary"), "{printed}");
    assert_eq!(files.load(&printed).unwrap().print(), printed);
}

const ON_NATS: &str = "[storage]\nbackend = \"nats\"\n[storage.nats]\nurls = [\"nats://a\"]\n";

#[test]
fn peers_are_for_nats_and_need_an_address_that_others_reach() {
    let files = Files::with_secrets();
    let peers = |lines: &str| files.load(&format!("{COMPLETE}{ON_NATS}[peers]\n{lines}\n"));
    assert_eq!(files.load(COMPLETE).unwrap().peers, None);
    let default = peers("").unwrap().peers.unwrap();
    assert!(default.listen.ip().is_loopback() && default.advertise.is_none());
    for advertise in ["10.1.2.3:7000", "[fd00::3]:7000", "gateway-0.gateway.shop.svc:7000"] {
        let lines = format!("listen = \"0.0.0.0:7000\"\nadvertise = {advertise:?}");
        let config = peers(&lines).unwrap();
        assert_eq!(config.peers.as_ref().unwrap().advertise.as_deref(), Some(advertise));
        assert_eq!(files.load(&config.print()).unwrap().print(), config.print());
    }
    for (lines, expected) in [
        (
            "listen = \"0.0.0.0:7000\"",
            "peers.advertise: is empty, and peers.listen = \"0.0.0.0:7000\" is no address",
        ),
        ("advertise = \"gateway-0\"", "peers.advertise = \"gateway-0\": must be a host and a port"),
        ("advertise = \"gateway-0:0\"", "peers.advertise = \"gateway-0:0\": must be a host and a port"),
        ("listen = \"127.0.0.1:9090\"", "peers.listen = \"127.0.0.1:9090\": takes the port of admin.listen"),
    ] {
        let found = self::lines(&peers(lines).unwrap_err());
        assert!(found.len() == 1 && found[0].starts_with(expected), "{expected}\n{found:#?}");
    }
}

#[test]
fn the_settings_that_replicas_share_tell_what_differs() {
    let files = Files::with_secrets();
    let settings = |more: &str| files.load(&format!("{COMPLETE}{more}")).unwrap().settings();
    let own = settings("");
    assert_eq!(own, settings("[admin]\nlisten = \"127.0.0.1:1234\"\n"));
    assert!(!own.contains("canary") && own.contains("callers=") || own.contains("wabas="), "{own}");
    let other = settings("[sending]\nqueue_max = 7\n");
    let differing: Vec<_> = own.split(' ').filter(|entry| !other.split(' ').any(|o| o == *entry)).collect();
    assert!(differing.len() == 1 && differing[0].starts_with("sending="), "{differing:?}");
}

#[test]
fn what_nats_needs_is_reported_with_the_remedy() {
    for (lines, expected) in [
        ("", "storage.nats.urls: is empty; name the servers"),
        ("urls = [\"http://a\"]", "storage.nats.urls[0] = \"http://a\": must be nats:// or tls://"),
        ("urls = [\"nats://u:canary@a\"]", "storage.nats.urls[0]: holds a user or a password"),
        ("urls = [\"nats://a\"]\nreplicas = 2", "storage.nats.replicas = \"2\": must be 1 or 3"),
        ("urls = [\"nats://a\"]\nprefix = \"a.b\"", "storage.nats.prefix = \"a.b\": must be 1 to 32 letters"),
        ("urls = [\"nats://a\"]\nuser = \"u\"", "storage.nats.password_file: is empty; name the file"),
        ("urls = [\"nats://a\"]\npassword_file = \"/p\"", "storage.nats.user: is empty; name the user"),
        (
            "urls = [\"nats://a\"]\nuser = \"u\"\ncredentials_file = \"/c\"",
            "storage.nats.credentials_file: is set beside",
        ),
        (
            "urls = [\"nats://a\"]\ncert_file = \"/c\"",
            "storage.nats.key_file: is empty although cert_file is set",
        ),
        ("urls = [\"nats://a\"]\nca_file = \"/none\"", "storage.nats.ca_file = \"/none\": cannot be read"),
    ] {
        let config = format!("{COMPLETE}[storage]\nbackend = \"nats\"\n[storage.nats]\n{lines}\n");
        let problems = Files::with_secrets().load(&config).unwrap_err();
        let found = self::lines(&problems);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{expected}\n{found:#?}");
        assert!(!found[0].contains("canary"), "{found:#?}");
    }
}
