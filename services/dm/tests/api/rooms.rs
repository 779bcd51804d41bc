//! Rooms of several people.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use sosohappy_bus::{Reader, Start};
use sosohappy_events::types::{
    AccountResigned, MessageReceipt, ReceiptProgress, Relation, RelationChanged, RoomMessageSent, RoomPush,
};
use sosohappy_events::{Envelope, Topic};
use sosohappy_testkit::{Bed, PATIENCE, Person, Socket, eventually, on_both_engines};

use super::stream::{frame, open, seq, typed};
use super::{Dm, next_shown, receipts, two};

on_both_engines!(
    a_message_reaches_every_member_in_one_order,
    devices_get_messages_of_rooms_and_people_once_in_one_order,
    a_frame_that_comes_with_its_signal_is_not_read,
    a_member_sees_what_was_sent_since_joining,
    people_in_a_block_do_not_see_each_others_messages,
    a_message_of_a_room_is_edited_and_retracted_for_every_member,
    reactions_in_a_room_are_seen_by_members_without_a_block,
    a_member_who_has_left_reads_no_later_edit_by_resuming,
    a_room_has_an_owner_and_a_bound,
    a_resignation_takes_a_person_out_of_rooms,
    notice_learns_who_gets_a_push_and_what_was_shown_read_and_left,
);

/// Reads what dm publishes of messages in rooms.
async fn room_messages(bed: &Bed) -> Box<dyn Reader> {
    let reader = bed.bus.read(&[Topic::RoomMessage], Start::Earliest).await;
    reader.expect("the bus reads")
}

/// Returns the push of the next message of a room.
async fn next_push(reader: &mut Box<dyn Reader>) -> RoomPush {
    loop {
        let record = tokio::time::timeout(PATIENCE, reader.next()).await;
        let event = Envelope::<RoomMessageSent>::decode(&record.expect("an event comes").expect("the bus reads"));
        let Envelope { event, meta } = event.expect("the event is one");
        if let Some(push) = event.push {
            assert!(
                meta.authorized_at.is_some(),
                "when the sender's access token was issued"
            );
            return push;
        }
    }
}

async fn three(bed: &Bed) -> [Person; 3] {
    let (kim, lee) = two(bed).await;
    [kim, lee, bed.person("park@example.com+google", "park").await]
}

pub async fn create(dm: &Dm, who: &Person, members: &str) -> Value {
    let (status, body) = dm
        .post(who, "createRoom", &[("name", "우리반"), ("members", members)])
        .await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body
}

pub fn to_room(id: &str, room: &Value, text: &str) -> String {
    json!({ "topic": "message", "id": id, "data": { "roomId": room, "text": text } }).to_string()
}

pub async fn accepted(socket: &mut Socket) -> Value {
    loop {
        let answer = socket.json().await;
        match answer["topic"].as_str() {
            Some("accepted") => return answer,
            Some("rejected" | "error") => panic!("not taken: {answer}"),
            _ => {}
        }
    }
}

pub fn message_id(accepted: &Value) -> String {
    accepted["data"]["messageId"].as_str().unwrap().to_owned()
}

async fn change(dm: &Dm, who: &Person, call: &str, params: &[(&str, &str)]) -> StatusCode {
    dm.post(who, call, params).await.0
}

/// Returns the next message that fulfils a condition: a sender's socket also has its own.
async fn shown(socket: &mut Socket, is_it: impl Fn(&Value) -> bool) -> Value {
    loop {
        let shown = frame(socket, "message").await;
        if is_it(&shown) {
            return shown;
        }
    }
}

pub async fn texts(dm: &Dm, who: &Person, room: &Value) -> Vec<String> {
    let (status, body) = dm
        .get(who, &format!("findRoomMessage?roomId={}", room.as_str().unwrap()))
        .await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let messages = body["content"].as_array().unwrap();
    messages
        .iter()
        .map(|it| it["text"].as_str().unwrap().to_owned())
        .collect()
}

