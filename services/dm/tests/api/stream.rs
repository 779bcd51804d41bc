//! Version 2 of the socket: numbered frames, `accepted`, acknowledgements, resuming (`docs/sockets.md`).

use std::time::Duration;

use serde_json::{Value, json};
use sosohappy_testkit::{Bed, Person, Socket, on_both_engines};

use super::{DATE, Dm, message, next_shown, receipts, two};

on_both_engines!(
    a_message_is_accepted_and_numbered_on_every_device,
    the_same_id_is_the_same_message_on_every_replica,
    a_socket_resumes_in_order_or_says_resync,
    a_conversation_has_one_order_on_sockets_and_in_the_history,
    only_an_acknowledged_message_counts_as_shown,
    frames_that_are_not_taken_are_answered,
);

pub async fn open(dm: &Dm, who: &Person, more: &str) -> Socket {
    let path = format!("/dm-service/connect-dm?nickname={}&v=2{more}", who.nickname);
    let socket = Socket::connect(&dm.running.socket_at(&path), Some(who)).await;
    socket.expect("the socket opens")
}

pub fn typed(id: &str, to: &str, text: &str) -> String {
    json!({ "topic": "message", "id": id, "data": { "receiver": to, "text": text, "date": DATE } }).to_string()
}

pub fn seq(frame: &Value) -> i64 {
    frame["seq"].as_i64().expect("a number")
}

/// Returns the next frame of a topic.
pub async fn frame(socket: &mut Socket, topic: &str) -> Value {
    loop {
        let frame = socket.json().await;
        if frame["topic"] == topic {
            return frame;
        }
        assert_ne!(frame["topic"], "error", "{frame}");
    }
}

/// Sends a message as a client does, which repeats one that is refused for now: the same id is the same message.
async fn send_until_accepted(socket: &mut Socket, id: &str, text: &str) {
    loop {
        socket.send(typed(id, "lee", text)).await;
        let answer = loop {
            let frame = socket.json().await;
            if frame["topic"] == "accepted" || frame["topic"] == "error" {
                break frame;
            }
        };
        if answer["topic"] == "accepted" {
            return;
        }
        assert_eq!(answer["data"]["code"], "unavailable", "{answer}");
    }
}

async fn a_message_is_accepted_and_numbered_on_every_device(bed: Bed) {
    let (here, there) = (Dm::start(&bed).await, Dm::start(&bed).await);
    let (kim, lee) = two(&bed).await;
    let mut old = there.connect(&lee).await;
    let mut from = open(&here, &kim, "").await;
    let (mut own, mut to) = (open(&there, &kim, "").await, open(&there, &lee, "").await);
    from.send(typed("c1", "lee", "안녕")).await;
    let accepted = frame(&mut from, "accepted").await;
    assert_eq!(accepted["id"], "c1");
    assert_eq!(
        (&accepted["data"]["seq"], &accepted["data"]["date"]),
        (&json!(1), &json!(DATE))
    );
    assert!(
        accepted.get("seq").is_none(),
        "an answer is not part of the stream: {accepted}"
    );
    assert_eq!(
        old.text().await,
        r#"{"sender":"kim","receiver":"lee","date":2023090513248392,"text":"안녕"}"#,
        "the published app's frame"
    );
    for socket in [&mut to, &mut own] {
        let frame = socket.json().await;
        assert_eq!(
            (&frame["topic"], &frame["id"], seq(&frame)),
            (&json!("message"), &accepted["data"]["messageId"], 1)
        );
        let data = &frame["data"];
        assert_eq!(
            (&data["sender"], &data["receiver"], &data["text"]),
            (&json!("kim"), &json!("lee"), &json!("안녕"))
        );
        assert_eq!((&data["date"], &data["number"]), (&json!(DATE), &json!(1)));
        assert!(data["at"].as_str().is_some_and(|at| at.ends_with('Z')), "{frame}");
    }

    // An answer of the old app, and one that names what it answers.
    old.send(message("lee", "kim", DATE + 1, "네").to_string()).await;
    let answer = frame(&mut to, "message").await;
    assert_eq!((seq(&answer), &answer["data"]["number"]), (2, &json!(2)));
    let reply = json!({ "receiver": "kim", "text": "네네", "replyTo": accepted["data"]["messageId"] });
    to.send(json!({ "topic": "message", "id": "l1", "data": reply }).to_string())
        .await;
    let reply = loop {
        let frame = frame(&mut own, "message").await;
        if seq(&frame) == 3 {
            break frame;
        }
    };
    assert_eq!(reply["data"]["replyTo"], accepted["data"]["messageId"]);
    assert_eq!(
        reply["data"]["date"].to_string().len(),
        16,
        "the server's date: {reply}"
    );
}

