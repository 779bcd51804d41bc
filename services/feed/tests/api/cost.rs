//! Cost of what people write: the statements of one request.

use std::sync::Once;

use sosohappy_testkit::statements::{self, Cost, cost};
use sosohappy_testkit::{Bed, Person, on_both_engines};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::Feed;

on_both_engines!(
    statements_of_a_like_are_counted,
    statements_of_a_save_are_counted,
    statements_of_comments_and_bookmarks_are_counted,
);

const DATE: &str = "2023090513248392";

fn subscribe() {
    static SUBSCRIBED: Once = Once::new();
    SUBSCRIBED.call_once(|| tracing_subscriber::registry().with(statements::layer()).init());
}

/// A like waits for each of them.
async fn statements_of_a_like_are_counted(bed: Bed) {
    subscribe();
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    feed.save(&kim, DATE, "3", "sea").await;
    // Asks auth about names that the topics have not brought yet.
    feed.like(&lee, &kim, DATE).await;
    feed.like(&lee, &kim, DATE).await;
    let params = [("srcNickname", "lee"), ("nickname", "kim"), ("date", DATE)];
    for (name, expected) in [
        ("like", Cost { reads: 3, writes: 4 }),
        ("unlike", Cost { reads: 2, writes: 3 }),
    ] {
        let request = lee.sign(feed.client.post(feed.at("updateLike")).form(&params));
        let (counted, response) = cost(name, &bed, request).await;
        assert_eq!(response.status(), 200);
        assert_eq!(counted, expected, "{name}");
    }
}

/// Sends a request and returns the number of its statements.
async fn counted(bed: &Bed, feed: &Feed, who: &Person, call: &str, params: &[(&str, &str)]) -> Cost {
    let request = who.sign(feed.client.post(feed.at(call)).form(params));
    let (counted, response) = cost(call, bed, request).await;
    assert_eq!(response.status(), 200, "{call}");
    counted
}

/// Of a post without pictures and without an idempotency key.
async fn statements_of_a_save_are_counted(bed: Bed) {
    subscribe();
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    feed.save(&kim, "2023090413248392", "3", "sea").await;
    let save = async |happiness: &str| {
        let params = [
            ("nickname", "kim"),
            ("date", DATE),
            ("weather", "sunny"),
            ("happiness", happiness),
            ("categoryList", "sea,friends"),
            ("text", "a day at the sea"),
            ("isPublic", "true"),
        ];
        counted(&bed, &feed, &kim, "saveFeed", &params).await
    };
    // The post, its event, its categories; no draft is left of the day.
    assert_eq!(save("3").await, Cost { reads: 1, writes: 4 }, "the first post of a day");
    // Beside these the refused insert, the former version, the oldest version, the number of the change.
    assert_eq!(save("5").await, Cost { reads: 4, writes: 8 }, "a post that is changed");
    assert_eq!(save("5").await, Cost { reads: 2, writes: 2 }, "a repeated save");
    let own = [("nickname", "kim"), ("date", DATE)];
    let deleted = counted(&bed, &feed, &kim, "deleteFeed", &own).await;
    assert_eq!(deleted, Cost { reads: 2, writes: 4 }, "a post that is deleted");
}

async fn statements_of_comments_and_bookmarks_are_counted(bed: Bed) {
    subscribe();
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    feed.save(&kim, DATE, "3", "sea").await;
    // Asks auth about names that the topics have not brought yet.
    feed.like(&lee, &kim, DATE).await;
    let post = [("srcNickname", "lee"), ("nickname", "kim"), ("date", DATE)];
    let bookmark = async || counted(&bed, &feed, &lee, "updateBookmark", &post).await;
    assert_eq!(bookmark().await, Cost { reads: 3, writes: 5 }, "a bookmark");
    assert_eq!(bookmark().await, Cost { reads: 3, writes: 4 }, "a bookmark taken back");
    let [source, author, date] = post;
    let comment = [source, author, date, ("text", "well done")];
    let commented = counted(&bed, &feed, &lee, "saveComment", &comment).await;
    assert_eq!(commented, Cost { reads: 3, writes: 5 }, "a comment");
}
