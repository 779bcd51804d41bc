//! Pictures in a bucket of an S3-compatible server, which each test starts for itself: `scripts/engines prepare` installs it.

use std::io::{BufRead as _, BufReader, Cursor};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::TryStreamExt as _;
use http::{HeaderMap, Method, StatusCode, header};
use image::{DynamicImage, ImageFormat};
use object_store::aws::AmazonS3Builder;
use parking_lot::Mutex;
use sosohappy_common::Context;
use tokio::net::TcpListener;

use crate::respond::PictureRequest;
use crate::store::open_s3;
use crate::{ImageError, ImageId, Images, Picture, Width};

const PYTHON: &str = "SOSOHAPPY_TEST_S3_PYTHON";
const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/engines.d/s3_server.py");
const BUCKET: &str = "pictures";

/// The state of the connection between the store's client and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    Up,
    /// Every request is answered with 503.
    Down,
    /// The next request reaches the server, and its response is lost: the client gets 503.
    LosesResponse,
}

/// An S3 server behind a proxy.
struct S3 {
    server: Child,
    endpoint: String,
    network: Arc<Mutex<Network>>,
}

impl Drop for S3 {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

#[derive(Clone)]
struct Proxy {
    server: String,
    network: Arc<Mutex<Network>>,
}

impl S3 {
    /// `None` where no S3 server is installed.
    async fn start() -> Option<Self> {
        let Some(python) = std::env::var_os(PYTHON) else {
            assert!(
                std::env::var_os("SOSOHAPPY_TEST_REQUIRE_ENGINES").is_none(),
                "an S3 server is required, but {PYTHON} is not set: scripts/engines prepare, then eval \"$(scripts/engines env)\""
            );
            eprintln!("skipped: {PYTHON} is not set (scripts/engines prepare)");
            return None;
        };
        let mut server = Command::new(python)
            .arg(SERVER)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the S3 server starts");
        let mut port = String::new();
        let output = server.stdout.take().expect("its output");
        let read = BufReader::new(output).read_line(&mut port).expect("its port");
        assert!(read > 0, "the S3 server ended before it served");
        let address = format!("http://127.0.0.1:{}", port.trim());
        let network = Arc::new(Mutex::new(Network::Up));
        let proxy = Proxy {
            server: address,
            network: network.clone(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let router = axum::Router::new().fallback(forward).with_state(proxy);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let created = sosohappy_common::tls::client()
            .put(format!("{endpoint}/{BUCKET}"))
            .send()
            .await
            .expect("the server answers");
        assert_eq!(created.status(), StatusCode::OK);
        Some(Self {
            server,
            endpoint,
            network,
        })
    }

    /// As a service opens it; the environment has no S3 settings here.
    fn images(&self, path: &str) -> Images {
        images(&self.endpoint, path)
    }

    fn set(&self, network: Network) {
        *self.network.lock() = network;
    }
}

fn images(endpoint: &str, path: &str) -> Images {
    let builder = AmazonS3Builder::new()
        .with_endpoint(endpoint)
        .with_allow_http(true)
        .with_access_key_id("test")
        .with_secret_access_key("test");
    sosohappy_common::tls::install_provider();
    let url = format!("s3://{BUCKET}/{path}");
    let store = open_s3(builder, &url.as_str().into()).expect("a bucket");
    Images::over(store, &Context::system("test-service", 0))
}

async fn forward(State(proxy): State<Proxy>, request: Request) -> Response {
    let network = *proxy.network.lock();
    if network == Network::Down {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 24).await.expect("a whole request");
    let path = parts.uri.path_and_query().expect("a path");
    let mut headers = parts.headers;
    headers.remove(header::HOST);
    let response = sosohappy_common::tls::client()
        .request(parts.method, format!("{}{path}", proxy.server))
        .headers(headers)
        .body(body)
        .send()
        .await
        .expect("the server answers");
    if network == Network::LosesResponse {
        *proxy.network.lock() = Network::Up;
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let (status, mut headers) = (response.status(), response.headers().clone());
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::CONNECTION);
    let body = response.bytes().await.expect("a whole response");
    (status, headers, Body::from(body)).into_response()
}

fn picture(width: u32) -> Picture {
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::new_rgb8(width, width / 2)
        .write_to(&mut bytes, ImageFormat::Png)
        .expect("it can be encoded");
    Picture {
        bytes: bytes.into_inner().into(),
        content_type: "image/png",
    }
}

async fn stored(images: &Images, id: ImageId) -> Option<Bytes> {
    let found = images.get(id).await.expect("the store answers");
    found.map(|picture| picture.bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_are_kept_in_a_bucket() {
    let Some(s3) = S3::start().await else { return };
    let (images, others) = (s3.images("feed"), s3.images("auth"));
    let (id, original) = (images.new_id(), picture(400));
    assert_eq!(stored(&images, id).await, None);
    assert!(!images.exists(id).await.expect("the store answers"));
    images.put_as(id, &original).await.expect("it is stored");
    images
        .put_as(id, &original)
        .await
        .expect("the same again is a repetition");
    images
        .put_as(id, &picture(300))
        .await
        .expect_err("another picture does not overwrite it");
    assert_eq!(stored(&images, id).await.as_ref(), Some(&original.bytes));
    assert_eq!(
        images.size(id).await.expect("the store answers"),
        Some(original.bytes.len() as u64)
    );
    assert_eq!(stored(&others, id).await, None, "another path of the bucket");

    let copy = images.new_id();
    images
        .copy(id, copy)
        .await
        .expect("the store answers")
        .expect("there is one");
    assert_eq!(stored(&images, copy).await.as_ref(), Some(&original.bytes));
    assert!(
        images
            .copy(images.new_id(), images.new_id())
            .await
            .expect("the store answers")
            .is_none()
    );

    let found = images.find(id).await.expect("the store answers").expect("it is there");
    let part = found.stream_part(5..20).await.expect("it is read");
    assert_eq!((part.size, part.content_type), (15, "image/png"));
    let chunks: Vec<Bytes> = part.chunks.try_collect().await.expect("bytes");
    assert_eq!(chunks.concat(), original.bytes[5..20]);

    let width = Width::try_from(160).expect("one of the widths");
    let mut small = Vec::new();
    for _ in 0..2 {
        let found = images.find_variant(id, width).await.expect("the store answers");
        small.push(found.expect("it is there").read().await.expect("bytes"));
    }
    assert_eq!(small[0], small[1]);
    let decoded = image::load_from_memory(&small[0]).expect("a picture");
    assert_eq!((decoded.width(), decoded.height()), (160, 80));

    for _ in 0..2 {
        images
            .delete(id)
            .await
            .expect("a picture that is not there is no error");
        assert_eq!(stored(&images, id).await, None);
        let variant = images.find_variant(id, width).await.expect("the store answers");
        assert!(variant.is_none());
    }
    assert_eq!(stored(&images, copy).await.as_ref(), Some(&original.bytes));
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_of_pictures_in_a_bucket_are_served() {
    let Some(s3) = S3::start().await else { return };
    let images = s3.images("feed");
    let (id, original) = (images.new_id(), picture(400));
    images.put_as(id, &original).await.expect("it is stored");
    let size = original.bytes.len();
    for (range, expected) in [
        ("bytes=0-0", Some(0..1)),
        ("bytes=3-9", Some(3..10)),
        ("bytes=-4", Some(size - 4..size)),
        ("bytes=10-", Some(10..size)),
        ("bytes=1000000-", None),
    ] {
        let headers = HeaderMap::from_iter([(header::RANGE, range.parse().expect("a header"))]);
        let request = PictureRequest::new(id, None, &Method::GET, &headers);
        let cache = header::HeaderValue::from_static("private");
        let response = images.respond(id, &request, cache).await.expect("the store answers");
        let response = response.expect("it is there");
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
        match expected {
            Some(part) => assert_eq!(
                (status, &body[..]),
                (StatusCode::PARTIAL_CONTENT, &original.bytes[part]),
                "{range}"
            ),
            None => assert_eq!(status, StatusCode::RANGE_NOT_SATISFIABLE, "{range}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_bucket_loses_no_picture() {
    let Some(s3) = S3::start().await else { return };
    let images = s3.images("feed");
    let (acknowledged, refused) = (images.new_id(), images.new_id());
    let (first, second) = (picture(200), picture(300));
    images.put_as(acknowledged, &first).await.expect("it is stored");

    s3.set(Network::Down);
    let unavailable = |error: ImageError| assert!(matches!(error, ImageError::Store(_)), "{error:?}");
    unavailable(images.put_as(refused, &second).await.expect_err("not acknowledged"));
    unavailable(images.find(acknowledged).await.expect_err("not missing"));
    unavailable(images.size(acknowledged).await.expect_err("not missing"));
    unavailable(images.delete(acknowledged).await.expect_err("not deleted"));
    let width = Width::try_from(160).expect("one of the widths");
    unavailable(images.find_variant(acknowledged, width).await.expect_err("not missing"));

    s3.set(Network::Up);
    assert_eq!(stored(&images, acknowledged).await.as_ref(), Some(&first.bytes));
    assert_eq!(stored(&images, refused).await, None);
    images.put_as(refused, &second).await.expect("it is stored");

    // The client of the store repeats a request whose response was lost: it finds its own picture.
    let repeated = images.new_id();
    s3.set(Network::LosesResponse);
    images.put_as(repeated, &second).await.expect("it is stored");
    assert_eq!(*s3.network.lock(), Network::Up, "a response was lost");
    assert_eq!(stored(&images, repeated).await.as_ref(), Some(&second.bytes));
    s3.set(Network::LosesResponse);
    images.delete(repeated).await.expect("it is deleted");
    assert_eq!(stored(&images, repeated).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_without_a_server_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let images = images(&endpoint, "feed");
    let error = images.find(images.new_id()).await.expect_err("not missing");
    assert!(matches!(error, ImageError::Store(_)), "{error:?}");
}
