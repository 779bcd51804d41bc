//! Routes that move and step back, and the cost of it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use sosohappy_testkit::{PATIENCE, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::backend::{Backend, Canned};
use crate::{Bed, DAY, DAY_ROUTE};

const MONTH: &str = "/feed-service/findMonthFeed";
const MONTH_ROUTE: &str = "POST /feed-service/findMonthFeed";

async fn side(bed: &Bed, route: &str) -> String {
    bed.report().await["routes"][route]["side"].as_str().unwrap().to_owned()
}

/// Moves the route to ours by equal answers.
async fn moved(bed: &Bed) {
    for _ in 0..5 {
        assert_eq!(by(bed).await, "spring");
    }
    bed.settled(DAY_ROUTE).await;
    assert_eq!(side(bed, DAY_ROUTE).await, "ours");
}

/// Returns the side that answers a request.
async fn by(bed: &Bed) -> String {
    bed.post(DAY).await.headers()["x-by"].to_str().unwrap().to_owned()
}

async fn bed() -> Bed {
    let bed = Bed::new(|options| {
        options.copy = true;
        options.move_after = Some(5);
    })
    .await;
    bed.spring
        .answers(DAY, Canned::json("{\"happiness\":3}").header("x-by", "spring"));
    bed.ours
        .answers(DAY, Canned::json("{\"happiness\":3}").header("x-by", "ours"));
    bed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_moves_after_equal_answers_and_steps_back_on_a_difference() {
    let bed = bed().await;
    bed.both(MONTH, &Canned::json("[]"));
    bed.post(MONTH).await;
    moved(&bed).await;
    assert_eq!(side(&bed, MONTH_ROUTE).await, "spring", "each route by itself");
    assert_eq!(by(&bed).await, "ours");
    bed.counted(DAY_ROUTE, "equal", 6).await;

    bed.ours
        .answers(DAY, Canned::json("{\"happiness\":4}").header("x-by", "ours"));
    assert_eq!(by(&bed).await, "ours");
    bed.counted(DAY_ROUTE, "different", 1).await;
    assert_eq!(by(&bed).await, "spring", "one difference is enough");
    bed.settled(DAY_ROUTE).await;
    let reported = eventually("two lines", async || {
        Some(bed.lines("move")).filter(|lines| lines.len() == 2)
    })
    .await;
    assert_eq!(
        (&reported[0]["to"], &reported[1]["to"]),
        (&json!("ours"), &json!("spring"))
    );
    assert_eq!(reported[1]["reason"], "an answer differs");

    // It needs twice as many now.
    bed.ours
        .answers(DAY, Canned::json("{\"happiness\":3}").header("x-by", "ours"));
    for _ in 0..10 {
        assert_eq!(by(&bed).await, "spring");
        bed.settled(DAY_ROUTE).await;
    }
    assert_eq!(by(&bed).await, "ours");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_steps_back_on_errors() {
    let bed = bed().await;
    moved(&bed).await;
    bed.ours
        .answers(DAY, Canned::json("{}").status(500).header("x-by", "ours"));
    // Of at least twenty answers two are more than 5 %; one of these may be compared, and differ, before the second comes.
    by(&bed).await;
    by(&bed).await;
    assert_eq!(by(&bed).await, "spring");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_steps_back_when_ours_is_unavailable() {
    let mut bed = bed().await;
    moved(&bed).await;
    bed.ours = Backend::start();
    // The first of them may still be answered over a connection that is about to end.
    eventually("Spring answers", async || {
        let answer = bed.post(DAY).await;
        let by = answer.headers().get("x-by")?;
        (by == "spring").then_some(())
    })
    .await;
    eventually("the move is reported", async || {
        let reason = bed.lines("move").last()?["reason"].clone();
        (reason == "ours cannot be reached").then_some(())
    })
    .await;
}

/// Sends a request that ends with these bytes after its first line, and returns all that is answered.
async fn answer_to(bed: &Bed, bytes: &str) -> String {
    let mut connection = TcpStream::connect(bed.address).await.unwrap();
    let request = format!("POST {DAY} HTTP/1.1\r\nhost: fleet\r\n{bytes}");
    connection.write_all(request.as_bytes()).await.unwrap();
    connection.shutdown().await.unwrap();
    let mut received = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, connection.read_to_end(&mut received)).await;
    ended.expect("the connection is closed").unwrap();
    String::from_utf8(received).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_body_is_an_error_of_the_client_and_moves_no_route_back() {
    let bed = bed().await;
    moved(&bed).await;
    for broken in [
        "transfer-encoding: chunked\r\n\r\nzz\r\n",
        "transfer-encoding: chunked\r\n\r\n3\r\nabcd\r\n",
        "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "content-length: 9\r\n\r\nabc",
    ] {
        let answer = answer_to(&bed, broken).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{broken:?}: {answer}");
        assert!(answer.contains("unreadable-body"), "{broken:?}: {answer}");
    }
    bed.counted(DAY_ROUTE, "aborted", 4).await;
    assert_eq!(by(&bed).await, "ours", "the route did not step back");
}

/// Answers the first request of each connection with these bytes and their end. Returns the URL.
async fn serve_bytes(bytes: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut request = [0; 4096];
            if let Ok(1..) = connection.read(&mut request).await {
                // The mirror may have closed the connection.
                let _sent = connection.write_all(bytes).await;
                let _ended = connection.shutdown().await;
            }
            // Closed with bytes unread, a connection may lose its answer.
            while let Ok(1..) = connection.read(&mut request).await {}
        }
    });
    format!("http://{address}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_not_http_is_an_error_of_the_side() {
    let url = serve_bytes(b"no answer\r\n\r\n").await;
    let bed = Bed::new(|options| options.spring = vec![url]).await;
    let answer = bed.post(DAY).await;
    assert_eq!(answer.status(), 502);
    assert_eq!(answer.headers()["retry-after"], "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_ends_early_is_no_answer_of_the_side() {
    let url = serve_bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{}").await;
    let bed = Bed::new(|options| options.spring = vec![url]).await;
    bed.ours.answers(DAY, Canned::json("{}"));
    let answer = bed.post(DAY).await;
    assert_eq!(answer.status(), 200, "its head was passed on");
    answer.bytes().await.unwrap_err();
    bed.counted(DAY_ROUTE, "springUnanswered", 1).await;
}

/// A Spring service that is being taken down moves nothing back to itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_spring_takes_no_route_back() {
    let bed = bed().await;
    moved(&bed).await;
    bed.spring.answers(DAY, Canned::json("{}").status(500));
    for _ in 0..10 {
        assert_eq!(bed.post(DAY).await.headers()["x-by"], "ours");
    }
    bed.counted(DAY_ROUTE, "springUnanswered", 10).await;
    assert_eq!(side(&bed, DAY_ROUTE).await, "ours");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_are_moved_by_hand() {
    let bed = bed().await;
    let ask = async |query: &str| {
        let url = format!("http://{}/mirror/move?{query}", bed.admin);
        let answer = bed.http.post(url).send().await.unwrap();
        (
            answer.status().as_u16(),
            answer.json::<Value>().await.unwrap_or_default(),
        )
    };
    let (status, answer) = ask("route=/feed-service/*&to=ours").await;
    assert_eq!((status, answer["routes"].as_array().unwrap().len()), (200, 14));
    assert_eq!(bed.post(DAY).await.headers()["x-by"], "ours");
    assert_eq!(ask("route=POST%20/feed-service/findDayFeed&to=spring").await.0, 200);
    assert_eq!(bed.post(DAY).await.headers()["x-by"], "spring");
    assert_eq!(ask("route=/nothing/*&to=ours").await.0, 404);
    assert_eq!(ask("route=/feed-service/*&to=elsewhere").await.0, 400);
}

/// The reads of a service must show what its writes have stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_whole_services_are_moved_unless_both_sides_are_copies() {
    let bed = Bed::new(|_| {}).await;
    let ask = async |route: &str| {
        let url = format!("http://{}/mirror/move?route={route}&to=ours", bed.admin);
        bed.http.post(url).send().await.unwrap().status().as_u16()
    };
    assert_eq!(ask("POST%20/feed-service/findDayFeed").await, 409);
    assert_eq!(ask("/feed-service/find*").await, 409);
    assert_eq!(side(&bed, DAY_ROUTE).await, "spring");
    assert_eq!(ask("/feed-service/*").await, 200);
    assert_eq!(side(&bed, DAY_ROUTE).await, "ours");
    assert_eq!(ask("*").await, 200);
}

/// The binary, killed when dropped.
struct Process(Child);

impl Process {
    fn start(spring: &str, ours: &str, [listen, admin]: [SocketAddr; 2], data: &Path) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_fleet"))
            .args([
                "mirror", "--spring", spring, "--ours", ours, "--copy", "--move", "5", "--data",
            ])
            .arg(data)
            .args(["--listen", &listen.to_string(), "--admin", &admin.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moved_routes_survive_a_kill() {
    let (spring, ours) = (Backend::start(), Backend::start());
    spring.answers(DAY, Canned::json("{}").header("x-by", "spring"));
    ours.answers(DAY, Canned::json("{}").header("x-by", "ours"));
    let folder = tempfile::tempdir().unwrap();
    // Held until the process takes them.
    let mut reserved = sosohappy_testkit::ReservedPorts::default();
    let addresses = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], reserved.reserve())));
    let http = sosohappy_common::tls::client();
    let by = async || {
        let answer = http.post(format!("http://{}{DAY}", addresses[0])).send().await.ok()?;
        Some(answer.headers().get("x-by")?.to_str().unwrap().to_owned())
    };
    let mut process = Process::start(&spring.url(), &ours.url(), addresses, folder.path());
    eventually("ours answers", async || by().await.filter(|by| by == "ours")).await;
    let saved = async || {
        let text = std::fs::read_to_string(folder.path().join("state.json")).unwrap_or_default();
        text.contains("\"side\": \"ours\"").then_some(())
    };
    eventually("the move is written", saved).await;
    process.kill();

    let mut process = Process::start(&spring.url(), &ours.url(), addresses, folder.path());
    let first = eventually("it answers", by).await;
    assert_eq!(first, "ours", "the first answer after the restart");
    // A signal ends it, with a summary.
    let pid = process.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(process.0.wait().unwrap().success());
    let mut summary = String::new();
    std::io::Read::read_to_string(&mut process.0.stdout.take().unwrap(), &mut summary).unwrap();
    assert!(summary.contains(DAY_ROUTE), "{summary}");
    let report = std::fs::read_to_string(folder.path().join("differences.jsonl")).unwrap();
    assert!(
        report.lines().last().unwrap().contains("\"kind\":\"summary\""),
        "{report}"
    );

    let other = Command::new(env!("CARGO_BIN_EXE_fleet"))
        .args([
            "mirror",
            "--spring",
            &spring.url(),
            "--ours",
            &ours.url(),
            "--answer",
            "ours",
            "--data",
        ])
        .arg(folder.path())
        .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .output()
        .unwrap();
    let refused = String::from_utf8(other.stderr).unwrap();
    assert!(refused.contains("was written with --answer spring"), "{refused}");
}
