//! Memory that large uploads hold: alone in its process, with clients that hold next to nothing.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use axum::routing::post;
use serde::Deserialize;
use sosohappy_common::Context;
use sosohappy_common::http::Upload;
use sosohappy_common::http::serve::Service;
use sosohappy_common::settings::{Credentials, Live, RateLimits, Server};
use utoipa_axum::router::OpenApiRouter;

const MIB: usize = 1024 * 1024;
const BUDGET: usize = 64 * MIB;
/// For everything that is no file: buffers of connections, stacks.
const BESIDE: usize = 12 * MIB;
const FILE: usize = 19 * MIB;
const CLIENTS: usize = 12;

fn settings() -> Server {
    let seconds = Duration::from_secs;
    Server {
        host: [127, 0, 0, 1].into(),
        port: 0,
        connections: 100,
        header_timeout: seconds(30),
        keep_alive_timeout: seconds(30),
        body_timeout: seconds(60),
        request_timeout: seconds(60),
        write_timeout: seconds(30),
        linger_timeout: seconds(60),
        linger_connections: 100,
        body_limit: 20 * MIB,
        upload_memory: BUDGET,
        response_memory: BUDGET,
        memory_limit: 0,
        drain_delay: Duration::ZERO,
        drain_budget: seconds(5),
    }
}

#[derive(Debug, Deserialize)]
struct Caption {
    caption: String,
}

/// Holds the files for a while, as a handler does that stores them.
async fn hold(upload: Upload<Caption>) -> String {
    tokio::time::sleep(Duration::from_millis(500)).await;
    let sizes = upload.files.iter().map(|file| file.bytes.len());
    format!("{} {}", upload.params.caption, sizes.sum::<usize>())
}

/// The head and the body of the answer to an upload of this many bytes, written as a whole before it is read.
fn upload(address: SocketAddr, bytes: usize) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = "--x\r\nContent-Disposition: form-data; name=\"caption\"\r\n\r\nsea\r\n\
        --x\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f.jpg\"\r\nContent-Type: image/jpeg\r\n\r\n";
    let tail = "\r\n--x--\r\n";
    let length = head.len() + bytes + tail.len();
    let request = format!(
        "POST /test-service/hold HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: multipart/form-data; boundary=x\r\ncontent-length: {length}\r\n\r\n{head}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let chunk = vec![0xff; 64 * 1024];
    let mut left = bytes;
    while left > 0 {
        let size = left.min(chunk.len());
        stream.write_all(&chunk[..size]).expect("the body is taken");
        left -= size;
    }
    stream.write_all(tail.as_bytes()).expect("the body is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn uploads(address: SocketAddr, bytes: usize) -> Vec<String> {
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| std::thread::spawn(move || upload(address, bytes)))
        .collect();
    clients.into_iter().map(|client| client.join().unwrap()).collect()
}

/// Bytes from `/proc/self/status`: `VmRSS` now, `VmHWM` at most.
fn memory(key: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    let kib = line.trim_start_matches(':').trim().trim_end_matches(" kB");
    kib.parse::<usize>().unwrap() * 1024
}

fn measure(address: SocketAddr) {
    // So that everything is allocated that is there once.
    uploads(address, 1024);
    let before = memory("VmRSS");
    for _ in 0..2 {
        let answers = uploads(address, FILE);
        let stored = format!("sea {FILE}");
        let taken = answers.iter().filter(|answer| answer.ends_with(&stored)).count();
        let refused = |answer: &&String| answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: ");
        let refused = answers.iter().filter(refused).count();
        assert!(taken >= BUDGET / FILE, "{answers:?}");
        assert_eq!(taken + refused, CLIENTS, "{answers:?}");
        let (most, after) = (memory("VmHWM"), memory("VmRSS"));
        println!("{before} before, {most} at most, {after} after; {taken} taken");
        assert!(most <= before + BUDGET + BESIDE, "{before} before, {most} at most");
        assert!(after <= before + BESIDE, "{before} before, {after} after");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_hold_no_more_than_the_budget_and_give_it_back() {
    let credentials = Credentials {
        service_token: "service-token-of-a-test".into(),
        operator_token: "operator-token-of-a-test".into(),
    };
    let routes = OpenApiRouter::new().route("/test-service/hold", post(hold));
    let context = Context::system("test-service", 0);
    let service = Service::new(
        context,
        Live::new(settings()),
        &Live::new(RateLimits::off()),
        &credentials,
        routes,
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(service.serve(listener));
    tokio::task::spawn_blocking(move || measure(address)).await.unwrap();
}
