//! A gRPC messaging gateway in front of Meta's WhatsApp Cloud API.
pub mod clock;
pub mod contract;
pub mod domain;
#[cfg(feature = "simulator")]
pub mod simulator;
