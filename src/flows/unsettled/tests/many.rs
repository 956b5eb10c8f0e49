//! More in doubt than slots are kept for.

use std::sync::atomic::Ordering;

use super::*;
use crate::domain::message::{Endpoint, PhoneNumber, PreparedMessage, Recipient};
use crate::domain::schedule::Class;
use crate::storage::sends::{QueuedSend, Resend};

#[tokio::test]
async fn too_many_in_doubt_are_left_to_the_store_and_lost_to_nobody() {
    let world = World::new();
    let mut unsettled = world.process_with(3).await;
    for number in 0..8 {
        mine(&unsettled, &number.to_string(), number).await.land(lost()).await;
    }
    for is_next_process in [false, true] {
        if is_next_process {
            unsettled = world.process_with(3).await;
        }
        assert_eq!(slots(&unsettled), 3);
        assert_eq!(unsettled.inner.parked().count(), 5);
        for number in 0..8 {
            let id = number.to_string();
            assert!(matches!(known(&unsettled, &id).await, Outcome::Unknown(_)), "{id}");
            let again = claim(&unsettled, &id, 100).await;
            assert!(matches!(again, Ok(Claim::Taken(Taken::Known(_)))), "{id}: {again:?}");
        }
    }
    // Statuses prove one with a slot and one without, twice, while the store refuses at first.
    let parked = (0..8).map(tag).find(|tag| unsettled.inner.slot(tag).is_none()).unwrap();
    let kept = (0..8).map(tag).find(|tag| unsettled.inner.slot(tag).is_some()).unwrap();
    world.store.allow(0);
    for tag in [&parked, &kept, &parked] {
        unsettled.note(&world.status(tag, "wamid.A"), world.clock.now());
    }
    assert!(unsettled.record_behind().await.is_err());
    world.store.allow(usize::MAX);
    unsettled.record_behind().await.unwrap();
    assert_eq!((slots(&unsettled), unsettled.inner.parked().count()), (2, 4));
    let open = world.open_tags().await;
    assert!(open.len() == 6 && !open.contains(&parked) && !open.contains(&kept), "{open:?}");
    // The others are forgotten in time, and statuses need not look into the store any more.
    world.clock.advance(KEPT + MINUTE + Duration::from_hours(1));
    unsettled.round().await;
    assert!(slots(&unsettled) == 0 && unsettled.inner.parked().is_empty());
}

fn message() -> PreparedMessage {
    PreparedMessage {
        phone_number_id: PhoneNumberId::parse("1").unwrap(),
        recipient: Recipient::PhoneNumber(PhoneNumber::parse("+16505551234").unwrap()),
        endpoint: Endpoint::Messages,
        json: "{}".to_owned(),
    }
}

#[tokio::test]
async fn sends_that_are_to_go_out_again_keep_their_slots_and_are_counted() {
    let world = World::new();
    let unsettled = world.process_with(0).await;
    let message = message();
    let resend = || Some(Resend { message: message.clone(), count: 0 });
    let claimed = unsettled.claim(&request("a"), tag(1), false, resend()).await;
    let Ok(Claim::Mine(flight)) = claimed else { panic!("{claimed:?}") };
    flight.land(lost()).await;
    for count in 1..=3 {
        assert_eq!(slots(&unsettled), 1, "before attempt {count}");
        assert!(unsettled.silent_for(MINUTE, 9).is_empty(), "not yet");
        world.clock.advance(MINUTE);
        let flight = unsettled.silent_for(MINUTE, 9).pop().unwrap();
        assert_eq!(flight.count_resend().await.unwrap().as_ref(), Some(&message));
        let pending = world.sends().pending(&tag(1)).await.unwrap().unwrap();
        assert_eq!(pending.resend.unwrap().count, count);
        flight.land(lost()).await;
    }
    assert_eq!(slots(&unsettled), 0, "it does not go out again, so the store is enough");
    unsettled.note(&world.status(&tag(1), "wamid.A"), world.clock.now());
    unsettled.record_behind().await.unwrap();
    assert_eq!(message_id(&known(&unsettled, "a").await), "wamid.A");
    // When too many wait, no more are taken; what was sent is told all the same.
    unsettled.inner.resends.store(RESENDS_WAITING_MAX, Ordering::Relaxed);
    let refused = unsettled.claim(&request("b"), tag(2), false, resend()).await;
    assert!(matches!(refused, Err(Error::TooManyInDoubt)), "{refused:?}");
    assert!(unsettled.find(&request("b")).await.unwrap().is_none(), "nothing was claimed");
    let known = unsettled.claim(&request("a"), tag(3), false, resend()).await;
    assert!(matches!(known, Ok(Claim::Taken(Taken::Known(_)))), "{known:?}");
    unsettled.round().await;
    let claimed = unsettled.claim(&request("b"), tag(2), false, resend()).await;
    assert!(matches!(claimed, Ok(Claim::Mine(_))), "{claimed:?}");
}

#[tokio::test]
async fn a_queued_send_that_may_go_out_again_waits_while_too_many_are_in_doubt() {
    let world = World::new();
    let unsettled = world.process().await;
    let queued = |id: &str, may_resend| QueuedSend {
        request_id: id.to_owned(),
        caller: Caller::local(),
        class: Class::Normal,
        not_before: None,
        not_after: world.clock.now() + KEPT,
        message: message(),
        kind: "text".to_owned(),
        window_policy: None,
        fallback: None,
        may_resend,
        callback_data: String::new(),
        trace: None,
    };
    for (id, number, may_resend) in [("a", 1, true), ("b", 2, false)] {
        let queued = queued(id, may_resend);
        let taken = unsettled.enqueue(&request(id), tag(number), world.clock.now(), queued, |_| false).await;
        assert!(matches!(taken, Ok(None)), "{taken:?}");
    }
    let depart = async |number| {
        let (pending, stored) = unsettled.pending(&tag(number)).await.unwrap().unwrap();
        let queued = *pending.queued.clone().unwrap();
        unsettled.depart(&queued, &pending, stored, false).await
    };
    unsettled.inner.resends.store(RESENDS_WAITING_MAX, Ordering::Relaxed);
    let waits = depart(1).await;
    assert!(matches!(waits, Err(Error::TooManyInDoubt)), "{waits:?}");
    assert_eq!(world.stored("a").await, Outcome::Queued);
    assert!(matches!(depart(2).await, Ok(Some(_))), "it needs no slot for long");
    unsettled.inner.resends.store(0, Ordering::Relaxed);
    assert!(matches!(depart(1).await, Ok(Some(_))));
}
