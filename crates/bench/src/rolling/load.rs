//! The load of people who post, like, read and send messages while replicas restart.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sosohappy_fleet::app::{Addresses, Message, NewPost, Phone, Socket, SocketEvent};
use sosohappy_fleet::demo::picture;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{LIKED_DAYS, noon_of, save_liked_posts};

/// The number of people who read and post, each with one request at a time.
const READERS: usize = 4;
const PAUSE: Duration = Duration::from_millis(20);
/// The interval between messages, and between likes.
const INTERVAL: Duration = Duration::from_millis(100);
/// The time limit until a sent message is in the history.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);
/// The time for deliveries in progress at the end.
const SETTLE: Duration = Duration::from_secs(5);
const POST_DATE: i64 = 2_026_030_112_000_000;
const FIRST_MESSAGE_DATE: i64 = 2_026_030_100_000_000;
/// A `timeBoundary` after all messages.
const AFTER_ALL_MESSAGES: i64 = 2_026_122_800_000_000;

/// The results of the load.
#[derive(Debug, Default)]
pub struct LoadReport {
    pub requests: usize,
    pub failures: Vec<String>,
    pub slowest: Duration,
    /// The number of sockets closed with 1012.
    pub restarts: usize,
    /// Sockets that were closed with another code or none.
    pub other_closes: Vec<String>,
    pub sent: usize,
    /// Messages in the history.
    pub stored: usize,
    /// Messages on the receiver's socket, without duplicates.
    pub delivered: usize,
    pub duplicates: usize,
    pub likes: usize,
    pub notices: usize,
}

type Shared = Arc<Mutex<LoadReport>>;

/// The running load.
#[derive(Debug)]
pub struct Load {
    report: Shared,
    /// Ends the senders of requests.
    stop_sending: CancellationToken,
    tasks: Vec<JoinHandle<anyhow::Result<()>>>,
    /// Each returns the frames that its socket received.
    listeners: Vec<JoinHandle<Vec<String>>>,
    stop_listening: CancellationToken,
    sender: Phone,
    receiver: Phone,
}

impl Load {
    /// Signs all accounts in, opens the sockets and starts the load.
    pub async fn start(addresses: &Addresses) -> anyhow::Result<Self> {
        let (report, stop_sending, stop_listening) =
            (Shared::default(), CancellationToken::new(), CancellationToken::new());
        let mut people = Vec::new();
        for number in 0..READERS + 2 {
            let mut phone = Phone::new(addresses.clone(), &format!("person{number}@example.com"), "kakao")?;
            phone.sign_in().await?;
            phone.set_profile(&format!("person{number}"), "", &picture(0)).await?;
            phone
                .save_post(&NewPost {
                    date: POST_DATE,
                    text: "before",
                    pictures: &[],
                })
                .await?;
            people.push(phone);
        }
        let (sender, receiver) = (people[0].clone(), people[1].clone());
        save_liked_posts(&receiver).await?;
        let mut listeners = Vec::new();
        for kind in [Kind::Messages, Kind::Notices] {
            let socket = kind.connect(&receiver).await?;
            let listening = listen(kind, receiver.clone(), socket, report.clone(), stop_listening.clone());
            listeners.push(tokio::spawn(listening));
        }
        let mut tasks = vec![
            tokio::spawn(send(
                sender.clone(),
                receiver.nickname.clone(),
                report.clone(),
                stop_sending.clone(),
            )),
            tokio::spawn(like(
                sender.clone(),
                receiver.nickname.clone(),
                report.clone(),
                stop_sending.clone(),
            )),
        ];
        for phone in people.drain(2..) {
            tasks.push(tokio::spawn(read_and_write(
                phone,
                receiver.nickname.clone(),
                report.clone(),
                stop_sending.clone(),
            )));
        }
        Ok(Self {
            report,
            stop_sending,
            tasks,
            listeners,
            stop_listening,
            sender,
            receiver,
        })
    }

    /// Stops the load, waits for deliveries in progress, and counts lost and duplicate messages.
    pub async fn settle(self) -> anyhow::Result<LoadReport> {
        self.stop_sending.cancel();
        for task in self.tasks {
            task.await??;
        }
        tokio::time::sleep(SETTLE).await;
        self.stop_listening.cancel();
        let mut frames = Vec::new();
        for listener in self.listeners {
            frames.push(listener.await?);
        }
        let mut report = std::mem::take(&mut *self.report.lock().await);
        let distinct: BTreeSet<_> = frames[0].iter().collect();
        report.delivered = distinct.len();
        report.duplicates = frames[0].len() - distinct.len();
        report.notices = frames[1].len();
        report.stored = whole_history(&self.receiver, &self.sender.nickname).await?;
        Ok(report)
    }
}

/// Sends one request and counts it. Returns `None` and records the reason if it fails: the load continues.
async fn counted<T>(report: &Shared, what: &str, request: impl Future<Output = anyhow::Result<T>>) -> Option<T> {
    let began = Instant::now();
    let outcome = request.await;
    let mut report = report.lock().await;
    report.requests += 1;
    report.slowest = report.slowest.max(began.elapsed());
    match outcome {
        Ok(answer) => Some(answer),
        Err(error) => {
            report.failures.push(format!("{what}: {error:#}"));
            None
        }
    }
}

