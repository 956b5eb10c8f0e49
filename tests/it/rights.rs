//! What callers may do, how they find out, and what the audit log says of it.

use serde_json::Value;
use tokio::process::Command;
use tonic::{Code, Request, Status};
use whatsapp_gateway::contract::v1;

use crate::eventually;
use crate::support::rpc::{OPEN, phone, send, text};
use crate::support::serve::{ALL_RIGHTS, SECOND_NUMBER, SECOND_WABA, caller, token_hash};
use crate::support::subscriber::from_earliest;
use crate::support::{Gateway, Refusal, Serve, Subscriber, webhook};

const NUMBER: &str = webhook::PHONE_NUMBER_ID;

pub fn by<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

fn from(number: &str) -> v1::SendMessageRequest {
    v1::SendMessageRequest { phone_number_id: number.to_owned(), ..send(text("Hello")) }
}

async fn who_am_i(gateway: &Gateway, token: &str) -> Result<v1::WhoAmIResponse, Status> {
    gateway.client().await.who_am_i(by(token, v1::WhoAmIRequest {})).await.map(tonic::Response::into_inner)
}

/// What `create-token` prints: the token and its line.
async fn created(arguments: &[&str]) -> (String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_whatsapp-gateway"));
    let output = command.arg("create-token").args(arguments).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{stdout}");
    (lines[0].to_owned(), lines[1].to_owned())
}

#[tokio::test]
async fn a_created_token_works_and_says_who_it_is() {
    let (token, line) = created(&["--caller", "orders", "--expires-in", "90 days"]).await;
    let (other, other_line) = created(&["--caller", "billing"]).await;
    assert_ne!(token, other);
    assert!(!line.contains(&token) && other_line.len() < line.len(), "{line}");
    let rights = "methods = [\"SendMessage\", \"ManageTemplate/*\"]\nphone_numbers = [\"*\"]\n\
                  wabas = [\"102290129340398\"]\nsends_per_second = 5\n";
    let callers = format!(
        "[[callers]]\nname = \"orders\"\n{line}\n{rights}[[callers]]\nname = \"billing\"\n{other_line}\n{ALL_RIGHTS}"
    );
    let Serve { gateway, .. } = &Serve::builder().more(&callers).start().await;
    let known = who_am_i(gateway, &token).await.unwrap();
    assert_eq!((known.name.as_str(), known.credential()), ("orders", v1::CallerCredential::Token));
    assert_eq!(Some(known.token_id.as_str()), token.split('_').nth(1));
    assert!(known.token_expire_time.is_some());
    let rights = known.rights.unwrap();
    assert_eq!(rights.methods, ["SendMessage", "ManageTemplate/*"]);
    assert_eq!(
        (rights.phone_number_ids, rights.waba_ids),
        (vec!["*".to_owned()], vec![webhook::WABA_ID.to_owned()])
    );
    assert_eq!((rights.sends_per_second, rights.streams_max), (Some(5), None));
    assert!(rights.event_types.is_empty());
    assert_eq!(who_am_i(gateway, &other).await.unwrap().token_expire_time, None);

    let local = gateway.client().await.who_am_i(v1::WhoAmIRequest {}).await.unwrap().into_inner();
    assert_eq!((local.name.as_str(), local.credential()), ("local", v1::CallerCredential::Loopback));
    assert_eq!(local.rights.unwrap().methods, ["*"]);
    let mistyped = token.replace("wag_", "wag_0");
    let refused = Refusal::of(&who_am_i(gateway, &mistyped).await.unwrap_err());
    assert_eq!(refused.is(), (Code::Unauthenticated, "CALLER_UNAUTHENTICATED"));
    assert_eq!(refused.metadata["cause"], "malformed");
    assert!(refused.message.contains("checksum"), "{}", refused.message);
    assert!(!gateway.log().contains(&token[20..40]));
}

