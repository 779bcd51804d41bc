//! Events of other services in any order, twice and late.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use sosohappy_bus::Start;
use sosohappy_events::types::{
    AccountResigned, AccountStateChanged, NicknameSet, PostLiked, Relation, RelationChanged, State,
};
use sosohappy_events::{Envelope, Event, Topic};
use sosohappy_testkit::{Bed, HeldBus, PATIENCE, Person, eventually, on_both_engines};
use tokio::time::timeout;

use super::{Feed, PNG, code, problem, saved};

on_both_engines!(
    events_in_any_order_leave_one_state,
    a_suspended_author_is_not_shown_until_restored,
    a_name_that_another_takes_names_the_other_at_once,
    people_write_and_read_while_auth_and_the_bus_are_unavailable,
);

const PUBLIC: &str = "2023090512000000";
const FOR_FRIENDS: &str = "2023090612000000";
const WITH_PICTURE: &str = "2023090712000000";
/// One more than there are people to take them.
const NAMES: [&str; PEOPLE + 1] = ["kim", "lee", "park", "choi", "jung"];
const PEOPLE: usize = 4;

impl Feed {
    async fn write_both(&self, who: &Person) {
        for (date, visibility) in [(PUBLIC, "public"), (FOR_FRIENDS, "friends")] {
            let form = [
                ("nickname", who.nickname.as_str()),
                ("date", date),
                ("weather", "sunny"),
                ("happiness", "3"),
                ("categoryList", "sea"),
                ("text", who.account.as_str()),
                ("isPublic", "true"),
                ("visibility", visibility),
            ];
            assert_eq!(self.post(who, "saveFeed", &form).await, super::saved());
        }
    }

    /// Returns the texts that a person sees under a nickname: those of an account. Or the status, such as of a caller who is suspended for a moment.
    async fn texts_of(&self, who: &Person, nickname: &str) -> Vec<String> {
        let params = [("srcNickname", who.nickname.as_str()), ("dstNickname", nickname)];
        let (status, body) = self.get(who, "findUserFeed", &params).await;
        if status != 200 {
            return vec![status.to_string()];
        }
        let slice: Value = serde_json::from_str(&body).unwrap();
        let posts = slice["content"].as_array().unwrap().iter();
        posts.map(|post| post["text"].as_str().unwrap().to_owned()).collect()
    }
}

/// Something that other services know of people, by their numbers.
#[derive(Debug, Clone)]
enum Change {
    Relation(usize, usize, Relation),
    State(usize, State),
    Name(usize, &'static str),
    Resign(usize),
}

impl Change {
    fn topic(&self) -> Topic {
        match self {
            Self::Relation(..) => RelationChanged::TOPIC,
            Self::State(..) => AccountStateChanged::TOPIC,
            Self::Name(..) => NicknameSet::TOPIC,
            Self::Resign(_) => AccountResigned::TOPIC,
        }
    }
}

struct World<'a> {
    bed: &'a Bed,
    people: Vec<Person>,
    /// Each with its moment: later ones are greater.
    changes: Vec<(Timestamp, Change)>,
}

