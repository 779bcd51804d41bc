//! Requests: the first messages between two people who do not follow each other wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sosohappy_bus::Start;
use sosohappy_events::types::{DirectMessageSent, FollowChanged, NoticeRaised, Relation, RelationChanged};
use sosohappy_events::{Envelope, Topic};
use sosohappy_testkit::{Bed, EngineSet, HeldBus, PATIENCE, Person, eventually, on_both_engines};
use tokio::net::TcpListener;

use super::stream::{frame, open, seq, typed};
use super::{DATE, Dm, message, two};

on_both_engines!(
    messages_wait_until_the_request_is_accepted,
    a_refused_request_ends_the_conversation_until_the_receiver_writes,
    friends_and_earlier_conversations_need_no_request,
    an_answer_accepts_the_request_in_order,
    messages_that_cross_an_acceptance_arrive_in_order,
    an_answer_is_refused_until_the_messages_that_wait_can_be_released,
    switched_off_requests_keep_the_order_of_the_conversation,
    a_request_shows_the_asker_as_last_known_while_auth_is_unavailable,
    requests_are_off_by_default_and_switched_off_they_are_accepted,
    a_request_with_a_corrupt_message_delays_no_other,
    a_request_in_a_state_of_a_later_release_waits_for_it,
    nothing_waits_beside_a_spring_dm,
);

const ON: (&str, &str) = ("messages.requests", "true");

async fn requests(dm: &Dm, who: &Person) -> Vec<Value> {
    let (status, body) = dm.get(who, "findRequest").await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body["content"].as_array().unwrap().clone()
}

async fn decide(dm: &Dm, who: &Person, call: &str, id: &Value) -> (StatusCode, Value) {
    dm.post(who, call, &[("id", id.as_str().unwrap())]).await
}

/// Returns the text of the next notice of an account with the topic `request`.
async fn notice(bed: &Bed, who: &Person) -> Value {
    let mut notices = bed.bus.read(&[Topic::Notice], Start::Earliest).await.unwrap();
    loop {
        let record = tokio::time::timeout(PATIENCE, notices.next()).await;
        let record = record.expect("a notice comes").expect("the bus reads");
        let Envelope { event: notice, meta } = Envelope::<NoticeRaised>::decode(&record).unwrap();
        if notice.receiver == who.account && notice.topic == "request" {
            assert!(
                meta.authorized_at.is_some(),
                "when the access token of who decided was issued"
            );
            return notice.data;
        }
    }
}

