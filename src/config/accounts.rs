//! The accounts and callers as configured: which secrets there are and where they come from, never what they are.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;

use secrecy::SecretString;

use super::callers::{self, CallerEntry};
use super::jwt::IssuerEntry;
use super::problem::Collector;
use super::reader::{Table, check_id};
use super::sections::Grpc;
use super::tls::TlsFiles;
use crate::tls::ClientAuth;

/// Live secrets of one app: the current one and, during a rotation, another.
const APP_SECRETS_MAX: usize = 2;
/// Where a secret comes from.
#[derive(Debug, Clone)]
pub(super) enum SecretSource {
    /// A file with nothing but the secret; read again when it changes.
    File(PathBuf),
    /// A value given directly, by a variable or by the development account.
    Given {
        /// Whence, for people.
        origin: String,
        /// The secret.
        value: SecretString,
    },
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Given { origin, .. } => f.write_str(origin),
        }
    }
}

/// Everything configured about accounts and callers. The `prefix` fields, such as `wabas[1].`, begin
/// the key paths of messages.
#[derive(Debug, Clone, Default)]
pub(super) struct Accounts {
    pub(super) apps: Vec<AppEntry>,
    pub(super) wabas: Vec<WabaEntry>,
    pub(super) callers: Vec<CallerEntry>,
    /// More callers, read again when it changes.
    pub(super) callers_file: Option<PathBuf>,
    /// Whose JWTs callers may have.
    pub(super) issuers: Vec<IssuerEntry>,
    /// Whether clients are asked for certificates.
    pub(super) asks_certificates: bool,
}

#[derive(Debug, Clone)]
pub(super) struct AppEntry {
    pub(super) prefix: String,
    pub(super) id: String,
    pub(super) secrets: Vec<SecretSource>,
    pub(super) verify_token: SecretSource,
}

#[derive(Debug, Clone)]
pub(super) struct WabaEntry {
    pub(super) prefix: String,
    pub(super) id: String,
    pub(super) app_id: String,
    pub(super) access_token: SecretSource,
    pub(super) phone_number_ids: Vec<String>,
}

/// Reads `[[apps]]`, `[[wabas]]` and `[[callers]]`, whose JWTs are of these issuers.
pub(super) fn read(root: &mut Table<'_>, grpc: &Grpc, issuers: &[IssuerEntry]) -> Accounts {
    // Where certificates are required, that the file is missing was reported.
    let asks = |tls: &TlsFiles| tls.client_ca_file.is_some() || tls.client_auth == ClientAuth::Required;
    Accounts {
        apps: root.tables("apps").into_iter().map(AppEntry::read).collect(),
        wabas: root.tables("wabas").into_iter().map(WabaEntry::read).collect(),
        callers: callers::read(root, issuers),
        callers_file: grpc.callers_file.clone(),
        issuers: issuers.to_vec(),
        asks_certificates: grpc.tls.as_ref().is_some_and(asks),
    }
}

impl AppEntry {
    fn read(mut table: Table<'_>) -> Self {
        let id = table.id("id");
        let files = table.texts("secret_files");
        if files.is_empty()
            || files.len() > APP_SECRETS_MAX
            || files.iter().any(|file| file.trim().is_empty())
        {
            let text = "must name one file, or two while the secret is being rotated";
            table.problems().report(table.path("secret_files"), text);
        }
        let secrets = files.into_iter().map(|file| SecretSource::File(file.into())).collect();
        let verify_token = SecretSource::File(table.file("verify_token_file"));
        let prefix = table.path("");
        table.finish();
        Self { prefix, id, secrets, verify_token }
    }
}

impl WabaEntry {
    fn read(mut table: Table<'_>) -> Self {
        let (id, app_id) = (table.id("id"), table.id("app_id"));
        let access_token = SecretSource::File(table.file("access_token_file"));
        let phone_number_ids = table.texts("phone_number_ids");
        let numbers_key = table.path("phone_number_ids");
        if phone_number_ids.is_empty() {
            let text = "must list the ids of the account's numbers (not the numbers themselves), in quotes";
            table.problems().report(numbers_key.as_str(), text);
        }
        for (index, number) in phone_number_ids.iter().enumerate() {
            check_id(table.problems(), format!("{numbers_key}[{index}]"), number);
        }
        let prefix = table.path("");
        table.finish();
        Self { prefix, id, app_id, access_token, phone_number_ids }
    }
}

