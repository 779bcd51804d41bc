use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::http::testing::{Bed, eventually, test_settings};
use crate::settings::Server;

const MIB: usize = 1024 * 1024;

/// The body limit of production, and time to read it on a machine under load.
fn roomy() -> Server {
    Server {
        body_limit: 20 * MIB,
        linger_timeout: Duration::from_secs(20),
        ..test_settings()
    }
}

async fn connect(bed: &Bed) -> TcpStream {
    TcpStream::connect(bed.address).await.expect("it listens")
}

fn head(path: &str, framing: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n")
}

/// A server that neither reads nor answers fails the test.
const WITHIN: Duration = Duration::from_mins(1);

/// Writes everything, as `URLSession` does, before it reads anything.
async fn write_first(stream: &mut TcpStream, head: &str, body: usize) {
    let write = write_all(stream, head, body);
    tokio::time::timeout(WITHIN, write)
        .await
        .expect("the body is taken in time");
}

async fn write_all(stream: &mut TcpStream, head: &str, body: usize) {
    stream.write_all(head.as_bytes()).await.expect("not closed yet");
    let chunk = vec![b'x'; 64 * 1024];
    let mut left = body;
    while left > 0 {
        let size = left.min(chunk.len());
        stream.write_all(&chunk[..size]).await.expect("the body is taken");
        left -= size;
    }
}

/// Reads one answer with a body of a known length; its head.
async fn read_answer(stream: &mut TcpStream) -> String {
    let answer = tokio::time::timeout(WITHIN, read_unbounded(stream)).await;
    answer.expect("an answer in time")
}

async fn read_unbounded(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).await.expect("a head");
        answer.push(byte[0]);
    }
    let head = String::from_utf8(answer).expect("text");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length = length.map_or(0, |length| length.parse().expect("a number"));
    stream.read_exact(&mut vec![0; length]).await.expect("a body");
    head
}

/// Reads the first sample of this name that carries this text among its labels.
fn labelled(bed: &Bed, name: &str, label: &str) -> u64 {
    let text = bed.context.metrics.render();
    let line = text.lines().find(|line| line.starts_with(name) && line.contains(label));
    let value = line.and_then(|line| line.rsplit_once(' ')).map(|(_, value)| value);
    value
        .unwrap_or_else(|| panic!("no {name}: {text}"))
        .parse()
        .expect("a number")
}

fn metric(bed: &Bed, name: &str) -> u64 {
    labelled(bed, name, "")
}

fn outcomes(bed: &Bed, outcome: &str) -> u64 {
    labelled(
        bed,
        "http_server_early_answers_total",
        &format!("outcome=\"{outcome}\""),
    )
}

