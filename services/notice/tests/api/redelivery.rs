//! The redelivery of every record of every topic, in order and backwards, changes nothing.

use serde_json::{Value, json};
use sosohappy_events::types::{
    Device, DeviceTokenSet, DirectMessageSent, FollowChanged, NoticeRaised, PostChanged, PostLiked, Recipient,
    WithdrawnLike,
};
use sosohappy_events::{Envelope, Event};
use sosohappy_testkit::{Bed, Person, Running, eventually, on_both_engines};

use crate::fleet::{AT_ONCE, DATE, QUIET, applied, connect, counted, deleted_post, kim, lee, like, replica};

/// From the date of a post to that of another day.
const NEXT_DAY: i64 = 100_000_000;

async fn inbox(notice: &Running, person: &Person) -> Value {
    let request = sosohappy_common::tls::client().get(notice.at("/notice-service/findNotice?size=50"));
    let answer = person.sign(request).send().await.expect("an answer");
    answer.json().await.expect("JSON")
}

/// The ids of the devices: the time at which they were seen changes when a socket is opened.
async fn devices(notice: &Running, person: &Person) -> Vec<Value> {
    let request = sosohappy_common::tls::client().get(notice.at("/notice-service/devices"));
    let answer = person.sign(request).send().await.expect("an answer");
    let page: Value = answer.json().await.expect("JSON");
    let content = page["content"].as_array().expect("a list").iter();
    content.map(|device| device["id"].clone()).collect()
}

/// All pushes that were sent, of whatever kind.
async fn sent(notice: &Running) -> u64 {
    counted(notice, "notice_pushes_total", &[("outcome", "sent")]).await
        + counted(notice, "notice_pushes_total", &[("outcome", "grouped")]).await
}

async fn publish_all<E: Event>(bed: &Bed, envelopes: &[Envelope<E>], backwards: bool) {
    let mut order: Vec<&Envelope<E>> = envelopes.iter().collect();
    if backwards {
        order.reverse();
    }
    for envelope in order {
        bed.publish_again(envelope).await;
    }
}

/// What happened to kim: likes that stay, one that was taken back and one whose post was deleted, a comment, a follow that ended and one that stays, messages, and
/// devices that came and left.
struct Topics {
    likes: Vec<Envelope<PostLiked>>,
    notices: Vec<Envelope<NoticeRaised>>,
    posts: Vec<Envelope<PostChanged>>,
    follows: Vec<Envelope<FollowChanged>>,
    messages: Vec<Envelope<DirectMessageSent>>,
    devices: Vec<Envelope<DeviceTokenSet>>,
}

impl Topics {
    async fn publish(&self, bed: &Bed, backwards: bool) {
        publish_all(bed, &self.devices, backwards).await;
        publish_all(bed, &self.likes, backwards).await;
        publish_all(bed, &self.notices, backwards).await;
        publish_all(bed, &self.posts, backwards).await;
        publish_all(bed, &self.follows, backwards).await;
        publish_all(bed, &self.messages, backwards).await;
    }

    /// Waits until the consumers have applied every record that many times.
    async fn applied(&self, notice: &Running, times: usize) {
        for (topic, count) in [
            ("deviceToken", self.devices.len()),
            ("noticeLike", self.likes.len()),
            ("notice", self.notices.len()),
            ("post", self.posts.len()),
            ("follow", self.follows.len()),
            ("directMessage", self.messages.len()),
        ] {
            applied(notice, topic, u64::try_from(count * times).expect("a count")).await;
        }
    }
}

