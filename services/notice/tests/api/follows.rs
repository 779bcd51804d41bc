//! Follows: notified once, withdrawn when they end.

use serde_json::{Value, json};
use sosohappy_events::Envelope;
use sosohappy_events::types::{AccountResigned, FollowChanged};
use sosohappy_testkit::{Bed, Person, Running, eventually, on_both_engines};

use crate::fleet::{QUIET, applied, connect, counted, kim, lee, replica};
use crate::stream::{next, open};

/// As auth publishes it: no two changes of a person occur in one millisecond.
async fn publish(bed: &Bed, people: [&Person; 2], following: bool, friends: bool) -> Envelope<FollowChanged> {
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    let [by, of] = people.map(|person| person.account.clone());
    bed.publish(FollowChanged {
        follower: by,
        followed: of,
        following,
        friends,
    })
    .await
}

/// The topics and data of the notices of an inbox.
async fn inbox(notice: &Running, person: &Person) -> Vec<(Value, Value)> {
    let request = sosohappy_common::tls::client().get(notice.at("/notice-service/findNotice"));
    let answer = person.sign(request).send().await.expect("an answer");
    let page: Value = answer.json().await.expect("JSON");
    let content = page["content"].as_array().expect("a page").iter();
    content
        .map(|notice| (notice["topic"].clone(), notice["data"].clone()))
        .collect()
}

async fn a_follow_is_notified_and_withdrawn_when_it_ends(bed: Bed) {
    let (one, other) = (replica(&bed, &[]).await, replica(&bed, &[]).await);
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    let mut sockets = [open(&one, &kim, "").await, open(&other, &kim, "").await];
    let mut old = [connect(&one, &kim).await, connect(&other, &lee).await];
    let first = publish(&bed, [&lee, &kim], true, false).await;
    for socket in &mut sockets {
        let frame = next(socket).await;
        assert_eq!(
            (&frame["topic"], &frame["data"]["follower"]),
            (&json!("follow"), &json!("lee"))
        );
    }
    bed.publish_again(&first).await;
    publish(&bed, [&lee, &kim], false, false).await;
    publish(&bed, [&lee, &kim], true, false).await;
    publish(&bed, [&lee, &kim], false, false).await;
    publish(&bed, [&lee, &kim], true, false).await;
    applied_by_all(&[&one, &other], 6).await;
    // A record that the group has handled twice, because it was rebalanced, counts twice.
    eventually("the follow is in the inbox", async || {
        (inbox(&one, &kim).await == [(json!("follow"), json!({ "follower": "lee" }))]).then_some(())
    })
    .await;

    // Mutual: the one who followed first learns that they are friends.
    let mut of_lee = open(&other, &lee, "").await;
    publish(&bed, [&kim, &lee], true, true).await;
    let frame = next(&mut of_lee).await;
    assert_eq!(
        (&frame["topic"], &frame["data"]["follower"]),
        (&json!("friend"), &json!("kim"))
    );
    bed.rename(&kim.account, "kim the second").await;
    applied_by_all(&[&one, &other], 7).await;
    eventually("the present nickname is listed", async || {
        let listed = inbox(&one, &lee).await;
        (listed == [(json!("friend"), json!({ "follower": "kim the second" }))]).then_some(())
    })
    .await;

    publish(&bed, [&lee, &kim], false, false).await;
    applied_by_all(&[&one, &other], 8).await;
    assert_eq!(inbox(&other, &kim).await, []);
    for socket in &mut old {
        assert!(
            socket.silent_for(QUIET).await,
            "the published app knows no frames of follows"
        );
    }
}

/// Waits until the consumers of the replicas, which share the records, together have applied that many follows.
async fn applied_by_all(replicas: &[&Running], all: u64) {
    eventually("the follows are applied", async || {
        let mut applied = 0;
        for replica in replicas {
            let labels = [("topic", "follow"), ("kind", "consumer"), ("outcome", "applied")];
            applied += counted(replica, "events_consumed_total", &labels).await;
        }
        (applied >= all).then_some(())
    })
    .await;
}

async fn follows_of_a_resigned_account_are_not_listed(bed: Bed) {
    let notice = replica(&bed, &[]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    publish(&bed, [&lee, &kim], true, false).await;
    applied(&notice, "follow", 1).await;
    assert_eq!(inbox(&notice, &kim).await.len(), 1);
    bed.forget(&lee);
    bed.publish(AccountResigned {
        account: lee.account.clone(),
        nickname: lee.nickname.clone(),
    })
    .await;
    applied(&notice, "resign", 1).await;
    assert_eq!(inbox(&notice, &kim).await, []);
}

on_both_engines!(
    a_follow_is_notified_and_withdrawn_when_it_ends,
    follows_of_a_resigned_account_are_not_listed,
);
