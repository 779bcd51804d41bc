//! A step of the move, forward and back, as docs/migration.md has it: people go on writing, and nothing that was acknowledged is lost.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::multipart::Form;
use serde::Deserialize;
use sosohappy_bus::Start;
use sosohappy_events::types::{AccessTokenIssued, Role, TokenDigest};
use sosohappy_testkit::spring::SpringFeed;
use sosohappy_testkit::{Bed, EngineSet, Person, Running, eventually};
use tokio::task::JoinSet;

use super::legacy::{Legacy, Target, count};

const PEOPLE: usize = 6;
/// Posts that are acknowledged before and after each step.
const ACKNOWLEDGED: usize = 60;

/// An acknowledged post, which must be stored.
type Post = (String, i64, String);

/// The app's view: one address, behind which the service changes.
#[derive(Default)]
struct Gateway {
    feed: Mutex<Option<String>>,
    acknowledged: Mutex<BTreeSet<Post>>,
    /// Requests without an answer so far.
    in_flight: AtomicUsize,
    is_over: AtomicBool,
}

impl Gateway {
    fn leads_to(&self, feed: Option<&str>) {
        *self.feed.lock() = feed.map(str::to_owned);
    }

    /// Waits until every request has its answer; the way must lead nowhere.
    async fn quiet(&self) {
        eventually("every request is answered", async || {
            (self.in_flight.load(Ordering::SeqCst) == 0).then_some(())
        })
        .await;
    }

    /// Waits until this many more posts are acknowledged.
    async fn more(&self) {
        let wanted = self.acknowledged.lock().len() + ACKNOWLEDGED;
        eventually("posts are acknowledged", async || {
            (self.acknowledged.lock().len() >= wanted).then_some(())
        })
        .await;
    }
}

