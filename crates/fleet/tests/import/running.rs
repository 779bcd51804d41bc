//! A run of the import or export beside a service that goes on writing, or that is killed.

use std::process::Stdio;

use mongodb::bson::Document;
use mongodb::bson::oid::ObjectId;
use sosohappy_testkit::{Bed, EngineSet};

use super::legacy::{Legacy, Target, count, killed, paused, picture, printed};
use super::messages::{Collected, message};

const PEOPLE: i64 = 20;
/// More than a page of accounts has.
const ACCOUNTS: i64 = 2000;
const POSTS: i64 = 2000;
const MESSAGES: i64 = 4000;
/// The number of exported posts.
const EXPORTED: &str = "SELECT COUNT(*) FROM feed";

/// Rows that are written while a run is stopped: fewer than a page has.
const LATE: i64 = 10;

/// Makes accounts, and one post a day of each.
async fn fill(legacy: &Legacy) {
    for person in 0..PEOPLE {
        legacy
            .user(&format!("person{person}@example.com+kakao"), &format!("person{person}"))
            .await;
    }
    add_posts(legacy, 0, POSTS).await;
}

async fn add_posts(legacy: &Legacy, from: i64, until: i64) {
    let posts: Vec<String> = (from..until)
        .map(|number| {
            let (person, day) = (number % PEOPLE, number / PEOPLE);
            let date = (20_230_101 + day / 25 * 100 + day % 25) * 100_000_000 + 12_000_000;
            format!("({date}, 3, b'1', 'person{person}', 'sunny', 'day {day}')")
        })
        .collect();
    for posts in posts.chunks(500) {
        let posts = posts.join(", ");
        legacy
            .run(format!(
                "INSERT INTO feed (date, happiness, is_public, nickname, weather, text) VALUES {posts}"
            ))
            .await;
    }
}

async fn add_messages(there: &Collected, from: i64, until: i64) {
    let messages: Vec<Document> = (from..until)
        .map(|number| {
            let date = 2_023_090_513_000_000 + number;
            let mut message = message("person0", "person1", date, &format!("message {number}"));
            message.insert("_id", ObjectId::new());
            message
        })
        .collect();
    for messages in messages.chunks(500) {
        there.messages.insert_many(messages).await.expect("inserted");
    }
}

/// A run ends while posts and messages keep arriving: it reads up to the last ids of its beginning, and leaves later rows to the next run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_written_during_a_run_are_left_to_the_next() {
    if !EngineSet::real_is_there() {
        return;
    }
    let bed = Bed::new(EngineSet::Embedded).await;
    let (legacy, target) = (Legacy::new().await, Target::of(&bed).await);
    let there = Collected::of(&legacy).await;
    fill(&legacy).await;
    add_messages(&there, 0, MESSAGES).await;
    let urls = ["auth", "feed"].map(|service| legacy.url(service));
    let arguments = [
        "--auth",
        urls[0].as_str(),
        "--feed",
        urls[1].as_str(),
        "--messages",
        there.url.as_str(),
    ];
    let mut running = target
        .command(&arguments)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let posts = async || target.number("SELECT COUNT(*) FROM post").await;
    paused(&mut running, posts, POSTS, add_posts(&legacy, POSTS, POSTS + LATE)).await;
    let messages = async || target.messages().await;
    let late = add_messages(&there, MESSAGES, MESSAGES + LATE);
    paused(&mut running, messages, MESSAGES, late).await;
    let first = printed(&running.wait_with_output().expect("it ends"));
    assert_eq!(count(&first, "feed", "created"), POSTS.unsigned_abs(), "{first}");
    assert_eq!(count(&first, "message", "created"), MESSAGES.unsigned_abs(), "{first}");
    let second = target.import(&arguments);
    for table in ["feed", "message"] {
        assert_eq!(count(&second, table, "created"), LATE.unsigned_abs(), "{second}");
    }
    there.messages.drop().await.expect("dropped");
}

