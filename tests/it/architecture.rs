//! The rooms of `src/` and who may name whom. One package means that the compiler does not check this.
//!
//! ```text
//! main → commands → app → { grpc, web } → flows → { cloud_api, storage } → domain
//! ```
//!
//! `ARCHITECTURE.md` explains the rooms; the tables here are the law. Code in tests obeys it too.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;

struct Room {
    name: &'static str,
    /// Rooms that it may name.
    may_name: &'static [&'static str],
    /// Crates and paths that it must not touch.
    must_not_touch: &'static [&'static str],
}

/// Every room, from the outside in; then the leaves, and the simulator, which stands alone.
const ROOMS: &[Room] = &[
    Room { name: "main", may_name: &["commands"], must_not_touch: &["tokio", "tonic", "axum"] },
    Room {
        name: "commands",
        may_name: &[
            "app",
            "clock",
            "config",
            "contract",
            "lifecycle",
            "selftest",
            "simulator",
            "telemetry",
            "tenants",
        ],
        must_not_touch: &["tonic", "prost", "axum", "rusqlite"],
    },
    Room {
        name: "app",
        may_name: &[
            "clock",
            "cloud_api",
            "config",
            "flows",
            "grpc",
            "jwt",
            "lifecycle",
            "listener",
            "storage",
            "telemetry",
            "tenants",
            "tls",
            "web",
        ],
        must_not_touch: &["tonic", "prost", "axum", "reqwest", "rusqlite", "serde_json"],
    },
    // Of a room that has a `Config` it may name that alone; see `config_names_configs`.
    Room {
        name: "config",
        may_name: &["cloud_api", "domain", "jwt", "lifecycle", "storage", "telemetry", "tenants", "tls"],
        must_not_touch: &["tonic", "prost", "axum", "reqwest", "rusqlite"],
    },
    Room {
        name: "grpc",
        may_name: &[
            "clock",
            "contract",
            "domain",
            "flows",
            "jwt",
            "lifecycle",
            "listener",
            "telemetry",
            "tenants",
            "tls",
        ],
        must_not_touch: &["axum", "reqwest", "rusqlite"],
    },
    Room {
        name: "web",
        may_name: &["clock", "domain", "flows", "lifecycle", "listener", "telemetry", "tenants"],
        must_not_touch: &["tonic", "tonic_types", "prost", "prost_types", "reqwest", "rusqlite"],
    },
    Room {
        name: "flows",
        may_name: &["clock", "cloud_api", "domain", "lifecycle", "storage", "telemetry", "tenants"],
        must_not_touch: &[
            "tonic",
            "tonic_types",
            "prost",
            "prost_types",
            "axum",
            "serde_json",
            "reqwest",
            "rusqlite",
            "http",
            "hyper",
        ],
    },
    Room {
        name: "cloud_api",
        may_name: &["clock", "domain", "telemetry"],
        must_not_touch: &["tonic", "tonic_types", "prost", "prost_types", "axum", "rusqlite"],
    },
    // It names `contract` because events are stored as the bytes that subscribers get.
    Room {
        name: "storage",
        may_name: &["clock", "contract", "domain", "telemetry"],
        must_not_touch: &["tonic", "axum", "reqwest", "http", "hyper", "serde_json"],
    },
    Room {
        name: "contract",
        may_name: &["domain"],
        must_not_touch: &["tokio", "axum", "reqwest", "rusqlite", "http", "hyper"],
    },
    Room {
        name: "domain",
        may_name: &[],
        must_not_touch: &[
            "tokio",
            "tonic",
            "prost",
            "prost_types",
            "axum",
            "http",
            "hyper",
            "reqwest",
            "rusqlite",
            "serde",
            "serde_json",
            "std::fs",
            "std::io",
            "std::net",
            "std::env",
            "SystemTime::now",
            "Instant::now",
        ],
    },
    Room { name: "clock", may_name: &[], must_not_touch: &["tonic", "axum"] },
    Room { name: "lifecycle", may_name: &[], must_not_touch: &["tonic", "axum"] },
    Room {
        name: "listener",
        may_name: &["lifecycle", "telemetry", "tls"],
        must_not_touch: &["prost", "rusqlite"],
    },
    Room { name: "telemetry", may_name: &["clock"], must_not_touch: &["axum", "prost"] },
    Room { name: "tenants", may_name: &["domain", "tls"], must_not_touch: &["tonic", "axum", "serde_json"] },
    Room {
        name: "jwt",
        may_name: &["telemetry", "tenants"],
        must_not_touch: &["tonic", "prost", "axum", "rusqlite"],
    },
    Room { name: "tls", may_name: &[], must_not_touch: &["tonic", "axum", "serde_json"] },
    Room {
        name: "selftest",
        may_name: &["contract"],
        must_not_touch: &["axum", "reqwest", "rusqlite", "serde_json"],
    },
    Room {
        name: "simulator",
        may_name: &[],
        must_not_touch: &["tonic", "tonic_types", "prost", "prost_types"],
    },
];

