//! What every backend must do, as tests over the ports.
//!
//! A backend hands an expression that opens an empty [`Subject`] to the two macros; each case becomes one of its tests.
//! The cases never sleep and use the clock of the subject.

#![allow(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test cases that are compiled outside `cfg(test)` too"
)]

pub mod event_log;
pub mod keyed_state;
pub mod sends;
pub mod subscriptions;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::event_log::{Attributes, EventLog, Item};
use super::keyed_state::KeyedState;
use crate::clock::ManualClock;

/// Where the clock of a subject starts, since the Unix epoch.
pub const START: Duration = Duration::from_hours(500_000);

/// An empty backend under test.
#[derive(Debug)]
pub struct Subject {
    /// The event log.
    pub log: Arc<dyn EventLog>,
    /// The keyed state.
    pub state: Arc<dyn KeyedState>,
    /// The clock that both use; starts at [`START`].
    pub clock: Arc<ManualClock>,
    /// Kept alive as long as the subject, such as a temporary folder.
    pub keep: Box<dyn Any + Send + Sync>,
}

/// The item with that number: other numbers give other ids and other bytes.
pub fn item(number: u64) -> Item {
    sized_item(number, 64)
}

/// The item with that number and about that many bytes.
pub fn sized_item(number: u64, bytes: usize) -> Item {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    id[8..].copy_from_slice(&number.to_be_bytes());
    let byte = u8::try_from(number % 251).unwrap();
    Item {
        id,
        attributes: Attributes {
            event_type: format!("whatsapp.test.{}", number % 3),
            phone_number_id: format!("10654035224{}", number % 10),
            waba_id: "102290129340398".to_owned(),
            conversation_key: format!("conversation {number}"),
        },
        envelope: Bytes::from(format!("envelope {number}")),
        typed: Bytes::from(vec![byte; bytes / 2]),
        raw: Bytes::from(vec![byte ^ 0xFF; bytes - bytes / 2]),
    }
}

/// One test per case, each on its own subject; or, `in_turn`, one test of all cases.
#[cfg(test)]
macro_rules! contract_cases {
    ([in_turn $open:expr], $port:ident: $($case:ident)+) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $port() {
            $(
                let subject = $open;
                eprintln!("{}", stringify!($case));
                $crate::storage::contract::$port::$case(&subject).await;
            )+
        }
    };
    ([$open:expr], $port:ident: $($case:ident)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let subject = $open;
                $crate::storage::contract::$port::$case(&subject).await;
            }
        )+
    };
}

/// Every case of the event log, as tests of the backend that `$open` opens (it may await, and return where
/// there is nothing to test).
#[cfg(test)]
macro_rules! event_log_contract {
    ($($open:tt)+) => {
        $crate::storage::contract::contract_cases! { [$($open)+], event_log:
            appends_in_order
            appends_nothing
            starts_empty_and_accepting
            knows_an_id_inside_a_call
            knows_an_id_over_calls
            knows_an_id_after_trim
            forgets_an_id_after_eight_days
            knows_ids_under_concurrency
            announces_only_what_can_be_read
            gives_each_position_once
            keeps_every_byte
            keeps_large_events
            keeps_to_read_limits
            reads_nothing_at_the_tail
            trims_by_age_and_says_so
            goes_on_after_everything_was_trimmed
            seeks_exactly
            keeps_its_epoch
        }
    };
}

/// Every case of the keyed state, as tests of the backend that `$open` opens (it may await, and return where
/// there is nothing to test).
#[cfg(test)]
macro_rules! keyed_state_contract {
    ($($open:tt)+) => {
        $crate::storage::contract::contract_cases! { [$($open)+], keyed_state:
            gives_back_what_was_put
            separates_buckets
            writes_only_under_its_precondition
            writes_beside
            never_repeats_a_revision
            deletes_only_under_its_precondition
            lets_one_claim_win
            counts_without_losing_an_increment
            hides_expired_entries
            sweeps_only_expired_entries
            scans_in_key_order
            puts_all_in_order
            refuses_what_is_too_large
        }
    };
}

/// Every case of the store of sends, as tests of the backend that `$open` opens (it may await, and return where
/// there is nothing to test).
#[cfg(test)]
macro_rules! sends_contract {
    ($($open:tt)+) => {
        $crate::storage::contract::contract_cases! { [$($open)+], sends:
            gives_back_every_outcome
            separates_callers_and_rpcs
            lets_one_claimant_send
            claims_again_at_a_revision
            keeps_what_may_be_sent_again
            keeps_a_queued_message_until_it_is_reported
            finds_every_open_send
            forgets_after_its_time
            survives_a_crash_after_every_write
        }
    };
}

/// Every case of the store of subscriptions, as tests of the backend that `$open` opens (it may await, and return where
/// there is nothing to test).
#[cfg(test)]
macro_rules! subscriptions_contract {
    ($($open:tt)+) => {
        $crate::storage::contract::contract_cases! { [$($open)+], subscriptions:
            keeps_settings
            lets_one_go_on
            parks_events
            parks_many_in_one_write
            deletes_without_reading_events
            deletes_again_what_was_not_deleted
            says_what_it_cannot_read
        }
    };
}

#[cfg(test)]
pub(crate) use {
    contract_cases, event_log_contract, keyed_state_contract, sends_contract, subscriptions_contract,
};
