use futures_util::stream;

use super::*;

fn file(size_bytes: u64, checksum: Option<Checksum>) -> MediaFile {
    let (mime_type, filename) = ("image/png".to_owned(), "a.png".to_owned());
    MediaFile { mime_type, filename, size_bytes, checksum }
}

/// What goes out of these pieces, and how it ends.
async fn poured(file: &MediaFile, pieces: &'static [&'static str]) -> (String, Result<Checksum, Error>) {
    let pieces = stream::iter(pieces.iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes()))));
    let mut source = Source::new(file, pieces, Duration::from_secs(1));
    let mut out = String::new();
    loop {
        match source.next().await {
            Ok(Some(piece)) => out += std::str::from_utf8(&piece).unwrap(),
            Ok(None) => return (out, Ok(source.checksum())),
            Err(error) => return (out, Err(error)),
        }
    }
}

#[tokio::test]
async fn the_last_piece_waits_until_all_is_right() {
    let right = Checksum(Sha256::digest("abcd").into());
    for checksum in [None, Some(right)] {
        let (out, end) = poured(&file(4, checksum), &["ab", "", "cd", ""]).await;
        assert_eq!((out.as_str(), end.unwrap()), ("abcd", right));
    }
    let (out, end) = poured(&file(4, Some(Checksum([0; 32]))), &["ab", "cd"]).await;
    assert!(out == "ab" && matches!(end, Err(Error::ChecksumMismatch { .. })), "{out} {end:?}");
    let cases: [(u64, &'static [&'static str], &str); 4] =
        [(5, &["ab", "cd"], "abcd"), (3, &["ab", "cd"], "ab"), (4, &["ab", "cd", "e"], "ab"), (1, &[], "")];
    for (declared, pieces, expected) in cases {
        let (out, end) = poured(&file(declared, None), pieces).await;
        assert_eq!(out, expected, "{declared} {pieces:?}");
        assert!(matches!(end, Err(Error::SizeMismatch { .. })), "{end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn silence_is_a_stall() {
    let pieces = stream::pending::<Result<Bytes, Broken>>();
    let mut source = Source::new(&file(4, None), pieces, Duration::from_secs(30));
    assert!(matches!(source.next().await, Err(Error::Stalled(_))));
}

#[test]
fn what_is_kept_can_be_sent_again() {
    let mut kept = Kept::default();
    for piece in ["abc", "de", "f"] {
        kept.keep(Bytes::from_static(piece.as_bytes()));
    }
    assert_eq!(kept.again(), None);
    for (offset, expected) in [(0, "abcdef"), (1, "bcdef"), (4, "ef"), (6, "")] {
        assert!(kept.rewind(offset));
        let again: Vec<_> = std::iter::from_fn(|| kept.again()).collect();
        assert_eq!(again.concat(), expected.as_bytes(), "{offset}");
    }
    assert!(!kept.rewind(7));
    let large = Bytes::from(vec![0; 3 * 1024 * 1024]);
    kept.keep(large.clone());
    kept.keep(large.clone());
    assert!(!kept.rewind(0) && kept.rewind(6 + large.len() as u64));
}
