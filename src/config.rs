//! The configuration: one file, the environment, and the secrets they point to.
//!
//! [`Config::load`] reads everything and reports every problem at once. What is fixed for the life of the process
//! is in the sections; accounts, callers and secrets are in a snapshot of `tenants`, certificates in a [`Tls`], which a [`Watcher`] replaces
//! when their files change. This room reads and checks; it decides nothing about behavior.

mod accounts;
mod callers;
mod expiry;
mod jwt;
mod layers;
mod nats;
mod peers;
mod print;
mod problem;
mod reader;
mod reload;
mod secrets;
mod sections;
mod suggest;
mod tls;
mod units;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::cloud_api;
use crate::jwt::{Issuers, Source};
use crate::lifecycle;
use crate::storage;
use crate::telemetry;
use crate::tenants::{Strangers, Tenants};
use crate::tls::Tls;

use accounts::Accounts;
pub(crate) use callers::check_name as check_caller_name;
use jwt::IssuerEntry;
pub use peers::Peers;
use problem::Collector;
pub use problem::{Problem, Problems};
use reader::Table;
use reload::Seen;
pub use reload::{Reload, Watcher};
use secrets::Fingerprint;
pub use sections::{Admin, Events, Grpc, Media, Sending, Webhook};
pub use tls::TlsFiles;
pub(crate) use units::parse_duration;

/// The reference of every key, with its default.
pub const DEFAULTS: &str = layers::DEFAULTS;

/// The account of the `dev` command, the same on every machine so that examples can name it.
pub mod dev_account {
    /// Meta's id of the number.
    pub const PHONE_NUMBER_ID: &str = "106540352242922";
    /// The number itself, as digits.
    pub const PHONE_NUMBER: &str = "15550783881";
    /// The WhatsApp Business Account.
    pub const WABA_ID: &str = "102290129340398";
    /// The app.
    pub const APP_ID: &str = "1234567890";
    /// The secret that signs webhooks.
    pub const APP_SECRET: &str = "dev-app-secret";
    /// The token for the verification of the webhook's address.
    pub const VERIFY_TOKEN: &str = "dev-verify-token";
    /// The token for the simulated Cloud API.
    pub const ACCESS_TOKEN: &str = "dev-access-token";
}

/// Where a configuration comes from. The layers lie on the defaults in this order.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The TOML file, if there is one.
    pub file: Option<PathBuf>,
    /// The environment, by variable.
    pub environment: BTreeMap<String, String>,
}

impl Sources {
    /// The file, and the environment of this process. Variables that are not text are none of ours.
    pub fn of_process(file: Option<PathBuf>) -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self { file, environment: std::env::vars_os().filter_map(text).collect() }
    }
}

/// What the `dev` command decides for itself; the rest is default, or comes from the environment.
#[derive(Debug, Clone)]
pub struct Dev {
    /// Where the log lives.
    pub data_dir: PathBuf,
    /// Where to serve gRPC.
    pub grpc_listen: SocketAddr,
    /// Where to serve webhooks.
    pub webhook_listen: SocketAddr,
    /// Where to serve metrics and probes.
    pub admin_listen: SocketAddr,
    /// The simulator, as `host:port`.
    pub simulator: SocketAddr,
    /// Variables such as `WHATSAPP_GATEWAY__TELEMETRY__LOG_LEVEL`; `WHATSAPP_*` accounts among them are ignored.
    pub environment: BTreeMap<String, String>,
}

/// A complete and valid configuration.
#[derive(Debug)]
pub struct Config {
    /// The gRPC API.
    pub grpc: Grpc,
    /// The port that Meta calls.
    pub webhook: Webhook,
    /// Metrics and probes.
    pub admin: Admin,
    /// The other replicas; `None` where the backend allows none.
    pub peers: Option<Peers>,
    /// Meta's Cloud API.
    pub cloud_api: cloud_api::Config,
    /// Sending messages.
    pub sending: Sending,
    /// Uploads and downloads.
    pub media: Media,
    /// Where events and state live.
    pub storage: storage::Config,
    /// The streams of events.
    pub events: Events,
    /// How the process ends.
    pub shutdown: lifecycle::Budgets,
    /// Logs, traces and metrics.
    pub telemetry: telemetry::Config,
    tenants: Tenants,
    accounts: Accounts,
    fingerprint: Fingerprint,
    tls: Option<(Tls, Fingerprint)>,
    jwt_issuers: Vec<IssuerEntry>,
}

