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
const ACKNOWLEDGED: usize = 40;

/// The pause of a person after each request: an import, which takes seconds, reads as many rows as were written meanwhile.
pub const PAUSE: Duration = Duration::from_millis(50);

/// An acknowledged write, which must be stored: a nickname, a number, a text.
pub type Stored = (String, i64, String);

/// The app's view: one address, behind which the service changes.
#[derive(Default)]
pub struct Gateway {
    service: Mutex<Option<String>>,
    pub acknowledged: Mutex<BTreeSet<Stored>>,
    /// Requests without an answer so far.
    in_flight: AtomicUsize,
    is_over: AtomicBool,
}

impl Gateway {
    pub fn leads_to(&self, service: Option<&str>) {
        *self.service.lock() = service.map(str::to_owned);
    }

    /// Begins a request; none when the load has ended.
    pub fn attempt(&self) -> Option<Attempt<'_>> {
        if self.is_over.load(Ordering::Relaxed) {
            return None;
        }
        // Counted before it looks where the way leads: `quiet` overlooks none.
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        Some(Attempt {
            service: self.service.lock().clone(),
            gateway: self,
        })
    }

    /// Ends the load.
    pub async fn end(&self, mut writers: JoinSet<()>) {
        self.is_over.store(true, Ordering::Relaxed);
        while let Some(ended) = writers.join_next().await {
            ended.expect("no writer panics");
        }
    }

    /// Waits until every request has its answer; the way must lead nowhere.
    pub async fn quiet(&self) {
        eventually("every request is answered", async || {
            (self.in_flight.load(Ordering::SeqCst) == 0).then_some(())
        })
        .await;
    }

    /// Waits until that many more requests are acknowledged.
    pub async fn more(&self, requests: usize) {
        let wanted = self.acknowledged.lock().len() + requests;
        eventually("requests are acknowledged", async || {
            (self.acknowledged.lock().len() >= wanted).then_some(())
        })
        .await;
    }
}

/// A request that is under way.
pub struct Attempt<'a> {
    gateway: &'a Gateway,
    /// The service it is sent to; none while the service moves.
    pub service: Option<String>,
}

impl Attempt<'_> {
    /// Ends the request: with what was acknowledged, or not, and then it is sent again after a pause, as the app does.
    pub async fn end(self, acknowledged: Option<Stored>) -> bool {
        let is_acknowledged = acknowledged.is_some();
        self.gateway.acknowledged.lock().extend(acknowledged);
        self.gateway.in_flight.fetch_sub(1, Ordering::SeqCst);
        if !is_acknowledged {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        is_acknowledged
    }
}

/// Returns the date of a person's post of that number: a day each.
pub fn date(number: i64) -> i64 {
    (20_230_101 + number / 28 % 12 * 100 + number % 28 + number / 336 * 10_000) * 100_000_000 + 9_000_000
}

/// Saves a post, and returns whether that was acknowledged.
pub async fn save(http: &reqwest::Client, feed: &str, person: &Person, date: i64, text: &str) -> bool {
    let fields = [
        ("nickname", person.nickname.clone()),
        ("date", date.to_string()),
        ("weather", "sunny".to_owned()),
        ("happiness", "3".to_owned()),
        ("categoryList", "sea".to_owned()),
        ("text", text.to_owned()),
        ("isPublic", "true".to_owned()),
    ];
    let form = fields
        .into_iter()
        .fold(Form::new(), |form, (name, value)| form.text(name, value));
    let save = http.post(format!("{feed}/feed-service/saveFeed")).multipart(form);
    let answer = person.sign(save).send().await;
    answer.is_ok_and(|answer| answer.status().is_success())
}

/// Writes a post a day; one that is not acknowledged is sent again, as the app does.
async fn write(gateway: Arc<Gateway>, person: Person) {
    let http = sosohappy_common::tls::client();
    for number in 0_i64.. {
        let (date, text) = (date(number), format!("day {number} of {}", person.nickname));
        loop {
            let Some(attempt) = gateway.attempt() else { return };
            let mut acknowledged = None;
            if let Some(feed) = &attempt.service
                && save(&http, feed, &person, date, &text).await
            {
                acknowledged = Some((person.nickname.clone(), date, text.clone()));
            }
            if attempt.end(acknowledged).await {
                break;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A person with a row of the legacy auth and a token that services of both fleets know.
pub async fn person(bed: &Bed, legacy: &Legacy, number: usize) -> Person {
    let (email, nickname) = (format!("person{number}@example.com+kakao"), format!("person{number}"));
    legacy.user(&email, &nickname).await;
    let person = bed.person(&email, &nickname).await;
    publish_raw(bed, &person).await;
    person
}

/// Publishes the token itself: a Spring service does not know it by its digest.
pub async fn publish_raw(bed: &Bed, person: &Person) {
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
}

#[derive(Deserialize)]
struct Shown {
    date: i64,
    text: String,
}

/// Everything that the people see of their own.
async fn shown(feed: &str, people: &[Person]) -> BTreeSet<Stored> {
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
        people.push(person(&bed, &legacy, number).await);
    }
    let gateway = Arc::new(Gateway::default());
    let mut writers = JoinSet::new();
    for person in people.clone() {
        writers.spawn(write(gateway.clone(), person));
    }

    // Spring serves; the bulk is imported meanwhile.
    let spring = SpringFeed::start(&bed.bus, &urls[1], Start::Earliest).await;
    gateway.leads_to(Some(spring.url()));
    gateway.more(ACKNOWLEDGED).await;
    let bulk = tokio::task::block_in_place(|| target.import(&arguments));
    assert!(count(&bulk, "feed", "created") > 0, "{bulk}");
    gateway.more(ACKNOWLEDGED).await;

    // Forward: Spring stops, the rest is imported, ours starts.
    gateway.leads_to(None);
    // The stand-in does not drain: it would store what it was asked for after the import has read.
    gateway.quiet().await;
    drop(spring);
    let rest = tokio::task::block_in_place(|| target.import(&arguments));
    assert!(count(&rest, "feed", "unchanged") > 0, "{rest}");
    let feed = ours(&bed).await;
    gateway.leads_to(Some(&feed.url));
    gateway.more(ACKNOWLEDGED).await;
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
    gateway.more(ACKNOWLEDGED).await;
    gateway.end(writers).await;
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
