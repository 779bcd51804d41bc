//! WebSockets: passed through to the side that answers. With `--writes` a copy of the client's frames is sent to the other side over a
//! socket of its own, and the frames that both sides send are compared.
//!
//! Bytes are passed through as they come; only the copies are decoded. A copy that falls behind is given up, so the client's socket never
//! waits for the other side.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream};
use futures::{SinkExt as _, StreamExt as _};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode, Uri};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_util::io::StreamReader;

use super::compare::{Answer, Difference, compare};
use super::routes::{Matched, Outcome, Serving};
use super::rules::Kind;
use super::shadow::{Before, Comparer, Shadow, Step};
use super::sides::{Side, path_of};
use super::upstream::{Head, Upstream};
use crate::forward;

/// Bytes read at once.
const CHUNK: usize = 8 * 1024;
/// Chunks that wait to be decoded; a copy with more is given up.
const CHUNKS: usize = 128;
/// Longest frame that is copied, in bytes; services take 16 KiB.
const LONGEST_FRAME: usize = 256 * 1024;
/// Frames of one side that wait for those of the other.
const MOST_FRAMES: usize = 256;
const SWEEP: Duration = Duration::from_millis(100);

/// Passes a WebSocket through for as long as both ends hold it.
pub async fn pass(
    upstream: &Upstream,
    shadow: &Shadow,
    matched: Option<Matched>,
    serving: Serving,
    mut request: Request,
    protocol: HeaderValue,
    id: String,
) -> Response {
    let client = hyper::upgrade::on(&mut request);
    let (mut parts, _) = request.into_parts();
    let comparer = shadow.comparer();
    let copied = matched
        .as_ref()
        .filter(|matched| comparer.writes && matched.route.template.kind == Kind::Socket);
    if copied.is_some() {
        // Compressed frames could not be compared.
        parts.headers.remove(header::SEC_WEBSOCKET_EXTENSIONS);
    }
    parts
        .headers
        .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    parts.headers.insert(header::UPGRADE, protocol);
    let copy = copied.map(|matched| Copy {
        shared: Shared {
            comparer: comparer.clone(),
            matched: matched.clone(),
            serving,
            id: id.clone(),
        },
        uri: parts.uri.clone(),
        headers: parts.headers.clone(),
        before: comparer.order.before(),
        step: comparer.order.step(),
    });

    let head = Head {
        id,
        method: parts.method,
        path: path_of(&parts.uri),
        headers: parts.headers,
    };
    let asked = upstream.ask(serving.side, matched.as_ref(), head, reqwest::Body::default());
    let mut answer = match asked.await {
        Ok(answer) => answer,
        Err(problem) => return problem.into_response(),
    };
    let lifecycle = &upstream.context.lifecycle;
    let draining = lifecycle.draining();
    let (to_service, from_client) = tap();
    let (to_client, from_service) = tap();
    if let Some(copy) = copy {
        copy.step.mark().answered();
        let head = Answer {
            status: answer.status(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        };
        let draining = draining.clone();
        lifecycle.spawn("socket-copy", async move {
            tokio::select! {
                () = copy.run(head, from_client, from_service) => {}
                () = draining.cancelled() => {}
            }
            Ok(())
        });
    }
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        forward::remove_hop_by_hop(answer.headers_mut());
        return answer.map(Body::new);
    }
    let mut switched = Response::new(Body::empty());
    *switched.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *switched.headers_mut() = answer.headers().clone();
    let answer = reqwest::Response::from(answer);
    lifecycle.spawn("socket", async move {
        tokio::select! {
            ended = both_ways(client, answer, to_service, to_client) => if let Err(error) = ended {
                tracing::debug!(%error, "socket ended");
            },
            () = draining.cancelled() => {}
        }
        Ok(())
    });
    switched
}

async fn both_ways(
    upgrade: OnUpgrade,
    answer: reqwest::Response,
    to_service: Tap,
    to_client: Tap,
) -> anyhow::Result<()> {
    let (client_reader, client_writer) = tokio::io::split(TokioIo::new(upgrade.await?));
    let (service_reader, service_writer) = tokio::io::split(answer.upgrade().await?);
    tokio::try_join!(
        pump(client_reader, service_writer, to_service),
        pump(service_reader, client_writer, to_client),
    )?;
    Ok(())
}

/// Passes bytes on until the reading end closes, with a copy of each chunk.
async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut tap: Tap) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK);
        if from.read_buf(&mut buffer).await? == 0 {
            return to.shutdown().await;
        }
        let chunk = buffer.split().freeze();
        tap.copy(&chunk);
        to.write_all(&chunk).await?;
    }
}

