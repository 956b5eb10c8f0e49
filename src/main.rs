//! Arguments → configuration → telemetry → app → exit code. No logic.

use std::process::ExitCode;

use clap::Parser;
use whatsapp_gateway::commands::Command;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A gRPC messaging gateway in front of Meta's WhatsApp Cloud API.
#[derive(Debug, Parser)]
#[command(name = "whatsapp-gateway", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    ExitCode::from(arguments.command.run())
}
