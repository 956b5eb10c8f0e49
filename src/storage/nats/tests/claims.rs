//! Claims that share a message, and what becomes of it.

use futures_util::future::join_all;

use super::*;
use crate::storage::keyed_state::{Bucket, KeyedState as _, Precondition, Put};
use crate::storage::nats::index::Slot;
use crate::storage::nats::plan::Plan;
use crate::storage::nats::records::decode_entries;

const BUCKET: Bucket = Bucket::named("claimed");
const KEPT: Duration = Duration::from_hours(24);

/// Claims two keys of that number.
async fn claim(engine: &Nats, number: u64) -> bool {
    let entries = ["a", "b"].map(|name| (Bytes::from(format!("{name}{number}")), Bytes::from("value")));
    in_time(engine.claims().unwrap().claim(BUCKET, entries.into(), KEPT)).await.unwrap()
}

pub(super) async fn messages(engine: &Nats) -> u64 {
    let Context { wire, names, .. } = &*engine.context;
    streams::info(wire, &names.state).await.unwrap().unwrap().state.messages
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_of_one_commit_share_a_message_until_they_are_over() {
    const CLAIMS: u64 = 100;
    let (_server, world) = open_world!();
    let (engine, other_world) = (world.open(), world.beside());
    leading(&engine).await;
    let before = messages(&engine).await;
    let claimed = join_all((0..CLAIMS).map(|number| claim(&engine, number))).await;
    assert!(claimed.iter().all(|claimed| *claimed));
    let stored = messages(&engine).await - before;
    assert!(stored < CLAIMS, "{stored} messages for {CLAIMS} claims of two keys");

    // Another process reads them, and one that begins.
    let other = other_world.open();
    for number in 0..CLAIMS {
        assert!(!claim(&other, number).await, "{number}");
        let entry = other.get(BUCKET, format!("b{number}").as_bytes()).await.unwrap();
        assert_eq!(entry.unwrap().value, "value", "{number}");
    }
    assert!(other.delete(BUCKET, b"a0", Precondition::None).await.unwrap());
    let third = world.beside().open();
    assert_eq!(third.get(BUCKET, b"a0").await.unwrap(), None);
    assert!(third.get(BUCKET, b"b0").await.unwrap().is_some());

    world.clock.advance(KEPT);
    assert_eq!(engine.sweep().await.unwrap(), 2 * CLAIMS - 1);
    assert_eq!(engine.sweep().await.unwrap(), 0);
    assert!(claim(&other, 7).await);
    assert!(!claim(&world.beside().open(), 7).await);
    assert_eq!(*world.fatal.lock().unwrap(), [""; 0]);
}

#[test]
fn what_shares_a_message_is_kept_past_its_end() {
    const NOW_MS: u64 = 1_750_000_000_000;
    let names = Names::of("p");
    let put = |key: &'static str, expire_at_ms| Put {
        bucket: BUCKET,
        key: Bytes::from(key),
        value: Bytes::from("v"),
        expire_at_ms,
    };
    let planned = |fill: &dyn Fn(&mut Plan)| {
        let mut plan = Plan::default();
        fill(&mut plan);
        plan.close();
        plan.messages(&names, [7; 16], NOW_MS)
    };
    let keys = |payload: &Bytes| {
        let (mark, entries) = decode_entries(payload.clone()).unwrap();
        assert_eq!(mark.write, [7; 16]);
        let keys =
            entries.iter().map(|entry| (String::from_utf8(entry.key.to_vec()).unwrap(), entry.is_shared));
        (mark.part, keys.collect::<Vec<_>>())
    };
    let expires = Some(NOW_MS + 60_000);
    // What is written otherwise comes behind, with a message each.
    let both = planned(&|plan| {
        plan.share(&put("a", expires));
        plan.share(&put("b", expires));
        plan.put(&put("c", None));
    });
    assert_eq!(both.iter().map(|message| message.kept_seconds).collect::<Vec<_>>(), [Some(60 + 3600), None]);
    assert_eq!(keys(&both[0].payload), (0, vec![("a".to_owned(), true), ("b".to_owned(), true)]));
    assert_eq!(keys(&both[1].payload), (1, vec![("c".to_owned(), false)]));
    // Two messages are shared where some last; who is alone in one stays there behind the other.
    let lasts = planned(&|plan| {
        plan.share(&put("a", expires));
        plan.share(&put("b", expires));
        plan.share(&put("a", None));
    });
    assert_eq!(lasts.iter().map(|message| message.kept_seconds).collect::<Vec<_>>(), [Some(60 + 3600), None]);
    assert_ne!(lasts[0].subject, lasts[1].subject);
    // No server counts that far: it would take 2286 for the past, and refuse 9999.
    for expires in [9_999_999_999_000, 253_402_300_799_000] {
        let far = planned(&|plan| {
            plan.share(&put("a", Some(expires)));
            plan.share(&put("b", Some(expires)));
            plan.put(&put("c", Some(expires)));
        });
        assert_eq!(far.iter().map(|message| message.kept_seconds).collect::<Vec<_>>(), [None, None]);
    }
    // One that shares with nobody is as any other.
    let claimed = planned(&|plan| plan.share(&put("a", expires)));
    let written = planned(&|plan| {
        plan.put(&put("a", expires));
    });
    assert_eq!((&claimed[0].subject, claimed[0].kept_seconds), (&written[0].subject, Some(60 + 3600)));
    // The grave of one that shares lies as long as its message may.
    let held = Slot { revision: 1, expire_at_ms: expires, value_bytes: 1, is_shared: true };
    let at = || ("claimed".to_owned(), Bytes::from("a"));
    let grave = planned(&|plan| plan.remove(at(), held));
    assert_eq!(grave[0].kept_seconds, Some(60 + 3600));
    assert_ne!(grave[0].subject, written[0].subject);
    let grave = planned(&|plan| plan.remove(at(), Slot { is_shared: false, ..held }));
    assert_eq!((&grave[0].subject, grave[0].kept_seconds), (&written[0].subject, Some(60)));
}
