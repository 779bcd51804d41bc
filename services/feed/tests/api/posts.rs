use futures::future::join_all;
use reqwest::StatusCode;
use reqwest::multipart::Form;
use serde_json::json;
use sosohappy_testkit::{Bed, on_both_engines};

use super::{Feed, code, dates, problem, read, saved};

on_both_engines!(
    a_post_is_saved_and_found,
    parameters_come_in_any_form,
    a_second_save_of_a_day_replaces_the_first,
    saves_of_one_day_at_once_leave_one_post,
    a_post_becomes_private_and_public_again,
    a_deleted_post_is_gone,
    bad_parameters_are_refused,
    a_read_of_what_has_not_changed_is_answered_304,
);

async fn a_post_is_saved_and_found(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "소소한행복").await;
    assert_eq!(feed.save_with(&kim, "2023090513248392", &[]).await, saved());
    feed.save(&kim, "2023090700000000", "3", "sea").await;
    feed.save(&kim, "2023100100000000", "3", "sea").await;

    let day = feed
        .post(
            &kim,
            "findDayFeed",
            &[("nickname", "소소한행복"), ("date", "2023090500000000")],
        )
        .await;
    assert_eq!(
        day.1,
        r#"{"nickname":"소소한행복","weather":"partlyCloudy","date":2023090513248392,"happiness":5,"text":"오늘의 행복","isPublic":true,"categoryList":["coffee","friends"],"imageIdList":[],"likeNicknameList":[]}"#
    );
    let none = feed
        .post(
            &kim,
            "findDayFeed",
            &[("nickname", "소소한행복"), ("date", "2023090600000000")],
        )
        .await;
    assert_eq!(none, (StatusCode::OK, String::new()));

    let (_, month) = feed
        .post(
            &kim,
            "findMonthFeed",
            &[("nickname", "소소한행복"), ("date", "2023090000000000")],
        )
        .await;
    let month: Vec<serde_json::Value> = serde_json::from_str(&month).unwrap();
    let found: Vec<_> = month.iter().map(|post| post["date"].as_i64().unwrap()).collect();
    assert_eq!(found, [2_023_090_700_000_000, 2_023_090_513_248_392]);
    let (_, empty) = feed
        .post(
            &kim,
            "findMonthFeed",
            &[("nickname", "소소한행복"), ("date", "2022010000000000")],
        )
        .await;
    assert_eq!(empty, "[]");
}

async fn parameters_come_in_any_form(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let fields = |date: &'static str| {
        [
            ("nickname", "kim"),
            ("date", date),
            ("weather", "rainy"),
            ("happiness", "1"),
            ("text", ""),
            ("isPublic", "false"),
        ]
    };
    let url = || feed.client.post(feed.at("saveFeed"));

    let query = url()
        .query(&fields("2023010100000000"))
        .query(&[("categoryList", "sea"), ("categoryList", "ott")]);
    assert_eq!(read(kim.sign(query)).await, saved());
    let form = url().form(
        &[
            &fields("2023010200000000")[..],
            &[("categoryList[0]", "sea"), ("categoryList[1]", "ott")],
        ]
        .concat(),
    );
    assert_eq!(read(kim.sign(form)).await, saved());
    let multipart = fields("2023010300000000")
        .into_iter()
        .fold(Form::new(), |form, (name, value)| form.text(name, value));
    assert_eq!(
        read(kim.sign(url().multipart(multipart.text("categoryList", "sea,ott")))).await,
        saved()
    );
    let json = json!({
        "nickname": "kim", "date": 2_023_010_400_000_000_i64, "weather": "rainy", "happiness": 1,
        "categoryList": ["sea", "ott"], "isPublic": false,
    });
    assert_eq!(read(kim.sign(url().json(&json))).await, saved());

    let (_, month) = feed
        .post(
            &kim,
            "findMonthFeed",
            &[("nickname", "kim"), ("date", "2023010000000000")],
        )
        .await;
    let month: Vec<serde_json::Value> = serde_json::from_str(&month).unwrap();
    assert_eq!(month.len(), 4);
    for post in &month {
        assert_eq!(
            (&post["categoryList"], &post["isPublic"]),
            (&json!(["sea", "ott"]), &json!(false))
        );
    }
}