async fn messages_wait_until_the_request_is_accepted(bed: Bed) {
    let (here, there) = (Dm::start_with(&bed, &[ON]).await, Dm::start_with(&bed, &[ON]).await);
    let (kim, lee) = two(&bed).await;
    let mut published = bed.bus.read(&[Topic::DirectMessage], Start::Earliest).await.unwrap();
    let (mut from, mut own) = (open(&here, &kim, "").await, open(&there, &kim, "").await);
    let mut own_old = there.connect(&kim).await;
    let (mut to, mut old) = (open(&there, &lee, "").await, there.connect(&lee).await);
    let mut ids = Vec::new();
    for number in 1..=3 {
        from.send(typed(&format!("c{number}"), "lee", &format!("text {number}")))
            .await;
        let accepted = frame(&mut from, "accepted").await;
        assert_eq!(accepted["data"]["seq"], number, "{accepted}");
        ids.push(accepted["data"]["messageId"].clone());
        let sent = frame(&mut own, "message").await;
        assert_eq!(sent["id"], ids[ids.len() - 1], "the sender's other devices have it");
        assert_eq!(own_old.json().await["text"], format!("text {number}"));
    }
    let told = frame(&mut to, "request").await;
    assert_eq!(
        (&told["data"]["state"], &told["data"]["sender"]),
        (&json!("asked"), &json!("kim"))
    );

    // Nothing shows them to the receiver, and nothing is pushed.
    assert!(old.silent_for(Duration::from_millis(300)).await);
    assert_eq!(there.history(&lee, "kim").await, json!([]));
    assert_eq!(there.newest(&lee).await, json!([]));
    let (_, unread) = there.get(&lee, "unreadCount").await;
    assert_eq!(unread["count"], 0);
    let (_, found) = there.get(&lee, "searchMessages?text=text").await;
    assert_eq!(found["content"], json!([]));
    let (status, _) = there.post(&lee, "markRead", &[("receiver", "kim")]).await;
    assert_eq!(status, StatusCode::OK);
    let reaction = [("id", ids[0].as_str().unwrap()), ("reaction", "🩷")];
    assert_eq!(
        there.post(&lee, "reactMessage", &reaction).await.0,
        StatusCode::NOT_FOUND
    );
    let (_, mine) = here.get(&kim, "myMessages").await;
    let stages: Vec<_> = mine["content"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["state"].clone())
        .collect();
    assert_eq!(stages, [json!("stored"), json!("stored"), json!("stored")]);
    assert_eq!(here.history(&kim, "lee").await.as_array().map(Vec::len), Some(3));

    let found = requests(&there, &lee).await;
    assert_eq!(found.len(), 1, "one request of three messages");
    let asker = &found[0]["asker"];
    assert_eq!((&asker["nickname"], &asker["isLive"]), (&json!("kim"), &json!(true)));
    assert_eq!(asker["introduction"], "kim입니다");
    assert_eq!(found[0]["message"]["text"], "text 3");
    assert!(requests(&there, &kim).await.is_empty(), "nobody else sees it");
    let (status, _) = decide(&here, &kim, "acceptRequest", &found[0]["id"]).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "only the receiver decides");

    let (status, body) = decide(&here, &lee, "acceptRequest", &found[0]["id"]).await;
    assert_eq!(
        (status, &body["state"], &body["changed"]),
        (StatusCode::OK, &json!("accepted"), &json!(true))
    );
    for (number, id) in (1..).zip(&ids) {
        let shown = frame(&mut to, "message").await;
        assert_eq!(
            (&shown["id"], seq(&shown), &shown["data"]["number"]),
            (id, number, &json!(number))
        );
        assert_eq!(old.json().await["text"], format!("text {number}"));
        let record = tokio::time::timeout(PATIENCE, published.next()).await.unwrap().unwrap();
        let event = Envelope::<DirectMessageSent>::decode(&record).unwrap().event;
        assert_eq!((event.message_id.as_deref(), event.released), (id.as_str(), true));
    }
    let data = notice(&bed, &kim).await;
    assert_eq!((&data["state"], &data["nickname"]), (&json!("accepted"), &json!("lee")));
    let told = frame(&mut from, "request").await;
    assert_eq!(told["data"]["state"], "accepted");
    let (_, again) = decide(&there, &lee, "acceptRequest", &found[0]["id"]).await;
    assert_eq!(again["changed"], false);
    assert!(requests(&there, &lee).await.is_empty());
    assert_eq!(
        decide(&there, &lee, "refuseRequest", &found[0]["id"]).await.0,
        StatusCode::CONFLICT
    );
    let (_, unread) = there.get(&lee, "unreadCount").await;
    assert_eq!(unread["count"], 3);

    // The next one does not wait; the sender's old socket has seen each once.
    from.send(typed("c4", "lee", "text 4")).await;
    assert_eq!(frame(&mut to, "message").await["data"]["number"], 4);
    assert_eq!(own_old.json().await["text"], "text 4");
    assert_eq!(old.json().await["text"], "text 4");
    assert_eq!(there.history(&lee, "kim").await.as_array().map(Vec::len), Some(4));
}

