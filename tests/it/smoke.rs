//! The conversation of the README, through generated clients.

use serde_json::json;
use whatsapp_gateway::contract::v1::{self, event::Payload};

use crate::eventually;
use crate::support::Gateway;

#[tokio::test]
async fn a_conversation() {
    let gateway = Gateway::dev().await;
    gateway.simulate("messages", &json!({"from": "16505551234", "text": "Is the shop open?"})).await;
    eventually!(gateway.events().await.len() == 1);
    let events = gateway.events().await;
    let Some(Payload::Message(message)) = &events[0].payload else {
        panic!("expected a message: {events:?}")
    };
    assert_eq!(message.sender, "16505551234");

    let address = v1::recipient::Address::PhoneNumber(format!("+{}", message.sender));
    let text = v1::Text { body: "Yes, until six.".to_owned(), preview_url: false };
    let request = v1::SendMessageRequest {
        recipient: Some(v1::Recipient { address: Some(address) }),
        content: Some(v1::send_message_request::Content::Text(text)),
        callback_data: "order=1".to_owned(),
        ..Default::default()
    };
    let sent = gateway.client().await.send_message(request).await.unwrap().into_inner();
    assert_eq!(sent.state(), v1::SendState::Accepted);

    eventually!(gateway.events().await.len() == 4);
    let words: Vec<_> = gateway.events().await[1..]
        .iter()
        .map(|event| {
            let Some(Payload::Status(status)) = &event.payload else {
                panic!("expected a status: {event:?}")
            };
            assert_eq!((&status.id, &status.send_tag), (&sent.message_id, &sent.send_tag));
            assert_eq!(status.callback_data, "order=1");
            status.status.clone()
        })
        .collect();
    assert_eq!(words, ["sent", "delivered", "read"]);
}
