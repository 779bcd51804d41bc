use std::time::Duration;

use jiff::SignedDuration;
use reqwest::StatusCode;
use serde_json::{Value, json};
use sosohappy_common::clock::{Clock as _, SystemClock};
use sosohappy_events::types::{Relation, RelationChanged};
use sosohappy_testkit::{Bed, Socket, eventually, on_both_engines};

use super::stream::{frame, open, typed};
use super::{DATE, Dm, message, two};

on_both_engines!(
    an_invalid_message_is_answered_and_the_socket_stays_open,
    the_longest_text_is_taken_however_it_is_escaped,
    a_text_that_not_every_database_keeps_is_refused_everywhere,
    blocked_people_do_not_reach_each_other
);

/// The code of the error that a message is answered with; messages from others may come before it.
async fn refused(socket: &mut Socket, frame: Value) -> String {
    socket.send(frame.to_string()).await;
    let mut answer = socket.json().await;
    while answer["error"].is_null() {
        answer = socket.json().await;
    }
    assert!(answer["error"]["detail"].is_string(), "{answer}");
    answer["error"]["code"].as_str().expect("a code").to_owned()
}

async fn an_invalid_message_is_answered_and_the_socket_stays_open(bed: Bed) {
    let dm = Dm::start_with(&bed, &[("messages.max-characters", "10")]).await;
    let (kim, lee) = two(&bed).await;
    let mut from = dm.connect(&kim).await;
    assert_eq!(
        refused(&mut from, message("kim", "nobody", DATE, "hello")).await,
        "not-delivered"
    );
    assert_eq!(
        refused(&mut from, message("kim", "", DATE, "hello")).await,
        "not-delivered"
    );
    assert_eq!(
        refused(&mut from, message("kim", "lee", 20_230_905, "hello")).await,
        "invalid-date"
    );
    assert_eq!(
        refused(&mut from, message("kim", "lee", 9_999_999_999_999_999, "hello")).await,
        "invalid-date"
    );
    for blank in [" ", "\u{3164}", "\u{200b}"] {
        assert_eq!(
            refused(&mut from, message("kim", "lee", DATE, blank)).await,
            "empty-text"
        );
    }
    assert_eq!(
        refused(&mut from, message("kim", "lee", DATE, "12345678901")).await,
        "text-too-long"
    );
    assert_eq!(dm.newest(&kim).await, json!([]));
    let good = message("kim", "lee", DATE, "🩷🩷🩷🩷🩷🩷🩷🩷🩷🩷");
    from.send(good.to_string()).await;
    eventually("it is stored", async || {
        (dm.history(&lee, "kim").await == json!([good])).then_some(())
    })
    .await;
}

async fn the_longest_text_is_taken_however_it_is_escaped(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, lee) = two(&bed).await;
    let (mut from, mut to) = (dm.connect(&kim).await, dm.connect(&lee).await);
    for character in ["행", "a", "👨‍👩‍👧‍👦", "👩🏽‍❤️‍💋‍👨🏿"] {
        let text = character.repeat(4000);
        let escaped: Vec<_> = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        let escaped = escaped.concat();
        let frame = format!(r#"{{"sender":"kim","receiver":"lee","date":{DATE},"text":"{escaped}"}}"#);
        from.send(frame).await;
        assert_eq!(to.json().await["text"], json!(text));
    }
    let long = message("kim", "lee", DATE, &"행".repeat(4001));
    assert_eq!(refused(&mut from, long).await, "text-too-long");
}

