//! The post view over HTTP, kept by feed's own events.

use serde_json::{Value, json};
use sosohappy_events::types::{
    AccountResigned, AccountStateChanged, ContentModerated, ModeratedContent, ModerationAction, Relation, Role, State,
};
use sosohappy_testkit::{Bed, Person, eventually, on_both_engines};

use super::others::tell;
use super::{Feed, code, dates, problem};

on_both_engines!(
    a_view_counts_and_says_what_the_caller_did,
    views_show_what_the_caller_may_see,
    views_are_read_page_by_page,
    views_are_built_anew_from_the_posts,
    what_suspended_people_do_is_counted_again_once_they_are_restored,
    comments_that_others_do_not_see_are_not_counted,
);

const DATE: &str = "2023090513248392";

impl Feed {
    pub async fn view(&self, who: &Person, whose: &Person, date: &str) -> super::Answer {
        self.get(
            who,
            "feedView",
            &[("nickname", whose.nickname.as_str()), ("date", date)],
        )
        .await
    }

    /// Waits until the view has become this.
    async fn becomes(&self, who: &Person, whose: &Person, expected: &Value) {
        eventually("the events are applied", async || {
            let (status, body) = self.view(who, whose, DATE).await;
            (status == 200 && serde_json::from_str::<Value>(&body).unwrap() == *expected).then_some(())
        })
        .await;
    }

    async fn is_unseen(&self, who: &Person, whose: &Person) {
        eventually("the view is not seen", async || {
            let answer = self.view(who, whose, DATE).await;
            (answer.0 == 404).then(|| assert_eq!(code(&answer), problem(404, "no-such-post")))
        })
        .await;
    }
}

fn counts(likes: i64, bookmarks: i64, comments: i64, is_liked: bool, is_bookmarked: bool) -> Value {
    json!({
        "nickname": "kim", "date": 2_023_090_513_248_392_i64, "visibility": "public",
        "likeCount": likes, "bookmarkCount": bookmarks, "commentCount": comments,
        "isLiked": is_liked, "isBookmarked": is_bookmarked,
    })
}

async fn a_view_counts_and_says_what_the_caller_did(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    feed.save(&kim, DATE, "5", "sea").await;
    feed.becomes(&lee, &kim, &counts(0, 0, 0, false, false)).await;
    let acting = |who: &Person| {
        [
            ("srcNickname", who.nickname.clone()),
            ("nickname", "kim".to_owned()),
            ("date", DATE.to_owned()),
        ]
    };
    assert_eq!(feed.like(&lee, &kim, DATE).await.0, 200);
    for (call, more) in [("updateBookmark", None), ("saveComment", Some(("text", "축하해")))] {
        let mut params: Vec<(&str, &str)> = Vec::new();
        let acting = acting(&lee);
        params.extend(acting.iter().map(|(name, value)| (*name, value.as_str())));
        params.extend(more);
        let (status, body) = feed.post(&lee, call, &params).await;
        assert_eq!(status, 200, "{body}");
    }
    feed.becomes(&lee, &kim, &counts(1, 1, 1, true, true)).await;
    feed.becomes(&kim, &kim, &counts(1, 1, 1, false, false)).await;
    assert_eq!(feed.like(&lee, &kim, DATE).await.0, 200);
    feed.becomes(&lee, &kim, &counts(0, 1, 1, false, true)).await;

    let forged = [("srcNickname", "kim"), ("nickname", "kim"), ("date", DATE)];
    assert_eq!(
        code(&feed.get(&lee, "feedView", &forged).await),
        problem(403, "not-yourself")
    );
    let unknown = [("nickname", "nobody"), ("date", DATE)];
    assert_eq!(
        code(&feed.get(&lee, "feedView", &unknown).await),
        problem(404, "no-such-post")
    );

    // A resignation takes its marks and comments along.
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    bed.forget(&lee);
    let resigned = AccountResigned {
        account: lee.account.clone(),
        nickname: "lee".to_owned(),
    };
    bed.publish(resigned).await;
    feed.becomes(&kim, &kim, &counts(0, 0, 0, false, false)).await;
}

