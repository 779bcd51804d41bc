//! Fakes of the legacy Spring services. On topics, tables, collections and over HTTP each behaves as the Java service does, including its
//! defects: it keeps one token per account, deletes by nickname, stops at a null value, and reads only documents with an `ObjectId`.
//! Features that tests of a mixed fleet do not need (pictures, analysis, configuration) are omitted.

mod auth;
mod dm;
mod feed;
mod notice;
pub mod tables;

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use sosohappy_bus::{Bus, Start};
use sosohappy_common::clock::{Clock as _, SystemClock};
use sosohappy_events::{Outgoing, Topic};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::{Offsets, eventually};

pub use auth::SpringAuth;
pub use dm::SpringDm;
pub use feed::SpringFeed;
pub use notice::{LikeForm, SpringNotice, SpringPush};

/// The time for which a record with a null value blocks a listener: ten tries, half a second apart.
pub const STALL: Duration = Duration::from_millis(4_500);

/// The common part of every service: a port, listeners on topics, and the tokens that they have received. Stops when dropped.
#[derive(Debug)]
struct Host {
    url: String,
    bus: Arc<dyn Bus>,
    tasks: JoinSet<()>,
    stalls: Arc<AtomicUsize>,
    tokens: Tokens,
    /// The next offsets of the listeners. A record is handled after its offset is counted, without a wait in between.
    offsets: Arc<Mutex<Offsets>>,
}

/// The access token of each account: one at a time.
#[derive(Debug, Clone, Default)]
struct Tokens(Arc<Mutex<HashMap<String, String>>>);

impl Tokens {
    /// Authenticates a request. Returns its account, or 403.
    fn caller(&self, headers: &HeaderMap) -> Result<String, StatusCode> {
        let (account, token) = credentials(headers).ok_or(StatusCode::FORBIDDEN)?;
        let is_known = self.0.lock().get(&account) == Some(&token);
        is_known.then_some(account).ok_or(StatusCode::FORBIDDEN)
    }
}

/// Returns the account and the bearer token of a request.
fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let text = |name| headers.get(name)?.to_str().ok();
    let token = text("authorization")?.strip_prefix("Bearer ")?;
    Some((text("email")?.to_owned(), token.to_owned()))
}

impl Host {
    fn new(bus: Arc<dyn Bus>) -> Self {
        Self {
            url: String::new(),
            bus,
            tasks: JoinSet::new(),
            stalls: Arc::default(),
            tokens: Tokens::default(),
            offsets: Arc::default(),
        }
    }

    /// Stops the listeners and the server, and returns the offsets that the consumer group has committed then.
    async fn stop(&mut self) -> Offsets {
        self.tasks.shutdown().await;
        self.offsets.lock().clone()
    }

    /// Serves the routes on a free port. Any other path is answered with 403, as by the security filter of a Spring service.
    async fn serve(&mut self, routes: Router) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        self.url = format!("http://{address}");
        let routes = routes.fallback(async || StatusCode::FORBIDDEN);
        self.tasks.spawn(async move {
            // Ends when the service is dropped.
            let _ = axum::serve(listener, routes).await;
        });
    }

    /// Starts a listener that calls `handle` with the key and the value of each record. A null value blocks it for [`STALL`] and is skipped,
    /// except on `expired`, whose records have no value.
    async fn listen<F, H>(&mut self, topic: Topic, start: Start, mut handle: H)
    where
        F: Future<Output = ()> + Send,
        H: FnMut(String, String) -> F + Send + 'static,
    {
        let from = match start {
            Start::Latest => Start::At(SystemClock.now()),
            start => start,
        };
        // A topic that was just created may have no leader yet.
        let read = async || self.bus.read(&[topic], start).await.ok();
        let mut reader = eventually("the topic can be read", read).await;
        let (bus, stalls, offsets) = (self.bus.clone(), self.stalls.clone(), self.offsets.clone());
        self.tasks.spawn(async move {
            loop {
                let Ok(record) = reader.next().await else {
                    match bus.read(&[topic], from).await {
                        Ok(reopened) => reader = reopened,
                        Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                    }
                    continue;
                };
                // After an error the reader is opened again and starts at an earlier record: records that were handled before are skipped.
                let is_new = {
                    let mut offsets = offsets.lock();
                    let next = offsets.entry((topic, record.partition)).or_default();
                    let is_new = record.offset >= *next;
                    *next = (*next).max(record.offset + 1);
                    is_new
                };
                if !is_new {
                    continue;
                }
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let key = record.key.as_deref().map(text).unwrap_or_default();
                match record.value.as_deref().map(text) {
                    Some(value) => handle(key, value).await,
                    None if topic == Topic::Expired => handle(key, String::new()).await,
                    None => {
                        stalls.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(STALL).await;
                    }
                }
            }
        });
    }

    /// Starts the listeners that store the token of each account, as feed, dm and notice do.
    async fn listen_to_tokens(&mut self, start: Start) {
        let tokens = self.tokens.clone();
        self.listen(Topic::AccessToken, start, move |account, token| {
            tokens.0.lock().insert(account, token);
            async {}
        })
        .await;
        let tokens = self.tokens.clone();
        self.listen(Topic::Expired, start, move |account, _| {
            tokens.0.lock().remove(&account);
            async {}
        })
        .await;
    }

    /// Returns a publisher of records without headers.
    fn publisher(&self) -> Publisher {
        Publisher(self.bus.clone())
    }

    /// Returns the number of records with a null value that have blocked a listener.
    fn stalls(&self) -> usize {
        self.stalls.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Clone)]
struct Publisher(Arc<dyn Bus>);

impl Publisher {
    /// Publishes a record. Fails while the broker is unavailable, and when the test's bus ends while a request is still handled.
    async fn publish(&self, topic: Topic, key: &str, value: &str) -> Result<(), StatusCode> {
        let record = Outgoing {
            topic: topic.default_name().to_owned(),
            key: Some(key.to_owned()),
            value: Some(value.as_bytes().to_vec()),
            headers: Vec::new(),
        };
        let published = self.0.publish(&[record]).await;
        published.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// The open sockets by nickname: only the newest of each.
#[derive(Debug, Clone, Default)]
struct Sockets(Arc<Mutex<HashMap<String, mpsc::UnboundedSender<String>>>>);

impl Sockets {
    /// Sends a frame. Returns false if that nickname has no socket.
    fn send(&self, nickname: &str, frame: String) -> bool {
        let sockets = self.0.lock();
        sockets.get(nickname).is_some_and(|socket| socket.send(frame).is_ok())
    }

    fn open(&self, nickname: &str) -> mpsc::UnboundedReceiver<String> {
        let (sender, frames) = mpsc::unbounded_channel();
        self.0.lock().insert(nickname.to_owned(), sender);
        frames
    }

    fn close(&self, nickname: &str) {
        self.0.lock().remove(nickname);
    }

    fn is_open(&self, nickname: &str) -> bool {
        self.0.lock().contains_key(nickname)
    }
}
