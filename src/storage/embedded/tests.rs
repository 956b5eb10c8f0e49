use std::time::UNIX_EPOCH;

use tempfile::TempDir;

use super::*;
use crate::clock::ManualClock;
use crate::storage::contract::{self, Subject};

fn open() -> Subject {
    let dir = TempDir::new().unwrap();
    let clock = ManualClock::new(UNIX_EPOCH + contract::START);
    let on_fatal: OnFatal = Arc::new(|reason| panic!("{reason}"));
    let config = Config::in_dir(dir.path().to_owned());
    let engine = Arc::new(Embedded::open(&config, clock.clone(), on_fatal).unwrap());
    Subject { log: engine.clone(), state: engine, clock, keep: Box::new(dir) }
}

contract::event_log_contract!(open());
contract::keyed_state_contract!(open());
