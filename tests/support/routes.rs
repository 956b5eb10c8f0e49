//! Ways between the servers of a cluster that can be cut: a server that the others do not reach, while its clients do.

use super::nats_server::{self, NatsServer, free_port};
use super::proxy::Proxy;

/// Servers whose routes lead through proxies.
#[derive(Debug)]
pub struct Routes {
    /// Who connects to whom, and the way between them.
    ways: Vec<([usize; 2], Proxy)>,
}

impl Routes {
    /// Three servers that hold everything three times, and the ways between them; `None` where there is no nats-server.
    pub async fn cluster() -> Option<(Self, Vec<NatsServer>)> {
        nats_server::binary()?;
        let listen = [(); 3].map(|()| free_port());
        let mut ways = Vec::new();
        for pair in [[0, 1], [0, 2], [1, 0], [1, 2], [2, 0], [2, 1]] {
            ways.push((pair, Proxy::to(&format!("127.0.0.1:{}", listen[pair[1]])).await));
        }
        let ports = |index| {
            let own = ways.iter().filter(|(pair, _)| pair[0] == index);
            own.map(|(_, way)| way.address.port()).collect()
        };
        // Servers tell each other where the third one is; nobody listens there, so that no way leads round the proxies.
        let servers = NatsServer::routed(listen, ports, "advertise: \"127.0.0.1:1\"");
        Some((Self { ways }, servers))
    }

    /// This server and the others hear nothing of each other from now on; nobody is told.
    pub fn cut_off(&self, server: usize) {
        self.of(server).for_each(Proxy::freeze);
    }

    /// They hear each other again, also what was said meanwhile.
    pub fn heal(&self, server: usize) {
        self.of(server).for_each(Proxy::thaw);
    }

    fn of(&self, server: usize) -> impl Iterator<Item = &Proxy> {
        self.ways.iter().filter(move |(pair, _)| pair.contains(&server)).map(|(_, way)| way)
    }
}
