//! Messages that are sent later.

use std::time::Instant;

use futures::TryStreamExt as _;
use jiff::{SignedDuration, Timestamp};
use mongodb::bson::{Document, doc};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sosohappy_common::clock::{Clock as _, ManualClock, SystemClock};
use sosohappy_events::types::{AccountStateChanged, NicknameSet, Relation, RelationChanged, State};
use sosohappy_testkit::{Bed, EngineSet, Person, eventually, on_both_engines};

use super::stream::{frame, open, typed};
use super::{Dm, two};

on_both_engines!(
    a_scheduled_message_is_sent_once_after_a_restart,
    a_scheduled_message_is_edited_or_stopped,
    a_cancel_while_a_message_is_sent_or_retried_has_one_outcome,
    a_message_of_a_crashed_replica_is_sent_in_time_and_once,
    a_message_that_cannot_be_sent_stays_with_the_reason,
    a_suspended_account_neither_sends_nor_receives,
    no_id_of_a_client_stands_for_a_scheduled_message,
    a_replica_whose_clock_is_ahead_sends_nothing_early,
    a_replica_whose_clock_is_behind_sends_in_time,
);

/// From the time of a message to its frame.
const PROMISED: SignedDuration = SignedDuration::from_secs(2);

fn after(seconds: i64) -> String {
    (SystemClock.now() + SignedDuration::from_secs(seconds)).to_string()
}

async fn schedule(dm: &Dm, who: &Person, to: &str, text: &str, send_at: &str) -> String {
    let params = [("receiver", to), ("text", text), ("sendAt", send_at)];
    let (status, body) = dm.post(who, "scheduleMessage", &params).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body["id"].as_str().unwrap().to_owned()
}

async fn scheduled(dm: &Dm, who: &Person) -> Vec<Value> {
    let (status, body) = dm.get(who, "scheduled").await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body.as_array().unwrap().clone()
}

async fn a_scheduled_message_is_sent_once_after_a_restart(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, lee) = two(&bed).await;
    let late = schedule(&dm, &kim, "lee", "later", &after(3600)).await;
    assert_eq!(scheduled(&dm, &kim).await.len(), 1);
    schedule(&dm, &kim, "lee", "soon", &after(3)).await;
    dm.running.stop().await;
    let replicas = [Dm::start(&bed).await, Dm::start(&bed).await];
    let mut to = open(&replicas[1], &lee, "&since=0").await;
    let sent = frame(&mut to, "message").await;
    assert_eq!(
        (&sent["data"]["text"], &sent["data"]["sender"]),
        (&json!("soon"), &json!("kim"))
    );
    eventually("the other one is left", async || {
        let left = scheduled(&replicas[0], &kim).await;
        (left.len() == 1 && left[0]["id"] == late).then_some(())
    })
    .await;
    assert_eq!(replicas[0].history(&lee, "kim").await.as_array().map(Vec::len), Some(1));
}

async fn a_scheduled_message_is_edited_or_stopped(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, lee) = two(&bed).await;
    let mut to = open(&dm, &lee, "").await;
    let stopped = schedule(&dm, &kim, "lee", "never", &after(3600)).await;
    let edited = schedule(&dm, &kim, "lee", "first", &after(3600)).await;
    let (status, _) = dm.post(&lee, "cancelMessage", &[("id", &stopped)]).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "it is another's");
    let (status, _) = dm
        .post(&lee, "editScheduled", &[("id", &edited), ("text", "theirs")])
        .await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let tomorrow = after(24 * 3600);
    for (params, code) in [
        (
            vec![("receiver", "lee"), ("text", "x"), ("sendAt", "2020-01-01T00:00:00Z")],
            400,
        ),
        (
            vec![("receiver", "lee"), ("text", "x"), ("sendAt", "2999-01-01T00:00:00Z")],
            400,
        ),
        (vec![("receiver", "lee"), ("text", "x"), ("sendAt", "tomorrow")], 400),
        (
            vec![("receiver", "lee"), ("text", "x"), ("sendAt", "10000-01-01T00:00:00Z")],
            400,
        ),
        (
            vec![("receiver", "lee"), ("text", " "), ("sendAt", tomorrow.as_str())],
            400,
        ),
        (
            vec![("receiver", "nobody"), ("text", "x"), ("sendAt", tomorrow.as_str())],
            404,
        ),
    ] {
        assert_eq!(
            dm.post(&kim, "scheduleMessage", &params).await.0.as_u16(),
            code,
            "{params:?}"
        );
    }
    let before = scheduled(&dm, &kim).await;
    for nothing in [
        &[("id", edited.as_str())][..],
        &[("id", edited.as_str()), ("sendAt", "")],
    ] {
        let (status, body) = dm.post(&kim, "editScheduled", nothing).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(body["detail"], "text or sendAt: at least one of them");
    }
    assert_eq!(scheduled(&dm, &kim).await, before);
    let (status, body) = dm.post(&kim, "cancelMessage", &[("id", &stopped)]).await;
    assert_eq!((status, &body["changed"]), (StatusCode::OK, &json!(true)));
    let soon = after(1);
    let (status, body) = dm
        .post(
            &kim,
            "editScheduled",
            &[("id", &edited), ("text", "second"), ("sendAt", &soon)],
        )
        .await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(frame(&mut to, "message").await["data"]["text"], "second");
    eventually("nothing is left", async || {
        scheduled(&dm, &kim).await.is_empty().then_some(())
    })
    .await;
    assert_eq!(dm.history(&lee, "kim").await.as_array().map(Vec::len), Some(1));
}

