mod calls;
mod many;

use std::time::SystemTime;

use futures_util::FutureExt as _;

use super::*;
use crate::clock::{Clock as _, ManualClock};
use crate::domain::caller::Caller;
use crate::domain::event::StatusReport;
use crate::domain::ids::MessageId;
use crate::domain::message::MessageAcceptance;
use crate::storage::contract::sends::Mortal;
use crate::storage::memory::Memory;

const KEPT: Duration = Duration::from_hours(24);
const MINUTE: Duration = Duration::from_mins(1);
const START: SystemTime = SystemTime::UNIX_EPOCH;

/// A store that outlives the processes that use it, and that can be made to take no writes.
struct World {
    clock: Arc<ManualClock>,
    store: Arc<Mortal>,
}

impl World {
    fn new() -> Self {
        let clock = ManualClock::new(START + Duration::from_hours(500_000));
        let store = Mortal::new(Memory::new(Arc::clone(&clock) as SharedClock), usize::MAX);
        Self { clock, store }
    }

    fn sends(&self) -> Sends {
        Sends::new(Arc::clone(&self.store) as _, KEPT)
    }

    /// A process; its calls are gone with it.
    async fn process(&self) -> Unsettled {
        self.process_with(SLOTS_MAX).await
    }

    async fn process_with(&self, slots_max: usize) -> Unsettled {
        let clock = Arc::clone(&self.clock) as SharedClock;
        let unsettled = Unsettled::with_slots(slots_max, self.sends(), clock, Shutdown::new());
        unsettled.load().await.unwrap();
        unsettled
    }

    async fn open_tags(&self) -> Vec<SendTag> {
        let mut open = Vec::new();
        self.sends().open_sends(|_, stored| open.push(stored.record.tag)).await.unwrap();
        open
    }

    async fn stored(&self, id: &str) -> Outcome {
        self.sends().request(&request(id).key).await.unwrap().unwrap().record.outcome
    }

    fn status(&self, tag: &SendTag, message_id: &str) -> StatusReport {
        StatusReport {
            message_id: message_id.to_owned(),
            status: "sent".to_owned(),
            time: self.clock.now(),
            send_tag: Some(tag.clone()),
            error: None,
            free_entry_until: None,
        }
    }
}

fn request(id: &str) -> Request {
    Request {
        key: RequestKey::of(&Caller::named("orders"), "SendMessage", id),
        id: id.to_owned(),
        fingerprint: [1; 32],
        phone_number_id: Some(PhoneNumberId::parse("1").unwrap()),
    }
}

fn another(id: &str) -> Request {
    Request { fingerprint: [2; 32], ..request(id) }
}

fn tag(number: u32) -> SendTag {
    SendTag::parse(&format!("AZ3kq0p2cXKkzqv1{number:05}w")).unwrap()
}

fn accepted(message_id: &str) -> Outcome {
    let message_id = MessageId::parse(message_id).unwrap();
    let acceptance = MessageAcceptance::Accepted;
    Outcome::Accepted(Receipt { message_id, acceptance, recipient: None, accept_time: START })
}

fn message_id(outcome: &Outcome) -> &str {
    let Outcome::Accepted(receipt) = outcome else { panic!("{outcome:?}") };
    receipt.message_id.as_str()
}

fn lost() -> Outcome {
    Outcome::Unknown(unknown("the answer is lost"))
}

async fn claim(unsettled: &Unsettled, id: &str, number: u32) -> Result<Claim, Error> {
    unsettled.claim(&request(id), tag(number), false, None).await
}

async fn mine(unsettled: &Unsettled, id: &str, number: u32) -> Flight {
    match claim(unsettled, id, number).await {
        Ok(Claim::Mine(flight)) => flight,
        other => panic!("{other:?}"),
    }
}

async fn known(unsettled: &Unsettled, id: &str) -> Outcome {
    match unsettled.find(&request(id)).await {
        Ok(Some(Taken::Known(known))) => known.outcome,
        other => panic!("{other:?}"),
    }
}

