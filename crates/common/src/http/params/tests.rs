use axum::body::Body;
use axum::response::IntoResponse as _;
use futures::{StreamExt as _, TryStreamExt as _};
use http::{HeaderMap, Method, StatusCode, header};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::json;

use super::*;
use crate::http::body_limit::BodyLimits;
use crate::http::request_limits::RequestLimits;

const BOUNDARY: &str = "XoXoBoundary";

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Post {
    nickname: String,
    date: i64,
    is_public: bool,
    ratio: f64,
    #[serde(default)]
    tags: Vec<String>,
    note: Option<String>,
}

type Texts = Vec<(String, String)>;

impl Post {
    /// As a form or query string says it; `indexed` is how it writes its list.
    fn texts(&self, indexed: bool) -> Texts {
        let mut texts = vec![
            ("nickname".to_owned(), self.nickname.clone()),
            ("date".to_owned(), self.date.to_string()),
            ("isPublic".to_owned(), self.is_public.to_string()),
            ("ratio".to_owned(), self.ratio.to_string()),
        ];
        texts.extend(self.tags.iter().enumerate().map(|(index, tag)| {
            let name = if indexed {
                format!("tags[{index}]")
            } else {
                "tags".to_owned()
            };
            (name, tag.clone())
        }));
        texts.extend(self.note.iter().map(|note| ("note".to_owned(), note.clone())));
        texts
    }

    fn json(&self) -> String {
        json!({
            "nickname": self.nickname, "date": self.date, "isPublic": self.is_public, "ratio": self.ratio,
            "tags": self.tags, "note": self.note,
        })
        .to_string()
    }
}

fn encoded(texts: &Texts) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(texts)
        .finish()
}

fn text_part(name: &str, text: &str) -> Vec<u8> {
    format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n").into_bytes()
}

fn file_part(name: &str, file: &str, bytes: &[u8]) -> Vec<u8> {
    let disposition = format!("Content-Disposition: form-data; name=\"{name}\"; filename=\"{file}\"");
    let mut part = format!("--{BOUNDARY}\r\n{disposition}\r\nContent-Type: image/jpeg\r\n\r\n").into_bytes();
    part.extend_from_slice(bytes);
    part.extend_from_slice(b"\r\n");
    part
}

fn multipart(parts: &[Vec<u8>]) -> Request {
    let mut body = parts.concat();
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    post(&format!("multipart/form-data; boundary={BOUNDARY}"), body)
}

fn post(kind: &str, body: impl Into<Body>) -> Request {
    let request = Request::builder()
        .method(Method::POST)
        .uri("/")
        .header(header::CONTENT_TYPE, kind);
    request.body(body.into()).expect("a request")
}

fn get(query: &str) -> Request {
    Request::builder()
        .uri(format!("/?{query}"))
        .body(Body::empty())
        .expect("a request")
}

async fn params<T: DeserializeOwned>(request: Request) -> Result<T, (StatusCode, String)> {
    let params = Params::<T>::from_request(request, &()).await;
    params.map(|Params(params)| params).map_err(refused)
}

