//! Posts and comments that a word of the list holds for review.

use serde_json::{Value, json};
use sosohappy_bus::Start;
use sosohappy_events::types::{ModeratedContent, ModerationApplied, NoticeRaised, ReviewDecision, Role};
use sosohappy_events::{Envelope, Topic};
use sosohappy_testkit::{Bed, PATIENCE, Person, eventually, on_both_engines};
use tokio::time::timeout;

use super::{Answer, Feed, code, problem, saved};

on_both_engines!(
    a_post_with_a_word_is_its_authors_alone_until_it_is_released,
    a_decision_is_about_what_the_moderator_has_read,
    a_private_post_waits_until_it_is_shown,
    a_comment_with_a_word_is_notified_when_it_is_released,
    moderators_alone_decide_and_not_about_themselves,
    what_waits_too_long_is_late,
);

const DATE: &str = "2023090513248392";
const WORDS: [(&str, &str); 1] = [("review.words", "도박,Spam")];

impl Feed {
    pub(super) async fn write(&self, who: &Person, text: &str, visibility: &str) {
        let form = [
            ("nickname", who.nickname.as_str()),
            ("date", DATE),
            ("weather", "sunny"),
            ("happiness", "3"),
            ("categoryList", "sea"),
            ("text", text),
            ("isPublic", "true"),
            ("visibility", visibility),
        ];
        assert_eq!(self.post(who, "saveFeed", &form).await, saved());
    }

    async fn held(&self, moderator: &Person, call: &str) -> Vec<Value> {
        let (status, body) = self.get(moderator, call, &[("size", "25")]).await;
        assert_eq!(status, 200, "{body}");
        let slice: Value = serde_json::from_str(&body).unwrap();
        slice["content"].as_array().unwrap().clone()
    }

    async fn decide(&self, moderator: &Person, held: &Value, accepted: bool) -> Answer {
        let (post, version) = (held["postId"].to_string(), held["version"].as_str().unwrap());
        let params = [
            ("postId", post.as_str()),
            ("version", version),
            ("accepted", if accepted { "true" } else { "false" }),
        ];
        self.post(moderator, "admin/decideHeldFeed", &params).await
    }

    async fn is_held(&self, who: &Person) -> bool {
        let day = [("nickname", who.nickname.as_str()), ("date", DATE)];
        let (_, body) = self.post(who, "findDayFeed", &day).await;
        serde_json::from_str::<Value>(&body).unwrap()["isHidden"] == true
    }
}

/// The decision that was published to auth.
async fn published_to_auth(bed: &Bed, author: &Person) -> ReviewDecision {
    let mut records = bed
        .bus
        .read(&[Topic::ModerationApplied], Start::Earliest)
        .await
        .unwrap();
    let record = timeout(PATIENCE, records.next())
        .await
        .expect("it is published")
        .unwrap();
    let applied = Envelope::<ModerationApplied>::decode(&record).unwrap().event;
    assert_eq!(
        (applied.author, applied.service.as_str()),
        (author.account.clone(), sosohappy_feed::SERVICE)
    );
    applied.decision.expect("nobody ordered it")
}

async fn people(bed: &Bed) -> (Person, Person, Person) {
    (
        bed.person("kim@example.com+kakao", "kim").await,
        bed.person("lee@example.com+google", "lee").await,
        bed.person_with_role("mod@example.com+google", "mod", Role::Moderator)
            .await,
    )
}