#[tokio::test]
async fn a_caller_sees_a_gateway_with_its_own_numbers_only() {
    let one =
        format!("methods = [\"*\"]\nphone_numbers = [{NUMBER:?}]\nwabas = [\"*\"]\nevent_types = [\"*\"]\n");
    let callers = [caller("all", "all", ALL_RIGHTS), caller("one", "one", &one)].concat();
    let Serve { gateway, .. } = &Serve::builder().more(&callers).start().await;
    let mut client = gateway.client().await;
    let ambiguous = Refusal::of(&client.send_message(by("all", from(""))).await.unwrap_err());
    assert_eq!(ambiguous.is(), (Code::InvalidArgument, "VALIDATION_FAILED"));
    assert!(ambiguous.message.contains(NUMBER) && ambiguous.message.contains(SECOND_NUMBER));
    let sent = client.send_message(by("one", from(""))).await.unwrap().into_inner();
    assert_eq!(sent.phone_number_id, NUMBER);
    let refused = Refusal::of(&client.send_message(by("one", from(SECOND_NUMBER))).await.unwrap_err());
    assert_eq!(refused.is(), (Code::PermissionDenied, "CALLER_NOT_ALLOWED"));
    assert_eq!((refused.metadata["right"].as_str(), refused.actor()), ("phone_numbers", "operator"));
    assert!(!refused.message.contains(NUMBER), "{}", refused.message);
    let absent = Refusal::of(&client.send_message(by("all", from("999"))).await.unwrap_err());
    assert_eq!(absent.is(), (Code::NotFound, "PHONE_NUMBER_NOT_CONFIGURED"));
}

#[tokio::test]
async fn a_migration_needs_the_right_to_both_accounts() {
    let one = format!("methods = [\"ManageTemplate/*\"]\nwabas = [{:?}]\n", webhook::WABA_ID);
    let Serve { gateway, .. } = &Serve::builder().more(&caller("one", "one", &one)).start().await;
    let migrate = |source: &str| v1::ManageTemplateRequest {
        action: Some(v1::manage_template_request::Action::Migrate(v1::MigrateTemplatesAction {
            source_waba_id: source.to_owned(),
            ..Default::default()
        })),
        validate_only: true,
        ..Default::default()
    };
    let mut client = gateway.client().await;
    let refused = Refusal::of(&client.manage_template(by("one", migrate(SECOND_WABA))).await.unwrap_err());
    assert_eq!(refused.is(), (Code::PermissionDenied, "CALLER_NOT_ALLOWED"));
    assert_eq!(refused.metadata["right"], "wabas");
}

#[tokio::test]
async fn a_subscriber_sees_the_events_of_its_numbers_and_types() {
    let events = |numbers: &str, types: &str| {
        format!("methods = [\"SubscribeEvents\"]\nphone_numbers = [{numbers:?}]\nevent_types = [{types:?}]\n")
    };
    let callers = [
        caller("received", "received", &events(NUMBER, "whatsapp.message.received")),
        caller("calls", "calls", &events(NUMBER, "whatsapp.calls")),
        caller("second", "second", &events(SECOND_NUMBER, "*")),
    ];
    let Serve { gateway, .. } = &Serve::builder().more(&callers.concat()).start().await;
    let message = webhook::text("wamid.A", "16505551234", "Hello").to_string();
    assert_eq!(gateway.post_webhook(message).await, 200);
    let seen = async |token: &str, filter: v1::EventFilter| {
        let mut request = from_earliest();
        (request.stop_when_caught_up, request.filter) = (true, Some(filter));
        let answer = gateway.client().await.subscribe_events(by(token, request)).await;
        let mut frames = answer.map_err(|status| Refusal::of(&status))?.into_inner();
        let mut count = 0;
        while let Some(response) = frames.message().await.unwrap() {
            if let Some(v1::subscribe_events_response::Frame::Events(batch)) = response.frame {
                count += batch.events.len();
            }
        }
        Ok::<_, Refusal>(count)
    };
    let everything = v1::EventFilter::default();
    assert_eq!(seen("received", everything.clone()).await.unwrap(), 1);
    assert_eq!(seen("calls", everything.clone()).await.unwrap(), 0);
    assert_eq!(seen("second", everything).await.unwrap(), 0);
    let wider = v1::EventFilter { types: vec!["whatsapp.*".to_owned()], ..Default::default() };
    assert_eq!(seen("received", wider).await.unwrap(), 1);
    let of_number = v1::EventFilter { phone_number_ids: vec![NUMBER.to_owned()], ..Default::default() };
    let refused = seen("second", of_number).await.unwrap_err();
    assert_eq!(refused.is(), (Code::PermissionDenied, "CALLER_NOT_ALLOWED"));
    let of_type = v1::EventFilter { types: vec!["whatsapp.message.status".to_owned()], ..Default::default() };
    assert_eq!(seen("received", of_type).await.unwrap_err().metadata["right"], "event_types");
}

