//! The sockets of this replica, by account.

mod drain;
mod revocations;
mod sweep;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use jiff::{SignedDuration, Timestamp};
use parking_lot::{Mutex, RwLock};
use sosohappy_access::{Caller, Revocations};
use sosohappy_common::correlation::correlation;
use sosohappy_common::rate::Rate;
use sosohappy_common::settings::{Live, schema, valid};
use sosohappy_common::{Account, Context};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::frame_limit::FrameLimit;
use crate::mailbox::{Mailbox, Pushed, Queued, Ready, Signal};
use crate::metrics::SocketMetrics;
use crate::page_reads::PageReads;
use crate::{Close, Numbered, OnShown, Version};

pub use revocations::spawn_revalidation;

/// Bounds of every socket; one keeps those it was opened with, unless its field says otherwise.
#[derive(Debug, Clone, Copy, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Limits {
    /// Bytes of one frame from a client.
    #[serde(deserialize_with = "valid::at_least_one")]
    #[schemars(range(min = 1))]
    pub frame_bytes: usize,
    /// Frames waiting for one client before it is cut.
    #[serde(deserialize_with = "valid::at_least_one")]
    #[schemars(range(min = 1))]
    pub queue: usize,
    /// Sockets of one account; one more cuts the oldest.
    #[serde(deserialize_with = "valid::at_least_one")]
    #[schemars(range(min = 1))]
    pub per_account: usize,
    /// Sockets of this replica; one more is refused.
    #[serde(deserialize_with = "valid::at_least_one")]
    #[schemars(range(min = 1))]
    pub total: usize,
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub ping_every: Duration,
    /// Without any frame or pong for this long a socket is dead.
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub idle_timeout: Duration,
    /// One write that takes longer cuts the client.
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub write_timeout: Duration,
    /// Work on one frame of a client that takes longer is dropped.
    #[serde(deserialize_with = "valid::duration", default = "frame_timeout")]
    #[schemars(schema_with = "schema::duration")]
    pub frame_timeout: Duration,
    /// Text frames from the clients of one account on this replica; open sockets follow a change. More are refused, and a client that
    /// keeps sending is closed.
    #[serde(default = "frames_per_minute")]
    pub frames_per_minute: Rate,
    /// Over how long the closings of a drain are spread; well within `server.drain-budget`.
    #[serde(deserialize_with = "valid::duration_or_zero", default = "drain_spread")]
    #[schemars(schema_with = "schema::duration_or_zero")]
    pub drain_spread: Duration,
}

const fn frame_timeout() -> Duration {
    Duration::from_secs(10)
}

const fn frames_per_minute() -> Rate {
    Rate::per_minute(120)
}

const fn drain_spread() -> Duration {
    Duration::from_secs(5)
}

impl Limits {
    /// Returns the bytes of the largest frame to a client: at least as many as one from a client may have, because a message that was
    /// accepted has to reach its receiver.
    #[must_use]
    pub fn frame_out_bytes(&self) -> usize {
        self.frame_bytes.max(FRAME_OUT_BYTES)
    }
}

/// Bytes of one frame to a client, where frames from clients are smaller. A client that does not read collects no more than one frame
/// in its write buffer.
pub const FRAME_OUT_BYTES: usize = 60 * 1024;

/// How much younger than an event a socket may be and still get its frame by [`Hub::send_as_of`]: the clocks of two replicas differ,
/// and what happened is stamped before it is committed, so that a client may have read the history in between. Less than a replica takes
/// to start again and its clients to come back.
const SKEW: Duration = Duration::from_millis(250);

/// How long after it happened something may arrive for [`SKEW`] to count. A later frame is a repeated one, after a replica lost it: a
/// client that connected meanwhile has read it in the history, below what its socket has shown since.
const LATE: Duration = Duration::from_secs(3);

/// Longer than the clocks of two replicas differ: see [`Hub::online_well_before`].
const CERTAIN: Duration = Duration::from_secs(1);

