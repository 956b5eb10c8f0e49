//! Puts the layers on top of each other: defaults, file, environment.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use ::config::{Config, ConfigError, Environment, File, FileFormat, Map, Source, Value};

use super::problem::Collector;

/// Every key with its default and its description.
pub(super) const DEFAULTS: &str = include_str!("default.toml");

/// What the variables that set single keys begin with.
const PREFIX: &str = "WHATSAPP_GATEWAY";
const API_VERSION_VARIABLE: &str = "WHATSAPP_API_VERSION";

/// The merged tables; `None`, and a report, if the file cannot be read.
pub(super) fn merge(
    file: Option<&Path>,
    environment: &BTreeMap<String, String>,
    problems: &Collector,
) -> Option<Map<String, Value>> {
    let mut builder = Config::builder();
    builder = builder.add_source(File::from_str(DEFAULTS, FileFormat::Toml));
    if let Some(path) = file {
        builder = builder.add_source(file_layer(path, problems)?);
    }
    if let Some(version) = environment.get(API_VERSION_VARIABLE).filter(|version| !version.trim().is_empty())
    {
        let version = toml_text(version.trim());
        builder =
            builder.add_source(File::from_str(&format!("cloud_api.version = {version}"), FileFormat::Toml));
    }
    builder = builder.add_source(environment_layer(environment, problems));
    match builder.build() {
        Ok(config) => Some(config.cache.into_table().unwrap_or_default()),
        Err(error) => {
            problems.report(PREFIX, in_one_line(&error));
            None
        }
    }
}

/// Writes a text as TOML does.
pub(super) fn toml_text(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.extend(format!("\\u{:04x}", u32::from(c)).chars()),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn file_layer(
    path: &Path,
    problems: &Collector,
) -> Option<impl Source + Clone + Send + Sync + 'static + use<>> {
    let key = path.display().to_string();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            problems.report(key, format!("cannot be read: {error}; correct the path given with --config"));
            return None;
        }
    };
    let source = File::from_str(&text, FileFormat::Toml);
    if let Err(error) = source.collect() {
        problems.report(key, format!("is not TOML: {}", in_one_line(&error)));
        return None;
    }
    Some(source)
}

fn environment_layer(environment: &BTreeMap<String, String>, problems: &Collector) -> Environment {
    let prefix = format!("{PREFIX}__");
    let mut ours = HashMap::new();
    for (name, value) in environment.iter().filter(|(name, _)| name.starts_with(&prefix)) {
        let key = &name[prefix.len()..];
        let is_path = key.split("__").all(|part| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        });
        if is_path {
            ours.insert(name.clone(), value.clone());
        } else {
            let text = format!("names no key; write {prefix}SECTION__KEY, such as {prefix}GRPC__LISTEN");
            problems.report(name.as_str(), text);
        }
    }
    // Values stay text: an id such as 00105 must not become a number.
    Environment::with_prefix(PREFIX)
        .prefix_separator("__")
        .separator("__")
        .try_parsing(false)
        .source(Some(ours))
}

/// The tables of a TOML text; or what is wrong with it, without what it says.
pub(super) fn parse(text: &str) -> Result<Map<String, Value>, String> {
    File::from_str(text, FileFormat::Toml)
        .collect()
        .map_err(|error| format!("is not TOML: {}", in_one_line(&error)))
}

/// The parser's message without the lines it quotes: someone may have written a secret there.
fn in_one_line(error: &ConfigError) -> String {
    let text = error.to_string();
    let lines = text.lines().map(str::trim).filter(|line| !line.contains('|') && !line.is_empty());
    lines.collect::<Vec<_>>().join(": ")
}
