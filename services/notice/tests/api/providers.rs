//! Pushes to FCM and APNs, which answer in every documented way.

use std::time::Duration;

use serde_json::{Value, json};
use sosohappy_events::types::{
    MessageChange, MessageChanged, MessageReceipt, NoticeRaised, ReceiptProgress, RoomMessageSent, WithdrawnLike,
};
use sosohappy_testkit::push_providers::{Misbehaviour, PushProviders, SentPush, TOKEN_ENDPOINT};
use sosohappy_testkit::{Bed, Person, Running, eventually, on_both_engines};

use crate::fleet::{
    AT_ONCE, DATE, applied, connect, counted, device, frame, kim, lee, like, publish_plain, pushes, replica,
};
use crate::pushes::{ROOM, message, room_change, room_message};

const PHONE: &str = "fcm-registration:token";

fn pad() -> String {
    "a1".repeat(32)
}

async fn start(bed: &Bed) -> (Running, PushProviders) {
    let providers = PushProviders::start().await;
    let settings = providers.settings();
    let mut settings: Vec<_> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    settings.push(AT_ONCE);
    (replica(bed, &settings).await, providers)
}

async fn sent(providers: &PushProviders, count: usize) -> Vec<SentPush> {
    eventually(&format!("{count} pushes are sent"), async || {
        let sent = providers.sent();
        (sent.len() >= count).then_some(sent)
    })
    .await
}

async fn with_device(bed: &Bed, notice: &Running, token: &str) -> (Person, Person) {
    let (kim, lee) = (kim(bed).await, lee(bed).await);
    device(bed, &kim, token).await;
    applied(notice, "deviceToken", 1).await;
    (kim, lee)
}

async fn a_like_is_pushed_by_fcm(bed: Bed) {
    let (notice, providers) = start(&bed).await;
    let (kim, lee) = with_device(&bed, &notice, PHONE).await;
    bed.publish(like(&lee, &kim, DATE)).await;
    bed.publish(like(&lee, &kim, DATE + 1)).await;
    let sent = sent(&providers, 2).await;
    let push = sent
        .iter()
        .find(|push| push.payload["message"]["data"]["date"].as_str() == Some(&*DATE.to_string()))
        .expect("the first like");
    let message = &push.payload["message"];
    assert_eq!((push.provider, push.device.as_str()), ("fcm", PHONE));
    assert_eq!(
        message["notification"],
        json!({ "title": "소소해피", "body": "lee님이 kim님의 행복을 응원합니다🩷" })
    );
    assert_eq!(message["apns"]["headers"]["apns-push-type"], "alert");
    assert_eq!(message["apns"]["payload"]["aps"]["category"], "LIKE");
    assert_eq!(message["apns"]["payload"]["aps"]["thread-id"], "like");
    assert!(message["apns"]["payload"]["aps"]["badge"].is_u64());
    assert!(message["android"]["notification"]["notification_count"].is_u64());
    assert_eq!(providers.grants(), 1, "the OAuth token is cached");
}

async fn a_like_is_pushed_by_apns(bed: Bed) {
    let (notice, providers) = start(&bed).await;
    let (kim, lee) = with_device(&bed, &notice, &pad()).await;
    bed.publish(like(&lee, &kim, DATE)).await;
    bed.publish(like(&lee, &kim, DATE + 1)).await;
    let sent = sent(&providers, 2).await;
    let push = &sent[0];
    assert_eq!((push.provider, &push.device), ("apns", &pad()));
    assert_eq!(push.payload["aps"]["alert"]["title"], "소소해피");
    assert_eq!(push.payload["aps"]["interruption-level"], "active");
    assert_eq!(push.payload["aps"]["category"], "LIKE");
    assert_eq!(push.payload["aps"]["thread-id"], "like");
    assert!(push.payload["aps"]["badge"].is_u64());
    assert_eq!(push.headers["apns-push-type"], "alert");
    assert!(push.headers["apns-collapse-id"].to_str().unwrap().starts_with("like-"));
    assert_eq!(providers.provider_tokens(), 1, "the provider token is reused");
}

