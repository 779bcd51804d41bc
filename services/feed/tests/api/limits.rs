use futures::future::join_all;
use reqwest::StatusCode;
use serde_json::{Map, json};
use sosohappy_testkit::{Bed, Person, on_both_engines};

use super::{Feed, code, problem, read};

on_both_engines!(an_account_is_limited_whatever_it_calls_from);

/// How many of so many calls at once are not refused with 429.
async fn passed(feed: &Feed, who: &Person, calls: usize) -> usize {
    let calls = (0..calls).map(async |_| {
        let call = feed.client.post(feed.at("findDayFeed"));
        let answer = read(who.sign(call.form(&[("nickname", who.nickname.as_str()), ("date", "2023090508000000")])));
        let answer = answer.await;
        if answer.0 != StatusCode::OK {
            assert_eq!(code(&answer), problem(429, "rate-limited"));
        }
        usize::from(answer.0 == StatusCode::OK)
    });
    join_all(calls).await.into_iter().sum()
}

async fn an_account_is_limited_whatever_it_calls_from(bed: Bed) {
    // A rate this low gives none back while the test runs.
    let feed = Feed::start_with(&bed, &[("rate-limits.per-account.read", "1")]).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    assert_eq!(passed(&feed, &kim, 40).await, 1);
    assert_eq!(
        passed(&feed, &lee, 1).await,
        1,
        "another account has a quota of its own"
    );
    feed.save(&kim, "2023090508000000", "3", "sea").await;

    // As POST /actuator/refresh and a refresh over the bus do.
    let changed = Map::from_iter([("rate-limits.per-account.read".to_owned(), json!("off"))]);
    let refreshed = feed
        .running
        .context
        .settings
        .set(changed)
        .await
        .expect("attached")
        .expect("valid");
    assert_eq!(refreshed.changed, ["rate-limits.per-account.read"]);
    assert_eq!(refreshed.needs_restart, Vec::<String>::new());
    assert_eq!(passed(&feed, &kim, 40).await, 40);
}
