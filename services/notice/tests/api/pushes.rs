use std::time::{Duration, Instant};

use jiff::Timestamp;
use sosohappy_events::Envelope;
use sosohappy_events::types::{
    DirectMessageSent, MessageChange, MessageChanged, MessageReceipt, NoticeRaised, PostLiked, ReceiptProgress,
    Recipient, Relation, RelationChanged, RoomMessageSent, RoomPush, WithdrawnLike,
};
use sosohappy_notice::{DEFAULTS, Settings};
use sosohappy_testkit::{Bed, Person, Running, eventually, on_both_engines};

use crate::fleet::{
    AT_ONCE, DATE, QUIET, applied, connect, device, frame, kim, lee, like, publish_plain, pushes, replica,
};

/// When a push is due for what no socket has shown. A socket that is read has that long to show it.
const DELIVERY_TIMEOUT: &str = "4s";
const DELIVERED: Duration = Duration::from_secs(4);

/// Longer than that, and than the worker takes.
const BEYOND: Duration = Duration::from_secs(6);

const MESSAGE: &str = r#"{"sender":"lee","receiver":"kim","date":2023090513248392,"text":"안녕"}"#;

pub fn message(sender: &Person, receiver: &Person, receiver_online: bool) -> DirectMessageSent {
    DirectMessageSent {
        recipient: Recipient::Account(receiver.account.clone()),
        message_id: None,
        sender_account: Some(sender.account.clone()),
        sender_socket: None,
        receiver_online,
        numbered: false,
        released: false,
        frame: MESSAGE.to_owned(),
    }
}

