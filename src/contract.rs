//! The contract as Rust: generated code, wire-equal shadow types, and the two directions between Meta's names and our
//! messages.
//!
//! A leaf: it may name only `domain`, and is used by `grpc` and `storage`. The only place that includes generated code.
//! Because our messages mirror the Cloud API by name, one schema-driven reader and one writer serve every message type:
//! a new type is a change of the protos alone.

pub mod encode;
pub mod fingerprint;
pub mod frames;
mod from_json;
mod request_of;
pub mod rules;
mod schema;
mod to_value;
mod wire;

pub use from_json::{Mismatch, from_json};
pub use request_of::{Converted, NoRequest, request_of};
pub(crate) use to_value::from_struct;
pub use to_value::{content_of, meta_form, proto_form};

/// Messages and clients, as generated.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated code")]
#[allow(clippy::allow_attributes_without_reason, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("whatsapp.gateway.v1");
}

/// The server side of the service, as generated, over [`frames`].
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated code")]
#[allow(clippy::allow_attributes_without_reason, reason = "generated code")]
pub mod server {
    include!(concat!(env!("OUT_DIR"), "/server/whatsapp.gateway.v1.rs"));
}

/// Encoded `FileDescriptorSet` of all protos, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.binpb"));
