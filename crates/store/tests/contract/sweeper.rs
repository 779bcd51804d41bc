//! The sweeper forgets what is old, and nothing else.

use std::sync::Arc;

use jiff::SignedDuration;

use crate::bed::{Bed, account, now};
use crate::on_all_engines;

on_all_engines! { an_old_resignation_is_deleted, the_database_answers }

const SECOND: SignedDuration = SignedDuration::from_secs(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);

async fn an_old_resignation_is_deleted(bed: Arc<Bed>) {
    let store = bed.replica().await;
    let directory = store.directory();
    let (old, young, back) = (account("old"), account("young"), account("back"));
    let (long_ago, lately) = (now() - 31 * DAY, now() - 29 * DAY);
    directory.set_nickname(&old, None, long_ago).await.unwrap();
    directory.set_nickname(&back, None, long_ago).await.unwrap();
    directory.set_nickname(&back, Some("back"), lately).await.unwrap();
    directory.set_nickname(&young, None, lately).await.unwrap();

    store.sweep().await;
    // A name from before the resignation comes late.
    let late = async |account, nickname| {
        let before = long_ago - SECOND;
        directory.set_nickname(account, Some(nickname), before).await.unwrap();
        directory.account_of(nickname).await.unwrap()
    };
    assert_eq!(late(&young, "young").await, None, "still remembered");
    assert_eq!(late(&old, "old").await, Some(old.clone()), "no trace is left");
    assert_eq!(directory.account_of("back").await.unwrap(), Some(back));
}

async fn the_database_answers(bed: Arc<Bed>) {
    bed.replica().await.ping().await;
}