async fn a_refused_request_ends_the_conversation_until_the_receiver_writes(bed: Bed) {
    let dm = Dm::start_with(&bed, &[ON]).await;
    let (kim, lee) = two(&bed).await;
    let (mut from, mut to) = (open(&dm, &kim, "").await, open(&dm, &lee, "").await);
    from.send(typed("1", "lee", "hello")).await;
    frame(&mut from, "accepted").await;
    let found = requests(&dm, &lee).await;
    let (status, body) = decide(&dm, &lee, "refuseRequest", &found[0]["id"]).await;
    assert_eq!((status, &body["state"]), (StatusCode::OK, &json!("refused")));
    assert_eq!(notice(&bed, &kim).await["state"], "refused");
    assert!(requests(&dm, &lee).await.is_empty());
    from.send(typed("2", "lee", "please")).await;
    assert_eq!(frame(&mut from, "rejected").await["data"]["code"], "not-delivered");
    assert_eq!(dm.history(&lee, "kim").await, json!([]));
    assert_eq!(dm.history(&kim, "lee").await.as_array().map(Vec::len), Some(1));

    to.send(typed("3", "kim", "hello after all")).await;
    // The frames of the messages may come before and after `accepted`.
    let (mut texts, mut is_accepted) = (Vec::new(), false);
    while texts.len() < 2 || !is_accepted {
        let frame = to.json().await;
        match frame["topic"].as_str() {
            Some("message") => texts.push(frame["data"]["text"].clone()),
            Some("accepted") => is_accepted = true,
            // The first one cannot be released yet.
            Some("error") => to.send(typed("3", "kim", "hello after all")).await,
            _ => {}
        }
    }
    assert_eq!(texts, ["hello", "hello after all"]);
    from.send(typed("4", "lee", "welcome")).await;
    assert_eq!(frame(&mut from, "accepted").await["id"], "4");
}

async fn friends_and_earlier_conversations_need_no_request(bed: Bed) {
    let (kim, lee) = two(&bed).await;
    let park = bed.person("park@example.com+google", "park").await;
    let dm = Dm::start(&bed).await;
    let mut from = open(&dm, &kim, "").await;
    from.send(typed("1", "park", "before requests")).await;
    frame(&mut from, "accepted").await;
    dm.running.stop().await;

    let dm = Dm::start_with(&bed, &[ON]).await;
    for (account, other) in [(&kim, &lee), (&lee, &kim)] {
        bed.publish(RelationChanged {
            relation: Relation::Follow,
            account: account.account.clone(),
            other: other.account.clone(),
        })
        .await;
    }
    let mut from = open(&dm, &kim, "").await;
    let mut to = open(&dm, &park, "").await;
    from.send(typed("2", "park", "with requests")).await;
    assert_eq!(frame(&mut to, "message").await["data"]["number"], 2);
    assert_eq!(frame(&mut from, "accepted").await["id"], "2");
    // What was asked before the friendship is known is accepted by it.
    let mut to = open(&dm, &lee, "&since=0").await;
    let mut number = 0;
    eventually("the friendship is known", async || {
        number += 1;
        from.send(typed(&format!("f{number}"), "lee", &format!("text {number}")))
            .await;
        loop {
            match from.json().await["topic"].as_str() {
                Some("accepted") => break,
                Some("rejected" | "error") => return None,
                _ => {}
            }
        }
        requests(&dm, &lee).await.is_empty().then_some(())
    })
    .await;
    let first = frame(&mut to, "message").await;
    assert_eq!((&first["data"]["text"], seq(&first)), (&json!("text 1"), 1));

    people_who_have_to_ask_first_invite_into_no_room(&bed, &dm, &kim).await;

    // A friendship delivers what waits without a further message.
    let (mut from, mut to) = (open(&dm, &lee, "").await, open(&dm, &park, "").await);
    from.send(typed("g1", "park", "from lee")).await;
    frame(&mut from, "accepted").await;
    assert_eq!(requests(&dm, &park).await.len(), 1);
    bed.publish(FollowChanged {
        follower: park.account.clone(),
        followed: lee.account.clone(),
        following: true,
        friends: true,
    })
    .await;
    assert_eq!(frame(&mut to, "message").await["data"]["text"], "from lee");
    assert!(requests(&dm, &park).await.is_empty());
}

