//! [`Presence`]: accounts with an open socket on any replica.

use std::sync::Arc;

use crate::bed::{Bed, account, at};
use crate::on_all_engines;

on_all_engines! { an_account_is_online_while_a_replica_holds_it, many_accounts_are_held_at_once, the_database_answers }

async fn an_account_is_online_while_a_replica_holds_it(bed: Arc<Bed>) {
    let presence = bed.replica().await.presence();
    let (kim, lee) = (account("kim"), account("lee"));
    assert!(!presence.online(&kim, at(0)).await.unwrap());
    presence.hold("one", &[], at(100)).await.unwrap();
    presence
        .hold("one", &[kim.clone(), lee.clone(), kim.clone()], at(100))
        .await
        .unwrap();
    presence.hold("two", std::slice::from_ref(&kim), at(200)).await.unwrap();
    assert!(presence.online(&kim, at(99)).await.unwrap());
    assert!(
        presence.online(&kim, at(199)).await.unwrap(),
        "the second replica holds it"
    );
    assert!(!presence.online(&kim, at(200)).await.unwrap(), "both ran out");
    assert!(presence.online(&lee, at(99)).await.unwrap());
    assert!(!presence.online(&lee, at(100)).await.unwrap());

    presence.hold("one", std::slice::from_ref(&lee), at(300)).await.unwrap();
    assert!(presence.online(&lee, at(299)).await.unwrap(), "held again");
    presence.release("two", &kim).await.unwrap();
    assert!(presence.online(&kim, at(99)).await.unwrap(), "the first still holds it");
    presence.release("one", &kim).await.unwrap();
    presence.release("one", &kim).await.unwrap();
    assert!(!presence.online(&kim, at(0)).await.unwrap());
}

async fn many_accounts_are_held_at_once(bed: Arc<Bed>) {
    let presence = bed.replica().await.presence();
    let accounts: Vec<_> = (0..1200).map(|number| account(&number.to_string())).collect();
    for until in [100, 200] {
        presence.hold("one", &accounts, at(until)).await.unwrap();
    }
    for account in [&accounts[0], &accounts[499], &accounts[500], &accounts[1199]] {
        assert!(presence.online(account, at(199)).await.unwrap());
    }
}

async fn the_database_answers(bed: Arc<Bed>) {
    bed.replica().await.ping().await;
}
