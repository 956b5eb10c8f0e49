//! What goes to Meta, and what its answers mean.

use std::time::{Duration, SystemTime};

use serde_json::json;

use super::*;
use crate::clock::ManualClock;
use crate::cloud_api::Config;
use crate::cloud_api::client::tests::peer::{Peer, client, config, token};
use crate::domain::template::{Comparison, CreatedTemplate, LibraryQuery, PreviewQuery, UpsertedTemplate};

#[test]
fn a_page_ends_where_there_is_no_next() {
    let cursors = json!({"before": "B", "after": "A"});
    let next = "https://graph.facebook.com/v25.0/1/message_templates?access_token=secret&after=A";
    let cases = [
        (json!({"cursors": cursors, "next": next}), "A"),
        (json!({"cursors": cursors}), ""),
        (json!({"cursors": cursors, "next": null}), ""),
        (json!({"next": next}), ""),
        (json!(null), ""),
    ];
    for (paging, token) in cases {
        let json = json!({"data": [{"name": "a", "id": "1"}], "paging": paging}).to_string();
        let page = answer::page(json.as_bytes(), answer::template).unwrap();
        assert_eq!(page.next_page_token, token, "{paging}");
        assert_eq!(page.templates[0].id, "1");
    }
    let page = answer::page(br#"{"data":[]}"#, answer::template).unwrap();
    assert_eq!((page.templates.len(), page.next_page_token.as_str()), (0, ""));
}

#[test]
fn the_exact_text_of_a_template_stays() {
    let text =
        r#"{ "name":"a", "components":[ {"type":"BODY","text":"\u00e9\/"} ], "id":1234567890123456789 }"#;
    let json = format!(r#"{{"data":[{text}]}}"#);
    let page = answer::page(json.as_bytes(), answer::template).unwrap();
    assert_eq!(page.templates, [Template { id: "1234567890123456789".to_owned(), json: text.to_owned() }]);
    for bad in ["", "[]", "{}", r#"{"data":{}}"#, r#"{"data":[1]}"#, r#"{"data":[{"name":"no id"}]}"#] {
        assert_eq!(answer::page(bad.as_bytes(), answer::template), None, "{bad}");
    }
}

#[tokio::test]
async fn a_list_asks_for_what_was_wanted() {
    let peer =
        Peer::answering("200 OK", r#"{"data":[{"id":"1"}],"paging":{"cursors":{"after":"A"},"next":"x"}}"#);
    let query = TemplateQuery {
        name: "order update".to_owned(),
        status: "APPROVED".to_owned(),
        page_size: 500,
        page_token: "MjQZD".to_owned(),
        ..TemplateQuery::default()
    };
    let waba_id = WabaId::parse("1022").unwrap();
    let page = client(&peer.url()).list_templates(&token(), &waba_id, &query).await.unwrap();
    assert_eq!(page.next_page_token, "A");
    let request = peer.finish();
    let fields = FIELDS.replace(',', "%2C");
    let expected = format!(
        "GET /v25.0/1022/message_templates?fields={fields}&limit=100&name=order+update&status=APPROVED&after=MjQZD HTTP/1.1\r\n"
    );
    assert!(request.starts_with(&expected), "{request}");
}

#[tokio::test]
async fn one_template_by_its_id_alone() {
    let peer = Peer::answering("200 OK", " {\"id\":\"42\",\"name\":\"a\"}\n");
    let template = client(&peer.url()).get_template(&token(), "42").await.unwrap();
    assert_eq!(template, Template { id: "42".to_owned(), json: r#"{"id":"42","name":"a"}"#.to_owned() });
    assert!(peer.finish().starts_with("GET /v25.0/42?fields="));
    for bad in ["", "..", "42/message_templates", "42?x=1", "42#", "%34", "me", &"1".repeat(33)] {
        let error = client("http://127.0.0.1:9").get_template(&token(), bad).await.unwrap_err();
        assert!(matches!(error, Error::Invalid { field: "template_id", .. }), "{bad}");
    }
    let peer = Peer::answering("200 OK", "<html>");
    let error = client(&peer.url()).get_template(&token(), "42").await.unwrap_err();
    assert!(matches!(error, Error::NoAnswer { .. }));
}

fn map(fields: &[(&str, Value)]) -> Value {
    Value::Map(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
}

fn ids(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

/// The request line and the body that an action sends, and what is made of the answer.
async fn exchange(action: &TemplateAction, answer: &str) -> (String, String, Result<TemplateOutcome, Error>) {
    let peer = Peer::answering("200 OK", answer);
    let waba_id = WabaId::parse("1022").unwrap();
    let config = Config { api_url: peer.url(), ..config(&peer.url()) };
    let client = Client::new(&config, ManualClock::new(SystemTime::UNIX_EPOCH + NOW)).unwrap();
    let outcome = client.manage_template(&token(), &waba_id, action).await;
    let request = peer.finish();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let line = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1");
    assert_eq!(request_json(action).unwrap_or_default(), body, "what is shown is what goes out");
    (line.to_owned(), body.to_owned(), outcome)
}

/// 2026-11-21, with a fraction that no window may have.
const NOW: Duration = Duration::from_millis(1_795_219_200_500);

/// The action goes out as this request line and body, and means this with that answer; with a useless one nobody knows.
async fn assert_write(
    action: TemplateAction,
    line: &str,
    body: &str,
    answer: &str,
    outcome: TemplateOutcome,
) {
    let sent = exchange(&action, answer).await;
    assert_eq!((sent.0.as_str(), sent.1.as_str()), (line, body));
    assert_eq!(sent.2.unwrap(), outcome, "{line}");
    for useless in ["", "<html>", "[]", "{}"] {
        let (_, _, lost) = exchange(&action, useless).await;
        assert!(matches!(lost, Err(Error::OutcomeUnknown { .. })), "{line} {useless}: {lost:?}");
    }
}

#[tokio::test]
async fn creations_and_edits_are_the_calls_of_the_reference() {
    let body = map(&[("name", "a".into())]);
    let create = TemplateAction::Create { name: "a".to_owned(), language: "de".to_owned(), body };
    let created = CreatedTemplate { id: "12345678901234567890".to_owned(), ..CreatedTemplate::default() };
    let (line, answer) = ("POST /v25.0/1022/message_templates", r#"{"id":12345678901234567890}"#);
    assert_write(create, line, r#"{"name":"a"}"#, answer, TemplateOutcome::Create(created)).await;

    let edit = |body| TemplateAction::Edit { template_id: "42".to_owned(), body };
    let body = map(&[
        ("category", "UTILITY".into()),
        ("message_send_ttl_seconds", Value::Integer(60)),
        ("cta_url_link_tracking_opted_out", Value::Bool(true)),
    ]);
    let line = "POST /v25.0/42?cta_url_link_tracking_opted_out=true&category=UTILITY";
    let sent = r#"{"message_send_ttl_seconds":60}"#;
    assert_write(edit(body), line, sent, r#"{"success":true}"#, TemplateOutcome::Edit).await;
    let body = map(&[("category", "UTILITY".into())]);
    let (sent, answer) = (r#"{"category":"UTILITY"}"#, r#"{"id":"42","name":"a"}"#);
    assert_write(edit(body), "POST /v25.0/42", sent, answer, TemplateOutcome::Edit).await;

    let upsert = TemplateAction::Upsert { body: map(&[("name", "a".into())]) };
    let (id, language, status) = ("7".to_owned(), "de".to_owned(), "APPROVED".to_owned());
    let upserted = TemplateOutcome::Upsert(vec![UpsertedTemplate { id, language, status }]);
    let answer = r#"{"data":[{"id":7,"status":"APPROVED","language":"de"}]}"#;
    let line = "POST /v25.0/1022/upsert_message_templates";
    assert_write(upsert, line, r#"{"name":"a"}"#, answer, upserted).await;
}

#[tokio::test]
async fn deletions_are_the_calls_of_the_reference() {
    let one = Deletion::One { name: "a".to_owned(), template_id: "42".to_owned() };
    for (deletion, query) in [
        (Deletion::Name("a b".to_owned()), "name=a+b"),
        (one, "name=a&hsm_id=42"),
        (Deletion::Ids(ids(&["1", "2"])), "hsm_ids=%5B1%2C2%5D"),
    ] {
        let line = format!("DELETE /v25.0/1022/message_templates?{query}");
        let delete = TemplateAction::Delete(deletion);
        assert_write(delete, &line, "", r#"{"success":"true"}"#, TemplateOutcome::Delete).await;
    }
}

#[tokio::test]
async fn what_is_done_in_part_is_the_call_of_the_reference() {
    let failed = || Partial { done: ids(&["1"]), failed: vec![("2".to_owned(), "is PENDING".to_owned())] };
    let both = || ids(&["1", "2"]);
    let archive = "POST /1022/message_templates/archive";
    let sent = r#"{"hsm_ids":"1,2"}"#;
    let answer = r#"{"archived_templates":["1"],"failed_templates":{"2":"is PENDING"}}"#;
    let outcome = TemplateOutcome::Archive(failed());
    assert_write(TemplateAction::Archive(both()), archive, sent, answer, outcome).await;
    let all = TemplateOutcome::Archive(Partial { done: both(), failed: Vec::new() });
    assert_write(TemplateAction::Archive(both()), archive, sent, r#"{"success":true}"#, all).await;

    let line = "POST /1022/message_templates/unarchive";
    let answer =
        r#"{"unarchived_templates":[1],"failed_templates":[{"id":2,"error":{"message":"is PENDING"}}]}"#;
    let outcome = TemplateOutcome::Unarchive(failed());
    assert_write(TemplateAction::Unarchive(both()), line, sent, answer, outcome).await;

    let migrate = TemplateAction::Migrate { body: map(&[("source_waba_id", "5".into())]) };
    let line = "POST /v25.0/1022/migrate_message_templates";
    let answer = r#"{"migrated_templates":["1"],"failed_templates":{"2":"is PENDING"}}"#;
    let outcome = TemplateOutcome::Migrate(failed());
    assert_write(migrate, line, r#"{"source_waba_id":"5"}"#, answer, outcome).await;

    let unpause = TemplateAction::Unpause("42".to_owned());
    let answer = r#"{"success":false,"reason":"not paused"}"#;
    let outcome = TemplateOutcome::Unpause { is_unpaused: false, reason: "not paused".to_owned() };
    assert_write(unpause, "POST /v25.0/42/unpause", "", answer, outcome).await;
}

#[tokio::test]
async fn every_read_is_the_call_of_the_reference() {
    let library = LibraryQuery {
        search: "parcel".to_owned(),
        usecase: "DELIVERY_UPDATE".to_owned(),
        page_size: 5,
        page_token: "T".to_owned(),
        ..LibraryQuery::default()
    };
    let preview = PreviewQuery {
        languages: ids(&["en_US", "es_ES"]),
        add_security_recommendation: Some(true),
        code_expiration_minutes: Some(10),
    };
    let compare = TemplateAction::Compare {
        template_id: "42".to_owned(),
        other_template_id: "43".to_owned(),
        window_days: 7,
    };
    let entry = Template { id: String::new(), json: r#"{"name":"a"}"#.to_owned() };
    let page = TemplatePage { templates: vec![entry], next_page_token: String::new() };
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW.as_secs());
    let compared = Comparison {
        start: end - Duration::from_hours(7 * 24),
        end,
        by_block_rate: ids(&["43", "42"]),
        message_sends: vec![("42".to_owned(), 1500), ("43".to_owned(), 2400)],
        top_block_reason: vec![("42".to_owned(), "SPAM".to_owned())],
    };
    let metrics = r#"{"data":[{"metric":"TOP_BLOCK_REASON","string_values":[{"key":"42","value":"SPAM"}]},
        {"metric":"BLOCK_RATE","order_by_relative_metric":["43",42]},{"metric":"NEW","number_values":[]},
        {"metric":"MESSAGE_SENDS","number_values":[{"key":42,"value":1500},{"key":"43","value":"2400"}]}]}"#;
    let cases = [
        (
            TemplateAction::Library(library),
            "GET /v25.0/message_template_library?limit=5&search=parcel&usecase=DELIVERY_UPDATE&after=T",
            r#"{"data":[{"name":"a"}]}"#,
            TemplateOutcome::Library(page),
        ),
        (
            TemplateAction::Preview(preview),
            "GET /v25.0/1022/message_template_previews?category=AUTHENTICATION&button_types=OTP\
          &languages=en_US%2Ces_ES&add_security_recommendation=true&code_expiration_minutes=10",
            r#"{"data":[{"body":"b"}]}"#,
            TemplateOutcome::Preview(vec![r#"{"body":"b"}"#.to_owned()]),
        ),
        (
            compare,
            "GET /v25.0/42/compare?template_ids=%5B43%5D&start=1794614400&end=1795219200",
            metrics,
            TemplateOutcome::Compare(compared),
        ),
    ];
    for (action, line, answer, outcome) in cases {
        let (sent, _, read) = exchange(&action, answer).await;
        assert_eq!(sent, line);
        assert_eq!(read.unwrap(), outcome, "{line}");
        let (_, _, lost) = exchange(&action, "{}").await;
        assert!(matches!(lost, Err(Error::NoAnswer { .. })), "{line}: {lost:?}");
    }
}

#[tokio::test]
async fn no_id_changes_a_path_or_a_list() {
    let (bad, waba_id) = ("1/../2,3", WabaId::parse("1022").unwrap());
    let compare = |one: &str, other: &str| TemplateAction::Compare {
        template_id: one.to_owned(),
        other_template_id: other.to_owned(),
        window_days: 7,
    };
    for action in [
        TemplateAction::Get(bad.to_owned()),
        TemplateAction::Edit { template_id: bad.to_owned(), body: map(&[]) },
        TemplateAction::Delete(Deletion::One { name: "a".to_owned(), template_id: bad.to_owned() }),
        TemplateAction::Delete(Deletion::Ids(ids(&["1", bad]))),
        TemplateAction::Archive(ids(&["1", bad])),
        TemplateAction::Unarchive(ids(&[bad])),
        TemplateAction::Unpause(bad.to_owned()),
        compare(bad, "1"),
        compare("1", bad),
    ] {
        let error =
            client("http://127.0.0.1:9").manage_template(&token(), &waba_id, &action).await.unwrap_err();
        assert!(matches!(error, Error::Invalid { field: "template_id", .. }), "{action:?}");
    }
}
