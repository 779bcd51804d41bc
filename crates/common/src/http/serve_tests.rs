use axum::routing::any;
use http::StatusCode;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::http::testing::{Bed, LARGE, credentials, eventually, problem, test_settings};

#[tokio::test]
async fn errors_have_one_shape() {
    let bed = Bed::new(test_settings()).await;
    assert_eq!(
        problem(bed.get("/test-service/none").await).await,
        (404, "no-such-route".to_owned())
    );
    assert_eq!(
        problem(bed.get("/test-service/panic").await).await,
        (500, "internal".to_owned())
    );
    let hasty = Bed::new(Server {
        request_timeout: Duration::from_millis(300),
        ..test_settings()
    })
    .await;
    assert_eq!(
        problem(hasty.get("/test-service/never").await).await,
        (503, "unavailable".to_owned())
    );
    assert_eq!(
        problem(bed.get("/test-service/image/%FF").await).await,
        (400, "invalid-request".to_owned())
    );
    assert_eq!(
        problem(bed.get("/test-service/image/x").await).await,
        (400, "invalid-request".to_owned())
    );
    let wrong_method = bed.get("/test-service/echo").await;
    assert_eq!(wrong_method.headers()["allow"], "POST");
    assert_eq!(problem(wrong_method).await, (405, "method-not-allowed".to_owned()));
    assert_eq!(
        bed.get("/test-service/image/7").await.status(),
        200,
        "others are served after a panic"
    );
}

#[tokio::test]
async fn a_request_is_known_by_its_id_and_trace() {
    let bed = Bed::new(test_settings()).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let asked = bed
        .http
        .get(bed.at("/test-service/told"))
        .header("x-request-id", "mine.1")
        .header("traceparent", trace);
    let answer = asked.send().await.expect("an answer");
    assert_eq!(answer.headers()["x-request-id"], "mine.1");
    assert_eq!(answer.text().await.expect("text"), format!("mine.1 {trace}"));

    let asked = bed
        .http
        .get(bed.at("/test-service/told"))
        .header("x-request-id", "no\"t m{ine")
        .header("traceparent", "x");
    let answer = asked.send().await.expect("an answer");
    let id = answer.headers()["x-request-id"].to_str().expect("text").to_owned();
    assert!(uuid::Uuid::parse_str(&id).is_ok(), "{id}");
    let told = answer.text().await.expect("text");
    assert!(
        told.starts_with(&format!("{id} 00-")) && told.ends_with("-00"),
        "{told}"
    );
}

