//! Rules between fields of an interactive message (reference 3.6 to 3.10, 6.3).

use std::collections::HashSet;

use super::media::Medium;
use super::{Violations, order};
use crate::contract::v1;
use crate::contract::v1::carousel_card::Action as CardAction;
use crate::contract::v1::interactive::Action;
use crate::contract::v1::interactive_button::Button;
use crate::contract::v1::interactive_header::Header;

const BODY_CHARS_MAX: usize = 1024;
const CARD_BODY_CHARS_MAX: usize = 160;
const CARD_LINE_BREAKS_MAX: usize = 2;
const REPLY_BUTTONS_MAX: usize = 3;
/// Buttons of a Direct Send, of both kinds together.
const MIXED_BUTTONS_MAX: usize = 10;
const MIXED_LINKS_MAX: usize = 2;
const ROWS_MAX: usize = 10;

const MEDIA_OR_TEXT: &[&str] = &["text", "image", "video", "document"];

/// What stands around an action.
struct Frame {
    name: &'static str,
    headers: &'static [&'static str],
    is_header_required: bool,
    is_body_required: bool,
    has_footer: bool,
}

fn frame(action: &Action) -> Frame {
    let frame = |name, headers| Frame {
        name,
        headers,
        is_header_required: false,
        is_body_required: true,
        has_footer: true,
    };
    match action {
        Action::Button(_) => frame("button", MEDIA_OR_TEXT),
        Action::List(_) => frame("list", &["text"]),
        Action::CtaUrl(_) => frame("cta_url", MEDIA_OR_TEXT),
        Action::Carousel(_) => Frame { has_footer: false, ..frame("carousel", &[]) },
        Action::Product(_) => Frame { is_body_required: false, ..frame("product", &[]) },
        Action::ProductList(_) => Frame { is_header_required: true, ..frame("product_list", &["text"]) },
        Action::CatalogMessage(_) => frame("catalog_message", &[]),
        Action::Flow(_) => frame("flow", MEDIA_OR_TEXT),
        Action::LocationRequestMessage(_) => {
            Frame { has_footer: false, ..frame("location_request_message", &[]) }
        }
        Action::AddressMessage(_) => frame("address_message", MEDIA_OR_TEXT),
        Action::CallPermissionRequest(_) => {
            Frame { is_body_required: false, has_footer: false, ..frame("call_permission_request", &[]) }
        }
        Action::VoiceCall(_) => frame("voice_call", MEDIA_OR_TEXT),
        Action::RequestContactInfo(_) => Frame { has_footer: false, ..frame("request_contact_info", &[]) },
        Action::OrderDetails(_) => frame("order_details", &["image"]),
        Action::OrderStatus(_) => frame("order_status", &[]),
    }
}

/// Checks an interactive message; `is_direct` says that it is a Direct Send.
pub(super) fn check(message: &v1::Interactive, is_direct: bool, found: &mut Violations) {
    let Some(action) = &message.action else { return };
    check_frame(message, &frame(action), found);
    match action {
        Action::Button(buttons) => check_buttons(buttons, is_direct, found),
        Action::List(list) => check_list(list, found),
        Action::Carousel(carousel) => check_carousel(carousel, found),
        Action::ProductList(list) => {
            order::check_sections("interactive.product_list.sections", &list.sections, found);
        }
        Action::Flow(flow) => {
            let data = flow.flow_action_payload.as_ref().and_then(|payload| payload.data.as_ref());
            if data.is_some_and(|data| data.fields.is_empty()) {
                found.add("interactive.flow.flow_action_payload.data", "must not be empty; leave it out");
            }
        }
        Action::VoiceCall(_) if is_direct => {
            let header = message.header.as_ref().and_then(|header| header.header.as_ref());
            if header.is_some_and(|header| !matches!(header, Header::Text(_))) {
                found.add("interactive.header", "must be text: voice_call in Direct Send has no other");
            }
            if message.footer.is_some() {
                found.add("interactive.footer", "must be absent: voice_call in Direct Send has none");
            }
        }
        Action::OrderDetails(details) => {
            order::check_details("interactive.order_details", details, found);
        }
        Action::CtaUrl(_)
        | Action::Product(_)
        | Action::CatalogMessage(_)
        | Action::LocationRequestMessage(_)
        | Action::AddressMessage(_)
        | Action::CallPermissionRequest(_)
        | Action::VoiceCall(_)
        | Action::RequestContactInfo(_)
        | Action::OrderStatus(_) => {}
    }
}

