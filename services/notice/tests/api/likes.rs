use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sosohappy_common::clock::{Clock, SystemClock};
use sosohappy_events::types::{NoticeRaised, PostLiked, Relation, RelationChanged, WithdrawnLike};
use sosohappy_events::{Envelope, Outgoing};
use sosohappy_notice::{DEFAULTS, SERVICE, Settings, build};
use sosohappy_testkit::{Bed, EngineSet, Running, eventually, on_both_engines};

use crate::fleet::{
    AT_ONCE, DATE, QUIET, applied, connect, counted, frame, kim, lee, like, publish_plain, pushes, replica,
};

async fn a_like_reaches_every_socket_of_the_author_on_every_replica(bed: Bed) {
    let (one, other) = (replica(&bed, &[]).await, replica(&bed, &[]).await);
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    let mut sockets = [
        connect(&one, &kim).await,
        connect(&one, &kim).await,
        connect(&other, &kim).await,
    ];
    let mut of_lee = connect(&one, &lee).await;

    bed.publish(like(&lee, &kim, DATE)).await;
    bed.publish(like(&lee, &kim, DATE + 1)).await;
    for socket in &mut sockets {
        assert_eq!(socket.text().await, frame("lee", DATE));
        assert_eq!(socket.text().await, frame("lee", DATE + 1));
    }
    for socket in sockets.iter_mut().chain([&mut of_lee]) {
        assert!(socket.silent_for(QUIET).await);
    }
}

async fn a_record_that_comes_again_is_not_shown_again(bed: Bed) {
    let notice = replica(&bed, &[]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    let mut socket = connect(&notice, &kim).await;
    let first = bed.publish(like(&lee, &kim, DATE)).await;
    assert_eq!(socket.text().await, frame("lee", DATE));
    bed.publish_again(&first).await;
    bed.publish_again(&first).await;
    bed.publish(like(&lee, &kim, DATE + 1)).await;
    assert_eq!(socket.text().await, frame("lee", DATE + 1));
    assert!(socket.silent_for(QUIET).await);
}

/// A replica remembers records for accounts with a socket here only: the inbox says that the like was neither shown nor pushed yet.
async fn a_record_that_came_before_its_receiver_is_shown_when_it_comes_again(bed: Bed) {
    let notice = replica(&bed, &[("push.delivery-timeout", "10m")]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    let first = bed.publish(like(&lee, &kim, DATE)).await;
    for kind in ["consumer", "reader"] {
        eventually(&format!("the {kind} has read the like"), async || {
            let labels = [("topic", "noticeLike"), ("kind", kind), ("outcome", "applied")];
            (counted(&notice, "events_consumed_total", &labels).await == 1).then_some(())
        })
        .await;
    }
    let mut socket = connect(&notice, &kim).await;
    for _ in 0..2 {
        bed.publish_again(&first).await;
    }
    bed.publish(like(&lee, &kim, DATE + 1)).await;
    assert_eq!(socket.text().await, frame("lee", DATE));
    assert_eq!(socket.text().await, frame("lee", DATE + 1), "once");
}

/// The machine's clock, set forward.
#[derive(Debug)]
struct Ahead(Duration);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        SystemClock.now() + self.0
    }
}