#[tokio::test]
async fn early_answer_arrives_and_connection_stays_open() {
    let bed = Bed::new(roomy()).await;
    let mut stream = connect(&bed).await;
    for (path, status) in [
        ("/test-service/refuse", "403"),
        ("/test-service/none", "404"),
        ("/test-service/image/7", "405"),
        ("/test-service/never", "503"),
        ("/test-service/refuse", "403"),
    ] {
        write_first(
            &mut stream,
            &head(path, &format!("content-length: {}", 16 * MIB)),
            16 * MIB,
        )
        .await;
        let answer = read_answer(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
        assert!(!answer.contains("connection: close"), "{path}: {answer}");
    }
    eventually("all were drained", async || outcomes(&bed, "drained") >= 5).await;
    assert!(metric(&bed, "http_server_discarded_bytes_total") >= 80 * 1024 * 1024);
    eventually("none lingers", async || {
        metric(&bed, "http_server_lingering_connections") == 0
    })
    .await;
    stream
        .write_all(b"GET /test-service/image/7 HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .expect("open");
    assert!(read_answer(&mut stream).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn too_large_is_answered_to_clients_that_write_first() {
    let bed = Bed::new(roomy()).await;
    for body in [20 * MIB + 1, 39 * MIB] {
        let mut stream = connect(&bed).await;
        let head = head("/test-service/echo", &format!("content-length: {body}"));
        write_first(&mut stream, &head, body).await;
        let answer = read_answer(&mut stream).await;
        assert!(
            answer.starts_with("HTTP/1.1 413 ") && answer.contains("connection: close"),
            "{answer}"
        );
        assert_eq!(stream.read(&mut [0]).await.expect("closed, not reset"), 0);
    }
    let mut stream = connect(&bed).await;
    let mut chunked = head("/test-service/echo", "transfer-encoding: chunked");
    chunked.push_str("1400001\r\n");
    write_first(&mut stream, &chunked, 20 * MIB + 1).await;
    stream.write_all(b"\r\n0\r\n\r\n").await.expect("the end is taken");
    assert!(read_answer(&mut stream).await.starts_with("HTTP/1.1 413 "));
}

#[tokio::test]
async fn answers_outside_of_routes_arrive() {
    let bed = Bed::new(roomy()).await;
    let mut stream = connect(&bed).await;
    write_first(&mut stream, "GET / HTTP/1.1\r\nhost: x\r\na: ", 16 * MIB).await;
    assert!(read_answer(&mut stream).await.starts_with("HTTP/1.1 431 "));
    let mut stream = connect(&bed).await;
    write_first(&mut stream, "no request\r\n\r\n", 16 * MIB).await;
    assert!(read_answer(&mut stream).await.starts_with("HTTP/1.1 400 "));

    let full = Bed::new(Server {
        connections: 1,
        linger_timeout: Duration::from_hours(1),
        ..roomy()
    })
    .await;
    let _held = connect(&full).await;
    let mut stream = connect(&full).await;
    let length = format!("content-length: {}", 16 * MIB);
    write_first(&mut stream, &head("/test-service/echo", &length), 16 * MIB).await;
    assert!(read_answer(&mut stream).await.starts_with("HTTP/1.1 503 "));
    // The client learns of the end although its own half stays open.
    let end = tokio::time::timeout(Duration::from_mins(1), stream.read(&mut [0])).await;
    assert_eq!(end.expect("closed before the linger timeout").expect("not reset"), 0);
}

#[tokio::test]
async fn expecting_clients_are_not_made_to_send() {
    let bed = Bed::new(roomy()).await;
    let framing = format!("content-length: {}\r\nexpect: 100-continue", 16 * MIB);
    let mut stream = connect(&bed).await;
    let waiting = head("/test-service/refuse", &framing);
    stream.write_all(waiting.as_bytes()).await.expect("open");
    let mut answer = String::new();
    let began = Instant::now();
    stream.read_to_string(&mut answer).await.expect("closed, not reset");
    assert!(began.elapsed() < Duration::from_secs(10), "at once");
    assert!(
        answer.starts_with("HTTP/1.1 403 ") && answer.contains("connection: close"),
        "{answer}"
    );
    drop(stream);
    eventually("it is closed", async || outcomes(&bed, "drained") == 1).await;
    assert_eq!(metric(&bed, "http_server_discarded_bytes_total"), 0);

    // A client that did not wait.
    let mut stream = connect(&bed).await;
    write_first(&mut stream, &waiting, 16 * MIB).await;
    assert!(read_answer(&mut stream).await.starts_with("HTTP/1.1 403 "));

    // The body is asked for where it is read.
    let mut stream = connect(&bed).await;
    let wanted = head("/test-service/echo", "content-length: 2\r\nexpect: 100-continue");
    stream.write_all(wanted.as_bytes()).await.expect("open");
    assert!(read_answer(&mut stream).await.starts_with("HTTP/1.1 100 "));
    stream.write_all(b"hi").await.expect("open");
    let answer = read_answer(&mut stream).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && !answer.contains("connection: close"),
        "{answer}"
    );
}

#[tokio::test]
async fn slow_bodies_are_cut() {
    let bed = Bed::new(Server {
        linger_timeout: Duration::from_millis(400),
        ..roomy()
    })
    .await;
    let mut stream = connect(&bed).await;
    stream
        .write_all(head("/test-service/refuse", "content-length: 1000").as_bytes())
        .await
        .expect("open");
    assert!(read_answer(&mut stream).await.starts_with("HTTP/1.1 403 "));
    let began = Instant::now();
    let mut sent = 0;
    while stream.write_all(b"x").await.is_ok() {
        sent += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(began.elapsed() < Duration::from_mins(1), "{sent} bytes were taken");
    }
    eventually("it is counted", async || {
        outcomes(&bed, "timeout") == 1 && metric(&bed, "http_server_lingering_connections") == 0
    })
    .await;
}

#[tokio::test]
async fn endless_bodies_are_cut() {
    let bed = Bed::new(Server {
        linger_timeout: Duration::from_secs(20),
        ..test_settings()
    })
    .await;
    let mut stream = connect(&bed).await;
    let endless = head("/test-service/refuse", "transfer-encoding: chunked");
    stream.write_all(endless.as_bytes()).await.expect("open");
    let chunk = format!("2000\r\n{}\r\n", "x".repeat(0x2000));
    // 100 times the limit; the sockets of both sides take some megabytes.
    let mut chunks = (0..1200).map(|_| &chunk);
    while let Some(chunk) = chunks.next()
        && stream.write_all(chunk.as_bytes()).await.is_ok()
    {}
    eventually("it is cut", async || outcomes(&bed, "limit") == 1).await;
    let limit = 2 * 100_000;
    let discarded = metric(&bed, "http_server_discarded_bytes_total");
    assert!((limit..limit + 64 * 1024).contains(&discarded), "{discarded}");

    // A connection that hyper has answered and is closing.
    let mut stream = connect(&bed).await;
    stream.write_all(b"no request\r\n\r\n").await.expect("open");
    let bytes = [b'x'; 0x2000];
    for _ in 0..1200 {
        if stream.write_all(&bytes).await.is_err() {
            break;
        }
    }
    eventually("it is cut as well", async || outcomes(&bed, "limit") == 2).await;
}

#[tokio::test]
async fn lingering_connections_are_bounded() {
    let bed = Bed::new(Server {
        linger_timeout: Duration::from_secs(20),
        ..test_settings()
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..10 {
        let mut stream = connect(&bed).await;
        stream
            .write_all(head("/test-service/refuse", "content-length: 1000").as_bytes())
            .await
            .expect("open");
        assert!(read_answer(&mut stream).await.starts_with("HTTP/1.1 403 "));
        held.push(stream);
    }
    let lingering = || metric(&bed, "http_server_lingering_connections");
    eventually("the others are closed", async || {
        outcomes(&bed, "busy") == 6 && lingering() == 4
    })
    .await;
    drop(held);
    eventually("all are closed", async || {
        outcomes(&bed, "closed") == 4 && lingering() == 0
    })
    .await;
}
