use std::time::Duration;

use serde_json::json;
use sosohappy_bus::Start;
use sosohappy_events::types::{Device, DeviceTokenSet, DirectMessageSent, Recipient, SessionId, SocketMessageSent};
use sosohappy_events::{Envelope, Outgoing, Topic};
use sosohappy_testkit::{Bed, PATIENCE, eventually, on_both_engines};

use super::{DATE, DELIVERY_TIMEOUT, Dm, message, next, next_shown, receipts, sent, two};

on_both_engines!(
    a_half_open_socket_has_shown_nothing,
    a_spring_notice_gets_what_no_socket_has_shown,
    a_message_reaches_all_sockets_of_its_receiver_and_no_others,
    the_senders_other_devices_get_the_message_too,
    a_frame_that_is_sent_again_after_a_reconnect_is_one_message,
    messages_keep_their_order,
    a_message_to_oneself_arrives,
    what_a_socket_of_the_receiver_has_shown_is_published,
    a_topic_that_is_delivered_again_shows_nothing_again,
    a_message_of_a_spring_replica_is_shown,
);

async fn a_message_reaches_all_sockets_of_its_receiver_and_no_others(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, lee) = two(&bed).await;
    let park = bed.person("park@example.com+google", "park").await;
    let (mut from, mut phone, mut tablet) = (dm.connect(&kim).await, dm.connect(&lee).await, dm.connect(&lee).await);
    let mut other = dm.connect(&park).await;
    from.send(message("kim", "lee", DATE, "안녕 \"Lee\" 🩷\n").to_string())
        .await;
    let frame = r#"{"sender":"kim","receiver":"lee","date":2023090513248392,"text":"안녕 \"Lee\" 🩷\n"}"#;
    assert_eq!(phone.text().await, frame);
    assert_eq!(tablet.text().await, frame);
    assert!(from.silent_for(Duration::from_millis(300)).await);
    assert!(other.silent_for(Duration::from_millis(100)).await);
    assert_eq!(
        dm.history(&kim, "lee").await,
        json!([message("kim", "lee", DATE, "안녕 \"Lee\" 🩷\n")])
    );
}

/// Case E6.
async fn the_senders_other_devices_get_the_message_too(bed: Bed) {
    let (here, there) = (Dm::start(&bed).await, Dm::start(&bed).await);
    let (kim, lee) = two(&bed).await;
    let (mut phone, mut tablet, mut browser) = (
        here.connect(&kim).await,
        here.connect(&kim).await,
        there.connect(&kim).await,
    );
    for number in 0..5 {
        let frame = message("kim", "lee", DATE + number, "from the phone");
        phone.send(frame.to_string()).await;
        assert_eq!(tablet.json().await, frame);
        assert_eq!(browser.json().await, frame);
    }
    let mut to = there.connect(&lee).await;
    let frame = message("kim", "lee", DATE + 9, "from the browser");
    browser.send(frame.to_string()).await;
    for socket in [&mut phone, &mut tablet, &mut to] {
        assert_eq!(
            socket.json().await,
            frame,
            "the first the phone gets: its own frames do not come back"
        );
    }
    let answer = message("lee", "kim", DATE + 10, "hello all of you");
    to.send(answer.to_string()).await;
    for socket in [&mut phone, &mut tablet, &mut browser] {
        assert_eq!(socket.json().await, answer);
    }
}

/// Case E3: the app sends a frame again after it has reconnected, to whichever replica.
async fn a_frame_that_is_sent_again_after_a_reconnect_is_one_message(bed: Bed) {
    let (here, there) = (Dm::start(&bed).await, Dm::start(&bed).await);
    let (kim, lee) = two(&bed).await;
    let mut to = there.connect(&lee).await;
    let frame = message("kim", "lee", DATE, "once").to_string();
    let mut from = here.connect(&kim).await;
    from.send(frame.clone()).await;
    assert_eq!(to.text().await, frame);
    drop(from);
    for dm in [&there, &here] {
        let mut again = dm.connect(&kim).await;
        for _ in 0..3 {
            again.send(frame.clone()).await;
        }
        let text = format!("next from {}", dm.running.at(""));
        again.send(message("kim", "lee", DATE + 1, &text).to_string()).await;
        // Frames of a socket are taken one after the other: a second copy would come before.
        assert_eq!(to.json().await["text"], text);
    }
    let history = here.history(&lee, "kim").await;
    assert_eq!(history.as_array().map(Vec::len), Some(3), "{history}");
}

