//! Delivered and read marks, unread counts, catching up, typing.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use sosohappy_events::types::{Relation, RelationChanged};
use sosohappy_testkit::{Bed, Person, eventually, on_both_engines};

use super::stream::{frame, open, seq, typed};
use super::{DATE, Dm, message, read, two};

on_both_engines!(
    the_sender_sees_what_was_delivered_and_read,
    a_person_reads_on_one_device_for_all,
    messages_of_people_in_a_block_are_not_counted,
    typing_is_delivered_and_not_stored,
    a_client_catches_up_in_pages_of_a_bounded_size,
);

impl Dm {
    pub async fn get(&self, who: &Person, call: &str) -> (StatusCode, Value) {
        read(who.sign(self.client.get(self.at(call)))).await
    }

    async fn unread(&self, who: &Person) -> u64 {
        let (status, body) = self.get(who, "unreadCount").await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body["count"].as_u64().unwrap()
    }
}

async fn the_sender_sees_what_was_delivered_and_read(bed: Bed) {
    let (here, there) = (Dm::start(&bed).await, Dm::start(&bed).await);
    let (kim, lee) = two(&bed).await;
    let (mut from, mut to) = (open(&here, &kim, "").await, open(&there, &lee, "").await);
    from.send(typed("1", "lee", "hello")).await;
    let id = frame(&mut from, "accepted").await["data"]["messageId"].clone();
    let received = frame(&mut to, "message").await;
    to.send(json!({ "topic": "ack", "seq": seq(&received) }).to_string())
        .await;
    let receipt = frame(&mut from, "receipt").await["data"].clone();
    assert_eq!(
        (&receipt["state"], &receipt["reader"], &receipt["sender"]),
        (&json!("delivered"), &json!("lee"), &json!("kim"))
    );
    assert_eq!((&receipt["messageId"], &receipt["number"]), (&id, &json!(1)));

    let reading = json!({ "topic": "read", "data": { "receiver": "kim", "seq": seq(&received) } });
    to.send(reading.to_string()).await;
    let receipt = frame(&mut from, "receipt").await["data"].clone();
    assert_eq!((&receipt["state"], &receipt["messageId"]), (&json!("read"), &id));
    // Again changes nothing; a later message does.
    to.send(reading.to_string()).await;
    from.send(typed("2", "lee", "again")).await;
    frame(&mut to, "message").await;
    let (status, body) = there.post(&lee, "markRead", &[("receiver", "kim")]).await;
    assert_eq!((status, &body["count"]), (StatusCode::OK, &json!(0)), "{body}");
    let receipt = frame(&mut from, "receipt").await["data"].clone();
    assert_eq!(
        (&receipt["state"], &receipt["number"]),
        (&json!("read"), &json!(2)),
        "{receipt}"
    );

    // The frame of a reaction to the first message comes after the third message.
    from.send(typed("3", "lee", "third")).await;
    frame(&mut to, "message").await;
    let reaction = [("id", id.as_str().unwrap()), ("reaction", "🩷")];
    let (status, body) = here.post(&kim, "reactMessage", &reaction).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let reaction = frame(&mut to, "reaction").await;
    let reading = |who: &str, seq: i64| json!({ "topic": "read", "seq": seq, "data": { "receiver": who } }).to_string();
    for (who, seq) in [("lee", seq(&reaction)), ("kim", seq(&reaction) + 1)] {
        to.send(reading(who, seq)).await;
        let refused = frame(&mut to, "error").await["data"].clone();
        assert_eq!(refused["code"], "invalid-frame", "{refused}");
        let reason = refused["reason"].as_str().unwrap();
        assert!(reason.contains("no frame of the conversation"), "{reason}");
    }
    to.send(reading("kim", seq(&reaction))).await;
    let receipt = frame(&mut from, "receipt").await["data"].clone();
    assert_eq!((&receipt["state"], &receipt["number"]), (&json!("read"), &json!(3)));
}

async fn a_person_reads_on_one_device_for_all(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, lee) = two(&bed).await;
    let mut phone = open(&dm, &lee, "").await;
    let mut from = dm.connect(&kim).await;
    for number in 0..3 {
        from.send(message("kim", "lee", DATE + number, "hello").to_string())
            .await;
    }
    from.send(message("kim", "kim", DATE, "memo").to_string()).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(frame(&mut phone, "message").await["id"].as_str().unwrap().to_owned());
    }
    assert_eq!((dm.unread(&lee).await, dm.unread(&kim).await), (3, 0));
    let (_, body) = dm
        .post(&lee, "markRead", &[("receiver", "kim"), ("messageId", &ids[1])])
        .await;
    assert_eq!(body["count"], 1, "{body}");
    let receipt = frame(&mut phone, "receipt").await;
    assert_eq!(
        receipt["data"]["messageId"], ids[1],
        "also on the reader's devices: {receipt}"
    );
    let (_, body) = dm
        .post(&lee, "markRead", &[("receiver", "kim"), ("messageId", &ids[0])])
        .await;
    assert_eq!(body["count"], 1, "{body}");
    // Of an answer nothing changes for the person who wrote it.
    phone.send(typed("1", "kim", "hi")).await;
    frame(&mut phone, "accepted").await;
    assert_eq!((dm.unread(&lee).await, dm.unread(&kim).await), (1, 1));
    for (wrong, status) in [
        (&[("receiver", "nobody")][..], StatusCode::NOT_FOUND),
        (&[("receiver", "kim"), ("messageId", "x")], StatusCode::BAD_REQUEST),
        (&[], StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(dm.post(&lee, "markRead", wrong).await.0, status, "{wrong:?}");
    }
    let (_, told) = dm
        .post(&lee, "markRead", &[("receiver", "kim"), ("messageId", "x")])
        .await;
    assert_eq!(told["detail"], "messageId: an id of a message is expected");
}