async fn what_was_shown_long_ago_is_not_shown_by_a_new_replica(bed: Bed) {
    let notice = replica(&bed, &[]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    let mut socket = connect(&notice, &kim).await;
    let first = bed.publish(like(&lee, &kim, DATE)).await;
    assert_eq!(socket.text().await, frame("lee", DATE));
    // Otherwise the two would tell the time of the next like differently.
    notice.stop().await;

    let mut context = bed.context(SERVICE);
    context.clock = Arc::new(Ahead(Duration::from_secs(31)));
    let settings = bed.settings::<Settings>("notice", DEFAULTS, &[]).await;
    let later = bed.start(build(settings, context, bed.bus.clone()).await).await;
    let mut socket = connect(&later, &kim).await;
    bed.publish_again(&first).await;
    bed.publish(like(&lee, &kim, DATE + 1)).await;
    assert_eq!(socket.text().await, frame("lee", DATE + 1));
    assert_eq!(counted(&later, "notices_total", &[("outcome", "repeated")]).await, 1);
}

/// The machine's clock, set forward by seconds that change.
#[derive(Debug)]
struct Shifted(Arc<AtomicI64>);

impl Clock for Shifted {
    fn now(&self) -> Timestamp {
        SystemClock.now() + SignedDuration::from_secs(self.0.load(Ordering::SeqCst))
    }
}

async fn replica_with(bed: &Bed, clock: &Arc<dyn Clock>, more: &[(&str, &str)]) -> Running {
    let mut context = bed.context(SERVICE);
    context.clock = clock.clone();
    let settings = bed.settings::<Settings>("notice", DEFAULTS, more).await;
    bed.start(build(settings, context, bed.bus.clone()).await).await
}

/// After an outage the replica with the socket may read a like long after the consumer has stored it. Here the record is read twice, and the
/// clock is set so that the socket is older than the like.
async fn a_like_that_is_read_long_after_it_was_stored_is_shown(bed: Bed) {
    let shift = Arc::new(AtomicI64::new(60));
    let clock: Arc<dyn Clock> = Arc::new(Shifted(shift.clone()));
    let notice = replica_with(&bed, &clock, &[("push.delivery-timeout", "10m")]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);

    let mut first = Envelope::new(like(&lee, &kim, DATE), &bed.context);
    first.meta.occurred_at = clock.now();
    bed.publish_again(&first).await;
    for kind in ["consumer", "reader"] {
        eventually(&format!("the {kind} has read the like"), async || {
            let labels = [("topic", "noticeLike"), ("kind", kind), ("outcome", "applied")];
            (counted(&notice, "events_consumed_total", &labels).await == 1).then_some(())
        })
        .await;
    }
    shift.store(30, Ordering::SeqCst);
    let mut socket = connect(&notice, &kim).await;
    shift.store(120, Ordering::SeqCst);
    for _ in 0..2 {
        bed.publish_again(&first).await;
    }
    bed.publish(like(&lee, &kim, DATE + 1)).await;
    assert_eq!(socket.text().await, frame("lee", DATE));
    assert_eq!(socket.text().await, frame("lee", DATE + 1), "once");
}

/// The socket is older than the second like, and the first one was delivered, as a push to no device, long before.
async fn a_like_that_is_given_again_long_after_it_was_delivered_is_not_shown(bed: Bed) {
    let shift = Arc::new(AtomicI64::new(0));
    let clock: Arc<dyn Clock> = Arc::new(Shifted(shift.clone()));
    let at_once = [AT_ONCE, ("push.like-delay", "0s")];
    let notice = replica_with(&bed, &clock, &at_once).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    let liked = |date| {
        let mut liked = Envelope::new(like(&lee, &kim, date), &bed.context);
        liked.meta.occurred_at = clock.now();
        liked
    };

    bed.publish_again(&liked(DATE)).await;
    eventually("its push is settled", async || {
        (pushes(&notice, "like", "no-device").await == 1).then_some(())
    })
    .await;
    shift.store(50, Ordering::SeqCst);
    let mut socket = connect(&notice, &kim).await;
    shift.store(100, Ordering::SeqCst);
    let withdrawn = WithdrawnLike {
        liker: lee.account.clone(),
        date: DATE,
    };
    let withdrawn = NoticeRaised::like_withdrawn(kim.account.clone(), &withdrawn);
    let mut withdrawn = Envelope::new(withdrawn, &bed.context);
    withdrawn.meta.occurred_at = clock.now();
    bed.publish_again(&withdrawn).await;
    for kind in ["consumer", "reader"] {
        eventually(&format!("the {kind} has read the withdrawal"), async || {
            let labels = [("topic", "notice"), ("kind", kind), ("outcome", "applied")];
            (counted(&notice, "events_consumed_total", &labels).await == 1).then_some(())
        })
        .await;
    }
    for date in [DATE, DATE + 1] {
        bed.publish_again(&liked(date)).await;
    }
    assert_eq!(socket.text().await, frame("lee", DATE + 1));
    assert_eq!(counted(&notice, "notices_total", &[("outcome", "repeated")]).await, 1);
}

async fn no_notice_of_an_own_like_or_of_one_across_a_block(bed: Bed) {
    let notice = replica(&bed, &[]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    let park = bed.person("park@example.com+apple", "park").await;
    let mut socket = connect(&notice, &kim).await;
    for (relation, account, other) in [
        (Relation::Block, &kim, &lee),
        (Relation::Block, &park, &kim),
        (Relation::Unblock, &park, &kim),
    ] {
        bed.publish(RelationChanged {
            relation,
            account: account.account.clone(),
            other: other.account.clone(),
        })
        .await;
    }
    applied(&notice, "relation", 3).await;

    bed.publish(like(&kim, &kim, DATE)).await;
    bed.publish(like(&lee, &kim, DATE + 1)).await;
    bed.publish(like(&park, &kim, DATE + 2)).await;
    assert_eq!(socket.text().await, frame("park", DATE + 2));
    assert!(socket.silent_for(QUIET).await);
    eventually("two are for nobody", async || {
        (counted(&notice, "notices_total", &[("outcome", "nobody")]).await == 2).then_some(())
    })
    .await;
}

async fn a_like_is_shown_under_the_present_nickname(bed: Bed) {
    let notice = replica(&bed, &[]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    let mut socket = connect(&notice, &kim).await;
    applied(&notice, "emailAndNickname", 2).await;
    bed.rename(&lee.account, "lee the second").await;
    applied(&notice, "emailAndNickname", 3).await;
    bed.publish(like(&lee, &kim, DATE)).await;
    assert_eq!(socket.text().await, frame("lee the second", DATE));
}

async fn a_spring_feed_is_understood(bed: Bed) {
    let notice = replica(&bed, &[]).await;
    let (kim, _lee) = (kim(&bed).await, lee(&bed).await);
    let mut socket = connect(&notice, &kim).await;
    publish_plain::<PostLiked>(&bed, "lee", format!("kim,{DATE}").as_bytes()).await;
    assert_eq!(socket.text().await, frame("lee", DATE));
    publish_plain::<PostLiked>(&bed, "lee", format!("kim@example.com+kakao,{}", DATE + 1).as_bytes()).await;
    assert_eq!(socket.text().await, frame("lee", DATE + 1));
    publish_plain::<PostLiked>(&bed, "nobody", format!("kim,{DATE}").as_bytes()).await;
    publish_plain::<PostLiked>(&bed, "lee", format!("nobody,{DATE}").as_bytes()).await;
    assert!(socket.silent_for(QUIET).await);
}

async fn poison_goes_to_the_dead_letters_and_the_rest_goes_on(bed: Bed) {
    let notice = replica(&bed, &[]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    let mut socket = connect(&notice, &kim).await;
    let long = "x".repeat(100_000);
    for poison in [b"no comma", &b"\xff\xfe,1"[..], b"kim,20230905", b"", long.as_bytes()] {
        publish_plain::<PostLiked>(&bed, "lee", poison).await;
    }
    bed.publish(like(&lee, &kim, DATE)).await;
    assert_eq!(socket.text().await, frame("lee", DATE));
    eventually("five dead letters", async || {
        (counted(&notice, "events_dead_letters_total", &[("topic", "noticeLike")]).await == 5).then_some(())
    })
    .await;
}

/// The two travel on two topics: the withdrawal may be read first, by a replica whose sockets are older than both.
async fn a_like_that_is_read_after_its_withdrawal_is_not_shown(bed: Bed) {
    let notice = replica(&bed, &[]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    let mut socket = connect(&notice, &kim).await;
    let first = Envelope::new(like(&lee, &kim, DATE), &bed.context);
    let withdrawn = WithdrawnLike {
        liker: lee.account.clone(),
        date: DATE,
    };
    bed.publish(NoticeRaised::like_withdrawn(kim.account.clone(), &withdrawn))
        .await;
    for kind in ["consumer", "reader"] {
        eventually(&format!("the {kind} has read the withdrawal"), async || {
            let labels = [("topic", "notice"), ("kind", kind), ("outcome", "applied")];
            (counted(&notice, "events_consumed_total", &labels).await == 1).then_some(())
        })
        .await;
    }
    bed.publish_again(&first).await;
    bed.publish(like(&lee, &kim, DATE + 1)).await;
    assert_eq!(socket.text().await, frame("lee", DATE + 1));
    assert!(socket.silent_for(QUIET).await);
}

/// The record comes moments after the socket was opened: another replica has read the withdrawal, this one has not yet.
async fn a_withdrawn_like_is_not_shown_on_a_new_socket(bed: Bed) {
    let settings = bed.settings::<Settings>("notice", DEFAULTS, &[]).await;
    let inbox = settings.get().inbox.url.expose().to_owned();
    let elsewhere = Bed::new(EngineSet::Embedded).await;
    let (notice, other) = (
        replica(&bed, &[]).await,
        replica(&elsewhere, &[("inbox.url", &inbox)]).await,
    );
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    let first = Envelope::new(like(&lee, &kim, DATE), &bed.context);
    let mut socket = connect(&notice, &kim).await;
    let withdrawn = WithdrawnLike {
        liker: lee.account.clone(),
        date: DATE,
    };
    let withdrawn = NoticeRaised::like_withdrawn(kim.account.clone(), &withdrawn);
    let mut withdrawn = Envelope::new(withdrawn, &bed.context);
    withdrawn.meta.occurred_at = first.meta.occurred_at + std::time::Duration::from_millis(1);
    elsewhere.publish_again(&withdrawn).await;
    applied(&other, "notice", 1).await;
    bed.publish_again(&first).await;
    bed.publish(like(&lee, &kim, DATE + 1)).await;
    assert_eq!(socket.text().await, frame("lee", DATE + 1));
    assert!(socket.silent_for(QUIET).await);
}

/// The records are published at once, in order: that of the other account is behind all of them.
async fn a_flood_of_likes_for_one_account_arrives_in_order_beside_that_of_another(bed: Bed) {
    // The MongoDB server of the tests is slow.
    let flood = match bed.set {
        EngineSet::Embedded => 400,
        EngineSet::Real => 60,
    };
    let notice = replica(&bed, &[("sockets.queue", "1000")]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    let park = bed.person("park@example.com+apple", "park").await;
    let (mut flooded, mut other) = (connect(&notice, &kim).await, connect(&notice, &park).await);
    let record = |author, date| Envelope::new(like(&lee, author, date), &bed.context).to_outgoing();
    let mut records: Vec<_> = (0..flood).map(|number| record(&kim, DATE + number)).collect();
    records.push(record(&park, DATE));
    bed.bus.publish(&records).await.expect("the bus takes records");
    assert_eq!(other.text().await, frame("lee", DATE));
    for number in 0..flood {
        assert_eq!(flooded.text().await, frame("lee", DATE + number), "in order");
    }
}

/// The consumer gets them together; the bad record and the one for another account are behind most of them.
async fn likes_that_wait_are_kept_together_and_a_bad_one_among_them_is_the_only_dead_letter(bed: Bed) {
    // The MongoDB server of the tests is slow.
    let flood: u64 = match bed.set {
        EngineSet::Embedded => 1_200,
        EngineSet::Real => 60,
    };
    let notice = replica(&bed, &[]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    bed.publish(RelationChanged {
        relation: Relation::Block,
        account: kim.account.clone(),
        other: "liker7@example.com+kakao".parse().expect("an account"),
    })
    .await;
    applied(&notice, "relation", 1).await;
    let liked = |number: u64| {
        let liker = PostLiked {
            liker: format!("liker{number}"),
            liker_account: Some(format!("liker{number}@example.com+kakao").parse().expect("an account")),
            ..like(&lee, &kim, DATE)
        };
        Envelope::new(liker, &bed.context).to_outgoing()
    };
    let mut records: Vec<_> = (0..flood).map(liked).collect();
    let bad = Outgoing {
        value: Some(b"no comma".to_vec()),
        ..records[0].clone()
    };
    records.insert(records.len() * 5 / 6, bad);
    let another = Envelope::new(like(&kim, &lee, DATE), &bed.context).to_outgoing();
    records.insert(records.len() * 11 / 12, another);
    let again = records.clone();
    bed.bus.publish(&records).await.expect("the bus takes records");
    applied(&notice, "noticeLike", flood + 1).await;
    bed.bus.publish(&again).await.expect("the bus takes records");
    applied(&notice, "noticeLike", (flood + 1) * 2).await;
    eventually("both dead letters", async || {
        (counted(&notice, "events_dead_letters_total", &[("topic", "noticeLike")]).await == 2).then_some(())
    })
    .await;
    // Twice; all but the one of the blocked account.
    let kept = counted(&notice, "notices_total", &[("outcome", "kept")]).await;
    assert_eq!(kept, 2 * flood);
    for (person, expected) in [(&kim, flood - 1), (&lee, 1)] {
        let request = sosohappy_common::tls::client().get(notice.at("/notice-service/unreadCount"));
        let answer = person.sign(request).send().await.expect("an answer");
        let unread: serde_json::Value = answer.json().await.expect("JSON");
        assert_eq!(unread["count"], expected, "{}", person.nickname);
    }
}

/// A Spring feed that was started again has no names and writes `null`.
async fn a_like_of_an_unknown_author_of_a_spring_feed_is_no_notice(bed: Bed) {
    let notice = replica(&bed, &[]).await;
    let (_, lee) = (kim(&bed).await, lee(&bed).await);
    let null = bed.person("null@example.com+apple", "null").await;
    let mut socket = connect(&notice, &null).await;
    publish_plain::<PostLiked>(&bed, "lee", format!("null,{DATE}").as_bytes()).await;
    bed.publish(like(&lee, &null, DATE + 1)).await;
    assert_eq!(socket.text().await, frame("lee", DATE + 1));
    assert!(socket.silent_for(QUIET).await);
}

on_both_engines!(
    a_like_is_shown_under_the_present_nickname,
    a_like_that_is_given_again_long_after_it_was_delivered_is_not_shown,
    a_like_that_is_read_after_its_withdrawal_is_not_shown,
    a_like_that_is_read_long_after_it_was_stored_is_shown,
    a_like_reaches_every_socket_of_the_author_on_every_replica,
    a_flood_of_likes_for_one_account_arrives_in_order_beside_that_of_another,
    likes_that_wait_are_kept_together_and_a_bad_one_among_them_is_the_only_dead_letter,
    a_withdrawn_like_is_not_shown_on_a_new_socket,
    a_like_of_an_unknown_author_of_a_spring_feed_is_no_notice,
    a_record_that_came_before_its_receiver_is_shown_when_it_comes_again,
    a_record_that_comes_again_is_not_shown_again,
    a_spring_feed_is_understood,
    no_notice_of_an_own_like_or_of_one_across_a_block,
    poison_goes_to_the_dead_letters_and_the_rest_goes_on,
    what_was_shown_long_ago_is_not_shown_by_a_new_replica,
);
