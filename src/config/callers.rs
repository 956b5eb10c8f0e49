//! `[[callers]]`: who may call, how they are known, and what they may do.

use std::path::PathBuf;
use std::sync::Arc;

use ::config::{Map, Value};

use super::accounts::{Accounts, Unique};
use super::jwt::IssuerEntry;
use super::problem::Collector;
use super::reader::Table;
use crate::domain::filter::is_type_pattern;
use crate::domain::rights::{EVERYTHING, Rights, is_method_pattern};
use crate::tenants::{Subject, Token};
use crate::tls::Identity;

/// Who calls without credentials: on a loopback address, and on an insecure one. They may do everything unless they are
/// configured.
const RESERVED_CALLERS: [&str; 2] = ["local", "anonymous"];

/// The key of the file with further callers.
pub(super) const FILE_KEY: &str = "grpc.callers_file";

/// What the name of a caller must be.
const NAME_FORM: &str = "must be 1 to 64 letters, digits, '-', '_' or '.'";
/// What is wrong with one of [`RESERVED_CALLERS`] beside credentials.
const NAME_RESERVED: &str = "is reserved for calls without credentials; choose another, or leave the tokens, identities and \
                             jwt_subjects out to say what such calls may do";

/// Says what is wrong with the name of a caller that has a token, if anything.
pub(crate) fn check_name(name: &str) -> Result<(), &'static str> {
    if !is_name(name) {
        Err(NAME_FORM)
    } else if RESERVED_CALLERS.contains(&name) {
        Err(NAME_RESERVED)
    } else {
        Ok(())
    }
}

fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(is_plain)
}

/// Reads `[[callers]]`.
pub(super) fn read(root: &mut Table<'_>, issuers: &[IssuerEntry]) -> Vec<CallerEntry> {
    root.tables("callers").into_iter().map(|table| CallerEntry::read(table, issuers)).collect()
}

/// Reads the callers of their own file. One without any is a file that is being written, or a mistake.
pub(super) fn of_file(
    values: Map<String, Value>,
    issuers: &[IssuerEntry],
    problems: &Collector,
) -> Vec<CallerEntry> {
    let mut root = Table::new(FILE_KEY, values, problems);
    let callers = read(&mut root, issuers);
    root.finish();
    if callers.is_empty() {
        problems.report(FILE_KEY, "the file lists no [[callers]]; list one at least, or name no file");
    }
    callers
}

/// Reports what contradicts itself between callers, and what they need of the rest.
pub(super) fn check(callers: &[CallerEntry], accounts: &Accounts, problems: &Collector) {
    let mut names = Unique::new(problems, "caller");
    for caller in callers {
        names.add(format!("{}name", caller.prefix), &caller.name);
        caller.check_ids(accounts, problems);
        if !accounts.asks_certificates && !caller.identities.is_empty() {
            let text = "clients are not asked for certificates; set grpc.tls.client_ca_file";
            problems.report(format!("{}identities", caller.prefix), text);
        }
    }
    let shown = |subject: &Subject| format!("{} of {}", subject.name, subject.issuer);
    check_unique(callers, "identities", "identity", problems, |caller| {
        caller.identities.iter().map(ToString::to_string).collect()
    });
    check_unique(callers, "jwt_subjects", "subject", problems, |caller| {
        caller.subjects.iter().map(shown).collect()
    });
}

fn check_unique(
    callers: &[CallerEntry],
    key: &str,
    noun: &'static str,
    problems: &Collector,
    texts: impl Fn(&CallerEntry) -> Vec<String>,
) {
    let all: Vec<_> = callers.iter().map(texts).collect();
    let mut unique = Unique::new(problems, noun);
    for (caller, texts) in callers.iter().zip(&all) {
        for (index, text) in texts.iter().enumerate() {
            unique.add(format!("{}{key}[{index}]", caller.prefix), text);
        }
    }
}

/// One caller as configured. `prefix`, such as `callers[1].`, begins the key paths of messages.
#[derive(Debug, Clone)]
pub(super) struct CallerEntry {
    pub(super) prefix: String,
    pub(super) name: String,
    pub(super) tokens: Vec<Token>,
    pub(super) tokens_file: Option<PathBuf>,
    pub(super) identities: Vec<Identity>,
    pub(super) subjects: Vec<Subject>,
    pub(super) rights: Rights,
}

impl CallerEntry {
    fn read(mut table: Table<'_>, issuers: &[IssuerEntry]) -> Self {
        let name = table.text("name");
        // One that is missing was reported when it was read.
        if !name.is_empty() && !is_name(&name) {
            table.problems().report_value(table.path("name"), name.as_str(), NAME_FORM);
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
        let subjects = subjects(&mut table, issuers);
        let rights = rights(&mut table);
        let prefix = table.path("");
        let entry = Self { prefix, name, tokens, tokens_file, identities, subjects, rights };
        let has_some = !entry.tokens.is_empty() || entry.tokens_file.is_some() || entry.is_named_otherwise();
        if entry.has_no_credentials() && has_some {
            table.problems().report_value(table.path("name"), entry.name.as_str(), NAME_RESERVED);
        }
        table.finish();
        entry
    }

    /// Whether it stands for calls without credentials.
    pub(super) fn has_no_credentials(&self) -> bool {
        RESERVED_CALLERS.contains(&self.name.as_str())
    }

    /// Whether it may be known without a token of ours.
    pub(super) fn is_named_otherwise(&self) -> bool {
        !self.identities.is_empty() || !self.subjects.is_empty()
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

/// Reads the subjects of a caller's JWTs. Without `jwt_issuer` they are those of the only issuer.
fn subjects(table: &mut Table<'_>, issuers: &[IssuerEntry]) -> Vec<Subject> {
    let subjects = table.texts("jwt_subjects");
    let said = table.optional_text("jwt_issuer").filter(|issuer| !issuer.trim().is_empty());
    let problems = table.problems();
    if subjects.is_empty() {
        if said.is_some() {
            problems.report(
                table.path("jwt_issuer"),
                "stands without jwt_subjects; list the subjects of its tokens",
            );
        }
        return Vec::new();
    }
    for (index, _) in subjects.iter().enumerate().filter(|(_, name)| name.trim().is_empty()) {
        problems.report(format!("{}[{index}]", table.path("jwt_subjects")), "must not be empty");
    }
    let issuer = match (&said, issuers) {
        (Some(named), _) => issuers.iter().find(|entry| *entry.issuer == **named),
        (None, [only]) => Some(only),
        (None, _) => None,
    };
    if let Some(entry) = issuer {
        let subject = |name| Subject { issuer: Arc::clone(&entry.issuer), name };
        return subjects.into_iter().map(subject).collect();
    }
    let known: Vec<_> = issuers.iter().map(|entry| &*entry.issuer).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    let text = format!("must be the issuer of one of [[jwt_issuers]] (configured: {known})");
    problems.report(table.path("jwt_issuer"), text);
    Vec::new()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_with_a_token_has_a_name_of_its_own() {
        for good in ["orders", "a.b-c_9", &"x".repeat(64)] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for (bad, text) in
            [("", NAME_FORM), ("a b", NAME_FORM), (&"x".repeat(65), NAME_FORM), ("local", NAME_RESERVED)]
        {
            assert_eq!(check_name(bad), Err(text), "{bad}");
        }
    }
}
