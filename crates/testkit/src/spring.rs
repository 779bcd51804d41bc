//! A stand-in for the services of the legacy Spring fleet. Each behaves on topics, tables, collections and over HTTP as the Java service
//! does, its faults included: it keeps one token an account, erases by nickname, stops at a null value, reads documents with an `ObjectId`
//! only. What a test of a mixed fleet does not need (pictures, analysis, configuration) is left out.

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

use crate::eventually;

pub use auth::SpringAuth;
pub use dm::SpringDm;
pub use feed::SpringFeed;
pub use notice::{LikeForm, SpringNotice, SpringPush};

/// How long a record with a null value stops a listener: ten tries, half a second apart.
pub const STALL: Duration = Duration::from_millis(4_500);

/// What every service has: a port, its listeners, and the tokens they have brought. It stops when it is dropped.
#[derive(Debug)]
struct Host {
    url: String,
    bus: Arc<dyn Bus>,
    tasks: JoinSet<()>,
    stalls: Arc<AtomicUsize>,
    tokens: Tokens,
}

/// The one access token of each account.
#[derive(Debug, Clone, Default)]
struct Tokens(Arc<Mutex<HashMap<String, String>>>);

impl Tokens {
    /// Returns the account that the headers prove, else 403.
    fn caller(&self, headers: &HeaderMap) -> Result<String, StatusCode> {
        let (account, token) = credentials(headers).ok_or(StatusCode::FORBIDDEN)?;
        let is_known = self.0.lock().get(&account) == Some(&token);
        is_known.then_some(account).ok_or(StatusCode::FORBIDDEN)
    }
}

/// The account and the bearer token of a request.
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
        }
    }

    /// Serves the routes on a free port. What is not among them is 403: the filter in front of a Spring service refuses it.
    async fn serve(&mut self, routes: Router) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        self.url = format!("http://{address}");
        let routes = routes.fallback(async || StatusCode::FORBIDDEN);
        self.tasks.spawn(async move {
            // It ends with the test.
            let _ = axum::serve(listener, routes).await;
        });
    }

    /// Hands each record's key and value to a listener. A null value stops it for [`STALL`] and is skipped, but on `expired`.
    async fn listen<F, H>(&mut self, topic: Topic, start: Start, mut handle: H)
    where
        F: Future<Output = ()> + Send,
        H: FnMut(String, String) -> F + Send + 'static,
    {
        let from = match start {
            Start::Latest => Start::At(SystemClock.now()),
            start => start,
        };
        // A topic that was just made may have no leader yet.
        let read = async || self.bus.read(&[topic], start).await.ok();
        let mut reader = eventually("the topic can be read", read).await;
        let (bus, stalls) = (self.bus.clone(), self.stalls.clone());
        self.tasks.spawn(async move {
            // The next offset of each partition: a reader that is opened anew begins earlier.
            let mut next: HashMap<i32, i64> = HashMap::new();
            loop {
                let Ok(record) = reader.next().await else {
                    match bus.read(&[topic], from).await {
                        Ok(again) => reader = again,
                        Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                    }
                    continue;
                };
                let expected = next.entry(record.partition).or_default();
                if record.offset < *expected {
                    continue;
                }
                *expected = record.offset + 1;
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

    /// Keeps the one token of each account, as feed, dm and notice do.
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

    /// Publishes bytes without headers.
    fn publisher(&self) -> Publisher {
        Publisher(self.bus.clone())
    }

    fn stalls(&self) -> usize {
        self.stalls.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Clone)]
struct Publisher(Arc<dyn Bus>);

impl Publisher {
    async fn publish(&self, topic: Topic, key: &str, value: &str) {
        let record = Outgoing {
            topic: topic.default_name().to_owned(),
            key: Some(key.to_owned()),
            value: Some(value.as_bytes().to_vec()),
            headers: Vec::new(),
        };
        self.0.publish(&[record]).await.expect("the bus takes records");
    }
}

/// The open sockets, one a nickname; the last one that was opened counts.
#[derive(Debug, Clone, Default)]
struct Sockets(Arc<Mutex<HashMap<String, mpsc::UnboundedSender<String>>>>);

impl Sockets {
    /// Sends a frame; false when that nickname has no socket.
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