/// Clones share the sockets.
#[derive(Debug, Clone)]
pub struct Hub(pub(crate) Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    pub limits: Live<Limits>,
    pub frames: Live<FrameLimit>,
    pub context: Context,
    pub metrics: SocketMetrics,
    pub tasks: TaskTracker,
    /// Start of [`Shared::tick`]'s count.
    started: Instant,
    next_id: AtomicU64,
    pub revocations: Revocations,
    pub connections: RwLock<Connections>,
}

/// Sockets that are not being closed.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    pub accounts: HashMap<Account, Vec<Arc<Socket>>>,
    pub total: usize,
    /// Set by the drain under the lock of the connections: later sockets are refused, so that the drain misses none.
    pub draining: bool,
}

/// Names a socket in the whole fleet: the ids of a process count from a random number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketId(pub u64);

/// The socket that a frame came in on.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a>(&'a Socket);

impl<'a> Origin<'a> {
    pub(crate) const fn new(socket: &'a Socket) -> Self {
        Self(socket)
    }

    #[must_use]
    pub fn id(self) -> SocketId {
        SocketId(self.0.id)
    }

    #[must_use]
    pub fn version(self) -> Version {
        self.0.version
    }

    /// Returns whether the caller had this nickname since the socket was opened: it is the one of the handshake, or
    /// [`Origin::had_nickname`] has noted it.
    #[must_use]
    pub fn has_had_nickname(self, nickname: &str) -> bool {
        self.0.nicknames.lock().iter().any(|known| **known == *nickname)
    }

    /// Notes a nickname that the caller has, for frames that are read after it was changed. The latest ones are kept.
    pub fn had_nickname(self, nickname: &str) {
        let mut known = self.0.nicknames.lock();
        if !known.iter().any(|known| **known == *nickname) {
            if known.len() >= MOST_NICKNAMES {
                known.remove(0);
            }
            known.push(nickname.into());
        }
    }
}

/// Nicknames that are kept of one socket. A client sends frames under the name it knows, which is one of the latest.
const MOST_NICKNAMES: usize = 4;

/// State of a socket in the hub; its task holds the connection.
#[derive(Debug)]
pub(crate) struct Socket {
    id: u64,
    pub caller: Caller,
    pub version: Version,
    /// Of the caller, since the socket was opened.
    nicknames: Mutex<Vec<Box<str>>>,
    /// As they were when it was opened.
    pub limits: Arc<Limits>,
    /// When its handshake was accepted.
    since: Timestamp,
    pub mailbox: Mailbox,
    /// Shared by all sockets of the account at this replica.
    pub reads: PageReads,
    /// The tick of the last sign of life; [`Socket::BUSY`] while a frame of the client is worked on.
    seen: AtomicU64,
    /// The tick of the next ping.
    pub next_ping: AtomicU64,
    /// The tick at which it was opened.
    opened: u64,
    /// The tick at which the store is asked for numbered frames without a signal.
    next_look: AtomicU64,
}

/// Milliseconds after the opening of a version 2 socket at which it looks into the store without a signal, the first and the last; each is
/// ten times as late as the one before. A record that was read here before the socket was opened, and stored by another replica after,
/// gives it no signal.
const LOOKS: (u64, u64) = (1_000, 100_000);

impl Socket {
    /// A client is not idle while we are the ones who do not read.
    const BUSY: u64 = u64::MAX;

    fn was_there(&self, happened_at: Timestamp, now: Timestamp) -> bool {
        let is_late = now.duration_since(happened_at) > LATE.try_into().unwrap_or(SignedDuration::MAX);
        let skew = if is_late { Duration::ZERO } else { SKEW };
        self.since <= happened_at.checked_add(skew).unwrap_or(Timestamp::MAX)
    }

    pub fn seen(&self, tick: u64) {
        self.seen.store(tick, Ordering::Relaxed);
    }

