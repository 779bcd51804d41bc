use futures::future::join_all;
use reqwest::StatusCode;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use sosohappy_bus::{Reader, Start};
use sosohappy_events::types::{PostChange, PostChanged};
use sosohappy_events::{Envelope, Topic};
use sosohappy_testkit::{Bed, PATIENCE, Person, eventually, on_both_engines};
use tokio::time::timeout;

use super::images::files;
use super::{Answer, Feed, PNG, code, problem, read, saved};

on_both_engines!(
    a_repeated_save_is_answered_again_and_changes_nothing,
    a_retry_under_a_key_does_not_undo_a_later_save,
    saves_at_once_under_one_key_are_one,
    saves_of_one_day_at_once_leave_one_whole_post,
);

const DATE: &str = "2023090513248392";

impl Feed {
    /// Saves a public post with so many pictures.
    async fn save_as(&self, who: &Person, date: &str, text: &str, pictures: usize, key: Option<&str>) -> Answer {
        let mut form = Form::new()
            .text("nickname", who.nickname.clone())
            .text("date", date.to_owned())
            .text("weather", "sunny")
            .text("happiness", "5")
            .text("categoryList", "coffee")
            .text("text", text.to_owned())
            .text("isPublic", "true");
        for _ in 0..pictures {
            form = form.part("imageList", Part::bytes(*PNG).file_name("image.png"));
        }
        let mut request = self.client.post(self.at("saveFeed")).multipart(form);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        read(who.sign(request)).await
    }

    async fn post_of(&self, who: &Person, date: &str) -> Value {
        let day = [("nickname", who.nickname.as_str()), ("date", date)];
        let (status, body) = self.post(who, "findDayFeed", &day).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        serde_json::from_str(&body).unwrap()
    }
}

/// The changes that were published up to the first save of this day.
async fn changes_until(events: &mut Box<dyn Reader>, date: i64) -> Vec<PostChange> {
    let mut changes = Vec::new();
    loop {
        let record = timeout(PATIENCE, events.next()).await.expect("an event comes").unwrap();
        let event = Envelope::<PostChanged>::decode(&record).unwrap().event;
        if event.date == date {
            return changes;
        }
        changes.push(event.change);
    }
}

async fn a_repeated_save_is_answered_again_and_changes_nothing(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let mut events = bed.bus.read(&[Topic::Post], Start::Earliest).await.unwrap();
    assert_eq!(feed.save_as(&kim, DATE, "바다", 2, None).await, saved());
    let first = feed.post_of(&kim, DATE).await;
    for _ in 0..3 {
        assert_eq!(feed.save_as(&kim, DATE, "바다", 2, None).await, saved());
    }
    let at_once = join_all((0..4).map(|_| feed.save_as(&kim, DATE, "바다", 2, None))).await;
    assert!(at_once.into_iter().all(|answer| answer == saved()));
    assert_eq!(feed.post_of(&kim, DATE).await, first, "the pictures are the first ones");

    // Neither another text nor what was there before it is a repeat.
    assert_eq!(feed.save_as(&kim, DATE, "산", 2, None).await, saved());
    assert_eq!(feed.save_as(&kim, DATE, "바다", 2, None).await, saved());
    let second = feed.post_of(&kim, DATE).await;
    assert_eq!(second["text"], json!("바다"));
    assert_ne!(second["imageIdList"], first["imageIdList"]);
    assert_eq!(feed.save_as(&kim, DATE, "바다", 1, None).await, saved());
    assert_eq!(
        feed.post_of(&kim, DATE).await["imageIdList"].as_array().unwrap().len(),
        1
    );
    eventually("no other picture is left", async || (files(&bed) == 1).then_some(())).await;

    let end = "2023090613248392";
    assert_eq!(feed.save_as(&kim, end, "끝", 0, None).await, saved());
    let changed = PostChange::Changed;
    assert_eq!(
        changes_until(&mut events, end.parse().unwrap()).await,
        [PostChange::Saved, changed, changed, changed]
    );
}

async fn a_retry_under_a_key_does_not_undo_a_later_save(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    assert_eq!(feed.save_as(&kim, DATE, "바다", 1, Some("\"one\"")).await, saved());
    assert_eq!(feed.save_as(&kim, DATE, "산", 0, Some("two")).await, saved());
    assert_eq!(feed.save_as(&kim, DATE, "바다", 1, Some("one")).await, saved());
    assert_eq!(feed.post_of(&kim, DATE).await["text"], json!("산"));
    for (text, pictures) in [("산", 1), ("바다", 0), ("바다", 2)] {
        let other = feed.save_as(&kim, DATE, text, pictures, Some("one")).await;
        assert_eq!(
            code(&other),
            problem(422, "idempotency-key-reused"),
            "{text} {pictures}"
        );
    }
    assert_eq!(
        code(&feed.save_as(&kim, DATE, "산", 0, Some("\"open")).await),
        problem(400, "invalid-parameter")
    );
    assert_eq!(feed.save_as(&lee, DATE, "산", 0, Some("one")).await, saved());
    assert_eq!(
        feed.post_of(&lee, DATE).await["text"],
        json!("산"),
        "a key is its account's"
    );

    // The failed save was not stored: the key is free.
    let future = "9998090513248392";
    let refused = feed.save_as(&kim, future, "바다", 0, Some("three")).await;
    assert_eq!(code(&refused), problem(400, "invalid-parameter"));
    assert_eq!(feed.save_as(&kim, DATE, "강", 0, Some("three")).await, saved());
    assert_eq!(feed.post_of(&kim, DATE).await["text"], json!("강"));
}

async fn saves_at_once_under_one_key_are_one(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let mut events = bed.bus.read(&[Topic::Post], Start::Earliest).await.unwrap();
    let same = join_all((0..6).map(|_| feed.save_as(&kim, DATE, "바다", 1, Some("one")))).await;
    assert!(same.into_iter().all(|answer| answer == saved()));
    eventually("one picture is left", async || (files(&bed) == 1).then_some(())).await;
    let end = "2023090613248392";
    feed.save_as(&kim, end, "끝", 0, None).await;
    assert_eq!(
        changes_until(&mut events, end.parse().unwrap()).await,
        [PostChange::Saved]
    );

    let days = ["2023090713248392", "2023090813248392"];
    let different = join_all(days.map(|date| feed.save_as(&kim, date, "바다", 0, Some("two")))).await;
    let stored = different.iter().filter(|answer| **answer == saved()).count();
    assert_eq!(stored, 1, "{different:?}");
    let refused = different.iter().find(|answer| **answer != saved()).unwrap();
    assert_eq!(code(refused), problem(422, "idempotency-key-reused"));
}

async fn saves_of_one_day_at_once_leave_one_whole_post(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let answers = join_all((0..8).map(|number: usize| {
        let (feed, kim) = (&feed, &kim);
        async move {
            let date = format!("20230905120000{:02}", 10 + number);
            feed.save_as(kim, &date, &format!("{number}"), number % 4, None).await
        }
    }))
    .await;
    assert!(answers.into_iter().all(|answer| answer == saved()));
    let post = feed.post_of(&kim, DATE).await;
    let number: usize = post["text"].as_str().unwrap().parse().unwrap();
    assert_eq!(
        post["date"],
        json!(2_023_090_512_000_010 + i64::try_from(number).unwrap())
    );
    assert_eq!(post["imageIdList"].as_array().unwrap().len(), number % 4);
    eventually("only its pictures are left", async || {
        (files(&bed) == number % 4).then_some(())
    })
    .await;
}
