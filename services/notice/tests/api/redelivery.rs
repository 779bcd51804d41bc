//! The redelivery of every record of every topic, in order and backwards, changes nothing.

use jiff::Timestamp;
use serde_json::{Value, json};
use sosohappy_events::types::{
    AccountResigned, Device, DeviceTokenSet, DirectMessageSent, FollowChanged, MessageChange, MessageChanged,
    MessageReceipt, NoticeRaised, PostChanged, PostLiked, ReceiptProgress, RoomMessageSent, WithdrawnLike,
};
use sosohappy_events::{Envelope, Event};
use sosohappy_testkit::{Bed, Person, Running, eventually, on_both_engines};

use crate::fleet::{AT_ONCE, DATE, QUIET, applied, connect, counted, deleted_post, kim, lee, like, replica};
use crate::pushes::{ROOM, message, room_change, room_message};

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

/// What happened to kim: likes that stay, one that was taken back, one whose post was deleted and one of an account that resigned since and signed
/// up again; a comment, a follow that ended and one that stays, devices that came and left, and [`Conversations`].
struct Topics {
    likes: Vec<Envelope<PostLiked>>,
    notices: Vec<Envelope<NoticeRaised>>,
    posts: Vec<Envelope<PostChanged>>,
    follows: Vec<Envelope<FollowChanged>>,
    devices: Vec<Envelope<DeviceTokenSet>>,
    resignations: Vec<Envelope<AccountResigned>>,
    conversations: Conversations,
}

/// Messages to kim that are pushed, and of other ones what happened to them: shown, read or retracted. The same of a room.
struct Conversations {
    messages: Vec<Envelope<DirectMessageSent>>,
    changes: Vec<Envelope<MessageChanged>>,
    receipts: Vec<Envelope<MessageReceipt>>,
    rooms: Vec<Envelope<RoomMessageSent>>,
}

impl Topics {
    async fn publish(&self, bed: &Bed, backwards: bool) {
        publish_all(bed, &self.devices, backwards).await;
        publish_all(bed, &self.resignations, backwards).await;
        publish_all(bed, &self.likes, backwards).await;
        publish_all(bed, &self.notices, backwards).await;
        publish_all(bed, &self.posts, backwards).await;
        publish_all(bed, &self.follows, backwards).await;
        publish_all(bed, &self.conversations.messages, backwards).await;
        publish_all(bed, &self.conversations.rooms, backwards).await;
        publish_all(bed, &self.conversations.changes, backwards).await;
        publish_all(bed, &self.conversations.receipts, backwards).await;
    }

    /// Publishes everything, the devices and what withdraws or settles something first, so that it is known which pushes are sent.
    async fn publish_in_order(&self, bed: &Bed, notice: &Running) {
        publish_all(bed, &self.devices, false).await;
        publish_all(bed, &self.notices, false).await;
        publish_all(bed, &self.posts, false).await;
        publish_all(bed, &self.resignations, false).await;
        publish_all(bed, &self.conversations.changes, false).await;
        publish_all(bed, &self.conversations.receipts, false).await;
        for topic in [
            "post",
            "deviceToken",
            "notice",
            "resign",
            "messageChange",
            "messageReceipt",
        ] {
            self.applied_of(notice, topic, 1).await;
        }
        publish_all(bed, &self.likes, false).await;
        publish_all(bed, &self.follows, false).await;
        publish_all(bed, &self.conversations.messages, false).await;
        publish_all(bed, &self.conversations.rooms, false).await;
        self.applied(notice, 1).await;
    }

