use std::time::{Duration, Instant};

use futures::SinkExt as _;
use sosohappy_common::rate::Rate;
use sosohappy_common::settings::{self, Live, Sources};
use sosohappy_realtime::Limits;
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Fleet, account, limits, until};

/// Fills kernel buffers (of a few MB on loopback) and the queue of a client that does not read.
fn flood(fleet: &Fleet, name: &str) {
    let frame = "x".repeat(50_000);
    for _ in 0..20_000 {
        if fleet.hub.send(&account(name), &frame) == 0 {
            return;
        }
        std::thread::yield_now();
    }
    panic!("the queue never filled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_is_cut_and_others_are_served() {
    const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
    let fleet = Fleet::start(Limits {
        write_timeout: WRITE_TIMEOUT,
        ..limits()
    })
    .await;
    let stuck = fleet.connect("name=kim").await;
    let mut other = fleet.connect("name=lee").await;
    flood(&fleet, "kim");
    assert!(!fleet.hub.online(&account("kim")), "cut at once");
    let begun = Instant::now();
    other.send("echo still here").await;
    assert_eq!(other.text().await, "still here");
    fleet.hub.send(&account("lee"), "and served");
    assert_eq!(other.text().await, "and served");
    assert!(begun.elapsed() < WRITE_TIMEOUT, "the other client does not wait");
    until("its task has ended", || fleet.ended() == 1).await;
    assert!(fleet.counted("sosohappy_sockets_closed_total", "reason", "too-slow", 1));
    drop(stuck);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_too_slowly_is_cut_by_the_write_timeout() {
    let fleet = Fleet::start(Limits {
        queue: 1_000_000,
        write_timeout: Duration::from_millis(500),
        ..limits()
    })
    .await;
    let slow = fleet.connect("name=kim").await;
    let frame = "x".repeat(50_000);
    for _ in 0..400 {
        fleet.hub.send(&account("kim"), &frame);
    }
    let MaybeTlsStream::Plain(stream) = slow.0.get_ref() else {
        panic!("not over TLS")
    };
    let mut byte = [0];
    until("it is cut", || {
        let _ = stream.try_read(&mut byte);
        fleet.ended() == 1
    })
    .await;
    assert!(fleet.counted("sosohappy_sockets_closed_total", "reason", "too-slow", 1));
}

#[tokio::test]
async fn a_frame_over_the_limit_closes_with_1009() {
    let fleet = Fleet::start(limits()).await;
    let mut phone = fleet.connect("name=kim").await;
    phone.send(&format!("echo {}", "x".repeat(16 * 1024 - 5))).await;
    assert_eq!(phone.text().await.len(), 16 * 1024 - 5);
    phone.send(&"x".repeat(16 * 1024 + 1)).await;
    assert_eq!(phone.closed().await, 1009);
    let mut phone = fleet.connect("name=kim").await;
    phone.send(&"x".repeat(3_000_000)).await;
    assert_eq!(phone.closed().await, 1009);
}

#[tokio::test]
async fn binary_frames_and_invalid_frames_close_with_their_codes() {
    let fleet = Fleet::start(limits()).await;
    let mut phone = fleet.connect("name=kim").await;
    phone.0.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    assert_eq!(phone.closed().await, 1007);
    let mut phone = fleet.connect("name=kim").await;
    phone.send("bad").await;
    assert_eq!(phone.closed().await, 1007);
    for (bytes, code) in [
        // A text frame, masked with zeros, of one byte that is not UTF-8.
        (&[0x81, 0x81, 0, 0, 0, 0, 0xff][..], 1007),
        // A text frame without a mask.
        (&[0x81, 0x01, b'x'][..], 1002),
        // A reserved opcode.
        (&[0x83, 0x80, 0, 0, 0, 0][..], 1002),
    ] {
        let mut phone = fleet.connect("name=kim").await;
        let MaybeTlsStream::Plain(stream) = phone.0.get_mut() else {
            panic!("not over TLS")
        };
        stream.write_all(bytes).await.unwrap();
        assert_eq!(phone.closed().await, code, "{bytes:x?}");
    }
}

#[tokio::test]
async fn one_socket_more_cuts_the_accounts_oldest() {
    let fleet = Fleet::start(limits()).await;
    let mut first = fleet.connect("name=kim").await;
    let _second = fleet.connect("name=kim").await;
    let _third = fleet.connect("name=kim").await;
    let mut fourth = fleet.connect("name=kim").await;
    assert_eq!(first.closed().await, 4409, "which says not to come back");
    assert_eq!(fleet.hub.send(&account("kim"), "hello"), 3);
    assert_eq!(fourth.text().await, "hello");
}

#[tokio::test]
async fn one_socket_more_than_the_replica_holds_is_refused() {
    let fleet = Fleet::start(Limits { total: 2, ..limits() }).await;
    let _one = fleet.connect("name=kim").await;
    let two = fleet.connect("name=lee").await;
    let mut three = fleet.connect_only("name=park").await;
    assert_eq!(three.closed().await, 1013);
    assert!(fleet.counted("sosohappy_sockets_refused_total", "reason", "too-slow", 1));
    drop(two);
    until("there is room", || fleet.ended() == 1).await;
    fleet.connect("name=park").await;
}

#[tokio::test]
async fn work_on_a_frame_ends_in_time_and_the_next_frame_is_handled() {
    let fleet = Fleet::start(Limits {
        frame_timeout: Duration::from_millis(200),
        ..limits()
    })
    .await;
    let mut phone = fleet.connect("name=kim").await;
    phone.send("slow 60000").await;
    phone.send("echo next").await;
    assert_eq!(phone.text().await, "too late");
    assert_eq!(phone.text().await, "next");
}

#[tokio::test]
async fn a_handshake_that_comes_to_nothing_leaves_no_socket() {
    let fleet = Fleet::start(limits()).await;
    let address = fleet.url.trim_start_matches("ws://").to_owned();
    for _ in 0..20 {
        let mut abandoned = tokio::net::TcpStream::connect(&address).await.unwrap();
        let request = "GET /?name=kim HTTP/1.1\r\nhost: here\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
            sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        abandoned.write_all(request.as_bytes()).await.unwrap();
    }
    until("each is ended", || {
        let opened = *fleet.notes.opened.lock();
        opened > 0 && fleet.ended() == opened && !fleet.hub.online(&account("kim"))
    })
    .await;
}

#[tokio::test]
async fn a_frame_too_large_for_any_client_is_not_sent() {
    for frame_bytes in [16 * 1024, 200_000] {
        let limits = Limits {
            frame_bytes,
            ..limits()
        };
        let largest = limits.frame_out_bytes();
        assert!(largest >= frame_bytes, "what a client sends can be passed on");
        let fleet = Fleet::start(limits).await;
        let mut phone = fleet.connect("name=kim").await;
        assert_eq!(fleet.hub.send(&account("kim"), &"x".repeat(largest + 1)), 0);
        assert_eq!(fleet.hub.send(&account("kim"), &"x".repeat(largest)), 1);
        assert_eq!(phone.text().await.len(), largest);
    }
}

#[derive(serde::Deserialize)]
struct Settings {
    sockets: Limits,
    /// The sections that every service has.
    #[serde(flatten)]
    _shared: serde::de::IgnoredAny,
}

/// Settings in a file that can be written anew.
struct File(tempfile::TempDir);

impl File {
    fn new(frame_bytes: usize, per_account: usize, frames_per_minute: &str) -> Self {
        let file = Self(tempfile::tempdir().unwrap());
        file.write(frame_bytes, per_account, frames_per_minute);
        file
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("settings.toml")
    }

    fn write(&self, frame_bytes: usize, per_account: usize, frames_per_minute: &str) {
        let text = format!(
            "[sockets]\nframe-bytes = {frame_bytes}\nper-account = {per_account}\nframes-per-minute = \"{frames_per_minute}\"\n\
             queue = 8\ntotal = 100\nping-every = \"20s\"\nidle-timeout = \"1m\"\nwrite-timeout = \"5s\"\n"
        );
        std::fs::write(self.path(), text).unwrap();
    }

    async fn load(&self) -> Live<Settings> {
        let secret = |key: &str| (format!("credentials.{key}-token"), "a-token-of-a-test".to_owned());
        let sources = Sources {
            service: "test",
            defaults: "live = [\"sockets\"]\n[server]\nport = 0\n",
            file: Some(self.path()),
            overrides: vec![secret("service"), secret("operator")],
            environment: false,
        };
        settings::load(&sources).await.unwrap()
    }
}

#[tokio::test]
async fn changed_limits_are_for_sockets_opened_from_then_on() {
    let file = File::new(1000, 3, "off");
    let settings = file.load().await;
    let fleet = Fleet::start_live(settings.part(|settings| settings.sockets)).await;
    let mut early = fleet.connect("name=kim").await;

    file.write(10, 2, "off");
    let refreshed = settings.refresh().await.unwrap();
    assert_eq!(refreshed.changed, ["sockets.frame-bytes", "sockets.per-account"]);
    assert!(refreshed.needs_restart.is_empty());
    let mut late = fleet.connect("name=kim").await;
    for phone in [&mut early, &mut late] {
        phone.send("echo 12345").await;
        assert_eq!(phone.text().await, "12345");
        phone.send("echo 123456").await;
    }
    assert_eq!(early.text().await, "123456", "as it was opened");
    assert_eq!(late.closed().await, 1009);
    let _second = fleet.connect("name=kim").await;
    let _third = fleet.connect("name=kim").await;
    assert_eq!(early.closed().await, 4409, "one more than there may be now");
}

/// Of a rate this low nothing comes back while a test runs.
fn few_frames() -> Limits {
    Limits {
        frames_per_minute: Rate::per_minute(3),
        ..limits()
    }
}

#[tokio::test]
async fn frames_over_the_limit_are_refused_and_a_flood_closes_the_socket() {
    let fleet = Fleet::start(few_frames()).await;
    let (mut kim, mut lee) = (fleet.connect("name=kim").await, fleet.connect("name=lee").await);
    let mut answers = Vec::new();
    for number in 0..6 {
        kim.send(&format!("echo {number}")).await;
        answers.push(kim.text().await);
    }
    assert_eq!(answers, ["0", "1", "2", "too many", "too many", "too many"]);
    assert!(fleet.hub.online(&account("kim")), "who is told may wait and go on");
    kim.send("echo 6").await;
    assert_eq!(kim.closed().await, 4429);
    assert!(fleet.counted("sosohappy_sockets_closed_total", "reason", "rate-limited", 1));
    assert!(fleet.counted(
        "sosohappy_socket_frames_limited_total",
        "application",
        "test-service",
        4
    ));

    let mut again = fleet.connect("name=kim").await;
    again.send("echo 7").await;
    assert_eq!(
        again.closed().await,
        4429,
        "another socket of the account has no quota of its own"
    );
    lee.send("echo still here").await;
    assert_eq!(lee.text().await, "still here", "another account has");
    assert_eq!(fleet.notes.frames.lock().len(), 4, "what is refused is not worked on");
}

#[tokio::test]
async fn a_changed_rate_of_frames_is_for_open_sockets_as_well() {
    let file = File::new(1000, 3, "3");
    let settings = file.load().await;
    let fleet = Fleet::start_live(settings.part(|settings| settings.sockets)).await;
    let mut kim = fleet.connect("name=kim").await;
    for number in 0..4 {
        kim.send(&format!("echo {number}")).await;
        let expected = if number < 3 {
            number.to_string()
        } else {
            "too many".to_owned()
        };
        assert_eq!(kim.text().await, expected);
    }
    file.write(1000, 3, "off");
    let refreshed = settings.refresh().await.unwrap();
    assert_eq!(refreshed.changed, ["sockets.frames-per-minute"]);
    assert!(refreshed.needs_restart.is_empty());
    for number in 0..100 {
        kim.send(&format!("echo {number}")).await;
        assert_eq!(kim.text().await, number.to_string());
    }
}

#[tokio::test]
async fn a_flood_of_pings_closes_the_socket() {
    let fleet = Fleet::start(few_frames()).await;
    let mut kim = fleet.connect("name=kim").await;
    for _ in 0..20 {
        kim.0.send(Message::Ping(Vec::new().into())).await.unwrap();
    }
    kim.send("echo within the limit").await;
    assert_eq!(kim.text().await, "within the limit");
    for _ in 0..100 {
        // Fails where the socket is closed before all are sent.
        let _ = kim.0.send(Message::Ping(Vec::new().into())).await;
    }
    assert_eq!(kim.closed().await, 4429);
}
