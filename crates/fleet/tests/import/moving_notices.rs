//! The move of notice, forward and back, as docs/migration.md has it, while people like posts and write to each other: every like and
//! every message is pushed once, by the one service or the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sosohappy_bus::Start;
use sosohappy_common::Context;
use sosohappy_events::types::{Device, DeviceTokenSet};
use sosohappy_testkit::push_providers::PushProviders;
use sosohappy_testkit::spring::{LikeForm, SpringNotice, SpringPush};
use sosohappy_testkit::{Bed, EngineSet, Person, Running, eventually};
use tokio::task::JoinSet;

use super::moving::{Gateway, Stored, date, save};
use super::moving_messages::{send, shown};

/// Each account of a pair likes the posts of the other, and writes to the other.
const PAIRS: u32 = 2;

/// Posts of one account: one a day.
const POSTS: i64 = 1000;

/// Likes and messages that are acknowledged before and after each step.
const ACKNOWLEDGED: usize = 8;

/// The pause of a writer after each request. The four write two a second at most, each of which is pushed by about 17 commands of `MongoDB`:
/// on a busy machine, too, our notice pushes faster, and reads everything in time.
const PAUSE: Duration = Duration::from_secs(2);

/// How long our notice waits for a socket: some pushes are waiting whenever it is stopped.
const DELIVERY_TIMEOUT: &str = "2s";

/// The title of a Spring notice's push of a like.
const LIKE: &str = "소소해피";

const VERSION: LikeForm = LikeForm::Account;

fn device_of(person: &Person) -> String {
    format!("device-of-{}", person.nickname)
}

/// Signs an account in on one device.
async fn person(bed: &Bed, number: u32) -> Person {
    let person = bed
        .person(&format!("person{number}@example.com+kakao"), &format!("person{number}"))
        .await;
    let device = Device {
        session: person.session,
        token: device_of(&person),
        since: bed.context.clock.now(),
    };
    bed.publish(DeviceTokenSet::all(person.account.clone(), vec![device]))
        .await;
    person
}

async fn feed(bed: &Bed) -> Running {
    let more = [("fleet.spring", "notice")];
    let settings = bed
        .settings::<sosohappy_feed::Settings>("feed", sosohappy_feed::DEFAULTS, &more)
        .await;
    let context = bed.context(sosohappy_feed::SERVICE);
    context.settings.attach(&settings);
    bed.start(sosohappy_feed::build(settings, context, bed.bus.clone()).await)
        .await
}

async fn dm(bed: &Bed) -> Running {
    let more = [("fleet.spring", "notice"), ("messages.delivery-timeout", "1s")];
    let settings = bed
        .settings::<sosohappy_dm::Settings>("dm", sosohappy_dm::DEFAULTS, &more)
        .await;
    let context = bed.context(sosohappy_dm::SERVICE);
    context.settings.attach(&settings);
    bed.start(sosohappy_dm::build(settings, context, bed.bus.clone()).await)
        .await
}

/// Starts our notice, alone or beside a Spring notice. Each like and each message is a push of its own, as far as they are not due together.
async fn notice(bed: &Bed, providers: &PushProviders, spring: &str) -> Running {
    let of_providers = providers.settings();
    let mut more: Vec<_> = of_providers.iter().map(|(key, value)| (*key, value.as_str())).collect();
    more.extend([
        ("fleet.spring", spring),
        ("push.delivery-timeout", DELIVERY_TIMEOUT),
        ("push.like-delay", DELIVERY_TIMEOUT),
        ("push.per-thread", "off"),
        ("push.per-account", "off"),
    ]);
    let settings = bed
        .settings::<sosohappy_notice::Settings>("notice", sosohappy_notice::DEFAULTS, &more)
        .await;
    let context = bed.context(sosohappy_notice::SERVICE);
    context.settings.attach(&settings);
    bed.start(sosohappy_notice::build(settings, context, bed.bus.clone()).await)
        .await
}

/// Sets `fleet.spring` in running services, as the config service does.
async fn set_spring(services: &[&Running], spring: &[&str]) {
    for service in services {
        let values = [("fleet.spring".to_owned(), Value::from(spring))];
        let refreshed = service.context.settings.set(values.into_iter().collect()).await;
        refreshed.expect("settings are attached").expect("the setting is valid");
    }
}