async fn messages_keep_their_order(bed: Bed) {
    const MESSAGES: usize = 50;
    let dm = Dm::start(&bed).await;
    let (kim, lee) = two(&bed).await;
    let (mut one, mut other) = (dm.connect(&kim).await, dm.connect(&lee).await);
    for number in 0..MESSAGES {
        one.send(message("kim", "lee", DATE, &format!("a{number}")).to_string())
            .await;
        other
            .send(message("lee", "kim", DATE, &format!("b{number}")).to_string())
            .await;
    }
    for number in 0..MESSAGES {
        assert_eq!(other.json().await["text"], format!("a{number}"));
        assert_eq!(one.json().await["text"], format!("b{number}"));
    }
}

async fn a_message_to_oneself_arrives(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, _) = two(&bed).await;
    let mut socket = dm.connect(&kim).await;
    let memo = message("kim", "kim", DATE, "memo");
    socket.send(memo.to_string()).await;
    assert_eq!(socket.json().await, memo);
    assert_eq!(dm.history(&kim, "kim").await, json!([memo]));
}

/// What the sender's own devices show is no receipt: it must not keep the receiver's push back.
async fn what_a_socket_of_the_receiver_has_shown_is_published(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, lee) = two(&bed).await;
    let signed_in = bed.context.clock.now();
    let (mut events, mut receipts) = (sent(&bed).await, receipts(&bed).await);
    let (mut from, mut tablet) = (dm.connect(&kim).await, dm.connect(&kim).await);
    from.send(message("kim", "lee", DATE, "are you there?").to_string())
        .await;
    assert_eq!(tablet.json().await["text"], "are you there?");
    let first = next(&mut events).await;
    assert_eq!(first.event.recipient, Recipient::Account(lee.account.clone()));
    assert_eq!(first.event.sender_account.as_ref(), Some(&kim.account));
    assert!(!first.event.receiver_online, "notice decides");
    let authorized_at = first.meta.authorized_at;
    assert!(authorized_at.is_some_and(|at| at <= signed_in), "{:?}", first.meta);

    let mut to = dm.connect(&lee).await;
    from.send(message("kim", "lee", DATE + 1, "now?").to_string()).await;
    assert_eq!(to.json().await["text"], "now?");
    let second = next(&mut events).await;
    assert!(!second.event.receiver_online, "notice decides");
    // Its library answers pings only while it reads.
    let (shown, _) = futures::join!(next_shown(&mut receipts, &lee), to.silent_for(Duration::from_secs(2)));
    assert_eq!(shown, [second.meta.id.to_string()]);
}

/// Case D1: the receiver's phone lost its network; its socket neither reads nor answers pings.
async fn a_half_open_socket_has_shown_nothing(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, lee) = two(&bed).await;
    let (mut events, mut receipts) = (sent(&bed).await, receipts(&bed).await);
    let half_open = dm.connect(&lee).await;
    let mut from = dm.connect(&kim).await;
    from.send(message("kim", "lee", DATE, "are you there?").to_string())
        .await;
    next(&mut events).await;
    drop(half_open);
    // A younger socket may be shown what happened up to a quarter of a second before it was opened.
    tokio::time::sleep(Duration::from_secs(1)).await;

    let mut alive = dm.connect(&lee).await;
    from.send(message("kim", "lee", DATE + 1, "and now?").to_string()).await;
    while alive.json().await["date"] != DATE + 1 {}
    let second = next(&mut events).await;
    let (shown, _) = futures::join!(
        next_shown(&mut receipts, &lee),
        alive.silent_for(Duration::from_secs(2))
    );
    assert_eq!(shown, [second.meta.id.to_string()]);
}

