//! Logs, traces and metrics: what the process tells about itself.

pub mod names;
