//! One task a socket.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use futures::SinkExt as _;
use futures::future::BoxFuture;
use sosohappy_access::Caller;
use sosohappy_common::Problem;
use sosohappy_common::correlation::{Correlation, continue_trace};
use sosohappy_common::faults::Fault;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use crate::frame_limit::Verdict;
use crate::hub::{Origin, Registration, Socket};
use crate::mailbox::{Next, Ready, Signal};
use crate::shown::Confirmations;
use crate::stream::{self, Incoming, InvalidFrame};
use crate::{Close, Hub, Numbered, Page, Stream, Version};

/// Handles the frames of a service's sockets.
pub trait Protocol: Send + Sync + 'static {
    /// The socket is in the hub, and its client does not know yet that the handshake was accepted.
    fn opened(&self, _caller: &Caller, _version: Version) {}

    /// A text frame came in on the socket `origin`. `Some` is sent back on this socket only. `Err` closes it. The next frame of this socket waits
    /// for the answer; frames to it do not.
    fn frame(
        &self,
        caller: &Caller,
        origin: Origin<'_>,
        text: &str,
    ) -> impl Future<Output = Result<Option<String>, Close>> + Send;

    /// Returns where the numbered frames of a version 2 socket begin; `since` is the last number that its client has seen. `None`: the
    /// service has version 1 only.
    fn begin(
        &self,
        _caller: &Caller,
        _since: Option<i64>,
    ) -> impl Future<Output = Result<Option<Stream>, Problem>> + Send {
        std::future::ready(Ok(None))
    }

    /// Returns the numbered frames of the caller's account after a number, at most [`stream::PAGE`]. An error is retried. Sockets of the account
    /// that ask at the same time share the page, whichever of them is the caller.
    fn page(&self, _caller: &Caller, after: i64) -> impl Future<Output = Result<Page, Problem>> + Send {
        std::future::ready(Ok(Page {
            until: after,
            ..Page::default()
        }))
    }

    /// [`Protocol::page`] without a signal that something was stored: of a socket that was opened a moment ago, or that looks once more. After a
    /// replica has left, thousands look at once, and most have missed nothing.
    fn look(&self, caller: &Caller, after: i64) -> impl Future<Output = Result<Page, Problem>> + Send {
        self.page(caller, after)
    }

    /// Returns whether the nickname in a handshake is known to be the caller's. If not, it is looked up ([`sosohappy_access::act::own`]).
    fn knows_nickname(&self, _caller: &Caller, _nickname: &str) -> impl Future<Output = bool> + Send {
        std::future::ready(false)
    }

    /// Returns the answer to a frame whose work took longer than [`crate::Limits::frame_timeout`] and was dropped, at any point. A
    /// version 2 socket gets an `error` frame.
    fn overdue(&self) -> Option<String> {
        None
    }

    /// Returns the error for a frame over [`crate::Limits::frames_per_minute`], which is not handled. A version 2 socket gets an `error`
    /// frame.
    fn over_limit(&self) -> Option<String> {
        None
    }
}

/// Bytes read at once, and the size of an idle socket's read buffer. Most frames of a client are a tenth of it; the buffer grows for a
/// larger one.
const READ_BUFFER: usize = 1024;
/// Bytes written at once. An idle socket holds no write buffer.
const WRITE_BUFFER: usize = 4 * 1024;
/// How long a closing waits for the client's answer to it.
const FAREWELL: Duration = Duration::from_secs(2);
/// Frames of a client that is closed gently are handled for this long.
const GENTLE: Duration = Duration::from_secs(5);
/// Frames written before the client is listened to again.
const TURN: usize = 64;

/// Between two tries to read numbered frames from the store: the first, doubled up to the last.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// The client of a handshake.
#[derive(Debug)]
pub struct Client<'a> {
    pub caller: Caller,
    /// The caller's, unless the handshake is refused.
    pub nickname: &'a str,
    /// Of a version 2 socket.
    pub stream: Option<Stream>,
}

