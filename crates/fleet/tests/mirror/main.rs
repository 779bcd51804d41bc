//! `fleet mirror` between two fleets that answer as the test says, over real sockets.

mod backend;
mod moves;
mod records;
mod walk;

use std::net::SocketAddr;
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use sosohappy_fleet::mirror::{self, Mirror, OUTCOMES, Options, Side};
use sosohappy_testkit::{PATIENCE, eventually};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use backend::{Backend, Canned};

const DAY: &str = "/feed-service/findDayFeed";
const DAY_ROUTE: &str = "POST /feed-service/findDayFeed";
const DM_ROUTE: &str = "GET /dm-service/connect-dm";

/// Two backends and a mirror between them.
struct Bed {
    spring: Backend,
    ours: Backend,
    mirror: Option<Mirror>,
    address: SocketAddr,
    admin: SocketAddr,
    folder: tempfile::TempDir,
    http: reqwest::Client,
}

impl Bed {
    async fn new(change: impl FnOnce(&mut Options)) -> Self {
        let (spring, ours) = (Backend::start(), Backend::start());
        let folder = tempfile::tempdir().unwrap();
        let mut options = options(&spring.url(), &ours.url(), folder.path());
        change(&mut options);
        let mirror = mirror::start(options, &mirror::shared().unwrap()).await.unwrap();
        Self {
            spring,
            ours,
            address: mirror.address,
            admin: mirror.admin,
            mirror: Some(mirror),
            folder,
            http: sosohappy_common::tls::client(),
        }
    }

    fn both(&self, path: &str, canned: &Canned) {
        self.spring.answers(path, canned.clone());
        self.ours.answers(path, canned.clone());
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn post(&self, path: &str) -> reqwest::Response {
        let form = [("nickname", "kim"), ("date", "2026112809000000")];
        self.http.post(self.url(path)).form(&form).send().await.unwrap()
    }

    async fn report(&self) -> Value {
        let url = format!("http://{}/mirror/report", self.admin);
        self.http.get(url).send().await.unwrap().json().await.unwrap()
    }

    async fn count(&self, route: &str, name: &str) -> u64 {
        self.report().await["routes"][route][name].as_u64().unwrap()
    }

    /// Waits until every answer on this route has been compared.
    async fn settled(&self, route: &str) {
        eventually(&format!("{route}: all is compared"), async || {
            let report = self.report().await;
            let count = |name: &str| report["routes"][route][name].as_u64().unwrap();
            (OUTCOMES.iter().map(|name| count(name)).sum::<u64>() == count("answered")).then_some(())
        })
        .await;
    }

    async fn counted(&self, route: &str, name: &str, wanted: u64) {
        eventually(&format!("{route}: {wanted} {name}"), async || {
            (self.count(route, name).await == wanted).then_some(())
        })
        .await;
    }

    /// The lines of the report of this kind.
    fn lines(&self, kind: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("differences.jsonl")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["kind"] == kind).collect()
    }

    async fn stop(&mut self) {
        for running in self.mirror.take().into_iter().flat_map(|mirror| mirror.running) {
            running.drain().await.unwrap();
        }
    }
}

fn options(spring: &str, ours: &str, data: &std::path::Path) -> Options {
    Options {
        spring: vec![spring.to_owned()],
        ours: vec![ours.to_owned()],
        listen: "127.0.0.1:0".parse().unwrap(),
        admin: "127.0.0.1:0".parse().unwrap(),
        data: data.to_owned(),
        rules: None,
        answer: Side::Spring,
        copy: false,
        writes: false,
        move_after: None,
        error_rate: 0.05,
        body_limit: 256 * 1024,
        comparisons: 128,
        // No test waits for it unless it says so.
        timeout: Duration::from_hours(1),
        confirm: Duration::from_millis(300),
        show_values: false,
        topics: None,
    }
}

