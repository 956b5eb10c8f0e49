//! Where the Cloud API is and how long to wait for it.

use std::time::Duration;

use reqwest::Url;

/// Configuration of the Cloud API client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Base URL of the Graph API, without the version.
    pub graph_url: String,
    /// Base URL of the host that archives templates; it knows no versions (reference 1.1).
    pub api_url: String,
    /// Version of the Graph API, such as `v25.0` (reference 1.1).
    pub version: String,
    /// Time to connect, TLS included.
    pub connect_timeout: Duration,
    /// Time for a whole call, from the first byte to the last.
    pub request_timeout: Duration,
    /// Hosts that may be asked for media with the access token.
    pub media_hosts: Vec<String>,
    /// Idle connections that are kept per host.
    pub idle_connections_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            graph_url: "https://graph.facebook.com".to_owned(),
            api_url: "https://api.facebook.com".to_owned(),
            version: "v25.0".to_owned(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            media_hosts: vec!["lookaside.fbsbx.com".to_owned()],
            idle_connections_max: 64,
        }
    }
}

/// The URL, if something can be appended to its path.
pub(super) fn base_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_plain = url.query().is_none() && url.fragment().is_none();
    let is_anonymous = url.username().is_empty() && url.password().is_none();
    (matches!(url.scheme(), "http" | "https") && url.has_host() && is_plain && is_anonymous).then_some(url)
}