/// Where a direction of a socket leaves a copy of its bytes.
#[derive(Debug)]
struct Tap(Option<mpsc::Sender<Bytes>>);

fn tap() -> (Tap, mpsc::Receiver<Bytes>) {
    let (chunks, copied) = mpsc::channel(CHUNKS);
    (Tap(Some(chunks)), copied)
}

impl Tap {
    /// Never waits: with the queue full, or its reader gone, the copy ends here.
    fn copy(&mut self, chunk: &Bytes) {
        if self
            .0
            .as_ref()
            .is_some_and(|chunks| chunks.try_send(chunk.clone()).is_err())
        {
            self.0 = None;
        }
    }
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(LONGEST_FRAME))
        .max_frame_size(Some(LONGEST_FRAME))
}

/// Decodes a copied direction. `role`: of the end that reads it.
async fn messages(chunks: mpsc::Receiver<Bytes>, role: Role) -> BoxStream<'static, Message> {
    let mut chunks = chunks;
    let bytes = stream::poll_fn(move |context| chunks.poll_recv(context)).map(Ok::<_, io::Error>);
    // The decoder answers pings; the real end has answered them, so these answers go nowhere.
    let copied = tokio::io::join(StreamReader::new(bytes), tokio::io::sink());
    let decoded = WebSocketStream::from_raw_socket(copied, role, Some(config())).await;
    let frames = decoded.take_while(|message| std::future::ready(message.is_ok()));
    frames.filter_map(|message| std::future::ready(message.ok())).boxed()
}

/// The copy of one socket.
#[derive(Debug)]
struct Copy {
    shared: Shared,
    uri: Uri,
    headers: HeaderMap,
    before: Before,
    step: Step,
}

/// State that a copy and its frames share.
#[derive(Debug)]
struct Shared {
    comparer: Arc<Comparer>,
    matched: Matched,
    serving: Serving,
    id: String,
}

impl Copy {
    async fn run(self, head: Answer, from_client: mpsc::Receiver<Bytes>, from_service: mpsc::Receiver<Bytes>) {
        let Self {
            shared,
            uri,
            headers,
            before,
            step,
        } = self;
        before.done(shared.comparer.timeout).await;
        let Some(other) = shared.open(&head, &uri, headers).await else {
            return;
        };
        // The other side knows the socket: frames of others to this person may follow.
        drop(step);
        let (mut sink, theirs) = other.split();
        let mut theirs = theirs.take_while(|message| std::future::ready(message.is_ok())).boxed();
        let mut from_client = messages(from_client, Role::Server).await;
        let mut from_service = messages(from_service, Role::Client).await;
        let (answering, to) = (shared.serving.side, shared.serving.side.other());
        let mut frames = Frames::new(&shared);
        let mut sweep = tokio::time::interval(SWEEP);
        let (mut client_open, mut service_open, mut other_open) = (true, true, true);
        loop {
            tokio::select! {
                message = from_client.next(), if client_open => match message {
                    Some(message @ (Message::Text(_) | Message::Binary(_))) => {
                        shared.comparer.order.before().done(shared.comparer.timeout).await;
                        other_open = other_open && sink.send(message).await.is_ok();
                    }
                    // Pings and pongs belong to one connection.
                    Some(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                    Some(Message::Close(_)) | None => client_open = false,
                },
                message = from_service.next(), if service_open => match message {
                    Some(Message::Text(text)) => frames.add(answering, text),
                    Some(_) => {}
                    None => service_open = false,
                },
                // Once the other side has closed its socket, frames of the answering side are reported when their time is up.
                message = theirs.next(), if other_open => match message {
                    Some(Ok(Message::Text(text))) if service_open => frames.add(to, text),
                    // After the answering side's last frame, only one that is waited for has a counterpart there.
                    Some(Ok(Message::Text(text))) => _ = frames.matches(to, &text),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => other_open = false,
                },
                _ = sweep.tick() => frames.expire(),
            }
            // A frame of the other side may be under way when the client leaves.
            let is_needed = client_open || service_open || other_open && frames.awaits(to);
            if !is_needed {
                break;
            }
        }
        // The socket may be closed already.
        let _closed = sink.close().await;
    }
}

impl Shared {
    /// Opens the socket to the other side and compares both handshakes.
    async fn open(
        &self,
        head: &Answer,
        uri: &Uri,
        mut headers: HeaderMap,
    ) -> Option<WebSocketStream<reqwest::Upgraded>> {
        let Comparer {
            pairs, sides, routes, ..
        } = &*self.comparer;
        let route = &self.matched.route;
        let to = self.serving.side.other();
        pairs.translate_headers(to, &mut headers);
        let path = pairs.translate_path(to, uri, &self.matched.parts);
        let sending = sides.send(to, Method::GET, &path, headers, reqwest::Body::default());
        let answer = match tokio::time::timeout(self.comparer.timeout, sending).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                tracing::debug!(side = %to, %error, request_id = self.id, "comparison failed: upstream unavailable");
                routes.compared(route, self.serving.epoch, Outcome::Unanswered(to));
                return None;
            }
            Err(_) => {
                routes.compared(route, self.serving.epoch, Outcome::Unanswered(to));
                return None;
            }
        };
        let other = Answer {
            status: answer.status(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        };
        let differences = self.differences(self.serving.side, head, &other);
        let outcome = if differences.is_empty() {
            Outcome::Equal
        } else {
            self.report(&differences);
            Outcome::Different { confirmed: true }
        };
        routes.compared(route, self.serving.epoch, outcome);
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS || head.status != StatusCode::SWITCHING_PROTOCOLS {
            return None;
        }
        let upgraded = reqwest::Response::from(answer).upgrade().await.ok()?;
        Some(WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config())).await)
    }

    /// Compares two answers, the first of which is of `side`.
    fn differences(&self, side: Side, answer: &Answer, other: &Answer) -> Vec<Difference> {
        let (spring, ours) = match side {
            Side::Spring => (answer, other),
            Side::Ours => (other, answer),
        };
        compare(&self.comparer.rules, &self.matched.route.template.name, spring, ours).differences
    }

    fn report(&self, differences: &[Difference]) {
        let name = &self.matched.route.template.name;
        self.comparer
            .reporter
            .differences(&self.comparer.rules, &self.id, name, true, differences);
    }
}