async fn a_second_save_of_a_day_replaces_the_first(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    feed.save(&kim, "2023090508000000", "3", "sea").await;
    assert_eq!(feed.like(&lee, &kim, "2023090508000000").await.1, r#"{"like":true}"#);
    feed.save(&kim, "2023090520000000", "5", "coffee,friends").await;

    let (_, day) = feed
        .post(
            &kim,
            "findDayFeed",
            &[("nickname", "kim"), ("date", "2023090500000000")],
        )
        .await;
    let day: serde_json::Value = serde_json::from_str(&day).unwrap();
    assert_eq!(
        (&day["date"], &day["happiness"]),
        (&json!(2_023_090_520_000_000_i64), &json!(5))
    );
    assert_eq!(day["categoryList"], json!(["coffee", "friends"]));
    assert_eq!(day["likeNicknameList"], json!(["lee"]), "likes stay with the day");
}

async fn saves_of_one_day_at_once_leave_one_post(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let dates: Vec<_> = (10..26).map(|second| format!("20230905120000{second}")).collect();
    join_all(dates.iter().map(|date| feed.save(&kim, date, "3", "sea,friends"))).await;

    let (_, month) = feed
        .post(
            &kim,
            "findMonthFeed",
            &[("nickname", "kim"), ("date", "2023090000000000")],
        )
        .await;
    let month: Vec<serde_json::Value> = serde_json::from_str(&month).unwrap();
    assert_eq!(month.len(), 1);
    assert_eq!(
        month[0]["text"].as_str().unwrap(),
        month[0]["date"].to_string(),
        "one of the saves, and whole"
    );
}

async fn a_post_becomes_private_and_public_again(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    feed.save(&kim, "2023090508000000", "3", "sea").await;
    let toggle = [("nickname", "kim"), ("date", "2023090508000000")];
    let toggled = (
        StatusCode::OK,
        r#"{"success":true,"message":"업데이트 성공"}"#.to_owned(),
    );

    assert_eq!(feed.sees(&lee).await, [2_023_090_508_000_000]);
    assert_eq!(feed.post(&kim, "updatePublicStatus", &toggle).await, toggled);
    assert!(feed.sees(&lee).await.is_empty());
    assert_eq!(
        code(&feed.like(&lee, &kim, "2023090508000000").await),
        problem(404, "no-such-post")
    );
    assert_eq!(feed.post(&kim, "updatePublicStatus", &toggle).await, toggled);
    assert_eq!(feed.sees(&lee).await, [2_023_090_508_000_000]);

    let missing = feed
        .post(
            &kim,
            "updatePublicStatus",
            &[("nickname", "kim"), ("date", "2023090608000000")],
        )
        .await;
    assert_eq!(code(&missing), problem(404, "no-such-post"));
}

async fn a_deleted_post_is_gone(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    feed.save(&kim, "2023090508000000", "3", "sea").await;
    feed.like(&lee, &kim, "2023090508000000").await;
    let delete = [("nickname", "kim"), ("date", "2023090508000000")];

    assert_eq!(
        feed.post(&kim, "deleteFeed", &delete).await,
        (StatusCode::OK, r#"{"result":true}"#.to_owned())
    );
    assert_eq!(
        code(&feed.post(&kim, "deleteFeed", &delete).await),
        problem(404, "no-such-post")
    );
    assert_eq!(feed.post(&kim, "findDayFeed", &delete).await.1, "");
    assert!(feed.sees(&lee).await.is_empty());

    feed.save(&kim, "2023090508000000", "3", "sea").await;
    assert!(
        feed.likers(&kim, "2023090508000000").await.is_empty(),
        "a new post has no old likes"
    );
}

async fn bad_parameters_are_refused(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let good = [
        ("nickname", "kim"),
        ("date", "2023090508000000"),
        ("weather", "sunny"),
        ("happiness", "3"),
        ("categoryList", "sea"),
        ("text", "바다"),
        ("isPublic", "true"),
    ];
    let long = "가".repeat(10_001);
    let many = (0..25).map(|number| number.to_string()).collect::<Vec<_>>().join(",");
    let wrong = [
        ("nickname", "12345678901"),
        ("nickname", ""),
        ("date", "1999123108000000"),
        ("date", "2023022908000000"),
        ("date", "2023139908000000"),
        ("date", "20230905"),
        ("date", "2023090525000000"),
        ("date", "yesterday"),
        ("date", "99999999999999999999"),
        ("weather", " "),
        ("weather", "sunny\0"),
        ("happiness", "2147483648"),
        ("happiness", "3.5"),
        ("happiness", "happy"),
        ("categoryList", ""),
        ("categoryList", &many),
        ("categoryList", "sea,s\0ea"),
        ("text", &long),
        ("text", "바\0다"),
        ("isPublic", "perhaps"),
    ];
    for (field, value) in wrong {
        let params = good.map(|(name, good)| (name, if name == field { value } else { good }));
        assert_eq!(
            code(&feed.post(&kim, "saveFeed", &params).await),
            problem(400, "invalid-parameter"),
            "{field}={value}"
        );
    }
    let text = [&good[..], &[("imageList", "no file")]].concat();
    assert_eq!(
        code(&feed.post(&kim, "saveFeed", &text).await),
        problem(400, "invalid-parameter"),
        "text is no picture"
    );
    // `text` may be left out, as for Spring.
    for (missing, _) in good.into_iter().filter(|(name, _)| *name != "text") {
        let params: Vec<_> = good.into_iter().filter(|(name, _)| *name != missing).collect();
        assert_eq!(
            code(&feed.post(&kim, "saveFeed", &params).await),
            problem(400, "invalid-parameter"),
            "without {missing}"
        );
    }
    let (_, month) = feed.post(&kim, "findMonthFeed", &good[..2]).await;
    assert_eq!(month, "[]", "nothing of it was stored");

    for size in ["26", "0", "-1", "x"] {
        let slice = feed
            .get(&kim, "findOtherFeed", &[("nickname", "kim"), ("size", size)])
            .await;
        assert_eq!(code(&slice), problem(400, "invalid-parameter"), "size={size}");
    }
    let slice = feed
        .get(
            &kim,
            "findOtherFeed",
            &[("nickname", "kim"), ("size", "25"), ("page", "4294967295")],
        )
        .await;
    assert!(dates(&slice.1).is_empty());
    for cursor in ["1", "a-b", "1-", "-1", "1--1"] {
        let slice = feed
            .get(&kim, "findOtherFeed", &[("nickname", "kim"), ("cursor", cursor)])
            .await;
        assert_eq!(code(&slice), problem(400, "invalid-parameter"), "cursor={cursor}");
    }
}

async fn a_read_of_what_has_not_changed_is_answered_304(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    let date = "2023090508000000";
    let ask = async |call: &str, etag: Option<&str>| {
        let mut request = feed
            .client
            .post(feed.at(call))
            .form(&[("nickname", "kim"), ("date", date)]);
        if let Some(etag) = etag {
            request = request.header("if-none-match", etag);
        }
        let response = kim.sign(request).send().await.unwrap();
        let etag = response.headers()["etag"].to_str().unwrap().to_owned();
        assert!(etag.starts_with('"'), "a strong tag: {etag}");
        (response.status().as_u16(), etag, response.text().await.unwrap())
    };
    for call in ["findDayFeed", "findMonthFeed"] {
        let (status, none, body) = ask(call, None).await;
        assert_eq!(
            (status, &body[..]),
            (200, if call == "findDayFeed" { "" } else { "[]" })
        );
        assert_eq!(ask(call, Some(&none)).await, (304, none.clone(), String::new()));

        feed.save(&kim, date, "3", "sea").await;
        let (status, saved, body) = ask(call, Some(&none)).await;
        assert_eq!(status, 200);
        assert!(body.contains(date), "{body}");
        assert_eq!(ask(call, Some(&format!("\"other\", W/{saved}"))).await.0, 304);

        feed.like(&lee, &kim, date).await;
        let (status, liked, body) = ask(call, Some(&saved)).await;
        assert_eq!(status, 200, "a like changes what is read");
        assert!(body.contains("lee"), "{body}");
        feed.like(&lee, &kim, date).await;
        assert_eq!(
            ask(call, Some(&liked)).await.1,
            saved,
            "the same answer has the same tag"
        );
        let deleted = feed
            .post(&kim, "deleteFeed", &[("nickname", "kim"), ("date", date)])
            .await;
        assert_eq!(deleted.0, 200);
    }
}
