//! The section `[peers]`: the other gateways on the same NATS prefix.

use std::net::SocketAddr;

use super::reader::Table;

/// The other replicas on the same NATS prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peers {
    /// Where they reach this process.
    pub listen: SocketAddr,
    /// What they are told, as `host:port`; `None` for the address that was bound.
    pub advertise: Option<String>,
}

impl Peers {
    /// `None` where there are no others.
    pub(super) fn read(mut table: Table<'_>, is_used: bool) -> Option<Self> {
        let listen = table.address("listen");
        let advertise = table.optional_text("advertise").filter(|text| !text.trim().is_empty());
        if let Some(text) = &advertise
            && !text.rsplit_once(':').is_some_and(|(host, port)| is_host(host) && is_port(port))
        {
            let form = "must be a host and a port, as the other gateways reach it: \"10.1.2.3:7000\", \"[fd00::3]:7000\"";
            table.problems().report_value(table.path("advertise"), text.as_str(), form);
        } else if advertise.is_none() && is_used && listen.ip().is_unspecified() {
            let text = format!(
                "is empty, and peers.listen = \"{listen}\" is no address that others reach; name one"
            );
            table.problems().report(table.path("advertise"), text);
        }
        table.finish();
        is_used.then_some(Self { listen, advertise })
    }
}

fn is_host(text: &str) -> bool {
    url::Host::parse(text).is_ok()
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port > 0)
}
