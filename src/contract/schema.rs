//! The shapes of our messages, read from their descriptors once.
//!
//! What the generated structs cannot tell at run time: field names, oneofs, presence. Both directions between Meta's
//! JSON and our messages, and the static rules, walk these shapes.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

const PACKAGE_PREFIX: &str = ".whatsapp.gateway.v1.";

/// Meta's names for fields that have another name here: (message, field, Meta's name).
const RENAMED: [(&str, &str, &str); 9] = [
    ("ReceivedMessage", "sender", "from"),
    ("MessageContext", "sender", "from"),
    ("CallUpdate", "sender", "from"),
    ("StandbyEcho", "sender", "from"),
    // Very old webhooks call unsupported content unknown (reference 4.4).
    ("ReceivedMessage", "unsupported", "unknown"),
    // Spellings of some samples of Meta's (reference 4.5, 4.9).
    ("MessageStatus", "recipient_participant_id", "participant_recipient_id"),
    ("MessageStatus", "recipient_parent_user_id", "parent_recipient_user_id"),
    ("MessageStatus", "recipient_parent_user_id", "parent_user_id"),
    ("Event", "business_username_update", "business_username_updates"),
];

/// How Meta's JSON tells which arm of a oneof is meant; a oneof that is not listed is told by the arm's own name.
const DISCRIMINATED: [(&str, &str, Discriminator); 10] = [
    ("ReceivedMessage", "content", Discriminator::Sibling),
    ("ReceivedInteractive", "reply", Discriminator::Sibling),
    ("TemplateParameter", "parameter", Discriminator::Sibling),
    ("TemplateComponent", "component", Discriminator::Inline),
    ("TemplateDefinitionComponent", "component", Discriminator::Inline),
    ("InteractiveHeader", "header", Discriminator::Sibling),
    ("InteractiveButton", "button", Discriminator::Sibling),
    ("PaymentSetting", "setting", Discriminator::Sibling),
    ("Interactive", "action", Discriminator::Action),
    ("CarouselCard", "action", Discriminator::Action),
];

/// Where Meta writes less or other than the field says.
const LENIENT: [(&str, &str, Leniency); 7] = [
    // Reference 4.4, 4.13.
    ("ReceivedMessage", "unsupported", Leniency::BodyOptional),
    ("ReceivedMessage", "request_welcome", Leniency::BodyOptional),
    ("ReceivedMessage", "media_placeholder", Leniency::BodyOptional),
    // Old webhooks (reference 4.8; errors by recordings).
    ("AccountAlerts", "alert_info", Leniency::Flat),
    ("WebhookError", "error_data", Leniency::Flat),
    // Reference 4.8, 4.11.
    ("AccountBanInfo", "waba_ban_date", Leniency::OneOrList),
    ("CallUpdate", "status", Leniency::OneOrList),
];

/// Objects instead of which Meta may write the text of one field: (message, field, the object's field) (reference 1.6).
const AS_TEXT: [(&str, &str, &str); 1] = [("WebhookError", "error_data", "details")];

/// The arms of `Event.payload` that are webhook fields.
const WEBHOOK_FIELDS: std::ops::Range<u32> = 23..59;

/// How Meta writes the arms of a oneof that is told by [`Discriminator::Action`]. Of several rows for one arm the first
/// is written; all are read.
const ACTIONS: [(&str, &str, Action); 19] = [
    ("Interactive", "button", Action::plain("button")),
    ("Interactive", "list", Action::plain("list")),
    ("Interactive", "cta_url", Action::named("cta_url", "cta_url")),
    ("Interactive", "carousel", Action::plain("carousel")),
    ("Interactive", "product", Action::plain("product")),
    ("Interactive", "product_list", Action::plain("product_list")),
    ("Interactive", "catalog_message", Action::named("catalog_message", "catalog_message")),
    ("Interactive", "flow", Action::named("flow", "flow")),
    ("Interactive", "location_request_message", Action::named("location_request_message", "send_location")),
    ("Interactive", "address_message", Action::named("address_message", "address_message")),
    (
        "Interactive",
        "call_permission_request",
        Action::named("call_permission_request", "call_permission_request"),
    ),
    ("Interactive", "voice_call", Action::named("voice_call", "voice_call")),
    ("Interactive", "request_contact_info", Action::named("request_contact_info", "request_contact_info")),
    // Meta's pages disagree on the type (reference 3.9).
    ("Interactive", "request_contact_info", Action::named("contact_request", "request_contact_info")),
    ("Interactive", "order_details", Action::named("order_details", "review_and_pay")),
    ("Interactive", "order_status", Action::named("order_status", "review_order")),
    ("CarouselCard", "cta_url", Action::named("cta_url", "cta_url")),
    ("CarouselCard", "button", Action::plain("cta_url")),
    ("CarouselCard", "product", Action::plain("product")),
];

/// Messages that stand for a list alone: Meta writes the list of their only field.
const LISTS: [&str; 2] = ["Contacts", "TapTargetConfiguration"];

/// Texts that mean something when they are empty: (message, field).
const KEEPS_EMPTY: [(&str, &str); 1] = [("Reaction", "emoji")];

/// How Meta's JSON tells the arm of a oneof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Discriminator {
    /// By the arm's own name.
    Name,
    /// `"type": "text", "text": {…}`.
    Sibling,
    /// `"type": "body", …the arm's fields…`.
    Inline,
    /// `"type": "flow", "action": {"name": "flow", "parameters": {…}}`, or `"type": "list", "action": {…}`.
    Action,
}

/// How Meta writes one arm of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Action {
    /// Meta's `type`.
    pub(super) kind: &'static str,
    /// The fixed `action.name`; the arm's fields then stand in `action.parameters`, else in `action` itself.
    pub(super) name: Option<&'static str>,
}

impl Action {
    const fn plain(kind: &'static str) -> Self {
        Self { kind, name: None }
    }

    const fn named(kind: &'static str, name: &'static str) -> Self {
        Self { kind, name: Some(name) }
    }
}

/// What else than the field says Meta may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leniency {
    /// Nothing, for the object of an arm that has no fields.
    BodyOptional,
    /// The fields of the object beside its place.
    Flat,
    /// One value for a list, or a list of one for a value.
    OneOrList,
}

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
            assert_eq!(shape.fields.len(), message.field.len(), "{}", message.name());
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