/// The texts that `who` has from kim, sorted.
async fn texts(dm: &Dm, who: &Person) -> Vec<String> {
    let params = [
        ("sender", who.nickname.as_str()),
        ("receiver", "kim"),
        ("messageCnt", "100"),
    ];
    let (status, history) = dm.post(who, "findDirectMessage", &params).await;
    assert_eq!(status, StatusCode::OK, "{history}");
    let texts = history.as_array().unwrap().iter();
    let mut texts: Vec<_> = texts
        .map(|message| message["text"].as_str().unwrap().to_owned())
        .collect();
    texts.sort();
    texts
}

async fn a_cancel_while_a_message_is_sent_or_retried_has_one_outcome(bed: Bed) {
    // Nothing listens there: the sender's nickname, which the topics take back, is not known for a while.
    let dm = Dm::start_with(&bed, &[("access.auth-url", "http://127.0.0.1:9")]).await;
    let (kim, lee) = two(&bed).await;
    let park = bed.person("park@example.com+google", "park").await;
    for person in [&kim, &lee, &park] {
        eventually("the person is known", async || {
            (dm.status(person).await == 200).then_some(())
        })
        .await;
    }
    let mut to = open(&dm, &lee, "").await;
    let later = after(3600);
    let stopped = schedule(&dm, &kim, "lee", "stopped", &later).await;
    schedule(&dm, &kim, "lee", "retried", &later).await;
    schedule(&dm, &park, "lee", "of park", &later).await;
    bed.publish(NicknameSet {
        account: kim.account.clone(),
        nickname: None,
    })
    .await;
    eventually("the nickname is gone", async || {
        (dm.status(&kim).await != 200).then_some(())
    })
    .await;
    make_due(&bed).await;
    // Those of kim are taken with this one.
    assert_eq!(frame(&mut to, "message").await["data"]["text"], "of park");
    let cancel = async |id: &str| dm.post(&kim, "cancelMessage", &[("id", id)]).await.0;
    eventually("the message is stopped", async || {
        (cancel(stopped.as_str()).await == StatusCode::OK).then_some(())
    })
    .await;
    bed.rename(&kim.account, "kim").await;
    assert_eq!(frame(&mut to, "message").await["data"]["text"], "retried");

    let mut expected = vec!["retried".to_owned()];
    let mut racing = Vec::new();
    for number in 0..20 {
        let text = format!("race {number:02}");
        racing.push((schedule(&dm, &kim, "lee", &text, &later).await, text));
    }
    make_due(&bed).await;
    // The messages are taken within a quarter of a second, while these calls are made.
    for (id, text) in racing {
        match cancel(id.as_str()).await {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => expected.push(text),
            status => panic!("{status} for {text}"),
        }
    }
    eventually("nothing is left", async || {
        scheduled(&dm, &kim).await.is_empty().then_some(())
    })
    .await;
    expected.sort();
    assert_eq!(texts(&dm, &lee).await, expected);
}

/// The scheduled messages on the real engines.
async fn collection(bed: &Bed) -> mongodb::Collection<Document> {
    let client = mongodb::Client::with_uri_str(bed.mongodb_url("dm")).await.unwrap();
    client.default_database().unwrap().collection("scheduled_message")
}

/// The scheduled messages in MongoDB; SQLite keeps a copy of them in a table.
async fn save_scheduled(bed: &Bed) -> Vec<Document> {
    if bed.set == EngineSet::Real {
        let messages = collection(bed).await;
        messages.find(doc! {}).await.unwrap().try_collect().await.unwrap()
    } else {
        bed.sql("dm", "CREATE TABLE saved AS SELECT * FROM scheduled_message")
            .await;
        Vec::new()
    }
}

