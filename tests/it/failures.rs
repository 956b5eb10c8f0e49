//! The failure model, test by test, with the numbers of docs/reliability.md: load whose every step is known, something that
//! happens beside it, and the verdicts of the checker.

/// The same test on a disk and on one nats-server.
macro_rules! on_each_engine {
    ($($(#[$meta:meta])* $name:ident => $test:path;)+) => {$(
        $(#[$meta])*
        mod $name {
            use crate::support::world::Engine;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn embedded() {
                $test(Engine::Embedded).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn nats() {
                $test(Engine::Nats).await;
            }
        }
    )+};
}

mod brokers;
mod cluster;
mod cursors;
mod groups;
mod herd;
mod limits;
mod streams;