async fn messages_of_people_in_a_block_are_not_counted(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, lee) = two(&bed).await;
    let park = bed.person("park@example.com+kakao", "park").await;
    for (from, texts) in [(&kim, &["1", "2"][..]), (&park, &["3"])] {
        let mut socket = open(&dm, from, "").await;
        for text in texts {
            socket.send(typed(text, "lee", text)).await;
            frame(&mut socket, "accepted").await;
        }
    }
    assert_eq!(dm.unread(&lee).await, 3);
    let relate = |relation| RelationChanged {
        relation,
        account: lee.account.clone(),
        other: kim.account.clone(),
    };
    let until = async |count: u64| {
        eventually("the count changes", async || {
            (dm.unread(&lee).await == count).then_some(())
        })
        .await;
    };
    let caught_up = async || {
        let (status, body) = dm.get(&lee, "catchUp").await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let conversations = body["conversations"].as_array().unwrap().iter();
        let counts = conversations.map(|one| (one["with"].clone(), one["unread"].clone()));
        counts.collect::<Vec<_>>()
    };
    bed.publish(relate(Relation::Block)).await;
    until(1).await;
    assert_eq!(caught_up().await, [(json!("park"), json!(1)), (json!("kim"), json!(0))]);
    let (_, body) = dm.post(&lee, "markRead", &[("receiver", "park")]).await;
    assert_eq!(body["count"], 0, "{body}");
    // They are unread as before once the block is lifted.
    bed.publish(relate(Relation::Unblock)).await;
    until(2).await;
    assert_eq!(caught_up().await, [(json!("park"), json!(0)), (json!("kim"), json!(2))]);
}

async fn typing_is_delivered_and_not_stored(bed: Bed) {
    let (here, there) = (Dm::start(&bed).await, Dm::start(&bed).await);
    let (kim, lee) = two(&bed).await;
    let mut old = there.connect(&lee).await;
    let (mut from, mut to) = (open(&here, &kim, "").await, open(&there, &lee, "").await);
    let typing = json!({ "topic": "typing", "data": { "receiver": "lee" } }).to_string();
    from.send(typing.clone()).await;
    let told = frame(&mut to, "typing").await;
    assert_eq!(told, json!({ "topic": "typing", "data": { "sender": "kim" } }));
    drop(to);
    eventually("the receiver is away", async || {
        from.send(typing.clone()).await;
        from.send(typed("1", "lee", "done")).await;
        let accepted = frame(&mut from, "accepted").await;
        assert_eq!(accepted["data"]["seq"], 1, "a typing frame has no number");
        Some(())
    })
    .await;
    let mut again = open(&here, &lee, "&since=0").await;
    assert_eq!(again.json().await["topic"], "message");
    assert!(again.silent_for(Duration::from_millis(300)).await);
    assert_eq!(old.json().await["text"], "done", "the old app sees messages only");
    assert_eq!(here.history(&lee, "kim").await.as_array().map(Vec::len), Some(1));
}

async fn a_client_catches_up_in_pages_of_a_bounded_size(bed: Bed) {
    const CONVERSATIONS: usize = 60;
    let dm = Dm::start_with(&bed, &[("sockets.frames-per-minute", "off")]).await;
    let (kim, lee) = two(&bed).await;
    let (mut from, mut to) = (open(&dm, &kim, "").await, open(&dm, &lee, "").await);
    let long = "🩷".repeat(300);
    let mut people = Vec::new();
    for number in 0..CONVERSATIONS {
        let name = format!("p{number}");
        people.push(bed.person(&format!("{name}@example.com+kakao"), &name).await);
        from.send(typed(&name, &name, &long)).await;
        frame(&mut from, "accepted").await;
    }
    to.send(typed("1", "kim", "short")).await;
    frame(&mut to, "accepted").await;
    people.reverse();
    let (_, body) = dm.post(&people[0], "markRead", &[("receiver", "kim")]).await;
    assert_eq!(body["count"], 0, "{body}");

    let (mut cursor, mut found, mut pages) = ("start".to_owned(), Vec::new(), 0);
    loop {
        let request = dm.client.get(dm.at("catchUp")).query(&[("cursor", &cursor)]);
        let text = kim.sign(request).send().await.unwrap().text().await.unwrap();
        assert!(text.len() <= 50 * 1024, "{} bytes", text.len());
        let page: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(page["seq"], CONVERSATIONS + 1, "{page}");
        found.extend(page["conversations"].as_array().unwrap().clone());
        pages += 1;
        let Some(next) = page["nextCursor"].as_str() else { break };
        next.clone_into(&mut cursor);
    }
    assert!(pages > 1);
    let with = |conversation: &Value| conversation["with"].as_str().unwrap().to_owned();
    assert_eq!(with(&found[0]), "lee");
    assert!(
        found[1..]
            .iter()
            .map(with)
            .eq(people.iter().map(|person| person.nickname.clone()))
    );
    let (newest, read, unread) = (&found[0], &found[1], &found[2]);
    assert_eq!(
        (&newest["message"]["text"], &newest["message"]["isCut"]),
        (&json!("short"), &json!(false))
    );
    assert_eq!(
        (&newest["unread"], &newest["message"]["number"]),
        (&json!(1), &json!(1))
    );
    assert_eq!((&read["message"]["isCut"], &read["unread"]), (&json!(true), &json!(0)));
    assert_eq!((&read["read"], &read["delivered"]), (&json!(1), &json!(1)));
    assert_eq!((&unread["read"], &unread["delivered"]), (&json!(0), &json!(0)));
    assert_eq!(dm.get(&kim, "catchUp?cursor=x").await.0, StatusCode::BAD_REQUEST);
}
