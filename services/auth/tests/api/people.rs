//! Follows, effects of blocks, and muted words.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use sosohappy_events::types::{AccountResigned, FollowChanged, Relation, RelationChanged};
use sosohappy_testkit::{Bed, eventually, on_both_engines};

use crate::support::{Auth, Ground, KIM, LEE, Person, send};

on_both_engines!(
    follows_are_listed_and_published_once,
    two_who_follow_each_other_at_once_become_friends_once,
    lists_of_people_are_paged,
    a_block_ends_follows_and_hides_profiles_in_both_directions,
    a_block_of_an_older_release_ends_follows_when_it_is_repeated,
    a_resignation_ends_follows_and_erases_muted_words,
    muted_words_are_listed_until_they_expire,
    muted_words_are_bounded,
);

const PARK: (&str, &str, &str) = ("park@example.com", "apple", "park-at-apple");

impl Auth {
    /// Whether the call succeeded.
    async fn relate(&self, call: &str, by: &Person, nickname: &str) -> bool {
        let pair = json!({ "srcNickname": by.nickname, "dstNickname": nickname });
        let answer = send(by.sign(self.post(call).json(&pair))).await.expect(200);
        answer.body["success"].as_bool().expect("a truth value")
    }

    /// A page of `findFollowing`, `findFollower` or `blockList`.
    async fn people(&self, call: &str, by: &Person, query: &[(&str, &str)]) -> Value {
        send(by.sign(self.get(call).query(query))).await.expect(200).body
    }

    /// Nicknames of the first page, each with `friend` (null in the block list).
    async fn listed(&self, call: &str, by: &Person) -> Vec<(String, Value)> {
        let page = self.people(call, by, &[]).await;
        assert_eq!(page["nextCursor"], Value::Null);
        let content = page["content"].as_array().expect("a list").iter();
        content
            .map(|person| (text(&person["nickname"]), person["friend"].clone()))
            .collect()
    }

    async fn muted(&self, by: &Person) -> Value {
        send(by.sign(self.get("mutedWords"))).await.expect(200).body["words"].clone()
    }

    async fn mute(&self, by: &Person, body: Value) -> crate::support::Answer {
        send(by.sign(self.post("mutedWords").json(&body))).await
    }

    /// Returns the profile as others see it: the nickname beside the photo, and the introduction.
    async fn seen(&self, by: &Person, nickname: &str) -> (Value, Value) {
        let fields = [("nickname", nickname)];
        let photo = send(by.sign(self.post("findProfileImg").form(&fields)))
            .await
            .expect(200);
        let introduction = send(by.sign(self.post("findIntroduction").form(&fields))).await;
        (
            photo.body["nickname"].clone(),
            introduction.expect(200).body["introduction"].clone(),
        )
    }