/// Frames of one side that wait for an equal one of the other. Frames of several senders come in any order, so each is compared with all
/// that wait.
#[derive(Debug)]
struct Frames<'a> {
    copy: &'a Shared,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    side: Side,
    since: Duration,
    text: Utf8Bytes,
}

impl<'a> Frames<'a> {
    fn new(copy: &'a Shared) -> Self {
        Self {
            copy,
            waiting: VecDeque::new(),
        }
    }

    /// Whether a frame waits for one of this side.
    fn awaits(&self, side: Side) -> bool {
        self.waiting.iter().any(|frame| frame.side != side)
    }

    /// Removes the frame of the other side that this one is equal to. Returns whether there is one.
    fn matches(&mut self, side: Side, text: &Utf8Bytes) -> bool {
        let mut others = self.waiting.iter();
        let equal = others.position(|frame| {
            frame.side != side
                && (frame.text == *text
                    || self
                        .copy
                        .differences(side, &answer(text), &answer(&frame.text))
                        .is_empty())
        });
        let Some(equal) = equal else {
            return false;
        };
        self.waiting.remove(equal);
        self.count(true);
        true
    }

    fn add(&mut self, side: Side, text: Utf8Bytes) {
        if self.matches(side, &text) {
            return;
        }
        if self.waiting.len() == MOST_FRAMES {
            self.give_up_oldest();
        }
        let since = self.copy.comparer.clock.monotonic();
        self.waiting.push_back(Waiting { side, since, text });
    }

    /// Reports the frames that have waited long enough.
    fn expire(&mut self) {
        let Comparer { clock, timeout, .. } = &*self.copy.comparer;
        let now = clock.monotonic();
        while self.waiting.front().is_some_and(|frame| frame.since + *timeout <= now) {
            self.give_up_oldest();
        }
    }

    /// Reports the oldest frame: with the other side's oldest, field by field, else alone.
    fn give_up_oldest(&mut self) {
        let Some(oldest) = self.waiting.pop_front() else {
            return;
        };
        let other = self.waiting.iter().position(|frame| frame.side != oldest.side);
        if let Some(other) = other.and_then(|other| self.waiting.remove(other)) {
            let differences = self
                .copy
                .differences(oldest.side, &answer(&oldest.text), &answer(&other.text));
            self.copy.report(&differences);
        } else {
            let name = &self.copy.matched.route.template.name;
            let reporter = &self.copy.comparer.reporter;
            reporter.frame(&self.copy.id, name, oldest.side, &oldest.text);
        }
        self.count(false);
    }

    fn count(&self, equal: bool) {
        let routes = &self.copy.comparer.routes;
        routes.frame(&self.copy.matched.route, self.copy.serving.epoch, equal);
    }
}

/// Returns a frame as what rules compare.
fn answer(text: &Utf8Bytes) -> Answer {
    Answer {
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        body: Bytes::copy_from_slice(text.as_bytes()),
    }
}
