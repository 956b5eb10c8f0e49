//! The test world: a gateway process, its simulator, a signed sender, and a reader of events.
//!
//! Every process gets free ports and its own temporary folder, and ends with its test. Nothing sleeps: helpers wait for
//! what they need with a bound.

pub mod gateway;
pub mod shared;
pub mod webhook;

pub use gateway::Gateway;

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