/// Puts back what [`save_scheduled`] has found: as of a replica that crashed after it had stored the messages.
async fn restore_scheduled(bed: &Bed, saved: &[Document]) {
    if bed.set == EngineSet::Real {
        let messages = collection(bed).await;
        for message in saved {
            let id = doc! { "_id": message.get_str("_id").unwrap() };
            messages.replace_one(id, message).upsert(true).await.unwrap();
        }
    } else {
        bed.sql("dm", "INSERT OR REPLACE INTO scheduled_message SELECT * FROM saved")
            .await;
    }
}

/// Makes one message due, as a replica leaves it that has just taken it and crashes: its lease ends after a second and a quarter.
async fn crash_with_the_next(bed: &Bed) {
    if bed.set == EngineSet::Real {
        let messages = collection(bed).await;
        let until = SystemClock.now().as_millisecond() + 1250;
        let taken = doc! { "$set": { "taken": true, "dueAt": until } };
        let made = messages.update_one(doc! { "taken": null }, taken).await.unwrap();
        assert_eq!(made.matched_count, 1);
    } else {
        let taken = "UPDATE scheduled_message SET is_taken = 1, \
             due_at = CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) + 1250 \
             WHERE id = (SELECT MIN(id) FROM scheduled_message WHERE is_taken = 0)";
        assert_eq!(bed.sql("dm", taken).await, 1);
    }
}

async fn a_message_of_a_crashed_replica_is_sent_in_time_and_once(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, lee) = two(&bed).await;
    let mut to = open(&dm, &lee, "").await;
    for text in ["1", "2", "3"] {
        schedule(&dm, &kim, "lee", text, &after(3600)).await;
    }
    let saved = save_scheduled(&bed).await;
    // A machine that is busy with other tests may delay some of them.
    let mut took = Vec::new();
    while took.len() < 3 && took.last().is_none_or(|took| *took > PROMISED) {
        let began = Instant::now();
        crash_with_the_next(&bed).await;
        frame(&mut to, "message").await;
        took.push(SignedDuration::try_from(began.elapsed()).unwrap());
    }
    assert!(took.iter().any(|took| *took <= PROMISED), "{took:?}");
    restore_scheduled(&bed, &saved).await;
    make_due(&bed).await;
    eventually("nothing is left", async || {
        scheduled(&dm, &kim).await.is_empty().then_some(())
    })
    .await;
    assert_eq!(texts(&dm, &lee).await, ["1", "2", "3"]);
}

async fn a_message_that_cannot_be_sent_stays_with_the_reason(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, lee) = two(&bed).await;
    let id = schedule(&dm, &kim, "lee", "for later", &after(3600)).await;
    bed.publish(RelationChanged {
        relation: Relation::Block,
        account: lee.account.clone(),
        other: kim.account.clone(),
    })
    .await;
    let mut from = open(&dm, &kim, "").await;
    let mut tries = 0;
    eventually("the block is known", async || {
        tries += 1;
        from.send(typed(&format!("try-{tries}"), "lee", "hello?")).await;
        loop {
            match from.json().await["topic"].as_str() {
                Some("rejected") => break Some(()),
                Some("accepted") => break None,
                _ => {}
            }
        }
    })
    .await;
    let soon = after(1);
    let (status, body) = dm.post(&kim, "editScheduled", &[("id", &id), ("sendAt", &soon)]).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    eventually("it failed", async || {
        let left = scheduled(&dm, &kim).await;
        (left.first()?["failure"] == "not-delivered").then_some(())
    })
    .await;
    let history = dm.history(&lee, "kim").await;
    assert!(!history.to_string().contains("for later"), "{history}");
    let (status, _) = dm.post(&kim, "cancelMessage", &[("id", &id)]).await;
    assert_eq!(status, StatusCode::OK);
    assert!(scheduled(&dm, &kim).await.is_empty());
}

/// A replica whose clock stands at that time.
async fn start_at(bed: &Bed, now: Timestamp) -> Dm {
    Dm::start_with_clock(bed, ManualClock::at(now)).await
}

/// Makes every scheduled message due.
async fn make_due(bed: &Bed) {
    if bed.set == EngineSet::Real {
        let messages = collection(bed).await;
        let due = doc! { "$set": { "dueAt": 1_i64 } };
        let made = messages.update_many(doc! {}, due).await.unwrap();
        assert!(made.matched_count > 0);
    } else {
        assert!(bed.sql("dm", "UPDATE scheduled_message SET due_at = 1").await > 0);
    }
}

