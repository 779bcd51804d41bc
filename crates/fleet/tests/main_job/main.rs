//! The demo on real processes, and writes while each process is killed: nothing is lost or duplicated.

mod collector;

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use sosohappy_common::clock::{Entropy, SystemEntropy};
use sosohappy_fleet::app::{Addresses, Message, NewPost, Phone};
use sosohappy_fleet::people::{self, Crowd};
use sosohappy_testkit::{Cluster, EngineSet, PATIENCE, Ports};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::collector::{Collector, Kind};

/// The number of likes and of messages in a round.
const WRITES: usize = 16;

/// The processes that are killed on the secured engines. Covers the outbox of auth, and the registry and consumer groups of a restarted replica.
const KILLED_ON_SECURED: [&str; 3] = ["auth", "feed-1", "notice-2"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_a_process_is_killed_on_the_embedded_engines() {
    play(Cluster::embedded(binaries()).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_a_process_is_killed_on_the_real_engines() {
    if EngineSet::real_is_there() {
        play(Cluster::real(binaries()).await).await;
    }
}

/// TLS everywhere, and a Kafka user for each service with the declared ACLs: cases A4.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_on_secured_engines_has_the_acls_that_it_needs() {
    if !EngineSet::secured_is_there() {
        return;
    }
    let mut fleet = Cluster::secured(binaries()).await;
    demo(&fleet).await;
    for victim in KILLED_ON_SECURED {
        Round::begin(&fleet).await.with_a_kill(&mut fleet, victim).await;
    }
    let logs = fleet.logs();
    for error in ["AuthorizationFailed", "authorization failed", "cannot be made"] {
        assert!(!logs.contains(error), "a service lacks an ACL: {error}\n{logs}");
    }
}

/// Returns the folder of this workspace's binaries.
fn binaries() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_fleet"))
        .parent()
        .expect("a binary is in a folder")
}

fn addresses(ports: Ports) -> Addresses {
    Addresses::local(ports.auth, ports.feed, ports.dm, ports.notice)
}

/// Posts, likes and messages that were acknowledged before the kill are there after it, once. The phones of the crowd have lost answers and
/// were suspended; another crowd lives until Ctrl-C.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_keeps_its_promises_over_a_kill() {
    let mut fleet = Cluster::embedded(binaries()).await;
    let entry = format!("http://127.0.0.1:{}", fleet.entry);
    let addresses = Addresses::behind(&entry);
    let crowd = Crowd {
        people: 8,
        rate: const { NonZeroU32::new(20).unwrap() },
        length: Some(Duration::from_secs(12)),
    };
    let killed = async {
        let endless = EndlessCrowd::start(&fleet, &entry).await;
        tokio::time::sleep(Duration::from_secs(6)).await;
        fleet.kill("fleet");
        fleet.restart("fleet").await;
        endless.interrupt().await
    };
    let (kept, said) = tokio::join!(people::run(addresses, crowd, None), killed);
    let summary = kept.expect("every promise is kept");
    assert!(
        summary.lost > 0 && summary.suspensions > 0 && summary.reconnects > 0,
        "{summary}"
    );
    for promise in [
        "posts saved, ",
        "likes taken, ",
        "messages accepted, ",
        "frames out of order",
    ] {
        assert!(said.contains(promise), "no {promise:?} in {said}");
    }
}

/// `fleet demo --people` without an end.
struct EndlessCrowd {
    process: Child,
    output: Lines<BufReader<ChildStdout>>,
}

impl EndlessCrowd {
    /// Starts a small crowd as a process, and waits until its people live in the fleet.
    async fn start(fleet: &Cluster, entry: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_fleet"))
            .args([
                "demo",
                "--people",
                "2",
                "--rate",
                "5",
                "--url",
                entry,
                "--console",
                entry,
            ])
            .arg("--data")
            .arg(fleet.folder().join("data"))
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("fleet can be run");
        let output = process.stdout.take().expect("the output is piped");
        let mut output = BufReader::new(output).lines();
        while !next_line(&mut output)
            .await
            .expect("the demo runs")
            .contains("people are signed in")
        {}
        Self { process, output }
    }

    /// Presses Ctrl-C, and returns what the process says from then on. It ends with success.
    async fn interrupt(mut self) -> String {
        let pid = self.process.id().expect("the demo runs");
        let sent = Command::new("kill").args(["-INT", &pid.to_string()]).status().await;
        assert!(
            sent.expect("`kill` is available").success(),
            "the demo cannot be interrupted"
        );
        let mut said = String::new();
        while let Some(line) = next_line(&mut self.output).await {
            said.push_str(&line);
            said.push('\n');
        }
        let status = self.process.wait().await.expect("our own child can be waited for");
        assert!(status.success(), "the demo exited with {status}:\n{said}");
        said
    }
}