/// Accepts the handshake with the hub's frame limit, and runs the socket until it is closed by the client, the hub, the token's expiry
/// or the drain. A `refusal` completes the handshake and closes at once: a browser or the app learns the reason only so.
///
/// The socket is in the hub before the answer is made: events after the client has it reach the client.
pub fn upgrade<P: Protocol>(
    upgrade: WebSocketUpgrade,
    hub: Hub,
    client: Client<'_>,
    protocol: Arc<P>,
    refusal: Option<Close>,
) -> Response {
    let stream = client.stream;
    let version = stream.map_or(Version::One, |_| Version::Two);
    let registration = match refusal.map_or_else(|| hub.enter(client.caller, client.nickname, version), Err) {
        Ok(registration) => {
            protocol.opened(&registration.socket.caller, version);
            Ok(registration)
        }
        Err(reason) => Err(reason),
    };
    let frame_bytes = match &registration {
        Ok(registration) => registration.socket.limits.frame_bytes,
        Err(_) => hub.0.limits.get().frame_bytes,
    };
    let tracked = hub.0.tasks.token();
    // No bound on the write buffer: the hub bounds a frame, and the next one is not written before a client has taken what is over the
    // buffer's size.
    let upgrade = upgrade
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_message_size(frame_bytes)
        .max_frame_size(frame_bytes)
        .on_failed_upgrade(|error| tracing::debug!(%error, "WebSocket handshake failed"));
    upgrade.on_upgrade(async move |connection| {
        let _tracked = tracked;
        match registration {
            Ok(registration) => run(connection, hub, registration, &protocol, stream).await,
            Err(reason) => refuse(connection, &hub, reason).await,
        }
    })
}

async fn run<P: Protocol>(
    connection: WebSocket,
    hub: Hub,
    mut registration: Registration,
    protocol: &Arc<P>,
    stream: Option<Stream>,
) {
    let known = registration.socket.clone();
    let mut session = Session {
        hub: &hub,
        known: &known,
        protocol,
        connection,
        confirmations: Confirmations::default(),
        stream: stream.map(Reading::from),
        broken: false,
    };
    // On the heap and only while there is one: an idle socket's task stays small.
    let mut work: Option<Work<'_>> = None;
    let end = session.serve(&mut work).await;
    registration.end = end.label();
    drop(registration);
    Box::pin(session.farewell(end, work)).await;
}

async fn refuse(mut connection: WebSocket, hub: &Hub, reason: Close) {
    hub.0.metrics.refused(reason.label());
    let closing = connection.send(Message::Close(Some(reason.frame())));
    if let Ok(Ok(())) = tokio::time::timeout(FAREWELL, closing).await {
        let silence = async { while let Some(Ok(_)) = connection.recv().await {} };
        // A client that does not answer the closing is left.
        let _ = tokio::time::timeout(FAREWELL, silence).await;
    }
}

/// The service's work on one frame.
type Work<'a> = BoxFuture<'a, Result<Option<String>, Close>>;

/// The reading of numbered frames from the store, with the span of their writing.
type Pull<'a> = BoxFuture<'a, (Arc<Page>, Span)>;

/// How far a version 2 socket has read the store.
struct Reading {
    /// The number that was written last.
    after: i64,
    /// A frame that is written before all others.
    greeting: Option<String>,
    /// The signal since the store was asked. One is set from the start: frames that were stored between the handshake and the socket's
    /// registration in the hub gave none.
    signal: Option<Signal>,
    /// The request or event that caused the signal.
    cause: Option<Correlation>,
    /// How many reads of the account had begun when the signal of the last page was given.
    begun: u64,
    /// The frame that came with the signal, of which there was one.
    ready: Option<Ready>,
}

impl From<Stream> for Reading {
    fn from(stream: Stream) -> Self {
        Self {
            after: stream.after,
            greeting: stream.greeting(),
            signal: Some(Signal::Look),
            cause: None,
            begun: 0,
            ready: None,
        }
    }
}

/// How a socket ended.
#[derive(Debug, Clone, Copy)]
enum End {
    /// We close it.
    Ours(Close),
    /// The client closed it.
    Theirs,
    /// The connection is no more.
    Gone,
}

impl End {
    const fn label(self) -> &'static str {
        match self {
            Self::Ours(reason) => reason.label(),
            Self::Theirs => Close::Normal.label(),
            Self::Gone => "gone",
        }
    }

    const fn is_gentle(self) -> bool {
        matches!(self, Self::Ours(reason) if reason.is_gentle())
    }

    /// Whether the client may not act any more.
    const fn forbids(self) -> bool {
        matches!(self, Self::Ours(Close::Policy | Close::TokenExpired))
    }
}