async fn views_show_what_the_caller_may_see(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    feed.save(&kim, DATE, "5", "sea").await;
    feed.becomes(&lee, &kim, &counts(0, 0, 0, false, false)).await;
    let show = async |visibility: &str| {
        let params = [("nickname", "kim"), ("date", DATE), ("visibility", visibility)];
        assert_eq!(feed.post(&kim, "updatePublicStatus", &params).await.0, 200);
    };
    show("friends").await;
    feed.is_unseen(&lee, &kim).await;
    tell(&bed, Relation::Follow, &kim, &lee).await;
    tell(&bed, Relation::Follow, &lee, &kim).await;
    let mut for_friends = counts(0, 0, 0, false, false);
    for_friends["visibility"] = json!("friends");
    feed.becomes(&lee, &kim, &for_friends).await;
    show("private").await;
    feed.is_unseen(&lee, &kim).await;
    show("public").await;
    feed.becomes(&lee, &kim, &counts(0, 0, 0, false, false)).await;

    let decide = async |action: ModerationAction| {
        let content = ModeratedContent::Post {
            date: DATE.parse().unwrap(),
        };
        let event = ContentModerated {
            action,
            author: kim.account.clone(),
            content,
            reporter: None,
            report: None,
        };
        bed.publish(event).await;
    };
    decide(ModerationAction::Hidden).await;
    feed.is_unseen(&lee, &kim).await;
    let mut hidden = counts(0, 0, 0, false, false);
    hidden["isHidden"] = json!(true);
    feed.becomes(&kim, &kim, &hidden).await;
    decide(ModerationAction::Restored).await;
    feed.becomes(&lee, &kim, &counts(0, 0, 0, false, false)).await;

    tell(&bed, Relation::Block, &kim, &lee).await;
    feed.is_unseen(&lee, &kim).await;
    feed.becomes(&kim, &kim, &counts(0, 0, 0, false, false)).await;

    feed.post(&kim, "deleteFeed", &[("nickname", "kim"), ("date", DATE)])
        .await;
    feed.is_unseen(&kim, &kim).await;
}

async fn views_are_read_page_by_page(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    let date = |number: i64| 2_023_082_812_000_000 + number * 100_000_000;
    let mut expected: Vec<i64> = (0..4).map(date).collect();
    expected.extend((1..6).map(|day| 2_023_090_012_000_000 + day * 100_000_000));
    for date in &expected {
        feed.save(&kim, &date.to_string(), "3", "sea").await;
    }
    expected.reverse();
    let page = async |more: &[(&str, &str)]| -> Value {
        let params = [&[("nickname", "kim")], more].concat();
        let (status, body) = feed.get(&lee, "feedViews", &params).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    };
    eventually("all are in the view", async || {
        (dates(&page(&[("size", "25")]).await.to_string()) == expected).then_some(())
    })
    .await;
    let (mut seen, mut cursor) = (Vec::new(), "start".to_owned());
    loop {
        let slice = page(&[("size", "4"), ("cursor", &cursor)]).await;
        seen.extend(dates(&slice.to_string()));
        match &slice["nextCursor"] {
            Value::String(next) => cursor.clone_from(next),
            end => {
                assert!(end.is_null() && slice["isLast"] == true, "{slice}");
                break;
            }
        }
    }
    assert_eq!(seen, expected);
    let september = page(&[("size", "25"), ("date", "2023090100000000")]).await;
    assert_eq!(dates(&september.to_string()), expected[..5]);
    let (_, none) = feed.get(&lee, "feedViews", &[("nickname", "nobody")]).await;
    assert!(dates(&none).is_empty());
}