/// Returns the next line of a process that has time for it, or `None` at the end.
async fn next_line(output: &mut Lines<BufReader<ChildStdout>>) -> Option<String> {
    let line = tokio::time::timeout(PATIENCE, output.next_line()).await;
    line.expect("the demo says something in time")
        .expect("the output can be read")
}

/// Runs the demo, then a round of writes for each process that is killed: all but those of the test on the secured engines, which differ in
/// their connections only.
async fn play(mut fleet: Cluster) {
    demo(&fleet).await;
    let mut victims = fleet.names();
    victims.retain(|name| !KILLED_ON_SECURED.contains(&name.as_str()));
    for victim in victims {
        let took = Round::begin(&fleet).await.with_a_kill(&mut fleet, &victim).await;
        println!("{victim}: killed and ready again after {} ms", took.as_millis());
    }
    let logs = fleet.logs();
    for secret in ["@example.com", "Bearer ", "device-of-", "message number"] {
        assert!(!logs.contains(secret), "a log line contains {secret:?}");
    }
}

/// Runs the demo with auth and feed of one replica and the sockets of the other.
async fn demo(fleet: &Cluster) {
    let [first, second] = fleet.replicas.map(addresses);
    let mixed = Addresses {
        dm: second.dm,
        notice: second.notice,
        ..first
    };
    sosohappy_fleet::demo::run(mixed).await.expect("the demo succeeds");
}

/// Two users who write while a process is killed.
struct Round {
    kim: Phone,
    lee: Phone,
    notices: Collector,
    messages: Collector,
}

impl Round {
    /// Prepares a round: kim has a post on each of the first days of a month, and sockets at the second replica. Lee writes at the first.
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

    /// Kills and restarts a process while lee writes. Returns the time until the process is ready again.
    async fn with_a_kill(self, fleet: &mut Cluster, victim: &str) -> Duration {
        let kill = async {
            tokio::time::sleep(Duration::from_millis(150)).await;
            fleet.kill(victim);
            fleet.restart(victim).await
        };
        let author = &self.kim.nickname;
        let (took, (), ()) = tokio::join!(kill, like_all(&self.lee, author), send_all(&self.lee, author));
        self.assert_nothing_lost_or_duplicated(victim).await;
        took
    }

    async fn assert_nothing_lost_or_duplicated(self, victim: &str) {
        let posts = self.kim.own_month(date_of(1)).await.unwrap();
        assert_eq!(posts.len(), WRITES, "{victim}: posts were lost or duplicated");
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
        assert_eq!(history, sent, "{victim}: messages were lost, duplicated or reordered");

        // Every frame is delivered at most once, and all of them are if the socket stayed open. After a reconnect the history has the rest.
        let received = self.notices.settle(WRITES).await;
        assert_no_duplicates(victim, "notices", &received.frames);
        assert!(
            received.reconnects > 0 || received.frames.len() == WRITES,
            "{victim}: notices lost: {received:?}"
        );
        let received = self.messages.settle(WRITES).await;
        assert_no_duplicates(victim, "message frames", &received.frames);
        assert!(
            received.reconnects > 0 || received.frames.len() == WRITES,
            "{victim}: frames lost: {received:?}"
        );
        let numbers: Vec<i64> = received
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
            again.access_status().await.unwrap(),
            StatusCode::OK,
            "{victim}: the fresh token is refused"
        );
        assert_eq!(
            self.kim.access_status().await.unwrap(),
            StatusCode::OK,
            "{victim}: the old token is refused"
        );
    }
}

/// Asserts that no frame is a duplicate.
fn assert_no_duplicates(victim: &str, what: &str, frames: &[String]) {
    let distinct: BTreeSet<_> = frames.iter().collect();
    assert_eq!(
        distinct.len(),
        frames.len(),
        "{victim}: {what} were duplicated: {frames:?}"
    );
}

fn number(count: usize) -> i64 {
    i64::try_from(count).expect("a small number")
}

/// Returns the 16-digit date of a day of the round's month.
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

/// Likes every post once. Reads the state before each attempt, because a retry of a like whose response was lost would remove it.
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

/// Sends every message in order. After a disconnect it continues with the first message that is missing in the history.
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
        // A sent frame is stored soon after the previous one, or it was lost with the socket.
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

/// Retries for up to three minutes, as long as a process may take to start, as the app does without a network.
async fn keep_trying<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_mins(3);
    loop {
        if let Some(done) = attempt().await {
            return done;
        }
        assert!(Instant::now() < deadline, "{what} fails for a minute");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