async fn a_suspended_account_neither_sends_nor_receives(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, lee) = two(&bed).await;
    let mina = bed.person("mina@example.com+kakao", "mina").await;
    schedule(&dm, &kim, "lee", "of a suspended sender", &after(3600)).await;
    schedule(&dm, &mina, "lee", "of another sender", &after(3601)).await;
    dm.running.stop().await;
    make_due(&bed).await;
    let state = async |person: &Person, state| {
        bed.publish(AccountStateChanged {
            account: person.account.clone(),
            state,
        })
        .await;
    };
    state(&kim, State::Suspended).await;
    let dm = Dm::start(&bed).await;
    eventually("the other message is sent", async || {
        let history = dm.history(&lee, "mina").await;
        history.to_string().contains("of another sender").then_some(())
    })
    .await;
    // Sends that it has begun end.
    dm.running.stop().await;
    let dm = Dm::start(&bed).await;
    state(&kim, State::Restored).await;
    eventually("the sender is back", async || {
        (dm.status(&kim).await == 200).then_some(())
    })
    .await;
    let left = scheduled(&dm, &kim).await;
    assert_eq!(left[0]["failure"], "not-delivered", "{left:?}");
    assert_eq!(dm.history(&lee, "kim").await, json!([]));

    state(&lee, State::Suspended).await;
    let mut from = open(&dm, &mina, "").await;
    let mut tries = 0;
    let rejected = eventually("the suspension is known", async || {
        tries += 1;
        from.send(typed(&format!("try-{tries}"), "lee", "hello?")).await;
        loop {
            let answer = from.json().await;
            match answer["topic"].as_str() {
                Some("rejected") => break Some(answer),
                Some("accepted") => break None,
                _ => {}
            }
        }
    })
    .await;
    assert_eq!(rejected["data"]["code"], "not-delivered", "{rejected}");
}

async fn no_id_of_a_client_stands_for_a_scheduled_message(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, lee) = two(&bed).await;
    let id = schedule(&dm, &kim, "lee", "scheduled", &after(3600)).await;
    let mut from = open(&dm, &kim, "").await;
    from.send(typed(&format!("scheduled:{id}"), "lee", "sent at once"))
        .await;
    frame(&mut from, "accepted").await;
    let soon = after(1);
    let (status, body) = dm.post(&kim, "editScheduled", &[("id", &id), ("sendAt", &soon)]).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    eventually("nothing waits", async || {
        scheduled(&dm, &kim).await.is_empty().then_some(())
    })
    .await;
    let history = dm.history(&lee, "kim").await;
    assert_eq!(history.as_array().map(Vec::len), Some(2), "{history}");
}

async fn a_replica_whose_clock_is_ahead_sends_nothing_early(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, lee) = two(&bed).await;
    let _ahead = start_at(&bed, SystemClock.now() + SignedDuration::from_secs(30)).await;
    let mut to = open(&dm, &lee, "").await;
    let first = SystemClock.now() + SignedDuration::from_secs(10);
    // Far apart: an engine that a busy machine holds up for some seconds delays one or two of them.
    for number in 0..3 {
        let send_at = (first + SignedDuration::from_secs(10 * number)).to_string();
        schedule(&dm, &kim, "lee", &send_at, &send_at).await;
    }
    let mut late = Vec::new();
    for _ in 0..3 {
        let sent = frame(&mut to, "message").await;
        let send_at: Timestamp = sent["data"]["text"].as_str().unwrap().parse().unwrap();
        late.push(SystemClock.now().duration_since(send_at));
    }
    // Due times are kept in milliseconds.
    let is_early = |late: &SignedDuration| *late < SignedDuration::from_millis(-1);
    assert!(!late.iter().any(is_early), "{late:?}");
    // A machine that is busy with other tests may delay some of them.
    assert!(late.iter().any(|late| *late <= PROMISED), "{late:?}");
}

/// The only replica has a clock that never reaches the time.
async fn a_replica_whose_clock_is_behind_sends_in_time(bed: Bed) {
    let (kim, lee) = two(&bed).await;
    let dm = start_at(&bed, SystemClock.now() - SignedDuration::from_secs(30)).await;
    let mut to = open(&dm, &lee, "").await;
    schedule(&dm, &kim, "lee", "soon", &after(6)).await;
    assert_eq!(frame(&mut to, "message").await["data"]["text"], "soon");
    eventually("nothing is left", async || {
        scheduled(&dm, &kim).await.is_empty().then_some(())
    })
    .await;
}