fn refused(problem: Problem) -> (StatusCode, String) {
    let status = problem.status();
    let problem = serde_json::to_value(problem).expect("a problem is JSON");
    let detail = problem["detail"].as_str().unwrap_or_default();
    (
        status,
        format!("{}: {detail}", problem["code"].as_str().expect("a code")),
    )
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

prop_compose! {
    fn posts()(
        nickname in any::<String>(), date in any::<i64>(), is_public in any::<bool>(), eighths in any::<i32>(),
        tags in prop::collection::vec(any::<String>(), 0..5), note in prop::option::of(any::<String>()),
    ) -> Post {
        // Not every float: serde_json reads the last digit of some only nearly.
        Post { nickname, date, is_public, ratio: f64::from(eighths) / 8.0, tags, note }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn all_forms_say_the_same(post in posts(), indexed in any::<bool>()) {
        let texts = post.texts(indexed);
        let parts: Vec<_> = texts.iter().map(|(name, text)| text_part(name, text)).collect();
        let forms = [
            get(&encoded(&texts)),
            self::post("application/x-www-form-urlencoded", encoded(&texts)),
            multipart(&parts),
            self::post("application/json; charset=utf-8", post.json()),
            self::post("application/json", format!("\u{feff}{}", post.json())),
        ];
        for request in forms {
            prop_assert_eq!(block_on(params::<Post>(request)), Ok(post.clone()));
        }
    }

    #[test]
    fn bytes_of_any_kind_are_an_answer(
        query in "[!-~]{0,60}", body in prop::collection::vec(any::<u8>(), 0..300), kind in 0..4_usize,
    ) {
        let kinds = [
            "application/json".to_owned(), "application/x-www-form-urlencoded".to_owned(),
            format!("multipart/form-data; boundary={BOUNDARY}"), "text/plain".to_owned(),
        ];
        let Ok(uri) = format!("/?{query}").parse::<http::Uri>() else { return Ok(()) };
        let mut request = self::post(&kinds[kind], body);
        *request.uri_mut() = uri;
        if let Err((status, told)) = block_on(params::<Post>(request)) {
            prop_assert!(status.is_client_error(), "{status} {told}");
        }
    }
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Lists {
    #[serde(default, deserialize_with = "comma_list")]
    category_list: Vec<String>,
}

#[tokio::test]
async fn lists_come_repeated_indexed_or_joined() {
    let expected = Lists {
        category_list: ["a", "b", "c"].map(str::to_owned).to_vec(),
    };
    for query in [
        "categoryList=a&categoryList=b&categoryList=c",
        "categoryList[2]=c&categoryList[0]=a&categoryList[1]=b",
        "categoryList%5B0%5D=a&categoryList%5B1%5D=b&categoryList%5B2%5D=c",
        "categoryList[]=a&categoryList[]=b&categoryList[]=c",
        "categoryList=a,b,c",
        "categoryList=%20a%20,,b&categoryList=c,",
    ] {
        assert_eq!(params::<Lists>(get(query)).await.as_ref(), Ok(&expected), "{query}");
    }
    let as_json = |list| post("application/json", json!({"categoryList": list}).to_string());
    assert_eq!(
        params::<Lists>(as_json(json!(["a", "b,c"]))).await.as_ref(),
        Ok(&expected)
    );
    assert_eq!(params::<Lists>(as_json(json!("a,b,c"))).await.as_ref(), Ok(&expected));
    assert_eq!(
        params::<Lists>(as_json(json!(null))).await,
        Ok(Lists {
            category_list: Vec::new()
        })
    );
    assert_eq!(
        params::<Lists>(get("")).await,
        Ok(Lists {
            category_list: Vec::new()
        })
    );
}

#[derive(Debug, PartialEq, Deserialize)]
struct One {
    a: i64,
}

#[tokio::test]
async fn the_body_wins_over_the_query() {
    let mut request = post("application/json", r#"{"a": 2}"#);
    *request.uri_mut() = "/?a=1&a=1".parse().expect("a URI");
    assert_eq!(params::<One>(request).await, Ok(One { a: 2 }));
}

#[tokio::test]
async fn an_empty_body_of_any_type_is_no_parameters() {
    for kind in ["application/json", "text/plain", "application/x-www-form-urlencoded"] {
        let mut request = post(
            kind,
            Body::from_stream(futures::stream::empty::<Result<Bytes, axum::Error>>()),
        );
        *request.uri_mut() = "/?a=1".parse().expect("a URI");
        assert_eq!(params::<One>(request).await, Ok(One { a: 1 }), "{kind}");
    }
}

#[tokio::test]
async fn errors_name_the_parameter() {
    let bad = |request| async { params::<One>(request).await.expect_err("it is wrong") };
    let wrong = |told: &str| (StatusCode::BAD_REQUEST, format!("invalid-parameter: {told}"));
    assert_eq!(bad(get("")).await, wrong("a: missing"));
    assert_eq!(bad(get("a=")).await, wrong("a: missing"));
    assert_eq!(bad(get("a=x")).await, wrong("a: a whole number (i64) is expected"));
    assert_eq!(bad(get("a=1&a=2")).await, wrong("a: given more than once"));
    assert_eq!(bad(get("a=%FF")).await, wrong("a field is not valid UTF-8"));
    assert_eq!(
        bad(post("application/json", "[1]")).await,
        wrong("the body is no JSON object")
    );
    assert_eq!(
        bad(post("application/json", "{\"a\":\"\u{fffd}\"}")).await,
        wrong("a: a whole number (i64) is expected")
    );
    assert_eq!(
        bad(multipart(&[
            b"--XoXoBoundary\r\nContent-Disposition: form-data\r\n\r\n1\r\n".to_vec()
        ]))
        .await,
        wrong("a part has no name")
    );
    let mut broken = text_part("a", "");
    broken.splice(broken.len() - 2..broken.len() - 2, [0xff]);
    assert_eq!(bad(multipart(&[broken])).await, wrong("a: not valid UTF-8"));
    let unreadable = (StatusCode::BAD_REQUEST, "unreadable-body: ".to_owned());
    assert_eq!(
        bad(post(
            &format!("multipart/form-data; boundary={BOUNDARY}"),
            text_part("a", "1")
        ))
        .await,
        unreadable
    );
    let (status, told) = bad(post("text/plain", "a=1")).await;
    assert_eq!(
        (status, told.as_str()),
        (
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-body: send a form, multipart or JSON"
        )
    );
    let mut zipped = post("application/json", "{}");
    zipped
        .headers_mut()
        .insert(header::CONTENT_ENCODING, http::HeaderValue::from_static("gzip"));
    assert_eq!(bad(zipped).await.0, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn sizes_are_bounded() {
    let bad = |request| async { params::<One>(request).await.expect_err("it is too much") };
    let too_many = vec!["a=1"; 1001].join("&");
    assert_eq!(
        bad(post("application/x-www-form-urlencoded", too_many.clone())).await.0,
        StatusCode::BAD_REQUEST
    );
    let too_many: Vec<_> = (0..1001).map(|_| text_part("a", "1")).collect();
    assert_eq!(bad(multipart(&too_many)).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(
        bad(get(&format!("{}=1", "a".repeat(257)))).await.0,
        StatusCode::BAD_REQUEST
    );
    let long = "x".repeat(1024 * 1024 + 1);
    assert_eq!(
        bad(post("application/json", long.clone())).await.0,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    assert_eq!(
        bad(post("application/x-www-form-urlencoded", long.clone())).await.0,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    assert_eq!(
        bad(multipart(&[text_part("a", &long)])).await.0,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(50_000), "]".repeat(50_000));
    assert_eq!(bad(post("application/json", deep)).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn files_come_apart_from_texts() {
    let parts = [
        text_part("a", "1"),
        file_part("imageList[1]", "b.jpg", b"second\r\n--XoXo"),
        file_part("imageList[0]", "a.jpg", b"first"),
        file_part("profileImg", "p.jpg", &[0xff, 0xd8, 0]),
        file_part("imageList", "", b""),
    ];
    let mut upload = Upload::<One>::from_request(multipart(&parts), &())
        .await
        .expect("it is fine");
    assert_eq!(upload.params, One { a: 1 });
    assert_eq!(upload.files.take("imageList"), [&b"first"[..], b"second\r\n--XoXo"]);
    assert!(upload.files.take("imageList").is_empty());
    assert_eq!(
        upload.files.iter().map(|file| file.field.as_str()).collect::<Vec<_>>(),
        ["profileImg"]
    );
    assert_eq!(
        params::<One>(multipart(&parts)).await,
        Ok(One { a: 1 }),
        "without files they are passed over"
    );
}

#[tokio::test]
async fn text_is_no_file() {
    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Photos {
        #[serde(default, rename = "photos")]
        _photos: FilesOnly,
    }
    let read = async |request| Upload::<Photos>::from_request(request, &()).await.map_err(refused);
    let file = file_part("photos", "a.jpg", b"bytes");
    let mut upload = read(multipart(&[text_part("photos", ""), file]))
        .await
        .expect("one file");
    assert_eq!(upload.files.take("photos"), [&b"bytes"[..]]);
    read(post("application/json", r#"{"photos": []}"#))
        .await
        .expect("no file");
    let refused = (
        StatusCode::BAD_REQUEST,
        "invalid-parameter: photos: a file part of a multipart form is expected".to_owned(),
    );
    for request in [
        multipart(&[text_part("photos[0]", "bytes")]),
        post("application/json", r#"{"photos": ["bytes"]}"#),
        post("application/x-www-form-urlencoded", "photos=bytes"),
        get("photos=bytes"),
    ] {
        assert_eq!(read(request).await.expect_err("it is text"), refused);
    }
}

/// Two megabytes of body limit, three of memory for all.
fn body_limit() -> BodyLimits {
    body_limit_of(std::time::Duration::from_mins(1))
}

fn body_limit_of(body_timeout: std::time::Duration) -> BodyLimits {
    let mut server = crate::http::testing::test_settings();
    server.body_limit = 2_000_000;
    server.upload_memory = 3_000_000;
    server.body_timeout = body_timeout;
    BodyLimits::new(&server, None)
}

/// As a request comes in: with its length, where that is known.
fn guarded(limit: &BodyLimits, mut request: Request) -> Request {
    request.extensions_mut().insert(std::sync::Arc::new(RequestLimits {
        body: limit.clone(),
        responses: crate::http::ResponseMemory::default(),
        request_timeout: std::time::Duration::from_mins(1),
    }));
    if let Some(length) = axum::body::HttpBody::size_hint(request.body()).exact() {
        request.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    request.map(|body| limit.guard(body))
}

#[tokio::test]
async fn a_body_over_the_limit_is_cut() {
    let limit = body_limit();
    let request = guarded(&limit, multipart(&[file_part("f", "f.jpg", &vec![0; 2_000_000])]));
    let problem = Upload::<Lists>::from_request(request, &())
        .await
        .expect_err("it is too large");
    assert_eq!(problem.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_LENGTH, 1_000_000_000_u64.into());
    assert_eq!(
        limit.check_declared(&headers).map_err(|problem| problem.status()),
        Err(StatusCode::PAYLOAD_TOO_LARGE)
    );
}

#[tokio::test]
async fn a_body_that_never_comes_is_cut() {
    let never = Body::from_stream(futures::stream::pending::<Result<Bytes, axum::Error>>());
    let limit = body_limit_of(std::time::Duration::from_millis(300));
    let request = guarded(&limit, post("application/json", never));
    assert_eq!(
        params::<One>(request).await.expect_err("too slow").0,
        StatusCode::REQUEST_TIMEOUT
    );
}

#[tokio::test]
async fn the_memory_for_large_bodies_is_shared() {
    let limit = body_limit();
    let upload = |bytes: usize| {
        let request = guarded(&limit, multipart(&[file_part("f", "f.jpg", &vec![7; bytes])]));
        async move { Upload::<Lists>::from_request(request, &()).await }
    };
    let first = upload(1_500_000).await.expect("there is room");
    let problem = upload(1_600_000)
        .await
        .expect_err("1.6 MB cannot be had beside 1.5 MB of 3 MB");
    assert_eq!(problem.status(), StatusCode::SERVICE_UNAVAILABLE);
    let kept = upload(900_000).await.expect("only what is held counts");
    let full = [first, kept, upload(500_000).await.expect("the last of the room")];
    let dropped = guarded(
        &limit,
        multipart(&[file_part("f", "f.jpg", &vec![7; 1_000_000]), text_part("a", "1")]),
    );
    assert_eq!(
        params::<One>(dropped).await,
        Ok(One { a: 1 }),
        "what is not kept needs no share"
    );
    drop(full);
    upload(1_500_000).await.expect("there is room again");
}

fn chunked(request: Request) -> Request {
    request.map(|body| Body::from_stream(body.into_data_stream()))
}

#[tokio::test]
async fn large_bodies_of_unknown_length_reserve_the_limit() {
    let limit = body_limit();
    let upload = |bytes: usize| {
        let request = chunked(multipart(&[file_part("f", "f.jpg", &vec![7; bytes])]));
        let request = guarded(&limit, request);
        async move { Upload::<Lists>::from_request(request, &()).await }
    };
    let first = upload(1_200_000).await.expect("there is room");
    let problem = upload(100_000)
        .await
        .expect_err("2 MB cannot be had beside 1.2 MB of 3 MB");
    assert_eq!(problem.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(problem.clone().into_response().headers()[header::RETRY_AFTER], "1");
    upload(10_000).await.expect("a small body needs no reservation");
    drop(first);
    upload(100_000).await.expect("there is room again");
}

#[tokio::test]
async fn bodies_that_wait_for_more_hold_up_no_others() {
    let limit = body_limit();
    // Each has brought a part of its 1.4 MB, and the rest does not come.
    let half = |()| {
        let whole = multipart(&[file_part("f", "f.jpg", &vec![7; 1_400_000])]);
        let request = guarded(&limit, whole).map(|body| {
            let begun = body.into_data_stream().map_ok(|bytes| bytes.slice(..700_000));
            Body::from_stream(begun.chain(futures::stream::pending()))
        });
        tokio::spawn(async move { Upload::<Lists>::from_request(request, &()).await })
    };
    let mut halves: Vec<_> = std::iter::repeat_n((), 8).map(half).collect();
    let mut refused = 0;
    while halves.len() > 2 {
        let (ended, _, others) = futures::future::select_all(halves).await;
        let problem = ended.expect("it ends").expect_err("there is room for two");
        assert_eq!(problem.status(), StatusCode::SERVICE_UNAVAILABLE);
        refused += 1;
        halves = others;
    }
    assert_eq!(refused, 6, "at once");
    let request = guarded(&limit, multipart(&[file_part("f", "f.jpg", &[7; 10_000])]));
    Upload::<Lists>::from_request(request, &())
        .await
        .expect("a small one needs no room");
    halves.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn unquoted_boundaries_are_read() {
    for boundary in ["-Xr/dc=2", "----=_Part_3_1.2", "a:b?c,(d)"] {
        let body = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n7\r\n--{boundary}--\r\n");
        for kind in [
            format!("multipart/form-data; boundary={boundary}"),
            format!("multipart/form-data; boundary=\"{boundary}\"; charset=utf-8"),
        ] {
            assert_eq!(
                params::<One>(post(&kind, body.clone())).await,
                Ok(One { a: 7 }),
                "{kind}"
            );
        }
    }
}

fn blob(name: &str, kind: &str, content: &[u8]) -> Vec<u8> {
    let disposition = format!("Content-Disposition: form-data; name=\"{name}\"; filename=\"blob\"");
    let mut part = format!("--{BOUNDARY}\r\n{disposition}\r\nContent-Type: {kind}\r\n\r\n").into_bytes();
    part.extend_from_slice(content);
    part.extend_from_slice(b"\r\n");
    part
}

#[tokio::test]
async fn blobs_are_fields() {
    let expected = Post {
        nickname: "별이".to_owned(),
        date: 7,
        is_public: true,
        ratio: 0.5,
        tags: vec!["a".to_owned(), "b".to_owned()],
        note: None,
    };
    let each = [
        blob("nickname", "application/json", "\"별이\"".as_bytes()),
        blob("date", "text/plain; charset=utf-8", b"7"),
        blob("isPublic", "application/json", b"true"),
        blob("ratio", "application/json", b"0.5"),
        blob("tags", "application/json", br#"["a", "b"]"#),
        blob("note", "application/json", b"null"),
    ];
    let bare = [
        blob("nickname", "application/json", "별이".as_bytes()),
        blob("date", "application/json", b" 7 "),
        blob("isPublic", "text/plain", b"true"),
        text_part("ratio", "0.5"),
        blob("tags", "text/plain", b"a"),
        blob("tags", "text/plain", b"b"),
    ];
    let whole = [
        blob("request", "application/json", expected.json().as_bytes()),
        file_part("f", "f.jpg", &[0xff, 0xd8]),
    ];
    let without_name = [
        String::from_utf8(blob("post", "application/json", expected.json().as_bytes()))
            .expect("text")
            .replace("; filename=\"blob\"", "")
            .into_bytes(),
    ];
    for parts in [&each[..], &bare, &whole, &without_name] {
        assert_eq!(params::<Post>(multipart(parts)).await.as_ref(), Ok(&expected));
        let upload = Upload::<Post>::from_request(multipart(parts), &())
            .await
            .map_err(refused);
        assert_eq!(upload.map(|upload| upload.params).as_ref(), Ok(&expected));
    }
    let over = [
        text_part("nickname", "달이"),
        blob("request", "application/json", expected.json().as_bytes()),
    ];
    let read = params::<Post>(multipart(&over)).await.expect("it is fine");
    assert_eq!(read.nickname, "달이", "a field of its own wins");

    let picture = [blob("f", "text/plain", &[0xff, 0xd8, 0]), text_part("a", "1")];
    let mut upload = Upload::<One>::from_request(multipart(&picture), &())
        .await
        .expect("it is fine");
    assert_eq!(
        upload.files.take("f"),
        [&[0xff, 0xd8, 0][..]],
        "what is no text is a file"
    );
    let long = [
        blob("f", "text/plain", &vec![b'x'; 1024 * 1024 + 1]),
        text_part("a", "1"),
    ];
    assert_eq!(params::<One>(multipart(&long)).await, Ok(One { a: 1 }));
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Asked {
    date: Option<i64>,
    #[serde(deserialize_with = "past")]
    since: Option<i64>,
    page: u32,
    size: u32,
    is_public: Option<bool>,
    text: Option<String>,
}

/// A type that checks its text itself.
fn past<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    let date = text.map(|text| text.parse().map_err(|_| D::Error::custom("a date is expected")));
    date.transpose()
}

#[tokio::test]
async fn empty_parameters_are_absent() {
    let names = ["date", "since", "page", "size", "isPublic"];
    let texts: Texts = names.map(|name| (name.to_owned(), String::new())).to_vec();
    let parts: Vec<_> = names.iter().map(|name| text_part(name, "")).collect();
    let object = |value: Value| names.map(|name| format!("\"{name}\": {value}")).join(", ");
    for request in [
        get(&encoded(&texts)),
        get("date&since&page&size&isPublic"),
        get("date[0]=&since&page&size&isPublic"),
        post("application/x-www-form-urlencoded", encoded(&texts)),
        multipart(&parts),
        post("application/json", format!("{{{}}}", object(json!(null)))),
        post("application/json", format!("{{{}}}", object(json!("")))),
    ] {
        assert_eq!(params::<Asked>(request).await, Ok(Asked::default()));
    }
    let kept = params::<Asked>(get("text=&page=3&size=")).await.expect("it is fine");
    let expected = Asked {
        page: 3,
        text: Some(String::new()),
        ..Asked::default()
    };
    assert_eq!(kept, expected, "an empty text is a text");
    let (_, told) = params::<Asked>(get("page=%20")).await.expect_err("no number");
    assert_eq!(told, "invalid-parameter: page: a whole number (u32) is expected");
}

#[derive(Debug, PartialEq, Deserialize)]
struct Times {
    #[serde(deserialize_with = "instant")]
    at: jiff::Timestamp,
    #[serde(default, deserialize_with = "optional_instant")]
    until: Option<jiff::Timestamp>,
}

#[tokio::test]
async fn an_instant_is_read_or_refused_in_our_words() {
    let at = "2026-11-30T10:00:00Z".parse().unwrap();
    for text in [
        "2026-11-30T10:00:00Z",
        "2026-11-30T19:00:00%2B09:00",
        "2026-11-30T10:00:00.000Z",
    ] {
        let read = params::<Times>(get(&format!("at={text}&until="))).await;
        assert_eq!(read, Ok(Times { at, until: None }), "{text}");
    }
    let read = params::<Times>(get("at=2026-11-30T10:00:00Z&until=2026-11-30T10:00:00Z")).await;
    assert_eq!(read, Ok(Times { at, until: Some(at) }));
    let latest = params::<Times>(get("at=9999-12-30T22:00:00Z")).await.unwrap();
    assert_eq!(latest.at.to_string(), "9999-12-30T22:00:00Z");
    for text in [
        "tomorrow",
        "2026-11-30",
        "2026-11-30T10:00:00",
        "2026-02-30T10:00:00Z",
        "2026-11-30T10:00:00%2B25:00",
        "2026-11-30T10:00:00-24:00",
        "9999-12-30T22:00:01Z",
        "9999-12-31T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "1",
    ] {
        let expected = "an instant up to 9999-12-30T22:00:00Z is expected, for example 2026-11-30T10:00:00Z";
        for (query, name) in [
            (format!("at={text}"), "at"),
            (format!("at=2026-11-30T10:00:00Z&until={text}"), "until"),
        ] {
            let (_, told) = params::<Times>(get(&query)).await.expect_err(text);
            assert_eq!(told, format!("invalid-parameter: {name}: {expected}"));
        }
    }
    let (_, told) = params::<Times>(get("at=")).await.expect_err("no instant");
    assert_eq!(told, "invalid-parameter: at: missing");
}

#[tokio::test]
async fn an_announced_body_holds_no_memory() {
    let limit = body_limit_of(std::time::Duration::from_secs(3));
    let announced: Vec<_> = (0..4)
        .map(|_| {
            let never = Body::from_stream(futures::stream::pending::<Result<Bytes, axum::Error>>());
            let kind = format!("multipart/form-data; boundary={BOUNDARY}");
            let mut request = guarded(&limit, post(&kind, never));
            request.headers_mut().insert(header::CONTENT_LENGTH, 1_900_000.into());
            tokio::spawn(async move { Upload::<Lists>::from_request(request, &()).await.is_err() })
        })
        .collect();
    tokio::task::yield_now().await;
    let request = guarded(&limit, multipart(&[file_part("f", "f.jpg", &vec![7; 1_900_000])]));
    Upload::<Lists>::from_request(request, &())
        .await
        .expect("there is room");
    for task in announced {
        assert!(task.await.expect("it ends"), "they are too slow");
    }
}
