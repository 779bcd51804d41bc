//! The main job, played against processes, and against processes that are killed in the middle of it.

mod collector;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use sosohappy_common::clock::{Entropy, SystemEntropy};
use sosohappy_fleet::app::{Addresses, Message, NewPost, Phone};
use sosohappy_testkit::{Cluster, EngineSet, Ports};

use crate::collector::{Collector, Kind};

/// Likes and messages a round.
const WRITES: usize = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_on_the_embedded_engines() {
    play(Cluster::embedded(binaries()).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_each_on_the_real_engines() {
    if EngineSet::real_is_there() {
        play(Cluster::real(binaries()).await).await;
    }
}

/// TLS everywhere, and on Kafka an account for each service with the declared rights: cases A4.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_each_on_secured_engines() {
    if !EngineSet::secured_is_there() {
        return;
    }
    let mut fleet = Cluster::secured(binaries()).await;
    demo(&fleet).await;
    // The outbox of auth, the registry and the groups of a replica that comes back.
    for victim in ["auth", "feed-1", "notice-2"] {
        Round::begin(&fleet).await.with_a_kill(&mut fleet, victim).await;
    }
    let logs = fleet.logs();
    for trouble in ["AuthorizationFailed", "authorization failed", "cannot be made"] {
        assert!(!logs.contains(trouble), "a service lacks a right: {trouble}\n{logs}");
    }
}

/// Where this workspace's binaries are.
fn binaries() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_fleet"))
        .parent()
        .expect("a binary is in a folder")
}

fn addresses(ports: Ports) -> Addresses {
    Addresses::local(ports.auth, ports.feed, ports.dm, ports.notice)
}

async fn play(mut fleet: Cluster) {
    demo(&fleet).await;
    for victim in fleet.names() {
        let took = Round::begin(&fleet).await.with_a_kill(&mut fleet, &victim).await;
        println!("{victim}: killed and ready again after {} ms", took.as_millis());
    }
    let logs = fleet.logs();
    for secret in ["@example.com", "Bearer ", "device-of-", "message number"] {
        assert!(!logs.contains(secret), "a log line holds {secret:?}");
    }
}

/// The scripted client, with auth and feed of one replica and the sockets of the other.
async fn demo(fleet: &Cluster) {
    let [first, second] = fleet.replicas.map(addresses);
    let mixed = Addresses {
        dm: second.dm,
        notice: second.notice,
        ..first
    };
    sosohappy_fleet::demo::run(mixed).await.expect("the demo succeeds");
}

/// Two people who write while a process dies.
struct Round {
    kim: Phone,
    lee: Phone,
    notices: Collector,
    messages: Collector,
}

impl Round {
    /// Kim has a post on each of the first days of a month, and listens at the second replica. Lee writes at the first.
    async fn begin(fleet: &Cluster) -> Self {
        let entropy: &dyn Entropy = &SystemEntropy;
        let tag = entropy.hex(2);
        let mut kim = Phone::new(
            addresses(fleet.replicas[1]),
            &format!("kim-{tag}@example.com"),
            "google",
        )
        .unwrap();
        let mut lee = Phone::new(addresses(fleet.replicas[0]), &format!("lee-{tag}@example.com"), "kakao").unwrap();
        for (phone, name) in [(&mut kim, "kim"), (&mut lee, "lee")] {
            phone.sign_in().await.unwrap();
            phone
                .set_profile(&format!("{name}{tag}"), "hello", &sosohappy_fleet::demo::picture(0))
                .await
                .unwrap();
        }
        for day in 1..=WRITES {
            let post = NewPost {
                date: date_of(day),
                text: "a small happiness",
                pictures: &[],
            };
            kim.save_post(&post).await.unwrap();
        }
        let notices = Collector::start(kim.clone(), Kind::Notices).await;
        let messages = Collector::start(kim.clone(), Kind::Messages).await;
        Self {
            kim,
            lee,
            notices,
            messages,
        }
    }

    async fn with_a_kill(self, fleet: &mut Cluster, victim: &str) -> Duration {
        let hit = async {
            tokio::time::sleep(Duration::from_millis(150)).await;
            fleet.kill(victim);
            fleet.restart(victim).await
        };
        let author = &self.kim.nickname;
        let (took, (), ()) = tokio::join!(hit, like_all(&self.lee, author), send_all(&self.lee, author));
        self.nothing_is_lost_or_doubled(victim).await;
        took
    }

