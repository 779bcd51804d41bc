use serde_json::json;
use sosohappy_events::types::NoticeRaised;
use sosohappy_testkit::{Bed, eventually, on_both_engines};

use crate::fleet::{DATE, connect, counted, frame, kim, lee, like, replica};
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

on_both_engines!(another_notice_is_shown_as_it_was_raised);
