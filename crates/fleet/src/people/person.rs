//! One person of a crowd: a phone that acts, and its two sockets, which come back after each end.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::json;
use sosohappy_common::clock::{Entropy, SystemEntropy};
use tokio::sync::{RwLock, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::ledger::Ledger;
use crate::app::{NewPost, Phone, Socket, SocketEvent};

/// One act of so many is a message, a like and so on: see [`Person::act`].
const ACTS: u64 = 20;
/// The first save of a person loses its answer, and then one of so many.
const LOSES_ANSWER: i64 = 8;
/// How long a phone that loses its answer waits for it.
const IMPATIENCE: Duration = Duration::from_millis(5);
/// One frame of so many is followed by a suspension of the app, the first time with the frame of this number.
const SUSPENDS: u64 = 50;
const FIRST_SUSPENSION: u64 = 10;
const SUSPENDED: Duration = Duration::from_secs(2);
/// Before another try.
const AGAIN: Duration = Duration::from_millis(500);
/// Tries of a call: 2 minutes.
const TRIES: usize = 240;
/// The first post of a person is of this day, each later one of the day before: 16 digits.
const NEWEST_DAY: jiff::civil::Date = jiff::civil::date(2025, 12, 31);

pub struct Person {
    /// Locked for writing while tokens are exchanged.
    phone: RwLock<Phone>,
    nickname: String,
    /// Nicknames of all people.
    people: Arc<[String]>,
    ledger: Arc<Ledger>,
    /// Posts that were begun.
    posts: AtomicI64,
    /// Likes that were begun: another call would take them back.
    likes: Mutex<HashSet<(String, i64)>>,
    messages: mpsc::UnboundedSender<Outgoing>,
}

/// A message that is sent until it is accepted.
struct Outgoing {
    id: String,
    receiver: String,
    text: String,
}

/// A frame of version 2, as far as a crowd reads it.
#[derive(Deserialize)]
struct Frame {
    topic: String,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    seq: Option<i64>,
    #[serde(default)]
    data: Data,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Data {
    receiver: Option<String>,
    message_id: Option<String>,
    liker: Option<String>,
    date: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Messages,
    Notices,
}

impl Person {
    /// Opens the two sockets, each in a task of its own until `stop`.
    pub fn start(
        phone: Phone,
        people: Arc<[String]>,
        ledger: Arc<Ledger>,
        stop: &CancellationToken,
        sockets: &mut JoinSet<()>,
    ) -> Arc<Self> {
        let (messages, outgoing) = mpsc::unbounded_channel();
        let person = Arc::new(Self {
            nickname: phone.nickname.clone(),
            phone: RwLock::new(phone),
            people,
            ledger,
            posts: AtomicI64::new(0),
            likes: Mutex::default(),
            messages,
        });
        let (_, no_messages) = mpsc::unbounded_channel();
        for (kind, outgoing) in [(Kind::Messages, outgoing), (Kind::Notices, no_messages)] {
            let listening = Listener {
                person: person.clone(),
                kind,
                outgoing,
                pending: BTreeMap::new(),
                seen: 0,
                frames: 0,
            };
            let stop = stop.clone();
            sockets.spawn(async move {
                stop.run_until_cancelled(listening.run()).await;
            });
        }
        person
    }

    /// Does one thing, as often as the things of a day.
    pub async fn act(&self) {
        let entropy: &dyn Entropy = &SystemEntropy;
        match entropy.u64() % ACTS {
            0..=6 => self.write_message(entropy),
            7..=10 => self.like(entropy).await,
            11..=13 => self.post().await,
            14..=18 => {
                self.until_answered(|phone| async move { phone.others().await.map(drop) })
                    .await;
            }
            _ => self.re_issue().await,
        }
    }

    fn write_message(&self, entropy: &dyn Entropy) {
        let at = usize::try_from(entropy.u64() % self.people.len() as u64).unwrap_or(0);
        let receiver = &self.people[at];
        if *receiver == self.nickname {
            return;
        }
        let message = Outgoing {
            id: entropy.hex(16),
            receiver: receiver.clone(),
            text: format!("안녕, {receiver}!"),
        };
        self.ledger.message_written();
        // Without a receiver the sockets have ended.
        let _after_the_end = self.messages.send(message);
    }

    async fn like(&self, entropy: &dyn Entropy) {
        let Some((author, date)) = self.ledger.post_of_another(&self.nickname, entropy.u64()) else {
            return;
        };
        if !self.likes.lock().insert((author.clone(), date)) {
            return;
        }
        // A call without an answer is not repeated: it would take back a like that was stored.
        let began = Instant::now();
        let liked = self.phone.read().await.toggle_like(&author, date).await;
        self.ledger.called(began.elapsed(), liked.is_ok());
        if let Ok(true) = liked {
            self.ledger.liked((author, date, self.nickname.clone()));
        }
    }

    async fn post(&self) {
        let number = self.posts.fetch_add(1, Ordering::Relaxed);
        let Ok(date) = date_of(number) else { return };
        if number % LOSES_ANSWER == 0 {
            let phone = self.phone.read().await.clone();
            let answer = tokio::time::timeout(IMPATIENCE, save(phone, date)).await;
            if answer.is_err() {
                self.ledger.lost_answer();
            }
        }
        if self.until_answered(|phone| save(phone, date)).await {
            self.ledger.post_saved(&self.nickname, date);
        }
    }

    async fn re_issue(&self) {
        let mut phone = self.phone.write().await;
        let began = Instant::now();
        let answered = phone.re_issue().await;
        let is_ok = answered.is_ok_and(|status| status == StatusCode::OK);
        self.ledger.called(began.elapsed(), is_ok);
    }

    /// Repeats a call until it succeeds. Returns whether it has.
    async fn until_answered<F>(&self, call: impl Fn(Phone) -> F) -> bool
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        for _ in 0..TRIES {
            let phone = self.phone.read().await.clone();
            let began = Instant::now();
            let outcome = call(phone).await;
            self.ledger.called(began.elapsed(), outcome.is_ok());
            if outcome.is_ok() {
                return true;
            }
            tokio::time::sleep(AGAIN).await;
        }
        false
    }

    /// Counts the posts of the person's diary, by month.
    pub async fn count_posts(&self) -> anyhow::Result<()> {
        let dates = self.ledger.dates_of(&self.nickname);
        let months: BTreeSet<_> = dates.into_iter().map(|date| date / 10_000_000_000).collect();
        let phone = self.phone.read().await;
        for month in months {
            for post in phone.own_month(month * 10_000_000_000 + 112_000_000).await? {
                self.ledger.post_found(&self.nickname, post.date);
            }
        }
        Ok(())
    }
}

async fn save(phone: Phone, date: i64) -> anyhow::Result<()> {
    let post = NewPost {
        date,
        text: "오늘도 좋은 하루",
        pictures: &[],
    };
    phone.save_post(&post).await
}

fn date_of(number: i64) -> anyhow::Result<i64> {
    let day = NEWEST_DAY.checked_sub(jiff::Span::new().try_days(number)?)?;
    Ok(day.strftime("%Y%m%d").to_string().parse::<i64>()? * 100_000_000 + 12_000_000)
}

/// A socket of version 2 that connects again from the last number that it has seen.
struct Listener {
    person: Arc<Person>,
    kind: Kind,
    outgoing: mpsc::UnboundedReceiver<Outgoing>,
    /// Sent and not yet accepted.
    pending: BTreeMap<String, Outgoing>,
    /// The highest number.
    seen: i64,
    /// Frames so far.
    frames: u64,
}

impl Listener {
    async fn run(mut self) {
        let mut is_first = true;
        loop {
            if !is_first {
                self.person.ledger.reconnected();
            }
            is_first = false;
            match self.connect().await {
                Ok(socket) => {
                    if self.listen(socket).await.is_none() {
                        tokio::time::sleep(SUSPENDED).await;
                    }
                }
                // The token may have expired meanwhile.
                Err(_) => self.person.re_issue().await,
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn connect(&self) -> anyhow::Result<Socket> {
        let phone = self.person.phone.read().await.clone();
        match self.kind {
            Kind::Messages => phone.resume_dm(self.seen).await,
            Kind::Notices => phone.resume_notice(self.seen).await,
        }
    }

    /// Listens until the connection ends, or until the app is suspended: then it returns `None`, and the socket is dropped without a
    /// closing.
    async fn listen(&mut self, mut socket: Socket) -> Option<()> {
        for message in self.pending.values() {
            send(&mut socket, message).await.ok()?;
        }
        loop {
            tokio::select! {
                event = socket.next_event() => match event {
                    SocketEvent::Closed(_) => return Some(()),
                    SocketEvent::Text(text) => {
                        if let Some(seq) = self.receive(&text) {
                            socket.send(&json!({"topic": "ack", "seq": seq})).await.ok()?;
                        }
                        self.frames += 1;
                        if self.frames % SUSPENDS == FIRST_SUSPENSION {
                            self.person.ledger.suspended();
                            return None;
                        }
                    }
                },
                Some(message) = self.outgoing.recv() => {
                    let sent = send(&mut socket, &message).await;
                    self.pending.insert(message.id.clone(), message);
                    sent.ok()?;
                }
            }
        }
    }

    /// Notes a frame. Returns the number to acknowledge.
    fn receive(&mut self, text: &str) -> Option<i64> {
        let ledger = &self.person.ledger;
        let Ok(frame) = serde_json::from_str::<Frame>(text) else {
            ledger.out_of_order();
            return None;
        };
        match frame.topic.as_str() {
            "accepted" => {
                if let (Some(id), Some(message)) = (&frame.id, &frame.data.message_id)
                    && self.pending.remove(id).is_some()
                {
                    ledger.accepted(message);
                }
                // The number of the message's own frame, which follows.
                return None;
            }
            "message" if frame.data.receiver.as_ref() == Some(&self.person.nickname) => {
                ledger.message_shown(frame.id.as_deref().unwrap_or_default());
            }
            "like" => {
                if let (Some(liker), Some(date)) = (frame.data.liker, frame.data.date) {
                    ledger.notice_shown((self.person.nickname.clone(), date, liker));
                }
            }
            _ => {}
        }
        let seq = frame.seq?;
        if seq <= self.seen {
            ledger.out_of_order();
        }
        self.seen = self.seen.max(seq);
        Some(seq)
    }
}

async fn send(socket: &mut Socket, message: &Outgoing) -> anyhow::Result<()> {
    let data = json!({"receiver": message.receiver, "text": message.text});
    let frame = json!({"topic": "message", "id": message.id, "data": data});
    socket.send(&frame).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_post_has_a_day_of_its_own() {
        assert_eq!(date_of(0).ok(), Some(2_025_123_112_000_000));
        assert_eq!(date_of(31).ok(), Some(2_025_113_012_000_000));
        let days: BTreeSet<_> = (0..1_000).filter_map(|number| date_of(number).ok()).collect();
        assert_eq!(days.len(), 1_000);
        assert!(date_of(i64::MAX).is_err());
    }
}
