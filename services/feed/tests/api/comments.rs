use serde_json::{Value, json};
use sosohappy_bus::{Reader, Start};
use sosohappy_events::types::{
    AccountResigned, ContentModerated, ModeratedContent, ModerationAction, NoticeRaised, PostChange, PostChanged,
    Relation,
};
use sosohappy_events::{Envelope, Topic};
use sosohappy_testkit::{Bed, PATIENCE, Person, eventually, on_both_engines};
use tokio::time::timeout;

use super::others::tell;
use super::{Answer, Feed, code, dates, problem};

on_both_engines!(
    comments_are_read_page_by_page_and_notified_to_the_author,
    a_comment_that_may_not_be_is_not_stored,
    comments_are_deleted_by_their_writer_or_the_author,
    blocks_names_and_resignations_are_respected,
    every_change_of_a_post_is_an_event_in_order,
    a_comment_that_is_deleted_or_hidden_withdraws_its_notice,
);

const DATE: &str = "2023090513248392";

impl Feed {
    async fn comment(&self, who: &Person, whose: &Person, text: &str) -> Answer {
        let params = [
            ("srcNickname", who.nickname.as_str()),
            ("nickname", &whose.nickname),
            ("date", DATE),
            ("text", text),
        ];
        self.post(who, "saveComment", &params).await
    }

    /// Comments that must succeed; returns the id.
    pub(super) async fn commented(&self, who: &Person, whose: &Person, text: &str) -> i64 {
        let (status, body) = self.comment(who, whose, text).await;
        assert_eq!(status, 200, "{body}");
        let saved: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(saved["success"], json!(true));
        saved["commentId"].as_i64().unwrap()
    }

    async fn comments_page(&self, who: &Person, whose: &Person, more: &[(&str, &str)]) -> Answer {
        let params = [
            ("srcNickname", who.nickname.as_str()),
            ("nickname", &whose.nickname),
            ("date", DATE),
        ];
        self.get(who, "findComment", &[&params[..], more].concat()).await
    }

    /// Nicknames and texts of the first page.
    pub(super) async fn comments(&self, who: &Person, whose: &Person) -> Vec<(String, String)> {
        let (status, body) = self.comments_page(who, whose, &[("size", "25")]).await;
        assert_eq!(status, 200, "{body}");
        shown(&body)
    }

    pub(super) async fn delete_comment(&self, who: &Person, id: i64) -> Answer {
        let id = id.to_string();
        self.post(
            who,
            "deleteComment",
            &[("srcNickname", &who.nickname), ("commentId", &id)],
        )
        .await
    }
}

fn shown(slice: &str) -> Vec<(String, String)> {
    let slice: Value = serde_json::from_str(slice).unwrap();
    let text = |comment: &Value, name: &str| comment[name].as_str().unwrap().to_owned();
    let comments = slice["content"].as_array().unwrap().iter();
    comments
        .map(|comment| (text(comment, "nickname"), text(comment, "text")))
        .collect()
}

fn pair(nickname: &str, text: &str) -> (String, String) {
    (nickname.to_owned(), text.to_owned())
}

async fn next<E: sosohappy_events::Event>(reader: &mut Box<dyn Reader>) -> E {
    let record = timeout(PATIENCE, reader.next()).await;
    let record = record.expect("an event comes").unwrap();
    Envelope::<E>::decode(&record).unwrap().event
}

