//! Pages, tokens and ids.

use serde_json::json;

use super::*;
use crate::cloud_api::client::tests::peer::{Peer, client, token};

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
        let answer = json!({"data": [{"name": "a", "id": "1"}], "paging": paging}).to_string();
        let page = read_page(answer.as_bytes()).unwrap();
        assert_eq!(page.next_page_token, token, "{paging}");
        assert_eq!(page.templates[0].id, "1");
    }
    let page = read_page(br#"{"data":[]}"#).unwrap();
    assert_eq!((page.templates.len(), page.next_page_token.as_str()), (0, ""));
}

#[test]
fn the_exact_text_of_a_template_stays() {
    let text =
        r#"{ "name":"a", "components":[ {"type":"BODY","text":"\u00e9\/"} ], "id":1234567890123456789 }"#;
    let answer = format!(r#"{{"data":[{text}]}}"#);
    let page = read_page(answer.as_bytes()).unwrap();
    assert_eq!(page.templates, [Template { id: "1234567890123456789".to_owned(), json: text.to_owned() }]);
    for bad in ["", "[]", "{}", r#"{"data":{}}"#, r#"{"data":[1]}"#, r#"{"data":[{"name":"no id"}]}"#] {
        assert_eq!(read_page(bad.as_bytes()), None, "{bad}");
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
