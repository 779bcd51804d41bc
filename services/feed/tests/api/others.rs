use serde_json::{Value, json};
use sosohappy_events::types::{Relation, RelationChanged};
use sosohappy_testkit::{Bed, Person, eventually, on_both_engines};

use super::{Feed, code, dates, problem};

on_both_engines!(
    others_public_posts_come_newest_first,
    pages_and_cursors_show_each_post_once,
    one_persons_posts_and_details,
    blocked_people_are_not_there,
    present_nicknames_are_shown,
    a_post_of_tomorrow_is_not_there_yet,
);

async fn others_public_posts_come_newest_first(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    feed.save(&kim, "2023090508000000", "3", "sea").await;
    feed.save(&kim, "2023090608000000", "3", "sea").await;
    feed.save(&lee, "2023090512000000", "4", "coffee").await;
    feed.post(
        &kim,
        "updatePublicStatus",
        &[("nickname", "kim"), ("date", "2023090608000000")],
    )
    .await;

    let (_, slice) = feed.get(&lee, "findOtherFeed", &[("nickname", "lee")]).await;
    let empty = ["date", "page", "size"].map(|name| (name, ""));
    let left_empty = [&[("nickname", "lee")], &empty[..]].concat();
    let (_, unfiltered) = feed.get(&lee, "findOtherFeed", &left_empty).await;
    assert_eq!(unfiltered, slice, "what is left empty is absent");
    assert_eq!(
        slice,
        r#"{"content":[{"nickname":"kim","weather":"sunny","date":2023090508000000,"happiness":3,"text":"2023090508000000","categoryList":["sea"],"imageIdList":[],"isLiked":false}],"numberOfElements":1,"pageNumber":0,"pageSize":7,"isLast":true}"#
    );
    feed.like(&lee, &kim, "2023090508000000").await;
    let (_, slice) = feed
        .get(
            &lee,
            "findOtherFeed",
            &[("nickname", "lee"), ("date", "2023090500000000")],
        )
        .await;
    let slice: Value = serde_json::from_str(&slice).unwrap();
    assert_eq!(slice["content"][0]["isLiked"], json!(true));
    let (_, slice) = feed
        .get(
            &lee,
            "findOtherFeed",
            &[("nickname", "lee"), ("date", "2023090400000000")],
        )
        .await;
    assert!(dates(&slice).is_empty());
}

async fn pages_and_cursors_show_each_post_once(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let reader = bed.person("reader@example.com+apple", "reader").await;
    let mut all = Vec::new();
    for writer in ["a", "b", "c"] {
        let person = bed.person(&format!("{writer}@example.com+kakao"), writer).await;
        for day in 10..15 {
            // The same moment for all three: ties must not be lost between pages.
            let date = format!("202309{day}12000000");
            feed.save(&person, &date, "3", "sea").await;
            all.push(date.parse::<i64>().unwrap());
        }
    }
    all.sort_unstable_by(|one, other| other.cmp(one));

    let mut paged = Vec::new();
    for page in 0.. {
        let page = page.to_string();
        let (_, slice) = feed
            .get(
                &reader,
                "findOtherFeed",
                &[("nickname", "reader"), ("page", &page), ("size", "4")],
            )
            .await;
        paged.extend(dates(&slice));
        let slice: Value = serde_json::from_str(&slice).unwrap();
        assert_eq!((slice["pageNumber"].to_string(), &slice["pageSize"]), (page, &json!(4)));
        assert!(slice.get("nextCursor").is_none());
        if slice["isLast"] == json!(true) {
            break;
        }
    }
    assert_eq!(paged, all);

    let (mut seen, mut cursor) = (Vec::new(), "start".to_owned());
    let mut authors = Vec::new();
    loop {
        let params = [("nickname", "reader"), ("size", "4"), ("cursor", &cursor)];
        let (_, slice) = feed.get(&reader, "findOtherFeed", &params).await;
        seen.extend(dates(&slice));
        let slice: Value = serde_json::from_str(&slice).unwrap();
        authors.extend(
            slice["content"]
                .as_array()
                .unwrap()
                .iter()
                .map(|post| (post["date"].to_string(), post["nickname"].to_string())),
        );
        let Some(next) = slice["nextCursor"].as_str() else {
            assert_eq!((&slice["nextCursor"], &slice["isLast"]), (&Value::Null, &json!(true)));
            break;
        };
        next.clone_into(&mut cursor);
    }
    assert_eq!(seen, all);
    authors.sort();
    authors.dedup();
    assert_eq!(authors.len(), all.len(), "no post twice");
}

