//! Kafka is killed and auth cannot be reached: people write and read, and events catch up.

use std::collections::HashSet;

use serde_json::{Value, json};
use sosohappy_bus::Start;
use sosohappy_events::types::{PostChange, PostChanged, PostLiked};
use sosohappy_events::{Envelope, EventId, Topic};
use sosohappy_testkit::{Bed, Broker, EngineSet, PATIENCE, Person, eventually};
use tokio::time::timeout;

use super::Feed;

const DATE: &str = "2023090513248392";

async fn view(feed: &Feed, who: &Person, whose: &Person) -> Option<Value> {
    let (status, body) = feed.view(who, whose, DATE).await;
    (status == 200).then(|| serde_json::from_str(&body).unwrap())
}

/// Likes, bookmarks and comments of a view.
fn counts(view: &Value) -> Value {
    json!([view["likeCount"], view["bookmarkCount"], view["commentCount"]])
}

/// Of each author the changes of the posts and the notices of likes, each with its id once, until the last change and a notice of each author.
async fn published(bed: &Bed, authors: [&Person; 2], last: PostChange) -> (Vec<Vec<PostChange>>, usize) {
    let mut reader = bed
        .bus
        .read(&[Topic::Post, Topic::NoticeLike], Start::Earliest)
        .await
        .unwrap();
    let mut seen: HashSet<(Option<Vec<u8>>, EventId)> = HashSet::new();
    let (mut changes, mut notices) = (vec![Vec::new(); authors.len()], 0);
    // Records of two topics come in any order.
    while notices < authors.len()
        || changes
            .iter()
            .any(|changes: &Vec<PostChange>| changes.last() != Some(&last))
    {
        let record = timeout(PATIENCE, reader.next()).await.expect("records come").unwrap();
        let key = record.key.as_deref().map(<[u8]>::to_vec);
        // A record is published at least once, and has the same id each time.
        if record.topic == Topic::NoticeLike {
            let liked = Envelope::<PostLiked>::decode(&record).unwrap();
            notices += usize::from(seen.insert((key, liked.meta.id)));
        } else {
            let Envelope { event, meta } = Envelope::<PostChanged>::decode(&record).unwrap();
            if seen.insert((key, meta.id)) {
                let author = authors.iter().position(|author| author.account == event.author);
                changes[author.expect("there are two authors")].push(event.change);
            }
        }
    }
    (changes, notices)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_write_and_read_while_kafka_is_killed_and_auth_is_unreachable() {
    use PostChange::{Bookmarked, Commented, Deleted, Liked, Saved, Unliked};

    if !EngineSet::real_is_there() {
        return;
    }
    let broker = Broker::start();
    let bed = Bed::on_broker(&broker).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    let without_auth = [("access.auth-url", "http://127.0.0.1:9")];
    let feed = Feed::serve_on(&bed, bed.bus.clone(), bed.context.clock.clone(), &without_auth).await;
    let feed = feed.ready().await;
    for who in [&kim, &lee] {
        let day = [("nickname", who.nickname.as_str()), ("date", DATE)];
        eventually("the topics have brought the person", async || {
            (feed.post(who, "findDayFeed", &day).await.0 == 200).then_some(())
        })
        .await;
    }
    feed.save(&kim, DATE, "3", "sea").await;
    eventually("the post is in the view", async || view(&feed, &lee, &kim).await).await;

    broker.kill();
    feed.save(&lee, DATE, "3", "sea").await;
    for (who, whose) in [(&lee, &kim), (&kim, &lee)] {
        assert_eq!(feed.sees(who).await, [DATE.parse::<i64>().unwrap()]);
        assert_eq!(feed.like(who, whose, DATE).await.1, r#"{"like":true}"#);
        assert_eq!(feed.bookmark(who, whose, DATE).await.1, r#"{"bookmark":true}"#);
        feed.commented(who, whose, "축하해").await;
        assert_eq!(feed.likers(whose, DATE).await, [who.nickname.as_str()]);
    }
    assert_eq!(feed.like(&lee, &kim, DATE).await.1, r#"{"like":false}"#);
    // The view is of the time before, and it is read.
    assert_eq!(counts(&view(&feed, &lee, &kim).await.unwrap()), json!([0, 0, 0]));

    broker.restart();
    eventually("the events are published and applied", async || {
        let of_kim = counts(&view(&feed, &lee, &kim).await?);
        let of_lee = counts(&view(&feed, &kim, &lee).await?);
        (of_kim == json!([0, 1, 1]) && of_lee == json!([1, 1, 1])).then_some(())
    })
    .await;
    for who in [&kim, &lee] {
        let own = [("nickname", who.nickname.as_str()), ("date", DATE)];
        assert_eq!(feed.post(who, "deleteFeed", &own).await.0, 200);
    }
    let (changes, notices) = published(&bed, [&kim, &lee], Deleted).await;
    assert_eq!(
        changes,
        [
            vec![Saved, Liked, Bookmarked, Commented, Unliked, Deleted],
            vec![Saved, Liked, Bookmarked, Commented, Deleted]
        ]
    );
    assert_eq!(notices, 2, "a like taken back is withdrawn by another topic");
}
