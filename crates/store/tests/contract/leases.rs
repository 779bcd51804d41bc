//! Leases: one holder at a time.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::bed::{Bed, now};
use crate::on_all_engines;

on_all_engines! {
    a_lease_has_one_holder,
    a_lease_expires,
    a_replica_whose_clock_is_ahead_takes_no_live_lease,
    a_skewed_replica_that_dies_keeps_no_lease_longer,
    a_lease_that_claims_more_than_its_time_is_void,
    a_lease_taken_a_moment_ahead_is_live,
    sweeping_by_a_clock_ahead_keeps_live_leases,
    of_many_at_once_one_takes_it,
}

const TTL: Duration = Duration::from_mins(1);

async fn a_lease_has_one_holder(bed: Arc<Bed>) {
    let store = bed.replica().await;
    assert!(store.lease("sweep", "one", TTL).await);
    assert!(!store.lease("sweep", "two", TTL).await);
    assert!(store.lease("sweep", "one", TTL).await, "renewed");
    assert!(store.lease("other", "two", TTL).await, "another lease");
    store.release_lease("sweep", "two").await;
    assert!(!store.lease("sweep", "two", TTL).await, "it was not two's to give back");
    store.release_lease("sweep", "one").await;
    assert!(store.lease("sweep", "two", TTL).await);
}

async fn a_lease_expires(bed: Arc<Bed>) {
    const TTL: Duration = Duration::from_secs(4);
    let (one, two) = (bed.replica().await, bed.replica().await);
    assert!(one.lease("sweep", "one", TTL).await);
    sleep(TTL * 7 / 8).await;
    assert!(one.lease("sweep", "one", TTL).await);
    // Past its first end, and long before the second.
    sleep(TTL / 4).await;
    assert!(!two.lease("sweep", "two", TTL).await, "it was renewed");
    sleep(TTL).await;
    assert!(two.lease("sweep", "two", TTL).await);
    assert!(!one.lease("sweep", "one", TTL).await);
}

async fn a_replica_whose_clock_is_ahead_takes_no_live_lease(bed: Arc<Bed>) {
    let one = bed.replica_ahead(Duration::ZERO).await;
    for ahead in [Duration::from_mins(5), Duration::from_hours(11)] {
        let skewed = bed.replica_ahead(ahead).await;
        assert!(one.lease("sweep", "one", TTL).await);
        assert!(!skewed.lease("sweep", "skewed", TTL).await, "{ahead:?}");
        let (relay, other) = (one.outbox(), skewed.outbox());
        assert!(relay.lease("one", TTL).await.unwrap());
        assert!(!other.lease("skewed", TTL).await.unwrap(), "a second relay: {ahead:?}");

        one.release_lease("sweep", "one").await;
        assert!(skewed.lease("sweep", "skewed", TTL).await);
        assert!(
            !one.lease("sweep", "one", TTL).await,
            "a live lease of the skewed replica"
        );
        skewed.release_lease("sweep", "skewed").await;
    }
}

async fn a_skewed_replica_that_dies_keeps_no_lease_longer(bed: Arc<Bed>) {
    const TTL: Duration = Duration::from_millis(500);
    let skewed = bed.replica_ahead(Duration::from_hours(11)).await;
    assert!(skewed.lease("sweep", "skewed", TTL).await);
    drop(skewed);
    sleep(TTL + Duration::from_millis(100)).await;
    assert!(bed.replica().await.lease("sweep", "one", TTL).await);
}

async fn a_lease_that_claims_more_than_its_time_is_void(bed: Arc<Bed>) {
    let (one, two) = (bed.replica().await, bed.replica().await);
    assert!(one.lease("sweep", "one", TTL).await);
    one.move_lease("sweep", now() + SignedDuration::from_hours(11)).await;
    assert!(two.lease("sweep", "two", TTL).await);
    assert!(!one.lease("sweep", "one", TTL).await);
}

/// Another statement may have begun a moment later, and still have been the first to get the row.
async fn a_lease_taken_a_moment_ahead_is_live(bed: Arc<Bed>) {
    let (one, two) = (bed.replica().await, bed.replica().await);
    assert!(one.lease("sweep", "one", TTL).await);
    let ahead = SignedDuration::try_from(TTL).unwrap() + SignedDuration::from_millis(500);
    one.move_lease("sweep", now() + ahead).await;
    assert!(!two.lease("sweep", "two", TTL).await);
}

async fn sweeping_by_a_clock_ahead_keeps_live_leases(bed: Arc<Bed>) {
    let one = bed.replica().await;
    assert!(one.lease("sweep", "one", TTL).await);
    let skewed = bed.replica_ahead(Duration::from_hours(48)).await;
    skewed.sweep().await;
    assert!(!skewed.lease("sweep", "skewed", TTL).await);
}

async fn of_many_at_once_one_takes_it(bed: Arc<Bed>) {
    let (one, two) = (bed.replica().await, bed.replica().await);
    for _ in 0..5 {
        let mut takers = JoinSet::new();
        for number in 0..8 {
            let store = if number % 2 == 0 { one.clone() } else { two.clone() };
            takers.spawn(async move { store.lease("sweep", &format!("holder {number}"), TTL).await });
        }
        let taken = takers.join_all().await.into_iter().filter(|taken| *taken).count();
        assert_eq!(taken, 1);
        for number in 0..8 {
            one.release_lease("sweep", &format!("holder {number}")).await;
        }
    }
}