async fn a_message_reaches_every_member_in_one_order(bed: Bed) {
    let (here, there) = (Dm::start(&bed).await, Dm::start(&bed).await);
    let [kim, lee, park] = three(&bed).await;
    let mut sockets = [
        open(&here, &kim, "").await,
        open(&there, &lee, "").await,
        open(&there, &park, "").await,
    ];
    let mut old = here.connect(&lee).await;
    let created = create(&here, &kim, "lee,park").await;
    assert_eq!(
        (&created["owner"], &created["members"]),
        (&json!("kim"), &json!(["kim", "lee", "park"]))
    );
    let room = created["roomId"].clone();
    for socket in &mut sockets {
        let told = frame(socket, "room").await;
        assert_eq!(
            (&told["data"]["roomId"], &told["data"]["change"]),
            (&room, &json!("created"))
        );
    }
    let mut first = None;
    for (number, text) in ["one", "two", "three"].iter().enumerate() {
        let sender = &mut sockets[number];
        sender.send(to_room("1", &room, text)).await;
        let answer = accepted(sender).await;
        assert_eq!(answer["data"]["seq"], number + 1, "{answer}");
        // The same id is the same message.
        sender.send(to_room("1", &room, "another text")).await;
        assert_eq!(accepted(sender).await["data"], answer["data"]);
        let mut frames = Vec::new();
        for (other, socket) in sockets.iter_mut().enumerate() {
            if other != number {
                frames.push(shown(socket, |frame| frame["id"] == answer["data"]["messageId"]).await);
            }
        }
        assert_eq!(frames[0], frames[1]);
        assert_eq!(seq(&frames[0]), i64::try_from(number + 1).unwrap());
        let data = &frames[0]["data"];
        assert_eq!(
            (&data["roomId"], &data["text"], &data["number"]),
            (&room, &json!(text), &json!(number + 1))
        );
        first.get_or_insert(answer["data"]["messageId"].clone());
    }
    let first = first.expect("a message");
    let reply = json!({ "roomId": room, "text": "re", "replyTo": first });
    let [from, to, _] = &mut sockets;
    from.send(json!({ "topic": "message", "id": "2", "data": reply }).to_string())
        .await;
    let reply = shown(to, |frame| frame["data"]["text"] == "re").await;
    assert_eq!((&reply["data"]["replyTo"], seq(&reply)), (&first, 4));
    assert!(
        old.silent_for(Duration::from_millis(200)).await,
        "the published app has no rooms"
    );
    assert_eq!(texts(&there, &park, &room).await, ["re", "three", "two", "one"]);

    to.send(json!({ "topic": "typing", "data": { "roomId": room } }).to_string())
        .await;
    assert_eq!(
        frame(from, "typing").await["data"],
        json!({ "sender": "lee", "roomId": room })
    );
    let unread = async |who: &Person| here.get(who, "rooms").await.1[0]["unread"].clone();
    assert_eq!((unread(&kim).await, unread(&lee).await), (json!(0), json!(2)));
    to.send(json!({ "topic": "read", "seq": 3, "data": { "roomId": room } }).to_string())
        .await;
    eventually("the message is read", async || {
        (unread(&lee).await == json!(1)).then_some(())
    })
    .await;
    // A device that comes back has all of them.
    let mut again = open(&here, &park, "&since=1").await;
    for number in 2..=4 {
        assert_eq!(seq(&frame(&mut again, "message").await), number);
    }
    // The frame of an edit of the first message comes after the last one.
    let edited = [("id", first.as_str().unwrap()), ("text", "ONE")];
    assert_eq!(change(&here, &kim, "editMessage", &edited).await, StatusCode::OK);
    let edit = frame(to, "edit").await;
    for data in [json!({ "receiver": "kim" }), json!({ "roomId": "another" })] {
        to.send(json!({ "topic": "read", "seq": seq(&edit), "data": data }).to_string())
            .await;
        let refused = frame(to, "error").await["data"].clone();
        let reason = "`seq` is the number of no frame of the conversation or room";
        assert_eq!(
            (&refused["code"], &refused["reason"]),
            (&json!("invalid-frame"), &json!(reason))
        );
    }
    assert_eq!(unread(&lee).await, json!(1));
    to.send(json!({ "topic": "read", "seq": seq(&edit), "data": { "roomId": room } }).to_string())
        .await;
    eventually("all messages are read", async || {
        (unread(&lee).await == json!(0)).then_some(())
    })
    .await;
}

