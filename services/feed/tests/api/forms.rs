//! Requests as different clients write them, sent as bytes over a connection of their own.

use serde_json::Value;
use sosohappy_testkit::{Bed, Person, on_both_engines};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Feed, PNG};

on_both_engines!(
    a_multipart_boundary_need_not_be_quoted,
    a_field_may_be_sent_as_a_blob,
    empty_parameters_are_absent,
    uploads_in_progress_of_an_account_are_limited,
);

const DATE: &str = "2023090513248392";

/// A connection on which one request is sent in pieces.
pub(crate) struct Connection(TcpStream);

impl Connection {
    pub(crate) async fn open(feed: &Feed) -> Self {
        let address = feed.running.url.trim_start_matches("http://");
        Self(TcpStream::connect(address).await.expect("feed listens"))
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("feed reads");
    }

    /// Sends the head of a `saveFeed` and the whole of `body`, or its beginning.
    pub(crate) async fn save_feed(&mut self, who: &Person, content_type: &str, length: usize, body: &[u8]) {
        let head = save_feed_head(who, content_type, length);
        self.send(&[head.as_bytes(), b"\r\n", body].concat()).await;
    }

    /// Sends the head of a `saveFeed`, waits until feed asks for the body, and sends the beginning of it.
    async fn begin_save_feed(&mut self, who: &Person, content_type: &str, length: usize, beginning: &[u8]) {
        let head = save_feed_head(who, content_type, length);
        self.send(format!("{head}expect: 100-continue\r\n\r\n").as_bytes())
            .await;
        let mut interim = *b"HTTP/1.1 100 Continue\r\n\r\n";
        let expected = interim;
        self.0.read_exact(&mut interim).await.expect("feed answers");
        assert_eq!(interim, expected, "{}", String::from_utf8_lossy(&interim));
        self.send(beginning).await;
    }

    /// Returns status, head and body of the answer.
    pub(crate) async fn answer(mut self) -> (u16, String, String) {
        let mut answer = Vec::new();
        self.0.read_to_end(&mut answer).await.expect("feed answers");
        let answer = String::from_utf8(answer).expect("answers are UTF-8");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a whole head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.expect("a status line"), head.to_lowercase(), body.to_owned())
    }
}

/// The head of a `saveFeed` without the empty line that ends it.
fn save_feed_head(who: &Person, content_type: &str, length: usize) -> String {
    format!(
        "POST /feed-service/saveFeed HTTP/1.1\r\nhost: feed\r\nauthorization: Bearer {}\r\nemail: {}\r\ncontent-type: \
         {content_type}\r\ncontent-length: {length}\r\nconnection: close\r\n",
        who.token,
        who.account.as_str(),
    )
}

