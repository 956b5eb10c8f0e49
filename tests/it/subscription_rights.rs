//! Whose a subscription is, and what its caller may see of it.

use tonic::{Code, Request, Status};
use whatsapp_gateway::contract::v1;
use whatsapp_gateway::contract::v1::create_subscription_request::Start;

use crate::support::serve::{ALL_RIGHTS, SECOND_NUMBER, SECOND_WABA, caller};
use crate::support::worker::{settings, work};
use crate::support::{Gateway, Refusal, Serve, Subscriber, webhook};

fn by<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

async fn create(gateway: &Gateway, token: &str, settings: v1::Subscription) -> Result<(), Status> {
    let start = Some(Start::Position(v1::Position::Earliest.into()));
    let request = v1::CreateSubscriptionRequest { subscription: Some(settings), start };
    gateway.subscriptions().await.create_subscription(by(token, request)).await.map(drop)
}

#[tokio::test]
async fn a_subscription_belongs_to_its_caller_who_sees_no_more_than_it_may() {
    let own = format!(
        "methods = [\"*\"]\nphone_numbers = [{SECOND_NUMBER:?}]\nwabas = [{SECOND_WABA:?}]\nevent_types = [\"whatsapp.*\"]\n"
    );
    let none =
        "methods = [\"SubscribeEvents\"]\nphone_numbers = [\"*\"]\nwabas = []\nevent_types = [\"*\"]\n";
    let callers = [
        caller("all", "all", &format!("{ALL_RIGHTS}streams_max = 1\n")),
        caller("own", "own", &own),
        caller("reader", "reader", none),
    ];
    let serve = Serve::builder().more(&callers.concat()).start().await;
    let gateway = &serve.gateway;
    let text = webhook::text("a1", "16505550001", "Hi").to_string();
    assert_eq!(gateway.post_webhook(text).await, 200);
    create(gateway, "all", settings("orders")).await.unwrap();

    // Others do not see it, whatever they may do.
    let get = || v1::GetSubscriptionRequest { name: "orders".to_owned() };
    let refused = gateway.subscriptions().await.get_subscription(by("own", get())).await.unwrap_err();
    assert_eq!(Refusal::of(&refused).is(), (Code::NotFound, "SUBSCRIPTION_NOT_FOUND"));
    let refused = gateway.subscriptions().await.get_subscription(by("reader", get())).await.unwrap_err();
    assert_eq!(Refusal::of(&refused).is(), (Code::PermissionDenied, "CALLER_NOT_ALLOWED"));
    create(gateway, "own", settings("orders")).await.unwrap();
    let list = v1::ListSubscriptionsRequest::default();
    let listed = gateway.subscriptions().await.list_subscriptions(by("own", list)).await.unwrap();
    assert_eq!(listed.into_inner().subscriptions.len(), 1);

    // What its caller may not see is passed, and what it may not name is refused.
    let filter =
        v1::EventFilter { phone_number_ids: vec![webhook::PHONE_NUMBER_ID.to_owned()], ..Default::default() };
    let named = v1::Subscription { filter: Some(filter), ..settings("theirs") };
    let refusal = Refusal::of(&create(gateway, "own", named).await.unwrap_err());
    assert_eq!(refusal.is(), (Code::PermissionDenied, "CALLER_NOT_ALLOWED"));
    let peek = || v1::SubscribeEventsRequest { stop_when_caught_up: true, ..work("orders") };
    let mut frames = gateway.client().await.subscribe_events(by("own", peek())).await.unwrap().into_inner();
    while let Some(frame) = frames.message().await.unwrap() {
        assert!(!matches!(frame.frame, Some(v1::subscribe_events_response::Frame::Events(_))), "{frame:?}");
    }

    // A worker's stream is among the streams of its caller.
    let mut client = gateway.client().await;
    let open = client.subscribe_events(by("all", work("orders"))).await.unwrap();
    let refused = client.subscribe_events(by("all", work("orders"))).await.unwrap_err();
    assert_eq!(Refusal::of(&refused).is(), (Code::ResourceExhausted, "CALLER_QUOTA"));
    drop(open);
}

#[tokio::test]
async fn a_caller_has_a_hundred_subscriptions_at_most() {
    let gateway = Gateway::dev().await;
    for number in 0..100 {
        gateway.subscription(settings(&format!("s{number}"))).await;
    }
    let request = v1::CreateSubscriptionRequest { subscription: Some(settings("more")), start: None };
    let refused = gateway.subscriptions().await.create_subscription(request).await.unwrap_err();
    assert_eq!(Refusal::of(&refused).is(), (Code::ResourceExhausted, "SUBSCRIPTION_QUOTA"));
    let mut stream = Subscriber::open(&mut gateway.client().await, work("s99")).await.unwrap();
    assert_eq!(stream.opened.max_batch_events, 32);
    drop(stream.frame().await);
}
