use serde_json::{Value, json};
use sosohappy_bus::Start;
use sosohappy_events::types::{AccountErased, AccountResigned, NoticeRaised, Relation};
use sosohappy_events::{Envelope, Topic};
use sosohappy_testkit::{Bed, PATIENCE, Person, eventually, on_both_engines};
use tokio::time::timeout;

use super::others::tell;
use super::{Answer, Feed, code, dates, problem};

on_both_engines!(
    bookmarks_are_toggled_notified_to_the_saver_and_read_page_by_page,
    bookmarks_show_what_the_saver_may_see,
    a_resignation_erases_bookmarks,
);

impl Feed {
    pub(super) async fn bookmark(&self, who: &Person, whose: &Person, date: &str) -> Answer {
        let params = [
            ("srcNickname", who.nickname.as_str()),
            ("nickname", &whose.nickname),
            ("date", date),
        ];
        self.post(who, "updateBookmark", &params).await
    }

    async fn bookmarks(&self, who: &Person, more: &[(&str, &str)]) -> Value {
        let params = [&[("nickname", who.nickname.as_str())], more].concat();
        let (status, body) = self.get(who, "findBookmark", &params).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    async fn saved(&self, who: &Person) -> Vec<i64> {
        dates(&self.bookmarks(who, &[]).await.to_string())
    }
}

fn on() -> String {
    r#"{"bookmark":true}"#.to_owned()
}

async fn bookmarks_are_toggled_notified_to_the_saver_and_read_page_by_page(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    let signed_in = bed.context.clock.now();
    let mut notices = bed.bus.read(&[Topic::Notice], Start::Earliest).await.unwrap();
    let date = |day: i64| 2_023_090_012_000_000 + day * 100_000_000;
    for day in 5..10 {
        feed.save(&kim, &date(day).to_string(), "3", "sea").await;
    }
    assert_eq!(
        code(&feed.bookmark(&lee, &kim, "2023092012000000").await),
        problem(404, "no-such-post")
    );
    // Saved in another order than they were written.
    for day in [7, 5, 9, 6, 8] {
        assert_eq!(feed.bookmark(&lee, &kim, &date(day).to_string()).await.1, on());
    }
    assert_eq!(
        feed.bookmark(&lee, &kim, &date(9).to_string()).await.1,
        r#"{"bookmark":false}"#
    );
    for (day, topic) in [
        (7, "bookmark"),
        (5, "bookmark"),
        (9, "bookmark"),
        (6, "bookmark"),
        (8, "bookmark"),
        (9, "bookmarkCanceled"),
    ] {
        let record = timeout(PATIENCE, notices.next()).await;
        let notice = Envelope::<NoticeRaised>::decode(&record.expect("a notice comes").unwrap());
        let Envelope { event: notice, meta } = notice.unwrap();
        assert!(meta.authorized_at.is_some_and(|at| at <= signed_in), "{meta:?}");
        assert_eq!((&notice.receiver, &notice.topic[..]), (&lee.account, topic));
        assert_eq!(notice.data, json!({"nickname": "kim", "date": date(day)}));
    }

    let first = feed.bookmarks(&lee, &[("size", "2")]).await;
    assert_eq!(dates(&first.to_string()), [date(8), date(6)]);
    assert_eq!(first["content"][0].as_object().unwrap().len(), 8);
    let cursor = first["nextCursor"].as_str().unwrap();
    // Bookmarks that are saved meanwhile come before the first page.
    assert_eq!(feed.bookmark(&lee, &kim, &date(9).to_string()).await.1, on());
    let second = feed.bookmarks(&lee, &[("size", "2"), ("cursor", cursor)]).await;
    assert_eq!(dates(&second.to_string()), [date(5), date(7)]);
    assert_eq!((&second["isLast"], &second["nextCursor"]), (&json!(true), &Value::Null));
    assert!(feed.saved(&kim).await.is_empty(), "they are the saver's own");
    let theirs = feed
        .get(&kim, "findBookmark", &[("nickname", "kim"), ("cursor", cursor)])
        .await;
    assert_eq!(code(&theirs), problem(400, "invalid-parameter"));
}

async fn bookmarks_show_what_the_saver_may_see(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    let (one, two) = ("2023090512000000", "2023090612000000");
    for date in [one, two] {
        feed.save(&kim, date, "3", "sea").await;
        assert_eq!(feed.bookmark(&lee, &kim, date).await.1, on());
    }
    assert_eq!(feed.bookmark(&kim, &kim, two).await.1, on());
    let toggle = [("nickname", "kim"), ("date", two)];
    feed.post(&kim, "updatePublicStatus", &toggle).await;
    let dates = |list: &[&str]| list.iter().map(|date| date.parse().unwrap()).collect::<Vec<i64>>();
    assert_eq!(
        feed.saved(&lee).await,
        dates(&[one]),
        "a post that has become private is not shown"
    );
    assert_eq!(feed.saved(&kim).await, dates(&[two]), "one's own is");
    let park = bed.person("park@example.com+kakao", "park").await;
    assert_eq!(
        code(&feed.bookmark(&park, &kim, two).await),
        problem(404, "no-such-post")
    );
    assert_eq!(
        feed.bookmark(&lee, &kim, two).await.1,
        r#"{"bookmark":false}"#,
        "it is taken back nevertheless"
    );
    feed.post(&kim, "updatePublicStatus", &toggle).await;
    assert_eq!(feed.saved(&lee).await, dates(&[one]));

    tell(&bed, Relation::Block, &kim, &lee).await;
    eventually("a block hides bookmarked posts", async || {
        feed.saved(&lee).await.is_empty().then_some(())
    })
    .await;
    assert_eq!(
        code(&feed.bookmark(&lee, &kim, two).await),
        problem(404, "no-such-post")
    );
    tell(&bed, Relation::Unblock, &kim, &lee).await;
    eventually("an unblock shows them again", async || {
        (feed.saved(&lee).await == dates(&[one])).then_some(())
    })
    .await;
    feed.post(&kim, "deleteFeed", &[("nickname", "kim"), ("date", one)])
        .await;
    assert!(feed.saved(&lee).await.is_empty());
}

async fn a_resignation_erases_bookmarks(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    let date = "2023090512000000";
    feed.save(&kim, date, "3", "sea").await;
    assert_eq!(feed.bookmark(&lee, &kim, date).await.1, on());
    let mut receipts = bed.bus.read(&[Topic::Erased], Start::Earliest).await.unwrap();
    bed.forget(&lee);
    let resigned = AccountResigned {
        account: lee.account.clone(),
        nickname: "lee".to_owned(),
    };
    bed.publish(resigned).await;
    let record = timeout(PATIENCE, receipts.next()).await;
    let receipt = Envelope::<AccountErased>::decode(&record.expect("a receipt comes").unwrap()).unwrap();
    assert_eq!(receipt.event.account, lee.account);
    assert_eq!(bed.sql("feed", "DELETE FROM post_bookmark").await, 0, "none is left");
}
