//! Reads `multipart/form-data` (RFC 7578) from a body that is all there. Strict about delimiters, so that a
//! client which writes them wrongly is found out.

use bytes::Bytes;

/// One part of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) filename: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) content: Bytes,
}

/// The boundary that a `Content-Type` names, if it is a form's.
pub(super) fn boundary(content_type: &str) -> Option<String> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    parameter(parameters, "boundary").filter(|boundary| !boundary.is_empty())
}

/// Splits a body into its parts. The error says what is wrong with it.
pub(super) fn parse(body: &Bytes, boundary: &str) -> Result<Vec<Part>, &'static str> {
    let delimiter = format!("--{boundary}");
    let mut rest = body.clone();
    if !rest.starts_with(delimiter.as_bytes()) {
        return Err("the body does not begin with the boundary");
    }
    rest = rest.slice(delimiter.len()..);
    let delimiter = format!("\r\n--{boundary}");
    let mut parts = Vec::new();
    loop {
        if rest.starts_with(b"--") {
            return Ok(parts);
        }
        if !rest.starts_with(b"\r\n") {
            return Err("a boundary is followed by neither a part nor the end");
        }
        // The line break stays: a part without headers begins with an empty line.
        let end_of_head = find(&rest, b"\r\n\r\n").ok_or("a part has no end of headers")?;
        let head = rest.slice(..end_of_head);
        rest = rest.slice(end_of_head + 4..);
        let end = find(&rest, delimiter.as_bytes()).ok_or("the closing boundary is missing")?;
        parts.push(part(&head, rest.slice(..end))?);
        rest = rest.slice(end + delimiter.len()..);
    }
}

fn part(head: &[u8], content: Bytes) -> Result<Part, &'static str> {
    let head = std::str::from_utf8(head).map_err(|_| "a part's headers are not UTF-8")?;
    let header = |wanted: &str| {
        head.split("\r\n").find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim())
        })
    };
    let disposition = header("content-disposition").ok_or("a part has no Content-Disposition")?;
    Ok(Part {
        name: parameter(disposition, "name").ok_or("a part has no name")?,
        filename: parameter(disposition, "filename"),
        content_type: header("content-type").map(str::to_owned),
        content,
    })
}

/// A parameter of a header's value, quoted or not.
fn parameter(value: &str, wanted: &str) -> Option<String> {
    let mut rest = value;
    loop {
        let (name, after) = rest.split_once('=')?;
        let name = name.rsplit(';').next().unwrap_or(name).trim();
        let (found, next) = if let Some(quoted) = after.strip_prefix('"') {
            quoted.split_once('"')?
        } else {
            after.split_once(';').unwrap_or((after, ""))
        };
        if name.eq_ignore_ascii_case(wanted) {
            return Some(found.trim().to_owned());
        }
        rest = next;
    }
}

/// Where `needle` first occurs. Skips by its first byte, which is fast enough for the media of tests.
fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut start = 0;
    loop {
        let candidate = start + haystack.get(start..)?.iter().position(|byte| *byte == first)?;
        if haystack.get(candidate..)?.starts_with(needle) {
            return Some(candidate);
        }
        start = candidate + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries() {
        for (content_type, expected) in [
            ("multipart/form-data; boundary=abc", Some("abc")),
            ("multipart/form-data; charset=utf-8; boundary=\"a b\"", Some("a b")),
            ("multipart/mixed; boundary=abc", None),
            ("multipart/form-data", None),
            ("application/json", None),
        ] {
            assert_eq!(boundary(content_type).as_deref(), expected, "{content_type}");
        }
    }

    #[test]
    fn parts() {
        let body = Bytes::from_static(
            b"--x\r\nContent-Disposition: form-data; name=\"messaging_product\"\r\n\r\nwhatsapp\r\n\
              --x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.png\"\r\n\
              Content-Type: image/png\r\n\r\n\r\n--\xff\r\n-\r\n--x--\r\n",
        );
        let parts = parse(&body, "x").unwrap();
        assert_eq!(parts.len(), 2);
        assert_eq!((parts[0].name.as_str(), &parts[0].content[..]), ("messaging_product", &b"whatsapp"[..]));
        assert_eq!(parts[1].filename.as_deref(), Some("a.png"));
        assert_eq!(parts[1].content_type.as_deref(), Some("image/png"));
        assert_eq!(&parts[1].content[..], b"\r\n--\xff\r\n-");
    }

    #[test]
    fn broken_forms() {
        for body in [
            &b""[..],
            b"x--x\r\n",
            b"--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nvalue",
            b"--x\r\n\r\n\r\nvalue\r\n--x--",
            b"--x\r\nContent-Disposition: form-data\r\n\r\nvalue\r\n--x--",
            b"--xvalue",
        ] {
            assert!(parse(&Bytes::copy_from_slice(body), "x").is_err(), "{}", String::from_utf8_lossy(body));
        }
    }
}
