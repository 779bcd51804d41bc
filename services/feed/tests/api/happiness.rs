use serde_json::{Value, json};
use sosohappy_common::clock::ManualClock;
use sosohappy_testkit::{Bed, on_both_engines};

use super::{Feed, code, problem};

on_both_engines!(
    a_month_is_analysed,
    months_and_years_have_every_point,
    a_year_is_reviewed_and_days_in_a_row_are_counted,
    phrases_are_extended_by_a_file,
);

async fn a_month_is_analysed(bed: Bed) {
    // A clock that stands still: no day ends during the test.
    let clock = ManualClock::at(bed.context.clock.now());
    let feed = Feed::serve_at(&bed, clock, &[]).await.ready().await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    let september = [("nickname", "kim"), ("date", "2023090000000000")];
    let nothing = r#"{"bestCategoryList":[],"recommendCategoryList":["피드 작성하기"]}"#;
    assert_eq!(feed.post(&kim, "analysisHappiness", &september).await.1, nothing);

    feed.save(&kim, "2023090100000000", "3", "sea").await;
    feed.save(&kim, "2023090200000000", "5", "coffee").await;
    feed.save(&kim, "2023090300000000", "1", "home").await;
    feed.save(&kim, "2023090400000000", "1", "home").await;
    feed.save(&kim, "2023090500000000", "1", "game").await;
    let alone = r#"{"bestCategoryList":["coffee","sea","home"],"recommendCategoryList":["피드 작성하기"]}"#;
    assert_eq!(feed.post(&kim, "analysisHappiness", &september).await.1, alone);

    feed.save(&lee, "2023080100000000", "4", "coffee,books").await;
    feed.save(&lee, "2023080200000000", "5", "sea,friends").await;
    feed.save(&lee, "2023080300000000", "3", "coffee,books").await;
    let told = r#"{"bestCategoryList":["coffee","sea","home"],"recommendCategoryList":["커피 한잔 마시고 책 읽기","바다 보러 가고 친구 만나기"]}"#;
    assert_eq!(
        feed.post(&kim, "analysisHappiness", &september).await.1,
        told,
        "at once"
    );

    feed.save(&lee, "2023080100000000", "1", "movie").await;
    feed.post(&lee, "deleteFeed", &[("nickname", "lee"), ("date", "2023080300000000")])
        .await;
    feed.save(&lee, "2023080400000000", "5", "sea,pet").await;
    assert_eq!(
        feed.post(&kim, "analysisHappiness", &september).await.1,
        told,
        "all day"
    );
    // As if it was yesterday.
    assert_eq!(bed.sql("feed", "UPDATE recommendation SET day = 20230101").await, 1);
    let changed = r#"{"bestCategoryList":["coffee","sea","home"],"recommendCategoryList":["바다 보러 가고 친구 만나기","바다 보러 가고 반려동물과 놀기"]}"#;
    assert_eq!(
        feed.post(&kim, "analysisHappiness", &september).await.1,
        changed,
        "on the next day"
    );
}

async fn months_and_years_have_every_point(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    feed.save(&kim, "2024020500000000", "4", "sea").await;
    feed.save(&kim, "2024022900000000", "1", "sea").await;

    let (_, month) = feed
        .post(
            &kim,
            "findMonthHappiness",
            &[("nickname", "kim"), ("date", "2024020000000000")],
        )
        .await;
    let month: Vec<Value> = serde_json::from_str(&month).unwrap();
    assert_eq!(month.len(), 29);
    assert_eq!(month[0], json!({ "happiness": 0.0, "formattedDate": "1" }));
    assert_eq!(month[4], json!({ "happiness": 4.0, "formattedDate": "5" }));
    assert_eq!(month[28], json!({ "happiness": 1.0, "formattedDate": "29" }));

    let (_, year) = feed
        .post(
            &kim,
            "findYearHappiness",
            &[("nickname", "kim"), ("date", "2024000000000000")],
        )
        .await;
    let year: Vec<Value> = serde_json::from_str(&year).unwrap();
    assert_eq!(year.len(), 12);
    assert_eq!(year[0], json!({ "happiness": 0.0, "formattedDate": "Jan" }));
    assert_eq!(year[1], json!({ "happiness": 2.5, "formattedDate": "Feb" }));
    assert_eq!(year[11], json!({ "happiness": 0.0, "formattedDate": "Dec" }));

    let no_month = feed
        .post(
            &kim,
            "findMonthHappiness",
            &[("nickname", "kim"), ("date", "2024130000000000")],
        )
        .await;
    assert_eq!(code(&no_month), problem(400, "invalid-parameter"));
}

async fn a_year_is_reviewed_and_days_in_a_row_are_counted(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    for (date, happiness, categories) in [
        ("2022123100000000", "1", "sea"),
        ("2023010100000000", "5", "sea,food"),
        ("2023010200000000", "2", "food"),
        ("2023030100000000", "5", "food"),
    ] {
        feed.save(&kim, date, happiness, categories).await;
    }
    feed.like(&lee, &kim, "2023010100000000").await;
    let read = async |who, call, params: &[(&str, &str)]| {
        let (status, body) = feed.get(who, call, params).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<Value>(&body).unwrap()
    };
    let mut review = read(&kim, "yearReview", &[("nickname", "kim"), ("date", "2023000000000000")]).await;
    assert_eq!(review["months"].take().as_array().unwrap().len(), 12);
    assert_eq!(
        review,
        json!({
            "posts": 3, "happiness": 4.0, "months": null,
            "happiest": [2_023_010_100_000_000_i64, 2_023_030_100_000_000_i64, 2_023_010_200_000_000_i64],
            "categories": [{"name": "food", "posts": 3, "happiness": 4.0}, {"name": "sea", "posts": 1, "happiness": 5.0}],
            "weathers": [{"name": "sunny", "posts": 3, "happiness": 4.0}],
            "longestStreak": {"days": 2, "firstDay": 20_230_101, "lastDay": 20_230_102},
            "likes": 1, "comments": 0,
        })
    );
    let longest = json!({"days": 3, "firstDay": 20_221_231, "lastDay": 20_230_102});
    let streak = read(&kim, "findStreak", &[("nickname", "kim")]).await;
    assert_eq!(streak, json!({"current": null, "longest": longest}));
    let none = read(&lee, "findStreak", &[("nickname", "lee")]).await;
    assert_eq!(none, json!({"current": null, "longest": null}));
    let today = format!("{}00000000", bed.context.clock.now().strftime("%Y%m%d"));
    feed.save(&lee, &today, "3", "sea").await;
    let streak = read(&lee, "findStreak", &[("nickname", "lee")]).await;
    assert_eq!(streak["current"]["days"], json!(1));
    let theirs = feed.get(&lee, "findStreak", &[("nickname", "kim")]).await;
    assert_eq!(code(&theirs), problem(403, "not-yourself"));
}

async fn phrases_are_extended_by_a_file(bed: Bed) {
    let file = bed.folder().join("phrases.json");
    std::fs::write(&file, r#"{"gardening": "정원을 가꾸"}"#).unwrap();
    let file = file.to_str().expect("a path in UTF-8");
    let feed = Feed::start_with(&bed, &[("recommendations.phrases", file)]).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    feed.save(&kim, "2023090100000000", "3", "gardening,sea").await;
    let september = [("nickname", "kim"), ("date", "2023090000000000")];
    let (_, told) = feed.post(&kim, "analysisHappiness", &september).await;
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["recommendCategoryList"], json!(["정원을 가꾸고 바다 보러 가기"]));
}