fn slots(unsettled: &Unsettled) -> usize {
    unsettled.inner.slots().len()
}

#[tokio::test]
async fn one_sends_the_others_join_and_later_ones_get_the_answer() {
    let world = World::new();
    let unsettled = world.process().await;
    let flight = mine(&unsettled, "a", 1).await;
    let Ok(Claim::Taken(Taken::Running(joined))) = claim(&unsettled, "a", 2).await else { panic!() };
    assert_eq!(joined.tag, tag(1));
    let Ok(Some(Taken::Running(found))) = unsettled.find(&request("a")).await else { panic!() };
    let soon = tokio::time::Instant::now();
    assert!(matches!(found.landed(Some(soon)).await, Err(Error::InProgress)));
    let landed = found.landed(None);
    flight.land(accepted("wamid.A")).await;
    assert_eq!(message_id(&landed.await.unwrap()), "wamid.A");
    assert_eq!(message_id(&joined.landed(None).await.unwrap()), "wamid.A");
    assert!((slots(&unsettled), world.open_tags().await) == (0, vec![]), "settled and stored");
    for process in [unsettled, world.process().await] {
        assert_eq!(message_id(&known(&process, "a").await), "wamid.A");
        let Ok(Claim::Taken(Taken::Known(again))) = claim(&process, "a", 3).await else { panic!() };
        assert_eq!((again.tag, message_id(&again.outcome)), (tag(1), "wamid.A"));
    }
}

#[tokio::test]
async fn another_request_under_the_id_is_refused_whatever_became_of_the_first() {
    let world = World::new();
    let unsettled = world.process().await;
    let ends = [None, Some(accepted("wamid.A")), Some(undone_outcome()), Some(lost())];
    for (number, end) in (0..).zip(ends) {
        let id = number.to_string();
        let flight = mine(&unsettled, &id, number).await;
        let running = match end {
            None => Some(flight),
            Some(outcome) => {
                flight.land(outcome).await;
                None
            }
        };
        let claimed = unsettled.claim(&another(&id), tag(number + 100), false, None).await;
        assert!(matches!(claimed, Err(Error::Reused)), "{number}: {claimed:?}");
        assert!(matches!(unsettled.find(&another(&id)).await, Err(Error::Reused)), "{number}");
        drop(running);
    }
}

#[tokio::test]
async fn what_was_refused_is_claimed_again() {
    let world = World::new();
    let unsettled = world.process().await;
    mine(&unsettled, "a", 1).await.land(undone_outcome()).await;
    assert!(unsettled.find(&request("a")).await.unwrap().is_none(), "nothing stands in the way");
    // The refusal cannot be written, nor can another claim.
    let flight = mine(&unsettled, "a", 2).await;
    world.store.allow(0);
    flight.land(undone_outcome()).await;
    assert!(matches!(claim(&unsettled, "a", 3).await, Err(Error::Store(_))));
    world.store.allow(usize::MAX);
    let flight = mine(&unsettled, "a", 4).await;
    // What the second left to write must not be written over the fourth.
    unsettled.round().await;
    assert_eq!(world.stored("a").await, Outcome::Sending);
    assert_eq!((slots(&unsettled), world.open_tags().await), (1, vec![tag(4)]));
    flight.land(accepted("wamid.A")).await;
    assert_eq!((slots(&unsettled), world.open_tags().await), (0, vec![]));
    assert_eq!(message_id(&world.stored("a").await), "wamid.A");
}