impl Config {
    /// Reads the layers and the secret files, and checks all of it.
    pub fn load(sources: &Sources) -> Result<Self, Problems> {
        let problems = Collector::default();
        let merged = layers::merge(sources.file.as_deref(), &sources.environment, &problems);
        // What stands in a file that cannot be read is not missing: it is unknown, and nothing else can be said.
        let Some(values) = merged else { return Err(problems.into_problems()) };
        let mut root = Table::new("", values, &problems);
        let jwt_issuers = jwt::read(&mut root);
        let grpc = Grpc::read(root.table("grpc"));
        let mut accounts = accounts::read(&mut root, &grpc, &jwt_issuers);
        accounts::add_single(&mut accounts, &sources.environment, &problems);
        accounts.check(&problems);
        let (snapshot, fingerprint) = secrets::resolve(&accounts, &problems);
        let media = Media::read(root.table("media"));
        let tls = grpc.tls.as_ref().and_then(|files| {
            let (config, fingerprint) = files.resolve(&problems);
            Some((Tls::new(config?), fingerprint))
        });
        let storage = sections::read_storage(root.table("storage"));
        let peers = Peers::read(root.table("peers"), matches!(storage, storage::Config::Nats(_)));
        let config = Self {
            grpc,
            webhook: Webhook::read(root.table("webhook")),
            admin: Admin::read(root.table("admin")),
            cloud_api: sections::read_cloud_api(root.table("cloud_api"), media.transfer_timeout),
            sending: Sending::read(root.table("sending")),
            media,
            storage,
            peers,
            events: Events::read(root.table("events")),
            shutdown: sections::read_shutdown(root.table("shutdown")),
            telemetry: sections::read_telemetry(root.table("telemetry")),
            tenants: Tenants::new(snapshot),
            accounts,
            fingerprint,
            tls,
            jwt_issuers,
        };
        root.finish();
        config.check(&problems);
        problems.finish(config)
    }

    /// The configuration of the `dev` command: the account of [`dev_account`], no delay at the end.
    pub fn dev(dev: &Dev) -> Result<Self, Problems> {
        let simulator = format!("http://{}", dev.simulator);
        let own = [
            ("WHATSAPP_GATEWAY__GRPC__LISTEN", dev.grpc_listen.to_string()),
            ("WHATSAPP_GATEWAY__WEBHOOK__LISTEN", dev.webhook_listen.to_string()),
            ("WHATSAPP_GATEWAY__ADMIN__LISTEN", dev.admin_listen.to_string()),
            ("WHATSAPP_GATEWAY__STORAGE__DATA_DIR", dev.data_dir.to_string_lossy().into_owned()),
            ("WHATSAPP_GATEWAY__CLOUD_API__GRAPH_URL", simulator.clone()),
            ("WHATSAPP_GATEWAY__CLOUD_API__API_URL", simulator),
            ("WHATSAPP_GATEWAY__CLOUD_API__MEDIA_HOSTS", dev.simulator.to_string()),
            ("WHATSAPP_GATEWAY__SHUTDOWN__DELAY", "0 s".to_owned()),
            ("WHATSAPP_ACCESS_TOKEN", dev_account::ACCESS_TOKEN.to_owned()),
            ("WHATSAPP_PHONE_NUMBER_ID", dev_account::PHONE_NUMBER_ID.to_owned()),
            ("WHATSAPP_BUSINESS_ACCOUNT_ID", dev_account::WABA_ID.to_owned()),
            ("WHATSAPP_APP_ID", dev_account::APP_ID.to_owned()),
            ("WHATSAPP_APP_SECRET", dev_account::APP_SECRET.to_owned()),
            ("WHATSAPP_VERIFY_TOKEN", dev_account::VERIFY_TOKEN.to_owned()),
        ];
        let mut environment = dev.environment.clone();
        environment
            .entry("WHATSAPP_GATEWAY__TELEMETRY__LOG_FORMAT".to_owned())
            .or_insert_with(|| "text".to_owned());
        environment.extend(own.map(|(name, value)| (name.to_owned(), value)));
        Self::load(&Sources { file: None, environment })
    }

