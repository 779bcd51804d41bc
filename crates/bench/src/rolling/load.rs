//! People who go on as if nothing happened.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sosohappy_fleet::app::{Addresses, Heard, Message, NewPost, Phone, Socket};
use sosohappy_fleet::demo::picture;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// People who read and write, each one request after the other.
const READERS: usize = 4;
const PAUSE: Duration = Duration::from_millis(20);
/// Between two likes, and between a message that is stored and the next.
const BEAT: Duration = Duration::from_millis(100);
/// How long a message may take until the history has it.
const STORED_WITHIN: Duration = Duration::from_secs(5);
/// How long what is on its way may take at the end.
const SETTLE: Duration = Duration::from_secs(5);
const POST: i64 = 2_026_030_112_000_000;
const FIRST_MESSAGE: i64 = 2_026_030_100_000_000;
/// Before which all messages were written, as the history wants it.
const LATER: i64 = 2_026_122_800_000_000;

/// What the load has seen.
#[derive(Debug, Default)]
pub struct Seen {
    pub requests: usize,
    pub failures: Vec<String>,
    pub slowest: Duration,
    /// Sockets closed with 1012.
    pub restarts: usize,
    /// Sockets that ended otherwise.
    pub other_ends: Vec<String>,
    pub sent: usize,
    pub stored: usize,
    pub shown: usize,
    pub doubled: usize,
    pub likes: usize,
    pub notices: usize,
}

type Shared = Arc<Mutex<Seen>>;

#[derive(Debug)]
pub struct Load {
    seen: Shared,
    enough: CancellationToken,
    tasks: Vec<JoinHandle<anyhow::Result<()>>>,
    listeners: Vec<JoinHandle<Vec<String>>>,
    stop_listening: CancellationToken,
    sender: Phone,
    receiver: Phone,
}

impl Load {
    /// Resolves when everybody is signed in and every socket is open.
    pub async fn start(addresses: &Addresses) -> anyhow::Result<Self> {
        let (seen, enough, stop_listening) = (Shared::default(), CancellationToken::new(), CancellationToken::new());
        let mut people = Vec::new();
        for number in 0..READERS + 2 {
            let mut phone = Phone::new(addresses.clone(), &format!("person{number}@example.com"), "kakao")?;
            phone.sign_in().await?;
            phone.set_profile(&format!("person{number}"), "", &picture(0)).await?;
            phone
                .save_post(&NewPost {
                    date: POST,
                    text: "before",
                    pictures: &[],
                })
                .await?;
            people.push(phone);
        }
        let (sender, receiver) = (people[0].clone(), people[1].clone());
        let mut listeners = Vec::new();
        for kind in [Kind::Messages, Kind::Notices] {
            let socket = kind.connect(&receiver).await?;
            let listening = listen(kind, receiver.clone(), socket, seen.clone(), stop_listening.clone());
            listeners.push(tokio::spawn(listening));
        }
        let mut tasks = vec![
            tokio::spawn(send(
                sender.clone(),
                receiver.nickname.clone(),
                seen.clone(),
                enough.clone(),
            )),
            tokio::spawn(like(
                sender.clone(),
                receiver.nickname.clone(),
                seen.clone(),
                enough.clone(),
            )),
        ];
        for phone in people.drain(2..) {
            tasks.push(tokio::spawn(read_and_write(
                phone,
                receiver.nickname.clone(),
                seen.clone(),
                enough.clone(),
            )));
        }
        Ok(Self {
            seen,
            enough,
            tasks,
            listeners,
            stop_listening,
            sender,
            receiver,
        })
    }

    /// Stops, waits for what is on its way, and compares what was sent with what came.
    pub async fn settle(self) -> anyhow::Result<Seen> {
        self.enough.cancel();
        for task in self.tasks {
            task.await??;
        }
        tokio::time::sleep(SETTLE).await;
        self.stop_listening.cancel();
        let mut frames = Vec::new();
        for listener in self.listeners {
            frames.push(listener.await?);
        }
        let mut seen = std::mem::take(&mut *self.seen.lock().await);
        let distinct: BTreeSet<_> = frames[0].iter().collect();
        seen.shown = distinct.len();
        seen.doubled = frames[0].len() - distinct.len();
        seen.notices = frames[1].len();
        seen.stored = whole_history(&self.receiver, &self.sender.nickname).await?;
        Ok(seen)
    }
}

/// One request, counted; what fails is kept with its reason and the load goes on.
async fn counted<T>(seen: &Shared, what: &str, request: impl Future<Output = anyhow::Result<T>>) -> Option<T> {
    let began = Instant::now();
    let outcome = request.await;
    let mut seen = seen.lock().await;
    seen.requests += 1;
    seen.slowest = seen.slowest.max(began.elapsed());
    match outcome {
        Ok(answer) => Some(answer),
        Err(error) => {
            seen.failures.push(format!("{what}: {error:#}"));
            None
        }
    }
}