/// Case D4.
async fn a_long_message_fits_into_the_payload(bed: Bed) {
    let (notice, providers) = start(&bed).await;
    let family = "👨‍👩‍👧‍👦";
    for (number, text) in [family.repeat(600), "\u{1}\"\\".repeat(5_000), "가".repeat(5_000)]
        .into_iter()
        .enumerate()
    {
        let frame = json!({ "sender": "lee", "receiver": "kim", "date": DATE, "text": text }).to_string();
        for token in [format!("fcm:{number}"), format!("{number:064x}")] {
            publish_plain::<sosohappy_events::types::DirectMessageSent>(&bed, &token, frame.as_bytes()).await;
        }
    }
    for push in sent(&providers, 6).await {
        assert!(push.bytes <= 4096, "{} bytes", push.bytes);
        let data = match push.provider {
            "fcm" => &push.payload["message"]["data"]["messageDto"],
            _ => &push.payload["messageDto"],
        };
        let message: Value = serde_json::from_str(data.as_str().expect("text")).expect("a message");
        let text = message["text"]
            .as_str()
            .expect("text")
            .strip_suffix("...")
            .expect("cut");
        if text.starts_with('👨') {
            assert_eq!(text, family.repeat(text.len() / family.len()), "cut between characters");
        }
    }
    assert_eq!(pushes(&notice, "message", "refused").await, 0);
}

async fn gone_and_foreign_tokens_are_deleted(bed: Bed) {
    let (notice, providers) = start(&bed).await;
    let people = [
        ("p1", "fcm:gone"),
        ("p2", "fcm:foreign"),
        ("p3", &pad()[..]),
        ("p4", &"b2".repeat(32)[..]),
    ];
    let lee = lee(&bed).await;
    let late = (bed.context.clock.now() + Duration::from_hours(1)).as_millisecond();
    providers.misbehave("fcm:gone", [Misbehaviour::fcm(404, "UNREGISTERED")]);
    providers.misbehave("fcm:foreign", [Misbehaviour::fcm(403, "SENDER_ID_MISMATCH")]);
    let gone = |at: i64| {
        let body = json!({ "reason": "Unregistered", "timestamp": at }).to_string();
        Misbehaviour::Answer(410, Vec::new(), body)
    };
    providers.misbehave(people[2].1, [gone(late)]);
    providers.misbehave(people[3].1, [gone(1_600_000_000_000)]);
    let mut persons = Vec::new();
    for (name, token) in people {
        let person = bed.person(&format!("{name}@example.com+kakao"), name).await;
        device(&bed, &person, token).await;
        persons.push(person);
    }
    applied(&notice, "deviceToken", 4).await;
    for round in 0..2 {
        for person in &persons {
            bed.publish(like(&lee, person, DATE + round)).await;
        }
        eventually("all are answered", async || {
            (pushes(&notice, "like", "no-device").await + pushes(&notice, "like", "sent").await
                == 4 * (u64::try_from(round).unwrap() + 1))
                .then_some(())
        })
        .await;
    }
    // Only the one whose registration is younger than Apple's moment is still there.
    let sent = providers.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].device, people[3].1);
    assert_eq!(
        counted(&notice, "notice_push_tokens_dropped_total", &[("reason", "foreign")]).await,
        1
    );
}