/// Saves posts, each of which another account likes.
async fn like(load: Arc<Gateway>, feed: String, author: Person, liker: Person) {
    let http = sosohappy_common::tls::client();
    for number in 0..POSTS {
        let date = date(number);
        let Some(attempt) = load.attempt() else { return };
        let mut is_liked = save(&http, &feed, &author, date, "to be liked").await;
        if is_liked {
            let like = http.post(format!("{feed}/feed-service/updateLike"));
            let like = like.form(&[
                ("srcNickname", liker.nickname.clone()),
                ("nickname", author.nickname.clone()),
                ("date", date.to_string()),
            ]);
            let answer = liker.sign(like).send().await;
            is_liked = answer.is_ok_and(|answer| answer.status().is_success());
        }
        // A like that is not acknowledged is not sent again: that might take it back.
        let expected = is_liked.then(|| (device_of(&author), date, LIKE.to_owned()));
        attempt.end(expected).await;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Writes one message after the other, each with a text of its own.
async fn write(load: Arc<Gateway>, dm: String, sender: Person, receiver: String) {
    for number in 0_i64.. {
        let (date, text) = (
            2_023_010_109_000_000 + number,
            format!("{number} of {}", sender.nickname),
        );
        let Some(attempt) = load.attempt() else { return };
        let is_stored = send(&dm, &sender, &receiver, date, &text).await;
        attempt
            .end(is_stored.then(|| (sender.nickname.clone(), date, text)))
            .await;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Everything that pushes: each service as long as it runs, and what it has pushed afterwards.
struct Pushes {
    providers: PushProviders,
    ours: Vec<Context>,
    spring: Vec<SpringPush>,
}

impl Pushes {
    /// Returns how often each like was pushed: by the author's device and the post's date.
    fn likes(&self) -> BTreeMap<(String, i64), usize> {
        let by_spring = self.spring.iter().filter(|push| push.title == LIKE).map(|push| {
            let (_, date) = push.record.rsplit_once(',').expect("a like's record");
            (push.token.clone(), date.to_owned())
        });
        let sent = self.providers.sent();
        let by_ours = sent.iter().filter_map(|push| {
            let date = push.payload["message"]["data"]["date"].as_str()?;
            Some((push.device.clone(), date.to_owned()))
        });
        let mut likes = BTreeMap::new();
        for (device, date) in by_spring.chain(by_ours) {
            *likes.entry((device, date.parse().expect("a date"))).or_default() += 1;
        }
        likes
    }

    /// Returns the number of messages that were pushed. Ours pushes messages of one sender that are due together as one push.
    fn messages(&self) -> usize {
        let by_spring = self.spring.iter().filter(|push| push.title != LIKE).count();
        let outcomes = [r#"outcome="sent""#, r#"outcome="grouped""#];
        let of_ours = |context: &Context| -> usize {
            let text = context.metrics.render();
            let lines = text.lines().filter(|line| {
                line.starts_with("notice_pushes_total{")
                    && line.contains(r#"kind="message""#)
                    && outcomes.iter().any(|outcome| line.contains(outcome))
            });
            let counts = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok());
            counts.sum()
        };
        by_spring + self.ours.iter().map(of_ours).sum::<usize>()
    }

    /// Returns the acknowledged likes that were not pushed.
    fn likes_without_push(&self, acknowledged: impl IntoIterator<Item = Stored>) -> Vec<Stored> {
        let likes = self.likes();
        let acknowledged = acknowledged.into_iter().filter(|(_, _, what)| what == LIKE);
        acknowledged
            .filter(|(device, date, _)| !likes.contains_key(&(device.clone(), *date)))
            .collect()
    }
}

/// Waits until our notice has handled every record that is on the topics now.
async fn wait_until_read(bed: &Bed) {
    let ends = bed.end_offsets(sosohappy_notice::SERVICE, &SpringNotice::PUSHED).await;
    eventually("our notice has read likes and messages", async || {
        let read = bed.offsets(sosohappy_notice::SERVICE, &SpringNotice::PUSHED).await;
        let is_behind = |(partition, end): (&_, &i64)| read.get(partition).copied().unwrap_or_default() < *end;
        (!ends.iter().any(is_behind)).then_some(())
    })
    .await;
}

/// Waits until a like is acknowledged that nothing has pushed: the step that follows must not lose it.
async fn wait_until_a_like_waits(load: &Gateway, pushes: &Pushes) {
    eventually("a like waits for its push", async || {
        let acknowledged = load.acknowledged.lock().clone();
        (!pushes.likes_without_push(acknowledged).is_empty()).then_some(())
    })
    .await;
}

/// Starts the writers, and returns those who write messages with their receivers.
fn start_load(
    load: &Arc<Gateway>,
    feed: &Running,
    dm: &Running,
    people: &[Person],
) -> (JoinSet<()>, Vec<(Person, Person)>) {
    let mut writers = JoinSet::new();
    let mut pairs = Vec::new();
    for pair in people.chunks_exact(2) {
        let (one, other) = (&pair[0], &pair[1]);
        writers.spawn(like(load.clone(), feed.url.clone(), one.clone(), other.clone()));
        let receiver = other.nickname.clone();
        writers.spawn(write(load.clone(), dm.url.clone(), one.clone(), receiver));
        pairs.push((one.clone(), other.clone()));
    }
    (writers, pairs)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notice_moves_forward_and_back_under_load() {
    if EngineSet::real_is_there() {
        Box::pin(notice_moves(Bed::new(EngineSet::Real).await)).await;
    }
}

async fn notice_moves(bed: Bed) {
    const SERVICE: &str = sosohappy_notice::SERVICE;
    let (feed, dm) = (feed(&bed).await, dm(&bed).await);
    let mut people = Vec::new();
    for number in 0..2 * PAIRS {
        people.push(person(&bed, number).await);
    }
    let mut spring = SpringNotice::start(&bed.bus, VERSION, Start::Earliest).await;
    for person in &people {
        let known = async || spring.knows(person.account.as_str(), &person.nickname).then_some(());
        eventually("the Spring notice knows a person", known).await;
    }
    eventually("dm knows the devices", async || {
        let labels = [r#"topic="deviceToken""#, r#"kind="consumer""#, r#"outcome="applied""#];
        (dm.metric("events_consumed_total", &labels) >= f64::from(2 * PAIRS)).then_some(())
    })
    .await;
    let mut pushes = Pushes {
        providers: PushProviders::start().await,
        ours: Vec::new(),
        spring: Vec::new(),
    };

    // Spring pushes; ours, beside it, fills its inbox.
    let beside = notice(&bed, &pushes.providers, "notice").await;
    pushes.ours.push(beside.context.clone());
    let load = Arc::new(Gateway::default());
    let (writers, pairs) = start_load(&load, &feed, &dm, &people);
    load.more(ACKNOWLEDGED).await;

    // Forward: Spring stops, ours begins where Spring has ended.
    let offsets = spring.stop().await;
    pushes.spring.extend(spring.pushes());
    assert_eq!(pushes.providers.sent().len(), 0, "ours pushes nothing beside Spring");
    load.more(ACKNOWLEDGED).await;
    wait_until_read(&bed).await;
    wait_until_a_like_waits(&load, &pushes).await;
    beside.stop().await;
    bed.set_offsets(SERVICE, &SpringNotice::PUSHED, &offsets).await;
    set_spring(&[&feed, &dm], &[]).await;
    let ours = notice(&bed, &pushes.providers, "").await;
    pushes.ours.push(ours.context.clone());
    load.more(ACKNOWLEDGED).await;

    // Back: records take Spring's form, ours stops when it has read all others, and Spring begins where ours has ended.
    set_spring(&[&feed, &dm, &ours], &["notice"]).await;
    let until_now = load.acknowledged.lock().clone();
    load.more(ACKNOWLEDGED).await;
    eventually("likes of before the step back are pushed", async || {
        let missing = pushes.likes_without_push(until_now.clone());
        missing.is_empty().then_some(())
    })
    .await;
    wait_until_read(&bed).await;
    wait_until_a_like_waits(&load, &pushes).await;
    ours.stop().await;
    let offsets = bed.offsets(SERVICE, &SpringNotice::PUSHED).await;
    let mut spring = SpringNotice::resume(&bed.bus, VERSION, &offsets, &people).await;
    // Ours pushes what was waiting.
    let beside = notice(&bed, &pushes.providers, "notice").await;
    pushes.ours.push(beside.context.clone());
    load.more(ACKNOWLEDGED).await;
    load.end(writers).await;

    let acknowledged = load.acknowledged.lock().clone();
    let stored = shown(&dm.url, &pairs).await.len();
    let by_first_spring = pushes.spring.clone();
    eventually("every like and every message is pushed", async || {
        pushes.spring.clone_from(&by_first_spring);
        pushes.spring.extend(spring.pushes());
        let missing = pushes.likes_without_push(acknowledged.clone());
        (missing.is_empty() && pushes.messages() >= stored).then_some(())
    })
    .await;
    spring.stop().await;
    beside.stop().await;
    let likes = pushes.likes();
    let again: Vec<_> = likes.iter().filter(|(_, times)| **times > 1).collect();
    assert!(again.is_empty(), "pushed more than once: {again:?}");
    assert_eq!(pushes.messages(), stored, "messages, each pushed once");
    println!(
        "{} likes and {stored} messages were pushed by Spring, ours and Spring again",
        likes.len()
    );
}