/// Where only one file may do it.
const ONLY_HERE: [(&str, &str); 1] = [("include_proto!", "contract.rs")];

/// What files below a path may touch although their room must not.
const MAY_TOUCH: [(&str, &str); 1] = [("storage/nats/", "serde_json")];

const LINES_MAX: usize = 400;

/// Longer files, and why they are not split.
const LONG_FILES: [(&str, &str); 6] = [
    ("flows/upload_media.rs", "the transfer and the source it pours; the seam is between them"),
    ("grpc/status.rs", "the one place that builds statuses, a few lines for each error"),
    ("simulator/judge_tests.rs", "one table of bodies and how Meta judges each"),
    ("grpc/convert/tests.rs", "one table of requests and what is said about each"),
    ("config/tests.rs", "one table of configurations and what is said about each"),
    ("simulator/tests.rs", "one conversation with the whole simulator, step by step"),
];

/// Words that name nothing.
const EMPTY_NAMES: [&str; 6] = ["util", "utils", "helpers", "common", "manager", "types"];

/// What must stand at the top.
const TOP_LEVEL: [&str; 8] =
    ["Cargo.toml", "Dockerfile", "Makefile", "build.rs", "helm", "proto", "src", "tests"];

/// What may stand at the top beside it, and what for.
const TOP_LEVEL_ALSO: [(&str, &str); 26] = [
    ("bench", "the benchmark, a crate of its own"),
    (".ci", "continuous integration"),
    (".github", "continuous integration"),
    (".dockerignore", "the image"),
    (".gitignore", "git"),
    (".gitattributes", "git"),
    (".git", "git"),
    (".dev", "data of the command dev; ignored by git"),
    (".tools", "fetched tools; ignored by git"),
    ("target", "cargo; ignored by git"),
    ("ARCHITECTURE.md", "a document"),
    ("CHANGELOG.md", "a document"),
    ("CONTRIBUTING.md", "a document"),
    ("LICENSE-APACHE", "a document"),
    ("LICENSE-MIT", "a document"),
    ("README.md", "a document"),
    ("SECURITY.md", "a document"),
    ("Cargo.lock", "cargo"),
    ("buf.yaml", "lints of the protos"),
    ("clippy.toml", "lints"),
    ("deny.toml", "lints"),
    ("proto-vendor", "protos of others"),
    ("rust-toolchain.toml", "the toolchain"),
    ("rustfmt.toml", "the format"),
    ("docs", "what is too long for README and ARCHITECTURE"),
    ("scripts", "what the Makefile calls"),
];

/// A file of `src/`.
struct Source {
    /// Path below `src/`.
    path: String,
    /// The room that it belongs to.
    room: String,
    lines: usize,
    /// The code without comments and without the content of strings.
    code: String,
}

/// All of them, read once.
fn sources() -> &'static [Source] {
    static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(read_sources);
    &SOURCES
}

fn read_sources() -> Vec<Source> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
                let room = path.split('/').next().unwrap().trim_end_matches(".rs").to_owned();
                found.push(Source { path, room, lines: text.lines().count(), code: code_of(&text) });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 100, "{} files in src", found.len());
    found
}

/// The code alone: comments and the content of strings and characters become blanks, line breaks stay.
fn code_of(text: &str) -> String {
    // Line and block comments; raw strings; strings; characters, which a lifetime is not.
    static NOISE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(concat!(
            r"(?s)//[^\n]*|/\*.*?\*/",
            r####"|\bb?r##".*?"##|\bb?r#".*?"#|\bb?r".*?""####,
            r####"|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.[^']*)'"####,
        ))
        .unwrap()
    });
    let blank = |found: &regex::Captures<'_>| {
        found[0].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect::<String>()
    };
    NOISE.replace_all(text, blank).into_owned()
}