async fn the_same_id_is_the_same_message_on_every_replica(bed: Bed) {
    let (here, there) = (Dm::start(&bed).await, Dm::start(&bed).await);
    let (kim, lee) = two(&bed).await;
    let mut accepted = Vec::new();
    for (dm, text) in [(&here, "first"), (&there, "first"), (&here, "another text")] {
        let mut from = open(dm, &kim, "").await;
        from.send(typed("c1", "lee", text)).await;
        accepted.push(frame(&mut from, "accepted").await);
        from.send(typed("c1", "nobody", "")).await;
        accepted.push(frame(&mut from, "accepted").await);
    }
    assert!(accepted.iter().all(|answer| *answer == accepted[0]), "{accepted:?}");
    // The id is the sender's: another account may use the same.
    let mut to = open(&there, &lee, "").await;
    to.send(typed("c1", "kim", "of lee")).await;
    assert_ne!(
        frame(&mut to, "accepted").await["data"]["messageId"],
        accepted[0]["data"]["messageId"]
    );
    let history = here.history(&lee, "kim").await;
    let texts: Vec<&Value> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|message| &message["text"])
        .collect();
    assert_eq!(texts, ["first", "of lee"]);
}

async fn a_socket_resumes_in_order_or_says_resync(bed: Bed) {
    let (here, there) = (Dm::start(&bed).await, Dm::start(&bed).await);
    let (kim, lee) = two(&bed).await;
    let mut from = open(&here, &kim, "").await;
    for number in 1..=100 {
        send_until_accepted(&mut from, &format!("c{number}"), &number.to_string()).await;
    }
    let mut all = open(&there, &lee, "&since=0").await;
    for number in 1..=100 {
        let frame = all.json().await;
        assert_eq!(
            (seq(&frame), &frame["data"]["text"]),
            (number, &json!(number.to_string()))
        );
    }
    let mut some = open(&here, &lee, "&since=97").await;
    for number in 98..=100 {
        assert_eq!(seq(&some.json().await), number);
    }
    let mut ahead = open(&there, &lee, "&since=105").await;
    assert_eq!(
        ahead.json().await,
        json!({ "topic": "resync", "seq": 100, "data": { "reason": "unknown" } })
    );
    let mut new = open(&here, &lee, "").await;
    from.send(typed("last", "lee", "last")).await;
    for socket in [&mut all, &mut some, &mut ahead, &mut new] {
        let frame = socket.json().await;
        assert_eq!((seq(&frame), &frame["data"]["text"]), (101, &json!("last")));
    }
}

/// Both people write at once, at two replicas, in both versions.
async fn a_conversation_has_one_order_on_sockets_and_in_the_history(bed: Bed) {
    const EACH: usize = 20;
    let (here, there) = (Dm::start(&bed).await, Dm::start(&bed).await);
    let (kim, lee) = two(&bed).await;
    let mut readers = [open(&here, &kim, "").await, open(&there, &lee, "").await];
    let (mut one, mut other) = (open(&here, &kim, "").await, there.connect(&lee).await);
    for number in 0..EACH {
        one.send(typed(&number.to_string(), "lee", &format!("kim {number}")))
            .await;
        other
            .send(message("lee", "kim", DATE, &format!("lee {number}")).to_string())
            .await;
    }
    let mut orders = Vec::new();
    for reader in &mut readers {
        let mut order = Vec::new();
        for number in 1..=2 * EACH {
            let frame = frame(reader, "message").await;
            assert_eq!(
                (seq(&frame), &frame["data"]["number"]),
                (i64::try_from(number).unwrap(), &json!(number))
            );
            order.push(frame["data"]["text"].clone());
        }
        orders.push(order);
    }
    assert_eq!(orders[0], orders[1]);
    let (_, history) = here
        .post(
            &kim,
            "findDirectMessage",
            &[("sender", "kim"), ("receiver", "lee"), ("messageCnt", "100")],
        )
        .await;
    let history: Vec<Value> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["text"].clone())
        .collect();
    assert_eq!(history, orders[0]);
}

