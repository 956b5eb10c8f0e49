//! The test world: a gateway process, its simulator, a signed sender, and a reader of events.
//!
//! Every process gets free ports and its own temporary folder, and ends with its test. Nothing sleeps: helpers wait for
//! what they need with a bound.

#[cfg(target_os = "linux")]
pub mod attack;
pub mod certificates;
pub mod checker;
pub mod cluster;
pub mod collector;
pub mod disk;
pub mod forge;
pub mod gateway;
pub mod jetstream;
pub mod jwt;
pub mod nats_server;
pub mod proxy;
pub mod rng;
pub mod routes;
pub mod rpc;
pub mod scrape;
pub mod serve;
pub mod shared;
pub mod subscriber;
pub mod template;
pub mod webhook;
pub mod worker;
pub mod world;

pub use cluster::Cluster;
pub use gateway::Gateway;
pub use rng::Rng;
pub use subscriber::Subscriber;

/// How often a test that repeats something does so: more with `SOAK=1`.
pub fn rounds(usual: u64, soak: u64) -> u64 {
    if std::env::var("SOAK").as_deref() == Ok("1") { soak } else { usual }
}

/// Whether this is not the long form.
pub fn is_short() -> bool {
    rounds(1, 0) == 1
}

pub use rpc::Refusal;
pub use scrape::Scrape;
pub use serve::Serve;
pub use worker::Worker;

/// Evaluates the condition until it holds; fails after ten seconds.
#[macro_export]
macro_rules! eventually {
    ($condition:expr) => {{
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        loop {
            if $condition {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "never held: {}", stringify!($condition));
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }};
}