fn copy_with_writes(options: &mut Options) {
    options.copy = true;
    options.writes = true;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_reach_both_sides_and_differences_are_reported() {
    let bed = Bed::new(|_| {}).await;
    let post = json!({"nickname": "kim", "happiness": 3, "text": "first secret", "imageIdList": [1], "categoryList": ["sea", "home"]});
    let mut other = post.clone();
    other["categoryList"] = json!(["home", "sea"]);
    other["imageIdList"] = json!([7_100_000_001_i64]);
    bed.spring.answers(DAY, Canned::json(&post.to_string()));
    bed.ours.answers(DAY, Canned::json(&other.to_string()));

    let answer = bed
        .http
        .post(bed.url(&format!("{DAY}?nickname=kim")))
        .header("x-request-id", "r-1")
        .header("authorization", "Bearer t")
        .header("connection", "x-hop")
        .header("x-hop", "1")
        .header("x-forwarded-for", "198.51.100.7")
        .body("date=2026112809000000")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert_eq!(answer.json::<Value>().await.unwrap(), post, "Spring answers");
    bed.counted(DAY_ROUTE, "equal", 1).await;
    let (spring, ours) = (bed.spring.seen().remove(0), bed.ours.seen().remove(0));
    for seen in [&spring, &ours] {
        assert_eq!(seen.path, format!("{DAY}?nickname=kim"));
        assert_eq!(seen.body, "date=2026112809000000");
        assert_eq!(seen.headers["authorization"], "Bearer t");
        assert_eq!(seen.headers["x-request-id"], "r-1", "both logs name the request alike");
        let forwarded: Vec<_> = seen.headers.get_all("x-forwarded-for").iter().collect();
        assert_eq!(forwarded, ["198.51.100.7", "127.0.0.1"]);
        assert_eq!(
            seen.headers["x-forwarded-host"].to_str().unwrap(),
            bed.address.to_string()
        );
        assert_eq!(seen.headers["x-forwarded-proto"], "http");
        assert!(!seen.headers.contains_key("x-hop"), "a header of one connection");
    }
    assert_eq!(spring.headers["host"].to_str().unwrap(), bed.spring.address.to_string());
    assert_eq!(ours.headers["host"].to_str().unwrap(), bed.ours.address.to_string());

    other["text"] = json!("second secret");
    other["happiness"] = json!(4);
    bed.ours.answers(DAY, Canned::json(&other.to_string()));
    let answer = bed
        .http
        .post(bed.url(DAY))
        .header("x-request-id", "r-2")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap(), post);
    bed.counted(DAY_ROUTE, "different", 1).await;
    let lines = eventually("two lines", async || {
        Some(bed.lines("difference")).filter(|lines| lines.len() == 2)
    })
    .await;
    for line in &lines {
        assert_eq!(
            (&line["requestId"], &line["route"], &line["confirmed"]),
            (&json!("r-2"), &json!(DAY_ROUTE), &json!(true))
        );
    }
    assert_eq!(
        (&lines[0]["field"], &lines[0]["spring"], &lines[0]["ours"]),
        (&json!("body.happiness"), &json!(3), &json!(4))
    );
    assert_eq!(lines[1]["field"], "body.text");
    assert!(!lines[1].to_string().contains("secret"), "{}", lines[1]);
    assert!(
        lines[1]["spring"]
            .as_str()
            .unwrap()
            .starts_with("text of 12 characters"),
        "{}",
        lines[1]
    );
    let allowed = bed.report().await["allowed"].clone();
    assert!(
        allowed["imported pictures have new ids, which cannot be guessed"].as_u64() >= Some(2),
        "{allowed}"
    );
}

