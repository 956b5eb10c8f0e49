//! Entries that share messages and are replaced: what was replaced goes, and nothing else does.

use std::collections::HashMap;

use uuid::Uuid;

use super::claims::messages;
use super::*;
use crate::clock::Clock as _;
use crate::storage::keyed_state::{Bucket, Entry, KeyedState as _, Put};
use crate::storage::nats::records::decode_entries;

const BUCKET: Bucket = Bucket::named("advancing").advancing();
const HOUR_MS: u64 = 60 * 60 * 1000;

/// Never, for what is put into a table.
const NEVER: u64 = u64::MAX;

fn put(key: u32, value: u32, expire_at_ms: u64) -> Put {
    let (key, value) = (key.to_be_bytes().to_vec(), value.to_string());
    Put {
        bucket: BUCKET,
        key: key.into(),
        value: value.into(),
        expire_at_ms: (expire_at_ms != NEVER).then_some(expire_at_ms),
    }
}

async fn value(engine: &Nats, key: u32) -> Option<u32> {
    let entry = in_time(engine.get(BUCKET, &key.to_be_bytes())).await.unwrap();
    entry.map(|Entry { value, .. }| std::str::from_utf8(&value).unwrap().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shared_messages_go_when_little_of_them_is_needed() {
    const KEYS: u32 = 320;
    let (_server, world) = open_world!();
    let engine = world.open();
    leading(&engine).await;
    let expires = world.clock.now_ms() + 24 * HOUR_MS;
    let before = messages(&engine).await;
    engine.put_all((0..KEYS).map(|key| put(key, 0, expires)).collect()).await.unwrap();
    let at_first = messages(&engine).await - before;
    assert!(at_first <= u64::from(KEYS) / 32, "{at_first} messages for {KEYS} entries");
    for round in 1..=5 {
        // Every tenth stays as it was.
        let replaced = (0..KEYS).filter(|key| key % 10 > 0);
        engine.put_all(replaced.map(|key| put(key, round, expires)).collect()).await.unwrap();
    }
    assert_eq!(engine.sweep().await.unwrap(), 0);
    assert_eq!(engine.index.sparse(1), [0; 0]);
    // Those that stand in the places of others are there for another minute.
    let emptied = || async {
        let Context { wire, names, .. } = &*engine.context;
        let last = streams::info(wire, &names.state).await.unwrap().unwrap().state.last_seq;
        let page = journal::page(wire, &names.state, 1, last).await.unwrap();
        let entries =
            page.messages.into_iter().flat_map(|message| decode_entries(message.payload).unwrap().1);
        entries.filter(|entry| entry.emptied().is_some()).count() as u64
    };
    let left = messages(&engine).await - before - emptied().await;
    assert!(left <= at_first * 2, "{left} messages are left of {at_first} that were replaced five times");
    let other = world.beside().open();
    for key in 0..KEYS {
        let expected = Some(if key % 10 > 0 { 5 } else { 0 });
        assert_eq!(value(&engine, key).await, expected, "{key}");
        assert_eq!(value(&other, key).await, expected, "{key} elsewhere");
    }
    world.clock.advance(Duration::from_hours(24));
    assert_eq!(engine.sweep().await.unwrap(), u64::from(KEYS));
    assert_eq!(value(&world.beside().open(), 7).await, None);
    assert_eq!(*world.fatal.lock().unwrap(), [""; 0]);
}

/// Whatever is put, replaced and swept in whatever order: what is read, also by a process that begins, is what a table would say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_is_what_was_put_last() {
    const KEYS: u32 = 48;
    let seed = Uuid::new_v4().as_u64_pair().0;
    println!("seed {seed}");
    let mut state = seed;
    let mut random = |below: u32| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(state >> 33).unwrap() % below
    };
    let (_server, world) = open_world!();
    let engine = world.open();
    leading(&engine).await;
    let mut table: HashMap<u32, (u32, u64)> = HashMap::new();
    let mut values = 0..;
    for step in 0..120 {
        match random(8) {
            0 => drop(engine.sweep().await.unwrap()),
            1 => world.clock.advance(Duration::from_hours(u64::from(random(4)))),
            _ => {
                // One alone stands under its key; the same key twice, and keys that expire earlier than before, may be in it.
                let count = [1, 1, 2, 20][random(4) as usize];
                let puts = (0..count).map(|_| {
                    let (key, hours) = (random(KEYS), 1 + u64::from(random(12)));
                    let lasts = key.is_multiple_of(7) && random(3) == 0;
                    let expires = if lasts { NEVER } else { world.clock.now_ms() + hours * HOUR_MS };
                    (key, values.next().unwrap(), expires)
                });
                let puts: Vec<_> = puts.collect();
                let written = puts.iter().map(|(key, value, expires)| put(*key, *value, *expires));
                engine.put_all(written.collect()).await.unwrap();
                for (key, value, expires) in puts {
                    // As long as it was promised before, if that is still known.
                    let known = table.get(&key).map_or(0, |(_, expires)| *expires);
                    table.insert(key, (value, expires.max(known)));
                }
            }
        }
        if step % 30 == 29 {
            engine.sweep().await.unwrap();
            let now_ms = world.clock.now_ms();
            let fresh = world.beside().open();
            for key in 0..KEYS {
                let expected =
                    table.get(&key).filter(|(_, expires)| *expires > now_ms).map(|(value, _)| *value);
                assert_eq!(value(&engine, key).await, expected, "{key} after step {step}");
                assert_eq!(value(&fresh, key).await, expected, "{key} elsewhere after step {step}");
            }
        }
        // What has expired is not remembered, there or here.
        let now_ms = world.clock.now_ms();
        table.retain(|_, (_, expires)| *expires > now_ms);
    }
    assert_eq!(*world.fatal.lock().unwrap(), [""; 0]);
}
