//! `dev`: the gateway and a simulated Cloud API in one process, with a ready account.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Runtime;

use crate::app::{Addresses, App};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Dev, Sources, dev_account};
use crate::lifecycle::{Shutdown, signals};
use crate::simulator::{self, Simulator};
use crate::telemetry::{self, Metrics};

use super::{EXIT_CONFIG, failed, reachable};

/// Arguments of `dev`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where events are kept
    #[arg(long, default_value = ".dev", value_name = "FOLDER")]
    data_dir: PathBuf,
    /// Where to serve gRPC
    #[arg(long, default_value = "127.0.0.1:50051", value_name = "HOST:PORT")]
    grpc_listen: SocketAddr,
    /// Where to serve the webhook
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "HOST:PORT")]
    webhook_listen: SocketAddr,
    /// Where to serve metrics and probes
    #[arg(long, default_value = "127.0.0.1:9090", value_name = "HOST:PORT")]
    admin_listen: SocketAddr,
    /// Where to serve the simulated Cloud API
    #[arg(long, default_value = "127.0.0.1:8081", value_name = "HOST:PORT")]
    simulator_listen: SocketAddr,
    /// Makes the simulated ids of two runs equal
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs both until told to end.
pub(super) fn run(arguments: Arguments) -> Result<u8, u8> {
    let runtime = Runtime::new().map_err(|error| failed(&error))?;
    runtime.block_on(dev(arguments))
}

async fn dev(arguments: Arguments) -> Result<u8, u8> {
    let signals = signals().map_err(|error| failed(&error))?;
    let simulator_config = simulator::Config {
        seed: arguments.seed,
        ..simulator::Config::new(arguments.simulator_listen, Arc::new(|| SystemClock.now()))
    };
    let simulator = Simulator::bind(simulator_config).await.map_err(|error| failed(&error))?;
    let config = config(&arguments, reachable(simulator.local_addr()))?;
    let webhook_path = config.webhook.path.clone();
    let (telemetry, log_level) = telemetry::init(&config.telemetry).map_err(|error| failed(&error))?;
    let metrics = Metrics::start(&config.telemetry, Arc::new(SystemClock)).map_err(|error| failed(&error))?;
    let shutdown = Shutdown::new();
    let app = App::new(config, (metrics, log_level), Arc::new(SystemClock), shutdown.clone());
    let app = app.map_err(|error| failed(&error))?;
    let addresses = app.addresses();
    simulator.set_webhook_url(format!("http://{}{webhook_path}", reachable(addresses.webhook)));
    let simulator_address = simulator.local_addr();
    shutdown.spawn_background("simulator", simulator.run(shutdown.stop().clone()));
    let outcome = app.run(signals, || announce(addresses, simulator_address)).await;
    telemetry.flush().await;
    outcome.map_err(|error| failed(&error))
}

fn config(arguments: &Arguments, simulator: SocketAddr) -> Result<Config, u8> {
    let dev = Dev {
        data_dir: arguments.data_dir.clone(),
        grpc_listen: arguments.grpc_listen,
        webhook_listen: arguments.webhook_listen,
        admin_listen: arguments.admin_listen,
        simulator,
        environment: Sources::of_process(None).environment,
    };
    Config::dev(&dev).map_err(|problems| {
        eprintln!("{problems}");
        EXIT_CONFIG
    })
}

/// The line for programs, and the lines for people.
fn announce(addresses: Addresses, simulator: SocketAddr) {
    let Addresses { grpc, webhook, admin, peers: _ } = addresses;
    let ready = serde_json::json!({
        "ready": true,
        "grpc": grpc.to_string(),
        "webhook": webhook.to_string(),
        "admin": admin.to_string(),
        "simulator": simulator.to_string(),
    });
    println!("{ready}");
    let (grpc, simulator) = (reachable(grpc), reachable(simulator));
    let number = dev_account::PHONE_NUMBER;
    eprintln!(
        r#"
The gateway serves gRPC on {grpc}. The business number is +{number}; the Cloud API is simulated. Try:

  # 1. Watch everything that happens (leave it running; .tools/bin/grpcurl after `make tools`)
  grpcurl -plaintext -d '{{"position": "POSITION_EARLIEST"}}' {grpc} whatsapp.gateway.v1.GatewayService/SubscribeEvents

  # 2. A user writes to the business
  curl -s http://{simulator}/_simulator/messages -d '{{"from": "16505551234", "text": "Hello, is the shop open?"}}'

  # 3. Answer with a text
  grpcurl -plaintext -d '{{"recipient": {{"phone_number": "+16505551234"}}, "text": {{"body": "Yes, until six."}}}}' \
    {grpc} whatsapp.gateway.v1.GatewayService/SendMessage

  # 4. Write first to somebody new: that takes a template
  grpcurl -plaintext -d '{{"recipient": {{"phone_number": "+16505550000"}}, "template": {{"name": "hello_world", "language": {{"code": "en_US"}}}}}}' \
    {grpc} whatsapp.gateway.v1.GatewayService/SendMessage

  # What the simulator can do: curl -s http://{simulator}/_simulator
"#
    );
}
