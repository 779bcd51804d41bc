use std::time::Duration;

use futures::future::join_all;
use sosohappy_bus::Start;
use sosohappy_events::types::{
    AccountStateChanged, ContentModerated, ModeratedContent, ModerationAction, NoticeRaised, PostLiked, Relation,
    State, WithdrawnLike,
};
use sosohappy_events::{Envelope, Topic};
use sosohappy_testkit::{Bed, PATIENCE, eventually, on_both_engines};
use tokio::time::timeout;

use super::others::tell;
use super::{Feed, code, problem};

on_both_engines!(
    a_like_is_published_and_an_unlike_withdraws_it,
    a_like_at_a_replica_that_does_not_lead_is_published_at_its_hint,
    a_like_names_the_author_as_a_spring_notice_reads_it,
    taps_at_once_are_all_counted,
    a_like_needs_a_post,
    a_like_is_taken_back_whatever_became_of_the_post
);

const DATE: &str = "2023090513248392";

async fn a_like_is_published_and_an_unlike_withdraws_it(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    let signed_in = bed.context.clock.now();
    feed.save(&kim, DATE, "3", "sea").await;
    let mut notices = bed.bus.read(&[Topic::NoticeLike], Start::Earliest).await.unwrap();

    assert_eq!(
        feed.like(&kim, &kim, DATE).await.1,
        r#"{"like":true}"#,
        "one's own post may be liked, without a notice"
    );
    assert_eq!(feed.like(&lee, &kim, DATE).await.1, r#"{"like":true}"#);
    assert_eq!(feed.like(&lee, &kim, DATE).await.1, r#"{"like":false}"#);
    assert_eq!(
        feed.like(&lee, &kim, "2023090500000000").await.1,
        r#"{"like":true}"#,
        "the day is enough"
    );
    assert_eq!(feed.likers(&kim, DATE).await, ["kim", "lee"]);

    for _ in 0..2 {
        let record = timeout(PATIENCE, notices.next())
            .await
            .expect("a notice comes")
            .unwrap();
        assert_eq!(record.key_text(), Ok("lee"));
        assert_eq!(record.value_text(), Ok(format!("kim,{DATE}").as_str()));
        let Envelope { event: liked, meta } = Envelope::<PostLiked>::decode(&record).unwrap();
        assert_eq!(
            (liked.liker_account, liked.author_account),
            (Some(lee.account.clone()), Some(kim.account.clone()))
        );
        assert!(meta.authorized_at.is_some_and(|at| at <= signed_in), "{meta:?}");
    }
    assert!(
        timeout(Duration::from_millis(700), notices.next()).await.is_err(),
        "two likes, two notices"
    );

    // A like is withdrawn also when the post has become private, and one's own leaves no event.
    let body = feed
        .post(&kim, "updatePublicStatus", &[("nickname", "kim"), ("date", DATE)])
        .await;
    assert_eq!(body.0, 200, "{body:?}");
    assert_eq!(feed.like(&lee, &kim, DATE).await.1, r#"{"like":false}"#);
    assert_eq!(feed.like(&kim, &kim, DATE).await.1, r#"{"like":false}"#);
    let mut withdrawals = bed.bus.read(&[Topic::Notice], Start::Earliest).await.unwrap();
    for _ in 0..2 {
        let record = timeout(PATIENCE, withdrawals.next()).await;
        let record = record.expect("the withdrawal is published").unwrap();
        let raised = Envelope::<NoticeRaised>::decode(&record).unwrap().event;
        assert_eq!(raised.receiver, kim.account);
        let like = WithdrawnLike {
            liker: lee.account.clone(),
            date: DATE.parse().unwrap(),
        };
        assert_eq!(raised.withdrawn_like(), Ok(Some(like)));
    }
    assert!(
        timeout(Duration::from_millis(700), withdrawals.next()).await.is_err(),
        "two withdrawals"
    );
}

async fn a_like_at_a_replica_that_does_not_lead_is_published_at_its_hint(bed: Bed) {
    let leader = Feed::start(&bed).await;
    eventually("the first replica leads", async || {
        (leader.running.metric("outbox_relay_leading", &[]) > 0.0).then_some(())
    })
    .await;
    let follower = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    leader.save(&kim, DATE, "3", "sea").await;
    let mut likes = 0_u32;
    // A poll may be first, and the follower may not know the leader yet.
    eventually("a read of the outbox at a hint", async || {
        let (status, body) = follower.like(&lee, &kim, DATE).await;
        assert_eq!(status, 200, "{body}");
        likes += 1;
        (leader.running.metric("outbox_reads_total", &[r#"cause="hint""#]) > 0.0).then_some(())
    })
    .await;
    eventually("each like is published", async || {
        let published = leader.running.metric("outbox_published_total", &[r#"topic="post""#]);
        // The first is the post.
        (published >= f64::from(1 + likes)).then_some(())
    })
    .await;
    assert!(follower.running.metric("outbox_hints_total", &[r#"outcome="sent""#]) > 0.0);
    assert!(leader.running.metric("outbox_hints_total", &[r#"outcome="sent""#]) <= 0.0);
    assert!(follower.running.metric("outbox_published_total", &[]) <= 0.0);
}

async fn a_like_names_the_author_as_a_spring_notice_reads_it(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    feed.save(&kim, DATE, "3", "sea").await;
    let mut notices = bed.bus.read(&[Topic::NoticeLike], Start::Earliest).await.unwrap();
    let forms = [
        ("notice", "account", format!("kim@example.com+kakao,{DATE}")),
        ("notice", "nickname", format!("kim,{DATE}")),
        ("auth,feed", "account", format!("kim,{DATE}")),
    ];
    for (spring, form, value) in forms {
        let values = [("fleet.spring", spring), ("fleet.spring-notice-like", form)];
        let values = values.map(|(key, value)| (key.to_owned(), value.into()));
        let refreshed = feed.running.context.settings.set(values.into_iter().collect()).await;
        assert!(refreshed.unwrap().unwrap().needs_restart.is_empty());
        assert_eq!(feed.like(&lee, &kim, DATE).await.1, r#"{"like":true}"#);
        let record = timeout(PATIENCE, notices.next()).await;
        let record = record.expect("a notice comes").unwrap();
        assert_eq!(record.value_text(), Ok(value.as_str()));
        let liked = Envelope::<PostLiked>::decode(&record).unwrap().event;
        assert_eq!(liked.author_account, Some(kim.account.clone()));
        assert_eq!(feed.like(&lee, &kim, DATE).await.1, r#"{"like":false}"#);
    }
}

async fn taps_at_once_are_all_counted(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    feed.save(&kim, DATE, "3", "sea").await;
    let mut people = Vec::new();
    for number in 0..8 {
        people.push(
            bed.person(&format!("p{number}@example.com+kakao"), &format!("p{number}"))
                .await,
        );
    }

    let taps = join_all(
        people
            .iter()
            .flat_map(|person| (0..3).map(|_| feed.like(person, &kim, DATE))),
    )
    .await;
    let likes = taps.iter().filter(|(_, body)| body == r#"{"like":true}"#).count();
    let unlikes = taps.iter().filter(|(_, body)| body == r#"{"like":false}"#).count();
    assert_eq!(
        (likes, unlikes),
        (16, 8),
        "three taps are a like, an unlike and a like: {taps:?}"
    );
    let mut named = feed.likers(&kim, DATE).await;
    named.sort();
    assert_eq!(
        named,
        people.iter().map(|person| person.nickname.clone()).collect::<Vec<_>>()
    );
}

async fn a_like_needs_a_post(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    assert_eq!(code(&feed.like(&lee, &kim, DATE).await), problem(404, "no-such-post"));
    let nobody = [("srcNickname", "lee"), ("nickname", "nobody"), ("date", DATE)];
    assert_eq!(
        code(&feed.post(&lee, "updateLike", &nobody).await),
        problem(404, "no-such-post")
    );
}

/// As are a bookmark, and a comment of one's own.
async fn a_like_is_taken_back_whatever_became_of_the_post(bed: Bed) {
    let feed = Feed::start_with(&bed, &[("review.words", "도박")]).await;
    let reader = bed.person("reader@example.com+google", "reader").await;
    let mut authors = Vec::new();
    let mut comments = Vec::new();
    for name in ["private", "held", "hidden", "suspended", "blocking", "blocked"] {
        let author = bed.person(&format!("{name}@example.com+kakao"), name).await;
        feed.save(&author, DATE, "3", "sea").await;
        assert_eq!(feed.like(&reader, &author, DATE).await.1, r#"{"like":true}"#);
        assert_eq!(feed.bookmark(&reader, &author, DATE).await.1, r#"{"bookmark":true}"#);
        comments.push(feed.commented(&reader, &author, "축하해").await);
        authors.push(author);
    }
    assert_eq!(feed.sees(&reader).await.len(), authors.len());

    let [private, held, hidden, suspended, blocking, blocked] = &authors[..] else {
        panic!("{authors:?}");
    };
    feed.write(private, "바다", "private").await;
    feed.write(held, "도박", "public").await;
    bed.publish(ContentModerated {
        action: ModerationAction::Hidden,
        author: hidden.account.clone(),
        content: ModeratedContent::Post {
            date: DATE.parse().unwrap(),
        },
        reporter: None,
        report: None,
    })
    .await;
    bed.publish(AccountStateChanged {
        account: suspended.account.clone(),
        state: State::Suspended,
    })
    .await;
    tell(&bed, Relation::Block, blocking, &reader).await;
    tell(&bed, Relation::Block, &reader, blocked).await;
    eventually("the reader sees none of the posts", async || {
        feed.sees(&reader).await.is_empty().then_some(())
    })
    .await;

    for (author, comment) in authors.iter().zip(comments) {
        let of = &author.nickname;
        assert_eq!(feed.like(&reader, author, DATE).await.1, r#"{"like":false}"#, "{of}");
        assert_eq!(
            feed.bookmark(&reader, author, DATE).await.1,
            r#"{"bookmark":false}"#,
            "{of}"
        );
        assert_eq!(
            feed.delete_comment(&reader, comment).await.1,
            r#"{"result":true}"#,
            "{of}"
        );
        // None is put on it again.
        for answer in [
            feed.like(&reader, author, DATE).await,
            feed.bookmark(&reader, author, DATE).await,
        ] {
            assert_eq!(code(&answer), problem(404, "no-such-post"), "{of}");
        }
    }
    for left in [
        "DELETE FROM post_like",
        "DELETE FROM post_bookmark",
        "DELETE FROM post_comment",
        "DELETE FROM post WHERE likes <> 0 OR comments <> 0",
    ] {
        assert_eq!(bed.sql("feed", left).await, 0, "{left}");
    }
}
