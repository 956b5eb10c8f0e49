//! What is parked, and what that means for others.

use super::*;

#[test]
fn in_order_a_first_event_that_is_parked_brings_back_the_later_ones_of_a_worker_that_went() {
    let mut m = machine(Mode::Exclusive, &[1, 2, 3]);
    m.set_terms(Terms { attempts_max: 1, ..terms(Mode::Exclusive) });
    let (active, other) = (m.attach(wish(""), 0), m.attach(wish(""), 0));
    assert_eq!(seqs(&hand(&mut m, active, 0, ALL)), [1, 2, 3]);
    m.detach(active);
    assert_eq!((m.parked(), m.leased()), (1, 0));
    let again = hand(&mut m, other, 0, ALL);
    assert_eq!((seqs(&again), again[0].attempt), (vec![2, 3], 1), "at once, and as if for the first time");
}

#[test]
fn a_parked_event_counts_once() {
    let mut m = machine(Mode::Shared, &[1, 1]);
    let worker = m.attach(wish(""), 0);
    let lease = |m: &mut Machine| hand(m, worker, 0, Most { events: 1, ..ALL }).remove(0);
    let first = lease(&mut m);
    m.settle(first.number, Outcome::Park("x".to_owned()), 0).unwrap();
    m.saved(m.change());
    // One that may not be seen is not done by that.
    m.replay(candidate(1, 1));
    let unseen = lease(&mut m);
    m.park_again(unseen.number, Cause::Worker, "x".to_owned());
    let unsaved = m.unsaved(0).unwrap();
    assert_eq!((m.parked(), unsaved.unparked.len(), unsaved.parkings[0].reason.as_str()), (1, 0, "x"));
    m.saved(unsaved.change);
    // Done, and then dropped before that was stored.
    m.replay(candidate(1, 1));
    let done = lease(&mut m);
    m.settle(done.number, Outcome::Done, 0).unwrap();
    m.drop_parked(1);
    assert_eq!(m.parked(), 0);
    // Sought back and parked anew, over the copy that is there.
    let second = lease(&mut m);
    m.settle(second.number, Outcome::Park(String::new()), 0).unwrap();
    m.saved(m.change());
    m.seek(1);
    m.offer(&[candidate(2, 1)], 2);
    let again = lease(&mut m);
    m.settle(again.number, Outcome::Park(String::new()), 0).unwrap();
    m.was_parked();
    assert_eq!(m.parked(), 1);
}