async fn comments_are_read_page_by_page_and_notified_to_the_author(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    feed.save(&kim, DATE, "3", "sea").await;
    let signed_in = bed.context.clock.now();
    let mut notices = bed.bus.read(&[Topic::Notice], Start::Earliest).await.unwrap();

    let own = feed.commented(&kim, &kim, "my own").await;
    let first = feed.commented(&lee, &kim, "  축하해요 ").await;
    feed.commented(&lee, &kim, "second").await;
    assert_eq!(
        feed.comments(&lee, &kim).await,
        [pair("kim", "my own"), pair("lee", "축하해요"), pair("lee", "second")]
    );
    // One's own comment is no notice: the first one is of the other's first comment.
    let record = timeout(PATIENCE, notices.next())
        .await
        .expect("a notice comes")
        .unwrap();
    let Envelope { event: notice, meta } = Envelope::<NoticeRaised>::decode(&record).unwrap();
    assert_eq!((&notice.receiver, &notice.topic[..]), (&kim.account, "comment"));
    assert!(meta.authorized_at.is_some_and(|at| at <= signed_in), "{meta:?}");
    let date: i64 = DATE.parse().unwrap();
    assert_eq!(
        notice.data,
        json!({"commenter": "lee", "date": date, "commentId": first})
    );
    assert!(first > own);

    let (_, page) = feed.comments_page(&kim, &kim, &[("size", "2")]).await;
    let slice: Value = serde_json::from_str(&page).unwrap();
    assert_eq!((shown(&page).len(), &slice["isLast"]), (2, &json!(false)));
    let cursor = slice["nextCursor"].as_str().unwrap();
    // Comments that are deleted or written meanwhile neither hide nor repeat another.
    feed.commented(&lee, &kim, "third").await;
    assert_eq!(feed.delete_comment(&kim, own).await.1, r#"{"result":true}"#);
    let (_, page) = feed
        .comments_page(&kim, &kim, &[("size", "2"), ("cursor", cursor)])
        .await;
    assert_eq!(shown(&page), [pair("lee", "second"), pair("lee", "third")]);
    let slice: Value = serde_json::from_str(&page).unwrap();
    assert_eq!((&slice["isLast"], &slice["nextCursor"]), (&json!(true), &Value::Null));

    let (_, post) = feed
        .post(&kim, "findDayFeed", &[("nickname", "kim"), ("date", DATE)])
        .await;
    let post: Value = serde_json::from_str(&post).unwrap();
    assert_eq!(
        post.as_object().unwrap().len(),
        9,
        "the app's own post has no new fields: {post}"
    );
}

async fn a_comment_that_may_not_be_is_not_stored(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    let own = [("nickname", "kim"), ("date", DATE)];
    assert_eq!(
        code(&feed.comment(&lee, &kim, "none").await),
        problem(404, "no-such-post")
    );
    assert_eq!(
        code(&feed.comments_page(&lee, &kim, &[]).await),
        problem(404, "no-such-post")
    );
    assert_eq!(
        code(&feed.post(&kim, "updateFeedComment", &own).await),
        problem(404, "no-such-post")
    );
    feed.save(&kim, DATE, "3", "sea").await;
    for text in ["", "  ", "축하\0해요", &"가".repeat(501)] {
        assert_eq!(
            code(&feed.comment(&lee, &kim, text).await),
            problem(400, "invalid-parameter")
        );
    }
    feed.commented(&lee, &kim, &"가".repeat(500)).await;

    let (_, closed) = feed.post(&kim, "updateFeedComment", &own).await;
    assert_eq!(closed, r#"{"success":true,"isCommentAllowed":false}"#);
    for person in [&lee, &kim] {
        assert_eq!(
            code(&feed.comment(person, &kim, "closed").await),
            problem(409, "comments-closed")
        );
    }
    assert_eq!(feed.comments(&lee, &kim).await.len(), 1, "what is there stays");
    // Another save of the day leaves it closed.
    feed.save(&kim, DATE, "4", "sea").await;
    assert_eq!(
        code(&feed.comment(&lee, &kim, "closed").await),
        problem(409, "comments-closed")
    );
    let (_, open) = feed.post(&kim, "updateFeedComment", &own).await;
    assert_eq!(open, r#"{"success":true,"isCommentAllowed":true}"#);

    feed.post(&kim, "updatePublicStatus", &own).await;
    assert_eq!(
        code(&feed.comment(&lee, &kim, "private").await),
        problem(404, "no-such-post")
    );
    assert_eq!(
        code(&feed.comments_page(&lee, &kim, &[]).await),
        problem(404, "no-such-post")
    );
    feed.commented(&kim, &kim, "to myself").await;
    feed.post(&kim, "updatePublicStatus", &own).await;

    tell(&bed, Relation::Block, &kim, &lee).await;
    eventually("a block hides the post", async || {
        feed.sees(&lee).await.is_empty().then_some(())
    })
    .await;
    assert_eq!(
        code(&feed.comment(&lee, &kim, "blocked").await),
        problem(404, "no-such-post")
    );
    assert_eq!(feed.comments(&kim, &kim).await, [pair("kim", "to myself")]);
}

async fn comments_are_deleted_by_their_writer_or_the_author(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    let park = bed.person("park@example.com+kakao", "park").await;
    feed.save(&kim, DATE, "3", "sea").await;
    feed.save(&park, "2023090612000000", "3", "sea").await;
    let (one, two) = (
        feed.commented(&lee, &kim, "one").await,
        feed.commented(&lee, &kim, "two").await,
    );
    let sorted = async |sort: &str| {
        let params = [("nickname", "lee"), ("sort", sort)];
        dates(&feed.get(&lee, "findOtherFeed", &params).await.1)
    };
    let (newer, date) = (2_023_090_612_000_000, DATE.parse().unwrap());
    assert_eq!(sorted("comments").await, [date, newer]);
    assert_eq!(sorted("newest").await, [newer, date]);

    assert_eq!(
        code(&feed.delete_comment(&park, one).await),
        problem(404, "no-such-comment")
    );
    assert_eq!(feed.delete_comment(&lee, one).await.1, r#"{"result":true}"#);
    assert_eq!(
        code(&feed.delete_comment(&lee, one).await),
        problem(404, "no-such-comment")
    );
    assert_eq!(feed.delete_comment(&kim, two).await.1, r#"{"result":true}"#);
    assert!(feed.comments(&lee, &kim).await.is_empty());
    assert_eq!(
        sorted("comments").await,
        [newer, date],
        "without comments the newest comes first"
    );

    let three = feed.commented(&lee, &kim, "three").await;
    let deleted = feed
        .post(&kim, "deleteFeed", &[("nickname", "kim"), ("date", DATE)])
        .await;
    assert_eq!(deleted.0, 200);
    assert_eq!(
        code(&feed.delete_comment(&lee, three).await),
        problem(404, "no-such-comment")
    );
    feed.save(&kim, DATE, "3", "sea").await;
    assert!(
        feed.comments(&lee, &kim).await.is_empty(),
        "the post of the day that is written again has none"
    );
}

async fn blocks_names_and_resignations_are_respected(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    let park = bed.person("park@example.com+kakao", "park").await;
    feed.save(&kim, DATE, "3", "sea").await;
    feed.commented(&lee, &kim, "of lee").await;
    feed.commented(&park, &kim, "of park").await;

    tell(&bed, Relation::Block, &park, &lee).await;
    eventually("a block hides comments of a third person", async || {
        (feed.comments(&lee, &kim).await == [pair("lee", "of lee")]).then_some(())
    })
    .await;
    assert_eq!(feed.comments(&park, &kim).await, [pair("park", "of park")]);
    assert_eq!(feed.comments(&kim, &kim).await.len(), 2);

    bed.rename(&park.account, "park2").await;
    eventually("the present nickname is shown", async || {
        let comments = feed.comments(&kim, &kim).await;
        (comments == [pair("lee", "of lee"), pair("park2", "of park")]).then_some(())
    })
    .await;

    bed.forget(&lee);
    let mut events = bed.bus.read(&[Topic::Post], Start::Earliest).await.unwrap();
    let resigned = AccountResigned {
        account: lee.account.clone(),
        nickname: "lee".to_owned(),
    };
    bed.publish(resigned).await;
    let comments = loop {
        let event: PostChanged = next(&mut events).await;
        if event.change == PostChange::CommentDeleted {
            break event.comments;
        }
    };
    assert_eq!(comments, 1);
    assert_eq!(feed.comments(&kim, &kim).await, [pair("park2", "of park")]);
}

async fn every_change_of_a_post_is_an_event_in_order(bed: Bed) {
    use PostChange::{Changed, CommentDeleted, Commented, Deleted, Liked, Saved, Unliked};
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    let mut events = bed.bus.read(&[Topic::Post], Start::Earliest).await.unwrap();
    let own = [("nickname", "kim"), ("date", DATE)];
    feed.save(&kim, DATE, "3", "sea").await;
    feed.like(&lee, &kim, DATE).await;
    let comment = feed.commented(&lee, &kim, "a comment").await;
    feed.save(&kim, DATE, "4", "sea").await;
    feed.post(&kim, "updateFeedComment", &own).await;
    feed.post(&kim, "updatePublicStatus", &own).await;
    feed.like(&lee, &kim, DATE).await;
    feed.delete_comment(&lee, comment).await;
    feed.post(&kim, "deleteFeed", &own).await;

    let mut post = None;
    // The change, whether the post is public, its likes and comments, and whether lee did it.
    for (change, is_public, likes, comments, of_lee) in [
        (Saved, true, 0, 0, false),
        (Liked, true, 1, 0, true),
        (Commented, true, 1, 1, true),
        (Changed, true, 1, 1, false),
        (Changed, true, 1, 1, false),
        (Changed, false, 1, 1, false),
        (Unliked, false, 0, 1, true),
        (CommentDeleted, false, 0, 0, true),
        (Deleted, false, 0, 0, false),
    ] {
        let event: PostChanged = next(&mut events).await;
        let told = format!("{event:?}");
        assert_eq!((event.change, event.is_public), (change, is_public), "{told}");
        assert_eq!((event.likes, event.comments), (likes, comments), "{told}");
        assert_eq!(event.actor, of_lee.then(|| lee.account.clone()), "{told}");
        let about_comment = matches!(change, Commented | CommentDeleted);
        assert_eq!(event.comment, about_comment.then_some(comment), "{told}");
        assert_eq!((event.author, event.date), (kim.account.clone(), DATE.parse().unwrap()));
        assert_eq!(*post.get_or_insert(event.post), event.post);
    }
}

async fn a_comment_that_is_deleted_or_hidden_withdraws_its_notice(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    feed.save(&kim, DATE, "3", "sea").await;
    let mut notices = bed.bus.read(&[Topic::Notice], Start::Earliest).await.unwrap();
    // Of one's own comment there is nothing to withdraw.
    let own = feed.commented(&kim, &kim, "my own").await;
    assert_eq!(feed.delete_comment(&kim, own).await.0, 200);
    let first = feed.commented(&lee, &kim, "first").await;
    assert_eq!(feed.delete_comment(&lee, first).await.0, 200);
    let second = feed.commented(&lee, &kim, "second").await;
    assert_eq!(feed.delete_comment(&kim, second).await.0, 200);
    let third = feed.commented(&lee, &kim, "third").await;
    bed.publish(ContentModerated {
        action: ModerationAction::Hidden,
        author: lee.account.clone(),
        content: ModeratedContent::Comment { comment: third },
        reporter: None,
        report: None,
    })
    .await;
    for comment in [first, second, third] {
        let id = NoticeRaised::comment_id(&kim.account, comment);
        let record = timeout(PATIENCE, notices.next())
            .await
            .expect("a notice comes")
            .unwrap();
        let raised = Envelope::<NoticeRaised>::decode(&record).unwrap();
        assert_eq!((raised.meta.id, raised.event.topic.as_str()), (id, "comment"));
        let withdrawal: NoticeRaised = next(&mut notices).await;
        assert_eq!(withdrawal.receiver, kim.account);
        assert_eq!(withdrawal.withdrawn_notice(), Ok(Some(id)));
    }
}