fn check_frame(message: &v1::Interactive, frame: &Frame, found: &mut Violations) {
    let Frame { name, headers, is_header_required, is_body_required, has_footer } = frame;
    match &message.header {
        Some(_) if headers.is_empty() => {
            found.add("interactive.header", format!("must be absent: {name} has no header"));
        }
        Some(v1::InteractiveHeader { header: Some(header) }) => {
            let kind = check_header("interactive.header", header, found);
            if !headers.contains(&kind) {
                let rule = format!("must be {}: {name} has no header of kind {kind}", headers.join(" or "));
                found.add("interactive.header", rule);
            }
        }
        None if *is_header_required => {
            found.add("interactive.header", format!("is required: {name} needs a text header"));
        }
        Some(_) | None => {}
    }
    match &message.body {
        Some(body) if *name != "list" => check_body("interactive.body.text", body, BODY_CHARS_MAX, found),
        None if *is_body_required => found.add("interactive.body", format!("is required by {name}")),
        Some(_) | None => {}
    }
    if message.footer.is_some() && !has_footer {
        found.add("interactive.footer", format!("must be absent: {name} has no footer"));
    }
}

fn check_body(path: &str, body: &v1::InteractiveBody, max: usize, found: &mut Violations) {
    let chars = body.text.chars().count();
    if chars > max {
        found.add(path, format!("must have at most {max} characters, has {chars}"));
    }
}

/// Checks a header and returns its kind.
fn check_header(path: &str, header: &Header, found: &mut Violations) -> &'static str {
    let medium = match header {
        Header::Text(_) => return "text",
        Header::Image(image) => Medium::Image(image),
        Header::Video(video) => Medium::Video(video),
        Header::Document(document) => Medium::Document(document),
    };
    medium.check_in_header(path, found);
    medium.kind()
}

fn check_buttons(buttons: &v1::InteractiveButtons, is_direct: bool, found: &mut Violations) {
    let path = "interactive.button.buttons";
    let buttons = &buttons.buttons;
    let is_link = |button: &v1::InteractiveButton| matches!(button.button, Some(Button::CtaUrl(_)));
    let count = buttons.len();
    if is_direct {
        if count > MIXED_BUTTONS_MAX {
            found.add(path, format!("must have at most {MIXED_BUTTONS_MAX} entries, has {count}"));
        }
        if buttons.iter().filter(|button| is_link(button)).count() > MIXED_LINKS_MAX {
            found.add(path, format!("must have at most {MIXED_LINKS_MAX} of kind cta_url"));
        }
        if buttons.iter().skip_while(|button| is_link(button)).any(is_link) {
            found.add(path, "must have those of kind cta_url first");
        }
    } else if count > ROWS_MAX {
        found
            .add(path, format!("must have at most {REPLY_BUTTONS_MAX} entries, has {count}; {MANY_OPTIONS}"));
    } else if count > REPLY_BUTTONS_MAX {
        let rule = format!(
            "must have at most {REPLY_BUTTONS_MAX} entries, has {count}; use list, which takes up to {ROWS_MAX} rows"
        );
        found.add(path, rule);
    }
    for (position, button) in buttons.iter().enumerate() {
        let path = format!("{path}[{position}]");
        match &button.button {
            Some(Button::CtaUrl(_)) if !is_direct => {
                found.add(&path, "must be reply; for one link use the arm cta_url, for several a category");
            }
            Some(Button::QuickReply(_)) => found.add(&path, "must be reply: quick_reply is for cards"),
            Some(Button::Reply(_) | Button::CtaUrl(_)) | None => {}
        }
    }
    check_replies(path, buttons, &mut HashSet::new(), found);
}

/// What fits more options than a list has.
const MANY_OPTIONS: &str = "use several messages, or a Flow, which has no such limit";

/// Ids and titles are unique; ids among all that `ids` has seen.
fn check_replies<'a>(
    path: &str,
    buttons: &'a [v1::InteractiveButton],
    ids: &mut HashSet<&'a str>,
    found: &mut Violations,
) {
    let mut titles = HashSet::new();
    for (position, button) in buttons.iter().enumerate() {
        let (kind, reply) = match &button.button {
            Some(Button::Reply(reply)) => ("reply", reply),
            Some(Button::QuickReply(reply)) => ("quick_reply", reply),
            Some(Button::CtaUrl(_)) | None => continue,
        };
        let path = format!("{path}[{position}].{kind}");
        if reply.id.trim() != reply.id {
            found.add(&format!("{path}.id"), "must not begin or end with a space");
        }
        if !ids.insert(&reply.id) {
            found.add(&format!("{path}.id"), "must be unique in the message");
        }
        if !titles.insert(&reply.title) {
            found.add(&format!("{path}.title"), "must be unique in the message");
        }
    }
}

