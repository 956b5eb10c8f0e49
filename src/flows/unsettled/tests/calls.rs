//! Calls that are no sends.

use bytes::Bytes;

use super::*;

#[tokio::test]
async fn an_answer_is_kept_until_it_is_of_no_use() {
    let world = World::new();
    let unsettled = world.process().await;
    let claim = |number, is_stale: fn(&[u8], SystemTime) -> bool| {
        let unsettled = unsettled.clone();
        async move { unsettled.claim_call(&request("a"), tag(number), IfLost::Nothing, is_stale).await.unwrap() }
    };
    let Claim::Mine(flight) = claim(1, |_, _| true).await else { panic!() };
    flight.land_for_good(Outcome::Answered(Bytes::from_static(b"one"))).await;
    assert_eq!(slots(&unsettled), 0);
    let Claim::Taken(Taken::Known(known)) = claim(2, |answer, _| answer != b"one").await else { panic!() };
    assert_eq!(known.outcome, Outcome::Answered(Bytes::from_static(b"one")));
    let Claim::Mine(flight) = claim(3, |answer, _| answer == b"one").await else { panic!() };
    flight.land_for_good(Outcome::Answered(Bytes::from_static(b"two"))).await;
    assert_eq!(world.stored("a").await, Outcome::Answered(Bytes::from_static(b"two")));
}

#[tokio::test]
async fn one_looks_again_and_the_others_join() {
    let world = World::new();
    let request = request("a");
    // With its slot, and with none because there are too many.
    for slots_max in [SLOTS_MAX, 0] {
        let unsettled = world.process_with(slots_max).await;
        assert!(unsettled.reopen(&super::request("never claimed")).await.unwrap().is_none());
        if slots_max > 0 {
            let claimed = unsettled.claim_call(&request, tag(1), IfLost::InDoubt, |_, _| false).await;
            let Ok(Claim::Mine(flight)) = claimed else { panic!() };
            let running = unsettled.reopen(&request).await.unwrap();
            assert!(matches!(running, Some(Claim::Taken(Taken::Running(_)))), "it runs: {running:?}");
            flight.land(lost()).await;
        }
        let Ok(Some(Claim::Mine(looking))) = unsettled.reopen(&request).await else { panic!() };
        // Who read before that it is in doubt, and reopens it now, hears what the look finds.
        let Ok(Some(Claim::Taken(Taken::Running(second)))) = unsettled.reopen(&request).await else {
            panic!()
        };
        let Ok(Some(Taken::Running(joined))) = unsettled.find(&request).await else { panic!() };
        looking.land(lost()).await;
        for waits in [second, joined] {
            assert!(matches!(waits.landed(None).await, Ok(Outcome::Unknown(_))));
        }
        assert_eq!(world.open_tags().await, [tag(1)], "still in doubt");
    }
    let unsettled = world.process().await;
    let Ok(Some(Claim::Mine(looking))) = unsettled.reopen(&request).await else { panic!() };
    looking.land(Outcome::Answered(Bytes::from_static(b"done"))).await;
    assert_eq!((slots(&unsettled), world.open_tags().await), (0, vec![]));
    assert_eq!(known(&unsettled, "a").await, Outcome::Answered(Bytes::from_static(b"done")));
    let settled = unsettled.reopen(&request).await.unwrap();
    let Some(Claim::Taken(Taken::Known(settled))) = settled else { panic!("{settled:?}") };
    assert_eq!(settled.outcome, Outcome::Answered(Bytes::from_static(b"done")), "not that it was in doubt");
}
