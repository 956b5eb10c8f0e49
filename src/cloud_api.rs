//! Meta's Cloud API, both directions: the only room that knows its JSON and its HTTP.
//!
//! Outwards, [`client::Client`] sends messages, reads templates and says exactly what is known when a call
//! fails. Inwards, [`signature`] proves that a webhook is Meta's and [`normalize`] turns its body into events.
//! This room knows no gRPC, no storage and no flow; "reference" in its comments is the reference of the Cloud
//! API that the project was written from.

pub mod signature;

pub mod error_code;