impl Accounts {
    /// Reports what contradicts itself between the entries.
    pub(super) fn check(&self, problems: &Collector) {
        if self.apps.is_empty() && self.wabas.is_empty() {
            let text = "no account is configured; list [[apps]] and [[wabas]] in the file, or set WHATSAPP_ACCESS_TOKEN, \
                        WHATSAPP_PHONE_NUMBER_ID and the others for a single number";
            problems.report("wabas", text);
        }
        self.check_unique(problems);
        for waba in &self.wabas {
            if !waba.app_id.is_empty() && !self.apps.iter().any(|app| app.id == waba.app_id) {
                let ids: Vec<_> = self.apps.iter().map(|app| app.id.as_str()).collect();
                let known = if ids.is_empty() { "none".to_owned() } else { ids.join(", ") };
                let text = format!("names no configured app; add it to [[apps]] (configured: {known})");
                problems.report_value(format!("{}app_id", waba.prefix), waba.app_id.as_str(), text);
            }
        }
    }

    /// Whether anybody can show who they are, now or once the file of callers is read again.
    pub(super) fn has_credentials(&self) -> bool {
        self.callers_file.is_some() || self.callers.iter().any(|caller| !caller.has_no_credentials())
    }

    fn check_unique(&self, problems: &Collector) {
        let mut apps = Unique::new(problems, "app");
        for app in &self.apps {
            apps.add(format!("{}id", app.prefix), &app.id);
        }
        let mut wabas = Unique::new(problems, "WhatsApp Business Account");
        let mut numbers = Unique::new(problems, "phone number id");
        for waba in &self.wabas {
            wabas.add(format!("{}id", waba.prefix), &waba.id);
            for (index, number) in waba.phone_number_ids.iter().enumerate() {
                numbers.add(format!("{}phone_number_ids[{index}]", waba.prefix), number);
            }
        }
    }
}

/// Reports values that stand in two places.
pub(super) struct Unique<'a> {
    problems: &'a Collector,
    noun: &'static str,
    seen: HashMap<&'a str, String>,
}

impl<'a> Unique<'a> {
    pub(super) fn new(problems: &'a Collector, noun: &'static str) -> Self {
        Self { problems, noun, seen: HashMap::new() }
    }

    pub(super) fn add(&mut self, key: String, value: &'a str) {
        if value.is_empty() {
            return;
        }
        if let Some(first) = self.seen.get(value) {
            let text = format!("the same {} stands at {first}; keep it in one place", self.noun);
            self.problems.report_value(key, value, text);
        } else {
            self.seen.insert(value, key);
        }
    }
}

/// The variables that together stand for one app and one account.
const VARIABLES: [&str; 6] = [
    "WHATSAPP_ACCESS_TOKEN",
    "WHATSAPP_PHONE_NUMBER_ID",
    "WHATSAPP_BUSINESS_ACCOUNT_ID",
    "WHATSAPP_APP_ID",
    "WHATSAPP_APP_SECRET",
    "WHATSAPP_VERIFY_TOKEN",
];

/// Adds the account of the single-number variables, if they are set. An empty variable counts as not set.
pub(super) fn add_single(
    accounts: &mut Accounts,
    environment: &BTreeMap<String, String>,
    problems: &Collector,
) {
    let get = |name: &str| environment.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
    let (set, missing): (Vec<&str>, Vec<&str>) = VARIABLES.iter().partition(|name| get(name).is_some());
    if set.is_empty() {
        return;
    }
    if !accounts.apps.is_empty() || !accounts.wabas.is_empty() {
        let text = "cannot be mixed with [[apps]] and [[wabas]]; put this account into the file too, or unset the \
                    variable";
        for name in set {
            problems.report(name, text);
        }
        return;
    }
    if !missing.is_empty() {
        let text = format!("is not set, but {} is; a single number needs all six", set.join(", "));
        for name in missing {
            problems.report(name, text.as_str());
        }
        return;
    }
    let value = |name: &str| get(name).unwrap_or_default().to_owned();
    let secret = |name: &str| SecretSource::Given {
        origin: format!("variable {name}"),
        value: SecretString::from(value(name)),
    };
    let id = |name: &str| {
        check_id(problems, name.to_owned(), &value(name));
        value(name)
    };
    let app_id = id("WHATSAPP_APP_ID");
    accounts.apps.push(AppEntry {
        prefix: String::new(),
        id: app_id.clone(),
        secrets: vec![secret("WHATSAPP_APP_SECRET")],
        verify_token: secret("WHATSAPP_VERIFY_TOKEN"),
    });
    accounts.wabas.push(WabaEntry {
        prefix: String::new(),
        id: id("WHATSAPP_BUSINESS_ACCOUNT_ID"),
        app_id,
        access_token: secret("WHATSAPP_ACCESS_TOKEN"),
        phone_number_ids: vec![id("WHATSAPP_PHONE_NUMBER_ID")],
    });
}