/// Frames of rooms come with their signal where several members have sockets, and those of direct messages are read.
async fn devices_get_messages_of_rooms_and_people_once_in_one_order(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let [kim, lee, park] = three(&bed).await;
    let room = create(&dm, &kim, "lee,park").await["roomId"].clone();
    let mut from = open(&dm, &kim, "").await;
    let mut leaving = open(&dm, &park, "").await;
    let mut devices = vec![(1, open(&dm, &lee, "&since=0").await)];
    for number in 0..10 {
        from.send(to_room(&format!("r{number}"), &room, &format!("room {number}")))
            .await;
        from.send(typed(&format!("d{number}"), "lee", &format!("lee {number}")))
            .await;
        for _ in 0..2 {
            accepted(&mut from).await;
        }
        if number == 4 {
            devices.push((4, open(&dm, &lee, "&since=3").await));
        }
    }
    let mut shown = Vec::new();
    for (first, device) in &mut devices {
        let mut texts = Vec::new();
        for number in *first..=20 {
            let message = frame(device, "message").await;
            assert_eq!(seq(&message), number);
            texts.push(message["data"]["text"].as_str().unwrap().to_owned());
        }
        shown.push(texts);
    }
    assert_eq!(shown[0][3..], shown[1]);
    let of_room: Vec<&String> = shown[0].iter().filter(|text| text.starts_with("room")).collect();
    let in_order: Vec<String> = (0..10).map(|number| format!("room {number}")).collect();
    assert_eq!(of_room, in_order.iter().collect::<Vec<_>>());

    for text in &in_order {
        assert_eq!(frame(&mut leaving, "message").await["data"]["text"], *text);
    }
    let left = [("roomId", room.as_str().unwrap())];
    assert_eq!(dm.post(&park, "leaveRoom", &left).await.0, StatusCode::OK);
    from.send(to_room("after", &room, "after")).await;
    accepted(&mut from).await;
    from.send(typed("bye", "park", "bye")).await;
    let next = frame(&mut leaving, "message").await;
    assert_eq!((seq(&next), &next["data"]["text"]), (11, &json!("bye")));
    for (_, device) in &mut devices {
        let last = frame(device, "message").await;
        assert_eq!((seq(&last), &last["data"]["text"]), (21, &json!("after")));
    }
}

async fn a_frame_that_comes_with_its_signal_is_not_read(bed: Bed) {
    let (here, there) = (Dm::start(&bed).await, Dm::start(&bed).await);
    let [kim, lee, park] = three(&bed).await;
    let room = create(&here, &kim, "lee,park").await["roomId"].clone();
    let mut from = open(&here, &kim, "").await;
    let mut members = [open(&there, &lee, "").await, open(&there, &park, "").await];
    let reads = || there.running.metric("sosohappy_socket_reads_total", &[]);
    let mut number = 0;
    // On a busy machine one may be older than a second, and is read.
    let last = eventually("a frame is written without a read of the stream", async || {
        number += 1;
        let before = reads();
        from.send(to_room(&format!("r{number}"), &room, "hello")).await;
        let id = message_id(&accepted(&mut from).await);
        for member in &mut members {
            assert_eq!(seq(&frame(member, "message").await), number);
        }
        (reads() <= before).then_some(id)
    })
    .await;
    // The record of a change brings no frame.
    let before = reads();
    let edited = [("id", last.as_str()), ("text", "edited")];
    assert_eq!(change(&here, &kim, "editMessage", &edited).await, StatusCode::OK);
    for member in &mut members {
        frame(member, "edit").await;
    }
    eventually("the stream is read", async || (reads() > before).then_some(())).await;
}

