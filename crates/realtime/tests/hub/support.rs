use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::get;
use futures::{SinkExt as _, StreamExt as _};
use parking_lot::Mutex;
use sosohappy_access::{Caller, Revocations};
use sosohappy_common::clock::ManualClock;
use sosohappy_common::rate::Rate;
use sosohappy_common::settings::Live;
use sosohappy_common::{Account, Context, Problem};
use sosohappy_events::types::{Role, SessionId, TokenDigest};
use sosohappy_realtime::{Close, Hub, Limits, Numbered, OnShown, Origin, Page, Protocol, Stream, Version, upgrade};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

pub const PATIENCE: Duration = Duration::from_mins(1);

pub fn limits() -> Limits {
    Limits {
        frame_bytes: 16 * 1024,
        queue: 8,
        per_account: 3,
        total: 100,
        ping_every: Duration::from_secs(20),
        idle_timeout: Duration::from_mins(1),
        write_timeout: Duration::from_secs(5),
        frame_timeout: Duration::from_secs(5),
        frames_per_minute: Rate::Off,
        drain_spread: Duration::from_millis(300),
    }
}

/// Answers `echo …`, works on `slow <ms> …`, refuses `bad`, keeps everything it received.
#[derive(Debug, Default)]
pub struct Notes {
    pub frames: Mutex<Vec<String>>,
    pub opened: Mutex<usize>,
    /// The numbered frames of everybody.
    pub stored: Mutex<Vec<i64>>,
    /// Pages that were read after a signal.
    pub pages: Mutex<usize>,
    /// How long each of them takes.
    pub page_takes: Mutex<Duration>,
    /// No frame is ever answered.
    pub stuck: Mutex<bool>,
    /// How often the store fails from now on.
    pub failing: Mutex<usize>,
    /// The numbers that were shown.
    pub shown: Arc<Mutex<Vec<i64>>>,
}

/// Frames of one page of the store.
const PAGE: usize = 3;

impl Protocol for Notes {
    fn opened(&self, _caller: &Caller, _version: Version) {
        *self.opened.lock() += 1;
    }

    async fn begin(&self, _caller: &Caller, since: Option<i64>) -> Result<Option<Stream>, Problem> {
        let stored = self.stored.lock();
        let kept = stored.first().copied().zip(stored.last().copied());
        Ok(Some(match since {
            Some(since) => Stream::since(since, kept, 10_000),
            None => Stream::new_only(kept),
        }))
    }

    async fn page(&self, _caller: &Caller, after: i64) -> Result<Page, Problem> {
        *self.pages.lock() += 1;
        let takes = *self.page_takes.lock();
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        self.after(after)
    }

    async fn look(&self, _caller: &Caller, after: i64) -> Result<Page, Problem> {
        self.after(after)
    }

    async fn frame(&self, _caller: &Caller, _origin: Origin<'_>, text: &str) -> Result<Option<String>, Close> {
        if let Some(rest) = text.strip_prefix("slow ") {
            let millis = rest.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0);
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
        self.frames.lock().push(text.to_owned());
        if *self.stuck.lock() {
            std::future::pending::<()>().await;
        }
        match text {
            "bad" => Err(Close::BadFrame),
            _ => Ok(text.strip_prefix("echo ").map(str::to_owned)),
        }
    }

    fn overdue(&self) -> Option<String> {
        Some("too late".to_owned())
    }

    fn over_limit(&self) -> Option<String> {
        Some("too many".to_owned())
    }
}

impl Notes {
    fn after(&self, after: i64) -> Result<Page, Problem> {
        let mut failing = self.failing.lock();
        if *failing > 0 {
            *failing -= 1;
            return Err(Problem::unavailable());
        }
        let stored = self.stored.lock();
        let mut numbers = stored.iter().copied().filter(|seq| *seq > after);
        let frames: Vec<_> = numbers.by_ref().take(PAGE).map(|seq| self.numbered(seq)).collect();
        Ok(Page {
            until: frames.last().map_or(after, |frame| frame.seq),
            frames,
            more: numbers.next().is_some(),
        })
    }

    /// The frame of a number, as it is in a page.
    pub fn numbered(&self, seq: i64) -> Numbered {
        let shown = self.shown.clone();
        Numbered {
            seq,
            frame: numbered(seq).into(),
            on_shown: OnShown::new(move || shown.lock().push(seq)),
        }
    }
}

/// The first number of a large frame.
pub const LARGE: i64 = 1_000;

/// The frame of a number.
pub fn numbered(seq: i64) -> String {
    let data = if seq < LARGE {
        String::new()
    } else {
        "x".repeat(16 * 1024)
    };
    sosohappy_realtime::stream::frame("note", None, Some(seq), &data.into())
}

