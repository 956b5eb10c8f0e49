//! `docs/types.md` lists every kind of webhook, message, status and template part with its field. The tables are generated
//! from the protos, and Meta's words by writing; `UPDATE_DOCS=1 cargo test --test it types_table` writes them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use prost::Message;
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use regex::Regex;
use whatsapp_gateway::contract::{DESCRIPTORS, meta_form};
use whatsapp_gateway::domain::value::Value;

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

/// What is sent: the title, what names Meta's word, and the message and the oneof.
const SENDING: [(&str, &str, &str, &str); 12] = [
    ("Message types", "`type`", "SendMessageRequest", "content"),
    ("Interactive messages", "`interactive.type`", "Interactive", "action"),
    ("Headers of interactive messages", "`header.type`", "InteractiveHeader", "header"),
    ("Buttons of interactive messages", "`buttons[].type`", "InteractiveButton", "button"),
    ("Cards", "`cards[].type`", "CarouselCard", "action"),
    ("Payment settings", "`payment_settings[].type`", "PaymentSetting", "setting"),
    ("Components of a template that is sent", "`components[].type`", "TemplateComponent", "component"),
    ("Parameters of a template that is sent", "`parameters[].type`", "TemplateParameter", "parameter"),
    ("Buttons of a template that is sent", "", "", ""),
    (
        "Components of a template that is created",
        "`components[].type`",
        "TemplateDefinitionComponent",
        "component",
    ),
    ("Buttons of a template that is created", "`buttons[].type`", "TemplateDefinitionButton", "button"),
    (
        "Buttons of a template of the library",
        "`library_template_button_inputs[].type`",
        "LibraryTemplateButtonInput",
        "input",
    ),
];

/// `sub_type` of the buttons of a template that is sent, and the parameters that fill it (reference 3.12).
const SUB_TYPES: [(&str, &[&str]); 8] = [
    ("quick_reply", &["payload"]),
    ("url", &["text"]),
    ("copy_code", &["coupon_code"]),
    ("flow", &["action"]),
    ("catalog", &["action"]),
    ("mpm", &["action"]),
    ("voice_call", &["ttl_minutes", "payload"]),
    ("order_details", &["action"]),
];

/// Words beside `type` in the reference that name no kind: labels of contacts, and values of orders.
const NO_KINDS: [&str; 7] = ["Company", "Landline", "Mobile", "Office", "Work", "digital-goods", "razorpay"];

/// Fields whose form Meta does not document.
const UNDESCRIBED: [&str; 2] = ["business_status_update", "consumer_profile"];

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/types.md")
}

#[test]
fn the_tables_say_what_the_protos_say() {
    let text = std::fs::read_to_string(path()).unwrap();
    let expected = with_section(&text, "receiving", &receiving());
    let expected = with_section(&expected, "sending", &sending());
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

/// Every kind of the reference's JSON that is sent (2.4, 3) or fills a button (3.12).
#[test]
fn the_tables_have_what_the_reference_sends() {
    let Some(folder) = corpus("cloud-api") else { return };
    let reference = std::fs::read_to_string(folder.join("REFERENCE.md")).unwrap();
    let between = |from: &str, to: &str| reference.split_once(from).unwrap().1.split_once(to).unwrap().0;
    let sections = [between("#### 2.4.3", "#### 2.4.6"), between("\n## 3. ", "\n## 4. ")].concat();
    let kinds = Regex::new(r#""(?:sub_)?type": ?"([^"]+)"|\| button `([a-z_]+)`"#).unwrap();
    let sending = sending();
    let mut count = 0;
    for found in kinds.captures_iter(&sections) {
        let word = found.get(1).or(found.get(2)).unwrap().as_str();
        assert!(NO_KINDS.contains(&word) || sending.contains(&format!("`{word}`")), "{word}");
        count += 1;
    }
    assert!(count > 100, "{count}");
}

/// The text with what stands between the markers of a section replaced.
pub(crate) fn with_section(text: &str, name: &str, section: &str) -> String {
    let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->"));
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("no {begin}"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("no {end}"));
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

fn sending() -> String {
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let (_, _, parameters) = find(&files, "TemplateParameter");
    let mut out = String::new();
    for (title, word, message, oneof) in SENDING {
        writeln!(out, "\n### {title}\n").unwrap();
        if message.is_empty() {
            out += "| Meta's `sub_type` | arms of `TemplateParameter.parameter` |\n|---|---|\n";
            for (word, arms) in SUB_TYPES {
                assert!(arms.iter().all(|arm| parameters.field.iter().any(|f| f.name() == *arm)), "{word}");
                let arms: Vec<_> = arms.iter().map(|arm| format!("`{arm}`")).collect();
                writeln!(out, "| `{word}` | {} |", arms.join(", ")).unwrap();
            }
        } else {
            writeln!(
                out,
                "| Meta's {word} | arm of `{message}.{oneof}` | message | what |\n|---|---|---|---|"
            )
            .unwrap();
            out += &sent_arms(&files, message, oneof);
        }
    }
    out.push('\n');
    out
}

/// A row for each arm of a oneof, with the word that the gateway writes for it.
fn sent_arms(files: &FileDescriptorSet, name: &str, oneof: &str) -> String {
    let (file, index, message) = find(files, name);
    let oneof = message.oneof_decl.iter().position(|o| o.name() == oneof).unwrap();
    let mut out = String::new();
    for (field_index, field) in message.field.iter().enumerate() {
        if field.oneof_index != i32::try_from(oneof).ok() {
            continue;
        }
        let arm = field.name();
        let comment = comment(file, &[4, index, 2, field_index]);
        let kind = match field.type_name().rsplit('.').next() {
            Some("") | None => field.r#type().as_str_name().trim_start_matches("TYPE_").to_lowercase(),
            Some(message) => message.to_owned(),
        };
        if arm == "raw" {
            out += "| any other | `raw` | `Struct` | Meta's body as it is |\n";
            continue;
        }
        let word = metas_word(name, field);
        writeln!(out, "| {word} | `{arm}` | `{kind}` | {comment} |").unwrap();
    }
    out
}

/// What the gateway writes for an arm with nothing in it: its type, and the fixed name of its action.
fn metas_word(message: &str, arm: &FieldDescriptorProto) -> String {
    let is_number = arm.r#type() == Type::Uint32;
    let mut encoded = Vec::new();
    prost::encoding::encode_varint(
        u64::try_from(arm.number()).unwrap() << 3 | u64::from(!is_number) << 1,
        &mut encoded,
    );
    encoded.push(0);
    let written = meta_form(message, &encoded).unwrap();
    let kind = written.get("type").and_then(Value::as_str).unwrap_or(arm.name());
    match written.get("action").and_then(|action| action.get("name")).and_then(Value::as_str) {
        Some(name) if name != kind => format!("`{kind}`, its action `{name}`"),
        _ => format!("`{kind}`"),
    }
}

/// The comment at a path of a file, on one line and without its full stop.
fn comment(file: &prost_types::FileDescriptorProto, path: &[usize]) -> String {
    let path: Vec<_> = path.iter().map(|step| i32::try_from(*step).unwrap()).collect();
    let comments = file.source_code_info.iter().flat_map(|info| &info.location);
    let comment = comments.into_iter().find(|location| location.path == path).unwrap().leading_comments();
    // Comments of sections end with an empty line.
    comment.split_whitespace().collect::<Vec<_>>().join(" ").trim_end_matches('.').to_owned()
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
        let comment = comment(file, &[4, index, 2, field_index]);
        let comment = comment.strip_prefix(&format!("{name}: ")).unwrap_or(&comment);
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