async fn a_member_sees_what_was_sent_since_joining(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let [kim, lee, park] = three(&bed).await;
    let mut from = open(&dm, &kim, "").await;
    let room = create(&dm, &kim, "lee").await["roomId"].clone();
    from.send(to_room("1", &room, "before")).await;
    accepted(&mut from).await;
    let path = format!("findRoomMessage?roomId={}", room.as_str().unwrap());
    assert_eq!(dm.get(&park, &path).await.0, StatusCode::NOT_FOUND);
    let invitation = [("roomId", room.as_str().unwrap()), ("member", "park")];
    for changed in [true, false] {
        let (status, body) = dm.post(&kim, "inviteRoom", &invitation).await;
        assert_eq!(status, StatusCode::OK, "{changed} {body}");
        assert_eq!(body["members"].as_array().map(Vec::len), Some(3));
    }
    from.send(to_room("2", &room, "after")).await;
    accepted(&mut from).await;
    assert_eq!(texts(&dm, &park, &room).await, ["after"]);
    let mut to = open(&dm, &park, "&since=0").await;
    assert_eq!(frame(&mut to, "message").await["data"]["text"], "after");

    let left = [("roomId", room.as_str().unwrap())];
    assert_eq!(dm.post(&park, "leaveRoom", &left).await.0, StatusCode::OK);
    assert_eq!(dm.post(&park, "leaveRoom", &left).await.0, StatusCode::NOT_FOUND);
    assert_eq!(dm.get(&park, &path).await.0, StatusCode::NOT_FOUND);
    to.send(to_room("3", &room, "from outside")).await;
    assert_eq!(frame(&mut to, "rejected").await["data"]["code"], "room-unknown");
    assert_eq!(texts(&dm, &lee, &room).await, ["after", "before"]);
    for who in [&kim, &lee] {
        assert_eq!(dm.post(who, "leaveRoom", &left).await.0, StatusCode::OK);
    }
    let (_, rooms) = dm.get(&kim, "rooms").await;
    assert_eq!(rooms, json!([]));
}

async fn people_in_a_block_do_not_see_each_others_messages(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let [kim, lee, park] = three(&bed).await;
    let room = create(&dm, &kim, "lee,park").await["roomId"].clone();
    bed.publish(RelationChanged {
        relation: Relation::Block,
        account: park.account.clone(),
        other: lee.account.clone(),
    })
    .await;
    let mut from = open(&dm, &lee, "").await;
    let mut number = 0;
    eventually("the block is known", async || {
        number += 1;
        from.send(typed(&format!("t{number}"), "park", "hello?")).await;
        loop {
            match from.json().await["topic"].as_str() {
                Some("rejected") => break Some(()),
                Some("accepted") => break None,
                _ => {}
            }
        }
    })
    .await;
    let (mut to, mut other) = (open(&dm, &park, "").await, open(&dm, &kim, "").await);
    let mut posted = room_messages(&bed).await;
    from.send(to_room("1", &room, "from lee")).await;
    let of_lee = message_id(&accepted(&mut from).await);
    assert_eq!(
        next_push(&mut posted).await.receivers,
        std::slice::from_ref(&kim.account),
        "no push of it to park"
    );
    assert_eq!(frame(&mut other, "message").await["data"]["text"], "from lee");
    other.send(to_room("1", &room, "from kim")).await;
    let of_kim = message_id(&accepted(&mut other).await);
    assert_eq!(
        frame(&mut to, "message").await["data"]["text"],
        "from kim",
        "not the other one"
    );
    assert_eq!(texts(&dm, &park, &room).await, ["from kim"]);
    assert_eq!(dm.get(&park, "rooms").await.1[0]["unread"], 1);
    assert_eq!(texts(&dm, &lee, &room).await, ["from kim", "from lee"]);
    for (who, id) in [(&lee, &of_lee), (&kim, &of_kim)] {
        let text = format!("{} edited it", who.nickname);
        assert_eq!(
            change(&dm, who, "editMessage", &[("id", id), ("text", &text)]).await,
            StatusCode::OK
        );
        assert_eq!(frame(&mut other, "edit").await["data"]["text"], text);
    }
    assert_eq!(
        frame(&mut to, "edit").await["data"]["text"],
        "kim edited it",
        "not the other one"
    );
    let history = |id: &str| format!("findMessageHistory?id={id}");
    assert_eq!(dm.get(&park, &history(&of_lee)).await.0, StatusCode::NOT_FOUND);
    assert_eq!(dm.get(&park, &history(&of_kim)).await.1[0]["text"], "from kim");
    let (status, _) = dm
        .post(&park, "createRoom", &[("name", "둘"), ("members", "lee")])
        .await;
    assert_eq!(status, StatusCode::NOT_FOUND, "an invitation across a block");
}