/// Kim is a friend of lee's, and has a conversation with park.
async fn people_who_have_to_ask_first_invite_into_no_room(bed: &Bed, dm: &Dm, kim: &Person) {
    let jo = bed.person("jo@example.com+google", "jo").await;
    let create = async |members: &str| {
        let params = [("name", "우리반"), ("members", members)];
        dm.post(kim, "createRoom", &params).await
    };
    let (status, room) = create("lee,park").await;
    assert_eq!(
        (status, &room["members"]),
        (StatusCode::OK, &json!(["kim", "lee", "park"]))
    );
    let invite = async || {
        let params = [("roomId", room["roomId"].as_str().unwrap()), ("member", "jo")];
        dm.post(kim, "inviteRoom", &params).await
    };
    let refused = async || {
        for (status, problem) in [create("lee,jo").await, invite().await] {
            assert_eq!(
                (status, &problem["code"]),
                (StatusCode::NOT_FOUND, &json!("nickname-unknown"))
            );
        }
    };
    refused().await;
    let mut from = open(dm, kim, "").await;
    from.send(typed("to-jo", "jo", "hello")).await;
    frame(&mut from, "accepted").await;
    refused().await;
    let (_, rooms) = dm.get(&jo, "rooms").await;
    assert_eq!(rooms, json!([]));
    let id = requests(dm, &jo).await[0]["id"].clone();
    let (status, body) = decide(dm, &jo, "acceptRequest", &id).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let (status, room) = invite().await;
    assert_eq!(
        (status, &room["members"]),
        (StatusCode::OK, &json!(["kim", "lee", "park", "jo"]))
    );
}

async fn an_answer_accepts_the_request_in_order(bed: Bed) {
    let (here, there) = (Dm::start_with(&bed, &[ON]).await, Dm::start_with(&bed, &[ON]).await);
    let (kim, lee) = two(&bed).await;
    let mut from = here.connect(&kim).await;
    for number in 0..5 {
        from.send(message("kim", "lee", DATE + number, &format!("text {number}")).to_string())
            .await;
    }
    eventually("the messages wait", async || {
        (here.history(&kim, "lee").await.as_array()?.len() == 5).then_some(())
    })
    .await;
    let mut to = open(&there, &lee, "").await;
    to.send(typed("1", "kim", "answer")).await;
    let mut texts = Vec::new();
    while texts.len() < 6 {
        let shown = to.json().await;
        match shown["topic"].as_str() {
            Some("message") => {
                assert_eq!(shown["data"]["number"].as_u64(), u64::try_from(texts.len() + 1).ok());
                texts.push(shown["data"]["text"].as_str().unwrap().to_owned());
            }
            // Those that wait cannot be released yet.
            Some("error") => to.send(typed("1", "kim", "answer")).await,
            _ => {}
        }
    }
    assert_eq!(texts, ["text 0", "text 1", "text 2", "text 3", "text 4", "answer"]);
    assert_eq!(
        from.json().await["text"],
        "answer",
        "its own messages are not shown to the sender again"
    );
}

/// Each is stored before or after the decision, at another replica.
async fn messages_that_cross_an_acceptance_arrive_in_order(bed: Bed) {
    const MESSAGES: usize = 12;
    let (here, there) = (Dm::start_with(&bed, &[ON]).await, Dm::start_with(&bed, &[ON]).await);
    let (kim, lee) = two(&bed).await;
    let mut from = open(&here, &kim, "").await;
    let send = |number: usize| typed(&format!("c{number}"), "lee", &format!("text {number}"));
    from.send(send(0)).await;
    frame(&mut from, "accepted").await;
    let id = requests(&there, &lee).await[0]["id"].clone();
    let sending = async {
        for number in 1..MESSAGES {
            from.send(send(number)).await;
        }
    };
    let ((), (status, body)) = futures::join!(sending, decide(&there, &lee, "acceptRequest", &id));
    assert_eq!(status, StatusCode::OK, "{body}");
    let mut accepted = std::collections::HashSet::from(["c0".to_owned()]);
    while accepted.len() < MESSAGES {
        let answer = from.json().await;
        let id = answer["id"].as_str().unwrap_or_default().to_owned();
        match answer["topic"].as_str() {
            Some("accepted") => _ = accepted.insert(id),
            // Those that wait cannot be released yet.
            Some("error") => {
                let number: usize = id[1..].parse().unwrap();
                from.send(send(number)).await;
            }
            Some("rejected") => panic!("{answer}"),
            _ => {}
        }
    }
    let mut to = open(&there, &lee, "&since=0").await;
    for number in 1..=MESSAGES {
        let shown = frame(&mut to, "message").await;
        assert_eq!(shown["data"]["number"], number, "{shown}");
    }
}

