//! Several gateways on one NATS prefix: one leads, all serve.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Code;
use whatsapp_gateway::contract::v1;
use whatsapp_gateway::contract::v1::MessageState;
use whatsapp_gateway::contract::v1::gateway_service_client::GatewayServiceClient;

use crate::eventually;
use crate::lanes;
use crate::media::{self, File};
use crate::message_life;
use crate::rights::{audit, by};
use crate::send_stream::Sends;
use crate::support::is_short;
use crate::support::nats_server::NatsServer;
use crate::support::rpc::{OPEN, queued, text_to};
use crate::support::serve::{ALL_RIGHTS, Builder, SECOND_NUMBER, caller};
use crate::support::subscriber::from_earliest;
use crate::support::template::create;
use crate::support::webhook::{PHONE_NUMBER_ID, text};
use crate::support::worker::settings;
use crate::support::{Cluster, Gateway, Refusal, Serve, Subscriber, Worker};

fn on(server: &NatsServer) -> Builder {
    Serve::builder().on_nats(&server.url(), "1")
}

fn request(id: &str) -> v1::SendMessageRequest {
    v1::SendMessageRequest {
        request_id: id.to_owned(),
        phone_number_id: PHONE_NUMBER_ID.to_owned(),
        ..text_to(OPEN, "Hello")
    }
}

#[tokio::test]
async fn a_webhook_at_any_gateway_is_heard_at_all_in_one_order() {
    let Some(server) = NatsServer::start() else { return };
    let cluster = Cluster::start(on(&server), 3).await;
    let mut streams = Vec::new();
    for index in 0..3 {
        let mut client = cluster.at(index).client().await;
        streams.push(Subscriber::open(&mut client, from_earliest()).await.unwrap());
    }
    let mut posts = JoinSet::new();
    for n in 0..60_u64 {
        let sender = cluster.at(usize::try_from(n % 3).unwrap()).sender();
        let body = text(&format!("wamid.{n}"), &format!("1650555{n:04}"), "Hi");
        posts.spawn(async move { sender.post(&body).await });
    }
    assert_eq!(posts.join_all().await, [Some(200); 60]);
    let mut heard = Vec::new();
    for stream in &mut streams {
        let events = stream.take(60).await.unwrap();
        heard.push(events.into_iter().map(|event| (event.cursor, event.subject)).collect::<Vec<_>>());
    }
    let subjects: HashMap<_, _> = heard[0].iter().map(|(cursor, subject)| (subject, cursor)).collect();
    assert_eq!(subjects.len(), 60, "each once");
    assert!(heard[0] == heard[1] && heard[1] == heard[2], "{heard:#?}");
    // The same body at another gateway is known.
    assert_eq!(cluster.at(2).post_webhook(text("wamid.0", "16505550000", "Hi").to_string()).await, 200);
    assert_eq!(cluster.at(1).events().await.len(), 60);
}

#[tokio::test]
async fn what_is_asked_of_any_gateway_is_done_once() {
    let Some(server) = NatsServer::start() else { return };
    let cluster = Cluster::start(on(&server), 3).await;
    let (leader, first, second) = (cluster.at(0), cluster.at(1), cluster.at(2));
    let sent = first.send(request("order-1")).await;
    let again = second.send(request("order-1")).await;
    assert_eq!((again.message_id.as_str(), again.replayed), (sent.message_id.as_str(), true));
    assert!(leader.send(request("order-1")).await.replayed);
    assert_eq!(leader.sent_bodies().await.len(), 1);

    let waits = first.send(queued("order-2", OPEN, "Later")).await;
    assert_eq!(waits.state(), v1::SendState::Queued);
    eventually!(second.send_reports().await.len() == 1);
    let (_, report) = second.send_reports().await.remove(0);
    assert_eq!((report.request_id.as_str(), &report.send_tag), ("order-2", &waits.send_tag));

    let key = v1::watch_message_request::Key::MessageId(sent.message_id.clone());
    let watched = v1::WatchMessageRequest {
        phone_number_id: PHONE_NUMBER_ID.to_owned(),
        key: Some(key),
        until: MessageState::Delivered.into(),
    };
    let mut watch = second.client().await.watch_message(watched).await.unwrap().into_inner();
    let seen = message_life::rest(&mut watch).await;
    assert!(message_life::states(&seen).last().unwrap() >= &MessageState::Delivered, "{seen:?}");

    let sends = Sends::open(&mut first.client().await).await.unwrap();
    for n in 0..20 {
        let message = text_to(&format!("+1555000{n:04}"), "Hello");
        sends
            .write(
                &n.to_string(),
                v1::SendMessageRequest { phone_number_id: PHONE_NUMBER_ID.to_owned(), ..message },
            )
            .await;
    }
    let (answers, end) = sends.rest().await;
    end.unwrap();
    assert_eq!(answers.len(), 20);
    assert!(
        answers.values().filter(|a| matches!(a, v1::send_messages_response::Result::Response(_))).count() > 0
    );
    drop(answers);
    assert_eq!(leader.metric("whatsapp_gateway_relayed_call_seconds_count{outcome=\"answered\"}").await, 0);
    assert!(first.metric("whatsapp_gateway_relayed_call_seconds_count{outcome=\"answered\"}").await >= 3);
}