async fn a_post_with_a_word_is_its_authors_alone_until_it_is_released(bed: Bed) {
    let feed = Feed::start_with(&bed, &WORDS).await;
    let (kim, lee, moderator) = people(&bed).await;
    let mut notices = bed.bus.read(&[Topic::Notice], Start::Earliest).await.unwrap();
    feed.write(&kim, "오늘은 도\u{200b}박을", "public").await;
    assert!(feed.is_held(&kim).await && feed.sees(&lee).await.is_empty());
    assert_eq!(code(&feed.like(&lee, &kim, DATE).await), problem(404, "no-such-post"));

    let held = feed.held(&moderator, "admin/heldFeed").await;
    assert_eq!(held.len(), 1);
    assert_eq!(
        (&held[0]["nickname"], &held[0]["text"]),
        (&json!("kim"), &json!("오늘은 도\u{200b}박을"))
    );
    assert_eq!(feed.decide(&moderator, &held[0], true).await.1, r#"{"success":true}"#);
    assert!(!feed.is_held(&kim).await && feed.sees(&lee).await.len() == 1);
    assert!(feed.held(&moderator, "admin/heldFeed").await.is_empty());
    assert_eq!(
        code(&feed.decide(&moderator, &held[0], false).await),
        problem(404, "nothing-held")
    );
    let record = timeout(PATIENCE, notices.next())
        .await
        .expect("a notice comes")
        .unwrap();
    let notice = Envelope::<NoticeRaised>::decode(&record).unwrap().event;
    assert_eq!(
        (notice.receiver, &notice.topic[..]),
        (kim.account.clone(), "moderation")
    );
    assert_eq!(
        notice.data,
        json!({ "action": "released", "kind": "post", "date": 2_023_090_513_248_392_i64 })
    );
    let expected = ReviewDecision {
        moderator: moderator.account.clone(),
        accepted: true,
        content: ModeratedContent::Post {
            date: 2_023_090_513_248_392,
        },
    };
    assert_eq!(published_to_auth(&bed, &kim).await, expected);
    eventually("the view shows it", async || {
        (feed.view(&lee, &kim, DATE).await.0 == 200).then_some(())
    })
    .await;

    // Another audience of the same text needs no other review; another text does.
    feed.write(&kim, "오늘은 도\u{200b}박을", "friends").await;
    assert!(!feed.is_held(&kim).await);
    feed.write(&kim, "SPAM", "public").await;
    assert!(feed.is_held(&kim).await && feed.sees(&lee).await.is_empty());
    feed.write(&kim, "spammer", "public").await;
    assert!(!feed.is_held(&kim).await && feed.sees(&lee).await.len() == 1);
}

async fn a_decision_is_about_what_the_moderator_has_read(bed: Bed) {
    let feed = Feed::start_with(&bed, &WORDS).await;
    let (kim, lee, moderator) = people(&bed).await;
    feed.write(&kim, "도박", "public").await;
    let read = feed.held(&moderator, "admin/heldFeed").await.remove(0);
    feed.write(&kim, "도박 더", "public").await;
    assert_eq!(
        code(&feed.decide(&moderator, &read, true).await),
        problem(409, "held-content-changed")
    );
    assert!(feed.sees(&lee).await.is_empty());

    let read = feed.held(&moderator, "admin/heldFeed").await.remove(0);
    assert_eq!(feed.decide(&moderator, &read, false).await.0, 200);
    assert!(!published_to_auth(&bed, &kim).await.accepted);
    assert!(feed.held(&moderator, "admin/heldFeed").await.is_empty());
    // Saved again, what was refused stays refused.
    feed.write(&kim, "도박", "public").await;
    feed.write(&kim, "도박 더", "public").await;
    assert!(feed.is_held(&kim).await && feed.sees(&lee).await.is_empty());
}

async fn a_private_post_waits_until_it_is_shown(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let (kim, lee, moderator) = people(&bed).await;
    feed.write(&kim, "도박", "private").await;
    // The list gets the word while feed runs.
    let values = WORDS.map(|(key, value)| (key.to_owned(), value.into()));
    let refreshed = feed.running.context.settings.set(values.into_iter().collect()).await;
    assert!(refreshed.unwrap().unwrap().needs_restart.is_empty());
    assert!(feed.held(&moderator, "admin/heldFeed").await.is_empty());
    let toggle = [("nickname", "kim"), ("date", DATE)];
    assert_eq!(feed.post(&kim, "updatePublicStatus", &toggle).await.0, 200);
    assert!(feed.is_held(&kim).await && feed.sees(&lee).await.is_empty());
    assert_eq!(feed.held(&moderator, "admin/heldFeed").await.len(), 1);
    assert_eq!(feed.post(&kim, "updatePublicStatus", &toggle).await.0, 200);
    assert!(
        feed.held(&moderator, "admin/heldFeed").await.is_empty(),
        "nobody reads a private post"
    );
}

async fn a_comment_with_a_word_is_notified_when_it_is_released(bed: Bed) {
    let feed = Feed::start_with(&bed, &WORDS).await;
    let (kim, lee, moderator) = people(&bed).await;
    let mut notices = bed.bus.read(&[Topic::Notice], Start::Earliest).await.unwrap();
    feed.write(&kim, "바다", "public").await;
    let comment = [
        ("srcNickname", "lee"),
        ("nickname", "kim"),
        ("date", DATE),
        ("text", "spam!"),
    ];
    assert_eq!(feed.post(&lee, "saveComment", &comment).await.0, 200);
    let seen_by = async |who: &Person| {
        let params = [
            ("srcNickname", who.nickname.as_str()),
            ("nickname", "kim"),
            ("date", DATE),
        ];
        let (_, body) = feed.get(who, "findComment", &params).await;
        serde_json::from_str::<Value>(&body).unwrap()["numberOfElements"]
            .as_i64()
            .unwrap()
    };
    assert_eq!((seen_by(&lee).await, seen_by(&kim).await), (1, 0));

    let held = feed.held(&moderator, "admin/heldComment").await;
    assert_eq!(held.len(), 1);
    assert_eq!(
        (&held[0]["nickname"], &held[0]["text"]),
        (&json!("lee"), &json!("spam!"))
    );
    let id = held[0]["commentId"].to_string();
    let decision = [("commentId", id.as_str()), ("accepted", "true")];
    assert_eq!(feed.post(&moderator, "admin/decideHeldComment", &decision).await.0, 200);
    assert_eq!((seen_by(&lee).await, seen_by(&kim).await), (1, 1));
    assert_eq!(
        code(&feed.post(&moderator, "admin/decideHeldComment", &decision).await),
        problem(404, "nothing-held")
    );
    let expected = ReviewDecision {
        moderator: moderator.account.clone(),
        accepted: true,
        content: ModeratedContent::Comment {
            comment: id.parse().unwrap(),
        },
    };
    assert_eq!(published_to_auth(&bed, &lee).await, expected);
    let mut told = Vec::new();
    while told.len() < 2 {
        let record = timeout(PATIENCE, notices.next())
            .await
            .expect("a notice comes")
            .unwrap();
        let Envelope { event: notice, meta } = Envelope::<NoticeRaised>::decode(&record).unwrap();
        told.push((notice.receiver, notice.topic, meta.authorized_at.is_some()));
    }
    told.sort();
    // The comment is by the writer's access token, not by the moderator's decision.
    assert_eq!(
        told,
        [
            (kim.account.clone(), "comment".to_owned(), true),
            (lee.account.clone(), "moderation".to_owned(), false)
        ]
    );
}

async fn moderators_alone_decide_and_not_about_themselves(bed: Bed) {
    let feed = Feed::start_with(&bed, &WORDS).await;
    let (kim, _, moderator) = people(&bed).await;
    feed.write(&moderator, "도박", "public").await;
    let held = feed.held(&moderator, "admin/heldFeed").await.remove(0);
    for who in [&kim, &moderator] {
        assert_eq!(
            code(&feed.decide(who, &held, true).await),
            problem(403, "role-required")
        );
    }
    assert_eq!(
        code(&feed.get(&kim, "admin/heldFeed", &[]).await),
        problem(403, "role-required")
    );
    let forged = json!({ "postId": held["postId"], "version": "nonsense!" });
    assert_eq!(
        code(&feed.decide(&moderator, &forged, true).await),
        problem(409, "held-content-changed")
    );
}

async fn what_waits_too_long_is_late(bed: Bed) {
    let feed = Feed::start_with(&bed, &[WORDS[0], ("review.deadline", "1s")]).await;
    let (kim, lee, moderator) = people(&bed).await;
    feed.write(&kim, "도박", "public").await;
    // A private post is not reviewed.
    feed.write(&lee, "도박", "private").await;
    feed.write(&moderator, "바다", "public").await;
    let comment = [
        ("srcNickname", "lee"),
        ("nickname", "mod"),
        ("date", DATE),
        ("text", "spam!"),
    ];
    assert_eq!(feed.post(&lee, "saveComment", &comment).await.0, 200);
    let counted = || ["feed_held_waiting", "feed_held_late"].map(|name| feed.running.metric(name, &[]).to_string());
    eventually("both are late", async || (counted() == ["2", "2"]).then_some(())).await;
    let held = feed.held(&moderator, "admin/heldFeed").await;
    let comments = feed.held(&moderator, "admin/heldComment").await;
    for waiting in [&held[0], &comments[0]] {
        assert!(
            waiting["isLate"] == true && waiting["ageSeconds"].as_i64() >= Some(1),
            "{waiting}"
        );
        let time = |name: &str| -> jiff::Timestamp { waiting[name].as_str().unwrap().parse().unwrap() };
        assert_eq!(time("dueAt").duration_since(time("heldAt")).as_secs(), 1);
    }
    assert_eq!(feed.decide(&moderator, &held[0], true).await.0, 200);
    let id = comments[0]["commentId"].to_string();
    let decision = [("commentId", id.as_str()), ("accepted", "false")];
    assert_eq!(feed.post(&moderator, "admin/decideHeldComment", &decision).await.0, 200);
    eventually("nothing waits", async || (counted() == ["0", "0"]).then_some(())).await;
}