/// The effect of a message from the client.
enum Received {
    Nothing,
    Frame(Utf8Bytes),
    /// An answer that needs no work of the service.
    Answer(Option<String>),
}

struct Session<'a, P> {
    hub: &'a Hub,
    known: &'a Socket,
    protocol: &'a Arc<P>,
    connection: WebSocket,
    confirmations: Confirmations,
    /// Of a version 2 socket.
    stream: Option<Reading>,
    /// Reading failed: nothing more can be read from this connection.
    broken: bool,
}

impl<'a, P: Protocol> Session<'a, P> {
    async fn serve(&mut self, work: &mut Option<Work<'a>>) -> End {
        if let Some(greeting) = self.stream.as_mut().and_then(|stream| stream.greeting.take())
            && let Err(end) = self.write(Message::Text(greeting.into())).await
        {
            return end;
        }
        let mut pull: Option<Pull<'_>> = None;
        loop {
            let more = match self.write_turn().await {
                Ok(more) => more,
                Err(end) => return end,
            };
            if pull.is_none() {
                if let Some((frame, span)) = self.take_ready()
                    && let Err(end) = self.write_ready(&frame, &span).await
                {
                    return end;
                }
                pull = self.pull();
            }
            tokio::select! {
                biased;
                done = done(work), if work.is_some() => {
                    *work = None;
                    self.known.seen(self.hub.0.tick());
                    match done {
                        Ok(None) => {}
                        Ok(Some(answer)) => {
                            if let Err(end) = self.write(Message::Text(answer.into())).await {
                                return end;
                            }
                        }
                        Err(reason) => return End::Ours(reason),
                    }
                }
                message = self.connection.recv(), if work.is_none() => match self.received(message) {
                    Ok(Received::Nothing) => {}
                    Ok(Received::Frame(text)) => *work = Some(self.handle(text)),
                    Ok(Received::Answer(answer)) => {
                        if let Some(answer) = answer
                            && let Err(end) = self.write(Message::Text(answer.into())).await
                        {
                            return end;
                        }
                    }
                    Err(end) => return end,
                },
                (page, span) = done(&mut pull), if pull.is_some() => {
                    pull = None;
                    if let Err(end) = self.write_page(page, &span).await {
                        return end;
                    }
                }
                () = self.known.mailbox.changed(), if !more => {}
                () = std::future::ready(()), if more => {}
            }
        }
    }

