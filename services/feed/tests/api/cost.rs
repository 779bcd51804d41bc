//! Cost of a like: the statements of one request.

use std::sync::Once;

use sosohappy_testkit::statements::{self, Cost, cost};
use sosohappy_testkit::{Bed, on_both_engines};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::Feed;

on_both_engines!(statements_of_a_like_are_counted);

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