/// Writes a post a day; one that is not acknowledged is sent again, as the app does.
async fn write(gateway: Arc<Gateway>, person: Person) {
    let http = sosohappy_common::tls::client();
    for number in 0_i64.. {
        let date =
            (20_230_101 + number / 28 % 12 * 100 + number % 28 + number / 336 * 10_000) * 100_000_000 + 9_000_000;
        let text = format!("day {number} of {}", person.nickname);
        loop {
            if gateway.is_over.load(Ordering::Relaxed) {
                return;
            }
            // Counted before it looks where the way leads: `quiet` overlooks none.
            gateway.in_flight.fetch_add(1, Ordering::SeqCst);
            let feed = gateway.feed.lock().clone();
            let mut is_acknowledged = false;
            if let Some(feed) = feed {
                let fields = [
                    ("nickname", person.nickname.clone()),
                    ("date", date.to_string()),
                    ("weather", "sunny".to_owned()),
                    ("happiness", "3".to_owned()),
                    ("categoryList", "sea".to_owned()),
                    ("text", text.clone()),
                    ("isPublic", "true".to_owned()),
                ];
                let form = fields
                    .into_iter()
                    .fold(Form::new(), |form, (name, value)| form.text(name, value));
                let save = http.post(format!("{feed}/feed-service/saveFeed")).multipart(form);
                let answer = person.sign(save).send().await;
                is_acknowledged = answer.is_ok_and(|answer| answer.status().is_success());
            }
            if is_acknowledged {
                let post = (person.nickname.clone(), date, text.clone());
                gateway.acknowledged.lock().insert(post);
            }
            gateway.in_flight.fetch_sub(1, Ordering::SeqCst);
            if is_acknowledged {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[derive(Deserialize)]
struct Shown {
    date: i64,
    text: String,
}

/// Everything that the people see of their own.
async fn shown(feed: &str, people: &[Person]) -> BTreeSet<Post> {
    let http = sosohappy_common::tls::client();
    let mut shown = BTreeSet::new();
    for person in people {
        for month in (2023..2026).flat_map(|year| (1..=12).map(move |month| year * 100 + month)) {
            let date = (i64::from(month) * 100 + 1) * 100_000_000;
            let ask = http.post(format!("{feed}/feed-service/findMonthFeed"));
            let ask = ask.form(&[("nickname", person.nickname.clone()), ("date", date.to_string())]);
            let answer = person.sign(ask).send().await.expect("feed answers");
            assert_eq!(answer.status(), 200);
            let posts: Vec<Shown> = answer.json().await.expect("posts");
            let posts = posts
                .into_iter()
                .map(|post| (person.nickname.clone(), post.date, post.text));
            shown.extend(posts);
        }
    }
    shown
}

async fn ours(bed: &Bed) -> Running {
    let more = [("fleet.spring", "auth,dm,notice")];
    let settings = bed.settings("feed", sosohappy_feed::DEFAULTS, &more).await;
    let built = sosohappy_feed::build(settings, bed.context(sosohappy_feed::SERVICE), bed.bus.clone()).await;
    bed.start(built).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn feed_moves_forward_and_back_under_load() {
    if !EngineSet::real_is_there() {
        return;
    }
    let bed = Bed::new(EngineSet::Real).await;
    let (legacy, target) = (Legacy::new().await, Target::of(&bed).await);
    let urls = ["auth", "feed"].map(|service| legacy.url(service));
    let arguments = ["--auth", urls[0].as_str(), "--feed", urls[1].as_str()];
    let mut people = Vec::new();
    for number in 0..PEOPLE {
        let (email, nickname) = (format!("person{number}@example.com+kakao"), format!("person{number}"));
        legacy.user(&email, &nickname).await;
        let person = bed.person(&email, &nickname).await;
        // A Spring service knows a token by itself, not by its digest.
        let issued_at = sosohappy_common::clock::Clock::now(&sosohappy_common::clock::SystemClock);
        bed.publish(AccessTokenIssued {
            account: person.account.clone(),
            digest: TokenDigest::of(&person.token),
            raw: Some(person.token.clone()),
            session: person.session,
            role: Role::User,
            issued_at,
            expires_at: Some(issued_at + Duration::from_hours(1)),
        })
        .await;
        people.push(person);
    }
    let gateway = Arc::new(Gateway::default());
    let mut writers = JoinSet::new();
    for person in people.clone() {
        writers.spawn(write(gateway.clone(), person));
    }

    // Spring serves; the bulk is imported meanwhile.
    let spring = SpringFeed::start(&bed.bus, &urls[1], Start::Earliest).await;
    gateway.leads_to(Some(spring.url()));
    gateway.more().await;
    let bulk = tokio::task::block_in_place(|| target.import(&arguments));
    assert!(count(&bulk, "feed", "created") > 0, "{bulk}");
    gateway.more().await;

    // Forward: Spring stops, the rest is imported, ours starts.
    gateway.leads_to(None);
    // The stand-in does not drain: it would store what it was asked for after the import has read.
    gateway.quiet().await;
    drop(spring);
    let rest = tokio::task::block_in_place(|| target.import(&arguments));
    assert!(count(&rest, "feed", "unchanged") > 0, "{rest}");
    let feed = ours(&bed).await;
    gateway.leads_to(Some(&feed.url));
    gateway.more().await;
    let acknowledged = gateway.acknowledged.lock().clone();
    let lost: Vec<_> = acknowledged
        .difference(&shown(&feed.url, &people).await)
        .cloned()
        .collect();
    assert_eq!(lost, [], "forward");

    // Back: ours stops, what was written here is exported, Spring starts.
    gateway.leads_to(None);
    feed.stop().await;
    let back = tokio::task::block_in_place(|| target.export(&arguments));
    assert!(count(&back, "feed", "created") > 0, "{back}");
    let spring = SpringFeed::start(&bed.bus, &urls[1], Start::Earliest).await;
    gateway.leads_to(Some(spring.url()));
    gateway.more().await;
    gateway.is_over.store(true, Ordering::Relaxed);
    while writers.join_next().await.is_some() {}
    let acknowledged = gateway.acknowledged.lock().clone();
    let lost: Vec<_> = acknowledged
        .difference(&shown(spring.url(), &people).await)
        .cloned()
        .collect();
    assert_eq!(lost, [], "back");
    println!(
        "{} posts were acknowledged by Spring, ours and Spring again",
        acknowledged.len()
    );
}
