//! Every acknowledged like and message is stored, and shown or pushed, whichever step between its commit and the record of its push a kill hits.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use mongodb::bson::doc;
use serde_json::{Value, json};
use sosohappy_fleet::app::{Addresses, Message, NewPost, Phone, Socket, SocketEvent};
use sosohappy_testkit::push_providers::{PushProviders, SentPush};
use sosohappy_testkit::{Cluster, EngineSet, PATIENCE, eventually};
use sqlx::Connection as _;

/// When the process is killed after the like or message was acknowledged: while its event is published and consumed, while it is stored, and
/// while the push is sent and recorded. The crash points below hit each of these steps.
const KILLED_AFTER: [u64; 5] = [0, 5, 20, 60, 150];

/// The steps after which notice crashes before it has taken the push: the restarted process goes on at once.
const BEFORE_THE_TAKE: [&str; 3] = ["notice.consumed", "notice.stored", "notice.push-queued"];

/// The steps after it: the next take is a minute later.
const AFTER_THE_TAKE: [&str; 5] = [
    "notice.push-taken",
    "notice.push-answered",
    "notice.banner-recorded",
    "notice.push-recorded",
    "notice.push-settled",
];

/// Of these the steps after which the provider has a push that the queue does not know as sent.
const UNRECORDED: usize = 2;

/// The steps of a frame on a socket, and whether the notice is pushed if the phone does not connect again.
const OF_THE_FRAME: [(&str, bool); 3] = [
    ("notice.frame-written", true),
    ("notice.frame-shown", true),
    ("notice.shown-recorded", false),
];

/// Pushes are due at once.
const DUE_AT_ONCE: [(&str, &str); 2] = [("push.delivery-timeout", "0s"), ("push.like-delay", "0s")];

/// A push that a killed process had taken is due again after this time.
const TAKEN_FOR: Duration = Duration::from_mins(1);

const DEADLINE: Duration = PATIENCE.saturating_mul(4);

/// On the real engines, beside config and auth: no test there sends a message, and those of notice take over from each other.
const REPLICAS: [&str; 3] = ["feed-1", "notice-1", "notice-2"];

const DEVICE: &str = "fcm:phone";

fn binaries() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_fleet"))
        .parent()
        .expect("a binary is in a folder")
}

async fn sign_up(addresses: &Addresses, name: &str) -> Phone {
    let mut phone = Phone::new(addresses.clone(), &format!("{name}@example.com"), "google").unwrap();
    phone.sign_in().await.unwrap();
    phone
        .set_profile(name, "hello", &sosohappy_fleet::demo::picture(0))
        .await
        .unwrap();
    phone
}

/// One post a day.
fn date_of(post: usize) -> i64 {
    2_026_030_112_000_000 + i64::try_from(post).unwrap() * 100_000_000
}

fn signed(phone: &Phone, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
    let tokens = phone.tokens.as_ref().expect("signed in");
    request
        .header("email", &tokens.account)
        .header("Authorization", &tokens.access)
}

fn data(push: &SentPush, name: &str) -> String {
    let data = &push.payload["message"]["data"];
    data[name].as_str().expect("a text").to_owned()
}

/// The fleet, and two people, of whom the author has a device and no socket.
struct Ground {
    providers: PushProviders,
    fleet: Cluster,
    addresses: Addresses,
    author: Phone,
    other: Phone,
}