/// Killed while it writes accounts, and again while it writes messages: the next run takes the rest over. A run whose rows are lost fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_is_killed_goes_on_and_lost_rows_are_found() {
    if !EngineSet::real_is_there() {
        return;
    }
    let bed = Bed::new(EngineSet::Embedded).await;
    let (legacy, target) = (Legacy::new().await, Target::of(&bed).await);
    let there = Collected::of(&legacy).await;
    let people: Vec<String> = (0..ACCOUNTS)
        .map(|number| {
            format!("('-', 'person{number}@example.com+kakao', 'person{number}', 'kakao', 'subject {number}')")
        })
        .collect();
    for people in people.chunks(500) {
        let columns = "apple_refresh_token, email, nickname, provider, provider_id";
        let insert = format!("INSERT INTO `user` ({columns}) VALUES {}", people.join(", "));
        legacy.run_at_auth(&insert).await;
    }
    add_messages(&there, 0, MESSAGES).await;
    let auth = legacy.url("auth");
    let arguments = ["--auth", auth.as_str(), "--messages", there.url.as_str()];
    let start = || target.command(&arguments).spawn().expect("the binary runs");
    let accounts = async || target.number_at_auth("SELECT COUNT(*) FROM imported_account").await;
    let messages = async || target.messages().await;
    killed(start(), &accounts, ACCOUNTS).await;
    let sent = killed(start(), &messages, MESSAGES).await;

    let rest = target.import(&arguments);
    assert_eq!(count(&rest, "user", "unchanged"), ACCOUNTS.unsigned_abs(), "{rest}");
    assert_eq!(count(&rest, "message", "unchanged"), sent.unsigned_abs(), "{rest}");
    assert_eq!(
        count(&rest, "message", "created"),
        (MESSAGES - sent).unsigned_abs(),
        "{rest}"
    );
    for told in [
        format!("check: {ACCOUNTS} accounts: as they were read"),
        format!("check: {MESSAGES} messages: as they were read"),
    ] {
        assert!(rest.contains(&told), "{rest}");
    }
    let here = target.number_at_auth("SELECT COUNT(*) FROM account").await;
    assert_eq!((here, messages().await), (Some(ACCOUNTS), Some(MESSAGES)), "each once");

    // Databases that lose what they have acknowledged.
    let lose = "CREATE TRIGGER lose AFTER INSERT ON imported_account BEGIN \
                DELETE FROM imported_account WHERE legacy_id = NEW.legacy_id; END";
    bed.sql("auth", lose).await;
    legacy.user("late@example.com+kakao", "late").await;
    let told = format!("check: {} accounts were read, {ACCOUNTS} are here", ACCOUNTS + 1);
    let error = target.refused(&arguments);
    assert!(error.contains(&told), "{error}");
    bed.sql("auth", "DROP TRIGGER lose").await;

    let lose = "CREATE TRIGGER lose AFTER INSERT ON message BEGIN DELETE FROM message WHERE id = NEW.id; END";
    bed.sql("dm", lose).await;
    add_messages(&there, MESSAGES, MESSAGES + 1).await;
    let told = format!("check: {} messages were read, {MESSAGES} are here", MESSAGES + 1);
    let error = target.refused(&arguments);
    assert!(error.contains(&told), "{error}");
    there.messages.drop().await.expect("dropped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn posts_and_pictures_that_are_not_as_they_were_read_are_found() {
    if !EngineSet::real_is_there() {
        return;
    }
    let bed = Bed::new(EngineSet::Embedded).await;
    let (legacy, target) = (Legacy::new().await, Target::of(&bed).await);
    legacy.user("kim@example.com+kakao", "kim").await;
    for (date, shade) in [(2_023_090_500_000_000, 10), (2_023_090_600_000_000, 200)] {
        let post = legacy.post("kim", date, 3).await;
        legacy.image(post, &picture(shade, 200)).await;
    }
    let urls = ["auth", "feed"].map(|service| legacy.url(service));
    let arguments = ["--auth", urls[0].as_str(), "--feed", urls[1].as_str()];
    target.import(&arguments);

    // Databases that store something else than they are given.
    let change = "CREATE TRIGGER change AFTER INSERT ON post BEGIN \
                  UPDATE post SET happiness = 5 WHERE id = NEW.id; END";
    bed.sql("feed", change).await;
    legacy.post("kim", 2_023_090_700_000_000, 4).await;
    let error = target.refused(&arguments);
    let told = "check: 3 posts with a happiness of 10 were read, 3 with 11 are here";
    assert!(error.contains(told), "{error}");
    bed.sql("feed", "DROP TRIGGER change").await;

    let another = "UPDATE imported_image SET image = (SELECT MAX(image) FROM imported_image)";
    assert_eq!(bed.sql("feed", another).await, 2);
    let error = target.refused(&arguments);
    assert!(error.contains("does not show here what it shows there"), "{error}");
}

/// Killed in the middle, run again, and once more: no row is there twice, and the next import finds every row unchanged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_that_is_killed_continues() {
    if !EngineSet::real_is_there() {
        return;
    }
    let bed = Bed::new(EngineSet::Embedded).await;
    let (legacy, target) = (Legacy::new().await, Target::of(&bed).await);
    fill(&legacy).await;
    let urls = ["auth", "feed"].map(|service| legacy.url(service));
    let arguments = ["--auth", urls[0].as_str(), "--feed", urls[1].as_str()];
    target.import(&arguments);
    // As if they had been written here.
    bed.sql("feed", "DELETE FROM imported_post").await;
    legacy.run("DELETE FROM feed").await;

    let number = async |query: &str| -> i64 {
        let number = legacy.text(&format!("SELECT CAST(({query}) AS CHAR)"), false).await;
        number.parse().expect("a number")
    };
    let run = target.export_command(&arguments).spawn().expect("the binary runs");
    let there = killed(run, async || Some(number(EXPORTED).await), POSTS).await;

    let rest = target.export(&arguments);
    assert_eq!(
        count(&rest, "feed", "created"),
        (POSTS - there).unsigned_abs(),
        "{rest}"
    );
    let again = target.export(&arguments);
    assert_eq!(count(&again, "feed", "unchanged"), POSTS.unsigned_abs(), "{again}");
    assert_eq!(number(EXPORTED).await, POSTS);
    assert_eq!(
        number("SELECT COUNT(DISTINCT nickname, date) FROM feed").await,
        POSTS,
        "each once"
    );
    let back = target.import(&arguments);
    assert_eq!(count(&back, "feed", "unchanged"), POSTS.unsigned_abs(), "{back}");
}