/// A write between the two reads makes them differ once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_met_a_write_is_asked_again() {
    let bed = Bed::new(|_| {}).await;
    bed.spring.answers(DAY, Canned::json("{\"happiness\":3}"));
    let (held, release) = Canned::json("{\"happiness\":4}").held();
    bed.ours.answers(DAY, held);
    bed.post(DAY).await;
    eventually("ours is asked", async || (bed.ours.seen().len() == 1).then_some(())).await;
    bed.spring.answers(DAY, Canned::json("{\"happiness\":4}"));
    release.send(true).unwrap();
    bed.counted(DAY_ROUTE, "transient", 1).await;
    assert_eq!(bed.count(DAY_ROUTE, "different").await, 0);
    assert_eq!(bed.lines("difference"), Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_reach_one_side_unless_asked_for() {
    const SAVE: &str = "/feed-service/saveFeed";
    const REISSUE: &str = "/auth-service/reIssueToken";
    let bed = Bed::new(|_| {}).await;
    for path in [SAVE, REISSUE, "/feed-service/follow"] {
        bed.both(path, &Canned::json("{\"success\":true}"));
    }
    for _ in 0..20 {
        assert_eq!(bed.post(SAVE).await.status(), 200);
        assert_eq!(
            bed.http.get(bed.url(REISSUE)).send().await.unwrap().status(),
            200,
            "a GET that changes something"
        );
        assert_eq!(
            bed.post("/feed-service/follow").await.status(),
            200,
            "a route that is not listed"
        );
    }
    // A read is sent after everything that was answered before it.
    bed.both(DAY, &Canned::json("{}"));
    bed.post(DAY).await;
    bed.counted(DAY_ROUTE, "equal", 1).await;
    assert_eq!((bed.spring.seen().len(), bed.ours.seen().len()), (61, 1));

    let bed = Bed::new(copy_with_writes).await;
    bed.both(SAVE, &Canned::json("{\"success\":true}"));
    assert_eq!(bed.post(SAVE).await.status(), 200);
    bed.counted("POST /feed-service/saveFeed", "equal", 1).await;
    assert_eq!((bed.spring.seen().len(), bed.ours.seen().len()), (1, 1));
    bed.ours.answers(SAVE, Canned::json("{\"success\":false}"));
    bed.post(SAVE).await;
    bed.counted("POST /feed-service/saveFeed", "different", 1).await;
    assert_eq!(
        (bed.spring.seen().len(), bed.ours.seen().len()),
        (2, 2),
        "a write is not done again to confirm"
    );
}

#[tokio::test]
async fn writes_to_both_sides_and_moves_are_refused_unless_both_are_copies() {
    type Change = fn(&mut Options);
    let changes: [(&str, Change); 2] = [
        ("--writes", |options| options.writes = true),
        ("--move", |options| options.move_after = Some(5)),
    ];
    for (option, change) in changes {
        let folder = tempfile::tempdir().unwrap();
        let mut options = options("http://127.0.0.1:1", "http://127.0.0.1:1", folder.path());
        change(&mut options);
        let refused = mirror::start(options, &mirror::shared().unwrap()).await.unwrap_err();
        let refused = refused.to_string();
        assert!(refused.starts_with(option) && refused.contains("--copy"), "{refused}");
    }
}

/// A person who signs in at both sides has two tokens; each side is shown its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_side_is_shown_its_own_tokens() {
    const SIGN_IN: &str = "/auth-service/signIn";
    let bed = Bed::new(copy_with_writes).await;
    let signed = |token: &str| {
        let signed = Canned::json("{\"nickname\":\"kim\"}").header("authorization", &format!("Bearer {token}"));
        signed.header("email", "kim@example.com+kakao")
    };
    bed.spring.answers(SIGN_IN, signed("spring"));
    // The client is back with its token before ours has issued one.
    let (held, release) = signed("ours").held();
    bed.ours.answers(SIGN_IN, held);
    bed.both(DAY, &Canned::json("{}"));
    let answer = bed.post(SIGN_IN).await;
    assert_eq!(answer.headers()["authorization"], "Bearer spring");
    let read = bed.http.post(bed.url(DAY)).header("authorization", "Bearer spring");
    read.header("email", "kim@example.com+kakao").send().await.unwrap();
    release.send(true).unwrap();
    bed.counted(DAY_ROUTE, "equal", 1).await;
    assert_eq!(bed.spring.seen()[1].headers["authorization"], "Bearer spring");
    assert_eq!(bed.ours.seen()[1].headers["authorization"], "Bearer ours");
    bed.counted("POST /auth-service/signIn", "equal", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_or_broken_other_side_delays_no_answer() {
    let mut bed = Bed::new(|options| options.comparisons = 8).await;
    bed.spring.answers(DAY, Canned::json("{}"));
    let (held, _release) = Canned::json("{}").held();
    bed.ours.answers(DAY, held);
    for _ in 0..100 {
        assert_eq!(bed.post(DAY).await.status(), 200);
    }
    assert_eq!(bed.count(DAY_ROUTE, "dropped").await, 92, "eight have a place");

    // Its connections end, and nothing listens at its port.
    bed.ours = Backend::start();
    bed.counted(DAY_ROUTE, "oursUnanswered", 8).await;
    for _ in 0..20 {
        assert_eq!(bed.post(DAY).await.status(), 200);
        bed.settled(DAY_ROUTE).await;
    }
    assert_eq!(
        bed.lines("difference"),
        Vec::<Value>::new(),
        "no answer is no difference"
    );
}

/// The time of the other side is limited.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_side_times_out() {
    let bed = Bed::new(|options| options.timeout = Duration::from_millis(50)).await;
    bed.spring.answers(DAY, Canned::json("{}"));
    let (held, _release) = Canned::json("{}").held();
    bed.ours.answers(DAY, held);
    assert_eq!(bed.post(DAY).await.status(), 200);
    bed.counted(DAY_ROUTE, "oursUnanswered", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_are_streamed_and_large_ones_not_compared() {
    const SAVE: &str = "/feed-service/saveFeed";
    const CHUNK: usize = 64 * 1024;
    let bed = Bed::new(copy_with_writes).await;
    bed.both(SAVE, &Canned::json("{\"success\":true}"));
    let (chunks, body) = tokio::sync::mpsc::channel::<Vec<u8>>(1);
    let body = futures::stream::unfold(body, async |mut body| {
        Some((Ok::<_, std::io::Error>(body.recv().await?), body))
    });
    let body = axum::body::Body::from_stream(body);
    let upload = tokio::spawn({
        let (url, http) = (bed.url(SAVE), bed.http.clone());
        async move {
            let stream = sync_body::Sync::new(body);
            http.post(url).body(reqwest::Body::wrap(stream)).send().await.unwrap()
        }
    });
    let mut sent = 0;
    for _ in 0..32 {
        chunks.send(vec![b'x'; CHUNK]).await.unwrap();
        sent += CHUNK;
        eventually("the chunk arrives before the next is sent", async || {
            (bed.spring.received() == sent).then_some(())
        })
        .await;
    }
    drop(chunks);
    assert_eq!(upload.await.unwrap().status(), 200);
    bed.counted("POST /feed-service/saveFeed", "tooLarge", 1).await;
    assert_eq!(bed.ours.seen().len(), 0);

    // One whose length is announced is not copied at all, and a large answer is passed on whole.
    bed.http
        .post(bed.url(SAVE))
        .body(vec![b'x'; 300 * 1024])
        .send()
        .await
        .unwrap();
    bed.counted("POST /feed-service/saveFeed", "tooLarge", 2).await;
    let mut large = Canned::json("");
    large.body = vec![b'y'; 3 * 1024 * 1024].into();
    bed.both(DAY, &large);
    let answer = bed.post(DAY).await;
    assert_eq!(answer.content_length(), Some(3 * 1024 * 1024));
    assert_eq!(answer.bytes().await.unwrap(), large.body);
    bed.counted(DAY_ROUTE, "tooLarge", 1).await;
}

/// A body for reqwest, which wants one that can be shared.
mod sync_body {
    use std::pin::Pin;
    use std::sync::Mutex;
    use std::task::{Context, Poll};

    use axum::body::{Body, Bytes};
    use hyper::body::Frame;

    pub struct Sync(Mutex<Body>);

    impl Sync {
        pub fn new(body: Body) -> Self {
            Self(Mutex::new(body))
        }
    }

    impl hyper::body::Body for Sync {
        type Data = Bytes;
        type Error = axum::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
            Pin::new(self.0.get_mut().unwrap()).poll_frame(cx)
        }
    }
}

async fn socket(bed: &Bed) -> WebSocketStream<MaybeTlsStream<TcpStream>> {
    let url = format!("ws://{}/dm-service/connect-dm?nickname=kim", bed.address);
    let (socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    socket
}

/// Reads the next frame, a text.
async fn text(socket: &mut WebSocketStream<MaybeTlsStream<TcpStream>>) -> String {
    let next = tokio::time::timeout(PATIENCE, socket.next()).await;
    let frame = next.expect("a frame in time").expect("still open").expect("no error");
    frame.into_text().expect("a text").to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_are_passed_through() {
    let bed = Bed::new(|_| {}).await;
    let mut socket = socket(&bed).await;
    for sent in ["one", "two"] {
        socket.send(Message::text(sent)).await.unwrap();
        assert_eq!(text(&mut socket).await, sent);
    }
    socket.close(None).await.unwrap();
    assert_eq!(bed.spring.frames(), ["one", "two"]);
    assert_eq!(bed.ours.seen().len(), 0, "frames are writes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_reach_both_sides_and_those_of_both_are_compared() {
    let bed = Bed::new(copy_with_writes).await;
    let mut socket = socket(&bed).await;
    let frame = |text: &str| json!({"sender": "kim", "receiver": "lee", "date": 1, "text": text}).to_string();
    for sent in ["one", "two"].map(frame) {
        socket.send(Message::text(sent.as_str())).await.unwrap();
        assert_eq!(text(&mut socket).await, sent);
    }
    // A frame that is under way when the client leaves is compared as well.
    socket.send(Message::text(frame("late"))).await.unwrap();
    assert_eq!(text(&mut socket).await, frame("late"));
    socket.close(None).await.unwrap();
    bed.counted(DM_ROUTE, "framesEqual", 3).await;
    let report = bed.report().await["routes"][DM_ROUTE].clone();
    assert_eq!(
        (&report["equal"], &report["framesDifferent"]),
        (&json!(1), &json!(0)),
        "{report}"
    );
    for side in [&bed.spring, &bed.ours] {
        assert_eq!(side.frames(), ["one", "two", "late"].map(frame));
        assert_eq!(side.seen().len(), 1, "one handshake");
        assert!(!side.seen()[0].headers.contains_key("sec-websocket-extensions"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_differ_are_reported_by_field_and_the_client_gets_those_of_one_side() {
    let bed = Bed::new(|options| {
        copy_with_writes(options);
        // A frame waits that long for one of the other side, here in vain.
        options.timeout = Duration::from_secs(5);
    })
    .await;
    bed.spring.echoes("{\"date\":1,\"text\":\"secret\"}");
    bed.ours.echoes("{\"date\":2,\"text\":\"secret\",\"seq\":7}");
    let mut socket = socket(&bed).await;
    socket.send(Message::text("x")).await.unwrap();
    assert_eq!(text(&mut socket).await, "{\"date\":1,\"text\":\"secret\"}");
    bed.counted(DM_ROUTE, "framesDifferent", 1).await;
    let lines = eventually("a line", async || {
        Some(bed.lines("difference")).filter(|lines| !lines.is_empty())
    })
    .await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    let line = (&lines[0]["field"], &lines[0]["spring"], &lines[0]["ours"]);
    assert_eq!(line, (&json!("body.date"), &json!(1), &json!(2)));
}

/// The client's socket does not depend on the other side.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_works_when_the_other_side_is_unavailable() {
    let mut bed = Bed::new(copy_with_writes).await;
    bed.ours = Backend::start();
    let mut socket = socket(&bed).await;
    for _ in 0..500 {
        socket.send(Message::text("x")).await.unwrap();
        assert_eq!(text(&mut socket).await, "x");
    }
    bed.counted(DM_ROUTE, "oursUnanswered", 1).await;
    assert_eq!(bed.spring.frames().len(), 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_answering_side_requests_are_refused() {
    let mut bed = Bed::new(|_| {}).await;
    bed.both(DAY, &Canned::json("{}"));
    bed.post(DAY).await;
    bed.spring = Backend::start();
    let answer = eventually("the port is closed", async || {
        Some(bed.post(DAY).await).filter(|answer| answer.status() == 502)
    })
    .await;
    assert_eq!(answer.headers()["retry-after"], "1");
    let problem = answer.text().await.unwrap();
    assert!(
        problem.contains("upstream-unavailable") && !problem.contains("127.0.0.1"),
        "{problem}"
    );
    bed.stop().await;
}
