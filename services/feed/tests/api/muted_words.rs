//! Posts and comments with a word that the reader has muted.

use std::time::Duration;

use serde_json::Value;
use sosohappy_events::types::Relation;
use sosohappy_testkit::{Bed, Person, eventually, on_both_engines};

use super::others::tell;
use super::{Feed, saved};

/// The texts of a page.
async fn texts(feed: &Feed, who: &Person, call: &str, params: &[(&str, &str)]) -> Vec<String> {
    let (status, page) = feed.get(who, call, params).await;
    assert_eq!(status, 200, "{page}");
    let page: Value = serde_json::from_str(&page).unwrap();
    let content = page["content"].as_array().unwrap().iter();
    content.map(|post| post["text"].as_str().unwrap().to_owned()).collect()
}

async fn write(feed: &Feed, who: &Person, date: &str, text: &str) {
    let post = [
        ("nickname", who.nickname.as_str()),
        ("date", date),
        ("weather", "sunny"),
        ("happiness", "3"),
        ("categoryList", "sea"),
        ("text", text),
        ("isPublic", "true"),
    ];
    assert_eq!(feed.post(who, "saveFeed", &post).await, saved());
}

async fn muted_words_are_not_listed_until_they_expire(bed: Bed) {
    const DAY: &str = "2023090512000000";
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    write(&feed, &kim, DAY, "영화 스포일러가 있다").await;
    write(&feed, &kim, "2023090612000000", "Class of 2023").await;
    write(&feed, &lee, DAY, "내 스포일러").await;
    for (who, text) in [(&kim, "스포일러!"), (&lee, "스포일러?"), (&kim, "좋아요")] {
        let comment = [
            ("srcNickname", who.nickname.as_str()),
            ("nickname", "kim"),
            ("date", DAY),
            ("text", text),
        ];
        let (status, body) = feed.post(who, "saveComment", &comment).await;
        assert_eq!(status, 200, "{body}");
    }
    for date in [DAY, "2023090612000000"] {
        let bookmark = [("srcNickname", "lee"), ("nickname", "kim"), ("date", date)];
        let (status, body) = feed.post(&lee, "updateBookmark", &bookmark).await;
        assert_eq!(status, 200, "{body}");
    }
    tell(&bed, Relation::Follow, &lee, &kim).await;
    tell(&bed, Relation::Follow, &kim, &lee).await;
    let others = [("nickname", "lee")];
    let of_kim = [("srcNickname", "lee"), ("dstNickname", "kim")];
    let comments = [("srcNickname", "lee"), ("nickname", "kim"), ("date", DAY)];

    let until = bed.context.clock.now() + Duration::from_hours(1);
    bed.mute(&lee, &[("스포일러", Some(until)), ("ass", None)]);
    assert_eq!(
        texts(&feed, &lee, "findOtherFeed", &others).await,
        ["Class of 2023"],
        "muted words are asked for before the first page"
    );
    assert_eq!(texts(&feed, &lee, "findUserFeed", &of_kim).await, ["Class of 2023"]);
    assert_eq!(texts(&feed, &lee, "findBookmark", &others).await, ["Class of 2023"]);
    eventually("the other posts of friends are listed", async || {
        (texts(&feed, &lee, "findFriendFeed", &others).await == ["Class of 2023"]).then_some(())
    })
    .await;
    assert_eq!(
        texts(&feed, &lee, "findComment", &comments).await,
        ["스포일러?", "좋아요"],
        "one's own comment stays"
    );
    let own = [("srcNickname", "lee"), ("dstNickname", "lee")];
    assert_eq!(texts(&feed, &lee, "findUserFeed", &own).await, ["내 스포일러"]);
    let of_kim_herself = [("nickname", "kim")];
    assert_eq!(
        texts(&feed, &kim, "findOtherFeed", &of_kim_herself).await,
        ["내 스포일러"],
        "words are muted for one account"
    );

    bed.mute(&lee, &[("스포일러", Some(bed.context.clock.now())), ("2023", None)]);
    eventually("the change is seen within seconds", async || {
        (texts(&feed, &lee, "findOtherFeed", &others).await == ["영화 스포일러가 있다"]).then_some(())
    })
    .await;
}

on_both_engines!(muted_words_are_not_listed_until_they_expire);
