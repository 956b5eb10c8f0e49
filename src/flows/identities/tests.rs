//! One user, one key: in one process, and where several give them.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use futures_util::future::join_all;

use super::*;
use crate::clock::SystemClock;
use crate::cloud_api::normalize::normalize;
use crate::domain::conversation::UserIdentity;
use crate::domain::ids::{BusinessScopedUserId, WaId};
use crate::storage::leadership::Replica;
use crate::storage::memory::Memory;
use crate::storage::nats_server::NatsServer;
use crate::storage::{Config, NatsConfig, OnFatal, Storage};

/// A message of user `number`, with both names or only one of them.
fn message(number: u32, user_id: bool, digits: bool) -> Event {
    let body = r#"{"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [{"field": "messages", "value": {
        "messaging_product": "whatsapp", "metadata": {"display_phone_number": "1", "phone_number_id": "106540352242922"},
        "messages": [{"from": "1", "id": "wamid.1", "timestamp": "1749416383", "type": "text", "text": {"body": "Hi"}}]
    }}]}]}"#;
    let mut event = normalize(body.as_bytes(), UNIX_EPOCH).remove(0);
    event.attributes.conversation_key.clear();
    event.user = UserIdentity {
        wa_id: digits.then(|| WaId::parse(&format!("1650555{number:04}")).unwrap()),
        user_id: user_id.then(|| BusinessScopedUserId::parse(&format!("US.{number}")).unwrap()),
    };
    event
}

async fn key(identities: &Identities, event: Event) -> String {
    let mut events = [event];
    identities.assign(&mut events).await.unwrap();
    events[0].attributes.conversation_key.clone()
}

#[tokio::test]
async fn names_of_one_user_get_one_key_without_a_write() {
    let memory = Memory::new(Arc::new(SystemClock));
    let identities = Identities::new(Projections::new(memory));
    let first = key(&identities, message(1, false, true)).await;
    assert_eq!(first, "106540352242922:16505550001");
    assert_eq!(key(&identities, message(1, true, true)).await, first);
    assert_eq!(key(&identities, message(1, true, false)).await, first);
    assert_ne!(key(&identities, message(2, true, false)).await, first);
}

fn replica(server: &NatsServer) -> (Storage, Identities) {
    let config = Config::Nats(NatsConfig::at(server.url(), "race"));
    let replica = Replica::of_this_process(String::new(), bytes::Bytes::new(), String::new());
    let on_fatal: OnFatal = Arc::new(|reason| panic!("{reason}"));
    let storage = Storage::open(&config, replica, Arc::new(SystemClock), on_fatal).unwrap();
    let identities = Identities::new(Projections::new(Arc::clone(&storage.state)));
    (storage, identities)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_writes_to_several_replicas_at_once_gets_one_key() {
    let Some(server) = NatsServer::start() else { return };
    let replicas = [replica(&server), replica(&server), replica(&server)];
    for user in 0..40 {
        let names = [(true, true), (false, true), (true, true)];
        let keys = replicas
            .iter()
            .zip(names)
            .map(|((_, identities), (user_id, digits))| key(identities, message(user, user_id, digits)));
        let keys = join_all(keys).await;
        assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
        // And whoever comes later is told the same, by every name.
        let (_, late) = &replicas[(user % 3) as usize];
        assert_eq!(key(late, message(user, true, false)).await, keys[0]);
    }
    for (storage, _) in replicas {
        storage.close().await.unwrap();
    }
}

/// One webhook of many new users is not one batch: a server takes 1,000 messages in each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_of_many_new_users_is_claimed_in_parts() {
    let Some(server) = NatsServer::start() else { return };
    let (storage, identities) = replica(&server);
    let mut events: Vec<Event> = (0..1_100).map(|user| message(user, true, true)).collect();
    identities.assign(&mut events).await.unwrap();
    let (other, late) = replica(&server);
    for user in [0, 255, 256, 1_099] {
        let given = &events[user as usize].attributes.conversation_key;
        assert_eq!(key(&late, message(user, false, true)).await, *given);
    }
    for storage in [storage, other] {
        storage.close().await.unwrap();
    }
}