impl Ground {
    async fn start(set: EngineSet, more: &[(&'static str, &str)]) -> Self {
        let providers = PushProviders::start().await;
        let own = [("push.per-thread", "off"), ("push.per-account", "off")];
        let settings: Vec<(String, String)> = providers
            .settings()
            .into_iter()
            .chain(own.iter().chain(more).map(|(key, value)| (*key, (*value).to_owned())))
            .map(|(key, value)| {
                let key = key.replace('.', "__").replace('-', "_").to_uppercase();
                (format!("SOSOHAPPY_NOTICE__{key}"), value)
            })
            .collect();
        let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (&**key, &**value)).collect();
        let fleet = match set {
            EngineSet::Embedded => Cluster::embedded_with(binaries(), &settings).await,
            EngineSet::Real => Cluster::real_of(binaries(), &settings, &REPLICAS).await,
        };
        let ports = fleet.replicas[0];
        let addresses = Addresses::local(ports.auth, ports.feed, ports.dm, ports.notice);
        let (author, other) = (sign_up(&addresses, "author").await, sign_up(&addresses, "other").await);
        let registered = sosohappy_common::tls::client()
            .post(format!("{}/notice-service/registerDevice", addresses.notice))
            .form(&[("deviceToken", DEVICE), ("platform", "android"), ("language", "ko")]);
        let registered = signed(&author, registered).send().await.unwrap();
        assert_eq!(registered.status(), 200);
        Self {
            providers,
            fleet,
            addresses,
            author,
            other,
        }
    }

    async fn save_posts(&self, count: usize) {
        for post in 0..count {
            let post = NewPost {
                date: date_of(post),
                text: "a small happiness",
                pictures: &[],
            };
            self.author.save_post(&post).await.unwrap();
        }
    }

    /// Likes the post, while the step is armed at which a process of notice crashes, and restarts the process.
    async fn like_and_crash(&mut self, date: i64, step: &str) {
        self.fleet.crash_at(step);
        let liked = self.other.toggle_like("author", date).await;
        let crashed = self.fleet.crashed().await;
        self.fleet.restart(&crashed).await;
        // On the embedded engines feed has crashed as well, perhaps before it answered. The push may be that of an earlier like.
        if liked.is_err() && !self.other.post_of("author", date).await.unwrap().is_liked {
            assert!(self.other.toggle_like("author", date).await.unwrap());
        }
    }

    /// Returns the author's inbox, newest first.
    async fn inbox(&self) -> Vec<Value> {
        let inbox =
            sosohappy_common::tls::client().get(format!("{}/notice-service/findNotice?size=50", self.addresses.notice));
        let inbox: Value = signed(&self.author, inbox).send().await.unwrap().json().await.unwrap();
        inbox["content"].as_array().expect("a page").clone()
    }

    /// Asserts that the inbox has one notice for each of these posts.
    async fn assert_stored_once(&self, expected: &BTreeSet<i64>) {
        let inbox = self.inbox().await;
        let dates = inbox
            .iter()
            .map(|notice| notice["data"]["date"].as_i64().expect("a date"));
        assert_eq!(
            (inbox.len(), dates.collect::<BTreeSet<i64>>()),
            (expected.len(), expected.clone()),
            "each is stored once"
        );
    }

    /// Returns how many pushes wait, and how many banners are recorded, in the database of notice.
    async fn queue_and_banners(&self) -> (u64, u64) {
        let url = self.fleet.inbox_url();
        if url.starts_with("sqlite:") {
            let mut database = sqlx::SqliteConnection::connect(&url).await.unwrap();
            let counts: (i64, i64) = sqlx::query_as(
                "SELECT (SELECT COUNT(*) FROM push WHERE due_at IS NOT NULL), (SELECT COUNT(*) FROM banner)",
            )
            .fetch_one(&mut database)
            .await
            .unwrap();
            database.close().await.unwrap();
            return (counts.0.unsigned_abs(), counts.1.unsigned_abs());
        }
        let client = mongodb::Client::with_uri_str(&url).await.unwrap();
        let database = client.default_database().expect("the URL has a database");
        let count = async |collection: &str, condition| {
            let collection = database.collection::<mongodb::bson::Document>(collection);
            collection.count_documents(condition).await.unwrap()
        };
        let waiting = doc! { "due_at": { "$exists": true } };
        (count("push", waiting).await, count("banner", doc! {}).await)
    }

    /// Makes the pushes due that killed processes had taken, as if their minute had passed. Returns their number. One test waits for it.
    async fn let_takes_expire(&self) -> u64 {
        let time = i64::try_from(TAKEN_FOR.as_millis()).expect("a minute");
        let url = self.fleet.inbox_url();
        if url.starts_with("sqlite:") {
            let mut database = sqlx::SqliteConnection::connect(&url).await.unwrap();
            let expired = sqlx::query("UPDATE push SET due_at = due_at - ? WHERE taken = 1 AND due_at IS NOT NULL")
                .bind(time)
                .execute(&mut database)
                .await
                .unwrap();
            database.close().await.unwrap();
            return expired.rows_affected();
        }
        let client = mongodb::Client::with_uri_str(&url).await.unwrap();
        let database = client.default_database().expect("the URL has a database");
        let pushes = database.collection::<mongodb::bson::Document>("push");
        let taken = doc! { "due_at": { "$exists": true }, "taken": { "$exists": true } };
        let expired = pushes.update_many(taken, doc! { "$inc": { "due_at": -time } });
        expired.await.unwrap().modified_count
    }

    /// Waits until no push waits. Returns how many banners are recorded.
    async fn settled(&self) -> u64 {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            let (waiting, banners) = self.queue_and_banners().await;
            if waiting == 0 {
                return banners;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{waiting} pushes wait\n{}",
                self.fleet.logs()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Waits until the likes of these posts were pushed, as [`Ground::pushed`] does.
    async fn pushed_likes(&self, dates: &BTreeSet<i64>) {
        let expected = dates.iter().map(ToString::to_string).collect();
        self.pushed(&expected, |push| (data(push, "date"), data(push, "noticeId")))
            .await;
    }

    async fn kill_and_restart(&mut self, after: u64) {
        tokio::time::sleep(Duration::from_millis(after)).await;
        self.fleet.kill("fleet");
        self.fleet.restart("fleet").await;
    }

    /// Waits until pushes with all these keys were sent, each under one id: one that was accepted and not yet recorded is sent again, and the
    /// device replaces the banner.
    async fn pushed(&self, expected: &BTreeSet<String>, key_and_id: impl Fn(&SentPush) -> (String, String)) {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        let sent = loop {
            let sent: Vec<(String, String)> = self.providers.sent().iter().map(&key_and_id).collect();
            let keys: BTreeSet<String> = sent.iter().map(|(key, _)| key.clone()).collect();
            if keys == *expected {
                break sent;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "pushed: {keys:?}\n{}",
                self.fleet.logs()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        let mut ids = BTreeMap::<String, BTreeSet<String>>::new();
        for (key, id) in sent {
            ids.entry(key).or_default().insert(id);
        }
        assert!(ids.values().all(|ids| ids.len() == 1), "{ids:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_like_is_pushed_whatever_step_a_kill_hits() {
    let mut ground = Ground::start(EngineSet::Embedded, &DUE_AT_ONCE).await;
    ground.save_posts(KILLED_AFTER.len()).await;
    for (post, after) in KILLED_AFTER.into_iter().enumerate() {
        assert!(ground.other.toggle_like("author", date_of(post)).await.unwrap());
        ground.kill_and_restart(after).await;
    }
    let expected: BTreeSet<i64> = (0..KILLED_AFTER.len()).map(date_of).collect();
    // Those that a killed process had taken are due when their minute has passed.
    ground.pushed_likes(&expected).await;
    ground.assert_stored_once(&expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_like_is_pushed_when_notice_crashes_between_two_steps_on_the_embedded_engines() {
    crash_between_the_steps_of_a_push(EngineSet::Embedded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_like_is_pushed_when_notice_crashes_between_two_steps_on_the_real_engines() {
    if EngineSet::real_is_there() {
        crash_between_the_steps_of_a_push(EngineSet::Real).await;
    }
}

async fn crash_between_the_steps_of_a_push(set: EngineSet) {
    let mut ground = Ground::start(set, &DUE_AT_ONCE).await;
    let steps = [&BEFORE_THE_TAKE[..], &AFTER_THE_TAKE].concat();
    ground.save_posts(steps.len()).await;
    let mut liked = BTreeSet::new();
    let mut began = tokio::time::Instant::now();
    for (post, step) in steps.iter().enumerate() {
        let date = date_of(post);
        ground.like_and_crash(date, step).await;
        liked.insert(date);
        if BEFORE_THE_TAKE.contains(step) {
            ground.pushed_likes(&liked).await;
            ground.settled().await;
            began = tokio::time::Instant::now();
        }
    }
    let is_in_time = began.elapsed() < TAKEN_FOR;
    let expired = ground.let_takes_expire().await;
    assert!(
        expired > 0 || !is_in_time,
        "pushes wait that a killed process had taken"
    );
    ground.pushed_likes(&liked).await;
    assert_eq!(
        ground.settled().await,
        liked.len() as u64,
        "each has one banner on the device"
    );
    let (calls, expected) = (ground.providers.sent().len(), liked.len() + UNRECORDED);
    assert!(calls >= expected, "{calls} of {expected} pushes were sent");
    // On a machine so slow that an earlier push was due again before the last crash, a crash may have hit two pushes.
    assert!(
        calls == expected || !is_in_time,
        "{calls} pushes were sent, not {expected}"
    );
    ground.assert_stored_once(&liked).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_like_is_shown_or_pushed_when_notice_crashes_between_two_steps_on_the_embedded_engines() {
    crash_between_the_steps_of_a_frame(EngineSet::Embedded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_like_is_shown_or_pushed_when_notice_crashes_between_two_steps_on_the_real_engines() {
    if EngineSet::real_is_there() {
        crash_between_the_steps_of_a_frame(EngineSet::Real).await;
    }
}

async fn crash_between_the_steps_of_a_frame(set: EngineSet) {
    let mut ground = Ground::start(set, &[]).await;
    ground.save_posts(OF_THE_FRAME.len() + 1).await;
    let (mut liked, mut pushed) = (BTreeSet::new(), BTreeSet::new());
    for (post, (step, is_pushed)) in OF_THE_FRAME.into_iter().enumerate() {
        let date = date_of(post);
        let newest = ground
            .inbox()
            .await
            .first()
            .map_or(0, |newest| newest["seq"].as_i64().unwrap());
        let socket = ground.author.resume_notice(newest).await.unwrap();
        let phone = tokio::spawn(acknowledge_until_closed(socket));
        ground.like_and_crash(date, step).await;
        phone.await.unwrap();
        liked.insert(date);
        if is_pushed {
            pushed.insert(date);
        }
        ground.pushed_likes(&pushed).await;
        ground.settled().await;
    }
    // The record of the last like is handled again before this one: a push of it would be due earlier.
    let after = date_of(OF_THE_FRAME.len());
    assert!(ground.other.toggle_like("author", after).await.unwrap());
    liked.insert(after);
    pushed.insert(after);
    ground.pushed_likes(&pushed).await;
    assert_eq!(
        ground.settled().await,
        pushed.len() as u64,
        "each has one banner on the device"
    );
    assert_eq!(
        ground.providers.sent().len(),
        pushed.len(),
        "a like that was recorded as shown is not pushed, and no other one twice"
    );
    ground.assert_stored_once(&liked).await;
}

/// Acknowledges each frame until the process that has written it has ended.
async fn acknowledge_until_closed(mut socket: Socket) {
    while let SocketEvent::Text(frame) = socket.next_event().await {
        let frame: Value = serde_json::from_str(&frame).expect("a frame is JSON");
        // The process may have ended by now.
        let _ = socket.send(&json!({ "topic": "ack", "seq": frame["seq"] })).await;
    }
}

/// A message is acknowledged when it is in the history: the sockets of the published app answer nothing. Each has a sender of its own: several
/// of one sender may be pushed as one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_is_pushed_whatever_step_a_kill_hits() {
    let mut ground = Ground::start(EngineSet::Embedded, &DUE_AT_ONCE).await;
    let mut senders = Vec::new();
    for number in 0..KILLED_AFTER.len() {
        senders.push(sign_up(&ground.addresses, &format!("sender{number}")).await);
    }
    for (sender, after) in senders.iter().zip(KILLED_AFTER) {
        let message = Message {
            sender: sender.nickname.clone(),
            receiver: "author".to_owned(),
            date: date_of(0),
            text: "hello".to_owned(),
        };
        let mut socket = sender.connect_dm().await.unwrap();
        socket.send(&message).await.unwrap();
        eventually("the message is stored", async || {
            let stored = sender.conversations().await.ok()?;
            stored.contains(&message).then_some(())
        })
        .await;
        ground.kill_and_restart(after).await;
    }
    let expected: BTreeSet<String> = senders.iter().map(|sender| sender.nickname.clone()).collect();
    ground.let_takes_expire().await;
    ground
        .pushed(&expected, |push| {
            let message: Message = serde_json::from_str(&data(push, "messageDto")).expect("a message");
            (message.sender, data(push, "noticeId"))
        })
        .await;
    let stored = ground.author.conversations().await.unwrap();
    let stored: Vec<&str> = stored.iter().map(|message| message.sender.as_str()).collect();
    assert_eq!(
        (stored.len(), stored.into_iter().map(str::to_owned).collect()),
        (expected.len(), expected),
        "each is stored once"
    );
}
