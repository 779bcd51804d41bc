use std::cmp::Reverse;
use std::time::Duration;

use serde_json::{Value, json};
use sosohappy_common::clock::ManualClock;
use sosohappy_events::types::{AccountResigned, Relation, RelationChanged};
use sosohappy_testkit::{Bed, Person, eventually, on_both_engines};

use super::{Feed, code, dates, problem};

on_both_engines!(
    others_public_posts_come_newest_first,
    pages_and_cursors_show_each_post_once,
    one_persons_posts_and_details,
    blocked_people_are_not_there,
    present_nicknames_are_shown,
    a_post_of_tomorrow_is_not_there_yet,
    others_posts_come_in_the_order_asked_for,
    likes_that_end_count_no_more,
    cursors_neither_lose_nor_repeat_posts_while_people_write,
    a_cursor_holds_for_its_own_list_only,
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
    let (date, another) = ("2023090508000000", "2023090608000000");
    for day in [date, another] {
        feed.save(&kim, day, "3", "sea").await;
        feed.save(&lee, day, "3", "sea").await;
    }
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
        assert_eq!(
            code(&feed.like(one, other, another).await),
            problem(404, "no-such-post")
        );
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

pub(super) async fn tell(bed: &Bed, relation: Relation, who: &Person, whom: &Person) {
    bed.publish(RelationChanged {
        relation,
        account: who.account.clone(),
        other: whom.account.clone(),
    })
    .await;
}

/// The sixteen digits of noon, so many days after the day it is in UTC+14.
fn noon(now: jiff::Timestamp, days: i64) -> String {
    let now = now + jiff::SignedDuration::from_hours(14 + 24 * days);
    now.strftime("%Y%m%d12000000").to_string()
}

async fn a_post_of_tomorrow_is_not_there_yet(bed: Bed) {
    // A clock that stands still, so that no day ends during the test, and a day behind, so that no token has expired when it is put forward.
    let now = bed.context.clock.now() - jiff::SignedDuration::from_hours(24);
    let clock = ManualClock::at(now);
    let feed = Feed::serve_at(&bed, clock.clone(), &[]).await.ready().await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    let (today, tomorrow) = (noon(now, 0), noon(now, 1));
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

    for late in [noon(now, 2), "9999123112000000".to_owned()] {
        let answer = feed.save_with(&kim, &late, &[]).await;
        assert_eq!(code(&answer), problem(400, "invalid-parameter"), "{late}");
    }

    clock.advance(Duration::from_hours(24));
    assert_eq!(feed.sees(&lee).await, [tomorrow.parse().unwrap(), seen]);
    assert_eq!(feed.like(&lee, &kim, &tomorrow).await.1, r#"{"like":true}"#);
}

/// Reads a list to its end by cursor; returns authors and dates of its posts.
async fn all_by_cursor(feed: &Feed, who: &Person, call: &str, params: &[(&str, &str)]) -> Vec<(String, i64)> {
    let (mut all, mut cursor) = (Vec::new(), "start".to_owned());
    loop {
        let params = [params, &[("cursor", &cursor)]].concat();
        let (status, body) = feed.get(who, call, &params).await;
        assert_eq!(status, 200, "{body}");
        let slice: Value = serde_json::from_str(&body).unwrap();
        all.extend(posts(&slice));
        match slice["nextCursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => return all,
        }
    }
}

fn posts(slice: &Value) -> impl Iterator<Item = (String, i64)> {
    let posts = slice["content"].as_array().unwrap().iter();
    posts.map(|post| {
        (
            post["nickname"].as_str().unwrap().to_owned(),
            post["date"].as_i64().unwrap(),
        )
    })
}

/// Posts by author, day of September and happiness, in the order in which they are written.
const WRITTEN: [(usize, i64, i64); 8] = [
    (0, 5, 1),
    (0, 6, 5),
    (1, 5, -3),
    (1, 6, 5),
    (2, 5, 2),
    (2, 7, 5),
    (3, 5, 5),
    (3, 6, 1),
];

const AUTHORS: [&str; 4] = ["a", "b", "c", "d"];

fn noon_of(day: i64) -> i64 {
    2_023_090_012_000_000 + day * 100_000_000
}

/// How many like a post.
fn likes_of(author: usize, day: i64) -> i64 {
    match (author, day) {
        (0, 5) | (3, 6) => 2,
        (2, 7) => 1,
        _ => 0,
    }
}

/// The first `likes_of` of the authors `b` and `a` like each post.
async fn write_and_like(feed: &Feed, bed: &Bed) -> Vec<Person> {
    let mut people = Vec::new();
    for name in AUTHORS {
        people.push(bed.person(&format!("{name}@example.com+kakao"), name).await);
    }
    for (author, day, happiness) in WRITTEN {
        let date = noon_of(day).to_string();
        feed.save(&people[author], &date, &happiness.to_string(), "sea").await;
        for (_, liker) in (0..likes_of(author, day)).zip([1, 0]) {
            let liked = feed.like(&people[liker], &people[author], &date).await;
            assert_eq!(liked.1, r#"{"like":true}"#);
        }
    }
    people
}

/// Rank of a post, from its author, day and happiness.
type Rank = fn(usize, i64, i64) -> i64;

/// Returns the expected list: of equals the newest first, and of one moment the one that was written last.
fn in_order(rank: Rank, only: impl Fn(usize, i64) -> bool) -> Vec<(String, i64)> {
    let mut rows: Vec<_> = WRITTEN
        .iter()
        .enumerate()
        .filter(|(_, (author, day, _))| only(*author, *day))
        .collect();
    rows.sort_by_key(|(index, (author, day, happiness))| Reverse((rank(*author, *day, *happiness), *day, *index)));
    let named = rows
        .into_iter()
        .map(|(_, (author, day, _))| (AUTHORS[*author].to_owned(), noon_of(*day)));
    named.collect()
}

async fn others_posts_come_in_the_order_asked_for(bed: Bed) {
    let feed = Feed::start(&bed).await;
    write_and_like(&feed, &bed).await;
    let reader = bed.person("reader@example.com+apple", "reader").await;
    let orders: [(&str, Rank); 3] = [
        ("newest", |_, _, _| 0),
        ("likes", |author, day, _| likes_of(author, day)),
        ("happiness", |_, _, happiness| happiness),
    ];
    for (sort, rank) in orders {
        let all = in_order(rank, |_, _| true);
        for size in ["1", "2", "3", "25"] {
            let params = [("nickname", "reader"), ("sort", sort), ("size", size)];
            let read = all_by_cursor(&feed, &reader, "findOtherFeed", &params).await;
            assert_eq!(read, all, "{sort} by {size}");
            let mut paged = Vec::new();
            for page in 0.. {
                let page = page.to_string();
                let params = [&params[..], &[("page", &page)]].concat();
                let (_, body) = feed.get(&reader, "findOtherFeed", &params).await;
                let slice: Value = serde_json::from_str(&body).unwrap();
                paged.extend(posts(&slice));
                if slice["isLast"] == json!(true) {
                    break;
                }
            }
            assert_eq!(paged, all, "{sort} by pages of {size}");
            let day = [&params[..], &[("date", "2023090500000000")]].concat();
            let of_day = all_by_cursor(&feed, &reader, "findOtherFeed", &day).await;
            assert_eq!(of_day, in_order(rank, |_, day| day == 5), "{sort} of a day by {size}");
            let one = [("srcNickname", "reader"), ("dstNickname", "a")];
            let of_one = all_by_cursor(&feed, &reader, "findUserFeed", &[&one[..], &params[1..]].concat()).await;
            assert_eq!(
                of_one,
                in_order(rank, |author, _| author == 0),
                "{sort} of one by {size}"
            );
        }
    }
    let wrong = [("nickname", "reader"), ("sort", "loudest")];
    assert_eq!(
        code(&feed.get(&reader, "findOtherFeed", &wrong).await),
        problem(400, "invalid-parameter")
    );
}

async fn likes_that_end_count_no_more(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let people = write_and_like(&feed, &bed).await;
    let reader = bed.person("reader@example.com+apple", "reader").await;
    let params = [("nickname", "reader"), ("sort", "likes"), ("size", "2")];
    let (one, two) = (("a".to_owned(), noon_of(5)), ("d".to_owned(), noon_of(6)));
    let first = all_by_cursor(&feed, &reader, "findOtherFeed", &params).await;
    assert_eq!(first[..2], [two.clone(), one.clone()]);
    let unliked = feed.like(&people[1], &people[3], &noon_of(6).to_string()).await;
    assert_eq!(unliked.1, r#"{"like":false}"#);
    let first = all_by_cursor(&feed, &reader, "findOtherFeed", &params).await;
    assert_eq!(first[..2], [one.clone(), ("c".to_owned(), noon_of(7))]);

    bed.forget(&people[1]);
    let resigned = AccountResigned {
        account: people[1].account.clone(),
        nickname: "b".to_owned(),
    };
    bed.publish(resigned).await;
    // `a` likes one post of its own and one of `d`; the like of `c`'s was that of `b`.
    eventually("likes of a resigned account count no more", async || {
        let all = all_by_cursor(&feed, &reader, "findOtherFeed", &params).await;
        (all[..2] == [two.clone(), one.clone()]).then_some(())
    })
    .await;
}

async fn cursors_neither_lose_nor_repeat_posts_while_people_write(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let reader = bed.person("reader@example.com+apple", "reader").await;
    let (mut writers, mut old) = (Vec::new(), Vec::new());
    for name in ["a", "b", "c"] {
        let writer = bed.person(&format!("{name}@example.com+kakao"), name).await;
        for day in [10, 12, 14, 16, 18] {
            let date = 2_023_090_012_000_000 + day * 100_000_000;
            feed.save(&writer, &date.to_string(), "3", "sea").await;
            old.push((name.to_owned(), date));
        }
        writers.push(writer);
    }
    old.sort();
    for sort in ["newest", "happiness"] {
        let (mut seen, mut cursor) = (Vec::new(), "start".to_owned());
        // Before each page, a person writes a newer post, an older one, and edits one of those that are there.
        for round in 0.. {
            let writer: &Person = &writers[round % 3];
            let month = if sort == "newest" { "10" } else { "11" };
            let day = 10 + round;
            feed.save(writer, &format!("2023{month}{day}12000000"), "4", "coffee")
                .await;
            feed.save(writer, &format!("2022{month}{day}12000000"), "2", "coffee")
                .await;
            feed.save(writer, "2023091412000000", "3", "books").await;
            let params = [
                ("nickname", "reader"),
                ("sort", sort),
                ("size", "2"),
                ("cursor", &cursor),
            ];
            let (_, body) = feed.get(&reader, "findOtherFeed", &params).await;
            let slice: Value = serde_json::from_str(&body).unwrap();
            seen.extend(posts(&slice));
            match slice["nextCursor"].as_str() {
                // The old posts have been passed where those of the year before come.
                Some(next) if round < 15 => next.clone_into(&mut cursor),
                _ => break,
            }
        }
        let count = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), count, "{sort}: no post twice: {seen:?}");
        let of_before: Vec<_> = seen.into_iter().filter(|post| old.contains(post)).collect();
        assert_eq!(of_before, old, "{sort}: every post that was there is read");
    }
    for post in &old[..5] {
        like_and_comment(&feed, &writers[0], post).await;
    }
    for sort in ["likes", "comments"] {
        posts_that_do_not_move_are_read_once(&feed, &reader, &writers, sort).await;
    }
}

async fn like_and_comment(feed: &Feed, who: &Person, (author, date): &(String, i64)) {
    let date = date.to_string();
    let params = [
        ("srcNickname", who.nickname.as_str()),
        ("nickname", author.as_str()),
        ("date", date.as_str()),
        ("text", "축하해"),
    ];
    for call in ["updateLike", "saveComment"] {
        assert_eq!(feed.post(who, call, &params).await.0, 200, "{call}");
    }
}

/// Before each page, the first and the last post of the list are liked, or no longer, and get comments.
async fn posts_that_do_not_move_are_read_once(feed: &Feed, reader: &Person, writers: &[Person], sort: &str) {
    let params = [("nickname", "reader"), ("sort", sort), ("size", "25")];
    let mut resting = all_by_cursor(feed, reader, "findOtherFeed", &params).await;
    let moving = [resting.remove(0), resting.pop().expect("there are many")];
    let (mut seen, mut cursor, mut pages) = (Vec::new(), "start".to_owned(), 0);
    loop {
        for post in &moving {
            like_and_comment(feed, &writers[pages % writers.len()], post).await;
        }
        let params = [&params[..], &[("cursor", &cursor)]].concat();
        let (_, body) = feed.get(reader, "findOtherFeed", &params).await;
        let slice: Value = serde_json::from_str(&body).unwrap();
        seen.extend(posts(&slice).filter(|post| !moving.contains(post)));
        pages += 1;
        match slice["nextCursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => break,
        }
    }
    assert!(pages > 2, "{pages} pages");
    seen.sort();
    resting.sort();
    assert_eq!(seen, resting, "{sort}");
}

async fn a_cursor_holds_for_its_own_list_only(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    for day in 5..8 {
        feed.save(&kim, &format!("202309{day:02}08000000"), "3", "sea").await;
    }
    let (_, body) = feed
        .get(
            &lee,
            "findOtherFeed",
            &[("nickname", "lee"), ("size", "1"), ("cursor", "start")],
        )
        .await;
    let slice: Value = serde_json::from_str(&body).unwrap();
    let cursor = slice["nextCursor"].as_str().unwrap();
    let more = |params: &[(&'static str, &'static str)]| [&[("cursor", cursor)], params].concat();
    let own = feed.get(&lee, "findOtherFeed", &more(&[("nickname", "lee")])).await;
    assert_eq!(dates(&own.1).len(), 2, "{own:?}");
    let of_one = [("srcNickname", "lee"), ("dstNickname", "kim")];
    for (call, params) in [
        ("findOtherFeed", more(&[("nickname", "lee"), ("sort", "likes")])),
        (
            "findOtherFeed",
            more(&[("nickname", "lee"), ("date", "2023090500000000")]),
        ),
        ("findUserFeed", more(&of_one)),
    ] {
        assert_eq!(
            code(&feed.get(&lee, call, &params).await),
            problem(400, "invalid-parameter"),
            "{params:?}"
        );
    }
    let forged = format!("A{}", &cursor[1..]);
    let forged = if forged == cursor {
        format!("B{}", &cursor[1..])
    } else {
        forged
    };
    let params = [("nickname", "lee"), ("cursor", &forged)];
    assert_eq!(
        code(&feed.get(&lee, "findOtherFeed", &params).await),
        problem(400, "invalid-parameter")
    );
}
