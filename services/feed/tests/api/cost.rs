//! Cost of what people write and read: the statements of one request, also of lists with one row and with fifty, and records on the bus.

use std::collections::BTreeMap;
use std::sync::Once;

use futures::{StreamExt as _, stream};
use serde_json::Value;
use sosohappy_bus::Start;
use sosohappy_events::types::{Relation, Role};
use sosohappy_events::{Header, Topic};
use sosohappy_testkit::statements::{self, Cost, cost};
use sosohappy_testkit::{Bed, PATIENCE, Person, eventually, on_both_engines};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::others::tell;
use super::{Feed, read};

on_both_engines!(
    statements_of_a_like_are_counted,
    statements_of_a_save_are_counted,
    statements_of_comments_and_bookmarks_are_counted,
    records_of_writes_are_counted,
    lists_take_as_many_statements_for_fifty_rows_as_for_one,
);

const DATE: &str = "2023090513248392";
const ANOTHER_DATE: &str = "2023090413248392";

/// Of a record: key, value and headers.
const MOST_BYTES: usize = 1024;

pub(super) fn subscribe() {
    static SUBSCRIBED: Once = Once::new();
    SUBSCRIBED.call_once(|| tracing_subscriber::registry().with(statements::layer()).init());
}

/// A like waits for each of them: the post is found, the mark, the counts and the events are written.
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
        ("like", Cost { reads: 1, writes: 3 }),
        ("unlike", Cost { reads: 1, writes: 3 }),
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
    let save = async |date: &str, happiness: &str| {
        let params = [
            ("nickname", "kim"),
            ("date", date),
            ("weather", "sunny"),
            ("happiness", happiness),
            ("categoryList", "sea,friends"),
            ("text", "a day at the sea"),
            ("isPublic", "true"),
        ];
        counted(&bed, &feed, &kim, "saveFeed", &params).await
    };
    // A name is read again after two seconds, which is not the cost of one of three posts.
    let mut costs = Vec::new();
    for date in [DATE, "2023090613248392", "2023090713248392"] {
        let saved = [save(date, "3").await, save(date, "5").await, save(date, "5").await];
        let own = [("nickname", "kim"), ("date", date)];
        let deleted = counted(&bed, &feed, &kim, "deleteFeed", &own).await;
        costs.push((saved, deleted));
    }
    let least = |of: fn(&([Cost; 3], Cost)) -> Cost| costs.iter().map(of).min_by_key(|cost| cost.reads).unwrap();
    // The post, its event, its categories; the read says that there is no draft of the day, which would be deleted.
    assert_eq!(
        least(|(saved, _)| saved[0]),
        Cost { reads: 1, writes: 3 },
        "the first post of a day"
    );
    // Beside these the refused insert, the former version, the oldest version.
    assert_eq!(
        least(|(saved, _)| saved[1]),
        Cost { reads: 3, writes: 7 },
        "a post that is changed"
    );
    assert_eq!(
        least(|(saved, _)| saved[2]),
        Cost { reads: 2, writes: 2 },
        "a repeated save"
    );
    assert_eq!(
        least(|(_, deleted)| *deleted),
        Cost { reads: 2, writes: 4 },
        "a post that is deleted"
    );
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
    assert_eq!(bookmark().await, Cost { reads: 1, writes: 3 }, "a bookmark");
    assert_eq!(bookmark().await, Cost { reads: 1, writes: 3 }, "a bookmark taken back");
    let [source, author, date] = post;
    let comment = [source, author, date, ("text", "well done")];
    let commented = counted(&bed, &feed, &lee, "saveComment", &comment).await;
    assert_eq!(commented, Cost { reads: 1, writes: 3 }, "a comment");
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
            *bytes += record.size();
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

/// Rows of the larger lists; a page has 25 of them at most.
const ROWS: usize = 50;
const WRITERS: usize = 10;

/// Days that posts are dated to, in months of 28 days.
fn date(day: usize) -> String {
    format!("2023{:02}{:02}12000000", day / 28 + 1, day % 28 + 1)
}

/// kim's post with comments, likes and earlier versions, and kim's month and year.
const OWN: &[(&str, &str)] = &[("nickname", "kim"), ("date", "2023010112000000")];
const OWN_PAGE: &[(&str, &str)] = &[("nickname", "kim"), ("size", "25")];

/// The method, the call and its parameters.
type Call = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// Reads of many rows. Those of `admin/` are the moderator's, the others kim's.
const LISTS: &[Call] = &[
    ("GET", "findOtherFeed", OWN_PAGE),
    (
        "GET",
        "findOtherFeed",
        &[("nickname", "kim"), ("size", "25"), ("sort", "likes")],
    ),
    (
        "GET",
        "findUserFeed",
        &[("srcNickname", "kim"), ("dstNickname", "w0"), ("size", "25")],
    ),
    ("GET", "findFriendFeed", OWN_PAGE),
    ("GET", "feedViews", OWN_PAGE),
    ("GET", "findBookmark", OWN_PAGE),
    (
        "GET",
        "findComment",
        &[
            ("srcNickname", "kim"),
            ("nickname", "kim"),
            ("date", "2023010112000000"),
            ("size", "25"),
        ],
    ),
    (
        "GET",
        "findFeedHistory",
        &[("nickname", "kim"), ("date", "2023010112000000"), ("size", "25")],
    ),
    ("GET", "findDraft", OWN_PAGE),
    ("POST", "findDayFeed", OWN),
    ("POST", "findMonthFeed", OWN),
    ("POST", "analysisHappiness", OWN),
    ("POST", "findMonthHappiness", OWN),
    ("POST", "findYearHappiness", OWN),
    ("GET", "yearReview", OWN),
    ("GET", "findStreak", &[("nickname", "kim")]),
    ("GET", "export", &[("nickname", "kim")]),
    ("GET", "admin/heldFeed", &[("size", "25")]),
    ("GET", "admin/heldComment", &[("size", "25")]),
];