async fn views_are_built_anew_from_the_posts(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    feed.save(&kim, DATE, "5", "sea").await;
    feed.like(&lee, &kim, DATE).await;
    let expected = counts(1, 0, 0, true, false);
    feed.becomes(&lee, &kim, &expected).await;
    bed.sql("feed", "UPDATE post_view SET likes = 9").await;
    bed.sql("feed", "DELETE FROM post_view_mark").await;
    feed.becomes(&lee, &kim, &counts(9, 0, 0, false, false)).await;
    let settings = bed.settings::<sosohappy_feed::Settings>("feed", sosohappy_feed::DEFAULTS, &[]);
    let settings = sosohappy_feed::Settings::clone(&settings.await.get());
    let built = sosohappy_feed::views::rebuild(settings, &bed.context, |_| ()).await;
    assert_eq!(built.unwrap(), 1);
    feed.becomes(&lee, &kim, &expected).await;
}

async fn what_suspended_people_do_is_counted_again_once_they_are_restored(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    let park = bed.person("park@example.com+apple", "park").await;
    feed.save(&kim, DATE, "5", "sea").await;
    assert_eq!(feed.like(&lee, &kim, DATE).await.1, r#"{"like":true}"#);
    assert_eq!(feed.bookmark(&lee, &kim, DATE).await.1, r#"{"bookmark":true}"#);
    feed.commented(&lee, &kim, "축하해").await;
    feed.becomes(&kim, &kim, &counts(1, 1, 1, false, false)).await;
    let decide = async |state: State| {
        let account = lee.account.clone();
        bed.publish(AccountStateChanged { account, state }).await
    };
    let suspended = decide(State::Suspended).await;
    feed.becomes(&kim, &kim, &counts(0, 0, 0, false, false)).await;
    // Counted with what another one does.
    assert_eq!(feed.like(&park, &kim, DATE).await.1, r#"{"like":true}"#);
    assert_eq!(feed.bookmark(&park, &kim, DATE).await.1, r#"{"bookmark":true}"#);
    feed.commented(&park, &kim, "축하해").await;
    feed.becomes(&kim, &kim, &counts(1, 1, 1, false, false)).await;

    decide(State::Restored).await;
    feed.becomes(&kim, &kim, &counts(2, 2, 2, false, false)).await;
    // Delivered late: the account stays restored. What is published behind it is about lee, too, and is applied after it.
    bed.publish_again(&suspended).await;
    decide(State::Restored).await;
    assert_eq!(feed.like(&park, &kim, DATE).await.1, r#"{"like":false}"#);
    feed.becomes(&kim, &kim, &counts(1, 2, 2, false, false)).await;
}

async fn comments_that_others_do_not_see_are_not_counted(bed: Bed) {
    let feed = Feed::start_with(&bed, &[("review.words", "도박")]).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    let moderator = bed
        .person_with_role("moderator@example.com+kakao", "moderator", Role::Moderator)
        .await;
    feed.save(&kim, DATE, "5", "sea").await;
    let comment = feed.commented(&lee, &kim, "축하해").await;
    let held = feed.commented(&lee, &kim, "도박").await.to_string();
    feed.becomes(&kim, &kim, &counts(0, 0, 1, false, false)).await;
    let decide = async |action: ModerationAction| {
        let event = ContentModerated {
            action,
            author: lee.account.clone(),
            content: ModeratedContent::Comment { comment },
            reporter: None,
            report: None,
        };
        bed.publish(event).await;
    };
    decide(ModerationAction::Hidden).await;
    feed.becomes(&kim, &kim, &counts(0, 0, 0, false, false)).await;
    let release = [("commentId", held.as_str()), ("accepted", "true")];
    let released = feed.post(&moderator, "admin/decideHeldComment", &release).await;
    assert_eq!(released.0, 200, "{released:?}");
    feed.becomes(&kim, &kim, &counts(0, 0, 1, false, false)).await;
    decide(ModerationAction::Restored).await;
    feed.becomes(&kim, &kim, &counts(0, 0, 2, false, false)).await;
}