async fn read_and_write(
    mut phone: Phone,
    author: String,
    seen: Shared,
    enough: CancellationToken,
) -> anyhow::Result<()> {
    let mut round = 0;
    while !enough.is_cancelled() {
        round += 1;
        let post = NewPost {
            date: POST + (round % 28) * 100_000_000,
            text: "a small happiness",
            pictures: &[],
        };
        counted(&seen, "save", phone.save_post(&post)).await;
        counted(&seen, "own month", phone.own_month(POST)).await;
        counted(&seen, "one post", phone.post_of(&author, POST)).await;
        counted(&seen, "history", phone.history_with(&author, LATER)).await;
        if round % 10 == 0 {
            // Auth's own work, and a token that must be known everywhere at once.
            counted(&seen, "re-issue", async {
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

/// Likes and takes back, and ends on what sends no notice.
async fn like(phone: Phone, author: String, seen: Shared, enough: CancellationToken) -> anyhow::Result<()> {
    while !enough.is_cancelled() {
        if counted(&seen, "like", phone.toggle_like(&author, POST)).await == Some(true) {
            seen.lock().await.likes += 1;
        }
        tokio::time::sleep(BEAT / 2).await;
    }
    Ok(())
}

/// One message after the other. A frame that was sent into a socket that is being closed is stored or it is not: the history tells,
/// as it tells the app.
async fn send(phone: Phone, receiver: String, seen: Shared, enough: CancellationToken) -> anyhow::Result<()> {
    let mut sent = 0_usize;
    while !enough.is_cancelled() {
        let mut socket = phone.connect_dm().await?;
        loop {
            tokio::select! {
                heard = socket.hear() => match heard {
                    Heard::Closed(code) => {
                        ended(&seen, "sender", code).await;
                        break;
                    }
                    Heard::Text(error) => anyhow::bail!("a message was refused: {error}"),
                },
                () = tokio::time::sleep(BEAT) => {
                    if enough.is_cancelled() {
                        break;
                    }
                    if socket.send(&message(&phone.nickname, &receiver, sent + 1)?).await.is_err() {
                        break;
                    }
                    // One at a time, as people write: what piles up in a socket has to be handled while its replica drains.
                    if !stored(&phone, &receiver, sent + 1).await? {
                        break;
                    }
                    sent += 1;
                    seen.lock().await.sent = sent;
                }
            }
        }
        // What is on its way is stored within a moment, or never.
        tokio::time::sleep(Duration::from_millis(300)).await;
        sent = newest(&phone, &receiver).await?;
        seen.lock().await.sent = sent;
    }
    Ok(())
}

fn message(sender: &str, receiver: &str, number: usize) -> anyhow::Result<Message> {
    Ok(Message {
        sender: sender.to_owned(),
        receiver: receiver.to_owned(),
        date: FIRST_MESSAGE + i64::try_from(number)?,
        text: format!("message number {number}"),
    })
}

fn number(message: &Message) -> anyhow::Result<usize> {
    Ok(usize::try_from(message.date - FIRST_MESSAGE)?)
}

/// Whether that message is stored within a moment; one that was sent into a closing socket may never be.
async fn stored(phone: &Phone, receiver: &str, number: usize) -> anyhow::Result<bool> {
    let deadline = Instant::now() + STORED_WITHIN;
    while newest(phone, receiver).await? < number {
        if Instant::now() > deadline {
            return Ok(false);
        }
        tokio::time::sleep(BEAT / 2).await;
    }
    Ok(true)
}

/// The number of the newest message that is stored.
async fn newest(phone: &Phone, other: &str) -> anyhow::Result<usize> {
    let page = phone.history_with(other, LATER).await?;
    page.last().map_or(Ok(0), number)
}

/// Pages through all of it; answers how many there are, which must be numbered without a gap.
async fn whole_history(phone: &Phone, other: &str) -> anyhow::Result<usize> {
    let (mut before, mut numbers) = (LATER, Vec::new());
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
        "the history has gaps, or messages twice: {numbers:?}"
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

/// Keeps every frame, and comes back whenever it is sent away.
async fn listen(kind: Kind, phone: Phone, mut socket: Socket, seen: Shared, stop: CancellationToken) -> Vec<String> {
    let mut frames = Vec::new();
    loop {
        let heard = tokio::select! {
            heard = socket.hear() => heard,
            () = stop.cancelled() => return frames,
        };
        match heard {
            Heard::Text(frame) => frames.push(frame),
            Heard::Closed(code) => {
                ended(&seen, &format!("{kind:?}"), code).await;
                match counted(&seen, "reconnect", kind.connect(&phone)).await {
                    Some(again) => socket = again,
                    None => return frames,
                }
            }
        }
    }
}

async fn ended(seen: &Shared, whose: &str, code: Option<u16>) {
    let mut seen = seen.lock().await;
    if code == Some(1012) {
        seen.restarts += 1;
    } else {
        seen.other_ends.push(format!("{whose}: {code:?}"));
    }
}