    pub fn busy(&self) {
        self.seen.store(Self::BUSY, Ordering::Relaxed);
    }

    /// Returns whether the store has to be asked without a signal now.
    pub fn looks(&self, tick: u64) -> bool {
        let due = self.next_look.load(Ordering::Relaxed);
        if due > tick {
            return false;
        }
        let next = (due - self.opened).saturating_mul(10);
        let next = if next > LOOKS.1 { u64::MAX } else { self.opened + next };
        self.next_look.store(next, Ordering::Relaxed);
        true
    }

    /// Milliseconds since the last sign of life.
    pub fn silent_for(&self, tick: u64) -> u64 {
        tick.saturating_sub(self.seen.load(Ordering::Relaxed))
    }
}

/// Registration of a socket in the hub; it ends when this is dropped, also when the handshake or the task fails.
#[derive(Debug)]
pub(crate) struct Registration {
    hub: Hub,
    pub socket: Arc<Socket>,
    /// How it ended, for the metrics: without a close frame, unless its task sets another value.
    pub end: &'static str,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.hub.0.connections.write().remove(&self.socket);
        self.hub.0.metrics.open.dec();
        self.hub.0.metrics.closed(self.end);
    }
}

impl Connections {
    /// Removes a socket, if it is registered.
    pub fn remove(&mut self, socket: &Socket) {
        let Some(sockets) = self.accounts.get_mut(&socket.caller.account) else {
            return;
        };
        let before = sockets.len();
        sockets.retain(|other| other.id != socket.id);
        self.total -= before - sockets.len();
        if sockets.is_empty() {
            self.accounts.remove(&socket.caller.account);
        }
    }
}

impl Shared {
    /// Milliseconds since the hub was made.
    pub fn tick(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }

    /// Removes a socket and makes its task close it.
    pub fn cut(&self, socket: &Socket, reason: Close) {
        self.connections.write().remove(socket);
        socket.mailbox.close(reason);
    }
}

impl Hub {
    /// Spawns the one task that pings, cuts the idle and the expired, and drains (1012 in jittered batches) on the context's
    /// lifecycle. Sockets of revoked sessions and accounts are closed.
    ///
    /// # Panics
    /// When a context gets a second hub: a service has one.
    #[must_use]
    pub fn new(context: &Context, limits: Live<Limits>, revocations: &Revocations) -> Self {
        let clock = context.clock.clone();
        let hub = Self(Arc::new(Shared {
            frames: limits.follow(move |limits, before| FrameLimit::new(limits.frames_per_minute, before, &clock)),
            limits,
            context: context.clone(),
            metrics: SocketMetrics::register(&context.metrics),
            tasks: TaskTracker::new(),
            started: Instant::now(),
            next_id: AtomicU64::new(context.entropy.u64()),
            revocations: revocations.clone(),
            connections: RwLock::default(),
        }));
        revocations::subscribe(&hub);
        let task = hub.clone();
        context.lifecycle.spawn("sockets", async move {
            sweep::until_draining(&task).await;
            drain::drain(&task).await;
            Ok(())
        });
        hub
    }

    /// Queues a text frame on every version 1 socket of the account here; answers on how many. A socket whose queue is full is cut.
    /// Frames of one account arrive in the order of the calls. A frame over [`Limits::frame_out_bytes`] is logged and not sent.
    #[expect(clippy::must_use_candidate, reason = "on how many is for those who want to know")]
    pub fn send(&self, account: &Account, frame: &str) -> usize {
        self.send_where(account, frame, None, |socket| socket.version == Version::One)
    }

    /// [`Hub::send`], with a report when one of the sockets has shown the frame.
    #[expect(clippy::must_use_candidate, reason = "on how many is for those who want to know")]
    pub fn send_reporting(&self, account: &Account, frame: &str, on_shown: &OnShown) -> usize {
        self.send_where(account, frame, Some(on_shown), |socket| socket.version == Version::One)
    }

