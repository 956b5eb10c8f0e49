//! `serve`: the gateway.

use std::sync::Arc;

use tokio::runtime::Runtime;

use crate::app::{Addresses, App};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::lifecycle::{Shutdown, signals};
use crate::telemetry::{self, LogLevel, Metrics};

use super::failed;

/// Runs the gateway until it is told to end.
pub(super) fn run(config: Config) -> Result<u8, u8> {
    let runtime = Runtime::new().map_err(|error| failed(&error))?;
    runtime.block_on(async {
        let (telemetry, log_level) = telemetry::init(&config.telemetry).map_err(|error| failed(&error))?;
        let outcome = Box::pin(serve(config, log_level)).await;
        telemetry.flush().await;
        outcome
    })
}

async fn serve(config: Config, log_level: LogLevel) -> Result<u8, u8> {
    let signals = signals().map_err(|error| failed(&error))?;
    let metrics = Metrics::start(&config.telemetry, Arc::new(SystemClock)).map_err(|error| failed(&error))?;
    let app = App::new(config, (metrics, log_level), Arc::new(SystemClock), Shutdown::new());
    let app = app.map_err(|error| failed(&error))?;
    let Addresses { grpc, webhook, admin, peers } = app.addresses();
    let ready = serde_json::json!({
        "ready": true,
        "grpc": grpc.to_string(),
        "webhook": webhook.to_string(),
        "admin": admin.to_string(),
        "peers": peers.map(|peers| peers.to_string()),
    });
    app.run(signals, || println!("{ready}")).await.map_err(|error| failed(&error))
}