async fn only_an_acknowledged_message_counts_as_shown(bed: Bed) {
    let dm = Dm::start_with(&bed, &[("sockets.ping-every", "200ms")]).await;
    let (kim, lee) = two(&bed).await;
    let mut receipts = receipts(&bed).await;
    let (mut from, mut to) = (open(&dm, &kim, "").await, open(&dm, &lee, "").await);
    from.send(typed("1", "lee", "shown")).await;
    let first = frame(&mut to, "message").await;
    to.send(json!({ "topic": "ack", "seq": seq(&first) }).to_string()).await;
    assert_eq!(next_shown(&mut receipts, &lee).await, [first["id"].as_str().unwrap()]);

    // The client reads, answers pings and sends frames, and does not acknowledge the second message yet.
    from.send(typed("2", "lee", "written only")).await;
    let second = frame(&mut to, "message").await;
    to.send(json!({ "topic": "hello" }).to_string()).await;
    frame(&mut to, "error").await;
    assert!(to.silent_for(Duration::from_secs(1)).await);
    let metrics = dm
        .client
        .get(dm.running.at("/actuator/prometheus"))
        .send()
        .await
        .unwrap();
    let metrics = metrics.text().await.unwrap();
    let shown = metrics
        .lines()
        .find(|line| line.starts_with("dm_messages_shown_total{"));
    assert!(shown.is_some_and(|line| line.ends_with(" 1")), "{shown:?}");
    to.send(json!({ "topic": "ack", "seq": seq(&second) }).to_string())
        .await;
    assert_eq!(next_shown(&mut receipts, &lee).await, [second["id"].as_str().unwrap()]);
}

async fn frames_that_are_not_taken_are_answered(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, lee) = two(&bed).await;
    let mut from = open(&dm, &kim, "").await;
    let long = "x".repeat(101);
    for (sent, topic, id, code) in [
        (typed("1", "nobody", "hi"), "rejected", Some("1"), "not-delivered"),
        (typed("2", "lee", "\u{200b}"), "rejected", Some("2"), "empty-text"),
        (
            typed("3", "lee", &"a".repeat(4001)),
            "rejected",
            Some("3"),
            "text-too-long",
        ),
        (
            json!({ "topic": "message", "id": "4", "data": { "receiver": "lee", "text": "x", "date": 1 } }).to_string(),
            "rejected",
            Some("4"),
            "invalid-date",
        ),
        (
            json!({ "topic": "message", "id": "5", "data": { "receiver": "lee", "text": "x", "replyTo": "none" } })
                .to_string(),
            "rejected",
            Some("5"),
            "reply-unknown",
        ),
        (
            json!({ "topic": "message", "id": "6", "data": {} }).to_string(),
            "error",
            Some("6"),
            "invalid-frame",
        ),
        (
            json!({ "topic": "message", "id": "10", "data": ["lee", null, "x", null, null] }).to_string(),
            "error",
            Some("10"),
            "invalid-frame",
        ),
        (
            json!({ "topic": "message", "data": { "receiver": "lee", "text": "x" } }).to_string(),
            "error",
            None,
            "invalid-frame",
        ),
        (typed(&long, "lee", "x"), "error", Some(long.as_str()), "invalid-frame"),
        (typed("a\0b", "lee", "x"), "error", Some("a\0b"), "invalid-frame"),
        (
            json!({ "topic": "message", "id": 7, "data": { "receiver": "lee", "text": "x" } }).to_string(),
            "error",
            None,
            "invalid-frame",
        ),
        (
            json!({ "topic": "read", "id": "8", "seq": "1", "data": { "receiver": "lee" } }).to_string(),
            "error",
            Some("8"),
            "invalid-frame",
        ),
        (
            // `JSON.stringify` writes half an emoji like this.
            r#"{"topic":"message","id":"9","data":{"receiver":"lee","text":"\ud83d"}}"#.to_owned(),
            "error",
            Some("9"),
            "invalid-frame",
        ),
        (
            json!({ "topic": "weather", "id": "7" }).to_string(),
            "error",
            Some("7"),
            "unknown-topic",
        ),
    ] {
        from.send(sent).await;
        let answer = from.json().await;
        assert_eq!(
            (&answer["topic"], &answer["data"]["code"]),
            (&json!(topic), &json!(code)),
            "{answer}"
        );
        assert_eq!(answer["id"].as_str(), id, "{answer}");
    }
    assert_eq!(dm.history(&lee, "kim").await, json!([]));
    from.send(message("kim", "lee", DATE, "a frame of version 1").to_string())
        .await;
    assert_eq!(from.closed().await, 1007);
}
