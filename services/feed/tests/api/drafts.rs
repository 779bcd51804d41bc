use reqwest::StatusCode;
use serde_json::{Value, json};
use sosohappy_bus::Start;
use sosohappy_events::Topic;
use sosohappy_events::types::AccountResigned;
use sosohappy_testkit::{Bed, PATIENCE, Person, on_both_engines};
use tokio::time::timeout;

use super::{Answer, Feed, code, dates, problem, saved};

on_both_engines!(
    a_draft_is_kept_until_its_day_is_saved,
    drafts_are_bounded_and_ones_own,
    an_edit_keeps_its_time_and_the_version_before,
    a_resignation_erases_drafts_and_versions,
);

impl Feed {
    async fn save_draft(&self, who: &Person, date: &str, more: &[(&str, &str)]) -> Answer {
        let params = [&[("nickname", who.nickname.as_str()), ("date", date)], more].concat();
        self.post(who, "saveDraft", &params).await
    }

    async fn drafts(&self, who: &Person, more: &[(&str, &str)]) -> Value {
        let params = [&[("nickname", who.nickname.as_str())], more].concat();
        let (status, body) = self.get(who, "findDraft", &params).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    async fn history(&self, who: &Person, date: &str, more: &[(&str, &str)]) -> Value {
        let params = [&[("nickname", who.nickname.as_str()), ("date", date)], more].concat();
        let (status, body) = self.get(who, "findFeedHistory", &params).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        serde_json::from_str(&body).unwrap()
    }
}

fn texts(slice: &Value) -> Vec<&str> {
    let content = slice["content"].as_array().unwrap();
    content.iter().map(|item| item["text"].as_str().unwrap()).collect()
}

const ONE: &str = "2023090512000000";
const TWO: &str = "2023090612000000";

async fn a_draft_is_kept_until_its_day_is_saved(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let ok = (StatusCode::OK, r#"{"success":true}"#.to_owned());
    assert_eq!(
        feed.save_draft(&kim, ONE, &[]).await,
        ok,
        "nothing has to be written yet"
    );
    let whole = [
        ("text", "바다에"),
        ("weather", "sunny"),
        ("happiness", "4"),
        ("categoryList", "sea,sea,friends"),
        ("isPublic", "false"),
    ];
    assert_eq!(feed.save_draft(&kim, ONE, &whole).await, ok);
    assert_eq!(feed.save_draft(&kim, TWO, &[("text", "산에")]).await, ok);

    let all = feed.drafts(&kim, &[]).await;
    assert_eq!(
        dates(&all.to_string()),
        [TWO, ONE].map(|date| date.parse::<i64>().unwrap())
    );
    let mut first = all["content"][1].clone();
    assert!(first["savedAt"].take().is_string());
    assert_eq!(
        first,
        json!({
            "date": ONE.parse::<i64>().unwrap(), "weather": "sunny", "happiness": 4, "categoryList": ["sea", "friends"],
            "text": "바다에", "isPublic": false, "visibility": null, "savedAt": null,
        })
    );
    let page = feed.drafts(&kim, &[("size", "1")]).await;
    let cursor = page["nextCursor"].as_str().unwrap();
    let rest = feed.drafts(&kim, &[("size", "1"), ("cursor", cursor)]).await;
    assert_eq!((texts(&page), texts(&rest)), (vec!["산에"], vec!["바다에"]));
    assert_eq!((&rest["isLast"], &rest["nextCursor"]), (&json!(true), &Value::Null));
    assert_eq!(texts(&feed.drafts(&kim, &[("date", ONE)]).await), ["바다에"]);

    feed.save(&kim, ONE, "3", "sea").await;
    assert_eq!(texts(&feed.drafts(&kim, &[]).await), ["산에"]);
    // A repeated save is a save of its day as well.
    feed.save_draft(&kim, ONE, &[("text", "다시")]).await;
    feed.save(&kim, ONE, "3", "sea").await;
    assert_eq!(texts(&feed.drafts(&kim, &[]).await), ["산에"]);

    let day = [("nickname", "kim"), ("date", TWO)];
    assert_eq!(feed.post(&kim, "deleteDraft", &day).await.1, r#"{"result":true}"#);
    assert_eq!(
        code(&feed.post(&kim, "deleteDraft", &day).await),
        problem(404, "no-such-draft")
    );
    assert!(texts(&feed.drafts(&kim, &[]).await).is_empty());
}

async fn drafts_are_bounded_and_ones_own(bed: Bed) {
    let limits = [("post.drafts", "2"), ("post.text", "3")];
    let feed = Feed::start_with(&bed, &limits).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    for date in [ONE, TWO] {
        assert_eq!(feed.save_draft(&kim, date, &[]).await.0, StatusCode::OK);
    }
    let third = "2023090712000000";
    assert_eq!(
        code(&feed.save_draft(&kim, third, &[]).await),
        problem(409, "too-many-drafts")
    );
    assert_eq!(feed.save_draft(&kim, TWO, &[("text", "산")]).await.0, StatusCode::OK);
    assert_eq!(feed.save_draft(&lee, third, &[]).await.0, StatusCode::OK);
    for bad in [
        ("text", "너무길다"),
        ("text", "산\0"),
        ("categoryList", "\u{200b}"),
        ("categoryList", "sea\0"),
        ("happiness", "x"),
    ] {
        let refused = feed.save_draft(&kim, TWO, &[bad]).await;
        assert_eq!(code(&refused), problem(400, "invalid-parameter"), "{bad:?}");
    }
    let tomorrow = feed.save_draft(&kim, "9998090512000000", &[]).await;
    assert_eq!(code(&tomorrow), problem(400, "invalid-parameter"));
    assert_eq!(texts(&feed.drafts(&kim, &[]).await), ["산", ""]);
    assert_eq!(texts(&feed.drafts(&lee, &[]).await), [""]);
    let theirs = feed.get(&kim, "findDraft", &[("nickname", "lee")]).await;
    assert_eq!(code(&theirs), problem(403, "not-yourself"));
}

async fn an_edit_keeps_its_time_and_the_version_before(bed: Bed) {
    let feed = Feed::start_with(&bed, &[("post.history", "3")]).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    let text = |number: i64| (2_023_090_512_000_000 + number).to_string();
    let own = async || {
        let (_, body) = feed
            .post(&kim, "findDayFeed", &[("nickname", "kim"), ("date", ONE)])
            .await;
        serde_json::from_str::<Value>(&body).unwrap()
    };
    feed.save(&kim, &text(0), "1", "sea").await;
    assert!(own().await.get("editedAt").is_none());
    assert!(texts(&feed.history(&kim, ONE, &[]).await).is_empty());
    feed.save(&kim, &text(0), "1", "sea").await;
    assert!(own().await.get("editedAt").is_none(), "a repeated save is no edit");

    for number in 1..=4 {
        feed.save(&kim, &text(number), "5", "coffee").await;
    }
    assert!(own().await["editedAt"].is_string());
    let history = feed.history(&kim, ONE, &[]).await;
    assert_eq!(
        texts(&history),
        [text(3), text(2), text(1)],
        "the newest three are kept"
    );
    let mut newest = history["content"][0].clone();
    assert!(newest["replacedAt"].take().is_string());
    assert_eq!(
        newest,
        json!({
            "date": 2_023_090_512_000_003_i64, "weather": "sunny", "happiness": 5, "categoryList": ["coffee"],
            "text": text(3), "isPublic": true, "replacedAt": null,
        })
    );
    let page = feed.history(&kim, ONE, &[("size", "2")]).await;
    let cursor = page["nextCursor"].as_str().unwrap();
    let rest = feed.history(&kim, ONE, &[("size", "2"), ("cursor", cursor)]).await;
    assert_eq!(texts(&rest), [text(1)]);

    let theirs = feed
        .get(&lee, "findFeedHistory", &[("nickname", "kim"), ("date", ONE)])
        .await;
    assert_eq!(code(&theirs), problem(403, "not-yourself"));
    let none = feed
        .get(&lee, "findFeedHistory", &[("nickname", "lee"), ("date", ONE)])
        .await;
    assert_eq!(code(&none), problem(404, "no-such-post"));
}

async fn a_resignation_erases_drafts_and_versions(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    assert_eq!(feed.save_with(&kim, ONE, &[]).await, saved());
    feed.save(&kim, ONE, "5", "coffee").await;
    feed.save_draft(&kim, TWO, &[("text", "산에")]).await;
    let mut receipts = bed.bus.read(&[Topic::Erased], Start::Earliest).await.unwrap();
    bed.forget(&kim);
    bed.publish(AccountResigned {
        account: kim.account.clone(),
        nickname: "kim".to_owned(),
    })
    .await;
    timeout(PATIENCE, receipts.next())
        .await
        .expect("a receipt comes")
        .unwrap();
    for table in ["DELETE FROM post_draft", "DELETE FROM post_version", "DELETE FROM post"] {
        assert_eq!(bed.sql("feed", table).await, 0, "{table}");
    }
}
