use reqwest::StatusCode;
use serde_json::{Value, json};
use sosohappy_bus::Start;
use sosohappy_events::types::{PostChanged, Relation, RelationChanged};
use sosohappy_events::{Envelope, Topic};
use sosohappy_testkit::{Bed, PATIENCE, Person, eventually, on_both_engines};
use tokio::time::timeout;

use super::others::tell;
use super::{Feed, PNG, code, dates, problem, read, saved};

on_both_engines!(
    friends_see_posts_for_friends_and_others_do_not,
    follows_count_in_any_order_twice_and_late,
    the_feed_of_friends_is_read_page_by_page,
    visibility_is_set_and_toggled,
    pictures_get_new_ids_when_fewer_see_them,
);

const DATE: &str = "2023090512000000";

impl Feed {
    pub(super) async fn save_for(&self, who: &Person, date: &str, visibility: &str) {
        let form = [
            ("nickname", who.nickname.as_str()),
            ("date", date),
            ("weather", "sunny"),
            ("happiness", "3"),
            ("categoryList", "sea"),
            ("text", "함께"),
            ("isPublic", if visibility == "public" { "true" } else { "false" }),
            ("visibility", visibility),
        ];
        assert_eq!(self.post(who, "saveFeed", &form).await, saved());
    }

    async fn of_friends(&self, who: &Person, more: &[(&str, &str)]) -> Value {
        let params = [&[("nickname", who.nickname.as_str())], more].concat();
        let (status, body) = self.get(who, "findFriendFeed", &params).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    async fn sees_of_friends(&self, who: &Person) -> Vec<i64> {
        dates(&self.of_friends(who, &[("size", "25")]).await.to_string())
    }

    async fn own(&self, who: &Person, date: &str) -> Value {
        let day = [("nickname", who.nickname.as_str()), ("date", date)];
        serde_json::from_str(&self.post(who, "findDayFeed", &day).await.1).unwrap()
    }
}

/// Each follows the other, and feed knows it.
async fn befriend(bed: &Bed, feed: &Feed, one: &Person, other: &Person) {
    let before = feed.sees_of_friends(one).await.len();
    tell(bed, Relation::Follow, one, other).await;
    tell(bed, Relation::Follow, other, one).await;
    eventually("they are friends", async || {
        (feed.sees_of_friends(one).await.len() > before).then_some(())
    })
    .await;
}

fn parsed(list: &[&str]) -> Vec<i64> {
    list.iter().map(|date| date.parse().unwrap()).collect()
}

async fn friends_see_posts_for_friends_and_others_do_not(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    let park = bed.person("park@example.com+apple", "park").await;
    let (for_friends, public, private) = (DATE, "2023090612000000", "2023090712000000");
    feed.save_for(&kim, for_friends, "friends").await;
    feed.save_for(&kim, public, "public").await;
    feed.save_for(&kim, private, "private").await;
    befriend(&bed, &feed, &lee, &kim).await;
    // One side alone makes no friends.
    tell(&bed, Relation::Follow, &park, &kim).await;

    assert_eq!(feed.sees_of_friends(&lee).await, parsed(&[public, for_friends]));
    assert!(feed.sees_of_friends(&park).await.is_empty());
    assert!(feed.sees_of_friends(&kim).await.is_empty(), "one's own are not there");
    for who in [&lee, &park] {
        assert_eq!(
            feed.sees(who).await,
            parsed(&[public]),
            "everybody's feed has public posts only"
        );
    }
    let of_kim = async |who: &Person| {
        let params = [("srcNickname", who.nickname.as_str()), ("dstNickname", "kim")];
        dates(&feed.get(who, "findUserFeed", &params).await.1)
    };
    assert_eq!(of_kim(&lee).await, parsed(&[public, for_friends]));
    assert_eq!(of_kim(&park).await, parsed(&[public]));

    // Every call about one post asks the same.
    let detail = async |who: &Person, date: &str| {
        let params = [
            ("srcNickname", who.nickname.as_str()),
            ("dstNickname", "kim"),
            ("date", date),
        ];
        feed.post(who, "findDetailFeed", &params).await.0
    };
    let on = async |who: &Person, call: &str, date: &str| {
        let params = [
            ("srcNickname", who.nickname.as_str()),
            ("nickname", "kim"),
            ("date", date),
            ("text", "좋다"),
        ];
        feed.post(who, call, &params).await
    };
    for (who, date, seen) in [
        (&lee, for_friends, true),
        (&lee, private, false),
        (&park, for_friends, false),
        (&park, public, true),
    ] {
        let expected = if seen { StatusCode::OK } else { StatusCode::NOT_FOUND };
        assert_eq!(detail(who, date).await, expected, "{} {date}", who.nickname);
        for call in ["updateLike", "saveComment", "updateBookmark"] {
            let answer = on(who, call, date).await;
            assert_eq!(answer.0, expected, "{} {call} {date}: {}", who.nickname, answer.1);
        }
        let params = [
            ("srcNickname", who.nickname.as_str()),
            ("nickname", "kim"),
            ("date", date),
        ];
        assert_eq!(feed.get(who, "findComment", &params).await.0, expected);
    }
    let bookmarks = async || dates(&feed.get(&lee, "findBookmark", &[("nickname", "lee")]).await.1);
    assert_eq!(bookmarks().await, parsed(&[for_friends]));

    tell(&bed, Relation::Unfollow, &kim, &lee).await;
    eventually("they are friends no more", async || {
        feed.sees_of_friends(&lee).await.is_empty().then_some(())
    })
    .await;
    assert_eq!(of_kim(&lee).await, parsed(&[public]));
    assert!(bookmarks().await.is_empty());
    assert_eq!(detail(&lee, for_friends).await, StatusCode::NOT_FOUND);
    assert_eq!(
        on(&lee, "updateLike", for_friends).await.1,
        r#"{"like":false}"#,
        "a like is taken back nevertheless"
    );
}

async fn follows_count_in_any_order_twice_and_late(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    feed.save_for(&kim, DATE, "friends").await;
    let follow = |relation, who: &Person, whom: &Person| RelationChanged {
        relation,
        account: who.account.clone(),
        other: whom.account.clone(),
    };
    // The unfollow is older than the follow that is read before it.
    let unfollowed = Envelope::new(follow(Relation::Unfollow, &lee, &kim), &bed.context);
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let followed = Envelope::new(follow(Relation::Follow, &lee, &kim), &bed.context);
    bed.publish_again(&followed).await;
    bed.publish_again(&unfollowed).await;
    bed.publish_again(&followed).await;
    befriend_again(&bed, &feed, &lee, &kim).await;

    // A block hides at once, whether or not the follows have ended.
    tell(&bed, Relation::Block, &kim, &lee).await;
    eventually("a block hides posts for friends", async || {
        feed.sees_of_friends(&lee).await.is_empty().then_some(())
    })
    .await;
}

async fn befriend_again(bed: &Bed, feed: &Feed, one: &Person, other: &Person) {
    let back = RelationChanged {
        relation: Relation::Follow,
        account: other.account.clone(),
        other: one.account.clone(),
    };
    let back = bed.publish(back).await;
    bed.publish_again(&back).await;
    eventually("they are friends", async || {
        (feed.sees_of_friends(one).await == parsed(&[DATE])).then_some(())
    })
    .await;
}

async fn the_feed_of_friends_is_read_page_by_page(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let reader = bed.person("reader@example.com+apple", "reader").await;
    let mut all = Vec::new();
    for name in ["a", "b", "c"] {
        let person = bed.person(&format!("{name}@example.com+kakao"), name).await;
        for day in 10..14 {
            // The same moment for all three: ties must not be lost between pages.
            let date = format!("202309{day}12000000");
            let visibility = if day % 2 == 0 { "friends" } else { "public" };
            feed.save_for(&person, &date, visibility).await;
            all.push(date.parse::<i64>().unwrap());
        }
        befriend(&bed, &feed, &reader, &person).await;
    }
    all.sort_unstable_by(|one, other| other.cmp(one));
    let (mut seen, mut cursor) = (Vec::new(), "start".to_owned());
    loop {
        let slice = feed.of_friends(&reader, &[("size", "5"), ("cursor", &cursor)]).await;
        seen.extend(dates(&slice.to_string()));
        let Some(next) = slice["nextCursor"].as_str() else {
            assert_eq!(slice["isLast"], json!(true));
            break;
        };
        next.clone_into(&mut cursor);
    }
    assert_eq!(seen, all);
}

async fn visibility_is_set_and_toggled(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let mut events = bed.bus.read(&[Topic::Post], Start::Earliest).await.unwrap();
    feed.save_for(&kim, DATE, "friends").await;
    let shown = async || {
        let own = feed.own(&kim, DATE).await;
        (own["isPublic"].clone(), own["visibility"].clone())
    };
    let set = async |visibility: Option<&str>| {
        let day = [("nickname", "kim"), ("date", DATE)];
        let more = visibility.map(|visibility| ("visibility", visibility));
        let params: Vec<_> = day.into_iter().chain(more).collect();
        assert_eq!(feed.post(&kim, "updatePublicStatus", &params).await.0, StatusCode::OK);
    };
    assert_eq!(shown().await, (json!(false), json!("friends")));
    set(None).await;
    assert_eq!(
        shown().await,
        (json!(true), Value::Null),
        "the old button makes it public"
    );
    set(None).await;
    assert_eq!(shown().await, (json!(false), Value::Null));
    set(Some("friends")).await;
    set(Some("friends")).await;
    assert_eq!(shown().await, (json!(false), json!("friends")));
    // A save of the old app says private.
    let old = [
        ("nickname", "kim"),
        ("date", DATE),
        ("weather", "sunny"),
        ("happiness", "3"),
        ("categoryList", "sea"),
        ("text", "함께"),
        ("isPublic", "false"),
    ];
    assert_eq!(feed.post(&kim, "saveFeed", &old).await, saved());
    assert_eq!(shown().await, (json!(false), Value::Null));
    let wrong = [("nickname", "kim"), ("date", DATE), ("visibility", "all")];
    assert_eq!(
        code(&feed.post(&kim, "updatePublicStatus", &wrong).await),
        problem(400, "invalid-parameter")
    );
    let mut audiences = Vec::new();
    for _ in 0..5 {
        let record = timeout(PATIENCE, events.next()).await.expect("an event comes").unwrap();
        let event = Envelope::<PostChanged>::decode(&record).unwrap().event;
        audiences.push((event.is_public, event.is_for_friends));
    }
    assert_eq!(
        audiences,
        [
            (false, true),
            (true, false),
            (false, false),
            (false, true),
            (false, false)
        ]
    );
    // A save by a replica of the release before voids the mark.
    feed.save_for(&kim, DATE, "friends").await;
    bed.sql("feed", "UPDATE post SET date = date + 1").await;
    assert_eq!(shown().await, (json!(false), Value::Null));
}

async fn pictures_get_new_ids_when_fewer_see_them(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    assert_eq!(feed.save_with(&kim, DATE, &[*PNG]).await, saved());
    let ids = async || feed.own(&kim, DATE).await["imageIdList"].clone();
    let mut before = ids().await;
    for (visibility, renewed) in [
        ("friends", true),
        ("public", false),
        ("private", true),
        ("friends", false),
        ("private", true),
    ] {
        let params = [("nickname", "kim"), ("date", DATE), ("visibility", visibility)];
        assert_eq!(feed.post(&kim, "updatePublicStatus", &params).await.0, StatusCode::OK);
        let now = ids().await;
        assert_eq!(now != before, renewed, "{visibility}");
        if renewed {
            let old = format!("image/{}", before[0]);
            assert_eq!(
                read(feed.client.get(feed.at(&old))).await.0,
                StatusCode::NOT_FOUND,
                "from the answer on"
            );
        }
        before = now;
    }
}
