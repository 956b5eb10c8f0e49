//! The shapes of our messages, read from their descriptors once.
//!
//! What the generated structs cannot tell at run time: field names, oneofs, presence. Both directions between Meta's
//! JSON and our messages, and the static rules, walk these shapes.

mod tables;

use std::collections::HashMap;
use std::sync::LazyLock;

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

use tables::{
    ACTIONS, AS_TEXT, DISCRIMINATED, KEEPS_EMPTY, LAID_OUT, LENIENT, LISTS, RENAMED, UPPER_CASE,
    WEBHOOK_FIELDS,
};
pub(super) use tables::{Action, Discriminator, Keyed, Layout, Leniency};

const PACKAGE_PREFIX: &str = ".whatsapp.gateway.v1.";

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Int64,
    Uint32,
    Double,
    String,
    Bytes,
    Enum,
    /// Index of the message's shape.
    Message(usize),
    Timestamp,
    Duration,
    Struct,
}

/// One field.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) number: u32,
    pub(super) kind: Kind,
    pub(super) is_repeated: bool,
    /// Absent and empty differ.
    pub(super) has_presence: bool,
    /// Index of the oneof.
    pub(super) oneof: Option<usize>,
    /// Meta's names for it, the usual one first.
    pub(super) meta_names: Vec<&'static str>,
    pub(super) leniency: Option<Leniency>,
    /// The field of this object whose text may stand for the object.
    pub(super) as_text: Option<&'static str>,
    /// Whether an empty text is a value of its own.
    pub(super) keeps_empty: bool,
    /// How Meta writes this arm of an action, the usual way first.
    pub(super) actions: Vec<Action>,
    pub(super) layout: Option<Layout>,
}

impl Field {
    /// Whether Meta calls it so.
    pub(super) fn is_called(&self, name: &str) -> bool {
        self.name == name || self.meta_names.contains(&name)
    }
}

/// One oneof.
#[derive(Debug)]
pub(super) struct Oneof {
    pub(super) name: String,
    pub(super) discriminator: Discriminator,
    /// Whether Meta's `type` is in upper case.
    pub(super) is_upper_case: bool,
}

/// One message.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) name: String,
    pub(super) fields: Vec<Field>,
    pub(super) oneofs: Vec<Oneof>,
    /// Whether Meta writes the list of the only field instead of an object.
    pub(super) is_list: bool,
}

impl Shape {
    pub(super) fn field(&self, number: u32) -> Option<&Field> {
        self.fields.iter().find(|f| f.number == number)
    }

    pub(super) fn arms(&self, oneof: usize) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(move |f| f.oneof == Some(oneof))
    }
}

/// All shapes.
#[derive(Debug)]
pub(super) struct Schema {
    shapes: Vec<Shape>,
    by_name: HashMap<String, usize>,
}

impl Schema {
    pub(super) fn get() -> &'static Self {
        static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
            let files = FileDescriptorSet::decode(super::DESCRIPTORS).unwrap_or_default();
            let messages = files.file.iter().filter(|f| f.package() == "whatsapp.gateway.v1");
            Schema::build(&messages.flat_map(|f| &f.message_type).collect::<Vec<_>>())
        });
        &SCHEMA
    }

    fn build(messages: &[&DescriptorProto]) -> Self {
        let by_name: HashMap<String, usize> =
            messages.iter().enumerate().map(|(index, m)| (m.name().to_owned(), index)).collect();
        let shapes = messages.iter().map(|m| shape(m, &by_name)).collect();
        Self { shapes, by_name }
    }

    /// The shape of a message of ours.
    pub(super) fn named(&self, name: &str) -> Option<&Shape> {
        self.by_name.get(name).and_then(|index| self.shape(*index))
    }

    pub(super) fn shape(&self, index: usize) -> Option<&Shape> {
        self.shapes.get(index)
    }

    /// The arm of `Event.payload` for a webhook field of Meta's, and its shape.
    pub(super) fn webhook_field(&self, name: &str) -> Option<(&Field, &Shape)> {
        let arms = self.named("Event")?.fields.iter().filter(|f| WEBHOOK_FIELDS.contains(&f.number));
        let field = arms.into_iter().find(|f| f.is_called(name))?;
        let Kind::Message(index) = field.kind else { return None };
        Some((field, self.shape(index)?))
    }
}

fn shape(message: &DescriptorProto, by_name: &HashMap<String, usize>) -> Shape {
    let name = message.name();
    let oneof = |o: &prost_types::OneofDescriptorProto| Oneof {
        name: o.name().to_owned(),
        discriminator: DISCRIMINATED
            .iter()
            .find(|(m, n, _)| *m == name && *n == o.name())
            .map_or(Discriminator::Name, |(_, _, discriminator)| *discriminator),
        is_upper_case: UPPER_CASE.contains(&name),
    };
    Shape {
        name: name.to_owned(),
        fields: message.field.iter().filter_map(|f| field(name, f, by_name)).collect(),
        oneofs: message.oneof_decl.iter().map(oneof).collect(),
        is_list: LISTS.contains(&name),
    }
}