async fn a_message_of_a_room_is_edited_and_retracted_for_every_member(bed: Bed) {
    let (here, there) = (Dm::start(&bed).await, Dm::start(&bed).await);
    let [kim, lee, park] = three(&bed).await;
    let room = create(&here, &kim, "lee").await["roomId"].clone();
    let (mut from, mut to) = (open(&here, &kim, "").await, open(&there, &lee, "").await);
    let mut ids = Vec::new();
    for text in ["first", "other"] {
        from.send(to_room(text, &room, text)).await;
        ids.push(message_id(&accepted(&mut from).await));
    }
    let id = ids[0].as_str();
    let joined = [("roomId", room.as_str().unwrap()), ("member", "park")];
    assert_eq!(here.post(&kim, "inviteRoom", &joined).await.0, StatusCode::OK);

    let edited = [("id", id), ("text", "second")];
    assert_eq!(
        change(&there, &lee, "editMessage", &edited).await,
        StatusCode::NOT_FOUND
    );
    let reaction = [("id", id), ("reaction", "🩷")];
    assert_eq!(
        change(&there, &park, "reactMessage", &reaction).await,
        StatusCode::NOT_FOUND,
        "sent before joining"
    );
    for _ in 0..2 {
        assert_eq!(change(&there, &kim, "editMessage", &edited).await, StatusCode::OK);
    }
    for socket in [&mut from, &mut to] {
        let edit = frame(socket, "edit").await;
        assert_eq!(
            (&edit["data"]["messageId"], &edit["data"]["text"], seq(&edit)),
            (&json!(id), &json!("second"), 3)
        );
    }
    assert_eq!(texts(&here, &lee, &room).await, ["other", "second"]);
    let history = format!("findMessageHistory?id={id}");
    assert_eq!(here.get(&lee, &history).await.1[0]["text"], "first");
    assert_eq!(
        here.get(&park, &history).await.0,
        StatusCode::NOT_FOUND,
        "sent before joining"
    );

    assert_eq!(
        change(&here, &lee, "cancelMessage", &[("id", id)]).await,
        StatusCode::NOT_FOUND
    );
    for _ in 0..2 {
        assert_eq!(
            change(&here, &kim, "cancelMessage", &[("id", id)]).await,
            StatusCode::OK
        );
    }
    for socket in [&mut from, &mut to] {
        let retract = frame(socket, "retract").await;
        assert_eq!((&retract["data"]["messageId"], seq(&retract)), (&json!(id), 4));
    }
    assert_eq!(texts(&there, &lee, &room).await, ["other", ""]);
    assert_eq!(here.get(&lee, &history).await.1, json!([]));
    assert_eq!(change(&here, &kim, "editMessage", &edited).await, StatusCode::CONFLICT);
    // A device that was offline.
    let mut late = open(&here, &lee, "&since=0").await;
    let mut topics = Vec::new();
    for _ in 0..4 {
        let shown = late.json().await;
        if shown["data"]["messageId"] == id || shown["id"] == id {
            assert_eq!(shown["data"]["text"].as_str().unwrap_or_default(), "", "{shown}");
        }
        topics.push(shown["topic"].as_str().unwrap().to_owned());
    }
    assert_eq!(topics, ["message", "message", "edit", "retract"]);

    // A sender who has left retracts a message, and changes nothing else.
    assert_eq!(here.post(&kim, "leaveRoom", &[joined[0]]).await.0, StatusCode::OK);
    let other = [("id", ids[1].as_str()), ("text", "changed")];
    assert_eq!(change(&here, &kim, "editMessage", &other).await, StatusCode::NOT_FOUND);
    assert_eq!(change(&here, &kim, "cancelMessage", &other[..1]).await, StatusCode::OK);
    assert_eq!(frame(&mut to, "retract").await["data"]["messageId"], ids[1]);
}

