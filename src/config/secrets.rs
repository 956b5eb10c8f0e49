//! Turns configured accounts into a [`Snapshot`] by reading their secrets.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::accounts::{Accounts, AppEntry, SecretSource, WabaEntry};
use super::callers::{self, CallerEntry};
use super::layers;
use super::problem::Collector;
use crate::tenants::{App, Caller, Snapshot, Token, TokenHash, Waba};

/// Secrets are short; a larger file is a mistake, and must not be read into memory.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Some thousands of callers.
const CALLERS_BYTES_MAX: u64 = 1024 * 1024;
/// Tokens of one caller: the current one and, during a rotation, another.
const TOKENS_MAX: usize = 2;

/// What the secrets were, as one hash: equal while nothing changed.
pub(super) type Fingerprint = [u8; 32];

/// Reads every secret and reports each one that cannot be used.
pub(super) fn resolve(accounts: &Accounts, problems: &Collector) -> (Snapshot, Fingerprint) {
    let mut reader = Reader::new(problems);
    let entries = reader.callers(accounts);
    callers::check(&entries, accounts, problems);
    let apps = accounts.apps.iter().map(|app| reader.app(app)).collect();
    let wabas = accounts.wabas.iter().map(|waba| reader.waba(waba)).collect();
    let callers: Vec<_> = entries.iter().map(|caller| reader.caller(caller)).collect();
    check_hashes_unique(&entries, &callers, problems);
    (Snapshot::new(apps, wabas, callers), reader.fingerprint())
}

/// Reads files, and adds all that they hold up.
pub(super) struct Reader<'a> {
    problems: &'a Collector,
    digest: Sha256,
}

impl<'a> Reader<'a> {
    pub(super) fn new(problems: &'a Collector) -> Self {
        Self { problems, digest: Sha256::new() }
    }

    pub(super) fn fingerprint(self) -> Fingerprint {
        self.digest.finalize().into()
    }

    /// The callers of the configuration, and behind them those of their own file.
    fn callers(&mut self, accounts: &Accounts) -> Vec<CallerEntry> {
        let mut entries = accounts.callers.clone();
        if let Some(path) = &accounts.callers_file
            && let Some(text) = self.file_up_to(CALLERS_BYTES_MAX, callers::FILE_KEY, path)
        {
            match layers::parse(text.expose_secret()) {
                Ok(values) => entries.extend(callers::of_file(values, &accounts.issuers, self.problems)),
                Err(text) => self.problems.report_value(callers::FILE_KEY, path.display().to_string(), text),
            }
        }
        entries
    }

    fn app(&mut self, app: &AppEntry) -> App {
        let key = |index| format!("{}secret_files[{index}]", app.prefix);
        let secrets =
            app.secrets.iter().enumerate().map(|(index, source)| self.secret(&key(index), source)).collect();
        let verify_token = self.secret(&format!("{}verify_token_file", app.prefix), &app.verify_token);
        App { id: app.id.as_str().into(), secrets, verify_token }
    }

    fn waba(&mut self, waba: &WabaEntry) -> Waba {
        Waba {
            id: waba.id.as_str().into(),
            app_id: waba.app_id.as_str().into(),
            access_token: self.secret(&format!("{}access_token_file", waba.prefix), &waba.access_token),
            phone_number_ids: waba.phone_number_ids.iter().map(|number| number.as_str().into()).collect(),
        }
    }

    fn caller(&mut self, caller: &CallerEntry) -> Caller {
        let mut tokens = caller.tokens.clone();
        if let Some(path) = &caller.tokens_file {
            let key = format!("{}token_sha256_file", caller.prefix);
            let text = self.file(&key, path).unwrap_or_default();
            let lines = text.expose_secret().lines().enumerate();
            for (index, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
                match Token::parse(line) {
                    Some(token) => tokens.push(token),
                    None => {
                        self.problems.report(key.as_str(), format!("line {} {}", index + 1, Token::FORM));
                    }
                }
            }
        } else if tokens.is_empty() && !caller.is_named_otherwise() && !caller.has_no_credentials() {
            let text = "has no token; list hashes in token_sha256, name a file in token_sha256_file, or list the names of \
                        its certificate in identities, or the subjects of its JWTs in jwt_subjects";
            self.problems.report(format!("{}token_sha256", caller.prefix), text);
        }
        if tokens.len() > TOKENS_MAX {
            let count = tokens.len();
            let text = format!(
                "has {count} tokens; one, and another while it is being rotated, may live: remove the old"
            );
            self.problems.report(format!("{}token_sha256", caller.prefix), text);
        }
        let rights = Arc::new(caller.rights.clone());
        Caller {
            name: Arc::from(caller.name.as_str()),
            tokens,
            identities: caller.identities.clone(),
            subjects: caller.subjects.clone(),
            rights,
        }
    }

    /// The secret without the white space around it. It must be one word: secrets travel in headers.
    fn secret(&mut self, key: &str, source: &SecretSource) -> SecretString {
        let (raw, key) = match source {
            SecretSource::File(path) => (self.file(key, path), key),
            SecretSource::Given { origin, value } => (Some(value.clone()), origin.as_str()),
        };
        let Some(raw) = raw else { return SecretString::default() };
        let secret = raw.expose_secret().trim();
        if secret.is_empty() {
            self.problems.report(key, format!("the secret from {source} is empty; write the secret into it"));
        } else if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            let text = format!(
                "the secret from {source} holds white space or characters beyond ASCII; it must be one word, with \
                 nothing else in the file"
            );
            self.problems.report(key, text);
        }
        SecretString::from(secret)
    }

    /// The text of a file; `None` if that was reported, or if its missing name was before.
    pub(super) fn file(&mut self, key: &str, path: &Path) -> Option<SecretString> {
        self.file_up_to(FILE_BYTES_MAX, key, path)
    }

    fn file_up_to(&mut self, bytes_max: u64, key: &str, path: &Path) -> Option<SecretString> {
        if path.as_os_str().is_empty() {
            return None;
        }
        let mut bytes = Vec::new();
        let read =
            std::fs::File::open(path).and_then(|file| file.take(bytes_max + 1).read_to_end(&mut bytes));
        let shown = path.display().to_string();
        if let Err(error) = read {
            let text = format!("cannot be read: {error}; correct the path or mount the secret");
            self.problems.report_value(key, shown, text);
            return None;
        }
        self.digest.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        self.digest.update(&bytes);
        if u64::try_from(bytes.len()).is_ok_and(|length| length > bytes_max) {
            let text = format!("is larger than {} KiB, which is not expected of it", bytes_max / 1024);
            self.problems.report_value(key, shown, text);
            return None;
        }
        let Ok(text) = String::from_utf8(bytes) else {
            self.problems.report_value(key, shown, "is not text (UTF-8)");
            return None;
        };
        Some(SecretString::from(text))
    }
}

fn check_hashes_unique(entries: &[CallerEntry], callers: &[Caller], problems: &Collector) {
    let mut owners: HashMap<TokenHash, &str> = HashMap::new();
    for (entry, caller) in entries.iter().zip(callers) {
        for token in &caller.tokens {
            let owner = *owners.entry(token.hash).or_insert(&entry.name);
            if owner != entry.name {
                let text = format!("has the same token as caller {owner:?}; give each caller its own");
                problems.report_value(format!("{}name", entry.prefix), entry.name.as_str(), text);
            }
        }
    }
}
