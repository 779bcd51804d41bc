//! Every acknowledged like is stored and pushed, whichever step between its commit and the record of its push a kill hits.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use sosohappy_fleet::app::{Addresses, NewPost, Phone};
use sosohappy_testkit::push_providers::{PushProviders, SentPush};
use sosohappy_testkit::{Cluster, PATIENCE};

/// When the process is killed after the like was acknowledged: while its event is published and consumed, while the notice is stored, and
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

/// The date of the liked post, and the id of the notice.
fn date_and_id(push: &SentPush) -> (i64, String) {
    let data = &push.payload["message"]["data"];
    let text = |name: &str| data[name].as_str().expect("a text").to_owned();
    (text("date").parse().expect("a date"), text("noticeId"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_like_is_pushed_whatever_step_a_kill_hits() {
    let providers = PushProviders::start().await;
    let own = [
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
    let mut fleet = Cluster::embedded_with(binaries(), &settings).await;
    let ports = fleet.replicas[0];
    let addresses = Addresses::local(ports.auth, ports.feed, ports.dm, ports.notice);
    let (author, liker) = (sign_up(&addresses, "author").await, sign_up(&addresses, "liker").await);
    for post in 0..KILLED_AFTER.len() {
        let post = NewPost {
            date: date_of(post),
            text: "a small happiness",
            pictures: &[],
        };
        author.save_post(&post).await.unwrap();
    }
    let registered = sosohappy_common::tls::client()
        .post(format!("{}/notice-service/registerDevice", addresses.notice))
        .form(&[("deviceToken", DEVICE), ("platform", "android"), ("language", "ko")]);
    let registered = signed(&author, registered).send().await.unwrap();
    assert_eq!(registered.status(), 200);

    for (post, after) in KILLED_AFTER.into_iter().enumerate() {
        assert!(liker.toggle_like("author", date_of(post)).await.unwrap());
        tokio::time::sleep(Duration::from_millis(after)).await;
        fleet.kill("fleet");
        fleet.restart("fleet").await;
    }

    let expected: BTreeSet<i64> = (0..KILLED_AFTER.len()).map(date_of).collect();
    let deadline = tokio::time::Instant::now() + DEADLINE;
    let pushed = loop {
        let sent: Vec<(i64, String)> = providers.sent().iter().map(date_and_id).collect();
        let dates: BTreeSet<i64> = sent.iter().map(|(date, _)| *date).collect();
        if dates == expected {
            break sent;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "pushed: {dates:?}\n{}",
            fleet.logs()
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    // A push that was accepted and not yet recorded is sent again, under the same id: the device replaces the banner.
    let mut ids = BTreeMap::<i64, BTreeSet<String>>::new();
    for (date, id) in pushed {
        ids.entry(date).or_default().insert(id);
    }
    assert!(ids.values().all(|ids| ids.len() == 1), "{ids:?}");

    let inbox = sosohappy_common::tls::client().get(format!("{}/notice-service/findNotice?size=50", addresses.notice));
    let inbox: serde_json::Value = signed(&author, inbox).send().await.unwrap().json().await.unwrap();
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
