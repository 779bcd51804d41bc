//! Leases: one holder at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::bed::Bed;
use crate::on_all_engines;

on_all_engines! { a_lease_has_one_holder, a_lease_runs_out, of_many_at_once_one_takes_it }

const TTL: Duration = Duration::from_secs(5);

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

async fn a_lease_runs_out(bed: Arc<Bed>) {
    let (one, two) = (bed.replica().await, bed.replica().await);
    assert!(one.lease("sweep", "one", TTL).await);
    bed.clock.advance(Duration::from_secs(4));
    assert!(one.lease("sweep", "one", TTL).await);
    bed.clock.advance(Duration::from_secs(4));
    assert!(!two.lease("sweep", "two", TTL).await, "it was renewed");
    bed.clock.advance(Duration::from_secs(1));
    assert!(two.lease("sweep", "two", TTL).await);
    assert!(!one.lease("sweep", "one", TTL).await);
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
        bed.clock.advance(TTL);
    }
}
