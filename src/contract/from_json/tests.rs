//! Meta's JSON and the messages that come of it.

use prost::Message;
use serde_json::json;

use super::*;
use crate::contract::v1::{ReceivedMessage, received_interactive, received_message::Content};

fn message(json: &Value) -> ReceivedMessage {
    ReceivedMessage::decode(from_json("ReceivedMessage", json).unwrap().as_slice()).unwrap()
}

#[test]
fn a_sibling_object_becomes_the_arm() {
    let read = message(&json!({
        "from": "16505551234", "id": "wamid.A", "timestamp": "1749416383", "type": "text",
        "text": {"body": "Does it come in another color?"}, "context": {"from": "1555", "id": "wamid.B"},
    }));
    assert_eq!(read.sender, "16505551234");
    assert_eq!(read.timestamp.unwrap().seconds, 1_749_416_383);
    assert_eq!(read.context.unwrap().sender, "1555");
    let Some(Content::Text(text)) = read.content else { panic!("expected text") };
    assert_eq!(text.body, "Does it come in another color?");
}

#[test]
fn an_unknown_kind_and_a_missing_object_are_unknown() {
    for json in [json!({"type": "hologram", "hologram": {}}), json!({"type": "interactive"}), json!({})] {
        assert!(matches!(message(&json).content, Some(Content::Unknown(_))), "{json}");
    }
    let unsupported = message(&json!({"type": "unsupported", "errors": [{"code": 131_051}]}));
    assert!(matches!(unsupported.content, Some(Content::Unsupported(_))));
    assert_eq!(unsupported.errors[0].code, 131_051);
}

#[test]
fn only_the_arm_that_the_type_names_is_read() {
    let read = message(&json!({"type": "image", "text": {"body": "x"}, "image": {"id": 5, "caption": null}}));
    let Some(Content::Image(image)) = read.content else { panic!("expected an image") };
    assert_eq!((image.id.as_str(), image.caption.as_str()), ("5", ""));
}

#[test]
fn interactive_replies_nest() {
    let read = message(&json!({"type": "interactive", "interactive": {"type": "list_reply",
        "list_reply": {"id": "a", "title": "b"}}}));
    let Some(Content::Interactive(interactive)) = read.content else { panic!("expected interactive") };
    assert!(matches!(interactive.reply, Some(received_interactive::Reply::ListReply(_))));
}

#[test]
fn a_removed_reaction_has_no_emoji() {
    for reaction in [json!({"message_id": "wamid.B"}), json!({"message_id": "wamid.B", "emoji": ""})] {
        let read = message(&json!({"type": "reaction", "reaction": reaction}));
        let Some(Content::Reaction(reaction)) = read.content else { panic!("expected a reaction") };
        assert_eq!(reaction.emoji, None);
    }
}

#[test]
fn a_list_may_stand_for_its_wrapper() {
    let cards = json!([{"name": {"formatted_name": "Barbara"}}, {"vcard": "BEGIN:VCARD"}]);
    let read = message(&json!({"type": "contacts", "contacts": cards}));
    let Some(Content::Contacts(contacts)) = read.content else { panic!("expected contacts") };
    assert_eq!(contacts.contacts[0].name.as_ref().unwrap().formatted_name, "Barbara");
    assert_eq!(contacts.contacts[1].vcard, "BEGIN:VCARD");
}

#[test]
fn an_edit_holds_the_message_as_it_is_now() {
    let read = message(&json!({"type": "edit", "edit": {"original_message_id": "wamid.B",
        "message": {"type": "image", "image": {"id": "1"}, "context": {"id": "M0"}}}}));
    let Some(Content::Edit(edit)) = read.content else { panic!("expected an edit") };
    let edited = edit.message.unwrap();
    assert!(matches!(edited.content, Some(Content::Image(_))));
    assert_eq!(edited.context.unwrap().id, "M0");
}

#[test]
fn a_kind_without_object_is_told_by_its_type_and_an_object_without_type_by_its_name() {
    let bare = message(&json!({"type": "request_welcome"})).content;
    assert!(matches!(bare, Some(Content::RequestWelcome(_))));
    let old = message(&json!({"type": "unknown", "errors": [{"code": 131_051, "details": "no"}]}));
    assert!(matches!(old.content, Some(Content::Unsupported(_))));
    assert_eq!(old.errors[0].error_data.as_ref().unwrap().details, "no");
    let untyped = message(&json!({"location": {"latitude": 1, "longitude": "2.5"}})).content;
    let Some(Content::Location(location)) = untyped else { panic!("expected a location") };
    assert_eq!((location.latitude, location.longitude), (1.0, 2.5));
}

#[test]
fn one_value_and_a_list_are_the_same_only_where_meta_mixes_them() {
    use crate::contract::v1::{AccountBanInfo, CallUpdate};
    for date in [json!("April 17, 2025"), json!(["April 17, 2025"])] {
        let bytes = from_json("AccountBanInfo", &json!({"waba_ban_date": date})).unwrap();
        assert_eq!(AccountBanInfo::decode(bytes.as_slice()).unwrap().waba_ban_date, ["April 17, 2025"]);
    }
    for status in [json!("FAILED"), json!(["FAILED"])] {
        let bytes = from_json("CallUpdate", &json!({"status": status})).unwrap();
        assert_eq!(CallUpdate::decode(bytes.as_slice()).unwrap().status, "FAILED");
    }
    assert!(from_json("CallUpdate", &json!({"status": ["a", "b"]})).is_err());
    assert!(from_json("CallUpdate", &json!({"id": ["a"]})).is_err());
}

#[test]
fn what_readers_of_protobuf_could_not_open_is_refused() {
    let deep = |levels: usize| (0..levels).fold(json!("x"), |inner, _| json!({"a": inner}));
    let notes = |levels| json!({"payment": {"notes": deep(levels)}});
    let bytes = from_json("MessageStatus", &notes(NESTING_MAX - 2)).unwrap();
    crate::contract::v1::MessageStatus::decode(bytes.as_slice()).unwrap();
    assert!(from_json("MessageStatus", &notes(NESTING_MAX)).is_err());
}

#[test]
fn an_empty_text_is_no_number() {
    assert_eq!(message(&json!({"timestamp": "", "from": ""})).timestamp, None);
}

#[test]
fn a_wrong_type_names_its_path() {
    let cases = [
        (json!({"type": "text", "text": "hi"}), "text is not an object"),
        (json!({"type": "text", "text": {"body": ["x"]}}), "text.body is not a text"),
        (json!({"errors": [{"code": "abc"}]}), "errors[0].code is not a whole number"),
        (json!([]), " is not an object"),
    ];
    for (json, expected) in cases {
        assert_eq!(from_json("ReceivedMessage", &json).unwrap_err().to_string(), expected);
    }
}
