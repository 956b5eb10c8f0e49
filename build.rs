//! Compiles the protos without protoc: messages and client, the server traits over wire-equal event frames, the
//! static rules of the `buf.validate` annotations as a table, and the descriptors that reflection serves.

use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, ExtensionDescriptor, Kind, Value};

const PACKAGE: &str = "whatsapp.gateway.v1";
const PROTOS: [&str; 3] = [
    "whatsapp/gateway/v1/gateway_service.proto",
    "whatsapp/gateway/v1/subscription_service.proto",
    "whatsapp/gateway/v1/error_reason.proto",
];

/// Responses with events that are encoded already; see `contract::frames`.
const FRAMES: [&str; 2] = ["SubscribeEventsResponse", "ListParkedEventsResponse"];

/// Fields of files, which travel as shared bytes. The path of a field in a oneof does not name the oneof.
const MEDIA_CHUNKS: [&str; 2] = ["UploadMediaRequest.chunk", "DownloadMediaResponse.chunk"];

/// Content that is much larger than all other: in line, every request would be as large.
const BOXED: &str = "SendMessageRequest.content.interactive";

/// The status in a stream of answers, and the type that has it.
const STATUS: (&str, &str) = (".google.rpc.Status", "::tonic_types::Status");

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=proto-vendor");
    let out_dir = PathBuf::from(std::env::var("OUT_DIR")?);

    let mut compiler = protox::Compiler::new(["proto", "proto-vendor"])?;
    compiler.include_imports(true).include_source_info(true).open_files(PROTOS)?;
    let descriptors = compiler.file_descriptor_set();

    // Comments travel with our own files only: grpcurl shows them, and those of other people's protos are long.
    let mut served = descriptors.clone();
    for file in served.file.iter_mut().filter(|f| f.package() != PACKAGE) {
        file.source_code_info = None;
    }
    std::fs::write(out_dir.join("descriptors.binpb"), served.encode_to_vec())?;

    // `buf.validate` is needed for its annotations only; no code is generated for it.
    let mut ours = descriptors;
    ours.file.retain(|f| f.package() != "buf.validate");
    let mut messages = tonic_prost_build::configure().build_server(false).extern_path(STATUS.0, STATUS.1);
    for field in MEDIA_CHUNKS {
        messages = messages.bytes(format!(".{PACKAGE}.{field}"));
    }
    messages.boxed(format!(".{PACKAGE}.{BOXED}")).compile_fds(ours.clone())?;

    // The server streams events that are encoded already.
    let server_dir = out_dir.join("server");
    std::fs::create_dir_all(&server_dir)?;
    let mut over_frames = tonic_prost_build::configure()
        .build_client(false)
        .out_dir(&server_dir)
        .extern_path(format!(".{PACKAGE}"), "crate::contract::v1")
        .extern_path(STATUS.0, STATUS.1);
    for message in FRAMES {
        let frame = format!("crate::contract::frames::{message}");
        over_frames = over_frames.extern_path(format!(".{PACKAGE}.{message}"), frame);
    }
    over_frames.compile_fds(ours)?;

    let pool = DescriptorPool::decode(compiler.encode_file_descriptor_set().as_slice())?;
    std::fs::write(out_dir.join("rules.rs"), rules_table(&pool)?)?;
    Ok(())
}

/// The annotations as rows of (message, field or `oneof <name>`, rule, value).
fn rules_table(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let extension = |name: &str| pool.get_extension_by_name(name).ok_or(format!("{name} is not defined"));
    let (field_rules, oneof_rules) = (extension("buf.validate.field")?, extension("buf.validate.oneof")?);
    let mut table = String::from("&[\n");
    for message in pool.all_messages().filter(|m| m.package_name() == PACKAGE) {
        for field in message.fields() {
            if let Some(rules) = annotation(&field.options(), &field_rules) {
                write_rules(&mut table, message.name(), field.name(), "", &rules)?;
            }
            if let Kind::Enum(words) = field.kind() {
                let numbers = words.values().map(|v| v.number().to_string()).collect::<Vec<_>>().join("|");
                writeln!(table, "    ({:?}, {:?}, \"enum.in\", {numbers:?}),", message.name(), field.name())?;
            }
        }
        for oneof in message.oneofs() {
            if let Some(rules) = annotation(&oneof.options(), &oneof_rules) {
                write_rules(&mut table, message.name(), &format!("oneof {}", oneof.name()), "", &rules)?;
            }
        }
    }
    table.push(']');
    Ok(table)
}

fn annotation(options: &DynamicMessage, extension: &ExtensionDescriptor) -> Option<DynamicMessage> {
    let rules = options.has_extension(extension).then(|| options.get_extension(extension).into_owned())?;
    rules.as_message().cloned()
}

fn write_rules(
    table: &mut String,
    message: &str,
    field: &str,
    prefix: &str,
    rules: &DynamicMessage,
) -> Result<(), Box<dyn Error>> {
    for (rule, value) in rules.fields() {
        let name = format!("{prefix}{}", rule.name());
        let text = match value {
            Value::Message(nested) => {
                write_rules(table, message, field, &format!("{prefix}{}.", rule.name()), nested)?;
                continue;
            }
            Value::Bool(v) => v.to_string(),
            Value::I32(v) => v.to_string(),
            Value::U32(v) => v.to_string(),
            Value::U64(v) => v.to_string(),
            Value::I64(v) => v.to_string(),
            Value::F64(v) => v.to_string(),
            Value::String(v) => v.clone(),
            Value::List(values) => {
                let texts = values.iter().map(|v| v.as_str().ok_or("only lists of strings are supported"));
                texts.collect::<Result<Vec<_>, _>>()?.join("|")
            }
            other @ (Value::F32(_) | Value::Bytes(_) | Value::EnumNumber(_) | Value::Map(_)) => {
                return Err(format!("{message}.{field}: {name} = {other:?} is not supported").into());
            }
        };
        writeln!(table, "    ({message:?}, {field:?}, {name:?}, {text:?}),")?;
    }
    Ok(())
}
