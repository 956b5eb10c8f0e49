//! The integration tests, as one binary: the real gateway process over real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    missing_docs,
    unreachable_pub,
    reason = "test helpers fail loudly; their names are their documentation"
)]

#[path = "../support/support.rs"]
mod support;

mod architecture;
mod batch;
mod request_corpus;
mod drain;
mod failed_sync;
mod fan_out;
mod folder;
mod kill;
mod send;
mod send_failures;
mod smoke;
mod traces;
mod webhook_corpus;
mod streams;
mod mark_read;
mod send;
mod send_failures;
mod smoke;
mod subscribe;
mod templates;