#[tokio::test]
async fn files_and_templates_pass_through_any_gateway() {
    let Some(server) = NatsServer::start() else { return };
    let cluster = Cluster::start(on(&server), 2).await;
    let follower = cluster.at(1);
    let mut client = follower.client().await;
    let file = File { seed: 7, bytes: 5_000_003 };
    let mut header = file.header("video/mp4");
    header.phone_number_id = PHONE_NUMBER_ID.to_owned();
    let uploaded = media::upload(&mut client, media::messages(header, file.pieces())).await.unwrap();
    assert_eq!(uploaded.sha256, file.sha256());
    let Some(v1::upload_media_response::Result::MediaId(media_id)) = uploaded.result else { panic!() };
    let wanted = v1::DownloadMediaRequest {
        phone_number_id: PHONE_NUMBER_ID.to_owned(),
        media_id,
        ..Default::default()
    };
    let downloaded = media::download(&mut client, wanted).await.unwrap();
    assert!(downloaded.end.is_none(), "{:?}", downloaded.end);
    assert_eq!((downloaded.bytes, downloaded.sha256), (5_000_003, file.sha256()));

    let action = v1::manage_template_request::Action::Create(create("parcel", "Your parcel is here."));
    let request = v1::ManageTemplateRequest {
        waba_id: crate::support::webhook::WABA_ID.to_owned(),
        request_id: "create-1".to_owned(),
        action: Some(action),
        ..Default::default()
    };
    let made = client.manage_template(request.clone()).await.unwrap().into_inner();
    let again = cluster.at(0).client().await.manage_template(request).await.unwrap().into_inner();
    assert!(again.replayed && again.result == made.result);
}

#[tokio::test]
async fn workers_at_all_gateways_share_a_subscription() {
    let Some(server) = NatsServer::start() else { return };
    let cluster = Cluster::start(on(&server), 3).await;
    cluster.at(1).subscription(settings("orders")).await;
    let mut workers = Vec::new();
    for index in 0..3 {
        workers.push(Worker::open(cluster.at(index), "orders").await);
    }
    for n in 0..30_u64 {
        let body = text(&format!("wamid.{n}"), &format!("1650555{n:04}"), "Hi").to_string();
        assert_eq!(cluster.at(usize::try_from(n % 3).unwrap()).post_webhook(body).await, 200);
    }
    let (tell, mut told) = tokio::sync::mpsc::channel(64);
    let mut working = JoinSet::new();
    for mut worker in workers {
        let tell = tell.clone();
        working.spawn(async move {
            while let Ok(deliveries) = worker.stream.deliveries().await {
                if deliveries.is_empty() {
                    return;
                }
                worker.done(&deliveries).await;
                for delivery in deliveries {
                    tell.send(delivery.event.unwrap().subject).await.unwrap();
                }
            }
        });
    }
    let mut done = Vec::new();
    while done.len() < 30 {
        done.push(tokio::time::timeout(Duration::from_secs(20), told.recv()).await.unwrap().unwrap());
    }
    done.sort();
    done.dedup();
    assert_eq!(done.len(), 30, "each was done once");
    eventually!(cluster.at(2).subscribed("orders").await.backlog_estimate == 0);
    working.abort_all();
}

