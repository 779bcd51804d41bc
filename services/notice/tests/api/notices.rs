use serde_json::json;
use sosohappy_events::types::NoticeRaised;
use sosohappy_testkit::{Bed, eventually, on_both_engines};

use crate::fleet::{QUIET, connect, counted, kim, replica};

async fn another_notice_is_shown_as_it_was_raised(bed: Bed) {
    let notice = replica(&bed, &[]).await;
    let kim = kim(&bed).await;
    let mut socket = connect(&notice, &kim).await;
    let raise = |text: String| NoticeRaised {
        receiver: kim.account.clone(),
        topic: "comment".to_owned(),
        data: json!({ "text": text, "date": 1 }),
        about: None,
    };
    let first = bed.publish(raise("좋아요".to_owned())).await;
    assert_eq!(
        socket.text().await,
        r#"{"topic":"comment","data":{"text":"좋아요","date":1}}"#
    );
    bed.publish_again(&first).await;
    bed.publish(raise("x".repeat(20_000))).await;
    assert!(socket.silent_for(QUIET).await);
    eventually("the notice without bounds is a dead letter", async || {
        (counted(&notice, "events_dead_letters_total", &[("topic", "notice")]).await == 1).then_some(())
    })
    .await;
}

on_both_engines!(another_notice_is_shown_as_it_was_raised);
