use serde_json::{Value, json};
use sosohappy_events::Envelope;
use sosohappy_events::types::NoticeRaised;
use sosohappy_testkit::{Bed, Person, Running, eventually, on_both_engines};

use crate::fleet::{
    AT_ONCE, DATE, QUIET, applied, connect, counted, deleted_post, device, frame, kim, lee, like, pushes, replica,
};
use crate::stream::{next, open};

async fn another_notice_is_shown_as_it_was_raised(bed: Bed) {
    let notice = replica(&bed, &[]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    let (mut old, mut socket) = (connect(&notice, &kim).await, open(&notice, &kim, "").await);
    let raise = |text: String| NoticeRaised {
        receiver: kim.account.clone(),
        topic: "comment".to_owned(),
        data: json!({ "text": text, "date": 1 }),
        about: None,
    };
    let first = bed.publish(raise("좋아요".to_owned())).await;
    let shown = next(&mut socket).await;
    assert_eq!(
        (&shown["topic"], &shown["data"]["text"], &shown["data"]["date"]),
        (&json!("comment"), &json!("좋아요"), &json!(1))
    );
    bed.publish_again(&first).await;
    bed.publish(raise("x".repeat(20_000))).await;
    eventually("the notice without bounds is a dead letter", async || {
        (counted(&notice, "events_dead_letters_total", &[("topic", "notice")]).await == 1).then_some(())
    })
    .await;
    // The notice that came again and the one without bounds are not shown, and nothing but likes on a socket of version 1.
    bed.publish(like(&lee, &kim, DATE)).await;
    assert_eq!(next(&mut socket).await["topic"], "like");
    assert_eq!(old.text().await, frame("lee", DATE));
}

/// The comments of the notices in an inbox.
async fn comments(notice: &Running, person: &Person) -> Vec<Value> {
    let request = sosohappy_common::tls::client().get(notice.at("/notice-service/findNotice"));
    let answer = person.sign(request).send().await.expect("an answer");
    let page: Value = answer.json().await.expect("JSON");
    let content = page["content"].as_array().expect("a page").iter();
    content.map(|notice| notice["data"]["commentId"].clone()).collect()
}

async fn a_withdrawn_comment_leaves_neither_notice_nor_push(bed: Bed) {
    let notice = replica(&bed, &[AT_ONCE]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    device(&bed, &kim, "phone").await;
    applied(&notice, "deviceToken", 1).await;
    let comment = |number: i64| {
        let raised = NoticeRaised {
            receiver: kim.account.clone(),
            topic: "comment".to_owned(),
            data: json!({ "commenter": "lee", "date": DATE, "commentId": number }),
            about: Some(lee.account.clone()),
        };
        let mut envelope = Envelope::new(raised, &bed.context);
        envelope.meta.id = NoticeRaised::comment_id(&kim.account, number);
        envelope
    };
    let withdrawal =
        |number: i64| NoticeRaised::withdrawn(kim.account.clone(), NoticeRaised::comment_id(&kim.account, number));
    let (first, second) = (comment(1), comment(2));
    // The record of the first comes again after its withdrawal.
    bed.publish(withdrawal(1)).await;
    bed.publish_again(&first).await;
    bed.publish_again(&second).await;
    applied(&notice, "notice", 3).await;
    assert_eq!(comments(&notice, &kim).await, [json!(2)]);
    eventually("the second is pushed", async || {
        (pushes(&notice, "comment", "sent").await == 1).then_some(())
    })
    .await;
    bed.publish(withdrawal(2)).await;
    applied(&notice, "notice", 4).await;
    assert_eq!(comments(&notice, &kim).await, Vec::<Value>::new());
    assert_eq!(pushes(&notice, "comment", "sent").await, 1);
}

/// The consumer gets them together, and again in smaller parts: the last ones are without bounds.
async fn notices_that_wait_are_counted_once(bed: Bed) {
    const COMMENTS: u64 = 300;
    let notice = replica(&bed, &[]).await;
    let kim = kim(&bed).await;
    let comment = |number: u64, text: String| NoticeRaised {
        receiver: kim.account.clone(),
        topic: "comment".to_owned(),
        data: json!({ "text": text, "commentId": number }),
        about: None,
    };
    let comments = (0..COMMENTS).map(|number| comment(number, String::new()));
    let withdrawals = (1..=2_i64).map(|number| {
        let earlier = NoticeRaised::comment_id(&kim.account, number);
        NoticeRaised::withdrawn(kim.account.clone(), earlier)
    });
    let without_bounds = (0..2).map(|number| comment(number, "x".repeat(20_000)));
    let raised = comments.chain(withdrawals).chain(without_bounds);
    let records: Vec<_> = raised
        .map(|raised| Envelope::new(raised, &bed.context).to_outgoing())
        .collect();
    bed.bus.publish(&records).await.expect("the bus takes records");
    eventually("both dead letters", async || {
        (counted(&notice, "events_dead_letters_total", &[("topic", "notice")]).await == 2).then_some(())
    })
    .await;
    applied(&notice, "notice", COMMENTS + 2).await;
    for (outcome, times) in [("kept", COMMENTS), ("withdrawn", 2)] {
        assert_eq!(
            counted(&notice, "notices_total", &[("outcome", outcome)]).await,
            times,
            "{outcome}"
        );
    }
}

/// The number of unread notices, and the dates of the likes in an inbox.
async fn likes(notice: &Running, person: &Person) -> (Value, Vec<Value>) {
    let client = sosohappy_common::tls::client();
    let ask = async |path: &str| -> Value {
        let request = client.get(notice.at(path));
        let answer = person.sign(request).send().await.expect("an answer");
        answer.json().await.expect("JSON")
    };
    let unread = ask("/notice-service/unreadCount").await;
    let page = ask("/notice-service/findNotice").await;
    let content = page["content"].as_array().expect("a page").iter();
    let dates = content.map(|notice| notice["data"]["date"].clone()).collect();
    (unread["count"].clone(), dates)
}

async fn notices_of_a_deleted_post_are_withdrawn(bed: Bed) {
    const NEXT_DAY: i64 = 100_000_000;
    let notice = replica(&bed, &[("push.delivery-timeout", "10m"), ("push.like-delay", "10m")]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    let park = bed.person("park@example.com+apple", "park").await;
    device(&bed, &kim, "phone").await;
    applied(&notice, "deviceToken", 1).await;
    let mut socket = open(&notice, &kim, "").await;
    let late = Envelope::new(like(&park, &kim, DATE), &bed.context);
    let first = bed.publish(like(&lee, &kim, DATE)).await;
    let shown = next(&mut socket).await;
    bed.publish(like(&lee, &kim, DATE + NEXT_DAY)).await;
    let other = next(&mut socket).await;
    assert_eq!(other["seq"].as_i64(), shown["seq"].as_i64().map(|seq| seq + 1));
    applied(&notice, "noticeLike", 2).await;

    let deleted = bed.publish(deleted_post(&kim, DATE)).await;
    applied(&notice, "post", 1).await;
    // A like that comes after the deletion it preceded, and every record again.
    bed.publish_again(&late).await;
    bed.publish_again(&first).await;
    bed.publish_again(&deleted).await;
    applied(&notice, "noticeLike", 4).await;
    applied(&notice, "post", 2).await;
    assert_eq!(likes(&notice, &kim).await, (json!(1), vec![json!(DATE + NEXT_DAY)]));
    assert!(socket.silent_for(QUIET).await, "no frame of the late like");

    // Another device resumes before both likes: it gets that of the other post only.
    let before = shown["seq"].as_i64().expect("a number") - 1;
    let mut resumed = open(&notice, &kim, &format!("&since={before}")).await;
    assert_eq!(next(&mut resumed).await["seq"], other["seq"]);

    // A post that is written anew on that day gets its notices.
    bed.publish(like(&lee, &kim, DATE)).await;
    let anew = next(&mut socket).await;
    assert_eq!((&anew["topic"], &anew["data"]["date"]), (&json!("like"), &json!(DATE)));
    applied(&notice, "noticeLike", 5).await;
    let (unread, dates) = likes(&notice, &kim).await;
    assert_eq!((unread, dates.len()), (json!(2), 2));
}

async fn a_deleted_post_gets_no_push(bed: Bed) {
    let notice = replica(&bed, &[AT_ONCE, ("push.like-delay", "0s")]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    device(&bed, &kim, "phone").await;
    applied(&notice, "deviceToken", 1).await;
    let like_of = |date| Envelope::new(like(&lee, &kim, date), &bed.context);
    let (of_deleted, of_other) = (like_of(DATE), like_of(DATE + 100_000_000));
    bed.publish(deleted_post(&kim, DATE)).await;
    applied(&notice, "post", 1).await;
    bed.publish_again(&of_deleted).await;
    bed.publish_again(&of_other).await;
    applied(&notice, "noticeLike", 2).await;
    eventually("the other like is pushed", async || {
        (pushes(&notice, "like", "sent").await == 1).then_some(())
    })
    .await;
    assert!(likes(&notice, &kim).await.1 == [json!(DATE + 100_000_000)]);
}

on_both_engines!(
    notices_of_a_deleted_post_are_withdrawn,
    a_deleted_post_gets_no_push,
    another_notice_is_shown_as_it_was_raised,
    a_withdrawn_comment_leaves_neither_notice_nor_push,
    notices_that_wait_are_counted_once,
);