#[tokio::test]
async fn a_follower_refuses_as_the_leader_does() {
    let Some(server) = NatsServer::start() else { return };
    let one =
        format!("methods = [\"SendMessage\"]\nphone_numbers = [{PHONE_NUMBER_ID:?}]\nsends_per_second = 2\n");
    let callers = [caller("one", "one", &one), caller("all", "all", ALL_RIGHTS)].concat();
    let cluster = Cluster::start(on(&server).more(&callers), 2).await;
    let mut refusals = Vec::new();
    for gateway in [cluster.at(0), cluster.at(1)] {
        let mut client = gateway.client().await;
        let foreign = v1::SendMessageRequest { phone_number_id: SECOND_NUMBER.to_owned(), ..request("x") };
        let empty = v1::SendMessageRequest { content: None, ..request("y") };
        let unknown = v1::GetMessageRequest {
            phone_number_id: PHONE_NUMBER_ID.to_owned(),
            key: Some(v1::get_message_request::Key::MessageId("wamid.none".to_owned())),
        };
        refusals.push([
            Refusal::of(&client.send_message(by("one", foreign)).await.unwrap_err()),
            Refusal::of(&client.send_message(by("all", empty)).await.unwrap_err()),
            Refusal::of(&client.get_message(by("all", unknown.clone())).await.unwrap_err()),
            Refusal::of(&client.get_message(by("one", unknown)).await.unwrap_err()),
            Refusal::of(&client.send_message(by("nobody", request("z"))).await.unwrap_err()),
        ]);
    }
    for (at_leader, at_follower) in refusals[0].iter().zip(&refusals[1]) {
        assert_eq!(at_leader.is(), at_follower.is());
        assert_eq!(at_leader.message, at_follower.message);
        assert_eq!((&at_leader.metadata, at_leader.retry), (&at_follower.metadata, at_follower.retry));
        assert_eq!(at_leader.violations, at_follower.violations);
    }
    // What a caller may send in a second is counted once.
    let mut refused = 0;
    for n in 0..12 {
        let mut client = cluster.at(n % 2).client().await;
        let answer = client.send_message(by("one", request(&format!("quota-{n}")))).await;
        if let Err(status) = answer {
            let refusal = Refusal::of(&status);
            assert_eq!(refusal.is(), (Code::ResourceExhausted, "CALLER_QUOTA"));
            refused += 1;
        }
    }
    assert!(refused >= 6, "{refused} of 12 were refused");
    // A call has one line, where it was decided, with its caller and how it came.
    let lines = |gateway: &Gateway, caller: &str, method: &str| {
        let lines = audit(gateway).into_iter();
        lines.filter(|line| line["caller"] == caller && line["method"] == method).collect::<Vec<_>>()
    };
    eventually!(lines(cluster.at(0), "one", "SendMessage").len() == 2 + 12);
    let relayed = lines(cluster.at(0), "one", "SendMessage");
    let relayed: Vec<_> = relayed.iter().filter(|line| line["via"].is_string()).collect();
    assert_eq!(relayed.len(), 1 + 6);
    let process = format!("process {}", cluster.at(1).child.id().unwrap());
    assert!(relayed.iter().all(|line| line["via"].as_str().unwrap().starts_with(&process)), "{relayed:?}");
    assert!(relayed.iter().all(|line| line["peer"] == "127.0.0.1" && line["credential"] == "token"));
    assert_eq!(lines(cluster.at(1), "one", "SendMessage").len(), 0);
    assert_eq!(
        lines(cluster.at(1), "one", "GetMessage").len(),
        1,
        "the right to a method is looked at where it is asked"
    );
}

fn beside<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> JoinSet<T> {
    let mut tasks = JoinSet::new();
    tasks.spawn(work);
    tasks
}

async fn ended<T: 'static>(mut work: JoinSet<T>) -> T {
    work.join_next().await.unwrap().unwrap()
}