/// A Spring notice pushes each record that it reads: it gets those of messages only that no socket has shown, by push token.
async fn a_spring_notice_gets_what_no_socket_has_shown(bed: Bed) {
    // A socket that lives has that long to say so, on a machine that may be busy.
    let settings = [(DELIVERY_TIMEOUT, "4s"), ("fleet.spring", "notice")];
    let dm = Dm::start_with(&bed, &settings).await;
    let (kim, lee) = two(&bed).await;
    let devices = ["phone", "tablet"].into_iter().zip(1..).map(|(token, number)| Device {
        session: SessionId(lee.session.0.wrapping_add(number)),
        token: token.to_owned(),
        since: bed.context.clock.now(),
    });
    bed.publish(DeviceTokenSet::all(lee.account.clone(), devices.collect()))
        .await;
    eventually("dm knows the devices", async || {
        let metrics = dm.client.get(dm.running.at("/actuator/prometheus")).send().await.ok()?;
        let metrics = metrics.text().await.ok()?;
        let mut applied = metrics.lines().filter(|line| {
            line.starts_with("events_consumed_total{")
                && [r#"topic="deviceToken""#, r#"outcome="applied""#]
                    .iter()
                    .all(|label| line.contains(label))
        });
        applied.any(|line| line.ends_with(" 1")).then_some(())
    })
    .await;
    let mut pushed = sent(&bed).await;
    let mut shown_by_ours = bed.bus.read(&[Topic::SocketMessage], Start::Earliest).await.unwrap();
    let mut from = dm.connect(&kim).await;

    let mut alive = dm.connect(&lee).await;
    from.send(message("kim", "lee", DATE, "shown").to_string()).await;
    assert_eq!(alive.json().await["text"], "shown");
    assert!(alive.silent_for(Duration::from_secs(6)).await, "answers pings");
    drop(alive);
    let _half_open = dm.connect(&lee).await;
    from.send(message("kim", "lee", DATE + 1, "not shown").to_string())
        .await;
    let mut recipients = Vec::new();
    for _ in 0..2 {
        let push = next(&mut pushed).await;
        assert!(push.event.frame.contains("not shown"), "{push:?}");
        recipients.push(push.event.recipient);
    }
    for token in ["phone", "tablet"] {
        let device = Recipient::PushToken(token.to_owned());
        assert!(recipients.contains(&device), "{device:?} is not among {recipients:?}");
    }

    // Our replicas read each at once, and the second again, under the same id.
    let mut ids = Vec::new();
    for (text, is_pushed_later) in [("shown", true), ("not shown", true), ("not shown", false)] {
        let record = tokio::time::timeout(PATIENCE, shown_by_ours.next()).await;
        let envelope = Envelope::<SocketMessageSent>::decode(&record.unwrap().unwrap()).unwrap();
        assert!(envelope.event.0.frame.contains(text), "{envelope:?}");
        assert_eq!(envelope.event.0.receiver_online, is_pushed_later);
        ids.push(envelope.meta.id);
    }
    assert_eq!(ids[1], ids[2]);
}

/// Publishes records of the topic as they were, a second time.
async fn again(bed: &Bed, count: usize) {
    let mut reader = bed.bus.read(&[Topic::DirectMessage], Start::Earliest).await.unwrap();
    let mut records = Vec::new();
    while records.len() < count {
        let record = reader.next().await.unwrap();
        let headers = record
            .headers
            .iter()
            .map(|(name, value)| (name.to_owned(), String::from_utf8(value.to_vec()).unwrap()));
        records.push(Outgoing {
            topic: Topic::DirectMessage.default_name().to_owned(),
            key: Some(record.key_text().unwrap().to_owned()),
            value: record.value.as_ref().map(|value| value.to_vec()),
            headers: headers.collect(),
        });
    }
    bed.bus.publish(&records).await.unwrap();
}

async fn a_topic_that_is_delivered_again_shows_nothing_again(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, lee) = two(&bed).await;
    let (mut from, mut to) = (dm.connect(&kim).await, dm.connect(&lee).await);
    for number in 0..5 {
        from.send(message("kim", "lee", DATE + number, "once").to_string())
            .await;
    }
    for number in 0..5 {
        assert_eq!(to.json().await["date"], DATE + number);
    }
    again(&bed, 5).await;
    assert!(to.silent_for(Duration::from_secs(1)).await, "shown twice");
    assert_eq!(dm.history(&lee, "kim").await.as_array().unwrap().len(), 5);
    drop((from, to));

    // A replica that starts again remembers nothing.
    dm.running.stop().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let dm = Dm::start(&bed).await;
    let (mut from, mut to) = (dm.connect(&kim).await, dm.connect(&lee).await);
    again(&bed, 5).await;
    from.send(message("kim", "lee", DATE + 9, "new").to_string()).await;
    assert_eq!(to.json().await["text"], "new");
}

async fn a_message_of_a_spring_replica_is_shown(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (_, lee) = two(&bed).await;
    let mut to = dm.connect(&lee).await;
    let frame = message("kim", "lee", DATE, "from Spring").to_string();
    let record = Outgoing {
        topic: Topic::DirectMessage.default_name().to_owned(),
        key: Some("fcm:registration-token".to_owned()),
        value: Some(frame.clone().into_bytes()),
        headers: Vec::new(),
    };
    bed.bus.publish(&[record]).await.unwrap();
    assert_eq!(to.text().await, frame);

    bed.publish(DirectMessageSent {
        recipient: Recipient::PushToken("token".to_owned()),
        message_id: None,
        sender_account: None,
        sender_socket: None,
        receiver_online: false,
        numbered: false,
        released: false,
        frame: message("kim", "nobody", DATE, "lost").to_string(),
    })
    .await;
    assert!(to.silent_for(Duration::from_millis(300)).await);
}
