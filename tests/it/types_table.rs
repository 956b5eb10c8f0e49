//! `docs/types.md` lists every kind of webhook, message and status with its field. The tables are generated from the
//! protos; `UPDATE_DOCS=1 cargo test --test it types_table` writes them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorSet};
use whatsapp_gateway::contract::DESCRIPTORS;

use crate::support::shared::corpus;

/// Meta's names for an arm of ours that has another name: (message, arm, Meta's name).
const SPELLINGS: [(&str, &str, &str); 2] = [
    ("Event", "business_username_update", "business_username_updates"),
    ("ReceivedMessage", "unsupported", "unknown"),
];

/// The words of `status`, and where they stand: (words, field, what).
const STATUSES: [(&[&str], &str, &str); 3] = [
    (
        &["sent", "delivered", "read", "played", "failed", "deleted", "warning"],
        "`Event.status`",
        "a message of the business",
    ),
    (&["captured", "pending", "failed"], "`Event.status`, its `payment`", "a payment: `type` is `payment`"),
    (&["RINGING", "ACCEPTED", "REJECTED"], "`Event.calls`, its `statuses`", "a call of the business"),
];

/// Fields whose form Meta does not document.
const UNDESCRIBED: [&str; 2] = ["business_status_update", "consumer_profile"];

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/types.md")
}

#[test]
fn the_tables_say_what_the_protos_say() {
    let text = std::fs::read_to_string(path()).unwrap();
    let expected = with_section(&text, "receiving", &receiving());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path(), expected).unwrap();
        return;
    }
    assert!(text == expected, "docs/types.md is old: run UPDATE_DOCS=1 cargo test --test it types_table");
}

/// The first cells of the tables of the reference: every field (4.2) and every status (4.5).
#[test]
fn the_tables_have_what_the_reference_names() {
    let Some(folder) = corpus("cloud-api") else { return };
    let reference = std::fs::read_to_string(folder.join("REFERENCE.md")).unwrap();
    let receiving = receiving();
    for title in ["4.2 Envelope", "4.5 `messages`: statuses"] {
        let section = reference.split("\n### ").find(|section| section.starts_with(title)).unwrap();
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
        let words: Vec<_> = rows.flat_map(|cell| cell.split('`').step_by(2)).collect();
        assert!(words.len() > 8, "{title}: {words:?}");
        for word in words {
            let is_word = !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            assert!(!is_word || receiving.contains(&format!("`{word}`")), "{title}: {word}");
        }
    }
}

/// The text with what stands between the markers of a section replaced.
fn with_section(text: &str, name: &str, section: &str) -> String {
    let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->"));
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("docs/types.md lacks {begin}"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("docs/types.md lacks {end}"));
    format!("{before}{begin}{section}{end}{after}")
}

fn receiving() -> String {
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let mut out = String::from("\n### Webhook fields\n\n");
    out += "| Meta's `field` | arm of `Event.payload` | message | what |\n|---|---|---|---|\n";
    out += "| `messages` | `message`, `status`, `error` | `ReceivedMessage`, `MessageStatus`, `WebhookError` \
            | messages, statuses and errors, each an event |\n";
    out += &arms(&files, "Event", |number| (23..59).contains(&number));
    let undescribed: Vec<_> = UNDESCRIBED.iter().map(|name| format!("`{name}`")).collect();
    let undescribed = undescribed.join(", ");
    writeln!(out, "| {undescribed}, any other | `unknown` | `UnknownPayload` | only `raw_json` says it |")
        .unwrap();
    out += "\n### Message types\n\n";
    out += "| Meta's `type` | arm of `ReceivedMessage.content` | message | what |\n|---|---|---|---|\n";
    out += &arms(&files, "ReceivedMessage", |number| (20..49).contains(&number));
    out += "| any other | `unknown` | `UnknownContent` | only `raw_json` says it |\n";
    out += "\n### Interactive replies\n\n";
    out += "| Meta's `interactive.type` | arm of `ReceivedInteractive.reply` | message | what |\n|---|---|---|---|\n";
    out += &arms(&files, "ReceivedInteractive", |number| (2..49).contains(&number));
    out += "| any other | `unknown` | `UnknownContent` | only `raw_json` says it |\n";
    out += "\n### Status kinds\n\n| Meta's `status` | where | of what |\n|---|---|---|\n";
    for (words, field, what) in STATUSES {
        let words: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
        writeln!(out, "| {} | {field} | {what} |", words.join(", ")).unwrap();
    }
    out.push('\n');
    out
}

/// A row for each arm of a message's oneof, in the order of the proto.
fn arms(files: &FileDescriptorSet, message: &str, is_listed: impl Fn(i32) -> bool) -> String {
    let (file, index, message) = find(files, message);
    let mut out = String::new();
    for (field_index, field) in message.field.iter().enumerate() {
        if field.oneof_index.is_none() || !is_listed(field.number()) {
            continue;
        }
        let name = field.name();
        let path = [4, i32::try_from(index).unwrap(), 2, i32::try_from(field_index).unwrap()];
        let comments = file.source_code_info.iter().flat_map(|info| &info.location);
        let comment = comments.into_iter().find(|location| location.path == path).unwrap().leading_comments();
        // Comments of sections end with an empty line.
        let comment = comment.split_whitespace().collect::<Vec<_>>().join(" ");
        let comment = comment.strip_prefix(&format!("{name}: ")).unwrap_or(&comment).trim_end_matches('.');
        let spellings = SPELLINGS.iter().filter(|(m, arm, _)| *m == message.name() && *arm == name);
        let mut names = format!("`{name}`");
        spellings.for_each(|row| write!(names, ", `{}`", row.2).unwrap());
        let kind = field.type_name().rsplit('.').next().unwrap_or_default();
        writeln!(out, "| {names} | `{name}` | `{kind}` | {comment} |").unwrap();
    }
    out
}

fn find<'a>(
    files: &'a FileDescriptorSet,
    name: &str,
) -> (&'a prost_types::FileDescriptorProto, usize, &'a DescriptorProto) {
    let messages = files.file.iter().filter(|file| file.package() == "whatsapp.gateway.v1");
    let messages =
        messages.flat_map(|file| file.message_type.iter().enumerate().map(move |(i, m)| (file, i, m)));
    messages.into_iter().find(|(_, _, message)| message.name() == name).unwrap()
}