async fn what_is_unavailable_is_tried_again(bed: Bed) {
    let (notice, providers) = start(&bed).await;
    let lee = lee(&bed).await;
    let misbehaviours = [
        Misbehaviour::fcm(500, "INTERNAL"),
        Misbehaviour::fcm(503, "UNAVAILABLE").retry_after("1"),
        Misbehaviour::fcm(429, "QUOTA_EXCEEDED").retry_after("1"),
        Misbehaviour::Huge(503),
        Misbehaviour::Reset,
        Misbehaviour::Answer(502, Vec::new(), "<html>".to_owned()),
        // An expired OAuth token is replaced at once.
        Misbehaviour::fcm(401, "UNAUTHENTICATED"),
        Misbehaviour::apns(429, "TooManyRequests").retry_after("1"),
        Misbehaviour::apns(503, "ServiceUnavailable").retry_after("1"),
    ];
    let of_fcm = misbehaviours.len() - 2;
    let no_token = Misbehaviour::Answer(503, Vec::new(), String::new());
    providers.misbehave(TOKEN_ENDPOINT, [no_token.retry_after("1")]);
    let count = misbehaviours.len();
    for (number, misbehaviour) in misbehaviours.into_iter().enumerate() {
        let token = if number < of_fcm {
            format!("fcm:{number}")
        } else {
            format!("{number:064x}")
        };
        providers.misbehave(&token, [misbehaviour]);
        let person = bed
            .person(&format!("p{number}@example.com+kakao"), &format!("p{number}"))
            .await;
        device(&bed, &person, &token).await;
        applied(&notice, "deviceToken", u64::try_from(number).unwrap() + 1).await;
        bed.publish(like(&lee, &person, DATE)).await;
    }
    let sent = sent(&providers, count).await;
    let mut devices: Vec<_> = sent.iter().map(|push| &push.device).collect();
    devices.sort();
    devices.dedup();
    assert_eq!((sent.len(), devices.len()), (count, count), "once each");
}

