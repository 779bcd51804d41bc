//! Events of other services in any order, twice and late.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use sosohappy_events::types::{AccountStateChanged, NicknameSet, Relation, RelationChanged, State};
use sosohappy_events::{Envelope, Event, Topic};
use sosohappy_testkit::{Bed, HeldBus, Person, eventually, on_both_engines};

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
const NAMES: [&str; 4] = ["kim", "lee", "park", "choi"];

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

    /// Returns the texts that somebody sees under a nickname: those of an account. Or the status, such as of a caller who is suspended for a moment.
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

    /// What the viewer sees of an author.
    fn expected(&self, viewer: usize, author: usize) -> usize {
        let either = |on, off| [self.has(viewer, author, on, off), self.has(author, viewer, on, off)];
        if either(Relation::Block, Relation::Unblock).contains(&true) || self.is_suspended(author) {
            0
        } else if either(Relation::Follow, Relation::Unfollow) == [true, true] {
            2
        } else {
            1
        }
    }
}

async fn events_in_any_order_leave_one_state(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let mut people = Vec::new();
    for name in &NAMES[..3] {
        people.push(bed.person(&format!("{name}@example.com+kakao"), name).await);
    }
    // Sees what others do, and nothing is told of this one.
    let viewer = bed.person("viewer@example.com+kakao", "viewer").await;
    for person in &people {
        feed.write_both(person).await;
    }
    let mut world = World {
        bed: &bed,
        people,
        changes: Vec::new(),
    };
    let begin = bed.context.clock.now();
    let mut names: HashMap<usize, &str> = (0..3).map(|number| (number, NAMES[number])).collect();
    for number in 0..40 {
        let (who, whom) = (world.random(3), world.random(3));
        let change = match world.random(8) {
            0 => Change::Relation(who, whom, Relation::Block),
            1 => Change::Relation(who, whom, Relation::Unblock),
            2 | 3 => Change::Relation(who, whom, Relation::Follow),
            4 => Change::Relation(who, whom, Relation::Unfollow),
            5 => Change::State(who, [State::Suspended, State::Restored][world.random(2)]),
            _ => {
                // The one that nobody has at this moment.
                let free = NAMES
                    .into_iter()
                    .find(|name| !names.values().any(|taken| taken == name));
                names.insert(who, free.unwrap());
                Change::Name(who, free.unwrap())
            }
        };
        if !matches!(change, Change::Relation(one, other, _) if one == other) {
            world
                .changes
                .push((begin + Duration::from_millis(number * 10 + 10), change));
        }
    }
    // All people can sign in at the end: what each sees is asked with their own tokens.
    for who in 0..3 {
        let at = begin + Duration::from_secs(1);
        world.changes.push((at, Change::State(who, State::Restored)));
    }
    let suspended = world.random(3);
    let last = (
        begin + Duration::from_secs(2),
        Change::State(suspended, State::Suspended),
    );
    world.changes.push(last);

    // Records of a compacted topic: late ones are older states of their keys.
    let mut order: Vec<usize> = (0..world.changes.len())
        .chain((0..20).map(|_| world.random(40)))
        .collect();
    order.retain(|number| *number < world.changes.len());
    for at in (1..order.len()).rev() {
        let other = world.random(at + 1);
        order.swap(at, other);
    }
    for (number, name) in &names {
        bed.set_nickname(&world.people[*number].account, name);
        (*name).clone_into(&mut world.people[*number].nickname);
    }
    for number in order {
        world.publish(&world.changes[number]).await;
    }
    let told = format!("{:?}", world.changes);
    for author in 0..3 {
        let account = world.people[author].account.as_str().to_owned();
        for who in (0..3).filter(|who| *who != author && *who != suspended) {
            let expected = vec![account.clone(); world.expected(who, author)];
            eventually(&format!("{who} sees {expected:?}: {told}"), async || {
                let seen = feed.texts_of(&world.people[who], names[&author]).await;
                (seen == expected).then_some(())
            })
            .await;
        }
        let expected = vec![account; usize::from(author != suspended)];
        eventually(&format!("the viewer sees {expected:?}: {told}"), async || {
            (feed.texts_of(&viewer, names[&author]).await == expected).then_some(())
        })
        .await;
    }
    let free = NAMES
        .into_iter()
        .find(|name| !names.values().any(|taken| taken == name));
    eventually(&format!("the free name is nobody's: {told}"), async || {
        feed.texts_of(&viewer, free.unwrap()).await.is_empty().then_some(())
    })
    .await;
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

/// Nothing that is meant for the one who has a name now reaches the one who had it.
async fn a_name_that_another_takes_names_the_other_at_once(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let mut lee = bed.person("lee@example.com+google", "lee").await;
    let park = bed.person("park@example.com+google", "park").await;
    feed.write_both(&kim).await;
    feed.write_both(&lee).await;
    assert_eq!(feed.texts_of(&park, "kim").await, [kim.account.as_str().to_owned()]);
    bed.rename(&kim.account, "kim2").await;
    bed.rename(&lee.account, "kim").await;
    "kim".clone_into(&mut lee.nickname);
    // From the first request that goes under the new name on.
    eventually("the new name is accepted", async || {
        (feed.likers(&lee, PUBLIC).await.is_empty()).then_some(())
    })
    .await;
    eventually("the name is the other's", async || {
        (feed.texts_of(&park, "kim").await == [lee.account.as_str().to_owned()]).then_some(())
    })
    .await;
    feed.like(&park, &lee, PUBLIC).await;
    assert_eq!(feed.likers(&lee, PUBLIC).await, ["park"]);
    let kim = Person {
        nickname: "kim2".to_owned(),
        ..kim
    };
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
}
