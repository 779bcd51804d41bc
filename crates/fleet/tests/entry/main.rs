//! The local entry in front of a running fleet: everything of the app through one address, the operator's API with the operator token,
//! and nothing else.

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::read::GzDecoder;
use futures::StreamExt as _;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sosohappy_common::Context;
use sosohappy_common::settings::Events;
use sosohappy_events::{Outgoing, Topic};
use sosohappy_fleet::app::{Addresses, NewPost, Phone};
use sosohappy_fleet::people::{self, Console, Crowd};
use sosohappy_testkit::{Cluster, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

const ORIGIN: &str = "http://localhost:5173";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_serves_the_app() {
    let binaries = Path::new(env!("CARGO_BIN_EXE_fleet")).parent().expect("a folder");
    let fleet = Cluster::embedded_with(binaries, &[("SOSOHAPPY_ENTRY_ORIGINS", ORIGIN)]).await;
    let entry = format!("http://127.0.0.1:{}", fleet.entry);
    let addresses = Addresses::behind(&entry);
    sosohappy_fleet::demo::run(addresses.clone())
        .await
        .expect("the demo succeeds");

    the_log_warns_of_missing_proof_and_has_the_codes(&fleet, &entry).await;
    the_console_is_served(&entry).await;
    management_and_config_are_not_reachable(fleet.entry).await;
    pages_of_allowed_origins_may_call(&entry).await;
    an_early_answer_arrives(fleet.entry).await;
    a_notice_of_the_operators_arrives(&fleet, addresses.clone()).await;
    a_browser_opens_a_socket(&entry, addresses).await;
}

/// `fleet system-notice`.
async fn a_notice_of_the_operators_arrives(fleet: &Cluster, addresses: Addresses) {
    let mut phone = Phone::new(addresses, "told@example.com", "google").unwrap();
    phone.sign_in().await.unwrap();
    let picture = sosohappy_fleet::demo::picture(0);
    phone.set_profile("told", "hello", &picture).await.unwrap();
    let mut socket = phone.resume_notice(0).await.unwrap();
    let auth = format!("http://127.0.0.1:{}", fleet.replicas[0].auth);
    let account = phone.account().unwrap().parse().unwrap();
    sosohappy_fleet::system_notice::run(&auth, &fleet.operator_token, &account, "Maintenance", "at 3")
        .await
        .unwrap();
    let frame: Value = serde_json::from_str(&socket.text().await.unwrap()).unwrap();
    assert_eq!(
        (&frame["topic"], &frame["data"]["title"], &frame["data"]["text"]),
        (&json!("system"), &json!("Maintenance"), &json!("at 3"))
    );
    let refused = sosohappy_fleet::system_notice::run(&auth, &fleet.operator_token, &account, " ", "at 3").await;
    assert_eq!(
        refused.unwrap_err().to_string(),
        "auth answered 400 Bad Request: Invalid parameter: title: one line with at least one visible character"
    );
}

/// The launcher accepts sign-ins without proof and mails to the log: both are logged as warnings, and a code from the log signs up.
async fn the_log_warns_of_missing_proof_and_has_the_codes(fleet: &Cluster, entry: &str) {
    let lines = || -> Vec<Value> {
        let log = fleet.logs();
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    let warned = |message: &str, provider: &Value| {
        lines().iter().any(|line| {
            let is_message = line["message"].as_str().is_some_and(|text| text.starts_with(message));
            is_message && line["level"] == "WARN" && line["provider"] == *provider
        })
    };
    for provider in ["apple", "google", "kakao"] {
        assert!(warned("sign-in without proof: ", &json!(provider)), "{provider}");
    }
    assert!(warned("mails are written to the log with their codes", &Value::Null));

    let post = async |call: &str, fields: &[(&str, &str)]| {
        let client = sosohappy_common::tls::client();
        let request = client.post(format!("{entry}/auth-service/{call}")).form(fields);
        request.send().await.expect("the entry answers")
    };
    let address = "reader-of-the-log@example.com";
    let asked = post("requestEmailCode", &[("email", address)]).await;
    assert_eq!(asked.status(), StatusCode::OK);
    let code = eventually("the code is in the log", async || {
        let lines = lines();
        let line = lines.iter().find(|line| line["message"] == "mail with a code");
        let line = line.filter(|line| line["to"] == address)?;
        Some(line["code"].as_str()?.to_owned())
    })
    .await;
    let fields = [
        ("email", address),
        ("code", code.as_str()),
        ("password", "plain battery horse moon"),
    ];
    let signed_up = post("signUp", &fields).await;
    assert_eq!(signed_up.status(), StatusCode::OK);
    assert!(signed_up.headers().contains_key("authorization-refresh"));
}

/// Returns the body of a call that must succeed; `null` where it is empty.
async fn operated(fleet: &Cluster, method: Method, path: &str, body: Option<Value>) -> Value {
    let (status, text) = fleet.operate(method, path, body).await;
    assert!(status.is_success(), "{path}: {status} {text}");
    if text.is_empty() {
        return Value::Null;
    }
    serde_json::from_str(&text).expect("JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_use_the_entry_with_their_token() {
    let binaries = Path::new(env!("CARGO_BIN_EXE_fleet")).parent().expect("a folder");
    let mut fleet = Cluster::embedded(binaries).await;

    let client = sosohappy_common::tls::client();
    let address = format!(
        "http://127.0.0.1:{}/operator/config-service/config-service/convergence",
        fleet.entry
    );
    for request in [
        client.get(&address),
        client.get(&address).bearer_auth("forged"),
        // A browser repeats Basic by itself: the services take it, the entry does not.
        client.get(&address).basic_auth("operator", Some(&fleet.operator_token)),
        client.get(format!("http://127.0.0.1:{}/operator/dead-letters", fleet.entry)),
    ] {
        let answer = request
            .header("origin", ORIGIN)
            .send()
            .await
            .expect("the entry answers");
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        assert!(answer.headers().get("access-control-allow-origin").is_none());
    }
    assert_eq!(
        fleet
            .operate(Method::GET, "payroll-service/actuator/health", None)
            .await
            .0,
        StatusCode::NOT_FOUND
    );

    let convergence = operated(&fleet, Method::GET, "config-service/config-service/convergence", None).await;
    assert!(convergence["version"].is_string(), "{convergence}");
    let (_, metrics) = fleet
        .operate(Method::GET, "feed-service/actuator/prometheus", None)
        .await;
    assert!(
        metrics.contains(r#"outbox_relay_leading{application="feed-service"}"#),
        "{metrics}"
    );
    let pending = operated(
        &fleet,
        Method::GET,
        "auth-service/auth-service/pendingResignations",
        None,
    )
    .await;
    assert_eq!(pending, json!({"count": 0, "content": []}));
    let flag = json!({"name": "flags.new-year", "value": "true"});
    operated(&fleet, Method::POST, "config-service/actuator/busenv", Some(flag)).await;

    a_crowd_is_reported(&fleet).await;
    a_sign_out_is_traced_through_the_services(&fleet).await;
    a_like_is_traced_to_its_frame_and_push(&fleet).await;
    a_message_is_traced_to_its_frame(&fleet).await;
    publish_a_record_that_cannot_be_read(&mut fleet).await;
    let listed = async |fleet: &Cluster| operated(fleet, Method::GET, "dead-letters", None).await;
    let letters = eventually("the record is a dead letter", async || {
        let letters = listed(&fleet).await;
        (letters["count"] == 1).then_some(letters)
    })
    .await;
    let letter = &letters["content"][0];
    let group = letter["group"].as_str().expect("a group");
    assert!(group.starts_with("notice-service."), "{letter}");
    assert!(
        letter["reason"].is_string() && letter["rejectedAt"].is_string(),
        "{letter}"
    );
    let id = letter["id"].as_str().expect("an id");
    let resolve = async |ids: Value, resolution: &str| {
        let body = json!({"ids": ids, "resolution": resolution});
        fleet.operate(Method::POST, "dead-letters", Some(body)).await.0
    };
    assert_eq!(resolve(json!([]), "replayed").await, StatusCode::BAD_REQUEST);
    assert_eq!(
        resolve(json!(["noticeLike"]), "replayed").await,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(resolve(json!([id]), "forgotten").await, StatusCode::BAD_REQUEST);
    assert_eq!(
        resolve(json!([id, "resign/0/99"]), "replayed").await,
        StatusCode::CONFLICT
    );
    assert_eq!(listed(&fleet).await, letters, "a refused call changes nothing");

    assert_eq!(resolve(json!([id]), "replayed").await, StatusCode::OK);
    let again = eventually("the replayed record is a dead letter again", async || {
        let letters = listed(&fleet).await;
        let is_another = letters["count"] == 1 && letters["content"][0]["id"] != id;
        is_another.then(|| letters["content"][0]["id"].clone())
    })
    .await;
    assert_eq!(resolve(json!([again]), "discarded").await, StatusCode::OK);
    assert_eq!(listed(&fleet).await, json!({"count": 0, "content": []}));
}

/// `fleet demo --people` reports its counts; the newest report is shown.
async fn a_crowd_is_reported(fleet: &Cluster) {
    assert_eq!(operated(fleet, Method::GET, "crowd", None).await, Value::Null);
    let crowd = Crowd {
        people: 2,
        rate: const { NonZeroU32::new(5).unwrap() },
        length: Some(Duration::from_secs(1)),
    };
    let entry = format!("http://127.0.0.1:{}", fleet.entry);
    let console = Console::new(&entry, fleet.operator_token.clone());
    let run = people::run(Addresses::behind(&entry), crowd, Some(console));
    run.await.expect("every promise is kept");
    let shown = operated(fleet, Method::GET, "crowd", None).await;
    assert_eq!(
        (&shown["people"], &shown["isOver"]),
        (&json!(2), &json!(true)),
        "{shown}"
    );
    let summary = &shown["summary"];
    // On a busy machine a crowd does one thing within its second: a message is no call.
    let done = summary["calls"]
        .as_u64()
        .max(summary["messages"]["acknowledged"].as_u64());
    assert!(shown["reportedAt"].is_string() && done > Some(0), "{shown}");
    assert_eq!(
        summary["messages"]["acknowledged"], summary["messages"]["seen"],
        "{shown}"
    );
    let (status, problem) = fleet.operate(Method::POST, "crowd", Some(json!({"people": -1}))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{problem}");
    assert_eq!(
        operated(fleet, Method::GET, "crowd", None).await,
        shown,
        "a refused report changes nothing"
    );
}

/// Each process keeps the spans of a request, of the publishing of its events, and of their consumption.
async fn a_sign_out_is_traced_through_the_services(fleet: &Cluster) {
    let entry = format!("http://127.0.0.1:{}", fleet.entry);
    let mut kim = Phone::new(Addresses::behind(&entry), "kim@example.com", "kakao").expect("a phone");
    kim.sign_in().await.expect("kim signs in");
    let tokens = kim.tokens.expect("kim is signed in");
    let client = sosohappy_common::tls::client();
    let sign_out = client.post(format!("{entry}/auth-service/signOut"));
    let signed = sign_out
        .header("authorization", tokens.access)
        .header("email", tokens.account);
    let answer = signed.header("x-request-id", "sign-out-of-kim").send().await;
    assert_eq!(answer.expect("the entry answers").status(), StatusCode::OK);

    let spans = async |service: &str, id: &str| {
        let found = operated(fleet, Method::GET, &format!("{service}/actuator/traces/{id}"), None).await;
        found["spans"].as_array().expect("spans").clone()
    };
    let consumed = eventually("feed has consumed the event of the sign-out", async || {
        let found = spans("feed-service", "sign-out-of-kim").await;
        let of_event = |span: &&Value| span["name"] == "consume" && span["fields"].to_string().contains("expired");
        found.iter().find(of_event).cloned()
    })
    .await;
    let trace = consumed["traceId"].as_str().expect("a trace id");
    // The span of publishing ends with the acknowledgement of the broker, which consumers do not wait for.
    let of_auth = eventually("auth has published the event", async || {
        let found = spans("auth-service", trace).await;
        let published = found.iter().any(|span| span["name"] == "publish");
        published.then_some(found)
    })
    .await;
    assert_eq!(of_auth[0]["name"], "request", "{of_auth:?}");
    assert_eq!(of_auth[0]["requestId"], "sign-out-of-kim");
    let shown = format!("{of_auth:?} {consumed:?}");
    assert!(
        shown.contains("/auth-service/signOut"),
        "the log line of the request: {shown}"
    );
    assert!(!shown.contains("kim@"), "no personal data: {shown}");
    assert!(spans("feed-service", "another").await.is_empty());
}

/// The points on the way of a notice, each with the service that measures it.
const HOPS: [(&str, &str); 6] = [
    ("feed-service", "committed"),
    ("feed-service", "published"),
    ("notice-service", "consumed"),
    ("notice-service", "written"),
    ("notice-service", "acknowledged"),
    ("notice-service", "pushed"),
];

/// Returns how many notices have reached each of [`HOPS`].
async fn reached(fleet: &Cluster) -> Vec<u64> {
    let mut counts = Vec::new();
    for (service, hop) in HOPS {
        let path = format!("{service}/actuator/prometheus");
        let (_, metrics) = fleet.operate(Method::GET, &path, None).await;
        let series = format!(r#"notice_delivery_seconds_count{{hop="{hop}","#);
        let line = metrics.lines().find(|line| line.starts_with(&series)).expect(hop);
        let count = line.rsplit(' ').next().and_then(|count| count.parse().ok());
        counts.push(count.expect("a count"));
    }
    counts
}

/// From the call of the liker to the frame of version 2 and to the answer of the push provider: the author's client acknowledges the frame after that.
/// Each point on the way is in the histogram.
async fn a_like_is_traced_to_its_frame_and_push(fleet: &Cluster) {
    let entry = format!("http://127.0.0.1:{}", fleet.entry);
    let mut people = Vec::new();
    for name in ["author", "liker"] {
        let mut phone =
            Phone::new(Addresses::behind(&entry), &format!("{name}@example.com"), "kakao").expect("a phone");
        phone.sign_in().await.expect("signs in");
        let picture = sosohappy_fleet::demo::picture(0);
        phone.set_profile(name, "hello", &picture).await.expect("has a profile");
        people.push(phone);
    }
    let posts = [5, 6, 7].map(|day| NewPost {
        date: 2_023_090_013_248_392 + day * 100_000_000,
        text: "a small happiness",
        pictures: &[],
    });
    for post in &posts {
        eventually("the post is saved", async || people[0].save_post(post).await.ok()).await;
    }
    let opened = eventually("the socket opens", async || people[0].resume_notice(0).await.ok());
    let mut socket = opened.await;
    let before = reached(fleet).await;
    let tokens = people[1].tokens.as_ref().expect("signed in");
    let like = async |post: &NewPost<'_>, id: &str| {
        let date = post.date.to_string();
        let like = sosohappy_common::tls::client()
            .post(format!("{entry}/feed-service/updateLike"))
            .form(&[("srcNickname", "liker"), ("nickname", "author"), ("date", &date)])
            .header("authorization", &tokens.access)
            .header("email", &tokens.account)
            .header("x-request-id", id);
        assert_eq!(like.send().await.expect("the entry answers").status(), StatusCode::OK);
    };
    like(&posts[0], "like-of-liker").await;
    let frame: Value = serde_json::from_str(&socket.text().await.expect("a frame")).expect("JSON");
    assert_eq!(frame["topic"], "like", "{frame}");
    let spans = async |service: &str, id: &str| {
        let found = operated(fleet, Method::GET, &format!("{service}/actuator/traces/{id}"), None).await;
        found["spans"].as_array().expect("spans").clone()
    };
    let push = eventually("notice has pushed the like", async || {
        let found = spans("notice-service", "like-of-liker").await;
        found.iter().find(|span| span["name"] == "push").cloned()
    })
    .await;
    let trace = push["traceId"].as_str().expect("a trace id");
    for (service, name) in [
        ("feed-service", "request"),
        ("feed-service", "publish"),
        ("notice-service", "consume"),
    ] {
        let found = spans(service, trace).await;
        assert!(
            found.iter().any(|span| span["name"] == name),
            "{name} of {service}: {found:?}"
        );
    }
    let ack = json!({"topic": "ack", "seq": frame["seq"]});
    socket.send(&ack).await.expect("the socket is open");
    eventually("each point on the way has counted the like", async || {
        let now = reached(fleet).await;
        before.iter().zip(&now).all(|(before, now)| now > before).then_some(())
    })
    .await;
    // The number of a frame that is not the first one follows: it is written without a read of the inbox. A look that the socket makes by itself
    // may find one before: its writing is part of no trace.
    let mut is_traced = false;
    for (number, post) in posts[1..].iter().enumerate() {
        let id = format!("like-of-liker-{number}");
        like(post, &id).await;
        socket.text().await.expect("a frame");
        let written = eventually("the frame is written", async || {
            let found = spans("notice-service", &id).await;
            found.iter().any(|span| span["name"] == "write").then_some(())
        });
        is_traced |= tokio::time::timeout(Duration::from_secs(2), written).await.is_ok();
    }
    assert!(is_traced, "no writing of a frame is part of the trace of its like");
}

/// From the frame of the sender, which begins the trace, to its writing to a socket of the receiver.
async fn a_message_is_traced_to_its_frame(fleet: &Cluster) {
    let entry = format!("http://127.0.0.1:{}", fleet.entry);
    let mut sockets = Vec::new();
    for name in ["sender", "receiver"] {
        let mut phone =
            Phone::new(Addresses::behind(&entry), &format!("{name}@example.com"), "kakao").expect("a phone");
        phone.sign_in().await.expect("signs in");
        let picture = sosohappy_fleet::demo::picture(2);
        phone.set_profile(name, "hello", &picture).await.expect("has a profile");
        let opened = eventually("the socket opens", async || phone.resume_dm(0).await.ok());
        sockets.push(opened.await);
    }
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let message = json!({
        "topic": "message",
        "id": "message-of-sender",
        "traceparent": format!("00-{trace}-00f067aa0ba902b7-01"),
        "data": {"receiver": "receiver", "text": "by the bridge"},
    });
    eventually("the message is accepted", async || {
        sockets[0].send(&message).await.expect("the socket is open");
        loop {
            let answer = sockets[0].text().await.expect("an answer");
            let answer: Value = serde_json::from_str(&answer).expect("JSON");
            match answer["topic"].as_str() {
                Some("accepted") => return Some(()),
                Some("error" | "rejected") => return None,
                _ => {}
            }
        }
    })
    .await;
    while !sockets[1].text().await.expect("a frame").contains("by the bridge") {}
    let found = eventually("the frames are written", async || {
        let path = format!("dm-service/actuator/traces/{trace}");
        let found = operated(fleet, Method::GET, &path, None).await;
        let spans = found["spans"].as_array().expect("spans").clone();
        let has = |name: &str| spans.iter().any(|span| span["name"] == name);
        let steps = ["frame", "admit", "store", "publish", "consume", "write"];
        steps.into_iter().all(has).then_some(spans)
    })
    .await;
    assert_eq!(
        (&found[0]["name"], &found[0]["traceId"]),
        (&json!("frame"), &json!(trace))
    );
    let shown = format!("{found:?}");
    assert!(
        !shown.contains("bridge") && !shown.contains('@'),
        "no personal data: {shown}"
    );
}

/// Writes a malformed record to the journal while the fleet is down.
async fn publish_a_record_that_cannot_be_read(fleet: &mut Cluster) {
    fleet.kill("fleet");
    let journal = fleet.folder().join("data").join("events.db");
    let events = Events::new(&format!("journal:{}", journal.display()), "");
    let bus = sosohappy_bus::open(&events, &Context::system("test-service", 0)).await;
    let record = Outgoing {
        topic: Topic::NoticeLike.default_name().to_owned(),
        key: Some("kim@example.com+kakao".to_owned()),
        value: Some(b"{".to_vec()),
        headers: Vec::new(),
    };
    bus.expect("the journal opens")
        .publish(&[record])
        .await
        .expect("published");
    fleet.restart("fleet").await;
}

/// Sends a request as bytes, since clients resolve dot segments themselves, and returns the status.
async fn status_of(port: u16, request: &str) -> u16 {
    let mut connection = TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("the entry listens");
    connection.write_all(request.as_bytes()).await.expect("the entry reads");
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.expect("the entry answers");
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("no status in {answer:?}"))
}

async fn the_console_is_served(entry: &str) {
    let client = sosohappy_common::tls::client();
    let page = client.get(entry).send().await.expect("the entry answers");
    assert_eq!(page.status(), StatusCode::OK);
    assert_eq!(page.headers()["content-type"], "text/html");
    let policies: Vec<_> = page.headers().get_all("content-security-policy").iter().collect();
    // Without a `script-src` and a `style-src`, scripts and styles come from the console's own files only, never inline.
    assert_eq!(
        policies,
        [
            "default-src 'self'; img-src 'self' blob: data:; connect-src 'self'; object-src 'none'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'"
        ]
    );
    let tag = page.headers()["etag"].clone();
    let again = client.get(entry).header("if-none-match", tag).send().await;
    assert_eq!(again.expect("the entry answers").status(), StatusCode::NOT_MODIFIED);
    let script = client.get(format!("{entry}/main.js")).send().await;
    assert_eq!(
        script.expect("the entry answers").headers()["content-type"],
        "text/javascript"
    );
    let posted = client.post(entry).send().await.expect("the entry answers");
    assert_eq!(posted.status(), StatusCode::NOT_FOUND);
    the_console_is_compressed(entry).await;
}

async fn the_console_is_compressed(entry: &str) {
    let client = sosohappy_common::tls::client();
    let ask = async |accepted: &str, known: &str| {
        let request = client
            .get(format!("{entry}/vendor/uplot.js"))
            .header("accept-encoding", accepted)
            .header("if-none-match", known);
        request.send().await.expect("the entry answers")
    };
    let plain = ask("gzip;q=0", "").await;
    assert!(plain.headers().get("content-encoding").is_none());
    assert_eq!(plain.headers()["vary"], "accept-encoding");
    let tag = plain.headers()["etag"].to_str().expect("text").to_owned();
    let plain = plain.bytes().await.expect("the file arrives");

    let compressed = ask("gzip, br", &tag).await;
    assert_eq!(
        compressed.status(),
        StatusCode::OK,
        "the tag is of another representation"
    );
    assert_eq!(compressed.headers()["content-encoding"], "gzip");
    let tag = compressed.headers()["etag"].to_str().expect("text").to_owned();
    let compressed = compressed.bytes().await.expect("the file arrives");
    assert!(compressed.len() < plain.len() / 2, "{} bytes", compressed.len());
    let mut read = Vec::new();
    std::io::Read::read_to_end(&mut GzDecoder::new(&compressed[..]), &mut read).expect("gzip");
    assert_eq!(read, plain);
    for known in [&tag[..], &format!("W/{tag}"), &format!("\"other\", {tag}"), "*"] {
        assert_eq!(ask("gzip", known).await.status(), StatusCode::NOT_MODIFIED, "{known}");
    }
}

async fn management_and_config_are_not_reachable(port: u16) {
    for path in [
        "/actuator/health",
        "/config-service/feed-config/default",
        "/auth-service/../actuator/health",
        "/auth-service/%2e%2E/actuator/health",
        "/auth-service/./../actuator/health",
        "//actuator/health",
        "/auth-service",
        "/payroll-service/a",
        "/jsconfig.json",
        "/../Cargo.toml",
        "/%2e%2e/Cargo.toml",
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: fleet\r\nconnection: close\r\n\r\n");
        assert_eq!(status_of(port, &request).await, 404, "{path}");
    }
    let known = "GET /feed-service/openapi.json HTTP/1.1\r\nhost: fleet\r\nconnection: close\r\n\r\n";
    assert_eq!(status_of(port, known).await, 200);
}

async fn pages_of_allowed_origins_may_call(entry: &str) {
    let client = sosohappy_common::tls::client();
    for (origin, allowed) in [(ORIGIN, Some(ORIGIN)), ("http://evil.example", None)] {
        let preflight = client
            .request(Method::OPTIONS, format!("{entry}/feed-service/findDayFeed"))
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,email")
            .send()
            .await
            .expect("the entry answers");
        assert_eq!(preflight.status(), StatusCode::OK);
        let header = preflight.headers().get("access-control-allow-origin");
        assert_eq!(header.map(|origin| origin.to_str().unwrap()), allowed);
    }
}

/// A service refuses an upload before it has read it; the status passes the entry.
async fn an_early_answer_arrives(port: u16) {
    let head = "POST /feed-service/saveFeed HTTP/1.1\r\nhost: fleet\r\nauthorization: Bearer expired\r\nemail: kim@example.com+kakao\r\n\
                content-type: application/octet-stream\r\ncontent-length: 5000000\r\nconnection: close\r\n\r\n";
    let request = format!("{head}{}", "x".repeat(5_000_000));
    assert_eq!(status_of(port, &request).await, 403);
}

/// A browser cannot set headers of a handshake: it signs in by subprotocols.
async fn a_browser_opens_a_socket(entry: &str, addresses: Addresses) {
    let mut mina = Phone::new(addresses, "mina@example.com", "apple").expect("a phone");
    mina.sign_in().await.expect("mina signs in");
    let picture = sosohappy_fleet::demo::picture(1);
    mina.set_profile("mina", "hi", &picture).await.expect("a profile");
    let tokens = mina.tokens.clone().expect("mina is signed in");
    let bearer = tokens.access.trim_start_matches("Bearer ");
    for (token, status) in [(bearer, 101), ("forged", 403)] {
        let url = format!(
            "ws{}/notice-service/connect-notice?nickname=mina",
            entry.trim_start_matches("http")
        );
        let mut request = url.into_client_request().expect("a URL");
        let offered = format!(
            "sosohappy, bearer.{}, email.{}",
            URL_SAFE_NO_PAD.encode(token),
            URL_SAFE_NO_PAD.encode(&tokens.account)
        );
        request
            .headers_mut()
            .insert("sec-websocket-protocol", offered.parse().expect("a header"));
        match tokio_tungstenite::connect_async(request).await {
            Ok((mut socket, response)) => {
                assert_eq!(response.status().as_u16(), status);
                assert_eq!(response.headers()["sec-websocket-protocol"], "sosohappy");
                socket.close(None).await.expect("the socket is open");
                while let Some(Ok(_)) = socket.next().await {}
            }
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
                assert_eq!(response.status().as_u16(), status);
            }
            Err(error) => panic!("{error}"),
        }
    }
}
