//! Meta's Cloud API, both directions: the only room that knows its JSON and its HTTP.
//!
//! Outwards, [`Client`] sends messages, manages templates and says exactly what is known when a call fails.
//! Inwards, [`signature`] proves that a webhook is Meta's and [`normalize`](mod@normalize) turns its body into
//! events. This room knows no gRPC, no storage and no flow; "reference" in its comments is the reference of the
//! Cloud API that the project was written from.

mod client;
mod config;
mod error;
pub mod media;
pub mod messages;
mod numbers;
pub mod templates;
mod tokens;

mod body;
mod envelope;
pub mod error_code;

mod json;
pub mod normalize;
pub mod signature;
mod value_json;
mod webhook;

pub use body::Departure;
pub use client::{BuildError, Client};
pub use config::Config;
pub use error::Error;
pub use tokens::TokenStatus;