/// The rooms that code names: `crate::room`, in `use` and inline. Groups come as `{`, a glob as `*`.
fn named_rooms(code: &str) -> Vec<(usize, String)> {
    static MENTION: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\b(?:crate|whatsapp_gateway)\s*::\s*(\w+|\{|\*)").unwrap());
    MENTION
        .captures_iter(code)
        .map(|found| (line_of(code, found.get(0).unwrap().start()), found[1].to_owned()))
        .collect()
}

/// `super::` chains that leave the room: those with as many steps as the module is deep.
fn leaves_by_super(path: &str, code: &str) -> Vec<usize> {
    static TOKEN: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\bmod\s+\w+\s*\{|\{|\}|(?:\bsuper\s*::\s*)+").unwrap());
    let depth = path.trim_end_matches(".rs").split('/').count();
    // Of every open brace, whether it is a module.
    let mut braces: Vec<bool> = Vec::new();
    let mut found = Vec::new();
    for token in TOKEN.find_iter(code) {
        match token.as_str() {
            "{" => braces.push(false),
            "}" => drop(braces.pop()),
            text if text.ends_with('{') => braces.push(true),
            text => {
                let depth = depth + braces.iter().filter(|is_module| **is_module).count();
                if text.matches("super").count() >= depth {
                    found.push(line_of(code, token.start()));
                }
            }
        }
    }
    found
}

/// Where code names a crate, from the beginning of a path on, or the end of a path such as `SystemTime::now`.
fn touched(room: &Room, code: &str) -> Vec<(usize, String)> {
    static PATTERNS: LazyLock<HashMap<&str, Regex>> = LazyLock::new(|| {
        let pattern = |room: &Room| {
            let (paths, crates): (Vec<&str>, Vec<&str>) =
                room.must_not_touch.iter().partition(|name| name.contains("::"));
            let paths = paths.join("|").replace("::", r"\s*::\s*");
            // A crate's name after `::` or `.` is a part of something else; after one `:` it is a type.
            let crates = format!(r"(?:^|[^\w:.]|[^:]:)({})\s*(?:::|;|\bas\b|!)", crates.join("|"));
            let paths = if paths.is_empty() { String::new() } else { format!(r"|\b({paths})\b") };
            Regex::new(&format!("{crates}{paths}")).unwrap()
        };
        ROOMS.iter().map(|room| (room.name, pattern(room))).collect()
    });
    let found = PATTERNS[room.name].captures_iter(code);
    let name = |found: &regex::Captures<'_>| found.get(1).or(found.get(2)).unwrap().range();
    found.map(|found| name(&found)).map(|at| (line_of(code, at.start), code[at].to_owned())).collect()
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// What breaks the rules, one line each.
fn violations(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources.iter().filter(|source| source.room != "lib") {
        let path = &source.path;
        let Some(room) = ROOMS.iter().find(|room| room.name == source.room) else {
            found.push(format!("{path}: the room {} is not in the table", source.room));
            continue;
        };
        for (line, named) in named_rooms(&source.code) {
            match named.as_str() {
                "{" | "*" => found.push(format!("{path}:{line}: one `use` per room, without braces")),
                named if named == room.name || room.may_name.contains(&named) => {}
                named => found.push(format!("{path}:{line}: {} must not name {named}", room.name)),
            }
        }
        for line in leaves_by_super(path, &source.code) {
            found.push(format!("{path}:{line}: `super` leaves the room; write `crate::`"));
        }
        let allowed = |name: &str| MAY_TOUCH.iter().any(|(at, what)| path.starts_with(at) && *what == name);
        for (line, name) in touched(room, &source.code).into_iter().filter(|(_, name)| !allowed(name)) {
            found.push(format!("{path}:{line}: {} must not touch {name}", room.name));
        }
        for (what, only) in ONLY_HERE {
            if path != only && source.code.contains(what) {
                found.push(format!("{path}: {what} belongs into {only} alone"));
            }
        }
    }
    found
}

#[test]
fn rooms_name_only_what_they_may() {
    let sources = sources();
    let mut uses: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for source in sources {
        let named = named_rooms(&source.code).into_iter().map(|(_, named)| named);
        uses.entry(&source.room).or_default().extend(named.filter(|named| *named != source.room));
    }
    for room in ROOMS {
        let named: Vec<_> = uses.get(room.name).into_iter().flatten().map(String::as_str).collect();
        println!("{:>10} → {}", room.name, named.join(", "));
    }
    let found = violations(sources);
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn the_arrows_have_no_cycle() {
    fn visit<'a>(name: &'a str, trail: &mut Vec<&'a str>) {
        assert!(!trail.contains(&name), "a cycle: {} → {name}", trail.join(" → "));
        let room = ROOMS.iter().find(|room| room.name == name);
        trail.push(name);
        room.unwrap_or_else(|| panic!("{name} is no room"))
            .may_name
            .iter()
            .for_each(|next| visit(next, trail));
        trail.pop();
    }
    visit("main", &mut Vec::new());
}

#[test]
fn the_module_list_is_the_table() {
    let sources = sources();
    let lib = &sources.iter().find(|source| source.path == "lib.rs").unwrap().code;
    let module = Regex::new(r"(?m)^\s*(?:pub )?mod (\w+);").unwrap();
    let mut listed: Vec<_> = module.captures_iter(lib).map(|found| found[1].to_owned()).collect();
    listed.extend(["main".to_owned()]);
    listed.sort();
    let mut table: Vec<_> = ROOMS.iter().map(|room| room.name.to_owned()).collect();
    table.sort();
    assert_eq!(listed, table);
}

/// `config` gathers configurations; it knows no other part of the rooms that do something.
#[test]
fn config_names_configs() {
    let part = Regex::new(r"\b(cloud_api|storage)\s*::\s*(\w+|\{|\*)").unwrap();
    for source in sources().iter().filter(|source| source.room == "config") {
        for found in part.captures_iter(&source.code) {
            let line = line_of(&source.code, found.get(0).unwrap().start());
            assert!(found[2].ends_with("Config"), "{}:{line}: {}", source.path, &found[0]);
        }
    }
}

#[test]
fn files_are_short() {
    let sources = sources();
    let long: Vec<_> = sources.iter().filter(|source| source.lines > LINES_MAX).collect();
    for source in &long {
        let reason = LONG_FILES.iter().find(|(path, _)| *path == source.path).map(|(_, reason)| reason);
        let reason = reason.unwrap_or_else(|| {
            panic!("{} has {} lines: look for a seam at {LINES_MAX}", source.path, source.lines)
        });
        println!("{} has {} lines: {reason}", source.path, source.lines);
    }
    for (path, _) in LONG_FILES {
        assert!(long.iter().any(|source| source.path == path), "{path} needs no exception any more");
    }
}

#[test]
fn files_stand_beside_their_folders_and_have_names_that_say_something() {
    for source in sources() {
        let name = source.path.rsplit('/').next().unwrap().trim_end_matches(".rs");
        assert_ne!(name, "mod", "{}: write flows.rs beside flows/", source.path);
        let is_empty = EMPTY_NAMES.iter().any(|word| name.split('_').any(|part| part == *word));
        assert!(!is_empty, "{} says nothing", source.path);
    }
}

#[test]
fn the_top_level_is_known() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in TOP_LEVEL {
        assert!(root.join(name).exists(), "{name} is missing");
    }
    let known =
        |name: &str| TOP_LEVEL.contains(&name) || TOP_LEVEL_ALSO.iter().any(|(known, _)| *known == name);
    for entry in std::fs::read_dir(root).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(known(&name), "{name} at the top level: say in this table what it is for");
    }
}

/// The walker itself, on code that breaks the rules.
#[test]
fn broken_rules_are_found() {
    let source = |path: &str, text: &str| Source {
        path: path.to_owned(),
        room: path.split('/').next().unwrap().trim_end_matches(".rs").to_owned(),
        lines: 1,
        code: code_of(text),
    };
    let broken = [
        ("domain/ids.rs", "use crate::clock::Clock;"),
        ("domain/ids.rs", "fn f() { let t = std::time::SystemTime::now(); }"),
        ("domain/ids.rs", "use std::{\n fmt};\nuse std::fs;"),
        ("flows/a.rs", "fn f() -> crate::grpc::Callers { todo() }"),
        ("flows/a.rs", "use crate::contract;"),
        ("flows/a.rs", "use tonic::Status;"),
        ("flows/a.rs", "fn f(x: serde_json::Value) {}"),
        ("flows/a.rs", "let x = \"a // b\"; use axum::Router;"),
        ("flows/a.rs", "use crate::{domain, storage};"),
        ("flows/a.rs", "use crate::*;"),
        ("flows/a.rs", "use super::super::grpc::Callers;"),
        ("flows.rs", "use super::grpc;"),
        ("flows/a.rs", "mod tests { use super::super::super::web; }"),
        ("web/a.rs", "use crate::storage::Storage;"),
        ("grpc/a.rs", "use reqwest as http;"),
        ("kitchen.rs", ""),
        ("simulator/a.rs", "type T = &'static str; use crate::domain::ids;"),
        ("grpc/a.rs", "tonic::include_proto!(x);"),
    ];
    for (path, text) in broken {
        assert_eq!(violations(&[source(path, text)]).len(), 1, "{path}: {text}");
    }
    let sound = [
        ("domain/ids.rs", "// use crate::clock;\n/* crate::web */ const X: &str = \"crate::grpc\";"),
        ("domain/ids.rs", "const X: &str = r#\"use tokio::\"#; const Y: char = '\"';\nuse super::value;"),
        ("flows/a.rs", "use crate::flows::b; use super::b::C; use crate::storage::events;"),
        ("flows/a.rs", "mod tests { use super::super::b; }"),
        ("flows.rs", "mod tests { use super::*; }"),
        ("web/a.rs", "let x = crate::telemetry::names::http::SERVER;"),
    ];
    for (path, text) in sound {
        assert_eq!(violations(&[source(path, text)]), Vec::<String>::new(), "{path}: {text}");
    }
}
