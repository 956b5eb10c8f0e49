//! Until when a worker has an event.

use super::*;

#[test]
fn the_time_of_a_worker_runs_from_when_the_event_went_to_it() {
    let mut m = Machine::new(Terms { ack_deadline: Duration::from_secs(1), ..terms(Mode::Shared) }, 0, 0);
    m.offer(&[Candidate { bytes: 8 << 20, ..candidate(1, 1) }], 1);
    let worker = m.attach(wish(""), 0);
    let lease = m.lease(worker, 0, ALL)[0];
    // Reading it took long, and it is long on its way.
    m.advance(5_000);
    assert!(m.is_leased(lease.number));
    m.handed_over(&[lease.number], 5_000);
    m.advance(5_000 + 1_000 + 8_191);
    assert!(m.is_leased(lease.number));
    m.advance(5_000 + 1_000 + 8_192);
    assert!(!m.is_leased(lease.number));
    // One that is never handed over comes back by itself.
    let lost = m.lease(worker, 20_000, ALL)[0];
    m.advance(80_999);
    assert!(m.is_leased(lost.number));
    m.advance(81_000);
    assert!(!m.is_leased(lost.number));
}
