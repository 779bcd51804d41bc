//! Cost of what people write: the statements of one request, and its records on the bus.

use std::collections::BTreeMap;
use std::sync::Once;

use sosohappy_bus::Start;
use sosohappy_events::{Header, Record, Topic};
use sosohappy_testkit::statements::{self, Cost, cost};
use sosohappy_testkit::{Bed, PATIENCE, Person, on_both_engines};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::Feed;

on_both_engines!(
    statements_of_a_like_are_counted,
    statements_of_a_save_are_counted,
    statements_of_comments_and_bookmarks_are_counted,
    records_of_writes_are_counted,
);

const DATE: &str = "2023090513248392";
const ANOTHER_DATE: &str = "2023090413248392";

/// Of a record: key, value and headers.
const MOST_BYTES: usize = 1024;

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
    feed.save(&kim, ANOTHER_DATE, "3", "sea").await;
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

async fn records_of_writes_are_counted(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    feed.save(&kim, DATE, "3", "sea").await;
    let topics = [Topic::NoticeLike, Topic::Notice, Topic::Post];
    let mut reader = bed.bus.read(&topics, Start::Earliest).await.unwrap();
    let post = [("srcNickname", "lee"), ("nickname", "kim"), ("date", DATE)];
    let comment = [&post[..], &[("text", "well done")]].concat();
    let own = vec![("nickname", "kim"), ("date", DATE)];
    let another = vec![
        ("nickname", "kim"),
        ("date", ANOTHER_DATE),
        ("weather", "sunny"),
        ("happiness", "3"),
        ("categoryList", "sea"),
        ("text", "a day at the sea"),
        ("isPublic", "true"),
    ];
    let requests = [
        ("like", &lee, "updateLike", post.to_vec(), 2_usize),
        ("unlike", &lee, "updateLike", post.to_vec(), 2),
        ("bookmark", &lee, "updateBookmark", post.to_vec(), 2),
        ("comment", &lee, "saveComment", comment, 2),
        ("save", &kim, "saveFeed", another, 1),
        ("delete", &kim, "deleteFeed", own, 1),
    ];
    let mut expected: usize = 0;
    for (id, who, call, params, records) in &requests {
        let request = who.sign(feed.client.post(feed.at(call)).form(params));
        let response = request.header("x-request-id", *id).send().await.unwrap();
        assert_eq!(response.status(), 200, "{id}");
        expected += *records;
    }
    // Records and bytes by request.
    let mut published: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut read: usize = 0;
    while read < expected {
        let next = tokio::time::timeout(PATIENCE, reader.next()).await;
        let record = next.expect("all records are published").unwrap();
        let id = record.header(Header::CORRELATION_ID).unwrap_or_default();
        if requests.iter().any(|(request, ..)| *request == id) {
            let (records, bytes) = published.entry(id.to_owned()).or_default();
            *records += 1;
            *bytes += size(&record);
            read += 1;
        }
    }
    for (id, .., records) in requests {
        let (counted, bytes) = published.get(id).copied().unwrap_or_default();
        println!("{id} on {:?}: {counted} records, {bytes} bytes", bed.set);
        assert_eq!(counted, records, "{id}");
        assert!(bytes <= records * MOST_BYTES, "{id}: {bytes} bytes");
    }
}

fn size(record: &Record) -> usize {
    let headers = record.headers.iter().map(|(name, value)| name.len() + value.len());
    let [key, value] = [&record.key, &record.value].map(|bytes| bytes.as_ref().map_or(0, |bytes| bytes.len()));
    key + value + headers.sum::<usize>()
}
