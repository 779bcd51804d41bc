//! Messages that are sent later.

use jiff::{SignedDuration, Timestamp};
use mongodb::bson::{Document, doc};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sosohappy_common::clock::{Clock as _, ManualClock, SystemClock};
use sosohappy_events::types::{AccountStateChanged, Relation, RelationChanged, State};
use sosohappy_testkit::{Bed, EngineSet, Person, eventually, on_both_engines};

use super::stream::{frame, open, typed};
use super::{Dm, two};

on_both_engines!(
    a_scheduled_message_is_sent_once_after_a_restart,
    a_scheduled_message_is_edited_or_stopped,
    a_message_that_cannot_be_sent_stays_with_the_reason,
    a_suspended_account_neither_sends_nor_receives,
    no_id_of_a_client_stands_for_a_scheduled_message,
    a_replica_whose_clock_is_ahead_sends_nothing_early,
    a_replica_whose_clock_is_behind_sends_in_time,
);

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
    let settings = bed.settings("dm", sosohappy_dm::DEFAULTS, &[]).await;
    let mut context = bed.context(sosohappy_dm::SERVICE);
    context.clock = ManualClock::at(now);
    let running = bed
        .start(sosohappy_dm::build(settings, context, bed.bus.clone()).await)
        .await;
    Dm {
        running,
        client: sosohappy_common::tls::client(),
    }
}

/// Makes every scheduled message due.
async fn make_due(bed: &Bed) {
    if bed.set == EngineSet::Real {
        let client = mongodb::Client::with_uri_str(bed.mongodb_url("dm")).await.unwrap();
        let messages = client
            .default_database()
            .unwrap()
            .collection::<Document>("scheduled_message");
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
    let send_at = SystemClock.now() + SignedDuration::from_secs(10);
    schedule(&dm, &kim, "lee", "in ten seconds", &send_at.to_string()).await;
    assert_eq!(frame(&mut to, "message").await["data"]["text"], "in ten seconds");
    // Due times are kept in milliseconds.
    let early = send_at.duration_since(SystemClock.now());
    assert!(early <= SignedDuration::from_millis(1), "sent {early:?} early");
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
