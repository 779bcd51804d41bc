//! Every acknowledged like and message is stored and pushed, whichever step between its commit and the record of its push a kill hits.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use sosohappy_fleet::app::{Addresses, Message, NewPost, Phone};
use sosohappy_testkit::push_providers::{PushProviders, SentPush};
use sosohappy_testkit::{Cluster, PATIENCE, eventually};

/// When the process is killed after the like or message was acknowledged: while its event is published and consumed, while it is stored, and
/// while the push is sent and recorded.
const KILLED_AFTER: [u64; 8] = [0, 5, 15, 30, 50, 80, 130, 250];

/// A push that a killed process had taken is due again after a minute.
const DEADLINE: Duration = PATIENCE.saturating_mul(4);

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

/// The fleet as one process, and two people, of whom the author has a device and no socket.
struct Ground {
    providers: PushProviders,
    fleet: Cluster,
    addresses: Addresses,
    author: Phone,
    other: Phone,
}

impl Ground {
    async fn start() -> Self {
        let providers = PushProviders::start().await;
        let own = [
            ("push.delivery-timeout", "0s"),
            ("push.like-delay", "0s"),
            ("push.per-thread", "off"),
            ("push.per-account", "off"),
        ];
        let settings: Vec<(String, String)> = providers
            .settings()
            .into_iter()
            .chain(own.map(|(key, value)| (key, value.to_owned())))
            .map(|(key, value)| {
                let key = key.replace('.', "__").replace('-', "_").to_uppercase();
                (format!("SOSOHAPPY_NOTICE__{key}"), value)
            })
            .collect();
        let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (&**key, &**value)).collect();
        let fleet = Cluster::embedded_with(binaries(), &settings).await;
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
    let mut ground = Ground::start().await;
    for post in 0..KILLED_AFTER.len() {
        let post = NewPost {
            date: date_of(post),
            text: "a small happiness",
            pictures: &[],
        };
        ground.author.save_post(&post).await.unwrap();
    }
    for (post, after) in KILLED_AFTER.into_iter().enumerate() {
        assert!(ground.other.toggle_like("author", date_of(post)).await.unwrap());
        ground.kill_and_restart(after).await;
    }
    let expected: BTreeSet<i64> = (0..KILLED_AFTER.len()).map(date_of).collect();
    ground
        .pushed(&expected.iter().map(ToString::to_string).collect(), |push| {
            (data(push, "date"), data(push, "noticeId"))
        })
        .await;

    let inbox =
        sosohappy_common::tls::client().get(format!("{}/notice-service/findNotice?size=50", ground.addresses.notice));
    let inbox: serde_json::Value = signed(&ground.author, inbox)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let content = inbox["content"].as_array().expect("a page");
    let stored: BTreeSet<i64> = content
        .iter()
        .map(|notice| notice["data"]["date"].as_i64().expect("a date"))
        .collect();
    assert_eq!(
        (content.len(), stored),
        (expected.len(), expected),
        "each is stored once"
    );
}

/// A message is acknowledged when it is in the history: the sockets of the published app answer nothing. Each has a sender of its own: several
/// of one sender may be pushed as one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_is_pushed_whatever_step_a_kill_hits() {
    let mut ground = Ground::start().await;
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