    fn handle(&self, text: Utf8Bytes) -> Work<'a> {
        self.known.busy();
        let (protocol, socket, within) = (self.protocol, self.known, self.known.limits.frame_timeout);
        Box::pin(async move {
            let frame = protocol.frame(&socket.caller, Origin::new(socket), &text);
            let work = tokio::time::timeout(within, frame);
            work.await.unwrap_or_else(|_| {
                tracing::warn!("frame handler timed out");
                Ok(match socket.version {
                    Version::One => protocol.overdue(),
                    Version::Two => Some(answer(&text, "unavailable", "it took too long: read the history first")),
                })
            })
        })
    }

    /// Takes the frame that came with the signal, with the span of its writing, if it is the next one. If it is a later one, or too old, the store
    /// is read.
    fn take_ready(&mut self) -> Option<(Arc<Numbered>, Span)> {
        let stream = self.stream.as_mut()?;
        let ready = stream.ready.take()?;
        if ready.frame.seq > stream.after + 1 || !ready.is_valid() {
            return None;
        }
        stream.signal = None;
        let cause = stream.cause.take();
        if ready.frame.seq <= stream.after {
            return None;
        }
        let span = write_span(self.hub.0.context.service, cause.as_ref());
        Some((ready.frame, span))
    }

    async fn write_ready(&mut self, frame: &Numbered, span: &Span) -> Result<(), End> {
        span.record("frames", 1);
        self.feed_numbered(frame).await?;
        if let Some(stream) = &mut self.stream {
            stream.after = frame.seq;
        }
        self.flush(1).await
    }

    async fn feed_numbered(&mut self, numbered: &Numbered) -> Result<(), End> {
        self.hub.0.metrics.frames_out.inc();
        self.confirmations
            .wrote_numbered(numbered.seq, numbered.on_shown.clone());
        let frame = Message::Text(numbered.frame.clone());
        in_time(self.known.limits.write_timeout, self.connection.feed(frame)).await
    }

    /// Starts to read the store, if there was a signal.
    fn pull(&mut self) -> Option<Pull<'a>> {
        let stream = self.stream.as_mut()?;
        let signal = stream.signal.take()?;
        let cause = stream.cause.take();
        let span = write_span(self.hub.0.context.service, cause.as_ref());
        let reading = span.clone();
        let (hub, protocol, socket, after) = (self.hub, self.protocol, self.known, stream.after);
        let entropy = &self.hub.0.context.entropy;
        let begun = match signal {
            Signal::Stored(begun) => begun,
            Signal::Look => socket.reads.begun(),
        };
        stream.begun = begun;
        let shared = move || {
            socket.reads.get(after, begun, || {
                let (protocol, caller, reads) = (protocol.clone(), socket.caller.clone(), hub.0.metrics.reads.clone());
                async move {
                    reads.inc();
                    protocol.page(&caller, after).await
                }
            })
        };
        let read = async move {
            let mut pause = RETRY.0;
            loop {
                let page = match signal {
                    Signal::Look => protocol.look(&socket.caller, after).await.map(Arc::new),
                    Signal::Stored(_) => shared().await,
                };
                match page {
                    Ok(page) => return (page, span),
                    // The service logs the cause.
                    Err(problem) => tracing::debug!(?problem, "reading frames from the store failed; retrying"),
                }
                let permille = u32::try_from(entropy.u64() % 501).unwrap_or_default();
                tokio::time::sleep(pause + pause * permille / 1000).await;
                pause = (pause * 2).min(RETRY.1);
            }
        };
        Some(Box::pin(read.instrument(reading)))
    }

    async fn write_page(&mut self, page: Arc<Page>, span: &Span) -> Result<(), End> {
        let written = page.frames.len();
        span.record("frames", written);
        for numbered in &page.frames {
            self.feed_numbered(numbered).await?;
        }
        if let Some(stream) = &mut self.stream {
            stream.after = stream.after.max(page.until);
            if page.more {
                // There may be others behind it.
                stream.ready = None;
                stream.signal = stream.signal.max(Some(Signal::Stored(stream.begun)));
            }
        }
        self.flush(written).await
    }

    /// Classifies a message; returns a text frame within the limit.
    fn received(&mut self, message: Option<Result<Message, axum::Error>>) -> Result<Received, End> {
        self.known.seen(self.hub.0.tick());
        match message {
            Some(Ok(Message::Text(text))) => {
                // The sweep runs once a second; no frame is handled after the token has expired.
                if self.known.caller.expires_at <= self.hub.0.context.clock.now() {
                    return Err(End::Ours(Close::TokenExpired));
                }
                self.text(text)
            }
            // Answers to our pings come as often as we ask and are not counted against the client.
            Some(Ok(Message::Pong(payload))) if self.confirmations.pong(&payload) => Ok(Received::Nothing),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {
                self.confirmations.sign_of_life();
                match self.hub.0.frames.get().control(&self.known.caller.account) {
                    Verdict::Accepted => Ok(Received::Nothing),
                    Verdict::Refused | Verdict::Flood => Err(End::Ours(Close::RateLimited)),
                }
            }
            Some(Ok(Message::Binary(_))) => Err(End::Ours(Close::BadFrame)),
            Some(Ok(Message::Close(_))) => Err(End::Theirs),
            Some(Err(error)) => {
                self.broken = true;
                Err(why(error))
            }
            None => Err(End::Gone),
        }
    }

    /// Counts a text frame. An acknowledgement is taken here, and an invalid frame refused; other frames are the service's.
    fn text(&mut self, text: Utf8Bytes) -> Result<Received, End> {
        self.hub.0.metrics.frames_in.inc();
        let mut invalid = None;
        if self.known.version == Version::Two {
            match Incoming::parse(&text) {
                Ok(frame) if frame.topic == "ack" => return self.acknowledged(&frame),
                Ok(_) => {}
                Err(InvalidFrame::WrongType { id }) => {
                    let reason = "`id` is a text, and `seq` a whole number";
                    invalid = Some(stream::error(id.as_deref(), "invalid-frame", reason));
                }
                Err(InvalidFrame::UnpairedSurrogate { id }) => {
                    let reason = "a text has half a surrogate pair";
                    invalid = Some(stream::error(id.as_deref(), "invalid-frame", reason));
                }
                Err(InvalidFrame::NoFrame) => return Err(End::Ours(Close::BadFrame)),
            }
        }
        self.confirmations.sign_of_life();
        match self.count() {
            Verdict::Accepted if invalid.is_some() => Ok(Received::Answer(invalid)),
            Verdict::Accepted => Ok(Received::Frame(text)),
            Verdict::Refused => Ok(Received::Answer(match self.known.version {
                Version::One => self.protocol.over_limit(),
                Version::Two => Some(answer(&text, "rate-limited", "too many frames, try again later")),
            })),
            Verdict::Flood => Err(End::Ours(Close::RateLimited)),
        }
    }

    /// Acknowledgements are as many as our frames, and cost as little as a ping.
    fn acknowledged(&mut self, frame: &Incoming) -> Result<Received, End> {
        if self.hub.0.frames.get().control(&self.known.caller.account) != Verdict::Accepted {
            return Err(End::Ours(Close::RateLimited));
        }
        let is_valid = frame.data.is_null() || frame.data.is_object();
        let Some(seq) = frame.seq.filter(|seq| *seq >= 0 && is_valid) else {
            let reason = if is_valid {
                "an `ack` frame has a `seq` of 0 or more"
            } else {
                "`data` is an object"
            };
            let error = stream::error(frame.id.as_deref(), "invalid-frame", reason);
            return Ok(Received::Answer(Some(error)));
        };
        self.confirmations.acknowledge(seq);
        Ok(Received::Nothing)
    }

    /// Counts a text frame against the limit of its account.
    fn count(&self) -> Verdict {
        let verdict = self.hub.0.frames.get().text(&self.known.caller.account);
        if verdict != Verdict::Accepted {
            self.hub.0.metrics.frames_limited.inc();
        }
        verdict
    }

    /// Writes what waits, a turn at most; answers whether there may be more.
    async fn write_turn(&mut self) -> Result<bool, End> {
        let mut written = 0;
        let mut more = true;
        while more && written < TURN {
            let message = match self.known.mailbox.take() {
                Next::Frame(_) if self.is_slow_on_purpose() => {
                    tokio::time::sleep(self.known.limits.write_timeout).await;
                    return Err(End::Ours(Close::TooSlow));
                }
                Next::Frame(queued) => {
                    self.hub.0.metrics.frames_out.inc();
                    if let Some(on_shown) = queued.on_shown {
                        self.confirmations.wrote(on_shown);
                    }
                    Message::Text(queued.frame)
                }
                Next::Ping => Message::Ping(self.confirmations.ping()),
                Next::Signal(signal, cause, ready) => {
                    if let Some(stream) = &mut self.stream {
                        stream.ready = ready.filter(|_| stream.signal.is_none());
                        stream.signal = stream.signal.max(Some(signal));
                        stream.cause = cause.or_else(|| stream.cause.take());
                    }
                    continue;
                }
                Next::Close(reason) => {
                    self.ping_behind(&mut written).await?;
                    self.flush(written).await?;
                    return Err(End::Ours(reason));
                }
                Next::Nothing => {
                    more = false;
                    continue;
                }
            };
            in_time(self.known.limits.write_timeout, self.connection.feed(message)).await?;
            written += 1;
        }
        self.ping_behind(&mut written).await?;
        self.flush(written).await?;
        Ok(more)
    }

    /// Whether a fault switch has this client take no frames.
    fn is_slow_on_purpose(&self) -> bool {
        let faults = self.hub.0.context.faults();
        faults.has(Fault::SlowReader, self.known.caller.account.as_str())
    }

    /// Asks for a sign of life behind frames whose showing is to be reported.
    async fn ping_behind(&mut self, written: &mut usize) -> Result<(), End> {
        if self.confirmations.needs_ping() {
            let ping = Message::Ping(self.confirmations.ping());
            in_time(self.known.limits.write_timeout, self.connection.feed(ping)).await?;
            *written += 1;
        }
        Ok(())
    }

    async fn flush(&mut self, written: usize) -> Result<(), End> {
        if written == 0 {
            return Ok(());
        }
        in_time(self.known.limits.write_timeout, self.connection.flush()).await
    }

    async fn write(&mut self, message: Message) -> Result<(), End> {
        self.hub.0.metrics.frames_out.inc();
        in_time(self.known.limits.write_timeout, self.connection.send(message)).await
    }

    /// The closing handshake. A frame that is being worked on is brought to its end, unless its sender may no longer send; on a
    /// gentle closing so are those the client sent before it knew, in order, for a while.
    async fn farewell(mut self, end: End, work: Option<Work<'a>>) {
        let told = match end {
            End::Ours(reason) => {
                let frame = match self.known.version {
                    Version::One => reason.frame(),
                    Version::Two => reason.frame_with_hint(self.hub.0.context.entropy.u64()),
                };
                let closing = self.connection.send(Message::Close(Some(frame)));
                matches!(tokio::time::timeout(FAREWELL, closing).await, Ok(Ok(())))
            }
            End::Theirs => true,
            End::Gone => false,
        };
        let stopped = self.hub.0.context.lifecycle.stopped();
        let rest = async {
            if let Some(work) = work.filter(|_| !end.forbids()) {
                let _answer_nobody_gets = work.await;
            }
            if self.broken && told {
                // Unread data of the client remains in the buffer, and closing now would reset the connection before the closing
                // reached it.
                tokio::time::sleep(FAREWELL / 4).await;
            }
            // A client that does not answer the closing is left.
            while told && let Ok(Some(Ok(message))) = tokio::time::timeout(FAREWELL, self.connection.recv()).await {
                let text = match message {
                    Message::Text(text) => text,
                    Message::Pong(payload) => {
                        self.confirmations.pong(&payload);
                        continue;
                    }
                    // The client answers our closing, which stands behind everything that was written.
                    Message::Close(_) if matches!(end, End::Ours(_)) => {
                        self.confirmations.sign_of_life();
                        continue;
                    }
                    Message::Close(_) | Message::Ping(_) | Message::Binary(_) => continue,
                };
                if end.is_gentle()
                    && let Ok(Received::Frame(text)) = self.text(text)
                    && self.handle(text).await.is_err()
                {
                    return;
                }
            }
        };
        // Frames that are cut off here were not acknowledged.
        let within = if end.is_gentle() { GENTLE } else { FAREWELL };
        stopped.run_until_cancelled(tokio::time::timeout(within, rest)).await;
    }
}

