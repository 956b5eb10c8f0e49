//! Rules between fields of a send: what each content asks of the rest of the request, and the small contents.

use super::Violations;
use super::media::Medium;
use super::{interactive, template};
use crate::contract::v1::recipient::Address;
use crate::contract::v1::send_message_request::Content;
use crate::contract::v1::{self, interactive::Action};

/// Seconds to live of an authentication message by Direct Send, at most (reference 3.15).
const AUTHENTICATION_TTL_MAX: u32 = 900;

/// Checks the content and what it asks of the other fields.
pub(super) fn check(request: &v1::SendMessageRequest, found: &mut Violations) {
    let Some(content) = &request.content else { return };
    match content {
        Content::Image(image) => Medium::Image(image).check("image", found),
        Content::Video(video) => Medium::Video(video).check("video", found),
        Content::Audio(audio) => Medium::Audio(audio).check("audio", found),
        Content::Document(document) => Medium::Document(document).check("document", found),
        Content::Sticker(sticker) => Medium::Sticker(sticker).check("sticker", found),
        Content::Contacts(contacts) => check_contacts(contacts, found),
        Content::Reaction(reaction) => check_reaction(reaction, request, found),
        Content::Pin(pin) => check_pin(pin, request, found),
        Content::Interactive(message) => {
            interactive::check(message, is_direct_send(request), found);
            if matches!(address(request), Some(Address::GroupId(_))) {
                found.add("interactive", "cannot go to a group; send text, media or a template");
            }
        }
        Content::Template(message) => template::check("template", message, found),
        Content::Text(_) | Content::Location(_) | Content::Raw(_) => {}
    }
    check_direct_send(request, content, found);
    if request.marketing.is_some() && !matches!(content, Content::Template(_) | Content::Raw(_)) {
        found.add("marketing", "is only for template: the Marketing Messages API sends nothing else");
    }
}

fn address(request: &v1::SendMessageRequest) -> Option<&Address> {
    request.recipient.as_ref()?.address.as_ref()
}

/// Whether Meta makes a template of the message.
pub(super) fn is_direct_send(request: &v1::SendMessageRequest) -> bool {
    matches!(request.category.as_str(), "utility" | "authentication")
}

fn check_contacts(contacts: &v1::Contacts, found: &mut Violations) {
    for (position, card) in contacts.contacts.iter().enumerate() {
        let Some(name) = &card.name else { continue };
        let others = [&name.first_name, &name.last_name, &name.middle_name, &name.suffix, &name.prefix];
        if others.iter().all(|text| text.is_empty()) {
            let path = format!("contacts.contacts[{position}].name");
            found.add(
                &path,
                "needs one of first_name, last_name, middle_name, suffix, prefix beside formatted_name",
            );
        }
    }
}

fn check_reaction(reaction: &v1::Reaction, request: &v1::SendMessageRequest, found: &mut Violations) {
    let is_wordy = |text: &str| text.chars().any(|c| c.is_ascii_alphabetic() || c.is_whitespace());
    if reaction.emoji.as_deref().is_some_and(is_wordy) {
        found.add("reaction.emoji", "must be one emoji, or empty to remove the reaction");
    }
    if !request.reply_to_message_id.is_empty() {
        found.add(
            "reply_to_message_id",
            "must be absent with reaction, which names its message in reaction.message_id",
        );
    }
}

fn check_pin(pin: &v1::Pin, request: &v1::SendMessageRequest, found: &mut Violations) {
    if pin.r#type == "unpin" && pin.expiration_days.is_some() {
        found.add("pin.expiration_days", "must be absent with \"unpin\"");
    }
    if matches!(address(request), Some(Address::PhoneNumber(_) | Address::UserId(_))) {
        found.add("recipient", "must be a group_id: messages are pinned in groups only");
    }
}

/// Reference 3.15.
fn check_direct_send(request: &v1::SendMessageRequest, content: &Content, found: &mut Violations) {
    if !is_direct_send(request) {
        if request.ttl_seconds.is_some() && !matches!(content, Content::Raw(_)) {
            found.add(
                "ttl_seconds",
                "needs category \"utility\" or \"authentication\": it is for Direct Send",
            );
        }
        if request.direct_send_config.is_some() && !matches!(content, Content::Raw(_)) {
            found.add("direct_send_config", "needs category \"utility\": it is for Direct Send");
        }
        return;
    }
    let fits = match content {
        Content::Text(text) => {
            if text.preview_url {
                found.add("text.preview_url", "must be absent in Direct Send");
            }
            true
        }
        Content::Interactive(message) => {
            matches!(
                message.action,
                Some(Action::Button(_) | Action::CtaUrl(_) | Action::VoiceCall(_)) | None
            )
        }
        Content::Raw(_) => true,
        Content::Image(_)
        | Content::Video(_)
        | Content::Audio(_)
        | Content::Document(_)
        | Content::Sticker(_)
        | Content::Template(_)
        | Content::Location(_)
        | Content::Contacts(_)
        | Content::Reaction(_)
        | Content::Pin(_) => false,
    };
    if !fits {
        found.add(
            "category",
            "Direct Send is for text and for interactive with button, cta_url or voice_call; leave category out",
        );
    }
    if request.category == "authentication" {
        if request.ttl_seconds.is_some_and(|seconds| seconds > AUTHENTICATION_TTL_MAX) {
            found.add("ttl_seconds", "must be at most 900 with category \"authentication\"");
        }
        if request.direct_send_config.is_some() {
            found.add("direct_send_config", "must be absent with category \"authentication\"");
        }
        if matches!(address(request), Some(Address::UserId(_))) {
            found.add("recipient.user_id", "authentication needs a phone_number");
        }
    }
}