#[tokio::test]
async fn bodies_are_bounded() {
    let bed = Bed::new(test_settings()).await;
    let echo = |body: reqwest::Body| bed.http.post(bed.at("/test-service/echo")).body(body).send();
    assert_eq!(echo(vec![1; 100_000].into()).await.expect("an answer").status(), 200);
    let declared = format!(
        "POST /test-service/echo HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        1_000_000_000
    );
    let answer = bed.raw(declared.as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 413 ") && answer.contains("body-too-large"),
        "{answer}"
    );
    let head = "POST /test-service/echo HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut chunked = format!("{head}186a1\r\n").into_bytes();
    chunked.resize(chunked.len() + 0x186a1, b'x');
    chunked.extend_from_slice(b"\r\n0\r\n\r\n");
    let answer = bed.raw(&chunked).await;
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn headers_are_bounded_in_time_number_and_size() {
    let hasty = Bed::new(Server {
        header_timeout: Duration::from_millis(300),
        ..test_settings()
    })
    .await;
    // Half-open connections end with the header timeout, long before an idle one.
    hasty.raw(b"GET / HTTP/1.1\r\nhost: x\r\n").await;
    hasty.raw(b"").await;
    let bed = Bed::new(test_settings()).await;
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(10_000));
    let answer = bed.raw(many.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let large = format!("GET / HTTP/1.1\r\nhost: x\r\na: {}\r\n\r\n", "b".repeat(100_000));
    let answer = bed.raw(large.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert!(bed.raw(b"nonsense\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn an_idle_connection_lives_longer_than_a_header_may_take() {
    let bed = Bed::new(Server {
        header_timeout: Duration::from_secs(1),
        keep_alive_timeout: Duration::from_secs(6),
        ..test_settings()
    })
    .await;
    let mut stream = TcpStream::connect(bed.address).await.expect("it listens");
    let mut buffer = vec![0; 4096];
    for pause in [0, 2000] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        stream
            .write_all(b"GET /test-service/image/7 HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .expect("still open");
        let read = stream.read(&mut buffer).await.expect("an answer");
        assert!(buffer[..read].starts_with(b"HTTP/1.1 200 "));
    }
    let closed = tokio::time::timeout(Duration::from_mins(1), stream.read(&mut buffer))
        .await
        .expect("idle too long");
    assert_eq!(closed.expect("closed, not broken"), 0);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let bed = Bed::new(Server {
        connections: 1,
        write_timeout: Duration::from_millis(300),
        ..test_settings()
    })
    .await;
    let mut stream = TcpStream::connect(bed.address).await.expect("it listens");
    stream
        .write_all(b"GET /test-service/large HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .expect("still open");
    // A refused connection may be reset before its 503 is read.
    eventually("its place is free", async || {
        let answer = bed.http.get(bed.at("/test-service/image/7")).send().await;
        answer.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    let mut answer = Vec::new();
    // Cut means reset, or an end before its time.
    let _cut = stream.read_to_end(&mut answer).await;
    assert!(answer.len() < LARGE, "{}", answer.len());
}

#[tokio::test]
async fn a_slow_reader_gets_everything() {
    // Longer for all of it than one write may take.
    let bed = Bed::new(Server {
        write_timeout: Duration::from_secs(2),
        ..test_settings()
    })
    .await;
    let mut stream = TcpStream::connect(bed.address).await.expect("it listens");
    stream
        .write_all(b"GET /test-service/large HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .expect("still open");
    let (mut read, mut buffer) = (0, vec![0; LARGE / 6]);
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut piece = 0;
        while piece < buffer.len() {
            match stream.read(&mut buffer[piece..]).await.expect("not cut") {
                0 => break,
                bytes => piece += bytes,
            }
        }
        read += piece;
        if piece < buffer.len() {
            break;
        }
    }
    assert!(read > LARGE, "{read}");
}

#[tokio::test]
async fn connections_are_counted() {
    let bed = Bed::new(Server {
        connections: 2,
        ..test_settings()
    })
    .await;
    let held = [
        TcpStream::connect(bed.address).await,
        TcpStream::connect(bed.address).await,
    ];
    let answer = bed.raw(b"").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    drop(held);
    // A refused connection may be reset before its 503 is read.
    eventually("their places are free", async || {
        let answer = bed.http.get(bed.at("/test-service/image/7")).send().await;
        answer.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
}

#[tokio::test]
async fn draining_finishes_what_is_in_flight() {
    let bed = Bed::new(test_settings()).await;
    let slow = tokio::spawn(bed.http.get(bed.at("/test-service/slow")).send());
    let mut idle = TcpStream::connect(bed.address).await.expect("it listens");
    idle.write_all(b"GET /test-service/image/7 HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .expect("open");
    let mut buffer = vec![0; 4096];
    assert_ne!(idle.read(&mut buffer).await.expect("an answer"), 0);
    tokio::time::sleep(Duration::from_millis(100)).await;

    bed.context.lifecycle.leave();
    let (status, readiness) = bed.json("/actuator/health/readiness").await;
    assert_eq!(
        (status, &readiness["draining"]),
        (StatusCode::SERVICE_UNAVAILABLE, &Value::Bool(true))
    );
    let answer = bed.get("/test-service/image/7").await;
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["connection"].as_bytes()),
        (200, &b"close"[..])
    );

    let dropped = bed.context.lifecycle.shutdown(Duration::from_secs(20)).await;
    assert!(dropped.is_empty());
    let answer = slow.await.expect("no panic").expect("an answer");
    assert_eq!(answer.text().await.expect("text"), "done");
    assert_eq!(
        idle.read(&mut buffer).await.expect("closed"),
        0,
        "idle connections are closed"
    );
    bed.serving.await.expect("no panic").expect("served well");
    assert!(
        TcpStream::connect(bed.address).await.is_err(),
        "nobody listens any more"
    );
}

#[tokio::test]
async fn the_end_of_the_budget_cuts_what_is_left() {
    let bed = Bed::new(test_settings()).await;
    let never = tokio::spawn(bed.http.get(bed.at("/test-service/never")).send());
    tokio::time::sleep(Duration::from_millis(100)).await;
    bed.context.lifecycle.shutdown(Duration::from_millis(50)).await;
    tokio::time::timeout(Duration::from_secs(40), bed.serving)
        .await
        .expect("it ends")
        .expect("no panic")
        .expect("well");
    assert!(never.await.expect("no panic").is_err());
}

#[tokio::test]
async fn sockets_can_be_opened() {
    let routes = OpenApiRouter::new().route(
        "/test-service/socket",
        any(|upgrade: axum::extract::WebSocketUpgrade| async {
            upgrade.on_upgrade(|mut socket| async move {
                while let Some(Ok(message)) = socket.recv().await {
                    if socket.send(message).await.is_err() {
                        return;
                    }
                }
            })
        }),
    );
    let settings = Server {
        header_timeout: Duration::from_secs(1),
        keep_alive_timeout: Duration::from_secs(1),
        ..test_settings()
    };
    let service = Service::new(
        Context::system("test-service", 0),
        Live::new(settings),
        &Live::new(RateLimits::off()),
        &credentials(),
        routes,
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let lifecycle = service.context.lifecycle.clone();
    let serving = tokio::spawn(service.serve(listener));
    let none = crate::tls::client()
        .get(format!("http://{address}/test-service/socket"))
        .send()
        .await
        .expect("an answer");
    assert_eq!(problem(none).await, (400, "invalid-request".to_owned()));
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let handshake = "GET /test-service/socket HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                     sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(handshake.as_bytes()).await.expect("open");
    let mut buffer = vec![0; 4096];
    let read = stream.read(&mut buffer).await.expect("an answer");
    let answer = String::from_utf8_lossy(&buffer[..read]).to_string();
    assert!(
        answer.starts_with("HTTP/1.1 101 ") && !answer.contains("connection: close"),
        "{answer}"
    );
    // Longer than a header may take and than an idle connection lives.
    tokio::time::sleep(Duration::from_millis(1800)).await;
    stream
        .write_all(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i'])
        .await
        .expect("open");
    let read = stream.read(&mut buffer).await.expect("an echo");
    assert_eq!(&buffer[..read], [0x81, 2, b'h', b'i']);
    lifecycle.shutdown(Duration::from_secs(1)).await;
    serving
        .await
        .expect("no panic")
        .expect("a socket does not hold up the port");
}

#[tokio::test]
async fn limits_change_while_it_serves() {
    let bed = Bed::new(test_settings()).await;
    let echo = async |bytes: usize| {
        let asked = bed.http.post(bed.at("/test-service/echo")).body(vec![7; bytes]);
        asked.send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(echo(50_000).await, 200);
    bed.settings.replace(Server {
        body_limit: 1000,
        ..test_settings()
    });
    assert_eq!((echo(1000).await, echo(1001).await), (200, 413));
    bed.settings.replace(Server {
        request_timeout: Duration::from_millis(100),
        ..test_settings()
    });
    assert_eq!(bed.get("/test-service/never").await.status(), 503);
    bed.settings.replace(test_settings());
    assert_eq!(echo(50_000).await, 200);
    assert_eq!(bed.get("/test-service/slow").await.status(), 200);

    let bed = Bed::new(test_settings()).await;
    let question = b"GET /test-service/image/7 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let _one = TcpStream::connect(bed.address).await.expect("it listens");
    assert!(bed.raw(question).await.starts_with("HTTP/1.1 200"));
    bed.settings.replace(Server {
        connections: 1,
        ..test_settings()
    });
    let refused = bed.raw(question).await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
}
