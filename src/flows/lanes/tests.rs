use std::sync::mpsc;

use futures_util::FutureExt;
use tokio::time::advance;

use super::*;
use crate::domain::failure::{Actor, Class as FailureClass, Reason, Retry};
use crate::domain::schedule::Feedback;

fn lanes(rate: u32) -> Lanes {
    Lanes::new(Pace { fixed_rate: Some(rate), by_recipient: true }, Shutdown::new())
}

fn number() -> PhoneNumberId {
    PhoneNumberId::parse("1065").unwrap()
}

fn wish(to: u32, patience: Option<Duration>) -> Wish {
    Wish {
        number: number(),
        caller: Caller::local(),
        class: Class::Normal,
        pair: PairKey::new(&format!("1065:{to}")),
        deadline: patience.map(|patience| Instant::now() + patience),
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn turns_come_one_after_the_other_by_themselves() {
    let (lanes, began) = (lanes(10), Instant::now());
    for to in 0..11 {
        lanes.turn(wish(to, None)).await.unwrap().done(Feedback::Accepted);
    }
    let took = began.elapsed();
    assert!((SECOND..SECOND * 11 / 10).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn who_stops_waiting_stands_in_nobodys_way() {
    let lanes = lanes(1);
    lanes.turn(wish(0, None)).await.unwrap().done(Feedback::Accepted);
    for _ in 0..1000 {
        assert!(lanes.turn(wish(1, None)).now_or_never().is_none());
    }
    let began = Instant::now();
    lanes.turn(wish(2, None)).await.unwrap().done(Feedback::Accepted);
    assert!(began.elapsed() < SECOND * 11 / 10);
    let lane = lanes.lane(&number());
    assert!(lane.state().waiters.is_empty() && lane.state().lane.waiting() == 0);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_is_dropped_lets_the_next_to_the_same_recipient_go() {
    let lanes = lanes(1000);
    drop(lanes.turn(wish(0, None)).await.unwrap());
    lanes.turn(wish(0, Some(SECOND))).await.unwrap().done(Feedback::Accepted);
}

#[tokio::test(start_paused = true)]
async fn the_next_to_a_recipient_waits_for_the_answer_to_the_one_before() {
    let lanes = lanes(1000);
    let first = lanes.turn(wish(0, None)).await.unwrap();
    let mut second = std::pin::pin!(lanes.turn(wish(0, None)));
    assert!(second.as_mut().now_or_never().is_none());
    advance(SECOND).await;
    assert!(second.as_mut().now_or_never().is_none());
    first.done(Feedback::Accepted);
    second.await.unwrap().done(Feedback::Accepted);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_in_time_is_refused_at_once() {
    let lanes = lanes(1);
    lanes.turn(wish(0, None)).await.unwrap().done(Feedback::Accepted);
    let refusal = lanes.turn(wish(1, Some(SECOND / 2))).now_or_never().unwrap().unwrap_err();
    assert_eq!(refusal.why, Why::Throughput);
    assert!(refusal.retry_after.is_some_and(|after| after <= SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_second_try_waits_for_its_pause_and_its_turn() {
    let (lanes, began) = (lanes(1000), Instant::now());
    let turn = lanes.turn(wish(0, Some(SECOND * 10))).await.unwrap();
    let turn = turn.again(Feedback::NotSent, SECOND * 3).await.unwrap();
    assert!((SECOND * 3..SECOND * 4).contains(&began.elapsed()));
    let refusal = turn.again(Feedback::NotSent, SECOND * 30).await.unwrap_err();
    assert!(refusal.retry_after.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_parked_number_refuses_the_hurried_and_keeps_the_patient() {
    let lanes = lanes(1000);
    let verdict = Verdict {
        class: FailureClass::FailedPrecondition,
        reason: Reason::UpstreamCredentials,
        actor: Actor::Operator,
        retry: Retry::AfterChange,
    };
    lanes.park(&number(), verdict);
    let refusal = lanes.turn(wish(0, Some(SECOND * 30))).now_or_never().unwrap().unwrap_err();
    assert_eq!(refusal.why, Why::Parked(verdict));
    let (told, hears) = mpsc::channel();
    let offered = lanes.line_up(wish(1, None), Box::new(move |turn| told.send(turn).unwrap()));
    assert!(matches!(offered, Offered::Waiting(_)));
    advance(Duration::from_hours(1)).await;
    assert!(hears.try_recv().is_err());
    lanes.resume(&number());
    hears.try_recv().unwrap().unwrap().done(Feedback::Accepted);
}

#[tokio::test(start_paused = true)]
async fn who_lined_up_may_leave() {
    let lanes = lanes(1);
    lanes.turn(wish(0, None)).await.unwrap().done(Feedback::Accepted);
    let Offered::Waiting(id) = lanes.line_up(wish(1, None), Box::new(|_| panic!("it has left"))) else {
        panic!("the turn came at once");
    };
    assert!(lanes.leave(&number(), id));
    assert!(!lanes.leave(&number(), id));
    advance(SECOND * 10).await;
    lanes.turn(wish(2, None)).await.unwrap().done(Feedback::Accepted);
}

#[tokio::test(start_paused = true)]
async fn received_messages_and_a_new_rate_count() {
    let lanes = Lanes::new(Pace { fixed_rate: None, by_recipient: true }, Shutdown::new());
    lanes.received(&number(), 1000);
    let began = Instant::now();
    lanes.turn(wish(0, None)).await.unwrap().done(Feedback::Accepted);
    assert!(began.elapsed().is_zero(), "before the first send nobody counts");
    lanes.set_rate(&number(), 1);
    lanes.received(&number(), 1);
    lanes.turn(wish(1, None)).await.unwrap().done(Feedback::Accepted);
    assert!(began.elapsed() > SECOND * 9 / 10, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_throttled_number_is_left_alone_for_so_long() {
    let (lanes, began) = (lanes(1000), Instant::now());
    let turn = lanes.turn(wish(0, None)).await.unwrap();
    turn.done(Feedback::Throttled { retry_after: Some(SECOND * 2) });
    lanes.turn(wish(1, None)).await.unwrap().done(Feedback::Accepted);
    assert!(began.elapsed() >= SECOND * 2);
    lanes.suspend(&number(), SECOND * 60);
    let refusal = lanes.turn(wish(2, Some(SECOND * 30))).await.unwrap_err();
    assert_eq!(refusal.why, Why::Suspended);
}
