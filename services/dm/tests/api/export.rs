//! A person's own messages as data.

use reqwest::StatusCode;
use serde_json::{Value, json};
use sosohappy_testkit::{Bed, Person, on_both_engines};

use super::stream::{frame, open, typed};
use super::{Dm, two};

on_both_engines!(a_person_exports_own_messages_and_no_others);

async fn exported(dm: &Dm, who: &Person) -> (Vec<Value>, Vec<Value>) {
    let (mut messages, mut in_rooms) = (Vec::new(), Vec::new());
    let mut cursor = "start".to_owned();
    loop {
        let (status, body) = dm.get(who, &format!("export?cursor={cursor}")).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        assert_eq!(body["version"], 1);
        messages.extend(body["messages"].as_array().unwrap().clone());
        in_rooms.extend(body["roomMessages"].as_array().unwrap().clone());
        match body["nextCursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => return (messages, in_rooms),
        }
    }
}

async fn a_person_exports_own_messages_and_no_others(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, lee) = two(&bed).await;
    let park = bed.person("park@example.com+google", "park").await;
    let (mut one, mut other) = (open(&dm, &kim, "").await, open(&dm, &lee, "").await);
    for (is_own, to, text) in [
        (true, "lee", "sent"),
        (false, "kim", "received"),
        (false, "park", "of others"),
    ] {
        let socket = if is_own { &mut one } else { &mut other };
        socket.send(typed(text, to, text)).await;
        frame(socket, "accepted").await;
    }
    let (_, room) = dm
        .post(&kim, "createRoom", &[("name", "우리반"), ("members", "lee")])
        .await;
    for (socket, text) in [(&mut one, "mine"), (&mut other, "theirs")] {
        let data = json!({ "roomId": room["roomId"], "text": text });
        socket
            .send(json!({ "topic": "message", "id": text, "data": data }).to_string())
            .await;
        frame(socket, "accepted").await;
    }
    let (messages, in_rooms) = exported(&dm, &kim).await;
    let texts = |messages: &[Value]| messages.iter().map(|it| it["text"].clone()).collect::<Vec<_>>();
    assert_eq!(texts(&messages), ["received", "sent"]);
    assert_eq!(
        (&messages[1]["sender"], &messages[1]["receiver"]),
        (&json!("kim"), &json!("lee"))
    );
    assert_eq!(texts(&in_rooms), ["mine"]);
    let (messages, in_rooms) = exported(&dm, &park).await;
    assert_eq!((texts(&messages), in_rooms.len()), (vec![json!("of others")], 0));
    let (status, _) = dm.get(&kim, "export?cursor=elsewhere").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, _) = dm.get(&kim, "export?cursor=rooms:elsewhere").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}
