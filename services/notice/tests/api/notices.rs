use serde_json::{Value, json};
use sosohappy_events::Envelope;
use sosohappy_events::types::NoticeRaised;
use sosohappy_testkit::{Bed, Person, Running, eventually, on_both_engines};

use crate::fleet::{AT_ONCE, DATE, applied, connect, counted, device, frame, kim, lee, like, pushes, replica};
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

on_both_engines!(
    another_notice_is_shown_as_it_was_raised,
    a_withdrawn_comment_leaves_neither_notice_nor_push,
);
