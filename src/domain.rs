//! Words and pure rules of the gateway.
//!
//! What a value may be, how two of them compare, what follows from what. This room knows no I/O, no tokio,
//! no protobuf, no JSON text and no current time: whoever needs the time passes it in.

pub mod caller;
pub mod conversation;
pub mod cursor;
pub mod event;
pub mod failure;
pub mod filter;
pub mod ids;
pub mod media;
pub mod message;
pub mod message_state;
pub mod number_health;
pub mod rights;
pub mod schedule;
pub mod template;
pub mod template_shape;
pub mod value;
pub mod window;