/// Calls one after the other until told to stop, to this number and those behind it; how many worked, and what the others said.
fn keep_sending(gateway: &Gateway, first: u64, stop: &Arc<AtomicBool>) -> JoinSet<(u64, Vec<String>)> {
    let (endpoint, stop) = (gateway.endpoint(), Arc::clone(stop));
    beside(async move {
        let mut client = GatewayServiceClient::new(endpoint.connect().await.unwrap());
        let (mut worked, mut failed) = (0, Vec::new());
        while !stop.load(Ordering::Relaxed) {
            match client.send_message(lanes::template_to(&format!("+{}", first + worked))).await {
                Ok(_) => worked += 1,
                Err(status) => {
                    failed.push(format!("{status:?}"));
                    break;
                }
            }
        }
        (worked, failed)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_is_replaced_while_calls_wait() {
    let Some(server) = NatsServer::start() else { return };
    let mut cluster = Cluster::start(on(&server), 3).await;
    let before = cluster.at(1).send(request("before")).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (sender, hears) = (cluster.at(1).sender(), Arc::clone(&stop));
    let webhooks = beside(async move {
        let mut statuses = Vec::new();
        while !hears.load(Ordering::Relaxed) {
            let body = text(&format!("wamid.{}", statuses.len()), "16505551234", "Hi");
            statuses.push(sender.post(&body).await);
        }
        statuses
    });
    // One call is at Meta when the leader dies.
    cluster.at(0).fault("/messages", json!({"delay_ms": 3000})).await;
    let mut client = cluster.at(2).client().await;
    let lost = beside(async move { client.send_message(request("lost")).await });
    eventually!(cluster.at(0).sent_bodies().await.len() == 2);
    cluster.take(0).kill().await;
    let killed = Instant::now();
    let after = cluster.at(1).send(request("after")).await;
    let took = killed.elapsed();
    println!("the next leader answered after {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(!after.replayed);
    let lost = Refusal::of(&ended(lost).await.unwrap_err());
    assert_eq!(lost.is(), (Code::Unknown, "SEND_OUTCOME_UNKNOWN"));
    assert!(lost.message.contains("if the request had a request_id"), "{}", lost.message);
    assert_eq!(cluster.at(2).send(request("before")).await.message_id, before.message_id);
    stop.store(true, Ordering::Relaxed);
    let statuses = ended(webhooks).await;
    let refused = statuses.iter().filter(|status| **status != Some(200)).count();
    assert_eq!(refused, 0, "of {} webhooks", statuses.len());
    assert!(statuses.len() > 1);
    // What nobody knows is not sent again by asking again.
    let again = cluster.at(1).client().await.send_message(request("lost")).await;
    if let Err(status) = again {
        assert_eq!(Refusal::of(&status).is(), (Code::Unknown, "SEND_OUTCOME_UNKNOWN"));
    }
    let bodies = cluster.at(1).sent_bodies().await;
    assert_eq!(bodies.len(), 3, "{bodies:?}");
    assert_eq!(cluster.leader().await.min(1), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_ends_in_order_costs_no_call() {
    let Some(server) = NatsServer::start() else { return };
    let mut cluster = Cluster::start(on(&server), 3).await;
    let stop = Arc::new(AtomicBool::new(false));
    let callers = [1, 2].map(|index| {
        let first = 16_505_550_000 + 1_000 * u64::try_from(index).unwrap();
        keep_sending(cluster.at(index), first, &stop)
    });
    eventually!(cluster.at(1).sent_bodies().await.len() > 20);
    assert_eq!(cluster.take(0).terminate().await, Some(0));
    let next = cluster.leader().await;
    let sent = cluster.at(next).sent_bodies().await.len();
    eventually!(cluster.at(next).sent_bodies().await.len() > sent + 20);
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        let (worked, failed) = ended(caller).await;
        println!("{worked} calls worked");
        assert!(failed.is_empty(), "{failed:#?}");
    }
}

/// 80 messages a second of one number, over three gateways that are asked for unequal numbers of them.
#[tokio::test]
async fn the_rate_of_a_number_holds_over_all_gateways() {
    const LOAD: [u64; 3] = [40, 260, 100];
    let Some(server) = NatsServer::start() else { return };
    let log_level = "WHATSAPP_GATEWAY__TELEMETRY__LOG_LEVEL";
    let cluster = Cluster::start(on(&server).env(log_level, "debug"), 3).await;
    let mut calls = FuturesUnordered::new();
    let mut to = 16_505_550_000_u64;
    for (index, count) in LOAD.iter().enumerate() {
        let client = cluster.at(index).client().await;
        for _ in 0..*count {
            to += 1;
            let mut client = client.clone();
            let mut request = tonic::Request::new(lanes::template_to(&format!("+{to}")));
            request.set_timeout(Duration::from_secs(30));
            calls.push(async move { client.send_message(request).await });
        }
    }
    while let Some(answer) = calls.next().await {
        answer.unwrap();
    }
    let times: Vec<u64> = lanes::turns(cluster.at(0)).into_iter().map(|(time, _)| time).collect();
    let arrived = lanes::arrivals(cluster.at(0)).await;
    let count = usize::try_from(LOAD.iter().sum::<u64>()).unwrap();
    assert_eq!((times.len(), arrived.len()), (count, count));
    let took = Duration::from_millis(times[count - 1] - times[0]);
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    let per_second = (count - 1) as f64 / took.as_secs_f64();
    let fullest = lanes::fullest_second(&times);
    println!("{count} sends in {took:?}: {per_second:.1} per second, at most {fullest} in a second");
    let fullest_arrived = lanes::fullest_second(&arrived);
    println!("of those that arrived at Meta at most {fullest_arrived} in a second");
    // In the short form not held against the rate: a busy machine moves together on the way what left apart (`domain/schedule` has
    // that).
    assert!(is_short() || fullest_arrived <= lanes::FULLEST_SECOND_MAX);
    assert!(fullest <= lanes::FULLEST_SECOND_MAX);
    // Where the machine had time for it: a scheduler that wakes too late has lost turns for good.
    assert!(lanes::fullest(&times, 2000) >= 2 * 76, "{per_second}");
}
