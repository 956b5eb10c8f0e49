//! Logs, traces and metrics: what the process tells about itself.

pub mod names;

use tracing_subscriber::EnvFilter;

/// How to tell it.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// How a log line looks.
    pub log_format: LogFormat,
    /// Which lines are written, as `tracing_subscriber::EnvFilter` reads it.
    pub log_level: String,
    /// Where traces go, by OTLP over gRPC; `None` exports none.
    pub otlp_endpoint: Option<String>,
    /// The share of traces exported where the caller has not decided, 0 to 1.
    pub sampling_ratio: f64,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

/// Says what is wrong with a log level, if anything.
pub fn check_log_level(text: &str) -> Result<(), String> {
    EnvFilter::builder().parse(text).map(drop).map_err(|error| error.to_string())
}
