//! Durable state: the event log and the keyed state store.
//!
//! The two ports speak bytes, because they have two implementations each; what the bytes mean is decided in
//! `contract` and `flows`. This room knows neither gRPC nor HTTP nor what an event is. Backends are private to it.

pub mod event_log;
pub mod keyed_state;

#[cfg(any(test, feature = "test-util"))]
pub mod contract;
#[cfg(any(test, feature = "test-util"))]
pub mod memory;

pub use event_log::EventLog;
pub use keyed_state::KeyedState;