#[tokio::test]
async fn quotas_hold_for_each_caller() {
    let limits = format!("{ALL_RIGHTS}sends_per_second = 1\nstreams_max = 1\n");
    let callers = [caller("one", "one", &limits), caller("two", "two", &limits)].concat();
    let Serve { gateway, .. } = &Serve::builder().more(&callers).start().await;
    let mut client = gateway.client().await;
    let check = v1::SendMessageRequest { validate_only: true, ..from(NUMBER) };
    for _ in 0..3 {
        client.send_message(by("one", check.clone())).await.unwrap();
    }
    let sends = ["one", "one", "one"].map(|token| {
        let mut client = client.clone();
        async move { client.send_message(by(token, from(NUMBER))).await }
    });
    let outcomes = futures_util::future::join_all(sends).await;
    let refused: Vec<_> = outcomes.iter().filter_map(|o| o.as_ref().err()).map(Refusal::of).collect();
    assert!(!refused.is_empty() && refused.len() < 3, "{outcomes:?}");
    assert_eq!(refused[0].is(), (Code::ResourceExhausted, "CALLER_QUOTA"));
    assert!(refused[0].retry.is_some_and(|delay| !delay.is_zero() && delay.as_secs() < 3), "{refused:?}");
    client.send_message(by("two", from(NUMBER))).await.unwrap();

    let first = client.subscribe_events(by("one", from_earliest())).await.unwrap();
    let watch = || {
        let key = Some(v1::watch_message_request::Key::MessageId("wamid.A".to_owned()));
        v1::WatchMessageRequest { phone_number_id: NUMBER.to_owned(), key, ..Default::default() }
    };
    let second = Refusal::of(&client.subscribe_events(by("one", from_earliest())).await.unwrap_err());
    assert_eq!(second.is(), (Code::ResourceExhausted, "CALLER_QUOTA"));
    let watched = Refusal::of(&client.watch_message(by("one", watch())).await.unwrap_err());
    assert_eq!(watched.is(), (Code::ResourceExhausted, "CALLER_QUOTA"));
    client.watch_message(by("two", watch())).await.unwrap();
    drop(first);
    eventually!(client.watch_message(by("one", watch())).await.is_ok());
}

#[tokio::test]
async fn calls_without_credentials_may_be_limited() {
    let local =
        format!("[[callers]]\nname = \"local\"\nmethods = [\"SendMessage\"]\nphone_numbers = [{NUMBER:?}]\n");
    let Serve { gateway, .. } = &Serve::builder().more(&local).start().await;
    gateway.send(from("")).await;
    let refused = Subscriber::open(&mut gateway.client().await, from_earliest()).await.unwrap_err();
    assert_eq!(Refusal::of(&refused).is(), (Code::PermissionDenied, "CALLER_NOT_ALLOWED"));
}

#[tokio::test]
async fn each_message_of_a_stream_needs_the_right_to_its_number() {
    let one = format!("methods = [\"SendMessages\"]\nphone_numbers = [{NUMBER:?}]\n");
    let Serve { gateway, .. } = &Serve::builder().more(&caller("one", "one", &one)).start().await;
    let asked = |key: &str, number: &str| v1::SendMessagesRequest {
        key: key.to_owned(),
        message: Some(from(number)),
        ..Default::default()
    };
    let requests = futures_util::stream::iter([asked("own", ""), asked("other", SECOND_NUMBER)]);
    let mut answers = gateway.client().await.send_messages(by("one", requests)).await.unwrap().into_inner();
    let mut codes = std::collections::BTreeMap::new();
    while let Some(answer) = answers.message().await.unwrap() {
        let code = match answer.result.unwrap() {
            v1::send_messages_response::Result::Response(_) => Code::Ok,
            v1::send_messages_response::Result::Error(error) => Code::from(error.code),
        };
        codes.insert(answer.key, code);
    }
    let expected = [("other".to_owned(), Code::PermissionDenied), ("own".to_owned(), Code::Ok)];
    assert_eq!(codes.into_iter().collect::<Vec<_>>(), expected);
    eventually!(audit(gateway).len() == 3);
    let decided = |decision: &str| audit(gateway).iter().filter(|line| line["decision"] == decision).count();
    assert_eq!(
        (decided("allowed"), decided("denied")),
        (2, 1),
        "one line for the stream, one for each message"
    );
    let alone = Refusal::of(&gateway.client().await.send_message(by("one", from(""))).await.unwrap_err());
    assert_eq!(alone.is(), (Code::PermissionDenied, "CALLER_NOT_ALLOWED"));
}

