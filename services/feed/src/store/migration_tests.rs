//! Migrations of a newer release run while a replica of an older one serves.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use futures::future::join;
use sosohappy_testkit::{Bed, eventually, on_both_engines};

use super::tests::{at, post, writer};
use super::{By, Saved, Shown, mysql, open, sqlite};
use crate::domain::{Day, Days, PageFrom, Sort, Visibility};
use crate::{DEFAULTS, SERVICE, Settings};

on_both_engines!(an_older_replica_writes_while_a_newer_one_migrates);

/// How far the older replica is.
#[derive(Debug, Default)]
pub struct Progress {
    pub is_open: AtomicBool,
    /// Posts that were written.
    pub posts: AtomicU32,
    /// Set by the test.
    pub stops: AtomicBool,
}

/// Posts from before, with the columns of the first release.
const FILL: &str = "INSERT INTO post (account, day, date, weather, happiness, text, is_public, categories, images, made_at) \
    WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1000) \
    SELECT CONCAT('p', n, '@example.com+kakao'), 20200101, 2020010112000000, 'sunny', 3, 'before', 1, '[\"sea\"]', '[]', 0 FROM n";

async fn an_older_replica_writes_while_a_newer_one_migrates(bed: Bed) {
    let settings = bed.settings::<Settings>("feed", DEFAULTS, &[]).await.get();
    let url = &settings.database.url;
    let (kim, context, progress) = (writer("kim", 0), bed.context(SERVICE), Progress::default());
    let older = async {
        let served = match url.scheme() {
            "sqlite" => sqlite::serve_first_release(url, &context, &kim.account, &progress).await,
            _ => mysql::serve_first_release(url, &context, &kim.account, &progress).await,
        };
        served.expect("no statement of the older replica fails")
    };
    let newer = async {
        let is_open = async || progress.is_open.load(Ordering::SeqCst).then_some(());
        eventually("the older replica serves", is_open).await;
        assert_eq!(bed.sql("feed", FILL).await, 1000);
        let opened = open(url, 8, &bed.context(SERVICE)).await;
        let store = opened.expect("the migrations run").store;
        let written = progress.posts.load(Ordering::SeqCst);
        eventually("the older replica goes on", async || {
            (progress.posts.load(Ordering::SeqCst) > written + 5).then_some(())
        })
        .await;
        progress.stops.store(true, Ordering::SeqCst);
        store
    };
    let (left, store) = join(Box::pin(older), Box::pin(newer)).await;

    let own = store.own(&kim.account, Days::ALL).await.unwrap();
    let dates: BTreeSet<i64> = own.iter().map(|post| post.date.into()).collect();
    let expected: BTreeSet<i64> = left.iter().copied().collect();
    assert_eq!(dates, expected);
    for post in &own {
        let seen = (post.text.as_str(), post.happiness, post.likers.len(), post.visibility);
        assert_eq!(seen, ("second", 4, 1, Visibility::Public));
    }
    let viewer = writer("p1", 0).account;
    let shown = Shown {
        viewer: &viewer,
        today: Day::try_from(20_260_101).unwrap(),
        by: By::One(&kim.account),
        day: None,
        sort: Sort::Newest,
    };
    let rows = i64::try_from(left.len()).unwrap();
    let public = store.public(&shown, PageFrom::Offset(0), rows + 1).await.unwrap();
    assert_eq!(public.len(), left.len());
    assert_eq!(
        store.own(&writer("p1000", 0).account, Days::ALL).await.unwrap().len(),
        1
    );
    let edit = post(&kim, left[0], &["sea", "food"], &[]);
    assert_eq!(store.save(&edit, at(1)).await.unwrap(), Saved::Stored);
}
