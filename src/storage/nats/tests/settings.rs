//! Servers and streams with which acknowledged events could be lost.

use std::fs;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;

fn refused(world: &World) -> String {
    tokio::task::block_in_place(|| world.try_open()).unwrap_err().to_string()
}

/// A connection of somebody else.
async fn other(world: &World) -> Wire {
    Wire::new(opening::connected(&world.config).await.unwrap())
}

/// Changes a setting of a stream as an operator would.
async fn alter(wire: &Wire, stream: &str, setting: &str, value: &Value) {
    let info: Value = wire.ask(&format!("STREAM.INFO.{stream}"), &Value::Null).await.unwrap();
    let mut config = info["config"].clone();
    config[setting] = value.clone();
    wire.ask::<Value>(&format!("STREAM.UPDATE.{stream}"), &config).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_takes_only_small_messages_is_refused() {
    let Some(server) = NatsServer::with("", "sync_interval: always") else { return };
    let text = refused(&World::at(server.url()));
    assert!(
        text.contains("takes messages up to 1048576 bytes") && text.contains("set max_payload: 8MB"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_copies_than_servers_are_refused() {
    let (_server, mut world) = open_world!();
    world.config.replicas = 3;
    let text = refused(&world);
    assert!(
        text.contains("cannot be created with 3 replicas") && text.contains("storage.nats.replicas"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there_or_knows_nobody_is_said() {
    let lines = "max_payload: 8MB\nauthorization { user: gateway, password: right }";
    let Some(server) = NatsServer::with(lines, "sync_interval: always") else { return };
    let mut world = World::at(server.url());
    let text = refused(&world);
    assert!(text.contains("NATS cannot be reached") && text.contains("check storage.nats.urls"), "{text}");
    let as_user = |password: &str| Credentials::User {
        user: "gateway".to_owned(),
        password_file: "/password".into(),
        password: password.to_owned().into(),
    };
    world.config.credentials = as_user("wrong");
    assert!(!refused(&world).contains("wrong"));
    world.config.credentials = as_user("right");
    append(&world.open(), [1]).await;
    drop(server);
    assert!(refused(&world).contains("NATS cannot be reached"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_starts_later_is_waited_for() {
    let lines = "max_payload: 8MB\nauthorization { user: gateway, password: right }";
    let Some(mut server) = NatsServer::with(lines, "sync_interval: always") else { return };
    let mut world = World::at(server.url());
    world.unreached_max = PATIENCE;
    // Who is refused is told at once.
    let began = Instant::now();
    assert!(refused(&world).contains("credentials"));
    assert!(began.elapsed() < PATIENCE / 2);
    let password = "right".to_owned().into();
    world.config.credentials =
        Credentials::User { user: "gateway".to_owned(), password_file: "/password".into(), password };
    server.kill();
    let opening = std::thread::spawn(move || world.open());
    tokio::task::block_in_place(|| {
        // One try at least is in vain.
        std::thread::park_timeout(Duration::from_millis(700));
        assert!(!opening.is_finished());
        server.restart();
    });
    let engine = tokio::task::block_in_place(|| opening.join().unwrap());
    append(&engine, [1]).await;
}

/// nats-server 2.14 makes the folder of an account for its first client, and takes it away again if there is nothing in it: a stream
/// that another client creates meanwhile finds none. A file in its place does the same, once: the server removes it then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_finds_no_folder_for_a_stream_is_asked_again() {
    let (server, world) = open_world!();
    let account = server.store_dir().join("jetstream/$G");
    fs::create_dir_all(&account).unwrap();
    fs::write(account.join("streams"), "").unwrap();
    append(&world.open(), [1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_somebody_altered_is_refused_with_the_setting() {
    let (_server, world) = open_world!();
    let mut engine = world.open();
    for (is_state, setting, value, kept) in [
        (false, "discard", json!("old"), json!("new")),
        (true, "discard", json!("old"), json!("new")),
        (false, "max_age", json!(3_600_000_000_000_u64), json!(0)),
        (false, "max_bytes", json!(1 << 20), json!(64 << 20)),
        (false, "max_msgs", json!(5), json!(-1)),
        (false, "allow_atomic", json!(false), json!(true)),
        (false, "no_ack", json!(true), json!(false)),
    ] {
        engine.close().await.unwrap();
        let (wire, names) = (other(&world).await, engine.context.names.clone());
        let stream = if is_state { &names.state } else { &names.events };
        alter(&wire, stream, setting, &value).await;
        let text = refused(&world);
        let expected = format!("the stream {stream} has {setting} = {value}, and the gateway needs {kept}");
        assert!(text.contains(&expected) && text.contains("nats stream edit"), "{text}");
        alter(&wire, stream, setting, &kept).await;
        engine = world.open();
    }
    append(&engine, [1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_lease_is_refused_with_the_command_that_mends_it() {
    let (_server, world) = open_world!();
    let engine = world.open();
    engine.close().await.unwrap();
    let (wire, lease) = (other(&world).await, engine.context.names.lease.clone());
    alter(&wire, &lease, "max_age", &json!(3_600_000_000_000_u64)).await;
    let text = refused(&world);
    let (found, command) = (
        format!("the stream {lease} has max_age = 3600000000000"),
        format!("`nats stream rm {lease} --force`"),
    );
    assert!(
        text.starts_with(&found) && text.contains(&command) && !text.contains("nats stream edit"),
        "{text}"
    );
    wire.ask::<Value>(&format!("STREAM.DELETE.{lease}"), &Value::Null).await.unwrap();
    leading(&world.open()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_altered_meanwhile_ends_the_process() {
    let (_server, world) = open_world!();
    let engine = world.open();
    let Context { wire, names, .. } = &*engine.context;
    alter(wire, &names.events, "discard", &json!("old")).await;
    let mut acceptance = engine.watch_acceptance();
    let failed = acceptance.wait_for(|now| *now == Acceptance::Refusing(Refusal::Failed));
    timeout(Duration::from_secs(30), failed).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_do_not_belong_together_are_refused() {
    let (_server, world) = open_world!();
    let engine = world.open();
    append(&engine, [1]).await;
    engine.close().await.unwrap();
    let (wire, names) = (other(&world).await, &engine.context.names);
    wire.ask::<Value>(&format!("STREAM.DELETE.{}", names.state), &Value::Null).await.unwrap();
    let text = refused(&world);
    assert!(text.contains(&format!("the stream {} is missing", names.state)), "{text}");
    // Somebody helps with the state of another time.
    let info: Value = wire.ask(&format!("STREAM.INFO.{}", names.events), &Value::Null).await.unwrap();
    let mut config = info["config"].clone();
    config["name"] = json!(names.state);
    config["subjects"] = json!([names.subject(streams::Kind::State, "*.*")]);
    config["metadata"] = json!({});
    for (setting, value) in
        [("allow_msg_ttl", json!(true)), ("max_msgs_per_subject", json!(1)), ("max_bytes", json!(-1))]
    {
        config[setting] = value;
    }
    wire.ask::<Value>(&format!("STREAM.CREATE.{}", names.state), &config).await.unwrap();
    let text = refused(&world);
    assert!(text.contains("do not belong together"), "{text}");
}

#[test]
fn old_servers_are_refused() {
    for (version, is_fit) in
        [("2.9.10", false), ("2.11.9", false), ("2.12.0", true), ("2.14.9-RC.1", true), ("3.0.0", true)]
    {
        let fit = streams::fit("n", version, usize::MAX);
        assert_eq!(fit.is_ok(), is_fit, "{version}: {fit:?}");
    }
}