/// The lines of the audit log.
pub fn audit(gateway: &Gateway) -> Vec<Value> {
    let log = gateway.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["target"] == "audit").collect()
}

#[tokio::test]
async fn the_audit_log_says_who_did_what_and_nothing_private() {
    let one = format!(
        "methods = [\"SendMessage\", \"ManageTemplate/list\"]\nphone_numbers = [{NUMBER:?}]\nwabas = [\"*\"]\n"
    );
    let late = format!(
        "[[callers]]\nname = \"late\"\ntoken_sha256 = [\"{} expires=2020-01-01T00:00:00Z\"]\n{ALL_RIGHTS}",
        token_hash("late-token")
    );
    let more = caller("one", "one", &one) + &late;
    let Serve { gateway, .. } = &Serve::builder().more(&more).start().await;
    let mut client = gateway.client().await;
    let private = v1::SendMessageRequest {
        recipient: Some(phone(OPEN)),
        content: Some(text("canary-text")),
        callback_data: "canary-data".to_owned(),
        ..from("")
    };
    let sent = client.send_message(by("one", private.clone())).await.unwrap().into_inner();
    client.send_message(by("one", private)).await.unwrap();
    client.send_message(by("one", from(SECOND_NUMBER))).await.unwrap_err();
    client.get_media(by("one", v1::GetMediaRequest::default())).await.unwrap_err();
    client.send_message(by("canary-token", from(NUMBER))).await.unwrap_err();
    let archive = v1::manage_template_request::Action::Archive(v1::ArchiveTemplatesAction::default());
    let archive = v1::ManageTemplateRequest {
        waba_id: SECOND_WABA.to_owned(),
        action: Some(archive),
        ..Default::default()
    };
    client.manage_template(by("one", archive)).await.unwrap_err();
    client.send_message(by("late-token", from(NUMBER))).await.unwrap_err();
    eventually!(audit(gateway).len() == 7);
    let lines = audit(gateway);
    let word = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let said: Vec<_> = lines.iter().map(|l| ["method", "decision", "code"].map(|key| word(l, key))).collect();
    assert_eq!(
        said,
        [
            ["SendMessage", "allowed", "OK"],
            ["SendMessage", "allowed", "OK"],
            ["SendMessage", "denied", "PERMISSION_DENIED"],
            ["GetMedia", "denied", "PERMISSION_DENIED"],
            ["SendMessage", "unauthenticated", "UNAUTHENTICATED"],
            ["ManageTemplate/archive", "denied", "PERMISSION_DENIED"],
            ["SendMessage", "unauthenticated", "UNAUTHENTICATED"],
        ]
        .map(|line| line.map(str::to_owned))
    );
    assert_eq!(
        ["caller", "credential", "phone_number_id"].map(|k| word(&lines[0], k)),
        ["one", "token", NUMBER]
    );
    assert!(word(&lines[0], "token_id").starts_with("sha256:") && word(&lines[0], "peer") == "127.0.0.1");
    assert_eq!(word(&lines[2], "phone_number_id"), SECOND_NUMBER);
    assert_eq!(word(&lines[4], "cause"), "unknown");
    assert_eq!(["cause", "caller"].map(|key| word(&lines[6], key)), ["expired", "late"]);
    assert!(word(&lines[6], "token_id").starts_with("sha256:"), "{:?}", lines[6]);
    let rights: Vec<_> = lines.iter().map(|line| word(line, "right")).collect();
    assert_eq!(rights, ["", "", "phone_numbers", "methods", "", "methods", ""]);
    assert_eq!(word(&lines[0], "recipient").len(), 16);
    assert_eq!(word(&lines[0], "recipient"), word(&lines[1], "recipient"), "one key for the process");
    assert_ne!(word(&lines[0], "message"), word(&lines[1], "message"));
    let text = format!("{lines:?}");
    for private in ["canary", OPEN.trim_start_matches('+'), sent.message_id.as_str()] {
        assert!(!text.contains(private), "{private} in {text}");
    }
}

#[tokio::test]
async fn the_audit_log_is_switched_as_any_other() {
    let quiet = Serve::builder().env("WHATSAPP_GATEWAY__TELEMETRY__LOG_LEVEL", "debug,audit=off");
    let Serve { gateway, .. } = &quiet.start().await;
    gateway.send(from(NUMBER)).await;
    eventually!(gateway.log().contains(r#""caller":"local""#));
    assert!(audit(gateway).is_empty());
}
