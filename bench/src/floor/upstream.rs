//! The Cloud API as cheap as it can be: each answer is a constant, a file is read and forgotten. Traces are taken likewise.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::Result;
use crate::load::FILE_BYTES;
use crate::webhook::PHONE_NUMBER_ID;

const SENT: &str = r#"{"messaging_product":"whatsapp","contacts":[{"input":"+16505551234","wa_id":"16505551234"}],"messages":[{"id":"wamid.HBgLMTY1MDU1NTEyMzQVAgARGBI4MjZGRDA0OUE2OTQ3RkEyMzcA"}]}"#;
const UPLOADED: &str = r#"{"id":"1037543291543636"}"#;
/// All of it was taken: the message that says so is empty.
const EXPORTED: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
/// Bytes that one write of a file has.
const PIECE_BYTES: usize = 256 * 1024;

/// Arrivals that are remembered.
const ARRIVALS_MAX: usize = 100_000;
const SECOND: Duration = Duration::from_secs(1);

struct Answers {
    sent: Vec<u8>,
    uploaded: Vec<u8>,
    /// Describes the one file.
    located: Vec<u8>,
    piece: Vec<u8>,
    arrivals: Mutex<VecDeque<Instant>>,
    /// Exports of traces.
    exports: AtomicU64,
}

pub(super) async fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let piece = vec![0; PIECE_BYTES];
    let located = json!({
        "messaging_product": "whatsapp",
        "url": format!("http://{address}/file"),
        "mime_type": "application/pdf",
        "sha256": hex::encode(Sha256::digest(vec![0; FILE_BYTES])),
        "file_size": FILE_BYTES,
        "id": "1037543291543636",
    });
    let answers = Answers {
        sent: answer(SENT),
        uploaded: answer(UPLOADED),
        located: answer(&located.to_string()),
        piece,
        arrivals: Mutex::default(),
        exports: AtomicU64::default(),
    };
    // For as long as the process lives.
    let answers: &'static Answers = Box::leak(Box::new(answers));
    super::say_ready(&json!({"http": address.to_string()}));
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            // A connection that ends in the middle of something is its peer's decision.
            drop(converse(stream, answers).await);
        });
    }
}

impl Answers {
    fn note_arrival(&self) {
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        if arrivals.len() >= ARRIVALS_MAX {
            arrivals.pop_front();
        }
        arrivals.push_back(Instant::now());
    }

    /// How many messages came since the last time, in how many seconds, and the most of them in any sliding second; and
    /// how many exports of traces.
    fn take_arrivals(&self) -> serde_json::Value {
        let arrivals = std::mem::take(&mut *self.arrivals.lock().unwrap_or_else(PoisonError::into_inner));
        let (mut oldest, mut fullest) = (arrivals.iter().peekable(), 0);
        let mut inside = 0;
        for arrival in &arrivals {
            inside += 1;
            while oldest.next_if(|first| arrival.duration_since(**first) >= SECOND).is_some() {
                inside -= 1;
            }
            fullest = fullest.max(inside);
        }
        let (first, last) = (arrivals.front(), arrivals.back());
        let took = first.zip(last).map(|(first, last)| last.duration_since(*first)).unwrap_or_default();
        let exports = self.exports.swap(0, Ordering::Relaxed);
        json!({"count": arrivals.len(), "seconds": took.as_secs_f64(), "fullest": fullest, "exports": exports})
    }
}

fn answer(body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into()
}

async fn converse(mut stream: TcpStream, answers: &Answers) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; PIECE_BYTES];
    let mut filled = 0;
    loop {
        let read = stream.read(buffer.get_mut(filled..).ok_or("a head is too long")?).await?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let seen = buffer.get(..filled).unwrap_or_default();
        let Some(head) = seen.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4) else {
            continue;
        };
        let text = std::str::from_utf8(seen.get(..head).unwrap_or_default())?;
        let path = text.split(' ').nth(1).unwrap_or_default();
        let kind = kind(path);
        let body = content_length(text)?;
        let mut left = (head + body).saturating_sub(filled);
        while left > 0 {
            let read = stream.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            left = left.saturating_sub(read);
        }
        filled = 0;
        match kind {
            Asked::Send => {
                answers.note_arrival();
                stream.write_all(&answers.sent).await?;
            }
            Asked::Export => {
                answers.exports.fetch_add(1, Ordering::Relaxed);
                stream.write_all(EXPORTED).await?;
            }
            Asked::Arrivals => stream.write_all(&answer(&answers.take_arrivals().to_string())).await?,
            Asked::Upload => stream.write_all(&answers.uploaded).await?,
            Asked::Describe => stream.write_all(&answers.located).await?,
            Asked::File => pour(&mut stream, &answers.piece).await?,
        }
    }
}

enum Asked {
    Send,
    Upload,
    Describe,
    File,
    Export,
    Arrivals,
}

fn kind(path: &str) -> Asked {
    if path == "/file" {
        Asked::File
    } else if path == "/arrivals" {
        Asked::Arrivals
    } else if path == "/v1/traces" {
        Asked::Export
    } else if path.ends_with(&format!("{PHONE_NUMBER_ID}/messages")) {
        Asked::Send
    } else if path.ends_with(&format!("{PHONE_NUMBER_ID}/media")) {
        Asked::Upload
    } else {
        Asked::Describe
    }
}

fn content_length(head: &str) -> Result<usize> {
    let value = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim())
    });
    Ok(value.map(str::parse).transpose()?.unwrap_or(0))
}

async fn pour(stream: &mut TcpStream, piece: &[u8]) -> Result<()> {
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/pdf\r\ncontent-length: {FILE_BYTES}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut left = FILE_BYTES;
    while left > 0 {
        let next = piece.get(..left.min(piece.len())).unwrap_or_default();
        stream.write_all(next).await?;
        left -= next.len();
    }
    Ok(())
}
