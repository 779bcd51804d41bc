//! The tally service from the outside, over HTTP and the topic.

use jiff::tz::Offset;
use reqwest::StatusCode;
use serde_json::{Value, json};
use sosohappy_common::settings::Live;
use sosohappy_events::types::{PostChange, PostChanged};
use sosohappy_tally::{DEFAULTS, SERVICE, Settings, build};
use sosohappy_testkit::{Bed, Running, eventually, on_both_engines};

on_both_engines!(
    the_service_is_healthy,
    posts_of_today_are_counted,
    other_days_are_refused
);

async fn start(bed: &Bed) -> Running {
    let settings: Live<Settings> = bed.settings("tally", DEFAULTS, &[]).await;
    let context = bed.context(SERVICE);
    context.settings.attach(&settings);
    bed.start(Ok(build(&settings, context, bed.bus.clone()))).await
}

async fn ask(tally: &Running, path: &str) -> (StatusCode, Value) {
    let answer = sosohappy_common::tls::client().get(tally.at(path)).send().await;
    let answer = answer.expect("the service answers");
    (answer.status(), answer.json().await.expect("the answer is JSON"))
}

async fn the_service_is_healthy(bed: Bed) {
    let tally = start(&bed).await;
    let (status, health) = ask(&tally, "/actuator/health").await;
    assert_eq!((status, &health["status"]), (StatusCode::OK, &json!("UP")));
}

/// Today in UTC, `yyyyMMdd`.
fn today(bed: &Bed) -> i64 {
    let today = Offset::UTC.to_datetime(bed.context.clock.now()).date();
    today.strftime("%Y%m%d").to_string().parse().expect("eight digits")
}

async fn count(tally: &Running, day: impl std::fmt::Display) -> (StatusCode, Value) {
    ask(tally, &format!("/tally-service/todayCount?day={day}")).await
}

async fn wait_for_count(tally: &Running, day: i64, expected: u64) {
    eventually(&format!("{expected} posts are counted"), async || {
        let counted = count(tally, day).await == (StatusCode::OK, json!({ "count": expected }));
        counted.then_some(())
    })
    .await;
}

fn changed(day: i64, post: i64, revision: i64, change: PostChange) -> PostChanged {
    PostChanged {
        change,
        author: "kim@example.com+kakao".parse().expect("an account"),
        date: day * 100_000_000 + 13_248_392,
        post,
        is_public: true,
        is_for_friends: false,
        is_hidden: false,
        likes: 0,
        bookmarks: 0,
        comments: 0,
        revision,
        actor: None,
        comment: None,
    }
}

async fn posts_of_today_are_counted(bed: Bed) {
    let tally = start(&bed).await;
    let day = today(&bed);
    wait_for_count(&tally, day, 0).await;
    bed.publish(changed(day, 1, 1, PostChange::Saved)).await;
    wait_for_count(&tally, day, 1).await;
    let second = bed.publish(changed(day, 2, 1, PostChange::Saved)).await;
    wait_for_count(&tally, day, 2).await;
    bed.publish(changed(day, 1, 2, PostChange::Liked)).await;
    bed.publish(changed(day, 2, 2, PostChange::Deleted)).await;
    wait_for_count(&tally, day, 1).await;
    // The records of one author come in their order: with the fourth post the duplicate has been applied.
    bed.publish_again(&second).await;
    bed.publish(changed(day - 10_000, 3, 1, PostChange::Saved)).await;
    bed.publish(changed(day, 4, 1, PostChange::Saved)).await;
    wait_for_count(&tally, day, 2).await;

    tally.stop().await;
    let tally = start(&bed).await;
    assert_eq!(
        count(&tally, day).await,
        (StatusCode::OK, json!({"count": 2})),
        "a restarted replica is ready with the count"
    );
}

async fn other_days_are_refused(bed: Bed) {
    let tally = start(&bed).await;
    for day in ["20200101", "0", "", "today"] {
        let (status, problem) = count(&tally, day).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{day}: {problem}");
        assert_eq!(problem["code"], "invalid-parameter", "{day}");
    }
}
