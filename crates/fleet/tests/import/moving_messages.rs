//! The move of dm, forward and back, as docs/migration.md has it, while people write to each other.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use sosohappy_bus::Start;
use sosohappy_testkit::spring::SpringDm;
use sosohappy_testkit::{Bed, EngineSet, Person, Running, Socket};
use tokio::task::JoinSet;

use super::legacy::{Legacy, Target, count};
use super::messages::Collected;
use super::moving::{Gateway, Stored, person};

/// Each writes to one other.
const WRITERS: usize = 4;

/// Messages that are acknowledged before and after each step: a few of each writer.
const ACKNOWLEDGED: usize = 16;

/// After every date of a message.
const NEWEST: i64 = 9_999_999_999_999_999;

/// A page of the history.
const PAGE: &str = "50";

/// How often a sender looks whether a message is stored, before it is sent again.
const LOOKS: usize = 40;

/// The pause between two looks: each of them is a query.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

#[derive(Deserialize)]
struct Shown {
    sender: String,
    date: i64,
    text: String,
}

/// Messages between the two from before a date.
async fn history(dm: &str, person: &Person, other: &str, before: i64) -> anyhow::Result<Vec<Shown>> {
    let ask = sosohappy_common::tls::client().post(format!("{dm}/dm-service/findDirectMessage"));
    let ask = ask.form(&[
        ("sender", person.nickname.as_str()),
        ("receiver", other),
        ("timeBoundary", before.to_string().as_str()),
        ("messageCnt", PAGE),
    ]);
    let answer = person.sign(ask).send().await?.error_for_status()?;
    Ok(answer.json().await?)
}

/// Sends a message, and returns whether its sender finds it in the history.
pub async fn send(dm: &str, person: &Person, other: &str, date: i64, text: &str) -> bool {
    let socket = dm.replacen("http", "ws", 1);
    let url = format!("{socket}/dm-service/connect-dm?nickname={}", person.nickname);
    let Ok(mut socket) = Socket::connect(&url, Some(person)).await else {
        return false;
    };
    let frame = json!({ "sender": person.nickname, "receiver": other, "date": date, "text": text });
    if socket.try_send(frame.to_string()).await.is_err() {
        return false;
    }
    for _ in 0..LOOKS {
        let shown = history(dm, person, other, NEWEST).await.unwrap_or_default();
        if shown.iter().any(|shown| shown.text == text) {
            return true;
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    false
}

/// Writes one message after the other; one that is not acknowledged is sent again, as people do.
async fn write(gateway: Arc<Gateway>, person: Person, other: String) {
    for number in 0_i64.. {
        let (date, text) = (
            2_023_010_109_000_000 + number,
            format!("{number} of {}", person.nickname),
        );
        loop {
            let Some(attempt) = gateway.attempt() else { return };
            let mut acknowledged = None;
            if let Some(dm) = &attempt.service
                && send(dm, &person, &other, date, &text).await
            {
                acknowledged = Some((person.nickname.clone(), date, text.clone()));
            }
            if attempt.end(acknowledged).await {
                break;
            }
        }
    }
}

/// Everything that the receivers see.
pub async fn shown(dm: &str, pairs: &[(Person, Person)]) -> BTreeSet<Stored> {
    let mut all = BTreeSet::new();
    for (sender, receiver) in pairs {
        let mut before = NEWEST;
        loop {
            let page = history(dm, receiver, &sender.nickname, before).await.expect("a page");
            let Some(oldest) = page.iter().map(|shown| shown.date).min() else {
                break;
            };
            assert!(oldest < before, "pages go back");
            before = oldest;
            all.extend(page.into_iter().map(|shown| (shown.sender, shown.date, shown.text)));
        }
    }
    all
}

async fn lost(dm: &str, gateway: &Gateway, pairs: &[(Person, Person)]) -> Vec<Stored> {
    let acknowledged = gateway.acknowledged.lock().clone();
    let shown = shown(dm, pairs).await;
    acknowledged.difference(&shown).cloned().collect()
}

/// Starts our dm where only notice is Spring, or dm too, as while a Spring dm is about to come back.
async fn ours(bed: &Bed, spring: &str) -> Running {
    let settings = bed
        .settings("dm", sosohappy_dm::DEFAULTS, &[("fleet.spring", spring)])
        .await;
    let built = sosohappy_dm::build(settings, bed.context(sosohappy_dm::SERVICE), bed.bus.clone()).await;
    bed.start(built).await
}

async fn dm_moves(spring_while_ours_serves: &str) {
    if !EngineSet::real_is_there() {
        return;
    }
    let bed = Bed::new(EngineSet::Real).await;
    let (legacy, target) = (Legacy::new().await, Target::of(&bed).await);
    let there = Collected::of(&legacy).await;
    let auth = legacy.url("auth");
    let arguments = ["--auth", auth.as_str(), "--messages", there.url.as_str()];
    let mut pairs = Vec::new();
    for number in 0..WRITERS {
        pairs.push((
            person(&bed, &legacy, 2 * number).await,
            person(&bed, &legacy, 2 * number + 1).await,
        ));
    }
    let gateway = Arc::new(Gateway::default());
    let mut writers = JoinSet::new();
    for (sender, receiver) in pairs.clone() {
        writers.spawn(write(gateway.clone(), sender, receiver.nickname));
    }

    // Spring serves; the bulk is imported meanwhile. It ends although messages keep arriving.
    let spring = SpringDm::start(&bed.bus, &there.url, Start::Earliest).await;
    gateway.leads_to(Some(spring.url()));
    gateway.more(ACKNOWLEDGED).await;
    let bulk = tokio::task::block_in_place(|| target.import(&arguments));
    assert!(count(&bulk, "message", "created") > 0, "{bulk}");
    gateway.more(ACKNOWLEDGED).await;

    // Forward: Spring stops, the rest is imported, ours starts.
    gateway.leads_to(None);
    gateway.quiet().await;
    drop(spring);
    let rest = tokio::task::block_in_place(|| target.import(&arguments));
    assert!(
        count(&rest, "message", "unchanged") > 0 && count(&rest, "message", "created") > 0,
        "{rest}"
    );
    let dm = ours(&bed, spring_while_ours_serves).await;
    gateway.leads_to(Some(&dm.url));
    gateway.more(ACKNOWLEDGED).await;
    assert_eq!(lost(&dm.url, &gateway, &pairs).await, [], "forward");

    // Back: ours stops, what was written here is exported, Spring starts.
    gateway.leads_to(None);
    gateway.quiet().await;
    dm.stop().await;
    let back = tokio::task::block_in_place(|| target.export(&["--messages", there.url.as_str()]));
    assert!(count(&back, "message", "created") > 0, "{back}");
    let spring = SpringDm::start(&bed.bus, &there.url, Start::Earliest).await;
    gateway.leads_to(Some(spring.url()));
    gateway.more(ACKNOWLEDGED).await;
    gateway.end(writers).await;
    assert_eq!(lost(spring.url(), &gateway, &pairs).await, [], "back");
    println!(
        "{} messages were acknowledged by Spring, ours and Spring again",
        gateway.acknowledged.lock().len()
    );
    there.messages.drop().await.expect("dropped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dm_moves_forward_and_back_under_load() {
    Box::pin(dm_moves("notice")).await;
}

/// Our dm gives its messages the ids that a Spring dm reads, also in a collection of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dm_moves_back_with_ids_that_spring_reads() {
    Box::pin(dm_moves("dm,notice")).await;
}