fn topics(bed: &Bed, kim: &Person, lee: &Person, park: &Person) -> Topics {
    // Each a millisecond after the one before, and all after the inbox was created: earlier ones are not pushed.
    let mut at = bed.context.clock.now();
    let mut later = || {
        at += std::time::Duration::from_millis(1);
        jiff::Timestamp::from_millisecond(at.as_millisecond()).expect("a time")
    };
    let device = |person: &Person, token: &str, since| Device {
        session: person.session,
        token: token.to_owned(),
        since,
    };
    let list = |devices: Vec<Device>| {
        let open = devices.iter().map(|device| device.session).collect();
        DeviceTokenSet::all(kim.account.clone(), devices).with_sessions(open)
    };
    let (first, second, third) = (later(), later(), later());
    let (phone, pad) = (device(kim, "phone", first), device(park, "pad", second));
    let devices = [
        (list(vec![phone.clone()]), first),
        (list(vec![phone.clone(), pad]), second),
        (list(vec![phone]), third),
    ];
    let likes = [(lee, 0), (park, 0), (lee, 1), (lee, 2), (park, NEXT_DAY)];
    let likes = likes.map(|(liker, day)| (like(liker, kim, DATE + day), later()));
    let taken_back = WithdrawnLike {
        liker: lee.account.clone(),
        date: DATE + 2,
    };
    let comment = NoticeRaised {
        receiver: kim.account.clone(),
        topic: "comment".to_owned(),
        data: json!({ "commenter": "park", "date": DATE, "commentId": 1 }),
        about: Some(park.account.clone()),
    };
    let notices = [
        (NoticeRaised::like_withdrawn(kim.account.clone(), &taken_back), later()),
        (comment, later()),
    ];
    let posts = [(deleted_post(kim, DATE + NEXT_DAY), later())];
    // The end of lee's follow is delivered before its begin, so that no push of it is sent.
    let (begin, end, other) = (later(), later(), later());
    let follows = [(lee, false, end), (lee, true, begin), (park, true, other)].map(|(follower, following, at)| {
        let changed = FollowChanged {
            follower: follower.account.clone(),
            followed: kim.account.clone(),
            following,
            friends: false,
        };
        (changed, at)
    });
    let messages = ["하나", "둘"].map(|text| {
        let frame = json!({ "sender": "lee", "receiver": "kim", "date": DATE, "text": text }).to_string();
        let message = DirectMessageSent {
            recipient: Recipient::Account(kim.account.clone()),
            message_id: None,
            sender_account: Some(lee.account.clone()),
            sender_socket: None,
            receiver_online: false,
            numbered: false,
            released: false,
            frame,
        };
        (message, later())
    });
    Topics {
        likes: envelopes(bed, likes),
        notices: envelopes(bed, notices),
        posts: envelopes(bed, posts),
        follows: envelopes(bed, follows),
        messages: envelopes(bed, messages),
        devices: envelopes(bed, devices),
    }
}

fn envelopes<E: Event>(bed: &Bed, events: impl IntoIterator<Item = (E, jiff::Timestamp)>) -> Vec<Envelope<E>> {
    let envelope = |(event, at)| {
        let mut envelope = Envelope::new(event, &bed.context);
        envelope.meta.occurred_at = at;
        envelope
    };
    events.into_iter().map(envelope).collect()
}

async fn redelivery_of_all_topics_changes_nothing(bed: Bed) {
    let notice = replica(
        &bed,
        &[AT_ONCE, ("push.per-thread", "off"), ("push.per-account", "off")],
    )
    .await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    let park = bed.person("park@example.com+apple", "park").await;
    let topics = topics(&bed, &kim, &lee, &park);
    // First the devices, and the withdrawals before their likes, so that it is known which pushes are sent.
    publish_all(&bed, &topics.devices, false).await;
    publish_all(&bed, &topics.notices, false).await;
    publish_all(&bed, &topics.posts, false).await;
    applied(&notice, "post", 1).await;
    applied(&notice, "deviceToken", 3).await;
    applied(&notice, "notice", 2).await;
    publish_all(&bed, &topics.likes, false).await;
    publish_all(&bed, &topics.follows, false).await;
    publish_all(&bed, &topics.messages, false).await;
    topics.applied(&notice, 1).await;
    // Three likes, a comment, a follow and two messages.
    eventually("all are pushed", async || (sent(&notice).await == 7).then_some(())).await;
    let (listed, registered) = (inbox(&notice, &kim).await, devices(&notice, &kim).await);
    assert_eq!(listed["content"].as_array().map(Vec::len), Some(4), "{listed}");
    assert_eq!(registered, [json!(kim.session.to_string())]);

    let mut socket = connect(&notice, &kim).await;
    for (round, backwards) in [(2, false), (3, true), (4, false)] {
        topics.publish(&bed, backwards).await;
        topics.applied(&notice, round).await;
    }
    assert!(socket.silent_for(QUIET).await, "nothing is shown again");
    assert_eq!(inbox(&notice, &kim).await, listed);
    assert_eq!(devices(&notice, &kim).await, registered);
    assert_eq!(sent(&notice).await, 7, "nothing is pushed again");
}

on_both_engines!(redelivery_of_all_topics_changes_nothing);
