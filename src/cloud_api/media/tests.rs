use super::*;

#[test]
fn a_form_is_as_meta_wants_it() {
    let file = MediaFile {
        mime_type: "image/png".to_owned(),
        filename: "a \"b\".png".to_owned(),
        size_bytes: 1,
        checksum: None,
    };
    let (head, tail) = form("B", &file, Some(60));
    let expected = "--B\r\nContent-Disposition: form-data; name=\"messaging_product\"\r\n\r\nwhatsapp\r\n\
                    --B\r\nContent-Disposition: form-data; name=\"type\"\r\n\r\nimage/png\r\n\
                    --B\r\nContent-Disposition: form-data; name=\"ttl_minutes\"\r\n\r\n60\r\n\
                    --B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a %22b%22.png\"\r\n\
                    Content-Type: image/png\r\n\r\n";
    assert_eq!((&head[..], &tail[..]), (expected.as_bytes(), &b"\r\n--B--\r\n"[..]));
}

#[test]
fn descriptions_are_read_leniently() {
    let id = MediaId::parse("1").unwrap();
    let sum = Checksum([7; 32]);
    for (size, sha256, checksum) in [
        (r"80420", sum.to_string(), Some(sum)),
        (r#""80420""#, STANDARD.encode(sum.0), Some(sum)),
        ("80420", "nonsense".to_owned(), None),
    ] {
        let answer = format!(
            r#"{{"url":"https://lookaside.fbsbx.com/a?b=c","mime_type":"image/jpeg","sha256":"{sha256}","file_size":{size}}}"#
        );
        let Located { info, url } = read_located(&id, answer.as_bytes()).unwrap();
        assert_eq!((info.size_bytes, info.checksum), (80_420, checksum));
        assert_eq!(url.as_str(), "https://lookaside.fbsbx.com/a?b=c");
    }
    assert!(read_located(&id, b"{}").is_none());
}

#[test]
fn a_session_keeps_its_colon_and_its_query() {
    let client = crate::cloud_api::client::tests::peer::client("http://127.0.0.1:9");
    let session = UploadSession { id: "upload:MTphdHRh==?sig=ARZ-q".to_owned() };
    let url = client.session_url(&session);
    assert_eq!(url.as_str(), "http://127.0.0.1:9/v25.0/upload:MTphdHRh==?sig=ARZ-q");
    assert!(!format!("{session:?}").contains("ARZ"));
}

#[test]
fn redirects_may_be_relative() {
    let from = Url::parse("https://a.example/x?y").unwrap();
    let to = |location: &'static str| {
        let headers = HeaderMap::from_iter([(header::LOCATION, location.parse().unwrap())]);
        redirect(&from, &headers).map(String::from)
    };
    assert_eq!(to("/z").as_deref(), Some("https://a.example/z"));
    assert_eq!(to("https://b.example/").as_deref(), Some("https://b.example/"));
    assert_eq!(redirect(&from, &HeaderMap::new()), None);
}