struct People {
    kim: Person,
    moderator: Person,
    writers: Vec<Person>,
}

async fn send(feed: &Feed, who: &Person, call: &str, params: &[(&str, &str)]) {
    let (status, body) = feed.post(who, call, params).await;
    assert_eq!(status, 200, "{call}: {body}");
}

async fn write(feed: &Feed, who: &Person, date: &str, text: &str) {
    let post = [
        ("nickname", who.nickname.as_str()),
        ("date", date),
        ("weather", "sunny"),
        ("happiness", "3"),
        ("categoryList", "sea,food"),
        ("text", text),
        ("isPublic", "true"),
    ];
    send(feed, who, "saveFeed", &post).await;
}

/// Adds a row to each list.
async fn add_row(feed: &Feed, people: &People, number: usize) {
    let People { kim, writers, .. } = people;
    let first = &writers[0];
    let other = &writers[1 + number % (WRITERS - 1)];
    let commenter = &writers[number % WRITERS];
    let (day, draft, own) = (date(number), date(200 + number), date(0));
    write(feed, first, &day, "a post").await;
    write(feed, kim, &day, "as it was written").await;
    write(feed, kim, &own, &format!("version {number}")).await;
    write(feed, other, &date(60 + number), "another post").await;
    write(feed, other, &date(120 + number), "도박").await;
    let post = [
        ("srcNickname", "kim"),
        ("nickname", first.nickname.as_str()),
        ("date", &day),
    ];
    send(feed, kim, "updateBookmark", &post).await;
    send(feed, kim, "saveDraft", &[("nickname", "kim"), ("date", &draft)]).await;
    for text in ["a comment", "도박"] {
        let comment = [
            ("srcNickname", commenter.nickname.as_str()),
            ("nickname", "kim"),
            ("date", &own),
            ("text", text),
        ];
        send(feed, commenter, "saveComment", &comment).await;
    }
    // A second like would end the first.
    if number < WRITERS {
        let like = [
            ("srcNickname", commenter.nickname.as_str()),
            ("nickname", "kim"),
            ("date", &own),
        ];
        send(feed, commenter, "updateLike", &like).await;
    }
}

/// Whether the slice has so many rows; other answers are not counted.
fn has_rows(body: &str, rows: u64) -> bool {
    let slice: Value = serde_json::from_str(body).unwrap_or_default();
    slice["numberOfElements"].as_u64().is_none_or(|count| count >= rows)
}

/// The statements of each list, once it has so many rows on its first page.
async fn costs(feed: &Feed, bed: &Bed, people: &People, rows: u64) -> Vec<(String, Cost)> {
    let mut costs = Vec::new();
    for (method, call, params) in LISTS {
        let is_moderators = call.starts_with("admin/");
        let who = if is_moderators { &people.moderator } else { &people.kim };
        let request = || {
            who.sign(if *method == "GET" {
                feed.client.get(feed.at(call)).query(params)
            } else {
                feed.client.post(feed.at(call)).form(params)
            })
        };
        // Friends and views come by events.
        eventually(call, async || {
            let (status, body) = read(request()).await;
            assert_eq!(status, 200, "{call}: {body}");
            has_rows(&body, rows).then_some(())
        })
        .await;
        // The least of three: a nickname that the topics bring meanwhile is read once more.
        let mut least: Option<Cost> = None;
        for _ in 0..3 {
            let (counted, response) = cost(&call.replace('/', "-"), bed, request()).await;
            assert_eq!(response.status(), 200, "{call}");
            if least.is_none_or(|least| counted.reads + counted.writes < least.reads + least.writes) {
                least = Some(counted);
            }
        }
        let least = least.expect("there were requests");
        assert!(least.reads > 0, "{call} reads");
        costs.push((format!("{call} {params:?}"), least));
    }
    costs
}

async fn lists_take_as_many_statements_for_fifty_rows_as_for_one(bed: Bed) {
    subscribe();
    let feed = Feed::start_with(&bed, &[("review.words", "도박")]).await;
    let mut writers = Vec::with_capacity(WRITERS);
    for number in 0..WRITERS {
        let name = format!("w{number}");
        writers.push(bed.person(&format!("{name}@example.com+kakao"), &name).await);
    }
    let people = People {
        kim: bed.person("kim@example.com+kakao", "kim").await,
        moderator: bed
            .person_with_role("mod@example.com+google", "mod", Role::Moderator)
            .await,
        writers,
    };
    for writer in &people.writers {
        tell(&bed, Relation::Follow, &people.kim, writer).await;
        tell(&bed, Relation::Follow, writer, &people.kim).await;
    }
    add_row(&feed, &people, 0).await;
    let one = costs(&feed, &bed, &people, 1).await;
    stream::iter(1..ROWS)
        .for_each_concurrent(4, |number| add_row(&feed, &people, number))
        .await;
    let fifty = costs(&feed, &bed, &people, 25).await;
    for ((list, one), (_, fifty)) in one.iter().zip(&fifty) {
        assert_eq!(fifty, one, "{list}");
    }
}