async fn an_answer_is_refused_until_the_messages_that_wait_can_be_released(bed: Bed) {
    an_answer_comes_after_the_messages_that_wait(&bed, &[ON]).await;
}

async fn switched_off_requests_keep_the_order_of_the_conversation(bed: Bed) {
    an_answer_comes_after_the_messages_that_wait(&bed, &[]).await;
}

/// On MongoDB a message that waits is released after the event has been published that it was stored with. The replica with these settings
/// takes the answer.
async fn an_answer_comes_after_the_messages_that_wait(bed: &Bed, settings: &[(&str, &str)]) {
    let bus = HeldBus::unpublished(bed.bus.clone(), Topic::MessageRequest);
    let asking = Dm::start_on(bed, bus.clone(), &[ON]).await;
    let (kim, lee) = two(bed).await;
    let mut from = open(&asking, &kim, "").await;
    for number in 0..2 {
        from.send(typed(&format!("c{number}"), "lee", &format!("text {number}")))
            .await;
        frame(&mut from, "accepted").await;
    }
    let dm = Dm::start_on(bed, bus.clone(), settings).await;
    let mut to = open(&dm, &lee, "").await;
    let mut answer = async || {
        to.send(typed("1", "kim", "answer")).await;
        loop {
            let frame = to.json().await;
            match frame["topic"].as_str() {
                Some("accepted") => return None,
                Some("error") => return Some(frame["data"]["code"].clone()),
                _ => {}
            }
        }
    };
    let refused = answer().await;
    if bed.set == EngineSet::Real {
        assert_eq!(refused, Some(json!("unavailable")));
        let (_, sent) = dm.get(&lee, "myMessages").await;
        assert_eq!(sent["content"], json!([]), "nothing of the refused message is stored");
    } else {
        assert_eq!(refused, None, "SQLite keeps events in the order of the messages");
    }
    bus.release();
    if refused.is_some() {
        eventually("the answer is accepted", async || {
            answer().await.is_none().then_some(())
        })
        .await;
    }
    let mut again = open(&dm, &lee, "&since=0").await;
    for (number, text) in (1..).zip(["text 0", "text 1", "answer"]) {
        let shown = frame(&mut again, "message").await;
        assert_eq!(
            (&shown["data"]["number"], &shown["data"]["text"]),
            (&json!(number), &json!(text))
        );
    }
    assert_eq!(dm.history(&kim, "lee").await.as_array().map(Vec::len), Some(3));
}

async fn a_request_shows_the_asker_as_last_known_while_auth_is_unavailable(bed: Bed) {
    let settings = [ON];
    let dm = Dm::start_with(&bed, &settings).await;
    let (kim, lee) = two(&bed).await;
    let mut from = open(&dm, &kim, "").await;
    from.send(typed("1", "lee", "hello")).await;
    frame(&mut from, "accepted").await;
    assert_eq!(requests(&dm, &lee).await[0]["asker"]["isLive"], true);
    dm.running.stop().await;
    let (url, asked) = silent_auth().await;
    let silent = [
        ON,
        ("access.auth-url", url.as_str()),
        ("access.introspection-timeout", "300ms"),
    ];
    let dm = Dm::start_with(&bed, &silent).await;
    let shown = eventually("the token is known", async || {
        let (status, body) = dm.get(&lee, "findRequest").await;
        (status == StatusCode::OK).then(|| body["content"][0]["asker"].clone())
    })
    .await;
    assert_eq!(
        shown,
        json!({ "nickname": "kim", "introduction": "kim입니다", "isLive": false })
    );
    // A call waits for auth for a short time. After some in a row, auth is not asked for a while.
    let (mut is_in_time, mut is_spared) = (false, false);
    eventually("calls end in time, and spare auth", async || {
        let (before, began) = (asked.load(Ordering::SeqCst), Instant::now());
        assert_eq!(requests(&dm, &lee).await[0]["asker"]["isLive"], false);
        if asked.load(Ordering::SeqCst) == before {
            is_spared = true;
        } else {
            is_in_time |= began.elapsed() <= Duration::from_secs(1);
        }
        (is_in_time && is_spared).then_some(())
    })
    .await;
}

