//! The bare programs: the least that does the same work with the same libraries, and the upstream that all share.

mod append;
mod claims;
mod grpc;
mod media;
mod publish;
mod upstream;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Subcommand;
use tokio::runtime::{Builder, Runtime};

use crate::Result;

/// Servers that hold what is published, as the gateway's default is.
const REPLICAS: u8 = 3;

/// Which one to be. Each prints a line with its addresses when it is ready, and never ends by itself.
#[derive(Debug, Subcommand)]
pub(crate) enum Kind {
    /// A Cloud API that answers everything with constants
    Upstream,
    /// Sends, streams and media over gRPC
    Grpc {
        /// Where the upstream is.
        graph: SocketAddr,
        /// As for `rows`: what subscribers get.
        like: PathBuf,
        /// A new database goes there, for what sends with a `request_id` make durable.
        folder: PathBuf,
        /// NATS servers that hold it instead.
        #[arg(long)]
        nats: Option<String>,
    },
    /// Webhooks into SQLite, in groups
    Rows {
        /// A new database goes there.
        folder: PathBuf,
        /// A database of the gateway with an event, for its tables and the size of its rows.
        like: PathBuf,
    },
    /// Webhooks into NATS, in batches
    Published {
        /// One of three servers.
        url: String,
        /// As for `rows`: what an event holds.
        like: PathBuf,
    },
    /// Webhooks into a plain file, in groups
    Segment {
        /// A new file goes there.
        folder: PathBuf,
        /// As for `rows`.
        like: PathBuf,
    },
}

pub(crate) fn run(kind: Kind) -> Result<()> {
    match kind {
        // One thread is enough to answer with constants, and leaves more to those that are measured.
        Kind::Upstream => Builder::new_current_thread().enable_all().build()?.block_on(upstream::serve()),
        Kind::Grpc { graph, like, folder, nats } => {
            Runtime::new()?.block_on(grpc::serve(graph, &like, &folder, nats.as_deref()))
        }
        Kind::Published { url, like } => Runtime::new()?.block_on(publish::serve(&url, &like, REPLICAS)),
        Kind::Rows { folder, like } => Runtime::new()?.block_on(append::rows(&folder, &like)),
        Kind::Segment { folder, like } => Runtime::new()?.block_on(append::segment(&folder, &like)),
    }
}

/// Tells whoever started this process that it serves.
fn say_ready(addresses: &serde_json::Value) {
    println!("{addresses}");
}
