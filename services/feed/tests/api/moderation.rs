//! Hidden posts and comments, and what moderators see of reports.

use std::time::Duration;

use serde_json::Value;
use sosohappy_bus::Start;
use sosohappy_events::types::{
    AccountResigned, AccountStateChanged, ContentModerated, ModeratedContent, ModerationAction, ModerationApplied,
    ModerationOutcome, Relation, Role, State,
};
use sosohappy_events::{Envelope, Event as _, EventId};
use sosohappy_testkit::{Bed, PATIENCE, Person, eventually, on_both_engines};

use super::others::tell;
use super::{Feed, PNG, code, problem, saved};

on_both_engines!(
    a_hidden_post_is_its_authors_alone_until_it_is_restored,
    decisions_count_by_their_time_whatever_the_order,
    a_hidden_comment_is_its_writers_alone,
    a_reported_text_is_kept_for_moderators_until_it_is_decided,
    copies_of_reports_go_with_the_author,
    content_that_a_person_does_not_see_is_neither_opened_nor_hidden,
    a_hidden_post_that_is_written_to_at_each_try_gets_new_ids_later,
    a_suspended_authors_post_that_is_written_to_at_each_try_gets_new_ids_later,
);

const DATE: &str = "2023090513248392";
const POST: ModeratedContent = ModeratedContent::Post {
    date: 2_023_090_513_248_392,
};

fn decision(
    action: ModerationAction,
    author: &Person,
    content: ModeratedContent,
    report: Option<i64>,
) -> ContentModerated {
    ContentModerated {
        action,
        author: author.account.clone(),
        content,
        reporter: None,
        report,
    }
}

/// The event as of so many seconds after now.
fn later(bed: &Bed, event: ContentModerated, seconds: u64) -> Envelope<ContentModerated> {
    let mut envelope = Envelope::new(event, &bed.context);
    envelope.meta.occurred_at = bed.context.clock.now() + Duration::from_secs(seconds);
    envelope
}

/// Waits until each of the orders was answered, one that is listed several times as often. Answers about one author come in order.
async fn answered(bed: &Bed, mut orders: Vec<(EventId, ModerationOutcome)>) {
    let mut reader = bed
        .bus
        .read(&[ModerationApplied::TOPIC], Start::Earliest)
        .await
        .unwrap();
    let answers = async {
        while !orders.is_empty() {
            let record = reader.next().await.unwrap();
            let answer = Envelope::<ModerationApplied>::decode(&record).unwrap().event;
            assert_eq!(answer.service, sosohappy_feed::SERVICE);
            if let Some(found) = orders.iter().position(|(order, _)| *order == answer.order) {
                let (_, outcome) = orders.remove(found);
                assert_eq!(answer.outcome, Some(outcome));
            }
        }
    };
    tokio::time::timeout(PATIENCE, answers)
        .await
        .expect("every order is answered");
}

