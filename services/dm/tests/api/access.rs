use reqwest::StatusCode;
use serde_json::json;
use sosohappy_events::types::SessionExpired;
use sosohappy_testkit::{Bed, Person, Socket, eventually, on_both_engines};

use super::{DATE, Dm, message, read, two};

on_both_engines!(
    only_the_caller_opens_a_socket,
    a_frame_in_another_persons_name_closes_the_socket,
    the_history_of_others_is_refused,
    people_are_found_in_any_spelling_of_their_nicknames,
    a_message_to_a_nickname_given_up_reaches_no_former_bearer,
    a_session_that_ends_closes_its_sockets,
    frames_under_a_former_nickname_count_under_the_present_one,
);

/// The status a handshake was refused with.
async fn status(url: &str, person: Option<&Person>) -> u16 {
    match Socket::connect(url, person).await {
        Err(error) => {
            let text = error.to_string();
            text.split_whitespace()
                .find_map(|word| word.parse().ok())
                .unwrap_or_else(|| panic!("no status in {text}"))
        }
        Ok(_) => 101,
    }
}

async fn only_the_caller_opens_a_socket(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, _) = two(&bed).await;
    let url = |query: &str| dm.running.socket_at(&format!("/dm-service/connect-dm{query}"));
    assert_eq!(status(&url("?nickname=kim"), None).await, 403);
    let forged = Person {
        token: "forged".to_owned(),
        ..kim.clone()
    };
    assert_eq!(status(&url("?nickname=kim"), Some(&forged)).await, 403);
    for (query, code) in [
        ("", 1007),
        ("?nickname=", 1007),
        ("?nickname=lee", 1008),
        ("?nickname=nobody", 1008),
    ] {
        let mut socket = Socket::connect(&url(query), Some(&kim))
            .await
            .expect("the handshake is completed");
        assert_eq!(socket.closed().await, code, "{query}");
    }
    let (status, problem) = read(kim.sign(dm.client.get(dm.at("connect-dm?nickname=kim")))).await;
    assert_eq!(
        (status, &problem["code"]),
        (StatusCode::BAD_REQUEST, &json!("not-a-websocket"))
    );
}

async fn a_frame_in_another_persons_name_closes_the_socket(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, lee) = two(&bed).await;
    let mut to = dm.connect(&lee).await;
    for (frame, code) in [
        (message("lee", "lee", DATE, "forged").to_string(), 1008),
        (message("nobody", "lee", DATE, "forged").to_string(), 1008),
        ("not JSON".to_owned(), 1007),
        (
            json!({ "sender": "kim", "receiver": "lee", "text": "no date" }).to_string(),
            1007,
        ),
    ] {
        let mut socket = dm.connect(&kim).await;
        socket.send(frame.as_str()).await;
        assert_eq!(socket.closed().await, code, "{frame}");
    }
    assert!(to.silent_for(std::time::Duration::from_millis(300)).await);
    assert_eq!(dm.newest(&lee).await, json!([]));
}

async fn the_history_of_others_is_refused(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, _) = two(&bed).await;
    for (call, params) in [
        ("findDirectMessage", &[("sender", "lee"), ("receiver", "kim")][..]),
        ("findMultipleDirectMessage", &[("sender", "lee")]),
    ] {
        let (status, problem) = dm.post(&kim, call, params).await;
        assert_eq!(
            (status, &problem["code"]),
            (StatusCode::FORBIDDEN, &json!("not-yourself")),
            "{call}"
        );
        let (status, problem) = read(dm.client.post(dm.at(call)).form(params)).await;
        assert_eq!(
            (status, &problem["code"]),
            (StatusCode::FORBIDDEN, &json!("access-denied")),
            "{call}"
        );
    }
}

async fn a_session_that_ends_closes_its_sockets(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, lee) = two(&bed).await;
    // A second sign-in of the same account.
    let tablet = bed.person("kim@example.com+kakao", "kim").await;
    let (mut on_phone, mut on_tablet) = (dm.connect(&kim).await, dm.connect(&tablet).await);
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    bed.publish(SessionExpired {
        account: kim.account.clone(),
        session: Some(kim.session),
    })
    .await;
    assert_eq!(on_phone.closed().await, 1008);
    let mut from = dm.connect(&lee).await;
    from.send(message("lee", "kim", DATE, "still there?").to_string()).await;
    assert_eq!(on_tablet.json().await["text"], "still there?");
    eventually("the token is refused", async || {
        let url = dm.running.socket_at("/dm-service/connect-dm?nickname=kim");
        (status(&url, Some(&kim)).await == 403).then_some(())
    })
    .await;
}