    /// The number of records of each topic that notice consumes.
    fn counts(&self) -> [(&'static str, usize); 10] {
        [
            ("deviceToken", self.devices.len()),
            ("noticeLike", self.likes.len()),
            ("notice", self.notices.len()),
            ("post", self.posts.len()),
            ("follow", self.follows.len()),
            ("resign", self.resignations.len()),
            ("directMessage", self.conversations.messages.len()),
            ("messageChange", self.conversations.changes.len()),
            ("messageReceipt", self.conversations.receipts.len()),
            ("roomMessage", self.conversations.rooms.len()),
        ]
    }

    /// Waits until the consumers have applied every record that many times.
    async fn applied(&self, notice: &Running, times: usize) {
        for (topic, _) in self.counts() {
            self.applied_of(notice, topic, times).await;
        }
    }

    async fn applied_of(&self, notice: &Running, topic: &str, times: usize) {
        let (_, count) = self.counts().into_iter().find(|(name, _)| *name == topic).expect(topic);
        applied(notice, topic, u64::try_from(count * times).expect("a count")).await;
    }
}

/// Times a millisecond after each other, all after the inbox was created: what happened earlier is not pushed.
struct Later(Timestamp);

impl Later {
    fn tick(&mut self) -> Timestamp {
        let next = self.0.as_millisecond() + 1;
        self.0 = Timestamp::from_millisecond(next).expect("a time");
        self.0
    }
}

fn topics(bed: &Bed, kim: &Person, [lee, park, choi]: [&Person; 3]) -> Topics {
    let mut times = Later(bed.context.clock.now());
    let mut later = || times.tick();
    let before = (like(choi, kim, DATE + 1), later());
    let resignation = AccountResigned {
        account: choi.account.clone(),
        nickname: choi.nickname.clone(),
    };
    let resignations = [(resignation, later())];
    let likes = [(lee, 0), (park, 0), (lee, 1), (lee, 2), (park, NEXT_DAY), (choi, 0)];
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
    Topics {
        likes: envelopes(bed, std::iter::once(before).chain(likes)),
        notices: envelopes(bed, notices),
        posts: envelopes(bed, posts),
        follows: envelopes(bed, follows),
        devices: envelopes(bed, devices_of(kim, park, &mut times)),
        resignations: envelopes(bed, resignations),
        conversations: conversations(bed, kim, [lee, park], &mut times),
    }
}

/// A phone that stays, and a pad that came and left.
fn devices_of(kim: &Person, park: &Person, times: &mut Later) -> [(DeviceTokenSet, Timestamp); 3] {
    let device = |person: &Person, token: &str, since| Device {
        session: person.session,
        token: token.to_owned(),
        since,
    };
    let list = |devices: Vec<Device>| {
        let open = devices.iter().map(|device| device.session).collect();
        DeviceTokenSet::all(kim.account.clone(), devices).with_sessions(open)
    };
    let (first, second, third) = (times.tick(), times.tick(), times.tick());
    let (phone, pad) = (device(kim, "phone", first), device(park, "pad", second));
    [
        (list(vec![phone.clone()]), first),
        (list(vec![phone.clone(), pad]), second),
        (list(vec![phone]), third),
    ]
}

fn conversations(bed: &Bed, kim: &Person, [lee, park]: [&Person; 2], times: &mut Later) -> Conversations {
    // Lee's two messages are pushed, and one of three of the room.
    let messages = [lee, lee, lee, lee, park].map(|sender| (message(sender, kim, false), times.tick()));
    let messages = envelopes(bed, messages);
    let [shown, retracted, read] = [2, 3, 4].map(|number: usize| messages[number].meta.id.to_string());
    let of_room = [1, 2, 3].map(|number| room_message(bed, lee, &[kim], number));
    let retraction = room_change(&of_room[1], MessageChange::Retracted);
    let retraction = envelopes(bed, [(retraction, times.tick())]);
    let change = MessageChanged {
        message: retracted,
        sender: lee.account.clone(),
        receiver: kim.account.clone(),
        change: MessageChange::Retracted,
    };
    let receipts = [
        ReceiptProgress::Shown { messages: vec![shown] },
        ReceiptProgress::Read {
            sender: park.account.clone(),
            message: read,
        },
        ReceiptProgress::ReadRoom {
            room: ROOM.to_owned(),
            number: 1,
        },
    ];
    let receipts = receipts.map(|progress| {
        let reader = kim.account.clone();
        (MessageReceipt { reader, progress }, times.tick())
    });
    Conversations {
        messages,
        changes: envelopes(bed, [(change, times.tick())]),
        receipts: envelopes(bed, receipts),
        rooms: retraction.into_iter().chain(of_room).collect(),
    }
}

fn envelopes<E: Event>(bed: &Bed, events: impl IntoIterator<Item = (E, Timestamp)>) -> Vec<Envelope<E>> {
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
    let choi = bed.person("choi@example.com+kakao", "choi").await;
    let topics = topics(&bed, &kim, [&lee, &park, &choi]);
    topics.publish_in_order(&bed, &notice).await;
    // Four likes, a comment, a follow, two messages and one of the room.
    eventually("all are pushed", async || (sent(&notice).await == 9).then_some(())).await;
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
    assert_eq!(sent(&notice).await, 9, "nothing is pushed again");
}

on_both_engines!(redelivery_of_all_topics_changes_nothing);