/// Listens as auth, and never answers. Returns its URL and the number of its connections: a call that was given up closes its own.
async fn silent_auth() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    tokio::spawn(async move {
        let mut connections = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            connections.push(connection);
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    (url, asked)
}

async fn requests_are_off_by_default_and_switched_off_they_are_accepted(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let switch = async |is_on: bool| {
        let values = [("messages.requests".to_owned(), json!(is_on))];
        let refreshed = dm.running.context.settings.set(values.into_iter().collect()).await;
        let refreshed = refreshed.expect("settings are attached").expect("the setting is valid");
        assert_eq!(refreshed.needs_restart, Vec::<String>::new());
    };
    let (kim, lee) = two(&bed).await;
    let park = bed.person("park@example.com+google", "park").await;
    let mut to = open(&dm, &lee, "").await;
    let mut stranger = open(&dm, &park, "").await;
    stranger.send(typed("1", "lee", "a stranger")).await;
    assert_eq!(frame(&mut to, "message").await["data"]["text"], "a stranger");

    switch(true).await;
    let mut from = open(&dm, &kim, "").await;
    from.send(typed("1", "lee", "hello")).await;
    frame(&mut from, "accepted").await;
    for number in 0..20 {
        from.send(typed(&format!("m{number}"), "lee", "more")).await;
    }
    let refused = frame(&mut from, "rejected").await;
    assert_eq!(
        (&refused["id"], &refused["data"]["code"]),
        (&json!("m19"), &json!("request-pending"))
    );
    assert_eq!(
        refused["data"]["reason"],
        "20 messages wait: no more are stored until the receiver accepts the request"
    );
    assert_eq!(requests(&dm, &lee).await.len(), 1);
    switch(false).await;
    for number in 1..=20 {
        assert_eq!(frame(&mut to, "message").await["data"]["number"], number);
    }
    from.send(typed("2", "park", "another stranger")).await;
    assert_eq!(frame(&mut stranger, "message").await["data"]["text"], "a stranger");
    assert_eq!(
        frame(&mut stranger, "message").await["data"]["text"],
        "another stranger"
    );
}

async fn a_request_with_a_corrupt_message_delays_no_other(bed: Bed) {
    // More than a round reads at once.
    const CORRUPT: u64 = 55;
    let dm = Dm::start_with(&bed, &[ON]).await;
    let (kim, park) = (
        bed.person("kim@example.com+kakao", "kim").await,
        bed.person("park@example.com+google", "park").await,
    );
    let mut from = open(&dm, &kim, "").await;
    for number in 0..CORRUPT {
        let other = format!("lee{number}");
        bed.person(&format!("{other}@example.com+apple"), &other).await;
        from.send(typed(&other, &other, "hello")).await;
        frame(&mut from, "accepted").await;
    }
    from.send(typed("park", "park", "hello")).await;
    frame(&mut from, "accepted").await;
    dm.running.stop().await;
    if bed.set == EngineSet::Real {
        let client = mongodb::Client::with_uri_str(bed.mongodb_url("dm")).await.unwrap();
        let messages = client.default_database().unwrap().collection::<Document>("message");
        let corrupt = doc! { "$set": { "text": 7 } };
        let others = doc! { "receiver": { "$ne": "park" } };
        let changed = messages.update_many(others, corrupt).await.unwrap();
        assert_eq!(changed.matched_count, CORRUPT);
    } else {
        let corrupt = "UPDATE message SET sender = 'nobody' WHERE receiver LIKE 'lee%'";
        assert_eq!(bed.sql("dm", corrupt).await, CORRUPT);
    }
    // Switched off, requests are accepted, the oldest first.
    let dm = Dm::start(&bed).await;
    let mut to = open(&dm, &park, "&since=0").await;
    assert_eq!(frame(&mut to, "message").await["data"]["text"], "hello");
    // Nor does it block its conversation.
    let lee = bed.person("lee0@example.com+apple", "lee0").await;
    let mut to = open(&dm, &lee, "&since=0").await;
    let mut from = open(&dm, &kim, "").await;
    from.send(typed("again", "lee0", "again")).await;
    frame(&mut from, "accepted").await;
    assert_eq!(frame(&mut to, "message").await["data"]["text"], "again");
}

/// Replaces the state of the requests to lee.
async fn set_state(bed: &Bed, is_known: bool) {
    let changed = if bed.set == EngineSet::Real {
        let client = mongodb::Client::with_uri_str(bed.mongodb_url("dm")).await.unwrap();
        let requests = client.default_database().unwrap();
        let requests = requests.collection::<Document>("message_request");
        let state = if is_known { "pending" } else { "expired" };
        let changed = requests.update_many(doc! { "receiverNickname": "lee" }, doc! { "$set": { "state": state } });
        changed.await.unwrap().modified_count
    } else if is_known {
        let pending = "UPDATE message_request SET state = 'pending' WHERE receiver_nickname = 'lee'";
        bed.sql("dm", pending).await
    } else {
        let expired = "UPDATE message_request SET state = 'expired' WHERE receiver_nickname = 'lee'";
        bed.sql("dm", expired).await
    };
    assert_eq!(changed, 1);
}

async fn a_request_in_a_state_of_a_later_release_waits_for_it(bed: Bed) {
    let dm = Dm::start_with(&bed, &[ON]).await;
    let (kim, lee) = two(&bed).await;
    let (mut from, mut to) = (open(&dm, &kim, "").await, open(&dm, &lee, "").await);
    from.send(typed("1", "lee", "hello")).await;
    frame(&mut from, "accepted").await;
    let id = requests(&dm, &lee).await[0]["id"].clone();
    set_state(&bed, false).await;

    assert!(requests(&dm, &lee).await.is_empty());
    for call in ["acceptRequest", "refuseRequest"] {
        let (status, body) = decide(&dm, &lee, call, &id).await;
        assert_eq!(
            (status, &body["code"]),
            (StatusCode::NOT_FOUND, &json!("request-unknown")),
            "{call}"
        );
    }
    // The client sends it again: it is neither refused for good nor delivered before the one that waits.
    from.send(typed("2", "lee", "again")).await;
    assert_eq!(frame(&mut from, "error").await["data"]["code"], "unavailable");
    to.send(typed("3", "kim", "answer")).await;
    assert_eq!(frame(&mut to, "error").await["data"]["code"], "unavailable");

    set_state(&bed, true).await;
    let (status, body) = decide(&dm, &lee, "acceptRequest", &id).await;
    assert_eq!((status, &body["changed"]), (StatusCode::OK, &json!(true)), "{body}");
    assert_eq!(frame(&mut to, "message").await["data"]["text"], "hello");
    from.send(typed("2", "lee", "again")).await;
    frame(&mut from, "accepted").await;
    assert_eq!(frame(&mut to, "message").await["data"]["text"], "again");
}

async fn nothing_waits_beside_a_spring_dm(bed: Bed) {
    let dm = Dm::start_with(&bed, &[ON, ("fleet.spring", "dm")]).await;
    let (kim, lee) = two(&bed).await;
    let (mut from, mut to) = (open(&dm, &kim, "").await, open(&dm, &lee, "").await);
    from.send(typed("1", "lee", "a stranger")).await;
    assert_eq!(frame(&mut to, "message").await["data"]["text"], "a stranger");
    assert!(requests(&dm, &lee).await.is_empty());
}