impl World<'_> {
    fn random(&self, below: usize) -> usize {
        usize::try_from(self.bed.context.entropy.u64() % below as u64).unwrap()
    }

    async fn publish(&self, (at, change): &(Timestamp, Change)) {
        match change {
            Change::Relation(who, whom, relation) => {
                let event = RelationChanged {
                    relation: *relation,
                    account: self.people[*who].account.clone(),
                    other: self.people[*whom].account.clone(),
                };
                self.publish_at(event, *at).await;
            }
            Change::State(who, state) => {
                let event = AccountStateChanged {
                    account: self.people[*who].account.clone(),
                    state: *state,
                };
                self.publish_at(event, *at).await;
            }
            Change::Name(who, name) => {
                let event = NicknameSet {
                    account: self.people[*who].account.clone(),
                    nickname: Some((*name).to_owned()),
                };
                self.publish_at(event, *at).await;
            }
            Change::Resign(who) => {
                let event = AccountResigned {
                    account: self.people[*who].account.clone(),
                    nickname: self.people[*who].nickname.clone(),
                };
                self.publish_at(event, *at).await;
            }
        }
    }

    async fn publish_at<E: Event>(&self, event: E, at: Timestamp) {
        let mut envelope = Envelope::new(event, &self.bed.context);
        envelope.meta.occurred_at = at;
        self.bed.publish_again(&envelope).await;
    }

    /// Whether the last change of this kind was one of these.
    fn last<T: PartialEq>(&self, of: impl Fn(&Change) -> Option<T>) -> Option<T> {
        self.changes.iter().rev().find_map(|(_, change)| of(change))
    }

    fn has(&self, who: usize, whom: usize, on: Relation, off: Relation) -> bool {
        self.last(|change| match change {
            Change::Relation(one, other, relation) if (*one, *other) == (who, whom) && [on, off].contains(relation) => {
                Some(*relation == on)
            }
            _ => None,
        }) == Some(true)
    }

    fn is_suspended(&self, who: usize) -> bool {
        self.last(|change| match change {
            Change::State(one, state) if *one == who => Some(*state),
            _ => None,
        }) == Some(State::Suspended)
    }

    fn is_resigned(&self, who: usize) -> bool {
        let mut changes = self.changes.iter();
        changes.any(|(_, change)| matches!(change, Change::Resign(one) if *one == who))
    }

    /// How many posts of an author everybody may see.
    fn public(&self, author: usize) -> usize {
        usize::from(!self.is_suspended(author) && !self.is_resigned(author))
    }

    /// What the viewer sees of an author.
    fn expected(&self, viewer: usize, author: usize) -> usize {
        let either = |on, off| [self.has(viewer, author, on, off), self.has(author, viewer, on, off)];
        if either(Relation::Block, Relation::Unblock).contains(&true) || self.public(author) == 0 {
            0
        } else if either(Relation::Follow, Relation::Unfollow) == [true, true] {
            2
        } else {
            1
        }
    }
}