    /// Where the accounts, callers and secrets of each moment are found.
    pub fn tenants(&self) -> Tenants {
        self.tenants.clone()
    }

    /// The TLS of the gRPC port at each moment; `None` for plain text.
    pub fn tls(&self) -> Option<Tls> {
        self.tls.as_ref().map(|(tls, _)| tls.clone())
    }

    /// What is made of calls without credentials, on a port that is bound to a loopback address or to another one.
    pub fn strangers(&self, is_loopback: bool) -> Strangers {
        match (is_loopback, self.grpc.insecure, self.accounts.has_credentials()) {
            (true, _, _) => Strangers::Local,
            (false, true, false) => Strangers::Anonymous,
            (false, true, true) => Strangers::AnonymousIfConfigured,
            (false, false, _) => Strangers::Refused,
        }
    }

    /// Whose JWTs are believed.
    pub fn issuers(&self) -> Issuers {
        jwt::issuers(&self.jwt_issuers)
    }

    /// The keys of issuers that stand behind URLs.
    pub fn key_sources(&self) -> Vec<Source> {
        jwt::sources(&self.jwt_issuers)
    }

    /// What keeps what stands in files current; run it in the background.
    pub fn watcher(&self) -> Watcher {
        let tls = self.grpc.tls.clone().zip(self.tls.clone());
        Watcher {
            accounts: self.accounts.clone(),
            tenants: self.tenants.clone(),
            secrets: Seen::new(("secrets or callers", "secrets"), self.fingerprint),
            tls: tls.map(|(files, (tls, fingerprint))| {
                (files, tls, Seen::new(("TLS files", "tls"), fingerprint))
            }),
            keys: reload::key_files(&self.jwt_issuers),
        }
    }

    /// The configuration in effect, as TOML, without its secrets.
    pub fn print(&self) -> String {
        print::print(self)
    }

    /// The sections that must be equal in all replicas, each as `section=hash`, with blanks between them.
    pub fn settings(&self) -> String {
        print::settings(self)
    }

    /// The rules between sections.
    fn check(&self, problems: &Collector) {
        let grpc = &self.grpc;
        let is_reachable = !grpc.listen.ip().is_loopback() && !grpc.insecure;
        if is_reachable && grpc.tls.is_none() {
            let text = "tokens, messages and events would cross the network in plain text: name a certificate in \
                        grpc.tls.cert_file, or listen on a loopback address, or accept it with grpc.insecure = true, \
                        as where a mesh encrypts";
            problems.report_value("grpc.listen", grpc.listen.to_string(), text);
        }
        if is_reachable && !self.accounts.has_credentials() {
            let text = "everyone who reaches this address could send messages and read events: configure [[callers]], \
                        or listen on a loopback address, or accept it with grpc.insecure = true. TLS alone does not say who \
                        calls";
            problems.report_value("grpc.listen", grpc.listen.to_string(), text);
        }
        let mut ports = vec![
            ("grpc.listen", grpc.listen),
            ("webhook.listen", self.webhook.listen),
            ("admin.listen", self.admin.listen),
        ];
        ports.extend(self.peers.as_ref().map(|peers| ("peers.listen", peers.listen)));
        for (index, (key, address)) in ports.iter().enumerate() {
            for (other_key, other) in ports.iter().take(index) {
                if clash(*address, *other) {
                    let text = format!("takes the port of {other_key}; give it another");
                    problems.report_value(*key, address.to_string(), text);
                }
            }
        }
    }
}

/// True if the two cannot be bound at once.
fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let overlap = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && overlap
}

#[cfg(test)]
mod tests;
