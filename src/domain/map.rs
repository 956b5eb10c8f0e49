//! The hash map of what is looked up for every message.

/// As the map of the standard library, with a hash that takes a fraction of the time. Its seed differs in each process, which
/// is enough against keys that are chosen to collide: callers are known.
pub type FastMap<K, V> = std::collections::HashMap<K, V, foldhash::quality::RandomState>;