impl World<'_> {
    /// Chooses what happens to people who begin with the first names, and returns the names that they have at the end.
    fn happen(&mut self) -> HashMap<usize, &'static str> {
        let begin = self.bed.context.clock.now();
        let mut names: HashMap<usize, &str> = (0..PEOPLE).map(|number| (number, NAMES[number])).collect();
        for number in 0..40 {
            let (who, whom) = (self.random(PEOPLE), self.random(PEOPLE));
            let change = match self.random(8) {
                0 => Change::Relation(who, whom, Relation::Block),
                1 => Change::Relation(who, whom, Relation::Unblock),
                2 | 3 => Change::Relation(who, whom, Relation::Follow),
                4 => Change::Relation(who, whom, Relation::Unfollow),
                5 => Change::State(who, [State::Suspended, State::Restored][self.random(2)]),
                _ => {
                    names.insert(who, free(&names));
                    Change::Name(who, names[&who])
                }
            };
            if !matches!(change, Change::Relation(one, other, _) if one == other) {
                self.changes
                    .push((begin + Duration::from_millis(number * 10 + 10), change));
            }
        }
        // All but two can sign in at the end: what each sees is asked with their own tokens.
        for who in 0..PEOPLE {
            let at = begin + Duration::from_secs(1);
            self.changes.push((at, Change::State(who, State::Restored)));
        }
        let suspended = self.random(PEOPLE);
        let resigned = (suspended + 1 + self.random(PEOPLE - 1)) % PEOPLE;
        for change in [Change::State(suspended, State::Suspended), Change::Resign(resigned)] {
            self.changes.push((begin + Duration::from_secs(2), change));
        }
        names
    }

    /// Returns the numbers of all changes in a random order, some of them twice, the resignation at the end among these. Records of compacted
    /// topics: late ones are older states of their keys.
    fn order(&self) -> Vec<usize> {
        let changes = self.changes.len();
        let mut order: Vec<usize> = (0..changes)
            .chain((0..20).map(|_| self.random(changes)))
            .chain([changes - 1])
            .collect();
        for at in (1..order.len()).rev() {
            let other = self.random(at + 1);
            order.swap(at, other);
        }
        order
    }

    /// Waits until feed has applied these changes, those that came after what had made them void among them.
    async fn applied(&self, feed: &Feed, order: &[usize]) {
        for (topic, kind, before) in [
            (Topic::Relation, "consumer", 0),
            (Topic::AccountState, "consumer", 0),
            (Topic::AccountState, "reader", 0),
            // The names that the people and the viewer began with.
            (Topic::EmailAndNickname, "consumer", PEOPLE + 1),
            (Topic::Resign, "consumer", 0),
            (Topic::Resign, "reader", 0),
        ] {
            let changes = order.iter().map(|number| &self.changes[*number].1);
            let published = before + changes.filter(|change| change.topic() == topic).count();
            let published = f64::from(u32::try_from(published).unwrap());
            let (topic, kind) = (
                format!(r#"topic="{}""#, topic.default_name()),
                format!(r#"kind="{kind}""#),
            );
            eventually(&format!("{published} of {topic} {kind} are applied"), async || {
                let labels = [topic.as_str(), kind.as_str(), r#"outcome="applied""#];
                let applied = feed.running.metric("events_consumed_total", &labels);
                (applied >= published).then_some(())
            })
            .await;
        }
    }
}

/// A name without an account.
fn free(names: &HashMap<usize, &'static str>) -> &'static str {
    NAMES
        .into_iter()
        .find(|name| !names.values().any(|taken| taken == name))
        .expect("there are more names than people")
}

async fn events_in_any_order_leave_one_state(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let mut people = Vec::new();
    for name in &NAMES[..PEOPLE] {
        people.push(bed.person(&format!("{name}@example.com+kakao"), name).await);
    }
    // Sees what others do; no event is about this one.
    let viewer = bed.person("viewer@example.com+kakao", "viewer").await;
    for person in &people {
        feed.write_both(person).await;
    }
    let mut world = World {
        bed: &bed,
        people,
        changes: Vec::new(),
    };
    let names = world.happen();
    for (number, name) in &names {
        if world.is_resigned(*number) {
            bed.forget(&world.people[*number]);
        } else {
            bed.set_nickname(&world.people[*number].account, name);
        }
        (*name).clone_into(&mut world.people[*number].nickname);
    }
    let order = world.order();
    for number in &order {
        world.publish(&world.changes[*number]).await;
    }
    world.applied(&feed, &order).await;

    let told = format!("{:?} in the order {order:?}", world.changes);
    for author in 0..PEOPLE {
        let account = world.people[author].account.as_str().to_owned();
        let signed_in = |who: &usize| !world.is_suspended(*who) && !world.is_resigned(*who);
        for who in (0..PEOPLE).filter(signed_in).filter(|who| *who != author) {
            let expected = vec![account.clone(); world.expected(who, author)];
            eventually(&format!("{who} sees {expected:?}: {told}"), async || {
                let seen = feed.texts_of(&world.people[who], names[&author]).await;
                (seen == expected).then_some(())
            })
            .await;
        }
        let expected = vec![account; world.public(author)];
        eventually(&format!("the viewer sees {expected:?}: {told}"), async || {
            (feed.texts_of(&viewer, names[&author]).await == expected).then_some(())
        })
        .await;
    }
    eventually(&format!("the free name is nobody's: {told}"), async || {
        feed.texts_of(&viewer, free(&names)).await.is_empty().then_some(())
    })
    .await;
    for (number, person) in world.people.iter().enumerate() {
        let erase = format!("DELETE FROM post WHERE account = '{}'", person.account.as_str());
        let left = if world.is_resigned(number) { 0 } else { 2 };
        assert_eq!(bed.sql("feed", erase.leak()).await, left, "{number}: {told}");
    }
}

async fn a_suspended_author_is_not_shown_until_restored(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    feed.write_both(&kim).await;
    assert_eq!(feed.save_with(&kim, WITH_PICTURE, &[*PNG]).await, saved());
    feed.save(&lee, PUBLIC, "3", "sea").await;
    feed.like(&kim, &lee, PUBLIC).await;
    let picture = async || {
        let params = [("srcNickname", "lee"), ("dstNickname", "kim"), ("date", WITH_PICTURE)];
        let (_, body) = feed.post(&lee, "findDetailFeed", &params).await;
        let post: Value = serde_json::from_str(&body).unwrap();
        post["imageIdList"][0].as_i64().unwrap()
    };
    let status_of = async |image: i64| {
        let shown = feed.client.get(feed.at(&format!("image/{image}"))).send().await;
        shown.unwrap().status().as_u16()
    };
    let known = picture().await;
    assert_eq!(status_of(known).await, 200);
    let comment = [
        ("srcNickname", "kim"),
        ("nickname", "lee"),
        ("date", PUBLIC),
        ("text", "축하해"),
    ];
    assert_eq!(feed.post(&kim, "saveComment", &comment).await.0, 200);
    let comments = async || {
        let params = [("srcNickname", "lee"), ("nickname", "lee"), ("date", PUBLIC)];
        let (_, body) = feed.get(&lee, "findComment", &params).await;
        serde_json::from_str::<Value>(&body).unwrap()["numberOfElements"]
            .as_i64()
            .unwrap()
    };
    assert_eq!((feed.sees(&lee).await.len(), comments().await), (2, 1));

    let decide = async |state: State| {
        let account = kim.account.clone();
        bed.publish(AccountStateChanged { account, state }).await;
    };
    decide(State::Suspended).await;
    eventually("the author is not shown", async || {
        feed.sees(&lee).await.is_empty().then_some(())
    })
    .await;
    assert!(feed.texts_of(&lee, "kim").await.is_empty());
    assert!(feed.likers(&lee, PUBLIC).await.is_empty());
    assert_eq!(comments().await, 0);
    assert_eq!(code(&feed.like(&lee, &kim, PUBLIC).await), problem(404, "no-such-post"));
    assert_eq!(code(&feed.view(&lee, &kim, PUBLIC).await), problem(404, "no-such-post"));
    eventually("the known id of a picture names nothing", async || {
        (status_of(known).await == 404).then_some(())
    })
    .await;

    decide(State::Restored).await;
    eventually("the author is shown again", async || {
        (feed.sees(&lee).await.len() == 2).then_some(())
    })
    .await;
    let renewed = picture().await;
    assert_ne!(renewed, known);
    assert_eq!(status_of(renewed).await, 200);
    assert_eq!((feed.likers(&lee, PUBLIC).await.len(), comments().await), (1, 1));
}

/// Nothing that is meant for the one who has a name now reaches the one who had it, and nothing of the one comes from the other.
async fn a_name_that_another_takes_names_the_other_at_once(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let mut kim = bed.person("kim@example.com+kakao", "kim").await;
    let mut lee = bed.person("lee@example.com+google", "lee").await;
    let park = bed.person("park@example.com+google", "park").await;
    feed.write_both(&kim).await;
    feed.save(&park, PUBLIC, "3", "sea").await;
    assert_eq!(feed.texts_of(&park, "kim").await, [kim.account.as_str().to_owned()]);

    // Auth has renamed both, and the events are still to come.
    bed.set_nickname(&kim.account, "kim2");
    bed.set_nickname(&lee.account, "kim");
    "kim2".clone_into(&mut kim.nickname);
    "kim".clone_into(&mut lee.nickname);
    let mut notices = bed.bus.read(&[Topic::NoticeLike], Start::Earliest).await.unwrap();
    for who in [&lee, &kim] {
        feed.write_both(who).await;
        assert_eq!(feed.like(who, &park, PUBLIC).await.1, r#"{"like":true}"#);
        let record = timeout(PATIENCE, notices.next())
            .await
            .expect("a notice comes")
            .unwrap();
        let liked = Envelope::<PostLiked>::decode(&record).unwrap().event;
        assert_eq!(
            (liked.liker, liked.liker_account, liked.author_account),
            (
                who.nickname.clone(),
                Some(who.account.clone()),
                Some(park.account.clone())
            )
        );
    }

    bed.rename(&kim.account, "kim2").await;
    bed.rename(&lee.account, "kim").await;
    for who in [&lee, &kim] {
        eventually("the name is its bearer's", async || {
            (feed.texts_of(&park, &who.nickname).await == [who.account.as_str().to_owned()]).then_some(())
        })
        .await;
    }
    eventually("the likes are under the new names", async || {
        let mut likers = feed.likers(&park, PUBLIC).await;
        likers.sort();
        (likers == ["kim", "kim2"]).then_some(())
    })
    .await;
    feed.like(&park, &lee, PUBLIC).await;
    assert_eq!(feed.likers(&lee, PUBLIC).await, ["park"]);
    assert!(feed.likers(&kim, PUBLIC).await.is_empty());
}

/// The token registry and the directory know who acts, and events wait in the outbox.
async fn people_write_and_read_while_auth_and_the_bus_are_unavailable(bed: Bed) {
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    let bus = HeldBus::unpublished(bed.bus.clone(), Topic::Post);
    let without_auth = [("access.auth-url", "http://127.0.0.1:9")];
    let feed = Feed::serve_on(&bed, bus.clone(), bed.context.clock.clone(), &without_auth).await;
    let feed = feed.ready().await;
    for who in [&kim, &lee] {
        let day = [("nickname", who.nickname.as_str()), ("date", PUBLIC)];
        eventually("the topics have brought the person", async || {
            (feed.post(who, "findDayFeed", &day).await.0 == 200).then_some(())
        })
        .await;
    }
    feed.save(&kim, PUBLIC, "3", "sea").await;
    assert_eq!(feed.sees(&lee).await.len(), 1);
    assert_eq!(feed.like(&lee, &kim, PUBLIC).await.1, r#"{"like":true}"#);
    let comment = [
        ("srcNickname", "lee"),
        ("nickname", "kim"),
        ("date", PUBLIC),
        ("text", "축하해"),
    ];
    assert_eq!(feed.post(&lee, "saveComment", &comment).await.0, 200);
    assert_eq!(feed.likers(&kim, PUBLIC).await, ["lee"]);
    assert_eq!(
        code(&feed.view(&lee, &kim, PUBLIC).await),
        problem(404, "no-such-post"),
        "the view is fed by events alone"
    );

    bus.release();
    eventually("the events are published and applied", async || {
        let (status, body) = feed.view(&lee, &kim, PUBLIC).await;
        let view: Value = serde_json::from_str(&body).unwrap();
        (status == 200 && view["likeCount"] == 1 && view["commentCount"] == 1).then_some(())
    })
    .await;

    // The broker takes nothing, and hands nothing out.
    let broker_is_away = async |value: &str| {
        let values = [("flags.fault.broker-away".to_owned(), value.into())];
        let refreshed = feed.running.context.settings.set(values.into_iter().collect()).await;
        assert!(refreshed.unwrap().unwrap().needs_restart.is_empty());
    };
    broker_is_away("true").await;
    assert_eq!(feed.like(&lee, &kim, PUBLIC).await.1, r#"{"like":false}"#);
    feed.save(&lee, PUBLIC, "3", "sea").await;
    assert_eq!((feed.sees(&kim).await.len(), feed.sees(&lee).await.len()), (1, 1));
    assert!(feed.likers(&kim, PUBLIC).await.is_empty());
    let (_, body) = feed.view(&lee, &kim, PUBLIC).await;
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["likeCount"], 1);

    broker_is_away("").await;
    eventually("the events are published and applied", async || {
        let (_, body) = feed.view(&lee, &kim, PUBLIC).await;
        let view: Value = serde_json::from_str(&body).unwrap();
        (view["likeCount"] == 0 && feed.view(&kim, &lee, PUBLIC).await.0 == 200).then_some(())
    })
    .await;
}
