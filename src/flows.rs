//! What the gateway does, one module per data flow.
//!
//! A flow knows the rules and the order of steps. It knows no gRPC, no HTTP and no JSON: edges translate to and from
//! `domain`, and which engine stores events is private to `storage`.

pub mod conversations;
pub mod deliver_events;
pub mod download_media;
pub mod failed_call;
pub mod fallbacks;
pub mod follow_message;
mod gateway_event;
pub mod identities;
pub mod lanes;
pub mod manage_template;
pub mod mark_read;
pub mod news;
pub mod number_watch;
pub mod numbers;
pub mod project_log;
pub mod queue;
pub mod receive_webhook;
pub mod retain_log;
pub mod send_message;
pub mod send_traces;
pub mod subscriptions;
pub mod template_catalog;
pub mod unsettled;
pub mod upload_media;
pub mod who_leads;
pub mod window;