    async fn nothing_is_lost_or_doubled(self, victim: &str) {
        let posts = self.kim.own_month(date_of(1)).await.unwrap();
        assert_eq!(posts.len(), WRITES, "{victim}: posts were lost or doubled");
        for post in &posts {
            assert_eq!(
                post.like_nickname_list,
                std::slice::from_ref(&self.lee.nickname),
                "{victim}: likes of {}",
                post.date
            );
        }

        let sent: Vec<_> = (1..=WRITES)
            .map(|number| message(&self.lee.nickname, &self.kim.nickname, number))
            .collect();
        let history = history(&self.lee, &self.kim.nickname).await;
        assert_eq!(
            history, sent,
            "{victim}: messages were lost, doubled or put out of order"
        );

        // What was shown was shown once; and all of it, where the socket lived through the round.
        let shown = self.notices.settle(WRITES).await;
        once(victim, "notices", &shown.frames);
        assert!(
            shown.reconnects > 0 || shown.frames.len() == WRITES,
            "{victim}: notices lost: {shown:?}"
        );
        let shown = self.messages.settle(WRITES).await;
        once(victim, "message frames", &shown.frames);
        assert!(
            shown.reconnects > 0 || shown.frames.len() == WRITES,
            "{victim}: frames lost: {shown:?}"
        );
        let numbers: Vec<i64> = shown
            .frames
            .iter()
            .map(|frame| serde_json::from_str::<Message>(frame).expect("a message frame").date)
            .collect();
        assert!(numbers.is_sorted(), "{victim}: frames out of order: {numbers:?}");

        let mut again = self.lee.clone();
        assert_eq!(
            again.re_issue().await.unwrap(),
            StatusCode::OK,
            "{victim}: the refresh token was lost"
        );
        assert_eq!(
            again.knock().await.unwrap(),
            StatusCode::OK,
            "{victim}: the fresh token is refused"
        );
        assert_eq!(
            self.kim.knock().await.unwrap(),
            StatusCode::OK,
            "{victim}: the old token is refused"
        );
    }
}

fn once(victim: &str, what: &str, frames: &[String]) {
    let distinct: BTreeSet<_> = frames.iter().collect();
    assert_eq!(
        distinct.len(),
        frames.len(),
        "{victim}: {what} were doubled: {frames:?}"
    );
}

fn number(count: usize) -> i64 {
    i64::try_from(count).expect("a small number")
}

/// The 16-digit date of a day of the round's month.
fn date_of(day: usize) -> i64 {
    2_026_030_012_000_000 + number(day) * 100_000_000
}

fn message(sender: &str, receiver: &str, count: usize) -> Message {
    Message {
        sender: sender.to_owned(),
        receiver: receiver.to_owned(),
        date: date_of(1) + number(count),
        text: format!("message number {count}"),
    }
}

/// Likes every post once. A like whose answer was lost is looked at before it is tried again: it toggles.
async fn like_all(lee: &Phone, author: &str) {
    for day in 1..=WRITES {
        let date = date_of(day);
        keep_trying("like", async || {
            let liked = lee.post_of(author, date).await.ok()?.is_liked;
            if liked {
                Some(())
            } else {
                lee.toggle_like(author, date).await.ok()?.then_some(())
            }
        })
        .await;
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}

/// Sends every message in order. After a cut the history tells which of them were stored.
async fn send_all(lee: &Phone, receiver: &str) {
    let mut stored = 0;
    while stored < WRITES {
        let mut socket = keep_trying("connect", async || lee.connect_dm().await.ok()).await;
        for number in stored + 1..=WRITES {
            if socket.send(&message(&lee.nickname, receiver, number)).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
        // A frame that was sent is stored soon after the one before it, or never.
        let mut grown_at = Instant::now();
        while stored < WRITES && grown_at.elapsed() < Duration::from_secs(3) {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let now = history(lee, receiver).await.len();
            if now > stored {
                (stored, grown_at) = (now, Instant::now());
            }
        }
    }
}

async fn history(lee: &Phone, other: &str) -> Vec<Message> {
    keep_trying("history", async || lee.history_with(other, date_of(28)).await.ok()).await
}

/// As the app does when the network is away: again and again, for up to a minute.
async fn keep_trying<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        if let Some(done) = attempt().await {
            return done;
        }
        assert!(Instant::now() < deadline, "{what} fails for a minute");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
