//! Who calls.

use std::fmt;

/// The service that calls our gRPC API. Accompanies every flow.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Caller {
    name: String,
}

impl Caller {
    /// The caller of a listener that is bound to loopback, where no credentials are asked for.
    pub fn local() -> Self {
        Self { name: "local".to_owned() }
    }

    /// A caller without credentials on a listener whose configuration says `insecure = true`.
    pub fn anonymous() -> Self {
        Self { name: "anonymous".to_owned() }
    }

    /// The gateway itself, for what it sends on its own.
    pub fn gateway() -> Self {
        Self { name: "gateway".to_owned() }
    }

    /// A caller that the configuration names.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned() }
    }

    /// The name, for logs and metrics: it comes from the configuration, so it is bounded.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
