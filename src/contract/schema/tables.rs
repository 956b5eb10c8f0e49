//! Where Meta's JSON differs from what our names say: one table for each way in which it does.

/// Meta's names for fields that have another name here: (message, field, Meta's name).
pub(super) const RENAMED: [(&str, &str, &str); 9] = [
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
pub(super) const DISCRIMINATED: [(&str, &str, Discriminator); 12] = [
    ("ReceivedMessage", "content", Discriminator::Sibling),
    ("ReceivedInteractive", "reply", Discriminator::Sibling),
    ("TemplateParameter", "parameter", Discriminator::Sibling),
    ("TemplateComponent", "component", Discriminator::Inline),
    ("TemplateDefinitionComponent", "component", Discriminator::Inline),
    ("TemplateDefinitionButton", "button", Discriminator::Inline),
    ("LibraryTemplateButtonInput", "input", Discriminator::Sibling),
    ("InteractiveHeader", "header", Discriminator::Sibling),
    ("InteractiveButton", "button", Discriminator::Sibling),
    ("PaymentSetting", "setting", Discriminator::Sibling),
    ("Interactive", "action", Discriminator::Action),
    ("CarouselCard", "action", Discriminator::Action),
];

/// Where Meta writes less or other than the field says.
pub(super) const LENIENT: [(&str, &str, Leniency); 8] = [
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
    // Reference 2.4.2, 2.4.4: a list where Meta describes it.
    ("TemplateCopyCodeButton", "example", Leniency::OneOrList),
];

/// Objects instead of which Meta may write the text of one field: (message, field, the object's field) (reference 1.6).
pub(super) const AS_TEXT: [(&str, &str, &str); 1] = [("WebhookError", "error_data", "details")];

/// The arms of `Event.payload` that are webhook fields.
pub(super) const WEBHOOK_FIELDS: std::ops::Range<u32> = 23..59;

/// How Meta writes the arms of a oneof that is told by [`Discriminator::Action`]. Of several rows for one arm the first
/// is written; all are read.
pub(super) const ACTIONS: [(&str, &str, Action); 19] = [
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
pub(super) const LISTS: [&str; 2] = ["Contacts", "TapTargetConfiguration"];

/// Texts that mean something when they are empty: (message, field).
pub(super) const KEEPS_EMPTY: [(&str, &str); 1] = [("Reaction", "emoji")];

/// Messages whose `type` Meta writes in upper case; it is read in either case.
pub(super) const UPPER_CASE: [&str; 3] =
    ["TemplateDefinitionComponent", "TemplateDefinitionButton", "LibraryTemplateButtonInput"];

/// Fields that Meta writes in another layout: (message, field, layout) (reference 2.4.3, 2.4.8).
pub(super) const LAID_OUT: [(&str, &str, Layout); 4] = [
    ("TemplateDefinitionComponent", "limited_time_offer", Layout::Nested),
    ("TemplateBodyExample", "body_text", Layout::ListInList),
    ("CreateTemplateAction", "creative_features", CREATIVE_FEATURES),
    ("EditTemplateAction", "creative_features", CREATIVE_FEATURES),
];

const CREATIVE_FEATURES: Layout = Layout::Keyed(Keyed {
    outer: "degrees_of_freedom_spec",
    inner: "creative_features_spec",
    key: "feature",
});

/// Where Meta writes a field in another way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::contract) enum Layout {
    /// The fields of an arm that is told by [`Discriminator::Inline`] stand under the arm's own name.
    Nested,
    /// The list is the only entry of a list.
    ListInList,
    /// The list is an object somewhere else.
    Keyed(Keyed),
}

/// An object whose names are one field of the entries: `"outer": {"inner": {"<key>": {…the other fields…}}}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::contract) struct Keyed {
    pub(in crate::contract) outer: &'static str,
    pub(in crate::contract) inner: &'static str,
    /// The field of the entries.
    pub(in crate::contract) key: &'static str,
}

/// How Meta's JSON tells the arm of a oneof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::contract) enum Discriminator {
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
pub(in crate::contract) struct Action {
    /// Meta's `type`.
    pub(in crate::contract) kind: &'static str,
    /// The fixed `action.name`; the arm's fields then stand in `action.parameters`, else in `action` itself.
    pub(in crate::contract) name: Option<&'static str>,
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
pub(in crate::contract) enum Leniency {
    /// Nothing, for the object of an arm that has no fields.
    BodyOptional,
    /// The fields of the object beside its place.
    Flat,
    /// One value for a list, or a list of one for a value.
    OneOrList,
}
