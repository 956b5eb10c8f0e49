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

mod aged_log;
mod architecture;
mod batch;
mod callers;
mod cluster;
mod cluster_peers;
mod commands;
mod convert;
mod drain;
mod failed_sync;
mod failures;
mod fallback;
mod fan_out;
#[cfg(target_os = "linux")]
mod floods;
mod folder;
mod gate;
mod grpcurl;
mod health;
mod jwt;
mod kill;
mod lanes;
mod mark_read;
mod media;
mod message_life;
mod message_life_by_request;
mod metrics;
mod nats;
mod number_health;
mod objectives;
mod planted;
mod preflight;
mod promql;
mod queue;
mod queue_storm;
mod received_types;
mod request_id;
mod request_id_media;
mod request_id_templates;
mod requests;
mod rights;
mod rules;
mod schedule_cost;
mod security_table;
mod selftest;
mod send;
mod send_failures;
mod send_faults;
mod send_storm;
mod send_stream;
mod sends;
mod simulator_templates;
#[cfg(target_os = "linux")]
mod slow_peers;
mod smoke;
mod streams;
mod subscribe;
mod subscription_rights;
mod subscription_storm;
mod subscriptions;
mod subscriptions_parked;
mod successor;
mod template_library;
mod template_writes;
mod templates;
mod templates_lost;
mod tls;
mod traces;
mod types_table;
mod unknown;
mod webhook;
mod webhook_corpus;
mod window;
