//! The edges over plain HTTP: the port that Meta calls, and the port for probes and metrics.
//!
//! Translates between HTTP and the flows. It knows nothing of gRPC, of Meta's JSON and of storage.

pub mod admin;
pub mod webhook;