impl Feed {
    async fn own_post(&self, who: &Person) -> Value {
        let params = [("nickname", who.nickname.as_str()), ("date", DATE)];
        let (status, body) = self.post(who, "findDayFeed", &params).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    async fn is_hidden(&self, who: &Person) -> bool {
        self.own_post(who).await["isHidden"] == true
    }

    async fn reported(&self, who: &Person, report: &str) -> super::Answer {
        self.get(who, "admin/reportedContent", &[("report", report)]).await
    }
}

async fn a_hidden_post_is_its_authors_alone_until_it_is_restored(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    assert_eq!(feed.save_with(&kim, DATE, &[*PNG]).await, saved());
    assert_eq!(feed.sees(&lee).await.len(), 1);
    let image = feed.own_post(&kim).await["imageIdList"][0].as_i64().unwrap();

    let hide = bed.publish(decision(ModerationAction::Hidden, &kim, POST, None)).await;
    eventually("others do not see the post", async || {
        feed.sees(&lee).await.is_empty().then_some(())
    })
    .await;
    assert!(feed.is_hidden(&kim).await);
    eventually("the old id of the picture names nothing", async || {
        let shown = feed
            .client
            .get(feed.at(&format!("image/{image}")))
            .send()
            .await
            .unwrap();
        (shown.status() == 404).then_some(())
    })
    .await;
    let renewed = feed.own_post(&kim).await["imageIdList"][0].as_i64().unwrap();
    assert_ne!(renewed, image);
    answered(&bed, vec![(hide.meta.id, ModerationOutcome::Applied)]).await;
    assert_eq!(code(&feed.like(&lee, &kim, DATE).await), problem(404, "no-such-post"));
    let detail = [("srcNickname", "lee"), ("dstNickname", "kim"), ("date", DATE)];
    assert_eq!(
        code(&feed.post(&lee, "findDetailFeed", &detail).await),
        problem(404, "no-such-post")
    );
    let comments = [("srcNickname", "lee"), ("nickname", "kim"), ("date", DATE)];
    assert_eq!(
        code(&feed.get(&lee, "findComment", &comments).await),
        problem(404, "no-such-post")
    );
    // Saved anew, it stays hidden.
    feed.save(&kim, DATE, "3", "coffee").await;
    assert!(feed.is_hidden(&kim).await && feed.sees(&lee).await.is_empty());

    bed.publish(decision(ModerationAction::Restored, &kim, POST, None))
        .await;
    eventually("others see the post again", async || {
        (feed.sees(&lee).await.len() == 1).then_some(())
    })
    .await;
    assert!(!feed.is_hidden(&kim).await);
    bed.publish_again(&hide).await;
    let lock = decision(ModerationAction::Hidden, &lee, POST, None);
    feed.save(&lee, DATE, "3", "coffee").await;
    bed.publish(lock).await;
    eventually("a later event is applied", async || {
        feed.is_hidden(&lee).await.then_some(())
    })
    .await;
    assert_eq!(
        feed.sees(&lee).await.len(),
        1,
        "an event that is delivered again hides nothing"
    );
}

async fn decisions_count_by_their_time_whatever_the_order(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    feed.save(&kim, DATE, "5", "coffee").await;
    let of = |action, seconds| later(&bed, decision(action, &kim, POST, None), seconds);
    let steps = [
        of(ModerationAction::Restored, 20),
        of(ModerationAction::Hidden, 10),
        of(ModerationAction::Hidden, 30),
        of(ModerationAction::Restored, 25),
    ];
    for step in &steps {
        bed.publish_again(step).await;
        bed.publish_again(step).await;
    }
    eventually("the latest decision is in force", async || {
        feed.is_hidden(&kim).await.then_some(())
    })
    .await;
    // Content that is not there is no error: the next event is applied.
    let unknown = ModeratedContent::Comment { comment: 999_999 };
    let nowhere = bed
        .publish(decision(ModerationAction::Hidden, &kim, unknown, None))
        .await;
    bed.publish_again(&of(ModerationAction::Restored, 40)).await;
    eventually("the post is restored", async || {
        (feed.sees(&lee).await.len() == 1).then_some(())
    })
    .await;
    // Each is answered as often as it was delivered, also those that a later one had overtaken, and the one about nothing.
    let mut orders = vec![(nowhere.meta.id, ModerationOutcome::NotFound)];
    for (step, outcome) in steps.iter().zip([
        ModerationOutcome::Applied,
        ModerationOutcome::Superseded,
        ModerationOutcome::Applied,
        ModerationOutcome::Superseded,
    ]) {
        orders.extend([(step.meta.id, outcome); 2]);
    }
    answered(&bed, orders).await;
}

async fn a_hidden_comment_is_its_writers_alone(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    feed.save(&kim, DATE, "5", "coffee").await;
    let id = feed.commented(&lee, &kim, "unkind").await;
    let content = ModeratedContent::Comment { comment: id };
    // Under another author's name nothing is hidden.
    let foreign = bed
        .publish(decision(ModerationAction::Hidden, &kim, content.clone(), None))
        .await;
    let hide = bed
        .publish(decision(ModerationAction::Hidden, &lee, content.clone(), None))
        .await;
    eventually("the author of the post does not see the comment", async || {
        feed.comments(&kim, &kim).await.is_empty().then_some(())
    })
    .await;
    assert_eq!(feed.comments(&lee, &kim).await.len(), 1);
    // After a crash before the answer.
    bed.publish_again(&hide).await;
    let restore = bed
        .publish(decision(ModerationAction::Restored, &lee, content, None))
        .await;
    eventually("the comment is back", async || {
        (feed.comments(&kim, &kim).await.len() == 1).then_some(())
    })
    .await;
    bed.publish_again(&hide).await;
    let orders = vec![
        (foreign.meta.id, ModerationOutcome::NotFound),
        (hide.meta.id, ModerationOutcome::Applied),
        (hide.meta.id, ModerationOutcome::Applied),
        (restore.meta.id, ModerationOutcome::Applied),
        (hide.meta.id, ModerationOutcome::Superseded),
    ];
    answered(&bed, orders).await;
}

async fn a_reported_text_is_kept_for_moderators_until_it_is_decided(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let moderator = bed
        .person_with_role("moderator@example.com+kakao", "moderator", Role::Moderator)
        .await;
    feed.save(&kim, DATE, "5", "coffee").await;
    assert_eq!(
        code(&feed.reported(&kim, "7").await),
        problem(403, "role-required"),
        "members see no reports"
    );
    let reported = bed
        .publish(decision(ModerationAction::Reported, &kim, POST, Some(7)))
        .await;
    let text = eventually("a copy is kept", async || {
        let (status, body) = feed.reported(&moderator, "7").await;
        (status == 200).then_some(body)
    })
    .await;
    assert_eq!(text, format!(r#"{{"text":"{DATE}","imageIdList":[]}}"#));
    // The author changes the post: the copy is what was reported.
    let deleted = feed
        .post(&kim, "deleteFeed", &[("nickname", "kim"), ("date", DATE)])
        .await;
    assert_eq!(deleted.0, 200);
    assert_eq!(feed.reported(&moderator, "7").await.0, 200);

    bed.publish(decision(ModerationAction::Closed, &kim, POST, Some(7)))
        .await;
    eventually("the copy is deleted", async || {
        (feed.reported(&moderator, "7").await.0 == 404).then_some(())
    })
    .await;
    feed.save(&kim, DATE, "5", "coffee").await;
    bed.publish_again(&reported).await;
    bed.publish(decision(ModerationAction::Reported, &kim, POST, Some(8)))
        .await;
    eventually("a later report is kept", async || {
        (feed.reported(&moderator, "8").await.0 == 200).then_some(())
    })
    .await;
    assert_eq!(
        code(&feed.reported(&moderator, "7").await),
        problem(404, "no-such-report"),
        "a late event stores nothing"
    );
}

async fn copies_of_reports_go_with_the_author(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let moderator = bed
        .person_with_role("moderator@example.com+kakao", "moderator", Role::Admin)
        .await;
    feed.save(&kim, DATE, "5", "coffee").await;
    bed.publish(decision(ModerationAction::Reported, &kim, POST, Some(7)))
        .await;
    eventually("a copy is kept", async || {
        (feed.reported(&moderator, "7").await.0 == 200).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    bed.forget(&kim);
    bed.publish(AccountResigned {
        account: kim.account.clone(),
        nickname: "kim".to_owned(),
    })
    .await;
    eventually("the copy is erased", async || {
        (feed.reported(&moderator, "7").await.0 == 404).then_some(())
    })
    .await;
}

async fn content_that_a_person_does_not_see_is_neither_opened_nor_hidden(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    let mina = bed.person("mina@example.com+kakao", "mina").await;
    let moderator = bed
        .person_with_role("moderator@example.com+kakao", "moderator", Role::Moderator)
        .await;
    let public = "2023090613248392";
    let of_public = ModeratedContent::Post {
        date: public.parse().unwrap(),
    };
    feed.save_for(&kim, DATE, "private").await;
    feed.save(&kim, public, "5", "coffee").await;
    // The reports of one author's content are handled one after the other.
    let report = async |by: &Person, content: &ModeratedContent, number: i64| {
        for (action, report) in [
            (ModerationAction::Reported, Some(number)),
            (ModerationAction::Hidden, None),
        ] {
            bed.publish(ContentModerated {
                reporter: Some(by.account.clone()),
                ..decision(action, &kim, content.clone(), report)
            })
            .await;
        }
    };
    report(&lee, &POST, 7).await;
    // A record of an older release names no reporter: a copy is kept of what everybody sees.
    bed.publish(decision(ModerationAction::Reported, &kim, POST, Some(9)))
        .await;
    bed.publish(decision(ModerationAction::Reported, &kim, of_public.clone(), Some(10)))
        .await;
    eventually("a copy of the public post is kept", async || {
        (feed.reported(&moderator, "10").await.0 == 200).then_some(())
    })
    .await;
    for number in ["7", "9"] {
        assert_eq!(
            code(&feed.reported(&moderator, number).await),
            problem(404, "no-such-report"),
            "{number}"
        );
    }
    assert!(!feed.is_hidden(&kim).await);
    assert_eq!(feed.sees(&mina).await.len(), 1);

    // Lee reports and blocks at once: the block arrives first. That of the author does not take the right away either.
    for (who, whom) in [(&lee, &kim), (&kim, &lee)] {
        tell(&bed, Relation::Block, who, whom).await;
    }
    eventually("a block is in force", async || {
        feed.sees(&lee).await.is_empty().then_some(())
    })
    .await;
    report(&lee, &of_public, 11).await;
    eventually("the post is hidden at once", async || {
        feed.sees(&mina).await.is_empty().then_some(())
    })
    .await;
    // It is hidden by now, and was reported before the second reporter knew.
    report(&mina, &of_public, 12).await;
    // A comment of the author at a third person's post.
    feed.save(&mina, DATE, "5", "coffee").await;
    let comment = feed.commented(&kim, &mina, "unkind").await;
    report(&lee, &ModeratedContent::Comment { comment }, 13).await;
    eventually("the comment is hidden at once", async || {
        feed.comments(&mina, &mina).await.is_empty().then_some(())
    })
    .await;
    for number in ["11", "12", "13"] {
        assert_eq!(feed.reported(&moderator, number).await.0, 200, "{number}");
    }

    // A block ends a friendship: who was a friend when reporting may report, who reports afterwards may not.
    let for_friends = "2023090713248392";
    let date = for_friends.parse().unwrap();
    let of_friends = ModeratedContent::Post { date };
    feed.save_for(&kim, for_friends, "friends").await;
    let are_friends = async || {
        let post = [("srcNickname", "mina"), ("dstNickname", "kim"), ("date", for_friends)];
        feed.post(&mina, "findDetailFeed", &post).await.0 == 200
    };
    for (who, whom) in [(&mina, &kim), (&kim, &mina)] {
        tell(&bed, Relation::Follow, who, whom).await;
    }
    eventually("they are friends", async || are_friends().await.then_some(())).await;
    let by_mina = |number: i64| ContentModerated {
        reporter: Some(mina.account.clone()),
        ..decision(ModerationAction::Reported, &kim, of_friends.clone(), Some(number))
    };
    let mut before = Envelope::new(by_mina(15), &bed.context);
    before.meta.occurred_at -= Duration::from_secs(1);
    for (who, whom) in [(&mina, &kim), (&kim, &mina)] {
        tell(&bed, Relation::Unfollow, who, whom).await;
    }
    eventually("they are friends no more", async || {
        (!are_friends().await).then_some(())
    })
    .await;
    bed.publish(by_mina(14)).await;
    bed.publish_again(&before).await;
    eventually("a copy of the earlier report is kept", async || {
        (feed.reported(&moderator, "15").await.0 == 200).then_some(())
    })
    .await;
    assert_eq!(feed.reported(&moderator, "14").await.0, 404);
}

impl Feed {
    async fn status_of_image(&self, image: i64) -> u16 {
        let shown = self.client.get(self.at(&format!("image/{image}"))).send().await;
        shown.unwrap().status().as_u16()
    }

    /// Waits until so many tries to give the pictures of a post new ids have met other writes.
    async fn has_met_writes(&self, times: f64) {
        eventually("the pictures could not be renewed", async || {
            let counted = self.running.metric("feed_image_renewals_contended_total", &[]);
            (counted >= times).then_some(())
        })
        .await;
    }
}

/// From now on the post with this picture gets another one whenever copies of its pictures are reserved, which come from the list before.
async fn write_at_each_reservation(bed: &Bed, image: i64) {
    let trigger = format!(
        "CREATE TRIGGER contended AFTER INSERT ON image_garbage FOR EACH ROW BEGIN \
         UPDATE post SET images = CONCAT('[{image}, ', NEW.id, ']') WHERE NEW.reserved = 1 AND images <> '[]'; END"
    );
    bed.sql("feed", trigger.leak()).await;
}

async fn end_writes(bed: &Bed) {
    bed.sql("feed", "DROP TRIGGER contended").await;
}

async fn a_hidden_post_that_is_written_to_at_each_try_gets_new_ids_later(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    assert_eq!(feed.save_with(&kim, DATE, &[*PNG]).await, saved());
    let image = feed.own_post(&kim).await["imageIdList"][0].as_i64().unwrap();
    write_at_each_reservation(&bed, image).await;
    let hide = bed.publish(decision(ModerationAction::Hidden, &kim, POST, None)).await;
    // The order does not wait for the pictures, and so does none behind it.
    answered(&bed, vec![(hide.meta.id, ModerationOutcome::Applied)]).await;
    // Once for the order, and once for the task to which it has left the post.
    feed.has_met_writes(2.0).await;
    assert_eq!(feed.status_of_image(image).await, 200);
    end_writes(&bed).await;
    eventually("the old id of the picture names nothing", async || {
        (feed.status_of_image(image).await == 404).then_some(())
    })
    .await;
}

async fn a_suspended_authors_post_that_is_written_to_at_each_try_gets_new_ids_later(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    assert_eq!(feed.save_with(&kim, DATE, &[*PNG]).await, saved());
    let image = feed.own_post(&kim).await["imageIdList"][0].as_i64().unwrap();
    write_at_each_reservation(&bed, image).await;
    bed.publish(AccountStateChanged {
        account: kim.account.clone(),
        state: State::Suspended,
    })
    .await;
    feed.has_met_writes(1.0).await;
    assert_eq!(feed.status_of_image(image).await, 200);
    end_writes(&bed).await;
    eventually("the old id of the picture names nothing", async || {
        (feed.status_of_image(image).await == 404).then_some(())
    })
    .await;
}