/// A multipart body of one post: each field with the headers of its part, then a picture.
fn form(boundary: &str, fields: &[(&str, &str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (disposition, more, value) in fields {
        let part = format!("--{boundary}\r\ncontent-disposition: form-data; {disposition}\r\n{more}\r\n{value}\r\n");
        body.extend_from_slice(part.as_bytes());
    }
    let picture = format!(
        "--{boundary}\r\ncontent-disposition: form-data; name=\"imageList\"; filename=\"a.png\"\r\ncontent-type: image/png\r\n\r\n"
    );
    body.extend_from_slice(picture.as_bytes());
    body.extend_from_slice(&PNG);
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    body
}

const FIELDS: [(&str, &str, &str); 7] = [
    ("name=\"nickname\"", "", "kim"),
    ("name=\"date\"", "", DATE),
    ("name=\"weather\"", "", "sunny"),
    ("name=\"happiness\"", "", "5"),
    ("name=\"categoryList\"", "", "sea"),
    ("name=\"text\"", "", "오늘"),
    ("name=\"isPublic\"", "", "true"),
];

/// Returns the post that was saved.
async fn saved(feed: &Feed, who: &Person) -> Value {
    let params = [("nickname", who.nickname.as_str()), ("date", DATE)];
    let (status, body) = feed.post(who, "findDayFeed", &params).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).expect("a post is JSON")
}

/// As React Native on iOS and `JavaMail` send it: RFC 2046 asks for quotes around a boundary with `/` or `=`.
async fn a_multipart_boundary_need_not_be_quoted(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let boundary = "-Xr/dc=2";
    let body = form(boundary, &FIELDS);
    let mut connection = Connection::open(&feed).await;
    let content_type = format!("multipart/form-data; boundary={boundary}");
    connection.save_feed(&kim, &content_type, body.len(), &body).await;
    let (status, _, answer) = connection.answer().await;
    assert_eq!(status, 200, "{answer}");
    let post = saved(&feed, &kim).await;
    assert_eq!(
        (&post["text"], post["imageIdList"].as_array().map(Vec::len)),
        (&"오늘".into(), Some(1))
    );
}

/// As `FormData` sends `new Blob([…])`: a part with a file name whose type is text or JSON.
async fn a_field_may_be_sent_as_a_blob(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let mut fields = FIELDS;
    fields[3] = (
        "name=\"happiness\"; filename=\"blob\"",
        "content-type: application/json\r\n",
        "7",
    );
    fields[4] = (
        "name=\"categoryList\"; filename=\"blob\"",
        "content-type: application/json\r\n",
        "[\"sea\",\"rain\"]",
    );
    fields[5] = (
        "name=\"text\"; filename=\"blob\"",
        "content-type: text/plain;charset=UTF-8\r\n",
        "바다",
    );
    let body = form("x", &fields);
    let mut connection = Connection::open(&feed).await;
    let content_type = "multipart/form-data; boundary=x";
    connection.save_feed(&kim, content_type, body.len(), &body).await;
    let (status, _, answer) = connection.answer().await;
    assert_eq!(status, 200, "{answer}");
    let post = saved(&feed, &kim).await;
    assert_eq!(
        (&post["happiness"], &post["text"], &post["categoryList"]),
        (&7.into(), &"바다".into(), &serde_json::json!(["sea", "rain"]))
    );
}

/// As Spring binds them: an optional number or date that is empty, or null in JSON, is absent.
async fn empty_parameters_are_absent(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    feed.save(&lee, DATE, "3", "sea").await;
    let date: i64 = DATE.parse().expect("16 digits");
    for params in [
        [("nickname", "kim"), ("date", ""), ("page", ""), ("size", "")],
        [("nickname", "kim"), ("date", DATE), ("page", ""), ("size", "")],
    ] {
        let (status, body) = feed.get(&kim, "findOtherFeed", &params).await;
        assert_eq!(status, 200, "{params:?}: {body}");
        assert_eq!(super::dates(&body), [date], "{params:?}");
    }
    let null = serde_json::json!({"nickname": "kim", "date": null, "page": null, "size": null, "cursor": null});
    let call = feed.client.get(feed.at("findOtherFeed")).json(&null);
    let (status, body) = super::read(kim.sign(call)).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(super::dates(&body), [date]);
    let (status, body) = feed
        .post(&kim, "findDayFeed", &[("nickname", "kim"), ("date", "")])
        .await;
    assert_eq!(status, 400, "a required parameter that is empty is missing: {body}");
}

/// The bodies of two uploads are held back: no other upload of the account is read meanwhile, and each that ends admits the next.
async fn uploads_in_progress_of_an_account_are_limited(bed: Bed) {
    let more = [
        ("rate-limits.per-account.uploads-at-once", "2"),
        ("access.introspection-timeout", "10s"),
    ];
    let feed = Feed::start_with(&bed, &more).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    // Known to feed before, so that the uploads below begin at once.
    for person in [&kim, &lee] {
        assert_eq!(feed.sees(person).await, [] as [i64; 0]);
    }
    let content_type = "multipart/form-data; boundary=x";
    let body = form("x", &FIELDS);
    let (first, rest) = body.split_at(200);
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut connection = Connection::open(&feed).await;
        connection.begin_save_feed(&kim, content_type, body.len(), first).await;
        held.push(connection);
    }
    let mut third = Connection::open(&feed).await;
    third.save_feed(&kim, content_type, body.len(), &body).await;
    let refused = third.answer().await;
    assert_eq!(refused.0, 429, "{refused:?}");
    assert!(refused.1.contains("retry-after: 1"), "{refused:?}");
    assert!(refused.2.contains(r#""code":"rate-limited""#), "{refused:?}");
    feed.save(&lee, DATE, "3", "sea").await;

    let mut ending = held.pop().expect("two are held");
    ending.send(rest).await;
    let (status, _, answer) = ending.answer().await;
    assert_eq!(status, 200, "{answer}");
    feed.save(&kim, DATE, "3", "sea").await;

    // A connection that breaks ends its upload.
    let mut connection = Connection::open(&feed).await;
    connection.begin_save_feed(&kim, content_type, body.len(), first).await;
    drop((connection, held));
    sosohappy_testkit::eventually("uploads of broken connections have ended", async || {
        let mut connection = Connection::open(&feed).await;
        connection.save_feed(&kim, content_type, body.len(), &body).await;
        (connection.answer().await.0 == 200).then_some(())
    })
    .await;
}
