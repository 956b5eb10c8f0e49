//! The accounts and callers as configured: which secrets there are and where they come from, never what they are.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;

use secrecy::SecretString;

use super::problem::Collector;
use super::reader::{Table, check_id};
use crate::domain::filter::is_type_pattern;
use crate::domain::rights::{EVERYTHING, Rights, is_method_pattern};
use crate::tenants::Token;
use crate::tls::Identity;

/// Live secrets of one app: the current one and, during a rotation, another.
const APP_SECRETS_MAX: usize = 2;
/// Who calls without credentials: on a loopback address, and on an insecure one. They may do everything unless they are
/// configured.
const RESERVED_CALLERS: [&str; 2] = ["local", "anonymous"];

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

#[derive(Debug, Clone)]
pub(super) struct CallerEntry {
    pub(super) prefix: String,
    pub(super) name: String,
    pub(super) tokens: Vec<Token>,
    pub(super) tokens_file: Option<PathBuf>,
    pub(super) identities: Vec<Identity>,
    pub(super) rights: Rights,
}

/// Reads `[[apps]]`, `[[wabas]]` and `[[callers]]`.
pub(super) fn read(root: &mut Table<'_>) -> Accounts {
    Accounts {
        apps: root.tables("apps").into_iter().map(AppEntry::read).collect(),
        wabas: root.tables("wabas").into_iter().map(WabaEntry::read).collect(),
        callers: root.tables("callers").into_iter().map(CallerEntry::read).collect(),
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

impl CallerEntry {
    fn read(mut table: Table<'_>) -> Self {
        let name = table.text("name");
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if !name.is_empty() && (name.len() > 64 || !name.bytes().all(is_plain)) {
            let form = "must be 1 to 64 letters, digits, '-', '_' or '.'";
            table.problems().report_value(table.path("name"), name.as_str(), form);
        }
        let mut tokens = Vec::new();
        for (index, text) in table.texts("token_sha256").iter().enumerate() {
            match Token::parse(text) {
                Some(token) => tokens.push(token),
                // The value is not shown: it may be the token itself.
                None => {
                    table.problems().report(format!("{}[{index}]", table.path("token_sha256")), Token::FORM);
                }
            }
        }
        let tokens_file = table
            .optional_text("token_sha256_file")
            .filter(|path| !path.trim().is_empty())
            .map(PathBuf::from);
        let identities = identities(&mut table);
        let rights = rights(&mut table);
        let prefix = table.path("");
        let entry = Self { prefix, name, tokens, tokens_file, identities, rights };
        let has_some =
            !entry.tokens.is_empty() || entry.tokens_file.is_some() || !entry.identities.is_empty();
        if entry.has_no_credentials() && has_some {
            let text = "is reserved for calls without credentials; choose another, or leave the tokens and identities out \
                        to say what such calls may do";
            table.problems().report_value(table.path("name"), entry.name.as_str(), text);
        }
        table.finish();
        entry
    }

    /// Whether it stands for calls without credentials.
    pub(super) fn has_no_credentials(&self) -> bool {
        RESERVED_CALLERS.contains(&self.name.as_str())
    }

    /// Reports a right to a number or WABA that this gateway does not have.
    fn check_ids(&self, accounts: &Accounts, problems: &Collector) {
        let numbers = accounts.wabas.iter().flat_map(|waba| &waba.phone_number_ids);
        let wabas = accounts.wabas.iter().map(|waba| &waba.id);
        let lists: [(_, _, Vec<&String>); 2] = [
            ("phone_numbers", &self.rights.phone_numbers, numbers.collect()),
            ("wabas", &self.rights.wabas, wabas.collect()),
        ];
        for (key, list, configured) in lists {
            for (index, id) in list.iter().enumerate().filter(|(_, id)| *id != EVERYTHING) {
                if !configured.contains(&id) {
                    let text = "is not configured in [[wabas]]; correct it, or write \"*\" for all";
                    problems.report_value(format!("{}{key}[{index}]", self.prefix), id.as_str(), text);
                }
            }
        }
    }
}

/// Reads the names that a caller's certificate may have.
fn identities(table: &mut Table<'_>) -> Vec<Identity> {
    let mut identities = Vec::new();
    for (index, text) in table.texts("identities").iter().enumerate() {
        if let Some(identity) = Identity::parse(text) {
            identities.push(identity);
        } else {
            let key = format!("{}[{index}]", table.path("identities"));
            table.problems().report_value(key, text.as_str(), Identity::FORM);
        }
    }
    identities
}

/// Reads what a caller may do. It must be said: nothing is allowed by default, and a caller that lost everything without a
/// word would be found by its users.
fn rights(table: &mut Table<'_>) -> Rights {
    let rights = Rights {
        methods: table.texts("methods"),
        phone_numbers: table.texts("phone_numbers"),
        wabas: table.texts("wabas"),
        event_types: table.texts("event_types"),
        sends_per_second: table.optional_count("sends_per_second", 1..=1_000_000),
        streams_max: table.optional_count("streams_max", 1..=100_000),
    };
    let problems = table.problems();
    if rights.methods.is_empty() {
        let text = "must list what the caller may do, since nothing is allowed by default: methods = [\"*\"], \
                    phone_numbers = [\"*\"], wabas = [\"*\"] and event_types = [\"*\"] allow everything";
        problems.report(table.path("methods"), text);
    }
    for (index, name) in rights.methods.iter().enumerate().filter(|(_, name)| !is_method_pattern(name)) {
        let text = "is no method; write SendMessage, ManageTemplate/delete, ManageTemplate/* or \"*\"";
        problems.report_value(format!("{}[{index}]", table.path("methods")), name.as_str(), text);
    }
    for (index, name) in rights.event_types.iter().enumerate().filter(|(_, name)| !is_type_pattern(name)) {
        let text = "is no event type; write whatsapp.message.status, whatsapp.message.* or \"*\"";
        problems.report_value(format!("{}[{index}]", table.path("event_types")), name.as_str(), text);
    }
    if let Some((method, list)) = rights.useless() {
        let text = format!("must not be empty, since methods allow {method}; \"*\" stands for all");
        problems.report(table.path(list), text);
    }
    rights
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
        self.callers.iter().for_each(|caller| caller.check_ids(self, problems));
        for waba in &self.wabas {
            if !waba.app_id.is_empty() && !self.apps.iter().any(|app| app.id == waba.app_id) {
                let ids: Vec<_> = self.apps.iter().map(|app| app.id.as_str()).collect();
                let known = if ids.is_empty() { "none".to_owned() } else { ids.join(", ") };
                let text = format!("names no configured app; add it to [[apps]] (configured: {known})");
                problems.report_value(format!("{}app_id", waba.prefix), waba.app_id.as_str(), text);
            }
        }
    }

    /// Whether anybody can show who they are.
    pub(super) fn has_credentials(&self) -> bool {
        self.callers.iter().any(|caller| !caller.has_no_credentials())
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
        let mut callers = Unique::new(problems, "caller");
        for caller in &self.callers {
            callers.add(format!("{}name", caller.prefix), &caller.name);
        }
        let names =
            self.callers.iter().map(|caller| caller.identities.iter().map(ToString::to_string).collect());
        let names: Vec<Vec<_>> = names.collect();
        let mut identities = Unique::new(problems, "identity");
        for (caller, names) in self.callers.iter().zip(&names) {
            for (index, name) in names.iter().enumerate() {
                identities.add(format!("{}identities[{index}]", caller.prefix), name);
            }
        }
    }
}

/// Reports values that stand in two places.
struct Unique<'a> {
    problems: &'a Collector,
    noun: &'static str,
    seen: HashMap<&'a str, String>,
}

impl<'a> Unique<'a> {
    fn new(problems: &'a Collector, noun: &'static str) -> Self {
        Self { problems, noun, seen: HashMap::new() }
    }

    fn add(&mut self, key: String, value: &'a str) {
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
