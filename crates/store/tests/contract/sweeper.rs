//! The sweeper forgets what is old, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use crate::bed::{Bed, account, at};
use crate::on_all_engines;

on_all_engines! { old_presence_goes, an_old_resignation_goes }

const DAY: Duration = Duration::from_hours(24);

async fn old_presence_goes(bed: Arc<Bed>) {
    let store = bed.replica().await;
    let presence = store.presence();
    presence.hold("one", &[account("kim")], at(1)).await.unwrap();
    presence
        .hold("one", &[account("lee")], at(1_000_000_000))
        .await
        .unwrap();
    bed.clock.advance(Duration::from_secs(100));
    store.sweep().await;
    assert!(!presence.online(&account("kim"), at(0)).await.unwrap(), "it is gone");
    assert!(presence.online(&account("lee"), at(0)).await.unwrap());
}

async fn an_old_resignation_goes(bed: Arc<Bed>) {
    let store = bed.replica().await;
    let directory = store.directory();
    let (kim, lee) = (account("kim"), account("lee"));
    directory.set_nickname(&kim, None, at(10)).await.unwrap();
    directory.set_nickname(&lee, None, at(10)).await.unwrap();
    directory.set_nickname(&lee, Some("back"), at(20)).await.unwrap();
    let late = async |nickname| {
        directory.set_nickname(&kim, Some(nickname), at(5)).await.unwrap();
        directory.account_of(nickname).await.unwrap()
    };

    bed.clock.advance(29 * DAY);
    store.sweep().await;
    assert_eq!(late("first").await, None, "still remembered");
    bed.clock.advance(2 * DAY);
    store.sweep().await;
    assert_eq!(late("second").await, Some(kim.clone()), "no trace is left");
    assert_eq!(directory.account_of("back").await.unwrap(), Some(lee));
}