#[derive(Debug, Clone)]
pub struct Fleet {
    pub hub: Hub,
    pub revocations: Revocations,
    pub notes: Arc<Notes>,
    pub context: Context,
    pub url: String,
}

#[derive(Debug, Clone, serde::Deserialize)]
struct Who {
    name: String,
    #[serde(default)]
    session: u64,
    #[serde(default = "hour")]
    lives_ms: i64,
    #[serde(default)]
    refuse: bool,
    #[serde(default)]
    v: Option<Version>,
    #[serde(default)]
    since: Option<i64>,
}

const fn hour() -> i64 {
    3_600_000
}

pub fn account(name: &str) -> Account {
    format!("{name}@example.com+kakao").parse().unwrap()
}

async fn connect_here(State(fleet): State<Fleet>, Query(who): Query<Who>, socket: WebSocketUpgrade) -> Response {
    let issued_at = fleet.context.clock.now();
    let caller = Caller {
        account: account(&who.name),
        token: TokenDigest::of(&format!("{} {}", who.name, who.session)),
        session: SessionId(who.session),
        role: Role::User,
        issued_at,
        expires_at: issued_at + Duration::from_millis(who.lives_ms.unsigned_abs()),
        bearer: None,
    };
    let stream = match who.v {
        Some(Version::Two) => fleet.notes.begin(&caller, who.since).await.expect("a stream"),
        _ => None,
    };
    let client = sosohappy_realtime::Client {
        caller,
        nickname: &who.name,
        stream,
    };
    upgrade(
        socket,
        fleet.hub,
        client,
        fleet.notes,
        who.refuse.then_some(Close::Policy),
    )
}

impl Fleet {
    pub async fn start(limits: Limits) -> Self {
        Self::start_live(Live::new(limits)).await
    }

    pub async fn start_live(limits: Live<Limits>) -> Self {
        Self::start_with(limits, Context::system("test-service", 0)).await
    }

    /// On a clock that stands still until the test moves it.
    pub async fn start_at(clock: Arc<ManualClock>) -> Self {
        let context = Context {
            clock,
            ..Context::system("test-service", 0)
        };
        Self::start_with(Live::new(limits()), context).await
    }

    async fn start_with(limits: Live<Limits>, context: Context) -> Self {
        let revocations = Revocations::default();
        let hub = Hub::new(&context, limits, &revocations);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let fleet = Self {
            hub,
            revocations,
            notes: Arc::default(),
            context,
            url,
        };
        let app = Router::new().route("/", get(connect_here)).with_state(fleet.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        fleet
    }

    /// Connects and waits until the hub knows the socket.
    pub async fn connect(&self, query: &str) -> Client {
        let opened = *self.notes.opened.lock();
        let client = self.connect_only(query).await;
        until("the socket is open", || *self.notes.opened.lock() > opened).await;
        client
    }

    pub async fn connect_only(&self, query: &str) -> Client {
        let (stream, _) = tokio_tungstenite::connect_async(format!("{}/?{query}", self.url))
            .await
            .unwrap();
        Client(stream)
    }

    /// Counts the sockets that have ended.
    pub fn ended(&self) -> usize {
        let rendered = self.context.metrics.render();
        let counts = rendered
            .lines()
            .filter(|line| line.starts_with("sosohappy_sockets_closed_total{"))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok());
        counts.sum()
    }

    /// Whether a metric with this label has this value.
    pub fn counted(&self, name: &str, label: &str, value: &str, count: u64) -> bool {
        let (label, count) = (format!("{label}=\"{value}\""), format!(" {count}"));
        let rendered = self.context.metrics.render();
        rendered
            .lines()
            .any(|line| line.starts_with(name) && line.contains(&label) && line.ends_with(&count))
    }
}

pub struct Client(pub WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    pub async fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    pub async fn next(&mut self) -> Message {
        tokio::time::timeout(PATIENCE, self.0.next())
            .await
            .expect("in time")
            .expect("still open")
            .expect("no error")
    }

    /// Returns the next text, past pings.
    pub async fn text(&mut self) -> String {
        let text = async {
            loop {
                match self.next().await {
                    Message::Text(text) => return text.as_str().to_owned(),
                    Message::Ping(_) | Message::Pong(_) => {}
                    other => panic!("expected a text, got {other:?}"),
                }
            }
        };
        tokio::time::timeout(PATIENCE, text).await.expect("a text in time")
    }

    /// Returns the close code, past all frames before it. Bounded as a whole: a socket that stays open goes on pinging.
    pub async fn closed(&mut self) -> u16 {
        let closed = async {
            loop {
                if let Message::Close(frame) = self.next().await {
                    return frame.expect("with a code").code.into();
                }
            }
        };
        tokio::time::timeout(PATIENCE, closed).await.expect("closed in time")
    }
}

pub async fn until(what: &str, mut ask: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !ask() {
        assert!(tokio::time::Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
