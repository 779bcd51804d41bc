//! Retracting, editing, reacting, and the states of one's own messages.

use futures::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};
use sosohappy_bus::Start;
use sosohappy_events::Topic;
use sosohappy_testkit::{Bed, PATIENCE, Person, on_both_engines};

use super::stream::{frame, open, seq, typed};
use super::{Dm, two};

on_both_engines!(
    a_retracted_message_is_gone_for_both,
    edits_and_reactions_are_delivered_and_kept,
    changes_need_the_right_to_make_them,
    the_states_of_ones_own_messages,
);

async fn changed(dm: &Dm, who: &Person, call: &str, params: &[(&str, &str)]) -> Value {
    let (status, body) = dm.post(who, call, params).await;
    assert_eq!(status, StatusCode::OK, "{call}: {body}");
    body["changed"].clone()
}

async fn page(dm: &Dm, who: &Person, with: &str) -> Value {
    let params = [
        ("sender", who.nickname.as_str()),
        ("receiver", with),
        ("cursor", "start"),
    ];
    let (status, body) = dm.post(who, "findDirectMessage", &params).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(body["nextCursor"], Value::Null);
    body["content"].clone()
}

async fn a_retracted_message_is_gone_for_both(bed: Bed) {
    let (here, there) = (Dm::start(&bed).await, Dm::start(&bed).await);
    let (kim, lee) = two(&bed).await;
    let (mut from, mut to) = (open(&here, &kim, "").await, open(&there, &lee, "").await);
    let mut events = bed.bus.read(&[Topic::MessageChange], Start::Earliest).await.unwrap();
    from.send(typed("1", "lee", "a slip")).await;
    let id = frame(&mut from, "accepted").await["data"]["messageId"]
        .as_str()
        .unwrap()
        .to_owned();
    let id = id.as_str();
    let first = frame(&mut to, "message").await;
    assert_eq!(changed(&here, &kim, "cancelMessage", &[("id", id)]).await, true);
    for socket in [&mut to, &mut from] {
        let retract = frame(socket, "retract").await;
        assert_eq!(
            (&retract["data"]["messageId"], seq(&retract)),
            (&json!(id), seq(&first) + 1)
        );
    }
    let record = tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap();
    let event: Value = serde_json::from_str(record.value_text().unwrap()).unwrap();
    assert_eq!((&event["message"], &event["change"]), (&json!(id), &json!("retracted")));

    assert_eq!(changed(&there, &kim, "cancelMessage", &[("id", id)]).await, false);
    let tombstone = page(&there, &lee, "kim").await[0].clone();
    assert_eq!((&tombstone["id"], &tombstone["text"]), (&json!(id), &json!("")));
    assert!(tombstone["retractedAt"].is_string(), "{tombstone}");
    assert_eq!(here.history(&lee, "kim").await[0]["text"], "삭제된 메시지입니다.");
    // A client that was offline finds no text either.
    let mut late = open(&here, &lee, "&since=0").await;
    let late = late.json().await;
    assert_eq!((&late["topic"], &late["data"]["text"]), (&json!("message"), &json!("")));
    let (status, body) = here.post(&kim, "editMessage", &[("id", id), ("text", "again")]).await;
    assert_eq!(
        (status, &body["code"]),
        (StatusCode::CONFLICT, &json!("message-retracted"))
    );
}

async fn edits_and_reactions_are_delivered_and_kept(bed: Bed) {
    let (here, there) = (Dm::start(&bed).await, Dm::start(&bed).await);
    let (kim, lee) = two(&bed).await;
    let (mut from, mut to) = (open(&here, &kim, "").await, open(&there, &lee, "").await);
    from.send(typed("1", "lee", "first")).await;
    let id = frame(&mut from, "accepted").await["data"]["messageId"]
        .as_str()
        .unwrap()
        .to_owned();
    let id = id.as_str();
    for text in ["second", "third", "third"] {
        let is_new = changed(&here, &kim, "editMessage", &[("id", id), ("text", text)]).await;
        if is_new == true {
            let edit = frame(&mut to, "edit").await;
            assert_eq!(
                (&edit["data"]["messageId"], &edit["data"]["text"]),
                (&json!(id), &json!(text))
            );
        }
    }
    let (_, former) = here.get(&lee, &format!("findMessageHistory?id={id}")).await;
    let texts: Vec<&Value> = former
        .as_array()
        .unwrap()
        .iter()
        .map(|former| &former["text"])
        .collect();
    assert_eq!(texts, ["first", "second"]);

    for (who, reaction) in [(&lee, "🩷"), (&kim, "😀"), (&lee, "👍"), (&kim, "")] {
        assert_eq!(
            changed(&there, who, "reactMessage", &[("id", id), ("reaction", reaction)]).await,
            true
        );
        let told = frame(&mut from, "reaction").await;
        assert_eq!(told["data"]["by"], who.nickname);
        assert_eq!(told["data"]["reaction"].as_str().unwrap_or_default(), reaction);
    }
    assert_eq!(
        changed(&here, &lee, "reactMessage", &[("id", id), ("reaction", "👍")]).await,
        false
    );
    let message = page(&here, &kim, "lee").await[0].clone();
    assert_eq!(message["reactions"], json!([{ "by": "lee", "reaction": "👍" }]));
    assert_eq!(message["text"], "third");
    assert!(message["editedAt"].is_string(), "{message}");
    assert_eq!(there.history(&lee, "kim").await[0]["text"], "third");

    // Two changes at once: each is made once.
    let at_once = (0..6).map(|number| {
        let (dm, id) = (if number % 2 == 0 { &here } else { &there }, id);
        let (kim, text) = (&kim, format!("edit {number}"));
        async move { changed(dm, kim, "editMessage", &[("id", id), ("text", &text)]).await }
    });
    for made in join_all(at_once).await {
        assert_eq!(made, true);
    }
    let (_, former) = there.get(&kim, &format!("findMessageHistory?id={id}")).await;
    assert_eq!(former.as_array().map(Vec::len), Some(8), "{former}");
    for _ in 0..6 {
        frame(&mut to, "edit").await;
    }
}