async fn a_person_without_a_socket_gets_a_push_once(bed: Bed) {
    let notice = replica(&bed, &[AT_ONCE]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    device(&bed, &kim, "phone").await;
    applied(&notice, "deviceToken", 1).await;
    let first = bed.publish(like(&lee, &kim, DATE)).await;
    eventually("the push goes", async || {
        (pushes(&notice, "like", "sent").await == 1).then_some(())
    })
    .await;

    bed.publish_again(&first).await;
    bed.publish(like(&lee, &kim, DATE + 1)).await;
    eventually("the next push goes", async || {
        (pushes(&notice, "like", "sent").await >= 2).then_some(())
    })
    .await;
    applied(&notice, "noticeLike", 3).await;
    assert_eq!(pushes(&notice, "like", "sent").await, 2);
}

async fn who_is_there_gets_a_frame_and_no_push(bed: Bed) {
    let (one, other) = (
        replica(&bed, &[("push.delivery-timeout", DELIVERY_TIMEOUT)]).await,
        replica(&bed, &[("push.delivery-timeout", DELIVERY_TIMEOUT)]).await,
    );
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    device(&bed, &kim, "phone").await;
    eventually("the device is known", async || {
        let known = [&one, &other].map(|replica| {
            let labels = [("topic", "deviceToken"), ("kind", "consumer"), ("outcome", "applied")];
            async move { crate::fleet::counted(replica, "events_consumed_total", &labels).await }
        });
        let mut sum = 0;
        for count in known {
            sum += count.await;
        }
        (sum == 1).then_some(())
    })
    .await;
    let mut socket = connect(&one, &kim).await;
    bed.publish(like(&lee, &kim, DATE)).await;
    assert_eq!(socket.text().await, frame("lee", DATE));
    assert!(socket.silent_for(BEYOND).await);
    assert_eq!(
        pushes(&one, "like", "sent").await + pushes(&other, "like", "sent").await,
        0
    );
}

/// Case D1: the phone lost its network; its socket neither reads nor answers pings.
async fn a_half_open_socket_does_not_keep_its_account_from_a_push(bed: Bed) {
    let notice = replica(&bed, &[("push.delivery-timeout", DELIVERY_TIMEOUT)]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    device(&bed, &kim, "phone").await;
    applied(&notice, "deviceToken", 1).await;
    let _half_open = connect(&notice, &kim).await;
    let published = Instant::now();
    let first = bed.publish(like(&lee, &kim, DATE)).await;
    eventually("the push is sent", async || {
        (pushes(&notice, "like", "sent").await == 1).then_some(())
    })
    .await;
    assert!(published.elapsed() >= DELIVERED, "not before the timeout");
    assert_eq!(
        crate::fleet::counted(&notice, "notices_total", &[("outcome", "shown")]).await,
        0
    );

    // A socket that answers has shown the next like; the duplicate of the first is neither shown nor pushed again.
    let mut alive = connect(&notice, &kim).await;
    bed.publish_again(&first).await;
    bed.publish(like(&lee, &kim, DATE + 1)).await;
    assert_eq!(alive.text().await, frame("lee", DATE + 1));
    assert!(alive.silent_for(BEYOND).await);
    assert_eq!(pushes(&notice, "like", "sent").await, 1);
}

/// Case D1 on the settings of the service, for a like and a message: the push is sent within ten seconds after `push.delivery-timeout`. A machine
/// that is busy with other tests may be late at times; a wrong time is late each time.
async fn a_half_open_socket_gets_its_push_on_default_settings(bed: Bed) {
    let settings = bed.settings::<Settings>("notice", DEFAULTS, &[]).await;
    let (timeout, like_delay) = {
        let push = &settings.get().push;
        (push.delivery_timeout, push.like_delay)
    };
    assert!(
        timeout.max(like_delay) <= Duration::from_secs(5),
        "{timeout:?}, {like_delay:?}"
    );
    let latest = timeout + Duration::from_secs(10);
    let like_delay = format!("{}ms", like_delay.as_millis());
    let notice = replica(&bed, &[("push.like-delay", &like_delay)]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    device(&bed, &kim, "phone").await;
    applied(&notice, "deviceToken", 1).await;
    let _half_open = connect(&notice, &kim).await;
    let mut times = Vec::new();
    for number in 1..=3_i64 {
        let begun = Instant::now();
        bed.publish(like(&lee, &kim, DATE + number)).await;
        bed.publish(message(&lee, &kim, false)).await;
        let sent = async |kind: &str| {
            eventually(&format!("the {kind} is pushed"), async || {
                (pushes(&notice, kind, "sent").await == number.unsigned_abs()).then(|| begun.elapsed())
            })
            .await
        };
        let (of_like, of_message) = tokio::join!(sent("like"), sent("message"));
        assert!(of_like.min(of_message) >= timeout, "{of_like:?}, {of_message:?}");
        times.push(of_like.max(of_message));
        if times.last() <= Some(&latest) {
            break;
        }
    }
    println!("pushed after {times:?}");
    assert!(times.last() <= Some(&latest), "{times:?}");
}

async fn a_message_is_pushed_to_a_person_who_was_offline_when_it_was_sent(bed: Bed) {
    let notice = replica(&bed, &[AT_ONCE]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    let park = bed.person("park@example.com+apple", "park").await;
    device(&bed, &kim, "phone").await;
    device(&bed, &park, "pad").await;
    let (account, other) = (park.account.clone(), lee.account.clone());
    bed.publish(RelationChanged {
        relation: Relation::Block,
        account,
        other,
    })
    .await;
    applied(&notice, "deviceToken", 2).await;
    applied(&notice, "relation", 1).await;

    bed.publish(message(&lee, &kim, true)).await;
    bed.publish(message(&kim, &kim, false)).await;
    bed.publish(message(&lee, &park, false)).await;
    applied(&notice, "directMessage", 3).await;
    let first = bed.publish(message(&lee, &kim, false)).await;
    bed.publish_again(&first).await;
    publish_plain::<DirectMessageSent>(&bed, "spring-push-token", MESSAGE.as_bytes()).await;
    applied(&notice, "directMessage", 6).await;
    eventually("the two pushes go", async || {
        (pushes(&notice, "message", "sent").await == 2).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(pushes(&notice, "message", "sent").await, 2);
}

/// Receipts travel on a topic of their own, and may be read before or after their messages; both topics may be read again.
async fn a_message_that_dm_has_shown_is_not_pushed(bed: Bed) {
    let notice = replica(&bed, &[("push.delivery-timeout", DELIVERY_TIMEOUT)]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    device(&bed, &kim, "phone").await;
    applied(&notice, "deviceToken", 1).await;
    let envelope = || Envelope::new(message(&lee, &kim, false), &bed.context);
    let (shown_before, shown_after, not_shown) = (envelope(), envelope(), envelope());
    let receipt = |shown: &Envelope<DirectMessageSent>| {
        let messages = vec![shown.meta.id.to_string(), "64d2f0c2a1b2c3d4e5f60718".to_owned()];
        let receipt = MessageReceipt {
            reader: kim.account.clone(),
            progress: ReceiptProgress::Shown { messages },
        };
        Envelope::new(receipt, &bed.context)
    };
    let (before, after) = (receipt(&shown_before), receipt(&shown_after));
    bed.publish_again(&before).await;
    applied(&notice, "messageReceipt", 1).await;
    let published = Instant::now();
    bed.publish_again(&shown_before).await;
    bed.publish_again(&shown_after).await;
    bed.publish_again(&after).await;
    bed.publish_again(&not_shown).await;
    applied(&notice, "messageReceipt", 2).await;
    let settled_in_time = published.elapsed() < DELIVERED;
    eventually("the message that was not shown is pushed", async || {
        (pushes(&notice, "message", "sent").await >= 1).then_some(())
    })
    .await;
    assert!(published.elapsed() >= DELIVERED, "a socket has that long to show it");

    for _ in 0..2 {
        for record in [&not_shown, &shown_after, &shown_before] {
            bed.publish_again(record).await;
        }
        for record in [&after, &before] {
            bed.publish_again(record).await;
        }
    }
    applied(&notice, "directMessage", 9).await;
    tokio::time::sleep(BEYOND).await;
    let sent = pushes(&notice, "message", "sent").await + pushes(&notice, "message", "grouped").await;
    // A machine that is too busy to read the receipts in time pushes a message that was shown.
    assert!(sent == 1 || !settled_in_time, "{sent}");
}

async fn a_message_with_a_muted_word_is_not_pushed(bed: Bed) {
    let notice = replica(&bed, &[AT_ONCE]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    for person in [&kim, &lee] {
        device(&bed, person, &person.nickname).await;
    }
    applied(&notice, "deviceToken", 2).await;
    bed.mute(&kim, &[("안녕", None)]);
    bed.publish(message(&lee, &kim, false)).await;
    bed.publish(message(&kim, &lee, false)).await;
    applied(&notice, "directMessage", 2).await;
    eventually("the other's push goes", async || {
        (pushes(&notice, "message", "sent").await == 1).then_some(())
    })
    .await;
    bed.mute(&kim, &[]);
    eventually("pushes go again within seconds", async || {
        bed.publish(message(&lee, &kim, false)).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        (pushes(&notice, "message", "sent").await >= 2).then_some(())
    })
    .await;
}

/// On and off, a millisecond each, as feed publishes them.
fn toggles(
    bed: &Bed,
    lee: &Person,
    kim: &Person,
    times: i64,
    ago: Duration,
) -> (Vec<Envelope<PostLiked>>, Vec<Envelope<NoticeRaised>>) {
    let mut now = bed.context.clock.now() - ago;
    let (mut likes, mut withdrawals) = (Vec::new(), Vec::new());
    for _ in 0..times {
        let mut on = Envelope::new(like(lee, kim, DATE), &bed.context);
        let like = WithdrawnLike {
            liker: lee.account.clone(),
            date: DATE,
        };
        let mut off = Envelope::new(NoticeRaised::like_withdrawn(kim.account.clone(), &like), &bed.context);
        on.meta.occurred_at = Timestamp::from_millisecond(now.as_millisecond()).expect("a time");
        off.meta.occurred_at = on.meta.occurred_at + Duration::from_millis(1);
        now += Duration::from_millis(2);
        likes.push(on);
        withdrawals.push(off);
    }
    (likes, withdrawals)
}

/// Case D2: 20 taps of one person, the last of them a like.
async fn a_like_switched_on_and_off_is_one_push(bed: Bed) {
    // All taps, and their records on two topics, are read within this time on a busy machine too.
    let notice = replica(&bed, &[("push.like-delay", "6s")]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    device(&bed, &kim, "phone").await;
    applied(&notice, "deviceToken", 1).await;
    let (likes, withdrawals) = toggles(&bed, &lee, &kim, 10, Duration::ZERO);
    for (number, on) in likes.iter().enumerate() {
        bed.publish_again(on).await;
        // After the last like there is no withdrawal.
        if number + 1 < likes.len() {
            bed.publish_again(&withdrawals[number]).await;
        }
    }
    applied(&notice, "noticeLike", 10).await;
    applied(&notice, "notice", 9).await;
    eventually("the push is sent", async || {
        (pushes(&notice, "like", "sent").await == 1).then_some(())
    })
    .await;
    bed.publish(like(&lee, &kim, DATE + 1)).await;
    eventually("the like of another post is pushed", async || {
        (pushes(&notice, "like", "sent").await >= 2).then_some(())
    })
    .await;
    assert_eq!(pushes(&notice, "like", "sent").await, 2);
    assert_eq!(pushes(&notice, "like", "grouped").await, 0);
}

/// The withdrawals, on another topic, come before the likes.
async fn a_like_that_was_taken_back_is_not_pushed(bed: Bed) {
    let notice = replica(&bed, &[AT_ONCE]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    device(&bed, &kim, "phone").await;
    applied(&notice, "deviceToken", 1).await;
    // Of before its receiver connects: a replica asks the inbox about such a like.
    let (likes, withdrawals) = toggles(&bed, &lee, &kim, 10, Duration::from_secs(10));
    for off in &withdrawals {
        bed.publish_again(off).await;
    }
    applied(&notice, "notice", 10).await;
    for on in &likes {
        bed.publish_again(on).await;
    }
    bed.publish(like(&lee, &kim, DATE + 1)).await;
    applied(&notice, "noticeLike", 11).await;
    eventually("the like of another post is pushed", async || {
        (pushes(&notice, "like", "sent").await >= 1).then_some(())
    })
    .await;
    assert_eq!(pushes(&notice, "like", "sent").await, 1);
    // A socket may be shown what happened up to a quarter of a second before it was opened.
    tokio::time::sleep(QUIET).await;
    let mut socket = connect(&notice, &kim).await;
    bed.publish_again(likes.last().expect("a like")).await;
    bed.publish(like(&lee, &kim, DATE + 2)).await;
    assert_eq!(socket.text().await, frame("lee", DATE + 2));
}

async fn limits_of_pushes_follow_a_change(bed: Bed) {
    let notice = replica(&bed, &[AT_ONCE]).await;
    let values = [
        ("push.per-thread", "1"),
        ("push.per-account", "off"),
        ("push.like-delay", "2s"),
    ];
    let values = values.map(|(key, value)| (key.to_owned(), value.into()));
    let refreshed = notice.context.settings.set(values.into_iter().collect()).await;
    let refreshed = refreshed
        .expect("settings are attached")
        .expect("the settings are valid");
    assert_eq!(refreshed.needs_restart, Vec::<String>::new());
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    device(&bed, &kim, "phone").await;
    applied(&notice, "deviceToken", 1).await;
    bed.publish(message(&lee, &kim, false)).await;
    eventually("the first is sent", async || {
        (pushes(&notice, "message", "sent").await == 1).then_some(())
    })
    .await;
    bed.publish(message(&lee, &kim, false)).await;
    eventually("the second waits", async || {
        (pushes(&notice, "message", "limited").await >= 1).then_some(())
    })
    .await;
}

/// A fleet that is moved over: the legacy notice service has pushed what is on the topics already.
async fn what_happened_before_the_inbox_was_there_is_not_pushed(bed: Bed) {
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    device(&bed, &kim, "phone").await;
    bed.publish(like(&lee, &kim, DATE)).await;
    bed.publish(message(&lee, &kim, false)).await;
    tokio::time::sleep(Duration::from_millis(20)).await;

    let notice = replica(&bed, &[AT_ONCE]).await;
    applied(&notice, "deviceToken", 1).await;
    applied(&notice, "directMessage", 1).await;
    bed.publish(like(&lee, &kim, DATE + 1)).await;
    applied(&notice, "noticeLike", 2).await;
    eventually("the new like is pushed", async || {
        (pushes(&notice, "like", "sent").await == 1).then_some(())
    })
    .await;
    assert_eq!(pushes(&notice, "message", "sent").await, 0);
    assert_eq!(
        crate::fleet::counted(&notice, "notices_total", &[("outcome", "kept")]).await,
        2
    );
}

/// Sets `fleet.spring` in a running service, as the config service does.
async fn set_spring(notice: &Running, spring: &[&str]) {
    let values = [("fleet.spring".to_owned(), serde_json::Value::from(spring))];
    let refreshed = notice.context.settings.set(values.into_iter().collect()).await;
    refreshed.expect("settings are attached").expect("the setting is valid");
}

/// Before a Spring notice is replaced, and after it is back: it pushes likes and messages, and ours what only it knows. Records that are
/// read again without it are pushed, because the Spring notice has not read them.
async fn likes_and_messages_are_pushed_by_a_spring_notice(bed: Bed) {
    let beside = replica(&bed, &[AT_ONCE, ("fleet.spring", "notice")]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    device(&bed, &kim, "phone").await;
    applied(&beside, "deviceToken", 1).await;
    let first_like = bed.publish(like(&lee, &kim, DATE)).await;
    let first_message = bed.publish(message(&lee, &kim, false)).await;
    applied(&beside, "noticeLike", 1).await;
    applied(&beside, "directMessage", 1).await;
    bed.publish(NoticeRaised {
        receiver: kim.account.clone(),
        topic: "comment".to_owned(),
        data: serde_json::json!({ "commenter": "lee", "date": DATE, "commentId": 1 }),
        about: Some(lee.account.clone()),
    })
    .await;
    eventually("the comment is pushed", async || {
        (pushes(&beside, "comment", "sent").await == 1).then_some(())
    })
    .await;
    assert_eq!(pushes(&beside, "like", "sent").await, 0);
    assert_eq!(pushes(&beside, "message", "sent").await, 0);

    // Without a Spring notice ours pushes what it reads, and goes on while one is about to begin where ours ends.
    set_spring(&beside, &[]).await;
    bed.publish(like(&lee, &kim, DATE + 1)).await;
    eventually("the like is pushed", async || {
        (pushes(&beside, "like", "sent").await == 1).then_some(())
    })
    .await;
    set_spring(&beside, &["notice"]).await;
    bed.publish(message(&lee, &kim, false)).await;
    eventually("the message is pushed", async || {
        (pushes(&beside, "message", "sent").await == 1).then_some(())
    })
    .await;
    beside.stop().await;

    let notice = replica(&bed, &[AT_ONCE]).await;
    bed.publish_again(&first_like).await;
    bed.publish_again(&first_message).await;
    eventually("the like is pushed", async || {
        (pushes(&notice, "like", "sent").await == 1).then_some(())
    })
    .await;
    eventually("the message is pushed", async || {
        (pushes(&notice, "message", "sent").await == 1).then_some(())
    })
    .await;
}

/// Of a quiet fleet: the Spring notice begins at the record at which ours ends, and this one is before it.
async fn a_spring_notice_that_was_gone_between_two_records_pushes_no_more(bed: Bed) {
    let notice = replica(&bed, &[AT_ONCE, ("fleet.spring", "notice")]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    device(&bed, &kim, "phone").await;
    applied(&notice, "deviceToken", 1).await;
    set_spring(&notice, &[]).await;
    set_spring(&notice, &["notice"]).await;
    bed.publish(like(&lee, &kim, DATE)).await;
    eventually("the like is pushed", async || {
        (pushes(&notice, "like", "sent").await == 1).then_some(())
    })
    .await;
}

async fn without_a_device_nothing_is_sent(bed: Bed) {
    let notice = replica(&bed, &[AT_ONCE]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    bed.publish(like(&lee, &kim, DATE)).await;
    eventually("it is looked at", async || {
        (pushes(&notice, "like", "no-device").await == 1).then_some(())
    })
    .await;
}

/// The withdrawal may be read first: the two travel on two topics.
async fn a_retracted_message_gets_no_push(bed: Bed) {
    let notice = replica(&bed, &[AT_ONCE]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    device(&bed, &kim, "phone").await;
    applied(&notice, "deviceToken", 1).await;
    let retracted = Envelope::new(message(&lee, &kim, false), &bed.context);
    bed.publish(MessageChanged {
        message: retracted.meta.id.to_string(),
        sender: lee.account.clone(),
        receiver: kim.account.clone(),
        change: MessageChange::Retracted,
    })
    .await;
    applied(&notice, "messageChange", 1).await;
    bed.publish_again(&retracted).await;
    bed.publish(message(&lee, &kim, false)).await;
    applied(&notice, "directMessage", 2).await;
    eventually("the other message is pushed", async || {
        (pushes(&notice, "message", "sent").await == 1).then_some(())
    })
    .await;
}

/// A room's id.
pub const ROOM: &str = "01890000-0000-7000-8000-000000000000";

/// As dm publishes it: the event has the id of the message.
pub fn room_message(bed: &Bed, sender: &Person, receivers: &[&Person], number: i64) -> Envelope<RoomMessageSent> {
    let receivers: Vec<_> = receivers.iter().map(|person| person.account.clone()).collect();
    let members = std::iter::once(sender.account.clone()).chain(receivers.iter().cloned());
    let event = RoomMessageSent {
        room: ROOM.to_owned(),
        message: String::new(),
        members: members.collect(),
        change: None,
        push: Some(RoomPush {
            sender: sender.account.clone(),
            nickname: sender.nickname.clone(),
            room_name: "우리반".to_owned(),
            number,
            date: DATE,
            text: "안녕".to_owned(),
            receivers,
        }),
    };
    let mut envelope = Envelope::new(event, &bed.context);
    envelope.event.message = envelope.meta.id.to_string();
    envelope
}

/// The event of a change of that message.
pub fn room_change(message: &Envelope<RoomMessageSent>, change: MessageChange) -> RoomMessageSent {
    RoomMessageSent {
        change: Some(change),
        push: None,
        ..message.event.clone()
    }
}

async fn a_message_of_a_room_is_pushed_once_to_each_receiver(bed: Bed) {
    let notice = replica(
        &bed,
        &[AT_ONCE, ("push.per-thread", "off"), ("push.per-account", "off")],
    )
    .await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    let park = bed.person("park@example.com+apple", "park").await;
    for person in [&kim, &lee, &park] {
        device(&bed, person, &person.nickname).await;
    }
    applied(&notice, "deviceToken", 3).await;
    // An earlier release of dm names no receivers of pushes.
    let mut earlier = room_message(&bed, &lee, &[&kim, &park], 1);
    earlier.event.push = None;
    bed.publish_again(&earlier).await;
    let first = room_message(&bed, &lee, &[&kim, &park], 2);
    for _ in 0..2 {
        bed.publish_again(&first).await;
    }
    bed.publish(room_change(&first, MessageChange::Edited)).await;
    bed.publish(room_change(&first, MessageChange::Reacted)).await;
    applied(&notice, "roomMessage", 5).await;
    eventually("both pushes go", async || {
        (pushes(&notice, "message", "sent").await == 2).then_some(())
    })
    .await;

    let muted = [("muteRoom", ROOM)];
    let request = sosohappy_common::tls::client().post(notice.at("/notice-service/preferences"));
    let answer = park.sign(request).form(&muted).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    bed.mute(&kim, &[("안녕", None)]);
    eventually("a muted room and a muted word have no push", async || {
        let sent = pushes(&notice, "message", "sent").await;
        let unwanted = pushes(&notice, "message", "unwanted").await;
        let number = 3 + i64::try_from(sent + unwanted).expect("a count");
        bed.publish_again(&room_message(&bed, &lee, &[&kim, &park], number))
            .await;
        let next = async || (pushes(&notice, "message", "unwanted").await > unwanted).then_some(());
        eventually("park's is looked at", next).await;
        // The muted words of kim are known within seconds.
        tokio::time::sleep(Duration::from_millis(300)).await;
        (pushes(&notice, "message", "sent").await == sent).then_some(())
    })
    .await;
}

/// Receipts travel on another topic, and may be read before their messages.
async fn a_message_of_a_room_that_was_shown_read_or_retracted_gets_no_push(bed: Bed) {
    let notice = replica(
        &bed,
        &[AT_ONCE, ("push.per-thread", "off"), ("push.per-account", "off")],
    )
    .await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    let park = bed.person("park@example.com+apple", "park").await;
    for person in [&kim, &park] {
        device(&bed, person, &person.nickname).await;
    }
    applied(&notice, "deviceToken", 2).await;
    let message = |number| room_message(&bed, &lee, &[&kim, &park], number);
    let (retracted, read, shown, last) = (message(1), message(2), message(3), message(4));
    let receipt = |progress| MessageReceipt {
        reader: kim.account.clone(),
        progress,
    };
    bed.publish(receipt(ReceiptProgress::ReadRoom {
        room: ROOM.to_owned(),
        number: 2,
    }))
    .await;
    let of_kim = RoomMessageSent::push_id(shown.meta.id, &kim.account);
    bed.publish(receipt(ReceiptProgress::Shown {
        messages: vec![of_kim.to_string()],
    }))
    .await;
    applied(&notice, "messageReceipt", 2).await;
    bed.publish(room_change(&retracted, MessageChange::Retracted)).await;
    for message in [&retracted, &read, &shown, &last] {
        bed.publish_again(message).await;
    }
    applied(&notice, "roomMessage", 5).await;
    // Park gets three, kim the last.
    let sent = async || pushes(&notice, "message", "sent").await + pushes(&notice, "message", "grouped").await;
    eventually("the other pushes go", async || (sent().await >= 4).then_some(())).await;
    tokio::time::sleep(QUIET).await;
    assert_eq!(sent().await, 4);
}

on_both_engines!(
    a_message_of_a_room_is_pushed_once_to_each_receiver,
    a_message_of_a_room_that_was_shown_read_or_retracted_gets_no_push,
    a_retracted_message_gets_no_push,
    a_half_open_socket_gets_its_push_on_default_settings,
    a_message_with_a_muted_word_is_not_pushed,
    a_like_switched_on_and_off_is_one_push,
    a_like_that_was_taken_back_is_not_pushed,
    limits_of_pushes_follow_a_change,
    a_half_open_socket_does_not_keep_its_account_from_a_push,
    a_message_is_pushed_to_a_person_who_was_offline_when_it_was_sent,
    a_person_without_a_socket_gets_a_push_once,
    who_is_there_gets_a_frame_and_no_push,
    a_message_that_dm_has_shown_is_not_pushed,
    what_happened_before_the_inbox_was_there_is_not_pushed,
    likes_and_messages_are_pushed_by_a_spring_notice,
    a_spring_notice_that_was_gone_between_two_records_pushes_no_more,
    without_a_device_nothing_is_sent,
);
