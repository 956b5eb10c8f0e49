//! `make bench`: how far the gateway is from what its libraries could do bare.
//!
//! One binary, many processes: [`rows`] starts the gateway, the bare programs of [`floor`] and the load of [`load`], each
//! as a process of its own, and makes a table of what they report. Everything stays on loopback, every loop is bounded,
//! and what was started ends with the process that started it.

#![allow(
    clippy::disallowed_methods,
    reason = "the rules for the time, tasks and HTTP clients of the gateway; nothing here is drained or tested with a clock"
)]
#![allow(clippy::cast_precision_loss, reason = "what is counted here is far below 2^52")]

mod floor;
mod load;
mod machine;
mod process;
mod report;
mod rows;
mod webhook;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What may go wrong: the text says where.
type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T> = std::result::Result<T, Error>;

/// Measures the gateway against bare programs made of the same libraries.
#[derive(Debug, Parser)]
#[command(name = "gateway-bench", version)]
enum Command {
    /// Measure, print the table, write the page
    Run(rows::Arguments),
    /// Be one of the bare programs (started by `run`)
    #[command(subcommand)]
    Floor(floor::Kind),
    /// Make load once, and print what came of it (started by `run`)
    #[command(subcommand)]
    Load(load::Kind),
    /// Become another program that ends when the one that started it does (started by `run`)
    Become {
        /// The program.
        program: PathBuf,
        /// Its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    let command = Command::parse();
    let done = match command {
        Command::Run(arguments) => rows::run(&arguments),
        Command::Floor(kind) => process::end_with_parent().and_then(|()| floor::run(kind)),
        Command::Load(kind) => process::end_with_parent().and_then(|()| load::run(kind)),
        Command::Become { program, arguments } => process::become_program(&program, &arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gateway-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