    /// Queues a text frame without a number on every version 2 socket of the account here: one that no client acknowledges, and that is
    /// not written again.
    pub fn send_unnumbered(&self, account: &Account, frame: &str) {
        self.send_where(account, frame, None, |socket| socket.version == Version::Two);
    }

    /// [`Hub::send`] on the sockets only that were there when it happened: a client that came later has it from the history.
    /// A socket is there from before its client learns that the handshake was accepted.
    ///
    /// A frame that a replica has delivered before it crashed is not delivered again by the next one, and a late redelivery does not reach
    /// younger sockets, below newer frames.
    #[expect(clippy::must_use_candidate, reason = "on how many is for those who want to know")]
    pub fn send_as_of(
        &self,
        account: &Account,
        frame: &str,
        happened_at: Timestamp,
        on_shown: Option<&OnShown>,
    ) -> usize {
        let now = self.0.context.clock.now();
        self.send_where(account, frame, on_shown, |socket| {
            socket.version == Version::One && socket.was_there(happened_at, now)
        })
    }

    /// [`Hub::send_as_of`] on all sockets of the account but one, without a report.
    #[expect(clippy::must_use_candidate, reason = "on how many is for those who want to know")]
    pub fn send_to_others(
        &self,
        account: &Account,
        frame: &str,
        happened_at: Timestamp,
        origin: Option<SocketId>,
    ) -> usize {
        let now = self.0.context.clock.now();
        self.send_where(account, frame, None, |socket| {
            let is_other = origin != Some(SocketId(socket.id));
            socket.version == Version::One && is_other && socket.was_there(happened_at, now)
        })
    }

    fn send_where(
        &self,
        account: &Account,
        frame: &str,
        on_shown: Option<&OnShown>,
        is_for: impl Fn(&Socket) -> bool,
    ) -> usize {
        if frame.len() > self.0.limits.get().frame_out_bytes() {
            tracing::error!(bytes = frame.len(), "outgoing frame too large; not sent");
            return 0;
        }
        let mut queued = 0;
        let mut full = Vec::new();
        {
            let connections = self.0.connections.read();
            let Some(sockets) = connections.accounts.get(account) else {
                return 0;
            };
            let frame = Utf8Bytes::from(frame);
            for socket in sockets.iter().filter(|socket| is_for(socket)) {
                let frame = Queued {
                    frame: frame.clone(),
                    on_shown: on_shown.cloned(),
                };
                match socket.mailbox.push(frame, socket.limits.queue) {
                    Pushed::Queued => queued += 1,
                    Pushed::Full => full.push(socket.clone()),
                    Pushed::Closing => {}
                }
            }
        }
        for socket in full {
            self.0.cut(&socket, Close::TooSlow);
        }
        queued
    }

    /// Makes the version 2 sockets of the account here read the store for frames after those that they have written. Their writing is part of the
    /// trace of the current request or event.
    pub fn signal(&self, account: &Account) {
        self.signal_sockets(account, None);
    }

    /// [`Hub::signal`] with the frame that was stored, as [`crate::Protocol::page`] returns it for the account. A socket that has written the one
    /// before it writes it without reading the store.
    pub fn signal_with(&self, account: &Account, frame: Numbered) {
        self.signal_sockets(account, Some(&Ready::new(frame)));
    }

    fn signal_sockets(&self, account: &Account, ready: Option<&Ready>) {
        let cause = correlation();
        let connections = self.0.connections.read();
        let Some(sockets) = connections.accounts.get(account) else {
            return;
        };
        // Once: they share their reads, and the first may read before the last has its signal.
        let begun = sockets.first().map_or(0, |socket| socket.reads.begun());
        for socket in sockets.iter().filter(|socket| socket.version == Version::Two) {
            let signal = Signal::Stored(begun);
            socket.mailbox.signal(signal, cause.clone(), ready.cloned());
        }
    }