async fn a_text_that_not_every_database_keeps_is_refused_everywhere(bed: Bed) {
    const BAD: &str = "a\0b";
    let dm = Dm::start(&bed).await;
    let (kim, _) = two(&bed).await;
    let mut old = dm.connect(&kim).await;
    assert_eq!(
        refused(&mut old, message("kim", "lee", DATE, BAD)).await,
        "invalid-text"
    );

    let (status, room) = dm
        .post(&kim, "createRoom", &[("name", "우리반"), ("members", "lee")])
        .await;
    assert_eq!(status, StatusCode::OK, "{room}");
    let mut new = open(&dm, &kim, "").await;
    new.send(typed("1", "lee", "hello")).await;
    let sent = frame(&mut new, "accepted").await["data"]["messageId"].clone();
    let to_room = json!({ "roomId": room["roomId"], "text": BAD });
    let to_room = json!({ "topic": "message", "id": "2", "data": to_room }).to_string();
    for message in [typed("2", "lee", BAD), to_room] {
        new.send(message).await;
        let rejected = frame(&mut new, "rejected").await;
        assert_eq!(
            (&rejected["id"], &rejected["data"]["code"]),
            (&json!("2"), &json!("invalid-text"))
        );
    }

    let id = sent.as_str().unwrap();
    let later = "2099-01-01T00:00:00Z";
    for (call, params) in [
        ("editMessage", vec![("id", id), ("text", BAD)]),
        ("reactMessage", vec![("id", id), ("reaction", BAD)]),
        (
            "scheduleMessage",
            vec![("receiver", "lee"), ("text", BAD), ("sendAt", later)],
        ),
        ("editScheduled", vec![("id", id), ("text", BAD)]),
        ("createRoom", vec![("name", BAD)]),
    ] {
        let (status, body) = dm.post(&kim, call, &params).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{call} {body}");
        assert!(body["detail"].is_string(), "{call} {body}");
    }
    let (status, body) = dm.get(&kim, "searchMessages?text=a%00b").await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    assert_eq!(dm.history(&kim, "lee").await.as_array().map(Vec::len), Some(1));
}

async fn blocked_people_do_not_reach_each_other(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, lee) = two(&bed).await;
    let (mut one, mut other) = (dm.connect(&kim).await, dm.connect(&lee).await);
    let block = |relation| RelationChanged {
        relation,
        account: lee.account.clone(),
        other: kim.account.clone(),
    };
    bed.publish(block(Relation::Block)).await;
    let mut date = DATE;
    eventually("the block is known", async || {
        date += 1;
        one.send(message("kim", "lee", date, "hello?").to_string()).await;
        if one.silent_for(Duration::from_millis(100)).await {
            None
        } else {
            Some(())
        }
    })
    .await;
    let before = dm.history(&kim, "lee").await;
    assert_eq!(
        refused(&mut one, message("kim", "lee", DATE, "hello")).await,
        "not-delivered"
    );
    assert_eq!(
        refused(&mut other, message("lee", "kim", DATE, "hello")).await,
        "not-delivered"
    );
    assert_eq!(dm.history(&kim, "lee").await, before);
    let tomorrow = (SystemClock.now() + SignedDuration::from_hours(24)).to_string();
    let later = [("text", "later"), ("sendAt", tomorrow.as_str())];
    // What they have is marked as read across a block; without a conversation neither learns that the other exists.
    let is_known = before != json!([]);
    for (call, params, is_answered) in [
        ("scheduleMessage", &later[..], false),
        ("markRead", &later[..0], is_known),
    ] {
        let of = async |name: &'static str| dm.post(&kim, call, &[&[("receiver", name)][..], params].concat()).await;
        let (unknown, blocked) = (of("nobody").await, of("lee").await);
        assert_eq!(unknown.0, StatusCode::NOT_FOUND, "{call}");
        assert_eq!(blocked == unknown, !is_answered, "{call} {blocked:?}");
    }
    let mut phone = open(&dm, &kim, "").await;
    let mut answers = Vec::new();
    for receiver in ["nobody", "lee"] {
        let typing = json!({ "topic": "typing", "id": "1", "data": { "receiver": receiver } });
        phone.send(typing.to_string()).await;
        answers.push(frame(&mut phone, "rejected").await);
    }
    assert_eq!(answers[0]["data"]["code"], "not-delivered", "{answers:?}");
    assert_eq!(answers[0], answers[1]);

    bed.publish(block(Relation::Unblock)).await;
    eventually("the block is gone", async || {
        one.send(message("kim", "lee", DATE, "friends?").to_string()).await;
        one.silent_for(Duration::from_millis(200)).await.then_some(())
    })
    .await;
}
