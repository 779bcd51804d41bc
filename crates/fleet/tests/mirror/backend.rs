//! A fleet that answers as its test says.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::extract::{FromRequestParts as _, Request, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

/// An answer to requests of one path.
#[derive(Debug, Clone)]
pub struct Canned {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
    /// The answer waits until this is true.
    pub released: Option<watch::Receiver<bool>>,
}

impl Canned {
    pub fn json(body: &str) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type", "application/json".to_owned())],
            body: Bytes::copy_from_slice(body.as_bytes()),
            released: None,
        }
    }

    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Holds the answer back until the sender says `true`.
    pub fn held(mut self) -> (Self, watch::Sender<bool>) {
        let (release, released) = watch::channel(false);
        self.released = Some(released);
        (self, release)
    }
}

#[derive(Debug, Clone)]
pub struct Seen {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

#[derive(Debug, Default)]
struct Inner {
    canned: Mutex<BTreeMap<String, Canned>>,
    seen: Mutex<Vec<Seen>>,
    /// Bytes of request bodies that have come so far, whether they are whole or not.
    received: Mutex<usize>,
    /// Frames of sockets, and their answers.
    frames: Mutex<Vec<String>>,
    echo: Mutex<Option<String>>,
}

#[derive(Debug)]
pub struct Backend {
    pub address: SocketAddr,
    inner: Arc<Inner>,
    /// Its own, so that its connections end with it.
    runtime: Option<Runtime>,
}

impl Drop for Backend {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Backend {
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner::default());
        let router = Router::new().fallback(answer).with_state(inner.clone());
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
        Self {
            address,
            inner,
            runtime: Some(runtime),
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn answers(&self, path: &str, canned: Canned) {
        self.inner.canned.lock().insert(path.to_owned(), canned);
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.inner.seen.lock().clone()
    }

    pub fn frames(&self) -> Vec<String> {
        self.inner.frames.lock().clone()
    }

    /// Sets the answer to each frame of a socket; without it a frame is answered with itself.
    pub fn echoes(&self, text: &str) {
        *self.inner.echo.lock() = Some(text.to_owned());
    }

    pub fn received(&self) -> usize {
        *self.inner.received.lock()
    }
}

impl Inner {
    fn see(&self, parts: &Parts, body: Bytes) {
        self.seen.lock().push(Seen {
            path: parts.uri.to_string(),
            headers: parts.headers.clone(),
            body,
        });
    }
}

async fn answer(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    let (mut parts, mut body) = request.into_parts();
    if parts.headers.contains_key("upgrade") {
        let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await.unwrap();
        inner.see(&parts, Bytes::new());
        return upgrade.on_upgrade(async move |mut socket| {
            while let Some(Ok(Message::Text(text))) = socket.recv().await {
                let echo = inner.echo.lock().clone().unwrap_or_else(|| text.to_string());
                inner.frames.lock().push(text.to_string());
                // The test may have ended.
                if socket.send(Message::text(echo)).await.is_err() {
                    return;
                }
            }
        });
    }
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        if let Some(data) = frame.data_ref() {
            *inner.received.lock() += data.len();
            whole.extend_from_slice(data);
        }
    }
    let path = parts.uri.path().to_owned();
    inner.see(&parts, whole.into());
    let canned = inner.canned.lock().get(&path).cloned();
    let Some(canned) = canned else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if let Some(mut released) = canned.released {
        // Without its sender it stays held.
        if released.wait_for(|released| *released).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
    let mut response = Response::builder().status(canned.status);
    for (name, value) in &canned.headers {
        response = response.header(*name, value);
    }
    response.body(Body::from(canned.body)).unwrap()
}