    /// Whether the account has a socket of that version here that is not being closed.
    #[must_use]
    pub fn has(&self, account: &Account, version: Version) -> bool {
        let connections = self.0.connections.read();
        let mut sockets = connections.accounts.get(account).into_iter().flatten();
        sockets.any(|socket| socket.version == version)
    }

    /// Whether the account has a socket here that is not being closed.
    #[must_use]
    pub fn online(&self, account: &Account) -> bool {
        self.0.connections.read().accounts.contains_key(account)
    }

    /// Whether the account has a version 1 socket here, and all of them were opened a second or longer before it happened. Then this
    /// replica has read every record about it, whatever the clock of the replica that stamped it says.
    #[must_use]
    pub fn online_well_before(&self, account: &Account, happened_at: Timestamp) -> bool {
        self.online_before(account, happened_at.checked_sub(CERTAIN).unwrap_or(Timestamp::MIN))
    }

    /// Whether the account has a version 1 socket here, and all of them were opened before that moment, by the clocks as they are.
    #[must_use]
    pub fn online_before(&self, account: &Account, moment: Timestamp) -> bool {
        let connections = self.0.connections.read();
        let sockets = connections.accounts.get(account).into_iter().flatten();
        let mut sockets = sockets.filter(|socket| socket.version == Version::One).peekable();
        sockets.peek().is_some() && sockets.all(|socket| socket.since <= moment)
    }

    /// Registers a socket, or returns the reason for which it is refused.
    pub(crate) fn enter(&self, caller: Caller, nickname: &str, version: Version) -> Result<Registration, Close> {
        let shared = &self.0;
        let (now, tick, limits) = (shared.context.clock.now(), shared.tick(), shared.limits.get());
        if caller.expires_at <= now {
            return Err(Close::TokenExpired);
        }
        let mut connections = shared.connections.write();
        if connections.draining {
            return Err(Close::Restart);
        }
        // Under the lock: a revocation that takes effect later closes the sockets it finds registered.
        if let Some(reason) = revocations::reason(&shared.revocations, &caller) {
            return Err(reason);
        }
        let sockets = connections.accounts.get(&caller.account);
        // A phone that lost its network leaves sockets behind that only time would find dead: the newest is the one in use.
        let oldest = sockets
            .filter(|open| open.len() >= limits.per_account)
            .and_then(|open| open.first().cloned());
        if let Some(oldest) = oldest {
            connections.remove(&oldest);
            oldest.mailbox.close(Close::Replaced);
        } else if connections.total >= limits.total {
            return Err(Close::TooSlow);
        }
        let ping_every = u64::try_from(limits.ping_every.as_millis()).unwrap_or(u64::MAX).max(1);
        // A random first interval spreads the pings of sockets that came in one wave.
        let first_ping = tick.saturating_add(1 + shared.context.entropy.u64() % ping_every);
        let open = connections.accounts.get(&caller.account).and_then(|open| open.first());
        let reads = open.map(|open| open.reads.clone()).unwrap_or_default();
        let socket = Arc::new(Socket {
            id: shared.next_id.fetch_add(1, Ordering::Relaxed),
            caller,
            version,
            nicknames: Mutex::new(vec![nickname.into()]),
            limits,
            since: now,
            mailbox: Mailbox::default(),
            reads,
            seen: AtomicU64::new(tick),
            next_ping: AtomicU64::new(first_ping),
            opened: tick,
            next_look: AtomicU64::new(match version {
                Version::One => u64::MAX,
                Version::Two => tick + LOOKS.0,
            }),
        });
        connections
            .accounts
            .entry(socket.caller.account.clone())
            .or_default()
            .push(socket.clone());
        connections.total += 1;
        drop(connections);
        shared.metrics.open.inc();
        shared.metrics.opened.inc();
        Ok(Registration {
            hub: self.clone(),
            socket,
            end: "gone",
        })
    }
}