fn check_list(list: &v1::InteractiveList, found: &mut Violations) {
    let path = "interactive.list.sections";
    let rows: usize = list.sections.iter().map(|section| section.rows.len()).sum();
    if rows > ROWS_MAX {
        found.add(path, format!("must have at most {ROWS_MAX} rows together, has {rows}; {MANY_OPTIONS}"));
    }
    let mut ids = HashSet::new();
    for (position, section) in list.sections.iter().enumerate() {
        if list.sections.len() > 1 && section.title.is_empty() {
            found.add(&format!("{path}[{position}].title"), "is required when there are several sections");
        }
        for (at, row) in section.rows.iter().enumerate() {
            if !ids.insert(&row.id) {
                found.add(&format!("{path}[{position}].rows[{at}].id"), "must be unique in the message");
            }
        }
    }
}

fn check_carousel(carousel: &v1::Carousel, found: &mut Violations) {
    let path = "interactive.carousel.cards";
    let cards = &carousel.cards;
    if let [card] = cards.as_slice() {
        let alone = match &card.action {
            Some(CardAction::Button(_)) => "button",
            Some(CardAction::Product(_)) => "product",
            Some(CardAction::CtaUrl(_)) | None => "cta_url",
        };
        found.replace(path, format!("must have at least 2 entries; for a single card use {alone}"));
    }
    let mut indexes = HashSet::new();
    let mut ids = HashSet::new();
    for (position, card) in cards.iter().enumerate() {
        let path = format!("{path}[{position}]");
        check_card(&path, card, found);
        if card.card_index.is_some_and(|index| !indexes.insert(index)) {
            found.add(&format!("{path}.card_index"), "must be unique");
        }
        if let Some(CardAction::Button(buttons)) = &card.action {
            check_replies(&format!("{path}.button.buttons"), &buttons.buttons, &mut ids, found);
        }
        let Some(first) = cards.first() else { continue };
        if card_kind(first) != card_kind(card) {
            found.add(&path, "must have the same kinds of header and buttons as the first card");
        }
        if let (Some(CardAction::Product(first)), Some(CardAction::Product(product))) =
            (&first.action, &card.action)
            && first.catalog_id != product.catalog_id
        {
            found.add(&format!("{path}.product.catalog_id"), "must be that of the first card");
        }
    }
}

/// What must be equal in all cards: the kinds of header and action, and the number of buttons.
fn card_kind(card: &v1::CarouselCard) -> (&'static str, &'static str, usize) {
    let header = match card.header.as_ref().and_then(|header| header.header.as_ref()) {
        Some(Header::Image(_)) => "image",
        Some(Header::Video(_)) => "video",
        Some(Header::Text(_) | Header::Document(_)) => "other",
        None => "",
    };
    match &card.action {
        Some(CardAction::CtaUrl(_)) => (header, "cta_url", 1),
        Some(CardAction::Button(buttons)) => (header, "button", buttons.buttons.len()),
        Some(CardAction::Product(_)) => (header, "product", 0),
        None => (header, "", 0),
    }
}

fn check_card(path: &str, card: &v1::CarouselCard, found: &mut Violations) {
    let header_path = format!("{path}.header");
    if matches!(card.action, Some(CardAction::Product(_))) {
        if card.header.is_some() {
            found.add(&header_path, "must be absent: a card with a product has none");
        }
        if card.body.is_some() {
            found.add(&format!("{path}.body"), "must be absent: a card with a product has none");
        }
        return;
    }
    match card.header.as_ref().map(|header| &header.header) {
        Some(Some(header)) => {
            if !["image", "video"].contains(&check_header(&header_path, header, found)) {
                found.add(&header_path, "must be image or video");
            }
        }
        Some(None) => {}
        None => found.add(&header_path, "is required: an image or a video"),
    }
    if let Some(body) = &card.body {
        let path = format!("{path}.body.text");
        check_body(&path, body, CARD_BODY_CHARS_MAX, found);
        if body.text.matches('\n').count() > CARD_LINE_BREAKS_MAX {
            found.add(&path, format!("must have at most {CARD_LINE_BREAKS_MAX} line breaks"));
        }
    }
    if let Some(CardAction::Button(buttons)) = &card.action {
        for (position, button) in buttons.buttons.iter().enumerate() {
            if matches!(button.button, Some(Button::Reply(_) | Button::CtaUrl(_))) {
                found.add(&format!("{path}.button.buttons[{position}]"), "must be quick_reply in a card");
            }
        }
    }
}