async fn read_and_write(
    mut phone: Phone,
    author: String,
    report: Shared,
    stop_sending: CancellationToken,
) -> anyhow::Result<()> {
    let mut round = 0;
    while !stop_sending.is_cancelled() {
        round += 1;
        // Another text each time: a repeated save writes nothing.
        let text = format!("a small happiness, {round}");
        let post = NewPost {
            date: POST_DATE + (round % 28) * 100_000_000,
            text: &text,
            pictures: &[],
        };
        counted(&report, "save", phone.save_post(&post)).await;
        counted(&report, "own month", phone.own_month(POST_DATE)).await;
        counted(&report, "one post", phone.post_of(&author, POST_DATE)).await;
        counted(&report, "history", phone.history_with(&author, AFTER_ALL_MESSAGES)).await;
        if round % 10 == 0 {
            // Includes auth in the load, and a new token that every service must accept at once.
            counted(&report, "re-issue", async {
                let status = phone.re_issue().await?;
                anyhow::ensure!(status.is_success(), "answered {status}");
                Ok(())
            })
            .await;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Likes one post after another until the load stops.
async fn like(phone: Phone, author: String, report: Shared, stop_sending: CancellationToken) -> anyhow::Result<()> {
    for day in 0..LIKED_DAYS {
        if stop_sending.is_cancelled() {
            break;
        }
        if counted(&report, "like", phone.toggle_like(&author, noon_of(day))).await == Some(true) {
            report.lock().await.likes += 1;
        }
        tokio::time::sleep(INTERVAL).await;
    }
    Ok(())
}

/// Sends one message at a time. A frame sent on a closing socket may be stored or lost: the history decides, as in the app.
async fn send(phone: Phone, receiver: String, report: Shared, stop_sending: CancellationToken) -> anyhow::Result<()> {
    let mut sent = 0_usize;
    while !stop_sending.is_cancelled() {
        let mut socket = phone.connect_dm().await?;
        loop {
            tokio::select! {
                event = socket.next_event() => match event {
                    SocketEvent::Closed(code) => {
                        count_close(&report, "sender", code).await;
                        break;
                    }
                    SocketEvent::Text(error) => anyhow::bail!("a message was refused: {error}"),
                },
                () = tokio::time::sleep(INTERVAL) => {
                    if stop_sending.is_cancelled() {
                        break;
                    }
                    if socket.send(&message(&phone.nickname, &receiver, sent + 1)?).await.is_err() {
                        break;
                    }
                    // Waits until the message is stored, as people write: a draining replica has to handle every queued frame.
                    if !stored(&phone, &receiver, sent + 1).await? {
                        break;
                    }
                    sent += 1;
                    report.lock().await.sent = sent;
                }
            }
        }
        // A frame in flight is stored within this time, or lost with the socket. Sending continues after the newest stored message.
        tokio::time::sleep(Duration::from_millis(300)).await;
        sent = newest(&phone, &receiver).await?;
        report.lock().await.sent = sent;
    }
    Ok(())
}

fn message(sender: &str, receiver: &str, number: usize) -> anyhow::Result<Message> {
    Ok(Message {
        sender: sender.to_owned(),
        receiver: receiver.to_owned(),
        date: FIRST_MESSAGE_DATE + i64::try_from(number)?,
        text: format!("message number {number}"),
    })
}

fn number(message: &Message) -> anyhow::Result<usize> {
    Ok(usize::try_from(message.date - FIRST_MESSAGE_DATE)?)
}

/// Returns whether that message is stored within [`STORE_TIMEOUT`]. One that was sent on a closing socket may never be.
async fn stored(phone: &Phone, receiver: &str, number: usize) -> anyhow::Result<bool> {
    let deadline = Instant::now() + STORE_TIMEOUT;
    while newest(phone, receiver).await? < number {
        if Instant::now() > deadline {
            return Ok(false);
        }
        tokio::time::sleep(INTERVAL / 2).await;
    }
    Ok(true)
}

/// Returns the number of the newest stored message.
async fn newest(phone: &Phone, other: &str) -> anyhow::Result<usize> {
    let page = phone.history_with(other, AFTER_ALL_MESSAGES).await?;
    page.last().map_or(Ok(0), number)
}

/// Reads the whole history page by page. Returns the number of messages; fails if one is missing or stored twice.
async fn whole_history(phone: &Phone, other: &str) -> anyhow::Result<usize> {
    let (mut before, mut numbers) = (AFTER_ALL_MESSAGES, Vec::new());
    loop {
        let page = phone.history_with(other, before).await?;
        let Some(oldest) = page.first() else { break };
        before = oldest.date;
        for message in page.iter().rev() {
            numbers.push(number(message)?);
        }
    }
    numbers.reverse();
    let expected: Vec<_> = (1..=numbers.len()).collect();
    anyhow::ensure!(
        numbers == expected,
        "messages of the history are missing or duplicate: {numbers:?}"
    );
    Ok(numbers.len())
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Messages,
    Notices,
}

impl Kind {
    async fn connect(self, phone: &Phone) -> anyhow::Result<Socket> {
        match self {
            Self::Messages => phone.connect_dm().await.context("dm"),
            Self::Notices => phone.connect_notice().await.context("notice"),
        }
    }
}

/// Collects every frame, and reconnects whenever the socket is closed.
async fn listen(kind: Kind, phone: Phone, mut socket: Socket, report: Shared, stop: CancellationToken) -> Vec<String> {
    let mut frames = Vec::new();
    loop {
        let event = tokio::select! {
            event = socket.next_event() => event,
            () = stop.cancelled() => return frames,
        };
        match event {
            SocketEvent::Text(frame) => frames.push(frame),
            SocketEvent::Closed(code) => {
                count_close(&report, &format!("{kind:?}"), code).await;
                match counted(&report, "reconnect", kind.connect(&phone)).await {
                    Some(reconnected) => socket = reconnected,
                    None => return frames,
                }
            }
        }
    }
}

/// Counts a closed socket by its close code.
async fn count_close(report: &Shared, whose: &str, code: Option<u16>) {
    let mut report = report.lock().await;
    if code == Some(1012) {
        report.restarts += 1;
    } else {
        report.other_closes.push(format!("{whose}: {code:?}"));
    }
}
