//! Memory of an idle socket: alone in its process, with clients that hold nothing but a file descriptor.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{State, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::get;
use sosohappy_access::{Caller, Revocations};
use sosohappy_common::Context;
use sosohappy_common::rate::Rate;
use sosohappy_common::settings::Live;
use sosohappy_events::types::{Role, SessionId, TokenDigest};
use sosohappy_realtime::{Client, Close, Hub, Limits, Origin, Protocol, upgrade};

/// `docs/performance.md` holds the slope of a whole service; this is the crate's share.
/// Measured: 4,718 bytes in a build without optimization.
const MOST_BYTES: usize = 6 * 1024;
const FEW: usize = 1_000;
const MANY: usize = 3_000;

struct Silent;

impl Protocol for Silent {
    async fn frame(&self, _caller: &Caller, _origin: Origin<'_>, _text: &str) -> Result<Option<String>, Close> {
        // As large as a frame's handling with a database is.
        let buffer = [1u8; 16 * 1024];
        tokio::task::yield_now().await;
        Ok(Some(buffer.len().to_string()))
    }
}

async fn accept(State((hub, context)): State<(Hub, Context)>, socket: WebSocketUpgrade) -> Response {
    let issued_at = context.clock.now();
    let caller = Caller {
        account: format!("{}@example.com+kakao", context.entropy.hex(8)).parse().unwrap(),
        token: TokenDigest::of("token"),
        session: SessionId(context.entropy.u64()),
        role: Role::User,
        issued_at,
        expires_at: issued_at + Duration::from_hours(1),
        bearer: None,
    };
    let client = Client {
        caller,
        nickname: "kim",
        stream: None,
    };
    upgrade(socket, hub, client, Arc::new(Silent), None)
}

fn connect(address: std::net::SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = "GET / HTTP/1.1\r\nhost: here\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"));
    // One frame in and its answer out, so that nothing is left to be allocated by the first use.
    stream.write_all(&[0x81, 0x80, 0, 0, 0, 0]).unwrap();
    let mut frame = [0; 7];
    stream.read_exact(&mut frame).unwrap();
    assert_eq!(&frame, b"\x81\x0516384");
    stream
}

/// Bytes of this process in memory.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_socket_costs_at_most_6_kib() {
    let context = Context::system("test-service", 0);
    let limits = Limits {
        frame_bytes: 16 * 1024,
        queue: 64,
        per_account: 8,
        total: 10_000,
        ping_every: Duration::from_secs(1),
        idle_timeout: Duration::from_hours(1),
        write_timeout: Duration::from_secs(10),
        frame_timeout: Duration::from_secs(10),
        frames_per_minute: Rate::Off,
        drain_spread: Duration::from_secs(1),
    };
    let hub = Hub::new(&context, Live::new(limits), &Revocations::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().route("/", get(accept)).with_state((hub, context.clone()));
    tokio::spawn(async move { axum::serve(listener, app).await });

    let measured = tokio::task::spawn_blocking(move || {
        let mut clients: Vec<_> = (0..FEW).map(|_| connect(address)).collect();
        // Long enough for a ping to everybody.
        std::thread::sleep(Duration::from_secs(3));
        let few = resident();
        clients.extend((FEW..MANY).map(|_| connect(address)));
        std::thread::sleep(Duration::from_secs(3));
        (few, resident(), clients)
    });
    let (few, many, clients) = measured.await.unwrap();
    let open = format!("sosohappy_sockets_open{{application=\"test-service\"}} {MANY}\n");
    assert!(context.metrics.render().contains(&open));
    drop(clients);
    let each = many.saturating_sub(few) / (MANY - FEW);
    println!("{each} bytes each, {few} with {FEW}, {many} with {MANY}");
    assert!(each <= MOST_BYTES, "{each} bytes each");
}
