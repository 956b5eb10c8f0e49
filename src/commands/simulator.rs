//! `simulator`: the simulated Cloud API alone.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, SystemClock};
use crate::lifecycle::signals;
use crate::simulator::{Config, Simulator};

use super::failed;

/// Arguments of `simulator`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:8081", value_name = "HOST:PORT")]
    listen: SocketAddr,
    /// Where webhooks go; without it they wait
    #[arg(long, value_name = "URL")]
    webhook_url: Option<String>,
    /// Makes the ids of two runs equal
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs the simulator until a signal.
pub(super) fn run(arguments: &Arguments) -> Result<u8, u8> {
    let runtime = Runtime::new().map_err(|error| failed(&error))?;
    runtime.block_on(async {
        let mut signals = signals().map_err(|error| failed(&error))?;
        let simulator = Simulator::bind(config(arguments)).await.map_err(|error| failed(&error))?;
        let address = simulator.local_addr();
        println!("{}", serde_json::json!({"ready": true, "simulator": address.to_string()}));
        let stop = CancellationToken::new();
        let running = simulator.run(stop.clone());
        tokio::pin!(running);
        tokio::select! {
            _ = signals.recv() => stop.cancel(),
            () = &mut running => return Ok(0),
        }
        running.await;
        Ok(0)
    })
}

fn config(arguments: &Arguments) -> Config {
    Config {
        seed: arguments.seed,
        webhook_url: arguments.webhook_url.clone(),
        ..Config::new(arguments.listen, Arc::new(|| SystemClock.now()))
    }
}