#[tokio::test]
async fn a_status_before_the_answer_proves_the_send() {
    let world = World::new();
    let unsettled = world.process().await;
    // A send without an id, and one with: the answers are lost afterwards.
    let without = unsettled.begin(tag(1), PhoneNumberId::parse("1").unwrap());
    let with = mine(&unsettled, "a", 2).await;
    let slots_of = [without.slot(), with.slot()];
    for number in [1, 2] {
        unsettled.note(&world.status(&tag(number), &format!("wamid.{number}")), world.clock.now());
    }
    unsettled.record_behind().await.unwrap();
    assert_eq!(message_id(&world.stored("a").await), "wamid.2", "durable before the position moves");
    without.land(lost()).await;
    with.land(lost()).await;
    for (number, slot) in (1..).zip(slots_of) {
        let landed = slot.landed(None).await.unwrap();
        assert_eq!(message_id(&landed), format!("wamid.{number}"));
    }
    assert_eq!((slots(&unsettled), world.open_tags().await), (0, vec![]));
    // A status of somebody else's send, and one without a tag.
    unsettled.note(&world.status(&tag(9), "wamid.9"), world.clock.now());
    unsettled.note(&StatusReport { send_tag: None, ..world.status(&tag(9), "wamid.9") }, world.clock.now());
    unsettled.record_behind().await.unwrap();
}

#[tokio::test]
async fn a_store_that_refuses_gets_every_outcome_later() {
    let world = World::new();
    let unsettled = world.process().await;
    let flights = [mine(&unsettled, "a", 1).await, mine(&unsettled, "b", 2).await];
    let in_doubt = mine(&unsettled, "c", 3).await;
    in_doubt.land(lost()).await;
    world.store.allow(0);
    for flight in flights {
        let number = flight.slot().tag.as_str()[20..21].to_owned();
        flight.land(accepted(&format!("wamid.{number}"))).await;
    }
    unsettled.note(&world.status(&tag(3), "wamid.3"), world.clock.now());
    for _ in 0..2 {
        assert!(unsettled.record_behind().await.is_err());
    }
    // One of three is written, and then nothing again.
    world.store.allow(1);
    assert!(unsettled.record_behind().await.is_err());
    // Whoever asks here knows it all the same.
    for (id, expected) in [("a", "wamid.1"), ("b", "wamid.2"), ("c", "wamid.3")] {
        assert_eq!(message_id(&known(&unsettled, id).await), expected);
    }
    world.store.allow(usize::MAX);
    unsettled.record_behind().await.unwrap();
    assert_eq!((slots(&unsettled), world.open_tags().await), (0, vec![]));
    for (id, expected) in [("a", "wamid.1"), ("b", "wamid.2"), ("c", "wamid.3")] {
        assert_eq!(message_id(&world.stored(id).await), expected);
    }
}

#[tokio::test]
async fn what_is_in_doubt_is_forgotten_after_its_time_and_what_runs_is_not() {
    let world = World::new();
    let unsettled = world.process().await;
    mine(&unsettled, "a", 1).await.land(lost()).await;
    let running = mine(&unsettled, "b", 2).await;
    world.clock.advance(KEPT);
    unsettled.round().await;
    assert_eq!(slots(&unsettled), 2, "as long as its row may stand");
    world.clock.advance(MINUTE);
    unsettled.round().await;
    assert_eq!(slots(&unsettled), 1);
    running.land(lost()).await;
    unsettled.round().await;
    assert_eq!((slots(&unsettled), world.open_tags().await), (0, vec![]));
    mine(&unsettled, "a", 3).await;
}

