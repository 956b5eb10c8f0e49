//! Words and pure rules of the gateway.
//!
//! What a value may be, how two of them compare, what follows from what. This room knows no I/O, no tokio,
//! no protobuf, no JSON text and no current time: whoever needs the time passes it in.

/// Writes a struct's `Debug` with these fields alone. The others may be personal data, or what people write to each other.
macro_rules! shown {
    ($name:ident { $($field:ident),* }) => {
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name))$(.field(stringify!($field), &self.$field))*.finish_non_exhaustive()
            }
        }
    };
}

pub mod caller;
pub mod conversation;
pub mod cursor;
pub mod event;
pub mod failure;
pub mod filter;
pub mod ids;
pub mod map;
pub mod media;
pub mod message;
pub mod message_state;
pub mod number_health;
pub mod quoted;
pub mod rights;
pub mod schedule;
pub mod subscription;
pub mod template;
pub mod template_shape;
pub mod value;
pub mod window;
