//! A gRPC messaging gateway in front of Meta's WhatsApp Cloud API.
//!
//! The module list is the map of the house, in reading order. `ARCHITECTURE.md` explains the rooms, what
//! each may name, and how one operation travels through them; `tests/it/architecture.rs` keeps it so.

pub mod domain;

pub mod contract;

pub mod cloud_api;
pub mod storage;

pub mod flows;

pub mod grpc;
pub mod web;

pub mod app;
pub mod commands;
pub mod config;

pub mod clock;
pub mod jwt;
pub mod lifecycle;
pub mod listener;
pub mod selftest;
pub mod telemetry;
pub mod tenants;
pub mod tls;

#[cfg(feature = "simulator")]
pub mod simulator;
