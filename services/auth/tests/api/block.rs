//! Blocks between accounts.

use serde_json::json;
use sosohappy_events::types::{Relation, RelationChanged};
use sosohappy_testkit::{Bed, on_both_engines};

use crate::support::{Answer, Auth, Ground, KIM, LEE, Person, send};

on_both_engines!(
    blocking_and_unblocking_is_published_once,
    blocking_for_another_account_is_refused,
    two_may_block_each_other_at_once
);

impl Auth {
    pub async fn set_block(&self, call: &str, by: &Person, source: &str, destination: &str) -> Answer {
        send(
            by.sign(
                self.post(call)
                    .json(&json!({ "srcNickname": source, "dstNickname": destination })),
            ),
        )
        .await
    }
}

async fn blocking_and_unblocking_is_published_once(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let (kim, lee) = (auth.person(KIM, "kim").await, auth.person(LEE, "lee").await);
    let mut relations = ground.watch::<RelationChanged>().await;
    let (success, failure) = (json!({ "success": true }), json!({ "success": false }));

    for _ in 0..2 {
        assert_eq!(
            auth.set_block("block", &kim, "kim", "lee").await.expect(200).body,
            success
        );
    }
    let blocked = relations.next().await;
    assert_eq!(blocked.event.relation, Relation::Block);
    assert_eq!(
        (blocked.event.account.as_str(), blocked.event.other.as_str()),
        (&*kim.account, &*lee.account)
    );

    for _ in 0..2 {
        assert_eq!(
            auth.set_block("unblock", &kim, "kim", "lee").await.expect(200).body,
            success
        );
    }
    let unblocked = relations.next().await;
    assert_eq!(unblocked.event.relation, Relation::Unblock);
    assert!(
        unblocked.meta.occurred_at > blocked.meta.occurred_at,
        "the last word is the last in time"
    );

    assert_eq!(
        auth.set_block("block", &kim, "kim", "nobody").await.expect(200).body,
        failure
    );
    assert_eq!(
        auth.set_block("block", &kim, "kim", "kim").await.expect(200).body,
        failure
    );
    relations.expect_silence().await;
}

async fn blocking_for_another_account_is_refused(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let (kim, _lee) = (auth.person(KIM, "kim").await, auth.person(LEE, "lee").await);
    for source in ["lee", "nobody"] {
        let answer = auth.set_block("block", &kim, source, "kim").await.expect(403);
        assert_eq!(answer.code(), "not-yourself");
    }
    send(kim.sign(auth.post("block").json(&json!({ "srcNickname": "kim" }))))
        .await
        .expect(400);
    send(
        auth.post("block")
            .json(&json!({ "srcNickname": "kim", "dstNickname": "lee" })),
    )
    .await
    .expect(403);
    ground.watch::<RelationChanged>().await.expect_silence().await;
}

async fn two_may_block_each_other_at_once(bed: Bed) {
    let ground = Ground::new(bed);
    let (one, other) = (ground.auth().await, ground.auth().await);
    let (kim, lee) = (one.person(KIM, "kim").await, one.person(LEE, "lee").await);
    let mut relations = ground.watch::<RelationChanged>().await;
    for call in ["block", "unblock"].into_iter().cycle().take(10) {
        let (kims, lees) = tokio::join!(
            one.set_block(call, &kim, "kim", "lee"),
            other.set_block(call, &lee, "lee", "kim")
        );
        assert_eq!(
            [kims.expect(200).body, lees.expect(200).body],
            [json!({ "success": true }), json!({ "success": true })]
        );
        for _ in 0..2 {
            relations.next().await;
        }
    }
    relations.expect_silence().await;
}