fn field(message: &str, field: &FieldDescriptorProto, by_name: &HashMap<String, usize>) -> Option<Field> {
    let name = field.name();
    let is_repeated = field.label() == Label::Repeated;
    let oneof = (!field.proto3_optional()).then_some(field.oneof_index).flatten();
    let kind = kind(field, by_name)?;
    Some(Field {
        name: name.to_owned(),
        number: u32::try_from(field.number()).ok()?,
        kind,
        is_repeated,
        has_presence: field.proto3_optional()
            || oneof.is_some()
            || (!is_repeated
                && matches!(kind, Kind::Message(_) | Kind::Timestamp | Kind::Duration | Kind::Struct)),
        oneof: oneof.and_then(|index| usize::try_from(index).ok()),
        meta_names: RENAMED.iter().filter(|(m, f, _)| *m == message && *f == name).map(|r| r.2).collect(),
        leniency: LENIENT.iter().find(|(m, f, _)| *m == message && *f == name).map(|row| row.2),
        as_text: AS_TEXT.iter().find(|(m, f, _)| *m == message && *f == name).map(|row| row.2),
        keeps_empty: KEEPS_EMPTY.contains(&(message, name)),
        actions: ACTIONS.iter().filter(|(m, f, _)| *m == message && *f == name).map(|a| a.2).collect(),
        layout: LAID_OUT.iter().find(|(m, f, _)| *m == message && *f == name).map(|row| row.2),
    })
}

fn kind(field: &FieldDescriptorProto, by_name: &HashMap<String, usize>) -> Option<Kind> {
    Some(match field.r#type() {
        Type::Bool => Kind::Bool,
        Type::Int32 | Type::Int64 => Kind::Int64,
        Type::Uint32 | Type::Uint64 => Kind::Uint32,
        Type::Double => Kind::Double,
        Type::String => Kind::String,
        Type::Bytes => Kind::Bytes,
        Type::Enum => Kind::Enum,
        Type::Message => match field.type_name() {
            ".google.protobuf.Timestamp" => Kind::Timestamp,
            ".google.protobuf.Duration" => Kind::Duration,
            ".google.protobuf.Struct" => Kind::Struct,
            ours => Kind::Message(*by_name.get(ours.strip_prefix(PACKAGE_PREFIX)?)?),
        },
        Type::Float
        | Type::Fixed32
        | Type::Fixed64
        | Type::Sfixed32
        | Type::Sfixed64
        | Type::Sint32
        | Type::Sint64
        | Type::Group => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field of a type that the walkers do not know would vanish silently.
    #[test]
    fn every_field_has_a_kind() {
        let files = FileDescriptorSet::decode(super::super::DESCRIPTORS).unwrap();
        let ours = files.file.iter().filter(|f| f.package() == "whatsapp.gateway.v1");
        for message in ours.flat_map(|f| &f.message_type) {
            let shape = Schema::get().named(message.name()).unwrap();
            // Only answers have a status, and no walker reads answers.
            let walked = message.field.iter().filter(|f| f.type_name() != ".google.rpc.Status");
            assert_eq!(shape.fields.len(), walked.count(), "{}", message.name());
        }
    }

    #[test]
    fn the_tables_name_what_exists() {
        let schema = Schema::get();
        let has_field =
            |m: &str, f: &str| schema.named(m).unwrap().fields.iter().any(|field| field.name == f);
        for (message, field, _) in RENAMED {
            assert!(has_field(message, field), "{message}.{field}");
        }
        for (message, field, _) in AS_TEXT {
            assert!(has_field(message, field), "{message}.{field}");
        }
        for (message, field) in KEEPS_EMPTY {
            assert!(has_field(message, field), "{message}.{field}");
        }
        for (message, field, layout) in LAID_OUT {
            let field = schema.named(message).unwrap().fields.iter().find(|f| f.name == field).unwrap();
            let (Layout::Keyed(keyed), Kind::Message(entry)) = (layout, field.kind) else { continue };
            assert!(schema.shape(entry).unwrap().fields.iter().any(|f| f.name == keyed.key), "{message}");
        }
        for message in UPPER_CASE {
            assert!(schema.named(message).is_some(), "{message}");
        }
        for (message, field, _) in LENIENT {
            assert!(has_field(message, field), "{message}.{field}");
        }
        for (message, field, _) in ACTIONS {
            assert!(has_field(message, field), "{message}.{field}");
        }
        for message in LISTS {
            assert_eq!(schema.named(message).unwrap().fields.len(), 1, "{message}");
        }
        for (message, oneof, _) in DISCRIMINATED {
            assert!(
                schema.named(message).unwrap().oneofs.iter().any(|o| o.name == oneof),
                "{message}.{oneof}"
            );
        }
    }

    /// An arm without a row would never be written.
    #[test]
    fn every_arm_of_an_action_has_a_row() {
        let schema = Schema::get();
        for shape in &schema.shapes {
            for (index, _) in
                shape.oneofs.iter().enumerate().filter(|(_, o)| o.discriminator == Discriminator::Action)
            {
                for arm in shape.arms(index) {
                    assert!(!arm.actions.is_empty(), "{}.{}", shape.name, arm.name);
                }
            }
        }
    }
}