async fn reactions_in_a_room_are_seen_by_members_without_a_block(bed: Bed) {
    let (here, there) = (Dm::start(&bed).await, Dm::start(&bed).await);
    let [kim, lee, park] = three(&bed).await;
    let room = create(&here, &kim, "lee,park").await["roomId"].clone();
    bed.publish(RelationChanged {
        relation: Relation::Block,
        account: park.account.clone(),
        other: lee.account.clone(),
    })
    .await;
    let (mut from, mut to) = (open(&here, &kim, "").await, open(&there, &park, "").await);
    from.send(to_room("1", &room, "hello")).await;
    let id = message_id(&accepted(&mut from).await);
    frame(&mut to, "message").await;
    let react = async |who: &Person, reaction: &str| {
        let params = [("id", id.as_str()), ("reaction", reaction)];
        there.post(who, "reactMessage", &params).await
    };
    // Both replicas know the block once the direct message is refused.
    for dm in [&here, &there] {
        let mut blocked = open(dm, &lee, "").await;
        let mut number = 0;
        eventually("the block is known", async || {
            number += 1;
            blocked.send(typed(&format!("t{number}"), "park", "hello?")).await;
            loop {
                match blocked.json().await["topic"].as_str() {
                    Some("rejected") => break Some(()),
                    Some("accepted") => break None,
                    _ => {}
                }
            }
        })
        .await;
    }
    for (who, reaction) in [(&lee, "🩷"), (&park, "👍")] {
        for changed in [true, false] {
            let (status, body) = react(who, reaction).await;
            assert_eq!((status, &body["changed"]), (StatusCode::OK, &json!(changed)), "{body}");
        }
    }
    for (by, reaction) in [("lee", "🩷"), ("park", "👍")] {
        let data = frame(&mut from, "reaction").await["data"].clone();
        assert_eq!((&data["messageId"], &data["by"]), (&json!(id), &json!(by)));
        assert_eq!(data["reaction"], reaction);
    }
    assert_eq!(
        frame(&mut to, "reaction").await["data"]["by"],
        "park",
        "not the other one"
    );
    let seen = async |who: &Person| {
        let path = format!("findRoomMessage?roomId={}", room.as_str().unwrap());
        let (_, body) = here.get(who, &path).await;
        let reactions = body["content"][0]["reactions"].as_array().unwrap().clone();
        reactions
            .iter()
            .map(|it| it["by"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(seen(&kim).await, ["lee", "park"]);
    assert_eq!(
        (seen(&lee).await, seen(&park).await),
        (vec!["lee".to_owned()], vec!["park".to_owned()])
    );
    // A device that was offline has the message with its reactions.
    let again = frame(&mut open(&here, &park, "&since=0").await, "message").await;
    assert_eq!(again["data"]["reactions"], json!([{ "by": "park", "reaction": "👍" }]));

    assert_eq!(react(&park, "").await.1["changed"], true);
    assert_eq!(frame(&mut to, "reaction").await["data"]["reaction"], Value::Null);
    // A message of a person in a block takes no reaction.
    let mut blocked = open(&here, &lee, "").await;
    blocked.send(to_room("1", &room, "from lee")).await;
    let theirs = message_id(&accepted(&mut blocked).await);
    let reaction = [("id", theirs.as_str()), ("reaction", "🩷")];
    assert_eq!(
        change(&here, &park, "reactMessage", &reaction).await,
        StatusCode::NOT_FOUND
    );
    assert_eq!(change(&here, &kim, "reactMessage", &reaction).await, StatusCode::OK);
}

/// Frames that were stored before it left have the text of the message as it is now.
async fn a_member_who_has_left_reads_no_later_edit_by_resuming(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let [kim, lee, _] = three(&bed).await;
    let room = create(&dm, &kim, "lee").await["roomId"].clone();
    let mut from = open(&dm, &kim, "").await;
    from.send(to_room("first", &room, "first")).await;
    let id = message_id(&accepted(&mut from).await);
    assert_eq!(
        frame(&mut open(&dm, &lee, "&since=0").await, "message").await["data"]["text"],
        "first"
    );
    let of_room = [("roomId", room.as_str().unwrap()), ("member", "lee")];
    assert_eq!(dm.post(&lee, "leaveRoom", &of_room[..1]).await.0, StatusCode::OK);
    let edited = [("id", id.as_str()), ("text", "secret")];
    assert_eq!(change(&dm, &kim, "editMessage", &edited).await, StatusCode::OK);
    from.send(typed("direct", "lee", "to lee alone")).await;
    accepted(&mut from).await;
    for _ in 0..2 {
        let mut resumed = open(&dm, &lee, "&since=0").await;
        assert_eq!(frame(&mut resumed, "message").await["data"]["text"], "to lee alone");
        // A new membership does not begin with what was sent before it.
        let again = change(&dm, &kim, "inviteRoom", &of_room).await;
        assert!(again.is_success(), "{again}");
    }
}

async fn a_room_has_an_owner_and_a_bound(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let [kim, lee, park] = three(&bed).await;
    let room = create(&dm, &kim, "lee").await["roomId"].clone();
    let id = room.as_str().unwrap();
    let invitation = [("roomId", id), ("member", "park")];
    assert_eq!(dm.post(&lee, "inviteRoom", &invitation).await.0, StatusCode::NOT_FOUND);
    assert_eq!(dm.post(&park, "inviteRoom", &invitation).await.0, StatusCode::NOT_FOUND);
    assert_eq!(dm.post(&kim, "leaveRoom", &[("roomId", id)]).await.0, StatusCode::OK);
    let (status, body) = dm.post(&lee, "inviteRoom", &invitation).await;
    assert_eq!((status, &body["owner"]), (StatusCode::OK, &json!("lee")), "{body}");

    for (name, members, code) in [
        ("", "lee", 400),
        (" ", "lee", 400),
        (&*"가".repeat(51), "lee", 400),
        ("우리반", "nobody", 404),
    ] {
        let (status, body) = dm
            .post(&kim, "createRoom", &[("name", name), ("members", members)])
            .await;
        assert_eq!(status.as_u16(), code, "{name} {members}: {body}");
    }
    let many: Vec<_> = (0..100).map(|number| format!("p{number}")).collect();
    let (status, _) = dm
        .post(&kim, "createRoom", &[("name", "우리반"), ("members", &many.join(","))])
        .await;
    assert_eq!(status, StatusCode::CONFLICT);
    let mut socket = open(&dm, &kim, "").await;
    for (data, code) in [
        (json!({ "roomId": id, "text": "x" }), "room-unknown"),
        (json!({ "roomId": "no room", "text": "x" }), "room-unknown"),
    ] {
        socket
            .send(json!({ "topic": "message", "id": "1", "data": data }).to_string())
            .await;
        assert_eq!(frame(&mut socket, "rejected").await["data"]["code"], code);
    }
    for data in [
        json!({ "roomId": id, "receiver": "lee", "text": "x" }),
        json!({ "text": "x" }),
    ] {
        socket
            .send(json!({ "topic": "message", "id": "1", "data": data }).to_string())
            .await;
        assert_eq!(frame(&mut socket, "error").await["data"]["code"], "invalid-frame");
    }
}

async fn a_resignation_takes_a_person_out_of_rooms(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let [kim, lee, park] = three(&bed).await;
    let room = create(&dm, &kim, "lee,park").await["roomId"].clone();
    let (mut one, mut other) = (open(&dm, &kim, "").await, open(&dm, &lee, "").await);
    one.send(to_room("1", &room, "from kim")).await;
    accepted(&mut one).await;
    other.send(to_room("1", &room, "from lee")).await;
    accepted(&mut other).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    bed.forget(&kim);
    bed.publish(AccountResigned {
        account: kim.account.clone(),
        nickname: "kim".to_owned(),
    })
    .await;
    eventually("the messages are erased", async || {
        (texts(&dm, &park, &room).await == ["from lee"]).then_some(())
    })
    .await;
    let (_, rooms) = dm.get(&park, "rooms").await;
    assert_eq!(
        (&rooms[0]["owner"], &rooms[0]["members"]),
        (&json!("lee"), &json!(["lee", "park"]))
    );
    other.send(to_room("2", &room, "still here")).await;
    assert_eq!(accepted(&mut other).await["data"]["seq"], 3);
    assert_eq!(dm.get(&park, "rooms").await.1[0]["unread"], 2);
}

async fn notice_learns_who_gets_a_push_and_what_was_shown_read_and_left(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let [kim, lee, park] = three(&bed).await;
    let (mut posted, mut shown, mut read) = (room_messages(&bed).await, receipts(&bed).await, receipts(&bed).await);
    let room = create(&dm, &kim, "lee,park").await["roomId"].clone();
    let (mut from, mut to) = (open(&dm, &kim, "").await, open(&dm, &lee, "").await);
    from.send(to_room("1", &room, "안녕")).await;
    let id = message_id(&accepted(&mut from).await);
    let push = next_push(&mut posted).await;
    assert_eq!(
        (&push.sender, push.nickname.as_str(), push.room_name.as_str()),
        (&kim.account, "kim", "우리반")
    );
    assert_eq!((push.text.as_str(), push.number), ("안녕", 1));
    assert_eq!(push.receivers, [lee.account.clone(), park.account.clone()]);

    let first = frame(&mut to, "message").await;
    to.send(json!({ "topic": "ack", "seq": seq(&first) }).to_string()).await;
    let of_lee = RoomMessageSent::push_id(id.parse().expect("an id"), &lee.account);
    assert_eq!(next_shown(&mut shown, &lee).await, [of_lee.to_string()]);

    let reading = |frame: &Value| json!({ "topic": "read", "seq": seq(frame), "data": { "roomId": room } }).to_string();
    for _ in 0..2 {
        to.send(reading(&first)).await;
    }
    let path = [("roomId", room.as_str().unwrap())];
    assert_eq!(dm.post(&park, "leaveRoom", &path).await.0, StatusCode::OK);
    from.send(to_room("2", &room, "again")).await;
    let second = shown_text(&mut to, "again").await;
    assert_eq!(
        next_push(&mut posted).await.receivers,
        std::slice::from_ref(&lee.account),
        "park has left"
    );
    to.send(reading(&second)).await;

    let (mut of_lee, mut of_park) = (Vec::new(), Vec::new());
    while of_lee.last() != Some(&2) || of_park.is_empty() {
        let record = tokio::time::timeout(PATIENCE, read.next()).await;
        let receipt = Envelope::<MessageReceipt>::decode(&record.expect("a receipt comes").expect("the bus reads"));
        let Envelope { event: receipt, meta } = receipt.expect("the event is one");
        if let ReceiptProgress::ReadRoom { room: of, number } = receipt.progress {
            assert!(
                meta.authorized_at.is_some(),
                "when the reader's access token was issued"
            );
            assert_eq!(of, room.as_str().unwrap());
            let numbers = if receipt.reader == lee.account {
                &mut of_lee
            } else {
                &mut of_park
            };
            numbers.push(number);
        }
    }
    assert_eq!((of_lee, of_park), (vec![1, 2], vec![1]));
}

async fn shown_text(socket: &mut Socket, text: &str) -> Value {
    shown(socket, |frame| frame["data"]["text"] == text).await
}
