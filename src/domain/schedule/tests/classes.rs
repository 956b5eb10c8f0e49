//! Who goes before whom.

use super::*;

/// A world in which `bulk` and `normal` messages wait, and time has run for two seconds.
fn crowded(rate: u32, normal: u32, bulk: u32) -> World {
    let mut world = World::new(rate);
    world.offer_many(normal, "shop", Class::Normal, None);
    world.offer_many(bulk, "campaign", Class::Bulk, None);
    world.run_until(Duration::from_secs(2));
    world
}

#[test]
fn an_urgent_message_waits_for_one_slot_at_most() {
    for (rate, normal, bulk) in [(20, 0, 1_000), (80, 0, 5_000), (80, 5_000, 5_000), (1_000, 0, 10_000)] {
        let mut world = crowded(rate, normal, bulk);
        let interval = world.lane.pacer.interval();
        for _ in 0..20 {
            world.run_until(world.now + interval * 3 / 2 + ms(7));
            let (before, offered) = (world.sent.len(), world.now);
            let (Offer::Wait { id, .. } | Offer::Go(id)) =
                world.offer_new("login", Class::Urgent, Some(SECOND))
            else {
                panic!("refused")
            };
            world.run_until(offered + interval);
            let sent_at = world.sent_at(id).expect("within a slot");
            assert!(sent_at <= offered + interval);
            assert_eq!(world.sent[before].1, id, "nothing else went out first");
        }
    }
}

#[test]
fn urgent_messages_take_every_slot_if_they_must() {
    let mut world = crowded(80, 1_000, 1_000);
    let before = world.sent.len();
    world.offer_many(200, "login", Class::Urgent, None);
    world.run_until(world.now + Duration::from_secs(2));
    let classes = world.sent[before..].iter().map(|(_, id)| world.tickets[id].class);
    assert!(classes.clone().count() > 150);
    assert!(classes.clone().all(|class| class == Class::Urgent));
}

#[test]
fn bulk_keeps_a_tenth() {
    let mut world = crowded(80, 5_000, 5_000);
    world.run_until(Duration::from_secs(20));
    let bulk = world.sent_by("campaign");
    println!("bulk had {bulk} of {}", world.sent.len());
    assert!((world.sent.len() / 10).abs_diff(bulk) <= 1);
    // Never more than nine in a row before it.
    let classes: Vec<_> = world.sent.iter().map(|(_, id)| world.tickets[id].class).collect();
    assert!(classes.windows(10).skip(10).all(|ten| ten.contains(&Class::Bulk)));
}

#[test]
fn what_a_class_does_not_need_goes_to_the_others() {
    for (normal, bulk) in [(0, 1_000), (1_000, 0), (30, 1_000), (1_000, 5)] {
        let world = crowded(80, normal, bulk);
        assert!((156..=164).contains(&world.sent.len()), "{normal} {bulk}: {}", world.sent.len());
    }
}

#[test]
fn a_new_caller_does_not_wait_for_the_backlog_of_another() {
    let mut world = crowded(80, 5_000, 0);
    let Offer::Wait { id, turn } = world.offer_new("support", Class::Normal, Some(ms(100))) else {
        panic!("refused")
    };
    world.run_until(world.now + SECOND);
    assert_eq!(world.sent_at(id), Some(turn));
}