/// Case E10: frames that were on the way when their sender was renamed are read later.
async fn frames_under_a_former_nickname_count_under_the_present_one(bed: Bed) {
    const FRAMES: i64 = 60;
    let dm = Dm::start_with(&bed, &[("sockets.frames-per-minute", "off")]).await;
    let (kim, lee) = two(&bed).await;
    let (mut from, mut to) = (dm.connect(&kim).await, dm.connect(&lee).await);
    from.send(message("kim", "lee", DATE, "before").to_string()).await;
    assert_eq!(to.json().await["sender"], "kim");
    bed.rename(&kim.account, "sun").await;
    eventually("the former nickname is no longer the caller's", async || {
        (dm.status(&kim).await == 403).then_some(())
    })
    .await;
    // Another account has it now.
    let taker = bed.person("taker@example.com+kakao", "kim").await;
    eventually("the nickname is the other account's", async || {
        (dm.status(&taker).await == 200).then_some(())
    })
    .await;
    for number in 1..=FRAMES {
        from.send(message("kim", "lee", DATE + number, "on the way").to_string())
            .await;
    }
    for number in 1..=FRAMES {
        let shown = to.json().await;
        assert_eq!(shown, message("sun", "lee", DATE + number, "on the way"));
    }
    from.send(message("sun", "lee", DATE, "after").to_string()).await;
    assert_eq!(to.json().await, message("sun", "lee", DATE, "after"));
    // A socket that was opened since then has not had that nickname.
    let url = dm.running.socket_at("/dm-service/connect-dm?nickname=sun");
    let mut younger = Socket::connect(&url, Some(&kim)).await.expect("the socket opens");
    younger.send(message("kim", "lee", DATE, "forged").to_string()).await;
    assert_eq!(younger.closed().await, 1008);
}

async fn people_are_found_in_any_spelling_of_their_nicknames(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "김").await;
    let lee = bed.person("lee@example.com+apple", "각자").await;
    let (own, other) = ("\u{1100}\u{1175}\u{11b7}", "\u{1100}\u{1161}\u{11a8}\u{110c}\u{1161}");
    let mut to = dm.connect(&lee).await;
    let url = dm.running.socket_at(&format!("/dm-service/connect-dm?nickname={own}"));
    let mut from = Socket::connect(&url, Some(&kim)).await.expect("the socket opens");
    from.send(message(own, other, DATE, "안녕").to_string()).await;
    assert_eq!(to.json().await["text"], "안녕");
    for (call, params) in [
        ("findDirectMessage", &[("sender", own), ("receiver", other)][..]),
        ("findMultipleDirectMessage", &[("sender", own)]),
    ] {
        let (status, found) = dm.post(&kim, call, params).await;
        assert_eq!((status, &found[0]["text"]), (StatusCode::OK, &json!("안녕")), "{call}");
        assert_eq!(
            (&found[0]["sender"], &found[0]["receiver"]),
            (&json!("김"), &json!("각자"))
        );
    }
}

/// Case C6: one person gives a nickname up, another one takes it, and a message to it is sent at once, at either replica.
async fn a_message_to_a_nickname_given_up_reaches_no_former_bearer(bed: Bed) {
    let replicas = [Dm::start(&bed).await, Dm::start(&bed).await];
    let (kim, lee) = two(&bed).await;
    let (mut former, mut from) = (replicas[0].connect(&kim).await, replicas[1].connect(&lee).await);
    bed.rename(&kim.account, "sun").await;
    for (number, dm) in (0..).zip(&replicas) {
        eventually("the nickname is nobody's", async || {
            let mut from = dm.connect(&lee).await;
            from.send(message("lee", "kim", DATE + number, "to whom?").to_string())
                .await;
            let answer = tokio::time::timeout(std::time::Duration::from_millis(500), from.json()).await;
            answer
                .is_ok_and(|answer| answer["error"]["code"] == "not-delivered")
                .then_some(())
        })
        .await;
    }
    let taker = bed.person("taker@example.com+kakao", "kim").await;
    let mut present = replicas[0].connect(&taker).await;
    let frame = message("lee", "kim", DATE + 10, "to the taker");
    eventually("the nickname is the taker's", async || {
        from.send(frame.to_string()).await;
        let shown = tokio::time::timeout(std::time::Duration::from_millis(500), present.json()).await;
        (shown.ok()? == frame).then_some(())
    })
    .await;
    // Messages from before the rename was known were stored for the former bearer, later ones are not.
    from.send(message("lee", "sun", DATE + 11, "to sun").to_string()).await;
    loop {
        let shown = former.json().await;
        assert_ne!(shown["text"], "to the taker");
        if shown["text"] == "to sun" {
            break;
        }
    }
    let history = replicas[1].history(&lee, "kim").await;
    assert_eq!(history.as_array().map(Vec::len), Some(1), "{history}");
}
