//! Where the Cloud API is and how long to wait for it.

use std::sync::Arc;
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
    /// Time for a whole transfer of media, from the first byte to the last.
    pub transfer_timeout: Duration,
    /// Hosts that may be asked for media with the access token, as `host` or `host:port`. One that begins with a dot
    /// stands for every host below it.
    pub media_hosts: Vec<String>,
    /// Idle connections that are kept per host.
    pub idle_connections_max: usize,
    /// Whether calls carry the trace context of the span that they are, media excepted.
    pub sends_traceparent: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            graph_url: "https://graph.facebook.com".to_owned(),
            api_url: "https://api.facebook.com".to_owned(),
            version: "v25.0".to_owned(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            transfer_timeout: Duration::from_mins(15),
            media_hosts: vec!["lookaside.fbsbx.com".to_owned()],
            idle_connections_max: 64,
            sends_traceparent: false,
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

/// Where media may be fetched, and where the access token may go.
#[derive(Debug, Clone)]
pub(super) struct MediaHosts {
    hosts: Arc<[String]>,
    /// Whether the Graph API itself is spoken to without TLS, as a simulator is.
    is_plain: bool,
}

impl MediaHosts {
    pub(super) fn new(hosts: &[String], graph: &Url) -> Self {
        let hosts = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        Self { hosts, is_plain: graph.scheme() == "http" }
    }

    /// Whether a request may go there at all: encrypted, unless the token crosses the network in the clear anyway.
    pub(super) fn may_fetch(&self, url: &Url) -> bool {
        url.has_host() && (url.scheme() == "https" || self.is_plain && url.scheme() == "http")
    }

    /// Whether the access token may go there.
    pub(super) fn may_have_token(&self, url: &Url) -> bool {
        let is_listed = |listed: &String| match listed.strip_prefix('.') {
            Some(_) => host_and_port(url).ends_with(listed.as_str()),
            None => host_and_port(url) == *listed,
        };
        self.may_fetch(url) && url.username().is_empty() && self.hosts.iter().any(is_listed)
    }
}

/// The host, with its port where that is not the scheme's own.
pub(super) fn host_and_port(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
    url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_goes_to_listed_hosts_only() {
        let listed = ["lookaside.fbsbx.com", ".cdn.example", "127.0.0.1:8081"].map(str::to_owned);
        let hosts = |graph: &str| MediaHosts::new(&listed, &Url::parse(graph).unwrap());
        let secure = hosts("https://graph.facebook.com");
        for (url, allowed) in [
            ("https://lookaside.fbsbx.com/a?b", true),
            ("https://LOOKASIDE.fbsbx.com:443/a", true),
            ("https://lookaside.fbsbx.com:8443/a", false),
            ("http://lookaside.fbsbx.com/a", false),
            ("https://a.lookaside.fbsbx.com/", false),
            ("https://evil-lookaside.fbsbx.com/", false),
            ("https://lookaside.fbsbx.com.evil.example/", false),
            ("https://lookaside.fbsbx.com@evil.example/", false),
            ("https://evil.example/lookaside.fbsbx.com", false),
            ("https://a.cdn.example/", true),
            ("https://a.b.cdn.example/", true),
            ("https://cdn.example/", false),
            ("https://evilcdn.example/", false),
            ("http://127.0.0.1:8081/", false),
            ("https://127.0.0.1:8081/", true),
        ] {
            assert_eq!(secure.may_have_token(&Url::parse(url).unwrap()), allowed, "{url}");
        }
        let plain = hosts("http://127.0.0.1:8081");
        assert!(plain.may_have_token(&Url::parse("http://127.0.0.1:8081/a").unwrap()));
        assert!(!plain.may_have_token(&Url::parse("http://127.0.0.1:8082/a").unwrap()));
    }
}