async fn a_slow_device_delays_no_other(bed: Bed) {
    let (notice, providers) = start(&bed).await;
    let (kim, lee) = with_device(&bed, &notice, PHONE).await;
    let park = bed.person("park@example.com+apple", "park").await;
    device(&bed, &park, "fcm:park").await;
    applied(&notice, "deviceToken", 2).await;
    providers.misbehave(PHONE, [Misbehaviour::Hang]);
    bed.publish(like(&lee, &kim, DATE)).await;
    eventually("the slow one is asked", async || {
        (providers.requests() == 1).then_some(())
    })
    .await;
    let begun = std::time::Instant::now();
    bed.publish(like(&lee, &park, DATE)).await;
    assert_eq!(sent(&providers, 1).await[0].device, "fcm:park");
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

async fn a_rejected_payload_is_ours_and_not_repeated(bed: Bed) {
    let (notice, providers) = start(&bed).await;
    let (kim, lee) = with_device(&bed, &notice, &pad()).await;
    providers.misbehave(&pad(), [Misbehaviour::apns(413, "PayloadTooLarge")]);
    bed.publish(like(&lee, &kim, DATE)).await;
    eventually("it is counted", async || {
        (pushes(&notice, "like", "refused").await == 1).then_some(())
    })
    .await;
    bed.publish(like(&lee, &kim, DATE + 1)).await;
    sent(&providers, 1).await;
    assert_eq!(providers.requests(), 2);
}

async fn a_broken_credential_alerts_once_and_keeps_the_queue(bed: Bed) {
    let (notice, providers) = start(&bed).await;
    let (kim, lee) = with_device(&bed, &notice, PHONE).await;
    providers.refuse_tokens(true);
    for number in 0..20 {
        bed.publish(like(&lee, &kim, DATE + number)).await;
    }
    let broken = async || {
        let labels = [("provider", "fcm")];
        counted(&notice, "notice_push_credential_broken", &labels).await
    };
    eventually("it is noticed", async || (broken().await == 1).then_some(())).await;
    applied(&notice, "noticeLike", 20).await;
    assert_eq!(
        pushes(&notice, "like", "given-up").await + pushes(&notice, "like", "refused").await,
        0
    );
    assert_eq!(providers.requests(), 0, "no message was sent with a bad credential");
    providers.refuse_tokens(false);
    eventually_within(Duration::from_secs(90), async || providers.sent().len() == 20).await;
    assert_eq!(broken().await, 0);
}

/// The phone shows a banner of what is read on the pad.
async fn what_is_read_on_one_device_is_removed_from_the_other(bed: Bed) {
    let (notice, providers) = start(&bed).await;
    let (on_phone, lee) = (kim(&bed).await, lee(&bed).await);
    let on_pad = bed.person("kim@example.com+kakao", "kim").await;
    let post = async |person: &Person, call: &str, form: &[(&str, &str)]| {
        let request = sosohappy_common::tls::client().post(notice.at(&format!("/notice-service/{call}")));
        let answer = person.sign(request).form(form).send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{call}");
    };
    let installation = "cKx1_8bTQ-WcVb0n4rW2aZ";
    let pad_token = pad();
    for (person, token) in [(&on_phone, installation), (&on_pad, pad_token.as_str())] {
        let form = [("deviceToken", token), ("platform", "ios"), ("language", "ko")];
        post(person, "registerDevice", &form).await;
    }
    bed.publish(like(&lee, &on_phone, DATE)).await;
    let banners = sent(&providers, 2).await;
    assert!(banners.iter().any(|push| push.device == installation));
    eventually("both banners are recorded", async || {
        (pushes(&notice, "like", "sent").await == 1).then_some(())
    })
    .await;
    post(&on_phone, "readNotice", &[("seq", &i64::MAX.to_string())]).await;
    let silent = sent(&providers, 4).await.split_off(2);
    assert!(
        silent.iter().all(|push| push.device == pad()),
        "not to the one that read it"
    );
    let of_type = |kind: &str| {
        silent
            .iter()
            .find(|push| push.headers["apns-push-type"] == kind)
            .expect(kind)
    };
    let background = of_type("background");
    assert_eq!(background.headers["apns-priority"], "5");
    assert_eq!(background.payload["aps"], json!({ "content-available": 1 }));
    let like = banners
        .iter()
        .find(|push| push.device == pad())
        .expect("the pad's banner");
    assert_eq!(background.payload["handledIdList"], like.payload["noticeId"]);
    assert_eq!(of_type("alert").payload, json!({ "aps": { "badge": 0 } }));

    // Read again: nothing is sent again.
    post(&on_phone, "readNotice", &[("seq", &i64::MAX.to_string())]).await;
    eventually("the push is settled", async || {
        (pushes(&notice, "handled", "sent").await == 1).then_some(())
    })
    .await;
    assert_eq!(providers.requests(), 4);
}

/// Two devices and messages of one sender: the number on the icon counts them until they are read in dm, and their banners go then.
async fn what_is_read_in_dm_counts_no_more_and_loses_its_banners(bed: Bed) {
    let (notice, providers) = start(&bed).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    let on_phone = bed.person("kim@example.com+kakao", "kim").await;
    let pad_token = pad();
    let other_pad = "b2".repeat(32);
    for (person, token) in [(&kim, &pad_token), (&on_phone, &other_pad)] {
        let request = sosohappy_common::tls::client().post(notice.at("/notice-service/registerDevice"));
        let form = [("deviceToken", token.as_str()), ("platform", "ios"), ("language", "ko")];
        let answer = person.sign(request).form(&form).send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
    }
    let badges = |pushes: &[SentPush]| -> Vec<u64> {
        let badge = |push: &SentPush| push.payload["aps"]["badge"].as_u64();
        pushes.iter().filter_map(badge).collect()
    };
    let mut messages = Vec::new();
    for number in 1..=2 {
        messages.push(bed.publish(message(&lee, &kim, false)).await);
        let sent = sent(&providers, 2 * number).await.split_off(2 * (number - 1));
        let number = u64::try_from(number).expect("a count");
        assert_eq!(badges(&sent), [number, number]);
        eventually("it is recorded", async || {
            (pushes(&notice, "message", "sent").await == number).then_some(())
        })
        .await;
    }
    let read = MessageReceipt {
        reader: kim.account.clone(),
        progress: ReceiptProgress::Read {
            sender: lee.account.clone(),
            message: messages[1].meta.id.to_string(),
        },
    };
    let read = bed.publish(read).await;
    let silent = sent(&providers, 8).await.split_off(4);
    assert_eq!(badges(&silent), [0, 0], "the number on each icon");
    let ids: Vec<String> = messages.iter().map(|message| message.meta.id.to_string()).collect();
    for push in silent
        .iter()
        .filter(|push| push.headers["apns-push-type"] == "background")
    {
        let handled = push.payload["handledIdList"].as_str().expect("ids");
        assert!(ids.iter().any(|id| handled.contains(id.as_str())), "{handled}");
    }

    // The receipt and the messages again, and a message that is retracted.
    bed.publish_again(&read).await;
    for message in &messages {
        bed.publish_again(message).await;
    }
    let retracted = bed.publish(message(&lee, &kim, false)).await;
    let sent_again = sent(&providers, 10).await.split_off(8);
    assert_eq!(badges(&sent_again), [1, 1]);
    eventually("it is recorded", async || {
        (pushes(&notice, "message", "sent").await == 3).then_some(())
    })
    .await;
    bed.publish(MessageChanged {
        message: retracted.meta.id.to_string(),
        sender: lee.account.clone(),
        receiver: kim.account.clone(),
        change: MessageChange::Retracted,
    })
    .await;
    let silent = sent(&providers, 14).await.split_off(10);
    assert_eq!(badges(&silent), [0, 0]);
    assert_eq!(silent.len(), 4);
}

/// The sender's name, the room's name and the banners of what is retracted, or read in dm.
async fn banners_of_a_room_go_when_its_messages_are_retracted_or_read(bed: Bed) {
    let (notice, providers) = start(&bed).await;
    let (kim, lee) = with_device(&bed, &notice, PHONE).await;
    let gone = async |id: &str| {
        eventually("the banner is removed", async || {
            let sent = providers.sent();
            let mut handled = sent
                .iter()
                .filter_map(|push| push.payload["message"]["data"]["handledIdList"].as_str());
            handled.any(|ids| ids.contains(id)).then_some(())
        })
        .await;
    };
    let mut ids = Vec::new();
    for number in 1..=2 {
        let message = room_message(&bed, &lee, &[&kim], number);
        let id = RoomMessageSent::push_id(message.meta.id, &kim.account).to_string();
        bed.publish_again(&message).await;
        let banner = eventually("the push is sent", async || {
            let sent = providers.sent();
            let mut banners = sent.into_iter().map(|push| push.payload["message"].clone());
            banners.find(|banner| banner["data"]["noticeId"] == *id && banner["notification"].is_object())
        })
        .await;
        assert_eq!(
            banner["notification"],
            json!({ "title": "우리반", "body": "lee: 안녕" }),
            "{banner}"
        );
        let shown: Value =
            serde_json::from_str(banner["data"]["roomMessageDto"].as_str().expect("JSON")).expect("JSON");
        let expected = json!({
            "roomId": ROOM,
            "messageId": message.meta.id.to_string(),
            "sender": "lee",
            "date": DATE,
            "text": "안녕",
        });
        assert_eq!(shown, expected);
        let sent = u64::try_from(number).expect("a count");
        eventually("it is recorded", async || {
            (pushes(&notice, "message", "sent").await == sent).then_some(())
        })
        .await;
        if number == 1 {
            bed.publish(room_change(&message, MessageChange::Retracted)).await;
            gone(&id).await;
        }
        ids.push(id);
    }
    bed.publish(MessageReceipt {
        reader: kim.account.clone(),
        progress: ReceiptProgress::ReadRoom {
            room: ROOM.to_owned(),
            number: 2,
        },
    })
    .await;
    gone(&ids[1]).await;
}

/// Returns the badge of the push of a like, which is sent if it was not.
async fn badge_of(providers: &PushProviders, date: i64) -> u64 {
    eventually("the push is sent", async || {
        let sent = providers.sent();
        let message = sent.iter().map(|push| &push.payload["message"]);
        let mut of_date = message.filter(|message| message["data"]["date"].as_str() == Some(&*date.to_string()));
        of_date.next()?["apns"]["payload"]["aps"]["badge"].as_u64()
    })
    .await
}

/// Publishes likes until the badge counts those alone.
async fn counts_from_here(bed: &Bed, providers: &PushProviders, [liker, author]: [&Person; 2], first: i64) {
    // Views are written a moment after they happened.
    for number in 1_u64.. {
        let date = first + i64::try_from(number).expect("a small number");
        bed.publish(like(liker, author, date)).await;
        // One that happened in the very millisecond of the view is part of it.
        if badge_of(providers, date).await <= number {
            return;
        }
    }
}

/// The published app says nowhere what was read: its icon counts from when it was opened last, or showed a like.
async fn the_badge_of_an_app_of_version_1_counts_from_its_last_view(bed: Bed) {
    let (notice, providers) = start(&bed).await;
    let (kim, lee) = with_device(&bed, &notice, PHONE).await;
    for number in 1..=2 {
        bed.publish(like(&lee, &kim, DATE + number)).await;
        assert_eq!(badge_of(&providers, DATE + number).await, number.unsigned_abs());
    }
    drop(connect(&notice, &kim).await);
    counts_from_here(&bed, &providers, [&lee, &kim], DATE + 10).await;

    let mut socket = connect(&notice, &kim).await;
    bed.publish(like(&lee, &kim, DATE + 30)).await;
    assert_eq!(socket.text().await, frame("lee", DATE + 30));
    eventually("the like is shown", async || {
        // The pong is written while the socket is read.
        assert!(socket.silent_for(Duration::from_millis(50)).await);
        (counted(&notice, "notices_total", &[("outcome", "shown")]).await >= 1).then_some(())
    })
    .await;
    drop(socket);
    counts_from_here(&bed, &providers, [&lee, &kim], DATE + 40).await;
}

async fn a_like_that_is_taken_back_after_its_push_loses_its_banner(bed: Bed) {
    let (notice, providers) = start(&bed).await;
    let (kim, lee) = with_device(&bed, &notice, &pad()).await;
    bed.publish(like(&lee, &kim, DATE)).await;
    let banner = sent(&providers, 1).await.remove(0);
    eventually("it is recorded", async || {
        (pushes(&notice, "like", "sent").await == 1).then_some(())
    })
    .await;
    let withdrawn = WithdrawnLike {
        liker: lee.account.clone(),
        date: DATE,
    };
    let withdrawn = NoticeRaised::like_withdrawn(kim.account.clone(), &withdrawn);
    let withdrawn = bed.publish(withdrawn).await;
    let silent = sent(&providers, 3).await.split_off(1);
    assert_eq!(silent[0].payload["handledIdList"], banner.payload["noticeId"]);
    assert_eq!(silent[1].payload, json!({ "aps": { "badge": 0 } }));
    bed.publish_again(&withdrawn).await;
    applied(&notice, "notice", 2).await;
    eventually("the push is settled", async || {
        (pushes(&notice, "handled", "sent").await == 1).then_some(())
    })
    .await;
    assert_eq!(providers.requests(), 3);
}

async fn eventually_within(time: Duration, mut done: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + time;
    while !done().await {
        assert!(tokio::time::Instant::now() < deadline, "never happened");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

on_both_engines!(
    a_broken_credential_alerts_once_and_keeps_the_queue,
    a_like_is_pushed_by_apns,
    a_like_is_pushed_by_fcm,
    a_long_message_fits_into_the_payload,
    a_rejected_payload_is_ours_and_not_repeated,
    a_slow_device_delays_no_other,
    gone_and_foreign_tokens_are_deleted,
    a_like_that_is_taken_back_after_its_push_loses_its_banner,
    the_badge_of_an_app_of_version_1_counts_from_its_last_view,
    what_is_read_in_dm_counts_no_more_and_loses_its_banners,
    banners_of_a_room_go_when_its_messages_are_retracted_or_read,
    what_is_read_on_one_device_is_removed_from_the_other,
    what_is_unavailable_is_tried_again,
);
