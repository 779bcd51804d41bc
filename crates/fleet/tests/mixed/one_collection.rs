//! Our dm beside a Spring dm on the same collection: the messages of each are shown at both.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use reqwest::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use sosohappy_bus::Start;
use sosohappy_events::types::{AccessTokenIssued, Role, TokenDigest};
use sosohappy_testkit::spring::SpringDm;
use sosohappy_testkit::{Bed, EngineSet, Person, Running, Socket, eventually};

const DATE: i64 = 2_023_090_513_000_000;

/// How long a message of a Spring dm may be hidden at ours.
const HIDDEN_AT_MOST: Duration = Duration::from_mins(1);

/// Signs an account in with a token that services of both fleets know.
pub async fn person(bed: &Bed, nickname: &str) -> Person {
    let person = bed.person(&format!("{nickname}@example.com+kakao"), nickname).await;
    let issued_at = bed.context.clock.now();
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
    person
}

async fn ours(bed: &Bed, spring: &str) -> Running {
    let settings = bed
        .settings::<sosohappy_dm::Settings>("dm", sosohappy_dm::DEFAULTS, &[("fleet.spring", spring)])
        .await;
    let context = bed.context(sosohappy_dm::SERVICE);
    context.settings.attach(&settings);
    bed.start(sosohappy_dm::build(settings, context, bed.bus.clone()).await)
        .await
}

/// Asks a dm for the conversation of two accounts.
async fn ask(dm: &str, person: &Person, other: &str) -> Response {
    let ask = sosohappy_common::tls::client().post(format!("{dm}/dm-service/findDirectMessage"));
    let ask = ask.form(&[
        ("sender", person.nickname.as_str()),
        ("receiver", other),
        ("timeBoundary", "9999999999999999"),
        ("messageCnt", "50"),
    ]);
    person.sign(ask).send().await.expect("dm answers")
}

#[derive(Deserialize)]
struct Shown {
    date: i64,
}

/// Returns the numbers of the messages of a conversation; none if it is not shown.
async fn shown(dm: &str, person: &Person, other: &str) -> Option<BTreeSet<i64>> {
    let answer = ask(dm, person, other).await.error_for_status().ok()?;
    let messages: Vec<Shown> = answer.json().await.ok()?;
    Some(messages.into_iter().map(|message| message.date - DATE).collect())
}

async fn wait_until_shown(dm: &str, person: &Person, other: &str, numbers: &[i64]) {
    let wanted: BTreeSet<i64> = numbers.iter().copied().collect();
    eventually(&format!("messages {numbers:?} are shown at {dm}"), async || {
        shown(dm, person, other).await.filter(|shown| *shown == wanted)
    })
    .await;
}

/// Sends a message, and keeps the socket open until it is stored.
async fn send(dm: &str, sender: &Person, receiver: &str, number: i64) {
    let url = dm.replacen("http", "ws", 1);
    let url = format!("{url}/dm-service/connect-dm?nickname={}", sender.nickname);
    let mut socket = eventually("the socket opens", async || {
        Socket::connect(&url, Some(sender)).await.ok()
    })
    .await;
    let text = format!("message {number}");
    let frame = json!({ "sender": sender.nickname, "receiver": receiver, "date": DATE + number, "text": text });
    socket.send(frame.to_string()).await;
    eventually("the message is stored", async || {
        let shown = shown(dm, sender, receiver).await?;
        shown.contains(&number).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_both_are_shown_at_both() {
    if !EngineSet::real_is_there() {
        return;
    }
    let bed = Bed::new(EngineSet::Real).await;
    let (kim, lee) = (person(&bed, "kim").await, person(&bed, "lee").await);
    // Before: ids that a Spring dm does not read.
    let dm = ours(&bed, "").await;
    send(&dm.url, &kim, "lee", 1).await;
    let spring = SpringDm::start(&bed.bus, &bed.mongodb_url("dm"), Start::Earliest).await;
    let status = eventually("Spring knows the token", async || {
        let status = ask(spring.url(), &kim, "lee").await.status();
        (status != StatusCode::FORBIDDEN).then_some(status)
    })
    .await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);

    // During: older ids are rewritten, new messages have such ids at once.
    let values = [("fleet.spring".to_owned(), Value::from("dm"))];
    let refreshed = dm.context.settings.set(values.into_iter().collect()).await;
    refreshed.expect("settings are attached").expect("the setting is valid");
    wait_until_shown(spring.url(), &kim, "lee", &[1]).await;
    let sent = Instant::now();
    send(spring.url(), &lee, "kim", 2).await;
    send(&dm.url, &kim, "lee", 3).await;
    wait_until_shown(spring.url(), &lee, "kim", &[1, 2, 3]).await;

    // Ours looks for Spring's messages three times a minute.
    for (person, other) in [(&kim, "lee"), (&lee, "kim")] {
        wait_until_shown(&dm.url, person, other, &[1, 2, 3]).await;
    }
    let hidden = sent.elapsed();
    assert!(hidden < HIDDEN_AT_MOST, "{hidden:?}");
    // After: Spring may come back at any time.
    dm.stop().await;
    let dm = ours(&bed, "").await;
    send(&dm.url, &lee, "kim", 4).await;
    wait_until_shown(spring.url(), &kim, "lee", &[1, 2, 3, 4]).await;
}