async fn changes_need_the_right_to_make_them(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, lee) = two(&bed).await;
    let park = bed.person("park@example.com+google", "park").await;
    let mut from = open(&dm, &kim, "").await;
    from.send(typed("1", "lee", "mine")).await;
    let id = frame(&mut from, "accepted").await["data"]["messageId"]
        .as_str()
        .unwrap()
        .to_owned();
    let id = id.as_str();
    for (who, call, params, status, code) in [
        (&lee, "cancelMessage", vec![("id", id)], 404, "message-unknown"),
        (
            &lee,
            "editMessage",
            vec![("id", id), ("text", "theirs")],
            404,
            "message-unknown",
        ),
        (
            &park,
            "reactMessage",
            vec![("id", id), ("reaction", "👍")],
            404,
            "message-unknown",
        ),
        (
            &kim,
            "editMessage",
            vec![("id", id), ("text", " ")],
            400,
            "invalid-parameter",
        ),
        (
            &kim,
            "reactMessage",
            vec![("id", id), ("reaction", "ab")],
            400,
            "invalid-parameter",
        ),
        (&kim, "cancelMessage", vec![("id", "none")], 404, "message-unknown"),
        (&kim, "cancelMessage", vec![], 400, "invalid-parameter"),
    ] {
        let (answer, body) = dm.post(who, call, &params).await;
        assert_eq!(
            (answer.as_u16(), &body["code"]),
            (status, &json!(code)),
            "{call} {params:?}: {body}"
        );
    }
    assert_eq!(
        dm.get(&park, &format!("findMessageHistory?id={id}")).await.0,
        StatusCode::NOT_FOUND
    );
    assert_eq!(page(&dm, &lee, "kim").await[0]["text"], "mine");
}

async fn the_states_of_ones_own_messages(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, lee) = two(&bed).await;
    bed.person("park@example.com+google", "park").await;
    let (mut from, mut to) = (open(&dm, &kim, "").await, open(&dm, &lee, "").await);
    let mut ids = Vec::new();
    for (number, receiver) in [(1, "lee"), (2, "lee"), (3, "park"), (4, "park")] {
        from.send(typed(&number.to_string(), receiver, &number.to_string()))
            .await;
        ids.push(
            frame(&mut from, "accepted").await["data"]["messageId"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    frame(&mut to, "message").await;
    let second = frame(&mut to, "message").await;
    to.send(json!({ "topic": "ack", "seq": seq(&second) }).to_string())
        .await;
    frame(&mut from, "receipt").await;
    dm.post(&lee, "markRead", &[("receiver", "kim"), ("messageId", &ids[0])])
        .await;
    changed(&dm, &kim, "cancelMessage", &[("id", &ids[3])]).await;
    let states = async |query: &str| {
        let (status, body) = dm.get(&kim, &format!("myMessages{query}")).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let content = body["content"].as_array().unwrap().clone();
        let found: Vec<String> = content
            .iter()
            .map(|it| format!("{} {}", it["number"], it["state"].as_str().unwrap()))
            .collect();
        (found, body["nextCursor"].clone())
    };
    let (all, next) = states("").await;
    assert_eq!(all, ["2 retracted", "1 stored", "2 delivered", "1 read"]);
    assert_eq!(next, Value::Null);
    for (state, expected) in [("retracted", "2"), ("stored", "1"), ("delivered", "2"), ("read", "1")] {
        let (found, _) = states(&format!("?state={state}")).await;
        assert_eq!(found, [format!("{expected} {state}")]);
    }
    let (first, next) = states("?size=3").await;
    assert_eq!(first, all[..3]);
    let (rest, next) = states(&format!("?size=3&cursor={}", next.as_str().unwrap())).await;
    assert_eq!((rest.as_slice(), next), (&all[3..], Value::Null));
    assert_eq!(dm.get(&kim, "myMessages?state=lost").await.0, StatusCode::BAD_REQUEST);
}