async fn one_persons_posts_and_details(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    feed.save(&kim, "2023090508000000", "3", "sea").await;
    feed.save(&kim, "2023090608000000", "3", "sea").await;
    feed.save(&kim, "2023090708000000", "3", "sea").await;
    feed.post(
        &kim,
        "updatePublicStatus",
        &[("nickname", "kim"), ("date", "2023090608000000")],
    )
    .await;

    let of = |name: &'static str| [("srcNickname", "lee"), ("dstNickname", name), ("size", "1")];
    let (_, slice) = feed.get(&lee, "findUserFeed", &of("kim")).await;
    assert_eq!(dates(&slice), [2_023_090_708_000_000]);
    assert_eq!(serde_json::from_str::<Value>(&slice).unwrap()["isLast"], json!(false));
    let (_, slice) = feed
        .get(&lee, "findUserFeed", &[&of("kim")[..], &[("page", "1")]].concat())
        .await;
    assert_eq!(dates(&slice), [2_023_090_508_000_000]);
    let (_, none) = feed.get(&lee, "findUserFeed", &of("nobody")).await;
    assert_eq!(
        none,
        r#"{"content":[],"numberOfElements":0,"pageNumber":0,"pageSize":1,"isLast":true}"#
    );

    let detail = |date: &'static str| [("srcNickname", "lee"), ("dstNickname", "kim"), ("date", date)];
    let (_, post) = feed.post(&lee, "findDetailFeed", &detail("2023090508000000")).await;
    assert_eq!(
        post,
        r#"{"nickname":"kim","weather":"sunny","date":2023090508000000,"happiness":3,"text":"2023090508000000","categoryList":["sea"],"imageIdList":[],"isLiked":false}"#
    );
    for hidden in ["2023090608000000", "2023090808000000"] {
        assert_eq!(
            code(&feed.post(&lee, "findDetailFeed", &detail(hidden)).await),
            problem(404, "no-such-post")
        );
    }
    let unknown = [
        ("srcNickname", "lee"),
        ("dstNickname", "nobody"),
        ("date", "2023090508000000"),
    ];
    assert_eq!(
        code(&feed.post(&lee, "findDetailFeed", &unknown).await),
        problem(404, "no-such-post")
    );
}

async fn blocked_people_are_not_there(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    let date = "2023090508000000";
    feed.save(&kim, date, "3", "sea").await;
    feed.save(&lee, date, "3", "sea").await;
    assert_eq!(feed.like(&lee, &kim, date).await.1, r#"{"like":true}"#);

    tell(&bed, Relation::Block, &kim, &lee).await;
    eventually("a block hides posts", async || {
        feed.sees(&lee).await.is_empty().then_some(())
    })
    .await;
    for (one, other) in [(&kim, &lee), (&lee, &kim)] {
        assert!(feed.sees(one).await.is_empty());
        let (_, slice) = feed
            .get(
                one,
                "findUserFeed",
                &[("srcNickname", &one.nickname), ("dstNickname", &other.nickname)],
            )
            .await;
        assert!(dates(&slice).is_empty());
        let params = [
            ("srcNickname", one.nickname.as_str()),
            ("dstNickname", &other.nickname),
            ("date", date),
        ];
        assert_eq!(
            code(&feed.post(one, "findDetailFeed", &params).await),
            problem(404, "no-such-post")
        );
        assert_eq!(code(&feed.like(one, other, date).await), problem(404, "no-such-post"));
    }
    assert!(feed.likers(&kim, date).await.is_empty());

    tell(&bed, Relation::Unblock, &kim, &lee).await;
    eventually("an unblock shows them again", async || {
        (!feed.sees(&lee).await.is_empty()).then_some(())
    })
    .await;
    assert_eq!(feed.likers(&kim, date).await, ["lee"]);
}

async fn present_nicknames_are_shown(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let mut kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    let date = "2023090508000000";
    feed.save(&kim, date, "3", "sea").await;
    feed.save(&lee, date, "3", "sea").await;
    feed.like(&kim, &lee, date).await;

    bed.rename(&kim.account, "kim2").await;
    "kim2".clone_into(&mut kim.nickname);
    assert_eq!(
        feed.sees(&kim).await,
        [2_023_090_508_000_000],
        "the new nickname is the caller's at once"
    );
    eventually("the new nickname is shown", async || {
        let (_, slice) = feed.get(&lee, "findOtherFeed", &[("nickname", "lee")]).await;
        let slice: Value = serde_json::from_str(&slice).unwrap();
        (slice["content"][0]["nickname"] == json!("kim2") && feed.likers(&lee, date).await == ["kim2"]).then_some(())
    })
    .await;
}

async fn tell(bed: &Bed, relation: Relation, who: &Person, whom: &Person) {
    bed.publish(RelationChanged {
        relation,
        account: who.account.clone(),
        other: whom.account.clone(),
    })
    .await;
}

/// The sixteen digits of noon, so many days after the day it is in UTC+14.
fn noon(bed: &Bed, days: i64) -> String {
    let now = bed.context.clock.now() + jiff::SignedDuration::from_hours(14 + 24 * days);
    now.strftime("%Y%m%d12000000").to_string()
}

async fn a_post_of_tomorrow_is_not_there_yet(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    let (today, tomorrow) = (noon(&bed, 0), noon(&bed, 1));
    feed.save(&kim, &today, "3", "sea").await;
    feed.save(&kim, &tomorrow, "3", "sea").await;
    let seen: i64 = today.parse().unwrap();
    assert_eq!(feed.sees(&lee).await, [seen]);
    let of_kim = [("srcNickname", "lee"), ("dstNickname", "kim"), ("page", "0")];
    assert_eq!(dates(&feed.get(&lee, "findUserFeed", &of_kim).await.1), [seen]);
    let detail = [("srcNickname", "lee"), ("dstNickname", "kim"), ("date", &tomorrow)];
    let detail = feed.post(&lee, "findDetailFeed", &detail).await;
    assert_eq!(code(&detail), problem(404, "no-such-post"));
    assert_eq!(
        code(&feed.like(&lee, &kim, &tomorrow).await),
        problem(404, "no-such-post")
    );
    let own = feed
        .post(&kim, "findDayFeed", &[("nickname", "kim"), ("date", &tomorrow)])
        .await;
    assert!(own.1.contains(&tomorrow), "the author sees it: {own:?}");

    for late in [noon(&bed, 2), "9999123112000000".to_owned()] {
        let answer = feed.save_with(&kim, &late, &[]).await;
        assert_eq!(code(&answer), problem(400, "invalid-parameter"), "{late}");
    }
}