#[tokio::test]
async fn a_process_that_dies_leaves_sends_in_doubt_and_other_calls_undone() {
    let world = World::new();
    let dying = world.process().await;
    let mut running = vec![mine(&dying, "sending", 1).await];
    mine(&dying, "unknown", 2).await.land(lost()).await;
    mine(&dying, "accepted", 3).await.land(accepted("wamid.3")).await;
    match dying.claim_call(&request("upload"), tag(4), IfLost::Nothing, |_, _| false).await {
        Ok(Claim::Mine(flight)) => running.push(flight),
        other => panic!("{other:?}"),
    }
    assert_eq!(world.open_tags().await, [tag(1), tag(2)]);
    // Killed: nothing of it runs any more, not even what a flight does when it is dropped.
    running.into_iter().for_each(std::mem::forget);
    let unsettled = world.process().await;
    for id in ["sending", "unknown"] {
        assert!(matches!(known(&unsettled, id).await, Outcome::Unknown(_)), "{id}");
        assert!(matches!(claim(&unsettled, id, 9).await, Ok(Claim::Taken(Taken::Known(_)))), "{id}");
    }
    assert_eq!(message_id(&known(&unsettled, "accepted").await), "wamid.3");
    mine(&unsettled, "upload", 5).await.land(undone_outcome()).await;
    for number in [1, 2] {
        unsettled.note(&world.status(&tag(number), &format!("wamid.{number}")), world.clock.now());
    }
    unsettled.record_behind().await.unwrap();
    assert_eq!((slots(&unsettled), world.open_tags().await), (0, vec![]));
    let next = world.process().await;
    assert_eq!(message_id(&known(&next, "sending").await), "wamid.1");
    assert_eq!(message_id(&known(&next, "unknown").await), "wamid.2");
}

#[tokio::test]
async fn a_flight_that_is_lost_lands_all_the_same() {
    let world = World::new();
    let unsettled = world.process().await;
    let flight = mine(&unsettled, "a", 1).await;
    let slot = flight.slot();
    drop(flight);
    assert!(matches!(slot.landed(None).await, Ok(Outcome::Unknown(_))));
    let call = unsettled.claim_call(&request("b"), tag(2), IfLost::Nothing, |_, _| false).await;
    assert!(matches!(call, Ok(Claim::Mine(_))));
    drop(call);
    // What a dropped flight writes, it writes in a task.
    while slots(&unsettled) > 1 || world.stored("a").await == Outcome::Sending {
        tokio::task::yield_now().await;
    }
    assert!(matches!(known(&unsettled, "a").await, Outcome::Unknown(_)));
    assert!(matches!(world.stored("b").await, Outcome::Refused(_)));
    mine(&unsettled, "b", 3).await;
}

#[tokio::test]
async fn whoever_asks_hears_every_step_of_a_send() {
    let world = World::new();
    let unsettled = world.process().await;
    let key = request("a").key;
    let outcome = async || unsettled.what_became_of(&key).await.unwrap().map(|became| became.outcome);
    let mut news = unsettled.listen(key);
    assert_eq!(outcome().await, None);
    let flight = mine(&unsettled, "a", 1).await;
    assert!(news.wait().now_or_never().is_some());
    assert_eq!(outcome().await, Some(Outcome::Sending));
    flight.land(lost()).await;
    assert!(news.wait().now_or_never().is_some());
    let became = unsettled.what_became_of(&key).await.unwrap().unwrap();
    assert!(matches!(became.outcome, Outcome::Unknown(_)));
    assert_eq!((became.tag, became.phone_number_id), (tag(1), request("a").phone_number_id));
    unsettled.note(&world.status(&tag(1), "wamid.A"), world.clock.now());
    assert!(news.wait().now_or_never().is_some());
    assert_eq!(message_id(&outcome().await.unwrap()), "wamid.A");
    unsettled.record_behind().await.unwrap();
    assert_eq!(message_id(&outcome().await.unwrap()), "wamid.A");
    // Meta's answer is known by message id as well; what only a status says comes from the statuses.
    let name = |id: &str| ("1".to_owned(), id.to_owned());
    mine(&unsettled, "b", 2).await.land(accepted("wamid.B")).await;
    assert_eq!(unsettled.lately_accepted(&name("wamid.B")).unwrap().0, tag(2));
    assert!(unsettled.lately_accepted(&name("wamid.A")).is_none());
    // A claim without a pending send and without a slot did nothing.
    let claimed = unsettled.claim_call(&request("c"), tag(3), IfLost::Nothing, |_, _| false).await;
    std::mem::forget(claimed);
    let next = world.process().await;
    assert!(next.what_became_of(&request("c").key).await.unwrap().is_none());
}
