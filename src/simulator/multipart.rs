//! Reads `multipart/form-data` (RFC 7578) as it comes. Strict about delimiters, so that a client which writes them
//! wrongly is found out.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use memchr::memmem;

use super::content::{Content, Incoming, Room};

/// Headers of one part.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// One part of a form.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) filename: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) content: Arc<Content>,
}

impl Part {
    /// The content of a part that is no file.
    pub(super) fn text(&self) -> Option<String> {
        const TEXT_BYTES_MAX: usize = 1_024;
        let is_text = self.filename.is_none() && self.content.len <= TEXT_BYTES_MAX;
        is_text.then(|| String::from_utf8(self.content.range(0, TEXT_BYTES_MAX).concat()).ok())?
    }
}

/// The boundary that a `Content-Type` names, if it is a form's.
pub(super) fn boundary(content_type: &str) -> Option<String> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    parameter(parameters, "boundary").filter(|boundary| !boundary.is_empty())
}

/// Reads a form as it comes.
#[derive(Debug)]
pub(super) struct Reader {
    delimiter: Vec<u8>,
    state: State,
    /// What came and does not belong to a part yet.
    rest: BytesMut,
    parts: Vec<Part>,
    room: Room,
}

#[derive(Debug)]
enum State {
    Start,
    /// Behind a boundary: the end, or the head of a part.
    Head,
    Content(Box<(Part, Incoming)>),
    End,
}

impl Reader {
    pub(super) fn new(boundary: &str, room: &Room) -> Self {
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        let (rest, parts, room) = (BytesMut::new(), Vec::new(), room.clone());
        Self { delimiter, state: State::Start, rest, parts, room }
    }

    /// Takes the next bytes. The error says what is wrong with them.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        self.rest.extend_from_slice(bytes);
        loop {
            let is_settled = match std::mem::replace(&mut self.state, State::End) {
                State::Start => self.start()?,
                State::Head => self.head()?,
                State::Content(open) => {
                    let (part, incoming) = *open;
                    self.content(part, incoming)
                }
                State::End => true,
            };
            if is_settled {
                return Ok(());
            }
        }
    }

    /// All came.
    pub(super) fn finish(self) -> Result<Vec<Part>, &'static str> {
        match self.state {
            State::End => Ok(self.parts),
            State::Start => Err("the body does not begin with the boundary"),
            State::Head => Err("a part has no end of headers"),
            State::Content(_) => Err("the closing boundary is missing"),
        }
    }

    fn start(&mut self) -> Result<bool, &'static str> {
        // The first boundary has no line break before it.
        let delimiter = self.delimiter.get(2..).unwrap_or_default();
        if self.rest.len() < delimiter.len() {
            self.state = State::Start;
            return Ok(true);
        }
        if !self.rest.starts_with(delimiter) {
            return Err("the body does not begin with the boundary");
        }
        drop(self.rest.split_to(delimiter.len()));
        self.state = State::Head;
        Ok(false)
    }

    fn head(&mut self) -> Result<bool, &'static str> {
        if self.rest.starts_with(b"--") {
            return Ok(true);
        }
        if self.rest.len() >= 2 && !self.rest.starts_with(b"\r\n") {
            return Err("a boundary is followed by neither a part nor the end");
        }
        // The line break stays: a part without headers begins with an empty line.
        let Some(end) = memmem::find(&self.rest, b"\r\n\r\n") else {
            self.state = State::Head;
            return if self.rest.len() > HEAD_BYTES_MAX {
                Err("a part has too many headers")
            } else {
                Ok(true)
            };
        };
        let head = self.rest.split_to(end + 4);
        let part = part(head.get(..end).unwrap_or_default())?;
        self.state = State::Content(Box::new((part, Incoming::new(&self.room))));
        Ok(false)
    }

    fn content(&mut self, mut part: Part, mut incoming: Incoming) -> bool {
        if let Some(end) = memmem::find(&self.rest, &self.delimiter) {
            incoming.push(self.rest.split_to(end).freeze());
            drop(self.rest.split_to(self.delimiter.len()));
            part.content = Arc::new(incoming.finish());
            self.parts.push(part);
            self.state = State::Head;
            return false;
        }
        // The last bytes may be the beginning of a boundary.
        let sure = self.rest.len().saturating_sub(self.delimiter.len());
        if sure > 0 {
            incoming.push(self.rest.split_to(sure).freeze());
        }
        self.state = State::Content(Box::new((part, incoming)));
        true
    }
}

fn part(head: &[u8]) -> Result<Part, &'static str> {
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
        content: Content::of(Bytes::new()),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// In steps of every size.
    fn parse(body: &[u8], boundary: &str) -> Result<Vec<Part>, &'static str> {
        let read = |step: usize| {
            let mut reader = Reader::new(boundary, &Room::default());
            body.chunks(step).try_for_each(|chunk| reader.push(chunk))?;
            reader.finish()
        };
        let shown = |parts: &Result<Vec<Part>, &str>| {
            parts.as_ref().map(|parts| parts.iter().map(|part| part.content.digest).collect::<Vec<_>>()).ok()
        };
        let whole = read(body.len().max(1));
        for step in 1..body.len() {
            assert_eq!(shown(&read(step)), shown(&whole), "in steps of {step}");
        }
        whole
    }

    fn bytes(part: &Part) -> Vec<u8> {
        part.content.range(0, part.content.len).concat()
    }

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
        assert_eq!(
            (parts[0].name.as_str(), parts[0].text().as_deref()),
            ("messaging_product", Some("whatsapp"))
        );
        assert_eq!(parts[1].filename.as_deref(), Some("a.png"));
        assert_eq!(parts[1].content_type.as_deref(), Some("image/png"));
        assert_eq!(bytes(&parts[1]), b"\r\n--\xff\r\n-");
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
            assert!(parse(body, "x").is_err(), "{}", String::from_utf8_lossy(body));
        }
    }
}
