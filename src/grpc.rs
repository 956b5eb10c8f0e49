//! The edge toward callers: tonic.
//!
//! Translates between the contract and the flows, finds out who calls, and turns every error into a status. It knows
//! nothing of Meta and nothing of storage.

mod audit;
mod callers;
mod conversation;
mod convert;
mod deadline;
mod gate;
mod guest;
mod identity;
mod manage_template;
mod measure;
mod media;
mod message;
mod peers;
mod quotas;
mod relay;
mod rights;
mod send;
mod send_messages;
mod sent;
mod service;
mod slowdown;
mod status;
mod stream;
mod subscribe;
mod subscriptions;
mod who_am_i;

pub mod server;

pub use callers::Callers;