/// Returns the span of reading numbered frames and writing them to a socket, below what caused it; none without a cause.
fn write_span(service: &'static str, cause: Option<&Correlation>) -> Span {
    let Some(cause) = cause else {
        return Span::none();
    };
    let span = tracing::info_span!(
        "write",
        service,
        request_id = &*cause.id,
        trace_id = cause.trace_id(),
        frames = Empty
    );
    if let Some(traceparent) = &cause.traceparent {
        continue_trace(&span, traceparent);
    }
    span
}

/// Returns the `error` frame that answers a client's frame of version 2.
fn answer(text: &str, code: &str, reason: &str) -> String {
    let id = match Incoming::parse(text) {
        Ok(frame) => frame.id,
        Err(InvalidFrame::WrongType { id } | InvalidFrame::UnpairedSurrogate { id }) => id,
        Err(InvalidFrame::NoFrame) => None,
    };
    stream::error(id.as_deref(), code, reason)
}

async fn done<T>(work: &mut Option<BoxFuture<'_, T>>) -> T {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

/// One write; a client that does not take it in time is too slow.
async fn in_time(within: Duration, write: impl Future<Output = Result<(), axum::Error>>) -> Result<(), End> {
    match tokio::time::timeout(within, write).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::Gone),
        Err(_) => Err(End::Ours(Close::TooSlow)),
    }
}

fn why(error: axum::Error) -> End {
    use tungstenite::Error;
    let Ok(error) = error.into_inner().downcast::<Error>() else {
        return End::Gone;
    };
    match *error {
        Error::Capacity(_) => End::Ours(Close::TooLarge),
        Error::Utf8(_) => End::Ours(Close::BadFrame),
        Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => End::Gone,
        Error::Protocol(_) => End::Ours(Close::Protocol),
        _ => End::Gone,
    }
}
