//! What HTTP/2 adds: streams, GOAWAY, pings and windows, by frames written by hand.

use super::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const EMPTY_SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const SETTINGS_ACK: &[u8] = &[0, 0, 0, 4, 1, 0, 0, 0, 0];
/// HEADERS of stream 1, complete: GET, http, path `/wait`, authority `t`, without compression of the path.
const GET_WAIT: &[u8] =
    &[0, 0, 12, 1, 5, 0, 0, 0, 1, 0x82, 0x86, 0x04, 5, b'/', b'w', b'a', b'i', b't', 0x01, 1, b't'];
const HEADERS: u8 = 1;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

/// The type and payload of the next frame.
async fn next_frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 9];
    timeout(SOON, stream.read_exact(&mut head)).await.unwrap().unwrap();
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut payload).await.unwrap();
    (head[3], payload)
}

#[tokio::test]
async fn an_http2_connection_gets_goaway_and_finishes_its_stream() {
    let server = Server::start(http2(), 10);
    let mut stream = server.connect().await;
    stream.write_all(&[PREFACE, EMPTY_SETTINGS, SETTINGS_ACK, GET_WAIT].concat()).await.unwrap();
    server.entered.notified().await;
    server.shutdown.drain().cancel();
    let mut seen = Vec::new();
    while seen.last() != Some(&GOAWAY) {
        seen.push(next_frame(&mut stream).await.0);
    }
    assert!(!seen.contains(&HEADERS), "the stream is still open: {seen:?}");
    server.release.notify_one();
    loop {
        let (kind, payload) = next_frame(&mut stream).await;
        match kind {
            HEADERS => break,
            // hyper asks whether the client has seen the GOAWAY before it names the last stream.
            PING => {
                stream.write_all(&[&[0, 0, 8, PING, 1, 0, 0, 0, 0], &payload[..]].concat()).await.unwrap();
            }
            _ => {}
        }
    }
    read_to_close(&mut stream).await;
    timeout(SOON, server.serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_http2_connection_without_a_preface_is_cut_and_one_with_it_is_not() {
    let server = Server::start(http2(), 10);
    let mut open = server.connect().await;
    open.write_all(&[PREFACE, EMPTY_SETTINGS].concat()).await.unwrap();
    let mut silent = server.connect().await;
    let mut partial = server.connect().await;
    partial.write_all(&PREFACE[..10]).await.unwrap();
    read_to_close(&mut silent).await;
    read_to_close(&mut partial).await;
    sleep(Duration::from_millis(300)).await;
    open.write_all(GET_WAIT).await.unwrap();
    timeout(SOON, server.entered.notified()).await.expect("the open connection still serves");
}

/// Reads what comes, answering pings, until this frame.
async fn until_frame(stream: &mut TcpStream, wanted: u8) -> Vec<u8> {
    loop {
        let (kind, payload) = next_frame(stream).await;
        if kind == wanted {
            return payload;
        }
        if kind == PING {
            stream.write_all(&[&[0, 0, 8, PING, 1, 0, 0, 0, 0], &payload[..]].concat()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_http2_connection_without_streams_is_told_to_go_although_it_pings() {
    let limits = Http2Limits {
        idle_timeout: Duration::from_millis(400),
        keepalive_interval: Duration::from_millis(50),
        ..Http2Limits::default()
    };
    let server = Server::start(Protocol::Http2(limits), 10);
    let mut idle = server.connect().await;
    let mut busy = server.connect().await;
    idle.write_all(&[PREFACE, EMPTY_SETTINGS, SETTINGS_ACK].concat()).await.unwrap();
    busy.write_all(&[PREFACE, EMPTY_SETTINGS, SETTINGS_ACK, GET_WAIT].concat()).await.unwrap();
    server.entered.notified().await;
    until_frame(&mut idle, GOAWAY).await;
    until_frame(&mut idle, GOAWAY).await;
    read_to_close(&mut idle).await;
    // One with an open stream stays, also beyond the limit.
    sleep(Duration::from_millis(600)).await;
    server.release.notify_one();
    until_frame(&mut busy, HEADERS).await;
    until_frame(&mut busy, GOAWAY).await;
}

#[tokio::test]
async fn a_stream_whose_answer_is_not_read_is_reset_and_others_go_on() {
    let limits = Http2Limits { unread_timeout: Duration::from_millis(200), ..Http2Limits::default() };
    let server = Server::start(Protocol::Http2(limits), 10);
    let mut stream = server.connect().await;
    // SETTINGS_INITIAL_WINDOW_SIZE = 0: no room for any answer.
    let no_room: &[u8] = &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0];
    let get = |id: u8, path: &[u8; 5]| {
        let mut frame = GET_WAIT.to_vec();
        frame[8] = id;
        let at = frame.windows(5).position(|window| window == b"/wait").unwrap();
        frame[at..at + 5].copy_from_slice(path);
        frame
    };
    let asked = [PREFACE, no_room, SETTINGS_ACK, &get(1, b"/wait"), &get(3, b"/none")].concat();
    stream.write_all(&asked).await.unwrap();
    // The second is answered at once, with a head, and then reset. The first waits for us, so it has time.
    let (mut ids, reset) = (Vec::new(), 3);
    loop {
        let mut head = [0; 9];
        timeout(SOON, stream.read_exact(&mut head)).await.unwrap().unwrap();
        let mut payload = vec![0; usize::from(head[2])];
        stream.read_exact(&mut payload).await.unwrap();
        ids.push((head[3], head[8]));
        if head[3] == reset {
            break;
        }
    }
    assert!(
        ids.ends_with(&[(reset, 3)]) && ids.contains(&(HEADERS, 3)) && !ids.contains(&(HEADERS, 1)),
        "{ids:?}"
    );
    server.release.notify_one();
    until_frame(&mut stream, HEADERS).await;
}

#[tokio::test]
async fn who_asks_and_never_reads_is_not_read_either_and_then_cut() {
    const ASKED_MAX: usize = 64 * 1024 * 1024;
    let limits = Http1Limits { unread_timeout: Duration::from_millis(200), ..Http1Limits::default() };
    let server = Server::start(Protocol::Http1(limits), 10);
    let mut stream = server.connect().await;
    let requests = b"GET / HTTP/1.1\r\nhost: test\r\n\r\n".repeat(1000);
    let mut asked = 0;
    let error = loop {
        match timeout(SOON, stream.write_all(&requests)).await.expect("neither taken nor cut") {
            Ok(()) => asked += requests.len(),
            Err(error) => break error,
        }
        assert!(asked < ASKED_MAX, "it reads without end");
    };
    assert!([io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe].contains(&error.kind()), "{error}");
}

#[tokio::test]
async fn a_killed_http2_connection_is_reset_with_every_stream_on_it() {
    let server = Server::start(http2(), 10);
    let mut stream = server.connect().await;
    stream.write_all(&[PREFACE, EMPTY_SETTINGS, SETTINGS_ACK, GET_WAIT].concat()).await.unwrap();
    server.entered.notified().await;
    let mut kill = GET_WAIT.to_vec();
    kill[8] = 3;
    let path = kill.windows(5).position(|window| window == b"/wait").unwrap();
    kill[path..path + 5].copy_from_slice(b"/kill");
    stream.write_all(&kill).await.unwrap();
    let mut read = Vec::new();
    let error = timeout(SOON, stream.read_to_end(&mut read)).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    server.shutdown.drain().cancel();
    timeout(SOON, server.serving).await.expect("the waiting stream ended with its connection").unwrap();
}