    async fn introduce(&self, person: &Person, introduction: &str) {
        let fields = [
            ("email", person.account.as_str()),
            ("nickname", person.nickname.as_str()),
            ("introduction", introduction),
        ];
        send(person.sign(self.post("setProfile").form(&fields)))
            .await
            .expect(200);
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn is_friend(nickname: &str, friend: bool) -> Vec<(String, Value)> {
    vec![(nickname.to_owned(), Value::Bool(friend))]
}

fn follow(by: &Person, whom: &Person, following: bool, friends: bool) -> FollowChanged {
    FollowChanged {
        follower: by.account.parse().expect("an account"),
        followed: whom.account.parse().expect("an account"),
        following,
        friends,
    }
}

async fn follows_are_listed_and_published_once(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let (kim, lee) = (auth.person(KIM, "kim").await, auth.person(LEE, "lee").await);
    let mut follows = ground.watch::<FollowChanged>().await;
    let mut relations = ground.watch::<RelationChanged>().await;

    for _ in 0..2 {
        assert!(auth.relate("follow", &kim, "lee").await);
    }
    let first = follows.next().await;
    assert_eq!(first.event, follow(&kim, &lee, true, false));
    assert_eq!(relations.next().await.event.relation, Relation::Follow);
    assert_eq!(auth.listed("findFollowing", &kim).await, is_friend("lee", false));
    assert_eq!(auth.listed("findFollower", &lee).await, is_friend("kim", false));
    assert_eq!(auth.listed("findFollower", &kim).await, []);

    assert!(auth.relate("follow", &lee, "kim").await);
    assert_eq!(follows.next().await.event, follow(&lee, &kim, true, true));
    assert_eq!(relations.next().await.event.relation, Relation::Follow);
    for (call, person, other) in [
        ("findFollowing", &kim, "lee"),
        ("findFollower", &kim, "lee"),
        ("findFollowing", &lee, "kim"),
        ("findFollower", &lee, "kim"),
    ] {
        assert_eq!(auth.listed(call, person).await, is_friend(other, true), "{call}");
    }

    for _ in 0..2 {
        assert!(auth.relate("unfollow", &kim, "lee").await);
    }
    let last = follows.next().await;
    assert_eq!(last.event, follow(&kim, &lee, false, false));
    assert!(last.meta.occurred_at > first.meta.occurred_at);
    assert_eq!(relations.next().await.event.relation, Relation::Unfollow);
    assert_eq!(auth.listed("findFollowing", &kim).await, []);
    assert_eq!(auth.listed("findFollower", &kim).await, is_friend("lee", false));

    for nickname in ["nobody", "kim", ""] {
        assert!(!auth.relate("follow", &kim, nickname).await, "{nickname:?}");
    }
    for call in ["follow", "unfollow"] {
        let pair = json!({ "srcNickname": "lee", "dstNickname": "kim" });
        let answer = send(kim.sign(auth.post(call).json(&pair))).await.expect(403);
        assert_eq!(answer.code(), "not-yourself");
    }
    follows.expect_silence().await;
    relations.expect_silence().await;
}

async fn two_who_follow_each_other_at_once_become_friends_once(bed: Bed) {
    let ground = Ground::new(bed);
    let (one, other) = (ground.auth().await, ground.auth().await);
    let (kim, lee) = (one.person(KIM, "kim").await, one.person(LEE, "lee").await);
    let mut follows = ground.watch::<FollowChanged>().await;
    for _ in 0..5 {
        let (kims, lees) = tokio::join!(one.relate("follow", &kim, "lee"), other.relate("follow", &lee, "kim"));
        assert!(kims && lees);
        let (first, second) = (follows.next().await.event, follows.next().await.event);
        assert!(
            first.friends ^ second.friends,
            "the later one makes them friends: {first:?} {second:?}"
        );
        assert_eq!(one.listed("findFollowing", &kim).await, is_friend("lee", true));
        let (kims, lees) = tokio::join!(
            one.relate("unfollow", &kim, "lee"),
            other.relate("unfollow", &lee, "kim")
        );
        assert!(kims && lees);
        for _ in 0..2 {
            assert!(!follows.next().await.event.following);
        }
    }
}

async fn lists_of_people_are_paged(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let kim = auth.person(KIM, "kim").await;
    for number in 0..5 {
        let (email, nickname) = (format!("p{number}@example.com"), format!("p{number}"));
        let person = auth.person((&email, "google", &nickname), &nickname).await;
        // The clock stands still: only the time of kim's last event tells the followers apart.
        assert!(auth.relate("follow", &person, "kim").await);
    }
    for number in 0..5 {
        assert!(auth.relate("follow", &kim, &format!("p{number}")).await);
    }
    let pages = async |call: &str| {
        let (mut cursor, mut pages) = ("start".to_owned(), Vec::new());
        loop {
            let page = auth
                .people(call, &kim, &[("size", "2"), ("cursor", cursor.as_str())])
                .await;
            let people = page["content"].as_array().expect("a list").iter();
            pages.push(people.map(|person| text(&person["nickname"])).collect::<Vec<_>>());
            match page["nextCursor"].as_str() {
                Some(next) => next.clone_into(&mut cursor),
                None => return pages,
            }
        }
    };
    let newest_first = [vec!["p4", "p3"], vec!["p2", "p1"], vec!["p0"]];
    assert_eq!(pages("findFollower").await, newest_first);
    assert_eq!(pages("findFollowing").await, newest_first);
    for number in 0..5 {
        assert!(auth.relate("block", &kim, &format!("p{number}")).await);
    }
    assert_eq!(pages("blockList").await, newest_first);
    assert_eq!(pages("findFollower").await, [Vec::<String>::new()]);

    for call in ["findFollower", "findFollowing", "blockList"] {
        for (name, value) in [("size", "0"), ("size", "101"), ("cursor", "x"), ("cursor", "-1")] {
            send(kim.sign(auth.get(call).query(&[(name, value)]))).await.expect(400);
        }
        // An empty parameter is an absent one.
        auth.people(call, &kim, &[("size", ""), ("cursor", "")]).await;
        send(auth.get(call)).await.expect(403);
    }
}

async fn a_block_ends_follows_and_hides_profiles_in_both_directions(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let (kim, lee) = (auth.person(KIM, "kim").await, auth.person(LEE, "lee").await);
    let park = auth.person(PARK, "park").await;
    for person in [&kim, &lee] {
        auth.introduce(person, "안녕하세요").await;
    }
    let shown = |nickname: &str| (json!(nickname), json!("안녕하세요"));
    let hidden = (Value::Null, json!(""));
    assert!(auth.relate("follow", &kim, "lee").await && auth.relate("follow", &lee, "kim").await);
    assert_eq!(auth.seen(&lee, "kim").await, shown("kim"));

    assert!(auth.relate("block", &kim, "lee").await);
    assert_eq!(auth.seen(&lee, "kim").await, hidden, "from who is blocked");
    assert_eq!(auth.seen(&kim, "lee").await, hidden, "and from who blocks");
    assert_eq!(auth.seen(&lee, "KIM").await, hidden, "in any spelling");
    assert_eq!(auth.seen(&lee, "nobody").await, hidden, "as an unknown nickname");
    assert_eq!(auth.seen(&park, "kim").await, shown("kim"), "others see both");
    assert_eq!(auth.seen(&kim, "kim").await, shown("kim"), "oneself sees oneself");
    for (person, other) in [(&kim, "lee"), (&lee, "kim")] {
        for call in ["follow", "unfollow"] {
            assert!(!auth.relate(call, person, other).await, "no {call} across a block");
        }
        for call in ["findFollowing", "findFollower"] {
            assert_eq!(auth.listed(call, person).await, [], "{call} of {}", person.nickname);
        }
    }
    assert_eq!(
        auth.listed("blockList", &kim).await,
        [("lee".to_owned(), Value::Null)],
        "one's own blocks"
    );
    assert_eq!(auth.listed("blockList", &lee).await, [], "not those of others");

    let mut relations = ground.watch::<RelationChanged>().await;
    let mut ended = BTreeSet::new();
    while ended.len() < 2 {
        let changed = relations.next().await.event;
        if changed.relation == Relation::Unfollow {
            ended.insert(changed.account.as_str().to_owned());
        }
    }
    assert_eq!(ended, BTreeSet::from([kim.account.clone(), lee.account.clone()]));
    let mut follows = ground.watch::<FollowChanged>().await;
    let mut ended = 0;
    while ended < 2 {
        ended += usize::from(!follows.next().await.event.following);
    }

    assert!(auth.relate("unblock", &kim, "lee").await);
    assert_eq!(auth.seen(&lee, "kim").await, shown("kim"));
    assert_eq!(
        auth.listed("findFollowing", &kim).await,
        [],
        "a follow does not come back"
    );
    assert!(auth.relate("follow", &lee, "kim").await);
}

async fn a_block_of_an_older_release_ends_follows_when_it_is_repeated(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let (kim, _lee) = (auth.person(KIM, "kim").await, auth.person(LEE, "lee").await);
    assert!(auth.relate("follow", &kim, "lee").await);
    ground
        .execute(
            "INSERT INTO block (account, other, since) VALUES ('kim@example.com+kakao', 'lee@example.com+google', 1)",
        )
        .await;
    assert!(auth.relate("block", &kim, "lee").await);
    assert_eq!(auth.listed("findFollowing", &kim).await, []);
}

async fn a_resignation_ends_follows_and_erases_muted_words(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let (kim, lee) = (auth.person(KIM, "kim").await, auth.person(LEE, "lee").await);
    assert!(auth.relate("follow", &kim, "lee").await && auth.relate("follow", &lee, "kim").await);
    auth.mute(&kim, json!({ "wordList": ["spoiler"] })).await.expect(200);
    auth.resign(&kim).await.expect(200);
    assert_eq!((ground.rows("follow").await, ground.rows("muted_word").await), (0, 0));
    assert_eq!(auth.listed("findFollower", &lee).await, []);

    let at = ground.watch::<AccountResigned>().await.next().await.meta.occurred_at;
    let mut relations = ground.watch::<RelationChanged>().await;
    let mut ended = BTreeSet::new();
    while ended.len() < 2 {
        let changed = relations.next().await;
        if changed.event.relation == Relation::Unfollow {
            assert_eq!(changed.meta.occurred_at, at);
            ended.insert(changed.event.account.as_str().to_owned());
        }
    }
    assert_eq!(
        ended,
        BTreeSet::from([kim.account, lee.account]),
        "the state topic forgets both pairs"
    );

    let again = auth.person(KIM, "kim").await;
    assert_eq!(auth.listed("findFollower", &again).await, []);
    assert_eq!(auth.muted(&again).await, json!([]));
}

async fn muted_words_are_listed_until_they_expire(bed: Bed) {
    let ground = Ground::new(bed);
    let (auth, other) = (ground.auth().await, ground.auth().await);
    let (kim, lee) = (auth.person(KIM, "kim").await, auth.person(LEE, "lee").await);
    assert_eq!(auth.muted(&kim).await, json!([]));
    let soon = ground.clock_now() + Duration::from_hours(1);
    let forever = json!({ "word": "k-pop", "expiresAt": null });
    let until = json!({ "word": "스포일러", "expiresAt": soon.to_string() });

    auth.mute(&kim, json!({ "wordList": ["K-POP "] })).await.expect(200);
    let form = [
        ("wordList", "스포일러, 결말".to_owned()),
        ("expiresAt", soon.to_string()),
    ];
    let answer = send(kim.sign(auth.post("mutedWords").form(&form))).await.expect(200);
    let end = json!({ "word": "결말", "expiresAt": soon.to_string() });
    assert_eq!(answer.body["words"], json!([forever, end, until]));
    assert_eq!(other.muted(&kim).await, answer.body["words"], "on every replica");
    assert_eq!(auth.muted(&lee).await, json!([]));

    let off = json!({ "wordList": ["결말", "unknown"], "muted": false });
    let answer = auth.mute(&kim, off).await.expect(200);
    assert_eq!(answer.body["words"], json!([forever, until]));
    let of = async |account: &str| {
        let asked = auth.post("mutedWordsOf").bearer_auth(&ground.bed.service_token);
        send(asked.json(&json!({ "account": account }))).await.expect(200).body["words"].clone()
    };
    assert_eq!(of(&kim.account).await, json!([forever, until]));
    assert_eq!(of("unknown@example.com+kakao").await, json!([]));
    send(kim.sign(auth.post("mutedWordsOf").json(&json!({ "account": kim.account }))))
        .await
        .expect(401);

    ground.clock.advance(Duration::from_hours(1));
    assert_eq!(auth.muted(&kim).await, json!([forever]));
    assert_eq!(of(&kim.account).await, json!([forever]));
    eventually("the expired row is deleted", async || {
        (ground.rows("muted_word").await == 1).then_some(())
    })
    .await;
}

async fn muted_words_are_bounded(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let kim = auth.person(KIM, "kim").await;
    let words = |range: std::ops::Range<u32>| -> Vec<String> { range.map(|number| format!("w{number}")).collect() };
    let past = ground.clock_now().to_string();
    for body in [
        json!({}),
        json!({ "wordList": [] }),
        json!({ "wordList": [" "], "muted": true }),
        json!({ "wordList": ["행".repeat(51)] }),
        json!({ "wordList": ["a\u{7}"] }),
        json!({ "wordList": ["a", "\u{200b}"] }),
        json!({ "wordList": ["\u{3164}"] }),
        json!({ "wordList": words(0..201) }),
        json!({ "wordList": ["a"], "expiresAt": past }),
        json!({ "wordList": ["a"], "expiresAt": "tomorrow" }),
    ] {
        let told = body.to_string();
        assert_eq!(auth.mute(&kim, body).await.status, 400, "{told}");
    }
    assert_eq!(auth.muted(&kim).await, json!([]));
    // As an older release has stored it.
    auth.mute(&kim, json!({ "wordList": ["a"] })).await.expect(200);
    ground.execute("UPDATE muted_word SET word = '\u{200b}'").await;
    let off = json!({ "wordList": ["\u{200b}"], "muted": false });
    auth.mute(&kim, off).await.expect(200);
    assert_eq!(auth.muted(&kim).await, json!([]));
    auth.mute(&kim, json!({ "wordList": words(0..200) })).await.expect(200);
    auth.mute(&kim, json!({ "wordList": words(0..200) })).await.expect(200);
    auth.mute(&kim, json!({ "wordList": ["one more"] })).await.expect(400);
    assert_eq!(auth.muted(&kim).await.as_array().map(Vec::len), Some(200));
    let off = json!({ "wordList": ["w0"], "muted": false });
    auth.mute(&kim, off).await.expect(200);
    auth.mute(&kim, json!({ "wordList": ["one more"] })).await.expect(200);
}
